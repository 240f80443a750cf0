// SPDX-License-Identifier: Apache-2.0
#include "dataplane/offload.h"

#include "dataplane/lab.h"
#include "dataplane/neighbour.h"
#include "dataplane/path_mtu.h"

#include <rte_cksum.h>
#include <rte_gso.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define PART	1000
#define HEADER	32
#define DEVICES 6

static struct dp *dp;
static struct dp_core *core;
static struct dp_port *port;
static const char *ours, *peer;
static bool is_ip4;

static int open_lab(void **state)
{
	dp = lab_open(2);
	core = dp->cores[0];
	port = &dp->ports[0];
	return 0;
}

static int close_lab(void **state)
{
	lab_close(dp);
	return 0;
}

static void choose(bool ip4)
{
	is_ip4 = ip4;
	peer = ip4 ? "192.0.2.99" : "2001:db8::99";
	ours = ip4 ? "192.0.2.1" : "2001:db8::1";
	struct addr a = lab_addr(peer);
	struct news news = {.kind = NEWS_KNOWN, .addr = a};
	memcpy(news.mac, lab_peer_mac, 6);
	neighbour_output(core, 0, &a, rte_pktmbuf_alloc(core->tx_pool), lab_now_us);
	neighbour_hear(core, &news, lab_now_us);
	while (lab_sent(core).n > 0)
		;
}

static const uint64_t CAPABLE = RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS |
	RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;

/* The sum of the pseudo-header, done by hand: what TCP leaves in the field. */
static uint16_t pseudo(uint32_t length)
{
	uint8_t header[40] = {[39] = IP_PROTOCOL_TCP};
	struct addr a = lab_addr(ours), b = lab_addr(peer);
	memcpy(header, a.b, 16);
	memcpy(header + 16, b.b, 16);
	put_be32(header + 32, length);
	return rte_raw_cksum(header, sizeof header);
}

/* A segment as TCP leaves it. */
static struct tcp_departure a_segment(uint32_t seq, size_t text, uint8_t flags)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->tx_pool);
	uint8_t *h = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(HEADER + text));
	memset(h, 0, HEADER);
	put_be16(h, 25);
	put_be16(h + 2, 4000);
	put_be32(h + 4, seq);
	h[12] = HEADER / 4 << 4;
	h[13] = flags;
	for (size_t i = 0; i < text; i++)
		h[HEADER + i] = (uint8_t)(seq + i);
	uint16_t sum = pseudo((uint32_t)(HEADER + text));
	memcpy(h + 16, &sum, 2);
	m->ol_flags = RTE_MBUF_F_TX_TCP_CKSUM;
	m->l4_len = HEADER;
	return (struct tcp_departure){.m = m, .local = lab_addr(ours), .remote = lab_addr(peer)};
}

static void send_out(const struct tcp_departure *d)
{
	ip_output(core, d->m, &d->local, &d->remote, IP_PROTOCOL_TCP, lab_now_us);
}

static void assert_sums_right(struct bytes f, size_t header)
{
	uint32_t sum = pseudo((uint32_t)(f.n - header)) +
		(uint32_t)rte_raw_cksum(f.at + header, f.n - header);

	assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);
	if (is_ip4)
		assert_int_equal(rte_raw_cksum(f.at + 14, 20), 0xffff);
}

static void without_a_port_that_sums_we_do(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		choose(i == 0);
		for (size_t text = 1; text < 8; text++) {
			struct tcp_departure d = a_segment(1, text, 0x10);
			send_out(&d);
			assert_int_equal(core->tx[0].m[0]->ol_flags & RTE_MBUF_F_TX_L4_MASK, 0);
			struct bytes f = lab_sent(core);
			assert_sums_right(f, is_ip4 ? 34 : 54);
		}
	}
}

static void a_port_that_sums_is_told_where(void **state)
{
	port->tx_offloads = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	for (unsigned i = 0; i < 2; i++) {
		choose(i == 0);
		struct tcp_departure d = a_segment(1, 100, 0x10);
		send_out(&d);
		const struct rte_mbuf *m = core->tx[0].m[0];
		assert_int_equal(m->l2_len, 14);
		assert_int_equal(m->l3_len, is_ip4 ? 20 : 40);
		assert_int_equal(m->l4_len, HEADER);
		assert_true(m->ol_flags & (is_ip4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6));
		assert_int_equal(!!(m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM), is_ip4);
		struct bytes f = lab_sent(core);
		uint16_t left = pseudo(HEADER + 100);
		assert_memory_equal(f.at + (is_ip4 ? 34 : 54) + 16, &left, 2);
		if (is_ip4)
			assert_int_equal(get_be16(f.at + 24), 0);
	}
}

/* What TCP had summed itself goes as it is. */
static void segments_already_summed_stay(void **state)
{
	port->tx_offloads = CAPABLE;
	port->tso_segments = 32;
	choose(true);
	struct tcp_departure d[2] = {a_segment(1, PART, 0x10), a_segment(1 + PART, PART, 0x10)};
	d[0].m->ol_flags = d[1].m->ol_flags = 0;
	assert_int_equal(offload_join(core, d, 2), 2);
	send_out(&d[0]);
	assert_int_equal(core->tx[0].m[0]->ol_flags, 0);
	struct bytes f = lab_sent(core);
	uint16_t left = pseudo(HEADER + PART);
	assert_memory_equal(f.at + 34 + 16, &left, 2);
	rte_pktmbuf_free(d[1].m);
}

static void segments_in_a_row_become_one_packet(void **state)
{
	port->tx_offloads = CAPABLE;
	port->tso_segments = 32;
	for (unsigned i = 0; i < 2; i++) {
		choose(i == 0);
		struct tcp_departure d[3] = {a_segment(0xfffffe00, PART, 0x10),
			a_segment(0xfffffe00 + PART, PART, 0x10),
			a_segment(0xfffffe00 + 2 * PART, 300, 0x18)};
		assert_int_equal(offload_join(core, d, 3), 1);
		struct rte_mbuf *m = d[0].m;
		assert_int_equal(m->nb_segs, 3);
		assert_int_equal(m->pkt_len, HEADER + 2 * PART + 300);
		assert_int_equal(m->tso_segsz, PART);
		assert_true(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG);
		assert_int_equal(rte_pktmbuf_mtod(m, uint8_t *)[13], 0x18); /* the last one's PSH */
		uint8_t copy[3000];
		const uint8_t *all = rte_pktmbuf_read(m, HEADER, 2300, copy);
		for (size_t j = 0; j < 2300; j++)
			assert_int_equal(all[j], (uint8_t)(0xfffffe00 + j));
		send_out(&d[0]); /* longer than the MTU, which is for the port to see to */
		assert_int_equal(core->tx[0].count, 1);
		const uint8_t *tcp = rte_pktmbuf_mtod_offset(m, uint8_t *, is_ip4 ? 34 : 54);
		uint16_t left = pseudo(0);
		assert_memory_equal(tcp + 16, &left, 2);
		assert_int_equal(lab_counter(core, COUNT_tx_joined), 3 * (i + 1));
		rte_pktmbuf_free(m);
		core->tx[0].count = 0;
	}
}

/* virtio's card: its host cuts, but finds IPv4's header summed. */
static void a_port_may_cut_that_does_not_sum_ip4(void **state)
{
	port->tx_offloads = CAPABLE & ~(uint64_t)RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	port->tso_segments = 32;
	choose(true);
	struct tcp_departure d[2] = {a_segment(1, PART, 0x10), a_segment(1 + PART, PART, 0x10)};
	assert_int_equal(offload_join(core, d, 2), 1);
	send_out(&d[0]);
	const struct rte_mbuf *m = core->tx[0].m[0];
	assert_true(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG);
	assert_false(m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM);
	assert_int_equal(m->nb_segs, 2);
	struct bytes f = lab_sent(core);
	assert_int_equal(get_be16(f.at + 16), 20 + HEADER + 2 * PART);
	assert_int_equal(rte_raw_cksum(f.at + 14, 20), 0xffff);
}

static void only_a_port_that_cuts_sums_and_gathers_gets_large_packets(void **state)
{
	struct dp_port_config config = {.device = "0000:03:00.0", .offloads = DP_OFFLOAD_AUTO};
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t one = 1ull << bit;
		struct dp_port p = {0};
		struct rte_eth_dev_info info = {.tx_offload_capa = CAPABLE & ~one};
		bool needed = (CAPABLE & one) && one != RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
		offload_choose(&p, &config, &info);
		assert_int_equal(p.tso_segments > 0, !needed);
		assert_int_equal(p.tx_offloads & ~info.tx_offload_capa, 0);
	}
}

/* DPDK's own library, which knows IPv4, cuts it into what it was joined from. */
static void what_is_joined_can_be_cut(void **state)
{
	struct rte_mempool *pool = core->control_pool;
	struct rte_gso_ctx cut = {.direct_pool = pool,
		.indirect_pool = pool,
		.gso_types = RTE_ETH_TX_OFFLOAD_TCP_TSO,
		.gso_size = 14 + 20 + HEADER + PART};
	struct rte_mbuf *parts[8];
	port->tx_offloads = CAPABLE;
	port->tso_segments = 32;
	choose(true);
	struct tcp_departure d[3] = {a_segment(77, PART, 0x10), a_segment(77 + PART, PART, 0x10),
		a_segment(77 + 2 * PART, 300, 0x19)};
	assert_int_equal(offload_join(core, d, 3), 1);
	send_out(&d[0]);
	core->tx[0].count = 0;
	assert_int_equal(rte_gso_segment(d[0].m, &cut, parts, 8), 3);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t copy[2048];
		uint32_t text = i == 2 ? 300 : PART, seq = 77 + i * PART;
		assert_int_equal(parts[i]->pkt_len, 14 + 20 + HEADER + text);
		const uint8_t *f = rte_pktmbuf_read(parts[i], 0, parts[i]->pkt_len, copy);
		assert_int_equal(get_be16(f + 16), 20 + HEADER + text);
		assert_int_equal(get_be32(f + 38), seq);
		assert_int_equal(f[47], i == 2 ? 0x19 : 0x10);
		for (uint32_t j = 0; j < text; j++)
			assert_int_equal(f[34 + HEADER + j], (uint8_t)(seq + j));
		rte_pktmbuf_free(parts[i]);
	}
	rte_pktmbuf_free(d[0].m);
}

/* Each second segment differs from a follower of the first in one thing. */
static void what_does_not_follow_is_not_joined(void **state)
{
	static const struct {
		uint32_t seq;
		size_t text;
		uint8_t first_flags, flags, at, value;
	} cases[] = {
		{1 + PART + 1, PART,     0x10, 0x10, 0,  0 }, /* a gap */
		{1,	    PART,	  0x10, 0x10, 0,	 0 }, /* the same again */
		{1 + PART,	   PART + 8, 0x10, 0x10, 0,  0 }, /* longer than the first */
		{1 + PART,	   0,	      0x10, 0x10, 0,  0 }, /* nothing */
		{1 + PART,	   PART,	 0x18, 0x10, 0,	0 }, /* the first was pushed */
		{1 + PART,	   PART,	 0x10, 0x14, 0,	0 }, /* RST */
		{1 + PART,	   PART,	 0x10, 0x30, 0,	0 }, /* URG */
		{1 + PART,	   PART,	 0x10, 0x90, 0,	0 }, /* CWR */
		{1 + PART,	   PART,	 0x10, 0x10, 1,	26}, /* another port */
		{1 + PART,	   PART,	 0x10, 0x10, 11, 9 }, /* another ACK */
		{1 + PART,	   PART,	 0x10, 0x10, 15, 9 }, /* another window */
		{1 + PART,	   PART,	 0x10, 0x10, 31, 9 }, /* another timestamp */
	};
	port->tx_offloads = CAPABLE;
	port->tso_segments = 32;
	choose(true);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tcp_departure d[2] = {a_segment(1, PART, cases[i].first_flags),
			a_segment(cases[i].seq, cases[i].text, cases[i].flags)};
		if (cases[i].at != 0)
			rte_pktmbuf_mtod(d[1].m, uint8_t *)[cases[i].at] = cases[i].value;
		assert_int_equal(offload_join(core, d, 2), 2);
		assert_int_equal(d[0].m->nb_segs, 1);
		rte_pktmbuf_free(d[0].m);
		rte_pktmbuf_free(d[1].m);
	}
	struct tcp_departure d[2] = {a_segment(1, PART, 0x10), a_segment(1 + PART, PART, 0x10)};
	d[1].remote = lab_addr("192.0.2.98"); /* to another host */
	assert_int_equal(offload_join(core, d, 2), 2);
	d[1].remote = d[0].remote;
	port->tso_segments = 0; /* the port cannot */
	assert_int_equal(offload_join(core, d, 2), 2);
	rte_pktmbuf_free(d[0].m);
	rte_pktmbuf_free(d[1].m);
}

/* On a path where routers cut, each packet has its own number. */
static void packets_that_may_be_cut_on_their_way_are_not_joined(void **state)
{
	port->tx_offloads = CAPABLE;
	port->tso_segments = 32;
	choose(true);
	struct tcp_departure d[2] = {a_segment(1, 400, 0x10), a_segment(401, 400, 0x10)};
	path_mtu_learn(core->path_mtus, &d[0].remote, 500, lab_now_us);
	assert_int_equal(offload_join(core, d, 2), 2);
	uint16_t ids[2];
	for (unsigned i = 0; i < 2; i++) {
		send_out(&d[i]);
		struct bytes f = lab_sent(core);
		assert_int_equal(get_be16(f.at + 20), 0); /* no DF */
		ids[i] = get_be16(f.at + 18);
	}
	assert_int_not_equal(ids[0], ids[1]);
}

/* They would be dropped by the driver, again and again, and the connection stand still. */
static void segments_smaller_than_some_cards_cut_are_not_joined(void **state)
{
	static const size_t texts[] = {0, 1, 255, 256};
	port->tx_offloads = CAPABLE;
	port->tso_segments = 32;
	choose(true);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		const bool is_joined = texts[i] >= 256;
		struct tcp_departure d[2] = {a_segment(1, texts[i], 0x10),
			a_segment(1 + (uint32_t)texts[i], texts[i], 0x10)};
		assert_int_equal(offload_join(core, d, 2), is_joined ? 1 : 2);
		rte_pktmbuf_free(d[0].m);
		if (!is_joined)
			rte_pktmbuf_free(d[1].m);
	}
}

static void a_short_one_ends_a_packet_and_limits_hold(void **state)
{
	struct tcp_departure d[12];
	port->tx_offloads = CAPABLE;
	port->tso_segments = 4;
	choose(true);
	uint32_t seq = 1;
	for (unsigned i = 0; i < 12; i++) {
		size_t text = i == 9 ? 10 : PART;
		d[i] = a_segment(seq, text, 0x10);
		seq += (uint32_t)text;
	}
	unsigned n = offload_join(core, d, 12);
	assert_int_equal(n, 4); /* 4, 4, 2 with the short one, 2 */
	assert_int_equal(d[0].m->nb_segs, 4);
	assert_int_equal(d[1].m->nb_segs, 4);
	assert_int_equal(d[2].m->nb_segs, 2);
	assert_int_equal(d[3].m->nb_segs, 2);
	for (unsigned i = 0; i < n; i++)
		rte_pktmbuf_free(d[i].m);
}

static void words_are_read(void **state)
{
	static const struct {
		const char *text;
		int offloads;
	} cases[] = {
		{"auto",			 DP_OFFLOAD_AUTO				},
		   {"none",		    0						     },
		{"tso",			DP_OFFLOAD_TSO				      },
		{"rx-checksum tx-checksum", DP_OFFLOAD_RX_CHECKSUM | DP_OFFLOAD_TX_CHECKSUM},
		{"tso rss",		    DP_OFFLOAD_TSO | DP_OFFLOAD_RSS		   },
		      {"",			   -1					     },
		{"gro",			-1						  },
		     {"ts",			    -1					      },
		{"tso gro",		    -1					     },
		 {"tso  rss",		      -1						}
	 };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		unsigned offloads;
		assert_int_equal(
			dp_offloads_parse(cases[i].text, &offloads), cases[i].offloads >= 0);
		if (cases[i].offloads >= 0)
			assert_int_equal(offloads, cases[i].offloads);
	}
}

static void only_what_is_there_and_asked_for_is_used(void **state)
{
	static const struct {
		const char *device;
		unsigned wanted;
		bool rx, tx, tso;
	} cases[DEVICES] = {
		{"0000:03:00.0",	 DP_OFFLOAD_AUTO,			  true,	true,  true },
		{"0000:03:00.0",	 0,				       false, false, false},
		{"0000:03:00.0",	 DP_OFFLOAD_RX_CHECKSUM,			 true,  false, false},
		{"net_tap0,iface=x", DP_OFFLOAD_AUTO,			      false, false, false},
		{"net_tap0,iface=x", DP_OFFLOAD_TSO,			     false, false, false},
		{"net_memif0",       DP_OFFLOAD_TSO | DP_OFFLOAD_TX_CHECKSUM, false, true,  false},
	};
	struct rte_eth_dev_info info = {
		.tx_offload_capa = UINT64_MAX, .rx_offload_capa = UINT64_MAX};
	for (size_t i = 0; i < DEVICES; i++) {
		struct dp_port p = {0};
		struct dp_port_config config = {.offloads = cases[i].wanted};
		snprintf(config.device, sizeof config.device, "%s", cases[i].device);
		offload_choose(&p, &config, &info);
		assert_int_equal(!!(p.rx_offloads & RTE_ETH_RX_OFFLOAD_TCP_CKSUM), cases[i].rx);
		assert_int_equal(!!(p.tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_CKSUM), cases[i].tx);
		assert_int_equal(p.tso_segments > 0, cases[i].tso);
		assert_false(p.tx_offloads & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE);
		assert_int_equal(!!(p.tx_offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS), cases[i].tso);
		struct dp_port none = {0};
		struct rte_eth_dev_info poor = {0};
		offload_choose(&none, &config, &poor);
		assert_int_equal(none.rx_offloads | none.tx_offloads | none.tso_segments, 0);
	}
}

/* ---- sums that the port has checked ---- */

/* A segment whose sums are wrong, of which the port says `flags`. */
static void put_spoilt(uint64_t flags)
{
	uint8_t frame[128], segment[20] = {0x04, 0x00, 0x00, 0x19, [12] = 0x50};
	size_t n = lab_ip4(frame, peer, ours, 6, bytes_of(segment, sizeof segment));
	frame[24] ^= 0x55;
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->rx_pool);
	m->port = 0;
	m->ol_flags = flags;
	memcpy(rte_pktmbuf_append(m, (uint16_t)n), frame, n);
	/* The core that it is for: not to be handed over. */
	ethernet_input(core, m, true, lab_now_us);
}

/* Good, or left undone by a neighbour in the same machine, which the port vouches for; but only if
 * it was asked. */
static void a_port_that_has_checked_is_believed(void **state)
{
	static const uint64_t known[] = {RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD,
		RTE_MBUF_F_RX_IP_CKSUM_NONE | RTE_MBUF_F_RX_L4_CKSUM_NONE},
			      unknown[] = {0, RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_BAD};
	choose(true);
	for (unsigned i = 0; i < 2; i++) {
		port->rx_offloads = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
		put_spoilt(known[i]);
		assert_int_equal(lab_tcp.arrivals, i + 1);
		assert_true(lab_tcp.arrival.is_checksum_good);
		put_spoilt(unknown[i]);
		port->rx_offloads = 0;
		put_spoilt(known[i]);
		assert_int_equal(lab_tcp.arrivals, i + 1);
		assert_int_equal(lab_counter(core, COUNT_drop_ip4_checksum), 2 * (i + 1));
	}
}

static void a_port_that_checks_headers_only_leaves_the_rest_to_tcp(void **state)
{
	choose(true);
	port->rx_offloads = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
	put_spoilt(RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD);
	assert_int_equal(lab_tcp.arrivals, 1);
	assert_false(lab_tcp.arrival.is_checksum_good);
}

/* ---- the port's hash ---- */

/* Toeplitz bit by bit, as its definition has it. */
static uint32_t toeplitz_by_hand(const uint8_t *key, const uint8_t *tuple, unsigned bytes)
{
	uint32_t h = 0;
	for (unsigned bit = 0; bit < bytes * 8; bit++) {
		if (!(tuple[bit / 8] & (0x80 >> bit % 8)))
			continue;
		for (unsigned i = 0; i < 32; i++)
			if (key[(bit + i) / 8] & (0x80 >> (bit + i) % 8))
				h ^= 0x80000000u >> i;
	}
	return h;
}

static void arrive(unsigned number, bool has_hash, uint32_t spoilt)
{
	uint8_t frame[256], segment[24] = {0x04, (uint8_t)number, 0x00, 0x19, [12] = 0x50},
			    tuple[36];
	bool ip4 = number % 2 == 0;
	const char *from = ip4 ? "192.0.2.99" : "2001:db8::99",
		   *to = ip4 ? "192.0.2.1" : "2001:db8::1";
	struct addr a = lab_addr(from), b = lab_addr(to);
	size_t n = ip4 ? lab_ip4(frame, from, to, 6, bytes_of(segment, 24))
		       : lab_ip6(frame, from, to, 6, bytes_of(segment, 24));
	unsigned width = ip4 ? 4 : 16;
	memcpy(tuple, a.b + 16 - width, width);
	memcpy(tuple + width, b.b + 16 - width, width);
	memcpy(tuple + 2 * width, segment, 4);
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->rx_pool);
	m->port = 0;
	memcpy(rte_pktmbuf_append(m, (uint16_t)n), frame, n);
	if (has_hash) {
		m->ol_flags = RTE_MBUF_F_RX_RSS_HASH;
		m->hash.rss = toeplitz_by_hand(dp->rss_key, tuple, 2 * width + 4) ^ spoilt;
	}
	ethernet_input(core, m, false, lab_now_us);
}

static void the_ports_hash_is_compared_with_ours(void **state)
{
	static const char *const findings[] = {"agrees", "none", "differs"};
	for (unsigned kind = 0; kind < 3; kind++) {
		lab_close(dp);
		open_lab(state);
		for (unsigned i = 0; i < RSS_CHECKS; i++) {
			assert_null(dp_port_rss(dp, 0));
			arrive(i, kind != 1, kind == 2 && i == 7 ? 1 : 0);
		}
		assert_string_equal(dp_port_rss(dp, 0), findings[kind]);
		arrive(0, true, 1); /* judged once */
		assert_string_equal(dp_port_rss(dp, 0), findings[kind]);
		steer_take(dp->cores[1], lab_now_us);
	}
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_lab, close_lab)
	const struct CMUnitTest tests[] = {
		CASE(without_a_port_that_sums_we_do),
		CASE(a_port_that_sums_is_told_where),
		CASE(segments_already_summed_stay),
		CASE(segments_in_a_row_become_one_packet),
		CASE(a_port_may_cut_that_does_not_sum_ip4),
		CASE(only_a_port_that_cuts_sums_and_gathers_gets_large_packets),
		CASE(what_is_joined_can_be_cut),
		CASE(what_does_not_follow_is_not_joined),
		CASE(packets_that_may_be_cut_on_their_way_are_not_joined),
		CASE(segments_smaller_than_some_cards_cut_are_not_joined),
		CASE(a_short_one_ends_a_packet_and_limits_hold),
		CASE(words_are_read),
		CASE(only_what_is_there_and_asked_for_is_used),
		CASE(a_port_that_has_checked_is_believed),
		CASE(a_port_that_checks_headers_only_leaves_the_rest_to_tcp),
		CASE(the_ports_hash_is_compared_with_ours),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
