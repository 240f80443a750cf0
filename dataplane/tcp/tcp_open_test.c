// SPDX-License-Identifier: Apache-2.0
/* Opening: listeners, half-open connections, active and simultaneous opens, limits, what SYNs say. */
#include "dataplane/tcp/tcp_rig.h"

static void a_peer_opens_and_is_announced_once(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	struct tcp_stats stats;
	struct addr l, p;
	uint16_t lp, pp;
	rig_start(&r, &config);
	rig_accept(&r);
	tcp_endpoints(r.c, &l, &lp, &p, &pp);
	assert_true(addr_equal(&l, &r.local) && addr_equal(&p, &r.remote));
	assert_int_equal(lp, RIG_PORT);
	assert_int_equal(pp, 40000);
	assert_string_equal(rig_state(&r), "ESTABLISHED");
	tcp_get_stats(r.s, &stats);
	assert_int_equal(stats.connections, 1);
	assert_int_equal(stats.half_open, 0);
	assert_int_equal(stats.opened_passive, 1);
	rig_end(&r);
}

static void a_syn_ack_offers_what_the_syn_asked_for_and_no_more(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.receive_bytes_max = 1 << 20;
	rig_start(&r, &config);
	rig_listen(&r);
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	assert_true(rig_out(&r));
	assert_int_equal(r.got.mss, rig_is_ipv6 ? 1440 : 1460);
	assert_int_equal(r.got.wscale, -1);
	assert_false(r.got.has_ts);
	assert_int_equal(r.got.window, 65535);
	r.remote_port++;
	r.wscale = 3;
	r.has_ts = true;
	r.tsval = 777;
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	assert_true(rig_out(&r));
	assert_int_equal(r.got.wscale, 5); /* 65535 << 4 < 2^20 <= 65535 << 5 */
	assert_true(r.got.has_ts);
	assert_int_equal(r.got.tsecr, 777);
	rig_end(&r);
}

static void a_lost_syn_ack_is_sent_again_and_given_up_in_the_end(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	struct tcp_stats stats;
	unsigned sent = 0;
	rig_start(&r, &config);
	rig_listen(&r);
	rig_in(&r, KIT_SYN, r.seq++, 0, "");
	for (unsigned i = 0; i < 70; i++) {
		while (rig_out(&r)) {
			assert_int_equal(r.got.flags, KIT_SYN | KIT_ACK);
			sent++;
		}
		rig_wait(&r, 1000000);
	}
	assert_int_equal(sent, 5);
	tcp_get_stats(r.s, &stats);
	assert_int_equal(stats.half_open, 0);
	assert_true(tcp_next_due_us(r.s) == UINT64_MAX);
	rig_in(&r, KIT_ACK, r.seq, r.got.seq + 1, ""); /* too late */
	rig_expect(&r, KIT_RST, r.got.seq + 1, 0, "");
	rig_end(&r);
}

static void a_syn_again_gets_the_same_syn_ack(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_listen(&r);
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	assert_true(rig_out(&r));
	uint32_t iss = r.got.seq;
	rig_wait(&r, 5000);
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	rig_expect(&r, KIT_SYN | KIT_ACK, iss, r.seq + 1, "");
	assert_int_equal(rig_drops(&r, "duplicate_syn"), 1);
	rig_end(&r);
}

static void the_last_ack_may_carry_text_and_fin(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_listen(&r);
	rig_in(&r, KIT_SYN, r.seq++, 0, "");
	assert_true(rig_out(&r));
	r.ack = r.got.seq + 1;
	rig_in(&r, KIT_ACK | KIT_FIN, r.seq, r.ack, "EHLO");
	assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED | TCP_EVENT_READABLE | TCP_EVENT_FIN);
	rig_expect_read(&r, "EHLO");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 5, "");
	assert_string_equal(rig_state(&r), "CLOSE-WAIT");
	rig_end(&r);
}

static void half_open_connections_judge_segments_by_the_rules(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	struct tcp_stats stats;
	rig_start(&r, &config);
	rig_listen(&r);
	rig_in(&r, KIT_SYN, r.seq++, 0, "");
	assert_true(rig_out(&r));
	r.ack = r.got.seq + 1;
	rig_in(&r, KIT_ACK, r.seq, r.ack + 1, ""); /* acknowledges what was never sent */
	rig_expect(&r, KIT_RST, r.ack + 1, 0, "");
	rig_in(&r, KIT_ACK, r.seq - 5000, r.ack, ""); /* outside the window */
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_RST, r.seq + 1, 0, ""); /* inside, not at its edge */
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_RST, r.seq + 60000, 0, "");
	rig_expect_nothing(&r);
	tcp_get_stats(r.s, &stats);
	assert_int_equal(stats.half_open, 1);
	rig_in(&r, KIT_RST, r.seq, 0, "");
	rig_expect_nothing(&r);
	tcp_get_stats(r.s, &stats);
	assert_int_equal(stats.half_open, 0);
	assert_int_equal(rig_events(&r), 0);
	rig_end(&r);
}

static void the_limit_of_connections_gets_no_answer(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.connections_max = 3;
	rig_start(&r, &config);
	rig_listen(&r);
	for (unsigned i = 0; i < 2; i++) {
		r.remote_port = (uint16_t)(40000 + i);
		rig_in(&r, KIT_SYN, r.seq, 0, "");
		assert_true(rig_out(&r));
	}
	r.ack = r.got.seq + 1;
	rig_in(&r, KIT_ACK, r.seq + 1, r.ack, "");
	r.remote_port = 40002;
	rig_in(&r, KIT_SYN, r.seq, 0, ""); /* one open, two half */
	assert_true(rig_out(&r));
	r.remote_port = 40003;
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	rig_expect_nothing(&r);
	assert_int_equal(rig_drops(&r, "connections_full"), 1);
	int error = 0;
	assert_null(tcp_connect(r.s, &r.local, &r.remote, 25, NULL, &error, r.now_us));
	assert_int_equal(error, -ENOBUFS);
	rig_end(&r);
}

static void listeners_are_found_by_address_then_by_family(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	struct addr any4, any6;
	rig_start(&r, &config);
	assert_true(addr_parse("0.0.0.0", &any4) && addr_parse("::", &any6));
	assert_int_equal(tcp_listen(r.s, rig_is_ipv6 ? &any4 : &any6, 25, 1), 0);
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	rig_expect(&r, KIT_RST | KIT_ACK, 0, r.seq + 1, "");
	assert_int_equal(tcp_listen(r.s, rig_is_ipv6 ? &any6 : &any4, 25, 2), 0);
	assert_int_equal(tcp_listen(r.s, rig_is_ipv6 ? &any6 : &any4, 25, 3), -EADDRINUSE);
	assert_int_equal(tcp_listen(r.s, &r.local, 25, RIG_TAG), 0);
	tcp_unlisten(r.s, &r.local, 25);
	rig_accept(&r); /* listens again, with the tag it expects */
	tcp_unlisten(r.s, &r.local, 25);
	tcp_unlisten(r.s, rig_is_ipv6 ? &any6 : &any4, 25);
	r.remote_port++;
	rig_in(&r, KIT_SYN, r.seq, 0, "");
	rig_expect(&r, KIT_RST | KIT_ACK, 0, r.seq + 1, "");
	assert_string_equal(rig_state(&r), "ESTABLISHED");
	for (uint16_t port = 1; port < 64; port++)
		assert_int_equal(tcp_listen(r.s, &r.local, (uint16_t)(port + 100), 0), 0);
	assert_int_equal(tcp_listen(r.s, &r.local, 98, 0), -ENOSPC);
	rig_end(&r);
}

static void segments_to_nobody_get_the_reset_of_the_rfc(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_in(&r, KIT_SYN, r.seq, 0, "x");
	rig_expect(&r, KIT_RST | KIT_ACK, 0, r.seq + 2, "");
	rig_in(&r, KIT_ACK, 5, 6, "text");
	rig_expect(&r, KIT_RST, 6, 0, "");
	rig_in(&r, KIT_RST, 5, 6, "");
	rig_in(&r, KIT_RST | KIT_ACK, 5, 6, "");
	rig_expect_nothing(&r);
	rig_listen(&r);
	rig_in(&r, KIT_ACK, 5, 6, "");
	rig_expect(&r, KIT_RST, 6, 0, "");
	rig_in(&r, KIT_FIN, 5, 6, "");
	rig_expect_nothing(&r);
	assert_int_equal(rig_drops(&r, "bad_flags"), 1);
	rig_end(&r);
}

static void malformed_segments_are_counted_and_forgotten(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	uint8_t b[128] = {0};
	static const struct {
		size_t n;
		uint8_t offset;
		const char *drop;
	} cases[] = {
		{19, 0x50, "short_header"}, {0, 0x50, "short_header"}, {20, 0x40, "bad_offset"}, {20, 0x00, "bad_offset"},
		{20, 0x60, "bad_offset"}, {59, 0xf0, "bad_offset"}, {60, 0xf0, "bad_checksum"}, {20, 0x50, "bad_checksum"},
	};
	rig_start(&r, &config);
	rig_listen(&r);
	const struct tcp_arrival a = {r.local, r.remote, false, 0};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const uint64_t before = rig_drops(&r, cases[i].drop);
		b[0] = 1;
		b[12] = cases[i].offset;
		tcp_input(r.s, kit_mbuf(rig_pool(false), bytes_of(b, cases[i].n), 7), &a, r.now_us);
		assert_int_equal(rig_drops(&r, cases[i].drop), before + 1);
	}
	r.remote_port = 0;
	rig_in(&r, KIT_SYN, 1, 0, "");
	assert_int_equal(rig_drops(&r, "bad_port"), 1);
	r.remote_port = 1;
	r.remote = r.local;
	r.remote_port = r.local_port;
	rig_in(&r, KIT_SYN, 1, 0, "");
	addr_parse(rig_is_ipv6 ? "ff02::1" : "224.0.0.1", &r.remote);
	rig_in(&r, KIT_SYN, 1, 0, "");
	assert_int_equal(rig_drops(&r, "bad_address"), 2);
	rig_expect_nothing(&r);
	rig_end(&r);
}

/* Every list of options of up to eight bytes from a small alphabet: read or not, never beyond its end. */
static void no_list_of_options_confuses_the_parser(void **state)
{
	static const uint8_t alphabet[] = {0, 1, 2, 3, 4, 8, 10, 255};
	struct rig r;
	struct tcp_config config = rig_config();
	config.half_open_max = 0;
	struct tcp_departure d;
	rig_start(&r, &config);
	rig_listen(&r);
	const struct tcp_arrival a = {r.local, r.remote, true, 0};
	for (unsigned n = 0; n < 8u * 8 * 8 * 8 * 8; n++) {
		uint8_t b[28] = {1, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 0x70, KIT_SYN, 0xff, 0xff};
		for (unsigned k = 0, left = n; k < 8; k++, left /= 8)
			b[20 + k] = alphabet[left % 8];
		tcp_input(r.s, kit_mbuf(rig_pool(false), bytes_of(b, sizeof b), 0), &a, r.now_us);
		assert_true(tcp_take(r.s, &d, 1) == 1); /* nothing is kept: a cookie */
		rte_pktmbuf_free(d.m);
	}
	rig_end(&r);
}

static void an_active_open_completes(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	assert_true(r.got.has_ts);
	assert_int_equal(r.got.wscale, 0);
	assert_int_equal(rig_events(&r), 0);
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq++, r.ack, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_CONNECTED);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_false(r.got.has_ts); /* the peer did not want it */
	rig_end(&r);
}

static void text_in_a_syn_ack_is_read(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq++, r.ack, "220 ");
	assert_int_equal(rig_events(&r), TCP_EVENT_CONNECTED | TCP_EVENT_READABLE);
	rig_expect_read(&r, "220 ");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 4, "");
	rig_end(&r);
}

static void what_was_written_while_opening_follows_the_handshake(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	assert_int_equal(rig_write(&r, "EHLO"), 4);
	rig_expect_nothing(&r);
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq++, r.ack, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "EHLO");
	rig_end(&r);
}

static void syn_sent_answers_by_the_rules(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	rig_in(&r, KIT_ACK, r.seq, r.ack + 1, "");
	rig_expect(&r, KIT_RST, r.ack + 1, 0, "");
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq, r.ack - 1, "");
	rig_expect(&r, KIT_RST, r.ack - 1, 0, "");
	rig_in(&r, KIT_RST | KIT_ACK, r.seq, r.ack + 1, "");
	rig_in(&r, KIT_RST, r.seq, 0, "");
	rig_in(&r, KIT_ACK, r.seq, r.ack, "");
	rig_expect_nothing(&r);
	assert_int_equal(rig_events(&r), 0);
	rig_in(&r, KIT_RST | KIT_ACK, 12345, r.ack, ""); /* no test of SEG.SEQ: erratum 8167 */
	assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
	assert_int_equal(r.end, TCP_END_REFUSED);
	rig_end(&r);
}

static void an_unanswered_syn_is_sent_again_for_three_minutes(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	unsigned sent = 1;
	rig_start(&r, &config);
	rig_connect(&r);
	const uint64_t start = r.now_us;
	while (!(rig_events(&r) & TCP_EVENT_ENDED)) {
		rig_wait(&r, 1000000);
		while (rig_out(&r)) {
			assert_int_equal(r.got.flags, KIT_SYN);
			assert_int_equal(r.got.seq, r.ack - 1);
			sent++;
		}
	}
	assert_int_equal(r.end, TCP_END_TIMEOUT);
	assert_true(r.now_us - start >= 180000000 && r.now_us - start < 260000000);
	assert_true(sent >= 7);
	rig_end(&r);
}

static void both_may_open_at_once(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	rig_in(&r, KIT_SYN, r.seq++, 0, "");
	rig_expect(&r, KIT_SYN | KIT_ACK, r.ack - 1, r.seq, "");
	assert_string_equal(rig_state(&r), "SYN-RECEIVED");
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq - 1, r.ack, ""); /* its own SYN-ACK crosses ours */
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_ACK, r.seq, r.ack, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_CONNECTED);
	rig_text(&r, "hi");
	rig_events(&r);
	rig_expect_read(&r, "hi");
	rig_end(&r);
}

static void a_simultaneous_open_can_be_closed_before_it_is_done(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	rig_in(&r, KIT_SYN, r.seq++, 0, "");
	rig_expect(&r, KIT_SYN | KIT_ACK, r.ack - 1, r.seq, "");
	tcp_close(r.c);
	rig_expect_nothing(&r);
	rig_in(&r, KIT_ACK, r.seq, r.ack, "");
	rig_expect(&r, KIT_ACK | KIT_FIN, r.ack, r.seq, "");
	assert_string_equal(rig_state(&r), "FIN-WAIT-1");
	rig_end(&r);
}

static void closing_while_opening_is_the_end(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	tcp_close(r.c);
	assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
	assert_int_equal(r.end, TCP_END_ABORTED);
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq, r.ack, "");
	rig_expect(&r, KIT_RST, r.ack, 0, "");
	rig_end(&r);
}

static void source_ports_are_ours_free_and_not_in_order(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	uint16_t ports[5];
	int error;
	rig_start(&r, &config);
	r.owned_modulo = 16;
	r.remote_port = 25;
	for (unsigned i = 0; i < 5; i++) {
		assert_non_null(tcp_connect(r.s, &r.local, &r.remote, (uint16_t)(25 + i / 3), NULL, &error, r.now_us));
		assert_true(rig_out(&r));
		ports[i] = r.got.from;
		assert_true(ports[i] >= 10000 && ports[i] % 16 == 0);
		for (unsigned k = 0; k < i; k++)
			assert_true(ports[k] != ports[i] || k / 3 != i / 3);
	}
	r.owned_modulo = 65536 + 7; /* nobody's */
	assert_null(tcp_connect(r.s, &r.local, &r.remote, 25, NULL, &error, r.now_us));
	assert_int_equal(error, -EADDRNOTAVAIL);
	rig_end(&r);
}

static void initial_sequence_numbers_differ_by_peer_and_move_with_time(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	uint32_t iss[3];
	rig_start(&r, &config);
	rig_listen(&r);
	for (unsigned i = 0; i < 3; i++) {
		r.remote_port = (uint16_t)(40000 + i % 2);
		rig_in(&r, KIT_SYN, 5, 0, "");
		assert_true(rig_out(&r));
		iss[i] = r.got.seq;
		rig_in(&r, KIT_RST, 6, 0, "");
		if (i == 1)
			rig_wait(&r, 4000000);
	}
	assert_int_not_equal(iss[0], iss[1]);
	assert_int_equal(iss[2] - iss[0], 1000000); /* 4 us a step */
	rig_end(&r);
}

static void the_segment_size_respects_peer_path_and_options(void **state)
{
	static const struct {
		uint16_t mtu, peer;
		bool ts;
		uint16_t mss4, mss6;
	} cases[] = {
		{1500, 1460, false, 1460, 1440}, {1500, 536, false, 536, 536}, {1400, 1460, false, 1360, 1340},
		{1500, 1460, true, 1448, 1428}, {1500, 0, false, 536, 1220}, {1500, 1, false, 64, 64},
		{100, 1460, false, 536, 1220}, {9000, 9000, false, 2048, 2048},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct rig r;
		struct tcp_config config = rig_config();
		struct tcp_info info;
		rig_start(&r, &config);
		r.mtu = cases[i].mtu;
		r.mss = cases[i].peer;
		r.has_ts = cases[i].ts;
		rig_accept(&r);
		tcp_get_info(r.c, &info);
		assert_int_equal(info.mss, rig_is_ipv6 ? cases[i].mss6 : cases[i].mss4);
		rig_end(&r);
	}
}

static void quoted(uint8_t q[8], const struct rig *r, uint32_t seq)
{
	const uint8_t b[8] = {(uint8_t)(r->local_port >> 8), (uint8_t)r->local_port, (uint8_t)(r->remote_port >> 8),
		(uint8_t)r->remote_port, (uint8_t)(seq >> 24), (uint8_t)(seq >> 16), (uint8_t)(seq >> 8), (uint8_t)seq};
	memcpy(q, b, 8);
}

static void a_hard_icmp_error_ends_only_what_is_opening(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	uint8_t q[8];
	rig_start(&r, &config);
	rig_connect(&r);
	quoted(q, &r, r.ack + 77); /* not in flight: anybody's guess */
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_HARD, 0, r.now_us);
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 7), TCP_ICMP_HARD, 0, r.now_us);
	assert_int_equal(rig_drops(&r, "icmp_unmatched"), 2);
	quoted(q, &r, r.ack - 1);
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_SOFT, 0, r.now_us);
	assert_int_equal(rig_events(&r), 0);
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_HARD, 0, r.now_us);
	assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
	assert_int_equal(r.end, TCP_END_UNREACHABLE);
	rig_end(&r);

	rig_start(&r, &config);
	rig_accept(&r);
	rig_write(&r, "x");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "x");
	quoted(q, &r, r.ack);
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_HARD, 0, r.now_us);
	assert_int_equal(rig_events(&r), 0);
	rig_end(&r);
}

static void a_soft_error_is_the_reason_only_when_it_is_given_up(void **state)
{
	for (unsigned acked = 0; acked < 2; acked++) {
		struct rig r;
		struct tcp_config config = rig_config();
		uint8_t q[8];
		rig_start(&r, &config);
		rig_accept(&r);
		rig_write(&r, "one");
		rig_expect(&r, KIT_ACK, r.ack, r.seq, "one");
		quoted(q, &r, r.ack);
		tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_SOFT, 0, r.now_us);
		if (acked) { /* it was over */
			rig_in(&r, KIT_ACK, r.seq, r.ack + 3, "");
			rig_write(&r, "two");
		}
		assert_int_equal(rig_events(&r), 0);
		for (unsigned i = 0; i < 400; i++) {
			rig_wait(&r, 1000000);
			while (rig_out(&r))
				;
		}
		assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
		assert_int_equal(r.end, acked ? TCP_END_TIMEOUT : TCP_END_UNREACHABLE);
		rig_end(&r);
	}
}

static void a_smaller_path_is_believed_down_to_a_floor(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	uint8_t q[8];
	char text[1440];
	memset(text, 'a', sizeof text);
	rig_start(&r, &config);
	rig_accept(&r);
	assert_int_equal(tcp_write(r.c, bytes_of(text, sizeof text)), sizeof text);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.text.n, 1440);
	quoted(q, &r, r.ack);
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_TOO_BIG, 1400, r.now_us);
	assert_true(rig_out(&r)); /* at once again, in smaller pieces */
	const size_t first = r.got.text.n;
	assert_int_equal(r.got.seq, r.ack);
	assert_int_equal(first, rig_is_ipv6 ? 1340 : 1360);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.text.n, 1440 - first);
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_TOO_BIG, 68, r.now_us);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.text.n, rig_is_ipv6 ? 1220 : 536);
	tcp_icmp_error(r.s, &r.local, &r.remote, bytes_of(q, 8), TCP_ICMP_TOO_BIG, 9000, r.now_us);
	struct tcp_info info;
	tcp_get_info(r.c, &info);
	assert_int_equal(info.mss, rig_is_ipv6 ? 1220 : 536);
	rig_end(&r);
}

static void every_drop_reason_has_a_name_and_a_sentence(void **state)
{
	assert_true(tcp_drop_count() > 10 && tcp_drop_count() <= 64);
	for (unsigned i = 0; i < tcp_drop_count(); i++) {
		const char *help = tcp_drop_help(i);
		assert_true(strlen(tcp_drop_name(i)) > 2);
		assert_true(help[strlen(help) - 1] == '.');
	}
	assert_string_equal(tcp_drop_name(64), "unknown");
}

static void an_impossible_configuration_is_refused(void **state)
{
	struct tcp_config config = rig_config();
	config.connections_max = 0;
	assert_null(tcp_stack_create(&config, 0));
	config = rig_config();
	config.mtu = NULL;
	assert_null(tcp_stack_create(&config, 0));
	config = rig_config();
	config.pool = NULL;
	assert_null(tcp_stack_create(&config, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_peer_opens_and_is_announced_once),
		cmocka_unit_test(a_syn_ack_offers_what_the_syn_asked_for_and_no_more),
		cmocka_unit_test(a_lost_syn_ack_is_sent_again_and_given_up_in_the_end),
		cmocka_unit_test(a_syn_again_gets_the_same_syn_ack),
		cmocka_unit_test(the_last_ack_may_carry_text_and_fin),
		cmocka_unit_test(half_open_connections_judge_segments_by_the_rules),
		cmocka_unit_test(the_limit_of_connections_gets_no_answer),
		cmocka_unit_test(listeners_are_found_by_address_then_by_family),
		cmocka_unit_test(segments_to_nobody_get_the_reset_of_the_rfc),
		cmocka_unit_test(malformed_segments_are_counted_and_forgotten),
		cmocka_unit_test(no_list_of_options_confuses_the_parser),
		cmocka_unit_test(an_active_open_completes),
		cmocka_unit_test(text_in_a_syn_ack_is_read),
		cmocka_unit_test(what_was_written_while_opening_follows_the_handshake),
		cmocka_unit_test(syn_sent_answers_by_the_rules),
		cmocka_unit_test(an_unanswered_syn_is_sent_again_for_three_minutes),
		cmocka_unit_test(both_may_open_at_once),
		cmocka_unit_test(a_simultaneous_open_can_be_closed_before_it_is_done),
		cmocka_unit_test(closing_while_opening_is_the_end),
		cmocka_unit_test(source_ports_are_ours_free_and_not_in_order),
		cmocka_unit_test(initial_sequence_numbers_differ_by_peer_and_move_with_time),
		cmocka_unit_test(the_segment_size_respects_peer_path_and_options),
		cmocka_unit_test(a_hard_icmp_error_ends_only_what_is_opening),
		cmocka_unit_test(a_soft_error_is_the_reason_only_when_it_is_given_up),
		cmocka_unit_test(a_smaller_path_is_believed_down_to_a_floor),
		cmocka_unit_test(every_drop_reason_has_a_name_and_a_sentence),
		cmocka_unit_test(an_impossible_configuration_is_refused),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
