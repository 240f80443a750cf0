// SPDX-License-Identifier: Apache-2.0
/* Only what a script needs: no options, extension headers or fragments come in, and what goes out is as plain. The IP
 * layer proper, in dataplane/, is tested elsewhere. */
#include "tests/wire/packetdrill/shim.h"

#include <errno.h>

#include "tests/wire/packet.h"

#define PROTOCOL_ICMP	1
#define PROTOCOL_TCP	6
#define PROTOCOL_ICMPV6 58

static uint16_t sum_of(struct bytes b)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < b.n; i++)
		sum += i % 2 ? b.at[i] : (uint32_t)b.at[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* An IP packet taken apart. */
struct datagram {
	struct addr source, destination;
	uint8_t protocol, ecn;
	struct bytes body;
};

static bool read_ip4(struct bytes b, struct datagram *d, bool is_quoted)
{
	const size_t header = b.n < 20 ? 0 : (b.at[0] & 15) * 4u;
	if (header < 20 || header > b.n)
		return false;
	const size_t total = packet_get(b.at + 2, 2);
	if (!is_quoted && (total > b.n || total < header || sum_of(bytes_first(b, header)) != 0))
		return false;
	if (packet_get(b.at + 6, 2) & 0x3fff) /* a fragment */
		return false;
	*d = (struct datagram){addr_from_ipv4(b.at + 12), addr_from_ipv4(b.at + 16), b.at[9], b.at[1] & 3,
		bytes_skip(is_quoted ? b : bytes_first(b, total), header)};
	return true;
}

static bool read_ip6(struct bytes b, struct datagram *d, bool is_quoted)
{
	if (b.n < 40)
		return false;
	const size_t length = packet_get(b.at + 4, 2);
	if (!is_quoted && length > b.n - 40)
		return false;
	*d = (struct datagram){.protocol = b.at[6], .ecn = b.at[1] >> 4 & 3, .body = bytes_skip(b, 40)};
	if (!is_quoted)
		d->body = bytes_first(d->body, length);
	memcpy(d->source.b, b.at + 8, 16);
	memcpy(d->destination.b, b.at + 24, 16);
	return true;
}

static bool read_ip(struct bytes b, struct datagram *d, bool is_quoted)
{
	const unsigned version = b.n == 0 ? 0 : b.at[0] >> 4;
	return version == 4 ? read_ip4(b, d, is_quoted) : version == 6 && read_ip6(b, d, is_quoted);
}

static int tcp_in(struct shim *s, const struct datagram *d)
{
	const struct tcp_arrival a = {.local = d->destination, .remote = d->source, .ecn = d->ecn};
	struct rte_mbuf *m = rte_pktmbuf_alloc(s->pool);
	void *to = m == NULL || d->body.n > UINT16_MAX ? NULL : rte_pktmbuf_append(m, (uint16_t)d->body.n);
	if (to == NULL) {
		rte_pktmbuf_free(m);
		errno = ENOBUFS;
		return -1;
	}
	memcpy(to, d->body.at, d->body.n);
	tcp_input(s->tcp, m, &a, s->now_us);
	return 0;
}

/* RFC 1122 4.2.3.9, RFC 4443 3.1: which errors are hard. */
static enum tcp_icmp kind_of(bool is_ipv6, uint8_t type, uint8_t code)
{
	if (is_ipv6)
		return type == 2 ? TCP_ICMP_TOO_BIG
			: (type == 1 && (code == 1 || code >= 4)) || (type == 4 && code == 1) ? TCP_ICMP_HARD
											       : TCP_ICMP_SOFT;
	if (type != 3)
		return TCP_ICMP_SOFT;
	return code == 4 ? TCP_ICMP_TOO_BIG
		: code == 2 || code == 3 || code == 9 || code == 10 || code == 13 ? TCP_ICMP_HARD : TCP_ICMP_SOFT;
}

static bool is_error(bool is_ipv6, uint8_t type)
{
	return is_ipv6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
}

static void icmp_in(struct shim *s, const struct datagram *d)
{
	const bool is_ipv6 = d->protocol == PROTOCOL_ICMPV6;
	const uint8_t *icmp = d->body.at;
	struct datagram quoted;
	if (d->body.n < 8 || !is_error(is_ipv6, icmp[0]) || !read_ip(bytes_skip(d->body, 8), &quoted, true) ||
		quoted.protocol != PROTOCOL_TCP)
		return;
	const enum tcp_icmp kind = kind_of(is_ipv6, icmp[0], icmp[1]);
	const uint32_t mtu = kind != TCP_ICMP_TOO_BIG ? 0
		: is_ipv6 ? packet_get(icmp + 4, 4) : packet_get(icmp + 6, 2);
	tcp_icmp_error(s->tcp, &quoted.source, &quoted.destination, quoted.body, kind, mtu, s->now_us);
}

int ip_in(struct shim *s, const void *packet, size_t n)
{
	struct datagram d;
	if (!read_ip(bytes_of(packet, n), &d, false)) {
		errno = EINVAL;
		return -1;
	}
	if (d.protocol == PROTOCOL_TCP)
		return tcp_in(s, &d);
	if (d.protocol == (addr_is_ipv4(&d.source) ? PROTOCOL_ICMP : PROTOCOL_ICMPV6))
		icmp_in(s, &d);
	return 0;
}

static size_t put_ip4(uint8_t *p, const struct tcp_departure *d)
{
	memset(p, 0, 20);
	p[0] = 0x45;
	packet_put(p + 2, 20 + d->m->pkt_len, 2);
	packet_put(p + 6, 0x4000, 2);
	p[8] = 64;
	p[9] = PROTOCOL_TCP;
	memcpy(p + 12, addr_ipv4(&d->local), 4);
	memcpy(p + 16, addr_ipv4(&d->remote), 4);
	packet_put(p + 10, sum_of(bytes_of(p, 20)), 2);
	return 20;
}

static size_t put_ip6(uint8_t *p, const struct tcp_departure *d)
{
	memset(p, 0, 40);
	p[0] = 0x60;
	packet_put(p + 4, d->m->pkt_len, 2);
	p[6] = PROTOCOL_TCP;
	p[7] = 64;
	memcpy(p + 8, d->local.b, 16);
	memcpy(p + 24, d->remote.b, 16);
	return 40;
}

size_t ip_out(const struct tcp_departure *d, void *packet, size_t room)
{
	const bool is_ipv4 = addr_is_ipv4(&d->remote);
	if (room < (is_ipv4 ? 20u : 40u) + d->m->pkt_len)
		return 0;
	uint8_t *p = packet;
	p += is_ipv4 ? put_ip4(p, d) : put_ip6(p, d);
	const void *at = rte_pktmbuf_read(d->m, 0, d->m->pkt_len, p);
	if (at != p)
		memcpy(p, at, d->m->pkt_len);
	return (size_t)(p - (uint8_t *)packet) + d->m->pkt_len;
}
