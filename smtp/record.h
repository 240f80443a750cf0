// SPDX-License-Identifier: Apache-2.0
/* smtp/record.h: one event of a mail's way, for the record file: accepted, rejected, delivered, deferred,
 * bounced … Plain data of fixed size, so that it crosses a ring without allocation; relay/record.c writes
 * it as a JSON line (relay/record.c). */
#pragma once

#include "base/addr.h"

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

/* Text fields are NUL-terminated and cut where they do not fit; peers' bytes stay as they came and are
 * escaped by whoever prints them. Empty or 0: not known, left out of the line. */
struct record {
	uint64_t time_us; /* wall clock */
	uint64_t session_id; /* of the inbound session; joins all events of its mails */
	uint64_t queue_id;   /* 0: no mail yet */
	bool is_outbound;
	uint8_t disposition; /* enum record_disposition */
	char listener[32];
	struct addr client_addr; /* in: the client. Unspecified: not known */
	char client_name[256];
	char helo[128];
	char proto[16];
	char from[320];
	char to[320];
	char relay[128]; /* out: the host delivered to */
	struct addr dest_addr;
	uint16_t dest_port;
	char stage[16]; /* connect helo mail rcpt data content tls route delivery */
	char rule_id[64], profile[64];
	uint64_t generation; /* of the policy the decision was made under */
	char tls_level[12];
	char tls_version[12], cipher[48], group[32];
	uint16_t bits, bits_total;
	bool is_resumed, is_small_hello;
	char verify[12], verify_message[96], cert_subject[128], cert_issuer[128];
	uint64_t first_tried_us, last_tried_us;
	uint32_t tries;
	uint64_t delay_us; /* since the mail was accepted */
	uint64_t size;
	char reply[512]; /* what was said: ours in, theirs out */
	char reason[512]; /* why, in our words, where that differs from the reply */
};

static inline const char *record_disposition_name(enum record_disposition d)
{
	static const char *const names[] = {
#define _(id, text) text,
		RECORD_DISPOSITIONS(_)
#undef _
	};
	return names[d];
}
