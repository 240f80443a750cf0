// SPDX-License-Identifier: Apache-2.0
/* smtp/client/capabilities.h: what a server's EHLO reply offers. */
#pragma once

#include "base/bytes.h"

#define SMTP_CAPABILITIES(_)                             \
	_(PIPELINING, "PIPELINING")		  /* RFC 2920 */ \
	_(SIZE, "SIZE")				  /* RFC 1870 */ \
	_(8BITMIME, "8BITMIME")			  /* RFC 6152 */ \
	_(SMTPUTF8, "SMTPUTF8")			  /* RFC 6531 */ \
	_(STARTTLS, "STARTTLS")			  /* RFC 3207 */ \
	_(ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES") /* RFC 2034 */ \
	_(CHUNKING, "CHUNKING")			  /* RFC 3030; recorded, not used: content goes by DATA */

enum {
#define _(id, keyword) CAPABILITY_NUMBER_##id,
	SMTP_CAPABILITIES(_)
#undef _
};
enum {
#define _(id, keyword) CAPABILITY_##id = 1 << CAPABILITY_NUMBER_##id,
	SMTP_CAPABILITIES(_)
#undef _
};

struct capabilities {
	uint16_t offered;  /* CAPABILITY_… */
	uint64_t size_max; /* of a mail's content; 0: no limit is known */
};

/* Adds what one line of the EHLO reply says, the first one (the server's name) left out. Unknown keywords
 * are skipped, and so are parameters that make no sense. */
void capabilities_add(struct capabilities *c, struct bytes line);
