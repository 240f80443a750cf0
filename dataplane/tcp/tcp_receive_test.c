// SPDX-License-Identifier: Apache-2.0
/* Receiving: order, acknowledgement, the window offered, and the checks of RFC 9293, 5961 and 7323. */
#include "dataplane/tcp/tcp_rig.h"

/* ---- receiving ---- */

static void text_is_read_in_order_and_acknowledged_late(void **state)
{
	struct rig r;
	rig_begin(&r);
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

static void what_has_come_can_be_seen_from_any_place_without_being_read(void **state)
{
	static const char text[] = "MAIL FROM:<a@example.test>";
	const size_t n = sizeof text - 1;
	struct rig r;
	uint8_t seen[64];
	rig_begin(&r);
	rig_text(&r, "xxMA");
	rig_text(&r, "I");
	rig_text(&r, "L FROM:<a@exam");
	rig_text(&r, "ple.test>");
	tcp_consume(r.c, 2); /* a segment that is read in part */
	assert_int_equal(tcp_readable(r.c), n);
	for (size_t from = 0; from <= n; from++)
		for (size_t count = 0; from + count <= n; count++) {
			memset(seen, 0, sizeof seen);
			assert_true(tcp_peek_at(r.c, from, seen, count));
			assert_memory_equal(seen, text + from, count);
			assert_int_equal(seen[count], 0);
		}
	assert_false(tcp_peek_at(r.c, 0, seen, n + 1));
	assert_false(tcp_peek_at(r.c, n, seen, 1));
	assert_false(tcp_peek_at(r.c, SIZE_MAX, seen, 2));
	rig_expect_read(&r, text);
	assert_int_equal(tcp_readable(r.c), 0);
	rig_end(&r);
}

static void an_answer_carries_the_acknowledgement(void **state)
{
	struct rig r;
	rig_begin(&r);
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
		rig_begin(&r);
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
		rig_begin(&r);
		memcpy(text, rig_big, 200);
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
	rig_begin(&r);
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
	rig_begin(&r);
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
	rig_begin(&r);
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
	rig_begin(&r); /* a window of 16384 */
	rig_big[1000] = '\0';
	rig_in(&r, KIT_ACK, r.seq + 16000, r.ack, rig_big); /* 384 fit */
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_ACK, r.seq + 16384, r.ack, rig_big);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(rig_drops(&r, "out_of_window"), 1);
	for (unsigned i = 0; i < 16; i++)
		rig_in(&r, KIT_ACK, r.seq + i * 1000, r.ack, rig_big);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.ack, r.seq + 16384);
	assert_int_equal(r.got.window, 0);
	rig_make_big();
	rig_end(&r);
}

static void a_closed_window_opens_when_it_is_read_but_not_by_crumbs(void **state)
{
	struct rig r;
	rig_begin(&r);
	rig_big[1024] = '\0';
	for (unsigned i = 0; i < 16; i++)
		rig_text(&r, rig_big);
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
	rig_make_big();
	rig_end(&r);
}

static void a_window_that_is_used_grows(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.receive_bytes_max = 1 << 20;
	rig_start(&r, &config);
	r.wscale = 7;
	rig_accept(&r);
	rig_big[1024] = '\0';
	for (unsigned i = 0; i < 61; i++) {
		rig_text(&r, rig_big);
		rig_out(&r);
	}
	assert_in_range(rig_info(&r).rcv_wnd, 3000, 65536 - 61 * 1024); /* not while nobody reads */
	for (unsigned i = 0; i < 1500; i++) {
		while (tcp_peek(r.c).n > 0)
			tcp_consume(r.c, tcp_peek(r.c).n);
		while (rig_out(&r))
			;
		r.now_us++;
		rig_text(&r, rig_big);
	}
	rig_out(&r);
	assert_in_range(rig_info(&r).rcv_wnd, (1 << 20) - 4000, 1 << 20);
	rig_make_big();
	rig_end(&r);
}

static void a_byte_a_segment_does_not_cost_an_mbuf_each(void **state)
{
	struct rig r;
	rig_begin(&r);
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
	rig_big[1024] = '\0';
	for (unsigned i = 0; i < 12; i++)
		rig_in(&r, KIT_ACK, r.seq + i * 1024, r.ack, rig_big);
	tcp_get_stats(r.s, &stats);
	assert_true(stats.buffered_bytes <= config.buffer_bytes_max);
	assert_true(rig_drops(&r, "buffers_full") > 0);
	rig_make_big();
	size_t taken = tcp_write(r.c, bytes_of(rig_big, 5000));
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
	rig_begin(&r);
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
	rig_begin(&r);
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
	rig_begin(&r);
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
	rig_begin(&r);
	rig_ack(&r, r.ack + 1);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_ack(&r, r.ack - 60001);
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
	rig_begin(&r);
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

/* Found by the simulator: behind the piece that filled the gap the others were appended whole, their bytes twice. */
static void a_chained_segment_that_fills_a_gap_is_read_once(void **state)
{
	static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	struct rig r;
	uint8_t b[256];
	rig_begin(&r);
	rig_in(&r, KIT_ACK, r.seq + 10, r.ack, "abcdefghijklmnopqr");
	const struct kit_segment seg = {.from = r.remote_port, .to = r.local_port, .seq = r.seq, .ack = r.ack,
		.flags = KIT_ACK, .window = r.window, .wscale = -1, .text = bytes_of_string(text)};
	const size_t n = kit_encode(&seg, &r.remote, &r.local, b);
	const struct tcp_arrival a = {r.local, r.remote, false, 0};
	tcp_input(r.s, kit_mbuf(rig_pool(false), bytes_of(b, n), 12), &a, r.now_us); /* 20 of header, 4, 12, 12, 8 */
	rig_expect_read(&r, text);
	rig_end(&r);
}

/* Found by the simulator: when gaps held all the memory there was, none could be filled. */
static void text_in_order_is_taken_before_text_behind_a_gap(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.buffer_bytes_max = 4 * 2304;
	rig_start(&r, &config);
	rig_accept(&r);
	char text[1401];
	memset(text, 'x', 1400);
	text[1400] = '\0';
	for (uint32_t i = 1; i <= 4; i++)
		rig_in(&r, KIT_ACK, r.seq + i * 1500, r.ack, text);
	rig_text(&r, "MAIL");
	rig_expect_read(&r, "MAIL");
	assert_int_equal(rig_drops(&r, "reassembly_given_up"), 4);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_read_in_order_and_acknowledged_late),
		cmocka_unit_test(what_has_come_can_be_seen_from_any_place_without_being_read),
		cmocka_unit_test(an_answer_carries_the_acknowledgement),
		cmocka_unit_test(segments_in_any_order_make_the_same_text),
		cmocka_unit_test(overlapping_segments_make_the_same_text),
		cmocka_unit_test(a_gap_is_reported_at_once_and_each_time),
		cmocka_unit_test(each_segment_of_a_burst_behind_a_gap_has_its_duplicate_ack),
		cmocka_unit_test(old_text_is_acknowledged_again_and_its_ack_counts),
		cmocka_unit_test(text_beyond_the_window_is_cut_off),
		cmocka_unit_test(a_closed_window_opens_when_it_is_read_but_not_by_crumbs),
		cmocka_unit_test(a_window_that_is_used_grows),
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
		cmocka_unit_test(a_chained_segment_that_fills_a_gap_is_read_once),
		cmocka_unit_test(text_in_order_is_taken_before_text_behind_a_gap),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
