// SPDX-License-Identifier: Apache-2.0
/* smtp/server/smuggling_test.c: no line ending but CRLF "." CRLF ends a mail, by DATA or by BDAT,
 * and no line ending but CRLF is handed on (CVE-2023-51764, -51765, -51766 and what was found
 * since). Each vector stands in content, with a second mail's commands behind it in the same bytes,
 * cut in two at every place. */
#include "smtp/server/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define V(s)                                                                                       \
	{                                                                                          \
		BYTES_LITERAL(s), #s                                                               \
	}
static const struct {
	struct bytes bytes;
	const char *name;
} vectors[] = {
	V("\n.\n"),
	V("\n.\r"),
	V("\r.\n"),
	V("\r.\r"),
	V("\n.\r\n"),
	V("\r.\r\n"),
	V("\r\n.\n"),
	V("\r\n.\r"),
	V("\n\n.\r\n"),
	V("\r\n\0.\r\n"),
	V("\r\n\0.\r"),
	V("\r\n\0.\n"),
	V("\r\n.\0\r\n"),
	V("\r\n.\r\r\n"),
	V("\r\r\n.\r\r\n"),
	V("\r\n.\r\0\n"),
	V("\0\r\n.\n\r\n"),
	V("\r\n.\n\r\n.\r"),
	V("\n\r.\r\n"),
	V("\r\n\r.\r\n"),
};
#undef V
#define VECTORS (sizeof vectors / sizeof *vectors)

#define BEHIND                                                                                     \
	"MAIL FROM:<evil@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n"               \
	"From: <evil@example.test>\r\n\r\nsmuggled"

struct outcome {
	unsigned mails, ends, aborts;
	char replies[2048];
	uint8_t content[2048];
	size_t content_length;
};

struct harness {
	struct smtp_server *session;
	struct stream_pool *pool;
	struct stream out;
	uint8_t in[4096];
	size_t in_length;
	struct outcome outcome;
};

static const struct smtp_server_config config = {
	.hostname = "mx.example.test",
	.message_bytes_max = 100000,
	.line_bytes_max = 2048,
	.recipients_max = 10,
};

static void perform(struct harness *h, const struct smtp_event *e)
{
	struct outcome *o = &h->outcome;
	o->mails += e->kind == SMTP_EVENT_MAIL;
	o->ends += e->kind == SMTP_EVENT_END;
	o->aborts += e->kind == SMTP_EVENT_ABORT;
	if (e->kind == SMTP_EVENT_BODY) {
		assert_true(o->content_length + e->text.n <= sizeof o->content);
		memcpy(o->content + o->content_length, e->text.at, e->text.n);
		o->content_length += e->text.n;
	}
	smtp_server_answer(h->session, NULL, NULL, &h->out); /* ignored where none is wanted */
	struct bytes said = stream_peek(&h->out);
	size_t length = strlen(o->replies);
	assert_true(length + said.n < sizeof o->replies);
	if (said.n > 0)
		memcpy(o->replies + length, said.at, said.n);
	stream_consume(&h->out, said.n);
}

static void feed(struct harness *h, struct bytes bytes)
{
	struct smtp_event e;
	memcpy(h->in + h->in_length, bytes.at, bytes.n);
	h->in_length += bytes.n;
	do {
		size_t used =
			smtp_server_feed(h->session, bytes_of(h->in, h->in_length), &e, &h->out);
		perform(h, &e);
		memmove(h->in, h->in + used, h->in_length - used);
		h->in_length -= used;
	} while (e.kind != SMTP_EVENT_NONE);
}

static void open_session(struct harness *h, bool normalises)
{
	struct smtp_server_policy policy = {.normalises_bare_lf = normalises};
	*h = (struct harness){.session = malloc(smtp_server_size())};
	h->pool = stream_pool_create(4096, 1);
	stream_init(&h->out, h->pool);
	smtp_server_open(h->session, &config, &policy, &h->out);
	feed(h, BYTES_LITERAL("EHLO c.example.test\r\n"));
	feed(h, BYTES_LITERAL("MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n"));
	h->outcome.replies[0] = '\0';
	memset(h->outcome.replies, 0, sizeof h->outcome.replies);
}

static void close_session(struct harness *h)
{
	stream_reset(&h->out);
	stream_pool_destroy(h->pool);
	free(h->session);
}

/* Content holding the vector, as DATA or BDAT sends it; `*n` its length. */
static uint8_t *make_content(struct bytes vector, bool is_bdat, size_t *n)
{
	struct bytes parts[] = {BYTES_LITERAL("Subject: x\r\n\r\nhello"), vector,
		BYTES_LITERAL(BEHIND),
		is_bdat ? BYTES_LITERAL("\r\n") : BYTES_LITERAL("\r\n.\r\n")};
	uint8_t *to = malloc(1024);
	*n = 0;
	for (size_t i = 0; i < 4; i++) {
		memcpy(to + *n, parts[i].at, parts[i].n);
		*n += parts[i].n;
	}
	return to;
}

static void only_crlf_came_out(const struct outcome *o)
{
	for (size_t i = 0; i < o->content_length; i++) {
		bool is_pair_cr = i + 1 < o->content_length && o->content[i + 1] == '\n';
		assert_true(o->content[i] != '\r' || is_pair_cr);
		assert_true(o->content[i] != '\n' || (i > 0 && o->content[i - 1] == '\r'));
		assert_int_not_equal(o->content[i], '\0');
	}
}

static void try_vector(struct bytes vector, bool is_bdat, bool normalises, size_t split)
{
	struct harness h;
	size_t n;
	uint8_t *content = make_content(vector, is_bdat, &n);
	bool is_flawed = !normalises || memchr(vector.at, '\0', vector.n) != NULL;
	open_session(&h, normalises);
	char command[40] = "DATA\r\n";
	if (is_bdat)
		snprintf(command, sizeof command, "BDAT %zu LAST\r\n", n);
	feed(&h, bytes_of_string(command));
	split = split < n ? split : n;
	feed(&h, bytes_of(content, split));
	feed(&h, bytes_of(content + split, n - split));
	assert_int_equal(h.outcome.mails, 1);
	assert_int_equal(h.outcome.ends, is_flawed ? 0 : 1);
	assert_int_equal(h.outcome.aborts, is_flawed ? 1 : 0);
	const char *reply = strstr(h.outcome.replies, is_flawed ? "550 5." : "250 2.0.0 Ok\r\n");
	assert_non_null(reply);
	assert_int_equal(strcspn(reply, "\n") + 1, strlen(reply)); /* and it is the last */
	only_crlf_came_out(&h.outcome);
	/* The session is where it should be: between mails. */
	feed(&h, BYTES_LITERAL("NOOP\r\n"));
	assert_int_equal(h.in_length, 0);
	assert_int_equal(smtp_server_phase(h.session), SMTP_PHASE_COMMAND);
	close_session(&h);
	free(content);
}

static void try_all(bool is_bdat, bool normalises)
{
	for (size_t i = 0; i < VECTORS; i++)
		for (size_t split = 0; split < 64; split++)
			try_vector(vectors[i].bytes, is_bdat, normalises, split);
}

static void no_vector_ends_data(void **state)
{
	try_all(false, false);
}

static void no_vector_passes_in_bdat(void **state)
{
	try_all(true, false);
}

static void no_vector_ends_data_that_is_normalised(void **state)
{
	try_all(false, true);
}

static void no_vector_comes_out_of_bdat_that_is_normalised(void **state)
{
	try_all(true, true);
}

/* "CRLF ." and a pause is not the end, nor is it lost. */
static void a_dot_and_a_pause_is_not_the_end(void **state)
{
	struct harness h;
	open_session(&h, false);
	feed(&h, BYTES_LITERAL("DATA\r\n"));
	feed(&h, BYTES_LITERAL("hello\r\n."));
	feed(&h, BYTES_LITERAL("\r"));
	assert_int_equal(h.outcome.ends, 0);
	feed(&h, BYTES_LITERAL("\n"));
	assert_int_equal(h.outcome.ends, 1);
	close_session(&h);
}

/* What a chunk says stays in the chunk, with each of its bytes the last of one. */
static void chunks_cut_anywhere_make_the_same_mail(void **state)
{
	static const char text[] = "Subject: x\r\n\r\n.\r\n..\r\nQUIT\r\nlast line\r\n";
	for (size_t cut = 0; cut < sizeof text; cut++) {
		struct harness h;
		char group[200];
		int n = snprintf(group, sizeof group, "BDAT %zu\r\n%.*sBDAT %zu LAST\r\n%s", cut,
			(int)cut, text, sizeof text - 1 - cut, text + cut);
		open_session(&h, false);
		feed(&h, bytes_of(group, (size_t)n));
		assert_int_equal(h.outcome.ends, 1);
		assert_int_equal(h.outcome.content_length, sizeof text - 1);
		assert_memory_equal(h.outcome.content, text, sizeof text - 1);
		close_session(&h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_vector_ends_data),
		cmocka_unit_test(no_vector_passes_in_bdat),
		cmocka_unit_test(no_vector_ends_data_that_is_normalised),
		cmocka_unit_test(no_vector_comes_out_of_bdat_that_is_normalised),
		cmocka_unit_test(a_dot_and_a_pause_is_not_the_end),
		cmocka_unit_test(chunks_cut_anywhere_make_the_same_mail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
