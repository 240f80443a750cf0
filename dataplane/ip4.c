// SPDX-License-Identifier: Apache-2.0
/* IPv4 (RFC 791, RFC 1122 3.2.1): in, checked in the order in which fields can be trusted; and out,
 * for both families. We are a host: nothing is forwarded. */
#include "dataplane/neighbour.h"
#include "dataplane/offload.h"
#include "dataplane/packet.h"
#include "dataplane/path_mtu.h"
#include "dataplane/reassembly.h"
#include "dataplane/tcp/tcp_hash.h"

#include <rte_cksum.h>

#define IP4_HEADER 20
#define TCP_HEADER 20
#define FRAGMENT_BITS	 0x3fff /* more fragments, and the offset in units of eight bytes */
#define FRAGMENT_OFFSET	 0x1fff
#define FRAGMENT_MORE	 0x2000
#define IP6_HEADER 40
#define TTL	   64 /* RFC 1122 3.2.1.7, as IANA has it */

#define OPTION_END	    0
#define OPTION_NOP	    1
#define OPTION_LOOSE_ROUTE  131
#define OPTION_STRICT_ROUTE 137

/* Options are skipped, but source routes are refused (RFC 7126 4.3, 4.4), and so is a list whose
 * lengths lead out of the header. */
static bool are_options_fine(const uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n;) {
		if (at[i] == OPTION_END)
			return true;
		if (at[i] == OPTION_NOP) {
			i++;
			continue;
		}
		if (at[i] == OPTION_LOOSE_ROUTE || at[i] == OPTION_STRICT_ROUTE)
			return false;
		if (i + 1 >= n || at[i + 1] < 2 || at[i + 1] > n - i)
			return false;
		i += at[i + 1];
	}
	return true;
}

/* Can another host have this address (RFC 1122 3.2.1.3)? */
static bool is_host_address(const uint8_t a[4])
{
	return a[0] != 0 && a[0] != 127 && a[0] < 224;
}

/* The all-ones and all-zeros host of a prefix on the link, and 255.255.255.255. */
static bool is_broadcast(const struct dp_port *port, const struct addr *a)
{
	uint32_t host = get_be32(addr_ipv4(a));
	if (host == UINT32_MAX)
		return true;
	for (unsigned i = 0; i < port->addr_count; i++) {
		const struct local_addr *local = &port->addrs[i];
		if (!addr_is_ipv4(&local->addr) || local->prefix_bits > 96 + 30)
			continue;
		uint32_t mask = UINT32_MAX >> (local->prefix_bits - 96);
		uint32_t net = get_be32(addr_ipv4(&local->addr)) & ~mask;
		if (host == (net | mask) || host == net)
			return true;
	}
	return false;
}

/* Checks lengths and checksum and cuts the link's padding. */
static enum dp_counter check_header(const struct dp_port *port, struct packet *p)
{
	const uint8_t *ip = p->network.at;
	if (p->network.n < IP4_HEADER)
		return COUNT_drop_ip4_short;
	size_t header = (ip[0] & 15) * 4u, total = get_be16(ip + 2);
	if (ip[0] >> 4 != 4 || header < IP4_HEADER || total < header)
		return COUNT_drop_ip4_header;
	if (total > p->network.n)
		return COUNT_drop_ip4_short;
	if (!offload_has_checked_ip4(port, p->m) && rte_raw_cksum(ip, header) != 0xffff)
		return COUNT_drop_ip4_checksum;
	p->network.n = total;
	p->body = bytes_skip(p->network, header);
	p->local = addr_from_ipv4(ip + 16);
	p->remote = addr_from_ipv4(ip + 12);
	p->ecn = ip[1] & 3;
	p->hop_limit = ip[8];
	return COUNT_END;
}

static enum dp_counter check_addresses(struct dp_core *core, struct packet *p)
{
	const uint8_t *ip = p->network.at;
	unsigned port;
	if (addr_is_multicast(&p->local) || is_broadcast(&core->dp->ports[p->port], &p->local))
		return COUNT_drop_ip4_broadcast;
	if (local_find(core->dp, &p->local, &port) == NULL)
		return COUNT_drop_ip4_not_ours;
	if (p->is_link_multicast) /* RFC 1122 3.3.6: by link broadcast, though not to an IP
				     broadcast */
		return COUNT_drop_ip4_broadcast;
	if (!is_host_address(ip + 12) || is_broadcast(&core->dp->ports[p->port], &p->remote) ||
		local_find(core->dp, &p->remote, &port) != NULL)
		return COUNT_drop_ip4_source;
	if (!are_options_fine(ip + IP4_HEADER, (ip[0] & 15) * 4u - IP4_HEADER))
		return COUNT_drop_ip4_option;
	return COUNT_END;
}

/* A first fragment without the whole TCP header was made to slip past somebody's filter, and so was
 * one that begins within it (RFC 1858, RFC 3128). */
static void fragment(struct dp_core *core, struct packet *p)
{
	const uint8_t *ip = p->network.at;
	uint16_t field = get_be16(ip + 6), offset = (uint16_t)((field & FRAGMENT_OFFSET) * 8);
	bool is_tcp = ip[9] == IP_PROTOCOL_TCP;
	if (is_tcp && (offset == 0 ? p->body.n < TCP_HEADER : offset < TCP_HEADER)) {
		packet_drop(core, p, COUNT_drop_fragment_tiny);
		return;
	}
	reassembly_input(core, p,
		&(struct fragment){.id = get_be16(ip + 4),
			.protocol = ip[9],
			.has_more = field & FRAGMENT_MORE,
			.offset = offset});
}

void ip4_input(struct dp_core *core, struct packet *p)
{
	enum dp_counter reason = check_header(&core->dp->ports[p->port], p);
	if (reason == COUNT_END)
		reason = check_addresses(core, p);
	if (reason != COUNT_END) {
		packet_drop(core, p, reason);
		return;
	}
	if ((get_be16(p->network.at + 6) & FRAGMENT_BITS) != 0) {
		fragment(core, p);
		return;
	}
	switch (p->network.at[9]) {
	case IP_PROTOCOL_TCP: tcp_deliver(core, p); break;
	case IP_PROTOCOL_ICMP: icmp4_input(core, p); break;
	case IP_PROTOCOL_UDP: icmp4_error(core, p, 3, 3, COUNT_drop_udp); break;
	default: icmp4_error(core, p, 3, 2, COUNT_drop_protocol); break;
	}
}

/* ---- out ---- */

static uint64_t keyed(struct dp_core *core, const struct addr *local, const struct addr *remote,
	uint64_t last)
{
	uint64_t words[5];
	memcpy(words, local->b, 16);
	memcpy(words + 2, remote->b, 16);
	words[4] = last;
	return siphash(core->dp->secret, words, 5, 1, 3);
}

/* What may be cut on its way needs a number that is not soon used again between the two (RFC 6864
 * 4.3), and that others cannot foresee; cores take turns. */
static uint16_t next_id(struct dp_core *core, const struct addr *local, const struct addr *remote,
	uint8_t protocol)
{
	uint64_t hash = keyed(core, local, remote, protocol);
	unsigned n = core->ip4_ids[hash % IP4_IDS]++;
	return (uint16_t)((hash >> 48) + n * core->dp->core_count + core->index);
}

/* TCP finds the path's MTU and does not want to be cut, down to what it makes its segments (RFC
 * 1191 3); what answers a stranger, once, cannot look for it. */
static bool may_be_cut(struct dp_core *core, const struct addr *remote, uint8_t protocol)
{
	return protocol != IP_PROTOCOL_TCP || path_mtu_is_narrow(core->path_mtus, remote);
}

static void put_ip4(struct dp_core *core, uint8_t *ip, uint16_t total, const struct addr *local,
	const struct addr *remote, uint8_t protocol, uint8_t ecn)
{
	memset(ip, 0, IP4_HEADER);
	ip[0] = 4 << 4 | IP4_HEADER / 4;
	ip[1] = ecn;
	put_be16(ip + 2, total);
	if (may_be_cut(core, remote, protocol))
		put_be16(ip + 4, next_id(core, local, remote, protocol));
	else
		put_be16(ip + 6, 0x4000); /* DF; then the identification may be 0 (RFC 6864 4.1) */
	ip[8] = TTL;
	ip[9] = protocol;
	memcpy(ip + 12, addr_ipv4(local), 4);
	memcpy(ip + 16, addr_ipv4(remote), 4);
}

static void put_ip4_checksum(uint8_t *ip)
{
	uint16_t sum = (uint16_t)~rte_raw_cksum(ip, IP4_HEADER);
	memcpy(ip + 10, &sum, 2);
}

/* RFC 6437 3: the same for all packets of a connection, not to be foreseen, and spread evenly, so that
 * routers can tell flows apart by three fields. `m` starts at the TCP header. */
static uint32_t flow_label(struct dp_core *core, const struct rte_mbuf *m, const struct addr *local,
	const struct addr *remote)
{
	uint32_t ports = get_be32(rte_pktmbuf_mtod(m, const uint8_t *));
	uint32_t label = keyed(core, local, remote, 1ull << 32 | ports) & 0xfffff;
	return label == 0 ? 1 : label; /* 0 says that there is none */
}

static void put_ip6(uint8_t *ip, uint32_t flow, uint16_t payload, const struct addr *local,
	const struct addr *remote, uint8_t protocol, uint8_t hop_limit)
{
	put_be32(ip, 6u << 28 | flow);
	put_be16(ip + 4, payload);
	ip[6] = protocol;
	ip[7] = hop_limit;
	memcpy(ip + 8, local->b, 16);
	memcpy(ip + 24, remote->b, 16);
}

/* Prepends the header, if the packet then fits the port. */
static bool put_header(struct dp_core *core, unsigned port, struct rte_mbuf *m,
	const struct addr *local, const struct addr *remote, uint8_t protocol, uint8_t hop_limit, uint8_t ecn)
{
	size_t header = addr_is_ipv4(remote) ? IP4_HEADER : IP6_HEADER;
	uint32_t total = m->pkt_len + header, flow = 0;
	if (header == IP6_HEADER && protocol == IP_PROTOCOL_TCP)
		flow = flow_label(core, m, local, remote);
	bool is_cut_later = m->ol_flags & RTE_MBUF_F_TX_TCP_SEG;
	if (protocol == IP_PROTOCOL_TCP)
		offload_tcp(&core->dp->ports[port], m, local, remote);
	uint8_t *ip = total > core->dp->ports[port].mtu && !is_cut_later
		? NULL
		: (uint8_t *)rte_pktmbuf_prepend(m, (uint16_t)header);
	if (ip == NULL) {
		count(core, COUNT_drop_tx_too_long);
		rte_pktmbuf_free(m);
		return false;
	}
	if (header == IP4_HEADER) {
		put_ip4(core, ip, (uint16_t)total, local, remote, protocol, ecn);
		if (!offload_ip4(&core->dp->ports[port], m))
			put_ip4_checksum(ip);
	} else {
		put_ip6(ip, (uint32_t)ecn << 20 | flow, (uint16_t)(total - header), local, remote, protocol, hop_limit);
	}
	return true;
}

void ip_output(struct dp_core *core, struct rte_mbuf *m, const struct addr *local,
	const struct addr *remote, uint8_t protocol, uint64_t now_us)
{
	ip_output_ecn(core, m, local, remote, protocol, 0, now_us);
}

void ip_output_ecn(struct dp_core *core, struct rte_mbuf *m, const struct addr *local,
	const struct addr *remote, uint8_t protocol, uint8_t ecn, uint64_t now_us)
{
	unsigned port, own;
	struct addr next_hop;
	bool is_ours = local_find(core->dp, remote, &own) != NULL;
	if (is_ours || addr_is_multicast(remote) ||
		!route_next_hop(core->dp, local, remote, &port, &next_hop)) {
		count(core, is_ours ? COUNT_drop_to_ourselves : COUNT_drop_no_route);
		rte_pktmbuf_free(m);
		return;
	}
	if (put_header(core, port, m, local, remote, protocol, TTL, ecn))
		neighbour_output(core, port, &next_hop, m, now_us);
}

void ip6_output_link(struct dp_core *core, unsigned port, struct rte_mbuf *m,
	const struct addr *local, const struct addr *remote, const uint8_t mac[6], uint8_t next,
	uint8_t hop_limit)
{
	if (put_header(core, port, m, local, remote, next, hop_limit, 0))
		ethernet_output(core, port, m, mac, 0x86dd);
}
