// SPDX-License-Identifier: Apache-2.0
/* tls/bench/bench.h: what the files of tls_bench share. */
#pragma once

#include "tls/lab.h"

#include <stdio.h>

struct bench_options {
	double seconds;	   /* of processor time, for each row of the matrix and each server */
	const char *only;  /* rows whose text has this in it; NULL: all */
	unsigned aes_bits;  /* the client offers AES-GCM with such a key: the same suite for all */
	const char *server; /* this one of the servers only; NULL: all */
	unsigned sessions; /* held at the same time when memory is counted */
	bool is_json;
	bool has_handshakes, has_memory;
};

/* Certificates are of "mx.example.test", by a root of the bench. */
enum bench_certificate { BENCH_ECDSA, BENCH_RSA_2048, BENCH_RSA_3072, BENCH_CERTIFICATES };
extern struct tls_key_pair bench_pairs[BENCH_CERTIFICATES];
extern struct bytes bench_roots;
extern struct tls_lib *bench_lib;

/* Processor time of this thread: neighbours do not count. */
uint64_t bench_ns(void);

/* ---- servers ---- */
/* A connection: two BIOs in memory, as OpenSSL's own benchmarks have it. */
struct bench_link {
	BIO *up, *down; /* client to server, server to client */
};

void bench_link_init(struct bench_link *link);
void bench_link_fini(struct bench_link *link);

/* A server that is measured: its contexts, and what one session does. The functions assert. */
struct bench_server {
	const char *name;
	unsigned in_flight; /* handshakes at the same time */
	void *(*create)(const struct tls_key_pair *pair);
	void (*destroy)(void *server);
	void *(*open)(void *server, struct bench_link *link);
	/* Goes on with the handshake; true: it is done. */
	bool (*step)(void *session);
	/* What is due once all sessions have gone a step, where there is something; else NULL. */
	void (*turn)(void *server);
	void (*close)(void *session);
};

/* The first is the ceiling: OpenSSL and nothing else. */
extern const struct bench_server bench_servers[];
extern const size_t bench_server_count;

/* ---- parts ---- */
/* Tables to stdout, or an array of JSON objects without its brackets. */
void bench_handshakes(const struct bench_options *options);
void bench_memory(const struct bench_options *options);
