// SPDX-License-Identifier: Apache-2.0
/* bench/lean/hello.c: the ClientHello, prepared once, and the ServerHello. */
#include "bench/lean/lean_private.h"

#include "base/clock.h"

static const struct lean_suite suites[] = {
	{0x1302, TLS_1_3, true, 0, 32, "TLS_AES_256_GCM_SHA384"},
	{0x1303, TLS_1_3, false, 1, 32, "TLS_CHACHA20_POLY1305_SHA256"},
	{0x1301, TLS_1_3, false, 2, 16, "TLS_AES_128_GCM_SHA256"},
	{0xc02c, TLS_1_2, true, 0, 32, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
	{0xc030, TLS_1_2, true, 0, 32, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
	{0xc02b, TLS_1_2, false, 2, 16, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
	{0xc02f, TLS_1_2, false, 2, 16, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
};
#define SUITES (sizeof suites / sizeof suites[0])

/* As OpenSSL's client offers them by default, but for those of post-quantum signatures. */
static const uint16_t signatures[] = {0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x081a, 0x081b,
	0x081c, 0x0809, 0x080a, 0x080b, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601};

enum {
	SERVER_NAME = 0,
	SUPPORTED_GROUPS = 10,
	EC_POINT_FORMATS = 11,
	SIGNATURE_ALGORITHMS = 13,
	EXTENDED_MASTER_SECRET = 23,
	SESSION_TICKET = 35,
	PRE_SHARED_KEY = 41,
	SUPPORTED_VERSIONS = 43,
	PSK_KEY_EXCHANGE_MODES = 45,
	KEY_SHARE = 51,
	RENEGOTIATION_INFO = 0xff01,
};

enum {
	MESSAGE_AT = LEAN_HEADER_BYTES,
	RANDOM_AT = MESSAGE_AT + 6,
	SESSION_ID_AT = RANDOM_AT + 32 + 1,
	SESSION_ID_BYTES = 32,
};

/* NULL: not one that is offered with `protocol`. */
static const struct lean_suite *suite_find(uint16_t protocol, uint16_t id)
{
	for (size_t i = 0; i < SUITES; i++)
		if (suites[i].protocol == protocol && suites[i].id == id)
			return &suites[i];
	return NULL;
}

/* ---- the part that is the same in all sessions ---- */

static uint8_t *put_bytes(uint8_t *at, struct bytes b)
{
	memcpy(at, b.at, b.n);
	return at + b.n;
}

static uint8_t *put_extension(uint8_t *at, uint16_t type, size_t n)
{
	return lean_put(lean_put(at, type, 2), n, 2);
}

static uint8_t *put_name(uint8_t *at, const char *name)
{
	size_t n = strlen(name);
	if (n == 0)
		return at;
	at = put_extension(at, SERVER_NAME, n + 5); /* RFC 6066 3 */
	at = lean_put(lean_put(lean_put(at, n + 3, 2), 0, 1), n, 2);
	return put_bytes(at, bytes_of_string(name));
}

/* The first one is lean->group. */
static uint8_t *put_groups(uint8_t *at, struct lean *lean, const char *names)
{
	uint8_t *start = at;
	at = put_extension(at, SUPPORTED_GROUPS, 0) + 2;
	for (struct bytes left = bytes_of_string(names); left.n != 0;) {
		size_t n = bytes_find(left, ':');
		uint16_t group = lean_group_find(bytes_first(left, n));
		if (group == 0)
			return NULL;
		if (lean->group == 0)
			lean->group = group;
		at = lean_put(at, group, 2);
		left = bytes_skip(left, n + 1);
	}
	size_t n = (size_t)(at - start) - 6;
	lean_put(start + 2, n + 2, 2);
	lean_put(start + 4, n, 2);
	return at;
}

static uint8_t *put_signatures(uint8_t *at)
{
	at = lean_put(put_extension(at, SIGNATURE_ALGORITHMS, sizeof signatures + 2),
		sizeof signatures, 2);
	for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++)
		at = lean_put(at, signatures[i], 2);
	return at;
}

static uint8_t *put_for_13(uint8_t *at, const struct lean *lean)
{
	struct bytes share = lean_share(lean->shares, lean->group);
	at = lean_put(lean_put(put_extension(at, SUPPORTED_VERSIONS, 3), 2, 1), TLS_1_3, 2);
	at = lean_put(lean_put(put_extension(at, PSK_KEY_EXCHANGE_MODES, 2), 1, 1), 1,
		1); /* psk_dhe_ke */
	at = lean_put(put_extension(at, KEY_SHARE, share.n + 6), share.n + 4, 2);
	return put_bytes(lean_put(lean_put(at, lean->group, 2), share.n, 2), share);
}

/* The ticket's extension comes last, with each session's own. */
static uint8_t *put_for_12(uint8_t *at)
{
	at = lean_put(put_extension(at, RENEGOTIATION_INFO, 1), 0, 1);
	at = lean_put(lean_put(put_extension(at, EC_POINT_FORMATS, 2), 1, 1), 0, 1);
	return put_extension(at, EXTENDED_MASTER_SECRET, 0);
}

static bool is_wanted(const struct lean_suite *suite, unsigned aes_bits)
{
	return aes_bits == 0 ||
		(strstr(suite->name, "_AES_") != NULL && 8u * suite->key_bytes == aes_bits);
}

/* NULL: no suite is left. */
static uint8_t *put_suites(uint8_t *at, uint16_t protocol, unsigned aes_bits)
{
	uint8_t *start = at;
	at += 2;
	for (size_t i = 0; i < SUITES; i++)
		if (suites[i].protocol == protocol && is_wanted(&suites[i], aes_bits))
			at = lean_put(at, suites[i].id, 2);
	lean_put(start, (size_t)(at - start) - 2, 2);
	return at == start + 2 ? NULL : at;
}

bool lean_hello_prepare(struct lean *lean, const struct lean_config *config)
{
	uint8_t *at = lean->hello + MESSAGE_AT + 4;
	const char *groups = config->groups[0] == '\0' ? "X25519" : config->groups;
	if (strlen(config->sni) > 255 || strlen(groups) > 128)
		return false;
	at = lean_put(at, 0x0303, 2) + 32;
	at = lean_put(at, SESSION_ID_BYTES, 1) +
		SESSION_ID_BYTES; /* for middleboxes (RFC 8446 D.4) */
	at = put_suites(at, lean->protocol, config->aes_bits);
	if (at == NULL)
		return false;
	at = lean_put(at, 0x0100, 2); /* no compression */
	lean->extensions_at = (uint16_t)(at - lean->hello);
	at = put_name(at + 2, config->sni);
	at = put_groups(at, lean, groups);
	if (at == NULL)
		return false;
	at = put_signatures(at);
	at = lean->protocol == TLS_1_3 ? put_for_13(at, lean) : put_for_12(at);
	lean->hello_n = (uint16_t)(at - lean->hello);
	return true;
}

/* ---- a session's own ---- */

/* Differs from session to session, which is all that is asked of it here: splitmix64. */
static uint64_t next_random(struct lean *lean)
{
	uint64_t z = lean->random[0] += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (z ^ z >> 31) + lean->random[1];
}

static void put_random(struct lean *lean, uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; i += 8)
		lean_put(at + i, next_random(lean), 8);
}

/* The template; a session id only where a client of OpenSSL's sends one: a server may look for it
 * in a cache. */
static void put_template(struct lean_slot *s, bool has_id)
{
	const struct lean *lean = s->lean;
	size_t from = has_id ? SESSION_ID_AT : SESSION_ID_AT + SESSION_ID_BYTES;
	memcpy(s->hello, lean->hello, SESSION_ID_AT);
	memcpy(s->hello + SESSION_ID_AT, lean->hello + from, lean->hello_n - from);
	s->hello_n = (uint16_t)(lean->hello_n - (from - SESSION_ID_AT));
	s->extensions_at = (uint16_t)(lean->extensions_at - (from - SESSION_ID_AT));
	put_random(s->lean, s->hello + RANDOM_AT, 32);
	if (has_id)
		put_random(s->lean, s->hello + SESSION_ID_AT, SESSION_ID_BYTES);
	else
		s->hello[SESSION_ID_AT - 1] = 0;
}

static void put_lengths(struct lean_slot *s)
{
	size_t extensions_at = s->extensions_at;
	lean_put(s->hello, LEAN_HANDSHAKE, 1);
	lean_put(s->hello + 1, 0x0301, 2);
	lean_put(s->hello + 3, s->hello_n - MESSAGE_AT, 2);
	lean_put(s->hello + MESSAGE_AT, LEAN_CLIENT_HELLO, 1);
	lean_put(s->hello + MESSAGE_AT + 1, s->hello_n - MESSAGE_AT - 4u, 3);
	lean_put(s->hello + extensions_at, s->hello_n - extensions_at - 2, 2);
}

/* pre_shared_key with one identity and its binder (RFC 8446 4.2.11). */
static void offer_ticket_13(struct lean_slot *s)
{
	const struct lean_ticket *t = &s->ticket;
	const struct lean_suite *suite = suite_find(TLS_1_3, t->suite);
	size_t binder_n = lean_hash_size(suite->is_sha384), identities_n = t->n + 6u;
	uint8_t *at = s->hello + s->hello_n;
	uint32_t age = (uint32_t)((time_monotonic_us() - t->received_us) / USEC_PER_MSEC);
	at = put_extension(at, PRE_SHARED_KEY, 2 + identities_n + 2 + 1 + binder_n);
	at = lean_put(lean_put(at, identities_n, 2), t->n, 2);
	at = lean_put(put_bytes(at, bytes_of(t->at, t->n)), age + t->age_add, 4);
	struct bytes partial =
		bytes_of(s->hello + MESSAGE_AT, (size_t)(at - s->hello) - MESSAGE_AT);
	at = lean_put(lean_put(at, 1 + binder_n, 2), binder_n, 1);
	s->hello_n = (uint16_t)((size_t)(at - s->hello) + binder_n);
	put_lengths(s);
	lean13_bind(s, suite->is_sha384, partial, at);
}

static void offer_ticket_12(struct lean_slot *s)
{
	uint8_t *at = s->hello + s->hello_n;
	at = put_extension(at, SESSION_TICKET, s->has_offered ? s->ticket.n : 0);
	if (s->has_offered)
		at = put_bytes(at, bytes_of(s->ticket.at, s->ticket.n));
	s->hello_n = (uint16_t)(at - s->hello);
	put_lengths(s);
}

bool lean_send_hello(struct lean_slot *s)
{
	struct lean *lean = s->lean;
	s->has_offered = lean->is_resuming && s->ticket.n != 0;
	put_template(s, lean->protocol == TLS_1_3 || s->has_offered);
	if (lean->protocol == TLS_1_2)
		offer_ticket_12(s);
	else if (s->has_offered)
		offer_ticket_13(s);
	else
		put_lengths(s);
	s->state = LEAN_AT_HELLO;
	return lean_send_raw(s, bytes_of(s->hello, s->hello_n));
}

/* ---- ServerHello ---- */

struct server_hello {
	struct bytes random, session_id, share;
	uint16_t suite, protocol, group;
	bool has_psk, has_extended, is_bad;
};

static void on_extension(struct server_hello *hello, uint16_t type, struct bytes body)
{
	struct lean_reader r = {body};
	switch (type) {
	case SUPPORTED_VERSIONS: hello->protocol = (uint16_t)lean_number(&r, 2); break;
	case KEY_SHARE:
		hello->is_bad |= hello->share.at != NULL;
		hello->group = (uint16_t)lean_number(&r, 2);
		hello->share = r.left.n == 0
			? BYTES_NONE
			: lean_vector(&r, 2); /* a retry names only the group */
		break;
	case PRE_SHARED_KEY:
		hello->has_psk = true;
		hello->is_bad |= lean_number(&r, 2) != 0; /* there was one identity */
		break;
	case EXTENDED_MASTER_SECRET: hello->has_extended = true; break;
	default: return; /* nothing we look at */
	}
	hello->is_bad |= r.is_short || r.left.n != 0;
}

static bool parse(struct bytes message, struct server_hello *hello)
{
	struct lean_reader r = {bytes_skip(message, 4)};
	*hello = (struct server_hello){.protocol = (uint16_t)lean_number(&r, 2)};
	hello->random = lean_take(&r, 32);
	hello->session_id = lean_vector(&r, 1);
	hello->suite = (uint16_t)lean_number(&r, 2);
	hello->is_bad = lean_number(&r, 1) != 0; /* compression */
	struct lean_reader extensions = {r.left.n == 0 ? BYTES_NONE : lean_vector(&r, 2)};
	hello->is_bad |= r.is_short || r.left.n != 0 || hello->session_id.n > 32;
	while (extensions.left.n != 0 && !hello->is_bad) {
		uint16_t type = (uint16_t)lean_number(&extensions, 2);
		struct bytes body = lean_vector(&extensions, 2);
		hello->is_bad |= extensions.is_short;
		on_extension(hello, type, body);
	}
	return !hello->is_bad;
}

/* RFC 8446 4.1.3: SHA-256 of "HelloRetryRequest". */
static const uint8_t retry_random[32] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d,
	0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07,
	0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};

static bool accept_13(struct lean_slot *s, const struct server_hello *hello)
{
	uint8_t secret[LEAN_SECRET_MAX];
	struct bytes sent = bytes_of(s->hello + SESSION_ID_AT, SESSION_ID_BYTES);
	if (bytes_equal(hello->random, bytes_of(retry_random, 32)))
		return lean_fail(s, "the server wants another group (HelloRetryRequest)");
	if (!bytes_equal(hello->session_id, sent) || hello->group != s->lean->group)
		return lean_fail(s, "the ServerHello does not answer our ClientHello");
	size_t n = lean_secret(s->lean->shares, hello->group, hello->share, secret);
	if (n == 0)
		return lean_fail(s, "the server's key share is none");
	s->group = hello->group;
	s->is_resumed = hello->has_psk;
	if (hello->has_psk &&
		(!s->has_offered ||
			suite_find(TLS_1_3, s->ticket.suite)->is_sha384 !=
				s->suite->is_sha384))
		return lean_fail(s, "the server resumes what was not offered");
	return lean13_on_server_hello(s, bytes_of(secret, n));
}

static bool accept_12(struct lean_slot *s, const struct server_hello *hello)
{
	struct bytes sent = bytes_of(s->hello + SESSION_ID_AT, SESSION_ID_BYTES);
	memcpy(s->server_random, hello->random.at, 32);
	s->has_extended = hello->has_extended;
	/* RFC 5077 3.4: the id that came with the ticket comes back. */
	s->is_resumed = s->has_offered && bytes_equal(hello->session_id, sent);
	if (s->is_resumed && hello->suite != s->ticket.suite)
		return lean_fail(s, "the server resumes with another suite");
	return lean12_on_server_hello(s);
}

bool lean_on_server_hello(struct lean_slot *s, struct bytes message)
{
	struct server_hello hello;
	if (!parse(message, &hello))
		return lean_fail(s, "the ServerHello cannot be read");
	if (hello.protocol != s->lean->protocol)
		return lean_fail(s, "the server speaks version %04x", hello.protocol);
	s->suite = suite_find(hello.protocol, hello.suite);
	if (s->suite == NULL)
		return lean_fail(
			s, "the server took suite %04x, which was not offered", hello.suite);
	lean_hash_init(&s->transcript, s->suite->is_sha384);
	lean_hash_add(&s->transcript, bytes_of(s->hello + MESSAGE_AT, s->hello_n - MESSAGE_AT));
	lean_hash_add(&s->transcript, message);
	return hello.protocol == TLS_1_3 ? accept_13(s, &hello) : accept_12(s, &hello);
}
