// SPDX-License-Identifier: Apache-2.0
/* control/quote.h: what somebody has written, as a message shows it. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define QUOTE_BYTES_MAX 80

/* `text` between single quotes, control bytes replaced, cut where it is long; returns `to`. */
static inline const char *quote_text(const char *text, char to[QUOTE_BYTES_MAX])
{
	size_t n = strlen(text), most = QUOTE_BYTES_MAX - sizeof "''…", at = 0;
	size_t cut = n <= most ? n : most;
	while (cut < n && cut > 0 && ((uint8_t)text[cut] & 0xc0) == 0x80)
		cut--; /* never inside a character of UTF-8 */
	to[at++] = '\'';
	for (size_t i = 0; i < cut; i++)
		to[at++] = (uint8_t)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
	snprintf(to + at, QUOTE_BYTES_MAX - at, cut < n ? "…'" : "'");
	return to;
}
