// SPDX-License-Identifier: Apache-2.0
#include "base/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void addresses_come_back_as_they_went_in(void **state)
{
	static const char *const texts[] = {"192.0.2.1", "0.0.0.0", "255.255.255.255", "::", "::1",
		"2001:db8::25", "fe80::1"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct addr a;
		char text[ADDR_TEXT_MAX];
		assert_true(addr_parse(texts[i], &a));
		assert_string_equal(addr_format(&a, text), texts[i]);
	}
}

static void what_is_no_address_is_refused(void **state)
{
	static const char *const texts[] = {"", "192.0.2", "192.0.2.256", "2001:db8:::1", "x", "1.2.3.4 "};
	struct addr a;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		assert_false(addr_parse(texts[i], &a));
}

static void prefix_has_its_addresses_and_no_others(void **state)
{
	static const struct {
		const char *prefix, *addr;
		bool has;
	} cases[] = {
		{"192.0.2.0/24", "192.0.2.255", true},
		{"192.0.2.0/24", "192.0.3.0", false},
		{"192.0.2.0/25", "192.0.2.128", false},
		{"0.0.0.0/0", "203.0.113.9", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"2001:db8::/32", "2001:db8:ffff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.6", false},
		{"::/0", "2001:db8::1", true},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct prefix p;
		struct addr a;
		assert_true(prefix_parse(cases[i].prefix, &p));
		assert_true(addr_parse(cases[i].addr, &a));
		assert_int_equal(prefix_has(&p, &a), cases[i].has);
	}
}

static void prefix_with_host_bits_is_refused(void **state)
{
	static const char *const texts[] = {
		"192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "2001:db8::1/32", "192.0.2.0/24x"};
	struct prefix p;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		assert_false(prefix_parse(texts[i], &p));
}

static void neighbours_fall_far_apart_in_a_table(void **state)
{
	static const uint64_t key[2] = {0x1234567890abcdef, 0xfedcba0987654321};
	static const char *const formats[] = {"192.0.2.%u", "192.%u.2.1", "2001:db8:0:%u::", "2001:db8::%u"};
	for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
		static uint8_t rows[1024];
		unsigned taken = 0;
		memset(rows, 0, sizeof rows);
		for (unsigned i = 0; i < 256; i++) {
			char text[64];
			struct addr a;
			snprintf(text, sizeof text, formats[f], i);
			assert_true(addr_parse(text, &a));
			taken += rows[addr_keyed_hash(&a, key) % 1024]++ == 0;
		}
		assert_in_range(taken, 200, 256); /* 227 where they fall at random */
	}
}

static void a_client_is_an_ipv4_address_or_a_64(void **state)
{
	struct addr a, b, c;
	assert_true(addr_parse("192.0.2.7", &a));
	b = addr_client(&a);
	assert_true(addr_equal(&a, &b));
	assert_true(addr_parse("2001:db8:1:2:3:4:5:6", &a) && addr_parse("2001:db8:1:2::", &c));
	b = addr_client(&a);
	assert_true(addr_equal(&b, &c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_fall_far_apart_in_a_table),
		cmocka_unit_test(a_client_is_an_ipv4_address_or_a_64),
		cmocka_unit_test(addresses_come_back_as_they_went_in),
		cmocka_unit_test(what_is_no_address_is_refused),
		cmocka_unit_test(prefix_has_its_addresses_and_no_others),
		cmocka_unit_test(prefix_with_host_bits_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
