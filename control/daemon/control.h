// SPDX-License-Identifier: Apache-2.0
/* control/daemon/control.h: hikyaku-control's own state. Private to control/daemon/.
 *
 * Two kinds of thread: the main loop (relays' sockets, the resolver, signals) and the API's, one a
 * request. All of the state below is under one lock; nothing is done under it that takes long but a
 * compile. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <yyjson.h>

#include "control/config/config.h"
#include "control/link.h"
#include "control/shm/policy.h"
#include "control/shm/stats.h"
#include "tls/ticket_keys.h"

#define CONTROL_RELAYS_MAX 16
#define ANSWER_SECONDS                                                                             \
	5 /* a relay's answer, or a generation's coming into force, is awaited so long */

/* ---- the store: control/daemon/store.c ---- */
/* SQLite; every save is one transaction. Used under control's lock. Errors: -errno (-EIO for
 * SQLite's own) with `error` filled. */
struct store;
int store_open(const char *path, struct store **store, char error[512]);
void store_close(struct store *store);
uint64_t store_generation(const struct store *store);
/* All documents as one JSON text, as `export` shows it; from the heap, the caller frees it. */
char *store_documents(struct store *store, char error[512]);
/* Replaces all documents and sets the generation's number. */
int store_save_documents(
	struct store *store, const char *json, uint64_t generation, char error[512]);

struct store_cert {
	char id[64];
	char *chain_pem, *key_pem; /* from the heap */
	bool is_active, is_default;
};
/* All certificates; `*certs` from the heap, freed by store_free_certs(), which wipes the keys. */
int store_certs(struct store *store, struct store_cert **certs, size_t *count, char error[512]);
void store_free_certs(struct store_cert *certs, size_t count);
/* Adds or replaces one, and sets the generation's number. */
int store_put_cert(
	struct store *store, const struct store_cert *cert, uint64_t generation, char error[512]);
int store_remove_cert(struct store *store, const char *id, uint64_t generation, char error[512]);

/* ---- relays: control/daemon/relays.c ---- */
struct relay_peer {
	int fd; /* -1: slot is free */
	char instance[64];
	int pid;
	const struct stats_region *stats;
	uint64_t attached_us, applied, refused; /* generations */
	char refused_error[512];
};

/* A request on its way: the API's thread waits for it. */
struct pending_request {
	struct pending_request *next;
	uint64_t token;
	int peer;
	char *response; /* JSON from the heap; NULL while waiting */
	bool is_lost;	/* the relay has gone */
};

struct control {
	const struct config *config;
	const char *config_path;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a relay answered, applied, came or went */
	struct store *store;
	uint64_t generation;
	int policy_fd, keys_fd; /* the generation in force */
	struct policy *policy;	/* the same, mapped, for explain */
	struct tls_ticket_keys tickets;
	int tickets_fd;		 /* the same, for relays; -1: none yet */
	uint64_t tickets_turned; /* when they were last looked at */
	struct relay_peer relays[CONTROL_RELAYS_MAX];
	struct pending_request *pending;
	uint64_t next_token, started_us, published_us;
	struct { /* of the resolver, for /metrics */
		uint64_t questions, ok, deferred, failed;
	} names;
	int listen_fd;
	struct resolver *resolver;
	_Atomic bool is_stopping;
};

/* Main loop: a relay knocks; a relay has said something, or is gone. Under the lock. */
void relays_accept(struct control *c);
void relays_receive(struct control *c, int peer);
/* Sends the generation in force to all relays. Under the lock. */
void relays_publish_all(struct control *c);
/* What one relay answered. */
struct relay_reply {
	char instance[64];
	yyjson_doc *doc; /* NULL: it refused, went away or took over ANSWER_SECONDS; `error` says
			    which */
	bool is_refused; /* it did answer */
	char error[256];
};
/* Sends `request` (a JSON object text without "type" and "token") to the relay of that instance, or
 * to all (NULL), and waits for them together. How many were attached; relays_free_replies()
 * afterwards. Takes the lock itself. */
unsigned relays_ask(struct control *c, const char *instance, const char *request,
	struct relay_reply replies[CONTROL_RELAYS_MAX]);
void relays_free_replies(struct relay_reply *replies, unsigned count);
/* Waits until every attached relay has the generation in force or refused it, or ANSWER_SECONDS
 * have passed. Takes the lock itself. */
void relays_await(struct control *c, uint64_t generation);

/* ---- ticket keys: control/daemon/tickets.c ---- */
/* Under the lock. A relay has come, perhaps with the keys it has (else -1): it is told ours, which may then be
 * its own. The descriptor stays the caller's. */
void tickets_greet(struct control *c, int peer, int fd);
/* Main loop: makes the next key in time; looks once a second. */
void tickets_rotate(struct control *c);

/* ---- generations: control/daemon/publish.c ---- */
/* Compiles `documents` with the certificates of the store, plus `cert` if not NULL, less `without`
 * if not NULL; on success the result is in force and sent to the relays once the caller has saved
 * it: */
struct candidate {
	uint64_t generation;
	int policy_fd, keys_fd;
};
int candidate_compile(struct control *c, const char *documents, const struct store_cert *cert,
	const char *without, struct candidate *candidate, char error[512]);
void candidate_drop(struct candidate *candidate);
/* The changes: compiled, kept in one transaction, put in force; or nothing of it and `error` filled
 * (-EINVAL: what is asked for does not compile). The generation in force into `generation`. Under
 * the lock. */
int publish_documents(
	struct control *c, const char *documents, uint64_t *generation, char error[512]);
/* The same of documents that were compiled already; the candidate is used up. */
int publish_compiled(struct control *c, const char *documents, struct candidate *candidate,
	uint64_t *generation, char error[512]);
int publish_cert(
	struct control *c, const struct store_cert *cert, uint64_t *generation, char error[512]);
int publish_cert_removal(struct control *c, const char *id, uint64_t *generation, char error[512]);
/* At start: makes a self-signed certificate if there is none, compiles what is stored. */
int publish_start(struct control *c, char error[512]);

/* ---- names: control/daemon/resolver.c ---- */
struct resolver *resolver_create(struct control *c, char error[512]);
void resolver_destroy(struct resolver *r);
int resolver_fd(const struct resolver *r);
/* Under the lock: a relay's question; the answer goes back to it when known. */
void resolver_ask(struct resolver *r, int peer, yyjson_val *question);
/* Main loop, under the lock: answers of the library, and questions that took too long. */
void resolver_process(struct resolver *r);

/* ---- the API: control/daemon/api.c ---- */
struct api;
int api_start(struct control *c, struct api **api, char error[512]);
void api_stop(struct api *api);
