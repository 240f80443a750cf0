// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/cc_newreno.c: slow start, congestion avoidance and the answers to loss of RFC 5681, with the
 * initial window of RFC 6928 and bytes counted as in RFC 3465. Recovery itself (RFC 6582) is in tcp_ack.c. */
#include "dataplane/tcp/tcp_private.h"

/* Keeps sums of windows far from the half of sequence space (RFC 7323 2.3: 2^30). */
#define CWND_MAX (1u << 30)

static uint32_t initial_window(const struct tcp_conn *c)
{
	return min_u32(10u * c->mss, max_u32(2u * c->mss, 14600));
}

static void newreno_init(struct tcp_conn *c)
{
	/* A lost SYN says something about the path (RFC 5681 3.1). */
	c->cwnd = c->syn_sent_us != 0 ? initial_window(c) : c->mss;
	c->ssthresh = CWND_MAX;
	c->cc_acked = 0;
}

static void newreno_acked(struct tcp_conn *c, uint32_t bytes)
{
	if (!c->cwnd_limited) /* a window that was not used is not shown to be right */
		return;
	if (c->cwnd < c->ssthresh) {
		c->cwnd = min_u32(c->cwnd + min_u32(bytes, 2u * c->mss), CWND_MAX);
		return;
	}
	c->cc_acked += bytes;
	if (c->cc_acked >= c->cwnd) {
		c->cc_acked -= c->cwnd;
		c->cwnd = min_u32(c->cwnd + c->mss, CWND_MAX);
	}
}

static void newreno_loss(struct tcp_conn *c, uint32_t flight)
{
	c->ssthresh = max_u32(flight / 2, 2u * c->mss);
	c->cwnd = c->ssthresh + 3u * c->mss; /* RFC 5681 3.2 (3): the three that have left the network */
	c->cc_acked = 0;
}

static void newreno_recovered(struct tcp_conn *c, uint32_t flight)
{
	c->cwnd = min_u32(c->ssthresh, max_u32(flight, c->mss) + c->mss); /* RFC 6582 3.2 (3) (1) */
	c->cc_acked = 0;
}

static void newreno_timeout(struct tcp_conn *c, uint32_t flight)
{
	c->ssthresh = max_u32(flight / 2, 2u * c->mss);
	c->cwnd = c->mss;
	c->cc_acked = 0;
}

static void newreno_idle(struct tcp_conn *c)
{
	c->cwnd = min_u32(c->cwnd, initial_window(c)); /* RFC 5681 4.1 */
}

const struct tcp_cc tcp_cc_newreno = {
	.name = "newreno",
	.init = newreno_init,
	.acked = newreno_acked,
	.loss = newreno_loss,
	.recovered = newreno_recovered,
	.timeout = newreno_timeout,
	.idle = newreno_idle,
};
