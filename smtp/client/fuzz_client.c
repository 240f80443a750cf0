// SPDX-License-Identifier: Apache-2.0
/* A whole session against a server that says anything: test_watch.h tells what must hold all the same.
 *
 * Input: a byte of settings, a byte for the room of `out`, then what the server says; byte 0xff lets the
 * client send what it has written, 0xfe loses the connection, 0xfd quits, 0xfc finishes a TLS handshake. */
#include "smtp/client/session.h"

#include <stdlib.h>

#include "smtp/client/test_mail.h"
#include "smtp/client/test_watch.h"
#include "smtp/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct smtp_client *c;
	struct watch watch;
	struct stream out;
	struct smtp_client_job job;
	unsigned jobs_left;
	bool is_tls_wanted;
	char line[4096]; /* what the client is saying */
	size_t line_n;
};

static const struct bytes recipients[] = {BYTES_LITERAL("b@example.test"),
	BYTES_LITERAL("c\r\nRSET@example.test"), BYTES_LITERAL("d@example.test"),
	BYTES_LITERAL("\xc3\xa9@example.test"), BYTES_LITERAL("e@example.test")};

/* With TLS a must, nothing but EHLO, STARTTLS and QUIT is said before it. */
static void check_line(struct fuzz *f, struct bytes line)
{
	static const struct bytes allowed[] = {
		BYTES_LITERAL("EHLO"), BYTES_LITERAL("STAR"), BYTES_LITERAL("QUIT")};
	bool is_allowed = false;
	for (size_t i = 0; i < 3; i++)
		is_allowed |= bytes_equal(bytes_first(line, 4), allowed[i]);
	watch_that(&f->watch, !f->watch.is_clear_must || is_allowed);
}

static void take_output(struct fuzz *f)
{
	struct bytes b = stream_peek(&f->out);
	watch_sent(&f->watch, b);
	for (size_t i = 0; i < b.n; i++) {
		if (f->line_n < sizeof f->line)
			f->line[f->line_n++] = (char)b.at[i];
		if (b.at[i] == '\n') {
			check_line(f, bytes_of(f->line, f->line_n));
			f->line_n = 0;
		}
	}
	stream_consume(&f->out, b.n);
}

static void begin_next(struct fuzz *f)
{
	struct smtp_reply why;
	if (f->jobs_left == 0)
		return;
	f->jobs_left--;
	if (smtp_client_begin(f->c, &f->job, &why))
		watch_begin(&f->watch, f->job.recipient_count);
	else
		watch_reply(&f->watch, &why);
}

static void feed(struct fuzz *f, struct bytes in)
{
	struct smtp_client_event e;
	do {
		size_t used = smtp_client_feed(f->c, in, &e, &f->out);
		watch_that(&f->watch, used <= in.n);
		in = bytes_skip(in, used);
		watch_event(&f->watch, f->c, &e);
		if (e.kind == SMTP_CLIENT_READY)
			begin_next(f);
		f->is_tls_wanted = e.kind == SMTP_CLIENT_STARTTLS ||
				   (f->is_tls_wanted && e.kind == SMTP_CLIENT_NONE);
	} while (e.kind != SMTP_CLIENT_NONE);
	watch_that(&f->watch, in.n == 0);
}

static void do_special(struct fuzz *f, uint8_t what)
{
	if (what == 0xff) {
		take_output(f);
	} else if (what == 0xfe) {
		smtp_client_lost(f->c, "lost connection");
	} else if (what == 0xfd) {
		smtp_client_quit(f->c);
	} else if (f->is_tls_wanted) {
		f->watch.is_clear_must = false;
		smtp_client_tls_started(f->c);
	}
	feed(f, BYTES_NONE);
}

static void run(struct fuzz *f, struct bytes in)
{
	feed(f, BYTES_NONE);
	while (in.n != 0) {
		size_t n = 0;
		while (n < in.n && in.at[n] < 0xfc)
			n++;
		feed(f, bytes_first(in, n));
		in = bytes_skip(in, n);
		if (in.n != 0)
			do_special(f, in.at[0]);
		in = bytes_skip(in, 1);
	}
	take_output(f);
	smtp_client_lost(f->c, "the end");
	feed(f, BYTES_NONE);
	watch_that(&f->watch, f->watch.is_over && f->watch.recipients == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;
	static struct mail_pool *pool;
	if (size < 2)
		return 0;
	if (pool == NULL)
		pool = mail_pool_create(4, 1, 0);
	const struct smtp_client_config config = {
		"relay.example.test", (enum smtp_client_tls)(data[0] & 3), "mx[192.0.2.1]"};
	struct stream_pool *blocks = stream_pool_create(SMTP_CLIENT_OUT_MIN + data[1] * 4, 1);
	struct mail *mail = test_mail_make(pool, (data[0] & 4) != 0
							 ? BYTES_LITERAL(".a\r\n..\r\n\r\nb\xff")
							 : BYTES_LITERAL("a\r\nb\n.\r\nc"));
	f = (struct fuzz){.c = malloc(smtp_client_size()), .jobs_left = 2};
	f.job = (struct smtp_client_job){mail, BYTES_LITERAL("a@example.test"), recipients,
		(data[0] & 8) != 0 ? 3 : 5, (data[0] >> 4) & 3};
	f.watch.is_clear_must = config.tls == SMTP_CLIENT_TLS_MUST;
	stream_init(&f.out, blocks);
	smtp_client_open(f.c, &config);
	run(&f, bytes_of(data + 2, size - 2));
	stream_reset(&f.out);
	stream_pool_destroy(blocks);
	free(f.c);
	mail_put(mail);
	return 0;
}
