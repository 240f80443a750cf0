// SPDX-License-Identifier: Apache-2.0
#include "tls/provider/provider_private.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>

#define NAME	 "hikyaku"
#define SCHEDULE "provider=hikyaku,hikyaku.part=schedule"

/* ---- what is offered ---- */

static const OSSL_ALGORITHM kdfs[] = {
	{"TLS13-KDF", SCHEDULE, tls_kdf_tls13_functions, "RFC 8446 7.1"},
	{},
};

static const OSSL_ALGORITHM macs[] = {
	{"HMAC", SCHEDULE, tls_mac_hmac_functions, "RFC 2104"},
	{},
};

#define KEY	"provider=hikyaku,hikyaku.key=yes"
#define OFFLOAD "provider=hikyaku,hikyaku.offload=yes"

/* Of equals OpenSSL takes either, so that each has a property that somebody asks for, or asks not to have. RSA keys
 * are preferred by nobody: those of peers stay with the default provider, which verifies. Signing is, and takes the key
 * along. */
static const OSSL_ALGORITHM keys[] = {
	{"X25519", OFFLOAD, tls_x25519_key_functions, "RFC 7748"},
	{"X25519MLKEM768", OFFLOAD, tls_hybrid_key_functions, "draft-ietf-tls-ecdhe-mlkem"},
	{"RSA:rsaEncryption:1.2.840.113549.1.1.1", KEY, tls_rsa_key_functions, "RFC 8017"},
	{},
};

static const OSSL_ALGORITHM exchanges[] = {
	{"X25519", OFFLOAD, tls_x25519_exchange_functions, "RFC 7748"},
	{},
};

static const OSSL_ALGORITHM kems[] = {
	{"X25519MLKEM768", OFFLOAD, tls_hybrid_kem_functions, "draft-ietf-tls-ecdhe-mlkem"},
	{},
};

static const OSSL_ALGORITHM signatures[] = {
	{"RSA:rsaEncryption:1.2.840.113549.1.1.1", OFFLOAD, tls_rsa_signature_functions, "RFC 8017"},
	{},
};

static const OSSL_ALGORITHM *query(void *context, int operation, int *is_not_to_cache)
{
	*is_not_to_cache = 0;
	switch (operation) {
	case OSSL_OP_KDF: return kdfs;
	case OSSL_OP_MAC: return macs;
	case OSSL_OP_KEYMGMT: return keys;
	case OSSL_OP_KEYEXCH: return exchanges;
	case OSSL_OP_KEM: return kems;
	case OSSL_OP_SIGNATURE: return signatures;
	default: return NULL;
	}
}

/* ---- the provider itself ---- */

static const OSSL_PARAM *gettable_params(void *context)
{
	static const OSSL_PARAM gettable[] = {
		OSSL_PARAM_DEFN(OSSL_PROV_PARAM_NAME, OSSL_PARAM_UTF8_PTR, NULL, 0),
		OSSL_PARAM_DEFN(OSSL_PROV_PARAM_STATUS, OSSL_PARAM_INTEGER, NULL, 0),
		OSSL_PARAM_END,
	};
	return gettable;
}

static int get_params(void *context, OSSL_PARAM params[])
{
	OSSL_PARAM *name = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_NAME);
	OSSL_PARAM *status = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
	return (name == NULL || OSSL_PARAM_set_utf8_ptr(name, NAME) == 1) &&
		(status == NULL || OSSL_PARAM_set_int(status, 1) == 1);
}

static int get_capabilities(void *context, const char *which, OSSL_CALLBACK *tell, void *user)
{
	return OPENSSL_strcasecmp(which, "TLS-GROUP") != 0 || tls_provider_tell_groups(tell, user);
}

static void teardown(void *context)
{
	free(context);
}

static const OSSL_DISPATCH functions[] = {
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_PROVIDER_TEARDOWN, teardown),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, gettable_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_PROVIDER_GET_PARAMS, get_params),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query),
	TLS_PROVIDER_FUNCTION(OSSL_FUNC_PROVIDER_GET_CAPABILITIES, get_capabilities),
	OSSL_DISPATCH_END,
};

/* OpenSSL's functions for providers that are not linked with it are of no use to us, but for the one
 * that tells the library context. */
static int init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
	const OSSL_DISPATCH **ours, void **context)
{
	OSSL_FUNC_core_get_libctx_fn *get_libctx = NULL;
	for (; core->function_id != 0; core++)
		if (core->function_id == OSSL_FUNC_CORE_GET_LIBCTX)
			get_libctx = OSSL_FUNC_core_get_libctx(core);
	struct tls_provider *provider = calloc(1, sizeof *provider);
	if (provider == NULL || get_libctx == NULL) {
		free(provider);
		return 0;
	}
	/* Allowed to providers that are built in (provider-base(7)). */
	provider->openssl = (OSSL_LIB_CTX *)get_libctx(handle);
	*ours = functions;
	*context = provider;
	return 1;
}

OSSL_PROVIDER *tls_provider_load(OSSL_LIB_CTX *openssl, struct tls_offload *offload)
{
	if (OSSL_PROVIDER_add_builtin(openssl, NAME, init) != 1)
		return NULL;
	OSSL_PROVIDER *provider = OSSL_PROVIDER_load(openssl, NAME);
	if (provider != NULL)
		((struct tls_provider *)OSSL_PROVIDER_get0_provider_ctx(provider))->offload = offload;
	if (provider != NULL && EVP_set_default_properties(openssl, TLS_PROVIDER_DEFAULTS) != 1) {
		OSSL_PROVIDER_unload(provider);
		return NULL;
	}
	return provider;
}

void tls_provider_prepare(OSSL_LIB_CTX *openssl, EVP_PKEY *key)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	if (ctx != NULL)
		EVP_DigestSignInit_ex(ctx, NULL, "SHA256", openssl, TLS_PROVIDER_OFFLOAD, key, NULL);
	EVP_MD_CTX_free(ctx);
}
