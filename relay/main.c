// SPDX-License-Identifier: Apache-2.0
/* relay/main.c: hikyaku-relay: starts the threads, then is the main thread.
 *
 * Started in this order, so that nothing is taken that could not be kept: configuration, spool (recovered into
 * the queue), EAL and ports, workers. SIGTERM drains: no new connections, 421 between mails, a deadline, end.
 * SIGHUP opens the record file again. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"
#include "relay/attach.h"
#include "relay/worker.h"

#define TURN_MS	   10 /* of the main thread; records wait at most so long for their file */
#define DRAIN_US   (30 * USEC_PER_SEC)

static volatile sig_atomic_t stop_signals, reopen_signals;

static void on_signal(int number)
{
	if (number == SIGHUP)
		reopen_signals++;
	else
		stop_signals++;
}

static void block_signals(int how)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(how, &set, NULL);
}

/* Keys are in this memory: it leaves no core file and lets nobody attach. */
static void guard_memory(void)
{
	const struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
}

/* ---- from the configuration to the data plane's own ---- */

static bool set_port(struct dp_port_config *port, const struct config_port *from)
{
	snprintf(port->name, sizeof port->name, "%s", from->name);
	snprintf(port->device, sizeof port->device, "%s", from->device);
	port->mtu = (uint16_t)from->mtu;
	if (!dp_offloads_parse(from->offloads, &port->offloads))
		return false;
	for (unsigned i = 0; i < from->addresses_count && i < DP_ADDRS_MAX; i++) {
		struct dp_local_addr *a = &port->addrs[port->addr_count++];
		struct prefix network;
		if (!config_parse_interface(from->addresses[i], &a->addr, &network))
			return false;
		a->prefix_bits = network.bits;
	}
	return true;
}

static bool set_route(struct dp_route *route, const struct config_route *from, const struct config *config)
{
	for (unsigned i = 0; i < config->dataplane.ports_count; i++)
		if (strcmp(config->dataplane.ports[i].name, from->port) == 0)
			route->port = i;
	return config_parse_route(from, &route->to, &route->via);
}

static void set_tcp(struct tcp_config *tcp, const struct config *config)
{
	tcp->connections_max = config->limits.connections;
	tcp->inbound_max = (uint32_t)((100ull - config->limits.delivery_percent) * config->limits.connections / 100);
	if (tcp->inbound_max == 0)
		tcp->inbound_max = 1;
	tcp->user_timeout_us = config->timeouts.tcp_user * 1000000ull;
	tcp->is_keepalive_on = config->timeouts.tcp_keepalive != 0;
	tcp->keepalive_idle_us = config->timeouts.tcp_keepalive * 1000000ull;
	tcp->keepalive_interval_us = config->timeouts.tcp_keepalive_interval * 1000000ull;
	tcp->keepalive_probes = config->limits.tcp_keepalive_probes;
	tcp->half_open_max = config->limits.connections / 4 + 1;
	tcp->time_wait_max = 2 * config->limits.connections;
	tcp->receive_bytes_max = config->limits.tcp_receive_bytes;
	tcp->send_bytes_max = config->limits.tcp_send_bytes;
	tcp->ecn = config->tcp.ecn;
	tcp->congestion_control =
		strcmp(config->tcp.congestion_control, "newreno") == 0 ? TCP_NEWRENO : TCP_CUBIC;
	/* It counts whole packet buffers; half of them are for receiving, a quarter of those stays free for it. */
	uint64_t most = (uint64_t)config->dataplane.mbufs_per_core * RTE_MBUF_DEFAULT_BUF_SIZE / 8 * 3;
	tcp->buffer_bytes_max = (uint64_t)config->limits.tcp_buffer_mb * 1024 * 1024;
	if (tcp->buffer_bytes_max > most)
		tcp->buffer_bytes_max = most;
}

static bool set_dataplane(struct dp_config *dp, const struct config *config)
{
	dp->cores = config->dataplane.cores;
	dp->no_huge = strcmp(config->dataplane.hugepages, "no") == 0;
	dp->memory_mb = config->dataplane.memory_mb;
	dp->sleep_us_max = config->dataplane.sleep_us_max;
	dp->mbufs_per_core = config->dataplane.mbufs_per_core;
	for (unsigned i = 0; i < config->dataplane.ports_count && i < DP_PORTS_MAX; i++)
		if (!set_port(&dp->ports[dp->port_count++], &config->dataplane.ports[i]))
			return false;
	for (unsigned i = 0; i < config->dataplane.routes_count && i < DP_ROUTES_MAX; i++)
		if (!set_route(&dp->routes[dp->route_count++], &config->dataplane.routes[i], config))
			return false;
	set_tcp(&dp->tcp, config);
	return true;
}

/* "auto" asks for hugepages where enough are free, and says so where not. */
static bool has_hugepages(unsigned memory_mb)
{
	unsigned long free_pages = 0, size_kb = 2048;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		sscanf(line, "HugePages_Free: %lu", &free_pages);
		sscanf(line, "Hugepagesize: %lu", &size_kb);
	}
	if (f != NULL)
		fclose(f);
	return free_pages * size_kb / 1024 >= memory_mb;
}

/* ---- start ---- */

static void found_mail(void *user, const struct spool_found *found)
{
	struct relay *relay = user;
	queue_recover(relay->queue.queue, found, time_wall_us());
}

static int start_storage(struct relay *relay, char error[256])
{
	relay->cores = relay->config->dataplane.cores;
	int rc = queue_thread_init(relay, error);
	if (rc == 0)
		rc = spool_thread_open(relay, found_mail, relay, error);
	if (rc == 0)
		rc = record_file_open(&relay->records, relay->config, error);
	if (rc == 0)
		queue_get_stats(relay->queue.queue, &relay->queue.stats); /* no other thread yet */
	return rc;
}

static int start_dataplane(struct relay *relay, char error[256])
{
	struct dp_config *dp = calloc(1, sizeof *dp);
	if (dp == NULL || !set_dataplane(dp, relay->config)) {
		snprintf(error, 256, "an address of dataplane.ports or dataplane.routes is not usable");
		free(dp);
		return -EINVAL;
	}
	if (strcmp(relay->config->dataplane.hugepages, "auto") == 0 && !has_hugepages(dp->memory_mb)) {
		log_warn("relay", "not enough free hugepages; running without (slower)", "wanted_mb=%u", dp->memory_mb);
		dp->no_huge = true;
	}
	int rc = dp_create(&relay->dp, dp, error);
	for (unsigned i = 0; rc == 0 && i < dp->port_count; i++) {
		char text[256];
		dp_port_text(relay->dp, i, text);
		log_info("relay", "a port is open", "%s", text);
	}
	free(dp);
	for (unsigned i = 0; rc == 0 && i < relay->cores; i++) {
		relay->workers[i] = worker_create(relay, i, error);
		if (relay->workers[i] == NULL)
			return -ENOMEM;
		relay->workers[i]->last_mail_id = spool_highest_id(relay->spool.spool);
	}
	return rc == 0 ? backend_choose(relay, error) : rc;
}

static int start_threads(struct relay *relay)
{
	int rc = spool_thread_start(relay);
	if (rc == 0)
		rc = queue_thread_start(relay);
	for (unsigned i = 0; rc == 0 && i < relay->cores; i++)
		rc = worker_start(relay->workers[i]);
	return rc;
}

/* ---- the main thread's loop and the end ---- */

static uint32_t open_connections(const struct relay *relay)
{
	uint32_t n = 0;
	for (unsigned i = 0; i < relay->cores; i++)
		n += atomic_load(&relay->workers[i]->connections);
	return n;
}

/* A port's hash is known after some packets; where it is not ours, they cross between cores. */
static void say_rss(struct relay *relay)
{
	for (unsigned i = 0; i < relay->config->dataplane.ports_count; i++) {
		const char *found = dp_port_rss(relay->dp, i);
		if (found == NULL || relay->is_rss_said[i])
			continue;
		relay->is_rss_said[i] = true;
		log_info("relay", "the port's RSS hash was compared with ours", "port=%s rss_hash=%s",
			relay->config->dataplane.ports[i].name, found);
	}
}

static void turn(struct relay *relay, struct attach *attach)
{
	static sig_atomic_t reopened;
	attach_turn(attach, TURN_MS);
	records_drain(relay);
	generation_collect(relay);
	attach_update_stats(attach);
	say_rss(relay);
	if (reopened != reopen_signals) {
		reopened = reopen_signals;
		record_file_reopen(relay->records);
	}
}

static void run(struct relay *relay, struct attach *attach)
{
	while (stop_signals == 0)
		turn(relay, attach);
	log_info("relay", "draining; a second signal ends it at once", "connections=%u", open_connections(relay));
	sd_notify(0, "STOPPING=1");
	uint64_t deadline = time_monotonic_us() + DRAIN_US;
	atomic_store(&relay->is_draining, true);
	uint64_t settled = time_monotonic_us() + USEC_PER_SEC;
	while (stop_signals < 2 && time_monotonic_us() < deadline &&
		(time_monotonic_us() < settled || open_connections(relay) != 0))
		turn(relay, attach);
}

/* Workers first, so that nothing is handed to a thread that has gone; then the queue, whose last words the
 * spool thread still writes. */
static void stop(struct relay *relay, struct attach *attach)
{
	for (unsigned i = 0; i < relay->cores; i++)
		dp_core_stop(dp_get_core(relay->dp, i));
	for (unsigned i = 0; i < relay->cores; i++)
		pthread_join(relay->workers[i]->thread, NULL);
	atomic_store(&relay->is_stopping, true);
	/* It may wait for room for a record. */
	while (pthread_tryjoin_np(relay->queue.thread, NULL) == EBUSY)
		if (!records_drain(relay))
			usleep(1000);
	atomic_store(&relay->is_spool_stopping, true);
	pthread_join(relay->spool.thread, NULL);
	tls_crypto_stop();
	records_drain(relay);
	attach_destroy(attach);
	spool_close(relay->spool.spool);
	disk_close_folder(relay->spool.disk);
	dp_destroy(relay->dp);
	log_info("relay", "stopped", "");
}

static int fail(const char *what, const char *error)
{
	log_error("relay", what, "error=\"%s\"", error);
	return EX_CONFIG;
}

static int relay_main(const struct config *config)
{
	static struct relay relay;
	char error[256] = "";
	relay.config = config;
	relay.started_us = time_monotonic_us();
	guard_memory();
	signal(SIGPIPE, SIG_IGN);
	block_signals(SIG_BLOCK);
	if (start_storage(&relay, error) < 0)
		return fail("cannot open the spool or the queue", error);
	log_info("relay", "spool recovered", "mails=%llu", (unsigned long long)relay.queue.stats.mails);
	if (start_dataplane(&relay, error) < 0)
		return fail("cannot start the data plane", error);
	struct attach *attach = attach_create(&relay, error);
	if (attach == NULL)
		return fail("cannot attach", error);
	int rc = start_threads(&relay);
	if (rc != 0)
		return fail("cannot start a thread", strerror(-rc));
	const struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	block_signals(SIG_UNBLOCK);
	log_info("relay", "running", "cores=%u listeners=%u", relay.cores, config->listeners_count);
	sd_notify(0, "READY=1");
	run(&relay, attach);
	stop(&relay, attach);
	return EX_OK;
}

static void usage(FILE *to)
{
	fprintf(to, "usage: hikyaku-relay [--config FILE]\n"
		    "The data plane of a Hikyaku node: takes, keeps and delivers mail.\n"
		    "  --config FILE  start-time configuration (default %s)\n"
		    "  --version      says which version this is\n"
		    "SIGTERM drains and ends; SIGHUP opens the record file again.\n",
		CONFIG_PATH_DEFAULT);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {0}};
	const char *path = CONFIG_PATH_DEFAULT;
	struct config *config;
	char error[512];
	for (int o; (o = getopt_long(argc, argv, "c:hV", options, NULL)) != -1;) {
		switch (o) {
		case 'c': path = optarg; break;
		case 'h': usage(stdout); return EX_OK;
		case 'V': puts("hikyaku-relay " HIKYAKU_VERSION); return EX_OK;
		default: usage(stderr); return EX_USAGE;
		}
	}
	if (optind != argc) {
		usage(stderr);
		return EX_USAGE;
	}
	if (config_load(path, &config, error) < 0) {
		fprintf(stderr, "hikyaku-relay: %s\n", error);
		return EX_CONFIG;
	}
	static const char *const levels[] = {"error", "warn", "info", "debug"};
	for (int i = 0; i < 4; i++)
		if (strcmp(config->log.level, levels[i]) == 0)
			log_set_level((enum log_level)i);
	return relay_main(config);
}
