// SPDX-License-Identifier: Apache-2.0
#include "control/shm/policy_private.h"
#include "control/shm/sealed.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* What comes over the socket was made by control, but perhaps by another version of it, or by one that has
 * gone wrong. It is believed only after every offset, count, text and enumeration was looked at, once; after
 * that the resolve functions follow offsets without a check. The seals see to it that what was checked is
 * what is read later: nobody can write to, shrink or grow the object. */

/* ---- texts ---- */
static bool is_text(struct bytes object, struct layout_text text, size_t most)
{
	if (text.n == 0)
		return true;
	if (text.n > most || text.at >= object.n || object.n - text.at <= text.n)
		return false;
	const uint8_t *at = object.at + text.at;
	return at[text.n] == '\0' && memchr(at, '\0', text.n) == NULL;
}

static bool is_id(struct bytes object, struct layout_text text)
{
	return text.n != 0 && is_text(object, text, LAYOUT_ID_MAX);
}

static bool is_match(struct bytes object, const struct layout_match *match)
{
	if (match->kind >= LAYOUT_MATCH_KINDS)
		return false;
	return is_text(object, match->local, LAYOUT_DOMAIN_MAX) &&
		is_text(object, match->ascii, LAYOUT_DOMAIN_MAX) &&
		is_text(object, match->utf8, LAYOUT_DOMAIN_MAX);
}

static bool is_prefix(const struct layout_prefix *prefix)
{
	return prefix->is_set <= 1 && prefix->is_ipv4 <= 1 && prefix->bits <= 128;
}

/* ---- profiles ---- */
static bool is_string_in(const char *field, size_t size)
{
	return memchr(field, '\0', size) != NULL;
}

/* NUL-separated and ended by an empty one: a walk over the names stays inside the field. */
static bool are_names(const char names[TLS_NAMES_BYTES_MAX])
{
	const char *end = names + TLS_NAMES_BYTES_MAX, *at = names;
	while (at < end && *at != '\0') {
		const char *stop = memchr(at, '\0', (size_t)(end - at));
		if (stop == NULL)
			return false;
		at = stop + 1;
	}
	return at < end;
}

static bool is_protocol(uint16_t version)
{
	return version >= TLS_1_0 && version <= TLS_1_3;
}

static bool is_profile(const struct tls_profile *profile, uint32_t index)
{
	return is_string_in(profile->id, sizeof profile->id) && profile->id[0] != '\0' &&
		profile->index == index && profile->level <= TLS_LEVEL_SECURE &&
		profile->grade <= TLS_GRADE_MODERN &&
		profile->client_cert <= TLS_CLIENT_CERT_REQUIRE &&
		profile->fallback <= TLS_FALLBACK_DEFER &&
		profile->on_failure <= TLS_FAIL_PERMANENT &&
		is_protocol(profile->protocol_lowest) &&
		(profile->protocol_highest == 0 ||
			(is_protocol(profile->protocol_highest) &&
				profile->protocol_highest >= profile->protocol_lowest)) &&
		is_string_in(profile->groups, sizeof profile->groups) && are_names(profile->names);
}

static bool are_profiles(const struct policy *p)
{
	if (p->rows.PROFILE_CAS_count != p->rows.PROFILES_count)
		return false;
	for (uint32_t i = 0; i < p->rows.PROFILES_count; i++)
		if (!is_profile(&p->rows.PROFILES[i], i) ||
			!is_text(p->object, p->rows.PROFILE_CAS[i], LAYOUT_PEM_MAX))
			return false;
	return p->rows.PROFILES_count != 0;
}

/* ---- rules ---- */
static bool is_mail_stage(const struct layout_in_rule *rule)
{
	return rule->sender.kind != LAYOUT_ANY || rule->recipient.kind != LAYOUT_ANY;
}

static bool is_in_rule(const struct policy *p, const struct layout_in_rule *rule)
{
	return is_id(p->object, rule->id) && is_text(p->object, rule->listener, LAYOUT_ID_MAX) &&
		is_match(p->object, &rule->client_name) && is_match(p->object, &rule->sender) &&
		is_match(p->object, &rule->recipient) && is_prefix(&rule->client) &&
		rule->profile < p->rows.PROFILES_count && rule->action <= POLICY_REJECT &&
		rule->normalises_bare_lf <= 1 && rule->is_mail_stage == is_mail_stage(rule);
}

static bool are_in_rules(const struct policy *p)
{
	uint32_t count = p->rows.IN_RULES_count;
	for (uint32_t i = 0; i < count; i++)
		if (!is_in_rule(p, &p->rows.IN_RULES[i]))
			return false;
	if (count == 0)
		return false;
	const struct layout_in_rule *last = &p->rows.IN_RULES[count - 1];
	return !last->is_mail_stage && last->listener.n == 0 && !last->client.is_set &&
		last->client_name.kind == LAYOUT_ANY;
}

static bool are_out_rules(const struct policy *p)
{
	uint32_t count = p->rows.OUT_RULES_count;
	for (uint32_t i = 0; i < count; i++) {
		const struct layout_out_rule *rule = &p->rows.OUT_RULES[i];
		if (!is_id(p->object, rule->id) || !is_match(p->object, &rule->sender) ||
			!is_match(p->object, &rule->domain) || !is_match(p->object, &rule->mx) ||
			!is_prefix(&rule->destination) || rule->profile >= p->rows.PROFILES_count)
			return false;
	}
	if (count == 0)
		return false;
	const struct layout_out_rule *last = &p->rows.OUT_RULES[count - 1];
	return last->sender.kind == LAYOUT_ANY && last->domain.kind == LAYOUT_ANY &&
		last->mx.kind == LAYOUT_ANY && !last->destination.is_set;
}

/* ---- routes ---- */
static int compare_texts(struct bytes a, struct bytes b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n == 0 ? 0 : memcmp(a.at, b.at, n);
	return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

/* Sorted, each once: the search by halves finds the one there is. */
static bool are_domains(const struct policy *p)
{
	struct bytes before = BYTES_NONE;
	for (uint32_t i = 0; i < p->rows.DOMAINS_count; i++) {
		const struct layout_domain *domain = &p->rows.DOMAINS[i];
		if (domain->name.n == 0 || !is_text(p->object, domain->name, LAYOUT_DOMAIN_MAX) ||
			domain->route >= p->rows.ROUTES_count)
			return false;
		struct bytes name = layout_bytes(p->object, domain->name);
		if (compare_texts(before, name) >= 0)
			return false;
		before = name;
	}
	return true;
}

static bool are_routes(const struct policy *p)
{
	for (uint32_t i = 0; i < p->rows.ROUTES_count; i++) {
		const struct layout_route *route = &p->rows.ROUTES[i];
		if (!is_id(p->object, route->id) || route->is_inbound > 1 || route->is_mx > 1 ||
			route->host_count > POLICY_HOSTS_MAX || route->mx_port == 0 ||
			route->first_host > p->rows.HOSTS_count ||
			p->rows.HOSTS_count - route->first_host < route->host_count ||
			(!route->is_mx && route->host_count == 0))
			return false;
	}
	for (uint32_t i = 0; i < p->rows.HOSTS_count; i++) {
		const struct layout_host *host = &p->rows.HOSTS[i];
		if (host->name.n == 0 || !is_text(p->object, host->name, LAYOUT_DOMAIN_MAX) ||
			host->port == 0 || host->implicit_tls > 1)
			return false;
	}
	return true;
}

static bool are_certs(const struct policy *p)
{
	for (uint32_t i = 0; i < p->rows.CERTS_count; i++) {
		const struct layout_cert *cert = &p->rows.CERTS[i];
		if (!is_id(p->object, cert->id) || !is_text(p->object, cert->chain_pem, LAYOUT_PEM_MAX))
			return false;
	}
	return true;
}

/* ---- the objects ---- */
/* The rows of a section, or NULL if they are not inside the object. */
static const void *section_rows(
	struct bytes object, const struct layout_section *section, size_t row_size)
{
	if (section->at % LAYOUT_ALIGN != 0 || section->at < sizeof(struct layout_header) ||
		section->at > object.n || section->count > LAYOUT_ROWS_MAX ||
		section->count > (object.n - section->at) / row_size)
		return NULL;
	return object.at + section->at;
}

static bool view_sections(struct policy *p)
{
	const struct layout_section *sections = p->header->sections;
#define _(id, type)                                                                                \
	p->rows.id = section_rows(p->object, &sections[LAYOUT_##id], sizeof(type));                \
	p->rows.id##_count = sections[LAYOUT_##id].count;                                          \
	if (p->rows.id == NULL)                                                                    \
		return false;
	LAYOUT_SECTIONS(_)
#undef _
	return true;
}

static int view_keys(struct policy *p)
{
	const struct layout_keys_header *header = (const void *)p->keys.at;
	if (p->keys.n == 0)
		return 0;
	if (p->keys.n < sizeof *header || p->keys.n > LAYOUT_SIZE_MAX ||
		header->magic != LAYOUT_KEYS_MAGIC)
		return -EBADMSG;
	if (header->version != LAYOUT_VERSION)
		return -EPROTO;
	if (header->size != p->keys.n || header->generation != p->header->generation ||
		header->count != p->rows.CERTS_count ||
		header->count > (p->keys.n - sizeof *header) / sizeof(struct layout_text))
		return -EBADMSG;
	p->key_pems = (const void *)(p->keys.at + sizeof *header);
	for (uint32_t i = 0; i < header->count; i++)
		if (!is_text(p->keys, p->key_pems[i], LAYOUT_PEM_MAX))
			return -EBADMSG;
	return 0;
}

int policy_view(struct policy *p, struct bytes object, struct bytes keys)
{
	*p = (struct policy){.object = object, .keys = keys, .header = (const void *)object.at};
	if (object.n < sizeof *p->header || object.n > LAYOUT_SIZE_MAX ||
		p->header->magic != LAYOUT_POLICY_MAGIC)
		return -EBADMSG;
	if (p->header->version != LAYOUT_VERSION)
		return -EPROTO;
	if (p->header->size != object.n || !view_sections(p) ||
		!is_text(object, p->header->ca_pem, LAYOUT_SIZE_MAX) || !are_profiles(p) ||
		!are_in_rules(p) || !are_out_rules(p) || !are_domains(p) || !are_routes(p) ||
		!are_certs(p))
		return -EBADMSG;
	return view_keys(p);
}

/* Maps a sealed object whole; it is paged in at once, so that a worker's first look does not fault. */
static int map_object(int fd, struct bytes *object)
{
	struct stat status;
	if (!sealed_is(fd))
		return -EBADMSG;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (status.st_size <= 0 || status.st_size > LAYOUT_SIZE_MAX)
		return -EBADMSG;
	void *at = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*object = bytes_of(at, (size_t)status.st_size);
	return 0;
}

static void unmap_object(struct bytes object)
{
	if (object.n != 0)
		munmap((void *)(uintptr_t)object.at, object.n);
}

int policy_map(int policy_fd, int keys_fd, struct policy **policy)
{
	struct bytes object, keys = BYTES_NONE;
	struct policy *p = malloc(sizeof *p);
	if (p == NULL)
		return -ENOMEM;
	int error = map_object(policy_fd, &object);
	if (error != 0)
		goto undo_memory;
	if (keys_fd >= 0 && (error = map_object(keys_fd, &keys)) != 0)
		goto undo_object;
	if (keys.n != 0) /* private keys stay out of core files */
		madvise((void *)(uintptr_t)keys.at, keys.n, MADV_DONTDUMP);
	error = policy_view(p, object, keys);
	if (error != 0)
		goto undo_keys;
	*policy = p;
	return 0;
undo_keys:
	unmap_object(keys);
undo_object:
	unmap_object(object);
undo_memory:
	free(p);
	return error;
}

void policy_unmap(struct policy *policy)
{
	if (policy == NULL)
		return;
	unmap_object(policy->keys);
	unmap_object(policy->object);
	free(policy);
}
