// SPDX-License-Identifier: Apache-2.0
#include "smtp/mail.h"

#include <assert.h>

/* An id, from the top: 52 bits of wall-clock microseconds, 6 of core, 6 of sequence. */
#define CORE_BITS     6
#define SEQUENCE_BITS 6
#define TIME_SHIFT    (CORE_BITS + SEQUENCE_BITS)
#define LOW(bits)     ((1u << (bits)) - 1)

uint64_t mail_id_next(uint64_t *last, uint64_t wall_us, unsigned core)
{
	assert(core <= LOW(CORE_BITS));
	uint64_t last_us = *last >> TIME_SHIFT, sequence = 0;
	if (wall_us <= last_us && *last != 0) {
		/* Within the same microsecond, or the clock went back: go on behind the last one. A
		 * last id of another core (recovery's highest) says nothing about our own sequence.
		 */
		bool is_ours = (*last >> SEQUENCE_BITS & LOW(CORE_BITS)) == core;
		sequence = is_ours ? (*last & LOW(SEQUENCE_BITS)) + 1 : LOW(SEQUENCE_BITS) + 1;
		wall_us = last_us;
		if (sequence > LOW(SEQUENCE_BITS)) {
			wall_us++;
			sequence = 0;
		}
	}
	return *last = wall_us << TIME_SHIFT | (uint64_t)core << SEQUENCE_BITS | sequence;
}

/* Crockford's base 32: no I, L, O, U; when read, I and L mean 1, O means 0. */
static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const char *mail_id_format(uint64_t id, char text[MAIL_ID_TEXT_MAX])
{
	for (int i = MAIL_ID_TEXT_MAX - 2; i >= 0; i--, id >>= 5)
		text[i] = digits[id & 31];
	text[MAIL_ID_TEXT_MAX - 1] = '\0';
	return text;
}

static int digit_value(uint8_t c)
{
	c = byte_lower(c);
	if (c == 'i' || c == 'l')
		return 1;
	if (c == 'o')
		return 0;
	for (int v = 0; v < 32; v++)
		if (byte_lower((uint8_t)digits[v]) == c)
			return v;
	return -1;
}

bool mail_id_parse(struct bytes text, uint64_t *id)
{
	uint64_t value = 0;
	if (text.n != MAIL_ID_TEXT_MAX - 1)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		int v = digit_value(text.at[i]);
		if (v < 0 || (i == 0 && v > 15)) /* 13 digits hold 65 bits */
			return false;
		value = value << 5 | (uint64_t)v;
	}
	*id = value;
	return true;
}
