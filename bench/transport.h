// SPDX-License-Identifier: Apache-2.0
/* bench/transport.h: TCP connections from somewhere: the kernel's (epoll) or our own over
 * net_memif.
 *
 * One thread. The transport owns the loop and calls its user: for what happened to a link, and once
 * a turn. */
#pragma once

#include "base/bytes.h"
#include "bench/options.h"

struct link; /* of the transport; valid until close or GONE */
struct transport;

enum link_event {
	LINK_UP = 1,	/* connected */
	LINK_MOVED = 2, /* there may be more to read, or room to write */
	LINK_EOF = 4,	/* the server sends no more */
	LINK_GONE = 8,	/* the link is no more; `why` says why */
};

struct transport_user {
	void (*on_link)(void *owner, unsigned events, const char *why);
	/* Once a turn; false ends run(). `*is_busy`: it did something. */
	bool (*turn)(uint64_t now_us, bool *is_busy);
};

struct transport_ops {
	/* NULL: cannot be opened, `*why` says why. */
	struct link *(*open)(struct transport *t, void *owner, const char **why);
	/* Bytes moved; 0: nothing now. */
	size_t (*read)(struct link *link, uint8_t *to, size_t room);
	size_t (*write)(struct link *link, struct bytes b);
	/* What was written still goes; no event follows. */
	void (*close)(struct link *link);
	void (*run)(struct transport *t, const struct transport_user *user);
	/* Microseconds this thread has really worked; UINT64_MAX: as much as it had processor time. */
	uint64_t (*busy_us)(struct transport *t);
	void (*destroy)(struct transport *t);
};

struct transport {
	const struct transport_ops *ops;
	const char *name; /* "memif", "kernel sockets" */
	/* The user's, written in turn(): how long the next turn can wait if nothing happens; 0: as
	 * long as the transport likes. */
	uint64_t wait_us;
};

/* NULL with `error` filled. */
struct transport *transport_kernel(const struct options *o, char error[256]);
struct transport *transport_memif(const struct options *o, char error[256]);
