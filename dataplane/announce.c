// SPDX-License-Identifier: Apache-2.0
/* The first core claims our addresses: IPv4 ones are announced (RFC 5227 2.3), IPv6 ones first
 * asked about (RFC 4862 5.4: one question, one second), then announced (RFC 4861 7.2.6). More than
 * once, since a port may come up some time after its start. */
#include "dataplane/packet.h"

#define CLAIMS	       4 /* MAX_NEIGHBOR_ADVERTISEMENT is 3, and a question before them; ANNOUNCE_NUM 2 */
#define CLAIM_EVERY_US (1000 * 1000ull)

static void announce(struct dp_core *core, unsigned port, struct local_addr *local)
{
	if (addr_is_ipv4(&local->addr))
		arp_announce(core, port, &local->addr);
	else
		ndp_announce(core, port, &local->addr);
}

static void claim(struct dp_core *core, unsigned port, struct local_addr *local, uint64_t now_us)
{
	enum addr_state state = local_addr_state(local);
	if (local->claims >= CLAIMS || local->claim_due_us > now_us || state == ADDR_DUPLICATE)
		return;
	if (state == ADDR_TENTATIVE && local->claims == 0) {
		ndp_ask_duplicate(core, port, &local->addr);
	} else {
		atomic_store_explicit(&local->state, ADDR_PREFERRED, memory_order_relaxed);
		announce(core, port, local);
	}
	local->claims++;
	local->claim_due_us = now_us + CLAIM_EVERY_US;
}

void announce_tick(struct dp_core *core, uint64_t now_us)
{
	for (unsigned i = 0; i < core->dp->port_count; i++)
		for (unsigned j = 0; j < core->dp->ports[i].addr_count; j++)
			claim(core, i, &core->dp->ports[i].addrs[j], now_us);
}
