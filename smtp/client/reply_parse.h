// SPDX-License-Identifier: Apache-2.0
/* smtp/client/reply_parse.h: replies as values: reading a server's (RFC 5321 4.2), making one of ours.
 *
 * The parser is as exposed as the server's: it takes anything from anybody. It keeps its place between any
 * two bytes, keeps nothing of one reply for the next, and holds a bounded part of it. */
#pragma once

#include "smtp/client/session.h"

#define REPLY_PARSE_LINE_KEPT 512	/* RFC 5321 4.5.3.1.5; what is longer is cut, not refused */
#define REPLY_PARSE_LINES_MAX 256	/* a reply with more never ends, or means harm */
#define REPLY_PARSE_BYTES_MAX 65536	/* of all its lines, also of one without an end */

struct reply_parser {
	struct smtp_reply reply; /* whole after REPLY_DONE, until the next reset */
	const char *why_bad;	 /* a few words of ours after REPLY_BAD */
	uint32_t bytes;		 /* of this reply so far */
	uint16_t lines;		 /* ended so far */
	uint16_t text_length;
	uint16_t line_length; /* of `line`, the part that is kept */
	bool is_line_over;    /* `line` is a line that has ended */
	uint8_t line[REPLY_PARSE_LINE_KEPT];
};

enum reply_step {
	REPLY_BAD = -1, /* not a reply, or past a limit: the connection is of no use any more */
	REPLY_MORE,	/* all input is used */
	REPLY_LINE,	/* a line ended, others follow: reply_line() */
	REPLY_DONE,	/* the last line ended */
};

/* Forgets all: before the first reply, and after each. */
void reply_parser_reset(struct reply_parser *p);
/* Uses input up to the end of one line; `*used` the bytes. A line ends with LF, with or without CR. */
enum reply_step reply_parse(struct reply_parser *p, struct bytes in, size_t *used);
/* The text of the line that just ended, behind code and separator, without line end; points into `p`. */
struct bytes reply_line(const struct reply_parser *p);
/* Is a reply begun and not ended? */
static inline bool reply_is_begun(const struct reply_parser *p)
{
	return p->bytes != 0;
}

/* A reason of ours: `code` 4xx or 5xx, class from it. */
void reply_set(struct smtp_reply *r, unsigned code, unsigned subject, unsigned detail,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

static inline bool reply_has_enhanced(
	const struct smtp_reply *r, unsigned class, unsigned subject, unsigned detail)
{
	return r->enhanced[0] == class && r->enhanced[1] == subject && r->detail == detail;
}
