// SPDX-License-Identifier: Apache-2.0
/* Clients of a worker, and what is owed to them. */
#include "relay/worker_lab.h"

#include <errno.h>
#include <stdio.h>

static const char open_to_all[] =
	"{\"in_rules\":[{\"id\":\"friends\",\"sender\":\"@friend.example.test\",\"action\":\"relay\"}],"
	"\"routes\":[{\"id\":\"here\",\"domain\":\"here.example.test\",\"inbound\":true},"
	"{\"id\":\"world\",\"domain\":\"*\"}]}";

static struct peer *greeted(struct lab *lab)
{
	struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
	lab_expect(p, "220 relay.example.test");
	lab_say(p, "EHLO client.example.test\r\n");
	lab_expect(p, "250 ");
	lab_expect(p, "\r\n");
	return p;
}

static struct conn *conn_of(struct lab *lab)
{
	for (uint32_t slot = 0; slot < lab->w->conn_max; slot++)
		if (conn_at(lab->w, slot)->kind != CONN_FREE)
			return conn_at(lab->w, slot);
	fail_msg("there is no connection");
	return NULL;
}

static void begin_data(struct peer *p)
{
	lab_say(p, "MAIL FROM:<a@example.test>\r\nRCPT TO:<b@here.example.test>\r\nDATA\r\n");
	lab_expect(p, "354 ");
}

static uint64_t stale(struct lab *lab)
{
	return atomic_load(&lab->w->counters.stale_answers);
}

static void the_250_comes_after_the_verdict_and_not_before(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	lab->spool = LAB_SPOOL_SILENT;
	struct peer *p = greeted(lab);
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\n");
	lab_run(lab, 60 * LAB_SECOND);
	assert_int_equal(lab->commits, 1);
	assert_null(strstr(p->in, "250 "));
	lab_verdict(lab, true);
	lab_expect(p, "250 2.0.0");
	lab_say(p, "QUIT\r\n");
	lab_expect(p, "221 ");
	lab_free(lab);
}

static void a_mail_that_is_not_durable_gets_452(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	lab->spool = LAB_SPOOL_BAD;
	struct peer *p = greeted(lab);
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\n");
	lab_expect(p, "452 4.3.1");
	lab->spool = LAB_SPOOL_GOOD;
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nagain\r\n.\r\n");
	lab_expect(p, "250 2.0.0");
	lab_free(lab);
}

static void a_verdict_for_a_client_that_has_gone_is_nobody_elses_and_recorded(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	lab->spool = LAB_SPOOL_SILENT;
	struct peer *p = greeted(lab);
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\n");
	tcp_abort(p->conn);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(clients_count(&lab->w->clients, &lab->far_addr), 0);
	struct peer *other = greeted(lab);
	assert_int_equal(lab->accepted_count, 0);
	lab_verdict(lab, true);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(stale(lab), 0);
	assert_null(strstr(other->in, "250 2.0.0"));
	assert_int_equal(lab->w->conn_count, 1); /* the other's */
	assert_int_equal(lab->accepted_count, 1);
	assert_string_equal(lab->accepted.from, "a@example.test");
	assert_string_equal(lab->accepted.to, "b@here.example.test");
	assert_string_equal(lab->accepted.helo, "client.example.test");
	assert_string_equal(lab->accepted.reply, "");
	assert_string_equal(lab->accepted.reason, "the client had gone before the reply");
	assert_int_not_equal(lab->accepted.queue_id, 0);
	lab_free(lab);
}

static void a_mail_that_failed_after_its_client_has_gone_is_not_recorded_as_accepted(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	lab->spool = LAB_SPOOL_SILENT;
	struct peer *p = greeted(lab);
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\n");
	tcp_abort(p->conn);
	lab_run(lab, LAB_SECOND);
	lab_verdict(lab, false);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(lab->w->conn_count, 0);
	assert_int_equal(lab->accepted_count, 0);
	lab_free(lab);
}

static void a_spool_that_never_answers_is_not_waited_for_for_ever_nor_guessed(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	lab->spool = LAB_SPOOL_SILENT;
	struct peer *p = greeted(lab);
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\n");
	lab_run(lab, 601 * LAB_SECOND);
	assert_true(p->has_ended);
	assert_string_equal(p->in + strcspn(p->in, "2345"), ""); /* not a word */
	lab_verdict(lab, true);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(lab->w->conn_count, 0);
	assert_int_equal(lab->accepted_count, 1); /* it is there, after all */
	lab_free(lab);
}

static void a_mail_without_room_is_refused_at_its_end_and_the_session_still_times_out(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	char line[1001];
	memset(line, 'x', 998);
	strcpy(line + 998, "\r\n");
	struct peer *p = greeted(lab);
	begin_data(p);
	for (int i = 0; i < 1200; i++) /* the core has 1 MiB */
		lab_say(p, line);
	lab_say(p, ".\r\n");
	lab_expect(p, "452 4.3.1");
	assert_int_equal(lab->commits, 0);
	assert_int_equal(lab->aborts, 1); /* the spool had seen some of it */
	lab_run(lab, 301 * LAB_SECOND);
	lab_expect(p, "421 ");
	lab_expect_end(p);
	lab_free(lab);
}

static void silence_at_each_stage_ends_with_421(void **state)
{
	static const char *const stages[] = {"", "EHLO x.example.test\r\n", "MAIL FROM:<a@example.test>\r\n",
		"RCPT TO:<b@here.example.test>\r\n", "DATA\r\n", "half of it"};
	for (unsigned stop = 0; stop <= 6; stop++) {
		struct lab *lab = lab_new(open_to_all, NULL);
		struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
		for (unsigned i = 0; i < stop; i++)
			lab_say(p, stages[i]);
		lab_run(lab, 299 * LAB_SECOND);
		assert_false(p->has_fin);
		lab_run(lab, 5 * LAB_SECOND);
		lab_expect(p, "421 ");
		lab_expect_end(p);
		lab_run(lab, 60 * LAB_SECOND); /* we never close our side: it is cut */
		assert_int_equal(lab->w->conn_count, 0);
		lab_free(lab);
	}
}

static void a_reset_or_a_fin_at_each_stage_leaves_nothing(void **state)
{
	static const char *const stages[] = {"EHLO x.example.test\r\n", "MAIL FROM:<a@example.test>\r\n",
		"RCPT TO:<b@here.example.test>\r\n", "DATA\r\n", "Subject: x\r\n\r\nhalf", "\r\n.\r\n", "NOO"};
	for (unsigned stop = 0; stop <= 7; stop++)
		for (int is_fin = 0; is_fin < 2; is_fin++) {
			struct lab *lab = lab_new(open_to_all, NULL);
			struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
			for (unsigned i = 0; i < stop; i++)
				lab_say(p, stages[i]);
			if (is_fin)
				tcp_close(p->conn);
			else
				tcp_abort(p->conn);
			lab_run(lab, 2 * LAB_SECOND); /* at once, not at some deadline */
			assert_int_equal(lab->w->conn_count, 0);
			lab_free(lab);
		}
}

static void what_was_pipelined_before_a_fin_is_still_answered(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *p = greeted(lab);
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n");
	tcp_close(p->conn);
	lab_expect(p, "250 2.0.0");
	lab_expect(p, "221 ");
	lab_free(lab);
}

static uint64_t failed(struct lab *lab, enum handshake_failure failure)
{
	return atomic_load(&lab->w->handshake_counters.server.failed[failure]);
}

/* Reset, closed or silent after any part of its ClientHello, and after all of it with our answer under way. */
static void a_clienthello_cut_anywhere_leaves_nothing(void **state)
{
	enum how { RESET, CLOSED, SILENT };
	for (int how = RESET; how <= SILENT; how++) {
		struct lab *lab = lab_new(open_to_all, NULL);
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
	struct lab *lab = lab_new(open_to_all, NULL);
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
	struct lab *lab = lab_new(open_to_all, few_handshakes);
	struct peer *clear = greeted(lab), *late = greeted(lab);
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

static void no_session_is_opened_before_the_clienthello_is_whole(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
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
			struct lab *lab = lab_new(open_to_all, NULL);
			struct peer *p = is_implicit ? lab_connect(lab, 465) : greeted(lab);
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
	struct peer *p = greeted(lab);
	lab_say(p, "STARTTLS\r\n");
	lab_expect(p, "220 ");
	lab_secure(p, false);
	lab_say(p, "QUIT\r\n");
	lab_expect(p, "221 ");
}

static void a_client_that_has_used_up_its_handshakes_waits_for_more(void **state)
{
	struct lab *lab = lab_new(open_to_all, small_budget);
	shake_and_quit(lab);
	shake_and_quit(lab);
	struct peer *p = greeted(lab);
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
	begin_data(p); /* in clear it goes on as it likes */
	lab_run(lab, LAB_SECOND);
	shake_and_quit(lab);
	lab_free(lab);
}

static void an_rsa_handshake_costs_as_much_as_three(void **state)
{
	struct lab *lab = lab_new(open_to_all, small_budget);
	lab->has_rsa = true;
	lab_policy(lab, open_to_all, 2, true);
	lab_run(lab, LAB_SECOND);
	shake_and_quit(lab);
	struct addr client = lab->far_addr;
	assert_false(budget_has(&lab->w->budget, &client, lab->now_us));
	assert_true(budget_has(&lab->w->budget, &client, lab->now_us + 2 * LAB_SECOND));
	assert_int_equal(atomic_load(&lab->w->handshake_counters.server
					      .done[1][TLS_GROUP_X25519MLKEM768][TLS_KEY_RSA][0]), 1);
	lab_free(lab);
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
	struct lab *lab = lab_new(open_to_all, NULL);
	char error[512];
	const char *why = tls_backend_unusable(lab->w->tls_lib, TLS_BACKEND_MB);
	lab->has_rsa = true;
	lab_policy(lab, open_to_all, 2, true);
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
	struct lab *lab = lab_new(open_to_all, NULL);
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

static void a_peer_that_floods_or_garbles_is_cut_and_recorded(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
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
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *p = greeted(lab);
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
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *p = greeted(lab);
	lab_policy(lab, open_to_all, 2, false);
	lab_say(p, "STARTTLS\r\n");
	lab_expect_end(p);
	lab_free(lab);
}

static void a_senders_right_to_relay_is_not_the_next_senders(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *p = greeted(lab);
	lab_say(p, "MAIL FROM:<a@friend.example.test>\r\nRCPT TO:<b@elsewhere.example.test>\r\n");
	lab_expect(p, "250 2.1.0");
	lab_expect(p, "250 2.1.5");
	lab_say(p, "RSET\r\nMAIL FROM:<a@stranger.example.test>\r\nRCPT TO:<b@elsewhere.example.test>\r\n");
	lab_expect(p, "554 5.7.1");
	lab_say(p, "RCPT TO:<b@here.example.test>\r\n");
	lab_expect(p, "250 2.1.5");
	lab_free(lab);
}

static void a_noop_now_and_then_keeps_a_session_and_no_longer_than_it_may_last(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *p = greeted(lab);
	for (int i = 0; i < 57; i++) { /* 3 h 57 min */
		lab_run(lab, 250 * LAB_SECOND);
		lab_say(p, "NOOP\r\n");
		lab_expect(p, "250 ");
	}
	lab_run(lab, 250 * LAB_SECOND);
	lab_say(p, "NOOP\r\n");
	lab_expect(p, "421 ");
	lab_expect_end(p);
	lab_free(lab);
}

static void content_byte_by_byte_does_not_hold_a_connection(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *p = greeted(lab);
	begin_data(p);
	for (int i = 0; i < 4 && !p->has_fin; i++) {
		lab_run(lab, 100 * LAB_SECOND);
		if (!p->has_fin)
			lab_say(p, "x\r\n");
	}
	lab_expect(p, "421 ");
	lab_free(lab);
}

static void a_greeting_that_found_no_block_is_sent_when_there_is_one(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	struct stream held[64];
	size_t room, n = stream_pool_free_count(lab->w->streams);
	assert_in_range(n, 1, 64);
	for (size_t i = 0; i < n; i++) {
		stream_init(&held[i], lab->w->streams);
		assert_non_null(stream_reserve(&held[i], 1, &room));
	}
	struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
	lab_run(lab, LAB_SECOND); /* without spinning: the lab checks it */
	assert_int_equal(p->n, 0);
	for (size_t i = 0; i < n; i++)
		stream_reset(&held[i]);
	lab_expect(p, "220 ");
	lab_free(lab);
}

static void half_lines_of_many_clients_leave_room_for_replies(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *holders[10], *p;
	struct stream held[64];
	size_t room, n = 0;
	while (stream_pool_free_count(lab->w->streams) > 8) {
		stream_init(&held[n], lab->w->streams);
		assert_non_null(stream_reserve(&held[n++], 1, &room));
	}
	for (int i = 0; i < 10; i++) {
		holders[i] = greeted(lab);
		lab_say(holders[i], "NOOP but not");
	}
	p = greeted(lab);
	lab_say(p, "NOOP\r\n");
	lab_expect(p, "250 ");
	for (int i = 0; i < 10; i++) {
		lab_say(holders[i], " for ever\r\n");
		lab_expect(holders[i], "250 ");
	}
	while (n > 0)
		stream_reset(&held[--n]);
	lab_free(lab);
}

static void a_drain_tells_sessions_also_those_still_shaking_hands(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	struct peer *idle = greeted(lab), *busy = greeted(lab), *tls = lab_connect(lab, 465);
	begin_data(busy);
	atomic_store(&lab->relay.is_draining, true);
	lab_run(lab, LAB_SECOND);
	lab_expect(idle, "421 ");
	lab_expect_end(idle);
	lab_secure(tls, false);
	lab_expect(tls, "421 ");
	lab_say(busy, "Subject: x\r\n\r\nhello\r\n.\r\n");
	lab_expect(busy, "250 2.0.0");
	lab_expect(busy, "421 ");
	lab_free(lab);
}

static void over_tls_the_last_word_arrives_before_the_end(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
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

/* ---- clients' names ---- */

static const char by_name[] =
	"{\"in_rules\":[{\"id\":\"evil\",\"client_name\":\".evil.example.test\",\"action\":\"reject\"},"
	"{\"id\":\"friend\",\"client_name\":\".friend.example.test\",\"action\":\"relay\"}],"
	"\"routes\":[{\"id\":\"world\",\"domain\":\"*\"}]}";

/* The next question of the worker; fails the test if there is none. */
static struct name_query *asked(struct lab *lab)
{
	struct name_query *q = ring_pop_spsc(&lab->w->names.asked);
	assert_non_null(q);
	assert_memory_equal(&q->addr, &lab->far_addr, sizeof q->addr);
	assert_string_equal(q->name, "");
	return q;
}

static void answer(struct lab *lab, struct name_query *q, const char *name)
{
	strcpy(q->name, name);
	assert_true(ring_push_spsc(&lab->w->names.answered, q));
}

static uint64_t missed(struct lab *lab)
{
	return atomic_load(&lab->w->counters.names_missed);
}

static void expect_all_names_home(struct lab *lab)
{
	lab_run(lab, LAB_SECOND);
	assert_int_equal(lab->w->names.free_count, NAMES_MAX);
}

static void no_name_is_asked_for_where_no_rule_wants_it(void **state)
{
	struct lab *lab = lab_new(open_to_all, NULL);
	greeted(lab);
	assert_null(ring_pop_spsc(&lab->w->names.asked));
	lab_free(lab);
}

static void the_greeting_waits_for_the_name_and_the_rule_for_it_counts(void **state)
{
	static const struct {
		const char *name, *rcpt;
	} cases[] = {{"mx.friend.example.test", "250 2.1.5"}, {"friend.example.test", "554 5.7.1"}, {"", "554 5.7.1"}};
	for (unsigned i = 0; i < 3; i++) {
		struct lab *lab = lab_new(by_name, NULL);
		struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
		lab_say(p, "EHLO early.example.test\r\n");
		lab_run(lab, 2 * LAB_SECOND);
		assert_int_equal(p->n, 0);
		answer(lab, asked(lab), cases[i].name);
		lab_expect(p, "220 ");
		lab_expect(p, "250 ");
		lab_say(p, "MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n");
		lab_expect(p, cases[i].rcpt);
		assert_int_equal(missed(lab), 0);
		expect_all_names_home(lab);
		lab_free(lab);
	}
}

static void a_name_is_in_the_records_and_the_received_field(void **state)
{
	struct lab *lab = lab_new(by_name, NULL);
	lab->spool = LAB_SPOOL_SILENT;
	struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
	answer(lab, asked(lab), "mx.friend.example.test");
	lab_expect(p, "220 ");
	lab_say(p, "EHLO x.example.test\r\n");
	begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\n");
	lab_run(lab, LAB_SECOND);
	assert_non_null(lab->committed);
	struct mail_chunk *chunk = lab->committed->first;
	static const char received[] = "Received: from x.example.test (mx.friend.example.test [";
	assert_non_null(memmem(chunk->data, chunk->used, received, strlen(received)));
	lab_verdict(lab, true);
	lab_expect(p, "250 2.0.0");
	lab_run(lab, LAB_SECOND);
	assert_string_equal(lab->accepted.client_name, "mx.friend.example.test");
	lab_free(lab);
}

static void a_client_refused_by_its_name_is_refused_before_any_session(void **state)
{
	struct lab *lab = lab_new(by_name, NULL);
	struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
	answer(lab, asked(lab), "mx.evil.example.test");
	lab_expect(p, "554 ");
	lab_expect_end(p);
	lab_free(lab);
}

static void a_name_that_takes_too_long_is_none_and_its_answer_nobodys(void **state)
{
	struct lab *lab = lab_new(by_name, NULL);
	struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
	struct name_query *q = asked(lab);
	lab_run(lab, 4 * LAB_SECOND);
	assert_int_equal(p->n, 0);
	lab_run(lab, 2 * LAB_SECOND);
	lab_expect(p, "220 ");
	assert_int_equal(missed(lab), 1);
	answer(lab, q, "mx.friend.example.test");
	lab_say(p, "EHLO x.example.test\r\n");
	lab_expect(p, "250 ");
	lab_say(p, "MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n");
	lab_expect(p, "554 5.7.1");
	assert_int_equal(stale(lab), 1);
	expect_all_names_home(lab);
	lab_free(lab);
}

static void a_client_that_goes_while_its_name_is_asked_for_leaves_nothing(void **state)
{
	for (int is_fin = 0; is_fin < 2; is_fin++) {
		struct lab *lab = lab_new(by_name, NULL);
		struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
		struct name_query *q = asked(lab);
		if (is_fin)
			tcp_close(p->conn);
		else
			tcp_abort(p->conn);
		lab_run(lab, LAB_SECOND);
		answer(lab, q, "mx.friend.example.test");
		expect_all_names_home(lab);
		assert_int_equal(lab->w->conn_count, 0);
		lab_free(lab);
	}
}

static void with_too_many_names_under_way_a_client_has_none(void **state)
{
	struct lab *lab = lab_new(by_name, NULL);
	lab->w->names.free_count = 1; /* as if the others were out */
	struct peer *first = lab_connect(lab, LAB_MAIL_PORT), *second = lab_connect(lab, LAB_MAIL_PORT);
	lab_expect(second, "220 ");
	assert_int_equal(missed(lab), 1);
	assert_int_equal(first->n, 0);
	answer(lab, asked(lab), "");
	lab_expect(first, "220 ");
	lab_free(lab);
}

static void with_implicit_tls_the_handshake_waits_for_the_name(void **state)
{
	struct lab *lab = lab_new(by_name, NULL);
	struct peer *p = lab_connect(lab, 465);
	assert_int_equal(lab->w->handshakes, 0);
	answer(lab, asked(lab), "mx.friend.example.test");
	lab_secure(p, false);
	lab_expect(p, "220 ");
	lab_free(lab);
}

static void a_drain_reaches_who_waits_for_a_name(void **state)
{
	struct lab *lab = lab_new(by_name, NULL);
	struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
	atomic_store(&lab->relay.is_draining, true);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(p->n, 0);
	answer(lab, asked(lab), "");
	lab_expect(p, "421 ");
	lab_expect_end(p);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_250_comes_after_the_verdict_and_not_before),
		cmocka_unit_test(a_mail_that_is_not_durable_gets_452),
		cmocka_unit_test(a_verdict_for_a_client_that_has_gone_is_nobody_elses_and_recorded),
		cmocka_unit_test(a_mail_that_failed_after_its_client_has_gone_is_not_recorded_as_accepted),
		cmocka_unit_test(a_spool_that_never_answers_is_not_waited_for_for_ever_nor_guessed),
		cmocka_unit_test(a_mail_without_room_is_refused_at_its_end_and_the_session_still_times_out),
		cmocka_unit_test(silence_at_each_stage_ends_with_421),
		cmocka_unit_test(a_reset_or_a_fin_at_each_stage_leaves_nothing),
		cmocka_unit_test(what_was_pipelined_before_a_fin_is_still_answered),
		cmocka_unit_test(a_clienthello_cut_anywhere_leaves_nothing),
		cmocka_unit_test(a_half_closed_handshake_ends_at_once),
		cmocka_unit_test(handshakes_in_flight_are_limited_on_both_listeners),
		cmocka_unit_test(no_session_is_opened_before_the_clienthello_is_whole),
		cmocka_unit_test(what_is_no_clienthello_gets_an_alert_and_no_session),
		cmocka_unit_test(a_client_that_has_used_up_its_handshakes_waits_for_more),
		cmocka_unit_test(an_rsa_handshake_costs_as_much_as_three),
		cmocka_unit_test(a_peer_that_floods_or_garbles_is_cut_and_recorded),
		cmocka_unit_test(new_handshakes_change_their_back_end_and_sessions_go_on),
		cmocka_unit_test(a_back_end_that_is_missing_stops_the_start_only_where_that_is_wanted),
		cmocka_unit_test(a_command_behind_starttls_is_not_taken_for_a_secured_one),
		cmocka_unit_test(certificates_that_went_between_offer_and_handshake_end_the_connection),
		cmocka_unit_test(a_senders_right_to_relay_is_not_the_next_senders),
		cmocka_unit_test(a_noop_now_and_then_keeps_a_session_and_no_longer_than_it_may_last),
		cmocka_unit_test(content_byte_by_byte_does_not_hold_a_connection),
		cmocka_unit_test(a_greeting_that_found_no_block_is_sent_when_there_is_one),
		cmocka_unit_test(half_lines_of_many_clients_leave_room_for_replies),
		cmocka_unit_test(a_drain_tells_sessions_also_those_still_shaking_hands),
		cmocka_unit_test(over_tls_the_last_word_arrives_before_the_end),
		cmocka_unit_test(no_name_is_asked_for_where_no_rule_wants_it),
		cmocka_unit_test(the_greeting_waits_for_the_name_and_the_rule_for_it_counts),
		cmocka_unit_test(a_name_is_in_the_records_and_the_received_field),
		cmocka_unit_test(a_client_refused_by_its_name_is_refused_before_any_session),
		cmocka_unit_test(a_name_that_takes_too_long_is_none_and_its_answer_nobodys),
		cmocka_unit_test(a_client_that_goes_while_its_name_is_asked_for_leaves_nothing),
		cmocka_unit_test(with_too_many_names_under_way_a_client_has_none),
		cmocka_unit_test(with_implicit_tls_the_handshake_waits_for_the_name),
		cmocka_unit_test(a_drain_reaches_who_waits_for_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
