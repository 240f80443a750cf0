// SPDX-License-Identifier: Apache-2.0
/* relay/queue_ops.c: operators' requests about the queue, as control passes them on (control/link.h). */
#include "relay/answer.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/link.h"

#define LIST_LIMIT_MOST 200   /* items a response: it has to fit one message */
#define RECIPIENTS_SHOWN 10   /* of an item; the count tells of the rest */

static void add_time(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, uint64_t us)
{
	if (us != 0 && us != UINT64_MAX)
		yyjson_mut_obj_add_real(doc, object, key, (double)us / 1e6);
}

/* ---- requests ---- */

static int state_of(struct bytes name)
{
	for (int s = QUEUE_ITEM_ROUTING; s <= QUEUE_ITEM_HELD; s++)
		if (bytes_equal(name, bytes_of_string(queue_item_state_name(s))))
			return s;
	return name.n == 0 ? -1 : -2;
}

/* NULL, or what is wrong with the request. */
static const char *read_selection(yyjson_val *root, struct queue_selection *selection)
{
	struct bytes id = request_member(root, "queue_id");
	*selection = (struct queue_selection){.domain = request_member(root, "domain"),
		.reason = request_member(root, "reason"),
		.sender = request_member(root, "sender"),
		.state = state_of(request_member(root, "state"))};
	if (selection->state == -2)
		return "state: expected routing, ready, loading, active, waiting or held";
	if (id.n != 0 && !mail_id_parse(id, &selection->mail_id))
		return "queue_id: not a queue id";
	return NULL;
}

struct listing {
	yyjson_mut_doc *doc;
	yyjson_mut_val *items;
	uint64_t count, limit;
	size_t room;	    /* bytes the response may still take */
	struct queue_place last; /* shown */
	bool more;
};

/* What a text takes in JSON, at most (RFC 8259 7). */
static size_t text_size(struct bytes b)
{
	size_t n = b.n;
	for (size_t i = 0; i < b.n; i++)
		n += b.at[i] < 0x20 || b.at[i] == '"' || b.at[i] == '\\' ? 5 : 0;
	return n + 4;
}

static size_t item_size(const struct queue_item_info *info)
{
	size_t n = 512 + text_size(info->sender) + text_size(info->domain) + text_size(info->site) +
		text_size(info->profile);
	for (uint32_t i = 0; i < info->recipient_count && i < RECIPIENTS_SHOWN; i++)
		n += text_size(info->recipients[i]);
	return info->reason == NULL ? n : n + text_size(bytes_of_string(info->reason->text));
}

static void add_reason(struct listing *l, yyjson_mut_val *item, const struct smtp_reply *reply)
{
	char text[SMTP_REPLY_FORMAT_MAX];
	if (reply != NULL && reply->code != 0)
		answer_add(l->doc, item, "reason", bytes_of_string(smtp_reply_format(reply, text)));
}

static bool list_one(void *user, const struct queue_item_info *info)
{
	struct listing *l = user;
	char id[MAIL_ID_TEXT_MAX];
	size_t bytes = item_size(info);
	if (l->count == l->limit || bytes > l->room) {
		l->more = true;
		return false;
	}
	l->last = (struct queue_place){info->mail_id, info->item};
	l->count++;
	l->room -= bytes;
	yyjson_mut_val *item = yyjson_mut_arr_add_obj(l->doc, l->items);
	yyjson_mut_obj_add_strcpy(l->doc, item, "queue_id", mail_id_format(info->mail_id, id));
	yyjson_mut_obj_add_uint(l->doc, item, "item", info->item);
	yyjson_mut_obj_add_str(l->doc, item, "state", queue_item_state_name(info->state));
	yyjson_mut_obj_add_uint(l->doc, item, "size", info->size);
	add_time(l->doc, item, "received", info->received_us);
	answer_add(l->doc, item, "sender", info->sender);
	answer_add(l->doc, item, "domain", info->domain);
	yyjson_mut_val *recipients = yyjson_mut_obj_add_arr(l->doc, item, "recipients");
	for (uint32_t i = 0; i < info->recipient_count && i < RECIPIENTS_SHOWN; i++)
		yyjson_mut_arr_append(recipients, answer_text(l->doc, info->recipients[i]));
	yyjson_mut_obj_add_uint(l->doc, item, "recipient_count", info->recipient_count);
	answer_add(l->doc, item, "site", info->site);
	answer_add(l->doc, item, "profile", info->profile);
	yyjson_mut_obj_add_uint(l->doc, item, "tries", info->tries);
	add_time(l->doc, item, "next_try", info->next_try_us);
	add_time(l->doc, item, "last_try", info->last_try_us);
	add_time(l->doc, item, "expires", info->expires_us);
	add_reason(l, item, info->reason);
	yyjson_mut_obj_add_bool(l->doc, item, "resident", info->is_resident);
	return true;
}

/* "QUEUEID.ITEM", or "QUEUEID" for the whole mail. */
static bool read_place(struct bytes text, struct queue_place *place)
{
	char digits[11];
	size_t dot = bytes_find(text, '.');
	place->item = QUEUE_PLACE_WHOLE;
	if (dot < text.n) {
		if (!bytes_to_string(bytes_skip(text, dot + 1), digits, sizeof digits) || digits[0] == '\0' ||
			digits[strspn(digits, "0123456789")] != '\0' || strtoull(digits, NULL, 10) > UINT32_MAX)
			return false;
		place->item = (uint32_t)strtoull(digits, NULL, 10);
	}
	return mail_id_parse(bytes_first(text, dot), &place->mail_id);
}

static struct note *list(struct queue_thread *q, uint64_t token, yyjson_val *root,
	const struct queue_selection *selection)
{
	struct queue_place after = {0};
	yyjson_val *limit = yyjson_obj_get(root, "limit");
	struct bytes after_text = request_member(root, "after");
	struct listing l = {.room = LINK_MESSAGE_MAX - 1024,
		.limit = limit == NULL ? LIST_LIMIT_MOST : yyjson_get_uint(limit)};
	if (l.limit == 0 || l.limit > LIST_LIMIT_MOST)
		l.limit = LIST_LIMIT_MOST;
	if (after_text.n != 0 && !read_place(after_text, &after))
		return answer_refuse(
			token, "after: expected a queue id, or one with the number of an item behind a dot");
	l.doc = answer_new(token, true);
	l.items = yyjson_mut_obj_add_arr(l.doc, yyjson_mut_doc_get_root(l.doc), "items");
	queue_list(q->queue, selection, after, list_one, &l);
	yyjson_mut_obj_add_bool(l.doc, yyjson_mut_doc_get_root(l.doc), "more", l.more);
	return answer_finish(l.doc);
}

static struct note *changed(uint64_t token, uint64_t n)
{
	yyjson_mut_doc *doc = answer_new(token, true);
	yyjson_mut_obj_add_uint(doc, yyjson_mut_doc_get_root(doc), "changed", n);
	return answer_finish(doc);
}

/* The spool thread reads it; the response follows when it has. */
static struct note *ask_content(struct queue_thread *q, uint64_t token, yyjson_val *root, uint64_t id)
{
	struct spool_request *r = calloc(1, sizeof *r);
	if (id == 0 || r == NULL) {
		free(r);
		return answer_refuse(token, "queue_id: expected the id of a queued mail");
	}
	r->kind = SPOOL_REQUEST_CONTENT;
	r->id = id;
	r->token = token;
	r->offset = yyjson_get_uint(yyjson_obj_get(root, "offset"));
	queue_send_to_spool(q, r);
	return NULL;
}

static struct note *perform(struct queue_thread *q, yyjson_val *root, uint64_t now_us)
{
	struct queue_selection selection;
	uint64_t token = yyjson_get_uint(yyjson_obj_get(root, "token"));
	struct bytes op = request_member(root, "op");
	const char *wrong = read_selection(root, &selection);
	if (wrong != NULL)
		return answer_refuse(token, wrong);
	if (bytes_equal(op, BYTES_LITERAL("queue.list")))
		return list(q, token, root, &selection);
	if (bytes_equal(op, BYTES_LITERAL("queue.content")))
		return ask_content(q, token, root, selection.mail_id);
	if (bytes_equal(op, BYTES_LITERAL("queue.retry")))
		return changed(token, queue_retry(q->queue, &selection, now_us));
	if (bytes_equal(op, BYTES_LITERAL("queue.hold")))
		return changed(token, queue_hold(q->queue, &selection));
	if (bytes_equal(op, BYTES_LITERAL("queue.release")))
		return changed(token, queue_release(q->queue, &selection, now_us));
	if (bytes_equal(op, BYTES_LITERAL("queue.remove")))
		return changed(token, queue_remove(q->queue, &selection, now_us));
	return answer_refuse(token, "op: unknown");
}

struct note *queue_ops_perform(struct queue_thread *q, const char *json, size_t n, uint64_t now_us)
{
	yyjson_doc *doc = yyjson_read(json, n, 0);
	struct note *response = doc == NULL ? NULL : perform(q, yyjson_doc_get_root(doc), now_us);
	yyjson_doc_free(doc);
	return response;
}

struct note *queue_ops_content(const struct spool_report *report)
{
	yyjson_mut_doc *doc = answer_new(report->token, report->envelope_size != 0);
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	if (report->envelope_size == 0)
		yyjson_mut_obj_add_str(doc, root, "error", "the mail is not in the spool any more");
	answer_add_base64(doc, root, "data", bytes_of(report->bytes, report->n));
	yyjson_mut_obj_add_uint(doc, root, "offset", report->offset);
	yyjson_mut_obj_add_uint(doc, root, "size", report->n);
	return answer_finish(doc);
}
