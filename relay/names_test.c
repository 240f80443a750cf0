// SPDX-License-Identifier: Apache-2.0
#include "relay/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "relay/worker.h"

#define CORES 2

/* The main thread's end, between lanes of workers that the test plays and a control that it plays. */
struct rig {
	struct relay relay;
	int near, far;
	uint64_t now_us;
};

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof *r);
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	r->near = fds[0];
	r->far = fds[1];
	r->now_us = 5 * USEC_PER_SEC;
	r->relay.cores = CORES;
	for (unsigned i = 0; i < CORES; i++) {
		r->relay.workers[i] = calloc(1, sizeof *r->relay.workers[i]);
		assert_true(name_lane_init(&r->relay.workers[i]->names));
	}
	return r;
}

static struct name_lane *lane_of(struct rig *r, unsigned core)
{
	return &r->relay.workers[core]->names;
}

/* Every query is free, or its answer was taken: none is lost. */
static void rig_free(struct rig *r)
{
	for (unsigned i = 0; i < CORES; i++) {
		assert_int_equal(lane_of(r, i)->free_count, NAMES_MAX);
		name_lane_fini(lane_of(r, i));
		free(r->relay.workers[i]);
	}
	close(r->near);
	close(r->far);
	free(r);
}

static void ask(struct rig *r, unsigned core, uint32_t slot, const char *address)
{
	struct name_lane *lane = lane_of(r, core);
	struct name_query *q = lane->free[--lane->free_count];
	*q = (struct name_query){.slot = slot};
	assert_true(addr_parse(address, &q->addr));
	assert_true(ring_push_spsc(&lane->asked, q));
}

/* The next answer of a core: for which connection; its name into `name`. */
static bool answered(struct rig *r, unsigned core, uint32_t *slot, char name[NAME_BYTES])
{
	struct name_lane *lane = lane_of(r, core);
	struct name_query *q = ring_pop_spsc(&lane->answered);
	if (q == NULL)
		return false;
	*slot = q->slot;
	strcpy(name, q->name);
	lane->free[lane->free_count++] = q;
	return true;
}

static void expect_answer(struct rig *r, unsigned core, uint32_t slot, const char *name)
{
	char is[NAME_BYTES];
	uint32_t of;
	assert_true(answered(r, core, &of, is));
	assert_int_equal(of, slot);
	assert_string_equal(is, name);
}

static void expect_none(struct rig *r)
{
	for (unsigned core = 0; core < CORES; core++)
		assert_null(ring_pop_spsc(&lane_of(r, core)->answered));
}

/* What control is asked next, about `address`: its token. */
static uint64_t question(struct rig *r, const char *address)
{
	char json[512];
	ssize_t n = recv(r->far, json, sizeof json, 0);
	assert_true(n > 0);
	yyjson_doc *doc = yyjson_read(json, (size_t)n, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "type")), "resolve");
	assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "address")), address);
	uint64_t token = yyjson_get_uint(yyjson_obj_get(root, "token"));
	yyjson_doc_free(doc);
	return token;
}

static void say(struct rig *r, uint64_t token, const char *name)
{
	char json[1024];
	int n = snprintf(json, sizeof json, "{\"type\":\"named\",\"token\":%llu,\"name\":%s}", (unsigned long long)token, name);
	yyjson_doc *doc = yyjson_read(json, (size_t)n, 0);
	assert_non_null(doc);
	names_answer(&r->relay, yyjson_doc_get_root(doc));
	yyjson_doc_free(doc);
}

static void each_answer_goes_to_the_connection_that_it_is_about(void **state)
{
	struct rig *r = rig_new();
	ask(r, 0, 7, "192.0.2.1");
	ask(r, 1, 7, "2001:db8::1");
	ask(r, 0, 8, "192.0.2.2");
	names_turn(&r->relay, r->near, r->now_us);
	uint64_t a = question(r, "192.0.2.1"), c = question(r, "192.0.2.2"), b = question(r, "2001:db8::1");
	say(r, b, "\"b.example.test\"");
	say(r, c, "\"c.example.test\"");
	say(r, a, "\"\"");
	expect_answer(r, 1, 7, "b.example.test");
	expect_answer(r, 0, 8, "c.example.test");
	expect_answer(r, 0, 7, "");
	expect_none(r);
	rig_free(r);
}

static void an_answer_counts_once_and_one_to_nothing_never(void **state)
{
	struct rig *r = rig_new();
	ask(r, 1, 1, "192.0.2.1");
	names_turn(&r->relay, r->near, r->now_us);
	uint64_t token = question(r, "192.0.2.1");
	say(r, 0, "\"x\"");
	say(r, token + 1, "\"x\"");
	say(r, token + NAMES_MAX, "\"x\"");
	say(r, token + (uint64_t)NAMES_MAX * DP_CORES_MAX, "\"x\"");
	say(r, UINT64_MAX, "\"x\"");
	expect_none(r);
	say(r, token, "\"a.example.test\"");
	say(r, token, "\"b.example.test\"");
	expect_answer(r, 1, 1, "a.example.test");
	expect_none(r);
	ask(r, 1, 2, "192.0.2.2"); /* the same place again */
	names_turn(&r->relay, r->near, r->now_us);
	uint64_t next = question(r, "192.0.2.2");
	assert_int_not_equal(next, token);
	say(r, token, "\"a.example.test\"");
	expect_none(r);
	say(r, next, "5"); /* no text, no name */
	expect_answer(r, 1, 2, "");
	rig_free(r);
}

static void a_name_too_long_to_be_one_is_none(void **state)
{
	struct rig *r = rig_new();
	char name[NAME_BYTES + 3] = "\"";
	memset(name + 1, 'x', NAME_BYTES);
	strcpy(name + 1 + NAME_BYTES, "\"");
	ask(r, 0, 1, "192.0.2.1");
	names_turn(&r->relay, r->near, r->now_us);
	say(r, question(r, "192.0.2.1"), name);
	expect_answer(r, 0, 1, "");
	rig_free(r);
}

static void without_control_a_client_has_no_name_at_once(void **state)
{
	struct rig *r = rig_new();
	ask(r, 0, 1, "192.0.2.1");
	names_turn(&r->relay, -1, r->now_us);
	expect_answer(r, 0, 1, "");
	ask(r, 0, 2, "192.0.2.2");
	ask(r, 1, 3, "192.0.2.3");
	names_turn(&r->relay, r->near, r->now_us);
	expect_none(r);
	names_unlinked(&r->relay); /* it goes while they are out */
	expect_answer(r, 0, 2, "");
	expect_answer(r, 1, 3, "");
	names_unlinked(&r->relay);
	expect_none(r);
	rig_free(r);
}

static void a_control_that_hangs_keeps_no_query_for_ever(void **state)
{
	struct rig *r = rig_new();
	ask(r, 0, 1, "192.0.2.1");
	names_turn(&r->relay, r->near, r->now_us);
	uint64_t token = question(r, "192.0.2.1");
	names_turn(&r->relay, r->near, r->now_us += 100 * USEC_PER_SEC);
	expect_none(r);
	names_turn(&r->relay, r->near, r->now_us += 60 * USEC_PER_SEC);
	expect_answer(r, 0, 1, "");
	say(r, token, "\"late.example.test\"");
	expect_none(r);
	rig_free(r);
}

/* It takes no more messages: those who are not asked for have no name, and nobody waits. */
static void a_control_that_is_slow_holds_nobody_up(void **state)
{
	struct rig *r = rig_new();
	char json[512], name[NAME_BYTES];
	uint32_t slot, at_once = 0, sent = 0;
	for (uint32_t i = 0; i < 2 * NAMES_MAX; i++)
		ask(r, i % 2, i, "192.0.2.1");
	names_turn(&r->relay, r->near, r->now_us);
	for (unsigned core = 0; core < CORES; core++)
		while (answered(r, core, &slot, name))
			at_once++;
	while (recv(r->far, json, sizeof json, 0) > 0)
		sent++;
	assert_int_equal(at_once + sent, 2 * NAMES_MAX);
	assert_true(at_once != 0 && sent != 0);
	names_unlinked(&r->relay);
	for (unsigned core = 0; core < CORES; core++)
		while (answered(r, core, &slot, name))
			at_once++;
	assert_int_equal(at_once, 2 * NAMES_MAX);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_answer_goes_to_the_connection_that_it_is_about),
		cmocka_unit_test(an_answer_counts_once_and_one_to_nothing_never),
		cmocka_unit_test(a_name_too_long_to_be_one_is_none),
		cmocka_unit_test(without_control_a_client_has_no_name_at_once),
		cmocka_unit_test(a_control_that_hangs_keeps_no_query_for_ever),
		cmocka_unit_test(a_control_that_is_slow_holds_nobody_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
