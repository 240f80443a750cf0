// SPDX-License-Identifier: Apache-2.0
/* dataplane/capture.h: a port's packets, copied for somebody who watches: tcpdump cannot see a port that the kernel
 * does not know.
 *
 * A capture is made by the thread that watches, one for each core, which gives it to the core by way of the core's own
 * thread. From then on the core copies what passes the filter, the first bytes of each packet, onto a tape, and never
 * waits: what the tape has no room for is counted. While there is none it costs a branch a burst. */
#pragma once

#include "base/tape.h"
#include "dataplane/dataplane.h"

#define DP_CAPTURE_BYTES_MAX  65535 /* of a packet: more than any port of ours carries */
#define DP_CAPTURE_FILTER_MAX 512   /* instructions: a filter written by hand has some dozens */

/* An instruction of the BSD packet filter, as pcap_compile() makes them. */
struct dp_filter {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};

/* An entry of the tape; `kept` bytes of the packet, from its Ethernet header on, follow. */
struct dp_captured {
	uint64_t at_us; /* time_monotonic_us() */
	uint32_t length, kept;
	bool is_out;
};

struct dp_capture;
/* Of the port with that index: `bytes_most` of each packet that the filter (`count` 0: none) lets through, a tape of
 * `tape_bytes`. 0; -EINVAL: that is no filter; -ENOMEM. */
int dp_capture_create(struct dp_capture **capture, unsigned port, uint32_t bytes_most, const struct dp_filter *filter,
	unsigned count, size_t tape_bytes);
/* When no core has it any more. */
void dp_capture_destroy(struct dp_capture *capture);
/* The core's thread: from now on this one; NULL: none. */
void dp_core_set_capture(struct dp_core *core, struct dp_capture *capture);
/* The watcher's end: entries are struct dp_captured. */
struct tape *dp_capture_tape(struct dp_capture *capture);
