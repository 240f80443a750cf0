// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_table.c: 4-tuple -> connection, half-open connection or TIME-WAIT record.
 *
 * One line of the table and then the first line of the connection are all that a look-up touches. The hash is
 * keyed, so that a peer cannot aim at one bucket. The size is taken at start for all there can ever be, at
 * four of seven entries a bucket, so nothing is ever moved. */
#include "dataplane/tcp/tcp_private.h"

#include "dataplane/tcp/tcp_hash.h"

bool tcp_table_init(struct tcp_table *t, uint32_t entries)
{
	uint32_t buckets = 16;
	while (buckets < entries / 4 + 1)
		buckets *= 2;
	t->mask = buckets - 1;
	t->buckets = tcp_memory_take(buckets, sizeof *t->buckets);
	return t->buckets != NULL;
}

void tcp_table_fini(struct tcp_table *t)
{
	tcp_memory_give(t->buckets, t->mask + 1, sizeof *t->buckets);
	t->buckets = NULL;
}

uint64_t tcp_tuple_hash(const struct tcp_stack *s, const struct tcp_tuple *tuple)
{
	uint64_t words[5] = {0};
	memcpy(words, tuple, sizeof *tuple);
	return siphash(s->config.secret, words, 5, 1, 3);
}

static const struct tcp_tuple *tuple_of(const struct tcp_stack *s, tcp_ref ref)
{
	switch (tcp_ref_kind(ref)) {
	case TCP_CONN: return &s->conns[tcp_ref_slot(ref)].tuple;
	case TCP_HALF_OPEN: return &s->half_opens[tcp_ref_slot(ref)].tuple;
	default: return &s->time_waits[tcp_ref_slot(ref)].tuple;
	}
}

tcp_ref tcp_table_find(const struct tcp_stack *s, const struct tcp_tuple *tuple, uint64_t hash)
{
	const struct tcp_table *t = &s->table;
	const uint32_t tag = (uint32_t)(hash >> 32);
	for (uint32_t at = (uint32_t)hash & t->mask;; at = (at + 1) & t->mask) {
		const struct tcp_bucket *b = &t->buckets[at];
		for (unsigned i = 0; i < 7; i++)
			if (b->tags[i] == tag && b->refs[i] != 0 &&
				memcmp(tuple_of(s, b->refs[i]), tuple, sizeof *tuple) == 0)
				return b->refs[i];
		if (b->overflow == 0)
			return 0;
	}
}

void tcp_table_insert(struct tcp_stack *s, uint64_t hash, tcp_ref ref)
{
	struct tcp_table *t = &s->table;
	for (uint32_t at = (uint32_t)hash & t->mask;; at = (at + 1) & t->mask) {
		struct tcp_bucket *b = &t->buckets[at];
		for (unsigned i = 0; i < 7; i++)
			if (b->refs[i] == 0) {
				b->tags[i] = (uint32_t)(hash >> 32);
				b->refs[i] = ref;
				return;
			}
		b->overflow++;
	}
}

void tcp_table_remove(struct tcp_stack *s, uint32_t hash, tcp_ref ref)
{
	struct tcp_table *t = &s->table;
	for (uint32_t at = hash & t->mask;; at = (at + 1) & t->mask) {
		struct tcp_bucket *b = &t->buckets[at];
		for (unsigned i = 0; i < 7; i++)
			if (b->refs[i] == ref) {
				b->refs[i] = 0;
				return;
			}
		assert(b->overflow != 0);
		b->overflow--;
	}
}
