// SPDX-License-Identifier: Apache-2.0
/* The kernel's TCP: non-blocking sockets and epoll, edge-triggered, with as few system calls as we know:
 * what can be read or written at once is, before epoll is asked. */
#include "bench/peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"

#define EVENTS_MAX   256
#define FDS_MAX	     65536
#define BACKLOG	     16384
#define BATCH	     64 /* accepted before others have their turn */
#define WAIT_MS_MOST 100

/* A connection of the server's; by descriptor. */
static struct served {
	struct exchange_server exchange;
	bool is_watched;
} *served;
static int epoll_fd, listener;
static const struct peer_options *options;

/* A link is a descriptor plus one, so that NULL is none. */
static int fd_of(void *link)
{
	return (int)(intptr_t)link - 1;
}

static void *link_of(int fd)
{
	return (void *)(intptr_t)(fd + 1);
}

static size_t read_link(void *link, uint8_t *to, size_t room)
{
	ssize_t n = recv(fd_of(link), to, room, 0);
	return n > 0 ? (size_t)n : 0;
}

static size_t write_link(void *link, struct bytes b)
{
	ssize_t n = send(fd_of(link), b.at, b.n, MSG_NOSIGNAL);
	return n > 0 ? (size_t)n : 0;
}

static void close_link(void *link)
{
	close(fd_of(link));
}

static const struct exchange_io io = {read_link, write_link};

static socklen_t to_sockaddr(const struct addr *a, uint16_t port, struct sockaddr_storage *to)
{
	if (addr_is_ipv4(a)) {
		struct sockaddr_in *in = (struct sockaddr_in *)to;
		*in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
		memcpy(&in->sin_addr, addr_ipv4(a), 4);
		return sizeof *in;
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
	*in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
	memcpy(&in6->sin6_addr, a->b, 16);
	return sizeof *in6;
}

static bool watch(int fd, void *what)
{
	struct epoll_event e = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = what};
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0;
}

static bool prepare(int fd)
{
	int one = 1;
	const char *name = options->congestion;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (options->mss != 0 &&
		setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &options->mss, sizeof options->mss) != 0)
		return false;
	return name == NULL ||
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) == 0;
}

/* ---- server ---- */

static bool listen_all(void)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(options->port)};
	int one = 1, zero = 0;
	listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
	served = calloc(FDS_MAX, sizeof *served);
	/* Accepted ones inherit what is prepared. */
	return served != NULL && prepare(listener) && bind(listener, (struct sockaddr *)&any, sizeof any) == 0 &&
		listen(listener, BACKLOG) == 0 && watch(listener, NULL);
}

/* What has come is answered; false: the connection is closed. */
static bool serve(int fd, uint32_t events)
{
	struct served *s = &served[fd];
	uint64_t before = s->exchange.requests;
	bool is_done = exchange_serve(&s->exchange, &io, link_of(fd));
	peer_results.answered += s->exchange.requests - before;
	peer_results.wrong += s->exchange.is_wrong;
	bool is_eof = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	if (is_eof && !is_done && !exchange_is_between(&s->exchange) && s->exchange.sent == 0)
		peer_results.failed++;
	if (!is_done && !is_eof)
		return true;
	close(fd);
	return false;
}

static bool accept_some(void)
{
	for (int i = 0; i < BATCH; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return false;
		if (fd >= FDS_MAX) {
			close(fd);
			continue;
		}
		peer_results.opened++;
		served[fd] = (struct served){0};
		if (serve(fd, 0))
			watch(fd, &served[fd]);
	}
	return true; /* there may be more */
}

static int run_server(void)
{
	struct epoll_event events[EVENTS_MAX];
	bool has_more = false;
	if (!listen_all()) {
		perror("listen");
		return EX_OSERR;
	}
	peer_ready();
	while (!peer_is_stopped()) {
		int n = epoll_wait(epoll_fd, events, EVENTS_MAX, has_more ? 0 : WAIT_MS_MOST);
		for (int i = 0; i < n; i++)
			if (events[i].data.ptr == NULL)
				has_more = true;
			else
				serve((int)((struct served *)events[i].data.ptr - served),
					events[i].events);
		if (has_more)
			has_more = accept_some();
	}
	return 0;
}

/* ---- client ---- */

static void *open_link(struct peer_client *client, uint64_t now_us)
{
	struct sockaddr_storage to;
	socklen_t n = to_sockaddr(&options->server, options->port, &to);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	if (prepare(fd) && (connect(fd, (struct sockaddr *)&to, n) == 0 || errno == EINPROGRESS) &&
		watch(fd, client))
		return link_of(fd);
	close(fd);
	return NULL;
}

static void on_client_event(struct peer_client *c, uint32_t events, uint64_t now_us)
{
	int error = 0;
	socklen_t n = sizeof error;
	int fd = fd_of(c->link);
	if (events & EPOLLERR)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
	if (error == 0)
		peer_client_happened(c, now_us);
	if (error == 0 && !(events & (EPOLLRDHUP | EPOLLHUP)))
		return;
	close(fd);
	peer_client_gone(c, error != 0 ? strerror(error) : NULL, now_us);
}

static int wait_ms(uint64_t now_us)
{
	uint64_t due = peer_client_due_us();
	if (due <= now_us)
		return 0;
	uint64_t ms = (due - now_us + 999) / 1000;
	return ms < WAIT_MS_MOST ? (int)ms : WAIT_MS_MOST;
}

static int run_client(void)
{
	static const struct peer_carrier carrier = {{read_link, write_link}, open_link, close_link};
	struct epoll_event events[EVENTS_MAX];
	uint64_t now = time_monotonic_us();
	peer_client_start(options, &carrier);
	peer_ready();
	while (!peer_is_stopped() && peer_client_turn(now)) {
		int n = epoll_wait(epoll_fd, events, EVENTS_MAX, wait_ms(now));
		now = time_monotonic_us();
		for (int i = 0; i < n; i++)
			on_client_event(events[i].data.ptr, events[i].events, now);
	}
	return 0;
}

int peer_run_kernel(const struct peer_options *o)
{
	options = o;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return o->is_server ? run_server() : run_client();
}
