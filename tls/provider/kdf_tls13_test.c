// SPDX-License-Identifier: Apache-2.0
/* Our TLS13-KDF beside the default provider's: whatever is asked of both, they say the same. */
#include "tls/provider/provider.h"
#include "tls/tls_private.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { OUT_MAX = 16 * 1024 };

static struct tls_lib *lib;
static EVP_KDF *theirs, *ours;

static int fetch_both(void **state)
{
	lib = tls_lib_create();
	assert_non_null(lib);
	theirs = EVP_KDF_fetch(lib->openssl, "TLS13-KDF", "provider=default");
	ours = EVP_KDF_fetch(lib->openssl, "TLS13-KDF", "provider=hikyaku");
	assert_non_null(theirs);
	assert_non_null(ours);
	return 0;
}

static int free_both(void **state)
{
	EVP_KDF_free(theirs);
	EVP_KDF_free(ours);
	tls_lib_destroy(lib);
	return 0;
}

/* ---- asking both ---- */

/* What is NULL is not given. */
struct question {
	const char *digest;
	int mode;
	const char *mode_name; /* instead of `mode` */
	struct bytes key, salt, prefix, label, data;
	size_t out_n;
};

static void give(OSSL_PARAM **p, const char *name, struct bytes value)
{
	if (value.at != NULL)
		*(*p)++ = OSSL_PARAM_construct_octet_string(name, (void *)value.at, value.n);
}

static void write_params(const struct question *q, int *mode, OSSL_PARAM params[9])
{
	OSSL_PARAM *p = params;
	*mode = q->mode;
	if (q->mode_name != NULL)
		*p++ = OSSL_PARAM_construct_utf8_string("mode", (char *)q->mode_name, 0);
	else if (q->mode >= 0)
		*p++ = OSSL_PARAM_construct_int("mode", mode);
	if (q->digest != NULL)
		*p++ = OSSL_PARAM_construct_utf8_string("digest", (char *)q->digest, 0);
	give(&p, OSSL_KDF_PARAM_KEY, q->key);
	give(&p, OSSL_KDF_PARAM_SALT, q->salt);
	give(&p, OSSL_KDF_PARAM_PREFIX, q->prefix);
	give(&p, OSSL_KDF_PARAM_LABEL, q->label);
	give(&p, OSSL_KDF_PARAM_DATA, q->data);
	*p = OSSL_PARAM_construct_end();
}

/* All at once, as libssl does. */
static bool ask(EVP_KDF *kdf, const struct question *q, uint8_t *out)
{
	OSSL_PARAM params[9];
	int mode;
	write_params(q, &mode, params);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
	assert_non_null(context);
	bool is_done = EVP_KDF_derive(context, out, q->out_n, params) == 1;
	EVP_KDF_CTX_free(context);
	ERR_clear_error();
	return is_done;
}

static bool both_answer(const struct question *q)
{
	static uint8_t of_theirs[OUT_MAX], of_ours[OUT_MAX];
	memset(of_theirs, 0xee, sizeof of_theirs);
	memset(of_ours, 0xee, sizeof of_ours);
	bool is_done = ask(theirs, q, of_theirs);
	assert_int_equal(ask(ours, q, of_ours), is_done);
	if (is_done)
		assert_memory_equal(of_ours, of_theirs, sizeof of_ours);
	return is_done;
}

#define TEXT(s) BYTES_LITERAL(s)
static const uint8_t secret[48] = {1, 2, 3, [31] = 4, [47] = 5};
#define SECRET BYTES_OF_ARRAY(secret)
#define BYTES_OF_ARRAY(a) {a, sizeof a}

/* ---- tests ---- */

static void the_library_context_prefers_ours(void **state)
{
	EVP_KDF *kdf = EVP_KDF_fetch(lib->openssl, "TLS13-KDF", NULL);
	assert_non_null(kdf);
	assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), "hikyaku");
	EVP_KDF_free(kdf);
	EVP_MD *md = EVP_MD_fetch(lib->openssl, "SHA256", NULL); /* and all else as before */
	assert_string_equal(OSSL_PROVIDER_get0_name(EVP_MD_get0_provider(md)), "default");
	EVP_MD_free(md);
}

static void every_label_of_tls13_gives_the_same_bytes(void **state)
{
	static const char *const labels[] = {"c e traffic", "e exp master", "c hs traffic",
		"s hs traffic", "c ap traffic", "s ap traffic", "exp master", "res master",
		"resumption", "finished", "key", "iv", "traffic upd", "exporter", "derived",
		"ext binder", "res binder", ""};
	static const char *const digests[] = {"SHA2-256", "SHA2-384", "sha256", "SHA-384"};
	for (size_t d = 0; d < 4; d++)
		for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
			struct question q = {digests[d], EVP_KDF_HKDF_MODE_EXPAND_ONLY,
				.key = {secret, d % 2 == 0 ? 32 : 48},
				.prefix = TEXT("tls13 "),
				.label = bytes_of_string(labels[i])};
			for (q.out_n = 0; q.out_n < 100; q.out_n++)
				assert_true(both_answer(&q));
			q.out_n = 32;
			q.data = q.key; /* a transcript's digest */
			assert_true(both_answer(&q));
		}
}

static void every_step_of_the_schedule_gives_the_same_bytes(void **state)
{
	for (int i = 0; i < 8; i++) {
		struct question q = {i & 4 ? "SHA2-384" : "SHA2-256",
			EVP_KDF_HKDF_MODE_EXTRACT_ONLY, .prefix = TEXT("tls13 "),
			.label = TEXT("derived"), .out_n = i & 4 ? 48 : 32};
		if (i & 1)
			q.key = (struct bytes)SECRET;
		if (i & 2)
			q.salt = bytes_of(secret, q.out_n);
		assert_true(both_answer(&q));
	}
}

/* A generator of our own, so that a failure is the same tomorrow. */
static uint32_t random_state = 20261122;

static uint32_t random_below(uint32_t bound)
{
	random_state = random_state * 1664525 + 1013904223;
	return (uint32_t)(((uint64_t)random_state * bound) >> 32);
}

static struct bytes random_bytes(uint8_t *room, uint32_t most)
{
	size_t n = random_below(most + 1);
	for (size_t i = 0; i < n; i++)
		room[i] = (uint8_t)random_below(256);
	return random_below(16) == 0 ? BYTES_NONE : bytes_of(room, n);
}

static void random_inputs_give_the_same_answer(void **state)
{
	static uint8_t key[1024], salt[255], prefix[255], label[255], data[255];
	static const char *const digests[] = {"SHA2-256", "SHA2-384"};
	unsigned answered = 0, refused = 0;
	for (int i = 0; i < 5000; i++) {
		bool is_wide = random_below(2) == 1;
		struct question q = {digests[is_wide], (int)random_below(4) - 1,
			.key = random_bytes(key, i % 4 == 0 ? sizeof key : 64),
			.salt = random_bytes(salt, i % 4 == 1 ? sizeof salt : 64),
			.prefix = random_bytes(prefix, i % 4 == 2 ? sizeof prefix : 16),
			.label = random_bytes(label, i % 4 == 3 ? sizeof label : 32),
			.data = random_bytes(data, i % 8 == 0 ? sizeof data : 64),
			.out_n = random_below(i % 16 == 0 ? OUT_MAX : 128)};
		if (q.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY && i % 8 != 0)
			q.out_n = is_wide ? 48 : 32;
		*(both_answer(&q) ? &answered : &refused) += 1;
	}
	assert_true(answered > 1000 && refused > 1000);
}

static void what_is_wrong_is_refused_by_both(void **state)
{
	static const uint8_t zeros[256];
	static const struct question questions[] = {
		/* no mode, one that TLS 1.3 has not, unknown ones */
		{"SHA256", -1, NULL, SECRET, .out_n = 32},
		{"SHA256", EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, NULL, SECRET, .out_n = 32},
		{"SHA256", 3, NULL, SECRET, .out_n = 32},
		{"SHA256", 0, "EXTRACT_AND_EXPAND", SECRET, .out_n = 32},
		{"SHA256", 0, "expand", SECRET, .out_n = 32},
		/* no digest, unknown ones, one with output of any length */
		{NULL, EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET, .out_n = 32},
		{"", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET, .out_n = 32},
		{"SHA255", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET, .out_n = 32},
		{"SHAKE256", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET, .out_n = 32},
		/* no key; more than 255 blocks; more than the label's counts can say */
		{"SHA256", EVP_KDF_HKDF_MODE_EXPAND_ONLY, .out_n = 32},
		{"SHA256", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET, .out_n = 255 * 32 + 1},
		{"SHA256", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET,
			.label = BYTES_OF_ARRAY(zeros), .out_n = 32},
		{"SHA256", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET, .prefix = {zeros, 200},
			.label = {zeros, 56}, .out_n = 32},
		{"SHA256", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET,
			.data = BYTES_OF_ARRAY(zeros), .out_n = 32},
		/* an output that is not the digest's size */
		{"SHA256", EVP_KDF_HKDF_MODE_EXTRACT_ONLY, NULL, SECRET, .out_n = 31},
		{"SHA256", EVP_KDF_HKDF_MODE_EXTRACT_ONLY, NULL, SECRET, .out_n = 48},
	};
	for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++)
		assert_false(both_answer(&questions[i]));
	struct question named = {"SHA256", 0, "Expand_Only", SECRET, .out_n = 32};
	assert_true(both_answer(&named));
	named.mode_name = "extract_ONLY";
	assert_true(both_answer(&named));
}

/* What TLS 1.3 has not, ours need not: another provider's answers are still to be had. */
static void what_tls13_has_not_is_refused_by_ours(void **state)
{
	static const uint8_t large[1025];
	uint8_t out[64];
	const struct question other = {
		"SHA512", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET, .out_n = 32};
	const struct question key = {"SHA256", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL,
		BYTES_OF_ARRAY(large), .out_n = 32};
	assert_true(ask(theirs, &other, out) && !ask(ours, &other, out));
	assert_true(ask(theirs, &key, out) && !ask(ours, &key, out));
}

/* ---- a context that is kept ---- */

static void keeps_what_was_set(EVP_KDF *kdf, uint8_t out[4][48])
{
	struct question q = {"SHA2-384", EVP_KDF_HKDF_MODE_EXPAND_ONLY, NULL, SECRET,
		.prefix = TEXT("tls13 "), .label = TEXT("key"), .data = TEXT("data")};
	OSSL_PARAM params[9];
	int mode;
	write_params(&q, &mode, params);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
	assert_int_equal(EVP_KDF_CTX_set_params(context, params), 1);
	assert_int_equal(EVP_KDF_CTX_get_kdf_size(context), SIZE_MAX);
	EVP_KDF_CTX *copy = EVP_KDF_CTX_dup(context);
	assert_non_null(copy);
	assert_int_equal(EVP_KDF_derive(context, out[0], 48, NULL), 1);
	params[0] = params[4]; /* another label, and no data */
	params[0].data = "iv!";
	params[0].data_size = 3;
	params[1] = OSSL_PARAM_construct_end();
	assert_int_equal(EVP_KDF_derive(context, out[1], 48, params), 1);
	EVP_KDF_CTX_reset(context);
	assert_int_equal(EVP_KDF_derive(context, out[2], 48, NULL), 0);
	EVP_KDF_CTX_free(context);
	assert_int_equal(EVP_KDF_derive(copy, out[2], 48, NULL), 1);
	params[0] = OSSL_PARAM_construct_utf8_string("mode", "EXTRACT_ONLY", 0);
	assert_int_equal(EVP_KDF_CTX_set_params(copy, params), 1);
	assert_int_equal(EVP_KDF_CTX_get_kdf_size(copy), 48);
	assert_int_equal(EVP_KDF_derive(copy, out[3], 48, NULL), 1);
	EVP_KDF_CTX_free(copy);
	ERR_clear_error();
}

static void a_kept_context_behaves_as_the_default_ones(void **state)
{
	uint8_t of_theirs[4][48], of_ours[4][48];
	keeps_what_was_set(theirs, of_theirs);
	keeps_what_was_set(ours, of_ours);
	assert_memory_equal(of_theirs, of_ours, sizeof of_ours);
}

static void the_provider_tells_its_name_and_state(void **state)
{
	const char *name = NULL;
	int status = 0;
	OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_ptr("name", (char **)&name, 0),
		OSSL_PARAM_construct_int("status", &status), OSSL_PARAM_construct_end()};
	assert_int_equal(OSSL_PROVIDER_get_params(lib->ours, params), 1);
	assert_string_equal(name, "hikyaku");
	assert_int_equal(status, 1);
	assert_non_null(OSSL_PROVIDER_gettable_params(lib->ours));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_library_context_prefers_ours),
		cmocka_unit_test(every_label_of_tls13_gives_the_same_bytes),
		cmocka_unit_test(every_step_of_the_schedule_gives_the_same_bytes),
		cmocka_unit_test(random_inputs_give_the_same_answer),
		cmocka_unit_test(what_is_wrong_is_refused_by_both),
		cmocka_unit_test(what_tls13_has_not_is_refused_by_ours),
		cmocka_unit_test(a_kept_context_behaves_as_the_default_ones),
		cmocka_unit_test(the_provider_tells_its_name_and_state),
	};
	return cmocka_run_group_tests(tests, fetch_both, free_both);
}
