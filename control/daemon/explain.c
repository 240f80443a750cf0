// SPDX-License-Identifier: Apache-2.0
/* control/daemon/explain.c: which rule and profile a client, a sender or a destination gets from
 * the generation in force, and why: the relays' own resolution, run here. */
#include "control/daemon/http.h"

#include <errno.h>
#include <stdlib.h>

struct question {
	const char *listener, *client, *client_name, *sender, *recipient, *domain, *mx,
		*address; /* "": not given */
	bool has_sender;  /* "" is the null sender, where it is given */
	struct policy_client from;
	struct addr target;
	const struct addr *to; /* NULL: not known yet */
	struct bytes reverse_path;
	char domain_of_recipient[256];
};

/* ---- the question ---- */

#define AT(field) offsetof(struct question, field)

/* clang-format off */
static const struct {
	const char *name;
	size_t offset;
} fields[] = {
	{"listener",    AT(listener)},
	{"client",      AT(client)},
	{"client_name", AT(client_name)},
	{"sender",      AT(sender)},
	{"recipient",   AT(recipient)},
	{"domain",      AT(domain)},
	{"mx",          AT(mx)},
	{"address",     AT(address)},
};
/* clang-format on */
#define FIELDS (sizeof fields / sizeof *fields)

static const char **field_of(struct question *q, size_t i)
{
	return (const char **)((char *)q + fields[i].offset);
}

static bool take_fields(struct answer *answer, yyjson_val *root, struct question *q)
{
	size_t at, n;
	yyjson_val *key, *value;
	for (size_t i = 0; i < FIELDS; i++)
		*field_of(q, i) = "";
	yyjson_obj_foreach(root, at, n, key, value)
	{
		size_t i = 0;
		while (i < FIELDS && !yyjson_equals_str(key, fields[i].name))
			i++;
		if (i == FIELDS) {
			answer_error(answer, 400,
				"unknown field '%.64s': expected listener, client, client_name, "
				"sender, "
				"recipient, domain, mx or address",
				yyjson_get_str(key));
			return false;
		}
		if (yyjson_is_null(value))
			continue;
		if (!yyjson_is_str(value) ||
			strlen(yyjson_get_str(value)) != yyjson_get_len(value)) {
			answer_error(answer, 400, "%s: expected a text", fields[i].name);
			return false;
		}
		*field_of(q, i) = yyjson_get_str(value);
	}
	q->has_sender = yyjson_is_str(yyjson_obj_get(root, "sender"));
	return true;
}

static bool is_listener(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->listeners_count; i++)
		if (strcmp(config->listeners[i].name, name) == 0)
			return true;
	return name[0] == '\0';
}

/* What they mean: addresses, the recipient's domain. */
static bool understand(const struct request *request, struct answer *answer, struct question *q)
{
	if (!is_listener(request->control->config, q->listener)) {
		answer_error(answer, 400, "listener: there is none named '%.64s'", q->listener);
		return false;
	}
	if (q->client[0] != '\0' && !addr_parse(q->client, &q->from.addr)) {
		answer_error(answer, 400, "client: '%.64s' is no address", q->client);
		return false;
	}
	if (q->address[0] != '\0' && !addr_parse(q->address, &q->target)) {
		answer_error(answer, 400, "address: '%.64s' is no address", q->address);
		return false;
	}
	const char *at = strrchr(q->recipient, '@');
	q->to = q->address[0] == '\0' ? NULL : &q->target;
	q->from.listener = bytes_of_string(q->listener);
	q->from.name = bytes_of_string(q->client_name);
	q->reverse_path = strcmp(q->sender, "<>") == 0 ? BYTES_NONE : bytes_of_string(q->sender);
	snprintf(q->domain_of_recipient, sizeof q->domain_of_recipient, "%s",
		q->domain[0] != '\0' ? q->domain
			: at == NULL ? ""
				     : at + 1);
	return true;
}

/* ---- words ---- */

static void add_profile(yyjson_mut_doc *doc, yyjson_mut_val *to, const struct tls_profile *p)
{
	static const char *const versions[] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
	static const char *const client_certs[] = {"none", "ask", "require"};
	static const char *const fallbacks[] = {"clear", "next-host", "defer"};
	yyjson_mut_val *profile = yyjson_mut_obj_add_obj(doc, to, "profile");
	yyjson_mut_obj_add_strcpy(doc, profile, "id", p->id);
	yyjson_mut_obj_add_str(doc, profile, "level", tls_level_name(p->level));
	yyjson_mut_obj_add_str(doc, profile, "grade", tls_grade_name(p->grade));
	yyjson_mut_val *protocol = yyjson_mut_obj_add_obj(doc, profile, "protocol");
	yyjson_mut_obj_add_str(doc, protocol, "lowest", versions[p->protocol_lowest - TLS_1_0]);
	yyjson_mut_obj_add_str(doc, protocol, "highest",
		p->protocol_highest == 0 ? "" : versions[p->protocol_highest - TLS_1_0]);
	yyjson_mut_obj_add_uint(doc, profile, "bits", p->bits_least);
	yyjson_mut_obj_add_strcpy(doc, profile, "groups", p->groups);
	yyjson_mut_val *names = yyjson_mut_obj_add_arr(doc, profile, "names");
	for (const char *name = p->names; *name != '\0'; name += strlen(name) + 1)
		yyjson_mut_arr_add_strcpy(doc, names, name);
	yyjson_mut_obj_add_str(doc, profile, "client_cert", client_certs[p->client_cert]);
	yyjson_mut_obj_add_str(doc, profile, "fallback", fallbacks[p->fallback]);
	yyjson_mut_obj_add_uint(doc, profile, "remember", p->remember_seconds);
	yyjson_mut_obj_add_str(doc, profile, "on_failure",
		p->on_failure == TLS_FAIL_PERMANENT ? "permanent" : "temporary");
}

/* "client 192.0.2.9 is not in 198.51.100.0/24" */
static void say_why(const struct question *q, const struct policy_look *look, char why[1024])
{
	/* clang-format off */
	static const struct {
		const char *what, *verb;
		size_t offset;
	} words[] = {
		[POLICY_LISTENER] =    {"listener",    "is not",    AT(listener)},
		[POLICY_CLIENT] =      {"client",      "is not in", AT(client)},
		[POLICY_CLIENT_NAME] = {"client name", "is not",    AT(client_name)},
		[POLICY_SENDER] =      {"sender",      "is not",    AT(sender)},
		[POLICY_RECIPIENT] =   {"recipient",   "is not",    AT(recipient)},
		[POLICY_DOMAIN] =      {"domain",      "is not",    AT(domain)},
		[POLICY_MX] =          {"host",        "is not",    AT(mx)},
		[POLICY_DESTINATION] = {"address",     "is not in", AT(address)},
	};
	/* clang-format on */
	if (look->differs == POLICY_MATCHES) {
		snprintf(why, 1024, "all its criteria fit");
		return;
	}
	const char *what = words[look->differs].what;
	const char *given = *(const char *const *)((const char *)q + words[look->differs].offset);
	bool is_name = look->wanted[0] == '.';
	if (look->differs == POLICY_DOMAIN)
		given = q->domain_of_recipient;
	if (look->differs == POLICY_SENDER && q->has_sender && q->reverse_path.n == 0)
		given = "<>";
	if (given[0] == '\0')
		snprintf(why, 1024, "it wants %s %s, and none is known", what, look->wanted);
	else
		snprintf(why, 1024, "%s %.320s %s %s", what, given,
			is_name ? "is not below" : words[look->differs].verb, look->wanted);
}

static void add_look(yyjson_mut_doc *doc, yyjson_mut_val *list, const char *stage,
	const struct question *q, const struct policy_look *look)
{
	char why[1024];
	yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, list);
	say_why(q, look, why);
	yyjson_mut_obj_add_str(doc, one, "stage", stage);
	yyjson_mut_obj_add_strcpy(doc, one, "rule", look->rule_id);
	yyjson_mut_obj_add_bool(doc, one, "matched", look->differs == POLICY_MATCHES);
	yyjson_mut_obj_add_strcpy(doc, one, "why", why);
}

/* A generation has no disabled rules in it; who asks why one of them does not count is told. They
 * are put where they stand among the others: `*place` goes along the stored rules up to the one
 * that is looked at. */
struct stored_rules {
	yyjson_val *rules;
	size_t place;
};

static bool is_of_stage(yyjson_val *rule, const char *stage)
{
	const char *sender = yyjson_get_str(yyjson_obj_get(rule, "sender"));
	const char *recipient = yyjson_get_str(yyjson_obj_get(rule, "recipient"));
	bool has_mail = (sender != NULL && sender[0] != '\0') ||
		(recipient != NULL && recipient[0] != '\0');
	return strcmp(stage, "route") == 0 || strcmp(stage, "host") == 0 ||
		has_mail == (strcmp(stage, "mail") == 0);
}

/* All that are passed on the way to `until` (NULL: to the end). */
static void add_disabled(yyjson_mut_doc *doc, yyjson_mut_val *list, const char *stage,
	struct stored_rules *stored, const char *until)
{
	for (; stored->place < yyjson_arr_size(stored->rules); stored->place++) {
		yyjson_val *rule = yyjson_arr_get(stored->rules, stored->place);
		yyjson_val *id = yyjson_obj_get(rule, "id");
		if (until != NULL && yyjson_equals_str(id, until))
			return;
		if (!yyjson_is_false(yyjson_obj_get(rule, "enabled")) || !is_of_stage(rule, stage))
			continue;
		yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, list);
		yyjson_mut_obj_add_str(doc, one, "stage", stage);
		yyjson_mut_obj_add_strcpy(doc, one, "rule", yyjson_get_str(id));
		yyjson_mut_obj_add_bool(doc, one, "matched", false);
		yyjson_mut_obj_add_str(doc, one, "why", "it is disabled");
	}
}

/* ---- inbound ---- */

static void add_in(yyjson_mut_doc *doc, yyjson_mut_val *to, const struct policy_in *in)
{
	static const char *const actions[] = {
		[POLICY_INBOUND] = "inbound", [POLICY_RELAY] = "relay", [POLICY_REJECT] = "reject"};
	yyjson_mut_obj_add_strcpy(doc, to, "rule", in->rule_id);
	yyjson_mut_obj_add_str(doc, to, "action", actions[in->action]);
	yyjson_mut_obj_add_bool(doc, to, "normalise_bare_lf", in->normalises_bare_lf);
	add_profile(doc, to, &in->profile);
}

static void look_in(const struct policy *policy, const struct question *q, yyjson_val *rules,
	yyjson_mut_doc *doc, yyjson_mut_val *looked_at)
{
	struct policy_look look = {.differs = POLICY_CLIENT};
	struct stored_rules stored = {.rules = rules};
	for (uint32_t at = 0; policy_explain_connect(policy, &q->from, &at, &look);) {
		add_disabled(doc, looked_at, "connect", &stored, look.rule_id);
		add_look(doc, looked_at, "connect", q, &look);
	}
	if (!q->has_sender && q->recipient[0] == '\0')
		return;
	stored.place = 0;
	look.differs = POLICY_CLIENT;
	for (uint32_t at = 0; policy_explain_mail(policy, &q->from, q->reverse_path,
		     bytes_of_string(q->recipient), &at, &look);) {
		add_disabled(doc, looked_at, "mail", &stored, look.rule_id);
		add_look(doc, looked_at, "mail", q, &look);
	}
	if (look.differs != POLICY_MATCHES)
		add_disabled(doc, looked_at, "mail", &stored, NULL);
}

static void explain_in(const struct policy *policy, const struct question *q, yyjson_val *documents,
	yyjson_mut_doc *doc, yyjson_mut_val *root)
{
	struct policy_in connect, mail;
	struct bytes recipient = bytes_of_string(q->recipient);
	bool has_mail = q->has_sender || recipient.n != 0;
	yyjson_mut_val *inbound = yyjson_mut_obj_add_obj(doc, root, "inbound");
	yyjson_mut_val *looked_at = yyjson_mut_arr(doc);
	policy_resolve_connect(policy, &q->from, &connect);
	add_in(doc, yyjson_mut_obj_add_obj(doc, inbound, "connect"), &connect);
	if (has_mail && policy_resolve_mail(policy, &q->from, q->reverse_path, recipient, &mail))
		add_in(doc, yyjson_mut_obj_add_obj(doc, inbound, "mail"), &mail);
	else
		yyjson_mut_obj_add_null(doc, inbound, "mail");
	look_in(policy, q, yyjson_obj_get(documents, "in_rules"), doc, looked_at);
	yyjson_mut_obj_add_val(doc, inbound, "looked_at", looked_at);
}

/* ---- outbound ---- */

/* The domain, suffix or "*" by which the route was found. */
static void add_route_domain(
	yyjson_mut_doc *doc, yyjson_mut_val *to, yyjson_val *routes, const char *id)
{
	size_t i, n;
	yyjson_val *route;
	yyjson_arr_foreach(routes, i, n, route) if (yyjson_equals_str(yyjson_obj_get(route, "id"),
							    id)) yyjson_mut_obj_add_strcpy(doc, to,
		"domain", yyjson_get_str(yyjson_obj_get(route, "domain")));
}

/* Routes that are off and would be looked at for this domain: a generation does not find them. */
static void add_disabled_routes(
	yyjson_mut_doc *doc, yyjson_mut_val *to, yyjson_val *routes, const char *domain)
{
	size_t i, n;
	yyjson_val *route;
	yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, to, "disabled_routes");
	yyjson_arr_foreach(routes, i, n, route)
	{
		const char *of = yyjson_get_str(yyjson_obj_get(route, "domain"));
		if (of == NULL || !yyjson_is_false(yyjson_obj_get(route, "enabled")) ||
			!policy_route_fits(of, bytes_of_string(domain)))
			continue;
		yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, list);
		yyjson_mut_obj_add_strcpy(
			doc, one, "id", yyjson_get_str(yyjson_obj_get(route, "id")));
		yyjson_mut_obj_add_strcpy(doc, one, "domain", of);
	}
}

static void add_route(yyjson_mut_doc *doc, yyjson_mut_val *to, const struct policy *policy,
	yyjson_val *routes, const char *domain)
{
	struct policy_route route;
	if (!policy_find_route(policy, bytes_of_string(domain), &route)) {
		yyjson_mut_obj_add_null(doc, to, "route");
		return;
	}
	yyjson_mut_val *one = yyjson_mut_obj_add_obj(doc, to, "route");
	yyjson_mut_obj_add_strcpy(doc, one, "id", route.id);
	add_route_domain(doc, one, routes, route.id);
	yyjson_mut_obj_add_bool(doc, one, "inbound", route.is_inbound);
	yyjson_mut_obj_add_str(doc, one, "via", route.is_mx ? "mx" : "hosts");
	if (route.is_mx) {
		yyjson_mut_obj_add_uint(doc, one, "mx_port", route.mx_port);
		return;
	}
	yyjson_mut_val *hosts = yyjson_mut_obj_add_arr(doc, one, "hosts");
	for (uint32_t i = 0; i < route.host_count; i++) {
		yyjson_mut_val *host = yyjson_mut_arr_add_obj(doc, hosts);
		yyjson_mut_obj_add_strcpy(doc, host, "host", route.hosts[i].host);
		yyjson_mut_obj_add_uint(doc, host, "port", route.hosts[i].port);
		yyjson_mut_obj_add_str(
			doc, host, "tls", route.hosts[i].implicit_tls ? "smtps" : "smtp");
	}
}

static void look_out(const struct policy *policy, const struct question *q, const char *stage,
	const char *mx, const struct addr *to, yyjson_val *rules, yyjson_mut_doc *doc,
	yyjson_mut_val *looked_at)
{
	struct policy_look look;
	struct stored_rules stored = {.rules = rules};
	for (uint32_t at = 0;
		policy_explain_out(policy, q->reverse_path, bytes_of_string(q->domain_of_recipient),
			bytes_of_string(mx), to, &at, &look);) {
		add_disabled(doc, looked_at, stage, &stored, look.rule_id);
		add_look(doc, looked_at, stage, q, &look);
	}
}

/* As a relay does: resolved when the mail is routed, and again once the host and its address are
 * known; the stricter of both counts. */
static void explain_out(const struct policy *policy, const struct question *q,
	yyjson_val *documents, yyjson_mut_doc *doc, yyjson_mut_val *root)
{
	yyjson_val *rules = yyjson_obj_get(documents, "out_rules");
	struct policy_out at_route, at_target;
	struct bytes domain = bytes_of_string(q->domain_of_recipient);
	if (domain.n == 0) {
		yyjson_mut_obj_add_null(doc, root, "outbound");
		return;
	}
	yyjson_mut_val *outbound = yyjson_mut_obj_add_obj(doc, root, "outbound");
	yyjson_mut_val *looked_at = yyjson_mut_arr(doc);
	yyjson_val *routes = yyjson_obj_get(documents, "routes");
	add_route(doc, outbound, policy, routes, q->domain_of_recipient);
	add_disabled_routes(doc, outbound, routes, q->domain_of_recipient);
	policy_resolve_out(policy, q->reverse_path, domain, BYTES_NONE, NULL, &at_route);
	look_out(policy, q, "route", "", NULL, rules, doc, looked_at);
	const struct policy_out *counts = &at_route;
	if (q->mx[0] != '\0' || q->to != NULL) {
		policy_resolve_out(
			policy, q->reverse_path, domain, bytes_of_string(q->mx), q->to, &at_target);
		look_out(policy, q, "host", q->mx, q->to, rules, doc, looked_at);
		counts = policy_stricter(&at_route, &at_target);
	}
	yyjson_mut_obj_add_strcpy(doc, outbound, "rule", counts->rule_id);
	yyjson_mut_obj_add_str(doc, outbound, "stage", counts == &at_route ? "route" : "host");
	add_profile(doc, outbound, &counts->profile);
	yyjson_mut_obj_add_val(doc, outbound, "looked_at", looked_at);
}

/* The generation in force and the documents it was compiled from; under the lock, which keeps them
 * together. */
static yyjson_mut_doc *explain(struct control *c, const struct question *q, char error[512])
{
	char *json = store_documents(c->store, error);
	yyjson_doc *documents = json == NULL ? NULL : yyjson_read(json, strlen(json), 0);
	yyjson_mut_doc *doc = documents == NULL ? NULL : json_object();
	free(json);
	if (doc == NULL)
		return NULL;
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	yyjson_mut_obj_add_uint(doc, root, "generation", policy_generation(c->policy));
	explain_in(c->policy, q, yyjson_doc_get_root(documents), doc, root);
	explain_out(c->policy, q, yyjson_doc_get_root(documents), doc, root);
	yyjson_doc_free(documents);
	return doc;
}

void explain_post(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	struct question q = {};
	char error[512] = "out of memory";
	yyjson_doc *body = request_json(request, answer);
	if (body == NULL)
		return;
	if (take_fields(answer, yyjson_doc_get_root(body), &q) && understand(request, answer, &q)) {
		pthread_mutex_lock(&c->lock);
		yyjson_mut_doc *doc = explain(c, &q, error);
		pthread_mutex_unlock(&c->lock);
		if (doc == NULL)
			answer_failure(answer, -EIO, error);
		else
			answer_json(answer, 200, doc);
	}
	yyjson_doc_free(body);
}
