// SPDX-License-Identifier: Apache-2.0
#include "dataplane/path_mtu.h"

#include "dataplane/addr_table.h"

#include <stdlib.h>

#define IP4_LEAST 68   /* RFC 791 3.2 */
#define IP6_LEAST 1280 /* RFC 8200 5 */
#define LOOKS	  32   /* places looked at in a tick: all of them in some seconds */

struct path {
	uint64_t since_us;
	uint16_t mtu;
};

struct path_mtus {
	struct addr_table table;
	struct path entries[PATHS_MAX];
	uint16_t hand;	 /* of the tick */
	uint16_t narrow; /* how many are */
};

struct path_mtus *path_mtus_create(uint64_t seed)
{
	struct path_mtus *t = calloc(1, sizeof *t);
	if (t == NULL || addr_table_init(&t->table, PATHS_MAX, seed))
		return t;
	free(t);
	return NULL;
}

void path_mtus_destroy(struct path_mtus *t)
{
	if (t == NULL)
		return;
	addr_table_fini(&t->table);
	free(t);
}

static bool is_narrow(const struct path_mtus *t, uint16_t place)
{
	return t->entries[place].mtu < IP4_PATH_MIN && addr_is_ipv4(&t->table.addrs[place]);
}

static void forget(struct path_mtus *t, uint16_t place)
{
	t->narrow -= is_narrow(t, place);
	addr_table_remove(&t->table, place);
}

static void forget_oldest(struct path_mtus *t)
{
	uint16_t oldest = 0;
	for (uint16_t i = 1; i < PATHS_MAX; i++)
		if (t->entries[i].since_us < t->entries[oldest].since_us)
			oldest = i;
	forget(t, oldest);
}

void path_mtu_learn(struct path_mtus *t, const struct addr *remote, uint32_t mtu, uint64_t now_us)
{
	uint32_t least = addr_is_ipv4(remote) ? IP4_LEAST : IP6_LEAST;
	if (mtu < least)
		mtu = least;
	if (mtu > UINT16_MAX)
		return;
	uint16_t place = addr_table_find(&t->table, 0, remote);
	if (place == ADDR_TABLE_NONE) {
		if (t->table.count == PATHS_MAX)
			forget_oldest(t);
		place = addr_table_add(&t->table, 0, remote);
		t->entries[place].mtu = UINT16_MAX;
	}
	if (mtu > t->entries[place].mtu)
		return;
	t->narrow -= is_narrow(t, place);
	t->entries[place] = (struct path){.since_us = now_us, .mtu = (uint16_t)mtu};
	t->narrow += is_narrow(t, place);
}

uint16_t path_mtu_find(const struct path_mtus *t, const struct addr *remote)
{
	uint16_t place =
		t->table.count == 0 ? ADDR_TABLE_NONE : addr_table_find(&t->table, 0, remote);
	if (place == ADDR_TABLE_NONE)
		return 0;
	return is_narrow(t, place) ? IP4_PATH_MIN : t->entries[place].mtu;
}

bool path_mtu_is_narrow(const struct path_mtus *t, const struct addr *remote)
{
	uint16_t place = t->narrow == 0 ? ADDR_TABLE_NONE : addr_table_find(&t->table, 0, remote);
	return place != ADDR_TABLE_NONE && is_narrow(t, place);
}

void path_mtu_tick(struct path_mtus *t, uint64_t now_us)
{
	for (unsigned i = 0; i < LOOKS && t->table.count > 0; i++) {
		uint16_t place = t->hand++ % PATHS_MAX;
		if (t->table.is_used[place] && now_us - t->entries[place].since_us > PATH_AGE_US)
			forget(t, place);
	}
}
