// SPDX-License-Identifier: Apache-2.0
/* Pairs of sessions in memory: what they agree on, bytes both ways, ends, and a session's life. */
#include "tls/bed.h"
#include "tls/tls_private.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

static void handshake_agrees_on_tls13_with_a_hybrid_group(void **state)
{
	struct bed *bed = bed_shaken();
	struct tls_verdict at_server, at_client;
	tls_get_verdict(bed->server, &at_server);
	tls_get_verdict(bed->client, &at_client);
	assert_true(at_server.is_tls && at_client.is_tls);
	assert_int_equal(at_server.protocol, TLS_1_3);
	assert_string_equal(tls_protocol_name(at_server.protocol), "TLSv1.3");
	assert_string_equal(at_server.cipher, "TLS_AES_128_GCM_SHA256");
	assert_string_equal(at_client.cipher, at_server.cipher);
	assert_int_equal(at_server.bits, 128);
	assert_int_equal(at_server.bits_total, 128);
	assert_string_equal(at_server.group, "X25519MLKEM768");
	assert_string_equal(at_client.group, "X25519MLKEM768");
	assert_false(at_server.is_resumed);
	assert_string_equal(at_server.sni, "mx.example.test");
	assert_string_equal(at_client.sni, "");
	assert_string_equal(tls_verify_name(at_server.verify), "NOT");
	assert_string_equal(tls_verify_name(at_client.verify), "OK");
	assert_string_equal(at_client.verify_message, "");
	assert_string_equal(at_client.cert_subject, "CN=mx.example.test");
	assert_string_equal(at_client.cert_issuer, "CN=Lab CA");
	assert_string_equal(at_server.cert_subject, "");
	bed_free(bed);
}

/* Drops `key`. */
static bool holds_a_key(EVP_PKEY *key)
{
	uint8_t *encoded = NULL;
	bool is_there = EVP_PKEY_get1_encoded_public_key(key, &encoded) != 0;
	OPENSSL_free(encoded);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return is_there;
}

static bool has_own_key(const struct tls *tls)
{
	EVP_PKEY *key;
	return SSL_get_tmp_key(tls->ssl, &key) == 1 && holds_a_key(key);
}

static bool has_key_of_peer(const struct tls *tls)
{
	EVP_PKEY *key;
	return SSL_get_peer_tmp_key(tls->ssl, &key) == 1 && holds_a_key(key);
}

static void ephemeral_keys_end_with_the_handshake(void **state)
{
	static const struct {
		const char *groups;
		uint16_t protocol;
	} cases[] = {
		{"X25519MLKEM768", TLS_1_3},
		{"X25519",	   TLS_1_3},
		{"P-256",	  TLS_1_3},
		{"X25519:P-256",	 TLS_1_2},
		{"P-256",	  TLS_1_2},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tls_profile profile = bed_plain;
		bool is_tls13 = cases[i].protocol == TLS_1_3;
		profile.protocol_highest = cases[i].protocol;
		snprintf(profile.groups, sizeof profile.groups, "%s", cases[i].groups);
		struct bed *bed = bed_make(profile, profile);
		tls_handshake(bed->client);
		tls_handshake(bed->server);
		/* Until then TLS 1.3's can be seen: the client's share, and what the server has of it. */
		assert_int_equal(has_own_key(bed->client), is_tls13);
		assert_int_equal(has_key_of_peer(bed->server), is_tls13);
		assert_shaken(bed);
		assert_false(has_own_key(bed->client) || has_own_key(bed->server));
		assert_false(has_key_of_peer(bed->client) || has_key_of_peer(bed->server));
		assert_transfer(bed->client, bed->server, 100000, 5000);
		bed_free(bed);
	}
}

static void bytes_cross_both_ways_unchanged(void **state)
{
	struct bed *bed = bed_shaken();
	assert_transfer(bed->client, bed->server, 3000000, 100000);
	assert_transfer(bed->server, bed->client, 3000000, 100000);
	assert_transfer(bed->client, bed->server, 5000, 1);
	bed_free(bed);
}

static void a_wire_that_gives_one_byte_at_a_time_is_enough(void **state)
{
	struct bed *bed = bed_usual();
	bed->link.up.read_most = bed->link.down.read_most = 1;
	assert_shaken(bed);
	assert_transfer(bed->client, bed->server, 20000, 7000);
	assert_transfer(bed->server, bed->client, 20000, 7000);
	bed_free(bed);
}

static void a_wire_with_tiny_room_is_enough(void **state)
{
	static const size_t rooms[] = {1, 2, 5, 7, 100, 4096};
	for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
		struct bed *bed = bed_usual();
		bed->link.up.room = bed->link.down.room = rooms[i];
		assert_shaken(bed);
		assert_transfer(bed->client, bed->server, 40000, 33000);
		assert_transfer(bed->server, bed->client, 40000, 33000);
		bed_free(bed);
	}
}

static void write_on_a_full_wire_takes_a_record_and_then_nothing(void **state)
{
	static const uint8_t much[100000];
	struct bed *bed = bed_shaken();
	size_t n;
	bed->link.up.room = 0;
	assert_false(tls_has_output(bed->client));
	assert_int_equal(tls_write(bed->client, bytes_of(much, sizeof much), &n), TLS_OK);
	assert_int_equal(n, 16384);
	assert_true(tls_has_output(bed->client));
	assert_int_equal(tls_write(bed->client, bytes_of(much, sizeof much), &n), TLS_AGAIN);
	assert_int_equal(n, 0);
	assert_int_equal(tls_flush(bed->client), TLS_AGAIN);
	bed->link.up.room = SIZE_MAX;
	/* Other bytes than before may follow: nothing of the refused call was kept. */
	assert_int_equal(tls_write(bed->client, BYTES_LITERAL("QUIT"), &n), TLS_OK);
	assert_int_equal(n, 4);
	assert_false(tls_has_output(bed->client));
	static uint8_t in[100000];
	assert_int_equal(tls_read(bed->server, in, sizeof in, &n), TLS_OK);
	assert_int_equal(n, 16384);
	assert_int_equal(tls_read(bed->server, in, sizeof in, &n), TLS_OK);
	assert_int_equal(n, 4);
	assert_memory_equal(in, "QUIT", 4);
	bed_free(bed);
}

static void nothing_moves_before_the_handshake_is_done(void **state)
{
	struct bed *bed = bed_usual();
	uint8_t in[16];
	size_t n;
	assert_int_equal(tls_read(bed->client, in, sizeof in, &n), TLS_AGAIN);
	assert_int_equal(tls_write(bed->client, BYTES_LITERAL("EHLO"), &n), TLS_AGAIN);
	assert_int_equal(bed->link.up.tail, 0);
	struct tls_verdict verdict;
	tls_get_verdict(bed->client, &verdict);
	assert_false(verdict.is_tls);
	assert_string_equal(tls_verify_name(verdict.verify), "NONE");
	bed_free(bed);
}

static void close_notify_is_an_end_for_the_reader_only(void **state)
{
	for (int side = 0; side < 2; side++) {
		struct bed *bed = bed_shaken();
		struct tls *first = side == 0 ? bed->client : bed->server;
		struct tls *other = side == 0 ? bed->server : bed->client;
		uint8_t in[16];
		size_t n;
		assert_int_equal(tls_write(first, BYTES_LITERAL("bye"), &n), TLS_OK);
		tls_shutdown(first);
		tls_shutdown(first);
		assert_int_equal(tls_read(other, in, sizeof in, &n), TLS_OK);
		assert_int_equal(n, 3);
		assert_int_equal(tls_read(other, in, sizeof in, &n), TLS_EOF);
		assert_int_equal(n, 0);
		/* The other direction is still open (RFC 8446 6.1). */
		assert_int_equal(tls_write(other, BYTES_LITERAL("221"), &n), TLS_OK);
		tls_shutdown(other);
		assert_int_equal(tls_read(first, in, sizeof in, &n), TLS_OK);
		assert_int_equal(n, 3);
		assert_int_equal(tls_read(first, in, sizeof in, &n), TLS_EOF);
		assert_int_equal(tls_failure(first, NULL), TLS_FAILURE_NONE);
		bed_free(bed);
	}
}

static void shutdown_waits_for_room(void **state)
{
	struct bed *bed = bed_shaken();
	uint8_t in[16];
	size_t n;
	bed->link.up.room = 3;
	tls_shutdown(bed->client);
	assert_true(tls_has_output(bed->client));
	assert_int_equal(tls_read(bed->server, in, sizeof in, &n), TLS_AGAIN);
	bed->link.up.room = SIZE_MAX;
	assert_int_equal(tls_flush(bed->client), TLS_OK);
	assert_int_equal(tls_read(bed->server, in, sizeof in, &n), TLS_EOF);
	bed_free(bed);
}

/* ---- life ---- */

static void sets_may_be_put_before_their_sessions_close(void **state)
{
	struct bed *bed = bed_shaken();
	assert_int_equal(tls_server_set_sessions(bed->servers), 1);
	assert_int_equal(tls_client_set_sessions(bed->clients), 1);
	tls_server_set_put(bed->servers);
	tls_client_set_put(bed->clients);
	tls_lib_destroy(bed->lib);
	assert_transfer(bed->client, bed->server, 50000, 50000);
	bed_close_sessions(bed);
	free(bed);
}

static void an_unknown_profile_opens_nothing(void **state)
{
	struct bed *bed = bed_usual();
	assert_null(tls_open_server(bed->servers, 1, lab_server_io(&bed->link)));
	assert_null(
		tls_open_client(bed->clients, 7, lab_client_io(&bed->link), "a.example.test", ""));
	assert_int_equal(tls_server_set_sessions(bed->servers), 1);
	bed_free(bed);
}

static void a_session_may_close_at_any_time(void **state)
{
	struct bed *bed = bed_usual();
	for (int turns = 0; turns < 6; turns++) {
		for (int i = 0; i < turns; i++) {
			tls_handshake(i % 2 == 0 ? bed->client : bed->server);
			bed->link.down.room = turns == 5 ? 10 : SIZE_MAX;
		}
		tls_shutdown(bed->client);
		bed_close_sessions(bed);
		bed_open_sessions(bed);
	}
	bed_free(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handshake_agrees_on_tls13_with_a_hybrid_group),
		cmocka_unit_test(ephemeral_keys_end_with_the_handshake),
		cmocka_unit_test(bytes_cross_both_ways_unchanged),
		cmocka_unit_test(a_wire_that_gives_one_byte_at_a_time_is_enough),
		cmocka_unit_test(a_wire_with_tiny_room_is_enough),
		cmocka_unit_test(write_on_a_full_wire_takes_a_record_and_then_nothing),
		cmocka_unit_test(nothing_moves_before_the_handshake_is_done),
		cmocka_unit_test(close_notify_is_an_end_for_the_reader_only),
		cmocka_unit_test(shutdown_waits_for_room),
		cmocka_unit_test(sets_may_be_put_before_their_sessions_close),
		cmocka_unit_test(an_unknown_profile_opens_nothing),
		cmocka_unit_test(a_session_may_close_at_any_time),
	};
	return cmocka_run_group_tests(tests, bed_make_certificates, bed_free_certificates);
}
