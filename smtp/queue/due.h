// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/due.h: what is due when: a binary heap of entries that live in their owners. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What an entry is part of. */
enum due_kind { DUE_ITEM, DUE_ASK, DUE_SITE };

struct due {
	uint64_t at_us;
	uint32_t place; /* in the heap, from 1; 0: not in it */
	uint8_t kind;	/* enum due_kind */
};

struct due_heap {
	struct due **at; /* at[1] is the first due */
	uint32_t count, room;
};

void due_fini(struct due_heap *heap);
/* Puts the entry in, or moves it, to `at_us`. O(log n). */
void due_set(struct due_heap *heap, struct due *due, uint64_t at_us);
/* Takes it out, if it is in. */
void due_clear(struct due_heap *heap, struct due *due);
/* The first due; NULL: none. */
static inline struct due *due_first(const struct due_heap *heap)
{
	return heap->count == 0 ? (struct due *)0 : heap->at[1];
}
