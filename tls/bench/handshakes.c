// SPDX-License-Identifier: Apache-2.0
/* tls/bench/handshakes.c: the matrix of handshakes. The servers take turns, some handshakes each, with one client
 * of OpenSSL's, so that a busy machine is the same to all; the ratio is of turns that follow each
 * other. */
#include "tls/bench/bench.h"

#undef NDEBUG
#include <assert.h>
#include <openssl/err.h>
#include <stdlib.h>

enum {
	IN_FLIGHT_MAX = 64,
	SERVERS_MAX = 8,
	/* Handshakes before the next server's turn: enough for warm caches, short against what
	 * neighbours do. */
	HANDSHAKES_A_TURN = 16,
	TURNS_MAX = 4096,
};

struct row {
	uint16_t protocol;
	enum bench_certificate certificate;
	const char *group; /* as it is named in the tables */
	bool is_resumed;
};

static const char *const certificate_names[] = {"ECDSA-P256", "RSA-2048", "RSA-3072"};

/* A client of TLS 1.2 must also name the curve of an ECDSA certificate (RFC 8422 5.1). */
static const char *client_groups(const struct row *row)
{
	bool is_x25519 = strcmp(row->group, "X25519") == 0;
	return is_x25519 && row->protocol == TLS_1_2 ? "X25519:P-256" : row->group;
}

static void row_text(const struct row *row, char text[64])
{
	snprintf(text, 64, "%s %s %s %s", tls_protocol_name(row->protocol),
		certificate_names[row->certificate], row->group,
		row->is_resumed ? "resumed" : "full");
}

/* ---- one server in a row ---- */

struct contender {
	const struct bench_server *kind;
	void *server;
	SSL_SESSION *ticket;
	unsigned turns;
	double server_us[TURNS_MAX], client_us[TURNS_MAX]; /* a handshake, by turn */
};

struct slot {
	struct bench_link link;
	void *session;
	SSL *client;
	bool is_server_done, is_client_done;
};

static SSL_CTX *client_ctx;
static struct slot slots[IN_FLIGHT_MAX];

/* One suite: servers have orders of their own. */
static bool set_suite(SSL_CTX *ctx, unsigned aes_bits)
{
	char suite[128];
	unsigned sha = aes_bits == 256 ? 384 : 256;
	snprintf(suite, sizeof suite, "TLS_AES_%u_GCM_SHA%u", aes_bits, sha);
	if (SSL_CTX_set_ciphersuites(ctx, suite) != 1)
		return false;
	snprintf(suite, sizeof suite, "ECDHE-ECDSA-AES%u-GCM-SHA%u:ECDHE-RSA-AES%u-GCM-SHA%u",
		aes_bits, sha, aes_bits, sha);
	return SSL_CTX_set_cipher_list(ctx, suite) == 1;
}

static SSL_CTX *client_create(const struct row *row, unsigned aes_bits)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	assert(ctx != NULL);
	assert(SSL_CTX_set_min_proto_version(ctx, row->protocol) == 1);
	assert(SSL_CTX_set_max_proto_version(ctx, row->protocol) == 1);
	assert(SSL_CTX_set1_groups_list(ctx, client_groups(row)) == 1);
	assert(set_suite(ctx, aes_bits));
	return ctx;
}

static void open_client(struct slot *slot, SSL_SESSION *ticket)
{
	slot->client = SSL_new(client_ctx);
	assert(slot->client != NULL);
	BIO_up_ref(slot->link.up);
	BIO_up_ref(slot->link.down);
	SSL_set_bio(slot->client, slot->link.down, slot->link.up);
	SSL_set_connect_state(slot->client);
	SSL_set_tlsext_host_name(slot->client, "mx.example.test");
	if (ticket != NULL)
		SSL_set_session(slot->client, ticket);
	slot->is_server_done = slot->is_client_done = false;
}

static void step_client(struct slot *slot)
{
	if (slot->is_client_done)
		return;
	ERR_clear_error();
	int returned = SSL_do_handshake(slot->client);
	assert(returned == 1 ||
		SSL_get_error(slot->client, returned) == SSL_ERROR_WANT_READ);
	slot->is_client_done = returned == 1;
}

/* ---- the sides: not inlined, so that a profiler can tell them apart (callgrind's
 * --toggle-collect='server_*') ---- */

#define SIDE __attribute__((noinline)) static

SIDE void clients_open(struct contender *c)
{
	for (unsigned i = 0; i < c->kind->in_flight; i++)
		open_client(&slots[i], c->ticket);
}

SIDE void clients_step(struct contender *c)
{
	for (unsigned i = 0; i < c->kind->in_flight; i++)
		step_client(&slots[i]);
}

SIDE void clients_close(struct contender *c)
{
	for (unsigned i = 0; i < c->kind->in_flight; i++) {
		SSL_shutdown(slots[i].client); /* so that its ticket stays good */
		SSL_free(slots[i].client);
		BIO_reset(slots[i].link.up);
		BIO_reset(slots[i].link.down);
	}
}

SIDE void server_open(struct contender *c)
{
	for (unsigned i = 0; i < c->kind->in_flight; i++)
		slots[i].session = c->kind->open(c->server, &slots[i].link);
}

SIDE void server_step(struct contender *c)
{
	for (unsigned i = 0; i < c->kind->in_flight; i++)
		if (!slots[i].is_server_done)
			slots[i].is_server_done = c->kind->step(slots[i].session);
	if (c->kind->turn != NULL)
		c->kind->turn(c->server);
}

SIDE void server_close(struct contender *c)
{
	for (unsigned i = 0; i < c->kind->in_flight; i++)
		c->kind->close(slots[i].session);
}

static bool are_done(const struct contender *c)
{
	for (unsigned i = 0; i < c->kind->in_flight; i++)
		if (!slots[i].is_server_done || !slots[i].is_client_done)
			return false;
	return true;
}

/* ---- turns ---- */

typedef void side(struct contender *c);

static void timed(side *what, struct contender *c, uint64_t *ns)
{
	uint64_t began = bench_ns();
	what(c);
	*ns += bench_ns() - began;
}

/* As many handshakes as are in flight at once, up to their end. */
static void shake(struct contender *c, uint64_t *server_ns, uint64_t *client_ns)
{
	timed(clients_open, c, client_ns);
	timed(server_open, c, server_ns);
	while (!are_done(c)) {
		timed(clients_step, c, client_ns);
		timed(server_step, c, server_ns);
	}
}

static void take_turn(struct contender *c)
{
	uint64_t server_ns = 0, client_ns = 0;
	unsigned count = 0;
	for (; count < HANDSHAKES_A_TURN; count += c->kind->in_flight) {
		shake(c, &server_ns, &client_ns);
		timed(server_close, c, &server_ns);
		timed(clients_close, c, &client_ns);
	}
	c->server_us[c->turns] = (double)server_ns / count / 1000;
	c->client_us[c->turns++] = (double)client_ns / count / 1000;
}

/* ---- a row ---- */

/* The client takes a ticket if the row resumes, and both say what was agreed. */
static void take_ticket(struct contender *c, const struct row *row)
{
	uint64_t unused = 0;
	uint8_t in[16];
	shake(c, &unused, &unused);
	for (unsigned i = 0; i < c->kind->in_flight; i++)
		assert(SSL_read(slots[i].client, in, sizeof in) <= 0);
	if (row->is_resumed)
		c->ticket = SSL_get1_session(slots[0].client);
	server_close(c);
	clients_close(c);
}

struct agreed {
	char cipher[48], group[32];
};

static void check_row(struct contender *c, const struct row *row, struct agreed *agreed)
{
	uint64_t unused = 0;
	SSL *client;
	shake(c, &unused, &unused);
	client = slots[0].client;
	assert(SSL_version(client) == row->protocol);
	assert((SSL_session_reused(client) == 1) == row->is_resumed);
	snprintf(agreed->cipher, sizeof agreed->cipher, "%s", SSL_get_cipher_name(client));
	const char *group = SSL_get0_group_name(client);
	snprintf(agreed->group, sizeof agreed->group, "%s", group == NULL ? "" : group);
	server_close(c);
	clients_close(c);
}

static int compare_numbers(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

struct spread {
	double low, median, high; /* quartiles */
};

static struct spread spread_of(const double *numbers, size_t count)
{
	static double sorted[TURNS_MAX];
	memcpy(sorted, numbers, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, compare_numbers);
	return (struct spread){sorted[count / 4], sorted[count / 2], sorted[count * 3 / 4]};
}

static struct spread ratio_to(const struct contender *c, const struct contender *ceiling)
{
	static double ratios[TURNS_MAX];
	for (unsigned i = 0; i < c->turns; i++)
		ratios[i] = ceiling->server_us[i] / c->server_us[i];
	return spread_of(ratios, c->turns);
}

static void print_contender(const struct row *row, const struct contender *c,
	const struct contender *ceiling, const struct agreed *agreed, bool is_json)
{
	static bool is_first = true;
	struct spread server = spread_of(c->server_us, c->turns);
	struct spread client = spread_of(c->client_us, c->turns);
	struct spread ratio = ratio_to(c, ceiling);
	if (is_json)
		printf("%s{\"version\":\"%s\",\"certificate\":\"%s\",\"group\":\"%s\",\"resumed\":%s,"
		       "\"cipher\":\"%s\",\"server\":\"%s\",\"in_flight\":%u,\"turns\":%u,"
		       "\"server_us\":%.2f,\"server_us_p25\":%.2f,\"server_us_p75\":%.2f,"
		       "\"server_per_s\":%.0f,\"client_us\":%.2f,\"ratio\":%.3f,"
		       "\"ratio_p25\":%.3f,\"ratio_p75\":%.3f}",
			is_first ? "" : ",\n", tls_protocol_name(row->protocol),
			certificate_names[row->certificate], row->group,
			row->is_resumed ? "true" : "false", agreed->cipher, c->kind->name,
			c->kind->in_flight, c->turns, server.median, server.low, server.high,
			1e6 / server.median, client.median, ratio.median, ratio.low, ratio.high);
	else
		printf("%-8s %-10s %-14s %-7s %-10s %3u %8.0f %7.1f %7.1f %7.1f %8.1f %6.3f %6.3f %6.3f\n",
			tls_protocol_name(row->protocol), certificate_names[row->certificate],
			row->group, row->is_resumed ? "resumed" : "full", c->kind->name,
			c->kind->in_flight, 1e6 / server.median, server.median, server.low,
			server.high, client.median, ratio.median, ratio.low, ratio.high);
	is_first = false;
	fflush(stdout);
}

static void bench_row(const struct row *row, const struct bench_options *options)
{
	static struct contender all[SERVERS_MAX];
	struct agreed agreed[SERVERS_MAX];
	size_t count = 0;
	client_ctx = client_create(row, options->aes_bits);
	for (size_t i = 0; i < bench_server_count; i++) {
		const struct bench_server *kind = &bench_servers[i];
		if (options->server != NULL && strcmp(options->server, kind->name) != 0)
			continue;
		struct contender *c = &all[count];
		*c = (struct contender){kind, kind->create(&bench_pairs[row->certificate])};
		take_ticket(c, row);
		check_row(c, row, &agreed[count]);
		assert(strcmp(agreed[count].cipher, agreed[0].cipher) == 0);
		assert(strcmp(agreed[count].group, agreed[0].group) == 0);
		take_turn(c); /* warms caches, is not counted */
		c->turns = 0;
		count++;
	}
	uint64_t end = bench_ns() + (uint64_t)(options->seconds * 1e9 * (double)count);
	while (bench_ns() < end && all[0].turns < TURNS_MAX)
		for (size_t i = 0; i < count; i++)
			take_turn(&all[i]);
	for (size_t i = 0; i < count; i++) {
		print_contender(row, &all[i], &all[0], &agreed[i], options->is_json);
		all[i].kind->destroy(all[i].server);
		SSL_SESSION_free(all[i].ticket);
	}
	SSL_CTX_free(client_ctx);
}

/* ---- all rows ---- */

void bench_handshakes(const struct bench_options *options)
{
	static const struct {
		uint16_t protocol;
		const char *group;
	} columns[] = {
		{TLS_1_3, "X25519"	   },
		{TLS_1_3, "P-256"	  },
		{TLS_1_3, "X25519MLKEM768"},
		{TLS_1_2, "X25519"	   },
		{TLS_1_2, "P-256"	  },
	};
	char text[64];
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++)
		bench_link_init(&slots[i].link);
	if (!options->is_json)
		printf("%-8s %-10s %-14s %-7s %-10s %3s %8s %7s %7s %7s %8s %6s %6s %6s\n",
			"version", "key", "group", "", "server", "n", "/s", "us", "p25", "p75",
			"client", "ratio", "p25", "p75");
	for (int is_resumed = 0; is_resumed < 2; is_resumed++)
		for (int certificate = 0; certificate < BENCH_CERTIFICATES; certificate++)
			for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
				struct row row = {columns[i].protocol,
					(enum bench_certificate)certificate, columns[i].group,
					is_resumed != 0};
				row_text(&row, text);
				if (options->only == NULL || strstr(text, options->only) != NULL)
					bench_row(&row, options);
			}
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++)
		bench_link_fini(&slots[i].link);
}
