// SPDX-License-Identifier: Apache-2.0
/* tls/offload/lab_engine.c: an OpenSSL engine for the tests, with qatengine's commands. What it does with an operation
 * that comes in an ASYNC job is said by the environment's LAB_ENGINE:
 *
 *   hardware      done at the next poll                slow          … at the hundredth
 *   software      when there are eight of its kind (the first of all alone)
 *   nothing       OpenSSL does it, as if no engine were there
 *   wrong         the wrong result                     silent        never
 *   wrong-later, silent-later: the first of each kind is well
 *   hang-init     never comes back from its start
 *   hang-later    never from a look at anything after the first of a kind
 *   no-init, no-polling: does not start */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/async.h>
#include <openssl/engine.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RSA_KIND, X25519_KIND, KINDS };
enum { LANES = 8, PAUSED_MAX = 128, RSA_BIT = 0x1, X25519_BIT = 0x20 };
enum { EXTERNAL_POLLING = ENGINE_CMD_BASE, POLL, HW_BITMAP, SW_BITMAP, INSTANCES };

static const ENGINE_CMD_DEFN commands[] = {
	{EXTERNAL_POLLING, "ENABLE_EXTERNAL_POLLING", "", ENGINE_CMD_FLAG_NO_INPUT},
	{POLL,	     "POLL",			 "", ENGINE_CMD_FLAG_NO_INPUT},
	{HW_BITMAP,	    "HW_ALGO_BITMAP",	  "", ENGINE_CMD_FLAG_STRING	},
	{SW_BITMAP,	    "SW_ALGO_BITMAP",	  "", ENGINE_CMD_FLAG_STRING	},
	{INSTANCES,	    "GET_NUM_CRYPTO_INSTANCES", "", ENGINE_CMD_FLAG_NO_INPUT},
	{0,		NULL,			    NULL, 0			   }
};

static ASYNC_WAIT_CTX *paused[KINDS][PAUSED_MAX];
static int paused_count[KINDS], seen[KINDS], polls[KINDS];
static unsigned long bits;
static RSA_METHOD *rsa_method;
static EVP_PKEY_METHOD *x25519_method;
static int (*openssl_private_decrypt)(int, const unsigned char *, unsigned char *, RSA *, int);
static int (*openssl_derive)(EVP_PKEY_CTX *, unsigned char *, size_t *);

static int is(const char *behaviour)
{
	const char *wanted = getenv("LAB_ENGINE");
	return wanted != NULL && strcmp(wanted, behaviour) == 0;
}

/* Suspends the job, if there is one. */
static void hold(int kind)
{
	ASYNC_JOB *job = ASYNC_get_current_job();
	if (job == NULL || is("nothing") || paused_count[kind] == PAUSED_MAX)
		return;
	seen[kind]++;
	paused[kind][paused_count[kind]++] = ASYNC_get_wait_ctx(job);
	ASYNC_pause_job();
}

static void spoil(unsigned char *out, int kind)
{
	if (ASYNC_get_current_job() != NULL && (is("wrong") || (is("wrong-later") && seen[kind] > 1)))
		out[5] ^= 0x10;
}

static int private_decrypt(int n, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
	if (bits & RSA_BIT)
		hold(RSA_KIND);
	int done = openssl_private_decrypt(n, from, to, rsa, padding);
	if (bits & RSA_BIT)
		spoil(to, RSA_KIND);
	return done;
}

static int derive(EVP_PKEY_CTX *ctx, unsigned char *to, size_t *n)
{
	if (bits & X25519_BIT && to != NULL)
		hold(X25519_KIND);
	return openssl_derive(ctx, to, n);
}

static void call(int kind, int count)
{
	for (int i = 0; i < count; i++) {
		int (*callback)(void *);
		void *argument;
		ASYNC_WAIT_CTX_get_callback(paused[kind][i], &callback, &argument);
		callback(argument);
	}
	paused_count[kind] -= count;
	memmove(paused[kind], paused[kind] + count, (size_t)paused_count[kind] * sizeof paused[kind][0]);
}

static void poll_kind(int kind)
{
	int is_first = seen[kind] == 1;
	while (is("hang-later") && seen[kind] > 1)
		pause();
	if (is("silent") || (is("silent-later") && !is_first) || (is("slow") && ++polls[kind] % 100 != 0))
		return;
	if (!is("software") || is_first)
		call(kind, paused_count[kind]);
	while (paused_count[kind] >= LANES)
		call(kind, LANES);
}

static int control(ENGINE *engine, int command, long number, void *at, void (*unused)(void))
{
	switch (command) {
	case EXTERNAL_POLLING: return !is("no-polling");
	case POLL:
		for (int kind = 0; kind < KINDS; kind++)
			poll_kind(kind);
		return 1;
	case HW_BITMAP: bits = strtoul(at, NULL, 0); return 1;
	case SW_BITMAP: bits |= strtoul(at, NULL, 0); return 1;
	case INSTANCES: *(int *)at = !is("software"); return 1;
	default: return 0;
	}
}

static int start(ENGINE *engine)
{
	memset(seen, 0, sizeof seen);
	memset(paused_count, 0, sizeof paused_count);
	while (is("hang-init"))
		pause();
	return !is("no-init");
}

static int finish(ENGINE *engine)
{
	return 1;
}

static int destroy(ENGINE *engine)
{
	RSA_meth_free(rsa_method);
	rsa_method = NULL;
	x25519_method = NULL;
	return 1;
}

static int methods(ENGINE *engine, EVP_PKEY_METHOD **method, const int **ids, int id)
{
	static const int ours[] = {EVP_PKEY_X25519};
	if (method == NULL) {
		*ids = ours;
		return 1;
	}
	*method = id == EVP_PKEY_X25519 ? x25519_method : NULL;
	return *method != NULL;
}

static int make_methods(void)
{
	rsa_method = RSA_meth_dup(RSA_PKCS1_OpenSSL());
	x25519_method = EVP_PKEY_meth_new(EVP_PKEY_X25519, 0);
	if (rsa_method == NULL || x25519_method == NULL)
		return 0;
	const EVP_PKEY_METHOD *openssls = EVP_PKEY_meth_find(EVP_PKEY_X25519);
	EVP_PKEY_meth_copy(x25519_method, openssls);
	int (*init)(EVP_PKEY_CTX *);
	EVP_PKEY_meth_get_derive(openssls, &init, &openssl_derive);
	EVP_PKEY_meth_set_derive(x25519_method, init, derive);
	openssl_private_decrypt = RSA_meth_get_priv_dec(rsa_method);
	return RSA_meth_set_priv_dec(rsa_method, private_decrypt);
}

static int bind(ENGINE *engine, const char *id)
{
	return make_methods() && ENGINE_set_id(engine, "lab") && ENGINE_set_name(engine, "lab engine") &&
		ENGINE_set_cmd_defns(engine, commands) && ENGINE_set_ctrl_function(engine, control) &&
		ENGINE_set_init_function(engine, start) && ENGINE_set_finish_function(engine, finish) &&
		ENGINE_set_destroy_function(engine, destroy) && ENGINE_set_RSA(engine, rsa_method) &&
		ENGINE_set_pkey_meths(engine, methods);
}

IMPLEMENT_DYNAMIC_BIND_FN(bind)
IMPLEMENT_DYNAMIC_CHECK_FN()
