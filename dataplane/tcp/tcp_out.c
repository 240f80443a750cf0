// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_out.c: what to send now, and sending it.
 *
 * tcp_output() visits the connections that something happened to, once for however many segments or writes
 * that were: so one ACK answers a burst in order, and rides on data where there is some. Nagle's algorithm is not
 * used: the user writes whole replies, and small writes before an output share a segment anyway. */
#include "dataplane/tcp/tcp_private.h"

void tcp_depart(struct tcp_stack *s, struct rte_mbuf *m, const struct tcp_tuple *tuple, uint8_t ecn)
{
	if (tcp_departures_room(s) == 0) {
		tcp_drop_count_one(s, TCP_DROP_departures_full);
		rte_pktmbuf_free_seg(m);
		return;
	}
	if (tcp_is_traced(s))
		tcp_trace_departure(s, m, tuple);
	s->departures[s->departures_tail++ % TCP_DEPARTURES] =
		(struct tcp_departure){m, tuple->local, tuple->remote, ecn};
	tcp_count(s, segments_out);
}

unsigned tcp_take(struct tcp_stack *s, struct tcp_departure *departures, unsigned count)
{
	unsigned n = 0;
	while (n < count && s->departures_head != s->departures_tail)
		departures[n++] = s->departures[s->departures_head++ % TCP_DEPARTURES];
	return n;
}

bool tcp_send_control(struct tcp_stack *s, const struct tcp_header *h)
{
	if (tcp_departures_room(s) == 0) {
		tcp_drop_count_one(s, TCP_DROP_departures_full);
		return false;
	}
	struct rte_mbuf *m = rte_pktmbuf_alloc(s->config.control_pool);
	if (m == NULL) {
		tcp_drop_count_one(s, TCP_DROP_no_control_buffer);
		return false;
	}
	m->data_off = TCP_PAYLOAD_OFFSET;
	tcp_header_prepend(h, m);
	tcp_depart(s, m, h->tuple, 0);
	return true;
}

void tcp_send_reset_to(struct tcp_stack *s, const struct tcp_segment *seg)
{
	struct tcp_header h = {.tuple = &seg->tuple, .flags = RTE_TCP_RST_FLAG};
	if (seg->flags & RTE_TCP_ACK_FLAG) {
		h.seq = seg->ack;
	} else {
		h.flags |= RTE_TCP_ACK_FLAG;
		h.ack = seg->seq + tcp_segment_len(seg);
	}
	tcp_send_control(s, &h);
}

/* ---- the window we offer ---- */

/* Without window scaling the field decides. */
static uint32_t largest_window(const struct tcp_conn *c)
{
	return min_u32(c->rcv_window, (uint32_t)UINT16_MAX << c->rcv_wscale);
}

uint32_t tcp_receive_space(const struct tcp_conn *c)
{
	const uint32_t most = largest_window(c);
	return c->receive_bytes < most ? most - c->receive_bytes : 0;
}

/* The window, never less than was offered (RFC 9293 SHLD-14), and more only by a worthwhile step (3.8.6.2.2).
 * While memory runs short no window grows: what was promised still fits. */
static uint32_t window_to_offer(const struct tcp_conn *c)
{
	const struct tcp_stack *s = c->stack;
	const uint32_t space = tcp_receive_space(c), offered = c->rcv_adv - c->rcv_nxt;
	const uint32_t step = min_u32(largest_window(c) / 2, c->mss);
	if (space < offered + step || tcp_memory_is_short_for(s, TCP_MEMORY_WINDOWS))
		return offered;
	return space;
}

static uint16_t offer_window(struct tcp_conn *c)
{
	if (seq_lt(c->rcv_adv, c->rcv_nxt))
		c->rcv_adv = c->rcv_nxt;
	const uint32_t field = min_u32(window_to_offer(c) >> c->rcv_wscale, UINT16_MAX);
	const uint32_t edge = c->rcv_nxt + (field << c->rcv_wscale);
	if (seq_gt(edge, c->rcv_adv))
		c->rcv_adv = edge;
	return (uint16_t)field;
}

/* Would it grow if there was memory? */
bool tcp_window_is_held(const struct tcp_conn *c)
{
	return tcp_memory_is_short_for(c->stack, TCP_MEMORY_WINDOWS) && !c->fin_received && tcp_is_synchronized(c) &&
		tcp_receive_space(c) > c->rcv_adv - c->rcv_nxt;
}

/* Has reading opened the window so far that the peer should hear of it without being asked? */
bool tcp_window_update_is_due(const struct tcp_conn *c)
{
	if (c->fin_received || !tcp_is_synchronized(c))
		return false;
	const uint32_t most = largest_window(c), offered = c->rcv_adv - c->rcv_nxt;
	const uint32_t window = window_to_offer(c), grows = window - offered;
	return grows >= most / 2 || (grows >= 2u * c->mss && offered < most / 4);
}

/* ---- segments of a connection ---- */

/* `room`: bytes left for SACK blocks, which come last. */
static struct tcp_header header_of(struct tcp_conn *c, uint32_t seq, uint8_t flags, unsigned room)
{
	struct tcp_header h = {
		.tuple = &c->tuple,
		.seq = seq,
		.ack = c->rcv_nxt,
		.flags = flags | (c->ece_due && !(flags & RTE_TCP_RST_FLAG) ? RTE_TCP_ECE_FLAG : 0),
		.window = flags & RTE_TCP_RST_FLAG ? 0 : offer_window(c),
		.has_ts = c->has_ts,
		.tsval = tcp_ts_now(c->stack, c->ts_offset),
		.tsecr = c->ts_recent,
	};
	if (c->has_sack && room >= 12)
		h.sack_count = tcp_sack_blocks(c, h.sack, min_u32((room - 4) / 8, c->has_ts ? 3 : TCP_SACK_BLOCKS));
	return h;
}

static void ack_was_sent(struct tcp_conn *c)
{
	c->ack_now = false;
	c->text_unacked = 0;
	c->last_ack_sent = c->rcv_nxt;
	tcp_timer_stop(c, TCP_TIMER_DELAYED_ACK);
}

bool tcp_send_ack(struct tcp_conn *c, uint32_t seq, uint8_t flags)
{
	const struct tcp_header h = header_of(c, seq, flags, flags & RTE_TCP_RST_FLAG ? 0 : 40);
	if (!tcp_send_control(c->stack, &h))
		return false;
	ack_was_sent(c);
	return true;
}

bool tcp_send_syn(struct tcp_conn *c)
{
	const bool is_answer = c->state == TCP_SYN_RECEIVED;
	struct tcp_stack *s = c->stack;
	struct tcp_header h = {
		.tuple = &c->tuple,
		.seq = c->iss,
		.ack = is_answer ? c->rcv_nxt : 0,
		.flags = is_answer ? RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG : RTE_TCP_SYN_FLAG,
		.window = (uint16_t)min_u32(s->config.receive_bytes_max, UINT16_MAX),
		.has_ts = !is_answer || c->has_ts,
		.has_wscale = !is_answer || c->has_wscale,
		.has_sack_ok = !is_answer || c->has_sack,
		.wscale = s->rcv_wscale,
		.mss = tcp_mss_to_announce(s, &c->tuple),
		.tsval = tcp_ts_now(s, c->ts_offset),
		.tsecr = is_answer ? c->ts_recent : 0,
	};
	/* A SYN that got no answer is sent again without: something on the way may drop it for that (6.1.1.1). */
	if (is_answer ? c->has_ecn : s->config.ecn && !c->syn_again)
		h.flags |= is_answer ? RTE_TCP_ECE_FLAG : TCP_ECN_FLAGS;
	if (!tcp_send_control(s, &h))
		return false;
	if (seq_lt(c->snd_max, c->iss + 1))
		c->snd_max = c->iss + 1;
	return true;
}

/* A copy for the wire, where the driver has not let go of the one it sent before. */
static struct rte_mbuf *copy_record(struct tcp_conn *c, struct rte_mbuf *m, const struct tcp_mark *mark)
{
	struct rte_mbuf *copy = rte_pktmbuf_alloc(c->stack->config.pool);
	if (copy == NULL) {
		tcp_drop_count_one(c->stack, TCP_DROP_no_data_buffer);
		return NULL;
	}
	memcpy((uint8_t *)copy->buf_addr + TCP_PAYLOAD_OFFSET, tcp_marked_bytes(m, mark), mark->len);
	copy->data_off = TCP_PAYLOAD_OFFSET;
	return copy;
}

static struct rte_mbuf *reuse_record(struct rte_mbuf *m, const struct tcp_mark *mark)
{
	m->data_off = mark->offset;
	m->next = NULL;
	m->nb_segs = 1;
	m->ol_flags = 0;
	m->tx_offload = 0;
	rte_mbuf_refcnt_update(m, 1);
	return m;
}

/* Sends one record of the queue; false: no mbuf for it. */
static bool send_record(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_stack *s = c->stack;
	struct tcp_mark *mark = tcp_mark(s, m);
	if (mark->len > c->mss && !tcp_send_split(c, m, c->mss))
		return false;
	struct rte_mbuf *out =
		rte_mbuf_refcnt_read(m) == 1 ? reuse_record(m, mark) : copy_record(c, m, mark);
	if (out == NULL)
		return false;
	uint8_t flags = RTE_TCP_ACK_FLAG;
	if (mark->next == NULL)
		flags |= c->fin_queued ? RTE_TCP_PSH_FLAG | RTE_TCP_FIN_FLAG : RTE_TCP_PSH_FLAG;
	const bool is_new = seq_geq(mark->seq, c->snd_max), has_ecn = c->has_ecn && is_new;
	if (has_ecn && c->cwr_due)
		flags |= RTE_TCP_CWR_FLAG;
	c->cwr_due &= !has_ecn;
	const struct tcp_header h = header_of(c, mark->seq, flags, c->mss - mark->len);
	const uint32_t end = mark->seq + mark->len + !!(flags & RTE_TCP_FIN_FLAG);
	out->data_len = mark->len;
	out->pkt_len = mark->len;
	if (s->config.leaves_checksum)
		out->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
	tcp_header_prepend(&h, out);
	tcp_depart(s, out, &c->tuple, has_ecn ? TCP_ECN_ECT0 : 0); /* never what is sent again (6.1.5) */
	tcp_scoreboard_sent(c, m, is_new);
	if (!is_new) {
		tcp_count(s, retransmits);
		c->retransmits++;
	}
	tcp_recovery_sent(c, mark->len, is_new);
	c->last_send_us = s->now_us;
	if (seq_gt(end, c->snd_max))
		c->snd_max = end;
	ack_was_sent(c);
	return true;
}

static bool send_fin(struct tcp_conn *c)
{
	if (!tcp_send_ack(c, c->send_end, RTE_TCP_ACK_FLAG | RTE_TCP_FIN_FLAG))
		return false;
	if (c->snd_max == c->send_end + 1) {
		tcp_count(c->stack, retransmits);
		c->retransmits++;
	}
	c->snd_max = c->send_end + 1;
	return true;
}

static void starved(struct tcp_conn *c)
{
	tcp_try_again(c);
}

/* ---- how much may be sent ---- */

enum sent { SENT_ONE, SENT_NOTHING, SENT_STARVED };

/* RFC 9293 3.8.6.2.1, sender's silly window: less than a segment is sent only if it is all there is, or at
 * least half of the largest window seen, or if the persist timer says so. `*len`: how much of the record. */
static bool may_send(struct tcp_conn *c, const struct tcp_mark *mark, uint16_t *len)
{
	const uint32_t pipe = tcp_pipe(c), before = mark->seq - c->snd_una;
	const uint32_t wanted = min_u32(mark->len, c->mss);
	*len = (uint16_t)wanted;
	if (pipe + wanted > c->cwnd && pipe != 0) {
		c->cwnd_limited = true;
		return false;
	}
	if (before + wanted <= c->snd_wnd)
		return true;
	const uint32_t room = c->snd_wnd > before ? c->snd_wnd - before : 0;
	*len = (uint16_t)room;
	return room != 0 && (room >= c->max_snd_wnd / 2 || c->probe_due);
}

static enum sent send_fin_if_due(struct tcp_conn *c)
{
	if (!c->fin_queued || (c->snd_max != c->send_end && !c->fin_lost))
		return SENT_NOTHING;
	if (!send_fin(c))
		return SENT_STARVED;
	c->fin_lost = false;
	return SENT_ONE;
}

/* Sends a record that was never sent: `m` is c->send_next. */
static bool send_new(struct tcp_conn *c, struct rte_mbuf *m)
{
	if (!send_record(c, m))
		return false;
	c->send_next = tcp_mark(c->stack, m)->next;
	return true;
}

static enum sent send_data_if_due(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_mark *mark = tcp_mark(c->stack, m);
	uint16_t len;
	if (!may_send(c, mark, &len))
		return SENT_NOTHING;
	if (len < mark->len && !tcp_send_split(c, m, len))
		return SENT_STARVED;
	if (!(m == c->send_next ? send_new(c, m) : send_record(c, m)))
		return SENT_STARVED;
	c->probe_due = false;
	return SENT_ONE;
}

/* What is lost goes first (RFC 6675 4, NextSeg). */
static enum sent send_next(struct tcp_conn *c)
{
	const bool was_idle = c->snd_una == c->snd_max;
	struct rte_mbuf *lost = tcp_scoreboard_next_lost(c), *m = lost != NULL ? lost : c->send_next;
	if (was_idle && m != NULL && c->stack->now_us - c->last_send_us > c->rto_us)
		tcp_cc_idle(c);
	c->cwnd_limited = false;
	const enum sent sent = m != NULL ? send_data_if_due(c, m) : send_fin_if_due(c);
	if (sent != SENT_ONE)
		return sent;
	if (was_idle) {
		c->progress_us = c->stack->now_us;
		c->moved_ms = tcp_now_ms(c->stack);
	}
	if (c->is_persisting) {
		c->is_persisting = false;
		tcp_rto_restart(c);
	} else if (!tcp_timer_is_set(c, TCP_TIMER_RETRANSMIT)) {
		tcp_rto_restart(c);
	}
	if (lost == NULL)
		tcp_probe_schedule(c);
	return sent;
}

static bool is_in_window(const struct tcp_conn *c, struct rte_mbuf *m)
{
	return tcp_mark_end(tcp_mark(c->stack, m)) - c->snd_una <= c->snd_wnd;
}

/* RFC 8985 7.3: new text, if there is some and a window for it, else the last that was sent. */
static bool send_tail_probe(struct tcp_conn *c)
{
	struct rte_mbuf *m = c->send_next;
	const bool is_new = m != NULL && is_in_window(c, m);
	if (!is_new)
		m = c->flight != NULL ? c->flight->last_sent : NULL;
	const bool is_possible = m != NULL && !tcp_mark(c->stack, m)->is_sacked && is_in_window(c, m);
	const bool is_sent = is_possible && (is_new ? send_new(c, m) : send_record(c, m));
	c->tail_probe_due = false;
	if (is_sent)
		tcp_probe_sent(c, !is_new);
	return is_sent || !is_possible;
}

/* ---- one connection ---- */

static bool output_handshake(struct tcp_conn *c)
{
	if (c->syn_due && !tcp_send_syn(c))
		return false;
	c->syn_due = false;
	return !c->ack_now || tcp_send_ack(c, c->snd_max, RTE_TCP_ACK_FLAG);
}

/* Nothing is in flight, so no window of ours keeps it from being sent. What the peer has sacked and kept back its
 * ACK from is the retransmission timer's. */
static bool is_persist_due(const struct tcp_conn *c)
{
	const struct tcp_flight *f = c->flight;
	return f != NULL && f->pipe == 0 && f->sacked == 0 && (f->lost != 0 || c->send_next != NULL);
}

/* There is something to send and no window for it: the persist timer takes over (RFC 9293 3.8.6.1). The probe
 * has an old sequence number and no text: it is never acceptable, so it is always answered. */
static bool output_probe(struct tcp_conn *c)
{
	if (!is_persist_due(c)) {
		c->probe_due = false;
		return true;
	}
	if (!c->is_persisting) {
		c->is_persisting = true;
		c->progress_us = c->stack->now_us;
		c->backoff = 0;
		tcp_rto_restart(c);
	}
	if (!c->probe_due)
		return true;
	c->probe_due = false;
	return tcp_send_ack(c, c->snd_una - 1, RTE_TCP_ACK_FLAG);
}

uint32_t tcp_ack_seq(const struct tcp_conn *c)
{
	const uint32_t edge = c->snd_una + c->snd_wnd;
	return seq_lt(edge, c->snd_max) ? edge : c->snd_max;
}

/* Then the duplicates: the first of them serves as the ACK that is due, unless that one says something new. */
static bool output_acks(struct tcp_conn *c)
{
	const bool is_news = c->dup_acks_due == 0 || c->last_ack_sent != c->rcv_nxt;
	if (c->ack_now && is_news && !tcp_send_ack(c, tcp_ack_seq(c), RTE_TCP_ACK_FLAG))
		return false;
	for (; c->dup_acks_due > 0; c->dup_acks_due--)
		if (!tcp_send_ack(c, tcp_ack_seq(c), RTE_TCP_ACK_FLAG))
			return false;
	return true;
}

/* false: it has more to send than it may at once, or there is no room. */
static bool output_conn(struct tcp_conn *c)
{
	enum sent sent = SENT_NOTHING;
	if (!tcp_is_synchronized(c)) {
		sent = output_handshake(c) ? SENT_NOTHING : SENT_STARVED;
	} else if (c->tail_probe_due && tcp_departures_room(c->stack) != 0 && !send_tail_probe(c)) {
		sent = SENT_STARVED;
	} else {
		for (unsigned i = 0; i < TCP_BURST_SEGMENTS; i++) {
			if (tcp_departures_room(c->stack) == 0)
				return false;
			if ((sent = send_next(c)) != SENT_ONE)
				break;
		}
		if (sent == SENT_ONE)
			return false;
		if (sent == SENT_NOTHING && !(output_probe(c) && output_acks(c)))
			sent = SENT_STARVED;
	}
	if (sent == SENT_STARVED)
		starved(c);
	return true;
}

void tcp_output(struct tcp_stack *s, uint64_t now_us)
{
	struct tcp_conn *c;
	s->now_us = now_us;
	while (tcp_departures_room(s) != 0 && (c = TAILQ_FIRST(&s->dirty)) != NULL) {
		TAILQ_REMOVE(&s->dirty, c, dirty_link);
		c->is_dirty = false;
		if (!output_conn(c))
			tcp_dirty(c);
	}
}
