// SPDX-License-Identifier: Apache-2.0
/* relay/budget.h: how many TLS handshakes each client may still ask of a core: a token bucket a client, in a table of
 * fixed size. A client is an IPv4 address or an IPv6 /64 (addr_client()), as for limits.connections_per_client.
 *
 * A bucket is kept as one time (GCRA, the leaky bucket as a meter): when it will be full again. So nothing is refilled,
 * and a bucket that is full needs no place. Where the table has no place left, the bucket nearest to full is
 * forgotten, and counted if it was not full: so a flood from very many prefixes costs the table its memory of some of
 * them, and nothing else; what then holds is the limit on handshakes in flight. */
#pragma once

#include "base/addr.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
	struct budget_bucket {
		struct addr client;
		uint64_t full_us; /* in the past: full */
	} *buckets;
	uint64_t key[2];
	uint64_t token_us; /* a token comes back every so often; 0: there is no limit */
	uint64_t burst_us; /* a full bucket, in time */
	_Atomic uint64_t forgotten; /* buckets that were not full and had to make room */
};

/* `per_minute` 0: no limit, and no memory. false: no memory. */
bool budget_init(struct budget *b, unsigned per_minute, unsigned burst);
void budget_fini(struct budget *b);
/* Is there a token left? */
bool budget_has(const struct budget *b, const struct addr *client, uint64_t now_us);
/* Takes tokens, also such as are not there: then the client waits until they would be. */
void budget_take(struct budget *b, const struct addr *client, unsigned tokens, uint64_t now_us);
