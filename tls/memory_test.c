// SPDX-License-Identifier: Apache-2.0
/* What an idle session holds at OpenSSL's allocator: bytes asked for, with neither the allocator's rounding nor our own
 * struct tls. The promise is 30 KiB for a whole idle connection; bench/README.md has what that is made of. */
#include "tls/meeting.h"

#include <openssl/crypto.h>
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>

/* ---- an allocator that counts ---- */

static size_t held;

struct block {
	alignas(max_align_t) size_t n;
};

static void *take(size_t n, const char *, int)
{
	struct block *block = malloc(sizeof *block + n);
	if (block == NULL)
		return NULL;
	block->n = n;
	held += n;
	return block + 1;
}

static void give_back(void *at, const char *, int)
{
	if (at == NULL)
		return;
	struct block *block = (struct block *)at - 1;
	held -= block->n;
	free(block);
}

static void *change(void *at, size_t n, const char *file, int line)
{
	if (at == NULL)
		return take(n, file, line);
	size_t before = ((struct block *)at - 1)->n;
	void *to = n == 0 ? NULL : take(n, file, line);
	if (to != NULL)
		memcpy(to, at, before < n ? before : n);
	if (to != NULL || n == 0)
		give_back(at, file, line);
	return to;
}

/* ---- idle sessions ---- */

static void say(struct tls *from, struct tls *to, struct bytes text)
{
	uint8_t in[64];
	size_t n;
	assert_int_equal(tls_write(from, text, &n), TLS_OK);
	assert_int_equal(tls_read(to, in, sizeof in, &n), TLS_OK);
	assert_int_equal(n, text.n);
	assert_int_equal(tls_read(to, in, sizeof in, &n), TLS_AGAIN);
}

static void meet_and_talk(struct meeting *m)
{
	meet(m, "mx.example.test", "example.test");
	assert_int_equal(m->at_client, TLS_OK);
	say(m->client, m->server, BYTES_LITERAL("EHLO client.example.test\r\n"));
	say(m->server, m->client, BYTES_LITERAL("250 mx.example.test\r\n"));
}

/* What one more of them holds, after both have talked. */
static void measure(enum which which, struct tls_profile profile, size_t *of_client, size_t *of_server)
{
	struct meeting m = meeting_of(&which, 1, profile, may);
	meet_and_talk(&m); /* what OpenSSL keeps from a first time is not a session's */
	part(&m);
	size_t before = held;
	meet_and_talk(&m);
	size_t both = held;
	tls_close(m.server);
	m.server = NULL;
	*of_client = held - before;
	*of_server = both - held;
	meeting_end(&m);
}

static const struct {
	const char *what;
	enum which which;
	struct tls_profile servers;
} kinds[] = {
	{"X25519MLKEM768",	   RIGHT,	{.id = "may"}							    },
	{"the second of our shares", RIGHT,	{.id = "may", .groups = "X25519"}				    },
	{"a retry for neither",	RIGHT,	 {.id = "may", .groups = "P-256"}				     },
	{"RSA certificates",	   MX_RSA, {.id = "may", .groups = "X25519"}				    },
	{"TLS 1.2",	       MX_RSA, {.id = "may", .groups = "X25519", .protocol_highest = TLS_1_2}},
};

static void an_idle_session_holds_no_keys_and_no_chain(void **state)
{
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		size_t of_client, of_server;
		measure(kinds[i].which, kinds[i].servers, &of_client, &of_server);
		print_message("%s: client %zu, server %zu\n", kinds[i].what, of_client, of_server);
		assert_in_range(of_client, 1, 24 * 1024);
		assert_in_range(of_server, 1, 21 * 1024);
	}
}

int main(void)
{
	assert(CRYPTO_set_mem_functions(take, change, give_back) == 1);
	const struct CMUnitTest tests[] = {cmocka_unit_test(an_idle_session_holds_no_keys_and_no_chain)};
	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
