// SPDX-License-Identifier: Apache-2.0
#include "tls/tls_private.h"

#include "base/clock.h"
#include "tls/offload/crypto.h"

#include "tls/provider/provider.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <threads.h>

/* ---- what a grade means ---- */

/* The suites we speak, in our order, which counts on a server; ECDSA before RSA, since its signature costs a
 * fifth. AES-128 before AES-256: nobody can try 2^128 keys, TLS 1.3 has it as the one suite that all must speak
 * (RFC 8446 9.1), and its hash is SHA-256, for which processors have instructions, which in a handshake
 * counts (bench/README.md). Who wants 256 bits asks for them (`bits`). All have forward secrecy. OpenSSL's
 * names, as its list settings want them. */
static const struct tls_suite {
	const char *name;
	uint16_t protocol; /* TLS_1_3: a cipher suite of its own kind (RFC 8446 B.4) */
	uint16_t bits;
	bool is_aead;
} suites[] = {
	{"TLS_AES_128_GCM_SHA256",	   TLS_1_3, 128, true },
	{"TLS_AES_256_GCM_SHA384",	   TLS_1_3, 256, true },
	{"TLS_CHACHA20_POLY1305_SHA256",	 TLS_1_3, 256, true },
	{"ECDHE-ECDSA-AES128-GCM-SHA256", TLS_1_2, 128, true },
	{"ECDHE-ECDSA-AES256-GCM-SHA384", TLS_1_2, 256, true },
	{"ECDHE-ECDSA-CHACHA20-POLY1305", TLS_1_2, 256, true },
	{"ECDHE-RSA-AES128-GCM-SHA256",	TLS_1_2, 128, true },
	{"ECDHE-RSA-AES256-GCM-SHA384",	TLS_1_2, 256, true },
	{"ECDHE-RSA-CHACHA20-POLY1305",	TLS_1_2, 256, true },
	{"ECDHE-ECDSA-AES128-SHA256",     TLS_1_2, 128, false},
	{"ECDHE-ECDSA-AES256-SHA384",     TLS_1_2, 256, false},
	{"ECDHE-RSA-AES128-SHA256",	    TLS_1_2, 128, false},
	{"ECDHE-RSA-AES256-SHA384",	    TLS_1_2, 256, false},
	{"ECDHE-ECDSA-AES128-SHA",	   TLS_1_0, 128, false},
	{"ECDHE-ECDSA-AES256-SHA",	   TLS_1_0, 256, false},
	{"ECDHE-RSA-AES128-SHA",		 TLS_1_0, 128, false},
	{"ECDHE-RSA-AES256-SHA",		 TLS_1_0, 256, false},
};

/* OpenSSL's security level (SSL_CTX_set_security_level(3)) by grade: 1 takes keys of a peer from
 * 1024 bits RSA, 2 from 2048 bits RSA and 224 bits EC. */
static const int security_levels[] = {
	[TLS_GRADE_MEDIUM] = 1,
	[TLS_GRADE_HIGH] = 2,
	[TLS_GRADE_MODERN] = 2,
};

/* Our order counts, on the server: a client that can do both gets the ECDSA chain. */
#define SIGNATURES                                                                                 \
	"ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519:"            \
	"rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"                             \
	"rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512"
#define SIGNATURES_LEGACY SIGNATURES ":ECDSA+SHA1:RSA+SHA1"

/* A client sends a key share for the starred ones, so that neither kind of server asks for another
 * round; the finite-field groups are left out (their cost falls on the server). */
#define GROUPS_SERVER "X25519MLKEM768:X25519:P-256:P-384"
#define GROUPS_CLIENT "*X25519MLKEM768:*X25519:P-256:P-384"

/* The list without the groups whose key share is larger than all else of a ClientHello; false: no other is left. */
static bool small_groups(const char *groups, char to[TLS_GROUPS_MAX])
{
	to[0] = '\0';
	for (size_t n; *groups != '\0'; groups += n + (groups[n] != '\0')) {
		char name[TLS_GROUPS_MAX];
		n = strcspn(groups, ":/");
		bytes_to_string(bytes_of(groups, n), name, sizeof name);
		if (n == 0 || strcasestr(name, "MLKEM") != NULL || strcasestr(name, "DEFAULT") != NULL)
			continue;
		size_t at = strlen(to);
		snprintf(to + at, TLS_GROUPS_MAX - at, "%s%s", at == 0 ? "" : ":", name);
	}
	return to[0] != '\0';
}

bool tls_use_small_hello(struct tls *tls)
{
	char groups[TLS_GROUPS_MAX];
	const char *own = tls->profile->groups;
	if (!small_groups(own[0] == '\0' ? GROUPS_CLIENT : own, groups) ||
		SSL_set1_groups_list(tls->ssl, groups) != 1) {
		ERR_clear_error();
		return false;
	}
	tls->is_hello_small = true;
	return true;
}

bool tls_wants_small_hello(const struct tls *tls)
{
	char groups[TLS_GROUPS_MAX];
	const char *own = tls->profile->groups;
	return !tls->set->is_server && !tls->is_done && !tls->is_hello_small && tls->handshake_bytes == 0 &&
		tls->hello_bytes > TLS_SMALL_HELLO_BYTES &&
		small_groups(own[0] == '\0' ? GROUPS_CLIENT : own, groups);
}

/* ---- library context ---- */

static bool has_ticket_keys;
static int bio_type;
static once_flag process_once = ONCE_FLAG_INIT;

static void process_init(void)
{
	/* The host's openssl.cnf has no say: what is allowed is said by profiles alone. */
	OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS, NULL);
	bio_type = BIO_get_new_index();
	has_ticket_keys = tls_tickets_init_process();
}

void tls_process_init(void)
{
	call_once(&process_once, process_init);
}

/* Of sessions that are gone the crypto thread may still have operations; it keeps none for long, or it is stuck
 * (tls/offload/offload.h). false: it is, and may still write there. */
static bool lib_close_port(struct tls_lib *lib)
{
	while (lib->port != NULL && tls_offload_waiting(lib->offload) != 0)
		if (!tls_offload_poll(lib->offload, time_monotonic_us() * 1000, true))
			thrd_sleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	if (lib->port != NULL && tls_offload_has_lost(lib->offload))
		return false;
	tls_crypto_port_close(lib->port);
	return true;
}

void tls_lib_put(struct tls_lib *lib)
{
	if (--lib->references != 0)
		return;
	bool is_port_closed = lib_close_port(lib);
	tls_tickets_fini(lib);
	tls_cache_destroy(lib->cache);
	BIO_meth_free(lib->bio_method);
	if (is_port_closed) { /* else the stuck thread keeps what its operations are in, and their keys of */
		OSSL_PROVIDER_unload(lib->ours);
		OSSL_PROVIDER_unload(lib->provider);
		OSSL_LIB_CTX_free(lib->openssl);
		tls_offload_destroy(lib->offload);
	}
	free(lib);
}

struct tls_lib *tls_lib_create(void)
{
	tls_process_init();
	struct tls_lib *lib = calloc(1, sizeof *lib);
	if (lib == NULL)
		return NULL;
	lib->references = 1;
	lib->openssl = OSSL_LIB_CTX_new();
	if (lib->openssl != NULL)
		lib->provider = OSSL_PROVIDER_load(lib->openssl, "default");
	lib->offload = tls_offload_create(lib->openssl);
	if (lib->provider != NULL && lib->offload != NULL)
		lib->ours = tls_provider_load(lib->openssl, lib->offload);
	if (lib->offload != NULL)
		lib->port = tls_crypto_port_open(lib->offload);
	lib->bio_method = tls_bio_method_create(bio_type | BIO_TYPE_SOURCE_SINK);
	if (lib->ours == NULL || lib->bio_method == NULL ||
		!has_ticket_keys || !tls_tickets_init(lib)) {
		tls_lib_destroy(lib);
		return NULL;
	}
	return lib;
}

void tls_lib_destroy(struct tls_lib *lib)
{
	if (lib != NULL)
		tls_lib_put(lib);
}

/* ---- its offload ---- */

const char *tls_backend_unusable(const struct tls_lib *lib, enum tls_backend backend)
{
	return tls_offload_unusable(lib->offload, backend);
}

bool tls_lib_poll(struct tls_lib *lib, uint64_t now_ns, bool is_idle)
{
	return tls_offload_poll(lib->offload, now_ns, is_idle);
}

uint32_t tls_lib_waiting(const struct tls_lib *lib)
{
	return tls_offload_waiting(lib->offload);
}

void tls_lib_set_deadline(struct tls_lib *lib, uint32_t deadline_us)
{
	tls_offload_set_deadline(lib->offload, deadline_us);
}

const struct tls_offload_counters *tls_lib_counters(const struct tls_lib *lib)
{
	return tls_offload_counters(lib->offload);
}

/* ---- one context ---- */

bool tls_profile_asks_for_certificate(const struct tls_profile *profile, bool is_server)
{
	return !is_server || profile->client_cert != TLS_CLIENT_CERT_NONE ||
		profile->level >= TLS_LEVEL_VERIFY;
}

bool tls_profile_enforces_trust(const struct tls_profile *profile, bool is_server)
{
	return profile->level >= TLS_LEVEL_VERIFY ||
		(is_server && profile->client_cert == TLS_CLIENT_CERT_REQUIRE);
}

static uint16_t protocol_floor(const struct tls_profile *profile)
{
	return profile->protocol_lowest == 0 ? TLS_1_2 : profile->protocol_lowest;
}

static bool is_legacy(const struct tls_profile *profile)
{
	return protocol_floor(profile) < TLS_1_2;
}

static bool set_protocols(SSL_CTX *ctx, const struct tls_profile *p, struct tls_error *error)
{
	uint16_t lowest = protocol_floor(p), highest = p->protocol_highest;
	if (lowest < TLS_1_0 || lowest > TLS_1_3 || highest > TLS_1_3 ||
		(highest != 0 && highest < lowest)) {
		tls_error_set(error, "profile %s: no TLS version from 0x%04x to 0x%04x", p->id,
			lowest, highest);
		return false;
	}
	return SSL_CTX_set_min_proto_version(ctx, lowest) == 1 &&
		SSL_CTX_set_max_proto_version(ctx, highest) == 1;
}

static bool suite_fits(const struct tls_suite *suite, const struct tls_profile *p)
{
	return suite->bits >= p->bits_least && (suite->is_aead || p->grade != TLS_GRADE_MODERN);
}

static void suite_append(char *list, size_t size, const char *name)
{
	size_t n = strlen(list);
	snprintf(list + n, size - n, "%s%s", n == 0 ? "" : ":", name);
}

static bool set_ciphers(SSL_CTX *ctx, const struct tls_profile *p, struct tls_error *error)
{
	char tls13[256] = "", older[1024] = "";
	for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
		if (!suite_fits(&suites[i], p))
			continue;
		if (suites[i].protocol == TLS_1_3)
			suite_append(tls13, sizeof tls13, suites[i].name);
		else
			suite_append(older, sizeof older, suites[i].name);
	}
	if (tls13[0] == '\0') {
		tls_error_set(error, "profile %s: no cipher has %u bits", p->id, p->bits_least);
		return false;
	}
	return SSL_CTX_set_ciphersuites(ctx, tls13) == 1 &&
		SSL_CTX_set_cipher_list(ctx, older) == 1;
}

static bool set_groups(SSL_CTX *ctx, const struct tls_set *set, const struct tls_profile *p,
	struct tls_error *error)
{
	const char *ours = set->is_server ? GROUPS_SERVER : GROUPS_CLIENT;
	const char *groups = p->groups[0] == '\0' ? ours : p->groups;
	if (SSL_CTX_set1_groups_list(ctx, groups) == 1)
		return true;
	tls_error_set(error,
		"profile %s: groups '%s' are not known to OpenSSL (known, for one: %s)", p->id,
		groups, GROUPS_SERVER);
	return false;
}

static void set_options(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx,
		SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
			SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION |
			SSL_OP_NO_TX_CERTIFICATE_COMPRESSION);
	SSL_CTX_set_mode(ctx,
		SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
			SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_max_cert_list(ctx, TLS_CERT_LIST_BYTES_MAX);
}

static void set_verification(
	SSL_CTX *ctx, const struct tls_set *set, const struct tls_profile *p, X509_STORE *roots)
{
	int mode = SSL_VERIFY_NONE;
	if (tls_profile_asks_for_certificate(p, set->is_server))
		mode = SSL_VERIFY_PEER;
	if (set->is_server && tls_profile_enforces_trust(p, true))
		mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	SSL_CTX_set_verify(ctx, mode, NULL);
	SSL_CTX_set_verify_depth(ctx, TLS_VERIFY_DEPTH_MAX);
	SSL_CTX_set_cert_verify_callback(ctx, tls_verify_peer, NULL);
	if (roots != NULL)
		SSL_CTX_set1_cert_store(ctx, roots);
}

SSL_CTX *tls_context_create(struct tls_set *set, const struct tls_profile *profile,
	X509_STORE *roots, struct tls_error *error)
{
	SSL_CTX *ctx = SSL_CTX_new_ex(set->lib->openssl,
		set->backend == TLS_BACKEND_INLINE ? NULL
			: set->is_server	   ? TLS_PROVIDER_OFFLOAD
						   : TLS_PROVIDER_OFFLOAD_CLIENT,
		set->is_server ? TLS_server_method() : TLS_client_method());
	if (ctx == NULL) {
		tls_error_set(
			error, "profile %s: %s", profile->id, tls_openssl_reason("no memory"));
		return NULL;
	}
	bool legacy = is_legacy(profile);
	if (profile->grade > TLS_GRADE_MODERN || profile->level > TLS_LEVEL_SECURE) {
		tls_error_set(error, "profile %s: no such grade or level", profile->id);
		goto undo_ctx;
	}
	/* First of all: what follows is checked against it. TLS 1.0 and 1.1 sign with SHA-1. */
	SSL_CTX_set_security_level(ctx, legacy ? 0 : security_levels[profile->grade]);
	set_options(ctx);
	error->text[0] = '\0';
	if (!set_protocols(ctx, profile, error) || !set_ciphers(ctx, profile, error) ||
		!set_groups(ctx, set, profile, error) ||
		SSL_CTX_set1_sigalgs_list(ctx, legacy ? SIGNATURES_LEGACY : SIGNATURES) != 1) {
		if (error->text[0] == '\0')
			tls_error_set(error, "profile %s: %s", profile->id,
				tls_openssl_reason("its settings are refused by OpenSSL"));
		goto undo_ctx;
	}
	set_verification(ctx, set, profile, roots);
	SSL_CTX_set_msg_callback(ctx, tls_message_seen);
	if (set->is_server)
		tls_tickets_enable(ctx);
	else if (set->lib->cache != NULL)
		tls_cache_enable(ctx);
	else
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	return ctx;
undo_ctx:
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return NULL;
}
