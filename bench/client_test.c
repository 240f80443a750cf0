// SPDX-License-Identifier: Apache-2.0
#include "bench/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define GREETING "220 mx.example.test ESMTP\r\n"
#define EHLO	 "250-mx.example.test\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 SIZE\r\n"
#define BARE	 "250-mx.example.test\r\n250 SIZE\r\n"

static struct client_script *script_of(unsigned recipients, bool wants_starttls)
{
	const struct client_script_config config = {.helo = "c.example.test",
		.from = "a@c.example.test",
		.to = "b@d.example.test",
		.recipients = recipients,
		.size = 4096,
		.wants_starttls = wants_starttls};
	struct client_script *s = client_script_create(&config);
	assert_non_null(s);
	return s;
}

/* A dialog: what the server says, what the client then has to say, and the event of it. Each line
 * of the server is given whole and byte by byte. */
struct turn {
	const char *server, *client;
	enum client_event event;
};

static enum client_event feed(struct client *c, const char *text, size_t step)
{
	enum client_event event = CLIENT_NONE;
	for (struct bytes in = bytes_of_string(text); in.n != 0 && event == CLIENT_NONE;)
		in = bytes_skip(in, client_feed(c, bytes_first(in, step), &event));
	return event;
}

static void play(struct client *c, const struct turn *turns, size_t step)
{
	for (const struct turn *t = turns; t->server != NULL; t++) {
		assert_int_equal(feed(c, t->server, step), t->event);
		if (t->event == CLIENT_STARTTLS)
			client_secured(c);
		else if (t->event == CLIENT_READY)
			client_mail(c);
		else if (t->event == CLIENT_ACCEPTED || t->event == CLIENT_REFUSED)
			client_quit(c);
		if (t->client != NULL) {
			char said[512] = "";
			bytes_to_string(c->out, said, sizeof said);
			assert_string_equal(said, t->client);
		}
		c->out = BYTES_NONE;
	}
}

static void play_both_ways(
	const struct client_script *script, const struct turn *turns, uint16_t refused)
{
	static const size_t steps[] = {SIZE_MAX, 1};
	for (int i = 0; i < 2; i++) {
		struct client c;
		client_open(&c, script, false);
		play(&c, turns, steps[i]);
		assert_int_equal(c.refused, refused);
	}
}

#define GROUP "MAIL FROM:<a@c.example.test>\r\nRCPT TO:<b@d.example.test>\r\nDATA\r\n"

static void a_mail_goes_in_one_group_where_pipelining_is_offered(void **state)
{
	struct client_script *s = script_of(1, true);
	static const struct turn turns[] = {
		{GREETING,			   "EHLO c.example.test\r\n"},
		{EHLO,				"STARTTLS\r\n"},
		{"220 go\r\n","EHLO c.example.test\r\n", CLIENT_STARTTLS},
		{EHLO,		       GROUP, CLIENT_READY},
		{"250 ok\r\n250 ok\r\n354 go\r\n",		   NULL},
		{"250 queued\r\n",				   "QUIT\r\n", CLIENT_ACCEPTED},
		{"221 bye\r\n",			"", CLIENT_CLOSED},
		{0},
	};
	play_both_ways(s, turns, 0);
	client_script_destroy(s);
}

static void without_pipelining_each_command_waits(void **state)
{
	struct client_script *s = script_of(2, false);
	static const struct turn turns[] = {
		{GREETING,			    "EHLO c.example.test\r\n"},
		{BARE,				   "MAIL FROM:<a@c.example.test>\r\n", CLIENT_READY},
		{"250 ok\r\n","RCPT TO:<b+1@d.example.test>\r\n"},
		{"550 no\r\n",				   "RCPT TO:<b+2@d.example.test>\r\n"},
		{"250 ok\r\n",				   "DATA\r\n"},
		{"354 go\r\n",			       NULL},
		{"250 queued\r\n",				   "QUIT\r\n", CLIENT_ACCEPTED},
		{0},
	};
	play_both_ways(s, turns, 550); /* taken, but one recipient was not */
	client_script_destroy(s);
}

static void a_refused_mail_is_reset_and_told(void **state)
{
	struct client_script *s = script_of(1, false);
	static const struct turn pipelined[] = {
		{GREETING,	   NULL},
		{EHLO,	       GROUP, CLIENT_READY},
		{"452 full\r\n503 no\r\n503 no\r\n","RSET\r\n"},
		{"250 ok\r\n",	       "QUIT\r\n", CLIENT_REFUSED},
		{0	  },
	};
	static const struct turn one_by_one[] = {
		{GREETING,	   NULL},
		{BARE,	       NULL, CLIENT_READY},
		{"452 full\r\n","RSET\r\n"},
		{"250 ok\r\n",	       "QUIT\r\n", CLIENT_REFUSED},
		{0	  },
	};
	static const struct turn at_the_end[] = {
		{GREETING, NULL},
		{EHLO,	       NULL, CLIENT_READY},
		{"250 ok\r\n250 ok\r\n354 go\r\n",NULL},
		{"452 disk\r\n",	 "QUIT\r\n", CLIENT_REFUSED},
		{0	  },
	};
	static const struct turn dot_only[] = {
		{GREETING, NULL},
		{EHLO,	       NULL, CLIENT_READY},
		{"250 ok\r\n452 no\r\n354 go\r\n",".\r\n"},
		{"554 no recipient\r\n",	 "QUIT\r\n", CLIENT_REFUSED},
		{0	  },
	};
	play_both_ways(s, pipelined, 452);
	play_both_ways(s, one_by_one, 452);
	play_both_ways(s, at_the_end, 452);
	play_both_ways(s, dot_only, 452);
	client_script_destroy(s);
}

static void what_is_not_smtp_ends_the_session(void **state)
{
	struct client_script *s = script_of(1, true);
	static const struct turn dialogs[][5] = {
		{{"HTTP/1.0 200 OK\r\n", "", CLIENT_FAILED}},
		{{"22\r\n", "", CLIENT_FAILED}	      },
		{{"220x\r\n", "", CLIENT_FAILED}		},
		{{"\r\n", "", CLIENT_FAILED}		    },
		{{GREETING, NULL},			   {"250 mx\r\n", "", CLIENT_FAILED}}, /* no STARTTLS */
		{{GREETING, NULL},					  {EHLO, NULL}, {"454 later\r\n", "", CLIENT_FAILED}},
		{{"421 busy\r\n", "", CLIENT_FAILED}},
		{{"554 no\r\n", "", CLIENT_FAILED}					  },
	};
	for (size_t i = 0; i < sizeof dialogs / sizeof dialogs[0]; i++)
		for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
			struct client c;
			client_open(&c, s, false);
			play(&c, dialogs[i], byte_by_byte ? 1 : SIZE_MAX);
		}
	client_script_destroy(s);
}

static void an_answer_before_the_end_of_the_message_fails(void **state)
{
	struct client_script *s = script_of(1, false);
	struct client c;
	client_open(&c, s, false);
	feed(&c, GREETING EHLO, SIZE_MAX);
	feed(&c, EHLO, SIZE_MAX);
	client_mail(&c);
	feed(&c, "250 ok\r\n250 ok\r\n354 go\r\n", SIZE_MAX);
	c.out = bytes_skip(c.out, 100); /* not yet all of it */
	assert_int_equal(feed(&c, "250 queued\r\n", SIZE_MAX), CLIENT_FAILED);
	client_script_destroy(s);
}

static void a_long_line_is_cut_not_split(void **state)
{
	struct client_script *s = script_of(1, false);
	struct client c;
	char line[2000] = "220-";
	memset(line + 4, 'x', sizeof line - 7);
	memcpy(line + sizeof line - 3, "\r\n", 3);
	client_open(&c, s, false);
	assert_int_equal(feed(&c, line, 7), CLIENT_NONE);
	assert_int_equal(c.state, CLIENT_AT_GREETING);
	assert_int_equal(feed(&c, GREETING, 7), CLIENT_NONE);
	assert_int_equal(c.state, CLIENT_AT_EHLO);
	client_script_destroy(s);
}

/* All sizes near each other: the message has the size asked for, lines that end in CRLF, no bare
 * ones, no line that begins with a dot but the last. */
static void a_message_has_the_size_asked_for(void **state)
{
	for (size_t size = 300; size < 600; size++) {
		const struct client_script_config config = {.helo = "c.example.test",
			.from = "a@c.example.test",
			.to = "b@d.example.test",
			.recipients = 1,
			.size = size};
		struct client_script *s = client_script_create(&config);
		struct bytes b = client_script_content(s);
		assert_int_equal(b.n, size + 3);
		assert_memory_equal(b.at + b.n - 5, "\r\n.\r\n", 5);
		for (size_t i = 0; i + 1 < b.n; i++) {
			assert_true((b.at[i] == '\r') == (b.at[i + 1] == '\n'));
			if (i + 3 < b.n - 2 && b.at[i] == '\n')
				assert_true(b.at[i + 1] != '.' || i + 4 == b.n);
		}
		client_script_destroy(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mail_goes_in_one_group_where_pipelining_is_offered),
		cmocka_unit_test(without_pipelining_each_command_waits),
		cmocka_unit_test(a_refused_mail_is_reset_and_told),
		cmocka_unit_test(what_is_not_smtp_ends_the_session),
		cmocka_unit_test(an_answer_before_the_end_of_the_message_fails),
		cmocka_unit_test(a_long_line_is_cut_not_split),
		cmocka_unit_test(a_message_has_the_size_asked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
