// SPDX-License-Identifier: Apache-2.0
/* Clients of a worker and TLS: what a handshake may cost, what is not taken for one, and with which back end it is done. */
#include "relay/worker_lab.h"

#include "tls/offload/offload_private.h"

#include <errno.h>
#include <stdio.h>

static uint64_t failed(struct lab *lab, enum handshake_failure failure)
{
	return atomic_load(&lab->w->handshake_counters.server.failed[failure]);
}

/* Reset, closed or silent after any part of its ClientHello, and after all of it with our answer under way. */
static void a_clienthello_cut_anywhere_leaves_nothing(void **state)
{
	enum how { RESET, CLOSED, SILENT };
	for (int how = RESET; how <= SILENT; how++) {
		struct lab *lab = lab_new(lab_open_to_all, NULL);
		/* The silent ones are all there at a time; each byte has its turn in tls/bad_input_test.c. */
		for (size_t cut = 1; cut < 2500; cut = how == SILENT ? cut * 2 + 1 : cut * 4 / 3 + 1) {
			struct peer *p = lab_connect(lab, 465);
			lab_say_hello(p, cut);
			if (how == RESET)
				tcp_abort(p->conn);
			else if (how == CLOSED)
				tcp_close(p->conn);
			lab_run(lab, how == SILENT ? 1000 : LAB_SECOND);
			assert_int_equal(lab->w->conn_count, how == SILENT ? lab->peer_count : 0);
		}
		lab_run(lab, how == SILENT ? 65 * LAB_SECOND : LAB_SECOND); /* the deadline, and that for their end */
		assert_int_equal(lab->w->conn_count, 0);
		assert_int_equal(lab->w->handshakes, 0);
		lab_free(lab);
	}
}

static void a_half_closed_handshake_ends_at_once(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	for (int has_said = 0; has_said < 2; has_said++) {
		struct peer *p = lab_connect(lab, 465);
		if (has_said)
			lab_say_hello(p, SIZE_MAX);
		assert_int_equal(lab->w->handshakes, has_said);
		tcp_close(p->conn);
		lab_run(lab, LAB_SECOND);
		assert_int_equal(lab->w->handshakes, 0);
		assert_int_equal(lab->w->conn_count, 0);
		assert_int_equal(failed(lab, HANDSHAKE_CLOSED), has_said + 1);
	}
	lab_free(lab);
}

static void few_handshakes(struct config *config)
{
	config->limits.handshakes = 2;
}

static void handshakes_in_flight_are_limited_on_both_listeners(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, few_handshakes);
	struct peer *clear = lab_greeted(lab), *late = lab_greeted(lab);
	lab_connect(lab, 465); /* who says nothing takes nothing */
	lab_say(late, "STARTTLS\r\n");
	lab_expect(late, "220 ");
	lab_say_hello(lab_connect(lab, 465), SIZE_MAX);
	lab_say_hello(lab_connect(lab, 465), SIZE_MAX);
	assert_int_equal(lab->w->handshakes, 2);
	struct peer *third = lab_connect(lab, 465);
	lab_expect_end(third);
	assert_int_equal(third->n, 0);
	lab_say(clear, "STARTTLS\r\n");
	lab_expect(clear, "454 4.7.0");
	assert_string_equal(lab->rejected.reason, "handshakes in flight");
	assert_int_equal(failed(lab, HANDSHAKE_IN_FLIGHT), 2);
	/* Its 220 was said while there was room: now an alert is all it can be told. */
	late->n = 0;
	lab_say_hello(late, SIZE_MAX);
	lab_expect_end(late);
	assert_int_equal(late->n, 7);
	assert_memory_equal(late->in, "\x15\x03\x01\x00\x02\x02\x50", 7);
	assert_int_equal(failed(lab, HANDSHAKE_IN_FLIGHT), 3);
	assert_int_equal(lab->w->handshakes, 2);
	lab_run(lab, 31 * LAB_SECOND); /* the others have timed out */
	assert_int_equal(failed(lab, HANDSHAKE_TIMED_OUT), 3);
	lab_say(clear, "STARTTLS\r\n");
	lab_expect(clear, "220 ");
	lab_secure(clear, false);
	lab_say(clear, "EHLO x.example.test\r\n");
	lab_expect(clear, "250 ");
	lab_free(lab);
}

static struct conn *conn_of(struct lab *lab)
{
	for (uint32_t slot = 0; slot < lab->w->conn_max; slot++)
		if (conn_at(lab->w, slot)->kind != CONN_FREE)
			return conn_at(lab->w, slot);
	fail_msg("there is no connection");
	return NULL;
}

static void no_session_is_opened_before_the_clienthello_is_whole(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_connect(lab, 465);
	size_t n = lab_say_hello(p, 1), whole = p->hello_bytes;
	assert_true(whole > 1448); /* two segments */
	for (; n < whole - 1; n++)
		lab_say_hello(p, 1);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(lab->w->handshakes, 0);
	assert_null(conn_of(lab)->tls);
	assert_int_equal(p->n, 0);
	lab_say_hello(p, 1);
	assert_int_equal(lab->w->handshakes, 1);
	assert_true(p->n > 500);
	assert_int_equal(p->in[0], 22);
	lab_free(lab);
}

static void what_is_no_clienthello_gets_an_alert_and_no_session(void **state)
{
	static const struct {
		struct bytes said;
		enum handshake_failure failure;
		char alert;
	} cases[] = {
		{BYTES_LITERAL("EHLO client.example.test\r\n"), HANDSHAKE_NOT_TLS, 10},
		{BYTES_LITERAL("\x16\x03\x01\xff\xff\x01\x00\xff\xff\x01"), HANDSHAKE_HELLO_TOO_LARGE, 50},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int is_implicit = 0; is_implicit < 2; is_implicit++) {
			struct lab *lab = lab_new(lab_open_to_all, NULL);
			struct peer *p = is_implicit ? lab_connect(lab, 465) : lab_greeted(lab);
			if (!is_implicit) {
				lab_say(p, "STARTTLS\r\n");
				lab_expect(p, "220 2.0.0 Ready to start TLS\r\n");
			}
			assert_int_equal(tcp_write(p->conn, cases[i].said), cases[i].said.n);
			lab_expect_end(p);
			assert_int_equal(p->n, 7);
			assert_memory_equal(p->in, "\x15\x03\x01\x00\x02\x02", 6);
			assert_int_equal(p->in[6], cases[i].alert);
			assert_int_equal(failed(lab, cases[i].failure), 1);
			assert_string_equal(lab->rejected.stage, "tls");
			lab_free(lab);
		}
}

static void small_budget(struct config *config)
{
	config->limits.client_handshakes = 60;
	config->limits.client_handshakes_burst = 2;
}

static void shake_and_quit(struct lab *lab)
{
	struct peer *p = lab_greeted(lab);
	lab_say(p, "STARTTLS\r\n");
	lab_expect(p, "220 ");
	lab_secure(p, false);
	lab_say(p, "QUIT\r\n");
	lab_expect(p, "221 ");
}

static void a_client_that_has_used_up_its_handshakes_waits_for_more(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, small_budget);
	shake_and_quit(lab);
	shake_and_quit(lab);
	struct peer *p = lab_greeted(lab);
	lab_say(p, "STARTTLS\r\n");
	lab_expect(p, "454 4.7.0");
	assert_int_equal(failed(lab, HANDSHAKE_CLIENT_BUDGET), 1);
	assert_string_equal(lab->rejected.stage, "tls");
	assert_string_equal(lab->rejected.reason, "handshakes per client");
	struct peer *implicit = lab_connect(lab, 465);
	lab_expect_end(implicit);
	assert_int_equal(implicit->n, 0);
	assert_int_equal(failed(lab, HANDSHAKE_CLIENT_BUDGET), 2);
	assert_string_equal(lab->rejected.reason, "handshakes per client");
	assert_int_equal(lab->w->handshakes, 0);
	lab_begin_data(p); /* in clear it goes on as it likes */
	lab_run(lab, LAB_SECOND);
	shake_and_quit(lab);
	lab_free(lab);
}

static void the_price_of_an_rsa_handshake_goes_by_its_size(void **state)
{
	static const struct {
		enum lab_key key;
		unsigned tokens;
	} cases[] = {{LAB_ECDSA, 1}, {LAB_RSA, 2}, {LAB_RSA_3072, 4}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct lab *lab = lab_new(lab_open_to_all, small_budget);
		lab->key = cases[i].key;
		lab_policy(lab, lab_open_to_all, 2, true);
		lab_run(lab, LAB_SECOND);
		shake_and_quit(lab);
		/* Of two there is one left when the others have come back, one a second. */
		uint64_t until = lab->now_us + (cases[i].tokens - 1) * LAB_SECOND;
		assert_true(budget_has(&lab->w->budget, &lab->far_addr, until));
		if (cases[i].tokens > 1)
			assert_false(budget_has(&lab->w->budget, &lab->far_addr, until - LAB_SECOND / 2));
		assert_int_equal(atomic_load(&lab->w->handshake_counters.server.done[1][TLS_GROUP_X25519MLKEM768]
							      [i == 0 ? TLS_KEY_ECDSA : TLS_KEY_RSA][0]), 1);
		lab_free(lab);
	}
}

static uint64_t waited(struct lab *lab)
{
	uint64_t n = 0;
	for (unsigned kind = 0; kind < TLS_OP_KIND_COUNT; kind++)
		n += tls_lib_counters(lab->w->tls_lib)->kind[kind].ops;
	return n;
}

static void new_handshakes_change_their_back_end_and_sessions_go_on(void **state)
{
	static const char *const backends[] = {"mb", "inline", "mb"};
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	char error[512];
	const char *why = tls_backend_unusable(lab->w->tls_lib, TLS_BACKEND_MB);
	lab->key = LAB_RSA;
	lab_policy(lab, lab_open_to_all, 2, true);
	struct peer *kept = lab_connect(lab, 465);
	lab_secure(kept, false);
	lab_expect(kept, "220 ");
	for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
		bool is_mb = strcmp(backends[i], "mb") == 0;
		int rc = backend_change(&lab->relay, backends[i], error);
		assert_int_equal(rc == 0, !is_mb || why == NULL);
		if (rc != 0)
			assert_non_null(strstr(error, why));
		uint64_t before = waited(lab);
		shake_and_quit(lab);
		shake_and_quit(lab);
		assert_int_equal(waited(lab) > before, is_mb && why == NULL);
		lab_say(kept, "NOOP\r\n");
		lab_expect(kept, "250 ");
	}
	assert_int_equal(backend_change(&lab->relay, "nonsense", error), -EINVAL);
	assert_non_null(strstr(error, "there is no such back end"));
	assert_int_equal(tls_lib_waiting(lab->w->tls_lib), 0);
	lab_free(lab);
}

static void a_back_end_that_is_missing_stops_the_start_only_where_that_is_wanted(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	char error[256] = "";
	lab->config.tls.offload = "engine";
	lab->config.tls.offload_missing = "inline";
	lab->config.tls.engine = "no-such-engine";
	assert_int_equal(backend_choose(&lab->relay, error), 0);
	assert_int_equal(lab->relay.backend, TLS_BACKEND_INLINE);
	assert_non_null(strstr(lab->relay.backend_why, "engine cannot be used: "));
	lab->config.tls.offload_missing = "refuse";
	assert_int_equal(backend_choose(&lab->relay, error), -ENOTSUP);
	assert_non_null(strstr(error, "tls.offload: engine cannot be used: "));
	lab->config.tls.offload = "inline";
	assert_int_equal(backend_choose(&lab->relay, error), 0);
	lab_free(lab);
}

static void nobody_asked_for_a_back_end_and_gets_the_best_the_processor_has(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	char error[256] = "", wanted[128];
	const char *why = tls_backend_unusable(lab->w->tls_lib, TLS_BACKEND_MB);
	lab->config.tls.offload = "auto";
	lab->config.tls.offload_missing = "refuse"; /* is of no account: nothing was asked for */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(backend_choose(&lab->relay, error), 0);
		assert_int_equal(lab->relay.backend, why == NULL ? TLS_BACKEND_MB : TLS_BACKEND_INLINE);
		snprintf(wanted, sizeof wanted, why == NULL ? "auto" : "mb cannot be used: %s", why);
		assert_string_equal(lab->relay.backend_why, wanted);
		tls_mb_forbid(true); /* and so on a processor without AVX512-IFMA */
		why = tls_backend_unusable(lab->w->tls_lib, TLS_BACKEND_MB);
		assert_non_null(why);
	}
	tls_mb_forbid(false);
	lab_free(lab);
}

static void a_peer_that_floods_or_garbles_is_cut_and_recorded(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_connect(lab, 465);
	lab_secure(p, false);
	lab_expect(p, "220 ");
	assert_int_equal(tcp_write(p->conn, BYTES_LITERAL("\x17\x03\x03\x00\x13nineteen bytes here")), 24);
	lab_expect_end(p);
	assert_int_equal(atomic_load(&lab->w->counters.tls_broken), 1);
	assert_string_equal(lab->rejected.stage, "tls");
	assert_string_equal(lab->rejected.reason, "TLS session failed: decryption failed or bad record mac");
	lab_free(lab);
}

static void a_command_behind_starttls_is_not_taken_for_a_secured_one(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
	lab_say(p, "STARTTLS\r\nMAIL FROM:<evil@example.test>\r\n");
	lab_expect_end(p);
	assert_null(strstr(p->in, "250 "));
	if (p->conn != NULL)
		tcp_close(p->conn);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(lab->w->conn_count, 0);
	assert_int_equal(lab->w->handshakes, 0);
	lab_free(lab);
}

static void certificates_that_went_between_offer_and_handshake_end_the_connection(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
	lab_policy(lab, lab_open_to_all, 2, false);
	lab_say(p, "STARTTLS\r\n");
	lab_expect_end(p);
	lab_free(lab);
}

static void over_tls_the_last_word_arrives_before_the_end(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_connect(lab, 465);
	lab_secure(p, false);
	lab_expect(p, "220 ");
	lab_say(p, "EHLO x.example.test\r\n");
	lab_expect(p, "250 ");
	lab_say(p, "QUIT\r\n");
	lab_expect(p, "221 ");
	lab_expect_end(p);
	lab_free(lab);
}

/* RFC 2920 3.2. A call of tls_read() gives what one record holds. */
static void a_group_of_commands_is_answered_in_one_record(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_connect(lab, 465);
	char got[1000];
	size_t n;
	lab_secure(p, false);
	lab_expect(p, "220 ");
	lab_say(p, "EHLO x.example.test\r\n");
	lab_expect(p, "250 ");
	for (int round = 0; round < 3; round++) {
		p->n = 0;
		p->is_reading = false;
		lab_say(p, "MAIL FROM:<a@x.example.test>\r\nRCPT TO:<b@here.example.test>\r\nDATA\r\n");
		assert_int_equal(tls_read(p->tls, (uint8_t *)got, sizeof got - 1, &n), TLS_OK);
		got[n] = '\0';
		assert_string_equal(got,
			"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n");
		p->is_reading = true;
		lab_say(p, "Subject: x\r\n\r\n");
		lab_say(p, "x\r\n.\r\n"); /* in two records, the second after TLS was read empty */
		lab_expect(p, "250 2.0.0 Ok: queued as ");
	}
	assert_int_equal(lab->accepted_count, 3);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_clienthello_cut_anywhere_leaves_nothing),
		cmocka_unit_test(a_half_closed_handshake_ends_at_once),
		cmocka_unit_test(handshakes_in_flight_are_limited_on_both_listeners),
		cmocka_unit_test(no_session_is_opened_before_the_clienthello_is_whole),
		cmocka_unit_test(what_is_no_clienthello_gets_an_alert_and_no_session),
		cmocka_unit_test(a_client_that_has_used_up_its_handshakes_waits_for_more),
		cmocka_unit_test(the_price_of_an_rsa_handshake_goes_by_its_size),
		cmocka_unit_test(new_handshakes_change_their_back_end_and_sessions_go_on),
		cmocka_unit_test(a_back_end_that_is_missing_stops_the_start_only_where_that_is_wanted),
		cmocka_unit_test(nobody_asked_for_a_back_end_and_gets_the_best_the_processor_has),
		cmocka_unit_test(a_peer_that_floods_or_garbles_is_cut_and_recorded),
		cmocka_unit_test(a_command_behind_starttls_is_not_taken_for_a_secured_one),
		cmocka_unit_test(certificates_that_went_between_offer_and_handshake_end_the_connection),
		cmocka_unit_test(over_tls_the_last_word_arrives_before_the_end),
		cmocka_unit_test(a_group_of_commands_is_answered_in_one_record),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
