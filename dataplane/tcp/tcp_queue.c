// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_queue.c: lists of mbufs that connections hold, and the account of what that costs.
 *
 * An mbuf counts with the whole of its buffer, however little is in it: what runs out is mbufs. */
#include "dataplane/tcp/tcp_private.h"

bool tcp_hold_fits(const struct tcp_stack *s, const struct rte_mbuf *m)
{
	return s->stats.buffered_bytes + m->buf_len <= s->config.buffer_bytes_max;
}

void tcp_hold(struct tcp_stack *s, const struct rte_mbuf *m)
{
	tcp_count_add(s, buffered_bytes, m->buf_len);
}

void tcp_release(struct tcp_stack *s, struct rte_mbuf *m)
{
	assert(s->stats.buffered_bytes >= m->buf_len);
	tcp_count_add(s, buffered_bytes, -(uint64_t)m->buf_len);
	rte_pktmbuf_free_seg(m);
}

void tcp_queue_append(struct tcp_stack *s, struct tcp_queue *q, struct rte_mbuf *m)
{
	tcp_mark(s, m)->next = NULL;
	if (q->tail == NULL)
		q->head = m;
	else
		tcp_mark(s, q->tail)->next = m;
	q->tail = m;
}

struct rte_mbuf *tcp_queue_pop(struct tcp_stack *s, struct tcp_queue *q)
{
	struct rte_mbuf *m = q->head;
	q->head = tcp_mark(s, m)->next;
	if (q->head == NULL)
		q->tail = NULL;
	return m;
}

void tcp_queue_free(struct tcp_stack *s, struct tcp_queue *q)
{
	while (q->head != NULL)
		tcp_release(s, tcp_queue_pop(s, q));
}
