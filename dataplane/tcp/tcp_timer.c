// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_timer.c: every timer of a connection.
 *
 * LOSS runs while data are in flight to a peer with SACK: until the reordering window has passed, or until the
 * tail of the data is probed, which puts RETRANSMIT off (tcp_rack.c).
 * RETRANSMIT runs while something is unacknowledged (RFC 6298 5): the SYN, SYN-ACK of a simultaneous open,
 * data or our FIN. When it fires, all is taken for lost and sent again with one segment of window, and the next
 * wait is doubled. After the user timeout without progress the connection ends (RFC 9293 3.8.3). While there is data and the
 * peer's window has no room for it, the same timer is the persist timer: it sends probes, for as long as the
 * peer answers them (RFC 9293 3.8.6.1), but once the user has closed no longer than the user timeout: or
 * a peer could hold any number of connections that nobody watches.
 * DELAYED_ACK sends the ACK that found nothing to ride on (RFC 9293 3.8.6.3).
 * QUIET is the keepalive's (tcp_keepalive.c); in FIN-WAIT-2 it ends a connection whose peer has been silent since
 * it acknowledged our FIN.
 * STARVED tries again what a pool or the limit on memory refused, and goes on with a search (tcp_scoreboard.c).
 *
 * A connection has one node in the wheel, armed for the earliest of its times or before: a time that moves
 * away, as the retransmission's does with each ACK, costs nothing; the node fires early and is armed anew. */
#include "dataplane/tcp/tcp_private.h"

static void timers_fire(struct timer_node *node, void *user);

void tcp_timers_init(struct tcp_conn *c)
{
	for (unsigned i = 0; i < TCP_TIMERS; i++)
		c->due_us[i] = UINT64_MAX;
	c->armed_us = UINT64_MAX;
	c->node.fire = timers_fire;
}

void tcp_timers_fini(struct tcp_conn *c)
{
	timer_wheel_cancel(&c->stack->wheel, &c->node);
	for (unsigned i = 0; i < TCP_TIMERS; i++)
		c->due_us[i] = UINT64_MAX;
	c->armed_us = UINT64_MAX;
}

static void arm(struct tcp_conn *c, uint64_t due_us)
{
	if (due_us >= c->armed_us)
		return;
	c->armed_us = due_us;
	timer_wheel_arm(&c->stack->wheel, &c->node, due_us);
}

void tcp_timer_set(struct tcp_conn *c, enum tcp_timer timer, uint64_t due_us)
{
	c->due_us[timer] = due_us;
	arm(c, due_us);
}

void tcp_try_again(struct tcp_conn *c)
{
	if (!tcp_timer_is_set(c, TCP_TIMER_STARVED))
		tcp_timer_set(c, TCP_TIMER_STARVED, c->stack->now_us + TCP_STARVED_US);
}

void tcp_rto_restart(struct tcp_conn *c)
{
	uint64_t wait = (uint64_t)c->rto_us << (c->backoff < 16 ? c->backoff : 16);
	if (wait > TCP_RTO_MAX_US)
		wait = TCP_RTO_MAX_US;
	tcp_timer_set(c, TCP_TIMER_RETRANSMIT, c->stack->now_us + wait);
}

static uint64_t user_timeout(const struct tcp_conn *c)
{
	return c->user_timeout_s != 0 ? c->user_timeout_s * 1000000ull : c->stack->config.user_timeout_us;
}

/* false: it has given up and the connection is gone. */
static bool has_patience(struct tcp_conn *c, uint64_t limit_us)
{
	if (c->stack->now_us - c->progress_us < limit_us)
		return true;
	if (c->state > TCP_SYN_SENT) /* RFC 9293 3.8.3 (b): the peer, if there, should know */
		tcp_send_ack(c, c->snd_max, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG);
	tcp_conn_end(c, c->has_soft_error ? TCP_END_UNREACHABLE : TCP_END_TIMEOUT);
	return false;
}

static void count_backoff(struct tcp_conn *c)
{
	if (c->backoff < UINT8_MAX)
		c->backoff++;
}

static void handshake_timeout(struct tcp_conn *c)
{
	if (!has_patience(c, c->user_timeout_s != 0 ? user_timeout(c) : TCP_SYN_TIMEOUT_US))
		return;
	count_backoff(c);
	tcp_count(c->stack, retransmits);
	c->retransmits++;
	c->syn_again = true;
	c->syn_due = true;
	tcp_rto_restart(c);
	tcp_dirty(c);
}

static void persist_timeout(struct tcp_conn *c)
{
	if (!has_patience(c, user_timeout(c)))
		return;
	count_backoff(c);
	c->probe_due = true;
	tcp_rto_restart(c);
	tcp_dirty(c);
}

static void retransmit_timeout(struct tcp_conn *c)
{
	if (c->state == TCP_SYN_SENT || c->state == TCP_SYN_RECEIVED) {
		handshake_timeout(c);
		return;
	}
	if (c->is_persisting) {
		persist_timeout(c);
		return;
	}
	if (!has_patience(c, user_timeout(c)))
		return;
	tcp_count(c->stack, rto_fired);
	count_backoff(c);
	tcp_path_timeout(c);
	tcp_rto_recover(c);
	tcp_rto_restart(c);
	tcp_dirty(c);
}

static void starved_timeout(struct tcp_conn *c)
{
	if (c->write_waits && tcp_write_space(c) > 0) {
		c->write_waits = false;
		tcp_event(c, TCP_EVENT_WRITABLE);
	}
	if (tcp_window_update_is_due(c))
		c->ack_now = true;
	if (c->write_waits)
		tcp_try_again(c);
	else if (tcp_window_is_held(c))
		tcp_timer_set(c, TCP_TIMER_STARVED, c->stack->now_us + TCP_HELD_US);
	tcp_dirty(c);
}

static void timeout(struct tcp_conn *c, enum tcp_timer timer)
{
	if (tcp_is_traced(c->stack))
		tcp_trace_timer(c, timer);
	switch (timer) {
	case TCP_TIMER_LOSS: tcp_loss_timeout(c); break;
	case TCP_TIMER_RETRANSMIT: retransmit_timeout(c); break;
	case TCP_TIMER_DELAYED_ACK:
		c->ack_now = true;
		tcp_dirty(c);
		break;
	case TCP_TIMER_QUIET:
		if (c->state == TCP_FIN_WAIT_2)
			tcp_conn_end(c, TCP_END_TIMEOUT);
		else
			tcp_keepalive_timeout(c);
		break;
	case TCP_TIMER_STARVED: starved_timeout(c); break;
	default: break;
	}
}

static void timers_fire(struct timer_node *node, void *user)
{
	struct tcp_stack *s = user;
	struct tcp_conn *c = RTE_PTR_SUB(node, offsetof(struct tcp_conn, node));
	uint64_t earliest = UINT64_MAX;
	c->armed_us = UINT64_MAX;
	for (unsigned i = 0; i < TCP_TIMERS; i++) {
		if (c->due_us[i] > s->now_us)
			continue;
		c->due_us[i] = UINT64_MAX;
		timeout(c, (enum tcp_timer)i);
		if (c->state == TCP_CLOSED)
			return;
	}
	for (unsigned i = 0; i < TCP_TIMERS; i++)
		if (c->due_us[i] < earliest)
			earliest = c->due_us[i];
	arm(c, earliest);
}
