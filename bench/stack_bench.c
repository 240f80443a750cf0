// SPDX-License-Identifier: Apache-2.0
/* stack_bench: what TCP alone costs: two stacks back to back in one process, in virtual time, with
 * neither ports nor IP.
 *
 *   stack_bench memory [CONNECTIONS]   bytes of a connection that idles, all that a stack takes counted
 *   stack_bench idle [CONNECTIONS]     so many opened and held (1,000,000): memory, and the longest call
 *   stack_bench short [CONNECTIONS]    open, one request, one answer, close: cycles of each side
 *   stack_bench data [MEGABYTES]       in-order data segments: cycles of the sender and of the receiver
 *
 * Cycles are of the time-stamp counter, read around bursts of calls; the times of single calls are the thread's
 * processor time; segments are copied from one stack to the
 * other outside of that, as a driver would, and their checksums are computed by the stacks. Instructions, which
 * do not depend on the machine's other work: valgrind --tool=callgrind --toggle-collect='side_*' stack_bench short 2000 */
#include "dataplane/tcp/tcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

struct side {
	struct tcp_stack *stack;
	uint64_t cycles, segments;
	struct histogram *calls_ns; /* each call's own time; NULL: bursts are timed, not calls */
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

/* Of this thread: a call that another process interrupts is not longer for it. (An interrupt's own work and a
 * hypervisor's are in it: what they do to a loop of nothing is measured beside.) */
static uint64_t processor_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t begin_timing(const struct side *s)
{
	return s->calls_ns != NULL ? processor_ns() : rte_rdtsc_precise();
}

static void end_timing(struct side *s, uint64_t began)
{
	if (s->calls_ns != NULL)
		histogram_add(s->calls_ns, processor_ns() - began);
	else
		s->cycles += rte_rdtsc_precise() - began;
}

/* noinline: so that callgrind can collect by these names */
static __rte_noinline void side_input(
	struct side *s, struct rte_mbuf **m, const struct tcp_arrival *a, unsigned n)
{
	const unsigned at_once = s->calls_ns != NULL ? 1 : n;
	for (unsigned i = 0; i < n;) {
		uint64_t began = begin_timing(s);
		for (unsigned end = i + at_once; i < end; i++)
			tcp_input(s->stack, m[i], &a[i], now_us);
		end_timing(s, began);
	}
}

static __rte_noinline unsigned side_output(struct side *s, struct tcp_departure *d)
{
	uint64_t began = begin_timing(s);
	tcp_output(s->stack, now_us);
	unsigned n = tcp_take(s->stack, d, BURST);
	end_timing(s, began);
	return n;
}

static __rte_noinline void side_tick(struct side *s)
{
	uint64_t began = begin_timing(s);
	if (tcp_next_due_us(s->stack) <= now_us)
		tcp_tick(s->stack, now_us);
	end_timing(s, began);
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
	uint64_t start = begin_timing(&client);
	struct tcp_conn *c =
		tcp_connect(client.stack, &from, &to, PORT, NULL, &error, now_us);
	end_timing(&client, start);
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

struct memory {
	size_t mapped, resident; /* bytes, of the process */
};

static struct memory memory_now(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned long mapped = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (f == NULL || fscanf(f, "%lu %lu", &mapped, &resident) != 2)
		exit(EX_OSERR);
	fclose(f);
	return (struct memory){mapped * page, resident * page};
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

static unsigned mbufs_in_use(void)
{
	return rte_mempool_in_use_count(pool) + rte_mempool_in_use_count(control_pool) +
		rte_mempool_in_use_count(wire_pool);
}

/* What a stack for one connection takes does not count: it is there once. */
static int memory(uint32_t connections)
{
	struct memory start = memory_now();
	struct tcp_stack *small = make_stack(1);
	size_t fixed = memory_now().mapped - start.mapped;
	tcp_stack_destroy(small);
	start = memory_now();
	make_both(connections);
	struct memory made = memory_now();
	unsigned held = mbufs_in_use();
	open_all(connections);
	settle();
	struct memory opened = memory_now();
	struct tcp_stats stats;
	tcp_get_stats(server.stack, &stats);
	printf("{\"connections\":%llu,\"mapped_bytes\":%zu,\"fixed_bytes\":%zu,"
	       "\"bytes_per_connection\":%.1f,\"resident_per_connection\":%.1f,"
	       "\"mapped_while_opening\":%zu,\"mbufs_held\":%u,\"buffered_bytes\":%llu}\n",
		(unsigned long long)stats.connections, (made.mapped - start.mapped) / 2, fixed,
		(double)((made.mapped - start.mapped) / 2 - fixed) / connections,
		(double)(opened.resident - start.resident) / 2 / connections,
		opened.mapped - made.mapped, mbufs_in_use() - held,
		(unsigned long long)stats.buffered_bytes);
	return stats.connections == connections && mbufs_in_use() == held ? 0 : 1;
}

/* ---- a million ---- */

/* Of a histogram, the share beyond a value, as a count. */
static uint64_t over(const struct histogram *h, uint64_t value)
{
	double low = 0, high = 100;
	for (unsigned i = 0; i < 60; i++) {
		double middle = (low + high) / 2;
		if (histogram_percentile(h, middle) > value)
			high = middle;
		else
			low = middle;
	}
	return (uint64_t)((100 - low) / 100 * (double)h->count + 0.5);
}

static void print_calls(const char *name, const struct side *s)
{
	const struct histogram *h = s->calls_ns;
	printf("\"%s\":{\"calls\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,\"p99_99_ns\":%llu,"
	       "\"p99_9999_ns\":%llu,\"max_ns\":%llu,\"over_100_us\":%llu}",
		name, (unsigned long long)h->count,
		(unsigned long long)histogram_percentile(h, 50),
		(unsigned long long)histogram_percentile(h, 99),
		(unsigned long long)histogram_percentile(h, 99.99),
		(unsigned long long)histogram_percentile(h, 99.9999), (unsigned long long)h->max,
		(unsigned long long)over(h, 100000));
}

/* What the machine itself does to a loop: calls that do nothing but take about as long as one of TCP's. */
static void spin(uint64_t calls, struct side *s)
{
	static struct histogram h;
	const uint64_t least = (uint64_t)(400 / ns_per_cycle);
	s->calls_ns = &h;
	for (uint64_t i = 0; i < calls; i++) {
		uint64_t began = begin_timing(s);
		for (uint64_t start = rte_rdtsc_precise(); rte_rdtsc_precise() - start < least;)
			;
		end_timing(s, began);
	}
}

static int idle(uint32_t connections)
{
	static struct histogram calls[2], held[2];
	struct memory empty = memory_now();
	make_both(connections);
	client.calls_ns = &calls[0];
	server.calls_ns = &calls[1];
	open_all(connections);
	struct memory grown = memory_now();
	printf("{\"connections\":%llu,\"accepted\":%llu,\"resident_before\":%zu,"
	       "\"resident_of_both_stacks\":%zu,\"resident_per_end\":%.1f,",
		(unsigned long long)connected, (unsigned long long)accepted, empty.resident,
		grown.resident - empty.resident,
		(double)(grown.resident - empty.resident) / 2 / connections);
	print_calls("server_while_growing", &server);
	printf(",");
	print_calls("client_while_growing", &client);
	client.calls_ns = &held[0];
	server.calls_ns = &held[1];
	settle();
	printf(",");
	print_calls("server_while_idle", &server);
	printf(",");
	spin(calls[0].count + calls[1].count, &client);
	print_calls("machine", &client);
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
