// SPDX-License-Identifier: Apache-2.0
#include "tls/bed.h"

#include <stdlib.h>

static struct tls_key_pair pair;
static struct bytes roots;

const struct tls_profile bed_plain = {.id = "plain", .level = TLS_LEVEL_MAY};

int bed_make_certificates(void **state)
{
	struct lab_cert ca = lab_cert_make((struct lab_spec){.name = "Lab CA", .is_ca = true});
	struct lab_cert leaf = lab_cert_make((struct lab_spec){
		.name = "mx.example.test", .alt = "DNS:mx.example.test", .issuer = &ca});
	pair = lab_pair((const struct lab_cert *const[]){&leaf}, 1);
	roots = lab_certs_pem((const struct lab_cert *const[]){&ca}, 1);
	lab_cert_free(&leaf);
	lab_cert_free(&ca);
	return 0;
}

int bed_free_certificates(void **state)
{
	lab_pair_free(&pair);
	free((void *)roots.at);
	return 0;
}

void bed_open_sessions(struct bed *bed)
{
	lab_link_init(&bed->link);
	bed->server = tls_open_server(bed->servers, 0, lab_server_io(&bed->link));
	bed->client = tls_open_client(
		bed->clients, 0, lab_client_io(&bed->link), "mx.example.test", "example.test");
	assert_non_null(bed->server);
	assert_non_null(bed->client);
}

struct bed *bed_make(struct tls_profile for_server, struct tls_profile for_client)
{
	struct bed *bed = calloc(1, sizeof *bed);
	struct tls_error error;
	assert_non_null(bed);
	bed->lib = tls_lib_create();
	assert_non_null(bed->lib);
	bed->servers = tls_server_set_create(bed->lib,
		&(struct tls_server_set_config){.pairs = &pair,
			.pair_count = 1,
			.profiles = &for_server,
			.profile_count = 1,
			.client_ca_pem = roots},
		&error);
	assert_string_equal(error.text, "");
	assert_non_null(bed->servers);
	bed->clients = tls_client_set_create(bed->lib,
		&(struct tls_client_set_config){
			.profiles = &for_client, .profile_count = 1, .ca_pem = roots},
		&error);
	assert_string_equal(error.text, "");
	assert_non_null(bed->clients);
	bed_open_sessions(bed);
	return bed;
}

void bed_close_sessions(struct bed *bed)
{
	tls_close(bed->client);
	tls_close(bed->server);
	lab_link_fini(&bed->link);
}

void bed_free(struct bed *bed)
{
	bed_close_sessions(bed);
	tls_server_set_put(bed->servers);
	tls_client_set_put(bed->clients);
	tls_lib_destroy(bed->lib);
	free(bed);
}

struct bed *bed_usual(void)
{
	return bed_make(bed_plain, bed_plain);
}

void assert_shaken(struct bed *bed)
{
	enum tls_result at_client, at_server;
	lab_shake(bed->client, bed->server, &at_client, &at_server);
	assert_int_equal(at_client, TLS_OK);
	assert_int_equal(at_server, TLS_OK);
}

struct bed *bed_shaken(void)
{
	struct bed *bed = bed_usual();
	assert_shaken(bed);
	return bed;
}

void assert_transfer(struct tls *from, struct tls *to, size_t total, size_t piece)
{
	static uint8_t out[1 << 18], in[1 << 18];
	size_t sent = 0, got = 0;
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = (uint8_t)(i * 31 >> 3);
	for (long turns = 0; got < total && turns < 4000000; turns++) {
		size_t n, place = sent % sizeof out;
		size_t want = piece < total - sent ? piece : total - sent;
		want = want < sizeof out - place ? want : sizeof out - place;
		assert_int_not_equal(tls_write(from, bytes_of(out + place, want), &n), TLS_FAIL);
		sent += n;
		tls_flush(from);
		while (tls_read(to, in, sizeof in, &n) == TLS_OK)
			for (size_t i = 0; i < n; i++, got++)
				assert_int_equal(in[i], out[got % sizeof out]);
	}
	assert_int_equal(got, total);
}
