// SPDX-License-Identifier: Apache-2.0
#include "bench/sink_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

/* Feeds `text` in steps of `step` bytes, taking the replies away as they come; the last event. */
static enum sink_event feed(struct sink_session *s, const char *text, size_t step, char *replies)
{
	enum sink_event event = SINK_NONE;
	for (struct bytes in = bytes_of_string(text); in.n != 0 && event == SINK_NONE;) {
		size_t n = sink_feed(s, bytes_first(in, step), &event);
		assert_true(n != 0);
		in = bytes_skip(in, n);
		strncat(replies, s->out, s->out_length);
		s->out_length = 0;
	}
	return event;
}

static void mails_are_taken_at_every_step(void **state)
{
	static const char session[] =
		"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
		"Subject: x\r\n\r\n..\r\n.x\r\n\r.\r\n.\n.\r\n\r\n.\r\n"
		"mail from:<a>\r\nrcpt to:<b>\r\ndata\r\n.\r\nnoop\r\nSTARTTLS\r\nQUIT\r\n";
	static const char wanted[] =
		"220 sink.example.test ESMTP\r\n"
		"250-sink.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
		"250 ENHANCEDSTATUSCODES\r\n"
		"250 2.0.0 ok\r\n250 2.0.0 ok\r\n354 go\r\n250 2.0.0 taken\r\n"
		"250 2.0.0 ok\r\n250 2.0.0 ok\r\n354 go\r\n250 2.0.0 taken\r\n"
		"250 2.0.0 ok\r\n500 5.5.1 what?\r\n221 2.0.0 bye\r\n";
	for (size_t step = 1; step <= sizeof session; step++) {
		struct sink_session s;
		char replies[2048] = "";
		sink_open(&s, false);
		strncat(replies, s.out, s.out_length);
		s.out_length = 0;
		assert_int_equal(feed(&s, session, step, replies), SINK_QUIT);
		assert_string_equal(replies, wanted);
		assert_int_equal(s.mails, 2);
	}
}

static void starttls_is_offered_once(void **state)
{
	struct sink_session s;
	char replies[2048] = "";
	sink_open(&s, true);
	assert_int_equal(feed(&s, "EHLO c\r\nSTARTTLS\r\nMAIL FROM:<>\r\n", SIZE_MAX, replies),
		SINK_STARTTLS);
	assert_non_null(strstr(replies, "250-STARTTLS\r\n"));
	sink_secured(&s);
	replies[0] = '\0';
	assert_int_equal(feed(&s, "EHLO c\r\nSTARTTLS\r\n", SIZE_MAX, replies), SINK_NONE);
	assert_null(strstr(replies, "250-STARTTLS\r\n"));
	assert_non_null(strstr(replies, "500 "));
}

static void replies_that_nobody_takes_stop_it(void **state)
{
	struct sink_session s;
	enum sink_event event;
	size_t used = 0, n;
	sink_open(&s, false);
	do {
		used += n = sink_feed(&s, BYTES_LITERAL("NOOP\r\n"), &event);
		assert_true(s.out_length <= sizeof s.out);
	} while (n != 0);
	assert_true(used < sizeof s.out);
}

static void a_long_command_is_answered_once(void **state)
{
	struct sink_session s;
	char line[4096], replies[2048] = "";
	memset(line, 'x', sizeof line);
	memcpy(line + sizeof line - 3, "\r\n", 3);
	sink_open(&s, false);
	s.out_length = 0;
	feed(&s, line, 100, replies);
	assert_string_equal(replies, "500 5.5.1 what?\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mails_are_taken_at_every_step),
		cmocka_unit_test(starttls_is_offered_once),
		cmocka_unit_test(replies_that_nobody_takes_stop_it),
		cmocka_unit_test(a_long_command_is_answered_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
