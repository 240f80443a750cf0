// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/queue.h: every mail between our 250 and the next hop's (or its DSN).
 *
 * Belongs to one thread, the queue thread; takes the time as an argument and does no I/O: it is told what
 * happened and says, as effects, what to do. `now_us` is wall-clock time, since next tries outlive a restart. After
 * each call take effects until there are none: part of the work is done as they are taken. A mail's recipients are grouped by destination; each group is
 * an *item*; items wait under a *site* (queue key: route, source, TLS profile), which bounds connections.
 * An item is: ROUTING (waits for a route) -> READY -> LOADING (its body is read back from the spool) ->
 * ACTIVE (on a core) -> gone, or WAITING (till its next try) or HELD (by an operator), then ROUTING again.
 * From admission until its spool record says done, a mail can always be listed. */
#pragma once

#include "base/addr.h"
#include "smtp/client/session.h"
#include "smtp/mail.h"
#include "smtp/record.h"
#include "smtp/spool/spool.h"
#include "tls/profile.h"

struct queue;

struct queue_config {
	const char *hostname;		/* reporting MTA of DSNs; sender host of postmaster@ */
	uint64_t mails_max;		/* queue_has_room() is false at this many */
	uint32_t retry_first_seconds;	/* the wait after the first try … */
	uint32_t retry_factor_percent;	/* … times this each time (150: one and a half) … */
	uint32_t retry_most_seconds;	/* … up to this */
	uint32_t lifetime_seconds;	/* bounce after it (5 days) */
	uint32_t dsn_lifetime_seconds;	/* for mails with a null sender */
	uint32_t delay_warning_seconds; /* 0: none */
	uint32_t connections_per_site_max;
	uint32_t mails_per_connection_max;
	uint32_t idle_connection_seconds; /* how long a connection is kept for the next mail */
	uint32_t cores;			  /* jobs go to cores 0..cores-1 */
	uint32_t jobs_max;	     /* jobs at once, all cores; 0: 20,000 */
	uint64_t resident_bytes_max; /* of pool memory (mail_held_bytes): above it, bodies that wait for
					a full site go home; 0: never */
	struct mail_pool *dsn_pool;	  /* DSNs are built in it; the queue thread's own */
};

struct queue *queue_create(const struct queue_config *config); /* NULL: no memory */
void queue_destroy(struct queue *q);

/* ---- what happened ---- */
/* A mail is durable and resident: the queue owns it from now on, and may evict its body when it has to wait. */
void queue_admit(struct queue *q, struct mail *mail, uint64_t now_us);
/* At start: a mail found by recovery. */
void queue_recover(struct queue *q, const struct spool_found *found, uint64_t now_us);
bool queue_has_room(const struct queue *q);

/* Where an item may be delivered. Hosts in order of preference, as the route said. */
#define QUEUE_TARGETS_MAX 32
#define QUEUE_HOST_MAX	  256
struct queue_target {
	char host[QUEUE_HOST_MAX]; /* name for SNI, verification and records; may be an address's text */
	struct addr addr;
	uint16_t port;
	bool implicit_tls;
};
struct queue_route {
	/* Outcome of routing a domain. FAIL is final, DEFER is tried again; both give `reply`. */
	enum queue_route_outcome { QUEUE_ROUTE_OK, QUEUE_ROUTE_DEFER, QUEUE_ROUTE_FAIL } outcome;
	char site[300];	       /* the queue key's route part: same text, same site */
	struct tls_profile profile; /* resolved before connecting; part of the queue key by its id */
	char rule_id[64];
	uint64_t generation;
	uint32_t target_count;
	struct queue_target targets[QUEUE_TARGETS_MAX];
	struct smtp_reply reply;
};
/* Answers QUEUE_EFFECT_ROUTE; `token` as given there; an unknown token is ignored. */
void queue_route_answer(
	struct queue *q, uint64_t token, const struct queue_route *route, uint64_t now_us);
/* The DSN of a QUEUE_EFFECT_SUBMIT could not be made durable (its memory went home): it is made anew later.
 * If neither this nor its queue_admit() comes within five minutes, too. */
void queue_submit_failed(struct queue *q, uint64_t mail_id, uint64_t now_us);
/* Answers QUEUE_EFFECT_LOAD: the mail read back, now resident (the queue owns it); NULL: not now. */
void queue_loaded(struct queue *q, uint64_t mail_id, struct mail *mail, uint64_t now_us);

/* What a delivery found out beside the replies, for the record. Filled by the core. */
struct queue_evidence {
	char host[QUEUE_HOST_MAX];
	struct addr addr;
	uint16_t port;
	char profile[64], rule_id[64], tls_level[12];
	uint64_t generation;
	char tls_version[12], cipher[48], group[32];
	uint16_t bits, bits_total;
	bool is_resumed, is_downgraded; /* downgraded: clear text after a failed handshake */
	bool is_small_hello; /* without a large key share: the host had not answered a large ClientHello */
	char verify[12], verify_message[96], cert_subject[128], cert_issuer[128];
};

/* A delivery on a core. The queue owns the memory; between QUEUE_EFFECT_START and queue_job_finished() the
 * core may read all of it and writes only what is marked so. */
struct queue_job {
	const struct mail *mail;
	struct bytes sender;
	const struct bytes *recipients;
	uint32_t recipient_count;
	uint8_t body_flags;
	const struct queue_route *route;
	/* An open connection to use, if it is still there: what a finished job left in `kept`. */
	uint32_t core;
	uint32_t connection_slot, connection_generation; /* generation 0: none */
	uint32_t mails_left; /* the connection may be kept after this mail if over 0 */
	/* --- the core writes --- */
	struct smtp_reply *outcomes; /* one for each recipient: 2xx delivered, 4xx later, 5xx failed */
	struct queue_evidence evidence;
	bool is_connect_failure; /* no target could be talked to: the site is down, not the mail bad */
	bool is_tls_failure;	 /* deferred for a TLS reason: tried again at once with a new generation */
	uint32_t kept_slot, kept_generation; /* the connection is open for the next; generation 0: closed */
};
/* The core is done with the job: every outcome is filled. */
void queue_job_finished(struct queue *q, struct queue_job *job, uint64_t now_us);

/* A new policy generation is in force: what waits for TLS reasons, and all routes known, are looked at anew. */
void queue_policy_changed(struct queue *q, uint64_t now_us);
/* Moves what is due. Call when queue_next_due_us() has passed, or after any of the above. */
void queue_tick(struct queue *q, uint64_t now_us);
/* When queue_tick() has something to do next (UINT64_MAX: not before something happens). */
uint64_t queue_next_due_us(const struct queue *q);

/* ---- what to do ---- */
enum queue_effect_kind {
	QUEUE_EFFECT_ROUTE,  /* find the route for `domain` and `sender`; answer with `token` */
	QUEUE_EFFECT_LOAD,   /* read mail_id back from the spool (spool thread); answer queue_loaded() */
	QUEUE_EFFECT_START,  /* run `job` on job->core */
	QUEUE_EFFECT_STATE,  /* spool_put_state(mail_id, state) */
	QUEUE_EFFECT_DONE,   /* spool_done(mail_id) */
	QUEUE_EFFECT_RETURN, /* send `mail` home: mail_return(), since the queue forgets it */
	QUEUE_EFFECT_SUBMIT, /* `mail` (a DSN in dsn_pool) is to be appended, committed and, once durable,
				admitted; the mail it is about is not done before that */
	QUEUE_EFFECT_RECORD, /* write `record` */
};
struct queue_effect {
	enum queue_effect_kind kind;
	uint64_t token;
	uint64_t mail_id;
	struct bytes domain, sender; /* ROUTE */
	struct bytes state;	     /* STATE */
	struct mail *mail;
	bool is_evict; /* RETURN: mail_evict() instead of mail_return(); never so at present */
	struct queue_job *job;
	const struct record *record;
};
/* The next thing to do, in order; false: nothing. Ranges in it are valid until the next call on the queue. */
bool queue_next_effect(struct queue *q, struct queue_effect *effect);

/* ---- operators ---- */
enum queue_item_state {
	QUEUE_ITEM_ROUTING,
	QUEUE_ITEM_READY,
	QUEUE_ITEM_LOADING,
	QUEUE_ITEM_ACTIVE,
	QUEUE_ITEM_WAITING,
	QUEUE_ITEM_HELD,
};
const char *queue_item_state_name(enum queue_item_state state);

/* Which items; empty fields match all. */
struct queue_selection {
	uint64_t mail_id;     /* 0: any */
	struct bytes domain;  /* recipient domain, without case */
	struct bytes reason;  /* a part of the reason, without case */
	struct bytes sender;  /* exact */
	int state;	      /* enum queue_item_state, or -1 */
};
struct queue_item_info {
	uint64_t mail_id;
	uint32_t item; /* its number in the mail */
	enum queue_item_state state;
	uint64_t size, received_us, next_try_us, last_try_us, expires_us;
	uint32_t tries;
	struct bytes sender, domain, site, profile;
	const struct bytes *recipients; /* not done yet */
	uint32_t recipient_count;
	const struct smtp_reply *reason; /* the last one; code 0: none yet */
	bool is_resident;
};
/* Where a list goes on: behind this item of this mail. */
struct queue_place {
	uint64_t mail_id;   /* 0: from the start */
	uint32_t item;	    /* its number in the mail */
};
#define QUEUE_PLACE_WHOLE UINT32_MAX /* behind all items of the mail */
/* Calls `each` for items that match, oldest mail first and those of a mail by their numbers, from behind `after` on,
 * until it returns false. An item's number is its first recipient's: it may grow while the list is had in
 * pieces, so that an item may be seen twice, but none is passed over. */
void queue_list(struct queue *q, const struct queue_selection *selection, struct queue_place after,
	bool (*each)(void *user, const struct queue_item_info *info), void *user);
/* Each returns the number of items it changed; an item that is on a core is changed when it comes back
 * (hold, remove) or left alone (retry). remove makes no DSN. */
uint64_t queue_retry(struct queue *q, const struct queue_selection *selection, uint64_t now_us);
uint64_t queue_hold(struct queue *q, const struct queue_selection *selection);
uint64_t queue_release(struct queue *q, const struct queue_selection *selection, uint64_t now_us);
uint64_t queue_remove(struct queue *q, const struct queue_selection *selection, uint64_t now_us);

struct queue_stats {
	uint64_t mails, items, routing, ready, loading, active, waiting, held;
	uint64_t delivered, deferred, bounced, removed, dsns; /* since the start, recipients */
};
void queue_get_stats(const struct queue *q, struct queue_stats *stats);
