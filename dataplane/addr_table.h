// SPDX-License-Identifier: Apache-2.0
/* dataplane/addr_table.h: from (port, address) to a small number, the index of an entry kept
 * elsewhere. A fixed count of places, taken at start; one thread. */
#pragma once

#include "base/addr.h"

#define ADDR_TABLE_NONE UINT16_MAX

struct addr_table {
	struct addr *addrs;
	uint8_t *ports;
	uint16_t *heads; /* of the chains, by hash */
	uint16_t *nexts; /* in the chain, or in the list of free places */
	bool *is_used;
	uint16_t free;
	uint16_t places; /* a power of two */
	uint16_t count;
	uint64_t seed;
};

/* `places` a power of two, 32768 at most; `seed` keys the hash. false: no memory. */
bool addr_table_init(struct addr_table *t, uint16_t places, uint64_t seed);
void addr_table_fini(struct addr_table *t);
/* ADDR_TABLE_NONE: not there. */
uint16_t addr_table_find(const struct addr_table *t, unsigned port, const struct addr *addr);
/* Adds what is not there yet; ADDR_TABLE_NONE: full. */
uint16_t addr_table_add(struct addr_table *t, unsigned port, const struct addr *addr);
void addr_table_remove(struct addr_table *t, uint16_t place);
