// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_in.c: a segment arrives (RFC 9293 3.10.7), step by step as the RFC has it.
 *
 * Each step says why it drops; replies are ACKs, marked for the next output, or RSTs, sent at once. What RFC
 * 5961 (blind attacks) and RFC 7323 (PAWS) add stands where they put it. */
#include "dataplane/tcp/tcp_private.h"

/* An ACK in answer to something odd: few of them, or two confused ends would talk for ever (RFC 5961 7). */
static enum tcp_drop challenge(struct tcp_conn *c, enum tcp_drop why)
{
	if (tcp_may_reply(c->stack, &c->replies)) {
		c->ack_now = true;
		tcp_dirty(c);
	}
	return why;
}

static void remember_timestamp(struct tcp_conn *c, const struct tcp_segment *seg)
{
	c->ts_recent = seg->tsval;
	c->ts_recent_s = (uint32_t)(c->stack->now_us / 1000000);
}

/* RFC 3168 6.1.1: a SYN with both flags asks; a SYN-ACK with ECE alone agrees. Not if we have asked without, too. */
static bool has_agreed_on_ecn(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	const uint8_t flags = seg->flags & TCP_ECN_FLAGS;
	if (!c->stack->config.ecn || (c->is_active && c->syn_again))
		return false;
	return flags == (seg->flags & RTE_TCP_ACK_FLAG ? RTE_TCP_ECE_FLAG : TCP_ECN_FLAGS);
}

/* What only a SYN says: options, the first sequence number, a window that is not scaled. */
void tcp_window_of_syn(struct tcp_conn *c, const struct tcp_segment *seg)
{
	c->irs = seg->seq;
	c->rcv_nxt = c->read_seq = seg->seq + 1;
	c->rcv_adv = c->rcv_nxt + min_u32(c->stack->config.receive_bytes_max, UINT16_MAX);
	c->last_ack_sent = c->rcv_nxt;
	c->has_wscale = seg->has_wscale;
	c->snd_wscale = seg->has_wscale ? seg->wscale : 0;
	c->rcv_wscale = seg->has_wscale ? c->stack->rcv_wscale : 0;
	c->has_sack = seg->has_sack_ok;
	c->has_ecn = has_agreed_on_ecn(c, seg);
	c->has_ts = seg->has_ts;
	if (seg->has_ts)
		remember_timestamp(c, seg);
	c->peer_mss = tcp_peer_mss(&c->tuple, seg->mss);
	c->snd_wnd = seg->window;
	c->max_snd_wnd = seg->window;
	c->snd_wl1 = seg->seq;
	c->snd_wl2 = seg->ack;
	tcp_mss_update(c, UINT16_MAX);
}

/* ---- 3.10.7.3: SYN-SENT ---- */

static enum tcp_drop process_text_and_fin(struct tcp_conn *c, struct tcp_segment *seg);

static enum tcp_drop syn_sent_arrives(struct tcp_conn *c, struct tcp_segment *seg)
{
	/* first: ACK */
	const bool has_ack = seg->flags & RTE_TCP_ACK_FLAG;
	if (has_ack && (seq_leq(seg->ack, c->iss) || seq_gt(seg->ack, c->snd_max))) {
		if (!(seg->flags & RTE_TCP_RST_FLAG))
			tcp_send_reset_to(c->stack, seg);
		return TCP_DROP_syn_sent_bad_segment;
	}
	/* second: RST (without RFC 5961's test: erratum 8167) */
	if (seg->flags & RTE_TCP_RST_FLAG) {
		if (!has_ack)
			return TCP_DROP_syn_sent_bad_segment;
		tcp_conn_end(c, TCP_END_REFUSED);
		return TCP_DROP_reset;
	}
	/* fourth: SYN */
	if (!(seg->flags & RTE_TCP_SYN_FLAG))
		return TCP_DROP_syn_sent_bad_segment;
	tcp_window_of_syn(c, seg);
	if (!has_ack) { /* both have opened at once */
		tcp_enter(c, TCP_SYN_RECEIVED);
		c->syn_due = true;
		tcp_dirty(c);
		return TCP_DROP_NONE;
	}
	c->snd_una = seg->ack;
	tcp_conn_established(c);
	c->ack_now = true;
	/* fifth: the SYN is done with, what else there is goes on */
	seg->seq++;
	seg->flags &= (uint8_t)~RTE_TCP_SYN_FLAG;
	return process_text_and_fin(c, seg);
}

/* ---- 3.10.7.4: first, the sequence number ---- */

static bool in_window(const struct tcp_conn *c, uint32_t seq)
{
	return seq_leq(c->rcv_nxt, seq) && seq_lt(seq, c->rcv_adv);
}

static bool is_acceptable(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	const uint32_t len = tcp_segment_len(seg);
	/* A closed window still takes ACKs and RSTs; text and FIN of a probe are cut off later. */
	if (c->rcv_adv == c->rcv_nxt)
		return seg->seq == c->rcv_nxt;
	if (len == 0)
		return in_window(c, seg->seq);
	return in_window(c, seg->seq) || in_window(c, seg->seq + len - 1);
}

/* Text that had been received before, from a window ago at most: the ACK in it still counts, as in BSD. */
static bool is_old_text(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	const uint32_t age = c->rcv_nxt - seg->seq;
	return seg->text != 0 && !(seg->flags & (RTE_TCP_SYN_FLAG | RTE_TCP_RST_FLAG)) &&
		age <= c->stack->config.receive_bytes_max + 1 && tcp_segment_len(seg) <= age;
}

static bool is_ts_recent_void(const struct tcp_conn *c)
{
	return (uint32_t)(c->stack->now_us / 1000000) - c->ts_recent_s >= TCP_TS_RECENT_MAX_S;
}

/* PAWS (RFC 7323 5.3 R1); RSTs are not judged by it. */
static bool is_timestamp_old(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	return seg->has_ts && seq_lt(seg->tsval, c->ts_recent) && !is_ts_recent_void(c);
}

static enum tcp_drop check_sequence(struct tcp_conn *c, const struct tcp_segment *seg)
{
	const bool is_reset = seg->flags & RTE_TCP_RST_FLAG;
	if (c->has_ts && !is_reset) {
		if (!seg->has_ts)
			return TCP_DROP_no_timestamp; /* RFC 7323 3.2 */
		if (is_timestamp_old(c, seg))
			return challenge(c, TCP_DROP_old_timestamp);
	}
	if (!is_acceptable(c, seg) && !is_old_text(c, seg)) {
		if (is_reset)
			return TCP_DROP_out_of_window;
		if (tcp_segment_len(seg) == 0 || (seg->flags & RTE_TCP_SYN_FLAG))
			return challenge(c, TCP_DROP_out_of_window);
		c->ack_now = true; /* one a burst: its sender waits for it */
		tcp_dirty(c);
		return TCP_DROP_out_of_window;
	}
	return TCP_DROP_NONE;
}

/* Both have opened at once and this is the other's SYN again, now with the ACK of ours: it lies left of the window,
 * but it completes the handshake (RFC 9293 3.5, figure 8, line 6). */
static void cut_syn_of_both(struct tcp_conn *c, struct tcp_segment *seg)
{
	const uint8_t syn_ack = RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG;
	if (c->state != TCP_SYN_RECEIVED || (seg->flags & (syn_ack | RTE_TCP_RST_FLAG)) != syn_ack ||
		seg->seq != c->irs || seg->ack != c->iss + 1)
		return;
	seg->seq++;
	seg->flags &= (uint8_t)~(RTE_TCP_SYN_FLAG | TCP_ECN_FLAGS); /* which agree on ECN, and tell of no mark */
	/* A peer that goes by the letter of 3.10.7.4 waits for it, also if the segment is dropped for something else. */
	c->ack_now = true;
	tcp_dirty(c);
}

/* Cuts off what lies outside the window, so that the steps below see the idealized segment. */
static void trim(struct tcp_conn *c, struct tcp_segment *seg)
{
	if (seq_lt(seg->seq, c->rcv_nxt)) {
		uint32_t old = c->rcv_nxt - seg->seq;
		if (old > seg->text) /* so is its FIN */
			seg->flags &= (uint8_t)~RTE_TCP_FIN_FLAG;
		uint32_t n = min_u32(old, seg->text);
		tcp_note_duplicate(c, seg->seq, seg->seq + n);
		seg->seq += old;
		seg->skip += n;
		seg->text -= n;
	}
	uint32_t room = c->rcv_adv - seg->seq;
	if (seg->text + !!(seg->flags & RTE_TCP_FIN_FLAG) > room) {
		seg->flags &= (uint8_t)~RTE_TCP_FIN_FLAG;
		seg->text = min_u32(seg->text, room);
	}
}

/* ---- second: RST ---- */

static enum tcp_drop reset_arrives(struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (seg->seq != c->rcv_nxt)
		return challenge(c, TCP_DROP_inexact_reset); /* RFC 5961 3.2 */
	enum tcp_end end = TCP_END_RESET;
	if (c->state == TCP_SYN_RECEIVED)
		end = TCP_END_REFUSED;
	else if ((c->state == TCP_CLOSING || c->state == TCP_LAST_ACK) && c->send_bytes == 0)
		end = TCP_END_CLOSED; /* only the end of the end was lost */
	tcp_conn_end(c, end);
	return TCP_DROP_reset;
}

/* ---- fifth: ACK ---- */

/* RFC 7323 5.3 R3, once the ACK has shown that the segment is no guess. Text that comes again counts too: its
 * sender takes the round trip from the timestamp it gets back. */
static void note_timestamp(struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (c->has_ts && seg->has_ts && (seq_geq(seg->tsval, c->ts_recent) || is_ts_recent_void(c)) &&
		seq_leq(seg->seq, c->last_ack_sent))
		remember_timestamp(c, seg);
}

static enum tcp_drop check_ack(struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (c->state == TCP_SYN_RECEIVED) {
		if (seq_leq(seg->ack, c->snd_una) || seq_gt(seg->ack, c->snd_max)) {
			tcp_send_reset_to(c->stack, seg);
			return TCP_DROP_bad_ack;
		}
		c->snd_wnd = (uint32_t)seg->window << c->snd_wscale;
		c->max_snd_wnd = c->snd_wnd;
		c->snd_wl1 = seg->seq;
		c->snd_wl2 = seg->ack;
		c->snd_una = c->iss + 1;
		tcp_conn_established(c);
	}
	/* RFC 5961 5.2 */
	if (seq_gt(seg->ack, c->snd_max) || seq_lt(seg->ack, c->snd_una - c->max_snd_wnd))
		return challenge(c, TCP_DROP_bad_ack);
	note_timestamp(c, seg);
	tcp_ack_arrives(c, seg);
	return TCP_DROP_NONE;
}

/* ---- seventh: the text; eighth: FIN ---- */

static void fin_arrives(struct tcp_conn *c)
{
	c->fin_received = true;
	c->rcv_nxt++;
	c->ack_now = true;
	tcp_event(c, TCP_EVENT_FIN);
	tcp_dirty(c);
	switch (c->state) {
	case TCP_ESTABLISHED: tcp_enter(c, TCP_CLOSE_WAIT); break;
	case TCP_FIN_WAIT_1: tcp_enter(c, TCP_CLOSING); break; /* were ours acknowledged: FIN-WAIT-2 */
	case TCP_FIN_WAIT_2: tcp_conn_time_wait(c); break;
	default: break;
	}
}

/* Where the peer's text ends is fixed by its first FIN; one that contradicts what came before is no FIN. */
static enum tcp_drop note_fin(struct tcp_conn *c, struct tcp_segment *seg)
{
	const uint32_t end = seg->seq + seg->text;
	if (c->fin_seen) {
		if (seq_leq(end, c->fin_seq))
			return TCP_DROP_NONE;
		seg->text = seq_lt(seg->seq, c->fin_seq) ? c->fin_seq - seg->seq : 0;
		return TCP_DROP_text_after_fin;
	}
	if (!(seg->flags & RTE_TCP_FIN_FLAG))
		return TCP_DROP_NONE;
	if (seq_gt(tcp_reassembly_end(c), end))
		return TCP_DROP_text_after_fin;
	c->fin_seen = true;
	c->fin_seq = end;
	return TCP_DROP_NONE;
}

/* RFC 3168 6.1.3: from a CE mark on every ACK says ECE, until CWR says that it was heard. What lies left of the window is
 * sent again or made up: its mark does not count (6.1.5). */
static void note_congestion(struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (seg->flags & RTE_TCP_CWR_FLAG)
		c->ece_due = false;
	if (seg->ecn == TCP_ECN_CE && !c->ece_due && seq_gt(seg->seq + seg->text, c->rcv_nxt)) {
		c->ece_due = true;
		c->ack_now = true;
		tcp_dirty(c);
	}
}

static enum tcp_drop process_text_and_fin(struct tcp_conn *c, struct tcp_segment *seg)
{
	const uint32_t len = tcp_segment_len(seg);
	if (c->has_ecn && seg->text != 0)
		note_congestion(c, seg);
	trim(c, seg);
	if (c->fin_received || len == 0) {
		if (len != 0)
			c->ack_now = true, tcp_dirty(c);
		return len != 0 ? TCP_DROP_duplicate_text : TCP_DROP_NONE;
	}
	enum tcp_drop drop = note_fin(c, seg);
	if (seg->text != 0) {
		enum tcp_drop d = tcp_text_arrives(c, seg);
		drop = d != TCP_DROP_NONE ? d : drop;
	} else { /* nothing was left of it, or a FIN alone, perhaps ahead of its text */
		c->ack_now = true;
		tcp_dirty(c);
		if (!c->fin_seen && drop == TCP_DROP_NONE)
			drop = c->rcv_adv == c->rcv_nxt ? TCP_DROP_window_closed : TCP_DROP_duplicate_text;
	}
	if (c->fin_seen && c->rcv_nxt == c->fin_seq)
		fin_arrives(c);
	return drop;
}

/* Keepalives and the probes of a closed window lie just left of it: whoever sends them is not silent. */
static bool is_probe(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	return seg->seq == c->rcv_nxt - 1;
}

enum tcp_drop tcp_segment_arrives(struct tcp_conn *c, struct tcp_segment *seg)
{
	enum tcp_drop drop;
	if (c->state == TCP_SYN_SENT)
		return syn_sent_arrives(c, seg);
	cut_syn_of_both(c, seg);
	/* first: sequence number */
	drop = check_sequence(c, seg);
	if (c->state == TCP_FIN_WAIT_2 && (drop == TCP_DROP_NONE || is_probe(c, seg)))
		tcp_timer_set(c, TCP_TIMER_QUIET, c->stack->now_us + TCP_FIN_WAIT_2_US);
	if (drop != TCP_DROP_NONE)
		return drop;
	c->heard_ms = tcp_now_ms(c->stack);
	/* second: RST */
	if (seg->flags & RTE_TCP_RST_FLAG)
		return reset_arrives(c, seg);
	/* third: security; not ours. fourth: SYN (RFC 5961 4.2) */
	if (seg->flags & RTE_TCP_SYN_FLAG)
		return challenge(c, TCP_DROP_unexpected_syn);
	/* fifth: ACK */
	if (!(seg->flags & RTE_TCP_ACK_FLAG))
		return TCP_DROP_no_ack;
	if ((drop = check_ack(c, seg)) != TCP_DROP_NONE || c->state == TCP_CLOSED)
		return drop;
	/* sixth: URG; urgent data is data like all other (RFC 6093). seventh: text. eighth: FIN */
	return process_text_and_fin(c, seg);
}

void tcp_input(struct tcp_stack *s, struct rte_mbuf *m, const struct tcp_arrival *arrival, uint64_t now_us)
{
	struct tcp_segment seg;
	s->now_us = now_us;
	tcp_count(s, segments_in);
	enum tcp_drop drop = tcp_segment_parse(&seg, m, arrival);
	if (drop == TCP_DROP_NONE) {
		seg.hash = tcp_tuple_hash(s, &seg.tuple);
		tcp_ref ref = tcp_table_find(s, &seg.tuple, seg.hash);
		if (tcp_is_traced(s))
			tcp_trace_arrival(s, &seg);
		switch (tcp_ref_kind(ref)) {
		case TCP_CONN: drop = tcp_segment_arrives(&s->conns[tcp_ref_slot(ref)], &seg); break;
		case TCP_HALF_OPEN:
			drop = tcp_half_open_arrives(s, &s->half_opens[tcp_ref_slot(ref)], &seg);
			break;
		case TCP_TIME_WAITING:
			drop = tcp_time_wait_arrives(s, &s->time_waits[tcp_ref_slot(ref)], &seg);
			break;
		case TCP_NOBODY: drop = tcp_nobody_arrives(s, &seg, 0); break;
		}
	}
	if (tcp_is_traced(s))
		tcp_trace_verdict(s, &seg, drop);
	if (drop != TCP_DROP_NONE)
		tcp_drop_count_one(s, drop);
	rte_pktmbuf_free(seg.m);
}
