// SPDX-License-Identifier: Apache-2.0
/* Fuzzes recovery: a mail with some recipients, and any bytes as its state. No recipient that the state does not
 * mark as done may be forgotten, or be there twice. */
#include "smtp/queue/queue_private.h"

#include <stdlib.h>

enum { RECIPIENTS = 9 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A little envelope, by hand: the fuzzer is about the state. */
static size_t put_field(uint8_t *to, enum envelope_field field, struct bytes value)
{
	to[0] = (uint8_t)field;
	to[1] = (uint8_t)value.n;
	to[2] = 0;
	memcpy(to + 3, value.at, value.n);
	return 3 + value.n;
}

static size_t make_envelope(uint8_t *to)
{
	size_t n = 5;
	char address[] = "0@a.test";

	n += put_field(to + n, ENVELOPE_SENDER, BYTES_LITERAL("s@s.test"));
	for (unsigned i = 0; i < RECIPIENTS; i++) {
		address[0] = (char)('0' + i);
		address[2] = (char)('a' + i / 3);
		n += put_field(to + n, ENVELOPE_RECIPIENT, bytes_of_string(address));
	}
	memcpy(to, (uint8_t[]){(uint8_t)n, (uint8_t)(n >> 8), 0, 0, ENVELOPE_VERSION}, 5);
	return n;
}

/* Every recipient is done, or in one item. */
static void check(struct queue *q)
{
	struct queued_mail *m = mail_after(q, 0);
	unsigned seen[RECIPIENTS] = {0};

	if (m == NULL || m->recipient_count != RECIPIENTS)
		abort();
	for (struct link *l = m->items.next; l != &m->items; l = l->next) {
		struct item *i = LINK_OF(l, struct item, of_mail);
		for (uint32_t at = 0; at < i->count; at++)
			seen[item_numbers(i)[at]]++;
	}
	for (uint32_t n = 0; n < RECIPIENTS; n++)
		if (seen[n] + mail_is_done(m, n) != 1)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct queue *q = queue_create(&(struct queue_config){.hostname = "relay.example.test"});
	struct queue_effect effect;
	uint8_t envelope[512];
	size_t envelope_size = make_envelope(envelope);

	queue_recover(q, &(struct spool_found){.id = 7, .size = 1000, .envelope_size = (uint32_t)envelope_size,
		.envelope = bytes_of(envelope, envelope_size), .state = bytes_of(data, size)}, 1000);
	check(q);
	struct bytes again = state_encode(q, mail_after(q, 0));
	struct state_cursor cursor;
	if (!state_open(again, RECIPIENTS, &cursor))
		abort();
	for (unsigned n = 0; n < 100 && queue_next_effect(q, &effect);)
		n++;
	queue_destroy(q);
	return 0;
}
