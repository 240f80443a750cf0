// SPDX-License-Identifier: Apache-2.0
/* lean_bench [SECONDS [WORD]...]: what a handshake costs the lean client, beside the server that it
 * meets, in memory.
 *
 * Each line shakes hands for SECONDS of processor time (default 1) with a server of ours, by our
 * plain client or by the lean one: the server's column says whether its work is the same. With
 * WORDs only the lines that have all of them. Instructions do not depend on what else the machine
 * does:
 *
 *   valgrind --tool=callgrind --toggle-collect=side_server build/bench/lean_bench 2 ECDSA X25519
 * full lean */
#include "bench/lean/lean.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tls/lab.h"

static struct tls_lib *lib;
static struct tls_server_set *servers;
static char **words; /* NULL at the end */

struct side {
	uint64_t ns;
};

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

struct cell {
	const char *name;
	enum lab_key key;
	uint16_t protocol;
	const char *groups;
	bool is_resumed;
};

struct client {
	struct tls_client_set *plain;
	struct lean_slot *slot;
	struct tls *tls;
	bool is_open;
};

static void open_client(struct client *c, struct lab_link *link)
{
	if (c->slot != NULL)
		lean_open(c->slot, lab_client_io(link));
	else
		c->tls = tls_open_client(c->plain, 0, lab_client_io(link), "mx.example.test", "");
}

static enum tls_result shake_client(struct client *c)
{
	return c->slot != NULL ? lean_handshake(c->slot) : tls_handshake(c->tls);
}

static void close_client(struct client *c)
{
	static uint8_t room[LEAN_READ_BYTES];
	size_t n;
	if (c->slot != NULL) {
		lean_read(c->slot, room, sizeof room, &n); /* the ticket */
		lean_close(c->slot);
	} else {
		tls_read(c->tls, room, sizeof room, &n);
		tls_close(c->tls);
	}
}

/* The two sides, each a function that callgrind can be told to count alone. */
__attribute__((noinline)) static enum tls_result side_server(
	struct tls **server, struct lab_link *link)
{
	if (*server == NULL)
		*server = tls_open_server(servers, 0, lab_server_io(link));
	return tls_handshake(*server);
}

__attribute__((noinline)) static enum tls_result side_client(
	struct client *c, struct lab_link *link)
{
	if (!c->is_open)
		open_client(c, link);
	c->is_open = true;
	return shake_client(c);
}

/* Once; the time of either side is added to its own. */
static void meet(
	struct client *c, struct lab_link *link, struct side *of_server, struct side *of_client)
{
	enum tls_result at_server = TLS_AGAIN, at_client = TLS_AGAIN;
	struct tls *server = NULL;
	uint64_t t = cpu_ns(), next;
	while (at_server == TLS_AGAIN || at_client == TLS_AGAIN) {
		at_client = side_client(c, link);
		of_client->ns += (next = cpu_ns()) - t;
		at_server = side_server(&server, link);
		of_server->ns += (t = cpu_ns()) - next;
	}
	assert(at_server == TLS_OK && at_client == TLS_OK);
	close_client(c);
	c->is_open = false;
	of_client->ns += (next = cpu_ns()) - t;
	tls_close(server);
	of_server->ns += cpu_ns() - next;
}

/* Has `line` all the words that were asked for? */
static bool is_wanted(const char *line)
{
	for (char **word = words; *word != NULL; word++) {
		char spaced[64];
		snprintf(spaced, sizeof spaced, " %s ", *word);
		if (strstr(line, spaced) == NULL)
			return false;
	}
	return true;
}

static void run(const struct cell *cell, struct client *c, const char *who, double seconds)
{
	char line[128];
	snprintf(line, sizeof line, " %-8s %-7s %-14s %-7s %-5s", cell->name,
		tls_protocol_name(cell->protocol), cell->groups,
		cell->is_resumed ? "resumed" : "full", who);
	strcat(line, " ");
	if (!is_wanted(line))
		return;
	struct side of_server = {0}, of_client = {0};
	struct lab_link link;
	unsigned count = 0;
	lab_link_init(&link);
	for (int i = 0; i < 50; i++)
		meet(c, &link, &(struct side){0}, &(struct side){0});
	for (uint64_t end = cpu_ns() + (uint64_t)(seconds * 1e9); cpu_ns() < end; count++) {
		link.up.head = link.up.tail = link.down.head = link.down.tail = 0;
		meet(c, &link, &of_server, &of_client);
	}
	printf("%s server %7.1f us  client %7.1f us  1 : %-4.1f  (%u handshakes)\n", line,
		(double)of_server.ns / count / 1000, (double)of_client.ns / count / 1000,
		(double)of_server.ns / (double)of_client.ns, count);
	fflush(stdout);
	lab_link_fini(&link);
}

static void run_cell(const struct cell *cell, double seconds)
{
	struct lab_cert cert =
		lab_cert_make((struct lab_spec){"mx", "DNS:mx.example.test", .key = cell->key});
	struct tls_key_pair pair = lab_pair((const struct lab_cert *const[]){&cert}, 1);
	struct tls_profile profile = {.id = "bench", .level = TLS_LEVEL_ENCRYPT};
	struct tls_error e;
	char error[256];
	servers = tls_server_set_create(
		lib, &(struct tls_server_set_config){&pair, 1, &profile, 1, BYTES_NONE}, &e);
	profile.protocol_highest = cell->protocol;
	snprintf(profile.groups, sizeof profile.groups, "%s", cell->groups);
	struct client plain = {
		.plain = tls_client_set_create(
			lib, &(struct tls_client_set_config){&profile, 1, pair.chain_pem}, &e)};
	struct lean *lean = lean_create(&(struct lean_config){cell->protocol, cell->groups,
						"mx.example.test", cell->is_resumed},
		error);
	assert(servers != NULL && plain.plain != NULL && lean != NULL);
	struct client ours = {.slot = lean_slot_create(lean)};
	if (!cell->is_resumed)
		run(cell, &plain, "plain", seconds);
	run(cell, &ours, "lean", seconds);
	lean_slot_destroy(ours.slot);
	lean_destroy(lean);
	tls_client_set_put(plain.plain);
	tls_server_set_put(servers);
	lab_pair_free(&pair);
	lab_cert_free(&cert);
}

int main(int argc, char **argv)
{
	static const struct cell cells[] = {
		{"ECDSA", LAB_ECDSA, TLS_1_3, "X25519"},
		{"ECDSA", LAB_ECDSA, TLS_1_3, "P-256"},
		{"ECDSA", LAB_ECDSA, TLS_1_3, "X25519MLKEM768"},
		{"RSA-2048", LAB_RSA, TLS_1_3, "X25519"},
		{"ECDSA", LAB_ECDSA, TLS_1_3, "X25519", true},
		{"ECDSA", LAB_ECDSA, TLS_1_3, "X25519MLKEM768", true},
		{"ECDSA", LAB_ECDSA, TLS_1_2, "X25519:P-256"},
		{"ECDSA", LAB_ECDSA, TLS_1_2, "X25519:P-256", true},
	};
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	if (seconds <= 0 || seconds > 600) {
		fprintf(stderr, "usage: lean_bench [SECONDS of each line, default 1 [WORD]...]\n");
		return 64;
	}
	words = argv + (argc > 1 ? 2 : 1);
	lib = tls_lib_create();
	assert(lib != NULL);
	for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
		run_cell(&cells[i], seconds);
	tls_lib_destroy(lib);
	return 0;
}
