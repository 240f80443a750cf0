// SPDX-License-Identifier: Apache-2.0
#include "dataplane/lab.h"

#include <rte_thash.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct dp *dp;
static uint8_t frame[4096];

static int open_three(void **state)
{
	dp = lab_open(3);
	return 0;
}

static int close_lab(void **state)
{
	lab_close(dp);
	return 0;
}

/* DPDK's plain implementation of what a NIC does, over the same bytes. */
static uint32_t nic_hash(const struct addr *local, uint16_t local_port, const struct addr *remote,
	uint16_t remote_port)
{
	uint32_t words[9];
	unsigned n = 0, first = addr_is_ipv4(local) ? 12 : 0;
	for (unsigned i = first; i < 16; i += 4)
		words[n++] = get_be32(remote->b + i);
	for (unsigned i = first; i < 16; i += 4)
		words[n++] = get_be32(local->b + i);
	words[n++] = (uint32_t)remote_port << 16 | local_port;
	return rte_softrss(words, n, dp->rss_key);
}

static void owners_are_what_a_nic_with_our_key_would_say(void **state)
{
	unsigned owned[3] = {0};
	srand(1);
	for (unsigned i = 0; i < 3000; i++) {
		struct addr local = lab_addr(i % 2 ? "192.0.2.1" : "2001:db8::1");
		struct addr remote = lab_addr(i % 2 ? "198.51.100.1" : "2001:db8:1::1");
		uint16_t local_port = (uint16_t)rand(), remote_port = (uint16_t)rand();
		remote.b[15] = (uint8_t)rand();
		remote.b[14] = (uint8_t)rand();
		unsigned owner = steer_owner(dp, &local, local_port, &remote, remote_port);
		assert_int_equal(
			owner, nic_hash(&local, local_port, &remote, remote_port) % RETA_SIZE % 3);
		owned[owner]++;
	}
	for (unsigned i = 0; i < 3; i++) /* a third each, roughly */
		assert_in_range(owned[i], 800, 1200);
}

static const char *const peers[] = {"192.0.2.99", "2001:db8::99"};
static const char *const ours[] = {"192.0.2.1", "2001:db8::1"};

/* A segment from port `port` of the peer. */
static size_t a_segment(unsigned family, uint16_t port)
{
	uint8_t segment[20] = {0, 0, 0, 25};
	put_be16(segment, port);
	return (family == 0 ? lab_ip4 : lab_ip6)(frame, peers[family], ours[family],
		IP_PROTOCOL_TCP, bytes_of(segment, sizeof segment));
}

static void a_segment_reaches_its_owner_wherever_it_arrives(void **state)
{
	for (unsigned i = 0; i < 600; i++) {
		struct addr local = lab_addr(ours[i % 2]), remote = lab_addr(peers[i % 2]);
		unsigned owner = steer_owner(dp, &local, 25, &remote, (uint16_t)i);
		lab_put(dp->cores[i / 2 % 3], frame, a_segment(i % 2, (uint16_t)i));
		for (unsigned c = 0; c < 3; c++)
			steer_take(dp->cores[c], lab_now_us);
		assert_int_equal(lab_tcp.arrivals, i + 1);
		assert_ptr_equal(lab_tcp.stack, dp->cores[owner]->tcp);
		assert_int_equal(get_be16(lab_tcp.data), i);
	}
	uint64_t over = 0, taken = 0;
	for (unsigned c = 0; c < 3; c++) {
		over += lab_counter(dp->cores[c], COUNT_handed_over);
		taken += lab_counter(dp->cores[c], COUNT_taken_over);
	}
	assert_int_equal(over, taken);
	assert_in_range(over, 300, 500); /* two thirds */
}

static void an_icmp_error_reaches_the_owner_of_what_it_quotes(void **state)
{
	for (unsigned i = 0; i < 60; i++) {
		uint8_t quoted[128], message[64] = {3, 3}, segment[20] = {0, 25};
		struct addr local = lab_addr("192.0.2.1"), remote = lab_addr("198.51.100.7");
		put_be16(segment + 2, (uint16_t)i);
		lab_ip4(quoted, "192.0.2.1", "198.51.100.7", IP_PROTOCOL_TCP,
			bytes_of(segment, 20));
		memcpy(message + 8, quoted + 14, 40);
		uint32_t sum = 0;
		for (unsigned at = 0; at < 48; at += 2)
			sum += get_be16(message + at);
		sum = (sum & 0xffff) + (sum >> 16);
		put_be16(message + 2, (uint16_t) ~((sum & 0xffff) + (sum >> 16)));
		lab_put(dp->cores[i % 3], frame,
			lab_ip4(frame, "203.0.113.1", "192.0.2.1", 1, bytes_of(message, 48)));
		for (unsigned c = 0; c < 3; c++)
			steer_take(dp->cores[c], lab_now_us);
		assert_int_equal(lab_tcp.errors, i + 1);
		unsigned owner = steer_owner(dp, &local, 25, &remote, (uint16_t)i);
		assert_ptr_equal(lab_tcp.stack, dp->cores[owner]->tcp);
	}
}

static void a_full_ring_drops_and_counts(void **state)
{
	struct addr local = lab_addr(ours[0]), remote = lab_addr(peers[0]);
	uint16_t port = 1;
	while (steer_owner(dp, &local, 25, &remote, port) != 1)
		port++;
	for (unsigned i = 0; i < 300; i++) /* the pool is smaller than the ring: take turns late */
		lab_put(dp->cores[0], frame, a_segment(0, port));
	assert_int_equal(ring_count(&dp->cores[1]->inbox[0].received), 300);
	unsigned turns = 0;
	while (steer_take(dp->cores[1], lab_now_us))
		turns++;
	assert_int_equal(turns, (300 + 2 * BURST - 1) / (2 * BURST)); /* so many a turn, no more */
	assert_int_equal(lab_tcp.arrivals, 300);
	struct ring small, *ring = &dp->cores[1]->inbox[0].received;
	ring_fini(ring);
	assert_true(ring_init(&small, 4));
	*ring = small;
	for (unsigned i = 0; i < 5; i++)
		lab_put(dp->cores[0], frame, a_segment(0, port));
	assert_int_equal(lab_counter(dp->cores[0], COUNT_drop_handover_full), 2);
}

static void a_port_with_one_queue_is_served_by_the_first_core(void **state)
{
	static const uint8_t segment[20];
	uint8_t arp[64];
	struct tcp_departure d;
	dp->ports[0].queues = 1;
	lab_put(dp->cores[0], arp, lab_arp(arp, lab_mac, 1, lab_peer_mac, peers[0], ours[0]));
	lab_sent(dp->cores[0]);
	lab_depart(dp->cores[2], ours[0], peers[0], bytes_of(segment, sizeof segment));
	assert_int_equal(tcp_take(dp->cores[2]->tcp, &d, 1), 1);
	ip_output(dp->cores[2], d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned c = 0; c < 3; c++)
			steer_take(dp->cores[c], lab_now_us);
	assert_int_equal(lab_counter(dp->cores[2], COUNT_tx_handed_over), 1);
	assert_int_equal(dp->cores[2]->tx[0].count, 0);
	steer_take(dp->cores[0], lab_now_us);
	struct bytes f = lab_sent(dp->cores[0]);
	assert_int_equal(f.n, 54);
	assert_memory_equal(f.at, lab_peer_mac, 6);
}

static void sources_and_routes_are_chosen_by_the_longest_prefix(void **state)
{
	/* clang-format off */
	static const struct {
		const char *to, *from;
	} cases[] = {
		{"192.0.2.7", "192.0.2.1"},
		{"198.51.100.1", "192.0.2.1"},
		{"2001:db8::7", "2001:db8::1"},
		{"2001:db8:ffff::7", "2001:db8::1"},
	};
	/* clang-format on */
	struct addr local, remote, next;
	unsigned port;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct addr from = lab_addr(cases[i].from);
		remote = lab_addr(cases[i].to);
		assert_true(dp_source_for(dp->cores[0], &remote, &local));
		assert_true(addr_equal(&local, &from));
	}
	local = lab_addr("192.0.2.1");
	remote = lab_addr("198.51.100.1");
	assert_true(route_next_hop(dp, &local, &remote, &port, &next));
	struct addr router = lab_addr("192.0.2.254");
	assert_true(addr_equal(&next, &router));
	remote = lab_addr("192.0.2.7");
	assert_true(route_next_hop(dp, &local, &remote, &port, &next));
	assert_true(addr_equal(&next, &remote));
}

static void bad_routes_are_refused_with_a_reason(void **state)
{
	/* clang-format off */
	static const struct {
		const char *to, *via;
		unsigned bits, port;
	} cases[] = {
		{"198.51.100.0", "192.0.2.254", 120, 1},
		{"198.51.100.0", "198.51.100.1", 120, 0},
		{"198.51.100.0", "2001:db8::fe", 120, 0},
		{"2001:db8:1::", "192.0.2.254", 48, 0},
	};
	/* clang-format on */
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char error[256] = "";
		dp->config.route_count = 1;
		dp->config.routes[0] = (struct dp_route){
			.via = lab_addr(cases[i].via),
			.port = cases[i].port,
			.to = {lab_addr(cases[i].to), (uint8_t)cases[i].bits}
		     };
		assert_true(route_init(dp, error) < 0);
		assert_true(strlen(error) > 20);
	}
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_three, close_lab)
	const struct CMUnitTest tests[] = {
		CASE(owners_are_what_a_nic_with_our_key_would_say),
		CASE(a_segment_reaches_its_owner_wherever_it_arrives),
		CASE(an_icmp_error_reaches_the_owner_of_what_it_quotes),
		CASE(a_full_ring_drops_and_counts),
		CASE(a_port_with_one_queue_is_served_by_the_first_core),
		CASE(sources_and_routes_are_chosen_by_the_longest_prefix),
		CASE(bad_routes_are_refused_with_a_reason),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
