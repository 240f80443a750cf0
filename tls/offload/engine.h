// SPDX-License-Identifier: Apache-2.0
/* tls/offload/engine.h: an OpenSSL engine on the one thread that loaded it, operations in and results out. Every call
 * is that thread's. Below the crypto thread (crypto.c), which decides what is given to it and when. */
#pragma once

#include "tls/offload/offload_private.h"

struct crypto_engine;
struct crypto_key; /* an RSA key as the engine wants it */

/* Loads the engine, sets it up, and tries each kind once. NULL with the reason in `error`: it cannot be loaded, does
 * not start, does nothing of what it may, or does it wrong. If it never came back from a trial, `is_stuck`. */
struct crypto_engine *crypto_engine_load(
	const struct tls_crypto_config *config, bool *is_stuck, struct tls_error *error);
/* With no work out. A broken engine stays loaded: it may still write where its work is. */
void crypto_engine_unload(struct crypto_engine *engine, bool is_broken);
/* Is the kind one that it was seen to do? */
bool crypto_engine_takes(const struct crypto_engine *engine, enum tls_op_kind kind);
/* Hardware does each op as it comes; else eight of a kind at a time, and fewer only after 10 ms. */
bool crypto_engine_is_hardware(const struct crypto_engine *engine);
/* Looks what is done. */
void crypto_engine_poll(struct crypto_engine *engine);
/* Drops the keys that nobody else has any more. */
void crypto_engine_sweep(struct crypto_engine *engine);

/* One operation in its ASYNC job. The numbers are its own, so that an op may go home while its work is stuck. */
struct crypto_work {
	struct crypto_engine *engine;
	void *job, *wait; /* ASYNC_JOB, ASYNC_WAIT_CTX */
	struct crypto_key *key;
	uint8_t kind; /* enum tls_op_kind */
	bool is_called; /* by the engine: it may go on */
	bool has_worked;
	uint8_t in[TLS_RSA_BYTES_MAX], out[TLS_RSA_BYTES_MAX];
};

enum crypto_progress {
	CRYPTO_OUT, /* with the engine */
	CRYPTO_DONE,
	CRYPTO_NOT_STARTED, /* no memory, or a key it cannot have */
};

/* Starts it: the op's kind, key and input. What the engine does at once is done at once. */
enum crypto_progress crypto_work_start(
	struct crypto_work *work, struct crypto_engine *engine, const struct tls_op *op);
/* Goes on where the engine has called. */
enum crypto_progress crypto_work_go_on(struct crypto_work *work);
/* Is the result right? For RSA by the public key; X25519 has nothing to check it by. */
bool crypto_work_is_right(const struct crypto_work *work);
/* It is not out. */
void crypto_work_end(struct crypto_work *work);
