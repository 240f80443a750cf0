// SPDX-License-Identifier: Apache-2.0
/* dataplane/path_mtu.h: how large a packet may be towards a destination, as far as a core has
 * learned (RFC 1191 6.2, RFC 8201 5.2).
 *
 * TCP says what it has learned, after it has made sure that the ICMP error is about what it sent
 * (RFC 5927), and asks before it opens a connection; so only whoever can see our segments can fill
 * the table. A bounded number of destinations; the oldest gives way. One core's: no other learns of
 * it. */
#pragma once

#include "dataplane/private.h"

#define PATHS_MAX 1024
#define PATH_AGE_US                                                                                \
	(600 * 1000 * 1000ull) /* RFC 1191 6.3, RFC 8201 5.3: ten minutes, then larger again */
#define IP4_PATH_MIN                                                                               \
	576 /* below that packets are not made smaller; routers may cut them (RFC 1191 3) */

/* NULL: no memory. `seed` keys the hash. */
struct path_mtus *path_mtus_create(uint64_t seed);
void path_mtus_destroy(struct path_mtus *t);
/* Larger IP packets than this do not reach `remote`. Only ever lowers what is known; says it anew.
 */
void path_mtu_learn(struct path_mtus *t, const struct addr *remote, uint32_t mtu, uint64_t now_us);
/* Bytes, 576 (IPv4) or 1280 at least; 0: nothing is known. */
uint16_t path_mtu_find(const struct path_mtus *t, const struct addr *remote);
/* Is the path to this IPv4 host so narrow that routers must be let fragment? */
bool path_mtu_is_narrow(const struct path_mtus *t, const struct addr *remote);
/* Forgets what is too old. Every 100 ms or so. */
void path_mtu_tick(struct path_mtus *t, uint64_t now_us);
