// SPDX-License-Identifier: Apache-2.0
/* control/daemon/reverse.c: what a client is called: a name that its address points to (PTR) and that points back to
 * the address (RFC 8601 2.7.3 "iprev"), for relays whose rules ask for it.
 *
 * Anybody can point an address of theirs to a name of somebody else; only who has the name can point it back. Of
 * several such names the first in order of the alphabet is told, so that it is the same one each time. Whatever
 * goes wrong, a server that fails or is slow or an answer that is bogus, leaves the client without a name. */
#include "control/daemon/resolver.h"

#include <stdio.h>

#define NAMES_MAX 10 /* of one address; RFC 7208 4.6.4 looks at as many */

struct reverse {
	struct question q;
	struct addr addr;
	unsigned name_count;
	struct {
		char text[256];
		bool is_confirmed;
	} names[NAMES_MAX];
};

void reverse_answer(struct question *q)
{
	const struct reverse *s = (const struct reverse *)q;
	struct control *c = q->resolver->control;
	const char *name = "";
	for (unsigned i = 0; i < s->name_count; i++)
		if (s->names[i].is_confirmed && (name[0] == '\0' || strcmp(s->names[i].text, name) < 0))
			name = s->names[i].text;
	c->names.ok += name[0] != '\0';
	c->names.failed += name[0] == '\0';
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "type", "named");
	yyjson_mut_obj_add_uint(doc, root, "token", q->token);
	yyjson_mut_obj_add_str(doc, root, "name", name);
	question_send(q, doc);
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
		question_look_up(&s->q, s->names[i].text, addr_is_ipv4(&s->addr) ? TYPE_A : TYPE_AAAA, (int)i);
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

void reverse_on_result(struct question *q, const struct lookup *l, int error, const struct ub_result *result)
{
	struct reverse *s = (struct reverse *)q;
	if (error != 0 || result == NULL || result->bogus || result->rcode != 0)
		return;
	if (l->index < 0)
		on_names(s, result);
	else
		on_addresses(s, l->index, result);
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

void reverse_ask(struct resolver *r, int peer, yyjson_val *request)
{
	char name[80];
	const char *address = yyjson_get_str(yyjson_obj_get(request, "address"));
	struct reverse *s =
		question_new(r, QUESTION_NAME, sizeof *s, peer, request, r->control->config->timeouts.client_name);
	if (s == NULL) /* the relay does not wait for long */
		return;
	if (!question_is_one_too_many(&s->q) && address != NULL && addr_parse(address, &s->addr)) {
		reverse_name(&s->addr, name);
		question_look_up(&s->q, name, TYPE_PTR, -1);
	}
	question_settle(&s->q);
}
