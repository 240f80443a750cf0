// SPDX-License-Identifier: Apache-2.0
/* smtp/client/test_watch.h: what must hold of every session, whatever the server says. Aborts where it does
 * not, so that tests and fuzzing share it. */
#pragma once

#include "smtp/client/session.h"

#include <stdio.h>
#include <stdlib.h>

#define WATCH_RCPTS_MAX 8192

#define watch_that(w, condition)                                                                   \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct watch {
	uint32_t recipients; /* of the open job; 0: none is open */
	uint32_t told;
	bool is_told[WATCH_RCPTS_MAX];
	uint32_t delivered, deferred, failed; /* of the job, also after it */
	uint32_t jobs_done;
	bool is_over;	     /* FAILED or CLOSED was told */
	bool is_clear_must;  /* TLS is a must and not there: no mail may be written */
	uint8_t last_sent;   /* to see bare CR and LF */
	struct smtp_reply last;
	enum smtp_client_event_kind last_kind;
};

static inline void watch_begin(struct watch *w, uint32_t recipients)
{
	watch_that(w, w->recipients == 0 && !w->is_over && recipients <= WATCH_RCPTS_MAX);
	w->recipients = recipients;
	w->told = w->delivered = w->deferred = w->failed = 0;
	memset(w->is_told, 0, sizeof w->is_told);
}

static inline void watch_reply(struct watch *w, const struct smtp_reply *r)
{
	size_t n = strnlen(r->text, sizeof r->text);
	watch_that(w, n < sizeof r->text);
	watch_that(w, r->enhanced[0] == 0 || r->enhanced[0] == r->code / 100);
	for (size_t i = 0; i < n; i++)
		watch_that(w, (uint8_t)r->text[i] >= 0x20 && r->text[i] != 0x7f);
}

static inline void watch_recipient(
	struct watch *w, const struct smtp_client *c, const struct smtp_client_event *e)
{
	unsigned class = e->reply.code / 100;
	watch_that(w, e->index < w->recipients && !w->is_told[e->index]);
	watch_that(w, class == 2 || class == 4 || class == 5);
	/* A delivery is the server's word, after all of the content. */
	watch_that(w, class != 2 || (!e->reply.is_ours && smtp_client_has_sent_all(c)));
	w->is_told[e->index] = true;
	w->told++;
	w->delivered += class == 2;
	w->deferred += class == 4;
	w->failed += class == 5;
}

static inline void watch_event(
	struct watch *w, const struct smtp_client *c, const struct smtp_client_event *e)
{
	watch_that(w, !w->is_over || e->kind == SMTP_CLIENT_NONE);
	switch (e->kind) {
	case SMTP_CLIENT_RECIPIENT: watch_recipient(w, c, e); break;
	case SMTP_CLIENT_DONE:
		watch_that(w, w->recipients != 0 && w->told == w->recipients);
		w->recipients = 0;
		w->jobs_done++;
		break;
	case SMTP_CLIENT_READY: watch_that(w, w->recipients == 0 && !w->is_clear_must); break;
	case SMTP_CLIENT_FAILED:
		watch_that(w, e->reply.code / 100 == 4 || e->reply.code / 100 == 5);
		[[fallthrough]];
	case SMTP_CLIENT_CLOSED:
		watch_that(w, w->recipients == 0);
		w->is_over = true;
		break;
	case SMTP_CLIENT_STARTTLS:
	case SMTP_CLIENT_NONE: break;
	}
	if (e->kind == SMTP_CLIENT_RECIPIENT || e->kind == SMTP_CLIENT_DONE ||
		e->kind == SMTP_CLIENT_FAILED) {
		watch_reply(w, &e->reply);
		w->last = e->reply;
	}
	if (e->kind != SMTP_CLIENT_NONE)
		w->last_kind = e->kind;
}

/* What goes on the wire: CR and LF only together. */
static inline void watch_sent(struct watch *w, struct bytes b)
{
	for (size_t i = 0; i < b.n; i++) {
		watch_that(w, (b.at[i] == '\n') == (w->last_sent == '\r'));
		w->last_sent = b.at[i];
	}
}
