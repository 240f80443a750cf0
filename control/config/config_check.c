// SPDX-License-Identifier: Apache-2.0
#include "control/config/config_private.h"

#include <errno.h>
#include <stdlib.h>

/* What no row of the table can say alone: settings that have to fit each other. */

#define MBUF_BYTES 2304 /* a packet buffer of 2 KB with its head */
#define MIB	   (1024ull * 1024)

bool config_parse_interface(const char *text, struct addr *addr, struct prefix *network)
{
	if (!interface_parse(text, addr, &network->bits) || addr_is_unspecified(addr) || addr_is_multicast(addr))
		return false;
	network->addr = *addr;
	for (unsigned bit = network->bits; bit < 128; bit++)
		network->addr.b[bit / 8] &= (uint8_t)~(0x80u >> (bit % 8));
	return true;
}

bool config_parse_route(const struct config_route *route, struct prefix *to, struct addr *via)
{
	bool is_via = route->via[0] != '\0';
	*via = (struct addr){};
	if (is_via && !addr_parse(route->via, via))
		return false;
	if (strcmp(route->to, "default") != 0)
		return prefix_parse(route->to, to) &&
			(!is_via || addr_is_ipv4(&to->addr) == addr_is_ipv4(via));
	return is_via &&
		prefix_parse(addr_is_ipv4(via) ? "0.0.0.0/0" : "::/0", to);
}

static int refuse_text(struct config_reader *r, const char *path, const char *found, const char *expected)
{
	char quoted[QUOTE_BYTES_MAX];
	return config_refuse(r, path, quote_text(found, quoted), expected);
}

/* ---- ports ---- */
static int find_port(const struct config *c, const char *name)
{
	for (unsigned i = 0; i < c->dataplane.ports_count; i++)
		if (strcmp(c->dataplane.ports[i].name, name) == 0)
			return (int)i;
	return -1;
}

static int check_port(struct config_reader *r, unsigned index)
{
	const struct config *c = r->config;
	const struct config_port *port = &c->dataplane.ports[index];
	char path[64], expected[128];
	if (find_port(c, port->name) != (int)index) {
		snprintf(path, sizeof path, "dataplane.ports[%u].name", index);
		return refuse_text(r, path, port->name, "a name that no other port has");
	}
	for (unsigned i = 0; i < index; i++)
		if (strcmp(c->dataplane.ports[i].device, port->device) == 0) {
			snprintf(path, sizeof path, "dataplane.ports[%u].device", index);
			snprintf(expected, sizeof expected, "another device than port '%s' has",
				c->dataplane.ports[i].name);
			return refuse_text(r, path, port->device, expected);
		}
	return 0;
}

/* The port that has the address before address `last` of port `last_port`; -1: none. */
static int port_with(
	const struct config *c, const struct addr *addr, unsigned last_port, unsigned last)
{
	struct addr other;
	struct prefix network;
	for (unsigned p = 0; p < c->dataplane.ports_count && p <= last_port; p++) {
		const struct config_port *port = &c->dataplane.ports[p];
		for (unsigned i = 0; i < port->addresses_count && (p < last_port || i < last); i++)
			if (config_parse_interface(port->addresses[i], &other, &network) &&
				addr_equal(&other, addr))
				return (int)p;
	}
	return -1;
}

static int check_addresses(struct config_reader *r, unsigned index)
{
	const struct config_port *port = &r->config->dataplane.ports[index];
	struct addr addr;
	struct prefix network;
	for (unsigned i = 0; i < port->addresses_count; i++) {
		char path[64];
		config_parse_interface(port->addresses[i], &addr, &network);
		if (port_with(r->config, &addr, index, i) < 0)
			continue;
		snprintf(path, sizeof path, "dataplane.ports[%u].addresses[%u]", index, i);
		return refuse_text(r, path, port->addresses[i], "each address once");
	}
	return 0;
}

/* ---- routes ---- */
static bool is_on_link(const struct config_port *port, const struct addr *addr)
{
	struct addr own;
	struct prefix network;
	if (addr_is_link_local(addr))
		return true;
	for (unsigned i = 0; i < port->addresses_count; i++)
		if (config_parse_interface(port->addresses[i], &own, &network) &&
			prefix_has(&network, addr) && !addr_equal(&own, addr))
			return true;
	return false;
}

/* The only port's name, where none is given. */
static int fill_route_port(struct config_reader *r, struct config_route *route, const char *path)
{
	const struct config *c = r->config;
	if (route->port[0] != '\0')
		return 0;
	if (c->dataplane.ports_count != 1)
		return config_refuse(r, path, "none", "the name of a port, as there are several");
	free(route->port);
	route->port = strdup(c->dataplane.ports[0].name);
	return route->port == NULL ? -ENOMEM : 0;
}

static int check_route(struct config_reader *r, unsigned index)
{
	struct config *c = r->config;
	struct config_route *route = &c->dataplane.routes[index];
	char path[64], expected[128];
	struct prefix to;
	struct addr via;
	snprintf(path, sizeof path, "dataplane.routes[%u].port", index);
	int error = fill_route_port(r, route, path);
	if (error != 0)
		return error;
	int port = find_port(c, route->port);
	if (port < 0)
		return refuse_text(r, path, route->port, "the name of one of dataplane.ports");
	snprintf(path, sizeof path, "dataplane.routes[%u].via", index);
	if (!config_parse_route(route, &to, &via))
		return route->via[0] == '\0'
			? config_refuse(r, path, "none", "a router, where 'to' is \"default\"")
			: refuse_text(r, path, route->via, "an address of the family of 'to'");
	if (route->via[0] == '\0' || is_on_link(&c->dataplane.ports[port], &via))
		return 0;
	snprintf(expected, sizeof expected, "another host's address in a network of port '%s'",
		route->port);
	return refuse_text(r, path, route->via, expected);
}

/* ---- listeners ---- */
static bool is_everywhere(const struct config_listener *l)
{
	return l->address[0] == '\0' || strcmp(l->address, "*") == 0;
}

static bool is_same_place(const struct config_listener *a, const struct config_listener *b)
{
	struct addr x, y;
	if (!a->enabled || !b->enabled || a->tcp_port != b->tcp_port)
		return false;
	if (is_everywhere(a) || is_everywhere(b))
		return true;
	return addr_parse(a->address, &x) && addr_parse(b->address, &y) && addr_equal(&x, &y);
}

static int check_listener(struct config_reader *r, unsigned index)
{
	const struct config *c = r->config;
	const struct config_listener *l = &c->listeners[index];
	char path[64], expected[160], number[24];
	struct addr addr;
	for (unsigned i = 0; i < index; i++) {
		const struct config_listener *other = &c->listeners[i];
		if (strcmp(other->name, l->name) == 0) {
			snprintf(path, sizeof path, "listeners[%u].name", index);
			return refuse_text(r, path, l->name, "a name that no other listener has");
		}
		if (is_same_place(other, l)) {
			snprintf(path, sizeof path, "listeners[%u].port", index);
			snprintf(expected, sizeof expected,
				"a port or address where listener '%s' is not already", other->name);
			config_format_number(TYPE_NUMBER, l->tcp_port, number);
			return config_refuse(r, path, number, expected);
		}
	}
	snprintf(path, sizeof path, "listeners[%u].address", index);
	if (!is_everywhere(l) && addr_parse(l->address, &addr) &&
		port_with(c, &addr, UINT32_MAX, UINT32_MAX) < 0)
		return refuse_text(r, path, l->address, "an address of one of dataplane.ports");
	return 0;
}

/* ---- numbers that have to fit ---- */
static int refuse_number(struct config_reader *r, const char *path, enum setting_type type,
	uint64_t found, const char *expected)
{
	char number[24];
	return config_refuse(r, path, config_format_number(type, found, number), expected);
}

static int check_numbers(struct config_reader *r)
{
	const struct config *c = r->config;
	char expected[160];
	uint64_t mbufs = (uint64_t)c->dataplane.mbufs_per_core * c->dataplane.cores;
	uint64_t mbufs_mb = (mbufs * MBUF_BYTES + MIB - 1) / MIB;
	if (c->dataplane.memory_mb < mbufs_mb) {
		snprintf(expected, sizeof expected,
			"at least %llu for dataplane.mbufs_per_core on %u cores",
			(unsigned long long)mbufs_mb, c->dataplane.cores);
		return refuse_number(
			r, "dataplane.memory_mb", TYPE_NUMBER, c->dataplane.memory_mb, expected);
	}
	if (c->limits.message_bytes > c->limits.mail_memory_mb * MIB)
		return refuse_number(r, "limits.message_bytes", TYPE_SIZE, c->limits.message_bytes,
			"no more than limits.mail_memory_mb, in which a message has to fit");
	/* So that the previous key is the only old one that is still good for something. */
	if (c->tls.ticket_lifetime > c->tls.ticket_rotation)
		return refuse_number(r, "tls.ticket_lifetime", TYPE_TIME, c->tls.ticket_lifetime,
			"no more than tls.ticket_rotation");
	if (c->queue.retry_most < c->queue.retry_first)
		return refuse_number(r, "queue.retry_most", TYPE_TIME, c->queue.retry_most,
			"no less than queue.retry_first");
	if (c->queue.delay_warning >= c->queue.lifetime)
		return refuse_number(r, "queue.delay_warning", TYPE_TIME, c->queue.delay_warning,
			"less than queue.lifetime");
	if (c->spool.disk_mb != 0 && c->spool.disk_mb < 2 * c->spool.segment_mb)
		return refuse_number(r, "spool.disk_mb", TYPE_NUMBER, c->spool.disk_mb,
			"0, or at least twice spool.segment_mb");
	return 0;
}

static int check_paths(struct config_reader *r)
{
	const struct config *c = r->config;
	const struct {
		const char *path, *text;
	} paths[] = {
		{"paths.spool", c->paths.spool},
		{"paths.store", c->paths.store},
		{"paths.control_socket", c->paths.control_socket},
		{"paths.api_socket", c->paths.api_socket},
		{"paths.records", c->paths.records},
	};
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		for (size_t j = 0; j < i; j++) {
			char expected[64];
			if (strcmp(paths[i].text, paths[j].text) != 0)
				continue;
			snprintf(expected, sizeof expected, "another path than %s", paths[j].path);
			return refuse_text(r, paths[i].path, paths[i].text, expected);
		}
	return 0;
}

int config_check(struct config_reader *r)
{
	const struct config *c = r->config;
	int error = 0;
	for (unsigned i = 0; error == 0 && i < c->dataplane.ports_count; i++)
		error = check_port(r, i);
	for (unsigned i = 0; error == 0 && i < c->dataplane.ports_count; i++)
		error = check_addresses(r, i);
	for (unsigned i = 0; error == 0 && i < c->dataplane.routes_count; i++)
		error = check_route(r, i);
	for (unsigned i = 0; error == 0 && i < c->listeners_count; i++)
		error = check_listener(r, i);
	if (error == 0)
		error = check_numbers(r);
	return error != 0 ? error : check_paths(r);
}
