// SPDX-License-Identifier: Apache-2.0
#include "smtp/parse/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void a_line_is_verb_and_arguments(void **state)
{
	static const struct {
		const char *line, *verb, *args;
	} cases[] = {
		{"",			      "",	 ""			   },
		{"NOOP",			  "NOOP", ""			   },
		{"NOOP \t ",			     "NOOP", ""		       },
		{"MAIL FROM:<a@b.test> SIZE=1  ", "MAIL", "FROM:<a@b.test> SIZE=1"},
		{"MAIL   FROM:<>",		   "MAIL", "FROM:<>"		    },
		{" NOOP",			  "",     "NOOP"		    },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct command_line c;
		assert_true(command_parse(bytes_of_string(cases[i].line), &c));
		assert_true(bytes_equal(c.verb, bytes_of_string(cases[i].verb)));
		assert_true(bytes_equal(c.args, bytes_of_string(cases[i].args)));
	}
}

static void control_characters_spoil_a_line(void **state)
{
	struct command_line c;
	for (int byte = 0; byte < 256; byte++) {
		char line[] = "NOOP x y";
		line[5] = (char)byte;
		bool is_control = byte < ' ' || byte == 127;
		assert_int_equal(command_parse(bytes_of(line, 8), &c), !is_control);
	}
}

static void parameters_come_one_by_one(void **state)
{
	struct bytes rest = BYTES_LITERAL("SIZE=10  smtputf8 X-1=a;b");
	struct command_parameter p;
	assert_int_equal(command_parameter(&rest, &p), 1);
	assert_true(bytes_equal(p.keyword, BYTES_LITERAL("SIZE")));
	assert_true(bytes_equal(p.value, BYTES_LITERAL("10")));
	assert_int_equal(command_parameter(&rest, &p), 1);
	assert_true(bytes_equal(p.keyword, BYTES_LITERAL("smtputf8")));
	assert_false(p.has_value);
	assert_int_equal(command_parameter(&rest, &p), 1);
	assert_true(bytes_equal(p.value, BYTES_LITERAL("a;b")));
	assert_int_equal(command_parameter(&rest, &p), 0);
}

static void what_is_no_parameter_is_told(void **state)
{
	static const char *const bad[] = {
		"=", "=1", "A=", "A==", "A=1=2", "-A=1", "A_B=1", "A<=1", "\xc3\xa4=1"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct bytes rest = bytes_of_string(bad[i]);
		struct command_parameter p;
		assert_int_equal(command_parameter(&rest, &p), -1);
	}
}

static void numbers_have_one_to_twenty_digits_and_stop_at_64_bits(void **state)
{
	static const struct {
		const char *text;
		bool is_number;
		uint64_t number;
	} cases[] = {
		{"",		      false, 0			     },
		{"0",		      true,  0			     },
		{"00000000000000000012",	 true,  12			 },
		{"000000000000000000012", false, 0			  },
		{"18446744073709551615",	 true,  UINT64_MAX		 },
		{"18446744073709551616",	 true,  UINT64_MAX		 },
		{"99999999999999999999",	 true,  UINT64_MAX		 },
		{"18446744073709551609",	 true,  18446744073709551609ull},
		{"-1",		       false, 0		       },
		{"+1",		       false, 0		       },
		{"1 ",		       false, 0		       },
		{"0x1",			false, 0			},
		{"1e3",			false, 0			},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t n = 0;
		assert_int_equal(
			command_number(bytes_of_string(cases[i].text), &n), cases[i].is_number);
		assert_true(n == cases[i].number);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_verb_and_arguments),
		cmocka_unit_test(control_characters_spoil_a_line),
		cmocka_unit_test(parameters_come_one_by_one),
		cmocka_unit_test(what_is_no_parameter_is_told),
		cmocka_unit_test(numbers_have_one_to_twenty_digits_and_stop_at_64_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
