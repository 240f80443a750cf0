// SPDX-License-Identifier: Apache-2.0
/* tls/hello.h: has a client's ClientHello come whole? Looks at the headers of records and of the message alone
 * (RFC 8446 4, 5.1), where the bytes lie, so that nothing is spent on a client before it has sent one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TLS_HELLO_BYTES_MAX = 16 * 1024, /* with a hybrid key share one has 2 KiB */
	/* One record carries it; some clients cut it up. More would cost a look each. */
	TLS_HELLO_RECORDS_MAX = 16,
};

enum tls_hello_state {
	TLS_HELLO_MORE,	    /* go on when `wanted` bytes are there */
	TLS_HELLO_WHOLE,
	TLS_HELLO_NOT_TLS,  /* no version of TLS begins so */
	TLS_HELLO_TOO_LARGE, /* or in too many records */
};

/* What is known so far; all 0 at first. */
struct tls_hello {
	uint32_t wanted;       /* bytes from the first on; look only when so many are there */
	uint32_t record;       /* where the next record's header is */
	uint32_t message_left; /* of the ClientHello, behind what was looked at */
	uint8_t records;       /* looked at */
};

/* Copies `n` bytes from `offset` on; false: they are not there. */
typedef bool tls_hello_peek_fn(void *user, size_t offset, uint8_t *to, size_t n);

/* `there`: how many bytes have come. Each byte is looked at once however many calls that takes. */
enum tls_hello_state tls_hello_look(
	struct tls_hello *hello, size_t there, tls_hello_peek_fn *peek, void *user);
