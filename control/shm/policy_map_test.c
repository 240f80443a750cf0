// SPDX-License-Identifier: Apache-2.0
#include "control/shm/policy_private.h"
#include "control/shm/policy_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const char documents[] =
	"{'profiles': [{'id': 'p', 'level': 'verify', 'names': ['mx.example.test'], 'ca_pem': 'own'}],"
	" 'in_rules': [{'id': 'a', 'client': '192.0.2.0/24', 'action': 'relay'},"
	"  {'id': 'b', 'sender': 'x@example.test', 'client_name': '.example.test'}],"
	" 'out_rules': [{'id': 'a', 'domain': '.example.test', 'destination': '2001:db8::/32'}],"
	" 'routes': [{'id': 'a', 'domain': 'example.test', 'via': 'hosts', 'hosts':"
	"  [{'host': 'mx.example.test'}]}, {'id': 'b', 'domain': '*'}], 'ca_pem': 'roots'}";

struct objects {
	int policy_fd, keys_fd;
	uint8_t *policy, *keys; /* copies */
	size_t policy_n, keys_n;
};

static uint8_t *read_copy(int fd, size_t *n)
{
	struct stat status;
	assert_int_equal(fstat(fd, &status), 0);
	*n = (size_t)status.st_size;
	uint8_t *copy = malloc(*n);
	assert_non_null(copy);
	assert_int_equal(pread(fd, copy, *n, 0), *n);
	return copy;
}

static struct objects make_objects(uint64_t generation)
{
	static const struct policy_cert cert = {
		"c", BYTES_LITERAL("chain"), BYTES_LITERAL("key"), true};
	struct objects o;
	char json[16384], error[512];
	assert_int_equal(policy_compile(test_json(documents, json), &cert, 1, generation,
				 &o.policy_fd, &o.keys_fd, error),
		0);
	o.policy = read_copy(o.policy_fd, &o.policy_n);
	o.keys = read_copy(o.keys_fd, &o.keys_n);
	return o;
}

static void free_objects(struct objects *o)
{
	close(o->policy_fd);
	close(o->keys_fd);
	free(o->policy);
	free(o->keys);
}

static int view(const struct objects *o)
{
	struct policy policy;
	return policy_view(
		&policy, bytes_of(o->policy, o->policy_n), bytes_of(o->keys, o->keys_n));
}

/* ---- seals ---- */
static void nobody_can_change_a_generation(void **state)
{
	struct objects o = make_objects(1);
	const int fds[] = {o.policy_fd, o.keys_fd};
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pwrite(fds[i], "x", 1, 0), -1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(ftruncate(fds[i], 10), -1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(ftruncate(fds[i], 1 << 20), -1);
		assert_int_equal(errno, EPERM);
		assert_ptr_equal(mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0),
			MAP_FAILED);
		assert_int_equal(fcntl(fds[i], F_ADD_SEALS, 0), -1); /* the seals themselves are sealed */
		struct stat status;
		assert_int_equal(fstat(fds[i], &status), 0);
		assert_int_equal(status.st_mode & 0777, 0600);
	}
	free_objects(&o);
}

static void what_is_not_sealed_is_not_mapped(void **state)
{
	struct objects o = make_objects(1);
	struct policy *policy;
	int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(write(fd, o.policy, o.policy_n), o.policy_n);
	assert_int_equal(policy_map(fd, -1, &policy), -EBADMSG);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(policy_map(fd, -1, &policy), -EBADMSG);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(policy_map(fd, -1, &policy), 0);
	policy_unmap(policy);
	close(fd);
	free_objects(&o);
}

/* ---- position ---- */
static void a_generation_reads_the_same_at_two_addresses(void **state)
{
	struct objects o = make_objects(1);
	struct policy *a, *b;
	struct policy_route route_a, route_b;
	assert_int_equal(policy_map(o.policy_fd, o.keys_fd, &a), 0);
	assert_int_equal(policy_map(o.policy_fd, o.keys_fd, &b), 0);
	assert_ptr_not_equal(a->object.at, b->object.at);
	memset(&route_a, 0, sizeof route_a);
	memset(&route_b, 0, sizeof route_b);
	assert_true(policy_find_route(a, text("example.test"), &route_a));
	assert_true(policy_find_route(b, text("example.test"), &route_b));
	assert_memory_equal(&route_a, &route_b, sizeof route_a);
	policy_unmap(a); /* what one holds does not hang on the other, nor on the descriptors */
	free_objects(&o);
	assert_true(policy_find_route(b, text("example.test"), &route_b));
	assert_string_equal(route_b.hosts[0].host, "mx.example.test");
	policy_unmap(b);
}

/* ---- damage ---- */
static void another_layout_version_is_told_apart_from_damage(void **state)
{
	struct objects o = make_objects(1);
	((struct layout_header *)o.policy)->version++;
	assert_int_equal(view(&o), -EPROTO);
	((struct layout_header *)o.policy)->version--;
	((struct layout_keys_header *)o.keys)->version++;
	assert_int_equal(view(&o), -EPROTO);
	((struct layout_keys_header *)o.keys)->version--;
	assert_int_equal(view(&o), 0);
	((struct layout_header *)o.policy)->magic++;
	assert_int_equal(view(&o), -EBADMSG);
	free_objects(&o);
}

static void keys_of_another_generation_are_refused(void **state)
{
	struct objects one = make_objects(1), two = make_objects(2);
	struct policy *policy;
	assert_int_equal(policy_map(one.policy_fd, two.keys_fd, &policy), -EBADMSG);
	assert_int_equal(policy_map(one.keys_fd, one.policy_fd, &policy), -EBADMSG);
	free_objects(&one);
	free_objects(&two);
}

static void every_shorter_object_is_refused(void **state)
{
	struct objects o = make_objects(1);
	size_t whole = o.policy_n;
	for (o.policy_n = 0; o.policy_n < whole; o.policy_n++) {
		if (o.policy_n >= sizeof(struct layout_header))
			((struct layout_header *)o.policy)->size = (uint32_t)o.policy_n;
		assert_int_not_equal(view(&o), 0);
	}
	free_objects(&o);
}

/* What each row promises, broken once. */
#define ROW_OF(o, section, type)                                                                   \
	((type *)((o)->policy + ((struct layout_header *)(o)->policy)->sections[section].at))
#define BREAKS(_)                                                                                  \
	_(section_outside, header->sections[LAYOUT_ROUTES].at = (uint32_t)o->policy_n + 8)         \
	_(section_unaligned, header->sections[LAYOUT_ROUTES].at += 4)                              \
	_(section_over_header, header->sections[LAYOUT_PROFILES].at = 0)                           \
	_(section_too_long, header->sections[LAYOUT_HOSTS].count = 1u << 19)                       \
	_(section_huge, header->sections[LAYOUT_HOSTS].count = UINT32_MAX)                         \
	_(no_profiles, header->sections[LAYOUT_PROFILES].count = 0)                                \
	_(no_last_in_rule, header->sections[LAYOUT_IN_RULES].count--)                              \
	_(no_last_out_rule, header->sections[LAYOUT_OUT_RULES].count--)                            \
	_(fewer_certs_than_keys, header->sections[LAYOUT_CERTS].count = 0)                         \
	_(size_wrong, header->size--)                                                              \
	_(ca_outside, header->ca_pem.n = UINT32_MAX)                                               \
	_(ca_not_ended, header->ca_pem.n--)                                                        \
	_(own_ca_outside, own_ca->at = (uint32_t)o->policy_n)                                      \
	_(own_ca_long, own_ca->n = UINT32_MAX)                                                     \
	_(own_ca_not_ended, own_ca->n--)                                                           \
	_(own_cas_fewer, header->sections[LAYOUT_PROFILE_CAS].count--)                             \
	_(own_cas_outside, header->sections[LAYOUT_PROFILE_CAS].at = (uint32_t)o->policy_n + 8)    \
	_(profile_id_unended, memset(profile->id, 'x', sizeof profile->id))                        \
	_(profile_id_empty, profile->id[0] = '\0')                                                 \
	_(profile_index, profile->index = 1)                                                       \
	_(profile_level, profile->level = TLS_LEVEL_SECURE + 1)                                    \
	_(profile_grade, profile->grade = 200)                                                     \
	_(profile_client_cert, profile->client_cert = 3)                                           \
	_(profile_fallback, profile->fallback = 3)                                                 \
	_(profile_on_failure, profile->on_failure = 2)                                             \
	_(profile_lowest, profile->protocol_lowest = 0x0300)                                       \
	_(profile_highest, profile->protocol_highest = TLS_1_1)                                    \
	_(profile_groups, memset(profile->groups, 'x', sizeof profile->groups))                    \
	_(profile_names_full, memset(profile->names, 'x', sizeof profile->names))                  \
	_(profile_names_unended, memset(profile->names, 'x', sizeof profile->names - 1))           \
	_(in_profile, in->profile = 99)                                                            \
	_(in_action, in->action = POLICY_REJECT + 1)                                               \
	_(in_flag, in->normalises_bare_lf = 2)                                                     \
	_(in_stage, in->is_mail_stage = 1)                                                         \
	_(in_bits, in->client.bits = 129)                                                          \
	_(in_id_empty, in->id.n = 0)                                                               \
	_(in_id_long, in->id.n = 64)                                                               \
	_(in_id_nul_inside, in->id.n += 2)                                                         \
	_(in_listener_outside, in->listener = ((struct layout_text){UINT32_MAX, 1}))               \
	_(in_listener_at_end, in->listener = ((struct layout_text){(uint32_t)o->policy_n - 1, 1})) \
	_(in_match_kind, in->sender.kind = LAYOUT_MATCH_KINDS)                                     \
	_(out_profile, out->profile = 3)                                                           \
	_(out_match, out->mx.ascii.n = 300)                                                        \
	_(out_prefix, out->destination.is_ipv4 = 7)                                                \
	_(domain_order, swap_domains(o))                                                           \
	_(domain_route, domain->route = 2)                                                         \
	_(domain_empty, domain->name.n = 0)                                                        \
	_(route_hosts, route->host_count = 2)                                                      \
	_(route_hosts_many, route->host_count = POLICY_HOSTS_MAX + 1)                              \
	_(route_hosts_first, route->first_host = UINT32_MAX)                                       \
	_(route_no_hosts, route->host_count = 0)                                                   \
	_(route_port, route->mx_port = 0)                                                          \
	_(route_flag, route->is_mx = 2)                                                            \
	_(host_port, host->port = 0)                                                               \
	_(host_name, host->name.at = 0)                                                            \
	_(host_flag, host->implicit_tls = 2)                                                       \
	_(cert_id, cert->id.n = 0)                                                                 \
	_(cert_chain, cert->chain_pem.at = (uint32_t)o->policy_n)                                  \
	_(keys_count, ((struct layout_keys_header *)o->keys)->count = 2)                           \
	_(keys_size, ((struct layout_keys_header *)o->keys)->size--)                               \
	_(keys_text, ((struct layout_text *)(o->keys + sizeof(struct layout_keys_header)))->n = 99)

static void swap_domains(struct objects *o)
{
	struct layout_domain *d = ROW_OF(o, LAYOUT_DOMAINS, struct layout_domain), kept = d[0];
	d[0] = d[1];
	d[1] = kept;
}

#define _(name, statement)                                                                         \
	static void break_##name(struct objects *o)                                                \
	{                                                                                          \
		struct layout_header *header = (void *)o->policy;                                  \
		struct tls_profile *profile = ROW_OF(o, LAYOUT_PROFILES, struct tls_profile);      \
		struct layout_text *own_ca = ROW_OF(o, LAYOUT_PROFILE_CAS, struct layout_text);    \
		struct layout_in_rule *in = ROW_OF(o, LAYOUT_IN_RULES, struct layout_in_rule);     \
		struct layout_out_rule *out = ROW_OF(o, LAYOUT_OUT_RULES, struct layout_out_rule); \
		struct layout_domain *domain = ROW_OF(o, LAYOUT_DOMAINS, struct layout_domain);    \
		struct layout_route *route = ROW_OF(o, LAYOUT_ROUTES, struct layout_route);        \
		struct layout_host *host = ROW_OF(o, LAYOUT_HOSTS, struct layout_host);            \
		struct layout_cert *cert = ROW_OF(o, LAYOUT_CERTS, struct layout_cert);            \
		(void)header, (void)profile, (void)in, (void)out, (void)domain, (void)route,       \
			(void)host, (void)cert, (void)own_ca;                                      \
		statement;                                                                         \
	}
BREAKS(_)
#undef _

static void each_broken_promise_is_refused(void **state)
{
	static const struct {
		const char *name;
		void (*apply)(struct objects *o);
	} breaks[] = {
#define _(name, statement) {#name, break_##name},
		BREAKS(_)
#undef _
	};
	for (size_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
		struct objects o = make_objects(1);
		assert_int_equal(view(&o), 0);
		breaks[i].apply(&o);
		if (view(&o) != -EBADMSG)
			fail_msg("%s was not refused", breaks[i].name);
		free_objects(&o);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_can_change_a_generation),
		cmocka_unit_test(what_is_not_sealed_is_not_mapped),
		cmocka_unit_test(a_generation_reads_the_same_at_two_addresses),
		cmocka_unit_test(another_layout_version_is_told_apart_from_damage),
		cmocka_unit_test(keys_of_another_generation_are_refused),
		cmocka_unit_test(every_shorter_object_is_refused),
		cmocka_unit_test(each_broken_promise_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
