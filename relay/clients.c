// SPDX-License-Identifier: Apache-2.0
/* relay/clients.c: how many connections each client has to this core: an open-addressed table that is never more
 * than half full, since it has a place for each connection twice. */
#include "relay/worker.h"

#include <stdlib.h>
#include <sys/random.h>

/* A power of two of at least 2 * `connections` places. */
bool clients_init(struct client_table *t, uint32_t connections)
{
	uint32_t places = 4;
	while (places < 2 * connections)
		places *= 2;
	t->mask = places - 1;
	t->places = calloc(places, sizeof *t->places);
	/* Keyed, or clients with many addresses could choose such as lie in one cluster. */
	return t->places != NULL && getrandom(&t->key, sizeof t->key, 0) == sizeof t->key;
}

static uint32_t home_of(const struct client_table *t, const struct addr *addr)
{
	return (uint32_t)addr_keyed_hash(addr, t->key) & t->mask;
}

/* Where the address is, or where it would go. */
static struct client_count *find(struct client_table *t, const struct addr *addr)
{
	for (uint32_t i = home_of(t, addr);; i = (i + 1) & t->mask)
		if (t->places[i].count == 0 || addr_equal(&t->places[i].addr, addr))
			return &t->places[i];
}

uint32_t clients_add(struct client_table *t, const struct addr *addr)
{
	struct addr client = addr_client(addr);
	struct client_count *place = find(t, &client);
	place->addr = client;
	return ++place->count;
}

/* The place is free: what lies behind it in the cluster moves up, so that no gap hides it. */
static void close_gap(struct client_table *t, uint32_t hole)
{
	for (uint32_t i = (hole + 1) & t->mask; t->places[i].count != 0; i = (i + 1) & t->mask) {
		struct client_count moved = t->places[i];
		t->places[i].count = 0;
		*find(t, &moved.addr) = moved;
	}
}

void clients_remove(struct client_table *t, const struct addr *addr)
{
	struct addr client = addr_client(addr);
	struct client_count *place = find(t, &client);
	if (place->count != 0 && --place->count == 0)
		close_gap(t, (uint32_t)(place - t->places));
}

uint32_t clients_count(struct client_table *t, const struct addr *addr)
{
	struct addr client = addr_client(addr);
	return find(t, &client)->count;
}
