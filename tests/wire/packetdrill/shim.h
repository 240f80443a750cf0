// SPDX-License-Identifier: Apache-2.0
/* tests/wire/packetdrill/shim.h: sockets over our TCP in virtual time: what the files of this folder share.
 *
 * Two threads may be in here: packetdrill's own, which moves time and packets, and one for a blocking call. One lock
 * guards all. Whoever blocks waits for `changed`; before time moves on it is given a moment to look. */
#pragma once

#include <pthread.h>

#include "dataplane/tcp/tcp.h"
#include "tests/wire/packetdrill/interface.h"

#define FDS_MAX	    64
#define ACCEPTS_MAX 64 /* connections waiting for accept(), of one listener */
#define WATCHES_MAX 16 /* of an epoll descriptor */

enum fd_kind { FD_FREE, FD_SOCKET, FD_LISTENER, FD_CONN, FD_EPOLL };

struct watch {
	int fd; /* -1: none */
	struct epoll_event event;
};
struct fd {
	enum fd_kind kind;
	bool is_ipv6, is_nonblocking, is_reset_on_close; /* SO_LINGER with 0 */
	bool is_read_shut, is_write_shut;
	struct addr local;
	uint16_t local_port;
	/* of a connection */
	struct tcp_conn *conn; /* NULL: it has ended */
	bool is_connecting, has_fin;
	int error; /* pending */
	uint8_t *rest; /* what was not read when it ended */
	size_t rest_size, rest_read;
	/* of a listener */
	struct tcp_conn *accepts[ACCEPTS_MAX];
	unsigned accept_count;
	/* of an epoll descriptor */
	struct watch watches[WATCHES_MAX];
};

struct shim {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned waiting; /* threads that block */
	uint64_t changes; /* so that each of them looks once */
	uint64_t now_us, silent_us; /* how long netdev_receive() has had nothing */
	struct tcp_stack *tcp;
	struct rte_mempool *pool, *control_pool;
	struct addr local4, local6;
	uint16_t mtu;
	struct fd fds[FDS_MAX];
};

/* ---- shim.c ---- */
/* All but the table's calls are with the lock held. */
void shim_lock(struct shim *s);
void shim_unlock(struct shim *s);
/* Something happened: events are taken, and whoever blocks looks again. */
void shim_changed(struct shim *s);
/* Blocks until something has happened; false: nothing does, for seconds of real time. */
bool shim_wait(struct shim *s);

/* ---- sockets.c ---- */
void sockets_take_events(struct shim *s);
void sockets_fill(struct packetdrill_table *table);
void sockets_end(struct shim *s);
/* What poll() would say of it. */
short sockets_ready(struct shim *s, int fd);
struct fd *sockets_fd(struct shim *s, int fd);
int sockets_new(struct shim *s, enum fd_kind kind);

/* ---- readiness.c: poll and epoll ---- */
void readiness_fill(struct packetdrill_table *table);

/* ---- options.c: getsockopt, setsockopt, fcntl, ioctl ---- */
void options_fill(struct packetdrill_table *table);

/* ---- ip.c: IP headers around what TCP takes and gives ---- */
/* 0, or -1 with errno: it is no packet of IP. */
int ip_in(struct shim *s, const void *packet, size_t n);
/* Writes the departing segment as a packet; its length, 0 if it does not fit. */
size_t ip_out(const struct tcp_departure *d, void *packet, size_t room);
