// SPDX-License-Identifier: Apache-2.0
#include "relay/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define SECOND 1000000ull
static const uint64_t start_us = 1000 * SECOND;

static struct addr at(const char *text)
{
	struct addr addr;
	assert_true(addr_parse(text, &addr));
	return addr;
}

static unsigned take_all(struct budget *b, const struct addr *client, uint64_t now_us)
{
	unsigned n = 0;
	for (; n < 100000 && budget_has(b, client, now_us); n++)
		budget_take(b, client, 1, now_us);
	return n;
}

static void a_burst_at_once_then_the_rate_and_no_more_after_a_rest(void **state)
{
	struct budget b;
	struct addr client = at("192.0.2.7");
	assert_true(budget_init(&b, 120, 10));
	assert_int_equal(take_all(&b, &client, start_us), 10);
	assert_int_equal(take_all(&b, &client, start_us + SECOND / 2 - 1), 0);
	assert_int_equal(take_all(&b, &client, start_us + SECOND / 2), 1);
	assert_int_equal(take_all(&b, &client, start_us + SECOND * 2), 3);
	assert_int_equal(take_all(&b, &client, start_us + SECOND * 3600), 10);
	budget_fini(&b);
}

static void the_rate_holds_over_any_time(void **state)
{
	struct budget b;
	struct addr client = at("192.0.2.7");
	unsigned got = 0;
	assert_true(budget_init(&b, 600, 30));
	for (unsigned i = 0; i < 60000; i++) /* a minute, asked each millisecond */
		got += take_all(&b, &client, start_us + i * 1000);
	assert_in_range(got, 30 + 599, 30 + 600);
	budget_fini(&b);
}

static void what_costs_more_than_is_there_is_owed(void **state)
{
	struct budget b;
	struct addr client = at("192.0.2.7");
	assert_true(budget_init(&b, 60, 2));
	budget_take(&b, &client, 1, start_us);
	assert_true(budget_has(&b, &client, start_us));
	budget_take(&b, &client, 5, start_us); /* four more than there are */
	assert_false(budget_has(&b, &client, start_us + 5 * SECOND - 1));
	assert_true(budget_has(&b, &client, start_us + 5 * SECOND));
	budget_fini(&b);
}

static void a_client_is_an_ipv4_address_or_a_64(void **state)
{
	struct budget b;
	struct addr v4 = at("192.0.2.7"), next = at("192.0.2.8");
	struct addr v6 = at("2001:db8:1:1::7"), same = at("2001:db8:1:1:ffff::8"), other = at("2001:db8:1:2::7");
	assert_true(budget_init(&b, 60, 3));
	assert_int_equal(take_all(&b, &v4, start_us), 3);
	assert_int_equal(take_all(&b, &next, start_us), 3);
	assert_int_equal(take_all(&b, &v6, start_us), 3);
	assert_int_equal(take_all(&b, &same, start_us), 0);
	assert_int_equal(take_all(&b, &other, start_us), 3);
	budget_fini(&b);
}

static void without_a_rate_there_is_no_limit_and_no_memory(void **state)
{
	struct budget b;
	struct addr client = at("192.0.2.7");
	assert_true(budget_init(&b, 0, 1));
	assert_null(b.buckets);
	assert_int_equal(take_all(&b, &client, start_us), 100000);
	budget_fini(&b);
}

/* Each of very many comes once; who is at its limit asks all the time, and is not forgotten for their sake, for of all
 * in its row its bucket is the emptiest. */
static void a_flood_of_others_does_not_refill_a_spent_bucket(void **state)
{
	struct budget b;
	struct addr client = at("192.0.2.7");
	assert_true(budget_init(&b, 60, 30));
	assert_int_equal(take_all(&b, &client, start_us), 30);
	for (uint32_t i = 0; i < 200000; i++) {
		char text[64];
		snprintf(text, sizeof text, "2001:db8:%x:%x::1", i >> 16, i & 0xffff);
		struct addr other = at(text);
		assert_true(budget_has(&b, &other, start_us));
		budget_take(&b, &other, 1, start_us);
	}
	assert_false(budget_has(&b, &client, start_us));
	assert_in_range(b.forgotten, 200000 - 8192, 200000);
	/* Such as have become full again are forgotten without loss. */
	uint64_t before = b.forgotten;
	for (uint32_t i = 0; i < 2000; i++) {
		char text[64];
		snprintf(text, sizeof text, "198.51.%u.%u", i >> 8, i & 0xff);
		struct addr other = at(text);
		budget_take(&b, &other, 1, start_us + 20 * SECOND);
	}
	assert_in_range(b.forgotten, before, before + 10); /* a row may get more than eight of them */
	budget_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_burst_at_once_then_the_rate_and_no_more_after_a_rest),
		cmocka_unit_test(the_rate_holds_over_any_time),
		cmocka_unit_test(what_costs_more_than_is_there_is_owed),
		cmocka_unit_test(a_client_is_an_ipv4_address_or_a_64),
		cmocka_unit_test(without_a_rate_there_is_no_limit_and_no_memory),
		cmocka_unit_test(a_flood_of_others_does_not_refill_a_spent_bucket),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
