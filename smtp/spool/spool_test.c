// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/spool.h"

#include "smtp/spool/disk_sim.h"
#include "smtp/spool/record.h"
#include "smtp/spool/spool_private.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define CONTENT_MAX (300 * 1024)
static uint8_t content[CONTENT_MAX];

/* The bytes of mail `id`: those of any two mails differ. */
static struct bytes content_of(uint64_t id, size_t n)
{
	for (size_t i = 0; i < n; i++)
		content[i] = (uint8_t)((i * 7 + i / 250) ^ id * 37);
	return bytes_of(content, n);
}

/* ---- a spool on a simulated disk, and what its recovery found ---- */

struct found {
	uint64_t id, size;
	uint32_t envelope_size;
	uint8_t envelope[256], state[256];
	size_t state_n;
};

struct world {
	struct disk *disk;
	struct spool *spool;
	struct spool_config config;
	struct found found[64];
	size_t found_count;
	uint64_t files_bytes;
	char error[256];
};

static void remember(void *user, const struct spool_found *f)
{
	struct world *w = user;
	struct found *to = &w->found[w->found_count++];
	assert_true(w->found_count <= 64);
	assert_true(f->envelope.n == f->envelope_size && f->envelope.n <= sizeof to->envelope);
	assert_true(f->state.n <= sizeof to->state);
	*to = (struct found){.id = f->id, .size = f->size, .envelope_size = f->envelope_size};
	memcpy(to->envelope, f->envelope.at, f->envelope.n);
	memcpy(to->state, f->state.at, f->state.n);
	to->state_n = f->state.n;
}

static void world_open(struct world *w)
{
	w->found_count = 0;
	w->config.disk = w->disk;
	assert_int_equal(spool_open(&w->spool, &w->config, remember, w, w->error), 0);
}

static struct world *world_make(uint64_t segment_bytes)
{
	struct world *w = calloc(1, sizeof *w);
	w->disk = disk_sim_create();
	w->config.segment_bytes = segment_bytes;
	world_open(w);
	return w;
}

static void world_crash(struct world *w, uint64_t seed)
{
	struct disk *image = disk_sim_crash(w->disk, seed);
	spool_close(w->spool);
	disk_sim_destroy(w->disk);
	w->disk = image;
	world_open(w);
}

static void world_end(struct world *w)
{
	spool_close(w->spool);
	disk_sim_destroy(w->disk);
	free(w);
}

static const struct found *world_find(const struct world *w, uint64_t id)
{
	for (size_t i = 0; i < w->found_count; i++)
		if (w->found[i].id == id)
			return &w->found[i];
	return NULL;
}

/* Appends in pieces as chunks would come, and commits. */
static int submit(struct world *w, uint64_t id, size_t n)
{
	struct bytes all = content_of(id, n);
	struct mail mail = {.id = id, .size = n, .crc = crc32c(0, all)};
	mail.envelope_size = n < 40 ? (uint32_t)n : 40;
	for (size_t at = 0; at < n; at += MAIL_CHUNK_DATA) {
		struct bytes part = bytes_first(bytes_skip(all, at), MAIL_CHUNK_DATA);
		int err = spool_append(w->spool, id, at, part);
		if (err != 0)
			return err;
	}
	return spool_commit(w->spool, &mail);
}

static void assert_reads(struct world *w, uint64_t id, size_t n)
{
	static uint8_t got[CONTENT_MAX];
	struct bytes want = content_of(id, n);
	assert_int_equal(spool_read(w->spool, id, 0, got, sizeof got), n);
	assert_memory_equal(got, want.at, n);
	for (size_t at = 0; at < n; at += n / 7 + 1) {
		int64_t some = spool_read(w->spool, id, at, got, 100);
		assert_int_equal(some, n - at < 100 ? n - at : 100);
		assert_memory_equal(got, want.at + at, (size_t)some);
	}
	assert_int_equal(spool_read(w->spool, id, n, got, 10), 0);
}

static struct spool_stats stats_of(const struct world *w)
{
	struct spool_stats stats;
	spool_get_stats(w->spool, &stats);
	return stats;
}

/* ---- the claims ---- */

static void synced_mails_are_found_whole_after_a_crash(void **state)
{
	static const size_t sizes[] = {0, 1, 7, 8, 40, 512, 4096, 8160, 8161, 70000, 250000};
	struct world *w = world_make(1 << 20);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		assert_int_equal(submit(w, i + 1, sizes[i]), 0);
	assert_true(spool_has_batch(w->spool));
	assert_int_equal(spool_sync(w->spool), 0);
	assert_false(spool_has_batch(w->spool));
	for (uint64_t seed = 0; seed < 5; seed++) {
		world_crash(w, seed);
		assert_string_equal(w->error, "");
		assert_int_equal(w->found_count, sizeof sizes / sizeof sizes[0]);
		for (size_t i = 0; i < w->found_count; i++) {
			const struct found *f = world_find(w, i + 1);
			assert_int_equal(f->size, sizes[i]);
			assert_int_equal(f->envelope_size, sizes[i] < 40 ? sizes[i] : 40);
			assert_memory_equal(
				f->envelope, content_of(i + 1, 40).at, f->envelope_size);
			assert_reads(w, i + 1, sizes[i]);
		}
		assert_int_equal(spool_highest_id(w->spool), w->found_count);
	}
	world_end(w);
}

static void one_batch_is_one_write_and_one_sync(void **state)
{
	struct world *w = world_make(1 << 20);
	uint64_t calls = disk_sim_calls(w->disk);
	for (uint64_t id = 1; id <= 50; id++)
		assert_int_equal(submit(w, id, 4096), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	assert_int_equal(disk_sim_calls(w->disk) - calls, 2);
	assert_int_equal(stats_of(w).syncs, 1);
	assert_int_equal(stats_of(w).mails_live, 50);
	world_end(w);
}

static int64_t (*write_of_sim)(struct disk *, int, uint64_t, const struct bytes *, unsigned);

static int64_t write_whole_blocks(
	struct disk *d, int handle, uint64_t offset, const struct bytes *parts, unsigned count)
{
	assert_int_equal(count, 1);
	assert_int_equal(offset % SPOOL_BLOCK_BYTES, 0);
	assert_int_equal(parts[0].n % SPOOL_BLOCK_BYTES, 0);
	assert_int_equal((uintptr_t)parts[0].at % SPOOL_BLOCK_BYTES, 0);
	return write_of_sim(d, handle, offset, parts, count);
}

/* As a disk wants them that is written past the page cache; whatever the batches, over several segments. */
static void disk_is_given_whole_blocks(void **state)
{
	struct world *w = world_make(100000);
	uint64_t id = 0;
	write_of_sim = w->disk->write;
	w->disk->write = write_whole_blocks;
	for (size_t n = 1; n < 9000; n += 97 + n / 3) {
		assert_int_equal(submit(w, ++id, n), 0);
		if (id % 3 != 0)
			assert_int_equal(spool_sync(w->spool), 0);
	}
	/* More than the buffer holds. */
	for (uint64_t offset = 0; offset < 2 * SPOOL_BUFFER_BYTES; offset += 64000)
		assert_int_equal(spool_append(w->spool, 1000, offset, content_of(9, 64000)), 0);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(submit(w, ++id, 5000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
	}
	assert_true(stats_of(w).segments > 1);
	spool_close(w->spool);
	w->disk->write = write_of_sim;
	world_open(w);
	assert_int_equal(w->found_count, id);
	world_end(w);
}

/* What fills up the last block is neither a tear nor damage. */
static void padding_is_no_hole(void **state)
{
	struct world *w = world_make(16384);
	for (uint64_t id = 1; id <= 30; id++) {
		assert_int_equal(submit(w, id, 100 * id), 0);
		assert_int_equal(spool_sync(w->spool), 0);
		spool_close(w->spool);
		world_open(w);
		assert_int_equal(w->found_count, id);
		assert_int_equal(stats_of(w).torn_bytes + stats_of(w).damaged_bytes, 0);
	}
	world_end(w);
}

static void interleaved_mails_come_apart_again(void **state)
{
	struct world *w = world_make(1 << 20);
	for (size_t at = 0; at < 5000; at += 500)
		for (uint64_t id = 1; id <= 4; id++)
			assert_int_equal(
				spool_append(w->spool, id, at,
					bytes_first(bytes_skip(content_of(id, 5000), at), 500)),
				0);
	for (uint64_t id = 1; id <= 4; id++) {
		struct mail mail = {.id = id, .size = 5000, .crc = crc32c(0, content_of(id, 5000))};
		if (id == 3)
			assert_int_equal(spool_abort(w->spool, id), 0);
		else
			assert_int_equal(spool_commit(w->spool, &mail), 0);
	}
	assert_int_equal(spool_sync(w->spool), 0);
	world_crash(w, 1);
	assert_int_equal(w->found_count, 3);
	assert_null(world_find(w, 3));
	assert_reads(w, 1, 5000);
	assert_reads(w, 2, 5000);
	assert_reads(w, 4, 5000);
	world_end(w);
}

static void mail_without_a_commit_is_never_found(void **state)
{
	struct world *w = world_make(1 << 20);
	assert_int_equal(spool_append(w->spool, 1, 0, content_of(1, 3000)), 0);
	assert_int_equal(submit(w, 2, 100), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	world_crash(w, 1);
	assert_int_equal(w->found_count, 1);
	assert_null(world_find(w, 1));
	/* And its room is free again. */
	assert_int_equal(spool_done(w->spool, 2), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	assert_int_equal(stats_of(w).segments, 1);
	world_end(w);
}

static void commit_of_other_bytes_is_refused(void **state)
{
	struct world *w = world_make(1 << 20);
	struct mail mail = {.id = 1, .size = 1000, .crc = 0x12345678};
	assert_int_equal(spool_append(w->spool, 1, 0, content_of(1, 1000)), 0);
	assert_int_equal(spool_commit(w->spool, &mail), -EBADMSG);
	assert_int_equal(spool_append(w->spool, 1, 500, content_of(1, 10)), -EIO);
	assert_int_equal(spool_append(w->spool, 2, 0, content_of(2, 100)), 0);
	assert_int_equal(spool_append(w->spool, 2, 101, content_of(2, 100)), -EINVAL);
	mail = (struct mail){.id = 2, .size = 100, .crc = crc32c(0, content_of(2, 100))};
	assert_int_equal(spool_commit(w->spool, &mail), -EIO);
	world_end(w);
}

static void latest_state_is_found_and_done_mails_are_not(void **state)
{
	struct world *w = world_make(1 << 20);
	for (uint64_t id = 1; id <= 3; id++)
		assert_int_equal(submit(w, id, 1000), 0);
	assert_int_equal(spool_put_state(w->spool, 1, BYTES_LITERAL("too early")), -ENOENT);
	assert_int_equal(spool_done(w->spool, 1), -ENOENT);
	assert_int_equal(spool_sync(w->spool), 0);
	assert_int_equal(spool_put_state(w->spool, 1, BYTES_LITERAL("first")), 0);
	assert_int_equal(spool_put_state(w->spool, 1, BYTES_LITERAL("second")), 0);
	assert_int_equal(spool_done(w->spool, 2), 0);
	assert_int_equal(spool_done(w->spool, 2), -ENOENT);
	assert_int_equal(spool_put_state(w->spool, 2, BYTES_LITERAL("late")), -ENOENT);
	assert_int_equal(spool_put_state(w->spool, 3, bytes_of(content, SPOOL_STATE_BYTES_MAX + 1)),
		-EMSGSIZE);
	assert_int_equal(spool_sync(w->spool), 0);
	assert_int_equal(stats_of(w).mails_live, 2);
	world_crash(w, 1);
	assert_int_equal(w->found_count, 2);
	const struct found *f = world_find(w, 1);
	assert_true(bytes_equal(bytes_of(f->state, f->state_n), BYTES_LITERAL("second")));
	assert_int_equal(world_find(w, 3)->state_n, 0);
	assert_int_equal(stats_of(w).mails_live, 2);
	world_end(w);
}

static void log_turns_and_old_segments_go(void **state)
{
	struct world *w = world_make(16384);
	for (uint64_t id = 1; id <= 200; id++) {
		assert_int_equal(submit(w, id, 3000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
		if (id > 3)
			assert_int_equal(spool_done(w->spool, id - 3), 0);
	}
	assert_int_equal(spool_sync(w->spool), 0);
	struct spool_stats stats = stats_of(w);
	assert_true(stats.segments <= 4);
	assert_true(stats.segments_freed > 20);
	assert_true(stats.bytes < 5 * 16384);
	assert_int_equal(stats.mails_live, 3);
	world_crash(w, 3);
	assert_int_equal(w->found_count, 3);
	assert_int_equal(stats_of(w).mails_live, 3);
	world_end(w);
}

static void old_mail_is_moved_and_does_not_hold_up_the_log(void **state)
{
	struct world *w = world_make(16384);
	assert_int_equal(submit(w, 1, 100000), 0);
	assert_int_equal(submit(w, 2, 0), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	assert_int_equal(spool_put_state(w->spool, 1, BYTES_LITERAL("kept")), 0);
	for (uint64_t id = 10; id <= 500; id++) {
		assert_int_equal(submit(w, id, 3000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
		assert_int_equal(spool_done(w->spool, id), 0);
	}
	assert_int_equal(spool_sync(w->spool), 0);
	struct spool_stats stats = stats_of(w);
	assert_true(stats.mails_moved >= 4);
	assert_true(stats.bytes < 2 * 100000 + 8 * 16384);
	assert_reads(w, 1, 100000);
	for (uint64_t seed = 0; seed < 5; seed++) {
		world_crash(w, seed);
		assert_string_equal(w->error, "");
		assert_int_equal(w->found_count, 2);
		const struct found *f = world_find(w, 1);
		assert_true(bytes_equal(bytes_of(f->state, f->state_n), BYTES_LITERAL("kept")));
		assert_int_equal(world_find(w, 2)->size, 0);
		assert_reads(w, 1, 100000);
	}
	world_end(w);
}

/* A move takes several syncs; the end comes between two of them. */
static void mail_done_while_it_is_moved_stays_done(void **state)
{
	struct world *w = world_make(16384);
	uint64_t id = 10;
	assert_int_equal(submit(w, 1, CONTENT_MAX), 0);
	assert_int_equal(submit(w, 2, CONTENT_MAX), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	uint64_t before;
	do { /* until more is appended than the mails given: a move has begun */
		before = stats_of(w).appended_bytes + 3000 * 2;
		assert_int_equal(submit(w, id, 3000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
		assert_int_equal(spool_done(w->spool, id), 0);
		assert_true(id++ < 1000);
	} while (stats_of(w).appended_bytes < before);
	assert_int_equal(stats_of(w).mails_moved, 0);
	assert_int_equal(spool_done(w->spool, 1), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(spool_sync(w->spool), 0);
	world_crash(w, 1);
	assert_null(world_find(w, 1));
	assert_reads(w, 2, CONTENT_MAX);
	world_end(w);
}

static void many_restarts_leave_few_segments(void **state)
{
	struct world *w = world_make(16384);
	assert_int_equal(submit(w, 1, 1000), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	for (uint64_t i = 0; i < 100; i++) {
		world_crash(w, i);
		assert_int_equal(submit(w, 100 + i, 10), 0);
		assert_int_equal(spool_sync(w->spool), 0);
		assert_int_equal(spool_done(w->spool, 100 + i), 0);
		assert_int_equal(spool_sync(w->spool), 0);
	}
	assert_true(stats_of(w).segments < 20);
	assert_reads(w, 1, 1000);
	world_end(w);
}

static void limit_refuses_mails_but_not_their_ends(void **state)
{
	struct world *w = world_make(16384);
	uint64_t id = 1;
	int err;
	w->config.disk_bytes_max = 100000;
	world_crash(w, 1);
	while ((err = submit(w, id, 3000)) == 0 && id < 60) {
		assert_int_equal(spool_sync(w->spool), 0);
		id++;
	}
	assert_int_equal(err, -ENOSPC);
	assert_true(id > 25 && id < 40);
	assert_true(stats_of(w).bytes <= 100000 + 3000);
	for (uint64_t done = 1; done < id; done++)
		assert_int_equal(spool_done(w->spool, done), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(spool_sync(w->spool), 0);
	assert_int_equal(submit(w, id, 3000), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	world_end(w);
}

static void full_disk_refuses_mails_and_recovers_when_there_is_room(void **state)
{
	struct world *w = world_make(16384);
	uint64_t id = 1;
	int err = 0;
	disk_sim_limit(w->disk, 100000);
	while (id < 60) {
		err = submit(w, id, 3000);
		if (err == 0)
			err = spool_sync(w->spool);
		if (err != 0)
			break;
		id++;
	}
	assert_int_equal(err, -ENOSPC);
	assert_true(id > 15);
	for (uint64_t done = 1; done < id; done++) {
		assert_int_equal(spool_done(w->spool, done), 0);
		assert_int_equal(spool_sync(w->spool), 0);
	}
	assert_false(spool_has_batch(w->spool));
	assert_int_equal(submit(w, id + 1, 3000), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	world_crash(w, 9);
	assert_int_equal(w->found_count, 1);
	assert_non_null(world_find(w, id + 1));
	world_end(w);
}

static void add_size(void *user, const char *name)
{
	struct world *w = user;
	size_t n;
	disk_sim_bytes(w->disk, name, &n);
	w->files_bytes += n;
}

/* Of whole blocks, so more than the records take. */
static uint64_t bytes_of_files(struct world *w)
{
	w->files_bytes = 0;
	w->disk->list(w->disk, add_size, w);
	return w->files_bytes;
}

/* The disk is as full after a crash as before: what is delivered then must make room all the same. */
static void full_disk_is_emptied_by_deliveries_after_a_crash(void **state)
{
	struct world *w = world_make(16384);
	uint64_t id = 1;
	while (id < 30) {
		assert_int_equal(submit(w, id, 3000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
		id++;
	}
	struct disk *image = disk_sim_crash(w->disk, 3);
	spool_close(w->spool);
	disk_sim_destroy(w->disk);
	w->disk = image;
	disk_sim_limit(w->disk, bytes_of_files(w) + SIM_SECTOR_BYTES * 20);
	world_open(w);
	assert_int_equal(w->found_count, id - 1);
	assert_int_equal(submit(w, 100, 3000), -ENOSPC);
	for (uint64_t done = 1; done < id; done++)
		assert_int_equal(spool_done(w->spool, done), 0);
	for (int i = 0; i < 20 && spool_has_batch(w->spool); i++)
		spool_sync(w->spool);
	assert_false(spool_has_batch(w->spool));
	assert_int_equal(submit(w, 101, 3000), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	world_crash(w, 9);
	assert_int_equal(w->found_count, 1);
	assert_non_null(world_find(w, 101));
	world_end(w);
}

/* What a failed batch held: the commit is reported failed and gone for good; state and done are
 * kept. */
static void failed_batch_drops_commits_and_keeps_states_and_dones(int call)
{
	struct world *w = world_make(1 << 20);
	for (uint64_t id = 1; id <= 2; id++)
		assert_int_equal(submit(w, id, 1000), 0);
	assert_int_equal(spool_append(w->spool, 8, 0, content_of(8, 2000)), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	assert_int_equal(submit(w, 3, 1000), 0);
	assert_int_equal(spool_append(w->spool, 9, 0, content_of(9, 1000)), 0);
	assert_int_equal(spool_put_state(w->spool, 1, BYTES_LITERAL("new")), 0);
	assert_int_equal(spool_done(w->spool, 2), 0);
	disk_sim_fail(w->disk, (uint64_t)call, 1, -EIO);
	assert_int_equal(spool_sync(w->spool), -EIO);
	assert_false(spool_has_batch(w->spool));
	/* Mail 8 has lost nothing; mail 9 has. */
	struct mail mail = {.id = 8, .size = 2000, .crc = crc32c(0, content_of(8, 2000))};
	assert_int_equal(spool_commit(w->spool, &mail), 0);
	mail = (struct mail){.id = 9, .size = 1000, .crc = crc32c(0, content_of(9, 1000))};
	assert_int_equal(spool_commit(w->spool, &mail), -EIO);
	assert_int_equal(spool_sync(w->spool), 0);
	for (uint64_t seed = 0; seed < 20; seed++) {
		world_crash(w, seed);
		assert_int_equal(w->found_count, 2);
		const struct found *f = world_find(w, 1);
		assert_true(bytes_equal(bytes_of(f->state, f->state_n), BYTES_LITERAL("new")));
		assert_reads(w, 8, 2000);
	}
	world_end(w);
}

static void failed_write_is_handled(void **state)
{
	failed_batch_drops_commits_and_keeps_states_and_dones(1);
}

static void failed_sync_is_handled(void **state)
{
	failed_batch_drops_commits_and_keeps_states_and_dones(2);
}

static void states_and_dones_wait_while_the_disk_is_broken(void **state)
{
	struct world *w = world_make(1 << 20);
	for (uint64_t id = 1; id <= 2; id++)
		assert_int_equal(submit(w, id, 1000), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	disk_sim_fail(w->disk, 1, 1000, -EIO);
	assert_int_equal(spool_put_state(w->spool, 1, BYTES_LITERAL("a")), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(spool_sync(w->spool), -EIO);
		assert_true(spool_has_batch(w->spool));
	}
	assert_int_equal(spool_put_state(w->spool, 1, BYTES_LITERAL("b")), 0);
	assert_int_equal(spool_done(w->spool, 2), 0);
	assert_int_equal(submit(w, 3, 1000), -EIO);
	assert_int_equal(spool_sync(w->spool), -EIO);
	disk_sim_fail(w->disk, 0, 0, 0);
	assert_int_equal(spool_sync(w->spool), 0);
	assert_false(spool_has_batch(w->spool));
	world_crash(w, 5);
	assert_int_equal(w->found_count, 1);
	assert_int_equal(world_find(w, 1)->state[0], 'b');
	world_end(w);
}

static uint8_t *byte_at(struct world *w, uint64_t sequence, size_t at)
{
	char name[SEGMENT_NAME_MAX];
	size_t n;
	uint8_t *b = disk_sim_bytes(w->disk, spool_segment_name(sequence, name), &n);
	assert_non_null(b);
	assert_true(at < n);
	return b + at;
}

/* One byte wrong in one of five mails, at every kind of place: four are found, and the damage is
 * told. */
static void damage_costs_only_what_it_covers(void **state)
{
	uint64_t bytes = spool_record_bytes(1000) + spool_record_bytes(4); /* of one mail */
	for (uint64_t at = 0; at < bytes; at += at < 48 || at > bytes - 56 ? 1 : 37) {
		bool is_padding = at >= bytes - 4;
		struct world *w = world_make(1 << 20);
		for (uint64_t id = 1; id <= 5; id++)
			assert_int_equal(submit(w, id, 1000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
		world_crash(w, 1); /* a second segment says where the first ends */
		struct disk *image = disk_sim_restart(w->disk);
		spool_close(w->spool);
		disk_sim_destroy(w->disk);
		w->disk = image;
		*byte_at(w, 1, SEGMENT_HEADER_BYTES + 2 * bytes + at) ^= 0x40;
		world_open(w);
		assert_int_equal(w->found_count, is_padding ? 5 : 4);
		if (!is_padding) {
			assert_null(world_find(w, 3));
			assert_true(stats_of(w).damaged_bytes != 0);
			assert_string_not_equal(w->error, "");
		}
		assert_reads(w, 2, 1000);
		assert_reads(w, 4, 1000);
		world_end(w);
	}
}

/* A disk that had promised to have written a block anew, and has it as it was before: then there are zeros where the
 * last mail was. */
static void last_write_that_was_lost_is_told(void **state)
{
	uint64_t bytes = spool_record_bytes(1000) + spool_record_bytes(4); /* of one mail */
	struct world *w = world_make(1 << 20);
	for (uint64_t id = 1; id <= 2; id++) {
		assert_int_equal(submit(w, id, 1000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
	}
	spool_close(w->spool);
	world_open(w); /* a second segment says where the first ends */
	assert_int_equal(w->found_count, 2);
	spool_close(w->spool);
	memset(byte_at(w, 1, SEGMENT_HEADER_BYTES + bytes), 0, bytes);
	world_open(w);
	assert_int_equal(w->found_count, 1);
	assert_reads(w, 1, 1000);
	assert_int_equal(stats_of(w).damaged_bytes, bytes);
	assert_string_not_equal(w->error, "");
	world_end(w);
}

static void lost_segment_header_costs_nothing(void **state)
{
	struct world *w = world_make(4096);
	for (uint64_t id = 1; id <= 4; id++) {
		assert_int_equal(submit(w, id, 5000), 0);
		assert_int_equal(spool_sync(w->spool), 0);
	}
	*byte_at(w, 2, 3) ^= 1;
	spool_close(w->spool);
	world_open(w);
	assert_int_equal(w->found_count, 4);
	world_end(w);
}

static void bad_body_on_the_disk_is_not_handed_out(void **state)
{
	struct world *w = world_make(1 << 20);
	uint8_t to[100];
	assert_int_equal(submit(w, 1, 1000), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	*byte_at(w, 1, SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 500) ^= 1;
	assert_int_equal(spool_read(w->spool, 1, 0, to, sizeof to), -EBADMSG);
	assert_int_equal(spool_read(w->spool, 2, 0, to, sizeof to), -ENOENT);
	world_end(w);
}

/* Records of a kind that a later version writes are passed over. */
static void unknown_kinds_are_skipped(void **state)
{
	struct world *w = world_make(1 << 20);
	char name[SEGMENT_NAME_MAX];
	size_t n;
	assert_int_equal(submit(w, 1, 1000), 0);
	assert_int_equal(submit(w, 2, 1000), 0);
	assert_int_equal(spool_sync(w->spool), 0);
	spool_close(w->spool);
	uint8_t *b = disk_sim_bytes(w->disk, spool_segment_name(1, name), &n);
	struct segment_header header;
	assert_true(spool_segment_header_read(bytes_of(b, n), &header));
	struct record_header h = {.kind = 77, .mail_id = 3};
	spool_record_write(&h, content_of(9, 1000), spool_record_seed_of(header.spool_id, 1),
		SEGMENT_HEADER_BYTES, b + SEGMENT_HEADER_BYTES);
	world_open(w);
	assert_int_equal(w->found_count, 1);
	assert_non_null(world_find(w, 2));
	assert_int_equal(stats_of(w).torn_bytes, 0);
	assert_int_equal(spool_highest_id(w->spool), 3);
	world_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(synced_mails_are_found_whole_after_a_crash),
		cmocka_unit_test(one_batch_is_one_write_and_one_sync),
		cmocka_unit_test(disk_is_given_whole_blocks),
		cmocka_unit_test(padding_is_no_hole),
		cmocka_unit_test(interleaved_mails_come_apart_again),
		cmocka_unit_test(mail_without_a_commit_is_never_found),
		cmocka_unit_test(commit_of_other_bytes_is_refused),
		cmocka_unit_test(latest_state_is_found_and_done_mails_are_not),
		cmocka_unit_test(log_turns_and_old_segments_go),
		cmocka_unit_test(old_mail_is_moved_and_does_not_hold_up_the_log),
		cmocka_unit_test(mail_done_while_it_is_moved_stays_done),
		cmocka_unit_test(many_restarts_leave_few_segments),
		cmocka_unit_test(limit_refuses_mails_but_not_their_ends),
		cmocka_unit_test(full_disk_refuses_mails_and_recovers_when_there_is_room),
		cmocka_unit_test(full_disk_is_emptied_by_deliveries_after_a_crash),
		cmocka_unit_test(failed_write_is_handled),
		cmocka_unit_test(failed_sync_is_handled),
		cmocka_unit_test(states_and_dones_wait_while_the_disk_is_broken),
		cmocka_unit_test(damage_costs_only_what_it_covers),
		cmocka_unit_test(last_write_that_was_lost_is_told),
		cmocka_unit_test(lost_segment_header_costs_nothing),
		cmocka_unit_test(bad_body_on_the_disk_is_not_handed_out),
		cmocka_unit_test(unknown_kinds_are_skipped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
