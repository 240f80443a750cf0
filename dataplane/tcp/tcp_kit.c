// SPDX-License-Identifier: Apache-2.0
#include "dataplane/tcp/tcp_kit.h"

#include <stdlib.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>

void kit_start(void)
{
	char *arguments[] = {"tcp", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "64", "-l", "0",
		"--log-level", "error", NULL};
	if (rte_eal_init(sizeof arguments / sizeof *arguments - 1, arguments) < 0) {
		fprintf(stderr, "the EAL did not start: %s\n", rte_strerror(rte_errno));
		exit(1);
	}
}

void kit_stop(void)
{
	rte_eal_cleanup();
}

struct rte_mempool *kit_pool(const char *name, unsigned count)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(name, count, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (pool == NULL) {
		fprintf(stderr, "no pool: %s\n", rte_strerror(rte_errno));
		exit(1);
	}
	return pool;
}

static uint8_t *put(uint8_t *p, uint32_t v, unsigned bytes)
{
	while (bytes-- > 0)
		*p++ = (uint8_t)(v >> (8 * bytes));
	return p;
}

static uint32_t get(const uint8_t *p, unsigned bytes)
{
	uint32_t v = 0;
	while (bytes-- > 0)
		v = v << 8 | *p++;
	return v;
}

static uint64_t sum(struct bytes b)
{
	uint64_t s = 0;
	for (size_t i = 0; i < b.n; i++)
		s += i % 2 ? b.at[i] : (uint64_t)b.at[i] << 8;
	return s;
}

/* By the book: the 12 bytes of IPv4's pseudo-header or the 40 of IPv6's. */
static uint16_t checksum(const struct addr *source, const struct addr *destination, struct bytes b)
{
	uint8_t pseudo[40], *p = pseudo;
	if (addr_is_ipv4(source)) {
		memcpy(p, addr_ipv4(source), 4);
		memcpy(p + 4, addr_ipv4(destination), 4);
		p = put(put(p + 8, 6, 2), (uint32_t)b.n, 2);
	} else {
		memcpy(p, source->b, 16);
		memcpy(p + 16, destination->b, 16);
		p = put(put(p + 32, (uint32_t)b.n, 4), 6, 4);
	}
	uint64_t s = sum(bytes_of(pseudo, (size_t)(p - pseudo))) + sum(b);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

size_t kit_encode(const struct kit_segment *seg, const struct addr *source, const struct addr *destination,
	uint8_t *to)
{
	uint8_t *p = put(put(put(put(to, seg->from, 2), seg->to, 2), seg->seq, 4), seg->ack, 4);
	uint8_t *offset = p;
	p = put(put(put(p + 2, seg->window, 2), 0, 2), 0, 2);
	if (seg->mss != 0)
		p = put(put(p, 0x0204, 2), seg->mss, 2);
	if (seg->wscale >= 0)
		p = put(put(p, 0x010303, 3), (uint32_t)seg->wscale, 1);
	if (seg->has_ts)
		p = put(put(put(p, 0x0101080a, 4), seg->tsval, 4), seg->tsecr, 4);
	if (seg->has_sack_ok)
		p = put(p, 0x01010402, 4);
	if (seg->sack_count != 0)
		p = put(p, 0x01010500u + 2 + 8 * seg->sack_count, 4);
	for (unsigned i = 0; i < seg->sack_count; i++)
		p = put(put(p, seg->sack[i][0], 4), seg->sack[i][1], 4);
	offset[0] = (uint8_t)((p - to) / 4 << 4);
	offset[1] = seg->flags;
	if (seg->text.n != 0)
		memcpy(p, seg->text.at, seg->text.n);
	p += seg->text.n;
	put(to + 16, checksum(source, destination, bytes_of(to, (size_t)(p - to))), 2);
	return (size_t)(p - to);
}

static bool decode_sack(struct kit_segment *seg, const uint8_t *p)
{
	seg->sack_count = (p[1] - 2u) / 8;
	for (unsigned i = 0; i < seg->sack_count; i++) {
		seg->sack[i][0] = get(p + 2 + 8 * i, 4);
		seg->sack[i][1] = get(p + 6 + 8 * i, 4);
	}
	return true;
}

static bool decode_option(struct kit_segment *seg, const uint8_t *p)
{
	if (p[0] == 5 && p[1] % 8 == 2 && p[1] >= 10 && p[1] <= 34)
		return decode_sack(seg, p);
	if (p[0] == 2 && p[1] == 4)
		seg->mss = (uint16_t)get(p + 2, 2);
	else if (p[0] == 3 && p[1] == 3)
		seg->wscale = p[2];
	else if (p[0] == 4 && p[1] == 2)
		seg->has_sack_ok = true;
	else if (p[0] == 8 && p[1] == 10)
		seg->has_ts = true, seg->tsval = get(p + 2, 4), seg->tsecr = get(p + 6, 4);
	else
		return false;
	return true;
}

bool kit_decode(struct kit_segment *seg, const struct addr *source, const struct addr *destination,
	struct bytes from)
{
	const uint8_t *p = from.at;
	if (from.n < 20 || checksum(source, destination, from) != 0)
		return false;
	const size_t header = (p[12] >> 4) * 4u;
	if (header < 20 || header > from.n || from.n - header > sizeof seg->storage)
		return false;
	seg->from = (uint16_t)get(p, 2);
	seg->to = (uint16_t)get(p + 2, 2);
	seg->seq = get(p + 4, 4);
	seg->ack = get(p + 8, 4);
	seg->flags = p[13];
	seg->window = (uint16_t)get(p + 14, 2);
	seg->mss = 0;
	seg->wscale = -1;
	seg->has_ts = seg->has_sack_ok = false;
	seg->sack_count = 0;
	for (size_t i = 20; i < header; i += p[i] == 1 ? 1 : p[i + 1])
		if (p[i] != 1 && (i + 1 >= header || i + p[i + 1] > header || !decode_option(seg, p + i)))
			return false;
	memcpy(seg->storage, p + header, from.n - header);
	seg->text = bytes_of(seg->storage, from.n - header);
	return true;
}

struct rte_mbuf *kit_mbuf(struct rte_mempool *pool, struct bytes b, size_t piece)
{
	struct rte_mbuf *first = NULL;
	do {
		struct bytes part = piece == 0 ? b : bytes_first(b, piece);
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		if (m == NULL || part.n > rte_pktmbuf_tailroom(m)) {
			rte_pktmbuf_free(m);
			rte_pktmbuf_free(first);
			return NULL;
		}
		if (part.n != 0)
			memcpy(rte_pktmbuf_append(m, (uint16_t)part.n), part.at, part.n);
		b = bytes_skip(b, part.n);
		if (first == NULL)
			first = m;
		else
			rte_pktmbuf_chain(first, m);
	} while (b.n > 0);
	return first;
}
