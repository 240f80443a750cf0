// SPDX-License-Identifier: Apache-2.0
/* relay/worker.h: one worker core: its connections, from segment to mail and from mail to segment.
 *
 * Private to relay/. All of it is used on the worker's own thread, but worker_create() and what is said to be
 * otherwise. */
#pragma once

#include <rte_cycles.h>

#include "base/stream.h"
#include "relay/budget.h"
#include "relay/handshakes.h"
#include "relay/names.h"
#include "relay/relay.h"
#include "smtp/client/session.h"
#include "smtp/reply.h"
#include "smtp/server/session.h"
#include "tls/hello.h"

/* Each wait has a deadline of its class. All deadlines of a class have the same length, so a class is a FIFO:
 * arming is O(1), and the first is the next due. */
#define DEADLINES(_)                                                                                 \
	_(SERVER_COMMAND, server_command)                                                            \
	_(SERVER_CONTENT, server_content)                                                            \
	_(CLIENT_NAME, client_name)                                                                  \
	_(HANDSHAKE, handshake)                                                                      \
	_(CONNECT, connect)                                                                          \
	_(GREETING, greeting)                                                                        \
	_(COMMAND, command)                                                                          \
	_(MAIL, mail)                                                                                \
	_(RCPT, rcpt)                                                                                \
	_(DATA, data)                                                                                \
	_(BLOCK, block)                                                                              \
	_(END, end)                                                                                  \
	_(IDLE, idle)                                                                                \
	_(LINGER, handshake) /* after our close: what the peer has not taken by then is cut */

enum deadline {
#define _(id, setting) DEADLINE_##id,
	DEADLINES(_)
#undef _
	DEADLINE_CLASSES,
	DEADLINE_NONE = DEADLINE_CLASSES
};

enum conn_kind { CONN_FREE, CONN_INBOUND, CONN_OUTBOUND };
enum conn_tls {
	CONN_CLEAR,
	CONN_HELLO, /* a client's ClientHello is awaited, in TCP's receive queue: nothing is spent on it before it is whole */
	CONN_HANDSHAKE,
	CONN_TLS,
};

enum verdict { VERDICT_NONE, VERDICT_DURABLE, VERDICT_FAILED };

struct inbound {
	struct smtp_server *session; /* behind the connection in the slab */
	struct tls_hello hello;
	uint32_t listener;
	uint64_t session_id;
	struct addr client;
	bool is_naming; /* the client's name is awaited: nothing has been said yet */
	char name[NAME_BYTES]; /* confirmed reverse DNS, where a rule asks for it */
	char helo[128];
	/* The connect-stage rule, as resolved for this connection: */
	uint64_t policy_number;
	char rule_id[64], profile_id[64];
	uint32_t profile_index;
	uint8_t action, level, on_failure;
	bool normalises;
	/* The mail in progress: */
	struct mail *mail;
	struct mail_chunk *unspooled; /* first chunk the spool has not been given */
	bool is_submitting;  /* the commit waits for room in the ring */
	bool is_waiting;     /* the spool's verdict, or room for the answer, is awaited */
	bool is_left;	     /* the client has gone meanwhile: kept for the record of its mail */
	uint8_t verdict;     /* enum verdict */
	uint64_t content_bytes; /* of this mail */
	uint64_t rate_mark;  /* content_bytes when the deadline was armed */
	uint64_t mail_id;    /* of the mail whose verdict is out, for its record */
	uint64_t mail_size;
	char from[320];	     /* for records */
	char to[320];	     /* the first recipient */
	uint32_t recipients;
	uint64_t session_until_us; /* then 421 between two mails */
};

struct outbound {
	struct smtp_client *session;
	struct queue_job *job; /* NULL: idle, kept for the next */
	struct smtp_client_job client_job; /* the same, as the session wants it */
	struct smtp_client_config client_config;
	uint32_t target;       /* index of the one being tried */
	bool is_retry_in_clear; /* the last connection to this target, after a failed handshake */
	bool is_small_retry, is_session_retry; /* another, with a small ClientHello, without a kept session */
	bool is_reused;	       /* the connection had been kept from a mail before */
	bool is_greeted;       /* READY was reached: the target can be talked to */
	bool has_begun;	       /* the open job's MAIL was given to the session */
	bool is_quitting;      /* QUIT was asked for: takes no more jobs */
	bool is_lost;	       /* the session has heard that the connection is gone */
	uint64_t block_bytes;  /* of content, since the deadline was armed */
	bool is_tls_reason;    /* the last failure had to do with TLS */
	struct policy_out policy; /* the stricter of the route's and the target's */
	struct smtp_reply failure; /* the last target's, if none works */
	char peer[QUEUE_HOST_MAX + ADDR_TEXT_MAX + 8]; /* "host[address]" */
	char domain[256]; /* next-hop domain it was opened for: a certificate may name that alone */
	uint32_t mails_left;
	struct queue_evidence evidence;
};

struct conn {
	uint32_t generation; /* 0 is never used */
	struct worker *worker;
	uint8_t kind;	     /* enum conn_kind */
	uint8_t tls_state;   /* enum conn_tls */
	bool is_ended;	     /* TCP has ended; free at the next chance */
	bool is_closing;     /* close when `out` is empty */
	bool has_closed;     /* tcp_close() was called */
	bool is_awake;	     /* on the run list */
	bool has_fin;	     /* the peer sends no more */
	bool is_starved;     /* waits for a block of the streams' pool */
	bool is_dry;	     /* TLS has used up what TCP had */
	uint8_t deadline;    /* enum deadline */
	uint64_t deadline_us;
	uint32_t deadline_prev, deadline_next;
	uint32_t next; /* free list or run list */
	uint64_t opened_us, active_us; /* active: TCP last had something for it */
	struct tcp_conn *tcp;
	struct tls *tls;
	struct stream in;  /* plaintext not used yet */
	struct stream out; /* plaintext to be sent */
	union {
		struct inbound inbound;
		struct outbound outbound;
	};
};

#define CONN_NONE UINT32_MAX
#define SCRATCH_BYTES 16384 /* the most one TLS record brings; also the size of a stream's block */

struct deadline_list {
	uint32_t first, last;
	uint64_t length_us;
};
struct client_count {
	struct addr addr;
	uint32_t count; /* 0: free */
};
struct client_table {
	struct client_count *places;
	uint32_t mask;
	uint64_t key[2];
};
struct broken_tls { /* a host whose TLS failed */
	struct addr addr;
	uint64_t until_us;	 /* clear text until then, where the profile allows it */
	uint64_t small_until_us; /* a small ClientHello until then: a large one was not answered */
};
#define BROKEN_TLS_SLOTS 1024 /* per core; an unlucky neighbour is forgotten early, which costs one handshake */

#define WORKER_COUNTERS(_)                                                                           \
	_(accepted_connections, "Inbound connections accepted")                                      \
	_(refused_connections, "Inbound connections refused (limits, rules)")                        \
	_(outbound_connections, "Outbound connections opened")                                       \
	_(server_handshakes, "TLS handshakes completed as server")                                   \
	_(server_handshake_failures, "TLS handshakes failed as server")                              \
	_(client_handshakes, "TLS handshakes completed as client")                                   \
	_(client_handshake_failures, "TLS handshakes failed as client")                              \
	_(resumed_handshakes, "TLS handshakes that resumed a session")                               \
	_(tls_broken, "TLS sessions ended after their handshake by a bad record or an alert")        \
	_(tls_floods, "TLS sessions ended for messages without data (KeyUpdate)")                    \
	_(clear_fallbacks, "Deliveries in clear text after a failed handshake")                      \
	_(small_hello_retries, "TLS handshakes begun anew with a small ClientHello, as a large one was not answered") \
	_(session_retries, "TLS handshakes begun anew without the session that was to be resumed")   \
	_(mails_accepted, "Mails answered with 250 after the spool had them")                        \
	_(mails_refused, "Mails refused after their content")                                        \
	_(bytes_accepted, "Bytes of accepted mails")                                                 \
	_(commands_refused, "Commands refused")                                                      \
	_(jobs, "Deliveries begun")                                                                  \
	_(reused_connections, "Deliveries on a connection that was open")                            \
	_(timeouts, "Connections ended by a deadline")                                               \
	_(stale_answers, "Answers for a connection that had gone")                                   \
	_(names_missed, "Clients taken to have no name, since it was not known in time")             \
	_(memory_refusals, "Mails refused because the core's mail memory was full")

/* Where the core's time goes, of what TLS takes. */
#define PARTS(_) _(OPEN, "open") _(HANDSHAKE, "handshake") _(OFFLOAD, "offload") _(RECORDS, "records") _(CLOSE, "close")
enum part {
#define _(id, name) PART_##id,
	PARTS(_)
#undef _
	PART_COUNT
};

struct worker_counters {
#define _(name, help) _Atomic uint64_t name;
	WORKER_COUNTERS(_)
#undef _
};
/* One writer, so a plain add; relaxed, since readers only want a recent value. */
#define COUNT(w, name) COUNT_BY(w, name, 1)
#define COUNT_BY(w, name, n)                                                                         \
	atomic_store_explicit(&(w)->counters.name,                                                   \
		atomic_load_explicit(&(w)->counters.name, memory_order_relaxed) + (n),               \
		memory_order_relaxed)

/* `since`: rte_rdtsc() before it. */
#define COUNT_PART(w, part, since)                                                                   \
	atomic_store_explicit(&(w)->part_cycles[part],                                               \
		atomic_load_explicit(&(w)->part_cycles[part], memory_order_relaxed) + (rte_rdtsc() - (since)), \
		memory_order_relaxed)

/* What the main thread has a worker do, a bounded step a turn. While the worker's box holds it, it is the worker's
 * alone; the main thread puts one only into an empty box. Then it is first in a larger structure (relay/look.h). */
struct errand {
	/* true: done. */
	bool (*step)(struct worker *w, struct errand *errand);
};

struct worker {
	struct relay *relay;
	const struct config *config;
	unsigned index;
	pthread_t thread;
	struct dp_core *core;
	struct tcp_stack *tcp;
	struct tls_lib *tls_lib;
	struct mail_pool *mails;
	struct stream_pool *streams;
	struct view_box views;
	struct record_lane records;
	struct name_lane names;
	struct ring to_spool, from_spool; /* enum spool_op words; verdict words */
	struct ring jobs, finished_jobs;  /* struct queue_job, from and to the queue thread */
	struct smtp_server_config server_config;
	uint8_t *slab;
	size_t stride;
	uint32_t conn_max;
	uint32_t free_first;
	uint32_t run_first, run_last;
	uint32_t conn_count;
	struct deadline_list deadlines[DEADLINE_CLASSES];
	struct client_table clients;
	struct budget budget; /* of handshakes */
	struct broken_tls broken[BROKEN_TLS_SLOTS];
	struct mail **aborts; /* mails whose ABORT did not fit into the ring yet */
	uint32_t abort_count;
	uint64_t last_mail_id, last_session_id;
	uint64_t now_us, wall_us; /* of this turn */
	time_t date_of;		  /* the second that `date` tells, as a Received field does */
	char date[64];
	uint64_t housekeeping_us;
	size_t streams_reserved; /* blocks that input may not take */
	bool has_starved;	 /* some connection is_starved */
	uint64_t starved_us;	 /* when to look after them next */
	uint32_t handshakes; /* in flight: with a TLS session, and its memory */
	bool is_draining;
	char drain_reply[REPLY_BYTES_MAX + 1], timeout_reply[REPLY_BYTES_MAX + 1]; /* sessions point to them */
	_Atomic uint32_t connections, handshakes_in_flight; /* for status */
	_Atomic(struct errand *) errand; /* NULL: the box is empty */
	struct worker_counters counters;
	struct handshake_counters handshake_counters;
	_Atomic uint64_t part_cycles[PART_COUNT];
	uint8_t scratch[SCRATCH_BYTES];
};

/* Main, at start: takes all memory of a core. NULL with `error`. It lives as long as the process. */
struct worker *worker_create(struct relay *relay, unsigned index, char error[256]);
/* Main: 0 or -errno. The thread ends after dp_core_stop(): join `thread`. */
int worker_start(struct worker *w);

/* ---- relay/worker.c ---- */
/* Main thread: lends it; false: the box is not empty. */
bool worker_lend(struct worker *w, struct errand *errand);
/* Main thread: is the box empty, and what was lent ours again? */
static inline bool worker_is_back(struct worker *w)
{
	return atomic_load_explicit(&w->errand, memory_order_acquire) == NULL;
}

/* ---- relay/conn.c: what both kinds of connection share ---- */
/* The place `slot`, below conn_max, whether it is in use or not. */
struct conn *conn_at(const struct worker *w, uint32_t slot);
uint32_t conn_slot(const struct worker *w, const struct conn *c);
/* NULL: all are in use. */
struct conn *conn_get(struct worker *w, enum conn_kind kind, struct tcp_conn *tcp);
/* Forgets the connection; its TCP must have ended or been told to close or abort. */
void conn_free(struct worker *w, struct conn *c);
/* It is run in this turn, or in the next if it has been. */
void conn_wake(struct worker *w, struct conn *c);
/* Arms it anew from now on; DEADLINE_NONE: takes it away. */
void conn_set_deadline(struct worker *w, struct conn *c, enum deadline class);
/* Moves plaintext from `out` towards the peer; true if something moved. */
bool conn_flush(struct worker *w, struct conn *c);
/* Plaintext to be used next. The range is valid until conn_used(), which must follow. */
struct bytes conn_input(struct worker *w, struct conn *c);
/* `n` of `in` were used; `wants_more`: the rest is an incomplete line, so gather more behind it. True if
 * there was progress. */
bool conn_used(struct worker *w, struct conn *c, struct bytes in, size_t n, bool wants_more);
/* Is anything there that has not been looked at? (After STARTTLS it must not be.) */
bool conn_has_unread(struct worker *w, struct conn *c);
/* Has the peer said its last byte, and have we read it? (It may still wait in `in`.) */
bool conn_is_read_out(const struct conn *c);
/* Ciphertext from and to its TCP, for a session on it. */
struct tls_io conn_tls_io(struct conn *c);
/* A session was opened on it: the handshake begins. */
void conn_begin_handshake(struct worker *w, struct conn *c);
/* Between clear text and TLS: nothing is said or heard but the handshake. */
bool conn_is_shaking(const struct conn *c);
/* Frees the TLS session, in whatever state it is. */
void conn_drop_tls(struct worker *w, struct conn *c);
/* Closes in order once `out` is sent. */
void conn_close(struct worker *w, struct conn *c);
/* Closes at once with RST. */
void conn_abort(struct worker *w, struct conn *c);
/* Runs the connection until it waits for something; called for events, answers and time. */
void conn_run(struct worker *w, struct conn *c);

/* ---- relay/clients.c: connections by client address ---- */
/* false: no memory. For so many connections at once, and no more. */
bool clients_init(struct client_table *t, uint32_t connections);
/* One more; how many there are now. */
uint32_t clients_add(struct client_table *t, const struct addr *addr);
/* One less. */
void clients_remove(struct client_table *t, const struct addr *addr);
/* How many there are. */
uint32_t clients_count(struct client_table *t, const struct addr *addr);

/* ---- relay/inbound.c ---- */
/* TCP has a new client: greets it, refuses it, or asks for its name first. */
void inbound_accept(struct worker *w, struct tcp_conn *tcp);
/* A step; true if there was progress. */
bool inbound_step(struct worker *w, struct conn *c);
/* TLS is on: the session is told, or greeted where TLS is implicit. */
void inbound_handshake_done(struct worker *w, struct conn *c);
/* `why` is a sentence for the record; the connection ends. */
void inbound_handshake_failed(struct worker *w, struct conn *c, enum handshake_failure failure, const char *why);
/* Looks whether the ClientHello is whole, and opens TLS then; true if it waits no more, for good or bad. */
bool inbound_hello(struct worker *w, struct conn *c);
/* TLS cannot go on after the handshake: told in the records, and the connection ends. */
void inbound_tls_broke(struct worker *w, struct conn *c);
/* The spool has answered a commit: the reply follows, to a client that is still there. */
void inbound_verdict(struct worker *w, struct verdict_word verdict);
/* What the client of that connection is called; "": it has no name. */
void inbound_named(struct worker *w, uint32_t slot, uint32_t generation, const char *name);
/* Its deadline has passed: 421, or, where nothing can be said any more, the end. */
void inbound_deadline(struct worker *w, struct conn *c);
/* The peer or we have gone: the mail in progress is forgotten, but for one whose commit is out. It is listed if
 * it becomes durable, so its record is owed: the connection's place is kept until the verdict. */
void inbound_ended(struct worker *w, struct conn *c);
/* No more mails: 421 once the mail in progress is done. */
void inbound_drain(struct worker *w, struct conn *c);

/* ---- relay/submit.c: the way of a mail from a worker into the spool ---- */
/* Begins the mail: the envelope's fields about the session and the sender. false: no memory. */
bool submit_begin(struct worker *w, struct conn *c, struct bytes sender, uint8_t body_flags);
/* false: no memory. So too submit_content_begins() and submit_content(). */
bool submit_recipient(struct conn *c, struct bytes recipient);
/* The envelope is complete: closes it and writes the Received field. */
bool submit_content_begins(struct worker *w, struct conn *c);
bool submit_content(struct worker *w, struct conn *c, struct bytes content);
/* Gives the rest and the commit to the spool; false: no room now, call again next turn. */
bool submit_commit(struct worker *w, struct conn *c);
/* Forgets the mail in progress. */
void submit_abort(struct worker *w, struct conn *c);
/* Those of submit_abort() that found no room in the ring: each turn. */
void submit_flush_aborts(struct worker *w);

/* ---- relay/outbound.c ---- */
/* Takes the job, on the connection it names if that is still good, else on a new one. It goes back over finished_jobs,
 * whatever happens. */
void outbound_job(struct worker *w, struct queue_job *job);
/* A step; true if there was progress. */
bool outbound_step(struct worker *w, struct conn *c);
/* Our SYN was answered. */
void outbound_connected(struct worker *w, struct conn *c);
/* TLS is on and meets the profile: what it agreed on is kept for the records, and the session goes on. */
void outbound_handshake_done(struct worker *w, struct conn *c);
/* The target is tried again, in clear, or left for the next one, as the profile says. */
void outbound_handshake_failed(struct worker *w, struct conn *c, bool is_timeout);
/* Its deadline has passed: the target is given up, an idle connection says QUIT. */
void outbound_deadline(struct worker *w, struct conn *c);
/* No more mails: an idle connection says QUIT. */
void outbound_drain(struct worker *w, struct conn *c);
/* TCP has ended under it. Frees or re-uses the connection for the next target. */
void outbound_ended(struct worker *w, struct conn *c, enum tcp_end why);
