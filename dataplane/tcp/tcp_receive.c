// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_receive.c: received text, until it is read; tcp_reassembly.c has what is out of order.
 *
 * The mbufs it came in are kept, but text that fits behind the last one's is copied there, so that two
 * neighbours always hold more than one buffer: a peer that sends a byte a segment costs no more than twice the
 * memory of its window. Out of order, where that does not work, the number of mbufs is bounded. */
#include "dataplane/tcp/tcp_private.h"

bool tcp_receive_can_join(struct tcp_stack *s, struct rte_mbuf *tail, struct rte_mbuf *m)
{
	if (tail == NULL || !RTE_MBUF_DIRECT(tail) || rte_mbuf_refcnt_read(tail) != 1)
		return false;
	struct tcp_mark *to = tcp_mark(s, tail), *from = tcp_mark(s, m);
	if (tcp_mark_end(to) != from->seq || to->offset + to->len + from->len > tail->buf_len)
		return false;
	memcpy((uint8_t *)tail->buf_addr + to->offset + to->len, tcp_marked_bytes(m, from), from->len);
	to->len = (uint16_t)(to->len + from->len);
	return true;
}

void tcp_receive_release(struct tcp_conn *c, struct rte_mbuf *m)
{
	c->receive_mbufs--;
	tcp_release(c->stack, m);
}

static void advance(struct tcp_conn *c, uint32_t n)
{
	c->dup_acks_due = 0; /* they would acknowledge what is not there any more: the gap */
	c->rcv_nxt += n;
	c->receive_bytes += n;
	c->bytes_in += n;
	c->moved_ms = tcp_now_ms(c->stack);
}

/* Takes an mbuf whose text starts at rcv_nxt. */
static void append_in_order(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_stack *s = c->stack;
	advance(c, tcp_mark(s, m)->len);
	if (tcp_receive_can_join(s, c->receive.tail, m))
		tcp_receive_release(c, m);
	else
		tcp_queue_append(s, &c->receive, m);
}

/* The gap may have been filled: what now is in order moves over. */
static void pull_reassembly(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	struct tcp_queue q = tcp_reassembly_pull(c);
	if (q.head == NULL)
		return;
	advance(c, tcp_mark_end(tcp_mark(s, q.tail)) - c->rcv_nxt);
	tcp_mark(s, c->receive.tail)->next = q.head; /* there is one: what filled the gap */
	c->receive.tail = q.tail;
}

/* Takes one mbuf, not chained, with its mark made. */
static enum tcp_drop piece_arrives(struct tcp_conn *c, struct rte_mbuf *m)
{
	struct tcp_mark *mark = tcp_mark(c->stack, m);
	tcp_hold(c->stack, m);
	c->receive_mbufs++;
	if (seq_lt(mark->seq, c->rcv_nxt)) { /* a piece before it filled a gap, and this came behind the gap already */
		if (seq_leq(tcp_mark_end(mark), c->rcv_nxt)) {
			tcp_receive_release(c, m);
			return TCP_DROP_duplicate_text;
		}
		tcp_mark_skip(mark, c->rcv_nxt - mark->seq);
	}
	if (seq_gt(mark->seq, c->rcv_nxt)) {
		enum tcp_drop drop = tcp_reassembly_insert(c, m);
		if (drop != TCP_DROP_NONE)
			tcp_receive_release(c, m);
		return drop;
	}
	append_in_order(c, m);
	pull_reassembly(c);
	return TCP_DROP_NONE;
}

/* RFC 5681 4.2: each segment out of order is answered by a duplicate ACK of its own, also where many come in a
 * burst, since the peer counts them. One that came before is not: it says nothing of what has left the network. */
static void note_out_of_order(struct tcp_conn *c, enum tcp_drop drop)
{
	if (drop == TCP_DROP_NONE && c->dup_acks_due < UINT8_MAX)
		c->dup_acks_due++;
}

/* When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2): every second segment, and at once whatever is out of
 * order or fills a gap. */
static void schedule_ack(struct tcp_conn *c, bool at_once)
{
	if (c->text_unacked < UINT8_MAX)
		c->text_unacked++;
	if (at_once || c->text_unacked >= 2)
		c->ack_now = true;
	else if (!tcp_timer_is_set(c, TCP_TIMER_DELAYED_ACK))
		tcp_timer_set(c, TCP_TIMER_DELAYED_ACK, c->stack->now_us + TCP_DELAYED_ACK_US);
	tcp_dirty(c);
}

/* At the limit on memory, what comes in order is taken before what lies behind a gap: that can come again (RFC 2018 8
 * allows it), and if gaps held all the memory there is, none of them could ever be filled. */
static bool make_room(struct tcp_conn *c, const struct tcp_segment *seg)
{
	struct tcp_stack *s = c->stack;
	if (!tcp_hold_fits(s, seg->m) && seg->seq == c->rcv_nxt && c->reassembly != NULL) {
		const uint32_t before = c->receive_mbufs;
		tcp_reassembly_free(c);
		tcp_counter_add(&s->stats.drops[TCP_DROP_reassembly_given_up], before - c->receive_mbufs);
	}
	return tcp_hold_fits(s, seg->m);
}

enum tcp_drop tcp_text_arrives(struct tcp_conn *c, struct tcp_segment *seg)
{
	struct tcp_stack *s = c->stack;
	struct rte_mbuf *m = seg->m, *next;
	const uint32_t before = c->receive_bytes;
	const bool had_gap = c->reassembly != NULL, is_ahead = seq_gt(seg->seq, c->rcv_nxt);
	uint32_t seq = seg->seq, skip = seg->skip, left = seg->text;
	enum tcp_drop drop = TCP_DROP_NONE;
	if (!make_room(c, seg)) {
		c->ack_now = true;
		tcp_dirty(c);
		return TCP_DROP_buffers_full;
	}
	seg->m = NULL;
	for (; m != NULL; m = next) {
		uint32_t here = min_u32(m->data_len - min_u32(skip, m->data_len), left);
		next = m->next;
		m->next = NULL;
		m->nb_segs = 1;
		if (here == 0) {
			skip -= min_u32(skip, m->data_len);
			rte_pktmbuf_free_seg(m);
			continue;
		}
		*tcp_mark(s, m) = (struct tcp_mark){
			.seq = seq, .offset = (uint16_t)(m->data_off + skip), .len = (uint16_t)here};
		skip = 0;
		seq += here;
		left -= here;
		enum tcp_drop d = piece_arrives(c, m);
		drop = drop == TCP_DROP_NONE ? d : drop;
	}
	if (c->receive_bytes != before)
		tcp_event(c, TCP_EVENT_READABLE);
	if (is_ahead)
		note_out_of_order(c, drop);
	schedule_ack(c, had_gap || c->reassembly != NULL);
	return drop;
}

struct bytes tcp_peek(struct tcp_conn *c)
{
	struct rte_mbuf *m = c->receive.head;
	if (m == NULL)
		return BYTES_NONE;
	const struct tcp_mark *mark = tcp_mark(c->stack, m);
	return bytes_of(tcp_marked_bytes(m, mark), mark->len);
}

/* The window doubles where half of it was read within a round trip: then the sender may be held up by it, and the user
 * is not what holds it up. So it stays ahead of the sender's window, and a peer whose text nobody reads has been
 * promised little. */
static void widen_window(struct tcp_conn *c)
{
	const uint32_t most = c->stack->config.receive_bytes_max, now_ms = tcp_now_ms(c->stack);
	const uint32_t read = c->rcv_nxt - c->receive_bytes;
	if (c->rcv_window >= most)
		return;
	if (read - c->read_seq >= c->rcv_window / 2) {
		c->rcv_window = c->rcv_window > most / 2 ? most : 2 * c->rcv_window;
	} else if (now_ms - c->read_ms <= c->srtt_us / 1000 + 1) {
		return;
	}
	c->read_seq = read;
	c->read_ms = now_ms;
}

void tcp_consume(struct tcp_conn *c, size_t n)
{
	struct tcp_stack *s = c->stack;
	assert(n <= c->receive_bytes);
	c->receive_bytes -= (uint32_t)n;
	widen_window(c);
	while (n > 0) {
		struct tcp_mark *mark = tcp_mark(s, c->receive.head);
		if (n < mark->len) {
			tcp_mark_skip(mark, (uint32_t)n);
			break;
		}
		n -= mark->len;
		tcp_receive_release(c, tcp_queue_pop(s, &c->receive));
	}
	if (tcp_window_update_is_due(c)) {
		c->ack_now = true;
		tcp_dirty(c);
	} else if (tcp_window_is_held(c) && !tcp_timer_is_set(c, TCP_TIMER_STARVED)) {
		tcp_count(s, windows_held);
		tcp_timer_set(c, TCP_TIMER_STARVED, s->now_us + TCP_HELD_US);
	}
}

size_t tcp_readable(const struct tcp_conn *c)
{
	return c->receive_bytes;
}

bool tcp_peek_at(struct tcp_conn *c, size_t offset, uint8_t *to, size_t n)
{
	if (offset > c->receive_bytes || n > c->receive_bytes - offset)
		return false;
	for (struct rte_mbuf *m = c->receive.head; n > 0; m = tcp_mark(c->stack, m)->next) {
		const struct tcp_mark *mark = tcp_mark(c->stack, m);
		struct bytes here = bytes_skip(bytes_of(tcp_marked_bytes(m, mark), mark->len), offset);
		offset -= offset < mark->len ? offset : mark->len;
		here = bytes_first(here, n);
		if (here.n != 0)
			memcpy(to, here.at, here.n);
		to += here.n;
		n -= here.n;
	}
	return true;
}

size_t tcp_read(struct tcp_conn *c, uint8_t *to, size_t room)
{
	size_t n = 0;
	while (n < room) {
		struct bytes b = bytes_first(tcp_peek(c), room - n);
		if (b.n == 0)
			break;
		memcpy(to + n, b.at, b.n);
		tcp_consume(c, b.n);
		n += b.n;
	}
	return n;
}
