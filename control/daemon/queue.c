// SPDX-License-Identifier: Apache-2.0
/* control/daemon/queue.c: the queue's requests, passed to every relay, and their answers joined. */
#include "control/daemon/http.h"

#include <stdlib.h>

#define LIST_LIMIT_OTHERWISE 100
#define LIST_LIMIT_MOST	     200 /* of what a relay puts into one message */

/* ---- asking all relays ---- */

struct round {
	struct relay_reply replies[CONTROL_RELAYS_MAX];
	unsigned count, answered;
	const char *refusal; /* of a relay that did answer */
};

/* Asks; false: nobody could be asked, answered already (503). `doc` is freed. */
static bool ask(const struct request *request, struct answer *answer, yyjson_mut_doc *doc,
	struct round *round)
{
	const char *instance = request_query(request, "instance");
	char *json = yyjson_mut_write(doc, 0, NULL);
	yyjson_mut_doc_free(doc);
	*round = (struct round){};
	if (json == NULL) {
		answer_error(answer, 500, "out of memory");
		return false;
	}
	round->count = relays_ask(request->control, instance, json, round->replies);
	free(json);
	for (unsigned i = 0; i < round->count; i++) {
		round->answered += round->replies[i].doc != NULL;
		if (round->replies[i].is_refused)
			round->refusal = round->replies[i].error;
	}
	if (round->answered != 0)
		return true;
	if (round->refusal != NULL)
		return true;
	if (round->count != 0)
		answer_error(
			answer, 503, "%s: %s", round->replies[0].instance, round->replies[0].error);
	else if (instance == NULL)
		answer_error(answer, 503, "no relay is attached");
	else
		answer_error(answer, 503, "no relay of the instance '%s' is attached", instance);
	return false;
}

/* Who did not answer while others did. */
static void add_errors(yyjson_mut_doc *doc, const struct round *round)
{
	if (round->answered == round->count)
		return;
	yyjson_mut_val *errors =
		yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "errors");
	for (unsigned i = 0; i < round->count; i++) {
		if (round->replies[i].doc != NULL)
			continue;
		yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, errors);
		yyjson_mut_obj_add_strcpy(doc, one, "instance", round->replies[i].instance);
		yyjson_mut_obj_add_strcpy(doc, one, "error", round->replies[i].error);
	}
}

static yyjson_mut_doc *op_new(const char *op)
{
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), "op", op);
	return doc;
}

/* The parts of a selection from the query; how many there are. */
static unsigned add_selection(const struct request *request, yyjson_mut_doc *doc)
{
	static const char *const names[] = {"domain", "reason", "sender", "state", "queue_id"};
	unsigned count = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *value = request_query(request, names[i]);
		if (value == NULL || value[0] == '\0')
			continue;
		yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), names[i], value);
		count++;
	}
	return count;
}

/* ---- list ---- */

struct found {
	yyjson_val *item;
	const char *instance, *id;
	uint64_t number; /* the item's, in its mail */
};

/* Ids are of one width, in digits that are in ASCII's order (smtp/mail.h): as texts they sort as
 * numbers. */
static int compare_places(const struct found *x, const struct found *y)
{
	int order = strcmp(x->id, y->id);
	return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

static int by_place(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	int order = compare_places(x, y);
	return order != 0 ? order : strcmp(x->instance, y->instance);
}

static struct found found_of(yyjson_val *item, const char *instance)
{
	const char *id = yyjson_get_str(yyjson_obj_get(item, "queue_id"));
	return (struct found){item, instance, id == NULL ? "" : id,
		yyjson_get_uint(yyjson_obj_get(item, "item"))};
}

/* What all relays have told, and the place from which on some of them may have more: the first of
 * their ends. Behind it nothing is shown, or the next page would pass over what they have there. */
struct page {
	struct found *found;
	size_t count;
	struct found end;
	bool has_end;
};

static void add_reply(struct page *page, const struct relay_reply *reply)
{
	size_t i, n;
	yyjson_val *item, *root = yyjson_doc_get_root(reply->doc);
	yyjson_val *items = yyjson_obj_get(root, "items");
	yyjson_arr_foreach(items, i, n, item) page->found[page->count++] =
		found_of(item, reply->instance);
	if (!yyjson_get_bool(yyjson_obj_get(root, "more")) || n == 0)
		return;
	struct found last = page->found[page->count - 1];
	if (!page->has_end || compare_places(&last, &page->end) < 0)
		page->end = last;
	page->has_end = true;
}

static bool collect(const struct round *round, struct page *page)
{
	size_t room = 1;
	for (unsigned i = 0; i < round->count; i++)
		room += yyjson_arr_size(
			yyjson_obj_get(yyjson_doc_get_root(round->replies[i].doc), "items"));
	*page = (struct page){.found = calloc(room, sizeof *page->found)};
	for (unsigned i = 0; page->found != NULL && i < round->count; i++)
		add_reply(page, &round->replies[i]);
	if (page->found != NULL)
		qsort(page->found, page->count, sizeof *page->found, by_place);
	return page->found != NULL;
}

/* How many of them are a page: items of one place (of two relays) stay together. */
static size_t page_size(const struct page *page, uint64_t limit)
{
	size_t n = 0;
	while (n < page->count &&
		(n < limit || compare_places(&page->found[n - 1], &page->found[n]) == 0) &&
		(!page->has_end || compare_places(&page->found[n], &page->end) <= 0))
		n++;
	return n;
}

static void answer_list(struct answer *answer, const struct round *round, uint64_t limit)
{
	struct page page;
	if (!collect(round, &page)) {
		answer_error(answer, 500, "out of memory");
		return;
	}
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	yyjson_mut_val *items = yyjson_mut_obj_add_arr(doc, root, "items");
	size_t shown = page_size(&page, limit);
	bool has_more = page.has_end || page.count > shown;
	for (size_t i = 0; i < shown; i++) {
		yyjson_mut_val *item = yyjson_val_mut_copy(doc, page.found[i].item);
		yyjson_mut_obj_add_strcpy(doc, item, "instance", page.found[i].instance);
		yyjson_mut_arr_append(items, item);
	}
	yyjson_mut_obj_add_bool(doc, root, "more", has_more);
	if (has_more && shown != 0) {
		char next[128];
		const struct found *last = &page.found[shown - 1];
		snprintf(next, sizeof next, "%.64s.%llu", last->id, (unsigned long long)last->number);
		yyjson_mut_obj_add_strcpy(doc, root, "next", next);
	}
	add_errors(doc, round);
	free(page.found);
	answer_json(answer, 200, doc);
}

void queue_get(const struct request *request, struct answer *answer)
{
	struct round round;
	uint64_t limit;
	const char *after = request_query(request, "after");
	if (!request_number(
		    request, answer, "limit", LIST_LIMIT_MOST, LIST_LIMIT_OTHERWISE, &limit))
		return;
	yyjson_mut_doc *doc = op_new("queue.list");
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	add_selection(request, doc);
	if (limit == 0)
		limit = LIST_LIMIT_OTHERWISE;
	yyjson_mut_obj_add_uint(doc, root, "limit", limit);
	if (after != NULL && after[0] != '\0')
		yyjson_mut_obj_add_strcpy(doc, root, "after", after);
	if (!ask(request, answer, doc, &round))
		return;
	if (round.answered != 0)
		answer_list(answer, &round, limit);
	else
		answer_error(answer, 400, "%s", round.refusal);
	relays_free_replies(round.replies, round.count);
}

/* ---- one mail ---- */

void queue_content(const struct request *request, struct answer *answer)
{
	struct round round;
	uint64_t offset;
	if (!request_number(request, answer, "offset", INT64_MAX, 0, &offset))
		return;
	yyjson_mut_doc *doc = op_new("queue.content");
	yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), "queue_id", request->args[0]);
	yyjson_mut_obj_add_uint(doc, yyjson_mut_doc_get_root(doc), "offset", offset);
	if (!ask(request, answer, doc, &round))
		return;
	for (unsigned i = 0; i < round.count; i++) {
		if (round.replies[i].doc == NULL)
			continue;
		yyjson_mut_doc *found = yyjson_doc_mut_copy(round.replies[i].doc, NULL);
		yyjson_mut_val *root = yyjson_mut_doc_get_root(found);
		static const char *const inner[] = {"type", "token", "ok"}; /* of the link */
		for (size_t k = 0; k < sizeof inner / sizeof *inner; k++)
			yyjson_mut_obj_remove_key(root, inner[k]);
		yyjson_mut_obj_add_strcpy(found, root, "instance", round.replies[i].instance);
		answer_json(answer, 200, found);
		break;
	}
	if (round.answered == 0)
		answer_error(answer, 404, "%s: %s", request->args[0], round.refusal);
	relays_free_replies(round.replies, round.count);
}

/* ---- change ---- */

void queue_change(const struct request *request, struct answer *answer)
{
	static const char *const actions[] = {"retry", "hold", "release", "remove"};
	struct round round;
	char op[32] = "";
	uint64_t changed = 0;
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (strcmp(actions[i], request->args[0]) == 0)
			snprintf(op, sizeof op, "queue.%s", actions[i]);
	if (op[0] == '\0') {
		answer_error(answer, 404,
			"the queue has no '%s': expected retry, hold, release or remove",
			request->args[0]);
		return;
	}
	yyjson_mut_doc *doc = op_new(op);
	if (add_selection(request, doc) == 0 && !request_flag(request, "all")) {
		yyjson_mut_doc_free(doc);
		answer_error(answer, 400,
			"nothing is selected: give domain, reason, sender, state or queue_id, or "
			"all=1");
		return;
	}
	if (!ask(request, answer, doc, &round))
		return;
	doc = json_object();
	for (unsigned i = 0; i < round.count; i++)
		changed += yyjson_get_uint(
			yyjson_obj_get(yyjson_doc_get_root(round.replies[i].doc), "changed"));
	yyjson_mut_obj_add_uint(doc, yyjson_mut_doc_get_root(doc), "changed", changed);
	add_errors(doc, &round);
	answer_json(answer, 200, doc);
	if (round.answered == 0)
		answer_error(answer, 400, "%s", round.refusal);
	relays_free_replies(round.replies, round.count);
}
