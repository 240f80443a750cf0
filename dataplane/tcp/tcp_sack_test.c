// SPDX-License-Identifier: Apache-2.0
/* Selective acknowledgement, sent: RFC 2018, RFC 2883. */
#include "dataplane/tcp/tcp_rig.h"

static void begin_with(struct rig *r, bool has_ts)
{
	struct tcp_config config = rig_config();
	rig_start(r, &config);
	r->has_sack = true;
	r->has_ts = has_ts;
	rig_accept(r);
	assert_true(r->got.has_sack_ok);
}

static void begin(struct rig *r)
{
	begin_with(r, false);
}

/* Ten bytes at the place `i` behind what the peer has sent in order. */
static void piece(struct rig *r, unsigned i)
{
	rig_in(r, KIT_ACK, r->seq + i * 10, r->ack, "0123456789");
}

static void expect_block(struct rig *r, unsigned i, unsigned from, unsigned to)
{
	assert_true(i < r->got.sack_count);
	assert_int_equal(r->got.sack[i][0], r->seq + from * 10);
	assert_int_equal(r->got.sack[i][1], r->seq + to * 10);
}

static void sack_is_permitted_only_to_whom_permits_it(void **state) /* RFC 2018 2 */
{
	struct rig r;
	rig_begin(&r);
	assert_false(r.got.has_sack_ok);
	piece(&r, 2);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.sack_count, 0);
	rig_end(&r);
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_connect(&r);
	assert_true(r.got.has_sack_ok);
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq++, r.ack, "");
	piece(&r, 2);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.sack_count, 0);
	rig_end(&r);
}

static void the_first_block_is_of_the_segment_that_came_last(void **state) /* RFC 2018 4 (1) */
{
	struct rig r;
	begin(&r);
	piece(&r, 2);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(r.got.sack_count, 1);
	expect_block(&r, 0, 2, 3);
	piece(&r, 6);
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(r.got.sack_count, 2);
	expect_block(&r, 0, 6, 7);
	expect_block(&r, 1, 2, 3);
	piece(&r, 3); /* grows the first island, which is the latest now */
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	expect_block(&r, 0, 2, 4);
	expect_block(&r, 1, 6, 7);
	piece(&r, 0);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 10, "");
	assert_int_equal(r.got.sack_count, 2);
	piece(&r, 1);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 40, "");
	assert_int_equal(r.got.sack_count, 1);
	expect_block(&r, 0, 6, 7);
	piece(&r, 4);
	piece(&r, 5);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 70, "");
	assert_int_equal(r.got.sack_count, 0);
	rig_end(&r);
}

/* RFC 2018 4: the blocks reported most recently are repeated; four of them, or three beside timestamps */
static void the_latest_blocks_are_repeated(void **state)
{
	for (unsigned has_ts = 0; has_ts < 2; has_ts++) {
		struct rig r;
		begin_with(&r, has_ts);
		for (unsigned i = 1; i <= 6; i++) {
			piece(&r, i * 2);
			assert_true(rig_out(&r));
		}
		assert_int_equal(r.got.sack_count, has_ts ? 3 : 4);
		for (unsigned i = 0; i < r.got.sack_count; i++)
			expect_block(&r, i, 12 - 2 * i, 13 - 2 * i);
		piece(&r, 5); /* joins two that were not among the latest */
		assert_true(rig_out(&r));
		expect_block(&r, 0, 4, 7);
		expect_block(&r, 1, 12, 13);
		expect_block(&r, 2, 10, 11);
		rig_end(&r);
	}
}

static void blocks_ride_on_text_where_they_fit(void **state) /* RFC 2018 3: on all ACKs, if there is room */
{
	struct rig r;
	begin(&r);
	piece(&r, 2);
	rig_write(&r, "250 ");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "250 ");
	assert_int_equal(r.got.sack_count, 1);
	rig_take_all(&r, r.ack + 4);
	piece(&r, 4);
	assert_int_equal(tcp_write(r.c, bytes_of(rig_big, 1460)), 1460);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.text.n, rig_info(&r).mss); /* full: within the MTU, and without */
	assert_int_equal(r.got.sack_count, 0);
	rig_end(&r);
}

static void old_text_is_told_as_a_duplicate_once(void **state) /* RFC 2883 4.1, example 1 */
{
	struct rig r;
	begin(&r);
	piece(&r, 0);
	piece(&r, 1);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 20, "");
	piece(&r, 1);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 20, "");
	assert_int_equal(r.got.sack_count, 1);
	expect_block(&r, 0, 1, 2);
	piece(&r, 2);
	rig_wait(&r, 50000);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 30, "");
	assert_int_equal(r.got.sack_count, 0);
	rig_end(&r);
}

static void a_duplicate_is_told_before_the_blocks(void **state) /* RFC 2883 4.1, example 2; 4.2.1 */
{
	struct rig r;
	begin(&r);
	piece(&r, 0);
	piece(&r, 3);
	piece(&r, 4);
	while (rig_out(&r))
		;
	piece(&r, 0);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 10, "");
	assert_int_equal(r.got.sack_count, 2);
	expect_block(&r, 0, 0, 1);
	expect_block(&r, 1, 3, 5);
	piece(&r, 4); /* within an island: the island it is of follows */
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 10, "");
	assert_int_equal(r.got.sack_count, 2);
	expect_block(&r, 0, 4, 5);
	expect_block(&r, 1, 3, 5);
	rig_end(&r);
}

static void the_part_that_came_twice_is_told(void **state) /* RFC 2883 4.2.2, 4.2.3: partial duplicates */
{
	struct rig r;
	begin(&r);
	piece(&r, 0);
	piece(&r, 3);
	while (rig_out(&r))
		;
	rig_in(&r, KIT_ACK, r.seq + 20, r.ack, "012345678901234567890123456789"); /* 2 to 5 */
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 10, "");
	expect_block(&r, 0, 3, 4);
	expect_block(&r, 1, 2, 5);
	rig_in(&r, KIT_ACK, r.seq, r.ack, "01234567890123456789"); /* 0 to 2 */
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 50, "");
	assert_int_equal(r.got.sack_count, 1);
	expect_block(&r, 0, 0, 1);
	rig_expect_read(&r, "01234567890123456789012345678901234567890123456789");
	rig_end(&r);
}

/* Islands are bounded: what would make one more is refused, what grows one is not. */
static void islands_are_bounded(void **state)
{
	struct rig r;
	begin(&r);
	for (unsigned i = 1; i <= 100; i++) {
		rig_in(&r, KIT_ACK, r.seq + i * 2, r.ack, "x");
		rig_out(&r);
	}
	assert_int_equal(rig_drops(&r, "reassembly_full"), 100 - 64);
	rig_in(&r, KIT_ACK, r.seq + 64 * 2 - 1, r.ack, "y"); /* two become one */
	rig_in(&r, KIT_ACK, r.seq + 64 * 2 + 2, r.ack, "z");
	assert_int_equal(rig_drops(&r, "reassembly_full"), 100 - 64);
	rig_in(&r, KIT_ACK, r.seq + 64 * 2 + 4, r.ack, "z");
	assert_int_equal(rig_drops(&r, "reassembly_full"), 100 - 64 + 1);
	rig_end(&r);
}

/* Any pieces of one text in any order give the text, and each ACK's blocks tell what has come and is not in order. */
static void blocks_tell_the_truth(void **state)
{
	for (unsigned seed = 0; seed < 200; seed++) {
		struct rig r;
		bool has[600] = {false};
		srand(seed);
		begin_with(&r, seed % 2);
		for (unsigned k = 0; k < 80; k++) {
			char text[41];
			const unsigned from = (unsigned)rand() % 560, n = 1 + (unsigned)rand() % 40;
			memcpy(text, rig_big + from, n);
			text[n] = '\0';
			rig_in(&r, KIT_ACK, r.seq + from, r.ack, text);
			for (unsigned i = from; i < from + n; i++)
				has[i] = true;
			while (rig_out(&r)) {
				const uint32_t in_order = r.got.ack - r.seq;
				for (unsigned i = 0; i < in_order; i++)
					assert_true(has[i]);
				assert_false(has[in_order]);
				for (unsigned b = 0; b < r.got.sack_count; b++) {
					const uint32_t start = r.got.sack[b][0] - r.seq, end = r.got.sack[b][1] - r.seq;
					assert_true(start < end && end <= 600);
					for (unsigned i = start; i < end; i++)
						assert_true(has[i]);
					if (b > 0) /* the first may be a duplicate; the others are whole islands */
						assert_true(start > in_order && !has[start - 1] && !has[end]);
				}
			}
		}
		char whole[601];
		memcpy(whole, rig_big, 600);
		whole[600] = '\0';
		rig_in(&r, KIT_ACK, r.seq, r.ack, whole);
		rig_expect_read(&r, whole);
		rig_end(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sack_is_permitted_only_to_whom_permits_it),
		cmocka_unit_test(the_first_block_is_of_the_segment_that_came_last),
		cmocka_unit_test(the_latest_blocks_are_repeated),
		cmocka_unit_test(blocks_ride_on_text_where_they_fit),
		cmocka_unit_test(old_text_is_told_as_a_duplicate_once),
		cmocka_unit_test(a_duplicate_is_told_before_the_blocks),
		cmocka_unit_test(the_part_that_came_twice_is_told),
		cmocka_unit_test(islands_are_bounded),
		cmocka_unit_test(blocks_tell_the_truth),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
