// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/packet_line.h"

#include <arpa/inet.h>

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static struct bytes from(struct bytes b, size_t n)
{
	return n < b.n ? bytes_of(b.at + n, b.n - n) : BYTES_NONE;
}

/* `length`: bytes from the TCP header on, as the IP header has it. */
static void tcp_line(FILE *to, struct bytes tcp, size_t length)
{
	static const char letters[] = "FSRP.UEW";
	const size_t header = (tcp.at[12] >> 4) * 4u;
	fputs("tcp [", to);
	for (unsigned i = 0; i < 8; i++)
		if (tcp.at[13] & 1u << i)
			fputc(letters[i], to);
	fprintf(to, "] seq %u", get32(tcp.at + 4));
	if (tcp.at[13] & 0x10)
		fprintf(to, " ack %u", get32(tcp.at + 8));
	fprintf(to, " win %u length %zu", get16(tcp.at + 14),
		length > header ? length - header : 0);
}

static void transport_line(FILE *to, int family, const uint8_t *source, const uint8_t *destination,
	uint8_t protocol, struct bytes body, size_t length)
{
	char a[INET6_ADDRSTRLEN], b[INET6_ADDRSTRLEN];
	inet_ntop(family, source, a, sizeof a);
	inet_ntop(family, destination, b, sizeof b);
	const bool has_ports = (protocol == 6 || protocol == 17) && body.n >= 4;
	if (has_ports)
		fprintf(to, "%s.%u > %s.%u: ", a, get16(body.at), b, get16(body.at + 2));
	else
		fprintf(to, "%s > %s: ", a, b);
	if (protocol == 6 && body.n >= 20)
		tcp_line(to, body, length);
	else if ((protocol == 1 || protocol == 58) && body.n >= 2)
		fprintf(to, "icmp%s type %u code %u length %zu", protocol == 1 ? "" : "6",
			body.at[0], body.at[1], length);
	else
		fprintf(to, "%s %u length %zu", protocol == 17 ? "udp" : "protocol", protocol,
			length);
}

static void ip4_line(FILE *to, struct bytes ip)
{
	const size_t header = (ip.at[0] & 15) * 4u, total = get16(ip.at + 2);
	const bool is_first = (get16(ip.at + 6) & 0x1fff) == 0;
	fputs("IP ", to);
	transport_line(to, AF_INET, ip.at + 12, ip.at + 16, ip.at[9],
		is_first ? from(ip, header) : BYTES_NONE, total > header ? total - header : 0);
}

static void arp_line(FILE *to, struct bytes arp)
{
	char a[INET_ADDRSTRLEN], b[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, arp.at + 14, a, sizeof a);
	inet_ntop(AF_INET, arp.at + 24, b, sizeof b);
	if (get16(arp.at + 6) == 1)
		fprintf(to, "ARP who has %s, tell %s", b, a);
	else
		fprintf(to, "ARP %s is at %02x:%02x:%02x:%02x:%02x:%02x", a, arp.at[8], arp.at[9],
			arp.at[10], arp.at[11], arp.at[12], arp.at[13]);
}

void packet_line(FILE *to, struct bytes frame, uint32_t length)
{
	const struct bytes network = from(frame, 14);
	const uint16_t type = frame.n >= 14 ? get16(frame.at + 12) : 0;
	if (type == 0x0800 && network.n >= 20) {
		ip4_line(to, network);
	} else if (type == 0x86dd && network.n >= 40) {
		fputs("IP6 ", to);
		transport_line(to, AF_INET6, network.at + 8, network.at + 24, network.at[6],
			from(network, 40), get16(network.at + 4));
	} else if (type == 0x0806 && network.n >= 28) {
		arp_line(to, network);
	} else {
		fprintf(to, "ethertype 0x%04x length %u", type, length);
	}
}
