// SPDX-License-Identifier: Apache-2.0
/* dataplane/private.h: a core, a port, and what the files of this folder ask of each other. */
#pragma once

#include <rte_mempool.h>
#include <stdatomic.h>

#include "base/ring.h"
#include "dataplane/dataplane.h"

#define CACHE_LINE 64

enum dp_counter {
#define DP_COUNTER(name, help) COUNT_##name,
#include "dataplane/counters.def"
#undef DP_COUNTER
	COUNT_END
};

/* ---- limits ---- */
#define BURST	       32   /* packets taken from a queue at once: what the caches hold */
#define TX_BATCH       64   /* packets gathered for a port before they are sent within a turn */
#define JOINED_SEGMENTS_MAX 32
#define TX_TRIES       8    /* of a full transmit queue; then drop: TCP sends again */
#define HANDOVER_RING  1024 /* packets between two cores; a turn takes BURST * 2 */
#define NEWS_RING      256  /* neighbour news between two cores; lost ones are asked for again */
#define RX_DESCRIPTORS 512  /* of a NIC's queue */
#define VDEV_DESCRIPTORS 64 /* of a vdev's: net_tap keeps as many buffers aside */
#define CONTROL_BUFFERS	 1024 /* ACK, RST, ARP, NDP, ICMP of one core: short, soon back */
#define LOCAL_ADDRS_MAX	 (DP_ADDRS_MAX + 1) /* with the link-local one */
#define RSS_KEY_BYTES	 52 /* the longest key a NIC takes; Toeplitz over 36 bytes needs 40 */
#define RETA_SIZE	 128
#define RSS_CHECKS	 32 /* packets of a port compared before judging its hash */
#define IP4_IDS		 256 /* so that nobody learns from his own how many others are sent */

#define IP_PROTOCOL_ICMP   1
#define IP_PROTOCOL_TCP	   6
#define IP_PROTOCOL_UDP	   17
#define IP_PROTOCOL_ICMPV6 58

/* ---- a port ---- */
/* TENTATIVE: not yet known to be ours alone (RFC 4862 5.4); neither answered for nor used. Written
 * by the first core, read by all. */
enum addr_state { ADDR_TENTATIVE, ADDR_PREFERRED, ADDR_DUPLICATE };

struct local_addr {
	struct addr addr;
	uint8_t prefix_bits;
	_Atomic uint8_t state; /* enum addr_state */
	/* the first core's: what was sent to claim the address (announce.c) */
	uint8_t claims;
	uint64_t claim_due_us;
};

/* When the first core is to report the port's groups (mld.c). */
struct mld {
	uint64_t start_due_us, answer_due_us; /* 0: nobody has asked */
	uint8_t started;
	bool is_v1; /* the querier that has asked */
};

struct dp_port {
	char name[32];
	uint16_t id; /* of the ethdev; UINT16_MAX: none (in tests) */
	bool is_open;
	uint8_t mac[6];
	uint16_t mtu;
	uint16_t queues; /* pairs: one a core, or 1: the first core has it and serves the others */
	uint64_t rx_offloads, tx_offloads;
	uint16_t tso_segments; /* joined for the port to cut; 0: it does not */
	bool is_rss_wanted, is_rss_asked;
	/* The first packets' hash by the port, beside ours (steer.c); written by all cores. */
	_Atomic unsigned rss_agreed, rss_differed, rss_none;
	struct local_addr addrs[LOCAL_ADDRS_MAX];
	unsigned addr_count;
	struct mld mld;
};

struct route {
	struct prefix to;
	struct addr via; /* unspecified: on the link */
	bool is_ipv4, is_on_link;
	uint8_t port;
};

/* ---- a core ---- */
struct tx_batch {
	struct rte_mbuf *m[TX_BATCH];
	unsigned count;
};

/* News about a neighbour: WANT goes to the first core, the others come from it. */
enum news_kind { NEWS_WANT, NEWS_KNOWN, NEWS_GONE };
struct news {
	struct addr addr;
	uint8_t mac[6];
	uint8_t port;
	uint8_t kind;
};

/* What one core is sent by another; one producer and one consumer each. */
struct inbox {
	struct ring received; /* packets that this core owns */
	struct ring to_send;  /* whole frames for ports of which this core has the queue */
	ck_ring_t news_ring;
	struct news *news;
};

struct neighbours; /* this core's copy: neighbour.h */
struct resolver;   /* the first core's: resolver.h */
struct reassembly; /* reassembly.h */
struct path_mtus;  /* path_mtu.h */

struct dp_core {
	struct dp *dp;
	unsigned index;
	struct tcp_stack *tcp;
	struct rte_mempool *rx_pool, *tx_pool, *control_pool, *fragment_pool;
	struct neighbours *neighbours;
	struct resolver *resolver; /* NULL but on the first core */
	struct reassembly *reassembly;
	struct path_mtus *path_mtus;
	struct dp_capture *capture; /* NULL: nobody watches (capture.h) */
	struct tx_batch tx[DP_PORTS_MAX];
	struct inbox inbox[DP_CORES_MAX]; /* by sender */
	uint16_t ip4_ids[IP4_IDS]; /* counters of identifications, by hash of the destination */
	uint64_t housekeeping_due_us;
	uint64_t now_us; /* of the turn */
	uint64_t icmp_tokens_us; /* the rate limit of ICMP errors: time not yet used up */
	uint64_t icmp_seen_us;
	/* written by this core, read by any */
	alignas(CACHE_LINE) _Atomic uint64_t counters[COUNT_END];
	_Atomic uint64_t busy_us, slept_us, turns;
	/* written by any */
	alignas(CACHE_LINE) atomic_bool is_stopping;
};

struct dp {
	struct dp_config config;
	struct dp_port ports[DP_PORTS_MAX];
	unsigned port_count;
	/* longest prefix first */
	struct route routes[DP_ROUTES_MAX + DP_PORTS_MAX * LOCAL_ADDRS_MAX];
	unsigned route_count;
	uint8_t rss_key[RSS_KEY_BYTES];
	uint8_t secret[16]; /* keys what others must not be able to aim at */
	uint32_t toeplitz[72][16]; /* by nibble of the tuple and its value */
	uint8_t reta[RETA_SIZE];   /* core by hash */
	bool has_tso; /* some port */
	unsigned core_count;
	struct dp_core *cores[DP_CORES_MAX];
	bool is_eal_up;
};

/* One writer: a plain load and store would do, were the readers not other threads. */
static inline void count_add(struct dp_core *core, enum dp_counter counter, uint64_t n)
{
	uint64_t now = atomic_load_explicit(&core->counters[counter], memory_order_relaxed);
	atomic_store_explicit(&core->counters[counter], now + n, memory_order_relaxed);
}
static inline void count(struct dp_core *core, enum dp_counter counter)
{
	count_add(core, counter, 1);
}
static inline enum addr_state local_addr_state(const struct local_addr *a)
{
	return atomic_load_explicit(&a->state, memory_order_relaxed);
}

/* ---- create.c: in steps, so that tests can do without devices ---- */
/* Checks the configuration and makes the cores, their pools, rings and tables. */
int dp_prepare(struct dp **dp, const struct dp_config *config, char error[256]);
/* With the ports' MAC addresses known: addresses, routes, TCP stacks. */
int dp_complete(struct dp *dp, char error[256]);
/* Frees the stacks, the tables and every packet that waits anywhere; the pools stay. */
void dp_release(struct dp *dp);

/* ---- eal.c ---- */
int eal_start(const struct dp_config *config, char error[256]);

/* ---- port.c ---- */
int port_open(struct dp *dp, unsigned index, char error[256]);
void port_close(struct dp_port *port);
/* Does this core hold a queue pair of the port? */
static inline bool port_has_queue(const struct dp_port *port, const struct dp_core *core)
{
	return core->index < port->queues;
}
/* Takes a burst from every queue of this core and puts it in; true: there was something. */
bool port_receive(struct dp_core *core, uint64_t now_us);
/* Sends a whole frame; takes it. */
void port_send(struct dp_core *core, unsigned port, struct rte_mbuf *m);
/* Hands what was gathered to the queues. */
void port_flush(struct dp_core *core);
/* A buffer of the control pool with room for `n` bytes, zero, as its data; NULL and counted: none
 * left. */
struct rte_mbuf *port_control_buffer(struct dp_core *core, size_t n);

/* ---- capture.c: only while core->capture is not NULL ---- */
/* Copies what is asked for of a burst received from or to be sent by the port. */
void capture_packets(struct dp_core *core, unsigned port, struct rte_mbuf *const *m, unsigned count, bool is_out);

/* ---- steer.c ---- */
void steer_init(struct dp *dp);
/* The core that owns the 4-tuple. */
unsigned steer_owner(const struct dp *dp, const struct addr *local, uint16_t local_port,
	const struct addr *remote, uint16_t remote_port);
/* Compares the hash that the port gave a packet with ours, for the first RSS_CHECKS packets. */
void steer_check_hash(struct dp_core *core, unsigned port, const struct rte_mbuf *m,
	const struct addr *local, uint16_t local_port, const struct addr *remote,
	uint16_t remote_port);
/* Gives a received packet (whole, as it came) to another core; takes it. */
void steer_hand_over(struct dp_core *core, struct rte_mbuf *m, unsigned to);
/* Gives a frame for `port` to the core that has its queue; takes it. */
void steer_send_by(struct dp_core *core, struct rte_mbuf *m, unsigned port);
/* Takes what other cores have sent; true: there was something. */
bool steer_take(struct dp_core *core, uint64_t now_us);
/* Tells a core something about a neighbour; one's own at once. */
void steer_tell(struct dp_core *core, unsigned to, const struct news *news, uint64_t now_us);

/* ---- route.c ---- */
int route_init(struct dp *dp, char error[256]);
/* NULL: none. */
const struct route *route_find(const struct dp *dp, const struct addr *to);
/* The port for packets from `local` to `remote` and the next hop; false: no route. */
bool route_next_hop(struct dp *dp, const struct addr *local, const struct addr *remote,
	unsigned *port, struct addr *next_hop);
/* Our address entry, whatever its state; NULL: not ours. */
struct local_addr *local_find(struct dp *dp, const struct addr *addr, unsigned *port);
struct local_addr *local_find_on(struct dp_port *port, const struct addr *addr);
/* Is `addr` on the link of `port`, going by the prefixes of our addresses there? */
bool local_is_on_link(const struct dp_port *port, const struct addr *addr);
/* The address of `port` to speak to `to` from: of the same prefix, else any of the family that is
 * in use. */
const struct addr *local_source(const struct dp_port *port, const struct addr *to);

/* ---- announce.c: the first core claims our addresses ---- */
void announce_tick(struct dp_core *core, uint64_t now_us);

/* ---- core.c ---- */
/* One turn of the loop; true: something was done. `user` may be NULL. */
bool core_turn(struct dp_core *core, const struct dp_core_user *user, uint64_t now_us);
