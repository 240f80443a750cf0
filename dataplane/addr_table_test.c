// SPDX-License-Identifier: Apache-2.0
#include "dataplane/addr_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define PLACES 64
#define KEYS   200

/* Against a plain list: which of KEYS addresses are in, and where. */
static void finds_what_was_added_and_nothing_else(void **state)
{
	struct addr_table t;
	uint16_t where[KEYS];
	memset(where, 0xff, sizeof where);
	assert_true(addr_table_init(&t, PLACES, 12345));
	srand(7);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned key = (unsigned)rand() % KEYS, port = key & 1;
		struct addr addr = {
			{0x20, [14] = (uint8_t)(key >> 8), [15] = (uint8_t)(key >> 1)}
		      };
		assert_int_equal(addr_table_find(&t, port, &addr), where[key]);
		if (where[key] != ADDR_TABLE_NONE) {
			addr_table_remove(&t, where[key]);
			where[key] = ADDR_TABLE_NONE;
			continue;
		}
		bool is_full = t.count == PLACES;
		where[key] = addr_table_add(&t, port, &addr);
		assert_int_equal(where[key] == ADDR_TABLE_NONE, is_full);
	}
	addr_table_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_was_added_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
