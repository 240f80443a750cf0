// SPDX-License-Identifier: Apache-2.0
/* smtp/server/dialog_test.c: runs the dialogs of tests/dialog/ against a server session: each
 * whole, byte by byte, and with every group of client bytes split in two at every place.
 * tests/dialog/README.md tells how they are written. */
#include "smtp/envelope.h"
#include "smtp/reply.h"
#include "smtp/server/session.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TEXT_MAX  65536
#define STEPS_MAX 200

struct step {
	char kind; /* C S E B A X: the letter in front of the line */
	struct bytes text;
};

struct dialog {
	char title[160];
	struct smtp_server_config config;
	struct smtp_server_policy policy;
	bool is_whole_only; /* what it shows depends on what arrives together */
	const char
		*preamble; /* said before the dialog begins, its replies not looked at; or NULL */
	struct step steps[STEPS_MAX];
	size_t step_count;
	struct bytes content; /* of B lines: what the mail must be */
	uint8_t memory[TEXT_MAX];
	size_t memory_used;
};

/* How the client's bytes are cut. */
struct cut {
	size_t first; /* of each group; 0: whole */
	bool is_bytewise;
};

struct run {
	struct dialog *dialog;
	struct cut cut;
	struct smtp_server *session;
	struct stream_pool *pool;
	struct stream out;
	uint8_t in[TEXT_MAX];
	size_t in_length;
	char log[TEXT_MAX]; /* what came out: S and E lines */
	size_t log_length;
	uint8_t content[TEXT_MAX];
	size_t content_length;
	size_t at; /* the next step to look at for an answer */
};

/* ---- reading dialogs ---- */

static struct bytes keep(struct dialog *d, struct bytes b)
{
	assert_true(d->memory_used + b.n <= sizeof d->memory);
	uint8_t *to = d->memory + d->memory_used;
	if (b.n > 0)
		memcpy(to, b.at, b.n);
	d->memory_used += b.n;
	return bytes_of(to, b.n);
}

static unsigned hex(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 32) - 'a' + 10);
}

/* \r \n \0 \\ \xNN, and \{Ntext} for N times text. */
static size_t unescape(const char *from, uint8_t *to)
{
	size_t n = 0;
	while (*from != '\0') {
		if (*from != '\\') {
			to[n++] = (uint8_t)*from++;
			continue;
		}
		switch (*++from) {
		case 'r': to[n++] = '\r'; break;
		case 'n': to[n++] = '\n'; break;
		case '0': to[n++] = '\0'; break;
		case 'x':
			to[n++] = (uint8_t)(hex(from[1]) << 4 | hex(from[2]));
			from += 2;
			break;
		case '{': {
			char *inner;
			unsigned long times = strtoul(from + 1, &inner, 10);
			const char *end = strchr(inner, '}');
			for (unsigned long i = 0; i < times; i++) {
				memcpy(to + n, inner, (size_t)(end - inner));
				n += (size_t)(end - inner);
			}
			from = end;
			break;
		}
		default: to[n++] = (uint8_t)*from;
		}
		from++;
	}
	return n;
}

#define GREETED "EHLO client.example.test\r\n"
#define MAIL	"MAIL FROM:<alice@example.test>\r\n"
#define RCPT	"RCPT TO:<bob@example.test>\r\n"

static void set_option(struct dialog *d, const char *option)
{
	static const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
#define _(field) {#field, offsetof(struct smtp_server_config, field)}
		_(recipients_max),
		_(line_bytes_max),
		_(header_bytes_max),
		_(received_max),
		_(errors_max),
		_(commands_max),
		_(mails_max),
		_(local_part_bytes_max),
#undef _
	};
	char name[40];
	unsigned long value = 0;
	assert_true(sscanf(option, "%39[a-z_] %lu", name, &value) >= 1);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (strcmp(name, numbers[i].name) == 0) {
			*(uint32_t *)((char *)&d->config + numbers[i].offset) = (uint32_t)value;
			return;
		}
	if (strcmp(name, "message_bytes_max") == 0)
		d->config.message_bytes_max = value;
	else if (strcmp(name, "is_tls") == 0)
		d->policy.is_tls = true;
	else if (strcmp(name, "offers_starttls") == 0)
		d->policy.offers_starttls = true;
	else if (strcmp(name, "requires_tls") == 0)
		d->policy.requires_tls = true;
	else if (strcmp(name, "normalises_bare_lf") == 0)
		d->policy.normalises_bare_lf = true;
	else if (strcmp(name, "greeted") == 0)
		d->preamble = GREETED;
	else if (strcmp(name, "mail") == 0)
		d->preamble = GREETED MAIL;
	else if (strcmp(name, "recipient") == 0)
		d->preamble = GREETED MAIL RCPT;
	else if (strcmp(name, "whole_only") == 0)
		d->is_whole_only = true;
	else
		fail_msg("unknown option '%s'", name);
}

static struct dialog *new_dialog(const char *file, const char *title)
{
	struct dialog *d = calloc(1, sizeof *d);
	snprintf(d->title, sizeof d->title, "%.40s: %.110s", file, title);
	d->config = (struct smtp_server_config){
		.hostname = "mx.example.test",
		.message_bytes_max = 10000,
		.recipients_max = 100,
		.line_bytes_max = 2048,
		.header_bytes_max = 5000,
		.received_max = 30,
		.errors_max = 20,
		.commands_max = 100,
		.mails_max = 100,
	};
	return d;
}

static void add_step(struct dialog *d, const char *line)
{
	static uint8_t text[TEXT_MAX];
	char kind = line[0];
	bool is_raw = kind == 'c';
	assert_true(strchr("CcSEBAX", kind) != NULL && line[1] == ':' && d->step_count < STEPS_MAX);
	size_t n = unescape(line[2] == ' ' ? line + 3 : line + 2, text);
	if (kind == 'C' || kind == 'B') {
		text[n++] = '\r';
		text[n++] = '\n';
	}
	text[n] = '\0';
	/* The text is kept with a NUL behind it, which texts for the session need. */
	struct bytes kept = keep(d, bytes_of(text, n + 1));
	kept.n = n;
	d->steps[d->step_count++] = (struct step){is_raw ? 'C' : kind, kept};
}

static size_t read_dialogs(const char *path, const char *file, struct dialog **to, size_t room)
{
	static char line[TEXT_MAX];
	size_t count = 0;
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof line, f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "== ", 3) == 0) {
			if (count == room)
				abort();
			to[count++] = new_dialog(file, line + 3);
		} else if (line[0] == '\0' || line[0] == '#' || count == 0) {
			continue;
		} else if (line[0] == '!') {
			set_option(to[count - 1], line + 2);
		} else {
			add_step(to[count - 1], line);
		}
	}
	fclose(f);
	return count;
}

/* ---- running one ---- */

static void log_line(struct run *r, const char *kind, struct bytes text)
{
	int n = snprintf(r->log + r->log_length, sizeof r->log - r->log_length, "%s: %.*s\n", kind,
		(int)text.n, (const char *)text.at);
	r->log_length += (size_t)n;
	assert_true(r->log_length < sizeof r->log);
}

static void log_output(struct run *r)
{
	while (stream_length(&r->out) > 0) {
		struct bytes b = stream_peek(&r->out);
		size_t end = bytes_find(b, '\n');
		assert_true(end < b.n && end > 0 && b.at[end - 1] == '\r');
		assert_true(end + 1 <= REPLY_BYTES_MAX);
		log_line(r, "S", bytes_first(b, end - 1));
		stream_consume(&r->out, end + 1);
	}
}

static const char *const event_names[] = {"NONE", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA",
	"BODY", "END", "ABORT", "REFUSED", "CLOSE"};

static void log_event(struct run *r, const struct smtp_event *e)
{
	char text[4096];
	size_t n = (size_t)snprintf(text, sizeof text, "%s",
		e->kind == SMTP_EVENT_HELO && e->flag ? "EHLO" : event_names[e->kind]);
	if (e->kind == SMTP_EVENT_DATA && e->flag)
		n += (size_t)snprintf(text + n, sizeof text - n, " by BDAT");
	if (e->kind == SMTP_EVENT_MAIL || e->kind == SMTP_EVENT_RCPT)
		n += (size_t)snprintf(text + n, sizeof text - n, " <%.*s> %.*s", (int)e->text.n,
			(const char *)e->text.at, (int)e->domain.n, (const char *)e->domain.at);
	else if (e->text.n > 0)
		n += (size_t)snprintf(text + n, sizeof text - n, " %.*s", (int)e->text.n,
			(const char *)e->text.at);
	if (e->size > 0 && e->kind == SMTP_EVENT_MAIL)
		n += (size_t)snprintf(text + n, sizeof text - n, " SIZE=%u", (unsigned)e->size);
	if (e->body_flags & ENVELOPE_8BITMIME)
		n += (size_t)snprintf(text + n, sizeof text - n, " 8BITMIME");
	if (e->body_flags & ENVELOPE_SMTPUTF8)
		n += (size_t)snprintf(text + n, sizeof text - n, " SMTPUTF8");
	while (n > 0 && text[n - 1] == ' ')
		n--;
	log_line(r, "E", bytes_of(text, n));
	if (e->kind == SMTP_EVENT_REFUSED || (e->kind == SMTP_EVENT_CLOSE && e->reply.n > 0))
		assert_true(e->reply.n > 4 && e->reply.at[0] >= '4');
}

/* The answer is the script's where the next thing in it is one, else yes. */
static void answer(struct run *r, enum smtp_event_kind kind)
{
	while (r->at < r->dialog->step_count &&
		strchr("SE", r->dialog->steps[r->at].kind) != NULL) {
		const struct step *step = &r->dialog->steps[r->at++];
		const char *name = event_names[kind];
		if (step->kind == 'E' &&
			strncmp((const char *)step->text.at, name, strlen(name)) == 0)
			break;
	}
	const char *refusal = NULL;
	if (r->at < r->dialog->step_count && r->dialog->steps[r->at].kind == 'A')
		refusal = (const char *)r->dialog->steps[r->at++].text.at;
	assert_int_equal(smtp_server_phase(r->session), SMTP_PHASE_ANSWER);
	assert_true(smtp_server_answer(r->session, refusal, "000000000000A", &r->out));
}

static void add_content(struct run *r, struct bytes body)
{
	assert_true(r->content_length + body.n <= sizeof r->content);
	memcpy(r->content + r->content_length, body.at, body.n);
	r->content_length += body.n;
}

static void perform(struct run *r, const struct smtp_event *e)
{
	if (e->kind == SMTP_EVENT_BODY) {
		assert_true(e->text.n > 0);
		add_content(r, e->text);
		return;
	}
	log_output(r);
	if (e->kind == SMTP_EVENT_NONE)
		return;
	log_event(r, e);
	if (e->kind == SMTP_EVENT_DATA)
		r->content_length = 0;
	if (e->kind == SMTP_EVENT_MAIL || e->kind == SMTP_EVENT_RCPT ||
		e->kind == SMTP_EVENT_DATA || e->kind == SMTP_EVENT_END)
		answer(r, e->kind);
	log_output(r);
}

static void feed(struct run *r)
{
	for (int turns = 0;; turns++) {
		struct smtp_event e;
		assert_true(turns < 100000);
		/* The bytes are moved each time to a block of just their size, where a sanitizer
		 * sees every step beside them. */
		uint8_t *copy = malloc(r->in_length + (r->in_length == 0));
		memcpy(copy, r->in, r->in_length);
		size_t used =
			smtp_server_feed(r->session, bytes_of(copy, r->in_length), &e, &r->out);
		assert_true(used <= r->in_length);
		memmove(r->in, r->in + used, r->in_length - used);
		r->in_length -= used;
		perform(r, &e);
		free(copy);
		if (e.kind == SMTP_EVENT_NONE)
			break;
	}
	log_output(r);
}

static void send(struct run *r, struct bytes group)
{
	size_t at = 0;
	while (at < group.n) {
		size_t n = r->cut.is_bytewise			      ? 1
			: at < r->cut.first && r->cut.first < group.n ? r->cut.first
								      : group.n - at;
		memcpy(r->in + r->in_length, group.at + at, n);
		r->in_length += n;
		at += n;
		feed(r);
	}
}

/* X lines: what the caller does on its own. */
static void act(struct run *r, struct bytes what)
{
	const char *text = (const char *)what.at;
	if (strcmp(text, "tls started") == 0)
		smtp_server_tls_started(r->session);
	else if (strcmp(text, "tls unavailable") == 0)
		smtp_server_set_tls_available(r->session, false);
	else if (strncmp(text, "end ", 4) == 0)
		smtp_server_end(r->session, text + 4, &r->out);
	else if (strncmp(text, "drain ", 6) == 0)
		smtp_server_drain(r->session, text + 6, &r->out);
	else if (strncmp(text, "proto ", 6) == 0)
		assert_string_equal(smtp_server_proto(r->session), text + 6);
	else if (strcmp(text, "normalised") == 0)
		assert_true(smtp_server_has_normalised(r->session));
	else
		fail_msg("unknown action '%s'", text);
	feed(r);
}

static void expect_content(struct run *r, struct bytes expected)
{
	assert_int_equal(r->content_length, expected.n);
	assert_memory_equal(r->content, expected.at, expected.n);
}

/* Says the preamble a line at a time, and forgets what came of it. */
static void say_preamble(struct run *r, const char *text)
{
	struct cut cut = r->cut;
	r->cut = (struct cut){0};
	for (struct bytes rest = bytes_of_string(text); rest.n > 0;) {
		size_t n = bytes_find(rest, '\n') + 1;
		r->at = r->dialog->step_count; /* no answers from the script */
		send(r, bytes_first(rest, n));
		rest = bytes_skip(rest, n);
	}
	r->cut = cut;
	r->log_length = r->at = 0;
}

static void run_dialog(struct dialog *d, struct cut cut)
{
	static struct run run;
	static char expected[TEXT_MAX];
	static uint8_t group[TEXT_MAX], content[TEXT_MAX];
	struct run *r = &run;
	size_t expected_length = 0, content_length = 0;
	*r = (struct run){.dialog = d, .cut = cut};
	r->pool = stream_pool_create(SMTP_SERVER_ROOM + 512, 1);
	stream_init(&r->out, r->pool);
	r->session = malloc(smtp_server_size());
	smtp_server_open(r->session, &d->config, &d->policy, &r->out);
	log_output(r);
	if (d->preamble != NULL)
		say_preamble(r, d->preamble);
	for (size_t i = 0; i < d->step_count; i++) {
		size_t n = 0;
		while (i < d->step_count && d->steps[i].kind == 'C') {
			memcpy(group + n, d->steps[i].text.at, d->steps[i].text.n);
			n += d->steps[i++].text.n;
		}
		r->at = r->at > i ? r->at : i;
		if (n > 0)
			send(r, bytes_of(group, n));
		if (i == d->step_count)
			break;
		struct bytes text = d->steps[i].text;
		switch (d->steps[i].kind) {
		case 'S':
		case 'E':
			expected_length += (size_t)snprintf(expected + expected_length,
				sizeof expected - expected_length, "%c: %.*s\n", d->steps[i].kind,
				(int)text.n, (const char *)text.at);
			break;
		case 'B':
			memcpy(content + content_length, text.at, text.n);
			content_length += text.n;
			break;
		case 'X': act(r, text); break;
		}
		bool is_last_content = d->steps[i].kind == 'B' &&
			(i + 1 == d->step_count || d->steps[i + 1].kind != 'B');
		if (is_last_content) {
			expect_content(r, bytes_of(content, content_length));
			content_length = 0;
		}
	}
	expected[expected_length] = '\0';
	r->log[r->log_length] = '\0';
	assert_string_equal(r->log, expected);
	if (smtp_server_phase(r->session) != SMTP_PHASE_CLOSED)
		assert_int_equal(r->in_length, 0);
	stream_reset(&r->out);
	stream_pool_destroy(r->pool);
	free(r->session);
}

static size_t longest_group(const struct dialog *d)
{
	size_t longest = 0, n = 0;
	for (size_t i = 0; i < d->step_count; i++) {
		n = d->steps[i].kind == 'C' ? n + d->steps[i].text.n : 0;
		longest = n > longest ? n : longest;
	}
	return longest;
}

static void runs(void **state)
{
	struct dialog *d = *state;
	run_dialog(d, (struct cut){0});
	if (d->is_whole_only)
		return;
	run_dialog(d, (struct cut){.is_bytewise = true});
	size_t longest = longest_group(d);
	for (size_t first = 1; first < longest && longest < 2000; first++)
		run_dialog(d, (struct cut){.first = first});
}

int main(int argc, char **argv)
{
	enum { DIALOGS_MAX = 400 };
	static struct dialog *dialogs[DIALOGS_MAX];
	static struct CMUnitTest tests[DIALOGS_MAX];
	size_t count = 0;
	for (int i = 1; i < argc; i++) {
		const char *slash = strrchr(argv[i], '/');
		count += read_dialogs(argv[i], slash == NULL ? argv[i] : slash + 1, dialogs + count,
			DIALOGS_MAX - count);
	}
	for (size_t i = 0; i < count; i++)
		tests[i] = (struct CMUnitTest){dialogs[i]->title, runs, NULL, NULL, dialogs[i]};
	if (count == 0)
		return 1;
	int failed = _cmocka_run_group_tests("dialogs", tests, count, NULL, NULL);
	for (size_t i = 0; i < count; i++)
		free(dialogs[i]);
	return failed;
}
