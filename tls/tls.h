// SPDX-License-Identifier: Apache-2.0
/* tls/tls.h: TLS sessions over byte streams. Ciphertext in, plaintext out; knows neither sockets nor SMTP.
 *
 * A context belongs to one thread, and so do its sessions (each core has its own OSSL_LIB_CTX, so that
 * cores share no lock and no reference count: OpenSSL 3 takes both for every algorithm it finds). Building and freeing a context may take
 * milliseconds and is done off the worker's loop, by handing it over before its first and after its last
 * session. Replacing a context leaves live sessions alone. */
#pragma once

#include "base/bytes.h"
#include "tls/profile.h"
#include "tls/ticket_keys.h"

/* ---- library context: one a core ---- */
struct tls_lib;
struct tls_lib *tls_lib_create(void); /* NULL: no memory */
/* Sets hold on to it: freed with the last of them. Not while another thread still has sessions on it. */
void tls_lib_destroy(struct tls_lib *lib);
/* The keys of session tickets for all server sessions from now on, copied; an empty table: no tickets. Before
 * the first call they are keys made with the process, which last as long as it. From one thread at a time, which
 * need not be the sessions'. false: no memory. */
bool tls_lib_set_ticket_keys(struct tls_lib *lib, const struct tls_ticket_keys *keys);

/* Sessions of clients are kept for tls_set_destination(): `count` at most, of 4 KiB on average, for `lifetime_seconds` or as
 * long as the server says, and a day after their first handshake at most; 0: none. Once, before the first client
 * set. false: no memory. */
bool tls_lib_keep_sessions(struct tls_lib *lib, uint32_t count, unsigned lifetime_seconds);

/* ---- where the asymmetric work is done ---- */
/* Chosen for each set, so that a node changes by building its sets anew: new handshakes only.
 *   INLINE  OpenSSL, within tls_handshake()
 *   MB      RSA and X25519 of many handshakes together, by libcrypto-mb: they wait (TLS_WAIT) and are called (wake)
 *   ENGINE  as MB, but the work is done by the process's crypto thread */
#define TLS_BACKENDS(_) _(INLINE, "inline") _(MB, "mb") _(ENGINE, "engine")

enum tls_backend {
#define _(id, name) TLS_BACKEND_##id,
	TLS_BACKENDS(_)
#undef _
};
/* "mb" */
const char *tls_backend_name(enum tls_backend backend);
/* NULL: a set of `lib` can have it. Else why not, for a log line: "the processor has no AVX512-IFMA". */
const char *tls_backend_unusable(const struct tls_lib *lib, enum tls_backend backend);

/* For a core with sets of MB or ENGINE, once a turn: does what waits, as far as it is time. `now_ns`: a clock that
 * goes on. `is_idle`: this turn brought no packet and called no handshake that had waited, so that no company is in
 * sight for the ops that wait. true: something was done (handshakes are called). */
bool tls_lib_poll(struct tls_lib *lib, uint64_t now_ns, bool is_idle);
/* Operations that wait or are out: as long as there are any the core must go on polling, without sleep. */
uint32_t tls_lib_waiting(const struct tls_lib *lib);
/* How long an operation waits for company while packets keep coming; 10 ms at most. 200 us at first. */
void tls_lib_set_deadline(struct tls_lib *lib, uint32_t deadline_us);

#define TLS_OP_KINDS(_)                                                                            \
	_(RSA_2048, "rsa-2048") _(RSA_3072, "rsa-3072") _(RSA_4096, "rsa-4096") _(X25519, "x25519")

enum tls_op_kind {
#define _(id, name) TLS_OP_##id,
	TLS_OP_KINDS(_)
#undef _
	TLS_OP_KIND_COUNT,
};
/* "rsa-2048" */
const char *tls_op_name(enum tls_op_kind kind);

/* Since start; written by the core alone, and every word may be read by another thread at any time. */
struct tls_offload_counters {
	struct {
		uint64_t ops;	     /* given to the back end */
		uint64_t batches[8]; /* done together: [n - 1] batches of n */
		uint64_t scalar;     /* done by OpenSSL one at a time: of `ops`, and those that never waited */
		uint64_t faults;     /* results that did not pass their check and were done again */
		uint64_t batch_ns, scalar_ns;
	} kind[TLS_OP_KIND_COUNT];
	uint64_t cancelled; /* ops whose handshake was closed */
	uint64_t lost;	    /* ops that the engine's thread did not give back in time: OpenSSL did them */
	uint64_t no_fibre;  /* runs of a handshake that found no fibre, and did not wait */
	uint64_t no_op;	    /* ops that found no room and were done at once */
	uint64_t keys;	    /* ephemeral X25519 keys made ahead, eight at a time */
	uint64_t keys_ns;
};
const struct tls_offload_counters *tls_lib_counters(const struct tls_lib *lib);

/* ---- certificates ---- */
/* One name's certificates: the chains answer by SNI to the leaf's DNS names. Of the same names there may be
 * one ECDSA and one RSA chain; a client that can do both gets ECDSA. */
struct tls_key_pair {
	struct bytes chain_pem; /* leaf first, then intermediates */
	struct bytes key_pem;	/* unencrypted PKCS#8 or traditional */
};
struct tls_error {
	char text[256]; /* what happened and to which certificate or setting; "" if nothing */
};

/* ---- the crypto thread ---- */
/* What ENGINE needs: a thread that serves all cores of the process, with an OpenSSL engine (tls/offload/crypto.h). */
struct tls_crypto_config {
	const char *engine; /* "qatengine", of OpenSSL's folder of engines; with a '/' in it, a file */
	/* What the engine does itself, by qatengine's bits: 0x1 RSA, 0x20 X25519. Nothing else is given to it. */
	uint32_t hardware_algorithms, software_algorithms;
};
#define TLS_CRYPTO_ALGORITHMS_DEFAULT 0x21

/* Loads the engine, tries whether it does anything here, and starts the thread, one a process. false with the reason
 * in `error`. Takes some 100 ms, five seconds at most: an engine that has not come back by then is left alone for good; a
 * thread that may wait. Sets of ENGINE that are made while it runs use it. */
bool tls_crypto_start(const struct tls_crypto_config *config, struct tls_error *error);
/* Does what it still has, ends the thread and unloads the engine: sets of ENGINE do their work inline from then on. A thread
 * that does not end within two seconds is left behind.
 * The same thread as tls_crypto_start(). Nothing if there is none. */
void tls_crypto_stop(void);

/* Since the start of the process; any thread. */
struct tls_crypto_counters {
	uint64_t ops;	   /* taken from the cores */
	uint64_t scalar;   /* of them, done by OpenSSL: too few of their kind at a time, or the engine is broken */
	uint64_t batches;  /* given to QAT_SW, eight at a time */
	uint64_t padding;  /* places in them that nobody had asked for */
	uint64_t faults;   /* results that did not pass their check: OpenSSL did them again */
	uint64_t timeouts; /* ops the engine kept for too long */
	uint64_t sleeps;   /* of the thread, with nothing to do */
};
void tls_crypto_get_counters(struct tls_crypto_counters *counters);
/* "qatengine, hardware", "qatengine, software"; "" if there is none. What OpenSSL does in its place, and why: ends in ",
 * broken" where the engine has kept an operation for too long, in ", silent" where its thread has. */
void tls_crypto_describe(char *to, size_t size);

/* ---- server contexts: a set for all profiles and names of a generation, for one core ---- */
struct tls_server_set;
/* What profiles mean for a server: client_cert ASK records what a client shows; REQUIRE, and the levels VERIFY
 * and SECURE, end the handshake unless it shows a certificate that its CA set trusts; those two levels also
 * ask for one of `names`, if there are any. A session is resumed by its ticket (by whoever has the ticket keys, also
 * after the set was replaced, for a day after its first handshake at most) only under a profile of the same id, level
 * and client_cert, and of the same names and CA set where it looks at certificates; and only where tls_set_listener()
 * said the same. */
struct tls_server_set_config {
	/* The first is the default, for clients without SNI or with a name of no pair; with it the first pair
	 * of the other key type that shares a name with it. RSA from 2048 bits, ECDSA from 224. */
	const struct tls_key_pair *pairs;
	size_t pair_count;
	const struct tls_profile *profiles; /* sessions name a profile by its place here */
	size_t profile_count;
	struct bytes client_ca_pem; /* CA set for client certificates; empty: the system's */
	const struct bytes *profile_ca_pem; /* one a profile, or NULL: all use client_ca_pem; an empty one
					       likewise */
	enum tls_backend backend; /* one that is not usable is INLINE */
};
/* Copies what it needs of `config`. NULL with `error` filled if a chain, key or profile is not usable. */
struct tls_server_set *tls_server_set_create(
	struct tls_lib *lib, const struct tls_server_set_config *config, struct tls_error *error);
/* Drops the owner's reference; freed when the last session on it closes. Same thread as the sessions, or
 * any thread when there are no sessions any more. */
void tls_server_set_put(struct tls_server_set *set);
/* Live sessions on the set. */
size_t tls_server_set_sessions(const struct tls_server_set *set);

/* ---- client contexts ---- */
struct tls_client_set;
struct tls_client_set_config {
	const struct tls_profile *profiles;
	size_t profile_count;
	struct bytes ca_pem; /* trusted roots, PEM; empty: the system's store */
	const struct bytes *profile_ca_pem; /* one a profile, or NULL: all use ca_pem; an empty one likewise */
	enum tls_backend backend; /* one that is not usable is INLINE */
};
/* As tls_server_set_create() and the two after it. */
struct tls_client_set *tls_client_set_create(
	struct tls_lib *lib, const struct tls_client_set_config *config, struct tls_error *error);
void tls_client_set_put(struct tls_client_set *set);
size_t tls_client_set_sessions(const struct tls_client_set *set);

/* ---- sessions ---- */
/* Where ciphertext comes from and goes to. Both return the bytes moved, 0 when nothing can be moved now
 * (nothing there, no room). Called only from within tls_handshake/read/write. */
struct tls_io {
	size_t (*read)(void *user, uint8_t *to, size_t room);
	size_t (*write)(void *user, const uint8_t *from, size_t n);
	void *user;
	/* After TLS_WAIT: it is time to call tls_handshake() again. From within tls_lib_poll(), and only to note
	 * it: no tls_… is called from here. Once each TLS_WAIT, not after tls_close(). May be NULL for sets of
	 * INLINE. */
	void (*wake)(void *user);
};

struct tls;
/* NULL: no memory, or `profile` is not below the count of the set. */
struct tls *tls_open_server(struct tls_server_set *set, uint32_t profile, struct tls_io io);
/* Before the handshake: the session is resumed only by sessions that say the same name here. */
void tls_set_listener(struct tls *tls, const char *name);
/* `host`: the name for SNI and, at level SECURE, to be found in the certificate (the MX host);
 * `domain`: the next-hop domain, also accepted at SECURE; may be "". */
struct tls *tls_open_client(struct tls_client_set *set, uint32_t profile, struct tls_io io,
	const char *host, const char *domain);
/* Before the handshake, after tls_use_small_hello(): where it leads to (address and port, say). If a session is
 * kept that was made there for the same host and (at SECURE) domain, and under a profile of the same id, level, names
 * and CA set, it is offered, and what comes of this one is kept. A session of TLS 1.3 is offered once (RFC 8446 C.4). */
void tls_set_destination(struct tls *tls, struct bytes destination);
/* Of a handshake that failed: a kept session was offered and may be why, so that another without is worth it. Not where the
 * server went on to a full handshake and was refused for its certificate or what it agreed to: it would do the same
 * again. The session is forgotten when this one is closed. */
bool tls_is_session_suspect(const struct tls *tls);
/* Before the handshake: no key share that makes the ClientHello larger than a segment. false: the profile allows
 * no group but those; then nothing has changed. */
bool tls_use_small_hello(struct tls *tls);
/* Nothing has come from the server, our ClientHello was larger than a segment of 1,200 bytes, and a smaller one
 * is possible: perhaps something on the way could not stand it. */
bool tls_wants_small_hello(const struct tls *tls);
/* Frees at once, also with an operation out; sends nothing (tls_shutdown before, where the peer should learn of it). */
void tls_close(struct tls *tls);

enum tls_result {
	TLS_OK,	   /* done; bytes moved where bytes were asked for */
	TLS_AGAIN, /* wants input, or room for output: call again after either */
	TLS_WAIT,  /* tls_handshake() only: an operation is out; call again after `wake`. Earlier does no harm */
	TLS_EOF,   /* close_notify received */
	TLS_FAIL,  /* see tls_failure(); close the connection */
};

/* Goes on with the handshake. TLS_OK once it is done, the profile's protocol floor, grade and least bits
 * hold, and (client) the level's verification holds. A failed verification is TLS_FAIL at levels that
 * enforce it, and only recorded at the others. */
enum tls_result tls_handshake(struct tls *tls);
/* Up to `room` bytes of plaintext; `*n` is 0 unless TLS_OK. */
enum tls_result tls_read(struct tls *tls, uint8_t *to, size_t room, size_t *n);
/* Takes as much of `from` as goes (`*n`); after TLS_AGAIN nothing was taken, and any bytes may come next. It
 * takes a record (16 KiB) even if the io has no room: what does not fit waits in the session. */
enum tls_result tls_write(struct tls *tls, struct bytes from, size_t *n);
/* Sends close_notify; what has no room waits (tls_has_output). Nothing before the handshake is done or after
 * a failure. Reading goes on until TLS_EOF. */
void tls_shutdown(struct tls *tls);
/* Has the session ciphertext that the io would not take yet? Then call tls_write or tls_flush again; also
 * after tls_handshake gave TLS_OK, and after TLS_FAIL, where it is the alert that tells the peer why. */
bool tls_has_output(const struct tls *tls);
enum tls_result tls_flush(struct tls *tls);

/* sendmail's words for the outcome of verification (its macro ${verify}), which readers of records know. */
#define TLS_VERIFY_WORDS(_) _(OK) _(NO) _(NOT) _(NONE) _(FAIL) _(TEMP) _(PROTOCOL) _(SOFTWARE)

enum tls_verify {
#define _(id) TLS_VERIFY_##id,
	TLS_VERIFY_WORDS(_)
#undef _
};

/* What was agreed and found, for records, the Received field and rules of the mail stage. Valid as a copy. */
struct tls_verdict {
	bool is_tls;		/* false: the leg was in clear or the handshake failed; all else is then empty,
				   but for what was found of a refused peer: verify …, cert_…, sni */
	uint16_t protocol;	/* TLS_1_x */
	char cipher[48];	/* IANA name: TLS_AES_256_GCM_SHA384 */
	uint16_t bits, bits_total; /* used / of the algorithm */
	char group[32];		/* of the key exchange: X25519MLKEM768 */
	bool is_resumed;
	uint8_t verify;		/* enum tls_verify; kept also where nobody enforced it */
	char verify_message[96]; /* "" if all is well; also "certificate is for another name …" where verify is
				    OK because the level does not ask for a name */
	char cert_subject[128], cert_issuer[128]; /* of the peer; "" if it sent none */
	char sni[128];		/* server: the name the client asked for */
};
/* `tls` may be NULL: a leg in clear. */
void tls_get_verdict(const struct tls *tls, struct tls_verdict *verdict);
/* Only protocol and cipher, the latter a text that lives on; allocates nothing. NULL: not agreed yet. */
const char *tls_agreed(const struct tls *tls, uint16_t *protocol);
/* The same of the group; "": none, or not agreed yet. */
const char *tls_agreed_group(const struct tls *tls);
/* "TLSv1.3" */
const char *tls_protocol_name(uint16_t protocol);

/* The same as a few numbers, to be counted by. */
#define TLS_GROUPS(_) _(X25519MLKEM768, "X25519MLKEM768") _(X25519, "X25519") _(P256, "P-256") _(P384, "P-384") \
	_(OTHER, "other") _(NONE, "none")
/* Of the server's certificate, by the signature it made; none was made where a session is resumed, or before that
 * part of the handshake. */
#define TLS_KEYS(_) _(ECDSA, "ecdsa") _(RSA, "rsa") _(OTHER, "other") _(NONE, "none")

enum tls_group {
#define _(id, name) TLS_GROUP_##id,
	TLS_GROUPS(_)
#undef _
	TLS_GROUP_COUNT
};
enum tls_key {
#define _(id, name) TLS_KEY_##id,
	TLS_KEYS(_)
#undef _
	TLS_KEY_COUNT
};
struct tls_agreement {
	uint16_t protocol; /* TLS_1_x; 0: not agreed */
	uint8_t group;	   /* enum tls_group */
	uint8_t key;	   /* enum tls_key */
	bool is_resumed;
	uint16_t key_bits; /* a server's own, where `key` is not NONE; else 0 */
};
/* At any time, also after a failure: as far as it got. Allocates nothing. */
struct tls_agreement tls_get_agreement(const struct tls *tls);
const char *tls_group_name(enum tls_group group);
const char *tls_key_name(enum tls_key key);
const char *tls_verify_name(enum tls_verify verify);

/* Why TLS_FAIL: a sentence of ours plus OpenSSL's reason; "" before. Valid until tls_close. */
enum tls_failure_kind {
	TLS_FAILURE_NONE,
	TLS_FAILURE_HANDSHAKE, /* alert, garbage, no common version, cipher or group */
	TLS_FAILURE_UNTRUSTED, /* chain does not end in the CA set, or is expired or self-signed */
	TLS_FAILURE_NAME,      /* trusted, but for another name */
	TLS_FAILURE_WEAK,      /* agreed less than the profile asks for */
	TLS_FAILURE_NO_CERT,   /* a client certificate was required and none came */
	TLS_FAILURE_PEER,      /* record layer error or alert after the handshake */
	TLS_FAILURE_FLOOD,     /* messages without data (KeyUpdate) after the handshake, more than we take */
};
enum tls_failure_kind tls_failure(const struct tls *tls, const char **text);

/* Does a session whose handshake is done also meet `profile` (one of the mail stage, say): protocol, bits,
 * grade, and the peer's certificate as far as the level asks? Level and strength NONE are met by all. Else
 * the kind, and the reason in `why`. Where the level asks for trust, the roots are those of the profile of
 * this id in the session's set, and the certificate is looked at again (some hundred microseconds) if the
 * handshake was done with others; no such profile, or a client's session, which keeps no chain: TLS_FAILURE_UNTRUSTED. */
#define TLS_WHY_BYTES 192
enum tls_failure_kind tls_check(
	const struct tls *tls, const struct tls_profile *profile, char why[TLS_WHY_BYTES]);
