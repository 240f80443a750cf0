// SPDX-License-Identifier: Apache-2.0
/* control/daemon/resolver.c: libunbound, and the life of the questions that relays have to it. */
#include "control/daemon/resolver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

/* ---- set-up ---- */

static void find_families(struct resolver *r)
{
	const struct config *config = r->control->config;
	for (unsigned p = 0; p < config->dataplane.ports_count; p++)
		for (unsigned i = 0; i < config->dataplane.ports[p].addresses_count; i++) {
			struct addr addr;
			struct prefix network;
			if (!config_parse_interface(
				    config->dataplane.ports[p].addresses[i], &addr, &network) ||
				addr_is_link_local(&addr))
				continue;
			if (addr_is_ipv4(&addr))
				r->has_ipv4 = true;
			else
				r->has_ipv6 = true;
		}
}

static int set_up(struct resolver *r, char error[512])
{
	const char *server = r->control->config->dns.server;
	int rc;
	/* What private and other special addresses are called is for the server to say. */
	ub_ctx_set_option(r->ub, "unblock-lan-zones:", "yes");
	if (server == NULL || server[0] == '\0') {
		rc = ub_ctx_resolvconf(r->ub, NULL);
	} else {
		rc = ub_ctx_set_fwd(r->ub, server);
		/* A server on this host is as good as any; and what it says of "test." is for it to
		 * say (RFC 6761 has libraries answer for it themselves, which a lab does not want). */
		ub_ctx_set_option(r->ub, "do-not-query-localhost:", "no");
		ub_ctx_zone_add(r->ub, "test.", "transparent");
	}
	if (rc != 0) {
		snprintf(error, 512, "the resolver cannot use dns.server '%s': %s",
			server == NULL ? "" : server, ub_strerror(rc));
		return -EINVAL;
	}
	if (r->control->config->dns.dnssec &&
		ub_ctx_add_ta_file(r->ub, "/usr/share/dns/root.key") != 0)
		log_warn("resolver", "no DNSSEC root key; answers are not validated",
			"file=/usr/share/dns/root.key");
	ub_ctx_async(r->ub, 1); /* a thread of the library's */
	return 0;
}

struct resolver *resolver_create(struct control *c, char error[512])
{
	struct resolver *r = calloc(1, sizeof *r);
	if (r == NULL || (r->ub = ub_ctx_create()) == NULL) {
		snprintf(error, 512, "the resolver: out of memory");
		free(r);
		return NULL;
	}
	r->control = c;
	find_families(r);
	if (set_up(r, error) < 0) {
		resolver_destroy(r);
		return NULL;
	}
	return r;
}

void resolver_destroy(struct resolver *r)
{
	if (r == NULL)
		return;
	ub_ctx_delete(r->ub); /* calls back for nothing that is still under way */
	for (struct question *q = r->questions, *next; q != NULL; q = next) {
		next = q->next;
		free(q);
	}
	free(r);
}

int resolver_fd(const struct resolver *r)
{
	return ub_fd(r->ub);
}

/* ---- a question ---- */

void *question_new(struct resolver *r, enum question_kind kind, size_t size, int peer, yyjson_val *request, unsigned seconds)
{
	struct question *q = calloc(1, size);
	if (q == NULL)
		return NULL;
	*q = (struct question){.next = r->questions,
		.resolver = r,
		.kind = kind,
		.peer = peer,
		.attached_us = r->control->relays[peer].attached_us,
		.token = yyjson_get_uint(yyjson_obj_get(request, "token")),
		.deadline_us = time_monotonic_us() + seconds * USEC_PER_SEC};
	r->questions = q;
	r->count[kind]++;
	r->control->names.questions++;
	return q;
}

bool question_is_one_too_many(const struct question *q)
{
	return q->resolver->count[q->kind] > QUESTIONS_MAX;
}

static void forget(struct question *q)
{
	struct question **link = &q->resolver->questions;
	while (*link != q)
		link = &(*link)->next;
	*link = q->next;
	q->resolver->count[q->kind]--;
	free(q);
}

static void answer(struct question *q)
{
	switch (q->kind) {
	case QUESTION_TARGETS: targets_answer(q); break;
	case QUESTION_NAME: reverse_answer(q); break;
	case QUESTION_KINDS: break;
	}
}

void question_settle(struct question *q)
{
	if (q->under_way != 0)
		return;
	if (!q->is_answered)
		answer(q);
	forget(q);
}

static void on_answer(void *user, int error, struct ub_result *result)
{
	struct lookup l = *(struct lookup *)user;
	struct question *q = l.question;
	free(user);
	q->under_way--;
	if (!q->is_answered && q->kind == QUESTION_TARGETS)
		targets_on_result(q, &l, error, result);
	else if (!q->is_answered)
		reverse_on_result(q, &l, error, result);
	ub_resolve_free(result);
	question_settle(q);
}

bool question_look_up(struct question *q, const char *name, int type, int index)
{
	struct lookup *l = malloc(sizeof *l);
	if (l != NULL)
		*l = (struct lookup){.question = q, .type = type, .index = index};
	if (l == NULL || ub_resolve_async(q->resolver->ub, name, type, CLASS_IN, l, on_answer, NULL) != 0) {
		free(l);
		return false;
	}
	q->under_way++;
	return true;
}

void question_send(struct question *q, yyjson_mut_doc *doc)
{
	size_t n;
	struct relay_peer *p = &q->resolver->control->relays[q->peer];
	char *json = yyjson_mut_write(doc, 0, &n);
	if (json != NULL && p->fd >= 0 && p->attached_us == q->attached_us)
		link_send(p->fd, bytes_of(json, n), NULL, 0);
	free(json);
	yyjson_mut_doc_free(doc);
	q->is_answered = true;
}

/* ---- what is asked and answered ---- */

void resolver_ask(struct resolver *r, int peer, yyjson_val *request)
{
	if (yyjson_obj_get(request, "address") != NULL)
		reverse_ask(r, peer, request);
	else
		targets_ask(r, peer, request);
}

void resolver_process(struct resolver *r)
{
	uint64_t now = time_monotonic_us();
	ub_process(r->ub);
	/* What takes too long is answered now, and forgotten when the library is done with it. */
	for (struct question *q = r->questions; q != NULL; q = q->next)
		if (!q->is_answered && now >= q->deadline_us) {
			q->has_timed_out = true;
			answer(q);
		}
}

/* ---- the wire's forms ---- */

bool resolver_name_from_wire(const unsigned char *wire, size_t n, char to[256])
{
	size_t at = 0, out = 0;
	while (at < n && wire[at] != 0) {
		size_t label = wire[at++];
		if (label > 63 || at + label > n || out + label + 1 >= 255)
			return false;
		for (size_t i = 0; i < label; i++) {
			unsigned char c = wire[at + i];
			if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '.')
				return false;
			to[out++] = (char)c;
		}
		to[out++] = '.';
		at += label;
	}
	to[out == 0 ? 0 : out - 1] = '\0';
	return at < n;
}

bool resolver_address(const struct ub_result *result, int type, int i, struct addr *addr)
{
	const uint8_t *rdata = (const uint8_t *)result->data[i];
	if (type == TYPE_A && result->len[i] == 4)
		*addr = addr_from_ipv4(rdata);
	else if (type == TYPE_AAAA && result->len[i] == 16)
		memcpy(addr->b, rdata, 16);
	else
		return false;
	return true;
}
