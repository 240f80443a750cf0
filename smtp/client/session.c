// SPDX-License-Identifier: Apache-2.0
/*
 *   GREETING ──▶ EHLO ──▶ STARTTLS ──▶ TLS ─┐       MAIL ▶ RCPT… ▶ DATA ▶ CONTENT ▶ END
 *                 │ ▲        │ refused, MAY │        ▲                         │ 2xx   │ else
 *                 ▼ └────────│──────────────┘        │ begin                   ▼       ▼
 *                HELO ───────┴────────────────────▶ READY ◀────────────────────┘◀──── RSET
 *                                                    └─ quit ─▶ QUIT ─▶ OVER ◀─ any failure, 421
 *
 * Sending and receiving have positions of their own: with PIPELINING the first runs ahead, from MAIL to DATA
 * (RFC 2920); everywhere else they meet in each state. */
#include "smtp/client/session.h"

#include <assert.h>

#include "smtp/client/session_private.h"

static const char *const doing[] = {
#define _(id, text) text,
	SMTP_CLIENT_STATES(_)
#undef _
};

size_t smtp_client_size(void)
{
	return sizeof(struct smtp_client);
}

void client_enter(struct smtp_client *c, enum smtp_client_state state)
{
	c->send = c->recv = state;
}

void smtp_client_open(struct smtp_client *c, const struct smtp_client_config *config)
{
	*c = (struct smtp_client){
		.config = *config,
		.is_tls = config->tls == SMTP_CLIENT_TLS_IMPLICIT,
		.outstanding = 1, /* the greeting answers the connection */
	};
	client_enter(c, CLIENT_GREETING);
	c->send = CLIENT_PAUSE;
	reply_parser_reset(&c->parser);
}

/* ---- ends ---- */

void client_fail(struct smtp_client *c, const struct smtp_reply *why)
{
	if (c->recv == CLIENT_OVER)
		return;
	c->failure = *why;
	if (c->has_job && !(c->due & DUE_DONE)) {
		if (!c->is_refused)
			c->reply = *why;
		transaction_settle(c);
	}
	c->due = (uint8_t)((c->due & DUE_DONE) | DUE_FAILED);
	client_enter(c, CLIENT_OVER);
}

/* The peer understands us and only will not serve: RFC 5321 3.1 and 4.1.1.10 want QUIT even then. */
static void fail_politely(struct smtp_client *c, const struct smtp_reply *why)
{
	c->says_farewell = c->outstanding == 0 && c->parser.reply.code != 421;
	client_fail(c, why);
}

/* If there is room: the caller may close without sending it. */
static void say_farewell(struct smtp_client *c, struct stream *out)
{
	if (c->says_farewell)
		stream_write(out, BYTES_LITERAL("QUIT\r\n"));
	c->says_farewell = false;
}

void client_fail_unexpected(struct smtp_client *c)
{
	struct smtp_reply why;
	char theirs[SMTP_REPLY_FORMAT_MAX];
	reply_set(&why, 451, 5, 0, "unexpected reply from %s while %s: %s", c->config.peer,
		doing[c->recv], smtp_reply_format(&c->parser.reply, theirs));
	client_fail(c, &why);
}

static void close_quietly(struct smtp_client *c)
{
	c->due |= DUE_CLOSED;
	client_enter(c, CLIENT_OVER);
}

static void on_bad_reply(struct smtp_client *c)
{
	struct smtp_reply why;
	if (c->recv == CLIENT_QUIT) {
		close_quietly(c);
		return;
	}
	reply_set(&why, 451, 5, 0, "bad reply from %s while %s: %s", c->config.peer, doing[c->recv],
		c->parser.why_bad);
	client_fail(c, &why);
}

void smtp_client_lost(struct smtp_client *c, const char *why)
{
	if (c->recv == CLIENT_OVER)
		return;
	if (c->recv == CLIENT_QUIT) {
		close_quietly(c);
		return;
	}
	struct smtp_reply reply;
	reply_set(&reply, 421, 4, 2, "%s while %s%s", why,
		doing[c->send == CLIENT_CONTENT ? c->send : c->recv],
		c->has_job && c->has_sent_all ? " (the message may be sent more than once)" : "");
	client_fail(c, &reply);
}

void smtp_client_quit(struct smtp_client *c)
{
	if (c->recv == CLIENT_OVER || c->recv == CLIENT_QUIT)
		return;
	c->wants_quit = c->recv != CLIENT_READY;
	if (c->recv == CLIENT_READY) {
		c->due &= (uint8_t)~DUE_READY;
		client_enter(c, CLIENT_QUIT);
	}
}

/* ---- on enter ---- */

/* Writes one command and waits for its answer. */
static bool send_command(struct smtp_client *c, struct stream *out, const char *verb, const char *name)
{
	if (!stream_printf(out, name[0] == '\0' ? "%s%.255s\r\n" : "%s %.255s\r\n", verb, name))
		return false;
	c->outstanding++;
	c->send = CLIENT_PAUSE;
	return true;
}

/* One step of sending; false: no room, or nothing to write for now. */
static bool send_next(struct smtp_client *c, struct stream *out)
{
	switch (c->send) {
	case CLIENT_EHLO: return send_command(c, out, "EHLO", c->config.helo);
	case CLIENT_HELO: return send_command(c, out, "HELO", c->config.helo);
	case CLIENT_STARTTLS: return send_command(c, out, "STARTTLS", "");
	case CLIENT_RSET: return send_command(c, out, "RSET", "");
	case CLIENT_QUIT: return send_command(c, out, "QUIT", "");
	case CLIENT_MAIL:
	case CLIENT_RCPT:
	case CLIENT_DATA:
	case CLIENT_CONTENT:
	case CLIENT_END: return transaction_send(c, out);
	case CLIENT_GREETING:
	case CLIENT_TLS:
	case CLIENT_READY:
	case CLIENT_PAUSE:
	case CLIENT_OVER: break;
	}
	return false;
}

/* ---- on reply ---- */

static bool must_have_tls(const struct smtp_client *c)
{
	return c->config.tls == SMTP_CLIENT_TLS_MUST && !c->is_tls;
}

void client_become_ready(struct smtp_client *c)
{
	assert(!must_have_tls(c));
	client_enter(c, CLIENT_READY);
	if (c->wants_quit)
		client_enter(c, CLIENT_QUIT);
	else
		c->due |= DUE_READY;
}

static void fail_tls_not_offered(struct smtp_client *c)
{
	struct smtp_reply why;
	reply_set(&why, 454, 7, 4, "TLS is required, but was not offered by host %s", c->config.peer);
	fail_politely(c, &why);
}

/* EHLO or HELO is answered: TLS next, or a mail. */
static void greeted(struct smtp_client *c)
{
	bool is_offered = !c->is_tls && (c->capabilities.offered & CAPABILITY_STARTTLS) != 0;
	c->was_offered_tls |= is_offered;
	if (is_offered && c->config.tls != SMTP_CLIENT_TLS_NEVER)
		client_enter(c, CLIENT_STARTTLS);
	else if (must_have_tls(c))
		fail_tls_not_offered(c);
	else
		client_become_ready(c);
}

static void say_hello(struct smtp_client *c, enum smtp_client_state hello)
{
	c->capabilities = (struct capabilities){};
	client_enter(c, hello);
}

static void on_greeting(struct smtp_client *c, const struct smtp_reply *reply)
{
	switch (reply->code / 100) {
	case 2: say_hello(c, CLIENT_EHLO); break;
	case 3: client_fail_unexpected(c); break;
	default: fail_politely(c, reply); break;
	}
}

/* RFC 5321 3.2: a server that does not know EHLO gets HELO. Where TLS is a must, HELO cannot bring it. */
static void on_hello(struct smtp_client *c, const struct smtp_reply *reply)
{
	switch (reply->code / 100) {
	case 2: greeted(c); break;
	case 3: client_fail_unexpected(c); break;
	case 5:
		if (must_have_tls(c))
			fail_tls_not_offered(c);
		else if (c->recv == CLIENT_EHLO)
			say_hello(c, CLIENT_HELO);
		else
			fail_politely(c, reply);
		break;
	default: fail_politely(c, reply); break;
	}
}

/* RFC 3207 4: 220, or 454 and 5xx. Any 2xx starts TLS (RFC 5321 4.3.2), since then the peer may be shaking
 * hands already. A refusal leaves the session in clear as it was, which only MAY may use. */
static void on_starttls(struct smtp_client *c, const struct smtp_reply *reply)
{
	char theirs[SMTP_REPLY_FORMAT_MAX];
	struct smtp_reply why;
	if (reply->code / 100 == 2) {
		client_enter(c, CLIENT_TLS);
		c->due |= DUE_STARTTLS;
	} else if (must_have_tls(c)) {
		reply_set(&why, 454, 7, 4, "TLS is required, but host %s refused to start TLS: %s",
			c->config.peer, smtp_reply_format(reply, theirs));
		fail_politely(c, &why);
	} else if (reply->code == 421) {
		client_fail(c, reply);
	} else if (reply->code / 100 == 3) {
		client_fail_unexpected(c);
	} else {
		client_become_ready(c);
	}
}

/* Nothing was asked. A server may say 421 at any time (RFC 5321 3.8); anything else would be taken for the
 * answer to a command still to come, and every answer after it for another's. */
static void on_unasked(struct smtp_client *c, const struct smtp_reply *reply)
{
	if (reply->code == 421)
		client_fail(c, reply);
	else if (c->send == CLIENT_CONTENT)
		transaction_early_reply(c);
	else
		client_fail_unexpected(c);
}

static void on_reply(struct smtp_client *c, bool is_unasked)
{
	const struct smtp_reply *reply = &c->parser.reply;
	if (!is_unasked)
		c->outstanding--;
	if (c->recv == CLIENT_QUIT) {
		close_quietly(c);
		return;
	}
	if (is_unasked) {
		on_unasked(c, reply);
		return;
	}
	if (reply->code == 421 && c->recv != CLIENT_STARTTLS) {
		client_fail(c, reply);
		return;
	}
	switch (c->recv) {
	case CLIENT_GREETING: on_greeting(c, reply); break;
	case CLIENT_EHLO:
	case CLIENT_HELO: on_hello(c, reply); break;
	case CLIENT_STARTTLS: on_starttls(c, reply); break;
	case CLIENT_MAIL:
	case CLIENT_RCPT:
	case CLIENT_DATA:
	case CLIENT_END: transaction_reply(c); break;
	case CLIENT_RSET:
		if (reply->code / 100 == 2)
			client_become_ready(c);
		else
			client_fail_unexpected(c);
		break;
	case CLIENT_TLS:
	case CLIENT_READY:
	case CLIENT_CONTENT:
	case CLIENT_QUIT:
	case CLIENT_PAUSE:
	case CLIENT_OVER: break; /* nothing is outstanding there */
	}
}

void smtp_client_tls_started(struct smtp_client *c)
{
	if (c->recv != CLIENT_TLS)
		return;
	c->is_tls = true;
	reply_parser_reset(&c->parser);
	say_hello(c, CLIENT_EHLO); /* forgets what was learned in clear (RFC 3207 4.2) */
}

static void on_bytes_before_tls(struct smtp_client *c)
{
	struct smtp_reply why;
	reply_set(&why, 451, 7, 0, "%s sent more in clear after its reply to STARTTLS", c->config.peer);
	c->due &= (uint8_t)~DUE_STARTTLS;
	client_fail(c, &why);
}

/* ---- feeding ---- */

static void tell_due(struct smtp_client *c, struct smtp_client_event *event)
{
	if (c->due & DUE_STARTTLS) {
		c->due ^= DUE_STARTTLS;
		event->kind = SMTP_CLIENT_STARTTLS;
	} else if (c->due & DUE_DONE) {
		c->due ^= DUE_DONE;
		c->has_job = false;
		event->kind = SMTP_CLIENT_DONE;
		event->reply = c->reply;
	} else if (c->due & DUE_READY) {
		c->due ^= DUE_READY;
		event->kind = SMTP_CLIENT_READY;
	} else if (c->due & DUE_FAILED) {
		c->due ^= DUE_FAILED;
		event->kind = SMTP_CLIENT_FAILED;
		event->reply = c->failure;
	} else if (c->due & DUE_CLOSED) {
		c->due ^= DUE_CLOSED;
		event->kind = SMTP_CLIENT_CLOSED;
	}
}

/* The next event that is due; false: none. */
static bool tell(struct smtp_client *c, struct smtp_client_event *event)
{
	event->kind = SMTP_CLIENT_NONE;
	while (c->tell_next < c->tell_end) {
		uint32_t index = c->tell_next++;
		if (is_told(c, index))
			continue;
		if (index < SMTP_CLIENT_RECIPIENTS_MAX)
			c->told[index / 64] |= 1ull << index % 64;
		else
			c->told_past_max = index + 1;
		event->kind = SMTP_CLIENT_RECIPIENT;
		event->index = index;
		event->reply = c->reply;
		return true;
	}
	tell_due(c, event);
	return event->kind != SMTP_CLIENT_NONE;
}

static bool has_to_tell(const struct smtp_client *c)
{
	return c->due != 0 || c->tell_next < c->tell_end;
}

/* Takes a reply's next line, or what there is of it; the bytes used. */
static size_t receive(struct smtp_client *c, struct bytes in, bool is_unasked)
{
	size_t used;
	enum reply_step step = reply_parse(&c->parser, in, &used);
	if (step == REPLY_BAD)
		on_bad_reply(c);
	if ((step == REPLY_LINE || step == REPLY_DONE) && c->recv == CLIENT_EHLO && c->parser.lines > 1)
		capabilities_add(&c->capabilities, reply_line(&c->parser));
	if (step == REPLY_DONE) {
		on_reply(c, is_unasked);
		reply_parser_reset(&c->parser);
	}
	return used;
}

size_t smtp_client_feed(
	struct smtp_client *c, struct bytes in, struct smtp_client_event *event, struct stream *out)
{
	size_t used = 0;
	for (;;) {
		struct bytes rest = bytes_skip(in, used);
		if (c->recv == CLIENT_TLS && rest.n != 0)
			on_bytes_before_tls(c);
		if (c->recv == CLIENT_OVER) {
			say_farewell(c, out);
			used = in.n;
		}
		if (tell(c, event) || c->recv == CLIENT_OVER)
			return used;
		/* What is here before its command is written cannot be its answer. */
		bool is_unasked = c->outstanding == 0 && (rest.n != 0 || reply_is_begun(&c->parser));
		if (!is_unasked)
			while (!has_to_tell(c) && send_next(c, out))
				;
		if (has_to_tell(c))
			continue;
		if (rest.n == 0)
			return used;
		used += receive(c, rest, is_unasked);
	}
}

/* ---- questions ---- */

enum smtp_client_phase smtp_client_phase(const struct smtp_client *c)
{
	switch (c->recv) {
	case CLIENT_GREETING: return SMTP_CLIENT_PHASE_GREETING;
	case CLIENT_MAIL: return SMTP_CLIENT_PHASE_MAIL;
	case CLIENT_RCPT: return SMTP_CLIENT_PHASE_RCPT;
	case CLIENT_DATA: return SMTP_CLIENT_PHASE_DATA;
	case CLIENT_END:
		return c->send == CLIENT_CONTENT ? SMTP_CLIENT_PHASE_BLOCK : SMTP_CLIENT_PHASE_END;
	case CLIENT_READY:
		return has_to_tell(c) ? SMTP_CLIENT_PHASE_COMMAND : SMTP_CLIENT_PHASE_READY;
	case CLIENT_EHLO:
	case CLIENT_HELO:
	case CLIENT_STARTTLS:
	case CLIENT_TLS:
	case CLIENT_CONTENT:
	case CLIENT_RSET:
	case CLIENT_QUIT:
	case CLIENT_PAUSE:
	case CLIENT_OVER: break;
	}
	return SMTP_CLIENT_PHASE_COMMAND;
}

bool smtp_client_was_offered_tls(const struct smtp_client *c)
{
	return c->was_offered_tls;
}

bool smtp_client_has_sent_all(const struct smtp_client *c)
{
	return c->has_sent_all;
}

bool smtp_client_was_mail_answered(const struct smtp_client *c)
{
	return c->was_mail_answered;
}
