// SPDX-License-Identifier: Apache-2.0
/* Fuzzes a stack with whole histories: the input is a list of operations: segments, ICMP errors, calls of the user, time,
 * pools that run dry. A segment is aimed: at one of the connections there are, with its numbers given as distances from
 * what that connection knows (SND.UNA, SND.MAX, RCV.NXT, the right edge, ts_recent, …), so that histories get deep; SACK
 * blocks are laid over what is in flight. After every operation the invariants of tcp_validate.c are looked at, and
 * what is sent is what was written. No time may be asked for in vain, and in the end no mbuf may be missing. */
#include "dataplane/tcp/tcp_kit.h"

#include <stdio.h>
#include <stdlib.h>

#include "dataplane/tcp/tcp_private.h"
#include "dataplane/tcp/tcp_validate.h"

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONNS 6

static struct rte_mempool *data_pool, *control_pool, *wire_pool;

struct world {
	struct tcp_stack *s;
	struct tcp_watch watch;
	uint64_t now_us;
	uint16_t mtu;
	struct addr local, remote;
	struct bytes in;
	struct tcp_conn *conns[CONNS];
	struct rte_mbuf *drained[512];
	unsigned drained_count;
};

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	kit_start();
	data_pool = kit_pool("data", 255);
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
	return ((struct world *)user)->mtu;
}

static void must_hold(struct world *w)
{
	const char *why = tcp_validate(w->s, &w->watch);
	if (why == NULL)
		return;
	fprintf(stderr, "invariant: %s\n", why);
	abort();
}

/* ---- segments ---- */

static void input(struct world *w, struct rte_mbuf *m, bool is_good, uint8_t ecn)
{
	const struct tcp_arrival a = {w->local, w->remote, is_good, ecn};
	if (m != NULL)
		tcp_input(w->s, m, &a, w->now_us);
}

static void raw_segment(struct world *w)
{
	size_t n = next(w, 1);
	size_t piece = next(w, 1) % 64;
	struct bytes b = bytes_first(w->in, n);
	w->in = bytes_skip(w->in, n);
	input(w, kit_mbuf(wire_pool, b, piece), true, 0);
}

/* Near what the connection waits for, or somewhere else that means something to it. */
static uint32_t seq_near(struct world *w, const struct tcp_conn *c, uint32_t how)
{
	const int32_t delta = (int8_t)next(w, 1);
	switch (how & 7) {
	case 0:
	case 1: return c->rcv_nxt;
	case 2: return c->rcv_nxt + (uint32_t)delta;
	case 3: return c->rcv_nxt + (uint32_t)delta * 100;
	case 4: return c->rcv_adv + (uint32_t)delta;
	case 5: return (c->fin_seen ? c->fin_seq : c->irs) + (uint32_t)delta;
	case 6: return c->rcv_nxt + (uint32_t)(uint8_t)delta * 64; /* ahead: a gap */
	default: return c->rcv_nxt + (uint32_t)delta * 0x1000000u;
	}
}

static uint32_t ack_near(struct world *w, const struct tcp_conn *c, uint32_t how)
{
	const int32_t delta = (int8_t)next(w, 1);
	switch (how & 7) {
	case 0: return c->snd_una;
	case 1: return c->snd_max;
	case 2: return c->snd_una + (uint32_t)(uint8_t)delta * c->mss;
	case 3: return c->snd_una + (uint32_t)delta;
	case 4: return c->snd_max + (uint32_t)delta;
	case 5: return c->snd_una + (c->snd_max - c->snd_una) / 256 * (uint8_t)delta;
	case 6: return c->iss + (uint32_t)delta;
	default: return c->snd_una + (uint32_t)delta * 0x1000000u;
	}
}

/* Blocks over what is in flight, in steps of a segment; one in eight may be anything. */
static void sack_blocks(struct world *w, const struct tcp_conn *c, struct kit_segment *seg)
{
	seg->sack_count = next(w, 1) % 5;
	for (unsigned i = 0; i < seg->sack_count; i++) {
		const uint32_t from = next(w, 1), n = next(w, 1);
		const uint32_t unit = n & 0x80 ? 1 : c->mss;
		seg->sack[i][0] = c->snd_una + (n & 0x40 ? 0u - (from & 15) : from & 63) * unit;
		seg->sack[i][1] = seg->sack[i][0] + (n & 0x20 ? 0u - (n & 31) : n & 31) * unit;
	}
}

static void options(struct world *w, const struct tcp_conn *c, struct kit_segment *seg)
{
	const uint32_t how = next(w, 1);
	seg->has_ts = c->has_ts ? (how & 3) != 3 : (how & 3) == 3; /* mostly as it should be */
	if (seg->has_ts) {
		seg->tsval = how & 4 ? c->ts_recent + (uint32_t)(int8_t)next(w, 1) : c->ts_recent + 1;
		const uint32_t ours = tcp_ts_now(w->s, c->ts_offset);
		seg->tsecr = how & 8 ? ours - next(w, 2) : ours;
	}
	if (seg->flags & KIT_SYN) {
		seg->mss = (uint16_t)next(w, 2);
		seg->wscale = how & 16 ? (int)(next(w, 1) % 17) - 1 : 7;
		seg->has_sack_ok = !(how & 32);
	} else if (how & 64) {
		sack_blocks(w, c, seg);
	}
}

static void send_in(struct world *w, struct kit_segment *seg, uint32_t how)
{
	static uint8_t text[1500];
	uint8_t bytes[2048];
	const uint32_t n = next(w, 1);
	seg->text = bytes_of(text, how & 1 ? n * 5 : how & 2 ? n % 4 : 0);
	const size_t size = kit_encode(seg, &w->remote, &w->local, bytes);
	input(w, kit_mbuf(wire_pool, bytes_of(bytes, size), how & 4 ? 21 : 0), !(how & 8), how >> 4 & 3);
}

static struct tcp_conn *pick(struct world *w)
{
	struct tcp_conn *c = w->conns[next(w, 1) % CONNS];
	for (unsigned i = 0; c == NULL && i < CONNS; i++) /* rather some than none */
		c = w->conns[i];
	return c;
}

static void aimed_segment(struct world *w)
{
	static const uint8_t flags[] = {KIT_ACK, KIT_ACK | KIT_PSH, KIT_ACK | KIT_FIN, KIT_ACK | KIT_RST, KIT_RST,
		KIT_SYN, KIT_SYN | KIT_ACK, 0};
	const struct tcp_conn *c = pick(w);
	const uint32_t how = next(w, 1), what = next(w, 1);
	if (c == NULL || c->state == TCP_CLOSED)
		return;
	struct kit_segment seg = {
		.from = c->tuple.remote_port,
		.to = c->tuple.local_port,
		.seq = seq_near(w, c, what),
		.ack = ack_near(w, c, what >> 3),
		.flags = what >> 6 == 3 ? (uint8_t)next(w, 1) : flags[how >> 5],
		.window = (uint16_t)(how & 16 ? next(w, 2) : 60000),
		.wscale = -1,
	};
	options(w, c, &seg);
	send_in(w, &seg, what >> 6 == 2 ? 0 : how);
}

/* A SYN, what a half-open connection or a cookie waits for, or what an old one is told. */
static void segment_to_listener(struct world *w)
{
	const uint32_t how = next(w, 1);
	struct tcp_half_open *h = NULL;
	struct kit_segment seg = {.from = (uint16_t)(1000 + how % 8), .to = 25, .flags = KIT_SYN, .window = 60000,
		.wscale = -1, .seq = next(w, 2) << 16};
	const struct tcp_time_wait *t = TAILQ_FIRST(&w->s->time_waiting);
	for (unsigned i = 0; i < TCP_SYN_ACK_SENDS && h == NULL; i++)
		h = TAILQ_FIRST(&w->s->half_open_sent[i]);
	if (how & 0x40 && h != NULL) {
		seg.from = h->tuple.remote_port;
		seg.seq = h->irs + 1 + (how & 8 ? next(w, 1) : 0);
		seg.ack = h->iss + 1 + (how & 16 ? next(w, 1) : 0);
		seg.flags = how & 32 ? (uint8_t)next(w, 1) : KIT_ACK;
		seg.has_ts = h->has_ts;
		seg.tsval = h->ts_recent;
	} else if (how & 0x80 && t != NULL) {
		seg.from = t->tuple.remote_port;
		seg.to = t->tuple.local_port;
		seg.seq = t->rcv_nxt + (uint32_t)(int8_t)next(w, 1);
		seg.ack = t->snd_nxt + (uint32_t)(int8_t)next(w, 1);
		seg.flags = (uint8_t)next(w, 1);
		seg.has_ts = t->has_ts;
		seg.tsval = t->ts_recent + (uint32_t)(int8_t)next(w, 1);
	} else {
		seg.mss = (uint16_t)next(w, 2);
		seg.wscale = (int)(next(w, 1) % 17) - 1;
		seg.has_ts = how & 8;
		seg.tsval = next(w, 1);
		seg.has_sack_ok = how & 16;
	}
	send_in(w, &seg, next(w, 1));
}

static void icmp(struct world *w)
{
	const struct tcp_conn *c = pick(w);
	const uint32_t how = next(w, 1), size = next(w, 2);
	if (c == NULL || c->state == TCP_CLOSED)
		return;
	const uint32_t seq = ack_near(w, c, how);
	const uint16_t ports[2] = {c->tuple.local_port, c->tuple.remote_port};
	uint8_t q[8];
	for (unsigned i = 0; i < 4; i++) {
		q[i] = (uint8_t)(ports[i / 2] >> (i % 2 ? 0 : 8));
		q[4 + i] = (uint8_t)(seq >> (24 - 8 * i));
	}
	tcp_icmp_error(w->s, &w->local, &w->remote, bytes_of(q, 8 - (how >> 6 == 3)), (enum tcp_icmp)(how >> 3 & 7) % 3,
		size, w->now_us);
}

/* ---- events ---- */

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

/* ---- what it sends ---- */

/* What the user writes at a place of the stream. */
static uint8_t stream_byte(uint32_t at)
{
	return (uint8_t)(at * 31 + (at >> 8));
}

static void must_be_written(const struct world *w, const struct tcp_departure *d, const struct kit_segment *seg)
{
	for (unsigned i = 0; i < CONNS; i++) {
		const struct tcp_conn *c = w->conns[i];
		if (c == NULL || c->state == TCP_CLOSED || c->tuple.local_port != seg->from ||
			c->tuple.remote_port != seg->to || seg->flags & KIT_RST)
			continue;
		const uint32_t at = seg->seq - c->iss - 1;
		for (uint32_t k = 0; k < seg->text.n; k++)
			if (seg->text.at[k] != stream_byte(at + k))
				abort();
	}
}

static void output(struct world *w)
{
	static struct kit_segment seg;
	struct tcp_departure d;
	tcp_output(w->s, w->now_us);
	while (tcp_take(w->s, &d, 1) == 1) {
		const bool is_good = kit_decode(&seg, &d.local, &d.remote,
			bytes_of(rte_pktmbuf_mtod(d.m, void *), d.m->data_len));
		if (!is_good || d.m->pkt_len != d.m->data_len)
			abort();
		must_be_written(w, &d, &seg);
		rte_pktmbuf_free(d.m);
	}
}

static void time_passes(struct world *w, uint64_t us)
{
	w->now_us += us;
	tcp_tick(w->s, w->now_us);
	must_hold(w);
	output(w);
	if (tcp_next_due_us(w->s) <= w->now_us)
		abort(); /* it would spin */
}

static void until_due(struct world *w)
{
	const uint64_t due = tcp_next_due_us(w->s);
	if (due != UINT64_MAX)
		time_passes(w, due > w->now_us ? due - w->now_us : 0);
}

/* ---- the user and the machine ---- */

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

static void write_some(struct tcp_conn *c, uint32_t n)
{
	uint8_t text[256 * 64];
	const uint32_t from = c->send_end - c->iss - 1;
	for (uint32_t i = 0; i < n; i++)
		text[i] = stream_byte(from + i);
	tcp_write(c, bytes_of(text, n));
}

static void user_call(struct world *w)
{
	const uint32_t what = next(w, 1), n = next(w, 1);
	struct tcp_conn *c = what % 8 == 7 ? NULL : pick(w);
	int error;
	if (what % 8 == 7) {
		c = tcp_connect(w->s, &w->local, &w->remote, (uint16_t)(n % 4), NULL, &error, w->now_us);
		if (c != NULL)
			remember(w, c);
		return;
	}
	if (c == NULL)
		return;
	switch (what % 8) {
	case 0:
	case 1:
	case 2: write_some(c, n * (what & 8 ? 64 : 7)); break;
	case 3:
	case 4: tcp_consume(c, bytes_first(tcp_peek(c), n * 8).n); break;
	case 5: tcp_close(c); break;
	default:
		if (what & 8)
			tcp_abort(c);
		else if (what & 16)
			w->mtu = (uint16_t)(500 + n * 8);
		break;
	}
}

static void step(struct world *w)
{
	const uint32_t op = next(w, 1);
	switch (op % 16) {
	case 0: raw_segment(w); break;
	case 1:
	case 2: segment_to_listener(w); break;
	case 3:
	case 4:
	case 5:
	case 6:
	case 7: aimed_segment(w); break;
	case 8: events(w); break;
	case 9: output(w); break;
	case 10: time_passes(w, next(w, 2) * 100ull); break;
	case 11: until_due(w); break;
	case 12:
	case 13: user_call(w); break;
	case 14: icmp(w); break;
	default:
		if (op & 16)
			time_passes(w, (uint64_t)next(w, 1) << next(w, 1) % 28);
		else
			pools(w, op >> 5);
		break;
	}
	must_hold(w);
}

static void start(struct world *w)
{
	const uint32_t how = next(w, 1);
	struct tcp_config config = {
		.connections_max = CONNS - 2,
		.half_open_max = how >> 1 & 3,
		.time_wait_max = 2,
		.receive_bytes_max = 1000 + next(w, 1) * 500,
		.send_bytes_max = 1000 + next(w, 1) * 500,
		.buffer_bytes_max = 2304 * (20 + next(w, 1)),
		.pool = data_pool,
		.control_pool = control_pool,
		.is_ours = all_but_some,
		.mtu = mtu,
		.user = w,
	};
	addr_parse(how & 1 ? "2001:db8::1" : "192.0.2.1", &w->local);
	addr_parse(how & 1 ? "2001:db8::2" : "192.0.2.2", &w->remote);
	w->mtu = 1500;
	w->now_us = (1 + (uint64_t)next(w, 4)) * 1000;
	w->s = tcp_stack_create(&config, w->now_us);
	if (w->s == NULL || tcp_listen(w->s, &w->local, 25, 1) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	w = (struct world){.in = bytes_of(data, size)};
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
