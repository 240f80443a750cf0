// SPDX-License-Identifier: Apache-2.0
/* tls/provider/provider.h: "hikyaku", an OpenSSL provider built into the program. It offers beside the default
 * provider what that does too slowly for us; each algorithm carries a property that says to which part
 * it belongs, so that a context takes what it wants and leaves all else to the default provider:
 *
 *   schedule   the key schedule (TLS13-KDF) and HMAC: whole library contexts prefer it
 *   offload    X25519, X25519MLKEM768 and signing with RSA, whose work goes to the core's tls_offload: contexts
 *              whose back end is not INLINE prefer it
 *
 * One a library context, and so one a core. */
#pragma once

#include <openssl/provider.h>
#include <openssl/types.h>

/* What a library context prefers (EVP_set_default_properties): as its default it is looked at once an
 * algorithm, while a query of an SSL_CTX is hashed again at each fetch. An algorithm without a property has it
 * as "no". */
#define TLS_PROVIDER_DEFAULTS "?hikyaku.part=schedule,?hikyaku.offload=no,?hikyaku.key=no"

/* What an SSL_CTX prefers besides, to use the offload. OpenSSL keeps what was found under the text of the query, also
 * what was found while a peer's key was verified with (the default provider's RSA): so that it is not
 * found where a server signs, a client's text is another one. */
#define TLS_PROVIDER_OFFLOAD	    "?hikyaku.offload=yes"
#define TLS_PROVIDER_OFFLOAD_CLIENT "?hikyaku.offload=yes,?hikyaku.key=no"

/* Adds the provider to `openssl`, which has the default one, and loads it. NULL: no memory. The caller
 * unloads it before the library context is freed, and that before `offload`; where this is NULL, nothing of the
 * offload's part may be used. */
struct tls_offload;
OSSL_PROVIDER *tls_provider_load(OSSL_LIB_CTX *openssl, struct tls_offload *offload);
/* Has a server's RSA key made ready for signing by the offload, which else its first handshake would do. */
void tls_provider_prepare(OSSL_LIB_CTX *openssl, EVP_PKEY *key);
