// SPDX-License-Identifier: Apache-2.0
/* base/bytes.h: a range of bytes that belongs to somebody else. Never a lone pointer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* `n` readable bytes at `at`. `at` may be NULL only when `n` is 0. The range is borrowed: whoever
 * hands it out says how long it stays valid. */
struct bytes {
	const uint8_t *at;
	size_t n;
};

#define BYTES_NONE ((struct bytes){NULL, 0})

/* A range over a string literal or array, its terminating NUL left out. */
#define BYTES_LITERAL(s) ((struct bytes){(const uint8_t *)("" s), sizeof(s) - 1})

static inline struct bytes bytes_of(const void *at, size_t n)
{
	return (struct bytes){at, n};
}

static inline struct bytes bytes_of_string(const char *s)
{
	return (struct bytes){(const uint8_t *)s, strlen(s)};
}

/* Drops the first `n` bytes (all of them, if there are fewer). */
static inline struct bytes bytes_skip(struct bytes b, size_t n)
{
	if (n >= b.n)
		return (struct bytes){b.at == NULL ? NULL : b.at + b.n, 0};
	return (struct bytes){b.at + n, b.n - n};
}

/* Keeps the first `n` bytes (all of them, if there are fewer). */
static inline struct bytes bytes_first(struct bytes b, size_t n)
{
	return (struct bytes){b.at, n < b.n ? n : b.n};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.at, b.at, a.n) == 0);
}

static inline uint8_t byte_lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* Equal but for the case of ASCII letters; other bytes must match (RFC 5321 2.4: verbs, domains). */
static inline bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (byte_lower(a.at[i]) != byte_lower(b.at[i]))
			return false;
	return true;
}

/* The place of the first `c`, or `b.n` if there is none. */
static inline size_t bytes_find(struct bytes b, uint8_t c)
{
	const uint8_t *p = b.n == 0 ? NULL : memchr(b.at, c, b.n);
	return p == NULL ? b.n : (size_t)(p - b.at);
}

/* Copies into a NUL-terminated string of `size` bytes, cut where it does not fit; returns false if
 * it was cut. Bytes of 0 are copied as they are. */
static inline bool bytes_to_string(struct bytes b, char *to, size_t size)
{
	size_t n = b.n < size - 1 ? b.n : size - 1;
	if (n != 0)
		memcpy(to, b.at, n);
	to[n] = '\0';
	return n == b.n;
}
