// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_memory.c: the stack's own memory: all of it taken at start, and what a core does when the
 * memory for data runs short.
 *
 * Taken is taken: pages are filled at start, so that a stack grows to its limits without a page fault. One costs a
 * microsecond as a rule, but where the host of a virtual machine has to find the page it may take a millisecond:
 * of a million connections opened, some fifty calls took more than 100 us for it. It also means that
 * a machine that has too little says so at start. Slots are used again last out, first in, and new ones in order.
 *
 * Data is counted in whole packet buffers (buffered_bytes) against buffer_bytes_max. In eighths of that:
 *
 *   5   SYNs are not answered: whoever is here comes first
 *   6   windows do not grow any more (tcp_out.c): what is promised is taken, nothing beyond
 *   7   the connection that holds data and has moved none for longest is reset, one by one until below; those
 *       that have moved some in the last 5 s are spared
 *   8   text is refused; only here does a connection that works feel it
 *
 * To find the idlest costs no list: a few slots are looked at each turn, while memory is short only. */
#include "dataplane/tcp/tcp_private.h"

#include <sys/mman.h>

static size_t page_bytes(size_t bytes)
{
	return (bytes + 4095) / 4096 * 4096 + 4096; /* never 0 */
}

void *tcp_memory_take(size_t count, size_t size)
{
	const size_t bytes = page_bytes(count * size);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* Small pages: nothing is to be gathered into large ones under the core later. */
	madvise(p, bytes, MADV_NOHUGEPAGE);
	if (madvise(p, bytes, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) { /* Linux 5.14 */
		munmap(p, bytes);
		return NULL;
	}
	return p;
}

void tcp_memory_give(void *p, size_t count, size_t size)
{
	if (p != NULL)
		munmap(p, page_bytes(count * size));
}

/* ---- data ---- */

static bool is_above(const struct tcp_stack *s, unsigned eighths)
{
	return s->stats.buffered_bytes > s->config.buffer_bytes_max / 8 * eighths;
}

bool tcp_memory_is_short_for(const struct tcp_stack *s, enum tcp_memory_use use)
{
	return is_above(s, use);
}

static bool holds_data(const struct tcp_conn *c)
{
	return c->state != TCP_CLOSED && (c->send.head != NULL || c->receive.head != NULL || c->reassembly != NULL);
}

static void look_at(struct tcp_stack *s, struct tcp_conn *c)
{
	const uint32_t idle_ms = tcp_now_ms(s) - c->moved_ms;
	if (holds_data(c) && idle_ms >= TCP_IDLE_LEAST_MS && idle_ms > s->idlest_ms) {
		s->idlest = c;
		s->idlest_ms = idle_ms;
	}
}

/* All slots have been looked at. What was the idlest may have moved since, or be another connection. */
static void reset_idlest(struct tcp_stack *s)
{
	struct tcp_conn *c = s->idlest;
	if (c != NULL && holds_data(c) && tcp_now_ms(s) - c->moved_ms >= s->idlest_ms) {
		tcp_drop_count_one(s, TCP_DROP_idlest_reset);
		tcp_send_ack(c, c->snd_max, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG);
		tcp_conn_end(c, TCP_END_NO_MEMORY);
	}
	s->idlest = NULL;
	s->idlest_ms = 0;
	s->idle_at = 0;
}

void tcp_memory_tick(struct tcp_stack *s)
{
	for (unsigned i = 0; i < TCP_IDLE_LOOKS && is_above(s, TCP_MEMORY_STALLED); i++) {
		if (s->idle_at < s->conns_fresh)
			look_at(s, &s->conns[s->idle_at++]);
		else
			reset_idlest(s);
	}
}
