// SPDX-License-Identifier: Apache-2.0
#include "smtp/queue/table.h"

#include <stdlib.h>

static inline uint64_t rotate(uint64_t x, unsigned by)
{
	return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static uint64_t word(struct bytes b, bool is_nocase)
{
	uint64_t w = 0;

	for (size_t i = 0; i < 8 && i < b.n; i++)
		w |= (uint64_t)(is_nocase ? byte_lower(b.at[i]) : b.at[i]) << (8 * i);
	return w;
}

uint64_t hash_bytes(const struct hash_key *key, uint64_t seed, struct bytes b, bool is_nocase)
{
	uint64_t v[4] = {key->k0 ^ 0x736f6d6570736575 ^ seed, key->k1 ^ 0x646f72616e646f6d,
		key->k0 ^ 0x6c7967656e657261, key->k1 ^ 0x7465646279746573};
	struct bytes rest = b;

	for (;; rest = bytes_skip(rest, 8)) {
		uint64_t w = word(rest, is_nocase);
		if (rest.n < 8)
			w |= (uint64_t)b.n << 56;
		v[3] ^= w;
		sip_round(v);
		v[0] ^= w;
		if (rest.n < 8)
			break;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void grow(struct table *t)
{
	uint64_t bucket_count = t->bucket_count == 0 ? 64 : t->bucket_count * 2;
	struct table_link **buckets = calloc(bucket_count, sizeof(struct table_link *));

	if (buckets == NULL) {
		if (t->buckets == NULL)
			abort(); /* all is in the spool: a restart finds it again */
		return;		 /* longer chains */
	}
	for (uint64_t i = 0; i < t->bucket_count; i++) {
		for (struct table_link *l = t->buckets[i], *next; l != NULL; l = next) {
			next = l->next;
			l->next = buckets[l->hash & (bucket_count - 1)];
			buckets[l->hash & (bucket_count - 1)] = l;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->bucket_count = bucket_count;
}

void table_put(struct table *t, struct table_link *link, uint64_t hash)
{
	if (t->count >= t->bucket_count)
		grow(t);
	struct table_link **bucket = &t->buckets[hash & (t->bucket_count - 1)];
	link->hash = hash;
	link->next = *bucket;
	*bucket = link;
	t->count++;
}

void table_remove(struct table *t, struct table_link *link)
{
	struct table_link **at = &t->buckets[link->hash & (t->bucket_count - 1)];

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	t->count--;
}

struct table_link *table_find(const struct table *t, uint64_t hash)
{
	if (t->buckets == NULL)
		return NULL;
	struct table_link *l = t->buckets[hash & (t->bucket_count - 1)];
	while (l != NULL && l->hash != hash)
		l = l->next;
	return l;
}

struct table_link *table_find_next(const struct table_link *link)
{
	struct table_link *l = link->next;

	while (l != NULL && l->hash != link->hash)
		l = l->next;
	return l;
}

void table_fini(struct table *t)
{
	free(t->buckets);
	*t = (struct table){0};
}
