// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/mail.c: the mails of the queue: found and listed by id, made of items, resident or not. */
#include "smtp/queue/queue_private.h"

#include <assert.h>
#include <stdlib.h>

/* ---- the tree: a treap (Seidel, Aragon 1996), by id, with a hash of the id as priority ---- */
static uint64_t priority(const struct queued_mail *m)
{
	uint64_t x = m->id * 0x9e3779b97f4a7c15;

	x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9;
	return x ^ x >> 32;
}

/* Cuts `tree` into what is below `id` and what is above. */
static void split(struct queued_mail *tree, uint64_t id, struct queued_mail **low,
	struct queued_mail **high)
{
	while (tree != NULL) {
		if (tree->id < id) {
			*low = tree;
			low = &tree->right;
			tree = tree->right;
		} else {
			*high = tree;
			high = &tree->left;
			tree = tree->left;
		}
	}
	*low = *high = NULL;
}

static void tree_add(struct queue *q, struct queued_mail *m)
{
	struct queued_mail **at = &q->mails;

	while (*at != NULL && priority(*at) >= priority(m))
		at = (*at)->id < m->id ? &(*at)->right : &(*at)->left;
	split(*at, m->id, &m->left, &m->right);
	*at = m;
	q->mail_count++;
}

static void tree_remove(struct queue *q, struct queued_mail *m)
{
	struct queued_mail **at = &q->mails, *low = m->left, *high = m->right;

	while (*at != m)
		at = (*at)->id < m->id ? &(*at)->right : &(*at)->left;
	while (low != NULL && high != NULL) {
		if (priority(low) >= priority(high)) {
			*at = low;
			at = &low->right;
			low = low->right;
		} else {
			*at = high;
			at = &high->left;
			high = high->left;
		}
	}
	*at = low != NULL ? low : high;
	q->mail_count--;
}

struct queued_mail *mail_find(struct queue *q, uint64_t id)
{
	struct queued_mail *m = q->mails;

	while (m != NULL && m->id != id)
		m = m->id < id ? m->right : m->left;
	return m;
}

struct queued_mail *mail_after(struct queue *q, uint64_t id)
{
	struct queued_mail *m = q->mails, *found = NULL;

	while (m != NULL) {
		if (m->id > id) {
			found = m;
			m = m->left;
		} else {
			m = m->right;
		}
	}
	return found;
}

/* ---- one mail ---- */
struct bytes mail_sender(const struct queued_mail *m)
{
	return bytes_of(m->text, m->sender_n);
}

bool mail_is_from_nobody(const struct queued_mail *m)
{
	return m->sender_n == 0 || (m->body_flags & ENVELOPE_IS_DSN) != 0;
}

uint64_t mail_expires_us(const struct queue *q, const struct queued_mail *m)
{
	uint32_t seconds = mail_is_from_nobody(m) ? q->config.dsn_lifetime_seconds
						  : q->config.lifetime_seconds;

	return m->received_us + seconds * SECONDS;
}

uint8_t *mail_done_bits(struct queued_mail *m)
{
	return m->text + m->sender_n;
}

void mail_set_done(struct queued_mail *m, uint32_t number)
{
	mail_done_bits(m)[number / 8] |= (uint8_t)(1 << number % 8);
}

void mail_set_dirty(struct queue *q, struct queued_mail *m)
{
	if (link_is_alone(&m->dirty))
		list_append(&q->dirty, &m->dirty);
}

void mail_evict_body(struct queue *q, struct queued_mail *m)
{
	if (m->mail == NULL || m->jobs != 0)
		return;
	/* All of it, not mail_evict(): the queue has copied what it needs, and a million waiting mails
	 * must not hold a million places of the accepting cores' pools. */
	effect_push(q, QUEUE_EFFECT_RETURN, 0)->effect.mail = m->mail;
	q->resident_bytes -= mail_held_bytes(m->size);
	m->mail = NULL;
}

void mail_cool(struct queue *q, struct queued_mail *m)
{
	if (m->hot == 0)
		mail_evict_body(q, m);
}

void mail_take_body(struct queue *q, struct queued_mail *m, struct mail *mail)
{
	if (m->mail != NULL) {
		effect_push(q, QUEUE_EFFECT_RETURN, 0)->effect.mail = mail;
		return;
	}
	m->mail = mail;
	q->resident_bytes += mail_held_bytes(m->size);
}

void mail_forget(struct queue *q, struct queued_mail *m)
{
	assert(m->mail == NULL && link_is_alone(&m->items));
	if (m->is_loading)
		q->loads--;
	link_leave(&m->dirty);
	tree_remove(q, m);
	free(m);
}

/* ---- from envelope to items ---- */
struct contents {
	uint32_t recipients;
	size_t recipient_bytes;
	struct bytes sender, body_flags, received_at, session_id;
	bool is_broken;
};

static void keep_first(struct bytes *field, struct bytes value)
{
	if (field->at == NULL)
		*field = value;
}

static void take_field(struct contents *c, enum envelope_field field, struct bytes value)
{
	switch (field) {
	case ENVELOPE_RECIPIENT:
		c->recipients++;
		c->recipient_bytes += value.n;
		break;
	case ENVELOPE_SENDER: keep_first(&c->sender, value); break;
	case ENVELOPE_BODY_FLAGS: keep_first(&c->body_flags, value); break;
	case ENVELOPE_RECEIVED_AT: keep_first(&c->received_at, value); break;
	case ENVELOPE_SESSION_ID: keep_first(&c->session_id, value); break;
	default: break;
	}
}

static struct contents read_envelope(struct bytes envelope)
{
	struct envelope_cursor cursor;
	enum envelope_field field;
	struct bytes value;
	struct contents contents = {0};
	int more = -1;

	if (envelope_open(envelope, &cursor))
		while ((more = envelope_next(&cursor, &field, &value)) > 0)
			take_field(&contents, field, value);
	if (more != 0 || contents.recipients == 0)
		return (struct contents){.recipients = contents.recipients,
			.recipient_bytes = contents.recipient_bytes, .is_broken = true};
	return contents;
}

static struct queued_mail *mail_make(
	struct queue *q, uint64_t id, uint64_t size, const struct contents *contents)
{
	struct bytes sender = contents->sender;
	uint64_t received_us = envelope_u64(contents->received_at);
	struct queued_mail *m = queue_calloc(1,
		sizeof *m + sender.n + (contents->recipients + 7) / 8 + contents->recipient_bytes);

	m->id = id;
	m->size = size;
	m->session_id = envelope_u64(contents->session_id);
	m->received_us = received_us != 0 && received_us < q->now_us ? received_us : q->now_us;
	m->recipient_count = contents->recipients;
	m->body_flags = contents->body_flags.n == 0 ? 0 : contents->body_flags.at[0];
	m->is_unreadable = contents->is_broken;
	m->sender_n = (uint16_t)sender.n;
	if (sender.n != 0)
		memcpy(m->text, sender.at, sender.n);
	link_init(&m->dirty);
	link_init(&m->items);
	tree_add(q, m);
	return m;
}

struct recipient {
	struct bytes address;
	struct bytes domain;
	uint32_t number;
	bool is_taken; /* in an item, or not to be delivered (any more) */
};

static int compare_bytes(struct bytes a, struct bytes b, bool is_nocase)
{
	for (size_t i = 0; i < a.n && i < b.n; i++) {
		int x = is_nocase ? byte_lower(a.at[i]) : a.at[i];
		int y = is_nocase ? byte_lower(b.at[i]) : b.at[i];
		if (x != y)
			return x - y;
	}
	return (a.n > b.n) - (a.n < b.n);
}

static struct bytes local_part(const struct recipient *r)
{
	return bytes_first(r->address, r->address.n - r->domain.n);
}

static bool is_same_address(const struct recipient *a, const struct recipient *b)
{
	return bytes_equal_nocase(a->domain, b->domain) &&
	       bytes_equal(local_part(a), local_part(b));
}

/* By domain, then by the local part, whose case may matter (RFC 5321 2.4), then as they came. */
static int compare_recipients(const void *a_, const void *b_)
{
	const struct recipient *a = a_, *b = b_;
	int order = compare_bytes(a->domain, b->domain, true);

	if (order == 0)
		order = compare_bytes(local_part(a), local_part(b), false);
	return order != 0 ? order : (a->number > b->number) - (a->number < b->number);
}

static int compare_numbers(const void *a, const void *b)
{
	const struct recipient *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

/* Copies the addresses into the mail; marks all but the first of equal ones as taken. */
static struct recipient *take_recipients(
	struct queue *q, struct queued_mail *m, struct bytes envelope)
{
	struct recipient *all = queue_calloc(m->recipient_count, sizeof *all);
	uint8_t *to = mail_done_bits(m) + (m->recipient_count + 7) / 8;
	struct envelope_cursor cursor;
	enum envelope_field field;
	struct bytes value;
	uint32_t n = 0;

	envelope_open(envelope, &cursor);
	while (n < m->recipient_count && envelope_next(&cursor, &field, &value) > 0) {
		if (field != ENVELOPE_RECIPIENT)
			continue;
		if (value.n != 0)
			memcpy(to, value.at, value.n);
		struct bytes address = bytes_of(to, value.n);
		all[n] = (struct recipient){address, address_domain(address), n, false};
		to += value.n;
		n++;
	}
	qsort(all, n, sizeof *all, compare_recipients);
	for (uint32_t i = 1; i < n; i++)
		if (is_same_address(&all[i - 1], &all[i]))
			all[i].is_taken = true;
	return all;
}

/* Every recipient that is not taken goes into an item, with others of its domain. */
static void make_items(struct queue *q, struct queued_mail *m, struct recipient *all)
{
	for (uint32_t from = 0, to; from < m->recipient_count; from = to) {
		uint32_t left = 0;
		for (to = from; to < m->recipient_count && left < ITEM_RECIPIENTS_MAX &&
				bytes_equal_nocase(all[to].domain, all[from].domain);
			to++)
			left += !all[to].is_taken;
		if (left == 0)
			continue;
		struct item *i = item_make(q, m, left);
		for (uint32_t at = from; at < to; at++)
			if (!all[at].is_taken)
				item_add(i, all[at].address, all[at].number, NULL);
		item_wake(q, i);
	}
}

/* A mail whose envelope cannot be read is shown to the operator, not thrown away. */
static void make_unreadable_item(struct queue *q, struct queued_mail *m)
{
	item_hold(q, item_make(q, m, 0));
	link_leave(&m->dirty); /* and what is known of it is not overwritten */
}

void queue_admit(struct queue *q, struct mail *mail, uint64_t now_us)
{
	uint8_t *copy = queue_scratch(q, mail->envelope_size);
	struct bytes envelope = bytes_of(copy, mail->envelope_size);
	struct contents contents = {.is_broken = true};

	q->now_us = now_us;
	if (envelope_copy(mail, copy))
		contents = read_envelope(envelope);
	struct queued_mail *m = mail_make(q, mail->id, mail->size, &contents);
	mail_take_body(q, m, mail);
	if (m->is_unreadable) {
		make_unreadable_item(q, m);
		return;
	}
	struct recipient *all = take_recipients(q, m, envelope);
	make_items(q, m, all);
	free(all);
	if (m->body_flags & ENVELOPE_IS_DSN)
		bounce_durable(q, m->id);
}

/* ---- recovery ---- */
/* An item as it was. false: the state does not fit these recipients (it is then as if it were fresh). */
static bool restore_item(struct queue *q, struct queued_mail *m, struct recipient *by_number,
	struct state_item *state)
{
	struct recipient *first = NULL;
	struct reason *reason;
	uint32_t run;

	for (uint32_t at = 0; at < state->count; at++) {
		uint32_t number = state_number(state, at);
		if (number >= m->recipient_count || by_number[number].is_taken)
			return false;
		first = first != NULL ? first : &by_number[number];
		if (!bytes_equal_nocase(first->domain, by_number[number].domain))
			return false;
	}
	if (first == NULL || state->count > ITEM_RECIPIENTS_MAX)
		return false;
	struct item *i = item_make(q, m, state->count);
	for (uint32_t at = 0; at < state->count; at++) {
		struct recipient *r = &by_number[state_number(state, at)];
		if (!r->is_taken) /* a number may not be there twice */
			item_add(i, r->address, r->number, NULL);
		r->is_taken = true;
	}
	for (uint32_t at = 0; state_next_reason(state, &run, &reason); reason_release(reason))
		for (; run > 0 && at < i->count; run--)
			item_set_reason(i, at++, reason_hold(reason));
	i->tries = state->tries;
	i->first_try_us = state->first_try_us;
	i->last_try_us = state->last_try_us;
	i->is_warned = state->is_warned;
	/* The clock may have been set back, or have been wrong when this was written. */
	uint64_t latest = q->now_us + q->config.retry_most_seconds * SECONDS;
	if (state->is_held)
		item_hold(q, i);
	else if (state->next_try_us <= q->now_us)
		item_wake(q, i);
	else
		item_wait(q, i, state->next_try_us < latest ? state->next_try_us : latest);
	return true;
}

static void restore(struct queue *q, struct queued_mail *m, struct recipient *all, struct bytes state)
{
	struct state_cursor cursor;
	struct state_item item;

	if (!state_open(state, m->recipient_count, &cursor))
		return;
	qsort(all, m->recipient_count, sizeof *all, compare_numbers);
	for (uint32_t n = 0; n < m->recipient_count; n++)
		if (cursor.done.at[n / 8] >> (n % 8) & 1) {
			all[n].is_taken = true;
			mail_set_done(m, n);
		}
	while (state_next_item(&cursor, &item))
		if (!restore_item(q, m, all, &item))
			break;
	qsort(all, m->recipient_count, sizeof *all, compare_recipients);
}

void queue_recover(struct queue *q, const struct spool_found *found, uint64_t now_us)
{
	struct contents contents = read_envelope(found->envelope);

	q->now_us = now_us;
	if (q->last_dsn_id < found->id)
		q->last_dsn_id = found->id;
	struct queued_mail *m = mail_make(q, found->id, found->size, &contents);
	if (m->is_unreadable) {
		make_unreadable_item(q, m);
		return;
	}
	struct recipient *all = take_recipients(q, m, found->envelope);
	restore(q, m, all, found->state);
	make_items(q, m, all);
	free(all);
	link_leave(&m->dirty); /* what was read need not be written again */
	m->is_over = link_is_alone(&m->items);
	if (m->is_over)
		mail_set_dirty(q, m);
}

/* ---- the end ---- */
static void free_items(struct queued_mail *m)
{
	while (!link_is_alone(&m->items)) {
		struct item *i = LINK_OF(m->items.next, struct item, of_mail);
		for (uint32_t at = 0; at < i->count; at++)
			reason_release(item_reasons(i)[at]);
		if (i->state == QUEUE_ITEM_ACTIVE && !i->is_bounce)
			free(i->job);
		free(i->evidence);
		link_leave(&i->of_mail);
		free(i);
	}
}

void mail_free_all(struct queue *q)
{
	struct queued_mail *m;

	while ((m = q->mails) != NULL) {
		free_items(m);
		tree_remove(q, m);
		free(m);
	}
}
