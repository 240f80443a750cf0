// SPDX-License-Identifier: Apache-2.0
#include "bench/lean/lean_private.h"

#include "tls/lab.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct lab_cert ecdsa, rsa;
static struct tls_lib *lib;

static int make(void **state)
{
	ecdsa = lab_cert_make((struct lab_spec){"mx", "DNS:mx.example.test"});
	rsa = lab_cert_make((struct lab_spec){"mx", "DNS:mx.example.test", .key = LAB_RSA});
	lib = tls_lib_create();
	return lib == NULL;
}

static int unmake(void **state)
{
	lab_cert_free(&ecdsa);
	lab_cert_free(&rsa);
	tls_lib_destroy(lib);
	return 0;
}

/* ---- a server of OpenSSL's own ---- */

static SSL_CTX *server_context(const struct lab_cert *cert)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert->cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, cert->key), 1);
	assert_int_equal(SSL_CTX_set1_groups_list(ctx, "X25519MLKEM768:X25519:P-256"), 1);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	return ctx;
}

struct meeting {
	struct lab_link link;
	SSL *server;
	struct lean_slot *slot;
	enum tls_result result;
	int server_result;
};

static void open_meeting(struct meeting *m, SSL_CTX *ctx, struct lean_slot *slot)
{
	*m = (struct meeting){.slot = slot, .server = SSL_new(ctx)};
	lab_link_init(&m->link);
	SSL_set_bio(m->server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	BIO_set_mem_eof_return(SSL_get_rbio(m->server), -1);
	SSL_set_accept_state(m->server);
	lean_open(slot, lab_client_io(&m->link));
}

static void pump(struct meeting *m)
{
	uint8_t block[4096];
	size_t n;
	int got;
	while ((n = lab_wire_read(&m->link.up, block, sizeof block)) != 0)
		BIO_write(SSL_get_rbio(m->server), block, (int)n);
	ERR_clear_error();
	m->server_result = SSL_do_handshake(m->server);
	while ((got = BIO_read(SSL_get_wbio(m->server), block, sizeof block)) > 0)
		lab_wire_write(&m->link.down, block, (size_t)got);
}

static void shake(struct meeting *m)
{
	for (int turns = 0; turns < 20000; turns++) {
		m->result = lean_handshake(m->slot);
		lean_flush(m->slot);
		pump(m);
		bool is_moving = m->link.down.head < m->link.down.tail || lean_has_output(m->slot);
		if (m->result == TLS_FAIL ||
			(m->result == TLS_OK && m->server_result == 1 && !is_moving))
			return;
		if (m->link.down.cut != SIZE_MAX && m->link.down.passed >= m->link.down.cut &&
			turns > 8)
			return;
	}
}

static void close_meeting(struct meeting *m)
{
	lean_close(m->slot);
	SSL_free(m->server);
	lab_link_fini(&m->link);
}

/* Both ways, each more than a record. */
static void talk(struct meeting *m)
{
	static uint8_t sent[40000], got[sizeof sent], room[2 * LEAN_READ_BYTES];
	for (size_t i = 0; i < sizeof sent; i++)
		sent[i] = (uint8_t)(i * 7);
	size_t done = 0, n;
	for (int turns = 0; done < sizeof sent && turns < 1000; turns++) {
		size_t taken = 0, at = done;
		assert_int_not_equal(
			lean_write(m->slot, bytes_of(sent + at, sizeof sent - at), &taken),
			TLS_FAIL);
		lean_flush(m->slot);
		pump(m);
		for (size_t part; SSL_read_ex(m->server, got, sizeof got, &part) == 1;)
			assert_true(part != 0);
		done += taken;
	}
	assert_int_equal(done, sizeof sent);
	assert_int_equal(SSL_write(m->server, sent, sizeof sent), sizeof sent);
	pump(m);
	for (done = 0; done < sizeof sent;) {
		enum tls_result result = lean_read(m->slot, room, sizeof room, &n);
		assert_int_equal(result, TLS_OK);
		assert_memory_equal(room, sent + done, n);
		done += n;
	}
	SSL_shutdown(m->server);
	pump(m);
	assert_int_equal(lean_read(m->slot, room, sizeof room, &n), TLS_EOF);
}

static struct lean *lean_of(uint16_t protocol, const char *groups, bool is_resuming)
{
	char error[256];
	/* In TLS 1.2 the list also says which curves a certificate may have (RFC 8422 5.1.1). */
	if (protocol == TLS_1_2 && strcmp(groups, "X25519") == 0)
		groups = "X25519:P-256";
	struct lean *lean = lean_create(
		&(struct lean_config){protocol, groups, "mx.example.test", is_resuming}, error);
	assert_non_null(lean);
	return lean;
}

static const uint16_t protocols[] = {TLS_1_2, TLS_1_3};
static const char *const groups[] = {"X25519", "P-256", "X25519MLKEM768"};

static bool is_possible(uint16_t protocol, const char *group)
{
	return protocol == TLS_1_3 || strcmp(group, "X25519MLKEM768") != 0;
}

/* ---- claims ---- */

static void check_agreed(struct meeting *m, uint16_t protocol, const char *group)
{
	struct tls_verdict v;
	assert_string_equal(lean_failure(m->slot), "");
	assert_int_equal(m->result, TLS_OK);
	assert_int_equal(m->server_result, 1);
	assert_int_equal(SSL_version(m->server), protocol);
	lean_get_verdict(m->slot, &v);
	assert_true(v.is_tls);
	assert_string_equal(v.group, group);
	assert_string_equal(v.cipher, SSL_CIPHER_standard_name(SSL_get_current_cipher(m->server)));
	assert_string_equal(
		SSL_get_servername(m->server, TLSEXT_NAMETYPE_host_name), "mx.example.test");
}

static void every_version_group_and_certificate_of_openssl_is_agreed_on(void **state)
{
	for (int p = 0; p < 2; p++)
		for (int g = 0; g < 3; g++)
			for (int is_rsa = 0; is_rsa < 2 && is_possible(protocols[p], groups[g]);
				is_rsa++) {
				SSL_CTX *ctx = server_context(is_rsa ? &rsa : &ecdsa);
				struct lean *lean = lean_of(protocols[p], groups[g], false);
				struct lean_slot *slot = lean_slot_create(lean);
				struct meeting m;
				for (int again = 0; again < 2; again++) { /* in the same slot */
					open_meeting(&m, ctx, slot);
					shake(&m);
					check_agreed(&m, protocols[p], groups[g]);
					talk(&m);
					close_meeting(&m);
				}
				lean_slot_destroy(slot);
				lean_destroy(lean);
				SSL_CTX_free(ctx);
			}
}

static void every_suite_that_is_offered_works(void **state)
{
	static const char *const suites13[] = {
		"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"};
	static const char *const suites12[] = {"ECDHE-ECDSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE-RSA-AES128-GCM-SHA256"};
	for (int i = 0; i < 7; i++) {
		SSL_CTX *ctx = server_context(i > 4 ? &rsa : &ecdsa);
		uint16_t protocol = i < 3 ? TLS_1_3 : TLS_1_2;
		struct lean *lean = lean_of(protocol, "X25519", false);
		struct lean_slot *slot = lean_slot_create(lean);
		struct meeting m;
		assert_int_equal(i < 3 ? SSL_CTX_set_ciphersuites(ctx, suites13[i])
				       : SSL_CTX_set_cipher_list(ctx, suites12[i - 3]),
			1);
		open_meeting(&m, ctx, slot);
		shake(&m);
		check_agreed(&m, protocol, "X25519");
		talk(&m);
		close_meeting(&m);
		lean_slot_destroy(slot);
		lean_destroy(lean);
		SSL_CTX_free(ctx);
	}
}

static void read_ticket(struct meeting *m)
{
	static uint8_t room[LEAN_READ_BYTES];
	size_t n;
	assert_int_equal(lean_read(m->slot, room, sizeof room, &n), TLS_AGAIN);
}

static void a_session_is_resumed_by_the_slots_ticket_again_and_again(void **state)
{
	for (int p = 0; p < 2; p++)
		for (int g = 0; g < 3 && is_possible(protocols[p], groups[g]); g++) {
			SSL_CTX *ctx = server_context(&ecdsa);
			struct lean *lean = lean_of(protocols[p], groups[g], true);
			struct lean_slot *slot = lean_slot_create(lean);
			struct meeting m;
			for (int i = 0; i < 4; i++) {
				struct tls_verdict v;
				open_meeting(&m, ctx, slot);
				shake(&m);
				assert_string_equal(lean_failure(slot), "");
				assert_int_equal(m.result, TLS_OK);
				assert_int_equal(SSL_session_reused(m.server), i > 0);
				lean_get_verdict(slot, &v);
				assert_int_equal(v.is_resumed, i > 0);
				read_ticket(&m);
				assert_true(lean_has_ticket(slot));
				talk(&m);
				close_meeting(&m);
			}
			lean_slot_destroy(slot);
			lean_destroy(lean);
			SSL_CTX_free(ctx);
		}
}

static void a_ticket_that_is_refused_makes_a_full_handshake(void **state)
{
	for (int p = 0; p < 2; p++) {
		struct lean *lean = lean_of(protocols[p], "X25519", true);
		struct lean_slot *slot = lean_slot_create(lean);
		for (int i = 0; i < 3; i++) {
			SSL_CTX *ctx = server_context(&ecdsa); /* with a ticket key of its own */
			struct meeting m;
			open_meeting(&m, ctx, slot);
			shake(&m);
			check_agreed(&m, protocols[p], "X25519");
			assert_false(slot->is_resumed);
			read_ticket(&m);
			close_meeting(&m);
			SSL_CTX_free(ctx);
		}
		lean_slot_destroy(slot);
		lean_destroy(lean);
	}
}

static void a_certificate_request_is_answered_with_none(void **state)
{
	for (int p = 0; p < 2; p++) {
		SSL_CTX *ctx = server_context(&ecdsa);
		struct lean *lean = lean_of(protocols[p], "P-256", false);
		struct lean_slot *slot = lean_slot_create(lean);
		struct meeting m;
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
		open_meeting(&m, ctx, slot);
		shake(&m);
		check_agreed(&m, protocols[p], "P-256");
		talk(&m);
		close_meeting(&m);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		open_meeting(&m, ctx, slot);
		for (int i = 0; i < 4; i++)
			shake(&m);
		assert_int_not_equal(m.server_result, 1);
		close_meeting(&m);
		lean_slot_destroy(slot);
		lean_destroy(lean);
		SSL_CTX_free(ctx);
	}
}

static void bytes_one_at_a_time_and_no_room_make_no_difference(void **state)
{
	for (int p = 0; p < 2; p++) {
		SSL_CTX *ctx = server_context(&ecdsa);
		struct lean *lean = lean_of(protocols[p], "X25519", true);
		struct lean_slot *slot = lean_slot_create(lean);
		for (int i = 0; i < 2; i++) {
			struct meeting m;
			open_meeting(&m, ctx, slot);
			m.link.down.read_most = 1;
			m.link.up.room = 3;
			shake(&m);
			assert_string_equal(lean_failure(slot), "");
			assert_int_equal(m.result, TLS_OK);
			assert_int_equal(slot->is_resumed, i);
			read_ticket(&m);
			close_meeting(&m);
		}
		lean_slot_destroy(slot);
		lean_destroy(lean);
		SSL_CTX_free(ctx);
	}
}

/* How many bytes a server's flight has; it is then cut and broken everywhere. */
static size_t flight_bytes(SSL_CTX *ctx, struct lean *lean)
{
	struct lean_slot *slot = lean_slot_create(lean);
	struct meeting m;
	open_meeting(&m, ctx, slot);
	while ((m.result = lean_handshake(slot)) == TLS_AGAIN)
		pump(&m);
	assert_int_equal(m.result, TLS_OK);
	size_t n = m.link.down.passed;
	close_meeting(&m);
	lean_slot_destroy(slot);
	return n;
}

static void a_handshake_cut_at_every_byte_waits_and_is_closed_cleanly(void **state)
{
	for (int p = 0; p < 2; p++) {
		SSL_CTX *ctx = server_context(&ecdsa);
		struct lean *lean = lean_of(protocols[p], "X25519", false);
		struct lean_slot *slot = lean_slot_create(lean);
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		size_t n = flight_bytes(ctx, lean) - 8; /* a signature's length differs */
		for (size_t cut = 0; cut < n; cut++) {
			struct meeting m;
			open_meeting(&m, ctx, slot);
			m.link.down.cut = cut;
			shake(&m);
			assert_int_equal(m.result, TLS_AGAIN);
			close_meeting(&m);
		}
		lean_slot_destroy(slot);
		lean_destroy(lean);
		SSL_CTX_free(ctx);
	}
}

/* But for bytes that nothing depends on (the record's minor version, say), a changed byte is
 * noticed. */
static void a_flight_broken_at_any_byte_never_ends_well_unless_nothing_depends_on_it(void **state)
{
	for (int p = 0; p < 2; p++) {
		SSL_CTX *ctx = server_context(&ecdsa);
		struct lean *lean = lean_of(protocols[p], "X25519", false);
		struct lean_slot *slot = lean_slot_create(lean);
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		size_t n = flight_bytes(ctx, lean) - 8, unnoticed = 0;
		for (size_t at = 0; at < n; at++) {
			struct meeting m;
			open_meeting(&m, ctx, slot);
			lean_handshake(slot);
			pump(&m);
			bool is_here = at < m.link.down.tail;
			if (is_here)
				m.link.down.at[at] ^= 0x41;
			shake(&m);
			unnoticed += is_here && m.result == TLS_OK;
			close_meeting(&m);
		}
		assert_in_range(unnoticed, 0, 12);
		lean_slot_destroy(slot);
		lean_destroy(lean);
		SSL_CTX_free(ctx);
	}
}

static void what_the_lean_client_cannot_do_is_said(void **state)
{
	char error[256];
	SSL_CTX *ctx = server_context(&ecdsa);
	struct lean *lean = lean_of(TLS_1_3, "X25519:P-256", false);
	struct lean_slot *slot = lean_slot_create(lean);
	struct meeting m;
	SSL_CTX_set1_groups_list(ctx, "P-256");
	open_meeting(&m, ctx, slot);
	shake(&m);
	assert_int_equal(m.result, TLS_FAIL);
	assert_string_equal(
		lean_failure(slot), "the server wants another group (HelloRetryRequest)");
	close_meeting(&m);
	SSL_CTX_set1_groups_list(ctx, "X25519");
	open_meeting(&m, ctx, slot);
	shake(&m);
	SSL_key_update(m.server, SSL_KEY_UPDATE_NOT_REQUESTED);
	pump(&m);
	static uint8_t room[LEAN_READ_BYTES];
	size_t n;
	assert_int_equal(lean_read(slot, room, sizeof room, &n), TLS_FAIL);
	assert_string_equal(lean_failure(slot), "message 24 came out of order");
	close_meeting(&m);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	open_meeting(&m, ctx, slot);
	shake(&m);
	assert_int_equal(m.result, TLS_FAIL);
	assert_string_equal(lean_failure(slot), "the server sent alert 70");
	close_meeting(&m);
	lean_slot_destroy(slot);
	lean_destroy(lean);
	SSL_CTX_free(ctx);
	static const struct lean_config impossible[] = {{TLS_1_2, "X25519MLKEM768", ""},
		{TLS_1_3, "X448", ""}, {TLS_1_3, "X25519", "", .aes_bits = 192}};
	for (int i = 0; i < 3; i++)
		assert_null(lean_create(&impossible[i], error));
}

static void our_own_server_agrees_on_all_groups_and_resumes(void **state)
{
	static const struct tls_profile profile = {.id = "may", .level = TLS_LEVEL_MAY};
	struct tls_key_pair pairs[] = {lab_pair((const struct lab_cert *const[]){&ecdsa}, 1)};
	struct tls_error error;
	struct tls_server_set *set = tls_server_set_create(lib,
		&(struct tls_server_set_config){pairs, 1, &profile, 1, pairs[0].chain_pem}, &error);
	assert_non_null(set);
	for (int i = 0; i < 12; i++) {
		uint16_t protocol = protocols[i % 2];
		const char *group = groups[i / 2 % 3];
		if (!is_possible(protocol, group))
			continue;
		struct lean *lean = lean_of(protocol, group, true);
		struct lean_slot *slot = lean_slot_create(lean);
		for (int again = 0; again < 3; again++) {
			struct lab_link link;
			struct tls_verdict v;
			uint8_t room[LEAN_READ_BYTES];
			size_t n;
			lab_link_init(&link);
			struct tls *server = tls_open_server(set, 0, lab_server_io(&link));
			lean_open(slot, lab_client_io(&link));
			enum tls_result at_server = TLS_AGAIN, at_client = TLS_AGAIN;
			for (int turns = 0; turns < 8; turns++) {
				at_client = lean_handshake(slot);
				at_server = tls_handshake(server);
			}
			assert_string_equal(lean_failure(slot), "");
			assert_int_equal(at_client, TLS_OK);
			assert_int_equal(at_server, TLS_OK);
			assert_int_equal(
				tls_write(server, BYTES_LITERAL("250 ok\r\n"), &n), TLS_OK);
			assert_int_equal(lean_read(slot, room, sizeof room, &n), TLS_OK);
			assert_memory_equal(room, "250 ok\r\n", n);
			assert_int_equal(lean_write(slot, BYTES_LITERAL("QUIT\r\n"), &n), TLS_OK);
			assert_int_equal(tls_read(server, room, sizeof room, &n), TLS_OK);
			assert_memory_equal(room, "QUIT\r\n", n);
			tls_get_verdict(server, &v);
			assert_int_equal(v.is_resumed, again > 0);
			assert_int_equal(v.protocol, protocol);
			tls_close(server);
			lean_close(slot);
			lab_link_fini(&link);
		}
		lean_slot_destroy(slot);
		lean_destroy(lean);
	}
	tls_server_set_put(set);
	lab_pair_free(&pairs[0]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_version_group_and_certificate_of_openssl_is_agreed_on),
		cmocka_unit_test(every_suite_that_is_offered_works),
		cmocka_unit_test(a_session_is_resumed_by_the_slots_ticket_again_and_again),
		cmocka_unit_test(a_ticket_that_is_refused_makes_a_full_handshake),
		cmocka_unit_test(a_certificate_request_is_answered_with_none),
		cmocka_unit_test(bytes_one_at_a_time_and_no_room_make_no_difference),
		cmocka_unit_test(a_handshake_cut_at_every_byte_waits_and_is_closed_cleanly),
		cmocka_unit_test(
			a_flight_broken_at_any_byte_never_ends_well_unless_nothing_depends_on_it),
		cmocka_unit_test(what_the_lean_client_cannot_do_is_said),
		cmocka_unit_test(our_own_server_agrees_on_all_groups_and_resumes),
	};
	return cmocka_run_group_tests(tests, make, unmake);
}
