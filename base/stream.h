// SPDX-License-Identifier: Apache-2.0
/* base/stream.h: a bounded byte stream between a writer and a reader on one thread.
 *
 * Bytes are written at the tail (reserve, commit) and read at the head (peek, consume). The block it
 * keeps them in comes from a pool when the first byte is written and goes back when the last is read,
 * so that an idle connection holds no buffer. One thread only; nothing here allocates but the pool's
 * making. */
#pragma once

#include "base/bytes.h"

struct stream_pool;

/* Makes a pool of `count` blocks of `block_bytes` each, taken from the heap at once. NULL: no memory.
 * Start-up only. */
struct stream_pool *stream_pool_create(size_t block_bytes, size_t count);
/* Frees the pool; every stream on it must be empty or reset. */
void stream_pool_destroy(struct stream_pool *pool);
/* Blocks not in use. */
size_t stream_pool_free_count(const struct stream_pool *pool);
/* The size of one block: the most a stream on this pool can hold. */
size_t stream_pool_block_bytes(const struct stream_pool *pool);

struct stream {
	struct stream_pool *pool;
	uint8_t *block; /* NULL while empty */
	uint32_t head;  /* first unread byte */
	uint32_t tail;  /* first unwritten byte */
};

/* Makes an empty stream on `pool`, which must outlive it. */
void stream_init(struct stream *s, struct stream_pool *pool);
/* Forgets what it holds and gives its block back. */
void stream_reset(struct stream *s);

static inline size_t stream_length(const struct stream *s)
{
	return s->tail - s->head;
}

/* How many bytes can still be written; 0 also when the pool has no block left. */
size_t stream_space(const struct stream *s);
/* A writable range of at least `n` bytes at the tail, `*room` its size; NULL if there is not so much
 * room or no block. Valid until the next call on this stream. */
uint8_t *stream_reserve(struct stream *s, size_t n, size_t *room);
/* Makes the first `n` bytes of the reserved range part of the stream. */
void stream_commit(struct stream *s, size_t n);
/* Writes all of `b`, or nothing and returns false. */
bool stream_write(struct stream *s, struct bytes b);
/* Writes text as snprintf does, or nothing and returns false. For our own formats only: a peer's
 * bytes are arguments, never the format. */
bool stream_printf(struct stream *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What there is to read, in one range; valid until the next call on this stream. */
struct bytes stream_peek(const struct stream *s);
/* Takes `n` bytes off the head; `n` at most stream_length(). */
void stream_consume(struct stream *s, size_t n);
