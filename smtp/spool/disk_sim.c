// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/disk_sim.h"

#include "smtp/spool/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_SIM 32
#define FILES_MAX    4096

/* One sector as a write left it. */
struct version {
	uint64_t sector;
	bool is_doubtful; /* a sync that should have covered it has failed */
	uint8_t b[SIM_SECTOR_BYTES];
};

/* What the folder's own sync has still to make durable. */
enum pending { SETTLED, PENDING, DOUBTFUL };

struct file {
	char name[NAME_MAX_SIM];
	bool is_there;	 /* in the folder, as seen now */
	bool is_durable; /* in the folder, after a crash, but for: */
	enum pending create, remove;
	uint8_t *now, *durable; /* content */
	size_t now_size, durable_size, capacity;
	uint64_t allocated;
	struct version *versions; /* not durable, in the order written */
	size_t version_count, version_capacity;
};

struct sim {
	struct disk disk;
	struct file *files[FILES_MAX]; /* a handle is a place in here */
	size_t file_count;
	uint64_t calls, fail_from, fail_to, limit;
	int fail_error;
	disk_sim_call_fn *on_call;
	void *on_call_user;
};

static struct sim *sim_of(const struct disk *d)
{
	return (struct sim *)(uintptr_t)d;
}

/* Counts the call; true: it is one that has to fail. */
static bool call_fails(struct sim *s)
{
	if (s->on_call != NULL)
		s->on_call(s->on_call_user);
	s->calls++;
	return s->calls >= s->fail_from && s->calls < s->fail_to;
}

/* Which of several effects a failing call has: decided by its number, so that runs can be repeated.
 */
static uint64_t chance(const struct sim *s, uint64_t n)
{
	uint64_t state = random_start(s->calls * 31 + 7);
	return random_below(&state, n);
}

static struct file *file_find(struct sim *s, const char *name)
{
	for (size_t i = 0; i < s->file_count; i++)
		if (s->files[i]->is_there && strcmp(s->files[i]->name, name) == 0)
			return s->files[i];
	return NULL;
}

static struct file *file_add(struct sim *s, const char *name)
{
	struct file *f = s->file_count == FILES_MAX ? NULL : calloc(1, sizeof *f);
	if (f == NULL)
		return NULL;
	snprintf(f->name, sizeof f->name, "%s", name);
	f->is_there = true;
	s->files[s->file_count++] = f;
	return f;
}

static bool file_grow(struct file *f, size_t size)
{
	if (size > f->capacity) {
		size_t capacity = size * 2 < 4096 ? 4096 : size * 2;
		uint8_t *now = realloc(f->now, capacity), *durable;
		if (now == NULL)
			return false;
		f->now = now;
		durable = realloc(f->durable, capacity);
		if (durable == NULL)
			return false;
		f->durable = durable;
		memset(f->now + f->capacity, 0, capacity - f->capacity);
		memset(f->durable + f->capacity, 0, capacity - f->capacity);
		f->capacity = capacity;
	}
	if (size > f->now_size)
		f->now_size = size;
	return true;
}

/* ---- the disk's functions ---- */

static int sim_create(struct disk *d, const char *name)
{
	struct sim *s = sim_of(d);
	if (call_fails(s))
		return s->fail_error;
	if (file_find(s, name) != NULL)
		return -EEXIST;
	struct file *f = file_add(s, name);
	if (f == NULL)
		return -ENFILE;
	f->create = PENDING;
	return (int)s->file_count - 1;
}

static int sim_open(struct disk *d, const char *name)
{
	struct sim *s = sim_of(d);
	if (call_fails(s))
		return s->fail_error;
	for (size_t i = 0; i < s->file_count; i++)
		if (s->files[i]->is_there && strcmp(s->files[i]->name, name) == 0)
			return (int)i;
	return -ENOENT;
}

static int sim_close(struct disk *d, int handle)
{
	return 0;
}

static int64_t sim_size(struct disk *d, int handle)
{
	struct sim *s = sim_of(d);
	return call_fails(s) ? s->fail_error : (int64_t)s->files[handle]->now_size;
}

/* Room that a file takes if it had `size` bytes. */
static uint64_t room_for(const struct file *f, uint64_t size)
{
	return size > f->allocated ? size : f->allocated;
}

static uint64_t room_left(const struct sim *s)
{
	uint64_t used = 0;
	if (s->limit == 0)
		return UINT64_MAX;
	for (size_t i = 0; i < s->file_count; i++)
		if (s->files[i]->is_there)
			used += room_for(s->files[i], s->files[i]->now_size);
	return used < s->limit ? s->limit - used : 0;
}

static bool remember_sector(struct file *f, uint64_t sector)
{
	if (f->version_count == f->version_capacity) {
		size_t capacity = f->version_capacity == 0 ? 16 : f->version_capacity * 2;
		struct version *more = realloc(f->versions, capacity * sizeof *more);
		if (more == NULL)
			return false;
		f->versions = more;
		f->version_capacity = capacity;
	}
	struct version *v = &f->versions[f->version_count++];
	size_t from = sector * SIM_SECTOR_BYTES, n = f->now_size - from;
	*v = (struct version){.sector = sector};
	memcpy(v->b, f->now + from, n < SIM_SECTOR_BYTES ? n : SIM_SECTOR_BYTES);
	return true;
}

static int file_write(struct file *f, uint64_t offset, struct bytes b)
{
	if (b.n == 0)
		return 0;
	if (!file_grow(f, offset + b.n))
		return -ENOMEM;
	memcpy(f->now + offset, b.at, b.n);
	for (uint64_t x = offset / SIM_SECTOR_BYTES; x <= (offset + b.n - 1) / SIM_SECTOR_BYTES;
		x++)
		if (!remember_sector(f, x))
			return -ENOMEM;
	return 0;
}

static int64_t sim_write(
	struct disk *d, int handle, uint64_t offset, const struct bytes *parts, unsigned part_count)
{
	struct sim *s = sim_of(d);
	struct file *f = s->files[handle];
	uint64_t all = 0, most;
	int error = 0;
	for (unsigned i = 0; i < part_count; i++)
		all += parts[i].n;
	most = all;
	if (call_fails(s)) {
		error = s->fail_error;
		most = chance(s, all + 1);
	} else if (offset + all > f->now_size &&
		room_for(f, offset + all) - room_for(f, f->now_size) > room_left(s)) {
		error = -ENOSPC;
		most = room_left(s) < all ? room_left(s) : 0;
	}
	for (unsigned i = 0; i < part_count && most != 0; i++) {
		struct bytes part = bytes_first(parts[i], most);
		int err = file_write(f, offset, part);
		if (err != 0)
			return err;
		offset += part.n;
		most -= part.n;
	}
	return error != 0 ? error : (int64_t)all;
}

static int64_t sim_read(struct disk *d, int handle, uint64_t offset, uint8_t *to, size_t n)
{
	struct sim *s = sim_of(d);
	const struct file *f = s->files[handle];
	if (call_fails(s))
		return s->fail_error;
	if (offset >= f->now_size)
		return 0;
	if (n > f->now_size - offset)
		n = f->now_size - offset;
	memcpy(to, f->now + offset, n);
	return (int64_t)n;
}

/* What was in doubt in that sector is overwritten. */
static void version_settle(struct file *f, const struct version *v, size_t *kept)
{
	size_t left = 0;
	for (size_t i = 0; i < *kept; i++)
		if (f->versions[i].sector != v->sector)
			f->versions[left++] = f->versions[i];
	*kept = left;
	size_t from = v->sector * SIM_SECTOR_BYTES, n = f->now_size - from;
	memcpy(f->durable + from, v->b, n < SIM_SECTOR_BYTES ? n : SIM_SECTOR_BYTES);
}

static int sim_sync(struct disk *d, int handle)
{
	struct sim *s = sim_of(d);
	struct file *f = s->files[handle];
	size_t kept = 0;
	bool fails = call_fails(s);
	for (size_t i = 0; i < f->version_count; i++) {
		f->versions[i].is_doubtful |= fails;
		if (f->versions[i].is_doubtful)
			f->versions[kept++] = f->versions[i];
		else
			version_settle(f, &f->versions[i], &kept);
	}
	f->version_count = kept;
	if (fails)
		return s->fail_error;
	f->durable_size = f->now_size;
	return 0;
}

static int sim_sync_dir(struct disk *d)
{
	struct sim *s = sim_of(d);
	bool fails = call_fails(s);
	for (size_t i = 0; i < s->file_count; i++) {
		struct file *f = s->files[i];
		if (fails) {
			f->create = f->create == SETTLED ? SETTLED : DOUBTFUL;
			f->remove = f->remove == SETTLED ? SETTLED : DOUBTFUL;
			continue;
		}
		if (f->create == PENDING) {
			f->is_durable = true;
			f->create = SETTLED;
		}
		if (f->remove == PENDING) {
			f->is_durable = false;
			f->create = f->remove = SETTLED;
		}
	}
	return fails ? s->fail_error : 0;
}

static int sim_allocate(struct disk *d, int handle, uint64_t bytes)
{
	struct sim *s = sim_of(d);
	struct file *f = s->files[handle];
	if (call_fails(s))
		return s->fail_error;
	if (bytes <= room_for(f, f->now_size))
		return 0;
	if (bytes - room_for(f, f->now_size) > room_left(s))
		return -ENOSPC;
	f->allocated = bytes;
	return 0;
}

static int sim_remove(struct disk *d, const char *name)
{
	struct sim *s = sim_of(d);
	bool fails = call_fails(s);
	struct file *f = file_find(s, name);
	if (f == NULL)
		return -ENOENT;
	if (fails && chance(s, 2) == 0)
		return s->fail_error;
	f->is_there = false;
	f->remove = PENDING;
	return fails ? s->fail_error : 0;
}

static int sim_list(struct disk *d, void (*each)(void *user, const char *name), void *user)
{
	struct sim *s = sim_of(d);
	if (call_fails(s))
		return s->fail_error;
	for (size_t i = 0; i < s->file_count; i++)
		if (s->files[i]->is_there)
			each(user, s->files[i]->name);
	return 0;
}

static const struct disk sim_functions = {
	.create = sim_create,
	.open = sim_open,
	.close = sim_close,
	.size = sim_size,
	.write = sim_write,
	.read = sim_read,
	.sync = sim_sync,
	.sync_dir = sim_sync_dir,
	.allocate = sim_allocate,
	.remove = sim_remove,
	.list = sim_list,
};

struct disk *disk_sim_create(void)
{
	struct sim *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->disk = sim_functions;
	return &s->disk;
}

void disk_sim_destroy(struct disk *disk)
{
	if (disk == NULL)
		return;
	struct sim *s = sim_of(disk);
	for (size_t i = 0; i < s->file_count; i++) {
		free(s->files[i]->now);
		free(s->files[i]->durable);
		free(s->files[i]->versions);
		free(s->files[i]);
	}
	free(s);
}

/* ---- crashes ---- */

/* How much of what was not synced survives, in one file of one crash. */
enum fate { FATE_NONE, FATE_ALL, FATE_HALF, FATE_MOST, FATE_FEW, FATE_PREFIX, FATES };

static bool version_survives(enum fate fate, size_t i, size_t prefix, uint64_t *random)
{
	switch (fate) {
	case FATE_ALL: return true;
	case FATE_HALF: return random_below(random, 2) == 0;
	case FATE_MOST: return random_below(random, 10) != 0;
	case FATE_FEW: return random_below(random, 10) == 0;
	case FATE_PREFIX: return i < prefix;
	default: return false;
	}
}

/* What nobody wrote, at the end of a file that grew: zeros, or what lay on the disk there before.
 */
static void fill_unwritten(struct sim *from, struct file *f, size_t at, size_t n, uint64_t *random)
{
	uint64_t kind = random_below(random, 4);
	const struct file *other = from->files[random_below(random, from->file_count)];
	if (kind <= 1 || n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		if (kind == 2)
			f->now[at + i] = (uint8_t)random_next(random);
		else if (at + i < other->now_size)
			f->now[at + i] = other->now[at + i];
	}
}

static bool crash_file(struct sim *from, const struct file *old, struct file *f, uint64_t *random)
{
	enum fate fate = (enum fate)random_below(random, FATES);
	size_t prefix = old->version_count == 0 ? 0 : random_below(random, old->version_count + 1);
	size_t size = old->durable_size;
	if (!file_grow(f, old->now_size > size ? old->now_size : size))
		return false;
	if (size != 0)
		memcpy(f->now, old->durable, size);
	if (old->now_size > size)
		fill_unwritten(from, f, size, old->now_size - size, random);
	for (size_t i = 0; i < old->version_count; i++) {
		const struct version *v = &old->versions[i];
		size_t at = v->sector * SIM_SECTOR_BYTES, n = old->now_size - at;
		if (!version_survives(fate, i, prefix, random))
			continue;
		n = n < SIM_SECTOR_BYTES ? n : SIM_SECTOR_BYTES;
		memcpy(f->now + at, v->b, n);
		if (at + n > size)
			size = at + n;
	}
	/* The file may have become as long as it was to be, with nothing in it. */
	if (random_below(random, 4) != 0)
		f->now_size = size;
	f->durable_size = f->now_size;
	if (f->capacity != 0) {
		memset(f->now + f->now_size, 0, f->capacity - f->now_size);
		memcpy(f->durable, f->now, f->now_size);
	}
	return true;
}

static bool survives(const struct file *f, uint64_t *random)
{
	bool is_there = f->is_durable;
	if (f->create != SETTLED)
		is_there = random_below(random, 2) == 0;
	if (f->remove != SETTLED && random_below(random, 2) == 0)
		is_there = false;
	return is_there;
}

struct disk *disk_sim_crash(const struct disk *disk, uint64_t seed)
{
	struct sim *from = sim_of(disk);
	struct disk *image = disk_sim_create();
	uint64_t random = random_start(seed);
	for (size_t i = 0; image != NULL && i < from->file_count; i++) {
		const struct file *old = from->files[i];
		if (!survives(old, &random) || file_find(sim_of(image), old->name) != NULL)
			continue;
		struct file *f = file_add(sim_of(image), old->name);
		if (f == NULL || !crash_file(from, old, f, &random)) {
			disk_sim_destroy(image);
			return NULL;
		}
		f->is_durable = true;
	}
	return image;
}

/* A kill leaves the page cache as it is, and what is durable of it. */
struct disk *disk_sim_restart(const struct disk *disk)
{
	const struct sim *from = sim_of(disk);
	struct disk *image = disk_sim_create();
	for (size_t i = 0; image != NULL && i < from->file_count; i++) {
		const struct file *old = from->files[i];
		if (!old->is_there && !old->is_durable)
			continue;
		struct file *f = file_add(sim_of(image), old->name);
		if (f == NULL || !file_grow(f, old->now_size)) {
			disk_sim_destroy(image);
			return NULL;
		}
		f->is_there = old->is_there;
		f->is_durable = old->is_durable;
		f->create = old->create;
		f->remove = old->remove;
		f->durable_size = old->durable_size;
		if (old->now_size != 0)
			memcpy(f->now, old->now, old->now_size);
		if (old->durable_size != 0)
			memcpy(f->durable, old->durable, old->durable_size);
		f->versions = calloc(old->version_count + 1, sizeof *f->versions);
		f->version_count = f->version_capacity = old->version_count;
		if (old->version_count != 0)
			memcpy(f->versions, old->versions,
				old->version_count * sizeof *f->versions);
	}
	return image;
}

/* ---- reaching in ---- */

void disk_sim_fail(struct disk *disk, uint64_t n, uint64_t times, int error)
{
	struct sim *s = sim_of(disk);
	s->fail_from = s->calls + n;
	s->fail_to = s->fail_from + times;
	s->fail_error = error;
}

uint64_t disk_sim_calls(const struct disk *disk)
{
	return sim_of(disk)->calls;
}

void disk_sim_on_call(struct disk *disk, disk_sim_call_fn *on_call, void *user)
{
	sim_of(disk)->on_call = on_call;
	sim_of(disk)->on_call_user = user;
}

void disk_sim_limit(struct disk *disk, uint64_t bytes)
{
	sim_of(disk)->limit = bytes;
}

uint8_t *disk_sim_bytes(struct disk *disk, const char *name, size_t *n)
{
	struct file *f = file_find(sim_of(disk), name);
	if (f == NULL)
		return NULL;
	*n = f->now_size;
	return f->now;
}

int disk_sim_put(struct disk *disk, const char *name, struct bytes content)
{
	struct file *f = file_add(sim_of(disk), name);
	if (f == NULL || file_write(f, 0, content) != 0)
		return -ENOMEM;
	if (content.n != 0)
		memcpy(f->durable, f->now, content.n);
	f->durable_size = f->now_size;
	f->version_count = 0;
	f->is_durable = true;
	return 0;
}
