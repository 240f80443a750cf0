// SPDX-License-Identifier: Apache-2.0
/* relay/attach.h: the relay's end of the link to control, on the main thread. */
#pragma once

#include "control/shm/stats.h"
#include "relay/relay.h"

struct attach;
/* Makes the counters' memory object; connects when attach_turn() is called. NULL: `error` says why. */
struct attach *attach_create(struct relay *relay, char error[256]);
/* Connects if it is time to, receives what is there, sends what the queue thread has. Waits `wait_ms` at most
 * for something to do. */
void attach_turn(struct attach *a, int wait_ms);
/* Copies the threads' counters into the shared region, some times a second. */
void attach_update_stats(struct attach *a);
/* Closes the link; the workers and the queue thread must have ended. */
void attach_destroy(struct attach *a);

/* relay/counters.c: names every counter of the relay once, then copies values. */
struct counters;
struct inspect;
/* `inspect` is asked for the censuses; both outlive it. NULL: no memory. Main thread, as are the others. */
struct counters *counters_create(struct relay *relay, struct stats_region *region, const struct inspect *inspect);
void counters_update(struct counters *c);
void counters_destroy(struct counters *c);
