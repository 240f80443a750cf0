// SPDX-License-Identifier: Apache-2.0
/* The SHA functions are called directly: through EVP each of the some twenty HMACs of a handshake
 * would cost several allocations. OpenSSL deprecates them in favour of EVP; a load generator may do
 * without that. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "bench/lean/hash.h"

#include <assert.h>

void lean_hash_init(struct lean_hash *h, bool is_sha384)
{
	h->is_sha384 = is_sha384;
	if (is_sha384)
		SHA384_Init(&h->sha512);
	else
		SHA256_Init(&h->sha256);
}

void lean_hash_add(struct lean_hash *h, struct bytes b)
{
	if (b.n == 0)
		return;
	if (h->is_sha384)
		SHA384_Update(&h->sha512, b.at, b.n);
	else
		SHA256_Update(&h->sha256, b.at, b.n);
}

static void finish(struct lean_hash *h, uint8_t to[LEAN_HASH_MAX])
{
	if (h->is_sha384)
		SHA384_Final(to, &h->sha512);
	else
		SHA256_Final(to, &h->sha256);
}

void lean_hash_peek(const struct lean_hash *h, uint8_t to[LEAN_HASH_MAX])
{
	struct lean_hash copy = *h;
	finish(&copy, to);
}

static void pad(struct lean_hash *h, bool is_sha384, struct bytes key, uint8_t with)
{
	uint8_t block[128];
	size_t n = is_sha384 ? 128 : 64;
	assert(key.n <= n);
	memset(block, with, n);
	for (size_t i = 0; i < key.n; i++)
		block[i] ^= key.at[i];
	lean_hash_init(h, is_sha384);
	lean_hash_add(h, bytes_of(block, n));
}

void lean_mac_init(struct lean_mac *m, bool is_sha384, struct bytes key)
{
	pad(&m->inner, is_sha384, key, 0x36);
	pad(&m->outer, is_sha384, key, 0x5c);
}

void lean_mac(const struct lean_mac *m, struct bytes message, uint8_t to[LEAN_HASH_MAX])
{
	struct lean_hash h = m->inner;
	uint8_t digest[LEAN_HASH_MAX];
	lean_hash_add(&h, message);
	finish(&h, digest);
	h = m->outer;
	lean_hash_add(&h, bytes_of(digest, lean_hash_size(h.is_sha384)));
	finish(&h, to);
}

void lean_expand(
	const struct lean_mac *m, const char *label, struct bytes context, uint8_t *to, size_t n)
{
	uint8_t info[4 + 6 + 16 + LEAN_HASH_MAX + 1], digest[LEAN_HASH_MAX], *at = info;
	size_t label_n = strlen(label);
	assert(label_n <= 16 && context.n <= LEAN_HASH_MAX &&
		n <= lean_hash_size(m->inner.is_sha384));
	*at++ = 0;
	*at++ = (uint8_t)n;
	*at++ = (uint8_t)(6 + label_n);
	memcpy(at, "tls13 ", 6);
	memcpy(at + 6, label, label_n);
	at += 6 + label_n;
	*at++ = (uint8_t)context.n;
	if (context.n != 0)
		memcpy(at, context.at, context.n);
	at += context.n;
	*at++ = 1; /* the first and only block (RFC 5869 2.3) */
	lean_mac(m, bytes_of(info, (size_t)(at - info)), digest);
	memcpy(to, digest, n);
}

void lean_prf(const struct lean_mac *m, struct bytes seed, uint8_t *to, size_t n)
{
	uint8_t block[LEAN_HASH_MAX + 128], digest[LEAN_HASH_MAX];
	size_t size = lean_hash_size(m->inner.is_sha384);
	assert(seed.n <= sizeof block - LEAN_HASH_MAX);
	memcpy(block + size, seed.at, seed.n);
	lean_mac(m, seed, block); /* A(1) */
	for (size_t done = 0; done < n;) {
		size_t part = n - done < size ? n - done : size;
		lean_mac(m, bytes_of(block, size + seed.n), digest);
		memcpy(to + done, digest, part);
		done += part;
		lean_mac(m, bytes_of(block, size), block);
	}
}
