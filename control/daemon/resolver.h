// SPDX-License-Identifier: Apache-2.0
/* control/daemon/resolver.h: what the two kinds of question to libunbound share. Private to resolver.c and reverse.c. */
#pragma once

#include "control/daemon/control.h"

#include <unbound.h>

enum { TYPE_A = 1, TYPE_PTR = 12, TYPE_MX = 15, TYPE_AAAA = 28, CLASS_IN = 1 };
#define SEARCHES_MAX 4096 /* of each kind under way; a relay asks some hundred at once */

struct resolver {
	struct control *control;
	struct ub_ctx *ub;
	struct search *searches;   /* where a domain's mail goes */
	struct reverse *reverses; /* clients' names */
	unsigned count, reverse_count;
	bool has_ipv4, has_ipv6; /* is there a local address to reach such a target from? */
};

/* The name in wire form (RFC 1035 3.1) as text; false: not a name that mail can go to. */
bool resolver_name_from_wire(const unsigned char *wire, size_t n, char to[256]);
/* An address of an answer of TYPE_A or TYPE_AAAA; false: none. */
bool resolver_address(const struct ub_result *result, int type, int i, struct addr *addr);
/* To the relay that has asked, if it is still the same. */
void resolver_send(struct resolver *r, int peer, uint64_t attached_us, yyjson_mut_doc *doc);

/* reverse.c, as resolver_ask() and resolver_process() */
void reverse_ask(struct resolver *r, int peer, yyjson_val *question);
void reverse_expire(struct resolver *r, uint64_t now_us);
void reverse_free_all(struct resolver *r);
