// SPDX-License-Identifier: Apache-2.0
#include "control/shm/stats.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A row is written before `count` is raised over it (release), and readers look only at rows below the
 * count they read (acquire). Names never change after that; values are single atomic words. Readers do not
 * trust the writer further than that: count and texts are bounded on every read. */

static_assert(sizeof(struct stats_series) == STATS_NAME_MAX + STATS_LABEL_MAX + STATS_HELP_MAX + 16);
static_assert(offsetof(struct stats_region, series) == 64);

int stats_create(struct stats_region **region)
{
	/* Never smaller, so that a reader never meets a missing page; and no new writer. */
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
	int error, fd = memfd_create("hikyaku-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	struct stats_region *r = MAP_FAILED;
	if (ftruncate(fd, sizeof *r) != 0 ||
		(r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0)) ==
			MAP_FAILED ||
		fcntl(fd, F_ADD_SEALS, seals) != 0)
		goto undo;
	r->version = STATS_VERSION;
	r->started_us = time_wall_us();
	r->magic = STATS_MAGIC;
	*region = r;
	return fd;
undo:
	error = -errno;
	if (r != MAP_FAILED)
		munmap(r, sizeof *r);
	close(fd);
	return error;
}

void stats_destroy(struct stats_region *region)
{
	if (region != NULL)
		munmap(region, sizeof *region);
}

void stats_touch(struct stats_region *region)
{
	atomic_store_explicit(&region->updated_us, time_wall_us(), memory_order_release);
}

_Atomic uint64_t *stats_add(struct stats_region *region, const char *name, const char *label,
	const char *help, bool is_gauge)
{
	uint32_t count = atomic_load_explicit(&region->count, memory_order_relaxed); /* ours */
	for (uint32_t i = 0; i < count; i++)
		if (strncmp(region->series[i].name, name, STATS_NAME_MAX - 1) == 0 &&
			strncmp(region->series[i].label, label, STATS_LABEL_MAX - 1) == 0)
			return &region->series[i].value;
	if (count == STATS_SERIES_MAX)
		return NULL;
	struct stats_series *s = &region->series[count];
	bytes_to_string(bytes_of_string(name), s->name, sizeof s->name);
	bytes_to_string(bytes_of_string(label), s->label, sizeof s->label);
	bytes_to_string(bytes_of_string(help), s->help, sizeof s->help);
	s->is_gauge = is_gauge;
	atomic_store_explicit(&region->count, count + 1, memory_order_release);
	return &s->value;
}

int stats_map(int fd, const struct stats_region **region)
{
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
		return -EBADMSG;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (status.st_size != (off_t)sizeof **region)
		return -EPROTO;
	const struct stats_region *r = mmap(NULL, sizeof *r, PROT_READ, MAP_SHARED, fd, 0);
	if (r == MAP_FAILED)
		return -errno;
	if (r->magic == STATS_MAGIC && r->version == STATS_VERSION) {
		*region = r;
		return 0;
	}
	int error = r->magic == STATS_MAGIC ? -EPROTO : -EBADMSG;
	stats_unmap(r);
	return error;
}

void stats_unmap(const struct stats_region *region)
{
	if (region != NULL)
		munmap((void *)(uintptr_t)region, sizeof *region);
}

static void copy_text(const char *from, char *to, size_t size)
{
	memcpy(to, from, size);
	to[size - 1] = '\0';
}

bool stats_read(const struct stats_region *region, unsigned index, struct stats_sample *sample)
{
	uint32_t count = atomic_load_explicit(&region->count, memory_order_acquire);
	if (index >= count || index >= STATS_SERIES_MAX)
		return false;
	const struct stats_series *s = &region->series[index];
	copy_text(s->name, sample->name, sizeof sample->name);
	copy_text(s->label, sample->label, sizeof sample->label);
	copy_text(s->help, sample->help, sizeof sample->help);
	sample->is_gauge = s->is_gauge != 0;
	sample->value = atomic_load_explicit(&s->value, memory_order_relaxed);
	return true;
}
