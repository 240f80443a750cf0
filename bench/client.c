// SPDX-License-Identifier: Apache-2.0
#include "bench/client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define LINE_BYTES 72 /* of the message's body, CRLF counted */

struct client_script {
	struct bytes ehlo, starttls, rset, quit;
	struct bytes group;	/* MAIL, RCPT …, DATA in one write (RFC 2920) */
	struct bytes *commands; /* the same, one by one */
	unsigned count;
	struct bytes content;
	bool wants_starttls;
	char *memory;
};

/* ---- the script ---- */

/* Appends text and says where it stands. */
static struct bytes put(char **at, char *end, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static struct bytes put(char **at, char *end, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int n = vsnprintf(*at, (size_t)(end - *at), format, args);
	va_end(args);
	struct bytes b = bytes_of(*at, (size_t)n);
	*at += n;
	return b;
}

static struct bytes put_recipient(
	char **at, char *end, const struct client_script_config *config, unsigned i)
{
	const char *host = strrchr(config->to, '@');
	if (config->recipients == 1 || host == NULL)
		return put(at, end, "RCPT TO:<%s>\r\n", config->to);
	return put(at, end, "RCPT TO:<%.*s+%u%s>\r\n", (int)(host - config->to), config->to, i + 1,
		host);
}

/* Exactly `size` bytes of header and body (more, if the header alone is longer), and the final dot. */
static struct bytes put_content(char **at, char *end, const struct client_script_config *config)
{
	struct bytes b = put(at, end,
		"From: <%s>\r\nTo: <%s>\r\nSubject: a message of hikyaku-bench\r\n"
		"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <bench@%s>\r\n\r\n",
		config->from, config->to, config->helo);
	while (b.n < config->size) {
		size_t left = config->size - b.n, n = left < LINE_BYTES ? left : LINE_BYTES;
		if (left > LINE_BYTES &&
			left - LINE_BYTES < 2) /* no single byte may be left over */
			n = LINE_BYTES - 2;
		if (n < 2)
			n = 2;
		for (size_t i = 0; i < n - 2; i++)
			*(*at)++ = (char)('a' + (b.n / LINE_BYTES + i) % 26);
		put(at, end, "\r\n");
		b.n += n;
	}
	put(at, end, ".\r\n");
	b.n += 3;
	return b;
}

struct client_script *client_script_create(const struct client_script_config *config)
{
	size_t address = strlen(config->from) + strlen(config->to) + strlen(config->helo) + 64;
	size_t room = 1024 + (config->recipients + 8) * address + config->size;
	struct client_script *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->count = config->recipients + 2;
	s->commands = calloc(s->count, sizeof *s->commands);
	s->memory = malloc(room);
	if (s->memory == NULL || s->commands == NULL) {
		client_script_destroy(s);
		return NULL;
	}
	char *at = s->memory, *end = at + room;
	s->ehlo = put(&at, end, "EHLO %s\r\n", config->helo);
	s->starttls = put(&at, end, "STARTTLS\r\n");
	s->rset = put(&at, end, "RSET\r\n");
	s->quit = put(&at, end, "QUIT\r\n");
	char *group = at;
	s->commands[0] = put(&at, end, "MAIL FROM:<%s>\r\n", config->from);
	for (unsigned i = 0; i < config->recipients; i++)
		s->commands[i + 1] = put_recipient(&at, end, config, i);
	s->commands[s->count - 1] = put(&at, end, "DATA\r\n");
	s->group = bytes_of(group, (size_t)(at - group));
	s->content = put_content(&at, end, config);
	s->wants_starttls = config->wants_starttls;
	return s;
}

void client_script_destroy(struct client_script *s)
{
	free(s->commands);
	free(s->memory);
	free(s);
}

struct bytes client_script_content(const struct client_script *s)
{
	return s->content;
}

/* ---- a session ---- */

void client_open(struct client *c, const struct client_script *script, bool is_secured)
{
	*c = (struct client){.script = script, .is_secured = is_secured};
}

static void say(struct client *c, struct bytes what, enum client_state next)
{
	c->out = what;
	c->state = (uint8_t)next;
}

void client_secured(struct client *c)
{
	c->is_secured = true;
	say(c, c->script->ehlo, CLIENT_AT_EHLO);
}

void client_mail(struct client *c)
{
	c->answered = c->taken = c->refused = 0;
	say(c, c->is_pipelining ? c->script->group : c->script->commands[0], CLIENT_AT_ENVELOPE);
}

void client_quit(struct client *c)
{
	say(c, c->script->quit, CLIENT_AT_QUIT);
}

static void note_refusal(struct client *c, unsigned code)
{
	if (c->refused != 0)
		return;
	c->refused = (uint16_t)code;
	memcpy(c->text, c->line, sizeof c->text);
}

static enum client_event fail(struct client *c, unsigned code)
{
	c->refused = 0;
	note_refusal(c, code);
	c->out = BYTES_NONE;
	c->state = CLIENT_AT_OVER;
	return CLIENT_FAILED;
}

static enum client_event ready(struct client *c, enum client_event event)
{
	c->state = CLIENT_AT_READY;
	return event;
}

static enum client_event on_ehlo(struct client *c, unsigned code)
{
	if (code != 250)
		return fail(c, code);
	if (c->is_secured || !c->script->wants_starttls)
		return ready(c, CLIENT_READY);
	if (!c->is_starttls_offered)
		return fail(c, code);
	say(c, c->script->starttls, CLIENT_AT_STARTTLS);
	return CLIENT_NONE;
}

static enum client_event on_starttls(struct client *c, unsigned code)
{
	if (code != 220)
		return fail(c, code);
	c->state = CLIENT_AT_HANDSHAKE;
	return CLIENT_STARTTLS;
}

/* The last of the envelope's replies has come, that to DATA. */
static enum client_event on_data(struct client *c, unsigned code)
{
	if (code == 354) {
		/* Without a recipient there is nothing to send, but the dot is owed. */
		struct bytes content = c->script->content;
		say(c, c->taken != 0 ? content : bytes_skip(content, content.n - 3), CLIENT_AT_END);
		return CLIENT_NONE;
	}
	note_refusal(c, code);
	say(c, c->script->rset, CLIENT_AT_RESET);
	return CLIENT_NONE;
}

static enum client_event on_envelope(struct client *c, unsigned code)
{
	unsigned which = c->answered++;
	if (c->answered == c->script->count)
		return on_data(c, code);
	if (code / 100 != 2)
		note_refusal(c, code);
	else if (which > 0)
		c->taken++;
	if (!c->is_pipelining) {
		if (c->refused != 0 &&
			(which == 0 || (c->answered == c->script->count - 1 && c->taken == 0)))
			say(c, c->script->rset, CLIENT_AT_RESET);
		else
			c->out = c->script->commands[c->answered];
	}
	return CLIENT_NONE;
}

static enum client_event on_end(struct client *c, unsigned code)
{
	if (c->out.n != 0) /* an answer before the end: what it is to is unclear */
		return fail(c, code);
	if (code == 250 && c->taken != 0)
		return ready(c, CLIENT_ACCEPTED);
	note_refusal(c, code);
	return ready(c, CLIENT_REFUSED);
}

static enum client_event on_reply(struct client *c, unsigned code)
{
	if (code == 421)
		return fail(c, code);
	switch ((enum client_state)c->state) {
	case CLIENT_AT_GREETING:
		if (code != 220)
			return fail(c, code);
		say(c, c->script->ehlo, CLIENT_AT_EHLO);
		return CLIENT_NONE;
	case CLIENT_AT_EHLO: return on_ehlo(c, code);
	case CLIENT_AT_STARTTLS: return on_starttls(c, code);
	case CLIENT_AT_ENVELOPE: return on_envelope(c, code);
	case CLIENT_AT_END: return on_end(c, code);
	case CLIENT_AT_RESET: return code == 250 ? ready(c, CLIENT_REFUSED) : fail(c, code);
	case CLIENT_AT_QUIT: c->state = CLIENT_AT_OVER; return CLIENT_CLOSED;
	case CLIENT_AT_HANDSHAKE:
	case CLIENT_AT_READY:
	case CLIENT_AT_OVER: break;
	}
	return fail(c, code);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* One line without its end. */
static enum client_event on_line(struct client *c)
{
	const char *line = c->line;
	if (c->length < 3 || !is_digit(line[0]) || !is_digit(line[1]) || !is_digit(line[2]) ||
		(line[3] != '\0' && line[3] != ' ' && line[3] != '-'))
		return fail(c, 0);
	if (c->state == CLIENT_AT_EHLO && line[3] != '\0') {
		if (strcasecmp(line + 4, "PIPELINING") == 0)
			c->is_pipelining = true;
		else if (strcasecmp(line + 4, "STARTTLS") == 0)
			c->is_starttls_offered = true;
	}
	if (line[3] == '-')
		return CLIENT_NONE;
	return on_reply(c,
		(unsigned)(line[0] - '0') * 100 + (unsigned)(line[1] - '0') * 10 +
			(unsigned)(line[2] - '0'));
}

static void gather(struct client *c, struct bytes b)
{
	size_t room = sizeof c->line - 1 - c->length, n = b.n < room ? b.n : room;
	if (n != 0)
		memcpy(c->line + c->length, b.at, n);
	c->length = (uint8_t)(c->length + n);
}

size_t client_feed(struct client *c, struct bytes in, enum client_event *event)
{
	size_t used = 0;
	*event = CLIENT_NONE;
	while (used < in.n && *event == CLIENT_NONE) {
		struct bytes rest = bytes_skip(in, used);
		size_t n = bytes_find(rest, '\n');
		gather(c, bytes_first(rest, n));
		used += n;
		if (n == rest.n)
			break;
		used++;
		if (c->length != 0 && c->line[c->length - 1] == '\r')
			c->length--;
		c->line[c->length] = '\0';
		*event = on_line(c);
		c->length = 0;
	}
	return used;
}
