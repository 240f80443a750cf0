// SPDX-License-Identifier: Apache-2.0
/* What a set of contexts is made of, and what becomes of it: roots, its replacement, what is refused. */
#include "tls/meeting.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- a CA set a profile ---- */

/* Two profiles of the same words; what differs is whom they trust. The third takes the shared set. */
static const struct tls_profile by_roots[] = {
	{"ours", .level = TLS_LEVEL_VERIFY},
	{"foreign", .level = TLS_LEVEL_VERIFY},
	{"shared", .level = TLS_LEVEL_VERIFY},
	{"ask", .level = TLS_LEVEL_ENCRYPT, .client_cert = TLS_CLIENT_CERT_ASK},
};
enum { BY_ROOTS_COUNT = sizeof by_roots / sizeof by_roots[0] };

static enum tls_failure_kind client_finds(
	struct tls_client_set *clients, size_t profile, enum which which)
{
	struct tls_server_set *servers = servers_of(&which, 1, &may);
	struct lab_link link;
	enum tls_result at_client, at_server;
	lab_link_init(&link);
	struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
	struct tls *client = tls_open_client(
		clients, (uint32_t)profile, lab_client_io(&link), "mx.example.test", "");
	lab_shake(client, server, &at_client, &at_server);
	enum tls_failure_kind kind = tls_failure(client, NULL);
	assert_int_equal(at_client == TLS_OK, kind == TLS_FAILURE_NONE);
	tls_close(client);
	tls_close(server);
	lab_link_fini(&link);
	tls_server_set_put(servers);
	return kind;
}

static void each_profile_of_a_client_set_trusts_its_own_roots_only(void **state)
{
	struct bytes foreign = lab_certs_pem((const struct lab_cert *const[]){&foreign_ca}, 1);
	const struct bytes own[BY_ROOTS_COUNT] = {[0] = roots, [1] = foreign};
	struct tls_error error;
	for (int shared_is_ours = 0; shared_is_ours < 2; shared_is_ours++) {
		struct tls_client_set *clients = tls_client_set_create(lib,
			&(struct tls_client_set_config){by_roots, BY_ROOTS_COUNT,
				shared_is_ours ? roots : foreign, own},
			&error);
		assert_string_equal(error.text, "");
		for (size_t i = 0; i < 3; i++) {
			bool is_ours = i == 0 || (i == 2 && shared_is_ours);
			assert_int_equal(client_finds(clients, i, RIGHT),
				is_ours ? TLS_FAILURE_NONE : TLS_FAILURE_UNTRUSTED);
			assert_int_equal(client_finds(clients, i, UNKNOWN_ROOT),
				is_ours ? TLS_FAILURE_UNTRUSTED : TLS_FAILURE_NONE);
		}
		tls_client_set_put(clients);
	}
	free((void *)foreign.at);
}

static struct tls_server_set *servers_by_roots(struct bytes foreign)
{
	const struct bytes own[BY_ROOTS_COUNT] = {[0] = roots, [1] = foreign};
	struct tls_error error;
	struct tls_server_set *servers = tls_server_set_create(lib,
		&(struct tls_server_set_config){
			&pair[RIGHT], 1, by_roots, BY_ROOTS_COUNT, roots, own},
		&error);
	assert_string_equal(error.text, "");
	return servers;
}

/* A client that shows `which` to a server session under `profile`; ends in `*server`. */
static void show(struct tls_server_set *servers, size_t profile, enum which which,
	struct lab_link *link, struct tls **server)
{
	SSL_CTX *ctx = NULL;
	enum tls_result at_server;
	lab_link_init(link);
	*server = tls_open_server(servers, (uint32_t)profile, lab_server_io(link));
	struct lab_raw raw = raw_client(&ctx, link, "mx.example.test");
	STACK_OF(X509) *rest = sk_X509_new_null();
	if (which == CLIENT)
		sk_X509_push(rest, middle.cert);
	SSL_use_cert_and_key(raw.ssl, leaf[which].cert, leaf[which].key, rest, 1);
	sk_X509_free(rest);
	lab_raw_shake(&raw, *server, &at_server);
	lab_raw_free(&raw);
	SSL_CTX_free(ctx);
}

static void each_profile_of_a_server_set_trusts_its_own_roots_only(void **state)
{
	struct bytes foreign = lab_certs_pem((const struct lab_cert *const[]){&foreign_ca}, 1);
	struct tls_server_set *servers = servers_by_roots(foreign);
	struct lab_link link;
	struct tls *server;
	for (size_t i = 0; i < 3; i++)
		for (int is_foreign = 0; is_foreign < 2; is_foreign++) {
			show(servers, i, is_foreign ? UNKNOWN_ROOT : CLIENT, &link, &server);
			assert_int_equal(tls_failure(server, NULL),
				(i == 1) == is_foreign ? TLS_FAILURE_NONE : TLS_FAILURE_UNTRUSTED);
			tls_close(server);
			lab_link_fini(&link);
		}
	tls_server_set_put(servers);
	free((void *)foreign.at);
}

/* The mail stage's profile may trust others than the one the handshake was done with. */
static void another_profile_looks_with_its_own_roots(void **state)
{
	struct bytes foreign = lab_certs_pem((const struct lab_cert *const[]){&foreign_ca}, 1);
	struct tls_server_set *servers = servers_by_roots(foreign);
	const struct tls_profile unknown = {"later", .level = TLS_LEVEL_VERIFY};
	struct lab_link link;
	struct tls *server;
	char why[TLS_WHY_BYTES];
	/* Under the profile that trusts the client, and under the one that only asks. */
	for (int is_foreign = 0; is_foreign < 2; is_foreign++)
		for (int is_asked = 0; is_asked < 2; is_asked++) {
			size_t own = is_asked ? 3 : is_foreign ? 1 : 0;
			show(servers, own, is_foreign ? UNKNOWN_ROOT : CLIENT, &link, &server);
			assert_int_equal(tls_failure(server, NULL), TLS_FAILURE_NONE);
			for (size_t i = 0; i < 3; i++)
				assert_int_equal(tls_check(server, &by_roots[i], why),
					(i == 1) == is_foreign ? TLS_FAILURE_NONE
							       : TLS_FAILURE_UNTRUSTED);
			/* A profile that came later: its roots are not known here. */
			assert_int_equal(tls_check(server, &unknown, why), TLS_FAILURE_UNTRUSTED);
			tls_close(server);
			lab_link_fini(&link);
		}
	tls_server_set_put(servers);
	free((void *)foreign.at);
}

static void a_profiles_unusable_roots_are_refused_by_its_name(void **state)
{
	const struct bytes own[BY_ROOTS_COUNT] = {[1] = BYTES_LITERAL("x")};
	struct tls_error error;
	assert_null(tls_client_set_create(lib,
		&(struct tls_client_set_config){by_roots, BY_ROOTS_COUNT, roots, own}, &error));
	assert_string_equal(
		error.text, "profile foreign: the CA set has no PEM certificate in it");
}

/* ---- replacing ---- */

static void a_replaced_set_leaves_live_sessions_alone(void **state)
{
	static const enum which old[] = {RIGHT}, new[] = {WRONG_NAME};
	struct meeting first = meeting_of(old, 1, may, may), second = meeting_of(new, 1, may, may);
	uint8_t in[16];
	size_t n;
	meet(&first, "mx.example.test", "");
	tls_server_set_put(first.servers);
	meet(&second, "mx.example.test", "");
	assert_string_equal(first.of_client.cert_subject, "CN=mx");
	assert_string_equal(second.of_client.cert_subject, "CN=wrong");
	assert_int_equal(tls_write(first.client, BYTES_LITERAL("NOOP"), &n), TLS_OK);
	assert_int_equal(tls_read(first.server, in, sizeof in, &n), TLS_OK);
	assert_int_equal(n, 4);
	part(&first);
	tls_client_set_put(first.clients);
	meeting_end(&second);
}

/* ---- what cannot be made ---- */

static void an_unusable_set_is_refused_in_words(void **state)
{
	struct lab_cert small =
		lab_cert_make((struct lab_spec){.name = "small", .key = LAB_RSA_1024});
	struct lab_cert ed = lab_cert_make((struct lab_spec){.name = "ed", .key = LAB_ED25519});
	struct tls_key_pair weak = lab_pair((const struct lab_cert *const[]){&small}, 1);
	struct tls_key_pair edwards = lab_pair((const struct lab_cert *const[]){&ed}, 1);
	struct tls_key_pair mixed = {pair[RIGHT].chain_pem, pair[WILDCARD].key_pem};
	struct tls_key_pair garbage = {BYTES_LITERAL("garbage"), pair[RIGHT].key_pem};
	struct tls_key_pair keyless = {pair[RIGHT].chain_pem, BYTES_LITERAL("")};
	struct tls_key_pair cut = {bytes_first(pair[RIGHT].chain_pem, pair[RIGHT].chain_pem.n - 40),
		pair[RIGHT].key_pem};
	const struct {
		const struct tls_key_pair *second; /* after a good one */
		struct tls_profile profile;
		struct bytes roots;
		const char *words;
	} cases[] = {
		{&mixed,	 may,							    roots,
			"certificate 2 (mx): the private key does not belong to its leaf"											 },
		{&garbage, may,							    roots,	       "certificate 2: its chain is not PEM certificates"	 },
		{&cut,     may,							    roots,		   "certificate 2 (mx): its chain is not PEM certificates"},
		{&keyless, may,							    roots,	       "certificate 2 (mx): its private key cannot be read"   },
		{&weak,	may,							    roots,		    "certificate 2 (small): its key is too small"		 },
		{&edwards, may,							    roots,	       "certificate 2 (ed): its key is neither ECDSA nor RSA" },
		{NULL,     {"p", .groups = "P-257"},					 roots,		"profile p: groups 'P-257' are not known"		 },
		{NULL,     {"p", .bits_least = 512},					 roots,		"profile p: no cipher has 512 bits"			   },
		{NULL,     {"p", .protocol_lowest = TLS_1_3, .protocol_highest = TLS_1_2}, roots,
			"profile p: no TLS version from 0x0304 to 0x0303"												    },
		{NULL,     {"p", .protocol_lowest = 0x0300},				 roots,
			"profile p: no TLS version from 0x0300"													      },
		{NULL,     {"p", .grade = 9},					      roots,		 "profile p: no such grade or level"		    },
		{NULL,     {"p", .level = TLS_LEVEL_VERIFY},				 BYTES_LITERAL("x"),
			"the CA set has no PEM certificate in it"													    },
		{NULL,     {"p", .level = TLS_LEVEL_VERIFY},				 cut.chain_pem,
			"the CA set has a damaged certificate in it"													 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct tls_key_pair pairs[] = {pair[WILDCARD],
			cases[i].second != NULL ? *cases[i].second : pair[WILDCARD]};
		struct tls_error error = {""};
		assert_null(tls_server_set_create(lib,
			&(struct tls_server_set_config){pairs, cases[i].second != NULL ? 2 : 1,
				&cases[i].profile, 1, cases[i].roots},
			&error));
		if (strstr(error.text, cases[i].words) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", error.text, cases[i].words);
		if (cases[i].second != NULL)
			continue;
		assert_null(tls_client_set_create(lib,
			&(struct tls_client_set_config){&cases[i].profile, 1, cases[i].roots},
			&error));
		assert_non_null(strstr(error.text, cases[i].words));
	}
	struct tls_error error = {""};
	assert_null(tls_server_set_create(lib,
		&(struct tls_server_set_config){.profiles = &may, .profile_count = 1}, &error));
	assert_non_null(strstr(error.text, "needs a certificate"));
	lab_pair_free(&weak);
	lab_pair_free(&edwards);
	lab_cert_free(&small);
	lab_cert_free(&ed);
}

static void the_systems_roots_trust_no_lab(void **state)
{
	static const enum which which[] = {RIGHT};
	const struct tls_profile verify = {"verify", .level = TLS_LEVEL_VERIFY};
	struct tls_error error;
	struct meeting m = {.servers = servers_of(which, 1, &may),
		.clients = tls_client_set_create(lib,
			&(struct tls_client_set_config){.profiles = &verify, .profile_count = 1},
			&error)};
	assert_string_equal(error.text, "");
	meet(&m, "mx.example.test", "");
	assert_int_equal(tls_failure(m.client, NULL), TLS_FAILURE_UNTRUSTED);
	meeting_end(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_profile_of_a_client_set_trusts_its_own_roots_only),
		cmocka_unit_test(each_profile_of_a_server_set_trusts_its_own_roots_only),
		cmocka_unit_test(another_profile_looks_with_its_own_roots),
		cmocka_unit_test(a_profiles_unusable_roots_are_refused_by_its_name),
		cmocka_unit_test(a_replaced_set_leaves_live_sessions_alone),
		cmocka_unit_test(an_unusable_set_is_refused_in_words),
		cmocka_unit_test(the_systems_roots_trust_no_lab),
	};
	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
