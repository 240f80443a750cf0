// SPDX-License-Identifier: Apache-2.0
/* tests/wire/stack.h: the TCP library under test, in virtual time: segments go in, what it sends is kept in order
 * with the time at which it was sent. */
#pragma once

#include "dataplane/tcp/tcp.h"
#include "dataplane/tcp/tcp_validate.h"
#include "tests/wire/packet.h"

#define SENT_MAX 512

struct sent {
	uint64_t time_us;
	struct addr local, remote;
	uint8_t ecn; /* the bits of the IP header */
	size_t n;
	uint8_t bytes[PACKET_MAX];
};

struct stack {
	struct tcp_stack *tcp;
	uint64_t now_us;
	uint32_t mtu;
	bool is_held; /* no output until it is let go */
	struct sent *sent; /* SENT_MAX */
	unsigned sent_first, sent_count;
	const char *failure; /* NULL: none */
	struct tcp_watch watch;
	char broken[300];
	unsigned in_use[2];
};

/* Starts the EAL and makes the pools; once. */
void stack_start(void);
void stack_stop(void);
/* Limits that are small enough to be reached. */
struct tcp_config stack_config(void);
void stack_open(struct stack *s, const struct tcp_config *config, uint32_t mtu, uint64_t now_us);
/* NULL, or what is wrong: buffers that have not come home. */
const char *stack_close(struct stack *s);

/* A segment arrives now. `ecn`: the bits of its IP header. */
void stack_in(struct stack *s, const struct addr *local, const struct addr *remote, struct bytes segment, uint8_t ecn);
/* Has the stack do what is due now. */
void stack_output(struct stack *s);
/* Lets time pass until `until_us`, or, if `is_impatient`, until something has been sent. */
void stack_run(struct stack *s, uint64_t until_us, bool is_impatient);
/* The oldest segment sent and not looked at; NULL: none. */
const struct sent *stack_sent(struct stack *s);
void stack_sent_pop(struct stack *s);
