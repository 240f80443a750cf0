// SPDX-License-Identifier: Apache-2.0
/* Session tickets of a server: with which keys, for how long, on which listener and under which policy. */
#include "tls/meeting.h"

#include <stdlib.h>
#include <time.h>

/* The sessions' age is by time(2), which the linker lets us answer; OpenSSL has its own clock. */
static time_t later;
time_t __real_time(time_t *to);
time_t __wrap_time(time_t *to);
time_t __wrap_time(time_t *to)
{
	time_t now = __real_time(NULL) + later;
	if (to != NULL)
		*to = now;
	return now;
}

/* ---- a client that keeps its session ---- */

static SSL_SESSION *kept_session;
static const char *listener; /* what the server says; NULL: nothing */

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION_free(kept_session);
	kept_session = session;
	return 1;
}

static struct tls_verdict verdict; /* the server's, of the last connection */

/* One connection of a client that keeps its ticket; true if it was resumed, by both sides' account. */
static bool connects_resumed(struct tls_server_set *servers, SSL_CTX *ctx)
{
	struct lab_link link;
	enum tls_result at_server;
	uint8_t in[16];
	lab_link_init(&link);
	struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
	if (listener != NULL)
		tls_set_listener(server, listener);
	struct lab_raw raw = lab_raw_client(ctx, &link, "mx.example.test");
	if (kept_session != NULL)
		SSL_set_session(raw.ssl, kept_session);
	assert_true(lab_raw_shake(&raw, server, &at_server));
	assert_int_equal(at_server, TLS_OK);
	SSL_read(raw.ssl, in, sizeof in); /* takes the ticket */
	/* Of a new ticket in a resumed TLS 1.2 handshake OpenSSL does not call. */
	if (SSL_version(raw.ssl) == TLS1_2_VERSION)
		keep_session(raw.ssl, SSL_get1_session(raw.ssl));
	tls_get_verdict(server, &verdict);
	assert_int_equal(verdict.is_resumed, SSL_session_reused(raw.ssl));
	SSL_shutdown(raw.ssl);
	tls_close(server);
	lab_raw_free(&raw);
	lab_link_fini(&link);
	return verdict.is_resumed;
}

static SSL_CTX *ticket_client(int protocol)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(ctx, protocol);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep_session);
	return ctx;
}

#define EACH_PROTOCOL(p) for (int p = TLS1_2_VERSION; p <= TLS1_3_VERSION; p++)

static void forget(SSL_CTX *ctx)
{
	SSL_CTX_free(ctx);
	SSL_SESSION_free(kept_session);
	kept_session = NULL;
}

static struct tls_server_set *servers_under(const struct tls_profile *profile)
{
	static const enum which which[] = {RIGHT};
	return servers_of(which, 1, profile);
}

/* ---- under which policy ---- */

static void a_ticket_resumes_also_after_the_set_was_replaced(void **state)
{
	EACH_PROTOCOL(protocol) {
		struct tls_server_set *first = servers_under(&may);
		SSL_CTX *ctx = ticket_client(protocol);
		assert_false(connects_resumed(first, ctx));
		assert_true(connects_resumed(first, ctx));
		assert_string_equal(tls_verify_name(verdict.verify), "NOT");
		assert_string_equal(verdict.sni, "mx.example.test");
		tls_server_set_put(first);
		struct tls_server_set *second = servers_under(&may);
		assert_true(connects_resumed(second, ctx));
		tls_server_set_put(second);
		forget(ctx);
	}
}

static void a_ticket_does_not_resume_under_another_profile(void **state)
{
	static const struct tls_profile others[] = {
		{"strict", .level = TLS_LEVEL_MAY},
		{"may", .level = TLS_LEVEL_ENCRYPT},
		{"may", .level = TLS_LEVEL_MAY, .client_cert = TLS_CLIENT_CERT_ASK},
	};
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		struct tls_server_set *first = servers_under(&may);
		struct tls_server_set *second = servers_under(&others[i]);
		SSL_CTX *ctx = ticket_client(TLS1_3_VERSION);
		assert_false(connects_resumed(first, ctx));
		assert_false(connects_resumed(second, ctx));
		tls_server_set_put(first);
		tls_server_set_put(second);
		forget(ctx);
	}
}

static void show_certificate(SSL_CTX *ctx, enum which which)
{
	STACK_OF(X509) *rest = sk_X509_new_null();
	sk_X509_push(rest, middle.cert);
	assert_int_equal(
		SSL_CTX_use_cert_and_key(ctx, leaf[which].cert, leaf[which].key, rest, 1), 1);
	sk_X509_free(rest);
}

static void a_resumed_client_is_still_known_by_its_certificate(void **state)
{
	const struct tls_profile s = {
		"s", .level = TLS_LEVEL_VERIFY, .names = "client.example.test"};
	EACH_PROTOCOL(protocol) {
		struct tls_server_set *servers = servers_under(&s);
		SSL_CTX *ctx = ticket_client(protocol);
		show_certificate(ctx, CLIENT);
		assert_false(connects_resumed(servers, ctx));
		assert_string_equal(tls_verify_name(verdict.verify), "OK");
		assert_true(connects_resumed(servers, ctx));
		assert_string_equal(tls_verify_name(verdict.verify), "OK");
		assert_string_equal(verdict.cert_subject, "CN=client");
		tls_server_set_put(servers);
		forget(ctx);
	}
}

static void a_resumed_client_that_was_not_trusted_is_not_trusted_now(void **state)
{
	const struct tls_profile ask = {
		"ask", .level = TLS_LEVEL_MAY, .client_cert = TLS_CLIENT_CERT_ASK};
	struct tls_server_set *servers = servers_under(&ask);
	SSL_CTX *ctx = ticket_client(TLS1_3_VERSION);
	show_certificate(ctx, EXPIRED);
	assert_false(connects_resumed(servers, ctx));
	assert_string_equal(tls_verify_name(verdict.verify), "FAIL");
	assert_true(connects_resumed(servers, ctx));
	assert_string_equal(tls_verify_name(verdict.verify), "FAIL");
	assert_string_equal(verdict.verify_message, "certificate has expired");
	tls_server_set_put(servers);
	forget(ctx);
}

static void a_client_is_looked_at_anew_where_the_roots_changed(void **state)
{
	const struct tls_profile ask = {
		"ask", .level = TLS_LEVEL_MAY, .client_cert = TLS_CLIENT_CERT_ASK};
	struct tls_server_set *first = servers_under(&ask);
	struct bytes others = lab_certs_pem((const struct lab_cert *const[]){&foreign_ca}, 1);
	struct tls_error error;
	struct tls_server_set *second = tls_server_set_create(
		lib, &(struct tls_server_set_config){&pair[RIGHT], 1, &ask, 1, others}, &error);
	SSL_CTX *ctx = ticket_client(TLS1_3_VERSION);
	show_certificate(ctx, CLIENT);
	assert_false(connects_resumed(first, ctx));
	assert_string_equal(tls_verify_name(verdict.verify), "OK");
	assert_false(connects_resumed(second, ctx));
	assert_string_equal(tls_verify_name(verdict.verify), "FAIL");
	tls_server_set_put(first);
	tls_server_set_put(second);
	forget(ctx);
	free((void *)others.at);
}

/* ---- on which listener ---- */

static void a_ticket_is_good_only_where_it_was_made(void **state)
{
	static const char *const others[] = {"smtps", "smtp2", "", NULL};
	struct tls_server_set *servers = servers_under(&may);
	EACH_PROTOCOL(protocol)
		for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
			SSL_CTX *ctx = ticket_client(protocol);
			listener = "smtp";
			assert_false(connects_resumed(servers, ctx));
			assert_true(connects_resumed(servers, ctx));
			listener = others[i];
			assert_false(connects_resumed(servers, ctx));
			listener = NULL;
			forget(ctx);
		}
	tls_server_set_put(servers);
}

/* ---- with which keys ---- */

/* Another core: a library context and a set of its own. */
struct core {
	struct tls_lib *lib;
	struct tls_server_set *servers;
};

static struct core core_make(void)
{
	struct core core = {.lib = tls_lib_create()};
	struct tls_error error;
	core.servers = tls_server_set_create(
		core.lib, &(struct tls_server_set_config){&pair[RIGHT], 1, &may, 1, roots}, &error);
	assert_string_equal(error.text, "");
	return core;
}

static void core_free(struct core *core)
{
	tls_server_set_put(core->servers);
	tls_lib_destroy(core->lib);
}

static struct tls_ticket_key key_of(uint8_t byte, int64_t from, int64_t until, int64_t end)
{
	int64_t now = (int64_t)tls_ticket_now();
	/* Shortly after the machine's start there is no hour ago. */
	struct tls_ticket_key key = {.from = now + from < 0 ? 0 : (uint64_t)(now + from),
		.until = now + until < 0 ? 0 : (uint64_t)(now + until),
		.end = now + end < 0 ? 0 : (uint64_t)(now + end)};
	memset(key.name, byte, sizeof key.name);
	memset(key.cipher, byte + 1, sizeof key.cipher);
	memset(key.mac, byte + 2, sizeof key.mac);
	return key;
}

enum { HOUR = 3600, LIFETIME = 1800 };
#define PREVIOUS(byte) key_of(byte, -2 * HOUR, 0, HOUR)
#define CURRENT(byte)  key_of(byte, -1, HOUR, 2 * HOUR)
#define NEXT(byte)     key_of(byte, HOUR, 2 * HOUR, 3 * HOUR)
#define ENDED(byte)    key_of(byte, -3 * HOUR, -2 * HOUR, 0)

static void set_keys(const struct core *core, uint32_t count, const struct tls_ticket_key *keys)
{
	struct tls_ticket_keys table = {.count = count, .lifetime_seconds = LIFETIME};
	for (uint32_t i = 0; i < count; i++)
		table.at[i] = keys[i];
	assert_true(tls_lib_set_ticket_keys(core->lib, &table));
}
#define SET_KEYS(core, ...)                                                                        \
	do {                                                                                       \
		const struct tls_ticket_key keys_[] = {__VA_ARGS__};                               \
		set_keys(core, sizeof keys_ / sizeof keys_[0], keys_);                             \
	} while (0)

/* The first byte of the kept ticket's key name. */
static uint8_t kept_key(void)
{
	const unsigned char *ticket;
	size_t n;
	SSL_SESSION_get0_ticket(kept_session, &ticket, &n);
	assert_true(n > 16);
	return ticket[0];
}

static void cores_with_the_same_keys_resume_each_others_tickets(void **state)
{
	EACH_PROTOCOL(protocol) {
		struct core one = core_make(), other = core_make();
		SSL_CTX *ctx = ticket_client(protocol);
		SET_KEYS(&one, CURRENT(1), NEXT(2));
		SET_KEYS(&other, NEXT(2), CURRENT(1));
		assert_false(connects_resumed(one.servers, ctx));
		assert_int_equal(kept_key(), 1);
		assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(kept_session), LIFETIME);
		assert_true(connects_resumed(other.servers, ctx));
		assert_true(connects_resumed(one.servers, ctx));
		forget(ctx);
		core_free(&one);
		core_free(&other);
	}
}

static void a_previous_key_is_accepted_and_its_ticket_replaced(void **state)
{
	EACH_PROTOCOL(protocol) {
		struct core core = core_make();
		SSL_CTX *ctx = ticket_client(protocol);
		SET_KEYS(&core, CURRENT(1));
		assert_false(connects_resumed(core.servers, ctx));
		SET_KEYS(&core, PREVIOUS(1), CURRENT(2), NEXT(3));
		assert_true(connects_resumed(core.servers, ctx));
		assert_int_equal(kept_key(), 2);
		/* One that is not used yet: another core's clock may be ahead. */
		SET_KEYS(&core, CURRENT(1), NEXT(2));
		assert_true(connects_resumed(core.servers, ctx));
		assert_int_equal(kept_key(), 1);
		forget(ctx);
		core_free(&core);
	}
}

static void a_key_that_ended_or_is_unknown_means_a_full_handshake(void **state)
{
	EACH_PROTOCOL(protocol)
		for (int is_known = 0; is_known < 2; is_known++) {
			struct core core = core_make();
			SSL_CTX *ctx = ticket_client(protocol);
			SET_KEYS(&core, CURRENT(1));
			assert_false(connects_resumed(core.servers, ctx));
			SET_KEYS(&core, CURRENT(2), is_known ? ENDED(1) : NEXT(3));
			assert_false(connects_resumed(core.servers, ctx));
			assert_int_equal(kept_key(), 2);
			assert_true(connects_resumed(core.servers, ctx));
			forget(ctx);
			core_free(&core);
		}
}

static void without_a_key_for_now_no_tickets_are_made(void **state)
{
	EACH_PROTOCOL(protocol)
		for (uint32_t count = 0; count < 3; count++) {
			struct core core = core_make();
			SSL_CTX *ctx = ticket_client(protocol);
			const struct tls_ticket_key keys[] = {ENDED(1), NEXT(2)};
			set_keys(&core, count, keys);
			assert_false(connects_resumed(core.servers, ctx));
			assert_true(kept_session == NULL || !SSL_SESSION_has_ticket(kept_session));
			assert_false(connects_resumed(core.servers, ctx));
			forget(ctx);
			core_free(&core);
		}
}

static void of_two_keys_of_one_time_all_choose_the_same(void **state)
{
	struct core core = core_make();
	SSL_CTX *ctx = ticket_client(TLS1_3_VERSION);
	const struct tls_ticket_key a = CURRENT(1);
	struct tls_ticket_key b = CURRENT(2), older = key_of(9, -2, HOUR, HOUR);
	b.from = a.from;
	SET_KEYS(&core, a, b, older);
	connects_resumed(core.servers, ctx);
	assert_int_equal(kept_key(), 2);
	SET_KEYS(&core, older, b, a);
	connects_resumed(core.servers, ctx);
	assert_int_equal(kept_key(), 2);
	forget(ctx);
	core_free(&core);
}

/* A table that was not taken, one that was, and one whose context is never used again: nothing leaks (ASan). */
static void keys_may_be_replaced_at_any_time(void **state)
{
	struct core core = core_make();
	SSL_CTX *ctx = ticket_client(TLS1_3_VERSION);
	for (int i = 0; i < 6; i++) {
		SET_KEYS(&core, CURRENT(1));
		if (i % 3 != 0)
			SET_KEYS(&core, CURRENT(2), PREVIOUS(1));
		assert_int_equal(connects_resumed(core.servers, ctx), i % 3 != 0);
	}
	SET_KEYS(&core, CURRENT(3));
	forget(ctx);
	core_free(&core);
}

static void any_byte_changed_of_a_ticket_means_a_full_handshake(void **state)
{
	struct core core = core_make();
	SSL_CTX *ctx = ticket_client(TLS1_3_VERSION);
	SET_KEYS(&core, CURRENT(1));
	connects_resumed(core.servers, ctx);
	SSL_SESSION *good = kept_session;
	kept_session = NULL;
	unsigned char *encoded = NULL;
	const unsigned char *ticket;
	size_t ticket_n;
	SSL_SESSION_get0_ticket(good, &ticket, &ticket_n);
	int n = i2d_SSL_SESSION(good, &encoded);
	unsigned char *at = memmem(encoded, (size_t)n, ticket, ticket_n);
	assert_non_null(at);
	for (size_t i = 0; i < ticket_n; i += 7) {
		const unsigned char *from = encoded;
		at[i] ^= 0x10;
		kept_session = d2i_SSL_SESSION(NULL, &from, n);
		at[i] ^= 0x10;
		assert_false(connects_resumed(core.servers, ctx));
		SSL_SESSION_free(kept_session);
		kept_session = NULL;
	}
	kept_session = good;
	assert_true(connects_resumed(core.servers, ctx));
	OPENSSL_free(encoded);
	forget(ctx);
	core_free(&core);
}

/* ---- for how long ---- */

static void resuming_again_and_again_ends_a_day_after_the_first_handshake(void **state)
{
	enum { DAY = 24 * 60 * 60 };
	EACH_PROTOCOL(protocol) {
		struct core core = core_make();
		SSL_CTX *ctx = ticket_client(protocol);
		SET_KEYS(&core, CURRENT(1));
		assert_false(connects_resumed(core.servers, ctx));
		later = DAY - 600;
		assert_true(connects_resumed(core.servers, ctx));
		if (protocol == TLS1_3_VERSION) /* which got a ticket of its own */
			assert_in_range(SSL_SESSION_get_ticket_lifetime_hint(kept_session), 590, 600);
		later = DAY + 1;
		assert_false(connects_resumed(core.servers, ctx));
		assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(kept_session), LIFETIME);
		assert_true(connects_resumed(core.servers, ctx));
		later = 0;
		forget(ctx);
		core_free(&core);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ticket_resumes_also_after_the_set_was_replaced),
		cmocka_unit_test(a_ticket_does_not_resume_under_another_profile),
		cmocka_unit_test(a_resumed_client_is_still_known_by_its_certificate),
		cmocka_unit_test(a_resumed_client_that_was_not_trusted_is_not_trusted_now),
		cmocka_unit_test(a_client_is_looked_at_anew_where_the_roots_changed),
		cmocka_unit_test(a_ticket_is_good_only_where_it_was_made),
		cmocka_unit_test(cores_with_the_same_keys_resume_each_others_tickets),
		cmocka_unit_test(a_previous_key_is_accepted_and_its_ticket_replaced),
		cmocka_unit_test(a_key_that_ended_or_is_unknown_means_a_full_handshake),
		cmocka_unit_test(without_a_key_for_now_no_tickets_are_made),
		cmocka_unit_test(of_two_keys_of_one_time_all_choose_the_same),
		cmocka_unit_test(keys_may_be_replaced_at_any_time),
		cmocka_unit_test(any_byte_changed_of_a_ticket_means_a_full_handshake),
		cmocka_unit_test(resuming_again_and_again_ends_a_day_after_the_first_handshake),
	};
	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
