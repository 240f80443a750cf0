// SPDX-License-Identifier: Apache-2.0
#include "bench/generator_private.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

#define OPENING_MAX	256 /* sessions on their way to READY: a server takes no more at a time than this asks of it */
#define OPENED_PER_TURN 64
#define DRAIN_US	(5 * USEC_PER_SEC)
#define SCAN_US		(100 * USEC_PER_MSEC)

struct load load;

static volatile sig_atomic_t stop_asked;

void generator_stop(void)
{
	stop_asked = 1;
}

bool load_has_more(void)
{
	uint64_t under_way = load.options->command == BENCH_MESSAGES
		? load.in[BUSY]
		: load.in[CONNECTING] + load.in[OPENING] + load.in[WAITING] + load.in[QUITTING];
	return load.stage == WARMING ||
		(load.stage == MEASURING &&
			(load.options->count == 0 || load.done + under_way < load.options->count));
}

/* ---- an offered rate ---- */

/* From the first one's time on, so that nothing adds up. */
static void schedule_next(void)
{
	load.scheduled++;
	load.due_us = load.due_first_us + (uint64_t)((double)load.scheduled * 1e6 / load.options->rate);
}

static struct conn *find_free(void)
{
	for (unsigned i = 0; i < load.options->connections; i++) {
		struct conn *c = &load.conns[load.next_free];
		load.next_free = (load.next_free + 1) % load.options->connections;
		if (c->place == FREE && c->deadline_us <= load.now_us)
			return c;
	}
	return NULL;
}

static void note_lateness(const struct conn *c)
{
	uint64_t late = load.now_us - c->opened_us;
	if (!c->is_counted)
		return;
	histogram_add(&load.results->late, late);
	load.results->begun_late += late > LATE_US;
}

/* Those that are due; what finds no connection stays due. */
static bool open_due(void)
{
	unsigned opened = 0;
	if (!load.has_been_up)
		load.due_first_us = load.due_us = load.now_us;
	while (load.stage < DRAINING && load.due_us <= load.now_us && opened < OPENED_PER_TURN &&
		load_has_more()) {
		struct conn *c =
			load.has_been_up || load.in[FREE] == load.options->connections ? find_free() : NULL;
		if (c == NULL)
			break;
		conn_open(c, load.due_us);
		if (c->link != NULL)
			note_lateness(c);
		opened++;
		if (!load.has_been_up)
			break;
		schedule_next();
	}
	bool is_waiting = load.stage < DRAINING && load.has_been_up; /* else an event tells us */
	load.transport->wait_us = !is_waiting  ? 0
		: load.due_us > load.now_us	    ? load.due_us - load.now_us
		: opened == OPENED_PER_TURN ? 1
					    : 0;
	return opened != 0;
}

/* ---- bursts ---- */

void load_left_burst(struct conn *c)
{
	if (!c->is_in_burst)
		return;
	c->is_in_burst = false;
	if (--load.in_burst == 0 && load_is_measuring() && load.burst_us >= load.stage_us) {
		load.results->bursts++;
		histogram_add(&load.results->burst, time_monotonic_us() - load.burst_us);
	}
}

/* All of a burst wait (or all that there will be): their ClientHellos go together. */
static bool begin_burst(void)
{
	if (load.in[WAITING] == 0 || load.in_burst != 0 || load.in[CONNECTING] + load.in[OPENING] != 0 ||
		(load.in[WAITING] < load.options->connections && load_has_more()))
		return false;
	load.burst_us = time_monotonic_us();
	for (unsigned i = 0; i < load.options->connections; i++) {
		struct conn *c = &load.conns[i];
		if (c->place != WAITING)
			continue;
		conn_enter(c, OPENING);
		c->is_in_burst = true;
		load.in_burst++;
		conn_start_handshake(c);
	}
	for (unsigned i = 0; i < load.options->connections; i++)
		if (load.conns[i].is_in_burst)
			conn_run(&load.conns[i]);
	return true;
}

/* ---- the stages ---- */

static uint64_t busy_us(void)
{
	uint64_t cpu = time_read_us(CLOCK_THREAD_CPUTIME_ID) - load.began_cpu_us;
	uint64_t busy = load.transport->ops->busy_us(load.transport);
	/* A polling thread has processor time also when it finds nothing to do, and while it is
	 * pushed off its processor a turn looks long: what it worked is the smaller of the two. */
	if (busy != UINT64_MAX && busy - load.began_busy_us < cpu)
		cpu = busy - load.began_busy_us;
	return cpu;
}

/* Linux: how long this thread was ready to run without a processor; 0 where that is not told. */
static uint64_t pushed_us(void)
{
	unsigned long long ran, waited = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "r");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%llu %llu", &ran, &waited) != 2)
		waited = 0;
	fclose(f);
	return waited / NSEC_PER_USEC;
}

static void start_measuring(void)
{
	struct tls_verdict verdict = load.results->verdict;
	memset(load.results, 0, sizeof *load.results);
	load.results->verdict = verdict;
	load.has_verdict = false;
	load.began_cpu_us = time_read_us(CLOCK_THREAD_CPUTIME_ID);
	load.began_pushed_us = pushed_us();
	load.began_busy_us = load.transport->ops->busy_us(load.transport);
	load.stage_us = load.now_us;
	load.stage_end_us = load.now_us + (uint64_t)(load.options->duration_s * 1e6);
	load.stage = MEASURING;
}

/* Sessions that were due by now and that no connection was free for. */
static uint64_t count_missed(void)
{
	uint64_t missed = 0;
	for (; load.due_us < load.now_us && load.due_us < load.stage_end_us; schedule_next())
		missed += load.due_us >= load.stage_us;
	return missed;
}

static void start_draining(void)
{
	struct results *r = load.results;
	if (load.stage == WARMING)
		start_measuring(); /* interrupted: nothing was measured */
	r->wall_us = load.now_us - load.stage_us;
	r->busy_us = busy_us();
	r->pushed_us = pushed_us() - load.began_pushed_us;
	r->open = load.in[READY] + load.in[BUSY];
	r->is_interrupted = stop_asked;
	if (load.options->rate != 0)
		r->missed = count_missed();
	load.stage = DRAINING;
	load.stage_end_us = load.now_us + DRAIN_US;
}

static bool is_warm(void)
{
	if (load.now_us < load.stage_end_us)
		return false;
	return load.options->command != BENCH_IDLE || load.in[READY] == load.options->connections ||
		load.now_us > load.stage_end_us + (uint64_t)(load.options->timeout_s * 1e6);
}

/* For people, and for scripts that look at the server meanwhile. */
static void tell_stage(void)
{
	if (load.options->is_quiet)
		return;
	if (load.stage == DRAINING)
		fprintf(stderr, "hikyaku-bench: measured\n");
	else if (load.options->command == BENCH_IDLE)
		fprintf(stderr, "hikyaku-bench: %u sessions are held\n", load.in[READY]);
	else
		fprintf(stderr, "hikyaku-bench: measuring\n");
}

static void next_stage(void)
{
	bool is_counted_out = load.options->count != 0 && load.done >= load.options->count;
	if (load.stage == WARMING && is_warm()) {
		start_measuring();
		tell_stage();
	}
	if ((load.stage == MEASURING && (load.now_us >= load.stage_end_us || is_counted_out)) ||
		(load.stage < DRAINING && stop_asked)) {
		start_draining();
		tell_stage();
	}
	if (load.stage == DRAINING &&
		(load.in[FREE] == load.options->connections || load.now_us >= load.stage_end_us))
		load.stage = OVER;
}

/* ---- a turn ---- */

/* Until a first session is up (ARP, the memif's own greeting), only one tries. */
static bool open_sessions(void)
{
	unsigned opening = load.in[CONNECTING] + load.in[OPENING], opened = 0;
	unsigned most = load.has_been_up ? OPENING_MAX : 1;
	bool is_wanted = load_has_more() || (load.options->command == BENCH_IDLE && load.stage < DRAINING);
	if (load.in[FREE] == 0 || opening >= most || !is_wanted || load.stage >= DRAINING)
		return false;
	while (opened < OPENED_PER_TURN && opening + opened < most) {
		struct conn *c = find_free();
		if (c == NULL)
			break;
		conn_open(c, load.now_us);
		opened++;
		if (!load_has_more() && load.options->command != BENCH_IDLE)
			break;
	}
	return opened != 0;
}

/* Rare things, for which all sessions are looked at: who waits too long, and who is to be sent on. */
static void scan(void)
{
	for (unsigned i = 0; i < load.options->connections; i++) {
		struct conn *c = &load.conns[i];
		if (c->place == CLOSING && c->deadline_us <= load.now_us)
			conn_let_go(c);
		else if (c->place == WAITING && load.stage == DRAINING)
			conn_let_go(c);
		else if (c->place != FREE && c->deadline_us <= load.now_us)
			conn_fail(c, FAILURE_TIMEOUT, "waited too long");
		else if (c->place == READY &&
			(load.stage == DRAINING ||
				(load_has_more() && load.options->command == BENCH_MESSAGES))) {
			conn_go_on(c);
			conn_run(c);
		}
	}
}

static void tell_progress(void)
{
	if (load.now_us < load.told_us || load.options->is_quiet || load.stage >= DRAINING ||
		!isatty(STDERR_FILENO))
		return;
	uint64_t done =
		load.options->command == BENCH_MESSAGES ? load.results->mails : load.results->sessions;
	uint64_t more = done >= load.told_done ? done - load.told_done : done;
	if (load.told_us != 0)
		fprintf(stderr, "%s %3.0f s: %llu/s, %llu failed, %u connections\n",
			load.stage == WARMING ? "warming up" : "measuring ",
			(double)(load.now_us - load.stage_us) / 1e6, (unsigned long long)more,
			(unsigned long long)results_failed(load.results),
			load.options->connections - load.in[FREE]);
	load.told_done = done;
	load.told_us = load.now_us + USEC_PER_SEC;
}

static bool turn(uint64_t now_us, bool *is_busy)
{
	load.now_us = now_us;
	next_stage();
	if (load.stage == OVER)
		return false;
	*is_busy |= load.options->rate != 0 ? open_due() : open_sessions();
	if (load.options->burst != 0)
		*is_busy |= begin_burst();
	if (now_us >= load.scan_us) {
		load.scan_us = now_us + SCAN_US;
		scan();
		tell_progress();
	}
	return true;
}

/* ---- the making of it ---- */

static int make(const struct options *o, char error[256])
{
	const struct client_script_config script = {.helo = o->helo,
		.from = o->from,
		.to = o->to,
		.recipients = o->recipients,
		.size = o->size,
		.wants_starttls = o->security == BENCH_STARTTLS};
	load.script = client_script_create(&script);
	load.conns = calloc(o->connections, sizeof *load.conns);
	snprintf(error, 256, "no memory");
	if (load.script == NULL || load.conns == NULL)
		return -1;
	if (o->security != BENCH_CLEAR)
		load.channels = channels_create(o, error);
	return o->security == BENCH_CLEAR || load.channels != NULL ? 0 : -1;
}

int generator_run(
	struct transport *transport, const struct options *o, struct results *r, char error[256])
{
	static const struct transport_user user = {.on_link = conn_on_link, .turn = turn};
	load.options = o;
	load.transport = transport;
	load.results = r;
	if (make(o, error) != 0)
		return -1;
	load.in[FREE] = o->connections;
	load.now_us = load.stage_us = time_monotonic_us();
	load.stage_end_us = load.now_us + (uint64_t)(o->warmup_s * 1e6);
	transport->ops->run(transport, &user);
	for (unsigned i = 0; i < o->connections; i++) {
		if (load.conns[i].is_counted && load.conns[i].place != FREE &&
			load.conns[i].place != CLOSING)
			results_fail(r, FAILURE_TIMEOUT, "not done when the run was over");
		if (load.conns[i].place != FREE)
			conn_let_go(&load.conns[i]);
		channel_fini(&load.conns[i].channel);
	}
	if (load.channels != NULL)
		channels_destroy(load.channels);
	client_script_destroy(load.script);
	free(load.conns);
	return 0;
}
