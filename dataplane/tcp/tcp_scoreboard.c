// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_scoreboard.c: what is known of each record that was sent and is not acknowledged (RFC 6675 2).
 *
 * A record is in flight, sacked, or lost and not yet sent again: its mark says which, and struct tcp_flight has
 * the bytes of each kind, so that what is in the network is known at any time without counting.
 *
 * The work for an ACK is bounded. Sacked neighbours form a run, which is known by its first record, which knows the
 * last; a step of a walk is a record that is not sacked, or a run. A block is looked for from the nearest of the
 * queue's head, the run that grew last and the highest run: a receiver in order reports at these. What would take
 * more than TCP_WALK_MAX steps is left: the peer repeats its blocks (RFC 2018 4), and without them all is only
 * slower. The search for the next record to send again goes on a millisecond later from where it was. So whatever the
 * peer's blocks and segment sizes are, an ACK costs no more than a fixed number of steps, and a segment sent as many.
 *
 * Two walks may visit all that is in flight: a timeout takes all for lost, and what proves a recovery needless takes it
 * back. The first is paid for by the wait before it. The second has no more steps than found the losses: after a timeout
 * that is one walk; else RACK's, which had to step over the same records, TCP_WALK_MAX of them an ACK. */
#include "dataplane/tcp/tcp_private.h"

static struct rte_mbuf *next_of(const struct tcp_stack *s, struct rte_mbuf *m)
{
	return tcp_mark(s, m)->next;
}

/* The step of a walk: over a whole run. */
struct rte_mbuf *tcp_scoreboard_next(const struct tcp_conn *c, struct rte_mbuf *m)
{
	const struct tcp_stack *s = c->stack;
	return next_of(s, tcp_mark(s, m)->is_sacked ? tcp_run_last(s, m) : m);
}

uint32_t *tcp_scoreboard_account(struct tcp_flight *f, const struct tcp_mark *mark)
{
	return mark->is_sacked ? &f->sacked : mark->is_lost ? &f->lost : &f->pipe;
}

/* `m` is not the first of a run any more, or not in the queue: who wanted to go on there goes on at `instead`. */
static void move_places(struct tcp_flight *f, const struct rte_mbuf *m, struct rte_mbuf *instead)
{
	for (unsigned i = 0; i < TCP_PLACES; i++)
		if (f->at[i] == m)
			f->at[i] = instead;
}

void tcp_scoreboard_leaves(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_stack *s = c->stack;
	struct rte_mbuf *next = next_of(s, m);
	if (tcp_mark(s, m)->is_sacked && tcp_run_last(s, m) != m)
		tcp_run_set_last(s, next, tcp_run_last(s, m));
	move_places(c->flight, m, next);
	if (c->flight->last_sent == m)
		c->flight->last_sent = NULL;
}

/* ---- sacked ---- */

struct walk {
	struct rte_mbuf *run; /* the run just before the record; NULL: none, or it is not known */
	unsigned steps;
};

/* Marks a record and joins it to the runs before and behind it. */
static void mark_sacked(struct tcp_conn *c, struct rte_mbuf *m, struct walk *w, struct tcp_acked *a)
{
	struct tcp_stack *s = c->stack;
	struct tcp_flight *f = c->flight;
	struct tcp_mark *mark = tcp_mark(s, m);
	*tcp_scoreboard_account(f, mark) -= mark->len;
	f->sacked += mark->len;
	a->sacked += mark->len;
	a->delivered += mark->len;
	tcp_rack_delivered(c, mark, a);
	mark->is_sacked = 1;
	mark->is_lost = 0;
	tcp_run_set_last(s, m, m);
	if (w->run != NULL) {
		tcp_run_set_last(s, w->run, m);
		move_places(f, m, w->run);
	} else {
		w->run = m;
	}
	struct rte_mbuf *next = mark->next;
	if (next != NULL && tcp_mark(s, next)->is_sacked) {
		tcp_run_set_last(s, w->run, tcp_run_last(s, next));
		move_places(f, next, w->run);
	}
}

static struct rte_mbuf *start_for(const struct tcp_conn *c, uint32_t seq)
{
	const struct tcp_stack *s = c->stack;
	const struct tcp_flight *f = c->flight;
	struct rte_mbuf *best = c->send.head;
	for (unsigned i = TCP_AT_SACK; i <= TCP_AT_TOP; i++)
		if (f->at[i] != NULL && seq_leq(tcp_mark(s, f->at[i])->seq, seq) &&
			seq_gt(tcp_mark(s, f->at[i])->seq, tcp_mark(s, best)->seq))
			best = f->at[i];
	return best;
}

/* Only records that the block covers whole: it was made of the segments we sent. */
static void block_arrives(struct tcp_conn *c, struct tcp_range block, struct walk *w, struct tcp_acked *a)
{
	struct tcp_stack *s = c->stack;
	struct tcp_flight *f = c->flight;
	struct rte_mbuf *m = start_for(c, block.start);
	w->run = NULL;
	while (m != NULL && m != c->send_next && seq_lt(tcp_mark(s, m)->seq, block.end)) {
		const struct tcp_mark *mark = tcp_mark(s, m);
		if (w->steps == 0)
			return;
		w->steps--;
		if (mark->is_sacked) {
			w->run = m;
		} else if (seq_leq(block.start, mark->seq) && seq_leq(tcp_mark_end(mark), block.end)) {
			mark_sacked(c, m, w, a);
			m = w->run;
		} else {
			w->run = NULL;
		}
		m = tcp_scoreboard_next(c, m);
	}
	if (w->run == NULL)
		return;
	f->at[TCP_AT_SACK] = w->run;
	if (f->at[TCP_AT_TOP] == NULL || seq_gt(tcp_mark(s, w->run)->seq, tcp_mark(s, f->at[TCP_AT_TOP])->seq))
		f->at[TCP_AT_TOP] = w->run;
}

/* RFC 2883 5: what the first block says of text that had been acknowledged, or that the second covers. */
static bool is_dsack(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	const struct tcp_range *b = seg->sack;
	if (seq_geq(b[0].start, b[0].end) || seq_lt(b[0].start, seg->ack - c->max_snd_wnd) ||
		seq_gt(b[0].end, c->snd_max))
		return false;
	if (seq_leq(b[0].end, seg->ack))
		return true;
	return seg->sack_count > 1 && seq_geq(b[0].start, b[1].start) && seq_leq(b[0].end, b[1].end);
}

static bool is_possible(const struct tcp_conn *c, const struct tcp_range *b)
{
	return seq_lt(b->start, b->end) && seq_geq(b->start, c->snd_una) && seq_leq(b->end, c->snd_max);
}

/* What one ACK tells of is taken in order, or it would look like reordering (RFC 8985 6.2 step 3). */
static void insert_ascending(struct tcp_range *blocks, unsigned count, struct tcp_range b)
{
	for (; count > 0 && seq_gt(blocks[count - 1].start, b.start); count--)
		blocks[count] = blocks[count - 1];
	blocks[count] = b;
}

void tcp_sack_arrives(struct tcp_conn *c, const struct tcp_segment *seg, struct tcp_acked *a)
{
	struct walk w = {.steps = TCP_WALK_MAX};
	struct tcp_range blocks[TCP_SACK_BLOCKS];
	unsigned i = 0, count = 0;
	if (seg->sack_count == 0 || !c->has_sack)
		return;
	if (is_dsack(c, seg)) {
		a->has_dsack = true;
		a->dsack = seg->sack[i++];
	}
	for (; i < seg->sack_count; i++)
		if (is_possible(c, &seg->sack[i]))
			insert_ascending(blocks, count++, seg->sack[i]);
	for (i = 0; i < count && c->send.head != NULL; i++)
		block_arrives(c, blocks[i], &w, a);
}

/* ---- lost ---- */

void tcp_scoreboard_lost(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_flight *f = c->flight;
	struct tcp_mark *mark = tcp_mark(c->stack, m);
	if (mark->is_sacked || mark->is_lost)
		return;
	mark->is_lost = 1;
	f->pipe -= mark->len;
	f->lost += mark->len;
	if (f->at[TCP_AT_LOST] == NULL || seq_lt(mark->seq, tcp_mark(c->stack, f->at[TCP_AT_LOST])->seq))
		f->at[TCP_AT_LOST] = m;
}

/* All in flight is lost. Once a timeout, so it may visit all. What was sacked stays so, unless the peer has shown
 * that it does not keep what it reports: then its first missing byte would have been acknowledged (RFC 2018 8). */
void tcp_scoreboard_all_lost(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	struct tcp_flight *f = c->flight;
	const bool has_reneged = c->send.head != NULL && tcp_mark(s, c->send.head)->is_sacked;
	f->at[TCP_AT_RACK] = NULL;
	if (has_reneged)
		f->at[TCP_AT_SACK] = f->at[TCP_AT_TOP] = NULL;
	for (struct rte_mbuf *m = c->send.head; m != NULL && m != c->send_next;
		m = has_reneged ? next_of(s, m) : tcp_scoreboard_next(c, m)) {
		struct tcp_mark *mark = tcp_mark(s, m);
		if (has_reneged && mark->is_sacked) {
			mark->is_sacked = 0;
			mark->sent_us = 0;
			f->sacked -= mark->len;
			f->pipe += mark->len;
		}
		tcp_scoreboard_lost(c, m);
	}
}

/* Nothing before it is lost. */
static struct rte_mbuf *lost_from(const struct tcp_conn *c)
{
	struct rte_mbuf *m = c->flight->at[TCP_AT_LOST];
	return m != NULL ? m : c->send.head;
}

/* What was taken for lost is not. */
void tcp_scoreboard_none_lost(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	for (struct rte_mbuf *m = lost_from(c); m != NULL && f->lost != 0; m = tcp_scoreboard_next(c, m)) {
		struct tcp_mark *mark = tcp_mark(c->stack, m);
		if (!mark->is_lost)
			continue;
		mark->is_lost = 0;
		f->lost -= mark->len;
		f->pipe += mark->len;
	}
	f->at[TCP_AT_LOST] = NULL;
}

struct rte_mbuf *tcp_scoreboard_next_lost(struct tcp_conn *c)
{
	struct tcp_flight *f = c->flight;
	if (f == NULL || f->lost == 0)
		return NULL;
	struct rte_mbuf *m = lost_from(c);
	unsigned steps = TCP_WALK_MAX;
	for (; m != NULL && m != c->send_next && !tcp_mark(c->stack, m)->is_lost && steps > 0; steps--)
		m = tcp_scoreboard_next(c, m);
	f->at[TCP_AT_LOST] = m;
	if (m == NULL || m == c->send_next)
		return NULL;
	if (tcp_mark(c->stack, m)->is_lost)
		return m;
	tcp_timer_set(c, TCP_TIMER_STARVED, c->stack->now_us + TIMER_WHEEL_TICK_US);
	return NULL;
}

/* ---- sent ---- */

void tcp_scoreboard_sent(struct tcp_conn *c, struct rte_mbuf *m, bool is_new)
{
	struct tcp_flight *f = c->flight;
	struct tcp_mark *mark = tcp_mark(c->stack, m);
	if (is_new) {
		f->pipe += mark->len;
		f->last_sent = m;
	} else {
		if (mark->is_lost) {
			f->lost -= mark->len;
			f->pipe += mark->len;
		}
		mark->is_lost = 0;
		mark->is_retransmitted = 1;
	}
	mark->sent_us = c->stack->now_us;
}

uint32_t tcp_pipe(const struct tcp_conn *c)
{
	const struct tcp_flight *f = c->flight;
	if (f == NULL)
		return 0;
	/* Without SACK each duplicate ACK stands for a segment that has left the network (RFC 5681 3.2). */
	return f->pipe - min_u32(f->pipe, f->dupacks * c->mss);
}
