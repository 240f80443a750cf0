// SPDX-License-Identifier: Apache-2.0
/* The client's side of the comparisons: a closed loop of `connections` slots. Each opens, asks
 * `requests` times, is closed, and opens again, until `count` answers have come or the time is up. Before all that one short connection, so that
 * neighbours are known, and no address is new, when it begins. */
#include "bench/peer.h"

#include <stdio.h>

#include "base/clock.h"

#define RETRY_US (10 * USEC_PER_MSEC) /* after an open that failed */

static const struct peer_options *options;
static const struct peer_carrier *carrier;
static struct peer_client slots[PEER_CONNECTIONS_MAX];
static struct peer_client *to_open[PEER_CONNECTIONS_MAX];
static unsigned to_open_count;
static uint64_t asked, open_again_us, end_us;
static bool is_warm;

struct peer_results peer_results;

void peer_client_start(const struct peer_options *o, const struct peer_carrier *c)
{
	options = o;
	carrier = c;
	to_open[to_open_count++] = &slots[0];
}

/* The first connection has been closed: now all. */
static void begin(uint64_t now_us)
{
	is_warm = true;
	asked = 0;
	peer_results = (struct peer_results){.started_us = now_us};
	end_us = now_us + (uint64_t)(options->seconds * 1e6);
	for (unsigned i = options->connections; i-- > 1;)
		to_open[to_open_count++] = &slots[i];
}

static bool is_over(void)
{
	return is_warm && options->count != 0 && asked >= options->count;
}

static void release(struct peer_client *c)
{
	c->link = NULL;
	to_open[to_open_count++] = c;
}

static void fail(struct peer_client *c, const char *why)
{
	if (peer_results.failed++ == 0)
		snprintf(peer_results.first_failure, sizeof peer_results.first_failure, "%s", why);
	release(c);
}

/* ---- asking ---- */

static bool is_last_request(const struct peer_client *c)
{
	return !is_warm || (options->requests != 0 && c->answered + 1 >= options->requests);
}

static void begin_request(struct peer_client *c, uint64_t now_us)
{
	c->exchange = (struct exchange_client){0};
	c->asked_us = now_us;
	c->next_us = 0;
	asked++;
}

static void note_answer(struct peer_client *c, uint64_t now_us)
{
	struct peer_results *r = &peer_results;
	r->answered++;
	r->wrong += c->exchange.is_wrong;
	r->ended_us = now_us;
	histogram_add(&r->answer_us, now_us - c->asked_us);
	c->answered++;
	c->next_us = c->asked_us + options->interval_us;
}

/* As many exchanges as can be done now. */
static void ask(struct peer_client *c, uint64_t now_us)
{
	while (c->next_us == 0) {
		struct exchange_plan plan = is_warm ? options->plan : (struct exchange_plan){1, 1};
		plan.is_last = is_last_request(c);
		if (!exchange_ask(&c->exchange, &plan, &carrier->io, c->link) &&
			!c->exchange.is_wrong)
			return;
		note_answer(c, now_us);
		if (plan.is_last || is_over() || c->next_us > now_us)
			return;
		begin_request(c, now_us);
	}
}

void peer_client_happened(struct peer_client *c, uint64_t now_us)
{
	if (!c->is_up) {
		c->is_up = true;
		histogram_add(&peer_results.open_us, now_us - c->opened_us);
	}
	ask(c, now_us);
}

void peer_client_gone(struct peer_client *c, const char *why, uint64_t now_us)
{
	bool is_asking = c->next_us == 0;
	if (why != NULL || is_asking) {
		fail(c, why != NULL ? why : "closed before the answer");
		open_again_us = now_us + RETRY_US;
		return;
	}
	histogram_add(&peer_results.whole_us, now_us - c->opened_us);
	release(c);
	if (!is_warm)
		begin(now_us);
}

/* ---- a turn ---- */

static bool open_one(struct peer_client *c, uint64_t now_us)
{
	*c = (struct peer_client){.opened_us = now_us};
	begin_request(c, now_us);
	c->link = carrier->open(c, now_us);
	if (c->link != NULL) {
		peer_results.opened++;
		return true;
	}
	asked--;
	open_again_us = now_us + RETRY_US;
	return false;
}

static void open_some(uint64_t now_us)
{
	while (to_open_count > 0 && !is_over() && now_us >= open_again_us)
		if (open_one(to_open[to_open_count - 1], now_us))
			to_open_count--;
}

/* Those that wait for their time. */
static void ask_due(uint64_t now_us)
{
	for (unsigned i = 0; is_warm && options->interval_us != 0 && i < options->connections; i++) {
		struct peer_client *c = &slots[i];
		if (c->link == NULL || c->next_us == 0 || c->next_us > now_us || is_over() ||
			(options->requests != 0 && c->answered >= options->requests))
			continue;
		begin_request(c, now_us);
		ask(c, now_us);
	}
}

bool peer_client_turn(uint64_t now_us)
{
	if (end_us == 0)
		end_us = now_us + (uint64_t)(options->seconds * 1e6);
	if (now_us >= end_us ||
		(is_over() && peer_results.answered + peer_results.failed >= options->count))
		return false;
	open_some(now_us);
	ask_due(now_us);
	return true;
}

uint64_t peer_client_due_us(void)
{
	uint64_t due = end_us;
	if (to_open_count > 0 && !is_over() && open_again_us < due)
		due = open_again_us;
	for (unsigned i = 0; is_warm && options->interval_us != 0 && i < options->connections; i++)
		if (slots[i].link != NULL && slots[i].next_us != 0 && slots[i].next_us < due &&
			(options->requests == 0 || slots[i].answered < options->requests))
			due = slots[i].next_us;
	return due;
}
