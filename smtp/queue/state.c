// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/state.c: what of a mail outlives a restart, beside its envelope. Little-endian:
 *
 *   u8 version, u32 recipients, a bit for each that is done, u32 items, then each item:
 *     u32 length of the rest, u8 flags, u32 tries, u64 first try, u64 last try, u64 next try,
 *     u32 recipients, their numbers (u32 each), then reasons, one for each run of recipients:
 *       u32 recipients, u16 code (0: none), u8 class, u8 subject, u8, u16 detail, u8 is ours,
 *       u16 text length, u16 remote length, text, remote
 *
 * Whatever cannot be read is as if it were not there: the recipients concerned are then tried at once. */
#include "smtp/queue/queue_private.h"

#include <assert.h>

#define STATE_VERSION 1
enum { STATE_HELD = 1, STATE_WARNED = 2 };
enum { ITEM_HEAD = 1 + 4 + 3 * 8 + 4, REASON_HEAD = 4 + 2 + 3 + 2 + 1 + 2 + 2 };

/* ---- writing ---- */
static uint8_t *put(uint8_t *to, uint64_t value, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*to++ = (uint8_t)(value >> (8 * i));
	return to;
}

static uint8_t *put_bytes(uint8_t *to, struct bytes b)
{
	if (b.n != 0)
		memcpy(to, b.at, b.n);
	return to + b.n;
}

/* Recipients from `at` on that share a reason. */
static uint32_t run_length(struct item *i, uint32_t at)
{
	uint32_t end = at + 1;

	while (end < i->count && item_reasons(i)[end] == item_reasons(i)[at])
		end++;
	return end - at;
}

static size_t item_size(struct item *i)
{
	size_t size = 4 + ITEM_HEAD + 4 * (size_t)i->count;

	for (uint32_t at = 0; at < i->count; at += run_length(i, at)) {
		const struct reason *r = item_reasons(i)[at];
		size += REASON_HEAD + (r == NULL ? 0u : (size_t)r->text_n + r->remote_n);
	}
	return size;
}

static uint8_t *put_reason(uint8_t *to, uint32_t run, const struct reason *r)
{
	static const struct reason none;
	const struct reason *from = r == NULL ? &none : r;

	to = put(to, run, 4);
	to = put(to, from->code, 2);
	to = put_bytes(to, bytes_of(from->enhanced, 3));
	to = put(to, from->detail, 2);
	to = put(to, from->is_ours, 1);
	to = put(to, from->text_n, 2);
	to = put(to, from->remote_n, 2);
	if (r == NULL)
		return to;
	to = put_bytes(to, reason_text(r));
	return put_bytes(to, reason_remote(r));
}

static uint8_t *put_item(uint8_t *to, struct item *i)
{
	bool is_held = i->state == QUEUE_ITEM_HELD || i->wants_hold;
	uint64_t next_us = i->state == QUEUE_ITEM_WAITING && i->due.place != 0 ? i->due.at_us : 0;

	to = put(to, item_size(i) - 4, 4);
	to = put(to, (is_held ? STATE_HELD : 0u) | (i->is_warned ? STATE_WARNED : 0u), 1);
	to = put(to, i->tries, 4);
	to = put(to, i->first_try_us, 8);
	to = put(to, i->last_try_us, 8);
	to = put(to, next_us, 8);
	to = put(to, i->count, 4);
	for (uint32_t at = 0; at < i->count; at++)
		to = put(to, item_numbers(i)[at], 4);
	for (uint32_t at = 0; at < i->count; at += run_length(i, at))
		to = put_reason(to, run_length(i, at), item_reasons(i)[at]);
	return to;
}

/* Items that have never been tried are not worth a word. */
static bool is_worth(const struct item *i)
{
	return i->tries != 0 || i->state == QUEUE_ITEM_HELD || i->wants_hold || i->is_warned;
}

struct bytes state_encode(struct queue *q, struct queued_mail *m)
{
	size_t done_size = (m->recipient_count + 7) / 8, size = 1 + 4 + done_size + 4;
	uint32_t count = 0;

	for (struct link *l = m->items.next; l != &m->items; l = l->next) {
		struct item *i = LINK_OF(l, struct item, of_mail);
		count += is_worth(i);
		size += is_worth(i) ? item_size(i) : 0;
	}
	uint8_t *start = queue_scratch(q, size), *to = put(start, STATE_VERSION, 1);
	to = put(to, m->recipient_count, 4);
	to = put_bytes(to, bytes_of(mail_done_bits(m), done_size));
	to = put(to, count, 4);
	for (struct link *l = m->items.next; l != &m->items; l = l->next) {
		struct item *i = LINK_OF(l, struct item, of_mail);
		if (is_worth(i))
			to = put_item(to, i);
	}
	assert((size_t)(to - start) == size);
	return bytes_of(start, size);
}

/* ---- reading ---- */
static uint64_t get(struct bytes b, size_t at, unsigned n)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < n; i++)
		value |= (uint64_t)b.at[at + i] << (8 * i);
	return value;
}

bool state_open(struct bytes state, uint32_t recipient_count, struct state_cursor *cursor)
{
	size_t done_size = ((size_t)recipient_count + 7) / 8;

	if (state.n < 1 + 4 + done_size + 4 || state.at[0] != STATE_VERSION ||
		get(state, 1, 4) != recipient_count)
		return false;
	cursor->done = bytes_of(state.at + 5, done_size);
	cursor->items_left = (uint32_t)get(state, 5 + done_size, 4);
	cursor->rest = bytes_skip(state, 5 + done_size + 4);
	return true;
}

bool state_next_item(struct state_cursor *cursor, struct state_item *item)
{
	if (cursor->items_left == 0 || cursor->rest.n < 4)
		return false;
	uint64_t size = get(cursor->rest, 0, 4);
	struct bytes b = bytes_first(bytes_skip(cursor->rest, 4), size);
	if (b.n < size || size < ITEM_HEAD || get(b, 29, 4) > (size - ITEM_HEAD) / 4)
		return false;
	*item = (struct state_item){
		.is_held = b.at[0] & STATE_HELD,
		.is_warned = b.at[0] & STATE_WARNED,
		.tries = (uint32_t)get(b, 1, 4),
		.first_try_us = get(b, 5, 8),
		.last_try_us = get(b, 13, 8),
		.next_try_us = get(b, 21, 8),
		.count = (uint32_t)get(b, 29, 4),
	};
	b = bytes_skip(b, ITEM_HEAD);
	item->numbers = bytes_first(b, 4 * (size_t)item->count);
	item->reasons = bytes_skip(b, 4 * (size_t)item->count);
	cursor->items_left--;
	cursor->rest = bytes_skip(cursor->rest, 4 + size);
	return true;
}

uint32_t state_number(const struct state_item *item, uint32_t at)
{
	return (uint32_t)get(item->numbers, 4 * (size_t)at, 4);
}

bool state_next_reason(struct state_item *item, uint32_t *run, struct reason **reason)
{
	struct bytes b = item->reasons;
	struct smtp_reply reply = {0};

	if (b.n < REASON_HEAD)
		return false;
	size_t text_n = get(b, 12, 2), remote_n = get(b, 14, 2);
	if (b.n - REASON_HEAD < text_n + remote_n)
		return false;
	*run = (uint32_t)get(b, 0, 4);
	reply.code = (uint16_t)get(b, 4, 2);
	memcpy(reply.enhanced, b.at + 6, 3);
	reply.detail = (uint16_t)get(b, 9, 2);
	reply.is_ours = b.at[11] != 0;
	bytes_to_string(bytes_of(b.at + REASON_HEAD, text_n), reply.text, sizeof reply.text);
	*reason = reply.code == 0
			  ? NULL
			  : reason_make(&reply, bytes_of(b.at + REASON_HEAD + text_n, remote_n));
	item->reasons = bytes_skip(b, REASON_HEAD + text_n + remote_n);
	return true;
}
