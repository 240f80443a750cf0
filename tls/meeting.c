// SPDX-License-Identifier: Apache-2.0
#include "tls/meeting.h"

#include <stdlib.h>

/* ---- certificates of all kinds, made once ---- */

struct lab_cert ca, middle, foreign_ca, leaf[WHICH_COUNT];
struct tls_key_pair pair[WHICH_COUNT];
struct bytes roots;
struct tls_lib *lib;

static void make_pair(enum which which, struct lab_spec spec)
{
	leaf[which] = lab_cert_make(spec);
	const struct lab_cert *const chain[] = {&leaf[which], &middle};
	pair[which] = lab_pair(chain, spec.issuer == &middle ? 2 : 1);
}

int make_certificates(void **state)
{
	ca = lab_cert_make((struct lab_spec){.name = "Lab CA", .is_ca = true});
	middle = lab_cert_make(
		(struct lab_spec){.name = "Lab Middle", .is_ca = true, .issuer = &ca});
	foreign_ca = lab_cert_make((struct lab_spec){.name = "Foreign CA", .is_ca = true});
	const struct lab_spec specs[WHICH_COUNT] = {
		[RIGHT] = {"mx", "DNS:mx.example.test", &middle},
		[SELF_SIGNED] = {"self", "DNS:mx.example.test", NULL},
		[UNKNOWN_ROOT] = {"foreign", "DNS:mx.example.test", &foreign_ca},
		[WRONG_NAME] = {"wrong", "DNS:elsewhere.example.test", &middle},
		[EXPIRED] = {"old", "DNS:mx.example.test", &middle, .from_days = -20,
			   .to_days = -1},
		[NOT_YET] = {"young", "DNS:mx.example.test", &middle, .from_days = 2, .to_days = 9},
		[NO_ALT_NAME] = {"mx.example.test", NULL, &middle},
		[ADDRESS] = {"address", "IP:192.0.2.25", &middle},
		[DOMAIN] = {"domain", "DNS:example.test", &middle},
		[MX_RSA] = {"rsa", "DNS:mx.example.test", &middle, LAB_RSA},
		[WILDCARD] = {"wild", "DNS:*.wild.example.test", &middle},
		[WILDCARD_RSA] = {"wild-rsa", "DNS:*.wild.example.test", &middle, LAB_RSA},
		[OTHER_RSA] = {"other-rsa", "DNS:other.example.test", &middle, LAB_RSA},
		[CLIENT] = {"client", "DNS:client.example.test", &middle},
	};
	for (int i = 0; i < WHICH_COUNT; i++)
		make_pair(i, specs[i]);
	roots = lab_certs_pem((const struct lab_cert *const[]){&ca}, 1);
	lib = tls_lib_create();
	return lib == NULL;
}

int free_certificates(void **state)
{
	for (int i = 0; i < WHICH_COUNT; i++) {
		lab_pair_free(&pair[i]);
		lab_cert_free(&leaf[i]);
	}
	lab_cert_free(&ca);
	lab_cert_free(&middle);
	lab_cert_free(&foreign_ca);
	free((void *)roots.at);
	tls_lib_destroy(lib);
	return 0;
}

/* ---- one meeting of a server and a client ---- */

const struct tls_profile may = {.id = "may", .level = TLS_LEVEL_MAY};

struct tls_server_set *servers_of(
	const enum which *which, size_t count, const struct tls_profile *profile)
{
	struct tls_key_pair pairs[8];
	struct tls_error error;
	assert_true(count <= 8);
	for (size_t i = 0; i < count; i++)
		pairs[i] = pair[which[i]];
	struct tls_server_set *set = tls_server_set_create(
		lib, &(struct tls_server_set_config){pairs, count, profile, 1, roots}, &error);
	assert_string_equal(error.text, "");
	assert_non_null(set);
	return set;
}

struct tls_client_set *clients_of(const struct tls_profile *profile)
{
	struct tls_error error;
	struct tls_client_set *set = tls_client_set_create(
		lib, &(struct tls_client_set_config){profile, 1, roots}, &error);
	assert_string_equal(error.text, "");
	assert_non_null(set);
	return set;
}

void meet(struct meeting *m, const char *host, const char *domain)
{
	lab_link_init(&m->link);
	m->server = tls_open_server(m->servers, 0, lab_server_io(&m->link));
	m->client = tls_open_client(m->clients, 0, lab_client_io(&m->link), host, domain);
	lab_shake(m->client, m->server, &m->at_client, &m->at_server);
	tls_get_verdict(m->server, &m->of_server);
	tls_get_verdict(m->client, &m->of_client);
}

void part(struct meeting *m)
{
	tls_close(m->client);
	tls_close(m->server);
	lab_link_fini(&m->link);
}

void meeting_end(struct meeting *m)
{
	part(m);
	tls_server_set_put(m->servers);
	tls_client_set_put(m->clients);
}

struct meeting meeting_of(const enum which *which, size_t count,
	struct tls_profile for_server, struct tls_profile for_client)
{
	return (struct meeting){.servers = servers_of(which, count, &for_server),
		.clients = clients_of(&for_client)};
}

struct lab_raw raw_client(SSL_CTX **ctx, struct lab_link *link, const char *sni)
{
	if (*ctx == NULL) {
		*ctx = SSL_CTX_new(TLS_client_method());
		SSL_CTX_set_security_level(*ctx, 0);
	}
	return lab_raw_client(*ctx, link, sni);
}
