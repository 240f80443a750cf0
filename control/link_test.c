// SPDX-License-Identifier: Apache-2.0
#include "control/link.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* A directory of the test's own, a listener in it, and one relay connected to it. */
struct pair {
	char directory[64], path[80];
	int listener, control, relay;
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof *p);
	strcpy(p->directory, "/tmp/hikyaku-link.XXXXXX");
	if (p == NULL || mkdtemp(p->directory) == NULL)
		return -1;
	snprintf(p->path, sizeof p->path, "%s/control.sock", p->directory);
	p->listener = link_listen(p->path);
	p->relay = link_connect(p->path);
	p->control = link_accept(p->listener);
	*state = p;
	return p->listener < 0 || p->relay < 0 || p->control < 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;
	close(p->listener);
	close(p->control);
	close(p->relay);
	unlink(p->path);
	rmdir(p->directory);
	free(p);
	return 0;
}

static int count_descriptors(void)
{
	int count = 0;
	DIR *dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static char buffer[LINK_MESSAGE_MAX];

static void messages_keep_their_edges(void **state)
{
	struct pair *p = *state;
	int fds[LINK_FDS_MAX];
	unsigned count = 9;
	assert_int_equal(link_receive(p->control, buffer, fds, &count), -EAGAIN);
	assert_int_equal(link_send(p->relay, BYTES_LITERAL("{\"a\":1}"), NULL, 0), 0);
	assert_int_equal(link_send(p->relay, BYTES_LITERAL("{}"), NULL, 0), 0);
	assert_int_equal(link_receive(p->control, buffer, fds, &count), 7);
	assert_memory_equal(buffer, "{\"a\":1}", 7);
	assert_int_equal(count, 0);
	assert_int_equal(link_receive(p->control, buffer, fds, &count), 2);
	assert_int_equal(link_receive(p->control, buffer, fds, &count), -EAGAIN);
}

static void the_longest_message_goes_and_a_longer_one_does_not(void **state)
{
	struct pair *p = *state;
	static char message[LINK_MESSAGE_MAX + 1];
	int fds[LINK_FDS_MAX];
	unsigned count;
	memset(message, 'x', sizeof message);
	message[LINK_MESSAGE_MAX - 1] = 'y';
	assert_int_equal(link_send(p->control, bytes_of(message, sizeof message), NULL, 0), -EMSGSIZE);
	assert_int_equal(link_send(p->control, bytes_of(message, LINK_MESSAGE_MAX), NULL, 0), 0);
	assert_int_equal(link_receive(p->relay, buffer, fds, &count), LINK_MESSAGE_MAX);
	assert_memory_equal(buffer, message, LINK_MESSAGE_MAX);
	assert_int_equal(link_send(p->control, BYTES_NONE, NULL, 0), -EINVAL);
}

static void descriptors_arrive_as_the_same_objects(void **state)
{
	struct pair *p = *state;
	int sent[2] = {memfd_create("a", MFD_CLOEXEC), memfd_create("b", MFD_CLOEXEC)};
	int got[LINK_FDS_MAX];
	unsigned count;
	assert_int_equal(write(sent[0], "first", 5), 5);
	assert_int_equal(write(sent[1], "second", 6), 6);
	assert_int_equal(link_send(p->control, BYTES_LITERAL("{}"), sent, 2), 0);
	close(sent[0]);
	close(sent[1]);
	assert_int_equal(link_receive(p->relay, buffer, got, &count), 2);
	assert_int_equal(count, 2);
	assert_int_equal(pread(got[0], buffer, 16, 0), 5);
	assert_memory_equal(buffer, "first", 5);
	assert_int_equal(pread(got[1], buffer, 16, 0), 6);
	assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	close(got[0]);
	close(got[1]);
}

/* Sends past our own checks, as a peer of another version might. */
static void send_raw(int fd, size_t n, unsigned fd_count)
{
	static char message[LINK_MESSAGE_MAX + 16];
	union {
		char bytes[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} room = {};
	struct iovec part = {message, n};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd_count != 0) {
		header.msg_control = room.bytes;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);
		*c = (struct cmsghdr){CMSG_LEN(fd_count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		for (unsigned i = 0; i < fd_count; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &(int){0}, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &header, MSG_NOSIGNAL), n);
}

static void too_much_is_dropped_and_leaks_nothing(void **state)
{
	struct pair *p = *state;
	int got[LINK_FDS_MAX];
	unsigned count;
	int before = count_descriptors();
	send_raw(p->relay, LINK_MESSAGE_MAX + 1, 1);
	send_raw(p->relay, 2, 5);
	assert_int_equal(link_send(p->relay, BYTES_LITERAL("{}"), NULL, 0), 0);
	assert_int_equal(link_receive(p->control, buffer, got, &count), -EMSGSIZE);
	assert_int_equal(count, 0);
	assert_int_equal(link_receive(p->control, buffer, got, &count), -EMSGSIZE);
	assert_int_equal(count, 0);
	assert_int_equal(link_receive(p->control, buffer, got, &count), 2);
	assert_int_equal(count_descriptors(), before);
	assert_int_equal(link_send(p->relay, BYTES_LITERAL("{}"), got, LINK_FDS_MAX + 1), -EMSGSIZE);
}

static void a_peer_that_is_gone_is_told(void **state)
{
	struct pair *p = *state;
	int got[LINK_FDS_MAX];
	unsigned count;
	assert_int_equal(link_send(p->control, BYTES_LITERAL("{}"), NULL, 0), 0);
	close(p->relay); /* with a message unread, which makes it a reset */
	assert_int_equal(link_receive(p->control, buffer, got, &count), 0);
	assert_int_equal(link_send(p->control, BYTES_LITERAL("{}"), NULL, 0), -EPIPE);
	p->relay = link_connect(p->path);
	assert_true(p->relay >= 0);
}

static void a_slow_peer_is_never_waited_for(void **state)
{
	struct pair *p = *state;
	int error = 0, sent = 0;
	while (error == 0 && sent < 10000) {
		error = link_send(p->control, bytes_of(buffer, 4096), NULL, 0);
		sent += error == 0;
	}
	assert_int_equal(error, -EAGAIN);
	int got[LINK_FDS_MAX];
	unsigned count;
	for (int i = 0; i < sent; i++)
		assert_int_equal(link_receive(p->relay, buffer, got, &count), 4096);
	assert_int_equal(link_receive(p->relay, buffer, got, &count), -EAGAIN);
	assert_int_equal(link_send(p->control, bytes_of(buffer, 4096), NULL, 0), 0);
}

static void the_socket_is_for_its_owner_only(void **state)
{
	struct pair *p = *state;
	struct stat status;
	assert_int_equal(stat(p->path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
}

static void an_old_socket_makes_room_but_a_living_one_does_not(void **state)
{
	struct pair *p = *state;
	assert_int_equal(link_listen(p->path), -EADDRINUSE);
	close(p->listener);
	assert_int_equal(link_connect(p->path), -ECONNREFUSED);
	p->listener = link_listen(p->path);
	assert_true(p->listener >= 0);
}

static void what_is_no_socket_is_not_removed(void **state)
{
	struct pair *p = *state;
	char path[96];
	snprintf(path, sizeof path, "%s/file", p->directory);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(link_listen(path), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	assert_int_equal(link_connect(path), -ENOENT);
}

static void a_path_that_is_too_long_is_refused(void **state)
{
	char path[256];
	memset(path, 'a', sizeof path);
	path[sizeof path - 1] = '\0';
	assert_int_equal(link_listen(path), -ENAMETOOLONG);
	assert_int_equal(link_connect(path), -ENAMETOOLONG);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(messages_keep_their_edges),
		T(the_longest_message_goes_and_a_longer_one_does_not),
		T(descriptors_arrive_as_the_same_objects),
		T(too_much_is_dropped_and_leaks_nothing),
		T(a_peer_that_is_gone_is_told),
		T(a_slow_peer_is_never_waited_for),
		T(the_socket_is_for_its_owner_only),
		T(an_old_socket_makes_room_but_a_living_one_does_not),
		T(what_is_no_socket_is_not_removed),
#undef T
		cmocka_unit_test(a_path_that_is_too_long_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
