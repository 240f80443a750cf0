// SPDX-License-Identifier: Apache-2.0
#include "tls/tls_private.h"

#include "tls/provider/provider.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

/* ---- both kinds ---- */

static void set_free(struct tls_set *set)
{
	for (size_t i = 0; i < set->profile_count && set->contexts != NULL; i++)
		SSL_CTX_free(set->contexts[i]);
	free(set->contexts);
	free(set->policies);
	free(set->profiles);
	for (size_t i = 0; i < set->profile_count && set->stores != NULL; i++)
		X509_STORE_free(set->stores[i]);
	free(set->stores);
	for (size_t i = 0; i < set->chain_count && set->chains != NULL; i++)
		tls_chain_fini(&set->chains[i]);
	free(set->chains);
	tls_names_fini(&set->names);
	tls_lib_put(set->lib);
	free(set);
}

void tls_set_release(struct tls_set *set)
{
	if (set->is_put && set->sessions == 0)
		set_free(set);
}

static struct tls_set *set_create(struct tls_lib *lib, bool is_server, enum tls_backend backend,
	const struct tls_profile *profiles, size_t profile_count, struct tls_error *error)
{
	static_assert(sizeof(struct tls_server_set) == sizeof(struct tls_set),
		"they are the same inside");
	struct tls_set *set = calloc(1, sizeof *set);
	tls_error_set(error, "no memory for TLS contexts");
	if (set == NULL)
		return NULL;
	set->lib = lib;
	lib->references++;
	set->is_server = is_server;
	set->backend = tls_backend_unusable(lib, backend) == NULL ? backend : TLS_BACKEND_INLINE;
	set->profile_count = profile_count;
	set->profiles = calloc(profile_count + 1, sizeof *profiles);
	set->contexts = calloc(profile_count + 1, sizeof(SSL_CTX *));
	set->stores = calloc(profile_count + 1, sizeof(X509_STORE *));
	set->policies = calloc(profile_count + 1, sizeof *set->policies);
	if (set->profiles == NULL || set->contexts == NULL || set->stores == NULL || set->policies == NULL) {
		set_free(set);
		return NULL;
	}
	if (profile_count != 0)
		memcpy(set->profiles, profiles, profile_count * sizeof *profiles);
	return set;
}

/* ---- roots ---- */

/* What the profiles trust: each its own, or else what all share. */
struct roots {
	struct bytes shared;
	const struct bytes *own; /* by profile; NULL: none has its own */
};

static struct bytes roots_pem(const struct roots *roots, size_t profile)
{
	bool is_own = roots->own != NULL && roots->own[profile].n != 0;
	return is_own ? roots->own[profile] : roots->shared;
}

static bool is_same_text(struct bytes a, struct bytes b)
{
	return a.n == b.n && (a.at == b.at || bytes_equal(a, b));
}

/* The store of the same text that an earlier profile has; NULL: none. */
static X509_STORE *find_store(
	const struct tls_set *set, const struct roots *roots, size_t profile)
{
	struct bytes pem = roots_pem(roots, profile);
	for (size_t i = 0; i < profile; i++)
		if (set->stores[i] != NULL && is_same_text(roots_pem(roots, i), pem))
			return set->stores[i];
	return NULL;
}

/* Does any profile depend on the system's roots? */
static bool is_system_needed(const struct tls_set *set, const struct roots *roots)
{
	for (size_t i = 0; i < set->profile_count; i++)
		if (roots_pem(roots, i).n == 0 &&
			tls_profile_enforces_trust(&set->profiles[i], set->is_server))
			return true;
	return false;
}

static X509_STORE *load_store(const struct tls_set *set, const struct roots *roots, size_t profile,
	struct tls_error *error)
{
	struct bytes pem = roots_pem(roots, profile);
	struct tls_error reason = {""};
	X509_STORE *store = tls_store_create(set->lib, pem, &reason);
	if (store != NULL)
		return store;
	if (roots->own != NULL && roots->own[profile].n != 0)
		tls_error_set(error, "profile %s: %.160s", set->profiles[profile].id, reason.text);
	else
		*error = reason;
	/* Where nothing depends on trust, a host without roots still relays; the records say
	 * untrusted. */
	return pem.n != 0 || is_system_needed(set, roots) ? NULL : X509_STORE_new();
}

/* Profiles of the same text share a store: a bundle takes milliseconds to read. */
static bool set_load_stores(
	struct tls_set *set, const struct roots *roots, struct tls_error *error)
{
	for (size_t i = 0; i < set->profile_count; i++) {
		if (!tls_profile_asks_for_certificate(&set->profiles[i], set->is_server))
			continue;
		X509_STORE *store = find_store(set, roots, i);
		if (store != NULL)
			X509_STORE_up_ref(store);
		else
			store = load_store(set, roots, i, error);
		if (store == NULL)
			return false;
		set->stores[i] = store;
	}
	return true;
}

/* A session is resumed only under what it was made under: where certificates are looked at that is the whole
 * profile and the roots they are checked against. */
static bool set_policy(struct tls_set *set, size_t profile, struct bytes ca_pem)
{
	const struct tls_profile *p = &set->profiles[profile];
	unsigned char digest[EVP_MAX_MD_SIZE] = {0};
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool is_done = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
		EVP_DigestUpdate(md, p->id, strnlen(p->id, sizeof p->id)) == 1 &&
		EVP_DigestUpdate(md, &p->client_cert, 1) == 1 &&
		EVP_DigestUpdate(md, &p->level, 1) == 1;
	if (is_done && tls_profile_asks_for_certificate(p, set->is_server))
		is_done = EVP_DigestUpdate(md, p->names, sizeof p->names) == 1 &&
			EVP_DigestUpdate(md, ca_pem.at, ca_pem.n) == 1;
	is_done = is_done && EVP_DigestFinal_ex(md, digest, NULL) == 1;
	EVP_MD_CTX_free(md);
	memcpy(set->policies[profile], digest, TLS_POLICY_BYTES);
	return is_done;
}

/* ---- both, to the end ---- */

typedef SSL_CTX *context_maker(struct tls_set *set, size_t profile, struct tls_error *error);

/* Gives a set that has all else its stores and contexts, and takes it away if something failed; `set` may be
 * NULL for what failed before. */
static struct tls_set *set_finish(struct tls_set *set, bool is_made, const struct roots *roots,
	context_maker *make, struct tls_error *error)
{
	is_made = is_made && set_load_stores(set, roots, error);
	for (size_t i = 0; is_made && i < set->profile_count; i++) {
		if (set_policy(set, i, roots_pem(roots, i)))
			set->contexts[i] = make(set, i, error);
		is_made = set->contexts[i] != NULL;
	}
	ERR_clear_error();
	if (is_made)
		error->text[0] = '\0';
	else if (set != NULL)
		set_free(set);
	return is_made ? set : NULL;
}

static void set_put(struct tls_set *set)
{
	if (set == NULL)
		return;
	set->is_put = true;
	tls_set_release(set);
}

/* ---- server sets ---- */

/* Called when the ClientHello is read and the handshake is not a resumed one: takes the chains of
 * the name asked for. A handshake for the default name keeps what the SSL_CTX has. */
static int certificate_wanted(SSL *ssl, void *user)
{
	const struct tls_set *set = user;
	const struct tls_name *name =
		tls_names_find(&set->names, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
	const struct tls_name *unnamed = &set->names.unnamed;
	if (name == NULL || (name->ecdsa == unnamed->ecdsa && name->rsa == unnamed->rsa))
		return 1;
	SSL_certs_clear(ssl);
	const uint32_t wanted[] = {name->ecdsa, name->rsa};
	for (int i = 0; i < 2; i++) {
		if (wanted[i] == TLS_CHAIN_NONE)
			continue;
		const struct tls_chain *chain = &set->chains[wanted[i]];
		if (SSL_use_cert_and_key(ssl, chain->leaf, chain->key, chain->rest, 1) != 1)
			return 0;
	}
	return 1;
}

/* Acknowledges the names we know (RFC 6066 3); others get the default chain without a word. */
static int server_name_asked(SSL *ssl, int *alert, void *user)
{
	const struct tls_set *set = user;
	const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	return tls_names_find(&set->names, sni) != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static bool use_chain(SSL_CTX *ctx, const struct tls_set *set, uint32_t index)
{
	if (index == TLS_CHAIN_NONE)
		return true;
	const struct tls_chain *chain = &set->chains[index];
	return SSL_CTX_use_cert_and_key(ctx, chain->leaf, chain->key, chain->rest, 1) == 1;
}

static SSL_CTX *server_context(struct tls_set *set, size_t index, struct tls_error *error)
{
	const struct tls_profile *profile = &set->profiles[index];
	SSL_CTX *ctx = tls_context_create(set, profile, set->stores[index], error);
	if (ctx == NULL)
		return NULL;
	if (!use_chain(ctx, set, set->names.unnamed.ecdsa) ||
		!use_chain(ctx, set, set->names.unnamed.rsa) ||
		SSL_CTX_set_session_id_context(ctx, set->policies[index], TLS_POLICY_BYTES) != 1) {
		tls_error_set(error, "profile %s: %s", profile->id,
			tls_openssl_reason("the default certificate cannot be used"));
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_cert_cb(ctx, certificate_wanted, set);
	SSL_CTX_set_tlsext_servername_callback(ctx, server_name_asked);
	SSL_CTX_set_tlsext_servername_arg(ctx, set);
	return ctx;
}

static bool server_load_chains(
	struct tls_set *set, const struct tls_server_set_config *config, struct tls_error *error)
{
	if (config->pair_count == 0) {
		tls_error_set(error, "a TLS server needs a certificate and has none");
		return false;
	}
	set->chains = calloc(config->pair_count, sizeof *set->chains);
	if (set->chains == NULL)
		return false;
	SSL_CTX *judge = tls_chain_judge_create(set->lib);
	bool is_loaded = judge != NULL;
	for (size_t i = 0; is_loaded && i < config->pair_count; i++) {
		is_loaded = tls_chain_load(
			set->lib, judge, &config->pairs[i], i, &set->chains[i], error);
		set->chain_count += is_loaded;
		if (is_loaded && set->chains[i].is_rsa && set->backend != TLS_BACKEND_INLINE)
			tls_provider_prepare(set->lib->openssl, set->chains[i].key);
	}
	SSL_CTX_free(judge);
	if (!is_loaded)
		return false;
	if (tls_names_build(&set->names, set->chains, set->chain_count))
		return true;
	tls_error_set(error, "no memory for certificate names");
	return false;
}

struct tls_server_set *tls_server_set_create(
	struct tls_lib *lib, const struct tls_server_set_config *config, struct tls_error *error)
{
	struct tls_set *set = set_create(
		lib, true, config->backend, config->profiles, config->profile_count, error);
	const struct roots roots = {config->client_ca_pem, config->profile_ca_pem};
	bool is_loaded = set != NULL && server_load_chains(set, config, error);
	return (struct tls_server_set *)set_finish(set, is_loaded, &roots, server_context, error);
}

void tls_server_set_put(struct tls_server_set *set)
{
	set_put((struct tls_set *)set);
}

size_t tls_server_set_sessions(const struct tls_server_set *set)
{
	return set->set.sessions;
}

/* ---- client sets ---- */

static SSL_CTX *client_context(struct tls_set *set, size_t profile, struct tls_error *error)
{
	return tls_context_create(set, &set->profiles[profile], set->stores[profile], error);
}

struct tls_client_set *tls_client_set_create(
	struct tls_lib *lib, const struct tls_client_set_config *config, struct tls_error *error)
{
	struct tls_set *set = set_create(
		lib, false, config->backend, config->profiles, config->profile_count, error);
	const struct roots roots = {config->ca_pem, config->profile_ca_pem};
	return (struct tls_client_set *)set_finish(set, set != NULL, &roots, client_context, error);
}

void tls_client_set_put(struct tls_client_set *set)
{
	set_put((struct tls_set *)set);
}

size_t tls_client_set_sessions(const struct tls_client_set *set)
{
	return set->set.sessions;
}
