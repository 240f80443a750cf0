// SPDX-License-Identifier: Apache-2.0
/* Windows at given times against the formulas of the RFCs: CUBIC (RFC 9438), NewReno (RFC 5681), HyStart++ (RFC 9406),
 * the initial window (RFC 6928) and what is left after a pause. No segments: what is called is the congestion
 * control, as tcp_recovery.c calls it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "dataplane/tcp/tcp_private.h"

#define MSS 1000u
#define S   1000000u /* us */

struct lab {
	struct tcp_stack *s;
	struct tcp_conn c;
	struct tcp_flight f;
};

static struct lab *begin(uint32_t cwnd, uint32_t srtt_us)
{
	struct lab *l = aligned_alloc(64, (sizeof *l + 63) / 64 * 64);
	memset(l, 0, sizeof *l);
	l->s = calloc(1, sizeof *l->s);
	l->s->now_us = 1000 * (uint64_t)S;
	l->c.stack = l->s;
	l->c.flight = &l->f;
	l->c.mss = MSS;
	l->c.cwnd = cwnd;
	l->c.ssthresh = TCP_CWND_MAX;
	l->c.srtt_us = srtt_us;
	return l;
}

static void end(struct lab *l)
{
	free(l->s);
	free(l);
}

static void assert_near(double a, double b, double percent)
{
	if (fabs(a - b) > b * percent / 100)
		fail_msg("%.1f is not within %.1f %% of %.1f", a, percent, b);
}

/* A window's worth of ACKs of two segments each, over a round trip. */
static void round_trip(struct lab *l, const struct tcp_cc *cc)
{
	const uint32_t acks = max_u32(l->c.cwnd / (2 * MSS), 1);
	for (uint32_t i = 0; i < acks; i++) {
		l->s->now_us += l->c.srtt_us / acks;
		cc->acked(&l->c, 2 * MSS);
	}
}

/* RFC 9438 4.2, Figures 1 and 2: W_cubic(t) = C(t-K)^3 + W_max, K = cbrt((W_max - cwnd_epoch) / C) */
static void cubic_grows_along_its_curve(void **state)
{
	const double w_max = 1000, begins = 700, k = cbrt((w_max - begins) / 0.4);
	struct lab *l = begin(1000 * MSS, 100000);
	tcp_cc_cubic.reduce(&l->c, 1000 * MSS);
	assert_near(l->c.ssthresh, 700 * MSS, 0.1); /* 4.6 */
	assert_int_equal(l->c.w_max, 1000 * MSS);
	l->c.cwnd = l->c.ssthresh;
	const uint64_t from = l->s->now_us;
	while (l->s->now_us - from < 20 * (uint64_t)S) {
		round_trip(l, &tcp_cc_cubic);
		const double t = (double)(l->s->now_us - from) / S;
		assert_near(l->c.cwnd / (double)MSS, 0.4 * pow(t - k, 3) + w_max, 2); /* concave, then convex */
	}
	end(l);
}

/* 4.7: one who gets less than before says so to those who come */
static void cubic_converges_fast(void **state)
{
	struct lab *l = begin(1000 * MSS, 100000);
	tcp_cc_cubic.reduce(&l->c, 1000 * MSS);
	l->c.cwnd = 800 * MSS;
	tcp_cc_cubic.reduce(&l->c, 800 * MSS);
	assert_int_equal(l->c.w_max, 800 * MSS * 17 / 20);
	assert_near(l->c.ssthresh, 560 * MSS, 0.1);
	l->c.cwnd = 900 * MSS;
	tcp_cc_cubic.reduce(&l->c, 900 * MSS);
	assert_int_equal(l->c.w_max, 900 * MSS);
	end(l);
}

/* 4.3: where Reno would have more, as Reno: W_est grows by 0.53 segments a round trip, by one once all is won back */
static void cubic_is_as_fast_as_reno_where_that_is_faster(void **state)
{
	struct lab *l = begin(20 * MSS, 10000);
	tcp_cc_cubic.reduce(&l->c, 20 * MSS);
	l->c.cwnd = l->c.ssthresh;
	assert_int_equal(l->c.cwnd, 14 * MSS);
	for (unsigned i = 0; i < 10; i++)
		round_trip(l, &tcp_cc_cubic);
	assert_near(l->c.cwnd / (double)MSS, 14 + 10 * 3 * 0.3 / 1.7, 3);
	while (l->c.cwnd < 20 * MSS)
		round_trip(l, &tcp_cc_cubic);
	const uint32_t before = l->c.cwnd;
	for (unsigned i = 0; i < 10; i++)
		round_trip(l, &tcp_cc_cubic);
	assert_near((l->c.cwnd - before) / (double)MSS, 10, 15);
	end(l);
}

/* 4.2: no more than half of the window a round trip, however long the time */
static void cubic_does_not_leap(void **state)
{
	struct lab *l = begin(100 * MSS, 100000);
	tcp_cc_cubic.acked(&l->c, MSS);
	l->s->now_us += 1000 * (uint64_t)S;
	const uint32_t before = l->c.cwnd;
	for (unsigned i = 0; i < 50; i++)
		tcp_cc_cubic.acked(&l->c, 2 * MSS);
	assert_true(l->c.cwnd > before && l->c.cwnd <= before + before * 65 / 100);
	end(l);
}

static void newreno_grows_by_a_segment_a_round_trip_and_halves(void **state) /* RFC 5681 3.1 (3), (4) */
{
	struct lab *l = begin(50 * MSS, 100000);
	for (unsigned i = 0; i < 20; i++)
		round_trip(l, &tcp_cc_newreno);
	assert_near(l->c.cwnd / (double)MSS, 70, 3);
	tcp_cc_newreno.reduce(&l->c, 60 * MSS);
	assert_int_equal(l->c.ssthresh, 30 * MSS);
	tcp_cc_newreno.reduce(&l->c, 3 * MSS);
	assert_int_equal(l->c.ssthresh, 2 * MSS);
	end(l);
}

static void the_initial_window_is_ten_segments_or_one_after_a_lost_syn(void **state) /* RFC 6928 2, RFC 5681 3.1 */
{
	static const uint32_t table[][2] = {{536, 5360}, {1220, 12200}, {1460, 14600}, {1500, 14600}, {8960, 17920}};
	for (unsigned i = 0; i < 5; i++) {
		struct lab *l = begin(0, 0);
		l->c.mss = (uint16_t)table[i][0];
		tcp_cc_init(&l->c);
		assert_int_equal(l->c.cwnd, table[i][1]);
		l->c.syn_again = true;
		tcp_cc_init(&l->c);
		assert_int_equal(l->c.cwnd, table[i][0]);
		end(l);
	}
}

static void a_pause_restarts_from_the_initial_window(void **state) /* RFC 5681 4.1, RFC 2861 3.1 */
{
	struct lab *l = begin(100 * MSS, 100000);
	l->c.ssthresh = 50 * MSS;
	tcp_cc_idle(&l->c);
	assert_int_equal(l->c.cwnd, 10 * MSS);
	assert_int_equal(l->c.ssthresh, 75 * MSS);
	l->c.cwnd = 5 * MSS;
	tcp_cc_idle(&l->c);
	assert_int_equal(l->c.cwnd, 5 * MSS);
	end(l);
}

/* ---- HyStart++ ---- */

/* A round of slow start whose ACKs say this round trip; returns by how much the window has grown, in percent. */
static unsigned slow_round(struct lab *l, uint32_t rtt_us)
{
	const uint32_t before = l->c.cwnd;
	for (uint32_t sent = 0; sent < before; sent += MSS) {
		l->c.snd_una += MSS;
		l->c.snd_max = l->c.snd_una + l->c.cwnd;
		if (l->c.cwnd < l->c.ssthresh)
			tcp_slow_start(&l->c, MSS, rtt_us);
	}
	return (l->c.cwnd - before) * 100 / before;
}

static void slow_start_doubles_while_the_delay_stays(void **state) /* RFC 5681 3.1 */
{
	struct lab *l = begin(10 * MSS, 50000);
	l->c.snd_max = 10 * MSS;
	for (unsigned i = 0; i < 6; i++)
		assert_in_range(slow_round(l, 50000 + i % 2 * 3000), 95, 100);
	assert_int_equal(l->c.ssthresh, TCP_CWND_MAX);
	end(l);
}

/* RFC 9406 4.2: a round trip of more than max(4 ms, min(RTT/8, 16 ms)) above the last round's, for eight samples: a
 * quarter as fast; and after five such rounds slow start ends. */
static void a_growing_delay_ends_slow_start_gently(void **state)
{
	static const uint32_t table[][2] = {{20000, 4000}, {80000, 10000}, {400000, 16000}}; /* RTT, threshold */
	for (unsigned i = 0; i < 3; i++)
		for (unsigned is_over = 0; is_over < 2; is_over++) {
			struct lab *l = begin(20 * MSS, table[i][0]);
			const uint32_t later = table[i][0] + table[i][1] - !is_over;
			l->c.snd_max = 20 * MSS;
			slow_round(l, table[i][0]);
			slow_round(l, table[i][0]);
			slow_round(l, later);
			assert_int_equal(l->f.css_rounds != 0, is_over);
			unsigned rounds = 0;
			for (; is_over && l->c.ssthresh == TCP_CWND_MAX && rounds < 20; rounds++)
				assert_in_range(slow_round(l, later), 0, 30);
			assert_true(!is_over || (rounds >= 4 && rounds <= 6));
			assert_true(l->c.cwnd <= l->c.ssthresh);
			end(l);
		}
}

static void a_delay_that_goes_away_was_a_false_alarm(void **state) /* RFC 9406 4.2, CSS */
{
	struct lab *l = begin(20 * MSS, 50000);
	l->c.snd_max = 20 * MSS;
	slow_round(l, 50000);
	slow_round(l, 50000);
	slow_round(l, 60000);
	assert_int_not_equal(l->f.css_rounds, 0);
	slow_round(l, 50000);
	assert_int_equal(l->f.css_rounds, 0);
	assert_true(slow_round(l, 50000) > 90);
	assert_int_equal(l->c.ssthresh, TCP_CWND_MAX);
	end(l);
}

/* The ACKs of one round: the first `count` say this round trip, the others that. */
static void mixed_round(struct lab *l, unsigned count, uint32_t first_us, uint32_t then_us)
{
	const uint32_t before = l->c.cwnd;
	for (uint32_t sent = 0; sent < before; sent += MSS) {
		l->c.snd_una += MSS;
		l->c.snd_max = l->c.snd_una + l->c.cwnd;
		tcp_slow_start(&l->c, MSS, sent < count * MSS ? first_us : then_us);
	}
}

/* Without pacing a round begins with the ACKs of the end of a burst, which waited behind the burst itself, and goes on with
 * those of the next one's start, which did not. That is no relief. */
static void a_burst_that_ends_is_no_false_alarm(void **state)
{
	struct lab *l = begin(40 * MSS, 50000);
	l->c.snd_max = 40 * MSS;
	slow_round(l, 50000);
	slow_round(l, 50000);
	mixed_round(l, 10, 60000, 50000);
	assert_int_equal(l->f.css_rounds, 1);
	assert_in_range(slow_round(l, 60000), 20, 30);
	assert_int_not_equal(l->f.css_rounds, 0);
	end(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cubic_grows_along_its_curve),
		cmocka_unit_test(cubic_converges_fast),
		cmocka_unit_test(cubic_is_as_fast_as_reno_where_that_is_faster),
		cmocka_unit_test(cubic_does_not_leap),
		cmocka_unit_test(newreno_grows_by_a_segment_a_round_trip_and_halves),
		cmocka_unit_test(the_initial_window_is_ten_segments_or_one_after_a_lost_syn),
		cmocka_unit_test(a_pause_restarts_from_the_initial_window),
		cmocka_unit_test(slow_start_doubles_while_the_delay_stays),
		cmocka_unit_test(a_growing_delay_ends_slow_start_gently),
		cmocka_unit_test(a_delay_that_goes_away_was_a_false_alarm),
		cmocka_unit_test(a_burst_that_ends_is_no_false_alarm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
