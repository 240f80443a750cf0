// SPDX-License-Identifier: Apache-2.0
/* Our client session talks to our server session, in memory: what the one delivers is byte for byte what
 * the other receives, however the bytes are cut and however little room there is. */
#include "smtp/client/session.h"
#include "smtp/server/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "smtp/client/test_mail.h"
#include "smtp/client/test_watch.h"
#include "smtp/envelope.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

enum { CONTENT_MAX = 200000, RECIPIENTS = 8 };

/* How bytes cross: at most so many at once in each direction. */
struct wire {
	size_t to_server, to_client, client_block;
};

struct pair {
	struct wire wire;
	struct smtp_client *client;
	struct smtp_server *server;
	struct stream_pool *client_pool, *server_pool, *in_pool;
	struct stream client_out, server_out; /* what each has said */
	struct stream client_in, server_in;   /* what has reached each */
	struct watch watch;
	bool is_client_over, is_server_over, is_ready, is_client_shaking, is_server_shaking;
	/* What the server received. */
	uint8_t content[CONTENT_MAX];
	size_t content_n;
	char sender[128], recipients[1024];
	uint64_t size_said;
	uint8_t body_flags;
	unsigned mails, aborts, refused;
	const char *end_refusal;
	unsigned codes[RECIPIENTS];
};

static struct pair pair;

/* ---- the server's caller ---- */

static const char *refusal_of_recipient(struct bytes text)
{
	if (text.n != 0 && text.at[0] == 'n')
		return "550 5.1.1 no such user\r\n";
	if (text.n != 0 && text.at[0] == 'l')
		return "450 4.2.0 later\r\n";
	return NULL;
}

static void answer(const char *refusal, const char *note)
{
	assert_true(smtp_server_answer(pair.server, refusal, note, &pair.server_out));
}

static void on_recipient(const struct smtp_event *e)
{
	const char *refusal = refusal_of_recipient(e->text);
	size_t n = strlen(pair.recipients);
	if (refusal == NULL)
		snprintf(pair.recipients + n, sizeof pair.recipients - n, "%.*s ", (int)e->text.n,
			(const char *)e->text.at);
	answer(refusal, NULL);
}

static void on_server_event(const struct smtp_event *e)
{
	switch (e->kind) {
	case SMTP_EVENT_MAIL:
		bytes_to_string(e->text, pair.sender, sizeof pair.sender);
		pair.size_said = e->size;
		pair.body_flags = e->body_flags;
		pair.recipients[0] = '\0';
		pair.content_n = 0;
		answer(e->text.n != 0 && e->text.at[0] == 'n' ? "550 5.7.1 no\r\n" : NULL, NULL);
		break;
	case SMTP_EVENT_RCPT: on_recipient(e); break;
	case SMTP_EVENT_DATA: answer(NULL, NULL); break;
	case SMTP_EVENT_BODY:
		assert_true(pair.content_n + e->text.n <= sizeof pair.content);
		memcpy(pair.content + pair.content_n, e->text.at, e->text.n);
		pair.content_n += e->text.n;
		break;
	case SMTP_EVENT_END:
		pair.mails++;
		answer(pair.end_refusal, "0000000000001");
		break;
	case SMTP_EVENT_ABORT: pair.aborts++; break;
	case SMTP_EVENT_REFUSED: pair.refused++; break;
	case SMTP_EVENT_STARTTLS: pair.is_server_shaking = true; break;
	case SMTP_EVENT_CLOSE: pair.is_server_over = true; break;
	case SMTP_EVENT_HELO:
	case SMTP_EVENT_NONE: break;
	}
}

/* ---- bytes from one to the other ---- */

static bool cross(struct stream *from, struct stream *to, size_t most)
{
	struct bytes b = bytes_first(stream_peek(from), most);
	b = bytes_first(b, stream_space(to));
	if (b.n == 0)
		return false;
	assert_true(stream_write(to, b));
	stream_consume(from, b.n);
	return true;
}

static bool step_server(void)
{
	struct smtp_event e = {};
	struct bytes in = stream_peek(&pair.server_in);
	if (pair.is_server_over || pair.is_server_shaking)
		return false;
	size_t said = stream_length(&pair.server_out);
	size_t used = smtp_server_feed(pair.server, in, &e, &pair.server_out);
	on_server_event(&e);
	stream_consume(&pair.server_in, used);
	return used != 0 || e.kind != SMTP_EVENT_NONE || stream_length(&pair.server_out) != said;
}

static void on_client_event(const struct smtp_client_event *e)
{
	watch_event(&pair.watch, pair.client, e);
	if (e->kind == SMTP_CLIENT_RECIPIENT)
		pair.codes[e->index] = e->reply.code;
	pair.is_client_over |= e->kind == SMTP_CLIENT_FAILED || e->kind == SMTP_CLIENT_CLOSED;
	pair.is_ready |= e->kind == SMTP_CLIENT_READY;
	pair.is_client_shaking |= e->kind == SMTP_CLIENT_STARTTLS;
}

static bool step_client(void)
{
	struct smtp_client_event e;
	struct bytes in = stream_peek(&pair.client_in);
	size_t said = stream_length(&pair.client_out);
	size_t used = smtp_client_feed(pair.client, in, &e, &pair.client_out);
	on_client_event(&e);
	stream_consume(&pair.client_in, used);
	return used != 0 || e.kind != SMTP_CLIENT_NONE || stream_length(&pair.client_out) != said;
}

/* A handshake without TLS: both are told that it is done. */
static bool shake_hands(void)
{
	if (!pair.is_client_shaking || !pair.is_server_shaking)
		return false;
	pair.is_client_shaking = pair.is_server_shaking = false;
	pair.watch.is_clear_must = false;
	smtp_server_tls_started(pair.server);
	smtp_client_tls_started(pair.client);
	return true;
}

/* Until nothing moves any more. */
static void run(void)
{
	bool moved;
	do {
		moved = step_client();
		moved |= cross(&pair.client_out, &pair.server_in, pair.wire.to_server);
		moved |= step_server();
		moved |= cross(&pair.server_out, &pair.client_in, pair.wire.to_client);
		moved |= shake_hands();
	} while (moved);
}

static void pair_open(struct wire wire, enum smtp_client_tls tls, const struct smtp_server_config *config)
{
	const struct smtp_client_config client = {"relay.example.test", tls, "mx[192.0.2.1]"};
	const struct smtp_server_policy policy = {
		.is_tls = tls == SMTP_CLIENT_TLS_IMPLICIT, .offers_starttls = true};
	memset(&pair, 0, sizeof pair);
	pair.wire = wire;
	pair.watch.is_clear_must = tls == SMTP_CLIENT_TLS_MUST;
	pair.client_pool = stream_pool_create(wire.client_block, 1);
	pair.server_pool = stream_pool_create(16384, 1);
	pair.in_pool = stream_pool_create(16384, 2);
	stream_init(&pair.client_out, pair.client_pool);
	stream_init(&pair.server_out, pair.server_pool);
	stream_init(&pair.client_in, pair.in_pool);
	stream_init(&pair.server_in, pair.in_pool);
	pair.client = malloc(smtp_client_size());
	pair.server = malloc(smtp_server_size());
	smtp_server_open(pair.server, config, &policy, &pair.server_out);
	smtp_client_open(pair.client, &client);
	run();
}

static void pair_close(void)
{
	smtp_client_quit(pair.client);
	run();
	assert_true(pair.is_client_over);
	assert_true(pair.is_server_over);
	stream_reset(&pair.client_out);
	stream_reset(&pair.server_out);
	stream_reset(&pair.client_in);
	stream_reset(&pair.server_in);
	stream_pool_destroy(pair.client_pool);
	stream_pool_destroy(pair.server_pool);
	stream_pool_destroy(pair.in_pool);
	free(pair.client);
	free(pair.server);
}

static bool deliver(const struct smtp_client_job *job)
{
	struct smtp_reply why;
	assert_true(pair.is_ready);
	pair.is_ready = false;
	memset(pair.codes, 0, sizeof pair.codes);
	if (!smtp_client_begin(pair.client, job, &why)) {
		pair.is_ready = true;
		return false;
	}
	watch_begin(&pair.watch, job->recipient_count);
	run();
	return true;
}

/* ---- tests ---- */

static const struct smtp_server_config plain = {.hostname = "mx.example.test",
	.message_bytes_max = CONTENT_MAX, .recipients_max = 100, .line_bytes_max = 2048};

static const struct wire wires[] = {
	{SIZE_MAX, SIZE_MAX, 16384}, {1, 1, SMTP_CLIENT_OUT_MIN}, {1460, 536, 8192}, {7, 3, 4096}};

static uint8_t content[CONTENT_MAX];

/* Lines of all lengths, many of them beginning with dots; the bytes. */
static size_t make_content(size_t n, uint64_t seed)
{
	size_t made = 0;
	while (made + 2 < n) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		unsigned what = seed >> 60;
		if (what < 2) {
			content[made++] = '\r';
			content[made++] = '\n';
		} else {
			content[made++] = what < 6 ? '.' : (uint8_t)(what * 16 + 1);
		}
	}
	return made;
}

static void assert_received(size_t n)
{
	bool is_ended = n == 0 || content[n - 1] == '\n';
	assert_int_equal(pair.content_n, n + (is_ended ? 0 : 2));
	assert_memory_equal(pair.content, content, n);
	if (!is_ended)
		assert_memory_equal(pair.content + n, "\r\n", 2);
}

static const struct bytes two[] = {BYTES_LITERAL("b@example.test"), BYTES_LITERAL("c@example.test")};

static void content_arrives_byte_for_byte(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 100, 8051, 8052, 8053, 20000, CONTENT_MAX - 4};
	struct mail_pool *pool = mail_pool_create(32, 1, 0);
	for (size_t w = 0; w < LENGTH(wires); w++) {
		pair_open(wires[w], SMTP_CLIENT_TLS_MAY, &plain);
		for (size_t i = 0; i < LENGTH(sizes); i++) {
			size_t n = make_content(sizes[i], w * 100 + i);
			struct mail *mail = test_mail_make(pool, bytes_of(content, n));
			const struct smtp_client_job job = {mail, BYTES_LITERAL("a@example.test"), two, 2,
				ENVELOPE_8BITMIME};
			assert_true(deliver(&job));
			assert_int_equal(pair.watch.delivered, 2);
			assert_int_equal(pair.mails, i + 1);
			assert_string_equal(pair.sender, "a@example.test");
			assert_string_equal(pair.recipients, "b@example.test c@example.test ");
			assert_int_equal(pair.size_said, n);
			assert_int_equal(pair.body_flags, ENVELOPE_8BITMIME);
			assert_received(n);
			mail_put(mail);
		}
		assert_int_equal(pair.aborts, 0);
		assert_int_equal(pair.refused, 0);
		pair_close();
	}
	mail_pool_destroy(pool);
}

static void tls_of_every_kind_is_got_through(void **state)
{
	struct mail_pool *pool = mail_pool_create(4, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	const struct smtp_client_job job = {mail, BYTES_NONE, two, 1, 0};
	for (size_t w = 0; w < LENGTH(wires); w++)
		for (enum smtp_client_tls tls = SMTP_CLIENT_TLS_NEVER; tls <= SMTP_CLIENT_TLS_IMPLICIT; tls++) {
			pair_open(wires[w], tls, &plain);
			assert_true(deliver(&job));
			assert_int_equal(pair.watch.delivered, 1);
			assert_string_equal(pair.sender, "");
			assert_int_equal(smtp_client_was_offered_tls(pair.client),
				tls != SMTP_CLIENT_TLS_IMPLICIT);
			pair_close();
		}
	mail_put(mail);
	mail_pool_destroy(pool);
}

/* n…: refused for good, l…: later. Each word is a mail to those recipients, with the codes that come of it. */
static void refusals_reach_the_recipients_they_are_for(void **state)
{
	static const struct {
		const char *sender, *end_refusal;
		struct bytes recipients[4];
		unsigned codes[4];
		bool is_mail;
	} cases[] = {
		{"a", NULL, {BYTES_LITERAL("b@x.test"), BYTES_LITERAL("n@x.test"), BYTES_LITERAL("l@x.test"),
				    BYTES_LITERAL("c@x.test")}, {250, 550, 450, 250}, true},
		{"a", NULL, {BYTES_LITERAL("n@x.test"), BYTES_LITERAL("n@x.test"), BYTES_LITERAL("l@x.test"),
				    BYTES_LITERAL("n@x.test")}, {550, 550, 450, 550}, false},
		{"n", NULL, {BYTES_LITERAL("b@x.test"), BYTES_LITERAL("n@x.test"), BYTES_LITERAL("l@x.test"),
				    BYTES_LITERAL("c@x.test")}, {550, 550, 550, 550}, false},
		{"a", "452 4.3.1 Insufficient system storage\r\n",
			{BYTES_LITERAL("b@x.test"), BYTES_LITERAL("n@x.test"), BYTES_LITERAL("l@x.test"),
				BYTES_LITERAL("c@x.test")}, {452, 550, 450, 452}, true},
		{"a", "554 5.7.1 spam\r\n",
			{BYTES_LITERAL("b@x.test"), BYTES_LITERAL("c@x.test"), BYTES_LITERAL("d@x.test"),
				BYTES_LITERAL("e@x.test")}, {554, 554, 554, 554}, true},
	};
	struct mail_pool *pool = mail_pool_create(4, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	for (size_t w = 0; w < LENGTH(wires); w++) {
		pair_open(wires[w], SMTP_CLIENT_TLS_MAY, &plain);
		for (size_t i = 0; i < LENGTH(cases) * 2; i++) {
			size_t k = i % LENGTH(cases);
			char sender[32];
			int n = snprintf(sender, sizeof sender, "%s@example.test", cases[k].sender);
			const struct smtp_client_job job = {mail, bytes_of(sender, (size_t)n),
				cases[k].recipients, 4, 0};
			unsigned before = pair.mails;
			pair.end_refusal = cases[k].end_refusal;
			assert_true(deliver(&job));
			for (size_t r = 0; r < 4; r++)
				assert_int_equal(pair.codes[r], cases[k].codes[r]);
			assert_int_equal(pair.mails - before, cases[k].is_mail);
		}
		pair_close();
	}
	mail_put(mail);
	mail_pool_destroy(pool);
}

static void recipients_past_the_servers_limit_are_for_later(void **state)
{
	struct smtp_server_config config = plain;
	struct bytes many[RECIPIENTS];
	struct mail_pool *pool = mail_pool_create(4, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	const struct smtp_client_job job = {mail, BYTES_NONE, many, RECIPIENTS, 0};
	config.recipients_max = 3;
	for (size_t i = 0; i < RECIPIENTS; i++)
		many[i] = BYTES_LITERAL("b@example.test");
	pair_open(wires[0], SMTP_CLIENT_TLS_MAY, &config);
	assert_true(deliver(&job));
	for (size_t i = 0; i < RECIPIENTS; i++)
		assert_int_equal(pair.codes[i], i < 3 ? 250 : 452);
	pair_close();
	mail_put(mail);
	mail_pool_destroy(pool);
}

static void the_servers_size_limit_is_kept_by_the_client(void **state)
{
	struct smtp_server_config config = plain;
	struct mail_pool *pool = mail_pool_create(4, 2, 0);
	struct mail *fits = test_mail_make(pool, BYTES_LITERAL("12345678\r\n"));
	struct mail *big = test_mail_make(pool, BYTES_LITERAL("123456789\r\n"));
	const struct smtp_client_job small_job = {fits, BYTES_NONE, two, 1, 0};
	const struct smtp_client_job big_job = {big, BYTES_NONE, two, 1, 0};
	config.message_bytes_max = 10;
	pair_open(wires[0], SMTP_CLIENT_TLS_MAY, &config);
	assert_false(deliver(&big_job));
	assert_true(deliver(&small_job));
	assert_int_equal(pair.watch.delivered, 1);
	assert_int_equal(pair.refused, 0);
	pair_close();
	mail_put(fits);
	mail_put(big);
	mail_pool_destroy(pool);
}

/* The server is ended from outside in the middle: nothing is called delivered that it has not taken. */
static void a_server_that_leaves_defers_the_mail(void **state)
{
	struct mail_pool *pool = mail_pool_create(4, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	const struct smtp_client_job job = {mail, BYTES_NONE, two, 2, 0};
	pair_open(wires[0], SMTP_CLIENT_TLS_MAY, &plain);
	smtp_server_end(pair.server, "421 4.3.2 mx.example.test Service shutting down\r\n", &pair.server_out);
	assert_true(deliver(&job));
	assert_int_equal(pair.watch.deferred, 2);
	assert_int_equal(pair.codes[0], 421);
	assert_false(smtp_client_was_mail_answered(pair.client));
	assert_int_equal(pair.mails, 0);
	pair_close();
	mail_put(mail);
	mail_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_arrives_byte_for_byte),
		cmocka_unit_test(tls_of_every_kind_is_got_through),
		cmocka_unit_test(refusals_reach_the_recipients_they_are_for),
		cmocka_unit_test(recipients_past_the_servers_limit_are_for_later),
		cmocka_unit_test(the_servers_size_limit_is_kept_by_the_client),
		cmocka_unit_test(a_server_that_leaves_defers_the_mail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
