// SPDX-License-Identifier: Apache-2.0
/* tls/session.c: one connection's handshake and records.
 *
 *   io.read  ─▶ BIO ─▶ OpenSSL ─▶ tls_read
 *   io.write ◀─ pending ◀─ BIO ◀─ OpenSSL ◀─ tls_write
 *
 * The BIO takes what OpenSSL writes as a whole: what the io has no room for waits in `pending`. So
 * a record is never half written inside OpenSSL, and a caller of tls_write need not come again with
 * the same bytes. */
#include "tls/tls_private.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- output that waits ---- */

/* Hands what waits to the io; true if nothing is left. */
static bool pending_drain(struct tls *tls)
{
	while (tls->pending_head < tls->pending_tail) {
		size_t n = tls->io.write(tls->io.user, tls->pending + tls->pending_head,
			tls->pending_tail - tls->pending_head);
		if (n == 0)
			return false;
		tls->pending_head += (uint32_t)n;
	}
	free(tls->pending);
	tls->pending = NULL;
	tls->pending_head = tls->pending_tail = tls->pending_room = 0;
	return true;
}

static bool pending_append(struct tls *tls, const char *from, size_t n)
{
	size_t waiting = tls->pending_tail - tls->pending_head;
	if (tls->pending_head != 0)
		memmove(tls->pending, tls->pending + tls->pending_head, waiting);
	tls->pending_head = 0;
	tls->pending_tail = (uint32_t)waiting;
	if (waiting + n > tls->pending_room) {
		uint8_t *larger = realloc(tls->pending, waiting + n);
		if (larger == NULL)
			return false;
		tls->pending = larger;
		tls->pending_room = (uint32_t)(waiting + n);
	}
	memcpy(tls->pending + waiting, from, n);
	tls->pending_tail += (uint32_t)n;
	return true;
}

/* ---- a peer that asks too much ---- */

/* The first record tells how long the ClientHello will be: refused before OpenSSL takes room for
 * it. */
static bool is_hello_too_large(const uint8_t start[TLS_HELLO_START_BYTES])
{
	enum { HANDSHAKE = 22, CLIENT_HELLO = 1 };
	size_t record = (size_t)start[3] << 8 | start[4];
	size_t hello = (size_t)start[6] << 16 | (size_t)start[7] << 8 | start[8];
	if (start[0] != HANDSHAKE || (record >= 4 && start[5] != CLIENT_HELLO))
		return false; /* OpenSSL says what is wrong with it */
	/* A record that ends within the header would hide the length. */
	return record < 4 || hello > TLS_HELLO_BYTES_MAX;
}

static void handshake_bytes_seen(struct tls *tls, struct bytes in)
{
	for (size_t i = 0; i < in.n && tls->handshake_bytes + i < TLS_HELLO_START_BYTES; i++)
		tls->hello_start[tls->handshake_bytes + i] = in.at[i];
	bool had_start = tls->handshake_bytes >= TLS_HELLO_START_BYTES;
	tls->handshake_bytes += (uint32_t)in.n;
	if (tls->handshake_bytes > TLS_HANDSHAKE_BYTES_MAX)
		tls->cut = "the peer's part of the TLS handshake is larger than 128 KiB";
	else if (tls->set->is_server && !had_start &&
		tls->handshake_bytes >= TLS_HELLO_START_BYTES &&
		is_hello_too_large(tls->hello_start))
		tls->cut = "the ClientHello is larger than 16 KiB or cut up";
}

void tls_message_seen(
	int is_sent, int version, int type, const void *message, size_t n, SSL *ssl, void *unused)
{
	struct tls *tls = tls_of_ssl(ssl);
	if (is_sent && type == SSL3_RT_HANDSHAKE && tls->hello_bytes == 0) {
		tls->hello_bytes = (uint32_t)n;
		if (!tls->set->is_server) /* OpenSSL tells of the first of them, and only now */
			SSL_get_tmp_key(ssl, &tls->first_share);
	}
	if (is_sent || type != SSL3_RT_HANDSHAKE)
		return;
	if (!tls->is_done)
		return;
	tls->messages++;
	if (tls->messages > TLS_MESSAGES_FREE + tls->received / TLS_BYTES_PER_MESSAGE)
		tls->cut = "the peer floods us with messages that carry no data (KeyUpdate)";
}

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *to, size_t room, size_t *n)
{
	struct tls *tls = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	*n = 0;
	if (tls->cut == NULL) {
		*n = tls->io.read(tls->io.user, (uint8_t *)to, room);
		if (!tls->is_done)
			handshake_bytes_seen(tls, bytes_of(to, *n));
	}
	/* Without retry flags this is an error: it ends OpenSSL's loop over what a flooding peer
	 * sent. */
	if (tls->cut != NULL) {
		*n = 0;
		return 0;
	}
	if (*n == 0)
		BIO_set_retry_read(bio);
	return *n != 0;
}

static int bio_write(BIO *bio, const char *from, size_t size, size_t *n)
{
	struct tls *tls = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	*n = 0;
	if (tls->task.is_cancelled) { /* closing: nobody is told why */
		*n = size;
		return 1;
	}
	bool is_empty = pending_drain(tls);
	size_t waiting = tls->pending_tail - tls->pending_head;
	if (!is_empty && waiting + size > TLS_PENDING_BYTES_MAX) {
		BIO_set_retry_write(bio);
		return 0;
	}
	size_t taken = 0;
	while (is_empty && taken < size) {
		size_t moved =
			tls->io.write(tls->io.user, (const uint8_t *)from + taken, size - taken);
		if (moved == 0)
			break;
		taken += moved;
	}
	if (taken < size && !pending_append(tls, from + taken, size - taken))
		return 0;
	*n = size;
	return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *at)
{
	/* Nothing is held back that a flush could send: what waits, waits for the io's room. */
	return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

BIO_METHOD *tls_bio_method_create(int type)
{
	BIO_METHOD *method = BIO_meth_new(type, "tls_io");
	if (method == NULL)
		return NULL;
	BIO_meth_set_read_ex(method, bio_read);
	BIO_meth_set_write_ex(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	BIO_meth_set_create(method, bio_create);
	return method;
}

struct tls *tls_of_ssl(const SSL *ssl)
{
	return BIO_get_data(SSL_get_rbio(ssl));
}

/* ---- open and close ---- */

static struct tls *open_session(struct tls_set *set, uint32_t profile, struct tls_io io,
	const char *host, const char *domain)
{
	if (profile >= set->profile_count)
		return NULL;
	size_t host_n = strlen(host) + 1, domain_n = strlen(domain) + 1;
	struct tls *tls = calloc(1, sizeof *tls + host_n + domain_n);
	if (tls == NULL)
		return NULL;
	memcpy(tls->host, host, host_n);
	tls->domain = tls->host + host_n;
	memcpy(tls->domain, domain, domain_n);
	tls->profile = &set->profiles[profile];
	tls->io = io;
	tls->task = (struct tls_task){
		set->lib->offload, (enum tls_backend)set->backend, io.wake, io.user};
	tls->set = set;
	tls->ssl = SSL_new(set->contexts[profile]);
	BIO *bio = BIO_new_ex(set->lib->openssl, set->lib->bio_method);
	if (tls->ssl == NULL || bio == NULL) {
		SSL_free(tls->ssl);
		BIO_free(bio);
		free(tls);
		tls_errors_clear();
		return NULL;
	}
	BIO_set_data(bio, tls);
	SSL_set_bio(tls->ssl, bio, bio);
	set->sessions++;
	return tls;
}

struct tls *tls_open_server(struct tls_server_set *set, uint32_t profile, struct tls_io io)
{
	struct tls *tls = open_session(&set->set, profile, io, "", "");
	if (tls != NULL)
		SSL_set_accept_state(tls->ssl);
	return tls;
}

/* FNV-1a: names of listeners are the operator's. */
static uint64_t hash_name(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325ull;
	for (; *name != '\0'; name++)
		hash = (hash ^ (uint8_t)*name) * 0x100000001b3ull;
	return hash;
}

void tls_set_listener(struct tls *tls, const char *name)
{
	struct tls_set *set = tls->set;
	uint8_t context[TLS_POLICY_BYTES];
	uint64_t last, hash = hash_name(name);
	memcpy(context, set->policies[tls->profile - set->profiles], sizeof context);
	memcpy(&last, context + sizeof context - sizeof last, sizeof last);
	last ^= hash;
	memcpy(context + sizeof context - sizeof last, &last, sizeof last);
	SSL_set_session_id_context(tls->ssl, context, sizeof context);
}

/* SNI is for names only (RFC 6066 3), without the last dot. */
static bool set_server_name(struct tls *tls)
{
	unsigned char binary[sizeof(struct in6_addr)];
	char name[TLS_HOST_BYTES_MAX + 1];
	size_t n = strlen(tls->host);
	if (n != 0 && tls->host[n - 1] == '.')
		n--;
	if (n == 0 || n > TLS_HOST_BYTES_MAX || inet_pton(AF_INET, tls->host, binary) == 1 ||
		inet_pton(AF_INET6, tls->host, binary) == 1)
		return true;
	bytes_to_string(bytes_of(tls->host, n), name, sizeof name);
	return SSL_set_tlsext_host_name(tls->ssl, name) == 1;
}

struct tls *tls_open_client(struct tls_client_set *set, uint32_t profile, struct tls_io io,
	const char *host, const char *domain)
{
	struct tls *tls = open_session(&set->set, profile, io, host, domain);
	if (tls == NULL)
		return NULL;
	SSL_set_connect_state(tls->ssl);
	if (!set_server_name(tls)) {
		tls_errors_clear();
		tls_close(tls);
		return NULL;
	}
	return tls;
}

void tls_close(struct tls *tls)
{
	if (tls == NULL)
		return;
	struct tls_set *set = tls->set;
	tls_task_cancel(&tls->task);
	tls_cache_closed(tls);
	tls_errors_clear();
	EVP_PKEY_free(tls->first_share);
	SSL_free(tls->ssl);
	X509_free(tls->refused_leaf);
	free(tls->pending);
	free(tls->failure_text);
	free(tls);
	set->sessions--;
	tls_set_release(set);
}

/* ---- failures ---- */

static enum tls_result fail(struct tls *tls, enum tls_failure_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static enum tls_result fail(struct tls *tls, enum tls_failure_kind kind, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	tls->failure = (uint8_t)kind;
	if (vasprintf(&tls->failure_text, format, args) < 0)
		tls->failure_text = NULL;
	va_end(args);
	tls_errors_clear();
	return TLS_FAIL;
}

enum tls_failure_kind tls_failure(const struct tls *tls, const char **text)
{
	if (text != NULL)
		*text = tls->failure == TLS_FAILURE_NONE ? ""
			: tls->failure_text == NULL	 ? "no memory"
							 : tls->failure_text;
	return tls->failure;
}

/* The peer's certificate was refused by tls_verify_peer. */
static enum tls_result fail_refused(struct tls *tls)
{
	const char *peer = tls->set->is_server ? "client" : "server";
	if (tls->trust_error != X509_V_OK)
		return fail(tls, TLS_FAILURE_UNTRUSTED, "the %s's certificate is not trusted: %s",
			peer, X509_verify_cert_error_string(tls->trust_error));
	if (tls->set->is_server)
		return fail(tls, TLS_FAILURE_NAME,
			"the client's certificate has none of the names asked for");
	if (tls->profile->level == TLS_LEVEL_VERIFY)
		return fail(tls, TLS_FAILURE_NAME,
			"the server's certificate has none of the names asked for: %s, …",
			tls->profile->names);
	return fail(tls, TLS_FAILURE_NAME, "the server's certificate is not for %s%s%s", tls->host,
		tls->domain[0] == '\0' ? "" : " nor for ", tls->domain);
}

static enum tls_result fail_in_handshake(struct tls *tls)
{
	unsigned long code = ERR_peek_error();
	if (tls->has_refused)
		return fail_refused(tls);
	if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
		ERR_GET_REASON(code) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
		return fail(tls, TLS_FAILURE_NO_CERT, "the client sent no certificate");
	return fail(tls, TLS_FAILURE_HANDSHAKE, "TLS handshake failed: %s",
		tls_openssl_reason("no reason given"));
}

/* After a call into OpenSSL that moved nothing. */
static enum tls_result not_moved(struct tls *tls, int returned)
{
	int error = SSL_get_error(tls->ssl, returned);
	if (tls->cut != NULL)
		return fail(tls, tls->is_done ? TLS_FAILURE_FLOOD : TLS_FAILURE_HANDSHAKE, "%s",
			tls->cut);
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return TLS_AGAIN;
	if (error == SSL_ERROR_ZERO_RETURN && tls->is_done)
		return TLS_EOF;
	if (error == SSL_ERROR_ZERO_RETURN)
		return fail(tls, TLS_FAILURE_HANDSHAKE, "the peer ended TLS within the handshake");
	if (!tls->is_done)
		return fail_in_handshake(tls);
	return fail(tls, TLS_FAILURE_PEER, "TLS session failed: %s",
		tls_openssl_reason("no reason given"));
}

/* ---- the handshake ---- */

/* Sets a key to be none of any kind, whoever else holds it. */
static void forget_key(EVP_PKEY *key)
{
	EVP_PKEY_set_type(key, EVP_PKEY_X25519); /* of any type: it drops what the key held */
	EVP_PKEY_free(key);
}

/* OpenSSL keeps the ephemeral keys until SSL_free. They are of no use any more, forward secrecy
 * asks to erase ours (RFC 8446 F.1.2), and with a hybrid group they are 7 KB. A client also keeps the shares that the
 * server did not choose: it tells of the first alone, which is the large one (GROUPS_CLIENT). */
static void forget_ephemeral_keys(struct tls *tls)
{
	EVP_PKEY *key;
	if (SSL_get_peer_tmp_key(tls->ssl, &key) == 1)
		forget_key(key);
	if (SSL_get_tmp_key(tls->ssl, &key) == 1)
		forget_key(key);
	if (tls->first_share != NULL)
		forget_key(tls->first_share);
	tls->first_share = NULL;
}

/* Of the server's certificates only what the leaf says is asked for again, by records and the cache of sessions; not
 * the chain, nor the key parsed: some KB each. (A client's may be verified again: tls_check().) */
static void forget_chain(struct tls *tls)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls->ssl);
	X509 *leaf = SSL_get0_peer_certificate(tls->ssl);
	EVP_PKEY *key = leaf == NULL ? NULL : X509_get_pubkey(leaf);
	if (key != NULL)
		forget_key(key);
	while (sk_X509_num(chain) > 0)
		X509_free(sk_X509_pop(chain));
}

static enum tls_result handshake_done(struct tls *tls)
{
	char why[TLS_WHY_BYTES];
	tls->is_done = true;
	forget_ephemeral_keys(tls);
	enum tls_failure_kind kind = tls_check(tls, tls->profile, why);
	if (kind != TLS_FAILURE_NONE)
		return fail(tls, kind, "%s", why);
	if (!tls->set->is_server)
		forget_chain(tls);
	tls_cache_handshake_done(tls);
	return TLS_OK;
}

/* It may run on a fibre and be left while an operation is out. OpenSSL's queue of errors is the thread's:
 * meanwhile others clear it, so that nothing that is still to be told may wait in it. */
static void handshake_go(void *user)
{
	struct tls *tls = user;
	tls->returned = SSL_do_handshake(tls->ssl);
}

enum tls_result tls_handshake(struct tls *tls)
{
	if (tls->failure != TLS_FAILURE_NONE)
		return TLS_FAIL;
	if (tls->is_done)
		return TLS_OK;
	tls_errors_clear();
	if (!tls_task_run(&tls->task, handshake_go, tls))
		return TLS_WAIT;
	return tls->returned == 1 ? handshake_done(tls) : not_moved(tls, tls->returned);
}

/* ---- data ---- */

enum tls_result tls_read(struct tls *tls, uint8_t *to, size_t room, size_t *n)
{
	*n = 0;
	if (tls->failure != TLS_FAILURE_NONE)
		return TLS_FAIL;
	if (!tls->is_done || room == 0)
		return TLS_AGAIN;
	tls_errors_clear();
	int returned = SSL_read_ex(tls->ssl, to, room, n);
	if (returned != 1) {
		*n = 0;
		return not_moved(tls, returned);
	}
	tls->received += *n;
	return TLS_OK;
}

enum tls_result tls_write(struct tls *tls, struct bytes from, size_t *n)
{
	*n = 0;
	if (tls->failure != TLS_FAILURE_NONE)
		return TLS_FAIL;
	if (!tls->is_done)
		return TLS_AGAIN;
	tls_errors_clear();
	while (from.n != 0 && pending_drain(tls)) {
		size_t taken = 0;
		struct bytes record = bytes_first(from, SSL3_RT_MAX_PLAIN_LENGTH);
		int returned = SSL_write_ex(tls->ssl, record.at, record.n, &taken);
		if (returned != 1) {
			enum tls_result result = not_moved(tls, returned);
			return *n != 0 && result == TLS_AGAIN ? TLS_OK : result;
		}
		*n += taken;
		from = bytes_skip(from, taken);
	}
	return *n != 0 || from.n == 0 ? TLS_OK : TLS_AGAIN;
}

void tls_shutdown(struct tls *tls)
{
	if (tls->failure != TLS_FAILURE_NONE || !tls->is_done || tls->has_sent_close)
		return;
	tls_errors_clear();
	tls->has_sent_close = SSL_shutdown(tls->ssl) >= 0;
	tls_errors_clear();
}

bool tls_has_output(const struct tls *tls)
{
	return tls->pending_head < tls->pending_tail;
}

enum tls_result tls_flush(struct tls *tls)
{
	return pending_drain(tls) ? TLS_OK : TLS_AGAIN;
}
