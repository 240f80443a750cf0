// SPDX-License-Identifier: Apache-2.0
/* dataplane/offload.h: work that a port may do for us: checksums, cutting (TSO), hashing (RSS).
 *
 * What a port is asked for is in the configuration; what it does not have, or is not asked for, is
 * done here in software. TCP leaves the checksum of text to us if any port takes it; the segments
 * of one connection that leave in a row are joined again for a port that cuts them itself. */
#pragma once

#include <rte_ethdev.h>

#include "dataplane/packet.h"

/* Chooses what a port will do, of what it has and was asked for: into port->rx_offloads,
 * tx_offloads and tso_segments. */
void offload_choose(struct dp_port *port, const struct dp_port_config *config,
	const struct rte_eth_dev_info *info);
/* Has the port checked the IPv4 header's sum, or TCP's? Then it is not done again here: also not where
 * the port says that the field is left undone, as a virtual machine's neighbours on the same host do,
 * but the octets are sound. A port that was not asked is not believed. */
bool offload_has_checked_ip4(const struct dp_port *port, const struct rte_mbuf *m);
bool offload_has_checked_tcp(const struct dp_port *port, const struct rte_mbuf *m);
/* Finishes the checksum of a TCP packet, which starts at its TCP header, if TCP has left it: for
 * the port, or here. To be called before the IP header goes in front. */
void offload_tcp(const struct dp_port *port, struct rte_mbuf *m, const struct addr *local,
	const struct addr *remote);
/* The IPv4 header's, where the port does the whole of a packet. true: the field stays 0. */
bool offload_ip4(const struct dp_port *port, struct rte_mbuf *m);
/* Joins segments that follow each other; returns how many packets are left, in their order. */
unsigned offload_join(struct dp_core *core, struct tcp_departure *departures, unsigned count);
