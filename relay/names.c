// SPDX-License-Identifier: Apache-2.0
#include "relay/names.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "control/link.h"
#include "relay/worker.h"

/* Far above timeouts.client_name, after which control answers in any case: for a control that hangs. */
#define OPEN_US (150 * USEC_PER_SEC)

bool name_lane_init(struct name_lane *lane)
{
	lane->queries = calloc(NAMES_MAX, sizeof *lane->queries);
	if (lane->queries == NULL || !ring_init(&lane->asked, NAMES_MAX + 1) ||
		!ring_init(&lane->answered, NAMES_MAX + 1))
		return false;
	while (lane->free_count < NAMES_MAX) {
		lane->free[lane->free_count] = &lane->queries[lane->free_count];
		lane->free_count++;
	}
	return true;
}

void name_lane_fini(struct name_lane *lane)
{
	ring_fini(&lane->asked);
	ring_fini(&lane->answered);
	free(lane->queries);
}

/* ---- the worker's end ---- */

bool names_ask(struct worker *w, const struct conn *c, const struct addr *client)
{
	struct name_lane *lane = &w->names;
	if (lane->free_count == 0)
		return false;
	struct name_query *q = lane->free[--lane->free_count];
	*q = (struct name_query){.slot = conn_slot(w, c), .generation = c->generation, .addr = *client};
	ring_push_spsc(&lane->asked, q); /* as many places as queries: never full */
	return true;
}

bool names_take(struct worker *w)
{
	struct name_lane *lane = &w->names;
	bool any = false;
	for (struct name_query *q; (q = ring_pop_spsc(&lane->answered)) != NULL; any = true) {
		inbound_named(w, q->slot, q->generation, q->name);
		lane->free[lane->free_count++] = q;
	}
	return any;
}

/* ---- the main thread's end ---- */

static void give_back(struct name_lane *lane, size_t place)
{
	lane->open[place].token = 0;
	ring_push_spsc(&lane->answered, &lane->queries[place]);
}

/* The place of a query is part of its token; the rest tells one use of the place from the next. */
static void send_question(struct name_lane *lane, unsigned core, size_t place, int fd, uint64_t now_us)
{
	static uint64_t uses;
	char json[160], address[ADDR_TEXT_MAX];
	uint64_t token = (++uses * DP_CORES_MAX + core) * NAMES_MAX + place;
	lane->open[place] = (struct name_open){.token = token, .until_us = now_us + OPEN_US};
	int n = snprintf(json, sizeof json, "{\"type\":\"resolve\",\"token\":%llu,\"address\":\"%s\"}",
		(unsigned long long)token, addr_format(&lane->queries[place].addr, address));
	if (fd < 0 || link_send(fd, bytes_of(json, (size_t)n), NULL, 0) < 0)
		give_back(lane, place); /* away or slow: no name */
}

static void expire(struct name_lane *lane, uint64_t now_us)
{
	for (size_t place = 0; place < NAMES_MAX; place++)
		if (lane->open[place].token != 0 && now_us >= lane->open[place].until_us)
			give_back(lane, place);
}

void names_turn(struct relay *relay, int fd, uint64_t now_us)
{
	static uint64_t expire_us;
	for (unsigned core = 0; core < relay->cores; core++) {
		struct name_lane *lane = &relay->workers[core]->names;
		for (struct name_query *q; (q = ring_pop_spsc(&lane->asked)) != NULL;)
			send_question(lane, core, (size_t)(q - lane->queries), fd, now_us);
		if (now_us >= expire_us)
			expire(lane, now_us);
	}
	if (now_us >= expire_us)
		expire_us = now_us + USEC_PER_SEC;
}

void names_answer(struct relay *relay, yyjson_val *root)
{
	uint64_t token = yyjson_get_uint(yyjson_obj_get(root, "token"));
	uint64_t core = token / NAMES_MAX % DP_CORES_MAX;
	const char *name = yyjson_get_str(yyjson_obj_get(root, "name"));
	if (token == 0 || core >= relay->cores)
		return;
	struct name_lane *lane = &relay->workers[core]->names;
	size_t place = token % NAMES_MAX;
	if (lane->open[place].token != token)
		return; /* ended already */
	if (name != NULL && strlen(name) < NAME_BYTES)
		strcpy(lane->queries[place].name, name);
	give_back(lane, place);
}

void names_unlinked(struct relay *relay)
{
	for (unsigned core = 0; core < relay->cores; core++)
		expire(&relay->workers[core]->names, UINT64_MAX);
}
