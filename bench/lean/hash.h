// SPDX-License-Identifier: Apache-2.0
/* bench/lean/hash.h: SHA-256 and SHA-384, HMAC and HKDF-Expand-Label, without a fetch or an
 * allocation.
 *
 * OpenSSL's low-level contexts are plain structs: a copy of one is a snapshot of a transcript, and
 * a pair of them a keyed HMAC that is used again and again. */
#pragma once

#include <openssl/sha.h>

#include "base/bytes.h"

#define LEAN_HASH_MAX 48 /* SHA-384 */

struct lean_hash {
	union {
		SHA256_CTX sha256;
		SHA512_CTX sha512;
	};
	bool is_sha384;
};

static inline size_t lean_hash_size(bool is_sha384)
{
	return is_sha384 ? 48 : 32;
}

void lean_hash_init(struct lean_hash *h, bool is_sha384);
void lean_hash_add(struct lean_hash *h, struct bytes b);
/* Of all that was added so far; more may be added. */
void lean_hash_peek(const struct lean_hash *h, uint8_t to[LEAN_HASH_MAX]);

/* HMAC (RFC 2104) with the key's two blocks hashed already. */
struct lean_mac {
	struct lean_hash inner, outer;
};

/* `key`: not longer than a block (64 or 128 bytes). */
void lean_mac_init(struct lean_mac *m, bool is_sha384, struct bytes key);
void lean_mac(const struct lean_mac *m, struct bytes message, uint8_t to[LEAN_HASH_MAX]);

/* HKDF-Expand-Label (RFC 8446 7.1) of the secret that keys `m`; `n`: at most a hash. */
void lean_expand(
	const struct lean_mac *m, const char *label, struct bytes context, uint8_t *to, size_t n);
/* The PRF of TLS 1.2 (RFC 5246 5); `seed` is label and seed in one. */
void lean_prf(const struct lean_mac *m, struct bytes seed, uint8_t *to, size_t n);
