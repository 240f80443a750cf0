// SPDX-License-Identifier: Apache-2.0
#include "control/shm/documents.h"
#include "control/nearest.h"
#include "control/quote.h"

#include <errno.h>
#include <stdlib.h>
#include <yyjson.h>

/* More is a mistake: 64 MiB hold some 300,000 rules. */
#define JSON_BYTES_MAX (64u << 20)

static const struct documents_field fields[] = {
#define F(kind, strct, member, name, type, least, most, choices, otherwise, sentence)              \
	{DOC_##kind, name, DOC_##type, offsetof(struct strct, member), least, most, choices,       \
		otherwise, sentence},
#include "control/shm/documents.def"
#undef F
};
#define FIELD_COUNT (sizeof fields / sizeof *fields)

static const struct {
	const char *name, *list; /* one of them, and the list they stand in */
	size_t size, items, count;
} kinds[DOC_KINDS] = {
#define K(what, strct, member)                                                                     \
	{#what, #what "s", sizeof(struct strct), offsetof(struct documents, member##s),            \
		offsetof(struct documents, member##_count)}
	[DOC_PROFILE] = K(profile, doc_profile, profile),
	[DOC_IN_RULE] = K(in_rule, doc_in_rule, in_rule),
	[DOC_OUT_RULE] = K(out_rule, doc_out_rule, out_rule),
	[DOC_ROUTE] = K(route, doc_route, route),
#undef K
	[DOC_HOST] = {"host", "hosts", sizeof(struct doc_host), 0, 0},
};

const struct documents_field *documents_fields(enum documents_kind kind, size_t *count)
{
	size_t first = 0;
	while (fields[first].kind != kind)
		first++;
	*count = 0;
	while (first + *count < FIELD_COUNT && fields[first + *count].kind == kind)
		++*count;
	return fields + first;
}

const char *documents_kind_name(enum documents_kind kind)
{
	return kinds[kind].name;
}

/* ---- refusing ---- */
int documents_refuse(char error[DOCUMENTS_ERROR_MAX], enum documents_kind kind, const char *id,
	const char *field, const char *found, const char *expected)
{
	char name[QUOTE_BYTES_MAX];
	snprintf(error, DOCUMENTS_ERROR_MAX, "%s %s: %s%sfound %s, expected %s", kinds[kind].name,
		quote_text(id, name), field == NULL ? "" : field, field == NULL ? "" : ": ",
		found, expected);
	return -EINVAL;
}

/* Where we are, for what is said about it. */
struct reader {
	enum documents_kind kind;
	const char *id; /* the document's, or "#3" while it has none */
	char place[32]; /* "hosts[1]." inside a list of a document */
	char number[16];
	struct documents *documents;
	char *error;
};

static const char *describe(yyjson_val *value, char to[QUOTE_BYTES_MAX])
{
	if (yyjson_is_str(value))
		return quote_text(yyjson_get_str(value), to);
	if (yyjson_is_bool(value))
		return yyjson_get_bool(value) ? "true" : "false";
	if (yyjson_is_null(value))
		return "null";
	if (yyjson_is_arr(value))
		return "a list";
	if (yyjson_is_obj(value))
		return "an object";
	if (yyjson_is_uint(value))
		snprintf(to, QUOTE_BYTES_MAX, "%llu", (unsigned long long)yyjson_get_uint(value));
	else if (yyjson_is_sint(value))
		snprintf(to, QUOTE_BYTES_MAX, "%lld", (long long)yyjson_get_sint(value));
	else
		snprintf(to, QUOTE_BYTES_MAX, "%g", yyjson_get_real(value));
	return to;
}

static int refuse_text(
	struct reader *r, const char *field, const char *found, const char *expected)
{
	char path[128];
	snprintf(path, sizeof path, "%s%.80s", r->place, field);
	return documents_refuse(r->error, r->kind, r->id, path, found, expected);
}

static int refuse(struct reader *r, const char *field, yyjson_val *value, const char *expected)
{
	char found[QUOTE_BYTES_MAX];
	return refuse_text(r, field, describe(value, found), expected);
}

/* "a, b or c" of "a b c"; the empty word "-" is told as ''. */
static const char *choices_text(const char *choices, char to[160])
{
	size_t at = 0;
	while (*choices != '\0') {
		size_t n = strcspn(choices, " ");
		bool is_first = at == 0, is_last = choices[n] == '\0', is_empty = *choices == '-';
		at += (size_t)snprintf(to + at, 160 - at, "%s%.*s",
			is_first ? "" : is_last ? " or " : ", ", is_empty ? 2 : (int)n,
			is_empty ? "''" : choices);
		choices += n + !is_last;
	}
	return to;
}

/* The place of `word` among the choices, or -1. */
static int choice_of(const char *choices, const char *word)
{
	for (int i = 0; *choices != '\0'; i++) {
		size_t n = strcspn(choices, " ");
		bool is_empty = n == 1 && *choices == '-';
		if (is_empty ? *word == '\0' : strlen(word) == n && memcmp(word, choices, n) == 0)
			return i;
		choices += n + (choices[n] != '\0');
	}
	return -1;
}

/* ---- one value ---- */
static bool is_id(const char *text)
{
	if (!((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z') ||
		    (text[0] >= '0' && text[0] <= '9')))
		return false;
	return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] ==
		'\0';
}

/* A string without NUL, of at most `most` bytes. */
static int take_string(struct reader *r, const char *field, yyjson_val *value, uint64_t most,
	const char **to)
{
	char expected[64];
	const char *text = yyjson_get_str(value);
	snprintf(expected, sizeof expected, "a text of at most %llu bytes", (unsigned long long)most);
	if (text == NULL || yyjson_get_len(value) > most || strlen(text) != yyjson_get_len(value))
		return refuse(r, field, value, expected);
	*to = text;
	return 0;
}

static int take_id(struct reader *r, const struct documents_field *f, yyjson_val *value, const char **to)
{
	const char *text = yyjson_get_str(value);
	if (text == NULL || strlen(text) != yyjson_get_len(value) || strlen(text) > f->most ||
		!is_id(text))
		return refuse(r, f->name, value,
			"1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit");
	*to = text;
	return 0;
}

static int take_number(struct reader *r, const struct documents_field *f, yyjson_val *value, unsigned *to)
{
	char expected[96];
	if (!yyjson_is_uint(value) || yyjson_get_uint(value) < f->least ||
		yyjson_get_uint(value) > f->most) {
		snprintf(expected, sizeof expected, "a whole number from %llu to %llu",
			(unsigned long long)f->least, (unsigned long long)f->most);
		return refuse(r, f->name, value, expected);
	}
	*to = (unsigned)yyjson_get_uint(value);
	return 0;
}

static int take_choice(struct reader *r, const struct documents_field *f, yyjson_val *value, unsigned *to)
{
	char expected[160];
	const char *text = yyjson_get_str(value);
	int choice = text == NULL ? -1 : choice_of(f->choices, text);
	if (choice < 0)
		return refuse(r, f->name, value, choices_text(f->choices, expected));
	*to = (unsigned)choice;
	return 0;
}

/* A list with room for all of its `what`, of `size` bytes each, in `*items`. */
static int begin_list(struct reader *r, const struct documents_field *f, yyjson_val *value,
	const char *what, size_t size, void **items, yyjson_arr_iter *iter)
{
	char expected[64];
	snprintf(expected, sizeof expected, "a list of at most %llu %s", (unsigned long long)f->most, what);
	if (!yyjson_is_arr(value) || yyjson_arr_size(value) > f->most)
		return refuse(r, f->name, value, expected);
	*items = calloc(yyjson_arr_size(value) + 1, size);
	yyjson_arr_iter_init(value, iter);
	return *items == NULL ? -ENOMEM : 0;
}

static int take_names(struct reader *r, const struct documents_field *f, yyjson_val *value,
	struct doc_names *to)
{
	void *items;
	yyjson_arr_iter iter;
	int error = begin_list(r, f, value, "names", sizeof *to->items, &items, &iter);
	if (error != 0)
		return error;
	to->items = items;
	for (yyjson_val *item; error == 0 && (item = yyjson_arr_iter_next(&iter)) != NULL;) {
		error = take_string(r, f->name, item, 255, &to->items[to->count]);
		to->count += error == 0;
	}
	return error;
}

static int read_object(struct reader *r, enum documents_kind kind, yyjson_val *object, void *to);

static int take_hosts(struct reader *r, const struct documents_field *f, yyjson_val *value,
	struct doc_hosts *to)
{
	void *items;
	yyjson_arr_iter iter;
	int error = begin_list(r, f, value, "hosts", sizeof *to->items, &items, &iter);
	if (error != 0)
		return error;
	to->items = items;
	for (yyjson_val *item; error == 0 && (item = yyjson_arr_iter_next(&iter)) != NULL;) {
		snprintf(r->place, sizeof r->place, "%s[%u]", f->name, to->count);
		error = read_object(r, DOC_HOST, item, &to->items[to->count]);
		to->count += error == 0;
	}
	if (error == 0)
		r->place[0] = '\0';
	return error;
}

static int take(struct reader *r, const struct documents_field *f, yyjson_val *value, void *to)
{
	void *at = (char *)to + f->offset;
	switch (f->type) {
	case DOC_TEXT: return take_string(r, f->name, value, f->most, at);
	case DOC_ID: return take_id(r, f, value, at);
	case DOC_NUMBER: return take_number(r, f, value, at);
	case DOC_CHOICE: return take_choice(r, f, value, at);
	case DOC_NAMES: return take_names(r, f, value, at);
	case DOC_HOSTS: return take_hosts(r, f, value, at);
	case DOC_BOOL:
		if (!yyjson_is_bool(value))
			return refuse(r, f->name, value, "true or false");
		*(bool *)at = yyjson_get_bool(value);
		return 0;
	}
	return -EINVAL;
}

/* What a field is where it is left out. */
static void take_otherwise(const struct documents_field *f, void *to)
{
	void *at = (char *)to + f->offset;
	switch (f->type) {
	case DOC_TEXT:
	case DOC_ID: *(const char **)at = f->otherwise; break;
	case DOC_NUMBER: *(unsigned *)at = (unsigned)strtoul(f->otherwise, NULL, 10); break;
	case DOC_CHOICE: *(unsigned *)at = (unsigned)choice_of(f->choices, f->otherwise); break;
	case DOC_BOOL: *(bool *)at = strcmp(f->otherwise, "true") == 0; break;
	case DOC_NAMES:
	case DOC_HOSTS: break; /* empty */
	}
}

/* ---- one object ---- */
/* A key's text; one with a NUL in it is nothing we know. */
static const char *key_text(yyjson_val *key)
{
	const char *text = yyjson_get_str(key);
	return strlen(text) == yyjson_get_len(key) ? text : "?";
}

static int refuse_unknown(
	struct reader *r, enum documents_kind kind, const char *path, const char *key)
{
	char found[QUOTE_BYTES_MAX], expected[160];
	const char *best = NULL;
	unsigned best_distance = nearest_limit(path) + 1;
	size_t count;
	const struct documents_field *f = documents_fields(kind, &count);
	for (size_t i = 0; i < count; i++) {
		unsigned distance = nearest_distance(path, f[i].name);
		if (distance < best_distance) {
			best_distance = distance;
			best = f[i].name;
		}
	}
	if (best != NULL)
		snprintf(expected, sizeof expected, "a field of a %s (did you mean '%s'?)",
			kinds[kind].name, best);
	else
		snprintf(expected, sizeof expected, "a field of a %s, which '%.40s' is not",
			kinds[kind].name, key);
	char path_text[QUOTE_BYTES_MAX];
	snprintf(path_text, sizeof path_text, "unknown field %s", quote_text(key, found));
	if (r->place[0] == '\0')
		return documents_refuse(r->error, r->kind, r->id, NULL, path_text, expected);
	r->place[strlen(r->place) - 1] = '\0'; /* the dot */
	return documents_refuse(r->error, r->kind, r->id, r->place, path_text, expected);
}

/* Is `path` an object of fields, as "protocol"? */
static bool is_group(const struct documents_field *f, size_t count, const char *path)
{
	size_t n = strlen(path);
	for (size_t i = 0; i < count; i++)
		if (strncmp(f[i].name, path, n) == 0 && f[i].name[n] == '.')
			return true;
	return false;
}

static int read_fields(struct reader *r, enum documents_kind kind, const char *group,
	yyjson_val *object, uint32_t *seen, void *to)
{
	size_t count, i;
	const struct documents_field *f = documents_fields(kind, &count);
	yyjson_obj_iter iter;
	yyjson_val *key;
	yyjson_obj_iter_init(object, &iter);
	while ((key = yyjson_obj_iter_next(&iter)) != NULL) {
		char path[NEAREST_TEXT_MAX];
		yyjson_val *value = yyjson_obj_iter_get_val(key);
		snprintf(path, sizeof path, "%s%s%s", group, *group == '\0' ? "" : ".",
			key_text(key));
		for (i = 0; i < count && strcmp(f[i].name, path) != 0;)
			i++;
		int error;
		if (i < count && (*seen & (1u << i)) != 0)
			return refuse_text(r, path, "it twice", "it once");
		if (i < count)
			error = take(r, &f[i], value, to);
		else if (!is_group(f, count, path))
			error = refuse_unknown(r, kind, path, key_text(key));
		else if (!yyjson_is_obj(value))
			error = refuse(r, path, value, "an object");
		else
			error = read_fields(r, kind, path, value, seen, to);
		if (error != 0)
			return error;
		if (i < count)
			*seen |= 1u << i;
	}
	return 0;
}

static int refuse_missing(struct reader *r, const struct documents_field *f)
{
	char expected[256];
	snprintf(expected, sizeof expected, "a value (%s)", f->sentence);
	return refuse_text(r, f->name, "nothing", expected);
}

static int read_object(struct reader *r, enum documents_kind kind, yyjson_val *object, void *to)
{
	size_t count;
	const struct documents_field *f = documents_fields(kind, &count);
	uint32_t seen = 0;
	if (!yyjson_is_obj(object))
		return refuse(r, kind == DOC_HOST ? "" : "document", object, "an object");
	if (kind == DOC_HOST)
		strcat(r->place, ".");
	for (size_t i = 0; i < count; i++)
		if (f[i].otherwise != NULL)
			take_otherwise(&f[i], to);
	int error = read_fields(r, kind, "", object, &seen, to);
	if (error != 0)
		return error;
	for (size_t i = 0; i < count; i++)
		if (f[i].otherwise == NULL && (seen & (1u << i)) == 0)
			return refuse_missing(r, &f[i]);
	return 0;
}

/* ---- all of them ---- */
static int read_list(struct reader *r, enum documents_kind kind, yyjson_val *list)
{
	char *documents = (char *)r->documents, found[QUOTE_BYTES_MAX];
	uint32_t *count = (uint32_t *)(documents + kinds[kind].count);
	yyjson_val *item;
	yyjson_arr_iter iter;
	if (!yyjson_is_arr(list)) {
		snprintf(r->error, DOCUMENTS_ERROR_MAX, "%s: found %s, expected a list",
			kinds[kind].list, describe(list, found));
		return -EINVAL;
	}
	char *items = calloc(yyjson_arr_size(list) + 1, kinds[kind].size);
	if (items == NULL)
		return -ENOMEM;
	*(char **)(documents + kinds[kind].items) = items;
	yyjson_arr_iter_init(list, &iter);
	while ((item = yyjson_arr_iter_next(&iter)) != NULL) {
		const char *id = yyjson_get_str(yyjson_obj_get(item, "id"));
		snprintf(r->number, sizeof r->number, "#%u", *count + 1);
		r->kind = kind;
		r->id = id != NULL && *id != '\0' ? id : r->number;
		r->place[0] = '\0';
		/* Counted first, so that what it owns is freed also if it is refused. */
		int error = read_object(r, kind, item, items + kinds[kind].size * (*count)++);
		if (error != 0)
			return error;
	}
	return 0;
}

static int read_top(struct reader *r, const char *key, yyjson_val *value)
{
	char found[QUOTE_BYTES_MAX];
	for (enum documents_kind kind = 0; kind < DOC_HOST; kind++) {
		if (strcmp(key, kinds[kind].list) != 0)
			continue;
		if (*(char **)((char *)r->documents + kinds[kind].items) == NULL)
			return read_list(r, kind, value);
		snprintf(r->error, DOCUMENTS_ERROR_MAX, "documents: found '%s' twice, expected it once",
			key);
		return -EINVAL;
	}
	if (strcmp(key, "ca_pem") != 0) {
		snprintf(r->error, DOCUMENTS_ERROR_MAX,
			"documents: found unknown field %s, expected profiles, in_rules, out_rules, "
			"routes or ca_pem",
			quote_text(key, found));
		return -EINVAL;
	}
	r->documents->ca_pem = yyjson_get_str(value);
	if (r->documents->ca_pem != NULL && strlen(r->documents->ca_pem) == yyjson_get_len(value))
		return 0;
	snprintf(r->error, DOCUMENTS_ERROR_MAX, "ca_pem: found %s, expected PEM texts",
		describe(value, found));
	return -EINVAL;
}

static yyjson_doc *parse(struct bytes json, char error[DOCUMENTS_ERROR_MAX])
{
	yyjson_read_err problem;
	unsigned line = 1;
	yyjson_doc *doc = json.n > JSON_BYTES_MAX
		? NULL
		: yyjson_read_opts((char *)(uintptr_t)json.at, json.n, 0, NULL, &problem);
	if (json.n > JSON_BYTES_MAX)
		snprintf(error, DOCUMENTS_ERROR_MAX, "documents: found %zu bytes, expected at most %u",
			json.n, JSON_BYTES_MAX);
	else if (doc == NULL) {
		for (size_t i = 0; i < problem.pos && i < json.n; i++)
			line += json.at[i] == '\n';
		snprintf(error, DOCUMENTS_ERROR_MAX,
			"documents: line %u: found what is not JSON (%s), expected an object", line,
			problem.msg);
	} else if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
		char found[QUOTE_BYTES_MAX];
		snprintf(error, DOCUMENTS_ERROR_MAX, "documents: found %s, expected an object",
			describe(yyjson_doc_get_root(doc), found));
		yyjson_doc_free(doc);
		doc = NULL;
	}
	return doc;
}

int documents_read(struct bytes json, struct documents **documents, char error[DOCUMENTS_ERROR_MAX])
{
	struct reader r = {.error = error};
	yyjson_obj_iter iter;
	yyjson_val *key;
	int failed = 0;
	error[0] = '\0';
	yyjson_doc *doc = parse(json, error);
	if (doc == NULL)
		return -EINVAL;
	r.documents = calloc(1, sizeof *r.documents);
	if (r.documents == NULL) {
		yyjson_doc_free(doc);
		return -ENOMEM;
	}
	r.documents->json = doc;
	r.documents->ca_pem = "";
	yyjson_obj_iter_init(yyjson_doc_get_root(doc), &iter);
	while (failed == 0 && (key = yyjson_obj_iter_next(&iter)) != NULL)
		failed = read_top(&r, key_text(key), yyjson_obj_iter_get_val(key));
	if (failed != 0) {
		documents_free(r.documents);
		return failed;
	}
	*documents = r.documents;
	return 0;
}

void documents_free(struct documents *documents)
{
	if (documents == NULL)
		return;
	for (uint32_t i = 0; i < documents->profile_count; i++)
		free(documents->profiles[i].names.items);
	for (uint32_t i = 0; i < documents->route_count; i++)
		free(documents->routes[i].hosts.items);
	free(documents->profiles);
	free(documents->in_rules);
	free(documents->out_rules);
	free(documents->routes);
	yyjson_doc_free(documents->json);
	free(documents);
}

/* ---- the reference ---- */
static void print_range(const struct documents_field *f, FILE *to)
{
	char choices[160];
	switch (f->type) {
	case DOC_NUMBER:
		fprintf(to, "%llu to %llu", (unsigned long long)f->least, (unsigned long long)f->most);
		break;
	case DOC_CHOICE: fputs(choices_text(f->choices, choices), to); break;
	case DOC_BOOL: fputs("true or false", to); break;
	case DOC_NAMES: fputs("list of texts", to); break;
	case DOC_HOSTS: fputs("list of hosts", to); break;
	case DOC_ID: fputs("name", to); break;
	case DOC_TEXT: fputs("text", to); break;
	}
}

void documents_print_reference(FILE *to)
{
	static const char *const titles[DOC_KINDS] = {"Profiles (`profiles`)",
		"Inbound rules (`in_rules`)", "Outbound rules (`out_rules`)", "Routes (`routes`)",
		"Hosts of a route (`hosts`)"};
	fputs("# Documents of the policy\n\n"
	      "What the store keeps, what `hikyakuctl export` writes and `hikyakuctl apply` reads: one JSON\n"
	      "object with the lists below and `ca_pem`, the roots to trust as PEM texts (empty: the\n"
	      "system's) where a profile has none of its own. All may be left out. Rules are tried in order\n"
	      "and the first that matches counts; after the last one stands a built-in rule `default`,\n"
	      "inbound with the action inbound and the profile `default-in`, outbound with `default-out`.\n"
	      "Both profiles are level may and grade medium unless documents of these names say otherwise.\n\n"
	      "Inbound rules with a sender or recipient belong to the mail stage, the others to the\n"
	      "connection. Domains are compared without case and may be written with A-labels or U-labels.\n\n"
	      "This page is written by `hikyaku-documents-print` from the table in\n"
	      "`control/shm/documents.def`.\n",
		to);
	for (enum documents_kind kind = 0; kind < DOC_KINDS; kind++) {
		size_t count;
		const struct documents_field *f = documents_fields(kind, &count);
		fprintf(to, "\n## %s\n\n| field | value | default | |\n|---|---|---|---|\n", titles[kind]);
		for (size_t i = 0; i < count; i++) {
			fprintf(to, "| `%s` | ", f[i].name);
			print_range(&f[i], to);
			if (f[i].otherwise == NULL)
				fputs(" | required", to);
			else if (f[i].otherwise[0] == '\0')
				fputs(" | empty", to);
			else if (kind == DOC_HOST && f[i].type == DOC_NUMBER)
				fputs(" | 25 or 465", to);
			else
				fprintf(to, " | `%s`", f[i].otherwise);
			fprintf(to, " | %s |\n", f[i].sentence);
		}
	}
}
