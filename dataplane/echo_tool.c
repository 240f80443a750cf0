// SPDX-License-Identifier: Apache-2.0
/* dataplane_echo: the dataplane with nothing above it, for the system tests and for trying a port.
 *
 * Serves: every byte that comes is sent back; a FIN is answered when all has been sent. With
 * --connect it is the client of such a server: sends a pattern on some connections, compares what
 * comes back, and ends. Prints "ready", and at the end what each core counted, one JSON object a
 * line. */
#include "dataplane/dataplane.h"

#include "base/clock.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNS_MAX     512 /* of a core */
#define DEADLINE_SECS 60
#define PATTERN_BYTES 65536

static const char usage[] =
	"dataplane_echo --device DEVICE --addr ADDRESS/BITS [option]...\n"
	"  --device DEVICE      EAL device, e.g. net_tap0,iface=hktap0\n"
	"  --addr ADDRESS/BITS  one of ours, with the length of its link's prefix; more than once\n"
	"  --via ADDRESS        default router of its family\n"
	"  --listen PORT        echo here (default 7)\n"
	"  --connect ADDRESS    be a client: connect to this address, port as in --listen\n"
	"  --connections N      so many a core (default 1)\n"
	"  --bytes N            on each (default 1048576)\n"
	"  --cores N            worker cores (default 1)\n"
	"  --queues N           queue pairs of the port (default: as many as it gives)\n"
	"  --mtu N              (default 1500)\n"
	"  --offloads WORDS     what the port is to do: rx-checksum tx-checksum tso rss, none or auto\n"
	"  --sleep-us N         longest sleep of an idle core (default 500; 0: never)\n"
	"  --memory-mb N        of EAL memory (default 96)\n"
	"  --huge               on hugepages\n";

static struct options {
	struct dp_config config;
	struct addr server;
	uint16_t port;
	bool is_client;
	unsigned connections;
	uint64_t bytes;
} options = {.port = 7, .connections = 1, .bytes = 1 << 20};

struct conn {
	struct tcp_conn *tcp;
	uint64_t sent, received;
	bool has_closed, has_ended;
};

struct worker {
	struct dp_core *core;
	pthread_t thread;
	struct conn conns[CONNS_MAX];
	unsigned conn_count, open;
	uint64_t next_try_us;
	_Atomic unsigned finished; /* connections of a client that have come to their end */
	_Atomic unsigned failures;
	_Atomic uint64_t bytes;
};

static uint8_t pattern[PATTERN_BYTES + 251];

/* ---- server ---- */

static bool echo(struct tcp_conn *conn)
{
	struct bytes in;
	while ((in = tcp_peek(conn)).n > 0) {
		size_t n = tcp_write(conn, in);
		tcp_consume(conn, n);
		if (n < in.n)
			return false; /* the rest when there is room */
	}
	return true;
}

static void serve(struct worker *w, struct tcp_conn *conn, uint32_t events)
{
	if (events & TCP_EVENT_ENDED)
		return;
	if (events & TCP_EVENT_ACCEPTED)
		tcp_set_user(conn, NULL);
	if (events & TCP_EVENT_FIN) /* remembered in the user pointer: it is said once */
		tcp_set_user(conn, w);
	if (echo(conn) && tcp_user(conn) == w) {
		tcp_set_user(conn, NULL);
		tcp_close(conn);
	}
}

/* ---- client ---- */

static void send_pattern(struct conn *c)
{
	while (c->sent < options.bytes) {
		uint64_t left = options.bytes - c->sent;
		struct bytes b = bytes_of(
			pattern + c->sent % 251, left < PATTERN_BYTES ? left : PATTERN_BYTES);
		size_t n = tcp_write(c->tcp, b);
		c->sent += n;
		if (n < b.n)
			return;
	}
	if (!c->has_closed)
		tcp_close(c->tcp);
	c->has_closed = true;
}

static bool receive_pattern(struct conn *c)
{
	struct bytes in;
	while ((in = tcp_peek(c->tcp)).n > 0) {
		struct bytes part = bytes_first(in, PATTERN_BYTES);
		if (memcmp(part.at, pattern + c->received % 251, part.n) != 0)
			return false;
		c->received += part.n;
		tcp_consume(c->tcp, part.n);
	}
	return true;
}

static void finish(struct worker *w, struct conn *c, enum tcp_end end)
{
	c->has_ended = true;
	bool is_right = c->received == options.bytes && c->sent == options.bytes;
	if (!is_right)
		printf("{\"client\":\"failed\",\"end\":\"%s\",\"sent\":%llu,\"received\":%llu}\n",
			tcp_end_name(end), (unsigned long long)c->sent,
			(unsigned long long)c->received);
	w->failures += !is_right;
	w->bytes += c->received;
	w->finished++;
}

static void ask(struct worker *w, struct tcp_conn *conn, uint32_t events)
{
	struct conn *c = tcp_user(conn);
	if (c == NULL)
		return;
	if (!receive_pattern(c)) {
		w->failures++;
		tcp_set_user(conn, NULL);
		c->has_ended = true;
		w->finished++;
		tcp_abort(conn);
		return;
	}
	if (events & TCP_EVENT_ENDED) {
		finish(w, c, tcp_end_reason(conn));
		return;
	}
	if (events & (TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE))
		send_pattern(c);
}

/* Our IPv6 addresses are not usable in the first second, nor is an unresolved neighbour known. */
static bool connect_some(struct worker *w, struct tcp_stack *tcp, uint64_t now_us)
{
	struct addr local;
	int error;
	if (!options.is_client || w->conn_count == options.connections || now_us < w->next_try_us)
		return false;
	w->next_try_us = now_us + 50 * USEC_PER_MSEC;
	if (!dp_source_for(w->core, &options.server, &local))
		return false;
	while (w->conn_count < options.connections) {
		struct conn *c = &w->conns[w->conn_count];
		c->tcp = tcp_connect(tcp, &local, &options.server, options.port, c, &error, now_us);
		if (c->tcp == NULL)
			break;
		w->conn_count++;
	}
	w->next_try_us = 0;
	return true;
}

/* ---- both ---- */

static bool turn(void *user, struct tcp_stack *tcp, uint64_t now_us)
{
	struct worker *w = user;
	struct tcp_conn *conn;
	uint32_t events;
	bool did = connect_some(w, tcp, now_us);
	while ((conn = tcp_next_event(tcp, &events)) != NULL) {
		did = true;
		if (options.is_client)
			ask(w, conn, events);
		else
			serve(w, conn, events);
	}
	return did;
}

static uint64_t next_due_us(void *user)
{
	const struct worker *w = user;
	return options.is_client && w->conn_count < options.connections ? w->next_try_us
									: UINT64_MAX;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	dp_core_run(w->core,
		&(struct dp_core_user){.turn = turn, .next_due_us = next_due_us, .user = w});
	return NULL;
}

/* What a client's connections that did not come to their end are waiting for. */
static void print_unfinished(const struct worker *w)
{
	for (unsigned i = 0; i < w->conn_count; i++) {
		const struct conn *c = &w->conns[i];
		struct tcp_info info;
		if (c->has_ended)
			continue;
		tcp_get_info(c->tcp, &info);
		printf("{\"unfinished\":\"%s\",\"sent\":%llu,\"received\":%llu,\"send_queue\":%zu,"
		       "\"receive_queue\":%zu,\"cwnd\":%u,\"snd_wnd\":%u,\"rcv_wnd\":%u,\"rto_us\":"
		       "%u,"
		       "\"retransmits\":%llu}\n",
			info.state, (unsigned long long)c->sent, (unsigned long long)c->received,
			info.send_queue, info.receive_queue, info.cwnd, info.snd_wnd, info.rcv_wnd,
			info.rto_us, (unsigned long long)info.retransmits);
	}
}

static void print_counters(const struct worker *w, unsigned index)
{
	uint64_t busy, slept, turns;
	dp_core_times(w->core, &busy, &slept, &turns);
	printf("{\"core\":%u,\"busy_us\":%llu,\"slept_us\":%llu,\"turns\":%llu", index,
		(unsigned long long)busy, (unsigned long long)slept, (unsigned long long)turns);
	for (unsigned i = 0; i < dp_counter_count(); i++)
		if (dp_counter(w->core, i) != 0)
			printf(",\"%s\":%llu", dp_counter_name(i),
				(unsigned long long)dp_counter(w->core, i));
	struct tcp_stats stats;
	tcp_get_stats(dp_core_tcp(w->core), &stats);
	printf(",\"tcp_in\":%llu,\"tcp_out\":%llu,\"retransmits\":%llu",
		(unsigned long long)stats.segments_in, (unsigned long long)stats.segments_out,
		(unsigned long long)stats.retransmits);
	for (unsigned i = 0; i < tcp_drop_count(); i++)
		if (stats.drops[i] != 0)
			printf(",\"tcp_drop_%s\":%llu", tcp_drop_name(i),
				(unsigned long long)stats.drops[i]);
	printf("}\n");
}

static void print_port(const struct dp *dp)
{
	char text[256];
	const char *rss = dp_port_rss(dp, 0);
	dp_port_text(dp, 0, text);
	printf("%s rss_hash=%s\n", text, rss == NULL ? "unknown" : rss);
}

static int bad_usage(const char *what)
{
	fprintf(stderr, "dataplane_echo: %s\n%s", what, usage);
	return 64;
}

static bool add_addr(struct dp_port_config *port, const char *text)
{
	if (port->addr_count == DP_ADDRS_MAX)
		return false;
	struct dp_local_addr *a = &port->addrs[port->addr_count++];
	return interface_parse(text, &a->addr, &a->prefix_bits);
}

static bool add_route(struct dp_config *config, const char *via)
{
	struct dp_route *r = &config->routes[config->route_count++];
	if (config->route_count > 2 || !addr_parse(via, &r->via))
		return false;
	if (addr_is_ipv4(&r->via))
		r->to = (struct prefix){addr_from_ipv4((const uint8_t[4]){0}), 96};
	return true;
}

static struct dp_config default_config(void)
{
	return (struct dp_config){
		.cores = 1,
		.no_huge = true,
		.memory_mb = 96,
		.sleep_us_max = 500,
		.mbufs_per_core = 8192,
		.port_count = 1,
		.ports[0].name = "lan0",
		.tcp = {.connections_max = 1024,
			.half_open_max = 256,
			.time_wait_max = 1024,
			.receive_bytes_max = 256 * 1024,
			.send_bytes_max = 256 * 1024,
			.buffer_bytes_max = 4 << 20},
	};
}

static int parse(int argc, char **argv)
{
	/* clang-format off */
	static const struct option longs[] = {
		{"device", 1, NULL, 'd'}, {"addr", 1, NULL, 'a'}, {"via", 1, NULL, 'v'},
		{"listen", 1, NULL, 'l'}, {"connect", 1, NULL, 'c'}, {"connections", 1, NULL, 'n'},
		{"bytes", 1, NULL, 'b'}, {"cores", 1, NULL, 'C'}, {"queues", 1, NULL, 'q'},
		{"mtu", 1, NULL, 'm'}, {"sleep-us", 1, NULL, 's'}, {"memory-mb", 1, NULL, 'M'},
		{"offloads", 1, NULL, 'o'},
		{"huge", 0, NULL, 'H'}, {0},
	};
	/* clang-format on */
	struct dp_config *config = &options.config;
	struct dp_port_config *port = &config->ports[0];
	int option;
	*config = default_config();
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (option) {
		case 'd': snprintf(port->device, sizeof port->device, "%s", optarg); break;
		case 'a':
			if (!add_addr(port, optarg))
				return bad_usage("--addr takes an address and its prefix length");
			break;
		case 'v':
			if (!add_route(config, optarg))
				return bad_usage("--via takes an address, once a family");
			break;
		case 'l': options.port = (uint16_t)atoi(optarg); break;
		case 'c':
			if (!addr_parse(optarg, &options.server))
				return bad_usage("--connect takes an address");
			options.is_client = true;
			break;
		case 'n': options.connections = (unsigned)atoi(optarg); break;
		case 'b': options.bytes = strtoull(optarg, NULL, 10); break;
		case 'C': config->cores = (unsigned)atoi(optarg); break;
		case 'q': port->queues = (uint16_t)atoi(optarg); break;
		case 'm': port->mtu = (uint16_t)atoi(optarg); break;
		case 's': config->sleep_us_max = (unsigned)atoi(optarg); break;
		case 'M': config->memory_mb = (unsigned)atoi(optarg); break;
		case 'H': config->no_huge = false; break;
		case 'o':
			if (!dp_offloads_parse(optarg, &port->offloads))
				return bad_usage("--offloads: no such word");
			break;
		default: return bad_usage("see above");
		}
	return options.connections > CONNS_MAX ? bad_usage("--connections: 512 at most") : 0;
}

static bool listen_all(struct tcp_stack *tcp)
{
	struct addr any4 = addr_from_ipv4((const uint8_t[4]){0}), any6 = {0};
	return tcp_listen(tcp, &any4, options.port, 0) == 0 &&
		tcp_listen(tcp, &any6, options.port, 0) == 0;
}

/* Until a signal comes or, for a client, all its connections have ended. Returns false: too late.
 */
static bool wait_for_end(const sigset_t *signals, const struct worker *workers)
{
	uint64_t deadline = time_monotonic_us() + DEADLINE_SECS * USEC_PER_SEC;
	for (;;) {
		struct timespec t = {.tv_nsec = 20 * 1000 * 1000};
		unsigned finished = 0;
		if (sigtimedwait(signals, NULL, &t) > 0)
			return !options.is_client;
		for (unsigned i = 0; i < options.config.cores; i++)
			finished += workers[i].finished;
		if (options.is_client && finished == options.connections * options.config.cores)
			return true;
		if (options.is_client && time_monotonic_us() > deadline)
			return false;
	}
}

static int report(const struct dp *dp, const struct worker *workers, bool is_in_time)
{
	unsigned failures = 0, finished = 0;
	uint64_t bytes = 0;
	print_port(dp);
	for (unsigned i = 0; i < options.config.cores; i++) {
		print_counters(&workers[i], i);
		print_unfinished(&workers[i]);
		failures += workers[i].failures;
		finished += workers[i].finished;
		bytes += workers[i].bytes;
	}
	if (options.is_client)
		printf("{\"client\":\"%s\",\"connections\":%u,\"bytes\":%llu}\n",
			failures == 0 && is_in_time ? "ok" : "failed", finished,
			(unsigned long long)bytes);
	return failures == 0 && is_in_time ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct worker workers[DP_CORES_MAX];
	struct dp *dp;
	char error[256] = "";
	sigset_t signals;
	int status = parse(argc, argv);
	if (status != 0)
		return status;
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (uint8_t)(i % 251);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (dp_create(&dp, &options.config, error) != 0) {
		fprintf(stderr, "dataplane_echo: %s\n", error);
		return 69;
	}
	for (unsigned i = 0; i < options.config.cores; i++) {
		workers[i].core = dp_get_core(dp, i);
		if (!options.is_client && !listen_all(dp_core_tcp(workers[i].core)))
			return 70;
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	printf("ready\n");
	fflush(stdout);
	bool is_in_time = wait_for_end(&signals, workers);
	for (unsigned i = 0; i < options.config.cores; i++)
		dp_core_stop(workers[i].core);
	for (unsigned i = 0; i < options.config.cores; i++)
		pthread_join(workers[i].thread, NULL);
	status = report(dp, workers, is_in_time);
	dp_destroy(dp);
	return status;
}
