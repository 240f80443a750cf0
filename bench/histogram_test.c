// SPDX-License-Identifier: Apache-2.0
#include "bench/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void an_empty_one_has_zeros(void **state)
{
	static struct histogram h;
	assert_int_equal(histogram_percentile(&h, 50), 0);
	assert_int_equal(histogram_percentile(&h, 100), 0);
	assert_true(histogram_mean(&h) == 0.0);
}

static void small_values_are_exact(void **state)
{
	struct histogram h = {0};
	for (uint64_t v = 1; v <= 100; v++)
		histogram_add(&h, v);
	assert_int_equal(histogram_percentile(&h, 1), 1);
	assert_int_equal(histogram_percentile(&h, 50), 50);
	assert_int_equal(histogram_percentile(&h, 99), 99);
	assert_int_equal(histogram_percentile(&h, 100), 100);
	assert_true(histogram_mean(&h) == 50.5);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Against the sorted samples themselves, over all sizes of numbers. */
static void percentiles_are_within_a_64th(void **state)
{
	enum { COUNT = 20000 };
	static uint64_t samples[COUNT];
	static struct histogram h;
	uint64_t x = 88172645463325252u;
	for (int i = 0; i < COUNT; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		samples[i] = x >> (x % 63);
		histogram_add(&h, samples[i]);
	}
	qsort(samples, COUNT, sizeof samples[0], by_size);
	static const double percents[] = {0.1, 1, 10, 25, 50, 75, 90, 99, 99.9, 100};
	for (unsigned i = 0; i < sizeof percents / sizeof percents[0]; i++) {
		uint64_t exact = samples[(int)(percents[i] / 100 * COUNT + 0.5) - 1];
		uint64_t found = histogram_percentile(&h, percents[i]);
		assert_true(found >= exact);
		assert_true(found - exact <= exact / 64);
	}
	assert_int_equal(histogram_percentile(&h, 100), samples[COUNT - 1]);
}

static void the_largest_number_has_a_bucket(void **state)
{
	static struct histogram h;
	histogram_add(&h, UINT64_MAX);
	histogram_add(&h, 0);
	assert_int_equal(h.count, 2);
	assert_int_equal(histogram_percentile(&h, 50), 0);
	assert_true(histogram_percentile(&h, 99) == UINT64_MAX);
}

static void one_slow_in_a_thousand_is_seen(void **state)
{
	static struct histogram h;
	for (int i = 0; i < 999; i++)
		histogram_add(&h, 100);
	histogram_add(&h, 1000000);
	assert_int_equal(histogram_percentile(&h, 99.9), 100);
	assert_int_equal(histogram_percentile(&h, 99.95), 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_one_has_zeros),
		cmocka_unit_test(small_values_are_exact),
		cmocka_unit_test(percentiles_are_within_a_64th),
		cmocka_unit_test(the_largest_number_has_a_bucket),
		cmocka_unit_test(one_slow_in_a_thousand_is_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
