// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/trace.h: what happens on chosen connections, event by event, for somebody who watches.
 *
 * A trace is made by the thread that watches, which gives it to the stack by way of the stack's own thread; from then
 * on the stack writes events, and never waits: what the tape has no room for is counted. A stack has one or none; none
 * costs it a branch at each of the places where something happens. */
#pragma once

#include "base/tape.h"
#include "dataplane/tcp/tcp.h"

#define TCP_TRACE_SACKS 4 /* blocks of an option: there is no room for more */

enum tcp_trace_kind {
	TCP_TRACE_IN,	 /* a segment has arrived, whole and with a good checksum */
	TCP_TRACE_OUT,	 /* a segment is sent */
	TCP_TRACE_DROP,	 /* the segment that had arrived was dropped, or of no use */
	TCP_TRACE_STATE, /* the connection has entered another state */
	TCP_TRACE_TIMER, /* a timer has fired */
	TCP_TRACE_CC,	 /* congestion window, threshold or round trip have changed since the last event */
};

struct tcp_trace_event {
	uint64_t at_us; /* the stack's clock */
	struct addr local, remote;
	uint16_t local_port, remote_port;
	uint8_t kind; /* enum tcp_trace_kind */
	uint8_t flags; /* IN, OUT: of the header */
	uint8_t sack_count;
	bool has_ts;
	const char *why; /* OUT: why it was sent again, NULL: it was not; DROP: the reason; TIMER: its name. Lives on */
	const char *from, *to; /* STATE: names that live on */
	uint32_t seq, ack, len, window; /* IN, OUT: as they stand in the header; text bytes */
	uint32_t tsval, tsecr;
	uint32_t sack[TCP_TRACE_SACKS][2];
	uint32_t cwnd, ssthresh, srtt_us, rto_us, flight; /* CC; flight: bytes sent and not acknowledged */
};

struct tcp_trace;
/* Of connections with a peer of the prefix (0 bits: any) and the port at either end (0: any); a tape of so many
 * bytes, an event being some 200. NULL: no memory. */
struct tcp_trace *tcp_trace_create(const struct prefix *peer, uint16_t port, size_t bytes);
/* When no stack has it any more. */
void tcp_trace_destroy(struct tcp_trace *trace);
/* The stack's thread: from now on this one; NULL: none. */
void tcp_set_trace(struct tcp_stack *stack, struct tcp_trace *trace);
/* The watcher's end: entries are struct tcp_trace_event. */
struct tape *tcp_trace_tape(struct tcp_trace *trace);
