// SPDX-License-Identifier: Apache-2.0
/* tls/bench/servers.c: the servers that tls_bench compares. A further one is a further row of the table below. */
#include "tls/bench/bench.h"

#undef NDEBUG
#include <assert.h>
#include <openssl/err.h>
#include <openssl/pem.h>

/* ---- connections ---- */

void bench_link_init(struct bench_link *link)
{
	*link = (struct bench_link){BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
	assert(link->up != NULL && link->down != NULL);
	BIO_set_mem_eof_return(link->up, -1); /* empty is not the end */
	BIO_set_mem_eof_return(link->down, -1);
}

void bench_link_fini(struct bench_link *link)
{
	BIO_free(link->up);
	BIO_free(link->down);
}

static size_t read_up(void *user, uint8_t *to, size_t room)
{
	int n = BIO_read(((struct bench_link *)user)->up, to, (int)room);
	return n > 0 ? (size_t)n : 0;
}

static size_t write_down(void *user, const uint8_t *from, size_t room)
{
	int n = BIO_write(((struct bench_link *)user)->down, from, (int)room);
	return n > 0 ? (size_t)n : 0;
}

/* The server's end for sessions of ours. */
static struct tls_io link_io(struct bench_link *link)
{
	return (struct tls_io){read_up, write_down, link};
}

/* ---- the ceiling: OpenSSL alone, in its default library context ---- */

static X509 *read_leaf(struct bytes pem)
{
	BIO *memory = BIO_new_mem_buf(pem.at, (int)pem.n);
	X509 *leaf = PEM_read_bio_X509(memory, NULL, NULL, NULL);
	BIO_free(memory);
	assert(leaf != NULL);
	return leaf;
}

static EVP_PKEY *read_key(struct bytes pem)
{
	BIO *memory = BIO_new_mem_buf(pem.at, (int)pem.n);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(memory, NULL, NULL, NULL);
	BIO_free(memory);
	assert(key != NULL);
	return key;
}

/* As a program would have it that follows the manual: OpenSSL's own lists, one ticket as ours sends, no
 * cache that would only cost. */
static void *ceiling_create(const struct tls_key_pair *pair)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	X509 *leaf = read_leaf(pair->chain_pem);
	EVP_PKEY *key = read_key(pair->key_pem);
	assert(ctx != NULL && SSL_CTX_use_cert_and_key(ctx, leaf, key, NULL, 1) == 1);
	X509_free(leaf);
	EVP_PKEY_free(key);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	return ctx;
}

static void ceiling_destroy(void *server)
{
	SSL_CTX_free(server);
}

static void *ceiling_open(void *server, struct bench_link *link)
{
	SSL *ssl = SSL_new(server);
	assert(ssl != NULL);
	BIO_up_ref(link->up);
	BIO_up_ref(link->down);
	SSL_set_bio(ssl, link->up, link->down);
	SSL_set_accept_state(ssl);
	return ssl;
}

static bool ceiling_step(void *session)
{
	ERR_clear_error();
	int returned = SSL_do_handshake(session);
	assert(returned == 1 || SSL_get_error(session, returned) == SSL_ERROR_WANT_READ);
	return returned == 1;
}

static void ceiling_close(void *session)
{
	SSL_free(session);
}

/* ---- ours ---- */

static void *create(const struct tls_key_pair *pair, enum tls_backend backend)
{
	static const struct tls_profile profile = {"bench", .level = TLS_LEVEL_ENCRYPT};
	struct tls_error error;
	struct tls_server_set *set = tls_server_set_create(bench_lib,
		&(struct tls_server_set_config){.pairs = pair,
			.pair_count = 1,
			.profiles = &profile,
			.profile_count = 1,
			.backend = backend},
		&error);
	if (set == NULL)
		fprintf(stderr, "tls_bench: %s\n", error.text);
	assert(set != NULL);
	return set;
}

static void *inline_create(const struct tls_key_pair *pair)
{
	return create(pair, TLS_BACKEND_INLINE);
}

static void *mb_create(const struct tls_key_pair *pair)
{
	return create(pair, TLS_BACKEND_MB);
}

/* As a worker at the end of a turn that brought no more packets. */
static void mb_turn(void *server)
{
	tls_lib_poll(bench_lib, 0, true);
}

static void ours_destroy(void *server)
{
	tls_server_set_put(server);
}

static void *ours_open(void *server, struct bench_link *link)
{
	struct tls *tls = tls_open_server(server, 0, link_io(link));
	assert(tls != NULL);
	return tls;
}

static bool ours_step(void *session)
{
	enum tls_result result = tls_handshake(session);
	assert(result != TLS_FAIL && result != TLS_EOF);
	return result == TLS_OK;
}

static void ours_close(void *session)
{
	tls_close(session);
}

/* ---- all ---- */

const struct bench_server bench_servers[] = {
	{"openssl", 1, ceiling_create, ceiling_destroy, ceiling_open, ceiling_step, NULL,
		ceiling_close},
	{"inline", 1, inline_create, ours_destroy, ours_open, ours_step, NULL, ours_close},
	{"inline", 32, inline_create, ours_destroy, ours_open, ours_step, NULL, ours_close},
	{"mb", 1, mb_create, ours_destroy, ours_open, ours_step, mb_turn, ours_close},
	{"mb", 8, mb_create, ours_destroy, ours_open, ours_step, mb_turn, ours_close},
	{"mb", 32, mb_create, ours_destroy, ours_open, ours_step, mb_turn, ours_close},
	{"mb", 64, mb_create, ours_destroy, ours_open, ours_step, mb_turn, ours_close},
};
const size_t bench_server_count = sizeof bench_servers / sizeof bench_servers[0];
