// SPDX-License-Identifier: Apache-2.0
/* tls/provider/rsa.c: RSA keys of a server, and their signatures through the offload.
 *
 * A key is one of OpenSSL's, held inside: all that is asked of it is asked there. Only the private operation goes
 * through the offload, so that the message is encoded here: EMSA-PSS and EMSA-PKCS1-v1_5 (RFC 8017 9.1.1, 9.2), with the
 * digests of TLS's signature schemes (RFC 8446 4.2.3, RFC 5246 4.7, RFC 4346 4.7). There is no verification: a server's key
 * only signs. */
#include "tls/offload/offload.h"
#include "tls/provider/provider_private.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#define OPENSSLS_OWN "provider=default"

struct key {
	struct tls_provider *provider;
	struct tls_rsa_key *rsa; /* NULL: none yet */
};

/* ---- keys ---- */

static void *key_new(void *context)
{
	struct key *key = OPENSSL_zalloc(sizeof *key);
	if (key != NULL)
		key->provider = context;
	return key;
}

static void key_free(void *at)
{
	struct key *key = at;
	if (key == NULL)
		return;
	tls_rsa_key_put(key->rsa);
	OPENSSL_free(key);
}

/* Key pairs only: with a peer's public key OpenSSL then stays with its own provider, which verifies. */
static int key_import(void *at, int selection, const OSSL_PARAM params[])
{
	struct key *key = at;
	EVP_PKEY *inner = NULL;
	if (key->rsa != NULL || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 ||
		OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_D) == NULL)
		return 0;
	EVP_PKEY_CTX *ctx =
		EVP_PKEY_CTX_new_from_name(key->provider->openssl, "RSA", OPENSSLS_OWN);
	if (ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
		EVP_PKEY_fromdata(ctx, &inner, EVP_PKEY_KEYPAIR, (OSSL_PARAM *)params) == 1)
		key->rsa = tls_rsa_key_create(key->provider->openssl, inner);
	EVP_PKEY_free(inner);
	EVP_PKEY_CTX_free(ctx);
	return key->rsa != NULL;
}

static EVP_PKEY *inner_of(const struct key *key)
{
	return key->rsa == NULL ? NULL : tls_rsa_key_inner(key->rsa);
}

static int key_export(void *at, int selection, OSSL_CALLBACK *tell, void *user)
{
	const struct key *key = at;
	return key->rsa != NULL && EVP_PKEY_export(inner_of(key), selection, tell, user);
}

static const OSSL_PARAM *key_types(int selection)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_D, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_FACTOR1, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_FACTOR2, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_EXPONENT1, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_EXPONENT2, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_COEFFICIENT1, NULL, 0),
		OSSL_PARAM_END,
	};
	return (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 ? types : NULL;
}

static int key_has(const void *at, int selection)
{
	const struct key *key = at;
	return key != NULL &&
		((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0 || key->rsa != NULL);
}

static int key_match(const void *a, const void *b, int selection)
{
	const struct key *one = a, *other = b;
	return one->rsa != NULL && other->rsa != NULL &&
		EVP_PKEY_eq(inner_of(one), inner_of(other)) == 1;
}

static int key_get_params(void *at, OSSL_PARAM params[])
{
	const struct key *key = at;
	return key->rsa != NULL && EVP_PKEY_get_params(inner_of(key), params);
}

static const OSSL_PARAM *key_gettable_params(void *context)
{
	static const OSSL_PARAM gettable[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
		OSSL_PARAM_END,
	};
	return gettable;
}

const OSSL_DISPATCH tls_rsa_key_functions[] = {
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_NEW, key_new),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_FREE, key_free),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_HAS, key_has),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_MATCH, key_match),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT, key_import),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_types),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_EXPORT, key_export),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, key_types),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable_params),
	OSSL_DISPATCH_END,
};

/* ---- digests ---- */

/* DigestInfo before the digest, DER (RFC 8017 9.2, note 1); of OpenSSL's names for each. */
struct digest {
	const char *names[3];
	uint8_t n, prefix_n;
	uint8_t prefix[19];
};

#define DIGEST_INFO(n, ...) sizeof((uint8_t[]){__VA_ARGS__, 0x05, 0x00, 0x04, n}), {__VA_ARGS__, 0x05, 0x00, 0x04, n}
#define NIST(last)	    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last

static const struct digest digests[] = {
	{{"SHA2-256", "SHA256", "SHA-256"}, 32, DIGEST_INFO(32, 0x30, 0x31, 0x30, 0x0d, NIST(1))},
	{{"SHA2-384", "SHA384", "SHA-384"}, 48, DIGEST_INFO(48, 0x30, 0x41, 0x30, 0x0d, NIST(2))},
	{{"SHA2-512", "SHA512", "SHA-512"}, 64, DIGEST_INFO(64, 0x30, 0x51, 0x30, 0x0d, NIST(3))},
	{{"SHA1", "SHA-1", "SSL3-SHA1"}, 20,
		DIGEST_INFO(20, 0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a)},
	{{"MD5-SHA1", "MD5-SHA1", "MD5-SHA1"}, 36, 0, {0}}, /* TLS 1.0 and 1.1: no DigestInfo */
};

static const struct digest *digest_find(const char *name)
{
	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++)
		for (int k = 0; k < 3; k++)
			if (OPENSSL_strcasecmp(name, digests[i].names[k]) == 0)
				return &digests[i];
	return NULL;
}

/* ---- encodings ---- */

/* RFC 8017 9.2 */
static bool encode_pkcs1(const struct digest *d, const uint8_t *hash, uint8_t *to, size_t n)
{
	size_t t_n = (size_t)d->prefix_n + d->n;
	if (n < t_n + 11)
		return false;
	memset(to, 0xff, n);
	to[0] = 0x00;
	to[1] = 0x01;
	to[n - t_n - 1] = 0x00;
	memcpy(to + n - t_n, d->prefix, d->prefix_n);
	memcpy(to + n - d->n, hash, d->n);
	return true;
}

/* to ^= MGF1(seed) (RFC 8017 B.2.1) */
static bool mask(EVP_MD_CTX *ctx, const EVP_MD *md, const uint8_t *seed, size_t seed_n, uint8_t *to, size_t n)
{
	uint8_t block[EVP_MAX_MD_SIZE];
	for (uint32_t i = 0; n != 0; i++) {
		const uint8_t counter[4] = {0, 0, 0, (uint8_t)i}; /* 512 bytes at most */
		unsigned block_n;
		if (EVP_DigestInit_ex2(ctx, md, NULL) != 1 || EVP_DigestUpdate(ctx, seed, seed_n) != 1 ||
			EVP_DigestUpdate(ctx, counter, sizeof counter) != 1 ||
			EVP_DigestFinal_ex(ctx, block, &block_n) != 1)
			return false;
		size_t part = n < block_n ? n : block_n;
		for (size_t k = 0; k < part; k++)
			to[k] ^= block[k];
		to += part;
		n -= part;
	}
	return true;
}

/* RFC 8017 9.1.1, the salt as long as the digest (RFC 8446 4.2.3), the mask by the same digest. `bits` of the modulus;
 * `to` has its bytes. */
static bool encode_pss(OSSL_LIB_CTX *openssl, EVP_MD_CTX *ctx, const EVP_MD *md, size_t hash_n, const uint8_t *hash,
	uint8_t *to, size_t n, unsigned bits)
{
	static const uint8_t zeros[8];
	unsigned em_bits = bits - 1;
	size_t em_n = (em_bits + 7) / 8;
	if (em_n < 2 * hash_n + 2)
		return false;
	to[0] = 0; /* where em_bits is a multiple of 8, the encoded message is a byte shorter */
	uint8_t *em = to + n - em_n;
	size_t db_n = em_n - hash_n - 1;
	uint8_t *salt = em + db_n - hash_n, *h = em + db_n;
	memset(em, 0, db_n - hash_n - 1);
	em[db_n - hash_n - 1] = 0x01;
	unsigned h_n;
	if (RAND_bytes_ex(openssl, salt, hash_n, 0) != 1 || EVP_DigestInit_ex2(ctx, md, NULL) != 1 ||
		EVP_DigestUpdate(ctx, zeros, sizeof zeros) != 1 ||
		EVP_DigestUpdate(ctx, hash, hash_n) != 1 ||
		EVP_DigestUpdate(ctx, salt, hash_n) != 1 || EVP_DigestFinal_ex(ctx, h, &h_n) != 1 ||
		!mask(ctx, md, h, hash_n, em, db_n))
		return false;
	em[0] &= (uint8_t)(0xff >> (8 * em_n - em_bits));
	em[em_n - 1] = 0xbc;
	return true;
}

/* ---- signatures ---- */

struct signing {
	struct tls_provider *provider;
	const struct key *key; /* OpenSSL keeps it as long as this */
	const struct digest *digest;
	EVP_MD *md;
	EVP_MD_CTX *hash;
	int padding;
};

static void *signing_new(void *context, const char *properties)
{
	struct signing *s = OPENSSL_zalloc(sizeof *s);
	if (s == NULL)
		return NULL;
	s->provider = context;
	s->padding = RSA_PKCS1_PADDING;
	return s;
}

static void signing_free(void *at)
{
	struct signing *s = at;
	EVP_MD_CTX_free(s->hash);
	EVP_MD_free(s->md);
	OPENSSL_free(s);
}

static int set_padding(struct signing *s, const OSSL_PARAM *to)
{
	int padding = 0;
	if (to->data_type == OSSL_PARAM_UTF8_STRING)
		padding = OPENSSL_strcasecmp(to->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0 ? RSA_PKCS1_PSS_PADDING
			: OPENSSL_strcasecmp(to->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0
			? RSA_PKCS1_PADDING
			: 0;
	else if (OSSL_PARAM_get_int(to, &padding) != 1)
		return 0;
	s->padding = padding;
	return padding == RSA_PKCS1_PADDING || padding == RSA_PKCS1_PSS_PADDING;
}

/* TLS knows only salts as long as the digest. */
static int is_usual_salt(const struct signing *s, const OSSL_PARAM *to)
{
	int n = 0;
	if (to->data_type == OSSL_PARAM_UTF8_STRING)
		return OPENSSL_strcasecmp(to->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
	return OSSL_PARAM_get_int(to, &n) == 1 &&
		(n == RSA_PSS_SALTLEN_DIGEST || (s->digest != NULL && n == s->digest->n));
}

static int signing_set_params(void *at, const OSSL_PARAM params[])
{
	struct signing *s = at;
	const OSSL_PARAM *padding = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
	const OSSL_PARAM *salt = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
	return (padding == NULL || set_padding(s, padding)) && (salt == NULL || is_usual_salt(s, salt));
}

static const OSSL_PARAM *signing_settable_params(void *at, void *context)
{
	static const OSSL_PARAM settable[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_END,
	};
	return settable;
}

static int signing_init(void *at, const char *name, void *key, const OSSL_PARAM params[])
{
	struct signing *s = at;
	s->key = key;
	s->digest = name == NULL ? NULL : digest_find(name);
	if (s->digest == NULL || s->key == NULL || s->key->rsa == NULL)
		return 0;
	EVP_MD_free(s->md);
	s->md = NULL;
	return signing_set_params(s, params);
}

/* Not before there is something to sign: libssl begins as well to see whether a key could. */
static bool signing_begin(struct signing *s)
{
	if (s->md != NULL)
		return true;
	if (s->digest == NULL)
		return false;
	s->md = EVP_MD_fetch(s->provider->openssl, s->digest->names[0], NULL);
	if (s->hash == NULL)
		s->hash = EVP_MD_CTX_new();
	if (s->md != NULL && s->hash != NULL && EVP_DigestInit_ex2(s->hash, s->md, NULL) == 1)
		return true;
	EVP_MD_free(s->md);
	s->md = NULL;
	return false;
}

static int signing_update(void *at, const unsigned char *from, size_t n)
{
	struct signing *s = at;
	return signing_begin(s) && EVP_DigestUpdate(s->hash, from, n) == 1;
}

static int signing_final(void *at, unsigned char *signature, size_t *n, size_t room)
{
	struct signing *s = at;
	uint8_t hash[EVP_MAX_MD_SIZE], message[TLS_RSA_BYTES_MAX * 4];
	size_t size = tls_rsa_key_bytes(s->key->rsa);
	*n = size;
	if (signature == NULL)
		return 1;
	if (room < size || size > sizeof message || !signing_begin(s) ||
		EVP_DigestFinal_ex(s->hash, hash, NULL) != 1)
		return 0;
	bool is_encoded = s->padding == RSA_PKCS1_PADDING
		? encode_pkcs1(s->digest, hash, message, size)
		: encode_pss(s->provider->openssl, s->hash, s->md, s->digest->n, hash, message, size,
			  (unsigned)EVP_PKEY_get_bits(inner_of(s->key)));
	return is_encoded &&
		tls_offload_rsa(s->provider->offload, s->key->rsa, message, signature);
}

const OSSL_DISPATCH tls_rsa_signature_functions[] = {
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_SIGNATURE_NEWCTX, signing_new),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_SIGNATURE_FREECTX, signing_free),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signing_init),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, signing_update),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, signing_final),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signing_set_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signing_settable_params),
	OSSL_DISPATCH_END,
};
