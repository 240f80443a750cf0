// SPDX-License-Identifier: Apache-2.0
#include "base/stream.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct stream_pool {
	size_t block_bytes;
	size_t free_count;
	uint8_t *memory;
	uint8_t **free_blocks; /* a stack of free_count blocks */
};

struct stream_pool *stream_pool_create(size_t block_bytes, size_t count)
{
	struct stream_pool *pool = calloc(1, sizeof *pool);
	if (pool == NULL)
		return NULL;
	pool->block_bytes = block_bytes;
	pool->memory = malloc(block_bytes * count);
	pool->free_blocks = calloc(count, sizeof *pool->free_blocks);
	if (pool->memory == NULL || pool->free_blocks == NULL) {
		stream_pool_destroy(pool);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		pool->free_blocks[i] = pool->memory + (count - 1 - i) * block_bytes;
	pool->free_count = count;
	return pool;
}

void stream_pool_destroy(struct stream_pool *pool)
{
	if (pool == NULL)
		return;
	free(pool->memory);
	free(pool->free_blocks);
	free(pool);
}

size_t stream_pool_free_count(const struct stream_pool *pool)
{
	return pool->free_count;
}

size_t stream_pool_block_bytes(const struct stream_pool *pool)
{
	return pool->block_bytes;
}

void stream_init(struct stream *s, struct stream_pool *pool)
{
	*s = (struct stream){.pool = pool};
}

void stream_reset(struct stream *s)
{
	if (s->block != NULL)
		s->pool->free_blocks[s->pool->free_count++] = s->block;
	s->block = NULL;
	s->head = s->tail = 0;
}

size_t stream_space(const struct stream *s)
{
	if (s->block == NULL && s->pool->free_count == 0)
		return 0;
	return s->pool->block_bytes - stream_length(s);
}

uint8_t *stream_reserve(struct stream *s, size_t n, size_t *room)
{
	if (stream_space(s) < n)
		return NULL;
	if (s->block == NULL) {
		if (s->pool->free_count == 0)
			return NULL;
		s->block = s->pool->free_blocks[--s->pool->free_count];
	}
	if (s->pool->block_bytes - s->tail < n) {
		memmove(s->block, s->block + s->head, stream_length(s));
		s->tail -= s->head;
		s->head = 0;
	}
	*room = s->pool->block_bytes - s->tail;
	return s->block + s->tail;
}

void stream_commit(struct stream *s, size_t n)
{
	assert(n == 0 || (s->block != NULL && n <= s->pool->block_bytes - s->tail));
	s->tail += (uint32_t)n;
	if (s->head == s->tail)
		stream_reset(s);
}

bool stream_write(struct stream *s, struct bytes b)
{
	size_t room;
	if (b.n == 0)
		return true;
	uint8_t *to = stream_reserve(s, b.n, &room);
	if (to == NULL)
		return false;
	memcpy(to, b.at, b.n);
	stream_commit(s, b.n);
	return true;
}

bool stream_printf(struct stream *s, const char *format, ...)
{
	char text[2048];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof text)
		return false;
	return stream_write(s, bytes_of(text, (size_t)n));
}

struct bytes stream_peek(const struct stream *s)
{
	if (s->block == NULL)
		return BYTES_NONE;
	return bytes_of(s->block + s->head, stream_length(s));
}

void stream_consume(struct stream *s, size_t n)
{
	assert(n <= stream_length(s));
	s->head += (uint32_t)n;
	if (s->head == s->tail)
		stream_reset(s);
}
