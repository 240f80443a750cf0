// SPDX-License-Identifier: Apache-2.0
/* bench/exchange.h: what two ends of a measured TCP connection say to each other, whoever's TCP it is.
 *
 * A request is a head of 16 bytes (magic, flags, bytes up, bytes down; big endian) and the bytes up;
 * the answer is the bytes down. Both are a pattern that each end compares, so that a stream that was
 * not carried byte for byte is noticed. One connection carries one request after the other. No I/O of
 * its own, no memory but the structs. */
#pragma once

#include "base/bytes.h"

#define EXCHANGE_HEAD  16
#define EXCHANGE_CHUNK 65536 /* bytes read or written at a time */

/* Once, before anything else here. */
void exchange_init(void);

/* How bytes move on a connection; both return how many, 0: none now. */
struct exchange_io {
	size_t (*read)(void *link, uint8_t *to, size_t room);
	size_t (*write)(void *link, struct bytes b);
};

struct exchange_plan {
	uint32_t up, down;
	bool is_last; /* the server closes behind its answer */
};

/* Zero it for each request. */
struct exchange_client {
	uint64_t sent, received; /* of the request with its head; of the answer */
	bool is_wrong;		 /* bytes came that were not asked for */
};
/* Sends and takes what it can; true: the answer is whole. */
bool exchange_ask(struct exchange_client *c, const struct exchange_plan *plan,
	const struct exchange_io *io, void *link);

/* Zero it for each connection. */
struct exchange_server {
	uint8_t head[EXCHANGE_HEAD];
	uint64_t received, sent; /* of this request with its head, of its answer */
	struct exchange_plan plan;
	uint64_t requests; /* answered */
	bool is_wrong;
};
/* Takes and answers what it can; true: the connection is to be closed (the last answer has been
 * written, or the bytes were wrong). */
bool exchange_serve(struct exchange_server *s, const struct exchange_io *io, void *link);
/* Between two requests: the client's FIN is in place. */
static inline bool exchange_is_between(const struct exchange_server *s)
{
	return s->received == 0;
}
