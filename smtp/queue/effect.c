// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/effect.c: what the queue asks to be done, in order; and the records it fills. */
#include "smtp/queue/queue_private.h"

#include <stdlib.h>

struct effect *effect_push(struct queue *q, enum queue_effect_kind kind, size_t tail)
{
	struct effect *e = queue_calloc(1, sizeof *e + tail);

	e->effect.kind = kind;
	if (q->last == NULL)
		q->first = e;
	else
		q->last->next = e;
	q->last = e;
	return e;
}

/* ---- records ---- */
#define COPY(to, from) bytes_to_string(bytes_of(from, strnlen(from, sizeof(from))), to, sizeof(to))

static void fill_evidence(struct record *r, const struct queue_evidence *e)
{
	COPY(r->relay, e->host);
	r->dest_addr = e->addr;
	r->dest_port = e->port;
	COPY(r->profile, e->profile);
	COPY(r->rule_id, e->rule_id);
	COPY(r->tls_level, e->tls_level);
	r->generation = e->generation;
	COPY(r->tls_version, e->tls_version);
	COPY(r->cipher, e->cipher);
	COPY(r->group, e->group);
	r->bits = e->bits;
	r->bits_total = e->bits_total;
	r->is_resumed = e->is_resumed;
	r->is_small_hello = e->is_small_hello;
	COPY(r->verify, e->verify);
	COPY(r->verify_message, e->verify_message);
	COPY(r->cert_subject, e->cert_subject);
	COPY(r->cert_issuer, e->cert_issuer);
	if (e->is_downgraded)
		strcpy(r->reason, "clear text after a failed handshake");
}

/* Where no delivery was tried, or it said nothing: what the route said. */
static void fill_route(struct record *r, const struct queue_route *route)
{
	if (r->rule_id[0] == '\0')
		COPY(r->rule_id, route->rule_id);
	if (r->profile[0] == '\0')
		COPY(r->profile, route->profile.id);
	if (r->generation == 0)
		r->generation = route->generation;
}

static void fill_reason(struct record *r, const struct reason *reason)
{
	if (reason->is_ours)
		reason_format(reason, r->reason, sizeof r->reason);
	else
		reason_format(reason, r->reply, sizeof r->reply);
	if (r->relay[0] == '\0')
		bytes_to_string(reason_remote(reason), r->relay, sizeof r->relay);
}

static void fill_item(struct record *r, const struct queue *q, const struct item *i, uint32_t at)
{
	const struct queued_mail *m = i->mail;

	r->time_us = q->now_us;
	r->session_id = m->session_id;
	r->queue_id = m->id;
	r->is_outbound = true;
	bytes_to_string(mail_sender(m), r->from, sizeof r->from);
	bytes_to_string(i->recipients[at], r->to, sizeof r->to);
	r->first_tried_us = i->first_try_us;
	r->last_tried_us = i->last_try_us;
	r->tries = i->tries;
	r->delay_us = q->now_us > m->received_us ? q->now_us - m->received_us : 0;
	r->size = m->size;
}

void effect_record(struct queue *q, const struct item *i, uint32_t at,
	enum record_disposition disposition, const struct smtp_reply *reply,
	const struct attempt *attempt)
{
	struct effect *e = effect_push(q, QUEUE_EFFECT_RECORD, sizeof(struct record));
	struct record *r = (struct record *)(void *)e->tail;
	struct reason *reason = reply != NULL ? reason_make(reply, BYTES_NONE)
					      : reason_hold(item_reasons((struct item *)i)[at]);

	e->effect.record = r;
	e->effect.mail_id = i->mail->id;
	r->disposition = (uint8_t)disposition;
	fill_item(r, q, i, at);
	if (attempt != NULL && attempt->evidence != NULL)
		fill_evidence(r, attempt->evidence);
	if (attempt != NULL && attempt->stage != NULL)
		bytes_to_string(bytes_of_string(attempt->stage), r->stage, sizeof r->stage);
	if (i->route != NULL)
		fill_route(r, &i->route->route);
	if (reason != NULL)
		fill_reason(r, reason);
	reason_release(reason);
}

/* ---- taking them ---- */
static struct effect *pop(struct queue *q)
{
	struct effect *e = q->first;

	q->first = e->next;
	if (q->first == NULL)
		q->last = NULL;
	return e;
}

/* A mail's state, or its end, is written once for all that has happened to it since. */
static void take_dirty(struct queue *q, struct queue_effect *effect)
{
	struct queued_mail *m = LINK_OF(q->dirty.next, struct queued_mail, dirty);

	link_leave(&m->dirty);
	*effect = (struct queue_effect){.mail_id = m->id};
	if (!m->is_over) {
		effect->kind = QUEUE_EFFECT_STATE;
		effect->state = state_encode(q, m);
		return;
	}
	effect->kind = QUEUE_EFFECT_DONE;
	mail_forget(q, m);
}

static bool step_due(struct queue *q)
{
	struct due *due = due_first(&q->due);

	if (due == NULL || due->at_us > q->now_us)
		return false;
	if (due->kind == DUE_ITEM)
		item_due(q, LINK_OF(due, struct item, due));
	else if (due->kind == DUE_ASK)
		route_overdue(q, LINK_OF(due, struct ask, due));
	else
		site_overdue(q, LINK_OF(due, struct site, due));
	return true;
}

static bool step_woken(struct queue *q)
{
	if (link_is_alone(&q->woken))
		return false;
	struct item *i = LINK_OF(q->woken.next, struct item, link);
	link_leave(&i->link);
	item_go(q, i);
	return true;
}

static bool step_removing(struct queue *q)
{
	if (link_is_alone(&q->removing))
		return false;
	struct item *i = LINK_OF(q->removing.next, struct item, link);
	if (i->count != 0) {
		effect_record(q, i, i->count - 1, RECORD_REMOVED, NULL, NULL);
		item_finish_recipient(q, i, i->count - 1);
		q->stats.removed++;
	}
	if (i->count == 0)
		item_end(q, i);
	return true;
}

/* One piece of the work that events have left. */
static bool step(struct queue *q)
{
	return step_removing(q) || step_due(q) || route_step(q) || step_woken(q) ||
	       item_load_step(q) || site_step(q);
}

bool queue_next_effect(struct queue *q, struct queue_effect *effect)
{
	free(q->current);
	q->current = NULL;
	do {
		if (q->first != NULL) {
			q->current = pop(q);
			*effect = q->current->effect;
			return true;
		}
		if (!link_is_alone(&q->dirty)) {
			take_dirty(q, effect);
			return true;
		}
	} while (step(q));
	return false;
}

void effect_free_all(struct queue *q)
{
	free(q->current);
	while (q->first != NULL)
		free(pop(q));
}
