// SPDX-License-Identifier: Apache-2.0
/* primitives [MILLISECONDS] [--json]: the bare cost of the public-key operations of a handshake on this processor:
 * OpenSSL's one at a time, libcrypto-mb's by number of lanes used. A line is the least of several rounds of
 * processor time (default 100 ms each line), in microseconds a call and an operation. No judgement; not a test. */
#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef HAVE_CRYPTO_MB
#include <crypto_mb/cpu_features.h>
#include <crypto_mb/ec_nistp256.h>
#include <crypto_mb/rsa.h>
#include <crypto_mb/x25519.h>
#endif

enum { LANES = 8, ROUNDS = 5 };

static double line_ns = 100e6;
static bool is_json, is_first = true;

static double busy_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* neighbours do not count */
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* What an operation works on; each kind uses its part. */
struct work {
	EVP_PKEY *key, *peer;
	unsigned bits, lanes;
};

typedef void operation(const struct work *work);

static double round_ns(operation *run, const struct work *work, double for_ns)
{
	double began = busy_ns(), now = began;
	unsigned count = 0;
	while (now - began < for_ns) {
		for (int i = 0; i < 4; i++)
			run(work);
		count += 4;
		now = busy_ns();
	}
	return (now - began) / count;
}

static void measure(const char *what, const char *how, operation *run, const struct work *work)
{
	double least = 1e18;
	for (int i = 0; i < ROUNDS; i++) {
		double ns = round_ns(run, work, line_ns / ROUNDS);
		least = ns < least ? ns : least;
	}
	if (is_json)
		printf("%s\n  {\"operation\": \"%s\", \"by\": \"%s\", \"lanes\": %u, \"call_us\": %.2f}",
			is_first ? "[" : ",", what, how, work->lanes, least / 1000);
	else
		printf("%-24s %-12s %5u %10.1f %10.2f %10.0f\n", what, how, work->lanes,
			least / 1000, least / 1000 / work->lanes, work->lanes * 1e9 / least);
	is_first = false;
	fflush(stdout);
}

/* ---- OpenSSL ---- */

static void openssl_rsa_private(const struct work *w)
{
	static const uint8_t in[512];
	uint8_t out[512];
	size_t n = w->bits / 8;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(w->key, NULL);
	int done = EVP_PKEY_sign_init(ctx) == 1 &&
		EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) == 1 &&
		EVP_PKEY_sign(ctx, out, &n, in, n) == 1;
	assert(done);
	EVP_PKEY_CTX_free(ctx);
}

static void openssl_rsa_public(const struct work *w)
{
	static const uint8_t in[512];
	uint8_t out[512];
	size_t n = w->bits / 8;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(w->key, NULL);
	int done = EVP_PKEY_encrypt_init(ctx) == 1 &&
		EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) == 1 &&
		EVP_PKEY_encrypt(ctx, out, &n, in, n) == 1;
	assert(done);
	EVP_PKEY_CTX_free(ctx);
}

static void openssl_generate(const struct work *w)
{
	EVP_PKEY *made = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(w->key, NULL); /* of the same kind and group */
	int done = EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_generate(ctx, &made) == 1;
	assert(done);
	EVP_PKEY_free(made);
	EVP_PKEY_CTX_free(ctx);
}

static void openssl_derive(const struct work *w)
{
	uint8_t out[64];
	size_t n = sizeof out;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(w->key, NULL);
	int done = EVP_PKEY_derive_init(ctx) == 1 &&
		EVP_PKEY_derive_set_peer_ex(ctx, w->peer, 0) == 1 &&
		EVP_PKEY_derive(ctx, out, &n) == 1;
	assert(done);
	EVP_PKEY_CTX_free(ctx);
}

static void openssl_ecdsa_sign(const struct work *w)
{
	static const uint8_t digest[32];
	uint8_t out[96];
	size_t n = sizeof out;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(w->key, NULL);
	int done = EVP_PKEY_sign_init(ctx) == 1 &&
		EVP_PKEY_sign(ctx, out, &n, digest, sizeof digest) == 1;
	assert(done);
	EVP_PKEY_CTX_free(ctx);
}

static void openssl_encapsulate(const struct work *w)
{
	uint8_t wrapped[1200], secret[64];
	size_t n = sizeof wrapped, secret_n = sizeof secret;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(w->key, NULL);
	int done = EVP_PKEY_encapsulate_init(ctx, NULL) == 1 &&
		EVP_PKEY_encapsulate(ctx, wrapped, &n, secret, &secret_n) == 1;
	assert(done);
	EVP_PKEY_CTX_free(ctx);
}

static void bench_openssl_rsa(unsigned bits, EVP_PKEY *key)
{
	struct work work = {.key = key, .bits = bits, .lanes = 1};
	char what[32];
	snprintf(what, sizeof what, "RSA-%u private", bits);
	measure(what, "openssl", openssl_rsa_private, &work);
	snprintf(what, sizeof what, "RSA-%u public", bits);
	measure(what, "openssl", openssl_rsa_public, &work);
}

static void bench_openssl(void)
{
	EVP_PKEY *x = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"),
		 *y = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), *p = EVP_EC_gen("P-256"),
		 *q = EVP_EC_gen("P-256"), *kem = EVP_PKEY_Q_keygen(NULL, NULL, "ML-KEM-768");
	measure("X25519 key", "openssl", openssl_generate, &(struct work){x, .lanes = 1});
	measure("X25519 derive", "openssl", openssl_derive, &(struct work){x, y, .lanes = 1});
	measure("P-256 key", "openssl", openssl_generate, &(struct work){p, .lanes = 1});
	measure("P-256 derive", "openssl", openssl_derive, &(struct work){p, q, .lanes = 1});
	measure("ECDSA P-256 sign", "openssl", openssl_ecdsa_sign, &(struct work){p, .lanes = 1});
	measure("ML-KEM-768 encapsulate", "openssl", openssl_encapsulate, &(struct work){kem, .lanes = 1});
	EVP_PKEY *const all[] = {x, y, p, q, kem};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		EVP_PKEY_free(all[i]);
}

/* ---- libcrypto-mb ---- */

#ifdef HAVE_CRYPTO_MB
static struct {
	uint8_t in[LANES][512], out[LANES][512], secret[LANES][32], public[LANES][32];
	int64u n[64], p[32], q[32], dp[32], dq[32], iq[32];
	int64u scalar[LANES][4], x[LANES][4], y[LANES][4], z[LANES][4];
	alignas(64) uint8_t buffer[256 * 1024];
	int8u *out_at[LANES], *public_at[LANES];
	const int8u *in_at[LANES], *secret_at[LANES], *peer_at[LANES];
	const int64u *n_at[LANES], *part_at[5][LANES], *scalar_at[LANES];
	int64u *x_at[LANES], *y_at[LANES], *z_at[LANES];
} mb;

/* Unused lanes are NULL. */
static void mb_use_lanes(unsigned lanes)
{
	const int64u *const parts[5] = {mb.p, mb.q, mb.dp, mb.dq, mb.iq};
	for (unsigned i = 0; i < LANES; i++) {
		bool is_used = i < lanes;
		mb.in_at[i] = is_used ? mb.in[i] : NULL;
		mb.out_at[i] = is_used ? mb.out[i] : NULL;
		mb.n_at[i] = is_used ? mb.n : NULL;
		for (int part = 0; part < 5; part++)
			mb.part_at[part][i] = is_used ? parts[part] : NULL;
		mb.secret_at[i] = is_used ? mb.secret[i] : NULL;
		mb.public_at[i] = is_used ? mb.public[i] : NULL;
		mb.peer_at[i] = mb.public_at[i];
		mb.scalar_at[i] = is_used ? mb.scalar[i] : NULL;
		mb.x_at[i] = is_used ? mb.x[i] : NULL;
		mb.y_at[i] = is_used ? mb.y[i] : NULL;
		mb.z_at[i] = is_used ? mb.z[i] : NULL;
	}
}

static void mb_words(EVP_PKEY *key, const char *name, int64u *to, size_t bytes)
{
	BIGNUM *number = NULL;
	int done = EVP_PKEY_get_bn_param(key, name, &number) == 1 &&
		BN_bn2lebinpad(number, (unsigned char *)to, (int)bytes) == (int)bytes;
	assert(done);
	BN_clear_free(number);
}

static void mb_rsa_private(const struct work *w)
{
	mbx_status status = mbx_rsa_private_crt_mb8(mb.in_at, mb.out_at, mb.part_at[0], mb.part_at[1],
		mb.part_at[2], mb.part_at[3], mb.part_at[4], (int)w->bits,
		mbx_RSA_private_crt_Method((int)w->bits), mb.buffer);
	assert(MBX_IS_ANY_OK_STS(status));
}

static void mb_rsa_public(const struct work *w)
{
	mbx_status status = mbx_rsa_public_mb8(mb.in_at, mb.out_at, mb.n_at, (int)w->bits,
		mbx_RSA_pub65537_Method((int)w->bits), mb.buffer);
	assert(MBX_IS_ANY_OK_STS(status));
}

static void mb_x25519_key(const struct work *)
{
	mbx_status status = mbx_x25519_public_key_mb8(mb.public_at, mb.secret_at);
	assert(MBX_IS_ANY_OK_STS(status));
}

static void mb_x25519_derive(const struct work *)
{
	mbx_status status = mbx_x25519_mb8(mb.out_at, mb.secret_at, mb.peer_at);
	assert(MBX_IS_ANY_OK_STS(status));
}

static void mb_p256_key(const struct work *)
{
	mbx_status status = mbx_nistp256_ecpublic_key_mb8(
		mb.x_at, mb.y_at, mb.z_at, mb.scalar_at, NULL);
	assert(MBX_IS_ANY_OK_STS(status));
}

static void mb_p256_derive(const struct work *)
{
	mbx_status status = mbx_nistp256_ecdh_mb8(mb.out_at, mb.scalar_at,
		(const int64u *const *)mb.x_at, (const int64u *const *)mb.y_at,
		(const int64u *const *)mb.z_at, NULL);
	assert(MBX_IS_ANY_OK_STS(status));
}

static int64u inverse[LANES][4], r[LANES][4];

/* The half of ECDSA that needs no message: the nonce's inverse and r. */
static void mb_ecdsa_setup(const struct work *w)
{
	int64u *inverse_at[LANES] = {NULL}, *r_at[LANES] = {NULL};
	for (unsigned i = 0; i < w->lanes; i++) {
		inverse_at[i] = inverse[i];
		r_at[i] = r[i];
	}
	mbx_status status =
		mbx_nistp256_ecdsa_sign_setup_mb8(inverse_at, r_at, mb.scalar_at, NULL);
	assert(MBX_IS_ANY_OK_STS(status));
}

static void bench_mb_lanes(const char *what, operation *run, struct work work)
{
	for (work.lanes = 1; work.lanes <= LANES; work.lanes++) {
		mb_use_lanes(work.lanes);
		measure(what, "crypto_mb", run, &work);
	}
}

static void bench_mb_rsa(unsigned bits, EVP_PKEY *key)
{
	char what[32];
	size_t half = bits / 16;
	mb_words(key, OSSL_PKEY_PARAM_RSA_N, mb.n, bits / 8);
	mb_words(key, OSSL_PKEY_PARAM_RSA_FACTOR1, mb.p, half);
	mb_words(key, OSSL_PKEY_PARAM_RSA_FACTOR2, mb.q, half);
	mb_words(key, OSSL_PKEY_PARAM_RSA_EXPONENT1, mb.dp, half);
	mb_words(key, OSSL_PKEY_PARAM_RSA_EXPONENT2, mb.dq, half);
	mb_words(key, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, mb.iq, half);
	snprintf(what, sizeof what, "RSA-%u private", bits);
	bench_mb_lanes(what, mb_rsa_private, (struct work){.bits = bits});
	snprintf(what, sizeof what, "RSA-%u public", bits);
	bench_mb_lanes(what, mb_rsa_public, (struct work){.bits = bits});
}

static void bench_mb(void)
{
	for (int i = 0; i < LANES; i++)
		RAND_bytes((unsigned char *)mb.scalar[i], 31); /* below the order */
	RAND_bytes((unsigned char *)mb.secret, sizeof mb.secret);
	bench_mb_lanes("X25519 key", mb_x25519_key, (struct work){});
	bench_mb_lanes("X25519 derive", mb_x25519_derive, (struct work){});
	bench_mb_lanes("P-256 key", mb_p256_key, (struct work){});
	bench_mb_lanes("P-256 derive", mb_p256_derive, (struct work){});
	bench_mb_lanes("ECDSA P-256 setup", mb_ecdsa_setup, (struct work){});
}

static const char *mb_unusable(void)
{
	return mbx_get_algo_info(MBX_ALGO_RSA_2K) == 0 ? "no AVX512-IFMA" : NULL;
}
#else
static void bench_mb_rsa(unsigned bits, EVP_PKEY *key) {}
static void bench_mb(void) {}
static const char *mb_unusable(void)
{
	return "built without it";
}
#endif

int main(int argc, char **argv)
{
	static const unsigned sizes[] = {2048, 3072, 4096};
	for (int i = 1; i < argc; i++) {
		is_json = is_json || strcmp(argv[i], "--json") == 0;
		line_ns = atof(argv[i]) > 0 ? atof(argv[i]) * 1e6 : line_ns;
	}
	if (!is_json)
		printf("%-24s %-12s %5s %10s %10s %10s\n", "operation", "by", "lanes", "us/call", "us each",
			"per second");
	bench_openssl();
	const char *why_not = mb_unusable();
	if (why_not == NULL)
		bench_mb();
	else
		fprintf(stderr, "primitives: libcrypto-mb is not measured: %s\n", why_not);
	for (int i = 0; i < 3; i++) {
		EVP_PKEY *key = EVP_RSA_gen(sizes[i]);
		bench_openssl_rsa(sizes[i], key);
		if (why_not == NULL)
			bench_mb_rsa(sizes[i], key);
		EVP_PKEY_free(key);
	}
	if (is_json)
		printf("\n]\n");
	return 0;
}
