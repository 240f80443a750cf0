// SPDX-License-Identifier: Apache-2.0
/* relay/queue_thread.c: the thread that owns the queue: tells it what happened, does what it says.
 *
 * It never waits for another thread: what does not fit into the spool's ring is kept in a list, in order. */
#include "relay/relay.h"
#include "relay/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define NAP_US_LEAST  20
#define NAP_US_MOST	2000	/* while idle: five hundred looks a second cost about 0.5 % of a core */
#define LAST_WORDS_US 5000000
#define NOTE_RING     4096
#define DSN_CHUNKS    4096 /* 32 MiB: bounces being written or waiting for their sync */
#define DSN_CORE      63
#define TAKE_MAX      1024 /* of one ring in a round, so that none starves the others */

struct note *note_new(enum note_kind kind, const char *json, size_t n)
{
	struct note *note = malloc(sizeof *note + n + 1);
	if (note == NULL)
		return NULL;
	note->kind = kind;
	note->n = n;
	memcpy(note->json, json, n);
	note->json[n] = '\0';
	return note;
}

/* ---- what the queue says ---- */

static void flush_pending(struct queue_thread *q)
{
	while (q->pending != NULL) {
		struct spool_request *next = q->pending->next; /* the spool thread uses the link once it has it */
		if (!ring_push_spsc(&q->relay->spool.from_queue, q->pending))
			return;
		q->pending = next;
	}
	q->pending_end = &q->pending;
}

void queue_send_to_spool(struct queue_thread *q, struct spool_request *request)
{
	request->next = NULL;
	*q->pending_end = request;
	q->pending_end = &request->next;
	flush_pending(q);
}

static void request_spool(struct queue_thread *q, enum spool_request_kind kind, uint64_t id, struct mail *mail,
	struct bytes state)
{
	struct spool_request *r = calloc(1, sizeof *r + state.n);
	if (r == NULL)
		abort(); /* dropping it could deliver a mail twice or lose a bounce; recovery does better */
	r->kind = kind;
	r->id = id;
	r->mail = mail;
	r->n = state.n;
	if (state.n != 0)
		memcpy(r->bytes, state.at, state.n);
	queue_send_to_spool(q, r);
}

static void start_job(struct queue_thread *q, struct queue_job *job, uint64_t now_us)
{
	if (atomic_load_explicit(&q->relay->is_draining, memory_order_relaxed))
		return; /* nothing new is begun: it is in the spool, for the next start */
	if (ring_push_spsc(&q->relay->workers[job->core]->jobs, job))
		return;
	for (uint32_t i = 0; i < job->recipient_count; i++) {
		job->outcomes[i] = (struct smtp_reply){.code = 451, .is_ours = true};
		job->outcomes[i].enhanced[0] = 4;
		job->outcomes[i].enhanced[1] = 3;
		job->outcomes[i].detail = 2;
		snprintf(job->outcomes[i].text, sizeof job->outcomes[i].text, "core %u has too many deliveries", job->core);
	}
	queue_job_finished(q->queue, job, now_us);
}

static void write_record(struct queue_thread *q, const struct record *record)
{
	struct record *r;
	/* This thread may wait: the main thread drains the lane, so no delivery's record is lost. */
	for (int tries = 0; (r = ring_pop_spsc(&q->records.empty)) == NULL && tries < 5000; tries++)
		usleep(200);
	if (r == NULL) {
		atomic_fetch_add_explicit(&q->records.lost, 1, memory_order_relaxed);
		return;
	}
	*r = *record;
	record_push(&q->records, r);
}

static struct moment moment_of(uint64_t wall_us)
{
	return (struct moment){.wall_us = wall_us, .monotonic_us = time_monotonic_us()};
}

static void perform(struct queue_thread *q, const struct queue_effect *e, uint64_t now_us)
{
	switch (e->kind) {
	case QUEUE_EFFECT_ROUTE: dns_route(q->dns, e->token, e->domain, e->sender, moment_of(now_us)); break;
	case QUEUE_EFFECT_LOAD: request_spool(q, SPOOL_REQUEST_LOAD, e->mail_id, NULL, BYTES_NONE); break;
	case QUEUE_EFFECT_START: start_job(q, e->job, now_us); break;
	case QUEUE_EFFECT_STATE: request_spool(q, SPOOL_REQUEST_STATE, e->mail_id, NULL, e->state); break;
	case QUEUE_EFFECT_DONE: request_spool(q, SPOOL_REQUEST_DONE, e->mail_id, NULL, BYTES_NONE); break;
	case QUEUE_EFFECT_SUBMIT: request_spool(q, SPOOL_REQUEST_SUBMIT, e->mail->id, e->mail, BYTES_NONE); break;
	case QUEUE_EFFECT_RECORD: write_record(q, e->record); break;
	case QUEUE_EFFECT_RETURN:
		if (e->is_evict)
			mail_evict(e->mail, MAIL_RETURN_QUEUE);
		else
			mail_return(e->mail, MAIL_RETURN_QUEUE);
		break;
	}
}

static bool perform_all(struct queue_thread *q, uint64_t now_us)
{
	struct queue_effect effect;
	bool any = false;
	for (; queue_next_effect(q->queue, &effect); any = true)
		perform(q, &effect, now_us);
	return any;
}

/* ---- what happened ---- */

static void on_spool_report(struct queue_thread *q, struct spool_report *r, uint64_t now_us)
{
	struct note *note;
	switch (r->kind) {
	case SPOOL_REPORT_SUBMIT_FAILED: queue_submit_failed(q->queue, r->id, now_us); break;
	case SPOOL_REPORT_LOADED: queue_loaded(q->queue, r->id, r->mail, now_us); break;
	case SPOOL_REPORT_CONTENT:
		note = queue_ops_content(r);
		if (note != NULL && !ring_push_spsc(&q->to_main, note))
			free(note);
		break;
	}
	free(r);
}

static bool take_from_spool(struct queue_thread *q, uint64_t now_us)
{
	bool any = false;
	/* All that is there: what was durable before an operator's request came must be seen by it. */
	for (uintptr_t word; (word = (uintptr_t)ring_pop_spsc(&q->relay->spool.to_queue)) != 0; any = true) {
		if (word & 1)
			queue_admit(q->queue, (struct mail *)(word & ~1ul), now_us);
		else
			on_spool_report(q, (struct spool_report *)word, now_us);
	}
	return any;
}

static bool take_finished(struct queue_thread *q, uint64_t now_us)
{
	bool any = false;
	for (unsigned i = 0; i < q->relay->cores; i++) {
		struct ring *ring = &q->relay->workers[i]->finished_jobs;
		struct queue_job *job;
		for (int n = 0; n < TAKE_MAX && (job = ring_pop_spsc(ring)) != NULL; n++, any = true)
			queue_job_finished(q->queue, job, now_us);
	}
	return any;
}

static void on_note(struct queue_thread *q, const struct note *note, uint64_t now_us)
{
	struct note *response;
	switch (note->kind) {
	case NOTE_REQUEST:
		take_from_spool(q, now_us);
		response = queue_ops_perform(q, note->json, note->n, now_us);
		if (response != NULL && !ring_push_spsc(&q->to_main, response))
			free(response);
		break;
	case NOTE_RESOLVED: dns_resolved(q->dns, note->json, note->n, moment_of(now_us)); break;
	case NOTE_UNLINKED: dns_unlinked(q->dns, moment_of(now_us)); break;
	case NOTE_RESPONSE:
	case NOTE_RESOLVE: break; /* the other way only */
	}
}

static bool take_notes(struct queue_thread *q, uint64_t now_us)
{
	struct note *note = ring_pop_spsc(&q->from_main);
	if (note == NULL)
		return false;
	on_note(q, note, now_us);
	free(note);
	return true;
}

static bool round_of(struct queue_thread *q, uint64_t now_us)
{
	bool any = take_from_spool(q, now_us);
	any |= take_finished(q, now_us);
	any |= take_notes(q, now_us);
	if (view_refresh(&q->views)) {
		queue_policy_changed(q->queue, now_us);
		dns_policy_changed(q->dns, moment_of(now_us));
		any = true;
	}
	view_collect(&q->views);
	if (queue_next_due_us(q->queue) <= now_us)
		queue_tick(q->queue, now_us);
	any |= perform_all(q, now_us);
	mail_pool_collect(q->dsn_pool);
	flush_pending(q);
	return any;
}

static void seldom(struct queue_thread *q, uint64_t now_us, uint64_t *due_us)
{
	struct moment now = moment_of(now_us);
	if (now.monotonic_us < *due_us)
		return;
	*due_us = now.monotonic_us + 100000;
	dns_tick(q->dns, now);
	struct queue_stats stats;
	queue_get_stats(q->queue, &stats);
	words_copy(&q->stats, &stats, sizeof stats);
	atomic_store_explicit(&q->has_room, queue_has_room(q->queue), memory_order_relaxed);
}

/* The workers have ended. What they have finished is written down, or it would be delivered again. */
static void last_words(struct queue_thread *q)
{
	uint64_t until_us = time_monotonic_us() + LAST_WORDS_US;
	while ((round_of(q, time_wall_us()) || q->pending != NULL) && time_monotonic_us() < until_us)
		if (q->pending != NULL)
			usleep(NAP_US_MOST);
}

static void *run(void *arg)
{
	struct queue_thread *q = arg;
	useconds_t nap = NAP_US_LEAST;
	uint64_t due_us = 0;
	pthread_setname_np(pthread_self(), "queue");
	while (!atomic_load_explicit(&q->relay->is_stopping, memory_order_relaxed)) {
		/* Wall-clock time: the queue keeps times over restarts. */
		uint64_t now_us = time_wall_us();
		bool any = round_of(q, now_us);
		seldom(q, now_us, &due_us);
		if (any) {
			nap = NAP_US_LEAST;
		} else {
			usleep(nap);
			nap = 2 * nap > NAP_US_MOST ? NAP_US_MOST : 2 * nap;
		}
	}
	last_words(q);
	return NULL;
}

/* Half of the connections may be outbound; and no more than fit a worker's ring, whatever their spread. */
static uint32_t jobs_max(const struct relay *relay)
{
	uint32_t half = relay->cores * relay->config->limits.connections / 2;
	return half > 16000 ? 16000 : half == 0 ? 1 : half;
}

int queue_thread_init(struct relay *relay, char error[256])
{
	struct queue_thread *q = &relay->queue;
	const struct config *config = relay->config;
	q->relay = relay;
	q->pending_end = &q->pending;
	q->dsn_pool = mail_pool_create(DSN_CHUNKS, DSN_CHUNKS, DSN_CORE);
	const struct queue_config queue = {
		.hostname = config->node.hostname,
		.mails_max = config->queue.mails,
		.retry_first_seconds = config->queue.retry_first,
		.retry_factor_percent = config->queue.retry_factor_percent,
		.retry_most_seconds = config->queue.retry_most,
		.lifetime_seconds = config->queue.lifetime,
		.dsn_lifetime_seconds = config->queue.dsn_lifetime,
		.delay_warning_seconds = config->queue.delay_warning,
		.connections_per_site_max = config->queue.connections_per_site,
		.mails_per_connection_max = config->queue.mails_per_connection,
		.idle_connection_seconds = config->timeouts.idle,
		.cores = relay->cores,
		.jobs_max = jobs_max(relay),
		/* Mails that wait for a full site give their memory up when half of it is taken. */
		.resident_bytes_max = (uint64_t)relay->cores * config->limits.mail_memory_mb * 1024 * 1024 / 2,
		.dsn_pool = q->dsn_pool,
	};
	q->queue = queue_create(&queue);
	q->dns = dns_cache_create(q);
	atomic_store(&q->has_room, true);
	if (q->dsn_pool == NULL || q->queue == NULL || q->dns == NULL || !ring_init(&q->from_main, NOTE_RING) ||
		!ring_init(&q->to_main, NOTE_RING) || !ring_init(&q->views.returned, VIEW_RETURNED_RING) ||
		!record_lane_init(&q->records)) {
		snprintf(error, 256, "queue: out of memory");
		return -ENOMEM;
	}
	return 0;
}

int queue_thread_start(struct relay *relay)
{
	return -pthread_create(&relay->queue.thread, NULL, run, &relay->queue);
}
