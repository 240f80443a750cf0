// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_segment.c: the TCP header as it comes and goes (RFC 9293 3.1, 3.2). */
#include "dataplane/tcp/tcp_private.h"

#include <netinet/in.h>

#include <rte_byteorder.h>

#include "base/checksum.h"

enum {
	OPTION_END,
	OPTION_NOP,
	OPTION_MSS,
	OPTION_WSCALE,
	OPTION_SACK_PERMITTED,
	OPTION_SACK,
	OPTION_TIMESTAMPS = 8,
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}
static uint8_t *put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}
static uint8_t *put32(uint8_t *p, uint32_t v)
{
	return put16(put16(p, v >> 16), v);
}

/* The sum over the pseudo-header, not folded. The prefix of an IPv4-mapped address adds 0xffff, which is
 * nothing in ones' complement, and the other fields are the same in both families: no case for it. */
static uint32_t pseudo_header_sum(const struct addr *a, const struct addr *b, uint32_t len)
{
	return (uint32_t)checksum_sum(bytes_of(a, sizeof *a)) + checksum_sum(bytes_of(b, sizeof *b)) +
		rte_cpu_to_be_16((uint16_t)len) + rte_cpu_to_be_16(IPPROTO_TCP);
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* rte_raw_cksum_mbuf() of DPDK 24.11 loses carries where a chained segment begins at an odd place. */
static bool is_checksum_good(const struct rte_mbuf *m, const struct tcp_arrival *a)
{
	uint32_t sum = pseudo_header_sum(&a->local, &a->remote, m->pkt_len), done = 0;
	for (; m != NULL; m = m->next) {
		uint16_t part = checksum_sum(bytes_of(rte_pktmbuf_mtod(m, const void *), m->data_len));
		sum = fold(sum) + (uint32_t)(done % 2 == 0 ? part : rte_bswap16(part));
		done += m->data_len;
	}
	return fold(sum) == 0xffff;
}

static void read_sack(struct tcp_segment *seg, const uint8_t *p, unsigned n)
{
	for (seg->sack_count = 0; n >= 8 && seg->sack_count < TCP_SACK_BLOCKS; n -= 8, p += 8)
		seg->sack[seg->sack_count++] = (struct tcp_range){get32(p), get32(p + 4)};
}

/* RFC 2018 2, 3; RFC 7323 2.2, 3.2; RFC 9293 3.7.1: options with a wrong length are as if they were not there. */
static void read_option(struct tcp_segment *seg, uint8_t kind, const uint8_t *value, unsigned n)
{
	const bool is_syn = seg->flags & RTE_TCP_SYN_FLAG;
	if (kind == OPTION_MSS && n == 2 && is_syn) {
		seg->mss = get16(value);
	} else if (kind == OPTION_WSCALE && n == 1 && is_syn) {
		seg->has_wscale = true;
		seg->wscale = value[0] > TCP_WSCALE_MAX ? TCP_WSCALE_MAX : value[0];
	} else if (kind == OPTION_SACK_PERMITTED && n == 0 && is_syn) {
		seg->has_sack_ok = true;
	} else if (kind == OPTION_SACK && n % 8 == 0 && !is_syn) {
		read_sack(seg, value, n);
	} else if (kind == OPTION_TIMESTAMPS && n == 8) {
		seg->has_ts = true;
		seg->tsval = get32(value);
		seg->tsecr = get32(value + 4);
	}
}

/* A malformed list ends there: what came before it counts (RFC 9293 MUST-7). */
static void read_options(struct tcp_segment *seg, const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p != OPTION_END) {
		if (*p == OPTION_NOP) {
			p++;
			continue;
		}
		if (end - p < 2 || p[1] < 2 || p[1] > end - p)
			return;
		read_option(seg, p[0], p + 2, p[1] - 2u);
		p += p[1];
	}
}

static enum tcp_drop check_endpoints(const struct tcp_tuple *t)
{
	if (t->local_port == 0 || t->remote_port == 0)
		return TCP_DROP_bad_port;
	if (addr_is_multicast(&t->local) || addr_is_multicast(&t->remote) ||
		addr_is_unspecified(&t->local) || addr_is_unspecified(&t->remote))
		return TCP_DROP_bad_address;
	/* The "land" segment would have us talk to ourselves. */
	if (t->local_port == t->remote_port && addr_equal(&t->local, &t->remote))
		return TCP_DROP_bad_address;
	return TCP_DROP_NONE;
}

static enum tcp_drop check_flags(uint8_t flags)
{
	return flags & (RTE_TCP_ACK_FLAG | RTE_TCP_SYN_FLAG | RTE_TCP_RST_FLAG) ? TCP_DROP_NONE : TCP_DROP_bad_flags;
}

enum tcp_drop tcp_segment_parse(struct tcp_segment *seg, struct rte_mbuf *m, const struct tcp_arrival *a)
{
	uint8_t copy[60];
	*seg = (struct tcp_segment){.m = m, .tuple = {.local = a->local, .remote = a->remote}};
	if (m->pkt_len < 20 || m->pkt_len > UINT16_MAX)
		return TCP_DROP_short_header;
	const uint8_t *h = rte_pktmbuf_read(m, 0, 20, copy);
	const unsigned size = (h[12] >> 4) * 4u;
	seg->tuple.local_port = get16(h + 2);
	seg->tuple.remote_port = get16(h);
	if (size < 20 || size > m->pkt_len)
		return TCP_DROP_bad_offset;
	if (size > 20)
		h = rte_pktmbuf_read(m, 0, size, copy);
	if (!a->is_checksum_good && !is_checksum_good(m, a))
		return TCP_DROP_bad_checksum;
	seg->seq = get32(h + 4);
	seg->ack = get32(h + 8);
	seg->flags = h[13];
	seg->window = get16(h + 14);
	seg->ecn = a->ecn;
	seg->skip = size;
	seg->text = m->pkt_len - size;
	read_options(seg, h + 20, h + size);
	enum tcp_drop drop = check_endpoints(&seg->tuple);
	return drop != TCP_DROP_NONE ? drop : check_flags(seg->flags);
}

unsigned tcp_header_size(const struct tcp_header *h)
{
	return 20 + (h->mss != 0 ? 4 : 0) + (h->has_wscale ? 4 : 0) + (h->has_sack_ok ? 4 : 0) +
		(h->has_ts ? 12 : 0) + (h->sack_count != 0 ? 4 + 8u * h->sack_count : 0);
}

static void write_options(const struct tcp_header *h, uint8_t *p)
{
	if (h->mss != 0) {
		*p++ = OPTION_MSS, *p++ = 4;
		p = put16(p, h->mss);
	}
	if (h->has_wscale) {
		*p++ = OPTION_NOP, *p++ = OPTION_WSCALE, *p++ = 3;
		*p++ = h->wscale;
	}
	if (h->has_sack_ok) {
		*p++ = OPTION_NOP, *p++ = OPTION_NOP, *p++ = OPTION_SACK_PERMITTED, *p++ = 2;
	}
	if (h->has_ts) { /* aligned as RFC 7323 appendix A shows it */
		*p++ = OPTION_NOP, *p++ = OPTION_NOP, *p++ = OPTION_TIMESTAMPS, *p++ = 10;
		p = put32(put32(p, h->tsval), h->tsecr);
	}
	if (h->sack_count != 0) {
		*p++ = OPTION_NOP, *p++ = OPTION_NOP, *p++ = OPTION_SACK, *p++ = (uint8_t)(2 + 8 * h->sack_count);
		for (unsigned i = 0; i < h->sack_count; i++)
			p = put32(put32(p, h->sack[i].start), h->sack[i].end);
	}
}

void tcp_header_prepend(const struct tcp_header *h, struct rte_mbuf *m)
{
	const unsigned size = tcp_header_size(h);
	uint8_t *start = (uint8_t *)rte_pktmbuf_prepend(m, (uint16_t)size), *p = start;
	assert(start != NULL);
	p = put16(p, h->tuple->local_port);
	p = put16(p, h->tuple->remote_port);
	p = put32(p, h->seq);
	p = put32(p, h->ack);
	*p++ = (uint8_t)(size / 4 << 4);
	*p++ = h->flags;
	p = put16(p, h->window);
	p = put32(p, 0); /* checksum, urgent pointer */
	write_options(h, p);
	uint32_t pseudo = pseudo_header_sum(&h->tuple->local, &h->tuple->remote, m->pkt_len);
	uint16_t sum;
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_CKSUM) {
		m->l4_len = size & 0x3f; /* 60 at most */
		sum = fold(pseudo);
	} else {
		sum = (uint16_t)~fold(pseudo + checksum_sum(bytes_of(start, m->data_len)));
	}
	memcpy(start + 16, &sum, sizeof sum);
}
