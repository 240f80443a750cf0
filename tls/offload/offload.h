// SPDX-License-Identifier: Apache-2.0
/* tls/offload/offload.h: the asymmetric operations of a core's handshakes, done where it is cheapest.
 *
 *   a handshake, on a fibre          struct tls_offload                       a back end
 *   tls_offload_rsa(), …_x25519() ─▶ an op of the pool, queued by kind ─▶ mb: eight at a time, in tls_offload_poll()
 *   (the fibre waits; others go on)                                   ─▶ engine: another thread, over rings
 *   result ◀─ task_run() ◀─ wake() ◀─ the op is done                   ◀─ tls_offload_returned()
 *
 * A back end takes operations, not handshakes. One struct tls_offload a core; all calls are the core's thread's, but
 * for keys, which any thread may make and drop. No lock, and no allocation of ours after start. A handshake that is
 * not on a fibre, an op that the pool has no room for, and a batch too small to pay are done by OpenSSL at once:
 * "scalar". Inputs are copied into the op and results out of it, so that an op may outlive its handshake. */
#pragma once

#include "tls/tls.h"

#include <openssl/types.h>

/* ---- limits ---- */
enum {
	TLS_LANES = 8, /* of libcrypto-mb's functions */
	/* A turn of the worker takes some 64 packets: that many handshakes may come to wait in one, and as many again
	 * while a batch of RSA-4096 holds the core for 10 ms. Beyond, handshakes do their work themselves. */
	TLS_FIBRES_MAX = 128,
	/* One each fibre, and those that another thread has still in hand though their handshakes are gone. */
	TLS_OPS_MAX = 192,
	TLS_RSA_BYTES_MAX = 512,
	TLS_X25519_BYTES = 32,
	/* Ephemeral keys made ahead: 8 while there is load; up to this many in idle turns, so that a burst after
	 * quiet finds them. */
	TLS_X25519_KEYS_AHEAD = 64,
	/* How long an op may wait for company while packets keep coming. The most is what a client would notice. */
	TLS_DEADLINE_US_DEFAULT = 200,
	TLS_DEADLINE_US_MAX = 10000,
	/* An op that the engine's thread has had for so long is done by OpenSSL: longer than that thread waits for the
	 * engine itself, so that only a thread that is stuck comes to this; short beside a handshake's deadline. */
	TLS_ENGINE_PATIENCE_MS = 1000,
};

/* ---- keys ---- */
/* An RSA private key with its numbers as the back ends want them; each op holds a reference. */
struct tls_rsa_key;
/* Takes a reference to `key`, which must be of OpenSSL's default provider. NULL: not an RSA key pair, or no memory. Any
 * thread. */
struct tls_rsa_key *tls_rsa_key_create(OSSL_LIB_CTX *openssl, EVP_PKEY *key);
struct tls_rsa_key *tls_rsa_key_get(struct tls_rsa_key *key);
void tls_rsa_key_put(struct tls_rsa_key *key);
EVP_PKEY *tls_rsa_key_inner(const struct tls_rsa_key *key);
uint32_t tls_rsa_key_bytes(const struct tls_rsa_key *key);

/* ---- one core's ---- */
struct tls_offload;
struct tls_offload *tls_offload_create(OSSL_LIB_CTX *openssl); /* NULL: no memory */
/* No task may have a fibre. `offload` may be NULL. */
void tls_offload_destroy(struct tls_offload *offload);
void tls_offload_set_deadline(struct tls_offload *offload, uint32_t deadline_us);
/* The most stack a handshake has taken; slow: for tests and measurements. */
size_t tls_offload_stack_most(const struct tls_offload *offload);
/* As tls_backend_unusable(). */
const char *tls_offload_unusable(const struct tls_offload *offload, enum tls_backend backend);
/* Once a turn of the core: does the batches that are full, those whose oldest op has waited longer than the deadline,
 * and, if the core `is_idle` (this turn brought no packet and woke nobody), one batch or one scalar op of every kind
 * that waits. `now_ns`: any clock that goes on; an op's wait is counted from the poll that first finds it. true: something was
 * done. */
bool tls_offload_poll(struct tls_offload *offload, uint64_t now_ns, bool is_idle);
/* Ops that wait or are out: while there are any, the core must go on polling. */
uint32_t tls_offload_waiting(const struct tls_offload *offload);
/* Ops that the engine has kept for too long and not given back: it may still write to them, so that the offload must not be
 * destroyed. */
bool tls_offload_has_lost(const struct tls_offload *offload);
const struct tls_offload_counters *tls_offload_counters(const struct tls_offload *offload);

/* ---- a handshake ---- */
struct tls_op;
struct tls_fibre;

/* What a handshake has to do with the offload. Zero but for the first three and `wake` before its first run. */
struct tls_task {
	struct tls_offload *offload;
	enum tls_backend backend;
	void (*wake)(void *user); /* its op is done; may be NULL. Only notes it: no call of tls_… */
	void *user;
	struct tls_fibre *fibre; /* NULL: not waiting */
	struct tls_op *op;
	bool is_cancelled;
};

/* Runs `run(user)`, on a fibre unless the back end is INLINE or there is none; or goes on with it where an op is done.
 * true: it has returned. false: an op is out: call again with the same after `wake`. */
bool tls_task_run(struct tls_task *task, void (*run)(void *user), void *user);
/* Takes back the op, which fails, and lets what ran return. Nothing if there is none. */
void tls_task_cancel(struct tls_task *task);

/* ---- operations: called by the provider, within a task or without ---- */
/* The RSA private operation (RFC 8017 5.1.2, 5.2.1): `in` and `out` have tls_rsa_key_bytes(), big-endian. What a batch
 * gave is tried with the public key before it is handed out (a fault would give the key away: Boneh, DeMillo, Lipton),
 * and done again by OpenSSL if it is wrong. */
bool tls_offload_rsa(struct tls_offload *offload, struct tls_rsa_key *key, const uint8_t *in, uint8_t *out);
/* RFC 7748 6.1; false also if the result is all zero (RFC 8446 7.4.2). */
bool tls_offload_x25519(struct tls_offload *offload, const uint8_t secret[TLS_X25519_BYTES],
	const uint8_t peer[TLS_X25519_BYTES], uint8_t shared[TLS_X25519_BYTES]);
/* A key pair nobody has had before and nobody will get again. */
bool tls_offload_x25519_key(struct tls_offload *offload, uint8_t secret[TLS_X25519_BYTES],
	uint8_t public[TLS_X25519_BYTES]);

/* ---- a back end elsewhere: ENGINE ---- */
/* Its side of an op. `key`, `in` and `out` may be used by another thread from submit to returned. */
struct tls_op {
	uint8_t kind;  /* enum tls_op_kind */
	uint8_t state; /* offload.c's */
	bool has_worked; /* for tls_offload_returned(): `out` holds the result. false: it is done by OpenSSL */
	struct tls_task *task; /* NULL: its handshake is gone */
	struct tls_rsa_key *key;
	uint64_t since_ns;
	struct tls_op *next; /* free; the engine's while it has the op */
	uint8_t in[TLS_RSA_BYTES_MAX];	/* RSA; X25519: our secret, then the peer's public key */
	uint8_t out[TLS_RSA_BYTES_MAX];
};

struct tls_engine {
	void *user;
	/* Takes the op until tls_offload_returned(). false: no room; it is done by OpenSSL. */
	bool (*submit)(void *user, struct tls_op *op);
	/* Called from tls_offload_poll(): gives what came back to tls_offload_returned(). true: something came. */
	bool (*poll)(void *user);
	/* It has kept an op for too long. NULL: it never does. */
	void (*lost)(void *user);
	/* Why it takes nothing now; NULL: it does. May be NULL. Any thread. */
	const char *(*unusable)(void *user);
};
/* The engine's results must pass its own check: nothing is checked again here but X25519's zero. */
void tls_offload_set_engine(struct tls_offload *offload, const struct tls_engine *engine);
void tls_offload_returned(struct tls_offload *offload, struct tls_op *op);
