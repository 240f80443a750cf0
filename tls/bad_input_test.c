// SPDX-License-Identifier: Apache-2.0
/* What a bad peer may do to a handshake, with each back end: garbage, halves, ends at every byte, wrong certificates,
 * and closing in the middle. The crypto thread has the lab engine, whose file is the argument. */
#include "tls/lab.h"
#include "tls/tls_private.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>
#include <cmocka.h>

/* ---- certificates and sets ---- */

enum which { RIGHT, EXPIRED, FOREIGN, WRONG_NAME, RIGHT_ECDSA, CLIENT_EXPIRED, CLIENT_FOREIGN, WHICH_COUNT };

static struct lab_cert ca, foreign_ca, leaf[WHICH_COUNT];
static struct tls_key_pair pair[WHICH_COUNT];
static struct bytes roots;
static struct tls_lib *lib;
static const char *lab_engine;
static bool has[TLS_BACKEND_ENGINE + 1];

#define EACH_BACKEND(b)                                                                            \
	for (enum tls_backend b = TLS_BACKEND_INLINE; b <= TLS_BACKEND_ENGINE; b++)                \
		if (has[b])

static void make_certificates(void)
{
	ca = lab_cert_make((struct lab_spec){.name = "Lab CA", .is_ca = true});
	foreign_ca = lab_cert_make((struct lab_spec){.name = "Foreign CA", .is_ca = true});
	const struct lab_spec specs[WHICH_COUNT] = {
		[RIGHT] = {"mx", "DNS:mx.example.test", &ca, LAB_RSA},
		[EXPIRED] = {"old", "DNS:mx.example.test", &ca, LAB_RSA, .from_days = -20, .to_days = -1},
		[FOREIGN] = {"foreign", "DNS:mx.example.test", &foreign_ca, LAB_RSA},
		[WRONG_NAME] = {"wrong", "DNS:elsewhere.example.test", &ca, LAB_RSA},
		[RIGHT_ECDSA] = {"ecdsa", "DNS:mx.example.test", &ca},
		[CLIENT_EXPIRED] = {"c", "DNS:c.example.test", &ca, .from_days = -20, .to_days = -1},
		[CLIENT_FOREIGN] = {"c", "DNS:c.example.test", &foreign_ca},
	};
	for (int i = 0; i < WHICH_COUNT; i++) {
		leaf[i] = lab_cert_make(specs[i]);
		pair[i] = lab_pair((const struct lab_cert *const[]){&leaf[i]}, 1);
	}
	roots = lab_certs_pem((const struct lab_cert *const[]){&ca}, 1);
}

static int set_up(void **state)
{
	struct tls_error error;
	lib = tls_lib_create();
	if (lib == NULL)
		return -1;
	make_certificates();
	setenv("LAB_ENGINE", "hardware", 1);
	if (!tls_crypto_start(&(struct tls_crypto_config){lab_engine, 0x21, 0x21}, &error)) {
		print_message("%s\n", error.text);
		return -1;
	}
	for (int b = TLS_BACKEND_INLINE; b <= TLS_BACKEND_ENGINE; b++) {
		const char *why = tls_backend_unusable(lib, (enum tls_backend)b);
		has[b] = why == NULL;
		if (why != NULL)
			print_message("%s is not tried: %s\n", tls_backend_name((enum tls_backend)b), why);
	}
	return has[TLS_BACKEND_ENGINE] ? 0 : -1;
}

static int tear_down(void **state)
{
	for (int i = 0; i < WHICH_COUNT; i++) {
		lab_pair_free(&pair[i]);
		lab_cert_free(&leaf[i]);
	}
	lab_cert_free(&ca);
	lab_cert_free(&foreign_ca);
	free((void *)roots.at);
	tls_crypto_stop();
	tls_lib_destroy(lib);
	return 0;
}

static struct tls_server_set *servers_of(
	enum tls_backend backend, enum which which, const struct tls_profile *profile)
{
	struct tls_error error;
	struct tls_server_set *set = tls_server_set_create(lib,
		&(struct tls_server_set_config){.pairs = &pair[which],
			.pair_count = 1,
			.profiles = profile,
			.profile_count = 1,
			.client_ca_pem = roots,
			.backend = backend},
		&error);
	assert_string_equal(error.text, "");
	assert_non_null(set);
	return set;
}

static struct tls_client_set *clients_of(enum tls_backend backend, const struct tls_profile *profile)
{
	struct tls_error error;
	struct tls_client_set *set = tls_client_set_create(lib,
		&(struct tls_client_set_config){
			.profiles = profile, .profile_count = 1, .ca_pem = roots, .backend = backend},
		&error);
	assert_string_equal(error.text, "");
	assert_non_null(set);
	return set;
}

/* ---- a meeting ---- */

/* X25519 alone keeps flights short and goes through the back end. */
static const struct tls_profile may = {.id = "may", .level = TLS_LEVEL_MAY, .groups = "X25519"};
/* The curve of an ECDSA key is a group, too (RFC 8422 5.1.1). */
static const struct tls_profile may_12 = {
	.id = "may12", .level = TLS_LEVEL_MAY, .groups = "X25519:P-256", .protocol_highest = TLS_1_2};

struct meeting {
	struct tls_server_set *servers;
	struct tls_client_set *clients;
	struct lab_link link;
	struct tls *server, *client;
	enum tls_result at_server, at_client;
};

static struct meeting meeting_of(enum tls_backend backend, enum which which,
	const struct tls_profile *for_server, const struct tls_profile *for_client)
{
	return (struct meeting){.servers = servers_of(backend, which, for_server),
		.clients = clients_of(backend, for_client)};
}

static void meet(struct meeting *m)
{
	lab_link_init(&m->link);
	m->server = tls_open_server(m->servers, 0, lab_server_io(&m->link));
	m->client = tls_open_client(m->clients, 0, lab_client_io(&m->link), "mx.example.test", "");
	assert_non_null(m->server);
	assert_non_null(m->client);
}

static void part(struct meeting *m)
{
	tls_close(m->client);
	tls_close(m->server);
	lab_link_fini(&m->link);
}

static void meeting_end(struct meeting *m)
{
	tls_server_set_put(m->servers);
	tls_client_set_put(m->clients);
}

static void settle(void)
{
	for (int i = 0; i < 50000 && tls_lib_waiting(lib) != 0; i++)
		if (!tls_lib_poll(lib, 0, true))
			thrd_sleep(&(struct timespec){.tv_nsec = 20000}, NULL);
	assert_int_equal(tls_lib_waiting(lib), 0);
}

static enum tls_result turn(struct tls *tls)
{
	enum tls_result result;
	while ((result = tls_handshake(tls)) == TLS_WAIT)
		settle();
	return result;
}

/* Until nothing moves any more. */
static void shake(struct meeting *m)
{
	for (int turns = 0; turns < 4; turns++) {
		m->at_client = turn(m->client);
		m->at_server = turn(m->server);
	}
}

static void assert_still_works(struct meeting *m)
{
	meet(m);
	shake(m);
	assert_int_equal(m->at_client, TLS_OK);
	assert_int_equal(m->at_server, TLS_OK);
	part(m);
}

/* ---- garbage and halves ---- */

static void garbage_for_a_clienthello_fails_alone(void **state)
{
	EACH_BACKEND(b) {
		struct meeting m = meeting_of(b, RIGHT, &may, &may);
		for (size_t n = 1; n < 3000; n = n * 3 / 2 + 1)
			for (int is_record = 0; is_record < 2; is_record++) {
				static uint8_t junk[3000];
				struct tls *server;
				meet(&m);
				RAND_bytes(junk, sizeof junk);
				if (is_record)
					memcpy(junk, "\x16\x03\x01\x00\x40\x01\x00\x00\x3c", 9);
				else
					memcpy(junk, "\x17\x00", 2); /* by chance it might begin a record */
				server = m.server;
				lab_wire_write(&m.link.up, junk, n);
				enum tls_result result = turn(server);
				assert_true(result == TLS_FAIL || (result == TLS_AGAIN && n < 75));
				part(&m);
			}
		assert_still_works(&m);
		meeting_end(&m);
	}
}

/* Also garbage for a server's answer, which is the client's to bear. */
static void garbage_for_a_serverhello_fails_alone(void **state)
{
	EACH_BACKEND(b) {
		struct meeting m = meeting_of(b, RIGHT, &may, &may);
		for (int i = 0; i < 20; i++) {
			uint8_t junk[200];
			meet(&m);
			assert_int_equal(turn(m.client), TLS_AGAIN);
			RAND_bytes(junk, sizeof junk);
			memcpy(junk, "\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03", 11);
			lab_wire_write(&m.link.down, junk, sizeof junk);
			assert_int_equal(turn(m.client), TLS_FAIL);
			part(&m);
		}
		assert_still_works(&m);
		meeting_end(&m);
	}
}

static void any_half_of_a_clienthello_waits_for_the_other(void **state)
{
	EACH_BACKEND(b) {
		struct meeting m = meeting_of(b, RIGHT, &may, &may);
		meet(&m);
		assert_int_equal(turn(m.client), TLS_AGAIN);
		static uint8_t hello[4096];
		size_t n = m.link.up.tail - m.link.up.head;
		assert_in_range(n, 100, sizeof hello);
		memcpy(hello, m.link.up.at + m.link.up.head, n);
		for (size_t half = 0; half < n; half++) {
			struct tls *server = tls_open_server(m.servers, 0, lab_server_io(&m.link));
			m.link.up.head = m.link.up.tail;
			lab_wire_write(&m.link.up, hello, half);
			assert_int_equal(turn(server), TLS_AGAIN);
			assert_int_equal(turn(server), TLS_AGAIN);
			assert_int_equal(m.link.down.tail, m.link.down.head); /* and not a word */
			tls_close(server);
		}
		part(&m);
		meeting_end(&m);
	}
}

/* ---- cut at every byte ---- */

/* Nothing passes of one direction after `cut` bytes; who waits for it waits, and may be closed. */
static void cut_at_every_byte(enum tls_backend b, enum which which, const struct tls_profile *profile, size_t step)
{
	struct meeting m = meeting_of(b, which, profile, profile);
	meet(&m);
	shake(&m);
	assert_int_equal(m.at_server, TLS_OK);
	size_t up = m.link.up.passed, down = m.link.down.passed;
	part(&m);
	for (size_t cut = 0; cut < up; cut += step) {
		meet(&m);
		m.link.up.cut = cut;
		shake(&m);
		assert_int_equal(m.at_server, TLS_AGAIN);
		assert_int_not_equal(m.at_client, TLS_FAIL);
		part(&m);
	}
	/* Of 1.3 the last message is a ticket, which the client does not wait for; and signatures of ECDSA differ in
	 * length by some bytes. */
	size_t not_waited_for = profile->protocol_highest == 0 ? 400 : 4;
	bool is_done = false;
	for (size_t cut = 0; cut < down && !is_done; cut += step) {
		meet(&m);
		m.link.down.cut = cut;
		shake(&m);
		assert_int_not_equal(m.at_client, TLS_FAIL);
		assert_int_not_equal(m.at_server, TLS_FAIL);
		is_done = m.at_client == TLS_OK;
		assert_true(!is_done || cut + not_waited_for > down);
		part(&m);
	}
	assert_still_works(&m);
	meeting_end(&m);
}

static void a_handshake_cut_at_every_byte_waits(void **state)
{
	cut_at_every_byte(TLS_BACKEND_INLINE, RIGHT_ECDSA, &may, 1);
	cut_at_every_byte(TLS_BACKEND_INLINE, RIGHT_ECDSA, &may_12, 1);
	if (has[TLS_BACKEND_MB]) {
		cut_at_every_byte(TLS_BACKEND_MB, RIGHT, &may, 1);
		cut_at_every_byte(TLS_BACKEND_MB, RIGHT, &may_12, 7);
	}
	cut_at_every_byte(TLS_BACKEND_ENGINE, RIGHT, &may, 13);
	cut_at_every_byte(TLS_BACKEND_ENGINE, RIGHT, &may_12, 31);
}

/* ---- closed in the middle ---- */

enum { CROWD = 11 }; /* a batch, and some more */

static void meet_all(struct meeting *crowd, const struct meeting *sets)
{
	for (int i = 0; i < CROWD; i++) {
		crowd[i] = *sets;
		meet(&crowd[i]);
		turn(crowd[i].client);
		crowd[i].at_server = tls_handshake(crowd[i].server);
	}
}

/* The generation that made the key is gone, and half of the handshakes; the other half comes to its end. */
static void a_key_may_disappear_while_its_batch_is_out(void **state)
{
	for (enum tls_backend b = TLS_BACKEND_MB; b <= TLS_BACKEND_ENGINE; b++)
		for (int waits = 0; has[b] && waits < 3; waits++) { /* at the key exchange, at the signature, … */
			struct meeting sets = meeting_of(b, RIGHT, &may, &may), crowd[CROWD];
			meet_all(crowd, &sets);
			for (int i = 0; i < waits; i++) {
				settle();
				for (int k = 0; k < CROWD; k++)
					crowd[k].at_server = tls_handshake(crowd[k].server);
			}
			if (waits == 0)
				assert_int_equal(crowd[0].at_server, TLS_WAIT);
			tls_server_set_put(sets.servers);
			for (int i = 0; i < CROWD; i += 2)
				tls_close(crowd[i].server);
			for (int i = 1; i < CROWD; i += 2) {
				shake(&crowd[i]);
				assert_int_equal(crowd[i].at_server, TLS_OK);
				assert_int_equal(crowd[i].at_client, TLS_OK);
			}
			for (int i = 0; i < CROWD; i++) {
				if (i % 2 == 1)
					tls_close(crowd[i].server); /* the last one frees the key */
				tls_close(crowd[i].client);
				lab_link_fini(&crowd[i].link);
			}
			tls_client_set_put(sets.clients);
			settle();
		}
}

static void a_whole_batch_may_close_before_it_is_done(void **state)
{
	EACH_BACKEND(b) {
		struct meeting sets = meeting_of(b, RIGHT, &may, &may), crowd[CROWD];
		meet_all(crowd, &sets);
		for (int i = 0; i < CROWD; i++)
			part(&crowd[i]);
		settle();
		assert_still_works(&sets);
		meeting_end(&sets);
	}
}

/* ---- wrong certificates, either side ---- */

static void a_servers_wrong_certificate_is_refused_and_told(void **state)
{
	static const struct tls_profile secure = {.id = "secure", .level = TLS_LEVEL_SECURE};
	static const struct {
		enum which which;
		enum tls_failure_kind kind;
	} cases[] = {
		{RIGHT,	    TLS_FAILURE_NONE	},
		{EXPIRED,	  TLS_FAILURE_UNTRUSTED},
		{FOREIGN,	  TLS_FAILURE_UNTRUSTED},
		{WRONG_NAME, TLS_FAILURE_NAME     },
	};
	EACH_BACKEND(b) for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
	{
		struct meeting m = meeting_of(b, cases[i].which, &may, &secure);
		bool is_well = cases[i].kind == TLS_FAILURE_NONE;
		meet(&m);
		shake(&m);
		assert_int_equal(m.at_client, is_well ? TLS_OK : TLS_FAIL);
		assert_int_equal(m.at_server, is_well ? TLS_OK : TLS_FAIL); /* by our alert */
		assert_int_equal(tls_failure(m.client, NULL), cases[i].kind);
		assert_int_equal(tls_failure(m.server, NULL), is_well ? 0 : TLS_FAILURE_HANDSHAKE);
		part(&m);
		meeting_end(&m);
	}
}

static void a_clients_wrong_certificate_is_refused(void **state)
{
	static const struct tls_profile require = {
		.id = "require", .level = TLS_LEVEL_MAY, .client_cert = TLS_CLIENT_CERT_REQUIRE};
	EACH_BACKEND(b) for (int which = CLIENT_EXPIRED; which <= CLIENT_FOREIGN; which++)
	{
		struct tls_server_set *servers = servers_of(b, RIGHT, &require);
		SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
		struct lab_link link;
		lab_link_init(&link);
		assert_int_equal(SSL_CTX_use_cert_and_key(ctx, leaf[which].cert, leaf[which].key, NULL, 1), 1);
		struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
		struct lab_raw raw = lab_raw_client(ctx, &link, "mx.example.test");
		enum tls_result result = TLS_AGAIN;
		for (int turns = 0; turns < 5; turns++) {
			SSL_do_handshake(raw.ssl);
			lab_raw_pump(&raw);
			result = turn(server);
			lab_raw_pump(&raw);
			ERR_clear_error();
		}
		assert_int_equal(result, TLS_FAIL);
		assert_int_equal(tls_failure(server, NULL), TLS_FAILURE_UNTRUSTED);
		tls_close(server);
		lab_raw_free(&raw);
		SSL_CTX_free(ctx);
		lab_link_fini(&link);
		tls_server_set_put(servers);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(garbage_for_a_clienthello_fails_alone),
		cmocka_unit_test(garbage_for_a_serverhello_fails_alone),
		cmocka_unit_test(any_half_of_a_clienthello_waits_for_the_other),
		cmocka_unit_test(a_handshake_cut_at_every_byte_waits),
		cmocka_unit_test(a_key_may_disappear_while_its_batch_is_out),
		cmocka_unit_test(a_whole_batch_may_close_before_it_is_done),
		cmocka_unit_test(a_servers_wrong_certificate_is_refused_and_told),
		cmocka_unit_test(a_clients_wrong_certificate_is_refused),
	};
	lab_engine = argc > 1 ? argv[1] : "";
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
