// SPDX-License-Identifier: Apache-2.0
/* From a domain to hosts: the test is the queue, which gets the answers, and control, which is asked. routes.c is
 * built in, so that the queue's answer function can be the test's own. */
#include "relay/relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include <yyjson.h>

#define SECOND 1000000ull
#define ANSWERS 64

static struct {
	unsigned count;
	uint64_t tokens[ANSWERS];
	struct queue_route last;
	uint64_t now_us;
} answered;

void queue_route_answer(struct queue *q, uint64_t token, const struct queue_route *route, uint64_t now_us)
{
	if (answered.count < ANSWERS)
		answered.tokens[answered.count] = token;
	answered.count++;
	answered.last = *route;
	answered.now_us = now_us;
}

struct note *note_new(enum note_kind kind, const char *json, size_t n)
{
	struct note *note = malloc(sizeof *note + n + 1);
	note->kind = kind;
	note->n = n;
	memcpy(note->json, json, n);
	note->json[n] = '\0';
	return note;
}

struct rig {
	struct queue_thread q;
	struct view view;
	struct policy *policy;
	uint64_t now_us, wall_us;
};

static struct moment now_of(const struct rig *r)
{
	return (struct moment){.wall_us = r->wall_us, .monotonic_us = r->now_us};
}

static const char documents[] =
	"{\"routes\":[{\"id\":\"fixed\",\"domain\":\"fixed.example.test\",\"hosts\":[{\"host\":\"192.0.2.1\","
	"\"port\":2525},{\"host\":\"2001:db8::5\",\"port\":25,\"tls\":\"smtps\"}],\"via\":\"hosts\"},"
	"{\"id\":\"named\",\"domain\":\"named.example.test\",\"hosts\":[{\"host\":\"one.example.test\",\"port\":25},"
	"{\"host\":\"two.example.test\",\"port\":26}],\"via\":\"hosts\"},"
	"{\"id\":\"world\",\"domain\":\"*\"}]}";

static void rig_give_policy(struct rig *r)
{
	char error[512];
	int policy_fd, keys_fd;
	if (policy_compile(bytes_of_string(documents), NULL, 0, 4, &policy_fd, &keys_fd, error) != 0)
		fail_msg("%s", error);
	assert_int_equal(policy_map(policy_fd, keys_fd, &r->policy), 0);
	close(policy_fd);
	close(keys_fd);
	r->view = (struct view){.policy = r->policy, .number = 4};
	r->q.views.current = &r->view;
}

static struct rig *rig_new(bool has_policy)
{
	struct rig *r = calloc(1, sizeof *r);
	assert_true(ring_init(&r->q.to_main, 4096));
	r->now_us = 3 * SECOND; /* since the machine has started */
	r->wall_us = 1700000000 * SECOND;
	assert_non_null(r->q.dns = dns_cache_create(&r->q));
	memset(&answered, 0, sizeof answered);
	if (has_policy)
		rig_give_policy(r);
	return r;
}

static void rig_free(struct rig *r)
{
	struct note *note;
	while ((note = ring_pop_spsc(&r->q.to_main)) != NULL)
		free(note);
	ring_fini(&r->q.to_main);
	dns_cache_destroy(r->q.dns);
	if (r->policy != NULL)
		policy_unmap(r->policy);
	free(r);
}

static void route(struct rig *r, uint64_t token, const char *domain)
{
	dns_route(r->q.dns, token, bytes_of_string(domain), BYTES_LITERAL("a@sender.example.test"), now_of(r));
}

/* The next question: its token, and that it is about `name` ("domain" or "host"). */
static uint64_t asked(struct rig *r, const char *key, const char *name)
{
	struct note *note = ring_pop_spsc(&r->q.to_main);
	assert_non_null(note);
	assert_int_equal(note->kind, NOTE_RESOLVE);
	yyjson_doc *doc = yyjson_read(note->json, note->n, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	const char *is = yyjson_get_str(yyjson_obj_get(root, key));
	assert_non_null(is);
	assert_string_equal(is, name);
	uint64_t token = yyjson_get_uint(yyjson_obj_get(root, "token"));
	yyjson_doc_free(doc);
	free(note);
	return token;
}

static void asked_nothing(struct rig *r)
{
	assert_null(ring_pop_spsc(&r->q.to_main));
}

__attribute__((format(printf, 3, 4))) static void resolved(struct rig *r, uint64_t token, const char *format, ...)
{
	char json[4096];
	va_list args;
	int n = snprintf(json, sizeof json, "{\"type\":\"resolved\",\"token\":%llu,", (unsigned long long)token);
	va_start(args, format);
	n += vsnprintf(json + n, sizeof json - (size_t)n, format, args);
	va_end(args);
	dns_resolved(r->q.dns, json, (size_t)n, now_of(r));
}

#define OK_ONE                                                                                       \
	"\"outcome\":\"ok\",\"ttl\":300,\"targets\":[{\"host\":\"mx.example.test\",\"address\":\"192.0.2.9\"}]}"

static void expect(unsigned count, enum queue_route_outcome outcome, unsigned targets)
{
	assert_int_equal(answered.count, count);
	assert_int_equal(answered.last.outcome, outcome);
	assert_int_equal(answered.last.target_count, targets);
	if (outcome != QUEUE_ROUTE_OK)
		assert_int_equal(answered.last.reply.code / 100, outcome == QUEUE_ROUTE_FAIL ? 5 : 4);
}

/* ---- the tests ---- */

static void without_a_policy_mail_waits_for_it_a_while(void **state)
{
	struct rig *r = rig_new(false);
	route(r, 1, "a.example.test");
	r->now_us += 15 * SECOND;
	route(r, 2, "b.example.test");
	dns_tick(r->q.dns, now_of(r));
	assert_int_equal(answered.count, 0);
	r->now_us += 6 * SECOND;
	dns_tick(r->q.dns, now_of(r));
	expect(1, QUEUE_ROUTE_DEFER, 0);
	assert_int_equal(answered.tokens[0], 1);
	route(r, 3, "c.example.test"); /* still waiting at the end: freed with the cache */
	rig_free(r);
}

static void the_first_policy_routes_what_waited_for_it(void **state)
{
	struct rig *r = rig_new(false);
	route(r, 1, "fixed.example.test");
	route(r, 2, "fixed.example.test");
	assert_int_equal(answered.count, 0);
	rig_give_policy(r);
	dns_policy_changed(r->q.dns, now_of(r));
	expect(2, QUEUE_ROUTE_OK, 2);
	assert_int_equal(answered.tokens[0], 1);
	route(r, 3, "fixed.example.test");
	expect(3, QUEUE_ROUTE_OK, 2);
	rig_free(r);
}

static void an_address_literal_is_its_own_target(void **state)
{
	struct rig *r = rig_new(true);
	route(r, 1, "[192.0.2.77]");
	expect(1, QUEUE_ROUTE_OK, 1);
	assert_string_equal(answered.last.targets[0].host, "192.0.2.77");
	assert_int_equal(answered.last.targets[0].port, 25);
	route(r, 2, "[IPv6:2001:db8::7]");
	expect(2, QUEUE_ROUTE_OK, 1);
	assert_string_equal(answered.last.targets[0].host, "2001:db8::7");
	route(r, 3, "[nonsense]");
	expect(3, QUEUE_ROUTE_FAIL, 0);
	asked_nothing(r);
	rig_free(r);
}

static void hosts_that_are_addresses_need_nobody(void **state)
{
	struct rig *r = rig_new(true);
	route(r, 1, "FIXED.example.test");
	expect(1, QUEUE_ROUTE_OK, 2);
	assert_int_equal(answered.last.targets[0].port, 2525);
	assert_false(answered.last.targets[0].implicit_tls);
	assert_true(answered.last.targets[1].implicit_tls);
	assert_string_equal(answered.last.site, "route:fixed");
	assert_int_equal(answered.last.generation, 4);
	asked_nothing(r);
	rig_free(r);
}

static void a_domain_is_asked_once_for_all_who_wait(void **state)
{
	struct rig *r = rig_new(true);
	for (uint64_t token = 1; token <= 5; token++)
		route(r, token, token % 2 ? "a.example.test" : "A.EXAMPLE.test");
	uint64_t question = asked(r, "domain", "a.example.test");
	asked_nothing(r);
	assert_int_equal(answered.count, 0);
	resolved(r, question, OK_ONE);
	expect(5, QUEUE_ROUTE_OK, 1);
	uint64_t sum = 0;
	for (int i = 0; i < 5; i++)
		sum += answered.tokens[i];
	assert_int_equal(sum, 15);
	assert_string_equal(answered.last.site, "mx:a.example.test");
	route(r, 6, "a.example.test"); /* known for its TTL */
	expect(6, QUEUE_ROUTE_OK, 1);
	r->now_us += 301 * SECOND;
	route(r, 7, "a.example.test");
	asked(r, "domain", "a.example.test");
	assert_int_equal(answered.count, 6);
	rig_free(r);
}

static void all_named_hosts_are_asked_for_in_their_order(void **state)
{
	struct rig *r = rig_new(true);
	route(r, 1, "named.example.test");
	resolved(r, asked(r, "host", "one.example.test"), OK_ONE);
	resolved(r, asked(r, "host", "two.example.test"),
		"\"outcome\":\"ok\",\"ttl\":60,\"targets\":[{\"host\":\"two.example.test\",\"address\":\"2001:db8::2\"}]}");
	expect(1, QUEUE_ROUTE_OK, 2);
	assert_int_equal(answered.last.targets[0].port, 25);
	assert_int_equal(answered.last.targets[1].port, 26);
	rig_free(r);
}

static void one_host_that_may_come_back_is_reason_to_wait(void **state)
{
	struct rig *r = rig_new(true);
	for (int order = 0; order < 2; order++) {
		answered.count = 0;
		route(r, 1, "named.example.test");
		for (int host = 0; host < 2; host++) {
			uint64_t question = asked(r, "host", host ? "two.example.test" : "one.example.test");
			if (host == order)
				resolved(r, question, "\"outcome\":\"defer\",\"text\":\"SERVFAIL\"}");
			else
				resolved(r, question, "\"outcome\":\"fail\",\"ttl\":30,\"code\":550,\"enhanced\":\"5.1.2\"}");
		}
		expect(1, QUEUE_ROUTE_DEFER, 0);
		r->now_us += 100 * SECOND;
	}
	rig_free(r);
}

static void only_what_says_fail_is_final(void **state)
{
	static const struct {
		const char *answer;
		enum queue_route_outcome outcome;
	} cases[] = {
		{"\"outcome\":\"fail\",\"ttl\":60,\"code\":556,\"enhanced\":\"5.1.10\",\"text\":\"null MX\"}", QUEUE_ROUTE_FAIL},
		{"\"outcome\":\"fail\"}", QUEUE_ROUTE_FAIL},
		{"\"outcome\":\"defer\"}", QUEUE_ROUTE_DEFER},
		{"\"outcome\":\"ok\",\"targets\":[]}", QUEUE_ROUTE_DEFER},
		{"\"outcome\":\"ok\"}", QUEUE_ROUTE_DEFER},
		{"\"outcome\":\"ok\",\"targets\":[{\"host\":\"x\",\"address\":\"not one\"},{\"host\":7},3]}", QUEUE_ROUTE_DEFER},
		{"\"outcome\":\"news\"}", QUEUE_ROUTE_DEFER},
		{"\"x\":1}", QUEUE_ROUTE_DEFER},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct rig *r = rig_new(true);
		route(r, 1, "a.example.test");
		resolved(r, asked(r, "domain", "a.example.test"), "%s", cases[i].answer);
		expect(1, cases[i].outcome, 0);
		if (i == 0) {
			assert_int_equal(answered.last.reply.code, 556);
			assert_int_equal(answered.last.reply.enhanced[0], 5);
			assert_int_equal(answered.last.reply.enhanced[1], 1);
			assert_int_equal(answered.last.reply.detail, 10);
			assert_string_equal(answered.last.reply.text, "null MX");
		}
		rig_free(r);
	}
}

static void answers_to_other_questions_and_rubbish_are_ignored(void **state)
{
	struct rig *r = rig_new(true);
	route(r, 1, "a.example.test");
	uint64_t question = asked(r, "domain", "a.example.test");
	resolved(r, question + 1, OK_ONE);
	resolved(r, question + 1024, OK_ONE); /* the same slot, another time */
	resolved(r, question, "no JSON");
	dns_resolved(r->q.dns, "", 0, now_of(r));
	assert_int_equal(answered.count, 0);
	resolved(r, question, OK_ONE);
	resolved(r, question, OK_ONE); /* twice */
	expect(1, QUEUE_ROUTE_OK, 1);
	rig_free(r);
}

static void a_question_without_an_answer_ends_in_a_deferral(void **state)
{
	struct rig *r = rig_new(true);
	route(r, 1, "a.example.test");
	uint64_t question = asked(r, "domain", "a.example.test");
	r->now_us += 29 * SECOND;
	dns_tick(r->q.dns, now_of(r));
	assert_int_equal(answered.count, 0);
	r->now_us += 2 * SECOND;
	dns_tick(r->q.dns, now_of(r));
	expect(1, QUEUE_ROUTE_DEFER, 0);
	resolved(r, question, OK_ONE); /* too late */
	assert_int_equal(answered.count, 1);
	route(r, 2, "a.example.test"); /* no storm of questions */
	expect(2, QUEUE_ROUTE_DEFER, 0);
	asked_nothing(r);
	r->now_us += 11 * SECOND;
	route(r, 3, "a.example.test");
	resolved(r, asked(r, "domain", "a.example.test"), OK_ONE);
	expect(3, QUEUE_ROUTE_OK, 1);
	rig_free(r);
}

static void a_wall_clock_that_is_set_ends_no_wait_and_makes_no_answer_older(void **state)
{
	struct rig *r = rig_new(true);
	route(r, 1, "known.example.test");
	resolved(r, asked(r, "domain", "known.example.test"), OK_ONE);
	route(r, 2, "unknown.example.test");
	uint64_t question = asked(r, "domain", "unknown.example.test");
	static const int64_t days[] = {400, -800};
	for (unsigned i = 0; i < 2; i++) {
		r->wall_us += (uint64_t)(days[i] * 86400) * SECOND;
		for (int t = 0; t < 400; t++)
			dns_tick(r->q.dns, now_of(r));
		route(r, 3 + i, "known.example.test");
		asked_nothing(r);
		expect(2 + i, QUEUE_ROUTE_OK, 1);
		assert_int_equal(answered.now_us, r->wall_us); /* the queue's own times are its */
	}
	resolved(r, question, OK_ONE);
	expect(4, QUEUE_ROUTE_OK, 1);
	rig_free(r);
}

static void while_control_is_away_what_was_known_serves_for_a_day(void **state)
{
	struct rig *r = rig_new(true);
	route(r, 1, "known.example.test");
	resolved(r, asked(r, "domain", "known.example.test"), OK_ONE);
	for (unsigned hour = 1; hour <= 23; hour++) {
		r->now_us += 3600 * SECOND;
		route(r, 1 + hour, "known.example.test");
		asked(r, "domain", "known.example.test");
		dns_unlinked(r->q.dns, now_of(r));
		expect(1 + hour, QUEUE_ROUTE_OK, 1);
		for (int i = 0; i < 400; i++)
			dns_tick(r->q.dns, now_of(r)); /* the sweep leaves it alone */
	}
	route(r, 100, "unknown.example.test");
	asked(r, "domain", "unknown.example.test");
	dns_unlinked(r->q.dns, now_of(r));
	expect(25, QUEUE_ROUTE_DEFER, 0);
	r->now_us += 2 * 3600 * SECOND;
	route(r, 101, "known.example.test");
	asked(r, "domain", "known.example.test");
	dns_unlinked(r->q.dns, now_of(r));
	expect(26, QUEUE_ROUTE_DEFER, 0); /* too old */
	rig_free(r);
}

static void more_questions_than_may_be_open_wait_their_turn(void **state)
{
	struct rig *r = rig_new(true);
	char domain[64];
	for (unsigned i = 0; i < 2500; i++) {
		snprintf(domain, sizeof domain, "d%u.example.test", i);
		route(r, i, domain);
	}
	assert_int_equal(ring_count(&r->q.to_main), 1024);
	for (unsigned i = 0; i < 2500; i++) {
		snprintf(domain, sizeof domain, "d%u.example.test", i);
		resolved(r, asked(r, "domain", domain), OK_ONE);
	}
	expect(2500, QUEUE_ROUTE_OK, 1);
	asked_nothing(r);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_policy_mail_waits_for_it_a_while),
		cmocka_unit_test(the_first_policy_routes_what_waited_for_it),
		cmocka_unit_test(an_address_literal_is_its_own_target),
		cmocka_unit_test(hosts_that_are_addresses_need_nobody),
		cmocka_unit_test(a_domain_is_asked_once_for_all_who_wait),
		cmocka_unit_test(all_named_hosts_are_asked_for_in_their_order),
		cmocka_unit_test(one_host_that_may_come_back_is_reason_to_wait),
		cmocka_unit_test(only_what_says_fail_is_final),
		cmocka_unit_test(answers_to_other_questions_and_rubbish_are_ignored),
		cmocka_unit_test(a_question_without_an_answer_ends_in_a_deferral),
		cmocka_unit_test(a_wall_clock_that_is_set_ends_no_wait_and_makes_no_answer_older),
		cmocka_unit_test(while_control_is_away_what_was_known_serves_for_a_day),
		cmocka_unit_test(more_questions_than_may_be_open_wait_their_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
