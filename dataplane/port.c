// SPDX-License-Identifier: Apache-2.0
/* Ports: opening them with what they can do, and their queues. */
#include "dataplane/offload.h"
#include "dataplane/packet.h"

#include <errno.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_pause.h>
#include <stdio.h>

#define MEMIF_SILENCE_US 200000

/* ---- opening ---- */

struct opening {
	struct dp *dp;
	struct dp_port *port;
	const struct dp_port_config *config;
	struct rte_eth_dev_info info;
	bool is_vdev;
	char *error;
};

static int failed(struct opening *o, const char *what, int err, const char *hint)
{
	snprintf(o->error, 256, "port %s (%.80s): cannot %s (%s)%s", o->port->name,
		o->config->device, what, strerror(-err), hint);
	return err;
}

static bool is_kind(const struct opening *o, const char *kind)
{
	return strncmp(o->config->device, kind, strlen(kind)) == 0;
}

static int probe(struct opening *o)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	snprintf(
		name, sizeof name, "%.*s", (int)strcspn(o->config->device, ","), o->config->device);
	int err = rte_dev_probe(o->config->device);
	if (err != 0 && err != -EEXIST)
		return failed(o, "make the device", err,
			o->is_vdev ? ": are its name and arguments right, and is its driver there? In "
				     "Debian each is a package, librte-net-..."
				   : ": does DPDK have a driver for this card, and is its package "
				     "librte-net-... there?");
	err = rte_eth_dev_get_port_by_name(name, &o->port->id);
	if (err != 0)
		return failed(o, "find the device", err, "");
	err = rte_eth_dev_info_get(o->port->id, &o->info);
	return err == 0 ? 0 : failed(o, "read what it can do", err, "");
}

/* A pair for each core, or one. Queues of net_memif are only as many as both ends have, which is
 * not known before they meet, so that more than one must be asked for. */
static uint16_t queue_count(const struct opening *o)
{
	unsigned cores = o->dp->core_count;
	unsigned wanted = o->config->queues;
	if (wanted == 0)
		wanted = is_kind(o, "net_memif") ? 1 : cores;
	bool has_enough = o->info.max_rx_queues >= cores && o->info.max_tx_queues >= cores;
	return wanted >= cores && has_enough ? (uint16_t)cores : 1;
}

/* A NIC is asked to hash as steer.c does; whether it agrees only costs or saves a handover. */
static void ask_for_rss(struct opening *o, struct rte_eth_conf *conf)
{
	uint64_t hashes = (RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP) &
		o->info.flow_type_rss_offloads;
	if (!o->port->is_rss_wanted || o->port->queues == 1 || hashes == 0 ||
		o->info.hash_key_size > RSS_KEY_BYTES) {
		o->port->rx_offloads &= ~(uint64_t)RTE_ETH_RX_OFFLOAD_RSS_HASH;
		return;
	}
	o->port->is_rss_asked = true;
	conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf->rx_adv_conf.rss_conf = (struct rte_eth_rss_conf){
		.rss_key = o->dp->rss_key, .rss_key_len = o->info.hash_key_size, .rss_hf = hashes};
}

static int configure(struct opening *o)
{
	struct rte_eth_conf conf = {0};
	offload_choose(o->port, o->config, &o->info);
	o->port->queues = queue_count(o);
	ask_for_rss(o, &conf);
	conf.rxmode.mtu = o->port->mtu;
	conf.rxmode.offloads = o->port->rx_offloads;
	conf.txmode.offloads = o->port->tx_offloads;
	int err = rte_eth_dev_configure(o->port->id, o->port->queues, o->port->queues, &conf);
	if (err != 0)
		return failed(o, "set it up", err, "");
	err = rte_eth_dev_set_mtu(o->port->id, o->port->mtu);
	if (err != 0 && !(err == -ENOTSUP && o->port->mtu <= 1500))
		return failed(o, "set its MTU", err, ": lower `mtu`");
	return 0;
}

static int set_up_queues(struct opening *o)
{
	bool is_small = o->is_vdev && !is_kind(o, "net_virtio_user");
	uint16_t rx = is_small ? VDEV_DESCRIPTORS : RX_DESCRIPTORS, tx = rx;
	rte_eth_dev_adjust_nb_rx_tx_desc(o->port->id, &rx, &tx);
	for (uint16_t q = 0; q < o->port->queues; q++) {
		struct rte_mempool *pool = o->dp->cores[q]->rx_pool;
		int err = rte_eth_rx_queue_setup(o->port->id, q, rx, SOCKET_ID_ANY, NULL, pool);
		if (err != 0)
			return failed(o, "set up a receive queue", err, "");
		err = rte_eth_tx_queue_setup(o->port->id, q, tx, SOCKET_ID_ANY, NULL);
		if (err != 0)
			return failed(o, "set up a transmit queue", err, "");
	}
	return 0;
}

static void agree_on_reta(struct opening *o)
{
	struct rte_eth_rss_reta_entry64
		entries[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE] = {0};
	unsigned size = o->info.reta_size;
	if (!o->port->is_rss_asked || size == 0 || size > RTE_ETH_RSS_RETA_SIZE_512)
		return;
	for (unsigned i = 0; i < size; i++) {
		struct rte_eth_rss_reta_entry64 *entry = &entries[i / RTE_ETH_RETA_GROUP_SIZE];
		entry->mask = UINT64_MAX;
		entry->reta[i % RTE_ETH_RETA_GROUP_SIZE] = o->dp->reta[i % RETA_SIZE];
	}
	rte_eth_dev_rss_reta_update(o->port->id, entries, (uint16_t)size);
}

/* net_tap reports as the port's own the address that it gave to the kernel's interface; we are
 * another host on that wire, so that ours must differ (else both have one link-local address). */
static int read_mac(struct opening *o)
{
	struct rte_ether_addr mac;
	int err = rte_eth_macaddr_get(o->port->id, &mac);
	if (err != 0)
		return failed(o, "read its Ethernet address", err, "");
	memcpy(o->port->mac, mac.addr_bytes, 6);
	if (is_kind(o, "net_tap"))
		o->port->mac[1] ^= 0x80;
	return 0;
}

int port_open(struct dp *dp, unsigned index, char error[256])
{
	const struct dp_port_config *config = &dp->config.ports[index];
	struct opening o = {.dp = dp,
		.port = &dp->ports[index],
		.config = config,
		.error = error,
		.is_vdev = strncmp(config->device, "net_", 4) == 0};
	int err = probe(&o);
	if (err == 0)
		err = configure(&o);
	if (err == 0)
		err = set_up_queues(&o);
	if (err == 0)
		err = read_mac(&o);
	if (err != 0)
		return err;
	err = rte_eth_dev_start(o.port->id);
	if (err != 0)
		return failed(&o, "start it", err,
			is_kind(&o, "net_memif") ? ": a client needs its server to be there first"
						 : "");
	o.port->is_open = true;
	agree_on_reta(&o);
	rte_eth_allmulticast_enable(o.port->id); /* for NDP; vdevs that cannot, receive all */
	return 0;
}

/* net_memif takes the rings from under the other end, which may be in the middle of a burst (docs/ports.md): after some
 * silence it finds nothing in them. */
static void fall_silent(const struct dp_port *port)
{
	struct rte_eth_dev_info info;
	if (rte_eth_dev_info_get(port->id, &info) == 0 && strcmp(info.driver_name, "net_memif") == 0)
		rte_delay_us_sleep(MEMIF_SILENCE_US);
}

void port_close(struct dp_port *port)
{
	if (!port->is_open)
		return;
	port->is_open = false;
	fall_silent(port);
	rte_eth_dev_stop(port->id);
	rte_eth_dev_close(port->id);
}

/* ---- in ---- */

static bool receive_from(struct dp_core *core, unsigned index, uint64_t now_us)
{
	struct rte_mbuf *m[BURST];
	uint64_t bytes = 0;
	uint16_t n = rte_eth_rx_burst(core->dp->ports[index].id, (uint16_t)core->index, m, BURST);
	if (n == 0)
		return false;
	for (uint16_t i = 0; i < n; i++) {
		rte_prefetch0(rte_pktmbuf_mtod(m[i], void *));
		m[i]->port = (uint16_t)index; /* ours: it goes along to other cores */
		bytes += m[i]->pkt_len;
	}
	count_add(core, COUNT_rx_packets, n);
	count_add(core, COUNT_rx_bytes, bytes);
	if (unlikely(core->capture != NULL))
		capture_packets(core, index, m, n, false);
	for (uint16_t i = 0; i < n; i++)
		ethernet_input(core, m[i], false, now_us);
	return true;
}

bool port_receive(struct dp_core *core, uint64_t now_us)
{
	bool did = false;
	for (unsigned i = 0; i < core->dp->port_count; i++)
		if (core->dp->ports[i].is_open && port_has_queue(&core->dp->ports[i], core))
			did |= receive_from(core, i, now_us);
	return did;
}

/* ---- out ---- */

struct rte_mbuf *port_control_buffer(struct dp_core *core, size_t n)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->control_pool);
	if (m != NULL && n <= rte_pktmbuf_tailroom(m)) {
		m->pkt_len = m->data_len = (uint16_t)n;
		memset(rte_pktmbuf_mtod(m, void *), 0, n);
		return m;
	}
	count(core, COUNT_drop_no_buffer);
	rte_pktmbuf_free(m);
	return NULL;
}

/* Some drivers have to make ready what the port is to finish, and may refuse. */
static void prepare(struct dp_core *core, const struct dp_port *port, struct tx_batch *batch)
{
	unsigned ready = 0;
	while (ready < batch->count) {
		ready += rte_eth_tx_prepare(port->id, (uint16_t)core->index, batch->m + ready,
			(uint16_t)(batch->count - ready));
		if (ready == batch->count)
			return;
		count(core, COUNT_drop_tx_refused);
		rte_pktmbuf_free(batch->m[ready]);
		batch->count--;
		memmove(batch->m + ready, batch->m + ready + 1,
			(batch->count - ready) * sizeof *batch->m);
	}
}

/* Never waits for a port: what a full queue does not take after a few tries is dropped. */
static void flush(struct dp_core *core, unsigned index)
{
	struct tx_batch *batch = &core->tx[index];
	struct dp_port *port = &core->dp->ports[index];
	unsigned sent = 0;
	uint64_t bytes = 0;
	if (port->tx_offloads != 0 && port->is_open)
		prepare(core, port, batch);
	for (unsigned i = 0; i < batch->count; i++)
		bytes += batch->m[i]->pkt_len;
	if (unlikely(core->capture != NULL))
		capture_packets(core, index, batch->m, batch->count, true);
	for (unsigned try = 0; port->is_open && sent < batch->count && try < TX_TRIES; try++) {
		if (try > 0)
			rte_pause();
		sent += rte_eth_tx_burst(port->id, (uint16_t)core->index, batch->m + sent,
			(uint16_t)(batch->count - sent));
	}
	for (unsigned i = sent; i < batch->count; i++) {
		bytes -= batch->m[i]->pkt_len;
		rte_pktmbuf_free(batch->m[i]);
	}
	count_add(core, COUNT_tx_packets, sent);
	count_add(core, COUNT_tx_bytes, bytes);
	count_add(core, COUNT_drop_tx_ring_full, batch->count - sent);
	batch->count = 0;
}

void port_send(struct dp_core *core, unsigned port, struct rte_mbuf *m)
{
	if (!port_has_queue(&core->dp->ports[port], core)) {
		steer_send_by(core, m, port);
		return;
	}
	struct tx_batch *batch = &core->tx[port];
	batch->m[batch->count++] = m;
	if (batch->count == TX_BATCH)
		flush(core, port);
}

void port_flush(struct dp_core *core)
{
	for (unsigned i = 0; i < core->dp->port_count; i++)
		if (core->tx[i].count > 0)
			flush(core, i);
}
