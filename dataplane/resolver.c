// SPDX-License-Identifier: Apache-2.0
/* The states of RFC 4861 7.3.2, for ARP as well:
 *
 *   INCOMPLETE --answer--> REACHABLE --30 s--> STALE --used--> DELAY --5 s--> PROBE --answer-->
 * REACHABLE |                     ^                 ^                              | 3 questions
 * solicited         somebody else's word           3 questions unanswered: GONE      answer (new
 * address, solicitation)    unanswered: GONE
 */
#include "dataplane/neighbour.h"

#include "dataplane/addr_table.h"
#include "dataplane/packet.h"

#include <stdlib.h>

enum resolution_state { INCOMPLETE, REACHABLE, STALE, DELAY, PROBE };

struct resolution {
	uint8_t state;
	uint8_t tries;
	uint8_t mac[6];
	uint64_t due_us; /* of the state's next step */
	uint64_t used_us;
};

struct resolver {
	struct addr_table table;
	struct resolution entries[NEIGHBOURS_MAX];
	uint16_t incomplete;
	uint16_t hand;
};

struct resolver *resolver_create(uint64_t seed)
{
	struct resolver *r = calloc(1, sizeof *r);
	if (r == NULL || addr_table_init(&r->table, NEIGHBOURS_MAX, seed))
		return r;
	free(r);
	return NULL;
}

void resolver_destroy(struct resolver *r)
{
	if (r == NULL)
		return;
	addr_table_fini(&r->table);
	free(r);
}

/* The only place that writes the state. */
static void enter(
	struct resolver *r, struct resolution *entry, enum resolution_state next, uint64_t now_us)
{
	static const uint64_t lasts_us[] = {[INCOMPLETE] = RETRANS_US,
		[REACHABLE] = REACHABLE_US,
		[STALE] = FORGET_US,
		[DELAY] = DELAY_FIRST_PROBE_US,
		[PROBE] = RETRANS_US};
	r->incomplete -= entry->state == INCOMPLETE;
	r->incomplete += next == INCOMPLETE;
	entry->state = (uint8_t)next;
	entry->tries = 0;
	entry->due_us = now_us + lasts_us[next];
}

static struct news news_of(const struct resolver *r, uint16_t place, enum news_kind kind)
{
	struct news news = {.kind = (uint8_t)kind,
		.port = r->table.ports[place],
		.addr = r->table.addrs[place]};
	memcpy(news.mac, r->entries[place].mac, 6);
	return news;
}

static void tell_all(struct dp_core *core, uint16_t place, enum news_kind kind, uint64_t now_us)
{
	struct news news = news_of(core->resolver, place, kind);
	for (unsigned to = 0; to < core->dp->core_count; to++)
		steer_tell(core, to, &news, now_us);
}

static void drop_entry(struct dp_core *core, uint16_t place, uint64_t now_us)
{
	struct resolver *r = core->resolver;
	tell_all(core, place, NEWS_GONE, now_us);
	r->incomplete -= r->entries[place].state == INCOMPLETE;
	addr_table_remove(&r->table, place);
}

static void make_room(struct dp_core *core, uint64_t now_us)
{
	struct resolver *r = core->resolver;
	for (unsigned looked = 0; looked < 64; looked++) {
		uint16_t place = r->hand++ % NEIGHBOURS_MAX;
		if (r->table.is_used[place] && r->entries[place].state == STALE) {
			drop_entry(core, place, now_us);
			return;
		}
	}
}

static uint16_t add_entry(struct dp_core *core, unsigned port, const struct addr *addr,
	enum resolution_state state, uint64_t now_us)
{
	struct resolver *r = core->resolver;
	if (r->table.count == NEIGHBOURS_MAX)
		make_room(core, now_us);
	uint16_t place = addr_table_add(&r->table, port, addr);
	if (place == ADDR_TABLE_NONE)
		return place;
	r->entries[place] = (struct resolution){.state = STALE, .used_us = now_us};
	enter(r, &r->entries[place], state, now_us);
	return place;
}

/* One more question; INCOMPLETE asks everybody, PROBE the neighbour himself. */
static void ask(struct dp_core *core, uint16_t place)
{
	struct resolver *r = core->resolver;
	struct resolution *entry = &r->entries[place];
	const uint8_t *mac = entry->state == PROBE ? entry->mac : NULL;
	entry->tries++;
	if (addr_is_ipv4(&r->table.addrs[place]))
		arp_ask(core, r->table.ports[place], &r->table.addrs[place], mac);
	else
		ndp_ask(core, r->table.ports[place], &r->table.addrs[place], mac);
}

/* No room, or too many unanswered: what waits is let go, TCP will try again. */
static void refuse(struct dp_core *core, unsigned from, const struct news *want, uint64_t now_us)
{
	struct news news = *want;
	news.kind = NEWS_GONE;
	steer_tell(core, from, &news, now_us);
}

void resolver_want(struct dp_core *core, unsigned from, const struct news *want, uint64_t now_us)
{
	struct resolver *r = core->resolver;
	uint16_t place = addr_table_find(&r->table, want->port, &want->addr);
	if (place == ADDR_TABLE_NONE) {
		place = r->incomplete >= INCOMPLETE_MAX
			? ADDR_TABLE_NONE
			: add_entry(core, want->port, &want->addr, INCOMPLETE, now_us);
		if (place == ADDR_TABLE_NONE)
			refuse(core, from, want, now_us);
		else
			ask(core, place);
		return;
	}
	struct resolution *entry = &r->entries[place];
	entry->used_us = now_us;
	if (entry->state == INCOMPLETE)
		return;
	if (entry->state == STALE)
		enter(r, entry, DELAY, now_us);
	struct news news = news_of(r, place, NEWS_KNOWN);
	steer_tell(core, from, &news, now_us);
}

/* RFC 4861 7.2.5 for an entry that has an address. Returns true if the address is now another. */
static bool apply_claim(struct resolver *r, struct resolution *entry,
	const struct resolver_claim *claim, uint64_t now_us)
{
	bool differs = claim->mac != NULL && memcmp(entry->mac, claim->mac, 6) != 0;
	if (differs && !claim->is_override) {
		if (entry->state == REACHABLE)
			enter(r, entry, STALE, now_us);
		return false;
	}
	if (differs)
		memcpy(entry->mac, claim->mac, 6);
	if (claim->is_solicited)
		enter(r, entry, REACHABLE, now_us);
	else if (differs)
		enter(r, entry, STALE, now_us);
	return differs;
}

void resolver_hear(struct dp_core *core, unsigned port, const struct addr *addr,
	const struct resolver_claim *claim, uint64_t now_us)
{
	struct resolver *r = core->resolver;
	uint16_t place = addr_table_find(&r->table, port, addr);
	if (place == ADDR_TABLE_NONE) {
		if (!claim->may_create || claim->mac == NULL)
			return;
		place = add_entry(core, port, addr, STALE, now_us);
		if (place != ADDR_TABLE_NONE)
			memcpy(r->entries[place].mac, claim->mac, 6);
		return;
	}
	struct resolution *entry = &r->entries[place];
	if (entry->state != INCOMPLETE) {
		if (apply_claim(r, entry, claim, now_us))
			tell_all(core, place, NEWS_KNOWN, now_us);
		return;
	}
	if (claim->mac == NULL)
		return;
	memcpy(entry->mac, claim->mac, 6);
	/* It was asked for because somebody sends to it, so that a word not solicited is probed
	 * soon. */
	enter(r, entry, claim->is_solicited ? REACHABLE : DELAY, now_us);
	count(core, COUNT_neighbour_resolved);
	tell_all(core, place, NEWS_KNOWN, now_us);
}

static void step(struct dp_core *core, uint16_t place, uint64_t now_us)
{
	struct resolver *r = core->resolver;
	struct resolution *entry = &r->entries[place];
	switch ((enum resolution_state)entry->state) {
	case REACHABLE: enter(r, entry, STALE, now_us); break;
	case STALE: drop_entry(core, place, now_us); break;
	case DELAY:
		enter(r, entry, PROBE, now_us);
		ask(core, place);
		break;
	case INCOMPLETE:
	case PROBE:
		if (entry->tries >= ASK_TRIES) {
			count(core, COUNT_neighbour_failed);
			drop_entry(core, place, now_us);
			break;
		}
		entry->due_us = now_us + RETRANS_US;
		ask(core, place);
		break;
	}
}

void resolver_tick(struct dp_core *core, uint64_t now_us)
{
	struct resolver *r = core->resolver;
	unsigned left = r->table.count;
	for (uint16_t i = 0; i < NEIGHBOURS_MAX && left > 0; i++) {
		if (!r->table.is_used[i])
			continue;
		left--;
		if (r->entries[i].due_us <= now_us)
			step(core, i, now_us);
	}
}
