// SPDX-License-Identifier: Apache-2.0
/* smtp/server/session.h: one inbound SMTP session (RFC 5321, 1870, 2920, 3030, 3207, 6152, 6531).
 *
 * Text in, replies and events out; no I/O, no clock, no allocation. Replies are written to a stream, an
 * event at a time is handed to the caller, who performs it and, where the event asks, answers. It neither
 * knows TCP nor TLS, nor does it keep addresses: the caller writes them into the mail as they come. */
#pragma once

#include "base/stream.h"

struct smtp_server;

/* Start-time settings, the same for all sessions of a listener; outlives them. */
struct smtp_server_config {
	const char *hostname;	 /* in the greeting and the EHLO reply */
	uint64_t message_bytes_max; /* SIZE; larger: 552 5.3.4 */
	uint32_t recipients_max;    /* per mail; one more: 452 4.5.3 */
	uint32_t line_bytes_max;    /* of a command line with CRLF; longer: 500 5.5.6-class */
	uint32_t header_bytes_max;  /* of the header section; larger: 552 5.3.4 */
	uint32_t received_max;	    /* Received fields; more: 554 5.4.6 (loop) */
	uint32_t errors_max;	    /* errors in a session; one more: 421 and close */
	uint32_t commands_max;	    /* commands without a mail (NOOP, RSET, VRFY …); more: 421 and close */
	uint32_t mails_max;	    /* mails in a session; more: 421 4.7.0 */
};

/* What the connect-stage rule decided for this client. */
struct smtp_server_policy {
	bool is_tls;		    /* implicit TLS: the handshake is done before the greeting */
	bool offers_starttls;	    /* announce STARTTLS while in clear */
	bool requires_tls;	    /* 530 5.7.0 to all but EHLO HELO NOOP STARTTLS QUIT RSET HELP until TLS */
	bool normalises_bare_lf;    /* bare CR or LF become CRLF, instead of 550 5.5.2 */
};

/* Bytes of memory a session needs (the caller's slab). */
size_t smtp_server_size(void);
/* Opens the session and writes the greeting. */
void smtp_server_open(struct smtp_server *s, const struct smtp_server_config *config,
	const struct smtp_server_policy *policy, struct stream *out);

enum smtp_event_kind {
	SMTP_EVENT_NONE,     /* all input used: more input, or an answer, is wanted */
	SMTP_EVENT_HELO,     /* greeted; text: the name; flag: EHLO */
	SMTP_EVENT_STARTTLS, /* 220 is written: send it, then shake hands; bytes still in `in` end the session */
	SMTP_EVENT_MAIL,     /* answer wanted; text: the sender; size, body_flags */
	SMTP_EVENT_RCPT,     /* answer wanted; text: the recipient, source route gone; domain */
	SMTP_EVENT_DATA,     /* answer wanted: content follows; begin the mail, or refuse */
	SMTP_EVENT_BODY,     /* text: content, in order, dots removed; points into `in` or a literal of ours */
	SMTP_EVENT_END,	     /* answer wanted, may take time: the content is complete; make it durable */
	SMTP_EVENT_ABORT,    /* the mail in progress is dropped (RSET, EHLO, error); forget it */
	SMTP_EVENT_REFUSED,  /* for the records; text: the command as far as printable; reply: ours */
	SMTP_EVENT_CLOSE,    /* send what is in `out`, then close; no more events come */
};

struct smtp_event {
	enum smtp_event_kind kind;
	struct bytes text;	/* valid until the next call on the session */
	struct bytes domain;	/* RCPT: the domain, or address literal with brackets; points into text */
	struct bytes reply;	/* REFUSED: the reply without CRLF */
	uint64_t size;		/* MAIL: what SIZE= said; 0: nothing */
	uint8_t body_flags;	/* MAIL: ENVELOPE_8BITMIME, ENVELOPE_SMTPUTF8 */
	bool flag;
};

/* Uses input until there is one event to perform, writes replies to `out`, and returns the bytes of `in`
 * used. Uses nothing while an answer is wanted, while `out` has too little room for a reply (the caller
 * sends and calls again), or after CLOSE. An incomplete line is left in `in`: the caller calls again with
 * the same bytes and more behind them (the session remembers how far it has looked). Call again until
 * SMTP_EVENT_NONE. */
size_t smtp_server_feed(
	struct smtp_server *s, struct bytes in, struct smtp_event *event, struct stream *out);

/* Answers the event that wanted it. `refusal` NULL: go on (250, or 354, or the 250 that ends a mail, with
 * `note`, e.g. the queue id, in its text); else one of our replies, complete with CRLF, e.g.
 * "554 5.7.1 <x@y>: Relay access denied\r\n". */
void smtp_server_answer(
	struct smtp_server *s, const char *refusal, const char *note, struct stream *out);

/* STARTTLS is done: all that was learned before is forgotten (RFC 3207 4.2); EHLO is expected. */
void smtp_server_tls_started(struct smtp_server *s);
/* Ends the session from outside (drain, timeout, limit): writes `reply` at the next point where a reply is
 * allowed, and CLOSE follows. A mail whose content is complete is still answered. */
void smtp_server_end(struct smtp_server *s, const char *reply, struct stream *out);

/* What the session waits for, to choose the deadline (RFC 5321 4.5.3.2.7) and for `hikyakuctl`. */
enum smtp_server_phase {
	SMTP_PHASE_COMMAND, /* the next command line */
	SMTP_PHASE_CONTENT, /* message content */
	SMTP_PHASE_ANSWER,  /* our own answer */
	SMTP_PHASE_CLOSED,
};
enum smtp_server_phase smtp_server_phase(const struct smtp_server *s);
/* The protocol word of RFC 3848 and RFC 6531 for the mail in progress: SMTP, ESMTP, ESMTPS, UTF8SMTPS … */
const char *smtp_server_proto(const struct smtp_server *s);
/* Did this input ever contain a bare CR or LF that was normalised in the present mail? */
bool smtp_server_has_normalised(const struct smtp_server *s);
