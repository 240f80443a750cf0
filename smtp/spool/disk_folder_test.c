// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define MAIL_BYTES 5000

/* ---- a folder of its own for each test, gone at the end ---- */

static int make_folder(void **state, const char *name)
{
	char *path = strdup(name);
	*state = path;
	return path == NULL || mkdtemp(path) == NULL ? -1 : 0;
}

static int make_temp(void **state)
{
	return make_folder(state, "/tmp/hikyaku-spool-test.XXXXXX");
}

/* Where the build is: /tmp is often no disk. */
static int make_here(void **state)
{
	return make_folder(state, "hikyaku-spool-test.XXXXXX");
}

static void remove_files(const char *path)
{
	DIR *dir = opendir(path);
	for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
		unlinkat(dirfd(dir), e->d_name, 0);
	if (dir != NULL)
		closedir(dir);
	rmdir(path);
}

static void spool_path(char path[128], void **state)
{
	snprintf(path, 128, "%s/spool", (const char *)*state);
}

static int remove_temp(void **state)
{
	char path[128];
	spool_path(path, state);
	remove_files(path);
	remove_files(*state);
	free(*state);
	return 0;
}

/* ---- mails ---- */

static uint8_t content[MAIL_BYTES];

static struct bytes content_of(uint64_t id)
{
	for (size_t i = 0; i < sizeof content; i++)
		content[i] = (uint8_t)(i * 13 + id * 7 + i / 256);
	return bytes_of(content, sizeof content);
}

static int submit(struct spool *spool, uint64_t id)
{
	struct bytes all = content_of(id);
	struct mail mail = {.id = id, .size = all.n, .envelope_size = 30, .crc = crc32c(0, all)};
	int err = spool_append(spool, id, 0, all);
	if (err == 0)
		err = spool_commit(spool, &mail);
	int synced = err == 0 ? spool_sync(spool) : 0;
	return err != 0 ? err : synced;
}

#define IDS_MAX 100000
static bool is_found[IDS_MAX];
static size_t found_count;

static void found(void *user, const struct spool_found *f)
{
	assert_true(f->id < IDS_MAX && !is_found[f->id]);
	assert_int_equal(f->size, MAIL_BYTES);
	assert_memory_equal(f->envelope.at, content_of(f->id).at, 30);
	is_found[f->id] = true;
	found_count++;
}

static struct spool *open_spool(struct disk *disk, uint64_t segment_bytes)
{
	struct spool_config config = {.disk = disk, .segment_bytes = segment_bytes};
	struct spool *spool;
	char error[256];
	memset(is_found, 0, sizeof is_found);
	found_count = 0;
	assert_int_equal(spool_open(&spool, &config, found, NULL, error), 0);
	assert_string_equal(error, "");
	return spool;
}

static void assert_reads(struct spool *spool, uint64_t id)
{
	uint8_t got[MAIL_BYTES];
	assert_int_equal(spool_read(spool, id, 0, got, sizeof got), MAIL_BYTES);
	assert_memory_equal(got, content_of(id).at, MAIL_BYTES);
}

static struct disk *open_folder(const char *path)
{
	struct disk *disk;
	char error[256];
	int err = disk_open_folder(&disk, path, error);
	if (err != 0)
		fail_msg("%s", error);
	return disk;
}

/* ---- the claims ---- */

static void second_instance_is_kept_out(void **state)
{
	char path[128], error[256];
	spool_path(path, state);
	struct disk *disk = open_folder(path), *second;
	assert_int_equal(disk_open_folder(&second, path, error), -EWOULDBLOCK);
	assert_null(second);
	assert_non_null(strstr(error, "another relay has it"));
	disk_close_folder(disk);
	disk_close_folder(open_folder(path));
	assert_int_equal(disk_open_folder(&second, "/proc/no/such/place", error), -ENOENT);
	assert_non_null(strstr(error, "/proc/no/such/place"));
}

static void mails_are_found_again_in_a_real_folder(void **state)
{
	char path[128];
	spool_path(path, state);
	struct disk *disk = open_folder(path);
	struct spool *spool = open_spool(disk, 32768);
	for (uint64_t id = 1; id <= 100; id++) {
		assert_int_equal(submit(spool, id), 0);
		if (id % 10 != 0)
			assert_int_equal(spool_done(spool, id), 0);
	}
	assert_int_equal(spool_sync(spool), 0);
	for (int again = 0; again < 3; again++) {
		spool_close(spool);
		disk_close_folder(disk);
		disk = open_folder(path);
		spool = open_spool(disk, 32768);
		assert_int_equal(found_count, 10);
		for (uint64_t id = 10; id <= 100; id += 10)
			assert_reads(spool, id);
	}
	struct spool_stats stats;
	spool_get_stats(spool, &stats);
	assert_true(stats.segments < 16);
	spool_close(spool);
	disk_close_folder(disk);
}

static void disk_answers_as_promised(void **state)
{
	char path[128];
	spool_path(path, state);
	struct disk *d = open_folder(path);
	struct bytes parts[100];
	uint8_t b[300];
	for (int i = 0; i < 100; i++)
		parts[i] = i % 3 == 0 ? BYTES_NONE : BYTES_LITERAL("abc");
	int h = d->create(d, "x");
	assert_true(h >= 0);
	assert_int_equal(d->create(d, "x"), -EEXIST);
	assert_int_equal(d->open(d, "y"), -ENOENT);
	assert_int_equal(d->write(d, h, 5, parts, 100), 198);
	assert_int_equal(d->size(d, h), 203);
	assert_int_equal(d->read(d, h, 0, b, sizeof b), 203);
	assert_memory_equal(b, "\0\0\0\0\0abcabc", 11);
	assert_int_equal(d->read(d, h, 203, b, sizeof b), 0);
	assert_int_equal(d->sync(d, h), 0);
	assert_int_equal(d->sync_dir(d), 0);
	assert_int_equal(d->close(d, h), 0);
	assert_int_equal(d->remove(d, "x"), 0);
	assert_int_equal(d->remove(d, "x"), -ENOENT);
	disk_close_folder(d);
}

/* Past the page cache, where the file system can, and over what was read through it. */
static void blocks_are_read_as_they_were_written_last(void **state)
{
	enum { BLOCK = 4096, BLOCKS = 9 };
	char path[128];
	spool_path(path, state);
	struct disk *d = open_folder(path);
	uint8_t *b = aligned_alloc(BLOCK, BLOCK), *got = malloc(BLOCKS * BLOCK);
	int h = d->create(d, "x");
	assert_int_equal(d->allocate(d, h, 64 * BLOCK), 0);
	for (int round = 1; round < 40; round++) {
		int at = round * 5 % BLOCKS;
		memset(b, round, BLOCK);
		struct bytes part = bytes_of(b, BLOCK);
		assert_int_equal(d->write(d, h, (uint64_t)at * BLOCK, &part, 1), BLOCK);
		part.n = 100; /* no block: goes another way, and so does all that follows */
		if (round > 20)
			assert_int_equal(d->write(d, h, (uint64_t)at * BLOCK + 7, &part, 1), 100);
		assert_int_equal(d->sync(d, h), 0);
		int64_t n = d->read(d, h, 0, got, BLOCKS * BLOCK);
		assert_true(n >= (at + 1) * BLOCK);
		assert_memory_equal(got + at * BLOCK, b, BLOCK);
	}
	assert_int_equal(d->close(d, h), 0);
	free(b);
	free(got);
	disk_close_folder(d);
}

/* Accepts until refused; everything accepted is there afterwards, and it goes on when there is
 * room. */
static void fill_up(const char *path, void (*make_room)(void))
{
	struct disk *disk = open_folder(path);
	struct spool *spool = open_spool(disk, 65536);
	uint64_t id = 1;
	int err;
	while ((err = submit(spool, id)) == 0 && id < 2000)
		id++;
	assert_int_equal(err, -ENOSPC);
	assert_true(id > 5);
	make_room();
	assert_int_equal(submit(spool, id + 1), 0);
	spool_close(spool);
	spool = open_spool(disk, 65536);
	assert_int_equal(found_count, id); /* 1 .. id - 1, and id + 1 */
	for (uint64_t i = 1; i <= id + 1; i++)
		if (i != id)
			assert_reads(spool, i);
	spool_close(spool);
	disk_close_folder(disk);
}

static void lift_file_limit(void)
{
	struct rlimit limit;
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void file_size_limit_is_a_full_disk(void **state)
{
	char path[128];
	struct rlimit limit;
	spool_path(path, state);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = 60000; /* less than a segment */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	struct disk *disk = open_folder(path);
	struct spool *spool = open_spool(disk, 65536);
	assert_int_equal(submit(spool, 1), -ENOSPC);
	lift_file_limit();
	assert_int_equal(submit(spool, 2), 0);
	spool_close(spool);
	spool = open_spool(disk, 65536);
	assert_int_equal(found_count, 1);
	spool_close(spool);
	disk_close_folder(disk);
}

static char small_disk[128];

static void grow_small_disk(void)
{
	assert_int_equal(mount("none", small_disk, NULL, MS_REMOUNT, "size=4m"), 0);
}

/* A file system of one megabyte, in a mount namespace that goes with the child. */
static void full_file_system_refuses_and_loses_nothing(void **state)
{
	char path[192];
	snprintf(small_disk, sizeof small_disk, "%s", (const char *)*state);
	pid_t child = fork();
	if (child == 0) {
		if (unshare(CLONE_NEWNS) != 0 ||
			mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
			mount("none", small_disk, "tmpfs", 0, "size=1m") != 0)
			_exit(77);
		snprintf(path, sizeof path, "%s/spool", small_disk);
		fill_up(path, grow_small_disk); /* exits if an assertion fails */
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- killed while it works ---- */

/* Accepts mails from `first` on and says each id on `out` when it is durable, until killed. */
static void accept_for_ever(const char *path, uint64_t first, int out)
{
	struct disk *disk = open_folder(path);
	struct spool *spool = open_spool(disk, 65536);
	for (uint64_t id = first;; id++) {
		if (submit(spool, id) != 0 || write(out, &id, sizeof id) != sizeof id)
			_exit(1);
	}
}

static uint64_t kill_after(const char *path, uint64_t first, unsigned mails)
{
	int fds[2];
	uint64_t id, last = first - 1;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t child = fork();
	if (child == 0)
		accept_for_ever(path, first, fds[1]);
	close(fds[1]);
	for (unsigned i = 0; i < mails; i++) {
		assert_int_equal(read(fds[0], &id, sizeof id), sizeof id);
		last = id;
	}
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	while (read(fds[0], &id, sizeof id) == sizeof id)
		last = id;
	close(fds[0]);
	return last;
}

static void killed_process_loses_nothing_it_acknowledged(void **state)
{
	char path[128];
	uint64_t last = 0;
	spool_path(path, state);
	for (unsigned round = 1; round <= 10; round++) {
		uint64_t acknowledged = kill_after(path, last + 1, round * 3);
		struct disk *disk = open_folder(path);
		struct spool *spool = open_spool(disk, 65536);
		for (uint64_t id = 1; id <= acknowledged; id++)
			assert_true(is_found[id]);
		assert_true(found_count <= acknowledged + round); /* one in flight, each time */
		last = spool_highest_id(spool);
		for (uint64_t id = acknowledged + 1; id <= last; id++)
			if (is_found[id])
				assert_reads(spool, id);
		/* What was in flight need not be there; the ids that follow assume it is. */
		for (uint64_t id = acknowledged + 1; id <= last; id++)
			if (!is_found[id])
				assert_int_equal(submit(spool, id), 0);
		spool_close(spool);
		disk_close_folder(disk);
	}
}

int main(void)
{
#define in_temp(f) cmocka_unit_test_setup_teardown(f, make_temp, remove_temp)
	const struct CMUnitTest tests[] = {
		in_temp(second_instance_is_kept_out),
		in_temp(mails_are_found_again_in_a_real_folder),
		in_temp(disk_answers_as_promised),
		cmocka_unit_test_setup_teardown(
			blocks_are_read_as_they_were_written_last, make_here, remove_temp),
		cmocka_unit_test_setup_teardown(
			mails_are_found_again_in_a_real_folder, make_here, remove_temp),
		in_temp(file_size_limit_is_a_full_disk),
		in_temp(full_file_system_refuses_and_loses_nothing),
		in_temp(killed_process_loses_nothing_it_acknowledged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
