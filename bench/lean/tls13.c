// SPDX-License-Identifier: Apache-2.0
/* bench/lean/tls13.c: the key schedule of TLS 1.3 (RFC 8446 7.1), Finished, tickets. */
#include "bench/lean/lean_private.h"

static struct bytes hash_of(const struct lean_slot *s, uint8_t to[LEAN_HASH_MAX])
{
	lean_hash_peek(&s->transcript, to);
	return bytes_of(to, lean_hash_size(s->suite->is_sha384));
}

static void key_of(struct lean_mac *m, const struct lean_slot *s, const uint8_t *secret)
{
	lean_mac_init(
		m, s->suite->is_sha384, bytes_of(secret, lean_hash_size(s->suite->is_sha384)));
}

/* Key and IV of the secret that keys `m` (RFC 8446 7.3). */
static bool set_traffic_keys(
	struct lean_slot *s, struct lean_keys *k, const struct lean_mac *m, bool is_sealing)
{
	uint8_t key[LEAN_KEY_MAX], iv[LEAN_NONCE_BYTES];
	lean_expand(m, "key", BYTES_NONE, key, s->suite->key_bytes);
	lean_expand(m, "iv", BYTES_NONE, iv, sizeof iv);
	return lean_set_keys(s, k, key, bytes_of(iv, sizeof iv), is_sealing);
}

/* `finished`: its key, or NULL. */
static bool set_traffic_secret(struct lean_slot *s, const struct lean_mac *from, const char *label,
	struct bytes hash, struct lean_keys *k, bool is_sealing, uint8_t *finished)
{
	uint8_t secret[LEAN_HASH_MAX];
	struct lean_mac m;
	lean_expand(from, label, hash, secret, hash.n);
	key_of(&m, s, secret);
	if (finished != NULL)
		lean_expand(&m, "finished", BYTES_NONE, finished, hash.n);
	return set_traffic_keys(s, k, &m, is_sealing);
}

bool lean13_on_server_hello(struct lean_slot *s, struct bytes secret)
{
	static const uint8_t zeros[LEAN_HASH_MAX];
	bool is_sha384 = s->suite->is_sha384;
	uint8_t handshake[LEAN_HASH_MAX], derived[LEAN_HASH_MAX], digest[LEAN_HASH_MAX];
	struct lean_mac m;
	struct bytes hash = hash_of(s, digest);
	if (s->is_resumed) {
		key_of(&m, s, s->derived);
		lean_mac(&m, secret, handshake);
	} else {
		lean_mac(&s->lean->derived[is_sha384], secret, handshake);
	}
	key_of(&m, s, handshake);
	if (!set_traffic_secret(s, &m, "c hs traffic", hash, &s->out, true, s->client_finished) ||
		!set_traffic_secret(s, &m, "s hs traffic", hash, &s->in, false, s->server_finished))
		return false;
	lean_expand(
		&m, "derived", bytes_of(s->lean->empty_hash[is_sha384], hash.n), derived, hash.n);
	key_of(&m, s, derived);
	lean_mac(&m, bytes_of(zeros, hash.n), s->master);
	s->is_key_changed = true;
	s->state = LEAN_AT_EXTENSIONS;
	return true;
}

/* CertificateRequest is answered with an empty list (RFC 8446 4.4.2). */
static bool send_finished(struct lean_slot *s)
{
	static const uint8_t change[] = {LEAN_CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1};
	static const uint8_t no_certificate[] = {LEAN_CERTIFICATE, 0, 0, 4, 0, 0, 0, 0};
	uint8_t flight[sizeof no_certificate + 4 + LEAN_HASH_MAX], digest[LEAN_HASH_MAX],
		*at = flight;
	struct lean_mac m;
	if (s->has_request) {
		memcpy(at, no_certificate, sizeof no_certificate);
		lean_hash_add(&s->transcript, bytes_of(at, sizeof no_certificate));
		at += sizeof no_certificate;
	}
	struct bytes hash = hash_of(s, digest);
	uint8_t *message = at;
	at = lean_put(lean_put(at, LEAN_FINISHED, 1), hash.n, 3);
	key_of(&m, s, s->client_finished);
	lean_mac(&m, hash, at);
	at += hash.n;
	lean_hash_add(&s->transcript, bytes_of(message, (size_t)(at - message)));
	return lean_send_raw(s, bytes_of(change, sizeof change)) &&
		lean_send(s, LEAN_HANDSHAKE, bytes_of(flight, (size_t)(at - flight)));
}

bool lean13_on_finished(struct lean_slot *s, struct bytes message)
{
	uint8_t digest[LEAN_HASH_MAX], expected[LEAN_HASH_MAX];
	struct lean_mac m;
	key_of(&m, s, s->server_finished);
	struct bytes hash = hash_of(s, digest);
	lean_mac(&m, hash, expected);
	if (!bytes_equal(bytes_skip(message, 4), bytes_of(expected, hash.n)))
		return lean_fail(s, "the server's Finished is wrong");
	lean_hash_add(&s->transcript, message);
	hash = hash_of(s, digest); /* the application's secrets end here (RFC 8446 7.1) */
	key_of(&m, s, s->master);
	if (!send_finished(s) ||
		!set_traffic_secret(s, &m, "c ap traffic", hash, &s->out, true, NULL) ||
		!set_traffic_secret(s, &m, "s ap traffic", hash, &s->in, false, NULL))
		return false;
	if (s->lean->is_resuming)
		lean_expand(&m, "res master", hash_of(s, digest), s->resumption, hash.n);
	s->is_key_changed = true;
	s->state = LEAN_AT_OPEN;
	return true;
}

/* RFC 8446 4.6.1 */
bool lean13_on_ticket(struct lean_slot *s, struct bytes message)
{
	struct lean_reader r = {bytes_skip(message, 4)};
	struct lean_mac m;
	if (s->lean->protocol != TLS_1_3)
		return lean_fail(s, "a ticket out of order");
	uint32_t lifetime = lean_number(&r, 4), age_add = lean_number(&r, 4);
	struct bytes nonce = lean_vector(&r, 1), ticket = lean_vector(&r, 2);
	lean_vector(&r, 2); /* extensions */
	if (r.is_short || r.left.n != 0)
		return lean_fail(s, "a ticket that cannot be read");
	if (!s->lean->is_resuming || lifetime == 0 || nonce.n > LEAN_HASH_MAX)
		return true;
	lean_keep_ticket(s, ticket);
	s->ticket.age_add = age_add;
	key_of(&m, s, s->resumption);
	lean_expand(&m, "resumption", nonce, s->ticket.secret, lean_hash_size(s->suite->is_sha384));
	return true;
}

void lean13_bind(struct lean_slot *s, bool is_sha384, struct bytes partial, uint8_t *binder)
{
	static const uint8_t zeros[LEAN_HASH_MAX];
	size_t n = lean_hash_size(is_sha384);
	struct bytes none = bytes_of(s->lean->empty_hash[is_sha384], n);
	uint8_t early[LEAN_HASH_MAX], secret[LEAN_HASH_MAX], digest[LEAN_HASH_MAX];
	struct lean_hash h;
	struct lean_mac m;
	lean_mac_init(&m, is_sha384, bytes_of(zeros, n));
	lean_mac(&m, bytes_of(s->ticket.secret, n), early);
	lean_mac_init(&m, is_sha384, bytes_of(early, n));
	lean_expand(&m, "derived", none, s->derived, n);
	lean_expand(&m, "res binder", none, secret, n);
	lean_mac_init(&m, is_sha384, bytes_of(secret, n));
	lean_expand(&m, "finished", BYTES_NONE, secret, n);
	lean_mac_init(&m, is_sha384, bytes_of(secret, n));
	lean_hash_init(&h, is_sha384);
	lean_hash_add(&h, partial);
	lean_hash_peek(&h, digest);
	lean_mac(&m, bytes_of(digest, n), early);
	memcpy(binder, early, n);
}
