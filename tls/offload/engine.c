// SPDX-License-Identifier: Apache-2.0
/* tls/offload/engine.c: OpenSSL's ENGINE API, which OpenSSL 4.0 has no more: in this file alone. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "tls/offload/engine.h"

#include "tls/tls_private.h"

#include <openssl/opensslconf.h>

#ifndef OPENSSL_NO_ENGINE
#include <openssl/async.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/engine.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "tls/offload/crypto.h"

enum { ALGORITHM_RSA = 0x1, ALGORITHM_X25519 = 0x20 }; /* qatengine's bits */

struct crypto_key {
	struct tls_rsa_key *key; /* NULL: an empty place */
	RSA *rsa;
	BN_MONT_CTX *mont; /* of the modulus, for the check */
	uint32_t out;	   /* works that use it */
	uint64_t used;
};

struct crypto_engine {
	ENGINE *engine;
	BN_CTX *numbers;
	uint64_t uses;
	bool is_hardware;
	bool takes[TLS_OP_KIND_COUNT];
	struct crypto_key keys[TLS_CRYPTO_KEYS];
};

/* ---- RSA keys ---- */

static BIGNUM *number_of(const struct tls_rsa_key *key, const char *name)
{
	BIGNUM *number = NULL;
	EVP_PKEY_get_bn_param(key->inner, name, &number);
	return number;
}

/* What is given to RSA_set0_… is the key's; what is not, is not. */
static bool rsa_fill(RSA *rsa, const struct tls_rsa_key *key)
{
	static const char *const names[] = {OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_E,
		OSSL_PKEY_PARAM_RSA_D, OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2,
		OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2,
		OSSL_PKEY_PARAM_RSA_COEFFICIENT1};
	BIGNUM *n[8];
	bool has_all = true;
	for (int i = 0; i < 8; i++) {
		n[i] = number_of(key, names[i]);
		has_all = has_all && n[i] != NULL;
	}
	if (has_all && RSA_set0_key(rsa, n[0], n[1], n[2]) == 1 &&
		RSA_set0_factors(rsa, n[3], n[4]) == 1 &&
		RSA_set0_crt_params(rsa, n[5], n[6], n[7]) == 1)
		return true;
	for (int i = 0; !has_all && i < 8; i++)
		BN_clear_free(n[i]);
	return false;
}

static void key_drop(struct crypto_key *key)
{
	RSA_free(key->rsa);
	BN_MONT_CTX_free(key->mont);
	tls_rsa_key_put(key->key);
	*key = (struct crypto_key){0};
}

static bool key_make(struct crypto_engine *e, struct crypto_key *made, struct tls_rsa_key *key)
{
	*made = (struct crypto_key){.key = tls_rsa_key_get(key),
		.rsa = RSA_new_method(e->engine),
		.mont = BN_MONT_CTX_new()};
	if (made->rsa != NULL && made->mont != NULL && rsa_fill(made->rsa, key) &&
		BN_MONT_CTX_set(made->mont, RSA_get0_n(made->rsa), e->numbers) == 1)
		return true;
	key_drop(made);
	return false;
}

/* The key's place, made where it was not there: instead of the one used longest ago. NULL: no memory, or all are out. */
static struct crypto_key *key_find(struct crypto_engine *e, struct tls_rsa_key *key)
{
	struct crypto_key *oldest = NULL;
	for (size_t i = 0; i < TLS_CRYPTO_KEYS; i++) {
		struct crypto_key *k = &e->keys[i];
		if (k->key == key) {
			k->used = ++e->uses;
			return k;
		}
		if (k->out == 0 && (oldest == NULL || k->used < oldest->used))
			oldest = k;
	}
	if (oldest == NULL)
		return NULL;
	if (oldest->key != NULL)
		key_drop(oldest);
	bool is_made = key_make(e, oldest, key);
	oldest->used = ++e->uses;
	return is_made ? oldest : NULL;
}

void crypto_engine_sweep(struct crypto_engine *e)
{
	for (size_t i = 0; i < TLS_CRYPTO_KEYS; i++) {
		struct crypto_key *k = &e->keys[i];
		if (k->key != NULL && k->out == 0 && k->key->references == 1)
			key_drop(k);
	}
}

/* ---- one operation ---- */

static bool work_rsa(struct crypto_work *work)
{
	int n = (int)work->key->key->bytes;
	return RSA_private_decrypt(n, work->in, work->out, work->key->rsa, RSA_NO_PADDING) == n;
}

static bool work_x25519(struct crypto_work *work)
{
	ENGINE *engine = work->engine->engine;
	EVP_PKEY *ours = EVP_PKEY_new_raw_private_key(
		EVP_PKEY_X25519, engine, work->in, TLS_X25519_BYTES);
	EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(
		EVP_PKEY_X25519, engine, work->in + TLS_X25519_BYTES, TLS_X25519_BYTES);
	EVP_PKEY_CTX *ctx = ours == NULL || theirs == NULL ? NULL : EVP_PKEY_CTX_new(ours, engine);
	size_t n = TLS_X25519_BYTES;
	bool has_worked = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
		EVP_PKEY_derive_set_peer(ctx, theirs) == 1 &&
		EVP_PKEY_derive(ctx, work->out, &n) == 1 && n == TLS_X25519_BYTES;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(ours);
	EVP_PKEY_free(theirs);
	return has_worked;
}

/* What runs in the job; the engine suspends it. */
static int run_in_job(void *argument)
{
	struct crypto_work *work;
	memcpy(&work, argument, sizeof work);
	work->has_worked = work->kind == TLS_OP_X25519 ? work_x25519(work) : work_rsa(work);
	return 1;
}

static int engine_calls(void *argument)
{
	((struct crypto_work *)argument)->is_called = true;
	return 1;
}

static enum crypto_progress work_run(struct crypto_work *work)
{
	ASYNC_JOB *job = work->job;
	int returned;
	work->is_called = false;
	int status = ASYNC_start_job(&job, work->wait, &returned, run_in_job, &work, sizeof work);
	work->job = job;
	if (status == ASYNC_PAUSE)
		return CRYPTO_OUT;
	ERR_clear_error();
	work->job = NULL;
	return status == ASYNC_FINISH ? CRYPTO_DONE : CRYPTO_NOT_STARTED;
}

enum crypto_progress crypto_work_start(
	struct crypto_work *work, struct crypto_engine *e, const struct tls_op *op)
{
	*work = (struct crypto_work){.engine = e, .kind = op->kind, .wait = ASYNC_WAIT_CTX_new()};
	bool is_rsa = op->kind != TLS_OP_X25519;
	if (is_rsa && (work->key = key_find(e, op->key)) != NULL)
		work->key->out++;
	memcpy(work->in, op->in, is_rsa ? op->key->bytes : 2 * TLS_X25519_BYTES);
	enum crypto_progress progress = CRYPTO_NOT_STARTED;
	if (work->wait != NULL && (!is_rsa || work->key != NULL) &&
		ASYNC_WAIT_CTX_set_callback(work->wait, engine_calls, work) == 1)
		progress = work_run(work);
	ERR_clear_error();
	return progress;
}

enum crypto_progress crypto_work_go_on(struct crypto_work *work)
{
	return work->is_called ? work_run(work) : CRYPTO_OUT;
}

/* Boneh, DeMillo, Lipton: one wrong result gives the key away. */
bool crypto_work_is_right(const struct crypto_work *work)
{
	if (work->kind == TLS_OP_X25519 || !work->has_worked)
		return work->has_worked;
	const struct crypto_key *key = work->key;
	uint8_t again[TLS_RSA_BYTES_MAX];
	int n = (int)key->key->bytes;
	BN_CTX *numbers = work->engine->numbers;
	BN_CTX_start(numbers);
	BIGNUM *result = BN_CTX_get(numbers);
	bool is_right = result != NULL && BN_bin2bn(work->out, n, result) != NULL &&
		BN_mod_exp_mont(result, result, RSA_get0_e(key->rsa), RSA_get0_n(key->rsa), numbers,
			key->mont) == 1 &&
		BN_bn2binpad(result, again, n) == n && memcmp(again, work->in, (size_t)n) == 0;
	BN_CTX_end(numbers);
	return is_right;
}

void crypto_work_end(struct crypto_work *work)
{
	ASYNC_WAIT_CTX_free(work->wait);
	if (work->key != NULL)
		work->key->out--;
	OPENSSL_cleanse(work, sizeof *work);
}

/* ---- loading ---- */

static void say(struct tls_error *error, const struct tls_crypto_config *config, const char *what)
{
	char reason[160];
	snprintf(reason, sizeof reason, "%s", tls_openssl_reason("no reason given"));
	tls_error_set(error, "the engine %.60s %s: %s", config->engine, what, reason);
}

static ENGINE *find_engine(const struct tls_crypto_config *config)
{
	ENGINE_load_dynamic();
	if (strchr(config->engine, '/') == NULL)
		return ENGINE_by_id(config->engine);
	ENGINE *engine = ENGINE_by_id("dynamic");
	if (engine != NULL &&
		(ENGINE_ctrl_cmd_string(engine, "SO_PATH", config->engine, 0) != 1 ||
			ENGINE_ctrl_cmd_string(engine, "LOAD", NULL, 0) != 1)) {
		ENGINE_free(engine);
		return NULL;
	}
	return engine;
}

/* The order matters: external polling before the start, the algorithms before keys. */
static bool set_up(ENGINE *engine, const struct tls_crypto_config *config)
{
	char hardware[16], software[16];
	snprintf(hardware, sizeof hardware, "0x%x", config->hardware_algorithms);
	snprintf(software, sizeof software, "0x%x", config->software_algorithms);
	return ENGINE_ctrl_cmd(engine, "ENABLE_EXTERNAL_POLLING", 0, NULL, NULL, 0) == 1 &&
		ENGINE_ctrl_cmd_string(engine, "HW_ALGO_BITMAP", hardware, 1) == 1 &&
		ENGINE_ctrl_cmd_string(engine, "SW_ALGO_BITMAP", software, 1) == 1 &&
		ENGINE_init(engine) == 1;
}

static bool has_hardware(ENGINE *engine)
{
	int instances = 0;
	bool is_known = ENGINE_ctrl_cmd(engine, "GET_NUM_CRYPTO_INSTANCES", 0, &instances, NULL, 1) == 1;
	ERR_clear_error();
	return is_known && instances > 0;
}

/* ---- does it do anything? ---- */

enum trial { TRIAL_NOT_DONE, TRIAL_DONE, TRIAL_WRONG, TRIAL_STUCK };

static bool trial_op(struct tls_op *op, enum tls_op_kind kind, struct tls_rsa_key *key)
{
	op->kind = (uint8_t)kind;
	op->key = key;
	if (RAND_bytes(op->in, sizeof op->in) != 1)
		return false;
	op->in[0] = 0; /* less than the modulus; X25519 takes any */
	return true;
}

/* By the engine, and not by OpenSSL within the engine: only the engine suspends the job. */
static enum trial try_one(struct crypto_engine *e, enum tls_op_kind kind, struct tls_rsa_key *key)
{
	static struct crypto_work work; /* of the process's only such thread */
	uint8_t wanted[TLS_RSA_BYTES_MAX];
	struct tls_op op = {0};
	if (!trial_op(&op, kind, key))
		return TRIAL_NOT_DONE;
	enum crypto_progress progress = crypto_work_start(&work, e, &op);
	bool is_suspended = progress == CRYPTO_OUT;
	uint64_t end_us = time_monotonic_us() + TLS_CRYPTO_PATIENCE_MS * USEC_PER_MSEC;
	while (progress == CRYPTO_OUT && time_monotonic_us() < end_us) {
		crypto_engine_poll(e);
		progress = crypto_work_go_on(&work);
	}
	if (progress == CRYPTO_OUT)
		return TRIAL_STUCK; /* and the work stays where it is: the engine may still come back to it */
	bool is_right = crypto_work_is_right(&work);
	if (kind == TLS_OP_X25519 && is_right)
		is_right = tls_scalar_x25519(NULL, op.in, op.in + TLS_X25519_BYTES, wanted) &&
			CRYPTO_memcmp(wanted, work.out, TLS_X25519_BYTES) == 0;
	crypto_work_end(&work);
	return !is_suspended ? TRIAL_NOT_DONE : is_right ? TRIAL_DONE : TRIAL_WRONG;
}

static enum trial try_rsa(struct crypto_engine *e)
{
	EVP_PKEY *pair = EVP_RSA_gen(2048);
	struct tls_rsa_key *key = pair == NULL ? NULL : tls_rsa_key_create(NULL, pair);
	enum trial trial = key == NULL ? TRIAL_NOT_DONE : try_one(e, TLS_OP_RSA_2048, key);
	tls_rsa_key_put(key);
	EVP_PKEY_free(pair);
	return trial;
}

static bool try_all(struct crypto_engine *e, const struct tls_crypto_config *config, bool *is_stuck,
	struct tls_error *error)
{
	uint32_t algorithms = config->hardware_algorithms | config->software_algorithms;
	enum trial rsa = TRIAL_NOT_DONE, x25519 = TRIAL_NOT_DONE;
	if (algorithms & ALGORITHM_RSA)
		rsa = try_rsa(e);
	if (algorithms & ALGORITHM_X25519 && rsa < TRIAL_WRONG)
		x25519 = try_one(e, TLS_OP_X25519, NULL);
	*is_stuck = rsa == TRIAL_STUCK || x25519 == TRIAL_STUCK;
	if (rsa >= TRIAL_WRONG || x25519 >= TRIAL_WRONG) {
		tls_error_set(error, "the engine %.60s gave %s answer to the first %s operation", config->engine,
			*is_stuck ? "no" : "a wrong", rsa >= TRIAL_WRONG ? "RSA" : "X25519");
		return false;
	}
	e->takes[TLS_OP_RSA_2048] = e->takes[TLS_OP_RSA_3072] = e->takes[TLS_OP_RSA_4096] =
		rsa == TRIAL_DONE;
	e->takes[TLS_OP_X25519] = x25519 == TRIAL_DONE;
	if (rsa != TRIAL_DONE && x25519 != TRIAL_DONE)
		tls_error_set(error,
			"the engine %.60s does none of its algorithms here: there is no QAT hardware, and its "
			"QAT_SW wants an Intel processor with AVX512",
			config->engine);
	return rsa == TRIAL_DONE || x25519 == TRIAL_DONE;
}

struct crypto_engine *crypto_engine_load(
	const struct tls_crypto_config *config, bool *is_stuck, struct tls_error *error)
{
	struct crypto_engine *e = calloc(1, sizeof *e);
	tls_error_set(error, "no memory for the engine");
	if (e == NULL)
		return NULL;
	ERR_clear_error();
	e->numbers = BN_CTX_secure_new();
	e->engine = find_engine(config);
	if (e->engine == NULL) {
		say(error, config, "cannot be loaded");
		goto undo_memory;
	}
	if (e->numbers == NULL || ASYNC_init_thread(TLS_CRYPTO_SLOTS + 1, TLS_LANES) != 1 ||
		!set_up(e->engine, config)) {
		say(error, config, "does not start");
		goto undo_engine;
	}
	e->is_hardware = has_hardware(e->engine);
	if (try_all(e, config, is_stuck, error))
		return e;
	crypto_engine_unload(e, *is_stuck);
	return NULL;
undo_engine:
	ENGINE_free(e->engine);
	ASYNC_cleanup_thread();
undo_memory:
	BN_CTX_free(e->numbers);
	free(e);
	ERR_clear_error();
	return NULL;
}

void crypto_engine_unload(struct crypto_engine *e, bool is_broken)
{
	static struct crypto_engine *abandoned;
	if (is_broken) {
		abandoned = e; /* it keeps its memory */
		(void)abandoned;
		return;
	}
	for (size_t i = 0; i < TLS_CRYPTO_KEYS; i++)
		if (e->keys[i].key != NULL)
			key_drop(&e->keys[i]);
	ENGINE_finish(e->engine);
	ENGINE_free(e->engine);
	ASYNC_cleanup_thread();
	BN_CTX_free(e->numbers);
	free(e);
	ERR_clear_error();
}

bool crypto_engine_takes(const struct crypto_engine *e, enum tls_op_kind kind)
{
	return e->takes[kind];
}

bool crypto_engine_is_hardware(const struct crypto_engine *e)
{
	return e->is_hardware;
}

void crypto_engine_poll(struct crypto_engine *e)
{
	int status;
	ENGINE_ctrl_cmd(e->engine, "POLL", 0, &status, NULL, 0);
}

#else

struct crypto_engine *crypto_engine_load(
	const struct tls_crypto_config *config, bool *is_stuck, struct tls_error *error)
{
	tls_error_set(error, "the engine %.60s cannot be loaded: this OpenSSL has no engines", config->engine);
	return NULL;
}

/* Never called: none was loaded. */
void crypto_engine_unload(struct crypto_engine *e, bool is_broken)
{
}

bool crypto_engine_takes(const struct crypto_engine *e, enum tls_op_kind kind)
{
	return false;
}

bool crypto_engine_is_hardware(const struct crypto_engine *e)
{
	return false;
}

void crypto_engine_poll(struct crypto_engine *e)
{
}

void crypto_engine_sweep(struct crypto_engine *e)
{
}

enum crypto_progress crypto_work_start(
	struct crypto_work *work, struct crypto_engine *e, const struct tls_op *op)
{
	return CRYPTO_NOT_STARTED;
}

enum crypto_progress crypto_work_go_on(struct crypto_work *work)
{
	return CRYPTO_NOT_STARTED;
}

bool crypto_work_is_right(const struct crypto_work *work)
{
	return false;
}

void crypto_work_end(struct crypto_work *work)
{
}
#endif
