// SPDX-License-Identifier: Apache-2.0
/* tls/trust.c: whom we trust, and whether a peer is who it should be. */
#include "tls/tls_private.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

/* ---- the roots ---- */

/* Adds every certificate of `from`; returns how many, or -1 if a block is damaged. */
static int store_add_all(X509_STORE *store, BIO *from, OSSL_LIB_CTX *openssl)
{
	for (int count = 0;; count++) {
		X509 *x = X509_new_ex(openssl, NULL);
		if (x == NULL)
			return -1;
		if (PEM_read_bio_X509(from, &x, tls_no_password, NULL) == NULL) {
			bool is_at_end =
				ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
			X509_free(x);
			ERR_clear_error();
			return is_at_end ? count : -1;
		}
		int is_added = X509_STORE_add_cert(store, x);
		X509_free(x);
		if (is_added != 1)
			return -1;
	}
}

static BIO *open_system_roots(void)
{
	/* OpenSSL's own choice first; Debian's bundle; those of other distributions. */
	const char *const paths[] = {
		getenv(X509_get_default_cert_file_env()),
		X509_get_default_cert_file(),
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/cert.pem",
	};
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		BIO *from = paths[i] == NULL ? NULL : BIO_new_file(paths[i], "r");
		if (from != NULL)
			return from;
	}
	return NULL;
}

X509_STORE *tls_store_create(struct tls_lib *lib, struct bytes pem, struct tls_error *error)
{
	bool is_system = pem.n == 0;
	BIO *from = is_system ? open_system_roots() : BIO_new_mem_buf(pem.at, (int)pem.n);
	X509_STORE *store = X509_STORE_new();
	int count = from == NULL || store == NULL ? 0 : store_add_all(store, from, lib->openssl);
	BIO_free(from);
	ERR_clear_error();
	if (count > 0)
		return store;
	X509_STORE_free(store);
	if (is_system)
		tls_error_set(error,
			"the system has no CA certificates (Debian: package ca-certificates)");
	else if (count == 0)
		tls_error_set(error, "the CA set has no PEM certificate in it");
	else
		tls_error_set(error, "the CA set has a damaged certificate in it");
	return NULL;
}

/* ---- names ---- */

/* No part of a label as wildcard, and only subjectAltName counts (RFC 9525 6.3, 2). */
enum { HOST_FLAGS = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT };

static bool is_address(const char *host)
{
	unsigned char binary[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, host, binary) == 1 || inet_pton(AF_INET6, host, binary) == 1;
}

static bool is_named(X509 *leaf, const char *name)
{
	size_t n = strlen(name);
	if (n != 0 && name[n - 1] == '.')
		n--;
	if (n == 0)
		return false;
	if (is_address(name))
		return X509_check_ip_asc(leaf, name, 0) == 1;
	return X509_check_host(leaf, name, n, HOST_FLAGS, NULL) == 1;
}

static bool has_one_of(X509 *leaf, const char names[TLS_NAMES_BYTES_MAX])
{
	/* A list that fills its room has no last empty name: it ends with the room. */
	for (size_t at = 0; at < TLS_NAMES_BYTES_MAX && names[at] != '\0';) {
		size_t n = strnlen(names + at, TLS_NAMES_BYTES_MAX - at);
		if (at + n == TLS_NAMES_BYTES_MAX)
			break;
		if (is_named(leaf, names + at))
			return true;
		at += n + 1;
	}
	return false;
}

enum tls_name_state tls_name_check(X509 *leaf, const struct tls_profile *profile, bool is_server,
	const char *host, const char *domain)
{
	bool is_by_host =
		!is_server && (profile->level == TLS_LEVEL_SECURE || profile->names[0] == '\0');
	bool matches;
	if (is_by_host && profile->level != TLS_LEVEL_SECURE && host[0] == '\0')
		return TLS_NAME_UNASKED;
	if (is_by_host)
		matches = is_named(leaf, host) ||
			is_named(leaf, domain); /* below SECURE only noted */
	else if (profile->level >= TLS_LEVEL_VERIFY && profile->names[0] != '\0')
		matches = has_one_of(leaf, profile->names);
	else
		return TLS_NAME_UNASKED;
	return matches ? TLS_NAME_MATCHES : TLS_NAME_DIFFERS;
}

/* ---- the decision ---- */

bool tls_profile_enforces_name(const struct tls_profile *profile, bool is_server)
{
	if (profile->level == TLS_LEVEL_SECURE && !is_server)
		return true;
	return profile->level >= TLS_LEVEL_VERIFY && profile->names[0] != '\0';
}

int tls_verify_peer(X509_STORE_CTX *store, void *unused)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *tls = tls_of_ssl(ssl);
	bool is_server = tls->set->is_server;
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	bool is_trusted = X509_verify_cert(store) == 1;
	int error = X509_STORE_CTX_get_error(store);
	ERR_clear_error();
	X509_STORE_CTX_set0_verified_chain(store, NULL); /* the session would keep it to its end, and nobody asks */
	tls->has_verified = true;
	tls->trust_error = is_trusted ? X509_V_OK
		: error == X509_V_OK  ? X509_V_ERR_UNSPECIFIED
				      : error;
	tls->name_state = tls_name_check(leaf, tls->profile, is_server, tls->host, tls->domain);
	if (!tls_profile_enforces_trust(tls->profile, is_server))
		return 1;
	bool is_other = tls->name_state == TLS_NAME_DIFFERS &&
		tls_profile_enforces_name(tls->profile, is_server);
	if (is_trusted && !is_other)
		return 1;
	/* The alert to the peer is made from the error kept here. */
	X509_STORE_CTX_set_error(
		store, is_trusted ? X509_V_ERR_HOSTNAME_MISMATCH : tls->trust_error);
	tls->has_refused = true;
	tls->refused_leaf = X509_up_ref(leaf) == 1 ? leaf : NULL;
	return 0;
}

/* ---- the roots of another profile ---- */

/* As OpenSSL sets it up for a handshake (purpose, security level), but over `roots`. */
static int verify_again(const struct tls *tls, X509 *leaf, X509_STORE *roots)
{
	bool is_server = tls->set->is_server;
	int error = X509_V_ERR_OUT_OF_MEM;
	X509_STORE_CTX *store = X509_STORE_CTX_new_ex(tls->set->lib->openssl, NULL);
	if (store != NULL &&
		X509_STORE_CTX_init(store, roots, leaf, SSL_get_peer_cert_chain(tls->ssl)) == 1 &&
		X509_STORE_CTX_set_default(store, is_server ? "ssl_client" : "ssl_server") == 1) {
		X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
		X509_VERIFY_PARAM_set_auth_level(param, SSL_get_security_level(tls->ssl));
		X509_VERIFY_PARAM_set_depth(param, TLS_VERIFY_DEPTH_MAX);
		bool is_trusted = X509_verify_cert(store) == 1;
		error = X509_STORE_CTX_get_error(store);
		if (!is_trusted && error == X509_V_OK)
			error = X509_V_ERR_UNSPECIFIED;
	}
	X509_STORE_CTX_free(store);
	ERR_clear_error();
	return error;
}

int tls_trust_by_profile(
	const struct tls *tls, X509 *leaf, int trust_error, const char *profile_id)
{
	const struct tls_set *set = tls->set;
	size_t at = 0;
	while (at < set->profile_count && strcmp(set->profiles[at].id, profile_id) != 0)
		at++;
	/* Of a later generation, or one that looked at no certificates: its roots are not here. */
	if (at == set->profile_count || set->stores[at] == NULL)
		return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
	if (set->stores[at] == set->stores[tls->profile - set->profiles])
		return trust_error;
	return verify_again(tls, leaf, set->stores[at]);
}
