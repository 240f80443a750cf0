// SPDX-License-Identifier: Apache-2.0
/* bench/lean/share.h: key shares whose private half is worth nothing, so that the client's half of
 * a key exchange costs nothing while the server's is what it always is.
 *
 * X25519: the scalar is 1, not clamped: the share is the base point, the secret the server's share
 * itself. P-256: the same: the share is G, the secret the x coordinate of the server's point.
 * ML-KEM-768: the encapsulation key is t = 0 with a fixed seed for the matrix: the server samples
 * the matrix, multiplies and hashes as always, but its v = t·r + e2 + m carries the message nearly
 * in clear: each of its 256 coefficients says one bit. What is left is one SHA3-512 (FIPS 203,
 * algorithm 17). The key passes the checks that FIPS 203 7.2 asks of an encapsulating party. */
#pragma once

#include "base/bytes.h"

#define LEAN_SECRET_MAX 64

enum lean_group { LEAN_X25519 = 0x001d, LEAN_P256 = 0x0017, LEAN_X25519MLKEM768 = 0x11ec };

/* By its name (X25519, P-256 or secp256r1, X25519MLKEM768); 0: not one of these. */
uint16_t lean_group_find(struct bytes name);
const char *lean_group_name(uint16_t group);

/* One thread's: the digests that ML-KEM needs, its fixed key. */
struct lean_shares;
struct lean_shares *lean_shares_create(void); /* NULL: no memory */
void lean_shares_destroy(struct lean_shares *shares);
/* What the client sends; valid as long as `shares`. */
struct bytes lean_share(const struct lean_shares *shares, uint16_t group);
/* The secret from what the server sent; 0: that is no share of this group. */
size_t lean_secret(struct lean_shares *shares, uint16_t group, struct bytes server,
	uint8_t to[LEAN_SECRET_MAX]);
