// SPDX-License-Identifier: Apache-2.0
#include "dataplane/packet.h"

#include <rte_ether.h>

#define ETHER_HEADER 14

void ethernet_input(struct dp_core *core, struct rte_mbuf *m, bool is_handed_over, uint64_t now_us)
{
	struct packet p = {
		.m = m, .port = m->port, .now_us = now_us, .is_handed_over = is_handed_over};
	if (m->nb_segs != 1) {
		packet_drop(core, &p, COUNT_drop_rx_chained);
		return;
	}
	if (m->data_len < ETHER_HEADER) {
		packet_drop(core, &p, COUNT_drop_ether_short);
		return;
	}
	const uint8_t *header = rte_pktmbuf_mtod(m, const uint8_t *);
	p.is_link_multicast = header[0] & 1;
	if (!p.is_link_multicast && memcmp(header, core->dp->ports[p.port].mac, 6) != 0) {
		packet_drop(core, &p, COUNT_drop_ether_not_ours);
		return;
	}
	memcpy(p.source_mac, header + 6, 6);
	p.network = bytes_of(header + ETHER_HEADER, m->data_len - ETHER_HEADER);
	switch (get_be16(header + 12)) {
	case RTE_ETHER_TYPE_IPV4: ip4_input(core, &p); break;
	case RTE_ETHER_TYPE_IPV6: ip6_input(core, &p); break;
	case RTE_ETHER_TYPE_ARP: arp_input(core, &p); break;
	default: packet_drop(core, &p, COUNT_drop_ether_type); break;
	}
}

void ethernet_output(struct dp_core *core, unsigned port, struct rte_mbuf *m, const uint8_t mac[6],
	uint16_t ether_type)
{
	uint8_t *header = (uint8_t *)rte_pktmbuf_prepend(m, ETHER_HEADER);
	if (header == NULL) { /* our own headers fit; only a sender without headroom gets here */
		count(core, COUNT_drop_tx_too_long);
		rte_pktmbuf_free(m);
		return;
	}
	memcpy(header, mac, 6);
	memcpy(header + 6, core->dp->ports[port].mac, 6);
	put_be16(header + 12, ether_type);
	port_send(core, port, m);
}
