// SPDX-License-Identifier: Apache-2.0
/* control/daemon/targets.c: where a domain's mail goes (RFC 5321 5.1), for relays that ask.
 *
 * A question becomes a *search*: MX, then the addresses of each host, all under way at once;
 * without an MX the domain itself is the host. Null MX (RFC 7505) is final; names that do not exist
 * are final; a server that fails or does not answer in time defers. Hosts that are ourselves, and
 * all of no better preference, are dropped. */
#include "control/daemon/resolver.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define RECORDS_MAX   64   /* of an MX set that are read */
#define HOSTS_MAX     16   /* of these, the best ones */
#define ADDRESSES_MAX 8	   /* of a host and family */
#define TARGETS_MAX   32
#define NO_TTL	      3600

struct host {
	char name[256];
	unsigned preference, shuffle;
	struct addr addresses[2][ADDRESSES_MAX]; /* IPv6, IPv4 */
	unsigned counts[2];
	bool is_ours, is_missing; /* is_missing: the name does not exist or has no address */
};

struct search {
	struct question q;
	char name[256];
	bool is_mx;
	bool has_failed, is_bogus;
	uint32_t ttl;
	unsigned host_count;
	struct host hosts[HOSTS_MAX];
};

/* ---- the answer ---- */

static void count(struct control *c, const char *outcome)
{
	c->names.ok += strcmp(outcome, "ok") == 0;
	c->names.deferred += strcmp(outcome, "defer") == 0;
	c->names.failed += strcmp(outcome, "fail") == 0;
}

static yyjson_mut_doc *answer_new(const struct search *s, const char *outcome)
{
	count(s->q.resolver->control, outcome);
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "type", "resolved");
	yyjson_mut_obj_add_uint(doc, root, "token", s->q.token);
	yyjson_mut_obj_add_str(doc, root, "outcome", outcome);
	yyjson_mut_obj_add_uint(doc, root, "ttl", s->ttl);
	return doc;
}

static void answer_failure(struct search *s, const char *outcome, unsigned code,
	const char *enhanced, const char *text)
{
	yyjson_mut_doc *doc = answer_new(s, outcome);
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	yyjson_mut_obj_add_uint(doc, root, "code", code);
	yyjson_mut_obj_add_str(doc, root, "enhanced", enhanced);
	yyjson_mut_obj_add_strcpy(doc, root, "text", text);
	question_send(&s->q, doc);
}

static int by_preference(const void *a, const void *b)
{
	const struct host *x = a, *y = b;
	if (x->preference != y->preference)
		return x->preference < y->preference ? -1 : 1;
	return x->shuffle < y->shuffle ? -1 : x->shuffle > y->shuffle;
}

/* Our own host, and all that are not preferred to it, would send the mail round (RFC 5321 5.1). */
static unsigned hosts_before_us(const struct search *s)
{
	unsigned least = UINT32_MAX, n = 0;
	for (unsigned i = 0; i < s->host_count; i++)
		if (s->hosts[i].is_ours && s->hosts[i].preference < least)
			least = s->hosts[i].preference;
	while (n < s->host_count && s->hosts[n].preference < least)
		n++;
	return n;
}

static void answer_targets(struct search *s, unsigned usable)
{
	yyjson_mut_doc *doc = answer_new(s, "ok");
	yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "targets");
	unsigned n = 0;
	for (unsigned h = 0; h < usable; h++)
		for (unsigned i = 0; i < 2 * ADDRESSES_MAX && n < TARGETS_MAX; i++) {
			char text[ADDR_TEXT_MAX];
			const struct host *host = &s->hosts[h];
			unsigned family = i / ADDRESSES_MAX,
				 of_family = i % ADDRESSES_MAX; /* IPv6 first */
			if (of_family >= host->counts[family])
				continue;
			yyjson_mut_val *target = yyjson_mut_arr_add_obj(doc, list);
			yyjson_mut_obj_add_strcpy(doc, target, "host", host->name);
			yyjson_mut_obj_add_strcpy(doc, target, "address",
				addr_format(&host->addresses[family][of_family], text));
			yyjson_mut_obj_add_uint(doc, target, "preference", host->preference);
			n++;
		}
	question_send(&s->q, doc);
}

/* Names of the DNS and hosts of routes end here when there is no address to go to. A host that a
 * route names is the operator's own mistake, or one that is being mended: mail waits for it. */
static void answer_none(struct search *s, bool all_missing)
{
	char text[400];
	if (s->has_failed || s->q.has_timed_out) {
		snprintf(text, sizeof text, "name service error for %s: %s", s->name,
			s->is_bogus		   ? "DNSSEC validation failed"
				: s->q.has_timed_out ? "no answer in time"
						   : "no usable answer, try again");
		answer_failure(s, "defer", 451, "4.4.3", text);
	} else if (all_missing && s->is_mx) {
		snprintf(text, sizeof text,
			"domain %s does not exist or has no mail host with an address", s->name);
		answer_failure(s, "fail", 550, "5.1.2", text);
	} else if (all_missing) {
		snprintf(text, sizeof text, "host %s does not exist or has no address", s->name);
		answer_failure(s, "defer", 451, "4.4.4", text);
	} else {
		snprintf(text, sizeof text,
			"no address of %s can be reached from this node's address families",
			s->name);
		answer_failure(s, "defer", 451, "4.4.4", text);
	}
}

void targets_answer(struct question *q)
{
	struct search *s = (struct search *)q;
	char text[400];
	qsort(s->hosts, s->host_count, sizeof *s->hosts, by_preference);
	unsigned usable = hosts_before_us(s), addresses = 0;
	bool all_missing = true;
	for (unsigned h = 0; h < usable; h++) {
		addresses += s->hosts[h].counts[0] + s->hosts[h].counts[1];
		all_missing &= s->hosts[h].is_missing;
	}
	if (addresses != 0) {
		answer_targets(s, usable);
	} else if (s->host_count != 0 && usable == 0) {
		snprintf(text, sizeof text, "mail for %s loops back to myself", s->name);
		answer_failure(s, "fail", 554, "5.4.6", text);
	} else {
		answer_none(s, all_missing);
	}
}

/* ---- look-ups ---- */

static void look_up(struct search *s, const char *name, int type, int host)
{
	if (!question_look_up(&s->q, name, type, host))
		s->has_failed = true;
}

static bool is_our_name(const struct search *s, const char *name)
{
	return strcasecmp(name, s->q.resolver->control->config->node.hostname) == 0;
}

static bool is_our_address(const struct search *s, const struct addr *addr)
{
	const struct config *config = s->q.resolver->control->config;
	for (unsigned p = 0; p < config->dataplane.ports_count; p++)
		for (unsigned i = 0; i < config->dataplane.ports[p].addresses_count; i++) {
			struct addr ours;
			struct prefix network;
			if (config_parse_interface(
				    config->dataplane.ports[p].addresses[i], &ours, &network) &&
				addr_equal(&ours, addr))
				return true;
		}
	return false;
}

static void add_host(struct search *s, const char *name, unsigned preference)
{
	if (s->host_count == HOSTS_MAX)
		return;
	int index = (int)s->host_count++;
	struct host *h = &s->hosts[index];
	snprintf(h->name, sizeof h->name, "%s", name);
	h->preference = preference;
	h->is_missing = true; /* until an address is found */
	h->is_ours = s->is_mx && is_our_name(s, name);
	if (getrandom(&h->shuffle, sizeof h->shuffle, 0) < 0)
		h->shuffle = (unsigned)index;
	/* Both, also where we have no address of that family: a host out of reach is not one that
	 * does not exist. */
	look_up(s, name, TYPE_AAAA, index);
	look_up(s, name, TYPE_A, index);
}

struct mx {
	unsigned preference;
	char name[256];
};

static int by_mx_preference(const void *a, const void *b)
{
	const struct mx *x = a, *y = b;
	return (x->preference > y->preference) - (x->preference < y->preference);
}

/* The hosts of an MX set, the best first and as many as we try; how many. */
static unsigned read_mx(const struct ub_result *result, struct mx to[RECORDS_MAX])
{
	unsigned count = 0;
	for (int i = 0; result->data[i] != NULL && count < RECORDS_MAX; i++) {
		const unsigned char *rdata = (const unsigned char *)result->data[i];
		size_t n = (size_t)result->len[i];
		if (n < 3 || !resolver_name_from_wire(rdata + 2, n - 2, to[count].name))
			continue;
		to[count++].preference = (unsigned)rdata[0] << 8 | rdata[1];
	}
	qsort(to, count, sizeof *to, by_mx_preference);
	return count;
}

static void on_mx(struct search *s, const struct ub_result *result)
{
	struct mx records[RECORDS_MAX];
	if (!result->havedata) { /* RFC 5321 5.1: the domain itself, if it exists */
		if (!result->nxdomain)
			add_host(s, s->name, 0);
		return;
	}
	unsigned count = read_mx(result, records);
	if (count == 1 && records[0].name[0] == '\0') { /* RFC 7505 3 */
		answer_failure(
			s, "fail", 556, "5.1.10", "the domain does not accept mail (null MX)");
		return;
	}
	for (unsigned i = 0; i < count; i++)
		if (records[i].name[0] != '\0')
			add_host(s, records[i].name, records[i].preference);
	if (s->host_count == 0)
		s->has_failed = true;
}

static void on_addresses(struct search *s, struct host *h, int type, const struct ub_result *result)
{
	unsigned family = type == TYPE_A;
	bool is_in_reach = family == 1 ? s->q.resolver->has_ipv4 : s->q.resolver->has_ipv6;
	for (int i = 0; result->havedata && result->data[i] != NULL; i++) {
		struct addr a;
		if (!resolver_address(result, type, i, &a))
			continue;
		h->is_missing = false;
		if (s->is_mx && is_our_address(s, &a))
			h->is_ours = true;
		if (is_in_reach && h->counts[family] < ADDRESSES_MAX && !addr_is_unspecified(&a) &&
			!addr_is_multicast(&a))
			h->addresses[family][h->counts[family]++] = a;
	}
}

void targets_on_result(struct question *q, const struct lookup *l, int error, const struct ub_result *result)
{
	struct search *s = (struct search *)q;
	if (error == UB_SYNTAX)
		return; /* what is no name exists nowhere */
	if (error != 0 || result == NULL || result->bogus || (result->rcode != 0 && result->rcode != 3)) {
		s->has_failed = true;
		s->is_bogus |= result != NULL && result->bogus;
		return;
	}
	if (result->ttl > 0 && (uint32_t)result->ttl < s->ttl)
		s->ttl = (uint32_t)result->ttl;
	if (l->index < 0)
		on_mx(s, result);
	else
		on_addresses(s, &s->hosts[l->index], l->type, result);
}

void targets_ask(struct resolver *r, int peer, yyjson_val *request)
{
	const char *domain = yyjson_get_str(yyjson_obj_get(request, "domain"));
	const char *host = yyjson_get_str(yyjson_obj_get(request, "host"));
	const char *name = domain != NULL ? domain : host;
	if (name == NULL)
		return;
	struct search *s =
		question_new(r, QUESTION_TARGETS, sizeof *s, peer, request, r->control->config->dns.timeout);
	if (s == NULL) /* the relay asks again */
		return;
	s->ttl = NO_TTL;
	s->is_mx = domain != NULL;
	snprintf(s->name, sizeof s->name, "%s", name);
	if (question_is_one_too_many(&s->q))
		s->has_failed = true; /* deferred at once */
	else if (strlen(name) >= sizeof s->name)
		s->host_count = 0; /* no name is so long (RFC 1035 2.3.4): it does not exist */
	else if (s->is_mx)
		look_up(s, s->name, TYPE_MX, -1);
	else
		add_host(s, s->name, 0);
	question_settle(&s->q);
}
