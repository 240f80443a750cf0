// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/world.h: what is around a queue, for its tests: spool, routes and cores, in virtual time. It does what the
 * effects ask, checks what the queue promises after each one, and writes down what happened. */
#pragma once

#include "smtp/queue/queue.h"

enum {
	WORLD_DOMAINS = 64,
	WORLD_RECIPIENTS = 1024, /* of one mail */
	WORLD_LOG = 1 << 16,
};

/* How a domain behaves now; a test changes it as it likes. */
struct world_domain {
	char name[128];
	char site[64];
	char profile[32];
	enum { WORLD_ROUTE_OK, WORLD_ROUTE_DEFER, WORLD_ROUTE_FAIL, WORLD_ROUTE_MUTE } route;
	uint16_t code; /* of every recipient; 0: 250 */
	uint16_t code_of_x; /* if not 0: of recipients that begin with x */
	bool is_down, has_bad_tls;
	bool keeps; /* the connection stays open */
};

struct world_recipient {
	struct bytes address; /* in the envelope */
	uint32_t delivered, bounced, removed, deferred;
	bool is_double; /* of one before it */
};

/* A mail in the spool. */
struct world_mail {
	uint64_t id;
	unsigned number; /* as the test calls it; DSNs go on counting */
	uint8_t *all;
	size_t size, envelope_size;
	uint8_t *state;
	size_t state_size;
	bool is_dsn, is_durable, is_admitted, is_done;
	unsigned lives; /* queues that have had it: crashes make more */
	struct world_recipient *recipients;
	uint32_t recipient_count;
};

struct world_event;

struct world {
	struct queue_config config;
	struct queue *q;
	uint64_t now_us, start_us;
	struct mail_pool *pool, *dsn_pool; /* of mails accepted and read back; of DSNs */
	struct world_domain domains[WORLD_DOMAINS];
	unsigned domain_count;
	struct world_mail *mails; /* by number - 1 */
	unsigned mail_count, mail_room;
	struct world_event *events; /* to come, soonest first */
	unsigned active_jobs, active_max, loads;
	uint64_t last_id, random;
	unsigned generation;
	/* Chances out of 1,000. */
	unsigned load_fails, submit_fails, crash;
	unsigned job_seconds_max; /* 0: one */
	bool logs_states;
	bool checks_always; /* world_check() after every event */
	size_t mails_at_once, dsns_at_once; /* what the pools hold */
	bool is_crashed; /* in the middle of the effects: world_crash() is to be called */
	unsigned crashes;
	unsigned starts, asks, all_loads, submits; /* counted */
	char log[WORLD_LOG];
	size_t log_size;
};

/* With a configuration that a test may change before world_open(). */
void world_init(struct world *w, uint64_t seed);
void world_open(struct world *w);
void world_close(struct world *w);
/* The domain of that name, made if it is new: well, on a site of its own name. */
struct world_domain *world_domain(struct world *w, const char *name);
/* Accepts a mail, makes it durable and admits it; its number. */
unsigned world_mail(struct world *w, const char *sender, const char *const *recipients, unsigned count);
struct world_mail *world_mail_of_id(struct world *w, uint64_t id);
/* Lets time pass. Stops early when a crash has come by chance. */
void world_run(struct world *w, uint64_t seconds);
/* Does what the queue asks for now. */
void world_pump(struct world *w);
/* The process is gone at once; another one recovers what is durable. */
void world_crash(struct world *w);
/* A number below `below`. */
unsigned world_random(struct world *w, unsigned below);
/* Everything that must hold at any time. */
void world_check(struct world *w);
