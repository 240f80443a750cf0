// SPDX-License-Identifier: Apache-2.0
/* bench/channel.h: a session's TLS, by the lean client or by our plain one (tls/tls.h). */
#pragma once

#include "bench/lean/lean.h"
#include "bench/options.h"

/* What all sessions share. */
struct channels;
/* NULL with `error` filled. */
struct channels *channels_create(const struct options *o, char error[256]);
/* After channel_fini() of all. */
void channels_destroy(struct channels *shared);

/* All zero at first. One session after the other uses it. */
struct channel {
	struct lean_slot *slot; /* lean: made at the first open, kept */
	struct tls *tls;	/* plain: of this session */
	bool is_open;
};
bool channel_open(struct channel *c, struct channels *shared, struct tls_io io);
/* As tls_handshake() and so on; `room` of a read is LEAN_READ_BYTES or more. */
enum tls_result channel_handshake(struct channel *c);
enum tls_result channel_read(struct channel *c, uint8_t *to, size_t room, size_t *n);
enum tls_result channel_write(struct channel *c, struct bytes from, size_t *n);
/* Sends what waits. */
void channel_flush(struct channel *c);
const char *channel_failure(struct channel *c);
void channel_get_verdict(struct channel *c, struct tls_verdict *verdict);
bool channel_is_resumed(struct channel *c);
void channel_close(struct channel *c);
void channel_fini(struct channel *c);
