// SPDX-License-Identifier: Apache-2.0
#include "dataplane/private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct local_addr *local_find_on(struct dp_port *port, const struct addr *addr)
{
	for (unsigned i = 0; i < port->addr_count; i++)
		if (addr_equal(&port->addrs[i].addr, addr))
			return &port->addrs[i];
	return NULL;
}

struct local_addr *local_find(struct dp *dp, const struct addr *addr, unsigned *port)
{
	for (unsigned i = 0; i < dp->port_count; i++) {
		struct local_addr *local = local_find_on(&dp->ports[i], addr);
		if (local != NULL) {
			*port = i;
			return local;
		}
	}
	return NULL;
}

static bool is_on_link_of(const struct local_addr *local, const struct addr *addr)
{
	return addr_is_ipv4(&local->addr) == addr_is_ipv4(addr) &&
		prefix_has(&(struct prefix){local->addr, local->prefix_bits}, addr);
}

bool local_is_on_link(const struct dp_port *port, const struct addr *addr)
{
	for (unsigned i = 0; i < port->addr_count; i++)
		if (is_on_link_of(&port->addrs[i], addr))
			return true;
	return false;
}

const struct addr *local_source(const struct dp_port *port, const struct addr *to)
{
	const struct addr *any = NULL;
	for (unsigned i = 0; i < port->addr_count; i++) {
		const struct local_addr *local = &port->addrs[i];
		if (addr_is_ipv4(&local->addr) != addr_is_ipv4(to) ||
			local_addr_state(local) != ADDR_PREFERRED)
			continue;
		if (is_on_link_of(local, to))
			return &local->addr;
		/* The link-local one stands last and speaks to the link only (RFC 6724 rule 2). */
		if (any == NULL && !addr_is_link_local(&local->addr))
			any = &local->addr;
	}
	return any;
}

const struct route *route_find(const struct dp *dp, const struct addr *to)
{
	bool is_ipv4 = addr_is_ipv4(to);
	for (unsigned i = 0; i < dp->route_count; i++)
		if (dp->routes[i].is_ipv4 == is_ipv4 && prefix_has(&dp->routes[i].to, to))
			return &dp->routes[i];
	return NULL;
}

bool route_next_hop(struct dp *dp, const struct addr *local, const struct addr *remote,
	unsigned *port, struct addr *next_hop)
{
	*next_hop = *remote;
	if (addr_is_link_local(remote)) /* every link has it: the one our own address is of */
		return local_find(dp, local, port) != NULL;
	const struct route *route = route_find(dp, remote);
	if (route == NULL)
		return false;
	*port = route->port;
	if (!route->is_on_link)
		*next_hop = route->via;
	return true;
}

static void add(struct dp *dp, const struct route *route)
{
	struct route *r = &dp->routes[dp->route_count++];
	*r = *route;
	for (unsigned bit = r->to.bits; bit < 128; bit++)
		r->to.addr.b[bit / 8] &= (uint8_t) ~(0x80u >> (bit % 8));
}

/* Longer prefixes first; of equals the one on the link. */
static int compare(const void *a, const void *b)
{
	const struct route *x = a, *y = b;
	if (x->to.bits != y->to.bits)
		return y->to.bits - x->to.bits;
	return y->is_on_link - x->is_on_link;
}

static void add_links(struct dp *dp, unsigned port)
{
	for (unsigned i = 0; i < dp->ports[port].addr_count; i++) {
		const struct local_addr *local = &dp->ports[port].addrs[i];
		if (!addr_is_link_local(&local->addr))
			add(dp,
				&(struct route){
					.to = {local->addr, local->prefix_bits},
					.is_on_link = true,
					.is_ipv4 = addr_is_ipv4(&local->addr),
					.port = (uint8_t)port
			     });
	}
}

/* What the configuration says about a route must make sense before it is used. */
static const char *why_bad(const struct dp *dp, const struct dp_route *r)
{
	bool is_ipv4 = addr_is_ipv4(&r->to.addr) && r->to.bits >= 96;
	if (r->port >= dp->port_count)
		return "there is no such port";
	if (r->to.bits > 128)
		return "the prefix is longer than an address";
	if (addr_is_unspecified(&r->via))
		return NULL;
	if (addr_is_ipv4(&r->via) != is_ipv4)
		return "the gateway is of the other address family";
	if (!addr_is_link_local(&r->via) && !local_is_on_link(&dp->ports[r->port], &r->via))
		return "the gateway is not on the link of any address of the port";
	return NULL;
}

int route_init(struct dp *dp, char error[256])
{
	dp->route_count = 0;
	for (unsigned i = 0; i < dp->port_count; i++)
		add_links(dp, i);
	for (unsigned i = 0; i < dp->config.route_count; i++) {
		const struct dp_route *r = &dp->config.routes[i];
		const char *why = why_bad(dp, r);
		if (why != NULL) {
			char text[ADDR_TEXT_MAX + 4];
			snprintf(error, 256, "route to %s (number %u): %s",
				prefix_format(&r->to, text), i + 1, why);
			return -EINVAL;
		}
		add(dp,
			&(struct route){.to = r->to,
				.via = r->via,
				.port = (uint8_t)r->port,
				.is_on_link = addr_is_unspecified(&r->via),
				.is_ipv4 = addr_is_ipv4(&r->to.addr) && r->to.bits >= 96});
	}
	qsort(dp->routes, dp->route_count, sizeof *dp->routes, compare);
	return 0;
}
