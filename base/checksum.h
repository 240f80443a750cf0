// SPDX-License-Identifier: Apache-2.0
/* base/checksum.h: the sum of the Internet checksum (RFC 1071) over one range of bytes. */
#pragma once

#include "base/bytes.h"

/* Folds a sum of 16-bit words (or of wider ones, RFC 1071 2 (C)) to one. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* The ones' complement sum of the 16-bit words as they lie in memory, not complemented; an odd last byte is
 * padded with zero. Eight bytes at a time into two sums of 16 bytes, which never overflow: several times as fast as
 * one 16-bit word after the other, and checksums are most of what a data segment costs. */
static inline uint16_t checksum_sum(struct bytes b)
{
	unsigned __int128 even = 0, odd = 0, sum;
	uint64_t words[4];
	const uint8_t *p = b.at;
	size_t n = b.n;
	for (; n >= sizeof words; n -= sizeof words, p += sizeof words) {
		memcpy(words, p, sizeof words);
		even += words[0];
		odd += words[1];
		even += words[2];
		odd += words[3];
	}
	for (; n > 0; n -= n < 8 ? n : 8, p += 8) {
		words[0] = 0;
		memcpy(words, p, n < 8 ? n : 8);
		even += words[0];
	}
	sum = even + odd;
	return checksum_fold((uint64_t)checksum_fold((uint64_t)sum) + checksum_fold((uint64_t)(sum >> 64)));
}
