// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_options.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	size_t offset;
	uint32_t quiet;
	const char *help;
} table[] = {
#define SIM_OPTION(name, quiet, help) {#name, offsetof(struct sim_options, name), quiet, help},
	SIM_OPTIONS(SIM_OPTION)
#undef SIM_OPTION
};
const unsigned sim_option_count = sizeof table / sizeof *table;

uint32_t *sim_option_at(struct sim_options *o, unsigned i)
{
	return (uint32_t *)(void *)((char *)o + table[i].offset);
}

uint32_t sim_option_quiet(unsigned i)
{
	return table[i].quiet;
}

/* ---- drawing: each burden is absent from about half of the histories ---- */

static uint32_t maybe(uint64_t *r, uint32_t per_thousand, uint32_t most)
{
	return sim_chance(r, per_thousand) ? 1 + sim_draw(r, most) : 0;
}

/* Small ones and large ones alike. */
static uint32_t any_size(uint64_t *r, unsigned bits)
{
	return sim_draw(r, 2u << sim_draw(r, bits));
}

static uint32_t one_of(uint64_t *r, const uint32_t *values, unsigned count)
{
	return values[sim_draw(r, count)];
}
#define ONE_OF(r, ...)                                                            \
	one_of(r, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

static void draw_ends(struct sim_options *o, uint64_t *r)
{
	o->ipv6 = sim_draw(r, 2);
	o->talks = sim_chance(r, 250) ? 1 + sim_draw(r, 4) : 1;
	o->simultaneous = sim_chance(r, 60);
	o->write0 = (sim_chance(r, 500) ? sim_draw(r, 200000) : any_size(r, 17)) / o->talks;
	o->write1 = (sim_chance(r, 500) ? sim_draw(r, 200000) : any_size(r, 17)) / o->talks;
	o->receive0 = ONE_OF(r, 1000, 4000, 20000, 65535, 120000);
	o->receive1 = ONE_OF(r, 1000, 4000, 20000, 65535, 120000);
	o->send0 = ONE_OF(r, 2000, 10000, 65535, 100000);
	o->send1 = ONE_OF(r, 2000, 10000, 65535, 100000);
	o->buffers0 = sim_chance(r, 150) ? 40 + sim_draw(r, 200) : 1500;
	/* Of one side only: were both full of what they want to send, neither could take what would free the other. */
	o->buffers1 = o->buffers0 == 1500 && sim_chance(r, 150) ? 40 + sim_draw(r, 200) : 1500;
	if (o->buffers0 + o->buffers1 != 3000)
		o->clamp = 0; /* with tiny segments the other side's are soon as scarce */
	o->mtu0 = ONE_OF(r, 1500, 1500, 1500, 1400, 1280, 900, 576);
	o->mtu1 = ONE_OF(r, 1500, 1500, 1500, 1400, 1280, 900, 576);
	o->wrap0 = sim_draw(r, 3);
	o->wrap1 = sim_draw(r, 3);
	o->hold_us = maybe(r, 700, 400000);
	o->poll_us = maybe(r, 250, 20000);
}

static void draw_path(struct sim_options *o, uint64_t *r)
{
	o->clamp = sim_chance(r, 120) ? ONE_OF(r, 40, 64, 100, 216, 536, 1000) : 0;
	o->strip = sim_chance(r, 400) ? sim_draw(r, 8) : 0;
	o->path_mtu = sim_chance(r, 150) ? ONE_OF(r, 1492, 1400, 1300, 1280, 1000, 576) : 0;
	o->path_mtu_ms = o->path_mtu != 0 ? any_size(r, 12) : 0;
	o->delay_us = 10 + any_size(r, 17);
	o->jitter_us = maybe(r, 300, o->delay_us);
	o->reorder = maybe(r, 500, 300);
	o->rate = sim_chance(r, 300) ? 20 + any_size(r, 12) : 0;
	o->queue = o->rate != 0 ? 4000 + any_size(r, 16) : 0;
	o->loss = maybe(r, 600, 100);
	o->burst = maybe(r, 250, 10);
	o->burst_ms = o->burst != 0 ? 1 + any_size(r, 8) : 0;
	o->duplication = maybe(r, 400, 100);
	o->corruption = maybe(r, 400, 50);
	o->blackout_ms = sim_chance(r, 60) ? any_size(r, 14) : 0;
	o->chaining = maybe(r, 400, 1000);
	o->icmp = maybe(r, 200, 100);
	o->forge = maybe(r, 200, 100);
}

/* Who answers by cookie knows nothing of the client: what follows an ACK that was lost is refused. So only where nothing
 * is lost or overtaken (RFC 4987 3.6; in life cookies are the last resort of a full SYN cache). */
static void draw_cookies(struct sim_options *o, uint64_t *r)
{
	const bool is_safe = o->loss + o->burst + o->corruption + o->blackout_ms + o->reorder + o->rate + o->path_mtu == 0;
	o->half_open = is_safe && sim_chance(r, 400) ? sim_draw(r, 2) : 6;
}

static void draw_use(struct sim_options *o, uint64_t *r)
{
	o->slow_reader = maybe(r, 300, 300);
	o->slow_writer = maybe(r, 150, 100);
	o->pause_ms = o->slow_reader + o->slow_writer != 0 ? 1 + any_size(r, 12) : 0;
	o->starve = maybe(r, 150, 40);
	o->wait_fin = sim_chance(r, 300) ? 1 + sim_draw(r, 2) : 0;
	o->abort_after = sim_chance(r, 60) ? 1 + any_size(r, 16) : 0;
	o->abort_side = o->abort_after != 0 ? sim_draw(r, 2) : 0;
}

/* A black hole takes several timeouts to be found, each twice the last: nothing else may lengthen them further, and who sends
 * little waits until the other is done: in FIN-WAIT-2 it would not wait for a minute of silence. */
static void draw_silence(struct sim_options *o, uint64_t *r)
{
	o->silent = o->path_mtu != 0 && sim_chance(r, 400);
	if (!o->silent)
		return;
	o->loss = o->burst = o->corruption = o->blackout_ms = o->starve = o->abort_after = 0;
	o->wait_fin = 1 + sim_draw(r, 2);
	*(o->wait_fin == 1 ? &o->write0 : &o->write1) = sim_draw(r, 500);
}

static void draw_more(struct sim_options *o, uint64_t *r)
{
	o->ecn = sim_chance(r, 500) ? 1 + sim_draw(r, 3) : 0;
	o->mark = o->ecn != 0 ? maybe(r, 700, 200) : 0;
	o->bleach = o->ecn != 0 && sim_chance(r, 100);
	o->reno = sim_chance(r, 400) ? 1 + sim_draw(r, 3) : 0;
	o->keepalive_ms = sim_chance(r, 300) ? 200 + any_size(r, 12) : 0;
	draw_silence(o, r);
	if (o->keepalive_ms != 0 && o->abort_after == 0 && !o->silent && sim_chance(r, 200))
		o->vanish_ms = 1 + any_size(r, 12);
}

void sim_options_draw(struct sim_options *o, uint64_t seed)
{
	uint64_t r = sim_random_init(seed, 1);
	*o = (struct sim_options){.seed = seed};
	draw_path(o, &r);
	draw_ends(o, &r);
	draw_cookies(o, &r);
	draw_use(o, &r);
	r = sim_random_init(seed, 3);
	draw_more(o, &r);
	if (o->ipv6 && o->path_mtu != 0 && o->path_mtu < 1280)
		o->path_mtu = 1280; /* RFC 8200 5: less is not a path */
}

/* ---- as text ---- */

bool sim_options_set(struct sim_options *o, const char *text)
{
	const char *equals = strchr(text, '=');
	char *end;
	if (equals == NULL)
		return false;
	const unsigned long value = strtoul(equals + 1, &end, 10);
	for (unsigned i = 0; i < sim_option_count; i++)
		if (strlen(table[i].name) == (size_t)(equals - text) &&
			strncmp(table[i].name, text, (size_t)(equals - text)) == 0) {
			*sim_option_at(o, i) = (uint32_t)value;
			return end != equals + 1 && *end == '\0' && value <= UINT32_MAX;
		}
	return false;
}

void sim_options_print(const struct sim_options *o, FILE *to)
{
	struct sim_options drawn, given = *o;
	sim_options_draw(&drawn, o->seed);
	fprintf(to, "--seed %llu", (unsigned long long)o->seed);
	for (unsigned i = 0; i < sim_option_count; i++)
		if (*sim_option_at(&given, i) != *sim_option_at(&drawn, i))
			fprintf(to, " %s=%u", table[i].name, *sim_option_at(&given, i));
}

void sim_options_help(FILE *to)
{
	for (unsigned i = 0; i < sim_option_count; i++)
		fprintf(to, "  %-13s %s (%u)\n", table[i].name, table[i].help, table[i].quiet);
}
