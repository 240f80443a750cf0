// SPDX-License-Identifier: Apache-2.0
#include "smtp/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* RFC 3463 2, RFC 2034 4: class "." subject "." detail, and the class is the reply code's first
 * digit. */
static bool has_enhanced_code(const char *text)
{
	const char *p = text + 4;
	if (*p++ != text[0] || *p++ != '.' || !is_digit(*p++) || *p++ != '.' || !is_digit(*p++))
		return false;
	while (is_digit(*p))
		p++;
	return *p == ' ';
}

static void every_reply_has_a_code_and_text_and_fits_a_line(void **state)
{
	for (int id = REPLY_NONE + 1; id < REPLY_COUNT; id++) {
		const char *text = reply_text(id);
		assert_true(
			text[0] >= '2' && text[0] <= '5' && is_digit(text[1]) && is_digit(text[2]));
		assert_int_equal(text[3], ' ');
		assert_true(strlen(text) < 100);
	}
}

static void every_reply_but_three_has_an_enhanced_status_code(void **state)
{
	/* RFC 2034 4: not the greeting, not HELO and EHLO; and 3yz has no class. */
	for (int id = REPLY_NONE + 1; id < REPLY_COUNT; id++)
		if (id != REPLY_GREETING && id != REPLY_HELO && id != REPLY_SEND_DATA)
			assert_true(has_enhanced_code(reply_text(id)));
}

static void arguments_stand_where_the_dollar_was(void **state)
{
	char to[REPLY_BYTES_MAX + 1];
	size_t n = reply_format(to, REPLY_TOO_MANY_HANDSHAKES, BYTES_LITERAL("mx.example.test"),
		BYTES_LITERAL("192.0.2.1"));
	assert_string_equal(to,
		"421 4.7.0 mx.example.test Error: too many new TLS sessions from 192.0.2.1\r\n");
	assert_int_equal(n, strlen(to));
}

static void an_argument_cannot_end_the_line(void **state)
{
	char to[REPLY_BYTES_MAX + 1];
	reply_format(to, REPLY_RELAY_DENIED, BYTES_LITERAL("a\r\n250 b\0c\xff$%n"), BYTES_NONE);
	assert_string_equal(to, "554 5.7.1 <a??250 b?c?$%n>: Relay access denied\r\n");
}

static void a_long_argument_is_cut_and_the_line_still_ends(void **state)
{
	char to[REPLY_BYTES_MAX + 1];
	uint8_t long_argument[2000];
	memset(long_argument, 'a', sizeof long_argument);
	size_t n = reply_format(
		to, REPLY_RELAY_DENIED, bytes_of(long_argument, sizeof long_argument), BYTES_NONE);
	assert_int_equal(n, REPLY_BYTES_MAX);
	assert_string_equal(to + n - 3, "a\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reply_has_a_code_and_text_and_fits_a_line),
		cmocka_unit_test(every_reply_but_three_has_an_enhanced_status_code),
		cmocka_unit_test(arguments_stand_where_the_dollar_was),
		cmocka_unit_test(an_argument_cannot_end_the_line),
		cmocka_unit_test(a_long_argument_is_cut_and_the_line_still_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
