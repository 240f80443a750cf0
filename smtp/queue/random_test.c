// SPDX-License-Identifier: Apache-2.0
/* Random histories, each from a seed: mails, failures of every kind, operators, policies, crashes between any two
 * effects. Whatever happens, nobody is forgotten, and in the end everything comes home. */
#include "smtp/queue/queue_private.h"
#include "smtp/queue/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DOMAINS = 6, STEPS = 60 };

static void name_domain(struct world *w, char *name, size_t size)
{
	snprintf(name, size, "d%u.example.test", world_random(w, DOMAINS));
}

static void send_mail(struct world *w)
{
	static const char *const senders[] = {"s@d0.example.test", "t@d1.example.test", ""};
	char texts[150][64];
	const char *recipients[150];
	unsigned count = 1 + world_random(w, world_random(w, 10) == 0 ? 150 : 5);

	for (unsigned n = 0; n < count; n++) {
		char domain[32];
		name_domain(w, domain, sizeof domain);
		snprintf(texts[n], sizeof texts[n], "%c%u@%s", world_random(w, 2) ? 'x' : 'a',
			world_random(w, 200), domain);
		recipients[n] = texts[n];
	}
	if (queue_has_room(w->q))
		world_mail(w, senders[world_random(w, 3)], recipients, count);
}

static void change_domain(struct world *w)
{
	static const uint16_t codes[] = {0, 0, 250, 451, 452, 550, 999, 421};
	char name[32];

	name_domain(w, name, sizeof name);
	struct world_domain *d = world_domain(w, name);
	d->code = codes[world_random(w, 8)];
	d->code_of_x = codes[world_random(w, 8)];
	d->is_down = world_random(w, 5) == 0;
	d->has_bad_tls = world_random(w, 5) == 0;
	d->keeps = world_random(w, 2) == 0;
	d->route = world_random(w, 3) == 0 ? (int)world_random(w, 4) : WORLD_ROUTE_OK;
	snprintf(d->site, sizeof d->site, "site%u", world_random(w, 4));
}

static void operate(struct world *w)
{
	char name[32] = "";

	if (world_random(w, 2) == 0)
		name_domain(w, name, sizeof name);
	struct queue_selection s = {.state = world_random(w, 3) == 0 ? (int)world_random(w, 6) : -1,
		.domain = bytes_of_string(name)};
	switch (world_random(w, 8)) {
	case 0: queue_remove(w->q, &s, w->now_us); break;
	case 1:
	case 2: queue_hold(w->q, &s); break;
	case 3:
	case 4: queue_release(w->q, &s, w->now_us); break;
	default: queue_retry(w->q, &s, w->now_us); break;
	}
}

static void change_policy(struct world *w)
{
	w->generation++;
	queue_policy_changed(w->q, w->now_us);
}

static void step(struct world *w)
{
	switch (world_random(w, 12)) {
	case 0:
	case 1:
	case 2:
	case 3: send_mail(w); break;
	case 4:
	case 5: change_domain(w); break;
	case 6: operate(w); break;
	case 7: change_policy(w); break;
	case 8: world_run(w, world_random(w, 86400)); break;
	default: world_run(w, world_random(w, 300)); break;
	}
	if (!w->is_crashed)
		world_run(w, 0);
	if (w->is_crashed)
		world_crash(w);
}

/* All is well again, and time passes. */
static void heal(struct world *w)
{
	w->crash = w->load_fails = w->submit_fails = 0;
	for (unsigned n = 0; n < w->domain_count; n++) {
		struct world_domain *d = &w->domains[n];
		d->code = d->code_of_x = 0;
		d->is_down = d->has_bad_tls = false;
		d->route = WORLD_ROUTE_OK;
	}
	change_policy(w);
	queue_release(w->q, &(struct queue_selection){.state = -1}, w->now_us);
	for (unsigned n = 0; n < 3; n++)
		world_run(w, 86400);
}

static void check_outcomes(const struct world *w, const struct world_mail *m)
{
	assert_true(m->is_done);
	if (!m->is_admitted)
		return;
	for (uint32_t n = 0; n < m->recipient_count; n++) {
		const struct world_recipient *r = &m->recipients[n];
		unsigned final = r->delivered + r->bounced + r->removed;
		assert_true(r->is_double ? final == 0 : final >= 1);
		assert_true(w->crashes != 0 || final <= 1);
	}
}

static void check_end(struct world *w)
{
	struct queue_stats stats;

	for (unsigned n = 0; n < w->mail_count; n++)
		check_outcomes(w, &w->mails[n]);
	queue_get_stats(w->q, &stats);
	assert_int_equal(stats.mails, 0);
	assert_int_equal(stats.items, 0);
	assert_int_equal(w->q->loads, 0);
	assert_int_equal(w->q->jobs, 0);
	assert_int_equal(w->q->due.count, 0);
	assert_int_equal(w->q->sites.count, 0);
	assert_int_equal(w->q->submissions.count, 0);
	assert_int_equal(w->q->asks_by_token.count, 0);
	mail_pool_collect(w->pool);
	mail_pool_collect(w->dsn_pool);
	assert_int_equal(mail_pool_free_chunks(w->pool), mail_pool_chunks(w->pool));
	assert_int_equal(mail_pool_free_chunks(w->dsn_pool), mail_pool_chunks(w->dsn_pool));
}

struct totals {
	unsigned mails, starts, loads, submits, crashes;
};

static void play(uint64_t seed, unsigned crash, struct totals *totals)
{
	struct world *w = calloc(1, sizeof *w);

	world_init(w, seed);
	w->crash = crash;
	w->load_fails = world_random(w, 2) * 100;
	w->submit_fails = world_random(w, 2) * 200;
	w->job_seconds_max = 1 + world_random(w, 20);
	w->dsns_at_once = world_random(w, 2) ? 3 : 64;
	w->checks_always = true;
	w->config.jobs_max = world_random(w, 2) ? 3 : 0;
	w->config.resident_bytes_max = world_random(w, 2) ? 2 * MAIL_CHUNK_BYTES : 0;
	w->config.delay_warning_seconds = world_random(w, 2) ? 1000 : 0;
	w->config.cores = 1 + world_random(w, 3);
	world_open(w);
	for (unsigned n = 0; n < STEPS; n++)
		step(w);
	heal(w);
	check_end(w);
	totals->mails += w->mail_count;
	totals->starts += w->starts;
	totals->loads += w->all_loads;
	totals->submits += w->submits;
	totals->crashes += w->crashes;
	world_close(w);
	free(w);
}

static void play_all(unsigned crash, struct totals *totals)
{
	const char *one = getenv("SEED"), *some = getenv("SEEDS");
	uint64_t first = one != NULL ? strtoull(one, NULL, 10) : 1;
	uint64_t count = one != NULL ? 1 : some != NULL ? strtoull(some, NULL, 10) : 60;

	for (uint64_t seed = first; seed < first + count; seed++) {
		if (getenv("SHOW") != NULL)
			printf("seed %llu\n", (unsigned long long)seed);
		play(seed, crash, totals);
	}
	print_message("%u mails, %u attempts, %u loads, %u DSNs, %u crashes\n", totals->mails,
		totals->starts, totals->loads, totals->submits, totals->crashes);
}

static void every_recipient_has_exactly_one_outcome_and_all_memory_comes_home(void **state)
{
	struct totals totals = {0};

	play_all(0, &totals);
	assert_true(totals.loads != 0 && totals.submits != 0);
}

static void crashes_between_any_effects_lose_nobody(void **state)
{
	struct totals totals = {0};

	play_all(10, &totals);
	assert_true(totals.crashes != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_recipient_has_exactly_one_outcome_and_all_memory_comes_home),
		cmocka_unit_test(crashes_between_any_effects_lose_nobody),
	};

	return cmocka_run_group_tests_name("queue_random", tests, NULL, NULL);
}
