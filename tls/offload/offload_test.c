// SPDX-License-Identifier: Apache-2.0
#include "tls/offload/offload_private.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { TASKS_MAX = 200, MS = 1000000 };

static OSSL_LIB_CTX *openssl;
static EVP_PKEY *inner[3]; /* RSA-2048, -3072, -4096 */
static struct tls_rsa_key *keys[3];

/* A handshake that does one operation. */
struct visitor {
	struct tls_task task;
	struct tls_rsa_key *key; /* NULL: X25519 */
	uint8_t in[TLS_RSA_BYTES_MAX], out[TLS_RSA_BYTES_MAX], right[TLS_RSA_BYTES_MAX];
	int wakes;
	bool has_worked, is_over;
};

static struct tls_offload *offload;
static struct visitor visitors[TASKS_MAX];

static void woken(void *user)
{
	((struct visitor *)user)->wakes++;
}

static void visit(void *user)
{
	struct visitor *v = user;
	v->has_worked = v->key != NULL
		? tls_offload_rsa(v->task.offload, v->key, v->in, v->out)
		: tls_offload_x25519(v->task.offload, v->in, v->in + TLS_X25519_BYTES, v->out);
}

static void enter(struct visitor *v, struct tls_rsa_key *key)
{
	*v = (struct visitor){
		.task = {offload, TLS_BACKEND_MB, woken, v},
		  .key = key
	  };
	RAND_bytes(v->in, sizeof v->in);
	v->in[0] = 0; /* below the modulus */
	v->is_over = tls_task_run(&v->task, visit, v);
}

static void leave(struct visitor *v)
{
	assert_int_equal(v->wakes, 1);
	assert_false(v->is_over);
	assert_true(tls_task_run(&v->task, visit, v));
	v->is_over = true;
}

static void assert_right(struct visitor *v)
{
	assert_true(v->is_over && v->has_worked);
	if (v->key == NULL)
		assert_true(tls_scalar_x25519(openssl, v->in, v->in + TLS_X25519_BYTES, v->right));
	else
		assert_true(tls_scalar_rsa(v->key, v->in, v->right));
	assert_memory_equal(v->out, v->right, v->key == NULL ? TLS_X25519_BYTES : v->key->bytes);
}

static const struct tls_offload_counters *counted(void)
{
	return tls_offload_counters(offload);
}

static int start(void **state)
{
	offload = tls_offload_create(openssl);
	return offload == NULL;
}

static int end(void **state)
{
	tls_offload_destroy(offload);
	return 0;
}

/* ---- results ---- */

static void each_number_of_lanes_gives_what_openssl_gives(void **state)
{
	for (int kind = 0; kind < TLS_OP_KIND_COUNT; kind++) {
		struct tls_rsa_key *key = kind == TLS_OP_X25519 ? NULL : keys[kind];
		for (uint32_t n = tls_mb_least((enum tls_op_kind)kind); n <= TLS_LANES; n++) {
			for (uint32_t i = 0; i < n; i++)
				enter(&visitors[i], key);
			assert_true(tls_offload_poll(offload, 0, true));
			for (uint32_t i = 0; i < n; i++) {
				leave(&visitors[i]);
				assert_right(&visitors[i]);
			}
			assert_int_equal(counted()->kind[kind].batches[n - 1], 1);
		}
		assert_int_equal(counted()->kind[kind].scalar, 0);
		assert_int_equal(counted()->kind[kind].faults, 0);
	}
}

static void kinds_do_not_mix(void **state)
{
	for (int i = 0; i < 24; i++)
		enter(&visitors[i], i % 3 == 0 ? keys[0] : i % 3 == 1 ? keys[1] : NULL);
	assert_true(tls_offload_poll(offload, 0, false));
	for (int i = 0; i < 24; i++) {
		leave(&visitors[i]);
		assert_right(&visitors[i]);
	}
	assert_int_equal(counted()->kind[TLS_OP_RSA_2048].batches[7], 1);
	assert_int_equal(counted()->kind[TLS_OP_RSA_3072].batches[7], 1);
	assert_int_equal(counted()->kind[TLS_OP_X25519].batches[7], 1);
}

static void a_fault_is_found_and_mended(void **state)
{
	struct tls_rsa_key *broken = tls_rsa_key_create(openssl, inner[0]);
	broken->dp[3] ^= 1u << 7;
	for (int i = 0; i < 8; i++)
		enter(&visitors[i], i == 5 ? broken : keys[0]);
	tls_offload_poll(offload, 0, false);
	for (int i = 0; i < 8; i++) {
		leave(&visitors[i]);
		assert_right(&visitors[i]);
	}
	assert_int_equal(counted()->kind[TLS_OP_RSA_2048].faults, 1);
	assert_int_equal(counted()->kind[TLS_OP_RSA_2048].scalar, 1);
	tls_rsa_key_put(broken);
}

static void a_secret_of_zero_is_a_failure(void **state)
{
	/* u = 0 has order 2, and u = 1 order 4 (RFC 7748 6.1) */
	for (int i = 0; i < 8; i++) {
		enter(&visitors[i], NULL);
		uint8_t *peer = visitors[i].task.op->in + TLS_X25519_BYTES;
		if (i == 2 || i == 6) {
			memset(peer, 0, TLS_X25519_BYTES);
			peer[0] = i == 6;
		}
	}
	tls_offload_poll(offload, 0, false);
	for (int i = 0; i < 8; i++) {
		leave(&visitors[i]);
		assert_int_equal(visitors[i].has_worked, i != 2 && i != 6);
	}
	uint8_t zero[TLS_X25519_BYTES] = {0}, out[TLS_X25519_BYTES];
	assert_false(tls_offload_x25519(offload, visitors[0].in, zero, out));
}

static uint8_t secrets[100][TLS_X25519_BYTES], publics[100][TLS_X25519_BYTES];

static void make_keys(void *user)
{
	for (int i = 0; i < 100; i++)
		assert_true(tls_offload_x25519_key(offload, secrets[i], publics[i]));
}

static void ephemeral_keys_are_pairs_and_each_is_given_once(void **state)
{
	static const uint8_t base[TLS_X25519_BYTES] = {9};
	uint8_t public[TLS_X25519_BYTES];
	struct tls_task task = {offload, TLS_BACKEND_MB};
	assert_true(tls_task_run(&task, make_keys, NULL));
	assert_int_equal(counted()->keys, 104);
	for (int i = 0; i < 100; i++) {
		assert_true(tls_scalar_x25519(openssl, secrets[i], base, public));
		assert_memory_equal(public, publics[i], TLS_X25519_BYTES);
		for (int k = 0; k < i; k++)
			assert_memory_not_equal(secrets[i], secrets[k], TLS_X25519_BYTES);
	}
}

static void keys_are_made_ahead_in_idle_turns_up_to_a_limit(void **state)
{
	struct tls_task task = {offload, TLS_BACKEND_MB};
	tls_offload_poll(offload, 0, true);
	assert_int_equal(counted()->keys, 0); /* nobody ever wanted one */
	assert_true(tls_task_run(&task, make_keys, NULL));
	tls_offload_poll(offload, 0, false);
	assert_int_equal(counted()->keys, 104);
	for (int i = 0; i < 100; i++)
		tls_offload_poll(offload, 0, true);
	assert_in_range(counted()->keys, 100 + TLS_X25519_KEYS_AHEAD - TLS_LANES + 1,
		100 + TLS_X25519_KEYS_AHEAD);
}

/* ---- when a batch is done ---- */

static void eight_are_done_at_once(void **state)
{
	for (int i = 0; i < 7; i++)
		enter(&visitors[i], keys[0]);
	assert_false(tls_offload_poll(offload, 0, false));
	assert_int_equal(tls_offload_waiting(offload), 7);
	assert_false(tls_task_run(&visitors[0].task, visit, &visitors[0])); /* too early: no harm */
	enter(&visitors[7], keys[0]);
	assert_true(tls_offload_poll(offload, 0, false));
	assert_int_equal(tls_offload_waiting(offload), 0);
	for (int i = 0; i < 8; i++)
		leave(&visitors[i]);
}

static void nineteen_are_two_batches_and_a_rest(void **state)
{
	for (int i = 0; i < 19; i++)
		enter(&visitors[i], NULL);
	assert_true(tls_offload_poll(offload, 0, false));
	assert_int_equal(counted()->kind[TLS_OP_X25519].batches[7], 2);
	assert_int_equal(tls_offload_waiting(offload), 3);
	assert_true(tls_offload_poll(offload, 0, true));
	assert_int_equal(counted()->kind[TLS_OP_X25519].batches[2], 1);
	for (int i = 0; i < 19; i++) {
		leave(&visitors[i]);
		assert_right(&visitors[i]);
	}
}

static void too_few_are_done_one_a_turn_by_openssl(void **state)
{
	for (int i = 0; i < 2; i++)
		enter(&visitors[i], keys[0]);
	assert_true(tls_offload_poll(offload, 0, true));
	assert_int_equal(tls_offload_waiting(offload), 1);
	leave(&visitors[0]); /* the oldest */
	assert_true(tls_offload_poll(offload, 0, true));
	leave(&visitors[1]);
	assert_false(tls_offload_poll(offload, 0, true));
	assert_int_equal(counted()->kind[TLS_OP_RSA_2048].scalar, 2);
	assert_right(&visitors[0]);
}

static void nobody_waits_longer_than_the_deadline(void **state)
{
	tls_offload_set_deadline(offload, 3000);
	tls_offload_poll(offload, 100 * MS, false);
	for (int i = 0; i < 3; i++)
		enter(&visitors[i], keys[0]);
	assert_false(tls_offload_poll(offload, 110 * MS, false)); /* a long turn: their wait begins */
	assert_false(tls_offload_poll(offload, 112 * MS, false));
	enter(&visitors[3], keys[0]);
	assert_true(tls_offload_poll(offload, 113 * MS, false)); /* the oldest takes all along */
	for (int i = 0; i < 4; i++)
		leave(&visitors[i]);
	assert_int_equal(counted()->kind[TLS_OP_RSA_2048].batches[3], 1);
	tls_offload_set_deadline(offload, UINT32_MAX);
	enter(&visitors[0], NULL);
	assert_false(tls_offload_poll(offload, 120 * MS, false));
	assert_false(tls_offload_poll(offload, 129 * MS, false));
	assert_true(tls_offload_poll(offload, 130 * MS, false)); /* 10 ms are the most */
	leave(&visitors[0]);
}

/* ---- nobody there any more ---- */

static void a_cancelled_op_leaves_the_others_alone(void **state)
{
	for (int i = 0; i < 9; i++)
		enter(&visitors[i], keys[0]);
	tls_task_cancel(&visitors[4].task);
	assert_null(visitors[4].task.fibre);
	assert_false(visitors[4].has_worked);
	assert_true(tls_offload_poll(offload, 0, false));
	tls_task_cancel(&visitors[8].task); /* its result is there */
	assert_int_equal(visitors[4].wakes, 0);
	assert_int_equal(tls_offload_waiting(offload), 0);
	for (int i = 0; i < 8; i++)
		if (i != 4) {
			leave(&visitors[i]);
			assert_right(&visitors[i]);
		}
	assert_int_equal(counted()->cancelled, 2);
}

static void a_key_that_disappears_lives_until_its_ops_are_done(void **state)
{
	EVP_PKEY *pair = EVP_PKEY_dup(inner[0]);
	struct tls_rsa_key *key = tls_rsa_key_create(openssl, pair);
	EVP_PKEY_free(pair);
	for (int i = 0; i < 8; i++)
		enter(&visitors[i], key);
	for (int i = 0; i < 4; i++)
		visitors[i].key = keys[0]; /* the same numbers: to compare with */
	tls_rsa_key_put(key);
	tls_task_cancel(&visitors[7].task);
	assert_true(tls_offload_poll(offload, 0, true));
	for (int i = 0; i < 7; i++) {
		leave(&visitors[i]);
		visitors[i].key = keys[0];
		assert_right(&visitors[i]);
	}
}

/* ---- limits, and what does not wait ---- */

static void without_fibres_left_the_work_is_done_at_once(void **state)
{
	for (int i = 0; i <= TLS_FIBRES_MAX; i++)
		enter(&visitors[i], NULL);
	assert_right(&visitors[TLS_FIBRES_MAX]);
	assert_int_equal(counted()->no_fibre, 1);
	assert_int_equal(counted()->kind[TLS_OP_X25519].scalar, 1);
	while (tls_offload_poll(offload, 0, true))
		;
	for (int i = 0; i < TLS_FIBRES_MAX; i++)
		leave(&visitors[i]);
}

static void outside_of_a_task_nothing_waits(void **state)
{
	struct visitor v = {.key = keys[0]};
	v.task.offload = offload;
	visit(&v);
	v.is_over = true;
	assert_right(&v);
	v.task.backend = TLS_BACKEND_INLINE;
	assert_true(tls_task_run(&v.task, visit, &v));
	assert_right(&v);
	assert_int_equal(tls_offload_waiting(offload), 0);
}

static void a_key_of_another_size_is_done_by_openssl(void **state)
{
	EVP_PKEY *pair = EVP_RSA_gen(2056);
	struct tls_rsa_key *key = tls_rsa_key_create(openssl, pair);
	enter(&visitors[0], key);
	assert_right(&visitors[0]);
	tls_rsa_key_put(key);
	EVP_PKEY_free(pair);
	EVP_PKEY *curve = EVP_EC_gen("P-256");
	assert_null(tls_rsa_key_create(openssl, curve));
	EVP_PKEY_free(curve);
}

/* ---- an engine: here one that gives back what it took when it is asked to ---- */

static struct {
	struct tls_op *held[TASKS_MAX];
	uint32_t count, room;
	bool is_broken;
} away;

static bool away_submit(void *, struct tls_op *op)
{
	if (away.count == away.room)
		return false;
	away.held[away.count++] = op;
	return true;
}

static bool away_poll(void *)
{
	uint32_t count = away.count;
	away.count = 0;
	for (uint32_t i = count; i-- > 0;) { /* in another order */
		struct tls_op *op = away.held[i];
		op->has_worked = !away.is_broken &&
			(op->key != NULL ? tls_scalar_rsa(op->key, op->in, op->out)
					 : tls_scalar_x25519(openssl, op->in,
						   op->in + TLS_X25519_BYTES, op->out));
		tls_offload_returned(offload, op);
	}
	return count != 0;
}

static void enter_away(struct visitor *v, struct tls_rsa_key *key)
{
	enter(v, NULL);
	assert_int_equal(v->task.backend, TLS_BACKEND_MB);
	tls_task_cancel(&v->task);
	v->task = (struct tls_task){offload, TLS_BACKEND_ENGINE, woken, v};
	v->key = key;
	v->is_over = tls_task_run(&v->task, visit, v);
}

static void an_engine_gives_results_later_and_survives_those_that_left(void **state)
{
	tls_offload_set_engine(offload, &(struct tls_engine){NULL, away_submit, away_poll});
	away.room = 10;
	for (int i = 0; i < 11; i++)
		enter_away(&visitors[i], i % 2 == 0 ? keys[0] : NULL);
	assert_right(&visitors[10]); /* no room: at once */
	tls_task_cancel(&visitors[3].task);
	tls_task_cancel(&visitors[4].task);
	assert_int_equal(tls_offload_waiting(offload), 10);
	assert_true(tls_offload_poll(offload, 0, false));
	assert_int_equal(tls_offload_waiting(offload), 0);
	for (int i = 0; i < 10; i++)
		if (i != 3 && i != 4) {
			leave(&visitors[i]);
			assert_right(&visitors[i]);
		}
	away.is_broken = true;
	enter_away(&visitors[0], keys[0]);
	tls_offload_poll(offload, 0, false);
	leave(&visitors[0]);
	assert_right(&visitors[0]);
	assert_int_equal(counted()->kind[TLS_OP_RSA_2048].faults, 1);
	enter_away(&visitors[0], NULL);
	tls_offload_poll(offload, 0, false);
	leave(&visitors[0]);
	assert_right(&visitors[0]);
	assert_int_equal(counted()->kind[TLS_OP_X25519].faults, 1);
	away.is_broken = false;
}

/* ---- an engine that keeps what it took ---- */

static uint32_t losses;

static void away_lost(void *)
{
	losses++;
}

static void begin_to_keep(uint32_t count)
{
	tls_offload_set_engine(offload, &(struct tls_engine){.submit = away_submit, .lost = away_lost});
	away.room = TASKS_MAX;
	losses = 0;
	for (uint32_t i = 0; i < count; i++)
		enter_away(&visitors[i], NULL);
}

/* Polls once; how many were woken by it, who then leave. */
static uint32_t poll_late(uint64_t now_ns, uint32_t first, uint32_t end)
{
	uint32_t woken_now = 0;
	tls_offload_poll(offload, now_ns, false);
	for (uint32_t i = first; i < end; i++) {
		if (visitors[i].wakes == 0 || visitors[i].is_over)
			continue;
		leave(&visitors[i]);
		assert_right(&visitors[i]);
		woken_now++;
	}
	return woken_now;
}

enum { PATIENCE_NS = TLS_ENGINE_PATIENCE_MS * MS };

static void what_an_engine_keeps_is_done_here_no_more_in_a_turn_than_a_batch(void **state)
{
	enum { COUNT = 20 };
	uint64_t now_ns = PATIENCE_NS;
	begin_to_keep(COUNT);
	assert_int_equal(poll_late(now_ns, 0, COUNT), 0);
	now_ns += PATIENCE_NS;
	assert_int_equal(poll_late(now_ns, 0, COUNT), TLS_LANES);
	assert_int_equal(poll_late(now_ns + 1, 0, COUNT), TLS_LANES); /* at once, and not after another look's time */
	assert_int_equal(poll_late(now_ns + 2, 0, COUNT), COUNT - 2 * TLS_LANES);
	assert_int_equal(tls_offload_waiting(offload), 0);
	assert_int_equal(losses, COUNT);
	away_poll(NULL);
	assert_false(tls_offload_has_lost(offload));
}

/* All ops are with it, most of them of handshakes that have gone. */
static void whoever_waits_for_an_engine_that_keeps_all_ops_goes_on(void **state)
{
	enum { REST = TLS_OPS_MAX - TLS_FIBRES_MAX };
	uint64_t now_ns = PATIENCE_NS;
	uint32_t gone_on = 0;
	begin_to_keep(TLS_FIBRES_MAX);
	for (int i = 0; i < TLS_FIBRES_MAX; i++)
		tls_task_cancel(&visitors[i].task);
	for (int i = 0; i < REST; i++)
		enter_away(&visitors[i], NULL);
	assert_right(&visitors[REST - 1]); /* the last: at once */
	poll_late(now_ns, 0, REST);
	now_ns += PATIENCE_NS;
	for (int i = 0; i < TLS_OPS_MAX; i++)
		gone_on += poll_late(now_ns + (uint64_t)i, 0, REST);
	assert_int_equal(gone_on, REST - 1);
	assert_int_equal(tls_offload_waiting(offload), 0);
	away_poll(NULL);
	assert_false(tls_offload_has_lost(offload));
}

static int make_inner_keys(void **state)
{
	openssl = OSSL_LIB_CTX_new();
	for (unsigned i = 0; i < 3; i++) {
		inner[i] = EVP_PKEY_Q_keygen(openssl, NULL, "RSA", (size_t)(2048 + i * 1024));
		keys[i] = tls_rsa_key_create(openssl, inner[i]);
		if (keys[i] == NULL || !keys[i]->is_batchable)
			return -1;
	}
	return 0;
}

static int free_inner_keys(void **state)
{
	for (int i = 0; i < 3; i++) {
		tls_rsa_key_put(keys[i]);
		EVP_PKEY_free(inner[i]);
	}
	OSSL_LIB_CTX_free(openssl);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_number_of_lanes_gives_what_openssl_gives),
		TEST(kinds_do_not_mix),
		TEST(a_fault_is_found_and_mended),
		TEST(a_secret_of_zero_is_a_failure),
		TEST(ephemeral_keys_are_pairs_and_each_is_given_once),
		TEST(keys_are_made_ahead_in_idle_turns_up_to_a_limit),
		TEST(eight_are_done_at_once),
		TEST(nineteen_are_two_batches_and_a_rest),
		TEST(too_few_are_done_one_a_turn_by_openssl),
		TEST(nobody_waits_longer_than_the_deadline),
		TEST(a_cancelled_op_leaves_the_others_alone),
		TEST(a_key_that_disappears_lives_until_its_ops_are_done),
		TEST(without_fibres_left_the_work_is_done_at_once),
		TEST(outside_of_a_task_nothing_waits),
		TEST(a_key_of_another_size_is_done_by_openssl),
		TEST(an_engine_gives_results_later_and_survives_those_that_left),
		TEST(what_an_engine_keeps_is_done_here_no_more_in_a_turn_than_a_batch),
		TEST(whoever_waits_for_an_engine_that_keeps_all_ops_goes_on),
	};
	const char *why_not = tls_mb_unusable();
	if (why_not != NULL) {
		printf("skipped: %s\n", why_not);
		return 77;
	}
	return cmocka_run_group_tests(tests, make_inner_keys, free_inner_keys);
}
