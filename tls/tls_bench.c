// SPDX-License-Identifier: Apache-2.0
/* tls_bench [SECONDS]: what a handshake and a session cost on this machine, in memory, on one core.
 *
 * Each line of the first table runs handshakes for SECONDS of processor time (default 1) between a
 * server and a client of ours and times the calls of either side apart: "server/s" is what one core
 * could do if it did nothing else. The second table counts bytes asked of jemalloc, as the relay
 * uses it. Numbers, no judgement; not a test. */
#include "tls/lab.h"

#include <assert.h>
#include <jemalloc/jemalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BENCH_SESSIONS = 1000 };

static struct tls_lib *lib;
static struct bytes roots;
static struct tls_key_pair ecdsa, rsa, named;
static struct tls_error error;

/* ---- what is measured ---- */

static uint64_t busy_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* neighbours do not count */
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Bytes this thread holds of jemalloc. */
static int64_t held_bytes(void)
{
	static uint64_t *allocated, *freed;
	size_t n = sizeof allocated;
	if (allocated == NULL)
		mallctl("thread.allocatedp", &allocated, &n, NULL, 0);
	if (freed == NULL)
		mallctl("thread.deallocatedp", &freed, &n, NULL, 0);
	return (int64_t)(*allocated - *freed);
}

/* Time and bytes of one side, summed over calls. */
struct account {
	uint64_t ns, began_ns;
	int64_t bytes, began_bytes;
};

static void account_begin(struct account *a)
{
	a->began_bytes = held_bytes();
	a->began_ns = busy_ns();
}

static void account_end(struct account *a)
{
	a->ns += busy_ns() - a->began_ns;
	a->bytes += held_bytes() - a->began_bytes;
}

/* ---- certificates and sets ---- */

static void make_certificates(void)
{
	struct lab_cert ca = lab_cert_make((struct lab_spec){.name = "Bench CA", .is_ca = true});
	struct lab_cert e = lab_cert_make((struct lab_spec){"mx", "DNS:mx.example.test", &ca});
	struct lab_cert r =
		lab_cert_make((struct lab_spec){"mx", "DNS:mx.example.test", &ca, LAB_RSA});
	struct lab_cert n =
		lab_cert_make((struct lab_spec){"named", "DNS:named.example.test", &ca});
	ecdsa = lab_pair((const struct lab_cert *const[]){&e}, 1);
	rsa = lab_pair((const struct lab_cert *const[]){&r}, 1);
	named = lab_pair((const struct lab_cert *const[]){&n}, 1);
	roots = lab_certs_pem((const struct lab_cert *const[]){&ca}, 1);
	lab_cert_free(&e);
	lab_cert_free(&r);
	lab_cert_free(&n);
	lab_cert_free(&ca);
}

static struct tls_server_set *make_servers(
	const struct tls_key_pair *first, const struct tls_profile *profile)
{
	const struct tls_key_pair pairs[] = {*first, named};
	struct tls_server_set *set = tls_server_set_create(
		lib, &(struct tls_server_set_config){pairs, 2, profile, 1, BYTES_NONE}, &error);
	if (set == NULL)
		fprintf(stderr, "tls_bench: %s\n", error.text);
	assert(set != NULL);
	return set;
}

static struct tls_client_set *make_clients(const struct tls_profile *profile)
{
	struct tls_client_set *set = tls_client_set_create(
		lib, &(struct tls_client_set_config){profile, 1, roots}, &error);
	if (set == NULL)
		fprintf(stderr, "tls_bench: %s\n", error.text);
	assert(set != NULL);
	return set;
}

/* ---- handshakes ---- */

struct shaking {
	const char *what, *host, *groups;
	const struct tls_key_pair *pair;
	uint16_t protocol_highest;
};

struct both {
	struct tls *server, *client;
	struct lab_link link;
};

static void shake(struct both *b, struct tls_server_set *servers, struct tls_client_set *clients,
	const char *host, struct account *of_server, struct account *of_client)
{
	enum tls_result at_server = TLS_AGAIN, at_client = TLS_AGAIN;
	account_begin(of_server);
	b->server = tls_open_server(servers, 0, lab_server_io(&b->link));
	account_end(of_server);
	account_begin(of_client);
	b->client = tls_open_client(clients, 0, lab_client_io(&b->link), host, "");
	account_end(of_client);
	while (at_server == TLS_AGAIN || at_client == TLS_AGAIN) {
		account_begin(of_client);
		at_client = tls_handshake(b->client);
		account_end(of_client);
		account_begin(of_server);
		at_server = tls_handshake(b->server);
		account_end(of_server);
	}
	assert(at_server == TLS_OK && at_client == TLS_OK);
}

static void unshake(struct both *b, struct account *of_server, struct account *of_client)
{
	account_begin(of_server);
	tls_close(b->server);
	account_end(of_server);
	account_begin(of_client);
	tls_close(b->client);
	account_end(of_client);
}

static void print_rates(const char *what, const struct tls_verdict *verdict, unsigned count,
	const struct account *of_server, const struct account *of_client)
{
	printf("%-22s %-8s %-15s %-30s %8.0f %7.1f %8.0f %7.1f\n", what,
		tls_protocol_name(verdict->protocol), verdict->group, verdict->cipher,
		count * 1e9 / (double)of_server->ns, (double)of_server->ns / count / 1000,
		count * 1e9 / (double)of_client->ns, (double)of_client->ns / count / 1000);
	fflush(stdout);
}

static void bench_full(const struct shaking *s, double seconds)
{
	struct tls_profile profile = {"bench", .level = TLS_LEVEL_VERIFY};
	struct tls_profile for_server = {"bench", .level = TLS_LEVEL_ENCRYPT};
	struct account of_server = {0}, of_client = {0};
	struct tls_verdict verdict;
	profile.protocol_highest = s->protocol_highest;
	snprintf(profile.groups, sizeof profile.groups, "%s", s->groups);
	struct tls_server_set *servers = make_servers(s->pair, &for_server);
	struct tls_client_set *clients = make_clients(&profile);
	unsigned count = 0;
	struct both b;
	lab_link_init(&b.link);
	for (uint64_t end = busy_ns() + (uint64_t)(seconds * 1e9); busy_ns() < end; count++) {
		b.link.up.head = b.link.up.tail = b.link.down.head = b.link.down.tail = 0;
		shake(&b, servers, clients, s->host, &of_server, &of_client);
		if (count == 0)
			tls_get_verdict(b.server, &verdict);
		unshake(&b, &of_server, &of_client);
	}
	print_rates(s->what, &verdict, count, &of_server, &of_client);
	lab_link_fini(&b.link);
	tls_server_set_put(servers);
	tls_client_set_put(clients);
}

/* ---- resumed handshakes: by a client of OpenSSL's own, since ours keeps no tickets ---- */

static SSL_SESSION *ticket;

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION_free(ticket);
	ticket = session;
	return 1;
}

static void resume_once(struct tls_server_set *servers, SSL_CTX *ctx, struct tls_verdict *verdict,
	struct account *of_server, struct account *of_client)
{
	struct lab_link link;
	uint8_t in[16];
	enum tls_result at_server = TLS_AGAIN;
	lab_link_init(&link);
	account_begin(of_server);
	struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
	account_end(of_server);
	account_begin(of_client);
	struct lab_raw raw = lab_raw_client(ctx, &link, "mx.example.test");
	if (ticket != NULL)
		SSL_set_session(raw.ssl, ticket);
	account_end(of_client);
	while (at_server == TLS_AGAIN) {
		account_begin(of_client);
		SSL_do_handshake(raw.ssl);
		lab_raw_pump(&raw);
		account_end(of_client);
		account_begin(of_server);
		at_server = tls_handshake(server);
		account_end(of_server);
	}
	assert(at_server == TLS_OK);
	account_begin(of_client);
	lab_raw_pump(&raw);
	SSL_do_handshake(raw.ssl);
	SSL_read(raw.ssl, in, sizeof in); /* the next ticket */
	SSL_shutdown(raw.ssl);
	lab_raw_free(&raw);
	account_end(of_client);
	tls_get_verdict(server, verdict);
	account_begin(of_server);
	tls_close(server);
	account_end(of_server);
	lab_link_fini(&link);
}

static void bench_resumed(int protocol, const char *groups, double seconds)
{
	struct tls_profile for_server = {"bench", .level = TLS_LEVEL_ENCRYPT};
	struct tls_server_set *servers = make_servers(&ecdsa, &for_server);
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct account of_server = {0}, of_client = {0};
	struct tls_verdict verdict;
	unsigned count = 0;
	SSL_CTX_set_max_proto_version(ctx, protocol);
	SSL_CTX_set1_groups_list(ctx, groups);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep_ticket);
	resume_once(servers, ctx, &verdict, &of_server, &of_client);
	of_server = of_client = (struct account){0};
	for (uint64_t end = busy_ns() + (uint64_t)(seconds * 1e9); busy_ns() < end; count++) {
		resume_once(servers, ctx, &verdict, &of_server, &of_client);
		assert(verdict.is_resumed);
	}
	print_rates("resumed", &verdict, count, &of_server, &of_client);
	SSL_SESSION_free(ticket);
	ticket = NULL;
	SSL_CTX_free(ctx);
	tls_server_set_put(servers);
}

/* ---- memory ---- */

static void exchange(struct both *b)
{
	uint8_t in[64];
	size_t n;
	tls_write(b->client, BYTES_LITERAL("EHLO client.example.test\r\n"), &n);
	tls_read(b->server, in, sizeof in, &n);
	tls_write(b->server, BYTES_LITERAL("250 mx.example.test\r\n"), &n);
	tls_read(b->client, in, sizeof in, &n);
	assert(tls_read(b->server, in, sizeof in, &n) == TLS_AGAIN);
	assert(tls_read(b->client, in, sizeof in, &n) == TLS_AGAIN);
}

static void bench_idle(void)
{
	static struct both all[BENCH_SESSIONS];
	struct tls_profile may = {"bench", .level = TLS_LEVEL_MAY};
	struct tls_server_set *servers = make_servers(&ecdsa, &may);
	struct tls_client_set *clients = make_clients(&may);
	struct account of_server = {0}, of_client = {0};
	for (int i = 0; i < BENCH_SESSIONS; i++) {
		lab_link_init(&all[i].link);
		shake(&all[i], servers, clients, "mx.example.test", &of_server, &of_client);
	}
	int64_t before = held_bytes();
	for (int i = 0; i < BENCH_SESSIONS; i++)
		exchange(&all[i]);
	int64_t grown = held_bytes() - before;
	printf("%-44s %9lld bytes\n", "server session, handshake just done",
		(long long)(of_server.bytes / BENCH_SESSIONS));
	printf("%-44s %9lld bytes\n", "client session, handshake just done",
		(long long)(of_client.bytes / BENCH_SESSIONS));
	printf("%-44s %9lld bytes\n", "both, once they have talked and are idle",
		(long long)((of_server.bytes + of_client.bytes + grown) / BENCH_SESSIONS));
	for (int i = 0; i < BENCH_SESSIONS; i++) {
		unshake(&all[i], &of_server, &of_client);
		lab_link_fini(&all[i].link);
	}
	tls_server_set_put(servers);
	tls_client_set_put(clients);
}

/* A server that has answered the ClientHello and waits for the client's Finished. */
static void bench_in_handshake(void)
{
	struct tls_profile may = {"bench", .level = TLS_LEVEL_MAY};
	struct tls_server_set *servers = make_servers(&ecdsa, &may);
	struct tls_client_set *clients = make_clients(&may);
	struct both b;
	struct account of_server = {0};
	lab_link_init(&b.link);
	for (int i = 0; i < 2; i++) { /* the first warms what OpenSSL keeps */
		of_server = (struct account){0};
		b.client =
			tls_open_client(clients, 0, lab_client_io(&b.link), "mx.example.test", "");
		tls_handshake(b.client);
		account_begin(&of_server);
		b.server = tls_open_server(servers, 0, lab_server_io(&b.link));
		tls_handshake(b.server);
		account_end(&of_server);
		unshake(&b, &(struct account){0}, &(struct account){0});
		b.link.up.head = b.link.up.tail = b.link.down.head = b.link.down.tail = 0;
	}
	printf("%-44s %9lld bytes\n", "server session in handshake, flight sent",
		(long long)of_server.bytes);
	lab_link_fini(&b.link);
	tls_server_set_put(servers);
	tls_client_set_put(clients);
}

static void bench_sets(void)
{
	struct tls_profile profiles[20];
	struct tls_key_pair pairs[100];
	struct account one = {0}, many = {0}, roots_of_system = {0};
	for (size_t i = 0; i < 20; i++)
		profiles[i] = (struct tls_profile){"bench", .level = TLS_LEVEL_MAY};
	for (size_t i = 0; i < 100; i++)
		pairs[i] = ecdsa;
	account_begin(&one);
	struct tls_server_set *a = tls_server_set_create(
		lib, &(struct tls_server_set_config){pairs, 1, profiles, 1, BYTES_NONE}, &error);
	account_end(&one);
	account_begin(&many);
	struct tls_server_set *b = tls_server_set_create(
		lib, &(struct tls_server_set_config){pairs, 100, profiles, 20, BYTES_NONE}, &error);
	account_end(&many);
	account_begin(&roots_of_system);
	struct tls_client_set *c = tls_client_set_create(lib,
		&(struct tls_client_set_config){.profiles = profiles, .profile_count = 1}, &error);
	account_end(&roots_of_system);
	static const char *const whats[] = {"server set, 1 certificate, 1 profile",
		"server set, 100 certificates, 20 profiles",
		"client set, 1 profile, the system's roots"};
	const struct account *accounts[] = {&one, &many, &roots_of_system};
	for (int i = 0; i < 3; i++)
		printf("%-44s %9lld bytes %8.1f ms\n", whats[i], (long long)accounts[i]->bytes,
			(double)accounts[i]->ns / 1e6);
	tls_server_set_put(a);
	tls_server_set_put(b);
	tls_client_set_put(c);
}

int main(int argc, char **argv)
{
	static const struct shaking shakings[] = {
		{"ECDSA",		  "mx.example.test",    "X25519",	       &ecdsa, 0	},
		{"ECDSA",		  "mx.example.test",    "P-256",	      &ecdsa, 0      },
		{"ECDSA",		  "mx.example.test",    "X25519MLKEM768", &ecdsa, 0	},
		{"ECDSA, usual client",	"mx.example.test",	   "",	       &ecdsa, 0	},
		{"ECDSA, other SNI name", "named.example.test", "X25519",	  &ecdsa, 0	   },
		{"ECDSA",		  "mx.example.test",    "X25519:P-256",   &ecdsa, TLS_1_2},
		{"RSA-2048",		     "mx.example.test",	"X25519",	  &rsa,	0	 },
		{"RSA-2048",		     "mx.example.test",	"P-256",		 &rsa,   0	},
		{"RSA-2048",		     "mx.example.test",	"X25519MLKEM768", &rsa,	0	 },
		{"RSA-2048",		     "mx.example.test",	"X25519",	  &rsa,	TLS_1_2},
	};
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	if (argc > 2 || seconds <= 0 || seconds > 600) {
		fprintf(stderr, "usage: tls_bench [SECONDS of each line, default 1]\n");
		return 64;
	}
	lib = tls_lib_create();
	assert(lib != NULL);
	make_certificates();
	printf("%-22s %-8s %-15s %-30s %8s %7s %8s %7s\n", "handshake", "version", "group",
		"cipher", "server/s", "us", "client/s", "us");
	for (size_t i = 0; i < sizeof shakings / sizeof shakings[0]; i++)
		bench_full(&shakings[i], seconds);
	bench_resumed(TLS1_3_VERSION, "X25519", seconds);
	bench_resumed(TLS1_3_VERSION, "X25519MLKEM768", seconds);
	bench_resumed(TLS1_2_VERSION, "X25519:P-256", seconds);
	printf("\nmemory\n");
	bench_idle();
	bench_in_handshake();
	bench_sets();
	lab_pair_free(&ecdsa);
	lab_pair_free(&rsa);
	lab_pair_free(&named);
	free((void *)roots.at);
	tls_lib_destroy(lib);
	return 0;
}
