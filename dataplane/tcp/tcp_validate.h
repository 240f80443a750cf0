// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_validate.h: what must hold of a stack between any two calls of it: its invariants, stated
 * once for the simulator, the fuzzer and the tests. Reads everything, changes nothing. Test code. */
#pragma once

#include "dataplane/tcp/tcp.h"

#define TCP_WATCH_CONNS 64

/* What must not go back, as it was when last looked at; zeroed at the start. One a stack. */
struct tcp_watch {
	struct {
		bool is_used;
		uint16_t local_port;
		uint32_t iss, irs, snd_una, snd_max, rcv_nxt, rcv_adv;
	} conns[TCP_WATCH_CONNS];
};

/* NULL: all holds. Else a sentence about the first thing that does not; static, until the next call. `watch`
 * may be NULL. Costs a walk over all that the connections hold. */
const char *tcp_validate(const struct tcp_stack *stack, struct tcp_watch *watch);
