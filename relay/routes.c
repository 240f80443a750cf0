// SPDX-License-Identifier: Apache-2.0
/* relay/routes.c: from a recipient's domain to the hosts to try, on the queue thread.
 *
 * The policy's routes are looked up here; names are resolved by control, and its answers kept by their TTL. A
 * route that needs an answer waits at it and is simply worked out again when it has come. While control is
 * away known answers serve for STALE_SECONDS longer; what is not known is deferred, never bounced. */
#include "relay/relay.h"

#include <stdio.h>
#include <stdlib.h>

#include <yyjson.h>

#define BUCKETS		16384
#define ASKED_MAX	1024 /* questions under way; more wait their turn */
#define ANSWERS_MAX	65536 /* kept; about 1 KiB each, and 300 bytes a target */
#define ANSWER_SECONDS	30   /* how long control may take (its resolver has a shorter limit of its own) */
#define FAILURE_SECONDS 10   /* a failed look-up is believed so long, so that it is not asked in a storm */
#define TTL_LEAST	30
#define TTL_MOST	3600
#define STALE_SECONDS	86400
#define POLICY_SECONDS	20   /* how long a route waits for the first policy after a start */
#define SECOND		1000000ull

struct waiting {
	struct waiting *next;
	uint64_t token, since_us;
	size_t domain_n, sender_n;
	uint8_t bytes[]; /* domain, then sender */
};

struct answer {
	struct answer *next;	  /* in its bucket */
	struct answer *queue_next; /* among those to be asked */
	bool is_queued, is_known;  /* is_known: targets hold an answer, maybe stale */
	uint32_t asked_slot;	   /* index in asked + 1; 0: not asked */
	uint64_t fresh_until_us, stale_until_us, failed_until_us;
	enum queue_route_outcome outcome;
	struct smtp_reply reply;
	struct queue_target *targets;
	uint32_t target_count;
	struct waiting *waiting;
	uint16_t port;
	bool is_mx;
	char name[]; /* lower case */
};

struct dns_cache {
	struct queue_thread *q;
	struct answer *buckets[BUCKETS];
	struct answer *asked[ASKED_MAX];
	uint64_t asked_token[ASKED_MAX], asked_until_us[ASKED_MAX];
	uint32_t asked_count, sweep, count;
	struct answer *queue_first, *queue_last;
	struct waiting *unrouted, **unrouted_end; /* until the first policy comes, the oldest first */
	uint64_t next_token;
	struct moment now;
	struct queue_route route; /* what is being worked out; too large for a stack frame a level */
};

struct dns_cache *dns_cache_create(struct queue_thread *q)
{
	struct dns_cache *d = calloc(1, sizeof *d);
	if (d == NULL)
		return NULL;
	d->q = q;
	d->unrouted_end = &d->unrouted;
	return d;
}

static void answer_free(struct answer *a)
{
	for (struct waiting *next, *w = a->waiting; w != NULL; w = next) {
		next = w->next;
		free(w);
	}
	free(a->targets);
	free(a);
}

void dns_cache_destroy(struct dns_cache *d)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct answer *next, *a = d->buckets[i]; a != NULL; a = next) {
			next = a->next;
			answer_free(a);
		}
	for (struct waiting *next, *w = d->unrouted; w != NULL; w = next) {
		next = w->next;
		free(w);
	}
	free(d);
}

/* ---- asking control ---- */

static void send_question(struct dns_cache *d, struct answer *a, uint32_t slot)
{
	char json[512];
	a->asked_slot = slot + 1;
	d->asked[slot] = a;
	d->asked_token[slot] = ++d->next_token * ASKED_MAX + slot;
	d->asked_until_us[slot] = d->now.monotonic_us + ANSWER_SECONDS * SECOND;
	d->asked_count++;
	/* Names here have passed the address grammar or the policy compiler: no quote, no backslash, no control. */
	int n = snprintf(json, sizeof json, "{\"type\":\"resolve\",\"token\":%llu,\"%s\":\"%s\",\"port\":%u}",
		(unsigned long long)d->asked_token[slot], a->is_mx ? "domain" : "host", a->name, a->port);
	struct note *note = note_new(NOTE_RESOLVE, json, (size_t)n);
	if (note == NULL || !ring_push_spsc(&d->q->to_main, note))
		free(note); /* its deadline answers it */
}

static void ask_queued(struct dns_cache *d)
{
	for (uint32_t slot = 0; slot < ASKED_MAX && d->queue_first != NULL; slot++) {
		if (d->asked[slot] != NULL)
			continue;
		struct answer *a = d->queue_first;
		d->queue_first = a->queue_next;
		a->is_queued = false;
		send_question(d, a, slot);
	}
}

static void ask(struct dns_cache *d, struct answer *a)
{
	if (a->asked_slot != 0 || a->is_queued)
		return;
	a->is_queued = true;
	a->queue_next = NULL;
	if (d->queue_first == NULL)
		d->queue_first = a;
	else
		d->queue_last->queue_next = a;
	d->queue_last = a;
	if (d->asked_count < ASKED_MAX)
		ask_queued(d);
}

static struct answer *find_answer(struct dns_cache *d, const char *name, uint16_t port, bool is_mx)
{
	uint32_t hash = 2166136261u ^ port ^ (is_mx ? 0x10000u : 0);
	for (const char *p = name; *p != '\0'; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	struct answer **bucket = &d->buckets[hash % BUCKETS];
	for (struct answer *a = *bucket; a != NULL; a = a->next)
		if (a->port == port && a->is_mx == is_mx && strcmp(a->name, name) == 0)
			return a;
	struct answer *a = calloc(1, sizeof *a + strlen(name) + 1);
	if (a == NULL)
		return NULL;
	memcpy(a->name, name, strlen(name) + 1);
	a->port = port;
	a->is_mx = is_mx;
	a->next = *bucket;
	*bucket = a;
	d->count++;
	return a;
}

/* Can the answer be used now? Else it is being asked for. */
static bool is_usable(struct dns_cache *d, struct answer *a)
{
	if (a->is_known && d->now.monotonic_us < a->fresh_until_us)
		return true;
	if (d->now.monotonic_us < a->failed_until_us)
		return true;
	ask(d, a);
	return false;
}

/* ---- working out a route ---- */

enum progress { ROUTE_READY, ROUTE_WAITS };

static void set_outcome(struct queue_route *r, enum queue_route_outcome outcome, uint16_t code, uint8_t subject,
	uint16_t detail, const char *text)
{
	r->outcome = outcome;
	r->reply = (struct smtp_reply){.code = code, .is_ours = true};
	r->reply.enhanced[0] = (uint8_t)(code / 100);
	r->reply.enhanced[1] = subject;
	r->reply.detail = detail;
	snprintf(r->reply.text, sizeof r->reply.text, "%s", text);
}

static void add_target(struct queue_route *r, const struct queue_target *target)
{
	if (r->target_count < QUEUE_TARGETS_MAX)
		r->targets[r->target_count++] = *target;
}

/* Adds the targets of one name; ROUTE_WAITS: not known yet, `*wait` says which. */
static enum progress add_resolved(struct dns_cache *d, const char *name, uint16_t port, bool is_mx,
	bool implicit_tls, struct queue_route *r, struct answer **wait)
{
	struct answer *a = find_answer(d, name, port, is_mx);
	if (a == NULL) {
		set_outcome(r, QUEUE_ROUTE_DEFER, 451, 3, 0, "out of memory while routing");
		return ROUTE_READY;
	}
	if (!is_usable(d, a)) {
		*wait = a;
		return ROUTE_WAITS;
	}
	for (uint32_t i = 0; a->is_known && i < a->target_count; i++) {
		struct queue_target target = a->targets[i];
		target.implicit_tls = implicit_tls;
		add_target(r, &target);
	}
	/* Of several hosts without an address, one that may have one later is reason to wait. */
	if (a->outcome != QUEUE_ROUTE_OK && r->outcome != QUEUE_ROUTE_DEFER) {
		r->outcome = a->outcome;
		r->reply = a->reply;
	}
	return ROUTE_READY;
}

static enum progress add_host(struct dns_cache *d, const struct policy_host *host, struct queue_route *r,
	struct answer **wait)
{
	struct queue_target target = {.port = host->port, .implicit_tls = host->implicit_tls};
	if (!addr_parse(host->host, &target.addr))
		return add_resolved(d, host->host, host->port, false, host->implicit_tls, r, wait);
	snprintf(target.host, sizeof target.host, "%s", host->host);
	add_target(r, &target);
	return ROUTE_READY;
}

/* An address literal (RFC 5321 4.1.3) routed by MX is its own target. */
static bool add_literal(const char *domain, uint16_t port, struct queue_route *r)
{
	char text[256];
	struct queue_target target = {.port = port};
	const char *at = strncasecmp(domain, "[IPv6:", 6) == 0 ? domain + 6 : domain + 1;
	if (domain[0] != '[')
		return false;
	snprintf(text, sizeof text, "%.*s", (int)strcspn(at, "]"), at);
	if (!addr_parse(text, &target.addr)) {
		set_outcome(r, QUEUE_ROUTE_FAIL, 550, 1, 2, "the address literal is not an address");
		return true;
	}
	snprintf(target.host, sizeof target.host, "%s", text);
	add_target(r, &target);
	return true;
}

static enum progress work_out(struct dns_cache *d, const char *domain, struct bytes sender, struct answer **wait)
{
	struct queue_route *r = &d->route;
	struct policy_route route;
	struct policy_out out;
	const struct view *view = d->q->views.current;
	memset(r, 0, offsetof(struct queue_route, targets));
	if (view == NULL) {
		set_outcome(r, QUEUE_ROUTE_DEFER, 451, 3, 5, "no policy has come from the control plane yet");
		r->target_count = 0;
		return ROUTE_READY;
	}
	r->generation = view->number;
	if (!policy_find_route(view->policy, bytes_of_string(domain), &route)) {
		set_outcome(r, QUEUE_ROUTE_FAIL, 550, 4, 4, "no route to this domain");
		return ROUTE_READY;
	}
	policy_resolve_out(view->policy, sender, bytes_of_string(domain), BYTES_NONE, NULL, &out);
	r->profile = out.profile;
	memcpy(r->rule_id, out.rule_id, sizeof r->rule_id);
	snprintf(r->site, sizeof r->site, "%s:%s", route.is_mx ? "mx" : "route", route.is_mx ? domain : route.id);
	if (route.is_mx) {
		if (!add_literal(domain, route.mx_port, r) &&
			add_resolved(d, domain, route.mx_port, true, false, r, wait) == ROUTE_WAITS)
			return ROUTE_WAITS;
	}
	for (uint32_t i = 0; !route.is_mx && i < route.host_count; i++)
		if (add_host(d, &route.hosts[i], r, wait) == ROUTE_WAITS)
			return ROUTE_WAITS;
	if (r->target_count != 0)
		r->outcome = QUEUE_ROUTE_OK; /* one host that resolves is enough */
	else if (r->outcome == QUEUE_ROUTE_OK)
		set_outcome(r, QUEUE_ROUTE_DEFER, 451, 4, 4, "the route has no host");
	return ROUTE_READY;
}


static void route_or_wait(struct dns_cache *d, struct waiting *w)
{
	struct answer *wait = NULL;
	char domain[256];
	struct bytes name = bytes_of(w->bytes, w->domain_n);
	bytes_to_string(name, domain, sizeof domain);
	for (char *p = domain; *p != '\0'; p++)
		*p = (char)byte_lower((uint8_t)*p);
	if (work_out(d, domain, bytes_of(w->bytes + w->domain_n, w->sender_n), &wait) == ROUTE_WAITS) {
		w->next = wait->waiting;
		wait->waiting = w;
		return;
	}
	queue_route_answer(d->q->queue, w->token, &d->route, d->now.wall_us);
	free(w);
}

void dns_route(struct dns_cache *d, uint64_t token, struct bytes domain, struct bytes sender, struct moment now)
{
	d->now = now;
	struct waiting *w = malloc(sizeof *w + domain.n + sender.n);
	if (w == NULL) {
		set_outcome(&d->route, QUEUE_ROUTE_DEFER, 451, 3, 0, "out of memory while routing");
		d->route.target_count = 0;
		queue_route_answer(d->q->queue, token, &d->route, now.wall_us);
		return;
	}
	*w = (struct waiting){.token = token, .since_us = now.monotonic_us, .domain_n = domain.n, .sender_n = sender.n};
	memcpy(w->bytes, domain.at, domain.n);
	if (sender.n != 0)
		memcpy(w->bytes + domain.n, sender.at, sender.n);
	if (d->q->views.current != NULL) {
		route_or_wait(d, w);
		return;
	}
	/* What was recovered at the start comes before the policy does: to try it in vain would cost it its place in
	 * the schedule, and the reason it had. */
	*d->unrouted_end = w;
	d->unrouted_end = &w->next;
}

/* Routes those that wait for a policy: all of them, once it is there, else those that have waited too long. */
static void route_unrouted(struct dns_cache *d)
{
	bool has_policy = d->q->views.current != NULL;
	while (d->unrouted != NULL &&
		(has_policy || d->unrouted->since_us + POLICY_SECONDS * SECOND < d->now.monotonic_us)) {
		struct waiting *w = d->unrouted;
		d->unrouted = w->next;
		if (d->unrouted == NULL)
			d->unrouted_end = &d->unrouted;
		w->next = NULL;
		route_or_wait(d, w);
	}
}

void dns_policy_changed(struct dns_cache *d, struct moment now)
{
	d->now = now;
	route_unrouted(d);
}

/* ---- answers ---- */

static void wake_waiting(struct dns_cache *d, struct answer *a)
{
	struct waiting *w = a->waiting;
	a->waiting = NULL;
	for (struct waiting *next; w != NULL; w = next) {
		next = w->next;
		route_or_wait(d, w);
	}
}

static struct answer *take_asked(struct dns_cache *d, uint32_t slot)
{
	struct answer *a = d->asked[slot];
	d->asked[slot] = NULL;
	d->asked_count--;
	a->asked_slot = 0;
	return a;
}

/* No answer: hosts that are known go on serving; else it is deferred, also where the last word, now too old, was
 * that there are none. */
static void answer_failed(struct dns_cache *d, struct answer *a, const char *why)
{
	if (a->is_known && a->outcome == QUEUE_ROUTE_OK && d->now.monotonic_us < a->stale_until_us) {
		a->fresh_until_us = d->now.monotonic_us + FAILURE_SECONDS * SECOND;
	} else {
		struct queue_route failed;
		a->is_known = false;
		set_outcome(&failed, QUEUE_ROUTE_DEFER, 451, 4, 3, why);
		a->outcome = failed.outcome;
		a->reply = failed.reply;
		a->failed_until_us = d->now.monotonic_us + FAILURE_SECONDS * SECOND;
	}
	wake_waiting(d, a);
}

/* Replaces the targets; false: there is none that can be used, and those before stay. */
static bool take_targets(struct answer *a, yyjson_val *list)
{
	size_t i, n;
	yyjson_val *item;
	uint32_t count = 0;
	struct queue_target *targets = calloc(QUEUE_TARGETS_MAX, sizeof *targets);
	if (targets == NULL)
		return false;
	yyjson_arr_foreach(list, i, n, item)
	{
		struct queue_target *t = &targets[count];
		const char *host = yyjson_get_str(yyjson_obj_get(item, "host"));
		const char *address = yyjson_get_str(yyjson_obj_get(item, "address"));
		if (host == NULL || address == NULL || !addr_parse(address, &t->addr))
			continue;
		snprintf(t->host, sizeof t->host, "%s", host);
		t->port = a->port;
		if (++count == QUEUE_TARGETS_MAX)
			break;
	}
	struct queue_target *fitting = count == 0 ? NULL : realloc(targets, count * sizeof *targets);
	if (fitting == NULL) {
		free(targets);
		return false;
	}
	free(a->targets);
	a->targets = fitting;
	a->target_count = count;
	return true;
}

/* There is no such domain or host, or it takes no mail: final. */
static void set_failure(struct answer *a, yyjson_val *root, const char *text)
{
	unsigned class, subject = 4, detail = 3;
	struct queue_route failed;
	const char *enhanced = yyjson_get_str(yyjson_obj_get(root, "enhanced"));
	if (enhanced == NULL || sscanf(enhanced, "%1u.%3u.%3u", &class, &subject, &detail) != 3)
		subject = 4, detail = 3;
	uint64_t code = yyjson_get_uint(yyjson_obj_get(root, "code"));
	set_outcome(&failed, QUEUE_ROUTE_FAIL, code >= 500 && code < 600 ? (uint16_t)code : 550,
		(uint8_t)subject, (uint16_t)detail, text != NULL ? text : "the domain has no mail host");
	a->outcome = failed.outcome;
	a->reply = failed.reply;
	a->target_count = 0;
}

static void set_answer(struct dns_cache *d, struct answer *a, yyjson_val *root)
{
	const char *outcome = yyjson_get_str(yyjson_obj_get(root, "outcome"));
	const char *text = yyjson_get_str(yyjson_obj_get(root, "text"));
	uint64_t ttl = yyjson_get_uint(yyjson_obj_get(root, "ttl"));
	ttl = ttl < TTL_LEAST ? TTL_LEAST : ttl > TTL_MOST ? TTL_MOST : ttl;
	bool is_failure = outcome != NULL && strcmp(outcome, "fail") == 0;
	bool is_ok = outcome != NULL && strcmp(outcome, "ok") == 0;
	/* Final is only what says so; all else is tried again. */
	if (!is_failure && !(is_ok && take_targets(a, yyjson_obj_get(root, "targets")))) {
		answer_failed(d, a, text != NULL ? text : "name service error");
		return;
	}
	a->outcome = QUEUE_ROUTE_OK;
	if (is_failure)
		set_failure(a, root, text);
	a->is_known = true;
	a->failed_until_us = 0;
	a->fresh_until_us = d->now.monotonic_us + ttl * SECOND;
	a->stale_until_us = a->fresh_until_us + STALE_SECONDS * SECOND;
	wake_waiting(d, a);
}

void dns_resolved(struct dns_cache *d, const char *json, size_t n, struct moment now)
{
	d->now = now;
	yyjson_doc *doc = yyjson_read(json, n, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	uint64_t token = yyjson_get_uint(yyjson_obj_get(root, "token"));
	uint32_t slot = (uint32_t)(token % ASKED_MAX);
	if (doc != NULL && d->asked[slot] != NULL && d->asked_token[slot] == token) {
		set_answer(d, take_asked(d, slot), root);
		ask_queued(d);
	}
	yyjson_doc_free(doc);
}

void dns_unlinked(struct dns_cache *d, struct moment now)
{
	d->now = now;
	for (uint32_t slot = 0; slot < ASKED_MAX; slot++)
		if (d->asked[slot] != NULL)
			answer_failed(d, take_asked(d, slot), "the control plane, which resolves names, is away");
	ask_queued(d);
}

/* Is it still of use? Of too many none is kept but those under way: who makes us look up a million names does
 * not get a million answers kept for a day. */
static bool is_wanted(const struct dns_cache *d, const struct answer *a)
{
	if (a->asked_slot != 0 || a->is_queued || a->waiting != NULL)
		return true;
	if (d->count > ANSWERS_MAX)
		return false;
	return d->now.monotonic_us < a->failed_until_us || (a->is_known && d->now.monotonic_us < a->stale_until_us);
}

/* Answers too old to serve are forgotten, a few buckets at a time. */
static void sweep(struct dns_cache *d)
{
	for (int i = 0; i < 64; i++) {
		struct answer **link = &d->buckets[d->sweep++ % BUCKETS];
		while (*link != NULL) {
			struct answer *a = *link;
			if (is_wanted(d, a)) {
				link = &a->next;
				continue;
			}
			*link = a->next;
			answer_free(a);
			d->count--;
		}
	}
}

void dns_tick(struct dns_cache *d, struct moment now)
{
	d->now = now;
	for (uint32_t slot = 0; d->asked_count != 0 && slot < ASKED_MAX; slot++)
		if (d->asked[slot] != NULL && d->asked_until_us[slot] <= now.monotonic_us)
			answer_failed(d, take_asked(d, slot), "the control plane did not answer in time");
	ask_queued(d);
	route_unrouted(d);
	sweep(d);
}
