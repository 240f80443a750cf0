// SPDX-License-Identifier: Apache-2.0
/* relay/handshakes.h: the TLS handshakes of a core, counted by what they agreed on or by why they failed. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "tls/tls.h"

/* Why there was none. */
#define HANDSHAKE_FAILURES(_)                                                                        \
	_(CLIENT_BUDGET, "client_budget") /* refused: the client has used up limits.client_handshakes */  \
	_(IN_FLIGHT, "in_flight")	  /* refused: limits.handshakes are in flight */	     \
	_(NO_MEMORY, "no_memory")	  /* refused: no memory or no certificate for a session */   \
	_(NOT_TLS, "not_tls")		  /* what came was no ClientHello */			     \
	_(HELLO_TOO_LARGE, "hello_too_large") /* or in too many records */			     \
	_(TIMED_OUT, "timed_out")							     \
	_(CLOSED, "closed")		  /* the peer closed or reset the connection */		     \
	_(HANDSHAKE, "handshake")	  /* an alert, nothing in common, a bad message */	     \
	_(UNTRUSTED, "untrusted")	  /* the peer's certificate */				     \
	_(NAME, "name")			  /* the same, for another name */			     \
	_(NO_CERT, "no_certificate")	  /* asked for and not sent */				     \
	_(WEAK, "weak")			  /* agreed on less than the profile asks for */

enum handshake_failure {
#define _(id, name) HANDSHAKE_##id,
	HANDSHAKE_FAILURES(_)
#undef _
	HANDSHAKE_FAILURE_COUNT
};
/* Of a session that failed in its handshake. */
enum handshake_failure handshake_failure_of(enum tls_failure_kind kind);

enum { HANDSHAKE_VERSIONS = 3 }; /* TLS 1.2, 1.3, older */

struct handshake_side {
	_Atomic uint64_t done[HANDSHAKE_VERSIONS][TLS_GROUP_COUNT][TLS_KEY_COUNT][2]; /* last: is resumed */
	_Atomic uint64_t failed[HANDSHAKE_FAILURE_COUNT];
};
/* One writer, the worker; readers want a recent value. */
struct handshake_counters {
	struct handshake_side server, client;
};

void handshake_count(struct handshake_side *side, struct tls_agreement agreed);
void handshake_count_failure(struct handshake_side *side, enum handshake_failure failure);

/* Every counter with its labels (`side="…",…`, at most HANDSHAKE_LABEL_MAX bytes), in the same order each time. Of what
 * was agreed most never happens: `is_rare` ones need not be told while they are 0. */
#define HANDSHAKE_LABEL_MAX 112
typedef void handshake_visit_fn(void *user, const char *name, const char *labels, const char *help, bool is_rare,
	uint64_t value);
void handshake_visit(const struct handshake_counters *counters, handshake_visit_fn *visit, void *user);
