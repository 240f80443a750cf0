// SPDX-License-Identifier: Apache-2.0
/* relay/spool_thread.c: the thread that owns the spool.
 *
 * A round: take what the workers' rings hold, then what the queue asks, then one fdatasync for all of it, then
 * say what became of it: first to the queue, then to the worker, so that a mail is listed before its 250 is
 * sent. The batch is whatever came in while the last sync ran; nothing waits for a batch to fill. */
#include "relay/relay.h"
#include "relay/worker.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "smtp/envelope.h"

#define ROUND_OPS	4096	/* operations of one worker in a round, so that none waits long for the sync */
#define ROUND_READS	16	/* mails read back in a round, likewise */
#define LAST_WORDS_US	2500000 /* for what is to be written at the end, if the disk fails */
#define NAP_US_LEAST	20	/* between looks while something may come soon … */
#define NAP_US_MOST	2000	/* while idle: five hundred looks a second cost about 0.5 % of a core */
#define FULL_RETRY_US	1000000 /* how long new mails are refused after the disk was full or failed */
#define READ_BYTES	65536
#define TO_QUEUE_RING	65536
#define REQUEST_RING	65536

/* What waits for this round's sync. */
struct batch {
	struct mail **mails;
	size_t mail_count, mail_room; /* only commits are forgotten if it fails: states and dones the spool keeps */
};

struct spooler {
	struct spool_thread *t;
	struct batch batch;
	struct spool_request *redo; /* could not be done; nothing newer is done before it */
	uint64_t full_until_us;
	uint8_t buffer[READ_BYTES];
};

/* The other threads never wait for us, so this ends; once they have ended, nobody wants to know. */
static void push(struct spooler *s, struct ring *ring, void *word)
{
	while (!ring_push_spsc(ring, word) &&
		!atomic_load_explicit(&s->t->relay->is_stopping, memory_order_relaxed))
		usleep(NAP_US_LEAST);
}

static void tell_queue(struct spooler *s, void *word)
{
	push(s, &s->t->to_queue, word);
}

/* false: no memory; the queue asks again after its own deadline. */
static bool report(struct spooler *s, const struct spool_report *head, const uint8_t *bytes, size_t n)
{
	struct spool_report *r = malloc(sizeof *r + n);
	if (r == NULL)
		return false;
	*r = *head;
	r->n = n;
	if (n != 0)
		memcpy(r->bytes, bytes, n);
	tell_queue(s, r);
	return true;
}

static void note_failure(struct spooler *s, int rc, const char *what)
{
	bool was_full = atomic_exchange(&s->t->is_full, true);
	s->full_until_us = time_monotonic_us() + FULL_RETRY_US;
	atomic_fetch_add_explicit(&s->t->failures, 1, memory_order_relaxed);
	if (!was_full)
		log_error("spool", "cannot write; new mails are refused with 452 4.3.1 meanwhile", "what=%s error=\"%s\"",
			what, strerror(-rc));
}

/* Whoever handed the mail in: a worker, or the queue, which hears of its own mail when it is admitted. */
static void tell_submitter(struct spooler *s, const struct mail *mail, bool is_durable)
{
	unsigned core = mail_pool_core(mail->home);
	const struct spool_report failed = {.kind = SPOOL_REPORT_SUBMIT_FAILED, .id = mail->id};
	if (core < s->t->relay->cores)
		push(s, &s->t->relay->workers[core]->from_spool,
			verdict_pack(mail->waiter_slot, mail->waiter_generation, is_durable));
	else if (!is_durable)
		report(s, &failed, NULL, 0);
}

static void refuse(struct spooler *s, struct mail *mail)
{
	tell_submitter(s, mail, false);
	mail_return(mail, MAIL_RETURN_SPOOL);
}

static void batch_add(struct batch *b, struct mail *mail)
{
	if (b->mail_count == b->mail_room) {
		b->mail_room = b->mail_room == 0 ? 1024 : 2 * b->mail_room;
		b->mails = realloc(b->mails, b->mail_room * sizeof *b->mails);
		if (b->mails == NULL)
			abort(); /* the batch is bounded by the pools; without 8 bytes a mail nothing works */
	}
	b->mails[b->mail_count++] = mail;
}

/* -EIO for what is not the beginning: the beginning was lost, by a failure that has been noted then or will be
 * by the sync. Else a long mail that is dead already would keep others out for as long as it comes in. */
static bool is_about_lost(int rc, uint64_t offset)
{
	return rc == -EIO && offset != 0;
}

static void commit(struct spooler *s, struct mail *mail)
{
	int rc = spool_commit(s->t->spool, mail);
	if (rc == 0) {
		batch_add(&s->batch, mail);
		return;
	}
	if (!is_about_lost(rc, mail->size))
		note_failure(s, rc, "commit");
	refuse(s, mail);
}

static void on_op(struct spooler *s, uintptr_t word, struct mail_chunk *chunk)
{
	struct mail *mail = (struct mail *)(word & ~SPOOL_OP_MASK);
	int rc;
	switch ((enum spool_op)(word & SPOOL_OP_MASK)) {
	case SPOOL_OP_APPEND:
		rc = spool_append(s->t->spool, mail->id, chunk->offset, bytes_of(chunk->data, chunk->used));
		if (rc < 0 && !is_about_lost(rc, chunk->offset))
			note_failure(s, rc, "append");
		break;
	case SPOOL_OP_COMMIT: commit(s, mail); break;
	case SPOOL_OP_ABORT:
		spool_abort(s->t->spool, mail->id);
		mail_return(mail, MAIL_RETURN_SPOOL);
		break;
	}
}

static bool take_from_worker(struct spooler *s, struct worker *w)
{
	unsigned n = 0;
	for (; n < ROUND_OPS; n++) {
		void *word = ring_pop_spsc(&w->to_spool);
		if (word == NULL)
			break;
		void *chunk;
		while ((chunk = ring_pop_spsc(&w->to_spool)) == NULL)
			sched_yield(); /* its second word is being pushed right now */
		on_op(s, (uintptr_t)word, chunk);
	}
	return n != 0;
}

/* ---- what the queue asks ---- */

static void submit(struct spooler *s, struct mail *mail)
{
	for (struct mail_chunk *c = mail->first; c != NULL; c = c->next) {
		int rc = spool_append(s->t->spool, mail->id, c->offset, bytes_of(c->data, c->used));
		if (rc == 0)
			continue;
		note_failure(s, rc, "submit");
		refuse(s, mail);
		return;
	}
	commit(s, mail);
}

/* The whole mail, back into memory; NULL: not there, damaged, or no memory now. */
static struct mail *load(struct spooler *s, uint64_t id)
{
	struct mail *mail = mail_get(s->t->reload_pool, id);
	uint64_t offset = 0;
	int64_t n = 0;
	while (mail != NULL && (n = spool_read(s->t->spool, id, offset, s->buffer, sizeof s->buffer)) > 0) {
		if (!mail_append(mail, bytes_of(s->buffer, (size_t)n)))
			break;
		offset += (uint64_t)n;
	}
	if (mail == NULL || n != 0 || offset < 4) {
		if (mail != NULL)
			mail_put(mail);
		if (n < 0)
			log_error("spool", "a mail could not be read back", "id=%llu error=\"%s\"",
				(unsigned long long)id, strerror((int)-n));
		return NULL;
	}
	const uint8_t *head = mail->first->data;
	mail->envelope_size = (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 |
		(uint32_t)head[3] << 24;
	return mail;
}

static void answer_load(struct spooler *s, uint64_t id)
{
	const struct spool_report loaded = {.kind = SPOOL_REPORT_LOADED, .id = id, .mail = load(s, id)};
	if (!report(s, &loaded, NULL, 0) && loaded.mail != NULL)
		mail_put(loaded.mail);
}

static void answer_content(struct spooler *s, const struct spool_request *r)
{
	struct spool_report head = {.kind = SPOOL_REPORT_CONTENT, .id = r->id, .token = r->token, .offset = r->offset};
	int64_t n = spool_read(s->t->spool, r->id, 0, s->buffer, 4);
	if (n == 4)
		head.envelope_size = (uint32_t)s->buffer[0] | (uint32_t)s->buffer[1] << 8 |
			(uint32_t)s->buffer[2] << 16 | (uint32_t)s->buffer[3] << 24;
	if (n >= 0)
		n = spool_read(s->t->spool, r->id, head.envelope_size + r->offset, s->buffer, sizeof s->buffer);
	head.size = n < 0 ? 0 : (uint64_t)n;
	report(s, &head, s->buffer, n < 0 ? 0 : (size_t)n);
}

/* 0, or -errno: it and all behind it are done again later, in the same order. */
static int on_request(struct spooler *s, struct spool_request *r)
{
	switch (r->kind) {
	case SPOOL_REQUEST_STATE: return spool_put_state(s->t->spool, r->id, bytes_of(r->bytes, r->n));
	case SPOOL_REQUEST_DONE: return spool_done(s->t->spool, r->id);
	case SPOOL_REQUEST_SUBMIT: submit(s, r->mail); return 0;
	case SPOOL_REQUEST_LOAD: answer_load(s, r->id); return 0;
	case SPOOL_REQUEST_CONTENT: answer_content(s, r); return 0;
	}
	return 0;
}

/* Done again, it would be the same: -ENOENT, since the mail is over; -EMSGSIZE. */
static bool is_hopeless(const struct spool_request *r, int rc)
{
	if (rc == -EMSGSIZE)
		log_error("spool", "a mail's state is too large to be kept; after a restart it is as it was before",
			"id=%llu bytes=%zu", (unsigned long long)r->id, r->n);
	return rc == -ENOENT || rc == -EMSGSIZE;
}

static struct spool_request *next_request(struct spooler *s)
{
	struct spool_request *r = s->redo;
	if (r == NULL)
		return ring_pop_spsc(&s->t->from_queue);
	s->redo = NULL;
	return r;
}

static bool take_from_queue(struct spooler *s)
{
	bool any = false;
	struct spool_request *r;
	unsigned reads = 0;
	for (unsigned n = 0; n < ROUND_OPS && reads < ROUND_READS && (r = next_request(s)) != NULL; n++) {
		int rc = on_request(s, r);
		if (rc < 0 && !is_hopeless(r, rc)) {
			note_failure(s, rc, "queue state");
			s->redo = r;
			break;
		}
		any = true;
		reads += r->kind == SPOOL_REQUEST_LOAD || r->kind == SPOOL_REQUEST_CONTENT;
		free(r);
	}
	return any;
}

/* ---- the end of a round ---- */

static void report_mail(struct spooler *s, struct mail *mail, bool is_durable)
{
	if (is_durable) {
		/* The worker's words are read before the mail is the queue's. */
		struct mail waiter = *mail;
		tell_queue(s, (void *)((uintptr_t)mail | 1));
		tell_submitter(s, &waiter, true);
		return;
	}
	refuse(s, mail);
}

static void sync_round(struct spooler *s)
{
	int rc = spool_has_batch(s->t->spool) ? spool_sync(s->t->spool) : 0;
	if (rc < 0)
		note_failure(s, rc, "sync");
	else if (s->batch.mail_count != 0)
		atomic_fetch_add_explicit(&s->t->batches, 1, memory_order_relaxed);
	for (size_t i = 0; i < s->batch.mail_count; i++)
		report_mail(s, s->batch.mails[i], rc == 0);
	atomic_fetch_add_explicit(&s->t->commits, rc == 0 ? s->batch.mail_count : 0, memory_order_relaxed);
	s->batch.mail_count = 0;
}

static bool round_of(struct spooler *s)
{
	bool any = false;
	struct relay *relay = s->t->relay;
	mail_pool_collect(s->t->reload_pool);
	for (unsigned i = 0; i < relay->cores; i++)
		any |= take_from_worker(s, relay->workers[i]);
	uint64_t now = time_monotonic_us();
	if (s->redo == NULL || now >= s->full_until_us)
		any |= take_from_queue(s);
	bool is_left = s->redo == NULL && spool_has_batch(s->t->spool); /* of a round whose sync failed */
	if (any || (is_left && now >= s->full_until_us))
		sync_round(s);
	if (atomic_load_explicit(&s->t->is_full, memory_order_relaxed) && now >= s->full_until_us) {
		atomic_store(&s->t->is_full, false);
		log_info("spool", "taking mails again", "");
	}
	return any;
}

/* May the thread end? What the queue thread has left behind is written first, if the disk lets us. */
static bool is_over(const struct spooler *s, uint64_t now, uint64_t *until_us)
{
	const struct spool_thread *t = s->t;
	if (!atomic_load(&t->relay->is_spool_stopping))
		return false;
	if (*until_us == 0)
		*until_us = now + LAST_WORDS_US;
	bool is_done = ring_count(&t->from_queue) == 0 && s->redo == NULL && !spool_has_batch(t->spool);
	if (!is_done && now >= *until_us)
		log_error("spool", "ended with changes of the queue unwritten", "requests=%u", ring_count(&t->from_queue));
	return is_done || now >= *until_us;
}

static void *run(void *arg)
{
	struct spool_thread *t = arg;
	struct spooler *s = calloc(1, sizeof *s);
	if (s == NULL)
		abort();
	s->t = t;
	pthread_setname_np(pthread_self(), "spool");
	useconds_t nap = NAP_US_LEAST;
	uint64_t stats_due_us = 0, until_us = 0;
	while (!is_over(s, time_monotonic_us(), &until_us)) {
		if (round_of(s)) {
			nap = NAP_US_LEAST;
		} else {
			usleep(nap);
			nap = 2 * nap > NAP_US_MOST ? NAP_US_MOST : 2 * nap;
		}
		uint64_t now = time_monotonic_us();
		if (now >= stats_due_us) {
			struct spool_stats stats;
			spool_get_stats(t->spool, &stats);
			words_copy(&t->stats, &stats, sizeof stats);
			stats_due_us = now + 250000;
		}
	}
	free(s->batch.mails);
	free(s);
	return NULL;
}

int spool_thread_open(struct relay *relay, spool_found_fn *found, void *user, char error[256])
{
	struct spool_thread *t = &relay->spool;
	const struct config *config = relay->config;
	size_t chunks = (size_t)config->spool.reload_memory_mb * 1024 * 1024 / MAIL_CHUNK_BYTES;
	t->relay = relay;
	t->reload_pool = mail_pool_create(chunks, chunks, 62);
	if (t->reload_pool == NULL || !ring_init(&t->from_queue, REQUEST_RING) ||
		!ring_init(&t->to_queue, TO_QUEUE_RING)) {
		snprintf(error, 256, "spool: out of memory; lower spool.reload_memory_mb");
		return -ENOMEM;
	}
	int rc = disk_open_folder(&t->disk, config->paths.spool, error);
	if (rc < 0)
		return rc;
	const struct spool_config spool = {
		.disk = t->disk,
		.segment_bytes = (uint64_t)config->spool.segment_mb * 1024 * 1024,
		.disk_bytes_max = (uint64_t)config->spool.disk_mb * 1024 * 1024,
	};
	rc = spool_open(&t->spool, &spool, found, user, error);
	if (rc == 0 && error[0] != '\0')
		log_warn("spool", "recovered with damage", "found=\"%s\"", error);
	return rc;
}

int spool_thread_start(struct relay *relay)
{
	return -pthread_create(&relay->spool.thread, NULL, run, &relay->spool);
}
