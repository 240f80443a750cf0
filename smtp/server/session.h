// SPDX-License-Identifier: Apache-2.0
/* smtp/server/session.h: one inbound SMTP session (RFC 5321, 1870, 2920, 3030, 3207, 6152, 6531).
 *
 * Text in, replies and events out; no I/O, no clock, no allocation. Replies are written to a
 * stream, an event at a time is handed to the caller, who performs it and, where the event asks,
 * answers. It neither knows TCP nor TLS, nor does it keep addresses: the caller writes them into
 * the mail as they come. */
#pragma once

#include "base/stream.h"

struct smtp_server;

/* Start-time settings, the same for all sessions of a listener; outlives them. */
struct smtp_server_config {
	const char *hostname;	    /* in the greeting and the EHLO reply */
	uint64_t message_bytes_max; /* SIZE; larger: 552 5.3.4 */
	uint32_t recipients_max;    /* per mail; one more: 452 4.5.3 */
	uint32_t line_bytes_max;    /* of a command line with CRLF; longer: 500 5.5.6-class */
	uint32_t header_bytes_max;  /* of the header section; larger: 552 5.3.4 */
	uint32_t received_max;	    /* Received fields; more: 554 5.4.6 (loop) */
	uint32_t errors_max;   /* 5yz replies since a mail was accepted; one more: 421 and close */
	uint32_t commands_max; /* commands that bring no mail on (NOOP, RSET, VRFY …), likewise */
	uint32_t mails_max;    /* mails in a session; more: 421 4.7.0 */
	uint32_t local_part_bytes_max; /* of an address; 0: the 64 of RFC 5321 4.5.3.1.1. Senders
					  that put the recipient into the sender's local part need
					  more. */
};
/* Of all but line_bytes_max (at least 512), 0 means no limit, and of local_part_bytes_max what it
 * says. */

/* What the connect-stage rule decided for this client. */
struct smtp_server_policy {
	bool is_tls;	      /* implicit TLS: the handshake is done before the greeting */
	bool offers_starttls; /* announce STARTTLS while in clear */
	bool requires_tls; /* 530 5.7.0 to all but EHLO HELO NOOP STARTTLS QUIT RSET HELP until TLS
			    */
	bool normalises_bare_lf; /* bare CR or LF become CRLF, instead of 550 5.5.2 */
};

/* Room in `out` without which the session does not go on: any reply of ours and a closing one
 * behind it. */
#define SMTP_SERVER_ROOM 1536

/* Bytes of memory a session needs (the caller's slab). */
size_t smtp_server_size(void);
/* Opens the session in `s`, memory of smtp_server_size() bytes, and writes the greeting. A block of
 * `out` must hold SMTP_SERVER_ROOM bytes. */
void smtp_server_open(struct smtp_server *s, const struct smtp_server_config *config,
	const struct smtp_server_policy *policy, struct stream *out);

/* Who owns the mail: from the caller's good answer to MAIL the session knows of a mail and tells
 * its end, by END or by ABORT, once. What the caller refuses itself it drops itself: after a
 * refused MAIL or END no ABORT comes. A refused RCPT or DATA leaves the mail open; a refused first
 * BDAT is followed by ABORT. */
enum smtp_event_kind {
	SMTP_EVENT_NONE,     /* all input used: more input, room in `out`, or an answer is wanted */
	SMTP_EVENT_HELO,     /* greeted; text: the name; flag: EHLO */
	SMTP_EVENT_STARTTLS, /* 220 is written: send it, then shake hands; bytes still in `in` end
				the session */
	SMTP_EVENT_MAIL,     /* answer wanted; text: the sender; size, body_flags */
	SMTP_EVENT_RCPT,     /* answer wanted; text: the recipient, source route gone; domain */
	SMTP_EVENT_DATA, /* answer wanted: content follows; begin the mail, or refuse. flag: by BDAT
			  */
	SMTP_EVENT_BODY, /* text: content, in order, dots removed; points into `in` or a literal of
			    ours. Always lines ended by CRLF, without NUL, however it came. */
	SMTP_EVENT_END, /* answer wanted, may take time: the content is complete; make it durable */
	SMTP_EVENT_ABORT,   /* the mail in progress is dropped (RSET, EHLO, error); forget it */
	SMTP_EVENT_REFUSED, /* for the records; text: the command as far as printable (of content:
			       DATA or BDAT, of AUTH no more than that); reply: ours */
	SMTP_EVENT_CLOSE, /* send what is in `out`, then close; no more events come. reply: our last
			     word, where the session itself ended it by an error */
};

struct smtp_event {
	enum smtp_event_kind kind;
	struct bytes text;   /* valid until the next call on the session */
	struct bytes domain; /* MAIL, RCPT: the domain, or address literal with brackets; points
				into text. Empty: null sender, <postmaster> */
	struct bytes reply;  /* REFUSED, CLOSE: the reply without CRLF; as valid as text */
	uint64_t size;	     /* MAIL: what SIZE= said; 0: nothing */
	uint8_t body_flags;  /* MAIL: ENVELOPE_8BITMIME, ENVELOPE_SMTPUTF8 */
	bool flag;	     /* HELO: EHLO; DATA: BDAT */
};

/* Uses input until there is one event to perform, writes replies to `out`, and returns the bytes of
 * `in` used. Uses nothing while an answer is wanted, while `out` has too little room for a reply
 * (the caller sends and calls again), or after CLOSE. An incomplete line is left in `in`: the
 * caller calls again with the same bytes and more behind them (the session remembers how far it has
 * looked). Call again until SMTP_EVENT_NONE. */
size_t smtp_server_feed(
	struct smtp_server *s, struct bytes in, struct smtp_event *event, struct stream *out);

/* Answers the event that wanted it. `refusal` NULL: go on (250, or 354, or the 250 that ends a
 * mail, with `note`, e.g. the queue id, in its text); else one of our replies, complete with CRLF,
 * e.g. "554 5.7.1 <x@y>: Relay access denied\r\n" (smtp/reply.h); one that begins with 421 or 521
 * ends the session. Both texts are used at once. false: `out` has no room (SMTP_SERVER_ROOM), or
 * its pool no block: nothing was done, answer again later. An answer nobody waits for, since the
 * session was ended, is ignored. */
bool smtp_server_answer(
	struct smtp_server *s, const char *refusal, const char *note, struct stream *out);

/* Has the caller room for one more handshake? If not, STARTTLS is answered 454 4.7.0. At first it
 * has. */
void smtp_server_set_tls_available(struct smtp_server *s, bool is_available);

/* STARTTLS is done: all that was learned before is forgotten (RFC 3207 4.2); EHLO is expected. */
void smtp_server_tls_started(struct smtp_server *s);
/* Ends the session from outside (timeout, limit): writes `reply` (complete with CRLF; it must
 * outlive the session) as soon as there is room, in place of any other reply that is due, and ABORT
 * and CLOSE follow. A mail whose content is complete is still answered first. While STARTTLS waits
 * for its handshake nothing is written. */
void smtp_server_end(struct smtp_server *s, const char *reply, struct stream *out);
/* The same for a drain: waits until no mail is open. */
void smtp_server_drain(struct smtp_server *s, const char *reply, struct stream *out);

/* What the session waits for, to choose the deadline (RFC 5321 4.5.3.2.7) and for `hikyakuctl`. */
enum smtp_server_phase {
	SMTP_PHASE_COMMAND, /* the next command line */
	SMTP_PHASE_CONTENT, /* message content */
	SMTP_PHASE_ANSWER,  /* our own answer, or the handshake after STARTTLS */
	SMTP_PHASE_CLOSED,
};
enum smtp_server_phase smtp_server_phase(const struct smtp_server *s);
/* The protocol word of RFC 3848 and RFC 6531 for the mail in progress: SMTP, ESMTP, ESMTPS,
 * UTF8SMTPS … */
const char *smtp_server_proto(const struct smtp_server *s);
/* Is a mail open: accepted MAIL, and neither END nor ABORT yet? */
bool smtp_server_has_mail(const struct smtp_server *s);
/* Did this input ever contain a bare CR or LF that was normalised in the present mail? */
bool smtp_server_has_normalised(const struct smtp_server *s);
