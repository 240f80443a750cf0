// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/disk_folder.c: the real disk: one folder, its files by openat(), a lock against a
 * second relay.
 *
 * What is written to a new file goes past the page cache (O_DIRECT): nearly all of it is never read
 * back, and copying it into fresh pages cost four times as much as all else that a write does. A
 * file system that cannot do this, or a write that is not of whole blocks, goes the common way. */
#include "smtp/spool/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PARTS_MAX 64 /* of one pwritev(); well below IOV_MAX */
#define LOCK_NAME "lock"

struct folder {
	struct disk disk;
	int dir;
	int lock;
	int direct;    /* the file that was created last, once more, for O_DIRECT; -1: there is none */
	int direct_of; /* the handle of that file */
};

static struct folder *folder_of(struct disk *d)
{
	return (struct folder *)d;
}

/* A full quota and a file size limit are full disks to us. */
static int last_error(void)
{
	return errno == EDQUOT || errno == EFBIG ? -ENOSPC : -errno;
}

static void direct_close(struct folder *f)
{
	if (f->direct >= 0)
		close(f->direct);
	f->direct = f->direct_of = -1;
}

static int folder_create(struct disk *d, const char *name)
{
	struct folder *f = folder_of(d);
	int fd = openat(f->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return last_error();
	direct_close(f);
	f->direct = openat(f->dir, name, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
	f->direct_of = fd;
	return fd;
}

static int folder_open(struct disk *d, const char *name)
{
	int fd = openat(folder_of(d)->dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? last_error() : fd;
}

static int folder_close(struct disk *d, int handle)
{
	if (handle == folder_of(d)->direct_of)
		direct_close(folder_of(d));
	return close(handle) < 0 ? last_error() : 0;
}

static int64_t folder_size(struct disk *d, int handle)
{
	struct stat st;
	return fstat(handle, &st) < 0 ? last_error() : st.st_size;
}

/* Fills `vec` with what of the parts comes after the first `skip` bytes; returns how many it used.
 */
static int parts_from(
	const struct bytes *parts, unsigned count, uint64_t skip, struct iovec vec[PARTS_MAX])
{
	int used = 0;
	for (unsigned i = 0; i < count && used < PARTS_MAX; i++) {
		struct bytes b = parts[i];
		if (skip >= b.n) {
			skip -= b.n;
			continue;
		}
		b = bytes_skip(b, (size_t)skip);
		skip = 0;
		vec[used++] = (struct iovec){(void *)(uintptr_t)b.at, b.n};
	}
	return used;
}

static int64_t folder_write(
	struct disk *d, int handle, uint64_t offset, const struct bytes *parts, unsigned part_count)
{
	struct folder *f = folder_of(d);
	struct iovec vec[PARTS_MAX];
	int64_t done = 0;
	int used, fd = handle == f->direct_of && f->direct >= 0 ? f->direct : handle;
	while ((used = parts_from(parts, part_count, (uint64_t)done, vec)) != 0) {
		ssize_t n = pwritev(fd, vec, used, (off_t)offset + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && fd != handle) {
			direct_close(f);
			fd = handle;
			continue;
		}
		if (n <= 0)
			return n < 0 ? last_error() : -EIO;
		done += n;
	}
	return done;
}

static int64_t folder_read(struct disk *d, int handle, uint64_t offset, uint8_t *to, size_t n)
{
	size_t done = 0;
	while (done < n) {
		ssize_t got = pread(handle, to + done, n - done, (off_t)(offset + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return last_error();
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (int64_t)done;
}

static int folder_sync(struct disk *d, int handle)
{
	return fdatasync(handle) < 0 ? last_error() : 0;
}

static int folder_sync_dir(struct disk *d)
{
	return fsync(folder_of(d)->dir) < 0 ? last_error() : 0;
}

static int folder_allocate(struct disk *d, int handle, uint64_t bytes)
{
	int err;
	do {
		err = fallocate(handle, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) < 0 ? last_error()
										  : 0;
	} while (err == -EINTR);
	return err;
}

static int folder_remove(struct disk *d, const char *name)
{
	return unlinkat(folder_of(d)->dir, name, 0) < 0 ? last_error() : 0;
}

static int folder_list(struct disk *d, void (*each)(void *user, const char *name), void *user)
{
	int fd = openat(folder_of(d)->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL) {
		int err = last_error();
		if (fd >= 0)
			close(fd);
		return err;
	}
	const struct dirent *entry;
	while (errno = 0, (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, LOCK_NAME) != 0)
			each(user, entry->d_name);
	int err = errno == 0 ? 0 : last_error();
	closedir(dir);
	return err;
}

static const struct disk folder_functions = {
	.create = folder_create,
	.open = folder_open,
	.close = folder_close,
	.size = folder_size,
	.write = folder_write,
	.read = folder_read,
	.sync = folder_sync,
	.sync_dir = folder_sync_dir,
	.allocate = folder_allocate,
	.remove = folder_remove,
	.list = folder_list,
};

/* Makes the folder if it is missing, and its name durable. 0 or -errno. */
static int make_folder(const char *path)
{
	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : last_error();
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int parent = dir < 0 ? -1 : openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = parent < 0 || fsync(parent) < 0 ? last_error() : 0;
	if (parent >= 0)
		close(parent);
	if (dir >= 0)
		close(dir);
	return err;
}

static int open_folder(struct folder *f, const char *path, char error[256])
{
	int err = make_folder(path);
	if (err == 0)
		f->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (err == 0 && f->dir >= 0)
		f->lock =
			openat(f->dir, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (err == 0 && f->lock < 0)
		err = last_error();
	if (err != 0) {
		snprintf(error, 256, "spool folder %.150s: %s", path, strerror(-err));
		return err;
	}
	if (flock(f->lock, LOCK_EX | LOCK_NB) < 0) {
		err = last_error();
		snprintf(error, 256, "spool folder %.150s: %s", path,
			err == -EWOULDBLOCK ? "another relay has it" : strerror(-err));
	}
	return err;
}

int disk_open_folder(struct disk **disk, const char *path, char error[256])
{
	struct folder *f = malloc(sizeof *f);
	*disk = NULL;
	error[0] = '\0';
	if (f == NULL)
		return -ENOMEM;
	*f = (struct folder){
		.disk = folder_functions, .dir = -1, .lock = -1, .direct = -1, .direct_of = -1};
	int err = open_folder(f, path, error);
	if (err != 0) {
		disk_close_folder(&f->disk);
		return err;
	}
	*disk = &f->disk;
	return 0;
}

void disk_close_folder(struct disk *disk)
{
	if (disk == NULL)
		return;
	struct folder *f = folder_of(disk);
	direct_close(f);
	if (f->lock >= 0)
		close(f->lock); /* which unlocks it */
	if (f->dir >= 0)
		close(f->dir);
	free(f);
}
