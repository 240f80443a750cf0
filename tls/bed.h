// SPDX-License-Identifier: Apache-2.0
/* tls/bed.h: one server and one client of ours in memory, made for each test, for the tests of sessions. */
#pragma once

#include "tls/lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct bed {
	struct tls_lib *lib;
	struct tls_server_set *servers;
	struct tls_client_set *clients;
	struct lab_link link;
	struct tls *client, *server;
};

/* Group set-up and tear-down: a certificate for mx.example.test. */
int bed_make_certificates(void **state);
int bed_free_certificates(void **state);

/* Nothing has been said yet; the client is sure of its server's name. */
struct bed *bed_make(struct tls_profile for_server, struct tls_profile for_client);
extern const struct tls_profile bed_plain; /* level MAY */
struct bed *bed_usual(void);		   /* both are plain */
struct bed *bed_shaken(void);		   /* and their handshake is done */
void bed_free(struct bed *bed);
/* Two new sessions of the same sets, in place of those that were closed. */
void bed_close_sessions(struct bed *bed);
void bed_open_sessions(struct bed *bed);

/* Shakes hands; both must succeed. */
void assert_shaken(struct bed *bed);
/* Sends `total` counting bytes one way and reads them at the other end, in pieces of `piece`. */
void assert_transfer(struct tls *from, struct tls *to, size_t total, size_t piece);
