// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/bounce.c: giving up on recipients: a DSN to the sender, durable before they count as done.
 *
 * Nothing is lost on the way: until the DSN has been admitted the item stays, and a crash at any point
 * leaves its recipients undone, so that they are tried once more and bounced again. */
#include "smtp/queue/dsn.h"
#include "smtp/queue/queue_private.h"

#include <assert.h>
#include <stdlib.h>

static uint64_t hash_id(uint64_t id)
{
	return id * 0x9e3779b97f4a7c15;
}

/* ---- the end of it ---- */
static void finish(struct queue *q, struct item *i)
{
	struct attempt attempt = {.stage = i->stage, .evidence = i->evidence};

	while (i->count != 0) {
		effect_record(q, i, i->count - 1, RECORD_BOUNCED, NULL, &attempt);
		item_finish_recipient(q, i, i->count - 1);
		q->stats.bounced++;
	}
	item_end(q, i);
}

/* ---- the DSN ---- */
static void fill_recipient(struct dsn_recipient *to, struct item *i, uint32_t at)
{
	to->address = i->recipients[at];
	to->last_attempt_us = i->last_try_us;
	to->reason = item_reasons(i)[at];
}

static struct mail *build(struct queue *q, struct item *i, enum dsn_action action)
{
	struct queued_mail *m = i->mail;
	struct dsn_recipient recipients[ITEM_RECIPIENTS_MAX];
	struct dsn dsn = {
		.action = action,
		.hostname = q->hostname,
		.sender = mail_sender(m),
		.original_id = m->id,
		.session_id = m->session_id,
		.arrival_us = m->received_us,
		.now_us = q->now_us,
		.expires_us = mail_expires_us(q, m),
		.original = m->mail,
		.recipients = recipients,
		.recipient_count = i->count,
	};

	assert(i->count <= ITEM_RECIPIENTS_MAX);
	for (uint32_t at = 0; at < i->count; at++)
		fill_recipient(&recipients[at], i, at);
	if (q->config.dsn_pool == NULL)
		return NULL;
	mail_pool_collect(q->config.dsn_pool);
	uint64_t id = mail_id_next(&q->last_dsn_id, q->now_us, mail_pool_core(q->config.dsn_pool));
	return dsn_build(q->config.dsn_pool, id, &dsn);
}

static void submit(struct queue *q, struct mail *mail)
{
	struct effect *e = effect_push(q, QUEUE_EFFECT_SUBMIT, 0);

	e->effect.mail = mail;
	e->effect.mail_id = mail->id;
	q->stats.dsns++;
}

/* Its DSN is on its way: now the item waits for it. */
static void await(struct queue *q, struct item *i, uint64_t dsn_id)
{
	struct submission *s = queue_calloc(1, sizeof *s);

	s->dsn_id = dsn_id;
	s->item = i;
	table_put(&q->submissions, &s->by_id, hash_id(dsn_id));
	item_enter(q, i, QUEUE_ITEM_ACTIVE);
	i->submission = s;
	due_set(&q->due, &i->due, q->now_us + SUBMIT_SECONDS_MAX * SECONDS);
}

void bounce_leave(struct queue *q, struct item *i)
{
	if (i->submission == NULL)
		return;
	table_remove(&q->submissions, &i->submission->by_id);
	free(i->submission);
	i->submission = NULL;
}

/* The item is WAITING, in no list. */
void bounce_go(struct queue *q, struct item *i)
{
	struct queued_mail *m = i->mail;

	if (i->wants_remove) {
		list_append(&q->removing, &i->link);
		return;
	}
	if (i->wants_hold) {
		item_hold(q, i);
		return;
	}
	if (mail_is_from_nobody(m)) { /* RFC 5321 4.5.5: never a notification about a notification */
		finish(q, i);
		return;
	}
	if (m->mail == NULL && i->load_failures < LOAD_FAILURES_MAX) {
		item_load(q, i);
		return;
	}
	struct mail *dsn = build(q, i, DSN_FAILED);
	if (dsn == NULL) {
		item_wait(q, i, q->now_us + DSN_AGAIN_SECONDS * SECONDS);
		return;
	}
	submit(q, dsn);
	await(q, i, dsn->id);
}

void item_bounce(struct queue *q, struct item *i, const struct attempt *attempt)
{
	item_enter(q, i, QUEUE_ITEM_WAITING);
	i->is_bounce = true;
	i->stage = attempt->stage;
	if (attempt->evidence != NULL && i->evidence == NULL) {
		i->evidence = queue_calloc(1, sizeof *i->evidence);
		*i->evidence = *attempt->evidence;
	}
	i->is_tls = false;
	i->load_failures = 0;
	bounce_go(q, i);
}

void bounce_overdue(struct queue *q, struct item *i)
{
	item_enter(q, i, QUEUE_ITEM_WAITING);
	bounce_go(q, i);
}

static struct item *item_of(struct queue *q, uint64_t dsn_id)
{
	for (struct table_link *l = table_find(&q->submissions, hash_id(dsn_id)); l != NULL;
		l = table_find_next(l)) {
		struct submission *s = LINK_OF(l, struct submission, by_id);
		if (s->dsn_id == dsn_id)
			return s->item;
	}
	return NULL;
}

void bounce_durable(struct queue *q, uint64_t dsn_id)
{
	struct item *i = item_of(q, dsn_id);

	if (i != NULL)
		finish(q, i);
}

void queue_submit_failed(struct queue *q, uint64_t mail_id, uint64_t now_us)
{
	struct item *i = item_of(q, mail_id);

	q->now_us = now_us;
	if (i != NULL)
		item_wait(q, i, now_us + DSN_AGAIN_SECONDS * SECONDS);
}

/* ---- the delay warning: once, and lost without harm ---- */
void bounce_warn(struct queue *q, struct item *i)
{
	struct queued_mail *m = i->mail;

	if (q->config.delay_warning_seconds == 0 || i->is_warned || mail_is_from_nobody(m) ||
		q->now_us < m->received_us + q->config.delay_warning_seconds * SECONDS)
		return;
	struct mail *dsn = build(q, i, DSN_DELAYED);
	if (dsn == NULL)
		return; /* with the next deferral */
	submit(q, dsn);
	i->is_warned = true;
	mail_set_dirty(q, m);
}

void bounce_free_all(struct queue *q)
{
	for (uint64_t n = 0; n < q->submissions.bucket_count; n++)
		for (struct table_link *l = q->submissions.buckets[n], *next; l != NULL; l = next) {
			next = l->next;
			free(LINK_OF(l, struct submission, by_id));
		}
	table_fini(&q->submissions);
}
