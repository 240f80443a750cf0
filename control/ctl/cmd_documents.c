// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_documents.c: rules, profiles and routes, one at a time. */
#include "control/ctl/ctl.h"

#include <stdlib.h>

#include "control/ctl/fields.h"
#include "control/ctl/text.h"

/* ---- which one ---- */

struct target {
	enum documents_kind kind;
	const char *noun, *path, *list; /* "inbound rule", "/v1/documents/in_rules", "in_rules" */
	const char *id;			/* NULL where the command has none */
};

/* "rule in add ID": the choice stands before the id; "profile add ID" */
static struct target target_of(const struct args *args)
{
	static const struct target targets[] = {
		[DOC_PROFILE] = {DOC_PROFILE, "profile", "/v1/documents/profiles", "profiles",
			NULL},
		[DOC_IN_RULE] = {DOC_IN_RULE, "inbound rule", "/v1/documents/in_rules", "in_rules",
			NULL},
		[DOC_OUT_RULE] = {DOC_OUT_RULE, "outbound rule", "/v1/documents/out_rules",
			"out_rules", NULL},
		[DOC_ROUTE] = {DOC_ROUTE, "route", "/v1/documents/routes", "routes", NULL},
	};
	const char *grammar = args->command->grammar;
	bool is_rule = strncmp(grammar, "rule ", 5) == 0;
	enum documents_kind kind = is_rule
		? strcmp(args_value(args, 0), "in") == 0 ? DOC_IN_RULE : DOC_OUT_RULE
		: strncmp(grammar, "profile ", 8) == 0 ? DOC_PROFILE
						       : DOC_ROUTE;
	struct target t = targets[kind];
	t.id = args_value(args, is_rule);
	return t;
}

static void url_of(struct url *url, const struct target *t)
{
	url_init(url, t->path);
	if (t->id != NULL)
		url_segment(url, t->id);
}

/* ---- lists ---- */

/* The fields that are set and have no column, as they would be typed. */
static char *other_fields(
	const struct documents_field *fields, size_t count, const char *shown, yyjson_val *document)
{
	char *all = text_format("%s", "");
	for (size_t i = 0; i < count; i++) {
		char *wanted = text_format(" %s ", fields[i].name);
		bool is_shown = strstr(shown, wanted) != NULL;
		free(wanted);
		if (is_shown || !fields_is_set(&fields[i], document))
			continue;
		char *value = fields_write(&fields[i], document);
		char *longer = text_format(
			"%s%s%s=%s", all, all[0] == '\0' ? "" : " ", fields[i].name, value);
		free(value);
		free(all);
		all = longer;
	}
	return all;
}

static const struct {
	const char *columns, *shown, *others;
	bool is_others_second; /* what a rule matches is read before what it does */
} views[] = {
	[DOC_PROFILE] = {"level grade protocol.lowest", " id level grade protocol.lowest ",
		"FURTHER", false},
	[DOC_IN_RULE] = {"action profile", " id enabled action profile ", "MATCHES", true},
	[DOC_OUT_RULE] = {"profile", " id enabled profile ", "MATCHES", true},
	[DOC_ROUTE] = {"domain inbound via", " id enabled domain inbound via ", "FURTHER", false},
};

static unsigned header_of(
	enum documents_kind kind, char *cells[TABLE_COLUMNS_MAX], char *words, size_t size)
{
	unsigned n = 0;
	cells[n++] = "ID";
	if (views[kind].is_others_second)
		cells[n++] = (char *)(uintptr_t)views[kind].others;
	snprintf(words, size, "%s", views[kind].columns);
	for (char *word, *rest = words; (word = strsep(&rest, " ")) != NULL;)
		cells[n++] = word;
	if (!views[kind].is_others_second)
		cells[n++] = (char *)(uintptr_t)views[kind].others;
	return n;
}

/* "office", "office (off)", "default (built in)" */
static char *name_of(yyjson_val *document)
{
	bool is_off = yyjson_is_false(yyjson_obj_get(document, "enabled"));
	bool is_built_in = yyjson_get_bool(yyjson_obj_get(document, "builtin"));
	return text_format("%s%s", ctl_string(document, "id"),
		is_built_in	 ? " (built in)"
			: is_off ? " (off)"
				 : "");
}

static char *matches_of(const struct documents_field *fields, size_t count,
	enum documents_kind kind, yyjson_val *document)
{
	char *others = other_fields(fields, count, views[kind].shown, document);
	if (others[0] != '\0' || !views[kind].is_others_second)
		return others;
	free(others);
	return text_format("anything");
}

static void add_document(struct table *t, enum documents_kind kind, yyjson_val *document)
{
	char words[128], *cells[TABLE_COLUMNS_MAX];
	size_t count;
	unsigned n = 0;
	const struct documents_field *fields = documents_fields(kind, &count);
	cells[n++] = name_of(document);
	if (views[kind].is_others_second)
		cells[n++] = matches_of(fields, count, kind, document);
	snprintf(words, sizeof words, "%s", views[kind].columns);
	for (char *word, *rest = words; (word = strsep(&rest, " ")) != NULL;)
		cells[n++] = fields_write_or_default(fields_find(kind, word), document);
	if (!views[kind].is_others_second)
		cells[n++] = matches_of(fields, count, kind, document);
	table_row(t, cells);
}

static void capitals(char *text)
{
	for (; *text != '\0'; text++)
		*text -= *text >= 'a' && *text <= 'z' ? 'a' - 'A' : 0;
}

static void print_list(const struct ctl *ctl, const struct target *target, yyjson_val *root)
{
	struct table t;
	char words[128], *header[TABLE_COLUMNS_MAX], *copies[TABLE_COLUMNS_MAX];
	size_t index, count;
	yyjson_val *document;
	unsigned n = header_of(target->kind, header, words, sizeof words);
	table_init(&t, n, NULL);
	for (unsigned i = 0; i < n; i++) {
		copies[i] = text_format("%s", header[i]);
		capitals(copies[i]);
	}
	table_row(&t, copies);
	yyjson_arr_foreach(yyjson_obj_get(root, "documents"), index, count, document)
		add_document(&t, target->kind, document);
	if (count == 0)
		printf("there is no %s\n", target->noun);
	else
		table_print(&t, stdout, ctl->width);
	table_fini(&t);
}

static int get(struct ctl *ctl, const struct args *args,
	void (*print)(const struct ctl *ctl, const struct target *target, yyjson_val *root))
{
	struct target t = target_of(args);
	struct url url;
	struct reply reply;
	url_of(&url, &t);
	int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
	if (rc == EX_OK && ctl->is_json)
		rc = ctl_print_json(reply.root, false, stdout);
	else if (rc == EX_OK)
		print(ctl, &t, reply.root);
	reply_fini(&reply);
	return rc;
}

int document_list(struct ctl *ctl, const struct args *args)
{
	return get(ctl, args, print_list);
}

/* ---- one ---- */

static void print_document(const struct ctl *ctl, const struct target *target, yyjson_val *document)
{
	size_t count;
	const struct documents_field *fields = documents_fields(target->kind, &count);
	if (yyjson_get_bool(yyjson_obj_get(document, "builtin")))
		puts("built in: it stands in no store until something of it is set");
	for (size_t i = 0; i < count; i++) {
		char *value = fields_write_or_default(&fields[i], document);
		bool is_set = fields_is_set(&fields[i], document);
		ctl_fact(fields[i].name,
			text_format("%s%s", value[0] == '\0' ? "-" : value,
				is_set || fields[i].otherwise == NULL ? "" : "  (default)"));
		free(value);
	}
}

int document_show(struct ctl *ctl, const struct args *args)
{
	return get(ctl, args, print_document);
}

/* ---- changes ---- */

static int change(struct ctl *ctl, const char *method, const struct url *url, yyjson_mut_doc *doc)
{
	struct reply reply;
	int rc = doc == NULL ? api_call(ctl, method, url, BYTES_NONE, &reply)
			     : api_send(ctl, method, url, doc, &reply);
	if (rc == EX_OK)
		rc = ctl_report_change(ctl, reply.root);
	reply_fini(&reply);
	return rc;
}

#define FILE_BYTES_MAX (1u << 20)

/* "ca_pem=@FILE" is "ca_pem=" and what is in the file ("-": standard input); other words, an address
 * like "sender=@example.test" among them, stay as they are. From the heap; NULL: the error is told and
 * `*code` set. */
static char *with_file(enum documents_kind kind, const char *word, int *code)
{
	size_t n, name_n = strcspn(word, "=");
	char *name = text_format("%.*s", (int)name_n, word), *text, *whole = NULL;
	const struct documents_field *field = fields_find(kind, name);
	const char *path = strncmp(word + name_n, "=@", 2) == 0 ? word + name_n + 2 : NULL;
	free(name);
	if (path == NULL || field == NULL || !fields_is_long(field))
		return text_format("%s", word);
	*code = ctl_read_file(path, FILE_BYTES_MAX, &text, &n);
	if (*code == EX_OK && strlen(text) != n)
		*code = ctl_fail(EX_DATAERR, "%s: a NUL is in it", path);
	if (*code == EX_OK)
		whole = text_format("%s=%s", field->name, text);
	free(text);
	return whole;
}

static bool read_word(const struct target *t, const char *typed_word, bool is_patch,
	yyjson_mut_doc *doc, int *code)
{
	char error[FIELDS_ERROR_MAX];
	const char *word = with_file(t->kind, typed_word, code);
	bool ok = word != NULL && fields_read(t->kind, &word, 1, is_patch, doc,
		yyjson_mut_doc_get_root(doc), error);
	if (word != NULL && !ok)
		*code = ctl_fail(EX_USAGE, "%s '%s': %s", t->noun, t->id, error);
	free((char *)(uintptr_t)word);
	return ok;
}

/* The typed fields as a document; NULL: the error is told, and `*code` set. */
static yyjson_mut_doc *typed(
	const struct target *t, const struct args *args, bool is_patch, int *code)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	if (!is_patch)
		yyjson_mut_obj_add_str(doc, root, "id", t->id);
	for (unsigned i = 0; i < args->field_count; i++)
		if (!read_word(t, args->fields[i], is_patch, doc, code)) {
			yyjson_mut_doc_free(doc);
			return NULL;
		}
	return doc;
}

/* The built-in rule is always last: before it is at the end. */
static const char *before_of(const struct args *args)
{
	const char *before = args_named(args, "before");
	return before == NULL || strcmp(before, "default") == 0 ? NULL : before;
}

int document_add(struct ctl *ctl, const struct args *args)
{
	struct target t = target_of(args);
	struct url url;
	int code;
	yyjson_mut_doc *doc = typed(&t, args, false, &code);
	if (doc == NULL)
		return code;
	url_init(&url, t.path);
	url_query(&url, "before", before_of(args));
	return change(ctl, "POST", &url, doc);
}

/* The daemon makes a document of a built-in profile when something of it is set. */
int document_set(struct ctl *ctl, const struct args *args)
{
	struct target t = target_of(args);
	struct url url;
	int code;
	yyjson_mut_doc *doc = typed(&t, args, true, &code);
	if (doc == NULL)
		return code;
	url_of(&url, &t);
	return change(ctl, "PATCH", &url, doc);
}

int document_move(struct ctl *ctl, const struct args *args)
{
	struct target t = target_of(args);
	struct url url;
	const char *before = before_of(args);
	url_of(&url, &t);
	url_segment(&url, "move");
	url_query(&url, "before", before == NULL ? "last" : before);
	return change(ctl, "POST", &url, NULL);
}

static int set_enabled(struct ctl *ctl, const struct args *args, bool is_enabled)
{
	struct target t = target_of(args);
	struct url url;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_bool(doc, root, "enabled", is_enabled);
	url_of(&url, &t);
	return change(ctl, "PATCH", &url, doc);
}

int document_enable(struct ctl *ctl, const struct args *args)
{
	return set_enabled(ctl, args, true);
}

int document_disable(struct ctl *ctl, const struct args *args)
{
	return set_enabled(ctl, args, false);
}

int document_remove(struct ctl *ctl, const struct args *args)
{
	struct target t = target_of(args);
	struct url url;
	url_of(&url, &t);
	return change(ctl, "DELETE", &url, NULL);
}

/* A verb that means nothing for this kind of document: its sentence says why. */
int document_refuse(struct ctl *, const struct args *args)
{
	return ctl_fail(EX_USAGE, "%s", args->command->sentence);
}
