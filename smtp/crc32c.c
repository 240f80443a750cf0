// SPDX-License-Identifier: Apache-2.0
#include "smtp/crc32c.h"
#include "smtp/mail.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define POLYNOMIAL 0x82f63b78u /* 0x1edc6f41, bits reversed */

typedef uint32_t crc32c_fn(uint32_t crc, struct bytes b);

/* tables[k][v]: what byte v does to the remainder when k more bytes follow it. */
static uint32_t tables[8][256];
static crc32c_fn *best = crc32c_by_table;

/* The instruction can begin every cycle, but takes three: so three parts of this length are read at the same time. */
#define PART_BYTES 128

/* What makes of a remainder the one that it becomes when one, or two, parts of zeros follow: x^(8n - 33), since a
 * product is a bit short of its place and the instruction multiplies by x^32. */
static uint32_t past_one_part, past_two_parts;

static uint32_t power_of_x(unsigned n)
{
	uint32_t r = 1u << 31;
	for (; n != 0; n--)
		r = r >> 1 ^ (r & 1 ? POLYNOMIAL : 0);
	return r;
}

static void fill_tables(void)
{
	for (uint32_t v = 0; v < 256; v++) {
		uint32_t r = v;
		for (int bit = 0; bit < 8; bit++)
			r = r >> 1 ^ (r & 1 ? POLYNOMIAL : 0);
		tables[0][v] = r;
	}
	for (int k = 1; k < 8; k++)
		for (uint32_t v = 0; v < 256; v++)
			tables[k][v] = tables[k - 1][v] >> 8 ^ tables[0][tables[k - 1][v] & 255];
}

/* Before main: the tables, the powers and the choice are read-only once there can be threads. */
__attribute__((constructor)) static void crc32c_init(void)
{
	fill_tables();
	past_one_part = power_of_x(8 * PART_BYTES - 33);
	past_two_parts = power_of_x(16 * PART_BYTES - 33);
	if (crc32c_has_instruction())
		best = crc32c_by_instruction;
}

static uint64_t load_le64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap64(v);
}

uint32_t crc32c_by_table(uint32_t crc, struct bytes b)
{
	uint32_t r = ~crc;
	for (; b.n >= 8; b = bytes_skip(b, 8)) {
		uint64_t v = load_le64(b.at) ^ r;
		r = 0;
		for (int k = 7; k >= 0; k--, v >>= 8)
			r ^= tables[k][v & 255];
	}
	for (size_t i = 0; i < b.n; i++)
		r = r >> 8 ^ tables[0][(r ^ b.at[i]) & 255];
	return ~r;
}

#if defined(__x86_64__)
#define TARGET __attribute__((target("sse4.2,pclmul")))

bool crc32c_has_instruction(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

TARGET static uint64_t go_past(uint64_t r, uint32_t zeros)
{
	__m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)r), _mm_cvtsi32_si128((int)zeros), 0);
	return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

TARGET static uint64_t three_parts(uint64_t first, const uint8_t *at)
{
	uint64_t second = 0, third = 0;
	for (size_t i = 0; i < PART_BYTES; i += 8) {
		first = _mm_crc32_u64(first, load_le64(at + i));
		second = _mm_crc32_u64(second, load_le64(at + PART_BYTES + i));
		third = _mm_crc32_u64(third, load_le64(at + 2 * PART_BYTES + i));
	}
	return go_past(first, past_two_parts) ^ go_past(second, past_one_part) ^ third;
}

TARGET uint32_t crc32c_by_instruction(uint32_t crc, struct bytes b)
{
	uint64_t r = ~crc;
	for (; b.n >= 3 * PART_BYTES; b = bytes_skip(b, 3 * PART_BYTES))
		r = three_parts(r, b.at);
	for (; b.n >= 8; b = bytes_skip(b, 8))
		r = __builtin_ia32_crc32di(r, load_le64(b.at));
	for (size_t i = 0; i < b.n; i++)
		r = __builtin_ia32_crc32qi((uint32_t)r, b.at[i]);
	return ~(uint32_t)r;
}
#else
bool crc32c_has_instruction(void)
{
	return false;
}

uint32_t crc32c_by_instruction(uint32_t crc, struct bytes b)
{
	return crc32c_by_table(crc, b);
}
#endif

uint32_t crc32c(uint32_t crc, struct bytes b)
{
	return best(crc, b);
}
