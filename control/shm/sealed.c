// SPDX-License-Identifier: Apache-2.0
#include "control/shm/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static int write_all(int fd, struct bytes content)
{
	while (content.n != 0) {
		ssize_t n = write(fd, content.at, content.n);
		if (n < 0 && errno != EINTR)
			return -errno;
		content = bytes_skip(content, n < 0 ? 0 : (size_t)n);
	}
	return 0;
}

int sealed_create(const char *name, struct bytes content)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	int error = fchmod(fd, 0600) != 0 ? -errno : write_all(fd, content);
	if (error == 0 && fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) != 0)
		error = -errno;
	if (error == 0)
		return fd;
	close(fd);
	return error;
}

bool sealed_is(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && (seals & SEALS) == SEALS;
}
