// SPDX-License-Identifier: Apache-2.0
/* bench/lean/lean.h: a TLS client for load only: it costs a tenth of what the server spends on it.
 *
 * What the server does is what any client makes it do. What this client does not do: keep a secret
 * (its key shares are degenerate, share.h), verify certificates or the server's signature, protect
 * anything from anyone. It checks the server's Finished, so that a server that did not do its part
 * is noticed. One group and one version are offered; HelloRetryRequest, KeyUpdate and renegotiation
 * end a session as failures. One thread; no allocation once the slots have been used. */
#pragma once

#include "tls/tls.h"

/* What the sessions of a thread have in common. */
struct lean;
struct lean_config {
	uint16_t protocol; /* TLS_1_2 or TLS_1_3 */
	const char
		*groups; /* names, ':' between them; the first one's share is offered; "": X25519 */
	const char *sni; /* "": none */
	bool is_resuming; /* each slot keeps its newest ticket and offers it */
	unsigned aes_bits; /* 128, 256: AES with such a key is all that is offered; 0: all suites */
};
/* NULL with `error` filled. */
struct lean *lean_create(const struct lean_config *config, char error[256]);
/* After all of its slots. */
void lean_destroy(struct lean *lean);

/* One session after the other uses the slot: its memory, its contexts, its ticket. */
struct lean_slot;
struct lean_slot *lean_slot_create(struct lean *lean); /* NULL: no memory */
void lean_slot_destroy(struct lean_slot *slot);
bool lean_has_ticket(const struct lean_slot *slot);
/* Once the handshake is done. */
bool lean_is_resumed(const struct lean_slot *slot);

void lean_open(struct lean_slot *slot, struct tls_io io);
/* As tls_handshake() and so on in tls/tls.h, but that `room` of a read must be LEAN_READ_BYTES or
 * more. */
#define LEAN_READ_BYTES (17 << 10) /* a record and its expansion */
enum tls_result lean_handshake(struct lean_slot *slot);
enum tls_result lean_read(struct lean_slot *slot, uint8_t *to, size_t room, size_t *n);
enum tls_result lean_write(struct lean_slot *slot, struct bytes from, size_t *n);
bool lean_has_output(const struct lean_slot *slot);
enum tls_result lean_flush(struct lean_slot *slot);
/* Sends nothing; the ticket is kept. */
void lean_close(struct lean_slot *slot);

/* Why TLS_FAIL; valid until lean_open(). */
const char *lean_failure(const struct lean_slot *slot);
/* Only what was agreed. */
void lean_get_verdict(const struct lean_slot *slot, struct tls_verdict *verdict);
