// SPDX-License-Identifier: Apache-2.0
/* tls/provider/hmac.h: HMAC (RFC 2104) over the digests of TLS 1.3's cipher suites, in place: no context on
 * the heap, nothing looked up by name. */
#pragma once

#include "base/bytes.h"

/* The functions are the ones under OpenSSL's EVP, with the processor's instructions; "deprecated" is that they
 * cannot be replaced by a provider, which is what we are. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

enum {
	HMAC_DIGEST_BYTES_MAX = SHA384_DIGEST_LENGTH,
	HMAC_BLOCK_BYTES_MAX = SHA512_CBLOCK,
};

struct hmac_digest;
extern const struct hmac_digest hmac_sha256, hmac_sha384;

/* By any of OpenSSL's names for it; NULL: another digest. */
const struct hmac_digest *hmac_digest_find(const char *name);
size_t hmac_digest_bytes(const struct hmac_digest *digest);
size_t hmac_digest_block_bytes(const struct hmac_digest *digest);
/* OpenSSL's first name for it. */
const char *hmac_digest_name(const struct hmac_digest *digest);
/* The digest of no bytes at all. */
struct bytes hmac_digest_of_nothing(const struct hmac_digest *digest);

union hmac_state {
	SHA256_CTX sha256;
	SHA512_CTX sha512; /* SHA-384's too */
};

struct hmac {
	const struct hmac_digest *digest;
	union hmac_state inner, outer;
};

void hmac_init(struct hmac *h, const struct hmac_digest *digest, struct bytes key);
void hmac_update(struct hmac *h, struct bytes in);
/* Writes hmac_digest_bytes() to `to` and cleanses `h`. */
void hmac_final(struct hmac *h, uint8_t *to);
