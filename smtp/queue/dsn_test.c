// SPDX-License-Identifier: Apache-2.0
#include "smtp/queue/dsn.h"

#include "smtp/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define T0 1700000000000000ull /* Tue, 14 Nov 2023 22:13:20 +0000 */
#define ID 0x179f61fa3c52f080ull

static struct mail *make_original(struct mail_pool *pool, struct bytes content)
{
	struct mail *mail = mail_get(pool, ID);

	assert_true(envelope_begin(mail) && envelope_put(mail, ENVELOPE_SENDER, BYTES_NONE));
	envelope_end(mail);
	assert_true(mail_append(mail, content));
	return mail;
}

/* The whole mail, envelope and content, with a NUL behind it. */
static char *text_of(const struct mail *mail)
{
	char *text = calloc(1, mail->size + 1);
	const struct mail_chunk *cursor = NULL;

	for (size_t n = 0; n < mail->size;) {
		struct bytes b = mail_read(mail, n, &cursor);
		memcpy(text + n, b.at, b.n);
		n += b.n;
	}
	return text;
}

struct built {
	struct mail_pool *pool;
	struct mail *mail, *original;
	char *all;
	const char *text;
};

static struct built build(struct dsn dsn, struct bytes content)
{
	struct built b = {.pool = mail_pool_create(64, 4, 1)};

	if (content.n != 0)
		dsn.original = b.original = make_original(b.pool, content);
	b.mail = dsn_build(b.pool, ID + 64, &dsn);
	assert_non_null(b.mail);
	b.all = text_of(b.mail);
	b.text = b.all + b.mail->envelope_size;
	return b;
}

static void put(struct built *b)
{
	mail_put(b->mail);
	if (b->original != NULL)
		mail_put(b->original);
	assert_int_equal(mail_pool_free_chunks(b->pool), mail_pool_chunks(b->pool));
	mail_pool_destroy(b->pool);
	free(b->all);
}

static struct dsn a_dsn(enum dsn_action action, const char *sender, struct dsn_recipient *recipient)
{
	return (struct dsn){.action = action,
		.hostname = "relay.example.test",
		.sender = bytes_of_string(sender),
		.original_id = ID,
		.session_id = 9,
		.arrival_us = T0,
		.now_us = T0 + 4 * 3600 * 1000000ull,
		.expires_us = T0 + 5 * 86400 * 1000000ull,
		.recipients = recipient,
		.recipient_count = 1};
}

static struct dsn_recipient a_recipient(const char *address, const struct smtp_reply *reply)
{
	return (struct dsn_recipient){.address = bytes_of_string(address),
		.last_attempt_us = T0 + 3600 * 1000000ull,
		.reason = reason_make(reply, BYTES_LITERAL("mx.example.test"))};
}

static const struct smtp_reply no_such_user = {
	.code = 550, .enhanced = {5, 1}, .detail = 1, .text = "No such user here"};

static void a_failure_reads_as_rfc_3464_says(void **state)
{
	struct dsn_recipient r = a_recipient("bob@b.example.test", &no_such_user);
	struct built b = build(a_dsn(DSN_FAILED, "ann@a.example.test", &r),
		BYTES_LITERAL("From: ann@a.example.test\r\nSubject: lunch\r\n at noon\r\n\r\nbody\r\n"));

	assert_string_equal(b.text,
		"Date: Wed, 15 Nov 2023 02:13:20 +0000\r\n"
		"From: Mail Delivery System <postmaster@relay.example.test>\r\n"
		"To: <ann@a.example.test>\r\n"
		"Subject: Undelivered Mail Returned to Sender\r\n"
		"Message-ID: <1F7V1Z8Y55W60@relay.example.test>\r\n"
		"Auto-Submitted: auto-replied\r\n"
		"MIME-Version: 1.0\r\n"
		"Content-Type: multipart/report; report-type=delivery-status;\r\n"
		"\tboundary=\"=_1F7V1Z8Y55W60\"\r\n"
		"\r\n"
		"--=_1F7V1Z8Y55W60\r\n"
		"Content-Type: text/plain; charset=us-ascii\r\n"
		"\r\n"
		"This is the mail system at relay.example.test.\r\n"
		"\r\n"
		"Your message could not be delivered to the recipients below, and will not be\r\n"
		"tried again. Each one is followed by the reason.\r\n"
		"\r\n"
		"<bob@b.example.test>\r\n"
		"    mx.example.test said: 550 5.1.1 No such user here\r\n"
		"\r\n"
		"--=_1F7V1Z8Y55W60\r\n"
		"Content-Type: message/delivery-status\r\n"
		"\r\n"
		"Reporting-MTA: dns; relay.example.test\r\n"
		"X-Hikyaku-Queue-ID: 1F7V1Z8Y55W40\r\n"
		"Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
		"\r\n"
		"Final-Recipient: rfc822; bob@b.example.test\r\n"
		"Action: failed\r\n"
		"Status: 5.1.1\r\n"
		"Remote-MTA: dns; mx.example.test\r\n"
		"Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\n"
		"Last-Attempt-Date: Tue, 14 Nov 2023 23:13:20 +0000\r\n"
		"\r\n"
		"--=_1F7V1Z8Y55W60\r\n"
		"Content-Type: text/rfc822-headers\r\n"
		"\r\n"
		"From: ann@a.example.test\r\n"
		"Subject: lunch\r\n"
		" at noon\r\n"
		"\r\n"
		"--=_1F7V1Z8Y55W60--\r\n");
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void the_envelope_has_a_null_sender_and_says_what_it_is(void **state)
{
	struct dsn_recipient r = a_recipient("bob@b.example.test", &no_such_user);
	struct built b = build(a_dsn(DSN_FAILED, "@x.example.test,@y.example.test:ann@a.example.test", &r),
		BYTES_NONE);
	struct bytes envelope = bytes_of(b.all, b.mail->envelope_size);

	assert_int_equal(envelope_find(envelope, ENVELOPE_SENDER).n, 0);
	assert_true(bytes_equal(envelope_find(envelope, ENVELOPE_RECIPIENT),
		BYTES_LITERAL("ann@a.example.test"))); /* a source route is not followed back */
	assert_int_equal(envelope_find(envelope, ENVELOPE_BODY_FLAGS).at[0], ENVELOPE_IS_DSN);
	assert_int_equal(envelope_u64(envelope_find(envelope, ENVELOPE_SESSION_ID)), 9);
	assert_null(strstr(b.text, "text/rfc822-headers")); /* nothing to show */
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void a_delay_warns_in_the_words_people_know(void **state)
{
	static const struct smtp_reply ours = {.code = 451, .enhanced = {4, 7}, .detail = 5,
		.is_ours = true, .text = "Server certificate not trusted"};
	struct dsn_recipient r = a_recipient("bob@b.example.test", &ours);
	struct built b = build(a_dsn(DSN_DELAYED, "ann@a.example.test", &r), BYTES_NONE);
	static const char *const has[] = {
		"Subject: Warning: could not send message for past 4 hours\r\n",
		"YOU DO NOT NEED TO RESEND YOUR MESSAGE",
		"Will keep trying until message is 5 days old\r\n",
		"    4.7.5 Server certificate not trusted\r\n",
		"Action: delayed\r\nStatus: 4.7.5\r\n",
		"Diagnostic-Code: x-hikyaku; 4.7.5 Server certificate not trusted\r\n",
		"Will-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0000\r\n",
	};

	for (size_t n = 0; n < sizeof has / sizeof has[0]; n++)
		assert_non_null(strstr(b.text, has[n]));
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void an_internationalized_sender_gets_the_global_form(void **state)
{
	struct dsn_recipient r = a_recipient("b\xc3\xb6" "b@b.example.test", &no_such_user);
	struct built b = build(a_dsn(DSN_FAILED, "\xc3\xa4nn@a.example.test", &r),
		BYTES_LITERAL("Subject: \xc3\xa4\r\n\r\n"));
	struct bytes flags = envelope_find(bytes_of(b.all, b.mail->envelope_size), ENVELOPE_BODY_FLAGS);

	assert_int_equal(flags.at[0], ENVELOPE_IS_DSN | ENVELOPE_8BITMIME | ENVELOPE_SMTPUTF8);
	assert_non_null(strstr(b.text, "report-type=global-delivery-status"));
	assert_non_null(strstr(b.text, "To: <\xc3\xa4nn@a.example.test>\r\n"));
	assert_non_null(strstr(b.text, "Content-Type: message/global-delivery-status\r\n"
				       "Content-Transfer-Encoding: 8bit\r\n\r\n"));
	assert_non_null(strstr(b.text, "Final-Recipient: utf-8; b\xc3\xb6" "b@b.example.test\r\n"));
	assert_non_null(strstr(b.text, "Content-Type: message/global-headers\r\n"
				       "Content-Transfer-Encoding: 8bit\r\n\r\nSubject: \xc3\xa4\r\n"));
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void for_an_ascii_sender_all_is_ascii(void **state)
{
	struct dsn_recipient r = a_recipient("b\xc3\xb6" "b@b.example.test", &no_such_user);
	struct built b = build(a_dsn(DSN_FAILED, "ann@a.example.test", &r),
		BYTES_LITERAL("Subject: \xc3\xa4 \xff=\r\nX: a\x01 \r\n\r\n"));

	assert_non_null(strstr(b.text, "Final-Recipient: utf-8; b\\x{F6}b@b.example.test\r\n"));
	assert_non_null(strstr(b.text, "Content-Type: text/rfc822-headers\r\n"
				       "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
				       "Subject: =C3=A4 =FF=3D\r\nX: a=01=20\r\n"));
	for (const char *c = b.text; *c != '\0'; c++)
		assert_true((uint8_t)*c < 128);
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void no_line_of_the_original_can_end_the_part(void **state)
{
	struct dsn_recipient r = a_recipient("bob@b.example.test", &no_such_user);
	struct built b = build(a_dsn(DSN_FAILED, "ann@a.example.test", &r),
		BYTES_LITERAL("A: b\r\n--=_1F7V1Z8Y55W60--\r\n\r\n"));

	assert_non_null(strstr(b.text, "A: b\r\n=2D-=3D_1F7V1Z8Y55W60--\r\n"));
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void a_strangers_bytes_make_no_lines_of_their_own(void **state)
{
	struct smtp_reply evil = {.code = 550, .text = "a\r\nX-Evil: b\x7f\xff %s%n"};
	struct dsn_recipient r = a_recipient("b\r\nX-Evil: b%n@b.example.test", &evil);
	struct built b = build(a_dsn(DSN_FAILED, "a\nX-Evil: %s@a.example.test", &r), BYTES_NONE);

	assert_null(strstr(b.text, "\nX-Evil"));
	assert_non_null(strstr(b.text, "Diagnostic-Code: smtp; 550 a??X-Evil: b?? %s%n\r\n"));
	assert_non_null(strstr(b.text, "Status: 5.0.0\r\n"));
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void long_things_are_folded_or_cut(void **state)
{
	struct smtp_reply wordy = {.code = 451};
	char address[2000];
	for (size_t n = 0; n + 1 < sizeof wordy.text; n++)
		wordy.text[n] = n % 10 == 9 ? ' ' : 'w';
	memset(address, 'a', sizeof address - 1);
	address[sizeof address - 1] = '\0';
	struct dsn_recipient r = a_recipient(address, &wordy);
	struct built b = build(a_dsn(DSN_FAILED, "ann@a.example.test", &r), BYTES_NONE);

	for (const char *line = b.text, *end; (end = strstr(line, "\r\n")) != NULL; line = end + 2)
		assert_true(end - line <= 998);
	assert_non_null(strstr(b.text, "wwwwwwwww\r\n    wwwwwwwww"));
	assert_non_null(strstr(b.text, "Status: 4.0.0\r\n")); /* given up, but never said to be final */
	reason_release((struct reason *)r.reason);
	put(&b);
}

static void a_huge_header_is_shown_in_part(void **state)
{
	struct dsn_recipient r = a_recipient("bob@b.example.test", &no_such_user);
	char *content = malloc(40001);
	for (size_t n = 0; n < 40000; n += 10)
		memcpy(content + n, "X: 34567\r\n", 10);
	struct built b = build(a_dsn(DSN_FAILED, "ann@a.example.test", &r), bytes_of(content, 40000));

	assert_true(b.mail->size < DSN_HEADER_MAX + 2000);
	assert_non_null(strstr(b.text, "X: 34567\r\n\r\n--=_1F7V1Z8Y55W60--\r\n"));
	reason_release((struct reason *)r.reason);
	put(&b);
	free(content);
}

static void an_empty_pool_gives_none_and_keeps_nothing(void **state)
{
	struct dsn_recipient r = a_recipient("bob@b.example.test", &no_such_user);
	struct mail_pool *pool = mail_pool_create(1, 2, 1), *other = mail_pool_create(8, 2, 1);
	struct dsn dsn = a_dsn(DSN_FAILED, "ann@a.example.test", &r);
	char *content = malloc(16000);
	for (size_t n = 0; n < 16000; n += 10)
		memcpy(content + n, "X: 34567\r\n", 10);
	struct mail *original = make_original(other, bytes_of(content, 16000));

	dsn.original = original;
	assert_null(dsn_build(pool, ID, &dsn));
	assert_int_equal(mail_pool_free_chunks(pool), 1);
	dsn.original = NULL;
	struct mail *mail = dsn_build(pool, ID, &dsn);
	assert_non_null(mail);
	mail_put(mail);
	mail_put(original);
	mail_pool_destroy(pool);
	mail_pool_destroy(other);
	free(content);
	reason_release((struct reason *)r.reason);
}

/* The dates that calendars get wrong. */
static void dates_are_those_of_the_calendar(void **state)
{
	static const struct {
		uint64_t seconds;
		const char *text;
	} dates[] = {
		{0, "Thu, 1 Jan 1970 00:00:00 +0000"},
		{951782400, "Tue, 29 Feb 2000 00:00:00 +0000"},
		{951868799, "Tue, 29 Feb 2000 23:59:59 +0000"},
		{951868800, "Wed, 1 Mar 2000 00:00:00 +0000"},
		{1709164800, "Thu, 29 Feb 2024 00:00:00 +0000"},
		{1735689599, "Tue, 31 Dec 2024 23:59:59 +0000"},
		{4107542399, "Sun, 28 Feb 2100 23:59:59 +0000"},
		{4107542400, "Mon, 1 Mar 2100 00:00:00 +0000"},
	};

	for (size_t n = 0; n < sizeof dates / sizeof dates[0]; n++) {
		struct dsn_recipient r = {.address = BYTES_LITERAL("b@b.example.test")};
		struct dsn dsn = a_dsn(DSN_FAILED, "ann@a.example.test", &r);
		dsn.now_us = dates[n].seconds * 1000000;
		struct built b = build(dsn, BYTES_NONE);
		assert_memory_equal(b.text, "Date: ", 6);
		assert_memory_equal(b.text + 6, dates[n].text, strlen(dates[n].text));
		put(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_reads_as_rfc_3464_says),
		cmocka_unit_test(the_envelope_has_a_null_sender_and_says_what_it_is),
		cmocka_unit_test(a_delay_warns_in_the_words_people_know),
		cmocka_unit_test(an_internationalized_sender_gets_the_global_form),
		cmocka_unit_test(for_an_ascii_sender_all_is_ascii),
		cmocka_unit_test(no_line_of_the_original_can_end_the_part),
		cmocka_unit_test(a_strangers_bytes_make_no_lines_of_their_own),
		cmocka_unit_test(long_things_are_folded_or_cut),
		cmocka_unit_test(a_huge_header_is_shown_in_part),
		cmocka_unit_test(an_empty_pool_gives_none_and_keeps_nothing),
		cmocka_unit_test(dates_are_those_of_the_calendar),
	};

	return cmocka_run_group_tests_name("dsn", tests, NULL, NULL);
}
