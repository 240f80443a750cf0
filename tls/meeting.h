// SPDX-License-Identifier: Apache-2.0
/* tls/meeting.h: certificates of all kinds and a server and a client that meet in memory, for the tests of profiles
 * and sets. One test program each, so that the names are short. */
#pragma once

#include "tls/lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum which {
	RIGHT, /* mx.example.test, by an intermediate */
	SELF_SIGNED,
	UNKNOWN_ROOT,
	WRONG_NAME,
	EXPIRED,
	NOT_YET,
	NO_ALT_NAME, /* the right name, but as common name only */
	ADDRESS,     /* IP:192.0.2.25 */
	DOMAIN,	     /* example.test */
	MX_RSA,	     /* mx.example.test */
	WILDCARD,    /* *.wild.example.test */
	WILDCARD_RSA,
	OTHER_RSA, /* other.example.test, RSA only */
	CLIENT,	   /* client.example.test */
	WHICH_COUNT,
};

extern struct lab_cert ca, middle, foreign_ca, leaf[WHICH_COUNT];
extern struct tls_key_pair pair[WHICH_COUNT];
extern struct bytes roots; /* PEM: that of `ca` */
extern struct tls_lib *lib;
/* Group set-up and tear-down. */
int make_certificates(void **state);
int free_certificates(void **state);

struct meeting {
	struct tls_server_set *servers;
	struct tls_client_set *clients;
	struct lab_link link;
	struct tls *server, *client;
	enum tls_result at_server, at_client;
	struct tls_verdict of_server, of_client;
};

extern const struct tls_profile may;
struct tls_server_set *servers_of(
	const enum which *which, size_t count, const struct tls_profile *profile);
struct tls_client_set *clients_of(const struct tls_profile *profile);
/* Both are opened and shake hands; the sets are the caller's. */
void meet(struct meeting *m, const char *host, const char *domain);
void part(struct meeting *m);
/* part(), and puts the sets. */
void meeting_end(struct meeting *m);
struct meeting meeting_of(const enum which *which, size_t count,
	struct tls_profile for_server, struct tls_profile for_client);
/* OpenSSL itself as the client. */
struct lab_raw raw_client(SSL_CTX **ctx, struct lab_link *link, const char *sni);
