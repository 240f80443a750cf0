// SPDX-License-Identifier: Apache-2.0
/* Sending: segments, the peer's window, retransmission, timers, scarce memory. */
#include "dataplane/tcp/tcp_rig.h"

/* ---- sending ---- */

static void begin_newreno(struct rig *r)
{
	struct tcp_config config = rig_config();
	config.congestion_control = TCP_NEWRENO;
	rig_start(r, &config);
	rig_accept(r);
}

static void a_write_is_cut_into_segments_within_the_initial_window(void **state)
{
	struct rig r;
	rig_make_big();
	rig_begin(&r);
	rig_write_big(&r, 16384);
	assert_int_equal(rig_take_all(&r, r.ack), 10); /* RFC 6928 */
	assert_int_equal(tcp_unacked(r.c), 16384);
	rig_ack(&r, r.ack + 2 * r.got.text.n);
	const unsigned more = (unsigned)(16384 - 10 * r.got.text.n + r.got.text.n - 1) / (unsigned)r.got.text.n;
	assert_int_equal(rig_take_all(&r, (uint32_t)(r.ack + 10 * r.got.text.n)), more);
	rig_end(&r);
}

static void the_queue_is_bounded_and_says_when_there_is_room(void **state)
{
	struct rig r;
	rig_begin(&r);
	assert_int_equal(tcp_write(r.c, bytes_of(rig_big, 20000)), 16384);
	assert_int_equal(tcp_write_space(r.c), 0);
	assert_int_equal(rig_write(&r, "x"), 0);
	rig_take_all(&r, r.ack);
	rig_ack(&r, r.ack + 1000);
	assert_int_equal(rig_events(&r), 0); /* not for crumbs */
	rig_ack(&r, r.ack + 5000);
	assert_int_equal(rig_events(&r), TCP_EVENT_WRITABLE);
	assert_int_equal(tcp_write_space(r.c), 5000);
	rig_end(&r);
}

static void a_lost_segment_is_sent_again_with_doubling_waits(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_write(&r, "hello");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "hello");
	uint64_t last = r.now_us, wait = 0;
	for (unsigned i = 0; i < 6; i++) {
		while (!rig_out(&r))
			rig_wait(&r, 1000);
		assert_int_equal(r.got.seq, r.ack);
		assert_int_equal(r.got.text.n, 5);
		assert_true(i == 0 || (r.now_us - last > 2 * wait - 5000 && r.now_us - last < 2 * wait + 5000));
		wait = r.now_us - last;
		last = r.now_us;
	}
	rig_ack(&r, r.ack + 5);
	rig_wait(&r, 100000000);
	rig_expect_nothing(&r);
	assert_int_equal(rig_info(&r).retransmits, 6);
	rig_end(&r);
}

static void without_progress_a_connection_ends_after_five_minutes(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_write(&r, "hello");
	const uint64_t from = r.now_us;
	while (!(rig_events(&r) & TCP_EVENT_ENDED)) {
		rig_wait(&r, 1000000);
		while (rig_out(&r))
			;
	}
	assert_int_equal(r.end, TCP_END_TIMEOUT);
	assert_true(r.got.flags & KIT_RST);
	assert_true(r.now_us - from >= 300000000 && r.now_us - from < 400000000);
	rig_end(&r);
}

static void three_duplicate_acks_send_the_hole_again(void **state)
{
	struct rig r;
	struct tcp_stats stats;
	begin_newreno(&r);
	rig_write_big(&r, 12000);
	const unsigned segments = rig_take_all(&r, r.ack);
	const uint32_t mss = rig_info(&r).mss;
	assert_true(segments >= 8);
	for (unsigned i = 0; i < 2; i++) {
		rig_ack(&r, r.ack);
		rig_expect_nothing(&r);
	}
	rig_ack(&r, r.ack);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.seq, r.ack);
	assert_int_equal(rig_info(&r).ssthresh, 6000);
	/* a partial ACK: the next hole at once */
	rig_ack(&r, r.ack + 3 * mss);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.seq, r.ack + 3 * mss);
	rig_expect_nothing(&r);
	/* all of it: recovery is over */
	rig_ack(&r, r.ack + 12000);
	tcp_get_stats(r.s, &stats);
	assert_int_equal(stats.fast_retransmits, 1);
	assert_int_equal(stats.rto_fired, 0);
	assert_int_equal(stats.retransmits, 2);
	assert_true(rig_info(&r).cwnd <= 6000);
	rig_end(&r);
}

static void duplicate_acks_with_text_or_another_window_are_none(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_write_big(&r, 12000);
	rig_take_all(&r, r.ack);
	for (unsigned i = 0; i < 5; i++) {
		r.window--;
		rig_ack(&r, r.ack);
		rig_text(&r, "x");
	}
	while (rig_out(&r))
		assert_int_equal(r.got.text.n, 0);
	rig_end(&r);
}

static void after_a_timeout_all_is_sent_again_from_one_segment_on(void **state)
{
	struct rig r;
	begin_newreno(&r);
	rig_write_big(&r, 12000);
	const unsigned segments = rig_take_all(&r, r.ack);
	const uint32_t mss = rig_info(&r).mss;
	rig_wait(&r, 250000);
	assert_int_equal(rig_take_all(&r, r.ack), 1);
	assert_int_equal(rig_info(&r).cwnd, mss);
	assert_int_equal(rig_info(&r).ssthresh, 6000);
	rig_ack(&r, r.ack + mss);
	assert_int_equal(rig_take_all(&r, r.ack + mss), 2);
	rig_ack(&r, r.ack + 12000); /* the rest had arrived after all */
	rig_expect_nothing(&r);
	assert_int_equal(tcp_unacked(r.c), 0);
	assert_true(segments > 3);
	rig_end(&r);
}

static void a_segment_a_driver_still_holds_is_copied(void **state)
{
	struct rig r;
	struct tcp_departure d, again;
	rig_begin(&r);
	rig_write(&r, "hello");
	tcp_output(r.s, r.now_us);
	assert_int_equal(tcp_take(r.s, &d, 1), 1);
	memset(rte_pktmbuf_prepend(d.m, 54), 0xee, 54);
	rig_wait(&r, 1100000);
	assert_int_equal(tcp_take(r.s, &again, 1), 1);
	assert_ptr_not_equal(d.m, again.m);
	assert_memory_equal(rte_pktmbuf_mtod_offset(again.m, char *, again.m->data_len - 5), "hello", 5);
	rig_ack(&r, r.ack + 5);
	assert_memory_equal(rte_pktmbuf_mtod_offset(d.m, char *, d.m->data_len - 5), "hello", 5);
	rte_pktmbuf_free(d.m);
	rte_pktmbuf_free(again.m);
	rig_end(&r);
}

static void a_part_acknowledged_is_not_sent_again(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_write(&r, "hello");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "hello");
	rig_ack(&r, r.ack + 2);
	rig_wait(&r, 1100000);
	rig_expect(&r, KIT_ACK, r.ack + 2, r.seq, "llo");
	rig_end(&r);
}

static void a_closed_window_is_probed_for_as_long_as_it_is_answered(void **state)
{
	struct rig r;
	rig_begin(&r);
	r.window = 0;
	rig_ack(&r, r.ack);
	rig_write(&r, "hello");
	rig_expect_nothing(&r);
	unsigned probes = 0;
	for (unsigned i = 0; i < 3600; i++) { /* an hour */
		rig_wait(&r, 1000000);
		while (rig_out(&r)) {
			assert_int_equal(r.got.text.n, 0);
			assert_int_equal(r.got.seq, r.ack - 1);
			probes++;
			rig_ack(&r, r.ack);
		}
	}
	assert_true(probes > 55 && probes < 80);
	r.window = 2;
	rig_ack(&r, r.ack);
	rig_expect_nothing(&r); /* silly */
	r.window = 5000;
	rig_ack(&r, r.ack);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "hello");
	rig_end(&r);
}

static void unanswered_probes_end_the_connection(void **state)
{
	struct rig r;
	rig_begin(&r);
	r.window = 0;
	rig_ack(&r, r.ack);
	rig_write(&r, "hello");
	for (unsigned i = 0; i < 400 && !(rig_events(&r) & TCP_EVENT_ENDED); i++) {
		rig_wait(&r, 1000000);
		while (rig_out(&r))
			;
	}
	assert_int_equal(r.end, TCP_END_TIMEOUT);
	rig_end(&r);
}

static void a_window_kept_closed_does_not_hold_what_we_have_closed(void **state)
{
	struct rig r;
	rig_begin(&r);
	r.window = 0;
	rig_ack(&r, r.ack);
	rig_write(&r, "hello");
	tcp_close(r.c);
	for (unsigned i = 0; i < 400 && !(rig_events(&r) & TCP_EVENT_ENDED); i++) {
		rig_wait(&r, 1000000);
		while (rig_out(&r))
			if (!(r.got.flags & KIT_RST))
				rig_ack(&r, r.ack);
	}
	assert_int_equal(r.end, TCP_END_TIMEOUT);
	rig_end(&r);
}

static void a_window_smaller_than_a_segment_is_used_in_the_end(void **state)
{
	struct rig r;
	rig_begin(&r);
	r.window = 500;
	rig_ack(&r, r.ack);
	rig_write_big(&r, 3000);
	rig_expect_nothing(&r);
	rig_wait(&r, 250000); /* the override of RFC 9293 3.8.6.2.1 */
	assert_true(rig_out(&r));
	assert_int_equal(r.got.text.n, 500);
	assert_memory_equal(r.got.text.at, rig_big, 500);
	rig_ack(&r, r.ack + 500);
	rig_wait(&r, 250000);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.seq, r.ack + 500);
	assert_memory_equal(r.got.text.at, rig_big + 500, r.got.text.n);
	rig_end(&r);
}

static void a_window_that_shrinks_is_survived(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_write_big(&r, 6000);
	rig_take_all(&r, r.ack);
	r.window = 0;
	rig_ack(&r, r.ack + 1460); /* and what was in flight behind is beyond it */
	rig_wait(&r, 5000000);
	while (rig_out(&r))
		assert_int_equal(r.got.text.n, 0);
	r.window = 60000;
	rig_ack(&r, r.ack + 1460);
	unsigned n = 0;
	while (tcp_unacked(r.c) != 0 && n++ < 20) {
		while (rig_out(&r))
			if (r.got.text.n != 0)
				rig_ack(&r, r.got.seq + (uint32_t)r.got.text.n);
		rig_wait(&r, 1000000);
	}
	assert_int_equal(tcp_unacked(r.c), 0);
	rig_end(&r);
}

/* Seen against Linux: an ACK from beyond the edge is not heard, and both sides retransmit for ever. */
static void acks_stay_within_a_window_that_has_shrunk(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_write_big(&r, 6000);
	rig_take_all(&r, r.ack);
	r.window = 2000;
	rig_in(&r, KIT_ACK, r.seq, r.ack, "MAIL");
	rig_wait(&r, 50000);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.seq, r.ack + 2000);
	assert_int_equal(r.got.ack, r.seq + 4);
	assert_int_equal(r.got.text.n, 0);
	rig_end(&r);
}

/* Found by the simulator: text that comes again may bring a new ACK; its window counts from there. */
static void a_new_ack_brings_its_window_also_on_old_text(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_write_big(&r, 6000);
	rig_take_all(&r, r.ack);
	rig_text(&r, "MAIL");
	rig_in(&r, KIT_ACK, r.seq - 4, r.ack, "MAIL");
	r.window = 1000;
	rig_in(&r, KIT_ACK, r.seq - 4, r.ack + 1460, "MAIL");
	assert_int_equal(rig_info(&r).snd_wnd, 1000);
	rig_end(&r);
}

static void the_round_trip_sets_the_timeout(void **state)
{
	struct rig r;
	rig_begin(&r);
	for (unsigned i = 0; i < 50; i++) {
		rig_write(&r, "x");
		assert_true(rig_out(&r));
		rig_wait(&r, 80000);
		rig_ack(&r, ++r.ack);
	}
	assert_in_range(rig_info(&r).srtt_us, 75000, 85000);
	assert_in_range(rig_info(&r).rto_us, 275000, 300000);
	rig_end(&r);
}

static void scaled_windows_are_scaled(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.receive_bytes_max = 1 << 20;
	rig_start(&r, &config);
	r.wscale = 7;
	rig_accept(&r);
	r.window = 1000;
	rig_ack(&r, r.ack);
	assert_int_equal(rig_info(&r).snd_wnd, 128000);
	rig_text(&r, "x");
	rig_text(&r, "y");
	assert_true(rig_out(&r));
	/* 2^16 at first, and two bytes unread, in steps of 32 */
	assert_int_equal(r.got.window, ((1 << 16) - 2) / 32);
	rig_end(&r);
}

/* ---- scarce mbufs ---- */

static unsigned drain(struct rte_mempool *pool, struct rte_mbuf *held[1024])
{
	unsigned n = 0;
	while (n < 1024 && (held[n] = rte_pktmbuf_alloc(pool)) != NULL)
		n++;
	return n;
}

static void free_all(struct rte_mbuf **held, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		rte_pktmbuf_free(held[i]);
}

static void an_empty_control_pool_delays_and_loses_nothing(void **state)
{
	struct rig r;
	struct rte_mbuf *held[1024];
	rig_begin(&r);
	rig_text(&r, "a");
	rig_text(&r, "b");
	unsigned n = drain(rig_pool(true), held);
	rig_expect_nothing(&r);
	assert_int_equal(rig_drops(&r, "no_control_buffer"), 1);
	free_all(held, n);
	rig_wait(&r, 50000);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_end(&r);
}

static void an_empty_data_pool_delays_and_loses_nothing(void **state)
{
	struct rig r;
	struct rte_mbuf *held[1024];
	rig_begin(&r);
	unsigned n = drain(rig_pool(false), held);
	assert_int_equal(rig_write(&r, "hello"), 0);
	assert_int_equal(tcp_write_space(r.c), 0);
	rig_wait(&r, 100000);
	assert_int_equal(rig_events(&r), 0);
	free_all(held, n);
	rig_wait(&r, 100000);
	assert_int_equal(rig_events(&r), TCP_EVENT_WRITABLE);
	assert_int_equal(rig_write(&r, "hello"), 5);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "hello");
	rig_end(&r);
}

static void departures_nobody_takes_are_bounded(void **state)
{
	struct rig r;
	struct tcp_departure d;
	rig_begin(&r);
	for (unsigned i = 0; i < 2000 && rte_mempool_avail_count(rig_pool(true)) > 0; i++)
		rig_in(&r, KIT_ACK, 1, 2, ""), r.remote_port++;
	r.remote_port = 40000;
	while (tcp_take(r.s, &d, 1) == 1)
		rte_pktmbuf_free(d.m);
	rig_text(&r, "still here");
	rig_expect_read(&r, "still here");
	rig_end(&r);
}

/* Found by the simulator: each segment of 64 bytes took a buffer of 2304 from a limit that was not asked. */
static void a_tiny_mss_does_not_make_us_hold_more(void **state)
{
	struct rig r;
	struct tcp_stats stats;
	const struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	rig_write_big(&r, 16384);
	r.mss = 64;
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq++, r.ack, "");
	for (unsigned i = 0; i < 2000 && tcp_unacked(r.c) != 0; i++) {
		while (rig_out(&r)) {
			tcp_get_stats(r.s, &stats);
			assert_in_range(stats.buffered_bytes, 0, (16384 / 256 + 17) * 2304);
			if (r.got.text.n != 0)
				r.ack = r.got.seq + (uint32_t)r.got.text.n;
		}
		rig_wait(&r, 10000);
		rig_ack(&r, r.ack);
	}
	assert_int_equal(tcp_unacked(r.c), 0);
	rig_end(&r);
}

/* Found by the simulator: each write moved the time away at which what waits was to be tried again. */
static void a_user_who_keeps_writing_does_not_keep_others_waiting(void **state)
{
	struct rig r;
	struct rte_mbuf *held[2][1024];
	rig_begin(&r);
	rig_text(&r, "MAIL");
	rig_text(&r, "RCPT");
	unsigned data = drain(rig_pool(false), held[0]), control = drain(rig_pool(true), held[1]);
	rig_expect_nothing(&r);
	free_all(held[1], control);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(rig_write(&r, "hello"), 0);
		rig_wait(&r, 5000);
	}
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	free_all(held[0], data);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_is_cut_into_segments_within_the_initial_window),
		cmocka_unit_test(the_queue_is_bounded_and_says_when_there_is_room),
		cmocka_unit_test(a_lost_segment_is_sent_again_with_doubling_waits),
		cmocka_unit_test(without_progress_a_connection_ends_after_five_minutes),
		cmocka_unit_test(three_duplicate_acks_send_the_hole_again),
		cmocka_unit_test(duplicate_acks_with_text_or_another_window_are_none),
		cmocka_unit_test(after_a_timeout_all_is_sent_again_from_one_segment_on),
		cmocka_unit_test(a_segment_a_driver_still_holds_is_copied),
		cmocka_unit_test(a_part_acknowledged_is_not_sent_again),
		cmocka_unit_test(a_closed_window_is_probed_for_as_long_as_it_is_answered),
		cmocka_unit_test(unanswered_probes_end_the_connection),
		cmocka_unit_test(a_window_kept_closed_does_not_hold_what_we_have_closed),
		cmocka_unit_test(a_window_smaller_than_a_segment_is_used_in_the_end),
		cmocka_unit_test(a_window_that_shrinks_is_survived),
		cmocka_unit_test(acks_stay_within_a_window_that_has_shrunk),
		cmocka_unit_test(a_new_ack_brings_its_window_also_on_old_text),
		cmocka_unit_test(the_round_trip_sets_the_timeout),
		cmocka_unit_test(scaled_windows_are_scaled),
		cmocka_unit_test(an_empty_control_pool_delays_and_loses_nothing),
		cmocka_unit_test(an_empty_data_pool_delays_and_loses_nothing),
		cmocka_unit_test(departures_nobody_takes_are_bounded),
		cmocka_unit_test(a_tiny_mss_does_not_make_us_hold_more),
		cmocka_unit_test(a_user_who_keeps_writing_does_not_keep_others_waiting),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
