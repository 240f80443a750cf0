// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/content_test.c: content, header and line finder, each whole, byte by byte and at every
 * split. The content parser is held against a slow one written straight from the rule. */
#include "smtp/parse/content.h"

#include "smtp/parse/header.h"
#include "smtp/parse/line.h"
#include "smtp/parse/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

struct result {
	uint8_t body[256];
	size_t n;
	size_t end; /* bytes used when the end was found; 0: it was not */
	uint8_t flaw;
	bool has_normalised;
};

/* Feeds in[from..to) and what was left before it. */
static size_t feed_range(
	struct content *c, struct bytes in, size_t from, size_t to, struct result *r)
{
	for (;;) {
		struct bytes body;
		bool is_end;
		size_t used =
			content_feed_data(c, bytes_of(in.at + from, to - from), &body, &is_end);
		if (body.n > 0)
			memcpy(r->body + r->n, body.at, body.n);
		r->n += body.n;
		from += used;
		if (is_end)
			r->end = from;
		if (is_end || (used == 0 && body.n == 0))
			return from;
	}
}

static struct result parse(struct bytes in, size_t split, bool is_bytewise, bool normalises)
{
	struct content c;
	struct result r = {.n = 0};
	size_t from = 0;
	content_begin(&c, normalises);
	for (size_t to = is_bytewise ? 1 : split; r.end == 0 && to <= in.n; to++) {
		from = feed_range(&c, in, from, to, &r);
		if (!is_bytewise && to == split && to < in.n)
			to = in.n - 1;
	}
	r.flaw = c.flaw;
	r.has_normalised = c.has_normalised;
	if (c.flaw != CONTENT_CLEAN)
		r.n = 0; /* how much came before depends on the cuts */
	return r;
}

/* The rule: line by line, a line being what CRLF ends, or a bare CR or LF where those are made
 * CRLF. */
static struct result by_rule(struct bytes in, bool normalises)
{
	struct result r = {.n = 0};
	bool is_start = true, is_loose = false;
	for (size_t i = 0; i < in.n;) {
		bool has_end = i + 2 < in.n && memcmp(in.at + i, ".\r\n", 3) == 0;
		if (is_start && !is_loose && has_end) {
			r.end = i + 3;
			break;
		}
		if (is_start && in.at[i] == '.') {
			i++;
			is_start = false;
			continue;
		}
		bool is_crlf = i + 1 < in.n && in.at[i] == '\r' && in.at[i + 1] == '\n';
		bool is_bare = !is_crlf && (in.at[i] == '\r' || in.at[i] == '\n');
		if (is_bare && i + 1 == in.n && in.at[i] == '\r')
			break; /* not known yet */
		if (in.at[i] == '\0' && r.flaw == 0)
			r.flaw = CONTENT_NUL;
		if (is_bare && !normalises && r.flaw == 0)
			r.flaw = CONTENT_BARE_CR_LF;
		is_start = is_crlf || (is_bare && normalises);
		is_loose = !is_crlf;
		r.has_normalised |= is_bare && normalises;
		if (is_start) {
			memcpy(r.body + r.n, "\r\n", 2);
			r.n += 2;
		} else {
			r.body[r.n++] = in.at[i];
		}
		i += is_crlf ? 2 : 1;
	}
	if (r.flaw != CONTENT_CLEAN)
		r.n = 0;
	return r;
}

static void same(const struct result *a, const struct result *b)
{
	assert_int_equal(a->end, b->end);
	assert_int_equal(a->flaw, b->flaw);
	if (a->flaw != CONTENT_CLEAN)
		return;
	assert_int_equal(a->has_normalised, b->has_normalised);
	if (a->end == 0) {
		/* Unfinished, either may hold back a little more than the other. */
		size_t n = a->n < b->n ? a->n : b->n;
		assert_true((a->n < b->n ? b->n : a->n) - n <= 2);
		assert_memory_equal(a->body, b->body, n);
		return;
	}
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->body, b->body, a->n);
}

/* All strings of up to seven of the bytes that matter, in both policies: 2 * 3^0..5^7. */
static void every_short_content_is_read_by_the_rule_however_it_is_cut(void **state)
{
	static const char alphabet[] = {'\r', '\n', '.', 'x', '\0'};
	for (size_t n = 1; n <= 7; n++) {
		size_t count = 1;
		for (size_t i = 0; i < n; i++)
			count *= sizeof alphabet;
		for (size_t word = 0; word < count; word++) {
			uint8_t text[7];
			size_t w = word;
			for (size_t i = 0; i < n; i++, w /= sizeof alphabet)
				text[i] = (uint8_t)alphabet[w % sizeof alphabet];
			struct bytes in = bytes_of(text, n);
			for (int normalises = 0; normalises < 2; normalises++) {
				struct result rule = by_rule(in, normalises);
				struct result bytewise = parse(in, 0, true, normalises);
				same(&bytewise, &rule);
				struct result whole = parse(in, n, false, normalises);
				same(&whole, &rule);
				struct result split = parse(in, 1 + word % n, false, normalises);
				same(&split, &rule);
			}
		}
	}
}

static void a_run_without_dots_is_one_range(void **state)
{
	struct content c;
	struct bytes in = BYTES_LITERAL("one\r\ntwo\r\n\r\nthree\r\nfo"), body;
	bool is_end;
	content_begin(&c, false);
	assert_int_equal(content_feed_data(&c, in, &body, &is_end), in.n);
	assert_ptr_equal(body.at, in.at);
	assert_int_equal(body.n, in.n);
}

static void special_bytes_are_found_at_every_place(void **state)
{
	uint8_t text[70];
	for (size_t at = 0; at < sizeof text; at++)
		for (int kind = 0; kind < 4; kind++) {
			memset(text, 0x8d, sizeof text); /* looks like CR but for its top bit */
			text[at] = (uint8_t) "\r\n\0x"[kind];
			for (size_t from = 0; from <= at; from++)
				assert_int_equal(scan_special(bytes_of(text, sizeof text), from),
					kind == 3 ? sizeof text : at);
		}
}

struct header_case {
	struct bytes text;
	uint32_t received;
	uint64_t bytes;
	bool is_over;
};

static void header_sections_are_measured_and_received_counted(void **state)
{
	static const struct header_case cases[] = {
		{BYTES_LITERAL("\r\nReceived: body\r\n"),				  0, 2,	true },
		{BYTES_LITERAL("Received: a\r\n"),					   1, 13, false},
		{BYTES_LITERAL("rEcEiVeD : a\r\n\tReceived: b\r\n\r\nx"),		  1, 30, true },
		{BYTES_LITERAL("Receive: a\r\nReceivedd: b\r\nXReceived: c\r\n\r\n"), 0, 42, true },
		{BYTES_LITERAL("A: b\r\nno header line\r\nReceived: x\r\n"),	     0, 10, true },
		{BYTES_LITERAL("no-colon\r\nReceived: x\r\n"),			       0, 9,  true },
		{BYTES_LITERAL(": x\r\nReceived: x\r\n"),				  0, 1,	true },
		{BYTES_LITERAL("\x80: x\r\n"),					       0, 1,  true },
		{BYTES_LITERAL("A: \x80\xff\r\nReceived:\r\n\r\n"),		    1, 20, true },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t split = 0; split <= cases[i].text.n; split++) {
			struct header_watch h;
			header_begin(&h);
			header_feed(&h, bytes_first(cases[i].text, split));
			header_feed(&h, bytes_skip(cases[i].text, split));
			assert_int_equal(h.received, cases[i].received);
			assert_int_equal(header_is_over(&h), cases[i].is_over);
			assert_int_equal(h.bytes, cases[i].bytes);
		}
}

static void lines_are_found_however_they_come(void **state)
{
	struct bytes in = BYTES_LITERAL("NOOP\r\nx");
	for (size_t n = 0; n < in.n; n++) {
		struct line_finder f = {0};
		struct line line;
		size_t used;
		enum line_result first = line_find(&f, bytes_first(in, n), 512, &line, &used);
		assert_int_equal(first, n < 6 ? LINE_MORE : LINE_WHOLE);
		if (first == LINE_MORE)
			assert_int_equal(line_find(&f, in, 512, &line, &used), LINE_WHOLE);
		assert_int_equal(used, 6);
		assert_false(line.is_bare);
		assert_true(bytes_equal(line.text, BYTES_LITERAL("NOOP")));
	}
}

static void an_overlong_line_ends_where_its_lf_is(void **state)
{
	struct bytes in = BYTES_LITERAL("0123456789abcdef\r\n");
	for (size_t cut = 10; cut <= in.n; cut++) {
		struct line_finder f = {0};
		struct line line;
		size_t used, at;
		assert_int_equal(
			line_find(&f, bytes_first(in, cut), 10, &line, &used), LINE_OVERLONG);
		assert_int_equal(used, 10);
		at = used;
		enum line_result r =
			line_find(&f, bytes_of(in.at + at, cut - at), 10, &line, &used);
		at += used;
		if (r == LINE_MORE)
			r = line_find(&f, bytes_skip(in, at), 10, &line, &used);
		assert_int_equal(r, LINE_DROPPED);
		assert_false(line.is_bare);
		assert_int_equal(f.dropped, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_short_content_is_read_by_the_rule_however_it_is_cut),
		cmocka_unit_test(a_run_without_dots_is_one_range),
		cmocka_unit_test(special_bytes_are_found_at_every_place),
		cmocka_unit_test(header_sections_are_measured_and_received_counted),
		cmocka_unit_test(lines_are_found_however_they_come),
		cmocka_unit_test(an_overlong_line_ends_where_its_lf_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
