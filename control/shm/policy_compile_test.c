// SPDX-License-Identifier: Apache-2.0
#include "control/shm/policy.h"
#include "control/shm/documents.h"
#include "control/shm/policy_test.h"

#include <errno.h>

/* ---- refusals: each says which document, which field, what was found and what was expected ---- */
static const struct {
	const char *json, *error;
} wrong[] = {
	{"", "documents: line 1: found what is not JSON (input length is 0), expected an object"},
	{"{\n\n'x'", "documents: line 3: found what is not JSON (unexpected end of data), expected an "
		     "object"},
	{"[]", "documents: found a list, expected an object"},
	{"{'profile': []}", "documents: found unknown field 'profile', expected profiles, in_rules, "
			    "out_rules, routes or ca_pem"},
	{"{'routes': [], 'routes': []}", "documents: found 'routes' twice, expected it once"},
	{"{'routes': {}}", "routes: found an object, expected a list"},
	{"{'ca_pem': 1}", "ca_pem: found 1, expected PEM texts"},
	{"{'profiles': [1]}", "profile '#1': document: found 1, expected an object"},
	{"{'profiles': [{}]}", "profile '#1': id: found nothing, expected a value (The profile's name in "
			       "rules and records.)"},
	{"{'profiles': [{'id': 'a b'}]}",
		"profile 'a b': id: found 'a b', expected 1 to 63 letters, digits, '.', '_' or '-', the "
		"first a letter or digit"},
	{"{'profiles': [{'id': 'a'}, {'id': ''}]}",
		"profile '#2': id: found '', expected 1 to 63 letters, digits, '.', '_' or '-', the first "
		"a letter or digit"},
	{"{'profiles': [{'id': 'p', 'level': 'strong'}]}",
		"profile 'p': level: found 'strong', expected none, may, encrypt, verify or secure"},
	{"{'profiles': [{'id': 'p', 'level': null}]}",
		"profile 'p': level: found null, expected none, may, encrypt, verify or secure"},
	{"{'profiles': [{'id': 'p', 'levle': 'may'}]}",
		"profile 'p': found unknown field 'levle', expected a field of a profile (did you mean "
		"'level'?)"},
	{"{'profiles': [{'id': 'p', 'colour': 'red'}]}",
		"profile 'p': found unknown field 'colour', expected a field of a profile, which 'colour' "
		"is not"},
	{"{'profiles': [{'id': 'p', 'id\\u0000x': 1}]}",
		"profile 'p': found unknown field '?', expected a field of a profile, which '?' is not"},
	{"{'profiles': [{'id': 'p', 'protocol': 'TLSv1.2'}]}",
		"profile 'p': protocol: found 'TLSv1.2', expected an object"},
	{"{'profiles': [{'id': 'p', 'protocol': {'lowest': 'SSLv3'}}]}",
		"profile 'p': protocol.lowest: found 'SSLv3', expected TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"},
	{"{'profiles': [{'id': 'p', 'protocol': {'highest': 'x'}}]}",
		"profile 'p': protocol.highest: found 'x', expected '', TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"},
	{"{'profiles': [{'id': 'p', 'protocol': {'lower': 'TLSv1.2'}}]}",
		"profile 'p': found unknown field 'lower', expected a field of a profile (did you mean "
		"'protocol.lowest'?)"},
	{"{'profiles': [{'id': 'p', 'protocol': {'lowest': 'TLSv1.3', 'highest': 'TLSv1.2'}}]}",
		"profile 'p': protocol: found highest below lowest, expected lowest at most highest"},
	{"{'profiles': [{'id': 'p', 'bits': -1}]}",
		"profile 'p': bits: found -1, expected a whole number from 0 to 256"},
	{"{'profiles': [{'id': 'p', 'ca_pem': null}]}",
		"profile 'p': ca_pem: found null, expected a text of at most 1048576 bytes"},
	{"{'profiles': [{'id': 'p', 'bits': 1.5}]}",
		"profile 'p': bits: found 1.5, expected a whole number from 0 to 256"},
	{"{'profiles': [{'id': 'p', 'bits': '128'}]}",
		"profile 'p': bits: found '128', expected a whole number from 0 to 256"},
	{"{'profiles': [{'id': 'p', 'bits': 1, 'bits': 1}]}",
		"profile 'p': bits: found it twice, expected it once"},
	{"{'profiles': [{'id': 'p', 'groups': 'X25519 P-256'}]}",
		"profile 'p': groups: found 'X25519 P-256', expected names of groups separated by colons"},
	{"{'profiles': [{'id': 'p', 'names': 'x'}]}",
		"profile 'p': names: found 'x', expected a list of at most 32 names"},
	{"{'profiles': [{'id': 'p', 'names': ['*.example.test']}]}",
		"profile 'p': names: found '*.example.test', expected a host name or '.example.test' for "
		"those below"},
	{"{'profiles': [{'id': 'p', 'names': ['']}]}",
		"profile 'p': names: found '', expected a host name or '.example.test' for those below"},
	{"{'profiles': [{'id': 'p'}, {'id': 'p'}]}", "profile 'p': id: found it twice, expected each id "
						     "once"},
	{"{'in_rules': [{'id': 'default'}]}", "in_rule 'default': id: found 'default', expected another "
					      "name: this is the built-in last rule's"},
	{"{'in_rules': [{'id': 'r', 'enabled': 'yes'}]}",
		"in_rule 'r': enabled: found 'yes', expected true or false"},
	{"{'in_rules': [{'id': 'r', 'client': '192.0.2.1/24'}]}",
		"in_rule 'r': client: found '192.0.2.1/24', expected an address or prefix without host "
		"bits, as 192.0.2.0/24 or 2001:db8::/32"},
	{"{'in_rules': [{'id': 'r', 'enabled': false, 'client': 'x'}]}",
		"in_rule 'r': client: found 'x', expected an address or prefix without host bits, as "
		"192.0.2.0/24 or 2001:db8::/32"},
	{"{'in_rules': [{'id': 'r', 'sender': 'example.test'}]}",
		"in_rule 'r': sender: found 'example.test', expected an address, '@example.test', "
		"'.example.test' or '<>'"},
	{"{'in_rules': [{'id': 'r', 'recipient': '<>'}]}",
		"in_rule 'r': recipient: found '<>', expected an address, '@example.test' or "
		"'.example.test'"},
	{"{'in_rules': [{'id': 'r', 'recipient': 'a@.example.test'}]}",
		"in_rule 'r': recipient: found 'a@.example.test', expected an address, '@example.test' or "
		"'.example.test'"},
	{"{'in_rules': [{'id': 'r', 'client_name': 'a..b'}]}",
		"in_rule 'r': client_name: found 'a..b', expected a host name or '.example.test' for those "
		"below"},
	{"{'in_rules': [{'id': 'r', 'action': 'allow'}]}",
		"in_rule 'r': action: found 'allow', expected inbound, relay or reject"},
	{"{'in_rules': [{'id': 'r', 'profile': 'none'}]}",
		"in_rule 'r': profile: found 'none', expected the id of a profile"},
	{"{'out_rules': [{'id': 'r', 'domain': 'a@b.test'}]}",
		"out_rule 'r': domain: found 'a@b.test', expected a domain, '.example.test' for those "
		"below, '*' or an address literal"},
	{"{'out_rules': [{'id': 'r', 'domain': '[192.0.2]'}]}",
		"out_rule 'r': domain: found '[192.0.2]', expected a domain, '.example.test' for those "
		"below, '*' or an address literal"},
	{"{'out_rules': [{'id': 'r', 'mx': '-a.test'}]}",
		"out_rule 'r': mx: found '-a.test', expected a host name, '.example.test' for those below, "
		"or an address"},
	{"{'out_rules': [{'id': 'r', 'destination': '2001:db8::1/64'}]}",
		"out_rule 'r': destination: found '2001:db8::1/64', expected an address or prefix without "
		"host bits, as 192.0.2.0/24 or 2001:db8::/32"},
	{"{'routes': [{'id': 'r'}]}",
		"route 'r': domain: found nothing, expected a value (The recipient's domain, "
		"\".example.test\" for domains below, or \"*\" for all; the longest that fits counts.)"},
	{"{'routes': [{'id': 'r', 'domain': ''}]}",
		"route 'r': domain: found '', expected a domain, '.example.test' for those below, or '*' "
		"for all"},
	{"{'routes': [{'id': 'a', 'domain': 'X.test'}, {'id': 'b', 'domain': 'x.test.'}]}",
		"route 'b': domain: found 'x.test.', expected another than route 'a' has"},
	{"{'routes': [{'id': 'r', 'domain': '*', 'via': 'hosts'}]}",
		"route 'r': hosts: found none, expected at least one with via 'hosts'"},
	{"{'routes': [{'id': 'r', 'domain': '*', 'hosts': [{'host': 'x.test'}]}]}",
		"route 'r': hosts: found hosts, expected none with via 'mx' (via 'hosts' sends to them)"},
	{"{'routes': [{'id': 'r', 'domain': '*', 'mx_port': 0}]}",
		"route 'r': mx_port: found 0, expected a whole number from 1 to 65535"},
	{"{'routes': [{'id': 'r', 'domain': '*', 'via': 'hosts', 'hosts': [{'host': 'x.test'}, "
	 "{'port': 25}]}]}",
		"route 'r': hosts[1].host: found nothing, expected a value (A name or an address.)"},
	{"{'routes': [{'id': 'r', 'domain': '*', 'via': 'hosts', 'hosts': [{'host': 'x.test', "
	 "'prot': 25}]}]}",
		"route 'r': hosts[0]: found unknown field 'prot', expected a field of a host (did you mean "
		"'port'?)"},
	{"{'routes': [{'id': 'r', 'domain': '*', 'via': 'hosts', 'hosts': ['x.test']}]}",
		"route 'r': hosts[0]: found 'x.test', expected an object"},
	{"{'routes': [{'id': 'r', 'domain': '*', 'via': 'hosts', 'hosts': [{'host': 'a b'}]}]}",
		"route 'r': hosts[0].host: found 'a b', expected a host name or an address"},
	{"{'routes': [{'id': 'r', 'domain': '%n\\u0001\\u001b'}]}",
		"route 'r': domain: found '%n?\?', expected a domain, '.example.test' for those below, '*' "
		"or an address literal"},
};

static void what_is_wrong_is_refused_by_name(void **state)
{
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char json[16384], error[512];
		int policy_fd, keys_fd;
		assert_int_equal(policy_compile(test_json(wrong[i].json, json), NULL, 0, 1, &policy_fd,
					 &keys_fd, error),
			-EINVAL);
		assert_string_equal(error, wrong[i].error);
	}
}

static void a_long_value_is_cut_between_characters(void **state)
{
	char json[1024] = "{'profiles': [{'id': 'p', 'level': '", error[512], quoted[16384];
	int policy_fd, keys_fd;
	for (size_t i = 0; i < 100; i++)
		strcat(json, "\xc3\xbc");
	strcat(json, "'}]}");
	assert_int_equal(
		policy_compile(test_json(json, quoted), NULL, 0, 1, &policy_fd, &keys_fd, error), -EINVAL);
	assert_non_null(strstr(error, "\xc3\xbc…', expected none"));
}

/* ---- what comes out ---- */
static void every_field_of_a_profile_arrives(void **state)
{
	struct policy *policy = test_policy(
		"{'profiles': [{'id': 'p', 'level': 'verify', 'grade': 'modern',"
		" 'protocol': {'lowest': 'TLSv1.1', 'highest': 'TLSv1.3'}, 'bits': 128,"
		" 'groups': 'X25519:P-256', 'names': ['MX.example.test', '.b\xc3\xbc" "cher.test'],"
		" 'client_cert': 'require', 'fallback': 'defer', 'remember': 60,"
		" 'on_failure': 'permanent'}]}");
	size_t count;
	const struct tls_profile *p = policy_profiles(policy, &count);
	assert_int_equal(count, 3);
	assert_string_equal(p->id, "p");
	assert_int_equal(p->index, 0);
	assert_int_equal(p->level, TLS_LEVEL_VERIFY);
	assert_int_equal(p->grade, TLS_GRADE_MODERN);
	assert_int_equal(p->protocol_lowest, TLS_1_1);
	assert_int_equal(p->protocol_highest, TLS_1_3);
	assert_int_equal(p->bits_least, 128);
	assert_string_equal(p->groups, "X25519:P-256");
	assert_memory_equal(p->names, "mx.example.test\0.xn--bcher-kva.test\0", 37);
	assert_int_equal(p->client_cert, TLS_CLIENT_CERT_REQUIRE);
	assert_int_equal(p->fallback, TLS_FALLBACK_DEFER);
	assert_int_equal(p->remember_seconds, 60);
	assert_int_equal(p->on_failure, TLS_FAIL_PERMANENT);
	assert_string_equal(p[1].id, "default-in");
	assert_string_equal(p[2].id, "default-out");
	assert_int_equal(p[2].index, 2);
	policy_unmap(policy);
}

static bool has_ca(const struct policy *policy, size_t profile, const char *pem)
{
	return bytes_equal(policy_profile_ca_pem(policy, profile), text(pem));
}

static void a_profile_has_its_own_ca_set_or_none(void **state)
{
	struct policy *policy = test_policy(
		"{'profiles': [{'id': 'a', 'ca_pem': 'one'}, {'id': 'b'}, {'id': 'c', 'ca_pem': ''},"
		" {'id': 'd', 'ca_pem': 'other'}, {'id': 'e', 'ca_pem': 'one'},"
		" {'id': 'default-out', 'ca_pem': 'more'}], 'ca_pem': 'one'}");
	static const char *const wanted[] = {"one", "", "", "other", "one", "more", ""};
	size_t count;
	assert_string_equal(policy_profiles(policy, &count)[6].id, "default-in");
	assert_int_equal(count, 7);
	for (size_t i = 0; i < count; i++)
		assert_true(has_ca(policy, i, wanted[i]));
	/* One text for all who have the same. */
	const uint8_t *one = policy_profile_ca_pem(policy, 0).at;
	assert_ptr_equal(policy_profile_ca_pem(policy, 4).at, one);
	assert_ptr_equal(policy_ca_pem(policy).at, one);
	policy_unmap(policy);
}

static void the_words_of_the_documents_are_those_of_the_profile(void **state)
{
	size_t count;
	const struct documents_field *f = documents_fields(DOC_PROFILE, &count);
	char levels[64] = "", grades[64] = "";
	for (enum tls_level i = TLS_LEVEL_NONE; i <= TLS_LEVEL_SECURE; i++)
		sprintf(levels + strlen(levels), "%s%s", i == 0 ? "" : " ", tls_level_name(i));
	for (enum tls_grade i = TLS_GRADE_MEDIUM; i <= TLS_GRADE_MODERN; i++)
		sprintf(grades + strlen(grades), "%s%s", i == 0 ? "" : " ", tls_grade_name(i));
	assert_string_equal(f[1].name, "level");
	assert_string_equal(f[1].choices, levels);
	assert_string_equal(f[2].name, "grade");
	assert_string_equal(f[2].choices, grades);
}

static void above_may_clear_text_is_no_fallback(void **state)
{
	struct policy *policy = test_policy("{'profiles': [{'id': 'a', 'level': 'may'},"
					    " {'id': 'b', 'level': 'encrypt', 'fallback': 'clear'}]}");
	size_t count;
	const struct tls_profile *p = policy_profiles(policy, &count);
	assert_int_equal(p[0].fallback, TLS_FALLBACK_CLEAR);
	assert_int_equal(p[1].fallback, TLS_FALLBACK_NEXT_HOST);
	policy_unmap(policy);
}

static void a_default_profile_can_be_written_over(void **state)
{
	struct policy_client client = {text("smtp"), {}, BYTES_NONE};
	struct policy_in in;
	size_t count;
	struct policy *policy =
		test_policy("{'profiles': [{'id': 'default-in', 'level': 'encrypt'}]}");
	policy_resolve_connect(policy, &client, &in);
	assert_string_equal(in.rule_id, "default");
	assert_int_equal(in.profile.level, TLS_LEVEL_ENCRYPT);
	policy_profiles(policy, &count);
	assert_int_equal(count, 2);
	policy_unmap(policy);
}

static void a_rule_that_is_off_leaves_the_others_in_order(void **state)
{
	struct policy_client client = {text("smtp"), {}, BYTES_NONE};
	struct policy_in in;
	struct policy *policy = test_policy("{'in_rules': ["
		"{'id': 'a', 'enabled': false, 'listener': 'x', 'sender': '@x.test'},"
		"{'id': 'b', 'listener': 'y', 'action': 'relay'},"
		"{'id': 'c', 'enabled': false, 'action': 'reject'}]}");
	policy_resolve_connect(policy, &client, &in);
	assert_string_equal(in.rule_id, "default");
	client.listener = text("y");
	policy_resolve_connect(policy, &client, &in);
	assert_string_equal(in.rule_id, "b");
	assert_false(policy_resolve_mail(policy, &client, text("a@x.test"), BYTES_NONE, &in));
	policy_unmap(policy);
}

static void the_default_certificate_comes_first(void **state)
{
	static const struct policy_cert certs[] = {
		{"a", BYTES_LITERAL("chain a"), BYTES_LITERAL("key a"), false},
		{"b", BYTES_LITERAL("chain b"), BYTES_LITERAL("key b"), false},
		{"c", BYTES_LITERAL("chain c"), BYTES_LITERAL("key c"), true},
		{"d", BYTES_LITERAL("chain d"), BYTES_LITERAL("key d"), false},
	};
	static const char *const order[] = {"c", "a", "b", "d"};
	char error[512], wanted[16];
	int policy_fd, keys_fd;
	struct policy *with_keys, *without;
	struct bytes id, chain, key;
	assert_int_equal(policy_compile(BYTES_LITERAL("{\"ca_pem\": \"roots\"}"), certs, 4, 77,
				 &policy_fd, &keys_fd, error),
		0);
	assert_int_equal(policy_map(policy_fd, keys_fd, &with_keys), 0);
	assert_int_equal(policy_map(policy_fd, -1, &without), 0);
	assert_int_equal(policy_generation(without), 77);
	assert_true(bytes_equal(policy_ca_pem(without), BYTES_LITERAL("roots")));
	assert_int_equal(policy_cert_count(without), 4);
	for (size_t i = 0; i < 4; i++) {
		policy_cert(without, i, &id, &chain, &key);
		assert_int_equal(key.n, 0);
		policy_cert(with_keys, i, &id, &chain, &key);
		assert_true(bytes_equal(id, text(order[i])));
		snprintf(wanted, sizeof wanted, "chain %s", order[i]);
		assert_true(bytes_equal(chain, text(wanted)));
		snprintf(wanted, sizeof wanted, "key %s", order[i]);
		assert_true(bytes_equal(key, text(wanted)));
		assert_int_equal(key.at[key.n], '\0');
	}
	policy_unmap(with_keys);
	policy_unmap(without);
	close(policy_fd);
	close(keys_fd);
}

static void a_certificate_without_key_or_chain_is_refused(void **state)
{
	static const struct {
		struct policy_cert cert;
		const char *error;
	} cases[] = {
		{{"a", BYTES_LITERAL("x"), {NULL, 0}, false},
			"certificate 'a': expected a key as PEM text, 1 MiB at most"},
		{{"a", {NULL, 0}, BYTES_LITERAL("x"), false},
			"certificate 'a': expected a chain of PEM texts, 1 MiB at most"},
		{{"", BYTES_LITERAL("x"), BYTES_LITERAL("x"), false},
			"certificate '': expected an id of 1 to 63 bytes"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char error[512];
		int policy_fd, keys_fd;
		assert_int_equal(policy_compile(BYTES_LITERAL("{}"), &cases[i].cert, 1, 1, &policy_fd,
					 &keys_fd, error),
			-EINVAL);
		assert_string_equal(error, cases[i].error);
	}
}

static void thousands_of_rules_compile(void **state)
{
	size_t n = 0, room = 2 << 20;
	char *json = malloc(room), error[512];
	int policy_fd, keys_fd;
	struct policy *policy;
	struct policy_route route;
	assert_non_null(json);
	n += (size_t)snprintf(json, room, "{\"routes\": [");
	for (int i = 0; i < 5000; i++)
		n += (size_t)snprintf(json + n, room - n, "%s{\"id\": \"r%d\", \"domain\": \"d%d.test\"}",
			i == 0 ? "" : ",", i, i);
	n += (size_t)snprintf(json + n, room - n, "], \"in_rules\": [");
	for (int i = 0; i < 5000; i++)
		n += (size_t)snprintf(json + n, room - n, "%s{\"id\": \"r%d\", \"listener\": \"l%d\"}",
			i == 0 ? "" : ",", i, i);
	n += (size_t)snprintf(json + n, room - n, "]}");
	assert_int_equal(
		policy_compile(bytes_of(json, n), NULL, 0, 1, &policy_fd, &keys_fd, error), 0);
	assert_int_equal(policy_map(policy_fd, keys_fd, &policy), 0);
	for (int i = 0; i < 5000; i++) {
		char domain[32], id[32];
		snprintf(domain, sizeof domain, "D%d.test", i);
		snprintf(id, sizeof id, "r%d", i);
		assert_true(policy_find_route(policy, text(domain), &route));
		assert_string_equal(route.id, id);
	}
	struct policy_client client = {text("l4999"), {}, BYTES_NONE};
	struct policy_in in;
	policy_resolve_connect(policy, &client, &in);
	assert_string_equal(in.rule_id, "r4999");
	policy_unmap(policy);
	close(policy_fd);
	close(keys_fd);
	free(json);
}

static void the_reference_is_up_to_date(void **state)
{
	char path[512], *wanted = NULL, *there = calloc(1, 1 << 20);
	const char *source = getenv("HIKYAKU_SOURCE");
	size_t n;
	snprintf(path, sizeof path, "%s/docs/documents.md", source == NULL ? "." : source);
	FILE *to = open_memstream(&wanted, &n), *f = fopen(path, "re");
	if (f == NULL)
		fail_msg("%s is missing", path);
	documents_print_reference(to);
	fclose(to);
	assert_true(fread(there, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	if (strcmp(there, wanted) != 0)
		fail_msg("docs/documents.md is behind control/shm/documents.def: "
			 "hikyaku-documents-print > docs/documents.md");
	free(there);
	free(wanted);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_wrong_is_refused_by_name),
		cmocka_unit_test(a_long_value_is_cut_between_characters),
		cmocka_unit_test(every_field_of_a_profile_arrives),
		cmocka_unit_test(a_profile_has_its_own_ca_set_or_none),
		cmocka_unit_test(the_words_of_the_documents_are_those_of_the_profile),
		cmocka_unit_test(above_may_clear_text_is_no_fallback),
		cmocka_unit_test(a_default_profile_can_be_written_over),
		cmocka_unit_test(a_rule_that_is_off_leaves_the_others_in_order),
		cmocka_unit_test(the_default_certificate_comes_first),
		cmocka_unit_test(a_certificate_without_key_or_chain_is_refused),
		cmocka_unit_test(thousands_of_rules_compile),
		cmocka_unit_test(the_reference_is_up_to_date),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
