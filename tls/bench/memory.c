// SPDX-License-Identifier: Apache-2.0
/* tls/bench/memory.c: what sessions hold, with many of them at the same time. Each side allocates from a jemalloc
 * arena of its own, without the thread's cache, so that what is allocated and what is resident (pages,
 * with what lies between the blocks) can be told for one side. */
#include "tls/bench/bench.h"

#undef NDEBUG
#include <assert.h>
#include <jemalloc/jemalloc.h>
#include <openssl/ssl.h>
#include <stdlib.h>

/* ---- arenas ---- */

struct held {
	size_t allocated, resident; /* bytes */
};

static unsigned arena_create(void)
{
	unsigned arena;
	size_t n = sizeof arena;
	assert(mallctl("arenas.create", &arena, &n, NULL, 0) == 0);
	return arena;
}

static void arena_enter(unsigned arena)
{
	assert(mallctl("thread.arena", NULL, NULL, &arena, sizeof arena) == 0);
}

static size_t arena_stat(unsigned arena, const char *what)
{
	char name[64];
	size_t value, n = sizeof value;
	snprintf(name, sizeof name, "stats.arenas.%u.%s", arena, what);
	assert(mallctl(name, &value, &n, NULL, 0) == 0);
	return value;
}

static struct held arena_held(unsigned arena)
{
	char name[64];
	uint64_t epoch = 1;
	snprintf(name, sizeof name, "arena.%u.purge", arena); /* what time would do */
	assert(mallctl(name, NULL, NULL, NULL, 0) == 0);
	assert(mallctl("epoch", NULL, NULL, &epoch, sizeof epoch) == 0);
	return (struct held){arena_stat(arena, "small.allocated") +
			arena_stat(arena, "large.allocated"),
		arena_stat(arena, "resident")};
}

/* ---- a pair ---- */

static unsigned server_arena, client_arena;

struct both {
	struct tls *server, *client;
	struct lab_link link;
};

static void open_both(
	struct both *b, struct tls_server_set *servers, struct tls_client_set *clients)
{
	arena_enter(client_arena);
	lab_link_init(&b->link);
	b->client = tls_open_client(clients, 0, lab_client_io(&b->link), "mx.example.test", "");
	arena_enter(server_arena);
	b->server = tls_open_server(servers, 0, lab_server_io(&b->link));
	assert(b->server != NULL && b->client != NULL);
}

static void shake(struct both *b)
{
	enum tls_result at_server = TLS_AGAIN, at_client = TLS_AGAIN;
	while (at_server == TLS_AGAIN || at_client == TLS_AGAIN) {
		arena_enter(client_arena);
		at_client = tls_handshake(b->client);
		arena_enter(server_arena);
		at_server = tls_handshake(b->server);
	}
	assert(at_server == TLS_OK && at_client == TLS_OK);
}

/* A command and its reply, both read to their ends. */
static void talk(struct both *b)
{
	uint8_t in[64];
	size_t n;
	arena_enter(client_arena);
	tls_write(b->client, BYTES_LITERAL("EHLO client.example.test\r\n"), &n);
	arena_enter(server_arena);
	assert(tls_read(b->server, in, sizeof in, &n) == TLS_OK && n == 26);
	assert(tls_read(b->server, in, sizeof in, &n) == TLS_AGAIN);
	tls_write(b->server, BYTES_LITERAL("250 mx.example.test\r\n"), &n);
	arena_enter(client_arena);
	assert(tls_read(b->client, in, sizeof in, &n) == TLS_OK && n == 21);
	assert(tls_read(b->client, in, sizeof in, &n) == TLS_AGAIN);
}

/* An idle session needs its wires no more; they are no part of it. */
static void drop_wires(struct both *b)
{
	lab_link_fini(&b->link);
	b->link = (struct lab_link){0};
}

static void close_server(struct both *b)
{
	arena_enter(server_arena);
	tls_close(b->server);
	b->server = NULL;
}

static void close_client(struct both *b)
{
	arena_enter(client_arena);
	tls_close(b->client);
	lab_link_fini(&b->link);
	b->client = NULL;
}

/* ---- what is printed ---- */

static void print_held(
	const char *what, struct held before, struct held after, const struct bench_options *options)
{
	static bool is_first = true;
	double allocated = ((double)after.allocated - (double)before.allocated) / options->sessions;
	double resident = ((double)after.resident - (double)before.resident) / options->sessions;
	if (options->is_json)
		printf("%s{\"what\":\"%s\",\"sessions\":%u,\"allocated\":%.0f,\"resident\":%.0f}",
			is_first ? "" : ",\n", what, options->sessions, allocated, resident);
	else
		printf("%-52s %9.0f %9.0f\n", what, allocated, resident);
	is_first = false;
}

/* ---- sessions ---- */

enum whose { OF_SERVER, OF_CLIENT };

/* `options->sessions` of one side, their peers gone as soon as they are not needed. */
static void bench_idle(enum whose whose, const struct bench_options *options)
{
	const char *const what[] = {"server session, idle after a command and its reply",
		"client session, idle after a command and its reply"};
	unsigned arena = whose == OF_SERVER ? server_arena : client_arena;
	struct tls_profile may = {"bench", .level = TLS_LEVEL_MAY};
	struct tls_error error;
	struct both *all = calloc(options->sessions, sizeof *all);
	arena_enter(server_arena);
	struct tls_server_set *servers = tls_server_set_create(bench_lib,
		&(struct tls_server_set_config){
			.pairs = bench_pairs, .pair_count = 1, .profiles = &may, .profile_count = 1},
		&error);
	arena_enter(client_arena);
	struct tls_client_set *clients = tls_client_set_create(bench_lib,
		&(struct tls_client_set_config){&may, 1, bench_roots}, &error);
	assert(all != NULL && servers != NULL && clients != NULL);
	struct held before = {0};
	for (unsigned i = 0; i < options->sessions; i++) {
		if (i == 1) /* the first also warms what OpenSSL keeps; its bytes are not counted */
			before = arena_held(arena);
		open_both(&all[i], servers, clients);
		shake(&all[i]);
		talk(&all[i]);
		drop_wires(&all[i]);
		if (whose == OF_SERVER)
			close_client(&all[i]);
		else
			close_server(&all[i]);
	}
	print_held(what[whose], before, arena_held(arena), options);
	for (unsigned i = 0; i < options->sessions; i++) {
		if (whose == OF_SERVER)
			close_server(&all[i]);
		else
			close_client(&all[i]);
	}
	tls_server_set_put(servers);
	tls_client_set_put(clients);
	free(all);
}

/* Servers that have answered one and the same ClientHello and wait for the client's Finished, as a flood
 * of clients leaves them. */
static size_t read_hello(void *user, uint8_t *to, size_t room)
{
	struct bytes *left = user;
	struct bytes now = bytes_first(*left, room);
	memcpy(to, now.at, now.n);
	*left = bytes_skip(*left, now.n);
	return now.n;
}

static size_t write_nowhere(void *user, const uint8_t *from, size_t n)
{
	return n;
}

struct waiting {
	struct bytes hello; /* what is left of it to be read */
	struct tls *server;
};

static void bench_in_handshake(const struct bench_options *options)
{
	struct tls_profile may = {"bench", .level = TLS_LEVEL_MAY};
	struct tls_error error;
	struct lab_link link;
	arena_enter(client_arena);
	struct tls_client_set *clients = tls_client_set_create(bench_lib,
		&(struct tls_client_set_config){&may, 1, bench_roots}, &error);
	lab_link_init(&link);
	struct tls *client =
		tls_open_client(clients, 0, lab_client_io(&link), "mx.example.test", "");
	assert(tls_handshake(client) == TLS_AGAIN);
	struct waiting *all = calloc(options->sessions, sizeof *all);
	arena_enter(server_arena);
	struct tls_server_set *servers = tls_server_set_create(bench_lib,
		&(struct tls_server_set_config){
			.pairs = bench_pairs, .pair_count = 1, .profiles = &may, .profile_count = 1},
		&error);
	assert(servers != NULL && all != NULL);
	struct held before = {0};
	for (unsigned i = 0; i < options->sessions; i++) {
		if (i == 1)
			before = arena_held(server_arena);
		all[i].hello = bytes_of(link.up.at + link.up.head, link.up.tail - link.up.head);
		all[i].server = tls_open_server(
			servers, 0, (struct tls_io){read_hello, write_nowhere, &all[i].hello});
		assert(tls_handshake(all[i].server) == TLS_AGAIN);
	}
	print_held("server session in its handshake, flight sent", before,
		arena_held(server_arena), options);
	for (unsigned i = 0; i < options->sessions; i++)
		tls_close(all[i].server);
	tls_server_set_put(servers);
	arena_enter(client_arena);
	tls_close(client);
	lab_link_fini(&link);
	tls_client_set_put(clients);
	free(all);
}

/* ---- sets ---- */

static void bench_set(const char *what, size_t pair_count, size_t profile_count)
{
	struct tls_profile profiles[20];
	struct tls_key_pair pairs[100];
	struct tls_error error;
	for (size_t i = 0; i < profile_count; i++)
		profiles[i] = (struct tls_profile){"bench", .level = TLS_LEVEL_MAY};
	for (size_t i = 0; i < pair_count; i++)
		pairs[i] = bench_pairs[BENCH_ECDSA];
	size_t before = arena_held(server_arena).allocated;
	uint64_t began = bench_ns();
	struct tls_server_set *set = tls_server_set_create(bench_lib,
		&(struct tls_server_set_config){pairs, pair_count, profiles, profile_count},
		&error);
	uint64_t ns = bench_ns() - began;
	assert(set != NULL);
	printf("%-52s %9zu %9.1f ms\n", what, arena_held(server_arena).allocated - before,
		(double)ns / 1e6);
	tls_server_set_put(set);
}

static void bench_roots_of_system(void)
{
	struct tls_profile may = {"bench", .level = TLS_LEVEL_MAY};
	struct tls_error error;
	size_t before = arena_held(server_arena).allocated;
	uint64_t began = bench_ns();
	struct tls_client_set *set = tls_client_set_create(bench_lib,
		&(struct tls_client_set_config){.profiles = &may, .profile_count = 1}, &error);
	uint64_t ns = bench_ns() - began;
	assert(set != NULL);
	printf("%-52s %9zu %9.1f ms\n", "client set, 1 profile, the system's roots",
		arena_held(server_arena).allocated - before, (double)ns / 1e6);
	tls_client_set_put(set);
}

void bench_memory(const struct bench_options *options)
{
	bool has_cache = false;
	mallctl("thread.tcache.enabled", NULL, NULL, &has_cache, sizeof has_cache);
	server_arena = arena_create();
	client_arena = arena_create();
	if (!options->is_json)
		printf("%-52s %9s %9s\n", "bytes a session", "allocated", "resident");
	bench_idle(OF_SERVER, options);
	bench_idle(OF_CLIENT, options);
	bench_in_handshake(options);
	if (options->is_json)
		return;
	printf("\n%-52s %9s %9s\n", "bytes and time of a set", "allocated", "time");
	arena_enter(server_arena);
	bench_set("server set, 1 certificate, 1 profile", 1, 1);
	bench_set("server set, 100 certificates, 20 profiles", 100, 20);
	bench_roots_of_system();
}
