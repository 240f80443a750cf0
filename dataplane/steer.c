// SPDX-License-Identifier: Apache-2.0
/* Which core owns a packet, and the rings that take it there.
 *
 * The owner is found by Toeplitz, the hash of RSS, over (remote, local, remote port, local port) as
 * the NIC sees them on arrival, with a random key made at start: a NIC that can be given the key
 * agrees and nothing needs to be handed over; with all others the rings do it. Each ring has one
 * producer and one consumer. */
#include "dataplane/neighbour.h"
#include "dataplane/packet.h"

#include <rte_mbuf.h>

CK_RING_PROTOTYPE(news, news)

/* The 32 bits of the key from bit `at` on. */
static uint32_t key_window(const uint8_t *key, unsigned at)
{
	uint64_t bits = 0;
	for (unsigned i = 0; i < 5; i++)
		bits = bits << 8 | key[at / 8 + i];
	return (uint32_t)(bits >> (8 - at % 8));
}

void steer_init(struct dp *dp)
{
	for (unsigned nibble = 0; nibble < 72; nibble++)
		for (unsigned value = 0; value < 16; value++) {
			uint32_t h = 0;
			for (unsigned bit = 0; bit < 4; bit++)
				if (value & (8u >> bit))
					h ^= key_window(dp->rss_key, nibble * 4 + bit);
			dp->toeplitz[nibble][value] = h;
		}
	for (unsigned i = 0; i < RETA_SIZE; i++)
		dp->reta[i] = (uint8_t)(i % dp->core_count);
}

static uint32_t toeplitz(const struct dp *dp, const uint8_t *tuple, unsigned bytes)
{
	uint32_t h = 0;
	for (unsigned i = 0; i < bytes; i++)
		h ^= dp->toeplitz[2 * i][tuple[i] >> 4] ^ dp->toeplitz[2 * i + 1][tuple[i] & 15];
	return h;
}

static uint32_t hash_of(const struct dp *dp, const struct addr *local, uint16_t local_port,
	const struct addr *remote, uint16_t remote_port)
{
	uint8_t tuple[36];
	unsigned width = addr_is_ipv4(remote) ? 4 : 16;
	memcpy(tuple, remote->b + 16 - width, width);
	memcpy(tuple + width, local->b + 16 - width, width);
	put_be16(tuple + 2 * width, remote_port);
	put_be16(tuple + 2 * width + 2, local_port);
	return toeplitz(dp, tuple, 2 * width + 4);
}

unsigned steer_owner(const struct dp *dp, const struct addr *local, uint16_t local_port,
	const struct addr *remote, uint16_t remote_port)
{
	if (dp->core_count == 1)
		return 0;
	return dp->reta[hash_of(dp, local, local_port, remote, remote_port) % RETA_SIZE];
}

/* ---- the port's own hash ---- */

static unsigned rss_checked(const struct dp_port *port)
{
	return atomic_load_explicit(&port->rss_agreed, memory_order_relaxed) +
		atomic_load_explicit(&port->rss_differed, memory_order_relaxed) +
		atomic_load_explicit(&port->rss_none, memory_order_relaxed);
}

void steer_check_hash(struct dp_core *core, unsigned index, const struct rte_mbuf *m,
	const struct addr *local, uint16_t local_port, const struct addr *remote, uint16_t remote_port)
{
	struct dp_port *port = &core->dp->ports[index];
	if (rss_checked(port) >= RSS_CHECKS)
		return;
	_Atomic unsigned *found = &port->rss_none;
	if (m->ol_flags & RTE_MBUF_F_RX_RSS_HASH)
		found = m->hash.rss == hash_of(core->dp, local, local_port, remote, remote_port)
			? &port->rss_agreed
			: &port->rss_differed;
	atomic_fetch_add_explicit(found, 1, memory_order_relaxed);
}

const char *dp_port_rss(const struct dp *dp, unsigned index)
{
	const struct dp_port *port = &dp->ports[index];
	if (rss_checked(port) < RSS_CHECKS)
		return NULL;
	if (atomic_load_explicit(&port->rss_differed, memory_order_relaxed) > 0)
		return "differs";
	return atomic_load_explicit(&port->rss_none, memory_order_relaxed) > 0 ? "none" : "agrees";
}

static void push(
	struct dp_core *core, struct ring *ring, struct rte_mbuf *m, enum dp_counter counter)
{
	if (ring_push_spsc(ring, m)) {
		count(core, counter);
		return;
	}
	count(core, COUNT_drop_handover_full);
	rte_pktmbuf_free(m);
}

void steer_hand_over(struct dp_core *core, struct rte_mbuf *m, unsigned to)
{
	push(core, &core->dp->cores[to]->inbox[core->index].received, m, COUNT_handed_over);
}

void steer_send_by(struct dp_core *core, struct rte_mbuf *m, unsigned port)
{
	m->port = (uint16_t)port;
	push(core, &core->dp->cores[0]->inbox[core->index].to_send, m, COUNT_tx_handed_over);
}

static void hear(struct dp_core *core, unsigned from, const struct news *news, uint64_t now_us)
{
	if (news->kind == NEWS_WANT)
		resolver_want(core, from, news, now_us);
	else
		neighbour_hear(core, news, now_us);
}

void steer_tell(struct dp_core *core, unsigned to, const struct news *news, uint64_t now_us)
{
	if (to == core->index) {
		hear(core, to, news, now_us);
		return;
	}
	struct inbox *inbox = &core->dp->cores[to]->inbox[core->index];
	struct news copy = *news;
	if (!ck_ring_enqueue_spsc_news(&inbox->news_ring, inbox->news, &copy))
		count(core, COUNT_news_lost);
}

static bool take_packets(struct dp_core *core, struct inbox *inbox, uint64_t now_us)
{
	unsigned taken = 0;
	struct rte_mbuf *m;
	for (; taken < 2 * BURST && (m = ring_pop_spsc(&inbox->received)) != NULL; taken++) {
		count(core, COUNT_taken_over);
		ethernet_input(core, m, true, now_us);
	}
	for (unsigned sent = 0; sent < 2 * BURST && (m = ring_pop_spsc(&inbox->to_send)) != NULL;
		sent++, taken++)
		port_send(core, m->port, m);
	return taken > 0;
}

bool steer_take(struct dp_core *core, uint64_t now_us)
{
	bool did = false;
	for (unsigned from = 0; from < core->dp->core_count; from++) {
		if (from == core->index)
			continue;
		struct inbox *inbox = &core->inbox[from];
		struct news news;
		for (unsigned i = 0; i < NEWS_RING; i++) {
			if (!ck_ring_dequeue_spsc_news(&inbox->news_ring, inbox->news, &news))
				break;
			hear(core, from, &news, now_us);
			did = true;
		}
		did |= take_packets(core, inbox, now_us);
	}
	return did;
}
