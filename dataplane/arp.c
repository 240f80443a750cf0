// SPDX-License-Identifier: Apache-2.0
/* ARP for IPv4 over Ethernet (RFC 826), announcements (RFC 5227). */
#include "dataplane/neighbour.h"
#include "dataplane/packet.h"

#include <rte_ether.h>

#define ARP_BYTES   28
#define ARP_REQUEST 1
#define ARP_REPLY   2

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* Hardware type 1, protocol IPv4, lengths 6 and 4; the sender's hardware address is one host's. */
static bool is_well_formed(struct bytes arp)
{
	static const uint8_t kind[6] = {0, 1, 8, 0, 6, 4};
	static const uint8_t zero[6];
	if (arp.n < ARP_BYTES || memcmp(arp.at, kind, 6) != 0)
		return false;
	return !(arp.at[8] & 1) && memcmp(arp.at + 8, zero, 6) != 0;
}

static void arp_send(struct dp_core *core, unsigned port, uint16_t operation,
	const struct addr *sender, const struct addr *target, const uint8_t target_mac[6],
	const uint8_t to[6])
{
	struct rte_mbuf *m = port_control_buffer(core, ARP_BYTES);
	if (m == NULL)
		return;
	static const uint8_t start[6] = {0, 1, 8, 0, 6, 4};
	uint8_t *arp = rte_pktmbuf_mtod(m, uint8_t *);
	memcpy(arp, start, 6);
	put_be16(arp + 6, operation);
	memcpy(arp + 8, core->dp->ports[port].mac, 6);
	memcpy(arp + 14, addr_ipv4(sender), 4);
	memcpy(arp + 18, target_mac, 6);
	memcpy(arp + 24, addr_ipv4(target), 4);
	count(core, COUNT_arp_out);
	ethernet_output(core, port, m, to, RTE_ETHER_TYPE_ARP);
}

void arp_ask(struct dp_core *core, unsigned port, const struct addr *target, const uint8_t *mac)
{
	static const uint8_t unknown[6];
	const struct addr *sender = local_source(&core->dp->ports[port], target);
	if (sender != NULL)
		arp_send(core, port, ARP_REQUEST, sender, target, mac == NULL ? unknown : mac,
			mac == NULL ? everybody : mac);
}

void arp_announce(struct dp_core *core, unsigned port, const struct addr *addr)
{
	static const uint8_t unknown[6];
	arp_send(core, port, ARP_REQUEST, addr, addr, unknown, everybody);
}

/* An address that one host on this link can have. A probe's sender, 0.0.0.0, is none. */
static bool is_a_neighbour(const struct dp_port *port, const struct addr *a)
{
	return !addr_is_unspecified(a) && !addr_is_multicast(a) && local_is_on_link(port, a);
}

/* RFC 826: whoever speaks is heard, if he is known or speaks to us. */
static void arp_hear(struct dp_core *core, struct packet *p, const uint8_t *arp)
{
	struct dp_port *port = &core->dp->ports[p->port];
	struct addr sender = addr_from_ipv4(arp + 14), target = addr_from_ipv4(arp + 24);
	bool is_for_us = local_find_on(port, &target) != NULL;
	bool is_reply = get_be16(arp + 6) == ARP_REPLY;
	if (local_find_on(port, &sender) != NULL) {
		count(core, COUNT_arp_conflicts);
		return;
	}
	if (is_a_neighbour(port, &sender))
		resolver_hear(core, p->port, &sender,
			&(struct resolver_claim){.mac = arp + 8,
				.is_override = true,
				.is_solicited = is_reply && is_for_us && !p->is_link_multicast,
				.may_create = is_for_us && !is_reply},
			p->now_us);
	if (is_for_us && !is_reply)
		arp_send(core, p->port, ARP_REPLY, &target, &sender, arp + 8, arp + 8);
}

void arp_input(struct dp_core *core, struct packet *p)
{
	if (core->index != 0) { /* neighbours are the first core's */
		steer_hand_over(core, p->m, 0);
		return;
	}
	uint16_t operation = p->network.n < ARP_BYTES ? 0 : get_be16(p->network.at + 6);
	if (!is_well_formed(p->network) || (operation != ARP_REQUEST && operation != ARP_REPLY)) {
		packet_drop(core, p, COUNT_drop_arp_bad);
		return;
	}
	count(core, COUNT_arp_in);
	arp_hear(core, p, p->network.at);
	rte_pktmbuf_free(p->m);
}
