// SPDX-License-Identifier: Apache-2.0
/* smtp/server/session.c: the life of a server session and its loop.
 *
 *   GREET -EHLO-> READY -MAIL-> MAIL -RCPT-> RCPT -DATA-> DATA -CRLF.CRLF-> READY
 *                                              `--BDAT-> CHUNK <-> CHUNKS -LAST-> READY
 *
 * Between an event that wants an answer and the answer the session is in an ASK state and reads
 * nothing. */
#include "smtp/server/session.h"

#include <assert.h>

#include "smtp/server/session_private.h"

static_assert(sizeof(struct smtp_server) <= 512, "an idle connection is mostly its session");

#define COMMAND_STATES (IN(GREET) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKS) | IN(FAILED))
#define CONTENT_STATES (IN(DATA) | IN(CHUNK) | IN(DISCARD))
#define ASK_STATES     (IN(ASK_MAIL) | IN(ASK_RCPT) | IN(ASK_DATA) | IN(ASK_BDAT) | IN(ASK_END))
/* The states in which the caller may hold a mail of ours. A mail does not outlive them. */
#define MAIL_STATES                                                                                \
	(IN(MAIL) | IN(RCPT) | IN(CHUNKS) | IN(ASK_RCPT) | IN(ASK_DATA) | IN(ASK_BDAT) |           \
		IN(DATA) | IN(CHUNK))

static bool is_in(const struct smtp_server *s, unsigned states)
{
	return (states >> s->state & 1) != 0;
}

/* May the caller hold a mail of ours now? */
static bool is_for_mail(const struct smtp_server *s)
{
	unsigned state = s->state == SMTP_DISCARD ? s->after : s->state;
	return (MAIL_STATES >> state & 1) != 0;
}

/* What may follow what. CLOSING may follow anything but the end. */
static const uint32_t may_follow[] = {
	[SMTP_GREET] = IN(READY) | IN(DISCARD),
	[SMTP_READY] = IN(READY) | IN(ASK_MAIL) | IN(TLS) | IN(DISCARD),
	[SMTP_MAIL] = IN(READY) | IN(ASK_RCPT) | IN(DISCARD),
	[SMTP_RCPT] = IN(READY) | IN(ASK_RCPT) | IN(ASK_DATA) | IN(ASK_BDAT) | IN(DISCARD),
	[SMTP_CHUNKS] = IN(READY) | IN(CHUNK) | IN(DISCARD),
	[SMTP_FAILED] = IN(READY) | IN(DISCARD),
	[SMTP_ASK_MAIL] = IN(READY) | IN(MAIL),
	[SMTP_ASK_RCPT] = IN(MAIL) | IN(RCPT),
	[SMTP_ASK_DATA] = IN(RCPT) | IN(DATA),
	[SMTP_ASK_BDAT] = IN(CHUNK) | IN(DISCARD),
	[SMTP_ASK_END] = IN(READY),
	[SMTP_DATA] = IN(READY) | IN(ASK_END),
	[SMTP_CHUNK] = IN(CHUNKS) | IN(FAILED) | IN(READY) | IN(ASK_END),
	[SMTP_DISCARD] = COMMAND_STATES,
	[SMTP_TLS] = IN(GREET),
	[SMTP_CLOSING] = IN(CLOSED),
	[SMTP_CLOSED] = 0,
};

/* The only place that writes s->state. */
void smtp_enter(struct smtp_server *s, enum smtp_state next)
{
	assert((may_follow[s->state] >> next & 1) != 0 ||
		(next == SMTP_CLOSING && s->state < SMTP_CLOSING));
	s->state = (uint8_t)next;
}

/* ---- replies ---- */

void smtp_say_with(struct stream *out, enum reply id, struct bytes argument)
{
	char text[REPLY_BYTES_MAX + 1];
	size_t n = reply_format(text, id, argument, BYTES_NONE);
	bool is_written = stream_write(out, bytes_of(text, n));
	assert(is_written);
	(void)is_written;
}

void smtp_say(struct smtp_server *s, struct stream *out, enum reply id)
{
	smtp_say_with(out, id, bytes_of_string(s->config->hostname));
}

void smtp_close(struct smtp_server *s, struct stream *out, enum reply id)
{
	smtp_say(s, out, id);
	s->closing = (uint8_t)(id == REPLY_BYE ? REPLY_NONE : id);
	smtp_enter(s, SMTP_CLOSING);
}

void smtp_count_error(struct smtp_server *s, struct stream *out)
{
	s->errors++;
	if (smtp_is_over(s->errors, s->config->errors_max))
		smtp_close(s, out, REPLY_TOO_MANY_ERRORS);
}

/* The reply for the records: without its CRLF, kept since the event points at it. */
static struct bytes remember_reply(struct smtp_server *s, enum reply id)
{
	char text[REPLY_BYTES_MAX + 1];
	size_t n = reply_format(text, id, bytes_of_string(s->config->hostname), BYTES_NONE);
	bytes_to_string(bytes_of(text, n - 2), s->said, sizeof s->said);
	return bytes_of_string(s->said);
}

static struct bytes printable_part(struct bytes command)
{
	struct bytes auth = BYTES_LITERAL("AUTH"); /* what follows it is a secret */
	if (bytes_equal_nocase(bytes_first(command, auth.n), auth))
		command = bytes_first(command, auth.n);
	size_t n = 0;
	while (n < command.n && command.at[n] >= ' ' && command.at[n] != 127)
		n++;
	return bytes_first(command, n);
}

static void tell_refused(struct smtp_server *s, struct turn *t, enum reply id, struct bytes command)
{
	*t->event = (struct smtp_event){
		.kind = SMTP_EVENT_REFUSED,
		.text = printable_part(command),
		.reply = remember_reply(s, id),
	};
}

void smtp_refuse(struct smtp_server *s, struct turn *t, enum reply id, struct bytes command)
{
	tell_refused(s, t, id, command);
	smtp_say(s, t->out, id);
	if (reply_text(id)[0] == '5')
		smtp_count_error(s, t->out);
}

void smtp_refuse_and_close(
	struct smtp_server *s, struct turn *t, enum reply id, struct bytes command)
{
	tell_refused(s, t, id, command);
	smtp_close(s, t->out, id);
}

/* ---- the mail in progress ---- */

void smtp_forget_mail(struct smtp_server *s)
{
	s->recipients = 0;
	s->body_flags = 0;
	s->refusal = REPLY_NONE;
	s->chunk_bytes = s->chunk_left = 0;
}

bool smtp_aborts(struct smtp_server *s, struct turn *t)
{
	bool had_mail = s->has_mail;
	if (had_mail)
		*t->event = (struct smtp_event){.kind = SMTP_EVENT_ABORT};
	s->has_mail = false;
	return had_mail;
}

/* ---- the life ---- */

size_t smtp_server_size(void)
{
	return sizeof(struct smtp_server);
}

static void greet(struct smtp_server *s, struct stream *out)
{
	if (stream_space(out) < SMTP_SERVER_ROOM)
		return;
	smtp_say(s, out, REPLY_GREETING);
	s->is_greeting_due = false;
}

void smtp_server_open(struct smtp_server *s, const struct smtp_server_config *config,
	const struct smtp_server_policy *policy, struct stream *out)
{
	assert(config->line_bytes_max >= 512);
	assert(stream_pool_block_bytes(out->pool) >= SMTP_SERVER_ROOM);
	*s = (struct smtp_server){
		.config = config,
		.policy = *policy,
		.state = SMTP_GREET,
		.is_greeting_due = true,
		.is_tls = policy->is_tls,
		.is_tls_available = true,
	};
	greet(s, out);
}

void smtp_server_set_tls_available(struct smtp_server *s, bool is_available)
{
	s->is_tls_available = is_available;
}

void smtp_server_tls_started(struct smtp_server *s)
{
	if (s->state != SMTP_TLS)
		return;
	smtp_forget_mail(s);
	s->is_tls = true;
	s->is_esmtp = false;
	s->line = (struct line_finder){0};
	smtp_enter(s, SMTP_GREET);
}

/* Texts of the caller: its own words, made a line where it forgot to. */
static void write_line(struct stream *out, const char *text)
{
	struct bytes line = bytes_of_string(text), crlf = BYTES_LITERAL("\r\n");
	bool is_whole = line.n >= 2 && bytes_equal(bytes_skip(line, line.n - 2), crlf);
	if (!is_whole || line.n > 2 * REPLY_BYTES_MAX)
		line = bytes_first(line, REPLY_BYTES_MAX - 2);
	stream_write(out, line);
	if (!bytes_equal(bytes_skip(line, line.n < 2 ? line.n : line.n - 2), crlf))
		stream_write(out, crlf);
}

/* Writes the reply that ends the session from outside, where it may stand now. */
static bool ends(struct smtp_server *s, struct stream *out)
{
	if (s->ending == NULL || s->state >= SMTP_CLOSING || s->state == SMTP_ASK_END)
		return false;
	if (s->is_ending_patient && (s->has_mail || !is_in(s, COMMAND_STATES)))
		return false;
	if (s->state != SMTP_TLS) {
		if (stream_space(out) < SMTP_SERVER_ROOM)
			return false;
		write_line(out, s->ending);
	}
	smtp_enter(s, SMTP_CLOSING);
	return true;
}

void smtp_server_end(struct smtp_server *s, const char *reply, struct stream *out)
{
	s->ending = reply;
	s->is_ending_patient = false;
	ends(s, out);
}

void smtp_server_drain(struct smtp_server *s, const char *reply, struct stream *out)
{
	if (s->ending != NULL)
		return;
	s->ending = reply;
	s->is_ending_patient = true;
	ends(s, out);
}

enum smtp_server_phase smtp_server_phase(const struct smtp_server *s)
{
	if (is_in(s, COMMAND_STATES))
		return SMTP_PHASE_COMMAND;
	if (is_in(s, CONTENT_STATES))
		return SMTP_PHASE_CONTENT;
	return s->state >= SMTP_CLOSING ? SMTP_PHASE_CLOSED : SMTP_PHASE_ANSWER;
}

const char *smtp_server_proto(const struct smtp_server *s)
{
	if (!s->is_esmtp)
		return "SMTP"; /* RFC 3848 has no word for HELO over TLS */
	if (s->body_flags & ENVELOPE_SMTPUTF8)
		return s->is_tls ? "UTF8SMTPS" : "UTF8SMTP";
	return s->is_tls ? "ESMTPS" : "ESMTP";
}

bool smtp_server_has_mail(const struct smtp_server *s)
{
	return s->has_mail;
}

bool smtp_server_has_normalised(const struct smtp_server *s)
{
	return s->content.has_normalised;
}

/* ---- answers ---- */

static void accept(struct smtp_server *s, const char *note, struct stream *out)
{
	switch (s->state) {
	case SMTP_ASK_MAIL:
		s->has_mail = true;
		smtp_enter(s, SMTP_MAIL);
		smtp_say(s, out, REPLY_SENDER_OK);
		break;
	case SMTP_ASK_RCPT:
		s->recipients++;
		smtp_enter(s, SMTP_RCPT);
		smtp_say(s, out, REPLY_RECIPIENT_OK);
		break;
	case SMTP_ASK_DATA:
		smtp_begin_content(s);
		smtp_enter(s, SMTP_DATA);
		smtp_say(s, out, REPLY_SEND_DATA);
		break;
	case SMTP_ASK_BDAT:
		smtp_begin_content(s);
		smtp_enter(s, SMTP_CHUNK);
		break;
	default: /* ASK_END */
		s->mails++;
		s->errors = s->idle_commands = 0;
		s->content_arrived = 0;
		smtp_forget_mail(s);
		smtp_enter(s, SMTP_READY);
		smtp_say_with(out, note == NULL ? REPLY_OK : REPLY_QUEUED,
			note == NULL ? BYTES_NONE : bytes_of_string(note));
	}
}

/* Where a refusal leads; the mail that is dropped by it is told of by the loop. */
static void step_back(struct smtp_server *s)
{
	switch (s->state) {
	case SMTP_ASK_RCPT: smtp_enter(s, s->recipients > 0 ? SMTP_RCPT : SMTP_MAIL); break;
	case SMTP_ASK_DATA: smtp_enter(s, SMTP_RCPT); break;
	case SMTP_ASK_BDAT: smtp_skip_chunk(s, s->is_last_chunk ? SMTP_READY : SMTP_FAILED); break;
	default: /* ASK_MAIL, ASK_END */ smtp_forget_mail(s); smtp_enter(s, SMTP_READY);
	}
}

bool smtp_server_answer(
	struct smtp_server *s, const char *refusal, const char *note, struct stream *out)
{
	if (!is_in(s, ASK_STATES))
		return true;
	if (stream_space(out) < SMTP_SERVER_ROOM)
		return false;
	if (refusal == NULL) {
		accept(s, note, out);
		return true;
	}
	step_back(s);
	write_line(out, refusal);
	if (strncmp(refusal, "421", 3) == 0 || strncmp(refusal, "521", 3) == 0)
		smtp_enter(s, SMTP_CLOSING);
	else if (refusal[0] == '5')
		smtp_count_error(s, out);
	return true;
}

/* ---- the loop ---- */

/* An over-long line is dropped as it comes, but not for ever. */
#define ENDLESS_LINE_FACTOR 16

static void overlong_line(struct smtp_server *s, struct turn *t, struct bytes beginning)
{
	struct bytes bdat = BYTES_LITERAL("BDAT");
	if (bytes_equal_nocase(bytes_first(beginning, bdat.n), bdat))
		smtp_refuse_and_close(s, t, REPLY_SYNTAX_BDAT, BYTES_NONE);
}

static void command_line(struct smtp_server *s, struct turn *t)
{
	struct line line;
	size_t used;
	enum line_result found =
		line_find(&s->line, t->in, s->config->line_bytes_max, &line, &used);
	t->used = used;
	if (found == LINE_MORE) {
		t->is_stuck = true;
		if (s->line.dropped > (uint64_t)ENDLESS_LINE_FACTOR * s->config->line_bytes_max)
			smtp_refuse_and_close(s, t, REPLY_ENDLESS_LINE, BYTES_NONE);
	} else if (found == LINE_OVERLONG) {
		overlong_line(s, t, line.text);
	} else if (line.is_bare && !s->policy.normalises_bare_lf) {
		/* Somebody before us took this for one line: nothing of it is to be believed. */
		smtp_refuse_and_close(s, t, REPLY_BARE_LF_COMMAND, line.text);
	} else if (found == LINE_DROPPED) {
		smtp_refuse(s, t, REPLY_LINE_TOO_LONG, BYTES_NONE);
	} else {
		smtp_command(s, t, line.text, used);
	}
}

static void closing(struct smtp_server *s, struct turn *t)
{
	*t->event = (struct smtp_event){.kind = SMTP_EVENT_CLOSE};
	if (s->closing != REPLY_NONE)
		t->event->reply = remember_reply(s, s->closing);
	smtp_enter(s, SMTP_CLOSED);
}

static void turn(struct smtp_server *s, struct turn *t)
{
	if (!is_for_mail(s) && smtp_aborts(s, t))
		return;
	if (s->state == SMTP_CLOSING) {
		closing(s, t);
		return;
	}
	t->is_stuck = s->state == SMTP_CLOSED || stream_space(t->out) < SMTP_SERVER_ROOM;
	if (t->is_stuck || ends(s, t->out))
		return;
	if (s->is_greeting_due)
		greet(s, t->out);
	if (is_in(s, COMMAND_STATES))
		command_line(s, t);
	else if (s->state == SMTP_DATA)
		smtp_read_data(s, t);
	else if (s->state == SMTP_CHUNK)
		smtp_read_chunk(s, t);
	else if (s->state == SMTP_DISCARD)
		smtp_discard_chunk(s, t);
	else
		t->is_stuck = true; /* an answer or the handshake is wanted */
}

size_t smtp_server_feed(
	struct smtp_server *s, struct bytes in, struct smtp_event *event, struct stream *out)
{
	size_t used = 0;
	*event = (struct smtp_event){.kind = SMTP_EVENT_NONE};
	for (;;) {
		struct turn t = {.in = bytes_skip(in, used), .event = event, .out = out};
		turn(s, &t);
		used += t.used;
		if (event->kind != SMTP_EVENT_NONE || t.is_stuck)
			return used;
	}
}
