// SPDX-License-Identifier: Apache-2.0
/* smtp/server/commands.c: the table of commands, the rules it states, and a handler for each.
 *
 * The dispatcher applies the rules, so that a handler keeps to its own matter. A command that must
 * be the last of its group (RFC 2920 3.1) and has input behind it ends the session, as Postfix
 * (since 3.9) and Exim do: whoever sent what follows did not wait for our reply, so it may be meant
 * for another protocol state than the one we would read it in (content behind DATA, a command in
 * clear behind STARTTLS). */
#include "smtp/parse/address.h"
#include "smtp/parse/command.h"
#include "smtp/server/session_private.h"

#include <stdio.h>

enum {
	BEFORE_TLS = 1, /* also where the policy requires TLS and there is none (RFC 3207 4) */
	ENDS_GROUP = 2, /* nothing may come behind it before its reply */
	NO_ARGUMENT = 4,
	IDLE = 8,	/* brings no mail on: counted against commands_max */
	HAS_BYTES = 16, /* bytes follow the line also where it is refused */
};

struct command {
	const char *verb;
	unsigned states; /* allowed in */
	unsigned rules;
	enum reply syntax;    /* where an argument is missing or too many */
	enum reply misplaced; /* in other states, if those have nothing better to say */
	void (*handle)(struct smtp_server *s, struct turn *t, const struct command_line *line);
};

static void cmd_bdat(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_data(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_ehlo(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_helo(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_help(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_mail(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_noop(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_quit(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_rcpt(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_rset(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_starttls(struct smtp_server *s, struct turn *t, const struct command_line *line);
static void cmd_vrfy(struct smtp_server *s, struct turn *t, const struct command_line *line);

#define ANY	   (~0u)
#define NO_HANDLER NULL

/* clang-format off */
static const struct command commands[] = {
	/* verb      allowed in              rules                             syntax          misplaced */
	{"EHLO",     ANY,                    BEFORE_TLS | ENDS_GROUP | IDLE,   REPLY_SYNTAX_EHLO, 0, cmd_ehlo}, /* RFC 5321 4.1.4 */
	{"HELO",     ANY,                    BEFORE_TLS | ENDS_GROUP | IDLE,   REPLY_SYNTAX_HELO, 0, cmd_helo},
	{"MAIL",     IN(READY),              0,                                REPLY_SYNTAX_MAIL, REPLY_NESTED_MAIL, cmd_mail},
	{"RCPT",     IN(MAIL) | IN(RCPT),    0,                                REPLY_SYNTAX_RCPT, REPLY_NEED_MAIL, cmd_rcpt},
	{"DATA",     IN(RCPT),               ENDS_GROUP | NO_ARGUMENT,         REPLY_SYNTAX_DATA, REPLY_NEED_RCPT, cmd_data}, /* RFC 2920 3.1 */
	{"BDAT",     IN(RCPT) | IN(CHUNKS),  HAS_BYTES,                        REPLY_SYNTAX_BDAT, REPLY_NEED_RCPT, cmd_bdat}, /* RFC 3030 2 */
	{"RSET",     ANY,                    BEFORE_TLS | NO_ARGUMENT | IDLE,  REPLY_SYNTAX_RSET, 0, cmd_rset},
	{"NOOP",     ANY,                    BEFORE_TLS | ENDS_GROUP | IDLE,   0, 0, cmd_noop},
	{"VRFY",     ANY,                    ENDS_GROUP | IDLE,                REPLY_SYNTAX_VRFY, 0, cmd_vrfy},
	{"HELP",     ANY,                    BEFORE_TLS | IDLE,                0, 0, cmd_help},
	{"QUIT",     ANY,                    BEFORE_TLS | NO_ARGUMENT,         REPLY_SYNTAX_QUIT, 0, cmd_quit},
	{"STARTTLS", IN(READY),              BEFORE_TLS | ENDS_GROUP | NO_ARGUMENT, REPLY_SYNTAX_STARTTLS, REPLY_IN_MAIL, cmd_starttls}, /* RFC 3207 4 */
	/* known, not ours; refused in any state */
	{"AUTH",     0,                      ENDS_GROUP,                       0, REPLY_NO_AUTH, NO_HANDLER},
	{"EXPN",     0,                      ENDS_GROUP,                       0, REPLY_NOT_IMPLEMENTED, NO_HANDLER},
	{"ETRN",     0,                      ENDS_GROUP,                       0, REPLY_NOT_IMPLEMENTED, NO_HANDLER},
	{"TURN",     0,                      ENDS_GROUP,                       0, REPLY_NOT_IMPLEMENTED, NO_HANDLER},
	/* a web browser made to talk to us: it must not find the command it hides in its body */
	{"GET",      0,                      0,                                0, REPLY_NOT_SMTP, NO_HANDLER},
	{"HEAD",     0,                      0,                                0, REPLY_NOT_SMTP, NO_HANDLER},
	{"POST",     0,                      0,                                0, REPLY_NOT_SMTP, NO_HANDLER},
	{"PUT",      0,                      0,                                0, REPLY_NOT_SMTP, NO_HANDLER},
	{"OPTIONS",  0,                      0,                                0, REPLY_NOT_SMTP, NO_HANDLER},
	{"CONNECT",  0,                      0,                                0, REPLY_NOT_SMTP, NO_HANDLER},
};
/* clang-format on */

static const struct command unknown = {"", 0, 0, 0, REPLY_UNKNOWN_COMMAND, NO_HANDLER};

static const struct command *find_command(struct bytes verb)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (bytes_equal_nocase(verb, bytes_of_string(commands[i].verb)))
			return &commands[i];
	return &unknown;
}

/* Why this state does not know the command. */
static enum reply misplaced(const struct smtp_server *s, const struct command *c)
{
	if (c->states == 0)
		return c->misplaced;
	switch (s->state) {
	case SMTP_GREET: return REPLY_HELO_FIRST;
	case SMTP_CHUNKS: return REPLY_IN_CHUNKS;
	case SMTP_FAILED: return REPLY_AFTER_FAILED_CHUNK;
	case SMTP_MAIL:
		/* All recipients were refused, or there was none (RFC 5321 3.3). */
		return c->misplaced == REPLY_NEED_RCPT ? REPLY_NO_RECIPIENTS : c->misplaced;
	default: return c->misplaced;
	}
}

/* The rules, in the order in which they are looked at. REPLY_NONE: the command may go on. */
static enum reply refused_by_rule(struct smtp_server *s, const struct command *c,
	const struct command_line *line, bool has_more)
{
	bool needs_tls = s->policy.requires_tls && !s->is_tls;
	if (has_more && (c->rules & ENDS_GROUP))
		return REPLY_SYNCHRONISATION;
	if (c->misplaced == REPLY_NOT_SMTP)
		return REPLY_NOT_SMTP;
	if (needs_tls && !(c->rules & BEFORE_TLS))
		return REPLY_TLS_REQUIRED;
	if ((c->rules & NO_ARGUMENT) && line->args.n > 0)
		return c->syntax;
	if ((c->states >> s->state & 1) == 0)
		return misplaced(s, c);
	if ((c->rules & IDLE) && smtp_is_over(s->idle_commands + 1ull, s->config->commands_max))
		return REPLY_TOO_MANY_COMMANDS;
	return REPLY_NONE;
}

static bool ends_session(enum reply refusal)
{
	return refusal == REPLY_SYNCHRONISATION || refusal == REPLY_NOT_SMTP ||
		refusal == REPLY_TOO_MANY_COMMANDS;
}

/* How long a BDAT is, or that it cannot be told: then what follows cannot be told from commands,
 * and must not be read at all. */
static bool take_chunk_size(
	struct smtp_server *s, struct turn *t, const struct command_line *line, struct bytes whole)
{
	struct bytes rest = line->args, size = command_word(&rest);
	bool is_last = bytes_equal_nocase(rest, BYTES_LITERAL("LAST"));
	uint64_t bytes;
	if (!command_number(size, &bytes) || (rest.n > 0 && !is_last)) {
		smtp_refuse_and_close(s, t, REPLY_SYNTAX_BDAT, whole);
		return false;
	}
	if (s->state == SMTP_RCPT)
		s->content_arrived = 0;
	if (smtp_is_past_bound(s, bytes)) {
		smtp_refuse_and_close(s, t, REPLY_TOO_BIG, whole);
		return false;
	}
	s->chunk_bytes = s->chunk_left = bytes;
	s->is_last_chunk = is_last;
	return true;
}

static void skip_refused_chunk(struct smtp_server *s)
{
	bool is_over = s->state == SMTP_FAILED && s->is_last_chunk;
	smtp_skip_chunk(s, is_over ? SMTP_READY : s->state);
}

void smtp_command(struct smtp_server *s, struct turn *t, struct bytes text, size_t line_used)
{
	struct command_line line;
	bool is_clean = command_parse(text, &line);
	const struct command *c = find_command(line.verb);
	t->used = line_used;
	if ((c->rules & HAS_BYTES) && !take_chunk_size(s, t, &line, text))
		return;
	enum reply refusal = REPLY_BAD_CHARACTER;
	if (is_clean)
		refusal = refused_by_rule(s, c, &line, t->in.n > line_used);
	if (refusal == REPLY_NONE) {
		c->handle(s, t, &line);
		s->idle_commands += (c->rules & IDLE) && t->used > 0; /* 0: it comes again */
	} else if (ends_session(refusal)) {
		smtp_refuse_and_close(s, t, refusal, text);
	} else {
		smtp_refuse(s, t, refusal, text);
		if ((c->rules & HAS_BYTES) && s->state != SMTP_CLOSING)
			skip_refused_chunk(s);
	}
}

/* The whole line again, for the records: from the verb to the end of the arguments. */
static struct bytes whole_line(const struct command_line *line)
{
	return bytes_of(line->verb.at, (size_t)(line->args.at + line->args.n - line->verb.at));
}

static void refuse(
	struct smtp_server *s, struct turn *t, enum reply id, const struct command_line *line)
{
	smtp_refuse(s, t, id, whole_line(line));
}

/* Before a command that ends a mail in progress does its work: tells of the mail, uses nothing, and
 * the command comes again. */
static bool drops_mail_first(struct smtp_server *s, struct turn *t)
{
	if (!smtp_aborts(s, t))
		return false;
	smtp_forget_mail(s);
	smtp_enter(s, SMTP_READY);
	t->used = 0;
	return true;
}

/* ---- EHLO, HELO, STARTTLS ---- */

/* Domain or address literal (RFC 5321 4.1.1.1), judged mildly, since many clients name themselves
 * as they like; but nothing that could be mistaken for something else in a Received field. */
static bool is_helo_name(struct bytes name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.at[i] <= ' ' || name.at[i] > '~' ||
			strchr("()<>,;\"\\", name.at[i]) != NULL)
			return false;
	return name.n > 0 && name.n <= ADDRESS_DOMAIN_MAX;
}

static bool greets(
	struct smtp_server *s, struct turn *t, const struct command_line *line, bool is_esmtp)
{
	if (!is_helo_name(line->args)) {
		refuse(s, t, is_esmtp ? REPLY_SYNTAX_EHLO : REPLY_SYNTAX_HELO, line);
		return false;
	}
	if (drops_mail_first(s, t))
		return false;
	/* In GREET too nothing is lost; in FAILED what is left is forgotten. */
	smtp_forget_mail(s);
	smtp_enter(s, SMTP_READY);
	s->is_esmtp = is_esmtp;
	*t->event =
		(struct smtp_event){.kind = SMTP_EVENT_HELO, .text = line->args, .flag = is_esmtp};
	return true;
}

static void cmd_ehlo(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	if (!greets(s, t, line, true))
		return;
	bool offers_tls = s->policy.offers_starttls && !s->is_tls;
	char text[REPLY_BYTES_MAX];
	snprintf(text, sizeof text,
		"250-%.255s\r\n250-PIPELINING\r\n250-SIZE %llu\r\n%s250-ENHANCEDSTATUSCODES\r\n"
		"250-8BITMIME\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n",
		s->config->hostname, (unsigned long long)s->config->message_bytes_max,
		offers_tls ? "250-STARTTLS\r\n" : "");
	stream_write(t->out, bytes_of_string(text));
}

static void cmd_helo(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	if (greets(s, t, line, false))
		smtp_say(s, t->out, REPLY_HELO);
}

static void cmd_starttls(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	enum reply refusal = s->is_tls	     ? REPLY_TLS_ACTIVE
		: !s->policy.offers_starttls ? REPLY_NOT_IMPLEMENTED
		: !s->is_tls_available	     ? REPLY_TLS_UNAVAILABLE
					     : REPLY_NONE;
	if (refusal != REPLY_NONE) {
		refuse(s, t, refusal, line);
		return;
	}
	smtp_say(s, t->out, REPLY_READY_FOR_TLS);
	smtp_enter(s, SMTP_TLS);
	*t->event = (struct smtp_event){.kind = SMTP_EVENT_STARTTLS};
}

/* ---- MAIL, RCPT ---- */

struct mail_parameters {
	uint64_t size;
	uint8_t body_flags;
	unsigned seen; /* a bit for each parameter: none may come twice */
};

static enum reply body_parameter(const struct command_parameter *p, struct mail_parameters *to)
{
	if (bytes_equal_nocase(p->value, BYTES_LITERAL("8BITMIME")))
		to->body_flags |= ENVELOPE_8BITMIME;
	else if (!bytes_equal_nocase(p->value, BYTES_LITERAL("7BIT")))
		return REPLY_BAD_PARAMETER; /* BINARYMIME is not offered */
	return REPLY_NONE;
}

static enum reply size_parameter(const struct command_parameter *p, struct mail_parameters *to)
{
	return command_number(p->value, &to->size) ? REPLY_NONE : REPLY_BAD_PARAMETER;
}

static enum reply smtputf8_parameter(const struct command_parameter *p, struct mail_parameters *to)
{
	to->body_flags |= ENVELOPE_SMTPUTF8;
	return p->has_value ? REPLY_BAD_PARAMETER : REPLY_NONE;
}

static const struct {
	const char *keyword;
	enum reply (*take)(const struct command_parameter *p, struct mail_parameters *to);
} mail_parameters[] = {
	{"SIZE",	 size_parameter    }, /* RFC 1870 */
	{"BODY",	 body_parameter    }, /* RFC 6152 */
	{"SMTPUTF8", smtputf8_parameter}, /* RFC 6531 */
};

static enum reply take_parameter(const struct command_parameter *p, struct mail_parameters *to)
{
	for (unsigned i = 0; i < sizeof mail_parameters / sizeof *mail_parameters; i++) {
		if (!bytes_equal_nocase(p->keyword, bytes_of_string(mail_parameters[i].keyword)))
			continue;
		if (to->seen & 1u << i)
			return REPLY_BAD_PARAMETER;
		to->seen |= 1u << i;
		return mail_parameters[i].take(p, to);
	}
	return REPLY_UNKNOWN_PARAMETER;
}

static enum reply take_mail_parameters(struct bytes rest, struct mail_parameters *to)
{
	struct command_parameter p;
	enum reply refusal = REPLY_NONE;
	int found;
	while (refusal == REPLY_NONE && (found = command_parameter(&rest, &p)) != 0)
		refusal = found < 0 ? REPLY_BAD_PARAMETER : take_parameter(&p, to);
	return refusal;
}

/* The path of MAIL or RCPT; `*rest` is what follows it: nothing, or parameters behind a space. */
static enum reply take_path(struct smtp_server *s, struct bytes keyword, enum reply syntax,
	enum reply bad, struct bytes *rest, struct address *address)
{
	uint32_t local_max = s->config->local_part_bytes_max;
	size_t used;
	if (!command_keyword(rest, keyword))
		return syntax;
	switch (address_parse(
		*rest, local_max == 0 ? ADDRESS_LOCAL_MAX : local_max, address, &used)) {
	case ADDRESS_OK: break;
	case ADDRESS_NO_PATH: return syntax;
	case ADDRESS_UNQUALIFIED: return REPLY_UNQUALIFIED;
	default: return bad;
	}
	*rest = bytes_skip(*rest, used);
	if (rest->n > 0 && rest->at[0] != ' ')
		return syntax;
	while (rest->n > 0 && rest->at[0] == ' ')
		*rest = bytes_skip(*rest, 1);
	return REPLY_NONE;
}

static enum reply take_sender(struct smtp_server *s, const struct command_line *line,
	struct address *sender, struct mail_parameters *parameters)
{
	struct bytes rest = line->args;
	enum reply refusal = take_path(
		s, BYTES_LITERAL("FROM:"), REPLY_SYNTAX_MAIL, REPLY_BAD_SENDER, &rest, sender);
	if (refusal == REPLY_NONE && sender->mailbox.n > 0 && sender->domain.n == 0)
		refusal = REPLY_UNQUALIFIED; /* <postmaster> is a recipient only */
	if (refusal == REPLY_NONE)
		refusal = take_mail_parameters(rest, parameters);
	if (refusal == REPLY_NONE && sender->is_utf8 &&
		!(parameters->body_flags & ENVELOPE_SMTPUTF8))
		refusal = REPLY_NEED_SMTPUTF8;
	if (refusal == REPLY_NONE && smtp_is_over(parameters->size, s->config->message_bytes_max))
		refusal = REPLY_TOO_BIG;
	return refusal;
}

static void cmd_mail(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	struct mail_parameters parameters = {0};
	struct address sender;
	if (smtp_is_over(s->mails + 1ull, s->config->mails_max)) {
		smtp_refuse_and_close(s, t, REPLY_TOO_MANY_MAILS, whole_line(line));
		return;
	}
	enum reply refusal = take_sender(s, line, &sender, &parameters);
	if (refusal != REPLY_NONE) {
		refuse(s, t, refusal, line);
		return;
	}
	smtp_forget_mail(s);
	s->body_flags = parameters.body_flags;
	s->content.has_normalised = false;
	smtp_enter(s, SMTP_ASK_MAIL);
	*t->event = (struct smtp_event){
		.kind = SMTP_EVENT_MAIL,
		.text = sender.mailbox,
		.domain = sender.domain,
		.size = parameters.size,
		.body_flags = parameters.body_flags,
	};
}

static enum reply take_recipient(
	struct smtp_server *s, const struct command_line *line, struct address *recipient)
{
	struct bytes rest = line->args;
	enum reply refusal = take_path(
		s, BYTES_LITERAL("TO:"), REPLY_SYNTAX_RCPT, REPLY_BAD_RECIPIENT, &rest, recipient);
	if (refusal != REPLY_NONE)
		return refusal;
	if (recipient->mailbox.n == 0)
		return REPLY_BAD_RECIPIENT; /* the null path sends, it does not receive */
	if (rest.n > 0)
		return REPLY_UNKNOWN_PARAMETER;
	if (recipient->is_utf8 && !(s->body_flags & ENVELOPE_SMTPUTF8))
		return REPLY_NEED_SMTPUTF8;
	return REPLY_NONE;
}

/* A client may send the rest in another mail (RFC 5321 4.5.3.1.10), so being told does not count as
 * an error until it has been told as often as a mail has recipients. */
static void too_many_recipients(
	struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	refuse(s, t, REPLY_TOO_MANY_RECIPIENTS, line);
	if (++s->recipients_over > s->config->recipients_max)
		smtp_count_error(s, t->out);
}

static void cmd_rcpt(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	struct address recipient;
	enum reply refusal = take_recipient(s, line, &recipient);
	if (refusal != REPLY_NONE) {
		refuse(s, t, refusal, line);
		return;
	}
	if (smtp_is_over(s->recipients + 1ull, s->config->recipients_max)) {
		too_many_recipients(s, t, line);
		return;
	}
	smtp_enter(s, SMTP_ASK_RCPT);
	*t->event = (struct smtp_event){
		.kind = SMTP_EVENT_RCPT, .text = recipient.mailbox, .domain = recipient.domain};
}

/* ---- DATA, BDAT ---- */

static void cmd_data(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	smtp_enter(s, SMTP_ASK_DATA);
	*t->event = (struct smtp_event){.kind = SMTP_EVENT_DATA};
}

/* Its size is taken already. */
static void cmd_bdat(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	if (s->chunk_bytes == 0 && !s->is_last_chunk &&
		smtp_is_over(++s->idle_commands, s->config->commands_max)) {
		smtp_refuse_and_close(s, t, REPLY_TOO_MANY_COMMANDS, whole_line(line));
	} else if (s->state == SMTP_CHUNKS) {
		smtp_enter(s, SMTP_CHUNK);
	} else {
		smtp_enter(s, SMTP_ASK_BDAT);
		*t->event = (struct smtp_event){
			.kind = SMTP_EVENT_DATA, .size = s->chunk_bytes, .flag = true};
	}
}

/* ---- the rest ---- */

static void cmd_rset(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	if (drops_mail_first(s, t))
		return;
	smtp_forget_mail(s);
	if (s->state != SMTP_GREET)
		smtp_enter(s, SMTP_READY);
	smtp_say(s, t->out, REPLY_OK);
}

static void cmd_noop(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	smtp_say(s, t->out, REPLY_OK);
}

static void cmd_help(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	smtp_say(s, t->out, REPLY_HELP);
}

static void cmd_vrfy(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	struct bytes rest = line->args, name = command_word(&rest);
	bool is_utf8 = false;
	for (size_t i = 0; i < name.n; i++)
		is_utf8 |= name.at[i] > 127;
	if (name.n == 0)
		refuse(s, t, REPLY_SYNTAX_VRFY, line);
	else if (is_utf8 && !bytes_equal_nocase(rest, BYTES_LITERAL("SMTPUTF8")))
		refuse(s, t, REPLY_NEED_SMTPUTF8, line); /* RFC 6531 3.7.4.2 */
	else
		smtp_say(s, t->out, REPLY_VRFY);
}

static void cmd_quit(struct smtp_server *s, struct turn *t, const struct command_line *line)
{
	if (!drops_mail_first(s, t))
		smtp_close(s, t->out, REPLY_BYE);
}
