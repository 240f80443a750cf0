// SPDX-License-Identifier: Apache-2.0
/* What is easier said in tables and loops than in dialogs. */
#include "smtp/client/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "smtp/client/reply_parse.h"
#include "smtp/client/test_mail.h"
#include "smtp/client/test_watch.h"
#include "smtp/envelope.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

struct peer {
	struct smtp_client *c;
	struct stream_pool *pool;
	struct stream out;
	struct watch watch;
	char sent[1 << 20]; /* all of it since the last say() */
	size_t sent_n;
	char kinds[64]; /* the kinds of events since then, a letter each */
};

static struct peer peer;

static void open_session(enum smtp_client_tls tls)
{
	const struct smtp_client_config config = {"relay.example.test", tls, "mx[192.0.2.1]"};
	peer.pool = stream_pool_create(16384, 1);
	stream_init(&peer.out, peer.pool);
	peer.c = malloc(smtp_client_size());
	memset(&peer.watch, 0, sizeof peer.watch);
	peer.watch.is_clear_must = tls == SMTP_CLIENT_TLS_MUST;
	smtp_client_open(peer.c, &config);
}

static void close_session(void)
{
	stream_reset(&peer.out);
	stream_pool_destroy(peer.pool);
	free(peer.c);
}

static void note(const struct smtp_client_event *e)
{
	size_t n = strlen(peer.kinds);
	watch_event(&peer.watch, peer.c, e);
	if (e->kind != SMTP_CLIENT_NONE && n < sizeof peer.kinds - 1)
		peer.kinds[n] = "-SRrDFC"[e->kind];
}

static void take_sent(void)
{
	struct bytes b = stream_peek(&peer.out);
	assert_true(peer.sent_n + b.n < sizeof peer.sent);
	watch_sent(&peer.watch, b);
	if (b.n != 0)
		memcpy(peer.sent + peer.sent_n, b.at, b.n);
	peer.sent_n += b.n;
	peer.sent[peer.sent_n] = '\0';
	stream_consume(&peer.out, b.n);
}

static void pump(struct bytes in)
{
	struct smtp_client_event e;
	size_t had;
	do {
		in = bytes_skip(in, smtp_client_feed(peer.c, in, &e, &peer.out));
		note(&e);
		had = stream_length(&peer.out);
		take_sent();
	} while (e.kind != SMTP_CLIENT_NONE || had != 0);
	assert_int_equal(in.n, 0);
}

static void say_bytes(struct bytes in)
{
	peer.sent_n = 0;
	memset(peer.kinds, 0, sizeof peer.kinds);
	pump(in);
}

static void say(const char *lines)
{
	say_bytes(bytes_of_string(lines));
}

static bool begin(const struct smtp_client_job *job)
{
	struct smtp_reply why;
	peer.sent_n = 0;
	memset(peer.kinds, 0, sizeof peer.kinds);
	if (!smtp_client_begin(peer.c, job, &why))
		return false;
	watch_begin(&peer.watch, job->recipient_count);
	pump(BYTES_NONE);
	return true;
}

/* ---- every code at every step ---- */

static const struct bytes two_recipients[] = {
	BYTES_LITERAL("b@example.test"), BYTES_LITERAL("c@example.test")};

enum step { GREETING, EHLO, HELO, STARTTLS_MAY, STARTTLS_MUST, MAIL, RCPT, DATA, END, RSET, QUIT };

/* Brings the session to where the next reply answers `step`. */
static void go_to(enum step step, const struct mail *mail)
{
	const struct smtp_client_job job = {mail, BYTES_LITERAL("a@example.test"), two_recipients, 2, 0};
	open_session(step == STARTTLS_MUST ? SMTP_CLIENT_TLS_MUST : SMTP_CLIENT_TLS_MAY);
	if (step > GREETING)
		say("220 mx\r\n");
	if (step == HELO)
		say("502 no\r\n");
	if (step == STARTTLS_MAY || step == STARTTLS_MUST)
		say("250-mx\r\n250 STARTTLS\r\n");
	if (step >= MAIL)
		say("250 mx\r\n");
	if (step >= MAIL && step <= RSET)
		assert_true(begin(&job));
	if (step == QUIT) {
		smtp_client_quit(peer.c);
		pump(BYTES_NONE);
	}
	if (step == RSET)
		say("550 no\r\n");
	if (step >= RCPT && step <= END)
		say("250 ok\r\n");
	if (step >= DATA && step <= END) {
		say("250 ok\r\n");
		say("250 ok\r\n");
	}
	if (step == END)
		say("354 go\r\n");
}

static char outcome_of_failure(void)
{
	const struct smtp_reply *r = &peer.watch.last;
	if (!r->is_ours)
		return (char)('0' + r->code / 100);
	if (reply_has_enhanced(r, 4, 7, 4))
		return 'T';
	assert_true(reply_has_enhanced(r, 4, 5, 0));
	return strncmp(r->text, "bad", 3) == 0 ? 'b' : 'u';
}

/* What came of the last reply, in one letter. */
static char outcome(enum step step)
{
	if (strchr(peer.kinds, 'F') != NULL)
		return outcome_of_failure();
	if (strchr(peer.kinds, 'C') != NULL)
		return 'q';
	if (strchr(peer.kinds, 'S') != NULL)
		return 't';
	if (strncmp(peer.sent, "HELO", 4) == 0)
		return 'h';
	if (peer.watch.delivered == 2)
		return '+';
	if (strchr(peer.kinds, 'r') != NULL)
		return peer.watch.last.is_ours || peer.watch.last.code / 100 < 4 ? '?' : 'r';
	if (step == STARTTLS_MAY)
		return 'c';
	return peer.sent_n != 0 || strchr(peer.kinds, 'R') != NULL ? '+' : '?';
}

/* + goes on   h HELO instead   t TLS begins   c goes on in clear   r recipients refused, session kept
 * 4 5 session over with the server's reply   u session over, unexpected reply   b session over, bad reply
 * T session over, 4.7.4   q closed */
static void every_code_at_every_step_has_its_outcome(void **state)
{
	static const char *const codes[] = {"220 x", "250 x", "299 x", "354 x", "300 x", "421 x", "450 x",
		"454 x", "500 x", "502 x", "550 x", "554 x", "199 x", "000 x", "600 x", "x", "", "250x",
		"250-a\r\n550 b", "550-a\r\n250 b"};
	static const struct {
		enum step step;
		const char *name, *outcomes;
	} rows[] = {
		{GREETING, "greeting", "+++uu4445555bbbbbbbb"},
		{EHLO, "EHLO", "+++uu444hhhhbbbbbbbb"},
		{HELO, "HELO", "+++uu4445555bbbbbbbb"},
		{STARTTLS_MAY, "STARTTLS (may)", "tttuu4ccccccbbbbbbbb"},
		{STARTTLS_MUST, "STARTTLS (must)", "tttTTTTTTTTTbbbbbbbb"},
		{MAIL, "MAIL", "+++uu4rrrrrrbbbbbbbb"},
		{RCPT, "RCPT", "+++uu4rrrrrrbbbbbbbb"},
		{DATA, "DATA", "uuu++4rrrrrrbbbbbbbb"},
		{END, "end", "+++uu4rrrrrrbbbbbbbb"},
		{RSET, "RSET", "+++uu4uuuuuubbbbbbbb"},
		{QUIT, "QUIT", "qqqqqqqqqqqqqqqqqqqq"},
	};
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	for (size_t r = 0; r < LENGTH(rows); r++) {
		assert_int_equal(strlen(rows[r].outcomes), LENGTH(codes));
		for (size_t i = 0; i < LENGTH(codes); i++) {
			char line[64], got;
			go_to(rows[r].step, mail);
			snprintf(line, sizeof line, "%s\r\n", codes[i]);
			say(line);
			got = outcome(rows[r].step);
			if (got != rows[r].outcomes[i])
				fail_msg("%s answered \"%s\": %c, wanted %c", rows[r].name, codes[i],
					got, rows[r].outcomes[i]);
			close_session();
		}
	}
	mail_put(mail);
	mail_pool_destroy(pool);
}

/* ---- a whole session, cut ---- */

static const char *const pipelined_session[] = {"220 mx\r\n", "250-mx\r\n250 PIPELINING\r\n", NULL,
	"250 ok\r\n450 4.2.0 later\r\n250 ok\r\n354 go\r\n", "250 2.0.0 queued\r\n"};

static size_t length_of_session(void)
{
	size_t n = 0;
	for (size_t i = 0; i < LENGTH(pipelined_session); i++)
		n += pipelined_session[i] == NULL ? 0 : strlen(pipelined_session[i]);
	return n;
}

/* Says the first `n` bytes of the session. */
static void say_first(size_t n, const struct mail *mail)
{
	const struct smtp_client_job job = {mail, BYTES_LITERAL("a@example.test"), two_recipients, 2, 0};
	for (size_t i = 0; i < LENGTH(pipelined_session); i++) {
		if (pipelined_session[i] != NULL) {
			struct bytes b = bytes_first(bytes_of_string(pipelined_session[i]), n);
			say_bytes(b);
			n -= b.n;
		} else if (strchr(peer.kinds, 'R') != NULL) {
			assert_true(begin(&job));
		}
	}
}

static void a_loss_at_any_byte_defers_what_is_open(void **state)
{
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	for (size_t n = 0; n <= length_of_session(); n++) {
		open_session(SMTP_CLIENT_TLS_MAY);
		say_first(n, mail);
		assert_int_equal(peer.watch.delivered, n == length_of_session());
		smtp_client_lost(peer.c, "lost connection");
		pump(BYTES_NONE);
		assert_true(peer.watch.is_over);
		assert_int_equal(peer.watch.recipients, 0);
		assert_int_equal(peer.watch.failed, 0);
		if (peer.watch.jobs_done != 0)
			assert_int_equal(peer.watch.delivered + peer.watch.deferred, 2);
		close_session();
	}
	mail_put(mail);
	mail_pool_destroy(pool);
}

/* The caller may learn of the loss before it has fetched the events of what came before. */
static void a_loss_does_not_take_back_a_delivery(void **state)
{
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	struct smtp_client_event e;
	struct bytes in = BYTES_LITERAL("250 2.0.0 queued\r\n");
	go_to(END, mail);
	in = bytes_skip(in, smtp_client_feed(peer.c, in, &e, &peer.out));
	assert_int_equal(e.kind, SMTP_CLIENT_RECIPIENT);
	note(&e);
	smtp_client_lost(peer.c, "connection reset");
	say_bytes(in);
	assert_string_equal(peer.kinds, "rDF");
	assert_int_equal(peer.watch.delivered, 2);
	close_session();
	mail_put(mail);
	mail_pool_destroy(pool);
}

/* ---- many recipients ---- */

enum { MANY = 1000 };

static void fill_recipients(struct bytes *recipients, char (*texts)[32], uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int n = snprintf(texts[i], sizeof texts[i], "user%u@example.test", i);
		recipients[i] = bytes_of(texts[i], (size_t)n);
	}
}

static char turn[1 << 20];

static const char *many_replies(uint32_t count, const char *(*reply)(uint32_t i), const char *last)
{
	size_t n = 0;
	n += (size_t)snprintf(turn + n, sizeof turn - n, "250 sender ok\r\n");
	for (uint32_t i = 0; i < count; i++)
		n += (size_t)snprintf(turn + n, sizeof turn - n, "%s\r\n", reply(i));
	snprintf(turn + n, sizeof turn - n, "%s\r\n", last);
	return turn;
}

static const char *in_turn(uint32_t i)
{
	return i % 5 == 0 ? "550 5.1.1 no" : i % 5 == 1 ? "451 4.3.0 later" : "250 2.1.5 ok";
}

static struct bytes recipients[5000];
static char texts[5000][32];

static void a_thousand_recipients_each_get_their_own_outcome(void **state)
{
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	const struct smtp_client_job job = {mail, BYTES_NONE, recipients, MANY, 0};
	fill_recipients(recipients, texts, MANY);
	open_session(SMTP_CLIENT_TLS_MAY);
	say("220 mx\r\n");
	say("250-mx\r\n250 PIPELINING\r\n");
	assert_true(begin(&job));
	assert_true(peer.sent_n > MANY * 30); /* more than `out` ever held */
	assert_string_equal(peer.sent + peer.sent_n - 6, "DATA\r\n");
	say(many_replies(MANY, in_turn, "354 go"));
	assert_int_equal(peer.watch.failed, MANY / 5);
	assert_int_equal(peer.watch.deferred, MANY / 5);
	assert_string_equal(peer.sent, "x\r\n.\r\n");
	say("250 done\r\n");
	assert_int_equal(peer.watch.delivered, MANY - 2 * MANY / 5);
	assert_int_equal(peer.watch.jobs_done, 1);
	close_session();
	mail_put(mail);
	mail_pool_destroy(pool);
}

static const char *fine(uint32_t i)
{
	return "250 ok";
}

static void recipients_past_the_limit_are_deferred(void **state)
{
	uint32_t count = LENGTH(recipients);
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	const struct smtp_client_job job = {mail, BYTES_NONE, recipients, count, 0};
	fill_recipients(recipients, texts, count);
	open_session(SMTP_CLIENT_TLS_MAY);
	say("220 mx\r\n");
	say("250-mx\r\n250 PIPELINING\r\n");
	assert_true(begin(&job));
	assert_int_equal(peer.watch.deferred, count - SMTP_CLIENT_RECIPIENTS_MAX);
	say(many_replies(SMTP_CLIENT_RECIPIENTS_MAX, fine, "354 go"));
	say("250 done\r\n");
	assert_int_equal(peer.watch.delivered, SMTP_CLIENT_RECIPIENTS_MAX);
	close_session();
	mail_put(mail);
	mail_pool_destroy(pool);
}

static const char *const rcpt_answers[] = {
	"250 ok\r\n", "550 5.1.1 no\r\n", "451 4.3.0 later\r\n", "552 full\r\n"};

/* Answers MAIL, three RCPTs by two bits of `word` each, and DATA; the recipients that were accepted. */
static unsigned answer_up_to_data(unsigned word, bool is_pipelined, const char *data)
{
	char all[256] = "250 ok\r\n";
	unsigned accepted = 0;
	if (!is_pipelined)
		say("250 ok\r\n");
	for (unsigned i = 0; i < 3; i++) {
		const char *answer = rcpt_answers[word >> 2 * i & 3];
		/* Not asked any more after a 552 that follows an acceptance. */
		bool is_asked = is_pipelined || strncmp(peer.sent, "RCPT", 4) == 0;
		accepted += is_asked && answer == rcpt_answers[0];
		strcat(all, answer);
		if (is_asked && !is_pipelined)
			say(answer);
	}
	if (is_pipelined)
		say(strcat(all, data));
	else if (accepted != 0)
		say(data);
	return accepted;
}

/* All 4^3 ways to answer three recipients, pipelined and not, times what DATA and the end answer. */
static void partial_failure_in_all_combinations(void **state)
{
	static const char *const datas[] = {"354 go\r\n", "554 5.5.1 no\r\n", "451 no\r\n"};
	static const char *const ends[] = {"250 done\r\n", "554 5.7.1 no\r\n", "452 4.3.1 no\r\n"};
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	const struct smtp_client_job job = {mail, BYTES_NONE, recipients, 3, 0};
	fill_recipients(recipients, texts, 3);
	for (unsigned word = 0; word < 64 * 9 * 2; word++) {
		unsigned data = word / 64 % 3, end = word / 192 % 3, delivered = 0;
		bool is_pipelined = word / 576 != 0;
		open_session(SMTP_CLIENT_TLS_MAY);
		say("220 mx\r\n");
		say(is_pipelined ? "250-mx\r\n250 PIPELINING\r\n" : "250 mx\r\n");
		assert_true(begin(&job));
		unsigned accepted = answer_up_to_data(word, is_pipelined, datas[data]);
		if (accepted != 0 && data == 0) {
			assert_string_equal(peer.sent, "x\r\n.\r\n");
			say(ends[end]);
			delivered = end == 0 ? accepted : 0;
		} else if (is_pipelined && data == 0) {
			assert_string_equal(peer.sent, ".\r\n");
			say("250 an empty mail\r\n");
		}
		assert_int_equal(peer.watch.delivered, delivered);
		assert_int_equal(peer.watch.told, 3);
		assert_int_equal(peer.watch.jobs_done, 1);
		/* RSET unless it went well; then the session takes the next mail. */
		assert_string_equal(peer.sent, delivered != 0 ? "" : "RSET\r\n");
		if (delivered == 0)
			say("250 ok\r\n");
		assert_non_null(strchr(peer.kinds, 'R'));
		assert_true(begin(&job));
		close_session();
	}
	mail_put(mail);
	mail_pool_destroy(pool);
}

/* ---- while the content is on its way ---- */

static uint8_t much[100000];

/* A session whose content does not fit `out`; nothing is taken from it. */
static void go_to_content(struct mail *mail)
{
	struct smtp_client_event e;
	go_to(DATA, mail);
	struct bytes in = BYTES_LITERAL("354 go\r\n");
	in = bytes_skip(in, smtp_client_feed(peer.c, in, &e, &peer.out));
	assert_int_equal(e.kind, SMTP_CLIENT_NONE);
	assert_int_equal(in.n, 0);
	assert_int_equal(smtp_client_phase(peer.c), SMTP_CLIENT_PHASE_BLOCK);
	assert_false(smtp_client_has_sent_all(peer.c));
}

static void an_early_reply_is_a_refusal_or_a_lie(void **state)
{
	static const struct {
		const char *reply;
		uint32_t failed, deferred;
		bool is_ours;
	} cases[] = {
		{"552 5.3.4 too big\r\n", 2, 0, false},
		{"451 4.3.0 disk\r\n", 0, 2, false},
		{"421 4.3.2 bye\r\n", 0, 2, false},
		{"250 2.0.0 queued\r\n", 0, 2, true},
		{"354 go on\r\n", 0, 2, true},
	};
	struct mail_pool *pool = mail_pool_create(16, 1, 0);
	memset(much, 'x', sizeof much);
	struct mail *mail = test_mail_make(pool, bytes_of(much, sizeof much));
	for (size_t i = 0; i < LENGTH(cases); i++) {
		go_to_content(mail);
		say(cases[i].reply);
		assert_int_equal(peer.watch.failed, cases[i].failed);
		assert_int_equal(peer.watch.deferred, cases[i].deferred);
		assert_int_equal(peer.watch.last.is_ours, cases[i].is_ours);
		assert_string_equal(peer.kinds, "rrDF");
		close_session();
	}
	mail_put(mail);
	mail_pool_destroy(pool);
}

static void a_mail_that_is_gone_is_deferred_and_never_ended(void **state)
{
	struct mail mail = {.size = 1000, .envelope_size = 100};
	go_to(DATA, &mail);
	say("354 go\r\n");
	assert_int_equal(peer.watch.deferred, 2);
	assert_int_equal(peer.sent_n, 0);
	assert_string_equal(peer.kinds, "rrDF");
	close_session();
}

/* ---- answers to the caller ---- */

static void phases_follow_what_is_waited_for(void **state)
{
	static const struct {
		enum step step;
		enum smtp_client_phase phase;
	} cases[] = {
		{GREETING, SMTP_CLIENT_PHASE_GREETING},
		{EHLO, SMTP_CLIENT_PHASE_COMMAND},
		{HELO, SMTP_CLIENT_PHASE_COMMAND},
		{STARTTLS_MAY, SMTP_CLIENT_PHASE_COMMAND},
		{MAIL, SMTP_CLIENT_PHASE_MAIL},
		{RCPT, SMTP_CLIENT_PHASE_RCPT},
		{DATA, SMTP_CLIENT_PHASE_DATA},
		{END, SMTP_CLIENT_PHASE_END},
		{RSET, SMTP_CLIENT_PHASE_COMMAND},
		{QUIT, SMTP_CLIENT_PHASE_COMMAND},
	};
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	for (size_t i = 0; i < LENGTH(cases); i++) {
		go_to(cases[i].step, mail);
		assert_int_equal(smtp_client_phase(peer.c), cases[i].phase);
		assert_int_equal(smtp_client_has_sent_all(peer.c), cases[i].step == END);
		assert_int_equal(smtp_client_was_mail_answered(peer.c),
			cases[i].step > MAIL && cases[i].step < QUIT);
		assert_int_equal(smtp_client_was_offered_tls(peer.c), cases[i].step == STARTTLS_MAY);
		close_session();
	}
	go_to(END, mail);
	say("250 ok\r\n");
	assert_int_equal(smtp_client_phase(peer.c), SMTP_CLIENT_PHASE_READY);
	close_session();
	mail_put(mail);
	mail_pool_destroy(pool);
}

static void a_pipelined_data_is_waited_for_as_such(void **state)
{
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	struct bytes with_one_unsendable[] = {BYTES_LITERAL("b@example.test"), BYTES_LITERAL("c\r\n@example.test")};
	for (int is_unsendable = 0; is_unsendable < 2; is_unsendable++) {
		const struct smtp_client_job job = {mail, BYTES_LITERAL("a@example.test"),
			is_unsendable ? with_one_unsendable : two_recipients, 2, 0};
		open_session(SMTP_CLIENT_TLS_MAY);
		say("220 mx\r\n");
		say("250-mx\r\n250 PIPELINING\r\n");
		assert_true(begin(&job));
		assert_int_equal(smtp_client_phase(peer.c), SMTP_CLIENT_PHASE_MAIL);
		say("250 ok\r\n");
		for (int rcpt = is_unsendable; rcpt < 2; rcpt++) {
			assert_int_equal(smtp_client_phase(peer.c), SMTP_CLIENT_PHASE_RCPT);
			say("250 ok\r\n");
		}
		assert_int_equal(smtp_client_phase(peer.c), SMTP_CLIENT_PHASE_DATA);
		smtp_client_lost(peer.c, "conversation timed out");
		pump(BYTES_NONE);
		assert_non_null(strstr(peer.watch.last.text, "while sending DATA"));
		close_session();
	}
	mail_put(mail);
	mail_pool_destroy(pool);
}

static void quit_before_ready_is_said_once_ready(void **state)
{
	open_session(SMTP_CLIENT_TLS_MAY);
	smtp_client_quit(peer.c);
	say("220 mx\r\n");
	assert_string_equal(peer.sent, "EHLO relay.example.test\r\n");
	say("250 mx\r\n");
	assert_string_equal(peer.sent, "QUIT\r\n");
	say("221 bye\r\n");
	assert_string_equal(peer.kinds, "C");
	close_session();
}

static void what_comes_after_the_end_is_swallowed(void **state)
{
	open_session(SMTP_CLIENT_TLS_MAY);
	say("554 no\r\n");
	assert_string_equal(peer.kinds, "F");
	assert_string_equal(peer.sent, "QUIT\r\n");
	say("221 bye\r\n250 x\r\ngarbage");
	smtp_client_lost(peer.c, "lost");
	smtp_client_quit(peer.c);
	say("");
	assert_string_equal(peer.kinds, "");
	assert_int_equal(peer.sent_n, 0);
	close_session();
}

static void a_path_longer_than_the_limit_is_refused_here(void **state)
{
	static uint8_t path[SMTP_CLIENT_PATH_MAX + 1];
	struct mail_pool *pool = mail_pool_create(2, 1, 0);
	struct mail *mail = test_mail_make(pool, BYTES_LITERAL("x\r\n"));
	struct bytes to[2] = {bytes_of(path, sizeof path), bytes_of(path, sizeof path - 1)};
	struct smtp_client_job job = {mail, bytes_of(path, sizeof path), to, 2, 0};
	memset(path, 'a', sizeof path);
	open_session(SMTP_CLIENT_TLS_MAY);
	say("220 mx\r\n");
	say("250-mx\r\n250-SIZE\r\n250-SMTPUTF8\r\n250-8BITMIME\r\n250 PIPELINING\r\n");
	assert_false(begin(&job));
	job.sender = bytes_of(path, sizeof path - 1);
	job.body_flags = ENVELOPE_8BITMIME | ENVELOPE_SMTPUTF8;
	assert_true(begin(&job));
	assert_true(peer.sent_n > 2 * (sizeof path - 1));
	assert_string_equal(peer.kinds, "r");
	assert_int_equal(peer.watch.failed, 1);
	close_session();
	/* The longest command fits what a caller must give. */
	struct stream_pool *small = stream_pool_create(SMTP_CLIENT_OUT_MIN, 1);
	assert_true(sizeof path + 100 < stream_pool_block_bytes(small));
	stream_pool_destroy(small);
	mail_put(mail);
	mail_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_at_every_step_has_its_outcome),
		cmocka_unit_test(a_loss_at_any_byte_defers_what_is_open),
		cmocka_unit_test(a_loss_does_not_take_back_a_delivery),
		cmocka_unit_test(a_thousand_recipients_each_get_their_own_outcome),
		cmocka_unit_test(recipients_past_the_limit_are_deferred),
		cmocka_unit_test(partial_failure_in_all_combinations),
		cmocka_unit_test(an_early_reply_is_a_refusal_or_a_lie),
		cmocka_unit_test(a_mail_that_is_gone_is_deferred_and_never_ended),
		cmocka_unit_test(phases_follow_what_is_waited_for),
		cmocka_unit_test(a_pipelined_data_is_waited_for_as_such),
		cmocka_unit_test(quit_before_ready_is_said_once_ready),
		cmocka_unit_test(what_comes_after_the_end_is_swallowed),
		cmocka_unit_test(a_path_longer_than_the_limit_is_refused_here),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
