// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_rack.c: RACK-TLP (RFC 8985): what was sent enough before something that has been delivered is
 * lost; and when nothing comes back, a probe of the tail makes it so that something does.
 *
 * RFC 8985 6.2 step 5 visits all segments in the order in which they were sent. Here it visits those not sacked, in
 * the order of the queue, and ends at the first that was sent only once and after what has been delivered: all
 * behind it was sent later still. These are the holes, and a walk ends after TCP_WALK_MAX steps in any case: then
 * it goes on from there at the next ACK, or a millisecond later. */
#include "dataplane/tcp/tcp_private.h"

/* 7.2: the peer's delayed ACK, which a single segment may have to wait for. */
#define MAX_ACK_DELAY_US 200000u
#define PTO_INITIAL_US	 1000000u
#define PTO_MIN_US	 10000u /* on a short path the peer's own pauses are longer than two round trips */
#define DUP_THRESH	 3
#define DSACK_ROUNDS	 16 /* for so many recoveries a wider window stays (6.2 step 4) */

static bool is_sent_after(uint64_t us1, uint32_t seq1, uint64_t us2, uint32_t seq2)
{
	return us1 > us2 || (us1 == us2 && seq_gt(seq1, seq2));
}

/* Step 2: is this delivery surely of the last transmission? */
static bool is_of_retransmission(const struct tcp_conn *c, const struct tcp_mark *mark, const struct tcp_acked *a,
	uint64_t rtt_us)
{
	if (a->has_ts && seq_lt(a->tsecr, (uint32_t)(mark->sent_us / 1000) + c->ts_offset))
		return false;
	return rtt_us >= c->min_rtt_us;
}

void tcp_rack_delivered(struct tcp_conn *c, const struct tcp_mark *mark, struct tcp_acked *a)
{
	struct tcp_flight *f = c->flight;
	const uint64_t rtt_us = c->stack->now_us - mark->sent_us;
	const uint32_t end = tcp_mark_end(mark);
	a->is_ambiguous |= mark->is_retransmitted;
	if (!mark->is_retransmitted) {
		if (a->rtt_us == 0 || rtt_us < a->rtt_us)
			a->rtt_us = rtt_us == 0 ? 1 : (uint32_t)min_u64(rtt_us, UINT32_MAX);
		if (f->has_rack && seq_lt(end, f->fack)) /* step 3 */
			c->is_reordering = true;
	} else if (!is_of_retransmission(c, mark, a, rtt_us)) {
		return;
	}
	if (!f->has_rack || seq_gt(end, f->fack))
		f->fack = end;
	if (!f->has_rack || is_sent_after(mark->sent_us, end, f->rack_sent_us, f->rack_end)) {
		f->has_rack = true;
		f->rack_sent_us = mark->sent_us;
		f->rack_end = end;
		f->rack_rtt_us = (uint32_t)min_u64(rtt_us, TCP_RTO_MAX_US);
	}
}

/* Step 4. */
void tcp_rack_dsack(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	if (f->has_dsack_round && seq_lt(c->snd_una, f->dsack_round))
		return;
	f->has_dsack_round = true;
	f->dsack_round = c->snd_max;
	c->reo_wnd_persist = DSACK_ROUNDS;
	if (c->reo_wnd_more < UINT8_MAX)
		c->reo_wnd_more++;
}

void tcp_rack_recovered(struct tcp_conn *c)
{
	if (c->reo_wnd_persist != 0 && --c->reo_wnd_persist == 0)
		c->reo_wnd_more = 0;
}

static uint32_t reordering_window(const struct tcp_conn *c)
{
	const struct tcp_flight *f = c->flight;
	const bool is_recovering = c->phase == TCP_RECOVERY || c->phase == TCP_LOSS;
	if (!c->is_reordering && (is_recovering || f->sacked >= DUP_THRESH * c->mss))
		return 0;
	return (uint32_t)min_u64((1ull + c->reo_wnd_more) * c->min_rtt_us / 4, c->srtt_us);
}

/* Step 5. */
bool tcp_rack_detect(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	const uint64_t now_us = c->stack->now_us;
	if (!f->has_rack)
		return false;
	const uint64_t wait_us = (uint64_t)f->rack_rtt_us + reordering_window(c);
	uint64_t due_us = 0;
	bool has_lost = false;
	unsigned steps = TCP_WALK_MAX;
	struct rte_mbuf *m = f->at[TCP_AT_RACK] != NULL ? f->at[TCP_AT_RACK] : c->send.head;
	for (; m != NULL && m != c->send_next && steps > 0; m = tcp_scoreboard_next(c, m), steps--) {
		const struct tcp_mark *mark = tcp_mark(c->stack, m);
		if (mark->is_sacked || mark->is_lost)
			continue;
		if (!is_sent_after(f->rack_sent_us, f->rack_end, mark->sent_us, tcp_mark_end(mark))) {
			if (!mark->is_retransmitted)
				break;
		} else if (mark->sent_us + wait_us <= now_us) {
			tcp_scoreboard_lost(c, m);
			has_lost = true;
		} else if (mark->sent_us + wait_us > due_us) {
			due_us = mark->sent_us + wait_us;
		}
	}
	f->at[TCP_AT_RACK] = steps == 0 && m != c->send_next ? m : NULL;
	if (f->at[TCP_AT_RACK] != NULL)
		due_us = now_us + TIMER_WHEEL_TICK_US;
	f->is_reorder_timer = due_us != 0;
	if (due_us != 0)
		tcp_timer_set(c, TCP_TIMER_LOSS, due_us);
	else
		tcp_timer_stop(c, TCP_TIMER_LOSS);
	return has_lost;
}

/* ---- tail loss probe (section 7) ---- */

void tcp_probe_schedule(struct tcp_conn *c)
{
	const struct tcp_flight *f = c->flight;
	if (f != NULL && f->is_reorder_timer)
		return;
	tcp_timer_stop(c, TCP_TIMER_LOSS);
	if (f == NULL || !c->has_sack || c->phase != TCP_OPEN || f->sacked != 0 || f->pipe == 0 || c->is_probing)
		return;
	uint64_t pto_us = c->srtt_us != 0 ? max_u32(2 * c->srtt_us, PTO_MIN_US) : PTO_INITIAL_US;
	if (f->pipe <= c->mss && c->srtt_us != 0)
		pto_us += MAX_ACK_DELAY_US;
	uint64_t due_us = c->stack->now_us + pto_us;
	if (due_us > c->due_us[TCP_TIMER_RETRANSMIT])
		due_us = c->due_us[TCP_TIMER_RETRANSMIT];
	tcp_timer_set(c, TCP_TIMER_LOSS, due_us);
}

void tcp_loss_timeout(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	if (f == NULL)
		return;
	if (f->is_reorder_timer) {
		f->is_reorder_timer = false;
		tcp_recovery_timer(c);
	} else if (c->phase == TCP_OPEN && !c->is_probing) {
		c->tail_probe_due = true;
		tcp_rto_restart(c);
		tcp_dirty(c);
	}
}

void tcp_probe_sent(struct tcp_conn *c, bool is_again)
{
	c->is_probing = true;
	c->probe_is_again = is_again;
	c->probe_end = c->snd_max;
	tcp_count(c->stack, tail_probes);
}

/* 7.4: true if the probe has mended a loss, of which nothing else would tell. */
bool tcp_probe_has_mended(struct tcp_conn *c, const struct tcp_acked *a)
{
	if (!c->is_probing || seq_lt(c->snd_una, c->probe_end))
		return false;
	if (c->probe_is_again && !(a->has_dsack && a->dsack.end == c->probe_end)) {
		if (c->snd_una == c->probe_end) {
			c->is_probing = a->bytes != 0 || a->delivered != 0 || !a->is_duplicate;
			return false; /* a later ACK or a duplicate will tell */
		}
		c->is_probing = false;
		return true;
	}
	c->is_probing = false;
	return false;
}
