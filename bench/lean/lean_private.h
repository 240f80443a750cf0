// SPDX-License-Identifier: Apache-2.0
/* bench/lean/lean_private.h: what the files of the lean client share: the slot, its records, its
 * messages. */
#pragma once

#include "bench/lean/hash.h"
#include "bench/lean/lean.h"
#include "bench/lean/share.h"

#include <openssl/evp.h>

enum {
	LEAN_HEADER_BYTES = 5,
	LEAN_TAG_BYTES = 16,
	LEAN_NONCE_BYTES = 12,
	LEAN_KEY_MAX = 32,
	LEAN_PLAIN_MAX = 1 << 14,		    /* of a record (RFC 8446 5.1) */
	LEAN_CIPHERTEXT_MAX = LEAN_PLAIN_MAX + 256, /* (RFC 8446 5.2) */
	LEAN_RECORD_MAX = LEAN_HEADER_BYTES + LEAN_CIPHERTEXT_MAX,
	LEAN_TICKET_MAX = 1024, /* OpenSSL's are some 250; longer ones are not kept */
	LEAN_KEPT_MAX = 2048, /* of the messages that are looked into; with a hybrid share 1.2 KB */
	LEAN_MESSAGE_MAX = 128 << 10,		   /* of those that are only hashed: certificates */
	LEAN_HELLO_MAX = LEAN_HEADER_BYTES + 3072, /* a hybrid share, a name, a ticket */
};

/* Content and message types (RFC 8446 5.1, 4; RFC 5246 7.4). */
enum { LEAN_CHANGE_CIPHER_SPEC = 20, LEAN_ALERT = 21, LEAN_HANDSHAKE = 22, LEAN_DATA = 23 };
enum {
	LEAN_CLIENT_HELLO = 1,
	LEAN_SERVER_HELLO = 2,
	LEAN_NEW_SESSION_TICKET = 4,
	LEAN_ENCRYPTED_EXTENSIONS = 8,
	LEAN_CERTIFICATE = 11,
	LEAN_SERVER_KEY_EXCHANGE = 12,
	LEAN_CERTIFICATE_REQUEST = 13,
	LEAN_SERVER_HELLO_DONE = 14,
	LEAN_CERTIFICATE_VERIFY = 15,
	LEAN_CLIENT_KEY_EXCHANGE = 16,
	LEAN_FINISHED = 20,
};

/* What the server is to send next. */
enum lean_state {
	LEAN_AT_START, /* nothing: the ClientHello has not been sent */
	LEAN_AT_HELLO,
	LEAN_AT_EXTENSIONS,
	LEAN_AT_CERTIFICATE, /* or CertificateRequest */
	LEAN_AT_VERIFY,
	LEAN_AT_FINISHED,
	LEAN_AT_CERTIFICATE_12,
	LEAN_AT_EXCHANGE_12,
	LEAN_AT_DONE_12,   /* or CertificateRequest */
	LEAN_AT_CHANGE_12, /* or NewSessionTicket */
	LEAN_AT_FINISHED_12,
	LEAN_AT_OPEN, /* the handshake is done */
	LEAN_AT_FAILED,
};

enum { LEAN_CIPHERS = 3 };
struct lean_suite {
	uint16_t id, protocol;
	bool is_sha384;
	uint8_t cipher, key_bytes; /* a place in lean->ciphers */
	const char *name;
};

/* One for as long as it is needed: an incomplete record, output that waits. */
struct lean_buffer {
	struct lean_buffer *next;
	uint8_t at[LEAN_RECORD_MAX];
};

struct lean {
	uint16_t protocol, group;
	bool is_resuming;
	struct lean_shares *shares;
	EVP_CIPHER *ciphers[LEAN_CIPHERS];
	struct lean_buffer *spare;
	uint8_t input[LEAN_RECORD_MAX], output[LEAN_RECORD_MAX];
	uint64_t random[2];
	/* By hash: of no bytes; keyed by the "derived" secret of a handshake without PSK. */
	uint8_t empty_hash[2][LEAN_HASH_MAX];
	struct lean_mac derived[2];
	/* A ClientHello of no session, its record header in front; random, session id and ticket
	 * are added. */
	uint8_t hello[LEAN_HELLO_MAX];
	uint16_t hello_n, extensions_at;
};

struct lean_keys {
	EVP_CIPHER_CTX *ctx;
	uint64_t sequence;
	uint8_t iv[LEAN_NONCE_BYTES];
	uint8_t cipher; /* 1 + its place; 0: none is in ctx */
	bool is_on;
};

struct lean_ticket {
	uint8_t at[LEAN_TICKET_MAX];
	uint16_t n; /* 0: none */
	uint16_t suite;
	uint32_t age_add;
	uint64_t received_us;
	uint8_t secret[LEAN_HASH_MAX]; /* the PSK; TLS 1.2: the master secret */
};

struct lean_slot {
	struct lean *lean;
	struct tls_io io;
	const struct lean_suite *suite;
	struct lean_keys in, out;
	struct lean_buffer *held, *pending;
	uint32_t head, tail; /* of the input that has been read and not used */
	uint32_t pending_head, pending_tail;
	uint8_t *input; /* held or lean's, during a call */
	uint8_t state;	/* enum lean_state */
	bool is_resumed, has_offered, has_request, has_extended, has_eof;
	bool is_key_changed; /* by the message just handled: its record must end with it (RFC
				8446 5.1) */
	/* A message: its header, then all of it if it is kept. */
	bool is_kept;
	uint32_t message_n, message_size;
	uint8_t message[LEAN_KEPT_MAX];
	struct lean_hash transcript;
	uint8_t hello[LEAN_HELLO_MAX];
	uint16_t hello_n, extensions_at;
	uint8_t server_random[32];
	uint8_t derived[LEAN_HASH_MAX]; /* "derived" of the PSK that was offered */
	uint8_t client_finished[LEAN_HASH_MAX],
		server_finished[LEAN_HASH_MAX]; /* keys (RFC 8446 4.4.4) */
	uint8_t master[LEAN_HASH_MAX];
	uint8_t resumption[LEAN_HASH_MAX];
	uint16_t group;	  /* that was agreed */
	uint16_t share_n; /* TLS 1.2: the secret, until it is used */
	uint8_t share[LEAN_SECRET_MAX];
	struct lean_ticket ticket;
	char failure[96];
};

/* ---- reading numbers and vectors; what is missing is 0 and noted ---- */
struct lean_reader {
	struct bytes left;
	bool is_short;
};

static inline struct bytes lean_take(struct lean_reader *r, size_t n)
{
	if (n > r->left.n) {
		r->is_short = true;
		r->left = BYTES_NONE;
		return BYTES_NONE;
	}
	struct bytes b = bytes_first(r->left, n);
	r->left = bytes_skip(r->left, n);
	return b;
}

static inline uint32_t lean_number(struct lean_reader *r, unsigned n)
{
	struct bytes b = lean_take(r, n);
	uint32_t number = 0;
	for (size_t i = 0; i < b.n; i++)
		number = number << 8 | b.at[i];
	return number;
}

/* A vector whose length takes `n` bytes. */
static inline struct bytes lean_vector(struct lean_reader *r, unsigned n)
{
	return lean_take(r, lean_number(r, n));
}

static inline uint8_t *lean_put(uint8_t *at, uint64_t number, unsigned n)
{
	while (n-- != 0)
		*at++ = (uint8_t)(number >> 8 * n);
	return at;
}

/* ---- record.c ---- */
/* Returns false, so that it can be returned. */
bool lean_fail(struct lean_slot *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct lean_record {
	uint8_t type;
	const uint8_t *header;
	uint8_t *body;
	size_t n;
};
/* lean_input_begin() before, lean_input_end() after a call that reads. */
void lean_input_begin(struct lean_slot *s);
/* false: nothing whole is there, or it failed. */
bool lean_input_next(struct lean_slot *s, struct lean_record *r);
void lean_input_end(struct lean_slot *s);
/* Decrypts into `to` (may be the record's own body), of r->n bytes' room. */
bool lean_unseal(
	struct lean_slot *s, const struct lean_record *r, uint8_t *to, size_t *n, uint8_t *type);
/* Sends a record (at most LEAN_PLAIN_MAX); protected once s->out.is_on. */
bool lean_send(struct lean_slot *s, uint8_t type, struct bytes payload);
/* What does not go now waits. */
bool lean_send_raw(struct lean_slot *s, struct bytes b);
bool lean_drain(struct lean_slot *s);
bool lean_set_keys(struct lean_slot *s, struct lean_keys *k, const uint8_t *key, struct bytes iv,
	bool is_sealing);
void lean_release(struct lean_slot *s);

/* ---- hello.c ---- */
bool lean_hello_prepare(struct lean *lean, const struct lean_config *config);
bool lean_send_hello(struct lean_slot *s);
bool lean_on_server_hello(struct lean_slot *s, struct bytes message);

/* ---- handshake.c: messages of either version ---- */
bool lean_messages(struct lean_slot *s, struct bytes in);
void lean_keep_ticket(struct lean_slot *s, struct bytes ticket);

/* ---- tls13.c, tls12.c ---- */
/* Handlers take the whole message, or none where it was only hashed. */
bool lean13_on_server_hello(struct lean_slot *s, struct bytes secret);
bool lean13_on_finished(struct lean_slot *s, struct bytes message);
bool lean13_on_ticket(struct lean_slot *s, struct bytes message);
/* Puts the binder of the ticket's PSK (RFC 8446 4.2.11.2); `partial`: the ClientHello up to the
 * binders. */
void lean13_bind(struct lean_slot *s, bool is_sha384, struct bytes partial, uint8_t *binder);
bool lean12_on_server_hello(struct lean_slot *s);
bool lean12_on_key_exchange(struct lean_slot *s, struct bytes message);
bool lean12_on_hello_done(struct lean_slot *s, struct bytes message);
bool lean12_on_change(struct lean_slot *s);
bool lean12_on_ticket(struct lean_slot *s, struct bytes message);
bool lean12_on_finished(struct lean_slot *s, struct bytes message);
