// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_ack.c: an acceptable ACK on a synchronized connection: what it frees, what it says about
 * the round trip (RFC 6298), about loss (RFC 5681, NewReno's recovery of RFC 6582) and the peer's window. */
#include "dataplane/tcp/tcp_private.h"

void tcp_rtt_sample(struct tcp_conn *c, uint64_t rtt_us)
{
	uint32_t r = rtt_us > TCP_RTO_MAX_US ? TCP_RTO_MAX_US : rtt_us == 0 ? 1 : (uint32_t)rtt_us;
	if (c->srtt_us == 0) {
		c->srtt_us = r;
		c->rttvar_us = r / 2;
	} else {
		uint32_t error = r > c->srtt_us ? r - c->srtt_us : c->srtt_us - r;
		c->rttvar_us = (uint32_t)((3ull * c->rttvar_us + error) / 4);
		c->srtt_us = (uint32_t)((7ull * c->srtt_us + r) / 8);
		if (c->srtt_us == 0)
			c->srtt_us = 1;
	}
	c->rto_us = min_u32(c->srtt_us + max_u32(4 * c->rttvar_us, TCP_RTO_VARIANCE_MIN_US), TCP_RTO_MAX_US);
}

/* By the segments' own times, which are exact; by timestamps where one of them was sent twice. */
static void sample_rtt(struct tcp_conn *c, const struct tcp_segment *seg, uint64_t sent_us)
{
	if (sent_us != 0) {
		tcp_rtt_sample(c, c->stack->now_us - sent_us);
	} else if (c->has_ts && seg->has_ts && seg->tsecr != 0) {
		uint32_t ms = tcp_ts_now(c->stack, c->ts_offset) - seg->tsecr;
		if (ms <= TCP_RTO_MAX_US / 1000)
			tcp_rtt_sample(c, ms * 1000ull);
	}
}

void tcp_rto_recover(struct tcp_conn *c)
{
	if (c->in_rto) /* one episode halves ssthresh once (RFC 5681 3.1) */
		c->cwnd = c->mss;
	else
		c->cc->timeout(c, c->snd_max - c->snd_una);
	c->in_rto = true;
	c->in_recovery = false;
	c->dupacks = 0;
	c->recover = c->snd_max;
	tcp_send_rewind(c);
}

static void enter_recovery(struct tcp_conn *c)
{
	c->in_recovery = true;
	c->had_partial_ack = false;
	c->recover = c->snd_max;
	c->cc->loss(c, c->snd_max - c->snd_una);
	tcp_count(c->stack, fast_retransmits);
	tcp_retransmit_first(c);
	tcp_rto_restart(c);
}

/* RFC 5681 3.2, RFC 3042 for the first two. */
static void duplicate_ack(struct tcp_conn *c)
{
	if (c->dupacks < UINT8_MAX)
		c->dupacks++;
	if (c->in_recovery)
		c->cwnd = min_u32(c->cwnd + c->mss, 1u << 30);
	else if (c->dupacks == 3 && !c->in_rto && seq_geq(c->snd_una, c->recover))
		enter_recovery(c);
	tcp_dirty(c);
}

/* RFC 6582 3.2 (3), partial acknowledgement: the next hole is sent at once. */
static void partial_ack(struct tcp_conn *c, uint32_t acked)
{
	c->had_partial_ack = true;
	c->cwnd = c->cwnd > acked ? c->cwnd - acked : 0;
	if (acked >= c->mss)
		c->cwnd += c->mss;
	c->cwnd = max_u32(c->cwnd, c->mss);
	tcp_retransmit_first(c);
}

static void recover_by(struct tcp_conn *c, uint32_t acked)
{
	if (c->in_recovery && seq_lt(c->snd_una, c->recover)) {
		partial_ack(c, acked);
		return;
	}
	if (c->in_recovery)
		c->cc->recovered(c, c->snd_max - c->snd_una);
	else
		c->cc->acked(c, acked);
	c->in_recovery = false;
	c->dupacks = 0;
	if (c->in_rto && seq_geq(c->snd_una, c->recover))
		c->in_rto = false;
}

static void wake_writer(struct tcp_conn *c)
{
	if (!c->write_waits || tcp_write_space(c) < c->stack->config.send_bytes_max / 4)
		return;
	c->write_waits = false;
	tcp_event(c, TCP_EVENT_WRITABLE);
}

static bool is_fin_acked(const struct tcp_conn *c)
{
	return c->fin_queued && c->snd_una == c->send_end + 1;
}

static void new_ack(struct tcp_conn *c, const struct tcp_segment *seg)
{
	const uint32_t acked = seg->ack - c->snd_una;
	const bool had_partial_ack = c->in_recovery && c->had_partial_ack;
	c->snd_una = seg->ack;
	const uint32_t data = is_fin_acked(c) ? c->send_end : c->snd_una;
	const uint64_t sent_us = tcp_send_acked(c, data);
	c->bytes_out += acked - (c->snd_una - data);
	if (seq_lt(c->snd_nxt, c->snd_una))
		c->snd_nxt = c->snd_una;
	sample_rtt(c, seg, sent_us);
	c->backoff = 0;
	c->progress_us = c->stack->now_us;
	c->moved_ms = tcp_now_ms(c->stack);
	recover_by(c, acked);
	tcp_path_acked(c);
	if (c->snd_una == c->snd_max)
		tcp_timer_stop(c, TCP_TIMER_RETRANSMIT);
	else if (!(c->in_recovery && had_partial_ack)) /* RFC 6582 3.2 (3): only the first partial ACK gives more time */
		tcp_rto_restart(c);
	c->is_persisting = false;
	wake_writer(c);
	tcp_dirty(c);
}

/* RFC 9293 3.10.7.4: a window is taken from the newest segment only. One whose ACK is new is the newest, also if
 * its text had been sent before: its window counts from that ACK, and the one before would reach too far. */
static void update_window(struct tcp_conn *c, const struct tcp_segment *seg, uint32_t window, bool has_new_ack)
{
	const bool is_newest = has_new_ack || seq_lt(c->snd_wl1, seg->seq) ||
		(c->snd_wl1 == seg->seq && seq_leq(c->snd_wl2, seg->ack));
	if (!is_newest)
		return;
	if (c->is_persisting) { /* the probe was answered */
		if (!c->fin_queued) /* once we have closed, answers alone do not keep it */
			c->progress_us = c->stack->now_us;
		if (window > c->snd_wnd) {
			c->is_persisting = false;
			c->backoff = 0;
			tcp_timer_stop(c, TCP_TIMER_RETRANSMIT);
			if (c->snd_una != c->snd_max)
				tcp_rto_restart(c);
		}
	}
	if (window > c->snd_wnd)
		tcp_dirty(c);
	c->snd_wnd = window;
	c->snd_wl1 = seg->seq;
	c->snd_wl2 = seg->ack;
	c->max_snd_wnd = max_u32(c->max_snd_wnd, window);
}

static void state_after_ack(struct tcp_conn *c)
{
	if (!is_fin_acked(c))
		return;
	switch (c->state) {
	case TCP_FIN_WAIT_1:
		tcp_enter(c, TCP_FIN_WAIT_2);
		tcp_timer_set(c, TCP_TIMER_QUIET, c->stack->now_us + TCP_FIN_WAIT_2_US);
		break;
	case TCP_CLOSING: tcp_conn_time_wait(c); break;
	case TCP_LAST_ACK: tcp_conn_end(c, TCP_END_CLOSED); break;
	default: break;
	}
}

static bool is_duplicate_ack(const struct tcp_conn *c, const struct tcp_segment *seg, uint32_t window)
{
	return seg->ack == c->snd_una && c->snd_una != c->snd_max && window == c->snd_wnd &&
		tcp_segment_len(seg) == 0;
}

void tcp_ack_arrives(struct tcp_conn *c, const struct tcp_segment *seg)
{
	const uint32_t window = (uint32_t)seg->window << c->snd_wscale;
	const bool has_new_ack = seq_gt(seg->ack, c->snd_una);
	if (has_new_ack)
		new_ack(c, seg);
	else if (is_duplicate_ack(c, seg, window))
		duplicate_ack(c);
	if (seq_geq(seg->ack, c->snd_una))
		update_window(c, seg, window, has_new_ack);
	state_after_ack(c);
}
