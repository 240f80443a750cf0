// SPDX-License-Identifier: Apache-2.0
#include "tls/hello.h"
#include "tls/lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static unsigned looks;

static bool peek(void *user, size_t offset, uint8_t *to, size_t n)
{
	struct bytes *all = user;
	looks++;
	if (offset + n > all->n)
		return false;
	memcpy(to, all->at + offset, n);
	return true;
}

/* Of bytes that come `step` at a time: the answer, and how many had to be there for it. */
static enum tls_hello_state look_at(struct bytes all, size_t step, size_t *needed)
{
	struct tls_hello hello = {0};
	looks = 0;
	for (size_t there = step;; there += step) {
		struct bytes come = bytes_first(all, there);
		enum tls_hello_state state = TLS_HELLO_MORE;
		if (come.n >= hello.wanted)
			state = tls_hello_look(&hello, come.n, peek, &come);
		*needed = come.n;
		if (state != TLS_HELLO_MORE || come.n == all.n)
			return state;
	}
}

/* A ClientHello of `message` bytes, header included, in records of `piece` bytes. */
static struct bytes make(uint8_t *to, size_t message, size_t piece)
{
	size_t n = 0;
	for (size_t at = 0; at < message;) {
		size_t record = message - at < piece ? message - at : piece;
		const uint8_t header[] = {22, 3, at == 0 ? 1 : 3, (uint8_t)(record >> 8), (uint8_t)record};
		memcpy(to + n, header, sizeof header);
		memset(to + n + 5, 0xee, record);
		if (at == 0) {
			const uint8_t start[] = {1, 0, (uint8_t)((message - 4) >> 8), (uint8_t)(message - 4)};
			memcpy(to + n + 5, start, sizeof start);
		}
		n += 5 + record;
		at += record;
	}
	return bytes_of(to, n);
}

static void a_hello_is_whole_with_its_last_byte_and_not_before(void **state)
{
	static uint8_t room[40000];
	static const struct {
		size_t message, piece;
	} cases[] = {{4, 4}, {5, 4}, {300, 16384}, {2000, 512}, {2000, 125}, {16388, 16384}, {16384, 1024}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t step = 1; step < 40000; step = step * 3 + 1) {
			size_t needed;
			struct bytes all = make(room, cases[i].message, cases[i].piece);
			assert_int_equal(look_at(all, step, &needed), TLS_HELLO_WHOLE);
			assert_int_equal(needed, all.n);
			assert_in_range(looks, 3, 3 + TLS_HELLO_RECORDS_MAX); /* however small the pieces */
			/* What comes behind it does not matter, nor does what is missing go unseen. */
			assert_int_equal(look_at(bytes_first(all, all.n - 1), step, &needed), TLS_HELLO_MORE);
		}
}

static void what_openssl_sends_is_a_hello(void **state)
{
	struct lab_link link;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	lab_link_init(&link);
	struct lab_raw raw = lab_raw_client(ctx, &link, "mx.example.test");
	SSL_do_handshake(raw.ssl);
	lab_raw_pump(&raw);
	size_t needed, n = link.up.tail - link.up.head;
	assert_true(n > 1000); /* a hybrid key share */
	assert_int_equal(look_at(bytes_of(link.up.at + link.up.head, n), 100, &needed), TLS_HELLO_WHOLE);
	assert_int_equal(needed, n);
	lab_raw_free(&raw);
	SSL_CTX_free(ctx);
	lab_link_fini(&link);
}

static void what_is_no_hello_is_known_at_its_first_bytes(void **state)
{
	static const struct {
		struct bytes bytes;
		enum tls_hello_state state;
		size_t needed;
	} cases[] = {
		{BYTES_LITERAL("EHLO client.example.test\r\n"), TLS_HELLO_NOT_TLS, 1},
		{BYTES_LITERAL("GET / HTTP/1.0\r\n\r\n"), TLS_HELLO_NOT_TLS, 1},
		{BYTES_LITERAL("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"), TLS_HELLO_NOT_TLS, 1}, /* SSL 2 */
		{BYTES_LITERAL("\x15\x03\x01\x00\x02\x01\x00\x15\x03\x01"), TLS_HELLO_NOT_TLS, 1}, /* an alert */
		{BYTES_LITERAL("\x16\x02\x01\x02\x00\x01\x00\x01\xfc"), TLS_HELLO_NOT_TLS, 9},
		{BYTES_LITERAL("\x16\x03\x01\x00\x00\x16\x03\x01\x00\x05"), TLS_HELLO_NOT_TLS, 9}, /* an empty record */
		{BYTES_LITERAL("\x16\x03\x01\x02\x00\x02\x00\x01\xfc"), TLS_HELLO_NOT_TLS, 9}, /* a ServerHello */
		{BYTES_LITERAL("\x16\x03\x01\x02\x00\x01\x00\x40\x01"), TLS_HELLO_TOO_LARGE, 9},
		{BYTES_LITERAL("\x16\x03\x01\x40\x01\x01\x00\x01\xfc"), TLS_HELLO_TOO_LARGE, 9},
		{BYTES_LITERAL("\x16\x03\x01\x00\x01\x01\x16\x03\x01"), TLS_HELLO_TOO_LARGE, 9},
		/* In the midst of it, another kind of record; and an empty one. */
		{BYTES_LITERAL("\x16\x03\x01\x00\x04\x01\x00\x00\x09\x15\x03\x03\x00\x02"), TLS_HELLO_NOT_TLS, 14},
		{BYTES_LITERAL("\x16\x03\x01\x00\x04\x01\x00\x00\x09\x16\x03\x03\x00\x00"), TLS_HELLO_NOT_TLS, 14},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t needed;
		assert_int_equal(look_at(cases[i].bytes, 1, &needed), cases[i].state);
		assert_int_equal(needed, cases[i].needed);
	}
}

static void a_hello_in_too_many_records_is_refused(void **state)
{
	static uint8_t room[4096];
	size_t needed;
	struct bytes all = make(room, 4 * (TLS_HELLO_RECORDS_MAX + 1), 4);
	assert_int_equal(look_at(all, 1, &needed), TLS_HELLO_TOO_LARGE);
	assert_int_equal(needed, 9 * TLS_HELLO_RECORDS_MAX + 5);
	all = make(room, 4 * TLS_HELLO_RECORDS_MAX, 4);
	assert_int_equal(look_at(all, 1, &needed), TLS_HELLO_WHOLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_is_whole_with_its_last_byte_and_not_before),
		cmocka_unit_test(what_openssl_sends_is_a_hello),
		cmocka_unit_test(what_is_no_hello_is_known_at_its_first_bytes),
		cmocka_unit_test(a_hello_in_too_many_records_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
