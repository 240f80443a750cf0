// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/cc_cubic.c: congestion avoidance by CUBIC (RFC 9438), in bytes.
 *
 * An epoch begins with the first ACK in congestion avoidance, and anew where the window was not used: then the curve
 * goes on from the window as it is, so that time without sending does not count (RFC 9438 5.8). */
#include "dataplane/tcp/tcp_private.h"

#include <math.h>

/* RFC 9438 4.1, 4.3, 4.6 */
#define C	    0.4
#define BETA	    0.7
#define ALPHA	    (3 * (1 - BETA) / (1 + BETA))

static void begin_epoch(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	f->epoch_us = c->stack->now_us;
	f->w_est = c->cwnd;
	f->cc_rest = 0;
	if (c->w_max < c->cwnd)
		c->w_max = c->cwnd;
	/* Figure 2, with windows in segments */
	f->k_us = (uint32_t)(cbrt((double)(c->w_max - c->cwnd) / c->mss / C) * 1e6);
}

/* W_cubic(t), Figure 1 */
static double w_cubic(const struct tcp_conn *c, uint64_t t_us)
{
	const double t = ((double)t_us - c->flight->k_us) / 1e6;
	return C * t * t * t * c->mss + c->w_max;
}

/* Figure 4: as Reno would grow that lowers its window as little; as it does, once all was won back. */
static void grow_estimate(struct tcp_conn *c, uint32_t bytes)
{
	struct tcp_flight *f = c->flight;
	const double alpha = f->w_est >= f->cwnd_prior ? 1 : ALPHA;
	f->w_est += (float)(alpha * c->mss * bytes / c->cwnd);
}

static void cubic_acked(struct tcp_conn *c, uint32_t bytes)
{
	struct tcp_flight *f = c->flight;
	if (f->epoch_us == 0)
		begin_epoch(c);
	const uint64_t t_us = c->stack->now_us - f->epoch_us;
	grow_estimate(c, bytes);
	if (w_cubic(c, t_us) < f->w_est) { /* 4.3 */
		c->cwnd = max_u32(c->cwnd, min_u32((uint32_t)f->w_est, TCP_CWND_MAX));
		return;
	}
	/* 4.2, 4.4, 4.5: to where the curve is a round trip on, and no faster than slow start half as fast */
	double target = w_cubic(c, t_us + c->srtt_us);
	if (target > 1.5 * c->cwnd)
		target = 1.5 * c->cwnd;
	if (target <= c->cwnd)
		return;
	const double growth = (target - c->cwnd) * bytes + f->cc_rest;
	const uint32_t whole = (uint32_t)(growth / c->cwnd);
	f->cc_rest = (uint32_t)(growth - (double)whole * c->cwnd);
	c->cwnd = min_u32(c->cwnd + whole, TCP_CWND_MAX);
}

/* 4.6, 4.7 */
static void cubic_reduce(struct tcp_conn *c, uint32_t flight)
{
	if (c->flight != NULL)
		c->flight->cwnd_prior = c->cwnd;
	c->w_max = c->cwnd < c->w_max ? (uint32_t)(c->cwnd * (1 + BETA) / 2) : c->cwnd;
	c->ssthresh = max_u32((uint32_t)(flight * BETA), 2u * c->mss);
}

const struct tcp_cc tcp_cc_cubic = {
	.name = "cubic",
	.acked = cubic_acked,
	.reduce = cubic_reduce,
};
