// SPDX-License-Identifier: Apache-2.0
/* Crashes at random points of random histories. To run one again: crash_test SEED [faults]. */
#include "smtp/spool/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SEEDS	     150
#define IMAGES_LEAST 2000
#define MUTANT_SEEDS 20

static struct history run_seeds(uint64_t from, bool has_faults)
{
	struct history sum = {0};
	for (uint64_t seed = from; seed < from + SEEDS; seed++) {
		struct history h = {.seed = seed, .has_faults = has_faults};
		history_run(&h);
		if (h.failure[0] != '\0')
			fail_msg("%s", h.failure);
		sum.images += h.images;
		sum.lives += h.lives;
		sum.acknowledged += h.acknowledged;
		sum.mails_moved += h.mails_moved;
		sum.failed_syncs += h.failed_syncs;
	}
	printf("%llu crash images of %llu lives, %llu mails acknowledged, %llu moved, %llu syncs "
	       "failed\n",
		(unsigned long long)sum.images, (unsigned long long)sum.lives,
		(unsigned long long)sum.acknowledged, (unsigned long long)sum.mails_moved,
		(unsigned long long)sum.failed_syncs);
	return sum;
}

static void no_crash_loses_an_acknowledged_mail(void **state)
{
	struct history sum = run_seeds(1, false);
	assert_true(sum.images >= IMAGES_LEAST);
	assert_true(sum.acknowledged >= 1000);
	assert_true(sum.mails_moved >= 10);
}

static void no_crash_on_a_failing_disk_loses_one(void **state)
{
	struct history sum = run_seeds(100001, true);
	assert_true(sum.images >= IMAGES_LEAST);
	assert_true(sum.acknowledged >= 500);
	assert_true(sum.failed_syncs >= 50);
}

/* The harness is worth something only if it finds what is wrong. */
static void assert_caught(enum history_mutant mutant)
{
	struct history h;
	for (uint64_t seed = 1; seed <= MUTANT_SEEDS; seed++) {
		h = (struct history){.seed = seed, .mutant = mutant};
		history_run(&h);
		if (h.failure[0] != '\0')
			break;
	}
	assert_string_not_equal(h.failure, "");
	printf("caught: %s\n", h.failure);
}

static void spool_without_sync_is_caught(void **state)
{
	assert_caught(MUTANT_NO_SYNC);
}

static void spool_without_folder_sync_is_caught(void **state)
{
	assert_caught(MUTANT_NO_SYNC_DIR);
}

static void early_acknowledgement_is_caught(void **state)
{
	assert_caught(MUTANT_EARLY_ACK);
}

static int run_one(const char *seed, bool has_faults)
{
	struct history h = {.seed = strtoull(seed, NULL, 10), .has_faults = has_faults};
	history_run(&h);
	printf("%s\n", h.failure[0] == '\0' ? "all promises kept" : h.failure);
	return h.failure[0] != '\0';
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_crash_loses_an_acknowledged_mail),
		cmocka_unit_test(no_crash_on_a_failing_disk_loses_one),
		cmocka_unit_test(spool_without_sync_is_caught),
		cmocka_unit_test(spool_without_folder_sync_is_caught),
		cmocka_unit_test(early_acknowledgement_is_caught),
	};
	if (argc > 1)
		return run_one(argv[1], argc > 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
