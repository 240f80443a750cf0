// SPDX-License-Identifier: Apache-2.0
#include "relay/budget.h"
#include "base/clock.h"

#include <stdlib.h>
#include <sys/random.h>

/* 8192 buckets are 192 KiB a core: more clients than shake hands with it in the minute a bucket takes to fill. A client
 * has its place among the eight of its row. */
enum { ROWS = 1024, WAYS = 8 };

bool budget_init(struct budget *b, unsigned per_minute, unsigned burst)
{
	*b = (struct budget){0};
	if (per_minute == 0)
		return true;
	b->token_us = 60 * USEC_PER_SEC / per_minute;
	b->burst_us = burst * b->token_us;
	b->buckets = calloc(ROWS * WAYS, sizeof *b->buckets);
	/* Keyed, or a client could choose addresses that drive its own bucket out of its row. */
	return b->buckets != NULL && getrandom(&b->key, sizeof b->key, 0) == sizeof b->key;
}

void budget_fini(struct budget *b)
{
	free(b->buckets);
	*b = (struct budget){0};
}

static struct budget_bucket *row_of(const struct budget *b, const struct addr *client)
{
	return &b->buckets[addr_keyed_hash(client, b->key) % ROWS * WAYS];
}

/* NULL: not there, so it is full. */
static struct budget_bucket *find(const struct budget *b, const struct addr *client)
{
	struct budget_bucket *row = row_of(b, client);
	for (int i = 0; i < WAYS; i++)
		if (row[i].full_us != 0 && addr_equal(&row[i].client, client))
			return &row[i];
	return NULL;
}

static struct budget_bucket *make_room(struct budget *b, const struct addr *client, uint64_t now_us)
{
	struct budget_bucket *row = row_of(b, client), *fullest = row;
	for (int i = 1; i < WAYS; i++)
		if (row[i].full_us < fullest->full_us)
			fullest = &row[i];
	if (fullest->full_us > now_us)
		atomic_store_explicit(&b->forgotten, b->forgotten + 1, memory_order_relaxed);
	*fullest = (struct budget_bucket){.client = *client, .full_us = now_us};
	return fullest;
}

bool budget_has(const struct budget *b, const struct addr *addr, uint64_t now_us)
{
	if (b->token_us == 0)
		return true;
	struct addr client = addr_client(addr);
	const struct budget_bucket *bucket = find(b, &client);
	return bucket == NULL || bucket->full_us <= now_us || bucket->full_us - now_us <= b->burst_us - b->token_us;
}

void budget_take(struct budget *b, const struct addr *addr, unsigned tokens, uint64_t now_us)
{
	if (b->token_us == 0)
		return;
	struct addr client = addr_client(addr);
	struct budget_bucket *bucket = find(b, &client);
	if (bucket == NULL)
		bucket = make_room(b, &client, now_us);
	if (bucket->full_us < now_us)
		bucket->full_us = now_us;
	bucket->full_us += tokens * b->token_us;
}
