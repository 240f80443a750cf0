// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/spool_private.h"

#include <assert.h>
#include <stdlib.h>

static size_t slot_of(const struct spool *s, uint64_t id)
{
	return (size_t)(id * 0x9e3779b97f4a7c15ull >> 20) & (s->slot_count - 1);
}

struct entry *spool_index_find(const struct spool *s, uint64_t id)
{
	if (s->slot_count == 0)
		return NULL;
	for (size_t i = slot_of(s, id); s->slots[i] != NULL; i = (i + 1) & (s->slot_count - 1))
		if (s->slots[i]->id == id)
			return s->slots[i];
	return NULL;
}

static void slot_fill(struct spool *s, struct entry *e)
{
	size_t i = slot_of(s, e->id);
	while (s->slots[i] != NULL)
		i = (i + 1) & (s->slot_count - 1);
	s->slots[i] = e;
}

/* Keeps a quarter of the slots empty at least. */
static bool index_grow(struct spool *s)
{
	if ((s->entry_count + 1) * 4 <= s->slot_count * 3)
		return true;
	size_t old_count = s->slot_count;
	struct entry **old = s->slots, **slots;
	slots = calloc(old_count == 0 ? 64 : old_count * 2, sizeof *slots);
	if (slots == NULL)
		return false;
	s->slots = slots;
	s->slot_count = old_count == 0 ? 64 : old_count * 2;
	for (size_t i = 0; i < old_count; i++)
		if (old[i] != NULL)
			slot_fill(s, old[i]);
	free(old);
	return true;
}

static void list_append(struct spool *s, struct entry *e)
{
	e->newer = NULL;
	e->older = s->newest_entry;
	*(e->older == NULL ? &s->oldest_entry : &e->older->newer) = e;
	s->newest_entry = e;
}

static void list_remove(struct spool *s, struct entry *e)
{
	*(e->older == NULL ? &s->oldest_entry : &e->older->newer) = e->newer;
	*(e->newer == NULL ? &s->newest_entry : &e->newer->older) = e->older;
}

void spool_index_make_newest(struct spool *s, struct entry *e)
{
	list_remove(s, e);
	list_append(s, e);
}

struct entry *spool_index_add(struct spool *s, uint64_t id)
{
	struct entry *e = index_grow(s) ? calloc(1, sizeof *e) : NULL;
	if (e == NULL)
		return NULL;
	e->id = id;
	slot_fill(s, e);
	list_append(s, e);
	s->entry_count++;
	return e;
}

/* Empties the slot and moves up what would not be found any more behind the gap. */
static void slot_empty(struct spool *s, uint64_t id)
{
	size_t mask = s->slot_count - 1, gap = slot_of(s, id);
	while (s->slots[gap]->id != id)
		gap = (gap + 1) & mask;
	s->slots[gap] = NULL;
	for (size_t i = (gap + 1) & mask; s->slots[i] != NULL; i = (i + 1) & mask) {
		size_t home = slot_of(s, s->slots[i]->id);
		if (((i - home) & mask) >= ((i - gap) & mask)) {
			s->slots[gap] = s->slots[i];
			s->slots[i] = NULL;
			gap = i;
		}
	}
}

void spool_index_remove(struct spool *s, struct entry *e)
{
	if (s->moving == e)
		spool_compact_cancel(s);
	slot_empty(s, e->id);
	list_remove(s, e);
	s->entry_count--;
	spool_entry_pin(e, NULL);
	spool_copy_fini(&e->copy);
	spool_move_destroy(e->incoming);
	free(e);
}

void spool_index_fini(struct spool *s)
{
	while (s->oldest_entry != NULL)
		spool_index_remove(s, s->oldest_entry);
	free(s->slots);
	s->slots = NULL;
	s->slot_count = 0;
}

void spool_entry_pin(struct entry *e, struct segment *first)
{
	if (e->first != NULL)
		e->first->pins--;
	e->first = first;
	if (first != NULL)
		first->pins++;
}

uint64_t spool_entry_log_bytes(const struct entry *e)
{
	uint64_t n = spool_record_bytes(sizeof(uint32_t)); /* the commit */
	for (uint32_t i = 0; i < e->copy.count; i++)
		n += spool_record_bytes(e->copy.extents[i].place.length);
	return e->state.segment == NULL ? n : n + spool_record_bytes(e->state.length);
}

static struct extent *copy_room(struct copy *c)
{
	if (c->count == 0) {
		c->extents = &c->only;
		return &c->only;
	}
	if (c->count == 1 || c->count == c->capacity) {
		uint32_t capacity = c->count == 1 ? 4 : c->capacity * 2;
		struct extent *old = c->extents == &c->only ? NULL : c->extents;
		struct extent *extents = realloc(old, capacity * sizeof *extents);
		if (extents == NULL)
			return NULL;
		if (old == NULL)
			extents[0] = c->only;
		c->extents = extents;
		c->capacity = capacity;
	}
	return &c->extents[c->count];
}

bool spool_copy_add(struct copy *c, struct place place, struct bytes data)
{
	struct extent *x = copy_room(c);
	if (x == NULL)
		return false;
	*x = (struct extent){place, c->size};
	c->count++;
	c->size += data.n;
	c->crc = crc32c(c->crc, data);
	return true;
}

void spool_copy_fini(struct copy *c)
{
	if (c->extents != &c->only)
		free(c->extents);
	*c = (struct copy){0};
}

void spool_copy_take(struct copy *to, struct copy *from)
{
	spool_copy_fini(to);
	*to = *from;
	if (from->extents == &from->only)
		to->extents = &to->only;
	*from = (struct copy){0};
}
