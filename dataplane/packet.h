// SPDX-License-Identifier: Apache-2.0
/* dataplane/packet.h: a packet on its way in, from Ethernet to TCP, and on its way out.
 *
 * Each *_input() owns the packet's mbuf: it passes it on, hands it over, or drops it with a reason.
 * The mbuf stays as it came until TCP or a reply takes it, so that it can go to another core as it
 * is. */
#pragma once

#include "dataplane/private.h"

struct packet {
	struct rte_mbuf *m;
	unsigned port;
	uint64_t now_us;
	bool is_handed_over;	/* from another core: it is ours, whatever the hash says */
	bool is_link_multicast; /* the frame was not to us alone */
	bool is_multicast;	/* neither is the IP packet */
	bool is_reassembled;	/* from fragments */
	bool has_fragment_header; /* or had one, also of an atomic fragment */
	bool has_router_alert;	/* in a hop-by-hop header */
	bool is_for_ndp_only;	/* from :: or from an address of ours: duplicate detection, or a
				   forgery */
	uint8_t source_mac[6];
	struct bytes network; /* from the ARP or IP header to the packet's own end (padding cut) */
	struct bytes body;    /* behind the IP header and its extensions */
	struct addr local, remote; /* destination and source */
	uint8_t hop_limit, ecn;
};

static inline uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}
static inline void put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void put_be32(uint8_t *p, uint32_t v)
{
	put_be16(p, (uint16_t)(v >> 16));
	put_be16(p + 2, (uint16_t)v);
}

static inline void packet_drop(struct dp_core *core, struct packet *p, enum dp_counter reason)
{
	count(core, reason);
	rte_pktmbuf_free(p->m);
}

/* ---- ethernet.c ---- */
void ethernet_input(struct dp_core *core, struct rte_mbuf *m, bool is_handed_over, uint64_t now_us);
/* Prepends the header to `m` and sends it; takes it. */
void ethernet_output(struct dp_core *core, unsigned port, struct rte_mbuf *m, const uint8_t mac[6],
	uint16_t ether_type);

/* ---- arp.c ---- */
void arp_input(struct dp_core *core, struct packet *p);
/* Asks who has `target`: everybody, or one neighbour if `mac` is given. */
void arp_ask(struct dp_core *core, unsigned port, const struct addr *target, const uint8_t *mac);
/* Tells everybody that `addr` is ours (RFC 5227 2.3). */
void arp_announce(struct dp_core *core, unsigned port, const struct addr *addr);

/* ---- ip4.c, ip6.c ---- */
void ip4_input(struct dp_core *core, struct packet *p);
void ip6_input(struct dp_core *core, struct packet *p);
/* Prepends the IP header and sends `m`, which starts at its transport header; takes it. */
void ip_output(struct dp_core *core, struct rte_mbuf *m, const struct addr *local,
	const struct addr *remote, uint8_t protocol, uint64_t now_us);
/* The same with the two ECN bits of the IP header (RFC 3168 5). */
void ip_output_ecn(struct dp_core *core, struct rte_mbuf *m, const struct addr *local,
	const struct addr *remote, uint8_t protocol, uint8_t ecn, uint64_t now_us);
/* The same, but within the link: to a given link-layer address, with `next` as the number of what
 * `m` starts with, and a hop limit of 255 (NDP) or 1 (MLD). */
void ip6_output_link(struct dp_core *core, unsigned port, struct rte_mbuf *m,
	const struct addr *local, const struct addr *remote, const uint8_t mac[6], uint8_t next,
	uint8_t hop_limit);
/* A walk over IPv6 extension headers to the transport header. */
struct ip6_walk {
	struct bytes packet; /* from the IPv6 header on, 40 bytes at least */
	bool is_multicast;   /* to a group */
	bool is_quote;	     /* of one of our packets: a first fragment of it will do */
	/* what was found */
	struct bytes body;	     /* behind the headers */
	uint16_t next_at;	     /* where the number of what stands at `body` is */
	const uint8_t *fragment;     /* the fragment header; NULL: none */
	bool has_router_alert;
	enum dp_counter why;	     /* -1 was returned */
	int fault_code;		     /* of the ICMPv6 parameter problem to report; -1: none */
	uint32_t fault_at;	     /* its pointer */
};
#define IP6_FRAGMENT 44
/* Returns the transport protocol; IP6_FRAGMENT, with `body` behind that header, where only a part of
 * the packet is there; or -1. */
int ip6_walk(struct ip6_walk *w);
/* Finds the transport header, whatever the extension headers say; -1: cut short. */
int ip6_skim(struct bytes packet, struct bytes *transport);

/* ---- transport.c: what is the same above both ---- */
void tcp_deliver(struct dp_core *core, struct packet *p);
/* Tells TCP (on the owner's core) about an error; `tcp` are the quoted bytes from its header on. */
void tcp_deliver_error(struct dp_core *core, struct packet *p, const struct addr *local,
	const struct addr *remote, struct bytes tcp, enum tcp_icmp kind, uint32_t mtu);
/* Takes `n` bytes at `at`, inside of the mbuf's data, as its whole data. */
void mbuf_narrow(struct rte_mbuf *m, struct bytes part);
/* May one more ICMP error be sent (RFC 1812 4.3.2.8, RFC 4443 2.4 f)? */
bool icmp_error_allowed(struct dp_core *core, uint64_t now_us);

/* ---- icmp4.c ---- */
void icmp4_input(struct dp_core *core, struct packet *p);
/* Answers `p` with an ICMP error and drops it for `reason`. */
void icmp4_error(
	struct dp_core *core, struct packet *p, uint8_t type, uint8_t code, enum dp_counter reason);

/* ---- icmp6.c ---- */
void icmp6_input(struct dp_core *core, struct packet *p);
/* Answers `p` with an ICMPv6 error and drops it for `reason`. */
void icmp6_error(struct dp_core *core, struct packet *p, uint8_t type, uint8_t code,
	uint32_t parameter, enum dp_counter reason);
/* The checksum over pseudo-header and message, to be put in or (over a whole message) 0 if right.
 */
uint16_t icmp6_checksum(const struct addr *local, const struct addr *remote, struct bytes message);

/* ---- mld.c ---- */
void mld_input(struct dp_core *core, struct packet *p);
void mld_tick(struct dp_core *core, uint64_t now_us);

/* ---- ndp.c ---- */
/* RFC 4291 2.7.1 */
struct addr solicited_group(const struct addr *target);
void ndp_input(struct dp_core *core, struct packet *p);
/* Solicits `target`: by multicast, or one neighbour if `mac` is given. */
void ndp_ask(struct dp_core *core, unsigned port, const struct addr *target, const uint8_t *mac);
/* Asks whether anybody else has `target` (RFC 4862 5.4.2). */
void ndp_ask_duplicate(struct dp_core *core, unsigned port, const struct addr *target);
/* Tells everybody that `addr` is ours (RFC 4861 7.2.6). */
void ndp_announce(struct dp_core *core, unsigned port, const struct addr *addr);
