// SPDX-License-Identifier: Apache-2.0
#include "control/config/config_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* The least a file must say, on two lines so that what follows begins on line 3. */
#define PORTS                                                                                      \
	"dataplane:\n  ports: [{name: p0, device: net_tap0, addresses: [192.0.2.25/24, "          \
	"\"2001:db8::25/64\"]}]\n"

static struct config *load(const char *text)
{
	struct config *config = NULL;
	char error[CONFIG_ERROR_MAX];
	if (config_load_text("f.yaml", text, strlen(text), &config, error) != 0)
		fail_msg("%s", error);
	return config;
}

/* ---- what is wrong ---- */
static const struct {
	const char *text, *error;
} wrong[] = {
	/* not YAML, or not of the shape */
	{"", "f.yaml: dataplane.ports: found nothing, expected a list of 1 to 8 (The network ports)"},
	{"# nothing\n", "f.yaml: dataplane.ports: found nothing, expected a list of 1 to 8 (The network "
			"ports)"},
	{"a: [\n", "f.yaml:2: found what is not YAML (did not find expected node content), expected keys "
		   "with values"},
	{"limits:\n\trecipients: 1\n", "f.yaml:2: found what is not YAML (found character that cannot "
				       "start any token), expected blanks instead of the tab"},
	{"node:\n  hostname: \xff\n", "f.yaml:2: found what is not YAML (invalid leading UTF-8 octet), "
				      "expected keys with values"},
	{"- a\n", "f.yaml:1: found a list, expected keys with values"},
	{"hello\n", "f.yaml:1: found 'hello', expected keys with values"},
	{PORTS "---\nlimits: {}\n", "f.yaml:4: found a second document, expected one"},
	{"? [a]\n: b\n", "f.yaml:1: found a list, expected a key"},
	{PORTS "limits: 5\n", "f.yaml:3: limits: found '5', expected keys with values"},
	{PORTS "limits:\n  recipients: {a: b}\n",
		"f.yaml:4: limits.recipients: found keys with values, expected a whole number from 1 to "
		"100000 (Recipients of a mail; one more gets 452. RFC 5321 4.5.3.1.8 asks for 100 at "
		"least)"},
	/* keys */
	{PORTS "limit:\n  recipients: 5\n",
		"f.yaml:3: found unknown key 'limit', expected a known one (did you mean 'limits'?)"},
	{PORTS "limits:\n  recipient: 5\n",
		"f.yaml:4: limits: found unknown key 'recipient', expected a known one (did you mean "
		"'limits.recipients'?)"},
	{PORTS "limits:\n  lifetime: 5\n",
		"f.yaml:4: limits: found unknown key 'lifetime', expected a known one (did you mean "
		"'queue.lifetime'?)"},
	{PORTS "spool:\n  colour: red\n", "f.yaml:4: spool: found unknown key 'colour', expected one of "
					  "segment_mb, disk_mb, reload_memory_mb"},
	{PORTS "rules: []\n", "f.yaml:3: found unknown key 'rules', expected one of node, paths, "
			      "dataplane, listeners, limits, tcp, tls, timeouts, queue, spool, dns, log"},
	{PORTS "limits.recipients: 5\n",
		"f.yaml:3: found unknown key 'limits.recipients', expected one of node, paths, dataplane, "
		"listeners, limits, tcp, tls, timeouts, queue, spool, dns, log"},
	{PORTS "<<: 5\n", "f.yaml:3: found unknown key '<<', expected one of node, paths, dataplane, "
			  "listeners, limits, tcp, tls, timeouts, queue, spool, dns, log"},
	{PORTS "listeners:\n- name: a\n  prot: 25\n",
		"f.yaml:5: listeners[0]: found unknown key 'prot', expected a known one (did you mean "
		"'listeners[].port'?)"},
	{PORTS "limits:\n  recipients: 5\n  recipients: 6\n",
		"f.yaml:5: limits.recipients: found it again (first on line 4), expected it once"},
	{PORTS "limits: {received: 50}\nlimits: {}\n",
		"f.yaml:4: limits: found it again (first on line 3), expected it once"},
	/* values */
	{PORTS "limits:\n  recipients: many\n",
		"f.yaml:4: limits.recipients: found 'many', expected a whole number from 1 to 100000 "
		"(Recipients of a mail; one more gets 452. RFC 5321 4.5.3.1.8 asks for 100 at least)"},
	{PORTS "log: {journal: maybe}\n",
		"f.yaml:3: log.journal: found 'maybe', expected true or false (Whether records go to the "
		"journal instead of paths.records)"},
	{PORTS "log: {level: loud}\n", "f.yaml:3: log.level: found 'loud', expected error, warn, info or "
				       "debug (The least that is logged)"},
	{PORTS "log: {level: \"error warn\"}\n",
		"f.yaml:3: log.level: found 'error warn', expected error, warn, info or debug (The least "
		"that is logged)"},
	{PORTS "limits: {received: 0}\n",
		"f.yaml:3: limits.received: found '0', expected a whole number from 10 to 1000 (Received "
		"fields after which a message is taken to be in a loop (RFC 5321 6.3))"},
	{PORTS "limits: {received: -50}\n",
		"f.yaml:3: limits.received: found '-50', expected a whole number from 10 to 1000 (Received "
		"fields after which a message is taken to be in a loop (RFC 5321 6.3))"},
	{PORTS "limits: {received: 99999999999999999999}\n",
		"f.yaml:3: limits.received: found '99999999999999999999', expected a whole number from 10 "
		"to 1000 (Received fields after which a message is taken to be in a loop (RFC 5321 6.3))"},
	{PORTS "limits: {received: 50K}\n",
		"f.yaml:3: limits.received: found '50K', expected a whole number from 10 to 1000 (Received "
		"fields after which a message is taken to be in a loop (RFC 5321 6.3))"},
	{PORTS "limits: {received: }\n",
		"f.yaml:3: limits.received: found nothing, expected a whole number from 10 to 1000 "
		"(Received fields after which a message is taken to be in a loop (RFC 5321 6.3))"},
	{PORTS "queue:\n\n  lifetime: 5w\n",
		"f.yaml:5: queue.lifetime: found '5w', expected a time from 1s to 100d, as 90s, 5m, 1h or "
		"5d (How long a mail is tried before it bounces (RFC 5321 4.5.4.1: 4 to 5 days))"},
	{PORTS "queue: {lifetime: 101d}\n",
		"f.yaml:3: queue.lifetime: found '101d', expected a time from 1s to 100d, as 90s, 5m, 1h or "
		"5d (How long a mail is tried before it bounces (RFC 5321 4.5.4.1: 4 to 5 days))"},
	{PORTS "limits: {message_bytes: 1K}\n",
		"f.yaml:3: limits.message_bytes: found '1K', expected a size from 64K to 1G, as 512, 64K, "
		"50M or 1G (The largest message (RFC 1870); RFC 5321 4.5.3.1.7 asks for 64 KB at least)"},
	{PORTS "paths: {spool: spool}\n", "f.yaml:3: paths.spool: found 'spool', expected an absolute path "
					  "(The directory of accepted mail)"},
	{PORTS "paths: {spool: \"/a\\0b\"}\n",
		"f.yaml:3: paths.spool: found '/a', expected a text of 1 to 255 bytes (The directory of "
		"accepted mail)"},
	{PORTS "node: {hostname: \"a b\\e\"}\n",
		"f.yaml:3: node.hostname: found 'a b?', expected a host name, as relay.example.test (The "
		"name in the greeting, in EHLO, in Received fields and in bounces (RFC 5321 2.3.5 wants a "
		"domain that resolves); empty: the machine's own name)"},
	{PORTS "dns: {server: dns.example.test}\n",
		"f.yaml:3: dns.server: found 'dns.example.test', expected an address, as 192.0.2.53 or "
		"192.0.2.53@5353 (The DNS server, as 192.0.2.53 or 192.0.2.53@5353; empty: the system's)"},
	{PORTS "dns: {server: 192.0.2.53@0}\n",
		"f.yaml:3: dns.server: found '192.0.2.53@0', expected an address, as 192.0.2.53 or "
		"192.0.2.53@5353 (The DNS server, as 192.0.2.53 or 192.0.2.53@5353; empty: the system's)"},
	/* ports and routes */
	{"dataplane:\n  ports: []\n", "f.yaml:2: dataplane.ports: found 0, expected a list of 1 to 8 (The "
				      "network ports)"},
	{"dataplane:\n  ports: p0\n", "f.yaml:2: dataplane.ports: found 'p0', expected a list of 1 to 8 "
				      "(The network ports)"},
	{"dataplane:\n  ports:\n  - name: a\n    device: d\n",
		"f.yaml:3: dataplane.ports[0].addresses: found nothing, expected a list of 1 to 64 (The "
		"port's own addresses with the length of their network, as 192.0.2.25/24 or "
		"2001:db8::25/64)"},
	{"dataplane:\n  ports:\n  - name: a\n    device: d\n    addresses:\n    - 192.0.2.1/24\n    - "
	 "192.0.2.2\n",
		"f.yaml:7: dataplane.ports[0].addresses[1]: found '192.0.2.2', expected an address with the "
		"length of its network, as 192.0.2.25/24 (The port's own addresses with the length of "
		"their network, as 192.0.2.25/24 or 2001:db8::25/64)"},
	{"dataplane:\n  ports:\n  - {name: a, device: d, addresses: [192.0.2.1/24]}\n  - {name: a, device: "
	 "e, addresses: [192.0.2.2/24]}\n",
		"f.yaml:4: dataplane.ports[1].name: found 'a', expected a name that no other port has"},
	{"dataplane:\n  ports:\n  - {name: a, device: d, addresses: [192.0.2.1/24]}\n  - {name: b, device: "
	 "d, addresses: [192.0.2.2/24]}\n",
		"f.yaml:4: dataplane.ports[1].device: found 'd', expected another device than port 'a' "
		"has"},
	{"dataplane:\n  ports:\n  - {name: a, device: d, addresses: [192.0.2.1/24]}\n  - {name: b, device: "
	 "e, addresses: [192.0.2.3/24, 192.0.2.1/25]}\n",
		"f.yaml:4: dataplane.ports[1].addresses[1]: found '192.0.2.1/25', expected each address "
		"once"},
	{"dataplane:\n  ports:\n  - {name: a, device: d, addresses: [192.0.2.1/24]}\n  - {name: b, device: "
	 "e, addresses: [192.0.2.3/24]}\n  routes:\n  - {to: default, via: 192.0.2.9}\n",
		"f.yaml:6: dataplane.routes[0].port: found none, expected the name of a port, as there are "
		"several"},
	{PORTS "  routes:\n  - {to: default, via: 192.0.2.9, port: p1}\n",
		"f.yaml:4: dataplane.routes[0].port: found 'p1', expected the name of one of "
		"dataplane.ports"},
	{PORTS "  routes:\n  - {to: default, via: 198.51.100.1}\n",
		"f.yaml:4: dataplane.routes[0].via: found '198.51.100.1', expected another host's address "
		"in a network of port 'p0'"},
	{PORTS "  routes:\n  - {to: default, via: 192.0.2.25}\n",
		"f.yaml:4: dataplane.routes[0].via: found '192.0.2.25', expected another host's address in "
		"a network of port 'p0'"},
	{PORTS "  routes:\n  - {to: default}\n",
		"f.yaml:4: dataplane.routes[0].via: found none, expected a router, where 'to' is "
		"\"default\""},
	{PORTS "  routes:\n  - {to: \"2001:db8:1::/48\", via: 192.0.2.1}\n",
		"f.yaml:4: dataplane.routes[0].via: found '192.0.2.1', expected an address of the family of "
		"'to'"},
	{PORTS "  routes:\n  - {to: 198.51.100.1/24, via: 192.0.2.1}\n",
		"f.yaml:4: dataplane.routes[0].to: found '198.51.100.1/24', expected \"default\" or a "
		"prefix without host bits, as 198.51.100.0/24 (A prefix as 198.51.100.0/24; \"default\" is "
		"all of the family of `via`)"},
	{PORTS "  routes:\n  - {via: 192.0.2.1}\n",
		"f.yaml:4: dataplane.routes[0].to: found nothing, expected \"default\" or a prefix without "
		"host bits, as 198.51.100.0/24 (A prefix as 198.51.100.0/24; \"default\" is all of the "
		"family of `via`)"},
	{PORTS "  cores: 17\n", "f.yaml:3: dataplane.cores: found '17', expected a whole number from 1 to "
				"16 (Worker cores; each polls its own queues and shares nothing with the "
				"others)"},
	{PORTS "  cores: 16\n  memory_mb: 64\n",
		"f.yaml:4: dataplane.memory_mb: found 64, expected at least 576 for "
		"dataplane.mbufs_per_core on 16 cores"},
	/* listeners */
	{PORTS "listeners:\n- {name: a, port: 25}\n- {name: a, port: 26}\n",
		"f.yaml:5: listeners[1].name: found 'a', expected a name that no other listener has"},
	{PORTS "listeners:\n- {name: a, port: 25}\n- {name: b, port: 25}\n",
		"f.yaml:5: listeners[1].port: found 25, expected a port or address where listener 'a' is "
		"not already"},
	{PORTS "listeners:\n- {name: a, port: 25, address: 192.0.2.25}\n- {name: b, port: 25}\n",
		"f.yaml:5: listeners[1].port: found 25, expected a port or address where listener 'a' is "
		"not already"},
	{PORTS "listeners:\n- {name: a, port: 25, address: 192.0.2.26}\n",
		"f.yaml:4: listeners[0].address: found '192.0.2.26', expected an address of one of "
		"dataplane.ports"},
	{PORTS "listeners:\n- {name: a, port: 70000}\n",
		"f.yaml:4: listeners[0].port: found '70000', expected a whole number from 1 to 65535 (The "
		"TCP port)"},
	{PORTS "listeners:\n- {name: a}\n",
		"f.yaml:4: listeners[0].port: found nothing, expected a whole number from 1 to 65535 (The "
		"TCP port)"},
	{PORTS "listeners:\n-\n", "f.yaml:4: listeners[0].name: found nothing, expected a name of letters, "
				  "digits, '.', '_' and '-' (The listener's name in rules and records)"},
	/* what has to fit */
	{PORTS "limits:\n  message_bytes: 200M\n",
		"f.yaml:4: limits.message_bytes: found 200M, expected no more than limits.mail_memory_mb, "
		"in which a message has to fit"},
	{PORTS "tls: {ticket_lifetime: 9h}\n",
		"f.yaml:3: tls.ticket_lifetime: found 9h, expected no more than tls.ticket_rotation"},
	{PORTS "queue: {retry_first: 2h}\n",
		"f.yaml:3: queue.retry_most: found 1h, expected no less than queue.retry_first"},
	{PORTS "queue: {delay_warning: 5d}\n",
		"f.yaml:3: queue.delay_warning: found 5d, expected less than queue.lifetime"},
	{PORTS "spool: {disk_mb: 100}\n",
		"f.yaml:3: spool.disk_mb: found 100, expected 0, or at least twice spool.segment_mb"},
	{PORTS "paths:\n  api_socket: /run/hikyaku/control.sock\n",
		"f.yaml:4: paths.api_socket: found '/run/hikyaku/control.sock', expected another path than "
		"paths.control_socket"},
};

static void what_is_wrong_is_refused_by_line(void **state)
{
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct config *config;
		char error[CONFIG_ERROR_MAX];
		int failed = config_load_text(
			"f.yaml", wrong[i].text, strlen(wrong[i].text), &config, error);
		if (failed == 0)
			fail_msg("accepted: %s", wrong[i].text);
		assert_int_equal(failed, -EINVAL);
		assert_string_equal(error, wrong[i].error);
	}
}

static void every_cut_of_a_file_is_refused_or_whole(void **state)
{
	static const char text[] = PORTS "limits: {recipients: 200, received: 60}\nqueue:\n  lifetime: 4d\n";
	for (size_t n = 0; n < sizeof text; n++) {
		struct config *config = NULL;
		char error[CONFIG_ERROR_MAX];
		if (config_load_text("f.yaml", text, n, &config, error) == 0)
			config_free(config);
		else
			assert_string_not_equal(error, "");
	}
}

static void a_file_that_cannot_be_read_is_told(void **state)
{
	struct config *config;
	char error[CONFIG_ERROR_MAX];
	assert_int_equal(config_load("/nonexistent/h.yaml", &config, error), -ENOENT);
	assert_string_equal(error, "/nonexistent/h.yaml: found no readable file (No such file or "
				   "directory), expected a configuration in YAML, as deploy/hikyaku.yaml is one");
	assert_int_equal(config_load("/tmp", &config, error), -EISDIR);
}

/* ---- what is right ---- */
static void the_defaults_are_those_of_the_table(void **state)
{
	struct config *c = load("node: {hostname: relay.example.test}\n" PORTS);
	assert_string_equal(c->node.hostname, "relay.example.test");
	assert_string_equal(c->paths.spool, "/var/lib/hikyaku/spool");
	assert_int_equal(c->dataplane.ports_count, 1);
	assert_int_equal(c->dataplane.ports[0].mtu, 1500);
	assert_int_equal(c->dataplane.ports[0].addresses_count, 2);
	assert_int_equal(c->dataplane.routes_count, 0);
	assert_int_equal(c->listeners_count, 2);
	assert_string_equal(c->listeners[0].name, "smtp");
	assert_int_equal(c->listeners[0].tcp_port, 25);
	assert_false(c->listeners[0].implicit_tls);
	assert_true(c->listeners[0].enabled);
	assert_string_equal(c->listeners[1].name, "smtps");
	assert_int_equal(c->listeners[1].tcp_port, 465);
	assert_true(c->listeners[1].implicit_tls);
	/* RFC 5321 4.5.3.2 */
	assert_int_equal(c->timeouts.greeting, 300);
	assert_int_equal(c->timeouts.mail, 300);
	assert_int_equal(c->timeouts.rcpt, 300);
	assert_int_equal(c->timeouts.data, 120);
	assert_int_equal(c->timeouts.block, 180);
	assert_int_equal(c->timeouts.end, 600);
	assert_int_equal(c->timeouts.server_command, 300);
	assert_int_equal(c->queue.lifetime, 5 * 86400);
	assert_int_equal(c->queue.retry_first, 300);
	assert_int_equal(c->queue.retry_factor_percent, 150);
	assert_int_equal(c->queue.retry_most, 3600);
	assert_int_equal(c->limits.message_bytes, 50 << 20);
	assert_true(c->dns.dnssec);
	assert_string_equal(c->dataplane.hugepages, "auto");
	config_free(c);
}

static void values_may_be_written_in_several_ways(void **state)
{
	struct config *c = load(PORTS "  hugepages: no\n"
		"queue: {lifetime: \"2d\", retry_first: 60, retry_most: 90m, delay_warning: 4h}\n"
		"limits: {message_bytes: 1048576, header_bytes: 64K}\n"
		"dns: {dnssec: no, server: \"2001:db8::53@5353\"}\n"
		"log: {journal: yes}\n"
		"spool:\n"
		"listeners:\n");
	assert_string_equal(c->dataplane.hugepages, "no");
	assert_int_equal(c->queue.lifetime, 2 * 86400);
	assert_int_equal(c->queue.retry_first, 60);
	assert_int_equal(c->queue.retry_most, 5400);
	assert_int_equal(c->queue.delay_warning, 4 * 3600);
	assert_int_equal(c->limits.message_bytes, 1 << 20);
	assert_int_equal(c->limits.header_bytes, 64 << 10);
	assert_false(c->dns.dnssec);
	assert_true(c->log.journal);
	assert_int_equal(c->listeners_count, 0); /* an empty list is a list, not the default */
	config_free(c);
}

static void without_a_hostname_the_machine_has_one(void **state)
{
	struct config *c = load(PORTS);
	assert_string_not_equal(c->node.hostname, "");
	config_free(c);
}

static void listeners_may_share_a_port_where_they_do_not_meet(void **state)
{
	struct config *c = load(PORTS "listeners:\n"
		"- {name: a, port: 25, address: 192.0.2.25}\n"
		"- {name: b, port: 25, address: \"2001:db8::25\"}\n"
		"- {name: c, port: 25, enabled: false}\n"
		"- {name: d, port: 26, address: \"*\"}\n");
	assert_int_equal(c->listeners_count, 4);
	config_free(c);
}

static void routes_come_out_as_prefix_and_router(void **state)
{
	static const struct {
		const char *to, *via;
	} wanted[] = {
		{"0.0.0.0/0", "192.0.2.1"},
		{"::/0", "fe80::1"},
		{"198.51.100.0/24", "192.0.2.2"},
		{"203.0.113.0/24", "::"},
	};
	struct config *c = load(PORTS "  routes:\n"
		"  - {to: default, via: 192.0.2.1}\n"
		"  - {to: default, via: \"fe80::1\", port: p0}\n"
		"  - {to: 198.51.100.0/24, via: 192.0.2.2}\n"
		"  - {to: 203.0.113.0/24}\n");
	assert_int_equal(c->dataplane.routes_count, 4);
	for (unsigned i = 0; i < 4; i++) {
		struct prefix to;
		struct addr via;
		char text[ADDR_TEXT_MAX + 4];
		assert_true(config_parse_route(&c->dataplane.routes[i], &to, &via));
		assert_string_equal(prefix_format(&to, text), wanted[i].to);
		assert_string_equal(addr_format(&via, text), wanted[i].via);
		assert_string_equal(c->dataplane.routes[i].port, "p0");
	}
	config_free(c);
}

static void an_interface_address_has_its_network(void **state)
{
	struct addr addr;
	struct prefix network;
	char text[ADDR_TEXT_MAX + 4];
	assert_true(config_parse_interface("192.0.2.25/24", &addr, &network));
	assert_string_equal(addr_format(&addr, text), "192.0.2.25");
	assert_string_equal(prefix_format(&network, text), "192.0.2.0/24");
	assert_true(config_parse_interface("2001:db8::25/64", &addr, &network));
	assert_string_equal(prefix_format(&network, text), "2001:db8::/64");
	assert_false(config_parse_interface("192.0.2.25", &addr, &network));
	assert_false(config_parse_interface("192.0.2.25/33", &addr, &network));
	assert_false(config_parse_interface("192.0.2.25/+4", &addr, &network));
	assert_false(config_parse_interface("224.0.0.1/24", &addr, &network));
	assert_false(config_parse_interface("0.0.0.0/0", &addr, &network));
}

/* ---- printing ---- */
static char *print(const struct config *config, bool full)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);
	assert_non_null(to);
	config_print(config, full, to);
	fclose(to);
	return text;
}

static void what_is_printed_reads_as_the_same_configuration(void **state)
{
	struct config *c = load(PORTS "  hugepages: no\n  routes: [{to: default, via: 192.0.2.1}]\n"
		"node: {hostname: relay.example.test, instance: \"no\"}\n"
		"paths: {spool: \"/a b/\\\"c\\\\\\t#: x\"}\n"
		"queue: {lifetime: 90s}\nlimits: {message_bytes: 65537}\n"
		"listeners: [{name: x, port: 25, address: 192.0.2.25, enabled: false}]\n");
	for (int full = 0; full <= 1; full++) {
		char *first = print(c, full);
		struct config *again = load(first);
		char *second = print(again, true), *whole = print(c, true);
		assert_string_equal(second, whole);
		assert_string_equal(again->paths.spool, "/a b/\"c\\\t#: x");
		config_free(again);
		free(first);
		free(second);
		free(whole);
	}
	config_free(c);
}

static void without_full_only_what_was_changed_is_printed(void **state)
{
	struct config *c = load("node: {hostname: relay.example.test}\n" PORTS
		"limits: {recipients: 1000, received: 60}\n");
	char *text = print(c, false);
	assert_string_equal(text,
		"node:\n"
		"  hostname: relay.example.test\n"
		"dataplane:\n"
		"  ports:\n"
		"    - name: p0\n"
		"      device: net_tap0\n"
		"      addresses: [\"192.0.2.25/24\", \"2001:db8::25/64\"]\n"
		"listeners:\n"
		"  - name: smtp\n"
		"    port: 25\n"
		"  - name: smtps\n"
		"    port: 465\n"
		"    implicit_tls: true\n"
		"limits:\n"
		"  received: 60\n");
	free(text);
	config_free(c);
}

static void full_tells_every_setting(void **state)
{
	struct config *c = load("node: {hostname: relay.example.test}\n" PORTS
		"  routes: [{to: default, via: 192.0.2.1}]\n");
	char *text = print(c, true);
	for (size_t i = 0; i < config_setting_count; i++) {
		const char *dot = strrchr(config_settings[i].path, '.');
		char key[64];
		snprintf(key, sizeof key, " %s:", dot == NULL ? config_settings[i].path : dot + 1);
		assert_non_null(strstr(text, dot == NULL ? key + 1 : key));
	}
	free(text);
	config_free(c);
}

/* ---- what is made from the table ---- */
static char *read_file(const char *name)
{
	char path[512];
	const char *source = getenv("HIKYAKU_SOURCE");
	snprintf(path, sizeof path, "%s/%s", source == NULL ? "." : source, name);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		fail_msg("%s is missing", path);
	char *text = calloc(1, 1 << 20);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

static char *made(void (*make)(FILE *to))
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);
	assert_non_null(to);
	make(to);
	fclose(to);
	return text;
}

static void make_example(FILE *to)
{
	assert_int_equal(config_print_example(to), 0);
}

static void check_made(const char *name, void (*make)(FILE *to), const char *word)
{
	char *there = read_file(name), *wanted = made(make);
	if (strcmp(there, wanted) != 0)
		fail_msg("%s is behind control/config/settings.def: hikyaku-config-print %s > %s", name, word,
			name);
	free(there);
	free(wanted);
}

static void the_reference_is_up_to_date(void **state)
{
	check_made("docs/settings.md", config_print_reference, "reference");
}

static void the_default_file_is_up_to_date_and_loads(void **state)
{
	struct config *config;
	char error[CONFIG_ERROR_MAX];
	check_made("deploy/hikyaku.yaml", make_example, "example");
	char *text = read_file("deploy/hikyaku.yaml");
	if (config_load_text("deploy/hikyaku.yaml", text, strlen(text), &config, error) != 0)
		fail_msg("%s", error);
	config_free(config);
	/* What is commented out is what can be taken in: it says the same. */
	for (char *at = text; (at = strstr(at, "\n  #")) != NULL; at += 3)
		if (at[4] != ' ')
			memmove(at + 3, at + 4, strlen(at + 4) + 1);
	if (config_load_text("deploy/hikyaku.yaml", text, strlen(text), &config, error) != 0)
		fail_msg("%s", error);
	config_free(config);
	free(text);
}

static void every_sentence_is_one(void **state)
{
	for (size_t i = 0; i < config_setting_count; i++) {
		const char *text = config_settings[i].sentence;
		assert_true(text[0] != '\0' && text[strlen(text) - 1] == '.');
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_wrong_is_refused_by_line),
		cmocka_unit_test(every_cut_of_a_file_is_refused_or_whole),
		cmocka_unit_test(a_file_that_cannot_be_read_is_told),
		cmocka_unit_test(the_defaults_are_those_of_the_table),
		cmocka_unit_test(values_may_be_written_in_several_ways),
		cmocka_unit_test(without_a_hostname_the_machine_has_one),
		cmocka_unit_test(listeners_may_share_a_port_where_they_do_not_meet),
		cmocka_unit_test(routes_come_out_as_prefix_and_router),
		cmocka_unit_test(an_interface_address_has_its_network),
		cmocka_unit_test(what_is_printed_reads_as_the_same_configuration),
		cmocka_unit_test(without_full_only_what_was_changed_is_printed),
		cmocka_unit_test(full_tells_every_setting),
		cmocka_unit_test(the_reference_is_up_to_date),
		cmocka_unit_test(the_default_file_is_up_to_date_and_loads),
		cmocka_unit_test(every_sentence_is_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
