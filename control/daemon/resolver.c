// SPDX-License-Identifier: Apache-2.0
/* control/daemon/resolver.c: where a domain's mail goes (RFC 5321 5.1), by libunbound, for relays
 * that ask.
 *
 * A question becomes a *search*: MX, then the addresses of each host, all under way at once;
 * without an MX the domain itself is the host. Null MX (RFC 7505) is final; names that do not exist
 * are final; a server that fails or does not answer in time defers. Hosts that are ourselves, and
 * all of no better preference, are dropped. */
#include "control/daemon/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"

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
	struct search *next;
	struct resolver *resolver;
	int peer;
	uint64_t attached_us; /* of the peer: the slot may be another relay by then */
	uint64_t token, deadline_us;
	char name[256];
	bool is_mx;
	unsigned under_way; /* look-ups the library still has */
	bool is_answered, has_failed, is_bogus, has_timed_out;
	uint32_t ttl;
	unsigned host_count;
	struct host hosts[HOSTS_MAX];
};

struct lookup { /* what the library hands back with an answer */
	struct search *search;
	int host, type; /* host -1: the MX set */
};

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
		 * say (RFC 6761 has libraries answer for it themselves, which a lab does not want).
		 */
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
	for (struct search *s = r->searches, *next; s != NULL; s = next) {
		next = s->next;
		free(s);
	}
	reverse_free_all(r);
	free(r);
}

int resolver_fd(const struct resolver *r)
{
	return ub_fd(r->ub);
}

/* ---- the answer ---- */

void resolver_send(struct resolver *r, int peer, uint64_t attached_us, yyjson_mut_doc *doc)
{
	size_t n;
	struct relay_peer *p = &r->control->relays[peer];
	char *json = yyjson_mut_write(doc, 0, &n);
	if (json != NULL && p->fd >= 0 && p->attached_us == attached_us)
		link_send(p->fd, bytes_of(json, n), NULL, 0);
	free(json);
	yyjson_mut_doc_free(doc);
}

static void send_json(struct search *s, yyjson_mut_doc *doc)
{
	resolver_send(s->resolver, s->peer, s->attached_us, doc);
	s->is_answered = true;
}

static void count(struct control *c, const char *outcome)
{
	c->names.ok += strcmp(outcome, "ok") == 0;
	c->names.deferred += strcmp(outcome, "defer") == 0;
	c->names.failed += strcmp(outcome, "fail") == 0;
}

static yyjson_mut_doc *answer_new(const struct search *s, const char *outcome)
{
	count(s->resolver->control, outcome);
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "type", "resolved");
	yyjson_mut_obj_add_uint(doc, root, "token", s->token);
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
	send_json(s, doc);
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
	send_json(s, doc);
}

/* Names of the DNS and hosts of routes end here when there is no address to go to. A host that a
 * route names is the operator's own mistake, or one that is being mended: mail waits for it. */
static void answer_none(struct search *s, bool all_missing)
{
	char text[400];
	if (s->has_failed) {
		snprintf(text, sizeof text, "name service error for %s: %s", s->name,
			s->is_bogus		   ? "DNSSEC validation failed"
				: s->has_timed_out ? "no answer in time"
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

static void answer(struct search *s)
{
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

static void on_answer(void *user, int error, struct ub_result *result);

static void look_up(struct search *s, const char *name, int type, int host)
{
	struct lookup *l = malloc(sizeof *l);
	if (l != NULL)
		*l = (struct lookup){.search = s, .host = host, .type = type};
	if (l == NULL ||
		ub_resolve_async(s->resolver->ub, name, type, CLASS_IN, l, on_answer, NULL) != 0) {
		free(l);
		s->has_failed = true;
		return;
	}
	s->under_way++;
}

static bool is_our_name(const struct search *s, const char *name)
{
	return strcasecmp(name, s->resolver->control->config->node.hostname) == 0;
}

static bool is_our_address(const struct search *s, const struct addr *addr)
{
	const struct config *config = s->resolver->control->config;
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

static void on_addresses(struct search *s, struct host *h, int type, const struct ub_result *result)
{
	unsigned family = type == TYPE_A;
	bool is_in_reach = family == 1 ? s->resolver->has_ipv4 : s->resolver->has_ipv6;
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

static void forget(struct search *s)
{
	struct search **link = &s->resolver->searches;
	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	s->resolver->count--;
	free(s);
}

static void on_answer(void *user, int error, struct ub_result *result)
{
	struct lookup l = *(struct lookup *)user;
	struct search *s = l.search;
	free(user);
	s->under_way--;
	if (error == UB_SYNTAX) {
		; /* what is no name exists nowhere */
	} else if (error != 0 || result == NULL || result->bogus ||
		(result->rcode != 0 && result->rcode != 3)) {
		s->has_failed = true;
		s->is_bogus |= result != NULL && result->bogus;
	} else if (!s->is_answered) {
		if (result->ttl > 0 && (uint32_t)result->ttl < s->ttl)
			s->ttl = (uint32_t)result->ttl;
		if (l.host < 0)
			on_mx(s, result);
		else
			on_addresses(s, &s->hosts[l.host], l.type, result);
	}
	ub_resolve_free(result);
	if (s->under_way != 0)
		return;
	if (!s->is_answered)
		answer(s);
	forget(s);
}

void resolver_ask(struct resolver *r, int peer, yyjson_val *question)
{
	const char *domain = yyjson_get_str(yyjson_obj_get(question, "domain"));
	const char *host = yyjson_get_str(yyjson_obj_get(question, "host"));
	const char *name = domain != NULL ? domain : host;
	if (yyjson_obj_get(question, "address") != NULL) {
		reverse_ask(r, peer, question);
		return;
	}
	struct search *s = calloc(1, sizeof *s);
	if (s == NULL || (domain == NULL && host == NULL)) {
		free(s);
		return;
	}
	s->resolver = r;
	s->peer = peer;
	s->attached_us = r->control->relays[peer].attached_us;
	s->token = yyjson_get_uint(yyjson_obj_get(question, "token"));
	s->ttl = NO_TTL;
	s->is_mx = domain != NULL;
	s->deadline_us = time_monotonic_us() + r->control->config->dns.timeout * USEC_PER_SEC;
	snprintf(s->name, sizeof s->name, "%s", name);
	s->next = r->searches;
	r->searches = s;
	r->control->names.questions++;
	if (++r->count > SEARCHES_MAX)
		s->has_failed = true; /* deferred at once */
	else if (strlen(name) >= sizeof s->name)
		s->host_count = 0; /* no name is so long (RFC 1035 2.3.4): it does not exist */
	else if (s->is_mx)
		look_up(s, s->name, TYPE_MX, -1);
	else
		add_host(s, s->name, 0);
	if (s->under_way == 0) {
		answer(s);
		forget(s);
	}
}

void resolver_process(struct resolver *r)
{
	uint64_t now = time_monotonic_us();
	ub_process(r->ub);
	/* What takes too long is answered now, and forgotten when the library is done with it. */
	for (struct search *s = r->searches; s != NULL; s = s->next) {
		if (s->is_answered || now < s->deadline_us)
			continue;
		s->has_failed = s->has_timed_out = true;
		answer(s);
	}
	reverse_expire(r, now);
}
