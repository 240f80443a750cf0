// SPDX-License-Identifier: Apache-2.0
/* tls/offload/handshake_test.c: handshakes that wait for batched operations, against a client of OpenSSL's own. */
#include "tls/meeting.h"
#include "tls/offload/fibre.h"
#include "tls/offload/offload_private.h"
#include "tls/tls_private.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHAKES_MAX = 200 };

/* ---- many handshakes at once ---- */

struct shake {
	struct lab_link link;
	struct lab_raw raw;
	struct tls *server;
	enum tls_result result;
	bool is_woken, is_done; /* the client's side is done */
	int waits, wakes;
};

static struct shake shakes[SHAKES_MAX];
static struct tls_server_set *servers;
static SSL_CTX *clients;
static SSL_SESSION *ticket; /* the last one that came */
static bool is_resuming;

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION_free(ticket);
	ticket = session;
	return 1;
}

struct kind {
	enum which which;
	uint16_t protocol;
	const char *groups;
};

static const struct kind kinds[] = {
	{MX_RSA, TLS_1_3, "X25519"        },
	 {MX_RSA, TLS_1_3, "P-256"	       },
	  {MX_RSA, TLS_1_3, "X25519MLKEM768"},
	{MX_RSA, TLS_1_2, "X25519"        },
	    {MX_RSA, TLS_1_2, "P-256"	  },
	     {RIGHT,	TLS_1_3, "X25519"	 },
	{RIGHT,	TLS_1_3, "P-256"	 },
	{RIGHT,	TLS_1_3, "X25519MLKEM768"},
	/* with the certificate's own curve (RFC 8422 5.1) */
	 {RIGHT,  TLS_1_2, "X25519:P-256"	    },
	{RIGHT,  TLS_1_2, "P-256"	      },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void begin(const struct kind *kind, enum tls_backend backend)
{
	struct tls_error error = {""};
	struct tls_profile profile = {"waiting", .level = TLS_LEVEL_ENCRYPT};
	servers = tls_server_set_create(lib,
		&(struct tls_server_set_config){.pairs = &pair[kind->which],
			.pair_count = 1,
			.profiles = &profile,
			.profile_count = 1,
			.client_ca_pem = roots,
			.backend = backend},
		&error);
	assert_string_equal(error.text, "");
	clients = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(clients, kind->protocol);
	assert_int_equal(SSL_CTX_set1_groups_list(clients, kind->groups), 1);
	SSL_CTX_set_session_cache_mode(
		clients, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(clients, keep_ticket);
}

static void end(void)
{
	tls_server_set_put(servers);
	SSL_CTX_free(clients);
	SSL_SESSION_free(ticket);
	ticket = NULL;
}

static void woken(void *user)
{
	struct shake *s = (struct shake *)((char *)user - offsetof(struct shake, link));
	s->is_woken = true;
	s->wakes++;
}

static void shake_open(struct shake *s)
{
	*s = (struct shake){.is_woken = true, .result = TLS_AGAIN};
	lab_link_init(&s->link);
	struct tls_io io = lab_server_io(&s->link);
	io.wake = woken;
	s->server = tls_open_server(servers, 0, io);
	s->raw = lab_raw_client(clients, &s->link, "mx.example.test");
	if (is_resuming)
		SSL_set_session(s->raw.ssl, ticket);
	assert_non_null(s->server);
}

static void shake_close(struct shake *s)
{
	int wakes = s->wakes;
	tls_close(s->server);
	assert_int_equal(s->wakes, wakes);
	SSL_set_shutdown(s->raw.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	lab_raw_free(&s->raw);
	lab_link_fini(&s->link);
}

static void client_turn(struct shake *s)
{
	uint8_t in[16];
	s->is_done = s->is_done || SSL_do_handshake(s->raw.ssl) == 1;
	lab_raw_pump(&s->raw);
	if (s->is_done)
		SSL_read(s->raw.ssl, in, sizeof in); /* tickets */
	ERR_clear_error();
}

static void server_turn(struct shake *s)
{
	if (s->result == TLS_WAIT && !s->is_woken)
		return;
	s->is_woken = false;
	s->result = tls_handshake(s->server);
	s->waits += s->result == TLS_WAIT;
	assert_int_not_equal(s->result, TLS_FAIL);
	assert_true(s->result == TLS_WAIT || s->server->task.fibre == NULL);
}

/* Everybody's turn, then the core's. */
static void turn(int count)
{
	for (int i = 0; i < count; i++) {
		client_turn(&shakes[i]);
		server_turn(&shakes[i]);
	}
	tls_lib_poll(lib, 0, true);
}

static bool are_done(int count)
{
	for (int i = 0; i < count; i++)
		if (shakes[i].result != TLS_OK || !shakes[i].is_done)
			return false;
	return true;
}

static void shake_all(int count)
{
	for (int i = 0; i < count; i++)
		shake_open(&shakes[i]);
	for (int turns = 0; !are_done(count) && turns < 2000; turns++)
		turn(count);
	assert_true(are_done(count));
	for (int i = 0; i < count; i++) {
		client_turn(&shakes[i]);
		assert_int_equal(shakes[i].wakes, shakes[i].waits);
	}
}

static void close_all(int count)
{
	for (int i = 0; i < count; i++)
		shake_close(&shakes[i]);
	assert_int_equal(tls_lib_waiting(lib), 0);
}

/* ---- they come through ---- */

static uint64_t ops(enum tls_op_kind kind)
{
	return tls_lib_counters(lib)->kind[kind].ops;
}

static bool has_x25519(const struct kind *kind)
{
	return strncmp(kind->groups, "X25519", 6) == 0;
}

static void check_shakes(const struct kind *kind, int count, bool is_resumed)
{
	is_resuming = is_resumed;
	uint64_t rsa = ops(TLS_OP_RSA_2048), x25519 = ops(TLS_OP_X25519);
	shake_all(count);
	for (int i = 0; i < count; i++) {
		struct tls_verdict verdict;
		tls_get_verdict(shakes[i].server, &verdict);
		assert_int_equal(verdict.is_resumed, is_resumed);
		assert_int_equal(verdict.protocol, kind->protocol);
	}
	bool is_signing = kind->which == MX_RSA && !is_resumed;
	bool is_exchanging = has_x25519(kind) && (kind->protocol == TLS_1_3 || !is_resumed);
	assert_int_equal(ops(TLS_OP_RSA_2048) - rsa, is_signing ? count : 0);
	assert_int_equal(ops(TLS_OP_X25519) - x25519, is_exchanging ? count : 0);
	close_all(count);
	is_resuming = false;
}

static void handshakes_of_all_kinds_come_through_in_any_number(void **state)
{
	static const int counts[] = {1, 2, 3, 7, 8, 9, 20};
	for (int k = 0; k < KINDS; k++) {
		begin(&kinds[k], TLS_BACKEND_MB);
		for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
			check_shakes(&kinds[k], counts[i], false);
		end();
	}
}

static void resumed_handshakes_come_through_in_any_number(void **state)
{
	for (int k = 0; k < KINDS; k++) {
		begin(&kinds[k], TLS_BACKEND_MB);
		check_shakes(&kinds[k], 1, false);
		assert_non_null(ticket);
		check_shakes(&kinds[k], 9, true);
		end();
	}
}

static void eight_at_once_are_one_batch_of_each_kind(void **state)
{
	const struct tls_offload_counters *c = tls_lib_counters(lib);
	uint64_t rsa = c->kind[TLS_OP_RSA_2048].batches[7], x25519 = c->kind[TLS_OP_X25519].batches[7],
		 scalar = c->kind[TLS_OP_RSA_2048].scalar + c->kind[TLS_OP_X25519].scalar;
	begin(&kinds[0], TLS_BACKEND_MB);
	shake_all(8);
	assert_int_equal(c->kind[TLS_OP_RSA_2048].batches[7] - rsa, 1);
	assert_int_equal(c->kind[TLS_OP_X25519].batches[7] - x25519, 1);
	assert_int_equal(c->kind[TLS_OP_RSA_2048].scalar + c->kind[TLS_OP_X25519].scalar, scalar);
	close_all(8);
	end();
}

static void more_than_there_are_fibres_come_through(void **state)
{
	uint64_t none = tls_lib_counters(lib)->no_fibre;
	begin(&kinds[5], TLS_BACKEND_MB);
	shake_all(TLS_FIBRES_MAX + 20);
	assert_int_equal(tls_lib_counters(lib)->no_fibre - none, 20);
	close_all(TLS_FIBRES_MAX + 20);
	end();
}

static void our_own_client_waits_too(void **state)
{
	struct tls_profile profile = {"waiting", .level = TLS_LEVEL_SECURE};
	struct tls_error error;
	enum tls_result at_client, at_server;
	uint64_t before = ops(TLS_OP_X25519);
	begin(&kinds[2], TLS_BACKEND_MB);
	struct tls_client_set *ours = tls_client_set_create(lib,
		&(struct tls_client_set_config){&profile, 1, roots, .backend = TLS_BACKEND_MB}, &error);
	struct lab_link link;
	lab_link_init(&link);
	struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
	struct tls *client = tls_open_client(ours, 0, lab_client_io(&link), "mx.example.test", "");
	lab_shake(client, server, &at_client, &at_server);
	const char *why;
	tls_failure(client, &why);
	assert_string_equal(why, "");
	assert_int_equal(at_client, TLS_OK);
	assert_int_equal(at_server, TLS_OK);
	assert_int_equal(ops(TLS_OP_X25519) - before, 2);
	tls_close(server);
	tls_close(client);
	lab_link_fini(&link);
	tls_client_set_put(ours);
	end();
}

/* ---- and where they do not ---- */

/* One handshake, `steps` half turns; true if it was done by then. */
static bool shake_some(int steps)
{
	for (int i = 0; i < steps; i++) {
		if (i % 2 == 1) {
			tls_lib_poll(lib, 0, true);
			continue;
		}
		client_turn(&shakes[0]);
		server_turn(&shakes[0]);
	}
	return are_done(1);
}

static void a_handshake_may_be_closed_at_any_step(void **state)
{
	for (int k = 0; k < KINDS; k++) {
		uint64_t cancelled = tls_lib_counters(lib)->cancelled;
		begin(&kinds[k], TLS_BACKEND_MB);
		bool is_done = false;
		for (int steps = 0; !is_done; steps++) {
			assert_true(steps < 40);
			shake_open(&shakes[0]);
			is_done = shake_some(steps);
			size_t sent = shakes[0].link.down.tail;
			tls_close(shakes[0].server);
			assert_int_equal(shakes[0].link.down.tail, sent); /* nothing is sent */
			shakes[0].server = NULL;
			shake_close(&shakes[0]);
			assert_int_equal(tls_lib_waiting(lib), 0);
		}
		end();
		bool is_waiting = kinds[k].which == MX_RSA || has_x25519(&kinds[k]);
		assert_int_equal(tls_lib_counters(lib)->cancelled != cancelled, is_waiting);
	}
}

static void one_that_leaves_does_not_hinder_the_others(void **state)
{
	begin(&kinds[0], TLS_BACKEND_MB);
	for (int waits = 1; waits <= 2; waits++) { /* for X25519, for RSA */
		for (int i = 0; i < 8; i++)
			shake_open(&shakes[i]);
		for (int i = 0; i < 8; i++)
			while (shakes[i].waits < 1) {
				client_turn(&shakes[i]);
				server_turn(&shakes[i]);
			}
		if (waits == 2)
			turn(8);
		for (int i = 0; waits == 2 && i < 8; i++)
			server_turn(&shakes[i]);
		assert_int_equal(shakes[7].waits, waits);
		shake_close(&shakes[7]);
		for (int turns = 0; !are_done(7) && turns < 100; turns++)
			turn(7);
		assert_true(are_done(7));
		close_all(7);
	}
	end();
}

static void a_set_may_go_while_its_ops_are_out(void **state)
{
	begin(&kinds[0], TLS_BACKEND_MB);
	for (int i = 0; i < 5; i++)
		shake_open(&shakes[i]);
	turn(5);
	for (int i = 0; i < 5; i++)
		server_turn(&shakes[i]);
	assert_int_equal(tls_lib_waiting(lib), 5); /* signatures */
	end();
	close_all(5); /* the last frees the set, and its key */
	tls_lib_poll(lib, 0, true);
}

static void a_handshake_cut_at_any_byte_only_waits(void **state)
{
	for (int k = 0; k < KINDS; k += 3) {
		begin(&kinds[k], TLS_BACKEND_MB);
		shake_all(1);
		size_t whole = shakes[0].link.up.passed;
		close_all(1);
		size_t step = strlen(kinds[k].groups) > 6 ? 7 : 1;
		for (size_t cut = 0; cut < whole; cut += cut + step < whole ? step : 1) {
			shake_open(&shakes[0]);
			shakes[0].link.up.cut = cut;
			for (int turns = 0; turns < 6; turns++)
				turn(1);
			assert_int_equal(shakes[0].result, TLS_AGAIN);
			close_all(1);
		}
		end();
	}
}

static void without_ifma_the_same_handshakes_are_inline(void **state)
{
	tls_mb_forbid(true);
	assert_non_null(tls_backend_unusable(lib, TLS_BACKEND_MB));
	for (int k = 0; k < KINDS; k++) {
		begin(&kinds[k], TLS_BACKEND_MB);
		shake_all(9);
		for (int i = 0; i < 9; i++)
			assert_int_equal(shakes[i].waits, 0);
		close_all(9);
		end();
	}
	tls_mb_forbid(false);
	assert_null(tls_backend_unusable(lib, TLS_BACKEND_MB));
}

/* ---- stacks ---- */

/* With a client's chain to verify, which is the deepest that OpenSSL goes. */
static void a_stack_has_room_for_four_handshakes(void **state)
{
	struct tls_profile profile = {
		"waiting", .level = TLS_LEVEL_VERIFY, .client_cert = TLS_CLIENT_CERT_REQUIRE};
	begin(&kinds[2], TLS_BACKEND_MB);
	tls_server_set_put(servers);
	struct tls_error error = {""};
	servers = tls_server_set_create(lib,
		&(struct tls_server_set_config){.pairs = &pair[MX_RSA],
			.pair_count = 1,
			.profiles = &profile,
			.profile_count = 1,
			.client_ca_pem = roots,
			.backend = TLS_BACKEND_MB},
		&error);
	assert_int_equal(SSL_CTX_use_cert_and_key(
				 clients, leaf[CLIENT].cert, leaf[CLIENT].key, NULL, 1), 1);
	SSL_CTX_add1_chain_cert(clients, middle.cert);
	shake_all(9);
	close_all(9);
	size_t most = tls_offload_stack_most(lib->offload);
	printf("stack of a handshake: %zu bytes of %d\n", most, TLS_FIBRE_STACK_BYTES);
	assert_in_range(most, 1024, TLS_FIBRE_STACK_BYTES / 4);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handshakes_of_all_kinds_come_through_in_any_number),
		cmocka_unit_test(resumed_handshakes_come_through_in_any_number),
		cmocka_unit_test(eight_at_once_are_one_batch_of_each_kind),
		cmocka_unit_test(more_than_there_are_fibres_come_through),
		cmocka_unit_test(our_own_client_waits_too),
		cmocka_unit_test(a_handshake_may_be_closed_at_any_step),
		cmocka_unit_test(one_that_leaves_does_not_hinder_the_others),
		cmocka_unit_test(a_set_may_go_while_its_ops_are_out),
		cmocka_unit_test(a_handshake_cut_at_any_byte_only_waits),
		cmocka_unit_test(without_ifma_the_same_handshakes_are_inline),
		cmocka_unit_test(a_stack_has_room_for_four_handshakes),
	};
	const char *why_not = tls_mb_unusable();
	if (why_not != NULL) {
		printf("skipped: %s\n", why_not);
		return 77;
	}
	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
