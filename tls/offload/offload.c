// SPDX-License-Identifier: Apache-2.0
#include "tls/offload/offload_private.h"

#include "tls/offload/fibre.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <time.h>

enum op_state {
	OP_FREE,
	OP_QUEUED, /* for a batch of ours */
	OP_OUT,	   /* with the engine */
	OP_LOST,   /* with the engine, which has kept it for too long: nobody waits for it any more */
	OP_DONE,   /* its handshake has not taken the result yet */
};

struct queue {
	struct tls_op *at[TLS_OPS_MAX]; /* oldest first */
	uint32_t count;
};

struct x25519_key {
	uint8_t secret[TLS_X25519_BYTES], public[TLS_X25519_BYTES];
};

struct tls_offload {
	OSSL_LIB_CTX *openssl;
	struct tls_fibres *fibres; /* NULL: none on this processor */
	struct tls_engine engine;
	uint64_t now_ns, deadline_ns, looked_ns;
	uint32_t waiting, lost;
	uint32_t key_count;
	struct tls_offload_counters counters;
	struct queue queues[TLS_OP_KIND_COUNT];
	struct x25519_key keys[TLS_X25519_KEYS_AHEAD];
	struct tls_op *free;
	struct tls_op ops[TLS_OPS_MAX];
};

/* The handshake this thread is in. Contexts are built by another thread while the core works: what that one calls
 * finds no task, and touches nothing of the core's. */
static thread_local struct tls_task *current;

static uint64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- from start to end ---- */

struct tls_offload *tls_offload_create(OSSL_LIB_CTX *openssl)
{
	struct tls_offload *offload = calloc(1, sizeof *offload);
	if (offload == NULL)
		return NULL;
	offload->openssl = openssl;
	offload->fibres = tls_fibres_create(TLS_FIBRES_MAX);
	tls_offload_set_deadline(offload, TLS_DEADLINE_US_DEFAULT);
	for (uint32_t i = TLS_OPS_MAX; i-- > 0;) {
		offload->ops[i].next = offload->free;
		offload->free = &offload->ops[i];
	}
	return offload;
}

void tls_offload_destroy(struct tls_offload *offload)
{
	if (offload == NULL)
		return;
	assert(offload->waiting == 0);
	tls_fibres_destroy(offload->fibres);
	OPENSSL_cleanse(offload->keys, sizeof offload->keys);
	free(offload);
}

void tls_offload_set_deadline(struct tls_offload *offload, uint32_t deadline_us)
{
	if (deadline_us > TLS_DEADLINE_US_MAX)
		deadline_us = TLS_DEADLINE_US_MAX;
	offload->deadline_ns = (uint64_t)deadline_us * 1000;
}

size_t tls_offload_stack_most(const struct tls_offload *offload)
{
	return offload->fibres == NULL ? 0 : tls_fibres_stack_most(offload->fibres);
}

const char *tls_offload_unusable(const struct tls_offload *offload, enum tls_backend backend)
{
	if (backend == TLS_BACKEND_INLINE)
		return NULL;
	if (offload->fibres == NULL)
		return "handshakes cannot wait on this kind of processor";
	if (backend == TLS_BACKEND_MB)
		return tls_mb_unusable();
	const struct tls_engine *engine = &offload->engine;
	if (engine->submit == NULL)
		return "no engine is loaded";
	return engine->unusable == NULL ? NULL : engine->unusable(engine->user);
}

void tls_offload_set_engine(struct tls_offload *offload, const struct tls_engine *engine)
{
	offload->engine = *engine;
}

bool tls_offload_has_lost(const struct tls_offload *offload)
{
	return offload->lost != 0;
}

uint32_t tls_offload_waiting(const struct tls_offload *offload)
{
	return offload->waiting;
}

const struct tls_offload_counters *tls_offload_counters(const struct tls_offload *offload)
{
	return &offload->counters;
}

/* ---- the life of an op ---- */

static struct tls_op *op_take(struct tls_offload *offload)
{
	struct tls_op *op = offload->free;
	if (op != NULL)
		offload->free = op->next;
	else
		offload->counters.no_op++;
	return op;
}

/* What it carried is secret, or was. */
static void op_release(struct tls_offload *offload, struct tls_op *op)
{
	size_t n = op->kind == TLS_OP_X25519 ? 2 * TLS_X25519_BYTES : op->key->bytes;
	OPENSSL_cleanse(op->in, n);
	OPENSSL_cleanse(op->out, n);
	tls_rsa_key_put(op->key);
	op->key = NULL;
	op->task = NULL;
	op->state = OP_FREE;
	op->next = offload->free;
	offload->free = op;
}

static void op_scalar(struct tls_offload *offload, struct tls_op *op)
{
	uint64_t began = clock_ns();
	if (op->kind == TLS_OP_X25519)
		op->has_worked = tls_scalar_x25519(
			offload->openssl, op->in, op->in + TLS_X25519_BYTES, op->out);
	else
		op->has_worked = tls_scalar_rsa(op->key, op->in, op->out);
	ERR_clear_error(); /* the handshake that fails of it says so itself */
	offload->counters.kind[op->kind].scalar++;
	offload->counters.kind[op->kind].scalar_ns += clock_ns() - began;
}

/* Its result is there; calls the handshake. */
static void op_done(struct tls_offload *offload, struct tls_op *op)
{
	offload->waiting--;
	op->state = OP_DONE;
	if (op->task == NULL)
		op_release(offload, op);
	else if (op->task->wake != NULL)
		op->task->wake(op->task->user);
}

/* A batch gave nothing usable: OpenSSL does it again. X25519 has no check that could fail by a fault: a secret of
 * zero is the peer's doing. */
static void op_mend(struct tls_offload *offload, struct tls_op *op)
{
	if (op->has_worked || op->kind == TLS_OP_X25519)
		return;
	offload->counters.kind[op->kind].faults++;
	op_scalar(offload, op);
}

void tls_offload_returned(struct tls_offload *offload, struct tls_op *op)
{
	if (op->state == OP_LOST) {
		offload->lost--;
		op_release(offload, op);
		return;
	}
	assert(op->state == OP_OUT);
	if (op->task != NULL && !op->has_worked) {
		offload->counters.kind[op->kind].faults++;
		op_scalar(offload, op);
	}
	op_done(offload, op);
}

/* ---- ops that do not come back ---- */

/* Its handshake goes on with another op, done here: the engine may still write to this one. false: none is free, before
 * those who have got one have taken their results. */
static bool op_lose(struct tls_offload *offload, struct tls_op *op)
{
	struct tls_op *other = op->task == NULL ? NULL : op_take(offload);
	if (op->task != NULL && other == NULL)
		return false;
	if (other != NULL) {
		other->kind = op->kind;
		other->key = op->key == NULL ? NULL : tls_rsa_key_get(op->key);
		other->task = op->task;
		memcpy(other->in, op->in, sizeof other->in);
		op_scalar(offload, other);
		offload->waiting++;
		op->task->op = other;
		op_done(offload, other);
	}
	op->task = NULL;
	op->state = OP_LOST;
	offload->waiting--;
	offload->lost++;
	offload->counters.lost++;
	offload->engine.lost(offload->engine.user);
	return true;
}

/* Rarely: a look at all of them. No more in a turn than a batch would be, for they are done one by one; the others in the
 * next. */
static void lose_ops_long_out(struct tls_offload *offload)
{
	if (offload->engine.lost == NULL || offload->waiting == 0 ||
		offload->now_ns - offload->looked_ns < TLS_ENGINE_PATIENCE_MS * 1000000ull / 8)
		return;
	for (uint32_t i = 0, late = 0; i < TLS_OPS_MAX; i++) {
		struct tls_op *op = &offload->ops[i];
		if (op->state != OP_OUT)
			continue;
		if (op->since_ns == UINT64_MAX)
			op->since_ns = offload->now_ns;
		else if (offload->now_ns - op->since_ns >= TLS_ENGINE_PATIENCE_MS * 1000000ull &&
			(late++ == TLS_LANES || !op_lose(offload, op)))
			return;
	}
	offload->looked_ns = offload->now_ns;
}

/* ---- batches ---- */

static void queue_drop(struct queue *queue, uint32_t from, uint32_t count)
{
	queue->count -= count;
	memmove(queue->at + from, queue->at + from + count,
		(queue->count - from) * sizeof queue->at[0]);
}

static void queue_run_batch(struct tls_offload *offload, enum tls_op_kind kind)
{
	struct queue *queue = &offload->queues[kind];
	struct tls_op *ops[TLS_LANES];
	uint32_t count = queue->count < TLS_LANES ? queue->count : TLS_LANES;
	memcpy(ops, queue->at, count * sizeof ops[0]);
	queue_drop(queue, 0, count);
	uint64_t began = clock_ns();
	tls_mb_run(kind, ops, count);
	offload->counters.kind[kind].batch_ns += clock_ns() - began;
	offload->counters.kind[kind].batches[count - 1]++;
	for (uint32_t i = 0; i < count; i++) {
		op_mend(offload, ops[i]);
		op_done(offload, ops[i]);
	}
}

static void queue_run_oldest(struct tls_offload *offload, enum tls_op_kind kind)
{
	struct tls_op *op = offload->queues[kind].at[0];
	queue_drop(&offload->queues[kind], 0, 1);
	op_scalar(offload, op);
	op_done(offload, op);
}

/* When the oldest of those that wait was first found here. Not when it came: the turn that brought it may have been
 * longer than the deadline, and none would ever have company of another turn. */
static uint64_t queue_since(struct tls_offload *offload, struct queue *queue)
{
	for (uint32_t i = queue->count; i-- > 0 && queue->at[i]->since_ns == UINT64_MAX;)
		queue->at[i]->since_ns = offload->now_ns;
	return queue->at[0]->since_ns;
}

/* A batch too small to pay is done one at a time, and one a turn: company may still come to the others. */
static bool queue_poll(struct tls_offload *offload, enum tls_op_kind kind, bool is_idle)
{
	struct queue *queue = &offload->queues[kind];
	bool has_done = queue->count >= TLS_LANES;
	while (queue->count >= TLS_LANES)
		queue_run_batch(offload, kind);
	if (queue->count == 0 || has_done)
		return has_done;
	if (!is_idle && offload->now_ns - queue_since(offload, queue) < offload->deadline_ns)
		return false;
	if (queue->count >= tls_mb_least(kind))
		queue_run_batch(offload, kind);
	else
		queue_run_oldest(offload, kind);
	return true;
}

/* ---- keys ahead of use ---- */

static void keys_make(struct tls_offload *offload)
{
	uint8_t secrets[TLS_LANES][TLS_X25519_BYTES], publics[TLS_LANES][TLS_X25519_BYTES];
	uint64_t began = clock_ns();
	/* Any 32 bytes are a secret key: RFC 7748 5 makes them one as they are used. */
	if (RAND_priv_bytes_ex(offload->openssl, secrets[0], sizeof secrets, 0) != 1 ||
		!tls_mb_x25519_keys(secrets, publics))
		return;
	for (int i = 0; i < TLS_LANES; i++) {
		struct x25519_key *key = &offload->keys[offload->key_count++];
		memcpy(key->secret, secrets[i], TLS_X25519_BYTES);
		memcpy(key->public, publics[i], TLS_X25519_BYTES);
	}
	OPENSSL_cleanse(secrets, sizeof secrets);
	offload->counters.keys += TLS_LANES;
	offload->counters.keys_ns += clock_ns() - began;
}

static bool keys_make_ahead(struct tls_offload *offload)
{
	/* Only where they were wanted before: a core without such handshakes makes none. */
	if (offload->counters.keys == 0 || offload->key_count + TLS_LANES > TLS_X25519_KEYS_AHEAD)
		return false;
	keys_make(offload);
	return true;
}

bool tls_offload_poll(struct tls_offload *offload, uint64_t now_ns, bool is_idle)
{
	bool has_done = false;
	offload->now_ns = now_ns;
	for (int kind = 0; kind < TLS_OP_KIND_COUNT; kind++)
		has_done |= queue_poll(offload, (enum tls_op_kind)kind, is_idle);
	if (offload->engine.poll != NULL)
		has_done |= offload->engine.poll(offload->engine.user);
	lose_ops_long_out(offload);
	if (is_idle && !has_done)
		keys_make_ahead(offload);
	return has_done;
}

/* ---- a handshake ---- */

bool tls_task_run(struct tls_task *task, void (*run)(void *user), void *user)
{
	struct tls_offload *offload = task->offload;
	bool is_new = task->fibre == NULL;
	if (!is_new && !task->is_cancelled && task->op->state != OP_DONE)
		return false;
	if (is_new && task->backend != TLS_BACKEND_INLINE && offload->fibres != NULL) {
		task->fibre = tls_fibre_get(offload->fibres);
		offload->counters.no_fibre += task->fibre == NULL;
	}
	struct tls_task *outer = current;
	current = task;
	bool is_over = true;
	if (task->fibre == NULL)
		run(user);
	else
		is_over = is_new ? tls_fibre_start(task->fibre, run, user)
				 : tls_fibre_resume(task->fibre);
	current = outer;
	if (is_over && task->fibre != NULL) {
		tls_fibre_put(task->fibre);
		task->fibre = NULL;
	}
	return is_over;
}

static void op_cancel(struct tls_offload *offload, struct tls_op *op)
{
	struct queue *queue = &offload->queues[op->kind];
	offload->counters.cancelled++;
	if (op->state == OP_OUT) {
		op->task = NULL; /* the engine has it: it goes home when it comes back */
		return;
	}
	if (op->state == OP_QUEUED) {
		uint32_t place = 0;
		while (queue->at[place] != op)
			place++;
		queue_drop(queue, place, 1);
		offload->waiting--;
	}
	op_release(offload, op);
}

void tls_task_cancel(struct tls_task *task)
{
	task->is_cancelled = true;
	if (task->fibre == NULL)
		return;
	op_cancel(task->offload, task->op);
	task->op = NULL;
	/* No op is taken any more: it returns without another wait. */
	bool is_over = tls_task_run(task, NULL, NULL);
	assert(is_over);
}

/* ---- operations ---- */

/* The task if it is this offload's, and may wait. */
static struct tls_task *task_that_waits(const struct tls_offload *offload)
{
	struct tls_task *task = current;
	return task != NULL && task->offload == offload && task->fibre != NULL ? task : NULL;
}

static bool op_submit(struct tls_offload *offload, struct tls_task *task, struct tls_op *op)
{
	op->task = task;
	op->since_ns = UINT64_MAX;
	if (task->backend == TLS_BACKEND_ENGINE) {
		op->state = OP_OUT;
		/* It never has the last one: should it keep them all, there is one to go on with. */
		return offload->engine.submit != NULL && offload->free != NULL &&
			offload->engine.submit(offload->engine.user, op);
	}
	struct queue *queue = &offload->queues[op->kind];
	op->state = OP_QUEUED;
	queue->at[queue->count++] = op;
	return true;
}

/* Waits for the op, or does it; the result is copied to `out`. */
static bool op_perform(struct tls_offload *offload, struct tls_op *op, uint8_t *out, size_t n)
{
	struct tls_task *task = task_that_waits(offload);
	offload->counters.kind[op->kind].ops++;
	offload->waiting++;
	if (op_submit(offload, task, op)) {
		task->op = op;
		tls_fibre_yield(task->fibre);
		op = task->op; /* perhaps another that took its place */
		task->op = NULL;
		if (task->is_cancelled)
			return false; /* and the op is gone */
	} else {
		offload->waiting--;
		op_scalar(offload, op);
	}
	bool has_worked = op->has_worked;
	if (has_worked)
		memcpy(out, op->out, n);
	op_release(offload, op);
	return has_worked;
}

/* An op for the task in hand; NULL: it is to be done at once. */
static struct tls_op *op_for_task(struct tls_offload *offload, enum tls_op_kind kind)
{
	struct tls_op *op = task_that_waits(offload) == NULL ? NULL : op_take(offload);
	if (op != NULL)
		op->kind = (uint8_t)kind;
	return op;
}

static bool is_cancelled(void)
{
	return current != NULL && current->is_cancelled;
}

/* Counters are the core's alone. */
static void count_scalar(struct tls_offload *offload, enum tls_op_kind kind, uint64_t began)
{
	if (current == NULL || current->offload != offload)
		return;
	offload->counters.kind[kind].scalar++;
	offload->counters.kind[kind].scalar_ns += clock_ns() - began;
}

bool tls_offload_rsa(
	struct tls_offload *offload, struct tls_rsa_key *key, const uint8_t *in, uint8_t *out)
{
	if (is_cancelled())
		return false;
	struct tls_op *op =
		key->is_batchable ? op_for_task(offload, (enum tls_op_kind)key->kind) : NULL;
	if (op != NULL) {
		op->key = tls_rsa_key_get(key);
		memcpy(op->in, in, key->bytes);
		return op_perform(offload, op, out, key->bytes);
	}
	uint64_t began = clock_ns();
	bool has_worked = tls_scalar_rsa(key, in, out);
	if (key->is_batchable)
		count_scalar(offload, (enum tls_op_kind)key->kind, began);
	return has_worked;
}

bool tls_offload_x25519(struct tls_offload *offload, const uint8_t secret[TLS_X25519_BYTES],
	const uint8_t peer[TLS_X25519_BYTES], uint8_t shared[TLS_X25519_BYTES])
{
	if (is_cancelled())
		return false;
	struct tls_op *op = op_for_task(offload, TLS_OP_X25519);
	if (op != NULL) {
		memcpy(op->in, secret, TLS_X25519_BYTES);
		memcpy(op->in + TLS_X25519_BYTES, peer, TLS_X25519_BYTES);
		return op_perform(offload, op, shared, TLS_X25519_BYTES);
	}
	uint64_t began = clock_ns();
	bool has_worked = tls_scalar_x25519(offload->openssl, secret, peer, shared);
	count_scalar(offload, TLS_OP_X25519, began);
	return has_worked;
}

bool tls_offload_x25519_key(struct tls_offload *offload, uint8_t secret[TLS_X25519_BYTES],
	uint8_t public[TLS_X25519_BYTES])
{
	const struct tls_task *task = current;
	bool is_batched = task != NULL && task->offload == offload &&
		task->backend != TLS_BACKEND_INLINE && tls_mb_unusable() == NULL;
	if (is_batched && offload->key_count == 0)
		keys_make(offload);
	if (!is_batched || offload->key_count == 0)
		return tls_scalar_x25519_key(offload->openssl, secret, public);
	struct x25519_key *key = &offload->keys[--offload->key_count];
	memcpy(secret, key->secret, TLS_X25519_BYTES);
	memcpy(public, key->public, TLS_X25519_BYTES);
	OPENSSL_cleanse(key, sizeof *key);
	return true;
}

/* ---- names ---- */

const char *tls_op_name(enum tls_op_kind kind)
{
	static const char *const names[] = {
#define _(id, name) name,
		TLS_OP_KINDS(_)
#undef _
	};
	return kind < TLS_OP_KIND_COUNT ? names[kind] : "none";
}

const char *tls_backend_name(enum tls_backend backend)
{
	static const char *const names[] = {
#define _(id, name) name,
		TLS_BACKENDS(_)
#undef _
	};
	return backend < sizeof names / sizeof names[0] ? names[backend] : "none";
}
