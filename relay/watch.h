// SPDX-License-Identifier: Apache-2.0
/* relay/watch.h: an operator watches: a trace of connections or a capture of a port, on the main thread.
 *
 * What the workers write onto tapes is read in pieces, as requests ask for it. A watch ends by itself: when its time
 * or its count is used up, or when nobody has read for some seconds, since who asked for it may be gone. */
#pragma once

#include <yyjson.h>

#include "relay/look.h"

struct watch;
/* From a request's members ("peer", "port", "seconds", "count" of a trace; "port": its name, "bytes", "filter",
 * "seconds", "count" of a capture). NULL: `error` says why. */
struct watch *watch_create(struct relay *relay, bool is_capture, yyjson_val *root, uint64_t now_us, char error[160]);
/* When no worker has it any more. */
void watch_destroy(struct watch *w);
uint64_t watch_id(const struct watch *w);
/* An errand for a core: from now on (or no longer) it writes for this watch. */
void watch_fill_errand(const struct watch *w, unsigned core, bool is_on, struct look_watch *errand);
/* Nothing more is to be written. */
bool watch_is_over(const struct watch *w, uint64_t now_us);
/* Nobody has read for so long that nobody will. */
bool watch_is_forgotten(const struct watch *w, uint64_t now_us);
/* Adds what is there to the answer, in the order of time, as much as fits: "events" or "packets", "lost": how many
 * there was no room for, so far, and "over": this was the last. Returns that. `is_off`: no worker writes any more. */
bool watch_read(struct watch *w, bool is_off, yyjson_mut_doc *doc, uint64_t now_us);
void watch_end(struct watch *w);
