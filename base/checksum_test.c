// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* One word after the other, as RFC 1071 has it. */
static uint16_t by_the_book(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < n; i += 2) {
		uint8_t pair[2] = {p[i], i + 1 < n ? p[i + 1] : 0};
		uint16_t word;
		memcpy(&word, pair, 2);
		sum += word;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

static void every_length_and_place_sums_up_as_by_the_book(void **state)
{
	uint8_t b[400];
	uint32_t random = 1;
	for (size_t i = 0; i < sizeof b; i++)
		b[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
	for (size_t from = 0; from < 9; from++)
		for (size_t n = 0; n + from <= sizeof b; n++)
			assert_int_equal(checksum_sum(bytes_of(b + from, n)), by_the_book(b + from, n));
}

static void carries_are_not_lost(void **state)
{
	static uint8_t b[65536];
	memset(b, 0xff, sizeof b);
	for (size_t n = 1; n <= sizeof b; n = n * 2 + 1)
		assert_int_equal(checksum_sum(bytes_of(b, n)), by_the_book(b, n));
	for (size_t at = 0; at < 64; at++) {
		b[at] = (uint8_t)at;
		assert_int_equal(checksum_sum(bytes_of(b, 1460)), by_the_book(b, 1460));
	}
	assert_int_equal(checksum_fold(UINT64_MAX), 0xffff);
}

static void nothing_sums_up_to_nothing(void **state)
{
	assert_int_equal(checksum_sum(BYTES_NONE), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length_and_place_sums_up_as_by_the_book),
		cmocka_unit_test(carries_are_not_lost),
		cmocka_unit_test(nothing_sums_up_to_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
