// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/spool_bench.c: how many mails a second one spool takes on a real disk.
 *
 *   spool_bench [FOLDER [SECONDS [BYTES]]]      (./spool-bench, 2, 4096)
 *
 * For batches of 1, 16 and 256 mails: append and commit them, one sync, and mark the batch before
 * done. The folder is removed again. */
#include "smtp/spool/spool.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SYNCS_MAX     (1u << 20)
#define SEGMENT_BYTES (64u << 20)

struct bench {
	struct spool *spool;
	uint64_t next_id;
	struct bytes content;
	uint32_t *sync_us; /* how long each sync took */
	size_t syncs;
};

static void die(const char *what, int err)
{
	fprintf(stderr, "spool_bench: %s: %s\n", what, strerror(-err));
	exit(71);
}

static void nothing(void *user, const struct spool_found *f)
{
}

static void submit(struct bench *b, uint64_t id)
{
	struct mail mail = {.id = id, .size = b->content.n, .crc = crc32c(0, b->content)};
	for (uint64_t at = 0; at < b->content.n; at += MAIL_CHUNK_DATA) {
		struct bytes part = bytes_first(bytes_skip(b->content, at), MAIL_CHUNK_DATA);
		int err = spool_append(b->spool, id, at, part);
		if (err != 0)
			die("append", err);
	}
	int err = spool_commit(b->spool, &mail);
	if (err != 0)
		die("commit", err);
}

static void sync_batch(struct bench *b)
{
	uint64_t start = time_monotonic_us();
	int err = spool_sync(b->spool);
	if (err != 0)
		die("sync", err);
	if (b->syncs < SYNCS_MAX)
		b->sync_us[b->syncs++] = (uint32_t)(time_monotonic_us() - start);
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static void run(struct bench *b, unsigned batch, uint64_t seconds)
{
	uint64_t start = time_monotonic_us(), mails = 0, previous = 0, us;
	b->syncs = 0;
	do {
		uint64_t first = b->next_id;
		for (unsigned i = 0; i < batch; i++)
			submit(b, b->next_id++);
		for (unsigned i = 0; previous != 0 && i < batch; i++)
			spool_done(b->spool, previous + i);
		sync_batch(b);
		mails += batch;
		previous = first;
		us = time_monotonic_us() - start;
	} while (us < seconds * USEC_PER_SEC);
	for (unsigned i = 0; i < batch; i++)
		spool_done(b->spool, previous + i);
	spool_sync(b->spool);
	qsort(b->sync_us, b->syncs, sizeof *b->sync_us, compare_u32);
	printf("batch %3u: %8.0f mails/s, %7.1f MB/s, sync p50 %6u us, p99 %6u us, most %6u us\n",
		batch, (double)mails * USEC_PER_SEC / (double)us,
		(double)(mails * b->content.n) / (double)us, b->sync_us[b->syncs / 2],
		b->sync_us[b->syncs * 99 / 100], b->sync_us[b->syncs - 1]);
}

static void remove_name(void *user, const char *name)
{
	struct disk *disk = user;
	disk->remove(disk, name);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "./spool-bench";
	uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 2;
	size_t bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : 4096;
	struct disk *disk;
	char error[256];
	uint8_t *content = calloc(1, bytes);
	struct bench b = {.next_id = 1, .content = bytes_of(content, bytes)};
	b.sync_us = calloc(SYNCS_MAX, sizeof *b.sync_us);
	if (content == NULL || b.sync_us == NULL)
		die("memory", -ENOMEM);
	int err = disk_open_folder(&disk, path, error);
	if (err != 0)
		die(error, err);
	struct spool_config config = {.disk = disk, .segment_bytes = SEGMENT_BYTES};
	err = spool_open(&b.spool, &config, nothing, NULL, error);
	if (err != 0)
		die(error, err);
	static const unsigned batches[] = {1, 16, 256};
	for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
		run(&b, batches[i], seconds);
	spool_close(b.spool);
	disk->list(disk, remove_name, disk);
	disk->remove(disk, "lock");
	disk_close_folder(disk);
	rmdir(path);
	free(b.sync_us);
	free(content);
	return 0;
}
