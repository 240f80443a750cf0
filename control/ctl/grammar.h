// SPDX-License-Identifier: Apache-2.0
/* control/ctl/grammar.h: a command is a grammar string; this reads it, and reads what was typed by it.
 *
 *   word            itself                    (in|out)        one of the words; an argument
 *   NAME            an argument               [NAME]          it may be left out
 *   NAME...         one argument or more      [NAME...]       none or more
 *   FIELD=VALUE...  fields of a document      [FIELD=VALUE...]
 *   key=NAME        an argument with a name, anywhere after the words; [key=NAME] it may be left out
 *   [--flag]        an option                 [--option NAME] an option with a value; both anywhere
 *
 * Nothing else of this program knows how a command line is put together: parsing, suggestions,
 * help, the manual and the completion all read these strings. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum token_kind {
	TOKEN_WORD,
	TOKEN_CHOICE,
	TOKEN_VALUE,
	TOKEN_FIELDS,
	TOKEN_KEY,
	TOKEN_OPTION,
};

/* `text` is the word, the choices, the value's name, the key or the option's name with its dashes;
 * `value` the name of the value of a key or an option, empty for a flag. Both point into the
 * grammar string. */
struct token {
	enum token_kind kind;
	bool is_optional, is_many;
	const char *text, *value;
	size_t text_n, value_n;
};
#define TOKENS_MAX 16

/* The tokens of a grammar string, which is ours and correct (a test reads them all). */
unsigned grammar_tokens(const char *grammar, struct token tokens[TOKENS_MAX]);

struct ctl;
struct args;

struct command {
	const char *grammar;
	int (*run)(struct ctl *ctl, const struct args *args);
	const char *sentence;
	const char *more; /* further text of `help COMMAND`, or NULL */
};
extern const struct command commands[];
extern const size_t command_count;

struct named_arg {
	const char *name, *value; /* "--id" or "domain"; "" for a flag */
	size_t name_n;
};

/* A command line that fits `command`. The texts are those of main's argv. */
struct args {
	const struct command *command;
	const char **values; /* of choices and values, in order */
	const char **fields; /* "key=value" */
	struct named_arg *named;
	unsigned value_count, field_count, named_count;
};

/* Reads a command line (without the program's name; options for the program itself are taken out
 * before it). false: what is wrong went to `errors`, in lines. Freed by args_fini() in both cases. */
bool args_read(struct args *args, unsigned count, const char *const *words, FILE *errors);
void args_fini(struct args *args);
/* NULL: not given. */
const char *args_value(const struct args *args, unsigned index);
/* By "--id" or "domain"; NULL: not given, "" for a flag that is. */
const char *args_named(const struct args *args, const char *name);

/* Whether an option of some command takes a value: 1, 0 or -1 if no command has it. */
int grammar_option_arity(const char *option, size_t n);
/* Whether the command begins with these words (choices count as any of theirs). */
bool grammar_begins_with(const struct command *command, unsigned count, const char *const *words);
/* The nearest of `names` to what was typed, or NULL. */
const char *grammar_nearest(const char *typed, const char *const *names, size_t count);
