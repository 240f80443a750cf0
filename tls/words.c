// SPDX-License-Identifier: Apache-2.0
/* tls/words.c: what OpenSSL knows, as text for people; and the key we take and do not take. */
#include "tls/tls_private.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>

void tls_error_set(struct tls_error *error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(error->text, sizeof error->text, format, args);
	va_end(args);
}

void tls_errors_clear(void)
{
	/* Clearing walks through 16 entries whether they are in use or not: 2,100 instructions, before each read
	 * and write. */
	if (ERR_peek_error() != 0)
		ERR_clear_error();
}

const char *tls_openssl_reason(const char *otherwise)
{
	unsigned long code = ERR_peek_error();
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
	ERR_clear_error();
	return reason != NULL ? reason : otherwise;
}

void tls_name_text(const X509_NAME *name, char *to, size_t size)
{
	BIO *memory = BIO_new(BIO_s_mem());
	to[0] = '\0';
	if (memory == NULL)
		return;
	/* RFC 2253 escapes what is not ASCII, and control bytes, so that a record shows them
	 * harmless. */
	if (X509_NAME_print_ex(memory, name, 0, XN_FLAG_RFC2253) >= 0) {
		char *text;
		long n = BIO_get_mem_data(memory, &text);
		bytes_to_string(bytes_of(text, n > 0 ? (size_t)n : 0), to, size);
	}
	BIO_free(memory);
}

const char *tls_key_unusable(EVP_PKEY *key)
{
	if (!EVP_PKEY_is_a(key, "EC") && !EVP_PKEY_is_a(key, "RSA"))
		return "its key is neither ECDSA nor RSA";
	/* 112 bits of strength are asked of a certificate at OpenSSL's security level 2. */
	if (EVP_PKEY_get_security_bits(key) < 112)
		return "its key is too small: RSA needs 2048 bits, ECDSA 224";
	return NULL;
}

int tls_no_password(char *to, int room, int is_writing, void *user)
{
	return -1;
}
