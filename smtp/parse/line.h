// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/line.h: finds the end of a line in input that grows, with a limit, looking at no byte
 * twice.
 *
 * A line ends with LF; whether CR came before it is told, and what a missing one means is the
 * caller's matter (RFC 5321 2.3.8: only CRLF ends a line). A line longer than the limit is dropped
 * as it comes, so that the caller needs room for the limit only. */
#pragma once

#include "base/bytes.h"

struct line_finder {
	uint32_t looked;  /* bytes of the unfinished line already looked at */
	uint64_t dropped; /* bytes of an over-long line dropped so far; 0: none is being dropped */
	bool was_cr;	  /* the last byte dropped was a CR */
};

enum line_result {
	LINE_MORE,     /* no end yet */
	LINE_WHOLE,    /* `line` is it, without its CRLF or LF */
	LINE_OVERLONG, /* the limit is reached: from now on bytes are dropped; `line` is its
			  beginning */
	LINE_DROPPED,  /* the end of an over-long line */
};

struct line {
	struct bytes text;
	bool is_bare; /* ended by LF alone */
};

/* Looks for the end of the line that begins at `in`, of `max` bytes with its end at most; `*used`
 * is how much of `in` to drop: the line with its end, or 0 after LINE_MORE unless an over-long line
 * is being dropped. Call again with the same bytes and more behind them. */
enum line_result line_find(
	struct line_finder *f, struct bytes in, uint32_t max, struct line *line, size_t *used);
