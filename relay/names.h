// SPDX-License-Identifier: Apache-2.0
/* relay/names.h: clients' confirmed reverse DNS names: asked by a worker for a connection whose rules want it, by way of
 * the main thread, of control. Never more than NAMES_MAX a core at once, and nobody waits for long: without an
 * answer a client has no name. */
#pragma once

#include "base/addr.h"
#include "base/ring.h"

#include <yyjson.h>

struct relay;
struct worker;
struct conn;

#define NAMES_MAX 1023 /* under way, of a core: as many as a ring of 1,024 has places */
#define NAME_BYTES 256

/* One question. The worker's while it is free or answered, the main thread's in between. */
struct name_query {
	uint32_t slot, generation; /* of the connection */
	struct addr addr;
	char name[NAME_BYTES]; /* the answer; empty: none */
};
struct name_open {
	uint64_t token, until_us; /* token 0: the main thread has not got the query of this place */
};
struct name_lane {
	struct name_query *queries;
	struct ring asked, answered; /* to and from the main thread */
	/* The worker's alone: */
	struct name_query *free[NAMES_MAX];
	uint32_t free_count;
	/* The main thread's alone: */
	struct name_open open[NAMES_MAX];
};
/* false: no memory. */
bool name_lane_init(struct name_lane *lane);
void name_lane_fini(struct name_lane *lane);

/* Worker: asks; the answer comes through names_take(). false: too many are under way, so that the client has none. */
bool names_ask(struct worker *w, const struct conn *c, const struct addr *client);
/* Worker: hands the answers to inbound_named(); true if there were some. */
bool names_take(struct worker *w);

/* ---- the main thread's end ---- */
/* Sends what is asked (`fd` -1: control is away, which is an answer), and ends what has waited too long. */
void names_turn(struct relay *relay, int fd, uint64_t now_us);
/* Control has said: {"type":"named","token":…,"name":…}. */
void names_answer(struct relay *relay, yyjson_val *root);
/* Control has gone: nothing that was asked is answered any more. */
void names_unlinked(struct relay *relay);
