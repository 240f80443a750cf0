// SPDX-License-Identifier: Apache-2.0
/* control/shm/tickets.h: the keys of session tickets as a sealed memory object, and how they rotate.
 *
 * Control makes the keys; each change is a new object, which goes to all relays of the node. A relay keeps the last
 * one and shows it to a control that was started anew, which goes on from there. So the keys are in memory alone:
 * on a disk they would open recorded TLS 1.2 sessions long after the tickets have ended, and in backups for ever.
 * Where all of a node is restarted at once, its clients do full handshakes once. */
#pragma once

#include "tls/ticket_keys.h"

#include <stdbool.h>

struct tickets_plan {
	unsigned rotation_seconds; /* how long a key encrypts */
	unsigned lifetime_seconds; /* of a ticket; 0: none are made. Not above the rotation, so that three keys do */
};

/* Drops keys that have ended, and makes what is missing up to the next one; `now` as tls_ticket_now(). true: the
 * table has changed. -errno is not possible: without randomness there is just no new key. */
bool tickets_turn(struct tls_ticket_keys *keys, const struct tickets_plan *plan, uint64_t now);
/* Takes over the keys of `other` that are not in `keys` yet; where there are too many those that last longest
 * stay. true: `keys` has changed. */
bool tickets_merge(struct tls_ticket_keys *keys, const struct tls_ticket_keys *other);

/* The table as a memory object that nobody can change any more; the descriptor, or -errno. */
int tickets_seal(const struct tls_ticket_keys *keys);
/* Copies the table out of such an object. 0, or -errno (-EPROTO: of another version; -EINVAL: not one, or not
 * sealed). The descriptor stays the caller's. */
int tickets_read(int fd, struct tls_ticket_keys *keys);
