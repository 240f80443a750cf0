// SPDX-License-Identifier: Apache-2.0
/* relay/worker_lab.h: one worker in virtual time, for tests: its turn, our TCP, and at the other end of a perfect
 * wire a second TCP with peers that the test plays. The test is also the spool and the queue. No port, no thread:
 * the few functions of the data plane that a worker calls are the lab's own. */
#pragma once

#include "relay/worker.h"
#include "tls/lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define LAB_PEERS     32
#define LAB_MAIL_PORT 25   /* the worker listens; 465: TLS from the first byte */
#define LAB_HOST_PORT 2525 /* the far end listens */
#define LAB_SECOND    1000000ull

struct lab;
/* Somebody at the far end: a client of the worker, or a host it delivers to. */
struct peer {
	struct lab *lab;
	struct tcp_conn *conn;
	struct tls *tls;
	bool is_secure; /* TLS is done */
	uint8_t hello[4096]; /* to be said bit by bit */
	size_t hello_bytes, hello_said;
	char in[400000]; /* what has come and was not expected yet, with a NUL */
	size_t n;
	bool has_fin, has_ended, is_reading;
	enum tcp_end end;
};

enum lab_spool { LAB_SPOOL_GOOD, LAB_SPOOL_BAD, LAB_SPOOL_SILENT };

struct lab {
	struct relay relay;
	struct config config;
	struct config_listener listeners[2];
	struct worker *w;
	struct dp_core_user user;
	struct tcp_stack *near, *far;
	struct addr near_addr, far_addr;
	uint64_t now_us;
	struct peer peers[LAB_PEERS];
	unsigned peer_count, taken; /* accepted by the far end, and given to the test */
	enum lab_spool spool;
	unsigned commits, aborts;
	struct mail *committed; /* the spool is silent: waits for its verdict */
	struct record accepted, rejected; /* the last of their kind */
	unsigned accepted_count;
	enum lab_key key; /* of the next policy's certificate */
	struct mail_pool *bodies; /* of the jobs */
	struct tls_lib *tls_lib; /* the far end's */
	struct tls_server_set *server;
	struct tls_client_set *client;
};

/* `change` may alter the configuration before the worker is made; NULL: no. `documents`: the policy. */
struct lab *lab_new(const char *documents, void (*change)(struct config *config));
void lab_free(struct lab *lab);
/* A newer generation of the policy. */
void lab_policy(struct lab *lab, const char *documents, uint64_t number, bool has_certs);
/* Lets virtual time pass. */
void lab_run(struct lab *lab, uint64_t us);

/* A policy: friend.example.test may send anywhere, everybody to here.example.test. */
extern const char lab_open_to_all[];

struct peer *lab_connect(struct lab *lab, uint16_t port);
/* A client in clear that has been greeted and whose EHLO has been answered. */
struct peer *lab_greeted(struct lab *lab);
/* The next connection the worker has opened; fails the test if there is none soon. */
struct peer *lab_accepted(struct lab *lab);
bool lab_has_accepted(struct lab *lab);
void lab_say(struct peer *p, const char *text);
/* A mail to b@here.example.test up to the 354, or whole: the reply to it is for the test to expect. */
void lab_begin_data(struct peer *p);
void lab_say_mail(struct peer *p);
/* Waits for the text, and drops all up to its end. */
void lab_expect(struct peer *p, const char *text);
void lab_expect_end(struct peer *p);
/* Sends up to `n` bytes of a ClientHello, where the last call stopped; how many. The test hears what is answered. */
size_t lab_say_hello(struct peer *p, size_t n);
/* Shakes hands as the server, or as the client. */
void lab_secure(struct peer *p, bool is_server);

/* The verdict on the mail that waits for it. */
void lab_verdict(struct lab *lab, bool is_durable);

struct lab_job {
	struct queue_job job;
	struct queue_route route;
	struct smtp_reply outcomes[1];
	struct bytes recipients[1];
	char recipient[128];
};
/* A mail to b@DOMAIN with `targets` hosts, all the far end. */
struct lab_job *lab_job_new(struct lab *lab, const char *domain, unsigned targets, size_t content);
void lab_job_free(struct lab_job *job);
/* Gives it to the worker; `kept` NULL, or the job whose connection is to be used. */
void lab_job_start(struct lab *lab, struct lab_job *job, const struct lab_job *kept, uint32_t mails_left);
/* Waits so long at most for the job to come home, once; fails the test if it does not. */
void lab_job_expect(struct lab *lab, struct lab_job *job, uint64_t within_us);
bool lab_job_is_home(struct lab *lab);
/* Plays the host up to its answer to the content. */
void lab_serve(struct peer *p);
