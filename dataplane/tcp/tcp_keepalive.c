// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_keepalive.c: is the peer still there? (RFC 9293 3.8.4)
 *
 * Off unless the user or the configuration says otherwise. While nothing is in flight and nothing has come for the
 * idle time, an ACK with a sequence number before the window is sent: it is never acceptable, so it is always
 * answered. It has no text: what cannot read that is no TCP of this century. Only so many unanswered ones end the
 * connection, since an ACK without text may be lost (MUST-29).
 *
 * Its timer is the one that in FIN-WAIT-2 bounds the wait for the peer's FIN: never are both needed. */
#include "dataplane/tcp/tcp_private.h"

static bool is_watched(const struct tcp_conn *c)
{
	return c->has_keepalive && (c->state == TCP_ESTABLISHED || c->state == TCP_CLOSE_WAIT);
}

static void wait(struct tcp_conn *c, uint64_t us)
{
	tcp_timer_set(c, TCP_TIMER_QUIET, c->stack->now_us + us);
}

void tcp_keepalive_start(struct tcp_conn *c)
{
	c->keepalive_probes = 0;
	if (is_watched(c))
		wait(c, c->stack->config.keepalive_idle_us);
}

void tcp_keepalive_timeout(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	const uint64_t quiet_us = 1000ull * (tcp_now_ms(s) - c->heard_ms);
	if (!is_watched(c))
		return;
	if (quiet_us < s->config.keepalive_idle_us) {
		c->keepalive_probes = 0;
		wait(c, s->config.keepalive_idle_us - quiet_us);
	} else if (c->snd_una != c->snd_max || c->is_persisting) {
		tcp_keepalive_start(c); /* another timer asks already (MUST-26) */
	} else if (c->keepalive_probes >= s->config.keepalive_probes) {
		tcp_count(s, keepalive_ended);
		tcp_send_ack(c, c->snd_max, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG);
		tcp_conn_end(c, TCP_END_TIMEOUT);
	} else {
		c->keepalive_probes++;
		tcp_count(s, keepalive_probes);
		tcp_send_ack(c, c->snd_una - 1, RTE_TCP_ACK_FLAG);
		wait(c, s->config.keepalive_interval_us);
	}
}

void tcp_set_keepalive(struct tcp_conn *c, bool is_on)
{
	c->has_keepalive = is_on;
	if (is_on)
		tcp_keepalive_start(c); /* while it is opening: when it has */
	else if (c->state != TCP_FIN_WAIT_2)
		tcp_timer_stop(c, TCP_TIMER_QUIET);
}
