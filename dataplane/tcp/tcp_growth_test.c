// SPDX-License-Identifier: Apache-2.0
/* tcp_growth_test [CONNECTIONS]: a stack grows from nothing to a million connections, that peers open and that we open, and no
 * call does more at the end than at the start: its memory is taken and filled when it is made, so there is nothing to be moved,
 * enlarged or sorted again. Work is counted in basic blocks (tcp_work.h), and page faults are counted too, since a time
 * would be the machine's: interrupts and other processes lengthen an empty loop as much. Keepalive is on, so that the timer
 * wheel has all of them to hold; in the end two hours pass and every connection's timer fires. */
#include "dataplane/tcp/tcp_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "dataplane/tcp/tcp_private.h"
#include "dataplane/tcp/tcp_work.h"

#define PORT	   25
#define PER_SOURCE 40000 /* active opens from one address, which has 55,536 ports */
#define HOUR_US	   3600000000ull

enum call { INPUT, OUTPUT, TICK, CONNECT, CALLS };
static struct {
	const char *name;
	uint64_t count, total, most, early_most;
} calls[CALLS] = {{"tcp_input, one segment"}, {"tcp_output, one segment"}, {"tcp_tick"}, {"tcp_connect"}};

/* What a call may do, in blocks: at 10 ns a block 10 us, and 100 us for a tick, in which the wheel may move 256 nodes or fire
 * 64 whatever their number is. Over this test, with a million connections that miss the caches, the counting and the test's
 * own work, a block takes half of that. */
static const uint64_t most[] = {[INPUT] = 1000, [OUTPUT] = 1000, [CONNECT] = 1000, [TICK] = 10000};


static struct addr local;
static struct rte_mempool *pool, *control;
static struct tcp_stack *stack;
static uint64_t now_us;
static bool is_early;

static void note(enum call call, uint64_t blocks)
{
	calls[call].count++;
	calls[call].total += blocks;
	if (blocks > calls[call].most)
		calls[call].most = blocks;
	if (is_early && blocks > calls[call].early_most)
		calls[call].early_most = blocks;
}

#define COUNTED(call, what)             \
	do {                            \
		work_begin();           \
		what;                   \
		note(call, work_end()); \
	} while (0)

static void require(bool holds, const char *what, unsigned long long number)
{
	if (holds)
		return;
	fprintf(stderr, "%s: %llu\n", what, number);
	exit(1);
}

/* ---- the stack's surroundings ---- */

static bool is_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu(void *user, const struct addr *l, const struct addr *r)
{
	return 1500;
}

static void start(uint32_t count)
{
	const struct tcp_config config = {
		.connections_max = count,
		.half_open_max = 4096,
		.time_wait_max = 4096,
		.receive_bytes_max = 65536,
		.send_bytes_max = 65536,
		.buffer_bytes_max = 1 << 20,
		.is_keepalive_on = true,
		.pool = pool,
		.control_pool = control,
		.secret = {1},
		.is_ours = is_ours,
		.mtu = mtu,
	};
	now_us = 1000000000;
	stack = tcp_stack_create(&config, now_us);
	require(stack != NULL && addr_parse("2001:db8::1", &local) && tcp_listen(stack, &local, PORT, 0) == 0,
		"no memory for connections", count);
	for (unsigned i = 0; i < CALLS; i++)
		calls[i].count = calls[i].total = calls[i].most = calls[i].early_most = 0;
}

static void input(const struct kit_segment *seg, const struct addr *from, const struct addr *to)
{
	uint8_t b[128];
	const size_t n = kit_encode(seg, from, to, b);
	struct rte_mbuf *m = kit_mbuf(pool, bytes_of(b, n), 0);
	const struct tcp_arrival a = {.local = *to, .remote = *from};
	require(m != NULL, "no buffer after connections", calls[INPUT].count);
	COUNTED(INPUT, tcp_input(stack, m, &a, now_us));
	COUNTED(TICK, tcp_tick(stack, now_us));
}

static struct kit_segment output(void)
{
	struct kit_segment got;
	struct tcp_departure d;
	unsigned n;
	COUNTED(OUTPUT, tcp_output(stack, now_us); n = tcp_take(stack, &d, 1));
	require(n == 1, "nothing was sent by call", calls[OUTPUT].count);
	require(kit_decode(&got, &d.local, &d.remote, bytes_of(rte_pktmbuf_mtod(d.m, void *), d.m->data_len)),
		"a wrong segment by call", calls[OUTPUT].count);
	rte_pktmbuf_free(d.m);
	return got;
}

static void expect_event(uint32_t wanted, uint32_t connection)
{
	uint32_t events;
	require(tcp_next_event(stack, &events) != NULL && events == wanted, "did not open: connection", connection);
}

/* ---- one connection more ---- */

static struct addr peer(uint32_t i)
{
	struct addr a;
	addr_parse("2001:db8:1::", &a);
	a.b[13] = (uint8_t)(i >> 16), a.b[14] = (uint8_t)(i >> 8), a.b[15] = (uint8_t)i;
	return a;
}

static void accept_one(uint32_t i)
{
	const struct addr from = peer(i);
	struct kit_segment seg = {.from = (uint16_t)(1024 + i % 50000), .to = PORT, .seq = i, .window = 512, .flags = KIT_SYN,
		.mss = 1440, .wscale = 7, .has_ts = true, .tsval = i};
	input(&seg, &from, &local);
	const struct kit_segment got = output();
	seg = (struct kit_segment){.from = seg.from, .to = PORT, .seq = i + 1, .ack = got.seq + 1, .window = 512,
		.flags = KIT_ACK, .wscale = -1, .has_ts = true, .tsval = i, .tsecr = got.tsval};
	input(&seg, &from, &local);
	expect_event(TCP_EVENT_ACCEPTED, i);
	COUNTED(OUTPUT, tcp_output(stack, now_us));
}

static void open_one(uint32_t i)
{
	int error;
	struct tcp_conn *c;
	const struct addr to = peer(0);
	struct addr from = local;
	from.b[15] = (uint8_t)(1 + i / PER_SOURCE);
	COUNTED(CONNECT, c = tcp_connect(stack, &from, &to, PORT, NULL, &error, now_us));
	require(c != NULL, "cannot connect: connection", i);
	const struct kit_segment got = output();
	const struct kit_segment seg = {.from = PORT, .to = got.from, .seq = i, .ack = got.seq + 1, .window = 512,
		.flags = KIT_SYN | KIT_ACK, .mss = 1440, .wscale = 7, .has_ts = true, .tsval = i, .tsecr = got.tsval};
	input(&seg, &to, &from);
	expect_event(TCP_EVENT_CONNECTED, i);
	output();
}

/* ---- all of them ---- */

static uint64_t page_faults(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return (uint64_t)r.ru_minflt + (uint64_t)r.ru_majflt;
}

/* The longest way a look-up can have, in cache lines of the table. */
static unsigned longest_chain(void)
{
	const struct tcp_table *t = &stack->table;
	unsigned longest = 0, here = 0;
	for (uint32_t i = 0; i < 2 * (t->mask + 1); i++) { /* twice: it is a circle */
		here = t->buckets[i & t->mask].overflow != 0 ? here + 1 : 0;
		longest = here > longest ? here : longest;
	}
	return longest + 1;
}

static void report(const char *how, uint32_t count, uint64_t faults)
{
	printf("%s: 0 to %u connections, %llu page faults after the first tenth; a look-up passes %u buckets at most\n", how, count,
		(unsigned long long)faults, longest_chain());
	for (unsigned i = 0; i < CALLS; i++)
		if (calls[i].count != 0)
			printf("  %-24s %9llu calls: %4.0f blocks each, %4llu at most (%4llu in the first tenth)\n",
				calls[i].name, (unsigned long long)calls[i].count,
				(double)calls[i].total / (double)calls[i].count, (unsigned long long)calls[i].most,
				(unsigned long long)calls[i].early_most);
}

static void grow(uint32_t count, void (*one)(uint32_t), const char *how)
{
	uint64_t faults = 0;
	start(count);
	for (uint32_t i = 0; i < count; i++, now_us += 10) {
		is_early = i < count / 10;
		if (i == count / 10)
			faults = page_faults();
		one(i);
	}
	report(how, count, faults = page_faults() - faults);
	struct tcp_stats stats;
	tcp_get_stats(stack, &stats);
	require(stats.connections == count && stats.buffered_bytes == 0, "connections are", stats.connections);
	for (unsigned i = 0; i < CALLS; i++)
		require(calls[i].most <= most[i], "a call took blocks", calls[i].most);
	require(longest_chain() <= 16, "a look-up passes buckets", longest_chain());
	require(faults <= 16, "page faults", faults); /* other libraries' */
}

/* Each connection's keepalive is due within the same seconds: how much a tick does, until all have asked. */
static void all_timers_fire(uint32_t count)
{
	struct tcp_departure d;
	struct tcp_stats stats;
	calls[TICK].count = calls[TICK].total = calls[TICK].most = 0;
	now_us += 2 * HOUR_US;
	do {
		COUNTED(TICK, tcp_tick(stack, now_us));
		tcp_output(stack, now_us);
		while (tcp_take(stack, &d, 1) == 1)
			rte_pktmbuf_free(d.m);
		tcp_get_stats(stack, &stats);
	} while (stats.keepalive_probes < count && calls[TICK].count < 10 * count);
	printf("  all their timers due: %llu ticks, %llu blocks at most\n", (unsigned long long)calls[TICK].count,
		(unsigned long long)calls[TICK].most);
	require(stats.keepalive_probes >= count, "have asked", stats.keepalive_probes);
	require(calls[TICK].most <= most[TICK], "a tick took blocks", calls[TICK].most);
}

int main(int argc, char **argv)
{
	const uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
	kit_start();
	pool = kit_pool("data", 255);
	control = kit_pool("control", 1023);
	grow(count, accept_one, "accepted");
	all_timers_fire(count);
	tcp_stack_destroy(stack);
	grow(count, open_one, "opened by us");
	tcp_stack_destroy(stack);
	kit_stop();
	return 0;
}
