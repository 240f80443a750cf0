// SPDX-License-Identifier: Apache-2.0
#include "smtp/crc32c.h"
#include "smtp/mail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* RFC 3720 appendix B.4, and the check value of the CRC catalogue. */
static const struct {
	uint8_t first;
	int8_t step;
	uint32_t crc;
} of_32_bytes[] = {
	{0x00, 0,  0x8a9136aa},
	{0xff, 0,  0x62a8ab43},
	{0x00, 1,  0x46dd794e},
	{0x1f, -1, 0x113fdb5c},
};

static void known_values_come_out(uint32_t (*crc)(uint32_t, struct bytes))
{
	for (size_t i = 0; i < sizeof of_32_bytes / sizeof of_32_bytes[0]; i++) {
		uint8_t b[32];
		for (int k = 0; k < 32; k++)
			b[k] = (uint8_t)(of_32_bytes[i].first + k * of_32_bytes[i].step);
		assert_int_equal(crc(0, bytes_of(b, sizeof b)), of_32_bytes[i].crc);
	}
	assert_int_equal(crc(0, BYTES_LITERAL("123456789")), 0xe3069283);
	assert_int_equal(crc(0, BYTES_NONE), 0);
}

static void tables_give_the_known_values(void **state)
{
	known_values_come_out(crc32c_by_table);
	known_values_come_out(crc32c);
}

static void instruction_gives_the_known_values(void **state)
{
	if (crc32c_has_instruction())
		known_values_come_out(crc32c_by_instruction);
}

/* Every length and alignment, cut in two at every place: all ways agree. */
static void both_ways_agree_at_every_cut(void **state)
{
	uint8_t b[96];
	for (size_t i = 0; i < sizeof b; i++)
		b[i] = (uint8_t)(i * 151 + 7);
	for (size_t from = 0; from < 9; from++) {
		for (size_t n = 0; from + n <= sizeof b; n++) {
			struct bytes all = bytes_of(b + from, n);
			uint32_t whole = crc32c_by_table(0, all);
			for (size_t cut = 0; cut <= n; cut++) {
				uint32_t head = crc32c(0, bytes_first(all, cut));
				assert_int_equal(crc32c(head, bytes_skip(all, cut)), whole);
				if (crc32c_has_instruction()) {
					head = crc32c_by_instruction(0, bytes_first(all, cut));
					assert_int_equal(
						crc32c_by_table(head, bytes_skip(all, cut)), whole);
				}
			}
		}
	}
}

/* Long enough for three parts at a time, and some more. */
static void both_ways_agree_at_every_length(void **state)
{
	uint8_t b[1000];
	for (size_t i = 0; i < sizeof b; i++)
		b[i] = (uint8_t)(i * i * 151 + (i >> 3) + 7);
	for (size_t n = 0; n <= sizeof b - 3; n++) {
		struct bytes all = bytes_of(b + n % 4, n);
		uint32_t first = (uint32_t)n * 0x9e3779b9u;
		assert_int_equal(crc32c(first, all), crc32c_by_table(first, all));
		if (crc32c_has_instruction())
			assert_int_equal(crc32c_by_instruction(first, all), crc32c_by_table(first, all));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_give_the_known_values),
		cmocka_unit_test(instruction_gives_the_known_values),
		cmocka_unit_test(both_ways_agree_at_every_cut),
		cmocka_unit_test(both_ways_agree_at_every_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
