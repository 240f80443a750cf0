// SPDX-License-Identifier: Apache-2.0
#include "dataplane/offload.h"

#include "base/checksum.h"
#include "dataplane/path_mtu.h"

#include <rte_cksum.h>
#include <rte_tcp.h>
#include <stdio.h>

#define TCP_HEADER	 20
#define CHECKSUM_AT	 16
#define JOINED_BYTES_MAX 65000 /* with its headers within an IP packet's 65535 */
#define JOINED_PART_MIN	 256   /* i40e and iavf refuse to cut into smaller ones */

/* ---- what is asked for ---- */

static const struct {
	const char *name;
	unsigned offload;
} names[] = {
	{"rx-checksum", DP_OFFLOAD_RX_CHECKSUM},
	{"tx-checksum", DP_OFFLOAD_TX_CHECKSUM},
	{"tso",		DP_OFFLOAD_TSO	      },
	{"rss",		DP_OFFLOAD_RSS	      },
};

static unsigned offload_named(const char *name, size_t n)
{
	for (size_t i = 0; i < RTE_DIM(names); i++)
		if (strlen(names[i].name) == n && memcmp(names[i].name, name, n) == 0)
			return names[i].offload;
	return 0;
}

bool dp_offloads_parse(const char *text, unsigned *offloads)
{
	*offloads = 0;
	if (strcmp(text, "auto") == 0)
		*offloads = DP_OFFLOAD_AUTO;
	if (strcmp(text, "auto") == 0 || strcmp(text, "none") == 0)
		return true;
	for (size_t n; *text != '\0'; text += n + (text[n] == ' ')) {
		n = strcspn(text, " ");
		unsigned offload = offload_named(text, n);
		if (offload == 0)
			return false;
		*offloads |= offload;
	}
	return *offloads != 0;
}

static bool has_all(uint64_t capabilities, uint64_t wanted)
{
	return (capabilities & wanted) == wanted;
}

/* A device without hardware would do in software what we do as well. */
static unsigned wanted_of(const struct dp_port_config *config)
{
	if (config->offloads != DP_OFFLOAD_AUTO)
		return config->offloads;
	return strncmp(config->device, "net_", 4) == 0
		? 0
		: DP_OFFLOAD_RX_CHECKSUM | DP_OFFLOAD_TX_CHECKSUM | DP_OFFLOAD_TSO | DP_OFFLOAD_RSS;
}

/* Neither of these can do it in DPDK 24.11.4: net_tap says so, but refuses every packet (its
 * context for cutting is never set up), and net_memif corrupts packets in more than one buffer. */
static bool is_tso_broken(const char *device)
{
	return strncmp(device, "net_tap", 7) == 0 || strncmp(device, "net_memif", 9) == 0;
}

/* A port that cuts also sums. Not all sum IPv4's header: virtio's host makes a new one for each part
 * and expects the large packet's to be right. */
static void choose_tso(struct dp_port *port, const struct dp_port_config *config,
	const struct rte_eth_dev_info *info)
{
	static const uint64_t all = RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS |
		RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	unsigned most = info->tx_desc_lim.nb_seg_max;
	if (!has_all(info->tx_offload_capa, all) || is_tso_broken(config->device))
		return;
	if (most == 0 || most > JOINED_SEGMENTS_MAX)
		most = JOINED_SEGMENTS_MAX;
	port->tx_offloads |= all | (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
	port->tso_segments = (uint16_t)most;
}

void offload_choose(struct dp_port *port, const struct dp_port_config *config,
	const struct rte_eth_dev_info *info)
{
	unsigned wanted = wanted_of(config);
	if (wanted & DP_OFFLOAD_RX_CHECKSUM)
		port->rx_offloads |= info->rx_offload_capa &
			(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
	if (wanted & DP_OFFLOAD_RSS) {
		port->rx_offloads |= info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH;
		port->is_rss_wanted = true;
	}
	if (wanted & DP_OFFLOAD_TX_CHECKSUM)
		port->tx_offloads |= info->tx_offload_capa &
			(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
	if (wanted & DP_OFFLOAD_TSO)
		choose_tso(port, config, info);
}

void dp_port_text(const struct dp *dp, unsigned index, char text[256])
{
	const struct dp_port *port = &dp->ports[index];
	snprintf(text, 256,
		"port=%s device=\"%.100s\" mtu=%u queues=%u rx_checksum=%s tx_checksum=%s tso=%s "
		"rss=%s",
		port->name, dp->config.ports[index].device, port->mtu, port->queues,
		port->rx_offloads & RTE_ETH_RX_OFFLOAD_TCP_CKSUM ? "port" : "software",
		port->tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_CKSUM ? "port" : "software",
		port->tso_segments > 0 ? "port" : "no", port->is_rss_asked ? "port" : "software");
}

/* ---- checksums ---- */

/* ..._NONE, where nobody has summed what never left the machine, has the bit of ..._GOOD and that of ..._BAD. */
bool offload_has_checked_ip4(const struct dp_port *port, const struct rte_mbuf *m)
{
	return (port->rx_offloads & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) &&
		(m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_GOOD);
}

bool offload_has_checked_tcp(const struct dp_port *port, const struct rte_mbuf *m)
{
	return (port->rx_offloads & RTE_ETH_RX_OFFLOAD_TCP_CKSUM) &&
		(m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_GOOD);
}

/* As TCP has it: the prefix of an IPv4-mapped address adds nothing. */
static uint16_t pseudo_header(const struct addr *local, const struct addr *remote, uint32_t length)
{
	uint32_t sum = (uint32_t)rte_raw_cksum(local, sizeof *local) +
		rte_raw_cksum(remote, sizeof *remote) + rte_cpu_to_be_16((uint16_t)length) +
		rte_cpu_to_be_16(IP_PROTOCOL_TCP);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static void sum_here(struct rte_mbuf *m, uint8_t *tcp)
{
	uint16_t sum =
		(uint16_t)~checksum_sum(bytes_of(tcp, m->data_len)); /* the pseudo-header's is in it */
	memcpy(tcp + CHECKSUM_AT, &sum, sizeof sum);
	m->ol_flags &= ~(uint64_t)RTE_MBUF_F_TX_L4_MASK;
}

void offload_tcp(const struct dp_port *port, struct rte_mbuf *m, const struct addr *local,
	const struct addr *remote)
{
	uint8_t *tcp = rte_pktmbuf_mtod(m, uint8_t *);
	if ((m->ol_flags & RTE_MBUF_F_TX_L4_MASK) != RTE_MBUF_F_TX_TCP_CKSUM)
		return;
	if (!(port->tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_CKSUM)) {
		sum_here(m, tcp);
		return;
	}
	m->l2_len = RTE_ETHER_HDR_LEN;
	m->l3_len = addr_is_ipv4(remote) ? 20 : 40;
	m->ol_flags |= addr_is_ipv4(remote) ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) { /* without the length, which the port puts in */
		uint16_t sum = pseudo_header(local, remote, 0);
		memcpy(tcp + CHECKSUM_AT, &sum, sizeof sum);
	}
}

bool offload_ip4(const struct dp_port *port, struct rte_mbuf *m)
{
	if (!(m->ol_flags & RTE_MBUF_F_TX_L4_MASK) ||
		!(port->tx_offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM))
		return false;
	m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	return true;
}

/* ---- joining ---- */

struct segment {
	const uint8_t *header;
	unsigned header_size;
	uint32_t text, seq;
	uint8_t flags;
};

static struct segment segment_of(const struct rte_mbuf *m)
{
	const uint8_t *h = rte_pktmbuf_mtod(m, const uint8_t *);
	unsigned size = (h[12] >> 4) * 4u;
	return (struct segment){.header = h,
		.header_size = size,
		.text = m->pkt_len - size,
		.seq = get_be32(h + 4),
		.flags = h[13]};
}

/* NULL: towards there nothing is joined. Where routers may cut what we send, each packet needs a number of its own
 * (RFC 6864 4.3), and a port that cuts would count on from ours into those of the next packets. */
static const struct dp_port *port_towards(struct dp_core *core, const struct tcp_departure *d)
{
	unsigned port;
	struct addr next_hop;
	if (path_mtu_is_narrow(core->path_mtus, &d->remote) ||
		!route_next_hop(core->dp, &d->local, &d->remote, &port, &next_hop))
		return NULL;
	const struct dp_port *to = &core->dp->ports[port];
	return to->tso_segments > 1 ? to : NULL;
}

/* Everything but sequence number, flags and checksum must be as in the first. */
static bool has_same_header(const struct segment *a, const struct segment *b)
{
	return a->header_size == b->header_size && memcmp(a->header, b->header, 4) == 0 &&
		memcmp(a->header + 8, b->header + 8, 5) == 0 &&
		memcmp(a->header + 14, b->header + 14, 2) == 0 &&
		memcmp(a->header + 18, b->header + 18, a->header_size - 18) == 0;
}

/* Does `next` follow what is joined in `m` already? All parts but the last are of one size, and
 * only the last may have more flags than ACK. */
static bool follows(const struct dp_port *port, const struct tcp_departure *first, uint32_t part,
	const struct tcp_departure *then)
{
	const struct rte_mbuf *m = first->m, *next = then->m;
	static const uint8_t last_flags = RTE_TCP_ACK_FLAG | RTE_TCP_PSH_FLAG | RTE_TCP_FIN_FLAG;
	struct segment a = segment_of(m), b = segment_of(next);
	return (next->ol_flags & RTE_MBUF_F_TX_TCP_CKSUM) && next->nb_segs == 1 &&
		m->nb_segs < port->tso_segments && m->pkt_len + b.text <= JOINED_BYTES_MAX &&
		a.flags == RTE_TCP_ACK_FLAG && (b.flags & ~last_flags) == 0 && a.text % part == 0 &&
		b.text > 0 && b.text <= part && b.seq == a.seq + a.text &&
		has_same_header(&a, &b) && addr_equal(&first->local, &then->local) &&
		addr_equal(&first->remote, &then->remote) && first->ecn == then->ecn;
}

static void join(struct rte_mbuf *m, struct rte_mbuf *tail, uint32_t part, struct rte_mbuf *next)
{
	struct segment b = segment_of(next);
	rte_pktmbuf_mtod(m, uint8_t *)[13] |= b.flags;
	rte_pktmbuf_adj(next, (uint16_t)b.header_size);
	tail->next = next;
	m->nb_segs++;
	m->pkt_len += b.text;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	m->tso_segsz = (uint16_t)part;
}

/* Joins to the first of the departures what follows it; returns how many it has become. */
static unsigned join_run(
	const struct dp_port *port, const struct tcp_departure *d, unsigned count, uint32_t part)
{
	unsigned n = 1;
	for (struct rte_mbuf *tail = d->m; n < count && follows(port, d, part, &d[n]); n++) {
		join(d->m, tail, part, d[n].m);
		tail = d[n].m;
	}
	return n;
}

unsigned offload_join(struct dp_core *core, struct tcp_departure *d, unsigned count)
{
	unsigned left = 0;
	for (unsigned i = 0, run; i < count; i += run) {
		run = 1;
		const struct dp_port *port = NULL;
		const uint32_t part = segment_of(d[i].m).text;
		if ((d[i].m->ol_flags & RTE_MBUF_F_TX_TCP_CKSUM) && i + 1 < count && part >= JOINED_PART_MIN)
			port = port_towards(core, &d[i]);
		if (port != NULL)
			run = join_run(port, &d[i], count - i, part);
		if (run > 1)
			count_add(core, COUNT_tx_joined, run);
		d[left++] = d[i];
	}
	return left;
}
