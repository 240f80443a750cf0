// SPDX-License-Identifier: Apache-2.0
#include "smtp/client/reply_parse.h"

#include "smtp/client/capabilities.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* Feeds pieces of `piece` bytes until the reply is over; the bytes used. Each piece is memory of its own. */
static enum reply_step parse_in_pieces(
	struct reply_parser *p, struct bytes in, size_t first, size_t piece, size_t *used)
{
	enum reply_step step = REPLY_MORE;
	*used = 0;
	while (*used < in.n && step != REPLY_BAD && step != REPLY_DONE) {
		size_t n = *used < first ? first - *used : piece;
		struct bytes b = bytes_first(bytes_skip(in, *used), n);
		uint8_t *exact = malloc(b.n);
		memcpy(exact, b.at, b.n);
		size_t taken;
		step = reply_parse(p, bytes_of(exact, b.n), &taken);
		free(exact);
		assert_true(taken <= b.n);
		*used += taken;
	}
	return step;
}

/* Whole, byte by byte, and split at every place: calls `check` each time. */
static void parse_in_all_ways(const char *text, size_t n,
	void (*check)(const struct reply_parser *p, enum reply_step step, size_t used, const void *want),
	const void *want)
{
	static struct reply_parser p;
	for (size_t split = 0; split <= n; split++) {
		size_t used;
		reply_parser_reset(&p);
		enum reply_step step = parse_in_pieces(
			&p, bytes_of(text, n), split, split == 0 ? 1 : n, &used);
		check(&p, step, used, want);
	}
}

static const struct good {
	const char *bytes, *formatted;
} good[] = {
	{"250 Ok\r\n", "250 Ok"},
	{"250\r\n", "250"},
	{"250 \r\n", "250"},
	{"250-\r\n250\r\n", "250"},
	{"250 Ok\n", "250 Ok"},
	{"250-one\r\n250-two\n250 three\r\n", "250 one two three"},
	{"250-\r\n250 three\r\n", "250 three"},
	{"550 5.1.1 No such user\r\n", "550 5.1.1 No such user"},
	{"550 5.1.1\r\n", "550 5.1.1"},
	{"550 5.7.2\r\n", "550 5.7.2"},
	{"550-5.1.1 No such\r\n550 5.1.1 user\r\n", "550 5.1.1 No such user"},
	{"550-No such\r\n550 5.1.1 user\r\n", "550 5.1.1 No such user"},
	{"550-5.1.1 No such\r\n550 5.1.2 user\r\n", "550 5.1.1 No such user"},
	{"550 5.7.509 x\r\n", "550 5.7.509 x"},
	{"550 5.123.456 x\r\n", "550 5.123.456 x"},
	/* No enhanced codes: of another class, no digits, too many, no space behind. */
	{"550 4.1.1 x\r\n", "550 4.1.1 x"},
	{"550 5.1 x\r\n", "550 5.1 x"},
	{"550 5.1.1.1 x\r\n", "550 5.1.1.1 x"},
	{"550 5..1 x\r\n", "550 5..1 x"},
	{"550 5.1234.1 x\r\n", "550 5.1234.1 x"},
	{"550 5.1.1234 x\r\n", "550 5.1.1234 x"},
	{"550 5.999.1 x\r\n", "550 5.999.1 x"},
	{"550 55.1.1 x\r\n", "550 55.1.1 x"},
	{"550 5.1.1x\r\n", "550 5.1.1x"},
	{"550 5\r\n", "550 5"},
	{"550 5.\r\n", "550 5."},
	{"550 5.1.\r\n", "550 5.1."},
	{"354 3.0.0 go\r\n", "354 3.0.0 go"},
	/* Control bytes never get out; others do. */
	{"250 a\tb\x01\x7f\x1b[31m\r\n", "250 a?b???[31m"},
	{"250 a\rb\r\r\n", "250 a?b?"},
	{"250 \xc3\xa9\xff\r\n", "250 \xc3\xa9\xff"},
	{"250 100%s%n\r\n", "250 100%s%n"},
	/* Any second digit: only the first decides. */
	{"299 x\r\n", "299 x"},
	{"599 x\r\n", "599 x"},
};

static void check_good(
	const struct reply_parser *p, enum reply_step step, size_t used, const void *want)
{
	const struct good *g = want;
	char text[SMTP_REPLY_FORMAT_MAX];
	assert_int_equal(step, REPLY_DONE);
	assert_int_equal(used, strlen(g->bytes));
	assert_string_equal(smtp_reply_format(&p->reply, text), g->formatted);
	assert_false(p->reply.is_ours);
}

static void replies_are_read_however_they_arrive(void **state)
{
	for (size_t i = 0; i < LENGTH(good); i++)
		parse_in_all_ways(good[i].bytes, strlen(good[i].bytes), check_good, &good[i]);
}

static void only_what_is_an_enhanced_code_is_one(void **state)
{
	static const struct {
		const char *bytes;
		unsigned class, subject, detail;
	} cases[] = {
		{"550 5.1.1 x\r\n", 5, 1, 1},
		{"550 5.7.2\r\n", 5, 7, 2},
		{"550 5.123.456 x\r\n", 5, 123, 456},
		{"550 5.07.002 x\r\n", 5, 7, 2},
		{"550 4.1.1 x\r\n", 0, 0, 0},
		{"550 5.1.1.1 x\r\n", 0, 0, 0},
		{"550 5.999.1 x\r\n", 0, 0, 0},
		{"550 5.1.1x\r\n", 0, 0, 0},
		{"550 5\r\n", 0, 0, 0},
		{"550  5.1.1 x\r\n", 0, 0, 0},
		{"354 3.1.1 x\r\n", 0, 0, 0},
	};
	static struct reply_parser p;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		size_t used;
		reply_parser_reset(&p);
		assert_int_equal(reply_parse(&p, bytes_of_string(cases[i].bytes), &used), REPLY_DONE);
		assert_true(reply_has_enhanced(
			&p.reply, cases[i].class, cases[i].subject, cases[i].detail));
	}
}

static const struct bad {
	const char *bytes;
	size_t n;
	const char *why;
} bad[] = {
#define BAD(bytes, why) {bytes, sizeof bytes - 1, why}
	BAD("\r\n", "not a reply"),
	BAD("\n", "not a reply"),
	BAD("25\r\n", "not a reply"),
	BAD("2500 x\r\n", "not a reply"),
	BAD("250x\r\n", "not a reply"),
	BAD("250\tx\r\n", "not a reply"),
	BAD("250_x\r\n", "not a reply"),
	BAD(" 250 x\r\n", "not a reply"),
	BAD("-50 x\r\n", "not a reply"),
	BAD("+25 x\r\n", "not a reply"),
	BAD("2 5 x\r\n", "not a reply"),
	BAD("\0\0\0\r\n", "not a reply"),
	BAD("250\0x\r\n", "not a reply"),
	BAD("100 x\r\n", "not a reply"),
	BAD("000 x\r\n", "not a reply"),
	BAD("199 x\r\n", "not a reply"),
	BAD("600 x\r\n", "not a reply"),
	BAD("999 x\r\n", "not a reply"),
	BAD("\xb2\xb5\xb0 x\r\n", "not a reply"),
	BAD("Hello\r\n", "not a reply"),
	BAD("EHLO x\r\n", "not a reply"),
	BAD("\x16\x03\x01\x02\r\n", "not a reply"),
	BAD("250-x\r\n\r\n", "not a reply"),
	BAD("250-x\r\n y\r\n", "not a reply"),
	BAD("250-x\r\n550 y\r\n", "two codes in one reply"),
	BAD("550-x\r\n250 y\r\n", "two codes in one reply"),
	BAD("250-x\r\n250-y\r\n251 z\r\n", "two codes in one reply"),
};

static void check_bad(
	const struct reply_parser *p, enum reply_step step, size_t used, const void *want)
{
	const struct bad *b = want;
	struct reply_parser copy = *p;
	assert_int_equal(step, REPLY_BAD);
	assert_int_equal(used, b->n);
	assert_string_equal(p->why_bad, b->why);
	assert_int_equal(reply_parse(&copy, BYTES_LITERAL("250 x\r\n"), &used), REPLY_BAD);
	assert_int_equal(used, 0);
}

static void what_is_no_reply_is_bad_and_stays_so(void **state)
{
	for (size_t i = 0; i < LENGTH(bad); i++)
		parse_in_all_ways(bad[i].bytes, bad[i].n, check_bad, &bad[i]);
}

static void nothing_of_a_reply_is_left_in_the_next(void **state)
{
	static struct reply_parser p;
	size_t used;
	char text[SMTP_REPLY_FORMAT_MAX];
	reply_parser_reset(&p);
	assert_int_equal(reply_parse(&p, BYTES_LITERAL("550 5.1.1 long text\r\n"), &used), REPLY_DONE);
	reply_parser_reset(&p);
	assert_int_equal(reply_parse(&p, BYTES_LITERAL("550 x\r\n"), &used), REPLY_DONE);
	assert_true(reply_has_enhanced(&p.reply, 0, 0, 0));
	assert_string_equal(smtp_reply_format(&p.reply, text), "550 x");
}

static void bytes_behind_a_reply_are_left(void **state)
{
	static struct reply_parser p;
	size_t used;
	reply_parser_reset(&p);
	assert_int_equal(reply_parse(&p, BYTES_LITERAL("250-a\r\n250 b\r\n250 c\r\n"), &used), REPLY_LINE);
	assert_int_equal(used, 7);
	assert_int_equal(reply_parse(&p, BYTES_LITERAL("250 b\r\n250 c\r\n"), &used), REPLY_DONE);
	assert_int_equal(used, 7);
}

/* Feeds `line` again and again; the bytes used until the parser has enough. */
static size_t feed_for_ever(struct reply_parser *p, struct bytes line, size_t at_most)
{
	size_t all = 0, used;
	reply_parser_reset(p);
	while (all < at_most) {
		if (reply_parse(p, line, &used) == REPLY_BAD)
			return all + used;
		all += used;
	}
	fail_msg("no end");
	return all;
}

static void endless_replies_are_bounded(void **state)
{
	static struct reply_parser p;
	static uint8_t much[100000];
	memset(much, 'x', sizeof much);
	assert_int_equal(feed_for_ever(&p, BYTES_LITERAL("x"), 10 * REPLY_PARSE_BYTES_MAX), REPLY_PARSE_BYTES_MAX + 1);
	assert_string_equal(p.why_bad, "a reply without an end");
	feed_for_ever(&p, bytes_of(much, sizeof much), 10 * REPLY_PARSE_BYTES_MAX);
	assert_int_equal(feed_for_ever(&p, BYTES_LITERAL("250-\r\n"), 10 * REPLY_PARSE_BYTES_MAX),
		6 * REPLY_PARSE_LINES_MAX);
	assert_string_equal(p.why_bad, "a reply without an end");
	memcpy(much, "250-", 4);
	memcpy(much + 1022, "\r\n", 2);
	feed_for_ever(&p, bytes_of(much, 1024), 10 * REPLY_PARSE_BYTES_MAX);
	assert_string_equal(p.why_bad, "a reply without an end");
}

static void long_replies_are_cut_in_text_not_in_meaning(void **state)
{
	static struct reply_parser p;
	static char line[4096];
	size_t used;
	int n = snprintf(line, sizeof line, "550 5.7.1 %03000d\r\n", 1);
	for (size_t split = 0; split < (size_t)n; split += 97) {
		reply_parser_reset(&p);
		assert_int_equal(
			parse_in_pieces(&p, bytes_of(line, (size_t)n), split, 4096, &used), REPLY_DONE);
		assert_int_equal(used, n);
		assert_int_equal(p.reply.code, 550);
		assert_true(reply_has_enhanced(&p.reply, 5, 7, 1));
		assert_int_equal(strlen(p.reply.text), REPLY_PARSE_LINE_KEPT - 10);
	}
	reply_parser_reset(&p);
	for (int i = 0; i < 100; i++)
		assert_int_equal(reply_parse(&p, BYTES_LITERAL("250-twenty bytes of text\r\n"), &used),
			REPLY_LINE);
	assert_int_equal(reply_parse(&p, BYTES_LITERAL("250 end\r\n"), &used), REPLY_DONE);
	assert_int_equal(strlen(p.reply.text), SMTP_REPLY_TEXT_MAX - 1);
}

static void reasons_of_ours_keep_bytes_in_hand(void **state)
{
	struct smtp_reply r;
	char text[SMTP_REPLY_FORMAT_MAX];
	reply_set(&r, 454, 7, 4, "host %s", "a\r\nb%s");
	assert_true(r.is_ours);
	assert_string_equal(smtp_reply_format(&r, text), "4.7.4 host a??b%s");
}

static void capabilities_are_recognised(void **state)
{
	static const struct {
		const char *line;
		unsigned offered;
		uint64_t size_max;
	} cases[] = {
		{"PIPELINING", CAPABILITY_PIPELINING, 0},
		{"pipelining", CAPABILITY_PIPELINING, 0},
		{"PIPELININGX", 0, 0},
		{"PIPELININ", 0, 0},
		{"X PIPELINING", 0, 0},
		{" PIPELINING", 0, 0},
		{"", 0, 0},
		{"SIZE", CAPABILITY_SIZE, 0},
		{"SIZE ", CAPABILITY_SIZE, 0},
		{"SIZE 0", CAPABILITY_SIZE, 0},
		{"Size 10240000", CAPABILITY_SIZE, 10240000},
		{"SIZE 10240000 x", CAPABILITY_SIZE, 10240000},
		{"SIZE 18446744073709551615", CAPABILITY_SIZE, UINT64_MAX},
		{"SIZE 18446744073709551616", CAPABILITY_SIZE, 0},
		{"SIZE 99999999999999999999", CAPABILITY_SIZE, 0},
		{"SIZE -1", CAPABILITY_SIZE, 0},
		{"SIZE 10k", CAPABILITY_SIZE, 0},
		{"SIZE=10", 0, 0},
		{"8BITMIME", CAPABILITY_8BITMIME, 0},
		{"SMTPUTF8", CAPABILITY_SMTPUTF8, 0},
		{"STARTTLS", CAPABILITY_STARTTLS, 0},
		{"STARTTLS x", CAPABILITY_STARTTLS, 0},
		{"ENHANCEDSTATUSCODES", CAPABILITY_ENHANCEDSTATUSCODES, 0},
		{"CHUNKING", CAPABILITY_CHUNKING, 0},
	};
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct capabilities c = {};
		capabilities_add(&c, bytes_of_string(cases[i].line));
		assert_int_equal(c.offered, cases[i].offered);
		assert_true(c.size_max == cases[i].size_max);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies_are_read_however_they_arrive),
		cmocka_unit_test(only_what_is_an_enhanced_code_is_one),
		cmocka_unit_test(what_is_no_reply_is_bad_and_stays_so),
		cmocka_unit_test(nothing_of_a_reply_is_left_in_the_next),
		cmocka_unit_test(bytes_behind_a_reply_are_left),
		cmocka_unit_test(endless_replies_are_bounded),
		cmocka_unit_test(long_replies_are_cut_in_text_not_in_meaning),
		cmocka_unit_test(reasons_of_ours_keep_bytes_in_hand),
		cmocka_unit_test(capabilities_are_recognised),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
