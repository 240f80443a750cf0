// SPDX-License-Identifier: Apache-2.0
#include "dataplane/addr_table.h"

#include <stdlib.h>

/* The multiplier is 2^64 divided by the golden ratio; the seed keeps chains from being aimed at. */
static uint16_t addr_hash(const struct addr_table *t, unsigned port, const struct addr *addr)
{
	uint64_t high, low;
	memcpy(&high, addr->b, 8);
	memcpy(&low, addr->b + 8, 8);
	uint64_t h = (high ^ t->seed) * 0x9e3779b97f4a7c15ull;
	h = (h ^ (h >> 32) ^ low ^ port) * 0x9e3779b97f4a7c15ull;
	h = (h ^ (h >> 29) ^ t->seed) * 0x9e3779b97f4a7c15ull;
	return (uint16_t)(h >> 48) & (t->places - 1);
}

bool addr_table_init(struct addr_table *t, uint16_t places, uint64_t seed)
{
	*t = (struct addr_table){.places = places, .seed = seed};
	t->addrs = calloc(places, sizeof *t->addrs);
	t->ports = calloc(places, sizeof *t->ports);
	t->heads = calloc(places, sizeof *t->heads);
	t->nexts = calloc(places, sizeof *t->nexts);
	t->is_used = calloc(places, sizeof *t->is_used);
	if (t->addrs == NULL || t->ports == NULL || t->heads == NULL || t->nexts == NULL ||
		t->is_used == NULL) {
		addr_table_fini(t);
		return false;
	}
	for (uint16_t i = 0; i < places; i++) {
		t->heads[i] = ADDR_TABLE_NONE;
		t->nexts[i] = i + 1u < places ? i + 1u : ADDR_TABLE_NONE;
	}
	return true;
}

void addr_table_fini(struct addr_table *t)
{
	free(t->addrs);
	free(t->ports);
	free(t->heads);
	free(t->nexts);
	free(t->is_used);
	*t = (struct addr_table){0};
}

uint16_t addr_table_find(const struct addr_table *t, unsigned port, const struct addr *addr)
{
	uint16_t i = t->heads[addr_hash(t, port, addr)];
	while (i != ADDR_TABLE_NONE && !(t->ports[i] == port && addr_equal(&t->addrs[i], addr)))
		i = t->nexts[i];
	return i;
}

uint16_t addr_table_add(struct addr_table *t, unsigned port, const struct addr *addr)
{
	uint16_t place = t->free;
	if (place == ADDR_TABLE_NONE)
		return place;
	uint16_t *head = &t->heads[addr_hash(t, port, addr)];
	t->free = t->nexts[place];
	t->addrs[place] = *addr;
	t->ports[place] = (uint8_t)port;
	t->is_used[place] = true;
	t->nexts[place] = *head;
	*head = place;
	t->count++;
	return place;
}

void addr_table_remove(struct addr_table *t, uint16_t place)
{
	uint16_t *link = &t->heads[addr_hash(t, t->ports[place], &t->addrs[place])];
	while (*link != place)
		link = &t->nexts[*link];
	*link = t->nexts[place];
	t->nexts[place] = t->free;
	t->free = place;
	t->is_used[place] = false;
	t->count--;
}
