// SPDX-License-Identifier: Apache-2.0
#include "smtp/parse/content.h"

#include "smtp/parse/scan.h"

enum {
	LINE_START,  /* of the content, or after CRLF */
	LOOSE_START, /* after a line ending that we made: a dot is still a dot, but not the end */
	MIDDLE,
};

#define CRLF BYTES_LITERAL("\r\n")

void content_begin(struct content *c, bool normalises)
{
	*c = (struct content){.at = LINE_START, .normalises = normalises};
}

/* A CR or LF that stands alone. */
static struct bytes bare_ending(struct content *c)
{
	if (!c->normalises) {
		if (c->flaw == CONTENT_CLEAN)
			c->flaw = CONTENT_BARE_CR_LF;
		c->at = MIDDLE;
		return BYTES_NONE;
	}
	c->has_normalised = true;
	c->at = LOOSE_START;
	return CRLF;
}

/* At the beginning of a line: takes a dot away, or finds the end. Returns the bytes used; 0 with a
 * dot in front: more must be seen. */
static size_t leading_dot(struct content *c, struct bytes in, bool *is_end)
{
	if (c->at == LINE_START) {
		struct bytes end = BYTES_LITERAL(".\r\n");
		if (bytes_equal(bytes_first(in, end.n), end)) {
			*is_end = true;
			return end.n;
		}
		if (bytes_equal(in, bytes_first(end, in.n)))
			return 0;
	}
	c->at = MIDDLE;
	return 1;
}

/* How much of `in` can be handed out as it stands: whole lines and the beginning of one, up to a
 * dot at the start of a line or a byte that needs a look. */
static size_t plain_run(struct content *c, struct bytes in, bool has_dots)
{
	size_t n = 0;
	while (n < in.n && !(has_dots && c->at != MIDDLE && in.at[n] == '.')) {
		size_t special = scan_special(in, n);
		if (special > n)
			c->at = MIDDLE;
		n = special;
		if (in.n - n < 2 || in.at[n] != '\r' || in.at[n + 1] != '\n')
			break;
		n += 2;
		c->at = LINE_START;
	}
	return n;
}

/* The byte that stopped a run: a CR at the end of the input, a bare CR or LF, or NUL. Takes it. */
static struct bytes odd_byte(struct content *c, struct bytes in)
{
	if (in.at[0] == '\r' && in.n == 1) {
		c->has_held_cr = true;
		return BYTES_NONE;
	}
	if (in.at[0] != '\0')
		return bare_ending(c);
	if (c->flaw == CONTENT_CLEAN)
		c->flaw = CONTENT_NUL;
	c->at = MIDDLE;
	return BYTES_NONE;
}

/* The CR that ended the input before, now that the next byte is here. */
static size_t held_cr(struct content *c, struct bytes in, struct bytes *body)
{
	c->has_held_cr = false;
	if (in.at[0] != '\n') {
		*body = bare_ending(c);
		return 0;
	}
	*body = CRLF;
	c->at = LINE_START;
	return 1;
}

/* One step; the bytes used. */
static size_t step(
	struct content *c, struct bytes in, bool has_dots, struct bytes *body, bool *is_end)
{
	if (c->has_held_cr)
		return held_cr(c, in, body);
	if (has_dots && c->at != MIDDLE && in.at[0] == '.')
		return leading_dot(c, in, is_end);
	size_t n = plain_run(c, in, has_dots);
	*body = bytes_first(in, n);
	if (n > 0)
		return n;
	*body = odd_byte(c, in);
	return 1;
}

static size_t feed(
	struct content *c, struct bytes in, bool has_dots, struct bytes *body, bool *is_end)
{
	size_t used = 0;
	*is_end = false;
	*body = BYTES_NONE;
	bool was_clean = c->flaw == CONTENT_CLEAN, is_new_flaw = false;
	while (used < in.n && body->n == 0 && !*is_end && !(is_new_flaw && used > 0)) {
		bool had_held_cr = c->has_held_cr;
		size_t n = step(c, bytes_skip(in, used), has_dots, body, is_end);
		if (n == 0 && !had_held_cr)
			break;
		used += n;
		if (c->flaw != CONTENT_CLEAN)
			*body = BYTES_NONE;
		is_new_flaw = was_clean && c->flaw != CONTENT_CLEAN; /* a held CR uses nothing */
	}
	return used;
}

size_t content_feed_data(struct content *c, struct bytes in, struct bytes *body, bool *is_end)
{
	return feed(c, in, true, body, is_end);
}

size_t content_feed_chunk(struct content *c, struct bytes in, struct bytes *body)
{
	bool is_end;
	return feed(c, in, false, body, &is_end);
}

struct bytes content_finish_chunks(struct content *c)
{
	struct bytes body = BYTES_NONE;
	if (c->has_held_cr)
		body = bare_ending(c);
	else if (c->at == MIDDLE)
		body = CRLF;
	c->has_held_cr = false;
	c->at = LINE_START;
	return c->flaw == CONTENT_CLEAN ? body : BYTES_NONE;
}
