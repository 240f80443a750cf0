// SPDX-License-Identifier: Apache-2.0
/* bench/sink_session.h: the server side of one SMTP session that says yes to everything and keeps
 * nothing. Text in, replies out; no I/O, no allocation. A peer for measuring deliveries, not a mail
 * server. */
#pragma once

#include "base/bytes.h"

#define SINK_OUT_BYTES 2048 /* of replies waiting to be sent */
#define SINK_LINE_MAX  64   /* of a command that is looked at; the rest of a line is skipped */

struct sink_session {
	bool is_data, is_tls_offered;
	uint8_t matched; /* of CRLF . CRLF, while data comes */
	uint8_t length;
	uint16_t out_length;
	char line[SINK_LINE_MAX];
	char out[SINK_OUT_BYTES];
	uint64_t mails, bytes; /* counted up; the user takes them away */
};

enum sink_event { SINK_NONE, SINK_STARTTLS, SINK_QUIT };

/* Greets. */
void sink_open(struct sink_session *s, bool is_tls_offered);
/* Uses what it can and returns how many bytes; stops at an event and where `out` has no room for a
 * reply. */
size_t sink_feed(struct sink_session *s, struct bytes in, enum sink_event *event);
/* After the handshake: from here as new, without a greeting. */
void sink_secured(struct sink_session *s);
