// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/fuzz_address.c: any bytes as a path. What is taken must be a path again when written
 * out. */
#include "smtp/parse/address.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static bool is_within(struct bytes part, struct bytes whole)
{
	return part.n == 0 || (part.at >= whole.at && part.at + part.n <= whole.at + whole.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	struct address a, again;
	size_t used, used_again;
	address_is_domain(in);
	if (address_parse(in, ADDRESS_LOCAL_MAX, &a, &used) != ADDRESS_OK)
		return 0;
	must(used >= 2 && used <= size && data[0] == '<' && data[used - 1] == '>');
	must(is_within(a.mailbox, in) && is_within(a.local, a.mailbox) &&
		is_within(a.domain, a.mailbox));
	must(a.mailbox.n <= ADDRESS_PATH_MAX - 2 && a.local.n <= ADDRESS_LOCAL_MAX);
	must(a.domain.n == 0 || address_is_domain(a.domain));
	must(bytes_find(a.domain, '@') == a.domain.n);
	for (size_t i = 0; i < a.mailbox.n; i++)
		must(a.mailbox.at[i] >= ' ' && a.mailbox.at[i] != 127);
	char text[ADDRESS_PATH_MAX + 1];
	int n = snprintf(text, sizeof text, "<%.*s>", (int)a.mailbox.n, (const char *)a.mailbox.at);
	must(address_parse(bytes_of(text, (size_t)n), ADDRESS_LOCAL_MAX, &again, &used_again) ==
		ADDRESS_OK);
	must(bytes_equal(again.mailbox, a.mailbox) && bytes_equal(again.domain, a.domain));
	must(again.is_utf8 == a.is_utf8 && used_again == (size_t)n);
	return 0;
}
