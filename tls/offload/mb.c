// SPDX-License-Identifier: Apache-2.0
/* tls/offload/mb.c: eight operations at a time, by libcrypto-mb (AVX512-IFMA). */
#include "tls/offload/offload_private.h"

#include <openssl/crypto.h>
#include <threads.h>

static bool is_forbidden_here;

void tls_mb_forbid(bool is_forbidden)
{
	is_forbidden_here = is_forbidden;
}

/* A batch takes the same time however many lanes it has (bench/README.md): from so many on it is less than as many
 * operations of OpenSSL's, one after the other. The check of RSA's results is counted in. */
uint32_t tls_mb_least(enum tls_op_kind kind)
{
	static const uint8_t least[TLS_OP_KIND_COUNT] = {
		[TLS_OP_RSA_2048] = 3,
		[TLS_OP_RSA_3072] = 5,
		[TLS_OP_RSA_4096] = 6,
		[TLS_OP_X25519] = 2,
	};
	return least[kind];
}

#ifdef HAVE_CRYPTO_MB
#include <crypto_mb/cpu_features.h>
#include <crypto_mb/rsa.h>
#include <crypto_mb/x25519.h>

/* Asked once: in a virtual machine each CPUID is an exit to the hypervisor, some 30 us. */
static bool has_all;
static once_flag asked = ONCE_FLAG_INIT;

static void ask(void)
{
	static const enum MBX_ALGO needed[] = {
		MBX_ALGO_RSA_2K, MBX_ALGO_RSA_3K, MBX_ALGO_RSA_4K, MBX_ALGO_X25519};
	has_all = true;
	for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
		has_all = has_all && (mbx_get_algo_info(needed[i]) & MBX_WIDTH_MB8) != 0;
}

const char *tls_mb_unusable(void)
{
	call_once(&asked, ask);
	return has_all && !is_forbidden_here ? NULL : "the processor has no AVX512-IFMA";
}

static bool is_ok(mbx_status status, uint32_t lane)
{
	return MBX_GET_STS(status, (int)lane) == MBX_STATUS_OK;
}

/* Room for the largest method, of one thread. */
enum { SCRATCH_BYTES_MAX = 128 * 1024 };
static thread_local alignas(64) uint8_t scratch[SCRATCH_BYTES_MAX];

/* NULL: this version of the library wants more room than we have. */
static const mbx_RSA_Method *method_that_fits(const mbx_RSA_Method *method)
{
	return method != NULL && mbx_RSA_Method_BufSize(method) <= SCRATCH_BYTES_MAX ? method : NULL;
}

/* Applies the public key to each result: it must give what went in. */
static void rsa_check(struct tls_op *const *ops, uint32_t count, int bits)
{
	static thread_local uint8_t again[TLS_LANES][TLS_RSA_BYTES_MAX];
	const int8u *from[TLS_LANES] = {NULL};
	int8u *to[TLS_LANES] = {NULL};
	const int64u *n[TLS_LANES] = {NULL};
	for (uint32_t i = 0; i < count; i++) {
		from[i] = ops[i]->out;
		to[i] = again[i];
		n[i] = (const int64u *)ops[i]->key->n;
	}
	const mbx_RSA_Method *method = method_that_fits(mbx_RSA_pub65537_Method(bits));
	mbx_status status =
		method == NULL ? ~0u : mbx_rsa_public_mb8(from, to, n, bits, method, scratch);
	for (uint32_t i = 0; i < count; i++)
		ops[i]->has_worked = ops[i]->has_worked && is_ok(status, i) &&
			CRYPTO_memcmp(again[i], ops[i]->in, (size_t)bits / 8) == 0;
}

static void rsa_run(struct tls_op *const *ops, uint32_t count, int bits)
{
	const int8u *from[TLS_LANES] = {NULL};
	int8u *to[TLS_LANES] = {NULL};
	const int64u *p[TLS_LANES] = {NULL}, *q[TLS_LANES] = {NULL}, *dp[TLS_LANES] = {NULL},
		     *dq[TLS_LANES] = {NULL}, *iq[TLS_LANES] = {NULL};
	for (uint32_t i = 0; i < count; i++) {
		const struct tls_rsa_key *key = ops[i]->key;
		from[i] = ops[i]->in;
		to[i] = ops[i]->out;
		p[i] = (const int64u *)key->p;
		q[i] = (const int64u *)key->q;
		dp[i] = (const int64u *)key->dp;
		dq[i] = (const int64u *)key->dq;
		iq[i] = (const int64u *)key->iq;
	}
	const mbx_RSA_Method *method = method_that_fits(mbx_RSA_private_crt_Method(bits));
	mbx_status status = method == NULL
		? ~0u
		: mbx_rsa_private_crt_mb8(from, to, p, q, dp, dq, iq, bits, method, scratch);
	for (uint32_t i = 0; i < count; i++)
		ops[i]->has_worked = is_ok(status, i);
	rsa_check(ops, count, bits);
}

static bool is_zero(const uint8_t shared[TLS_X25519_BYTES])
{
	uint8_t any = 0;
	for (int i = 0; i < TLS_X25519_BYTES; i++)
		any |= shared[i];
	return any == 0;
}

static void x25519_run(struct tls_op *const *ops, uint32_t count)
{
	int8u *to[TLS_LANES] = {NULL};
	const int8u *secret[TLS_LANES] = {NULL}, *peer[TLS_LANES] = {NULL};
	for (uint32_t i = 0; i < count; i++) {
		to[i] = ops[i]->out;
		secret[i] = ops[i]->in;
		peer[i] = ops[i]->in + TLS_X25519_BYTES;
	}
	mbx_status status = mbx_x25519_mb8(to, secret, peer);
	for (uint32_t i = 0; i < count; i++)
		ops[i]->has_worked = is_ok(status, i) && !is_zero(ops[i]->out);
}

void tls_mb_run(enum tls_op_kind kind, struct tls_op *const *ops, uint32_t count)
{
	switch (kind) {
	case TLS_OP_RSA_2048: rsa_run(ops, count, 2048); break;
	case TLS_OP_RSA_3072: rsa_run(ops, count, 3072); break;
	case TLS_OP_RSA_4096: rsa_run(ops, count, 4096); break;
	case TLS_OP_X25519: x25519_run(ops, count); break;
	case TLS_OP_KIND_COUNT: break;
	}
}

bool tls_mb_x25519_keys(const uint8_t secrets[TLS_LANES][TLS_X25519_BYTES],
	uint8_t publics[TLS_LANES][TLS_X25519_BYTES])
{
	const int8u *secret[TLS_LANES];
	int8u *public[TLS_LANES];
	for (int i = 0; i < TLS_LANES; i++) {
		secret[i] = secrets[i];
		public[i] = publics[i];
	}
	return mbx_x25519_public_key_mb8(public, secret) == MBX_STATUS_OK;
}

#else

const char *tls_mb_unusable(void)
{
	return "built without libcrypto-mb";
}

void tls_mb_run(enum tls_op_kind kind, struct tls_op *const *ops, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		ops[i]->has_worked = false; /* never called: no set has this back end */
}

bool tls_mb_x25519_keys(const uint8_t secrets[TLS_LANES][TLS_X25519_BYTES],
	uint8_t publics[TLS_LANES][TLS_X25519_BYTES])
{
	return false;
}
#endif
