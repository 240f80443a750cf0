// SPDX-License-Identifier: Apache-2.0
/* smtp/server/session_test.c: what dialogs cannot show: memory, room in `out`, who answers when,
 * and floods. */
#include "smtp/server/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct smtp_server_config config = {
	.hostname = "mx.example.test",
	.message_bytes_max = 1000000,
	.line_bytes_max = 2048,
	.recipients_max = 10,
};
static const struct smtp_server_policy policy;
static struct stream_pool *pool;
static struct stream out;
static struct smtp_server *session;

static int open_session(void **state)
{
	pool = stream_pool_create(SMTP_SERVER_ROOM, 1);
	session = malloc(smtp_server_size());
	stream_init(&out, pool);
	smtp_server_open(session, &config, &policy, &out);
	return 0;
}

static int close_session(void **state)
{
	stream_reset(&out);
	stream_pool_destroy(pool);
	free(session);
	return 0;
}

static struct smtp_event feed(const char *text, size_t *used)
{
	struct smtp_event e;
	size_t n = smtp_server_feed(session, bytes_of_string(text), &e, &out);
	if (used != NULL)
		*used = n;
	return e;
}

static void said(const char *expected)
{
	struct bytes b = stream_peek(&out);
	char text[SMTP_SERVER_ROOM + 1];
	bytes_to_string(b, text, sizeof text);
	assert_string_equal(text, expected);
	stream_consume(&out, b.n);
}

static void greet_and_begin_mail(void)
{
	stream_reset(&out);
	feed("EHLO c.example.test\r\n", NULL);
	stream_reset(&out);
	assert_int_equal(feed("MAIL FROM:<>\r\n", NULL).kind, SMTP_EVENT_MAIL);
	assert_true(smtp_server_answer(session, NULL, NULL, &out));
	stream_reset(&out);
	assert_int_equal(feed("RCPT TO:<b@example.test>\r\n", NULL).kind, SMTP_EVENT_RCPT);
	assert_true(smtp_server_answer(session, NULL, NULL, &out));
	stream_reset(&out);
}

static void a_session_is_small(void **state)
{
	assert_true(smtp_server_size() <= 512);
}

static void without_room_for_a_reply_nothing_is_read(void **state)
{
	size_t used;
	/* The greeting is still in `out`, which leaves less than a reply may need. */
	assert_int_equal(feed("NOOP\r\n", &used).kind, SMTP_EVENT_NONE);
	assert_int_equal(used, 0);
	said("220 mx.example.test ESMTP\r\n");
	assert_int_equal(feed("NOOP\r\n", &used).kind, SMTP_EVENT_NONE);
	assert_int_equal(used, 6);
	said("250 2.0.0 Ok\r\n");
}

static void a_greeting_without_room_is_written_later(void **state)
{
	struct stream other;
	stream_reset(&out);
	stream_init(&other, pool);
	assert_true(stream_write(&other, BYTES_LITERAL("x"))); /* the pool's only block */
	smtp_server_open(session, &config, &policy, &out);
	assert_int_equal(stream_length(&out), 0);
	stream_reset(&other);
	feed("", NULL);
	said("220 mx.example.test ESMTP\r\n");
}

static void an_answer_without_room_can_be_given_again(void **state)
{
	struct stream other;
	greet_and_begin_mail();
	assert_int_equal(feed("BDAT 0 LAST\r\n", NULL).kind, SMTP_EVENT_DATA);
	assert_true(smtp_server_answer(session, NULL, NULL, &out));
	assert_int_equal(feed("", NULL).kind, SMTP_EVENT_END);
	stream_init(&other, pool);
	assert_true(stream_write(&other, BYTES_LITERAL("x")));
	assert_false(smtp_server_answer(session, NULL, "A", &out));
	assert_int_equal(smtp_server_phase(session), SMTP_PHASE_ANSWER);
	stream_reset(&other);
	assert_true(smtp_server_answer(session, NULL, "A", &out));
	said("250 2.0.0 Ok: queued as A\r\n");
}

static void while_an_answer_is_wanted_nothing_is_read(void **state)
{
	size_t used;
	stream_reset(&out);
	feed("EHLO c.example.test\r\n", NULL);
	stream_reset(&out);
	assert_int_equal(feed("MAIL FROM:<>\r\nRSET\r\n", &used).kind, SMTP_EVENT_MAIL);
	assert_int_equal(used, 14);
	assert_int_equal(feed("RSET\r\n", &used).kind, SMTP_EVENT_NONE);
	assert_int_equal(used, 0);
	assert_int_equal(smtp_server_phase(session), SMTP_PHASE_ANSWER);
}

static void a_complete_mail_is_answered_before_the_session_ends(void **state)
{
	greet_and_begin_mail();
	feed("BDAT 0 LAST\r\n", NULL);
	smtp_server_answer(session, NULL, NULL, &out);
	assert_int_equal(feed("", NULL).kind, SMTP_EVENT_END);
	assert_false(smtp_server_has_mail(session));
	smtp_server_end(session, "421 4.3.2 bye\r\n", &out);
	assert_int_equal(feed("", NULL).kind, SMTP_EVENT_NONE);
	assert_int_equal(stream_length(&out), 0);
	smtp_server_answer(session, NULL, "A", &out);
	said("250 2.0.0 Ok: queued as A\r\n");
	assert_int_equal(feed("NOOP\r\n", NULL).kind, SMTP_EVENT_CLOSE);
	said("421 4.3.2 bye\r\n");
}

static void an_answer_after_the_end_is_ignored(void **state)
{
	greet_and_begin_mail();
	assert_int_equal(feed("RCPT TO:<c@example.test>\r\n", NULL).kind, SMTP_EVENT_RCPT);
	smtp_server_end(session, "421 4.4.2 late\r\n", &out);
	said("421 4.4.2 late\r\n");
	assert_true(smtp_server_answer(session, NULL, NULL, &out));
	assert_int_equal(stream_length(&out), 0);
	assert_int_equal(feed("", NULL).kind, SMTP_EVENT_ABORT);
	assert_int_equal(feed("", NULL).kind, SMTP_EVENT_CLOSE);
	assert_int_equal(feed("NOOP\r\n", NULL).kind, SMTP_EVENT_NONE);
	assert_int_equal(smtp_server_phase(session), SMTP_PHASE_CLOSED);
}

static void a_reply_of_the_caller_is_one_line_whatever_it_forgot(void **state)
{
	greet_and_begin_mail();
	feed("RCPT TO:<c@example.test>\r\n", NULL);
	smtp_server_answer(session, "451 4.3.0 no CRLF", NULL, &out);
	said("451 4.3.0 no CRLF\r\n");
	static char endless[5000];
	memset(endless, 'x', sizeof endless - 1);
	feed("RCPT TO:<c@example.test>\r\n", NULL);
	smtp_server_answer(session, endless, NULL, &out);
	assert_int_equal(stream_length(&out), 512);
}

static void an_incomplete_line_is_left_and_not_looked_at_twice(void **state)
{
	size_t used;
	char line[3000];
	memset(line, 'a', sizeof line);
	line[2046] = '\r';
	line[2047] = '\n';
	line[2048] = '\0';
	stream_reset(&out);
	for (size_t n = 1; n < 2048; n++) {
		char kept = line[n];
		line[n] = '\0';
		assert_int_equal(feed(line, &used).kind, SMTP_EVENT_NONE);
		assert_int_equal(used, 0);
		line[n] = kept;
		/* Were it looked at again it would be found here, and the line end early. */
		line[n - 1] = '\n';
	}
	assert_int_equal(feed(line, &used).kind, SMTP_EVENT_REFUSED);
	assert_int_equal(used, 2048);
}

/* RFC 1870, 3030: a chunk of each of many mails, none of which leaves anything behind. */
static void ten_thousand_one_byte_chunks_take_no_memory(void **state)
{
	greet_and_begin_mail();
	assert_int_equal(feed("BDAT 1\r\nx", NULL).kind, SMTP_EVENT_DATA);
	assert_true(smtp_server_answer(session, NULL, NULL, &out));
	const char *group = "x";
	size_t used;
	assert_int_equal(feed(group, &used).kind, SMTP_EVENT_BODY);
	for (int i = 0; i < 10000; i++) {
		stream_reset(&out);
		struct smtp_event e = feed("BDAT 1\r\nx", &used);
		while (e.kind == SMTP_EVENT_NONE && used < 9) {
			stream_reset(&out);
			e = feed(&"BDAT 1\r\nx"[used], &used);
		}
		assert_int_equal(e.kind, SMTP_EVENT_BODY);
	}
	stream_reset(&out);
	assert_int_equal(feed("RSET\r\n", NULL).kind, SMTP_EVENT_NONE);
	stream_reset(&out);
	assert_int_equal(feed("RSET\r\n", NULL).kind, SMTP_EVENT_ABORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define _(name) cmocka_unit_test_setup_teardown(name, open_session, close_session)
		_(a_session_is_small),
		_(without_room_for_a_reply_nothing_is_read),
		_(a_greeting_without_room_is_written_later),
		_(an_answer_without_room_can_be_given_again),
		_(while_an_answer_is_wanted_nothing_is_read),
		_(a_complete_mail_is_answered_before_the_session_ends),
		_(an_answer_after_the_end_is_ignored),
		_(a_reply_of_the_caller_is_one_line_whatever_it_forgot),
		_(an_incomplete_line_is_left_and_not_looked_at_twice),
		_(ten_thousand_one_byte_chunks_take_no_memory),
#undef _
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
