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
	do
		timer_wheel_advance(&w->wheel, now_us, w);
	while (timer_wheel_next_us(&w->wheel) <= now_us);
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

static unsigned fired_of(const struct timed *timers, size_t n)
{
	unsigned fired = 0;
	for (size_t i = 0; i < n; i++)
		fired += timers[i].fired;
	return fired;
}

/* As many as a machine has connections, all to be sorted and fired at the same time. */
static void however_many_are_due_a_call_does_a_bounded_part_of_them(void **state)
{
	const size_t count = 100000;
	const uint64_t due = 70000000; /* lies on the third level */
	struct timed *timers = calloc(count, sizeof *timers);
	struct world *w = world_create(0);
	unsigned fired = 0, calls = 0;
	for (size_t i = 0; i < count; i++) {
		timers[i].node.fire = fire;
		arm(w, &timers[i], due + i % 2);
	}
	w->now_us = due + TIMER_WHEEL_TICK_US;
	while (timer_wheel_next_us(&w->wheel) <= w->now_us) {
		timer_wheel_advance(&w->wheel, w->now_us, w);
		calls++;
		unsigned now = fired_of(timers, calls % 64 == 0 ? count : 0); /* the count takes its time */
		assert_true(now == 0 || now - fired <= 64 * (TIMER_WHEEL_WORK / TIMER_WHEEL_FIRE + 1));
		fired = now != 0 ? now : fired;
	}
	assert_true(calls >= count * TIMER_WHEEL_FIRE / TIMER_WHEEL_WORK);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(timers[i].fired, 1);
	free(timers);
	free(w);
}

static void what_a_call_has_left_can_be_cancelled_and_armed_anew(void **state)
{
	struct world *w = world_create(0);
	for (size_t i = 0; i < COUNT; i++)
		arm(w, &w->timers[i], 2000);
	w->now_us = 2000;
	timer_wheel_advance(&w->wheel, 2000, w);
	unsigned fired = fired_of(w->timers, COUNT), left = 0;
	assert_int_equal(fired, TIMER_WHEEL_WORK / TIMER_WHEEL_FIRE);
	for (size_t i = 0; i < COUNT; i++)
		if (w->timers[i].fired == 0 && left++ % 2 == 0)
			timer_wheel_cancel(&w->wheel, &w->timers[i].node);
		else if (w->timers[i].fired == 0)
			arm(w, &w->timers[i], 5000);
	assert_int_equal(timer_wheel_next_us(&w->wheel), 5000);
	advance(w, 4000);
	assert_int_equal(fired_of(w->timers, COUNT), fired);
	advance(w, 5000);
	assert_int_equal(fired_of(w->timers, COUNT), fired + left / 2);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_timer_fires_once_when_due_and_never_before),
		cmocka_unit_test(a_long_sleep_fires_all_that_was_due),
		cmocka_unit_test(cancelled_timers_do_not_fire_even_in_their_own_tick),
		cmocka_unit_test(however_many_are_due_a_call_does_a_bounded_part_of_them),
		cmocka_unit_test(what_a_call_has_left_can_be_cancelled_and_armed_anew),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
