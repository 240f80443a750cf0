// SPDX-License-Identifier: Apache-2.0
#include "smtp/queue/due.h"

#include <stdlib.h>

static void put(struct due_heap *heap, uint32_t place, struct due *due)
{
	heap->at[place] = due;
	due->place = place;
}

static void rise(struct due_heap *heap, struct due *due)
{
	uint32_t place = due->place;

	for (; place > 1 && heap->at[place / 2]->at_us > due->at_us; place /= 2)
		put(heap, place, heap->at[place / 2]);
	put(heap, place, due);
}

static void sink(struct due_heap *heap, struct due *due)
{
	uint32_t place = due->place;

	for (;;) {
		uint32_t child = place * 2;
		if (child > heap->count)
			break;
		if (child < heap->count && heap->at[child + 1]->at_us < heap->at[child]->at_us)
			child++;
		if (heap->at[child]->at_us >= due->at_us)
			break;
		put(heap, place, heap->at[child]);
		place = child;
	}
	put(heap, place, due);
}

static void make_room(struct due_heap *heap)
{
	uint32_t room = heap->room == 0 ? 64 : heap->room * 2;

	if (heap->count + 1 < heap->room)
		return;
	struct due **at = realloc(heap->at, room * sizeof(struct due *));
	if (at == NULL)
		abort(); /* all is in the spool: a restart finds it again */
	heap->at = at;
	heap->room = room;
}

void due_set(struct due_heap *heap, struct due *due, uint64_t at_us)
{
	if (due->place == 0) {
		make_room(heap);
		due->place = ++heap->count;
	}
	due->at_us = at_us;
	rise(heap, due);
	sink(heap, due);
}

void due_clear(struct due_heap *heap, struct due *due)
{
	if (due->place == 0)
		return;
	struct due *last = heap->at[heap->count--];
	if (last != due) {
		last->place = due->place;
		rise(heap, last);
		sink(heap, last);
	}
	due->place = 0;
}

void due_fini(struct due_heap *heap)
{
	free(heap->at);
	*heap = (struct due_heap){0};
}
