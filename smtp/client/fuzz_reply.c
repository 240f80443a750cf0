// SPDX-License-Identifier: Apache-2.0
/* The reply parser, given the same bytes at once and one by one: never past its limits, and both agree. */
#include "smtp/client/reply_parse.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* Parses up to the end of one reply; the bytes used. */
static size_t parse(struct reply_parser *p, struct bytes in, size_t piece, enum reply_step *step)
{
	size_t all = 0;
	reply_parser_reset(p);
	*step = REPLY_MORE;
	while (all < in.n && *step != REPLY_BAD && *step != REPLY_DONE) {
		size_t used;
		struct bytes b = bytes_first(bytes_skip(in, all), piece);
		*step = reply_parse(p, b, &used);
		check(used <= b.n && (used != 0 || *step == REPLY_BAD));
		all += used;
	}
	return all;
}

static void check_reply(const struct reply_parser *p)
{
	char text[SMTP_REPLY_FORMAT_MAX];
	check(p->reply.code >= 200 && p->reply.code <= 599);
	check(p->reply.enhanced[0] == 0 || p->reply.enhanced[0] == p->reply.code / 100);
	check(p->reply.detail <= 999);
	check(p->bytes <= REPLY_PARSE_BYTES_MAX && p->lines <= REPLY_PARSE_LINES_MAX);
	size_t n = strnlen(p->reply.text, sizeof p->reply.text);
	check(n == p->text_length && n < sizeof p->reply.text);
	for (size_t i = 0; i < n; i++)
		check((uint8_t)p->reply.text[i] >= 0x20);
	check(strlen(smtp_reply_format(&p->reply, text)) < sizeof text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct reply_parser whole, single;
	struct bytes in = bytes_of(data, size);
	for (;;) {
		enum reply_step a, b;
		size_t used = parse(&whole, in, SIZE_MAX, &a);
		size_t used_single = parse(&single, in, 1, &b);
		check(a == b);
		if (a != REPLY_DONE)
			return 0;
		check(used == used_single && whole.reply.code == single.reply.code);
		check(strcmp(whole.reply.text, single.reply.text) == 0);
		check_reply(&whole);
		in = bytes_skip(in, used);
	}
}
