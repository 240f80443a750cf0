// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/operator.c: what a person sees and does: list, retry, hold, release, remove. */
#include "smtp/queue/queue_private.h"

#include <stdlib.h>

/* ---- which items ---- */
static bool contains_nocase(struct bytes text, struct bytes part)
{
	for (; text.n >= part.n; text = bytes_skip(text, 1)) {
		if (bytes_equal_nocase(bytes_first(text, part.n), part))
			return true;
		if (text.n == 0)
			break;
	}
	return false;
}

static bool has_reason(struct item *i, struct bytes part)
{
	char text[SMTP_REPLY_TEXT_MAX + 32];
	const struct reason *seen = NULL;

	for (uint32_t at = 0; at < i->count; at++) {
		const struct reason *r = item_reasons(i)[at];
		if (r == NULL || r == seen)
			continue;
		seen = r;
		if (contains_nocase(bytes_of(text, reason_format(r, text, sizeof text)), part))
			return true;
	}
	return false;
}

static bool is_selected(const struct queue *q, struct item *i, const struct queue_selection *s)
{
	return (s->state < 0 || i->state == s->state) &&
	       (s->domain.n == 0 || bytes_equal_nocase(item_domain(q, i), s->domain)) &&
	       (s->sender.n == 0 || bytes_equal(mail_sender(i->mail), s->sender)) &&
	       (s->reason.n == 0 || has_reason(i, s->reason));
}

/* An item's number: that of its first recipient, who is in no other item. */
static uint32_t number_of(struct item *i)
{
	uint32_t least = QUEUE_PLACE_WHOLE;
	for (uint32_t at = 0; at < i->count; at++)
		if (item_numbers(i)[at] < least)
			least = item_numbers(i)[at];
	return least;
}

/* The selected item with the lowest number from `from` on, or NULL. They nearly stand in that order, so that
 * hardly more than one is looked at closely. */
static struct item *next_item(struct queue *q, struct queued_mail *m,
	const struct queue_selection *s, uint64_t from, uint32_t *number)
{
	struct item *best = NULL;
	for (struct link *l = m->items.next; l != &m->items; l = l->next) {
		struct item *i = LINK_OF(l, struct item, of_mail);
		uint32_t n = number_of(i);
		if (n < from || (best != NULL && n >= *number) || !is_selected(q, i, s))
			continue;
		best = i;
		*number = n;
	}
	return best;
}

/* The next mail that may have such items. */
static struct queued_mail *next_mail(
	struct queue *q, const struct queue_selection *s, uint64_t after_mail_id)
{
	if (s->mail_id == 0)
		return mail_after(q, after_mail_id);
	return s->mail_id > after_mail_id ? mail_find(q, s->mail_id) : NULL;
}

/* ---- list ---- */
static void fill_info(struct queue *q, struct item *i, struct queue_item_info *info,
	struct smtp_reply *reason)
{
	const struct queued_mail *m = i->mail;

	*info = (struct queue_item_info){
		.mail_id = m->id,
		.state = i->state,
		.size = m->size,
		.received_us = m->received_us,
		.next_try_us = i->state == QUEUE_ITEM_WAITING ? i->due.at_us : 0,
		.last_try_us = i->last_try_us,
		.expires_us = mail_expires_us(q, m),
		.tries = i->tries,
		.sender = mail_sender(m),
		.domain = item_domain(q, i),
		.recipients = i->recipients,
		.recipient_count = i->count,
		.reason = reason,
		.is_resident = m->mail != NULL,
	};
	if (i->route != NULL) {
		info->site = bytes_of_string(i->route->route.site);
		info->profile = bytes_of_string(i->route->route.profile.id);
	}
	reason->code = 0;
	reason->text[0] = '\0';
	for (uint32_t at = 0; at < i->count; at++)
		if (item_reasons(i)[at] != NULL)
			reason_to_reply(item_reasons(i)[at], reason);
}

/* All is done, but DONE has not been taken yet. */
static void fill_info_over(struct queue *q, const struct queued_mail *m,
	struct queue_item_info *info, struct smtp_reply *reason)
{
	*reason = (struct smtp_reply){0};
	*info = (struct queue_item_info){
		.mail_id = m->id,
		.item = QUEUE_PLACE_WHOLE,
		.state = QUEUE_ITEM_ACTIVE,
		.size = m->size,
		.received_us = m->received_us,
		.expires_us = mail_expires_us(q, m),
		.sender = mail_sender(m),
		.reason = reason,
		.is_resident = m->mail != NULL,
	};
}

static bool is_over_selected(const struct queued_mail *m, const struct queue_selection *s)
{
	return link_is_alone(&m->items) && (s->state < 0 || s->state == QUEUE_ITEM_ACTIVE) &&
	       s->domain.n == 0 && s->reason.n == 0 &&
	       (s->sender.n == 0 || bytes_equal(mail_sender(m), s->sender));
}

/* The mail's items from number `from` on; false: enough. */
static bool list_mail(struct queue *q, struct queued_mail *m, const struct queue_selection *s,
	uint64_t from, bool (*each)(void *user, const struct queue_item_info *info), void *user)
{
	struct queue_item_info info;
	struct smtp_reply reason = {0};
	uint32_t number = 0;

	if (from == 0 && is_over_selected(m, s)) {
		fill_info_over(q, m, &info, &reason);
		return each(user, &info);
	}
	for (struct item *i; (i = next_item(q, m, s, from, &number)) != NULL; from = (uint64_t)number + 1) {
		fill_info(q, i, &info, &reason);
		info.item = number;
		if (!each(user, &info))
			return false;
	}
	return true;
}

void queue_list(struct queue *q, const struct queue_selection *selection, struct queue_place after,
	bool (*each)(void *user, const struct queue_item_info *info), void *user)
{
	struct queued_mail *m;

	if (after.item != QUEUE_PLACE_WHOLE && (selection->mail_id == 0 || selection->mail_id == after.mail_id)) {
		m = after.mail_id == 0 ? NULL : mail_find(q, after.mail_id);
		if (m != NULL && !list_mail(q, m, selection, (uint64_t)after.item + 1, each, user))
			return;
	}
	for (uint64_t id = after.mail_id; (m = next_mail(q, selection, id)) != NULL; id = m->id)
		if (!list_mail(q, m, selection, 0, each, user))
			return;
}

/* ---- change ---- */
static bool is_on_core(const struct item *i)
{
	return i->state == QUEUE_ITEM_ACTIVE;
}

static bool retry(struct queue *q, struct item *i)
{
	if (i->state != QUEUE_ITEM_WAITING || i->wants_remove)
		return false;
	i->is_forced = !i->is_bounce;
	item_wake(q, i);
	return true;
}

static bool hold(struct queue *q, struct item *i)
{
	if (i->state == QUEUE_ITEM_HELD || i->wants_hold || i->wants_remove)
		return false;
	if (is_on_core(i)) {
		i->wants_hold = true;
		mail_set_dirty(q, i->mail);
	} else {
		item_hold(q, i);
	}
	return true;
}

static bool release(struct queue *q, struct item *i)
{
	if (i->wants_hold) {
		i->wants_hold = false;
		mail_set_dirty(q, i->mail);
		return true;
	}
	if (i->state != QUEUE_ITEM_HELD || i->mail->is_unreadable)
		return false;
	item_wake(q, i);
	mail_set_dirty(q, i->mail);
	return true;
}

static bool remove_item(struct queue *q, struct item *i)
{
	if (i->wants_remove)
		return false;
	i->wants_remove = true;
	if (is_on_core(i))
		return true;
	if (i->state != QUEUE_ITEM_WAITING)
		item_enter(q, i, QUEUE_ITEM_WAITING);
	link_leave(&i->link);
	due_clear(&q->due, &i->due);
	list_append(&q->removing, &i->link);
	return true;
}

/* None of the changes ends an item at once, so the walk is safe. */
static uint64_t change(struct queue *q, const struct queue_selection *selection,
	bool (*what)(struct queue *q, struct item *i))
{
	struct queued_mail *m;
	uint64_t changed = 0;

	for (uint64_t id = 0; (m = next_mail(q, selection, id)) != NULL; id = m->id)
		for (struct link *l = m->items.next; l != &m->items; l = l->next) {
			struct item *i = LINK_OF(l, struct item, of_mail);
			changed += is_selected(q, i, selection) && what(q, i);
		}
	return changed;
}

uint64_t queue_retry(struct queue *q, const struct queue_selection *selection, uint64_t now_us)
{
	q->now_us = now_us;
	return change(q, selection, retry);
}

uint64_t queue_hold(struct queue *q, const struct queue_selection *selection)
{
	return change(q, selection, hold);
}

uint64_t queue_release(struct queue *q, const struct queue_selection *selection, uint64_t now_us)
{
	q->now_us = now_us;
	return change(q, selection, release);
}

uint64_t queue_remove(struct queue *q, const struct queue_selection *selection, uint64_t now_us)
{
	q->now_us = now_us;
	return change(q, selection, remove_item);
}
