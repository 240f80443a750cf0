// SPDX-License-Identifier: Apache-2.0
#include "dataplane/offload.h"
#include "dataplane/packet.h"

#define TCP_HEADER 20

/* At most ERRORS_PER_SECOND ICMP errors, up to ERRORS_BURST at once: enough to be told why, too few
 * to be of use to somebody who sends with another's address. */
#define ERRORS_PER_SECOND 100
#define ERRORS_BURST	  20
#define ERROR_COST_US	  (1000 * 1000ull / ERRORS_PER_SECOND)

void mbuf_narrow(struct rte_mbuf *m, struct bytes part)
{
	m->data_off = (uint16_t)(part.at - (const uint8_t *)m->buf_addr);
	m->data_len = (uint16_t)part.n;
	m->pkt_len = (uint32_t)part.n;
}

/* Hands the packet to its owner, if that is another core. */
static bool is_steered_away(struct dp_core *core, struct packet *p, unsigned owner)
{
	if (p->is_handed_over || owner == core->index)
		return false;
	steer_hand_over(core, p->m, owner);
	return true;
}

void tcp_deliver(struct dp_core *core, struct packet *p)
{
	const uint8_t *tcp = p->body.at;
	if (p->body.n < TCP_HEADER) {
		packet_drop(core, p, COUNT_drop_tcp_short);
		return;
	}
	if (!p->is_handed_over && !p->has_fragment_header && !p->is_reassembled)
		steer_check_hash(core, p->port, p->m, &p->local, get_be16(tcp + 2), &p->remote,
			get_be16(tcp));
	if (is_steered_away(core, p,
		    steer_owner(core->dp, &p->local, get_be16(tcp + 2), &p->remote, get_be16(tcp))))
		return;
	struct tcp_arrival arrival = {.local = p->local,
		.remote = p->remote,
		.ecn = p->ecn,
		.is_checksum_good = offload_has_checked_tcp(&core->dp->ports[p->port], p->m)};
	mbuf_narrow(p->m, p->body);
	tcp_input(core->tcp, p->m, &arrival, p->now_us);
}

void tcp_deliver_error(struct dp_core *core, struct packet *p, const struct addr *local,
	const struct addr *remote, struct bytes tcp, enum tcp_icmp kind, uint32_t mtu)
{
	unsigned port;
	if (tcp.n < 8 || local_find(core->dp, local, &port) == NULL) {
		packet_drop(core, p, COUNT_drop_icmp_quote);
		return;
	}
	/* An error's own addresses say nothing about the owner; the quoted segment does. */
	if (is_steered_away(core, p,
		    steer_owner(core->dp, local, get_be16(tcp.at), remote, get_be16(tcp.at + 2))))
		return;
	count(core, COUNT_icmp_errors_in);
	tcp_icmp_error(core->tcp, local, remote, tcp, kind, mtu, p->now_us);
	rte_pktmbuf_free(p->m);
}

/* A bucket that is kept as time: it fills by waiting, an error takes ERROR_COST_US out of it. */
bool icmp_error_allowed(struct dp_core *core, uint64_t now_us)
{
	uint64_t tokens = core->icmp_tokens_us + (now_us - core->icmp_seen_us);
	core->icmp_seen_us = now_us;
	if (tokens > ERRORS_BURST * ERROR_COST_US)
		tokens = ERRORS_BURST * ERROR_COST_US;
	bool is_allowed = tokens >= ERROR_COST_US;
	core->icmp_tokens_us = is_allowed ? tokens - ERROR_COST_US : tokens;
	count(core, is_allowed ? COUNT_icmp_errors_out : COUNT_icmp_errors_limited);
	return is_allowed;
}
