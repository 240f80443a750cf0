// SPDX-License-Identifier: Apache-2.0
/* Runs the dialogs of tests/dialog-client/ (its README says how they are written), each whole, byte by
 * byte, split once at every place of each server turn, and with little room for what the client sends. */
#include "smtp/client/session.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "smtp/client/test_mail.h"
#include "smtp/envelope.h"

enum { STEPS_MAX = 200, MAILS_MAX = 4, RCPTS_MAX = 16, LINE_MAX_BYTES = 1024 };

enum step_kind { STEP_SERVER, STEP_CLIENT, STEP_EVENT, STEP_ACTION };

struct step {
	enum step_kind kind;
	int line;
	size_t n;
	char text[LINE_MAX_BYTES];
};

struct dialog_mail {
	struct mail *mail;
	struct bytes sender, rcpts[RCPTS_MAX];
	struct smtp_client_job job;
	char text[4 * LINE_MAX_BYTES];
};

struct dialog {
	const char *path;
	enum smtp_client_tls tls;
	bool only_whole;
	struct mail_pool *pool;
	struct dialog_mail mails[MAILS_MAX];
	size_t mail_count;
	struct step steps[STEPS_MAX];
	size_t step_count;
};

/* ---- reading a dialog ---- */

static unsigned hex(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 32) - 'a' + 10);
}

/* \r \n \\ \q (a quote) and \xHH; the bytes written. */
static size_t unescape(const char *from, size_t n, char *to)
{
	size_t made = 0;
	for (size_t i = 0; i < n; i++) {
		char c = from[i];
		if (c == '\\' && i + 1 < n) {
			c = from[++i];
			if (c == 'x' && i + 2 < n) {
				c = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
				i += 2;
			} else {
				c = c == 'r' ? '\r' : c == 'n' ? '\n' : c == 'q' ? '"' : c;
			}
		}
		to[made++] = c;
	}
	to[made] = '\0';
	return made;
}

static void read_recipients(struct dialog_mail *m, char *list)
{
	for (char *rcpt = strtok(list, ","); rcpt != NULL; rcpt = strtok(NULL, ",")) {
		assert_true(m->job.recipient_count < RCPTS_MAX);
		char *plain = strdup(rcpt);
		size_t n = unescape(rcpt, strlen(rcpt), plain);
		m->rcpts[m->job.recipient_count++] = bytes_of(plain, n);
	}
}

/* mail from=ADDRESS to=ADDRESS,… flags=8bitmime,utf8 content=TEXT; content comes last. */
static void read_mail(struct dialog *d, const char *text)
{
	struct dialog_mail *m = &d->mails[d->mail_count++];
	char content[4 * LINE_MAX_BYTES] = "";
	size_t content_n = 0;
	assert_true(d->mail_count <= MAILS_MAX);
	snprintf(m->text, sizeof m->text, "%s", text);
	char *at = strstr(m->text, "content=");
	if (at != NULL) {
		content_n = unescape(at + 8, strlen(at + 8), content);
		*at = '\0';
	}
	for (char *save, *w = strtok_r(m->text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		if (strncmp(w, "from=", 5) == 0) {
			char *plain = strdup(w + 5);
			size_t n = unescape(w + 5, strlen(w + 5), plain);
			m->sender = bytes_of(plain, n);
		} else if (strncmp(w, "to=", 3) == 0) {
			read_recipients(m, w + 3);
		} else if (strncmp(w, "flags=", 6) == 0) {
			m->job.body_flags = (strstr(w, "8bitmime") ? ENVELOPE_8BITMIME : 0) |
					    (strstr(w, "utf8") ? ENVELOPE_SMTPUTF8 : 0);
		} else {
			fail_msg("%s: what is %s?", d->path, w);
		}
	}
	m->mail = test_mail_make(d->pool, bytes_of(content, content_n));
	m->job.mail = m->mail;
	m->job.sender = m->sender;
	m->job.recipients = m->rcpts;
}

static void read_tls(struct dialog *d, const char *word)
{
	static const char *const words[] = {"never", "may", "must", "implicit"};
	for (size_t i = 0; i < 4; i++)
		if (strcmp(word, words[i]) == 0) {
			d->tls = (enum smtp_client_tls)i;
			return;
		}
	fail_msg("%s: tls %s?", d->path, word);
}

static void read_step(struct dialog *d, enum step_kind kind, int line, const char *text, bool adds_crlf)
{
	assert_true(d->step_count < STEPS_MAX);
	struct step *s = &d->steps[d->step_count++];
	s->kind = kind;
	s->line = line;
	s->n = unescape(text, strlen(text), s->text);
	if (adds_crlf) {
		memcpy(s->text + s->n, "\r\n", 3);
		s->n += 2;
	}
}

static void read_line(struct dialog *d, int number, char *line)
{
	line[strcspn(line, "\n")] = '\0';
	if (line[0] == '#' || line[0] == '\0')
		return;
	if (strncmp(line, "S: ", 3) == 0)
		read_step(d, STEP_SERVER, number, line + 3, true);
	else if (strncmp(line, "S+ ", 3) == 0)
		read_step(d, STEP_SERVER, number, line + 3, false);
	else if (strncmp(line, "C: ", 3) == 0)
		read_step(d, STEP_CLIENT, number, line + 3, true);
	else if (strncmp(line, "C+ ", 3) == 0)
		read_step(d, STEP_CLIENT, number, line + 3, false);
	else if (strncmp(line, "E: ", 3) == 0)
		read_step(d, STEP_EVENT, number, line + 3, false);
	else if (strncmp(line, "> ", 2) == 0)
		read_step(d, STEP_ACTION, number, line + 2, false);
	else if (strncmp(line, "tls ", 4) == 0)
		read_tls(d, line + 4);
	else if (strcmp(line, "only whole") == 0)
		d->only_whole = true;
	else if (strncmp(line, "mail ", 5) == 0)
		read_mail(d, line + 5);
	else
		fail_msg("%s:%d: cannot read this", d->path, number);
}

static struct dialog *dialog_read(const char *path)
{
	struct dialog *d = calloc(1, sizeof *d);
	char line[4 * LINE_MAX_BYTES];
	d->path = path;
	d->tls = SMTP_CLIENT_TLS_MAY;
	d->pool = mail_pool_create(32, MAILS_MAX, 0);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	for (int number = 1; fgets(line, sizeof line, f) != NULL; number++)
		read_line(d, number, line);
	fclose(f);
	assert_true(d->step_count != 0);
	return d;
}

static void dialog_free(struct dialog *d)
{
	for (size_t i = 0; i < d->mail_count; i++) {
		struct dialog_mail *m = &d->mails[i];
		free((void *)m->sender.at);
		for (uint32_t r = 0; r < m->job.recipient_count; r++)
			free((void *)m->rcpts[r].at);
		mail_put(m->mail);
	}
	mail_pool_destroy(d->pool);
	free(d);
}

/* ---- running it ---- */

struct mode {
	size_t piece;	  /* bytes fed at once; 0: a whole turn */
	size_t split;	  /* else a turn is fed in two, the first piece so long */
	size_t block;	  /* of `out` */
	size_t drain;	  /* bytes taken from `out` after each feed */
};

struct run {
	const struct dialog *d;
	struct mode mode;
	struct smtp_client *c;
	struct stream_pool *pool;
	struct stream out;
	char sent[65536]; /* by the client, not yet expected */
	size_t sent_n;
	char events[64][SMTP_REPLY_FORMAT_MAX + 64];
	size_t event_n, event_next;
	size_t longest_turn;
	int line;
};

#define run_fail(r, ...)                                                                           \
	do {                                                                                       \
		print_error("%s:%d: (pieces of %zu, split at %zu, block %zu) ", (r)->d->path,      \
			(r)->line, (r)->mode.piece, (r)->mode.split, (r)->mode.block);             \
		fail_msg(__VA_ARGS__);                                                             \
	} while (0)

static void take_output(struct run *r, size_t n)
{
	struct bytes b = bytes_first(stream_peek(&r->out), n);
	if (b.n == 0)
		return;
	assert_true(r->sent_n + b.n <= sizeof r->sent);
	memcpy(r->sent + r->sent_n, b.at, b.n);
	r->sent_n += b.n;
	stream_consume(&r->out, b.n);
}

static void note_event(struct run *r, const struct smtp_client_event *e)
{
	static const char *const names[] = {
		"NONE", "STARTTLS", "READY", "RECIPIENT", "DONE", "FAILED", "CLOSED"};
	char reply[SMTP_REPLY_FORMAT_MAX], index[16] = "", ours[16] = "";
	assert_true(r->event_n < 64);
	char *to = r->events[r->event_n++];
	bool has_reply = e->kind == SMTP_CLIENT_RECIPIENT || e->kind == SMTP_CLIENT_DONE ||
			 e->kind == SMTP_CLIENT_FAILED;
	if (!has_reply) {
		strcpy(to, names[e->kind]);
		return;
	}
	if (e->kind == SMTP_CLIENT_RECIPIENT)
		snprintf(index, sizeof index, " %u", e->index);
	if (e->reply.is_ours)
		snprintf(ours, sizeof ours, "ours %u ", e->reply.code);
	snprintf(to, sizeof r->events[0], "%s%s %s%s", names[e->kind], index, ours,
		smtp_reply_format(&e->reply, reply));
}

static void pump(struct run *r, struct bytes in)
{
	for (;;) {
		struct smtp_client_event e;
		size_t used = smtp_client_feed(r->c, in, &e, &r->out);
		in = bytes_skip(in, used);
		size_t had = stream_length(&r->out);
		take_output(r, r->mode.drain);
		if (e.kind != SMTP_CLIENT_NONE) {
			note_event(r, &e);
			continue;
		}
		if (in.n != 0)
			run_fail(r, "%zu bytes of input left", in.n);
		if (had == 0)
			return;
	}
}

static void nothing_is_left(struct run *r)
{
	if (r->sent_n != 0)
		run_fail(r, "not expected: %.*s", (int)r->sent_n, r->sent);
	if (r->event_next != r->event_n)
		run_fail(r, "not expected: %s", r->events[r->event_next]);
}

static void feed_turn(struct run *r, struct bytes turn)
{
	if (turn.n > r->longest_turn)
		r->longest_turn = turn.n;
	if (r->mode.split != 0) {
		pump(r, bytes_first(turn, r->mode.split));
		turn = bytes_skip(turn, r->mode.split);
	}
	size_t piece = r->mode.piece != 0 ? r->mode.piece : turn.n;
	while (turn.n != 0) {
		pump(r, bytes_first(turn, piece));
		turn = bytes_skip(turn, piece);
	}
}

static void expect_line(struct run *r, const struct step *s)
{
	if (r->sent_n < s->n || memcmp(r->sent, s->text, s->n) != 0)
		run_fail(r, "wanted: %s, got: %.*s", s->text, (int)r->sent_n, r->sent);
	r->sent_n -= s->n;
	memmove(r->sent, r->sent + s->n, r->sent_n);
}

static void expect_event(struct run *r, const struct step *s)
{
	if (r->event_next == r->event_n)
		run_fail(r, "no event, wanted: %s", s->text);
	if (strcmp(r->events[r->event_next], s->text) != 0)
		run_fail(r, "wanted: %s, got: %s", s->text, r->events[r->event_next]);
	r->event_next++;
}

static void act_begin(struct run *r, const char *text)
{
	char got[SMTP_REPLY_FORMAT_MAX + 16] = "";
	size_t number = (size_t)(text[0] - '0');
	struct smtp_reply reply;
	assert_true(number < r->d->mail_count);
	if (!smtp_client_begin(r->c, &r->d->mails[number].job, &reply)) {
		char plain[SMTP_REPLY_FORMAT_MAX];
		snprintf(got, sizeof got, " refused %u %s", reply.code, smtp_reply_format(&reply, plain));
	}
	if (strcmp(text + 1, got) != 0)
		run_fail(r, "wanted: begin%s, got:%s", text + 1, got);
}

static void act(struct run *r, const struct step *s)
{
	if (strncmp(s->text, "begin ", 6) == 0)
		act_begin(r, s->text + 6);
	else if (strcmp(s->text, "tls") == 0)
		smtp_client_tls_started(r->c);
	else if (strcmp(s->text, "quit") == 0)
		smtp_client_quit(r->c);
	else if (strncmp(s->text, "lost ", 5) == 0)
		smtp_client_lost(r->c, s->text + 5);
	else
		run_fail(r, "what is %s?", s->text);
	pump(r, BYTES_NONE);
}

/* Consecutive server lines are one turn; the step after it. */
static size_t run_turn(struct run *r, size_t i)
{
	char turn[65536];
	size_t n = 0;
	nothing_is_left(r);
	for (; i < r->d->step_count && r->d->steps[i].kind == STEP_SERVER; i++) {
		memcpy(turn + n, r->d->steps[i].text, r->d->steps[i].n);
		n += r->d->steps[i].n;
	}
	uint8_t *exact = malloc(n); /* so that reading past it is seen */
	memcpy(exact, turn, n);
	feed_turn(r, bytes_of(exact, n));
	free(exact);
	return i;
}

static void run_steps(struct run *r)
{
	for (size_t i = 0; i < r->d->step_count;) {
		const struct step *s = &r->d->steps[i];
		r->line = s->line;
		switch (s->kind) {
		case STEP_SERVER: i = run_turn(r, i); continue;
		case STEP_CLIENT: expect_line(r, s); break;
		case STEP_EVENT: expect_event(r, s); break;
		case STEP_ACTION: act(r, s); break;
		}
		i++;
	}
	nothing_is_left(r);
}

/* The length of the longest turn. */
static size_t run_dialog(const struct dialog *d, struct mode mode)
{
	struct run *r = calloc(1, sizeof *r);
	const struct smtp_client_config config = {
		.helo = "relay.example.test", .tls = d->tls, .peer = "mx.example.test[192.0.2.1]"};
	r->d = d;
	r->mode = mode;
	r->pool = stream_pool_create(mode.block, 1);
	stream_init(&r->out, r->pool);
	r->c = malloc(smtp_client_size());
	smtp_client_open(r->c, &config);
	run_steps(r);
	size_t longest = r->longest_turn;
	stream_reset(&r->out);
	stream_pool_destroy(r->pool);
	free(r->c);
	free(r);
	return longest;
}

static void dialog_goes_as_written(void **state)
{
	struct dialog *d = dialog_read(*state);
	const size_t block = SMTP_CLIENT_OUT_MIN;
	size_t longest = run_dialog(d, (struct mode){.block = block, .drain = SIZE_MAX});
	run_dialog(d, (struct mode){.block = block, .drain = 1});
	run_dialog(d, (struct mode){.block = 128, .drain = 7});
	for (size_t at = 1; at < longest && !d->only_whole; at++)
		run_dialog(d, (struct mode){.split = at, .block = block, .drain = SIZE_MAX});
	if (!d->only_whole) {
		run_dialog(d, (struct mode){.piece = 1, .block = block, .drain = SIZE_MAX});
		run_dialog(d, (struct mode){.piece = 1, .block = 128, .drain = 1});
	}
	dialog_free(d);
}

int main(int argc, char **argv)
{
	glob_t files;
	char pattern[4096];
	snprintf(pattern, sizeof pattern, "%s/*.txt", argc > 1 ? argv[1] : "tests/dialog-client");
	if (glob(pattern, 0, NULL, &files) != 0) {
		fprintf(stderr, "no dialogs: %s\n", pattern);
		return 1;
	}
	struct CMUnitTest *tests = calloc(files.gl_pathc, sizeof *tests);
	for (size_t i = 0; i < files.gl_pathc; i++)
		tests[i] = (struct CMUnitTest){.name = strrchr(files.gl_pathv[i], '/') + 1,
			.test_func = dialog_goes_as_written,
			.initial_state = files.gl_pathv[i]};
	int failed = _cmocka_run_group_tests("dialogs", tests, files.gl_pathc, NULL, NULL);
	free(tests);
	globfree(&files);
	return failed;
}
