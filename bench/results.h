// SPDX-License-Identifier: Apache-2.0
/* bench/results.h: what a run has measured, and how it is told. */
#pragma once

#include <stdbool.h>

#include "bench/histogram.h"
#include "bench/options.h"
#include "tls/tls.h"

#define FAILURES(_)                                                                                \
	_(CONNECT, "connect", "no connection came about")                                          \
	_(LOST, "lost", "the connection ended in the middle")                                      \
	_(TIMEOUT, "timeout", "the server kept us waiting")                                        \
	_(TLS, "tls", "the handshake or the record layer failed")                                  \
	_(GREETING, "session", "the session was refused: greeting, EHLO, STARTTLS, 421")           \
	_(TEMPORARY, "mail_4xx", "a mail was refused for now")                                     \
	_(PERMANENT, "mail_5xx", "a mail was refused")                                             \
	_(RECIPIENT, "recipient", "a mail was taken without all of its recipients")

enum failure {
#define _(id, name, help) FAILURE_##id,
	FAILURES(_)
#undef _
		FAILURE_KINDS
};

#define FAILURE_TEXT_MAX 128

struct results {
	uint64_t mails, sessions, handshakes;
	uint64_t resumed;	/* of the handshakes */
	uint64_t content_bytes; /* of mails taken, as sent */
	uint64_t failures[FAILURE_KINDS];
	char examples[FAILURE_KINDS][FAILURE_TEXT_MAX]; /* the first of each kind */
	/* Microseconds */
	struct histogram end;	      /* last byte of a message handed over .. its 250 */
	struct histogram transaction; /* MAIL .. the 250 */
	struct histogram handshake;   /* of TLS */
	struct histogram session;     /* connect .. 221; at an offered rate from when it was due */
	struct histogram secured;     /* from there to the end of the handshake */
	struct histogram burst;	      /* first ClientHello of a burst .. its last handshake's end */
	struct histogram late;	      /* at an offered rate: due .. begun */
	uint64_t bursts;
	uint64_t begun_late; /* by more than LATE_US: the generator or its connections were the
				limit */
	uint64_t missed;     /* were due and never begun: all connections were taken */
	uint64_t wall_us, busy_us; /* busy: of the generator's one thread */
	uint64_t pushed_us;	   /* it could have run, but others had the processor */
	unsigned open;		   /* sessions at the end */
	bool is_interrupted;
	struct tls_verdict verdict; /* of the first handshake */
};

#define LATE_US 1000

/* Above this share the generator is taken to be what limits the figure. */
#define BUSY_SHARE_MAX	 0.9
#define PUSHED_SHARE_MAX 0.1

void results_fail(struct results *r, enum failure kind, const char *text);
uint64_t results_failed(const struct results *r);
void results_print(const struct results *r, const struct options *o, const char *transport);
