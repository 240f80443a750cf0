// SPDX-License-Identifier: Apache-2.0
/* tls/tls_private.h: what the files of tls/ share: the set with its contexts, the session,
 * verification. */
#pragma once

#include "tls/hello.h"
#include "tls/offload/offload.h"
#include "tls/tls.h"

#include <stdatomic.h>
#include <openssl/bio.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* ---- limits ---- */
enum {
	/* What a session holds of ciphertext the io would not take: two full records and their
	 * headers, since one write may bring a KeyUpdate before its record. Taken from the heap
	 * only while it is needed. */
	TLS_PENDING_BYTES_MAX = 40 * 1024,
	/* Messages after the handshake (KeyUpdate, NewSessionTicket, HelloRequest) a peer may send
	 * for nothing; beyond, one more with each TLS_BYTES_PER_MESSAGE of application data.
	 * OpenSSL itself has no limit. */
	TLS_MESSAGES_FREE = 16,
	TLS_BYTES_PER_MESSAGE = 4096,
	/* All that a peer may send before the handshake is done. Its ClientHello is bounded too
	 * (tls/hello.h): OpenSSL takes room for all of it, up to 128 KiB, as soon as it knows the
	 * length. */
	TLS_HANDSHAKE_BYTES_MAX = 128 * 1024,
	TLS_HELLO_START_BYTES = 9, /* record header and handshake header (RFC 8446 5.1, 4) */
	TLS_VERIFY_DEPTH_MAX = 8,
	TLS_CERT_LIST_BYTES_MAX = 64 * 1024,
	TLS_TICKET_SECONDS = 2 * 60 * 60, /* where nobody has said another lifetime */
	/* How long a session may be resumed again and again on the strength of its first handshake: a
	 * certificate is looked at anew at least so often (RFC 8446 4.6.1). */
	TLS_RESUMED_SECONDS_MAX = 24 * 60 * 60,
	/* A ClientHello that fits into one segment of any path: the least MTU of IPv6 less its headers (RFC 8200 5). */
	TLS_SMALL_HELLO_BYTES = 1200,
	TLS_TICKET_IV_BYTES = 16, /* AES's block */
	TLS_POLICY_BYTES = SSL_MAX_SID_CTX_LENGTH,
	TLS_HOST_BYTES_MAX = 255, /* a DNS name in text */
};

struct tls_lib {
	_Atomic uint32_t references; /* the owner's and one a set: sets are made and freed off the
					worker too */
	OSSL_LIB_CTX *openssl;
	OSSL_PROVIDER *provider; /* OpenSSL's own algorithms */
	OSSL_PROVIDER *ours;	 /* and what we do better: tls/provider/ */
	BIO_METHOD *bio_method;
	struct {
		struct tls_ticket_table *current; /* the sessions' thread's */
		_Atomic(struct tls_ticket_table *) offered, retired;
		EVP_CIPHER *cipher;
	} tickets;
	struct tls_offload *offload;
	struct tls_crypto_port *port; /* to the crypto thread, if one runs */
	struct tls_cache *cache; /* sessions of clients; NULL: none are kept */
};

/* OpenSSL as this process wants it; once, by whoever comes first. */
void tls_process_init(void);
/* Drops one reference. */
void tls_lib_put(struct tls_lib *lib);

/* ---- tickets of a server ---- */
/* Once, at first: keys for those who are given no others. false: no randomness. */
bool tls_tickets_init_process(void);
bool tls_tickets_init(struct tls_lib *lib);
void tls_tickets_fini(struct tls_lib *lib);
/* For contexts of a server set, whose sessions are tls_of_ssl(). */
void tls_tickets_enable(SSL_CTX *ctx);

/* ---- sessions of clients: tls/cache.c ---- */
void tls_cache_destroy(struct tls_cache *cache);
/* For contexts of a client set. */
void tls_cache_enable(SSL_CTX *ctx);
/* The handshake is done and enough was agreed. */
void tls_cache_handshake_done(struct tls *tls);
/* What was offered and did not lead to a session in use is forgotten. */
void tls_cache_closed(struct tls *tls);

/* ---- certificates of a server set ---- */
struct tls_chain {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) * rest; /* intermediates, nearest first; may be empty */
	bool is_rsa;
};

enum { TLS_CHAIN_NONE = UINT32_MAX };

/* Which chains answer to a name: places in the set's chains, or TLS_CHAIN_NONE. */
struct tls_name {
	char *name; /* lower case; "*.example.test" for a wildcard */
	uint32_t ecdsa, rsa;
};

struct tls_names {
	struct tls_name *at; /* by name, for bsearch */
	size_t count, room;
	struct tls_name unnamed; /* for clients without SNI or with a name we do not know */
};

/* A context that takes only chains good enough for every grade, to try them on. NULL: no memory. */
SSL_CTX *tls_chain_judge_create(struct tls_lib *lib);
/* Reads `pair` into `chain`; false with `error` naming the certificate by its place and name. */
bool tls_chain_load(struct tls_lib *lib, SSL_CTX *judge, const struct tls_key_pair *pair,
	size_t index, struct tls_chain *chain, struct tls_error *error);
void tls_chain_fini(struct tls_chain *chain);
/* Adds the names of all chains; the first chain of a name and kind wins. false: no memory. */
bool tls_names_build(struct tls_names *names, const struct tls_chain *chains, size_t chain_count);
void tls_names_fini(struct tls_names *names);
/* NULL: no chain has this name. `sni` may be NULL. */
const struct tls_name *tls_names_find(const struct tls_names *names, const char *sni);

/* ---- sets ---- */
/* A server set and a client set are the same thing inside: one SSL_CTX a profile; a server's
 * session takes the certificates of its SNI name when its ClientHello is there. */
struct tls_set {
	struct tls_lib *lib;
	size_t sessions;
	bool is_server;
	uint8_t backend; /* enum tls_backend */
	bool is_put; /* the owner is gone: the last session frees it */
	size_t profile_count;
	struct tls_profile *profiles;
	SSL_CTX **contexts; /* by profile */
	/* By profile: what a session was made under, and is resumed under only. */
	uint8_t (*policies)[TLS_POLICY_BYTES];
	X509_STORE **stores; /* trusted roots, by profile, each text's once; NULL where it looks at no
				certificates */
	struct tls_chain *chains;
	size_t chain_count;
	struct tls_names names;
};

struct tls_server_set {
	struct tls_set set;
};

struct tls_client_set {
	struct tls_set set;
};

/* Frees `set` if its owner put it and no session is left. */
void tls_set_release(struct tls_set *set);
/* The SSL_CTX of a profile, all but certificates; `roots` may be NULL. NULL with `error` filled. */
SSL_CTX *tls_context_create(struct tls_set *set, const struct tls_profile *profile,
	X509_STORE *roots, struct tls_error *error);
/* Roots from `pem`, or the system's if it is empty; NULL with `error` filled. Reads all of it now,
 * so that no handshake ever opens a file. */
X509_STORE *tls_store_create(struct tls_lib *lib, struct bytes pem, struct tls_error *error);

/* ---- sessions ---- */
enum tls_name_state {
	TLS_NAME_UNASKED, /* nothing to compare with */
	TLS_NAME_MATCHES,
	TLS_NAME_DIFFERS,
};

struct tls {
	SSL *ssl;
	struct tls_set *set;
	const struct tls_profile *profile; /* in the set, which lives as long */
	struct tls_io io;
	struct tls_task task; /* the handshake, where it may wait */
	uint8_t *pending; /* ciphertext the io would not take yet; NULL if none */
	uint32_t pending_head, pending_tail, pending_room;
	uint32_t messages;	  /* of the handshake protocol, received after the handshake */
	uint64_t received;	  /* bytes of application data */
	uint32_t handshake_bytes; /* received before it was done */
	uint8_t hello_start[TLS_HELLO_START_BYTES];
	const char *cut; /* why nothing more is read from the peer; NULL: it is */
	bool is_done;	 /* handshake done */
	int returned;	 /* by SSL_do_handshake() */
	bool has_sent_close;
	/* client: */
	bool has_destination, has_offered; /* sessions are kept under the key; one was offered */
	bool is_hello_small;
	uint32_t hello_bytes;	 /* of our ClientHello */
	EVP_PKEY *first_share;	 /* in it, while the handshake goes on; may be NULL */
	uint8_t session_key[32]; /* in the cache */
	int64_t session_began;	 /* the full handshake; seconds since 1970 */
	uint8_t failure;    /* enum tls_failure_kind */
	uint8_t name_state; /* enum tls_name_state */
	bool has_verified;  /* the peer's chain was looked at: trust_error holds */
	bool has_refused;   /* and refused, as the level asks */
	int trust_error;    /* X509_V_… */
	X509 *refused_leaf; /* kept for the record; OpenSSL forgets a refused one */
	char *failure_text; /* on the heap; NULL if none */
	char *domain;	    /* in the same block as the host; "" if none */
	char host[];	    /* client: the server's name; server: "" */
};

struct tls *tls_of_ssl(const SSL *ssl);
/* The BIO over struct tls_io; `type` is the process's number for it. NULL: no memory. */
BIO_METHOD *tls_bio_method_create(int type);
/* OpenSSL's callback for every message: counts those that come after the handshake. */
void tls_message_seen(
	int is_sent, int version, int type, const void *message, size_t n, SSL *ssl, void *unused);

/* OpenSSL's callback for a chain received: X509_verify_cert, our name check, and the level's
 * decision. */
int tls_verify_peer(X509_STORE_CTX *store, void *unused);
/* Is the peer's `leaf` trusted by the roots of the set's profile with this id? X509_V_…: what the
 * handshake found (`trust_error`), or where it was done with other roots, what a new look finds. */
int tls_trust_by_profile(
	const struct tls *tls, X509 *leaf, int trust_error, const char *profile_id);
/* Must a peer's certificate be trusted under `profile`? On a server: must there be one, too. */
bool tls_profile_enforces_trust(const struct tls_profile *profile, bool is_server);
bool tls_profile_asks_for_certificate(const struct tls_profile *profile, bool is_server);
/* Is a name that differs a reason to refuse? Below that it is noted only. */
bool tls_profile_enforces_name(const struct tls_profile *profile, bool is_server);
/* Does `leaf` carry one of the profile's names, or at SECURE the host or domain? */
enum tls_name_state tls_name_check(X509 *leaf, const struct tls_profile *profile, bool is_server,
	const char *host, const char *domain);

/* ---- words ---- */
void tls_error_set(struct tls_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Empties OpenSSL's queue of errors, which SSL_get_error() looks at. */
void tls_errors_clear(void);
/* The reason of the oldest error in OpenSSL's queue, which is then cleared; `otherwise` if there is
 * none. */
const char *tls_openssl_reason(const char *otherwise);
/* "CN=mx.example.test,O=Example"; cut where it does not fit. */
void tls_name_text(const X509_NAME *name, char *to, size_t size);
/* Why a key is not one for a server; NULL: it is. */
const char *tls_key_unusable(EVP_PKEY *key);
/* A pem_password_cb that never asks a terminal: a text that needs a password is refused. */
int tls_no_password(char *to, int room, int is_writing, void *user);
