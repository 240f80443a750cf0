// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim_mutant.c: faults like those of a stack with a bug in it, injected once in a history. A simulator that does not find
 * them would find no bugs either. */
#include "tests/sim/sim.h"

static bool forget_retransmission(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (c->snd_una == c->snd_max || c->is_dirty || !tcp_is_synchronized(c) ||
		!tcp_timer_is_set(c, TCP_TIMER_RETRANSMIT))
		return false;
	tcp_timer_stop(c, TCP_TIMER_RETRANSMIT);
	return true;
}

static bool lose_wheel_node(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (!tcp_timer_is_set(c, TCP_TIMER_RETRANSMIT) || !timer_is_armed(&c->node))
		return false;
	timer_wheel_cancel(&c->stack->wheel, &c->node);
	return true;
}

static bool skip_a_byte(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (c->receive_bytes < 2)
		return false;
	struct tcp_mark *mark = tcp_mark(c->stack, c->receive.head);
	if (mark->len < 2)
		return false;
	mark->offset++;
	return true;
}

static bool read_a_byte_twice(struct sim *s, unsigned side, struct tcp_conn *c)
{
	struct rte_mbuf *m = c->receive.head;
	if (m == NULL || tcp_mark(c->stack, m)->offset == 0)
		return false;
	tcp_mark(c->stack, m)->offset--;
	return true;
}

static bool acknowledge_too_much(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (!tcp_is_synchronized(c) || c->fin_seen || c->rcv_adv - c->rcv_nxt < 100 || c->reassembly != NULL)
		return false;
	c->rcv_nxt++;
	return true;
}

static bool leak_a_buffer(struct sim *s, unsigned side, struct tcp_conn *c)
{
	return rte_pktmbuf_alloc(s->sides[side].pool) != NULL;
}

static bool forget_to_release(struct sim *s, unsigned side, struct tcp_conn *c)
{
	c->stack->stats.buffered_bytes += 2304;
	return true;
}

static bool send_wrong_bytes(struct sim *s, unsigned side, struct tcp_conn *c)
{
	struct rte_mbuf *m = c->send.tail;
	if (m == NULL || seq_lt(tcp_mark(c->stack, m)->seq, c->snd_max))
		return false;
	((uint8_t *)m->buf_addr)[tcp_mark(c->stack, m)->offset] ^= 1;
	return true;
}

static bool ignore_the_window(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (!tcp_is_synchronized(c) || c->send_end - c->snd_una <= c->snd_wnd)
		return false;
	c->snd_wnd = c->max_snd_wnd = 1u << 28;
	c->cwnd = 1u << 28;
	tcp_dirty(c);
	return true;
}

static bool shrink_the_window(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (!tcp_is_synchronized(c) || c->rcv_adv - c->rcv_nxt < 2000)
		return false;
	c->rcv_adv -= 1500;
	return true;
}

static bool close_the_congestion_window(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (!tcp_is_synchronized(c))
		return false;
	c->cwnd = 0;
	return true;
}

static bool overlap_reassembly(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (c->reassembly == NULL || c->reassembly->islands < 2)
		return false;
	struct rte_mbuf *m = tcp_run_last(c->stack, c->reassembly->head);
	struct tcp_mark *mark = tcp_mark(c->stack, m), *after = tcp_mark(c->stack, mark->next);
	mark->len = (uint16_t)(after->seq - mark->seq + 1);
	return true;
}

static bool forget_a_time_wait(struct sim *s, unsigned side, struct tcp_conn *c)
{
	struct tcp_time_wait *w = TAILQ_FIRST(&s->sides[side].stack->time_waiting);
	if (w == NULL)
		return false;
	w->due_ms = tcp_now_ms(s->sides[side].stack) + INT32_MAX; /* three weeks */
	return true;
}

static bool deliver_twice_without_check(struct sim *s, unsigned side, struct tcp_conn *c)
{
	if (c->reassembly == NULL)
		return false;
	struct rte_mbuf *m = c->reassembly->head;
	((uint8_t *)m->buf_addr)[tcp_mark(c->stack, m)->offset] ^= 0x40; /* as if a checksum had not been looked at */
	return true;
}

const struct sim_mutant sim_mutants[] = {
	{"forget-retransmission", "the retransmission timer is stopped while something is in flight", forget_retransmission, false},
	{"lose-wheel-node", "a connection drops out of the timer wheel", lose_wheel_node, false},
	{"skip-a-byte", "a byte that came is not read", skip_a_byte, true},
	{"read-a-byte-twice", "a byte that is not text is read", read_a_byte_twice, true},
	{"acknowledge-too-much", "RCV.NXT runs ahead by one", acknowledge_too_much, true},
	{"leak-a-buffer", "an mbuf is not given back", leak_a_buffer, true},
	{"forget-to-release", "the account of held bytes is wrong", forget_to_release, true},
	{"send-wrong-bytes", "the send queue is written to", send_wrong_bytes, true},
	{"ignore-the-window", "more is sent than the peer takes", ignore_the_window, true},
	{"shrink-the-window", "the right edge goes back", shrink_the_window, true},
	{"close-the-congestion-window", "cwnd is 0", close_the_congestion_window, false},
	{"overlap-reassembly", "two pieces out of order overlap", overlap_reassembly, false},
	{"forget-a-time-wait", "a record of TIME-WAIT is kept for ever", forget_a_time_wait, true},
	{"believe-a-bad-segment", "a flipped bit gets into the reassembly queue", deliver_twice_without_check, true},
};
const unsigned sim_mutant_count = RTE_DIM(sim_mutants);

void sim_mutate(struct sim *s)
{
	if (s->mutant == NULL || s->mutant_done || s->now_us < s->mutant_at)
		return;
	for (unsigned side = 0; side < 2; side++)
		for (unsigned i = 0; i < s->o.talks; i++) {
			struct tcp_conn *c = s->talks[i].half[side].conn;
			if (c == NULL || c->state == TCP_CLOSED || s->mutant_done ||
				!s->mutant->strike(s, side, c))
				continue;
			s->mutant_done = true;
			sim_trace(s, "MUTANT %s strikes side %u", s->mutant->name, side);
			sim_check(s, side, "the mutant's strike");
		}
}
