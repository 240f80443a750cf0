// SPDX-License-Identifier: Apache-2.0
#include "control/quote.h"
#include "control/shm/documents.h"
#include "control/shm/object.h"
#include "control/shm/pattern.h"
#include "control/shm/policy_private.h"
#include "control/shm/sealed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* From documents to bytes. The rows of all sections are laid out first, since their counts are known; the
 * texts follow in the order in which they turn up. */

/* The built-in last rule of each list; documents may define its profiles, but no rule of this name. */
#define DEFAULT_RULE "default"
static const char *const default_profiles[2] = {"default-in", "default-out"};

/* ---- a compilation ---- */
/* One entry of the DOMAINS section, before it is sorted. */
struct named_route {
	char name[LAYOUT_DOMAIN_MAX + 1];
	uint32_t route;
};

struct compilation {
	struct documents *docs;
	const struct policy_cert *certs;
	size_t cert_count;
	struct object object, keys;
	struct named_route *names;
	uint32_t name_count;
	char *error;
};

/* Where row `i` of a section is: valid until a text is put. */
#define ROW(c, section, type, i) ((type *)row_at(c, LAYOUT_##section, sizeof(type), i))

static void *row_at(struct compilation *c, enum layout_section_id section, size_t size, uint32_t i)
{
	const struct layout_header *header = (const void *)c->object.at;
	return c->object.at + header->sections[section].at + size * i;
}

/* Texts are put before the row is written, since the object may move as it grows. */
static struct layout_text put(struct compilation *c, const char *text)
{
	return object_put(&c->object, bytes_of_string(text));
}

static int refuse(struct compilation *c, enum documents_kind kind, const char *id, const char *field,
	const char *found, const char *expected)
{
	char quoted[QUOTE_BYTES_MAX];
	return documents_refuse(
		c->error, kind, id, field, quote_text(found, quoted), expected);
}

/* ---- profiles ---- */
static uint32_t profile_count(const struct compilation *c)
{
	uint32_t count = c->docs->profile_count;
	for (size_t d = 0; d < 2; d++) {
		bool is_there = false;
		for (uint32_t i = 0; i < c->docs->profile_count; i++)
			is_there |= strcmp(c->docs->profiles[i].id, default_profiles[d]) == 0;
		count += !is_there;
	}
	return count;
}

static int find_profile(struct compilation *c, enum documents_kind kind, const char *rule,
	const char *wanted, uint32_t *index)
{
	size_t count = ((const struct layout_header *)c->object.at)->sections[LAYOUT_PROFILES].count;
	for (*index = 0; *index < count; ++*index)
		if (strcmp(ROW(c, PROFILES, struct tls_profile, *index)->id, wanted) == 0)
			return 0;
	return refuse(c, kind, rule, "profile", wanted, "the id of a profile");
}

/* Into the NUL-separated form, with A-labels. */
static int put_names(
	struct compilation *c, const struct doc_profile *doc, char names[TLS_NAMES_BYTES_MAX])
{
	size_t at = 0;
	for (uint32_t i = 0; i < doc->names.count; i++) {
		struct pattern pattern;
		const char *name = doc->names.items[i];
		const char *expected = pattern_parse(name, PATTERN_NAME, &pattern);
		if (expected == NULL && pattern.kind == LAYOUT_ANY)
			expected = "a host name or '.example.test' for those below";
		if (expected != NULL)
			return refuse(c, DOC_PROFILE, doc->id, "names", name, expected);
		size_t n = strlen(pattern.ascii) + 1;
		if (at + n >= TLS_NAMES_BYTES_MAX)
			return refuse(c, DOC_PROFILE, doc->id, "names", name,
				"names of no more than 510 bytes together");
		memcpy(names + at, pattern.ascii, n);
		at += n;
	}
	return 0;
}

static bool is_group_list(const char *groups)
{
	return groups[strspn(groups,
		       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:?*/")] == '\0';
}

static int put_profile(struct compilation *c, uint32_t index, const struct doc_profile *doc)
{
	static const uint16_t versions[] = {TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3};
	struct tls_profile *to = ROW(c, PROFILES, struct tls_profile, index);
	memcpy(to->id, doc->id, strlen(doc->id)); /* an id fits, and the row is all zero */
	to->index = index;
	to->level = (uint8_t)doc->level;
	to->grade = (uint8_t)doc->grade;
	to->client_cert = (uint8_t)doc->client_cert;
	to->fallback = (uint8_t)doc->fallback;
	/* Above `may` clear text is no way out, whatever the document says. */
	if (to->level > TLS_LEVEL_MAY && to->fallback == TLS_FALLBACK_CLEAR)
		to->fallback = TLS_FALLBACK_NEXT_HOST;
	to->on_failure = (uint8_t)doc->on_failure;
	to->protocol_lowest = versions[doc->lowest];
	to->protocol_highest = doc->highest == 0 ? 0 : versions[doc->highest - 1];
	to->bits_least = (uint16_t)doc->bits;
	to->remember_seconds = doc->remember;
	if (to->protocol_highest != 0 && to->protocol_highest < to->protocol_lowest)
		return documents_refuse(c->error, DOC_PROFILE, doc->id, "protocol",
			"highest below lowest", "lowest at most highest");
	if (!is_group_list(doc->groups))
		return refuse(c, DOC_PROFILE, doc->id, "groups", doc->groups,
			"names of groups separated by colons");
	memcpy(to->groups, doc->groups, strlen(doc->groups));
	return put_names(c, doc, to->names);
}

/* One of the first `count` profiles may have the same text: then it is stored once. */
static struct layout_text put_ca(struct compilation *c, const char *pem, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(c->docs->profiles[i].ca_pem, pem) == 0)
			return *ROW(c, PROFILE_CAS, struct layout_text, i);
	return put(c, pem);
}

static int put_profiles(struct compilation *c)
{
	uint32_t index, unused;
	for (index = 0; index < c->docs->profile_count; index++) {
		const struct doc_profile *doc = &c->docs->profiles[index];
		int error = put_profile(c, index, doc);
		if (error != 0)
			return error;
		struct layout_text ca = put_ca(c, doc->ca_pem, index);
		*ROW(c, PROFILE_CAS, struct layout_text, index) = ca;
	}
	for (size_t d = 0; d < 2; d++) {
		char ignored[DOCUMENTS_ERROR_MAX], *error = c->error;
		struct doc_profile doc = {.id = default_profiles[d],
			.level = TLS_LEVEL_MAY,
			.grade = TLS_GRADE_MEDIUM,
			.lowest = TLS_1_2 - TLS_1_0,
			.remember = 3600,
			.groups = ""};
		c->error = ignored;
		if (find_profile(c, DOC_PROFILE, "", default_profiles[d], &unused) != 0)
			put_profile(c, index++, &doc);
		c->error = error;
	}
	return 0;
}

/* ---- rules ---- */
static int put_match(struct compilation *c, enum documents_kind kind, const char *id,
	const char *field, const char *text, enum pattern_form form, struct layout_match *to)
{
	struct pattern pattern;
	const char *expected = pattern_parse(text, form, &pattern);
	if (expected != NULL)
		return refuse(c, kind, id, field, text, expected);
	to->kind = pattern.kind;
	to->local = put(c, pattern.local);
	to->ascii = put(c, pattern.ascii);
	to->utf8 = put(c, pattern.utf8);
	return 0;
}

static int put_prefix(struct compilation *c, enum documents_kind kind, const char *id,
	const char *field, const char *text, struct layout_prefix *to)
{
	struct prefix prefix;
	if (text[0] == '\0')
		return 0;
	if (!prefix_parse(text, &prefix))
		return refuse(c, kind, id, field, text,
			"an address or prefix without host bits, as 192.0.2.0/24 or 2001:db8::/32");
	memcpy(to->addr, prefix.addr.b, sizeof to->addr);
	to->bits = prefix.bits;
	to->is_set = 1;
	to->is_ipv4 = addr_is_ipv4(&prefix.addr) && prefix.bits >= 96;
	return 0;
}

static int check_rule_id(struct compilation *c, enum documents_kind kind, const char *id)
{
	if (strcmp(id, DEFAULT_RULE) != 0)
		return 0;
	return refuse(c, kind, id, "id", id, "another name: this is the built-in last rule's");
}

static int put_in_rule(struct compilation *c, const struct doc_in_rule *doc, uint32_t index)
{
	static const uint8_t actions[] = {POLICY_INBOUND, POLICY_RELAY, POLICY_REJECT};
	const enum documents_kind kind = DOC_IN_RULE;
	struct layout_in_rule rule = {.action = actions[doc->action],
		.normalises_bare_lf = doc->normalise_bare_lf};
	int error = find_profile(c, kind, doc->id, doc->profile, &rule.profile);
	if (error == 0)
		error = put_match(c, kind, doc->id, "client_name", doc->client_name, PATTERN_NAME,
			&rule.client_name);
	if (error == 0)
		error = put_match(
			c, kind, doc->id, "sender", doc->sender, PATTERN_SENDER, &rule.sender);
	if (error == 0)
		error = put_match(c, kind, doc->id, "recipient", doc->recipient, PATTERN_RECIPIENT,
			&rule.recipient);
	if (error == 0)
		error = put_prefix(c, kind, doc->id, "client", doc->client, &rule.client);
	if (error != 0)
		return error;
	rule.id = put(c, doc->id);
	rule.listener = put(c, doc->listener);
	rule.is_mail_stage = rule.sender.kind != LAYOUT_ANY || rule.recipient.kind != LAYOUT_ANY;
	if (!c->object.has_failed)
		*ROW(c, IN_RULES, struct layout_in_rule, index) = rule;
	return 0;
}

static int put_out_rule(struct compilation *c, const struct doc_out_rule *doc, uint32_t index)
{
	const enum documents_kind kind = DOC_OUT_RULE;
	struct layout_out_rule rule = {};
	int error = find_profile(c, kind, doc->id, doc->profile, &rule.profile);
	if (error == 0)
		error = put_match(
			c, kind, doc->id, "sender", doc->sender, PATTERN_SENDER, &rule.sender);
	if (error == 0)
		error = put_match(
			c, kind, doc->id, "domain", doc->domain, PATTERN_DOMAIN, &rule.domain);
	if (error == 0)
		error = put_match(c, kind, doc->id, "mx", doc->mx, PATTERN_HOST, &rule.mx);
	if (error == 0)
		error = put_prefix(
			c, kind, doc->id, "destination", doc->destination, &rule.destination);
	if (error != 0)
		return error;
	rule.id = put(c, doc->id);
	if (!c->object.has_failed)
		*ROW(c, OUT_RULES, struct layout_out_rule, index) = rule;
	return 0;
}

/* Rules that are off are checked like the others, and then left out: they take the row that the next one,
 * or in the end the default, writes over. */
static int put_rules(struct compilation *c)
{
	static const struct doc_in_rule last_in = {.id = DEFAULT_RULE,
		.listener = "", .client = "", .client_name = "", .sender = "", .recipient = "",
		.profile = "default-in"};
	static const struct doc_out_rule last_out = {.id = DEFAULT_RULE,
		.sender = "", .domain = "", .mx = "", .destination = "", .profile = "default-out"};
	uint32_t row = 0;
	int error = 0;
	for (uint32_t i = 0; error == 0 && i < c->docs->in_rule_count; i++) {
		const struct doc_in_rule *doc = &c->docs->in_rules[i];
		error = check_rule_id(c, DOC_IN_RULE, doc->id);
		if (error == 0)
			error = put_in_rule(c, doc, row);
		row += doc->enabled;
	}
	if (error == 0)
		error = put_in_rule(c, &last_in, row);
	row = 0;
	for (uint32_t i = 0; error == 0 && i < c->docs->out_rule_count; i++) {
		const struct doc_out_rule *doc = &c->docs->out_rules[i];
		error = check_rule_id(c, DOC_OUT_RULE, doc->id);
		if (error == 0)
			error = put_out_rule(c, doc, row);
		row += doc->enabled;
	}
	return error != 0 ? error : put_out_rule(c, &last_out, row);
}

/* ---- routes ---- */
static int put_host(struct compilation *c, const struct doc_route *route, uint32_t i, uint32_t row)
{
	const struct doc_host *doc = &route->hosts.items[i];
	struct layout_host host = {.implicit_tls = doc->tls == 1};
	struct pattern pattern;
	const char *expected = pattern_parse(doc->host, PATTERN_HOST, &pattern);
	char field[32];
	snprintf(field, sizeof field, "hosts[%u].host", i);
	if (expected != NULL || pattern.kind != LAYOUT_DOMAIN)
		return refuse(
			c, DOC_ROUTE, route->id, field, doc->host, "a host name or an address");
	host.port = (uint16_t)(doc->port != 0 ? doc->port : host.implicit_tls ? 465 : 25);
	host.name = put(c, pattern.ascii);
	if (!c->object.has_failed)
		*ROW(c, HOSTS, struct layout_host, row) = host;
	return 0;
}

static int put_route(
	struct compilation *c, const struct doc_route *doc, uint32_t index, uint32_t *host_row)
{
	struct layout_route route = {.first_host = *host_row,
		.host_count = doc->hosts.count,
		.mx_port = (uint16_t)doc->mx_port,
		.is_inbound = doc->inbound,
		.is_mx = doc->via == DOC_VIA_MX};
	if (route.is_mx && doc->hosts.count != 0)
		return documents_refuse(c->error, DOC_ROUTE, doc->id, "hosts", "hosts",
			"none with via 'mx' (via 'hosts' sends to them)");
	if (!route.is_mx && doc->hosts.count == 0)
		return documents_refuse(c->error, DOC_ROUTE, doc->id, "hosts", "none",
			"at least one with via 'hosts'");
	for (uint32_t i = 0; i < doc->hosts.count; i++) {
		int error = put_host(c, doc, i, (*host_row)++);
		if (error != 0)
			return error;
	}
	route.id = put(c, doc->id);
	if (!c->object.has_failed)
		*ROW(c, ROUTES, struct layout_route, index) = route;
	return 0;
}

static int put_routes(struct compilation *c)
{
	uint32_t host_row = 0;
	for (uint32_t i = 0; i < c->docs->route_count; i++) {
		int error = put_route(c, &c->docs->routes[i], i, &host_row);
		if (error != 0)
			return error;
	}
	for (uint32_t i = 0; i < c->name_count; i++) {
		struct layout_domain domain = {put(c, c->names[i].name), c->names[i].route};
		if (!c->object.has_failed)
			*ROW(c, DOMAINS, struct layout_domain, i) = domain;
	}
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	const struct named_route *x = a, *y = b;
	return strcmp(x->name, y->name);
}

/* The names by which routes are found, sorted; a domain may have one route only. A route that is off is
 * checked like the others and has its row, but no name leads there. */
static int collect_names(struct compilation *c)
{
	struct pattern pattern;
	c->names = calloc((size_t)c->docs->route_count * 2 + 1, sizeof *c->names);
	if (c->names == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < c->docs->route_count; i++) {
		const struct doc_route *doc = &c->docs->routes[i];
		const char *expected = pattern_parse(doc->domain, PATTERN_DOMAIN, &pattern);
		if (doc->domain[0] == '\0')
			expected = "a domain, '.example.test' for those below, or '*' for all";
		if (expected != NULL)
			return refuse(c, DOC_ROUTE, doc->id, "domain", doc->domain, expected);
		if (!doc->enabled)
			continue;
		struct named_route *name = &c->names[c->name_count++];
		name->route = i;
		strcpy(name->name, pattern.kind == LAYOUT_ANY ? "*" : pattern.ascii);
		if (pattern.utf8[0] == '\0')
			continue;
		name = &c->names[c->name_count++];
		name->route = i;
		strcpy(name->name, pattern.utf8);
	}
	qsort(c->names, c->name_count, sizeof *c->names, compare_names);
	for (uint32_t i = 1; i < c->name_count; i++)
		if (strcmp(c->names[i - 1].name, c->names[i].name) == 0) {
			char expected[128];
			uint32_t a = c->names[i - 1].route, b = c->names[i].route;
			snprintf(expected, sizeof expected, "another than route '%s' has",
				c->docs->routes[a < b ? a : b].id);
			return refuse(c, DOC_ROUTE, c->docs->routes[a < b ? b : a].id, "domain",
				c->docs->routes[a < b ? b : a].domain, expected);
		}
	return 0;
}

/* ---- certificates ---- */
static int refuse_cert(struct compilation *c, const char *id, const char *expected)
{
	char quoted[QUOTE_BYTES_MAX];
	snprintf(c->error, DOCUMENTS_ERROR_MAX, "certificate %s: expected %s",
		quote_text(id, quoted), expected);
	return -EINVAL;
}

static bool is_pem_text(struct bytes pem)
{
	return pem.n != 0 && pem.n <= LAYOUT_PEM_MAX && memchr(pem.at, '\0', pem.n) == NULL;
}

static int put_cert(struct compilation *c, const struct policy_cert *cert, uint32_t index)
{
	struct layout_cert row;
	size_t n = strlen(cert->id);
	if (n == 0 || n > LAYOUT_ID_MAX)
		return refuse_cert(c, cert->id, "an id of 1 to 63 bytes");
	if (!is_pem_text(cert->chain_pem))
		return refuse_cert(c, cert->id, "a chain of PEM texts, 1 MiB at most");
	if (!is_pem_text(cert->key_pem))
		return refuse_cert(c, cert->id, "a key as PEM text, 1 MiB at most");
	row.id = put(c, cert->id);
	row.chain_pem = object_put(&c->object, cert->chain_pem);
	struct layout_text key = object_put(&c->keys, cert->key_pem);
	if (c->object.has_failed || c->keys.has_failed)
		return 0;
	*ROW(c, CERTS, struct layout_cert, index) = row;
	((struct layout_text *)(c->keys.at + sizeof(struct layout_keys_header)))[index] = key;
	return 0;
}

/* The default first: the marked one, or else the first. */
static int put_certs(struct compilation *c)
{
	size_t first = 0;
	while (first < c->cert_count && !c->certs[first].is_default)
		first++;
	if (first == c->cert_count)
		first = 0;
	for (uint32_t row = 0; row < c->cert_count; row++) {
		size_t from = row == 0 ? first : row <= first ? row - 1u : row;
		int error = put_cert(c, &c->certs[from], row);
		if (error != 0)
			return error;
	}
	return 0;
}

/* ---- all of it ---- */
static uint32_t enabled_in_rules(const struct documents *docs)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < docs->in_rule_count; i++)
		count += docs->in_rules[i].enabled;
	return count;
}

static uint32_t enabled_out_rules(const struct documents *docs)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < docs->out_rule_count; i++)
		count += docs->out_rules[i].enabled;
	return count;
}

static uint32_t host_count(const struct documents *docs)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < docs->route_count; i++)
		count += docs->routes[i].hosts.count;
	return count;
}

/* Reserves the header and the rows of all sections, all zero. */
static int lay_out(struct compilation *c, uint64_t generation)
{
	static const size_t sizes[] = {
#define _(id, type) sizeof(type),
		LAYOUT_SECTIONS(_)
#undef _
	};
	const uint32_t counts[LAYOUT_SECTION_COUNT] = {
		[LAYOUT_PROFILES] = profile_count(c),
		[LAYOUT_PROFILE_CAS] = profile_count(c),
		[LAYOUT_IN_RULES] = enabled_in_rules(c->docs) + 1,
		[LAYOUT_OUT_RULES] = enabled_out_rules(c->docs) + 1,
		[LAYOUT_DOMAINS] = c->name_count,
		[LAYOUT_ROUTES] = c->docs->route_count,
		[LAYOUT_HOSTS] = host_count(c->docs),
		[LAYOUT_CERTS] = (uint32_t)c->cert_count,
	};
	struct layout_header header = {.magic = LAYOUT_POLICY_MAGIC,
		.version = LAYOUT_VERSION,
		.generation = generation};
	size_t at = sizeof header;
	for (size_t i = 0; i < LAYOUT_SECTION_COUNT; i++) {
		at = (at + LAYOUT_ALIGN - 1) / LAYOUT_ALIGN * LAYOUT_ALIGN;
		header.sections[i] = (struct layout_section){(uint32_t)at, counts[i]};
		at += sizes[i] * counts[i];
		if (counts[i] > LAYOUT_ROWS_MAX || at > LAYOUT_SIZE_MAX)
			return -E2BIG;
	}
	object_grow(&c->object, at);
	object_grow(&c->keys, sizeof(struct layout_keys_header) +
			c->cert_count * sizeof(struct layout_text));
	if (c->object.has_failed || c->keys.has_failed)
		return -ENOMEM;
	*(struct layout_header *)c->object.at = header;
	*(struct layout_keys_header *)c->keys.at = (struct layout_keys_header){
		.magic = LAYOUT_KEYS_MAGIC, .version = LAYOUT_VERSION, .generation = generation,
		.count = (uint32_t)c->cert_count};
	return 0;
}

static int compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Each id once among its kind. Every document's struct begins with its id. */
static int check_ids(struct compilation *c, enum documents_kind kind, const void *docs, uint32_t count,
	size_t size)
{
	int error = 0;
	const char **ids = calloc(count + 1u, sizeof *ids);
	if (ids == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		ids[i] = *(const char *const *)((const char *)docs + size * i);
	qsort(ids, count, sizeof *ids, compare_ids);
	for (uint32_t i = 1; error == 0 && i < count; i++)
		if (strcmp(ids[i - 1], ids[i]) == 0)
			error = documents_refuse(
				c->error, kind, ids[i], "id", "it twice", "each id once");
	free(ids);
	return error;
}

static int check_all_ids(struct compilation *c)
{
	const struct documents *d = c->docs;
	int error = check_ids(c, DOC_PROFILE, d->profiles, d->profile_count, sizeof *d->profiles);
	if (error == 0)
		error = check_ids(c, DOC_IN_RULE, d->in_rules, d->in_rule_count, sizeof *d->in_rules);
	if (error == 0)
		error = check_ids(
			c, DOC_OUT_RULE, d->out_rules, d->out_rule_count, sizeof *d->out_rules);
	if (error == 0)
		error = check_ids(c, DOC_ROUTE, d->routes, d->route_count, sizeof *d->routes);
	return error;
}

static int build(struct compilation *c, uint64_t generation)
{
	int error = check_all_ids(c);
	if (error == 0)
		error = collect_names(c);
	if (error == 0)
		error = lay_out(c, generation);
	if (error == 0)
		error = put_profiles(c);
	if (error == 0)
		error = put_rules(c);
	if (error == 0)
		error = put_routes(c);
	if (error == 0)
		error = put_certs(c);
	if (error != 0)
		return error;
	struct layout_text ca = put_ca(c, c->docs->ca_pem, c->docs->profile_count);
	if (c->object.has_failed || c->keys.has_failed)
		return -ENOMEM;
	struct layout_header *header = (void *)c->object.at;
	header->ca_pem = ca;
	header->size = (uint32_t)c->object.n;
	((struct layout_keys_header *)c->keys.at)->size = (uint32_t)c->keys.n;
	return 0;
}

int policy_compile(struct bytes documents_json, const struct policy_cert *certs, size_t cert_count,
	uint64_t generation, int *policy_fd, int *keys_fd, char error[512])
{
	struct compilation c = {.certs = certs, .cert_count = cert_count, .error = error};
	struct policy view;
	int failed = documents_read(documents_json, &c.docs, error);
	if (failed == 0)
		failed = build(&c, generation);
	/* What relays would refuse is not handed out: this is a mistake of ours. */
	if (failed == 0 && policy_view(&view, bytes_of(c.object.at, c.object.n),
				   bytes_of(c.keys.at, c.keys.n)) != 0)
		failed = -EPROTO;
	if (failed == 0)
		failed = *policy_fd = sealed_create("hikyaku-policy", bytes_of(c.object.at, c.object.n));
	if (failed >= 0) {
		failed = *keys_fd = sealed_create("hikyaku-keys", bytes_of(c.keys.at, c.keys.n));
		if (failed < 0)
			close(*policy_fd);
	}
	object_free(&c.object);
	object_free(&c.keys);
	free(c.names);
	documents_free(c.docs);
	if (failed >= 0)
		return 0;
	if (failed != -EINVAL)
		snprintf(error, 512, "the policy could not be compiled: %s", strerror(-failed));
	return failed;
}
