// SPDX-License-Identifier: Apache-2.0
/* tls/tickets.c: stateless session tickets of a server: encrypted to ourselves under keys that rotate.
 *
 * The keys stand in the library context and not in an SSL_CTX, so that they change without building contexts anew.
 * A new table is handed over as a view of the policy is: the setter puts it into `offered`, the sessions' thread
 * takes it with one exchange at the next ticket, and what it no longer uses goes home over `retired`. */
#include "tls/tls_private.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>

struct tls_ticket_table {
	struct tls_ticket_table *next; /* retired ones */
	struct tls_ticket_keys keys;
};

/* ---- the keys ---- */

/* For whoever is given no others: one process, one key. */
static struct tls_ticket_table process_table;

bool tls_tickets_init_process(void)
{
	struct tls_ticket_key *key = &process_table.keys.at[0];
	process_table.keys.lifetime_seconds = TLS_TICKET_SECONDS;
	process_table.keys.count = 1;
	*key = (struct tls_ticket_key){.until = UINT64_MAX, .end = UINT64_MAX};
	return RAND_priv_bytes(key->name, sizeof key->name) == 1 &&
		RAND_priv_bytes(key->cipher, sizeof key->cipher) == 1 &&
		RAND_priv_bytes(key->mac, sizeof key->mac) == 1;
}

static void table_free(struct tls_ticket_table *table)
{
	if (table == NULL || table == &process_table)
		return;
	OPENSSL_cleanse(table, sizeof *table);
	free(table);
}

static void tables_free(struct tls_ticket_table *first)
{
	while (first != NULL) {
		struct tls_ticket_table *next = first->next;
		table_free(first);
		first = next;
	}
}

bool tls_tickets_init(struct tls_lib *lib)
{
	lib->tickets.current = &process_table;
	lib->tickets.cipher = EVP_CIPHER_fetch(lib->openssl, "AES-256-CBC", NULL);
	return lib->tickets.cipher != NULL;
}

void tls_tickets_fini(struct tls_lib *lib)
{
	table_free(lib->tickets.current);
	table_free(atomic_load(&lib->tickets.offered));
	tables_free(atomic_load(&lib->tickets.retired));
	EVP_CIPHER_free(lib->tickets.cipher);
}

bool tls_lib_set_ticket_keys(struct tls_lib *lib, const struct tls_ticket_keys *keys)
{
	struct tls_ticket_table *table = calloc(1, sizeof *table);
	if (table == NULL)
		return false;
	table->keys = *keys;
	if (table->keys.count > TLS_TICKET_KEYS_MAX)
		table->keys.count = TLS_TICKET_KEYS_MAX;
	/* Release: the sessions' thread reads what was filled in above. Acquire: it has read what is freed. */
	tables_free(atomic_exchange_explicit(&lib->tickets.retired, NULL, memory_order_acquire));
	table_free(atomic_exchange_explicit(&lib->tickets.offered, table, memory_order_acq_rel));
	return true;
}

static void retire(struct tls_lib *lib, struct tls_ticket_table *table)
{
	if (table == &process_table)
		return;
	table->next = atomic_load_explicit(&lib->tickets.retired, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&lib->tickets.retired, &table->next, table,
		memory_order_release, memory_order_relaxed))
		;
}

static const struct tls_ticket_keys *keys_now(struct tls_lib *lib)
{
	/* A plain look first: the exchange would take the cache line for every ticket. */
	if (atomic_load_explicit(&lib->tickets.offered, memory_order_relaxed) != NULL) {
		struct tls_ticket_table *table =
			atomic_exchange_explicit(&lib->tickets.offered, NULL, memory_order_acquire);
		if (table != NULL) {
			retire(lib, lib->tickets.current);
			lib->tickets.current = table;
		}
	}
	return &lib->tickets.current->keys;
}

/* The youngest of those whose time it is: where two parties brought keys of their own, all agree on one. */
static const struct tls_ticket_key *encrypting_key(const struct tls_ticket_keys *keys, uint64_t now)
{
	const struct tls_ticket_key *best = NULL;
	for (uint32_t i = 0; i < keys->count; i++) {
		const struct tls_ticket_key *key = &keys->at[i];
		if (now < key->from || now >= key->until)
			continue;
		if (best == NULL || key->from > best->from ||
			(key->from == best->from &&
				memcmp(key->name, best->name, sizeof key->name) > 0))
			best = key;
	}
	return best;
}

static const struct tls_ticket_key *find_key(
	const struct tls_ticket_keys *keys, const unsigned char *name, uint64_t now)
{
	for (uint32_t i = 0; i < keys->count; i++)
		if (memcmp(keys->at[i].name, name, sizeof keys->at[i].name) == 0 &&
			now < keys->at[i].end)
			return &keys->at[i];
	return NULL;
}

/* ---- OpenSSL's questions ---- */

static bool set_mac(EVP_MAC_CTX *mac, const struct tls_ticket_key *key)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(
			OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac, sizeof key->mac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
		OSSL_PARAM_construct_end(),
	};
	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3). 0: no ticket is made, or a full handshake done; 2: also a new one made. */
static int ticket_keys_wanted(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
	EVP_MAC_CTX *mac, int is_made)
{
	struct tls_lib *lib = tls_of_ssl(ssl)->set->lib;
	const struct tls_ticket_keys *keys = keys_now(lib);
	uint64_t now = tls_ticket_now();
	const struct tls_ticket_key *youngest = encrypting_key(keys, now);
	const struct tls_ticket_key *key = is_made ? youngest : find_key(keys, name, now);
	if (key == NULL)
		return 0;
	if (is_made) {
		memcpy(name, key->name, sizeof key->name);
		if (RAND_bytes_ex(lib->openssl, iv, TLS_TICKET_IV_BYTES, 0) != 1)
			return -1;
	}
	if (EVP_CipherInit_ex2(cipher, lib->tickets.cipher, key->cipher, iv, is_made, NULL) != 1 ||
		!set_mac(mac, key))
		return -1;
	return is_made || key == youngest ? 1 : 2;
}

/* When the handshake was done that every later one resumed, in seconds since 1970; in the ticket. */
static bool get_began(const SSL_SESSION *session, int64_t *began)
{
	void *data;
	size_t n;
	if (SSL_SESSION_get0_ticket_appdata((SSL_SESSION *)session, &data, &n) != 1 || n != sizeof *began)
		return false;
	memcpy(began, data, n);
	return true;
}

/* A ticket is about to be made of the session: how long it is good for. */
static int ticket_begins(SSL *ssl, void *unused)
{
	SSL_SESSION *session = SSL_get_session(ssl);
	int64_t now = (int64_t)time(NULL), began;
	if (!get_began(session, &began)) {
		began = now;
		if (SSL_SESSION_set1_ticket_appdata(session, &began, sizeof began) != 1)
			return 0;
	}
	int64_t left = began + TLS_RESUMED_SECONDS_MAX - now;
	int64_t most = keys_now(tls_of_ssl(ssl)->set->lib)->lifetime_seconds;
	/* A TLS 1.2 session keeps its first time and with it its end. */
	SSL_SESSION_set_timeout(session, (long)(left < 1 ? 1 : left < most ? left : most));
	return 1;
}

static SSL_TICKET_RETURN ticket_read(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t name_n,
	SSL_TICKET_STATUS status, void *unused)
{
	int64_t began;
	if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	/* RFC 8446 4.6.1: tickets got by resuming do not lengthen the life of the first handshake for ever. */
	if (!get_began(session, &began) || (int64_t)time(NULL) - began >= TLS_RESUMED_SECONDS_MAX)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	/* A ticket of TLS 1.3 is used once (RFC 8446 C.4): there is always one to follow. */
	return status == SSL_TICKET_SUCCESS_RENEW || SSL_version(ssl) >= TLS1_3_VERSION
		? SSL_TICKET_RETURN_USE_RENEW
		: SSL_TICKET_RETURN_USE;
}

/* OpenSSL names each session for a cache that we have not. TLS 1.3 shows the name to nobody, and the server's random is as good
 * as other random bytes, which would be drawn. */
static int session_id_wanted(SSL *ssl, unsigned char *id, unsigned *n)
{
	if (SSL_version(ssl) < TLS1_3_VERSION)
		return RAND_bytes_ex(tls_of_ssl(ssl)->set->lib->openssl, id, *n, 0) == 1;
	*n = (unsigned)SSL_get_server_random(ssl, id, *n);
	return 1;
}

void tls_tickets_enable(SSL_CTX *ctx)
{
	SSL_CTX_set_generate_session_id(ctx, session_id_wanted);
	/* One: a client of SMTP opens its connections one by one, and gets another ticket with each. */
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_keys_wanted);
	SSL_CTX_set_session_ticket_cb(ctx, ticket_begins, ticket_read, NULL);
}
