// SPDX-License-Identifier: Apache-2.0
/* Everything that is taken at start, and given back at the end. */
#include "dataplane/device_check.h"
#include "dataplane/neighbour.h"
#include "dataplane/packet.h"
#include "dataplane/path_mtu.h"
#include "dataplane/reassembly.h"

#include "base/clock.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define MTU_MIN		1280 /* RFC 8200 5 */
#define MTU_MAX		9000
#define MBUFS_MIN	1024 /* of a core: what its queues hold, and as much again in flight */
#define SLEEP_US_LIMIT	(100 * 1000u)
#define POOL_CACHE	256
#define IP_TCP_HEADROOM 128 /* RTE_PKTMBUF_HEADROOM: Ethernet 14, IPv6 40, TCP 60 */

/* ---- the configuration ---- */

static int refuse(char error[256], const char *what, const char *who)
{
	snprintf(error, 256, "%s%.64s", what, who);
	return -EINVAL;
}

static int check_addrs(const struct dp_port_config *port, char error[256])
{
	char text[ADDR_TEXT_MAX];
	if (port->addr_count > DP_ADDRS_MAX)
		return refuse(error, "too many addresses on port ", port->name);
	for (unsigned i = 0; i < port->addr_count; i++) {
		const struct dp_local_addr *a = &port->addrs[i];
		if (addr_is_unspecified(&a->addr) || addr_is_multicast(&a->addr))
			return refuse(error, "a port cannot have the address ",
				addr_format(&a->addr, text));
		if (a->prefix_bits > 128 || (addr_is_ipv4(&a->addr) && a->prefix_bits < 96))
			return refuse(
				error, "wrong prefix length of ", addr_format(&a->addr, text));
	}
	return 0;
}

static int check(const struct dp_config *c, char error[256])
{
	if (c->cores < 1 || c->cores > DP_CORES_MAX)
		return refuse(error, "the number of worker cores must be 1 to 16", "");
	if (c->port_count > DP_PORTS_MAX || c->route_count > DP_ROUTES_MAX)
		return refuse(error, "too many ports or routes", "");
	if (c->mbufs_per_core < MBUFS_MIN)
		return refuse(error, "a core needs 1024 packet buffers at least", "");
	if (c->sleep_us_max > SLEEP_US_LIMIT)
		return refuse(error, "the longest sleep of a core must be below 100 ms", "");
	for (unsigned i = 0; i < c->port_count; i++) {
		const struct dp_port_config *port = &c->ports[i];
		if (port->device[0] == '\0')
			return refuse(error, "no device is given for port ", port->name);
		if (port->mtu != 0 && (port->mtu < MTU_MIN || port->mtu > MTU_MAX))
			return refuse(error, "the MTU must be 1280 to 9000: port ", port->name);
		int err = check_addrs(port, error);
		if (err != 0)
			return err;
	}
	return 0;
}

/* ---- the cores ---- */

/* One buffer holds the longest frame, so that packets are never chained. */
static uint16_t data_room(const struct dp_config *config)
{
	unsigned room = 2048;
	for (unsigned i = 0; i < config->port_count; i++)
		if (config->ports[i].mtu + 64u > room)
			room = (config->ports[i].mtu + 64u + 63) & ~63u;
	return (uint16_t)(room + IP_TCP_HEADROOM);
}

static struct rte_mempool *make_pool(
	const char *what, unsigned core, unsigned count_, unsigned cache, uint16_t room)
{
	char name[RTE_MEMPOOL_NAMESIZE];
	snprintf(name, sizeof name, "%s%u", what, core);
	return rte_pktmbuf_pool_create(name, count_, cache, 0, room, SOCKET_ID_ANY);
}

/* Received packets, what TCP sends, what answers in bad times and what is put together from
 * fragments each have a pool of their own: none can starve another. */
static bool make_pools(struct dp_core *core, const struct dp_config *config)
{
	uint16_t room = data_room(config);
	unsigned half = config->mbufs_per_core / 2;
	core->rx_pool = make_pool("rx", core->index, half, POOL_CACHE, room);
	core->tx_pool = make_pool("tx", core->index, half, POOL_CACHE, room);
	core->control_pool = make_pool("control", core->index, CONTROL_BUFFERS, POOL_CACHE, room);
	core->fragment_pool = make_pool("fragment", core->index, FRAGMENT_BUFFERS, 0, room);
	return core->rx_pool != NULL && core->tx_pool != NULL && core->control_pool != NULL &&
		core->fragment_pool != NULL;
}

static bool make_inboxes(struct dp_core *core, unsigned cores)
{
	for (unsigned from = 0; from < cores; from++) {
		struct inbox *inbox = &core->inbox[from];
		if (from == core->index)
			continue;
		inbox->news = calloc(NEWS_RING, sizeof *inbox->news);
		ck_ring_init(&inbox->news_ring, NEWS_RING);
		if (!ring_init(&inbox->received, HANDOVER_RING) ||
			!ring_init(&inbox->to_send, HANDOVER_RING) || inbox->news == NULL)
			return false;
	}
	return true;
}

static struct dp_core *make_core(struct dp *dp, unsigned index)
{
	uint64_t seed;
	struct dp_core *core = aligned_alloc(CACHE_LINE, sizeof *core);
	if (core == NULL || getrandom(&seed, sizeof seed, 0) != sizeof seed)
		return core;
	memset(core, 0, sizeof *core);
	core->dp = dp;
	core->index = index;
	core->neighbours = neighbours_create(seed);
	core->reassembly = reassembly_create();
	core->path_mtus = path_mtus_create(seed);
	core->resolver = index == 0 ? resolver_create(seed) : NULL;
	return core;
}

static bool make_cores(struct dp *dp)
{
	for (unsigned i = 0; i < dp->core_count; i++) {
		struct dp_core *core = dp->cores[i] = make_core(dp, i);
		if (core == NULL || core->neighbours == NULL || core->reassembly == NULL ||
			core->path_mtus == NULL ||
			(i == 0 && core->resolver == NULL) || !make_inboxes(core, dp->core_count) ||
			!make_pools(core, &dp->config))
			return false;
	}
	return true;
}

int dp_prepare(struct dp **dp_out, const struct dp_config *config, char error[256])
{
	struct dp *dp = *dp_out = calloc(1, sizeof *dp);
	if (dp == NULL) {
		refuse(error, "no memory", "");
		return -ENOMEM;
	}
	dp->config = *config;
	dp->core_count = config->cores;
	dp->port_count = config->port_count;
	for (unsigned i = 0; i < dp->port_count; i++) {
		dp->ports[i].id = UINT16_MAX;
		dp->ports[i].mtu = config->ports[i].mtu == 0 ? 1500 : config->ports[i].mtu;
		dp->ports[i].queues = (uint16_t)dp->core_count;
		snprintf(dp->ports[i].name, sizeof dp->ports[i].name, "%s", config->ports[i].name);
	}
	if (getrandom(dp->rss_key, sizeof dp->rss_key, 0) != sizeof dp->rss_key ||
		getrandom(dp->secret, sizeof dp->secret, 0) != sizeof dp->secret)
		return refuse(error, "no randomness", "");
	steer_init(dp);
	if (make_cores(dp))
		return 0;
	snprintf(error, 256,
		"no memory for the packet buffers of %u cores with %u MB of EAL memory: give more",
		config->cores, config->memory_mb);
	return -ENOMEM;
}

/* ---- addresses and stacks ---- */

static void add_addr(struct dp_port *port, const struct addr *addr, uint8_t prefix_bits)
{
	struct local_addr *local = &port->addrs[port->addr_count++];
	local->addr = *addr;
	local->prefix_bits = prefix_bits;
	local->state = addr_is_ipv4(addr) ? ADDR_PREFERRED : ADDR_TENTATIVE;
}

/* fe80::/64 with the modified EUI-64 of the MAC address (RFC 4291 appendix A). */
static struct addr link_local(const uint8_t mac[6])
{
	return (struct addr){
		{0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
	  };
}

static void add_addrs(struct dp_port *port, const struct dp_port_config *config)
{
	struct addr own = link_local(port->mac);
	bool has_ipv6 = false;
	for (unsigned i = 0; i < config->addr_count; i++) {
		add_addr(port, &config->addrs[i].addr, config->addrs[i].prefix_bits);
		has_ipv6 |= !addr_is_ipv4(&config->addrs[i].addr);
	}
	if (has_ipv6 && local_find_on(port, &own) == NULL)
		add_addr(port, &own, 64);
}

static bool is_ours(void *user, const struct addr *local, uint16_t local_port,
	const struct addr *remote, uint16_t remote_port)
{
	const struct dp_core *core = user;
	return steer_owner(core->dp, local, local_port, remote, remote_port) == core->index;
}

static uint16_t known_path_mtu(void *user, const struct addr *remote)
{
	const struct dp_core *core = user;
	return path_mtu_find(core->path_mtus, remote);
}

static void learn_path_mtu(void *user, const struct addr *remote, uint32_t mtu)
{
	struct dp_core *core = user;
	count(core, COUNT_path_mtus_learned);
	path_mtu_learn(core->path_mtus, remote, mtu, core->now_us);
}

static uint16_t mtu_towards(void *user, const struct addr *local, const struct addr *remote)
{
	struct dp_core *core = user;
	struct addr next_hop;
	unsigned port;
	return route_next_hop(core->dp, local, remote, &port, &next_hop) ? core->dp->ports[port].mtu
									 : MTU_MIN;
}

static bool make_stack(struct dp_core *core)
{
	struct tcp_config config = core->dp->config.tcp;
	config.pool = core->tx_pool;
	config.control_pool = core->control_pool;
	config.is_ours = is_ours;
	config.mtu = mtu_towards;
	config.path_mtu = known_path_mtu;
	config.learn_path_mtu = learn_path_mtu;
	for (unsigned i = 0; i < core->dp->port_count; i++) {
		config.leaves_checksum |= core->dp->ports[i].tx_offloads != 0;
		core->dp->has_tso |= core->dp->ports[i].tso_segments > 1;
	}
	config.user = core;
	if (getrandom(config.secret, sizeof config.secret, 0) != sizeof config.secret)
		return false;
	core->tcp = tcp_stack_create(&config, time_monotonic_us());
	return core->tcp != NULL;
}

int dp_complete(struct dp *dp, char error[256])
{
	for (unsigned i = 0; i < dp->port_count; i++)
		add_addrs(&dp->ports[i], &dp->config.ports[i]);
	int err = route_init(dp, error);
	if (err != 0)
		return err;
	for (unsigned i = 0; i < dp->core_count; i++)
		if (!make_stack(dp->cores[i])) {
			refuse(error, "no memory for the connections that the configuration allows",
				"");
			return -ENOMEM;
		}
	return 0;
}

/* ---- life ---- */

int dp_create(struct dp **dp, const struct dp_config *config, char error[256])
{
	*dp = NULL;
	int err = check(config, error);
	for (unsigned i = 0; err == 0 && i < config->port_count; i++)
		if (!device_check("/sys", config->ports[i].name, config->ports[i].device, error))
			err = -ENODEV;
	if (err == 0)
		err = eal_start(config, error);
	if (err != 0)
		return err;
	err = dp_prepare(dp, config, error);
	for (unsigned i = 0; err == 0 && i < config->port_count; i++)
		err = port_open(*dp, i, error);
	if (err == 0)
		err = dp_complete(*dp, error);
	if (*dp != NULL)
		(*dp)->is_eal_up = true;
	if (err != 0) {
		dp_destroy(*dp);
		*dp = NULL;
	}
	return err;
}

static void empty_ring(struct ring *ring)
{
	struct rte_mbuf *m;
	if (ring->buffer == NULL)
		return;
	while ((m = ring_pop_spsc(ring)) != NULL)
		rte_pktmbuf_free(m);
	ring_fini(ring);
}

static void free_packets(struct dp_core *core)
{
	if (core->tcp != NULL)
		tcp_stack_destroy(core->tcp);
	core->tcp = NULL;
	for (unsigned i = 0; i < core->dp->port_count; i++) {
		rte_pktmbuf_free_bulk(core->tx[i].m, core->tx[i].count);
		core->tx[i].count = 0;
	}
	for (unsigned from = 0; from < core->dp->core_count; from++) {
		empty_ring(&core->inbox[from].received);
		empty_ring(&core->inbox[from].to_send);
		free(core->inbox[from].news);
		core->inbox[from].news = NULL;
	}
	neighbours_destroy(core->neighbours);
	resolver_destroy(core->resolver);
	reassembly_destroy(core->reassembly);
	path_mtus_destroy(core->path_mtus);
	core->reassembly = NULL;
	core->path_mtus = NULL;
	core->neighbours = NULL;
	core->resolver = NULL;
}

void dp_release(struct dp *dp)
{
	for (unsigned i = 0; i < dp->core_count; i++)
		if (dp->cores[i] != NULL)
			free_packets(dp->cores[i]);
}

/* After all cores' packets are back: they may be of each other's pools. */
static void free_core(struct dp_core *core)
{
	rte_mempool_free(core->rx_pool);
	rte_mempool_free(core->tx_pool);
	rte_mempool_free(core->control_pool);
	rte_mempool_free(core->fragment_pool);
	free(core);
}

void dp_destroy(struct dp *dp)
{
	if (dp == NULL)
		return;
	bool is_eal_up = dp->is_eal_up;
	for (unsigned i = 0; i < dp->port_count; i++)
		port_close(&dp->ports[i]);
	dp_release(dp);
	for (unsigned i = 0; i < dp->core_count; i++)
		if (dp->cores[i] != NULL)
			free_core(dp->cores[i]);
	free(dp);
	if (is_eal_up)
		rte_eal_cleanup();
}

struct dp_core *dp_get_core(struct dp *dp, unsigned core)
{
	return core < dp->core_count ? dp->cores[core] : NULL;
}

bool dp_source_for(struct dp_core *core, const struct addr *remote, struct addr *local)
{
	const struct route *route = route_find(core->dp, remote);
	if (route == NULL)
		return false;
	const struct addr *source = local_source(
		&core->dp->ports[route->port], route->is_on_link ? remote : &route->via);
	/* By way of a router known by its link-local address, ours must still be of wider scope. */
	if (source != NULL && addr_is_link_local(source))
		source = local_source(&core->dp->ports[route->port], remote);
	if (source != NULL)
		*local = *source;
	return source != NULL;
}
