// SPDX-License-Identifier: Apache-2.0
#include "smtp/parse/header.h"

enum {
	LINE_START,
	NAME,	    /* in a field name */
	NAME_BLANK, /* blanks between name and colon (RFC 5322 4.5.8) */
	REST,	    /* the rest of a line */
	EMPTY_CR,   /* the CR of an empty line */
	OVER,
};

static const char received[] = "received";

void header_begin(struct header_watch *h)
{
	*h = (struct header_watch){.at = LINE_START};
}

bool header_is_over(const struct header_watch *h)
{
	return h->at == OVER;
}

static bool is_name_byte(uint8_t c)
{
	return c > ' ' && c < 127 && c != ':'; /* ftext, RFC 5322 2.2 */
}

static void match_name(struct header_watch *h, uint8_t c)
{
	bool is_next = h->matched < sizeof received - 1 && byte_lower(c) == received[h->matched];
	/* Past the end it never matches again. */
	h->matched = (uint8_t)(is_next ? h->matched + 1u : sizeof received);
}

static void line_start(struct header_watch *h, uint8_t c)
{
	h->matched = 0;
	if (c == '\r')
		h->at = EMPTY_CR;
	else if (c == ' ' || c == '\t')
		h->at = REST; /* a folded line */
	else if (is_name_byte(c))
		h->at = NAME;
	else
		h->at = OVER;
	if (h->at == NAME)
		match_name(h, c);
}

static void name(struct header_watch *h, uint8_t c)
{
	if (h->at == NAME && is_name_byte(c)) {
		match_name(h, c);
	} else if (c == ' ' || c == '\t') {
		h->at = NAME_BLANK;
	} else if (c == ':') {
		h->received += h->matched == sizeof received - 1;
		h->at = REST;
	} else {
		h->at = OVER;
	}
}

void header_feed(struct header_watch *h, struct bytes content)
{
	for (size_t i = 0; i < content.n && h->at != OVER; i++) {
		if (h->at == REST) {
			size_t skipped = bytes_find(bytes_skip(content, i), '\n');
			h->bytes += skipped;
			i += skipped;
			if (i == content.n)
				return;
			h->at = LINE_START;
		} else if (h->at == LINE_START) {
			line_start(h, content.at[i]);
		} else if (h->at == EMPTY_CR) {
			h->at = OVER;
		} else {
			name(h, content.at[i]);
		}
		h->bytes++;
	}
}
