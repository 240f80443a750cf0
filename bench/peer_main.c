// SPDX-License-Identifier: Apache-2.0
/* tcp_peer: the command line and the results of the TCP comparisons' ends; bench/tcp starts it. */
#include "bench/peer.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "dataplane/dataplane.h"

static volatile sig_atomic_t is_stopped;

bool peer_is_stopped(void)
{
	return is_stopped;
}

#define STAY_MS 30000 /* then whoever started us has gone */

void peer_ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

static void on_signal(int number)
{
	is_stopped = 1;
}

static void usage(FILE *to)
{
	fputs("usage: tcp_peer serve|ask [OPTION]...\n"
	      "One end of a measured TCP connection; prints \"ready\", then results as one line of JSON.\n"
	      "  --kernel            by the kernel's TCP\n"
	      "  --congestion NAME   its congestion control\n"
	      "  --mss N             its largest segment\n"
	      "  --device DEVICE     or by ours, on this EAL device\n"
	      "  --addr ADDR/BITS    ours, with the prefix of its link; more than once\n"
	      "  --port PORT         of the server (7)\n"
	      "  --server ADDRESS    ask: whom\n"
	      "  --up N, --down N    ask: bytes of a request and of its answer (64, 64)\n"
	      "  --connections N     ask: at a time (1)\n"
	      "  --requests N        ask: on each connection, then another one is opened; 0: no end (0)\n"
	      "  --count N           ask: requests in all; 0: until the time is up (0)\n"
	      "  --seconds S         ask: at most (60)\n"
	      "  --interval-ms MS    ask: from one request of a connection to its next (0)\n"
	      "  --stay              after the results the port stays, no longer looked at, until SIGTERM or 30 s later\n"
	      "  --conns-max N       ours: the stack's limit of connections (1024)\n"
	      "  --window-kb N       ours: largest window, and send queue (4096)\n"
	      "  --buffer-mb N       ours: of all connections (32)\n"
	      "  --mbufs N           ours: of the core (32768)\n"
	      "  --memory-mb N       ours: of EAL memory (192)\n"
	      "  --ecn               ours: offered and accepted\n"
	      "  --sleep-us N        ours: longest sleep of the idle core (100; 0: never)\n"
	      "  --huge              ours: on hugepages\n",
		to);
}

enum { SERVER = 1, PORT, KERNEL, DEVICE, ADDR, UP, DOWN, CONNECTIONS, REQUESTS, COUNT, SECONDS,
	INTERVAL, CONNS_MAX, WINDOW, BUFFER, MBUFS, MEMORY, SLEEP, HUGE, CONGESTION, MSS, STAY, ECN };
static const struct option longs[] = {{"server", 1, NULL, SERVER}, {"port", 1, NULL, PORT},
	{"kernel", 0, NULL, KERNEL}, {"device", 1, NULL, DEVICE}, {"addr", 1, NULL, ADDR},
	{"up", 1, NULL, UP}, {"down", 1, NULL, DOWN}, {"connections", 1, NULL, CONNECTIONS},
	{"requests", 1, NULL, REQUESTS}, {"count", 1, NULL, COUNT}, {"seconds", 1, NULL, SECONDS},
	{"interval-ms", 1, NULL, INTERVAL}, {"conns-max", 1, NULL, CONNS_MAX},
	{"window-kb", 1, NULL, WINDOW}, {"buffer-mb", 1, NULL, BUFFER}, {"mbufs", 1, NULL, MBUFS},
	{"memory-mb", 1, NULL, MEMORY}, {"sleep-us", 1, NULL, SLEEP}, {"huge", 0, NULL, HUGE},
	{"congestion", 1, NULL, CONGESTION}, {"mss", 1, NULL, MSS},
	{"stay", 0, NULL, STAY}, {"ecn", 0, NULL, ECN}, {0}};

static struct dp_config dp_default(void)
{
	return (struct dp_config){
		.cores = 1,
		.no_huge = true,
		.memory_mb = 192,
		.sleep_us_max = 100,
		.mbufs_per_core = 32768,
		.port_count = 1,
		.ports[0].name = "lan0",
		.tcp = {.connections_max = 1024,
			.receive_bytes_max = 4 << 20,
			.send_bytes_max = 4 << 20,
			.buffer_bytes_max = 32 << 20},
	};
}

static struct peer_options options_default(struct dp_config *dp)
{
	return (struct peer_options){
		.port = 7,
		.plan = {.up = 64, .down = 64},
		.connections = 1,
		.seconds = 60,
		.dp = dp,
	};
}

static bool add_addr(struct dp_port_config *port, const char *text)
{
	if (port->addr_count == DP_ADDRS_MAX)
		return false;
	struct dp_local_addr *a = &port->addrs[port->addr_count++];
	return interface_parse(text, &a->addr, &a->prefix_bits);
}

static bool set(struct peer_options *o, int option)
{
	struct dp_port_config *port = &o->dp->ports[0];
	uint64_t n = optarg == NULL ? 0 : strtoull(optarg, NULL, 10);
	switch (option) {
	case SERVER: return addr_parse(optarg, &o->server);
	case PORT: o->port = (uint16_t)n; break;
	case KERNEL: o->is_kernel = true; break;
	case DEVICE: snprintf(port->device, sizeof port->device, "%s", optarg); break;
	case ADDR: return add_addr(port, optarg);
	case UP: o->plan.up = (uint32_t)n; return n <= UINT32_MAX;
	case DOWN: o->plan.down = (uint32_t)n; return n <= UINT32_MAX;
	case CONNECTIONS: o->connections = (unsigned)n; return n > 0 && n <= PEER_CONNECTIONS_MAX;
	case REQUESTS: o->requests = n; break;
	case COUNT: o->count = n; break;
	case SECONDS: o->seconds = strtod(optarg, NULL); break;
	case INTERVAL: o->interval_us = (uint64_t)(strtod(optarg, NULL) * 1000); break;
	case CONNS_MAX: o->dp->tcp.connections_max = (uint32_t)n; break;
	case WINDOW: o->dp->tcp.receive_bytes_max = o->dp->tcp.send_bytes_max = (uint32_t)n << 10; break;
	case BUFFER: o->dp->tcp.buffer_bytes_max = n << 20; break;
	case MBUFS: o->dp->mbufs_per_core = (uint32_t)n; break;
	case MEMORY: o->dp->memory_mb = (unsigned)n; break;
	case SLEEP: o->dp->sleep_us_max = (unsigned)n; break;
	case HUGE: o->dp->no_huge = false; break;
	case CONGESTION: o->congestion = optarg; break;
	case MSS: o->mss = (int)n; break;
	case STAY: o->stays = true; break;
	case ECN: o->dp->tcp.ecn = true; break;
	default: return false;
	}
	return true;
}

static bool parse(struct peer_options *o, int argc, char **argv)
{
	int option;
	if (argc < 2 || (strcmp(argv[1], "serve") != 0 && strcmp(argv[1], "ask") != 0))
		return false;
	o->is_server = strcmp(argv[1], "serve") == 0;
	optind = 2;
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!set(o, option)) {
			fprintf(stderr, "tcp_peer: '%s' is not usable\n", argv[optind - 1]);
			return false;
		}
	o->dp->tcp.half_open_max = o->dp->tcp.time_wait_max = o->dp->tcp.connections_max;
	return optind == argc && o->is_kernel != (o->dp->ports[0].device[0] != '\0');
}

static double seconds_of(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void print_times(const char *name, const struct histogram *h)
{
	printf("\"%s\":{\"count\":%llu,\"mean\":%.1f,\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,"
	       "\"p99_9\":%llu,\"max\":%llu},",
		name, (unsigned long long)h->count, histogram_mean(h),
		(unsigned long long)histogram_percentile(h, 50),
		(unsigned long long)histogram_percentile(h, 90),
		(unsigned long long)histogram_percentile(h, 99),
		(unsigned long long)histogram_percentile(h, 99.9), (unsigned long long)h->max);
}

static void print(const struct peer_options *o)
{
	const struct peer_results *r = &peer_results;
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	if (o->is_kernel)
		printf("{");
	if (!o->is_server) {
		print_times("open_us", &r->open_us);
		print_times("answer_us", &r->answer_us);
		print_times("whole_us", &r->whole_us);
		printf("\"seconds\":%.6f,", (double)(r->ended_us - r->started_us) / 1e6);
	}
	printf("\"opened\":%llu,\"answered\":%llu,\"failed\":%llu,\"wrong\":%llu,"
	       "\"first_failure\":\"%s\",\"user_s\":%.3f,\"system_s\":%.3f}\n",
		(unsigned long long)r->opened, (unsigned long long)r->answered,
		(unsigned long long)r->failed, (unsigned long long)r->wrong, r->first_failure,
		seconds_of(usage.ru_utime), seconds_of(usage.ru_stime));
}

/* net_memif of DPDK 24.11 takes its memory away as the peer goes, also from under a core that polls: so the end
 * that is done goes last. */
static void stay(void)
{
	fflush(stdout);
	for (unsigned i = 0; i < STAY_MS / 10 && !is_stopped; i++)
		usleep(10000);
}

int main(int argc, char **argv)
{
	static struct dp_config dp;
	dp = dp_default();
	struct peer_options options = options_default(&dp);
	if (!parse(&options, argc, argv)) {
		usage(stderr);
		return EX_USAGE;
	}
	exchange_init();
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	int status = options.is_kernel ? peer_run_kernel(&options) : peer_run_ours(&options);
	if (status == 0)
		print(&options);
	if (options.stays)
		stay();
	peer_end_ours();
	return status != 0 ? status : peer_results.wrong != 0 ? EX_DATAERR : 0;
}
