// SPDX-License-Identifier: Apache-2.0
/* The crypto thread with a lab engine (lab_engine.c) that behaves as hardware or as QAT_SW does, or badly; and with
 * Debian's qatengine itself.
 *
 * QAT_SW looks at the processor's maker and does nothing but on Intel's, though libcrypto-mb works on any with
 * AVX512-IFMA. The question is a function of the engine's that this program answers in its place, so that the test
 * runs wherever libcrypto-mb does. The product does no such thing. */
#include "tls/offload/crypto.h"

#include "base/clock.h"
#include "tls/offload/fibre.h"
#include "tls/offload/offload_private.h"
#include "tls/tls_private.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static int is_intel_pretended;
int qat_sw_cpu_support(void);
int qat_sw_cpu_support(void)
{
	return is_intel_pretended;
}

/* What qatengine forgets at each start: the digests it made before it was given its bitmap, and its thread's queues,
 * made within the first job; some KiB. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:EVP_MD_meth_new\nleak:run_in_job";
}

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "fast_unwind_on_malloc=0"; /* or libcrypto's functions have no names */
}

/* ---- a core ---- */

enum { VISITORS_MAX = 128 };

static const char *lab_engine; /* its file */
static OSSL_LIB_CTX *openssl;
static EVP_PKEY *inner;
static struct tls_rsa_key *rsa_key;

struct visitor {
	struct tls_task task;
	struct tls_rsa_key *key; /* NULL: X25519 */
	uint8_t in[TLS_RSA_BYTES_MAX], out[TLS_RSA_BYTES_MAX];
	bool is_woken, has_worked, is_over;
};

struct core {
	struct tls_offload *offload;
	struct tls_crypto_port *port;
	struct visitor visitors[VISITORS_MAX];
};

static struct core *core_new(void)
{
	struct core *c = calloc(1, sizeof *c);
	assert_non_null(c);
	c->offload = tls_offload_create(openssl);
	assert_non_null(c->offload);
	c->port = tls_crypto_port_open(c->offload);
	assert_non_null(c->port);
	return c;
}

/* Polls until nothing waits, for some seconds at most. */
static void core_settle(struct core *c)
{
	for (int i = 0; i < 100000 && tls_offload_waiting(c->offload) != 0; i++)
		if (!tls_offload_poll(c->offload, 0, true))
			thrd_sleep(&(struct timespec){.tv_nsec = 50000}, NULL);
	assert_int_equal(tls_offload_waiting(c->offload), 0);
}

static void core_free(struct core *c)
{
	core_settle(c);
	tls_crypto_port_close(c->port);
	tls_offload_destroy(c->offload);
	free(c);
}

static void woken(void *user)
{
	((struct visitor *)user)->is_woken = true;
}

static void visit(void *user)
{
	struct visitor *v = user;
	v->has_worked = v->key != NULL
		? tls_offload_rsa(v->task.offload, v->key, v->in, v->out)
		: tls_offload_x25519(v->task.offload, v->in, v->in + TLS_X25519_BYTES, v->out);
}

static void enter(struct core *c, int i, struct tls_rsa_key *key)
{
	struct visitor *v = &c->visitors[i];
	*v = (struct visitor){.task = {c->offload, TLS_BACKEND_ENGINE, woken, v}, .key = key};
	RAND_bytes(v->in, sizeof v->in);
	v->in[0] = 0;
	v->is_over = tls_task_run(&v->task, visit, v);
}

static bool is_right(const struct visitor *v)
{
	uint8_t right[TLS_RSA_BYTES_MAX];
	bool is_there = v->key == NULL
		? tls_scalar_x25519(openssl, v->in, v->in + TLS_X25519_BYTES, right)
		: tls_scalar_rsa(v->key, v->in, right);
	size_t n = v->key == NULL ? TLS_X25519_BYTES : v->key->bytes;
	return is_there && v->has_worked && memcmp(v->out, right, n) == 0;
}

/* All who entered come to their end with the right result. */
static void leave_all(struct core *c, int count)
{
	core_settle(c);
	for (int i = 0; i < count; i++) {
		struct visitor *v = &c->visitors[i];
		if (!v->is_over) {
			assert_true(v->is_woken);
			v->is_over = tls_task_run(&v->task, visit, v);
		}
		assert_true(v->is_over);
		assert_true(is_right(v));
	}
}

/* Some of each kind at once, and then of one alone. */
static void serve_crowds(struct core *c)
{
	static const int sizes[] = {1, 2, 3, 7, 8, 9, 40, 100};
	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		for (int i = 0; i < sizes[s]; i++)
			enter(c, i, i % 3 == 0 ? NULL : rsa_key);
		leave_all(c, sizes[s]);
	}
}

static struct tls_crypto_counters counted(void)
{
	struct tls_crypto_counters counters;
	tls_crypto_get_counters(&counters);
	return counters;
}

static bool start_engine(const char *engine, const char *behaviour, struct tls_error *error)
{
	const struct tls_crypto_config config = {
		engine, TLS_CRYPTO_ALGORITHMS_DEFAULT, TLS_CRYPTO_ALGORITHMS_DEFAULT};
	setenv("LAB_ENGINE", behaviour, 1);
	return tls_crypto_start(&config, error);
}

static void assert_starts(const char *engine, const char *behaviour)
{
	struct tls_error error;
	bool has_started = start_engine(engine, behaviour, &error);
	assert_string_equal(error.text, "");
	assert_true(has_started);
}

static void assert_refused(const char *engine, const char *behaviour, const char *reason)
{
	struct tls_error error = {""};
	assert_false(start_engine(engine, behaviour, &error));
	if (strstr(error.text, reason) == NULL)
		fail_msg("'%s' is not in: %s", reason, error.text);
}

/* ---- an engine that works ---- */

static void hardware_gives_what_openssl_gives(void **state)
{
	struct core *c = core_new();
	char text[80];
	assert_starts(lab_engine, "hardware");
	struct tls_crypto_counters before = counted();
	tls_crypto_describe(text, sizeof text);
	assert_non_null(strstr(text, ", hardware"));
	assert_null(tls_offload_unusable(c->offload, TLS_BACKEND_ENGINE));
	serve_crowds(c);
	struct tls_crypto_counters after = counted();
	assert_int_equal(after.ops - before.ops, 170);
	assert_int_equal(after.scalar - before.scalar, 0);
	assert_int_equal(after.batches - before.batches, 0);
	tls_crypto_stop();
	core_free(c);
}

static void software_never_waits_for_an_eighth(void **state)
{
	struct core *c = core_new();
	char text[80];
	assert_starts(lab_engine, "software"); /* it does fewer than eight never */
	struct tls_crypto_counters before = counted();
	tls_crypto_describe(text, sizeof text);
	assert_non_null(strstr(text, ", software"));
	serve_crowds(c);
	struct tls_crypto_counters after = counted();
	assert_int_equal(after.ops - before.ops, 170);
	assert_int_equal(after.timeouts - before.timeouts, 0);
	assert_true(after.batches > before.batches);
	/* Each is done in a batch or alone. */
	assert_int_equal((after.batches - before.batches) * TLS_LANES + after.scalar - before.scalar,
		after.ops - before.ops + after.padding - before.padding);
	tls_crypto_stop();
	core_free(c);
}

static void two_cores_share_the_thread(void **state)
{
	struct core *c[2] = {core_new(), core_new()};
	assert_starts(lab_engine, "software");
	for (int i = 0; i < 60; i++)
		for (int k = 0; k < 2; k++)
			enter(c[k], i, i % 2 == 0 ? NULL : rsa_key);
	for (int k = 0; k < 2; k++)
		leave_all(c[k], 60);
	core_free(c[0]); /* while the thread runs */
	serve_crowds(c[1]);
	tls_crypto_stop();
	core_free(c[1]);
}

static void a_share_of_small_order_fails_its_handshake_alone(void **state)
{
	struct core *c = core_new();
	assert_starts(lab_engine, "hardware");
	enter(c, 0, rsa_key);
	struct visitor *v = &c->visitors[1];
	*v = (struct visitor){.task = {c->offload, TLS_BACKEND_ENGINE, woken, v}};
	memset(v->in, 7, TLS_X25519_BYTES); /* and the peer's share is zero (RFC 7748 6.1) */
	assert_false(tls_task_run(&v->task, visit, v));
	leave_all(c, 1);
	assert_true(tls_task_run(&v->task, visit, v));
	assert_false(v->has_worked);
	tls_crypto_stop();
	core_free(c);
}

static void handshakes_may_close_while_their_ops_are_out(void **state)
{
	struct core *c = core_new();
	assert_starts(lab_engine, "slow");
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 30; i++)
			enter(c, i, i % 3 == 0 ? NULL : rsa_key);
		for (int i = 0; i < 30; i += 2) {
			tls_task_cancel(&c->visitors[i].task);
			assert_false(c->visitors[i].has_worked);
		}
		core_settle(c);
		for (int i = 1; i < 30; i += 2) {
			assert_true(tls_task_run(&c->visitors[i].task, visit, &c->visitors[i]));
			assert_true(is_right(&c->visitors[i]));
		}
	}
	tls_crypto_stop();
	core_free(c);
}

static void a_key_may_disappear_while_its_ops_are_out(void **state)
{
	struct core *c = core_new();
	assert_starts(lab_engine, "slow");
	struct tls_rsa_key *key = tls_rsa_key_create(openssl, inner);
	for (int i = 0; i < 20; i++)
		enter(c, i, key);
	tls_rsa_key_put(key); /* the generation is gone; its handshakes are not */
	core_settle(c);
	for (int i = 0; i < 20; i++) {
		struct visitor *v = &c->visitors[i];
		assert_true(tls_task_run(&v->task, visit, v));
		v->key = rsa_key; /* the same numbers */
		assert_true(is_right(v));
	}
	tls_crypto_stop();
	core_free(c);
}

static void more_keys_than_it_holds_ready_are_served(void **state)
{
	struct core *c = core_new();
	struct tls_rsa_key *keys[TLS_CRYPTO_KEYS + 20];
	enum { KEYS = sizeof keys / sizeof keys[0] };
	assert_starts(lab_engine, "hardware");
	for (int i = 0; i < KEYS; i++)
		keys[i] = tls_rsa_key_create(openssl, inner);
	for (int i = 0; i < KEYS; i++)
		enter(c, i, keys[i]);
	leave_all(c, KEYS);
	for (int i = 0; i < KEYS; i++)
		tls_rsa_key_put(keys[i]);
	tls_crypto_stop();
	core_free(c);
}

static void stopping_gives_everything_back_first(void **state)
{
	struct core *c = core_new();
	for (int round = 0; round < 3; round++) {
		assert_starts(lab_engine, round == 0 ? "slow" : "software");
		for (int i = 0; i < 50; i++)
			enter(c, i, i % 3 == 0 ? NULL : rsa_key);
		tls_crypto_stop();
		leave_all(c, 50);
		assert_string_equal(tls_offload_unusable(c->offload, TLS_BACKEND_ENGINE), "no engine is loaded");
		/* Without a thread handshakes do their own work. */
		enter(c, 0, rsa_key);
		assert_true(c->visitors[0].is_over);
		leave_all(c, 1);
	}
	core_free(c);
}

static void an_idle_thread_sleeps_and_is_woken(void **state)
{
	struct core *c = core_new();
	assert_starts(lab_engine, "hardware");
	uint64_t sleeps = counted().sleeps;
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 5000 && counted().sleeps == sleeps; i++)
			thrd_sleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		assert_true(counted().sleeps > sleeps);
		sleeps = counted().sleeps;
		enter(c, 0, rsa_key);
		leave_all(c, 1);
	}
	tls_crypto_stop();
	core_free(c);
}

/* ---- engines that do not ---- */

static void an_engine_that_is_not_usable_is_refused_with_its_reason(void **state)
{
	assert_refused("no-such-engine", "", "the engine no-such-engine cannot be loaded: ");
	assert_refused("/nonexistent/engine.so", "", "cannot be loaded: ");
	assert_refused(lab_engine, "no-init", "does not start: ");
	assert_refused(lab_engine, "no-polling", "does not start: ");
	assert_refused(lab_engine, "nothing", "does none of its algorithms here");
	assert_refused(lab_engine, "wrong", "gave a wrong answer to the first RSA operation");
	char text[80];
	tls_crypto_describe(text, sizeof text);
	assert_string_equal(text, "");
}

static bool is_refused_for(const char *behaviour, const char *reason)
{
	struct tls_error error = {""};
	return !start_engine(lab_engine, behaviour, &error) && strstr(error.text, reason) != NULL &&
		!start_engine(lab_engine, "hardware", &error) &&
		strstr(error.text, "the process must be started anew") != NULL;
}

static bool silent_is_refused(void)
{
	return is_refused_for("silent", "gave no answer to the first RSA operation");
}

static bool hanging_is_refused(void)
{
	return is_refused_for("hang-init", "has not started within 5 seconds");
}

/* The polls have no other clock than this. */
static void poll_for(struct core *c, unsigned ms)
{
	uint64_t now_us = time_monotonic_us(), until_us = now_us + ms * USEC_PER_MSEC;
	for (; now_us < until_us; now_us = time_monotonic_us()) {
		tls_offload_poll(c->offload, now_us * 1000, true);
		thrd_sleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

static bool stuck_thread_holds_up_nobody(void)
{
	struct tls_lib *lib = tls_lib_create();
	struct core core = {.offload = lib->offload, .port = lib->port}, *c = &core;
	EVP_PKEY *pair = EVP_PKEY_Q_keygen(lib->openssl, NULL, "RSA", (size_t)2048);
	struct tls_rsa_key *key = tls_rsa_key_create(lib->openssl, pair);
	struct tls_error error;
	char text[80];
	bool is_well = start_engine(lab_engine, "hang-later", &error);
	for (int i = 0; i < 20; i++)
		enter(c, i, i % 3 == 0 ? NULL : key);
	tls_task_cancel(&c->visitors[19].task);
	poll_for(c, 2 * TLS_ENGINE_PATIENCE_MS);
	for (int i = 0; i < 19; i++) {
		struct visitor *v = &c->visitors[i];
		is_well = is_well && (v->is_over || tls_task_run(&v->task, visit, v)) && is_right(v);
	}
	tls_crypto_describe(text, sizeof text);
	is_well = is_well && strstr(text, ", silent") != NULL && tls_offload_waiting(c->offload) == 0 &&
		tls_offload_counters(c->offload)->lost > 0 && tls_offload_has_lost(c->offload) &&
		strcmp(tls_offload_unusable(c->offload, TLS_BACKEND_ENGINE), "the engine's thread is stuck") == 0;
	enter(c, 0, key); /* at once, by OpenSSL */
	is_well = is_well && c->visitors[0].is_over && is_right(&c->visitors[0]);
	tls_crypto_stop(); /* and comes back */
	tls_lib_destroy(lib);
	return is_well && is_right(&c->visitors[0]); /* what the thread still has to do can be done */
}

/* Each in a process of its own, for no engine is started there any more; all from the first, for they mostly wait. */
static struct apart {
	bool (*holds)(void);
	pid_t pid;
} silent = {silent_is_refused, 0}, hanging = {hanging_is_refused, 0}, stuck = {stuck_thread_holds_up_nobody, 0};

static void begin_apart(struct apart *apart)
{
	apart->pid = fork();
	if (apart->pid == 0)
		_exit(apart->holds() ? 0 : 1);
}

static void end_apart(const struct apart *apart)
{
	int status = -1;
	assert_int_equal(waitpid(apart->pid, &status, 0), apart->pid);
	assert_int_equal(status, 0);
}

static void an_engine_that_is_silent_from_the_first_is_refused(void **state)
{
	end_apart(&silent);
}

static void an_engine_that_does_not_come_back_from_its_start_is_refused(void **state)
{
	end_apart(&hanging);
}

static void a_thread_that_is_stuck_in_its_engine_holds_up_nobody(void **state)
{
	end_apart(&stuck);
}

static void there_is_one_thread_a_process(void **state)
{
	assert_starts(lab_engine, "hardware");
	assert_refused(lab_engine, "hardware", "there is a crypto thread already");
	tls_crypto_stop();
	tls_crypto_stop();
	assert_starts(lab_engine, "hardware");
	tls_crypto_stop();
}

static void an_algorithm_it_may_not_do_is_openssls(void **state)
{
	struct core *c = core_new();
	struct tls_error error;
	setenv("LAB_ENGINE", "hardware", 1);
	assert_true(tls_crypto_start(&(struct tls_crypto_config){lab_engine, 0x1, 0x1}, &error));
	uint64_t before = counted().scalar;
	for (int i = 0; i < 10; i++)
		enter(c, i, i < 5 ? NULL : rsa_key);
	leave_all(c, 10);
	assert_int_equal(counted().scalar - before, 5);
	tls_crypto_stop();
	core_free(c);
}

static void a_fault_is_found_and_mended(void **state)
{
	struct core *c = core_new();
	assert_starts(lab_engine, "wrong-later");
	uint64_t before = counted().faults;
	for (int i = 0; i < 10; i++)
		enter(c, i, rsa_key);
	leave_all(c, 10);
	assert_int_equal(counted().faults - before, 10);
	tls_crypto_stop();
	core_free(c);
}

/* ---- qatengine ---- */

static void qatengine_does_nothing_where_it_finds_nothing_of_intels(void **state)
{
	is_intel_pretended = 0;
	assert_refused("qatengine", "",
		"the engine qatengine does none of its algorithms here: there is no QAT hardware");
}

static void qatengine_gives_what_openssl_gives(void **state)
{
	if (tls_mb_unusable() != NULL) {
		print_message("QAT_SW is not tried: %s\n", tls_mb_unusable());
		return;
	}
	is_intel_pretended = 1;
	struct core *c = core_new();
	for (int round = 0; round < 2; round++) { /* it can be started again */
		assert_starts("qatengine", "");
		struct tls_crypto_counters before = counted();
		serve_crowds(c);
		struct tls_crypto_counters after = counted();
		assert_int_equal(after.ops - before.ops, 170);
		assert_int_equal(after.faults - before.faults, 0);
		assert_true(after.batches > before.batches);
		tls_crypto_stop();
	}
	core_free(c);
}

/* Last: afterwards no engine is started in this process any more. */
static void an_engine_that_falls_silent_is_given_up(void **state)
{
	struct core *c = core_new();
	char text[80];
	assert_starts(lab_engine, "silent-later");
	for (int i = 0; i < 20; i++)
		enter(c, i, i % 3 == 0 ? NULL : rsa_key);
	leave_all(c, 20);
	assert_int_equal(counted().timeouts, 20);
	tls_crypto_describe(text, sizeof text);
	assert_non_null(strstr(text, ", broken"));
	serve_crowds(c); /* by OpenSSL */
	assert_int_equal(counted().timeouts, 20);
	tls_crypto_stop();
	core_free(c);
	assert_refused(lab_engine, "hardware", "the process must be started anew");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hardware_gives_what_openssl_gives),
		cmocka_unit_test(software_never_waits_for_an_eighth),
		cmocka_unit_test(two_cores_share_the_thread),
		cmocka_unit_test(a_share_of_small_order_fails_its_handshake_alone),
		cmocka_unit_test(handshakes_may_close_while_their_ops_are_out),
		cmocka_unit_test(a_key_may_disappear_while_its_ops_are_out),
		cmocka_unit_test(more_keys_than_it_holds_ready_are_served),
		cmocka_unit_test(stopping_gives_everything_back_first),
		cmocka_unit_test(an_idle_thread_sleeps_and_is_woken),
		cmocka_unit_test(an_engine_that_is_not_usable_is_refused_with_its_reason),
		cmocka_unit_test(there_is_one_thread_a_process),
		cmocka_unit_test(an_algorithm_it_may_not_do_is_openssls),
		cmocka_unit_test(a_fault_is_found_and_mended),
		cmocka_unit_test(qatengine_does_nothing_where_it_finds_nothing_of_intels),
		cmocka_unit_test(qatengine_gives_what_openssl_gives),
		cmocka_unit_test(an_engine_that_falls_silent_is_given_up),
		cmocka_unit_test(an_engine_that_is_silent_from_the_first_is_refused),
		cmocka_unit_test(an_engine_that_does_not_come_back_from_its_start_is_refused),
		cmocka_unit_test(a_thread_that_is_stuck_in_its_engine_holds_up_nobody),
	};
	struct tls_fibres *fibres = tls_fibres_create(1);
	if (fibres == NULL)
		return 77; /* nothing can wait on this processor */
	tls_fibres_destroy(fibres);
	tls_process_init();
	lab_engine = argc > 1 ? argv[1] : "";
	openssl = OSSL_LIB_CTX_new();
	inner = EVP_PKEY_Q_keygen(openssl, NULL, "RSA", (size_t)2048);
	rsa_key = tls_rsa_key_create(openssl, inner);
	begin_apart(&silent);
	begin_apart(&hanging);
	begin_apart(&stuck);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	tls_rsa_key_put(rsa_key);
	EVP_PKEY_free(inner);
	OSSL_LIB_CTX_free(openssl);
	return failed;
}
