// SPDX-License-Identifier: Apache-2.0
#include "smtp/queue/world.h"

#include "smtp/envelope.h"
#include "smtp/queue/queue_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum event_kind { EVENT_ROUTE, EVENT_LOAD, EVENT_JOB, EVENT_SUBMIT };

struct world_event {
	struct world_event *next;
	uint64_t at_us;
	enum event_kind kind;
	uint64_t token, mail_id;
	char domain[256];
	struct queue_job *job;
	struct mail *mail;
};

unsigned world_random(struct world *w, unsigned below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return below == 0 ? 0 : (unsigned)((w->random >> 16) % below);
}

static bool chance(struct world *w, unsigned of_1000)
{
	return of_1000 != 0 && world_random(w, 1000) < of_1000;
}

__attribute__((format(printf, 2, 3))) static void note(struct world *w, const char *format, ...)
{
	va_list args;
	size_t room = WORLD_LOG - w->log_size;

	if (room < 1024)
		return;
	int n = snprintf(w->log + w->log_size, room, "%llu ",
		(unsigned long long)((w->now_us - w->start_us) / SECONDS));
	va_start(args, format);
	n += vsnprintf(w->log + w->log_size + n, room - (size_t)n, format, args);
	va_end(args);
	w->log_size += (size_t)n;
	w->log[w->log_size++] = '\n';
	w->log[w->log_size] = '\0';
}

/* ---- making ---- */
void world_init(struct world *w, uint64_t seed)
{
	*w = (struct world){
		.config = {.hostname = "relay.example.test",
			.mails_max = 1000000,
			.retry_first_seconds = 60,
			.retry_factor_percent = 200,
			.retry_most_seconds = 3600,
			.lifetime_seconds = 5 * 86400,
			.dsn_lifetime_seconds = 86400,
			.connections_per_site_max = 2,
			.mails_per_connection_max = 3,
			.idle_connection_seconds = 10,
			.cores = 2},
		.now_us = 1700000000 * SECONDS,
		.start_us = 1700000000 * SECONDS,
		.random = seed * 0x9e3779b97f4a7c15 + 1,
		.generation = 1,
		.mails_at_once = 512,
		.dsns_at_once = 64,
	};
}

void world_open(struct world *w)
{
	if (w->pool == NULL)
		w->pool = mail_pool_create(2 * w->mails_at_once, w->mails_at_once, 1);
	if (w->dsn_pool == NULL)
		w->dsn_pool = mail_pool_create(8 * w->dsns_at_once, w->dsns_at_once, 2);
	w->config.dsn_pool = w->dsn_pool;
	w->q = queue_create(&w->config);
	assert_non_null(w->q);
}

static void free_events(struct world *w)
{
	while (w->events != NULL) {
		struct world_event *e = w->events;
		w->events = e->next;
		free(e);
	}
}

void world_close(struct world *w)
{
	queue_destroy(w->q);
	free_events(w);
	for (unsigned n = 0; n < w->mail_count; n++) {
		free(w->mails[n].all);
		free(w->mails[n].state);
		free(w->mails[n].recipients);
	}
	free(w->mails);
	mail_pool_destroy(w->pool);
	mail_pool_destroy(w->dsn_pool);
}

struct world_domain *world_domain(struct world *w, const char *name)
{
	for (unsigned n = 0; n < w->domain_count; n++)
		if (strcasecmp(w->domains[n].name, name) == 0)
			return &w->domains[n];
	assert_true(w->domain_count < WORLD_DOMAINS);
	struct world_domain *d = &w->domains[w->domain_count++];
	snprintf(d->name, sizeof d->name, "%s", name);
	snprintf(d->site, sizeof d->site, "%.60s", name);
	snprintf(d->profile, sizeof d->profile, "default");
	return d;
}

/* ---- the spool ---- */
static void note_recipient(struct world_mail *m, struct bytes address)
{
	struct world_recipient *r = &m->recipients[m->recipient_count++];

	*r = (struct world_recipient){.address = address};
	for (uint32_t n = 0; n + 1 < m->recipient_count; n++) {
		struct bytes a = m->recipients[n].address;
		struct bytes da = address_domain(a), db = address_domain(address);
		r->is_double |= bytes_equal_nocase(da, db) &&
				bytes_equal(bytes_first(a, a.n - da.n),
					bytes_first(address, address.n - db.n));
	}
}

static struct world_mail *spool(struct world *w, const struct mail *mail, bool is_dsn)
{
	if (w->mail_count == w->mail_room) {
		w->mail_room = w->mail_room == 0 ? 64 : 2 * w->mail_room;
		w->mails = realloc(w->mails, w->mail_room * sizeof *w->mails);
	}
	struct world_mail *m = &w->mails[w->mail_count++];
	*m = (struct world_mail){.id = mail->id, .number = w->mail_count, .size = mail->size,
		.envelope_size = mail->envelope_size, .is_dsn = is_dsn, .all = malloc(mail->size + 1)};
	const struct mail_chunk *cursor = NULL;
	for (size_t n = 0; n < mail->size;) {
		struct bytes b = mail_read(mail, n, &cursor);
		assert_true(b.n != 0);
		memcpy(m->all + n, b.at, b.n);
		n += b.n;
	}
	m->all[mail->size] = '\0';
	m->recipients = calloc(WORLD_RECIPIENTS, sizeof *m->recipients);
	struct envelope_cursor fields;
	enum envelope_field field;
	struct bytes value;
	assert_true(envelope_open(bytes_of(m->all, m->envelope_size), &fields));
	while (envelope_next(&fields, &field, &value) > 0)
		if (field == ENVELOPE_RECIPIENT)
			note_recipient(m, value);
	return m;
}

struct world_mail *world_mail_of_id(struct world *w, uint64_t id)
{
	for (unsigned n = w->mail_count; n-- > 0;)
		if (w->mails[n].id == id)
			return &w->mails[n];
	fail_msg("a mail that is not known");
	return NULL;
}

static void admit(struct world *w, struct world_mail *m, struct mail *mail)
{
	m->is_durable = m->is_admitted = true;
	m->lives++;
	queue_admit(w->q, mail, w->now_us);
}

unsigned world_mail(struct world *w, const char *sender, const char *const *recipients, unsigned count)
{
	static const char content[] = "Subject: a test\r\nX-A: b\r\n\r\nbody\r\n";
	mail_pool_collect(w->pool);
	struct mail *mail = mail_get(w->pool, mail_id_next(&w->last_id, w->now_us, 1));

	assert_non_null(mail);
	assert_true(envelope_begin(mail) && envelope_put_u64(mail, ENVELOPE_RECEIVED_AT, w->now_us) &&
		envelope_put_u64(mail, ENVELOPE_SESSION_ID, 77) &&
		envelope_put(mail, ENVELOPE_SENDER, bytes_of_string(sender)));
	for (unsigned n = 0; n < count; n++)
		assert_true(envelope_put(mail, ENVELOPE_RECIPIENT, bytes_of_string(recipients[n])));
	envelope_end(mail);
	assert_true(mail_append(mail, bytes_of_string(content)));
	struct world_mail *m = spool(w, mail, false);
	admit(w, m, mail);
	return m->number;
}

/* ---- events to come ---- */
static struct world_event *later(struct world *w, enum event_kind kind, uint64_t after_us)
{
	struct world_event *e = calloc(1, sizeof *e), **at = &w->events;

	e->kind = kind;
	e->at_us = w->now_us + after_us;
	while (*at != NULL && (*at)->at_us <= e->at_us)
		at = &(*at)->next;
	e->next = *at;
	*at = e;
	return e;
}

static void answer_route(struct world *w, const struct world_event *e)
{
	static struct queue_route route;
	struct world_domain *d = world_domain(w, e->domain);

	memset(&route, 0, sizeof route);
	route.generation = w->generation;
	if (d->route == WORLD_ROUTE_MUTE)
		return;
	route.outcome = d->route == WORLD_ROUTE_OK ? QUEUE_ROUTE_OK
			: d->route == WORLD_ROUTE_FAIL ? QUEUE_ROUTE_FAIL : QUEUE_ROUTE_DEFER;
	snprintf(route.site, sizeof route.site, "%s", d->site);
	snprintf(route.profile.id, sizeof route.profile.id, "%s", d->profile);
	route.target_count = 1;
	snprintf(route.targets[0].host, sizeof route.targets[0].host, "mx.%s", d->site);
	if (d->route != WORLD_ROUTE_OK)
		route.reply = (struct smtp_reply){.code = d->route == WORLD_ROUTE_FAIL ? 550 : 451,
			.enhanced = {d->route == WORLD_ROUTE_FAIL ? 5 : 4, 1}, .detail = 2, .is_ours = true,
			.text = "route trouble"};
	queue_route_answer(w->q, e->token, &route, w->now_us);
}

static void answer_load(struct world *w, const struct world_event *e)
{
	struct world_mail *m = world_mail_of_id(w, e->mail_id);

	w->loads--;
	mail_pool_collect(w->pool);
	struct mail *mail = chance(w, w->load_fails) ? NULL : mail_get(w->pool, m->id);
	if (mail != NULL) {
		assert_true(mail_append(mail, bytes_of(m->all, m->size)));
		mail->envelope_size = (uint32_t)m->envelope_size;
	}
	queue_loaded(w->q, m->id, mail, w->now_us);
}

static void fill_outcome(struct smtp_reply *to, const struct world_domain *d, struct bytes recipient)
{
	uint16_t code = d->code;

	if (d->code_of_x != 0 && recipient.at[0] == 'x')
		code = d->code_of_x;
	if (d->is_down || d->has_bad_tls)
		code = 451;
	if (code == 0)
		code = 250;
	*to = (struct smtp_reply){.code = code, .enhanced = {(uint8_t)(code / 100), 1}, .detail = 1,
		.is_ours = d->is_down || d->has_bad_tls};
	snprintf(to->text, sizeof to->text, "%s", d->is_down ? "nobody there" :
		d->has_bad_tls ? "Server certificate not trusted" : code == 250 ? "thanks" : "no");
}

static struct world_domain *domain_of(struct world *w, struct bytes address)
{
	char name[128];

	bytes_to_string(address_domain(address), name, sizeof name);
	return world_domain(w, name);
}

static void finish_job(struct world *w, struct world_event *e)
{
	struct queue_job *job = e->job;
	struct world_domain *d = domain_of(w, job->recipients[0]);

	/* The body must still be there, whole. */
	struct world_mail *m = world_mail_of_id(w, job->mail->id);
	const struct mail_chunk *cursor = NULL;
	struct bytes b = mail_read(job->mail, 0, &cursor);
	assert_true(b.n != 0 && b.n <= m->size && memcmp(b.at, m->all, b.n) == 0);
	for (uint32_t n = 0; n < job->recipient_count; n++)
		fill_outcome(&job->outcomes[n], d, job->recipients[n]);
	snprintf(job->evidence.host, sizeof job->evidence.host, "%s", job->route->targets[0].host);
	job->is_connect_failure = d->is_down;
	job->is_tls_failure = d->has_bad_tls && !d->is_down;
	if (d->keeps && !d->is_down && job->mails_left != 0) {
		job->kept_slot = 5;
		job->kept_generation = job->connection_generation + 1;
	}
	w->active_jobs--;
	queue_job_finished(w->q, job, w->now_us);
}

static void finish_submit(struct world *w, struct world_event *e)
{
	struct world_mail *m = world_mail_of_id(w, e->mail_id);

	if (chance(w, w->submit_fails)) {
		m->is_done = true; /* never was */
		mail_return(e->mail, MAIL_RETURN_SPOOL);
		queue_submit_failed(w->q, m->id, w->now_us);
		return;
	}
	admit(w, m, e->mail);
}

/* ---- effects ---- */
static void take_route(struct world *w, const struct queue_effect *effect)
{
	struct world_event *e = later(w, EVENT_ROUTE, w->job_seconds_max == 0 ? 0 : world_random(w, 1500) * 1000);

	e->token = effect->token;
	bytes_to_string(effect->domain, e->domain, sizeof e->domain);
	w->asks++;
	note(w, "ask %s for %.*s", e->domain, (int)effect->sender.n, (const char *)effect->sender.at);
}

static unsigned site_jobs(struct world *w, const struct queue_route *route)
{
	unsigned count = 0;

	for (struct world_event *e = w->events; e != NULL; e = e->next)
		count += e->kind == EVENT_JOB && strcmp(e->job->route->site, route->site) == 0 &&
			 strcmp(e->job->route->profile.id, route->profile.id) == 0;
	return count;
}

static void take_start(struct world *w, const struct queue_effect *effect)
{
	struct queue_job *job = effect->job;
	struct world_mail *m = world_mail_of_id(w, job->mail->id);
	char recipients[512] = "";
	size_t size = 0;

	assert_true(job->core < w->config.cores);
	assert_true(job->recipient_count >= 1 && job->recipient_count <= 100);
	assert_non_null(job->mail->first);
	assert_true(job->route->generation == w->generation);
	assert_true(job->mails_left < w->config.mails_per_connection_max);
	for (uint32_t n = 0; n < job->recipient_count; n++)
		if (size + job->recipients[n].n + 2 < sizeof recipients)
			size += (size_t)sprintf(recipients + size, " %.*s", (int)job->recipients[n].n,
				(const char *)job->recipients[n].at);
	note(w, "start %u on core %u %s left %u:%s", m->number, job->core,
		job->connection_generation != 0 ? "kept" : "new", job->mails_left, recipients);
	struct world_event *e = later(w, EVENT_JOB,
		w->job_seconds_max == 0 ? SECONDS : world_random(w, w->job_seconds_max * 1000) * 1000);
	e->job = job;
	w->active_jobs++;
	w->starts++;
	if (w->active_jobs > w->active_max)
		w->active_max = w->active_jobs;
	assert_true(site_jobs(w, job->route) <= w->config.connections_per_site_max);
}

static struct world_recipient *recipient_of(struct world_mail *m, const char *to)
{
	for (uint32_t n = 0; n < m->recipient_count; n++)
		if (bytes_equal(m->recipients[n].address, bytes_of_string(to)))
			return &m->recipients[n];
	fail_msg("a record of somebody else");
	return NULL;
}

/* Nobody is bounced whose sender has not been told, durably. */
static void check_told(struct world *w, const struct record *r)
{
	char id[MAIL_ID_TEXT_MAX], name[400], who[64];

	snprintf(name, sizeof name, "\r\nFinal-Recipient: rfc822; %s\r\nAction: failed\r\n", r->to);
	snprintf(who, sizeof who, "\r\nX-Hikyaku-Queue-ID: %s\r\n", mail_id_format(r->queue_id, id));
	for (unsigned n = 0; n < w->mail_count; n++) {
		const struct world_mail *m = &w->mails[n];
		const char *text = (const char *)m->all + m->envelope_size;
		if (m->is_dsn && m->is_admitted && strstr(text, name) != NULL && strstr(text, who) != NULL)
			return;
	}
	fail_msg("bounced without a notification");
}

static void take_record(struct world *w, const struct record *r)
{
	struct world_mail *m = world_mail_of_id(w, r->queue_id);
	struct world_recipient *to = recipient_of(m, r->to);

	to->delivered += r->disposition == RECORD_DELIVERED;
	to->deferred += r->disposition == RECORD_DEFERRED;
	to->bounced += r->disposition == RECORD_BOUNCED;
	to->removed += r->disposition == RECORD_REMOVED;
	assert_false(to->is_double);
	if (r->disposition == RECORD_BOUNCED && r->from[0] != '\0')
		check_told(w, r);
	if (m->lives == 1)
		assert_true(to->delivered + to->bounced + to->removed <= 1);
	note(w, "%s %u %s: %s%s", record_disposition_name(r->disposition), m->number, r->to, r->reply,
		r->reason);
}

static bool note_listed(void *user, const struct queue_item_info *info)
{
	*(unsigned *)user += 1;
	return true;
}

static unsigned listed(struct world *w, uint64_t id)
{
	unsigned count = 0;

	queue_list(w->q, &(struct queue_selection){.mail_id = id, .state = -1}, (struct queue_place){0}, note_listed, &count);
	return count;
}

static void take_done(struct world *w, uint64_t id)
{
	struct world_mail *m = world_mail_of_id(w, id);

	assert_true(m->is_durable && !m->is_done);
	m->is_done = true;
	for (uint32_t n = 0; n < m->recipient_count; n++) {
		struct world_recipient *r = &m->recipients[n];
		assert_true(r->is_double || r->delivered + r->bounced + r->removed >= 1);
	}
	assert_int_equal(listed(w, id), 0);
	note(w, "done %u", m->number);
}

static void take_state(struct world *w, const struct queue_effect *effect)
{
	struct world_mail *m = world_mail_of_id(w, effect->mail_id);

	assert_false(m->is_done);
	free(m->state);
	m->state_size = effect->state.n;
	m->state = malloc(effect->state.n + 1);
	memcpy(m->state, effect->state.at, effect->state.n);
	if (w->logs_states)
		note(w, "state %u", m->number);
}

static void take_submit(struct world *w, const struct queue_effect *effect)
{
	struct world_mail *m = spool(w, effect->mail, true);
	struct world_event *e = later(w, EVENT_SUBMIT, 0);

	e->mail_id = m->id;
	e->mail = effect->mail;
	w->submits++;
	note(w, "submit %u to %.*s", m->number, (int)m->recipients[0].address.n,
		(const char *)m->recipients[0].address.at);
}

static void take(struct world *w, const struct queue_effect *effect)
{
	switch (effect->kind) {
	case QUEUE_EFFECT_ROUTE: take_route(w, effect); break;
	case QUEUE_EFFECT_LOAD:
		later(w, EVENT_LOAD, 0)->mail_id = effect->mail_id;
		w->loads++;
		w->all_loads++;
		assert_true(w->loads <= 64);
		note(w, "load %u", world_mail_of_id(w, effect->mail_id)->number);
		break;
	case QUEUE_EFFECT_START: take_start(w, effect); break;
	case QUEUE_EFFECT_STATE: take_state(w, effect); break;
	case QUEUE_EFFECT_DONE: take_done(w, effect->mail_id); break;
	case QUEUE_EFFECT_RETURN:
		assert_false(effect->is_evict);
		mail_return(effect->mail, MAIL_RETURN_QUEUE);
		break;
	case QUEUE_EFFECT_SUBMIT: take_submit(w, effect); break;
	case QUEUE_EFFECT_RECORD: take_record(w, effect->record); break;
	}
}

/* What the queue counts must be what there is. */
static void check_counts(struct world *w)
{
	uint64_t mails = 0, by_state[6] = {0}, resident_bytes = 0, id = 0;
	uint32_t jobs = 0;

	for (struct queued_mail *m; (m = mail_after(w->q, id)) != NULL; id = m->id) {
		uint32_t hot = 0, mail_jobs = 0;
		mails++;
		resident_bytes += m->mail != NULL ? mail_held_bytes(m->size) : 0;
		for (struct link *l = m->items.next; l != &m->items; l = l->next) {
			struct item *i = LINK_OF(l, struct item, of_mail);
			bool is_on_core = i->state == QUEUE_ITEM_ACTIVE && !i->is_bounce;
			by_state[i->state]++;
			hot += i->state != QUEUE_ITEM_WAITING && i->state != QUEUE_ITEM_HELD;
			mail_jobs += is_on_core;
			assert_true(i->count >= 1 || i->wants_remove || m->is_unreadable);
			/* It has a way on, by itself or when something that is under way comes back. */
			assert_true(i->due.place != 0 || !link_is_alone(&i->link) || is_on_core ||
				    i->state == QUEUE_ITEM_HELD);
			assert_true((i->site != NULL) == (i->route != NULL));
		}
		assert_int_equal(m->hot, hot);
		assert_int_equal(m->jobs, mail_jobs);
		assert_true(m->mail == NULL || hot != 0);
		jobs += mail_jobs;
	}
	assert_int_equal(mails, w->q->mail_count);
	assert_int_equal(resident_bytes, w->q->resident_bytes);
	assert_int_equal(jobs, w->active_jobs);
	assert_int_equal(w->q->jobs, w->active_jobs);
	assert_memory_equal(by_state, w->q->by_state, sizeof by_state);
}

void world_check(struct world *w)
{
	for (unsigned n = 0; n < w->mail_count; n++) {
		const struct world_mail *m = &w->mails[n];
		if (m->is_admitted && !m->is_done)
			assert_true(listed(w, m->id) >= 1);
	}
	check_counts(w);
}

void world_pump(struct world *w)
{
	struct queue_effect effect;

	while (!w->is_crashed && queue_next_effect(w->q, &effect)) {
		if (chance(w, w->crash)) {
			w->is_crashed = true;
			return;
		}
		take(w, &effect);
	}
}

static void happen(struct world *w, struct world_event *e)
{
	switch (e->kind) {
	case EVENT_ROUTE: answer_route(w, e); break;
	case EVENT_LOAD: answer_load(w, e); break;
	case EVENT_JOB: finish_job(w, e); break;
	case EVENT_SUBMIT: finish_submit(w, e); break;
	}
	free(e);
}

void world_run(struct world *w, uint64_t seconds)
{
	uint64_t until_us = w->now_us + seconds * SECONDS;

	for (;;) {
		world_pump(w);
		if (w->is_crashed)
			return;
		if (w->checks_always)
			world_check(w);
		uint64_t due_us = queue_next_due_us(w->q);
		struct world_event *e = w->events;
		uint64_t next_us = e != NULL && e->at_us < due_us ? e->at_us : due_us;
		if (next_us > until_us)
			break;
		if (next_us > w->now_us)
			w->now_us = next_us;
		if (e != NULL && e->at_us <= w->now_us) {
			w->events = e->next;
			happen(w, e);
		} else {
			queue_tick(w->q, w->now_us);
		}
	}
	w->now_us = until_us;
}

void world_crash(struct world *w)
{
	queue_destroy(w->q);
	free_events(w);
	mail_pool_destroy(w->pool);
	mail_pool_destroy(w->dsn_pool);
	w->pool = w->dsn_pool = NULL;
	w->active_jobs = w->loads = 0;
	w->is_crashed = false;
	w->crashes++;
	world_open(w);
	note(w, "crash");
	for (unsigned n = 0; n < w->mail_count; n++) {
		struct world_mail *m = &w->mails[n];
		/* A DSN that was on its way may have become durable, or not. */
		if (m->is_dsn && !m->is_admitted && !m->is_done && world_random(w, 2) == 0)
			m->is_done = true;
		if (m->is_done)
			continue;
		m->is_durable = m->is_admitted = true;
		m->lives++;
		queue_recover(w->q, &(struct spool_found){.id = m->id, .size = m->size,
			.envelope_size = (uint32_t)m->envelope_size,
			.envelope = bytes_of(m->all, m->envelope_size),
			.state = bytes_of(m->state, m->state_size)}, w->now_us);
	}
}
