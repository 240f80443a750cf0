// SPDX-License-Identifier: Apache-2.0
#include "dataplane/lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

const uint8_t lab_mac[6] = {2, 0, 0, 0, 0, 1}, lab_peer_mac[6] = {2, 0, 0, 0, 0, 0x99};
const uint8_t lab_broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
uint64_t lab_now_us = 1000000;

int lab_start(void **state)
{
	static bool is_started;
	char error[256];
	struct dp_config config = {.no_huge = true, .memory_mb = 64, .cores = 1};
	if (is_started)
		return 0;
	is_started = true;
	int err = eal_start(&config, error);
	if (err != 0)
		fprintf(stderr, "%s\n", error);
	return err;
}

struct addr lab_addr(const char *text)
{
	struct addr a;
	if (!addr_parse(text, &a))
		abort();
	return a;
}

static struct dp_config config_of(unsigned cores)
{
	struct dp_config config = {.port_count = 1,
		.cores = cores,
		.no_huge = true,
		.memory_mb = 64,
		.mbufs_per_core = 1024,
		.route_count = 2};
	struct dp_port_config *port = &config.ports[0];
	snprintf(port->name, sizeof port->name, "lan0");
	snprintf(port->device, sizeof port->device, "net_none");
	port->addr_count = 3;
	port->addrs[0] = (struct dp_local_addr){lab_addr("192.0.2.1"), 120};
	port->addrs[1] = (struct dp_local_addr){lab_addr("192.0.2.2"), 120};
	port->addrs[2] = (struct dp_local_addr){lab_addr("2001:db8::1"), 64};
	config.routes[0] = (struct dp_route){
		.to = {lab_addr("0.0.0.0"), 96},
			 .via = lab_addr("192.0.2.254")
	       };
	config.routes[1] = (struct dp_route){.via = lab_addr("2001:db8::fe")};
	return config;
}

struct dp *lab_open(unsigned cores)
{
	struct dp *dp;
	char error[256] = "";
	struct dp_config config = config_of(cores);
	if (dp_prepare(&dp, &config, error) != 0) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	memcpy(dp->ports[0].mac, lab_mac, 6);
	if (dp_complete(dp, error) != 0) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	for (unsigned i = 0; i < dp->ports[0].addr_count; i++)
		dp->ports[0].addrs[i].state = ADDR_PREFERRED;
	lab_tcp = (struct lab_tcp){0};
	return dp;
}

void lab_close(struct dp *dp)
{
	unsigned lost = 0;
	dp_release(dp);
	for (unsigned i = 0; i < dp->core_count; i++)
		lost += rte_mempool_in_use_count(dp->cores[i]->rx_pool) +
			rte_mempool_in_use_count(dp->cores[i]->tx_pool) +
			rte_mempool_in_use_count(dp->cores[i]->control_pool) +
			rte_mempool_in_use_count(dp->cores[i]->fragment_pool);
	dp_destroy(dp);
	assert_int_equal(lost, 0);
}

/* ---- frames; sums are done here in their simplest form, not by what is tested ---- */

static uint16_t sum_of(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

size_t lab_ether(uint8_t *frame, const uint8_t to[6], uint16_t type, struct bytes payload)
{
	memcpy(frame, to, 6);
	memcpy(frame + 6, lab_peer_mac, 6);
	put_be16(frame + 12, type);
	if (payload.n > 0)
		memmove(frame + 14, payload.at, payload.n);
	return 14 + payload.n;
}

void lab_fix_ip4(uint8_t *frame)
{
	put_be16(frame + 24, 0);
	put_be16(frame + 24, (uint16_t)~sum_of(0, frame + 14, (frame[14] & 15) * 4u));
}

size_t lab_ip4(
	uint8_t *frame, const char *from, const char *to, uint8_t protocol, struct bytes payload)
{
	uint8_t ip[2048] = {0x45, [8] = 64};
	struct addr a = lab_addr(from), b = lab_addr(to);
	put_be16(ip + 2, (uint16_t)(20 + payload.n));
	ip[9] = protocol;
	memcpy(ip + 12, addr_ipv4(&a), 4);
	memcpy(ip + 16, addr_ipv4(&b), 4);
	memcpy(ip + 20, payload.at, payload.n);
	size_t n = lab_ether(frame, lab_mac, 0x0800, bytes_of(ip, 20 + payload.n));
	lab_fix_ip4(frame);
	return n;
}

size_t lab_ip6(uint8_t *frame, const char *from, const char *to, uint8_t next, struct bytes payload)
{
	uint8_t ip[2048] = {0x60, [7] = 255}, group[6] = {0x33, 0x33};
	struct addr a = lab_addr(from), b = lab_addr(to);
	put_be16(ip + 4, (uint16_t)payload.n);
	ip[6] = next;
	memcpy(ip + 8, a.b, 16);
	memcpy(ip + 24, b.b, 16);
	memcpy(ip + 40, payload.at, payload.n);
	memcpy(group + 2, b.b + 12, 4);
	return lab_ether(frame, addr_is_multicast(&b) ? group : lab_mac, 0x86dd,
		bytes_of(ip, 40 + payload.n));
}

void lab_icmp6_sum(uint8_t *icmp, size_t n, const char *from, const char *to)
{
	struct addr a = lab_addr(from), b = lab_addr(to);
	uint8_t pseudo[40] = {[39] = 58};
	memcpy(pseudo, a.b, 16);
	memcpy(pseudo + 16, b.b, 16);
	put_be32(pseudo + 32, (uint32_t)n);
	put_be16(icmp + 2, 0);
	put_be16(icmp + 2, (uint16_t)~sum_of(sum_of(0, pseudo, sizeof pseudo), icmp, n));
}

size_t lab_arp(uint8_t *frame, const uint8_t to[6], uint16_t operation, const uint8_t sender_mac[6],
	const char *sender, const char *target)
{
	uint8_t arp[28] = {0, 1, 8, 0, 6, 4};
	struct addr a = lab_addr(sender), b = lab_addr(target);
	put_be16(arp + 6, operation);
	memcpy(arp + 8, sender_mac, 6);
	memcpy(arp + 14, addr_ipv4(&a), 4);
	memcpy(arp + 24, addr_ipv4(&b), 4);
	return lab_ether(frame, to, 0x0806, bytes_of(arp, sizeof arp));
}

/* ---- in and out ---- */

void lab_put(struct dp_core *core, const void *frame, size_t n)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->rx_pool);
	assert_non_null(m);
	m->port = 0;
	memcpy(rte_pktmbuf_append(m, (uint16_t)n), frame, n);
	ethernet_input(core, m, false, lab_now_us);
}

struct bytes lab_sent(struct dp_core *core)
{
	static uint8_t frame[9216];
	struct tx_batch *batch = &core->tx[0];
	if (batch->count == 0)
		return BYTES_NONE;
	struct rte_mbuf *m = batch->m[0];
	size_t n = m->data_len;
	memcpy(frame, rte_pktmbuf_mtod(m, void *), n);
	rte_pktmbuf_free(m);
	memmove(batch->m, batch->m + 1, --batch->count * sizeof *batch->m);
	return bytes_of(frame, n);
}

uint64_t lab_counter(const struct dp_core *core, enum dp_counter counter)
{
	return dp_counter(core, counter);
}
