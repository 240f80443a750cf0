// SPDX-License-Identifier: Apache-2.0
/* tests/tools/lane.h: one direction of a bad network: frames go in, and come out later, or not, or twice.
 *
 * What becomes of a frame depends on the seed and on how many frames came before it, so a run over the same
 * frames does the same. No clock, no I/O: times are the caller's, in microseconds, and never go back. One
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define LANE_FRAME_MAX	2048 /* bytes: an MTU of 1500 and more */
#define LANE_FRAMES_MAX 8192 /* under way at a time; further ones are dropped and counted */

struct lane_config {
	double loss, duplicate, reorder, corrupt; /* shares of the frames, 0 to 1 */
	double mark; /* share of the frames whose IP header says that they may be marked (RFC 3168): CE, as by a router */
	uint64_t delay_us;
	unsigned reorder_gap; /* a frame that is held back lets 1 to so many later ones pass … */
	uint64_t reorder_us;  /* … but waits no longer than this for them */
	uint64_t rate_bits;   /* a second, of whole frames; 0: as fast as they come */
	uint64_t queue_bytes; /* that may wait for their turn at that rate; what comes on top is dropped */
	uint64_t seed;
};

/* in + duplicated == out + lost + queue_full + no_room + too_long + what is still under way. */
#define LANE_COUNTS(_)                                                                               \
	_(in, "frames that came in")                                                                 \
	_(in_bytes, "their bytes")                                                                   \
	_(out, "frames that went out, copies included")                                              \
	_(out_bytes, "their bytes")                                                                  \
	_(lost, "frames dropped by chance, as asked")                                                \
	_(duplicated, "copies made")                                                                 \
	_(corrupted, "frames in which a bit was turned; a copy of one has it too")                   \
	_(markable, "frames that may be marked")                                                    \
	_(marked, "of these, marked with CE")                                                        \
	_(held_back, "frames made to wait for later ones")                                           \
	_(overtaken, "frames that a later one really overtook")                                      \
	_(queue_full, "frames dropped because too many bytes waited for the rate limit")             \
	_(no_room, "frames dropped because too many were under way")                                 \
	_(too_long, "frames dropped because they were longer than LANE_FRAME_MAX")

struct lane_counts {
#define _(name, help) uint64_t name;
	LANE_COUNTS(_)
#undef _
};

struct lane;

/* NULL: no memory. */
struct lane *lane_create(const struct lane_config *config);
void lane_destroy(struct lane *l);
/* A frame has come; it is copied. */
void lane_push(struct lane *l, struct bytes frame, uint64_t now_us);
/* The next frame that is due; false: none is. The bytes are valid until the next call. */
bool lane_pop(struct lane *l, uint64_t now_us, struct bytes *frame);
/* When the next frame is due; UINT64_MAX: nothing is under way. */
uint64_t lane_due_us(const struct lane *l);
/* Frames that are in and neither out nor dropped. */
unsigned lane_under_way(const struct lane *l);
const struct lane_counts *lane_counts(const struct lane *l);
