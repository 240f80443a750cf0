// SPDX-License-Identifier: Apache-2.0
/* tcp_growth [CONNECTIONS]: a stack grows from nothing to a million accepted connections: how long the longest
 * call took, in processor time of the thread (page faults are in it, other processes are not), and what memory a
 * connection has cost. Then each hears once more from its peer, and nothing grows: what is long there is the
 * machine's doing (interrupts, a hypervisor). No test: it says what this machine did.
 *
 *   build/dataplane/tcp/tcp_growth 1000000 */
#include "dataplane/tcp/tcp_kit.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct addr local;
static unsigned calls, over; /* all, and those of more than 100 us */
static uint64_t longest_ns, total_ns;

static bool is_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu(void *user, const struct addr *l, const struct addr *r)
{
	return 1500;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t resident_bytes(void)
{
	unsigned long long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (f == NULL || fscanf(f, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	if (f != NULL)
		fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void input(struct tcp_stack *s, struct rte_mempool *pool, const struct kit_segment *seg,
	const struct addr *remote, uint64_t now_us)
{
	uint8_t b[128];
	const size_t n = kit_encode(seg, remote, &local, b);
	struct rte_mbuf *m = kit_mbuf(pool, bytes_of(b, n), 0);
	const struct tcp_arrival a = {local, *remote, true, 0};
	const uint64_t start = cpu_ns();
	tcp_input(s, m, &a, now_us);
	tcp_tick(s, now_us);
	tcp_output(s, now_us);
	const uint64_t took = cpu_ns() - start;
	calls++;
	total_ns += took;
	over += took > 100000;
	longest_ns = took > longest_ns ? took : longest_ns;
}

static bool take(struct tcp_stack *s, struct kit_segment *got)
{
	struct tcp_departure d;
	if (tcp_take(s, &d, 1) == 0)
		return false;
	const bool is_good =
		kit_decode(got, &d.local, &d.remote, bytes_of(rte_pktmbuf_mtod(d.m, void *), d.m->data_len));
	rte_pktmbuf_free(d.m);
	return is_good;
}

static struct kit_segment segment_of(uint32_t i, struct addr *remote)
{
	addr_parse("2001:db8:1::", remote);
	remote->b[13] = (uint8_t)(i >> 16), remote->b[14] = (uint8_t)(i >> 8), remote->b[15] = (uint8_t)i;
	return (struct kit_segment){.from = (uint16_t)(1024 + i % 50000), .to = 25, .seq = i, .window = 512,
		.wscale = -1, .has_ts = true, .tsval = i};
}

static bool open_one(struct tcp_stack *s, struct rte_mempool *pool, uint32_t i, uint64_t now_us)
{
	struct addr remote;
	uint32_t events;
	struct kit_segment got, seg = segment_of(i, &remote);
	seg.flags = KIT_SYN;
	seg.mss = 1440;
	seg.wscale = 7;
	input(s, pool, &seg, &remote, now_us);
	if (!take(s, &got))
		return false;
	seg = segment_of(i, &remote);
	seg.flags = KIT_ACK;
	seg.seq++;
	seg.ack = got.seq + 1;
	seg.tsecr = got.tsval;
	input(s, pool, &seg, &remote, now_us);
	return tcp_next_event(s, &events) != NULL;
}

/* An ACK for what was never sent: looked up, judged, counted, and rarely answered. */
static void touch_one(struct tcp_stack *s, struct rte_mempool *pool, uint32_t i, uint64_t now_us)
{
	struct addr remote;
	struct kit_segment got, seg = segment_of(i, &remote);
	seg.flags = KIT_ACK;
	seg.seq++;
	input(s, pool, &seg, &remote, now_us);
	take(s, &got);
}

static void report(const char *what)
{
	printf("%s: %u calls of %.2f us, the longest %.1f us, %u of more than 100 us\n", what, calls,
		(double)total_ns / 1000 / calls, (double)longest_ns / 1000, over);
	calls = over = 0;
	longest_ns = total_ns = 0;
}

int main(int argc, char **argv)
{
	const uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
	kit_start();
	struct rte_mempool *pool = kit_pool("data", 255), *control = kit_pool("control", 255);
	struct tcp_config config = {
		.connections_max = count,
		.half_open_max = count / 4 + 1,
		.time_wait_max = 2 * count,
		.receive_bytes_max = 65536,
		.send_bytes_max = 65536,
		.buffer_bytes_max = 1 << 20,
		.pool = pool,
		.control_pool = control,
		.secret = {1},
		.is_ours = is_ours,
		.mtu = mtu,
	};
	const uint64_t before = resident_bytes();
	uint64_t now_us = 1000000000;
	struct tcp_stack *s = tcp_stack_create(&config, now_us);
	addr_parse("2001:db8::1", &local);
	if (s == NULL || tcp_listen(s, &local, 25, 0) != 0)
		return 1;
	const uint64_t created = resident_bytes();
	for (uint32_t i = 0; i < count; i++, now_us += 10)
		if (!open_one(s, pool, i, now_us)) {
			printf("connection %u did not open\n", i);
			return 1;
		}
	const double each = (double)(resident_bytes() - created) / count;
	printf("%u connections; resident: %.1f MiB by creation, %.0f bytes a connection\n", count,
		(double)(created - before) / (1 << 20), each);
	report("growing");
	for (uint32_t i = 0; i < count; i++, now_us += 10)
		touch_one(s, pool, i, now_us);
	report("not growing");
	tcp_stack_destroy(s);
	kit_stop();
	return 0;
}
