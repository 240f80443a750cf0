// SPDX-License-Identifier: Apache-2.0
/* How large a segment the path takes: ICMP, black holes, and larger again. */
#include "dataplane/tcp/tcp_rig.h"

#define SECOND 1000000ull

static struct tcp_stats stats(const struct rig *r)
{
	struct tcp_stats s;
	tcp_get_stats(r->s, &s);
	return s;
}

static uint32_t mss(const struct rig *r)
{
	struct tcp_info info;
	tcp_get_info(r->c, &info);
	return info.mss;
}

/* What the IP layer would remember of the path. */
static struct {
	uint32_t mtu, told;
	unsigned times;
} path;

static uint16_t known(void *user, const struct addr *remote)
{
	return (uint16_t)path.mtu;
}

static void learn(void *user, const struct addr *remote, uint32_t mtu)
{
	path.told = mtu;
	path.times++;
}

static void start(struct rig *r, bool has_ts)
{
	struct tcp_config config = rig_config();
	memset(&path, 0, sizeof path);
	config.path_mtu = known;
	config.learn_path_mtu = learn;
	rig_start(r, &config);
	r->has_ts = has_ts;
	rig_accept(r);
}

static void write_text(struct rig *r, size_t n)
{
	static const char text[4000];
	assert_int_equal(tcp_write(r->c, bytes_of(text, n)), n);
}

static void too_big(struct rig *r, uint32_t seq, uint32_t mtu)
{
	const uint8_t q[8] = {(uint8_t)(r->local_port >> 8), (uint8_t)r->local_port, (uint8_t)(r->remote_port >> 8),
		(uint8_t)r->remote_port, (uint8_t)(seq >> 24), (uint8_t)(seq >> 16), (uint8_t)(seq >> 8), (uint8_t)seq};
	tcp_icmp_error(r->s, &r->local, &r->remote, bytes_of(q, 8), TCP_ICMP_TOO_BIG, mtu, r->now_us);
}

/* The peer acknowledges all there is to come. */
static void drain(struct rig *r)
{
	for (unsigned i = 0; i < 100 && tcp_unacked(r->c) > 0; i++) {
		while (rig_out(r))
			if ((int32_t)(r->got.seq + (uint32_t)r->got.text.n - r->ack) > 0)
				r->ack = r->got.seq + (uint32_t)r->got.text.n;
		rig_in(r, KIT_ACK, r->seq, r->ack, "");
	}
	assert_int_equal(tcp_unacked(r->c), 0);
}

static void a_router_that_names_no_size_is_met_by_plateaus(void **state)
{
	static const uint16_t sizes[] = {1492, 1280, 1006, 576, 576};
	struct rig r;
	start(&r, false);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		write_text(&r, mss(&r));
		assert_true(rig_out(&r));
		too_big(&r, r.got.seq, 0);
		const uint32_t least = rig_is_ipv6 ? 1220 : 536, size = sizes[i] - (rig_is_ipv6 ? 60u : 40u);
		assert_int_equal(mss(&r), size < least ? least : size);
		drain(&r);
	}
	rig_end(&r);
}

/* A peer that loses all segments above `takes` bytes of text, without a word; how long until all is there? */
static uint64_t through_a_hole(struct rig *r, uint32_t takes)
{
	const uint64_t began = r->now_us;
	uint32_t lost = 0;
	while (tcp_unacked(r->c) > 0) {
		bool any = false;
		while (rig_out(r)) {
			if (r->got.text.n > takes) {
				lost++;
			} else if (r->got.seq == r->ack) {
				r->ack += (uint32_t)r->got.text.n;
				any = true;
			}
		}
		if (any)
			rig_in(r, KIT_ACK, r->seq, r->ack, "");
		rig_wait(r, 10000);
		assert_true(r->now_us - began < 60 * SECOND);
	}
	assert_true(lost > 0);
	return r->now_us - began;
}

static void a_black_hole_is_found_and_told(void **state)
{
	static const struct {
		uint32_t takes4, takes6, mtu4, mtu6, steps4;
	} cases[] = {{1452, 1432, 1280, 1280, 1}, {1240, 1220, 1280, 1280, 1}, {1239, 1220, 576, 1280, 2}, {536, 1220, 576, 1280, 2}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (unsigned ts = 0; ts < 2; ts++) {
			struct rig r;
			start(&r, ts);
			const uint32_t options = ts ? 12 : 0;
			write_text(&r, 4000);
			through_a_hole(&r, (rig_is_ipv6 ? cases[i].takes6 : cases[i].takes4) - options);
			const uint32_t mtu = rig_is_ipv6 ? cases[i].mtu6 : cases[i].mtu4;
			assert_int_equal(mss(&r), mtu - (rig_is_ipv6 ? 60 : 40) - options);
			assert_int_equal(path.told, mtu);
			assert_int_equal(path.times, 1);
			assert_int_equal(stats(&r).path_black_holes, rig_is_ipv6 ? 1 : cases[i].steps4);
			assert_int_equal(stats(&r).path_no_black_holes, 0);
			rig_end(&r);
		}
}

static void an_outage_is_no_black_hole(void **state)
{
	struct rig r;
	start(&r, false);
	write_text(&r, 4000);
	const uint32_t before = mss(&r);
	uint32_t least = before;
	for (unsigned i = 0; i < 120; i++) { /* nothing gets through */
		rig_wait(&r, SECOND);
		while (rig_out(&r))
			;
		least = mss(&r) < least ? mss(&r) : least;
	}
	assert_int_equal(least, rig_is_ipv6 ? 1220 : 536);
	assert_int_equal(mss(&r), before);
	assert_int_equal(stats(&r).path_black_holes, rig_is_ipv6 ? 1 : 2); /* not again and again */
	assert_int_equal(stats(&r).path_no_black_holes, 1);
	rig_wait(&r, 60 * SECOND);
	drain(&r);
	assert_int_equal(path.times, 0);
	assert_int_equal(mss(&r), before);
	write_text(&r, 1400); /* the next time it is looked into anew */
	through_a_hole(&r, 1240);
	assert_int_equal(path.times, 1);
	rig_end(&r);
}

static void small_segments_that_are_lost_say_nothing_of_the_path(void **state)
{
	struct rig r;
	start(&r, false);
	const uint32_t before = mss(&r);
	rig_write(&r, "250 ok\r\n");
	for (unsigned i = 0; i < 60; i++) {
		rig_wait(&r, SECOND);
		while (rig_out(&r))
			;
	}
	assert_int_equal(stats(&r).path_black_holes, 0);
	assert_int_equal(mss(&r), before);
	rig_end(&r);
}

static void after_ten_minutes_larger_segments_are_tried(void **state)
{
	for (unsigned by_icmp = 0; by_icmp < 2; by_icmp++) {
		struct rig r;
		start(&r, false);
		const uint32_t before = mss(&r);
		write_text(&r, 1400);
		if (by_icmp) {
			assert_true(rig_out(&r));
			too_big(&r, r.got.seq, 1300);
			drain(&r);
		} else {
			through_a_hole(&r, 1240);
		}
		const uint32_t narrow = mss(&r);
		assert_true(narrow < before);
		rig_wait(&r, 590 * SECOND);
		write_text(&r, 10);
		drain(&r);
		assert_int_equal(mss(&r), narrow);
		path.mtu = 1300; /* another connection has learned it since */
		rig_wait(&r, 20 * SECOND);
		write_text(&r, 10);
		drain(&r);
		assert_int_equal(mss(&r), rig_is_ipv6 ? 1240 : 1260);
		path.mtu = 0; /* and it is forgotten */
		rig_wait(&r, 590 * SECOND);
		write_text(&r, 10);
		drain(&r);
		assert_int_equal(mss(&r), rig_is_ipv6 ? 1240 : 1260);
		rig_wait(&r, 20 * SECOND);
		write_text(&r, 10);
		drain(&r);
		assert_int_equal(mss(&r), before);
		assert_int_equal(stats(&r).path_widened, by_icmp ? 1 : 2);
		rig_end(&r);
	}
}

/* A loss among small segments leaves a threshold of two of them, which is less than one large. */
static void larger_segments_widen_the_threshold_too(void **state)
{
	struct rig r;
	start(&r, false);
	const uint32_t before = mss(&r);
	write_text(&r, 1400);
	assert_true(rig_out(&r));
	too_big(&r, r.got.seq, 576);
	drain(&r);
	const uint32_t narrow = mss(&r);
	write_text(&r, 10);
	assert_true(rig_out(&r)); /* lost */
	rig_wait(&r, 5 * SECOND);
	drain(&r);
	assert_int_equal(rig_info(&r).ssthresh, 2 * narrow);
	rig_wait(&r, 610 * SECOND);
	write_text(&r, 10);
	drain(&r);
	assert_int_equal(mss(&r), before);
	assert_int_equal(rig_info(&r).ssthresh, 2 * before);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_router_that_names_no_size_is_met_by_plateaus),
		cmocka_unit_test(a_black_hole_is_found_and_told),
		cmocka_unit_test(an_outage_is_no_black_hole),
		cmocka_unit_test(small_segments_that_are_lost_say_nothing_of_the_path),
		cmocka_unit_test(after_ten_minutes_larger_segments_are_tried),
		cmocka_unit_test(larger_segments_widen_the_threshold_too),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
