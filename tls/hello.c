// SPDX-License-Identifier: Apache-2.0
#include "tls/hello.h"

/* ContentType and HandshakeType (RFC 8446 B.1, B.3), and the sizes of the headers. */
enum { HANDSHAKE = 22, CLIENT_HELLO = 1, RECORD_HEADER = 5, MESSAGE_HEADER = 4, RECORD_MAX = 16384 };

static uint32_t record_bytes(const uint8_t header[RECORD_HEADER])
{
	return (uint32_t)header[3] << 8 | header[4];
}

/* Is that the header of a record of the handshake, of any version since SSL 3.0? */
static bool is_handshake(const uint8_t header[RECORD_HEADER])
{
	return header[0] == HANDSHAKE && header[1] == 3 && record_bytes(header) != 0;
}

/* The first byte tells text, SSL 2 and noise from TLS; then the first record has the message's length. */
static enum tls_hello_state look_at_start(
	struct tls_hello *h, size_t there, tls_hello_peek_fn *peek, void *user)
{
	uint8_t start[RECORD_HEADER + MESSAGE_HEADER];
	h->wanted = 1;
	if (there < h->wanted || !peek(user, 0, start, 1))
		return TLS_HELLO_MORE;
	if (start[0] != HANDSHAKE)
		return TLS_HELLO_NOT_TLS;
	h->wanted = sizeof start;
	if (there < h->wanted || !peek(user, 0, start, sizeof start))
		return TLS_HELLO_MORE;
	if (!is_handshake(start))
		return TLS_HELLO_NOT_TLS;
	if (record_bytes(start) < MESSAGE_HEADER)
		return TLS_HELLO_TOO_LARGE; /* cut up so that its length cannot be seen */
	if (start[5] != CLIENT_HELLO)
		return TLS_HELLO_NOT_TLS;
	h->message_left = (uint32_t)start[6] << 16 | (uint32_t)start[7] << 8 | start[8];
	if (h->message_left > TLS_HELLO_BYTES_MAX)
		return TLS_HELLO_TOO_LARGE;
	h->message_left += MESSAGE_HEADER;
	return TLS_HELLO_WHOLE; /* of its start */
}

enum tls_hello_state tls_hello_look(
	struct tls_hello *h, size_t there, tls_hello_peek_fn *peek, void *user)
{
	uint8_t header[RECORD_HEADER];
	if (h->message_left == 0 && h->records == 0) {
		enum tls_hello_state state = look_at_start(h, there, peek, user);
		if (state != TLS_HELLO_WHOLE)
			return state;
		h->wanted = RECORD_HEADER;
	}
	/* In turn: a header is there, the record it tells of is there. */
	while (there >= h->wanted) {
		if (h->wanted == h->record) {
			if (h->message_left == 0)
				return TLS_HELLO_WHOLE;
			h->wanted += RECORD_HEADER;
			continue;
		}
		if (!peek(user, h->record, header, sizeof header))
			return TLS_HELLO_MORE;
		uint32_t n = record_bytes(header);
		if (!is_handshake(header))
			return TLS_HELLO_NOT_TLS;
		if (n > RECORD_MAX || ++h->records > TLS_HELLO_RECORDS_MAX)
			return TLS_HELLO_TOO_LARGE;
		h->message_left -= n < h->message_left ? n : h->message_left;
		h->record += RECORD_HEADER + n;
		h->wanted = h->record;
	}
	return TLS_HELLO_MORE;
}
