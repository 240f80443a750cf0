// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/random.h"
#include "smtp/spool/spool_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define IDS 500

/* Adds and removes at random, beside a plain array that says what should be there. */
static void entries_are_found_as_long_as_they_are_in(void **state)
{
	struct spool s = {0};
	bool is_in[IDS] = {0};
	uint64_t random = 7, count = 0;
	for (int i = 0; i < 50000; i++) {
		/* Ids as mail_id_next() makes them, and multiples that fall on one slot. */
		uint64_t n = random_below(&random, IDS), id = n << (n % 2 == 0 ? 12 : 44);
		struct entry *e = spool_index_find(&s, id);
		assert_true((e != NULL) == is_in[n]);
		if (e == NULL) {
			assert_non_null(spool_index_add(&s, id));
			count++;
		} else {
			spool_index_remove(&s, e);
			count--;
		}
		is_in[n] = !is_in[n];
		assert_int_equal(s.entry_count, count);
	}
	spool_index_fini(&s);
}

static void list_keeps_the_order(void **state)
{
	struct spool s = {0};
	for (uint64_t id = 1; id <= 5; id++)
		spool_index_add(&s, id);
	spool_index_make_newest(&s, spool_index_find(&s, 1));
	spool_index_make_newest(&s, spool_index_find(&s, 3));
	spool_index_remove(&s, spool_index_find(&s, 4));
	static const uint64_t order[] = {2, 5, 1, 3};
	const struct entry *e = s.oldest_entry;
	for (int i = 0; i < 4; i++, e = e->newer)
		assert_int_equal(e->id, order[i]);
	assert_null(e);
	spool_index_fini(&s);
	assert_null(s.newest_entry);
}

static void copies_hold_any_number_of_extents(void **state)
{
	struct copy a = {0}, b = {0};
	uint8_t byte = 5;
	for (uint32_t n = 0; n < 100; n++) {
		assert_int_equal(a.count, n);
		assert_int_equal(a.size, n);
		spool_copy_take(&b, &a);
		assert_int_equal(a.count, 0);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(b.extents[i].place.at, 100 * i);
		spool_copy_take(&a, &b);
		assert_true(spool_copy_add(&a, (struct place){.at = 100 * n}, bytes_of(&byte, 1)));
	}
	spool_copy_fini(&a);
	spool_copy_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_are_found_as_long_as_they_are_in),
		cmocka_unit_test(list_keeps_the_order),
		cmocka_unit_test(copies_hold_any_number_of_extents),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
