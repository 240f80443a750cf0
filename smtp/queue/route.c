// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/route.c: where domains go: asked once for all who wait, kept for a minute, forgotten with the
 * policy generation. */
#include "smtp/queue/queue_private.h"

#include <stdlib.h>

/* ---- routes, one for all answers that say the same ---- */
/* What of it is filled: the rest of the targets is never touched. */
static size_t used_size(const struct queue_route *r)
{
	return offsetof(struct queue_route, targets) + r->target_count * sizeof r->targets[0];
}

static bool is_same_target(const struct queue_target *a, const struct queue_target *b)
{
	return strncmp(a->host, b->host, sizeof a->host) == 0 && addr_equal(&a->addr, &b->addr) &&
	       a->port == b->port && a->implicit_tls == b->implicit_tls;
}

static bool is_same_route(const struct queue_route *a, const struct queue_route *b)
{
	if (a->generation != b->generation || a->target_count != b->target_count ||
		strncmp(a->site, b->site, sizeof a->site) != 0 ||
		strncmp(a->rule_id, b->rule_id, sizeof a->rule_id) != 0 ||
		strncmp(a->profile.id, b->profile.id, sizeof a->profile.id) != 0 ||
		a->profile.index != b->profile.index)
		return false;
	for (uint32_t n = 0; n < a->target_count; n++)
		if (!is_same_target(&a->targets[n], &b->targets[n]))
			return false;
	return true;
}

static struct bytes bounded(const char *text, size_t size)
{
	return bytes_of(text, strnlen(text, size - 1));
}

static struct route *route_get(struct queue *q, const struct queue_route *answer)
{
	uint64_t hash = hash_bytes(&q->key, q->epoch, bounded(answer->site, sizeof answer->site), false);

	for (struct table_link *l = table_find(&q->routes, hash); l != NULL; l = table_find_next(l)) {
		struct route *r = LINK_OF(l, struct route, by_content);
		if (r->epoch == q->epoch && is_same_route(&r->route, answer)) {
			r->refs++;
			return r;
		}
	}
	struct route *r = queue_calloc(1, sizeof *r);
	r->refs = 1;
	r->epoch = q->epoch;
	memcpy(&r->route, answer, used_size(answer));
	r->route.site[sizeof r->route.site - 1] = '\0';
	r->route.profile.id[sizeof r->route.profile.id - 1] = '\0';
	table_put(&q->routes, &r->by_content, hash);
	return r;
}

void route_release(struct queue *q, struct route *r)
{
	if (r == NULL || --r->refs != 0)
		return;
	table_remove(&q->routes, &r->by_content);
	free(r);
}

/* ---- asks ---- */
static uint64_t hash_token(uint64_t token)
{
	return token * 0x9e3779b97f4a7c15;
}

static uint64_t hash_ask(const struct queue *q, struct bytes sender, struct bytes domain)
{
	return hash_bytes(&q->key, hash_bytes(&q->key, 0, domain, true), sender, false);
}

static struct bytes ask_sender(const struct ask *a)
{
	return bytes_of(a->key, a->sender_n);
}

static struct bytes ask_domain(const struct ask *a)
{
	return bytes_of(a->key + a->sender_n, a->domain_n);
}

static struct ask *find(const struct queue *q, uint64_t hash, struct bytes sender, struct bytes domain)
{
	for (struct table_link *l = table_find(&q->asks_by_key, hash); l != NULL;
		l = table_find_next(l)) {
		struct ask *a = LINK_OF(l, struct ask, by_key);
		if (bytes_equal(ask_sender(a), sender) && bytes_equal_nocase(ask_domain(a), domain))
			return a;
	}
	return NULL;
}

static void free_ask(struct queue *q, struct ask *a)
{
	link_leave(&a->age);
	link_leave(&a->answered);
	due_clear(&q->due, &a->due);
	route_release(q, a->route);
	reason_release(a->reason);
	free(a);
}

/* Nobody finds it any more; those who wait for it still hear its answer. */
static void forget(struct queue *q, struct ask *a)
{
	if (!a->is_forgotten)
		table_remove(&q->asks_by_key, &a->by_key);
	a->is_forgotten = true;
	link_leave(&a->age);
	if (a->is_answered && link_is_alone(&a->items))
		free_ask(q, a);
}

/* Asks, or asks again, with a new token. */
static void ask_out(struct queue *q, struct ask *a)
{
	struct effect *e = effect_push(q, QUEUE_EFFECT_ROUTE, (size_t)a->sender_n + a->domain_n);

	a->token = ++q->last_token;
	a->epoch = q->epoch;
	table_put(&q->asks_by_token, &a->by_token, hash_token(a->token));
	due_set(&q->due, &a->due, q->now_us + ASK_SECONDS_MAX * SECONDS);
	memcpy(e->tail, a->key, (size_t)a->sender_n + a->domain_n);
	e->effect.token = a->token;
	e->effect.sender = bytes_of(e->tail, a->sender_n);
	e->effect.domain = bytes_of(e->tail + a->sender_n, a->domain_n);
}

static struct ask *ask_make(struct queue *q, uint64_t hash, struct bytes sender, struct bytes domain)
{
	struct ask *a = queue_calloc(1, sizeof *a + sender.n + domain.n);

	a->sender_n = (uint16_t)sender.n;
	a->domain_n = (uint16_t)domain.n;
	if (sender.n != 0)
		memcpy(a->key, sender.at, sender.n);
	for (size_t n = 0; n < domain.n; n++)
		a->key[sender.n + n] = byte_lower(domain.at[n]);
	a->due.kind = DUE_ASK;
	link_init(&a->age);
	link_init(&a->answered);
	link_init(&a->items);
	table_put(&q->asks_by_key, &a->by_key, hash);
	ask_out(q, a);
	return a;
}

/* An item goes where the answer says. */
static void follow(struct queue *q, struct item *i, const struct ask *a)
{
	if (a->route != NULL) {
		a->route->refs++;
		site_add(q, i, a->route);
		return;
	}
	struct attempt attempt = {.stage = "route", .is_try = true};
	item_set_reasons(i, a->reason);
	i->is_tls = false;
	if (a->reason->code >= 500)
		item_bounce(q, i, &attempt);
	else
		item_defer(q, i, &attempt);
}

static bool is_old(const struct queue *q, const struct ask *a)
{
	return a->epoch != q->epoch || q->now_us >= a->answered_us + ROUTE_SECONDS * SECONDS ||
	       q->now_us < a->answered_us;
}

void item_find_route(struct queue *q, struct item *i)
{
	struct bytes sender = mail_sender(i->mail), domain = item_domain(q, i);
	uint64_t hash = hash_ask(q, sender, domain);
	struct ask *a = find(q, hash, sender, domain);

	if (a != NULL && a->is_answered && is_old(q, a)) {
		forget(q, a);
		a = NULL;
	}
	if (a != NULL && a->is_answered) {
		item_enter(q, i, QUEUE_ITEM_ROUTING);
		follow(q, i, a);
		return;
	}
	if (a == NULL)
		a = ask_make(q, hash, sender, domain);
	item_enter(q, i, QUEUE_ITEM_ROUTING);
	list_append(&a->items, &i->link);
}

static void answer(struct queue *q, struct ask *a)
{
	table_remove(&q->asks_by_token, &a->by_token);
	due_clear(&q->due, &a->due);
	a->is_answered = true;
	a->answered_us = q->now_us;
	if (!link_is_alone(&a->items))
		list_append(&q->answered, &a->answered);
}

/* Not now: those who wait hear it, whoever comes later asks again. */
static void answer_defer(struct queue *q, struct ask *a, struct reason *reason)
{
	answer(q, a);
	a->reason = reason;
	forget(q, a);
}

void route_overdue(struct queue *q, struct ask *a)
{
	answer_defer(q, a, reason_ours(451, 4, 3, "No answer about the route to this domain"));
}

static struct reason *why_not(const struct queue_route *route)
{
	bool is_final = route->outcome == QUEUE_ROUTE_FAIL;
	struct smtp_reply reply = route->reply;

	/* The outcome decides, whatever code came with it. */
	if (reply.code / 100 != (is_final ? 5 : 4))
		reply.code = is_final ? 550 : 451;
	if (reply.enhanced[0] != 0)
		reply.enhanced[0] = is_final ? 5 : 4;
	reply.is_ours = true;
	if (reply.text[0] == '\0')
		strcpy(reply.text, "No route to this domain");
	return reason_make(&reply, BYTES_NONE);
}

static void keep(struct queue *q, struct ask *a)
{
	list_append(&q->known, &a->age);
	while (!link_is_alone(&q->known)) {
		struct ask *oldest = LINK_OF(q->known.next, struct ask, age);
		if (q->asks_by_key.count <= ROUTES_MAX && !is_old(q, oldest))
			return;
		forget(q, oldest);
	}
}

void queue_route_answer(
	struct queue *q, uint64_t token, const struct queue_route *route, uint64_t now_us)
{
	struct table_link *l = table_find(&q->asks_by_token, hash_token(token));

	q->now_us = now_us;
	if (l == NULL)
		return;
	struct ask *a = LINK_OF(l, struct ask, by_token);
	if (a->epoch != q->epoch) { /* asked under the generation before */
		table_remove(&q->asks_by_token, &a->by_token);
		ask_out(q, a);
		return;
	}
	if (route->outcome == QUEUE_ROUTE_OK && route->target_count != 0 &&
		route->target_count <= QUEUE_TARGETS_MAX) {
		answer(q, a);
		a->route = route_get(q, route);
		keep(q, a);
	} else if (route->outcome == QUEUE_ROUTE_FAIL) {
		answer(q, a);
		a->reason = why_not(route);
		keep(q, a);
	} else {
		answer_defer(q, a, why_not(route));
	}
}

bool route_step(struct queue *q)
{
	if (link_is_alone(&q->answered))
		return false;
	struct ask *a = LINK_OF(q->answered.next, struct ask, answered);
	if (link_is_alone(&a->items)) {
		link_leave(&a->answered);
		if (a->is_forgotten)
			free_ask(q, a);
		return true;
	}
	struct item *i = LINK_OF(a->items.next, struct item, link);
	link_leave(&i->link);
	if (a->epoch == q->epoch)
		follow(q, i, a);
	else
		item_wake(q, i);
	return true;
}

void route_free_all(struct queue *q)
{
	for (uint64_t n = 0; n < q->asks_by_token.bucket_count; n++)
		for (struct table_link *l = q->asks_by_token.buckets[n], *next; l != NULL; l = next) {
			struct ask *a = LINK_OF(l, struct ask, by_token);
			next = l->next;
			table_remove(&q->asks_by_key, &a->by_key);
			free(a);
		}
	while (!link_is_alone(&q->answered))
		free_ask(q, LINK_OF(q->answered.next, struct ask, answered));
	while (!link_is_alone(&q->known))
		free_ask(q, LINK_OF(q->known.next, struct ask, age));
	for (uint64_t n = 0; n < q->routes.bucket_count; n++)
		for (struct table_link *l = q->routes.buckets[n], *next; l != NULL; l = next) {
			next = l->next;
			free(LINK_OF(l, struct route, by_content));
		}
	table_fini(&q->asks_by_key);
	table_fini(&q->asks_by_token);
	table_fini(&q->routes);
}
