// SPDX-License-Identifier: Apache-2.0
#include "tls/pem.h"
#include "tls/lab.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/pem.h>

/* ---- the texts the cases are made of ---- */

static struct lab_cert root, middle, low, leaf, rsa_leaf, other, small;
static char text_of[16][8192];

enum piece {
	END,
	ROOT,
	MIDDLE,
	LOW,
	LEAF,
	LEAF_KEY,
	RSA_LEAF,
	RSA_KEY,
	OTHER,
	OTHER_KEY,
	SMALL,
	SMALL_KEY,
	NOISE,
	LOCKED_KEY,
	OLD_EC_KEY,
	REQUEST,
};

static void keep(enum piece piece, struct bytes text)
{
	assert_true(bytes_to_string(text, text_of[piece], sizeof text_of[piece]));
	free((void *)text.at);
}

static void keep_both(enum piece cert_piece, const struct lab_cert *cert)
{
	keep(cert_piece, lab_certs_pem(&cert, 1));
	if (cert_piece >= LEAF)
		keep(cert_piece + 1, lab_key_pem(cert));
}

static void keep_bio(enum piece piece, BIO *memory)
{
	char *at;
	long n = BIO_get_mem_data(memory, &at);
	assert_true(
		bytes_to_string(bytes_of(at, (size_t)n), text_of[piece], sizeof text_of[piece]));
	BIO_free(memory);
}

static int make_pieces(void **state)
{
	root = lab_cert_make((struct lab_spec){.name = "Root", .is_ca = true});
	middle = lab_cert_make((struct lab_spec){.name = "Middle", .is_ca = true, .issuer = &root});
	low = lab_cert_make((struct lab_spec){.name = "Low", .is_ca = true, .issuer = &middle});
	leaf = lab_cert_make((struct lab_spec){.name = "mx.example.test",
		.issuer = &low,
		.alt = "DNS:mx.example.test,DNS:*.example.test,IP:192.0.2.1,IP:2001:db8::1"});
	rsa_leaf = lab_cert_make(
		(struct lab_spec){.name = "rsa.example.test", .key = LAB_RSA, .issuer = &low});
	other = lab_cert_make((struct lab_spec){.name = "other.example.test"});
	small = lab_cert_make((struct lab_spec){.name = "small.example.test", .key = LAB_RSA_1024});
	keep_both(ROOT, &root);
	keep_both(MIDDLE, &middle);
	keep_both(LOW, &low);
	keep_both(LEAF, &leaf);
	keep_both(RSA_LEAF, &rsa_leaf);
	keep_both(OTHER, &other);
	keep_both(SMALL, &small);
	strcpy(text_of[NOISE], "Bag Attributes\r\n    friendlyName: mx\r\nsubject=CN = mx\r\n");
	BIO *memory = BIO_new(BIO_s_mem());
	PEM_write_bio_PKCS8PrivateKey(memory, leaf.key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL);
	keep_bio(LOCKED_KEY, memory);
	memory = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey_traditional(memory, leaf.key, NULL, NULL, 0, NULL, NULL);
	keep_bio(OLD_EC_KEY, memory);
	X509_REQ *request = X509_to_X509_REQ(leaf.cert, leaf.key, EVP_sha256());
	memory = BIO_new(BIO_s_mem());
	PEM_write_bio_X509_REQ(memory, request);
	X509_REQ_free(request);
	keep_bio(REQUEST, memory);
	return 0;
}

static int free_pieces(void **state)
{
	struct lab_cert *const all[] = {&root, &middle, &low, &leaf, &rsa_leaf, &other, &small};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		lab_cert_free(all[i]);
	return 0;
}

static struct bytes join(const enum piece *pieces, char *to, size_t size)
{
	to[0] = '\0';
	for (; *pieces != END; pieces++) {
		assert_true(strlen(to) + strlen(text_of[*pieces]) < size);
		strcat(to, text_of[*pieces]);
	}
	return bytes_of_string(to);
}

static void assert_chain(const struct pem_pair *pair, const char *const *subjects)
{
	struct pem_certificate c;
	struct tls_error error;
	size_t i = 0;
	for (; subjects[i] != NULL; i++) {
		assert_int_equal(pem_describe(bytes_of_string(pair->chain), i, &c, &error), 0);
		assert_string_equal(c.subject, subjects[i]);
	}
	assert_int_equal(pem_describe(bytes_of_string(pair->chain), i, &c, &error), -ENOENT);
	assert_int_equal(pair->chain_count, i);
}

/* ---- import ---- */

static void a_file_in_any_order_becomes_key_and_ordered_chain(void **state)
{
	static const struct {
		enum piece file[9];
		const char *chain[5];
		bool drops_root;
		unsigned unused;
	} cases[] = {
		{{LEAF_KEY, LEAF, LOW, MIDDLE, ROOT},		      {"CN=mx.example.test", "CN=Low", "CN=Middle"},
			true,												       0},
		{{ROOT, MIDDLE, LOW, LEAF, LEAF_KEY},		      {"CN=mx.example.test", "CN=Low", "CN=Middle"},
			true,												       0},
		{{MIDDLE, LEAF_KEY, ROOT, NOISE, LEAF, LOW},
			{"CN=mx.example.test", "CN=Low", "CN=Middle"},						       true,  0},
		{{NOISE, LEAF, NOISE, OLD_EC_KEY, LOW, MIDDLE, NOISE},
			{"CN=mx.example.test", "CN=Low", "CN=Middle"},						       false, 0},
		{{LEAF, LEAF_KEY},				     {"CN=mx.example.test"},			   false, 0},
		{{LEAF, MIDDLE, LEAF_KEY},				   {"CN=mx.example.test"},			   false, 1},
		{{RSA_LEAF, LEAF, LOW, RSA_KEY},			 {"CN=rsa.example.test", "CN=Low"},		    false, 1},
		{{OTHER, OTHER_KEY},				     {"CN=other.example.test"},			false, 0},
		{{LEAF, LEAF, LEAF_KEY, LOW, LOW},			   {"CN=mx.example.test", "CN=Low"},		     false, 2},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		static char file[65536];
		struct pem_pair pair, again;
		struct tls_error error;
		int result = pem_import(join(cases[i].file, file, sizeof file), &pair, &error);
		assert_string_equal(error.text, "");
		assert_int_equal(result, 0);
		assert_chain(&pair, cases[i].chain);
		assert_int_equal(pair.has_dropped_root, cases[i].drops_root);
		assert_int_equal(pair.unused_count, cases[i].unused);
		assert_int_equal(strlen(pair.key), pair.key_n);
		assert_memory_equal(pair.key, "-----BEGIN PRIVATE KEY-----\n", 28);
		/* What comes out goes in again, and stays as it is. */
		snprintf(file, sizeof file, "%s%s", pair.chain, pair.key);
		assert_int_equal(pem_import(bytes_of_string(file), &again, &error), 0);
		assert_string_equal(again.key, pair.key);
		assert_string_equal(again.chain, pair.chain);
		pem_pair_fini(&again);
		pem_pair_fini(&pair);
	}
}

static void a_file_that_will_not_do_is_refused_in_words(void **state)
{
	static const struct {
		enum piece file[6];
		const char *words;
	} cases[] = {
		{{END},			"the file is not usable: it is empty"			     },
		{{NOISE},			  "it has no PEM block"				       },
		{{LEAF, LOW},		      "it has no private key"				     },
		{{LEAF_KEY},		     "it has a key but no certificate"			      },
		{{LEAF, RSA_KEY},
			"the key does not belong to the certificate: the key is RSA of 2048 bits, "
			"the "
			"certificate (CN=mx.example.test) is for another key (ECDSA of 256 bits)"	 },
		{{LEAF_KEY, LOW, MIDDLE},	  "is the leaf missing?"					},
		{{LEAF_KEY, ROOT},		   "is the leaf missing?"					 },
		{{LEAF, LOCKED_KEY},	     "its private key is encrypted: take the password off first"},
		{{LEAF, LEAF_KEY, OTHER_KEY}, "it has more than one private key"				},
		{{SMALL, SMALL_KEY},	     "its key is too small: RSA needs 2048 bits, ECDSA 224"	   },
		{{REQUEST, LEAF_KEY},	      "it holds a certificate request"			      },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		static char file[65536];
		struct pem_pair pair;
		struct tls_error error;
		assert_int_equal(
			pem_import(join(cases[i].file, file, sizeof file), &pair, &error), -EINVAL);
		if (strstr(error.text, cases[i].words) == NULL)
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, error.text,
				cases[i].words);
	}
}

static void binary_and_too_large_files_are_told_so(void **state)
{
	static const uint8_t der[] = {0x30, 0x82, 0x01, 0x00};
	static uint8_t large[PEM_FILE_BYTES_MAX + 1];
	struct pem_pair pair;
	struct tls_error error;
	assert_int_equal(pem_import(bytes_of(der, sizeof der), &pair, &error), -EINVAL);
	assert_non_null(strstr(error.text, "not PEM"));
	assert_int_equal(pem_import(bytes_of(large, sizeof large), &pair, &error), -EINVAL);
	assert_non_null(strstr(error.text, "larger than 256 KiB"));
}

/* Cut anywhere, a file is refused with some words, or still whole but for text after its last
 * block. */
static void a_file_cut_anywhere_is_refused_with_words(void **state)
{
	static const enum piece pieces[] = {LEAF, LOW, LEAF_KEY, END};
	static char file[65536];
	struct bytes whole = join(pieces, file, sizeof file);
	for (size_t n = 0; n + 2 < whole.n; n++) {
		struct pem_pair pair;
		struct tls_error error;
		assert_int_equal(pem_import(bytes_first(whole, n), &pair, &error), -EINVAL);
		assert_true(strlen(error.text) > 10);
	}
}

static bool has_private_number_of(const struct pem_pair *pair, EVP_PKEY *key)
{
	BIGNUM *a = NULL, *b = NULL;
	BIO *from = BIO_new_mem_buf(pair->key, (int)pair->key_n);
	EVP_PKEY *read = PEM_read_bio_PrivateKey(from, NULL, NULL, NULL);
	bool is_same = EVP_PKEY_get_bn_param(read, "priv", &a) == 1 &&
		EVP_PKEY_get_bn_param(key, "priv", &b) == 1 && BN_cmp(a, b) == 0;
	BN_clear_free(a);
	BN_clear_free(b);
	EVP_PKEY_free(read);
	BIO_free(from);
	return is_same;
}

static void a_changed_byte_never_yields_another_key_or_leaf(void **state)
{
	static const enum piece pieces[] = {LEAF, LEAF_KEY, END};
	static char file[65536];
	struct pem_pair pair;
	struct tls_error error;
	struct bytes whole = join(pieces, file, sizeof file);
	for (size_t i = 0; i < whole.n; i++) {
		file[i] ^= 0x05;
		if (pem_import(whole, &pair, &error) == 0) {
			assert_true(has_private_number_of(&pair, leaf.key));
			pem_pair_fini(&pair);
		}
		file[i] ^= 0x05;
	}
}

static void too_many_certificates_are_refused(void **state)
{
	static char file[65536];
	struct pem_pair pair;
	struct tls_error error;
	strcpy(file, text_of[LEAF_KEY]);
	for (int i = 0; i < PEM_CERTS_MAX; i++)
		strcat(file, text_of[LEAF]);
	assert_int_equal(pem_import(bytes_of_string(file), &pair, &error), 0);
	pem_pair_fini(&pair);
	strcat(file, text_of[LEAF]);
	assert_int_equal(pem_import(bytes_of_string(file), &pair, &error), -EINVAL);
	assert_non_null(strstr(error.text, "too many certificates"));
}

/* ---- describe ---- */

static void a_certificate_is_described(void **state)
{
	struct pem_certificate c;
	struct tls_error error;
	assert_int_equal(pem_describe(bytes_of_string(text_of[LEAF]), 0, &c, &error), 0);
	assert_string_equal(c.subject, "CN=mx.example.test");
	assert_string_equal(c.issuer, "CN=Low");
	static const char names[] = "mx.example.test\0*.example.test\0"
				    "192.0.2.1\0"
				    "2001:db8:0:0:0:0:0:1\0";
	assert_memory_equal(c.names, names, sizeof names);
	assert_false(c.has_more_names);
	assert_int_equal(c.not_after - c.not_before, 31 * 86400);
	assert_int_equal(strlen(c.not_after_text), strlen("2026-11-21T18:30:00Z"));
	assert_string_equal(c.key_type, "ECDSA");
	assert_string_equal(c.key_group, "P-256");
	assert_int_equal(c.key_bits, 256);
	assert_int_equal(strlen(c.sha256), 95);
	assert_true(strlen(c.serial) >= 2);
	assert_false(c.is_ca);
	assert_false(c.is_self_signed);
	assert_int_equal(pem_describe(bytes_of_string(text_of[RSA_LEAF]), 0, &c, &error), 0);
	assert_string_equal(c.key_type, "RSA");
	assert_string_equal(c.key_group, "");
	assert_int_equal(c.key_bits, 2048);
	assert_int_equal(pem_describe(bytes_of_string(text_of[ROOT]), 0, &c, &error), 0);
	assert_true(c.is_ca && c.is_self_signed);
	assert_int_equal(pem_describe(bytes_of_string(text_of[NOISE]), 0, &c, &error), -EINVAL);
}

/* ---- make ---- */

static void a_certificate_made_here_can_be_imported_and_says_what_was_asked(void **state)
{
	static const char *const names[] = {
		"mx.example.test", "*.mail.example.test", "EXAMPLE.test"};
	static const int64_t now = 1795000000; /* 2026-11-18T11:06:40Z */
	for (int kind = PEM_KEY_ECDSA_P256; kind <= PEM_KEY_RSA_2048; kind++) {
		struct pem_pair pair, imported;
		struct pem_certificate c;
		struct tls_error error;
		static char file[16384];
		assert_int_equal(pem_make_self_signed(names, 3, 90, kind, now, &pair, &error), 0);
		snprintf(file, sizeof file, "%s%s", pair.key, pair.chain);
		assert_int_equal(pem_import(bytes_of_string(file), &imported, &error), 0);
		assert_string_equal(imported.chain, pair.chain);
		assert_int_equal(pem_describe(bytes_of_string(pair.chain), 0, &c, &error), 0);
		assert_string_equal(c.subject, "CN=mx.example.test");
		static const char expected[] =
			"mx.example.test\0*.mail.example.test\0EXAMPLE.test\0";
		assert_memory_equal(c.names, expected, sizeof expected);
		assert_int_equal(c.not_before, now - 3600);
		assert_int_equal(c.not_after, now + 90 * 86400);
		assert_string_equal(c.not_before_text, "2026-11-18T10:06:40Z");
		assert_string_equal(c.key_type, kind == PEM_KEY_ECDSA_P256 ? "ECDSA" : "RSA");
		assert_true(c.is_self_signed);
		assert_false(c.is_ca);
		pem_pair_fini(&imported);
		pem_pair_fini(&pair);
	}
}

static void two_made_alike_have_different_keys_and_serials(void **state)
{
	static const char *const names[] = {"mx.example.test"};
	struct pem_pair a, b;
	struct pem_certificate of_a, of_b;
	struct tls_error error;
	assert_int_equal(pem_make_self_signed(names, 1, 1, PEM_KEY_ECDSA_P256, 0, &a, &error), 0);
	assert_int_equal(pem_make_self_signed(names, 1, 1, PEM_KEY_ECDSA_P256, 0, &b, &error), 0);
	assert_string_not_equal(a.key, b.key);
	pem_describe(bytes_of_string(a.chain), 0, &of_a, &error);
	pem_describe(bytes_of_string(b.chain), 0, &of_b, &error);
	assert_string_not_equal(of_a.serial, of_b.serial);
	pem_pair_fini(&a);
	pem_pair_fini(&b);
}

static void what_is_no_dns_name_gets_no_certificate(void **state)
{
	static const char *const bad[] = {"", ".", "a..example.test", "-a.example.test",
		"a-.example.test", "a b.example.test", "*", "*.", "a.*.example.test",
		"**.example.test", "mx_1.example.test", "mx.example.test.", "mx.example.test\n",
		"%s%n",
		"a123456789012345678901234567890123456789012345678901234567890123.example.test"};
	struct pem_pair pair;
	struct tls_error error;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (pem_make_self_signed(&bad[i], 1, 1, PEM_KEY_ECDSA_P256, 0, &pair, &error) !=
			-EINVAL)
			fail_msg("'%s' was taken for a name", bad[i]);
		assert_non_null(strstr(error.text, "is not a DNS name"));
	}
	static const char *const good[] = {"a.example.test"};
	assert_int_equal(
		pem_make_self_signed(good, 0, 1, PEM_KEY_ECDSA_P256, 0, &pair, &error), -EINVAL);
	assert_int_equal(
		pem_make_self_signed(good, 1, 0, PEM_KEY_ECDSA_P256, 0, &pair, &error), -EINVAL);
	assert_int_equal(
		pem_make_self_signed(good, 1, 3651, PEM_KEY_ECDSA_P256, 0, &pair, &error), -EINVAL);
}

static void a_name_too_long_for_a_common_name_is_still_certified(void **state)
{
	static const char *const names[] = {"a-host-name-that-is-long.in-a-domain-that-is-longer."
					    "and-one-more-label.example.test"};
	struct pem_pair pair;
	struct pem_certificate c;
	struct tls_error error;
	assert_int_equal(
		pem_make_self_signed(names, 1, 1, PEM_KEY_ECDSA_P256, 0, &pair, &error), 0);
	assert_int_equal(pem_describe(bytes_of_string(pair.chain), 0, &c, &error), 0);
	assert_string_equal(c.names, names[0]);
	pem_pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_in_any_order_becomes_key_and_ordered_chain),
		cmocka_unit_test(a_file_that_will_not_do_is_refused_in_words),
		cmocka_unit_test(binary_and_too_large_files_are_told_so),
		cmocka_unit_test(a_file_cut_anywhere_is_refused_with_words),
		cmocka_unit_test(a_changed_byte_never_yields_another_key_or_leaf),
		cmocka_unit_test(too_many_certificates_are_refused),
		cmocka_unit_test(a_certificate_is_described),
		cmocka_unit_test(a_certificate_made_here_can_be_imported_and_says_what_was_asked),
		cmocka_unit_test(two_made_alike_have_different_keys_and_serials),
		cmocka_unit_test(what_is_no_dns_name_gets_no_certificate),
		cmocka_unit_test(a_name_too_long_for_a_common_name_is_still_certified),
	};
	return cmocka_run_group_tests(tests, make_pieces, free_pieces);
}
