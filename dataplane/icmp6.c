// SPDX-License-Identifier: Apache-2.0
/* ICMPv6 (RFC 4443): echo, errors about our TCP segments, errors to others. NDP is in ndp.c. */
#include "dataplane/packet.h"

#include <rte_cksum.h>

#define ICMP6_HEADER	  8
#define ICMP6_UNREACHABLE 1
#define ICMP6_TOO_BIG	  2
#define ICMP6_TIME	  3
#define ICMP6_PARAMETER	  4
#define PARAMETER_INCOMPLETE 3 /* RFC 7112: a first fragment without all headers */
#define ICMP6_ECHO	  128
#define ICMP6_ECHO_REPLY  129
#define MLD_QUERY	  130
#define NDP_FIRST	  133			     /* router solicitation */
#define NDP_LAST	  137			     /* redirect */
#define QUOTE_BYTES	  (1280 - 40 - ICMP6_HEADER) /* RFC 4443 2.4 c: not beyond the minimum MTU */
#define IP6_MTU_MIN	  1280

uint16_t icmp6_checksum(const struct addr *local, const struct addr *remote, struct bytes message)
{
	uint8_t pseudo[40] = {[39] = IP_PROTOCOL_ICMPV6};
	memcpy(pseudo, local->b, 16);
	memcpy(pseudo + 16, remote->b, 16);
	put_be32(pseudo + 32, (uint32_t)message.n);
	uint32_t sum = rte_raw_cksum(pseudo, sizeof pseudo);
	sum += rte_raw_cksum(message.at, message.n);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put_checksum(
	uint8_t *icmp, size_t n, const struct addr *local, const struct addr *remote)
{
	memset(icmp + 2, 0, 2);
	uint16_t sum = icmp6_checksum(local, remote, bytes_of(icmp, n));
	memcpy(icmp + 2, &sum, 2);
}

/* The request becomes the reply, in its own buffer. One to a group is answered from the port's own
 * address (RFC 4443 4.2), but not by us: nobody needs it. */
static void echo(struct dp_core *core, struct packet *p)
{
	if (p->is_multicast) {
		packet_drop(core, p, COUNT_drop_ip6_multicast);
		return;
	}
	mbuf_narrow(p->m, p->body);
	uint8_t *icmp = rte_pktmbuf_mtod(p->m, uint8_t *);
	icmp[0] = ICMP6_ECHO_REPLY;
	put_checksum(icmp, p->body.n, &p->local, &p->remote);
	count(core, COUNT_icmp_echo_replies);
	ip_output(core, p->m, &p->local, &p->remote, IP_PROTOCOL_ICMPV6, p->now_us);
}

/* Communication forbidden, port unreachable, policy and reject are hard, and so is a host that does
 * not know TCP; the others may pass. */
static enum tcp_icmp kind_of(uint8_t type, uint8_t code)
{
	switch (type) {
	case ICMP6_TOO_BIG: return TCP_ICMP_TOO_BIG;
	case ICMP6_UNREACHABLE: return code == 1 || code >= 4 ? TCP_ICMP_HARD : TCP_ICMP_SOFT;
	case ICMP6_PARAMETER: return code == 1 ? TCP_ICMP_HARD : TCP_ICMP_SOFT;
	default: return TCP_ICMP_SOFT;
	}
}

/* The quoted packet's TCP bytes; none if it is not over TCP. */
static struct bytes quoted_tcp(struct bytes quote)
{
	struct ip6_walk w = {.packet = quote, .is_quote = true};
	if (quote.n < 40 || quote.at[0] >> 4 != 6 || ip6_walk(&w) != IP_PROTOCOL_TCP)
		return BYTES_NONE;
	return w.body;
}

static void error_input(struct dp_core *core, struct packet *p)
{
	const uint8_t *icmp = p->body.at;
	struct bytes quote = bytes_skip(p->body, ICMP6_HEADER), tcp = quoted_tcp(quote);
	enum tcp_icmp kind = kind_of(icmp[0], icmp[1]);
	uint32_t mtu = kind == TCP_ICMP_TOO_BIG ? get_be32(icmp + 4) : 0;
	if (tcp.n == 0) {
		packet_drop(core, p, COUNT_drop_icmp_quote);
		return;
	}
	if (kind == TCP_ICMP_TOO_BIG && mtu < IP6_MTU_MIN) { /* RFC 8201 4 */
		packet_drop(core, p, COUNT_drop_icmp_mtu);
		return;
	}
	struct addr local, remote;
	memcpy(local.b, quote.at + 8, 16);
	memcpy(remote.b, quote.at + 24, 16);
	if (addr_is_ipv4(&local) || addr_is_ipv4(&remote)) {
		packet_drop(core, p, COUNT_drop_icmp_quote);
		return;
	}
	tcp_deliver_error(core, p, &local, &remote, tcp, kind, mtu);
}

void icmp6_input(struct dp_core *core, struct packet *p)
{
	if (p->body.n < ICMP6_HEADER) {
		packet_drop(core, p, COUNT_drop_icmp_short);
		return;
	}
	if (icmp6_checksum(&p->remote, &p->local, p->body) != 0) {
		packet_drop(core, p, COUNT_drop_icmp_checksum);
		return;
	}
	uint8_t type = p->body.at[0];
	if (type >= NDP_FIRST && type <= NDP_LAST) {
		if (p->has_fragment_header) /* RFC 6980 5 */
			packet_drop(core, p, COUNT_drop_ndp_fragment);
		else
			ndp_input(core, p);
		return;
	}
	if (p->is_for_ndp_only) {
		packet_drop(core, p, COUNT_drop_ip6_source);
		return;
	}
	count(core, COUNT_icmp_in);
	if (type == ICMP6_ECHO)
		echo(core, p);
	else if (type == MLD_QUERY)
		mld_input(core, p);
	else if (type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER)
		error_input(core, p);
	else
		packet_drop(core, p, COUNT_drop_icmp_type);
}

/* RFC 4443 2.4 e: not about a packet to a group (but for option faults and too big, which we do not
 * send to groups either), nor to a source that is not one host. */
static bool may_answer(const struct packet *p)
{
	return !p->is_multicast && !p->is_link_multicast && !p->is_for_ndp_only;
}

/* An error or redirect must not be answered (RFC 4443 2.4 e.1, e.2), also where a bad extension
 * header comes before it. What cannot be told is taken for one, unless that is the fault. */
static bool may_be_error(const struct packet *p, bool is_incomplete)
{
	struct bytes transport;
	int protocol = ip6_skim(p->network, &transport);
	return (protocol < 0 && !is_incomplete) ||
		(protocol == IP_PROTOCOL_ICMPV6 &&
			(transport.at[0] < ICMP6_ECHO || transport.at[0] == NDP_LAST));
}

void icmp6_error(struct dp_core *core, struct packet *p, uint8_t type, uint8_t code,
	uint32_t parameter, enum dp_counter reason)
{
	struct bytes quote = bytes_first(p->network, QUOTE_BYTES);
	struct rte_mbuf *m = NULL;
	bool is_incomplete = type == ICMP6_PARAMETER && code == PARAMETER_INCOMPLETE;
	if (may_answer(p) && !may_be_error(p, is_incomplete) && icmp_error_allowed(core, p->now_us))
		m = port_control_buffer(core, ICMP6_HEADER + quote.n);
	if (m != NULL) {
		uint8_t *icmp = rte_pktmbuf_mtod(m, uint8_t *);
		icmp[0] = type;
		icmp[1] = code;
		put_be32(icmp + 4, parameter);
		memcpy(icmp + ICMP6_HEADER, quote.at, quote.n);
		put_checksum(icmp, ICMP6_HEADER + quote.n, &p->local, &p->remote);
		ip_output(core, m, &p->local, &p->remote, IP_PROTOCOL_ICMPV6, p->now_us);
	}
	packet_drop(core, p, reason);
}
