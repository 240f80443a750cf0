// SPDX-License-Identifier: Apache-2.0
/* tls/provider/provider_private.h: what the algorithms of the provider share. */
#pragma once

#include "tls/provider/provider.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>

/* What OpenSSL hands to each algorithm as `provctx`. */
struct tls_provider {
	OSSL_LIB_CTX *openssl; /* the library context it is loaded in */
};

/* A table of functions that OpenSSL calls by number casts each; this keeps the type right. */
#define TLS_PROVIDER_FUNCTION(number, function) {number, (void (*)(void))(function)}

/* ---- the algorithms, each in the file of its name ---- */
extern const OSSL_DISPATCH tls_kdf_tls13_functions[];
