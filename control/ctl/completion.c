// SPDX-License-Identifier: Apache-2.0
/* control/ctl/completion.c: what may follow on a command line, from the grammar and the documents'
 * table; ids from the daemon, if it answers at once. */
#include "control/ctl/ctl.h"

#include <stdlib.h>

#include "control/ctl/text.h"
#include "control/shm/documents.h"

/* bash cuts words at "=" itself, so the line is cut here at its blanks, and what stands before the
 * last "=" is taken off the answers again. */
int completion_bash(struct ctl *ctl, const struct args *args)
{
	puts("# completion of hikyakuctl for bash: source <(hikyakuctl completion bash)\n"
	     "_hikyakuctl()\n"
	     "{\n"
	     "\tlocal line=${COMP_LINE:0:COMP_POINT} last words\n"
	     "\tread -r -a words <<<\"$line\"\n"
	     "\t[[ $line == *[[:space:]] ]] && words+=(\"\")\n"
	     "\tlast=${words[${#words[@]}-1]}\n"
	     "\twords[${#words[@]}-1]=+$last\n"
	     "\tmapfile -t COMPREPLY < <(\"${words[0]}\" completion words -- \"${words[@]:1}\" "
	     "2>/dev/null)\n"
	     "\t[[ $last == *=* ]] && COMPREPLY=(\"${COMPREPLY[@]#\"${last%%=*}=\"}\")\n"
	     "\t[[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n"
	     "\treturn 0\n"
	     "}\n"
	     "complete -o default -F _hikyakuctl hikyakuctl");
	return EX_OK;
}

/* ---- answers: each once, if it begins as the word does ---- */

struct answers {
	const char *begun;
	char **words;
	size_t count;
};

static void offer(
	struct answers *a, const char *prefix, const char *text, size_t n, const char *suffix)
{
	char *word = text_format("%s%.*s%s", prefix, (int)n, text, suffix);
	bool is_wanted = strncmp(word, a->begun, strlen(a->begun)) == 0;
	for (size_t i = 0; i < a->count && is_wanted; i++)
		is_wanted = strcmp(a->words[i], word) != 0;
	char **words = is_wanted ? reallocarray(a->words, a->count + 1, sizeof *words) : NULL;
	if (words == NULL) {
		free(word);
		return;
	}
	a->words = words;
	a->words[a->count++] = word;
}

static void offer_list(
	struct answers *a, const char *prefix, const char *list, size_t n, char separator)
{
	for (const char *at = list, *end = list + n; at < end; at++) {
		const char *stop = memchr(at, separator, (size_t)(end - at));
		size_t length = (size_t)((stop == NULL ? end : stop) - at);
		if (length != 1 || *at != '-')
			offer(a, prefix, at, length, "");
		at += length;
	}
}

/* ---- ids ---- */

static void offer_ids(const struct ctl *ctl, struct answers *a, const char *prefix,
	const char *path, const char *list, const char *id)
{
	struct ctl quick = *ctl;
	struct url url;
	struct reply reply;
	size_t index, count;
	yyjson_val *one;
	quick.timeout_seconds = 2;
	url_init(&url, path);
	if (api_call(&quick, "GET", &url, BYTES_NONE, &reply) == EX_OK)
		yyjson_arr_foreach(yyjson_obj_get(reply.root, list), index, count, one)
		{
			const char *name = ctl_string(one, id);
			offer(a, prefix, name, strlen(name), "");
		}
	reply_fini(&reply);
}

static enum documents_kind kind_of(const char *const *words)
{
	return strcmp(words[0], "profile") == 0	 ? DOC_PROFILE
		: strcmp(words[0], "route") == 0 ? DOC_ROUTE
		: strcmp(words[1], "out") == 0	 ? DOC_OUT_RULE
						 : DOC_IN_RULE;
}

static void offer_documents(
	const struct ctl *ctl, struct answers *a, const char *prefix, enum documents_kind kind)
{
	char *path = text_format("/v1/documents/%ss", documents_kind_name(kind));
	offer_ids(ctl, a, prefix, path, "documents", "id");
	free(path);
}

static void offer_value(
	const struct ctl *ctl, struct answers *a, const char *grammar, const char *const *words)
{
	bool is_new = strstr(grammar, " add ") != NULL || strstr(grammar, " create ") != NULL;
	if (is_new || strstr(grammar, " ID") == NULL)
		return;
	if (strncmp(grammar, "cert ", 5) == 0)
		offer_ids(ctl, a, "", "/v1/certs", "certs", "id");
	else if (strncmp(grammar, "queue ", 6) == 0)
		offer_ids(ctl, a, "", "/v1/queue", "items", "queue_id");
	else
		offer_documents(ctl, a, "", kind_of(words));
}

/* ---- fields ---- */

static void offer_fields(const struct ctl *ctl, struct answers *a, const char *const *words)
{
	size_t count;
	const struct documents_field *fields = documents_fields(kind_of(words), &count);
	for (size_t i = 0; i < count; i++) {
		char *prefix = text_format("%s=", fields[i].name);
		bool is_begun = strncmp(a->begun, prefix, strlen(prefix)) == 0;
		if (!is_begun && fields[i].type != DOC_ID)
			offer(a, "", prefix, strlen(prefix), "");
		else if (is_begun && fields[i].type == DOC_CHOICE)
			offer_list(a, prefix, fields[i].choices, strlen(fields[i].choices), ' ');
		else if (is_begun && fields[i].type == DOC_BOOL)
			offer_list(a, prefix, "true false", strlen("true false"), ' ');
		else if (is_begun && strcmp(fields[i].name, "profile") == 0)
			offer_documents(ctl, a, prefix, DOC_PROFILE);
		free(prefix);
	}
}

static void offer_key(
	const struct ctl *ctl, struct answers *a, const struct token *t, const char *const *words)
{
	char *prefix = text_format("%.*s=", (int)t->text_n, t->text);
	if (strncmp(a->begun, prefix, strlen(prefix)) != 0)
		offer(a, "", prefix, strlen(prefix), "");
	else if (strcmp(prefix, "before=") == 0)
		offer_documents(ctl, a, prefix, kind_of(words));
	else if (strcmp(prefix, "state=") == 0)
		offer_list(a, prefix, "routing ready loading active waiting held",
			strlen("routing ready loading active waiting held"), ' ');
	free(prefix);
}

/* ---- one command ---- */

static bool takes(const struct token *t, const char *word)
{
	if (t->kind == TOKEN_WORD)
		return strlen(word) == t->text_n && memcmp(word, t->text, t->text_n) == 0;
	for (const char *at = t->text, *end = at + t->text_n; t->kind == TOKEN_CHOICE && at < end;
		at++) {
		size_t n = strcspn(at, "|)");
		if (strlen(word) == n && memcmp(word, at, n) == 0)
			return true;
		at += n;
	}
	return t->kind == TOKEN_VALUE || (t->kind == TOKEN_FIELDS && strchr(word, '=') != NULL);
}

/* The place in the grammar behind `count` words; false: they do not fit. Keys and options may stand
 * anywhere. */
static bool follow(const struct token *tokens, unsigned n, unsigned count, const char *const *words,
	unsigned *at)
{
	*at = 0;
	for (unsigned w = 0; w < count; w++) {
		while (*at < n &&
			(tokens[*at].kind == TOKEN_KEY || tokens[*at].kind == TOKEN_OPTION))
			++*at;
		bool is_free = words[w][0] == '-' || (strchr(words[w], '=') != NULL && *at > 0);
		if (is_free && (*at == n || tokens[*at].kind != TOKEN_FIELDS))
			continue;
		if (*at == n || !takes(&tokens[*at], words[w]))
			return false;
		*at += !tokens[*at].is_many;
	}
	return true;
}

static void offer_command(const struct ctl *ctl, struct answers *a, const char *grammar,
	unsigned count, const char *const *words)
{
	struct token tokens[TOKENS_MAX];
	unsigned n = grammar_tokens(grammar, tokens), at;
	if (!follow(tokens, n, count, words, &at))
		return;
	bool is_word_next =
		at < n && (tokens[at].kind == TOKEN_WORD || tokens[at].kind == TOKEN_CHOICE);
	if (is_word_next) {
		offer_list(a, "", tokens[at].text, tokens[at].text_n, '|');
		return;
	}
	if (at < n && tokens[at].kind == TOKEN_FIELDS)
		offer_fields(ctl, a, words);
	else if (at < n && tokens[at].kind == TOKEN_VALUE && a->begun[0] != '-')
		offer_value(ctl, a, grammar, words);
	for (unsigned i = 0; i < n; i++)
		if (tokens[i].kind == TOKEN_KEY)
			offer_key(ctl, a, &tokens[i], words);
		else if (tokens[i].kind == TOKEN_OPTION && a->begun[0] == '-')
			offer(a, "", tokens[i].text, tokens[i].text_n, "");
}

int completion_words(struct ctl *ctl, const struct args *args)
{
	unsigned count = args->value_count == 0 ? 0 : args->value_count - 1;
	const char *begun = args->value_count == 0 ? "" : args->values[count];
	struct answers a = {.begun = begun + (begun[0] == '+')};
	for (size_t i = 0; i < command_count; i++)
		if (commands[i].run != document_refuse)
			offer_command(ctl, &a, commands[i].grammar, count, args->values);
	for (size_t i = 0; i < a.count; i++) {
		text_put(stdout, bytes_of_string(a.words[i]), TEXT_ONE_LINE);
		fputc('\n', stdout);
		free(a.words[i]);
	}
	free(a.words);
	return EX_OK;
}
