// SPDX-License-Identifier: Apache-2.0
/* bench/peer.h: one end of the TCP comparisons: asks or answers exchanges, by the kernel's TCP or by ours.
 *
 * One thread and one loop a process. The two carriers are as lean as we can make them: what is compared
 * is TCP, not what stands on it. */
#pragma once

#include "base/addr.h"
#include "bench/exchange.h"
#include "bench/histogram.h"

#define PEER_CONNECTIONS_MAX 16384

struct dp_config;

struct peer_options {
	bool is_kernel, is_server;
	bool stays; /* after its results, with its port */
	struct addr server; /* a server of the kernel's may listen on any */
	uint16_t port;
	int mss; /* the kernel's largest segment; 0: its own choice */
	const char *congestion; /* the kernel's; NULL: its default */
	struct dp_config *dp; /* ours; not by value: its header and <netinet/tcp.h> both have a tcp_info */
	/* client */
	struct exchange_plan plan;
	unsigned connections;
	uint64_t requests;    /* on each connection; then it is closed and another one opened */
	uint64_t count;	      /* in all; then it ends. 0: until `seconds` have gone */
	double seconds;	      /* at most */
	uint64_t interval_us; /* on a connection, from one request to the next; 0: at once */
};

/* What an end has seen. A client's times are in microseconds. */
struct peer_results {
	uint64_t opened, answered, failed, wrong;
	char first_failure[64];
	uint64_t started_us, ended_us; /* the first connect, the last answer */
	struct histogram open_us, answer_us, whole_us; /* connect; request to answer; connect to end */
};

/* A connection of the client's, whoever carries it. */
struct peer_client {
	void *link; /* NULL: none */
	struct exchange_client exchange;
	uint64_t opened_us, asked_us, next_us, answered; /* next_us: when to ask again; 0: asking */
	bool is_up;
};

/* ---- peer_client.c: what the client does, told by the carrier what happened ---- */
struct peer_carrier {
	struct exchange_io io;
	/* NULL: not now. `CLIENT` is given back in peer_client_happened(). */
	void *(*open)(struct peer_client *client, uint64_t now_us);
	/* Orderly; peer_client_gone() is not called for it. */
	void (*close)(void *link);
};
void peer_client_start(const struct peer_options *o, const struct peer_carrier *carrier);
/* Up, readable or writable. */
void peer_client_happened(struct peer_client *c, uint64_t now_us);
/* The connection has ended; the link is no more. `why` is NULL for an orderly end. */
void peer_client_gone(struct peer_client *c, const char *why, uint64_t now_us);
/* Opens what is to be opened and asks what is due; false: all is done. */
bool peer_client_turn(uint64_t now_us);
/* When peer_client_turn() wants to be called; UINT64_MAX: not before something happens. */
uint64_t peer_client_due_us(void);

/* ---- the carriers: run until a signal comes or the client is done; 0, or an exit status ---- */
int peer_run_kernel(const struct peer_options *o);
int peer_run_ours(const struct peer_options *o);
/* Gives the port back, if there is one. */
void peer_end_ours(void);
/* SIGTERM or SIGINT has come. */
bool peer_is_stopped(void);
/* Prints "ready", so that who started us knows that we listen. */
void peer_ready(void);

extern struct peer_results peer_results;
