// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_send.c: the send queue: what the user wrote, in mbufs of a segment each, until the peer has
 * acknowledged it. Payload starts at a fixed place, so that a header fits in front of it, whenever it is sent.
 *
 * While a driver sends an mbuf it holds a second reference. Then neither the payload nor what stands before it
 * may be written; the marks may, since they are ours alone. */
#include "dataplane/tcp/tcp_private.h"

static struct rte_mbuf *data_mbuf(struct tcp_conn *c)
{
	struct tcp_stack *s = c->stack;
	struct rte_mbuf *m = rte_pktmbuf_alloc(s->config.pool);
	if (m == NULL)
		return NULL;
	tcp_hold(s, m);
	c->send_mbufs++;
	*tcp_mark(s, m) = (struct tcp_mark){.offset = TCP_PAYLOAD_OFFSET};
	return m;
}

/* May the queue become longer by one mbuf? */
static bool may_grow(const struct tcp_conn *c)
{
	const struct tcp_stack *s = c->stack;
	const uint32_t cost = (uint32_t)s->payload_max + TCP_PAYLOAD_OFFSET;
	return c->send_mbufs < s->send_mbufs_max && s->stats.buffered_bytes + cost <= s->config.buffer_bytes_max;
}

struct rte_mbuf *tcp_send_mbuf(struct tcp_conn *c)
{
	return may_grow(c) ? data_mbuf(c) : NULL;
}

/* The queue holds two windows, so that there is always something to send; more would only wait in it. */
static uint32_t send_limit(const struct tcp_conn *c)
{
	return min_u32(c->stack->config.send_bytes_max, max_u32(TCP_WINDOW_START, 2 * c->cwnd));
}

bool tcp_send_split(struct tcp_conn *c, struct rte_mbuf *m, uint16_t len)
{
	struct tcp_stack *s = c->stack;
	struct tcp_mark *mark = tcp_mark(s, m);
	/* Within the limits, since a peer with a tiny MSS would else have us hold a buffer for each few bytes. But the
	 * first record is cut always: it has to go before anything can be freed. */
	struct rte_mbuf *rest = m == c->send.head || may_grow(c) ? data_mbuf(c) : NULL;
	if (rest == NULL) {
		tcp_drop_count_one(s, TCP_DROP_no_data_buffer);
		return false;
	}
	struct tcp_mark *to = tcp_mark(s, rest);
	to->seq = mark->seq + len;
	to->len = (uint16_t)(mark->len - len);
	to->sent_us = mark->sent_us;
	to->is_retransmitted = mark->is_retransmitted;
	to->is_lost = mark->is_lost;
	memcpy((uint8_t *)rest->buf_addr + to->offset, tcp_marked_bytes(m, mark) + len, to->len);
	to->next = mark->next;
	mark->next = rest;
	mark->len = len;
	if (c->send.tail == m)
		c->send.tail = rest;
	if (c->flight->last_sent == m)
		c->flight->last_sent = rest;
	return true;
}

static void pop_acked(struct tcp_conn *c)
{
	struct rte_mbuf *m = c->send.head;
	tcp_scoreboard_leaves(c, m);
	if (m == c->send_next)
		c->send_next = tcp_mark(c->stack, m)->next;
	c->send_mbufs--;
	tcp_release(c->stack, tcp_queue_pop(c->stack, &c->send));
}

void tcp_send_acked(struct tcp_conn *c, uint32_t ack, struct tcp_acked *a)
{
	while (c->send.head != NULL) {
		struct tcp_mark *mark = tcp_mark(c->stack, c->send.head);
		if (seq_leq(ack, mark->seq))
			break;
		const uint32_t n = min_u32(ack - mark->seq, mark->len);
		c->send_bytes -= n;
		*tcp_scoreboard_account(c->flight, mark) -= n;
		if (!mark->is_sacked)
			a->delivered += n;
		if (n < mark->len) { /* a part: what is left stays where it is */
			tcp_mark_skip(mark, n);
			break;
		}
		if (!mark->is_sacked)
			tcp_rack_delivered(c, mark, a);
		pop_acked(c);
	}
}

void tcp_flight_end(struct tcp_conn *c)
{
	if (c->flight == NULL || c->send.head != NULL)
		return;
	tcp_slab_put(&c->stack->flights, c->flight);
	c->flight = NULL;
}

static bool begin_flight(struct tcp_conn *c)
{
	if (c->flight != NULL)
		return true;
	c->flight = tcp_slab_get(&c->stack->flights);
	if (c->flight == NULL)
		return false;
	*c->flight = (struct tcp_flight){0};
	return true;
}

/* Room in the last mbuf, if nothing of it has been sent. */
static uint32_t tail_room(struct tcp_conn *c)
{
	struct rte_mbuf *m = c->send.tail;
	if (m == NULL || rte_mbuf_refcnt_read(m) != 1)
		return 0;
	struct tcp_mark *mark = tcp_mark(c->stack, m);
	if (seq_lt(mark->seq, c->snd_max) || mark->len >= c->mss)
		return 0;
	return c->mss - mark->len;
}

static bool append_mbuf(struct tcp_conn *c)
{
	struct rte_mbuf *m = begin_flight(c) ? tcp_send_mbuf(c) : NULL;
	if (m == NULL) {
		tcp_flight_end(c);
		return false;
	}
	tcp_mark(c->stack, m)->seq = c->send_end;
	tcp_queue_append(c->stack, &c->send, m);
	if (c->send_next == NULL)
		c->send_next = m;
	return true;
}

static bool can_write(const struct tcp_conn *c)
{
	return !c->fin_queued && (c->state == TCP_ESTABLISHED || c->state == TCP_CLOSE_WAIT ||
		c->state == TCP_SYN_SENT || c->state == TCP_SYN_RECEIVED);
}

size_t tcp_write(struct tcp_conn *c, struct bytes b)
{
	if (!can_write(c))
		return 0;
	const uint32_t limit = send_limit(c);
	const size_t most = limit > c->send_bytes ? limit - c->send_bytes : 0, take = b.n < most ? b.n : most;
	size_t taken = 0;
	while (taken < take && (tail_room(c) != 0 || append_mbuf(c))) {
		struct rte_mbuf *m = c->send.tail;
		struct tcp_mark *mark = tcp_mark(c->stack, m);
		const uint32_t room = tail_room(c), n = take - taken < room ? (uint32_t)(take - taken) : room;
		memcpy((uint8_t *)m->buf_addr + mark->offset + mark->len, b.at + taken, n);
		mark->len = (uint16_t)(mark->len + n);
		c->send_end += n;
		c->send_bytes += n;
		taken += n;
	}
	if (taken < b.n) {
		c->write_waits = true;
		if (taken < take) /* a pool or a limit, which no ACK need change */
			tcp_try_again(c);
	}
	if (taken > 0)
		tcp_dirty(c);
	return taken;
}

size_t tcp_write_space(const struct tcp_conn *c)
{
	const struct tcp_stack *s = c->stack;
	const uint64_t cost = (uint64_t)s->payload_max + TCP_PAYLOAD_OFFSET;
	if (!can_write(c) || c->send_mbufs >= s->send_mbufs_max ||
		s->stats.buffered_bytes + cost > s->config.buffer_bytes_max ||
		rte_mempool_empty(s->config.pool))
		return 0;
	const uint32_t limit = send_limit(c);
	return limit > c->send_bytes ? limit - c->send_bytes : 0;
}

size_t tcp_unacked(const struct tcp_conn *c)
{
	return c->send_bytes;
}
