// SPDX-License-Identifier: Apache-2.0
#include "bench/sink_session.h"

#include <stddef.h>
#include <strings.h>

#define REPLY_MAX 160u /* the longest, EHLO's */
#define END	  "\r\n.\r\n"

static void say(struct sink_session *s, const char *text)
{
	size_t n = strlen(text);
	memcpy(s->out + s->out_length, text, n);
	s->out_length = (uint16_t)(s->out_length + n);
}

void sink_open(struct sink_session *s, bool is_tls_offered)
{
	memset(s, 0, offsetof(struct sink_session, line));
	s->mails = s->bytes = 0;
	s->is_tls_offered = is_tls_offered;
	say(s, "220 sink.example.test ESMTP\r\n");
}

void sink_secured(struct sink_session *s)
{
	s->is_tls_offered = false;
	s->length = 0;
}

static bool is_verb(const struct sink_session *s, const char *verb)
{
	size_t n = strlen(verb);
	return s->length >= n && strncasecmp(s->line, verb, n) == 0 &&
		(s->length == n || s->line[n] == ' ' || s->line[n] == '\r' || s->line[n] == ':');
}

static enum sink_event on_command(struct sink_session *s)
{
	if (is_verb(s, "EHLO")) {
		say(s,
			"250-sink.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-"
			"SMTPUTF8\r\n");
		if (s->is_tls_offered)
			say(s, "250-STARTTLS\r\n");
		say(s, "250 ENHANCEDSTATUSCODES\r\n");
	} else if (is_verb(s, "DATA")) {
		say(s, "354 go\r\n");
		s->is_data = true;
		s->matched = 2; /* a line begins */
	} else if (is_verb(s, "QUIT")) {
		say(s, "221 2.0.0 bye\r\n");
		return SINK_QUIT;
	} else if (is_verb(s, "STARTTLS") && s->is_tls_offered) {
		say(s, "220 2.0.0 go\r\n");
		return SINK_STARTTLS;
	} else if (is_verb(s, "HELO") || is_verb(s, "MAIL FROM") || is_verb(s, "RCPT TO") ||
		is_verb(s, "RSET") || is_verb(s, "NOOP")) {
		say(s, "250 2.0.0 ok\r\n");
	} else {
		say(s, "500 5.5.1 what?\r\n");
	}
	return SINK_NONE;
}

/* The rest of a line too long to be looked at is dropped. */
static size_t feed_command(struct sink_session *s, struct bytes in, enum sink_event *event)
{
	size_t n = bytes_find(in, '\n');
	size_t room = sizeof s->line - s->length, taken = n < room ? n : room;
	memcpy(s->line + s->length, in.at, taken);
	s->length = (uint8_t)(s->length + taken);
	if (n == in.n)
		return n;
	if (s->length != 0 && s->line[s->length - 1] == '\r')
		s->length--;
	*event = on_command(s);
	s->length = 0;
	return n + 1;
}

static size_t feed_data(struct sink_session *s, struct bytes in)
{
	size_t i = 0;
	while (i < in.n) {
		if (s->matched == 0) { /* skip to the next CR */
			i += bytes_find(bytes_skip(in, i), '\r');
			if (i == in.n)
				break;
		}
		uint8_t c = in.at[i++];
		if (c == (uint8_t)END[s->matched])
			s->matched++;
		else
			s->matched = c == '\r';
		if (s->matched == sizeof END - 1) {
			s->is_data = false;
			s->mails++;
			say(s, "250 2.0.0 taken\r\n");
			break;
		}
	}
	s->bytes += i;
	return i;
}

size_t sink_feed(struct sink_session *s, struct bytes in, enum sink_event *event)
{
	size_t used = 0;
	*event = SINK_NONE;
	while (used < in.n && *event == SINK_NONE && s->out_length + REPLY_MAX <= sizeof s->out) {
		struct bytes rest = bytes_skip(in, used);
		used += s->is_data ? feed_data(s, rest) : feed_command(s, rest, event);
	}
	return used;
}
