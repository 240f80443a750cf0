// SPDX-License-Identifier: Apache-2.0
#include "smtp/client/stuffing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "smtp/client/test_mail.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

static uint8_t sent[400000];
static size_t sent_n;

/* Writes all of it through an `out` of `block` bytes, of which `drain` are taken each time. */
static enum stuffing_result write_all(const struct mail *mail, size_t block, size_t drain)
{
	struct stream_pool *pool = stream_pool_create(block, 1);
	struct stream out;
	struct stuffing c;
	enum stuffing_result result;
	stream_init(&out, pool);
	stuffing_open(&c, mail);
	sent_n = 0;
	do {
		result = stuffing_write(&c, &out);
		struct bytes b = stream_peek(&out);
		if (result == STUFFING_ROOM) {
			assert_true(b.n != 0); /* else it waits for ever */
			b = bytes_first(b, drain);
		}
		assert_true(sent_n + b.n <= sizeof sent);
		if (b.n != 0)
			memcpy(sent + sent_n, b.at, b.n);
		sent_n += b.n;
		stream_consume(&out, b.n);
	} while (result == STUFFING_ROOM);
	assert_int_equal(stream_pool_free_count(pool), 1);
	stream_pool_destroy(pool);
	return result;
}

static const struct {
	size_t block, drain;
} rooms[] = {{5, 1}, {5, 5}, {6, 2}, {7, 7}, {16, 1}, {64, 9}, {4096, 1000}, {16384, SIZE_MAX}};

static void assert_content_becomes(struct mail_pool *pool, struct bytes content, struct bytes want)
{
	struct mail *mail = test_mail_make(pool, content);
	for (size_t i = 0; i < LENGTH(rooms); i++) {
		assert_int_equal(write_all(mail, rooms[i].block, rooms[i].drain), STUFFING_ENDED);
		assert_int_equal(sent_n, want.n);
		assert_memory_equal(sent, want.at, want.n);
	}
	mail_put(mail);
}

static void dots_are_stuffed_and_the_last_line_ended(void **state)
{
	static const struct {
		const char *content, *wire;
	} cases[] = {
		{"", ".\r\n"},
		{"a", "a\r\n.\r\n"},
		{"a\r\n", "a\r\n.\r\n"},
		{"\r\n", "\r\n.\r\n"},
		{"\r\n\r\n", "\r\n\r\n.\r\n"},
		{".", "..\r\n.\r\n"},
		{"..", "...\r\n.\r\n"},
		{".\r\n", "..\r\n.\r\n"},
		{"..\r\n", "...\r\n.\r\n"},
		{"a.\r\n", "a.\r\n.\r\n"},
		{"a\r\n.", "a\r\n..\r\n.\r\n"},
		{"a\r\n.\r\n", "a\r\n..\r\n.\r\n"},
		{"a\r\n.b\r\n..c\r\n. \r\n", "a\r\n..b\r\n...c\r\n.. \r\n.\r\n"},
		{"\r\n.\r\n", "\r\n..\r\n.\r\n"},
		{"a\r\n\r\n.\r\n\r\n", "a\r\n\r\n..\r\n\r\n.\r\n"},
		{".\r\n.\r\n.\r\n", "..\r\n..\r\n..\r\n.\r\n"},
	};
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	for (size_t i = 0; i < LENGTH(cases); i++)
		assert_content_becomes(
			pool, bytes_of_string(cases[i].content), bytes_of_string(cases[i].wire));
	mail_pool_destroy(pool);
}

static void nul_and_8bit_bytes_go_as_they_are(void **state)
{
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	assert_content_becomes(pool, BYTES_LITERAL("\0\xff\r\n\0.\r\n"), BYTES_LITERAL("\0\xff\r\n\0.\r\n.\r\n"));
	mail_pool_destroy(pool);
}

/* The border between two chunks lies at each place of each piece of line-end business. */
static void chunk_borders_change_nothing(void **state)
{
	static const struct {
		struct bytes tail, wire;
	} cases[] = {
		{BYTES_LITERAL("a\r\n.b\r\n..\r\n"), BYTES_LITERAL("a\r\n..b\r\n...\r\n.\r\n")},
		{BYTES_LITERAL("\r\n\r\n."), BYTES_LITERAL("\r\n\r\n..\r\n.\r\n")},
		{BYTES_LITERAL("a.b.c"), BYTES_LITERAL("a.b.c\r\n.\r\n")},
	};
	static uint8_t content[MAIL_CHUNK_DATA + 64], wire[sizeof content + 64];
	struct mail_pool *pool = mail_pool_create(4, 1, 0);
	for (size_t i = 0; i < LENGTH(cases); i++)
		for (size_t before = 0; before <= cases[i].tail.n; before++) {
			size_t fill = MAIL_CHUNK_DATA - 100 - before;
			memset(content, 'x', fill);
			memcpy(content + fill, cases[i].tail.at, cases[i].tail.n);
			memset(wire, 'x', fill);
			memcpy(wire + fill, cases[i].wire.at, cases[i].wire.n);
			assert_content_becomes(pool, bytes_of(content, fill + cases[i].tail.n),
				bytes_of(wire, fill + cases[i].wire.n));
		}
	mail_pool_destroy(pool);
}

/* The plainest way to say what DATA wants; bytes made, or -1: a bare CR or LF. */
static long model(struct bytes in, uint8_t *to)
{
	size_t n = 0;
	for (size_t i = 0; i < in.n; i++) {
		bool is_start = i == 0 || in.at[i - 1] == '\n';
		if (in.at[i] == '\n' && (i == 0 || in.at[i - 1] != '\r'))
			return -1;
		if (in.at[i] == '\r' && (i + 1 == in.n || in.at[i + 1] != '\n'))
			return -1;
		if (in.at[i] == '.' && is_start)
			to[n++] = '.';
		to[n++] = in.at[i];
	}
	if (in.n != 0 && in.at[in.n - 1] != '\n') {
		memcpy(to + n, "\r\n", 2);
		n += 2;
	}
	memcpy(to + n, ".\r\n", 3);
	return (long)(n + 3);
}

/* All contents of up to 7 bytes out of CR, LF, dot and a letter. */
static void short_contents_all_agree_with_the_model(void **state)
{
	static const uint8_t alphabet[4] = {'\r', '\n', '.', 'a'};
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	for (size_t n = 0; n <= 7; n++)
		for (uint32_t word = 0; word < 1u << 2 * n; word++) {
			uint8_t content[8], want[32];
			for (size_t i = 0; i < n; i++)
				content[i] = alphabet[word >> 2 * i & 3];
			long want_n = model(bytes_of(content, n), want);
			struct mail *mail = test_mail_make(pool, bytes_of(content, n));
			enum stuffing_result result = write_all(mail, 5 + word % 3, 1 + word % 5);
			assert_int_equal(result, want_n < 0 ? STUFFING_BARE : STUFFING_ENDED);
			if (want_n >= 0) {
				assert_int_equal(sent_n, want_n);
				assert_memory_equal(sent, want, sent_n);
			}
			mail_put(mail);
		}
	mail_pool_destroy(pool);
}

/* SMTP smuggling: none of them comes out, as an end or as anything. */
static void smuggled_ends_do_not_come_out(void **state)
{
	static const struct bytes vectors[] = {
		BYTES_LITERAL("\n.\n"), BYTES_LITERAL("\n.\r"), BYTES_LITERAL("\r.\n"),
		BYTES_LITERAL("\r.\r"), BYTES_LITERAL("\n.\r\n"), BYTES_LITERAL("\r.\r\n"),
		BYTES_LITERAL("\r\n.\n"), BYTES_LITERAL("\r\n.\r"), BYTES_LITERAL("\n\n.\r\n"),
		BYTES_LITERAL("\r\n\0.\r"), BYTES_LITERAL("\r\n\0.\n"), BYTES_LITERAL("\r\n.\r\r\n"),
		BYTES_LITERAL("\r\r\n.\r\r\n"),
	};
	static const struct bytes head = BYTES_LITERAL("a\r\nb");
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	for (size_t i = 0; i < LENGTH(vectors); i++) {
		uint8_t content[64];
		memcpy(content, head.at, head.n);
		memcpy(content + head.n, vectors[i].at, vectors[i].n);
		memcpy(content + head.n + vectors[i].n, "X", 1);
		struct mail *mail = test_mail_make(pool, bytes_of(content, head.n + vectors[i].n + 1));
		for (size_t r = 0; r < LENGTH(rooms); r++) {
			assert_int_equal(write_all(mail, rooms[r].block, rooms[r].drain), STUFFING_BARE);
			for (size_t k = 0; k < sent_n; k++) {
				assert_false(sent[k] == '\n' && (k == 0 || sent[k - 1] != '\r'));
				assert_false(sent[k] == '\r' && (k + 1 == sent_n || sent[k + 1] != '\n'));
			}
			assert_false(sent_n >= 5 && memcmp(sent + sent_n - 5, "\r\n.\r\n", 5) == 0);
		}
		mail_put(mail);
	}
	mail_pool_destroy(pool);
}

static void a_big_content_with_random_lines_agrees_with_the_model(void **state)
{
	static uint8_t content[150000], want[sizeof sent];
	uint64_t random = 42;
	size_t n = 0;
	while (n < sizeof content - 2) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		unsigned what = random >> 60;
		if (what < 3) {
			content[n++] = '\r';
			content[n++] = '\n';
		} else {
			content[n++] = what < 6 ? '.' : (uint8_t)('a' + what);
		}
	}
	long want_n = model(bytes_of(content, n), want);
	assert_true(want_n > 0);
	struct mail_pool *pool = mail_pool_create(32, 1, 0);
	assert_content_becomes(pool, bytes_of(content, n), bytes_of(want, (size_t)want_n));
	mail_pool_destroy(pool);
}

static void a_mail_that_is_not_resident_is_gone(void **state)
{
	struct mail evicted = {.size = 500, .envelope_size = 100};
	assert_int_equal(write_all(&evicted, 64, 64), STUFFING_GONE);
}

static void an_empty_pool_is_waited_for(void **state)
{
	struct stream_pool *blocks = stream_pool_create(64, 1);
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("a"));
	struct stream holder, out;
	struct stuffing c;
	stream_init(&holder, blocks);
	stream_init(&out, blocks);
	stream_write(&holder, BYTES_LITERAL("x"));
	stuffing_open(&c, mail);
	assert_int_equal(stuffing_write(&c, &out), STUFFING_ROOM);
	stream_reset(&holder);
	assert_int_equal(stuffing_write(&c, &out), STUFFING_ENDED);
	assert_int_equal(stream_length(&out), 6);
	stream_reset(&out);
	mail_put(mail);
	mail_pool_destroy(pool);
	stream_pool_destroy(blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dots_are_stuffed_and_the_last_line_ended),
		cmocka_unit_test(nul_and_8bit_bytes_go_as_they_are),
		cmocka_unit_test(chunk_borders_change_nothing),
		cmocka_unit_test(short_contents_all_agree_with_the_model),
		cmocka_unit_test(smuggled_ends_do_not_come_out),
		cmocka_unit_test(a_big_content_with_random_lines_agrees_with_the_model),
		cmocka_unit_test(a_mail_that_is_not_resident_is_gone),
		cmocka_unit_test(an_empty_pool_is_waited_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
