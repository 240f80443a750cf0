// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/list.h: a list of things that carry their own link: nothing is allocated, leaving is O(1). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* In a list, or pointing at itself: alone. The head of a list is a link, too. */
struct link {
	struct link *prev, *next;
};

#define LINK_OF(l, type, member) ((type *)(void *)((char *)(l) - offsetof(type, member)))

static inline void link_init(struct link *l)
{
	l->prev = l->next = l;
}

static inline bool link_is_alone(const struct link *l)
{
	return l->next == l;
}

static inline void link_leave(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

/* `l` must be alone. */
static inline void list_append(struct link *head, struct link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

/* Moves all of `from` to the end of `to`, in order. */
static inline void list_splice(struct link *to, struct link *from)
{
	if (link_is_alone(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	link_init(from);
}
