// SPDX-License-Identifier: Apache-2.0
/* relay/inspect.h: the operator's requests about connections, on the main thread: from the link's JSON to errands
 * of the workers (relay/look.h) and back. One request at a time; others wait, some of them. */
#pragma once

#include <yyjson.h>

#include "control/shm/stats.h"
#include "relay/relay.h"

struct inspect;
struct inspect *inspect_create(struct relay *relay); /* NULL: no memory */
/* After the workers have ended. */
void inspect_destroy(struct inspect *i);
/* Is `op` of a request one for here? */
bool inspect_knows(const char *op);
/* Takes a request; the answer follows, at once or later, from inspect_answer(). */
void inspect_request(struct inspect *i, const char *json, size_t n);
/* Goes on with what is under way; some hundred times a second while inspect_is_busy(). */
void inspect_turn(struct inspect *i, uint64_t now_us);
bool inspect_is_busy(const struct inspect *i);
/* The next answer, for the link; NULL: none. Freed by the caller. */
struct note *inspect_answer(struct inspect *i);

/* ---- for relay/counters.c: the last census of a core ---- */
struct look_census;
const struct look_census *inspect_census(const struct inspect *i, unsigned core);
