// SPDX-License-Identifier: Apache-2.0
/* bench/options.h: what hikyaku-bench was asked to do. */
#pragma once

#include "base/addr.h"

enum bench_command { BENCH_MESSAGES, BENCH_HANDSHAKES, BENCH_IDLE, BENCH_SINK };
enum bench_security { BENCH_STARTTLS, BENCH_IMPLICIT_TLS, BENCH_CLEAR };

/* Every run is bounded: this many seconds unless something else is asked for. */
#define BENCH_SECONDS_DEFAULT	  10
#define BENCH_SECONDS_MAX	  86400
#define BENCH_CONNECTIONS_MAX	  20000
#define BENCH_CONNECTIONS_DEFAULT 32
#define BENCH_CONNECTIONS_OPEN	  1000 /* in an open loop: as many as there happen to be */
#define BENCH_BURST_MAX		  1000
#define BENCH_ADDRESSES_MAX	  64

struct options {
	enum bench_command command;
	enum bench_security security;
	/* Where: kernel sockets if `host` is set, else memif. */
	char host[256], port[16];
	char memif[108]; /* the relay's memif socket: we are the client of it */
	struct addr server;
	struct addr address; /* our first address on the memif; the others follow it */
	uint8_t prefix_bits; /* of the 128 */
	unsigned addresses;
	bool no_huge;
	unsigned memory_mb, sleep_us;
	/* How much */
	unsigned connections, recipients;
	uint64_t mails_per_connection; /* 0: no end */
	uint64_t count;		       /* in all; 0: no bound */
	double duration_s, warmup_s, timeout_s;
	/* Handshakes: sessions a second that are offered (open loop), or handshakes that begin at
	 * one moment; 0: a closed loop */
	double rate;
	unsigned burst;
	size_t size;
	char helo[128], from[256], to[256];
	/* TLS */
	char sni[256], groups[128];
	uint16_t tls_highest; /* TLS_1_x; 0: no bound */
	bool is_plain;	      /* OpenSSL's client instead of the lean one */
	bool is_resuming;
	unsigned aes_bits; /* 0: all suites are offered */
	char certificate[256]; /* sink: PEM of key and chain; "": no STARTTLS */
	bool is_json, is_quiet;
};

/* 0; or EX_USAGE after saying what was wrong; -1 where help was asked for and given. */
int options_parse(struct options *o, int argc, char **argv);
uint16_t options_port(const struct options *o);
