// SPDX-License-Identifier: Apache-2.0
/* smtp/server/fuzz_session.c: a whole session: the first bytes choose policy, cuts and the caller's
 * answers, the rest is what the client says. Whatever it says, events come in an order that makes
 * sense, content is lines ended by CRLF, replies are reply lines, and the session goes on or
 * closes, but never hangs. */
#include "smtp/server/session.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(claim)                                                         \
	do {                                                                \
		if (!(claim)) {                                             \
			fprintf(stderr, "line %d: %s\n", __LINE__, #claim); \
			abort();                                            \
		}                                                           \
	} while (0)

struct caller {
	struct smtp_server *session;
	struct stream out;
	uint8_t answers; /* a bit a turn: 1 refuses */
	bool has_mail, is_in_content, is_closed, is_in_tls;
	uint8_t last; /* of the content handed out */
	bool has_content;
};

static const struct smtp_server_config config = {
	.hostname = "mx.example.test",
	.message_bytes_max = 300,
	.recipients_max = 3,
	.line_bytes_max = 512,
	.header_bytes_max = 100,
	.received_max = 2,
	.errors_max = 12,
	.commands_max = 12,
	.mails_max = 5,
};

static void check_content(struct caller *c, struct bytes body)
{
	must(c->is_in_content && c->has_mail && body.n > 0);
	for (size_t i = 0; i < body.n; i++) {
		must(body.at[i] != '\0');
		must((body.at[i] == '\n') == (c->last == '\r'));
		c->last = body.at[i];
	}
	c->has_content = true;
}

static void check_replies(struct caller *c)
{
	struct bytes said = stream_peek(&c->out);
	while (said.n > 0) {
		size_t end = bytes_find(said, '\n');
		must(end >= 4 && end < said.n && end < 512 && said.at[end - 1] == '\r');
		must(said.at[0] >= '2' && said.at[0] <= '5');
		must(said.at[3] == ' ' || said.at[3] == '-');
		said = bytes_skip(said, end + 1);
	}
	stream_reset(&c->out);
}

static void answer(struct caller *c, enum smtp_event_kind kind)
{
	bool refuses = c->answers & 1;
	c->answers = (uint8_t)(c->answers >> 1 | c->answers << 7);
	must(smtp_server_phase(c->session) == SMTP_PHASE_ANSWER);
	must(smtp_server_answer(c->session, refuses ? "550 5.7.1 no\r\n" : NULL, "A", &c->out));
	if (kind == SMTP_EVENT_MAIL)
		c->has_mail = !refuses;
	if (kind == SMTP_EVENT_DATA)
		c->is_in_content = !refuses;
	if (kind == SMTP_EVENT_END)
		c->has_mail = c->is_in_content = false;
}

static void perform(struct caller *c, const struct smtp_event *e)
{
	must(!c->is_closed || e->kind == SMTP_EVENT_NONE);
	switch (e->kind) {
	case SMTP_EVENT_NONE: break;
	case SMTP_EVENT_HELO: must(!c->has_mail && e->text.n > 0); break;
	case SMTP_EVENT_STARTTLS:
		must(!c->has_mail && !c->is_in_tls);
		c->is_in_tls = true;
		smtp_server_tls_started(c->session);
		break;
	case SMTP_EVENT_MAIL:
		must(!c->has_mail);
		answer(c, e->kind);
		break;
	case SMTP_EVENT_RCPT:
		must(c->has_mail && e->text.n > 0);
		answer(c, e->kind);
		break;
	case SMTP_EVENT_DATA:
		must(c->has_mail && !c->is_in_content);
		c->last = 0;
		c->has_content = false;
		answer(c, e->kind);
		break;
	case SMTP_EVENT_BODY: check_content(c, e->text); break;
	case SMTP_EVENT_END:
		must(c->has_mail && c->is_in_content && (!c->has_content || c->last == '\n'));
		answer(c, e->kind);
		break;
	case SMTP_EVENT_ABORT:
		must(c->has_mail);
		c->has_mail = c->is_in_content = false;
		break;
	case SMTP_EVENT_REFUSED: must(e->reply.n > 4 && e->reply.at[0] >= '4'); break;
	case SMTP_EVENT_CLOSE:
		must(!c->has_mail);
		c->is_closed = true;
		break;
	}
	must(c->has_mail == smtp_server_has_mail(c->session));
	check_replies(c);
}

/* Gives what is there until the session wants more, not just room for its replies; returns the bytes used. */
static size_t feed(struct caller *c, const uint8_t *at, size_t n)
{
	size_t used = 0;
	/* Each byte makes a few events at most. */
	for (size_t turns = 0;; turns++) {
		struct smtp_event e;
		must(turns < 8 * n + 64);
		size_t now =
			smtp_server_feed(c->session, bytes_of(at + used, n - used), &e, &c->out);
		must(now <= n - used);
		used += now;
		perform(c, &e);
		if (e.kind == SMTP_EVENT_NONE && now == 0)
			return used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	struct smtp_server_policy policy = {
		.is_tls = data[0] & 1,
		.offers_starttls = data[0] & 2,
		.requires_tls = data[0] & 4,
		.normalises_bare_lf = data[0] & 8,
	};
	struct stream_pool *pool = stream_pool_create(SMTP_SERVER_ROOM, 1);
	struct caller c = {.session = malloc(smtp_server_size()), .answers = data[1]};
	size_t step = data[2] == 0 ? size : data[2], used = 3;
	c.is_in_tls = policy.is_tls;
	stream_init(&c.out, pool);
	smtp_server_open(c.session, &config, &policy, &c.out);
	check_replies(&c);
	for (size_t end = 3; end < size;) {
		end = end + step < size ? end + step : size;
		used += feed(&c, data + used, end - used);
		/* What is left is an unfinished line, or two bytes of content. */
		enum smtp_server_phase phase = smtp_server_phase(c.session);
		must(phase != SMTP_PHASE_COMMAND || end - used < config.line_bytes_max);
		must(phase != SMTP_PHASE_CONTENT || end - used <= 2);
	}
	smtp_server_end(c.session, "421 4.3.2 bye\r\n", &c.out);
	feed(&c, data + used, size - used);
	must(c.is_closed);
	stream_reset(&c.out);
	stream_pool_destroy(pool);
	free(c.session);
	return 0;
}
