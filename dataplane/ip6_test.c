// SPDX-License-Identifier: Apache-2.0
#include "dataplane/lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PEER "2001:db8::99"
#define OURS "2001:db8::1"

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

static const uint8_t segment[24] = {0x04, 0x00, 0x00, 0x19, [12] = 0x50};

static void assert_dropped(size_t n, enum dp_counter reason)
{
	uint64_t before = lab_counter(core, reason);
	unsigned arrivals = lab_tcp.arrivals;
	lab_put(core, frame, n);
	assert_int_equal(lab_counter(core, reason), before + 1);
	assert_int_equal(lab_tcp.arrivals, arrivals);
}

static size_t a_segment(const char *from, const char *to)
{
	return lab_ip6(frame, from, to, IP_PROTOCOL_TCP, bytes_of(segment, sizeof segment));
}

/* A packet with these bytes of extension headers before a segment. */
static size_t with_extensions(uint8_t first, const void *headers, size_t n)
{
	uint8_t payload[1400];
	memcpy(payload, headers, n);
	memcpy(payload + n, segment, sizeof segment);
	return lab_ip6(frame, PEER, OURS, first, bytes_of(payload, n + sizeof segment));
}

/* The neighbour is known, so that what is sent goes at once. */
static void know_peer(void)
{
	uint8_t ns[32] = {135, [24] = 1, 1};
	struct addr target = lab_addr(OURS);
	memcpy(ns + 8, target.b, 16);
	memcpy(ns + 26, lab_peer_mac, 6);
	lab_icmp6_sum(ns, sizeof ns, PEER, OURS);
	lab_put(core, frame, lab_ip6(frame, PEER, OURS, 58, bytes_of(ns, sizeof ns)));
	assert_int_equal(lab_sent(core).n, 14 + 40 + 32);
}

static void a_segment_reaches_tcp_without_its_headers_and_padding(void **state)
{
	size_t n = a_segment(PEER, OURS);
	frame[15] = 0x20; /* traffic class: ECN ECT(0) */
	lab_put(core, frame, n + 9);
	assert_int_equal(lab_tcp.arrivals, 1);
	assert_int_equal(lab_tcp.n, sizeof segment);
	assert_memory_equal(lab_tcp.data, segment, sizeof segment);
	struct addr local = lab_addr(OURS), remote = lab_addr(PEER);
	assert_true(addr_equal(&lab_tcp.arrival.local, &local));
	assert_true(addr_equal(&lab_tcp.arrival.remote, &remote));
	assert_int_equal(lab_tcp.arrival.ecn, 2);
}

static void every_cut_of_a_packet_is_dropped(void **state)
{
	size_t n = a_segment(PEER, OURS);
	for (size_t cut = 0; cut < n; cut++)
		assert_dropped(cut, cut < 14 ? COUNT_drop_ether_short : COUNT_drop_ip6_short);
}

static void wrong_headers_and_addresses_are_dropped(void **state)
{
	/* clang-format off */
	static const struct {
		const char *from, *to;
		enum dp_counter reason;
	} cases[] = {
		{PEER, "2001:db8::2", COUNT_drop_ip6_not_ours},
		{PEER, "::ffff:192.0.2.1", COUNT_drop_ip6_not_ours}, /* not IPv4 by the back door */
		{PEER, "ff02::2", COUNT_drop_ip6_not_ours},
		{PEER, "ff02::1:ff12:3456", COUNT_drop_ip6_not_ours},
		{PEER, "ff02::1", COUNT_drop_ip6_multicast},
		{PEER, "ff02::1:ff00:1", COUNT_drop_ip6_multicast},
		{"ff02::1", OURS, COUNT_drop_ip6_source},
		{"::1", OURS, COUNT_drop_ip6_source},
		{"::", OURS, COUNT_drop_ip6_source},
		{"::ffff:192.0.2.9", OURS, COUNT_drop_ip6_source},
		{OURS, OURS, COUNT_drop_ip6_source},
	};
	/* clang-format on */
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_dropped(a_segment(cases[i].from, cases[i].to), cases[i].reason);
	size_t n = a_segment(PEER, OURS);
	frame[14] = 0x50;
	assert_dropped(n, COUNT_drop_ip6_header);
	n = lab_ip6(frame, PEER, OURS, 0, bytes_of(segment, 0)); /* a jumbo's header */
	assert_dropped(n, COUNT_drop_ip6_header);
	n = a_segment(PEER, OURS);
	frame[0] = 0x33;
	assert_dropped(n, COUNT_drop_ip6_multicast);
}

static void an_address_under_test_is_not_yet_ours(void **state)
{
	dp->ports[0].addrs[2].state = ADDR_TENTATIVE;
	assert_dropped(a_segment(PEER, OURS), COUNT_drop_ip6_not_ours);
	dp->ports[0].addrs[2].state = ADDR_DUPLICATE;
	assert_dropped(a_segment(PEER, OURS), COUNT_drop_ip6_not_ours);
}

static void extension_headers_are_walked(void **state)
{
	/* clang-format off */
	static const struct {
		uint8_t first, headers[40];
		size_t n;
	} fine[] = {
		{0, {6, 0, 1, 4}, 8},				/* hop by hop: PadN */
		{0, {60, 0, 0, 0, 0, 0, 0, 0, 6, 1, 1, 12}, 24}, /* then destination options */
		{60, {6, 0, 0x1e, 4, 1, 2, 3, 4}, 8},		/* an unknown option: skip */
		{43, {6, 0, 4, 0}, 8},				/* a route at its end */
		{44, {6, 0, 0, 0, 1, 2, 3, 4}, 8},		/* an atomic fragment */
		{0, {43, 0, 1, 4, [8] = 44, 0, 0, 0, [16] = 60, 0, 0, 0, [24] = 6, 0, 1, 4}, 32},
	};
	/* clang-format on */
	for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
		lab_put(core, frame, with_extensions(fine[i].first, fine[i].headers, fine[i].n));
		assert_int_equal(lab_tcp.arrivals, i + 1);
		assert_int_equal(lab_tcp.n, sizeof segment);
		assert_memory_equal(lab_tcp.data, segment, sizeof segment);
	}
}

static void extension_headers_out_of_order_or_cut_are_dropped(void **state)
{
	/* clang-format off */
	static const struct {
		uint8_t first, headers[24];
		size_t n;
		enum dp_counter reason;
	} cases[] = {
		{60, {0, 0, 1, 4, [8] = 6, 0, 1, 4}, 16, COUNT_drop_ip6_extension}, /* hop by hop second */
		{60, {6, 200, 1, 4}, 8, COUNT_drop_ip6_extension},	/* longer than the packet */
		{60, {6, 0, 1, 5}, 8, COUNT_drop_ip6_extension},	/* an option longer than its header */
		{60, {6, 0, 1, 3, 0, 0, 0, 5}, 8, COUNT_drop_ip6_extension}, /* an option without length */
		{43, {6, 0, 0, 1}, 8, COUNT_drop_ip6_routing},
		{59, {0}, 8, COUNT_drop_ip6_none},
		{60, {6, 0, 0x40, 4}, 8, COUNT_drop_ip6_option},	/* 01: discard */
	};
	/* clang-format on */
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_dropped(with_extensions(cases[i].first, cases[i].headers, cases[i].n),
			cases[i].reason);
}

static void every_cut_within_extensions_is_dropped(void **state)
{
	uint8_t headers[16] = {60, 0, 1, 4, [8] = 6, 0, 1, 4}, payload[40];
	memcpy(payload, headers, 16);
	memcpy(payload + 16, segment, sizeof segment);
	for (size_t n = 0; n < 16; n++) {
		if (n == 0)
			continue; /* a payload of 0 with hop by hop says jumbo */
		assert_dropped(lab_ip6(frame, PEER, OURS, 0, bytes_of(payload, n)),
			COUNT_drop_ip6_extension);
	}
	for (size_t n = 16; n < 36; n++)
		assert_dropped(
			lab_ip6(frame, PEER, OURS, 0, bytes_of(payload, n)), COUNT_drop_tcp_short);
}

static void too_many_extensions_are_dropped(void **state)
{
	uint8_t headers[9 * 8] = {0};
	for (size_t i = 0; i < 9; i++)
		memcpy(headers + 8 * i, (uint8_t[]){60, 0, 1, 4}, 4);
	headers[8 * 7] = 6;
	lab_put(core, frame, with_extensions(60, headers, 8 * 8));
	assert_int_equal(lab_tcp.arrivals, 1);
	headers[8 * 7] = 60;
	headers[8 * 8] = 6;
	assert_dropped(with_extensions(60, headers, 9 * 8), COUNT_drop_ip6_extension);

	uint8_t options[8 * 4] = {6, 3};
	for (size_t i = 0; i < 15; i++)
		options[2 + 2 * i] = 0x1e; /* unknown, of no length; eight are allowed */
	assert_dropped(with_extensions(60, options, sizeof options), COUNT_drop_ip6_extension);
}

static void the_bytes_of_extensions_are_limited(void **state)
{
	uint8_t headers[600] = {60, 255 / 8, 1, 253};
	size_t n = (headers[1] + 1u) * 8; /* 256 */
	headers[n] = 60; /* a second one begins within the limit, a third does not */
	headers[n + 1] = 0;
	headers[n + 2] = 1;
	headers[n + 3] = 4;
	headers[n + 8] = 6;
	headers[n + 10] = 1;
	headers[n + 11] = 4;
	assert_dropped(with_extensions(60, headers, n + 16), COUNT_drop_ip6_extension);
}

/* ---- ICMPv6 ---- */

static size_t icmp6(uint8_t *message, size_t n, const char *from, const char *to)
{
	lab_icmp6_sum(message, n, from, to);
	return lab_ip6(frame, from, to, 58, bytes_of(message, n));
}

static struct bytes sent_ip(void)
{
	struct bytes f;
	do
		f = lab_sent(core);
	while (f.n > 54 && f.at[54] >= 133 && f.at[54] <= 137);
	return f;
}

static void assert_good_icmp6(struct bytes f)
{
	struct addr from, to;
	memcpy(from.b, f.at + 22, 16);
	memcpy(to.b, f.at + 38, 16);
	uint8_t copy[2048];
	char a[ADDR_TEXT_MAX], b[ADDR_TEXT_MAX];
	memcpy(copy, f.at + 54, f.n - 54);
	lab_icmp6_sum(copy, f.n - 54, addr_format(&from, a), addr_format(&to, b));
	assert_memory_equal(copy, f.at + 54, f.n - 54);
}

static void echo_requests_of_every_length_are_answered(void **state)
{
	static const size_t lengths[] = {8, 9, 64, 1001, 1460};
	know_peer();
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		uint8_t request[1500] = {128, 0, 0, 0, 0x12, 0x34, 0, 7};
		for (size_t j = 8; j < lengths[i]; j++)
			request[j] = (uint8_t)(j * 7);
		lab_put(core, frame, icmp6(request, lengths[i], PEER, OURS));
		struct bytes f = sent_ip();
		assert_int_equal(f.n, 54 + lengths[i]);
		assert_int_equal(f.at[54], 129);
		assert_memory_equal(f.at + 58, request + 4, lengths[i] - 4);
		assert_good_icmp6(f);
	}
}

static void icmp6_with_a_wrong_checksum_or_cut_short_is_dropped(void **state)
{
	uint8_t request[12] = {128};
	size_t n = icmp6(request, sizeof request, PEER, OURS);
	frame[60] ^= 1;
	assert_dropped(n, COUNT_drop_icmp_checksum);
	assert_dropped(icmp6(request, 7, PEER, OURS), COUNT_drop_icmp_short);
	request[0] = 200;
	assert_dropped(icmp6(request, sizeof request, PEER, OURS), COUNT_drop_icmp_type);
	request[0] = 128;
	assert_dropped(icmp6(request, sizeof request, PEER, "ff02::1"), COUNT_drop_ip6_multicast);
	assert_dropped(icmp6(request, sizeof request, "::", OURS), COUNT_drop_ip6_source);
}

/* An error about a segment of ours, behind a destination options header. */
static size_t an_icmp6_error(uint8_t type, uint8_t code, uint32_t parameter, size_t tcp)
{
	uint8_t quoted[128], payload[64] = {6, 0, 1, 4}, message[256] = {type, code};
	memcpy(payload + 8, segment, sizeof segment);
	size_t n =
		lab_ip6(quoted, OURS, "2001:db8:1::25", 60, bytes_of(payload, 8 + sizeof segment));
	put_be32(message + 4, parameter);
	memcpy(message + 8, quoted + 14, n - 14);
	return icmp6(message, 8 + 40 + 8 + tcp, PEER, OURS);
}

static void errors_about_our_segments_reach_tcp(void **state)
{
	/* clang-format off */
	static const struct {
		uint8_t type, code;
		uint32_t parameter;
		enum tcp_icmp kind;
		uint32_t told;
	} cases[] = {
		{1, 0, 0, TCP_ICMP_SOFT, 0},		{1, 1, 0, TCP_ICMP_HARD, 0},
		{1, 3, 0, TCP_ICMP_SOFT, 0},		{1, 4, 0, TCP_ICMP_HARD, 0},
		{2, 0, 1280, TCP_ICMP_TOO_BIG, 1280},	{3, 0, 0, TCP_ICMP_SOFT, 0},
		{4, 0, 9, TCP_ICMP_SOFT, 0},		{4, 1, 6, TCP_ICMP_HARD, 0},
	};
	/* clang-format on */
	struct addr local = lab_addr(OURS), remote = lab_addr("2001:db8:1::25");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		lab_put(core, frame,
			an_icmp6_error(cases[i].type, cases[i].code, cases[i].parameter, 8));
		assert_int_equal(lab_tcp.errors, i + 1);
		assert_int_equal(lab_tcp.kind, cases[i].kind);
		assert_int_equal(lab_tcp.mtu, cases[i].told);
		assert_memory_equal(lab_tcp.data, segment, 8);
		assert_true(addr_equal(&lab_tcp.local, &local));
		assert_true(addr_equal(&lab_tcp.remote, &remote));
	}
	assert_dropped(an_icmp6_error(1, 4, 0, 7), COUNT_drop_icmp_quote);
	assert_dropped(an_icmp6_error(2, 0, 1279, 8), COUNT_drop_icmp_mtu);
}

static void errors_that_quote_a_first_fragment_are_read(void **state)
{
	for (unsigned field = 1; field <= 9; field += 8) { /* more; more, and an offset */
		uint8_t quoted[128], payload[64] = {6, 0, 0, (uint8_t)field}, message[256] = {1, 4};
		memcpy(payload + 8, segment, sizeof segment);
		size_t n = lab_ip6(
			quoted, OURS, "2001:db8:1::25", 44, bytes_of(payload, 8 + sizeof segment));
		memcpy(message + 8, quoted + 14, n - 14);
		n = icmp6(message, 8 + n - 14, PEER, OURS);
		if (field == 1)
			lab_put(core, frame, n);
		else
			assert_dropped(n, COUNT_drop_icmp_quote);
		assert_int_equal(lab_tcp.errors, 1);
		assert_memory_equal(lab_tcp.data, segment, 8);
	}
}

static void bad_packets_are_told_why(void **state)
{
	static const uint8_t datagram[12] = {0x12, 0x34, 0, 53, 0, 12};
	/* clang-format off */
	static const struct {
		uint8_t first, headers[8];
		uint8_t type, code, pointer;
	} cases[] = {
		{60, {6, 0, 0x80, 4}, 4, 2, 42},	/* 10: discard and say so */
		{60, {6, 0, 0xc0, 4}, 4, 2, 42},	/* 11: the same, as it came to us alone */
		{43, {6, 0, 0, 1}, 4, 0, 42},		/* segments left */
		{132, {0}, 4, 1, 6},			/* a protocol we have not */
		{60, {132, 0, 1, 4}, 4, 1, 40},		/* the same, behind an extension */
		{60, {0, 0, 1, 4}, 4, 1, 40},		/* hop by hop is only known in the first place */
	};
	/* clang-format on */
	know_peer();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		lab_put(core, frame, with_extensions(cases[i].first, cases[i].headers, 8));
		struct bytes f = sent_ip();
		assert_int_equal(f.n, 54 + 8 + 40 + 8 + sizeof segment);
		assert_int_equal(f.at[54], cases[i].type);
		assert_int_equal(f.at[55], cases[i].code);
		assert_int_equal(get_be32(f.at + 58), cases[i].pointer);
		assert_good_icmp6(f);
	}
	lab_put(core, frame, lab_ip6(frame, PEER, OURS, 17, bytes_of(datagram, sizeof datagram)));
	struct bytes f = sent_ip();
	assert_int_equal(f.at[54], 1);
	assert_int_equal(f.at[55], 4);
	assert_good_icmp6(f);
	assert_memory_equal(f.at + 62, frame + 14, 52);
	/* Nobody is told about what was sent to a group, and no error about an error. */
	uint64_t before = lab_counter(core, COUNT_icmp_errors_out);
	assert_dropped(lab_ip6(frame, PEER, "ff02::1", 17, bytes_of(datagram, sizeof datagram)),
		COUNT_drop_ip6_multicast);
	assert_int_equal(lab_counter(core, COUNT_icmp_errors_out), before);
}

static void an_error_hidden_behind_options_is_not_answered(void **state)
{
	uint8_t payload[32] = {58, 0, 0x80, 4, [8] = 1};
	uint64_t before = lab_counter(core, COUNT_icmp_errors_out);
	know_peer();
	assert_dropped(lab_ip6(frame, PEER, OURS, 60, bytes_of(payload, sizeof payload)),
		COUNT_drop_ip6_option);
	assert_int_equal(lab_counter(core, COUNT_icmp_errors_out), before);
	payload[8] = 128; /* but an echo request is */
	assert_dropped(lab_ip6(frame, PEER, OURS, 60, bytes_of(payload, sizeof payload)),
		COUNT_drop_ip6_option);
	assert_int_equal(lab_counter(core, COUNT_icmp_errors_out), before + 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_lab, close_lab)
	const struct CMUnitTest tests[] = {
		CASE(a_segment_reaches_tcp_without_its_headers_and_padding),
		CASE(every_cut_of_a_packet_is_dropped),
		CASE(wrong_headers_and_addresses_are_dropped),
		CASE(an_address_under_test_is_not_yet_ours),
		CASE(extension_headers_are_walked),
		CASE(extension_headers_out_of_order_or_cut_are_dropped),
		CASE(every_cut_within_extensions_is_dropped),
		CASE(too_many_extensions_are_dropped),
		CASE(the_bytes_of_extensions_are_limited),
		CASE(echo_requests_of_every_length_are_answered),
		CASE(icmp6_with_a_wrong_checksum_or_cut_short_is_dropped),
		CASE(errors_about_our_segments_reach_tcp),
		CASE(errors_that_quote_a_first_fragment_are_read),
		CASE(bad_packets_are_told_why),
		CASE(an_error_hidden_behind_options_is_not_answered),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
