// SPDX-License-Identifier: Apache-2.0
/* Fragments, of both families from one description. */
#include "dataplane/lab.h"
#include "dataplane/neighbour.h"
#include "dataplane/reassembly.h"

#include <rte_cksum.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct dp *dp;
static struct dp_core *core;
static bool is_ip4;
static const char *peer, *ours;
static uint8_t frame[4096], datagram[4096];
static uint32_t id;

static void choose(bool ip4)
{
	is_ip4 = ip4;
	peer = ip4 ? "192.0.2.99" : "2001:db8::99";
	ours = ip4 ? "192.0.2.1" : "2001:db8::1";
}

static int open_lab(void **state)
{
	dp = lab_open(1);
	core = dp->cores[0];
	memcpy(datagram, (uint8_t[20]){0x04, 0x00, 0x00, 0x19, [12] = 0x50}, 20);
	for (size_t i = 20; i < sizeof datagram; i++)
		datagram[i] = (uint8_t)(i * 7 + i / 256);
	return 0;
}

static int close_lab(void **state)
{
	lab_close(dp);
	return 0;
}

/* A part of the datagram, as a fragment from `from`. */
static size_t a_fragment_of(
	uint8_t protocol, const char *from, size_t first, size_t end, bool has_more)
{
	uint8_t payload[4096] = {protocol};
	struct bytes part = bytes_of(datagram + first, end - first);
	if (is_ip4) {
		size_t n = lab_ip4(frame, from, ours, protocol, part);
		put_be16(frame + 18, (uint16_t)id);
		put_be16(frame + 20, (uint16_t)(first / 8 | (has_more ? 0x2000 : 0)));
		lab_fix_ip4(frame);
		return n;
	}
	put_be16(payload + 2, (uint16_t)(first | has_more));
	put_be32(payload + 4, id);
	memcpy(payload + 8, part.at, part.n);
	return lab_ip6(frame, from, ours, 44, bytes_of(payload, 8 + part.n));
}

static void put(size_t first, size_t end, bool has_more)
{
	lab_put(core, frame, a_fragment_of(IP_PROTOCOL_TCP, peer, first, end, has_more));
}

/* The next frame sent that is no ARP or NDP. */
static struct bytes sent(void)
{
	struct bytes f;
	do
		f = lab_sent(core);
	while (f.n > 54 &&
		(f.at[13] == 6 || (f.at[12] == 0x86 && f.at[54] >= 133 && f.at[54] <= 137)));
	return f;
}

/* So that what is sent goes at once. */
static void know_peer(void)
{
	struct addr a = lab_addr(peer);
	neighbour_output(core, 0, &a, rte_pktmbuf_alloc(core->tx_pool), lab_now_us);
	resolver_hear(core, 0, &a,
		&(struct resolver_claim){
			.mac = lab_peer_mac, .is_solicited = true, .may_create = true},
		lab_now_us);
	while (lab_sent(core).n > 0)
		;
}

static unsigned in_the_making(void)
{
	return rte_mempool_in_use_count(core->fragment_pool);
}

/* ---- each claim for one family ---- */

/* Packets of 1500 bytes must come together at least (RFC 8200 5). */
static void come_in_every_order(void)
{
	const size_t end = is_ip4 ? 1500 - 20 : 1500 - 40;
	const size_t edges[] = {0, 24, 480, 488, 1000, end};
	unsigned order[5];
	for (unsigned n = 0; n < 120; n++) { /* the permutations of five, by factorial digits */
		unsigned rest = n, left[5] = {0, 1, 2, 3, 4};
		for (unsigned i = 0; i < 5; i++) {
			unsigned k = rest % (5 - i);
			rest /= 5 - i;
			order[i] = left[k];
			left[k] = left[4 - i];
		}
		unsigned arrivals = lab_tcp.arrivals;
		id = 1000 + n;
		for (unsigned i = 0; i < 5; i++) {
			assert_int_equal(lab_tcp.arrivals, arrivals);
			put(edges[order[i]], edges[order[i] + 1], order[i] < 4);
		}
		assert_int_equal(lab_tcp.arrivals, arrivals + 1);
		assert_int_equal(lab_tcp.n, end);
		assert_memory_equal(lab_tcp.data, datagram, end);
		struct addr remote = lab_addr(peer);
		assert_true(addr_equal(&lab_tcp.arrival.remote, &remote));
	}
	assert_int_equal(in_the_making(), 0);
	assert_int_equal(lab_counter(core, COUNT_fragments_in) % 600, 0);
}

static void are_told_apart(void)
{
	unsigned arrivals = lab_tcp.arrivals;
	put(0, 40, true);
	id++;
	put(40, 50, false); /* another's end */
	lab_put(core, frame,
		a_fragment_of(
			IP_PROTOCOL_TCP, is_ip4 ? "192.0.2.98" : "2001:db8::98", 40, 50, false));
	assert_int_equal(lab_tcp.arrivals, arrivals);
	id--;
	put(40, 64, false);
	assert_int_equal(lab_tcp.arrivals, arrivals + 1);
	assert_int_equal(lab_tcp.n, 64);
	id++;
	put(0, 40, true);
	assert_int_equal(lab_tcp.arrivals, arrivals + 2);
	assert_int_equal(lab_tcp.n, 50);
}

struct attack {
	struct {
		size_t first, end;
		bool has_more;
	} parts[4];
	unsigned count;
	enum dp_counter reason;
};

/* Nothing comes of it, also not with all that was missing; and nobody is told. */
static void are_given_up(void)
{
	/* clang-format off */
	static const struct attack attacks[] = {
		{{{0, 48, true}, {40, 64, false}}, 2, COUNT_drop_fragment_overlap},	/* teardrop */
		{{{0, 48, true}, {24, 32, true}}, 2, COUNT_drop_fragment_overlap},	/* inside */
		{{{24, 32, true}, {0, 48, true}}, 2, COUNT_drop_fragment_overlap},	/* around */
		{{{0, 48, true}, {40, 48, true}}, 2, COUNT_drop_fragment_overlap},	/* the same end */
		{{{24, 64, false}, {24, 32, true}}, 2, COUNT_drop_fragment_overlap},	/* the same begin */
		{{{24, 64, false}, {64, 72, true}}, 2, COUNT_drop_fragment_overlap},	/* behind the end */
		{{{64, 72, true}, {24, 64, false}}, 2, COUNT_drop_fragment_overlap},	/* ends before it */
		{{{24, 64, false}, {64, 72, false}}, 2, COUNT_drop_fragment_overlap},	/* two ends */
		{{{24, 64, true}, {24, 64, false}}, 2, COUNT_drop_fragment_overlap},	/* an end after all */
	};
	/* clang-format on */
	for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
		const struct attack *a = &attacks[i];
		uint64_t before = lab_counter(core, a->reason);
		unsigned arrivals = lab_tcp.arrivals;
		id++;
		for (unsigned j = 0; j < a->count; j++)
			put(a->parts[j].first, a->parts[j].end, a->parts[j].has_more);
		assert_int_equal(lab_counter(core, a->reason), before + 1);
		assert_int_equal(in_the_making(), 0);
		put(0, 24, true);
		put(24, 64, false);
		assert_int_equal(lab_tcp.arrivals, arrivals);
		lab_now_us += REASSEMBLY_US_IP6 + 1000000;
		reassembly_tick(core, lab_now_us);
		assert_int_equal(sent().n, 0);
		put(0, 24, true); /* its time over, the number is free again */
		put(24, 64, false);
		assert_int_equal(lab_tcp.arrivals, arrivals + 1);
	}
}

static void that_come_twice_do_no_harm(void)
{
	unsigned arrivals = lab_tcp.arrivals;
	uint64_t before = lab_counter(core, COUNT_drop_fragment_duplicate);
	put(0, 40, true);
	put(0, 40, true);
	put(80, 90, false);
	put(80, 90, false);
	put(40, 80, true);
	assert_int_equal(lab_counter(core, COUNT_drop_fragment_duplicate), before + 2);
	assert_int_equal(lab_tcp.arrivals, arrivals + 1);
	assert_int_equal(lab_tcp.n, 90);
	/* With other bytes it is no duplicate. */
	id++;
	before = lab_counter(core, COUNT_drop_fragment_overlap);
	put(24, 64, true);
	datagram[30] ^= 1;
	put(24, 64, true);
	datagram[30] ^= 1;
	assert_int_equal(lab_counter(core, COUNT_drop_fragment_overlap), before + 1);
}

static void assert_refused(size_t first, size_t end, bool has_more, enum dp_counter reason)
{
	uint64_t before = lab_counter(core, reason);
	id++;
	put(first, end, has_more);
	assert_int_equal(lab_counter(core, reason), before + 1);
	assert_int_equal(in_the_making(), 0);
}

static void of_no_good_shape_are_dropped(void)
{
	size_t most = rte_pktmbuf_data_room_size(core->fragment_pool) - FRAGMENT_HEADERS;
	assert_refused(24, 24, false, COUNT_drop_fragment_bad);
	assert_refused(24, 24, true, COUNT_drop_fragment_bad);
	assert_refused(24, 31, true, COUNT_drop_fragment_bad);
	assert_refused(0, 16, true, COUNT_drop_fragment_tiny);
	assert_refused(most - 8, most + 8, true, COUNT_drop_fragment_too_long);
	assert_refused(most, most + 1, false, COUNT_drop_fragment_too_long);
	/* Up to there, all is well. */
	unsigned arrivals = lab_tcp.arrivals;
	id++;
	put(0, 1400, true);
	put(1400, most, false);
	assert_int_equal(lab_tcp.arrivals, arrivals + 1);
	assert_int_equal(lab_tcp.n, most);
}

static void are_not_taken_without_number(void)
{
	uint64_t before = lab_counter(core, COUNT_drop_fragment_too_many);
	unsigned arrivals = lab_tcp.arrivals;
	id++;
	put(0, 24, true);
	for (unsigned i = 1; i <= FRAGMENTS_MAX; i++)
		put(i * 24, i * 24 + 24, true);
	assert_int_equal(lab_counter(core, COUNT_drop_fragment_too_many), before + 1);
	assert_int_equal(in_the_making(), 0);
	id++;
	put(0, 24, true);
	for (unsigned i = 1; i < FRAGMENTS_MAX; i++)
		put(i * 24, i * 24 + 24, i + 1 < FRAGMENTS_MAX);
	assert_int_equal(lab_tcp.arrivals, arrivals + 1);
}

static void flood_without_harm(void)
{
	uint64_t before = lab_counter(core, COUNT_drop_fragment_full);
	unsigned arrivals = lab_tcp.arrivals;
	for (unsigned i = 0; i < 3 * DATAGRAMS_MAX; i++) {
		id = 0x1000 + i;
		put(24, 64, true);
		assert_true(in_the_making() <= DATAGRAMS_MAX);
	}
	assert_int_equal(lab_counter(core, COUNT_drop_fragment_full), before + 2 * DATAGRAMS_MAX);
	id = 0x9000; /* a young one is not the one to go */
	put(0, 24, true);
	for (unsigned i = 0; i < DATAGRAMS_MAX / 2; i++) {
		id = 0x8000 + i;
		put(24, 64, true);
	}
	id = 0x9000;
	put(24, 64, false);
	assert_int_equal(lab_tcp.arrivals, arrivals + 1);
	lab_now_us += REASSEMBLY_US_IP6 + 1000000;
	reassembly_tick(core, lab_now_us);
	assert_int_equal(in_the_making(), 0);
}

static void say_when_their_time_is_over(void)
{
	uint64_t before = lab_counter(core, COUNT_drop_fragment_timeout);
	uint64_t lasts = is_ip4 ? REASSEMBLY_US_IP4 : REASSEMBLY_US_IP6;
	know_peer();
	id++;
	put(0, 40, true);
	id++;
	put(40, 80, true); /* without the first nobody is told */
	lab_now_us += lasts;
	reassembly_tick(core, lab_now_us);
	assert_int_equal(in_the_making(), 2);
	assert_int_equal(sent().n, 0);
	lab_now_us += 1;
	reassembly_tick(core, lab_now_us);
	assert_int_equal(in_the_making(), 0);
	assert_int_equal(lab_counter(core, COUNT_drop_fragment_timeout), before + 2);
	struct bytes f = sent();
	const uint8_t *icmp = f.at + (is_ip4 ? 34 : 54);
	id--;
	size_t n = a_fragment_of(IP_PROTOCOL_TCP, peer, 0, 40, true);
	assert_int_equal(f.n, (size_t)(icmp - f.at) + 8 + n - 14);
	assert_int_equal(icmp[0], is_ip4 ? 11 : 3);
	assert_int_equal(icmp[1], 1);
	assert_memory_equal(icmp + 8, frame + 14, n - 14); /* as it came */
	assert_int_equal(sent().n, 0);
}

static void of_an_error_bring_no_error(void)
{
	uint8_t was[8];
	know_peer();
	memcpy(was, datagram, 8);
	memset(datagram, 0, 8);
	datagram[0] = is_ip4 ? 3 : 1;
	id++;
	lab_put(core, frame, a_fragment_of(is_ip4 ? 1 : 58, peer, 0, 40, true));
	memcpy(datagram, was, 8);
	lab_now_us += REASSEMBLY_US_IP6 + 1;
	reassembly_tick(core, lab_now_us);
	assert_int_equal(in_the_making(), 0);
	assert_int_equal(sent().n, 0);
}

static void ecn_of(uint8_t ecn)
{
	if (is_ip4) {
		frame[15] = ecn;
		lab_fix_ip4(frame);
	} else {
		frame[15] = (uint8_t)(ecn << 4);
	}
}

static void share_their_congestion(void)
{
	static const struct {
		uint8_t a, b, whole; /* 9: dropped */
	} cases[] = {
		{0, 0, 0},
		   {2, 2, 2},
		      {2, 3, 3},
		 {3, 2, 3},
		    {3, 3, 3},
		       {0, 3, 9},
		  {3, 0, 9}
	   };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		unsigned arrivals = lab_tcp.arrivals;
		id++;
		size_t n = a_fragment_of(IP_PROTOCOL_TCP, peer, 0, 40, true);
		ecn_of(cases[i].a);
		lab_put(core, frame, n);
		n = a_fragment_of(IP_PROTOCOL_TCP, peer, 40, 60, false);
		ecn_of(cases[i].b);
		lab_put(core, frame, n);
		assert_int_equal(lab_tcp.arrivals, arrivals + (cases[i].whole != 9));
		if (cases[i].whole != 9)
			assert_int_equal(lab_tcp.arrival.ecn, cases[i].whole);
	}
	assert_true(lab_counter(core, COUNT_drop_fragment_ecn) >= 2);
}

static void of_a_ping_are_answered(void)
{
	uint8_t was[8];
	know_peer();
	memcpy(was, datagram, 8);
	memcpy(datagram, (uint8_t[8]){is_ip4 ? 8 : 128, 0, 0, 0, 1, 2, 3, 4}, 8);
	uint16_t sum = (uint16_t)~rte_raw_cksum(datagram, 1000);
	memcpy(datagram + 2, &sum, 2);
	if (!is_ip4)
		lab_icmp6_sum(datagram, 1000, peer, ours);
	id++;
	lab_put(core, frame, a_fragment_of(is_ip4 ? 1 : 58, peer, 504, 1000, false));
	lab_put(core, frame, a_fragment_of(is_ip4 ? 1 : 58, peer, 0, 504, true));
	struct bytes f = sent();
	size_t headers = is_ip4 ? 34 : 54;
	assert_int_equal(f.n, headers + 1000);
	assert_int_equal(f.at[headers], is_ip4 ? 0 : 129);
	assert_memory_equal(f.at + headers + 4, datagram + 4, 996);
	memcpy(datagram, was, 8);
}

/* ---- for both ---- */

#define FOR_BOTH(claim)                                                                            \
	static void fragments_##claim(void **state)                                                \
	{                                                                                          \
		choose(true);                                                                      \
		claim();                                                                           \
		choose(false);                                                                     \
		claim();                                                                           \
	}
FOR_BOTH(come_in_every_order)
FOR_BOTH(are_told_apart)
FOR_BOTH(are_given_up)
FOR_BOTH(that_come_twice_do_no_harm)
FOR_BOTH(of_no_good_shape_are_dropped)
FOR_BOTH(are_not_taken_without_number)
FOR_BOTH(flood_without_harm)
FOR_BOTH(say_when_their_time_is_over)
FOR_BOTH(of_an_error_bring_no_error)
FOR_BOTH(share_their_congestion)
FOR_BOTH(of_a_ping_are_answered)

/* ---- of one family only ---- */

static void ip4_options_of_the_first_fragment_stay(void **state)
{
	choose(true);
	uint8_t copy[128];
	put(24, 64, false);
	size_t n = a_fragment_of(IP_PROTOCOL_TCP, peer, 0, 24, true);
	memcpy(copy, frame, n);
	memcpy(frame + 38, copy + 34, n - 34); /* room for four bytes of options */
	memset(frame + 34, 1, 4);
	frame[14] = 0x46;
	put_be16(frame + 16, (uint16_t)(n + 4 - 14));
	lab_fix_ip4(frame);
	lab_put(core, frame, n + 4);
	assert_int_equal(lab_tcp.arrivals, 1);
	assert_memory_equal(lab_tcp.data, datagram, 64);
}

/* RFC 1122 3.2.2.6 */
static void ip4_replies_longer_than_the_mtu_are_cut(void **state)
{
	choose(true);
	know_peer();
	memset(datagram, 0, 1800);
	datagram[0] = 8;
	datagram[2] = 0xf7;
	datagram[3] = 0xff;
	lab_put(core, frame, a_fragment_of(1, peer, 0, 1400, true));
	lab_put(core, frame, a_fragment_of(1, peer, 1400, 1800, false));
	struct bytes f = sent();
	assert_int_equal(f.n, 14 + 1500);
	assert_int_equal(rte_raw_cksum(f.at + 34, 1480), 0xffff);
}

static void ip4_protocols_are_told_apart(void **state)
{
	choose(true);
	put(0, 24, true);
	lab_put(core, frame, a_fragment_of(1, peer, 24, 64, false));
	assert_int_equal(lab_tcp.arrivals, 0);
	put(24, 64, false);
	assert_int_equal(lab_tcp.arrivals, 1);
}

/* RFC 1858: what begins within the TCP header would overwrite flags that a filter has seen. */
static void ip4_parts_within_the_tcp_header_are_dropped(void **state)
{
	choose(true);
	assert_refused(8, 64, false, COUNT_drop_fragment_tiny);
	assert_refused(16, 64, false, COUNT_drop_fragment_tiny);
}

static void ip6_headers_before_and_after_the_fragment_header_are_kept(void **state)
{
	/* Hop by hop, the fragment header; and in the fragmented part destination options. */
	uint8_t payload[200] = {44, 0, 1, 4, [8] = 60, [11] = 1, [12] = 1, 2, 3, 4};
	choose(false);
	payload[16] = IP_PROTOCOL_TCP;
	payload[18] = 1;
	payload[19] = 4;
	memcpy(payload + 24, datagram, 24);
	lab_put(core, frame, lab_ip6(frame, peer, ours, 0, bytes_of(payload, 48)));
	assert_int_equal(lab_tcp.arrivals, 0);
	id = 0x01020304;
	put(32, 72, false); /* whose first 32 bytes were options and 24 of the segment */
	assert_int_equal(lab_tcp.arrivals, 1);
	assert_int_equal(lab_tcp.n, 64);
	assert_memory_equal(lab_tcp.data, datagram, 24);
	assert_memory_equal(lab_tcp.data + 24, datagram + 32, 40);
}

static void ip6_first_fragments_without_all_headers_are_told_so(void **state)
{
	uint8_t payload[16] = {
		60, 0, 0, 1, [8] = 60, 1}; /* options that go on in the next fragment */
	choose(false);
	know_peer();
	lab_put(core, frame, lab_ip6(frame, peer, ours, 44, bytes_of(payload, 16)));
	struct bytes f = sent();
	assert_int_equal(f.at[54], 4);
	assert_int_equal(f.at[55], 3);
	assert_int_equal(get_be32(f.at + 58), 0);
	assert_int_equal(lab_counter(core, COUNT_drop_fragment_tiny), 1);
}

static void ip6_lengths_that_cannot_be_are_told_so(void **state)
{
	uint8_t payload[48] = {IP_PROTOCOL_TCP, 0, 0, 1};
	choose(false);
	know_peer();
	lab_put(core, frame, lab_ip6(frame, peer, ours, 44, bytes_of(payload, 8 + 39)));
	struct bytes f = sent(); /* no multiple of eight: the payload length is at fault */
	assert_int_equal(f.at[54], 4);
	assert_int_equal(f.at[55], 0);
	assert_int_equal(get_be32(f.at + 58), 4);
	put_be16(payload + 2, 0xfff8); /* beyond 65535: the offset is */
	lab_put(core, frame, lab_ip6(frame, peer, ours, 44, bytes_of(payload, 8 + 40)));
	f = sent();
	assert_int_equal(f.at[55], 0);
	assert_int_equal(get_be32(f.at + 58), 42);
	assert_int_equal(lab_counter(core, COUNT_drop_fragment_too_long), 1);
}

static void ip6_atomic_fragments_meet_no_others(void **state)
{
	choose(false);
	id = 7;
	put(0, 24, true);
	put(0, 30, false); /* RFC 6946: the same number, and yet a packet of its own */
	assert_int_equal(lab_tcp.arrivals, 1);
	assert_int_equal(lab_tcp.n, 30);
	put(24, 64, false);
	assert_int_equal(lab_tcp.arrivals, 2);
	assert_int_equal(lab_tcp.n, 64);
}

static void ip6_neighbour_discovery_in_fragments_is_dropped(void **state)
{
	uint8_t ns[32] = {135, [24] = 1, 1}, payload[40] = {58};
	choose(false);
	struct addr target = lab_addr(ours);
	memcpy(ns + 8, target.b, 16);
	memcpy(ns + 26, lab_peer_mac, 6);
	lab_icmp6_sum(ns, sizeof ns, peer, ours);
	memcpy(payload + 8, ns, sizeof ns);
	lab_put(core, frame, lab_ip6(frame, peer, ours, 44, bytes_of(payload, sizeof payload)));
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_fragment), 1);
	payload[3] = 1;
	lab_put(core, frame, lab_ip6(frame, peer, ours, 44, bytes_of(payload, 8 + 24)));
	put_be16(payload + 2, 24);
	memcpy(payload + 8, ns + 24, 8);
	lab_put(core, frame, lab_ip6(frame, peer, ours, 44, bytes_of(payload, 16)));
	assert_int_equal(lab_counter(core, COUNT_reassembled), 1);
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_fragment), 2);
	assert_int_equal(sent().n, 0);
}

/* A fragment header inside of what was fragmented. */
static void ip6_fragments_within_fragments_are_dropped(void **state)
{
	uint8_t payload[64] = {44, 0, 0, 1, [8] = IP_PROTOCOL_TCP, 0, 0, 1};
	choose(false);
	memcpy(payload + 16, datagram, 24);
	lab_put(core, frame, lab_ip6(frame, peer, ours, 44, bytes_of(payload, 40)));
	assert_int_equal(lab_counter(core, COUNT_reassembled), 0);
	assert_int_equal(lab_tcp.arrivals, 0);
	assert_int_equal(lab_counter(core, COUNT_drop_ip6_extension) +
			lab_counter(core, COUNT_drop_fragment_tiny) + in_the_making(),
		1);
}

static void what_is_put_together_goes_to_its_owner(void **state)
{
	unsigned taken = 0, of_second = 0;
	lab_close(dp);
	dp = lab_open(2);
	for (unsigned i = 0; i < 2; i++) {
		choose(i == 0);
		for (unsigned port = 0; port < 16; port++) {
			core = dp->cores[0];
			id++;
			datagram[0] = (uint8_t)(port + 1);
			struct addr local = lab_addr(ours), remote = lab_addr(peer);
			unsigned owner = steer_owner(dp, &local, 25, &remote, get_be16(datagram));
			put_be16(datagram + 2, 25);
			of_second += owner;
			put(0, 40, true);
			put(40, 60, false);
			steer_take(dp->cores[1], lab_now_us);
			assert_ptr_equal(lab_tcp.stack, dp->cores[owner]->tcp);
			assert_int_equal(lab_tcp.arrivals, ++taken);
			assert_memory_equal(lab_tcp.data, datagram, 60);
		}
	}
	assert_int_equal(lab_counter(dp->cores[0], COUNT_handed_over), of_second);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_lab, close_lab)
	const struct CMUnitTest tests[] = {
		CASE(fragments_come_in_every_order),
		CASE(fragments_are_told_apart),
		CASE(fragments_are_given_up),
		CASE(fragments_that_come_twice_do_no_harm),
		CASE(fragments_of_no_good_shape_are_dropped),
		CASE(fragments_are_not_taken_without_number),
		CASE(fragments_flood_without_harm),
		CASE(fragments_say_when_their_time_is_over),
		CASE(fragments_of_an_error_bring_no_error),
		CASE(fragments_share_their_congestion),
		CASE(fragments_of_a_ping_are_answered),
		CASE(ip4_options_of_the_first_fragment_stay),
		CASE(ip4_replies_longer_than_the_mtu_are_cut),
		CASE(ip4_protocols_are_told_apart),
		CASE(ip4_parts_within_the_tcp_header_are_dropped),
		CASE(ip6_headers_before_and_after_the_fragment_header_are_kept),
		CASE(ip6_first_fragments_without_all_headers_are_told_so),
		CASE(ip6_lengths_that_cannot_be_are_told_so),
		CASE(ip6_atomic_fragments_meet_no_others),
		CASE(ip6_neighbour_discovery_in_fragments_is_dropped),
		CASE(ip6_fragments_within_fragments_are_dropped),
		CASE(what_is_put_together_goes_to_its_owner),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
