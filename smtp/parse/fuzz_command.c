// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/fuzz_command.c: any bytes as command lines, and lines as commands with parameters. The
 * line finder must find the same lines whole and byte by byte. */
#include "smtp/parse/command.h"
#include "smtp/parse/line.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void take_apart(struct bytes text)
{
	struct command_line c;
	struct command_parameter p;
	uint64_t number;
	if (!command_parse(text, &c))
		return;
	must(c.verb.n + c.args.n <= text.n);
	struct bytes rest = c.args;
	command_keyword(&rest, BYTES_LITERAL("FROM:"));
	size_t before = rest.n;
	while (command_parameter(&rest, &p) == 1) {
		must(p.keyword.n > 0 && rest.n < before);
		before = rest.n;
		if (command_number(p.value, &number))
			must(p.value.n >= 1 && p.value.n <= 20);
	}
}

/* The next line's kind, seen at `*at` of `in`, which grows by `step`. */
static enum line_result next_line(struct bytes in, size_t step, size_t *at, struct line *line)
{
	struct line_finder f = {0};
	for (size_t end = *at;;) {
		size_t used;
		end = end + step < in.n ? end + step : in.n;
		enum line_result r =
			line_find(&f, bytes_of(in.at + *at, end - *at), 64, line, &used);
		must(used <= end - *at);
		*at += used;
		if (r == LINE_WHOLE || r == LINE_DROPPED || (r == LINE_MORE && end == in.n))
			return r;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	size_t whole_at = 0, bytewise_at = 0;
	for (;;) {
		struct line whole = {0}, bytewise = {0};
		enum line_result r = next_line(in, size + 1, &whole_at, &whole);
		must(next_line(in, 1, &bytewise_at, &bytewise) == r);
		must(whole_at == bytewise_at);
		if (r == LINE_MORE)
			return 0;
		must(bytes_equal(whole.text, bytewise.text) && whole.is_bare == bytewise.is_bare);
		if (r == LINE_WHOLE)
			take_apart(whole.text);
	}
}
