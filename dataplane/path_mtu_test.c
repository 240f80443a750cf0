// SPDX-License-Identifier: Apache-2.0
#include "dataplane/path_mtu.h"

#include "dataplane/lab.h"
#include "dataplane/neighbour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define FAR4 "198.51.100.25"
#define FAR6 "2001:db8:1::25"

static struct path_mtus *paths;
static struct addr far4, far6;

static int make(void **state)
{
	far4 = lab_addr(FAR4);
	far6 = lab_addr(FAR6);
	paths = path_mtus_create(42);
	return paths == NULL;
}

static int unmake(void **state)
{
	path_mtus_destroy(paths);
	return 0;
}

static void tick(uint64_t now_us)
{
	for (unsigned i = 0; i < 64; i++)
		path_mtu_tick(paths, now_us);
}

static void nothing_is_known_of_a_new_path(void **state)
{
	assert_int_equal(path_mtu_find(paths, &far4), 0);
	assert_int_equal(path_mtu_find(paths, &far6), 0);
	assert_false(path_mtu_is_narrow(paths, &far4));
}

static void a_path_only_gets_narrower(void **state)
{
	static const struct {
		uint32_t told, known4, known6;
	} steps[] = {
		{1492,   1492, 1492},
		    {1500,   1492, 1492},
		{100000, 1492, 1492},
		      {1400,   1400, 1400},
		{1280,   1280, 1280},
		    {600,	  600,  1280},
		      {300,    576,	 1280},
		{1,	    576,	 1280}
	      };
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		path_mtu_learn(paths, &far4, steps[i].told, 1000);
		path_mtu_learn(paths, &far6, steps[i].told, 1000);
		assert_int_equal(path_mtu_find(paths, &far4), steps[i].known4);
		assert_int_equal(path_mtu_find(paths, &far6), steps[i].known6);
		assert_int_equal(path_mtu_is_narrow(paths, &far4), steps[i].told < 576);
		assert_false(path_mtu_is_narrow(paths, &far6));
	}
}

static void ten_minutes_later_it_is_forgotten(void **state)
{
	path_mtu_learn(paths, &far4, 300, 1000);
	path_mtu_learn(paths, &far6, 1300, 2000);
	tick(1000 + PATH_AGE_US);
	assert_int_equal(path_mtu_find(paths, &far4), 576);
	tick(1001 + PATH_AGE_US);
	assert_int_equal(path_mtu_find(paths, &far4), 0);
	assert_false(path_mtu_is_narrow(paths, &far4));
	assert_int_equal(path_mtu_find(paths, &far6), 1300);
	path_mtu_learn(paths, &far6, 1300, PATH_AGE_US); /* said anew */
	tick(2001 + PATH_AGE_US);
	assert_int_equal(path_mtu_find(paths, &far6), 1300);
}

static void the_oldest_gives_way(void **state)
{
	char text[64];
	for (unsigned i = 0; i < PATHS_MAX + 10; i++) {
		snprintf(text, sizeof text, "2001:db8:2::%x", i + 1);
		struct addr a = lab_addr(text);
		path_mtu_learn(paths, &a, 1400, 1000 + i);
	}
	for (unsigned i = 0; i < PATHS_MAX + 10; i++) {
		snprintf(text, sizeof text, "2001:db8:2::%x", i + 1);
		struct addr a = lab_addr(text);
		assert_int_equal(path_mtu_find(paths, &a), i < 10 ? 0 : 1400);
	}
}

/* ---- in the core ---- */

static struct bytes sent_to(struct dp_core *core, const char *from, const char *to)
{
	static const uint8_t segment[24] = {0x04, 0x00, 0x00, 0x19, [12] = 0x50};
	struct tcp_departure d;
	lab_depart(core, from, to, bytes_of(segment, sizeof segment));
	assert_int_equal(tcp_take(core->tcp, &d, 1), 1);
	ip_output(core, d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
	return lab_sent(core);
}

static void know(struct dp_core *core, const char *router)
{
	struct addr a = lab_addr(router);
	struct news news = {.kind = NEWS_KNOWN, .addr = a};
	memcpy(news.mac, lab_peer_mac, 6);
	neighbour_output(core, 0, &a, rte_pktmbuf_alloc(core->tx_pool), lab_now_us);
	neighbour_hear(core, &news, lab_now_us);
	while (lab_sent(core).n > 0)
		;
}

/* RFC 1191 3, RFC 6864 */
static void a_narrow_path_lets_routers_cut(void **state)
{
	struct dp *dp = lab_open(1);
	struct dp_core *core = dp->cores[0];
	know(core, "192.0.2.254");
	struct bytes f = sent_to(core, "192.0.2.1", FAR4);
	assert_int_equal(get_be16(f.at + 20), 0x4000);
	path_mtu_learn(core->path_mtus, &far4, 1000, 1000);
	f = sent_to(core, "192.0.2.1", FAR4);
	assert_int_equal(get_be16(f.at + 20), 0x4000);
	path_mtu_learn(core->path_mtus, &far4, 552, 1000);
	uint16_t ids[16];
	for (unsigned i = 0; i < 16; i++) {
		f = sent_to(core, "192.0.2.1", FAR4);
		assert_int_equal(get_be16(f.at + 20), 0);
		ids[i] = get_be16(f.at + 18);
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(ids[i], ids[j]);
	}
	f = sent_to(core, "192.0.2.1", "198.51.100.26");
	assert_int_equal(get_be16(f.at + 20), 0x4000);
	lab_close(dp);
}

static uint32_t label_of(struct dp_core *core, const char *from, const char *to, uint16_t port)
{
	uint8_t segment[24] = {[12] = 0x50};
	struct tcp_departure d;
	put_be16(segment, 25);
	put_be16(segment + 2, port);
	lab_depart(core, from, to, bytes_of(segment, sizeof segment));
	assert_int_equal(tcp_take(core->tcp, &d, 1), 1);
	ip_output(core, d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
	return get_be32(lab_sent(core).at + 14) & 0xfffff;
}

/* RFC 6437 3 */
static void a_connection_has_a_flow_label_of_its_own(void **state)
{
	struct dp *dp = lab_open(1);
	struct dp_core *core = dp->cores[0];
	unsigned equal = 0;
	know(core, "2001:db8::fe");
	uint32_t first = label_of(core, "2001:db8::1", FAR6, 1000);
	assert_int_not_equal(first, 0);
	assert_int_equal(label_of(core, "2001:db8::1", FAR6, 1000), first);
	for (uint16_t port = 1001; port < 1101; port++)
		equal += label_of(core, "2001:db8::1", FAR6, port) == first;
	assert_in_range(equal, 0, 1);
	dp->secret[0] ^= 1;
	assert_int_not_equal(label_of(core, "2001:db8::1", FAR6, 1000), first);
	lab_close(dp);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)
	const struct CMUnitTest tests[] = {
		CASE(nothing_is_known_of_a_new_path),
		CASE(a_path_only_gets_narrower),
		CASE(ten_minutes_later_it_is_forgotten),
		CASE(the_oldest_gives_way),
		CASE(a_narrow_path_lets_routers_cut),
		CASE(a_connection_has_a_flow_label_of_its_own),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
