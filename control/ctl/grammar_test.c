// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/grammar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Reads a line of words; what is wrong with it in `said`. */
struct typed {
	char text[512], *said;
	const char *words[64];
	unsigned count;
	struct args args;
	bool ok;
};

static void type(struct typed *t, const char *line)
{
	size_t n;
	*t = (struct typed){};
	strncpy(t->text, line, sizeof t->text - 1);
	char *rest = t->text;
	for (char *word; (word = strsep(&rest, " ")) != NULL;)
		t->words[t->count++] = word;
	FILE *errors = open_memstream(&t->said, &n);
	t->ok = args_read(&t->args, t->count, t->words, errors);
	fclose(errors);
}

static void done(struct typed *t)
{
	args_fini(&t->args);
	free(t->said);
}

static void every_grammar_string_is_read(void **state)
{
	for (size_t i = 0; i < command_count; i++) {
		struct token tokens[TOKENS_MAX];
		unsigned n = grammar_tokens(commands[i].grammar, tokens);
		assert_true(n > 0);
		assert_int_equal(tokens[0].kind, TOKEN_WORD);
		assert_non_null(commands[i].run);
		assert_int_equal(commands[i].sentence[strlen(commands[i].sentence) - 1], '.');
		for (unsigned k = 0; k < n; k++) {
			assert_true(tokens[k].text_n > 0);
			assert_true(tokens[k].kind != TOKEN_VALUE || tokens[k].text[0] <= 'Z');
		}
	}
}

/* So that an option can be told from its value before the command is known. */
static void an_option_takes_a_value_everywhere_or_nowhere(void **state)
{
	for (size_t i = 0; i < command_count; i++) {
		struct token tokens[TOKENS_MAX];
		unsigned n = grammar_tokens(commands[i].grammar, tokens);
		for (unsigned k = 0; k < n; k++)
			if (tokens[k].kind == TOKEN_OPTION)
				assert_int_equal(
					grammar_option_arity(tokens[k].text, tokens[k].text_n),
					tokens[k].value_n != 0);
	}
}

static void command_lines_fit_their_commands(void **state)
{
	static const struct {
		const char *line, *grammar;
	} cases[] = {
		{"status", "status"},
		{"rule in list", "rule (in|out) list"},
		{"rule out move a last", "rule (in|out) move ID last"},
		{"rule out move a before=b", "rule (in|out) move ID before=RULE"},
		{"profile set x level=may", "profile set ID FIELD=VALUE..."},
		{"cert create web a.example.test b.example.test --days 30",
			"cert create ID [NAME...] [--days N] [--key TYPE] [--default]"},
		{"export", "export [FILE]"},
		{"export a.json", "export [FILE]"},
		{"apply --dry-run -", "apply FILE [--dry-run]"},
		{"log --lines=5", "log [--lines N] [--follow]"},
		{"help", "help [COMMAND...]"},
		{"help rule in add", "help [COMMAND...]"},
		{"explain in sender=a=b",
			"explain in [listener=NAME] [client=ADDRESS] [client_name=NAME] "
			"[sender=ADDRESS] [recipient=ADDRESS]"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct typed t;
		type(&t, cases[i].line);
		if (!t.ok)
			fail_msg("%s: %s", cases[i].line, t.said);
		assert_string_equal(t.args.command->grammar, cases[i].grammar);
		assert_string_equal(t.said, "");
		done(&t);
	}
}

static void arguments_are_told_apart(void **state)
{
	struct typed t;
	type(&t, "rule in add office client=192.0.2.0/24 before=default action=relay");
	assert_true(t.ok);
	assert_int_equal(t.args.value_count, 2);
	assert_string_equal(args_value(&t.args, 0), "in");
	assert_string_equal(args_value(&t.args, 1), "office");
	assert_null(args_value(&t.args, 2));
	assert_int_equal(t.args.field_count, 2);
	assert_string_equal(t.args.fields[0], "client=192.0.2.0/24");
	assert_string_equal(t.args.fields[1], "action=relay");
	assert_string_equal(args_named(&t.args, "before"), "default");
	assert_null(args_named(&t.args, "after"));
	done(&t);
	type(&t, "queue --yes remove domain=dest.example.test 0123 --all 0456");
	assert_true(t.ok);
	assert_int_equal(t.args.value_count, 2);
	assert_string_equal(args_value(&t.args, 1), "0456");
	assert_string_equal(args_named(&t.args, "domain"), "dest.example.test");
	assert_string_equal(args_named(&t.args, "--yes"), "");
	done(&t);
	type(&t, "cert import --id web --default -- --odd-name");
	assert_true(t.ok);
	assert_string_equal(args_value(&t.args, 0), "--odd-name");
	assert_string_equal(args_named(&t.args, "--id"), "web");
	done(&t);
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *line, *said;
	} cases[] = {
		{"stauts", "'stauts' is no command; did you mean 'status'?"},
		{"queue lits", "'lits' does not go after 'queue'; did you mean 'list'?"},
		{"queue frobnicate", "expected list, show, retry, hold, release or remove"},
		{"rule", "'rule' is not complete: expected in or out"},
		{"rule inn list", "did you mean 'in'?"},
		{"rule in move a", "expected before=RULE or last"},
		{"profile set strict", "expected FIELD=VALUE"},
		{"profile set strict level", "'level': expected FIELD=VALUE"},
		{"queue list domian=x", "'domian=' is not known here; did you mean 'domain='?"},
		{"queue list domain=x domain=y", "'domain=y' is given a second time"},
		{"status now", "'now' is more than the command takes"},
		{"queue list --al", "there is no option --al; did you mean --all?"},
		{"queue list --configuration", "there is no option --configuration; `hikyakuctl help` lists them"},
		{"queue list --all", "--all does not go with this command"},
		{"apply x --dry-run --dry-run", "--dry-run is given a second time"},
		{"apply x --dry-run=1", "--dry-run takes no value"},
		{"log --lines", "--lines needs a value"},
		{"queue show ", "expected a value, found an empty one"},
		{"\x1b[2J", "'\\x1b[2J' is no command"},
		{"--\x1b[2J", "no option --\\x1b[2J"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct typed t;
		type(&t, cases[i].line);
		assert_false(t.ok);
		if (strstr(t.said, cases[i].said) == NULL)
			fail_msg("%s: expected \"%s\", said: %s", cases[i].line, cases[i].said,
				t.said);
		done(&t);
	}
}

/* Whatever is typed is read or refused, with something said. */
static void any_prefix_of_a_command_is_taken_or_told(void **state)
{
	for (size_t i = 0; i < command_count; i++)
		for (size_t n = 0; n <= strlen(commands[i].grammar); n++) {
			char line[512];
			struct typed t;
			snprintf(line, sizeof line, "%.*s", (int)n, commands[i].grammar);
			type(&t, line);
			assert_true(t.ok == (t.said[0] == '\0'));
			done(&t);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_grammar_string_is_read),
		cmocka_unit_test(an_option_takes_a_value_everywhere_or_nowhere),
		cmocka_unit_test(command_lines_fit_their_commands),
		cmocka_unit_test(arguments_are_told_apart),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(any_prefix_of_a_command_is_taken_or_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
