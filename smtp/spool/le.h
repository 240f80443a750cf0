// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/le.h: little-endian numbers at any address. */
#pragma once

#include <stdint.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a big-endian host needs swaps here");

static inline void store_le32(uint8_t *to, uint32_t v)
{
	memcpy(to, &v, sizeof v);
}

static inline void store_le64(uint8_t *to, uint64_t v)
{
	memcpy(to, &v, sizeof v);
}

static inline uint32_t load_le32(const uint8_t *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof v);
	return v;
}

static inline uint64_t load_le64(const uint8_t *from)
{
	uint64_t v;
	memcpy(&v, from, sizeof v);
	return v;
}
