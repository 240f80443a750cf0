// SPDX-License-Identifier: Apache-2.0
/* smtp/server/session_private.h: the inside of a server session, shared by session.c (its life and
 * the loop), commands.c (the table of commands and their handlers) and content.c (DATA and BDAT).
 */
#pragma once

#include "smtp/envelope.h"
#include "smtp/parse/content.h"
#include "smtp/parse/header.h"
#include "smtp/parse/line.h"
#include "smtp/reply.h"
#include "smtp/server/session.h"

#define SMTP_STATES(_)                                                                             \
	_(GREET)    /* 220 sent, no EHLO yet */                                                    \
	_(READY)    /* greeted, no mail open */                                                    \
	_(MAIL)	    /* sender accepted, no recipient yet */                                        \
	_(RCPT)	    /* at least one recipient accepted */                                          \
	_(CHUNKS)   /* BDAT begun, between two chunks */                                           \
	_(FAILED)   /* a BDAT has failed: only RSET helps (RFC 3030 2) */                          \
	_(ASK_MAIL) /* the caller's answer to MAIL is wanted */                                    \
	_(ASK_RCPT)                                                                                \
	_(ASK_DATA)                                                                                \
	_(ASK_BDAT) /* to the first BDAT of a mail */                                              \
	_(ASK_END)                                                                                 \
	_(DATA)	   /* 354 sent, reading content */                                                 \
	_(CHUNK)   /* reading the bytes of a BDAT */                                               \
	_(DISCARD) /* skipping the bytes of a refused BDAT, then `after` */                        \
	_(TLS)	   /* 220 sent to STARTTLS: nothing is read until the handshake is done */         \
	_(CLOSING) /* the last reply is written */                                                 \
	_(CLOSED)  /* and CLOSE handed out */

enum smtp_state {
#define _(id) SMTP_##id,
	SMTP_STATES(_)
#undef _
};

#define IN(state) (1u << SMTP_##state)

struct smtp_server {
	const struct smtp_server_config *config;
	struct smtp_server_policy policy;
	const char *ending;	  /* from outside, not yet written; NULL: none */
	uint64_t chunk_bytes;	  /* of the present BDAT */
	uint64_t chunk_left;	  /* of them, still to come */
	uint64_t content_bytes;	  /* of the present mail, handed out */
	uint64_t content_arrived; /* of the present mail, as sent, to bound what is discarded */
	struct line_finder line;
	struct header_watch header;
	struct content content;
	uint8_t state; /* enum smtp_state; written by smtp_enter() alone */
	uint8_t after; /* DISCARD: the state that follows */
	uint8_t body_flags;
	uint8_t refusal; /* enum reply: content is read to its end, then refused; REPLY_NONE: it is
			    good */
	uint8_t closing; /* enum reply: our last word; REPLY_NONE: none, or not ours */
	bool is_greeting_due;
	bool is_tls;
	bool is_tls_available; /* the caller has room for a handshake */
	bool is_esmtp;
	bool is_last_chunk;
	bool is_ending_patient;	  /* `ending` waits for the mail in progress */
	bool has_mail;		  /* the caller holds one that ABORT would drop */
	uint32_t recipients;	  /* of the present mail */
	uint32_t recipients_over; /* refused for their number, this session */
	uint32_t errors, idle_commands, mails;
	char said[256]; /* the last refusal without CRLF, for the records */
};

/* One turn of the loop: what it has to work with and what came of it. */
struct turn {
	struct bytes in;
	size_t used;
	struct smtp_event *event;
	struct stream *out;
	bool is_stuck; /* nothing more without input or an answer */
};

void smtp_enter(struct smtp_server *s, enum smtp_state next);

/* Is `n` over a limit of which 0 means none? */
static inline bool smtp_is_over(uint64_t n, uint64_t max)
{
	return max != 0 && n > max;
}

/* Writes one of our replies, with our name where it has a place for one, or with `argument`. There
 * is room: the loop has seen to it. */
void smtp_say(struct smtp_server *s, struct stream *out, enum reply id);
void smtp_say_with(struct stream *out, enum reply id, struct bytes argument);
/* Writes the refusal, counts the error and tells of it; `command` is what was refused. */
void smtp_refuse(struct smtp_server *s, struct turn *t, enum reply id, struct bytes command);
/* The same, and the session ends with it. */
void smtp_refuse_and_close(
	struct smtp_server *s, struct turn *t, enum reply id, struct bytes command);
/* Ends the session with a reply. */
void smtp_close(struct smtp_server *s, struct stream *out, enum reply id);
/* One more error; too many end the session. */
void smtp_count_error(struct smtp_server *s, struct stream *out);

/* Drops the mail in progress, if there is one, and tells the caller: then true, and whoever asked
 * comes again with the same input, now without a mail. */
bool smtp_aborts(struct smtp_server *s, struct turn *t);
/* Forgets all that belongs to one mail. */
void smtp_forget_mail(struct smtp_server *s);

/* One command line is whole. */
void smtp_command(struct smtp_server *s, struct turn *t, struct bytes line, size_t line_used);

/* The content of a mail begins. */
void smtp_begin_content(struct smtp_server *s);
/* More content in `t->in`, in state DATA, CHUNK or DISCARD. */
void smtp_read_data(struct smtp_server *s, struct turn *t);
void smtp_read_chunk(struct smtp_server *s, struct turn *t);
void smtp_discard_chunk(struct smtp_server *s, struct turn *t);
/* The bytes of the present BDAT are not wanted: they are skipped, then `after`. */
void smtp_skip_chunk(struct smtp_server *s, enum smtp_state after);
/* Would `more` bytes be past what we read of one mail, good or bad? */
bool smtp_is_past_bound(const struct smtp_server *s, uint64_t more);
