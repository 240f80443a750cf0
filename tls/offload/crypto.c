// SPDX-License-Identifier: Apache-2.0
/* tls/offload/crypto.c: the crypto thread: rings to the cores, what is given to the engine and when, start and end.
 *
 * Who writes what: a port's `up` ring is its core's to push and the thread's to pop, `down` the other way round. The
 * table of ports is changed under its mutex, which the thread holds for each look at the rings; no core ever does. */
#include "tls/offload/crypto.h"

#include "base/clock.h"
#include "base/ring.h"
#include "tls/offload/engine.h"
#include "tls/tls_private.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	RING_ENTRIES = 256, /* more than a core has ops */
	WAITING_MAX = 256,  /* of a kind, taken from the rings; the others wait there */
	TAKEN_AT_ONCE = 64, /* of a port in one look, so that none starves */
	IDLE_LOOKS = 500,   /* at the rings before the thread sleeps: some 50 us */
	SLEEP_MS = 200,	    /* at most, should a waking be missed */
	REST_US = 20,	    /* between looks at hardware that works */
	LOAD_S = 5,	    /* for an engine to be loaded and tried */
	STOP_S = 2,	    /* for the thread to end */
};
static_assert((int)RING_ENTRIES > (int)TLS_OPS_MAX, "what a core has out fits its rings");

struct tls_crypto_port {
	struct ring up, down;
	_Atomic bool is_submitting;
	struct tls_offload *offload;
};

struct waiting {
	struct tls_op *op;
	struct tls_crypto_port *port;
};

struct queue {
	struct waiting at[WAITING_MAX]; /* oldest first */
	uint32_t count;
};

struct slot {
	struct crypto_work work;
	bool is_out, is_padding;
	struct waiting from; /* op NULL: padding, or it has been given back undone */
	uint64_t due_us;
};

enum load { LOADING, LOADED, REFUSED, GIVEN_UP };

static struct {
	_Atomic(struct tls_crypto_port *) ports[TLS_CRYPTO_PORTS_MAX];
	pthread_mutex_t ports_change;
	_Atomic bool is_open; /* ops are taken */
	_Atomic uint32_t is_asleep; /* a futex */
	_Atomic bool is_broken, is_hardware;
	_Atomic bool is_silent; /* the thread itself is stuck: nothing comes back */
	bool is_running; /* the thread that starts and stops it */
	pthread_t thread;
	char name[64], file[256];
	/* Handed over at the start. */
	struct tls_crypto_config config;
	struct tls_error error;
	_Atomic uint8_t load; /* enum load: written once by the thread or by who waits for it */
	sem_t has_started;
#define _(name) _Atomic uint64_t name;
#define COUNTERS(_) _(ops) _(scalar) _(batches) _(padding) _(faults) _(timeouts) _(sleeps)
	COUNTERS(_)
#undef _
	/* The thread's own. */
	struct crypto_engine *engine;
	struct queue queues[TLS_OP_KIND_COUNT];
	struct slot slots[TLS_CRYPTO_SLOTS];
	uint32_t out;
} crypto = {.ports_change = PTHREAD_MUTEX_INITIALIZER};

#define COUNT(name) atomic_fetch_add_explicit(&crypto.name, 1, memory_order_relaxed)

static void futex(int operation, uint32_t value, const struct timespec *most)
{
	syscall(SYS_futex, &crypto.is_asleep, operation, value, most, NULL, 0);
}

static void wake(void)
{
	if (atomic_exchange(&crypto.is_asleep, 0) != 0)
		futex(FUTEX_WAKE_PRIVATE, 1, NULL);
}

/* ---- a core's side ---- */

/* `is_submitting` goes up before `is_open` is read, and at the end `is_open` goes down before the thread reads
 * `is_submitting` (all sequentially consistent): so either the op is refused here, or the thread waits for it. The
 * same way the thread writes `is_asleep` before its last look at the rings, and we read it after the push. */
static bool port_submit(void *user, struct tls_op *op)
{
	struct tls_crypto_port *port = user;
	atomic_store(&port->is_submitting, true);
	bool is_taken = atomic_load(&crypto.is_open) && !atomic_load(&crypto.is_silent) &&
		ring_push_spsc(&port->up, op);
	atomic_store(&port->is_submitting, false);
	if (is_taken && atomic_load(&crypto.is_asleep) != 0)
		wake();
	return is_taken;
}

static bool port_poll(void *user)
{
	struct tls_crypto_port *port = user;
	bool any = false;
	for (struct tls_op *op; (op = ring_pop_spsc(&port->down)) != NULL; any = true)
		tls_offload_returned(port->offload, op);
	if (any && atomic_load_explicit(&crypto.is_silent, memory_order_relaxed))
		atomic_store(&crypto.is_silent, false);
	return any;
}

/* Nothing more is given to it until something has come back. */
static void port_lost(void *user)
{
	atomic_store(&crypto.is_silent, true);
}

static const char *port_unusable(void *user)
{
	return !atomic_load(&crypto.is_open)	  ? "no engine is loaded"
		: atomic_load(&crypto.is_silent) ? "the engine's thread is stuck"
						 : NULL;
}

static bool port_register(struct tls_crypto_port *port)
{
	bool is_placed = false;
	pthread_mutex_lock(&crypto.ports_change);
	for (size_t i = 0; i < TLS_CRYPTO_PORTS_MAX && !is_placed; i++)
		if (crypto.ports[i] == NULL) {
			crypto.ports[i] = port;
			is_placed = true;
		}
	pthread_mutex_unlock(&crypto.ports_change);
	return is_placed;
}

struct tls_crypto_port *tls_crypto_port_open(struct tls_offload *offload)
{
	struct tls_crypto_port *port = calloc(1, sizeof *port);
	if (port == NULL)
		return NULL;
	port->offload = offload;
	if (!ring_init(&port->up, RING_ENTRIES) || !ring_init(&port->down, RING_ENTRIES) ||
		!port_register(port)) {
		ring_fini(&port->up);
		ring_fini(&port->down);
		free(port);
		return NULL;
	}
	const struct tls_engine engine = {port, port_submit, port_poll, port_lost, port_unusable};
	tls_offload_set_engine(offload, &engine);
	return port;
}

void tls_crypto_port_close(struct tls_crypto_port *port)
{
	if (port == NULL)
		return;
	pthread_mutex_lock(&crypto.ports_change);
	for (size_t i = 0; i < TLS_CRYPTO_PORTS_MAX; i++)
		if (crypto.ports[i] == port)
			crypto.ports[i] = NULL;
	pthread_mutex_unlock(&crypto.ports_change);
	ring_fini(&port->up);
	ring_fini(&port->down);
	free(port);
}

/* ---- in and out ---- */

static bool take(struct tls_crypto_port *port)
{
	bool any = false;
	for (int i = 0; i < TAKEN_AT_ONCE; i++) {
		for (int kind = 0; kind < TLS_OP_KIND_COUNT; kind++)
			if (crypto.queues[kind].count == WAITING_MAX)
				return any;
		struct tls_op *op = ring_pop_spsc(&port->up);
		if (op == NULL)
			return any;
		struct queue *queue = &crypto.queues[op->kind];
		queue->at[queue->count++] = (struct waiting){op, port};
		COUNT(ops);
		any = true;
	}
	return any;
}

static bool take_all(void)
{
	bool any = false;
	pthread_mutex_lock(&crypto.ports_change);
	for (size_t i = 0; i < TLS_CRYPTO_PORTS_MAX; i++)
		if (crypto.ports[i] != NULL)
			any |= take(crypto.ports[i]);
	pthread_mutex_unlock(&crypto.ports_change);
	return any;
}

static bool is_anything_in_rings(void)
{
	bool any = false;
	pthread_mutex_lock(&crypto.ports_change);
	for (size_t i = 0; i < TLS_CRYPTO_PORTS_MAX; i++)
		if (crypto.ports[i] != NULL)
			any |= ring_count(&crypto.ports[i]->up) != 0;
	pthread_mutex_unlock(&crypto.ports_change);
	return any;
}

static void give_back(const struct waiting *from)
{
	bool has_room = ring_push_spsc(&from->port->down, from->op);
	assert(has_room);
}

static struct waiting queue_take(struct queue *queue)
{
	struct waiting first = queue->at[0];
	memmove(queue->at, queue->at + 1, --queue->count * sizeof queue->at[0]);
	return first;
}

/* By OpenSSL, here and now. */
static void do_scalar(const struct waiting *w)
{
	struct tls_op *op = w->op;
	op->has_worked = op->kind == TLS_OP_X25519
		? tls_scalar_x25519(NULL, op->in, op->in + TLS_X25519_BYTES, op->out)
		: tls_scalar_rsa(op->key, op->in, op->out);
	ERR_clear_error();
	COUNT(scalar);
	give_back(w);
}

/* ---- with the engine ---- */

static struct slot *free_slot(void)
{
	for (size_t i = 0; i < TLS_CRYPTO_SLOTS; i++)
		if (!crypto.slots[i].is_out)
			return &crypto.slots[i];
	return NULL;
}

static void slot_done(struct slot *slot)
{
	struct tls_op *op = slot->from.op;
	size_t n = slot->work.kind == TLS_OP_X25519 ? TLS_X25519_BYTES : op == NULL ? 0 : op->key->bytes;
	if (op != NULL && crypto_work_is_right(&slot->work)) {
		memcpy(op->out, slot->work.out, n);
		op->has_worked = true;
		give_back(&slot->from);
	} else if (op != NULL) {
		/* A share of small order gives zero, which is no fault (RFC 7748 6.1). */
		if (op->kind != TLS_OP_X25519)
			COUNT(faults);
		do_scalar(&slot->from);
	}
	crypto_work_end(&slot->work);
	slot->is_out = false;
	slot->from.op = NULL;
}

/* Gives `w` to the engine; as padding its result is nobody's. false: there is no slot. */
static bool start(const struct waiting *w, bool is_padding)
{
	struct slot *slot = free_slot();
	if (slot == NULL)
		return false;
	slot->from = is_padding ? (struct waiting){NULL, NULL} : *w;
	enum crypto_progress progress = crypto_work_start(&slot->work, crypto.engine, w->op);
	if (progress == CRYPTO_OUT) {
		slot->is_out = true;
		slot->due_us = time_monotonic_us() + TLS_CRYPTO_PATIENCE_MS * USEC_PER_MSEC;
		crypto.out++;
	} else {
		slot_done(slot);
	}
	return true;
}

static bool poll_engine(void)
{
	bool any = false;
	if (crypto.out == 0)
		return false;
	crypto_engine_poll(crypto.engine);
	for (size_t i = 0; i < TLS_CRYPTO_SLOTS; i++) {
		struct slot *slot = &crypto.slots[i];
		if (!slot->is_out || crypto_work_go_on(&slot->work) == CRYPTO_OUT)
			continue;
		crypto.out--;
		slot_done(slot);
		any = true;
	}
	return any;
}

/* What the engine has kept for too long is done by OpenSSL; the slot stays, for the engine may still write there. */
static void give_up(void)
{
	uint64_t now_us = time_monotonic_us();
	for (size_t i = 0; i < TLS_CRYPTO_SLOTS; i++) {
		struct slot *slot = &crypto.slots[i];
		if (!slot->is_out || now_us < slot->due_us)
			continue;
		atomic_store(&crypto.is_broken, true);
		if (slot->from.op != NULL) {
			COUNT(timeouts);
			do_scalar(&slot->from);
			slot->from.op = NULL;
		}
	}
}

/* ---- what is given to it, and when ---- */

/* Eight of the queue's, or what there is and as much padding as makes eight. */
static bool start_batch(struct queue *queue)
{
	if (crypto.out + TLS_LANES > TLS_CRYPTO_SLOTS)
		return false;
	uint32_t count = queue->count < TLS_LANES ? queue->count : TLS_LANES;
	/* First what nobody asked for: it lends its numbers from an op that has not gone home. */
	for (uint32_t i = count; i < TLS_LANES; i++, COUNT(padding))
		start(&queue->at[0], true);
	for (uint32_t i = 0; i < count; i++) {
		struct waiting w = queue_take(queue);
		start(&w, false);
	}
	COUNT(batches);
	return true;
}

static bool serve_software(enum tls_op_kind kind, bool has_more_come)
{
	struct queue *queue = &crypto.queues[kind];
	bool is_batch = queue->count >= TLS_LANES ||
		(!has_more_come && queue->count >= tls_mb_least(kind));
	if (is_batch)
		return start_batch(queue);
	if (queue->count == 0 || has_more_come)
		return false;
	struct waiting w = queue_take(queue);
	do_scalar(&w);
	return true;
}

static bool serve_hardware(enum tls_op_kind kind)
{
	struct queue *queue = &crypto.queues[kind];
	bool any = false;
	while (queue->count != 0 && start(&queue->at[0], false)) {
		queue_take(queue);
		any = true;
	}
	return any;
}

static bool serve_openssl(enum tls_op_kind kind)
{
	if (crypto.queues[kind].count == 0)
		return false;
	struct waiting w = queue_take(&crypto.queues[kind]);
	do_scalar(&w);
	return true;
}

static bool serve(enum tls_op_kind kind, bool has_more_come)
{
	if (crypto.is_broken || !crypto_engine_takes(crypto.engine, kind))
		return serve_openssl(kind);
	return crypto.is_hardware ? serve_hardware(kind) : serve_software(kind, has_more_come);
}

static bool turn(void)
{
	bool has_more_come = take_all(), any = has_more_come;
	for (int kind = 0; kind < TLS_OP_KIND_COUNT; kind++) {
		any |= serve((enum tls_op_kind)kind, has_more_come);
		any |= poll_engine();
	}
	if (crypto.out != 0 && !any)
		give_up();
	return any;
}

/* ---- rest ---- */

/* Nothing waits and nothing is out but what is stuck. */
static bool is_idle(void)
{
	for (size_t i = 0; i < TLS_CRYPTO_SLOTS; i++)
		if (crypto.slots[i].from.op != NULL)
			return false;
	for (int kind = 0; kind < TLS_OP_KIND_COUNT; kind++)
		if (crypto.queues[kind].count != 0)
			return false;
	return true;
}

static void sleep_until_woken(void)
{
	const struct timespec most = {.tv_nsec = SLEEP_MS * 1000000l};
	crypto_engine_sweep(crypto.engine);
	atomic_store(&crypto.is_asleep, 1);
	if (!is_anything_in_rings() && atomic_load(&crypto.is_open)) {
		COUNT(sleeps);
		futex(FUTEX_WAIT_PRIVATE, 1, &most);
	}
	atomic_store(&crypto.is_asleep, 0);
}

static void rest(uint32_t *looks)
{
	if (is_idle()) {
		if (++*looks >= IDLE_LOOKS) {
			sleep_until_woken();
			*looks = 0;
		} else {
			ck_pr_stall();
		}
	} else if (++*looks > IDLE_LOOKS / 10) {
		nanosleep(&(struct timespec){.tv_nsec = REST_US * 1000}, NULL);
	}
}

/* ---- start and end ---- */

/* Nothing is taken any more; a core that was just about to give us something has done so. */
static void wait_for_submitters(void)
{
	pthread_mutex_lock(&crypto.ports_change);
	for (size_t i = 0; i < TLS_CRYPTO_PORTS_MAX; i++)
		while (crypto.ports[i] != NULL && atomic_load(&crypto.ports[i]->is_submitting))
			ck_pr_stall();
	pthread_mutex_unlock(&crypto.ports_change);
}

static void *run(void *unused)
{
	uint32_t looks = 0;
	pthread_setname_np(pthread_self(), "crypto");
	bool is_stuck = false;
	crypto.engine = crypto_engine_load(&crypto.config, &is_stuck, &crypto.error);
	if (is_stuck)
		atomic_store(&crypto.is_broken, true);
	bool is_loaded = crypto.engine != NULL;
	if (is_loaded)
		crypto.is_hardware = crypto_engine_is_hardware(crypto.engine);
	uint8_t loading = LOADING;
	if (!atomic_compare_exchange_strong(&crypto.load, &loading, is_loaded ? LOADED : REFUSED))
		return NULL; /* nobody waits any more, and the engine is left as it is */
	atomic_store(&crypto.is_open, is_loaded);
	sem_post(&crypto.has_started);
	while (is_loaded && atomic_load(&crypto.is_open)) {
		if (turn())
			looks = 0;
		else
			rest(&looks);
	}
	wait_for_submitters();
	while (is_loaded && (turn() || !is_idle() || (crypto.out != 0 && !crypto.is_broken)))
		rest(&looks);
	if (is_loaded)
		crypto_engine_unload(crypto.engine, crypto.out != 0);
	OPENSSL_thread_stop();
	return NULL;
}

static struct timespec in_seconds(time_t seconds)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += seconds;
	return t;
}

/* It may be stuck in the engine for ever. */
static void leave_thread(void)
{
	pthread_detach(crypto.thread);
	atomic_store(&crypto.is_broken, true);
}

static void stop_thread(void)
{
	const struct timespec until = in_seconds(STOP_S);
	atomic_store(&crypto.is_open, false);
	wake();
	if (pthread_clockjoin_np(crypto.thread, NULL, CLOCK_MONOTONIC, &until) != 0)
		leave_thread();
	crypto.is_running = false;
}

/* How the loading ended; an engine that takes too long is given up. */
static enum load wait_for_load(void)
{
	const struct timespec until = in_seconds(LOAD_S);
	while (sem_clockwait(&crypto.has_started, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
		;
	uint8_t load = LOADING;
	if (!atomic_compare_exchange_strong(&crypto.load, &load, GIVEN_UP))
		return (enum load)load;
	leave_thread();
	return GIVEN_UP;
}

bool tls_crypto_start(const struct tls_crypto_config *config, struct tls_error *error)
{
	tls_process_init();
	if (crypto.is_running || crypto.is_broken) {
		tls_error_set(error, crypto.is_running ? "there is a crypto thread already"
						       : "the engine has failed; the process must be started anew");
		return false;
	}
	snprintf(crypto.name, sizeof crypto.name, "%s", config->engine);
	snprintf(crypto.file, sizeof crypto.file, "%s", config->engine);
	crypto.config = *config;
	crypto.config.engine = crypto.file;
	atomic_store(&crypto.load, LOADING);
	atomic_store(&crypto.is_silent, false);
	sem_init(&crypto.has_started, 0, 0);
	if (pthread_create(&crypto.thread, NULL, run, NULL) != 0) {
		tls_error_set(error, "no crypto thread can be started");
		return false;
	}
	switch (wait_for_load()) {
	case LOADED:
		crypto.is_running = true;
		error->text[0] = '\0';
		return true;
	case REFUSED:
		stop_thread();
		*error = crypto.error;
		return false;
	case LOADING:
	case GIVEN_UP: break;
	}
	tls_error_set(error, "the engine %.60s has not started within %d seconds", config->engine, LOAD_S);
	return false;
}

void tls_crypto_stop(void)
{
	if (crypto.is_running)
		stop_thread();
}

/* ---- what others see ---- */

void tls_crypto_get_counters(struct tls_crypto_counters *counters)
{
#define _(name) counters->name = atomic_load_explicit(&crypto.name, memory_order_relaxed);
	COUNTERS(_)
#undef _
}

void tls_crypto_describe(char *to, size_t size)
{
	to[0] = '\0';
	if (atomic_load(&crypto.is_open))
		snprintf(to, size, "%s, %s%s", crypto.name, crypto.is_hardware ? "hardware" : "software",
			crypto.is_silent	   ? ", silent"
				: crypto.is_broken ? ", broken"
						   : "");
}
