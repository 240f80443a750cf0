// SPDX-License-Identifier: Apache-2.0
/* smtp/envelope.h: the envelope of a mail as length-prefixed binary, at the head of its byte sequence, in
 * memory and in the spool. Nothing in it is ever text to be parsed: any byte legal in an address is inert.
 *
 * Layout: u32 total length, u8 version, then fields, each u8 kind, u16 length, value; little-endian. A
 * recipient's number is its place among the RECIPIENT fields. Unknown kinds are skipped when reading. */
#pragma once

#include "smtp/mail.h"
#include "base/addr.h"

#define ENVELOPE_VERSION 1

#define ENVELOPE_FIELDS(_)                                                                           \
	_(RECEIVED_AT)   /* u64, wall-clock microseconds */                                          \
	_(SESSION_ID)    /* u64 */                                                                   \
	_(CLIENT_ADDR)   /* struct addr, 16 bytes */                                                 \
	_(CLIENT_NAME)   /* confirmed reverse DNS, or empty */                                       \
	_(HELO)                                                                                      \
	_(PROTO)         /* SMTP ESMTP ESMTPS UTF8SMTP … (RFC 3848, RFC 6531) */                     \
	_(LISTENER)                                                                                  \
	_(PROFILE)       /* in-rule's profile id */                                                  \
	_(RULE)          /* in-rule id */                                                            \
	_(TLS_LEVEL)     /* u8 */                                                                    \
	_(TLS_VERSION)   /* text: TLSv1.3; empty: clear */                                           \
	_(TLS_CIPHER)    /* text */                                                                  \
	_(BODY_FLAGS)    /* u8, ENVELOPE_8BITMIME … */                                               \
	_(SENDER)        /* path without angle brackets; empty: the null sender */                   \
	_(RECIPIENT)     /* path without angle brackets; once for each */

enum envelope_field {
	ENVELOPE_END,
#define _(id) ENVELOPE_##id,
	ENVELOPE_FIELDS(_)
#undef _
};

enum { ENVELOPE_8BITMIME = 1, ENVELOPE_SMTPUTF8 = 2, ENVELOPE_IS_DSN = 4 };

/* Writing, straight into the mail: begin, fields in any order, end (which sets mail->envelope_size and
 * patches the length). false: the pool is empty, or a value is longer than 65,535. */
bool envelope_begin(struct mail *mail);
bool envelope_put(struct mail *mail, enum envelope_field field, struct bytes value);
bool envelope_put_u64(struct mail *mail, enum envelope_field field, uint64_t value);
void envelope_end(struct mail *mail);

/* Reading. The envelope is copied out of the chunks first, since a field may lie across two: */
/* `to` has room for mail->envelope_size bytes; false: not resident. */
bool envelope_copy(const struct mail *mail, uint8_t *to);

struct envelope_cursor {
	struct bytes rest;
};
/* Starts on the copied bytes; false: the header is not one of ours. */
bool envelope_open(struct bytes envelope, struct envelope_cursor *cursor);
/* The next field: 1 and `*field`, `*value` (which points into the envelope); 0 at the end; -1 if what is
 * there cannot be an envelope. */
int envelope_next(struct envelope_cursor *cursor, enum envelope_field *field, struct bytes *value);
/* The first field of that kind, or an empty range. */
struct bytes envelope_find(struct bytes envelope, enum envelope_field field);
uint64_t envelope_u64(struct bytes value); /* 0 if it has not 8 bytes */
