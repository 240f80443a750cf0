// SPDX-License-Identifier: Apache-2.0
#include "tls/offload/offload.h"
#include "tls/provider/provider.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static OSSL_LIB_CTX *openssl;
static OSSL_PROVIDER *openssls_own, *ours;
static struct tls_offload *offload;

static const char *const digests[] = {"SHA1", "SHA256", "SHA384", "SHA512", "SHA2-256", "MD5-SHA1"};
enum { DIGESTS = sizeof digests / sizeof digests[0], SIGNATURE_MAX = 1024, TEXT_BYTES = 300 };

static uint8_t text[TEXT_BYTES];

/* `properties`: TLS_PROVIDER_OFFLOAD for us, "provider=default" for OpenSSL. 0: refused. */
static size_t sign(EVP_PKEY *key, const char *digest, int padding, const char *properties,
	uint8_t signature[SIGNATURE_MAX])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *of_key;
	size_t n = SIGNATURE_MAX;
	bool is_done = EVP_DigestSignInit_ex(
			       ctx, &of_key, digest, openssl, properties, key, NULL) == 1 &&
		EVP_PKEY_CTX_set_rsa_padding(of_key, padding) > 0 &&
		(padding != RSA_PKCS1_PSS_PADDING ||
			EVP_PKEY_CTX_set_rsa_pss_saltlen(of_key, RSA_PSS_SALTLEN_DIGEST) > 0) &&
		EVP_DigestSign(ctx, signature, &n, text, sizeof text) == 1;
	EVP_MD_CTX_free(ctx);
	return is_done ? n : 0;
}

static bool is_ours(EVP_PKEY *key)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *of_key;
	assert_int_equal(EVP_DigestSignInit_ex(
				 ctx, &of_key, "SHA256", openssl, TLS_PROVIDER_OFFLOAD, key, NULL),
		1);
	bool is = EVP_PKEY_CTX_get0_provider(of_key) == ours;
	EVP_MD_CTX_free(ctx);
	return is;
}

static bool verifies(EVP_PKEY *key, const char *digest, int padding, const uint8_t *signature, size_t n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *of_key;
	bool is_good = EVP_DigestVerifyInit_ex(
			       ctx, &of_key, digest, openssl, "provider=default", key, NULL) == 1 &&
		EVP_PKEY_CTX_set_rsa_padding(of_key, padding) > 0 &&
		(padding != RSA_PKCS1_PSS_PADDING ||
			EVP_PKEY_CTX_set_rsa_pss_saltlen(of_key, RSA_PSS_SALTLEN_DIGEST) > 0) &&
		EVP_DigestVerify(ctx, signature, n, text, sizeof text) == 1;
	EVP_MD_CTX_free(ctx);
	return is_good;
}

/* Sizes whose encoded message is as long as the modulus, and a byte shorter. */
static const unsigned sizes[] = {2048, 2049, 3072, 4096};
enum { SIZES = sizeof sizes / sizeof sizes[0] };
static EVP_PKEY *keys[SIZES];

static void pkcs1_signatures_are_openssls_byte_for_byte(void **state)
{
	uint8_t mine[SIGNATURE_MAX], theirs[SIGNATURE_MAX];
	for (int k = 0; k < SIZES; k++)
		for (int d = 0; d < DIGESTS; d++) {
			size_t n = sign(keys[k], digests[d], RSA_PKCS1_PADDING, TLS_PROVIDER_OFFLOAD, mine);
			assert_int_equal(n, EVP_PKEY_get_size(keys[k]));
			assert_int_equal(sign(keys[k], digests[d], RSA_PKCS1_PADDING,
						 "provider=default", theirs), n);
			assert_memory_equal(mine, theirs, n);
		}
}

static void pss_signatures_are_verified_by_openssl(void **state)
{
	uint8_t one[SIGNATURE_MAX], other[SIGNATURE_MAX];
	for (int k = 0; k < SIZES; k++)
		for (int d = 0; d < DIGESTS - 1; d++) {
			size_t n = sign(keys[k], digests[d], RSA_PKCS1_PSS_PADDING, TLS_PROVIDER_OFFLOAD, one);
			assert_int_equal(n, EVP_PKEY_get_size(keys[k]));
			assert_true(verifies(keys[k], digests[d], RSA_PKCS1_PSS_PADDING, one, n));
			assert_false(verifies(keys[k], digests[d], RSA_PKCS1_PADDING, one, n));
			assert_int_equal(sign(keys[k], digests[d], RSA_PKCS1_PSS_PADDING,
						 TLS_PROVIDER_OFFLOAD, other), n);
			assert_memory_not_equal(one, other, n); /* a salt of its own each time */
		}
}

static void assert_provider(const char *algorithm, const char *properties, OSSL_PROVIDER *expected)
{
	EVP_KEYMGMT *of_keys = EVP_KEYMGMT_fetch(openssl, algorithm, properties);
	assert_non_null(of_keys);
	assert_ptr_equal(EVP_KEYMGMT_get0_provider(of_keys), expected);
	EVP_KEYMGMT_free(of_keys);
}

static void keys_are_whose_the_query_prefers(void **state)
{
	static const char *const queries[] = {TLS_PROVIDER_OFFLOAD, TLS_PROVIDER_OFFLOAD_CLIENT};
	for (int i = 0; i < 2; i++) {
		assert_provider("RSA", queries[i], openssls_own);
		assert_provider("X25519", queries[i], ours);
		assert_provider("X25519MLKEM768", queries[i], ours);
		assert_provider("EC", queries[i], openssls_own);
	}
	assert_provider("RSA", NULL, openssls_own);
	assert_provider("X25519", NULL, openssls_own);
	assert_provider("X25519MLKEM768", NULL, openssls_own);
}

/* As a client does with a server's: by the context's query. */
static void a_peers_signature_is_verified(const char *query)
{
	uint8_t signature[SIGNATURE_MAX];
	size_t n = sign(keys[0], "SHA256", RSA_PKCS1_PADDING, TLS_PROVIDER_OFFLOAD, signature);
	unsigned char *der = NULL;
	int der_n = i2d_PUBKEY(keys[0], &der);
	const unsigned char *at = der;
	EVP_PKEY *public = d2i_PUBKEY_ex(NULL, &at, der_n, openssl, query);
	assert_non_null(public);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	assert_int_equal(EVP_DigestVerifyInit_ex(ctx, NULL, "SHA256", openssl, query, public, NULL), 1);
	assert_int_equal(EVP_DigestVerify(ctx, signature, n, text, sizeof text), 1);
	signature[n / 2] ^= 1;
	assert_int_not_equal(EVP_DigestVerify(ctx, signature, n, text, sizeof text), 1);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(public);
	OPENSSL_free(der);
}

static void signing_is_ours_also_after_peers_were_verified(void **state)
{
	assert_true(is_ours(keys[0]));
	a_peers_signature_is_verified(TLS_PROVIDER_OFFLOAD_CLIENT);
	a_peers_signature_is_verified(TLS_PROVIDER_OFFLOAD);
	assert_true(is_ours(keys[1]));
}

static void what_tls_does_not_know_is_refused(void **state)
{
	uint8_t signature[SIGNATURE_MAX];
	assert_int_equal(sign(keys[0], "SHA3-256", RSA_PKCS1_PADDING, TLS_PROVIDER_OFFLOAD, signature), 0);
	assert_int_equal(sign(keys[0], "SHA256", RSA_NO_PADDING, TLS_PROVIDER_OFFLOAD, signature), 0);
	assert_int_equal(sign(keys[0], "SHA256", RSA_X931_PADDING, TLS_PROVIDER_OFFLOAD, signature), 0);
}

/* ---- X25519 and the hybrid, each against OpenSSL's ---- */

static EVP_PKEY *generate(const char *algorithm, const char *properties)
{
	EVP_PKEY *key = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(openssl, algorithm, properties);
	assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
	assert_int_equal(EVP_PKEY_generate(ctx, &key), 1);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

/* What the other side makes of `key`: only its share. */
static EVP_PKEY *share_of(EVP_PKEY *key, const char *algorithm, const char *properties)
{
	unsigned char *share = NULL;
	size_t n = EVP_PKEY_get1_encoded_public_key(key, &share);
	EVP_PKEY *made = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(openssl, algorithm, properties);
	assert_int_equal(EVP_PKEY_paramgen_init(ctx), 1);
	assert_int_equal(EVP_PKEY_paramgen(ctx, &made), 1);
	assert_int_equal(EVP_PKEY_set1_encoded_public_key(made, share, n - 1), 0);
	assert_int_equal(EVP_PKEY_set1_encoded_public_key(made, share, n), 1);
	EVP_PKEY_CTX_free(ctx);
	OPENSSL_free(share);
	return made;
}

static void derive(EVP_PKEY *key, EVP_PKEY *peer, const char *properties, uint8_t secret[32])
{
	size_t n = 32;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(openssl, key, properties);
	assert_int_equal(EVP_PKEY_derive_init(ctx), 1);
	assert_int_equal(EVP_PKEY_derive_set_peer(ctx, peer), 1);
	assert_int_equal(EVP_PKEY_derive(ctx, secret, &n), 1);
	assert_int_equal(n, 32);
	EVP_PKEY_CTX_free(ctx);
}

#define OURS   "provider=hikyaku"
#define THEIRS "provider=default"

static void x25519_agrees_with_openssls(void **state)
{
	uint8_t a[32], b[32];
	EVP_PKEY *mine = generate("X25519", OURS), *theirs = generate("X25519", THEIRS);
	EVP_PKEY *my_share = share_of(mine, "X25519", THEIRS), *their_share = share_of(theirs, "X25519", OURS);
	derive(mine, their_share, OURS, a);
	derive(theirs, my_share, THEIRS, b);
	assert_memory_equal(a, b, 32);
	EVP_PKEY *const all[] = {mine, theirs, my_share, their_share};
	for (int i = 0; i < 4; i++)
		EVP_PKEY_free(all[i]);
}

static void check_hybrid(const char *client, const char *server)
{
	uint8_t wrapped[1200], a[64], b[64];
	size_t wrapped_n = sizeof wrapped, a_n = sizeof a, b_n = sizeof b;
	EVP_PKEY *key = generate("X25519MLKEM768", client), *share = share_of(key, "X25519MLKEM768", server);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(openssl, share, server);
	assert_int_equal(EVP_PKEY_encapsulate_init(ctx, NULL), 1);
	assert_int_equal(EVP_PKEY_encapsulate(ctx, wrapped, &wrapped_n, a, &a_n), 1);
	EVP_PKEY_CTX_free(ctx);
	assert_int_equal(wrapped_n, 1120);
	ctx = EVP_PKEY_CTX_new_from_pkey(openssl, key, client);
	assert_int_equal(EVP_PKEY_decapsulate_init(ctx, NULL), 1);
	assert_int_equal(EVP_PKEY_decapsulate(ctx, b, &b_n, wrapped, wrapped_n), 1);
	assert_int_not_equal(EVP_PKEY_decapsulate(ctx, b, &b_n, wrapped, wrapped_n - 1), 1);
	assert_int_equal(a_n, 64);
	assert_int_equal(b_n, 64);
	assert_memory_equal(a, b, 64);
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(key);
	EVP_PKEY_free(share);
}

static void the_hybrid_agrees_with_openssls(void **state)
{
	check_hybrid(OURS, THEIRS);
	check_hybrid(THEIRS, OURS);
	check_hybrid(OURS, OURS);
}

static int make_keys(void **state)
{
	openssl = OSSL_LIB_CTX_new();
	openssls_own = OSSL_PROVIDER_load(openssl, "default");
	offload = tls_offload_create(openssl);
	ours = tls_provider_load(openssl, offload);
	RAND_bytes(text, sizeof text);
	for (int i = 0; i < SIZES; i++)
		keys[i] = EVP_PKEY_Q_keygen(openssl, "provider=default", "RSA", (size_t)sizes[i]);
	return ours == NULL || keys[SIZES - 1] == NULL;
}

static int free_keys(void **state)
{
	for (int i = 0; i < SIZES; i++)
		EVP_PKEY_free(keys[i]);
	OSSL_PROVIDER_unload(ours);
	OSSL_PROVIDER_unload(openssls_own);
	OSSL_LIB_CTX_free(openssl);
	tls_offload_destroy(offload);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_whose_the_query_prefers),
		cmocka_unit_test(pkcs1_signatures_are_openssls_byte_for_byte),
		cmocka_unit_test(pss_signatures_are_verified_by_openssl),
		cmocka_unit_test(signing_is_ours_also_after_peers_were_verified),
		cmocka_unit_test(what_tls_does_not_know_is_refused),
		cmocka_unit_test(x25519_agrees_with_openssls),
		cmocka_unit_test(the_hybrid_agrees_with_openssls),
	};
	return cmocka_run_group_tests(tests, make_keys, free_keys);
}
