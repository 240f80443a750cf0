// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_cc.c: what all congestion controls have in common: the initial window (RFC 6928), slow start with
 * HyStart++ (RFC 9406), and what is left of a window that has not been used.
 *
 * Cwnd validation: the window grows only on ACKs of data whose sending it had limited, so it is never more than
 * twice what has been in flight; a loss lowers it from what was in flight, not from what it said; and after an RTO
 * of silence slow start begins again from the initial window (RFC 5681 4.1), up to three quarters of what the
 * window was (RFC 2861 3.1). That is what RFC 7661 asks of it (a window not shown to be right is not built upon and not
 * trusted after a loss) without its pipeACK samples, at the price of less after a pause, where it would let us
 * keep the window for five minutes: a mail relay's pauses are those between mails, and its bursts small. */
#include "dataplane/tcp/tcp_private.h"

/* RFC 9406 4.3 */
#define RTT_THRESH_MIN_US  4000u
#define RTT_THRESH_MAX_US  16000u
#define RTT_DIVISOR	   8
#define RTT_SAMPLES	   8
#define CSS_GROWTH_DIVISOR 4
#define CSS_ROUNDS	   5
#define GROWTH_SEGMENTS	   8 /* L: sending is not paced */

static uint32_t initial_window(const struct tcp_conn *c)
{
	return min_u32(10u * c->mss, max_u32(2u * c->mss, 14600));
}

void tcp_cc_init(struct tcp_conn *c)
{
	/* A lost SYN says something about the path (RFC 5681 3.1). */
	c->cwnd = c->syn_again ? c->mss : initial_window(c);
	c->ssthresh = TCP_CWND_MAX;
}

void tcp_cc_idle(struct tcp_conn *c)
{
	const uint32_t least = initial_window(c);
	if (c->cwnd <= least)
		return;
	c->ssthresh = max_u32(c->ssthresh, c->cwnd / 4 * 3);
	c->cwnd = least;
}

/* ---- HyStart++ (RFC 9406 4.2) ---- */

static void begin_round(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	f->round_end = c->snd_max;
	f->round_last_us = f->round_rtt_us;
	f->round_rtt_us = UINT32_MAX;
	f->round_samples = 0;
	f->is_round = true;
}

static void sample(struct tcp_flight *f, uint32_t rtt_us)
{
	if (rtt_us == 0)
		return;
	f->round_rtt_us = min_u32(f->round_rtt_us, rtt_us);
	if (f->round_samples < UINT8_MAX)
		f->round_samples++;
}

/* Does the delay grow? Then conservative slow start begins. */
static void look_for_delay(struct tcp_flight *f)
{
	if (f->round_samples < RTT_SAMPLES || f->round_last_us == UINT32_MAX || f->round_rtt_us == UINT32_MAX)
		return;
	const uint32_t thresh =
		max_u32(RTT_THRESH_MIN_US, min_u32(f->round_last_us / RTT_DIVISOR, RTT_THRESH_MAX_US));
	if (f->round_rtt_us < f->round_last_us + thresh)
		return;
	f->css_baseline_us = f->round_rtt_us;
	f->css_rounds = 1;
}

/* In conservative slow start: was it a false alarm, or has it gone on long enough? A round that it began in does not tell.
 * Unpaced, its first ACKs are those of the end of a burst, which had a queue before it, and the later ones those of the
 * start of the next, which had not: taken for relief, every queue would be (321 segments sent again against 80, through a
 * queue of one bandwidth-delay product). */
static void look_for_relief(struct tcp_conn *c, bool is_round_over)
{
	struct tcp_flight *f = c->flight;
	if (f->css_rounds > 1 && f->round_samples >= RTT_SAMPLES && f->round_rtt_us < f->css_baseline_us)
		f->css_rounds = 0;
	else if (is_round_over && f->css_rounds++ >= CSS_ROUNDS)
		c->ssthresh = c->cwnd;
}

void tcp_slow_start(struct tcp_conn *c, uint32_t bytes, uint32_t rtt_us)
{
	struct tcp_flight *f = c->flight;
	const bool is_first = c->ssthresh == TCP_CWND_MAX; /* HyStart++ is for the first slow start (4.3) */
	uint32_t growth = min_u32(bytes, (is_first ? GROWTH_SEGMENTS : 2u) * c->mss);
	if (!f->is_round) {
		f->round_rtt_us = UINT32_MAX;
		begin_round(c);
	}
	if (is_first) {
		sample(f, rtt_us);
		if (f->css_rounds == 0)
			look_for_delay(f);
		if (f->css_rounds != 0)
			growth /= CSS_GROWTH_DIVISOR;
	}
	c->cwnd = min_u32(c->cwnd + growth, TCP_CWND_MAX);
	if (!is_first)
		return;
	const bool is_round_over = seq_geq(c->snd_una, f->round_end);
	if (f->css_rounds != 0)
		look_for_relief(c, is_round_over);
	if (is_round_over)
		begin_round(c);
}
