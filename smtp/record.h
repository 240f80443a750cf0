// SPDX-License-Identifier: Apache-2.0
/* smtp/record.h: one event of a mail's way, for the record file: accepted, rejected, delivered, deferred,
 * bounced … Plain data of fixed size, so that it crosses a ring without allocation; relay/record.c writes
 * it as a JSON line (relay/record.c). */
#pragma once

#include "base/addr.h"
#include "base/bytes.h"

#define RECORD_DISPOSITIONS(_)                                                                       \
	_(ACCEPTED, "accepted")   /* our 250: the mail is durable here */                            \
	_(REJECTED, "rejected")   /* a command, mail or connection refused by us */                  \
	_(DELIVERED, "delivered") /* the next hop's 250 */                                           \
	_(DEFERRED, "deferred")   /* will be tried again */                                          \
	_(BOUNCED, "bounced")     /* given up; a DSN was made unless the sender is null */           \
	_(REMOVED, "removed")     /* by an operator */

enum record_disposition {
#define _(id, text) RECORD_##id,
	RECORD_DISPOSITIONS(_)
#undef _
};

/* NUL-terminated and cut where they do not fit; peers' bytes stay as they came and are escaped by whoever prints
 * them. */
#define RECORD_TEXTS(_)                                                                              \
	_(listener, 32)                                                                              \
	_(client_name, 256)                                                                          \
	_(helo, 128)                                                                                 \
	_(proto, 16)                                                                                 \
	_(from, 320)                                                                                 \
	_(to, 320)                                                                                   \
	_(relay, 128)  /* out: the host delivered to */                                              \
	_(stage, 16)   /* connect helo mail rcpt data content tls route delivery */                  \
	_(rule_id, 64)                                                                               \
	_(profile, 64)                                                                               \
	_(tls_level, 12)                                                                             \
	_(tls_version, 12)                                                                           \
	_(cipher, 48)                                                                                \
	_(group, 32)                                                                                 \
	_(verify, 12)                                                                                \
	_(verify_message, 96)                                                                        \
	_(cert_subject, 128)                                                                         \
	_(cert_issuer, 128)                                                                          \
	_(reply, 512)  /* what was said: ours in, theirs out */                                      \
	_(reason, 512) /* why, in our words, where that differs from the reply */

/* Empty or 0: not known, left out of the line. */
struct record {
	uint64_t time_us; /* wall clock */
	uint64_t session_id; /* of the inbound session; joins all events of its mails */
	uint64_t queue_id;   /* 0: no mail yet */
	bool is_outbound, is_resumed, is_small_hello;
	uint8_t disposition; /* enum record_disposition */
	uint16_t bits, bits_total;
	struct addr client_addr; /* in: the client. Unspecified: not known */
	struct addr dest_addr;
	uint16_t dest_port;
	uint32_t tries;
	uint64_t generation; /* of the policy the decision was made under */
	uint64_t first_tried_us, last_tried_us;
	uint64_t delay_us; /* since the mail was accepted */
	uint64_t size;
#define _(name, bytes) char name[bytes];
	RECORD_TEXTS(_)
#undef _
};

/* All empty or 0. Texts by their first byte alone: whole they are three and a half kilobytes, in slots that another
 * core has had last. */
static inline void record_clear(struct record *r)
{
	memset(r, 0, offsetof(struct record, listener));
#define _(name, bytes) r->name[0] = '\0';
	RECORD_TEXTS(_)
#undef _
}

static inline const char *record_disposition_name(enum record_disposition d)
{
	static const char *const names[] = {
#define _(id, text) text,
		RECORD_DISPOSITIONS(_)
#undef _
	};
	return names[d];
}
