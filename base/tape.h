// SPDX-License-Identifier: Apache-2.0
/* base/tape.h: entries of any length, from one producer thread to one consumer thread.
 *
 * The producer never waits: what does not fit is counted as lost. An entry lies in one piece: where it would not fit
 * before the end of the memory, the rest of that is skipped. Each side writes only its own index, as in any ring of
 * one producer and one consumer: the producer's release of `tail` orders the entry before it, the consumer's release
 * of `head` its reading before the place is used again. */
#pragma once

#include <stdatomic.h>
#include <stdlib.h>

#include "base/bytes.h"

#define TAPE_SKIP UINT32_MAX /* instead of a length: the next entry is at the beginning */

struct tape {
	size_t size; /* of `memory`; indices run on and are taken modulo it */
	/* the producer's */
	alignas(64) _Atomic size_t tail;
	size_t reserved; /* bytes from tail on, of what tape_reserve() gave last */
	_Atomic uint64_t lost;
	/* the consumer's */
	alignas(64) _Atomic size_t head;
	alignas(64) uint8_t memory[];
};

/* `size`: a multiple of 64; an entry may have a quarter of it. NULL: no memory. */
static inline struct tape *tape_create(size_t size)
{
	struct tape *t = aligned_alloc(64, sizeof *t + size);
	if (t == NULL)
		return NULL;
	memset(t, 0, sizeof *t);
	t->size = size;
	return t;
}

static inline size_t tape_entry_size(size_t n)
{
	return (sizeof(uint64_t) + n + 7) / 8 * 8;
}

static inline uint32_t *tape_length_at(struct tape *t, size_t index)
{
	return (uint32_t *)(void *)&t->memory[index % t->size];
}

/* Producer: room for an entry of `n` bytes, aligned to 8; NULL: there is none, which is counted. */
static inline uint8_t *tape_reserve(struct tape *t, size_t n)
{
	size_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);
	size_t used = tail - atomic_load_explicit(&t->head, memory_order_acquire);
	size_t wanted = tape_entry_size(n), rest = t->size - tail % t->size;
	size_t skipped = rest < wanted ? rest : 0;
	if (n > t->size / 4 || used + skipped + wanted > t->size) {
		atomic_store_explicit(&t->lost, atomic_load_explicit(&t->lost, memory_order_relaxed) + 1,
			memory_order_relaxed);
		return NULL;
	}
	if (skipped != 0)
		*tape_length_at(t, tail) = TAPE_SKIP;
	*tape_length_at(t, tail + skipped) = (uint32_t)n;
	t->reserved = skipped + wanted;
	return &t->memory[(tail + skipped) % t->size + sizeof(uint64_t)];
}

/* Producer: what was reserved is written. */
static inline void tape_commit(struct tape *t)
{
	size_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);
	atomic_store_explicit(&t->tail, tail + t->reserved, memory_order_release);
}

/* Consumer: the oldest entry, until tape_pop(); BYTES_NONE: there is none. */
static inline struct bytes tape_peek(struct tape *t)
{
	size_t head = atomic_load_explicit(&t->head, memory_order_relaxed);
	if (head == atomic_load_explicit(&t->tail, memory_order_acquire))
		return BYTES_NONE;
	if (*tape_length_at(t, head) == TAPE_SKIP) {
		head += t->size - head % t->size;
		atomic_store_explicit(&t->head, head, memory_order_release);
	}
	return bytes_of(&t->memory[head % t->size + sizeof(uint64_t)], *tape_length_at(t, head));
}

/* Consumer: drops the oldest entry, which has been peeked at. */
static inline void tape_pop(struct tape *t)
{
	size_t head = atomic_load_explicit(&t->head, memory_order_relaxed);
	atomic_store_explicit(&t->head, head + tape_entry_size(*tape_length_at(t, head)), memory_order_release);
}

static inline uint64_t tape_lost(const struct tape *t)
{
	return atomic_load_explicit(&t->lost, memory_order_relaxed);
}
