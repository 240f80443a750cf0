// SPDX-License-Identifier: Apache-2.0
#include "smtp/client/reply_parse.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void reply_parser_reset(struct reply_parser *p)
{
	p->reply.code = 0;
	p->reply.enhanced[0] = p->reply.enhanced[1] = p->reply.enhanced[2] = 0;
	p->reply.detail = 0;
	p->reply.is_ours = false;
	p->reply.text[0] = '\0';
	p->why_bad = NULL;
	p->bytes = 0;
	p->lines = p->text_length = p->line_length = 0;
	p->is_line_over = false;
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* Up to three digits from the front of `b`; the digits taken, 0 if there are none or too many. */
static size_t take_number(struct bytes *b, unsigned *value)
{
	size_t n = 0;
	*value = 0;
	while (n < b->n && n < 4 && is_digit(b->at[n]))
		*value = *value * 10 + (b->at[n++] - '0');
	*b = bytes_skip(*b, n);
	return n <= 3 ? n : 0;
}

static bool take_byte(struct bytes *b, uint8_t c)
{
	if (b->n == 0 || b->at[0] != c)
		return false;
	*b = bytes_skip(*b, 1);
	return true;
}

struct enhanced {
	unsigned class, subject, detail;
};

/* RFC 3463 2: class "." subject "." detail, then a space or the end of the line. A class that belies the
 * reply's first digit is no code (RFC 2034 3), nor is a subject no registry will ever hold. */
static bool take_enhanced(struct bytes *text, unsigned code, struct enhanced *e)
{
	struct bytes b = *text;
	if (take_number(&b, &e->class) != 1 || !take_byte(&b, '.') ||
		take_number(&b, &e->subject) == 0 || !take_byte(&b, '.') ||
		take_number(&b, &e->detail) == 0)
		return false;
	if (b.n != 0 && !take_byte(&b, ' '))
		return false;
	if (e->class != code / 100 || e->class == 3 || e->subject > UINT8_MAX)
		return false;
	*text = b;
	return true;
}

static void append_text(struct reply_parser *p, struct bytes text)
{
	char *to = p->reply.text;
	size_t room = sizeof p->reply.text - 1;
	if (text.n != 0 && p->text_length != 0 && p->text_length < room)
		to[p->text_length++] = ' ';
	for (size_t i = 0; i < text.n && p->text_length < room; i++)
		to[p->text_length++] = text.at[i] < 0x20 || text.at[i] == 0x7f ? '?' : (char)text.at[i];
	to[p->text_length] = '\0';
}

/* All lines give the same enhanced code (RFC 2034 3); where they do not, the first one counts. */
static void add_line(struct reply_parser *p, struct bytes text)
{
	struct enhanced e;
	if (take_enhanced(&text, p->reply.code, &e) && p->reply.enhanced[0] == 0) {
		p->reply.enhanced[0] = (uint8_t)e.class;
		p->reply.enhanced[1] = (uint8_t)e.subject;
		p->reply.detail = (uint16_t)e.detail;
	}
	append_text(p, text);
}

static enum reply_step bad(struct reply_parser *p, const char *why)
{
	p->why_bad = why;
	return REPLY_BAD;
}

/* RFC 5321 4.2: Reply-code = %x32-35 %x30-35 %x30-39, then "-", or a space and text, or nothing. The second
 * digit is not held to its range, since only the first decides what we do (4.3.2). */
static enum reply_step end_line(struct reply_parser *p)
{
	if (p->line_length != 0 && p->line[p->line_length - 1] == '\r')
		p->line_length--;
	struct bytes line = bytes_of(p->line, p->line_length);
	unsigned code;
	if (line.n < 3 || line.at[0] < '2' || line.at[0] > '5' || take_number(&line, &code) != 3)
		return bad(p, "not a reply");
	bool is_last = line.n == 0 || line.at[0] == ' ';
	if (!is_last && line.at[0] != '-')
		return bad(p, "not a reply");
	if (p->lines != 0 && code != p->reply.code)
		return bad(p, "two codes in one reply");
	p->reply.code = (uint16_t)code;
	add_line(p, bytes_skip(line, 1));
	p->lines++;
	if (!is_last && p->lines >= REPLY_PARSE_LINES_MAX)
		return bad(p, "a reply without an end");
	return is_last ? REPLY_DONE : REPLY_LINE;
}

enum reply_step reply_parse(struct reply_parser *p, struct bytes in, size_t *used)
{
	*used = 0;
	if (p->why_bad != NULL)
		return REPLY_BAD;
	if (in.n == 0)
		return REPLY_MORE;
	if (p->is_line_over)
		p->line_length = 0;
	p->is_line_over = false;
	size_t end = bytes_find(in, '\n');
	bool is_whole = end < in.n;
	*used = is_whole ? end + 1 : end;
	if (*used > REPLY_PARSE_BYTES_MAX - p->bytes)
		return bad(p, "a reply without an end");
	p->bytes += (uint32_t)*used;
	size_t kept = end < sizeof p->line - p->line_length ? end : sizeof p->line - p->line_length;
	memcpy(p->line + p->line_length, in.at, kept);
	p->line_length += (uint16_t)kept;
	p->is_line_over = is_whole;
	return is_whole ? end_line(p) : REPLY_MORE;
}

struct bytes reply_line(const struct reply_parser *p)
{
	return bytes_skip(bytes_of(p->line, p->line_length), 4);
}

void reply_set(struct smtp_reply *r, unsigned code, unsigned subject, unsigned detail,
	const char *format, ...)
{
	assert(code / 100 == 4 || code / 100 == 5);
	*r = (struct smtp_reply){
		.code = (uint16_t)code,
		.enhanced = {(uint8_t)(code / 100), (uint8_t)subject},
		.detail = (uint16_t)detail,
		.is_ours = true,
	};
	va_list args;
	va_start(args, format);
	vsnprintf(r->text, sizeof r->text, format, args);
	va_end(args);
	for (char *c = r->text; *c != '\0'; c++)
		if ((uint8_t)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

const char *smtp_reply_format(const struct smtp_reply *reply, char text[SMTP_REPLY_FORMAT_MAX])
{
	char code[8] = "", enhanced[16] = "";
	if (!reply->is_ours)
		snprintf(code, sizeof code, "%u ", reply->code);
	if (reply->enhanced[0] != 0)
		snprintf(enhanced, sizeof enhanced, "%u.%u.%u ", reply->enhanced[0],
			reply->enhanced[1], reply->detail);
	int n = snprintf(text, SMTP_REPLY_FORMAT_MAX, "%s%s%s", code, enhanced, reply->text);
	while (n > 0 && text[n - 1] == ' ')
		text[--n] = '\0';
	return text;
}
