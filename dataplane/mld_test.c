// SPDX-License-Identifier: Apache-2.0
#include "dataplane/lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ROUTER "fe80::fe"
#define GROUP  "ff02::1:ff00:1" /* of 2001:db8::1 and of our link-local address */

static struct dp *dp;
static struct dp_core *core;
static uint8_t frame[4096];

static int open_lab(void **state)
{
	dp = lab_open(2);
	core = dp->cores[0];
	return 0;
}

static int close_lab(void **state)
{
	lab_close(dp);
	return 0;
}

/* A query, with or without a router alert. */
static size_t a_query(const char *from, const char *to, const char *group, uint16_t delay, size_t n,
	bool has_alert)
{
	uint8_t payload[64] = {58, 0, 5, 2, 0, 0, 1, 0, 130};
	struct addr g = lab_addr(group);
	if (!has_alert)
		memcpy(payload + 2, (uint8_t[]){1, 4, 0, 0, 0, 0}, 6);
	put_be16(payload + 12, delay);
	memcpy(payload + 16, g.b, 16);
	lab_icmp6_sum(payload + 8, n, from, to);
	n = lab_ip6(frame, from, to, 0, bytes_of(payload, 8 + n));
	frame[21] = 1; /* hop limit */
	return n;
}

/* A report is well formed: to routers only, with a router alert and a good checksum. */
static void assert_report(struct bytes f, const char *from, const char *to, size_t message)
{
	struct addr a = lab_addr(from), b = lab_addr(to);
	uint8_t copy[1500], mac[6] = {0x33, 0x33};
	memcpy(mac + 2, b.b + 12, 4);
	assert_int_equal(f.n, 54 + 8 + message);
	assert_memory_equal(f.at, mac, 6);
	assert_int_equal(f.at[20], 0);
	assert_int_equal(f.at[21], 1);
	assert_memory_equal(f.at + 22, a.b, 16);
	assert_memory_equal(f.at + 38, b.b, 16);
	assert_memory_equal(f.at + 54, ((uint8_t[]){58, 0, 5, 2, 0, 0}), 6);
	memcpy(copy, f.at + 62, message);
	lab_icmp6_sum(copy, message, from, to);
	assert_memory_equal(copy, f.at + 62, message);
}

static const char *our_link_local(void)
{
	static char text[ADDR_TEXT_MAX];
	return addr_format(&dp->ports[0].addrs[dp->ports[0].addr_count - 1].addr, text);
}

static void run(uint64_t us)
{
	for (uint64_t end = lab_now_us + us; lab_now_us < end; lab_now_us += 100000)
		mld_tick(core, lab_now_us);
}

static void forget_the_start(void)
{
	run(5000000);
	while (lab_sent(core).n > 0)
		;
}

static void groups_are_reported_after_the_start(void **state)
{
	/* The first before our link-local address is known to be ours alone. */
	dp->ports[0].addrs[dp->ports[0].addr_count - 1].state = ADDR_TENTATIVE;
	run(100000);
	struct bytes f = lab_sent(core);
	assert_report(f, "::", "ff02::16", 8 + 20);
	assert_int_equal(f.at[62], 143);
	assert_int_equal(get_be16(f.at + 68), 1); /* both addresses have one group */
	assert_int_equal(f.at[70], 4);
	struct addr group = lab_addr(GROUP);
	assert_memory_equal(f.at + 74, group.b, 16);
	dp->ports[0].addrs[dp->ports[0].addr_count - 1].state = ADDR_PREFERRED;
	run(5000000);
	assert_report(lab_sent(core), our_link_local(), "ff02::16", 28);
	assert_report(lab_sent(core), our_link_local(), "ff02::16", 28);
	assert_int_equal(lab_sent(core).n, 0);
}

static void queries_are_answered_in_time(void **state)
{
	static const char *const groups[] = {"::", GROUP};
	forget_the_start();
	for (size_t i = 0; i < 2; i++)
		for (unsigned j = 0; j < 8; j++) {
			lab_put(core, frame,
				a_query(ROUTER, i == 0 ? "ff02::1" : GROUP, groups[i], 2000, 28,
					true));
			run(2200000);
			struct bytes f = lab_sent(core);
			assert_report(f, our_link_local(), "ff02::16", 28);
			assert_int_equal(f.at[70], 2);
			assert_int_equal(lab_sent(core).n, 0);
		}
	assert_int_equal(lab_counter(core, COUNT_mld_in), 16);
}

static void an_old_querier_is_answered_in_its_words(void **state)
{
	forget_the_start();
	lab_put(core, frame, a_query(ROUTER, "ff02::1", "::", 1000, 24, true));
	run(1200000);
	struct bytes f = lab_sent(core);
	assert_report(f, our_link_local(), GROUP, 24);
	assert_int_equal(f.at[62], 131);
	struct addr group = lab_addr(GROUP);
	assert_memory_equal(f.at + 70, group.b, 16);
}

static void long_delays_are_floating_point(void **state)
{
	unsigned late = 0;
	forget_the_start();
	for (unsigned i = 0; i < 16; i++) { /* 0x9000: (0x1000 | 0) << (1 + 3) ms: 65 s */
		lab_put(core, frame, a_query(ROUTER, "ff02::1", "::", 0x9000, 28, true));
		run(33000000);
		late += lab_sent(core).n == 0;
		run(33000000);
		while (lab_sent(core).n > 0)
			;
	}
	assert_in_range(late, 1, 15);
}

static void queries_from_elsewhere_are_dropped(void **state)
{
	forget_the_start();
	lab_put(core, frame, a_query("2001:db8::99", "ff02::1", "::", 0, 28, true));
	lab_put(core, frame, a_query(ROUTER, "ff02::1", "::", 0, 28, false));
	lab_put(core, frame, a_query(ROUTER, "ff02::1", "::", 0, 25, true));
	size_t n = a_query(ROUTER, "ff02::1", "::", 0, 28, true);
	frame[21] = 64;
	lab_put(core, frame, n);
	assert_int_equal(lab_counter(core, COUNT_drop_mld_bad), 4);
	lab_put(core, frame, a_query(ROUTER, "ff02::1", "ff02::1:ff77:7", 0, 28, true));
	run(1000000);
	assert_int_equal(lab_sent(core).n, 0);
}

static void a_query_at_another_core_goes_to_the_first(void **state)
{
	forget_the_start();
	lab_put(dp->cores[1], frame, a_query(ROUTER, "ff02::1", "::", 0, 28, true));
	steer_take(core, lab_now_us);
	run(200000);
	assert_report(lab_sent(core), our_link_local(), "ff02::16", 28);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_lab, close_lab)
	const struct CMUnitTest tests[] = {
		CASE(groups_are_reported_after_the_start),
		CASE(queries_are_answered_in_time),
		CASE(an_old_querier_is_answered_in_its_words),
		CASE(long_delays_are_floating_point),
		CASE(queries_from_elsewhere_are_dropped),
		CASE(a_query_at_another_core_goes_to_the_first),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
