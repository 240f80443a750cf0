// SPDX-License-Identifier: Apache-2.0
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct addr addr_from_ipv4(const uint8_t b[4])
{
	struct addr a;
	memcpy(a.b, mapped, sizeof mapped);
	memcpy(a.b + 12, b, 4);
	return a;
}

bool addr_is_ipv4(const struct addr *a)
{
	return memcmp(a->b, mapped, sizeof mapped) == 0;
}

struct addr addr_client(const struct addr *a)
{
	struct addr client = *a;
	if (!addr_is_ipv4(a))
		memset(client.b + 8, 0, 8);
	return client;
}

static uint64_t multiply_and_fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Folding the whole product lets every bit of the address reach every bit of the hash; a product cut to 64 bits would
 * keep the last byte of an IPv4 address, which is the highest of its word, in the highest bits. */
uint64_t addr_keyed_hash(const struct addr *a, const uint64_t key[2])
{
	uint64_t half[2];
	memcpy(half, a->b, sizeof half);
	return multiply_and_fold(
		multiply_and_fold(half[0] ^ key[0], half[1] ^ key[1]) ^ key[0], 0x9e3779b97f4a7c15ull);
}

bool addr_is_unspecified(const struct addr *a)
{
	static const uint8_t zero[16];
	return memcmp(a->b, zero, 16) == 0 || (addr_is_ipv4(a) && memcmp(a->b + 12, zero, 4) == 0);
}

bool addr_is_link_local(const struct addr *a)
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

bool addr_is_multicast(const struct addr *a)
{
	return a->b[0] == 0xff || (addr_is_ipv4(a) && (a->b[12] & 0xf0) == 0xe0);
}

bool prefix_has(const struct prefix *p, const struct addr *a)
{
	unsigned whole = p->bits / 8, rest = p->bits % 8;
	if (memcmp(p->addr.b, a->b, whole) != 0)
		return false;
	return rest == 0 || ((p->addr.b[whole] ^ a->b[whole]) >> (8 - rest)) == 0;
}

bool addr_parse(const char *text, struct addr *a)
{
	uint8_t four[4];
	if (inet_pton(AF_INET, text, four) == 1) {
		*a = addr_from_ipv4(four);
		return true;
	}
	return inet_pton(AF_INET6, text, a->b) == 1;
}

/* Is anything set behind the prefix's bits? "192.0.2.1/24" is more likely a slip than a wish. */
static bool has_host_bits(const struct prefix *p)
{
	for (unsigned bit = p->bits; bit < 128; bit++)
		if (p->addr.b[bit / 8] & (0x80u >> (bit % 8)))
			return true;
	return false;
}

/* "address/bits", or a lone address: all bits, of the 128. */
static bool parse_with_bits(const char *text, struct addr *a, uint8_t *prefix_bits)
{
	char host[ADDR_TEXT_MAX];
	const char *slash = strchr(text, '/');
	size_t n = slash == NULL ? strlen(text) : (size_t)(slash - text);
	if (n >= sizeof host)
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	if (!addr_parse(host, a))
		return false;
	unsigned most = addr_is_ipv4(a) ? 32 : 128;
	unsigned long bits = most;
	if (slash != NULL) {
		char *end;
		if (slash[1] < '0' || slash[1] > '9')
			return false;
		bits = strtoul(slash + 1, &end, 10);
		if (*end != '\0' || bits > most)
			return false;
	}
	*prefix_bits = (uint8_t)(128 - most + bits);
	return true;
}

bool prefix_parse(const char *text, struct prefix *p)
{
	return parse_with_bits(text, &p->addr, &p->bits) && !has_host_bits(p);
}

bool interface_parse(const char *text, struct addr *a, uint8_t *prefix_bits)
{
	return strchr(text, '/') != NULL && parse_with_bits(text, a, prefix_bits);
}

const char *addr_format(const struct addr *a, char text[ADDR_TEXT_MAX])
{
	if (addr_is_ipv4(a))
		inet_ntop(AF_INET, a->b + 12, text, ADDR_TEXT_MAX);
	else
		inet_ntop(AF_INET6, a->b, text, ADDR_TEXT_MAX);
	return text;
}

const char *prefix_format(const struct prefix *p, char text[ADDR_TEXT_MAX + 4])
{
	char host[ADDR_TEXT_MAX];
	unsigned bits = addr_is_ipv4(&p->addr) && p->bits >= 96 ? p->bits - 96u : p->bits;
	snprintf(text, ADDR_TEXT_MAX + 4, "%s/%u", addr_format(&p->addr, host), bits);
	return text;
}
