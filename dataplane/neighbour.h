// SPDX-License-Identifier: Apache-2.0
/* dataplane/neighbour.h: link-layer addresses of neighbours.
 *
 * Two tables. Every core has a *copy*: what it sends to, with a short queue of packets that wait.
 * The first core has the *resolver*: it alone asks and hears (ARP and NDP packets are handed to
 * it), keeps the states of RFC 4861 7.3.2 for both families, and tells the copies. A copy says WANT
 * when it needs an address and, not more often than once a second, when it uses one; it is told
 * KNOWN or GONE. News may be lost (full ring): who waits asks again, and gives up by himself. */
#pragma once

#include "dataplane/private.h"

#define NEIGHBOURS_MAX	     1024 /* on-link hosts in use at a time; most nodes have one: the router */
#define INCOMPLETE_MAX	     256 /* of them unanswered: a scan from outside must not fill the table */
#define WAITING_MAX	     32 /* packets that wait for one neighbour: the SYNs of a burst, but … */
#define WAITING_LEAST	     1 /* … no more than this (RFC 4861 7.2.2) once there are … */
#define WAITING_MANY	     256 /* … so many of a core's for all of them: a quarter of its control buffers */
#define ASK_TRIES	     3			   /* MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT */
#define RETRANS_US	     (1000 * 1000ull)	   /* RETRANS_TIMER */
#define REACHABLE_US	     (30 * 1000 * 1000ull) /* REACHABLE_TIME */
#define DELAY_FIRST_PROBE_US (5 * 1000 * 1000ull)
#define FORGET_US	     (1200 * 1000 * 1000ull) /* unused: 20 minutes */
#define USE_REPORT_US	     (1000 * 1000ull)
#define WAIT_LIMIT_US	     (10 * 1000 * 1000ull) /* beyond what the resolver's tries can take */

/* ---- the copy of a core: neighbour.c ---- */
/* NULL: no memory. */
struct neighbours *neighbours_create(uint64_t seed);
/* Frees the packets that wait, too. */
void neighbours_destroy(struct neighbours *n);
/* Sends an IP packet to a neighbour, at once or when its address is known; takes it. */
void neighbour_output(struct dp_core *core, unsigned port, const struct addr *neighbour,
	struct rte_mbuf *m, uint64_t now_us);
void neighbour_hear(struct dp_core *core, const struct news *news, uint64_t now_us);
/* Gives up waits that nobody answered. Every second or so. */
void neighbour_tick(struct dp_core *core, uint64_t now_us);

/* ---- the first core's resolver: resolver.c ---- */
struct resolver *resolver_create(uint64_t seed);
void resolver_destroy(struct resolver *r);
/* Core `from` sends to this neighbour. */
void resolver_want(struct dp_core *core, unsigned from, const struct news *want, uint64_t now_us);
/* Somebody said that `addr` is at `mac`. */
struct resolver_claim {
	const uint8_t *mac; /* NULL: not said (an advertisement without the option) */
	bool is_solicited;  /* an answer to our question */
	bool is_override;   /* replaces another address that we had */
	bool may_create;    /* he speaks to us, so that we shall want it */
};
void resolver_hear(struct dp_core *core, unsigned port, const struct addr *addr,
	const struct resolver_claim *claim, uint64_t now_us);
/* Asks again, gives up, ages. Every 100 ms or so. */
void resolver_tick(struct dp_core *core, uint64_t now_us);
