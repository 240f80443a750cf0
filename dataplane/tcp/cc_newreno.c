// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/cc_newreno.c: congestion avoidance and the answer to loss of RFC 5681, with bytes counted as in
 * RFC 3465. */
#include "dataplane/tcp/tcp_private.h"

static void newreno_acked(struct tcp_conn *c, uint32_t bytes)
{
	struct tcp_flight *f = c->flight;
	f->cc_rest += bytes;
	if (f->cc_rest >= c->cwnd) {
		f->cc_rest -= c->cwnd;
		c->cwnd = min_u32(c->cwnd + c->mss, TCP_CWND_MAX);
	}
}

static void newreno_reduce(struct tcp_conn *c, uint32_t flight)
{
	c->ssthresh = max_u32(flight / 2, 2u * c->mss);
	if (c->flight != NULL)
		c->flight->cc_rest = 0;
}

const struct tcp_cc tcp_cc_newreno = {
	.name = "newreno",
	.acked = newreno_acked,
	.reduce = newreno_reduce,
};
