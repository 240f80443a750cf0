// SPDX-License-Identifier: Apache-2.0
/* Multicast listener discovery (RFC 3810), the listener's side: so that switches which forward
 * groups only to those who want them let neighbour discovery through to us.
 *
 * The groups are the solicited-node ones of our addresses and do not change, so that every report
 * has them all: some after the start, then one for each query, after a wait that the query bounds
 * and chance decides. A querier of version 1 (RFC 2710) is answered in its own words. For the first
 * core. */
#include "dataplane/packet.h"

#include "dataplane/tcp/tcp_hash.h"

#define QUERY	  130
#define REPORT_V1 131
#define REPORT_V2 143

#define V1_BYTES	  24 /* query or report */
#define V2_QUERY_BYTES	  28 /* at least */
#define REPORT_HEADER	  8
#define RECORD_BYTES	  20
#define RECORDS_MAX	  60 /* of a report: 1280 bytes */
#define MODE_IS_EXCLUDE	  2
#define CHANGE_TO_EXCLUDE 4
#define HOP_BY_HOP_BYTES  8

/* The Robustness Variable is 2; and one before, from ::, for the duplicate detection that begins
 * with the start (RFC 3590). */
#define START_REPORTS  3
#define START_EVERY_US (1000 * 1000ull)

static const struct addr all_mld_routers = {
	{0xff, 2, [15] = 0x16}
};

/* ---- out ---- */

/* A reports' source is link-local, or :: until there is one (RFC 3810 5.2.13). */
static const struct addr *source_of(const struct dp_port *port)
{
	static const struct addr unspecified;
	for (unsigned i = 0; i < port->addr_count; i++)
		if (addr_is_link_local(&port->addrs[i].addr) &&
			local_addr_state(&port->addrs[i]) == ADDR_PREFERRED)
			return &port->addrs[i].addr;
	return &unspecified;
}

/* Sends the message that lies behind the room for the hop-by-hop header, which has the router alert
 * (RFC 2711). */
static void send_message(
	struct dp_core *core, unsigned port, struct rte_mbuf *m, const struct addr *to)
{
	static const uint8_t hop_by_hop[HOP_BY_HOP_BYTES] = {IP_PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1};
	uint8_t *start = rte_pktmbuf_mtod(m, uint8_t *), mac[6] = {0x33, 0x33};
	const struct addr *from = source_of(&core->dp->ports[port]);
	struct bytes message = bytes_of(start + HOP_BY_HOP_BYTES, m->data_len - HOP_BY_HOP_BYTES);
	memcpy(start, hop_by_hop, sizeof hop_by_hop);
	uint16_t sum = icmp6_checksum(from, to, message);
	memcpy(start + HOP_BY_HOP_BYTES + 2, &sum, 2);
	memcpy(mac + 2, to->b + 12, 4);
	count(core, COUNT_mld_out);
	ip6_output_link(core, port, m, from, to, mac, 0, 1);
}

/* The solicited-node groups of the port, each once; returns how many. */
static unsigned groups_of(const struct dp_port *port, struct addr groups[LOCAL_ADDRS_MAX])
{
	unsigned n = 0;
	for (unsigned i = 0; i < port->addr_count; i++) {
		struct addr group = solicited_group(&port->addrs[i].addr);
		unsigned j = 0;
		while (j < n && !addr_equal(&groups[j], &group))
			j++;
		if (j == n && !addr_is_ipv4(&port->addrs[i].addr))
			groups[n++] = group;
	}
	return n;
}

static void report(struct dp_core *core, unsigned port, uint8_t mode)
{
	struct addr groups[LOCAL_ADDRS_MAX];
	unsigned count_ = groups_of(&core->dp->ports[port], groups);
	for (unsigned first = 0; first < count_; first += RECORDS_MAX) {
		unsigned n = count_ - first < RECORDS_MAX ? count_ - first : RECORDS_MAX;
		struct rte_mbuf *m = port_control_buffer(
			core, HOP_BY_HOP_BYTES + REPORT_HEADER + n * RECORD_BYTES);
		if (m == NULL)
			return;
		uint8_t *message = rte_pktmbuf_mtod_offset(m, uint8_t *, HOP_BY_HOP_BYTES);
		message[0] = REPORT_V2;
		put_be16(message + 6, (uint16_t)n);
		for (unsigned i = 0; i < n; i++) {
			message[REPORT_HEADER + i * RECORD_BYTES] = mode;
			memcpy(message + REPORT_HEADER + i * RECORD_BYTES + 4, groups[first + i].b,
				16);
		}
		send_message(core, port, m, &all_mld_routers);
	}
}

static void report_v1(struct dp_core *core, unsigned port)
{
	struct addr groups[LOCAL_ADDRS_MAX];
	unsigned n = groups_of(&core->dp->ports[port], groups);
	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *m = port_control_buffer(core, HOP_BY_HOP_BYTES + V1_BYTES);
		if (m == NULL)
			return;
		uint8_t *message = rte_pktmbuf_mtod_offset(m, uint8_t *, HOP_BY_HOP_BYTES);
		message[0] = REPORT_V1;
		memcpy(message + 8, groups[i].b, 16);
		send_message(core, port, m, &groups[i]);
	}
}

void mld_tick(struct dp_core *core, uint64_t now_us)
{
	for (unsigned i = 0; i < core->dp->port_count; i++) {
		struct mld *mld = &core->dp->ports[i].mld;
		if (mld->started < START_REPORTS && now_us >= mld->start_due_us) {
			mld->started++;
			mld->start_due_us = now_us + START_EVERY_US;
			report(core, i, CHANGE_TO_EXCLUDE);
		}
		if (mld->answer_due_us == 0 || now_us < mld->answer_due_us)
			continue;
		mld->answer_due_us = 0;
		if (mld->is_v1)
			report_v1(core, i);
		else
			report(core, i, MODE_IS_EXCLUDE);
	}
}

/* ---- in ---- */

/* RFC 3810 5.1.3: milliseconds, or as a floating point number. */
static uint64_t delay_us(uint16_t code, bool is_v1)
{
	if (is_v1 || code < 0x8000)
		return code * 1000ull;
	return (((code & 0xfffull) | 0x1000) << (((code >> 12) & 7) + 3)) * 1000;
}

static uint64_t chance(const struct dp_core *core, uint64_t now_us, uint64_t below)
{
	return below == 0 ? 0 : siphash(core->dp->secret, &now_us, 1, 1, 3) % below;
}

/* RFC 3810 6.2, 5.1.14: from the link itself, and seen by its routers. */
static bool is_valid(const struct packet *p)
{
	return p->hop_limit == 1 && p->has_router_alert && addr_is_link_local(&p->remote) &&
		(p->body.n == V1_BYTES || p->body.n >= V2_QUERY_BYTES);
}

static bool asks_for_ours(const struct dp_port *port, const struct addr *group)
{
	struct addr groups[LOCAL_ADDRS_MAX];
	unsigned n = groups_of(port, groups);
	for (unsigned i = 0; i < n; i++)
		if (addr_equal(&groups[i], group))
			return true;
	return addr_is_unspecified(group) && n > 0;
}

void mld_input(struct dp_core *core, struct packet *p)
{
	struct addr group;
	struct mld *mld = &core->dp->ports[p->port].mld;
	if (core->index != 0) {
		steer_hand_over(core, p->m, 0);
		return;
	}
	if (!is_valid(p)) {
		packet_drop(core, p, COUNT_drop_mld_bad);
		return;
	}
	count(core, COUNT_mld_in);
	memcpy(group.b, p->body.at + 8, 16);
	if (asks_for_ours(&core->dp->ports[p->port], &group)) {
		bool is_v1 = p->body.n == V1_BYTES;
		uint64_t most = delay_us(get_be16(p->body.at + 4), is_v1);
		uint64_t due = p->now_us + 1 + chance(core, p->now_us, most);
		if (mld->answer_due_us == 0 || due < mld->answer_due_us)
			mld->answer_due_us = due;
		mld->is_v1 = is_v1;
	}
	rte_pktmbuf_free(p->m);
}
