// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define FRAMES 20000

static struct lane *new_lane(struct lane_config config)
{
	struct lane *l = lane_create(&config);
	assert_non_null(l);
	return l;
}

/* A frame of 100 bytes that bears its number. */
static void push(struct lane *l, uint32_t number, uint64_t now_us)
{
	uint8_t frame[100] = {0};
	memcpy(frame + 20, &number, sizeof number);
	lane_push(l, bytes_of(frame, sizeof frame), now_us);
}

static uint32_t number_of(struct bytes frame)
{
	uint32_t number;
	assert_int_equal(frame.n, 100);
	memcpy(&number, frame.at + 20, sizeof number);
	return number;
}

static void assert_balance(const struct lane *l)
{
	const struct lane_counts *c = lane_counts(l);
	assert_int_equal(c->in + c->duplicated,
		c->out + c->lost + c->queue_full + c->no_room + c->too_long + lane_under_way(l));
}

/* Pushes `FRAMES` frames, one a millisecond, taking each out when it is due; a hash of what came out and when. */
static uint64_t history(struct lane *l)
{
	uint64_t hash = 14695981039346656037u;
	struct bytes frame;
	for (uint64_t now = 0; now < 2 * FRAMES; now++) {
		if (now < FRAMES)
			push(l, (uint32_t)now, now * 1000);
		while (lane_pop(l, now * 1000, &frame))
			for (size_t i = 0; i < frame.n; i++)
				hash = (hash ^ frame.at[i] ^ now) * 1099511628211u;
		assert_balance(l);
	}
	assert_int_equal(lane_under_way(l), 0);
	return hash;
}

static void without_options_frames_pass_at_once_and_in_order(void **state)
{
	struct lane *l = new_lane((struct lane_config){.seed = 1});
	struct bytes frame;
	for (uint32_t i = 0; i < 100; i++)
		push(l, i, 5);
	assert_int_equal(lane_due_us(l), 5);
	for (uint32_t i = 0; i < 100; i++) {
		assert_true(lane_pop(l, 5, &frame));
		assert_int_equal(number_of(frame), i);
	}
	assert_false(lane_pop(l, 5, &frame));
	assert_int_equal(lane_due_us(l), UINT64_MAX);
	lane_destroy(l);
}

static void delay_is_kept_to_the_microsecond(void **state)
{
	struct lane *l = new_lane((struct lane_config){.delay_us = 10000});
	struct bytes frame;
	push(l, 1, 7);
	push(l, 2, 8);
	assert_int_equal(lane_due_us(l), 10007);
	assert_false(lane_pop(l, 10006, &frame));
	assert_true(lane_pop(l, 10007, &frame));
	assert_int_equal(number_of(frame), 1);
	assert_false(lane_pop(l, 10007, &frame));
	assert_int_equal(lane_due_us(l), 10008);
	assert_int_equal(lane_under_way(l), 1);
	lane_destroy(l);
}

static void shares_come_out_as_asked(void **state)
{
	struct lane *l = new_lane((struct lane_config){.loss = 0.05, .duplicate = 0.02, .reorder = 0.1, .corrupt = 0.03,
		.reorder_gap = 3, .reorder_us = 50000, .delay_us = 500, .seed = 42});
	history(l);
	const struct lane_counts *c = lane_counts(l);
	assert_int_equal(c->in, FRAMES);
	assert_in_range(c->lost, FRAMES * 4 / 100, FRAMES * 6 / 100);
	assert_in_range(c->duplicated, FRAMES * 15 / 1000, FRAMES * 25 / 1000);
	assert_in_range(c->corrupted, FRAMES * 2 / 100, FRAMES * 4 / 100);
	assert_in_range(c->held_back, FRAMES * 8 / 100, FRAMES * 12 / 100);
	/* All have later frames to wait for, but the very last ones and those behind another held one. */
	assert_in_range(c->overtaken, c->held_back * 9 / 10, c->held_back);
	assert_int_equal(c->out, c->in + c->duplicated - c->lost);
	lane_destroy(l);
}

static void the_seed_decides_everything(void **state)
{
	const struct lane_config config = {.loss = 0.01, .duplicate = 0.01, .reorder = 0.02, .corrupt = 0.01,
		.reorder_gap = 4, .reorder_us = 10000, .delay_us = 3000, .seed = 7};
	struct lane_config other = config;
	other.seed = 8;
	struct lane *a = new_lane(config), *b = new_lane(config), *c = new_lane(other);
	uint64_t of_a = history(a);
	assert_true(of_a == history(b));
	assert_true(of_a != history(c));
	lane_destroy(a);
	lane_destroy(b);
	lane_destroy(c);
}

static void a_held_frame_is_overtaken_by_no_more_than_the_gap(void **state)
{
	struct lane *l = new_lane((struct lane_config){.reorder = 0.05, .reorder_gap = 4, .reorder_us = 1000000});
	struct bytes frame;
	uint32_t next = 0, latest = 0;
	bool has_one = false;
	for (; next < 5000; next++) {
		push(l, next, next);
		while (lane_pop(l, next, &frame)) {
			/* Behind at most: the gap, and those that were held at the same time. */
			assert_true(!has_one || number_of(frame) + 4 + 16 > latest);
			has_one = true;
			latest = number_of(frame) > latest ? number_of(frame) : latest;
		}
	}
	assert_true(lane_counts(l)->overtaken > 100);
	lane_destroy(l);
}

static void a_held_frame_that_nothing_follows_goes_after_its_time(void **state)
{
	struct lane *l = new_lane((struct lane_config){.reorder = 1, .reorder_gap = 4, .reorder_us = 20000});
	struct bytes frame;
	push(l, 1, 100);
	assert_int_equal(lane_due_us(l), 20100);
	assert_false(lane_pop(l, 20099, &frame));
	assert_true(lane_pop(l, 20100, &frame));
	assert_int_equal(lane_counts(l)->held_back, 1);
	assert_int_equal(lane_counts(l)->overtaken, 0); /* nothing did */
	lane_destroy(l);
}

static void one_bit_is_turned_and_never_in_the_ethernet_header(void **state)
{
	struct lane *l = new_lane((struct lane_config){.corrupt = 1, .seed = 3});
	const uint8_t zeros[64] = {0};
	struct bytes frame;
	for (int i = 0; i < 1000; i++) {
		int bits = 0;
		lane_push(l, bytes_of(zeros, sizeof zeros), 0);
		assert_true(lane_pop(l, 0, &frame));
		for (size_t at = 0; at < frame.n; at++)
			bits += __builtin_popcount(frame.at[at]);
		assert_int_equal(bits, 1);
		assert_memory_equal(frame.at, zeros, 14);
	}
	lane_destroy(l);
}

static void the_rate_limit_spaces_frames_and_drops_what_its_queue_cannot_hold(void **state)
{
	/* 100 bytes at 800 kbit/s take a millisecond; five of them may wait. */
	struct lane *l = new_lane((struct lane_config){.rate_bits = 800000, .queue_bytes = 500});
	struct bytes frame;
	for (uint32_t i = 0; i < 10; i++)
		push(l, i, 0);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(lane_due_us(l), 1000 * (i + 1));
		assert_false(lane_pop(l, 1000 * (i + 1) - 1, &frame));
		assert_true(lane_pop(l, 1000 * (i + 1), &frame));
		assert_int_equal(number_of(frame), i);
	}
	assert_int_equal(lane_under_way(l), 0);
	assert_int_equal(lane_counts(l)->queue_full, 4);
	assert_balance(l);
	lane_destroy(l);
}

static void what_does_not_fit_is_dropped_and_counted(void **state)
{
	struct lane *l = new_lane((struct lane_config){.delay_us = 1});
	static const uint8_t long_frame[LANE_FRAME_MAX + 1];
	struct bytes frame;
	lane_push(l, bytes_of(long_frame, sizeof long_frame), 0);
	assert_int_equal(lane_counts(l)->too_long, 1);
	for (uint32_t i = 0; i < LANE_FRAMES_MAX + 10; i++)
		push(l, i, 0);
	assert_int_equal(lane_counts(l)->no_room, 10);
	assert_balance(l);
	for (uint32_t i = 0; i < LANE_FRAMES_MAX; i++)
		assert_true(lane_pop(l, 1, &frame));
	assert_false(lane_pop(l, 1, &frame));
	push(l, 1, 1); /* the room is there again */
	assert_true(lane_pop(l, 2, &frame));
	assert_balance(l);
	lane_destroy(l);
}

/* Frames with these ECN bits, over both families; returns how many came out with CE, their checksums right. */
static unsigned marked_of(uint8_t ecn, double share)
{
	struct lane *l = new_lane((struct lane_config){.seed = 7, .mark = share});
	struct bytes out;
	unsigned marked = 0;
	for (unsigned i = 0; i < 1000; i++) {
		const bool is_ipv6 = i % 2;
		uint8_t f[100] = {[12] = is_ipv6 ? 0x86 : 8, [13] = is_ipv6 ? 0xdd : 0, [14] = is_ipv6 ? 0x60 : 0x45};
		f[15] = (uint8_t)(is_ipv6 ? ecn << 4 : ecn);
		lane_push(l, bytes_of(f, sizeof f), i);
		assert_true(lane_pop(l, i, &out));
		const uint8_t *ip = out.at + 14;
		const bool is_marked = (is_ipv6 ? ip[1] >> 4 : ip[1]) == 3;
		uint32_t sum = 0;
		for (unsigned k = 0; k < 20; k += 2)
			sum += (uint32_t)ip[k] << 8 | ip[k + 1];
		assert_true(is_ipv6 || !is_marked || ecn == 3 || (sum & 0xffff) + (sum >> 16) == 0xffff);
		marked += is_marked && ecn != 3;
	}
	assert_int_equal(lane_counts(l)->marked, marked);
	assert_int_equal(lane_counts(l)->markable, ecn == 1 || ecn == 2 ? 1000 : 0);
	lane_destroy(l);
	return marked;
}

static void only_what_may_be_marked_is(void **state)
{
	assert_int_equal(marked_of(0, 1), 0);
	assert_int_equal(marked_of(3, 1), 0);
	assert_int_equal(marked_of(1, 1), 1000);
	assert_int_equal(marked_of(2, 1), 1000);
	assert_int_equal(marked_of(2, 0), 0);
	assert_in_range(marked_of(2, 0.1), 60, 140);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_options_frames_pass_at_once_and_in_order),
		cmocka_unit_test(delay_is_kept_to_the_microsecond),
		cmocka_unit_test(shares_come_out_as_asked),
		cmocka_unit_test(the_seed_decides_everything),
		cmocka_unit_test(a_held_frame_is_overtaken_by_no_more_than_the_gap),
		cmocka_unit_test(a_held_frame_that_nothing_follows_goes_after_its_time),
		cmocka_unit_test(one_bit_is_turned_and_never_in_the_ethernet_header),
		cmocka_unit_test(the_rate_limit_spaces_frames_and_drops_what_its_queue_cannot_hold),
		cmocka_unit_test(what_does_not_fit_is_dropped_and_counted),
		cmocka_unit_test(only_what_may_be_marked_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
