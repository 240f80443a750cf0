// SPDX-License-Identifier: Apache-2.0
#include "dataplane/tcp/trace.h"

#include "dataplane/tcp/tcp_private.h"

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_SACK = 5, OPTION_TIMESTAMPS = 8 };

#define KNOWN 256 /* connections whose last window is remembered, by place; others begin anew */

struct known {
	const struct tcp_conn *conn;
	uint32_t iss;
	uint32_t cwnd, ssthresh, srtt_us;
};

struct tcp_trace {
	struct tape *tape;
	struct prefix peer;
	uint16_t port;
	struct known known[KNOWN];
};

/* ---- the watcher's ---- */

struct tcp_trace *tcp_trace_create(const struct prefix *peer, uint16_t port, size_t bytes)
{
	struct tcp_trace *t = calloc(1, sizeof *t);
	if (t == NULL)
		return NULL;
	t->peer = *peer;
	t->port = port;
	t->tape = tape_create(bytes);
	if (t->tape != NULL)
		return t;
	free(t);
	return NULL;
}

void tcp_trace_destroy(struct tcp_trace *t)
{
	if (t != NULL)
		free(t->tape);
	free(t);
}

struct tape *tcp_trace_tape(struct tcp_trace *t)
{
	return t->tape;
}

/* ---- the stack's ---- */

void tcp_set_trace(struct tcp_stack *s, struct tcp_trace *trace)
{
	s->trace = trace;
}

static bool is_wanted(const struct tcp_trace *t, const struct tcp_tuple *tuple)
{
	return (t->peer.bits == 0 || prefix_has(&t->peer, &tuple->remote)) &&
		(t->port == 0 || t->port == tuple->local_port || t->port == tuple->remote_port);
}

/* An event to be filled in; NULL: not asked for, or no room. */
static struct tcp_trace_event *begin(
	struct tcp_stack *s, const struct tcp_tuple *tuple, enum tcp_trace_kind kind)
{
	if (!is_wanted(s->trace, tuple))
		return NULL;
	struct tcp_trace_event *e =
		(struct tcp_trace_event *)(void *)tape_reserve(s->trace->tape, sizeof *e);
	if (e != NULL)
		*e = (struct tcp_trace_event){.at_us = s->now_us,
			.kind = (uint8_t)kind,
			.local = tuple->local,
			.remote = tuple->remote,
			.local_port = tuple->local_port,
			.remote_port = tuple->remote_port};
	return e;
}

static void end(struct tcp_stack *s)
{
	tape_commit(s->trace->tape);
}

/* What has changed since this was last asked. */
static void windows(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	struct known *k = &s->trace->known[(c->hash >> 8) % KNOWN];
	const struct known now = {c, c->iss, c->cwnd, c->ssthresh, c->srtt_us};
	const bool is_same = k->conn == c && k->iss == c->iss && k->cwnd == c->cwnd &&
		k->ssthresh == c->ssthresh && k->srtt_us == c->srtt_us;
	if (is_same || c->state < TCP_ESTABLISHED)
		return;
	struct tcp_trace_event *e = begin(s, &c->tuple, TCP_TRACE_CC);
	if (e == NULL)
		return;
	*k = now;
	e->cwnd = c->cwnd;
	e->ssthresh = c->ssthresh;
	e->srtt_us = c->srtt_us;
	e->rto_us = c->rto_us;
	e->flight = tcp_pipe(c);
	end(s);
}

/* ---- segments ---- */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void read_sacks(struct tcp_trace_event *e, const uint8_t *p, unsigned n)
{
	for (; n >= 8 && e->sack_count < TCP_TRACE_SACKS; n -= 8, p += 8) {
		e->sack[e->sack_count][0] = get32(p);
		e->sack[e->sack_count++][1] = get32(p + 4);
	}
}

static void read_options(struct tcp_trace_event *e, const uint8_t *p, const uint8_t *end_of_them)
{
	while (p < end_of_them && *p != OPTION_END) {
		if (*p == OPTION_NOP) {
			p++;
			continue;
		}
		if (end_of_them - p < 2 || p[1] < 2 || p[1] > end_of_them - p)
			return;
		if (*p == OPTION_SACK)
			read_sacks(e, p + 2, p[1] - 2u);
		e->has_ts |= *p == OPTION_TIMESTAMPS && p[1] == 10;
		if (*p == OPTION_TIMESTAMPS && p[1] == 10) {
			e->tsval = get32(p + 2);
			e->tsecr = get32(p + 6);
		}
		p += p[1];
	}
}

/* The mbuf begins at a header that has been checked, or that is ours; all of it is there. */
static void read_header(struct tcp_trace_event *e, const struct rte_mbuf *m)
{
	uint8_t copy[60];
	const uint8_t *p = rte_pktmbuf_read(m, 0, 20, copy);
	const unsigned size = (p[12] >> 4) * 4u;
	p = rte_pktmbuf_read(m, 0, size, copy);
	e->seq = get32(p + 4);
	e->ack = get32(p + 8);
	e->flags = p[13];
	e->window = (uint32_t)p[14] << 8 | p[15];
	e->len = m->pkt_len - size;
	read_options(e, p + 20, p + size);
}

static struct tcp_conn *conn_of(struct tcp_stack *s, const struct tcp_tuple *tuple)
{
	const tcp_ref ref = tcp_table_find(s, tuple, tcp_tuple_hash(s, tuple));
	return tcp_ref_kind(ref) == TCP_CONN ? &s->conns[tcp_ref_slot(ref)] : NULL;
}

void tcp_trace_arrival(struct tcp_stack *s, const struct tcp_segment *seg)
{
	struct tcp_trace_event *e = begin(s, &seg->tuple, TCP_TRACE_IN);
	if (e == NULL)
		return;
	read_header(e, seg->m);
	end(s);
}

void tcp_trace_verdict(struct tcp_stack *s, const struct tcp_segment *seg, enum tcp_drop drop)
{
	struct tcp_trace_event *e = drop == TCP_DROP_NONE ? NULL : begin(s, &seg->tuple, TCP_TRACE_DROP);
	if (e != NULL) {
		e->why = tcp_drop_name(drop);
		end(s);
	}
	struct tcp_conn *c = is_wanted(s->trace, &seg->tuple) ? conn_of(s, &seg->tuple) : NULL;
	if (c != NULL)
		windows(c);
}

/* Before snd_max is moved over it. */
static const char *why_again(const struct tcp_conn *c, const struct tcp_trace_event *e)
{
	if (e->flags & RTE_TCP_SYN_FLAG)
		return c->syn_again ? "handshake" : NULL;
	if ((e->len == 0 && !(e->flags & RTE_TCP_FIN_FLAG)) || !seq_lt(e->seq, c->snd_max))
		return NULL;
	if (c->phase == TCP_LOSS || c->phase == TCP_RECOVERY)
		return c->phase == TCP_LOSS ? "timeout" : "recovery";
	return c->is_persisting ? "probe" : c->tail_probe_due ? "tail-probe" : "again";
}

void tcp_trace_departure(struct tcp_stack *s, const struct rte_mbuf *m, const struct tcp_tuple *tuple)
{
	struct tcp_conn *c = is_wanted(s->trace, tuple) ? conn_of(s, tuple) : NULL;
	if (c != NULL)
		windows(c);
	struct tcp_trace_event *e = begin(s, tuple, TCP_TRACE_OUT);
	if (e == NULL)
		return;
	read_header(e, m);
	e->why = c == NULL ? NULL : why_again(c, e);
	end(s);
}

/* ---- the rest ---- */

void tcp_trace_state(struct tcp_conn *c, unsigned next)
{
	struct tcp_trace_event *e = begin(c->stack, &c->tuple, TCP_TRACE_STATE);
	if (e == NULL)
		return;
	e->from = tcp_state_name(c->state);
	e->to = tcp_state_name(next);
	end(c->stack);
}

static const char *timer_name(const struct tcp_conn *c, enum tcp_timer timer)
{
	switch (timer) {
	case TCP_TIMER_LOSS: return c->flight != NULL && c->flight->is_reorder_timer ? "reordering" : "tail-probe";
	case TCP_TIMER_RETRANSMIT: return c->is_persisting ? "persist" : "retransmit";
	case TCP_TIMER_DELAYED_ACK: return "delayed-ack";
	case TCP_TIMER_QUIET: return c->state == TCP_FIN_WAIT_2 ? "fin-wait-2" : "keepalive";
	case TCP_TIMER_STARVED: return "starved";
	default: return "other";
	}
}

void tcp_trace_timer(struct tcp_conn *c, enum tcp_timer timer)
{
	struct tcp_trace_event *e = begin(c->stack, &c->tuple, TCP_TRACE_TIMER);
	if (e == NULL)
		return;
	e->why = timer_name(c, timer);
	end(c->stack);
}
