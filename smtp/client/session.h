// SPDX-License-Identifier: Apache-2.0
/* smtp/client/session.h: one outbound SMTP session. Replies in, commands and events out; no I/O, no clock,
 * no allocation. Two switches, on enter and on reply, with separate positions for sending and receiving so
 * that commands are pipelined (RFC 2920). */
#pragma once

#include "base/stream.h"
#include "smtp/mail.h"

struct smtp_client;

enum smtp_client_tls {
	SMTP_CLIENT_TLS_NEVER,	  /* level none */
	SMTP_CLIENT_TLS_MAY,	  /* STARTTLS if offered */
	SMTP_CLIENT_TLS_MUST,	  /* STARTTLS or fail with 4.7.4 */
	SMTP_CLIENT_TLS_IMPLICIT, /* the handshake is done before the greeting */
};

struct smtp_client_config {
	const char *helo; /* the name we give */
	enum smtp_client_tls tls;
	const char *peer; /* "host[address]" for reasons */
};

/* What `out` must be able to hold when it is empty: the longest command. Content takes any room. */
#define SMTP_CLIENT_OUT_MIN 2048
/* A longer sender or recipient, or one with control bytes, is refused here (5.1.7, 5.1.3): it never reaches
 * the wire. RFC 5321 4.5.3.1.3 has 256. */
#define SMTP_CLIENT_PATH_MAX 1000
/* Recipients of a job past this many are deferred with 4.5.3. */
#define SMTP_CLIENT_RECIPIENTS_MAX 4096

/* One mail for this session: borrowed until SMTP_CLIENT_DONE. */
struct smtp_client_job {
	const struct mail *mail;
	struct bytes sender;		   /* empty: null sender */
	const struct bytes *recipients;	   /* of this job only */
	uint32_t recipient_count;
	uint8_t body_flags;		   /* ENVELOPE_8BITMIME, ENVELOPE_SMTPUTF8 */
};

#define SMTP_REPLY_TEXT_MAX 512 /* a longer reply is cut in records, never in meaning */

/* A server's reply, or a reason of ours in the same form, so that one field carries either. */
struct smtp_reply {
	uint16_t code;	  /* 250, 421 …; ours: 4xx or 5xx with is_ours */
	uint8_t enhanced[3]; /* class, subject (RFC 3463); 0.0.0: none; the third is not used */
	uint16_t detail;
	bool is_ours;
	char text[SMTP_REPLY_TEXT_MAX]; /* without the codes; lines joined by a space, control bytes
					   replaced by ?; bytes from 128 up as they came */
};

/* For people: "550 5.1.1 No such user", ours without the reply code: "4.4.2 lost connection …"; returns
 * `text`. */
#define SMTP_REPLY_FORMAT_MAX (SMTP_REPLY_TEXT_MAX + 24)
const char *smtp_reply_format(const struct smtp_reply *reply, char text[SMTP_REPLY_FORMAT_MAX]);

enum smtp_client_event_kind {
	SMTP_CLIENT_NONE,      /* more input, or room in `out`, is wanted */
	SMTP_CLIENT_STARTTLS,  /* 220 came: bytes still in `in` end the session as a failure (injection);
				  shake hands, then smtp_client_tls_started() */
	SMTP_CLIENT_READY,     /* greeted and, where asked, secured: give it a job, or quit */
	SMTP_CLIENT_RECIPIENT, /* index, reply: this recipient's outcome, final for this attempt */
	SMTP_CLIENT_DONE,      /* the job is over: every recipient has had its RECIPIENT event. `reply` is the
				  last one. READY follows if the session can take another. */
	SMTP_CLIENT_FAILED,    /* the session is over; reply: why, 4xx or 5xx. A job that was open has had its
				  RECIPIENT events (temporary, unless the content is at fault) and DONE
				  before. Close the connection; a QUIT may stand in `out`, worth sending
				  but not worth waiting for. */
	SMTP_CLIENT_CLOSED,    /* QUIT is answered, or was sent and the peer is gone: close */
};

struct smtp_client_event {
	enum smtp_client_event_kind kind;
	uint32_t index;
	struct smtp_reply reply;
};

size_t smtp_client_size(void);
/* In memory of smtp_client_size() bytes; the strings of `config` outlive the session. */
void smtp_client_open(struct smtp_client *c, const struct smtp_client_config *config);
/* Uses input, writes commands and content to `out` as far as it has room, and returns the bytes of `in`
 * used; at most one event. Call again until SMTP_CLIENT_NONE, and when `out` has room again. */
size_t smtp_client_feed(
	struct smtp_client *c, struct bytes in, struct smtp_client_event *event, struct stream *out);
/* After READY (the event, not only the phase before it is told): begins a mail. false: it cannot be sent here at all (`reply` says why, e.g. 5.6.7 SMTPUTF8
 * not offered, 5.3.4 larger than SIZE); the session stays READY. */
bool smtp_client_begin(
	struct smtp_client *c, const struct smtp_client_job *job, struct smtp_reply *reply);
void smtp_client_tls_started(struct smtp_client *c);
/* Says QUIT, as soon as the session is READY (which is then not told any more); CLOSED follows. */
void smtp_client_quit(struct smtp_client *c);
/* The connection is gone or timed out: `why` ("lost connection", "conversation timed out") becomes the
 * reason of what was open, as "4.4.2 WHY while sending RCPT TO". Feed what was received first: its replies
 * still count. Events follow on the next feed (with no input): RECIPIENT …, DONE, FAILED; after QUIT CLOSED. */
void smtp_client_lost(struct smtp_client *c, const char *why);

/* What it waits for, to choose the timeout of RFC 5321 4.5.3.2. */
enum smtp_client_phase {
	SMTP_CLIENT_PHASE_GREETING, /* 5 min */
	SMTP_CLIENT_PHASE_COMMAND,  /* EHLO, STARTTLS, RSET, QUIT: 5 min */
	SMTP_CLIENT_PHASE_MAIL,	    /* 5 min */
	SMTP_CLIENT_PHASE_RCPT,	    /* 5 min */
	SMTP_CLIENT_PHASE_DATA,	    /* 2 min */
	SMTP_CLIENT_PHASE_BLOCK,    /* room to write content: 3 min */
	SMTP_CLIENT_PHASE_END,	    /* after the final dot: 10 min */
	SMTP_CLIENT_PHASE_READY,    /* ours: idle, READY is told: begin or quit */
};
enum smtp_client_phase smtp_client_phase(const struct smtp_client *c);
/* Did the server offer STARTTLS; has the content's final dot been sent for the open job (a loss from then
 * on may make a duplicate)? For records. */
bool smtp_client_was_offered_tls(const struct smtp_client *c);
bool smtp_client_has_sent_all(const struct smtp_client *c);
/* Has the server answered MAIL of the open or last job, other than by 421? If a kept connection fails before
 * that, it was likely gone already, and the job is worth a new connection at once. */
bool smtp_client_was_mail_answered(const struct smtp_client *c);
