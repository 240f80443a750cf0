// SPDX-License-Identifier: Apache-2.0
/* control/daemon/connections.c: the relays' TCP connections, page by page: one relay is asked for a
 * page, and when it has no more, the next one in the order of their names. */
#include "control/daemon/http.h"

#include <stdlib.h>

#define LIST_LIMIT_MOST 65535
#define PORT_MOST	65535

/* The first attached instance whose name comes after `name` (or is it, if `is_itself`); false:
 * none. */
static bool find_instance(struct control *c, const char *name, bool is_itself, char found[64])
{
	bool is_found = false;
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *p = &c->relays[i];
		if (p->fd < 0 || p->instance[0] == '\0')
			continue;
		int order = strcmp(p->instance, name);
		if (order < 0 || (order == 0 && !is_itself))
			continue;
		if (!is_found || strcmp(p->instance, found) < 0)
			memcpy(found, p->instance, sizeof p->instance);
		is_found = true;
	}
	pthread_mutex_unlock(&c->lock);
	return is_found;
}

bool relay_ask_one(const struct request *request, struct answer *answer, const char *instance,
	yyjson_mut_doc *doc, struct relay_reply *reply)
{
	struct relay_reply replies[CONTROL_RELAYS_MAX];
	char *json = yyjson_mut_write(doc, 0, NULL);
	yyjson_mut_doc_free(doc);
	if (json == NULL) {
		answer_error(answer, 500, "out of memory");
		return false;
	}
	unsigned count = relays_ask(request->control, instance, json, replies);
	free(json);
	if (count == 0) {
		answer_error(answer, 503, "no relay of the instance '%s' is attached", instance);
		return false;
	}
	*reply = replies[0];
	if (reply->doc != NULL)
		return true;
	answer_error(
		answer, reply->is_refused ? 400 : 503, "%s: %s", reply->instance, reply->error);
	return false;
}

void relay_answer(struct answer *answer, struct relay_reply *reply)
{
	static const char *const inner[] = {"type", "token", "ok"}; /* of the link */
	yyjson_mut_doc *doc = yyjson_doc_mut_copy(reply->doc, NULL);
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	for (size_t k = 0; k < sizeof inner / sizeof *inner; k++)
		yyjson_mut_obj_remove_key(root, inner[k]);
	yyjson_mut_obj_add_strcpy(doc, root, "instance", reply->instance);
	answer_json(answer, 200, doc);
	yyjson_doc_free(reply->doc);
}

/* ---- list ---- */

static bool add_filter(const struct request *request, struct answer *answer, yyjson_mut_doc *doc)
{
	static const char *const texts[] = {"state", "peer", "direction"};
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	uint64_t limit, port;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		const char *value = request_query(request, texts[i]);
		if (value != NULL)
			yyjson_mut_obj_add_strcpy(doc, root, texts[i], value);
	}
	if (!request_number(request, answer, "limit", LIST_LIMIT_MOST, LIST_LIMIT_MOST, &limit) ||
		!request_number(request, answer, "port", PORT_MOST, 0, &port))
		return false;
	yyjson_mut_obj_add_uint(doc, root, "limit", limit);
	yyjson_mut_obj_add_uint(doc, root, "port", port);
	if (request_flag(request, "all"))
		yyjson_mut_obj_add_bool(doc, root, "all", true);
	return true;
}

/* "INSTANCE/PLACE" of `after`, or the first instance; false: answered already. */
static bool find_place(
	const struct request *request, struct answer *answer, char instance[64], const char **place)
{
	const char *after = request_query(request, "after"),
		   *only = request_query(request, "instance");
	*place = NULL;
	if (after == NULL) {
		if (only != NULL ? find_instance(request->control, only, true, instance) &&
					strcmp(instance, only) == 0
				 : find_instance(request->control, "", false, instance))
			return true;
		answer_error(answer, 503,
			only == NULL ? "no relay is attached"
				     : "no relay of the instance '%s' is attached",
			only);
		return false;
	}
	size_t n = strcspn(after, "/");
	if (after[n] != '/' || n >= 64) {
		answer_error(answer, 400, "after: expected what an answer had as its \"next\"");
		return false;
	}
	memcpy(instance, after, n);
	instance[n] = '\0';
	*place = after[n + 1] == '\0' ? NULL : after + n + 1;
	return true;
}

/* Where the next page begins, as `after` takes it; NULL: this was the last. */
static char *next_page(const struct request *request, const char *instance, const char *rest)
{
	char next[64], *text = NULL;
	if (rest != NULL)
		return asprintf(&text, "%s/%s", instance, rest) < 0 ? NULL : text;
	if (request_query(request, "instance") != NULL ||
		!find_instance(request->control, instance, false, next))
		return NULL;
	return asprintf(&text, "%s/", next) < 0 ? NULL : text;
}

static void answer_page(
	const struct request *request, struct answer *answer, struct relay_reply *reply)
{
	static const char *const lists[] = {"items", "counts"};
	size_t index, count;
	yyjson_val *item, *root = yyjson_doc_get_root(reply->doc);
	yyjson_mut_doc *doc = json_object();
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		yyjson_mut_val *list =
			yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), lists[i]);
		yyjson_arr_foreach(yyjson_obj_get(root, lists[i]), index, count, item)
		{
			yyjson_mut_val *copy = yyjson_val_mut_copy(doc, item);
			yyjson_mut_obj_add_str(doc, copy, "instance", reply->instance);
			yyjson_mut_arr_append(list, copy);
		}
	}
	char *next =
		next_page(request, reply->instance, yyjson_get_str(yyjson_obj_get(root, "next")));
	if (next != NULL)
		yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), "next", next);
	free(next);
	answer_json(answer, 200, doc);
	yyjson_doc_free(reply->doc);
}

void connections_get(const struct request *request, struct answer *answer)
{
	char instance[64];
	const char *place;
	struct relay_reply reply;
	if (!find_place(request, answer, instance, &place))
		return;
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_obj_add_str(doc, yyjson_mut_doc_get_root(doc), "op", "connections.list");
	if (place != NULL)
		yyjson_mut_obj_add_str(doc, yyjson_mut_doc_get_root(doc), "after", place);
	if (!add_filter(request, answer, doc)) {
		yyjson_mut_doc_free(doc);
		return;
	}
	if (relay_ask_one(request, answer, instance, doc, &reply))
		answer_page(request, answer, &reply);
}

/* ---- one ---- */

bool relay_only(const struct request *request, struct answer *answer, char instance[64])
{
	char second[64];
	const char *place;
	if (!find_place(request, answer, instance, &place))
		return false;
	if (request_query(request, "instance") != NULL ||
		!find_instance(request->control, instance, false, second))
		return true;
	answer_error(answer, 400, "several relays are attached: say which by instance=NAME");
	return false;
}

void connections_delete(const struct request *request, struct answer *answer)
{
	char instance[64];
	struct relay_reply reply;
	if (!relay_only(request, answer, instance))
		return;
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_obj_add_str(doc, yyjson_mut_doc_get_root(doc), "op", "connections.end");
	yyjson_mut_obj_add_str(doc, yyjson_mut_doc_get_root(doc), "id", request->args[0]);
	if (relay_ask_one(request, answer, instance, doc, &reply))
		relay_answer(answer, &reply);
}
