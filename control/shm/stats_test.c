// SPDX-License-Identifier: Apache-2.0
#include "control/shm/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void a_reader_sees_what_the_writer_counts(void **state)
{
	struct stats_region *writer;
	const struct stats_region *reader;
	struct stats_sample sample;
	int fd = stats_create(&writer);
	assert_true(fd >= 0);
	assert_int_equal(stats_map(fd, &reader), 0);
	assert_false(stats_read(reader, 0, &sample));
	_Atomic uint64_t *in = stats_add(writer, "hikyaku_in", "core=\"0\"", "Segments.", false);
	_Atomic uint64_t *open = stats_add(writer, "hikyaku_open", "", "Connections.", true);
	atomic_fetch_add(in, 7);
	atomic_store(open, UINT64_MAX);
	stats_touch(writer);
	assert_true(stats_read(reader, 0, &sample));
	assert_string_equal(sample.name, "hikyaku_in");
	assert_string_equal(sample.label, "core=\"0\"");
	assert_string_equal(sample.help, "Segments.");
	assert_false(sample.is_gauge);
	assert_int_equal(sample.value, 7);
	assert_true(stats_read(reader, 1, &sample));
	assert_string_equal(sample.name, "hikyaku_open");
	assert_string_equal(sample.label, "");
	assert_true(sample.is_gauge);
	assert_true(sample.value == UINT64_MAX);
	assert_false(stats_read(reader, 2, &sample));
	assert_true(reader->started_us != 0 && reader->updated_us >= reader->started_us);
	stats_unmap(reader);
	stats_destroy(writer);
	close(fd);
}

static void a_series_is_added_once(void **state)
{
	struct stats_region *writer;
	char longer[200];
	int fd = stats_create(&writer);
	_Atomic uint64_t *a = stats_add(writer, "a", "x=\"1\"", "", false);
	assert_ptr_not_equal(stats_add(writer, "a", "x=\"2\"", "", false), a);
	assert_ptr_equal(stats_add(writer, "a", "x=\"1\"", "", false), a);
	memset(longer, 'n', sizeof longer);
	longer[sizeof longer - 1] = '\0';
	_Atomic uint64_t *b = stats_add(writer, longer, longer, longer, false);
	assert_ptr_equal(stats_add(writer, longer, longer, longer, false), b);
	assert_int_equal(writer->count, 3);
	stats_destroy(writer);
	close(fd);
}

static void a_full_region_says_so(void **state)
{
	struct stats_region *writer;
	char name[32];
	int fd = stats_create(&writer);
	for (int i = 0; i < STATS_SERIES_MAX; i++) {
		snprintf(name, sizeof name, "s%d", i);
		assert_non_null(stats_add(writer, name, "", "", false));
	}
	assert_null(stats_add(writer, "one more", "", "", false));
	assert_non_null(stats_add(writer, "s5", "", "", false));
	stats_destroy(writer);
	close(fd);
}

static void nobody_else_can_write_or_shrink(void **state)
{
	struct stats_region *writer;
	int fd = stats_create(&writer);
	assert_ptr_equal(mmap(NULL, sizeof *writer, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	stats_destroy(writer);
	close(fd);
}

static void a_writer_gone_wrong_does_no_harm(void **state)
{
	struct stats_region *writer;
	const struct stats_region *reader;
	struct stats_sample sample;
	unsigned n = 0;
	int fd = stats_create(&writer);
	memset(writer->series, 'x', sizeof writer->series);
	writer->count = UINT32_MAX;
	assert_int_equal(stats_map(fd, &reader), 0);
	while (stats_read(reader, n, &sample)) {
		assert_int_equal(strlen(sample.name), STATS_NAME_MAX - 1);
		n++;
	}
	assert_int_equal(n, STATS_SERIES_MAX);
	stats_unmap(reader);
	writer->version++;
	assert_int_equal(stats_map(fd, &reader), -EPROTO);
	writer->magic++;
	assert_int_equal(stats_map(fd, &reader), -EBADMSG);
	stats_destroy(writer);
	close(fd);
}

static void what_is_no_region_is_not_mapped(void **state)
{
	const struct stats_region *reader;
	int fd = memfd_create("small", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, sizeof *reader), 0);
	assert_int_equal(stats_map(fd, &reader), -EBADMSG); /* could shrink under us */
	assert_int_equal(ftruncate(fd, 64), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(stats_map(fd, &reader), -EPROTO);
	close(fd);
	fd = open("/dev/null", O_RDWR);
	assert_int_equal(stats_map(fd, &reader), -EBADMSG);
	close(fd);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reader_sees_what_the_writer_counts),
		cmocka_unit_test(a_series_is_added_once),
		cmocka_unit_test(a_full_region_says_so),
		cmocka_unit_test(nobody_else_can_write_or_shrink),
		cmocka_unit_test(a_writer_gone_wrong_does_no_harm),
		cmocka_unit_test(what_is_no_region_is_not_mapped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
