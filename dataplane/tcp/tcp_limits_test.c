// SPDX-License-Identifier: Apache-2.0
/* Limits: connections for peers and for us, memory that runs short, slots that are touched when they are needed. */
#include "dataplane/tcp/tcp_rig.h"

#define BUFFER RTE_MBUF_DEFAULT_BUF_SIZE

static struct tcp_stats stats(const struct rig *r)
{
	struct tcp_stats s;
	tcp_get_stats(r->s, &s);
	return s;
}

/* Some connections from ports of their own; the numbers of each are kept apart. */
struct peer {
	uint32_t seq, ack;
	struct tcp_conn *c;
};

static void accept_from(struct rig *r, struct peer *p, uint16_t port)
{
	uint32_t events;
	r->remote_port = port;
	p->seq = 1000;
	rig_in(r, KIT_SYN, p->seq++, 0, "");
	assert_true(rig_out(r));
	assert_int_equal(r->got.flags, KIT_SYN | KIT_ACK);
	p->ack = r->got.seq + 1;
	rig_in(r, KIT_ACK, p->seq, p->ack, "");
	p->c = tcp_next_event(r->s, &events);
	assert_non_null(p->c);
	assert_int_equal(events, TCP_EVENT_ACCEPTED);
	rig_expect_nothing(r);
}

/* One byte each, and one left out between: each holds a buffer. */
static void hold(struct rig *r, const struct peer *p, uint16_t port, unsigned from, unsigned to)
{
	r->remote_port = port;
	for (unsigned i = from; i < to; i++)
		rig_in(r, KIT_ACK, p->seq + 1 + 2 * i, p->ack, "x");
	while (rig_out(r))
		;
}

static void peers_cannot_take_what_is_kept_for_us(void **state)
{
	struct rig r;
	struct peer p[2];
	struct tcp_config config = rig_config();
	int error;
	config.connections_max = 4;
	config.inbound_max = 2;
	rig_start(&r, &config);
	rig_listen(&r);
	accept_from(&r, &p[0], 40000);
	r.remote_port = 40001;
	rig_in(&r, KIT_SYN, 5, 0, "");
	assert_true(rig_out(&r)); /* half-open ones count */
	r.remote_port = 40002;
	rig_in(&r, KIT_SYN, 5, 0, "");
	rig_expect_nothing(&r);
	assert_int_equal(rig_drops(&r, "inbound_full"), 1);
	assert_non_null(tcp_connect(r.s, &r.local, &r.remote, 25, NULL, &error, r.now_us));
	assert_non_null(tcp_connect(r.s, &r.local, &r.remote, 25, NULL, &error, r.now_us));
	assert_null(tcp_connect(r.s, &r.local, &r.remote, 25, NULL, &error, r.now_us));
	assert_int_equal(error, -ENOBUFS);
	rig_end(&r);
}

static void our_connections_take_nothing_from_peers(void **state)
{
	struct rig r;
	struct peer p[2];
	uint32_t events;
	struct tcp_config config = rig_config();
	int error;
	config.connections_max = 4;
	config.inbound_max = 2;
	rig_start(&r, &config);
	rig_listen(&r);
	for (unsigned i = 0; i < 2; i++)
		assert_non_null(tcp_connect(r.s, &r.local, &r.remote, 25, NULL, &error, r.now_us));
	while (tcp_output(r.s, r.now_us), rig_out(&r))
		;
	for (unsigned round = 0; round < 3; round++) { /* and what ended is there again */
		accept_from(&r, &p[0], (uint16_t)(40000 + 2 * round));
		accept_from(&r, &p[1], (uint16_t)(40001 + 2 * round));
		for (unsigned i = 0; i < 2; i++) {
			r.remote_port = (uint16_t)(40000 + 2 * round + i);
			tcp_abort(p[i].c);
			assert_true(rig_out(&r));
			assert_ptr_equal(tcp_next_event(r.s, &events), p[i].c);
		}
		assert_null(tcp_next_event(r.s, &events));
	}
	rig_end(&r);
}

static void short_of_memory_syns_get_no_answer_first(void **state)
{
	struct rig r;
	struct peer p;
	struct tcp_config config = rig_config();
	config.buffer_bytes_max = 16 * BUFFER;
	rig_start(&r, &config);
	rig_listen(&r);
	accept_from(&r, &p, 40000);
	hold(&r, &p, 40000, 0, 10);
	r.remote_port = 40001;
	rig_in(&r, KIT_SYN, 5, 0, "");
	assert_true(rig_out(&r));
	hold(&r, &p, 40000, 10, 11); /* more than 5/8 */
	r.remote_port = 40002;
	rig_in(&r, KIT_SYN, 5, 0, "");
	rig_expect_nothing(&r);
	assert_int_equal(rig_drops(&r, "memory_short"), 1);
	r.remote_port = 40001; /* what has begun goes on */
	rig_in(&r, KIT_ACK, 6, r.got.seq + 1, "");
	assert_int_equal(stats(&r).connections, 1);
	rig_end(&r);
}

static void then_windows_grow_no_more(void **state)
{
	struct rig r;
	struct peer p, q;
	struct tcp_config config = rig_config();
	config.buffer_bytes_max = 16 * BUFFER;
	rig_start(&r, &config);
	rig_listen(&r);
	accept_from(&r, &p, 40000);
	accept_from(&r, &q, 40001);
	hold(&r, &p, 40000, 0, 13); /* more than 6/8 */
	char text[1401] = {0};
	memset(text, 'a', 1400);
	r.remote_port = 40001;
	for (uint32_t i = 0; i < 2; i++) {
		rig_in(&r, KIT_ACK, q.seq + 1400 * i, q.ack, text);
		tcp_consume(q.c, 1400);
	}
	rig_expect(&r, KIT_ACK, q.ack, q.seq + 2800, "");
	assert_int_equal(r.got.window, 16384 - 2800); /* what was promised, no more */
	r.remote_port = 40000;
	rig_in(&r, KIT_RST, p.seq, 0, "");
	assert_int_equal(stats(&r).buffered_bytes, 0);
	r.remote_port = 40001;
	rig_in(&r, KIT_ACK, q.seq + 2800, q.ack, "x");
	tcp_consume(q.c, 1);
	rig_wait(&r, 100000);
	rig_expect(&r, KIT_ACK, q.ack, q.seq + 2801, "");
	assert_int_equal(r.got.window, 16384);
	rig_end(&r);
}

static void a_window_that_was_held_opens_when_there_is_memory_again(void **state)
{
	struct rig r;
	struct peer p, q;
	char text[1301] = {0};
	struct tcp_config config = rig_config();
	config.buffer_bytes_max = 16 * BUFFER;
	rig_start(&r, &config);
	rig_listen(&r);
	accept_from(&r, &p, 40000);
	accept_from(&r, &q, 40001);
	hold(&r, &p, 40000, 0, 13);
	memset(text, 'a', 1300);
	r.remote_port = 40001;
	for (uint32_t i = 0; i < 10; i++) {
		rig_in(&r, KIT_ACK, q.seq + 1300 * i, q.ack, text);
		tcp_consume(q.c, 1300);
	}
	rig_expect(&r, KIT_ACK, q.ack, q.seq + 13000, "");
	assert_int_equal(r.got.window, 16384 - 13000);
	assert_int_equal(stats(&r).windows_held, 1);
	rig_wait(&r, 1000000);
	rig_expect_nothing(&r);
	r.remote_port = 40000;
	rig_in(&r, KIT_RST, p.seq, 0, "");
	r.remote_port = 40001;
	rig_wait(&r, 150000);
	rig_expect(&r, KIT_ACK, q.ack, q.seq + 13000, ""); /* of itself */
	assert_int_equal(r.got.window, 16384);
	rig_wait(&r, 1000000);
	rig_expect_nothing(&r);
	rig_end(&r);
}

static void then_the_idlest_that_hold_data_are_reset(void **state)
{
	struct rig r;
	struct peer p[4];
	uint32_t events;
	struct tcp_config config = rig_config();
	config.buffer_bytes_max = 16 * BUFFER;
	rig_start(&r, &config);
	rig_listen(&r);
	for (uint16_t i = 0; i < 4; i++) {
		accept_from(&r, &p[i], (uint16_t)(40000 + i));
		rig_wait(&r, 2000000);
	}
	/* 8, 6, 4, 2 s; the first holds nothing */
	for (uint16_t i = 1; i < 4; i++)
		hold(&r, &p[i], (uint16_t)(40000 + i), 0, i == 3 ? 4 : 5);
	rig_wait(&r, 1000); /* 14: 7/8 and not more */
	assert_int_equal(rig_drops(&r, "idlest_reset"), 0);
	hold(&r, &p[3], 40003, 4, 5);
	rig_wait(&r, 1000);
	assert_int_equal(rig_drops(&r, "idlest_reset"), 1);
	r.remote_port = 40001;
	rig_expect(&r, KIT_RST | KIT_ACK, p[1].ack, p[1].seq, "");
	assert_ptr_equal(tcp_next_event(r.s, &events), p[1].c);
	assert_true(events & TCP_EVENT_ENDED);
	assert_string_equal(tcp_end_name(tcp_end_reason(p[1].c)), "short of memory");
	assert_int_equal(stats(&r).buffered_bytes, 10 * BUFFER);
	/* the others have moved something within 5 s */
	hold(&r, &p[3], 40003, 5, 11);
	rig_wait(&r, 1000);
	assert_int_equal(rig_drops(&r, "idlest_reset"), 1);
	rig_wait(&r, 1500000);
	assert_int_equal(rig_drops(&r, "idlest_reset"), 2);
	assert_ptr_equal(tcp_next_event(r.s, &events), p[2].c);
	rig_end(&r);
}

/* Text that is not acknowledged holds memory as well, however eagerly the peer answers window probes. */
static void a_peer_that_takes_nothing_is_idle(void **state)
{
	struct rig r;
	struct peer p, q;
	uint32_t events;
	char text[1000] = {0};
	struct tcp_config config = rig_config();
	config.buffer_bytes_max = 16 * BUFFER;
	rig_start(&r, &config);
	rig_listen(&r);
	accept_from(&r, &p, 40000);
	accept_from(&r, &q, 40001);
	r.window = 0;
	r.remote_port = 40000;
	rig_in(&r, KIT_ACK, p.seq, p.ack, "");
	for (unsigned i = 0; i < 12; i++)
		tcp_write(p.c, bytes_of(text, sizeof text));
	for (unsigned i = 0; i < 60; i++) {
		r.remote_port = 40000;
		rig_wait(&r, 100000);
		rig_in(&r, KIT_ACK, p.seq, p.ack, "");
		while (rig_out(&r))
			;
	}
	assert_int_equal(rig_drops(&r, "idlest_reset"), 0);
	r.remote_port = 40001;
	rig_in(&r, KIT_ACK, q.seq, q.ack, "new");
	hold(&r, &q, 40001, 10, 16);
	rig_wait(&r, 1000);
	assert_int_equal(rig_drops(&r, "idlest_reset"), 1);
	do
		assert_non_null(r.c = tcp_next_event(r.s, &events));
	while (!(events & TCP_EVENT_ENDED));
	assert_ptr_equal(r.c, p.c);
	rig_end(&r);
}

static void text_is_refused_only_at_the_limit(void **state)
{
	struct rig r;
	struct peer p;
	struct tcp_config config = rig_config();
	config.buffer_bytes_max = 16 * BUFFER;
	rig_start(&r, &config);
	rig_listen(&r);
	accept_from(&r, &p, 40000);
	hold(&r, &p, 40000, 0, 16);
	assert_int_equal(rig_drops(&r, "buffers_full"), 0);
	hold(&r, &p, 40000, 16, 17);
	assert_int_equal(rig_drops(&r, "buffers_full"), 1);
	assert_int_equal(stats(&r).buffered_bytes, 16 * BUFFER);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peers_cannot_take_what_is_kept_for_us),
		cmocka_unit_test(our_connections_take_nothing_from_peers),
		cmocka_unit_test(short_of_memory_syns_get_no_answer_first),
		cmocka_unit_test(then_windows_grow_no_more),
		cmocka_unit_test(a_window_that_was_held_opens_when_there_is_memory_again),
		cmocka_unit_test(then_the_idlest_that_hold_data_are_reset),
		cmocka_unit_test(a_peer_that_takes_nothing_is_idle),
		cmocka_unit_test(text_is_refused_only_at_the_limit),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
