// SPDX-License-Identifier: Apache-2.0
/* tls/chain.c: the certificates of a server set, and which of them answer to a name. */
#include "tls/tls_private.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- one chain ---- */

static void leaf_label(X509 *leaf, size_t index, char *to, size_t size)
{
	char name[64] = "";
	if (leaf != NULL)
		X509_NAME_get_text_by_NID(
			X509_get_subject_name(leaf), NID_commonName, name, sizeof name);
	snprintf(to, size, "certificate %zu%s%s%s", index + 1, name[0] ? " (" : "", name,
		name[0] ? ")" : "");
}

static X509 *read_certificate(BIO *from, OSSL_LIB_CTX *openssl)
{
	X509 *x = X509_new_ex(openssl, NULL);
	if (x != NULL && PEM_read_bio_X509(from, &x, tls_no_password, NULL) != NULL)
		return x;
	X509_free(x);
	return NULL;
}

static bool read_chain(BIO *from, OSSL_LIB_CTX *openssl, struct tls_chain *chain)
{
	chain->leaf = read_certificate(from, openssl);
	chain->rest = sk_X509_new_null();
	if (chain->leaf == NULL || chain->rest == NULL)
		return false;
	X509 *next;
	while ((next = read_certificate(from, openssl)) != NULL)
		if (sk_X509_push(chain->rest, next) == 0) {
			X509_free(next);
			return false;
		}
	/* Past the last block PEM says "no start line"; anything else is a damaged block. */
	bool is_at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	if (is_at_end)
		ERR_clear_error();
	return is_at_end;
}

static const char *load(struct tls_lib *lib, SSL_CTX *judge, const struct tls_key_pair *pair,
	struct tls_chain *chain)
{
	BIO *certificates = BIO_new_mem_buf(pair->chain_pem.at, (int)pair->chain_pem.n);
	BIO *key = BIO_new_mem_buf(pair->key_pem.at, (int)pair->key_pem.n);
	const char *what = NULL;
	if (certificates == NULL || key == NULL)
		what = "no memory";
	else if (!read_chain(certificates, lib->openssl, chain))
		what = "its chain is not PEM certificates";
	else if ((chain->key = PEM_read_bio_PrivateKey_ex(
			  key, NULL, tls_no_password, NULL, lib->openssl, NULL)) == NULL)
		what = "its private key cannot be read (it must be PEM and not encrypted)";
	else if ((what = tls_key_unusable(chain->key)) != NULL)
		chain->is_rsa = false;
	else if (X509_check_private_key(chain->leaf, chain->key) != 1)
		what = "the private key does not belong to its leaf";
	else if (SSL_CTX_use_cert_and_key(judge, chain->leaf, chain->key, chain->rest, 1) != 1)
		what = tls_openssl_reason("OpenSSL refuses it");
	else
		chain->is_rsa = EVP_PKEY_is_a(chain->key, "RSA");
	BIO_free(certificates);
	BIO_free(key);
	ERR_clear_error();
	return what;
}

SSL_CTX *tls_chain_judge_create(struct tls_lib *lib)
{
	SSL_CTX *judge = SSL_CTX_new_ex(lib->openssl, NULL, TLS_server_method());
	if (judge != NULL)
		SSL_CTX_set_security_level(judge, 2);
	return judge;
}

bool tls_chain_load(struct tls_lib *lib, SSL_CTX *judge, const struct tls_key_pair *pair,
	size_t index, struct tls_chain *chain, struct tls_error *error)
{
	*chain = (struct tls_chain){0};
	const char *what = load(lib, judge, pair, chain);
	if (what == NULL)
		return true;
	char label[128];
	leaf_label(chain->leaf, index, label, sizeof label);
	tls_error_set(error, "%s: %s", label, what);
	tls_chain_fini(chain);
	return false;
}

void tls_chain_fini(struct tls_chain *chain)
{
	X509_free(chain->leaf);
	EVP_PKEY_free(chain->key);
	sk_X509_pop_free(chain->rest, X509_free);
	*chain = (struct tls_chain){0};
}

/* ---- names ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct tls_name *)a)->name, ((const struct tls_name *)b)->name);
}

/* Lower case, a last dot dropped; false: no host name (empty, too long, a NUL inside). */
static bool canonical(struct bytes name, char to[TLS_HOST_BYTES_MAX + 1])
{
	if (name.n != 0 && name.at[name.n - 1] == '.')
		name.n--;
	if (name.n == 0 || name.n > TLS_HOST_BYTES_MAX || bytes_find(name, '\0') != name.n)
		return false;
	for (size_t i = 0; i < name.n; i++)
		to[i] = (char)byte_lower(name.at[i]);
	to[name.n] = '\0';
	return true;
}

static void set_place(struct tls_name *name, const struct tls_chain *chain, uint32_t place)
{
	uint32_t *slot = chain->is_rsa ? &name->rsa : &name->ecdsa;
	if (*slot == TLS_CHAIN_NONE)
		*slot = place;
}

static bool names_grow(struct tls_names *names)
{
	if (names->count < names->room)
		return true;
	size_t room = names->room == 0 ? 16 : names->room * 2;
	struct tls_name *at = reallocarray(names->at, room, sizeof *at);
	if (at == NULL)
		return false;
	names->at = at;
	names->room = room;
	return true;
}

static bool add_name(
	struct tls_names *names, struct bytes text, const struct tls_chain *chain, uint32_t place)
{
	char name[TLS_HOST_BYTES_MAX + 1];
	if (!canonical(text, name))
		return true;
	if (!names_grow(names))
		return false;
	struct tls_name *entry = &names->at[names->count];
	*entry = (struct tls_name){strdup(name), TLS_CHAIN_NONE, TLS_CHAIN_NONE};
	if (entry->name == NULL)
		return false;
	set_place(entry, chain, place);
	names->count++;
	return true;
}

static bool add_common_name(struct tls_names *names, const struct tls_chain *chain, uint32_t place)
{
	char cn[TLS_HOST_BYTES_MAX + 1];
	int n = X509_NAME_get_text_by_NID(
		X509_get_subject_name(chain->leaf), NID_commonName, cn, sizeof cn);
	return n <= 0 || add_name(names, bytes_of(cn, (size_t)n), chain, place);
}

static bool add_chain(struct tls_names *names, const struct tls_chain *chain, uint32_t place)
{
	GENERAL_NAMES *alt = X509_get_ext_d2i(chain->leaf, NID_subject_alt_name, NULL, NULL);
	bool is_added = true, has_name = false;
	for (int i = 0; is_added && i < sk_GENERAL_NAME_num(alt); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(alt, i);
		if (name->type != GEN_DNS)
			continue;
		has_name = true;
		is_added = add_name(names,
			bytes_of(ASN1_STRING_get0_data(name->d.dNSName),
				(size_t)ASN1_STRING_length(name->d.dNSName)),
			chain, place);
	}
	GENERAL_NAMES_free(alt);
	return is_added && (has_name || add_common_name(names, chain, place));
}

/* Names of several chains come together in one entry; of one kind the first chain stays. */
static void merge_equal_names(struct tls_names *names)
{
	size_t kept = 0;
	qsort(names->at, names->count, sizeof *names->at, compare_names);
	for (size_t i = 0; i < names->count; i++) {
		struct tls_name *next = &names->at[i];
		struct tls_name *last = kept == 0 ? NULL : &names->at[kept - 1];
		if (last == NULL || strcmp(last->name, next->name) != 0) {
			names->at[kept++] = *next;
			continue;
		}
		last->ecdsa = next->ecdsa < last->ecdsa ? next->ecdsa : last->ecdsa;
		last->rsa = next->rsa < last->rsa ? next->rsa : last->rsa;
		free(next->name);
	}
	names->count = kept;
}

/* The default is the first chain, and of the other kind the first that shares a name with it. */
static void choose_unnamed(struct tls_names *names, const struct tls_chain *chains)
{
	names->unnamed = (struct tls_name){NULL, TLS_CHAIN_NONE, TLS_CHAIN_NONE};
	set_place(&names->unnamed, &chains[0], 0);
	for (size_t i = 0; i < names->count; i++) {
		const struct tls_name *name = &names->at[i];
		if (chains[0].is_rsa && name->rsa == 0 && name->ecdsa < names->unnamed.ecdsa)
			names->unnamed.ecdsa = name->ecdsa;
		if (!chains[0].is_rsa && name->ecdsa == 0 && name->rsa < names->unnamed.rsa)
			names->unnamed.rsa = name->rsa;
	}
}

bool tls_names_build(struct tls_names *names, const struct tls_chain *chains, size_t chain_count)
{
	for (size_t i = 0; i < chain_count; i++)
		if (!add_chain(names, &chains[i], (uint32_t)i))
			return false;
	merge_equal_names(names);
	choose_unnamed(names, chains);
	return true;
}

void tls_names_fini(struct tls_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->at[i].name);
	free(names->at);
	*names = (struct tls_names){0};
}

static const struct tls_name *find(const struct tls_names *names, char *name)
{
	const struct tls_name key = {.name = name};
	return names->count == 0
		? NULL
		: bsearch(&key, names->at, names->count, sizeof *names->at, compare_names);
}

const struct tls_name *tls_names_find(const struct tls_names *names, const char *sni)
{
	char name[TLS_HOST_BYTES_MAX + 1];
	if (sni == NULL || !canonical(bytes_of_string(sni), name))
		return NULL;
	const struct tls_name *found = find(names, name);
	char *rest = strchr(name, '.');
	/* A wildcard stands for exactly the leftmost label (RFC 9525 6.3). */
	if (found != NULL || rest == NULL || rest == name)
		return found;
	*--rest = '*';
	return find(names, rest);
}
