// SPDX-License-Identifier: Apache-2.0
#include "smtp/client/stuffing.h"

void stuffing_open(struct stuffing *c, const struct mail *mail)
{
	*c = (struct stuffing){.mail = mail, .offset = mail->envelope_size, .is_at_line_start = true};
}

struct room {
	uint8_t *to;
	size_t n, used;
};

static bool put_pair(struct room *room, const char pair[2])
{
	if (room->n - room->used < 2)
		return false;
	memcpy(room->to + room->used, pair, 2);
	room->used += 2;
	return true;
}

/* Bytes without CR or LF, as far as there is room. */
static size_t put_span(struct room *room, struct bytes from)
{
	struct bytes span = bytes_first(from, room->n - room->used);
	span = bytes_first(span, bytes_find(span, '\r'));
	span = bytes_first(span, bytes_find(span, '\n'));
	if (span.n != 0)
		memcpy(room->to + room->used, span.at, span.n);
	room->used += span.n;
	return span.n;
}

/* One step: a whole line end, a stuffed dot, a CR noted, or a span of text. The bytes of `from` taken; 0: no
 * room, or a bare CR or LF (`*is_bare`). */
static size_t stuff(struct stuffing *c, struct bytes from, struct room *room, bool *is_bare)
{
	if (c->has_cr || from.at[0] == '\n') {
		*is_bare = !c->has_cr || from.at[0] != '\n';
		if (*is_bare || !put_pair(room, "\r\n"))
			return 0;
		c->has_cr = false;
		c->is_at_line_start = true;
		return 1;
	}
	if (from.at[0] == '\r') {
		c->has_cr = true;
		return 1;
	}
	size_t taken = c->is_at_line_start && from.at[0] == '.' ? put_pair(room, "..")
								: put_span(room, from);
	if (taken != 0)
		c->is_at_line_start = false;
	return taken;
}

/* RFC 5321 4.1.1.4: the CRLF of the last line is part of the end; it is added where it is missing. */
static enum stuffing_result write_end(struct stuffing *c, struct stream *out)
{
	if (c->has_cr)
		return STUFFING_BARE;
	struct bytes end = c->is_at_line_start ? BYTES_LITERAL(".\r\n") : BYTES_LITERAL("\r\n.\r\n");
	return stream_write(out, end) ? STUFFING_ENDED : STUFFING_ROOM;
}

/* A writable range; NULL: wait. Waits until a quarter of the block is free, so that a stream that drains
 * slowly is not moved to its front for a few bytes each time. */
static uint8_t *reserve(struct stream *out, size_t *room)
{
	size_t space = stream_space(out);
	if (space < stream_pool_block_bytes(out->pool) / 4 && stream_length(out) != 0)
		return NULL;
	return space < 2 ? NULL : stream_reserve(out, space, room);
}

enum stuffing_result stuffing_write(struct stuffing *c, struct stream *out)
{
	while (c->offset < c->mail->size) {
		struct bytes from = mail_read(c->mail, c->offset, &c->cursor);
		if (from.n == 0)
			return STUFFING_GONE;
		struct room room = {};
		room.to = reserve(out, &room.n);
		if (room.to == NULL)
			return STUFFING_ROOM;
		bool is_bare = false;
		size_t taken = 0, step;
		while (taken < from.n && (step = stuff(c, bytes_skip(from, taken), &room, &is_bare)) != 0)
			taken += step;
		stream_commit(out, room.used);
		c->offset += taken;
		if (is_bare)
			return STUFFING_BARE;
		if (taken == 0)
			return STUFFING_ROOM;
	}
	return write_end(c, out);
}
