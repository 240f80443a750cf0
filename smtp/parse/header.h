// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/header.h: watches the header section go by: its size, and how often Received stands in
 * it (RFC 5321 6.3: how a loop is seen). Keeps nothing of it. Takes content that is known to be
 * lines ended by CRLF, in ranges of any size. */
#pragma once

#include "base/bytes.h"

struct header_watch {
	uint8_t at;	 /* enum, header.c */
	uint8_t matched; /* bytes of "Received" that the field name has had so far */
	uint32_t received;
	uint64_t bytes; /* of the header section so far */
};

void header_begin(struct header_watch *h);
/* The section ends with an empty line, or before the first line that can be no header line. */
void header_feed(struct header_watch *h, struct bytes content);
bool header_is_over(const struct header_watch *h);
