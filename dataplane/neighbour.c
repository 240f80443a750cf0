// SPDX-License-Identifier: Apache-2.0
#include "dataplane/neighbour.h"

#include "dataplane/addr_table.h"
#include "dataplane/packet.h"

#include <rte_ether.h>
#include <rte_tcp.h>
#include <stdlib.h>

#define IP4_HEADER 20
#define IP6_HEADER 40
#define TCP_HEADER 20

struct neighbour {
	bool is_known;
	uint8_t mac[6];
	uint8_t waiting_count;
	struct rte_mbuf *waiting[WAITING_MAX]; /* oldest first; only while not known */
	uint64_t since_us;		       /* when the waiting began */
	uint64_t told_us;		       /* the last WANT */
	uint64_t used_us;
};

struct neighbours {
	struct addr_table table;
	struct neighbour entries[NEIGHBOURS_MAX];
	uint32_t waiting; /* packets, in all of them */
	uint16_t hand; /* where the search for a place to take begins */
};

struct neighbours *neighbours_create(uint64_t seed)
{
	struct neighbours *n = calloc(1, sizeof *n);
	if (n == NULL || addr_table_init(&n->table, NEIGHBOURS_MAX, seed))
		return n;
	free(n);
	return NULL;
}

static unsigned drop_waiting(struct neighbours *n, struct neighbour *entry)
{
	unsigned dropped = entry->waiting_count;
	for (unsigned i = 0; i < entry->waiting_count; i++)
		rte_pktmbuf_free(entry->waiting[i]);
	n->waiting -= entry->waiting_count;
	entry->waiting_count = 0;
	return dropped;
}

void neighbours_destroy(struct neighbours *n)
{
	if (n == NULL)
		return;
	for (unsigned i = 0; i < NEIGHBOURS_MAX; i++)
		drop_waiting(n, &n->entries[i]);
	addr_table_fini(&n->table);
	free(n);
}

/* What a router would have said of a packet of ours, which begins at its IP header (RFC 4861 7.2.2): TCP goes on
 * trying, but if it gives up, it knows why. */
static void tell_tcp(struct dp_core *core, const struct rte_mbuf *m, uint64_t now_us)
{
	const struct bytes ip = bytes_of(rte_pktmbuf_mtod(m, const uint8_t *), m->data_len);
	if (ip.n < IP4_HEADER + TCP_HEADER)
		return;
	const bool is_ip4 = ip.at[0] >> 4 == 4;
	const size_t header = is_ip4 ? IP4_HEADER : IP6_HEADER;
	if (ip.n < header + TCP_HEADER || ip.at[is_ip4 ? 9 : 6] != IP_PROTOCOL_TCP)
		return;
	const struct bytes tcp = bytes_skip(ip, header);
	const bool has_text = m->pkt_len > header + (tcp.at[12] >> 4) * 4u;
	if (!has_text && !(tcp.at[13] & (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG)))
		return; /* nothing that is in flight */
	struct addr local, remote;
	if (is_ip4) {
		local = addr_from_ipv4(ip.at + 12);
		remote = addr_from_ipv4(ip.at + 16);
	} else {
		memcpy(local.b, ip.at + 8, sizeof local.b);
		memcpy(remote.b, ip.at + 24, sizeof remote.b);
	}
	tcp_icmp_error(core->tcp, &local, &remote, tcp, TCP_ICMP_SOFT, 0, now_us);
}

static void forget(struct dp_core *core, uint16_t place, uint64_t now_us)
{
	struct neighbours *n = core->neighbours;
	const struct neighbour *entry = &n->entries[place];
	for (unsigned i = 0; i < entry->waiting_count; i++)
		tell_tcp(core, entry->waiting[i], now_us);
	count_add(core, COUNT_drop_neighbour_failed, drop_waiting(n, &n->entries[place]));
	addr_table_remove(&n->table, place);
}

/* A full table gives up what has not been used for longer than the resolver needs to notice its
 * use. Looks at a bounded number of places, going round. */
static void make_room(struct dp_core *core, uint64_t now_us)
{
	struct neighbours *n = core->neighbours;
	for (unsigned looked = 0; looked < 64; looked++) {
		uint16_t place = n->hand++ % NEIGHBOURS_MAX;
		struct neighbour *entry = &n->entries[place];
		if (entry->is_known && now_us - entry->used_us > USE_REPORT_US) {
			forget(core, place, now_us);
			return;
		}
	}
}

static struct neighbour *find_or_add(
	struct dp_core *core, unsigned port, const struct addr *addr, uint64_t now_us)
{
	struct neighbours *n = core->neighbours;
	uint16_t place = addr_table_find(&n->table, port, addr);
	if (place != ADDR_TABLE_NONE)
		return &n->entries[place];
	if (n->table.count == NEIGHBOURS_MAX)
		make_room(core, now_us);
	place = addr_table_add(&n->table, port, addr);
	if (place == ADDR_TABLE_NONE)
		return NULL;
	n->entries[place] = (struct neighbour){.since_us = now_us};
	return &n->entries[place];
}

static void send_to(struct dp_core *core, unsigned port, const struct addr *addr,
	struct rte_mbuf *m, const uint8_t mac[6])
{
	ethernet_output(
		core, port, m, mac, addr_is_ipv4(addr) ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6);
}

/* A full queue loses its oldest packet, as RFC 4861 7.2.2 has it. */
static void wait_for(struct dp_core *core, struct neighbour *entry, struct rte_mbuf *m)
{
	struct neighbours *n = core->neighbours;
	const unsigned most = n->waiting < WAITING_MANY ? WAITING_MAX : WAITING_LEAST;
	if (entry->waiting_count >= most) {
		rte_pktmbuf_free(entry->waiting[0]);
		count(core, COUNT_drop_neighbour_queue);
		memmove(entry->waiting, entry->waiting + 1,
			(entry->waiting_count - 1u) * sizeof *entry->waiting);
		entry->waiting_count--;
		n->waiting--;
	}
	entry->waiting[entry->waiting_count++] = m;
	n->waiting++;
}

void neighbour_output(struct dp_core *core, unsigned port, const struct addr *neighbour,
	struct rte_mbuf *m, uint64_t now_us)
{
	struct neighbour *entry = find_or_add(core, port, neighbour, now_us);
	if (entry == NULL) {
		count(core, COUNT_drop_neighbour_full);
		rte_pktmbuf_free(m);
		return;
	}
	entry->used_us = now_us;
	if (entry->is_known)
		send_to(core, port, neighbour, m, entry->mac);
	else
		wait_for(core, entry, m);
	if (entry->told_us != 0 && now_us - entry->told_us < USE_REPORT_US)
		return;
	entry->told_us = now_us;
	steer_tell(core, 0,
		&(struct news){.kind = NEWS_WANT, .port = (uint8_t)port, .addr = *neighbour},
		now_us);
}

void neighbour_hear(struct dp_core *core, const struct news *news, uint64_t now_us)
{
	struct neighbours *n = core->neighbours;
	uint16_t place = addr_table_find(&n->table, news->port, &news->addr);
	if (place == ADDR_TABLE_NONE)
		return;
	struct neighbour *entry = &n->entries[place];
	if (news->kind == NEWS_GONE) {
		forget(core, place, now_us);
		return;
	}
	memcpy(entry->mac, news->mac, 6);
	entry->is_known = true;
	for (unsigned i = 0; i < entry->waiting_count; i++)
		send_to(core, news->port, &news->addr, entry->waiting[i], entry->mac);
	n->waiting -= entry->waiting_count;
	entry->waiting_count = 0;
}

void neighbour_tick(struct dp_core *core, uint64_t now_us)
{
	struct neighbours *n = core->neighbours;
	unsigned left = n->table.count;
	for (uint16_t i = 0; i < NEIGHBOURS_MAX && left > 0; i++) {
		if (!n->table.is_used[i])
			continue;
		left--;
		if (!n->entries[i].is_known && now_us - n->entries[i].since_us > WAIT_LIMIT_US)
			forget(core, i, now_us);
	}
}
