// SPDX-License-Identifier: Apache-2.0
/* IPv6 in (RFC 8200). Extension headers are walked within limits (RFC 8504 5.3); routing headers
 * with segments left are refused. */
#include "dataplane/packet.h"
#include "dataplane/reassembly.h"

#define IP6_HEADER     40
#define TCP_HEADER     20
#define ICMP6_PARAMETER 4
#define EXTENSIONS_MAX 8 /* headers in a packet: a real one has one or two */
#define EXTENSION_BYTES_MAX                                                                        \
	256	      /* together: they must leave the TCP header in the first cache lines */
#define OPTIONS_MAX 8 /* in a header, padding not counted (RFC 8504 5.3) */

#define NEXT_HOP_BY_HOP	 0
#define NEXT_ROUTING	 43
#define NEXT_NONE	 59
#define NEXT_DESTINATION 60
#define NEXT_AT		 6 /* in the IPv6 header */

#define FRAGMENT_OFFSET 0xfff8
#define FRAGMENT_MORE	1
#define OPTION_ROUTER_ALERT 5 /* RFC 2711; MLD has it */

static bool refuse(struct ip6_walk *w, enum dp_counter why)
{
	w->why = why;
	return false;
}

static bool refuse_at(struct ip6_walk *w, enum dp_counter why, int code, const uint8_t *at)
{
	w->fault_code = code;
	w->fault_at = (uint32_t)(at - w->packet.at);
	return refuse(w, why);
}

static bool is_router_alert(const uint8_t *option)
{
	return option[0] == OPTION_ROUTER_ALERT && option[1] == 2;
}

/* RFC 8200 4.2: the two highest bits of an option that we do not know say what to do. */
static bool unknown_option(struct ip6_walk *w, const uint8_t *option)
{
	switch (option[0] >> 6) {
	case 0: return true;
	case 2: return refuse_at(w, COUNT_drop_ip6_option, 2, option);
	case 3:
		if (!w->is_multicast)
			return refuse_at(w, COUNT_drop_ip6_option, 2, option);
		return refuse(w, COUNT_drop_ip6_option);
	default: return refuse(w, COUNT_drop_ip6_option);
	}
}

static bool walk_options(struct ip6_walk *w, struct bytes options)
{
	unsigned options_seen = 0;
	while (options.n > 0) {
		const uint8_t *option = options.at;
		if (option[0] == 0) { /* Pad1 */
			options = bytes_skip(options, 1);
			continue;
		}
		if (options.n < 2 || options.n < 2u + option[1])
			return refuse(w, COUNT_drop_ip6_extension);
		if (is_router_alert(option))
			w->has_router_alert = true;
		else if (option[0] != 1 /* PadN */) {
			if (++options_seen > OPTIONS_MAX)
				return refuse(w, COUNT_drop_ip6_extension);
			if (!unknown_option(w, option))
				return false;
		}
		options = bytes_skip(options, 2u + option[1]);
	}
	return true;
}

static bool walk_routing(struct ip6_walk *w, const uint8_t *header)
{
	if (header[3] == 0) /* no segments left: this is the end of the route */
		return true;
	return refuse_at(w, COUNT_drop_ip6_routing, 0, header + 2); /* RFC 8200 4.4, RFC 5095 3 */
}

/* Returns true if the walk goes on: an atomic fragment is a whole packet (RFC 6946 4), and in a
 * quote the first of more has all we ask for. */
static bool walk_fragment(struct ip6_walk *w, const uint8_t *header)
{
	uint16_t mask = w->is_quote ? FRAGMENT_OFFSET : FRAGMENT_OFFSET | FRAGMENT_MORE;
	bool is_second = w->fragment != NULL;
	w->fragment = header;
	return !is_second && (get_be16(header + 2) & mask) == 0;
}

static bool is_extension(uint8_t next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == IP6_FRAGMENT ||
		next == NEXT_DESTINATION;
}

/* One extension header; moves behind it. */
static bool walk_header(struct ip6_walk *w, bool is_first)
{
	const uint8_t *header = w->body.at, next = w->packet.at[w->next_at];
	if (w->body.n < 8)
		return refuse(w, COUNT_drop_ip6_extension);
	size_t length = next == IP6_FRAGMENT ? 8 : (header[1] + 1u) * 8;
	if (length > w->body.n)
		return refuse(w, COUNT_drop_ip6_extension);
	if (next == NEXT_HOP_BY_HOP && !is_first) /* RFC 8200 4.1 */
		return refuse_at(w, COUNT_drop_ip6_extension, 1, w->packet.at + w->next_at);
	w->body = bytes_skip(w->body, length);
	if (next == IP6_FRAGMENT)
		return walk_fragment(w, header);
	bool is_fine = next == NEXT_ROUTING ? walk_routing(w, header)
					    : walk_options(w, bytes_of(header + 2, length - 2));
	if (is_fine)
		w->next_at = (uint16_t)(header - w->packet.at);
	return is_fine;
}

int ip6_walk(struct ip6_walk *w)
{
	w->body = bytes_skip(w->packet, IP6_HEADER);
	w->next_at = NEXT_AT;
	w->fragment = NULL;
	w->fault_code = -1;
	const size_t n = w->body.n;
	for (unsigned i = 0; is_extension(w->packet.at[w->next_at]); i++) {
		bool is_fragment = w->packet.at[w->next_at] == IP6_FRAGMENT;
		if (i == EXTENSIONS_MAX || n - w->body.n > EXTENSION_BYTES_MAX) {
			refuse(w, COUNT_drop_ip6_extension);
			return -1;
		}
		if (!walk_header(w, i == 0))
			return is_fragment && w->fragment != NULL ? IP6_FRAGMENT : -1;
		if (is_fragment)
			w->next_at = (uint16_t)(w->fragment - w->packet.at);
	}
	if (w->packet.at[w->next_at] != NEXT_NONE)
		return w->packet.at[w->next_at];
	refuse(w, COUNT_drop_ip6_none);
	return -1;
}

int ip6_skim(struct bytes packet, struct bytes *transport)
{
	uint8_t next = packet.at[NEXT_AT];
	struct bytes rest = bytes_skip(packet, IP6_HEADER);
	while (is_extension(next) && rest.n >= 8) {
		size_t length = next == IP6_FRAGMENT ? 8 : (rest.at[1] + 1u) * 8;
		next = rest.at[0];
		rest = bytes_skip(rest, length);
	}
	*transport = rest;
	return rest.n == 0 || is_extension(next) ? -1 : next;
}

static enum dp_counter check_header(struct packet *p)
{
	const uint8_t *ip = p->network.at;
	if (p->network.n < IP6_HEADER)
		return COUNT_drop_ip6_short;
	size_t payload = get_be16(ip + 4);
	if (ip[0] >> 4 != 6 || (payload == 0 && ip[6] == NEXT_HOP_BY_HOP))
		return COUNT_drop_ip6_header; /* a jumbo payload is longer than our buffers (RFC
						 2675) */
	if (payload > p->network.n - IP6_HEADER)
		return COUNT_drop_ip6_short;
	p->network.n = IP6_HEADER + payload;
	p->body = bytes_skip(p->network, IP6_HEADER);
	memcpy(p->local.b, ip + 24, 16);
	memcpy(p->remote.b, ip + 8, 16);
	p->ecn = (ip[1] >> 4) & 3;
	p->hop_limit = ip[7];
	return COUNT_END;
}

/* ff02::1, and ff02::1:ffXX:XXXX of an address of the port (RFC 4291 2.7.1). */
static bool is_our_group(const struct dp_port *port, const struct addr *group)
{
	static const struct addr all_nodes = {
		{0xff, 2, [15] = 1}
	   };
	static const uint8_t solicited[13] = {0xff, 2, [11] = 1, [12] = 0xff};
	if (addr_equal(group, &all_nodes))
		return true;
	if (memcmp(group->b, solicited, sizeof solicited) != 0)
		return false;
	for (unsigned i = 0; i < port->addr_count; i++)
		if (!addr_is_ipv4(&port->addrs[i].addr) &&
			memcmp(port->addrs[i].addr.b + 13, group->b + 13, 3) == 0)
			return true;
	return false;
}

/* The IPv4-mapped ones are ours to use inside (struct addr) and never come from the wire. Sources
 * that only duplicate detection may have are for icmp6_input() and deliver() to tell apart. */
static bool is_source_possible(const struct addr *a)
{
	static const struct addr loopback = {{[15] = 1}};
	return !addr_is_multicast(a) && !addr_is_ipv4(a) && !addr_equal(a, &loopback);
}

static enum dp_counter check_addresses(struct dp_core *core, struct packet *p)
{
	unsigned port;
	p->is_multicast = addr_is_multicast(&p->local);
	if (p->is_multicast) {
		if (!is_our_group(&core->dp->ports[p->port], &p->local))
			return COUNT_drop_ip6_not_ours;
	} else {
		const struct local_addr *local =
			addr_is_ipv4(&p->local) ? NULL : local_find(core->dp, &p->local, &port);
		if (local == NULL || local_addr_state(local) != ADDR_PREFERRED)
			return COUNT_drop_ip6_not_ours;
		if (p->is_link_multicast)
			return COUNT_drop_ip6_multicast;
	}
	p->is_for_ndp_only =
		addr_is_unspecified(&p->remote) || local_find(core->dp, &p->remote, &port) != NULL;
	return is_source_possible(&p->remote) ? COUNT_END : COUNT_drop_ip6_source;
}

/* Only ICMPv6 is spoken to groups. `next_at`: where the protocol's number stands. */
static void deliver(struct dp_core *core, struct packet *p, int protocol, uint16_t next_at)
{
	if (protocol == IP_PROTOCOL_ICMPV6) {
		icmp6_input(core, p);
		return;
	}
	if (p->is_multicast || p->is_for_ndp_only) {
		packet_drop(core, p,
			p->is_multicast ? COUNT_drop_ip6_multicast : COUNT_drop_ip6_source);
		return;
	}
	if (protocol == IP_PROTOCOL_TCP)
		tcp_deliver(core, p);
	else if (protocol == IP_PROTOCOL_UDP)
		icmp6_error(core, p, 1, 4, 0, COUNT_drop_udp);
	else /* RFC 8200 4 */
		icmp6_error(core, p, ICMP6_PARAMETER, 1, next_at, COUNT_drop_protocol);
}

/* RFC 7112 5: a first fragment has all headers up to the transport's, that one too. */
static bool has_all_headers(struct bytes packet)
{
	struct bytes transport;
	switch (ip6_skim(packet, &transport)) {
	case -1: return false;
	case IP_PROTOCOL_TCP: return transport.n >= TCP_HEADER;
	case IP_PROTOCOL_UDP:
	case IP_PROTOCOL_ICMPV6: return transport.n >= 8;
	default: return true;
	}
}

/* RFC 8200 4.5, with what is to be said to the sender. */
static void fragment(struct dp_core *core, struct packet *p, const struct ip6_walk *w)
{
	uint16_t field = get_be16(w->fragment + 2), offset = field & FRAGMENT_OFFSET;
	if (p->is_reassembled || p->is_multicast || p->is_for_ndp_only)
		packet_drop(core, p,
			p->is_reassembled	  ? COUNT_drop_ip6_extension
				: p->is_multicast ? COUNT_drop_ip6_multicast
						  : COUNT_drop_ip6_source);
	else if (offset == 0 && !has_all_headers(p->network))
		icmp6_error(core, p, ICMP6_PARAMETER, 3, 0, COUNT_drop_fragment_tiny);
	else if ((field & FRAGMENT_MORE) && p->body.n % 8 != 0)
		icmp6_error(core, p, ICMP6_PARAMETER, 0, 4, COUNT_drop_fragment_bad);
	else if (offset + p->body.n > UINT16_MAX)
		icmp6_error(core, p, ICMP6_PARAMETER, 0,
			(uint32_t)(w->fragment + 2 - p->network.at), COUNT_drop_fragment_too_long);
	else
		reassembly_input(core, p,
			&(struct fragment){.id = get_be32(w->fragment + 4),
				.has_more = field & FRAGMENT_MORE,
				.offset = offset,
				.next_at = w->next_at});
}

void ip6_input(struct dp_core *core, struct packet *p)
{
	enum dp_counter reason = check_header(p);
	if (reason == COUNT_END)
		reason = check_addresses(core, p);
	if (reason != COUNT_END) {
		packet_drop(core, p, reason);
		return;
	}
	struct ip6_walk w = {.packet = p->network, .is_multicast = p->is_multicast};
	int protocol = ip6_walk(&w);
	p->body = w.body;
	p->has_router_alert = w.has_router_alert;
	p->has_fragment_header = w.fragment != NULL || p->is_reassembled;
	if (protocol == IP6_FRAGMENT)
		fragment(core, p, &w);
	else if (protocol >= 0)
		deliver(core, p, protocol, w.next_at);
	else if (w.fault_code >= 0)
		icmp6_error(core, p, ICMP6_PARAMETER, (uint8_t)w.fault_code, w.fault_at, w.why);
	else
		packet_drop(core, p, w.why);
}
