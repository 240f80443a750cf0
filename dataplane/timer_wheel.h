// SPDX-License-Identifier: Apache-2.0
/* dataplane/timer_wheel.h: a hierarchical timer wheel (Varghese and Lauck, scheme 7) for one core.
 *
 * Ticks of 1 ms, nodes inside what they time, arm and cancel in constant time. Knows no clock. A timer fires
 * at its due time or up to one tick later, never before; where very many are due or have to be sorted at once, some
 * of them only at the next calls, so that no call takes long. One thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIMER_WHEEL_LEVELS  5 /* of 8 bits each: 34 years of milliseconds */
#define TIMER_WHEEL_TICK_US 1000u
/* What one call may do: nodes moved to the level below, a fired one counting as TIMER_WHEEL_FIRE. Some 30 us, all
 * of it cold. A slot of a higher level may hold a million. */
#define TIMER_WHEEL_WORK 256
#define TIMER_WHEEL_FIRE 4

/* Zeroed with `fire` set: not armed. */
struct timer_node {
	struct timer_node *next;
	struct timer_node **link; /* what points at us; NULL: not armed */
	uint64_t tick;
	void (*fire)(struct timer_node *node, void *user);
};

struct timer_wheel {
	uint64_t tick; /* all due up to it have fired */
	uint64_t occupied[TIMER_WHEEL_LEVELS][4];
	struct timer_node *slots[TIMER_WHEEL_LEVELS][256];
	struct timer_node *expiring; /* of the slot that begins at `tick`: still to be fired or placed */
};

void timer_wheel_init(struct timer_wheel *w, uint64_t now_us);
/* Arms `node` for `due_us` (within the 34 years; what is beyond fires at their end), also if it was armed for another time. A time that has passed fires at the next
 * tick. */
void timer_wheel_arm(struct timer_wheel *w, struct timer_node *node, uint64_t due_us);
/* Harmless if it was not armed. A node that is due but has not been fired yet does not fire any more. */
void timer_wheel_cancel(struct timer_wheel *w, struct timer_node *node);
static inline bool timer_is_armed(const struct timer_node *node)
{
	return node->link != NULL;
}
/* Fires what is due, as far as the work of one call goes; `fire` may arm and cancel any node. */
void timer_wheel_advance(struct timer_wheel *w, uint64_t now_us, void *user);
/* When timer_wheel_advance() has work: never later than the first timer is due, at once if the last call has left
 * some; UINT64_MAX: no timer. */
uint64_t timer_wheel_next_us(const struct timer_wheel *w);
