// SPDX-License-Identifier: Apache-2.0
/* The loop on threads of its own, over a port that gives back what it is sent (net_ring). */
#include "dataplane/lab.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define CORES 2

struct worker {
	struct dp_core *core;
	pthread_t thread;
	_Atomic unsigned turns, offline, online;
	bool is_offline, is_bad; /* the thread's own, until it has ended */
};

static struct dp *dp;
static struct worker workers[CORES];

static bool turn(void *user, struct tcp_stack *tcp, uint64_t now_us)
{
	struct worker *w = user;
	w->is_bad |= w->is_offline || tcp != dp_core_tcp(w->core);
	w->turns++;
	return false;
}

static void go_offline(void *user)
{
	struct worker *w = user;
	w->is_bad |= w->is_offline;
	w->is_offline = true;
	w->offline++;
}

static void go_online(void *user)
{
	struct worker *w = user;
	w->is_bad |= !w->is_offline;
	w->is_offline = false;
	w->online++;
}

static void *work(void *arg)
{
	const struct dp_core_user user = {
		.turn = turn, .offline = go_offline, .online = go_online, .user = arg};
	dp_core_run(((struct worker *)arg)->core, &user);
	return NULL;
}

static struct dp_config a_config(void)
{
	struct dp_config config = {.port_count = 1,
		.cores = CORES,
		.no_huge = true,
		.memory_mb = 64,
		.sleep_us_max = 200,
		.mbufs_per_core = 1024};
	snprintf(config.ports[0].name, sizeof config.ports[0].name, "lan0");
	snprintf(config.ports[0].device, sizeof config.ports[0].device, "net_ring0");
	config.ports[0].addr_count = 1;
	config.ports[0].addrs[0] = (struct dp_local_addr){lab_addr("192.0.2.1"), 120};
	return config;
}

static void what_makes_no_sense_is_refused_before_anything_starts(void **state)
{
	char error[256] = "";
	struct dp_config config = a_config();
	config.cores = 0;
	assert_true(dp_create(&dp, &config, error) < 0);
	assert_non_null(strstr(error, "cores"));
	config = a_config();
	config.ports[0].addrs[0].prefix_bits = 24; /* of 128: not an IPv4 one */
	assert_true(dp_create(&dp, &config, error) < 0);
	assert_non_null(strstr(error, "192.0.2.1"));
	config = a_config();
	config.mbufs_per_core = 10;
	assert_true(dp_create(&dp, &config, error) < 0);
	assert_null(dp);
}

/* Until each core has slept, and the ARP announcements have come back round the ring. */
static void cores_run_sleep_and_stop(void **state)
{
	char error[256] = "";
	struct dp_config config = a_config();
	assert_int_equal(dp_create(&dp, &config, error), 0);
	for (unsigned i = 0; i < CORES; i++) {
		workers[i].core = dp_get_core(dp, i);
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	while (workers[0].online < 5 || workers[1].online < 5 ||
		dp_counter(workers[0].core, COUNT_rx_packets) == 0)
		sched_yield();
	for (unsigned i = 0; i < CORES; i++)
		dp_core_stop(workers[i].core);
	for (unsigned i = 0; i < CORES; i++) {
		uint64_t busy, slept, turns;
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
		dp_core_times(workers[i].core, &busy, &slept, &turns);
		assert_false(workers[i].is_bad);
		assert_int_equal(workers[i].offline, workers[i].online);
		assert_int_equal(workers[i].turns, turns);
		assert_true(slept > 0);
	}
	assert_null(dp_get_core(dp, CORES));
	dp_destroy(dp);
}

static void every_counter_has_a_name_and_a_sentence(void **state)
{
	for (unsigned i = 0; i < dp_counter_count(); i++) {
		size_t n = strlen(dp_counter_help(i));
		assert_true(strlen(dp_counter_name(i)) > 4);
		assert_true(n > 10 && dp_counter_help(i)[n - 1] == '.');
	}
	assert_string_equal(dp_counter_name(dp_counter_count()), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_makes_no_sense_is_refused_before_anything_starts),
		cmocka_unit_test(cores_run_sleep_and_stop),
		cmocka_unit_test(every_counter_has_a_name_and_a_sentence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
