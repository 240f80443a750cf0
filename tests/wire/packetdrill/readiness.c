// SPDX-License-Identifier: Apache-2.0
/* tests/wire/packetdrill/readiness.c: poll and epoll, level-triggered, with time-outs in virtual time. */
#include "tests/wire/packetdrill/shim.h"

#include <errno.h>

/* ---- waiting, with a time-out ---- */

/* Has the time come at which a wait ends? */
static bool is_over(const struct shim *s, uint64_t from_us, int timeout_ms)
{
	return timeout_ms == 0 || (timeout_ms > 0 && s->now_us >= from_us + (uint64_t)timeout_ms * 1000);
}

/* ---- poll ---- */

static int look(struct shim *s, struct pollfd *fds, nfds_t count)
{
	int ready = 0;
	for (nfds_t i = 0; i < count; i++) {
		const short all = fds[i].fd < 0 ? 0 : sockets_ready(s, fds[i].fd);
		fds[i].revents = (short)(all & (fds[i].events | POLLERR | POLLHUP | POLLNVAL));
		ready += fds[i].revents != 0;
	}
	return ready;
}

static int shim_poll(void *userdata, struct pollfd *fds, nfds_t count, int timeout_ms)
{
	struct shim *s = userdata;
	shim_lock(s);
	const uint64_t from_us = s->now_us;
	int ready;
	while ((ready = look(s, fds, count)) == 0 && !is_over(s, from_us, timeout_ms))
		if (!shim_wait(s))
			break;
	shim_unlock(s);
	return ready;
}

/* ---- epoll ---- */

static int shim_epoll_create(void *userdata, int size)
{
	struct shim *s = userdata;
	shim_lock(s);
	const int fd = sockets_new(s, FD_EPOLL);
	shim_unlock(s);
	return fd;
}

static struct watch *find_watch(struct fd *e, int fd)
{
	for (unsigned i = 0; i < WATCHES_MAX; i++)
		if (e->watches[i].fd == fd)
			return &e->watches[i];
	return NULL;
}

static int change_watch(struct fd *e, int op, int fd, const struct epoll_event *event)
{
	struct watch *w = find_watch(e, fd);
	if (op == EPOLL_CTL_ADD && w != NULL)
		return EEXIST;
	if (op != EPOLL_CTL_ADD && w == NULL)
		return ENOENT;
	if (op == EPOLL_CTL_ADD && (w = find_watch(e, -1)) == NULL)
		return ENOSPC;
	w->fd = op == EPOLL_CTL_DEL ? -1 : fd;
	if (op != EPOLL_CTL_DEL)
		w->event = *event;
	return 0;
}

static int shim_epoll_ctl(void *userdata, int epoll, int op, int fd, struct epoll_event *event)
{
	struct shim *s = userdata;
	shim_lock(s);
	struct fd *e = sockets_fd(s, epoll);
	const int err = e == NULL || sockets_fd(s, fd) == NULL ? EBADF
		: e->kind != FD_EPOLL ? EINVAL : change_watch(e, op, fd, event);
	shim_unlock(s);
	errno = err;
	return err != 0 ? -1 : 0;
}

static int look_at_watches(struct shim *s, int epoll, struct epoll_event *events, int room)
{
	const struct fd *e = sockets_fd(s, epoll);
	int n = 0;
	for (unsigned i = 0; e != NULL && i < WATCHES_MAX && n < room; i++) {
		const struct watch *w = &e->watches[i];
		if (w->fd < 0)
			continue;
		/* the bits of poll and epoll are the same */
		const uint32_t ready = (uint16_t)sockets_ready(s, w->fd) & (w->event.events | EPOLLERR | EPOLLHUP);
		if (ready != 0 && !(ready & POLLNVAL))
			events[n++] = (struct epoll_event){.events = ready, .data = w->event.data};
	}
	return n;
}

static int shim_epoll_wait(void *userdata, int epoll, struct epoll_event *events, int room, int timeout_ms)
{
	struct shim *s = userdata;
	shim_lock(s);
	const uint64_t from_us = s->now_us;
	int ready;
	while ((ready = look_at_watches(s, epoll, events, room)) == 0 && !is_over(s, from_us, timeout_ms))
		if (!shim_wait(s))
			break;
	shim_unlock(s);
	return ready;
}

void readiness_fill(struct packetdrill_table *t)
{
	t->poll = shim_poll;
	t->epoll_create = shim_epoll_create;
	t->epoll_ctl = shim_epoll_ctl;
	t->epoll_wait = shim_epoll_wait;
}
