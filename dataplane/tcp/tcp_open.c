// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_open.c: listeners, active opens, and what both ends agree on at the start: initial
 * sequence numbers, timestamp offsets, source ports and segment sizes. */
#include "dataplane/tcp/tcp_private.h"

#include "dataplane/tcp/tcp_hash.h"

/* ---- keyed choices; each use has a word of its own behind the tuple ---- */

enum purpose { PURPOSE_ISN = 1, PURPOSE_TS_OFFSET, PURPOSE_PORT };

static uint64_t keyed(const struct tcp_stack *s, const struct tcp_tuple *tuple, enum purpose purpose)
{
	uint64_t words[6] = {0};
	memcpy(words, tuple, sizeof *tuple);
	words[5] = purpose;
	return siphash(s->config.secret, words, 6, 2, 4);
}

/* RFC 6528: a clock of 4 us and a keyed hash of the tuple. */
uint32_t tcp_isn(const struct tcp_stack *s, const struct tcp_tuple *tuple)
{
	return (uint32_t)(s->now_us / 4) + (uint32_t)keyed(s, tuple, PURPOSE_ISN);
}

uint32_t tcp_ts_offset(const struct tcp_stack *s, const struct tcp_tuple *tuple)
{
	return (uint32_t)keyed(s, tuple, PURPOSE_TS_OFFSET);
}

/* ---- segment sizes (RFC 9293 3.7.1, RFC 6691) ---- */

static uint32_t headers(const struct tcp_tuple *tuple)
{
	return addr_is_ipv4(&tuple->remote) ? 20 + 20 : 40 + 20;
}

static uint32_t link_mtu(const struct tcp_stack *s, const struct tcp_tuple *tuple)
{
	const uint32_t least = addr_is_ipv4(&tuple->remote) ? TCP_PACKET_MIN_V4 : TCP_PACKET_MIN_V6;
	return max_u32(s->config.mtu(s->config.user, &tuple->local, &tuple->remote), least);
}

static uint32_t path_mtu(const struct tcp_stack *s, const struct tcp_tuple *tuple)
{
	const uint32_t link = link_mtu(s, tuple);
	const uint32_t path =
		s->config.path_mtu == NULL ? 0 : s->config.path_mtu(s->config.user, &tuple->remote);
	return path != 0 ? min_u32(path, link) : link;
}

/* What we can receive; the way there says nothing about the way back (RFC 1191 3.1). */
uint16_t tcp_mss_to_announce(const struct tcp_stack *s, const struct tcp_tuple *tuple)
{
	return (uint16_t)(link_mtu(s, tuple) - headers(tuple));
}

void tcp_mss_update(struct tcp_conn *c, uint32_t mtu)
{
	const struct tcp_stack *s = c->stack;
	uint32_t mss = min_u32(path_mtu(s, &c->tuple), mtu) - headers(&c->tuple);
	mss = min_u32(mss, max_u32(c->peer_mss, TCP_MSS_MIN));
	if (c->has_ts) /* the options come out of the MSS (RFC 6691 2) */
		mss = max_u32(mss - 12, TCP_MSS_MIN);
	c->mss = (uint16_t)min_u32(mss, s->payload_max);
}

/* ---- listeners ---- */

struct tcp_listener *tcp_listener_find(struct tcp_stack *s, const struct addr *local, uint16_t port)
{
	struct tcp_listener *any = NULL;
	for (unsigned i = 0; i < TCP_LISTENERS_MAX; i++) {
		struct tcp_listener *l = &s->listeners[i];
		if (l->port != port || port == 0)
			continue;
		if (addr_equal(&l->local, local))
			return l;
		if (addr_is_unspecified(&l->local) && addr_is_ipv4(&l->local) == addr_is_ipv4(local))
			any = l;
	}
	return any;
}

static struct tcp_listener *find_exactly(struct tcp_stack *s, const struct addr *local, uint16_t port)
{
	for (unsigned i = 0; i < TCP_LISTENERS_MAX; i++)
		if (s->listeners[i].port == port && (port == 0 || addr_equal(&s->listeners[i].local, local)))
			return &s->listeners[i];
	return NULL;
}

int tcp_listen(struct tcp_stack *s, const struct addr *local, uint16_t port, uint32_t tag)
{
	if (port == 0)
		return -EINVAL;
	if (find_exactly(s, local, port) != NULL)
		return -EADDRINUSE;
	struct tcp_listener *l = find_exactly(s, local, 0);
	if (l == NULL)
		return -ENOSPC;
	*l = (struct tcp_listener){*local, port, tag};
	return 0;
}

void tcp_unlisten(struct tcp_stack *s, const struct addr *local, uint16_t port)
{
	struct tcp_listener *l = port == 0 ? NULL : find_exactly(s, local, port);
	if (l != NULL)
		l->port = 0;
}

/* ---- active open ---- */

static bool is_port_free(struct tcp_stack *s, struct tcp_tuple *t, uint64_t *hash)
{
	if (tcp_listener_find(s, &t->local, t->local_port) != NULL)
		return false;
	if (!s->config.is_ours(s->config.user, &t->local, t->local_port, &t->remote, t->remote_port))
		return false;
	*hash = tcp_tuple_hash(s, t);
	return tcp_table_find(s, t, *hash) == 0;
}

/* RFC 6056 3.3.3: a keyed start for each destination, so that ports cannot be guessed from others', and steps
 * from there so that they are not used again soon. */
static bool choose_port(struct tcp_stack *s, struct tcp_tuple *t, uint64_t *hash)
{
	const uint32_t span = UINT16_MAX - TCP_PORT_FIRST + 1;
	t->local_port = 0;
	uint32_t at = (uint32_t)(keyed(s, t, PURPOSE_PORT) % span) + s->connects++ % span;
	for (unsigned tries = 0; tries < TCP_PORT_TRIES; tries++, at++) {
		t->local_port = (uint16_t)(TCP_PORT_FIRST + at % span);
		if (is_port_free(s, t, hash))
			return true;
	}
	return false;
}

/* Can a connection lead there (RFC 9293 MUST-46)? Which addresses are a subnet's broadcast, IP knows. */
static bool is_one_host(const struct addr *a)
{
	static const uint8_t all[4] = {255, 255, 255, 255};
	return !addr_is_unspecified(a) && !addr_is_multicast(a) &&
		!(addr_is_ipv4(a) && memcmp(addr_ipv4(a), all, sizeof all) == 0);
}

struct tcp_conn *tcp_connect(struct tcp_stack *s, const struct addr *local, const struct addr *remote,
	uint16_t remote_port, void *user, int *error, uint64_t now_us)
{
	struct tcp_tuple t = {*local, *remote, 0, remote_port};
	uint64_t hash;
	s->now_us = now_us;
	*error = -EADDRNOTAVAIL;
	if (remote_port == 0 || addr_is_unspecified(local) || !is_one_host(remote) ||
		addr_is_ipv4(local) != addr_is_ipv4(remote))
		return NULL;
	*error = -ENOBUFS;
	if (s->conns_used + s->stats.half_open >= s->config.connections_max)
		return NULL;
	*error = -EADDRNOTAVAIL;
	if (!choose_port(s, &t, &hash))
		return NULL;
	struct tcp_conn *c = tcp_conn_get(s, &t, hash);
	c->is_active = true;
	c->is_announced = true;
	c->user = user;
	c->ts_offset = tcp_ts_offset(s, &t);
	c->iss = tcp_isn(s, &t);
	c->snd_una = c->snd_max = c->recover = c->iss;
	c->send_end = c->iss + 1;
	c->peer_mss = UINT16_MAX;
	tcp_mss_update(c, UINT16_MAX);
	tcp_enter(c, TCP_SYN_SENT);
	c->syn_due = true;
	c->progress_us = now_us;
	tcp_rto_restart(c);
	tcp_dirty(c);
	*error = 0;
	return c;
}
