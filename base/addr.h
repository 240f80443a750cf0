// SPDX-License-Identifier: Apache-2.0
/* base/addr.h: an IPv4 or IPv6 address, and prefixes of them. One type for both families. */
#pragma once

#include "base/bytes.h"

#define ADDR_TEXT_MAX 46 /* INET6_ADDRSTRLEN */

/* An address in network order; an IPv4 one is kept as its IPv4-mapped IPv6 form (RFC 4291 2.5.5.2), so
 * that equality, hashing and prefixes need no case for the family. */
struct addr {
	uint8_t b[16];
};

struct prefix {
	struct addr addr;
	uint8_t bits; /* of the 128; an IPv4 prefix of n bits is kept as 96 + n */
};

struct addr addr_from_ipv4(const uint8_t b[4]);
bool addr_is_ipv4(const struct addr *a);
/* The 4 bytes of an IPv4 address. */
static inline const uint8_t *addr_ipv4(const struct addr *a)
{
	return a->b + 12;
}
static inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return memcmp(a->b, b->b, sizeof a->b) == 0;
}
/* Whom a limit per client means by it: an IPv4 address itself, of an IPv6 address the /64, since who has one address of
 * a /64 has them all. */
struct addr addr_client(const struct addr *a);
/* For hash tables; keyed, or a peer with many addresses could choose such as fall together. */
uint64_t addr_keyed_hash(const struct addr *a, const uint64_t key[2]);
bool addr_is_unspecified(const struct addr *a); /* 0.0.0.0 or :: */
bool addr_is_link_local(const struct addr *a);  /* fe80::/10 only */
bool addr_is_multicast(const struct addr *a);
bool prefix_has(const struct prefix *p, const struct addr *a);

/* Parses "192.0.2.1" or "2001:db8::1"; false: not an address. */
bool addr_parse(const char *text, struct addr *a);
/* Parses "192.0.2.0/24", "2001:db8::/32" or a lone address; false: not a prefix, or host bits set. */
bool prefix_parse(const char *text, struct prefix *p);
/* Parses "192.0.2.25/24": an address and how many of the 128 bits are its link's; false: not that. */
bool interface_parse(const char *text, struct addr *a, uint8_t *prefix_bits);
/* Writes the text form (RFC 5952); returns `text`. */
const char *addr_format(const struct addr *a, char text[ADDR_TEXT_MAX]);
/* Writes "address/bits"; returns `text`. */
const char *prefix_format(const struct prefix *p, char text[ADDR_TEXT_MAX + 4]);
