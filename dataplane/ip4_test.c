// SPDX-License-Identifier: Apache-2.0
#include "dataplane/lab.h"

#include <rte_cksum.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PEER "192.0.2.99"
#define OURS "192.0.2.1"

static struct dp *dp;
static struct dp_core *core;
static uint8_t frame[4096];

static int open_lab(void **state)
{
	dp = lab_open(1);
	core = dp->cores[0];
	return 0;
}

static int close_lab(void **state)
{
	lab_close(dp);
	return 0;
}

/* A TCP segment is not looked into here: 20 bytes with ports will do. */
static const uint8_t segment[24] = {0x04, 0x00, 0x00, 0x19, [12] = 0x50};

static size_t a_segment(const char *from, const char *to)
{
	return lab_ip4(frame, from, to, IP_PROTOCOL_TCP, bytes_of(segment, sizeof segment));
}

static void assert_dropped(size_t n, enum dp_counter reason)
{
	uint64_t before = lab_counter(core, reason);
	unsigned arrivals = lab_tcp.arrivals;
	lab_put(core, frame, n);
	assert_int_equal(lab_counter(core, reason), before + 1);
	assert_int_equal(lab_tcp.arrivals, arrivals);
}

static void a_segment_reaches_tcp_without_its_headers_and_padding(void **state)
{
	size_t n = a_segment(PEER, OURS);
	frame[15] = 0x03; /* ECN: CE */
	lab_fix_ip4(frame);
	lab_put(core, frame, n + 6); /* Ethernet pads to 60 */
	assert_int_equal(lab_tcp.arrivals, 1);
	assert_int_equal(lab_tcp.n, sizeof segment);
	assert_memory_equal(lab_tcp.data, segment, sizeof segment);
	struct addr local = lab_addr(OURS), remote = lab_addr(PEER);
	assert_true(addr_equal(&lab_tcp.arrival.local, &local));
	assert_true(addr_equal(&lab_tcp.arrival.remote, &remote));
	assert_int_equal(lab_tcp.arrival.ecn, 3);
	assert_false(lab_tcp.arrival.is_checksum_good);
}

static void every_local_address_is_ours_and_no_other(void **state)
{
	lab_put(core, frame, a_segment(PEER, "192.0.2.2"));
	assert_int_equal(lab_tcp.arrivals, 1);
	assert_dropped(a_segment(PEER, "192.0.2.3"), COUNT_drop_ip4_not_ours);
	assert_dropped(a_segment(PEER, "198.51.100.1"), COUNT_drop_ip4_not_ours);
}

static void frames_to_others_are_dropped(void **state)
{
	size_t n = a_segment(PEER, OURS);
	frame[5] ^= 1;
	assert_dropped(n, COUNT_drop_ether_not_ours);
	n = a_segment(PEER, OURS);
	put_be16(frame + 12, 0x8100);
	assert_dropped(n, COUNT_drop_ether_type);
}

static void a_unicast_packet_in_a_broadcast_frame_is_dropped(void **state)
{
	size_t n = a_segment(PEER, OURS);
	memset(frame, 0xff, 6);
	assert_dropped(n, COUNT_drop_ip4_broadcast);
}

static void every_cut_of_a_packet_is_dropped(void **state)
{
	size_t n = a_segment(PEER, OURS);
	for (size_t cut = 0; cut < n; cut++)
		assert_dropped(cut, cut < 14 ? COUNT_drop_ether_short : COUNT_drop_ip4_short);
}

static void headers_that_contradict_themselves_are_dropped(void **state)
{
	/* clang-format off */
	static const struct {
		size_t at;
		uint8_t value;
		enum dp_counter reason;
	} cases[] = {
		{0, 0x55, COUNT_drop_ip4_header},	/* version */
		{0, 0x44, COUNT_drop_ip4_header},	/* header shorter than 20 */
		{0, 0x4f, COUNT_drop_ip4_header},	/* header longer than the packet */
		{3, 19, COUNT_drop_ip4_header},		/* total shorter than the header */
		{3, 200, COUNT_drop_ip4_short},		/* total longer than the frame */
		{6, 0x40, COUNT_END},			/* do not fragment: fine */
	};
	/* clang-format on */
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t n = a_segment(PEER, OURS);
		frame[14 + cases[i].at] = cases[i].value;
		if ((frame[14] & 15) == 5)
			lab_fix_ip4(frame);
		if (cases[i].reason != COUNT_END)
			assert_dropped(n, cases[i].reason);
		else
			lab_put(core, frame, n);
	}
	assert_int_equal(lab_tcp.arrivals, 1);
}

static void every_flipped_header_bit_is_noticed(void **state)
{
	for (unsigned bit = 0; bit < 160; bit++) {
		size_t n = a_segment(PEER, OURS);
		frame[14 + bit / 8] ^= (uint8_t)(1 << bit % 8);
		lab_put(core, frame, n);
		assert_int_equal(lab_tcp.arrivals, 0);
	}
}

static void impossible_sources_are_dropped(void **state)
{
	static const char *const sources[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1",
		"240.0.0.1", "255.255.255.255", OURS, "192.0.2.2", "192.0.2.255", "192.0.2.0"};
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		assert_dropped(a_segment(sources[i], OURS), COUNT_drop_ip4_source);
}

static void broadcasts_and_groups_are_dropped(void **state)
{
	static const char *const targets[] = {
		"255.255.255.255", "192.0.2.255", "192.0.2.0", "224.0.0.1"};
	for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
		assert_dropped(a_segment(PEER, targets[i]), COUNT_drop_ip4_broadcast);
}

/* Makes room for options in a segment's packet. */
static size_t with_options(const uint8_t *options, size_t n)
{
	uint8_t payload[128];
	memcpy(payload, options, n);
	memcpy(payload + n, segment, sizeof segment);
	size_t all =
		lab_ip4(frame, PEER, OURS, IP_PROTOCOL_TCP, bytes_of(payload, n + sizeof segment));
	frame[14] = (uint8_t)(0x45 + n / 4);
	lab_fix_ip4(frame);
	return all;
}

static void options_are_skipped_but_source_routes_are_not_followed(void **state)
{
	/* clang-format off */
	static const struct {
		uint8_t options[8];
		bool is_fine;
	} cases[] = {
		{{1, 1, 1, 1, 1, 1, 1, 0}, true},
		{{7, 7, 4, 0, 0, 0, 0, 0}, true},	/* record route */
		{{148, 4, 0, 0, 0, 9, 9, 9}, true},	/* router alert, end, rubbish behind it */
		{{131, 7, 4, 0, 0, 0, 0, 0}, false},	/* loose source route */
		{{1, 137, 7, 4, 0, 0, 0, 0}, false},	/* strict */
		{{7, 0, 0, 0, 0, 0, 0, 0}, false},	/* lengths that do not add up */
		{{7, 1, 0, 0, 0, 0, 0, 0}, false},
		{{7, 9, 0, 0, 0, 0, 0, 0}, false},
		{{1, 1, 1, 1, 1, 1, 1, 7}, false},
	};
	/* clang-format on */
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		unsigned before = lab_tcp.arrivals;
		size_t n = with_options(cases[i].options, 8);
		if (!cases[i].is_fine) {
			assert_dropped(n, COUNT_drop_ip4_option);
			continue;
		}
		lab_put(core, frame, n);
		assert_int_equal(lab_tcp.arrivals, before + 1);
		assert_int_equal(lab_tcp.n, sizeof segment);
	}
}

/* ---- ICMP ---- */

static uint16_t sum(const uint8_t *p, size_t n)
{
	uint32_t s = 0;
	for (size_t i = 0; i < n; i++)
		s += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
	while (s >> 16 != 0)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static size_t icmp(const uint8_t *message, size_t n)
{
	uint8_t copy[2048];
	memcpy(copy, message, n);
	put_be16(copy + 2, 0);
	put_be16(copy + 2, (uint16_t)~sum(copy, n));
	return lab_ip4(frame, PEER, OURS, IP_PROTOCOL_ICMP, bytes_of(copy, n));
}

/* The neighbour is known, so that what is sent goes at once. */
static void know_peer(void)
{
	uint8_t arp[64];
	lab_put(core, arp, lab_arp(arp, lab_mac, 1, lab_peer_mac, PEER, OURS));
	assert_int_equal(lab_sent(core).n, 42); /* our reply */
}

/* What we send next, past the resolver's question whether the peer is still there. */
static struct bytes sent_ip(void)
{
	struct bytes f;
	do
		f = lab_sent(core);
	while (f.n > 0 && get_be16(f.at + 12) == 0x0806);
	return f;
}

static void echo_requests_of_every_length_are_answered(void **state)
{
	static const size_t lengths[] = {8, 9, 64, 1001, 1480};
	uint8_t request[1500] = {8, 0, 0, 0, 0x12, 0x34, 0, 7};
	know_peer();
	for (size_t i = 8; i < sizeof request; i++)
		request[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		lab_put(core, frame, icmp(request, lengths[i]));
		struct bytes f = sent_ip();
		assert_int_equal(f.n, 34 + lengths[i]);
		assert_memory_equal(f.at, lab_peer_mac, 6);
		assert_memory_equal(f.at + 6, lab_mac, 6);
		assert_int_equal(sum(f.at + 14, 20), 0xffff);
		assert_int_equal(sum(f.at + 34, lengths[i]), 0xffff);
		assert_int_equal(f.at[34], 0);
		assert_memory_equal(f.at + 38, request + 4, lengths[i] - 4);
	}
	assert_int_equal(lab_counter(core, COUNT_icmp_echo_replies), 5);
}

static void icmp_with_a_wrong_checksum_or_cut_short_is_dropped(void **state)
{
	uint8_t request[12] = {8};
	size_t n = icmp(request, sizeof request);
	frame[40] ^= 1;
	assert_dropped(n, COUNT_drop_icmp_checksum);
	assert_dropped(icmp(request, 7), COUNT_drop_icmp_short);
	uint8_t odd[8] = {13};
	assert_dropped(icmp(odd, sizeof odd), COUNT_drop_icmp_type);
}

/* An ICMP error about a packet with our address as its source, `tcp` bytes of it quoted. */
static size_t icmp_error(uint8_t type, uint8_t code, uint16_t mtu, size_t tcp)
{
	uint8_t quoted[128], message[128] = {type, code};
	size_t n = lab_ip4(
		quoted, OURS, "198.51.100.25", IP_PROTOCOL_TCP, bytes_of(segment, sizeof segment));
	put_be16(message + 6, mtu);
	memcpy(message + 8, quoted + 14, n - 14);
	return icmp(message, 8 + 20 + tcp);
}

static void errors_about_our_segments_reach_tcp(void **state)
{
	/* clang-format off */
	static const struct {
		uint8_t type, code;
		uint16_t mtu;
		enum tcp_icmp kind;
		uint32_t told;
	} cases[] = {
		{3, 0, 0, TCP_ICMP_SOFT, 0},	     {3, 1, 0, TCP_ICMP_SOFT, 0},
		{3, 2, 0, TCP_ICMP_HARD, 0},	     {3, 3, 0, TCP_ICMP_HARD, 0},
		{3, 4, 1400, TCP_ICMP_TOO_BIG, 1400}, {3, 4, 0, TCP_ICMP_TOO_BIG, 0},
		{3, 13, 0, TCP_ICMP_HARD, 0},	     {11, 0, 9, TCP_ICMP_SOFT, 0},
		{12, 0, 9, TCP_ICMP_SOFT, 0},
	};
	/* clang-format on */
	struct addr local = lab_addr(OURS), remote = lab_addr("198.51.100.25");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		lab_put(core, frame, icmp_error(cases[i].type, cases[i].code, cases[i].mtu, 8));
		assert_int_equal(lab_tcp.errors, i + 1);
		assert_int_equal(lab_tcp.kind, cases[i].kind);
		assert_int_equal(lab_tcp.mtu, cases[i].told);
		assert_int_equal(lab_tcp.n, 8);
		assert_memory_equal(lab_tcp.data, segment, 8);
		assert_true(addr_equal(&lab_tcp.local, &local));
		assert_true(addr_equal(&lab_tcp.remote, &remote));
	}
}

/* The quote is one of a first fragment (a router has cut it), or has options. */
static void errors_that_quote_fragments_or_options_are_read(void **state)
{
	size_t n = icmp_error(3, 4, 1400, 8);
	frame[14 + 20 + 8 + 6] = 0x20; /* more fragments */
	frame[14 + 20 + 2] = frame[14 + 20 + 3] = 0;
	uint16_t sum = (uint16_t)~rte_raw_cksum(frame + 34, n - 34);
	memcpy(frame + 36, &sum, 2);
	lab_put(core, frame, n);
	assert_int_equal(lab_tcp.errors, 1);
	frame[14 + 20 + 8 + 7] = 1; /* a later one: no ports */
	frame[14 + 20 + 2] = frame[14 + 20 + 3] = 0;
	sum = (uint16_t)~rte_raw_cksum(frame + 34, n - 34);
	memcpy(frame + 36, &sum, 2);
	assert_dropped(n, COUNT_drop_icmp_quote);

	uint8_t quoted[128], message[128] = {3, 3};
	n = lab_ip4(quoted, OURS, "198.51.100.25", IP_PROTOCOL_TCP, bytes_of(segment, sizeof segment));
	memcpy(message + 8, quoted + 14, 20);
	message[8] = 0x46;
	memset(message + 28, 1, 4);
	memcpy(message + 32, segment, sizeof segment);
	lab_put(core, frame, icmp(message, 32 + 8));
	assert_int_equal(lab_tcp.errors, 2);
	assert_memory_equal(lab_tcp.data, segment, 8);
	message[8] = 0x4f; /* options beyond what is quoted */
	assert_dropped(icmp(message, 32 + 8), COUNT_drop_icmp_quote);
}

static void errors_that_quote_nothing_of_ours_are_dropped(void **state)
{
	assert_dropped(icmp_error(3, 3, 0, 7), COUNT_drop_icmp_quote);
	assert_dropped(icmp_error(3, 4, 67, 8), COUNT_drop_icmp_mtu);
	size_t n = icmp_error(3, 3, 0, 8);
	frame[14 + 20 + 8 + 12] = 198; /* the quoted source */
	put_be16(frame + 36, 0);
	put_be16(frame + 36, (uint16_t)~sum(frame + 34, n - 34));
	assert_dropped(n, COUNT_drop_icmp_quote);
	uint8_t empty[8] = {3, 3};
	assert_dropped(icmp(empty, sizeof empty), COUNT_drop_icmp_quote);
}

static void an_unknown_udp_port_is_unreachable(void **state)
{
	static const uint8_t datagram[12] = {0x12, 0x34, 0, 53, 0, 12};
	know_peer();
	assert_dropped(
		lab_ip4(frame, PEER, OURS, IP_PROTOCOL_UDP, bytes_of(datagram, sizeof datagram)),
		COUNT_drop_udp);
	struct bytes f = sent_ip();
	assert_int_equal(f.n, 14 + 20 + 8 + 20 + 12);
	assert_int_equal(f.at[34], 3);
	assert_int_equal(f.at[35], 3);
	assert_int_equal(sum(f.at + 34, f.n - 34), 0xffff);
	assert_memory_equal(f.at + 42, frame + 14, 32); /* the quote */
}

static void an_unknown_protocol_is_unreachable(void **state)
{
	static const uint8_t sctp[12];
	know_peer();
	assert_dropped(
		lab_ip4(frame, PEER, OURS, 132, bytes_of(sctp, sizeof sctp)), COUNT_drop_protocol);
	struct bytes f = sent_ip();
	assert_int_equal(f.at[34], 3);
	assert_int_equal(f.at[35], 2);
}

static void errors_are_limited_in_rate(void **state)
{
	static const uint8_t datagram[12] = {0x12, 0x34, 0, 53, 0, 12};
	unsigned answered = 0;
	know_peer();
	for (unsigned i = 0; i < 1000; i++) {
		lab_put(core, frame,
			lab_ip4(frame, PEER, OURS, IP_PROTOCOL_UDP,
				bytes_of(datagram, sizeof datagram)));
		answered += sent_ip().n > 0;
	}
	assert_in_range(answered, 1, 20);
	assert_int_equal(lab_counter(core, COUNT_icmp_errors_limited), 1000 - answered);
	lab_now_us += 10 * 1000; /* a hundredth of a second: one more */
	for (unsigned i = 0; i < 10; i++)
		lab_put(core, frame,
			lab_ip4(frame, PEER, OURS, IP_PROTOCOL_UDP,
				bytes_of(datagram, sizeof datagram)));
	assert_int_equal(lab_counter(core, COUNT_icmp_errors_out), answered + 1);
}

/* ---- out ---- */

static void what_tcp_sends_goes_by_the_router_with_a_right_header(void **state)
{
	uint8_t arp[64];
	lab_put(core, arp, lab_arp(arp, lab_mac, 1, lab_peer_mac, "192.0.2.254", OURS));
	lab_sent(core);
	lab_depart(core, OURS, "198.51.100.25", bytes_of(segment, sizeof segment));
	struct tcp_departure d;
	assert_int_equal(tcp_take(core->tcp, &d, 1), 1);
	ip_output(core, d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
	struct bytes f = sent_ip();
	assert_int_equal(f.n, 34 + sizeof segment);
	assert_memory_equal(f.at, lab_peer_mac, 6);
	assert_int_equal(get_be16(f.at + 16), 20 + sizeof segment);
	assert_int_equal(sum(f.at + 14, 20), 0xffff);
	assert_int_equal(f.at[20], 0x40); /* DF */
	assert_int_equal(f.at[23], IP_PROTOCOL_TCP);
	assert_memory_equal(f.at + 34, segment, sizeof segment);
}

static void send(const char *from, const char *to, size_t n)
{
	static const uint8_t zeros[1600];
	struct tcp_departure d;
	lab_depart(core, from, to, bytes_of(zeros, n));
	assert_int_equal(tcp_take(core->tcp, &d, 1), 1);
	ip_output(core, d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
}

static void what_does_not_fit_or_has_no_way_is_dropped(void **state)
{
	send(OURS, PEER, 1481);
	assert_int_equal(lab_counter(core, COUNT_drop_tx_too_long), 1);
	send(OURS, "192.0.2.2", 20);
	assert_int_equal(lab_counter(core, COUNT_drop_to_ourselves), 1);
	send(OURS, "224.0.0.1", 20);
	assert_int_equal(lab_counter(core, COUNT_drop_no_route), 1);
	dp->route_count = 0;
	send(OURS, PEER, 20);
	assert_int_equal(lab_counter(core, COUNT_drop_no_route), 2);
	assert_int_equal(lab_sent(core).n, 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_lab, close_lab)
	const struct CMUnitTest tests[] = {
		CASE(a_segment_reaches_tcp_without_its_headers_and_padding),
		CASE(every_local_address_is_ours_and_no_other),
		CASE(frames_to_others_are_dropped),
		CASE(a_unicast_packet_in_a_broadcast_frame_is_dropped),
		CASE(every_cut_of_a_packet_is_dropped),
		CASE(headers_that_contradict_themselves_are_dropped),
		CASE(every_flipped_header_bit_is_noticed),
		CASE(impossible_sources_are_dropped),
		CASE(broadcasts_and_groups_are_dropped),
		CASE(options_are_skipped_but_source_routes_are_not_followed),
		CASE(echo_requests_of_every_length_are_answered),
		CASE(icmp_with_a_wrong_checksum_or_cut_short_is_dropped),
		CASE(errors_about_our_segments_reach_tcp),
		CASE(errors_that_quote_fragments_or_options_are_read),
		CASE(errors_that_quote_nothing_of_ours_are_dropped),
		CASE(an_unknown_udp_port_is_unreachable),
		CASE(an_unknown_protocol_is_unreachable),
		CASE(errors_are_limited_in_rate),
		CASE(what_tcp_sends_goes_by_the_router_with_a_right_header),
		CASE(what_does_not_fit_or_has_no_way_is_dropped),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
