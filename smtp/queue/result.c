// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/result.c: what came of an attempt: delivered, given up, or later again. */
#include "smtp/queue/queue_private.h"

#include <assert.h>
#include <stdlib.h>

/* The last try is at the end of the mail's life. */
static uint64_t next_try_us(const struct queue *q, const struct item *i, const struct attempt *attempt)
{
	uint64_t expires_us = mail_expires_us(q, i->mail);
	uint64_t next_us = q->now_us + queue_wait_us(q, i->tries == 0 ? 1 : i->tries);

	if (attempt->is_untried || next_us < attempt->not_before_us)
		next_us = attempt->not_before_us;
	return next_us < expires_us ? next_us : expires_us;
}

bool item_defer(struct queue *q, struct item *i, const struct attempt *attempt)
{
	if (attempt->is_try) {
		i->tries++;
		mail_set_dirty(q, i->mail);
	}
	if (q->now_us >= mail_expires_us(q, i->mail)) {
		item_bounce(q, i, attempt);
		return false;
	}
	for (uint32_t at = 0; at < i->count; at++)
		effect_record(q, i, at, RECORD_DEFERRED, NULL, attempt);
	q->stats.deferred += i->count;
	bounce_warn(q, i);
	if (i->wants_hold) {
		item_hold(q, i);
		return false;
	}
	item_wait(q, i, next_try_us(q, i, attempt));
	if (i->is_tls)
		list_append(&q->tls_waiting, &i->link);
	return true;
}

/* ---- a finished job ---- */
struct result {
	uint32_t delivered, failed, deferred;
	bool is_crowded; /* the server wants fewer recipients at once */
};

static struct result count(const struct queue_job *job)
{
	struct result result = {0};

	for (uint32_t n = 0; n < job->recipient_count; n++) {
		uint16_t code = job->outcomes[n].code;
		result.delivered += code / 100 == 2;
		result.failed += code / 100 == 5;
		result.deferred += code / 100 != 2 && code / 100 != 5;
		result.is_crowded |= code == 452;
	}
	return result;
}

/* The reason of each recipient that is not delivered; equal ones are kept once. */
static void take_reasons(struct item *i, const struct queue_job *job)
{
	struct bytes host = bytes_of(
		job->evidence.host, strnlen(job->evidence.host, sizeof job->evidence.host));
	struct reason *last = NULL;

	for (uint32_t at = 0; at < i->count; at++) {
		struct smtp_reply *reply = &job->outcomes[at];
		if (reply->code / 100 == 2)
			continue;
		/* A core that gave no proper reply has not said that the mail is bad. */
		if (reply->code / 100 != 5 && reply->code / 100 != 4)
			reply->code = 451;
		if (!reason_is(last, reply, host)) {
			reason_release(last);
			last = reason_make(reply, host);
		}
		item_set_reason(i, at, reason_hold(last));
	}
	reason_release(last);
}

/* Backwards, since the last recipient takes the place of one that is finished. */
static void take_delivered(
	struct queue *q, struct item *i, const struct queue_job *job, const struct attempt *attempt)
{
	for (uint32_t at = i->count; at-- > 0;) {
		if (job->outcomes[at].code / 100 != 2)
			continue;
		effect_record(q, i, at, RECORD_DELIVERED, &job->outcomes[at], attempt);
		item_finish_recipient(q, i, at);
		q->stats.delivered++;
	}
}

/* Those that failed for good, in an item of their own; their reasons begin with 5. */
static struct item *split_failed(struct queue *q, struct item *i, uint32_t failed)
{
	struct item *other = item_make(q, i->mail, failed);
	uint32_t kept = 0;

	other->tries = i->tries;
	other->first_try_us = i->first_try_us;
	other->last_try_us = i->last_try_us;
	other->is_warned = i->is_warned;
	other->wants_hold = i->wants_hold;
	for (uint32_t at = 0; at < i->count; at++) {
		struct reason *reason = item_reasons(i)[at];
		if (reason->code / 100 == 5) {
			item_add(other, i->recipients[at], item_numbers(i)[at], reason);
			continue;
		}
		i->recipients[kept] = i->recipients[at];
		item_numbers(i)[kept] = item_numbers(i)[at];
		item_reasons(i)[kept++] = reason;
	}
	i->count = kept;
	return other;
}

static const char *stage_of(const struct queue_job *job)
{
	return job->is_connect_failure ? "connect" : job->is_tls_failure ? "tls" : "delivery";
}

/* What remains after the delivered ones are gone. */
static void go_on(struct queue *q, struct item *i, const struct result *result,
	const struct attempt *attempt)
{
	bool is_policy_newer = i->route->epoch != q->epoch;

	if (result->failed != 0 && result->deferred != 0) {
		item_bounce(q, split_failed(q, i, result->failed), attempt);
	} else if (result->failed != 0) {
		item_bounce(q, i, attempt);
		return;
	}
	if (!item_defer(q, i, attempt))
		return;
	/* RFC 5321 4.5.3.1.10: "too many recipients" after some were taken: the rest at once. And what
	 * failed for TLS under the policy before this one is tried under this one. */
	if ((result->is_crowded && result->delivered != 0) || (i->is_tls && is_policy_newer))
		item_wake(q, i);
}

void queue_job_finished(struct queue *q, struct queue_job *done, uint64_t now_us)
{
	struct job *job = LINK_OF(done, struct job, job);
	struct item *i = job->item;
	struct result result = count(done);
	struct attempt attempt = {.evidence = &done->evidence, .stage = stage_of(done)};

	assert(i->state == QUEUE_ITEM_ACTIVE && i->job == job);
	q->now_us = now_us;
	q->jobs--;
	q->core_jobs[done->core]--;
	i->mail->jobs--;
	i->tries++;
	i->is_tls = done->is_tls_failure;
	site_job_finished(q, i, done);
	if (done->is_connect_failure)
		attempt.not_before_us = i->site->backoff_until_us;
	take_reasons(i, done);
	take_delivered(q, i, done, &attempt);
	mail_set_dirty(q, i->mail);
	if (i->count == 0) {
		item_end(q, i);
	} else if (i->wants_remove) {
		item_enter(q, i, QUEUE_ITEM_WAITING);
		list_append(&q->removing, &i->link);
	} else {
		go_on(q, i, &result, &attempt);
	}
	free(job);
}
