// SPDX-License-Identifier: Apache-2.0
/* smtp/client/session_private.h: the session, shared by session.c (its life) and transaction.c (a mail). */
#pragma once

#include "smtp/client/capabilities.h"
#include "smtp/client/stuffing.h"
#include "smtp/client/reply_parse.h"

/* Where the session stands, for sending (what is written next) and for receiving (what the next reply
 * answers). The text completes "lost connection while …". */
#define SMTP_CLIENT_STATES(_)                                                                      \
	_(GREETING, "waiting for the greeting")                                                    \
	_(EHLO, "sending EHLO")                                                                    \
	_(HELO, "sending HELO")                                                                    \
	_(STARTTLS, "sending STARTTLS")                                                            \
	_(TLS, "starting TLS") /* the caller shakes hands */                                       \
	_(READY, "idle")       /* no mail; nothing is sent, nothing expected */                    \
	_(MAIL, "sending MAIL FROM")                                                               \
	_(RCPT, "sending RCPT TO")                                                                 \
	_(DATA, "sending DATA")                                                                    \
	_(CONTENT, "sending the content") /* send position only */                                 \
	_(END, "sending the end of the content")                                                   \
	_(RSET, "sending RSET")                                                                    \
	_(QUIT, "sending QUIT")                                                                    \
	_(PAUSE, "waiting") /* send position only: nothing to write until a reply says more */     \
	_(OVER, "closed")   /* FAILED or CLOSED is the last event */

enum smtp_client_state {
#define _(id, doing) CLIENT_##id,
	SMTP_CLIENT_STATES(_)
#undef _
};

/* Events that are due, told in this order, each after the RECIPIENT events. */
enum {
	DUE_STARTTLS = 1,
	DUE_DONE = 2,
	DUE_READY = 4,
	DUE_FAILED = 8,
	DUE_CLOSED = 16,
};

struct smtp_client {
	struct smtp_client_config config;
	enum smtp_client_state send, recv;
	uint32_t outstanding; /* commands written and not answered, the greeting among them */
	struct capabilities capabilities;
	bool is_tls;
	bool was_offered_tls;
	bool wants_quit;
	bool says_farewell; /* at the end: QUIT, though an answer is not waited for */
	uint8_t due;
	struct smtp_reply failure; /* why the session is over */

	/* The mail. */
	struct smtp_client_job job;
	bool has_job;
	bool is_refused;     /* MAIL was: `reply` is the outcome of all, the rest is drained */
	bool is_end_ignored; /* the end was sent only to get out of DATA */
	bool has_sent_all;
	bool was_mail_answered;
	bool is_utf8;
	uint32_t send_rcpt, recv_rcpt; /* positions within RCPT */
	uint32_t rcpt_end;	       /* no recipient from this one on is sent */
	uint32_t accepted;	       /* recipients */
	struct stuffing content;
	uint32_t tell_next, tell_end; /* RECIPIENT events due, with `reply`, for those not told yet */
	struct smtp_reply reply;      /* the last that says something of the mail */
	uint64_t told[SMTP_CLIENT_RECIPIENTS_MAX / 64]; /* recipients whose outcome is final … */
	uint32_t told_past_max; /* … and those past the limit: below this number */

	struct reply_parser parser;
};

/* ---- session.c ---- */
/* The only place that brings both positions to one state. */
void client_enter(struct smtp_client *c, enum smtp_client_state state);
void client_become_ready(struct smtp_client *c);
/* Ends the session: what is open of the mail gets `why`, too. */
void client_fail(struct smtp_client *c, const struct smtp_reply *why);
/* Ends it for a reply that fits no command, or not this one; never passed on as it is, since a 2xx or 3xx
 * must not be taken for a delivery. */
void client_fail_unexpected(struct smtp_client *c);

/* ---- transaction.c: MAIL, RCPT, DATA, CONTENT, END ---- */
/* Writes what the send position says; false: no room, or nothing to write for now. */
bool transaction_send(struct smtp_client *c, struct stream *out);
/* Deals with the parser's reply, which answers the receive position. */
void transaction_reply(struct smtp_client *c);
/* A reply while the content is being sent: the mail is refused before its end. */
void transaction_early_reply(struct smtp_client *c);
/* All open recipients get c->reply, then DONE. */
void transaction_settle(struct smtp_client *c);

static inline bool is_told(const struct smtp_client *c, uint32_t index)
{
	if (index >= SMTP_CLIENT_RECIPIENTS_MAX)
		return index < c->told_past_max;
	return (c->told[index / 64] >> index % 64 & 1) != 0;
}
