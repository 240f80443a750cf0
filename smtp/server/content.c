// SPDX-License-Identifier: Apache-2.0
/* smtp/server/content.c: the content of a mail, from 354 or the first BDAT to its end.
 *
 * What is wrong with content is found in the middle of it, and the reply may come only at the end:
 * the mail is aborted at once, the rest read and dropped, then refused. How much is dropped is
 * bounded, too. */
#include "smtp/server/session_private.h"

#include <stdio.h>

void smtp_begin_content(struct smtp_server *s)
{
	content_begin(&s->content, s->policy.normalises_bare_lf);
	header_begin(&s->header);
	s->content_bytes = s->content_arrived = 0;
	s->refusal = REPLY_NONE;
}

/* A client that goes on past twice what we take will not stop for a reply at the end. */
static uint64_t bound_left(const struct smtp_server *s)
{
	uint64_t max = s->config->message_bytes_max, bound = 2 * max;
	if (max == 0 || max > UINT64_MAX / 2)
		return UINT64_MAX;
	return bound > s->content_arrived ? bound - s->content_arrived : 0;
}

bool smtp_is_past_bound(const struct smtp_server *s, uint64_t more)
{
	return more > bound_left(s);
}

static enum reply content_refusal(const struct smtp_server *s)
{
	if (s->content.flaw == CONTENT_BARE_CR_LF)
		return REPLY_BARE_CR_LF;
	if (s->content.flaw == CONTENT_NUL)
		return REPLY_NUL_BYTE;
	if (smtp_is_over(s->content_bytes, s->config->message_bytes_max))
		return REPLY_TOO_BIG;
	if (smtp_is_over(s->header.received, s->config->received_max))
		return REPLY_TOO_MANY_HOPS;
	if (smtp_is_over(s->header.bytes, s->config->header_bytes_max))
		return REPLY_HEADER_TOO_BIG;
	return REPLY_NONE;
}

/* Hands `body` out, unless it shows that the mail must be refused, or that was seen before. */
static void hand_out(struct smtp_server *s, struct turn *t, struct bytes body)
{
	if (s->refusal != REPLY_NONE)
		return;
	s->content_bytes += body.n;
	header_feed(&s->header, body);
	s->refusal = content_refusal(s);
	if (s->refusal != REPLY_NONE)
		smtp_aborts(s, t);
	else if (body.n > 0)
		*t->event = (struct smtp_event){.kind = SMTP_EVENT_BODY, .text = body};
}

/* The content is complete. */
static void end_content(struct smtp_server *s, struct turn *t, struct bytes command)
{
	if (s->refusal != REPLY_NONE) {
		enum reply refusal = s->refusal;
		smtp_forget_mail(s);
		smtp_enter(s, SMTP_READY);
		smtp_refuse(s, t, refusal, command);
		return;
	}
	s->has_mail = false; /* from here on it is the caller's alone */
	smtp_enter(s, SMTP_ASK_END);
	*t->event = (struct smtp_event){.kind = SMTP_EVENT_END};
}

void smtp_read_data(struct smtp_server *s, struct turn *t)
{
	struct bytes in = bytes_first(t->in, bound_left(s)), body;
	bool is_end;
	t->used = content_feed_data(&s->content, in, &body, &is_end);
	s->content_arrived += t->used;
	hand_out(s, t, body);
	if (is_end)
		end_content(s, t, BYTES_LITERAL("DATA"));
	else if (t->used == 0 && body.n == 0 && in.n < t->in.n)
		smtp_refuse_and_close(s, t, REPLY_TOO_BIG, BYTES_LITERAL("DATA"));
	else
		t->is_stuck = t->used == 0 && body.n == 0;
}

/* The bytes of one BDAT are all here. */
static void end_chunk(struct smtp_server *s, struct turn *t)
{
	if (s->is_last_chunk) {
		end_content(s, t, BYTES_LITERAL("BDAT"));
	} else if (s->refusal != REPLY_NONE) {
		smtp_enter(s, SMTP_FAILED);
		smtp_refuse(s, t, s->refusal, BYTES_LITERAL("BDAT"));
	} else {
		smtp_enter(s, SMTP_CHUNKS);
		char text[24];
		snprintf(text, sizeof text, "%llu", (unsigned long long)s->chunk_bytes);
		smtp_say_with(t->out, REPLY_CHUNK_OK, bytes_of_string(text));
	}
}

/* The line endings of a last chunk are settled before its end is told. */
static bool finishes(struct smtp_server *s, struct turn *t)
{
	if (!s->is_last_chunk || s->refusal != REPLY_NONE)
		return true;
	hand_out(s, t, content_finish_chunks(&s->content));
	return t->event->kind == SMTP_EVENT_NONE;
}

void smtp_read_chunk(struct smtp_server *s, struct turn *t)
{
	struct bytes chunk = bytes_first(t->in, s->chunk_left), body = BYTES_NONE;
	if (s->chunk_left == 0) {
		if (finishes(s, t))
			end_chunk(s, t);
		return;
	}
	t->used = content_feed_chunk(&s->content, chunk, &body);
	t->is_stuck = t->used == 0 && body.n == 0;
	s->chunk_left -= t->used;
	s->content_arrived += t->used;
	hand_out(s, t, body);
}

void smtp_skip_chunk(struct smtp_server *s, enum smtp_state after)
{
	s->content_arrived += s->chunk_left;
	s->after = (uint8_t)after;
	smtp_enter(s, SMTP_DISCARD);
}

void smtp_discard_chunk(struct smtp_server *s, struct turn *t)
{
	t->used = t->in.n < s->chunk_left ? t->in.n : s->chunk_left;
	t->is_stuck = t->used == 0 && s->chunk_left > 0;
	s->chunk_left -= t->used;
	if (s->chunk_left == 0)
		smtp_enter(s, s->after);
}
