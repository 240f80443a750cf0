// SPDX-License-Identifier: Apache-2.0
/* tls/provider/kdf_tls13.c: TLS13-KDF (RFC 8446 7.1), of which a handshake takes some twenty.
 *
 * OpenSSL's own finds MAC and digest by name again for each of them and keeps every parameter in a block
 * of the heap. This one has the digests' functions at hand and room for the parameters in the
 * context. It gives the same bytes and refuses what OpenSSL's does; and it refuses what TLS 1.3 has
 * not: other digests than SHA-256 and SHA-384, a key or salt larger than below. */
#include "tls/provider/hmac.h"
#include "tls/provider/provider_private.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/proverr.h>
#include <stdlib.h>
#include <strings.h>

enum {
	/* As key a handshake gives the shared secret: ffdhe8192 has the largest of all groups. */
	KEY_BYTES_MAX = 1024,
	/* As salt it gives an earlier secret, of the size of a digest. */
	SALT_BYTES_MAX = 255,
	/* HkdfLabel counts label (with its prefix) and context in one byte each. */
	LABEL_BYTES_MAX = 255,
	HKDF_LABEL_BYTES_MAX = 2 + 1 + LABEL_BYTES_MAX + 1 + LABEL_BYTES_MAX,
	HKDF_BLOCKS_MAX = 255, /* RFC 5869 2.3 */
};

struct field {
	uint16_t n;
	bool is_given;
};

struct kdf {
	int mode; /* EVP_KDF_HKDF_MODE_… */
	const struct hmac_digest *digest;
	struct field key_field, salt_field, prefix_field, label_field, data_field;
	uint8_t key[KEY_BYTES_MAX];
	uint8_t salt[SALT_BYTES_MAX];
	uint8_t prefix[LABEL_BYTES_MAX];
	uint8_t label[LABEL_BYTES_MAX];
	uint8_t data[LABEL_BYTES_MAX];
};

/* ---- a context's life ---- */

static void reset(void *context)
{
	struct kdf *kdf = context;
	OPENSSL_cleanse(kdf->key, kdf->key_field.n);
	OPENSSL_cleanse(kdf->salt, kdf->salt_field.n);
	OPENSSL_cleanse(kdf->data, kdf->data_field.n);
	kdf->mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND; /* which TLS 1.3 has not */
	kdf->digest = NULL;
	kdf->key_field = kdf->salt_field = kdf->prefix_field = kdf->label_field =
		kdf->data_field = (struct field){0};
}

static void *new_context(void *provider)
{
	struct kdf *kdf = malloc(sizeof *kdf);
	if (kdf == NULL)
		return NULL;
	kdf->key_field.n = kdf->salt_field.n = kdf->data_field.n = 0;
	reset(kdf);
	return kdf;
}

static void free_context(void *context)
{
	if (context != NULL)
		reset(context);
	free(context);
}

static void *copy_context(void *context)
{
	struct kdf *copy = malloc(sizeof *copy);
	if (copy != NULL)
		*copy = *(struct kdf *)context;
	return copy;
}

/* ---- parameters ---- */

static bool refuse(int reason)
{
	ERR_raise(ERR_LIB_PROV, reason);
	return false;
}

/* The parameters are read here and not by OSSL_PARAM_get_…_ptr(), which try the pointer types first
 * and raise an error, to be thrown away, for each text that is none: 5 % of a handshake. */
static bool set_digest(struct kdf *kdf, const OSSL_PARAM *p)
{
	kdf->digest = p->data_type == OSSL_PARAM_UTF8_STRING && p->data != NULL
		? hmac_digest_find(p->data)
		: NULL;
	return kdf->digest != NULL || refuse(PROV_R_INVALID_DIGEST);
}

static bool set_mode(struct kdf *kdf, const OSSL_PARAM *p)
{
	if (p->data_type != OSSL_PARAM_UTF8_STRING)
		return OSSL_PARAM_get_int(p, &kdf->mode) == 1 || refuse(PROV_R_INVALID_MODE);
	const char *name = p->data == NULL ? "" : p->data;
	kdf->mode = strcasecmp(name, "EXTRACT_ONLY") == 0 ? EVP_KDF_HKDF_MODE_EXTRACT_ONLY
		: strcasecmp(name, "EXPAND_ONLY") == 0	  ? EVP_KDF_HKDF_MODE_EXPAND_ONLY
							  : EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
	return true; /* whether TLS 1.3 has it is looked at when all are set */
}

static bool set_field(struct field *field, uint8_t *room, size_t size, const OSSL_PARAM *p)
{
	if (p->data_type != OSSL_PARAM_OCTET_STRING || p->data == NULL || p->data_size > size)
		return refuse(PROV_R_INVALID_DATA);
	memcpy(room, p->data, p->data_size);
	*field = (struct field){(uint16_t)p->data_size, true};
	return true;
}

#define SET(name, p) set_field(&kdf->name##_field, kdf->name, sizeof kdf->name, p)

static bool set_param(struct kdf *kdf, const OSSL_PARAM *p)
{
	if (strcmp(p->key, OSSL_KDF_PARAM_MODE) == 0)
		return set_mode(kdf, p);
	if (strcmp(p->key, OSSL_KDF_PARAM_DIGEST) == 0)
		return set_digest(kdf, p);
	if (strcmp(p->key, OSSL_KDF_PARAM_KEY) == 0)
		return SET(key, p);
	if (strcmp(p->key, OSSL_KDF_PARAM_SALT) == 0)
		return SET(salt, p);
	if (strcmp(p->key, OSSL_KDF_PARAM_PREFIX) == 0)
		return SET(prefix, p);
	if (strcmp(p->key, OSSL_KDF_PARAM_LABEL) == 0)
		return SET(label, p);
	if (strcmp(p->key, OSSL_KDF_PARAM_DATA) == 0)
		return SET(data, p);
	return true; /* not ours to know (provider-kdf(7)) */
}

static int set_params(void *context, const OSSL_PARAM params[])
{
	struct kdf *kdf = context;
	if (params == NULL)
		return 1;
	OPENSSL_cleanse(kdf->data, kdf->data_field.n);
	kdf->data_field = (struct field){0}; /* as OpenSSL's: data is of this call only */
	for (; params->key != NULL; params++)
		if (!set_param(kdf, params))
			return 0;
	if (kdf->mode != EVP_KDF_HKDF_MODE_EXTRACT_ONLY &&
		kdf->mode != EVP_KDF_HKDF_MODE_EXPAND_ONLY)
		return refuse(PROV_R_INVALID_MODE);
	return 1;
}

static const OSSL_PARAM *settable_params(void *context, void *provider)
{
	static const OSSL_PARAM settable[] = {
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_MODE, NULL, 0),
		OSSL_PARAM_int(OSSL_KDF_PARAM_MODE, NULL),
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SALT, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_PREFIX, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_LABEL, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_DATA, NULL, 0),
		OSSL_PARAM_END,
	};
	return settable;
}

static int get_params(void *context, OSSL_PARAM params[])
{
	const struct kdf *kdf = context;
	OSSL_PARAM *size = OSSL_PARAM_locate(params, OSSL_KDF_PARAM_SIZE);
	if (size == NULL)
		return 1;
	if (kdf->mode != EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
		return OSSL_PARAM_set_size_t(size, SIZE_MAX); /* as much as is asked for */
	if (kdf->digest == NULL)
		return refuse(PROV_R_MISSING_MESSAGE_DIGEST);
	return OSSL_PARAM_set_size_t(size, hmac_digest_bytes(kdf->digest));
}

static const OSSL_PARAM *gettable_params(void *context, void *provider)
{
	static const OSSL_PARAM gettable[] = {
		OSSL_PARAM_size_t(OSSL_KDF_PARAM_SIZE, NULL),
		OSSL_PARAM_END,
	};
	return gettable;
}

/* ---- HKDF-Expand-Label ---- */

/* The structure HkdfLabel; 0: label or context are too long for it. */
static size_t write_hkdf_label(const struct kdf *kdf, size_t out_n, struct bytes data,
	uint8_t to[HKDF_LABEL_BYTES_MAX])
{
	size_t prefix_n = kdf->prefix_field.n, label_n = kdf->label_field.n, n = 0;
	if (out_n > UINT16_MAX || prefix_n + label_n > LABEL_BYTES_MAX || data.n > LABEL_BYTES_MAX)
		return 0;
	to[n++] = (uint8_t)(out_n >> 8);
	to[n++] = (uint8_t)out_n;
	to[n++] = (uint8_t)(prefix_n + label_n);
	memcpy(to + n, kdf->prefix, prefix_n);
	memcpy(to + n + prefix_n, kdf->label, label_n);
	n += prefix_n + label_n;
	to[n++] = (uint8_t)data.n;
	if (data.n != 0)
		memcpy(to + n, data.at, data.n);
	return n + data.n;
}

/* RFC 5869 2.3; all but exporters ask for one block. */
static void hkdf_expand(const struct hmac_digest *digest, struct bytes key, struct bytes info,
	uint8_t *out, size_t out_n)
{
	size_t digest_n = hmac_digest_bytes(digest);
	uint8_t block[HMAC_DIGEST_BYTES_MAX];
	struct hmac begun, h;
	hmac_init(&begun, digest, key);
	for (uint8_t counter = 1; out_n != 0; counter++) {
		bool is_last = out_n <= digest_n;
		struct hmac *now = is_last ? &begun : &h;
		if (!is_last)
			h = begun;
		if (counter != 1)
			hmac_update(now, bytes_of(block, digest_n));
		hmac_update(now, info);
		hmac_update(now, bytes_of(&counter, 1));
		hmac_final(now, block);
		size_t n = is_last ? out_n : digest_n;
		memcpy(out, block, n);
		out += n;
		out_n -= n;
	}
	OPENSSL_cleanse(block, sizeof block);
}

static bool expand_label(
	const struct kdf *kdf, struct bytes key, struct bytes data, uint8_t *out, size_t out_n)
{
	uint8_t label[HKDF_LABEL_BYTES_MAX];
	size_t n = write_hkdf_label(kdf, out_n, data, label);
	if (n == 0 || out == NULL || out_n > HKDF_BLOCKS_MAX * hmac_digest_bytes(kdf->digest))
		return false;
	if (out_n != 0)
		hkdf_expand(kdf->digest, key, bytes_of(label, n), out, out_n);
	return true;
}

/* ---- the two modes ---- */

static bool derive_expand(const struct kdf *kdf, uint8_t *out, size_t out_n)
{
	return kdf->key_field.is_given &&
		expand_label(kdf, bytes_of(kdf->key, kdf->key_field.n),
			bytes_of(kdf->data, kdf->data_field.n), out, out_n);
}

/* The next secret of the schedule: HKDF-Extract, its salt the earlier secret after Derive-Secret(…,
 * "derived", ""). What is not given is zeros. */
static bool derive_extract(const struct kdf *kdf, uint8_t *out, size_t out_n)
{
	static const uint8_t zeros[HMAC_DIGEST_BYTES_MAX];
	uint8_t derived[HMAC_DIGEST_BYTES_MAX];
	size_t n = hmac_digest_bytes(kdf->digest);
	struct bytes salt = bytes_of(zeros, n);
	struct bytes key = kdf->key_field.is_given ? bytes_of(kdf->key, kdf->key_field.n) : salt;
	struct hmac h;
	if (out_n != n)
		return refuse(PROV_R_WRONG_OUTPUT_BUFFER_SIZE);
	if (kdf->salt_field.is_given) {
		salt = bytes_of(kdf->salt, kdf->salt_field.n);
		if (!expand_label(kdf, salt, hmac_digest_of_nothing(kdf->digest), derived, n))
			return false;
		salt = bytes_of(derived, n);
	}
	hmac_init(&h, kdf->digest, salt);
	hmac_update(&h, key);
	hmac_final(&h, out);
	OPENSSL_cleanse(derived, sizeof derived);
	return true;
}

static int derive(void *context, unsigned char *out, size_t out_n, const OSSL_PARAM params[])
{
	struct kdf *kdf = context;
	if (!set_params(kdf, params))
		return 0;
	if (kdf->digest == NULL)
		return refuse(PROV_R_MISSING_MESSAGE_DIGEST);
	switch (kdf->mode) {
	case EVP_KDF_HKDF_MODE_EXTRACT_ONLY: return derive_extract(kdf, out, out_n);
	case EVP_KDF_HKDF_MODE_EXPAND_ONLY: return derive_expand(kdf, out, out_n);
	default: return 0;
	}
}

const OSSL_DISPATCH tls_kdf_tls13_functions[] = {
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_NEWCTX, new_context),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_DUPCTX, copy_context),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_FREECTX, free_context),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_RESET, reset),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_DERIVE, derive),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS, settable_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_SET_CTX_PARAMS, set_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_GETTABLE_CTX_PARAMS, gettable_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KDF_GET_CTX_PARAMS, get_params),
	OSSL_DISPATCH_END,
};
