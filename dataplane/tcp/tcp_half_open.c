// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_half_open.c: segments to nobody, and passive opens from the SYN to the ACK of our SYN-ACK.
 *
 * Until then a connection is one small record with a timer, and nothing of it is told to the user. A record is
 * LISTEN and SYN-RECEIVED of RFC 9293 in one: "return to LISTEN" is to forget it. The SYN-ACK is sent again a
 * few times, since in SMTP the server speaks first and a client whose last ACK was lost would wait for ever. */
#include "dataplane/tcp/tcp_private.h"

static bool send_syn_ack(struct tcp_stack *s, struct tcp_half_open *h)
{
	const struct tcp_header header = {
		.tuple = &h->tuple,
		.seq = h->iss,
		.ack = h->irs + 1,
		.flags = RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG,
		.window = (uint16_t)min_u32(s->config.receive_bytes_max, UINT16_MAX),
		.has_ts = h->has_ts,
		.has_wscale = h->has_wscale,
		.wscale = s->rcv_wscale,
		.mss = tcp_mss_to_announce(s, &h->tuple),
		.tsval = tcp_ts_now(s, h->ts_offset),
		.tsecr = h->ts_recent,
	};
	return tcp_send_control(s, &header);
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
		.tsval = tcp_ts_now(s, h->ts_offset),
		.tsecr = h->ts_recent,
	};
	if (tcp_may_reply(s, &h->replies, &h->reply_second))
		tcp_send_control(s, &header);
}

static tcp_ref ref_of(const struct tcp_stack *s, const struct tcp_half_open *h)
{
	return tcp_ref_make(TCP_HALF_OPEN, (size_t)(h - s->half_opens));
}

void tcp_half_open_end(struct tcp_stack *s, struct tcp_half_open *h)
{
	timer_wheel_cancel(&s->wheel, &h->node);
	tcp_table_remove(s, h->hash, ref_of(s, h));
	h->free_next = s->half_opens_free;
	s->half_opens_free = h;
	s->stats.half_open--;
}

static void wait_for_ack(struct tcp_stack *s, struct tcp_half_open *h)
{
	timer_wheel_arm(&s->wheel, &h->node, s->now_us + ((uint64_t)TCP_RTO_INITIAL_US << (h->sends - 1)));
}

void tcp_half_open_fire(struct timer_node *node, void *user)
{
	struct tcp_stack *s = user;
	struct tcp_half_open *h = RTE_PTR_SUB(node, offsetof(struct tcp_half_open, node));
	if (h->sends >= TCP_SYN_ACK_SENDS) {
		tcp_half_open_end(s, h);
		return;
	}
	h->sends++;
	s->stats.retransmits++;
	send_syn_ack(s, h);
	wait_for_ack(s, h);
}

static void half_open_start(struct tcp_stack *s, const struct tcp_segment *seg, uint32_t tag, uint32_t iss_least)
{
	struct tcp_half_open *h = s->half_opens_free;
	s->half_opens_free = h->free_next;
	*h = (struct tcp_half_open){
		.tuple = seg->tuple,
		.hash = seg->hash,
		.irs = seg->seq,
		.iss = tcp_isn(s, &seg->tuple),
		.node.fire = tcp_half_open_fire,
		.sent_us = s->now_us,
		.ts_recent = seg->tsval,
		.ts_offset = tcp_ts_offset(s, &seg->tuple),
		.tag = tag,
		.peer_mss = seg->mss,
		.snd_wnd = seg->window,
		.snd_wscale = seg->wscale,
		.sends = 1,
		.has_ts = seg->has_ts,
		.has_wscale = seg->has_wscale,
	};
	if (iss_least != 0 && seq_leq(h->iss, iss_least))
		h->iss = iss_least + 1;
	s->stats.half_open++;
	tcp_table_insert(s, h->hash, ref_of(s, h));
	send_syn_ack(s, h);
	wait_for_ack(s, h);
}

/* 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN) */
enum tcp_drop tcp_nobody_arrives(struct tcp_stack *s, struct tcp_segment *seg, uint32_t iss_least)
{
	if (seg->flags & RTE_TCP_RST_FLAG)
		return TCP_DROP_no_connection;
	const struct tcp_listener *l = tcp_listener_find(s, &seg->tuple.local, seg->tuple.local_port);
	if (l == NULL || (seg->flags & RTE_TCP_ACK_FLAG)) {
		tcp_send_reset_to(s, seg);
		return l == NULL ? TCP_DROP_no_connection : TCP_DROP_not_listening_for;
	}
	if (s->conns_used + s->stats.half_open >= s->config.connections_max)
		return TCP_DROP_connections_full;
	if (s->half_opens_free == NULL)
		return TCP_DROP_half_open_full;
	half_open_start(s, seg, l->tag, iss_least); /* text or FIN in a SYN will come again */
	return TCP_DROP_NONE;
}

/* The handshake is done but for the segment that ends it, which then arrives at the connection. */
static struct tcp_conn *become_conn(struct tcp_stack *s, struct tcp_half_open *h)
{
	const struct tcp_half_open was = *h;
	tcp_half_open_end(s, h);
	struct tcp_conn *c = tcp_conn_get(s, &was.tuple, was.hash);
	if (c == NULL)
		return NULL;
	const struct tcp_segment syn = {
		.seq = was.irs,
		.window = was.snd_wnd,
		.mss = was.peer_mss,
		.has_wscale = was.has_wscale,
		.wscale = was.snd_wscale,
		.has_ts = was.has_ts,
		.tsval = was.ts_recent,
	};
	c->tag = was.tag;
	c->ts_offset = was.ts_offset;
	c->iss = was.iss;
	c->snd_una = c->recover = was.iss;
	c->snd_nxt = c->snd_max = c->send_end = was.iss + 1;
	c->syn_sent_us = was.sends == 1 ? was.sent_us : 0;
	tcp_window_of_syn(c, &syn);
	tcp_enter(c, TCP_SYN_RECEIVED);
	return c;
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
	if ((flags & RTE_TCP_SYN_FLAG) && !(flags & RTE_TCP_ACK_FLAG) && seg->seq == h->irs) {
		if (tcp_may_reply(s, &h->replies, &h->reply_second))
			send_syn_ack(s, h);
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
	if (seg->ack != h->iss + 1) {
		tcp_send_reset_to(s, seg);
		return TCP_DROP_half_open_bad_ack;
	}
	struct tcp_conn *c = become_conn(s, h);
	return c == NULL ? TCP_DROP_connections_full : tcp_segment_arrives(c, seg);
}
