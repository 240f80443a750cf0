// SPDX-License-Identifier: Apache-2.0
/* bench/generator_private.h: what the load (generator.c: how many sessions, when, and for how long) and one session of
 * it (generator_conn.c) know of each other. One thread, one load a process. */
#pragma once

#include "bench/channel.h"
#include "bench/client.h"
#include "bench/generator.h"

#define SCRATCH_BYTES (32u << 10)

/* WAITING: for the others of its burst, with the handshake next. */
enum place { FREE, CONNECTING, OPENING, WAITING, READY, BUSY, QUITTING, CLOSING };

struct conn {
	struct link *link;
	struct channel channel;
	struct client client;
	uint8_t place; /* enum place; written by conn_enter() */
	bool is_secure, has_eof, is_end_sent;
	bool is_counted;  /* open loop: it was due in the time that is measured */
	bool is_in_burst; /* its handshake is one of those under way */
	uint64_t mails;
	uint64_t opened_us; /* open loop: when it was due */
	uint64_t began_us, end_us, shaken_us;
	uint64_t deadline_us; /* FREE: not before */
};

enum stage { WARMING, MEASURING, DRAINING, OVER };

/* What all sessions share. */
struct load {
	const struct options *options;
	struct transport *transport;
	struct results *results;
	struct client_script *script;
	struct channels *channels; /* NULL: all in clear */
	struct conn *conns;
	unsigned in[CLOSING + 1]; /* how many are in each place */
	enum stage stage;
	uint64_t now_us, stage_us, stage_end_us, scan_us, told_us;
	uint64_t began_busy_us, began_cpu_us, began_pushed_us;
	uint64_t done; /* of options->count */
	uint64_t told_done;
	unsigned next_free; /* where the search for a FREE one goes on */
	uint64_t due_us,
		scheduled; /* open loop: the next session's time; sessions since due_first_us */
	uint64_t due_first_us;
	unsigned in_burst; /* handshakes of the burst that are under way */
	uint64_t burst_us;
	bool has_been_up;
	bool has_verdict; /* of a handshake of this stage */
	uint8_t scratch[SCRATCH_BYTES];
};
extern struct load load;

/* ---- the load: bench/generator.c ---- */
static inline bool load_is_measuring(void)
{
	return load.stage == MEASURING;
}
/* Is there still a mail (or a session) to be begun? Of those in flight none may become one too many. */
bool load_has_more(void);
/* Its handshake is done, or it has failed: the last of a burst ends it. */
void load_left_burst(struct conn *c);

/* ---- one session: bench/generator_conn.c ---- */
/* Begins to connect; what fails is counted. `due_us`: from when its times count. */
void conn_open(struct conn *c, uint64_t due_us);
/* The transport's word on it: struct transport_user. */
void conn_on_link(void *owner, unsigned events, const char *why);
void conn_start_handshake(struct conn *c);
/* Does what it can until it waits for the server. */
void conn_run(struct conn *c);
/* READY: the next mail, or QUIT, or it is held. */
void conn_go_on(struct conn *c);
/* Counted, let go, and not used again at once. */
void conn_fail(struct conn *c, enum failure kind, const char *text);
/* FREE, without a word to the server. */
void conn_let_go(struct conn *c);
/* The only writer of c->place; arms the deadline of the place. */
void conn_enter(struct conn *c, enum place place);
