// SPDX-License-Identifier: Apache-2.0
/* dataplane/dataplane.h: ports, IP and the poll loop around the TCP stacks.
 *
 * dp_create() starts the EAL and the ports; then each worker core runs dp_core_run() on a thread of
 * its own: rx burst -> Ethernet, ARP/NDP, IP, ICMP, TCP -> the user's turn -> TCP output -> tx
 * burst. Cores share nothing; a packet that lands on a core that does not own its 4-tuple crosses
 * an SPSC ring and is counted. No function of this header but dp_create/dp_destroy makes a system
 * call (net_tap's own apart), takes a lock or allocates. */
#pragma once

#include "base/addr.h"
#include "dataplane/tcp/tcp.h"

#define DP_PORTS_MAX  8
#define DP_ADDRS_MAX  64 /* per port */
#define DP_ROUTES_MAX 64
#define DP_CORES_MAX  16

enum {
	DP_OFFLOAD_RX_CHECKSUM = 1 << 0,
	DP_OFFLOAD_TX_CHECKSUM = 1 << 1,
	DP_OFFLOAD_TSO = 1 << 2,
	DP_OFFLOAD_RSS = 1 << 3,  /* spread connections over queues as we do, and tell the hash */
	DP_OFFLOAD_AUTO = 1 << 4, /* all of a card's, none of a virtual device's */
};
/* "auto", "none", or words with a blank between: rx-checksum tx-checksum tso rss. false: others. */
bool dp_offloads_parse(const char *text, unsigned *offloads);

struct dp_local_addr {
	struct addr addr;
	uint8_t prefix_bits; /* of the 128, as in struct prefix: what is on the link */
};
struct dp_port_config {
	char name[32];	  /* ours: "lan0" */
	/* EAL device: "net_tap0,iface=hktap0", "net_memif0,role=client,…" or a PCI address. A
	 * client of net_memif must be started after its server. */
	char device[256];
	uint16_t mtu;	  /* 0: 1500 */
	/* Pairs wanted; 0: one a core, but for net_memif one (its peer must have as many). Fewer
	 * than cores: the first core has one and serves the others. */
	uint16_t queues;
	unsigned offloads; /* DP_OFFLOAD_*, as far as the port has them; 0: none, all in software */
	struct dp_local_addr addrs[DP_ADDRS_MAX];
	unsigned addr_count;
};
struct dp_route {
	struct prefix to; /* 0 bits of the family: the default */
	struct addr via;  /* unspecified: on the link */
	unsigned port;	  /* index */
};
struct dp_config {
	struct dp_port_config ports[DP_PORTS_MAX];
	unsigned port_count;
	struct dp_route routes[DP_ROUTES_MAX];
	unsigned route_count;
	unsigned cores;	       /* workers */
	bool no_huge;	       /* run without hugepages */
	unsigned memory_mb;    /* of EAL memory */
	/* The idle ladder's longest sleep; 0: never sleep. A sleep costs a core up to 26 µs on a
	 * virtual machine (500 is 5 % of it), so after about a second of nothing sleeps are four
	 * times as long. A packet on net_tap ends one early. */
	unsigned sleep_us_max;
	/* One half for what is received (queues, and bytes the user has not consumed), the other
	 * for what TCP sends until it is acknowledged; 1024 at least. About 2.4 KB each. */
	uint32_t mbufs_per_core;
	/* per core; pools, secret and callbacks are filled in by dp_create() */
	struct tcp_config tcp;
};
struct dp;
struct dp_core;

/* Starts the EAL, the ports and the stacks; 0, or -errno with `error` saying what, where and what
 * to do. Once in a process. */
int dp_create(struct dp **dp, const struct dp_config *config, char error[256]);
/* After all cores have returned. Stops the ports (net_tap's interface goes) and the EAL. */
void dp_destroy(struct dp *dp);
/* One line about a port, as it was set up: "port=lan0 mtu=1500 queues=1 rx_checksum=software ...". */
void dp_port_text(const struct dp *dp, unsigned port, char text[256]);
/* What its RSS hash was found to be, from the first connections' packets: "agrees", "differs", "none";
 * NULL: not known yet. Any thread. */
const char *dp_port_rss(const struct dp *dp, unsigned port);
struct dp_core *dp_get_core(struct dp *dp, unsigned core);

/* The user of a core: called in the loop, on the core's thread. */
struct dp_core_user {
	/* Events of TCP are waiting (tcp_next_event), or time has passed. Once a turn, also without
	 * events. Returns true if it did something (the core is not idle). */
	bool (*turn)(void *user, struct tcp_stack *tcp, uint64_t now_us);
	/* When `turn` has something to do next without events; UINT64_MAX: never. */
	uint64_t (*next_due_us)(void *user);
	/* Before the core sleeps and after it has woken: it holds no reference to anything
	 * replaceable. */
	void (*offline)(void *user);
	void (*online)(void *user);
	void *user;
};
/* Polls until dp_core_stop(). Registers the calling thread with the EAL; lets it take real-time
 * signals, which dp_create() blocks in its caller and so in all threads made later (net_tap). */
void dp_core_run(struct dp_core *core, const struct dp_core_user *user);
/* Any thread: makes dp_core_run() return at the end of its turn. */
void dp_core_stop(struct dp_core *core);
struct tcp_stack *dp_core_tcp(struct dp_core *core);
/* The local address from which `remote` is reached; false: no route, or (IPv6, in the first second
 * after the start) no address that has been found to be ours alone (RFC 4862 5.4): try again. */
bool dp_source_for(struct dp_core *core, const struct addr *remote, struct addr *local);

/* Counters, one writer (the core), any reader: one table, dataplane/counters.def. */
unsigned dp_counter_count(void);
const char *dp_counter_name(unsigned counter);
const char *dp_counter_help(unsigned counter);
uint64_t dp_counter(const struct dp_core *core, unsigned counter);
/* Time spent: busy is all that was not an empty turn or a sleep. Microseconds since the start. */
void dp_core_times(
	const struct dp_core *core, uint64_t *busy_us, uint64_t *slept_us, uint64_t *turns);
