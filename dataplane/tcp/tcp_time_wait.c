// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_time_wait.c: what is left of a connection that we closed first: enough to answer a lost
 * last ACK, to keep old segments from a new connection, and to let a newer one in (RFC 6191).
 *
 * The wait is the same for all, so they lie in one list in order of their end. RSTs are ignored (RFC 1337).
 * At the limit the oldest makes room. */
#include "dataplane/tcp/tcp_private.h"

static tcp_ref ref_of(const struct tcp_stack *s, const struct tcp_time_wait *w)
{
	return tcp_ref_make(TCP_TIME_WAITING, (size_t)(w - s->time_waits));
}

static void time_wait_end(struct tcp_stack *s, struct tcp_time_wait *w)
{
	tcp_table_remove(s, w->hash, ref_of(s, w));
	TAILQ_REMOVE(&s->time_waiting, w, link);
	TAILQ_INSERT_HEAD(&s->time_waits_free, w, link);
	tcp_count_add(s, time_wait, -1);
}

static struct tcp_time_wait *time_wait_get(struct tcp_stack *s)
{
	if (TAILQ_EMPTY(&s->time_waits_free) && s->time_waits_fresh < s->config.time_wait_max)
		return &s->time_waits[s->time_waits_fresh++];
	if (TAILQ_EMPTY(&s->time_waits_free)) {
		tcp_count(s, time_wait_recycled);
		time_wait_end(s, TAILQ_FIRST(&s->time_waiting));
	}
	struct tcp_time_wait *w = TAILQ_FIRST(&s->time_waits_free);
	TAILQ_REMOVE(&s->time_waits_free, w, link);
	return w;
}

/* Not a millisecond too short. */
static void wait(struct tcp_stack *s, struct tcp_time_wait *w)
{
	w->due_ms = (uint32_t)((s->now_us + TCP_TIME_WAIT_US + 999) / 1000);
	TAILQ_INSERT_TAIL(&s->time_waiting, w, link);
}

static uint16_t window_of(const struct tcp_conn *c)
{
	const uint32_t window = seq_lt(c->rcv_adv, c->rcv_nxt) ? 0 : c->rcv_adv - c->rcv_nxt;
	return (uint16_t)min_u32(window >> c->rcv_wscale, UINT16_MAX);
}

void tcp_time_wait_add(struct tcp_stack *s, const struct tcp_conn *c)
{
	if (s->config.time_wait_max == 0)
		return;
	struct tcp_time_wait *w = time_wait_get(s);
	const uint64_t hash = tcp_tuple_hash(s, &c->tuple);
	*w = (struct tcp_time_wait){
		.tuple = c->tuple,
		.hash = (uint32_t)hash,
		.snd_nxt = c->snd_max,
		.rcv_nxt = c->rcv_nxt,
		.ts_recent = c->ts_recent,
		.window = window_of(c),
		.has_ts = c->has_ts,
	};
	wait(s, w);
	tcp_table_insert(s, hash, ref_of(s, w));
	tcp_count(s, time_wait);
}

void tcp_time_wait_expire(struct tcp_stack *s)
{
	struct tcp_time_wait *w;
	while ((w = TAILQ_FIRST(&s->time_waiting)) != NULL && seq_leq(w->due_ms, tcp_now_ms(s)))
		time_wait_end(s, w);
}

uint64_t tcp_time_wait_due_us(const struct tcp_stack *s)
{
	const struct tcp_time_wait *w = TAILQ_FIRST(&s->time_waiting);
	if (w == NULL)
		return UINT64_MAX;
	const int32_t left_ms = (int32_t)(w->due_ms - tcp_now_ms(s));
	return left_ms <= 0 ? s->now_us : (s->now_us / 1000 + (uint32_t)left_ms) * 1000;
}

static void send_ack(struct tcp_stack *s, struct tcp_time_wait *w)
{
	const struct tcp_header h = {
		.tuple = &w->tuple,
		.seq = w->snd_nxt,
		.ack = w->rcv_nxt,
		.flags = RTE_TCP_ACK_FLAG,
		.window = w->window,
		.has_ts = w->has_ts,
		.tsval = w->has_ts ? tcp_ts_now(s, tcp_ts_offset(s, &w->tuple)) : 0,
		.tsecr = w->ts_recent,
	};
	if (tcp_may_reply(s, &w->replies))
		tcp_send_control(s, &h);
}

/* Is this SYN surely newer than all of the old connection? (RFC 6191 2; RFC 9293 3.6.1) */
static bool is_new_connection(const struct tcp_time_wait *w, const struct tcp_segment *seg)
{
	if ((seg->flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG)) != RTE_TCP_SYN_FLAG)
		return false;
	if (w->has_ts && seg->has_ts && seg->tsval != w->ts_recent)
		return seq_gt(seg->tsval, w->ts_recent);
	return seq_gt(seg->seq, w->rcv_nxt);
}

enum tcp_drop tcp_time_wait_arrives(struct tcp_stack *s, struct tcp_time_wait *w, struct tcp_segment *seg)
{
	if (seg->flags & RTE_TCP_RST_FLAG)
		return TCP_DROP_time_wait_reset;
	if (is_new_connection(w, seg) &&
		tcp_listener_find(s, &seg->tuple.local, seg->tuple.local_port) != NULL) {
		const uint32_t iss_least = w->snd_nxt + UINT16_MAX;
		time_wait_end(s, w);
		return tcp_nobody_arrives(s, seg, iss_least != 0 ? iss_least : 1);
	}
	if (seg->flags & RTE_TCP_FIN_FLAG && seg->seq + seg->text + 1 == w->rcv_nxt) {
		/* their FIN again: our ACK was lost; 2 MSL begin anew */
		TAILQ_REMOVE(&s->time_waiting, w, link);
		wait(s, w);
		send_ack(s, w);
	} else if (seg->seq != w->rcv_nxt || tcp_segment_len(seg) != 0) {
		send_ack(s, w);
	}
	return TCP_DROP_time_wait;
}
