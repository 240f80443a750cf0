// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/content.h: message content as it arrives, in DATA (RFC 5321 4.1.1.4, 4.5.2) or in the
 * chunks of BDAT (RFC 3030): finds its end, takes the dots away, and lets no line ending through
 * but CRLF.
 *
 * Only CRLF "." CRLF ends DATA, octet for octet (RFC 5321 4.1.1.4, 2.3.8; CVE-2023-51764 and its
 * kin are what comes of believing anything else). A bare CR or LF is a flaw: the content is then
 * read on to its true end and nothing more of it handed out; or, where asked for, it is made CRLF
 * before anybody sees it. A line it makes is a line for the dots too, but never the end. NUL is a
 * flaw in any case (RFC 5322 2.1 knows no NUL, RFC 2045 2.8 forbids it in 8bit): programs further
 * on that keep text in C strings would read another mail than we did. */
#pragma once

#include "base/bytes.h"

enum content_flaw { CONTENT_CLEAN, CONTENT_BARE_CR_LF, CONTENT_NUL };

struct content {
	uint8_t at;	  /* enum, content.c: where in a line the next byte stands */
	uint8_t flaw;	  /* enum content_flaw: the first one found */
	bool has_held_cr; /* a CR was the last byte: not handed out before its LF */
	bool normalises;
	bool has_normalised;
};

/* Begins a message. */
void content_begin(struct content *c, bool normalises);
/* DATA: returns the bytes of `in` used, with `*body` the next range to hand out (into `in`, or a
 * literal; may be empty) or `*is_end` set at the end; never both, and a flaw is never first told
 * with the end. Call again while it uses or hands out anything; at most two bytes are left in `in`
 * then, which may be the beginning of the end. */
size_t content_feed_data(struct content *c, struct bytes in, struct bytes *body, bool *is_end);
/* BDAT: the same, where `in` holds bytes of a chunk only; all are used in the end. */
size_t content_feed_chunk(struct content *c, struct bytes in, struct bytes *body);
/* BDAT, after the last chunk: what is still to be handed out, so that the content ends with CRLF as
 * that of DATA does. May find the last flaw. */
struct bytes content_finish_chunks(struct content *c);
