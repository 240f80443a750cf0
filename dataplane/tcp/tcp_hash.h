// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_hash.h: SipHash (Aumasson and Bernstein) of a few 64-bit words: the keyed hash behind the
 * connection table, initial sequence numbers, timestamp offsets and source ports. */
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint64_t sip_rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = sip_rotate(v[1], 13) ^ v[0], v[0] = sip_rotate(v[0], 32);
	v[2] += v[3], v[3] = sip_rotate(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = sip_rotate(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = sip_rotate(v[1], 17) ^ v[2], v[2] = sip_rotate(v[2], 32);
}

/* `compress` and `finish` are the c and d of SipHash-c-d: 1, 3 where speed counts, else 2, 4. */
static inline uint64_t siphash(const uint8_t key[16], const uint64_t *words, unsigned count,
	unsigned compress, unsigned finish)
{
	uint64_t k[2];
	memcpy(k, key, sizeof k);
	uint64_t v[4] = {k[0] ^ 0x736f6d6570736575ull, k[1] ^ 0x646f72616e646f6dull,
		k[0] ^ 0x6c7967656e657261ull, k[1] ^ 0x7465646279746573ull};
	for (unsigned i = 0; i <= count; i++) {
		uint64_t word = i < count ? words[i] : (uint64_t)count * 8 << 56;
		v[3] ^= word;
		for (unsigned r = 0; r < compress; r++)
			sip_round(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (unsigned r = 0; r < finish; r++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
