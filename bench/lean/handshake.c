// SPDX-License-Identifier: Apache-2.0
/* bench/lean/handshake.c: messages out of records, and a table of which may come when. */
#include "bench/lean/lean_private.h"

#include <stdlib.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/clock.h"

/* ---- which message may come when ---- */

static bool on_extensions(struct lean_slot *s, struct bytes message)
{
	s->state = s->is_resumed ? LEAN_AT_FINISHED : LEAN_AT_CERTIFICATE;
	return true;
}

/* What it asks for is not told apart: the answer is that we have none. */
static bool on_request(struct lean_slot *s, struct bytes message)
{
	if (s->has_request)
		return lean_fail(s, "a second CertificateRequest");
	s->has_request = true;
	return true;
}

static bool on_certificate(struct lean_slot *s, struct bytes message)
{
	s->state = s->state == LEAN_AT_CERTIFICATE ? LEAN_AT_VERIFY : LEAN_AT_EXCHANGE_12;
	return true;
}

static bool on_verify(struct lean_slot *s, struct bytes message)
{
	s->state = LEAN_AT_FINISHED;
	return true;
}

enum {
	KEEP = 1,	  /* the handler sees it: it must not be longer than LEAN_KEPT_MAX */
	KEEP_IF_FITS = 2, /* else it is only counted */
	HASH = 4,	  /* into the transcript; kept ones are added by their handlers */
};

static const struct message_row {
	uint8_t state, type, flags;
	bool (*handle)(struct lean_slot *s, struct bytes message);
} rows[] = {
	{LEAN_AT_HELLO, LEAN_SERVER_HELLO, KEEP, lean_on_server_hello},
	{LEAN_AT_EXTENSIONS, LEAN_ENCRYPTED_EXTENSIONS, HASH, on_extensions},
	{LEAN_AT_CERTIFICATE, LEAN_CERTIFICATE_REQUEST, HASH, on_request},
	{LEAN_AT_CERTIFICATE, LEAN_CERTIFICATE, HASH, on_certificate},
	{LEAN_AT_VERIFY, LEAN_CERTIFICATE_VERIFY, HASH, on_verify},
	{LEAN_AT_FINISHED, LEAN_FINISHED, KEEP, lean13_on_finished},
	{LEAN_AT_CERTIFICATE_12, LEAN_CERTIFICATE, HASH, on_certificate},
	{LEAN_AT_EXCHANGE_12, LEAN_SERVER_KEY_EXCHANGE, KEEP, lean12_on_key_exchange},
	{LEAN_AT_DONE_12, LEAN_CERTIFICATE_REQUEST, HASH, on_request},
	{LEAN_AT_DONE_12, LEAN_SERVER_HELLO_DONE, HASH, lean12_on_hello_done},
	{LEAN_AT_CHANGE_12, LEAN_NEW_SESSION_TICKET, KEEP, lean12_on_ticket},
	{LEAN_AT_FINISHED_12, LEAN_FINISHED, KEEP, lean12_on_finished},
	{LEAN_AT_OPEN, LEAN_NEW_SESSION_TICKET, KEEP_IF_FITS, lean13_on_ticket},
};

static const struct message_row *find_row(const struct lean_slot *s)
{
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].state == s->state && rows[i].type == s->message[0])
			return &rows[i];
	return NULL;
}

/* ---- messages, whatever records they come in ---- */

static bool begin_message(struct lean_slot *s)
{
	const struct message_row *row = find_row(s);
	struct lean_reader r = {bytes_of(s->message + 1, 3)};
	s->message_size = 4 + lean_number(&r, 3);
	if (row == NULL)
		return lean_fail(s, "message %u came out of order", s->message[0]);
	if (s->message_size > (row->flags & KEEP ? LEAN_KEPT_MAX : LEAN_MESSAGE_MAX))
		return lean_fail(s, "message %u is too long", s->message[0]);
	s->is_kept = row->flags & (KEEP | KEEP_IF_FITS) && s->message_size <= LEAN_KEPT_MAX;
	if (row->flags & HASH)
		lean_hash_add(&s->transcript, bytes_of(s->message, 4));
	return true;
}

static bool end_message(struct lean_slot *s)
{
	const struct message_row *row = find_row(s);
	struct bytes message = s->is_kept ? bytes_of(s->message, s->message_size) : BYTES_NONE;
	s->message_n = 0;
	return s->is_kept || row->flags & HASH ? row->handle(s, message) : true;
}

/* Takes up to the end of the message's header or body. */
static struct bytes take_part(struct lean_slot *s, struct bytes in)
{
	uint32_t end = s->message_n < 4 ? 4 : s->message_size;
	struct bytes part = bytes_first(in, end - s->message_n);
	if (s->message_n < 4 || s->is_kept)
		memcpy(s->message + s->message_n, part.at, part.n);
	else if (find_row(s)->flags & HASH)
		lean_hash_add(&s->transcript, part);
	s->message_n += (uint32_t)part.n;
	return bytes_skip(in, part.n);
}

bool lean_messages(struct lean_slot *s, struct bytes in)
{
	while (in.n != 0) {
		bool has_header = s->message_n >= 4;
		if (s->is_key_changed)
			return lean_fail(s, "a message shares its record with a change of keys");
		in = take_part(s, in);
		if (!has_header && s->message_n == 4 && !begin_message(s))
			return false;
		if (s->message_n >= 4 && s->message_n == s->message_size && !end_message(s))
			return false;
	}
	s->is_key_changed = false;
	return true;
}

void lean_keep_ticket(struct lean_slot *s, struct bytes ticket)
{
	struct lean_ticket *t = &s->ticket;
	t->n = 0;
	if (ticket.n == 0 || ticket.n > LEAN_TICKET_MAX)
		return;
	memcpy(t->at, ticket.at, ticket.n);
	t->n = (uint16_t)ticket.n;
	t->suite = s->suite->id;
	t->received_us = time_monotonic_us();
}

/* ---- records ---- */

static bool on_alert(struct lean_slot *s, struct bytes alert)
{
	enum { CLOSE_NOTIFY = 0 };
	if (alert.n != 2)
		return lean_fail(s, "an alert of %zu bytes", alert.n);
	if (alert.at[1] == CLOSE_NOTIFY && s->state == LEAN_AT_OPEN) {
		s->has_eof = true;
		return true;
	}
	return lean_fail(s, "the server sent alert %u", alert.at[1]);
}

/* Alone in its record; in TLS 1.3 a gesture for middleboxes. */
static bool on_change(struct lean_slot *s, const struct lean_record *r)
{
	if (r->n != 1 || r->body[0] != 1 || s->message_n != 0)
		return lean_fail(s, "a ChangeCipherSpec that is none");
	if (s->lean->protocol == TLS_1_3 && s->state < LEAN_AT_OPEN)
		return true;
	if (s->state != LEAN_AT_CHANGE_12)
		return lean_fail(s, "a ChangeCipherSpec out of order");
	return lean12_on_change(s);
}

/* Decrypted into `to`, where application data stays; `*n` is 0 for all else. */
static bool on_record(struct lean_slot *s, const struct lean_record *r, uint8_t *to, size_t *n)
{
	uint8_t type = r->type;
	size_t plain_n = r->n;
	*n = 0;
	if (type == LEAN_CHANGE_CIPHER_SPEC)
		return on_change(s, r);
	bool is_inner = s->in.is_on && s->lean->protocol == TLS_1_3;
	if (is_inner && type != LEAN_DATA)
		return lean_fail(s, "a record in clear after the keys were agreed");
	if (!s->in.is_on)
		to = r->body;
	else if (!lean_unseal(s, r, to, &plain_n, &type))
		return false;
	struct bytes plain = bytes_of(to, plain_n);
	if (s->message_n != 0 && type != LEAN_HANDSHAKE)
		return lean_fail(s, "something else within a handshake message");
	if (type == LEAN_HANDSHAKE)
		return plain.n != 0 ? lean_messages(s, plain)
				    : lean_fail(s, "an empty record of the handshake");
	if (type == LEAN_ALERT)
		return on_alert(s, plain);
	if (type != LEAN_DATA || s->state != LEAN_AT_OPEN)
		return lean_fail(s, "a record of type %u", type);
	*n = plain_n;
	return true;
}

/* ---- a session ---- */

enum tls_result lean_handshake(struct lean_slot *s)
{
	struct lean_record r;
	size_t n;
	if (s->state == LEAN_AT_START)
		lean_send_hello(s);
	lean_input_begin(s);
	while (s->state < LEAN_AT_OPEN && lean_input_next(s, &r) && on_record(s, &r, r.body, &n))
		;
	lean_input_end(s);
	return s->state == LEAN_AT_OPEN	     ? TLS_OK
		: s->state == LEAN_AT_FAILED ? TLS_FAIL
					     : TLS_AGAIN;
}

enum tls_result lean_read(struct lean_slot *s, uint8_t *to, size_t room, size_t *n)
{
	struct lean_record r;
	*n = 0;
	lean_input_begin(s);
	while (s->state == LEAN_AT_OPEN && !s->has_eof && room - *n >= LEAN_READ_BYTES &&
		lean_input_next(s, &r)) {
		size_t more = 0;
		if (!on_record(s, &r, to + *n, &more))
			break;
		*n += more;
	}
	lean_input_end(s);
	if (*n != 0)
		return TLS_OK;
	return s->state == LEAN_AT_FAILED ? TLS_FAIL : s->has_eof ? TLS_EOF : TLS_AGAIN;
}

enum tls_result lean_write(struct lean_slot *s, struct bytes from, size_t *n)
{
	*n = 0;
	while (from.n != 0 && s->state == LEAN_AT_OPEN && lean_drain(s)) {
		struct bytes part = bytes_first(from, LEAN_PLAIN_MAX);
		if (!lean_send(s, LEAN_DATA, part))
			break;
		*n += part.n;
		from = bytes_skip(from, part.n);
	}
	if (s->state == LEAN_AT_FAILED)
		return TLS_FAIL;
	return *n != 0 || from.n == 0 ? TLS_OK : TLS_AGAIN;
}

bool lean_has_output(const struct lean_slot *s)
{
	return s->pending != NULL;
}

enum tls_result lean_flush(struct lean_slot *s)
{
	return lean_drain(s) ? TLS_OK : TLS_AGAIN;
}

void lean_open(struct lean_slot *s, struct tls_io io)
{
	lean_release(s);
	s->io = io;
	s->suite = NULL;
	s->state = LEAN_AT_START;
	s->in.is_on = s->out.is_on = false;
	s->is_resumed = s->has_offered = s->has_request = s->has_extended = s->has_eof =
		s->is_key_changed = false;
	s->message_n = 0;
	s->failure[0] = '\0';
}

void lean_close(struct lean_slot *s)
{
	lean_release(s);
	s->state = LEAN_AT_FAILED;
}

const char *lean_failure(const struct lean_slot *s)
{
	return s->failure;
}

void lean_get_verdict(const struct lean_slot *s, struct tls_verdict *v)
{
	*v = (struct tls_verdict){.is_tls = s->state == LEAN_AT_OPEN};
	if (!v->is_tls)
		return;
	v->protocol = s->lean->protocol;
	v->is_resumed = s->is_resumed;
	v->bits = v->bits_total = (uint16_t)(8 * s->suite->key_bytes);
	snprintf(v->cipher, sizeof v->cipher, "%s", s->suite->name);
	if (!s->is_resumed || v->protocol == TLS_1_3)
		snprintf(v->group, sizeof v->group, "%s", lean_group_name(s->group));
}

struct lean_slot *lean_slot_create(struct lean *lean)
{
	struct lean_slot *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->lean = lean;
	s->state = LEAN_AT_FAILED;
	return s;
}

void lean_slot_destroy(struct lean_slot *s)
{
	if (s == NULL)
		return;
	lean_release(s);
	EVP_CIPHER_CTX_free(s->in.ctx);
	EVP_CIPHER_CTX_free(s->out.ctx);
	free(s);
}

bool lean_has_ticket(const struct lean_slot *s)
{
	return s->ticket.n != 0;
}

bool lean_is_resumed(const struct lean_slot *s)
{
	return s->is_resumed;
}

/* ---- what all sessions share ---- */

static void prepare_secrets(struct lean *lean)
{
	static const uint8_t zeros[LEAN_HASH_MAX];
	for (int is_sha384 = 0; is_sha384 < 2; is_sha384++) {
		size_t n = lean_hash_size(is_sha384);
		uint8_t early[LEAN_HASH_MAX], derived[LEAN_HASH_MAX];
		struct lean_hash none;
		struct lean_mac m;
		lean_hash_init(&none, is_sha384);
		lean_hash_peek(&none, lean->empty_hash[is_sha384]);
		lean_mac_init(&m, is_sha384, bytes_of(zeros, n)); /* RFC 8446 7.1: no PSK */
		lean_mac(&m, bytes_of(zeros, n), early);
		lean_mac_init(&m, is_sha384, bytes_of(early, n));
		lean_expand(&m, "derived", bytes_of(lean->empty_hash[is_sha384], n), derived, n);
		lean_mac_init(&lean->derived[is_sha384], is_sha384, bytes_of(derived, n));
	}
}

static bool fetch(struct lean *lean)
{
	static const char *const names[LEAN_CIPHERS] = {
		"AES-256-GCM", "ChaCha20-Poly1305", "AES-128-GCM"};
	for (int i = 0; i < LEAN_CIPHERS; i++)
		if ((lean->ciphers[i] = EVP_CIPHER_fetch(NULL, names[i], NULL)) == NULL)
			return false;
	lean->shares = lean_shares_create();
	return lean->shares != NULL &&
		getrandom(lean->random, sizeof lean->random, 0) == sizeof lean->random;
}

struct lean *lean_create(const struct lean_config *config, char error[256])
{
	struct lean *lean = calloc(1, sizeof *lean);
	snprintf(error, 256, "no memory");
	if (lean == NULL)
		return NULL;
	lean->protocol = config->protocol;
	lean->is_resuming = config->is_resuming;
	if (!fetch(lean)) {
		lean_destroy(lean);
		return NULL;
	}
	prepare_secrets(lean);
	if (lean_hello_prepare(lean, config) &&
		(lean->protocol == TLS_1_3 || lean->group != LEAN_X25519MLKEM768))
		return lean;
	snprintf(error, 256, "the lean client cannot offer %.100s in %s", config->groups,
		tls_protocol_name(config->protocol));
	lean_destroy(lean);
	return NULL;
}

void lean_destroy(struct lean *lean)
{
	if (lean == NULL)
		return;
	for (struct lean_buffer *b; (b = lean->spare) != NULL;) {
		lean->spare = b->next;
		free(b);
	}
	for (int i = 0; i < LEAN_CIPHERS; i++)
		EVP_CIPHER_free(lean->ciphers[i]);
	lean_shares_destroy(lean->shares);
	free(lean);
}
