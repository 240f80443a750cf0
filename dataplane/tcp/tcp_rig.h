// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_rig.h: one stack and a peer made by hand, in virtual time, for the tests of this folder. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "dataplane/tcp/tcp_kit.h"

#define RIG_PORT 25	/* the stack listens here, if it does */
#define RIG_TAG	 99

struct rig {
	struct tcp_stack *s;
	struct tcp_conn *c;
	uint64_t now_us;
	struct addr local, remote; /* the stack's and the peer's */
	uint16_t local_port, remote_port;
	uint32_t seq; /* the next that the peer sends */
	uint32_t ack; /* the next that the peer expects */
	uint16_t window;
	uint16_t mss;
	int wscale;
	bool has_ts;
	uint32_t tsval, tsecr;
	uint8_t ecn;	     /* of the IP header of what the peer sends, and of the last segment taken */
	uint8_t got_ecn;
	bool has_sack;	     /* the peer's SYN permits it */
	unsigned sack_count; /* blocks that the next segment carries: start and end of each */
	uint32_t sack[4][2];
	uint32_t events;	/* of the connection, gathered */
	enum tcp_end end;
	struct kit_segment got; /* the last taken */
	uint16_t mtu;
	unsigned in_use[2]; /* mbufs at the start: a failed test may have left some */
	uint32_t owned_modulo; /* is_ours(): ports that this divides; 0: all */
};

extern bool rig_is_ipv6; /* which family the tests run in */

/* Defaults that a test may change before rig_start(). */
struct tcp_config rig_config(void);
void rig_start(struct rig *r, const struct tcp_config *config);
/* Destroys the stack; all mbufs must be back in their pools. */
void rig_end(struct rig *r);
struct rte_mempool *rig_pool(bool is_control);

void rig_in_raw(struct rig *r, const struct kit_segment *seg);
/* The peer sends; text "" for none. */
void rig_in(struct rig *r, uint8_t flags, uint32_t seq, uint32_t ack, const char *text);
/* The peer sends text in order, with ACK, and takes count of it. */
void rig_text(struct rig *r, const char *text);
/* What the stack sends next; false: nothing. */
bool rig_out(struct rig *r);
void rig_expect(struct rig *r, uint8_t flags, uint32_t seq, uint32_t ack, const char *text);
void rig_expect_nothing(struct rig *r);
/* Lets time pass, running timers as they are due. Segments stay to be taken. */
void rig_wait(struct rig *r, uint64_t us);
/* Gathers events; returns all so far. */
uint32_t rig_events(struct rig *r);
/* A listener, and a handshake from the peer. */
void rig_listen(struct rig *r);
void rig_accept(struct rig *r);
/* A connection opened by the stack. */
void rig_connect(struct rig *r);
size_t rig_write(struct rig *r, const char *text);
void rig_expect_read(struct rig *r, const char *text);
/* A text in which places can be told apart; a test that has cut it makes it anew. */
extern char rig_big[65536];
void rig_make_big(void);
/* rig_start() with the defaults, and rig_accept(). */
void rig_begin(struct rig *r);
struct tcp_info rig_info(const struct rig *r);
void rig_write_big(struct rig *r, size_t n);
/* Takes all there is; returns how many segments, which must follow each other from `from`. */
unsigned rig_take_all(struct rig *r, uint32_t from);
/* The peer acknowledges up to `to`. */
void rig_ack(struct rig *r, uint32_t to);
const char *rig_state(struct rig *r);
uint64_t rig_drops(struct rig *r, const char *name);
int rig_main(const struct CMUnitTest *tests, size_t count);
