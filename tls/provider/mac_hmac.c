// SPDX-License-Identifier: Apache-2.0
/* tls/provider/mac_hmac.c: HMAC (RFC 2104), which a handshake takes for both Finished, its ticket and a PSK's binder.
 *
 * OpenSSL's own makes three digest contexts on the heap for each, after it has found the digest by name. This one has SHA-256 and
 * SHA-384 in place. All else that anybody may ask of an HMAC, another digest, a longer key, the MAC of TLS 1.2's CBC records (whose
 * length must not show in the time it takes), is asked of OpenSSL's, inside. */
#include "tls/provider/hmac.h"
#include "tls/provider/provider_private.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define OPENSSLS_OWN "provider=default"

struct mac {
	struct tls_provider *provider;
	EVP_MAC_CTX *inner; /* from now on it does all; NULL: it is not needed */
	const struct hmac_digest *digest;
	struct hmac hmac;
	size_t key_n;
	bool has_key, is_begun; /* `hmac` is ready for data; has taken some */
	bool is_ready;
	uint8_t key[HMAC_BLOCK_BYTES_MAX];
};

/* ---- a context's life ---- */

static void *mac_new(void *provider)
{
	struct mac *mac = OPENSSL_malloc(sizeof *mac);
	if (mac == NULL)
		return NULL;
	mac->provider = provider;
	mac->inner = NULL;
	mac->digest = NULL;
	mac->key_n = 0;
	mac->has_key = mac->is_begun = mac->is_ready = false;
	return mac;
}

static void mac_free(void *at)
{
	struct mac *mac = at;
	if (mac == NULL)
		return;
	EVP_MAC_CTX_free(mac->inner);
	OPENSSL_cleanse(mac->key, mac->key_n);
	if (mac->is_ready)
		OPENSSL_cleanse(&mac->hmac, sizeof mac->hmac);
	OPENSSL_free(mac);
}

static void *mac_dup(void *at)
{
	const struct mac *from = at;
	struct mac *mac = mac_new(from->provider);
	if (mac == NULL)
		return NULL;
	*mac = *from;
	if (from->inner == NULL)
		return mac;
	mac->inner = EVP_MAC_CTX_dup(from->inner);
	if (mac->inner != NULL)
		return mac;
	mac_free(mac);
	return NULL;
}

/* ---- OpenSSL's, where it is needed ---- */

static EVP_MAC_CTX *inner_new(struct tls_provider *provider)
{
	EVP_MAC *mac = EVP_MAC_fetch(provider->openssl, OSSL_MAC_NAME_HMAC, OPENSSLS_OWN);
	EVP_MAC_CTX *inner = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
	EVP_MAC_free(mac); /* the context holds it */
	return inner;
}

/* Gives it what was set so far. false: data has been taken, or no memory. */
static bool hand_over(struct mac *mac)
{
	if (mac->inner != NULL)
		return true;
	if (mac->is_begun)
		return false;
	mac->inner = inner_new(mac->provider);
	if (mac->inner == NULL)
		return false;
	if (mac->digest != NULL) {
		OSSL_PARAM digest[] = {
			OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
				(char *)hmac_digest_name(mac->digest), 0),
			OSSL_PARAM_construct_end(),
		};
		if (EVP_MAC_CTX_set_params(mac->inner, digest) != 1)
			return false;
	}
	return !mac->has_key || EVP_MAC_init(mac->inner, mac->key, mac->key_n, NULL) == 1;
}

/* ---- ours ---- */

/* Ready for the first data, if there are both digest and key. */
static void start(struct mac *mac)
{
	mac->is_begun = false;
	mac->is_ready = mac->digest != NULL && mac->has_key;
	if (mac->is_ready)
		hmac_init(&mac->hmac, mac->digest, bytes_of(mac->key, mac->key_n));
}

static void set_key(struct mac *mac, const uint8_t *key, size_t n)
{
	OPENSSL_cleanse(mac->key, mac->key_n);
	memcpy(mac->key, key, n);
	mac->key_n = n;
	mac->has_key = true;
}

static bool is_text(const OSSL_PARAM *p)
{
	return p->data_type == OSSL_PARAM_UTF8_STRING && p->data != NULL;
}

/* Is it a parameter that we can follow? */
static bool is_ours(const OSSL_PARAM *p)
{
	if (strcmp(p->key, OSSL_MAC_PARAM_DIGEST) == 0)
		return is_text(p) && hmac_digest_find(p->data) != NULL;
	if (strcmp(p->key, OSSL_MAC_PARAM_KEY) == 0)
		return p->data_type == OSSL_PARAM_OCTET_STRING && p->data != NULL &&
			p->data_size <= HMAC_BLOCK_BYTES_MAX;
	/* Whose digest, we know. */
	return strcmp(p->key, OSSL_MAC_PARAM_PROPERTIES) == 0;
}

static void follow(struct mac *mac, const OSSL_PARAM params[])
{
	const OSSL_PARAM *digest = OSSL_PARAM_locate_const(params, OSSL_MAC_PARAM_DIGEST);
	const OSSL_PARAM *key = OSSL_PARAM_locate_const(params, OSSL_MAC_PARAM_KEY);
	if (digest != NULL)
		mac->digest = hmac_digest_find(digest->data);
	if (key != NULL)
		set_key(mac, key->data, key->data_size);
	if (key != NULL || (digest != NULL && mac->has_key))
		start(mac);
}

static int set_params(void *at, const OSSL_PARAM params[])
{
	struct mac *mac = at;
	if (params == NULL || params->key == NULL)
		return 1;
	for (const OSSL_PARAM *p = params; mac->inner == NULL && p->key != NULL; p++)
		if (!is_ours(p) && !hand_over(mac))
			return 0;
	if (mac->inner != NULL)
		return EVP_MAC_CTX_set_params(mac->inner, params);
	follow(mac, params);
	return 1;
}

static int init(void *at, const unsigned char *key, size_t n, const OSSL_PARAM params[])
{
	struct mac *mac = at;
	mac->is_begun = false; /* anew: it may also be handed over */
	if (!set_params(mac, params))
		return 0;
	if (key != NULL && n > HMAC_BLOCK_BYTES_MAX && !hand_over(mac))
		return 0;
	if (mac->inner != NULL)
		return EVP_MAC_init(mac->inner, key, n, NULL);
	if (key != NULL)
		set_key(mac, key, n);
	start(mac);
	return mac->is_ready;
}

static int update(void *at, const unsigned char *from, size_t n)
{
	struct mac *mac = at;
	if (mac->inner != NULL)
		return EVP_MAC_update(mac->inner, from, n);
	if (!mac->is_ready)
		return 0;
	mac->is_begun = true;
	hmac_update(&mac->hmac, bytes_of(from, n));
	return 1;
}

static int final(void *at, unsigned char *to, size_t *n, size_t room)
{
	struct mac *mac = at;
	if (mac->inner != NULL)
		return EVP_MAC_final(mac->inner, to, n, room);
	if (!mac->is_ready || room < hmac_digest_bytes(mac->digest))
		return 0;
	*n = hmac_digest_bytes(mac->digest);
	hmac_final(&mac->hmac, to);
	mac->is_ready = mac->is_begun = false; /* until it is begun anew, perhaps with what is OpenSSL's matter */
	return 1;
}

/* ---- what is told ---- */

static int get_params(void *at, OSSL_PARAM params[])
{
	const struct mac *mac = at;
	OSSL_PARAM *size = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_SIZE);
	OSSL_PARAM *block = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_BLOCK_SIZE);
	if (mac->inner != NULL)
		return EVP_MAC_CTX_get_params(mac->inner, params);
	return (size == NULL ||
		       OSSL_PARAM_set_size_t(size, mac->digest == NULL ? 0 : hmac_digest_bytes(mac->digest))) &&
		(block == NULL ||
			OSSL_PARAM_set_size_t(
				block, mac->digest == NULL ? 0 : hmac_digest_block_bytes(mac->digest)));
}

static const OSSL_PARAM *gettable_params(void *mac, void *provider)
{
	static const OSSL_PARAM gettable[] = {
		OSSL_PARAM_size_t(OSSL_MAC_PARAM_SIZE, NULL),
		OSSL_PARAM_size_t(OSSL_MAC_PARAM_BLOCK_SIZE, NULL),
		OSSL_PARAM_END,
	};
	return gettable;
}

static const OSSL_PARAM *settable_params(void *mac, void *provider)
{
	static const OSSL_PARAM settable[] = {
		OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_PROPERTIES, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, NULL, 0),
		OSSL_PARAM_int(OSSL_MAC_PARAM_DIGEST_NOINIT, NULL),
		OSSL_PARAM_int(OSSL_MAC_PARAM_DIGEST_ONESHOT, NULL),
		OSSL_PARAM_size_t(OSSL_MAC_PARAM_TLS_DATA_SIZE, NULL),
		OSSL_PARAM_END,
	};
	return settable;
}

const OSSL_DISPATCH tls_mac_hmac_functions[] = {
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_NEWCTX, mac_new),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_DUPCTX, mac_dup),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_FREECTX, mac_free),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_INIT, init),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_UPDATE, update),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_FINAL, final),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_GET_CTX_PARAMS, get_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_GETTABLE_CTX_PARAMS, gettable_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_SET_CTX_PARAMS, set_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_MAC_SETTABLE_CTX_PARAMS, settable_params),
	OSSL_DISPATCH_END,
};
