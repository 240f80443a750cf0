// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/item.c: the states of an item, and what belongs to each.
 *
 *            admit, recover ──▶ WAITING ◀──────────── deferred ───────────┐
 *                                  │ due, woken            ▲              │
 *                                  ▼                       │              │
 *                               ROUTING ──▶ READY ──▶ LOADING ──▶ ACTIVE ─┴──▶ gone
 *                                             └────────────────────▲
 * An operator's hold takes it from any of them (ACTIVE: when it comes back) to HELD, a release to WAITING.
 * A bounce goes WAITING ──▶ LOADING ──▶ ACTIVE (its DSN is becoming durable) ──▶ gone. */
#include "smtp/queue/queue_private.h"

#include <assert.h>
#include <stdlib.h>

const char *queue_item_state_name(enum queue_item_state state)
{
	static const char *const names[] = {
		[QUEUE_ITEM_ROUTING] = "routing",
		[QUEUE_ITEM_READY] = "ready",
		[QUEUE_ITEM_LOADING] = "loading",
		[QUEUE_ITEM_ACTIVE] = "active",
		[QUEUE_ITEM_WAITING] = "waiting",
		[QUEUE_ITEM_HELD] = "held",
	};
	return names[state];
}

struct bytes address_domain(struct bytes address)
{
	/* The last @, since a quoted local part may hold others (RFC 5321 4.1.2). */
	for (size_t n = address.n; n != 0; n--)
		if (address.at[n - 1] == '@')
			return bytes_skip(address, n);
	return BYTES_NONE;
}

/* "postmaster" alone is ours to route (RFC 5321 4.5.1). */
struct bytes item_domain(const struct queue *q, const struct item *i)
{
	struct bytes domain = i->count == 0 ? BYTES_NONE : address_domain(i->recipients[0]);

	return domain.n != 0 ? domain : bytes_of_string(q->hostname);
}

struct item *item_make(struct queue *q, struct queued_mail *m, uint32_t room)
{
	struct item *i = queue_calloc(1, sizeof *i + room * (sizeof(struct bytes) +
					 sizeof(struct reason *) + sizeof(uint32_t)));

	i->mail = m;
	i->room = room;
	i->state = QUEUE_ITEM_WAITING;
	i->due.kind = DUE_ITEM;
	link_init(&i->link);
	link_init(&i->of_mail);
	list_append(&m->items, &i->of_mail);
	q->by_state[QUEUE_ITEM_WAITING]++;
	return i;
}

void item_add(struct item *i, struct bytes recipient, uint32_t number, struct reason *reason)
{
	assert(i->count < i->room);
	i->recipients[i->count] = recipient;
	item_reasons(i)[i->count] = reason;
	item_numbers(i)[i->count] = number;
	i->count++;
}

void item_set_reason(struct item *i, uint32_t at, struct reason *reason)
{
	reason_release(item_reasons(i)[at]);
	item_reasons(i)[at] = reason;
}

void item_set_reasons(struct item *i, struct reason *reason)
{
	for (uint32_t at = 0; at < i->count; at++)
		item_set_reason(i, at, reason_hold(reason));
}

void item_finish_recipient(struct queue *q, struct item *i, uint32_t at)
{
	uint32_t last = i->count - 1;

	mail_set_done(i->mail, item_numbers(i)[at]);
	mail_set_dirty(q, i->mail);
	reason_release(item_reasons(i)[at]);
	i->recipients[at] = i->recipients[last];
	item_reasons(i)[at] = item_reasons(i)[last];
	item_numbers(i)[at] = item_numbers(i)[last];
	i->count--;
}

/* What may follow what. A job's end, a failed load and the like all lead to WAITING, and on from there. */
#define TO(s) (1u << QUEUE_ITEM_##s)
static const uint8_t may_follow[] = {
	[QUEUE_ITEM_ROUTING] = TO(READY) | TO(WAITING) | TO(HELD),
	[QUEUE_ITEM_READY] = TO(ACTIVE) | TO(LOADING) | TO(WAITING) | TO(HELD),
	[QUEUE_ITEM_LOADING] = TO(ACTIVE) | TO(WAITING) | TO(HELD),
	[QUEUE_ITEM_ACTIVE] = TO(WAITING) | TO(HELD),
	[QUEUE_ITEM_WAITING] =
		TO(ROUTING) | TO(READY) | TO(LOADING) | TO(ACTIVE) | TO(WAITING) | TO(HELD),
	[QUEUE_ITEM_HELD] = TO(WAITING),
};
#undef TO

static bool is_hot(unsigned state)
{
	return state != QUEUE_ITEM_WAITING && state != QUEUE_ITEM_HELD;
}

/* Leaves what the state held. The site and the route stay with it from READY to ACTIVE. */
static void leave(struct queue *q, struct item *i, bool keeps_site)
{
	struct site *site = i->site;

	link_leave(&i->link);
	due_clear(&q->due, &i->due);
	if (i->state == QUEUE_ITEM_ACTIVE && i->is_bounce)
		bounce_leave(q, i);
	if (site != NULL && i->state == QUEUE_ITEM_LOADING)
		site->loading--;
	if (site != NULL && i->state == QUEUE_ITEM_ACTIVE)
		site->active--;
	if (site == NULL || keeps_site)
		return;
	i->site = NULL;
	route_release(q, i->route);
	i->route = NULL;
	site_settle(q, site);
}

void item_enter(struct queue *q, struct item *i, enum queue_item_state next)
{
	assert(may_follow[i->state] >> next & 1);
	i->mail->hot += is_hot(next);
	i->mail->hot -= is_hot(i->state);
	leave(q, i, next == QUEUE_ITEM_LOADING || next == QUEUE_ITEM_ACTIVE);
	q->by_state[i->state]--;
	q->by_state[next]++;
	i->state = next;
	if (i->site != NULL && next == QUEUE_ITEM_LOADING)
		i->site->loading++;
	if (i->site != NULL && next == QUEUE_ITEM_ACTIVE)
		i->site->active++;
}

void item_end(struct queue *q, struct item *i)
{
	struct queued_mail *m = i->mail;

	assert(i->count == 0);
	if (i->state != QUEUE_ITEM_WAITING)
		item_enter(q, i, QUEUE_ITEM_WAITING);
	leave(q, i, false);
	q->by_state[QUEUE_ITEM_WAITING]--;
	link_leave(&i->of_mail);
	free(i->evidence);
	free(i);
	m->is_over = link_is_alone(&m->items);
	mail_set_dirty(q, m);
	mail_cool(q, m);
}

void item_wait(struct queue *q, struct item *i, uint64_t until_us)
{
	item_enter(q, i, QUEUE_ITEM_WAITING);
	due_set(&q->due, &i->due, until_us);
	mail_cool(q, i->mail);
}

void item_wake(struct queue *q, struct item *i)
{
	item_enter(q, i, QUEUE_ITEM_WAITING);
	list_append(&q->woken, &i->link);
}

void item_hold(struct queue *q, struct item *i)
{
	i->wants_hold = false;
	item_enter(q, i, QUEUE_ITEM_HELD);
	mail_set_dirty(q, i->mail);
	mail_cool(q, i->mail);
}

void item_go(struct queue *q, struct item *i)
{
	if (i->is_bounce)
		bounce_go(q, i);
	else
		item_find_route(q, i);
}

void item_load(struct queue *q, struct item *i)
{
	item_enter(q, i, QUEUE_ITEM_LOADING);
	list_append(&q->load_wait, &i->link);
}

static void loaded(struct queue *q, struct item *i)
{
	i->load_failures = 0;
	if (i->is_bounce) {
		item_enter(q, i, QUEUE_ITEM_WAITING);
		bounce_go(q, i);
	} else if (i->route->epoch != q->epoch) {
		item_wake(q, i); /* the policy has changed in between */
	} else {
		site_start(q, i);
	}
}

bool item_load_step(struct queue *q)
{
	if (q->loads >= LOADS_MAX || link_is_alone(&q->load_wait))
		return false;
	struct item *i = LINK_OF(q->load_wait.next, struct item, link);
	struct queued_mail *m = i->mail;
	link_leave(&i->link);
	if (m->mail != NULL) {
		loaded(q, i);
		return true;
	}
	due_set(&q->due, &i->due, q->now_us + LOAD_SECONDS_MAX * SECONDS);
	if (!m->is_loading) {
		m->is_loading = true;
		q->loads++;
		effect_push(q, QUEUE_EFFECT_LOAD, 0)->effect.mail_id = m->id;
	}
	return true;
}

/* "Not now" is said when the spool thread has no memory to read into; a body that cannot be read at all
 * looks the same, so it is not asked for every second for ever. */
static void load_failed(struct queue *q, struct item *i)
{
	static const char text[] = "The message could not be read back from the spool";

	if (i->load_failures < LOAD_FAILURES_MAX)
		i->load_failures++;
	if (i->load_failures < LOAD_FAILURES_MAX || i->is_bounce) {
		item_wait(q, i, q->now_us + LOAD_AGAIN_SECONDS * SECONDS);
		return;
	}
	struct reason *reason = reason_ours(451, 3, 0, text);
	item_set_reasons(i, reason);
	reason_release(reason);
	item_defer(q, i, &(struct attempt){.stage = "spool", .is_try = true});
}

static void load_answered(struct queue *q, struct queued_mail *m)
{
	if (m->is_loading)
		q->loads--;
	m->is_loading = false;
}

void queue_loaded(struct queue *q, uint64_t mail_id, struct mail *mail, uint64_t now_us)
{
	struct queued_mail *m = mail_find(q, mail_id);

	q->now_us = now_us;
	if (m == NULL) {
		if (mail != NULL)
			effect_push(q, QUEUE_EFFECT_RETURN, 0)->effect.mail = mail;
		return;
	}
	load_answered(q, m);
	if (mail != NULL)
		mail_take_body(q, m, mail);
	/* Those that have no link have asked; the others will find it resident when it is their turn.
	 * Going on may end that item, but no other. */
	for (struct link *l = m->items.next, *next; l != &m->items; l = next) {
		struct item *i = LINK_OF(l, struct item, of_mail);
		next = l->next;
		if (i->state != QUEUE_ITEM_LOADING || !link_is_alone(&i->link))
			continue;
		if (mail == NULL)
			load_failed(q, i);
		else
			loaded(q, i);
	}
	mail_cool(q, m);
}

void item_due(struct queue *q, struct item *i)
{
	due_clear(&q->due, &i->due);
	if (i->state == QUEUE_ITEM_WAITING) {
		item_go(q, i);
	} else if (i->state == QUEUE_ITEM_LOADING) {
		load_answered(q, i->mail);
		load_failed(q, i);
	} else if (i->state == QUEUE_ITEM_ACTIVE && i->is_bounce) {
		bounce_overdue(q, i);
	}
}
