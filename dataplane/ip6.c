// SPDX-License-Identifier: Apache-2.0
/* IPv6 in (RFC 8200). Extension headers are walked within limits (RFC 8504 5.3); routing headers
 * with segments left are refused, fragments dropped. */
#include "dataplane/packet.h"

#define IP6_HEADER     40
#define EXTENSIONS_MAX 8 /* headers in a packet: a real one has one or two */
#define EXTENSION_BYTES_MAX                                                                        \
	256	      /* together: they must leave the TCP header in the first cache lines */
#define OPTIONS_MAX 8 /* in a header, padding not counted (RFC 8504 5.3) */

#define NEXT_HOP_BY_HOP	 0
#define NEXT_ROUTING	 43
#define NEXT_FRAGMENT	 44
#define NEXT_NONE	 59
#define NEXT_DESTINATION 60

/* The walk's place. */
struct walk {
	struct bytes packet; /* from the IPv6 header on: pointers of ICMPv6 count from there */
	struct bytes rest;   /* from the header at hand on */
	bool is_multicast;
	enum dp_counter why;
	struct ip6_fault fault;
};

static bool refuse(struct walk *w, enum dp_counter why)
{
	w->why = why;
	return false;
}

static bool refuse_at(struct walk *w, enum dp_counter why, int code, const uint8_t *at)
{
	w->fault = (struct ip6_fault){code, (uint32_t)(at - w->packet.at)};
	return refuse(w, why);
}

/* RFC 8200 4.2: the two highest bits of an option that we do not know say what to do. */
static bool unknown_option(struct walk *w, const uint8_t *option)
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

static bool walk_options(struct walk *w, struct bytes options)
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
		if (option[0] != 1 /* PadN */) {
			if (++options_seen > OPTIONS_MAX)
				return refuse(w, COUNT_drop_ip6_extension);
			if (!unknown_option(w, option))
				return false;
		}
		options = bytes_skip(options, 2u + option[1]);
	}
	return true;
}

static bool walk_routing(struct walk *w, const uint8_t *header)
{
	if (header[3] == 0) /* no segments left: this is the end of the route */
		return true;
	return refuse_at(w, COUNT_drop_ip6_routing, 0, header + 2); /* RFC 8200 4.4, RFC 5095 3 */
}

/* An atomic fragment is a whole packet (RFC 6946 4). */
static bool walk_fragment(struct walk *w, const uint8_t *header)
{
	if ((get_be16(header + 2) & ~6u) == 0)
		return true;
	return refuse(w, COUNT_drop_ip6_fragment);
}

static bool is_extension(uint8_t next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
		next == NEXT_DESTINATION;
}

/* One extension header; moves behind it. `next` is its own number and becomes the following one's.
 */
static bool walk_header(struct walk *w, uint8_t *next, bool is_first)
{
	const uint8_t *header = w->rest.at;
	if (w->rest.n < 8)
		return refuse(w, COUNT_drop_ip6_extension);
	size_t length = *next == NEXT_FRAGMENT ? 8 : (header[1] + 1u) * 8;
	if (length > w->rest.n)
		return refuse(w, COUNT_drop_ip6_extension);
	if (*next == NEXT_HOP_BY_HOP && !is_first) /* RFC 8200 4.1 */
		return refuse(w, COUNT_drop_ip6_extension);
	bool is_fine = *next == NEXT_ROUTING ? walk_routing(w, header)
		: *next == NEXT_FRAGMENT     ? walk_fragment(w, header)
					     : walk_options(w, bytes_of(header + 2, length - 2));
	*next = header[0];
	w->rest = bytes_skip(w->rest, length);
	return is_fine;
}

int ip6_walk(struct bytes packet, uint8_t next, struct bytes *body, bool is_multicast,
	enum dp_counter *why, struct ip6_fault *fault)
{
	struct walk w = {
		.packet = packet, .rest = *body, .is_multicast = is_multicast, .fault.code = -1};
	bool is_fine = true;
	for (unsigned i = 0; is_fine && is_extension(next); i++) {
		size_t walked = body->n - w.rest.n;
		if (i == EXTENSIONS_MAX || walked > EXTENSION_BYTES_MAX)
			is_fine = refuse(&w, COUNT_drop_ip6_extension);
		else
			is_fine = walk_header(&w, &next, i == 0);
	}
	if (is_fine && next == NEXT_NONE)
		is_fine = refuse(&w, COUNT_drop_ip6_none);
	*body = w.rest;
	*why = w.why;
	if (fault != NULL)
		*fault = w.fault;
	return is_fine ? next : -1;
}

int ip6_skim(struct bytes packet, uint8_t *first)
{
	uint8_t next = packet.at[6];
	struct bytes rest = bytes_skip(packet, IP6_HEADER);
	while (is_extension(next) && rest.n >= 8) {
		size_t length = next == NEXT_FRAGMENT ? 8 : (rest.at[1] + 1u) * 8;
		next = rest.at[0];
		rest = bytes_skip(rest, length);
	}
	if (rest.n == 0)
		return -1;
	*first = rest.at[0];
	return next;
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

/* Only ICMPv6 is spoken to groups. */
static void deliver(struct dp_core *core, struct packet *p, int protocol)
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
	else /* RFC 8200 4: the pointer is where the unknown number stands; without extensions, at 6
	      */
		icmp6_error(core, p, 4, 1, 6, COUNT_drop_protocol);
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
	struct ip6_fault fault;
	int protocol =
		ip6_walk(p->network, p->network.at[6], &p->body, p->is_multicast, &reason, &fault);
	if (protocol >= 0)
		deliver(core, p, protocol);
	else if (fault.code >= 0)
		icmp6_error(core, p, 4, (uint8_t)fault.code, fault.pointer, reason);
	else
		packet_drop(core, p, reason);
}
