// SPDX-License-Identifier: Apache-2.0
/* control/daemon/reverse.c: what a client is called: a name that its address points to (PTR) and that points back to
 * the address (RFC 8601 2.7.3 "iprev"), by libunbound, for relays whose rules ask for it.
 *
 * Anybody can point an address of theirs to a name of somebody else; only who has the name can point it back. Of
 * several such names the first in order of the alphabet is told, so that it is the same one each time. Whatever
 * goes wrong, a server that fails or is slow or an answer that is bogus, leaves the client without a name. */
#include "control/daemon/resolver.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define NAMES_MAX 10 /* of one address; RFC 7208 4.6.4 looks at as many */

struct reverse {
	struct reverse *next;
	struct resolver *resolver;
	int peer;
	uint64_t attached_us; /* of the peer: the slot may be another relay by then */
	uint64_t token, deadline_us;
	struct addr addr;
	unsigned under_way; /* look-ups the library still has */
	bool is_answered;
	unsigned name_count;
	struct {
		char text[256];
		bool is_confirmed;
	} names[NAMES_MAX];
};

struct lookup { /* what the library hands back with an answer */
	struct reverse *reverse;
	int name; /* -1: the PTR set */
};

static void answer(struct reverse *s)
{
	const char *name = "";
	for (unsigned i = 0; i < s->name_count; i++)
		if (s->names[i].is_confirmed && (name[0] == '\0' || strcmp(s->names[i].text, name) < 0))
			name = s->names[i].text;
	s->resolver->control->names.ok += name[0] != '\0';
	s->resolver->control->names.failed += name[0] == '\0';
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "type", "named");
	yyjson_mut_obj_add_uint(doc, root, "token", s->token);
	yyjson_mut_obj_add_str(doc, root, "name", name);
	resolver_send(s->resolver, s->peer, s->attached_us, doc);
	s->is_answered = true;
}

static void on_answer(void *user, int error, struct ub_result *result);

static void look_up(struct reverse *s, const char *name, int type, int index)
{
	struct lookup *l = malloc(sizeof *l);
	if (l != NULL)
		*l = (struct lookup){.reverse = s, .name = index};
	if (l == NULL || ub_resolve_async(s->resolver->ub, name, type, CLASS_IN, l, on_answer, NULL) != 0) {
		free(l);
		return;
	}
	s->under_way++;
}

/* A host's name and nothing else: it goes into records and header fields. */
static bool is_host_name(const char *name)
{
	return name[0] != '\0' &&
		name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == '\0';
}

static void on_names(struct reverse *s, const struct ub_result *result)
{
	for (int i = 0; result->havedata && result->data[i] != NULL && s->name_count < NAMES_MAX; i++) {
		char *name = s->names[s->name_count].text;
		if (!resolver_name_from_wire((const unsigned char *)result->data[i], (size_t)result->len[i], name))
			continue;
		for (char *p = name; *p != '\0'; p++)
			*p = (char)byte_lower((uint8_t)*p);
		if (is_host_name(name))
			s->name_count++;
	}
	for (unsigned i = 0; i < s->name_count; i++)
		look_up(s, s->names[i].text, addr_is_ipv4(&s->addr) ? TYPE_A : TYPE_AAAA, (int)i);
}

static void on_addresses(struct reverse *s, int name, const struct ub_result *result)
{
	int type = addr_is_ipv4(&s->addr) ? TYPE_A : TYPE_AAAA;
	for (int i = 0; result->havedata && result->data[i] != NULL; i++) {
		struct addr a;
		if (resolver_address(result, type, i, &a) && addr_equal(&a, &s->addr))
			s->names[name].is_confirmed = true;
	}
}

static void forget(struct reverse *s)
{
	struct reverse **link = &s->resolver->reverses;
	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	s->resolver->reverse_count--;
	free(s);
}

static void on_answer(void *user, int error, struct ub_result *result)
{
	struct lookup l = *(struct lookup *)user;
	struct reverse *s = l.reverse;
	free(user);
	s->under_way--;
	if (error == 0 && result != NULL && !result->bogus && result->rcode == 0 && !s->is_answered) {
		if (l.name < 0)
			on_names(s, result);
		else
			on_addresses(s, l.name, result);
	}
	ub_resolve_free(result);
	if (s->under_way != 0)
		return;
	if (!s->is_answered)
		answer(s);
	forget(s);
}

/* "9.2.0.192.in-addr.arpa." (RFC 1035 3.5), or its nibbles under ip6.arpa. (RFC 3596 2.5) */
static void reverse_name(const struct addr *addr, char to[80])
{
	size_t n = 0;
	bool is_ipv4 = addr_is_ipv4(addr);
	for (int i = 15; i >= (is_ipv4 ? 12 : 0); i--)
		n += (size_t)(is_ipv4 ? snprintf(to + n, 80 - n, "%u.", addr->b[i])
				      : snprintf(to + n, 80 - n, "%x.%x.", addr->b[i] & 15, addr->b[i] >> 4));
	snprintf(to + n, 80 - n, "%s", is_ipv4 ? "in-addr.arpa." : "ip6.arpa.");
}

void reverse_ask(struct resolver *r, int peer, yyjson_val *question)
{
	char name[80];
	const char *address = yyjson_get_str(yyjson_obj_get(question, "address"));
	struct reverse *s = calloc(1, sizeof *s);
	if (s == NULL) /* the relay does not wait for long */
		return;
	s->resolver = r;
	s->peer = peer;
	s->attached_us = r->control->relays[peer].attached_us;
	s->token = yyjson_get_uint(yyjson_obj_get(question, "token"));
	s->deadline_us = time_monotonic_us() + r->control->config->timeouts.client_name * USEC_PER_SEC;
	s->next = r->reverses;
	r->reverses = s;
	r->control->names.questions++;
	if (++r->reverse_count <= SEARCHES_MAX && address != NULL && addr_parse(address, &s->addr)) {
		reverse_name(&s->addr, name);
		look_up(s, name, TYPE_PTR, -1);
	}
	if (s->under_way == 0) {
		answer(s);
		forget(s);
	}
}

void reverse_expire(struct resolver *r, uint64_t now_us)
{
	for (struct reverse *s = r->reverses; s != NULL; s = s->next)
		if (!s->is_answered && now_us >= s->deadline_us) {
			/* What is confirmed by now counts; the rest is forgotten when the library is done with it. */
			answer(s);
		}
}

void reverse_free_all(struct resolver *r)
{
	for (struct reverse *s = r->reverses, *next; s != NULL; s = next) {
		next = s->next;
		free(s);
	}
}
