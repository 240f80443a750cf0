// SPDX-License-Identifier: Apache-2.0
/* control/ctl/help.c: help and the manual, from the table of commands and that of the documents'
 * fields. */
#include "control/ctl/ctl.h"

#include <stdlib.h>

#include "control/ctl/fields.h"

static const struct {
	const char *option, *sentence;
} for_all[] = {
	{"--json", "The daemon's answer as it is, for programs."},
	{"--quiet", "Nothing is said about a change that went well."},
	{"--socket PATH",
		"The daemon's API socket; else that of HIKYAKU_API, else the default of the "
		"setting paths.api_socket."},
	{"--help", "The help of the command."},
	{"--version", "The version of this program."},
};
#define FOR_ALL (sizeof for_all / sizeof *for_all)

/* The codes that scripts may rely on. */
static const struct {
	int code;
	const char *means;
} codes[] = {
	{EX_OK, "It is done, and in force on all relays that are attached."},
	{EX_USAGE, "The command was not typed as it must be."},
	{EX_DATAERR,
		"What was asked is refused: no such document, a wrong value, a file that is not "
		"what it should be."},
	{EX_NOINPUT, "A file cannot be read."},
	{EX_UNAVAILABLE, "hikyaku-control, or the relay it must ask, does not answer."},
	{EX_SOFTWARE, "hikyaku-control has failed."},
	{EX_CANTCREAT, "A file cannot be written."},
	{EX_TEMPFAIL,
		"It is kept, but a relay has not got it yet; or there was no answer in time."},
	{EX_NOPERM, "The socket or the file may not be opened."},
	{EX_CONFIG, "The configuration file is wrong."},
};
#define CODES (sizeof codes / sizeof *codes)

static bool is_same_group(const struct command *a, const struct command *b)
{
	size_t n = strcspn(a->grammar, " ");
	return strcspn(b->grammar, " ") == n && memcmp(a->grammar, b->grammar, n) == 0;
}

static void overview(void)
{
	puts("hikyakuctl changes and explains the policy, certificates and queue of a running "
	     "Hikyaku node.\n");
	for (size_t i = 0; i < command_count; i++) {
		if (i != 0 && !is_same_group(&commands[i - 1], &commands[i]))
			putchar('\n');
		printf("  %s\n      %s\n", commands[i].grammar, commands[i].sentence);
	}
	puts("\nFor all commands:");
	for (size_t i = 0; i < FOR_ALL; i++)
		printf("  %-15s %s\n", for_all[i].option, for_all[i].sentence);
	puts("\n`hikyakuctl help COMMAND` says more, as `hikyakuctl help profile set`.");
}

/* ---- the fields of a document ---- */

static const struct {
	const char *words;
	enum documents_kind kind;
	const char *title;
} documents[] = {
	{"rule in", DOC_IN_RULE, "Fields of inbound rules"},
	{"rule out", DOC_OUT_RULE, "Fields of outbound rules"},
	{"profile", DOC_PROFILE, "Fields of profiles"},
	{"route", DOC_ROUTE, "Fields of routes"},
};
#define DOCUMENTS (sizeof documents / sizeof *documents)

static const char *default_of(const struct documents_field *field)
{
	return field->otherwise == NULL		      ? "must be given"
		: field->otherwise[0] == '\0'	      ? "if left out: none"
		: strcmp(field->otherwise, "[]") == 0 ? "if left out: none"
						      : NULL;
}

static void print_choices(const char *choices)
{
	for (; *choices != '\0'; choices += *choices == ' ') {
		size_t n = strcspn(choices, " ");
		if (n != 1 || *choices != '-')
			printf(" %.*s", (int)n, choices);
		choices += n;
	}
}

static void print_field(const struct documents_field *field)
{
	if (field->type == DOC_ID)
		return;
	printf("  %s=", field->name);
	if (field->type == DOC_CHOICE)
		print_choices(field->choices);
	else if (field->type == DOC_BOOL)
		fputs(" true false", stdout);
	else if (field->type == DOC_NUMBER)
		printf(" %llu to %llu", (unsigned long long)field->least,
			(unsigned long long)field->most);
	else if (field->type == DOC_NAMES)
		fputs(" NAME,NAME…", stdout);
	else if (field->type == DOC_HOSTS)
		fputs(" HOST[:PORT],smtps://HOST…", stdout);
	else if (fields_is_long(field))
		fputs(" @FILE", stdout);
	if (default_of(field) != NULL)
		printf("  (%s)", default_of(field));
	else
		printf("  (if left out: %s)", field->otherwise);
	printf("\n      %s\n", field->sentence);
}

static bool has_fields(const struct command *command)
{
	return strstr(command->grammar, "FIELD=VALUE") != NULL;
}

/* Of "rule add", "rule in add" and "profile": what stands in the commands that were asked for. */
static void print_fields(unsigned count, const char *const *words)
{
	for (size_t i = 0; i < DOCUMENTS; i++) {
		size_t n = strcspn(documents[i].words, " "), fields;
		const char *second =
			documents[i].words[n] == '\0' ? "" : documents[i].words + n + 1;
		bool is_other = count > 1 && second[0] != '\0' && strcmp(words[1], second) != 0 &&
			(strcmp(words[1], "in") == 0 || strcmp(words[1], "out") == 0);
		if (strlen(words[0]) != n || memcmp(words[0], documents[i].words, n) != 0 ||
			is_other)
			continue;
		const struct documents_field *field = documents_fields(documents[i].kind, &fields);
		printf("\n%s:\n", documents[i].title);
		for (size_t f = 0; f < fields; f++)
			print_field(&field[f]);
	}
}

static int help_of(unsigned count, const char *const *words)
{
	size_t found = 0;
	bool is_with_fields = false;
	for (size_t i = 0; i < command_count; i++) {
		if (!grammar_begins_with(&commands[i], count, words))
			continue;
		printf("%shikyakuctl %s\n      %s\n", found++ == 0 ? "" : "\n", commands[i].grammar,
			commands[i].sentence);
		for (const char *line = commands[i].more; line != NULL && *line != '\0';) {
			size_t n = strcspn(line, "\n");
			printf("      %.*s\n", (int)n, line);
			line += n + (line[n] == '\n');
		}
		is_with_fields |= has_fields(&commands[i]);
	}
	if (is_with_fields)
		print_fields(count, words);
	return found == 0 ? EX_USAGE : EX_OK;
}

int help_show(struct ctl *ctl, const struct args *args)
{
	if (args->value_count == 0) {
		overview();
		return EX_OK;
	}
	/* "help queue remove ID": what is no word of a grammar does not make the help fail. */
	for (unsigned count = args->value_count; count > 0; count--)
		if (help_of(count, args->values) == EX_OK)
			return EX_OK;
	const char *names[64];
	size_t n = 0;
	for (size_t i = 0; i < command_count && n < 64; i++)
		if (i == 0 || !is_same_group(&commands[i - 1], &commands[i]))
			names[n++] =
				strndup(commands[i].grammar, strcspn(commands[i].grammar, " "));
	const char *near = grammar_nearest(args->values[0], names, n);
	int rc = near == NULL
		? ctl_fail(EX_USAGE, "'%s' is no command; `hikyakuctl help` lists them",
			  args->values[0])
		: ctl_fail(EX_USAGE, "'%s' is no command; did you mean '%s'?", args->values[0],
			  near);
	while (n > 0)
		free((void *)(uintptr_t)names[--n]);
	return rc;
}

/* ---- the manual ---- */

int help_reference(struct ctl *ctl, const struct args *args)
{
	puts("# hikyakuctl\n\n"
	     "The operator's tool: it changes and explains the policy, certificates and queue of a "
	     "running node, through\n"
	     "the API of `hikyaku-control` on its unix socket. A change answers when all attached "
	     "relays have it in\n"
	     "force. The fields of rules, profiles and routes are those of "
	     "[documents.md](documents.md), typed as\n"
	     "`FIELD=VALUE`; lists are separated by commas.\n\n"
	     "This page is written by `hikyakuctl reference` from the table in "
	     "`control/ctl/commands.def`.\n\n"
	     "## Commands");
	for (size_t i = 0; i < command_count; i++) {
		if (i == 0 || !is_same_group(&commands[i - 1], &commands[i]))
			printf("\n### %.*s\n", (int)strcspn(commands[i].grammar, " "),
				commands[i].grammar);
		printf("\n`hikyakuctl %s`\\\n%s\n", commands[i].grammar, commands[i].sentence);
		if (commands[i].more != NULL)
			printf("\n```\n%s\n```\n", commands[i].more);
	}
	puts("\n## Options for all commands\n\n| option | |\n|---|---|");
	for (size_t i = 0; i < FOR_ALL; i++)
		printf("| `%s` | %s |\n", for_all[i].option, for_all[i].sentence);
	puts("\n## Exit codes\n\nThose of sysexits.h:\n\n| code | |\n|---|---|");
	for (size_t i = 0; i < CODES; i++)
		printf("| %d | %s |\n", codes[i].code, codes[i].means);
	return EX_OK;
}
