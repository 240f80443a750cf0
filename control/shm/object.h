// SPDX-License-Identifier: Apache-2.0
/* control/shm/object.h: a generation's bytes while they are written: it grows, and what is put behind the rest is known
 * by its place, since growing moves it. Private to the making side of control/shm. */
#pragma once

#include "control/shm/layout.h"

/* All 0 at first. The bytes between what was put are 0. */
struct object {
	uint8_t *at;
	size_t n, room;
	bool has_failed; /* no memory, or past LAYOUT_SIZE_MAX; told once, at the end */
};

/* Wipes what was in it (keys may be) and frees it. */
void object_free(struct object *o);
/* `n` bytes more, of 0. */
void object_grow(struct object *o, size_t n);
/* A copy behind the rest, with a NUL; where it is. Nothing is put for an empty text. */
struct layout_text object_put(struct object *o, struct bytes text);
