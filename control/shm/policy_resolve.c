// SPDX-License-Identifier: Apache-2.0
#include "control/shm/policy_private.h"

#include <stdio.h>

/* Runs on worker cores: nothing here allocates, locks or calls the system. A domain, a name or an address
 * comes from a peer and may be anything; the patterns come from a checked generation. */

/* ---- the texts of peers, brought to the form of the patterns ---- */

/* "example.test." and "example.test" are one domain. */
static struct bytes without_final_dot(struct bytes domain)
{
	return domain.n > 1 && domain.at[domain.n - 1] == '.' ? bytes_first(domain, domain.n - 1)
							      : domain;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 4.1.3) in the one form that patterns have; anything
 * else comes back as it is. */
static struct bytes canonical_literal(struct bytes domain, char room[POLICY_LITERAL_MAX])
{
	char inside[ADDR_TEXT_MAX], text[ADDR_TEXT_MAX];
	struct addr addr;
	if (domain.n < 2 || domain.at[0] != '[' || domain.at[domain.n - 1] != ']')
		return domain;
	struct bytes in = bytes_of(domain.at + 1, domain.n - 2);
	bool is_ipv6 = bytes_equal_nocase(bytes_first(in, 5), BYTES_LITERAL("IPv6:"));
	if (is_ipv6)
		in = bytes_skip(in, 5);
	if (!bytes_to_string(in, inside, sizeof inside) || strlen(inside) != in.n ||
		!addr_parse(inside, &addr) || is_ipv6 == addr_is_ipv4(&addr))
		return domain;
	int n = snprintf(room, POLICY_LITERAL_MAX, "[%s%s]", is_ipv6 ? "ipv6:" : "",
		addr_format(&addr, text));
	return bytes_of(room, (size_t)n);
}

struct bytes policy_canonical_domain(struct bytes domain, char room[POLICY_LITERAL_MAX])
{
	return canonical_literal(without_final_dot(domain), room);
}

/* An address taken apart at its last "@": a local part may hold one in quotes, a domain never. */
struct mailbox {
	struct bytes local, domain;
	bool is_empty; /* no address: the null sender, or no recipient yet */
	char room[POLICY_LITERAL_MAX];
};

static void take_apart(struct bytes address, struct mailbox *mailbox)
{
	const uint8_t *at = address.n == 0 ? NULL : memrchr(address.at, '@', address.n);
	mailbox->is_empty = address.n == 0;
	mailbox->local = at == NULL ? address : bytes_of(address.at, (size_t)(at - address.at));
	mailbox->domain = at == NULL ? BYTES_NONE : bytes_skip(address, mailbox->local.n + 1);
	mailbox->domain = policy_canonical_domain(mailbox->domain, mailbox->room);
}

/* ---- matching ---- */
static bool text_is(const struct policy *p, struct layout_text pattern, struct bytes text)
{
	return bytes_equal_nocase(layout_bytes(p->object, pattern), text);
}

static bool text_ends_in(const struct policy *p, struct layout_text pattern, struct bytes text)
{
	return pattern.n != 0 && text.n > pattern.n &&
		text_is(p, pattern, bytes_skip(text, text.n - pattern.n));
}

static bool domain_is(const struct policy *p, const struct layout_match *match, struct bytes domain)
{
	return text_is(p, match->ascii, domain) ||
		(match->utf8.n != 0 && text_is(p, match->utf8, domain));
}

static bool domain_matches(
	const struct policy *p, const struct layout_match *match, struct bytes domain)
{
	switch (match->kind) {
	case LAYOUT_ANY: return true;
	case LAYOUT_DOMAIN: return domain.n != 0 && domain_is(p, match, domain);
	case LAYOUT_SUFFIX:
		return text_ends_in(p, match->ascii, domain) ||
			text_ends_in(p, match->utf8, domain);
	default: return false;
	}
}

static bool mailbox_matches(const struct policy *p, const struct layout_match *match,
	const struct mailbox *mailbox, bool is_sender)
{
	switch (match->kind) {
	case LAYOUT_NULL_SENDER: return is_sender && mailbox->is_empty;
	case LAYOUT_ADDRESS:
		return !mailbox->is_empty && text_is(p, match->local, mailbox->local) &&
			domain_is(p, match, mailbox->domain);
	default: return domain_matches(p, match, mailbox->domain);
	}
}

/* "::/0" is all of IPv6, and not IPv4, although those addresses are kept as mapped ones. */
static bool prefix_matches(const struct layout_prefix *prefix, const struct addr *addr)
{
	struct prefix plain = {.bits = prefix->bits};
	if (!prefix->is_set)
		return true;
	if (addr == NULL || addr_is_ipv4(addr) != prefix->is_ipv4)
		return false;
	memcpy(plain.addr.b, prefix->addr, sizeof plain.addr.b);
	return prefix_has(&plain, addr);
}

/* The first criterion of a rule that does not fit. Both the resolution and its explanation ask here. */
static enum policy_criterion client_differs(
	const struct policy *p, const struct layout_in_rule *rule, const struct policy_client *client)
{
	if (rule->listener.n != 0 &&
		!bytes_equal(layout_bytes(p->object, rule->listener), client->listener))
		return POLICY_LISTENER;
	if (!prefix_matches(&rule->client, &client->addr))
		return POLICY_CLIENT;
	if (!domain_matches(p, &rule->client_name, without_final_dot(client->name)))
		return POLICY_CLIENT_NAME;
	return POLICY_MATCHES;
}

static enum policy_criterion mail_differs(const struct policy *p, const struct layout_in_rule *rule,
	const struct policy_client *client, const struct mailbox *from, const struct mailbox *to)
{
	if (!mailbox_matches(p, &rule->sender, from, true))
		return POLICY_SENDER;
	if (!mailbox_matches(p, &rule->recipient, to, false))
		return POLICY_RECIPIENT;
	return client_differs(p, rule, client);
}

struct delivery {
	struct mailbox from;
	struct bytes domain, mx_host;
	const struct addr *addr;
	char room[POLICY_LITERAL_MAX], mx_room[POLICY_LITERAL_MAX];
};

static void take_delivery(struct delivery *d, struct bytes sender, struct bytes domain,
	struct bytes mx_host, const struct addr *addr)
{
	take_apart(sender, &d->from);
	d->domain = policy_canonical_domain(domain, d->room);
	d->mx_host = policy_canonical_domain(mx_host, d->mx_room);
	d->addr = addr;
}

static enum policy_criterion out_differs(
	const struct policy *p, const struct layout_out_rule *rule, const struct delivery *d)
{
	if (!mailbox_matches(p, &rule->sender, &d->from, true))
		return POLICY_SENDER;
	if (!domain_matches(p, &rule->domain, d->domain))
		return POLICY_DOMAIN;
	if (!domain_matches(p, &rule->mx, d->mx_host))
		return POLICY_MX;
	if (!prefix_matches(&rule->destination, d->addr))
		return POLICY_DESTINATION;
	return POLICY_MATCHES;
}

/* ---- inbound ---- */
static void copy_id(const struct policy *p, struct layout_text id, char to[64])
{
	bytes_to_string(layout_bytes(p->object, id), to, 64);
}

static void take_in_rule(
	const struct policy *p, const struct layout_in_rule *rule, struct policy_in *in)
{
	copy_id(p, rule->id, in->rule_id);
	in->action = rule->action;
	in->normalises_bare_lf = rule->normalises_bare_lf;
	in->profile = p->rows.PROFILES[rule->profile];
}

bool policy_wants_client_name(const struct policy *policy, const struct policy_client *client)
{
	for (uint32_t i = 0; i < policy->rows.IN_RULES_count; i++) {
		const struct layout_in_rule *rule = &policy->rows.IN_RULES[i];
		if (rule->client_name.kind == LAYOUT_ANY)
			continue;
		enum policy_criterion differs = client_differs(policy, rule, client);
		if (differs == POLICY_MATCHES || differs == POLICY_CLIENT_NAME)
			return true;
	}
	return false;
}

void policy_resolve_connect(
	const struct policy *policy, const struct policy_client *client, struct policy_in *in)
{
	/* The last rule has no criteria: the loop ends there at the latest. */
	const struct layout_in_rule *rule = policy->rows.IN_RULES;
	while (rule->is_mail_stage || client_differs(policy, rule, client) != POLICY_MATCHES)
		rule++;
	take_in_rule(policy, rule, in);
}

bool policy_resolve_mail(const struct policy *policy, const struct policy_client *client,
	struct bytes sender, struct bytes recipient, struct policy_in *in)
{
	struct mailbox from, to;
	take_apart(sender, &from);
	take_apart(recipient, &to);
	for (uint32_t i = 0; i < policy->rows.IN_RULES_count; i++) {
		const struct layout_in_rule *rule = &policy->rows.IN_RULES[i];
		if (!rule->is_mail_stage ||
			mail_differs(policy, rule, client, &from, &to) != POLICY_MATCHES)
			continue;
		take_in_rule(policy, rule, in);
		return true;
	}
	return false;
}

/* ---- outbound ---- */
void policy_resolve_out(const struct policy *policy, struct bytes sender, struct bytes domain,
	struct bytes mx_host, const struct addr *addr, struct policy_out *out)
{
	struct delivery d;
	const struct layout_out_rule *rule = policy->rows.OUT_RULES;
	take_delivery(&d, sender, domain, mx_host, addr);
	while (out_differs(policy, rule, &d) != POLICY_MATCHES)
		rule++; /* the last has no criteria */
	copy_id(policy, rule->id, out->rule_id);
	out->profile = policy->rows.PROFILES[rule->profile];
}

const struct policy_out *policy_stricter(const struct policy_out *a, const struct policy_out *b)
{
	const struct tls_profile *x = &a->profile, *y = &b->profile;
	if (x->level != y->level)
		return x->level > y->level ? a : b;
	if (x->grade != y->grade)
		return x->grade > y->grade ? a : b;
	if (x->protocol_lowest != y->protocol_lowest)
		return x->protocol_lowest > y->protocol_lowest ? a : b;
	return x->bits_least >= y->bits_least ? a : b;
}

/* ---- why ---- */
static void write_match(const struct policy *p, const struct layout_match *match, bool is_mailbox,
	char to[POLICY_WANTED_MAX])
{
	struct bytes local = layout_bytes(p->object, match->local);
	struct bytes domain = layout_bytes(p->object, match->utf8.n != 0 ? match->utf8 : match->ascii);
	if (match->kind == LAYOUT_NULL_SENDER)
		snprintf(to, POLICY_WANTED_MAX, "<>");
	else
		snprintf(to, POLICY_WANTED_MAX, "%.*s%s%.*s", (int)local.n, (const char *)local.at,
			domain.n != 0 && is_mailbox && match->kind != LAYOUT_SUFFIX ? "@" : "",
			(int)domain.n, (const char *)domain.at);
}

static void write_prefix(const struct layout_prefix *from, char to[POLICY_WANTED_MAX])
{
	struct prefix prefix = {.bits = from->bits};
	char text[ADDR_TEXT_MAX + 4];
	memcpy(prefix.addr.b, from->addr, sizeof prefix.addr.b);
	snprintf(to, POLICY_WANTED_MAX, "%s", prefix_format(&prefix, text));
}

static void look_in(const struct policy *p, const struct layout_in_rule *rule,
	enum policy_criterion differs, struct policy_look *look)
{
	copy_id(p, rule->id, look->rule_id);
	look->differs = differs;
	look->wanted[0] = '\0';
	switch (differs) {
	case POLICY_LISTENER:
		bytes_to_string(layout_bytes(p->object, rule->listener), look->wanted,
			sizeof look->wanted);
		break;
	case POLICY_CLIENT: write_prefix(&rule->client, look->wanted); break;
	case POLICY_CLIENT_NAME: write_match(p, &rule->client_name, false, look->wanted); break;
	case POLICY_SENDER: write_match(p, &rule->sender, true, look->wanted); break;
	case POLICY_RECIPIENT: write_match(p, &rule->recipient, true, look->wanted); break;
	default: break;
	}
}

bool policy_explain_connect(const struct policy *policy, const struct policy_client *client, uint32_t *at,
	struct policy_look *look)
{
	while (*at < policy->rows.IN_RULES_count) {
		const struct layout_in_rule *rule = &policy->rows.IN_RULES[(*at)++];
		if (rule->is_mail_stage)
			continue;
		look_in(policy, rule, client_differs(policy, rule, client), look);
		if (look->differs == POLICY_MATCHES)
			*at = UINT32_MAX; /* no later one counts */
		return true;
	}
	return false;
}

bool policy_explain_mail(const struct policy *policy, const struct policy_client *client,
	struct bytes sender, struct bytes recipient, uint32_t *at, struct policy_look *look)
{
	struct mailbox from, to;
	take_apart(sender, &from);
	take_apart(recipient, &to);
	while (*at < policy->rows.IN_RULES_count) {
		const struct layout_in_rule *rule = &policy->rows.IN_RULES[(*at)++];
		if (!rule->is_mail_stage)
			continue;
		look_in(policy, rule, mail_differs(policy, rule, client, &from, &to), look);
		if (look->differs == POLICY_MATCHES)
			*at = UINT32_MAX;
		return true;
	}
	return false;
}

bool policy_explain_out(const struct policy *policy, struct bytes sender, struct bytes domain,
	struct bytes mx_host, const struct addr *addr, uint32_t *at, struct policy_look *look)
{
	struct delivery d;
	if (*at >= policy->rows.OUT_RULES_count)
		return false;
	const struct layout_out_rule *rule = &policy->rows.OUT_RULES[(*at)++];
	take_delivery(&d, sender, domain, mx_host, addr);
	copy_id(policy, rule->id, look->rule_id);
	look->differs = out_differs(policy, rule, &d);
	look->wanted[0] = '\0';
	switch (look->differs) {
	case POLICY_MATCHES: *at = UINT32_MAX; break;
	case POLICY_SENDER: write_match(policy, &rule->sender, true, look->wanted); break;
	case POLICY_DOMAIN: write_match(policy, &rule->domain, false, look->wanted); break;
	case POLICY_MX: write_match(policy, &rule->mx, false, look->wanted); break;
	case POLICY_DESTINATION: write_prefix(&rule->destination, look->wanted); break;
	default: break;
	}
	return true;
}

/* ---- routes ---- */
/* As the domains are sorted: by bytes, `name` in lower case already. */
static int compare_domain(struct bytes name, struct bytes wanted)
{
	for (size_t i = 0; i < name.n && i < wanted.n; i++) {
		uint8_t c = byte_lower(wanted.at[i]);
		if (name.at[i] != c)
			return name.at[i] < c ? -1 : 1;
	}
	return (name.n > wanted.n) - (name.n < wanted.n);
}

static const struct layout_route *find_domain(const struct policy *p, struct bytes wanted)
{
	uint32_t low = 0, high = p->rows.DOMAINS_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct layout_domain *domain = &p->rows.DOMAINS[middle];
		int order = compare_domain(layout_bytes(p->object, domain->name), wanted);
		if (order == 0)
			return &p->rows.ROUTES[domain->route];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static const struct layout_route *find_route(const struct policy *p, struct bytes domain)
{
	const struct layout_route *route = NULL;
	if (domain.n == 0)
		return NULL;
	if (domain.n > LAYOUT_DOMAIN_MAX) /* longer than any pattern, and no domain */
		return find_domain(p, BYTES_LITERAL("*"));
	/* A domain that is "*" or begins with a dot is no domain; the patterns are not to be had by name. */
	if (domain.at[0] != '.' && domain.at[0] != '*')
		route = find_domain(p, domain);
	for (struct bytes rest = bytes_skip(domain, 1); route == NULL && rest.n > 1 && domain.at[0] != '[';
		rest = bytes_skip(rest, 1))
		if (rest.at[0] == '.')
			route = find_domain(p, rest);
	return route != NULL ? route : find_domain(p, BYTES_LITERAL("*"));
}

bool policy_find_route(const struct policy *policy, struct bytes domain, struct policy_route *route)
{
	char room[POLICY_LITERAL_MAX];
	const struct layout_route *found =
		find_route(policy, policy_canonical_domain(domain, room));
	if (found == NULL)
		return false;
	copy_id(policy, found->id, route->id);
	route->is_inbound = found->is_inbound;
	route->is_mx = found->is_mx;
	route->mx_port = found->mx_port;
	route->host_count = found->host_count;
	for (uint32_t i = 0; i < found->host_count; i++) {
		const struct layout_host *host = &policy->rows.HOSTS[found->first_host + i];
		bytes_to_string(layout_bytes(policy->object, host->name), route->hosts[i].host,
			sizeof route->hosts[i].host);
		route->hosts[i].port = host->port;
		route->hosts[i].implicit_tls = host->implicit_tls;
	}
	return true;
}

/* ---- the rest of a generation ---- */
uint64_t policy_generation(const struct policy *policy)
{
	return policy->header->generation;
}

const struct tls_profile *policy_profiles(const struct policy *policy, size_t *count)
{
	*count = policy->rows.PROFILES_count;
	return policy->rows.PROFILES;
}

struct bytes policy_ca_pem(const struct policy *policy)
{
	return layout_bytes(policy->object, policy->header->ca_pem);
}

struct bytes policy_profile_ca_pem(const struct policy *policy, size_t profile)
{
	return layout_bytes(policy->object, policy->rows.PROFILE_CAS[profile]);
}

size_t policy_cert_count(const struct policy *policy)
{
	return policy->rows.CERTS_count;
}

void policy_cert(const struct policy *policy, size_t index, struct bytes *id, struct bytes *chain_pem,
	struct bytes *key_pem)
{
	const struct layout_cert *cert = &policy->rows.CERTS[index];
	*id = layout_bytes(policy->object, cert->id);
	*chain_pem = layout_bytes(policy->object, cert->chain_pem);
	*key_pem = policy->key_pems == NULL ? BYTES_NONE
					    : layout_bytes(policy->keys, policy->key_pems[index]);
}
