// SPDX-License-Identifier: Apache-2.0
/* What peers can do to us on purpose, and what it costs us: work is counted, not timed (tcp_work.h). */
#include "dataplane/tcp/tcp_rig.h"

#include "dataplane/tcp/tcp_private.h"
#include "dataplane/tcp/tcp_work.h"

static struct tcp_stats stats(const struct rig *r)
{
	struct tcp_stats s;
	tcp_get_stats(r->s, &s);
	return s;
}

/* What the segment costs us, with what we send because of it. */
static uint64_t cost_of(struct rig *r, const struct kit_segment *seg)
{
	uint8_t b[2048];
	struct tcp_departure d[64];
	const size_t n = kit_encode(seg, &r->remote, &r->local, b);
	struct rte_mbuf *m = kit_mbuf(rig_pool(false), bytes_of(b, n), 0);
	const struct tcp_arrival a = {r->local, r->remote, true, 0};
	assert_non_null(m);
	work_begin();
	tcp_input(r->s, m, &a, r->now_us);
	tcp_output(r->s, r->now_us);
	const uint64_t blocks = work_end();
	for (unsigned k; (k = tcp_take(r->s, d, 64)) > 0;)
		while (k > 0)
			rte_pktmbuf_free(d[--k].m);
	return blocks;
}

static struct kit_segment segment(const struct rig *r, uint32_t seq, uint32_t ack, const char *text)
{
	return (struct kit_segment){.from = r->remote_port, .to = r->local_port, .seq = seq, .ack = ack,
		.flags = KIT_ACK, .window = r->window, .wscale = -1, .text = bytes_of_string(text)};
}

static void begin(struct rig *r, uint32_t window)
{
	struct tcp_config config = rig_config();
	config.receive_bytes_max = window;
	config.send_bytes_max = 65535;
	rig_start(r, &config);
	rig_accept(r);
}

/* The dearest of a thousand segments in order, read at once: what a segment has to cost. */
static uint64_t ordinary_cost(void)
{
	struct rig r;
	uint64_t most = 0;
	begin(&r, 60000);
	for (unsigned i = 0; i < 1000; i++) {
		const struct kit_segment seg = segment(&r, r.seq, r.ack, "a line of text");
		const uint64_t cost = cost_of(&r, &seg);
		most = cost > most ? cost : most;
		rig_expect_read(&r, "a line of text");
		r.seq += 14;
	}
	rig_end(&r);
	assert_true(most > 20); /* it does count */
	return most;
}

/* ---- one byte here, one byte there (CVE-2018-5390 and its kin) ---- */

/* The place of segment `i` of `count`, all odd, so that each leaves a gap before it. */
static uint32_t ascending(uint32_t i, uint32_t count)
{
	return 2 * i + 1;
}
static uint32_t descending(uint32_t i, uint32_t count)
{
	return 2 * (count - i) - 1;
}
static uint32_t scattered(uint32_t i, uint32_t count)
{
	return 2 * (i * 7919 % count) + 1;
}
static uint32_t inwards(uint32_t i, uint32_t count)
{
	return i % 2 ? 2 * (i / 2) + 1 : 2 * (count - i / 2) - 1;
}

static void smack(uint32_t (*place)(uint32_t, uint32_t), uint64_t most)
{
	struct rig r;
	const uint32_t count = 30000;
	begin(&r, 60000);
	for (uint32_t i = 0; i < count; i++) {
		const struct kit_segment seg = segment(&r, r.seq + place(i, count), r.ack, "x");
		assert_in_range(cost_of(&r, &seg), 1, most);
	}
	assert_in_range(stats(&r).buffered_bytes, 0, 600 * 2304); /* the mbufs of the window in full segments, some */
	rig_text(&r, "in order");
	assert_true(tcp_peek(r.c).n >= 8); /* it still works */
	rig_end(&r);
}

static void bytes_out_of_order_cost_a_bounded_walk(void **state)
{
	const uint64_t most = ordinary_cost() * 10;
	smack(ascending, most);
	smack(descending, most);
	smack(scattered, most);
	smack(inwards, most);
}

/* ---- acknowledgements made up ---- */

/* Fills the congestion window; returns the first byte sent. */
static uint32_t fill_window(struct rig *r)
{
	rig_make_big();
	rig_write_big(r, 60000);
	while (rig_out(r))
		;
	return r->ack;
}

/* The window after two segments have been acknowledged, `step` bytes at a time. */
static uint32_t window_after(uint32_t step)
{
	struct rig r;
	begin(&r, 60000);
	const uint32_t first = fill_window(&r), all = 2u * rig_info(&r).mss;
	for (uint32_t i = step; i <= all; i += step) {
		rig_ack(&r, first + i);
		while (rig_out(&r))
			;
	}
	const uint32_t cwnd = rig_info(&r).cwnd;
	rig_end(&r);
	return cwnd;
}

/* RFC 3465: the window grows by what is acknowledged, not by how often (Savage et al. 1999, ACK division). */
static void an_ack_in_pieces_opens_the_window_no_further(void **state)
{
	struct rig r;
	begin(&r, 60000);
	const uint32_t all = 2u * rig_info(&r).mss, before = rig_info(&r).cwnd;
	rig_end(&r);
	assert_true(window_after(all) > before);
	assert_in_range(window_after(1), before, window_after(all));
}

static void acks_of_what_was_not_sent_open_nothing(void **state)
{
	struct rig r;
	begin(&r, 60000);
	const uint32_t first = fill_window(&r), cwnd = rig_info(&r).cwnd;
	for (uint32_t i = 0; i < 100; i++)
		rig_ack(&r, first + cwnd + 1 + i * 100);
	assert_int_equal(rig_info(&r).cwnd, cwnd);
	assert_int_equal(tcp_unacked(r.c), 60000);
	assert_true(rig_drops(&r, "bad_ack") == 100);
	rig_end(&r);
}

/* Tiny segments, and SACK blocks all over them (CVE-2019-11477, 11478). */
static void sack_blocks_over_tiny_segments_cost_a_bounded_walk(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	uint64_t random = 88172645463325252ull;
	config.send_bytes_max = 65535;
	const uint64_t most = ordinary_cost() * 100; /* at most 272 records are in flight, and 32 are sent at once */
	rig_start(&r, &config);
	r.mss = 1; /* 64 is the least that is taken */
	rig_listen(&r);
	struct kit_segment seg = segment(&r, r.seq++, 0, "");
	seg.flags = KIT_SYN;
	seg.mss = 1;
	seg.has_sack_ok = true;
	rig_in_raw(&r, &seg);
	assert_true(rig_out(&r));
	r.ack = r.got.seq + 1;
	rig_ack(&r, r.ack);
	rig_events(&r);
	assert_int_equal(rig_info(&r).mss, 64);
	rig_make_big();
	tcp_write(r.c, bytes_of(rig_big, 60000));
	uint32_t una = r.ack;
	for (unsigned round = 0; round < 3000 && tcp_unacked(r.c) > 0; round++) {
		seg = segment(&r, r.seq, una, "");
		seg.sack_count = 4;
		for (unsigned i = 0; i < 4; i++) {
			random = random * 6364136223846793005ull + 1442695040888963407ull;
			const uint32_t from = (uint32_t)(random >> 40) % 270, n = 1 + (uint32_t)(random >> 33) % 3;
			seg.sack[i][0] = una + from * 64;
			seg.sack[i][1] = una + (from + n) * 64;
		}
		assert_in_range(cost_of(&r, &seg), 1, most);
		assert_in_range(stats(&r).buffered_bytes, 0, (65535 / 256 + 24) * 2304);
		if (round % 10 == 9)
			una += 64;
		if (round % 100 == 99)
			rig_wait(&r, 50000);
	}
	rig_end(&r);
}

/* ---- a long queue ---- */

#define MANY 3000 /* records in flight; a walk over all of them is what must not happen */

static struct rte_mempool *long_pool;

static void go_on(struct rig *r, uint64_t us)
{
	rig_wait(r, us);
	while (rig_out(r))
		;
}

/* A connection whose peer takes tiny segments and SACK, with so many of them in flight. */
static void begin_long_queue(struct rig *r)
{
	struct tcp_config config = rig_config();
	if (long_pool == NULL)
		long_pool = kit_pool("long", 4095);
	config.pool = long_pool;
	config.send_bytes_max = 1 << 20;
	config.buffer_bytes_max = 16 << 20;
	rig_start(r, &config);
	r->mss = 64;
	r->wscale = 4;
	r->has_sack = true;
	rig_accept(r);
	rig_ack(r, r->ack);
	r->c->cwnd = 1 << 20;
	r->c->last_send_us = r->now_us; /* it has not been idle */
	rig_make_big();
	for (uint32_t n = 0; n < MANY; n += 100)
		assert_int_equal(tcp_write(r->c, bytes_of(rig_big, 64 * 100)), 64 * 100);
	go_on(r, 0);
	assert_int_equal(r->c->snd_max - r->c->snd_una, MANY * 64);
}

/* An ACK of nothing new, with blocks of records. */
static uint64_t sack_cost(struct rig *r, unsigned count, const uint32_t records[][2])
{
	struct kit_segment seg = segment(r, r->seq, r->ack, "");
	seg.sack_count = count;
	for (unsigned i = 0; i < count; i++) {
		seg.sack[i][0] = r->ack + records[i][0] * 64;
		seg.sack[i][1] = r->ack + records[i][1] * 64;
	}
	return cost_of(r, &seg);
}

/* The first record is found lost again and again, the other that is lost is the last: whoever looks for it walks over all
 * that is in flight in between. The search ends after TCP_WALK_MAX of them, and finds it nevertheless. */
static void the_search_for_what_is_lost_is_bounded(void **state)
{
	const uint64_t most = ordinary_cost() * 20; /* all of them: 60 */
	struct rig r;
	begin_long_queue(&r);
	rig_wait(&r, 2000000); /* a timeout: all is lost, and all but the last is sent again */
	r.c->cwnd = (MANY - 1) * 64;
	tcp_dirty(r.c);
	go_on(&r, 0);
	assert_int_equal(r.c->flight->lost, 64);
	for (unsigned i = 0; i < 100; i++) {
		tcp_scoreboard_lost(r.c, r.c->send.head);
		r.c->cwnd = MANY * 64 - 64; /* for the first, not for the last */
		tcp_dirty(r.c);
		assert_in_range(sack_cost(&r, 0, NULL), 1, most);
		go_on(&r, 1000);
		assert_int_equal(r.c->flight->lost, 64);
	}
	r.c->cwnd = MANY * 64;
	go_on(&r, MANY / TCP_WALK_MAX * 2000);
	assert_int_equal(r.c->flight->lost, 0);
	rig_end(&r);
}

/* Blocks anywhere, all the time: every second record at last, so that nothing joins. */
static void a_storm_of_blocks_over_a_long_queue_costs_bounded_walks(void **state)
{
	const uint64_t most = ordinary_cost() * 40; /* 32 segments are sent at once */
	uint64_t random = 88172645463325252ull;
	struct rig r;
	begin_long_queue(&r);
	for (unsigned round = 0; round < 3000; round++) {
		uint32_t records[4][2];
		for (unsigned i = 0; i < 4; i++) {
			random = random * 6364136223846793005ull + 1442695040888963407ull;
			records[i][0] = 1 + 2 * ((uint32_t)(random >> 33) % (MANY / 2 - 2));
			records[i][1] = records[i][0] + 1;
		}
		assert_in_range(sack_cost(&r, 4, records), 1, most);
		if (round % 16 == 15)
			go_on(&r, round % 512 == 511 ? 2000000 : 2000);
	}
	assert_true(stats(&r).rto_fired > 0 && stats(&r).retransmits > 100);
	rig_end(&r);
}

/* ---- who holds on to what we have ---- */

/* Each asks for something and then takes nothing: window 0, or no ACK at all. We have closed; they are ended. */
static void hold(bool has_window)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_listen(&r);
	for (uint16_t i = 0; i < 8; i++) {
		r.remote_port = (uint16_t)(40000 + i);
		r.c = NULL;
		rig_in(&r, KIT_SYN, r.seq, 0, "");
		assert_true(rig_out(&r));
		r.window = has_window ? 60000 : 0;
		rig_in(&r, KIT_ACK, r.seq + 1, r.got.seq + 1, "");
		rig_events(&r);
		rig_make_big();
		tcp_write(r.c, bytes_of(rig_big, 10000));
		tcp_close(r.c);
		while (rig_out(&r))
			;
	}
	assert_int_equal(stats(&r).connections, 8);
	assert_true(stats(&r).buffered_bytes > 8 * 10000);
	for (unsigned s = 0; s < 700; s++) { /* window 0: each probe is answered, for 10 minutes */
		rig_wait(&r, 1000000);
		while (rig_out(&r))
			if (!has_window && !(r.got.flags & KIT_RST)) {
				r.remote_port = r.got.to;
				rig_in(&r, KIT_ACK, r.seq + 1, r.got.seq + 1, "");
			}
	}
	rig_events(&r);
	assert_int_equal(stats(&r).connections, 0);
	assert_int_equal(stats(&r).buffered_bytes, 0);
	rig_end(&r);
}

static void who_takes_nothing_is_ended(void **state)
{
	hold(true);
	hold(false);
}

/* Connections that say nothing: at the limit the next get no answer, those that are there work on. */
static void silent_connections_are_bounded(void **state)
{
	struct rig r;
	begin(&r, 60000);
	struct tcp_conn *mine = r.c;
	const uint16_t port = r.remote_port;
	const uint32_t seq = r.seq, ack = r.ack;
	for (uint16_t i = 0; i < 1000; i++) {
		r.remote_port = (uint16_t)(41000 + i);
		rig_in(&r, KIT_SYN, 1000, 0, "");
		while (rig_out(&r))
			;
		rig_in(&r, KIT_ACK, 1001, r.got.seq + 1, "");
		rig_events(&r);
	}
	assert_in_range(stats(&r).connections, 1, rig_config().connections_max);
	assert_true(rig_drops(&r, "connections_full") > 0);
	assert_int_equal(stats(&r).buffered_bytes, 0); /* and no buffers for them */
	r.c = mine;
	r.remote_port = port;
	r.seq = seq;
	r.ack = ack;
	rig_text(&r, "NOOP");
	rig_expect_read(&r, "NOOP");
	rig_end(&r);
}

/* ---- blind ---- */

static void icmp_ends_nothing_and_shrinks_little(void **state)
{
	struct rig r;
	begin(&r, 60000);
	const uint32_t first = fill_window(&r);
	uint8_t q[8] = {(uint8_t)(r.local_port >> 8), (uint8_t)r.local_port, (uint8_t)(r.remote_port >> 8),
		(uint8_t)r.remote_port};
	for (uint32_t i = 0; i < 100000; i++) {
		const uint32_t seq = i < 100 ? first + i * 100 : i * 42949u; /* those that guess right too */
		for (unsigned k = 0; k < 4; k++)
			q[4 + k] = (uint8_t)(seq >> (24 - 8 * k));
		tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), (enum tcp_icmp)(i % 3), 68, r.now_us);
	}
	assert_string_equal(rig_state(&r), "ESTABLISHED");
	assert_in_range(rig_info(&r).mss, 500, 1500); /* 576 and 1280 are the floors */
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_out_of_order_cost_a_bounded_walk),
		cmocka_unit_test(an_ack_in_pieces_opens_the_window_no_further),
		cmocka_unit_test(acks_of_what_was_not_sent_open_nothing),
		cmocka_unit_test(sack_blocks_over_tiny_segments_cost_a_bounded_walk),
		cmocka_unit_test(the_search_for_what_is_lost_is_bounded),
		cmocka_unit_test(a_storm_of_blocks_over_a_long_queue_costs_bounded_walks),
		cmocka_unit_test(who_takes_nothing_is_ended),
		cmocka_unit_test(silent_connections_are_bounded),
		cmocka_unit_test(icmp_ends_nothing_and_shrinks_little),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
