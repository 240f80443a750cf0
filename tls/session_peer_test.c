// SPDX-License-Identifier: Apache-2.0
/* A server's session and peers that are broken, bad, or ask for what it does not do; each is told why, or cut. */
#include "tls/bed.h"

#include <openssl/err.h>

/* ---- bad peers ---- */

static void garbage_for_a_clienthello_fails_with_a_reason(void **state)
{
	static const uint8_t sslv2[48] = {0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15};
	static const struct {
		struct bytes bytes;
		const char *reason;
	} cases[] = {
		{BYTES_LITERAL("EHLO client.example.test\r\n"),		"wrong version number"  },
		{BYTES_LITERAL("GET / HTTP/1.0\r\n\r\n"),			  "http request"		},
		{{sslv2, sizeof sslv2},					"record length mismatch"},
		{BYTES_LITERAL("\x16\x03\x01\x00\x05\x02\x00\x00\x01\x01"), "unexpected message"	},
		{BYTES_LITERAL("\x16\x03\x01\xff\xff\x01\x00\xff\xff\x01"), "data length too long"  },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct bed *bed = bed_usual();
		const char *text;
		lab_wire_write(&bed->link.up, cases[i].bytes.at, cases[i].bytes.n);
		assert_int_equal(tls_handshake(bed->server), TLS_FAIL);
		assert_int_equal(tls_handshake(bed->server), TLS_FAIL);
		assert_int_equal(tls_failure(bed->server, &text), TLS_FAILURE_HANDSHAKE);
		assert_memory_equal(text, "TLS handshake failed: ", 22);
		assert_string_equal(text + 22, cases[i].reason);
		struct tls_verdict verdict;
		tls_get_verdict(bed->server, &verdict);
		assert_false(verdict.is_tls);
		assert_string_equal(tls_verify_name(verdict.verify), "SOFTWARE");
		assert_int_equal(ERR_peek_error(), 0);
		bed_free(bed);
	}
}

static void a_clienthello_that_would_be_large_is_refused_at_its_ninth_byte(void **state)
{
	static const struct {
		struct bytes bytes;
		const char *text;
	} cases[] = {
		{BYTES_LITERAL("\x16\x03\x01\x02\x00\x01\x00\x40\x01"),
			"the ClientHello is larger than 16 KiB or cut up"		 },
		{BYTES_LITERAL("\x16\x03\x01\x40\x00\x01\x01\xff\xff"),
			"the ClientHello is larger than 16 KiB or cut up"		 },
		{BYTES_LITERAL("\x16\x03\x01\x00\x01\x01\x16\x03\x01"),
			"the ClientHello is larger than 16 KiB or cut up"		 },
		{BYTES_LITERAL("\x16\x03\x01\x02\x00\x01\x00\x40\x00"), NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t piece = 1; piece <= 9; piece += 4) {
			struct bed *bed = bed_usual();
			const char *text;
			bed->link.up.read_most = piece;
			lab_wire_write(&bed->link.up, cases[i].bytes.at, 8);
			assert_int_equal(tls_handshake(bed->server), TLS_AGAIN);
			lab_wire_write(&bed->link.up, cases[i].bytes.at + 8, 1);
			enum tls_result result = tls_handshake(bed->server);
			assert_int_equal(result, cases[i].text == NULL ? TLS_AGAIN : TLS_FAIL);
			tls_failure(bed->server, &text);
			assert_string_equal(text, cases[i].text == NULL ? "" : cases[i].text);
			bed_free(bed);
		}
}

static void a_peer_that_never_ends_its_handshake_is_cut(void **state)
{
	/* A warning alert or an empty record is bounded by OpenSSL; a long stream of anything by
	 * us. */
	struct bed *bed = bed_usual();
	static const uint8_t piece[] = {
		0x14, 0x03, 0x03, 0x00, 0x01, 0x01}; /* change_cipher_spec */
	enum tls_result result = TLS_AGAIN;
	size_t sent = 0;
	for (; result == TLS_AGAIN && sent < 1000000; sent += sizeof piece) {
		lab_wire_write(&bed->link.down, piece, sizeof piece);
		result = tls_handshake(bed->client);
	}
	assert_int_equal(result, TLS_FAIL);
	assert_true(sent <= 128 * 1024 + 6);
	bed_free(bed);
}

static void close_notify_within_the_handshake_is_a_failure(void **state)
{
	struct bed *bed = bed_usual();
	const char *text;
	assert_int_equal(tls_handshake(bed->client), TLS_AGAIN);
	static const uint8_t alert[] = {0x15, 0x03, 0x03, 0x00, 0x02, 0x01, 0x00};
	lab_wire_write(&bed->link.down, alert, sizeof alert);
	assert_int_equal(tls_handshake(bed->client), TLS_FAIL);
	assert_int_equal(tls_failure(bed->client, &text), TLS_FAILURE_HANDSHAKE);
	assert_string_equal(text, "the peer ended TLS within the handshake");
	bed_free(bed);
}

/* Whatever of a handshake does not arrive: both sides wait, nothing fails or crashes. */
static void a_handshake_cut_at_any_byte_waits(void **state)
{
	struct bed *whole = bed_shaken();
	size_t up = whole->link.up.passed, down = whole->link.down.passed;
	bed_close_sessions(whole);
	assert_true(up > 1000 && down > 1000);
	for (size_t cut = 0; cut < up; cut += cut % 100 == 99 || cut < 10 ? 1 : 7) {
		enum tls_result at_client, at_server;
		bed_open_sessions(whole);
		whole->link.up.cut = cut;
		for (int turns = 0; turns < 8; turns++) {
			at_client = tls_handshake(whole->client);
			at_server = tls_handshake(whole->server);
		}
		assert_int_not_equal(at_client, TLS_FAIL);
		assert_int_equal(at_server, TLS_AGAIN);
		bed_close_sessions(whole);
	}
	for (size_t cut = 0; cut + 300 < down;
		cut += 11) { /* a ticket of some 250 bytes comes last */
		bed_open_sessions(whole);
		whole->link.down.cut = cut;
		for (int turns = 0; turns < 8; turns++) {
			assert_int_equal(tls_handshake(whole->client), TLS_AGAIN);
			assert_int_equal(tls_handshake(whole->server), TLS_AGAIN);
		}
		bed_close_sessions(whole);
	}
	bed_open_sessions(whole);
	bed_free(whole);
}

static void any_byte_changed_of_the_clienthello_fails_the_handshake(void **state)
{
	struct bed *bed = bed_usual();
	size_t hello = SIZE_MAX;
	for (size_t at = 0; at < hello; at += at < 100 ? 1 : 37) {
		enum tls_result at_client, at_server;
		bed_close_sessions(bed);
		bed_open_sessions(bed);
		tls_handshake(bed->client);
		hello = bed->link.up.tail;
		if (at == 1 ||
			at == 2) /* the version of a record counts for nothing (RFC 8446 5.1) */
			continue;
		bed->link.up.at[at] ^= 0x21;
		for (int turns = 0; turns < 8; turns++) {
			at_client = tls_handshake(bed->client);
			at_server = tls_handshake(bed->server);
		}
		assert_false(at_client == TLS_OK && at_server == TLS_OK);
	}
	assert_true(hello > 1200);
	bed_free(bed);
}

static void a_changed_record_ends_the_session(void **state)
{
	struct bed *bed = bed_shaken();
	const char *text;
	uint8_t in[16];
	size_t n;
	assert_int_equal(tls_write(bed->client, BYTES_LITERAL("MAIL"), &n), TLS_OK);
	bed->link.up.at[bed->link.up.tail - 1] ^= 1;
	assert_int_equal(tls_read(bed->server, in, sizeof in, &n), TLS_FAIL);
	assert_int_equal(n, 0);
	assert_int_equal(tls_failure(bed->server, &text), TLS_FAILURE_PEER);
	assert_string_equal(text, "TLS session failed: decryption failed or bad record mac");
	assert_int_equal(tls_write(bed->server, BYTES_LITERAL("250"), &n), TLS_FAIL);
	/* The peer learns of it by an alert. */
	assert_int_equal(tls_read(bed->client, in, sizeof in, &n), TLS_FAIL);
	assert_int_equal(tls_failure(bed->client, &text), TLS_FAILURE_PEER);
	bed_free(bed);
}

/* ---- KeyUpdate ---- */

struct raw_bed {
	SSL_CTX *ctx;
	struct lab_raw raw;
};

static struct raw_bed raw_shaken(struct bed *bed)
{
	struct raw_bed made = {SSL_CTX_new(TLS_client_method())};
	enum tls_result at_server;
	made.raw = lab_raw_client(made.ctx, &bed->link, NULL);
	assert_true(lab_raw_shake(&made.raw, bed->server, &at_server));
	assert_int_equal(at_server, TLS_OK);
	return made;
}

static enum tls_result key_update(struct raw_bed *peer, struct tls *server, size_t bytes_between)
{
	static const uint8_t zeros[8192];
	uint8_t in[8192];
	size_t n;
	enum tls_result result;
	assert_int_equal(SSL_key_update(peer->raw.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	if (bytes_between == 0)
		assert_int_equal(SSL_do_handshake(peer->raw.ssl), 1);
	else
		assert_int_equal(SSL_write_ex(peer->raw.ssl, zeros, bytes_between, &n), 1);
	lab_raw_pump(&peer->raw);
	while ((result = tls_read(server, in, sizeof in, &n)) == TLS_OK)
		;
	return result;
}

static void key_updates_without_data_are_cut(void **state)
{
	struct bed *bed = bed_usual();
	struct raw_bed peer = raw_shaken(bed);
	enum tls_result result = TLS_AGAIN;
	const char *text;
	int count = 0;
	while (count < 1000 && (result = key_update(&peer, bed->server, 0)) == TLS_AGAIN)
		count++;
	assert_int_equal(result, TLS_FAIL);
	assert_int_equal(count, 16);
	assert_int_equal(tls_failure(bed->server, &text), TLS_FAILURE_FLOOD);
	assert_non_null(strstr(text, "KeyUpdate"));
	lab_raw_free(&peer.raw);
	SSL_CTX_free(peer.ctx);
	bed_free(bed);
}

static void a_heap_of_key_updates_is_cut_in_the_middle(void **state)
{
	struct bed *bed = bed_usual();
	struct raw_bed peer = raw_shaken(bed);
	uint8_t in[16];
	size_t n;
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(SSL_key_update(peer.raw.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(peer.raw.ssl), 1);
	}
	lab_raw_pump(&peer.raw);
	assert_int_equal(tls_read(bed->server, in, sizeof in, &n), TLS_FAIL);
	assert_true(
		bed->link.up.tail - bed->link.up.head > 40000); /* most was not even looked at */
	lab_raw_free(&peer.raw);
	SSL_CTX_free(peer.ctx);
	bed_free(bed);
}

static void key_updates_between_data_go_on(void **state)
{
	struct bed *bed = bed_usual();
	struct raw_bed peer = raw_shaken(bed);
	for (int i = 0; i < 300; i++)
		assert_int_equal(key_update(&peer, bed->server, 8000), TLS_AGAIN);
	lab_raw_free(&peer.raw);
	SSL_CTX_free(peer.ctx);
	bed_free(bed);
}

static void a_key_update_that_asks_for_ours_is_answered(void **state)
{
	struct bed *bed = bed_usual();
	struct raw_bed peer = raw_shaken(bed);
	uint8_t in[64];
	size_t n;
	assert_int_equal(SSL_key_update(peer.raw.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(peer.raw.ssl), 1);
	lab_raw_pump(&peer.raw);
	bed->link.down.room = 0; /* our KeyUpdate and the record after it wait together */
	assert_int_equal(tls_read(bed->server, in, sizeof in, &n), TLS_AGAIN);
	assert_int_equal(tls_write(bed->server, BYTES_LITERAL("250 ok"), &n), TLS_OK);
	assert_int_equal(n, 6);
	assert_true(tls_has_output(bed->server));
	bed->link.down.room = SIZE_MAX;
	assert_int_equal(tls_flush(bed->server), TLS_OK);
	lab_raw_pump(&peer.raw);
	assert_int_equal(SSL_read_ex(peer.raw.ssl, in, sizeof in, &n), 1);
	assert_memory_equal(in, "250 ok", 6);
	lab_raw_free(&peer.raw);
	SSL_CTX_free(peer.ctx);
	bed_free(bed);
}

static void a_client_cannot_renegotiate(void **state)
{
	struct bed *bed = bed_usual();
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	enum tls_result at_server;
	uint8_t in[16];
	size_t n;
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	struct lab_raw raw = lab_raw_client(ctx, &bed->link, NULL);
	assert_true(lab_raw_shake(&raw, bed->server, &at_server));
	assert_int_equal(SSL_renegotiate(raw.ssl), 1);
	for (int turns = 0; turns < 4; turns++) {
		SSL_do_handshake(raw.ssl);
		lab_raw_pump(&raw);
		/* We say no_renegotiation; it is the client's part to end it over that. */
		assert_int_equal(tls_read(bed->server, in, sizeof in, &n),
			turns == 0 ? TLS_AGAIN : TLS_FAIL);
		lab_raw_pump(&raw);
	}
	const char *text;
	tls_failure(bed->server, &text);
	assert_string_equal(text, "TLS session failed: ssl/tls alert handshake failure");
	ERR_clear_error();
	lab_raw_free(&raw);
	SSL_CTX_free(ctx);
	bed_free(bed);
}

/* RFC 8446 4.6.1: a ticket without a size for it allows none. */
static void tickets_allow_no_early_data(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct bed *bed = bed_usual();
	enum tls_result at_server;
	uint8_t in[64];
	size_t n;
	struct lab_raw raw = lab_raw_client(ctx, &bed->link, NULL);
	assert_true(lab_raw_shake(&raw, bed->server, &at_server));
	lab_raw_pump(&raw);
	SSL_read_ex(raw.ssl, in, sizeof in, &n); /* takes the ticket */
	SSL_SESSION *session = SSL_get1_session(raw.ssl);
	assert_int_equal(SSL_SESSION_is_resumable(session), 1);
	assert_int_equal(SSL_SESSION_get_max_early_data(session), 0);
	lab_raw_free(&raw);
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
	bed_free(bed);
}

/* The place of the list of compression methods in a ClientHello (RFC 5246 7.4.1.2). */
static size_t compression_at(const uint8_t *record)
{
	size_t at = 5 + 4 + 2 + 32;
	at += 1u + record[at];				     /* session id */
	return at + 2 + ((size_t)record[at] << 8) + record[at + 1]; /* suites */
}

static void no_compression_is_chosen_of_those_a_client_offers(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct bed *bed = bed_usual();
	uint8_t hello[2048], answer[128];
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	struct lab_raw raw = lab_raw_client(ctx, &bed->link, NULL);
	SSL_do_handshake(raw.ssl);
	lab_raw_pump(&raw);
	size_t n = lab_wire_read(&bed->link.up, hello, sizeof hello - 1), at = compression_at(hello);
	assert_int_equal(hello[at], 1);
	assert_int_equal(hello[at + 1], 0);
	/* DEFLATE (RFC 3749) before none: one byte more, also in the lengths of record and message. */
	memmove(hello + at + 2, hello + at + 1, n - at - 1);
	hello[at] = 2;
	hello[at + 1] = 1;
	for (size_t length = 3; length <= 7; length += 4) {
		unsigned longer = (hello[length] << 8 | hello[length + 1]) + 1u;
		hello[length] = (uint8_t)(longer >> 8);
		hello[length + 1] = (uint8_t)longer;
	}
	lab_wire_write(&bed->link.up, hello, n + 1);
	assert_int_equal(tls_handshake(bed->server), TLS_AGAIN);
	assert_true(lab_wire_read(&bed->link.down, answer, sizeof answer) > 5 + 4 + 2 + 32);
	assert_int_equal(answer[5], 2); /* a ServerHello; behind its session id and suite, the method */
	at = 5 + 4 + 2 + 32;
	assert_int_equal(answer[at + 1 + answer[at] + 2], 0);
	lab_raw_free(&raw);
	SSL_CTX_free(ctx);
	bed_free(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(garbage_for_a_clienthello_fails_with_a_reason),
		cmocka_unit_test(a_clienthello_that_would_be_large_is_refused_at_its_ninth_byte),
		cmocka_unit_test(a_peer_that_never_ends_its_handshake_is_cut),
		cmocka_unit_test(close_notify_within_the_handshake_is_a_failure),
		cmocka_unit_test(a_client_cannot_renegotiate),
		cmocka_unit_test(tickets_allow_no_early_data),
		cmocka_unit_test(no_compression_is_chosen_of_those_a_client_offers),
		cmocka_unit_test(a_handshake_cut_at_any_byte_waits),
		cmocka_unit_test(any_byte_changed_of_the_clienthello_fails_the_handshake),
		cmocka_unit_test(a_changed_record_ends_the_session),
		cmocka_unit_test(key_updates_without_data_are_cut),
		cmocka_unit_test(a_heap_of_key_updates_is_cut_in_the_middle),
		cmocka_unit_test(key_updates_between_data_go_on),
		cmocka_unit_test(a_key_update_that_asks_for_ours_is_answered),
	};
	return cmocka_run_group_tests(tests, bed_make_certificates, bed_free_certificates);
}
