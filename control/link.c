// SPDX-License-Identifier: Apache-2.0
#include "control/link.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

/* A socket and the address of `path`; the descriptor or -errno. */
static int open_socket(const char *path, struct sockaddr_un *address)
{
	/* Two of the longest messages wait in the kernel before a sender hears -EAGAIN. */
	const int room = 2 * LINK_MESSAGE_MAX;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address->sun_path)
		return -ENAMETOOLONG;
	strcpy(address->sun_path, path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	return fd;
}

/* A socket that nobody listens at any more was left by a control that is gone. */
static int remove_old(const char *path)
{
	struct stat status;
	if (lstat(path, &status) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(status.st_mode))
		return -EEXIST;
	int other = link_connect(path);
	if (other >= 0) {
		close(other);
		return -EADDRINUSE;
	}
	if (other != -ECONNREFUSED)
		return other == -EAGAIN ? -EADDRINUSE : other;
	return unlink(path) == 0 ? 0 : -errno;
}

int link_listen(const char *path)
{
	struct sockaddr_un address;
	int fd = open_socket(path, &address);
	if (fd < 0)
		return fd;
	int error = remove_old(path);
	/* The mode is set before the name is there, so that there is no moment at which others may connect. */
	if (error == 0 && (fchmod(fd, 0600) != 0 ||
				  bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
				  listen(fd, BACKLOG) != 0))
		error = -errno;
	if (error == 0)
		return fd;
	close(fd);
	return error;
}

int link_accept(int listener)
{
	const int room = 2 * LINK_MESSAGE_MAX;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	return fd;
}

int link_connect(const char *path)
{
	struct sockaddr_un address;
	int fd = open_socket(path, &address);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

/* Room for the descriptors of one message, aligned as the macros of cmsg(3) want it. */
union control_room {
	char bytes[CMSG_SPACE(LINK_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int link_send(int fd, struct bytes json, const int *fds, unsigned fd_count)
{
	union control_room room = {};
	struct iovec part = {(void *)(uintptr_t)json.at, json.n};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (json.n == 0) /* would read as the end */
		return -EINVAL;
	if (json.n > LINK_MESSAGE_MAX || fd_count > LINK_FDS_MAX)
		return -EMSGSIZE;
	if (fd_count != 0) {
		message.msg_control = room.bytes;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
	}
	ssize_t n;
	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

static void take_descriptors(struct msghdr *message, int fds[LINK_FDS_MAX], unsigned *count)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	for (; header != NULL; header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n && *count < LINK_FDS_MAX; i++)
			memcpy(&fds[(*count)++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
	}
}

long link_receive(int fd, char *to, int fds[LINK_FDS_MAX], unsigned *fd_count)
{
	union control_room room;
	struct iovec part = {to, LINK_MESSAGE_MAX};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = sizeof room.bytes};
	ssize_t n;
	*fd_count = 0;
	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	take_descriptors(&message, fds, fd_count);
	if (n != 0 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return n;
	while (*fd_count > 0)
		close(fds[--*fd_count]);
	return n == 0 ? 0 : -EMSGSIZE;
}
