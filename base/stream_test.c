// SPDX-License-Identifier: Apache-2.0
#include "base/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void idle_stream_holds_no_block(void **state)
{
	struct stream_pool *pool = stream_pool_create(64, 2);
	struct stream s;
	stream_init(&s, pool);
	assert_int_equal(stream_pool_free_count(pool), 2);
	assert_true(stream_write(&s, BYTES_LITERAL("hello")));
	assert_int_equal(stream_pool_free_count(pool), 1);
	stream_consume(&s, 5);
	assert_int_equal(stream_pool_free_count(pool), 2);
	stream_pool_destroy(pool);
}

static void bytes_come_out_in_the_order_they_went_in(void **state)
{
	struct stream_pool *pool = stream_pool_create(32, 1);
	struct stream s;
	uint8_t in = 0, out = 0;
	stream_init(&s, pool);
	for (int round = 0; round < 1000; round++) {
		size_t n = (size_t)(round * 7 % 13), room;
		uint8_t *to = stream_reserve(&s, n == 0 ? 1 : n, &room);
		if (to != NULL) {
			for (size_t i = 0; i < n; i++)
				to[i] = in++;
			stream_commit(&s, n);
		}
		struct bytes b = stream_peek(&s);
		size_t take = (size_t)(round * 5 % 11);
		take = take < b.n ? take : b.n;
		for (size_t i = 0; i < take; i++)
			assert_int_equal(b.at[i], out++);
		stream_consume(&s, take);
	}
	stream_reset(&s);
	stream_pool_destroy(pool);
}

static void write_is_whole_or_not_at_all(void **state)
{
	struct stream_pool *pool = stream_pool_create(8, 1);
	struct stream s;
	stream_init(&s, pool);
	assert_true(stream_write(&s, BYTES_LITERAL("12345")));
	assert_false(stream_write(&s, BYTES_LITERAL("6789")));
	assert_int_equal(stream_length(&s), 5);
	stream_consume(&s, 2);
	assert_true(stream_write(&s, BYTES_LITERAL("6789")));
	assert_true(bytes_equal(stream_peek(&s), BYTES_LITERAL("3456789")));
	stream_reset(&s);
	stream_pool_destroy(pool);
}

static void empty_pool_refuses_politely(void **state)
{
	struct stream_pool *pool = stream_pool_create(8, 1);
	struct stream a, b;
	stream_init(&a, pool);
	stream_init(&b, pool);
	assert_true(stream_write(&a, BYTES_LITERAL("x")));
	assert_int_equal(stream_space(&b), 0);
	assert_false(stream_write(&b, BYTES_LITERAL("y")));
	stream_reset(&a);
	assert_true(stream_printf(&b, "%d", 42));
	assert_true(bytes_equal(stream_peek(&b), BYTES_LITERAL("42")));
	stream_reset(&b);
	stream_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle_stream_holds_no_block),
		cmocka_unit_test(bytes_come_out_in_the_order_they_went_in),
		cmocka_unit_test(write_is_whole_or_not_at_all),
		cmocka_unit_test(empty_pool_refuses_politely),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
