// SPDX-License-Identifier: Apache-2.0
/* tls/offload/key.c: RSA keys, and what OpenSSL does one at a time. */
#include "tls/offload/offload_private.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdlib.h>

/* Only the default provider's, or our own would call itself. */
#define OPENSSLS_OWN "provider=default"

/* ---- keys ---- */

static bool words_of(const EVP_PKEY *key, const char *name, uint64_t *to, size_t bytes)
{
	BIGNUM *number = NULL;
	bool is_there = EVP_PKEY_get_bn_param(key, name, &number) == 1 &&
		BN_bn2lebinpad(number, (unsigned char *)to, (int)bytes) == (int)bytes;
	BN_clear_free(number);
	return is_there;
}

static bool has_usual_exponent(const EVP_PKEY *key)
{
	BIGNUM *e = NULL;
	bool is_usual = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 &&
		BN_is_word(e, RSA_F4);
	BN_free(e);
	return is_usual;
}

/* Has it more primes than two (RFC 8017 3.2)? */
static bool has_third_prime(const EVP_PKEY *key)
{
	BIGNUM *prime = NULL;
	bool has = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_FACTOR3, &prime) == 1;
	BN_clear_free(prime);
	return has;
}

static bool kind_of_bits(int bits, uint8_t *kind)
{
	switch (bits) {
	case 2048: *kind = TLS_OP_RSA_2048; return true;
	case 3072: *kind = TLS_OP_RSA_3072; return true;
	case 4096: *kind = TLS_OP_RSA_4096; return true;
	default: return false;
	}
}

static bool read_numbers(struct tls_rsa_key *made, const EVP_PKEY *key)
{
	size_t half = made->bytes / 2;
	return kind_of_bits(EVP_PKEY_get_bits(key), &made->kind) && has_usual_exponent(key) &&
		!has_third_prime(key) &&
		words_of(key, OSSL_PKEY_PARAM_RSA_N, made->n, made->bytes) &&
		words_of(key, OSSL_PKEY_PARAM_RSA_FACTOR1, made->p, half) &&
		words_of(key, OSSL_PKEY_PARAM_RSA_FACTOR2, made->q, half) &&
		words_of(key, OSSL_PKEY_PARAM_RSA_EXPONENT1, made->dp, half) &&
		words_of(key, OSSL_PKEY_PARAM_RSA_EXPONENT2, made->dq, half) &&
		words_of(key, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, made->iq, half);
}

static bool is_key_pair(const EVP_PKEY *key)
{
	BIGNUM *d = NULL;
	bool is_pair = EVP_PKEY_is_a(key, "RSA") &&
		EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_D, &d) == 1;
	BN_clear_free(d);
	return is_pair;
}

struct tls_rsa_key *tls_rsa_key_create(OSSL_LIB_CTX *openssl, EVP_PKEY *key)
{
	struct tls_rsa_key *made = is_key_pair(key) ? calloc(1, sizeof *made) : NULL;
	if (made == NULL) {
		ERR_clear_error();
		return NULL;
	}
	made->references = 1;
	made->openssl = openssl;
	made->inner = key;
	EVP_PKEY_up_ref(key);
	made->bytes = (uint32_t)EVP_PKEY_get_size(key);
	made->is_batchable = read_numbers(made, key);
	ERR_clear_error(); /* of numbers that are not there */
	return made;
}

struct tls_rsa_key *tls_rsa_key_get(struct tls_rsa_key *key)
{
	key->references++;
	return key;
}

void tls_rsa_key_put(struct tls_rsa_key *key)
{
	if (key == NULL || --key->references != 0)
		return;
	EVP_PKEY_free(key->inner);
	OPENSSL_cleanse(key, sizeof *key);
	free(key);
}

EVP_PKEY *tls_rsa_key_inner(const struct tls_rsa_key *key)
{
	return key->inner;
}

uint32_t tls_rsa_key_bytes(const struct tls_rsa_key *key)
{
	return key->bytes;
}

/* ---- one at a time ---- */

bool tls_scalar_rsa(const struct tls_rsa_key *key, const uint8_t *in, uint8_t *out)
{
	size_t n = key->bytes;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(key->openssl, key->inner, OPENSSLS_OWN);
	bool has_worked = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 &&
		EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) == 1 &&
		EVP_PKEY_sign(ctx, out, &n, in, n) == 1 && n == key->bytes;
	EVP_PKEY_CTX_free(ctx);
	return has_worked;
}

/* `secret` NULL: a public key. With a secret the public key is not looked at, and OpenSSL would compute it. */
static EVP_PKEY *x25519_from(OSSL_LIB_CTX *openssl, const uint8_t *secret, const uint8_t *public)
{
	static const uint8_t unused[TLS_X25519_BYTES];
	EVP_PKEY *key = NULL;
	OSSL_PARAM numbers[] = {
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY,
			(void *)(secret == NULL ? public : unused), TLS_X25519_BYTES),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, (void *)secret, TLS_X25519_BYTES),
		OSSL_PARAM_END,
	};
	if (secret == NULL)
		numbers[1] = OSSL_PARAM_construct_end();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(openssl, "X25519", OPENSSLS_OWN);
	if (ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
		EVP_PKEY_fromdata(ctx, &key, secret == NULL ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR,
			numbers);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

bool tls_scalar_x25519(
	OSSL_LIB_CTX *openssl, const uint8_t *secret, const uint8_t *peer, uint8_t *shared)
{
	EVP_PKEY *ours = x25519_from(openssl, secret, NULL);
	EVP_PKEY *theirs = x25519_from(openssl, NULL, peer);
	EVP_PKEY_CTX *ctx = ours == NULL || theirs == NULL
		? NULL
		: EVP_PKEY_CTX_new_from_pkey(openssl, ours, OPENSSLS_OWN);
	size_t n = TLS_X25519_BYTES;
	bool has_worked = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
		EVP_PKEY_derive_set_peer_ex(ctx, theirs, 0) == 1 &&
		EVP_PKEY_derive(ctx, shared, &n) == 1;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(ours);
	EVP_PKEY_free(theirs);
	return has_worked;
}

bool tls_scalar_x25519_key(OSSL_LIB_CTX *openssl, uint8_t *secret, uint8_t *public)
{
	size_t secret_n = TLS_X25519_BYTES, public_n = TLS_X25519_BYTES;
	EVP_PKEY *key = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(openssl, "X25519", OPENSSLS_OWN);
	bool has_worked = ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 &&
		EVP_PKEY_generate(ctx, &key) == 1 &&
		EVP_PKEY_get_raw_private_key(key, secret, &secret_n) == 1 &&
		EVP_PKEY_get_raw_public_key(key, public, &public_n) == 1;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(key);
	return has_worked;
}
