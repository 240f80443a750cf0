// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim.h: two of our TCP stacks, a bad link between them, and their users, in virtual time.
 *
 * One history runs in one process, from struct sim_options alone; whatever is wrong ends the process
 * (sim_fail). sim_run.c is the loop, sim_link.c what happens to a segment on its way, sim_watch.c what
 * is checked of every segment, sim_user.c what the users do, sim_mutant.c what is broken on purpose. */
#pragma once

#include "dataplane/tcp/tcp_kit.h"
#include "dataplane/tcp/tcp_private.h"
#include "dataplane/tcp/tcp_validate.h"
#include "tests/sim/sim_options.h"

#define SIM_TALKS_MAX	4
#define SIM_FLIGHTS_MAX 16384
#define SIM_HELD_MAX	2048
#define SIM_LONELY_US	150000 /* see may_suffer(): every history has an end, so a time-out is a finding */
#define SIM_LONELY_LOST_MAX 2
#define SIM_SECOND_US	1000000ull
#define SIM_HOUR_US	(3600 * SIM_SECOND_US)
#define SIM_STREAM	(1u << 18) /* the bytes that a side writes come from a ring of so many */

/* Something on its way: a segment, an ICMP error, or an mbuf that a driver has not let go of yet. */
enum flight_kind { FLIGHT_SEGMENT, FLIGHT_TOO_BIG, FLIGHT_HELD };
struct flight {
	uint64_t due_us, serial;
	struct rte_mbuf *m;
	unsigned to; /* side */
	enum flight_kind kind;
	struct addr source, destination;
	bool is_intact;
	uint8_t ecn; /* of its IP header */
	uint32_t edge; /* right edge of the window it offers */
	bool has_edge;
	uint32_t mtu;
};

/* One end of one connection. */
struct half {
	struct sim *sim;
	struct talk *talk;
	unsigned side;
	struct tcp_conn *conn; /* NULL: not yet, or no more */
	uint16_t port;	       /* its own; 0: not known yet */
	uint16_t remote_port;  /* as it knows it */
	uint32_t base;	       /* where in the ring its stream begins */
	uint32_t to_write, written, has_read;
	bool opened, closed, fin_seen, ended;
	enum tcp_end reason;
	uint64_t reads_again_us, writes_again_us;
	uint64_t last_sent_us;
	/* as seen on the wire */
	bool has_iss, has_acked, has_edge, has_peer_edge;
	uint32_t iss, sent_max, acked, edge, peer_edge, tsval;
	uint16_t mss; /* what the other side was told, at last */
};
struct talk {
	struct half half[2];
	unsigned lonely_lost, lonely_passed;
	bool is_aborted;
	uint64_t abandoned_us; /* since when one half is gone by abort */
};

struct side {
	struct tcp_stack *stack;
	struct addr addr;
	struct rte_mempool *pool, *control;
	uint64_t skew_us; /* its clock, ahead of the simulator's */
	struct tcp_watch watch;
	uint64_t polls_at_us;
	bool has_news; /* it has not looked at */
};

struct sim {
	struct sim_options o;
	const struct sim_mutant *mutant;
	bool is_blind; /* the invariants are not looked at: what is wrong has to show by its effects */
	FILE *trace;   /* NULL: none */
	uint64_t random, now_us, start_us, serial;
	struct side sides[2];
	struct talk talks[SIM_TALKS_MAX];
	struct rte_mempool *wire;
	struct flight *flights; /* a heap, the earliest first */
	unsigned flight_count;
	uint64_t busy_until_us[2], last_due_us[2], blackout_us;
	uint64_t burst_until_us[2];
	struct rte_mbuf *starved[SIM_HELD_MAX];
	unsigned starved_count;
	uint64_t segments; /* put on the link */
	uint64_t marks[2]; /* CE marks that have reached a side on intact text */
	bool has_vanished;
	uint64_t mutant_at;
	bool mutant_done;
};

struct sim_result {
	uint64_t segments, virtual_us;
};

/* ---- sim_run.c ---- */
/* Once in a process, before the first history. */
void sim_start(void);
/* One history; returns only if all was well. */
void sim_run(const struct sim_options *o, const struct sim_mutant *mutant, bool is_blind, FILE *trace,
	struct sim_result *result);
[[noreturn]] void sim_fail(const struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(const struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The invariants of one side's stack; `after` says of which call. */
void sim_check(struct sim *s, unsigned side, const char *after);
static inline uint64_t sim_now(const struct sim *s, unsigned side)
{
	return s->now_us + s->sides[side].skew_us;
}
/* By the ports as `side` has them; NULL: of no connection of ours. */
struct half *sim_half(struct sim *s, unsigned side, uint16_t local_port, uint16_t remote_port);

/* ---- sim_link.c ---- */
/* The segment leaves `from`; takes the departure's mbuf. */
void sim_transmit(struct sim *s, unsigned from, const struct tcp_departure *d);
/* Everything due arrives. */
void sim_deliver(struct sim *s);
void sim_link_free(struct sim *s);

/* ---- sim_watch.c ---- */
/* What is to be sent is looked at, before anything happens to it. */
void sim_watch_departure(struct sim *s, struct half *h, const struct tcp_departure *d, struct flight *f);
void sim_watch_arrival(struct sim *s, struct half *h, const struct flight *f);

/* ---- sim_user.c ---- */
/* The bytes of a half's stream from `at` on; as many as lie in one piece. */
struct bytes sim_stream(const struct half *h, uint32_t at);
void sim_stream_init(void);
void sim_user_turn(struct sim *s, unsigned side);
/* When a user comes back from a pause; UINT64_MAX: none does. */
uint64_t sim_user_due_us(const struct sim *s);
/* Is there nothing more to be expected of the connection? */
bool sim_talk_is_over(const struct talk *t);

/* ---- sim_mutant.c: faults injected to see that they are found ---- */
struct sim_mutant {
	const char *name, *help;
	/* Breaks something; false: not possible now, try again at the next step. */
	bool (*strike)(struct sim *s, unsigned side, struct tcp_conn *c);
	bool is_found_blind; /* also by its effects alone */
};
extern const struct sim_mutant sim_mutants[];
extern const unsigned sim_mutant_count;
void sim_mutate(struct sim *s);
