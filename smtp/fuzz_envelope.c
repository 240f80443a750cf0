// SPDX-License-Identifier: Apache-2.0
/* smtp/fuzz_envelope.c: any bytes as an envelope. What is read stays within them, and ends. */
#include "smtp/envelope.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct envelope_cursor cursor;
	enum envelope_field field;
	struct bytes envelope = bytes_of(data, size), value;
	envelope_u64(envelope_find(envelope, ENVELOPE_RECEIVED_AT));
	if (!envelope_open(envelope, &cursor))
		return 0;
	size_t left = cursor.rest.n;
	while (envelope_next(&cursor, &field, &value) == 1) {
		must(cursor.rest.n + 3 + value.n <= left);
		must(value.n == 0 || (value.at > data && value.at + value.n <= data + size));
		left = cursor.rest.n;
	}
	return 0;
}
