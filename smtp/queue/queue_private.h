// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/queue_private.h: the mails, items, sites and routes of the queue, for its own files.
 *
 * Nothing here walks all mails at once: what an event changes for many items is put on a list, and one
 * step of it is done each time the caller asks for an effect (queue_step), so that both the time of a
 * call and the effects kept in memory stay bounded.
 *
 *   mail.c    mails, their items, residency        route.c   the cache of routes
 *   item.c    the states of an item                site.c    sites, kept connections, starting jobs
 *   result.c  what came of an attempt              bounce.c  giving up, DSNs
 *   state.c   what outlives a restart              operator.c  list, retry, hold, release, remove
 *   effect.c  effects and records                  dsn.c     the text of a DSN */
#pragma once

#include "smtp/envelope.h"
#include "smtp/queue/due.h"
#include "smtp/queue/list.h"
#include "smtp/queue/queue.h"
#include "smtp/queue/reason.h"
#include "smtp/queue/table.h"

#define SECONDS 1000000ull

enum {
	ITEM_RECIPIENTS_MAX = 100,	/* of one job: what every server must take (RFC 5321 4.5.3.1.8) */
	LOADS_MAX = 64,			/* bodies being read back at once */
	LOAD_SECONDS_MAX = 60,		/* then the answer is taken for lost */
	LOAD_AGAIN_SECONDS = 1,		/* after "not now" */
	LOAD_FAILURES_MAX = 10,		/* in a row; then by the schedule, or a DSN without the header */
	ASK_SECONDS_MAX = 60,		/* for a route; then the item is deferred */
	ROUTE_SECONDS = 60,		/* how long a route is used again */
	ROUTES_MAX = 65536,		/* known at once */
	DSN_AGAIN_SECONDS = 5,		/* after dsn_pool was empty */
	SUBMIT_SECONDS_MAX = 300,	/* till a DSN is durable; then it is made anew */
	JOBS_MAX = 20000,		/* if the configuration does not say */
};

/* One mail, from queue_admit() until its DONE is popped. In one piece with the text it needs: envelope
 * fields not needed to deliver or bounce are not kept. */
struct queued_mail {
	uint64_t id;
	struct queued_mail *left, *right; /* the tree of all mails (mail.c) */
	struct link dirty;		  /* in q->dirty: its state, or its end, is to be written */
	struct link items;
	struct mail *mail; /* NULL: not resident */
	uint64_t session_id, received_us, size;
	uint32_t recipient_count; /* of the envelope */
	uint32_t hot;		  /* items that will want the body soon: ROUTING READY LOADING ACTIVE */
	uint32_t jobs;		  /* items whose job reads the body now */
	uint8_t body_flags;	  /* ENVELOPE_8BITMIME … */
	bool is_loading;	  /* a LOAD is out */
	bool is_over;		  /* nothing left but to write it down */
	bool is_unreadable;	  /* its envelope is not understood: kept for the operator */
	uint16_t sender_n;
	uint8_t text[]; /* sender, a bit for each recipient done, recipients */
};

/* One job's worth: recipients of one mail in one domain. */
struct item {
	struct queued_mail *mail;
	struct link of_mail;
	struct link link; /* by state: the ask (ROUTING), site (READY), q->load_wait (LOADING); WAITING:
			     q->tls_waiting, q->woken or q->removing */
	struct due due;	  /* WAITING: next try. LOADING, ACTIVE for a DSN: the answer's deadline */
	struct site *site;	/* READY, LOADING, ACTIVE, unless it is a bounce */
	struct route *route;	/* same */
	union {
		struct job *job;	     /* ACTIVE */
		struct submission *submission; /* ACTIVE and is_bounce */
	};
	const char *stage;		 /* is_bounce: for the record */
	struct queue_evidence *evidence; /* same; NULL: none */
	uint64_t first_try_us, last_try_us;
	uint32_t tries;
	uint32_t count, room; /* recipients */
	uint8_t state;	      /* enum queue_item_state; item_enter() alone writes it */
	uint8_t load_failures;
	bool is_bounce; /* given up: what is to be done now is a DSN */
	bool is_warned; /* the delay warning has been sent */
	bool is_forced; /* an operator wants it tried whatever its site's back-off */
	bool is_tls;	/* deferred for a TLS reason */
	bool wants_hold, wants_remove; /* when it comes back from its core */
	struct bytes recipients[]; /* room; then as many reasons, then as many numbers */
};

static inline struct reason **item_reasons(struct item *i)
{
	return (struct reason **)(void *)(i->recipients + i->room);
}
static inline uint32_t *item_numbers(struct item *i)
{
	return (uint32_t *)(void *)(item_reasons(i) + i->room);
}

/* A route as answered, shared by all to whom the same was answered. */
struct route {
	struct table_link by_content;
	uint32_t refs;
	uint64_t epoch; /* q->epoch when answered */
	struct queue_route route;
};

/* What has been asked, or is known, for a (sender, domain). */
struct ask {
	struct table_link by_key, by_token;
	struct link age;      /* q->known, oldest first; alone while asked or forgotten */
	struct link answered; /* q->answered, while items wait that have not heard */
	struct link items;    /* waiting for it */
	struct due due;	      /* the answer's deadline */
	uint64_t token, epoch, answered_us;
	bool is_answered, is_forgotten; /* forgotten: out of by_key, goes when nobody waits */
	struct route *route;   /* answered: where to; NULL: nowhere, then why */
	struct reason *reason;
	uint16_t sender_n, domain_n;
	uint8_t key[]; /* sender, domain */
};

struct kept {
	uint32_t core, slot, generation, mails_left;
	uint64_t until_us, epoch;
};

struct site {
	struct table_link by_key;
	struct link busy; /* q->busy, or q->blocked: there is something to be done */
	struct link ready;
	struct due due; /* of the end of an unused site */
	uint32_t active, loading; /* connections in use, and spoken for */
	uint32_t failures;	  /* connects failed in a row */
	uint64_t backoff_until_us;
	struct reason *reason; /* of the back-off */
	struct kept *kept;     /* oldest first */
	uint32_t kept_count, kept_room;
	uint16_t name_n, profile_n;
	uint8_t key[]; /* name, profile id */
};

struct job {
	struct queue_job job;
	struct item *item;
	struct smtp_reply outcomes[];
};

/* A DSN that is on its way to the spool. */
struct submission {
	struct table_link by_id;
	uint64_t dsn_id;
	struct item *item; /* NULL: not waited for any more */
};

struct effect {
	struct effect *next;
	struct queue_effect effect;
	alignas(8) uint8_t tail[]; /* what the ranges and the record point to */
};

struct queue {
	struct queue_config config;
	char hostname[256];
	uint64_t now_us; /* as told last */
	uint64_t epoch;	 /* counts policy generations */
	uint64_t last_token, last_dsn_id;
	struct hash_key key;
	struct queued_mail *mails;
	uint64_t mail_count, resident_bytes;
	uint64_t by_state[6];
	struct queue_stats stats; /* the counts since the start */
	struct due_heap due;
	struct table asks_by_key, asks_by_token, routes, sites, submissions;
	struct link known, answered;
	struct link busy, blocked;   /* sites: to be stepped; waiting for a free job */
	struct link dirty;	     /* mails */
	struct link tls_waiting, woken, removing, load_wait; /* items */
	uint32_t jobs, loads;
	uint32_t *core_jobs, next_core;
	struct effect *first, *last, *current;
	uint8_t *scratch;
	size_t scratch_room;
};

/* Never NULL: with no memory left it aborts. All is in the spool: a restart finds it again. */
void *queue_calloc(size_t n, size_t size);
/* `n` bytes to work in, until the next call. */
uint8_t *queue_scratch(struct queue *q, size_t n);
/* The wait after so many tries. */
uint64_t queue_wait_us(const struct queue *q, uint32_t tries);

/* mail.c */
struct queued_mail *mail_find(struct queue *q, uint64_t id);
/* The mail with the lowest id above `id`; NULL: none. */
struct queued_mail *mail_after(struct queue *q, uint64_t id);
struct bytes mail_sender(const struct queued_mail *m);
bool mail_is_from_nobody(const struct queued_mail *m); /* null sender, or a DSN: gets no DSN */
uint64_t mail_expires_us(const struct queue *q, const struct queued_mail *m);
uint8_t *mail_done_bits(struct queued_mail *m);
static inline bool mail_is_done(struct queued_mail *m, uint32_t number)
{
	return mail_done_bits(m)[number / 8] >> (number % 8) & 1;
}
void mail_set_done(struct queued_mail *m, uint32_t number);
void mail_set_dirty(struct queue *q, struct queued_mail *m);
/* Sends the body home if nobody will want it soon. */
void mail_cool(struct queue *q, struct queued_mail *m);
/* Sends the body home unless a job reads it. */
void mail_evict_body(struct queue *q, struct queued_mail *m);
/* `mail` is the body of `m`, or else goes home at once. */
void mail_take_body(struct queue *q, struct queued_mail *m, struct mail *mail);
/* Its DONE is written down. */
void mail_forget(struct queue *q, struct queued_mail *m);
void mail_free_all(struct queue *q);

/* item.c */
struct bytes address_domain(struct bytes address); /* after the last @, or empty */
struct item *item_make(struct queue *q, struct queued_mail *m, uint32_t room);
void item_add(struct item *i, struct bytes recipient, uint32_t number, struct reason *reason);
struct bytes item_domain(const struct queue *q, const struct item *i);
void item_set_reason(struct item *i, uint32_t at, struct reason *reason); /* takes the reference */
void item_set_reasons(struct item *i, struct reason *reason);		  /* of all; takes its own */
/* Recipient `at` has its final outcome. The last one of the list takes its place. */
void item_finish_recipient(struct queue *q, struct item *i, uint32_t at);
/* Ends an item that has no recipients left; the mail too, if it was the last. */
void item_end(struct queue *q, struct item *i);
/* The one writer of the state: leaves the lists and counts of the state before. Linking is the caller's. */
void item_enter(struct queue *q, struct item *i, enum queue_item_state next);
void item_wait(struct queue *q, struct item *i, uint64_t until_us); /* WAITING */
void item_wake(struct queue *q, struct item *i); /* WAITING, to go on at the next step */
void item_hold(struct queue *q, struct item *i); /* HELD */
/* On its way again: to a route, or to its DSN. */
void item_go(struct queue *q, struct item *i);
void item_load(struct queue *q, struct item *i); /* LOADING */
bool item_load_step(struct queue *q);		 /* one LOAD, if there may be one */
/* Its time has come, in whatever state it has one. */
void item_due(struct queue *q, struct item *i);

/* route.c */
void item_find_route(struct queue *q, struct item *i); /* asks, or goes on with what is known */
void route_release(struct queue *q, struct route *r);
bool route_step(struct queue *q); /* one item hears an answer */
void route_overdue(struct queue *q, struct ask *ask);
void route_free_all(struct queue *q);

/* site.c */
void site_add(struct queue *q, struct item *i, struct route *route); /* READY; takes the reference */
bool site_step(struct queue *q);
void site_start(struct queue *q, struct item *i); /* of a LOADING item that is resident now */
/* What a finished job says about the connection and the site. */
void site_job_finished(struct queue *q, const struct item *i, const struct queue_job *job);
/* An item has left: does the site go on, or can it be forgotten? */
void site_settle(struct queue *q, struct site *site);
void site_overdue(struct queue *q, struct site *site);
void site_free_all(struct queue *q);

/* result.c */
struct attempt {
	const struct queue_evidence *evidence; /* NULL: there was none */
	const char *stage;
	uint64_t not_before_us;
	bool is_try;	 /* to be counted as a try here */
	bool is_untried; /* it was another's try: this one waits no longer than `not_before_us` */
};
/* To WAITING or HELD, or given up if its time is over. true: it waits (else it may be gone). */
bool item_defer(struct queue *q, struct item *i, const struct attempt *attempt);

/* bounce.c */
/* Gives up on all its recipients, each for its reason. The item may be gone after it. */
void item_bounce(struct queue *q, struct item *i, const struct attempt *attempt);
void bounce_go(struct queue *q, struct item *i);
void bounce_warn(struct queue *q, struct item *i);
void bounce_overdue(struct queue *q, struct item *i);
/* If `id` is a DSN that is waited for, its item is over. */
void bounce_durable(struct queue *q, uint64_t dsn_id);
void bounce_leave(struct queue *q, struct item *i); /* the item does not wait for it any more */
void bounce_free_all(struct queue *q);

/* state.c */
/* The state of `m` as bytes in the scratch buffer. */
struct bytes state_encode(struct queue *q, struct queued_mail *m);
struct state_item {
	uint64_t first_try_us, last_try_us, next_try_us;
	uint32_t tries, count;
	bool is_held, is_warned;
	struct bytes numbers, reasons;
};
struct state_cursor {
	struct bytes done; /* a bit for each recipient */
	struct bytes rest;
	uint32_t items_left;
};
/* false: not one of ours, for this many recipients. */
bool state_open(struct bytes state, uint32_t recipient_count, struct state_cursor *cursor);
bool state_next_item(struct state_cursor *cursor, struct state_item *item);
uint32_t state_number(const struct state_item *item, uint32_t at);
/* The next run of recipients that share a reason (NULL: none), which is the caller's. */
bool state_next_reason(struct state_item *item, uint32_t *run, struct reason **reason);

/* effect.c */
struct effect *effect_push(struct queue *q, enum queue_effect_kind kind, size_t tail);
/* A record of recipient `at`; `reply` NULL: its reason. */
void effect_record(struct queue *q, const struct item *i, uint32_t at,
	enum record_disposition disposition, const struct smtp_reply *reply,
	const struct attempt *attempt);
void effect_free_all(struct queue *q);
