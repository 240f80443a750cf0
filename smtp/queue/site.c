// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/site.c: destinations: how many connections, which ones are kept, what goes next, and whether
 * one is down. */
#include "smtp/queue/queue_private.h"

#include <assert.h>
#include <stdlib.h>

static struct bytes key_name(const struct site *s)
{
	return bytes_of(s->key, s->name_n);
}

static struct bytes key_profile(const struct site *s)
{
	return bytes_of(s->key + s->name_n, s->profile_n);
}

static struct site *site_make(struct queue *q, uint64_t hash, struct bytes name, struct bytes profile)
{
	struct site *s = queue_calloc(1, sizeof *s + name.n + profile.n);

	s->name_n = (uint16_t)name.n;
	s->profile_n = (uint16_t)profile.n;
	memcpy(s->key, name.at, name.n);
	memcpy(s->key + name.n, profile.at, profile.n);
	s->due.kind = DUE_SITE;
	link_init(&s->busy);
	link_init(&s->ready);
	table_put(&q->sites, &s->by_key, hash);
	return s;
}

static struct site *site_get(struct queue *q, const struct queue_route *route)
{
	struct bytes name = bytes_of_string(route->site);
	struct bytes profile = bytes_of_string(route->profile.id);
	uint64_t hash = hash_bytes(&q->key, hash_bytes(&q->key, 1, profile, false), name, false);

	for (struct table_link *l = table_find(&q->sites, hash); l != NULL; l = table_find_next(l)) {
		struct site *s = LINK_OF(l, struct site, by_key);
		if (bytes_equal(key_name(s), name) && bytes_equal(key_profile(s), profile))
			return s;
	}
	return site_make(q, hash, name, profile);
}

static void site_free(struct queue *q, struct site *s)
{
	link_leave(&s->busy);
	due_clear(&q->due, &s->due);
	table_remove(&q->sites, &s->by_key);
	reason_release(s->reason);
	free(s->kept);
	free(s);
}

/* ---- kept connections, oldest first: all are kept equally long, so the first to end stands first ---- */
static void drop_kept(struct queue *q, struct site *s)
{
	uint32_t gone = 0;

	while (gone < s->kept_count &&
		(s->kept[gone].until_us <= q->now_us || s->kept[gone].epoch != q->epoch))
		gone++;
	if (gone == 0)
		return;
	s->kept_count -= gone;
	memmove(s->kept, s->kept + gone, s->kept_count * sizeof *s->kept);
}

static void keep(struct queue *q, struct site *s, const struct kept *kept)
{
	if (s->kept_count == s->kept_room) {
		uint32_t room = s->kept_room == 0 ? 4 : 2 * s->kept_room;
		struct kept *more = realloc(s->kept, room * sizeof *more);
		if (more == NULL)
			return; /* the core closes it when nothing comes */
		s->kept = more;
		s->kept_room = room;
	}
	s->kept[s->kept_count++] = *kept;
}

/* ---- what next ---- */
static bool is_backing_off(const struct queue *q, const struct site *s)
{
	return s->backoff_until_us > q->now_us;
}

/* After a failed connect one connection tries, until it succeeds. */
static bool has_free_connection(const struct queue *q, const struct site *s)
{
	uint32_t most = s->failures != 0 ? 1 : q->config.connections_per_site_max;

	return s->active + s->loading < most;
}

void site_settle(struct queue *q, struct site *s)
{
	bool has_ready = !link_is_alone(&s->ready);

	if (has_ready && link_is_alone(&s->busy) && (is_backing_off(q, s) || has_free_connection(q, s)))
		list_append(&q->busy, &s->busy);
	if (has_ready || s->active + s->loading != 0) {
		due_clear(&q->due, &s->due);
		return;
	}
	link_leave(&s->busy);
	/* That it was down is remembered for one more interval, so that not all try at its end. */
	uint64_t until_us = s->backoff_until_us;
	if (s->failures != 0)
		until_us += queue_wait_us(q, s->failures);
	if (s->kept_count != 0 && s->kept[s->kept_count - 1].until_us > until_us)
		until_us = s->kept[s->kept_count - 1].until_us;
	due_set(&q->due, &s->due, until_us);
}

void site_overdue(struct queue *q, struct site *s)
{
	site_free(q, s);
}

/* Bodies that wait behind a full site go back to the spool when memory is short; new ones first, since
 * what stands at the front will be wanted first. */
static void relieve_memory(struct queue *q, struct site *s, struct item *i)
{
	if (q->config.resident_bytes_max != 0 && q->resident_bytes > q->config.resident_bytes_max &&
		(!has_free_connection(q, s) || !link_is_alone(&q->blocked)))
		mail_evict_body(q, i->mail);
}

void site_add(struct queue *q, struct item *i, struct route *route)
{
	struct site *s = site_get(q, &route->route);

	item_enter(q, i, QUEUE_ITEM_READY);
	i->site = s;
	i->route = route;
	if (i->is_forced) {
		s->backoff_until_us = 0;
		i->is_forced = false;
	}
	list_append(&s->ready, &i->link);
	relieve_memory(q, s, i);
	site_settle(q, s);
}

static uint32_t choose_core(struct queue *q)
{
	uint32_t best = q->next_core;

	for (uint32_t n = 1; n < q->config.cores; n++) {
		uint32_t core = (q->next_core + n) % q->config.cores;
		if (q->core_jobs[core] < q->core_jobs[best])
			best = core;
	}
	q->next_core = (best + 1) % q->config.cores;
	return best;
}

static void choose_connection(struct queue *q, struct site *s, struct queue_job *job)
{
	drop_kept(q, s);
	if (s->kept_count == 0) {
		job->core = choose_core(q);
		job->mails_left = q->config.mails_per_connection_max - 1;
		return;
	}
	/* The one used last: the others may then end. */
	const struct kept *kept = &s->kept[--s->kept_count];
	job->core = kept->core;
	job->connection_slot = kept->slot;
	job->connection_generation = kept->generation;
	job->mails_left = kept->mails_left - 1;
}

static struct job *job_make(struct queue *q, struct item *i)
{
	struct job *job = queue_calloc(1, sizeof *job + i->count * sizeof job->outcomes[0]);

	job->item = i;
	job->job = (struct queue_job){
		.mail = i->mail->mail,
		.sender = mail_sender(i->mail),
		.recipients = i->recipients,
		.recipient_count = i->count,
		.body_flags = i->mail->body_flags,
		.route = &i->route->route,
		.outcomes = job->outcomes,
	};
	choose_connection(q, i->site, &job->job);
	return job;
}

void site_start(struct queue *q, struct item *i)
{
	item_enter(q, i, QUEUE_ITEM_ACTIVE);
	i->job = job_make(q, i);
	i->mail->jobs++;
	i->last_try_us = q->now_us;
	if (i->first_try_us == 0)
		i->first_try_us = q->now_us;
	q->jobs++;
	q->core_jobs[i->job->job.core]++;
	effect_push(q, QUEUE_EFFECT_START, 0)->effect.job = &i->job->job;
}

/* A site is down: what waits for it waits, without each item trying for itself. */
static void defer_for_site(struct queue *q, struct site *s, struct item *i)
{
	item_set_reasons(i, s->reason);
	i->is_tls = false;
	item_defer(q, i,
		&(struct attempt){.stage = "connect",
			.not_before_us = s->backoff_until_us,
			.is_untried = true});
}

static void step(struct queue *q, struct site *s, struct item *i)
{
	if (is_backing_off(q, s))
		defer_for_site(q, s, i);
	else if (i->route->epoch != q->epoch)
		item_wake(q, i);
	else if (i->mail->mail == NULL)
		item_load(q, i);
	else
		site_start(q, i);
}

static void unblock(struct queue *q)
{
	struct site *s = LINK_OF(q->blocked.next, struct site, busy);

	link_leave(&s->busy);
	site_settle(q, s);
}

/* One item of the site whose turn it is: sites take turns, so that a busy one does not stop the others. */
bool site_step(struct queue *q)
{
	if (link_is_alone(&q->busy)) {
		if (link_is_alone(&q->blocked) || q->jobs + q->by_state[QUEUE_ITEM_LOADING] >= q->config.jobs_max)
			return false;
		unblock(q);
		return true;
	}
	struct site *s = LINK_OF(q->busy.next, struct site, busy);
	link_leave(&s->busy);
	if (link_is_alone(&s->ready) || !(is_backing_off(q, s) || has_free_connection(q, s)))
		return true;
	if (!is_backing_off(q, s) && q->jobs + q->by_state[QUEUE_ITEM_LOADING] >= q->config.jobs_max) {
		list_append(&q->blocked, &s->busy);
		return true;
	}
	struct item *i = LINK_OF(s->ready.next, struct item, link);
	/* The step may leave the site without items, but it is forgotten later at the earliest. */
	step(q, s, i);
	site_settle(q, s);
	return true;
}

static void connect_failed(struct queue *q, struct site *s, const struct queue_job *job)
{
	struct smtp_reply none = {
		.code = 451, .enhanced = {4, 4}, .detail = 1, .is_ours = true, .text = "No host could be reached"};
	const struct smtp_reply *why = &none;

	for (uint32_t n = 0; n < job->recipient_count; n++)
		if (job->outcomes[n].code / 100 == 4)
			why = &job->outcomes[n];
	reason_release(s->reason);
	s->reason = reason_make(why, bytes_of(job->evidence.host,
		strnlen(job->evidence.host, sizeof job->evidence.host)));
	if (is_backing_off(q, s))
		return; /* one of several that failed together: counted once */
	s->failures++;
	s->backoff_until_us = q->now_us + queue_wait_us(q, s->failures);
}

void site_job_finished(struct queue *q, const struct item *i, const struct queue_job *job)
{
	struct site *s = i->site;

	if (job->is_connect_failure) {
		connect_failed(q, s, job);
	} else {
		s->failures = 0;
		s->backoff_until_us = 0;
	}
	/* One made under an earlier policy is not used again. */
	if (job->kept_generation != 0 && job->mails_left != 0 && i->route->epoch == q->epoch)
		keep(q, s, &(struct kept){.core = job->core, .slot = job->kept_slot,
			.generation = job->kept_generation, .mails_left = job->mails_left,
			.until_us = q->now_us + q->config.idle_connection_seconds * SECONDS,
			.epoch = q->epoch});
}

void site_free_all(struct queue *q)
{
	for (uint64_t n = 0; n < q->sites.bucket_count; n++)
		for (struct table_link *l = q->sites.buckets[n], *next; l != NULL; l = next) {
			struct site *s = LINK_OF(l, struct site, by_key);
			next = l->next;
			reason_release(s->reason);
			free(s->kept);
			free(s);
		}
	table_fini(&q->sites);
}
