// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define PLACE 4096

static const struct record_header header = {
	.kind = RECORD_DATA, .mail_id = 0x1122334455667788, .offset = 1ull << 40, .extra = 99};

static bool reads(const uint8_t *b, struct record_seed seed, uint64_t place)
{
	struct record_header h;
	return spool_record_header_read(b, seed, place, &h) &&
		h.length == BYTES_LITERAL("payload").n &&
		spool_record_payload_is_good(&h, bytes_of(b + RECORD_HEADER_BYTES, h.length), seed);
}

static void record_reads_back(void **state)
{
	struct record_seed seed = spool_record_seed_of(1, 2);
	struct record_header h;
	uint8_t b[64];
	assert_int_equal(spool_record_bytes(7), 48);
	assert_int_equal(spool_record_bytes(8), 48);
	assert_int_equal(spool_record_bytes(0), 40);
	memset(b, 0xee, sizeof b);
	spool_record_write(&header, BYTES_LITERAL("payload"), seed, PLACE, b);
	assert_true(spool_record_header_read(b, seed, PLACE, &h));
	assert_int_equal(h.kind, header.kind);
	assert_int_equal(h.mail_id, header.mail_id);
	assert_int_equal(h.offset, header.offset);
	assert_int_equal(h.extra, header.extra);
	assert_true(reads(b, seed, PLACE));
	assert_int_equal(b[47], 0);
	assert_int_equal(b[48], 0xee);
}

static void any_bit_wrong_makes_it_none(void **state)
{
	struct record_seed seed = spool_record_seed_of(1, 2);
	uint8_t b[64];
	spool_record_write(&header, BYTES_LITERAL("payload"), seed, PLACE, b);
	for (int bit = 0; bit < 47 * 8; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(reads(b, seed, PLACE));
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(reads(b, seed, PLACE));
}

static void record_of_another_spool_segment_or_place_is_none(void **state)
{
	uint8_t b[64];
	spool_record_write(&header, BYTES_LITERAL("payload"), spool_record_seed_of(1, 2), PLACE, b);
	assert_false(reads(b, spool_record_seed_of(1, 3), PLACE));
	assert_false(reads(b, spool_record_seed_of(2, 2), PLACE));
	assert_false(reads(b, spool_record_seed_of(2, 1), PLACE));
	assert_false(reads(b, spool_record_seed_of(1, 2), PLACE + 8));
}

static void segment_header_reads_back_and_no_bit_may_be_wrong(void **state)
{
	const struct segment_header in = {1, 2, 3, 4, 5, 6, 7};
	struct segment_header out;
	uint8_t b[SEGMENT_HEADER_BYTES];
	spool_segment_header_write(&in, b);
	struct bytes all = bytes_of(b, sizeof b);
	assert_true(spool_segment_header_read(all, &out));
	assert_memory_equal(&in, &out, sizeof in);
	assert_false(spool_segment_header_read(bytes_first(all, sizeof b - 1), &out));
	for (size_t bit = 0; bit < sizeof b * 8; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(spool_segment_header_read(all, &out));
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void names_sort_and_only_ours_are_read(void **state)
{
	static const char *const bad[] = {"", "lock", "0000000000000001", "0000000000000001.SEG",
		"00000000000000g1.seg", "000000000000000A.seg", "0000000000000000.seg",
		"ffffffffffffffff.seg", "00000000000000001.seg"};
	char name[SEGMENT_NAME_MAX];
	uint64_t sequence;
	assert_string_equal(spool_segment_name(0x1a2b, name), "0000000000001a2b.seg");
	assert_true(spool_segment_name_parse(name, &sequence));
	assert_int_equal(sequence, 0x1a2b);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(spool_segment_name_parse(bad[i], &sequence));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(record_reads_back),
		cmocka_unit_test(any_bit_wrong_makes_it_none),
		cmocka_unit_test(record_of_another_spool_segment_or_place_is_none),
		cmocka_unit_test(segment_header_reads_back_and_no_bit_may_be_wrong),
		cmocka_unit_test(names_sort_and_only_ours_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
