// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_text(char *text, const char *expected)
{
	assert_string_equal(text, expected);
	free(text);
}

static void what_a_terminal_must_not_get_is_written_out(void **state)
{
	static const struct {
		const char *text, *safe;
	} cases[] = {
		{"plain text, é 漢", "plain text, é 漢"},
		{"\x1b[2J", "\\x1b[2J"},
		{"a\r\n\tb", "a\\x0d\\x0a\\x09b"},
		{"\x7f", "\\x7f"},
		{"\xc2\x9b"
		 "31m",
			"\\u{9b}31m"},	       /* CSI of C1 */
		{"\x9b", "\\x9b"},	       /* the same in Latin-1: no UTF-8 */
		{"\xe2\x80\xae", "\\u{202e}"}, /* right to left from here */
		{"\xe2\x81\xa9\xef\xbb\xbf", "\\u{2069}\\u{feff}"},
		{"\xf3\xa0\x81\x81", "\\u{e0041}"},	      /* an invisible "A" */
		{"\xc0\x80", "\\xc0\\x80"},		      /* overlong */
		{"\xe0\x80\x9b", "\\xe0\\x80\\x9b"},	      /* overlong */
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},	      /* a surrogate */
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond U+10FFFF */
		{"\xe2\x82", "\\xe2\\x82"},		      /* cut */
		{"%s%n", "%s%n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_text(text_safe(cases[i].text), cases[i].safe);
}

static void every_pair_of_bytes_is_safe(void **state)
{
	for (unsigned a = 1; a < 256; a++)
		for (unsigned b = 1; b < 256; b++) {
			char text[3] = {(char)a, (char)b, '\0'}, *safe = text_safe(text);
			struct bytes rest = bytes_of_string(safe);
			while (rest.n != 0) {
				uint32_t c;
				size_t n = text_decode(rest, &c);
				assert_true(n != 0 && !text_is_hostile(c));
				rest = bytes_skip(rest, n);
			}
			free(safe);
		}
}

static void times_and_sizes_read_well(void **state)
{
	static const struct {
		double seconds;
		const char *duration;
	} durations[] = {
		{0, "0 s"},
		{59.9, "59 s"},
		{60, "1 min"},
		{3599, "59 min"},
		{7200, "2 h"},
		{86400, "24 h"},
		{172799, "47 h"},
		{172800, "2 days"},
		{-300, "5 min"},
		{1e300, "?"},
	};
	static const struct {
		double bytes;
		const char *size;
	} sizes[] = {{0, "0 B"}, {1023, "1023 B"}, {1536, "1.5 KB"}, {50 << 20, "50.0 MB"},
		{1e15, "909.5 TB"}};
	for (size_t i = 0; i < sizeof durations / sizeof *durations; i++)
		assert_text(text_duration(durations[i].seconds), durations[i].duration);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		assert_text(text_size(sizes[i].bytes), sizes[i].size);
	assert_text(text_distance(100, 100.5), "now");
	assert_text(text_distance(700, 100), "in 10 min");
	assert_text(text_distance(100, 700), "10 min ago");
	setenv("TZ", "UTC", 1);
	assert_text(text_time(0, 60), "1970-01-01 00:00:00 (1 min ago)");
	assert_text(text_time(1e300, 60), "?");
}

static void times_of_the_api_are_parsed(void **state)
{
	double when;
	assert_true(text_parse_time("1970-01-02T00:00:00Z", &when));
	assert_true(when == 86400);
	assert_true(text_parse_time("1970-01-01T00:00:01.5Z", &when));
	assert_true(when == 1.5);
	assert_false(text_parse_time("1970-01-01 00:00:01", &when));
	assert_false(text_parse_time("1970-01-01T00:00:01+01:00", &when));
	assert_false(text_parse_time("", &when));
}

static char *printed(struct table *t, unsigned width)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);
	table_print(t, to, width);
	fclose(to);
	return text;
}

static void add(struct table *t, const char *a, const char *b, const char *c)
{
	table_row(t, (char *[]){strdup(a), strdup(b), c == NULL ? NULL : strdup(c)});
}

static void tables_are_as_wide_as_their_cells_or_the_terminal(void **state)
{
	struct table t;
	table_init(&t, 3, (const char *const[]){"ID", "SIZE", "WHO"});
	t.is_right[1] = true;
	add(&t, "a", "1 B", "é");
	add(&t, "bb\x1b", "10 KB", NULL);
	table_note(&t, strdup("why\n"));
	assert_text(printed(&t, 0),
		"ID       SIZE  WHO\n"
		"a         1 B  é\n"
		"bb\\x1b  10 KB  -\n"
		"    why\\x0a\n");
	add(&t, "c", "2 B", "ééééééééééééééééééééééééééé");
	assert_text(printed(&t, 30),
		"ID       SIZE  WHO\n"
		"a         1 B  é\n"
		"bb\\x1b  10 KB  -\n"
		"    why\\x0a\n"
		"c         2 B  éééééééééééééé…\n");
	char *narrow = printed(&t, 1); /* no column gets narrower than it can be read */
	assert_non_null(strstr(narrow, "ééééééé…\n"));
	free(narrow);
	table_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_terminal_must_not_get_is_written_out),
		cmocka_unit_test(every_pair_of_bytes_is_safe),
		cmocka_unit_test(times_and_sizes_read_well),
		cmocka_unit_test(times_of_the_api_are_parsed),
		cmocka_unit_test(tables_are_as_wide_as_their_cells_or_the_terminal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
