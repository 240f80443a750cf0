// SPDX-License-Identifier: Apache-2.0
/* A timer for tick T, armed when the wheel stands at tick N, lies on the level of the highest byte in which T
 * and N differ, in the slot of T's byte there. So everything on a level is due before anything on the levels
 * above it, and within a level the slots are in order: the first occupied slot of the lowest occupied level is
 * what happens next. Moving N towards that slot's first tick never changes where anything belongs. */
#include "dataplane/timer_wheel.h"

#include <string.h>

void timer_wheel_init(struct timer_wheel *w, uint64_t now_us)
{
	memset(w, 0, sizeof *w);
	w->tick = now_us / TIMER_WHEEL_TICK_US;
}

static void list_push(struct timer_node **head, struct timer_node *node)
{
	node->next = *head;
	if (node->next != NULL)
		node->next->link = &node->next;
	node->link = head;
	*head = node;
}

static void list_remove(struct timer_node *node)
{
	*node->link = node->next;
	if (node->next != NULL)
		node->next->link = node->link;
	node->link = NULL;
}

static void place(struct timer_wheel *w, struct timer_node *node)
{
	unsigned level = (63 - (unsigned)__builtin_clzll(node->tick ^ w->tick)) / 8;
	unsigned slot = node->tick >> (8 * level) & 255;
	list_push(&w->slots[level][slot], node);
	w->occupied[level][slot / 64] |= 1ull << (slot % 64);
}

void timer_wheel_arm(struct timer_wheel *w, struct timer_node *node, uint64_t due_us)
{
	const uint64_t last = w->tick | ((1ull << (8 * TIMER_WHEEL_LEVELS)) - 1);
	uint64_t tick = due_us / TIMER_WHEEL_TICK_US + (due_us % TIMER_WHEEL_TICK_US != 0);
	timer_wheel_cancel(w, node);
	if (tick <= w->tick)
		tick = w->tick + 1;
	node->tick = tick > last ? last : tick;
	place(w, node);
}

void timer_wheel_cancel(struct timer_wheel *w, struct timer_node *node)
{
	struct timer_node **link = node->link, **slots = &w->slots[0][0];
	if (link == NULL)
		return;
	list_remove(node);
	if (*link != NULL || link < slots || link >= slots + TIMER_WHEEL_LEVELS * 256)
		return;
	size_t slot = (size_t)(link - slots);
	w->occupied[slot / 256][slot % 256 / 64] &= ~(1ull << (slot % 64));
}

/* The first occupied slot and the first tick of it; false: nothing is armed. */
static bool find_next(const struct timer_wheel *w, unsigned *level, unsigned *slot, uint64_t *tick)
{
	for (unsigned l = 0; l < TIMER_WHEEL_LEVELS; l++)
		for (unsigned i = 0; i < 4; i++) {
			uint64_t bits = w->occupied[l][i];
			if (bits == 0)
				continue;
			*level = l;
			*slot = i * 64 + (unsigned)__builtin_ctzll(bits);
			*tick = (w->tick >> (8 * (l + 1)) << (8 * (l + 1))) | (uint64_t)*slot << (8 * l);
			return true;
		}
	return false;
}

static void take_slot(struct timer_wheel *w, unsigned level, unsigned slot)
{
	w->expiring = w->slots[level][slot];
	if (w->expiring != NULL)
		w->expiring->link = &w->expiring;
	w->slots[level][slot] = NULL;
	w->occupied[level][slot / 64] &= ~(1ull << (slot % 64));
}

/* Fires or places what is in `expiring`; false: the work of this call is done before that. The tick stays what it
 * is until all is done, so nothing that is placed can be late for its slot. */
static bool empty_expiring(struct timer_wheel *w, int *work, void *user)
{
	struct timer_node *node;
	while ((node = w->expiring) != NULL) {
		bool is_due = node->tick <= w->tick;
		if (*work <= 0)
			return false;
		*work -= is_due ? TIMER_WHEEL_FIRE : 1;
		list_remove(node);
		if (is_due)
			node->fire(node, user);
		else
			place(w, node);
	}
	return true;
}

void timer_wheel_advance(struct timer_wheel *w, uint64_t now_us, void *user)
{
	const uint64_t now = now_us / TIMER_WHEEL_TICK_US;
	int work = TIMER_WHEEL_WORK;
	unsigned level, slot;
	uint64_t tick;
	while (empty_expiring(w, &work, user)) {
		if (!find_next(w, &level, &slot, &tick) || tick > now) {
			if (now > w->tick)
				w->tick = now;
			return;
		}
		w->tick = tick;
		take_slot(w, level, slot);
	}
}

uint64_t timer_wheel_next_us(const struct timer_wheel *w)
{
	unsigned level, slot;
	uint64_t tick;
	if (w->expiring != NULL)
		return w->tick * TIMER_WHEEL_TICK_US;
	return find_next(w, &level, &slot, &tick) ? tick * TIMER_WHEEL_TICK_US : UINT64_MAX;
}
