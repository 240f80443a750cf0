// SPDX-License-Identifier: Apache-2.0
/* control/daemon/apply.c: all documents at once: export, and apply with the list of what it
 * changes. */
#include "control/daemon/http.h"

#include <errno.h>
#include <stdlib.h>

void documents_export(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	char error[512] = "";
	pthread_mutex_lock(&c->lock);
	char *json = store_documents(c->store, error);
	pthread_mutex_unlock(&c->lock);
	if (json == NULL)
		answer_failure(answer, -EIO, error);
	else
		answer_text(answer, "application/json", json, strlen(json));
}

/* ---- what differs ---- */

struct entry { /* a document in one of the two lists */
	const char *id;
	yyjson_val *document;
	size_t place;
};

struct listing {
	struct entry *entries; /* sorted by id */
	size_t count;
};

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->id, ((const struct entry *)b)->id);
}

static bool take(struct listing *to, yyjson_val *list)
{
	size_t i, n;
	yyjson_val *document;
	*to = (struct listing){.entries = calloc(yyjson_arr_size(list) + 1, sizeof *to->entries)};
	if (to->entries == NULL)
		return false;
	yyjson_arr_foreach(list, i, n, document)
	{
		const char *id = yyjson_get_str(yyjson_obj_get(document, "id"));
		to->entries[to->count++] = (struct entry){id == NULL ? "" : id, document, i};
	}
	qsort(to->entries, to->count, sizeof *to->entries, by_id);
	return true;
}

static const struct entry *find(const struct listing *in, const char *id)
{
	const struct entry wanted = {.id = id};
	return in->count == 0 ? NULL
			      : bsearch(&wanted, in->entries, in->count, sizeof wanted, by_id);
}

struct changes {
	yyjson_mut_doc *doc;
	yyjson_mut_val *list;
	const char *kind;
};

static void note(struct changes *to, const char *id, const char *change)
{
	yyjson_mut_val *one = yyjson_mut_arr_add_obj(to->doc, to->list);
	yyjson_mut_obj_add_str(to->doc, one, "kind", to->kind);
	yyjson_mut_obj_add_strcpy(to->doc, one, "id", id);
	yyjson_mut_obj_add_str(to->doc, one, "change", change);
}

/* Moved are as few as can be: those outside of a longest run of documents that kept their order
 * (patience sorting: `ends[k]` ends the best run of length k + 1, `previous` leads back through
 * it). */
static void note_moved(struct changes *to, yyjson_val *fresh, const struct listing *old)
{
	size_t n = yyjson_arr_size(fresh), length = 0, i, all;
	struct {
		size_t was, previous, end;
		const char *id;
		bool has_stayed;
	} *runs = calloc(n + 1, sizeof *runs);
	yyjson_val *document;
	size_t count = 0;
	if (runs == NULL)
		return;
	yyjson_arr_foreach(fresh, i, all, document)
	{
		const struct entry *was = find(old, yyjson_get_str(yyjson_obj_get(document, "id")));
		if (was == NULL)
			continue;
		runs[count].was = was->place;
		runs[count].id = was->id;
		size_t low = 0, high = length;
		while (low < high) {
			size_t middle = low + (high - low) / 2;
			if (runs[runs[middle].end].was < was->place)
				low = middle + 1;
			else
				high = middle;
		}
		runs[count].previous = low == 0 ? SIZE_MAX : runs[low - 1].end;
		runs[low].end = count++;
		if (low == length)
			length++;
	}
	for (size_t at = length == 0 ? SIZE_MAX : runs[length - 1].end; at != SIZE_MAX;
		at = runs[at].previous)
		runs[at].has_stayed = true;
	for (i = 0; i < count; i++)
		if (!runs[i].has_stayed)
			note(to, runs[i].id, "moved");
	free(runs);
}

static void compare_kind(struct changes *to, yyjson_val *old_list, yyjson_val *new_list)
{
	struct listing old, fresh = {};
	size_t i, n;
	yyjson_val *document;
	if (!take(&old, old_list) || !take(&fresh, new_list)) {
		free(old.entries);
		return;
	}
	yyjson_arr_foreach(old_list, i, n,
		document) if (find(&fresh, yyjson_get_str(yyjson_obj_get(document, "id"))) == NULL)
		note(to, yyjson_get_str(yyjson_obj_get(document, "id")), "removed");
	yyjson_arr_foreach(new_list, i, n, document)
	{
		const char *id = yyjson_get_str(yyjson_obj_get(document, "id"));
		const struct entry *was = find(&old, id);
		if (was == NULL)
			note(to, id, "added");
		else if (!yyjson_equals(was->document, document))
			note(to, id, "changed");
	}
	if (strstr(to->kind, "rules") != NULL) /* the order of the others means nothing */
		note_moved(to, new_list, &old);
	free(old.entries);
	free(fresh.entries);
}

/* Both sides have compiled: every document has an id, and each only once. */
static void compare(struct changes *to, yyjson_val *old, yyjson_val *fresh)
{
	static const char *const kinds[] = {"profiles", "in_rules", "out_rules", "routes"};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		to->kind = kinds[i];
		compare_kind(to, yyjson_obj_get(old, kinds[i]), yyjson_obj_get(fresh, kinds[i]));
	}
	const char *was = yyjson_get_str(yyjson_obj_get(old, "ca_pem"));
	const char *is = yyjson_get_str(yyjson_obj_get(fresh, "ca_pem"));
	was = was == NULL ? "" : was;
	is = is == NULL ? "" : is;
	to->kind = "ca_pem";
	if (strcmp(was, is) != 0)
		note(to, "", was[0] == '\0' ? "added" : is[0] == '\0' ? "removed" : "changed");
}

/* ---- apply ---- */

/* What compiles is compared with what is stored; what differs is kept, unless it is a trial. Under
 * the lock. */
static int apply(struct control *c, const char *json, yyjson_val *fresh, bool is_trial,
	struct changes *changes, uint64_t *generation, char error[512])
{
	struct candidate candidate;
	*generation = c->generation;
	int rc = candidate_compile(c, json, NULL, NULL, &candidate, error);
	if (rc != 0)
		return rc;
	char *stored = store_documents(c->store, error);
	yyjson_doc *old = stored == NULL ? NULL : yyjson_read(stored, strlen(stored), 0);
	if (old != NULL)
		compare(changes, yyjson_doc_get_root(old), fresh);
	if (old == NULL)
		rc = -EIO;
	else if (!is_trial && yyjson_mut_arr_size(changes->list) != 0)
		rc = publish_compiled(c, json, &candidate, generation, error);
	candidate_drop(&candidate);
	yyjson_doc_free(old);
	free(stored);
	return rc;
}

void documents_apply(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	char error[512] = "";
	uint64_t generation = 0;
	bool is_trial = request_flag(request, "dry_run");
	yyjson_doc *fresh = request_json(request, answer);
	if (fresh == NULL)
		return;
	struct changes changes = {.doc = json_object()};
	changes.list = yyjson_mut_obj_add_arr(
		changes.doc, yyjson_mut_doc_get_root(changes.doc), "changes");
	pthread_mutex_lock(&c->lock);
	int rc = apply(c, request->body, yyjson_doc_get_root(fresh), is_trial, &changes,
		&generation, error);
	pthread_mutex_unlock(&c->lock);
	yyjson_doc_free(fresh);
	if (rc < 0) {
		yyjson_mut_doc_free(changes.doc);
		answer_failure(answer, rc, error);
	} else if (is_trial) {
		yyjson_mut_val *root = yyjson_mut_doc_get_root(changes.doc);
		yyjson_mut_obj_add_uint(changes.doc, root, "generation", generation);
		yyjson_mut_obj_add_bool(changes.doc, root, "dry_run", true);
		answer_json(answer, 200, changes.doc);
	} else {
		answer_change(request, answer, generation, changes.doc);
	}
}
