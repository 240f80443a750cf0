// SPDX-License-Identifier: Apache-2.0
#include "tls/offload/fibre.h"

#include <fenv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct visit {
	struct tls_fibre *fibre;
	int steps;
	size_t deep;
	int rounding;
};

/* Holds `n` bytes of stack over a wait, and finds them as they were. */
static __attribute__((noinline)) void hold(struct visit *v, size_t n)
{
	volatile uint8_t block[1024];
	memset((void *)block, (int)(n / 1024), sizeof block);
	if (n > sizeof block)
		hold(v, n - sizeof block);
	else
		tls_fibre_yield(v->fibre);
	for (size_t i = 0; i < sizeof block; i++)
		assert_int_equal(block[i], (uint8_t)(n / 1024));
}

static void step_by_step(void *user)
{
	struct visit *v = user;
	for (int i = 0; i < 3; i++) {
		v->steps++;
		hold(v, v->deep);
	}
	v->rounding = fegetround();
}

static void a_fibre_goes_on_where_it_was(void **state)
{
	struct tls_fibres *pool = tls_fibres_create(3);
	struct visit visits[3] = {{.deep = 1024}, {.deep = 4096}, {.deep = 16384}};
	assert_non_null(pool);
	for (int i = 0; i < 3; i++) {
		visits[i].fibre = tls_fibre_get(pool);
		assert_non_null(visits[i].fibre);
		assert_false(tls_fibre_start(visits[i].fibre, step_by_step, &visits[i]));
	}
	for (int turn = 1; turn <= 3; turn++)
		for (int i = 0; i < 3; i++) {
			assert_int_equal(visits[i].steps, turn);
			assert_int_equal(tls_fibre_resume(visits[i].fibre), turn == 3);
		}
	for (int i = 0; i < 3; i++)
		tls_fibre_put(visits[i].fibre);
	tls_fibres_destroy(pool);
}

static void the_pool_has_a_limit_and_gives_the_last_first(void **state)
{
	struct tls_fibres *pool = tls_fibres_create(2);
	struct visit visit = {.deep = 1024};
	struct tls_fibre *a = tls_fibre_get(pool), *b = tls_fibre_get(pool);
	assert_null(tls_fibre_get(pool));
	for (int i = 0; i < 2; i++) {
		visit.fibre = i == 0 ? a : b;
		for (bool is_over = tls_fibre_start(visit.fibre, step_by_step, &visit); !is_over;)
			is_over = tls_fibre_resume(visit.fibre);
		tls_fibre_put(visit.fibre);
	}
	assert_ptr_equal(tls_fibre_get(pool), b);
	tls_fibre_put(b);
	tls_fibres_destroy(pool);
}

static void a_fibre_is_used_again_and_again(void **state)
{
	struct tls_fibres *pool = tls_fibres_create(1);
	for (int i = 0; i < 1000; i++) {
		struct visit visit = {.fibre = tls_fibre_get(pool), .deep = 2048};
		bool is_over = tls_fibre_start(visit.fibre, step_by_step, &visit);
		while (!is_over)
			is_over = tls_fibre_resume(visit.fibre);
		assert_int_equal(visit.steps, 3);
		tls_fibre_put(visit.fibre);
	}
	tls_fibres_destroy(pool);
}

static void rounding_mode_is_each_ones_own(void **state)
{
	struct tls_fibres *pool = tls_fibres_create(1);
	struct visit visit = {.fibre = tls_fibre_get(pool), .deep = 1024};
	assert_false(tls_fibre_start(visit.fibre, step_by_step, &visit));
	fesetround(FE_UPWARD);
	while (!tls_fibre_resume(visit.fibre))
		assert_int_equal(fegetround(), FE_UPWARD);
	assert_int_equal(fegetround(), FE_UPWARD);
	fesetround(FE_TONEAREST);
	assert_int_equal(visit.rounding, FE_TONEAREST);
	tls_fibre_put(visit.fibre);
	tls_fibres_destroy(pool);
}

static void what_a_stack_held_is_told(void **state)
{
	struct tls_fibres *pool = tls_fibres_create(1);
	struct visit visit = {.fibre = tls_fibre_get(pool), .deep = 20 * 1024};
	assert_true(tls_fibres_stack_most(pool) < 1024);
	bool is_over = tls_fibre_start(visit.fibre, step_by_step, &visit);
	while (!is_over)
		is_over = tls_fibre_resume(visit.fibre);
	assert_in_range(tls_fibres_stack_most(pool), 20 * 1024, TLS_FIBRE_STACK_BYTES);
	tls_fibre_put(visit.fibre);
	tls_fibres_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fibre_goes_on_where_it_was),
		cmocka_unit_test(the_pool_has_a_limit_and_gives_the_last_first),
		cmocka_unit_test(a_fibre_is_used_again_and_again),
		cmocka_unit_test(rounding_mode_is_each_ones_own),
		cmocka_unit_test(what_a_stack_held_is_told),
	};
	struct tls_fibres *pool = tls_fibres_create(1);
	if (pool == NULL)
		return 77; /* none on this processor */
	tls_fibres_destroy(pool);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
