// SPDX-License-Identifier: Apache-2.0
/* Neighbour discovery (RFC 4861) and duplicate address detection (RFC 4862 5.4). Routes are static:
 * router advertisements and redirects are counted and ignored. */
#include "dataplane/neighbour.h"
#include "dataplane/packet.h"

#define NEIGHBOUR_SOLICITATION	135
#define NEIGHBOUR_ADVERTISEMENT 136
#define NDP_BYTES		24 /* type to target */
#define OPTION_BYTES		8  /* with an Ethernet address */
#define OPTION_SOURCE		1
#define OPTION_TARGET		2
#define FLAG_SOLICITED		0x40
#define FLAG_OVERRIDE		0x20
#define OPTIONS_MAX		16

static const struct addr all_nodes = {
	{0xff, 2, [15] = 1}
};

/* RFC 2464 7 */
static void group_mac(const struct addr *group, uint8_t mac[6])
{
	mac[0] = mac[1] = 0x33;
	memcpy(mac + 2, group->b + 12, 4);
}

struct addr solicited_group(const struct addr *target)
{
	struct addr group = {
		{0xff, 2, [11] = 1, [12] = 0xff}
	};
	memcpy(group.b + 13, target->b + 13, 3);
	return group;
}

/* ---- out ---- */

struct ndp_message {
	uint8_t type, flags;
	uint8_t option; /* 0: none; else our link-layer address under this type */
	const struct addr *target, *from, *to;
	const uint8_t *mac; /* NULL: `to` is a group */
};

static void ndp_send(struct dp_core *core, unsigned port, const struct ndp_message *message)
{
	size_t n = NDP_BYTES + (message->option != 0 ? OPTION_BYTES : 0);
	struct rte_mbuf *m = port_control_buffer(core, n);
	if (m == NULL)
		return;
	uint8_t *icmp = rte_pktmbuf_mtod(m, uint8_t *), mac[6];
	icmp[0] = message->type;
	icmp[4] = message->flags;
	memcpy(icmp + 8, message->target->b, 16);
	if (message->option != 0) {
		icmp[NDP_BYTES] = message->option;
		icmp[NDP_BYTES + 1] = OPTION_BYTES / 8;
		memcpy(icmp + NDP_BYTES + 2, core->dp->ports[port].mac, 6);
	}
	uint16_t sum = icmp6_checksum(message->from, message->to, bytes_of(icmp, n));
	memcpy(icmp + 2, &sum, 2);
	group_mac(message->to, mac);
	count(core, COUNT_ndp_out);
	ip6_output_link(core, port, m, message->from, message->to,
		message->mac == NULL ? mac : message->mac, IP_PROTOCOL_ICMPV6, 255);
}

/* The link-local address is the last of a port and on everybody's link; while it is not to be had,
 * another. */
static const struct addr *ndp_source(const struct dp_port *port, const struct addr *target)
{
	for (unsigned i = port->addr_count; i-- > 0;)
		if (addr_is_link_local(&port->addrs[i].addr) &&
			local_addr_state(&port->addrs[i]) == ADDR_PREFERRED)
			return &port->addrs[i].addr;
	return local_source(port, target);
}

void ndp_ask(struct dp_core *core, unsigned port, const struct addr *target, const uint8_t *mac)
{
	const struct addr *source = ndp_source(&core->dp->ports[port], target);
	struct addr group = solicited_group(target);
	if (source != NULL)
		ndp_send(core, port,
			&(struct ndp_message){.type = NEIGHBOUR_SOLICITATION,
				.option = OPTION_SOURCE,
				.target = target,
				.from = source,
				.to = mac == NULL ? &group : target,
				.mac = mac});
}

void ndp_ask_duplicate(struct dp_core *core, unsigned port, const struct addr *target)
{
	static const struct addr unspecified;
	struct addr group = solicited_group(target);
	ndp_send(core, port,
		&(struct ndp_message){.type = NEIGHBOUR_SOLICITATION,
			.target = target,
			.from = &unspecified,
			.to = &group});
}

void ndp_announce(struct dp_core *core, unsigned port, const struct addr *addr)
{
	ndp_send(core, port,
		&(struct ndp_message){.type = NEIGHBOUR_ADVERTISEMENT,
			.flags = FLAG_OVERRIDE,
			.option = OPTION_TARGET,
			.target = addr,
			.from = addr,
			.to = &all_nodes});
}

/* ---- in ---- */

/* Finds the link-layer address option of `type`; NULL: none. false: the options are malformed,
 * which voids the message (RFC 4861 7.1). */
static bool find_option(struct bytes options, uint8_t type, const uint8_t **mac)
{
	*mac = NULL;
	for (unsigned i = 0; options.n > 0; i++) {
		if (options.n < 8 || options.at[1] == 0 || options.at[1] * 8u > options.n ||
			i == OPTIONS_MAX)
			return false;
		if (options.at[0] == type && options.at[1] == 1 && !(options.at[2] & 1))
			*mac = options.at + 2;
		options = bytes_skip(options, options.at[1] * 8u);
	}
	return true;
}

static void duplicate(struct dp_core *core, struct local_addr *local)
{
	count(core, COUNT_ndp_duplicates);
	atomic_store_explicit(&local->state, ADDR_DUPLICATE, memory_order_relaxed);
}

/* RFC 4861 7.2.4. A solicitation from :: is somebody's duplicate detection: everybody is told. */
static void answer(struct dp_core *core, struct packet *p, const struct addr *target)
{
	bool is_from_nobody = addr_is_unspecified(&p->remote);
	ndp_send(core, p->port,
		&(struct ndp_message){.type = NEIGHBOUR_ADVERTISEMENT,
			.flags = FLAG_OVERRIDE | (is_from_nobody ? 0 : FLAG_SOLICITED),
			.option = OPTION_TARGET,
			.target = target,
			.from = target,
			.to = is_from_nobody ? &all_nodes : &p->remote,
			.mac = is_from_nobody ? NULL : p->source_mac});
}

static bool is_a_neighbour(const struct dp_port *port, const struct addr *a)
{
	return addr_is_link_local(a) || local_is_on_link(port, a);
}

/* RFC 4861 7.1.1, 7.2.3; for tentative addresses RFC 4862 5.4.3. Returns false for an invalid one.
 */
static bool solicitation(struct dp_core *core, struct packet *p, const struct addr *target)
{
	const uint8_t *mac;
	bool is_from_nobody = addr_is_unspecified(&p->remote);
	struct dp_port *port = &core->dp->ports[p->port];
	if (!find_option(bytes_skip(p->body, NDP_BYTES), OPTION_SOURCE, &mac))
		return false;
	if (is_from_nobody && (mac != NULL || !p->is_multicast))
		return false;
	struct local_addr *local = local_find_on(port, target);
	if (local == NULL || local_addr_state(local) == ADDR_DUPLICATE)
		return true;
	if (local_addr_state(local) == ADDR_TENTATIVE) {
		/* Not our own question, come back from the link (RFC 4862 5.4.3, RFC 7527). */
		if (is_from_nobody && memcmp(p->source_mac, port->mac, 6) != 0)
			duplicate(core, local);
		return true;
	}
	if (mac != NULL && is_a_neighbour(port, &p->remote))
		resolver_hear(core, p->port, &p->remote,
			&(struct resolver_claim){
				.mac = mac, .is_override = true, .may_create = true},
			p->now_us);
	answer(core, p, target);
	return true;
}

/* RFC 4861 7.1.2, 7.2.5; RFC 4862 5.4.4. */
static bool advertisement(struct dp_core *core, struct packet *p, const struct addr *target)
{
	const uint8_t *mac;
	uint8_t flags = p->body.at[4];
	if (!find_option(bytes_skip(p->body, NDP_BYTES), OPTION_TARGET, &mac))
		return false;
	if (addr_is_unspecified(&p->remote) || (p->is_multicast && (flags & FLAG_SOLICITED)))
		return false;
	struct local_addr *local = local_find_on(&core->dp->ports[p->port], target);
	if (local == NULL)
		resolver_hear(core, p->port, target,
			&(struct resolver_claim){.mac = mac,
				.is_solicited = flags & FLAG_SOLICITED,
				.is_override = flags & FLAG_OVERRIDE},
			p->now_us);
	else if (local_addr_state(local) == ADDR_TENTATIVE)
		duplicate(core, local);
	else
		count(core, COUNT_ndp_conflicts);
	return true;
}

void ndp_input(struct dp_core *core, struct packet *p)
{
	if (core->index != 0) { /* neighbours are the first core's */
		steer_hand_over(core, p->m, 0);
		return;
	}
	uint8_t type = p->body.at[0];
	if (type != NEIGHBOUR_SOLICITATION && type != NEIGHBOUR_ADVERTISEMENT) {
		packet_drop(core, p, COUNT_drop_ndp_ignored);
		return;
	}
	struct addr target;
	bool is_valid = p->hop_limit == 255 && p->body.at[1] == 0 && p->body.n >= NDP_BYTES;
	if (is_valid) {
		memcpy(target.b, p->body.at + 8, 16);
		is_valid = !addr_is_multicast(&target) && !addr_is_ipv4(&target) &&
			(type == NEIGHBOUR_SOLICITATION ? solicitation(core, p, &target)
							: advertisement(core, p, &target));
	}
	count(core, is_valid ? COUNT_ndp_in : COUNT_drop_ndp_bad);
	rte_pktmbuf_free(p->m);
}
