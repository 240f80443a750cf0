// SPDX-License-Identifier: Apache-2.0
#include "smtp/client/capabilities.h"

static const struct {
	struct bytes keyword;
	uint16_t bit;
} keywords[] = {
#define _(id, keyword) {{(const uint8_t *)keyword, sizeof keyword - 1}, CAPABILITY_##id},
	SMTP_CAPABILITIES(_)
#undef _
};

/* RFC 1870 3: up to 20 digits. What does not fit 64 bits is no limit to us. */
static uint64_t parse_size(struct bytes digits)
{
	uint64_t size = 0;
	for (size_t i = 0; i < digits.n; i++) {
		unsigned digit = digits.at[i] - '0';
		if (digit > 9 || __builtin_mul_overflow(size, 10u, &size) ||
			__builtin_add_overflow(size, digit, &size))
			return 0;
	}
	return size;
}

void capabilities_add(struct capabilities *c, struct bytes line)
{
	struct bytes keyword = bytes_first(line, bytes_find(line, ' '));
	for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
		if (!bytes_equal_nocase(keyword, keywords[i].keyword))
			continue;
		c->offered |= keywords[i].bit;
		if (keywords[i].bit == CAPABILITY_SIZE) {
			struct bytes size = bytes_skip(line, keyword.n + 1);
			c->size_max = parse_size(bytes_first(size, bytes_find(size, ' ')));
		}
	}
}
