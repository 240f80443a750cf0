// SPDX-License-Identifier: Apache-2.0
/* One script, run again and again: with the n-th call of the disk failing, for every n there is.
 * Whatever was acknowledged must be there after a crash. */
#include "smtp/spool/disk_sim.h"
#include "smtp/spool/spool.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MAILS	   24
#define MAIL_BYTES 1500
#define CALLS_MOST 2000 /* the script makes far fewer */

enum promise { NOTHING, MAY_BE, MUST_BE, MUST_NOT };

struct script {
	struct disk *disk;
	struct spool *spool;
	enum promise promises[MAILS + 1]; /* by id */
	bool is_found[MAILS + 1];
	unsigned acknowledged;
};

static uint8_t content[MAIL_BYTES];

static struct bytes content_of(uint64_t id)
{
	memset(content, (int)id, sizeof content);
	return bytes_of(content, sizeof content);
}

static void found(void *user, const struct spool_found *f)
{
	struct script *s = user;
	assert_in_range(f->id, 1, MAILS);
	assert_int_equal(f->size, MAIL_BYTES);
	s->is_found[f->id] = true;
}

static int open_spool(struct script *s)
{
	struct spool_config config = {.disk = s->disk, .segment_bytes = 8192};
	char error[256];
	memset(s->is_found, 0, sizeof s->is_found);
	return spool_open(&s->spool, &config, found, s, error);
}

static void submit(struct script *s, uint64_t id)
{
	struct bytes all = content_of(id);
	struct mail mail = {.id = id, .size = all.n, .crc = crc32c(0, all)};
	if (spool_append(s->spool, id, 0, bytes_first(all, 700)) != 0 ||
		spool_append(s->spool, id, 700, bytes_skip(all, 700)) != 0 ||
		spool_commit(s->spool, &mail) != 0)
		s->promises[id] = MUST_NOT;
	else
		s->promises[id] = MAY_BE;
}

/* Syncs, and holds the spool to what it says. */
static void sync_batch(struct script *s, uint64_t from, uint64_t to)
{
	int err = spool_sync(s->spool);
	for (uint64_t id = from; id <= to; id++) {
		if (s->promises[id] != MAY_BE || err != 0)
			continue;
		s->promises[id] = MUST_BE;
		s->acknowledged++;
	}
}

static void finish(struct script *s, uint64_t id)
{
	if (s->promises[id] != MUST_BE)
		return;
	assert_int_equal(spool_done(s->spool, id), 0);
	s->promises[id] = MAY_BE;
	if (spool_sync(s->spool) == 0 && !spool_has_batch(s->spool))
		s->promises[id] = MUST_NOT;
}

/* Batches of three, some left alone, most done: segments turn, go, and mails are moved. */
static void play(struct script *s)
{
	for (uint64_t id = 1; id <= MAILS; id += 3) {
		for (uint64_t i = id; i < id + 3; i++)
			submit(s, i);
		sync_batch(s, id, id + 2);
		if (id > 3) {
			finish(s, id - 2);
			finish(s, id - 1);
		}
	}
}

static void check_crashes(struct script *s)
{
	struct disk *disk = s->disk;
	for (uint64_t seed = 0; seed < 3; seed++) {
		s->disk = disk_sim_crash(disk, seed);
		assert_int_equal(open_spool(s), 0);
		for (uint64_t id = 1; id <= MAILS; id++) {
			uint8_t got[MAIL_BYTES];
			if (s->promises[id] == MUST_BE)
				assert_true(s->is_found[id]);
			if (s->promises[id] == MUST_NOT || s->promises[id] == NOTHING)
				assert_false(s->is_found[id]);
			if (s->is_found[id]) {
				assert_int_equal(
					spool_read(s->spool, id, 0, got, sizeof got), MAIL_BYTES);
				assert_memory_equal(got, content_of(id).at, MAIL_BYTES);
			}
		}
		spool_close(s->spool);
		disk_sim_destroy(s->disk);
	}
	s->disk = disk;
}

/* Returns whether there was a call number `n` to fail. */
static bool run_with_failure(uint64_t n, uint64_t times, int error, unsigned *acknowledged)
{
	struct script s = {.disk = disk_sim_create()};
	disk_sim_fail(s.disk, n, times, error);
	int err = open_spool(&s);
	if (err == 0)
		play(&s);
	else
		assert_true(n < 20);
	bool has_failed = disk_sim_calls(s.disk) >= n;
	if (err == 0)
		spool_close(s.spool);
	check_crashes(&s);
	disk_sim_destroy(s.disk);
	*acknowledged = s.acknowledged;
	return has_failed;
}

static void sweep(uint64_t times, int error, unsigned least)
{
	uint64_t n = 1;
	unsigned acknowledged;
	while (run_with_failure(n, times, error, &acknowledged)) {
		/* One failure costs a batch or two, not the rest. */
		if (n > 20)
			assert_true(acknowledged >= least);
		n++;
		assert_true(n < CALLS_MOST);
	}
	assert_int_equal(acknowledged, MAILS);
	assert_true(n > 50);
	printf("%llu calls failed, one in each run\n", (unsigned long long)n - 1);
}

static void no_single_io_error_makes_a_false_acknowledgement(void **state)
{
	sweep(1, -EIO, MAILS - 6);
}

static void no_full_disk_at_any_call_makes_one(void **state)
{
	sweep(1, -ENOSPC, MAILS - 6);
}

static void no_five_errors_in_a_row_make_one(void **state)
{
	sweep(5, -EIO, MAILS / 4);
}

static void no_disk_that_breaks_for_good_makes_one(void **state)
{
	sweep(UINT32_MAX, -EIO, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_single_io_error_makes_a_false_acknowledgement),
		cmocka_unit_test(no_full_disk_at_any_call_makes_one),
		cmocka_unit_test(no_five_errors_in_a_row_make_one),
		cmocka_unit_test(no_disk_that_breaks_for_good_makes_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
