// SPDX-License-Identifier: Apache-2.0
/* Data: acknowledgement, windows, reassembly, retransmission, recovery, timestamps, scarce memory. */
#include "dataplane/tcp/tcp_rig.h"

static char big[65536]; /* a text in which places can be told apart */

static void make_big(void)
{
	for (size_t i = 0; i + 1 < sizeof big; i++)
		big[i] = (char)('!' + (i * i / 7 + i) % 90);
}

static void start(struct rig *r)
{
	struct tcp_config config = rig_config();
	rig_start(r, &config);
	rig_accept(r);
}

static struct tcp_info info(const struct rig *r)
{
	struct tcp_info i;
	tcp_get_info(r->c, &i);
	return i;
}

static void write_big(struct rig *r, size_t n)
{
	assert_int_equal(tcp_write(r->c, bytes_of(big, n)), n);
}

/* Takes all there is; returns how many segments, which must follow each other from `from`. */
static unsigned take_all(struct rig *r, uint32_t from)
{
	unsigned n = 0;
	while (rig_out(r)) {
		assert_int_equal(r->got.seq, from);
		from += (uint32_t)r->got.text.n;
		n++;
	}
	return n;
}

static void ack(struct rig *r, uint32_t to)
{
	rig_in(r, KIT_ACK, r->seq, to, "");
}

/* ---- receiving ---- */

static void text_is_read_in_order_and_acknowledged_late(void **state)
{
	struct rig r;
	start(&r);
	rig_text(&r, "MAIL ");
	assert_int_equal(rig_events(&r), TCP_EVENT_READABLE);
	rig_expect_nothing(&r);
	rig_wait(&r, 39000);
	rig_expect_nothing(&r);
	rig_wait(&r, 2000);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_text(&r, "FROM:");
	rig_text(&r, "<>");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, ""); /* every second segment at once, and one for both */
	rig_expect_nothing(&r);
	rig_expect_read(&r, "MAIL FROM:<>");
	rig_end(&r);
}

static void an_answer_carries_the_acknowledgement(void **state)
{
	struct rig r;
	start(&r);
	rig_text(&r, "NOOP");
	rig_write(&r, "250 ");
	rig_write(&r, "ok");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "250 ok");
	assert_true(r.got.flags & KIT_PSH);
	rig_wait(&r, 100000);
	rig_expect_nothing(&r);
	rig_end(&r);
}

static void segments_in_any_order_make_the_same_text(void **state)
{
	static const unsigned orders[][4] = {{3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}, {0, 2, 1, 3}, {3, 1, 2, 0}};
	for (size_t k = 0; k < sizeof orders / sizeof *orders; k++) {
		struct rig r;
		start(&r);
		for (unsigned i = 0; i < 4; i++) {
			char text[6];
			memcpy(text, &"aaaaabbbbbcccccddddd"[orders[k][i] * 5], 5);
			text[5] = '\0';
			rig_in(&r, KIT_ACK, r.seq + orders[k][i] * 5, r.ack, text);
		}
		rig_expect(&r, KIT_ACK, r.ack, r.seq + 20, "");
		rig_expect_read(&r, "aaaaabbbbbcccccddddd");
		rig_end(&r);
	}
}

/* Random overlapping pieces of one text, with all the joins and cuts that brings. */
static void overlapping_segments_make_the_same_text(void **state)
{
	for (unsigned seed = 0; seed < 300; seed++) {
		struct rig r;
		char text[201];
		srand(seed);
		start(&r);
		memcpy(text, big, 200);
		text[200] = '\0';
		for (unsigned i = 0; i < 40; i++) {
			unsigned from = (unsigned)rand() % 200, n = 1 + (unsigned)rand() % (200 - from);
			char piece[201];
			memcpy(piece, text + from, n);
			piece[n] = '\0';
			rig_in(&r, KIT_ACK, r.seq + from, r.ack, piece);
			rig_out(&r);
		}
		rig_in(&r, KIT_ACK, r.seq, r.ack, text);
		rig_wait(&r, 50000);
		assert_true(rig_out(&r));
		assert_int_equal(r.got.ack, r.seq + 200);
		rig_expect_read(&r, text);
		rig_end(&r);
	}
}

static void a_gap_is_reported_at_once_and_each_time(void **state)
{
	struct rig r;
	start(&r);
	for (unsigned i = 1; i <= 3; i++) {
		rig_in(&r, KIT_ACK, r.seq + i * 10, r.ack, "0123456789");
		rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	}
	assert_int_equal(rig_events(&r), 0);
	rig_in(&r, KIT_ACK, r.seq, r.ack, "0123456789");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 40, "");
	rig_end(&r);
}

static void ahead(struct rig *r, unsigned i)
{
	rig_in(r, KIT_ACK, r->seq + i * 10, r->ack, "0123456789");
}

static void each_segment_of_a_burst_behind_a_gap_has_its_duplicate_ack(void **state)
{
	struct rig r;
	start(&r);
	for (unsigned i = 1; i <= 5; i++)
		ahead(&r, i);
	ahead(&r, 3); /* came before: says nothing new */
	for (unsigned i = 1; i <= 5; i++)
		rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_expect_nothing(&r);
	/* What fills the gap makes the ACKs of what came before it moot; the next gap has its own. */
	ahead(&r, 6);
	rig_in(&r, KIT_ACK, r.seq, r.ack, "0123456789");
	ahead(&r, 8);
	ahead(&r, 9);
	for (unsigned i = 1; i <= 3; i++)
		rig_expect(&r, KIT_ACK, r.ack, r.seq + 70, "");
	rig_expect_nothing(&r);
	/* Text of ours goes too, but a duplicate ACK has none (RFC 5681 2). */
	ahead(&r, 10);
	ahead(&r, 11);
	rig_write(&r, "250 ");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 70, "250 ");
	for (unsigned i = 1; i <= 2; i++)
		rig_expect(&r, KIT_ACK, r.ack + 4, r.seq + 70, "");
	rig_expect_nothing(&r);
	rig_end(&r);
}

static void old_text_is_acknowledged_again_and_its_ack_counts(void **state)
{
	struct rig r;
	start(&r);
	rig_text(&r, "once");
	rig_wait(&r, 50000);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_write(&r, "answer");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "answer");
	rig_in(&r, KIT_ACK, r.seq - 4, r.ack + 6, "once");
	rig_expect(&r, KIT_ACK, r.ack + 6, r.seq, "");
	assert_int_equal(tcp_unacked(r.c), 0);
	assert_int_equal(rig_drops(&r, "duplicate_text"), 1);
	rig_expect_read(&r, "once");
	rig_end(&r);
}

static void text_beyond_the_window_is_cut_off(void **state)
{
	struct rig r;
	start(&r); /* a window of 16384 */
	big[1000] = '\0';
	rig_in(&r, KIT_ACK, r.seq + 16000, r.ack, big); /* 384 fit */
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_ACK, r.seq + 16384, r.ack, big);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(rig_drops(&r, "out_of_window"), 1);
	for (unsigned i = 0; i < 16; i++)
		rig_in(&r, KIT_ACK, r.seq + i * 1000, r.ack, big);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.ack, r.seq + 16384);
	assert_int_equal(r.got.window, 0);
	make_big();
	rig_end(&r);
}

static void a_closed_window_opens_when_it_is_read_but_not_by_crumbs(void **state)
{
	struct rig r;
	start(&r);
	big[1024] = '\0';
	for (unsigned i = 0; i < 16; i++)
		rig_text(&r, big);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.window, 0);
	rig_text(&r, "x"); /* a probe */
	r.seq--;
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(r.got.window, 0);
	assert_int_equal(rig_drops(&r, "window_closed"), 1);
	tcp_consume(r.c, 100);
	rig_expect_nothing(&r);
	tcp_consume(r.c, 924);
	rig_expect_nothing(&r);
	tcp_consume(r.c, 3 * 1024);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(r.got.window, 4096);
	make_big();
	rig_end(&r);
}

static void a_byte_a_segment_does_not_cost_an_mbuf_each(void **state)
{
	struct rig r;
	start(&r);
	for (unsigned i = 0; i < 4000; i++) {
		rig_text(&r, "x");
		rig_out(&r);
	}
	assert_true(rte_mempool_in_use_count(rig_pool(false)) <= 4);
	/* and out of order, with gaps between */
	const uint32_t from = r.seq;
	for (unsigned i = 1; i < 1000; i++) {
		rig_in(&r, KIT_ACK, from + i * 2, r.ack, "x");
		rig_out(&r);
	}
	assert_true(rte_mempool_in_use_count(rig_pool(false)) <= 100);
	assert_true(rig_drops(&r, "reassembly_full") > 0);
	rig_end(&r);
}

static void memory_held_by_all_connections_is_bounded(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	struct tcp_stats stats;
	config.buffer_bytes_max = 5 * (RTE_MBUF_DEFAULT_BUF_SIZE);
	rig_start(&r, &config);
	rig_accept(&r);
	big[1024] = '\0';
	for (unsigned i = 0; i < 12; i++)
		rig_in(&r, KIT_ACK, r.seq + i * 1024, r.ack, big);
	tcp_get_stats(r.s, &stats);
	assert_true(stats.buffered_bytes <= config.buffer_bytes_max);
	assert_true(rig_drops(&r, "buffers_full") > 0);
	make_big();
	size_t taken = tcp_write(r.c, bytes_of(big, 5000));
	assert_true(taken < 5000);
	/* reading makes room, and the writer is told */
	rig_events(&r);
	r.events = 0;
	while (tcp_peek(r.c).n > 0)
		tcp_consume(r.c, tcp_peek(r.c).n);
	rig_wait(&r, 20000);
	assert_true(rig_events(&r) & TCP_EVENT_WRITABLE);
	rig_end(&r);
}

/* ---- checks of RFC 9293, 5961, 7323 ---- */

static void a_reset_must_be_exact(void **state)
{
	struct rig r;
	start(&r);
	rig_in(&r, KIT_RST, r.seq + 1, 0, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, ""); /* challenged */
	rig_in(&r, KIT_RST, r.seq - 1, 0, "");
	rig_in(&r, KIT_RST, r.seq + 16384, 0, "");
	rig_expect_nothing(&r);
	assert_int_equal(rig_events(&r), 0);
	rig_in(&r, KIT_RST, r.seq, 0, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
	assert_int_equal(r.end, TCP_END_RESET);
	rig_end(&r);
}

static void a_syn_on_a_connection_is_challenged(void **state)
{
	struct rig r;
	start(&r);
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_SYN, r.seq + 100000, 0, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq - 1, r.ack, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_string_equal(rig_state(&r), "ESTABLISHED");
	rig_end(&r);
}

static void challenges_are_limited(void **state)
{
	struct rig r;
	unsigned answers = 0;
	start(&r);
	for (unsigned i = 0; i < 100; i++) {
		rig_in(&r, KIT_SYN, r.seq, 0, "");
		answers += rig_out(&r);
	}
	assert_int_equal(answers, 10);
	assert_int_equal(rig_drops(&r, "reply_limited"), 90);
	rig_wait(&r, 1000000);
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	assert_true(rig_out(&r));
	rig_end(&r);
}

static void acks_of_nothing_sent_or_far_past_are_refused(void **state)
{
	struct rig r;
	start(&r);
	ack(&r, r.ack + 1);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	ack(&r, r.ack - 60001);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(rig_drops(&r, "bad_ack"), 2);
	rig_in(&r, KIT_ACK, r.seq, r.ack - 60000, "text");
	assert_int_equal(rig_events(&r), TCP_EVENT_READABLE);
	rig_in(&r, KIT_SYN, r.seq + 4, 0, "");
	rig_end(&r);
}

static void a_segment_without_ack_is_dropped(void **state)
{
	struct rig r;
	start(&r);
	const struct kit_segment seg = {.from = r.remote_port, .to = r.local_port, .seq = r.seq, .wscale = -1,
		.flags = KIT_PSH, .text = BYTES_LITERAL("x")};
	rig_in_raw(&r, &seg);
	assert_int_equal(rig_drops(&r, "bad_flags"), 1);
	assert_int_equal(rig_events(&r), 0);
	rig_end(&r);
}

static void start_with_timestamps(struct rig *r)
{
	struct tcp_config config = rig_config();
	rig_start(r, &config);
	r->has_ts = true;
	r->tsval = 0xfffffff8;
	rig_accept(r);
}

static void old_timestamps_are_refused_and_new_ones_echoed(void **state)
{
	struct rig r;
	start_with_timestamps(&r);
	r.tsval = 5; /* past the wrap */
	rig_text(&r, "new");
	rig_wait(&r, 50000);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(r.got.tsecr, 5);
	r.tsval = 0xfffffffe;
	rig_in(&r, KIT_ACK, r.seq, r.ack, "old");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(rig_drops(&r, "old_timestamp"), 1);
	rig_expect_read(&r, "new");
	r.has_ts = false;
	rig_in(&r, KIT_ACK, r.seq, r.ack, "none");
	rig_expect_nothing(&r);
	assert_int_equal(rig_drops(&r, "no_timestamp"), 1);
	rig_in(&r, KIT_RST, r.seq, 0, ""); /* a RST needs none */
	assert_true(rig_events(&r) & TCP_EVENT_ENDED);
	rig_end(&r);
}

static void a_timestamp_of_24_days_ago_binds_no_more(void **state)
{
	struct rig r;
	start_with_timestamps(&r);
	r.now_us += 25ull * 24 * 3600 * 1000000;
	r.tsval -= 1000;
	rig_text(&r, "x");
	assert_int_equal(rig_events(&r), TCP_EVENT_READABLE);
	rig_end(&r);
}

static void the_timestamp_echoed_is_of_the_first_unacknowledged_segment(void **state)
{
	struct rig r;
	start_with_timestamps(&r);
	r.tsval += 1;
	rig_text(&r, "a");
	r.tsval += 1;
	rig_text(&r, "b"); /* the ACK for both is delayed: RFC 7323 4.3 (3) (A) */
	assert_true(rig_out(&r));
	assert_int_equal(r.got.tsecr, r.tsval - 1);
	rig_end(&r);
}

static void a_guessed_segment_cannot_set_the_timestamp(void **state)
{
	struct rig r;
	start_with_timestamps(&r);
	rig_text(&r, "0123456789");
	rig_wait(&r, 50000);
	assert_true(rig_out(&r));
	const uint32_t good = r.tsval;
	r.tsval = good + 1000000000;
	rig_in(&r, KIT_ACK, r.seq - 10, r.ack - 70000, "0123");
	rig_in(&r, KIT_RST, r.seq + 1, 0, "");
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	rig_in(&r, KIT_ACK, r.seq, r.ack + 5, ""); /* a wrong ACK */
	while (rig_out(&r))
		assert_int_equal(r.got.tsecr, good);
	r.tsval = good + 1;
	rig_text(&r, "real");
	rig_expect_read(&r, "0123456789real");
	rig_end(&r);
}

static void text_that_comes_again_has_its_timestamp_echoed(void **state)
{
	struct rig r;
	start_with_timestamps(&r);
	rig_text(&r, "0123456789");
	rig_wait(&r, 50000);
	assert_true(rig_out(&r)); /* lost, so the peer sends it again, later */
	r.tsval += 5000;
	rig_in(&r, KIT_ACK, r.seq - 10, r.ack, "0123");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(r.got.tsecr, r.tsval);
	rig_end(&r);
}

/* ---- sending ---- */

static void a_write_is_cut_into_segments_within_the_initial_window(void **state)
{
	struct rig r;
	make_big();
	start(&r);
	write_big(&r, 16384);
	assert_int_equal(take_all(&r, r.ack), 10); /* RFC 6928 */
	assert_int_equal(tcp_unacked(r.c), 16384);
	ack(&r, r.ack + 2 * r.got.text.n);
	const unsigned more = (unsigned)(16384 - 10 * r.got.text.n + r.got.text.n - 1) / (unsigned)r.got.text.n;
	assert_int_equal(take_all(&r, (uint32_t)(r.ack + 10 * r.got.text.n)), more);
	rig_end(&r);
}

static void the_queue_is_bounded_and_says_when_there_is_room(void **state)
{
	struct rig r;
	start(&r);
	assert_int_equal(tcp_write(r.c, bytes_of(big, 20000)), 16384);
	assert_int_equal(tcp_write_space(r.c), 0);
	assert_int_equal(rig_write(&r, "x"), 0);
	take_all(&r, r.ack);
	ack(&r, r.ack + 1000);
	assert_int_equal(rig_events(&r), 0); /* not for crumbs */
	ack(&r, r.ack + 5000);
	assert_int_equal(rig_events(&r), TCP_EVENT_WRITABLE);
	assert_int_equal(tcp_write_space(r.c), 5000);
	rig_end(&r);
}

static void a_lost_segment_is_sent_again_with_doubling_waits(void **state)
{
	struct rig r;
	start(&r);
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
	ack(&r, r.ack + 5);
	rig_wait(&r, 100000000);
	rig_expect_nothing(&r);
	assert_int_equal(info(&r).retransmits, 6);
	rig_end(&r);
}

static void without_progress_a_connection_ends_after_five_minutes(void **state)
{
	struct rig r;
	start(&r);
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
	start(&r);
	write_big(&r, 12000);
	const unsigned segments = take_all(&r, r.ack);
	const uint32_t mss = info(&r).mss;
	assert_true(segments >= 8);
	for (unsigned i = 0; i < 2; i++) {
		ack(&r, r.ack);
		rig_expect_nothing(&r);
	}
	ack(&r, r.ack);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.seq, r.ack);
	assert_int_equal(info(&r).ssthresh, 6000);
	/* a partial ACK: the next hole at once */
	ack(&r, r.ack + 3 * mss);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.seq, r.ack + 3 * mss);
	rig_expect_nothing(&r);
	/* all of it: recovery is over */
	ack(&r, r.ack + 12000);
	tcp_get_stats(r.s, &stats);
	assert_int_equal(stats.fast_retransmits, 1);
	assert_int_equal(stats.rto_fired, 0);
	assert_int_equal(stats.retransmits, 2);
	assert_true(info(&r).cwnd <= 6000);
	rig_end(&r);
}

static void duplicate_acks_with_text_or_another_window_are_none(void **state)
{
	struct rig r;
	start(&r);
	write_big(&r, 12000);
	take_all(&r, r.ack);
	for (unsigned i = 0; i < 5; i++) {
		r.window--;
		ack(&r, r.ack);
		rig_text(&r, "x");
	}
	while (rig_out(&r))
		assert_int_equal(r.got.text.n, 0);
	rig_end(&r);
}

static void after_a_timeout_all_is_sent_again_from_one_segment_on(void **state)
{
	struct rig r;
	start(&r);
	write_big(&r, 12000);
	const unsigned segments = take_all(&r, r.ack);
	const uint32_t mss = info(&r).mss;
	rig_wait(&r, 250000);
	assert_int_equal(take_all(&r, r.ack), 1);
	assert_int_equal(info(&r).cwnd, mss);
	assert_int_equal(info(&r).ssthresh, 6000);
	ack(&r, r.ack + mss);
	assert_int_equal(take_all(&r, r.ack + mss), 2);
	ack(&r, r.ack + 12000); /* the rest had arrived after all */
	rig_expect_nothing(&r);
	assert_int_equal(tcp_unacked(r.c), 0);
	assert_true(segments > 3);
	rig_end(&r);
}

static void a_segment_a_driver_still_holds_is_copied(void **state)
{
	struct rig r;
	struct tcp_departure d, again;
	start(&r);
	rig_write(&r, "hello");
	tcp_output(r.s, r.now_us);
	assert_int_equal(tcp_take(r.s, &d, 1), 1);
	memset(rte_pktmbuf_prepend(d.m, 54), 0xee, 54);
	rig_wait(&r, 1100000);
	assert_int_equal(tcp_take(r.s, &again, 1), 1);
	assert_ptr_not_equal(d.m, again.m);
	assert_memory_equal(rte_pktmbuf_mtod_offset(again.m, char *, again.m->data_len - 5), "hello", 5);
	ack(&r, r.ack + 5);
	assert_memory_equal(rte_pktmbuf_mtod_offset(d.m, char *, d.m->data_len - 5), "hello", 5);
	rte_pktmbuf_free(d.m);
	rte_pktmbuf_free(again.m);
	rig_end(&r);
}

static void a_part_acknowledged_is_not_sent_again(void **state)
{
	struct rig r;
	start(&r);
	rig_write(&r, "hello");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "hello");
	ack(&r, r.ack + 2);
	rig_wait(&r, 1100000);
	rig_expect(&r, KIT_ACK, r.ack + 2, r.seq, "llo");
	rig_end(&r);
}

static void a_closed_window_is_probed_for_as_long_as_it_is_answered(void **state)
{
	struct rig r;
	start(&r);
	r.window = 0;
	ack(&r, r.ack);
	rig_write(&r, "hello");
	rig_expect_nothing(&r);
	unsigned probes = 0;
	for (unsigned i = 0; i < 3600; i++) { /* an hour */
		rig_wait(&r, 1000000);
		while (rig_out(&r)) {
			assert_int_equal(r.got.text.n, 0);
			assert_int_equal(r.got.seq, r.ack - 1);
			probes++;
			ack(&r, r.ack);
		}
	}
	assert_true(probes > 55 && probes < 80);
	r.window = 2;
	ack(&r, r.ack);
	rig_expect_nothing(&r); /* silly */
	r.window = 5000;
	ack(&r, r.ack);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "hello");
	rig_end(&r);
}

static void unanswered_probes_end_the_connection(void **state)
{
	struct rig r;
	start(&r);
	r.window = 0;
	ack(&r, r.ack);
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
	start(&r);
	r.window = 0;
	ack(&r, r.ack);
	rig_write(&r, "hello");
	tcp_close(r.c);
	for (unsigned i = 0; i < 400 && !(rig_events(&r) & TCP_EVENT_ENDED); i++) {
		rig_wait(&r, 1000000);
		while (rig_out(&r))
			if (!(r.got.flags & KIT_RST))
				ack(&r, r.ack);
	}
	assert_int_equal(r.end, TCP_END_TIMEOUT);
	rig_end(&r);
}

static void a_window_smaller_than_a_segment_is_used_in_the_end(void **state)
{
	struct rig r;
	start(&r);
	r.window = 500;
	ack(&r, r.ack);
	write_big(&r, 3000);
	rig_expect_nothing(&r);
	rig_wait(&r, 250000); /* the override of RFC 9293 3.8.6.2.1 */
	assert_true(rig_out(&r));
	assert_int_equal(r.got.text.n, 500);
	assert_memory_equal(r.got.text.at, big, 500);
	ack(&r, r.ack + 500);
	rig_wait(&r, 250000);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.seq, r.ack + 500);
	assert_memory_equal(r.got.text.at, big + 500, r.got.text.n);
	rig_end(&r);
}

static void a_window_that_shrinks_is_survived(void **state)
{
	struct rig r;
	start(&r);
	write_big(&r, 6000);
	take_all(&r, r.ack);
	r.window = 0;
	ack(&r, r.ack + 1460); /* and what was in flight behind is beyond it */
	rig_wait(&r, 5000000);
	while (rig_out(&r))
		assert_int_equal(r.got.text.n, 0);
	r.window = 60000;
	ack(&r, r.ack + 1460);
	unsigned n = 0;
	while (tcp_unacked(r.c) != 0 && n++ < 20) {
		while (rig_out(&r))
			if (r.got.text.n != 0)
				ack(&r, r.got.seq + (uint32_t)r.got.text.n);
		rig_wait(&r, 1000000);
	}
	assert_int_equal(tcp_unacked(r.c), 0);
	rig_end(&r);
}

/* Seen against Linux: an ACK from beyond the edge is not heard, and both sides retransmit for ever. */
static void acks_stay_within_a_window_that_has_shrunk(void **state)
{
	struct rig r;
	start(&r);
	write_big(&r, 6000);
	take_all(&r, r.ack);
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
	start(&r);
	write_big(&r, 6000);
	take_all(&r, r.ack);
	rig_text(&r, "MAIL");
	rig_in(&r, KIT_ACK, r.seq - 4, r.ack, "MAIL");
	r.window = 1000;
	rig_in(&r, KIT_ACK, r.seq - 4, r.ack + 1460, "MAIL");
	assert_int_equal(info(&r).snd_wnd, 1000);
	rig_end(&r);
}

static void the_round_trip_sets_the_timeout(void **state)
{
	struct rig r;
	start(&r);
	for (unsigned i = 0; i < 50; i++) {
		rig_write(&r, "x");
		assert_true(rig_out(&r));
		rig_wait(&r, 80000);
		ack(&r, ++r.ack);
	}
	assert_in_range(info(&r).srtt_us, 75000, 85000);
	assert_in_range(info(&r).rto_us, 275000, 300000);
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
	ack(&r, r.ack);
	assert_int_equal(info(&r).snd_wnd, 128000);
	rig_text(&r, "x");
	rig_text(&r, "y");
	assert_true(rig_out(&r));
	/* 2^20 and two bytes unread, in steps of 32 */
	assert_int_equal(r.got.window, ((1 << 20) - 2) / 32);
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
	start(&r);
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
	start(&r);
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
	start(&r);
	for (unsigned i = 0; i < 2000 && rte_mempool_avail_count(rig_pool(true)) > 0; i++)
		rig_in(&r, KIT_ACK, 1, 2, ""), r.remote_port++;
	r.remote_port = 40000;
	while (tcp_take(r.s, &d, 1) == 1)
		rte_pktmbuf_free(d.m);
	rig_text(&r, "still here");
	rig_expect_read(&r, "still here");
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_read_in_order_and_acknowledged_late),
		cmocka_unit_test(an_answer_carries_the_acknowledgement),
		cmocka_unit_test(segments_in_any_order_make_the_same_text),
		cmocka_unit_test(overlapping_segments_make_the_same_text),
		cmocka_unit_test(a_gap_is_reported_at_once_and_each_time),
		cmocka_unit_test(each_segment_of_a_burst_behind_a_gap_has_its_duplicate_ack),
		cmocka_unit_test(old_text_is_acknowledged_again_and_its_ack_counts),
		cmocka_unit_test(text_beyond_the_window_is_cut_off),
		cmocka_unit_test(a_closed_window_opens_when_it_is_read_but_not_by_crumbs),
		cmocka_unit_test(a_byte_a_segment_does_not_cost_an_mbuf_each),
		cmocka_unit_test(memory_held_by_all_connections_is_bounded),
		cmocka_unit_test(a_reset_must_be_exact),
		cmocka_unit_test(a_syn_on_a_connection_is_challenged),
		cmocka_unit_test(challenges_are_limited),
		cmocka_unit_test(acks_of_nothing_sent_or_far_past_are_refused),
		cmocka_unit_test(a_segment_without_ack_is_dropped),
		cmocka_unit_test(old_timestamps_are_refused_and_new_ones_echoed),
		cmocka_unit_test(a_timestamp_of_24_days_ago_binds_no_more),
		cmocka_unit_test(the_timestamp_echoed_is_of_the_first_unacknowledged_segment),
		cmocka_unit_test(a_guessed_segment_cannot_set_the_timestamp),
		cmocka_unit_test(text_that_comes_again_has_its_timestamp_echoed),
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
	};
	make_big();
	return rig_main(tests, sizeof tests / sizeof *tests);
}
