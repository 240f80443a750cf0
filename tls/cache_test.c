// SPDX-License-Identifier: Apache-2.0
/* Sessions a client resumes: where, under which policy, how often and for how long. */
#include "tls/meeting.h"

#include "tls/tls_private.h"

#include <stdio.h>
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

enum { LIFETIME = 1800, DAY = 24 * 60 * 60 };

/* A core that keeps sessions, its client set, and a server that gives tickets. */
struct core {
	struct tls_lib *lib;
	struct tls_client_set *clients;
	struct tls_server_set *servers;
};

static struct tls_client_set *clients_on(
	struct tls_lib *on, const struct tls_profile *profile, struct bytes ca_pem)
{
	struct tls_error error;
	struct tls_client_set *clients = tls_client_set_create(
		on, &(struct tls_client_set_config){profile, 1, ca_pem}, &error);
	assert_string_equal(error.text, "");
	return clients;
}

static struct core core_make(const struct tls_profile *profile, uint32_t sessions)
{
	static const enum which which[] = {RIGHT};
	struct core core = {.lib = tls_lib_create()};
	assert_true(tls_lib_keep_sessions(core.lib, sessions, LIFETIME));
	core.clients = clients_on(core.lib, profile, roots);
	core.servers = servers_of(which, 1, &may);
	return core;
}

static void core_free(struct core *core)
{
	tls_client_set_put(core->clients);
	tls_server_set_put(core->servers);
	tls_lib_destroy(core->lib);
	later = 0;
}

struct visit {
	const char *host, *domain, *destination;
	bool is_left; /* the connection ends within the handshake */
	enum tls_failure_kind failure; /* … and this is how */
	bool reads_no_ticket;
	struct tls_verdict verdict; /* the client's */
	bool has_offered, is_suspect;
};

/* One connection; true if it was resumed, by both sides' account. */
static bool visits_with(struct core *core, struct visit *v)
{
	struct lab_link link;
	struct tls_verdict of_server;
	enum tls_result at_client, at_server;
	uint8_t in[16];
	size_t n;
	lab_link_init(&link);
	struct tls *server = tls_open_server(core->servers, 0, lab_server_io(&link));
	struct tls *client = tls_open_client(core->clients, 0, lab_client_io(&link),
		v->host == NULL ? "mx.example.test" : v->host, v->domain == NULL ? "" : v->domain);
	tls_set_destination(client, bytes_of_string(v->destination == NULL ? "there" : v->destination));
	v->has_offered = client->has_offered;
	if (v->is_left) {
		tls_handshake(client);
	} else if (v->failure != TLS_FAILURE_NONE) {
		lab_shake(client, server, &at_client, &at_server);
		assert_int_equal(tls_failure(client, NULL), v->failure);
	} else {
		lab_shake(client, server, &at_client, &at_server);
		assert_int_equal(at_client, TLS_OK);
		assert_int_equal(at_server, TLS_OK);
		if (!v->reads_no_ticket)
			assert_int_equal(tls_read(client, in, sizeof in, &n), TLS_AGAIN);
		tls_get_verdict(client, &v->verdict);
		tls_get_verdict(server, &of_server);
		assert_int_equal(v->verdict.is_resumed, of_server.is_resumed);
	}
	v->is_suspect = tls_is_session_suspect(client);
	tls_close(client);
	tls_close(server);
	lab_link_fini(&link);
	return v->verdict.is_resumed;
}

static bool visits(struct core *core)
{
	return visits_with(core, &(struct visit){});
}

/* ---- resuming ---- */

static struct tls_profile of_protocol(struct tls_profile profile, uint16_t protocol)
{
	profile.protocol_highest = protocol;
	return profile;
}

static void a_second_connection_resumes_and_still_says_what_was_verified(void **state)
{
	static const struct tls_profile levels[] = {
		{"may", .level = TLS_LEVEL_MAY},
		{"verify", .level = TLS_LEVEL_VERIFY, .names = "mx.example.test"},
		{"secure", .level = TLS_LEVEL_SECURE},
	};
	for (uint16_t protocol = TLS_1_2; protocol <= TLS_1_3; protocol++)
		for (size_t i = 0; i < 3; i++) {
			const struct tls_profile p = of_protocol(levels[i], protocol);
			struct core core = core_make(&p, 10);
			struct visit first = {0}, second = {0};
			assert_false(visits_with(&core, &first));
			assert_true(visits_with(&core, &second));
			assert_true(visits(&core)); /* and with what the second brought */
			assert_string_equal(tls_verify_name(second.verdict.verify), "OK");
			assert_string_equal(second.verdict.cert_subject, first.verdict.cert_subject);
			assert_int_equal(second.verdict.protocol, protocol);
			core_free(&core);
		}
}

static void a_server_that_was_not_trusted_is_not_trusted_when_resumed(void **state)
{
	static const enum which which[] = {EXPIRED};
	struct core core = core_make(&may, 10);
	struct visit second = {0};
	tls_server_set_put(core.servers);
	core.servers = servers_of(which, 1, &may);
	assert_false(visits(&core));
	assert_true(visits_with(&core, &second));
	assert_string_equal(tls_verify_name(second.verdict.verify), "FAIL");
	assert_string_equal(second.verdict.verify_message, "certificate has expired");
	core_free(&core);
}

static void a_ticket_of_tls13_is_used_once(void **state)
{
	struct core core = core_make(&may, 10);
	struct visit silent = {.reads_no_ticket = true};
	assert_false(visits(&core));
	assert_true(visits_with(&core, &silent)); /* leaves nothing for the next */
	assert_false(visits(&core));
	core_free(&core);
}

static void a_session_that_led_to_nothing_is_forgotten(void **state)
{
	for (uint16_t protocol = TLS_1_2; protocol <= TLS_1_3; protocol++) {
		const struct tls_profile p = of_protocol(may, protocol);
		struct core core = core_make(&p, 10);
		struct visit cut = {.is_left = true}, after = {0};
		assert_false(visits(&core));
		visits_with(&core, &cut);
		assert_true(cut.has_offered);
		assert_false(visits_with(&core, &after));
		assert_false(after.has_offered);
		assert_true(visits(&core));
		core_free(&core);
	}
}

static void a_session_is_not_why_a_certificate_was_refused(void **state)
{
	static const enum which expired[] = {EXPIRED};
	static const struct tls_profile other = {.id = "other"}; /* whose sessions are not the first's */
	const struct tls_profile profile = {"v", .level = TLS_LEVEL_VERIFY};
	for (int is_cut = 0; is_cut < 2; is_cut++) {
		struct core core = core_make(&profile, 10);
		struct visit next = {.is_left = is_cut, .failure = is_cut ? TLS_FAILURE_NONE : TLS_FAILURE_UNTRUSTED};
		assert_false(visits(&core));
		tls_server_set_put(core.servers);
		core.servers = servers_of(expired, 1, &other);
		visits_with(&core, &next);
		assert_true(next.has_offered);
		assert_int_equal(next.is_suspect, is_cut);
		core_free(&core);
	}
}

static void without_a_place_to_keep_them_sessions_are_not_resumed(void **state)
{
	struct core core = core_make(&may, 0);
	assert_false(visits(&core));
	assert_false(visits(&core));
	core_free(&core);
}

/* ---- where and under what ---- */

static void another_host_domain_or_destination_does_not_resume(void **state)
{
	const struct tls_profile secure = {"s", .level = TLS_LEVEL_SECURE};
	const struct tls_profile *const profiles[] = {&may, &secure};
	for (int is_secure = 0; is_secure < 2; is_secure++) {
		struct core core = core_make(profiles[is_secure], 10);
		struct visit others[] = {{.host = "MX.example.test"}, {.destination = "elsewhere"},
			{.domain = "example.test"}};
		assert_false(visits(&core));
		for (size_t i = 0; i < 3; i++) {
			visits_with(&core, &others[i]);
			/* The domain counts only where the certificate may be for it alone. */
			assert_int_equal(others[i].has_offered, i == 2 && !is_secure);
		}
		core_free(&core);
	}
}

static void a_new_policy_resumes_only_what_was_made_under_the_same(void **state)
{
	struct bytes others = lab_certs_pem((const struct lab_cert *const[]){&foreign_ca}, 1);
	const struct tls_profile same = may, verify = {"may", .level = TLS_LEVEL_VERIFY},
				 names = {"may", .level = TLS_LEVEL_MAY, .names = "x.example.test"},
				 id = {"other", .level = TLS_LEVEL_MAY};
	const struct {
		const struct tls_profile *profile;
		bool has_other_roots, is_offered;
	} cases[] = {{&same, false, true}, {&same, true, false}, {&verify, false, false}, {&names, false, false},
		{&id, false, false}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct core core = core_make(&may, 10);
		struct visit next = {0};
		assert_false(visits(&core));
		tls_client_set_put(core.clients);
		core.clients = clients_on(core.lib, cases[i].profile, cases[i].has_other_roots ? others : roots);
		visits_with(&core, &next);
		assert_int_equal(next.has_offered, cases[i].is_offered);
		core_free(&core);
	}
	free((void *)others.at);
}

/* ---- how many and how long ---- */

static void the_oldest_go_where_there_is_no_more_room(void **state)
{
	enum { ROOM = 5, PLACES = 12 };
	struct core core = core_make(&may, ROOM);
	char name[16];
	for (int i = 0; i < PLACES; i++) {
		snprintf(name, sizeof name, "place %d", i);
		assert_false(visits_with(&core, &(struct visit){.destination = name}));
	}
	for (int i = 0; i < PLACES; i++) {
		/* It ends without a ticket, or it would push others out. */
		struct visit again = {.destination = name, .reads_no_ticket = true};
		snprintf(name, sizeof name, "place %d", i);
		assert_int_equal(visits_with(&core, &again), i >= PLACES - ROOM);
	}
	core_free(&core);
}

static void a_session_ends_with_its_lifetime_or_the_servers(void **state)
{
	struct core core = core_make(&may, 10);
	struct tls_ticket_keys keys = {.count = 1, .lifetime_seconds = 600};
	struct visit next = {.reads_no_ticket = true};
	keys.at[0] = (struct tls_ticket_key){.until = UINT64_MAX, .end = UINT64_MAX};
	assert_false(visits(&core)); /* the server's: two hours */
	later = LIFETIME - 2;
	visits_with(&core, &next);
	assert_true(next.has_offered);
	assert_false(visits(&core));
	later += LIFETIME + 1;
	visits_with(&core, &next);
	assert_false(next.has_offered);
	assert_true(tls_lib_set_ticket_keys(lib, &keys)); /* the server's: ten minutes */
	assert_false(visits(&core));
	later += 601;
	visits_with(&core, &next);
	assert_false(next.has_offered);
	core_free(&core);
}

static void resuming_again_and_again_ends_a_day_after_the_first_handshake(void **state)
{
	for (uint16_t protocol = TLS_1_2; protocol <= TLS_1_3; protocol++) {
		const struct tls_profile p = of_protocol(may, protocol);
		struct core core = core_make(&p, 10);
		int resumed = 0;
		assert_false(visits(&core));
		for (later = 500; later < DAY + 1000; later += 500)
			resumed += visits(&core);
		/* One full handshake came in between. */
		assert_in_range(resumed, (DAY + 1000) / 500 - 4, (DAY + 1000) / 500 - 1);
		core_free(&core);
	}
}

/* ---- small ClientHellos ---- */

static size_t hello_bytes(struct tls_client_set *clients, bool is_small, bool *wants)
{
	struct lab_link link;
	lab_link_init(&link);
	struct tls *client = tls_open_client(clients, 0, lab_client_io(&link), "mx.example.test", "");
	if (is_small)
		assert_true(tls_use_small_hello(client));
	assert_false(tls_wants_small_hello(client)); /* nothing was sent */
	assert_int_equal(tls_handshake(client), TLS_AGAIN);
	*wants = tls_wants_small_hello(client);
	size_t n = link.up.tail - link.up.head;
	tls_close(client);
	lab_link_fini(&link);
	return n;
}

static void a_small_clienthello_fits_into_a_segment_and_a_large_one_says_so(void **state)
{
	static const struct {
		const char *groups;
		bool is_large, can_be_small;
	} cases[] = {{"", true, true}, {"X25519MLKEM768:X25519", true, true}, {"X25519:P-256", false, true},
		{"X25519MLKEM768", true, false}, {"P-256/X25519MLKEM768:P-384", false, true}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tls_profile p = may;
		bool wants;
		snprintf(p.groups, sizeof p.groups, "%s", cases[i].groups);
		struct tls_client_set *clients = clients_of(&p);
		size_t n = hello_bytes(clients, false, &wants);
		assert_int_equal(n > 1200, cases[i].is_large);
		assert_int_equal(wants, cases[i].is_large && cases[i].can_be_small);
		if (cases[i].can_be_small) {
			assert_true(hello_bytes(clients, true, &wants) < 1200);
			assert_false(wants);
		}
		tls_client_set_put(clients);
	}
}

static void who_has_answered_wants_no_small_clienthello(void **state)
{
	struct meeting m = {.servers = servers_of((const enum which[]){RIGHT}, 1, &may), .clients = clients_of(&may)};
	lab_link_init(&m.link);
	m.client = tls_open_client(m.clients, 0, lab_client_io(&m.link), "mx.example.test", "");
	assert_int_equal(tls_handshake(m.client), TLS_AGAIN);
	assert_true(tls_wants_small_hello(m.client));
	lab_wire_write(&m.link.down, (const uint8_t *)"\x16", 1);
	assert_int_equal(tls_handshake(m.client), TLS_AGAIN);
	assert_false(tls_wants_small_hello(m.client));
	tls_close(m.client);
	lab_link_fini(&m.link);
	tls_server_set_put(m.servers);
	tls_client_set_put(m.clients);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_connection_resumes_and_still_says_what_was_verified),
		cmocka_unit_test(a_server_that_was_not_trusted_is_not_trusted_when_resumed),
		cmocka_unit_test(a_ticket_of_tls13_is_used_once),
		cmocka_unit_test(a_session_that_led_to_nothing_is_forgotten),
		cmocka_unit_test(a_session_is_not_why_a_certificate_was_refused),
		cmocka_unit_test(without_a_place_to_keep_them_sessions_are_not_resumed),
		cmocka_unit_test(another_host_domain_or_destination_does_not_resume),
		cmocka_unit_test(a_new_policy_resumes_only_what_was_made_under_the_same),
		cmocka_unit_test(the_oldest_go_where_there_is_no_more_room),
		cmocka_unit_test(a_session_ends_with_its_lifetime_or_the_servers),
		cmocka_unit_test(resuming_again_and_again_ends_a_day_after_the_first_handshake),
		cmocka_unit_test(a_small_clienthello_fits_into_a_segment_and_a_large_one_says_so),
		cmocka_unit_test(who_has_answered_wants_no_small_clienthello),
	};
	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
