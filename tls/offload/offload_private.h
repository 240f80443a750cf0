// SPDX-License-Identifier: Apache-2.0
/* tls/offload/offload_private.h: what the files of the offload share, and what its tests look into. */
#pragma once

#include "tls/offload/offload.h"

/* ---- keys ---- */
enum { TLS_RSA_WORDS_MAX = TLS_RSA_BYTES_MAX / 8 };

struct tls_rsa_key {
	_Atomic uint32_t references;
	EVP_PKEY *inner;
	OSSL_LIB_CTX *openssl;
	uint32_t bytes;
	/* For a batch: two primes of half the size, e = 65537, and a size that libcrypto-mb has. */
	bool is_batchable;
	uint8_t kind; /* enum tls_op_kind, if so */
	uint64_t n[TLS_RSA_WORDS_MAX];
	uint64_t p[TLS_RSA_WORDS_MAX / 2], q[TLS_RSA_WORDS_MAX / 2], dp[TLS_RSA_WORDS_MAX / 2],
		dq[TLS_RSA_WORDS_MAX / 2], iq[TLS_RSA_WORDS_MAX / 2]; /* little-endian words */
};

/* ---- OpenSSL's own, one at a time ---- */
bool tls_scalar_rsa(const struct tls_rsa_key *key, const uint8_t *in, uint8_t *out);
bool tls_scalar_x25519(OSSL_LIB_CTX *openssl, const uint8_t *secret, const uint8_t *peer, uint8_t *shared);
bool tls_scalar_x25519_key(OSSL_LIB_CTX *openssl, uint8_t *secret, uint8_t *public);

/* ---- libcrypto-mb ---- */
/* A text why it cannot be used here; NULL: it can. */
const char *tls_mb_unusable(void);
/* For tests: as on a processor without AVX512-IFMA, from now on. */
void tls_mb_forbid(bool is_forbidden);
/* From how many ops of a kind on a batch costs less than doing them one by one. */
uint32_t tls_mb_least(enum tls_op_kind kind);
/* Does up to 8 ops of one kind; `has_worked` tells of each. Those of RSA are checked. */
void tls_mb_run(enum tls_op_kind kind, struct tls_op *const *ops, uint32_t count);
/* Public keys of eight secrets. */
bool tls_mb_x25519_keys(const uint8_t secrets[TLS_LANES][TLS_X25519_BYTES],
	uint8_t publics[TLS_LANES][TLS_X25519_BYTES]);
