// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_state.c: the states, what may follow what, and a connection's beginning and end.
 *
 *            tcp_connect()            half-open: ACK of our SYN
 *   CLOSED ----------------> SYN-SENT        |
 *                        SYN |    | SYN,ACK  v
 *                            v    '----> ESTABLISHED <--. ACK of SYN
 *                    SYN-RECEIVED -----------|----------'
 *                            | tcp_close()   | FIN
 *   tcp_close()  FIN-WAIT-1 <----------------'--------> CLOSE-WAIT
 *     ACK of FIN |  | FIN                                   | tcp_close()
 *   FIN-WAIT-2 <-'  '-> CLOSING                         LAST-ACK
 *     FIN |              | ACK of FIN                       | ACK of FIN
 *         '-> TIME-WAIT <'                                  '-> CLOSED
 *
 * From every state to CLOSED: RST, tcp_abort(), time-outs. */
#include "dataplane/tcp/tcp_private.h"

#define BIT(state) (1u << TCP_##state)

static const uint16_t may_follow[] = {
	[TCP_CLOSED] = BIT(SYN_SENT) | BIT(SYN_RECEIVED),
	[TCP_SYN_SENT] = BIT(CLOSED) | BIT(SYN_RECEIVED) | BIT(ESTABLISHED),
	[TCP_SYN_RECEIVED] = BIT(CLOSED) | BIT(ESTABLISHED),
	[TCP_ESTABLISHED] = BIT(CLOSED) | BIT(FIN_WAIT_1) | BIT(CLOSE_WAIT),
	[TCP_FIN_WAIT_1] = BIT(CLOSED) | BIT(FIN_WAIT_2) | BIT(CLOSING) | BIT(TIME_WAIT),
	[TCP_FIN_WAIT_2] = BIT(CLOSED) | BIT(TIME_WAIT),
	[TCP_CLOSE_WAIT] = BIT(CLOSED) | BIT(LAST_ACK),
	[TCP_CLOSING] = BIT(CLOSED) | BIT(TIME_WAIT),
	[TCP_LAST_ACK] = BIT(CLOSED),
	[TCP_TIME_WAIT] = BIT(CLOSED),
};

static const char *const names[] = {
#define STATE(name, text) [TCP_##name] = text,
	TCP_STATES(STATE)
#undef STATE
};

const char *tcp_state_name(unsigned state)
{
	return state < RTE_DIM(names) ? names[state] : NULL;
}

void tcp_enter(struct tcp_conn *c, enum tcp_state next)
{
	assert(may_follow[c->state] & 1u << next);
	if (tcp_is_traced(c->stack))
		tcp_trace_state(c, next);
	c->state = (uint8_t)next;
}

struct tcp_conn *tcp_conn_get(struct tcp_stack *s, const struct tcp_tuple *tuple, uint64_t hash)
{
	struct tcp_conn *c = s->conns_free;
	if (c != NULL)
		s->conns_free = c->free_next;
	else if (s->conns_fresh < s->config.connections_max)
		c = &s->conns[s->conns_fresh++];
	else
		return NULL;
	s->conns_used++;
	tcp_count(s, connections);
	*c = (struct tcp_conn){
		.tuple = *tuple,
		.hash = (uint32_t)hash,
		.stack = s,
		.rto_us = TCP_RTO_INITIAL_US,
		.progress_us = s->now_us,
		.moved_ms = tcp_now_ms(s),
		.heard_ms = tcp_now_ms(s),
		.has_keepalive = s->config.is_keepalive_on,
		.rcv_window = min_u32(s->config.receive_bytes_max, TCP_WINDOW_START),
	};
	tcp_timers_init(c);
	tcp_table_insert(s, hash, tcp_ref_make(TCP_CONN, (size_t)(c - s->conns)));
	return c;
}

void tcp_conn_put(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	assert(c->state == TCP_CLOSED);
	if (c->events != 0)
		TAILQ_REMOVE(&s->eventful, c, event_link);
	tcp_queue_free(s, &c->receive);
	c->free_next = s->conns_free;
	s->conns_free = c;
	s->conns_used--;
	s->inbound_used -= !c->is_active;
}

void tcp_event(struct tcp_conn *c, uint32_t events)
{
	if (c->events == 0)
		TAILQ_INSERT_TAIL(&c->stack->eventful, c, event_link);
	c->events |= (uint8_t)events;
}

void tcp_dirty(struct tcp_conn *c)
{
	if (c->is_dirty || c->state == TCP_CLOSED)
		return;
	c->is_dirty = true;
	TAILQ_INSERT_TAIL(&c->stack->dirty, c, dirty_link);
}

void tcp_conn_end(struct tcp_conn *c, enum tcp_end end)
{
	struct tcp_stack *s = c->stack;
	tcp_enter(c, TCP_CLOSED);
	c->end = (uint8_t)end;
	tcp_timers_fini(c);
	if (c->is_dirty)
		TAILQ_REMOVE(&s->dirty, c, dirty_link);
	c->is_dirty = false;
	tcp_table_remove(s, c->hash, tcp_ref_make(TCP_CONN, (size_t)(c - s->conns)));
	tcp_queue_free(s, &c->send);
	tcp_flight_end(c);
	tcp_reassembly_free(c);
	c->send_next = NULL;
	c->send_bytes = 0;
	tcp_count_add(s, connections, -1);
	tcp_count(s, ended);
	if (c->is_announced)
		tcp_event(c, TCP_EVENT_ENDED);
	else /* gone before the user heard of it: it need not hear of it at all */
		tcp_conn_put(c);
}

void tcp_conn_established(struct tcp_conn *c)
{
	tcp_enter(c, TCP_ESTABLISHED);
	tcp_timer_stop(c, TCP_TIMER_RETRANSMIT);
	c->backoff = 0;
	c->syn_due = false; /* SYN and SYN,ACK of a simultaneous open may have come in one burst */
	if (!c->syn_again)
		tcp_rtt_sample(c, c->stack->now_us - c->progress_us);
	else
		c->rto_us = 3 * TCP_RTO_INITIAL_US; /* RFC 6298 5.7: the SYN was lost */
	c->progress_us = c->stack->now_us;
	c->heard_ms = tcp_now_ms(c->stack);
	tcp_keepalive_start(c);
	tcp_cc_init(c);
	if (c->is_active) {
		tcp_count(c->stack, opened_active);
		tcp_event(c, TCP_EVENT_CONNECTED);
	} else {
		tcp_count(c->stack, opened_passive);
		tcp_event(c, TCP_EVENT_ACCEPTED);
	}
	if (c->fin_queued) /* tcp_close() in SYN-RECEIVED */
		tcp_enter(c, TCP_FIN_WAIT_1);
	tcp_dirty(c);
}

void tcp_conn_time_wait(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	tcp_enter(c, TCP_TIME_WAIT);
	if (c->ack_now)
		tcp_send_ack(c, tcp_ack_seq(c), RTE_TCP_ACK_FLAG);
	tcp_timers_fini(c);
	struct tcp_conn copy = *c;
	tcp_conn_end(c, TCP_END_CLOSED);
	tcp_time_wait_add(s, &copy);
}

bool tcp_may_reply(struct tcp_stack *s, struct tcp_replies *replies)
{
	const uint16_t now = (uint16_t)(s->now_us / 1000000);
	if (replies->second != now)
		*replies = (struct tcp_replies){.second = now};
	if (replies->count >= TCP_REPLIES_PER_S) {
		tcp_drop_count_one(s, TCP_DROP_reply_limited);
		return false;
	}
	replies->count++;
	return true;
}
