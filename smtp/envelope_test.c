// SPDX-License-Identifier: Apache-2.0
#include "smtp/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct mail_pool *pool;

static int make_pool(void **state)
{
	pool = mail_pool_create(4, 2, 0);
	return pool == NULL;
}

static int drop_pool(void **state)
{
	mail_pool_destroy(pool);
	return 0;
}

static struct mail *small_envelope(void)
{
	struct mail *mail = mail_get(pool, 7);
	assert_true(envelope_begin(mail));
	assert_true(envelope_put_u64(mail, ENVELOPE_RECEIVED_AT, 0x0123456789abcdef));
	assert_true(envelope_put(mail, ENVELOPE_SENDER, BYTES_NONE));
	assert_true(envelope_put(mail, ENVELOPE_RECIPIENT, BYTES_LITERAL("a@example.test")));
	assert_true(envelope_put(mail, ENVELOPE_RECIPIENT, BYTES_LITERAL("\"\0\r\n\xff\"@b.test")));
	envelope_end(mail);
	return mail;
}

static void what_was_put_is_read_back_byte_for_byte(void **state)
{
	struct mail *mail = small_envelope();
	assert_true(mail_append(mail, BYTES_LITERAL("Subject: x\r\n\r\n")));
	uint8_t copy[256];
	struct envelope_cursor cursor;
	enum envelope_field field;
	struct bytes value;
	assert_true(envelope_copy(mail, copy));
	assert_true(envelope_open(bytes_of(copy, mail->envelope_size), &cursor));
	assert_int_equal(envelope_next(&cursor, &field, &value), 1);
	assert_int_equal(field, ENVELOPE_RECEIVED_AT);
	assert_true(envelope_u64(value) == 0x0123456789abcdef);
	assert_int_equal(envelope_next(&cursor, &field, &value), 1);
	assert_int_equal(field, ENVELOPE_SENDER);
	assert_int_equal(value.n, 0);
	assert_int_equal(envelope_next(&cursor, &field, &value), 1);
	assert_true(bytes_equal(value, BYTES_LITERAL("a@example.test")));
	assert_int_equal(envelope_next(&cursor, &field, &value), 1);
	assert_true(bytes_equal(value, BYTES_LITERAL("\"\0\r\n\xff\"@b.test")));
	assert_int_equal(envelope_next(&cursor, &field, &value), 0);
	mail_put(mail);
}

static void find_gives_the_first_field_of_its_kind_or_nothing(void **state)
{
	struct mail *mail = small_envelope();
	uint8_t copy[256];
	assert_true(envelope_copy(mail, copy));
	struct bytes envelope = bytes_of(copy, mail->envelope_size);
	assert_true(bytes_equal(
		envelope_find(envelope, ENVELOPE_RECIPIENT), BYTES_LITERAL("a@example.test")));
	assert_int_equal(envelope_find(envelope, ENVELOPE_HELO).n, 0);
	assert_int_equal(envelope_u64(envelope_find(envelope, ENVELOPE_SESSION_ID)), 0);
	mail_put(mail);
}

static void the_checksum_covers_the_length_that_was_patched_in(void **state)
{
	struct mail *mail = small_envelope();
	assert_true(mail_append(mail, BYTES_LITERAL("content\r\n")));
	const struct mail_chunk *cursor = NULL;
	struct bytes all = mail_read(mail, 0, &cursor);
	assert_int_equal(all.n, mail->size);
	assert_int_equal(mail->crc, crc32c(0, all));
	assert_int_equal(all.at[0], mail->envelope_size);
	mail_put(mail);
}

static void an_envelope_may_lie_across_chunks(void **state)
{
	struct mail *mail = mail_get(pool, 1);
	char address[250];
	memset(address, 'a', sizeof address);
	assert_true(envelope_begin(mail));
	for (int i = 0; i < 90; i++) {
		address[0] = (char)i;
		assert_true(
			envelope_put(mail, ENVELOPE_RECIPIENT, bytes_of(address, sizeof address)));
	}
	envelope_end(mail);
	assert_true(mail->first->next != NULL);
	uint8_t *copy = malloc(mail->envelope_size);
	assert_true(envelope_copy(mail, copy));
	assert_int_equal(mail->crc, crc32c(0, bytes_of(copy, mail->envelope_size)));
	struct envelope_cursor cursor;
	enum envelope_field field;
	struct bytes value;
	assert_true(envelope_open(bytes_of(copy, mail->envelope_size), &cursor));
	for (int i = 0; i < 90; i++) {
		assert_int_equal(envelope_next(&cursor, &field, &value), 1);
		assert_int_equal(value.n, sizeof address);
		assert_int_equal(value.at[0], i);
	}
	assert_int_equal(envelope_next(&cursor, &field, &value), 0);
	free(copy);
	mail_put(mail);
}

static void a_field_there_is_no_memory_for_leaves_no_trace(void **state)
{
	struct mail *mail = mail_get(pool, 1);
	static uint8_t big[UINT16_MAX + 1];
	assert_true(envelope_begin(mail));
	uint64_t before = mail->size;
	assert_false(envelope_put(mail, ENVELOPE_HELO, bytes_of(big, 5 * MAIL_CHUNK_DATA)));
	assert_false(envelope_put(mail, ENVELOPE_HELO, bytes_of(big, UINT16_MAX + 1)));
	assert_int_equal(mail->size, before);
	/* Exactly what is left still fits, and then not one byte more. */
	size_t left = 4 * MAIL_CHUNK_DATA - before - 3;
	assert_true(envelope_put(mail, ENVELOPE_HELO, bytes_of(big, left)));
	assert_false(envelope_put(mail, ENVELOPE_HELO, BYTES_NONE));
	envelope_end(mail);
	mail_put(mail);
}

static void what_cannot_be_an_envelope_is_told_apart(void **state)
{
	static const struct {
		struct bytes bytes;
		bool opens;
		int fields; /* before `end` */
		int end;
	} cases[] = {
		{BYTES_LITERAL(""),			    false, 0, 0 },
		  {BYTES_LITERAL("\5\0\0\0"),		      false, 0, 0 },
		{BYTES_LITERAL("\5\0\0\0\2"),		      false, 0, 0 }, /* another version */
		{BYTES_LITERAL("\4\0\0\0\1"),		      false, 0, 0 }, /* shorter than its head */
		{BYTES_LITERAL("\6\0\0\0\1"),		      false, 0, 0 }, /* longer than what is there */
		{BYTES_LITERAL("\xff\xff\xff\xff\1"),	      false, 0, 0 },
		{BYTES_LITERAL("\5\0\0\0\1"),		      true,  0, 0 },
		{BYTES_LITERAL("\5\0\0\0\1content"),	     true,  0, 0 }, /* what follows is not ours */
		{BYTES_LITERAL("\7\0\0\0\1\5\0"),		  true,	0, -1}, /* half a field head */
		{BYTES_LITERAL("\x9\0\0\0\1\5\2\0h"),	      true,  0, -1}, /* value cut off */
		{BYTES_LITERAL("\x8\0\0\0\1\0\0\0"),	     true,  0, -1}, /* kind 0 is no field */
		{BYTES_LITERAL("\xc\0\0\0\1\xf0\1\0?\5\0\0"), true,  1,
			0							}, /* unknown kind skipped */
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct envelope_cursor cursor;
		enum envelope_field field;
		struct bytes value;
		int fields = 0, end = 0;
		assert_int_equal(envelope_open(cases[i].bytes, &cursor), cases[i].opens);
		while (cases[i].opens && (end = envelope_next(&cursor, &field, &value)) == 1)
			fields++;
		assert_int_equal(fields, cases[i].fields);
		assert_int_equal(end, cases[i].end);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_read_back_byte_for_byte),
		cmocka_unit_test(find_gives_the_first_field_of_its_kind_or_nothing),
		cmocka_unit_test(the_checksum_covers_the_length_that_was_patched_in),
		cmocka_unit_test(an_envelope_may_lie_across_chunks),
		cmocka_unit_test(a_field_there_is_no_memory_for_leaves_no_trace),
		cmocka_unit_test(what_cannot_be_an_envelope_is_told_apart),
	};
	return cmocka_run_group_tests(tests, make_pool, drop_pool);
}
