// SPDX-License-Identifier: Apache-2.0
/* smtp/client/stuffing.h: a mail's content in the form DATA wants it: dots stuffed, the last line ended
 * (RFC 5321 4.5.2), straight from the mail's chunks into a stream as that has room. */
#pragma once

#include "base/stream.h"
#include "smtp/mail.h"

struct stuffing {
	const struct mail *mail;
	const struct mail_chunk *cursor;
	uint64_t offset; /* of the next byte to take, in the mail's byte sequence */
	bool is_at_line_start;
	bool has_cr; /* a CR is taken and waits for its LF: they go out together */
};

enum stuffing_result {
	STUFFING_ROOM,  /* `out` has no more room: go on when it has */
	STUFFING_ENDED, /* all is written, and the line with the lone dot */
	STUFFING_BARE,  /* the next byte is a bare CR or LF, or would make one: not written */
	STUFFING_GONE,  /* the mail is not resident */
};

void stuffing_open(struct stuffing *c, const struct mail *mail);
/* Writes as much as there is room for. Never writes a CR without its LF, nor an LF without its CR: whatever
 * the spool holds, nothing that another server may take for an end of message comes out of here. */
enum stuffing_result stuffing_write(struct stuffing *c, struct stream *out);
