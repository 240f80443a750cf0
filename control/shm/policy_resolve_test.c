// SPDX-License-Identifier: Apache-2.0
#include "control/shm/policy.h"
#include "control/shm/policy_test.h"

/* ---- the connect stage ---- */
static const char in_documents[] =
	"{'profiles': [{'id': 'strict', 'level': 'encrypt'}, {'id': 'clear', 'level': 'none'}],"
	" 'in_rules': ["
	"  {'id': 'off', 'enabled': false, 'action': 'reject'},"
	"  {'id': 'bad-net', 'client': '198.51.100.0/24', 'action': 'reject'},"
	"  {'id': 'submit', 'listener': 'submission', 'client': '192.0.2.0/24', 'action': 'relay',"
	"   'profile': 'strict'},"
	"  {'id': 'customers', 'client': '192.0.2.0/24', 'action': 'relay', 'normalise_bare_lf': true},"
	"  {'id': 'one6', 'client': '2001:db8::25', 'profile': 'clear'},"
	"  {'id': 'named', 'client_name': '.dyn.example.test', 'action': 'reject'},"
	"  {'id': 'named-exactly', 'client_name': 'mx.example.test', 'action': 'relay'},"
	"  {'id': 'boss', 'sender': 'Boss@Example.Test', 'profile': 'strict'},"
	"  {'id': 'pair', 'sender': '@a.example.test', 'recipient': '@b.example.test',"
	"   'action': 'relay'},"
	"  {'id': 'below', 'sender': '.sub.example.test', 'action': 'reject'},"
	"  {'id': 'at-below', 'sender': '@.other.example.test', 'action': 'reject'},"
	"  {'id': 'bounces', 'sender': '<>', 'client': '203.0.113.0/24', 'action': 'relay'},"
	"  {'id': 'master', 'recipient': 'postmaster', 'action': 'inbound'},"
	"  {'id': 'literal', 'recipient': '@[IPv6:2001:0DB8::0:1]', 'action': 'reject'},"
	"  {'id': 'idn', 'recipient': '@b\xc3\xbc" "cher.example.test', 'action': 'relay'},"
	"  {'id': 'all6', 'client': '::/0', 'action': 'relay'}]}";

static void the_first_rule_that_matches_a_client_counts(void **state)
{
	static const struct {
		const char *listener, *addr, *name, *rule;
		enum policy_action action;
		const char *profile;
	} cases[] = {
		{"smtp", "198.51.100.7", "", "bad-net", POLICY_REJECT, "default-in"},
		{"smtp", "198.51.101.7", "", "default", POLICY_INBOUND, "default-in"},
		{"smtp", "192.0.2.1", "", "customers", POLICY_RELAY, "default-in"},
		{"submission", "192.0.2.1", "", "submit", POLICY_RELAY, "strict"},
		{"submission", "203.0.113.1", "", "default", POLICY_INBOUND, "default-in"},
		{"Submission", "192.0.2.1", "", "customers", POLICY_RELAY, "default-in"},
		{"smtp", "2001:db8::25", "", "one6", POLICY_INBOUND, "clear"},
		{"smtp", "2001:db8::26", "", "all6", POLICY_RELAY, "default-in"},
		{"smtp", "203.0.113.1", "a.DYN.example.test", "named", POLICY_REJECT, "default-in"},
		{"smtp", "203.0.113.1", "a.dyn.example.test.", "named", POLICY_REJECT, "default-in"},
		{"smtp", "203.0.113.1", "dyn.example.test", "default", POLICY_INBOUND, "default-in"},
		{"smtp", "203.0.113.1", "adyn.example.test", "default", POLICY_INBOUND, "default-in"},
		{"smtp", "203.0.113.1", "MX.example.test", "named-exactly", POLICY_RELAY, "default-in"},
	};
	struct policy *policy = test_policy(in_documents);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct policy_client client = {text(cases[i].listener), {}, text(cases[i].name)};
		struct policy_in in;
		assert_true(addr_parse(cases[i].addr, &client.addr));
		policy_resolve_connect(policy, &client, &in);
		assert_string_equal(in.rule_id, cases[i].rule);
		assert_int_equal(in.action, cases[i].action);
		assert_string_equal(in.profile.id, cases[i].profile);
		assert_int_equal(in.normalises_bare_lf, strcmp(cases[i].rule, "customers") == 0);
		struct policy_look look = {.differs = POLICY_CLIENT};
		for (uint32_t at = 0; policy_explain_connect(policy, &client, &at, &look);)
			;
		assert_string_equal(look.rule_id, cases[i].rule);
		assert_int_equal(look.differs, POLICY_MATCHES);
	}
	policy_unmap(policy);
}

/* ---- the mail stage ---- */
static void the_first_rule_that_matches_a_mail_counts(void **state)
{
	static const struct {
		const char *addr, *sender, *recipient, *rule; /* NULL: none */
	} cases[] = {
		{"203.0.113.1", "boss@example.test", "", "boss"},
		{"203.0.113.1", "BOSS@EXAMPLE.TEST", "x@y.example.test", "boss"},
		{"203.0.113.1", "boss@example.test.", "", "boss"},
		{"203.0.113.1", "bossy@example.test", "", NULL},
		{"203.0.113.1", "boss@sub.example.tes", "", NULL},
		{"203.0.113.1", "x@a.example.test", "", NULL},
		{"203.0.113.1", "x@a.example.test", "y@b.example.test", "pair"},
		{"203.0.113.1", "x@a.example.test", "y@a.example.test", NULL},
		{"203.0.113.1", "x@q.sub.example.test", "", "below"},
		{"203.0.113.1", "x@sub.example.test", "", NULL},
		{"203.0.113.1", "x@q.other.example.test", "", "at-below"},
		{"203.0.113.1", "\"x@sub\"@q.sub.example.test", "", "below"},
		{"203.0.113.1", "", "", "bounces"},
		{"192.0.2.1", "", "", NULL},
		{"203.0.113.1", "x@example.test", "postmaster", "master"},
		{"203.0.113.1", "x@example.test", "Postmaster", "master"},
		{"203.0.113.1", "x@example.test", "postmaster@example.test", NULL},
		{"203.0.113.1", "x@example.test", "y@[IPv6:2001:db8::1]", "literal"},
		{"203.0.113.1", "x@example.test", "y@[ipv6:2001:DB8:0::1]", "literal"},
		{"203.0.113.1", "x@example.test", "y@[IPv6:2001:db8::2]", NULL},
		{"203.0.113.1", "x@example.test", "y@xn--bcher-kva.example.test", "idn"},
		{"203.0.113.1", "x@example.test", "y@XN--BCHER-KVA.example.test", "idn"},
		{"203.0.113.1", "x@example.test", "y@b\xc3\xbc" "cher.example.test", "idn"},
		{"203.0.113.1", "@", "@", NULL},
		{"203.0.113.1", "x@", "%s%n!@", NULL},
	};
	struct policy *policy = test_policy(in_documents);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct policy_client client = {text("smtp"), {}, BYTES_NONE};
		struct policy_in in;
		assert_true(addr_parse(cases[i].addr, &client.addr));
		bool found = policy_resolve_mail(policy, &client, text(cases[i].sender),
			text(cases[i].recipient), &in);
		if (cases[i].rule == NULL && found)
			fail_msg("case %zu: found %s", i, in.rule_id);
		assert_int_equal(found, cases[i].rule != NULL);
		if (found)
			assert_string_equal(in.rule_id, cases[i].rule);
	}
	policy_unmap(policy);
}

/* ---- outbound ---- */
static const char out_documents[] =
	"{'profiles': [{'id': 'p1', 'level': 'encrypt'}, {'id': 'p2', 'level': 'secure'}],"
	" 'out_rules': ["
	"  {'id': 'off', 'enabled': false, 'profile': 'p2'},"
	"  {'id': 'sender', 'sender': '@bank.example.test', 'profile': 'p2'},"
	"  {'id': 'bounce', 'sender': '<>', 'domain': 'quiet.example.test'},"
	"  {'id': 'mx', 'domain': '*', 'mx': '.big.example.test', 'profile': 'p1'},"
	"  {'id': 'net', 'destination': '192.0.2.0/25', 'profile': 'p1'},"
	"  {'id': 'exact', 'domain': 'Example.test.', 'profile': 'p2'},"
	"  {'id': 'suffix', 'domain': '.example.test', 'profile': 'p1'},"
	"  {'id': 'literal', 'domain': '[192.0.2.200]', 'profile': 'p1'}]}";

static void the_first_rule_that_matches_a_delivery_counts(void **state)
{
	static const struct {
		const char *sender, *domain, *mx, *addr, *rule, *profile;
	} cases[] = {
		{"a@example.test", "nowhere.test", "", NULL, "default", "default-out"},
		{"a@bank.example.test", "nowhere.test", "", NULL, "sender", "p2"},
		{"", "quiet.example.test", "", NULL, "bounce", "default-out"},
		{"a@x.test", "quiet.example.test", "", NULL, "suffix", "p1"},
		{"a@x.test", "EXAMPLE.test", "", NULL, "exact", "p2"},
		{"a@x.test", "a.b.example.test", "", NULL, "suffix", "p1"},
		{"a@x.test", "notexample.test", "", NULL, "default", "default-out"},
		{"a@x.test", "example.test", "in.big.example.test", NULL, "mx", "p1"},
		{"a@x.test", "example.test", "in.big.example.test.", NULL, "mx", "p1"},
		{"a@x.test", "example.test", "mx.example.test", "192.0.2.127", "net", "p1"},
		{"a@x.test", "example.test", "mx.example.test", "192.0.2.128", "exact", "p2"},
		{"a@x.test", "[192.0.2.200]", "", NULL, "literal", "p1"},
		{"a@x.test", "[192.0.2.20]", "", NULL, "default", "default-out"},
	};
	struct policy *policy = test_policy(out_documents);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct policy_out out;
		struct addr addr;
		if (cases[i].addr != NULL)
			assert_true(addr_parse(cases[i].addr, &addr));
		policy_resolve_out(policy, text(cases[i].sender), text(cases[i].domain),
			text(cases[i].mx), cases[i].addr == NULL ? NULL : &addr, &out);
		assert_string_equal(out.rule_id, cases[i].rule);
		assert_string_equal(out.profile.id, cases[i].profile);
		struct policy_look look = {.differs = POLICY_MX};
		for (uint32_t at = 0; policy_explain_out(policy, text(cases[i].sender),
			     text(cases[i].domain), text(cases[i].mx),
			     cases[i].addr == NULL ? NULL : &addr, &at, &look);)
			;
		assert_string_equal(look.rule_id, cases[i].rule);
		assert_int_equal(look.differs, POLICY_MATCHES);
	}
	policy_unmap(policy);
}

static void the_stricter_has_the_higher_level_then_grade_then_floor_then_bits(void **state)
{
	/* In order of strictness. */
	static const struct tls_profile order[] = {
		{.level = TLS_LEVEL_NONE, .grade = TLS_GRADE_MODERN, .protocol_lowest = TLS_1_3},
		{.level = TLS_LEVEL_MAY, .grade = TLS_GRADE_MEDIUM, .protocol_lowest = TLS_1_3,
			.bits_least = 256},
		{.level = TLS_LEVEL_MAY, .grade = TLS_GRADE_HIGH, .protocol_lowest = TLS_1_2},
		{.level = TLS_LEVEL_ENCRYPT, .protocol_lowest = TLS_1_0, .bits_least = 256},
		{.level = TLS_LEVEL_ENCRYPT, .protocol_lowest = TLS_1_2},
		{.level = TLS_LEVEL_ENCRYPT, .protocol_lowest = TLS_1_2, .bits_least = 128},
		{.level = TLS_LEVEL_VERIFY, .protocol_lowest = TLS_1_0},
		{.level = TLS_LEVEL_SECURE, .protocol_lowest = TLS_1_0},
	};
	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		for (size_t j = 0; j < sizeof order / sizeof *order; j++) {
			struct policy_out a = {.profile = order[i]}, b = {.profile = order[j]};
			assert_ptr_equal(policy_stricter(&a, &b), i >= j ? &a : &b);
		}
}

static void a_clients_name_is_wanted_where_a_rule_for_it_asks(void **state)
{
	static const struct {
		const char *rules, *listener, *client;
		bool is_wanted;
	} cases[] = {
		{"", "a", "192.0.2.1", false},
		{"{'id': 'x', 'client': '192.0.2.0/24'}", "a", "192.0.2.1", false},
		{"{'id': 'x', 'client_name': '.x.test'}", "a", "192.0.2.1", true},
		{"{'id': 'x', 'client_name': '.x.test', 'enabled': false}", "a", "192.0.2.1", false},
		{"{'id': 'x', 'client_name': '.x.test', 'listener': 'b'}", "a", "192.0.2.1", false},
		{"{'id': 'x', 'client_name': '.x.test', 'client': '198.51.100.0/24'}", "a", "192.0.2.1", false},
		{"{'id': 'x', 'client_name': '.x.test', 'client': '192.0.2.0/24'}", "a", "192.0.2.1", true},
		{"{'id': 'y'}, {'id': 'x', 'client_name': 'x.test', 'sender': '<>'}", "a", "192.0.2.1", true},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char documents[256];
		struct policy_client client = {text(cases[i].listener), {}, BYTES_NONE};
		addr_parse(cases[i].client, &client.addr);
		snprintf(documents, sizeof documents, "{'in_rules': [%s]}", cases[i].rules);
		struct policy *policy = test_policy(documents);
		assert_int_equal(policy_wants_client_name(policy, &client), cases[i].is_wanted);
		policy_unmap(policy);
	}
}

/* ---- routes ---- */
static const char route_documents[] =
	"{'routes': ["
	"  {'id': 'exact', 'domain': 'Example.test', 'inbound': true, 'via': 'hosts', 'hosts': ["
	"   {'host': 'mx.example.test'}, {'host': '192.0.2.9', 'port': 2525},"
	"   {'host': 'b\xc3\xbc" "cher.example.test', 'tls': 'smtps'}]},"
	"  {'id': 'below', 'domain': '.example.test', 'mx_port': 26},"
	"  {'id': 'deeper', 'domain': '.a.example.test'},"
	"  {'id': 'literal', 'domain': '[192.0.2.1]'},"
	"  {'id': 'idn', 'domain': 'xn--bcher-kva.test'},"
	"  {'id': 'all', 'domain': '*'}]}";

static void the_longest_domain_of_a_route_counts(void **state)
{
	static const struct {
		const char *domain, *route;
	} cases[] = {
		{"example.test", "exact"},
		{"EXAMPLE.TEST.", "exact"},
		{"x.example.test", "below"},
		{"a.example.test", "below"},
		{"x.A.example.test", "deeper"},
		{"x.y.a.example.test", "deeper"},
		{"notexample.test", "all"},
		{".example.test", "all"},
		{"*", "all"},
		{"[192.0.2.1]", "literal"},
		{"[192.0.2.2]", "all"},
		{"[x.example.test]", "all"},
		{"xn--bcher-kva.test", "idn"},
		{"b\xc3\xbc" "cher.test", "idn"},
		{".", "all"},
	};
	struct policy *policy = test_policy(route_documents);
	struct policy_route route;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_true(policy_find_route(policy, text(cases[i].domain), &route));
		assert_string_equal(route.id, cases[i].route);
	}
	assert_false(policy_find_route(policy, BYTES_NONE, &route));
	policy_unmap(policy);
}

static void a_route_that_is_off_is_not_there(void **state)
{
	struct policy *policy =
		test_policy("{'routes': [{'id': 'a', 'domain': 'a.test', 'enabled': false},"
			    " {'id': 'b', 'domain': 'A.test', 'mx_port': 26},"
			    " {'id': 'c', 'domain': '.test', 'enabled': false},"
			    " {'id': 'd', 'domain': 'b\u00fccher.test', 'enabled': false}]}");
	struct policy_route route;
	assert_true(policy_find_route(policy, text("a.test"), &route));
	assert_string_equal(route.id, "b");
	assert_int_equal(route.mx_port, 26);
	assert_false(policy_find_route(policy, text("b.test"), &route));
	assert_false(policy_find_route(policy, text("xn--bcher-kva.test"), &route));
	policy_unmap(policy);
}

/* What is said of a route that is off is what would be found if it were on. */
static void a_route_fits_the_domains_by_which_it_would_be_found(void **state)
{
	static const char *const domains[] = {"a.test", "A.Test.", "b.a.test", "xa.test", "test",
		".a.test", "[192.0.2.1]", "[IPv6:2001:DB8::1]", "xn--bcher-kva.test",
		"b\u00fccher.test", "x.xn--bcher-kva.test", "*", "."};
	static const char *const routes[] = {"a.test", ".a.test", ".test", "*", "[192.0.2.1]",
		"[IPv6:2001:db8:0::1]", "b\u00fccher.test", ".xn--bcher-kva.test"};
	for (size_t r = 0; r < sizeof routes / sizeof *routes; r++) {
		char documents[128];
		struct policy_route route;
		snprintf(documents, sizeof documents, "{'routes': [{'id': 'r', 'domain': '%s'}]}",
			routes[r]);
		struct policy *policy = test_policy(documents);
		for (size_t d = 0; d < sizeof domains / sizeof *domains; d++)
			assert_int_equal(policy_route_fits(routes[r], text(domains[d])),
				policy_find_route(policy, text(domains[d]), &route));
		policy_unmap(policy);
	}
	assert_false(policy_route_fits("", text("a.test")));
	assert_false(policy_route_fits("a b", text("a.test")));
}

static void a_route_has_its_hosts_in_order(void **state)
{
	struct policy *policy = test_policy(route_documents);
	struct policy_route route;
	assert_true(policy_find_route(policy, text("example.test"), &route));
	assert_true(route.is_inbound);
	assert_false(route.is_mx);
	assert_int_equal(route.host_count, 3);
	assert_string_equal(route.hosts[0].host, "mx.example.test");
	assert_int_equal(route.hosts[0].port, 25);
	assert_false(route.hosts[0].implicit_tls);
	assert_string_equal(route.hosts[1].host, "192.0.2.9");
	assert_int_equal(route.hosts[1].port, 2525);
	assert_string_equal(route.hosts[2].host, "xn--bcher-kva.example.test");
	assert_int_equal(route.hosts[2].port, 465);
	assert_true(route.hosts[2].implicit_tls);
	assert_true(policy_find_route(policy, text("x.example.test"), &route));
	assert_true(route.is_mx);
	assert_false(route.is_inbound);
	assert_int_equal(route.mx_port, 26);
	assert_int_equal(route.host_count, 0);
	policy_unmap(policy);
}

static void without_a_star_there_may_be_no_route(void **state)
{
	struct policy_route route;
	struct policy *policy = test_policy("{'routes': [{'id': 'r', 'domain': 'example.test'}]}");
	assert_true(policy_find_route(policy, text("example.test"), &route));
	assert_false(policy_find_route(policy, text("other.test"), &route));
	policy_unmap(policy);
}

static void without_rules_the_defaults_answer(void **state)
{
	struct policy_client client = {text("smtp"), {}, BYTES_NONE};
	struct policy_in in;
	struct policy_out out;
	struct policy_route route;
	struct policy *policy = test_policy("{}");
	policy_resolve_connect(policy, &client, &in);
	assert_string_equal(in.rule_id, "default");
	assert_int_equal(in.action, POLICY_INBOUND);
	assert_string_equal(in.profile.id, "default-in");
	assert_int_equal(in.profile.level, TLS_LEVEL_MAY);
	assert_int_equal(in.profile.grade, TLS_GRADE_MEDIUM);
	assert_int_equal(in.profile.protocol_lowest, TLS_1_2);
	assert_false(policy_resolve_mail(policy, &client, BYTES_NONE, BYTES_NONE, &in));
	policy_resolve_out(policy, BYTES_NONE, BYTES_NONE, BYTES_NONE, NULL, &out);
	assert_string_equal(out.rule_id, "default");
	assert_string_equal(out.profile.id, "default-out");
	assert_int_equal(out.profile.level, TLS_LEVEL_MAY);
	assert_int_equal(out.profile.remember_seconds, 3600);
	assert_false(policy_find_route(policy, text("example.test"), &route));
	policy_unmap(policy);
}

/* ---- why ---- */
static void an_explanation_names_the_first_criterion_that_differs(void **state)
{
	static const struct {
		const char *rule;
		enum policy_criterion differs;
		const char *wanted;
	} connect[] = {
		{"bad-net", POLICY_CLIENT, "198.51.100.0/24"},
		{"submit", POLICY_LISTENER, "submission"},
		{"customers", POLICY_CLIENT, "192.0.2.0/24"},
		{"one6", POLICY_CLIENT, "2001:db8::25/128"},
		{"named", POLICY_CLIENT_NAME, ".dyn.example.test"},
		{"named-exactly", POLICY_MATCHES, ""},
	}, mail[] = {
		{"boss", POLICY_SENDER, "boss@example.test"},
		{"pair", POLICY_SENDER, "@a.example.test"},
		{"below", POLICY_SENDER, ".sub.example.test"},
		{"at-below", POLICY_SENDER, ".other.example.test"},
		{"bounces", POLICY_CLIENT, "203.0.113.0/24"},
		{"master", POLICY_RECIPIENT, "postmaster"},
		{"literal", POLICY_RECIPIENT, "@[ipv6:2001:db8::1]"},
		{"idn", POLICY_RECIPIENT, "@b\xc3\xbc" "cher.example.test"},
	};
	struct policy *policy = test_policy(in_documents);
	struct policy_client client = {text("smtp"), {}, text("mx.example.test")};
	struct policy_look look;
	uint32_t at = 0;
	addr_parse("198.51.101.7", &client.addr);
	for (size_t i = 0; i < sizeof connect / sizeof *connect; i++) {
		assert_true(policy_explain_connect(policy, &client, &at, &look));
		assert_string_equal(look.rule_id, connect[i].rule);
		assert_int_equal(look.differs, connect[i].differs);
		assert_string_equal(look.wanted, connect[i].wanted);
	}
	assert_false(policy_explain_connect(policy, &client, &at, &look));
	at = 0;
	for (size_t i = 0; i < sizeof mail / sizeof *mail; i++) {
		assert_true(policy_explain_mail(
			policy, &client, BYTES_NONE, text("x@c.example.test"), &at, &look));
		assert_string_equal(look.rule_id, mail[i].rule);
		assert_int_equal(look.differs, mail[i].differs);
		assert_string_equal(look.wanted, mail[i].wanted);
	}
	/* No mail rule fits, and there is no default: the connect stage's stands. */
	assert_false(policy_explain_mail(policy, &client, BYTES_NONE, text("x@c.example.test"), &at, &look));
	policy_unmap(policy);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_rule_that_matches_a_client_counts),
		cmocka_unit_test(the_first_rule_that_matches_a_mail_counts),
		cmocka_unit_test(the_first_rule_that_matches_a_delivery_counts),
		cmocka_unit_test(an_explanation_names_the_first_criterion_that_differs),
		cmocka_unit_test(the_stricter_has_the_higher_level_then_grade_then_floor_then_bits),
		cmocka_unit_test(a_clients_name_is_wanted_where_a_rule_for_it_asks),
		cmocka_unit_test(the_longest_domain_of_a_route_counts),
		cmocka_unit_test(a_route_that_is_off_is_not_there),
		cmocka_unit_test(a_route_fits_the_domains_by_which_it_would_be_found),
		cmocka_unit_test(a_route_has_its_hosts_in_order),
		cmocka_unit_test(without_a_star_there_may_be_no_route),
		cmocka_unit_test(without_rules_the_defaults_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
