// SPDX-License-Identifier: Apache-2.0
/* tls/provider/provider_private.h: what the algorithms of the provider share. */
#pragma once

#include "tls/provider/provider.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>

/* What OpenSSL hands to each algorithm as `provctx`. */
struct tls_provider {
	OSSL_LIB_CTX *openssl; /* the library context it is loaded in */
	struct tls_offload *offload;
};

/* A table of functions that OpenSSL calls by number casts each; this keeps the type right. */
#define TLS_PROVIDER_FUNCTION(number, function) {number, (void (*)(void))(function)}

/* ---- the algorithms, each in the file of its name ---- */
extern const OSSL_DISPATCH tls_kdf_tls13_functions[], tls_mac_hmac_functions[];
extern const OSSL_DISPATCH tls_x25519_key_functions[], tls_x25519_exchange_functions[],
	tls_hybrid_key_functions[], tls_hybrid_kem_functions[], tls_rsa_key_functions[],
	tls_rsa_signature_functions[];
/* libssl takes a group only from the provider that has its algorithm. */
int tls_provider_tell_groups(OSSL_CALLBACK *tell, void *user);
