// SPDX-License-Identifier: Apache-2.0
#include "base/tape.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static bool put(struct tape *t, uint8_t value, size_t n)
{
	uint8_t *at = tape_reserve(t, n);
	if (at == NULL)
		return false;
	memset(at, value, n);
	tape_commit(t);
	return true;
}

static void assert_next(struct tape *t, uint8_t value, size_t n)
{
	struct bytes b = tape_peek(t);
	assert_int_equal(b.n, n);
	assert_int_equal((uintptr_t)b.at % 8, 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(b.at[i], value);
	tape_pop(t);
}

static void entries_come_in_order_and_whole(void **state)
{
	struct tape *t = tape_create(1024);
	assert_int_equal(tape_peek(t).n, 0);
	for (unsigned round = 0; round < 1000; round++) {
		size_t n = 1 + round * 7 % 200;
		assert_true(put(t, (uint8_t)round, n) && put(t, (uint8_t)(round + 1), n));
		assert_next(t, (uint8_t)round, n);
		assert_next(t, (uint8_t)(round + 1), n);
	}
	assert_null(tape_peek(t).at);
	assert_int_equal(tape_lost(t), 0);
	free(t);
}

static void what_does_not_fit_is_counted_and_harms_nothing(void **state)
{
	struct tape *t = tape_create(1024);
	unsigned n = 0;
	assert_false(put(t, 0, 257));
	while (put(t, (uint8_t)n, 100))
		n++;
	assert_int_equal(n, 9); /* of 112 bytes each */
	assert_false(put(t, 0, 100));
	assert_int_equal(tape_lost(t), 3);
	for (unsigned i = 0; i < n; i++)
		assert_next(t, (uint8_t)i, 100);
	assert_true(put(t, 77, 100)); /* behind a skip */
	assert_next(t, 77, 100);
	free(t);
}

static void a_reservation_without_commit_is_nothing(void **state)
{
	struct tape *t = tape_create(1024);
	assert_non_null(tape_reserve(t, 10));
	assert_null(tape_peek(t).at);
	assert_true(put(t, 5, 20));
	assert_next(t, 5, 20);
	free(t);
}

#define ENTRIES 200000

static void *produce(void *arg)
{
	struct tape *t = arg;
	for (uint32_t i = 0; i < ENTRIES;) {
		uint8_t *at = tape_reserve(t, 4 + i % 60);
		if (at == NULL) {
			sched_yield();
			continue;
		}
		memset(at, (uint8_t)i, 4 + i % 60);
		memcpy(at, &i, 4);
		tape_commit(t);
		i++;
	}
	return NULL;
}

static void two_threads_agree_on_every_byte(void **state)
{
	struct tape *t = tape_create(4096);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, produce, t), 0);
	for (uint32_t i = 0, got; i < ENTRIES;) {
		struct bytes b = tape_peek(t);
		if (b.at == NULL) {
			sched_yield();
			continue;
		}
		memcpy(&got, b.at, 4);
		if (got != i || b.n != 4 + i % 60 || (b.n > 4 && b.at[b.n - 1] != (uint8_t)i))
			fail_msg("entry %u", i);
		tape_pop(t);
		i++;
	}
	pthread_join(thread, NULL);
	free(t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_in_order_and_whole),
		cmocka_unit_test(what_does_not_fit_is_counted_and_harms_nothing),
		cmocka_unit_test(a_reservation_without_commit_is_nothing),
		cmocka_unit_test(two_threads_agree_on_every_byte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
