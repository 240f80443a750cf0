// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/dsn.h: the text of a delivery status notification (RFC 3464; RFC 6533 where the sender's
 * address needs SMTPUTF8). Builds a mail; sends nothing. */
#pragma once

#include "smtp/queue/reason.h"

enum dsn_action { DSN_FAILED, DSN_DELAYED };

struct dsn_recipient {
	struct bytes address;
	uint64_t last_attempt_us; /* 0: none was made */
	const struct reason *reason; /* NULL: not known */
};

struct dsn {
	enum dsn_action action;
	const char *hostname;
	struct bytes sender; /* of the original: whom to tell */
	uint64_t original_id, session_id;
	uint64_t arrival_us, now_us, expires_us;
	const struct mail *original; /* for its header; NULL or not resident: that part is left out */
	const struct dsn_recipient *recipients;
	uint32_t recipient_count;
};

#define DSN_HEADER_MAX	16384 /* of the original: more is left out */
#define DSN_ADDRESS_MAX 512   /* a longer one is cut: RFC 5321 4.5.3.1.3 has 256 */

/* Whatever the original and the replies hold, the DSN's own lines are at most 998 bytes long (RFC 5322
 * 2.1.1), end in CRLF and hold no control bytes, and no line of theirs can end a part. NULL: `pool` has no
 * room for it now, and nothing has been taken. */
struct mail *dsn_build(struct mail_pool *pool, uint64_t id, const struct dsn *dsn);
