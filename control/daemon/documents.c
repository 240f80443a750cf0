// SPDX-License-Identifier: Apache-2.0
/* control/daemon/documents.c: one document of the store at a time. Every change is made on a copy
 * of all of them, which is compiled, kept and published as one generation, or changes nothing. */
#include "control/daemon/http.h"

#include <errno.h>
#include <stdlib.h>

#include "control/shm/documents.h"

/* clang-format off */
static const struct kind {
	const char *name;
	enum documents_kind kind;
	bool is_rules; /* whose order counts, and whose built-in last one nobody may change */
	const char *unmoved; /* of the others: why it does not */
	struct {
		const char *id, *profile;
	} builtin[2];
} kinds[] = {
	{"profiles",  DOC_PROFILE,  false, "rules name them", {{"default-in", NULL}, {"default-out", NULL}}},
	{"in_rules",  DOC_IN_RULE,  true,  NULL, {{"default", "default-in"}}},
	{"out_rules", DOC_OUT_RULE, true,  NULL, {{"default", "default-out"}}},
	{"routes",    DOC_ROUTE,    false, "the most specific domain counts", {}},
};
/* clang-format on */
#define KINDS (sizeof kinds / sizeof *kinds)

static const struct kind *find_kind(const struct request *request, struct answer *answer)
{
	for (size_t i = 0; i < KINDS; i++)
		if (strcmp(kinds[i].name, request->args[0]) == 0)
			return &kinds[i];
	answer_error(answer, 404,
		"'%s' are no documents: expected profiles, in_rules, out_rules or routes",
		request->args[0]);
	return NULL;
}

static bool is_builtin(const struct kind *kind, const char *id)
{
	for (size_t i = 0; i < 2; i++)
		if (kind->builtin[i].id != NULL && strcmp(kind->builtin[i].id, id) == 0)
			return true;
	return false;
}

/* ---- the store's documents, to be read or changed ---- */

struct edit {
	const struct kind *kind;
	yyjson_mut_doc *doc;
	yyjson_mut_val *list; /* of that kind */
};

static const char *id_of(yyjson_mut_val *document)
{
	const char *id = yyjson_mut_get_str(yyjson_mut_obj_get(document, "id"));
	return id == NULL ? "" : id;
}

/* Its place; the list's length if it is not there. */
static size_t find(const struct edit *edit, const char *id)
{
	size_t i, n;
	yyjson_mut_val *document;
	yyjson_mut_arr_foreach(
		edit->list, i, n, document) if (strcmp(id_of(document), id) == 0) return i;
	return yyjson_mut_arr_size(edit->list);
}

static bool has(const struct edit *edit, const char *id)
{
	return find(edit, id) < yyjson_mut_arr_size(edit->list);
}

/* The lock is held from here to edit_end(), so that nobody changes in between what is changed here. */
static bool edit_begin(const struct request *request, struct answer *answer, struct edit *edit)
{
	char error[512] = "";
	*edit = (struct edit){.kind = find_kind(request, answer)};
	if (edit->kind == NULL)
		return false;
	pthread_mutex_lock(&request->control->lock);
	char *json = store_documents(request->control->store, error);
	yyjson_doc *stored = json == NULL ? NULL : yyjson_read(json, strlen(json), 0);
	edit->doc = yyjson_doc_mut_copy(stored, NULL);
	yyjson_doc_free(stored);
	free(json);
	edit->list = yyjson_mut_obj_get(yyjson_mut_doc_get_root(edit->doc), edit->kind->name);
	if (edit->list != NULL)
		return true;
	pthread_mutex_unlock(&request->control->lock);
	yyjson_mut_doc_free(edit->doc);
	answer_failure(answer, -EIO, error[0] != '\0' ? error : "out of memory");
	return false;
}

static void edit_end(const struct request *request, struct edit *edit)
{
	pthread_mutex_unlock(&request->control->lock);
	yyjson_mut_doc_free(edit->doc);
}

/* Keeps what was changed and answers; instead of edit_end(). */
static void edit_commit(const struct request *request, struct answer *answer, struct edit *edit)
{
	char error[512] = "out of memory";
	uint64_t generation;
	char *json = yyjson_mut_write(edit->doc, 0, NULL);
	int rc = json == NULL ? -ENOMEM
			      : publish_documents(request->control, json, &generation, error);
	free(json);
	edit_end(request, edit);
	if (rc < 0)
		answer_failure(answer, rc, error);
	else
		answer_change(request, answer, generation, NULL);
}

static void refuse(const struct request *request, struct answer *answer, struct edit *edit,
	unsigned status, const char *why, const char *id)
{
	answer_error(answer, status, why, edit->kind->name, id); /* `id` may be the copy's */
	edit_end(request, edit);
}

static const char no_such[] = "%s have no '%s'";
static const char is_there[] = "%s have '%s' already";
static const char is_last[] =
	"%s: '%s' is built in and always the last; add a rule before it, or change its profile";

/* ---- reading ---- */

static void add_value(
	yyjson_mut_doc *doc, yyjson_mut_val *to, const char *name, const struct documents_field *f)
{
	yyjson_mut_val *value = NULL;
	if (f->type == DOC_BOOL)
		value = yyjson_mut_bool(doc, strcmp(f->otherwise, "true") == 0);
	else if (f->type == DOC_NUMBER)
		value = yyjson_mut_uint(doc, strtoull(f->otherwise, NULL, 10));
	else if (f->type == DOC_NAMES || f->type == DOC_HOSTS)
		value = yyjson_mut_arr(doc); /* all of them are "[]" */
	else
		value = yyjson_mut_str(doc, f->otherwise);
	yyjson_mut_obj_add(to, yyjson_mut_strcpy(doc, name), value);
}

/* Puts the fields that are left out to what they are then: "protocol.lowest" stands in an object of
 * its own. */
static void add_defaults(yyjson_mut_doc *doc, yyjson_mut_val *document, enum documents_kind kind)
{
	size_t count;
	const struct documents_field *fields = documents_fields(kind, &count);
	for (size_t i = 0; i < count; i++) {
		char name[64];
		yyjson_mut_val *to = document;
		const char *dot = strchr(fields[i].name, '.'),
			   *last = dot == NULL ? fields[i].name : dot + 1;
		if (dot != NULL) {
			snprintf(name, sizeof name, "%.*s", (int)(dot - fields[i].name),
				fields[i].name);
			to = yyjson_mut_obj_get(document, name);
			if (to == NULL) {
				to = yyjson_mut_obj(doc);
				yyjson_mut_obj_add(document, yyjson_mut_strcpy(doc, name), to);
			}
		}
		if (fields[i].otherwise != NULL && yyjson_mut_obj_get(to, last) == NULL)
			add_value(doc, to, last, &fields[i]);
	}
}

static yyjson_mut_val *make_builtin(yyjson_mut_doc *doc, const struct kind *kind, size_t i)
{
	yyjson_mut_val *document = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_str(doc, document, "id", kind->builtin[i].id);
	if (kind->builtin[i].profile != NULL)
		yyjson_mut_obj_add_str(doc, document, "profile", kind->builtin[i].profile);
	yyjson_mut_obj_add_bool(doc, document, "builtin", true);
	return document;
}

/* What is built in and not defined anew comes behind what is stored; "full" fills in the defaults. */
static void complete(const struct request *request, struct edit *edit)
{
	size_t i, n;
	yyjson_mut_val *document;
	for (size_t b = 0; b < 2; b++)
		if (edit->kind->builtin[b].id != NULL && !has(edit, edit->kind->builtin[b].id))
			yyjson_mut_arr_append(edit->list, make_builtin(edit->doc, edit->kind, b));
	if (!request_flag(request, "full"))
		return;
	yyjson_mut_arr_foreach(edit->list, i, n, document)
		add_defaults(edit->doc, document, edit->kind->kind);
}

void documents_list(const struct request *request, struct answer *answer)
{
	struct edit edit;
	if (!edit_begin(request, answer, &edit))
		return;
	complete(request, &edit);
	yyjson_mut_val *root = yyjson_mut_obj(edit.doc);
	yyjson_mut_obj_add_uint(edit.doc, root, "generation", request->control->generation);
	yyjson_mut_obj_add_val(edit.doc, root, "documents", edit.list);
	yyjson_mut_doc_set_root(edit.doc, root);
	pthread_mutex_unlock(&request->control->lock);
	answer_json(answer, 200, edit.doc);
}

void documents_get(const struct request *request, struct answer *answer)
{
	struct edit edit;
	if (!edit_begin(request, answer, &edit))
		return;
	complete(request, &edit);
	yyjson_mut_val *document = yyjson_mut_arr_get(edit.list, find(&edit, request->args[1]));
	if (document == NULL) {
		refuse(request, answer, &edit, 404, no_such, request->args[1]);
		return;
	}
	yyjson_mut_doc_set_root(edit.doc, document);
	pthread_mutex_unlock(&request->control->lock);
	answer_json(answer, 200, edit.doc);
}

/* ---- changing ---- */

void documents_add(const struct request *request, struct answer *answer)
{
	struct edit edit;
	const char *before = request_query(request, "before");
	yyjson_doc *body = request_json(request, answer);
	if (body == NULL || !edit_begin(request, answer, &edit)) {
		yyjson_doc_free(body);
		return;
	}
	yyjson_mut_val *document = yyjson_val_mut_copy(edit.doc, yyjson_doc_get_root(body));
	yyjson_doc_free(body);
	const char *id = id_of(document);
	if (has(&edit, id))
		refuse(request, answer, &edit, 409, is_there, id);
	else if (edit.kind->is_rules && is_builtin(edit.kind, id))
		refuse(request, answer, &edit, 409, is_last, id);
	else if (before != NULL && !has(&edit, before) && !is_builtin(edit.kind, before))
		refuse(request, answer, &edit, 404, no_such, before);
	else {
		yyjson_mut_arr_insert(edit.list, document,
			before == NULL ? yyjson_mut_arr_size(edit.list) : find(&edit, before));
		edit_commit(request, answer, &edit);
	}
}

/* RFC 7396. A built-in profile that is changed becomes one of the store's. */
void documents_patch(const struct request *request, struct answer *answer)
{
	struct edit edit;
	const char *id = request->args[1];
	yyjson_doc *body = request_json(request, answer);
	if (body == NULL || !edit_begin(request, answer, &edit)) {
		yyjson_doc_free(body);
		return;
	}
	size_t at = find(&edit, id);
	if (at == yyjson_mut_arr_size(edit.list) && is_builtin(edit.kind, id) &&
		!edit.kind->is_rules) {
		yyjson_mut_val *fresh = yyjson_mut_arr_add_obj(edit.doc, edit.list);
		yyjson_mut_obj_add_strcpy(edit.doc, fresh, "id", id);
	}
	yyjson_mut_val *patch = yyjson_val_mut_copy(edit.doc, yyjson_doc_get_root(body));
	yyjson_doc_free(body);
	yyjson_mut_val *document = yyjson_mut_arr_get(edit.list, at);
	yyjson_mut_val *merged =
		document == NULL ? NULL : yyjson_mut_merge_patch(edit.doc, document, patch);
	if (document == NULL)
		refuse(request, answer, &edit, is_builtin(edit.kind, id) ? 409 : 404,
			is_builtin(edit.kind, id) ? is_last : no_such, id);
	else if (merged == NULL || strcmp(id_of(merged), id) != 0)
		refuse(request, answer, &edit, 400, "%s: the id of '%s' cannot be changed", id);
	else {
		yyjson_mut_arr_replace(edit.list, at, merged);
		edit_commit(request, answer, &edit);
	}
}

void documents_move(const struct request *request, struct answer *answer)
{
	struct edit edit;
	const char *id = request->args[1], *before = request_query(request, "before");
	const struct kind *kind = find_kind(request, answer);
	if (kind == NULL)
		return;
	if (kind->unmoved != NULL) {
		answer_error(answer, 400, "%s have no order, so that '%s' cannot be moved: %s",
			kind->name, id, kind->unmoved);
		return;
	}
	if (before == NULL) {
		answer_error(answer, 400,
			"before: expected the id of the document to move '%s' before, or 'last'",
			id);
		return;
	}
	if (!edit_begin(request, answer, &edit))
		return;
	bool is_to_end = (strcmp(before, "last") == 0 || is_builtin(edit.kind, before)) &&
		!has(&edit, before);
	if (!has(&edit, id))
		refuse(request, answer, &edit, is_builtin(edit.kind, id) ? 409 : 404,
			is_builtin(edit.kind, id) ? is_last : no_such, id);
	else if (!is_to_end && !has(&edit, before))
		refuse(request, answer, &edit, 404, no_such, before);
	else if (strcmp(id, before) == 0)
		refuse(request, answer, &edit, 400, "%s: '%s' cannot be moved before itself", id);
	else {
		yyjson_mut_val *document = yyjson_mut_arr_remove(edit.list, find(&edit, id));
		yyjson_mut_arr_insert(
			edit.list, document, find(&edit, before)); /* not there: the end */
		edit_commit(request, answer, &edit);
	}
}

/* Which rule names the profile; NULL: none. */
static const char *user_of(const struct edit *edit, const char *profile)
{
	for (size_t k = 0; k < KINDS; k++) {
		size_t i, n;
		yyjson_mut_val *rule,
			*rules = yyjson_mut_obj_get(
				yyjson_mut_doc_get_root(edit->doc), kinds[k].name);
		if (!kinds[k].is_rules)
			continue;
		yyjson_mut_arr_foreach(rules, i, n,
			rule) if (yyjson_mut_equals_str(yyjson_mut_obj_get(rule, "profile"),
					  profile)) return id_of(rule);
	}
	return NULL;
}

void documents_delete(const struct request *request, struct answer *answer)
{
	struct edit edit;
	const char *id = request->args[1], *user = NULL;
	if (!edit_begin(request, answer, &edit))
		return;
	bool can_go = has(&edit, id);
	if (edit.kind->kind == DOC_PROFILE && !is_builtin(edit.kind, id))
		user = user_of(&edit, id);
	if (!can_go)
		refuse(request, answer, &edit, is_builtin(edit.kind, id) ? 409 : 404,
			is_builtin(edit.kind, id) ? "%s: '%s' is built in and cannot be removed"
						  : no_such,
			id);
	else if (user != NULL) {
		answer_error(answer, 409, "the profile '%s' is used by rule '%s'", id, user);
		edit_end(request, &edit);
	} else {
		yyjson_mut_arr_remove(edit.list, find(&edit, id));
		edit_commit(request, answer, &edit);
	}
}
