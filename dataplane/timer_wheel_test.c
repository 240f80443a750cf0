// SPDX-License-Identifier: Apache-2.0
#include "dataplane/timer_wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT 500

struct timed {
	struct timer_node node; /* first: fire() casts */
	uint64_t due_us;
	unsigned fired;
};
struct world {
	struct timer_wheel wheel;
	struct timed timers[COUNT];
	uint64_t now_us;
	struct timed *cancels; /* the next to fire cancels this one */
};

static void fire(struct timer_node *node, void *user)
{
	struct timed *t = (struct timed *)node;
	struct world *w = user;
	assert_true(w->now_us >= t->due_us);
	t->fired++;
	if (w->cancels != NULL && w->cancels != t)
		timer_wheel_cancel(&w->wheel, &w->cancels->node);
	w->cancels = NULL;
}

static struct world *world_create(uint64_t now_us)
{
	struct world *w = calloc(1, sizeof *w);
	w->now_us = now_us;
	timer_wheel_init(&w->wheel, now_us);
	for (size_t i = 0; i < COUNT; i++)
		w->timers[i].node.fire = fire;
	return w;
}

static void arm(struct world *w, struct timed *t, uint64_t due_us)
{
	t->due_us = due_us;
	timer_wheel_arm(&w->wheel, &t->node, due_us);
}

static void advance(struct world *w, uint64_t now_us)
{
	w->now_us = now_us;
	timer_wheel_advance(&w->wheel, now_us, w);
}

static uint64_t random_span(void)
{
	return ((uint64_t)rand() << 18 ^ (uint64_t)rand()) >> (rand() % 45);
}

static void each_timer_fires_once_when_due_and_never_before(void **state)
{
	for (unsigned seed = 1; seed <= 40; seed++) {
		srand(seed);
		struct world *w = world_create(random_span());
		for (size_t i = 0; i < COUNT; i++)
			arm(w, &w->timers[i], w->now_us + random_span());
		for (size_t i = 0; i < COUNT; i += 3)
			arm(w, &w->timers[i], w->now_us + random_span());
		for (uint64_t next; (next = timer_wheel_next_us(&w->wheel)) != UINT64_MAX;) {
			uint64_t first = UINT64_MAX;
			for (size_t i = 0; i < COUNT; i++)
				if (timer_is_armed(&w->timers[i].node) && w->timers[i].due_us < first)
					first = w->timers[i].due_us;
			assert_true(next < first + TIMER_WHEEL_TICK_US + 1);
			advance(w, next > w->now_us ? next : w->now_us + TIMER_WHEEL_TICK_US);
			for (size_t i = 0; i < COUNT; i++)
				assert_true(w->timers[i].fired ||
					w->timers[i].due_us + TIMER_WHEEL_TICK_US > w->now_us);
		}
		for (size_t i = 0; i < COUNT; i++)
			assert_int_equal(w->timers[i].fired, 1);
		free(w);
	}
}

static void a_long_sleep_fires_all_that_was_due(void **state)
{
	struct world *w = world_create(5000);
	for (size_t i = 0; i < COUNT; i++)
		arm(w, &w->timers[i], 5000 + i * 777777);
	advance(w, 5000 + COUNT / 2 * 777777);
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(w->timers[i].fired, i < COUNT / 2);
	advance(w, UINT64_MAX / 2);
	assert_int_equal(w->timers[COUNT - 1].fired, 1);
	free(w);
}

static void cancelled_timers_do_not_fire_even_in_their_own_tick(void **state)
{
	struct world *w = world_create(0);
	arm(w, &w->timers[0], 2000);
	arm(w, &w->timers[1], 2000);
	w->cancels = &w->timers[0]; /* one of the two goes first and cancels, or is, this one */
	advance(w, 2000);
	assert_int_equal(w->timers[0].fired + w->timers[1].fired, w->timers[0].fired ? 2 : 1);
	arm(w, &w->timers[2], 9000);
	timer_wheel_cancel(&w->wheel, &w->timers[2].node);
	timer_wheel_cancel(&w->wheel, &w->timers[2].node);
	assert_true(timer_wheel_next_us(&w->wheel) == UINT64_MAX);
	advance(w, 100000);
	assert_int_equal(w->timers[2].fired, 0);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_timer_fires_once_when_due_and_never_before),
		cmocka_unit_test(a_long_sleep_fires_all_that_was_due),
		cmocka_unit_test(cancelled_timers_do_not_fire_even_in_their_own_tick),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
