// SPDX-License-Identifier: Apache-2.0
#include "control/shm/object.h"

#include <stdlib.h>
#include <string.h>

void object_free(struct object *o)
{
	if (o->at != NULL)
		explicit_bzero(o->at, o->n);
	free(o->at);
}

void object_grow(struct object *o, size_t n)
{
	if (o->has_failed || n > LAYOUT_SIZE_MAX - o->n) {
		o->has_failed = true;
		return;
	}
	if (o->n + n > o->room) {
		size_t room = (o->n + n) * 2;
		uint8_t *at = calloc(1, room);
		if (at == NULL) {
			o->has_failed = true;
			return;
		}
		if (o->n != 0)
			memcpy(at, o->at, o->n);
		object_free(o);
		o->at = at;
		o->room = room;
	}
	o->n += n;
}

struct layout_text object_put(struct object *o, struct bytes text)
{
	struct layout_text where = {(uint32_t)o->n, (uint32_t)text.n};
	if (text.n == 0)
		return (struct layout_text){0, 0};
	object_grow(o, text.n + 1);
	if (!o->has_failed)
		memcpy(o->at + where.at, text.at, text.n);
	return where;
}
