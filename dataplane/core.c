// SPDX-License-Identifier: Apache-2.0
/* The loop of a worker core. A turn takes what has come, runs what is due, lets the user act, and
 * sends what came of it. Turns that found nothing to do lead down the idle ladder: some at full
 * speed, some with a pause, then sleeps that double up to the longest; a turn with work leads back
 * to the top. */
#include "dataplane/neighbour.h"
#include "dataplane/offload.h"
#include "dataplane/packet.h"
#include "dataplane/path_mtu.h"
#include "dataplane/reassembly.h"

#include "base/clock.h"

#include <pthread.h>
#include <rte_lcore.h>
#include <rte_pause.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#define HOUSEKEEPING_US	 (100 * 1000ull)
#define TAKE_ROUNDS	 16 /* of BURST segments sent in a turn, so that receiving is not forgotten */
#define IDLE_SPINS	 32 /* empty turns at full speed */
#define IDLE_PAUSES	 64 /* and with a pause */
#define IDLE_TURNS	 2000 /* about a second of sleeps in vain: idle for good, sleeps are … */
#define IDLE_STRETCH	 4 /* … so much longer, so that an idle core costs about a hundredth of itself */
#define IDLE_FIRST_SLEEP 20 /* µs; shorter than that costs more than it saves */

static void housekeeping(struct dp_core *core, uint64_t now_us)
{
	if (core->housekeeping_due_us > now_us)
		return;
	core->housekeeping_due_us = now_us + HOUSEKEEPING_US;
	neighbour_tick(core, now_us);
	reassembly_tick(core, now_us);
	path_mtu_tick(core->path_mtus, now_us);
	if (core->index != 0)
		return;
	mld_tick(core, now_us); /* before: what is asked about an address is answered to its group */
	announce_tick(core, now_us);
	resolver_tick(core, now_us);
}

/* Sends what TCP has made; true: there was something. */
static bool send_segments(struct dp_core *core, uint64_t now_us)
{
	struct tcp_departure d[BURST];
	unsigned n = BURST, all = 0;
	tcp_output(core->tcp, now_us);
	for (unsigned round = 0; round < TAKE_ROUNDS && n == BURST; round++) {
		n = tcp_take(core->tcp, d, BURST);
		unsigned packets = core->dp->has_tso ? offload_join(core, d, n) : n;
		for (unsigned i = 0; i < packets; i++)
			ip_output_ecn(core, d[i].m, &d[i].local, &d[i].remote, IP_PROTOCOL_TCP, d[i].ecn, now_us);
		all += n;
	}
	return all > 0;
}

bool core_turn(struct dp_core *core, const struct dp_core_user *user, uint64_t now_us)
{
	core->now_us = now_us;
	bool did = port_receive(core, now_us);
	did |= steer_take(core, now_us);
	housekeeping(core, now_us);
	if (tcp_next_due_us(core->tcp) <= now_us)
		tcp_tick(core->tcp, now_us);
	if (user != NULL && user->turn != NULL)
		did |= user->turn(user->user, core->tcp, now_us);
	did |= send_segments(core, now_us);
	port_flush(core);
	return did;
}

/* ---- the idle ladder ---- */

struct idler {
	struct dp_core *core;
	const struct dp_core_user *user;
	unsigned empty_turns;
	uint64_t sleep_us; /* the next sleep */
};

static void add_time(_Atomic uint64_t *sum, uint64_t us)
{
	uint64_t before = atomic_load_explicit(sum, memory_order_relaxed);
	atomic_store_explicit(sum, before + us, memory_order_relaxed);
}

/* When the next timer, ours or the user's, wants the core. */
static uint64_t next_due_us(const struct idler *idler)
{
	const struct dp_core_user *user = idler->user;
	uint64_t due = tcp_next_due_us(idler->core->tcp);
	uint64_t theirs = user->next_due_us == NULL ? UINT64_MAX : user->next_due_us(user->user);
	if (theirs < due)
		due = theirs;
	return idler->core->housekeeping_due_us < due ? idler->core->housekeeping_due_us : due;
}

static void nap(struct idler *idler, uint64_t us, uint64_t now_us)
{
	const struct dp_core_user *user = idler->user;
	struct timespec t = {.tv_nsec = (long)(us * NSEC_PER_USEC)};
	if (user->offline != NULL)
		user->offline(user->user);
	nanosleep(&t, NULL); /* net_tap's signal may end it early, and should */
	if (user->online != NULL)
		user->online(user->user);
	add_time(&idler->core->slept_us, time_monotonic_us() - now_us);
}

static void idle(struct idler *idler)
{
	uint64_t longest = idler->core->dp->config.sleep_us_max;
	idler->empty_turns++;
	if (idler->empty_turns <= IDLE_SPINS)
		return;
	if (idler->empty_turns <= IDLE_SPINS + IDLE_PAUSES || longest == 0) {
		rte_pause();
		return;
	}
	if (idler->empty_turns > IDLE_TURNS)
		longest *= IDLE_STRETCH;
	uint64_t now = time_monotonic_us(), due = next_due_us(idler), us = idler->sleep_us;
	idler->sleep_us = us * 2 < longest ? us * 2 : longest;
	if (due <= now)
		return;
	nap(idler, due - now < us ? due - now : us, now);
}

static void busy(struct idler *idler)
{
	uint64_t longest = idler->core->dp->config.sleep_us_max;
	idler->empty_turns = 0;
	idler->sleep_us = IDLE_FIRST_SLEEP < longest ? IDLE_FIRST_SLEEP : longest;
}

/* ---- the thread ---- */

/* A processor of its own, where after all workers two are left for the other threads. */
static void pin(const struct dp_core *core)
{
	cpu_set_t all, one;
	if (sched_getaffinity(0, sizeof all, &all) != 0 ||
		CPU_COUNT(&all) < (int)core->dp->core_count + 2)
		return;
	unsigned above = core->index; /* from the highest down: the low ones have the interrupts */
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
		if (!CPU_ISSET(cpu, &all) || above-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_setaffinity_np(pthread_self(), sizeof one, &one);
		return;
	}
}

/* The signals that eal.c keeps from all others: this thread is the one to be woken by a packet. */
static void take_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	for (int s = SIGRTMIN; s <= SIGRTMAX; s++)
		sigaddset(&set, s);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static bool enter_thread(const struct dp_core *core)
{
	take_signals();
	prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0); /* 1 µs instead of 50: sleeps are short */
	pin(core);
	return rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() == 0;
}

void dp_core_run(struct dp_core *core, const struct dp_core_user *user)
{
	static const struct dp_core_user nobody;
	struct idler idler = {.core = core, .user = user == NULL ? &nobody : user};
	bool is_registered = enter_thread(core);
	busy(&idler);
	uint64_t now = time_monotonic_us();
	while (!atomic_load_explicit(&core->is_stopping, memory_order_acquire)) {
		bool did = core_turn(core, idler.user, now);
		add_time(&core->turns, 1);
		if (did)
			busy(&idler);
		else
			idle(&idler);
		uint64_t then = now;
		now = time_monotonic_us();
		if (did)
			add_time(&core->busy_us, now - then);
	}
	if (is_registered)
		rte_thread_unregister();
}

void dp_core_stop(struct dp_core *core)
{
	atomic_store_explicit(&core->is_stopping, true, memory_order_release);
}

struct tcp_stack *dp_core_tcp(struct dp_core *core)
{
	return core->tcp;
}
