// SPDX-License-Identifier: Apache-2.0
/* Our own TCP over net_memif: an EAL process of its own, the memif client of the relay's port. */
#include "bench/transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "dataplane/dataplane.h"

#define MBUFS		 32768
#define RING_BITS	 11 /* of the memif's rings: 2,048 packets */
#define LINK_BYTES_MAX	 (256u << 10)
#define CONNECTION_SPARE 1024 /* those that are still closing */

struct memif {
	struct transport transport;
	struct dp *dp;
	struct dp_core *core;
	struct tcp_stack *tcp;
	struct addr local[BENCH_ADDRESSES_MAX], server;
	unsigned locals, next_local;
	uint16_t port;
	const struct transport_user *user;
	uint64_t now_us;
};

static struct link *open_link(struct transport *t, void *owner, const char **why)
{
	struct memif *m = (struct memif *)t;
	int error = 0;
	struct tcp_conn *c = tcp_connect(m->tcp, &m->local[m->next_local++ % m->locals], &m->server,
		m->port, owner, &error, m->now_us);
	*why = error == -ENOBUFS ? "no connection free" : "no port free";
	return (struct link *)c;
}

static size_t read_link(struct link *link, uint8_t *to, size_t room)
{
	return tcp_read((struct tcp_conn *)link, to, room);
}

static size_t write_link(struct link *link, struct bytes b)
{
	return tcp_write((struct tcp_conn *)link, b);
}

static void close_link(struct link *link)
{
	struct tcp_conn *c = (struct tcp_conn *)link;
	tcp_set_user(c, NULL);
	for (struct bytes b = tcp_peek(c); b.n != 0; b = tcp_peek(c))
		tcp_consume(c, b.n);
	tcp_close(c);
}

static void on_event(struct memif *m, struct tcp_conn *c, uint32_t events)
{
	unsigned out = 0;
	void *owner = tcp_user(c);
	if (owner == NULL)
		return;
	if (events & TCP_EVENT_CONNECTED)
		out |= LINK_UP;
	if (events & (TCP_EVENT_READABLE | TCP_EVENT_WRITABLE))
		out |= LINK_MOVED;
	if (events & TCP_EVENT_FIN)
		out |= LINK_EOF | LINK_MOVED;
	if (events & TCP_EVENT_ENDED)
		m->user->on_link(owner, LINK_GONE, tcp_end_name(tcp_end_reason(c)));
	else
		m->user->on_link(owner, out, NULL);
}

static bool turn(void *user, struct tcp_stack *tcp, uint64_t now_us)
{
	struct memif *m = user;
	bool is_busy = false;
	uint32_t events;
	m->now_us = now_us;
	for (struct tcp_conn *c; (c = tcp_next_event(tcp, &events)) != NULL; is_busy = true)
		on_event(m, c, events);
	if (!m->user->turn(now_us, &is_busy))
		dp_core_stop(m->core);
	return is_busy;
}

static void run(struct transport *t, const struct transport_user *user)
{
	struct memif *m = (struct memif *)t;
	const struct dp_core_user core_user = {.turn = turn, .user = m};
	m->user = user;
	dp_core_run(m->core, &core_user);
}

static uint64_t busy_us(struct transport *t)
{
	struct memif *m = (struct memif *)t;
	uint64_t busy, slept, turns;
	dp_core_times(m->core, &busy, &slept, &turns);
	return busy;
}

static void destroy(struct transport *t)
{
	struct memif *m = (struct memif *)t;
	dp_destroy(m->dp);
	free(m);
}

static const struct transport_ops ops = {
	open_link, read_link, write_link, close_link, run, busy_us, destroy};

/* `o->address` and those after it. */
static void set_addresses(struct memif *m, struct dp_port_config *port, const struct options *o)
{
	struct addr a = o->address;
	for (unsigned i = 0; i < o->addresses; i++) {
		port->addrs[i] = (struct dp_local_addr){.addr = a, .prefix_bits = o->prefix_bits};
		m->local[i] = a;
		for (int byte = 15; byte > 11 && ++a.b[byte] == 0; byte--)
			;
	}
	m->locals = port->addr_count = o->addresses;
}

static void configure(struct memif *m, struct dp_config *dp, const struct options *o)
{
	struct dp_port_config *port = &dp->ports[0];
	snprintf(port->name, sizeof port->name, "bench0");
	snprintf(port->device, sizeof port->device,
		"net_memif0,role=client,socket=%s,socket-abstract=no,rsize=%d", o->memif,
		RING_BITS);
	set_addresses(m, port, o);
	dp->port_count = dp->cores = 1;
	dp->no_huge = o->no_huge;
	dp->memory_mb = o->memory_mb;
	dp->sleep_us_max = o->sleep_us;
	dp->mbufs_per_core = MBUFS;
	uint32_t connections = o->connections + CONNECTION_SPARE;
	dp->tcp = (struct tcp_config){.connections_max = connections,
		.half_open_max = connections,
		.time_wait_max = connections,
		.receive_bytes_max = LINK_BYTES_MAX,
		.send_bytes_max = LINK_BYTES_MAX,
		.buffer_bytes_max = 64ull << 20};
}

struct transport *transport_memif(const struct options *o, char error[256])
{
	struct memif *m = calloc(1, sizeof *m);
	struct dp_config *config = calloc(1, sizeof *config);
	snprintf(error, 256, "no memory");
	if (m == NULL || config == NULL)
		return NULL;
	m->transport = (struct transport){&ops, "memif"};
	m->server = o->server;
	m->port = options_port(o);
	configure(m, config, o);
	int rc = dp_create(&m->dp, config, error);
	free(config);
	if (rc != 0) {
		free(m);
		return NULL;
	}
	m->core = dp_get_core(m->dp, 0);
	m->tcp = dp_core_tcp(m->core);
	m->now_us = time_monotonic_us();
	return &m->transport;
}
