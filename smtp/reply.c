// SPDX-License-Identifier: Apache-2.0
#include "smtp/reply.h"

const char *reply_text(enum reply id)
{
	static const char *const texts[REPLY_COUNT] = {
#define _(id, text) [REPLY_##id] = text,
		REPLIES(_)
#undef _
	};
	return id > REPLY_NONE && id < REPLY_COUNT ? texts[id] : "";
}

static uint8_t printable(uint8_t c)
{
	return c >= ' ' && c <= '~' ? c : '?';
}

size_t reply_format(char to[REPLY_BYTES_MAX + 1], enum reply id, struct bytes a, struct bytes b)
{
	size_t n = 0, most = REPLY_BYTES_MAX - 2; /* CRLF always fits */
	struct bytes argument = a;
	for (const char *p = reply_text(id); *p != '\0' && n < most; p++) {
		if (*p != '$') {
			to[n++] = *p;
			continue;
		}
		for (size_t i = 0; i < argument.n && n < most; i++)
			to[n++] = (char)printable(argument.at[i]);
		argument = b;
	}
	to[n++] = '\r';
	to[n++] = '\n';
	to[n] = '\0';
	return n;
}
