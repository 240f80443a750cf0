// SPDX-License-Identifier: Apache-2.0
/* Our HMAC beside the default provider's: whatever is asked of both, they say the same. */
#include "tls/provider/provider.h"
#include "tls/tls_private.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct tls_lib *lib;
static EVP_MAC *theirs, *ours;
static uint8_t noise[1024];

static int fetch_both(void **state)
{
	lib = tls_lib_create();
	assert_non_null(lib);
	theirs = EVP_MAC_fetch(lib->openssl, "HMAC", "provider=default");
	ours = EVP_MAC_fetch(lib->openssl, "HMAC", "provider=hikyaku");
	assert_non_null(theirs);
	assert_non_null(ours);
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (uint8_t)(i * 167 + 13);
	return 0;
}

static int free_both(void **state)
{
	EVP_MAC_free(theirs);
	EVP_MAC_free(ours);
	tls_lib_destroy(lib);
	return 0;
}

static const char *const digests[] = {
	"SHA256", "SHA2-384", "SHA1", "SHA512", "MD5", "SHA2-256", "SHA-384"};
static const size_t sizes[] = {0, 1, 20, 32, 48, 63, 64, 65, 111, 127, 128, 129, 200, 1000};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* What one HMAC says at each step of a life; 0 and nothing where it refuses. */
struct said {
	int results[16];
	uint8_t out[4][EVP_MAX_MD_SIZE];
	size_t n[4], size, block;
};

static void tell_digest(OSSL_PARAM **p, const char *name)
{
	*(*p)++ = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)name, 0);
}

/* Digest and key by parameters, as a ticket's, in two pieces; then the same key again; then a copy. */
static void ask(EVP_MAC *mac, const char *digest, size_t key_n, size_t data_n, struct said *said)
{
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac), *copy = NULL;
	OSSL_PARAM params[4], *p = params;
	int *result = said->results;
	memset(said, 0, sizeof *said);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, noise, key_n);
	tell_digest(&p, digest);
	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_PROPERTIES, (char *)"?x.y=z", 0);
	*p = OSSL_PARAM_construct_end();
	*result++ = EVP_MAC_CTX_set_params(ctx, params);
	said->size = EVP_MAC_CTX_get_mac_size(ctx);
	said->block = EVP_MAC_CTX_get_block_size(ctx);
	*result++ = EVP_MAC_update(ctx, noise + 1, data_n / 3);
	copy = EVP_MAC_CTX_dup(ctx);
	*result++ = EVP_MAC_update(ctx, noise + 1 + data_n / 3, data_n - data_n / 3);
	*result++ = EVP_MAC_final(ctx, said->out[0], &said->n[0], EVP_MAX_MD_SIZE);
	*result++ = EVP_MAC_init(ctx, NULL, 0, NULL);
	*result++ = EVP_MAC_update(ctx, noise, data_n);
	*result++ = EVP_MAC_final(ctx, said->out[1], &said->n[1], EVP_MAX_MD_SIZE);
	*result++ = EVP_MAC_final(copy, said->out[2], &said->n[2], EVP_MAX_MD_SIZE);
	*result++ = EVP_MAC_init(ctx, noise + 7, key_n / 2 + 1, NULL);
	*result++ = EVP_MAC_update(ctx, noise, data_n);
	*result++ = EVP_MAC_final(ctx, said->out[3], &said->n[3], EVP_MAX_MD_SIZE);
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_CTX_free(copy);
	ERR_clear_error();
}

static void all_digests_keys_and_lengths_give_the_same_bytes(void **state)
{
	for (size_t d = 0; d < COUNT(digests); d++)
		for (size_t k = 0; k < COUNT(sizes); k++)
			for (size_t n = 0; n < COUNT(sizes); n++) {
				struct said of_theirs, of_ours;
				ask(theirs, digests[d], sizes[k], sizes[n], &of_theirs);
				ask(ours, digests[d], sizes[k], sizes[n], &of_ours);
				assert_memory_equal(&of_theirs, &of_ours, sizeof of_ours);
				assert_int_equal(of_ours.results[3], 1);
			}
}

static void a_finished_is_the_same_and_one_shot(void **state)
{
	for (size_t d = 0; d < COUNT(digests); d++) {
		uint8_t of_theirs[EVP_MAX_MD_SIZE], of_ours[EVP_MAX_MD_SIZE];
		size_t theirs_n, ours_n;
		assert_non_null(EVP_Q_mac(lib->openssl, "HMAC", "provider=default", digests[d], NULL, noise,
			48, noise, 99, of_theirs, sizeof of_theirs, &theirs_n));
		assert_non_null(EVP_Q_mac(lib->openssl, "HMAC", TLS_PROVIDER_OFFLOAD, digests[d], NULL, noise,
			48, noise, 99, of_ours, sizeof of_ours, &ours_n));
		assert_int_equal(theirs_n, ours_n);
		assert_memory_equal(of_theirs, of_ours, ours_n);
	}
}

static void the_library_context_prefers_ours(void **state)
{
	static const char *const queries[] = {NULL, TLS_PROVIDER_OFFLOAD, TLS_PROVIDER_OFFLOAD_CLIENT};
	for (size_t i = 0; i < COUNT(queries); i++) {
		EVP_MAC *mac = EVP_MAC_fetch(lib->openssl, "HMAC", queries[i]);
		assert_ptr_equal(EVP_MAC_get0_provider(mac), lib->ours);
		EVP_MAC_free(mac);
	}
}

/* A received record of TLS 1.2 with CBC: header, then fragment and MAC with their padding (provider-mac(7), tls-data-size). */
static int cbc_record(EVP_MAC *mac, const char *digest, size_t record_n, uint8_t *out, size_t *n)
{
	EVP_MAC_CTX *kept = EVP_MAC_CTX_new(mac);
	OSSL_PARAM params[2], *p = params;
	tell_digest(&p, digest);
	*p = OSSL_PARAM_construct_end();
	assert_int_equal(EVP_MAC_init(kept, noise, 32, params), 1);
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(kept);
	p = params;
	*p++ = OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_TLS_DATA_SIZE, &record_n);
	assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
	int result = EVP_MAC_update(ctx, noise + 3, 13) && EVP_MAC_update(ctx, noise, record_n - 17) &&
		EVP_MAC_final(ctx, out, n, EVP_MAX_MD_SIZE);
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_CTX_free(kept);
	return result;
}

static void records_of_cbc_are_openssls_matter(void **state)
{
	for (size_t d = 0; d < 3; d++)
		for (size_t record_n = 128; record_n < 512; record_n += 16) {
			uint8_t of_theirs[EVP_MAX_MD_SIZE] = {0}, of_ours[EVP_MAX_MD_SIZE] = {0};
			size_t theirs_n = 0, ours_n = 0;
			assert_int_equal(cbc_record(theirs, digests[d], record_n, of_theirs, &theirs_n), 1);
			assert_int_equal(cbc_record(ours, digests[d], record_n, of_ours, &ours_n), 1);
			assert_int_equal(theirs_n, ours_n);
			assert_memory_equal(of_theirs, of_ours, sizeof of_ours);
		}
}

/* Once one is done, another may follow that is not ours: a longer key, another digest. */
static void after_its_end_a_context_takes_another_key_and_digest(void **state)
{
	static const struct {
		const char *digest;
		size_t key_n;
	} next[] = {{"SHA256", 129}, {"SHA1", 20}, {"SHA512", 200}, {"SHA384", 48}};
	for (size_t i = 0; i < COUNT(next); i++) {
		uint8_t out[2][EVP_MAX_MD_SIZE];
		size_t n[2];
		for (int k = 0; k < 2; k++) {
			EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(k == 0 ? theirs : ours);
			OSSL_PARAM params[3], *p = params;
			tell_digest(&p, "SHA256");
			*p++ = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, noise, 32);
			*p = OSSL_PARAM_construct_end();
			assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
			assert_int_equal(EVP_MAC_update(ctx, noise, 99), 1);
			assert_int_equal(EVP_MAC_final(ctx, out[k], &n[k], sizeof out[k]), 1);
			p = params;
			tell_digest(&p, next[i].digest);
			*p = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, noise + 7, next[i].key_n);
			assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
			assert_int_equal(EVP_MAC_update(ctx, noise, 99), 1);
			assert_int_equal(EVP_MAC_final(ctx, out[k], &n[k], sizeof out[k]), 1);
			EVP_MAC_CTX_free(ctx);
		}
		assert_int_equal(n[0], n[1]);
		assert_memory_equal(out[0], out[1], n[0]);
	}
}

static void what_is_not_whole_is_refused(void **state)
{
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(ours);
	uint8_t out[EVP_MAX_MD_SIZE];
	size_t n;
	OSSL_PARAM params[2], *p = params;
	tell_digest(&p, "SHA256");
	*p = OSSL_PARAM_construct_end();
	assert_int_not_equal(EVP_MAC_update(ctx, noise, 1), 1); /* neither digest nor key */
	assert_int_not_equal(EVP_MAC_init(ctx, noise, 32, NULL), 1);
	assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
	assert_int_equal(EVP_MAC_update(ctx, noise, 1), 1); /* the key was kept */
	assert_int_not_equal(EVP_MAC_final(ctx, out, &n, 31), 1); /* no room */
	p = params;
	tell_digest(&p, "nonsense");
	assert_int_not_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
	EVP_MAC_CTX_free(ctx);
	ERR_clear_error();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_library_context_prefers_ours),
		cmocka_unit_test(all_digests_keys_and_lengths_give_the_same_bytes),
		cmocka_unit_test(a_finished_is_the_same_and_one_shot),
		cmocka_unit_test(records_of_cbc_are_openssls_matter),
		cmocka_unit_test(after_its_end_a_context_takes_another_key_and_digest),
		cmocka_unit_test(what_is_not_whole_is_refused),
	};
	return cmocka_run_group_tests(tests, fetch_both, free_both);
}
