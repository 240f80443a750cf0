// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_half_open.c: segments to nobody, and passive opens from the SYN to the ACK of our SYN-ACK.
 *
 * Until then a connection is one small record, and nothing of it is told to the user. A record is
 * LISTEN and SYN-RECEIVED of RFC 9293 in one: "return to LISTEN" is to forget it. The SYN-ACK is sent again a
 * few times, since in SMTP the server speaks first and a client whose last ACK was lost would wait for ever. */
#include "dataplane/tcp/tcp_private.h"

static bool send_syn_ack(struct tcp_stack *s, const struct tcp_half_open *h, uint32_t tsval)
{
	const struct tcp_header header = {
		.tuple = &h->tuple,
		.seq = h->iss,
		.ack = h->irs + 1,
		.flags = RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG | (h->has_ecn ? RTE_TCP_ECE_FLAG : 0),
		.window = (uint16_t)min_u32(s->config.receive_bytes_max, UINT16_MAX),
		.has_ts = h->has_ts,
		.has_wscale = h->has_wscale,
		.has_sack_ok = h->has_sack,
		.wscale = s->rcv_wscale,
		.mss = tcp_mss_to_announce(s, &h->tuple),
		.tsval = tsval,
		.tsecr = h->ts_recent,
	};
	return tcp_send_control(s, &header);
}

static uint32_t ts_now(const struct tcp_stack *s, const struct tcp_half_open *h)
{
	return h->has_ts ? tcp_ts_now(s, tcp_ts_offset(s, &h->tuple)) : 0;
}

static void send_ack(struct tcp_stack *s, struct tcp_half_open *h)
{
	const struct tcp_header header = {
		.tuple = &h->tuple,
		.seq = h->iss + 1,
		.ack = h->irs + 1,
		.flags = RTE_TCP_ACK_FLAG,
		.window = (uint16_t)(min_u32(s->config.receive_bytes_max, UINT16_MAX) >>
			(h->has_wscale ? s->rcv_wscale : 0)),
		.has_ts = h->has_ts,
		.tsval = ts_now(s, h),
		.tsecr = h->ts_recent,
	};
	if (tcp_may_reply(s, &h->replies))
		tcp_send_control(s, &header);
}

/* ---- the SYN cache ---- */

static tcp_ref ref_of(const struct tcp_stack *s, const struct tcp_half_open *h)
{
	return tcp_ref_make(TCP_HALF_OPEN, (size_t)(h - s->half_opens));
}

void tcp_half_open_end(struct tcp_stack *s, struct tcp_half_open *h)
{
	tcp_table_remove(s, h->hash, ref_of(s, h));
	TAILQ_REMOVE(&s->half_open_sent[h->sends - 1], h, link);
	TAILQ_INSERT_HEAD(&s->half_opens_free, h, link);
	tcp_count_add(s, half_open, -1);
}

/* All that were sent as often wait as long, so they lie in one list in the order in which they are due. */
static void send_and_wait(struct tcp_stack *s, struct tcp_half_open *h)
{
	h->sends++;
	h->due_us = s->now_us + ((uint64_t)TCP_RTO_INITIAL_US << (h->sends - 1));
	TAILQ_INSERT_TAIL(&s->half_open_sent[h->sends - 1], h, link);
	send_syn_ack(s, h, ts_now(s, h));
}

static void half_open_fire(struct tcp_stack *s, struct tcp_half_open *h)
{
	if (h->sends >= TCP_SYN_ACK_SENDS) {
		tcp_half_open_end(s, h);
		return;
	}
	TAILQ_REMOVE(&s->half_open_sent[h->sends - 1], h, link);
	tcp_count(s, retransmits);
	send_and_wait(s, h);
}

/* What came in one burst of SYNs is due in one: no more at once than leaves room for others to send. */
void tcp_half_open_expire(struct tcp_stack *s)
{
	for (unsigned sends = TCP_SYN_ACK_SENDS; sends-- > 0;) {
		struct tcp_half_open *h;
		while ((h = TAILQ_FIRST(&s->half_open_sent[sends])) != NULL && h->due_us <= s->now_us &&
			tcp_departures_room(s) > TCP_DEPARTURES / 2)
			half_open_fire(s, h);
	}
}

uint64_t tcp_half_open_due_us(const struct tcp_stack *s)
{
	uint64_t due = UINT64_MAX;
	for (unsigned sends = 0; sends < TCP_SYN_ACK_SENDS; sends++) {
		const struct tcp_half_open *h = TAILQ_FIRST(&s->half_open_sent[sends]);
		if (h != NULL && h->due_us < due)
			due = h->due_us;
	}
	return due;
}

/* At the limit, who pays? An entry of which the SYN-ACK has gone out three times without an answer (3 s and
 * more) is most likely nobody's: it does, the oldest first. Younger ones may be answered any moment, and since
 * they said nothing of a cookie, an ACK to one that was forgotten would be answered with RST: rather the new one
 * gets a cookie, which may still lead to a connection. NULL: that is the case. */
static struct tcp_half_open *half_open_get(struct tcp_stack *s)
{
	if (TAILQ_EMPTY(&s->half_opens_free) && s->half_opens_fresh < s->config.half_open_max)
		return &s->half_opens[s->half_opens_fresh++];
	for (unsigned sends = TCP_SYN_ACK_SENDS; TAILQ_EMPTY(&s->half_opens_free) && sends >= TCP_SYN_ACK_STALE; sends--)
		if (!TAILQ_EMPTY(&s->half_open_sent[sends - 1])) {
			tcp_count(s, half_open_evicted);
			tcp_half_open_end(s, TAILQ_FIRST(&s->half_open_sent[sends - 1]));
		}
	struct tcp_half_open *h = TAILQ_FIRST(&s->half_opens_free);
	if (h != NULL)
		TAILQ_REMOVE(&s->half_opens_free, h, link);
	return h;
}

static struct tcp_half_open half_open_of(const struct tcp_stack *s, const struct tcp_segment *syn, uint32_t tag)
{
	return (struct tcp_half_open){
		.tuple = syn->tuple,
		.hash = (uint32_t)syn->hash,
		.irs = syn->seq,
		.sent_us = (uint32_t)s->now_us,
		.ts_recent = syn->tsval,
		.tag = tag,
		.peer_mss = syn->mss,
		.snd_wnd = syn->window,
		.snd_wscale = syn->wscale & 15,
		.has_ts = syn->has_ts,
		.has_wscale = syn->has_wscale,
		.has_sack = syn->has_sack_ok,
		.has_ecn = s->config.ecn && (syn->flags & TCP_ECN_FLAGS) == TCP_ECN_FLAGS,
	};
}

static void half_open_start(struct tcp_stack *s, const struct tcp_segment *syn, uint32_t tag, uint32_t iss_least)
{
	struct tcp_half_open *h = half_open_get(s), unkept;
	if (h == NULL) {
		unkept = half_open_of(s, syn, tag);
		const uint32_t tsval = tcp_cookie_make(s, &unkept);
		if (send_syn_ack(s, &unkept, tsval))
			tcp_count(s, cookies_sent);
		return;
	}
	*h = half_open_of(s, syn, tag);
	h->iss = tcp_isn(s, &syn->tuple);
	if (iss_least != 0 && seq_leq(h->iss, iss_least))
		h->iss = iss_least + 1;
	tcp_count(s, half_open);
	tcp_table_insert(s, syn->hash, ref_of(s, h));
	send_and_wait(s, h);
}

/* ---- it becomes a connection ---- */

/* The handshake is done but for the segment that ends it, which then arrives at the connection. */
static enum tcp_drop become_conn(struct tcp_stack *s, const struct tcp_half_open *was, struct tcp_segment *seg)
{
	struct tcp_conn *c = tcp_conn_get(s, &was->tuple, seg->hash);
	if (c == NULL)
		return TCP_DROP_connections_full;
	s->inbound_used++;
	const struct tcp_segment syn = {
		.seq = was->irs,
		.window = was->snd_wnd,
		.mss = was->peer_mss,
		.has_wscale = was->has_wscale,
		.wscale = was->snd_wscale,
		.has_sack_ok = was->has_sack,
		.flags = was->has_ecn ? TCP_ECN_FLAGS : 0,
		.has_ts = was->has_ts,
		.tsval = was->ts_recent,
	};
	c->tag = was->tag;
	c->ts_offset = tcp_ts_offset(s, &was->tuple);
	c->iss = was->iss;
	c->snd_una = c->recover = was->iss;
	c->snd_max = c->send_end = was->iss + 1;
	c->syn_again = was->sends != 1;
	if (!c->syn_again)
		c->progress_us = s->now_us - ((uint32_t)s->now_us - was->sent_us);
	tcp_window_of_syn(c, &syn);
	tcp_enter(c, TCP_SYN_RECEIVED);
	return tcp_segment_arrives(c, seg);
}

/* May a peer open one more? */
static enum tcp_drop check_limits(const struct tcp_stack *s)
{
	if (s->conns_used + s->stats.half_open >= s->config.connections_max)
		return TCP_DROP_connections_full;
	if (s->inbound_used + s->stats.half_open >= s->config.inbound_max)
		return TCP_DROP_inbound_full;
	return tcp_memory_is_short_for(s, TCP_MEMORY_NEW) ? TCP_DROP_memory_short : TCP_DROP_NONE;
}

/* An ACK to a listener: of nobody, or of a cookie. RST where it cannot be, so that a client does not wait. */
static enum tcp_drop ack_to_listener(struct tcp_stack *s, const struct tcp_listener *l, struct tcp_segment *seg)
{
	struct tcp_half_open was;
	const bool are_out = s->now_us < s->cookies_until_us;
	if (!(seg->flags & RTE_TCP_SYN_FLAG) && tcp_cookie_check(s, seg, &was)) {
		const enum tcp_drop full = check_limits(s);
		if (full == TCP_DROP_NONE) {
			was.tag = l->tag;
			tcp_count(s, cookies_accepted);
			return become_conn(s, &was, seg);
		}
		tcp_send_reset_to(s, seg);
		return full;
	}
	tcp_send_reset_to(s, seg);
	if (!are_out)
		return TCP_DROP_not_listening_for;
	tcp_count(s, cookies_refused);
	return TCP_DROP_cookie_refused;
}

/* 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN) */
enum tcp_drop tcp_nobody_arrives(struct tcp_stack *s, struct tcp_segment *seg, uint32_t iss_least)
{
	if (seg->flags & RTE_TCP_RST_FLAG)
		return TCP_DROP_no_connection;
	const struct tcp_listener *l = tcp_listener_find(s, &seg->tuple.local, seg->tuple.local_port);
	if (l == NULL) {
		tcp_send_reset_to(s, seg);
		return TCP_DROP_no_connection;
	}
	if (seg->flags & RTE_TCP_ACK_FLAG)
		return ack_to_listener(s, l, seg);
	const enum tcp_drop full = check_limits(s);
	if (full == TCP_DROP_NONE)
		half_open_start(s, seg, l->tag, iss_least); /* text or FIN in a SYN will come again */
	return full;
}

static bool is_acceptable(const struct tcp_stack *s, const struct tcp_half_open *h, const struct tcp_segment *seg)
{
	const uint32_t window = min_u32(s->config.receive_bytes_max, UINT16_MAX);
	return seg->seq - (h->irs + 1) < window;
}

/* SYN-RECEIVED of 3.10.7.4, in its order */
enum tcp_drop tcp_half_open_arrives(struct tcp_stack *s, struct tcp_half_open *h, struct tcp_segment *seg)
{
	const uint8_t flags = seg->flags;
	if ((flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG | RTE_TCP_RST_FLAG)) == RTE_TCP_SYN_FLAG && seg->seq == h->irs) {
		h->has_ecn &= (flags & TCP_ECN_FLAGS) == TCP_ECN_FLAGS; /* it asks no more (RFC 3168 6.1.1.1) */
		if (tcp_may_reply(s, &h->replies))
			send_syn_ack(s, h, ts_now(s, h));
		return TCP_DROP_duplicate_syn;
	}
	/* first: sequence number and timestamp */
	if (h->has_ts && !(flags & RTE_TCP_RST_FLAG) && !seg->has_ts)
		return TCP_DROP_no_timestamp;
	const bool is_old = h->has_ts && seg->has_ts && seq_lt(seg->tsval, h->ts_recent);
	if (!is_acceptable(s, h, seg) || (is_old && !(flags & RTE_TCP_RST_FLAG))) {
		if (!(flags & RTE_TCP_RST_FLAG))
			send_ack(s, h);
		return is_old ? TCP_DROP_old_timestamp : TCP_DROP_out_of_window;
	}
	/* second: RST */
	if (flags & RTE_TCP_RST_FLAG) {
		if (seg->seq != h->irs + 1) {
			send_ack(s, h);
			return TCP_DROP_inexact_reset;
		}
		tcp_half_open_end(s, h);
		return TCP_DROP_half_open_reset;
	}
	/* fourth: SYN */
	if (flags & RTE_TCP_SYN_FLAG) {
		tcp_half_open_end(s, h);
		return TCP_DROP_unexpected_syn;
	}
	/* fifth: ACK */
	if (!(flags & RTE_TCP_ACK_FLAG))
		return TCP_DROP_no_ack;
	struct tcp_half_open was = *h;
	if (seg->ack != h->iss + 1) {
		/* Its first SYN was answered with a cookie, and there was room for the one it sent again. */
		if (!tcp_cookie_check(s, seg, &was)) {
			tcp_send_reset_to(s, seg);
			return TCP_DROP_half_open_bad_ack;
		}
		was.tag = h->tag;
		tcp_count(s, cookies_accepted);
	}
	tcp_half_open_end(s, h);
	return become_conn(s, &was, seg);
}
