// SPDX-License-Identifier: Apache-2.0
#include "dataplane/tcp/tcp_validate.h"

#include <stdarg.h>
#include <stdio.h>

#include "dataplane/tcp/tcp_private.h"

static char sentence[256];

static const char *wrong(const struct tcp_conn *c, const char *format, ...)
{
	char what[160];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(what, sizeof what, format, arguments);
	va_end(arguments);
	if (c != NULL)
		snprintf(sentence, sizeof sentence, "port %u, %s: %s", c->tuple.local_port,
			tcp_state_name((enum tcp_state)c->state), what);
	else
		snprintf(sentence, sizeof sentence, "%s", what);
	return sentence;
}

/* The first that does not hold is returned. */
#define HOLDS(c, condition)                                  \
	do {                                                 \
		if (!(condition))                            \
			return wrong(c, "not " #condition);  \
	} while (0)
#define PASSES(call)                              \
	do {                                      \
		const char *why_ = (call);        \
		if (why_ != NULL)                 \
			return why_;              \
	} while (0)

/* ---- the queues ---- */

struct walk {
	uint32_t mbufs, bytes;
	uint64_t held;
	const struct rte_mbuf *last;
};

static struct tcp_mark *mark_of(const struct tcp_stack *s, const struct rte_mbuf *m)
{
	return RTE_PTR_ADD(m, s->mark_offset);
}

/* One mbuf of a queue, `last` before it: its bytes lie in its buffer, behind those of the last. */
static const char *step(const struct tcp_conn *c, struct walk *w, const struct rte_mbuf *m, bool is_contiguous)
{
	const struct tcp_mark *mark = mark_of(c->stack, m);
	HOLDS(c, rte_mbuf_refcnt_read(m) >= 1);
	HOLDS(c, mark->len > 0);
	HOLDS(c, (uint32_t)mark->offset + mark->len <= m->buf_len);
	if (w->last != NULL) {
		const struct tcp_mark *before = mark_of(c->stack, w->last);
		if (is_contiguous)
			HOLDS(c, mark->seq == before->seq + before->len);
		else
			HOLDS(c, seq_geq(mark->seq, before->seq + before->len));
	}
	w->mbufs++;
	w->bytes += mark->len;
	w->held += m->buf_len;
	w->last = m;
	HOLDS(c, w->mbufs < 100000); /* no circle */
	return NULL;
}

static const char *walk(const struct tcp_conn *c, struct walk *w, const struct tcp_queue *q, bool is_contiguous)
{
	*w = (struct walk){.held = w->held};
	for (const struct rte_mbuf *m = q->head; m != NULL; m = mark_of(c->stack, m)->next)
		PASSES(step(c, w, m, is_contiguous));
	HOLDS(c, w->last == q->tail);
	return NULL;
}

static uint32_t end_of(const struct tcp_conn *c, const struct rte_mbuf *m)
{
	const struct tcp_mark *mark = mark_of(c->stack, m);
	return mark->seq + mark->len;
}

/* What was written and is not acknowledged: from SND.UNA to the end, without a gap. */
static const char *send_queue(const struct tcp_conn *c, struct walk *w)
{
	PASSES(walk(c, w, &c->send, true));
	HOLDS(c, w->bytes == c->send_bytes);
	HOLDS(c, w->mbufs == c->send_mbufs);
	HOLDS(c, w->mbufs <= c->stack->send_mbufs_max + 8u); /* the first is cut whatever the limit says */
	HOLDS(c, c->send_bytes <= c->stack->config.send_bytes_max);
	if (w->last == NULL) {
		HOLDS(c, c->send_next == NULL);
		return NULL;
	}
	const uint32_t first = mark_of(c->stack, c->send.head)->seq;
	HOLDS(c, end_of(c, w->last) == c->send_end);
	HOLDS(c, first == c->snd_una || (c->snd_una == c->iss && first == c->iss + 1));
	return NULL;
}

/* Each record sent is in one of the three accounts; runs of sacked ones know their last; places are in the queue, and
 * not inside a run. */
static const char *scoreboard(const struct tcp_conn *c)
{
	const struct tcp_stack *s = c->stack;
	const struct tcp_flight *f = c->flight;
	uint32_t pipe = 0, sacked = 0, lost = 0, places = 0;
	const struct rte_mbuf *run_last = NULL;
	HOLDS(c, (f != NULL) == (c->send.head != NULL));
	if (f == NULL)
		return NULL;
	for (struct rte_mbuf *m = c->send.head; m != NULL; m = mark_of(s, m)->next) {
		const struct tcp_mark *mark = mark_of(s, m);
		const bool is_in_run = run_last != NULL;
		HOLDS(c, !is_in_run || mark->is_sacked);
		HOLDS(c, !(mark->is_sacked && mark->is_lost));
		if (seq_geq(mark->seq, c->snd_max))
			HOLDS(c, !mark->is_sacked && !mark->is_lost);
		else
			*(mark->is_sacked ? &sacked : mark->is_lost ? &lost : &pipe) += mark->len;
		if (mark->is_lost && f->at[TCP_AT_LOST] != NULL)
			HOLDS(c, seq_leq(mark_of(s, f->at[TCP_AT_LOST])->seq, mark->seq));
		for (unsigned i = 0; i < TCP_PLACES; i++)
			places += f->at[i] == m && !is_in_run;
		if (mark->is_sacked && !is_in_run)
			run_last = tcp_run_last(s, m);
		if (run_last == m)
			run_last = NULL;
	}
	for (unsigned i = 0; i < TCP_PLACES; i++)
		places += f->at[i] == NULL;
	HOLDS(c, run_last == NULL && places == TCP_PLACES);
	HOLDS(c, pipe == f->pipe && sacked == f->sacked && lost == f->lost);
	return NULL;
}

/* Each island is contiguous, knows its last mbuf, and has a gap before it. */
static const char *islands(const struct tcp_conn *c, struct walk *w)
{
	const struct tcp_stack *s = c->stack;
	const struct tcp_reassembly *r = c->reassembly;
	uint32_t count = 0;
	*w = (struct walk){.held = w->held};
	HOLDS(c, seq_gt(mark_of(s, r->head)->seq, c->rcv_nxt));
	for (struct rte_mbuf *first = r->head; first != NULL; first = mark_of(s, w->last)->next) {
		const struct rte_mbuf *last = tcp_run_last(s, first);
		HOLDS(c, w->last == NULL || seq_gt(mark_of(s, first)->seq, end_of(c, w->last)));
		PASSES(step(c, w, first, false));
		while (w->last != last)
			PASSES(step(c, w, mark_of(s, w->last)->next, true));
		HOLDS(c, (mark_of(s, last)->next == NULL) == (r->last_island == first));
		count++;
	}
	HOLDS(c, count == r->islands && count <= TCP_ISLANDS_MAX);
	HOLDS(c, seq_leq(end_of(c, w->last), c->rcv_adv));
	HOLDS(c, !c->fin_seen || seq_leq(end_of(c, w->last), c->fin_seq));
	return NULL;
}

/* What came in order and was not read, up to RCV.NXT; what came out of order, behind it and within the window. */
static const char *receive_queues(const struct tcp_conn *c, struct walk *w)
{
	PASSES(walk(c, w, &c->receive, true));
	HOLDS(c, w->bytes == c->receive_bytes);
	if (w->last != NULL)
		HOLDS(c, end_of(c, w->last) + c->fin_received == c->rcv_nxt);
	const uint32_t in_order = w->mbufs;
	if (c->reassembly != NULL)
		PASSES(islands(c, w));
	HOLDS(c, in_order + (c->reassembly != NULL ? w->mbufs : 0) == c->receive_mbufs);
	return NULL;
}

/* ---- sequence numbers ---- */

static const char *send_sequence(const struct tcp_conn *c)
{
	HOLDS(c, seq_leq(c->iss, c->snd_una) || c->snd_una - c->iss < 1u << 31 || tcp_is_synchronized(c));
	HOLDS(c, seq_leq(c->snd_una, c->snd_max));
	HOLDS(c, seq_leq(c->snd_max, c->send_end + c->fin_queued));
	if (!tcp_is_synchronized(c))
		return NULL;
	/* what was never sent starts at SND.NXT; without it all is sent */
	if (c->send_next != NULL)
		HOLDS(c, mark_of(c->stack, c->send_next)->seq == c->snd_max);
	else
		HOLDS(c, seq_geq(c->snd_max, c->send_end));
	return NULL;
}

static const char *windows(const struct tcp_conn *c)
{
	if (c->state == TCP_SYN_SENT)
		return NULL;
	HOLDS(c, seq_leq(c->rcv_nxt, c->rcv_adv + c->fin_received));
	HOLDS(c, c->rcv_adv - c->irs <= (c->rcv_nxt - c->irs) + c->stack->config.receive_bytes_max);
	HOLDS(c, c->bytes_in == 0 || (uint32_t)c->bytes_in == c->rcv_nxt - c->irs - 1 - c->fin_received);
	HOLDS(c, c->mss >= TCP_MSS_MIN);
	if (!tcp_is_synchronized(c))
		return NULL;
	HOLDS(c, c->max_snd_wnd >= c->snd_wnd);
	HOLDS(c, c->cwnd >= c->mss);
	HOLDS(c, c->ssthresh >= 2 * TCP_MSS_MIN);
	HOLDS(c, c->rto_us > 0 && c->rto_us <= TCP_RTO_MAX_US);
	return NULL;
}

/* ---- nothing waits for nothing ---- */

static bool is_cared_for(const struct tcp_conn *c)
{
	return c->is_dirty || tcp_timer_is_set(c, TCP_TIMER_STARVED);
}

/* Whatever the other side does or leaves undone, time alone moves the connection on. */
static const char *timers(const struct tcp_conn *c)
{
	const bool has_rto = tcp_timer_is_set(c, TCP_TIMER_RETRANSMIT);
	if (!tcp_is_synchronized(c)) {
		HOLDS(c, has_rto);
	} else {
		const bool is_outstanding = c->snd_una != c->snd_max;
		const bool has_unsent = seq_lt(c->snd_max, c->send_end + c->fin_queued);
		if (is_outstanding || has_unsent)
			HOLDS(c, has_rto || is_cared_for(c));
	}
	if (c->ack_now || c->dup_acks_due != 0 || c->syn_due)
		HOLDS(c, is_cared_for(c));
	if (c->text_unacked != 0)
		HOLDS(c, is_cared_for(c) || tcp_timer_is_set(c, TCP_TIMER_DELAYED_ACK));
	if (c->state == TCP_FIN_WAIT_2)
		HOLDS(c, tcp_timer_is_set(c, TCP_TIMER_QUIET));
	for (unsigned i = 0; i < TCP_TIMERS; i++)
		if (c->due_us[i] != UINT64_MAX)
			HOLDS(c, c->armed_us <= c->due_us[i] && timer_is_armed(&c->node));
	return NULL;
}

/* ---- what must not go back ---- */

static const char *onward(const struct tcp_conn *c, struct tcp_watch *watch, size_t slot)
{
	if (slot >= TCP_WATCH_CONNS)
		return NULL;
	typeof(watch->conns[0]) *was = &watch->conns[slot];
	const bool is_same = was->is_used && was->iss == c->iss && was->local_port == c->tuple.local_port &&
		was->irs == c->irs;
	if (is_same) {
		HOLDS(c, seq_geq(c->snd_una, was->snd_una));
		HOLDS(c, seq_geq(c->snd_max, was->snd_max));
		HOLDS(c, seq_geq(c->rcv_nxt, was->rcv_nxt));
		HOLDS(c, seq_geq(c->rcv_adv, was->rcv_adv)); /* the window never shrinks: SHLD-14 */
	}
	*was = (typeof(*was)){true, c->tuple.local_port, c->iss, c->irs, c->snd_una, c->snd_max, c->rcv_nxt,
		c->rcv_adv};
	return NULL;
}

/* ---- one connection ---- */

static const char *conn(const struct tcp_stack *s, const struct tcp_conn *c, uint64_t *held)
{
	struct walk w = {0};
	const tcp_ref ref = tcp_ref_make(TCP_CONN, (size_t)(c - s->conns));
	HOLDS(c, c->stack == s);
	if (c->state == TCP_CLOSED) { /* waits to be told, or has been told just now; what came can be read */
		PASSES(walk(c, &w, &c->receive, true));
		*held += w.held;
		HOLDS(c, c->send.head == NULL && c->reassembly == NULL && !c->is_dirty);
		HOLDS(c, (c->events & TCP_EVENT_ENDED) || s->told == c);
		HOLDS(c, !timer_is_armed(&c->node));
		return NULL;
	}
	PASSES(receive_queues(c, &w));
	PASSES(send_queue(c, &w));
	*held += w.held;
	HOLDS(c, tcp_table_find(s, &c->tuple, tcp_tuple_hash(s, &c->tuple)) == ref);
	PASSES(send_sequence(c));
	PASSES(scoreboard(c));
	PASSES(windows(c));
	return timers(c);
}

/* ---- the stack ---- */

static const char *lists(const struct tcp_stack *s)
{
	const struct tcp_conn *c;
	const struct tcp_time_wait *w;
	uint32_t waiting = 0, due_ms = 0;
	TAILQ_FOREACH(c, &s->dirty, dirty_link)
		HOLDS(c, c->is_dirty && c->state != TCP_CLOSED);
	TAILQ_FOREACH(c, &s->eventful, event_link)
		HOLDS(c, c->events != 0);
	TAILQ_FOREACH(w, &s->time_waiting, link) {
		HOLDS(NULL, waiting == 0 || seq_geq(w->due_ms, due_ms));
		HOLDS(NULL, tcp_table_find(s, &w->tuple, tcp_tuple_hash(s, &w->tuple)) ==
			tcp_ref_make(TCP_TIME_WAITING, (size_t)(w - s->time_waits)));
		due_ms = w->due_ms;
		waiting++;
	}
	HOLDS(NULL, waiting == s->stats.time_wait);
	HOLDS(NULL, s->departures_tail - s->departures_head <= TCP_DEPARTURES);
	return NULL;
}

/* Each is found by its tuple, and is forgotten in the end: it lies in a list by how often it was sent, in time. */
static const char *half_opens(const struct tcp_stack *s)
{
	const struct tcp_half_open *h;
	uint32_t free_ones = 0, waiting = 0;
	TAILQ_FOREACH(h, &s->half_opens_free, link)
		free_ones++;
	for (unsigned sends = 0; sends < TCP_SYN_ACK_SENDS; sends++) {
		uint64_t due_us = 0;
		TAILQ_FOREACH(h, &s->half_open_sent[sends], link) {
			HOLDS(NULL, h->sends == sends + 1 && h->due_us >= due_us);
			HOLDS(NULL, tcp_table_find(s, &h->tuple, tcp_tuple_hash(s, &h->tuple)) ==
				tcp_ref_make(TCP_HALF_OPEN, (size_t)(h - s->half_opens)));
			due_us = h->due_us;
			waiting++;
		}
	}
	HOLDS(NULL, waiting == s->stats.half_open);
	HOLDS(NULL, free_ones + waiting == s->half_opens_fresh);
	return NULL;
}

static bool is_free(const struct tcp_stack *s, const struct tcp_conn *c)
{
	return c->state == TCP_CLOSED && !(c->events & TCP_EVENT_ENDED) && s->told != c;
}

const char *tcp_validate(const struct tcp_stack *s, struct tcp_watch *watch)
{
	uint64_t held = 0;
	uint32_t used = 0, open = 0, free_ones = 0, inbound = 0;
	for (uint32_t i = 0; i < s->conns_fresh; i++) {
		const struct tcp_conn *c = &s->conns[i];
		if (is_free(s, c)) {
			if (watch != NULL && i < TCP_WATCH_CONNS)
				watch->conns[i].is_used = false;
			continue;
		}
		used++;
		open += c->state != TCP_CLOSED;
		inbound += !c->is_active;
		PASSES(conn(s, c, &held));
		if (watch != NULL && c->state > TCP_SYN_SENT)
			PASSES(onward(c, watch, i));
	}
	for (const struct tcp_conn *c = s->conns_free; c != NULL; c = c->free_next)
		free_ones++;
	HOLDS(NULL, used == s->conns_used);
	HOLDS(NULL, open == s->stats.connections);
	HOLDS(NULL, inbound == s->inbound_used);
	HOLDS(NULL, used + free_ones == s->conns_fresh && s->conns_fresh <= s->config.connections_max);
	HOLDS(NULL, held == s->stats.buffered_bytes);
	/* A chained segment is let in by its first mbuf; what is to be sent first may be cut. */
	HOLDS(NULL, held <= s->config.buffer_bytes_max + (64 + 8ull * s->conns_used) * 2304);
	PASSES(lists(s));
	return half_opens(s);
}
