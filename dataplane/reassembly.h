// SPDX-License-Identifier: Apache-2.0
/* dataplane/reassembly.h: fragments put together (RFC 791 3.2, RFC 1122 3.3.2, RFC 8200 4.5), one
 * implementation for both families.
 *
 * Fragments have no ports, so they are put together on the core at which they arrive; the whole
 * packet then goes its way as if it had come so, to another core if it is another's. The bytes of
 * each fragment are copied at once to their place in one buffer, so that no fragment holds a
 * buffer of a port. A datagram in which two fragments overlap is given up as a whole (RFC 5722,
 * and for IPv4 too: nobody sends that but to deceive); an exact duplicate is ignored.
 *
 * A datagram may be as long as a buffer holds: a port's MTU, and 2048 bytes behind the headers at
 * least (RFC 1122 asks for 576, RFC 8200 for 1500). What TCP sends us is not longer, by the MSS
 * that we announce. */
#pragma once

#include "dataplane/packet.h"

#define DATAGRAMS_MAX	  256 /* in the making, of a core; the oldest gives way to a new one */
#define FRAGMENTS_MAX	  64  /* of a datagram: an Ethernet frame in pieces of 24 bytes */
#define FRAGMENT_BUFFERS  (2 * DATAGRAMS_MAX) /* as many again held by TCP: the bound in bytes */
#define FRAGMENT_HEADERS  128 /* room for Ethernet, IP and extensions before the fragmented part */
#define REASSEMBLY_US_IP4 (30 * 1000 * 1000ull)
#define REASSEMBLY_US_IP6 (60 * 1000 * 1000ull) /* RFC 8200 4.5 */

struct fragment {
	uint32_t id;
	uint8_t protocol; /* tells IPv4 datagrams apart as well (RFC 791 3.2); 0 for IPv6 */
	bool has_more;
	uint16_t offset;  /* bytes */
	uint16_t next_at; /* IPv6: where in the packet the number of the fragment header stands */
};

/* NULL: no memory. */
struct reassembly *reassembly_create(void);
void reassembly_destroy(struct reassembly *r);
/* Takes a fragment, whose part of the datagram is p->body. The last missing one lets the whole go
 * on, through ip4_input() or ip6_input(). */
void reassembly_input(struct dp_core *core, struct packet *p, const struct fragment *f);
/* Gives up what has waited too long, with an ICMP error if the first fragment has come. Every 100
 * ms or so. */
void reassembly_tick(struct dp_core *core, uint64_t now_us);
