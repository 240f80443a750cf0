// SPDX-License-Identifier: Apache-2.0
/* Clients of a worker, and what is owed to them: replies, ends, and a 250 that holds. */
#include "relay/worker_lab.h"

/* A client, of a lab of its own, whose mail is whole; what the spool says of it. */
static struct peer *mailed(enum lab_spool spool)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	lab->spool = spool;
	struct peer *p = lab_greeted(lab);
	lab_say_mail(p);
	return p;
}

static uint64_t stale(struct lab *lab)
{
	return atomic_load(&lab->w->counters.stale_answers);
}

static void the_250_comes_after_the_verdict_and_not_before(void **state)
{
	struct peer *p = mailed(LAB_SPOOL_SILENT);
	struct lab *lab = p->lab;
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
	struct peer *p = mailed(LAB_SPOOL_BAD);
	struct lab *lab = p->lab;
	lab_expect(p, "452 4.3.1");
	lab->spool = LAB_SPOOL_GOOD;
	lab_begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nagain\r\n.\r\n");
	lab_expect(p, "250 2.0.0");
	lab_free(lab);
}

static void a_verdict_for_a_client_that_has_gone_is_nobody_elses_and_recorded(void **state)
{
	struct peer *p = mailed(LAB_SPOOL_SILENT);
	struct lab *lab = p->lab;
	tcp_abort(p->conn);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(clients_count(&lab->w->clients, &lab->far_addr), 0);
	struct peer *other = lab_greeted(lab);
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
	struct peer *p = mailed(LAB_SPOOL_SILENT);
	struct lab *lab = p->lab;
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
	struct peer *p = mailed(LAB_SPOOL_SILENT);
	struct lab *lab = p->lab;
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
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	char line[1001];
	memset(line, 'x', 998);
	strcpy(line + 998, "\r\n");
	struct peer *p = lab_greeted(lab);
	lab_begin_data(p);
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
		struct lab *lab = lab_new(lab_open_to_all, NULL);
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
			struct lab *lab = lab_new(lab_open_to_all, NULL);
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
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
	lab_begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n");
	tcp_close(p->conn);
	lab_expect(p, "250 2.0.0");
	lab_expect(p, "221 ");
	lab_free(lab);
}

static void a_senders_right_to_relay_is_not_the_next_senders(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
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
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
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
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
	lab_begin_data(p);
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
	struct lab *lab = lab_new(lab_open_to_all, NULL);
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
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *holders[10], *p;
	struct stream held[64];
	size_t room, n = 0;
	while (stream_pool_free_count(lab->w->streams) > 8) {
		stream_init(&held[n], lab->w->streams);
		assert_non_null(stream_reserve(&held[n++], 1, &room));
	}
	for (int i = 0; i < 10; i++) {
		holders[i] = lab_greeted(lab);
		lab_say(holders[i], "NOOP but not");
	}
	p = lab_greeted(lab);
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
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *idle = lab_greeted(lab), *busy = lab_greeted(lab), *tls = lab_connect(lab, 465);
	lab_begin_data(busy);
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
		cmocka_unit_test(a_senders_right_to_relay_is_not_the_next_senders),
		cmocka_unit_test(a_noop_now_and_then_keeps_a_session_and_no_longer_than_it_may_last),
		cmocka_unit_test(content_byte_by_byte_does_not_hold_a_connection),
		cmocka_unit_test(a_greeting_that_found_no_block_is_sent_when_there_is_one),
		cmocka_unit_test(half_lines_of_many_clients_leave_room_for_replies),
		cmocka_unit_test(a_drain_tells_sessions_also_those_still_shaking_hands),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
