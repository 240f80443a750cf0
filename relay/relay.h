// SPDX-License-Identifier: Apache-2.0
/* relay/relay.h: hikyaku-relay, put together: which thread owns what, and the rings between them.
 *
 *   worker 0..N-1  connections, TLS and SMTP sessions, the pool accepted mails are written into
 *   spool thread   the spool; appends and commits of all workers, one fdatasync a batch
 *   queue thread   the queue, routes; jobs to the workers
 *   main thread    the link to control, generations (builds and frees TLS contexts), records, counters
 *
 * Threads share only what is declared here: SPSC rings and a few atomic words. A message that carries a
 * pointer carries ownership with it, except that a job's mail and route are borrowed from the queue thread
 * until the job comes back. Workers never wait on a ring: what does not fit is tried again next turn. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/ring.h"
#include "control/config/config.h"
#include "control/shm/policy.h"
#include "dataplane/dataplane.h"
#include "smtp/mail.h"
#include "smtp/queue/queue.h"
#include "smtp/record.h"
#include "smtp/spool/spool.h"
#include "tls/tls.h"

struct relay;
struct worker;

/* ---- generations: relay/generation.c ---- */

/* The policy as one thread uses it. Made by the main thread, taken by its user at a quiescent point of its
 * loop, and handed back when nothing refers to it any more. */
struct view {
	struct view *next;		/* the user's list of views it no longer takes for new sessions */
	const struct policy *policy;	/* shared by all views of the generation */
	struct generation *generation;	/* main thread only */
	uint64_t number;
	struct tls_server_set *server;	/* workers only */
	struct tls_client_set *client;
};

/* A user's end of the hand-over; one producer and one consumer each way. */
struct view_box {
	_Atomic(struct view *) offered; /* main puts, the user takes (exchange) */
	struct ring returned;		/* user -> main */
	/* The user's alone: */
	struct view *current;
	struct view *retired;
};
#define VIEW_RETURNED_RING 1024

/* User, at a quiescent point: true if a new view became current. */
bool view_refresh(struct view_box *box);
/* User: hands back retired views without sessions. Cheap; some times a second. */
void view_collect(struct view_box *box);

/* Main: builds views for all users from a generation and offers them. 0, or -errno with `error`: the relay
 * goes on with the last generation. Takes the descriptors in every case. */
int generation_offer(struct relay *relay, int policy_fd, int keys_fd, char error[512]);
/* Main: builds the workers' views of the newest generation anew, for what is not of the policy (the back end) and holds
 * for new handshakes. Nothing, if there is no generation yet. 0 or -errno with `error`. */
int generation_renew(struct relay *relay, char error[512]);
/* Main: frees what users have handed back. */
void generation_collect(struct relay *relay);

/* ---- the TLS back end: relay/backend.c ---- */
/* Main, once there are workers: what tls.offload says; if that cannot be used, what tls.offload_missing says. 0, or
 * -errno with `error`: the relay is not to start. */
int backend_choose(struct relay *relay, char error[256]);
/* Main, by an operator: for new handshakes, until the relay ends. 0 or -errno with `error`, and nothing has changed. */
int backend_change(struct relay *relay, const char *name, char error[512]);

/* ---- records: relay/record.c, relay/record_file.c ---- */

#define RECORD_RING 4096
/* From one thread to the main thread: full slots one way, empty ones the other. */
struct record_lane {
	struct record *slots;
	struct ring full, empty;
	_Atomic uint64_t lost; /* no empty slot was left: counted, never silent */
};
/* false: no memory. */
bool record_lane_init(struct record_lane *lane);
/* The producer: a cleared record to fill, or NULL (counted as lost). Then it must be pushed, and is the main thread's. */
struct record *record_get(struct record_lane *lane);
void record_push(struct record_lane *lane, struct record *record);
/* One JSON line into `to`, newline at its end; the length. A field that does not fit is left out. `size` is 3 at
 * least; RECORD_LINE_MAX is enough for any record: six bytes for each of a peer's, and the keys. */
size_t record_format(const struct record *record, char *to, size_t size);
#define RECORD_LINE_MAX 20480
/* The same as key=value, for syslog: no time (syslog has its own), no newline, NUL at its end. */
size_t record_format_text(const struct record *record, char *to, size_t size);

struct record_file;
/* Main: by the settings paths.records, log.journal and log.syslog. 0 or -errno with `error`. It lives as long as the
 * process. */
int record_file_open(struct record_file **file, const struct config *config, char error[256]);
/* What is kept is written, and the file opened anew under its name (which logrotate has given to another). */
void record_file_reopen(struct record_file *file);
/* Main: writes what has come from all lanes; true if there was something. */
bool records_drain(struct relay *relay);

/* ---- spool thread: relay/spool_thread.c ---- */

/* Worker to spool, two words an operation: the mail with the operation in its low bits, then the chunk (of
 * an append, else unused). */
enum spool_op { SPOOL_OP_APPEND, SPOOL_OP_COMMIT, SPOOL_OP_ABORT };
#define SPOOL_OP_MASK 7ul

/* Spool to worker, one word: what became of a commit. */
struct verdict_word {
	uint32_t slot, generation;
	bool is_durable;
};
static inline void *verdict_pack(uint32_t slot, uint32_t generation, bool is_durable)
{
	return (void *)(((uint64_t)slot << 34) | ((uint64_t)generation << 2) | (is_durable ? 2u : 0u) | 1u);
}
static inline struct verdict_word verdict_unpack(const void *word)
{
	uint64_t v = (uint64_t)word;
	return (struct verdict_word){
		.slot = (uint32_t)(v >> 34), .generation = (uint32_t)(v >> 2), .is_durable = v & 2};
}

/* Queue to spool; from the heap, freed by the spool thread when it has seen to it. */
enum spool_request_kind {
	SPOOL_REQUEST_STATE,
	SPOOL_REQUEST_DONE,
	SPOOL_REQUEST_SUBMIT, /* append and commit a mail of the queue's (a DSN): durable, it comes as any other */
	SPOOL_REQUEST_LOAD,
	SPOOL_REQUEST_CONTENT, /* for an operator */
};
struct spool_request {
	struct spool_request *next;
	enum spool_request_kind kind;
	uint64_t id, token, offset;
	struct mail *mail;
	size_t n;
	uint8_t bytes[];
};
/* Spool to queue; from the heap, freed by the queue thread. */
enum spool_report_kind {
	SPOOL_REPORT_LOADED,
	SPOOL_REPORT_CONTENT,
	SPOOL_REPORT_SUBMIT_FAILED, /* the mail has gone home: make it anew */
};
struct spool_report {
	enum spool_report_kind kind;
	uint64_t id, token, offset, size;
	uint32_t envelope_size;
	struct mail *mail; /* NULL: could not be loaded */
	size_t n;
	uint8_t bytes[];
};
struct spool_thread {
	pthread_t thread;
	struct relay *relay;
	struct disk *disk;
	struct spool *spool;
	struct mail_pool *reload_pool; /* bodies read back */
	struct ring from_queue, to_queue;
	_Atomic bool is_full; /* the last append found the disk full or failing: refuse new mails */
	struct spool_stats stats; /* copied from time to time, by words_copy() */
	_Atomic uint64_t commits, batches, failures;
};
/* Main, before the threads: opens the spool, and tells `found` of each mail in it (smtp/spool/spool.h), which takes as long
 * as reading all of them. 0 or -errno with `error`. */
int spool_thread_open(struct relay *relay, spool_found_fn *found, void *user, char error[256]);
/* 0 or -errno. It ends once is_spool_stopping is set and all is written: join `thread`. */
int spool_thread_start(struct relay *relay);

/* ---- queue thread: relay/queue_thread.c ---- */

/* Operators' requests and DNS questions go between the main and the queue thread as heap messages. */
enum note_kind {
	NOTE_REQUEST,	/* main -> queue: JSON of the link */
	NOTE_RESPONSE,	/* queue -> main: JSON for the link */
	NOTE_RESOLVED,	/* main -> queue: JSON of the link */
	NOTE_RESOLVE,	/* queue -> main: JSON for the link */
	NOTE_UNLINKED,	/* main -> queue: control is gone; what was asked is not answered */
};
struct note {
	struct note *next; /* of whoever keeps it, in a list */
	enum note_kind kind;
	size_t n;
	char json[]; /* n bytes, then a NUL */
};
/* Copies `json`; NULL: no memory. Whoever takes it off a ring frees it. */
struct note *note_new(enum note_kind kind, const char *json, size_t n);

struct queue_thread {
	pthread_t thread;
	struct relay *relay;
	struct queue *queue;
	struct mail_pool *dsn_pool;
	struct view_box views;
	struct record_lane records;
	struct ring from_main, to_main; /* struct note */
	struct spool_request *pending, **pending_end; /* did not fit into spool.from_queue yet */
	struct dns_cache *dns;
	_Atomic bool has_room;
	struct queue_stats stats; /* copied from time to time, by words_copy() */
};
/* Main, before the threads: the queue, empty; mails of the spool are put into it by spool_thread_open(). 0 or -errno with
 * `error`. */
int queue_thread_init(struct relay *relay, char error[256]);
/* 0 or -errno. It ends once is_stopping is set and all is said: join `thread`. */
int queue_thread_start(struct relay *relay);
/* The request, from the heap, is the spool thread's now; what has no room in the ring waits here. */
void queue_send_to_spool(struct queue_thread *q, struct spool_request *request);
/* relay/queue_ops.c: performs one request of the link; the response as a note. NULL: no memory, or the spool thread is
 * asked first (queue.content), whose report queue_ops_content() makes the response of. */
struct note *queue_ops_perform(struct queue_thread *q, const char *json, size_t n, uint64_t now_us);
struct note *queue_ops_content(const struct spool_report *report);
/* relay/routes.c: answers QUEUE_EFFECT_ROUTE, at once or when control has resolved names. The queue keeps times over
 * restarts, so by the wall clock; waits and the age of answers go by the other, which nobody sets. */
struct moment {
	uint64_t wall_us, monotonic_us;
};
struct dns_cache *dns_cache_create(struct queue_thread *q); /* NULL: no memory */
void dns_cache_destroy(struct dns_cache *dns);
/* Where a mail to `domain` goes; the queue hears it by queue_route_answer(), perhaps at once. */
void dns_route(struct dns_cache *dns, uint64_t token, struct bytes domain, struct bytes sender, struct moment now);
/* Control has answered: {"type":"resolved",…}. */
void dns_resolved(struct dns_cache *dns, const char *json, size_t n, struct moment now);
/* Control has gone: who waits is answered from what is known, or deferred. */
void dns_unlinked(struct dns_cache *dns, struct moment now);
/* A policy has come, maybe the first. */
void dns_policy_changed(struct dns_cache *dns, struct moment now);
/* Some times a second: what has waited too long is answered, and old answers are forgotten. */
void dns_tick(struct dns_cache *dns, struct moment now);

/* Copies 64-bit counters that another thread reads, or writes, meanwhile: each is whole, not all of one moment. */
static inline void words_copy(void *to, const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		__atomic_store_n((uint64_t *)to + i, __atomic_load_n((const uint64_t *)from + i, __ATOMIC_RELAXED),
			__ATOMIC_RELAXED);
}
static_assert(sizeof(struct spool_stats) % 8 == 0 && sizeof(struct queue_stats) % 8 == 0);

/* ---- the whole ---- */
struct relay {
	const struct config *config;
	struct dp *dp;
	bool is_rss_said[DP_PORTS_MAX];
	unsigned cores;
	struct worker *workers[DP_CORES_MAX];
	struct spool_thread spool;
	struct queue_thread queue;
	struct record_file *records;
	/* The main thread's: */
	struct generation *newest; /* NULL: none yet; else its views are out, so it is there */
	enum tls_backend backend;  /* of the sets that are built next */
	char backend_why[160];
	_Atomic uint64_t generation;	/* newest in force */
	_Atomic bool is_draining;	/* no new connections; 421 between mails */
	_Atomic bool is_stopping;	/* the workers have ended: the queue thread says its last words */
	_Atomic bool is_spool_stopping; /* the queue thread has ended: the spool thread writes them and ends */
	uint64_t started_us;
};
