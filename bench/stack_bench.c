// SPDX-License-Identifier: Apache-2.0
/* stack_bench: what TCP alone costs: two stacks back to back in one process, in virtual time, with
 * neither ports nor IP.
 *
 *   stack_bench memory [CONNECTIONS]   bytes of a connection that idles, all that a stack takes counted
 *   stack_bench idle [CONNECTIONS]     so many opened and held (1,000,000): memory, and the longest call
 *   stack_bench short [CONNECTIONS]    open, one request, one answer, close: cycles of each side
 *   stack_bench data [MEGABYTES]       in-order data segments: cycles of the sender and of the receiver
 *
 * Cycles are of the time-stamp counter, read around bursts of calls; segments are copied from one stack to the
 * other outside of that, as a driver would, and their checksums are computed by the stacks. Instructions, which
 * do not depend on the machine's other work: valgrind --tool=callgrind --toggle-collect='side_*' stack_bench short 2000 */
#include "dataplane/tcp/tcp.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>

#include "bench/histogram.h"

#define BURST	   32
#define BATCH	   256 /* connections opened in one step of a millisecond */
#define PORT	   25
#define PER_SOURCE 50000 /* connections from one address: it has 55,000 ports */
#define SLOW_NS	   20000 /* a call that took longer is looked at */

struct side {
	struct tcp_stack *stack;
	uint64_t cycles, segments;
	struct histogram *calls_ns; /* each call's own time; NULL: bursts are timed, not calls */
	uint64_t slow_interrupted;  /* slow calls in which the kernel took the processor away */
};

static struct rte_mempool *pool, *control_pool, *wire_pool;
static uint64_t now_us = 1000000000;
static struct side client, server;
static double ns_per_cycle;

/* ---- the two stacks ---- */

static bool is_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu(void *user, const struct addr *l, const struct addr *r)
{
	return 1500;
}

static struct tcp_stack *make_stack(uint32_t connections)
{
	const struct tcp_config config = {
		.connections_max = connections,
		.half_open_max = 2 * BATCH,
		.time_wait_max = 2 * BATCH,
		.receive_bytes_max = 256 << 10,
		.send_bytes_max = 256 << 10,
		.buffer_bytes_max = 64 << 20,
		.pool = pool,
		.control_pool = control_pool,
		.secret = {7, 1, 4},
		.is_ours = is_ours,
		.mtu = mtu,
	};
	struct tcp_stack *s = tcp_stack_create(&config, now_us);
	if (s == NULL) {
		fprintf(stderr, "stack_bench: no memory for a stack\n");
		exit(EX_OSERR);
	}
	return s;
}

static struct addr server_addr(void)
{
	struct addr a;
	addr_parse("192.0.2.25", &a);
	return a;
}

static struct addr client_addr(uint32_t connection)
{
	struct addr a;
	addr_parse("198.51.100.1", &a);
	a.b[15] = (uint8_t)(1 + connection / PER_SOURCE);
	return a;
}

static void make_both(uint32_t connections)
{
	struct addr any = addr_from_ipv4((const uint8_t[4]){0});
	client = (struct side){.stack = make_stack(connections)};
	server = (struct side){.stack = make_stack(connections)};
	tcp_listen(server.stack, &any, PORT, 0);
}

/* ---- what is timed ---- */

static uint64_t switches(void)
{
	struct rusage usage;
	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)usage.ru_nivcsw;
}

static void note_call(struct side *s, uint64_t cycles)
{
	static uint64_t known;
	uint64_t ns = (uint64_t)((double)cycles * ns_per_cycle);
	if (s->calls_ns == NULL)
		return;
	if (ns > SLOW_NS) {
		uint64_t n = switches();
		bool was_interrupted = n != known;
		known = n;
		s->slow_interrupted += was_interrupted;
		if (was_interrupted)
			return;
	}
	histogram_add(s->calls_ns, ns);
}

/* noinline: so that callgrind can collect by these names */
static __rte_noinline void side_input(
	struct side *s, struct rte_mbuf **m, const struct tcp_arrival *a, unsigned n)
{
	if (s->calls_ns == NULL) {
		uint64_t start = rte_rdtsc_precise();
		for (unsigned i = 0; i < n; i++)
			tcp_input(s->stack, m[i], &a[i], now_us);
		s->cycles += rte_rdtsc_precise() - start;
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		uint64_t start = rte_rdtsc_precise();
		tcp_input(s->stack, m[i], &a[i], now_us);
		note_call(s, rte_rdtsc_precise() - start);
	}
}

static __rte_noinline unsigned side_output(struct side *s, struct tcp_departure *d)
{
	uint64_t start = rte_rdtsc_precise();
	tcp_output(s->stack, now_us);
	unsigned n = tcp_take(s->stack, d, BURST);
	uint64_t cycles = rte_rdtsc_precise() - start;
	s->cycles += cycles;
	note_call(s, cycles);
	return n;
}

static __rte_noinline void side_tick(struct side *s)
{
	uint64_t start = rte_rdtsc_precise();
	if (tcp_next_due_us(s->stack) <= now_us)
		tcp_tick(s->stack, now_us);
	uint64_t cycles = rte_rdtsc_precise() - start;
	s->cycles += cycles;
	note_call(s, cycles);
}

/* ---- the wire ---- */

/* A copy, since the sender may still hold the segment: what a driver makes of it. */
static struct rte_mbuf *carry(struct rte_mbuf *m)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(m, wire_pool, 0, UINT32_MAX);
	rte_pktmbuf_free(m);
	if (copy == NULL) {
		fprintf(stderr, "stack_bench: the wire's pool is empty\n");
		exit(EX_SOFTWARE);
	}
	return copy;
}

/* Everything `from` has to say; false: nothing. */
static bool carry_all(struct side *from, struct side *to)
{
	struct tcp_departure d[BURST];
	struct rte_mbuf *m[BURST];
	struct tcp_arrival a[BURST];
	unsigned n, all = 0;
	while ((n = side_output(from, d)) > 0) {
		for (unsigned i = 0; i < n; i++) {
			m[i] = carry(d[i].m);
			a[i] = (struct tcp_arrival){.local = d[i].remote, .remote = d[i].local};
		}
		side_input(to, m, a, n);
		from->segments += n;
		all += n;
	}
	return all > 0;
}

/* ---- what the users do ---- */

static uint64_t accepted, connected, ended, answered, received;

static __rte_noinline void side_serve(const uint8_t *answer, size_t n)
{
	struct tcp_conn *c;
	uint32_t events;
	uint64_t start = rte_rdtsc_precise();
	while ((c = tcp_next_event(server.stack, &events)) != NULL) {
		accepted += !!(events & TCP_EVENT_ACCEPTED);
		ended += !!(events & TCP_EVENT_ENDED);
		for (struct bytes in = tcp_peek(c); in.n > 0; in = tcp_peek(c)) {
			received += in.n;
			tcp_consume(c, in.n);
			if (answer != NULL && !(events & TCP_EVENT_ENDED)) {
				tcp_write(c, bytes_of(answer, n));
				tcp_close(c);
			}
		}
	}
	server.cycles += rte_rdtsc_precise() - start;
}

static __rte_noinline void side_ask(const uint8_t *request, size_t n)
{
	struct tcp_conn *c;
	uint32_t events;
	uint64_t start = rte_rdtsc_precise();
	while ((c = tcp_next_event(client.stack, &events)) != NULL) {
		connected += !!(events & TCP_EVENT_CONNECTED);
		for (struct bytes in = tcp_peek(c); in.n > 0; in = tcp_peek(c)) {
			answered += in.n;
			tcp_consume(c, in.n);
		}
		if (events & TCP_EVENT_CONNECTED && request != NULL)
			tcp_write(c, bytes_of(request, n));
		if (events & TCP_EVENT_FIN)
			tcp_close(c);
	}
	client.cycles += rte_rdtsc_precise() - start;
}

static __rte_noinline struct tcp_conn *side_connect(uint32_t connection)
{
	struct addr to = server_addr(), from = client_addr(connection);
	int error;
	uint64_t start = rte_rdtsc_precise();
	struct tcp_conn *c =
		tcp_connect(client.stack, &from, &to, PORT, NULL, &error, now_us);
	client.cycles += rte_rdtsc_precise() - start;
	if (c == NULL) {
		fprintf(stderr, "stack_bench: connection %u: %s\n", connection, strerror(-error));
		exit(EX_SOFTWARE);
	}
	return c;
}

static bool shuttle(void)
{
	bool did = carry_all(&client, &server);
	return carry_all(&server, &client) || did;
}

static void step(uint64_t us)
{
	now_us += us;
	side_tick(&client);
	side_tick(&server);
}

/* ---- memory ---- */

static size_t heap_bytes(void)
{
	struct mallinfo2 m = mallinfo2();
	return m.uordblks + m.hblkhd;
}

static size_t resident_bytes(void)
{
	unsigned long total = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (f != NULL && fscanf(f, "%lu %lu", &total, &resident) != 2)
		resident = 0;
	if (f != NULL)
		fclose(f);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void open_batch(uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		side_connect(first + i);
	while (shuttle()) {
		side_serve(NULL, 0);
		side_ask(NULL, 0);
	}
	step(1000);
}

static void open_all(uint32_t connections)
{
	for (uint32_t at = 0; at < connections; at += BATCH)
		open_batch(at, connections - at < BATCH ? connections - at : BATCH);
}

/* Delayed ACKs and whatever else follows; the pools are full again. */
static void settle(void)
{
	for (unsigned i = 0; i < 3000; i++) {
		step(1000);
		shuttle();
	}
}

static int memory(uint32_t connections)
{
	size_t before = heap_bytes();
	struct tcp_stack *small = make_stack(1);
	size_t fixed = heap_bytes() - before;
	tcp_stack_destroy(small);
	before = heap_bytes();
	make_both(connections);
	size_t one = (heap_bytes() - before) / 2;
	unsigned held = rte_mempool_in_use_count(pool) + rte_mempool_in_use_count(control_pool) +
		rte_mempool_in_use_count(wire_pool);
	open_all(connections);
	settle();
	unsigned held_now = rte_mempool_in_use_count(pool) +
		rte_mempool_in_use_count(control_pool) + rte_mempool_in_use_count(wire_pool);
	struct tcp_stats stats;
	tcp_get_stats(server.stack, &stats);
	printf("{\"connections\":%llu,\"heap_bytes\":%zu,\"fixed_bytes\":%zu,"
	       "\"bytes_per_connection\":%.1f,\"grown_while_opening\":%zu,\"mbufs_held\":%u,"
	       "\"buffered_bytes\":%llu}\n",
		(unsigned long long)stats.connections, one, fixed,
		(double)(one - fixed) / connections, (heap_bytes() - before) / 2 - one,
		held_now - held, (unsigned long long)stats.buffered_bytes);
	return stats.connections == connections ? 0 : 1;
}

/* ---- a million ---- */

static void print_calls(const char *name, const struct side *s)
{
	const struct histogram *h = s->calls_ns;
	printf("\"%s\":{\"calls\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,\"p99_99_ns\":%llu,"
	       "\"p99_9999_ns\":%llu,\"max_ns\":%llu,\"interrupted\":%llu}",
		name, (unsigned long long)h->count,
		(unsigned long long)histogram_percentile(h, 50),
		(unsigned long long)histogram_percentile(h, 99),
		(unsigned long long)histogram_percentile(h, 99.99),
		(unsigned long long)histogram_percentile(h, 99.9999), (unsigned long long)h->max,
		(unsigned long long)s->slow_interrupted);
}

static int idle(uint32_t connections)
{
	static struct histogram calls[2], held[2];
	size_t empty = resident_bytes();
	make_both(connections);
	client.calls_ns = &calls[0];
	server.calls_ns = &calls[1];
	size_t ready = resident_bytes();
	open_all(connections);
	size_t grown = resident_bytes();
	printf("{\"connections\":%llu,\"accepted\":%llu,\"resident_before\":%zu,"
	       "\"resident_of_both_stacks\":%zu,\"resident_grown_while_opening\":%zd,"
	       "\"resident_per_end\":%.1f,",
		(unsigned long long)connected, (unsigned long long)accepted, empty, grown - empty,
		(ssize_t)(grown - ready), (double)(grown - empty) / 2 / connections);
	print_calls("server_while_growing", &server);
	printf(",");
	print_calls("client_while_growing", &client);
	client.calls_ns = &held[0];
	server.calls_ns = &held[1];
	client.slow_interrupted = server.slow_interrupted = 0;
	settle();
	printf(",");
	print_calls("server_while_idle", &server);
	printf("}\n");
	return accepted == connections && connected == connections ? 0 : 1;
}

/* ---- cycles ---- */

static void print_cost(const char *name, const struct side *s, double per)
{
	printf("\"%s_cycles\":%.0f,\"%s_ns\":%.0f,", name, (double)s->cycles / per, name,
		(double)s->cycles / per * ns_per_cycle);
}

static int short_ones(uint32_t connections)
{
	static const uint8_t text[64] = "x";
	make_both(4 * BATCH);
	for (uint32_t at = 0; at < connections; at += BURST) {
		for (uint32_t i = 0; i < BURST; i++)
			side_connect(0);
		do {
			side_serve(text, sizeof text);
			side_ask(text, sizeof text);
		} while (shuttle());
		step(1000);
	}
	printf("{\"connections\":%llu,", (unsigned long long)ended);
	print_cost("client", &client, connections);
	print_cost("server", &server, connections);
	printf("\"client_segments\":%.2f,\"server_segments\":%.2f}\n",
		(double)client.segments / connections, (double)server.segments / connections);
	return answered == (uint64_t)connections * sizeof text ? 0 : 1;
}

static __rte_noinline void side_write(struct tcp_conn *c)
{
	static const uint8_t text[65536];
	uint64_t start = rte_rdtsc_precise();
	while (tcp_write(c, bytes_of(text, sizeof text)) == sizeof text)
		;
	client.cycles += rte_rdtsc_precise() - start;
}

static int data(uint32_t megabytes)
{
	make_both(16);
	struct tcp_conn *c = side_connect(0);
	while (shuttle())
		side_ask(NULL, 0);
	client.cycles = server.cycles = client.segments = server.segments = 0;
	while (received < (uint64_t)megabytes << 20) {
		side_write(c);
		carry_all(&client, &server);
		side_serve(NULL, 0);
		carry_all(&server, &client);
		side_ask(NULL, 0);
		step(100);
	}
	printf("{\"bytes\":%llu,\"data_segments\":%llu,\"acks\":%llu,",
		(unsigned long long)received, (unsigned long long)client.segments,
		(unsigned long long)server.segments);
	print_cost("sender", &client, (double)client.segments);
	print_cost("receiver", &server, (double)client.segments);
	printf("\"bytes_per_segment\":%.0f}\n", (double)received / (double)client.segments);
	return 0;
}

/* ---- the command line ---- */

static void start_eal(void)
{
	char *arguments[] = {"stack_bench", "--no-huge", "--no-shconf", "--no-pci",
		"--no-telemetry", "-m", "128", "-l", "0", "--log-level", "error", NULL};
	if (rte_eal_init(sizeof arguments / sizeof *arguments - 1, arguments) < 0)
		exit(EX_OSERR);
	pool = rte_pktmbuf_pool_create("data", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	control_pool = rte_pktmbuf_pool_create("control", 4095, 256, 0, 256, 0);
	wire_pool = rte_pktmbuf_pool_create("wire", 16383, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (pool == NULL || control_pool == NULL || wire_pool == NULL)
		exit(EX_OSERR);
	ns_per_cycle = 1e9 / (double)rte_get_tsc_hz();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(uint32_t n);
		uint32_t n;
	} commands[] = {{"memory", memory, 1000000}, {"idle", idle, 1000000},
		{"short", short_ones, 100000}, {"data", data, 200}};
	for (unsigned i = 0; argc >= 2 && i < sizeof commands / sizeof *commands; i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			start_eal();
			return commands[i].run(argc > 2 ? (uint32_t)atoi(argv[2]) : commands[i].n);
		}
	fprintf(stderr, "usage: stack_bench memory|idle|short|data [NUMBER]\n");
	return EX_USAGE;
}
