// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_recovery.c: what losses do to the congestion window.
 *
 *   OPEN ------- a loss is found -------> RECOVERY: the window follows PRR (RFC 9937) down to ssthresh
 *    | ^                                   |    |
 *    | '--- all sent before is acknowledged'    | retransmission timeout
 *    |  ^                                       v
 *    '--|-- retransmission timeout -----> LOSS: slow start from one segment, all is sent again
 *       '------------------------------------'
 *
 * CWR is OPEN without growth: the peer has told of a CE mark (RFC 3168), and not all of that window is acknowledged.
 *
 * Who finds losses: RACK where the peer has SACK; else three duplicate ACKs and partial ones, as NewReno has it
 * (RFC 5681 3.2, RFC 6582): RACK does not work without SACK. Everything else is the same for both. What turns out
 * not to have been lost is undone: by timestamps (Eifel, RFC 3522, RFC 4015) or by D-SACKs for all that was sent
 * again (RFC 3708). */
#include "dataplane/tcp/tcp_private.h"

#define DUP_THRESH 3

/* ---- undo ---- */

static void remember(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	f->prior_cwnd = c->cwnd;
	f->prior_ssthresh = c->ssthresh;
	f->prior_w_max = c->w_max;
	f->undo_una = c->snd_una;
	f->resent = 0;
	f->has_resent = false;
}

static void undo(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	c->cwnd = max_u32(c->cwnd, f->prior_cwnd);
	c->ssthresh = max_u32(c->ssthresh, f->prior_ssthresh);
	c->w_max = f->prior_w_max;
	f->epoch_us = 0;
	f->prior_cwnd = 0;
	c->phase = TCP_OPEN;
	tcp_scoreboard_none_lost(c);
	tcp_count(c->stack, undone);
}

void tcp_recovery_sent(struct tcp_conn *c, uint32_t bytes, bool is_new)
{
	struct tcp_flight *f = c->flight;
	if (c->phase == TCP_RECOVERY)
		f->prr_out += bytes;
	if (is_new || c->phase == TCP_OPEN || c->phase == TCP_CWR)
		return;
	f->resent++;
	if (!f->has_resent)
		f->resent_tsval = tcp_ts_now(c->stack, c->ts_offset);
	f->has_resent = true;
}

/* RFC 3522 3.2: the first ACK of something new answers a segment sent before anything was sent again. */
static bool is_answer_to_original(const struct tcp_conn *c, const struct tcp_acked *a)
{
	const struct tcp_flight *f = c->flight;
	return f->prior_cwnd != 0 && f->has_resent && c->phase != TCP_OPEN && a->bytes != 0 && a->has_ts &&
		seq_lt(a->tsecr, f->resent_tsval);
}

static bool is_all_told_as_duplicate(struct tcp_conn *c, const struct tcp_acked *a)
{
	struct tcp_flight *f = c->flight;
	if (!a->has_dsack || f->prior_cwnd == 0 || f->resent == 0 || seq_lt(a->dsack.start, f->undo_una))
		return false;
	f->resent -= min_u32(f->resent, (a->dsack.end - a->dsack.start + c->mss - 1) / c->mss);
	return f->resent == 0;
}

/* ---- PRR ---- */

static void prr_begin(struct tcp_conn *c, const struct tcp_acked *a)
{
	struct tcp_flight *f = c->flight;
	f->prr_delivered = f->prr_out = 0;
	f->recover_fs = c->snd_max - c->snd_una - (f->sacked - a->sacked) + a->bytes;
}

static void prr_update(struct tcp_conn *c, const struct tcp_acked *a)
{
	struct tcp_flight *f = c->flight;
	const uint32_t inflight = tcp_pipe(c);
	int64_t count;
	f->prr_delivered += a->delivered;
	if (inflight > c->ssthresh) { /* in proportion, rounded up */
		const uint64_t target = (uint64_t)f->prr_delivered * c->ssthresh;
		count = (int64_t)((target + f->recover_fs - 1) / max_u32(f->recover_fs, 1)) - f->prr_out;
	} else { /* what was delivered, and more while all goes well */
		count = (int64_t)f->prr_delivered - f->prr_out;
		if (count < a->delivered)
			count = a->delivered;
		if (a->bytes != 0 && !a->has_lost)
			count += c->mss;
		if (count > c->ssthresh - inflight)
			count = c->ssthresh - inflight;
	}
	/* The first retransmission goes out in any case, and so does NewReno's for a partial ACK (RFC 6582 3.2 (3)). */
	if ((f->prr_out == 0 || (!c->has_sack && a->has_lost)) && count < c->mss)
		count = c->mss;
	c->cwnd = max_u32(inflight + (uint32_t)(count > 0 ? count : 0), c->mss);
}

/* ---- the phases ---- */

static uint32_t flight_size(const struct tcp_conn *c)
{
	return min_u32(c->snd_max - c->snd_una, c->cwnd);
}

/* Of so many bytes some were lost or marked. For whatever reason: CWR says so (RFC 3168 6.1.2). */
static void reduce(struct tcp_conn *c, uint32_t flight)
{
	c->stack->cc->reduce(c, flight);
	c->cwr_due = c->has_ecn;
}

static void enter_recovery(struct tcp_conn *c, const struct tcp_acked *a)
{
	struct tcp_flight *f = c->flight;
	remember(c);
	if (c->phase == TCP_OPEN) /* not twice for one window */
		reduce(c, min_u32(flight_size(c) + a->bytes, c->cwnd));
	c->phase = TCP_RECOVERY;
	c->recover = c->snd_max;
	c->is_probing = false;
	f->epoch_us = 0;
	prr_begin(c, a);
	tcp_count(c->stack, fast_retransmits);
	tcp_rto_restart(c);
}

/* RFC 8985 7.4.2: a loss that the tail probe has mended counts like one that was found. */
static void mended(struct tcp_conn *c, const struct tcp_acked *a)
{
	reduce(c, min_u32(flight_size(c) + a->bytes, c->cwnd));
	c->cwnd = min_u32(c->cwnd, c->ssthresh);
	if (c->flight != NULL)
		c->flight->epoch_us = 0;
}

/* RFC 3168 6.1.2: as for a loss, once a window, but nothing is sent again. An ACK of no more than what was sent before the
 * window was last lowered cannot tell of a new mark: the peer repeats the old one until it has seen CWR. */
static void answer_congestion(struct tcp_conn *c)
{
	if (c->phase != TCP_OPEN || seq_leq(c->snd_una, c->recover))
		return;
	c->phase = TCP_CWR;
	c->recover = c->snd_max;
	reduce(c, flight_size(c));
	c->cwnd = min_u32(c->cwnd, c->ssthresh);
	c->flight->epoch_us = 0;
	tcp_count(c->stack, ecn_reduced);
}

static void leave(struct tcp_conn *c)
{
	if (c->phase == TCP_RECOVERY)
		c->cwnd = c->ssthresh;
	c->phase = TCP_OPEN;
	tcp_rack_recovered(c);
}

/* RFC 6298 5.4 to 5.6, RFC 5681 3.1: one episode lowers ssthresh once. */
void tcp_rto_recover(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	c->is_probing = false;
	if (f == NULL) {
		c->fin_lost = true;
		return;
	}
	if (c->phase == TCP_OPEN) {
		remember(c);
		reduce(c, flight_size(c));
	}
	c->phase = TCP_LOSS;
	c->recover = c->snd_max;
	c->cwnd = c->mss;
	f->epoch_us = 0;
	f->dupacks = 0;
	f->is_reorder_timer = false;
	tcp_timer_stop(c, TCP_TIMER_LOSS);
	tcp_scoreboard_all_lost(c);
}

/* ---- who finds losses ---- */

/* RFC 5681 3.2, RFC 6582 3.2, with what RFC 9937 says of a delivery that has no number. */
static bool newreno_detect(struct tcp_conn *c, struct tcp_acked *a)
{
	struct tcp_flight *f = c->flight;
	if (a->is_duplicate) {
		/* An ACK that is split or repeated cannot have more segments leave the network than were in it. */
		if (f->dupacks >= DUP_THRESH && f->dupacks * c->mss >= f->pipe)
			return false;
		f->dupacks++;
		a->delivered = c->mss;
		if (f->dupacks != DUP_THRESH || (c->phase != TCP_OPEN && c->phase != TCP_CWR) || seq_lt(c->snd_una, c->recover))
			return false;
	} else if (a->bytes != 0) {
		const uint32_t segments = (a->bytes + c->mss - 1) / c->mss;
		const uint32_t known = min_u32(f->dupacks, segments - 1);
		f->dupacks = c->phase == TCP_RECOVERY && seq_lt(c->snd_una, c->recover) ? f->dupacks - known : 0;
		a->delivered -= min_u32(a->delivered, known * c->mss);
		if (c->phase != TCP_RECOVERY || seq_geq(c->snd_una, c->recover))
			return false;
	} else {
		return false;
	}
	if (c->send.head == NULL || c->send.head == c->send_next)
		return false;
	tcp_scoreboard_lost(c, c->send.head);
	return true;
}

static void find_losses(struct tcp_conn *c, struct tcp_acked *a)
{
	if (!c->has_sack)
		a->has_lost = newreno_detect(c, a);
	else if (a->delivered != 0 || a->has_dsack)
		a->has_lost = tcp_rack_detect(c);
}

static void grow(struct tcp_conn *c, const struct tcp_acked *a)
{
	if (a->bytes == 0)
		return;
	if (!c->cwnd_limited) { /* a window that was not used is not shown to be right (RFC 7661 3) */
		c->flight->epoch_us = 0;
		return;
	}
	if (c->cwnd < c->ssthresh)
		tcp_slow_start(c, a->delivered, a->rtt_us);
	else
		c->stack->cc->acked(c, a->delivered);
}

void tcp_recovery_acked(struct tcp_conn *c, struct tcp_acked *a)
{
	struct tcp_flight *f = c->flight;
	if (tcp_probe_has_mended(c, a) && c->phase == TCP_OPEN)
		mended(c, a);
	if (c->phase == TCP_OPEN && seq_gt(c->snd_una, c->recover))
		c->recover = c->snd_una - 1; /* it stays behind us, however much is sent without a loss */
	if (f == NULL) { /* no text is in flight, at most our FIN */
		if (c->phase != TCP_OPEN && seq_geq(c->snd_una, c->recover))
			leave(c);
		return;
	}
	if (a->has_dsack)
		tcp_rack_dsack(c);
	if (is_answer_to_original(c, a) || is_all_told_as_duplicate(c, a))
		undo(c);
	const bool was_recovering = c->phase == TCP_RECOVERY;
	find_losses(c, a);
	if (c->phase != TCP_OPEN && seq_geq(c->snd_una, c->recover))
		leave(c);
	if (a->has_ece)
		answer_congestion(c);
	if ((c->phase == TCP_OPEN || c->phase == TCP_CWR) && f->lost != 0)
		enter_recovery(c, a);
	if (c->phase == TCP_RECOVERY)
		prr_update(c, a);
	else if (!was_recovering && c->phase != TCP_CWR)
		grow(c, a);
	if (a->bytes != 0 || a->delivered != 0 || a->has_lost)
		tcp_dirty(c);
}

/* The reordering window has passed. */
void tcp_recovery_timer(struct tcp_conn *c)
{
	struct tcp_acked a = {0};
	if (!tcp_rack_detect(c))
		return;
	a.has_lost = true;
	if (c->phase == TCP_OPEN || c->phase == TCP_CWR)
		enter_recovery(c, &a);
	if (c->phase == TCP_RECOVERY)
		prr_update(c, &a);
	tcp_dirty(c);
}
