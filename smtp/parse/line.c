// SPDX-License-Identifier: Apache-2.0
#include "smtp/parse/line.h"

static enum line_result drop(
	struct line_finder *f, struct bytes in, struct line *line, size_t *used)
{
	size_t at = bytes_find(in, '\n');
	*used = at < in.n ? at + 1 : in.n;
	if (at == in.n) {
		f->was_cr = in.n > 0 ? in.at[in.n - 1] == '\r' : f->was_cr;
		f->dropped += in.n;
		return LINE_MORE;
	}
	*line = (struct line){.is_bare = at > 0 ? in.at[at - 1] != '\r' : !f->was_cr};
	*f = (struct line_finder){0};
	return LINE_DROPPED;
}

enum line_result line_find(
	struct line_finder *f, struct bytes in, uint32_t max, struct line *line, size_t *used)
{
	*used = 0;
	if (f->dropped > 0)
		return drop(f, in, line, used);
	struct bytes within = bytes_first(in, max);
	size_t at = f->looked + bytes_find(bytes_skip(within, f->looked), '\n');
	if (at < within.n) {
		line->is_bare = at == 0 || in.at[at - 1] != '\r';
		line->text = bytes_first(in, line->is_bare ? at : at - 1);
		*used = at + 1;
		f->looked = 0;
		return LINE_WHOLE;
	}
	f->looked = (uint32_t)within.n;
	if (within.n < max)
		return LINE_MORE;
	*line = (struct line){.text = within};
	*used = within.n;
	*f = (struct line_finder){.dropped = within.n, .was_cr = in.at[within.n - 1] == '\r'};
	return LINE_OVERLONG;
}
