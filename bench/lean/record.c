// SPDX-License-Identifier: Apache-2.0
/* bench/lean/record.c: records in and out, protected by AES-GCM or ChaCha20-Poly1305. */
#include "bench/lean/lean_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool lean_fail(struct lean_slot *s, const char *format, ...)
{
	va_list args;
	if (s->state == LEAN_AT_FAILED)
		return false;
	va_start(args, format);
	vsnprintf(s->failure, sizeof s->failure, format, args);
	va_end(args);
	s->state = LEAN_AT_FAILED;
	return false;
}

/* ---- buffers ---- */

static struct lean_buffer *get_buffer(struct lean_slot *s)
{
	struct lean_buffer *b = s->lean->spare;
	if (b != NULL)
		s->lean->spare = b->next;
	else
		b = malloc(sizeof *b);
	if (b == NULL)
		lean_fail(s, "no memory");
	return b;
}

static void put_buffer(struct lean_slot *s, struct lean_buffer **b)
{
	if (*b == NULL)
		return;
	(*b)->next = s->lean->spare;
	s->lean->spare = *b;
	*b = NULL;
}

void lean_release(struct lean_slot *s)
{
	put_buffer(s, &s->held);
	put_buffer(s, &s->pending);
	s->head = s->tail = s->pending_head = s->pending_tail = 0;
}

/* ---- input ---- */

void lean_input_begin(struct lean_slot *s)
{
	s->input = s->held != NULL ? s->held->at : s->lean->input;
}

bool lean_input_next(struct lean_slot *s, struct lean_record *r)
{
	for (;;) {
		uint8_t *at = s->input + s->head;
		size_t n = s->tail - s->head;
		size_t size = n < LEAN_HEADER_BYTES ? 0 : (size_t)at[3] << 8 | at[4];
		if (n >= LEAN_HEADER_BYTES && (size > LEAN_CIPHERTEXT_MAX || at[1] != 3))
			return lean_fail(s, "what came is no TLS record");
		if (n >= LEAN_HEADER_BYTES && n >= LEAN_HEADER_BYTES + size) {
			*r = (struct lean_record){at[0], at, at + LEAN_HEADER_BYTES, size};
			s->head += (uint32_t)(LEAN_HEADER_BYTES + size);
			return true;
		}
		if (s->head != 0)
			memmove(s->input, at, n);
		s->head = 0;
		s->tail = (uint32_t)n;
		n = s->io.read(s->io.user, s->input + s->tail, LEAN_RECORD_MAX - s->tail);
		if (n == 0)
			return false;
		s->tail += (uint32_t)n;
	}
}

/* The buffer that all share is another's in the next call. */
void lean_input_end(struct lean_slot *s)
{
	uint32_t left = s->tail - s->head;
	if (left == 0) {
		s->head = s->tail = 0;
		put_buffer(s, &s->held);
	} else if (s->held == NULL && (s->held = get_buffer(s)) != NULL) {
		memcpy(s->held->at, s->input + s->head, left);
		s->head = 0;
		s->tail = left;
	}
}

/* ---- protection ---- */

bool lean_set_keys(struct lean_slot *s, struct lean_keys *k, const uint8_t *key, struct bytes iv,
	bool is_sealing)
{
	/* A cipher that is set again would have its context allocated anew. */
	bool is_new = k->cipher != s->suite->cipher + 1;
	uint8_t unused[LEAN_NONCE_BYTES] = {0};
	if (k->ctx == NULL && (k->ctx = EVP_CIPHER_CTX_new()) == NULL)
		return lean_fail(s, "no memory");
	if (EVP_CipherInit_ex2(k->ctx, is_new ? s->lean->ciphers[s->suite->cipher] : NULL, key,
		    unused, is_sealing, NULL) != 1)
		return lean_fail(s, "the cipher refused its key");
	k->cipher = s->suite->cipher + 1;
	memcpy(k->iv, iv.at, iv.n);
	k->sequence = 0;
	k->is_on = true;
	return true;
}

/* TLS 1.2: four bytes of salt and the explicit part (RFC 5288 3); else RFC 8446 5.3. */
static void make_nonce(const struct lean_slot *s, const struct lean_keys *k,
	const uint8_t *explicit, uint8_t nonce[LEAN_NONCE_BYTES])
{
	memcpy(nonce, k->iv, LEAN_NONCE_BYTES);
	if (s->suite->protocol == TLS_1_2) {
		memcpy(nonce + 4, explicit, 8);
		return;
	}
	for (unsigned i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(k->sequence >> 8 * (7 - i));
}

/* Additional data: the record's header; in TLS 1.2 with the sequence number and the plaintext's
 * length. */
static size_t make_additional(const struct lean_slot *s, const struct lean_keys *k,
	const uint8_t *header, size_t plain_n, uint8_t to[13])
{
	if (s->suite->protocol != TLS_1_2) {
		memcpy(to, header, LEAN_HEADER_BYTES);
		return LEAN_HEADER_BYTES;
	}
	lean_put(to, k->sequence, 8);
	memcpy(to + 8, header, 3);
	lean_put(to + 11, plain_n, 2);
	return 13;
}

static size_t explicit_bytes(const struct lean_slot *s)
{
	return s->suite->protocol == TLS_1_2 ? 8 : 0;
}

bool lean_unseal(
	struct lean_slot *s, const struct lean_record *r, uint8_t *to, size_t *n, uint8_t *type)
{
	uint8_t nonce[LEAN_NONCE_BYTES], additional[13];
	size_t before = explicit_bytes(s);
	int done, rest;
	if (r->n < before + LEAN_TAG_BYTES)
		return lean_fail(s, "a record is too short for its tag");
	*n = r->n - before - LEAN_TAG_BYTES;
	make_nonce(s, &s->in, r->body, nonce);
	size_t additional_n = make_additional(s, &s->in, r->header, *n, additional);
	if (EVP_CipherInit_ex2(s->in.ctx, NULL, NULL, nonce, 0, NULL) != 1 ||
		EVP_CipherUpdate(s->in.ctx, NULL, &done, additional, (int)additional_n) != 1 ||
		EVP_CipherUpdate(s->in.ctx, to, &done, r->body + before, (int)*n) != 1 ||
		EVP_CIPHER_CTX_ctrl(s->in.ctx, EVP_CTRL_AEAD_SET_TAG, LEAN_TAG_BYTES,
			r->body + before + *n) != 1 ||
		EVP_CipherFinal_ex(s->in.ctx, to + *n, &rest) != 1)
		return lean_fail(s, "a record does not authenticate");
	s->in.sequence++;
	*type = r->type;
	if (s->suite->protocol == TLS_1_2)
		return true;
	while (*n != 0 && to[*n - 1] == 0) /* padding (RFC 8446 5.4) */
		--*n;
	if (*n == 0)
		return lean_fail(s, "a record without a type");
	*type = to[--*n];
	return *n <= LEAN_PLAIN_MAX || lean_fail(s, "a record is too long");
}

/* ---- output ---- */

bool lean_drain(struct lean_slot *s)
{
	while (s->pending_head < s->pending_tail) {
		size_t n = s->io.write(s->io.user, s->pending->at + s->pending_head,
			s->pending_tail - s->pending_head);
		if (n == 0)
			return false;
		s->pending_head += (uint32_t)n;
	}
	s->pending_head = s->pending_tail = 0;
	put_buffer(s, &s->pending);
	return true;
}

bool lean_send_raw(struct lean_slot *s, struct bytes b)
{
	while (b.n != 0 && s->pending == NULL) {
		size_t n = s->io.write(s->io.user, b.at, b.n);
		if (n == 0)
			break;
		b = bytes_skip(b, n);
	}
	if (b.n == 0)
		return true;
	if (s->pending == NULL && (s->pending = get_buffer(s)) == NULL)
		return false;
	if (b.n > LEAN_RECORD_MAX - s->pending_tail)
		return lean_fail(s, "too much output waits");
	memcpy(s->pending->at + s->pending_tail, b.at, b.n);
	s->pending_tail += (uint32_t)b.n;
	return true;
}

static bool seal(
	struct lean_slot *s, uint8_t type, struct bytes payload, uint8_t *record, size_t *n)
{
	uint8_t nonce[LEAN_NONCE_BYTES], additional[13];
	bool is_12 = s->suite->protocol == TLS_1_2;
	size_t before = explicit_bytes(s), inner = payload.n + (is_12 ? 0 : 1);
	uint8_t *body = lean_put(record, is_12 ? type : LEAN_DATA, 1);
	int done = 0, rest;
	body = lean_put(body, 0x0303, 2);
	body = lean_put(body, before + inner + LEAN_TAG_BYTES, 2);
	if (is_12)
		body = lean_put(body, s->out.sequence, 8);
	make_nonce(s, &s->out, body - before, nonce);
	size_t additional_n = make_additional(s, &s->out, record, inner, additional);
	if (EVP_CipherInit_ex2(s->out.ctx, NULL, NULL, nonce, 1, NULL) != 1 ||
		EVP_CipherUpdate(s->out.ctx, NULL, &done, additional, (int)additional_n) != 1 ||
		EVP_CipherUpdate(s->out.ctx, body, &done, payload.at, (int)payload.n) != 1 ||
		(!is_12 && EVP_CipherUpdate(s->out.ctx, body + payload.n, &done, &type, 1) != 1) ||
		EVP_CipherFinal_ex(s->out.ctx, body + inner, &rest) != 1 ||
		EVP_CIPHER_CTX_ctrl(
			s->out.ctx, EVP_CTRL_AEAD_GET_TAG, LEAN_TAG_BYTES, body + inner) != 1)
		return lean_fail(s, "the cipher failed");
	s->out.sequence++;
	*n = LEAN_HEADER_BYTES + before + inner + LEAN_TAG_BYTES;
	return true;
}

bool lean_send(struct lean_slot *s, uint8_t type, struct bytes payload)
{
	uint8_t *record = s->lean->output;
	size_t n = LEAN_HEADER_BYTES + payload.n;
	if (s->out.is_on)
		return seal(s, type, payload, record, &n) && lean_send_raw(s, bytes_of(record, n));
	lean_put(lean_put(lean_put(record, type, 1), 0x0303, 2), payload.n, 2);
	memcpy(record + LEAN_HEADER_BYTES, payload.at, payload.n);
	return lean_send_raw(s, bytes_of(record, n));
}
