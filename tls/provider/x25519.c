// SPDX-License-Identifier: Apache-2.0
/* tls/provider/x25519.c: X25519 (RFC 7748) for TLS: keys from the offload's store, secrets by its batches. And the
 * group X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem), whose ML-KEM half is OpenSSL's; OpenSSL's own would do its X25519
 * half without us.
 *
 * Both are the keys of one handshake, 32 bytes each, and what libssl asks of them; nobody stores or prints such a
 * key, so that there is no encoding but that of the key share. */
#include "tls/offload/offload.h"
#include "tls/provider/provider_private.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

enum {
	X25519_BITS = 253,
	X25519_SECURITY_BITS = 128,
	MLKEM_PUBLIC_BYTES = 1184, /* FIPS 203, table 3 */
	MLKEM_WRAPPED_BYTES = 1088,
	MLKEM_SECRET_BYTES = 32,
	HYBRID_PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + TLS_X25519_BYTES,
	HYBRID_WRAPPED_BYTES = MLKEM_WRAPPED_BYTES + TLS_X25519_BYTES,
	HYBRID_SECRET_BYTES = MLKEM_SECRET_BYTES + TLS_X25519_BYTES,
	MLKEM_SECURITY_BITS = 192,
};

#define MLKEM	   "ML-KEM-768"
#define OPENSSLS_OWN "provider=default"

struct key {
	struct tls_provider *provider;
	bool is_hybrid, has_public, has_secret;
	uint8_t public[TLS_X25519_BYTES], secret[TLS_X25519_BYTES];
	EVP_PKEY *mlkem; /* hybrid */
};

/* ---- keys ---- */

static struct key *key_new(struct tls_provider *provider, bool is_hybrid)
{
	struct key *key = OPENSSL_zalloc(sizeof *key);
	if (key == NULL)
		return NULL;
	key->provider = provider;
	key->is_hybrid = is_hybrid;
	return key;
}

static void *x25519_new(void *context)
{
	return key_new(context, false);
}

static void *hybrid_new(void *context)
{
	return key_new(context, true);
}

static void key_free(void *at)
{
	struct key *key = at;
	if (key == NULL)
		return;
	EVP_PKEY_free(key->mlkem);
	OPENSSL_clear_free(key, sizeof *key);
}

static void *key_dup(const void *at, int selection)
{
	const struct key *from = at;
	struct key *key = key_new(from->provider, from->is_hybrid);
	if (key == NULL)
		return NULL;
	if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
		return key;
	*key = *from;
	if (key->mlkem != NULL)
		EVP_PKEY_up_ref(key->mlkem);
	return key;
}

static int key_has(const void *at, int selection)
{
	const struct key *key = at;
	return key != NULL &&
		((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0 || key->has_public) &&
		((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || key->has_secret);
}

static int key_match(const void *a, const void *b, int selection)
{
	const struct key *one = a, *other = b;
	if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
		return 1;
	return one->has_public && other->has_public &&
		CRYPTO_memcmp(one->public, other->public, TLS_X25519_BYTES) == 0 &&
		(!one->is_hybrid || EVP_PKEY_eq(one->mlkem, other->mlkem) == 1);
}

/* Any 32 bytes are a public key (RFC 7748 5). */
static int key_validate(const void *at, int selection, int)
{
	return key_has(at, selection);
}

/* ---- generation ---- */

struct generation {
	struct tls_provider *provider;
	bool is_hybrid, is_for_keys; /* else only a place for the peer's public key */
};

static void *generation_new(struct tls_provider *provider, int selection, bool is_hybrid)
{
	struct generation *g = OPENSSL_zalloc(sizeof *g);
	if (g == NULL)
		return NULL;
	g->provider = provider;
	g->is_hybrid = is_hybrid;
	g->is_for_keys = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0;
	return g;
}

static void *x25519_gen_init(void *context, int selection, const OSSL_PARAM params[])
{
	return generation_new(context, selection, false);
}

static void *hybrid_gen_init(void *context, int selection, const OSSL_PARAM params[])
{
	return generation_new(context, selection, true);
}

/* libssl names the group, which we know. */
static int gen_set_params(void *generation, const OSSL_PARAM params[])
{
	return 1;
}

static const OSSL_PARAM *gen_settable_params(void *generation, void *context)
{
	static const OSSL_PARAM settable[] = {
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0), OSSL_PARAM_END};
	return settable;
}

static EVP_PKEY *mlkem_generate(OSSL_LIB_CTX *openssl)
{
	EVP_PKEY *made = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(openssl, MLKEM, OPENSSLS_OWN);
	if (ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1)
		EVP_PKEY_generate(ctx, &made);
	EVP_PKEY_CTX_free(ctx);
	return made;
}

static void *gen(void *at, OSSL_CALLBACK *progress, void *user)
{
	const struct generation *g = at;
	struct key *key = key_new(g->provider, g->is_hybrid);
	if (key == NULL || !g->is_for_keys)
		return key;
	bool is_made =
		tls_offload_x25519_key(g->provider->offload, key->secret, key->public);
	if (is_made && g->is_hybrid)
		key->mlkem = mlkem_generate(g->provider->openssl);
	key->has_public = key->has_secret = true;
	if (is_made && (!g->is_hybrid || key->mlkem != NULL))
		return key;
	key_free(key);
	return NULL;
}

static void gen_cleanup(void *generation)
{
	OPENSSL_free(generation);
}

/* ---- key shares ---- */

static int set_public(struct key *key, const uint8_t *share, size_t n)
{
	if (n != (key->is_hybrid ? HYBRID_PUBLIC_BYTES : TLS_X25519_BYTES))
		return 0;
	if (key->is_hybrid) {
		EVP_PKEY *mlkem = EVP_PKEY_new_raw_public_key_ex(
			key->provider->openssl, MLKEM, OPENSSLS_OWN, share, MLKEM_PUBLIC_BYTES);
		if (mlkem == NULL)
			return 0;
		EVP_PKEY_free(key->mlkem);
		key->mlkem = mlkem;
		share += MLKEM_PUBLIC_BYTES;
	}
	memcpy(key->public, share, TLS_X25519_BYTES);
	OPENSSL_cleanse(key->secret, sizeof key->secret);
	key->has_public = true;
	key->has_secret = false;
	return 1;
}

static int set_params(void *at, const OSSL_PARAM params[])
{
	const OSSL_PARAM *share = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
	return share == NULL ||
		(share->data_type == OSSL_PARAM_OCTET_STRING &&
			set_public(at, share->data, share->data_size));
}

static const OSSL_PARAM *settable_params(void *context)
{
	static const OSSL_PARAM settable[] = {
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0), OSSL_PARAM_END};
	return settable;
}

static int get_public(const struct key *key, OSSL_PARAM *to)
{
	uint8_t share[HYBRID_PUBLIC_BYTES];
	if (!key->has_public)
		return 0;
	if (!key->is_hybrid)
		return OSSL_PARAM_set_octet_string(to, key->public, TLS_X25519_BYTES);
	to->return_size = sizeof share;
	if (to->data == NULL) /* only its size is asked for */
		return 1;
	size_t n = MLKEM_PUBLIC_BYTES;
	if (EVP_PKEY_get_raw_public_key(key->mlkem, share, &n) != 1 || n != MLKEM_PUBLIC_BYTES)
		return 0;
	memcpy(share + n, key->public, TLS_X25519_BYTES);
	return OSSL_PARAM_set_octet_string(to, share, sizeof share);
}

static int get_params(void *at, OSSL_PARAM params[])
{
	const struct key *key = at;
	const struct {
		const char *name;
		int value;
	} numbers[] = {
		{OSSL_PKEY_PARAM_BITS, key->is_hybrid ? 768 : X25519_BITS},
		{OSSL_PKEY_PARAM_SECURITY_BITS,
			key->is_hybrid ? MLKEM_SECURITY_BITS : X25519_SECURITY_BITS},
		{OSSL_PKEY_PARAM_MAX_SIZE, key->is_hybrid ? HYBRID_WRAPPED_BYTES : TLS_X25519_BYTES},
	};
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		OSSL_PARAM *to = OSSL_PARAM_locate(params, numbers[i].name);
		if (to != NULL && OSSL_PARAM_set_int(to, numbers[i].value) != 1)
			return 0;
	}
	OSSL_PARAM *share = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
	return share == NULL || get_public(key, share);
}

static const OSSL_PARAM *gettable_params(void *context)
{
	static const OSSL_PARAM gettable[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
		OSSL_PARAM_END,
	};
	return gettable;
}

#define KEY_FUNCTIONS(new, gen_init)                                                               \
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_NEW, new),                                         \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GEN_INIT, gen_init),                       \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, gen_set_params),           \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, gen_settable_params), \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GEN, gen),                                 \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GEN_CLEANUP, gen_cleanup),                 \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_FREE, key_free),                           \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_DUP, key_dup),                             \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_HAS, key_has),                             \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_MATCH, key_match),                         \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_VALIDATE, key_validate),                   \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_SET_PARAMS, set_params),                   \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, settable_params),         \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GET_PARAMS, get_params),                   \
		TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, gettable_params),         \
		OSSL_DISPATCH_END

const OSSL_DISPATCH tls_x25519_key_functions[] = {KEY_FUNCTIONS(x25519_new, x25519_gen_init)};
const OSSL_DISPATCH tls_hybrid_key_functions[] = {KEY_FUNCTIONS(hybrid_new, hybrid_gen_init)};

/* ---- key exchange ---- */

/* OpenSSL keeps both keys as long as the exchange. */
struct exchange {
	struct tls_provider *provider;
	const struct key *ours, *theirs;
};

static void *exchange_new(void *context)
{
	struct exchange *x = OPENSSL_zalloc(sizeof *x);
	if (x != NULL)
		x->provider = context;
	return x;
}

static void exchange_free(void *at)
{
	OPENSSL_free(at);
}

static int exchange_init(void *at, void *key, const OSSL_PARAM params[])
{
	struct exchange *x = at;
	x->ours = key;
	x->theirs = NULL;
	return x->ours != NULL && x->ours->has_secret;
}

static int exchange_set_peer(void *at, void *key)
{
	struct exchange *x = at;
	x->theirs = key;
	return x->theirs != NULL && x->theirs->has_public;
}

static int exchange_derive(void *at, unsigned char *secret, size_t *n, size_t room)
{
	const struct exchange *x = at;
	*n = TLS_X25519_BYTES;
	if (secret == NULL)
		return 1;
	return x->ours != NULL && x->theirs != NULL && room >= TLS_X25519_BYTES &&
		tls_offload_x25519(x->provider->offload, x->ours->secret, x->theirs->public, secret);
}

const OSSL_DISPATCH tls_x25519_exchange_functions[] = {
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYEXCH_NEWCTX, exchange_new),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYEXCH_FREECTX, exchange_free),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYEXCH_INIT, exchange_init),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYEXCH_SET_PEER, exchange_set_peer),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEYEXCH_DERIVE, exchange_derive),
	OSSL_DISPATCH_END,
};

/* ---- the hybrid's encapsulation: ML-KEM's part first, in shares and in the secret ---- */

static int encapsulate_init(void *at, void *key, const OSSL_PARAM params[])
{
	struct exchange *x = at;
	x->theirs = key;
	return x->theirs != NULL && x->theirs->has_public;
}

static int encapsulate(
	void *at, unsigned char *wrapped, size_t *wrapped_n, unsigned char *secret, size_t *secret_n)
{
	const struct exchange *x = at;
	uint8_t ephemeral[TLS_X25519_BYTES];
	size_t n = MLKEM_WRAPPED_BYTES, shared_n = MLKEM_SECRET_BYTES;
	bool is_room = wrapped != NULL && *wrapped_n >= HYBRID_WRAPPED_BYTES &&
		*secret_n >= HYBRID_SECRET_BYTES;
	*wrapped_n = HYBRID_WRAPPED_BYTES;
	*secret_n = HYBRID_SECRET_BYTES;
	if (wrapped == NULL)
		return 1;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(
		x->provider->openssl, x->theirs->mlkem, OPENSSLS_OWN);
	bool is_done = is_room && ctx != NULL && EVP_PKEY_encapsulate_init(ctx, NULL) == 1 &&
		EVP_PKEY_encapsulate(ctx, wrapped, &n, secret, &shared_n) == 1 &&
		tls_offload_x25519_key(
			x->provider->offload, ephemeral, wrapped + MLKEM_WRAPPED_BYTES) &&
		tls_offload_x25519(x->provider->offload, ephemeral, x->theirs->public,
			secret + MLKEM_SECRET_BYTES);
	OPENSSL_cleanse(ephemeral, sizeof ephemeral);
	EVP_PKEY_CTX_free(ctx);
	return is_done;
}

static int decapsulate_init(void *at, void *key, const OSSL_PARAM params[])
{
	return exchange_init(at, key, params);
}

static int decapsulate(void *at, unsigned char *secret, size_t *secret_n,
	const unsigned char *wrapped, size_t wrapped_n)
{
	const struct exchange *x = at;
	size_t n = MLKEM_SECRET_BYTES;
	if (secret == NULL) {
		*secret_n = HYBRID_SECRET_BYTES;
		return 1;
	}
	if (wrapped_n != HYBRID_WRAPPED_BYTES || *secret_n < HYBRID_SECRET_BYTES)
		return 0;
	*secret_n = HYBRID_SECRET_BYTES;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(
		x->provider->openssl, x->ours->mlkem, OPENSSLS_OWN);
	bool is_done = ctx != NULL && EVP_PKEY_decapsulate_init(ctx, NULL) == 1 &&
		EVP_PKEY_decapsulate(ctx, secret, &n, wrapped, MLKEM_WRAPPED_BYTES) == 1 &&
		tls_offload_x25519(x->provider->offload, x->ours->secret,
			wrapped + MLKEM_WRAPPED_BYTES, secret + MLKEM_SECRET_BYTES);
	EVP_PKEY_CTX_free(ctx);
	return is_done;
}

const OSSL_DISPATCH tls_hybrid_kem_functions[] = {
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEM_NEWCTX, exchange_new),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEM_FREECTX, exchange_free),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEM_ENCAPSULATE_INIT, encapsulate_init),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEM_ENCAPSULATE, encapsulate),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEM_DECAPSULATE_INIT, decapsulate_init),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_KEM_DECAPSULATE, decapsulate),
	OSSL_DISPATCH_END,
};

/* ---- what libssl wants to know of a group (provider-base(7), TLS-GROUP) ---- */

struct group {
	const char *name, *name_internal;
	unsigned id, security_bits, is_kem;
	int tls_min, tls_max, dtls_min, dtls_max;
};

static int tell_group(const struct group *g, OSSL_CALLBACK *tell, void *user)
{
	const OSSL_PARAM params[] = {
		OSSL_PARAM_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME, (char *)g->name, strlen(g->name)),
		OSSL_PARAM_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL,
			(char *)g->name_internal, strlen(g->name_internal)),
		OSSL_PARAM_utf8_string(OSSL_CAPABILITY_TLS_GROUP_ALG, (char *)g->name_internal,
			strlen(g->name_internal)),
		OSSL_PARAM_uint(OSSL_CAPABILITY_TLS_GROUP_ID, (unsigned *)&g->id),
		OSSL_PARAM_uint(
			OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS, (unsigned *)&g->security_bits),
		OSSL_PARAM_int(OSSL_CAPABILITY_TLS_GROUP_MIN_TLS, (int *)&g->tls_min),
		OSSL_PARAM_int(OSSL_CAPABILITY_TLS_GROUP_MAX_TLS, (int *)&g->tls_max),
		OSSL_PARAM_int(OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS, (int *)&g->dtls_min),
		OSSL_PARAM_int(OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS, (int *)&g->dtls_max),
		OSSL_PARAM_uint(OSSL_CAPABILITY_TLS_GROUP_IS_KEM, (unsigned *)&g->is_kem),
		OSSL_PARAM_END,
	};
	return tell(params, user);
}

int tls_provider_tell_groups(OSSL_CALLBACK *tell, void *user)
{
	static const struct group groups[] = {
		{"x25519", "X25519", 0x001d, X25519_SECURITY_BITS, 0, 0x0301, 0, -1, -1},
		{"X25519MLKEM768", "X25519MLKEM768", 0x11ec, MLKEM_SECURITY_BITS, 1, 0x0304, 0, -1, -1},
	};
	for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
		if (tell_group(&groups[i], tell, user) != 1)
			return 0;
	return 1;
}
