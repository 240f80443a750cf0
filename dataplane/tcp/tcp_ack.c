// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_ack.c: an acceptable ACK on a synchronized connection: what it frees, what it says about
 * the round trip (RFC 6298), about losses (tcp_scoreboard.c, tcp_recovery.c) and the peer's window. */
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

/* By the segments' own times, which are exact; by timestamps where all were sent twice. */
static void sample_rtt(struct tcp_conn *c, const struct tcp_acked *a)
{
	if (a->rtt_us != 0 && !a->is_ambiguous) { /* Karn (RFC 6298 3) */
		tcp_rtt_sample(c, a->rtt_us);
		c->min_rtt_us = c->min_rtt_us == 0 ? a->rtt_us : min_u32(c->min_rtt_us, a->rtt_us);
	} else if (a->bytes != 0 && a->has_ts && a->tsecr != 0) {
		uint32_t ms = tcp_ts_now(c->stack, c->ts_offset) - a->tsecr;
		if (ms <= TCP_RTO_MAX_US / 1000)
			tcp_rtt_sample(c, ms * 1000ull);
	}
}

static void wake_writer(struct tcp_conn *c)
{
	if (!c->write_waits || tcp_write_space(c) < min_u32(c->stack->config.send_bytes_max, TCP_WINDOW_START) / 4)
		return;
	c->write_waits = false;
	tcp_event(c, TCP_EVENT_WRITABLE);
}

static bool is_fin_acked(const struct tcp_conn *c)
{
	return c->fin_queued && c->snd_una == c->send_end + 1;
}

static void new_ack(struct tcp_conn *c, const struct tcp_segment *seg, struct tcp_acked *a)
{
	a->bytes = seg->ack - c->snd_una;
	c->snd_una = seg->ack;
	const uint32_t data = is_fin_acked(c) ? c->send_end : c->snd_una;
	tcp_send_acked(c, data, a);
	c->bytes_out += a->bytes - (c->snd_una - data);
	c->backoff = 0;
	c->progress_us = c->stack->now_us;
	c->moved_ms = tcp_now_ms(c->stack);
	tcp_path_acked(c);
	c->is_persisting = false;
	tcp_dirty(c);
}

/* RFC 6298 5.2, 5.3; the tail probe's timer follows it. */
static void restart_timers(struct tcp_conn *c, const struct tcp_acked *a)
{
	if (a->bytes != 0 && c->snd_una == c->snd_max)
		tcp_timer_stop(c, TCP_TIMER_RETRANSMIT);
	else if (a->bytes != 0)
		tcp_rto_restart(c);
	tcp_probe_schedule(c);
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

/* RFC 5681 2; where all is acknowledged it may still answer a tail probe. */
static bool is_duplicate_ack(const struct tcp_conn *c, const struct tcp_segment *seg, uint32_t window)
{
	return seg->ack == c->snd_una && window == c->snd_wnd && tcp_segment_len(seg) == 0;
}

void tcp_ack_arrives(struct tcp_conn *c, const struct tcp_segment *seg)
{
	const uint32_t window = (uint32_t)seg->window << c->snd_wscale;
	const bool has_new_ack = seq_gt(seg->ack, c->snd_una);
	if (seq_geq(seg->ack, c->snd_una)) {
		struct tcp_acked a = {
			.has_ts = c->has_ts && seg->has_ts,
			.tsecr = seg->tsecr,
			.has_ece = c->has_ecn && seg->flags & RTE_TCP_ECE_FLAG,
			.is_duplicate = is_duplicate_ack(c, seg, window),
		};
		if (has_new_ack)
			new_ack(c, seg, &a);
		tcp_sack_arrives(c, seg, &a);
		sample_rtt(c, &a);
		tcp_recovery_acked(c, &a);
		restart_timers(c, &a);
		tcp_flight_end(c);
		if (has_new_ack)
			wake_writer(c);
		update_window(c, seg, window, has_new_ack);
	}
	state_after_ack(c);
}
