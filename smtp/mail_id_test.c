// SPDX-License-Identifier: Apache-2.0
#include "smtp/mail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define NOW_US 1767225600000000ull /* 2026-01-01 */

static void ids_of_one_core_only_grow(void **state)
{
	uint64_t last = 0, before = 0;
	for (int i = 0; i < 1000; i++) {
		uint64_t id = mail_id_next(&last, NOW_US + (uint64_t)i / 200, 5);
		assert_true(id > before);
		assert_int_equal(id >> 6 & 63, 5);
		before = id;
	}
}

static void ids_grow_when_the_clock_goes_back(void **state)
{
	uint64_t last = 0;
	uint64_t a = mail_id_next(&last, NOW_US, 0);
	for (int i = 0; i < 300; i++) {
		uint64_t b = mail_id_next(&last, NOW_US - 5000000, 0);
		assert_true(b > a);
		a = b;
	}
}

static void cores_never_share_an_id(void **state)
{
	uint64_t last[64] = {0}, seen[64 * 100];
	size_t n = 0;
	for (unsigned core = 0; core < 64; core++)
		for (int i = 0; i < 100; i++)
			seen[n++] = mail_id_next(&last[core], NOW_US, core);
	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n; k++)
			assert_int_not_equal(seen[i], seen[k]);
}

/* The clock stands still over a restart: core 2 starts from core 3's id, the highest in the spool.
 */
static void ids_stay_unique_after_recovery(void **state)
{
	uint64_t core2 = 0, core3 = 0, old[3];
	old[0] = mail_id_next(&core2, NOW_US, 2);
	old[1] = mail_id_next(&core2, NOW_US, 2);
	old[2] = mail_id_next(&core3, NOW_US, 3);
	core2 = old[2];
	for (int i = 0; i < 100; i++) {
		uint64_t id = mail_id_next(&core2, NOW_US, 2);
		for (int k = 0; k < 3; k++)
			assert_int_not_equal(id, old[k]);
	}
}

static void text_form_is_13_digits_of_crockfords(void **state)
{
	static const struct {
		uint64_t id;
		const char *text;
	} cases[] = {
		{0,		    "0000000000000"},
		{31,		     "000000000000Z"},
		{32,		     "0000000000010"},
		{UINT64_MAX,	     "FZZZZZZZZZZZZ"},
		{1ull << 63,	     "8000000000000"},
		{0x123456789abcdef0, "14D2PF2DBSQQG"},
	};
	char text[MAIL_ID_TEXT_MAX];
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		uint64_t id = ~cases[i].id;
		assert_string_equal(mail_id_format(cases[i].id, text), cases[i].text);
		assert_true(mail_id_parse(bytes_of_string(text), &id));
		assert_int_equal(id, cases[i].id);
	}
}

static void lower_case_and_look_alikes_are_read(void **state)
{
	uint64_t a, b;
	assert_true(mail_id_parse(BYTES_LITERAL("14D2PF2DBSQQG"), &a));
	assert_true(mail_id_parse(BYTES_LITERAL("l4d2pf2dbsqqg"), &b));
	assert_int_equal(a, b);
	assert_true(mail_id_parse(BYTES_LITERAL("oO0000000000i"), &a));
	assert_int_equal(a, 1);
}

static void what_is_no_id_is_refused(void **state)
{
	static const char *const bad[] = {"", "0", "000000000000", "00000000000000",
		"G000000000000", "000000000000U", "000000 000000", "000000000000-",
		"000000000000\xc3"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		uint64_t id = 77;
		assert_false(mail_id_parse(bytes_of_string(bad[i]), &id));
		assert_int_equal(id, 77);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_of_one_core_only_grow),
		cmocka_unit_test(ids_grow_when_the_clock_goes_back),
		cmocka_unit_test(cores_never_share_an_id),
		cmocka_unit_test(ids_stay_unique_after_recovery),
		cmocka_unit_test(text_form_is_13_digits_of_crockfords),
		cmocka_unit_test(lower_case_and_look_alikes_are_read),
		cmocka_unit_test(what_is_no_id_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
