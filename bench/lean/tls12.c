// SPDX-License-Identifier: Apache-2.0
/* bench/lean/tls12.c: TLS 1.2 with ECDHE and AEAD (RFC 5246, 8422, 5288), extended master secret
 * (RFC 7627), tickets (RFC 5077). */
#include "bench/lean/lean_private.h"

enum { MASTER_BYTES = 48, VERIFY_BYTES = 12, SALT_BYTES = 4, RANDOM_AT = LEAN_HEADER_BYTES + 6 };

static void prf(const struct lean_slot *s, struct bytes secret, const char *label, struct bytes a,
	struct bytes b, uint8_t *to, size_t n)
{
	uint8_t seed[22 + 64];
	size_t label_n = strlen(label);
	struct lean_mac m;
	memcpy(seed, label, label_n);
	memcpy(seed + label_n, a.at, a.n);
	if (b.n != 0)
		memcpy(seed + label_n + a.n, b.at, b.n);
	lean_mac_init(&m, s->suite->is_sha384, secret);
	lean_prf(&m, bytes_of(seed, label_n + a.n + b.n), to, n);
}

static struct bytes hash_of(const struct lean_slot *s, uint8_t to[LEAN_HASH_MAX])
{
	lean_hash_peek(&s->transcript, to);
	return bytes_of(to, lean_hash_size(s->suite->is_sha384));
}

static struct bytes client_random(const struct lean_slot *s)
{
	return bytes_of(s->hello + RANDOM_AT, 32);
}

static struct bytes server_random(const struct lean_slot *s)
{
	return bytes_of(s->server_random, 32);
}

static struct bytes master(const struct lean_slot *s)
{
	return bytes_of(s->master, MASTER_BYTES);
}

/* The keys of one direction; the block is client key, server key, client salt, server salt (RFC
 * 5246 6.3). */
static bool set_direction(struct lean_slot *s, struct lean_keys *k, bool is_sealing)
{
	uint8_t block[2 * (LEAN_KEY_MAX + SALT_BYTES)];
	size_t key_n = s->suite->key_bytes, which = is_sealing ? 0 : 1;
	prf(s, master(s), "key expansion", server_random(s), client_random(s), block,
		2 * (key_n + SALT_BYTES));
	return lean_set_keys(s, k, block + which * key_n,
		bytes_of(block + 2 * key_n + which * SALT_BYTES, SALT_BYTES), is_sealing);
}

static bool send_finished(struct lean_slot *s)
{
	static const uint8_t change[] = {1};
	uint8_t message[4 + VERIFY_BYTES], digest[LEAN_HASH_MAX];
	uint8_t *at = lean_put(lean_put(message, LEAN_FINISHED, 1), VERIFY_BYTES, 3);
	prf(s, master(s), "client finished", hash_of(s, digest), BYTES_NONE, at, VERIFY_BYTES);
	lean_hash_add(&s->transcript, bytes_of(message, sizeof message));
	return lean_send(s, LEAN_CHANGE_CIPHER_SPEC, bytes_of(change, 1)) &&
		set_direction(s, &s->out, true) &&
		lean_send(s, LEAN_HANDSHAKE, bytes_of(message, sizeof message));
}

bool lean12_on_server_hello(struct lean_slot *s)
{
	s->state = s->is_resumed ? LEAN_AT_CHANGE_12 : LEAN_AT_CERTIFICATE_12;
	if (s->is_resumed)
		memcpy(s->master, s->ticket.secret, MASTER_BYTES);
	return true;
}

/* ServerECDHParams (RFC 8422 5.4); the signature over them is not looked at. */
bool lean12_on_key_exchange(struct lean_slot *s, struct bytes message)
{
	enum { NAMED_CURVE = 3 };
	struct lean_reader r = {bytes_skip(message, 4)};
	uint32_t type = lean_number(&r, 1), group = lean_number(&r, 2);
	struct bytes share = lean_vector(&r, 1);
	lean_number(&r, 2);
	lean_vector(&r, 2);
	if (r.is_short || r.left.n != 0 || type != NAMED_CURVE)
		return lean_fail(s, "the ServerKeyExchange cannot be read");
	s->group = (uint16_t)group; /* any that we know: all cost nothing */
	s->share_n = (uint16_t)lean_secret(s->lean->shares, (uint16_t)group, share, s->share);
	if (s->share_n == 0)
		return lean_fail(s, "the server's key share is none");
	lean_hash_add(&s->transcript, message);
	s->state = LEAN_AT_DONE_12;
	return true;
}

static bool send_message(struct lean_slot *s, struct bytes message)
{
	lean_hash_add(&s->transcript, message);
	return lean_send(s, LEAN_HANDSHAKE, message);
}

bool lean12_on_hello_done(struct lean_slot *s, struct bytes unused)
{
	static const uint8_t no_certificate[] = {LEAN_CERTIFICATE, 0, 0, 3, 0, 0, 0};
	uint8_t message[5 + 65], digest[LEAN_HASH_MAX];
	struct bytes share = lean_share(s->lean->shares, s->group),
		     secret = bytes_of(s->share, s->share_n);
	if (s->has_request && !send_message(s, bytes_of(no_certificate, sizeof no_certificate)))
		return false;
	uint8_t *at = lean_put(lean_put(message, LEAN_CLIENT_KEY_EXCHANGE, 1), share.n + 1, 3);
	memcpy(lean_put(at, share.n, 1), share.at, share.n);
	if (!send_message(s, bytes_of(message, 5 + share.n)))
		return false;
	if (s->has_extended)
		prf(s, secret, "extended master secret", hash_of(s, digest), BYTES_NONE, s->master,
			MASTER_BYTES);
	else
		prf(s, secret, "master secret", client_random(s), server_random(s), s->master,
			MASTER_BYTES);
	s->state = LEAN_AT_CHANGE_12;
	return send_finished(s);
}

bool lean12_on_ticket(struct lean_slot *s, struct bytes message)
{
	struct lean_reader r = {bytes_skip(message, 4)};
	lean_number(&r, 4); /* lifetime */
	struct bytes ticket = lean_vector(&r, 2);
	if (r.is_short || r.left.n != 0)
		return lean_fail(s, "a ticket that cannot be read");
	lean_hash_add(&s->transcript, message);
	if (!s->lean->is_resuming || ticket.n == 0)
		return true;
	lean_keep_ticket(s, ticket);
	memcpy(s->ticket.secret, s->master, MASTER_BYTES);
	return true;
}

bool lean12_on_change(struct lean_slot *s)
{
	s->state = LEAN_AT_FINISHED_12;
	return set_direction(s, &s->in, false);
}

bool lean12_on_finished(struct lean_slot *s, struct bytes message)
{
	uint8_t digest[LEAN_HASH_MAX], expected[VERIFY_BYTES];
	prf(s, master(s), "server finished", hash_of(s, digest), BYTES_NONE, expected,
		VERIFY_BYTES);
	if (!bytes_equal(bytes_skip(message, 4), bytes_of(expected, VERIFY_BYTES)))
		return lean_fail(s, "the server's Finished is wrong");
	lean_hash_add(&s->transcript, message);
	if (s->is_resumed && !send_finished(s))
		return false;
	s->state = LEAN_AT_OPEN;
	return true;
}
