// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_reassembly.c: text that arrived out of order, until the gap before it is filled; and what
 * is told of it: selective acknowledgements (RFC 2018), duplicates (RFC 2883).
 *
 * The mbufs lie in one list, ascending and disjoint. Those without a gap between them form an island, known by
 * its first mbuf, which knows its last; so a walk goes from island to island. TCP_ISLANDS_MAX bounds the islands,
 * and with them the work for a segment, whatever comes: text at the end (the most likely place) is put there at
 * once, else the walk is from the first island, where gaps are filled; islands covered whole are freed, each mbuf
 * once; a gap that is filled moves its island to the receive queue in one piece. */
#include "dataplane/tcp/tcp_private.h"

static struct rte_mbuf *next_island(const struct tcp_stack *s, struct rte_mbuf *island)
{
	return tcp_mark(s, tcp_run_last(s, island))->next;
}

static uint32_t island_start(const struct tcp_stack *s, struct rte_mbuf *island)
{
	return tcp_mark(s, island)->seq;
}

static uint32_t island_end(const struct tcp_stack *s, struct rte_mbuf *island)
{
	return tcp_mark_end(tcp_mark(s, tcp_run_last(s, island)));
}

uint32_t tcp_reassembly_end(const struct tcp_conn *c)
{
	return c->reassembly == NULL ? c->rcv_nxt : island_end(c->stack, c->reassembly->last_island);
}

static void free_island(struct tcp_conn *c, struct rte_mbuf *island)
{
	struct rte_mbuf *const end = next_island(c->stack, island);
	for (struct rte_mbuf *m = island, *next; m != end; m = next) {
		next = tcp_mark(c->stack, m)->next;
		tcp_receive_release(c, m);
	}
}

/* The first island is gone or has been taken: so is its place in the list. */
static void drop_first_island(struct tcp_conn *c, struct rte_mbuf *next)
{
	struct tcp_reassembly *r = c->reassembly;
	r->head = next;
	r->islands--;
	if (next == NULL) {
		tcp_slab_put(&c->stack->reassemblies, r);
		c->reassembly = NULL;
	}
}

void tcp_reassembly_free(struct tcp_conn *c)
{
	while (c->reassembly != NULL) {
		struct rte_mbuf *island = c->reassembly->head, *next = next_island(c->stack, island);
		free_island(c, island);
		drop_first_island(c, next);
	}
}

/* ---- arrival ---- */

void tcp_note_duplicate(struct tcp_conn *c, uint32_t start, uint32_t end)
{
	if (start == end)
		return;
	if (c->dsack.start != c->dsack.end && c->dsack.end == start) { /* two in a burst */
		c->dsack.end = end;
		return;
	}
	c->dsack = (struct tcp_range){start, end};
}

static void note_recent(struct tcp_reassembly *r, uint32_t seq)
{
	memmove(r->recent + 1, r->recent, sizeof r->recent - sizeof *r->recent);
	r->recent[0] = seq;
	if (r->recent_count < TCP_SACK_BLOCKS)
		r->recent_count++;
}

/* The last island that starts at or before `seq`; NULL: none. */
static struct rte_mbuf *find_before(const struct tcp_conn *c, uint32_t seq)
{
	const struct tcp_stack *s = c->stack;
	const struct tcp_reassembly *r = c->reassembly;
	struct rte_mbuf *before = NULL;
	if (seq_leq(island_start(s, r->last_island), seq))
		return r->last_island;
	for (struct rte_mbuf *i = r->head; i != NULL && seq_leq(island_start(s, i), seq); i = next_island(s, i))
		before = i;
	return before;
}

static struct rte_mbuf *island_after(const struct tcp_conn *c, struct rte_mbuf *before)
{
	return before == NULL ? c->reassembly->head : next_island(c->stack, before);
}

static void link_after(struct tcp_conn *c, struct rte_mbuf *before, struct rte_mbuf *next)
{
	struct tcp_stack *s = c->stack;
	if (before == NULL)
		c->reassembly->head = next;
	else
		tcp_mark(s, tcp_run_last(s, before))->next = next;
}

/* Removes the islands behind `before` that `mark` covers whole, and cuts `mark` at the next. */
static void cut_followers(struct tcp_conn *c, struct rte_mbuf *before, struct tcp_mark *mark)
{
	struct tcp_stack *s = c->stack;
	struct rte_mbuf *island;
	while ((island = island_after(c, before)) != NULL &&
		seq_lt(island_start(s, island), tcp_mark_end(mark))) {
		const uint32_t start = island_start(s, island), end = island_end(s, island);
		if (seq_gt(end, tcp_mark_end(mark))) {
			tcp_note_duplicate(c, start, tcp_mark_end(mark));
			mark->len = (uint16_t)(start - mark->seq);
			return;
		}
		tcp_note_duplicate(c, start, end);
		struct rte_mbuf *next = next_island(s, island);
		free_island(c, island);
		link_after(c, before, next);
		if (next == NULL)
			c->reassembly->last_island = before;
		c->reassembly->islands--;
	}
}

/* Puts the mbuf, which now touches no text but at its ends, behind the island `before`. */
static enum tcp_drop place(struct tcp_conn *c, struct rte_mbuf *before, struct rte_mbuf *m)
{
	struct tcp_stack *s = c->stack;
	struct tcp_reassembly *r = c->reassembly;
	struct tcp_mark *mark = tcp_mark(s, m);
	struct rte_mbuf *next = island_after(c, before), *island = before;
	const bool joins_before = before != NULL && island_end(s, before) == mark->seq;
	const bool joins_next = next != NULL && island_start(s, next) == tcp_mark_end(mark);
	if (joins_before && tcp_receive_can_join(s, tcp_run_last(s, before), m)) {
		tcp_receive_release(c, m);
	} else if (!joins_before && !joins_next && r->islands >= TCP_ISLANDS_MAX) {
		return TCP_DROP_reassembly_full;
	} else {
		link_after(c, before, m);
		mark->next = next;
		island = joins_before ? before : m;
		tcp_run_set_last(s, island, m);
	}
	if (joins_next)
		tcp_run_set_last(s, island, tcp_run_last(s, next));
	if (next == NULL || (joins_next && r->last_island == next))
		r->last_island = island;
	r->islands = (uint8_t)(r->islands + 1 - joins_before - joins_next);
	return TCP_DROP_NONE;
}

static enum tcp_drop insert(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_stack *s = c->stack;
	struct tcp_mark *mark = tcp_mark(s, m);
	const uint32_t seq = mark->seq;
	struct rte_mbuf *before = find_before(c, seq);
	note_recent(c->reassembly, seq);
	if (before != NULL && seq_gt(island_end(s, before), seq)) {
		const uint32_t end = island_end(s, before);
		if (seq_geq(end, tcp_mark_end(mark))) {
			tcp_note_duplicate(c, seq, tcp_mark_end(mark));
			return TCP_DROP_duplicate_text;
		}
		tcp_note_duplicate(c, seq, end);
		tcp_mark_skip(mark, end - seq);
	}
	cut_followers(c, before, mark);
	return place(c, before, m);
}

enum tcp_drop tcp_reassembly_insert(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_stack *s = c->stack;
	if (c->receive_mbufs > s->receive_mbufs_max)
		return TCP_DROP_reassembly_full;
	if (c->reassembly != NULL)
		return insert(c, m);
	struct tcp_reassembly *r = tcp_slab_get(&s->reassemblies);
	if (r == NULL)
		return TCP_DROP_reassembly_full;
	*r = (struct tcp_reassembly){.head = m, .last_island = m, .islands = 1};
	note_recent(r, tcp_mark(s, m)->seq);
	tcp_mark(s, m)->next = NULL;
	tcp_run_set_last(s, m, m);
	c->reassembly = r;
	return TCP_DROP_NONE;
}

/* Frees what of the first island lies before rcv_nxt; returns its first mbuf that has more. */
static struct rte_mbuf *skip_old(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_stack *s = c->stack;
	struct tcp_mark *mark;
	while (seq_leq(tcp_mark_end(mark = tcp_mark(s, m)), c->rcv_nxt)) {
		struct rte_mbuf *next = mark->next;
		tcp_receive_release(c, m);
		m = next;
	}
	if (seq_lt(mark->seq, c->rcv_nxt))
		tcp_mark_skip(mark, c->rcv_nxt - mark->seq);
	return m;
}

struct tcp_queue tcp_reassembly_pull(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	while (c->reassembly != NULL && seq_leq(island_start(s, c->reassembly->head), c->rcv_nxt)) {
		struct rte_mbuf *first = c->reassembly->head, *next = next_island(s, first);
		const uint32_t start = island_start(s, first), end = island_end(s, first);
		if (seq_gt(end, c->rcv_nxt)) {
			struct rte_mbuf *last = tcp_run_last(s, first);
			tcp_note_duplicate(c, start, c->rcv_nxt);
			drop_first_island(c, next);
			first = skip_old(c, first);
			tcp_mark(s, last)->next = NULL;
			return (struct tcp_queue){first, last};
		}
		tcp_note_duplicate(c, start, end);
		free_island(c, first);
		drop_first_island(c, next);
	}
	return (struct tcp_queue){0};
}

/* ---- SACK blocks (RFC 2018 4): the island a segment came to last, then the next latest, then any ---- */

static bool is_listed(const struct tcp_range *blocks, unsigned count, uint32_t start)
{
	for (unsigned i = 0; i < count; i++)
		if (blocks[i].start == start)
			return true;
	return false;
}

static unsigned add_islands(const struct tcp_conn *c, struct tcp_range *blocks, unsigned most)
{
	const struct tcp_stack *s = c->stack;
	const struct tcp_reassembly *r = c->reassembly;
	unsigned count = 0;
	for (unsigned k = 0; k < r->recent_count && count < most; k++) {
		struct rte_mbuf *i = find_before(c, r->recent[k]);
		if (i != NULL && seq_lt(r->recent[k], island_end(s, i)) &&
			!is_listed(blocks, count, island_start(s, i)))
			blocks[count++] = (struct tcp_range){island_start(s, i), island_end(s, i)};
	}
	for (struct rte_mbuf *i = r->head; i != NULL && count < most && count < r->islands; i = next_island(s, i))
		if (!is_listed(blocks, count, island_start(s, i)))
			blocks[count++] = (struct tcp_range){island_start(s, i), island_end(s, i)};
	return count;
}

uint8_t tcp_sack_blocks(struct tcp_conn *c, struct tcp_range *blocks, unsigned most)
{
	unsigned count = 0;
	if (c->dsack.start != c->dsack.end) { /* first, and once (RFC 2883 4) */
		blocks[count++] = c->dsack;
		c->dsack.start = c->dsack.end;
	}
	if (c->reassembly != NULL)
		count += add_islands(c, blocks + count, most - count);
	return (uint8_t)count;
}
