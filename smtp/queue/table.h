// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/table.h: a chained hash table of things that carry their own link, hashed with a key, since
 * senders and domains are chosen by strangers (SipHash-1-3: Aumasson, Bernstein 2012). */
#pragma once

#include "base/bytes.h"

struct table_link {
	struct table_link *next;
	uint64_t hash;
};

struct table {
	struct table_link **buckets; /* a power of two of them; NULL: empty */
	uint64_t count, bucket_count;
};

struct hash_key {
	uint64_t k0, k1;
};

/* Hashes `b`, ASCII letters without case if `is_nocase`, going on from `seed` (0 at first). */
uint64_t hash_bytes(const struct hash_key *key, uint64_t seed, struct bytes b, bool is_nocase);

void table_fini(struct table *t);
void table_put(struct table *t, struct table_link *link, uint64_t hash);
void table_remove(struct table *t, struct table_link *link);
/* The first entry with that hash, then the next: compare the rest yourself. NULL: no more. */
struct table_link *table_find(const struct table *t, uint64_t hash);
struct table_link *table_find_next(const struct table_link *link);
