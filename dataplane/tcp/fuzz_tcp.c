// SPDX-License-Identifier: Apache-2.0
/* Fuzzes a stack with whole histories: the input is a list of operations: segments (raw, or aimed near the
 * sequence numbers the stack last used), ICMP errors, calls of the user, time, pools that run dry. Nothing
 * may crash, no time may be asked for in vain, and in the end no mbuf may be missing. */
#include "dataplane/tcp/tcp_kit.h"

#include <stdlib.h>

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONNS 6

static struct rte_mempool *data_pool, *control_pool, *wire_pool;

struct world {
	struct tcp_stack *s;
	uint64_t now_us;
	struct addr local, remote;
	struct bytes in;
	struct tcp_conn *conns[CONNS];
	struct kit_segment last; /* that the stack sent */
	struct rte_mbuf *drained[512];
	unsigned drained_count;
};

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	kit_start();
	data_pool = kit_pool("data", 127);
	control_pool = kit_pool("control", 63);
	wire_pool = kit_pool("wire", 255);
	return 0;
}

static uint32_t next(struct world *w, unsigned bytes)
{
	uint32_t v = 0;
	for (; bytes > 0; bytes--, w->in = bytes_skip(w->in, 1))
		v = v << 8 | (w->in.n > 0 ? w->in.at[0] : 0);
	return v;
}

static bool all_but_some(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return lp % 3 != 0;
}

static uint16_t mtu(void *user, const struct addr *l, const struct addr *r)
{
	return 1500;
}

static void input(struct world *w, struct rte_mbuf *m, bool is_good)
{
	const struct tcp_arrival a = {w->local, w->remote, is_good, 0};
	if (m != NULL)
		tcp_input(w->s, m, &a, w->now_us);
}

static void raw_segment(struct world *w)
{
	size_t n = next(w, 1);
	size_t piece = next(w, 1) % 64;
	struct bytes b = bytes_first(w->in, n);
	w->in = bytes_skip(w->in, n);
	input(w, kit_mbuf(wire_pool, b, piece), true);
}

/* A segment that stands some chance: numbers are given as distances from what the stack sent last. */
static void aimed_segment(struct world *w)
{
	uint8_t bytes[2048], text[1500];
	const uint32_t shape = next(w, 1);
	struct kit_segment seg = {
		.from = w->last.to != 0 ? w->last.to : 1000,
		.to = w->last.from != 0 ? w->last.from : 25,
		.flags = (uint8_t)next(w, 1),
		.window = (uint16_t)next(w, shape & 1 ? 2 : 1),
		.wscale = -1,
	};
	seg.seq = w->last.ack + (uint32_t)(int8_t)next(w, 1) * (shape & 2 ? 100 : 1);
	seg.ack = w->last.seq + (uint32_t)w->last.text.n + !!(w->last.flags & (KIT_SYN | KIT_FIN)) +
		(uint32_t)(int8_t)next(w, 1) * (shape & 4 ? 100 : 1);
	if (seg.flags & KIT_SYN) {
		seg.mss = (uint16_t)next(w, 2);
		seg.wscale = (int)(next(w, 1) % 17) - 1;
	}
	seg.has_ts = shape & 8;
	seg.tsval = seg.has_ts ? next(w, 1) : 0;
	seg.tsecr = seg.has_ts ? w->last.tsval - next(w, 1) : 0;
	if (shape & 16)
		seg.from = (uint16_t)(1000 + next(w, 1) % 8), seg.to = 25;
	seg.text.n = shape & 32 ? next(w, 1) * 5 : next(w, 1) % 4;
	memset(text, (int)shape, sizeof text);
	seg.text.at = text;
	size_t n = kit_encode(&seg, &w->remote, &w->local, bytes);
	input(w, kit_mbuf(wire_pool, bytes_of(bytes, n), shape & 64 ? 21 : 0), shape & 128);
}

static void forget(struct world *w, const struct tcp_conn *c)
{
	for (unsigned i = 0; i < CONNS; i++)
		if (w->conns[i] == c)
			w->conns[i] = NULL;
}

static void remember(struct world *w, struct tcp_conn *c)
{
	forget(w, c);
	for (unsigned i = 0; i < CONNS; i++)
		if (w->conns[i] == NULL) {
			w->conns[i] = c;
			return;
		}
}

static void events(struct world *w)
{
	struct tcp_conn *c;
	uint32_t e;
	while ((c = tcp_next_event(w->s, &e)) != NULL) {
		if (e & TCP_EVENT_ACCEPTED)
			remember(w, c);
		if (e & TCP_EVENT_ENDED) {
			tcp_consume(c, tcp_peek(c).n);
			forget(w, c);
		}
	}
}

static void output(struct world *w)
{
	struct tcp_departure d;
	tcp_output(w->s, w->now_us);
	while (tcp_take(w->s, &d, 1) == 1) {
		const bool is_good = kit_decode(&w->last, &d.local, &d.remote,
			bytes_of(rte_pktmbuf_mtod(d.m, void *), d.m->data_len));
		if (!is_good || d.m->pkt_len != d.m->data_len)
			abort();
		rte_pktmbuf_free(d.m);
	}
}

static void time_passes(struct world *w, uint64_t us)
{
	w->now_us += us;
	tcp_tick(w->s, w->now_us);
	output(w);
	if (tcp_next_due_us(w->s) <= w->now_us)
		abort(); /* it would spin */
}

static void pools(struct world *w, uint32_t how)
{
	if (w->drained_count != 0) {
		while (w->drained_count > 0)
			rte_pktmbuf_free(w->drained[--w->drained_count]);
		return;
	}
	struct rte_mempool *pool = how & 1 ? data_pool : control_pool;
	while (w->drained_count < 512 && (w->drained[w->drained_count] = rte_pktmbuf_alloc(pool)) != NULL)
		w->drained_count++;
}

static void user_call(struct world *w)
{
	static const uint8_t text[2000];
	uint32_t what = next(w, 1), n = next(w, 1);
	struct tcp_conn *c = w->conns[what % CONNS];
	int error;
	if (what / CONNS % 6 == 5) {
		c = tcp_connect(w->s, &w->local, &w->remote, (uint16_t)(n % 4), NULL, &error, w->now_us);
		if (c != NULL)
			remember(w, c);
		return;
	}
	if (c == NULL)
		return;
	switch (what / CONNS % 6) {
	case 0: tcp_write(c, bytes_of(text, n * 7)); break;
	case 1: tcp_consume(c, bytes_first(tcp_peek(c), n * 3).n); break;
	case 2: tcp_close(c); break;
	case 3: tcp_abort(c); break;
	default: {
		struct tcp_info info;
		tcp_get_info(c, &info);
		break;
	}
	}
}

static void icmp(struct world *w)
{
	uint8_t q[8] = {(uint8_t)(w->last.from >> 8), (uint8_t)w->last.from, (uint8_t)(w->last.to >> 8),
		(uint8_t)w->last.to};
	const uint32_t seq = w->last.seq + next(w, 1) % 2, kind = next(w, 1), size = next(w, 2);
	for (unsigned i = 0; i < 4; i++)
		q[4 + i] = (uint8_t)(seq >> (24 - 8 * i));
	tcp_icmp_error(w->s, &w->local, &w->remote, bytes_of(q, 8 - kind / 64), (enum tcp_icmp)(kind % 3), size,
		w->now_us);
}

static void step(struct world *w)
{
	switch (next(w, 1) % 12) {
	case 0: raw_segment(w); break;
	case 1:
	case 2:
	case 3:
	case 4: aimed_segment(w); break;
	case 5: events(w); break;
	case 6: output(w); break;
	case 7: time_passes(w, next(w, 2) * 100ull); break;
	case 8: time_passes(w, (uint64_t)next(w, 1) << next(w, 1) % 28); break;
	case 9:
	case 10: user_call(w); break;
	default:
		if (next(w, 1) & 1)
			icmp(w);
		else
			pools(w, next(w, 1));
		break;
	}
}

static void start(struct world *w)
{
	const bool ipv6 = next(w, 1) & 1;
	struct tcp_config config = {
		.connections_max = CONNS - 2,
		.half_open_max = 2,
		.time_wait_max = 2,
		.inbound_max = CONNS - 3,
		.keepalive_idle_us = 3000000,
		.keepalive_interval_us = 1000000,
		.keepalive_probes = 3,
		.is_keepalive_on = true,
		.receive_bytes_max = 1000 + next(w, 1) * 500,
		.send_bytes_max = 1000 + next(w, 1) * 500,
		.buffer_bytes_max = 2304 * (20 + next(w, 1)),
		.pool = data_pool,
		.control_pool = control_pool,
		.is_ours = all_but_some,
		.mtu = mtu,
	};
	addr_parse(ipv6 ? "2001:db8::1" : "192.0.2.1", &w->local);
	addr_parse(ipv6 ? "2001:db8::2" : "192.0.2.2", &w->remote);
	w->now_us = (1 + (uint64_t)next(w, 4)) * 1000;
	w->s = tcp_stack_create(&config, w->now_us);
	if (w->s == NULL || tcp_listen(w->s, &w->local, 25, 1) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.in = bytes_of(data, size)};
	start(&w);
	while (w.in.n > 0)
		step(&w);
	while (w.drained_count > 0)
		rte_pktmbuf_free(w.drained[--w.drained_count]);
	events(&w);
	tcp_stack_destroy(w.s);
	if (!rte_mempool_full(data_pool) || !rte_mempool_full(control_pool) || !rte_mempool_full(wire_pool))
		abort();
	return 0;
}
