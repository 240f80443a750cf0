// SPDX-License-Identifier: Apache-2.0
/* Clients of a worker whose policy asks for their names: who waits for one, how long, and which rule counts then. */
#include "relay/worker_lab.h"

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

static uint64_t stale(struct lab *lab)
{
	return atomic_load(&lab->w->counters.stale_answers);
}

static void expect_all_names_home(struct lab *lab)
{
	lab_run(lab, LAB_SECOND);
	assert_int_equal(lab->w->names.free_count, NAMES_MAX);
}

static void no_name_is_asked_for_where_no_rule_wants_it(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	lab_greeted(lab);
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
	lab_say_mail(p);
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
