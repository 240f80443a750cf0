// SPDX-License-Identifier: Apache-2.0
/* relay/look.h: what a worker does for an operator who wants to see its connections, a bounded step a turn.
 *
 * All of it are errands (relay/worker.h): the main thread fills one in, lends it to the worker, and reads what the
 * worker has put into it once it is back. So a worker copies some connections in a turn and never waits. */
#pragma once

#include "relay/worker.h"

#define LOOK_ROWS    256 /* in one list */
#define LOOK_PLACES  256 /* of TCP's table, looked at in a turn: some ten microseconds */
#define LOOK_COPIES  16  /* rows filled in a turn: likewise */
#define LOOK_STATES  16
#define LOOK_REMNANTS (1u << 30)
#define LOOK_RTTS    8

enum look_direction { LOOK_BOTH, LOOK_IN, LOOK_OUT };

struct look_filter {
	unsigned state; /* tcp_state_name(); UINT32_MAX: any */
	struct prefix peer; /* 0 bits: any */
	uint16_t port;	    /* at either end; 0: any */
	uint8_t direction;  /* enum look_direction */
};

/* A connection, as copied. Texts that are pointers live as long as the process. */
struct look_row {
	bool is_remnant; /* half-open or in TIME-WAIT: of `tcp` only the state is known */
	uint64_t until_us; /* of a remnant: from now */
	uint64_t id; /* tcp_conn_id() */
	struct addr local, remote;
	uint16_t local_port, remote_port;
	struct tcp_info tcp;
	const char *phase;    /* of SMTP, or what else is done; NULL: nobody is above it any more */
	const char *listener; /* NULL: outbound */
	const char *tls;      /* "TLSv1.3"; NULL: in clear */
	const char *cipher;
	uint64_t age_us, idle_us; /* age 0: not known */
	char name[128];	  /* inbound: of HELO; outbound: the host, or its address */
	char domain[128]; /* outbound: the next hop's domain */
};

struct look_list {
	struct errand errand;
	struct look_filter filter;
	bool has_remnants; /* they are listed too, behind the connections */
	uint32_t cursor; /* from there on, and where it has come to: tcp_walk()'s, or LOOK_REMNANTS + tcp_walk_remnants()' */
	bool has_more;
	unsigned limit, count; /* rows; limit: LOOK_ROWS at most */
	uint32_t cursors[LOOK_ROWS]; /* where to go on behind each row */
	struct look_row rows[LOOK_ROWS];
	/* of the stack at the end of it */
	struct tcp_stats stats;
	/* within a turn: */
	struct worker *worker;
	const uint32_t *remnant_cursor; /* NULL: the walk is at the connections */
	unsigned copied;
};
bool look_list_step(struct worker *w, struct errand *errand);

struct look_end {
	struct errand errand;
	uint64_t id;
	bool is_found;
};
/* Ends a connection with RST, as if it had broken. */
bool look_end_step(struct worker *w, struct errand *errand);

struct dp_capture;
struct tcp_trace;
/* From now on the worker writes onto this (NULL: nothing). */
struct look_watch {
	struct errand errand;
	bool is_capture; /* else a trace */
	struct dp_capture *capture;
	struct tcp_trace *trace;
};
bool look_watch_step(struct worker *w, struct errand *errand);

/* How many connections are in which state, and how far their peers are. */
extern const uint32_t look_rtt_us[LOOK_RTTS]; /* upper bounds; the last: none */
struct look_census {
	struct errand errand;
	uint32_t cursor;
	uint32_t states[LOOK_STATES];
	uint32_t rtts[LOOK_RTTS]; /* of those that have been measured */
};
bool look_census_step(struct worker *w, struct errand *errand);
