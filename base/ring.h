// SPDX-License-Identifier: Apache-2.0
/* base/ring.h: a ring of pointers or of 64-bit words between one producer and one consumer thread.
 *
 * The ring is Concurrency Kit's ck_ring; this gives it its buffer and names the contract. A push is a
 * release, a pop an acquire: what the producer wrote before pushing is seen by the consumer after
 * popping. Neither side ever waits. */
#pragma once

#include <ck_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct ring {
	ck_ring_t ring;
	ck_ring_buffer_t *buffer;
};

/* Room for `count - 1` entries; `count` a power of two, 4 at least. false: no memory. Start-up only. */
static inline bool ring_init(struct ring *r, unsigned count)
{
	r->buffer = calloc(count, sizeof *r->buffer);
	ck_ring_init(&r->ring, count);
	return r->buffer != NULL;
}

static inline void ring_fini(struct ring *r)
{
	free(r->buffer);
	r->buffer = NULL;
}

/* false: full. The producer's thread only. */
static inline bool ring_push_spsc(struct ring *r, const void *entry)
{
	return ck_ring_enqueue_spsc(&r->ring, r->buffer, entry);
}

/* NULL: empty. The consumer's thread only. */
static inline void *ring_pop_spsc(struct ring *r)
{
	void *entry;
	return ck_ring_dequeue_spsc(&r->ring, r->buffer, &entry) ? entry : NULL;
}

/* Entries waiting, as far as the calling thread can tell. */
static inline unsigned ring_count(const struct ring *r)
{
	return ck_ring_size(&r->ring);
}

/* Entries that still fit, as far as the calling thread can tell (exact or too low for the producer). */
static inline unsigned ring_space(const struct ring *r)
{
	return ck_ring_capacity(&r->ring) - 1 - ck_ring_size(&r->ring);
}
