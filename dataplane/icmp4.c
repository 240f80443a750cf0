// SPDX-License-Identifier: Apache-2.0
/* ICMP (RFC 792, RFC 1122 3.2.2): echo, errors about our TCP segments, errors to others. */
#include "dataplane/packet.h"

#include <rte_cksum.h>

#define IP4_HEADER	 20
#define ICMP_HEADER	 8
#define ICMP_ECHO_REPLY	 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO	 8
#define ICMP_TIME	 11
#define ICMP_PARAMETER	 12
#define QUOTE_BYTES	 548 /* RFC 1812 4.3.2.3: the error is 576 bytes at most */
#define IP4_MTU_MIN	 68  /* RFC 791 3.2 */

static void put_checksum(uint8_t *icmp, size_t n)
{
	memset(icmp + 2, 0, 2);
	uint16_t sum = (uint16_t)~rte_raw_cksum(icmp, n);
	memcpy(icmp + 2, &sum, 2);
}

/* The request becomes the reply, in its own buffer. What was put together from fragments may be
 * longer than we send, and is then cut (RFC 1122 3.2.2.6). */
static void echo(struct dp_core *core, struct packet *p)
{
	p->body = bytes_first(p->body, core->dp->ports[p->port].mtu - IP4_HEADER);
	mbuf_narrow(p->m, p->body);
	uint8_t *icmp = rte_pktmbuf_mtod(p->m, uint8_t *);
	icmp[0] = ICMP_ECHO_REPLY;
	put_checksum(icmp, p->body.n);
	count(core, COUNT_icmp_echo_replies);
	ip_output(core, p->m, &p->local, &p->remote, IP_PROTOCOL_ICMP, p->now_us);
}

/* RFC 1122 4.2.3.9: protocol and port unreachable are hard, and so is what an administrator
 * forbids; the others may pass. Code 4 is "fragmentation needed" (RFC 1191). */
static enum tcp_icmp kind_of(uint8_t type, uint8_t code)
{
	if (type != ICMP_UNREACHABLE)
		return TCP_ICMP_SOFT;
	switch (code) {
	case 4: return TCP_ICMP_TOO_BIG;
	case 2:
	case 3:
	case 9:
	case 10:
	case 13: return TCP_ICMP_HARD;
	default: return TCP_ICMP_SOFT;
	}
}

/* The quoted packet's TCP bytes; none if it is not a first fragment of ours over TCP. */
static struct bytes quoted_tcp(struct bytes quote)
{
	if (quote.n < 20 || quote.at[0] >> 4 != 4 || quote.at[9] != IP_PROTOCOL_TCP)
		return BYTES_NONE;
	size_t header = (quote.at[0] & 15) * 4u;
	if (header < 20 || (get_be16(quote.at + 6) & 0x1fff) != 0)
		return BYTES_NONE;
	return bytes_skip(quote, header);
}

static void error_input(struct dp_core *core, struct packet *p)
{
	const uint8_t *icmp = p->body.at;
	struct bytes quote = bytes_skip(p->body, ICMP_HEADER), tcp = quoted_tcp(quote);
	enum tcp_icmp kind = kind_of(icmp[0], icmp[1]);
	uint32_t mtu = kind == TCP_ICMP_TOO_BIG ? get_be16(icmp + 6) : 0;
	if (tcp.n == 0) {
		packet_drop(core, p, COUNT_drop_icmp_quote);
		return;
	}
	if (mtu != 0 && mtu < IP4_MTU_MIN) {
		packet_drop(core, p, COUNT_drop_icmp_mtu);
		return;
	}
	struct addr local = addr_from_ipv4(quote.at + 12), remote = addr_from_ipv4(quote.at + 16);
	tcp_deliver_error(core, p, &local, &remote, tcp, kind, mtu);
}

void icmp4_input(struct dp_core *core, struct packet *p)
{
	if (p->body.n < ICMP_HEADER) {
		packet_drop(core, p, COUNT_drop_icmp_short);
		return;
	}
	if (rte_raw_cksum(p->body.at, p->body.n) != 0xffff) {
		packet_drop(core, p, COUNT_drop_icmp_checksum);
		return;
	}
	count(core, COUNT_icmp_in);
	switch (p->body.at[0]) {
	case ICMP_ECHO: echo(core, p); break;
	case ICMP_UNREACHABLE:
	case ICMP_TIME:
	case ICMP_PARAMETER: error_input(core, p); break;
	default: packet_drop(core, p, COUNT_drop_icmp_type); break;
	}
}

/* Of the time a datagram took to come together anything can have been the subject (RFC 1122 3.2.2). */
static bool may_be_error(const struct packet *p)
{
	if (p->network.at[9] != IP_PROTOCOL_ICMP)
		return false;
	struct bytes icmp = bytes_skip(p->network, (p->network.at[0] & 15) * 4u);
	return icmp.n == 0 || (icmp.at[0] != ICMP_ECHO && icmp.at[0] != ICMP_ECHO_REPLY);
}

/* Nothing here answers a broadcast or a fragment but a first one: those never get so far (RFC
 * 1122 3.2.2). */
void icmp4_error(
	struct dp_core *core, struct packet *p, uint8_t type, uint8_t code, enum dp_counter reason)
{
	struct bytes quote = bytes_first(p->network, QUOTE_BYTES);
	struct rte_mbuf *m = NULL;
	if (!may_be_error(p) && icmp_error_allowed(core, p->now_us))
		m = port_control_buffer(core, ICMP_HEADER + quote.n);
	if (m != NULL) {
		uint8_t *icmp = rte_pktmbuf_mtod(m, uint8_t *);
		icmp[0] = type;
		icmp[1] = code;
		memcpy(icmp + ICMP_HEADER, quote.at, quote.n);
		put_checksum(icmp, ICMP_HEADER + quote.n);
		ip_output(core, m, &p->local, &p->remote, IP_PROTOCOL_ICMP, p->now_us);
	}
	packet_drop(core, p, reason);
}
