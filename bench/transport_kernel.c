// SPDX-License-Identifier: Apache-2.0
/* Kernel sockets, non-blocking, edge-triggered. */
#include "bench/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define EVENTS_MAX 256
#define WAIT_US	   (5 * USEC_PER_MSEC) /* the user's own times are no finer, unless it says so */

struct link {
	void *owner; /* NULL: closed in this turn */
	int fd;
	bool is_up, is_dry; /* dry: a short read, nothing more until the next event (epoll(7),
			       question 9) */
	struct link *next_closed;
};

struct kernel {
	struct transport transport;
	int epoll;
	struct sockaddr_storage to;
	socklen_t to_length;
	struct link *closed; /* freed when no event of this turn can name them any more */
	const struct transport_user *user;
};

static struct kernel
	*the_one; /* whose closed list close() uses; there is one transport in a process */

static void forget(struct link *link)
{
	link->owner = NULL;
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	link->next_closed = the_one->closed;
	the_one->closed = link;
}

static struct link *open_link(struct transport *t, void *owner, const char **why)
{
	struct kernel *k = (struct kernel *)t;
	struct link *link = calloc(1, sizeof *link);
	int one = 1;
	*why = "no memory";
	if (link == NULL)
		return NULL;
	link->owner = owner;
	link->fd = socket(k->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (link->fd >= 0) {
		struct epoll_event e = {
			.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = link};
		setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if ((connect(link->fd, (struct sockaddr *)&k->to, k->to_length) == 0 ||
			    errno == EINPROGRESS) &&
			epoll_ctl(k->epoll, EPOLL_CTL_ADD, link->fd, &e) == 0)
			return link;
	}
	*why = strerror(errno);
	forget(link);
	return NULL;
}

static size_t read_link(struct link *link, uint8_t *to, size_t room)
{
	if (link->is_dry || link->fd < 0)
		return 0;
	ssize_t n = recv(link->fd, to, room, 0);
	link->is_dry = n < (ssize_t)room;
	return n > 0 ? (size_t)n : 0;
}

static size_t write_link(struct link *link, struct bytes b)
{
	if (link->fd < 0)
		return 0;
	ssize_t n = send(link->fd, b.at, b.n, MSG_NOSIGNAL);
	return n > 0 ? (size_t)n : 0;
}

static void on_event(struct kernel *k, struct link *link, uint32_t epoll_events)
{
	unsigned events = LINK_MOVED;
	int error = 0;
	socklen_t n = sizeof error;
	if (link->owner == NULL)
		return;
	link->is_dry = false;
	if (epoll_events & (EPOLLERR | EPOLLHUP)) {
		getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &n);
		k->user->on_link(
			link->owner, LINK_GONE, error != 0 ? strerror(error) : "connection lost");
		forget(link);
		return;
	}
	if (!link->is_up) {
		link->is_up = true;
		events |= LINK_UP;
	}
	if (epoll_events & EPOLLRDHUP)
		events |= LINK_EOF;
	k->user->on_link(link->owner, events, NULL);
}

static void run(struct transport *t, const struct transport_user *user)
{
	struct kernel *k = (struct kernel *)t;
	struct epoll_event events[EVENTS_MAX];
	bool is_busy = false;
	k->user = user;
	while (user->turn(time_monotonic_us(), &is_busy)) {
		uint64_t us = k->transport.wait_us;
		if (us == 0 || us > WAIT_US)
			us = WAIT_US;
		const struct timespec wait = {.tv_nsec = (long)(us * NSEC_PER_USEC)};
		int n = epoll_pwait2(k->epoll, events, EVENTS_MAX, &wait, NULL);
		for (int i = 0; i < n; i++)
			on_event(k, events[i].data.ptr, events[i].events);
		for (struct link *link; (link = k->closed) != NULL;) {
			k->closed = link->next_closed;
			free(link);
		}
	}
}

static uint64_t busy_us(struct transport *t)
{
	return UINT64_MAX;
}

static void destroy(struct transport *t)
{
	struct kernel *k = (struct kernel *)t;
	for (struct link *link; (link = k->closed) != NULL;) {
		k->closed = link->next_closed;
		free(link);
	}
	close(k->epoll);
	free(k);
}

static const struct transport_ops ops = {
	open_link, read_link, write_link, forget, run, busy_us, destroy};

struct transport *transport_kernel(const struct options *o, char error[256])
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	int rc = getaddrinfo(o->host, o->port, &hints, &found);
	if (rc != 0) {
		snprintf(error, 256, "%.150s: %s", o->host, gai_strerror(rc));
		return NULL;
	}
	struct kernel *k = the_one = calloc(1, sizeof *k);
	if (k != NULL) {
		k->transport = (struct transport){&ops, "kernel sockets"};
		memcpy(&k->to, found->ai_addr, found->ai_addrlen);
		k->to_length = found->ai_addrlen;
		k->epoll = epoll_create1(EPOLL_CLOEXEC);
	}
	freeaddrinfo(found);
	if (k != NULL && k->epoll >= 0)
		return &k->transport;
	snprintf(error, 256, "epoll: %s", strerror(errno));
	free(k);
	return NULL;
}
