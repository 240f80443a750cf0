// SPDX-License-Identifier: Apache-2.0
/* SYN floods: what the SYN cache keeps, who makes room, and what a cookie carries. */
#include "dataplane/tcp/tcp_rig.h"

static struct tcp_stats stats(const struct rig *r)
{
	struct tcp_stats s;
	tcp_get_stats(r->s, &s);
	return s;
}

/* A SYN from another port; the answer is in r->got. */
static void syn_from(struct rig *r, uint16_t port)
{
	r->remote_port = port;
	rig_in(r, KIT_SYN, r->seq, 0, "");
	assert_true(rig_out(r));
	assert_int_equal(r->got.flags, KIT_SYN | KIT_ACK);
	assert_int_equal(r->got.ack, r->seq + 1);
	r->ack = r->got.seq + 1;
}

static void fill(struct rig *r)
{
	rig_listen(r);
	for (uint16_t i = 0; i < 4; i++)
		syn_from(r, (uint16_t)(50000 + i));
	assert_int_equal(stats(r).half_open, 4);
	assert_int_equal(stats(r).cookies_sent, 0);
}

/* As after a flood that has filled the cache in this moment. */
static void start(struct rig *r)
{
	struct tcp_config config = rig_config();
	rig_start(r, &config);
	fill(r);
}

/* What a peer with timestamps sends after the SYN-ACK. */
static void ack_echoing(struct rig *r, uint32_t tsecr, const char *text)
{
	const struct kit_segment seg = {
		.from = r->remote_port,
		.to = r->local_port,
		.seq = r->seq + 1,
		.ack = r->ack,
		.flags = KIT_ACK,
		.window = r->window,
		.wscale = -1,
		.has_ts = true,
		.tsval = r->tsval + 1,
		.tsecr = tsecr,
		.text = bytes_of_string(text),
	};
	rig_in_raw(r, &seg);
}

static void a_full_cache_answers_with_cookies_and_keeps_its_entries(void **state)
{
	struct rig r;
	start(&r);
	const uint32_t ack = r.ack;
	for (uint16_t i = 0; i < 100; i++)
		syn_from(&r, (uint16_t)(51000 + i));
	assert_int_equal(stats(&r).cookies_sent, 100);
	assert_int_equal(stats(&r).half_open, 4);
	assert_int_equal(stats(&r).half_open_evicted, 0);
	r.remote_port = 50003;
	rig_in(&r, KIT_ACK, r.seq + 1, ack, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
	assert_int_equal(stats(&r).cookies_accepted, 0);
	rig_end(&r);
}

static void a_cookie_opens_a_connection(void **state)
{
	struct rig r;
	start(&r);
	syn_from(&r, 40000);
	assert_int_equal(r.got.wscale, -1); /* nothing could carry it */
	assert_false(r.got.has_ts);
	rig_in(&r, KIT_ACK, r.seq + 1, r.ack, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
	assert_int_equal(tcp_tag(r.c), RIG_TAG);
	assert_int_equal(stats(&r).cookies_accepted, 1);
	rig_write(&r, "220 ready");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 1, "220 ready");
	r.seq++;
	r.ack += 9;
	rig_text(&r, "EHLO");
	rig_expect_read(&r, "EHLO");
	rig_end(&r);
}

static void a_cookie_carries_the_segment_size(void **state)
{
	static const struct {
		uint16_t said, kept4, kept6;
	} cases[] = {
		{1460, 1460, 1440}, {1459, 1452, 1440}, {1440, 1440, 1440}, {1400, 1400, 1400}, {1220, 1220, 1220},
		{1219, 536, 536}, {536, 536, 536}, {535, 64, 64}, {1, 64, 64}, {0, 536, 1220}, {65535, 1460, 1440},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct rig r;
		struct tcp_info info;
		start(&r);
		r.mss = cases[i].said;
		syn_from(&r, 40000);
		rig_in(&r, KIT_ACK, r.seq + 1, r.ack, "");
		assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
		tcp_get_info(r.c, &info);
		assert_int_equal(info.mss, rig_is_ipv6 ? cases[i].kept6 : cases[i].kept4);
		rig_end(&r);
	}
}

static void timestamps_carry_the_window_scale(void **state)
{
	for (int wscale = -1; wscale <= 14; wscale++) {
		struct rig r;
		struct tcp_info info;
		start(&r);
		r.has_ts = true;
		r.tsval = 1000;
		r.wscale = wscale;
		rig_wait(&r, 777000u + 13000u * (unsigned)(wscale + 1)); /* the clock stands anywhere */
		while (rig_out(&r))
			;
		syn_from(&r, 40000);
		assert_int_equal(stats(&r).cookies_sent, 1);
		assert_int_equal(r.got.tsecr, 1000);
		assert_int_equal(r.got.wscale, wscale < 0 ? -1 : 0); /* ours: 16 KB need none */
		const uint32_t cookie_ts = r.got.tsval;
		r.window = 1000;
		ack_echoing(&r, cookie_ts, "");
		assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
		tcp_get_info(r.c, &info);
		assert_int_equal(info.snd_wnd, 1000u << (wscale < 0 ? 0 : wscale));
		rig_write(&r, "x");
		rig_expect(&r, KIT_ACK, r.ack, r.seq + 1, "x");
		assert_true(r.got.has_ts);
		assert_int_equal(r.got.tsecr, 1001);
		assert_true((int32_t)(r.got.tsval - cookie_ts) >= 0); /* our clock has not gone back */
		rig_end(&r);
	}
}

static void an_echo_that_was_never_sent_is_no_cookie(void **state)
{
	static const int32_t off[] = {1, 64, 128, 1 << 20, -129 * 1000, 1 << 30};
	for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
		struct rig r;
		start(&r);
		r.has_ts = true;
		syn_from(&r, 40000);
		/* up to the next 64 ms: the SYN-ACK's bits lie there */
		ack_echoing(&r, r.got.tsval + (uint32_t)off[i] + (off[i] > 0 ? 64 : 0), "");
		assert_int_equal(rig_events(&r), 0);
		assert_int_equal(rig_drops(&r, "cookie_refused"), 1);
		rig_expect(&r, KIT_RST, r.ack, 0, "");
		rig_end(&r);
	}
}

static void text_or_a_probe_opens_where_the_last_ack_was_lost(void **state)
{
	struct rig r;
	start(&r);
	syn_from(&r, 40000);
	rig_in(&r, KIT_ACK | KIT_PSH, r.seq + 1, r.ack, "EHLO");
	assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED | TCP_EVENT_READABLE);
	rig_expect_read(&r, "EHLO");
	rig_end(&r);
	for (unsigned with_byte = 0; with_byte < 2; with_byte++) { /* RFC 9293 3.8.4 */
		start(&r);
		syn_from(&r, 40000);
		rig_wait(&r, 60000000);
		while (rig_out(&r))
			;
		rig_in(&r, KIT_ACK, r.seq, r.ack, with_byte ? "?" : "");
		assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
		assert_int_equal(tcp_peek(r.c).n, 0);
		rig_write(&r, "220");
		rig_expect(&r, KIT_ACK, r.ack, r.seq + 1, "220");
		rig_end(&r);
	}
}

static void a_cookie_is_good_for_its_period_and_the_next(void **state)
{
	for (unsigned periods = 0; periods < 3; periods++) {
		struct rig r;
		start(&r);
		rig_wait(&r, 128000000 - r.now_us % 64000000); /* the first moment of a period; the cache is empty */
		while (rig_out(&r))
			;
		for (uint16_t i = 0; i < 4; i++)
			syn_from(&r, (uint16_t)(50000 + i));
		syn_from(&r, 40000);
		const uint32_t ack = r.ack;
		rig_wait(&r, 64000000ull * periods + 63999000);
		while (rig_out(&r))
			;
		const bool is_good = periods < 2;
		rig_in(&r, KIT_ACK, r.seq + 1, ack, "");
		assert_int_equal(rig_events(&r), is_good ? TCP_EVENT_ACCEPTED : 0);
		assert_int_equal(rig_out(&r), !is_good);
		rig_end(&r);
	}
}

static void nobody_elses_cookie_opens_anything(void **state)
{
	struct rig r;
	struct addr other;
	start(&r);
	syn_from(&r, 40000);
	const uint32_t ack = r.ack;
	unsigned refused = 0;
	for (unsigned bit = 0; bit < 32; bit++, refused++) { /* the last three say the segment's size */
		if (bit < 3)
			continue;
		rig_in(&r, KIT_ACK, r.seq + 1, ack ^ 1u << bit, "");
		rig_expect(&r, KIT_RST, ack ^ 1u << bit, 0, "");
	}
	rig_in(&r, KIT_ACK, r.seq + 2, ack, "");
	rig_expect(&r, KIT_RST, ack, 0, "");
	rig_in(&r, KIT_ACK | KIT_SYN, r.seq + 1, ack, "");
	rig_expect(&r, KIT_RST, ack, 0, "");
	r.remote_port = 40001;
	rig_in(&r, KIT_ACK, r.seq + 1, ack, "");
	rig_expect(&r, KIT_RST, ack, 0, "");
	r.remote_port = 40000;
	other = r.remote;
	addr_parse(rig_is_ipv6 ? "2001:db8:1::a" : "198.51.100.10", &r.remote);
	rig_in(&r, KIT_ACK, r.seq + 1, ack, "");
	rig_expect(&r, KIT_RST, ack, 0, "");
	assert_int_equal(stats(&r).cookies_refused, 29 + 4);
	r.remote = other;
	rig_in(&r, KIT_ACK, r.seq + 1, ack, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
	rig_end(&r);
}

static void while_none_are_out_no_ack_is_taken_for_a_cookie(void **state)
{
	struct rig r;
	start(&r);
	syn_from(&r, 40000);
	const uint32_t ack = r.ack;
	rig_wait(&r, 200000000);
	while (rig_out(&r))
		;
	rig_in(&r, KIT_ACK, r.seq + 1, ack, "");
	rig_expect(&r, KIT_RST, ack, 0, "");
	assert_int_equal(rig_drops(&r, "not_listening_for"), 1);
	assert_int_equal(stats(&r).cookies_refused, 0);
	rig_end(&r);
}

static void a_cookie_finds_no_room_and_is_told_so(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.connections_max = 5;
	rig_start(&r, &config);
	fill(&r);
	syn_from(&r, 40000);
	const uint32_t ack = r.ack;
	int error;
	assert_non_null(tcp_connect(r.s, &r.local, &r.remote, 26, NULL, &error, r.now_us));
	assert_true(rig_out(&r));
	rig_in(&r, KIT_ACK, r.seq + 1, ack, "");
	assert_true(rig_out(&r));
	assert_int_equal(r.got.flags, KIT_RST);
	assert_int_equal(rig_drops(&r, "connections_full"), 1);
	rig_end(&r);
}

static void a_cookie_is_good_though_a_later_syn_found_room(void **state)
{
	struct rig r;
	start(&r);
	syn_from(&r, 40000);
	const uint32_t ack = r.ack;
	r.remote_port = 50000;
	rig_in(&r, KIT_RST, r.seq + 1, 0, "");
	syn_from(&r, 40000);
	assert_int_not_equal(r.ack, ack);
	assert_int_equal(stats(&r).half_open, 4);
	rig_in(&r, KIT_ACK, r.seq + 1, ack, ""); /* it took the first SYN-ACK */
	assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
	assert_int_equal(stats(&r).half_open, 3);
	r.ack = ack;
	r.seq++;
	rig_text(&r, "EHLO");
	rig_expect_read(&r, "EHLO");
	rig_end(&r);
}

static void stale_entries_make_room_the_oldest_first(void **state)
{
	struct rig r;
	start(&r);
	rig_wait(&r, 2900000);
	while (rig_out(&r))
		;
	syn_from(&r, 40000);
	assert_int_equal(stats(&r).cookies_sent, 1); /* sent twice: maybe answered yet */
	rig_wait(&r, 200000);
	while (rig_out(&r))
		;
	syn_from(&r, 40001); /* sent three times */
	assert_int_equal(stats(&r).cookies_sent, 1);
	assert_int_equal(stats(&r).half_open_evicted, 1);
	assert_int_equal(stats(&r).half_open, 4);
	r.remote_port = 50000;
	rig_in(&r, KIT_ACK, r.seq + 1, 1, "");
	rig_expect(&r, KIT_RST, 1, 0, ""); /* it was the oldest */
	for (uint16_t i = 2; i < 5; i++)
		syn_from(&r, (uint16_t)(40000 + i));
	syn_from(&r, 40005);
	assert_int_equal(stats(&r).cookies_sent, 2); /* none is stale any more */
	rig_end(&r);
}

/* The whole cache is due in one moment: not more than half of what can be on its way at once. */
static void syn_acks_sent_again_leave_room_for_others(void **state)
{
	static struct rte_mempool *pool;
	struct rig r;
	struct tcp_config config = rig_config();
	unsigned sent = 0, most = 0;
	pool = pool != NULL ? pool : kit_pool("many", 1023);
	config.connections_max = config.half_open_max = 2000;
	config.control_pool = pool;
	rig_start(&r, &config);
	rig_listen(&r);
	for (uint16_t i = 0; i < 2000; i++)
		syn_from(&r, (uint16_t)(20000 + i));
	r.now_us += 1000000;
	while (tcp_next_due_us(r.s) <= r.now_us) {
		unsigned n = 0;
		tcp_tick(r.s, r.now_us);
		for (struct tcp_departure d; tcp_take(r.s, &d, 1) == 1; n++)
			rte_pktmbuf_free(d.m);
		most = n > most ? n : most;
		sent += n;
	}
	assert_int_equal(sent, 2000);
	assert_int_equal(most, 512);
	assert_int_equal(stats(&r).half_open, 2000);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_cache_answers_with_cookies_and_keeps_its_entries),
		cmocka_unit_test(a_cookie_opens_a_connection),
		cmocka_unit_test(a_cookie_carries_the_segment_size),
		cmocka_unit_test(timestamps_carry_the_window_scale),
		cmocka_unit_test(an_echo_that_was_never_sent_is_no_cookie),
		cmocka_unit_test(text_or_a_probe_opens_where_the_last_ack_was_lost),
		cmocka_unit_test(a_cookie_is_good_for_its_period_and_the_next),
		cmocka_unit_test(nobody_elses_cookie_opens_anything),
		cmocka_unit_test(while_none_are_out_no_ack_is_taken_for_a_cookie),
		cmocka_unit_test(a_cookie_finds_no_room_and_is_told_so),
		cmocka_unit_test(a_cookie_is_good_though_a_later_syn_found_room),
		cmocka_unit_test(stale_entries_make_room_the_oldest_first),
		cmocka_unit_test(syn_acks_sent_again_leave_room_for_others),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
