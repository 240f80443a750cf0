// SPDX-License-Identifier: Apache-2.0
/* control/daemon/resolver.h: the life of a relay's question to libunbound, whatever is asked. Private to resolver.c and
 * to the two kinds of question, targets.c and reverse.c. All of it on the main loop, under control's lock.
 *
 * A question has any number of look-ups under way. It is answered when the last of them is done or at its deadline,
 * whichever is first, and freed when the library has none of its look-ups left. */
#pragma once

#include "control/daemon/control.h"

#include <unbound.h>

enum { TYPE_A = 1, TYPE_PTR = 12, TYPE_MX = 15, TYPE_AAAA = 28, CLASS_IN = 1 };
#define QUESTIONS_MAX 4096 /* of each kind under way; a relay asks some hundred at once */

enum question_kind {
	QUESTION_TARGETS, /* where a domain's mail goes, or where a host is */
	QUESTION_NAME,	  /* what a client is called */
	QUESTION_KINDS,
};

/* The first member of what a kind knows of its question. */
struct question {
	struct question *next;
	struct resolver *resolver;
	enum question_kind kind;
	int peer;
	uint64_t attached_us; /* of the peer: the slot may be another relay by then */
	uint64_t token, deadline_us;
	unsigned under_way; /* look-ups the library still has */
	bool is_answered, has_timed_out;
};

struct lookup { /* what the library hands back with an answer */
	struct question *question;
	int type, index; /* `index` is the kind's: which of its hosts or names; -1: the first look-up, for the set of them */
};

struct resolver {
	struct control *control;
	struct ub_ctx *ub;
	struct question *questions;
	unsigned count[QUESTION_KINDS];
	bool has_ipv4, has_ipv6; /* is there a local address to reach such a target from? */
};

/* `size` bytes, zeroed, with the question at their head; NULL: no memory. The token is the request's. */
void *question_new(struct resolver *r, enum question_kind kind, size_t size, int peer, yyjson_val *request, unsigned seconds);
/* Are more than QUESTIONS_MAX of its kind under way? Then it is to be answered at once. */
bool question_is_one_too_many(const struct question *q);
/* false: the library would not begin it; nothing comes of it then. */
bool question_look_up(struct question *q, const char *name, int type, int index);
/* Once the first look-ups have begun, or could not: a question without any under way is answered and freed. */
void question_settle(struct question *q);
/* Sends the answer, if the relay that has asked is still the same, and frees the document. Once for each question. */
void question_send(struct question *q, yyjson_mut_doc *doc);

/* The name in wire form (RFC 1035 3.1) as text; false: not a name that mail can go to. */
bool resolver_name_from_wire(const unsigned char *wire, size_t n, char to[256]);
/* An address of an answer of TYPE_A or TYPE_AAAA; false: none. */
bool resolver_address(const struct ub_result *result, int type, int i, struct addr *addr);

/* The kinds: *_ask() takes a relay's request; *_on_result() what the library says, `error` and `result` as its callback
 * gets them, never after the answer; *_answer() sends what is known by now. */
void targets_ask(struct resolver *r, int peer, yyjson_val *request);
void targets_on_result(struct question *q, const struct lookup *l, int error, const struct ub_result *result);
void targets_answer(struct question *q);
void reverse_ask(struct resolver *r, int peer, yyjson_val *request);
void reverse_on_result(struct question *q, const struct lookup *l, int error, const struct ub_result *result);
void reverse_answer(struct question *q);
