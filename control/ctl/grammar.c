// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/grammar.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "control/ctl/text.h"
#include "control/nearest.h"

/* ---- the grammar strings ---- */

static struct token name_of_value(struct token t)
{
	const char *three_dots = t.text_n > 3 ? t.text + t.text_n - 3 : NULL;
	if (three_dots != NULL && memcmp(three_dots, "...", 3) == 0) {
		t.is_many = true;
		t.text_n -= 3;
	}
	const char *equals = memchr(t.text, '=', t.text_n), *blank = memchr(t.text, ' ', t.text_n);
	const char *cut = t.text[0] == '-' ? blank : equals;
	if (t.text[0] == '-')
		t.kind = TOKEN_OPTION;
	else if (equals != NULL)
		t.kind = t.text[0] >= 'A' && t.text[0] <= 'Z' ? TOKEN_FIELDS : TOKEN_KEY;
	else
		t.kind = t.text[0] >= 'A' && t.text[0] <= 'Z' ? TOKEN_VALUE : TOKEN_WORD;
	t.value = "";
	if (cut != NULL) {
		t.value = cut + 1;
		t.value_n = t.text_n - (size_t)(cut + 1 - t.text);
		t.text_n = (size_t)(cut - t.text);
	}
	return t;
}

unsigned grammar_tokens(const char *grammar, struct token tokens[TOKENS_MAX])
{
	unsigned n = 0;
	for (const char *at = grammar; *at != '\0'; at += *at == ' ') {
		char open = *at, close = open == '[' ? ']' : open == '(' ? ')' : ' ';
		at += close != ' ';
		struct token t = {.text = at, .text_n = (size_t)(strchrnul(at, close) - at)};
		at += t.text_n + (close != ' ');
		t.is_optional = open == '[';
		if (open == '(') {
			t.kind = TOKEN_CHOICE;
			t.value = "";
		} else {
			t = name_of_value(t);
		}
		assert(n < TOKENS_MAX);
		tokens[n++] = t;
	}
	return n;
}

static bool is_text(const char *text, size_t n, const char *word)
{
	return strlen(word) == n && memcmp(text, word, n) == 0;
}

static bool is_one_of(const struct token *choice, const char *word)
{
	for (const char *at = choice->text, *end = at + choice->text_n; at < end; at++) {
		const char *bar = memchr(at, '|', (size_t)(end - at));
		size_t n = (size_t)((bar == NULL ? end : bar) - at);
		if (is_text(at, n, word))
			return true;
		at += n;
	}
	return false;
}

static bool is_positional(const struct token *t)
{
	return t->kind != TOKEN_KEY && t->kind != TOKEN_OPTION;
}

int grammar_option_arity(const char *option, size_t n)
{
	for (size_t c = 0; c < command_count; c++) {
		struct token tokens[TOKENS_MAX];
		unsigned count = grammar_tokens(commands[c].grammar, tokens);
		for (unsigned i = 0; i < count; i++)
			if (tokens[i].kind == TOKEN_OPTION && tokens[i].text_n == n &&
				memcmp(tokens[i].text, option, n) == 0)
				return tokens[i].value_n != 0;
	}
	return -1;
}

bool grammar_begins_with(const struct command *command, unsigned count, const char *const *words)
{
	struct token tokens[TOKENS_MAX];
	unsigned n = grammar_tokens(command->grammar, tokens), w = 0;
	for (unsigned i = 0; i < n && w < count; i++) {
		if (tokens[i].kind == TOKEN_WORD &&
			is_text(tokens[i].text, tokens[i].text_n, words[w]))
			w++;
		else if (tokens[i].kind == TOKEN_CHOICE && is_one_of(&tokens[i], words[w]))
			w++;
		else if (tokens[i].kind != TOKEN_CHOICE) /* `help rule add` is good enough */
			return false;
	}
	return w == count;
}

const char *grammar_nearest(const char *typed, const char *const *names, size_t count)
{
	const char *best = NULL;
	unsigned least = nearest_limit(typed) + 1;
	for (size_t i = 0; i < count; i++) {
		unsigned distance = nearest_distance(typed, names[i]);
		if (distance < least) {
			least = distance;
			best = names[i];
		}
	}
	return best;
}

/* ---- one command line against one grammar ---- */

enum verdict {
	FITS,
	WRONG_WORD, /* another word stands in the grammar */
	INCOMPLETE, /* the line ends before the grammar */
	TOO_MANY,
	UNKNOWN_KEY,
	TWICE,	     /* a key */
	NOT_A_FIELD, /* no "=" */
	EMPTY,
};

struct attempt {
	enum verdict verdict;
	unsigned consumed; /* words, up to the one that does not fit */
	struct token tokens[TOKENS_MAX];
	unsigned count, at; /* the token that was expected, if any */
};

static const struct token *find_key(const struct attempt *a, const char *word, size_t n)
{
	for (unsigned i = 0; i < a->count; i++)
		if (a->tokens[i].kind == TOKEN_KEY && a->tokens[i].text_n == n &&
			memcmp(a->tokens[i].text, word, n) == 0)
			return &a->tokens[i];
	return NULL;
}

static bool has_kind(const struct attempt *a, enum token_kind kind)
{
	for (unsigned i = 0; i < a->count; i++)
		if (a->tokens[i].kind == kind)
			return true;
	return false;
}

static size_t key_length(const char *word)
{
	size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_.");
	return n != 0 && word[n] == '=' ? n : 0;
}

static bool is_named(const struct args *args, const char *name, size_t n)
{
	for (unsigned i = 0; i < args->named_count; i++)
		if (args->named[i].name_n == n && memcmp(args->named[i].name, name, n) == 0)
			return true;
	return false;
}

/* A "key=value" behind the words: FITS if it was taken, WRONG_WORD if it is none of our keys'
 * matter. */
static enum verdict take_key(struct attempt *a, struct args *args, const char *word)
{
	size_t n = key_length(word);
	const struct token *key = n == 0 ? NULL : find_key(a, word, n);
	if (key != NULL && is_named(args, word, n))
		return TWICE;
	if (key != NULL) {
		args->named[args->named_count++] = (struct named_arg){word, word + n + 1, n};
		return FITS;
	}
	bool is_a_mistake = n != 0 && has_kind(a, TOKEN_KEY) && !has_kind(a, TOKEN_FIELDS);
	return is_a_mistake ? UNKNOWN_KEY : WRONG_WORD;
}

static enum verdict take_positional(struct args *args, const struct token *t, const char *word)
{
	switch (t->kind) {
	case TOKEN_WORD: return is_text(t->text, t->text_n, word) ? FITS : WRONG_WORD;
	case TOKEN_CHOICE:
		if (!is_one_of(t, word))
			return WRONG_WORD;
		args->values[args->value_count++] = word;
		return FITS;
	case TOKEN_VALUE:
		args->values[args->value_count++] = word;
		return word[0] == '\0' ? EMPTY : FITS;
	case TOKEN_FIELDS:
		args->fields[args->field_count++] = word;
		return strchr(word, '=') == NULL ? NOT_A_FIELD : FITS;
	case TOKEN_KEY:
	case TOKEN_OPTION: break;
	}
	return WRONG_WORD;
}

static void skip_to_positional(struct attempt *a)
{
	while (a->at < a->count && !is_positional(&a->tokens[a->at]))
		a->at++;
}

/* The first token that must still come, or `count`. */
static unsigned still_missing(const struct attempt *a, const struct args *args, bool has_one)
{
	for (unsigned i = 0; i < a->count; i++) {
		const struct token *t = &a->tokens[i];
		if (t->kind == TOKEN_KEY && !t->is_optional && !is_named(args, t->text, t->text_n))
			return i;
		if (is_positional(t) && i >= a->at && !t->is_optional && !(i == a->at && has_one))
			return i;
	}
	return a->count;
}

static void try_command(
	struct attempt *a, struct args *args, unsigned count, const char *const *words)
{
	bool has_one = false, is_past_words = false; /* has_one: of a token that takes many */
	args->value_count = args->field_count = args->named_count = 0;
	a->at = a->consumed = 0;
	a->verdict = FITS;
	for (; a->consumed < count; a->consumed++) {
		skip_to_positional(a);
		const struct token *t = a->at < a->count ? &a->tokens[a->at] : NULL;
		is_past_words = t == NULL || (t->kind != TOKEN_WORD && t->kind != TOKEN_CHOICE);
		enum verdict v = is_past_words ? take_key(a, args, words[a->consumed]) : WRONG_WORD;
		if (v == WRONG_WORD)
			v = t == NULL ? TOO_MANY : take_positional(args, t, words[a->consumed]);
		else if (v == FITS)
			continue;
		if (v != FITS) {
			a->verdict = v;
			return;
		}
		has_one = t->is_many;
		a->at += !t->is_many;
	}
	skip_to_positional(a);
	a->at = still_missing(a, args, has_one);
	if (a->at < a->count)
		a->verdict = INCOMPLETE;
}

/* ---- what is wrong, in words ---- */

struct expected {
	const char *names[64];
	size_t count;
};

static void expect(struct expected *e, const char *text, size_t n)
{
	for (size_t i = 0; i < e->count; i++)
		if (is_text(text, n, e->names[i]))
			return;
	if (e->count < sizeof e->names / sizeof *e->names)
		e->names[e->count++] = text_format("%.*s", (int)n, text);
}

static void expect_token(struct expected *e, const struct token *t)
{
	size_t value = t->value_n == 0 ? 0 : 1 + t->value_n;
	if (t->kind != TOKEN_CHOICE) {
		expect(e, t->text, t->text_n + value);
		return;
	}
	for (const char *at = t->text, *end = at + t->text_n; at < end; at++) {
		size_t n = strcspn(at, "|)");
		expect(e, at, n);
		at += n;
	}
}

static void free_expected(struct expected *e)
{
	for (size_t i = 0; i < e->count; i++)
		free((void *)(uintptr_t)e->names[i]);
}

static void say_expected(const struct expected *e, FILE *errors)
{
	for (size_t i = 0; i < e->count; i++)
		fprintf(errors, "%s%s",
			i == 0			    ? ""
				: i + 1 == e->count ? " or "
						    : ", ",
			e->names[i]);
}

static void say_words(unsigned count, const char *const *words, FILE *errors)
{
	for (unsigned i = 0; i < count; i++) {
		fputc(i == 0 ? '\'' : ' ', errors);
		text_put(errors, bytes_of_string(words[i]), TEXT_ONE_LINE);
	}
	fputs("'", errors);
}

static void say_unknown(const char *word, unsigned before, const char *const *words,
	const struct expected *e, FILE *errors)
{
	const char *near = grammar_nearest(word, e->names, e->count);
	fputs("hikyakuctl: ", errors);
	say_words(1, &word, errors);
	fputs(before == 0 ? " is no command" : " does not go after ", errors);
	if (before != 0)
		say_words(before, words, errors);
	if (near != NULL) {
		fprintf(errors, "; did you mean '%s'?\n", near);
		return;
	}
	fputs("; expected ", errors);
	say_expected(e, errors);
	fputc('\n', errors);
}

static void say_key(const struct attempt *a, const char *word, FILE *errors)
{
	struct expected keys = {};
	char *typed = text_format("%.*s", (int)key_length(word), word);
	for (unsigned i = 0; i < a->count; i++)
		if (a->tokens[i].kind == TOKEN_KEY)
			expect(&keys, a->tokens[i].text, a->tokens[i].text_n);
	const char *near = grammar_nearest(typed, keys.names, keys.count);
	fprintf(errors, "hikyakuctl: '%s=' is not known here; ", typed);
	if (near != NULL) {
		fprintf(errors, "did you mean '%s='?\n", near);
	} else {
		fputs("expected ", errors);
		say_expected(&keys, errors);
		fputc('\n', errors);
	}
	free(typed);
	free_expected(&keys);
}

static void say_verdict(const struct attempt *a, unsigned count, const char *const *words,
	const struct expected *e, FILE *errors)
{
	const char *word = a->consumed < count ? words[a->consumed] : "";
	switch (a->verdict) {
	case FITS: break;
	case WRONG_WORD: say_unknown(word, a->consumed, words, e, errors); break;
	case UNKNOWN_KEY: say_key(a, word, errors); break;
	case INCOMPLETE:
		fputs("hikyakuctl: ", errors);
		say_words(count, words, errors);
		fputs(" is not complete: expected ", errors);
		say_expected(e, errors);
		fputc('\n', errors);
		break;
	case TOO_MANY:
	case TWICE:
	case NOT_A_FIELD:
	case EMPTY:
		fputs("hikyakuctl: ", errors);
		say_words(1, &word, errors);
		fputs(a->verdict == TOO_MANY	      ? " is more than the command takes\n"
				: a->verdict == TWICE ? " is given a second time\n"
				: a->verdict == EMPTY ? ": expected a value, found an empty one\n"
						      : ": expected FIELD=VALUE\n",
			errors);
		break;
	}
}

/* The commands that fit as far as the furthest do, and what they expect there. */
static void explain(struct args *args, unsigned count, const char *const *words, unsigned furthest,
	FILE *errors)
{
	struct expected e = {};
	struct attempt first = {}, a;
	const struct command *usages[3];
	unsigned usage_count = 0;
	for (size_t c = 0; c < command_count; c++) {
		a.count = grammar_tokens(commands[c].grammar, a.tokens);
		try_command(&a, args, count, words);
		if (a.consumed < furthest)
			continue;
		if (first.count == 0 || (first.verdict == WRONG_WORD && a.verdict != WRONG_WORD))
			first = a;
		if (a.at < a.count)
			expect_token(&e, &a.tokens[a.at]);
		if (usage_count < 3)
			usages[usage_count] = &commands[c];
		usage_count++;
	}
	say_verdict(&first, count, words, &e, errors);
	free_expected(&e);
	for (unsigned i = 0; i < usage_count && usage_count <= 3; i++)
		fprintf(errors, "usage: hikyakuctl %s\n", usages[i]->grammar);
	fputs("`hikyakuctl help", errors);
	if (furthest != 0 && count != 0)
		fprintf(errors, " %s", words[0]);
	fputs("` says more.\n", errors);
}

/* ---- options ---- */

struct line { /* what was typed, options apart */
	const char **words;
	struct named_arg *options;
	unsigned word_count, option_count;
};

static void say_unknown_option(const char *option, size_t n, FILE *errors)
{
	struct expected all = {};
	char *typed = text_format("%.*s", (int)n, option), *safe = text_safe(typed);
	for (size_t c = 0; c < command_count; c++) {
		struct token tokens[TOKENS_MAX];
		unsigned count = grammar_tokens(commands[c].grammar, tokens);
		for (unsigned i = 0; i < count; i++)
			if (tokens[i].kind == TOKEN_OPTION)
				expect(&all, tokens[i].text, tokens[i].text_n);
	}
	static const char *const of_all[] = {
		"--json", "--quiet", "--socket", "--help", "--version"};
	for (size_t i = 0; i < sizeof of_all / sizeof *of_all; i++)
		expect(&all, of_all[i], strlen(of_all[i]));
	const char *near = grammar_nearest(typed, all.names, all.count);
	fprintf(errors, "hikyakuctl: there is no option %s", safe);
	if (near != NULL)
		fprintf(errors, "; did you mean %s?\n", near);
	else
		fprintf(errors, "; `hikyakuctl help` lists them\n");
	free(typed);
	free(safe);
	free_expected(&all);
}

static bool take_option(
	struct line *line, unsigned *i, unsigned count, const char *const *words, FILE *errors)
{
	const char *word = words[*i];
	size_t n = strcspn(word, "=");
	int arity = grammar_option_arity(word, n);
	struct named_arg *option = &line->options[line->option_count++];
	*option = (struct named_arg){word, "", n};
	if (arity < 0) {
		say_unknown_option(word, n, errors);
		return false;
	}
	if (arity == 0 && word[n] == '=') {
		fprintf(errors, "hikyakuctl: %.*s takes no value\n", (int)n, word);
		return false;
	}
	if (arity == 1 && word[n] != '=' && *i + 1 == count) {
		fprintf(errors, "hikyakuctl: %.*s needs a value\n", (int)n, word);
		return false;
	}
	if (arity == 1)
		option->value = word[n] == '=' ? word + n + 1 : words[++*i];
	return true;
}

static bool take_options_out(
	struct line *line, unsigned count, const char *const *words, FILE *errors)
{
	bool is_past_options = false;
	for (unsigned i = 0; i < count; i++) {
		if (is_past_options || words[i][0] != '-' || words[i][1] == '\0')
			line->words[line->word_count++] = words[i];
		else if (strcmp(words[i], "--") == 0)
			is_past_options = true;
		else if (!take_option(line, &i, count, words, errors))
			return false;
	}
	return true;
}

static bool add_options(
	struct args *args, const struct attempt *a, const struct line *line, FILE *errors)
{
	for (unsigned i = 0; i < line->option_count; i++) {
		const struct named_arg *option = &line->options[i];
		bool is_known = false;
		for (unsigned t = 0; t < a->count; t++)
			is_known |= a->tokens[t].kind == TOKEN_OPTION &&
				a->tokens[t].text_n == option->name_n &&
				memcmp(a->tokens[t].text, option->name, option->name_n) == 0;
		if (!is_known || is_named(args, option->name, option->name_n)) {
			fprintf(errors, "hikyakuctl: %.*s %s\nusage: hikyakuctl %s\n",
				(int)option->name_n, option->name,
				is_known ? "is given a second time"
					 : "does not go with this command",
				args->command->grammar);
			return false;
		}
		args->named[args->named_count++] = *option;
	}
	return true;
}

/* ---- all of it ---- */

static void *take(size_t count, size_t size)
{
	void *memory = calloc(count + 1, size);
	if (memory == NULL)
		abort();
	return memory;
}

static bool read_line(struct args *args, const struct line *line, FILE *errors)
{
	struct attempt a;
	unsigned furthest = 0;
	for (size_t c = 0; c < command_count; c++) {
		a.count = grammar_tokens(commands[c].grammar, a.tokens);
		try_command(&a, args, line->word_count, line->words);
		args->command = &commands[c];
		if (a.verdict == FITS)
			return add_options(args, &a, line, errors);
		furthest = a.consumed > furthest ? a.consumed : furthest;
	}
	explain(args, line->word_count, line->words, furthest, errors);
	return false;
}

bool args_read(struct args *args, unsigned count, const char *const *words, FILE *errors)
{
	struct line line = {.words = take(count, sizeof *line.words),
		.options = take(count, sizeof *line.options)};
	*args = (struct args){.values = take(count, sizeof *args->values),
		.fields = take(count, sizeof *args->fields),
		.named = take(2 * count, sizeof *args->named)};
	bool ok = take_options_out(&line, count, words, errors) && read_line(args, &line, errors);
	free(line.words);
	free(line.options);
	return ok;
}

void args_fini(struct args *args)
{
	free(args->values);
	free(args->fields);
	free(args->named);
	*args = (struct args){};
}

const char *args_value(const struct args *args, unsigned index)
{
	return index < args->value_count ? args->values[index] : NULL;
}

const char *args_named(const struct args *args, const char *name)
{
	for (unsigned i = 0; i < args->named_count; i++)
		if (is_text(args->named[i].name, args->named[i].name_n, name))
			return args->named[i].value;
	return NULL;
}
