// SPDX-License-Identifier: Apache-2.0
/* Deliveries of a worker, and hosts of every kind: whatever these do, each job comes home, once. */
#include "relay/worker_lab.h"

#include <stdio.h>

static const char policy[] =
	"{\"profiles\":[{\"id\":\"may\",\"level\":\"may\"},{\"id\":\"must\",\"level\":\"encrypt\"},"
	"{\"id\":\"never\",\"level\":\"none\"},{\"id\":\"next\",\"level\":\"may\",\"fallback\":\"next-host\"}],"
	"\"out_rules\":[{\"id\":\"m\",\"domain\":\"must.example.test\",\"profile\":\"must\"},"
	"{\"id\":\"n\",\"domain\":\"never.example.test\",\"profile\":\"never\"},"
	"{\"id\":\"x\",\"domain\":\"next.example.test\",\"profile\":\"next\"},"
	"{\"id\":\"r\",\"profile\":\"may\"}],"
	"\"routes\":[{\"id\":\"world\",\"domain\":\"*\"}]}";

#define A_MINUTE (60 * LAB_SECOND)

static struct peer *greet(struct lab *lab, const char *capabilities)
{
	struct peer *p = lab_accepted(lab);
	lab_say(p, "220 mx.example.test\r\n");
	lab_expect(p, "EHLO relay.example.test\r\n");
	lab_say(p, capabilities);
	return p;
}

#define PIPELINING "250-mx.example.test\r\n250 PIPELINING\r\n"
#define STARTTLS   "250-mx.example.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n"

static void expect_outcome(const struct lab_job *j, unsigned class)
{
	if (j->outcomes[0].code / 100 != class)
		fail_msg("expected %uyz, is %u %s", class, j->outcomes[0].code, j->outcomes[0].text);
}

/* A lab with one job under way, which most begin with. */
struct rig {
	struct lab *lab;
	struct lab_job *j;
};

static struct rig begin(const char *domain, size_t content)
{
	struct rig r = {.lab = lab_new(policy, NULL)};
	r.j = lab_job_new(r.lab, domain, 1, content);
	lab_job_start(r.lab, r.j, NULL, 5);
	return r;
}

static void end(struct rig *r)
{
	lab_job_free(r->j);
	lab_free(r->lab);
}

/* The same with the first mail delivered and its connection kept; a second one is ready to be sent. */
struct rig_of_two {
	struct lab *lab;
	struct lab_job *one, *two;
	struct peer *kept;
};

static struct rig_of_two begin_two(const char *domain, unsigned targets)
{
	struct rig_of_two r = {.lab = lab_new(policy, NULL)};
	r.one = lab_job_new(r.lab, "a.example.test", 1, 100);
	r.two = lab_job_new(r.lab, domain, targets, 100);
	lab_job_start(r.lab, r.one, NULL, 5);
	r.kept = greet(r.lab, PIPELINING);
	lab_serve(r.kept);
	lab_job_expect(r.lab, r.one, A_MINUTE);
	return r;
}

static void end_two(struct rig_of_two *r)
{
	lab_job_free(r->one), lab_job_free(r->two);
	lab_free(r->lab);
}

static void a_mail_is_delivered_and_the_connection_serves_the_next(void **state)
{
	struct rig_of_two r = begin_two("a.example.test", 1);
	struct peer *p = r.kept;
	expect_outcome(r.one, 2);
	assert_int_not_equal(r.one->job.kept_generation, 0);
	lab_job_start(r.lab, r.two, r.one, 0);
	lab_serve(p);
	lab_job_expect(r.lab, r.two, A_MINUTE);
	expect_outcome(r.two, 2);
	assert_int_equal(r.two->job.kept_generation, 0); /* it was the last */
	lab_expect(p, "QUIT\r\n");
	assert_false(lab_has_accepted(r.lab));
	end_two(&r);
}

/* What a host does, command by command. */
static const struct {
	const char *waits_for, *says;
} steps[] = {
	{NULL, "220 mx.example.test\r\n"},
	{"EHLO relay.example.test\r\n", PIPELINING},
	{"DATA\r\n", "250 sender\r\n"},
	{NULL, "250 recipient\r\n"},
	{NULL, "354 go on\r\n"},
	{"\r\n.\r\n", "250 ta"}, /* half a reply is none */
};
#define STEPS (sizeof steps / sizeof steps[0])

static void step(struct peer *p, unsigned i)
{
	if (steps[i].waits_for != NULL)
		lab_expect(p, steps[i].waits_for);
	lab_say(p, steps[i].says);
}

static void a_reset_or_a_fin_at_each_stage_brings_the_job_home(void **state)
{
	for (unsigned stop = 0; stop <= STEPS; stop++)
		for (int is_fin = 0; is_fin < 2; is_fin++) {
			struct rig r = begin("a.example.test", 30000);
			struct peer *p = lab_accepted(r.lab);
			for (unsigned i = 0; i < stop; i++)
				step(p, i);
			if (is_fin)
				tcp_close(p->conn);
			else
				tcp_abort(p->conn);
			lab_job_expect(r.lab, r.j, LAB_SECOND);
			expect_outcome(r.j, 4);
			assert_int_equal(r.j->job.kept_generation, 0);
			lab_run(r.lab, LAB_SECOND);
			assert_int_equal(r.lab->w->conn_count, 0);
			end(&r);
		}
}

static void silence_at_each_stage_ends_at_its_deadline(void **state)
{
	static const unsigned seconds[] = {300, 300, 300, 300, 120, 600, 600}; /* RFC 5321 4.5.3.2 */
	for (unsigned stop = 0; stop <= STEPS; stop++) {
		struct rig r = begin("a.example.test", 100);
		struct peer *p = lab_accepted(r.lab);
		for (unsigned i = 0; i < stop; i++)
			step(p, i);
		lab_run(r.lab, (seconds[stop] - 2) * LAB_SECOND);
		assert_false(lab_job_is_home(r.lab));
		lab_job_expect(r.lab, r.j, 5 * LAB_SECOND);
		expect_outcome(r.j, 4);
		end(&r);
	}
}

static void a_greeting_byte_by_byte_does_not_hold_us(void **state)
{
	struct rig r = begin("a.example.test", 100);
	struct peer *p = lab_accepted(r.lab);
	for (int i = 0; i < 3; i++) {
		lab_say(p, &"220"[i]);
		if (i < 2)
			lab_run(r.lab, 100 * LAB_SECOND);
	}
	lab_job_expect(r.lab, r.j, 101 * LAB_SECOND);
	end(&r);
}

static void a_host_that_does_not_read_is_given_up(void **state)
{
	struct rig r = begin("a.example.test", 1000000);
	struct peer *p = greet(r.lab, PIPELINING);
	lab_expect(p, "DATA\r\n");
	p->is_reading = false;
	lab_say(p, "250 a\r\n250 b\r\n354 c\r\n");
	lab_job_expect(r.lab, r.j, 190 * LAB_SECOND);
	expect_outcome(r.j, 4);
	lab_run(r.lab, A_MINUTE);
	assert_int_equal(r.lab->w->conn_count, 0);
	end(&r);
}

static void each_target_is_tried_and_the_last_reason_told(void **state)
{
	struct lab *lab = lab_new(policy, NULL);
	struct lab_job *j = lab_job_new(lab, "a.example.test", 3, 100);
	j->route.targets[0].port = 9; /* nobody listens */
	lab_job_start(lab, j, NULL, 5);
	lab_say(lab_accepted(lab), "554 no\r\n");
	struct peer *p = greet(lab, PIPELINING);
	lab_serve(p);
	lab_job_expect(lab, j, A_MINUTE);
	expect_outcome(j, 2);
	lab_job_free(j);
	lab_free(lab);
}

static void a_job_given_to_a_connection_that_just_ends_is_sent_over_another(void **state)
{
	/* At each moment around the end of the idle time, until QUIT has been answered. */
	for (uint64_t at = 4990000; at < 5030000; at += 1000) {
		struct rig_of_two r = begin_two("a.example.test", 2);
		struct peer *p = r.kept;
		lab_run(r.lab, at);
		lab_job_start(r.lab, r.two, r.one, 4);
		lab_run(r.lab, 10000);
		if (strstr(p->in, "QUIT") != NULL) {
			lab_expect(p, "QUIT\r\n");
			lab_say(p, "221 bye\r\n");
			p = greet(r.lab, PIPELINING);
		}
		lab_serve(p);
		lab_job_expect(r.lab, r.two, A_MINUTE);
		expect_outcome(r.two, 2);
		end_two(&r);
	}
}

static void a_kept_connection_that_fails_before_the_mail_is_answered_costs_nothing(void **state)
{
	for (int how = 0; how < 3; how++) {
		struct rig_of_two r = begin_two("a.example.test", 1);
		struct peer *p = r.kept;
		lab_job_start(r.lab, r.two, r.one, 4);
		lab_expect(p, "DATA\r\n");
		if (how == 0)
			tcp_abort(p->conn);
		else if (how == 1)
			tcp_close(p->conn);
		else
			lab_say(p, "421 4.4.2 you were idle\r\n");
		p = greet(r.lab, PIPELINING);
		lab_serve(p);
		lab_job_expect(r.lab, r.two, A_MINUTE);
		expect_outcome(r.two, 2);
		end_two(&r);
	}
}

static void a_kept_connection_in_clear_is_not_for_mail_that_needs_tls(void **state)
{
	struct rig_of_two r = begin_two("must.example.test", 1);
	struct peer *p = r.kept;
	r.two->route.profile = r.one->route.profile; /* as if the route had not known */
	lab_job_start(r.lab, r.two, r.one, 4);
	struct peer *other = greet(r.lab, PIPELINING);
	lab_job_expect(r.lab, r.two, A_MINUTE);
	expect_outcome(r.two, 4);
	assert_int_equal(r.two->outcomes[0].enhanced[1], 7);
	assert_null(strstr(p->in, "MAIL"));
	assert_null(strstr(other->in, "MAIL"));
	assert_true(r.two->job.is_tls_failure);
	end_two(&r);
}

static struct peer *secured(struct lab *lab)
{
	struct peer *p = greet(lab, STARTTLS);
	lab_expect(p, "STARTTLS\r\n");
	lab_say(p, "220 go on\r\n");
	lab_secure(p, true);
	lab_expect(p, "EHLO relay.example.test\r\n");
	lab_say(p, PIPELINING);
	return p;
}

static void over_tls_a_mail_is_delivered(void **state)
{
	struct rig r = begin("must.example.test", 300000);
	lab_serve(secured(r.lab));
	lab_job_expect(r.lab, r.j, A_MINUTE);
	expect_outcome(r.j, 2);
	assert_string_equal(r.j->job.evidence.tls_version, "TLSv1.3");
	assert_false(r.j->job.evidence.is_downgraded);
	end(&r);
}

static void tls_that_breaks_within_a_delivery_brings_the_job_home(void **state)
{
	for (int is_late = 0; is_late < 2; is_late++) {
		struct rig r = begin("must.example.test", 300000);
		struct peer *p = secured(r.lab);
		lab_expect(p, "DATA\r\n");
		if (is_late)
			lab_say(p, "250 a\r\n250 b\r\n354 c\r\n");
		tcp_write(p->conn, BYTES_LITERAL("this is no TLS record at all, is it\r\n"));
		lab_job_expect(r.lab, r.j, LAB_SECOND);
		expect_outcome(r.j, 4);
		lab_run(r.lab, LAB_SECOND);
		assert_int_equal(r.lab->w->conn_count, 0);
		end(&r);
	}
}

static void bytes_in_clear_behind_the_220_of_starttls_are_not_believed(void **state)
{
	struct rig r = begin("must.example.test", 100);
	struct peer *p = greet(r.lab, STARTTLS);
	lab_expect(p, "STARTTLS\r\n");
	lab_say(p, "220 go on\r\n250 forged\r\n");
	lab_job_expect(r.lab, r.j, LAB_SECOND);
	expect_outcome(r.j, 4);
	assert_true(r.j->job.is_tls_failure);
	end(&r);
}

/* The next connection, up to our ClientHello, which has come. */
static struct peer *hello(struct lab *lab)
{
	struct peer *p = greet(lab, STARTTLS);
	lab_expect(p, "STARTTLS\r\n");
	lab_say(p, "220 go on\r\n");
	for (int i = 0; i < 100 && p->n < 5 + 4; i++)
		lab_run(lab, 1000);
	return p;
}

static void a_failed_handshake_goes_on_as_the_profile_says(void **state)
{
	static const struct {
		const char *domain;
		bool in_clear;
	} cases[] = {{"a.example.test", true}, {"must.example.test", false}, {"next.example.test", false}};
	for (int i = 0; i < 3; i++)
		for (int is_fin = 0; is_fin < 2; is_fin++) {
			struct rig r = begin(cases[i].domain, 100);
			struct peer *p = hello(r.lab);
			if (is_fin) {
				tcp_close(p->conn);
				tcp_close(hello(r.lab)->conn); /* the small ClientHello is no better */
			} else {
				lab_say(p, "500 What?\r\n");
			}
			if (cases[i].in_clear)
				lab_serve(greet(r.lab, STARTTLS));
			lab_job_expect(r.lab, r.j, 2 * LAB_SECOND);
			expect_outcome(r.j, cases[i].in_clear ? 2 : 4);
			assert_int_equal(r.j->job.evidence.is_downgraded, cases[i].in_clear);
			assert_int_equal(r.j->job.is_tls_failure, !cases[i].in_clear);
			assert_false(lab_has_accepted(r.lab));
			end(&r);
		}
}

/* ---- handshakes that are tried again ---- */

static void again(struct lab *lab, struct lab_job *j, struct peer *(*host)(struct lab *lab))
{
	lab_job_start(lab, j, NULL, 0);
	lab_serve(host(lab));
	lab_job_expect(lab, j, A_MINUTE);
	expect_outcome(j, 2);
}

static void a_host_that_answers_no_large_clienthello_gets_a_small_one(void **state)
{
	enum { FIN, RST, SILENCE, WAYS };
	for (int way = 0; way < WAYS; way++) {
		struct rig r = begin(way == FIN ? "must.example.test" : "a.example.test", 100);
		struct peer *p = hello(r.lab);
		if (way == FIN)
			tcp_close(p->conn);
		else if (way == RST)
			tcp_abort(p->conn);
		else
			lab_run(r.lab, (r.lab->config.timeouts.handshake + 1) * LAB_SECOND);
		p = secured(r.lab);
		lab_serve(p);
		lab_job_expect(r.lab, r.j, A_MINUTE);
		expect_outcome(r.j, 2);
		assert_true(r.j->job.evidence.is_small_hello);
		assert_false(r.j->job.evidence.is_downgraded);
		assert_string_equal(r.j->job.evidence.group, "x25519");
		assert_int_equal(r.lab->w->counters.small_hello_retries, 1);
		/* It is remembered, for as long as the profile says: an hour. */
		struct lab_job *next = lab_job_new(r.lab, "a.example.test", 1, 100);
		again(r.lab, next, secured);
		assert_true(next->job.evidence.is_small_hello);
		assert_int_equal(r.lab->w->counters.small_hello_retries, 1);
		lab_run(r.lab, 3601 * LAB_SECOND);
		struct lab_job *late = lab_job_new(r.lab, "a.example.test", 1, 100);
		again(r.lab, late, secured);
		assert_false(late->job.evidence.is_small_hello);
		assert_string_equal(late->job.evidence.group, "X25519MLKEM768");
		lab_job_free(next);
		lab_job_free(late);
		end(&r);
	}
}

/* What did not help is not remembered. */
static void a_host_that_answers_no_clienthello_at_all_gets_a_large_one_next_time(void **state)
{
	struct rig r = begin("next.example.test", 100);
	tcp_close(hello(r.lab)->conn);
	tcp_close(hello(r.lab)->conn);
	lab_job_expect(r.lab, r.j, 2 * LAB_SECOND);
	expect_outcome(r.j, 4);
	struct lab_job *next = lab_job_new(r.lab, "next.example.test", 1, 100);
	again(r.lab, next, secured);
	assert_false(next->job.evidence.is_small_hello);
	lab_job_free(next);
	end(&r);
}

static void keep_sessions(struct config *config)
{
	config->tls.client_sessions = 16;
	config->tls.client_session_lifetime = 3600;
}

static struct peer *broken_then_secured(struct lab *lab)
{
	lab_say(hello(lab), "500 What?\r\n");
	return secured(lab);
}

static void the_next_connection_resumes_and_one_that_fails_is_tried_without(void **state)
{
	struct lab *lab = lab_new(policy, keep_sessions);
	struct lab_job *jobs[5];
	for (int i = 0; i < 5; i++)
		jobs[i] = lab_job_new(lab, i == 4 ? "a.example.test" : "must.example.test", 1, 100);
	again(lab, jobs[0], secured);
	assert_false(jobs[0]->job.evidence.is_resumed);
	again(lab, jobs[1], secured);
	assert_true(jobs[1]->job.evidence.is_resumed);
	assert_string_equal(jobs[1]->job.evidence.verify, jobs[0]->job.evidence.verify);
	assert_string_equal(jobs[1]->job.evidence.cert_subject, jobs[0]->job.evidence.cert_subject);
	again(lab, jobs[2], broken_then_secured);
	assert_false(jobs[2]->job.evidence.is_resumed);
	assert_int_equal(lab->w->counters.session_retries, 1);
	again(lab, jobs[3], secured);
	assert_true(jobs[3]->job.evidence.is_resumed);
	again(lab, jobs[4], secured); /* another profile */
	assert_false(jobs[4]->job.evidence.is_resumed);
	for (int i = 0; i < 5; i++)
		lab_job_free(jobs[i]);
	lab_free(lab);
}

static void a_new_policy_ends_the_use_of_connections_made_under_the_old(void **state)
{
	struct rig_of_two r = begin_two("a.example.test", 1);
	lab_policy(r.lab, policy, 2, true);
	lab_job_start(r.lab, r.two, r.one, 0);
	lab_serve(greet(r.lab, PIPELINING));
	lab_job_expect(r.lab, r.two, A_MINUTE);
	expect_outcome(r.two, 2);
	end_two(&r);
}

static void without_a_slot_the_job_comes_home_at_once(void **state)
{
	struct lab *lab = lab_new(policy, NULL);
	struct lab_job *jobs[20];
	for (int i = 0; i < 20; i++) {
		jobs[i] = lab_job_new(lab, "a.example.test", 1, 100);
		lab_job_start(lab, jobs[i], NULL, 0);
	}
	lab_run(lab, LAB_SECOND);
	for (int i = 16; i < 20; i++)
		lab_job_expect(lab, jobs[i], 0);
	assert_false(lab_job_is_home(lab));
	for (int i = 0; i < 16; i++)
		tcp_abort(lab_accepted(lab)->conn);
	lab_run(lab, LAB_SECOND);
	assert_int_equal(ring_count(&lab->w->finished_jobs), 16);
	while (ring_pop_spsc(&lab->w->finished_jobs) != NULL)
		;
	for (int i = 0; i < 20; i++)
		lab_job_free(jobs[i]);
	lab_free(lab);
}

static void a_drain_ends_idle_connections_and_lets_others_finish(void **state)
{
	struct rig_of_two r = begin_two("a.example.test", 1);
	struct peer *idle = r.kept;
	lab_job_start(r.lab, r.two, NULL, 5);
	struct peer *busy = greet(r.lab, PIPELINING);
	atomic_store(&r.lab->relay.is_draining, true);
	lab_expect(idle, "QUIT\r\n");
	lab_serve(busy);
	lab_job_expect(r.lab, r.two, A_MINUTE);
	expect_outcome(r.two, 2);
	assert_int_equal(r.two->job.kept_generation, 0);
	lab_expect(busy, "QUIT\r\n");
	end_two(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mail_is_delivered_and_the_connection_serves_the_next),
		cmocka_unit_test(a_reset_or_a_fin_at_each_stage_brings_the_job_home),
		cmocka_unit_test(silence_at_each_stage_ends_at_its_deadline),
		cmocka_unit_test(a_greeting_byte_by_byte_does_not_hold_us),
		cmocka_unit_test(a_host_that_does_not_read_is_given_up),
		cmocka_unit_test(each_target_is_tried_and_the_last_reason_told),
		cmocka_unit_test(a_job_given_to_a_connection_that_just_ends_is_sent_over_another),
		cmocka_unit_test(a_kept_connection_that_fails_before_the_mail_is_answered_costs_nothing),
		cmocka_unit_test(a_kept_connection_in_clear_is_not_for_mail_that_needs_tls),
		cmocka_unit_test(over_tls_a_mail_is_delivered),
		cmocka_unit_test(tls_that_breaks_within_a_delivery_brings_the_job_home),
		cmocka_unit_test(bytes_in_clear_behind_the_220_of_starttls_are_not_believed),
		cmocka_unit_test(a_failed_handshake_goes_on_as_the_profile_says),
		cmocka_unit_test(a_host_that_answers_no_large_clienthello_gets_a_small_one),
		cmocka_unit_test(a_host_that_answers_no_clienthello_at_all_gets_a_large_one_next_time),
		cmocka_unit_test(the_next_connection_resumes_and_one_that_fails_is_tried_without),
		cmocka_unit_test(a_new_policy_ends_the_use_of_connections_made_under_the_old),
		cmocka_unit_test(without_a_slot_the_job_comes_home_at_once),
		cmocka_unit_test(a_drain_ends_idle_connections_and_lets_others_finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
