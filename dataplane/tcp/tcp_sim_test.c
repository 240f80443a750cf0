// SPDX-License-Identifier: Apache-2.0
/* Two stacks and a bad link between them, in virtual time: each seed is one history, and can be run alone
 * (tcp_sim_test SEED). What is written on one side is read on the other, byte for byte, whatever the link does;
 * then both sides close, and every mbuf is back in its pool. */
#include "dataplane/tcp/tcp_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define FLIGHTS_MAX 4096
#define SEEDS	    400
#define HOUR_US	    3600000000ull

/* A segment on the link, or an mbuf that a driver has not let go of yet. */
struct flight {
	uint64_t due_us;
	struct rte_mbuf *m;
	unsigned to; /* the side; 2: nobody, a driver's reference that ends */
	struct addr source, destination;
};

/* What one end does. */
struct end {
	struct tcp_stack *stack;
	struct addr addr;
	struct rte_mempool *pool, *control;
	struct tcp_conn *conn;
	uint64_t to_write, written, to_read, has_read;
	bool opened, fin_seen, ended;
	uint64_t reads_again_us;
	enum tcp_end reason;
};

struct sim {
	uint64_t random, now_us;
	struct end ends[2];
	struct rte_mempool *wire;
	struct flight flights[FLIGHTS_MAX];
	unsigned flight_count;
	/* per thousand */
	unsigned loss, duplication, corruption, reorder, chaining;
	uint64_t delay_us;
	bool slow_reader, starve;
};

static struct rte_mempool *pools[5]; /* data and control of both ends, the wire */

static uint32_t draw(struct sim *s, uint32_t below)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return below == 0 ? 0 : (uint32_t)((s->random * 0x2545f4914f6cdd1dull) >> 33) % below;
}

static bool chance(struct sim *s, unsigned per_thousand)
{
	return draw(s, 1000) < per_thousand;
}

/* The stream that `end` writes, at any place. */
static uint8_t stream_byte(unsigned end, uint64_t at)
{
	uint64_t x = (at / 7 + 1) * 0x9e3779b97f4a7c15ull + end * 77;
	return (uint8_t)(x >> (8 * (at % 7)));
}

static bool all_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu_1500(void *user, const struct addr *l, const struct addr *r)
{
	return 1500;
}

static void end_open(struct sim *s, unsigned i, bool ipv6)
{
	struct end *e = &s->ends[i];
	static const char *const addrs[2][2] = {{"192.0.2.1", "198.51.100.2"}, {"2001:db8::1", "2001:db8:1::2"}};
	assert_true(addr_parse(addrs[ipv6][i], &e->addr));
	e->pool = pools[2 * i];
	e->control = pools[2 * i + 1];
	struct tcp_config config = {
		.connections_max = 4,
		.half_open_max = 2,
		.time_wait_max = 4,
		.receive_bytes_max = 2000 + draw(s, 3) * 60000,
		.send_bytes_max = 3000 + draw(s, 3) * 50000,
		.buffer_bytes_max = 1500 * 2304,
		.pool = e->pool,
		.control_pool = e->control,
		.is_ours = all_ours,
		.mtu = mtu_1500,
	};
	for (unsigned b = 0; b < 16; b++)
		config.secret[b] = (uint8_t)draw(s, 256);
	e->stack = tcp_stack_create(&config, s->now_us);
	assert_non_null(e->stack);
	e->to_write = draw(s, 4) == 0 ? draw(s, 10) : draw(s, 200000);
}

static struct sim *sim_create(uint64_t seed)
{
	struct sim *s = calloc(1, sizeof *s);
	s->random = (seed + 1) * 0x9e3779b97f4a7c15ull;
	s->now_us = 1000000 + draw(s, 2000000000) * 4000ull; /* sequence numbers anywhere, wraps as well */
	s->wire = pools[4];
	s->loss = chance(s, 300) ? 0 : draw(s, 120);
	s->duplication = chance(s, 500) ? 0 : draw(s, 100);
	s->corruption = chance(s, 500) ? 0 : draw(s, 50);
	s->reorder = chance(s, 400) ? 0 : draw(s, 300);
	s->chaining = chance(s, 500) ? 0 : draw(s, 1000);
	s->delay_us = 10 + draw(s, 100000);
	s->slow_reader = chance(s, 300);
	s->starve = chance(s, 150);
	const bool ipv6 = chance(s, 500);
	for (unsigned i = 0; i < 2; i++)
		end_open(s, i, ipv6);
	s->ends[0].to_read = s->ends[1].to_write;
	s->ends[1].to_read = s->ends[0].to_write;
	return s;
}

static void fly(struct sim *s, struct flight f)
{
	if (s->flight_count == FLIGHTS_MAX)
		rte_pktmbuf_free(f.m);
	else
		s->flights[s->flight_count++] = f;
}

/* The wire's own copy of the bytes. */
static struct rte_mbuf *wire_copy(struct sim *s, const struct rte_mbuf *m)
{
	uint8_t b[2048];
	assert_int_equal(m->nb_segs, 1);
	memcpy(b, rte_pktmbuf_mtod(m, void *), m->data_len);
	if (chance(s, s->corruption))
		b[draw(s, m->data_len)] ^= (uint8_t)(1 << draw(s, 8));
	return kit_mbuf(s->wire, bytes_of(b, m->data_len), chance(s, s->chaining) ? 60 + draw(s, 900) : 0);
}

static void transmit(struct sim *s, unsigned from, const struct tcp_departure *d)
{
	struct kit_segment seg;
	assert_true(kit_decode(&seg, &d->local, &d->remote,
		bytes_of(rte_pktmbuf_mtod(d->m, void *), d->m->data_len)));
	assert_int_equal(d->m->pkt_len, d->m->data_len);
	assert_true(d->m->pkt_len <= 1480);
	for (unsigned copies = chance(s, s->loss) ? 0 : chance(s, s->duplication) ? 2 : 1; copies > 0; copies--) {
		uint64_t late = chance(s, s->reorder) ? draw(s, (uint32_t)s->delay_us * 2) : 0;
		struct rte_mbuf *m = wire_copy(s, d->m);
		if (m != NULL)
			fly(s, (struct flight){s->now_us + s->delay_us + late, m, !from, d->local, d->remote});
	}
	/* IP and Ethernet go in front, as a port would have them; the driver lets go when it likes. */
	assert_non_null(rte_pktmbuf_prepend(d->m, 14 + 40));
	memset(rte_pktmbuf_mtod(d->m, void *), 0xee, 14 + 40);
	fly(s, (struct flight){s->now_us + draw(s, 400000), d->m, 2});
}

static void read_some(struct sim *s, unsigned i)
{
	struct end *e = &s->ends[i];
	struct bytes b;
	if (e->conn == NULL || s->now_us < e->reads_again_us)
		return;
	while ((b = tcp_peek(e->conn)).n > 0) {
		size_t n = 1 + draw(s, (uint32_t)b.n);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(b.at[k], stream_byte(!i, e->has_read + k));
		e->has_read += n;
		assert_true(e->has_read <= e->to_read);
		tcp_consume(e->conn, n);
		if (s->slow_reader && chance(s, 300)) {
			e->reads_again_us = s->now_us + draw(s, 3000000);
			return;
		}
	}
}

static void write_some(struct sim *s, unsigned i)
{
	struct end *e = &s->ends[i];
	uint8_t b[4096];
	if (e->conn == NULL || e->ended)
		return;
	while (e->written < e->to_write) {
		size_t n = 1 + draw(s, sizeof b);
		if (n > e->to_write - e->written)
			n = e->to_write - e->written;
		for (size_t k = 0; k < n; k++)
			b[k] = stream_byte(i, e->written + k);
		size_t taken = tcp_write(e->conn, bytes_of(b, n));
		assert_true(taken <= n);
		e->written += taken;
		if (taken < n)
			return;
	}
	if (e->opened) /* in SYN-SENT it would be the end of it */
		tcp_close(e->conn);
}

static void handle_events(struct sim *s, unsigned i)
{
	struct end *e = &s->ends[i];
	struct tcp_conn *c;
	uint32_t events;
	while ((c = tcp_next_event(e->stack, &events)) != NULL) {
		if (events & TCP_EVENT_ACCEPTED) {
			assert_int_equal(tcp_tag(c), 7);
			e->conn = c;
		}
		assert_ptr_equal(c, e->conn);
		if (events & (TCP_EVENT_ACCEPTED | TCP_EVENT_CONNECTED))
			e->opened = true;
		if (events & TCP_EVENT_FIN)
			e->fin_seen = true;
		if (events & TCP_EVENT_ENDED) {
			e->reads_again_us = 0;
			s->slow_reader = false;
			read_some(s, i);
			e->reason = tcp_end_reason(c);
			e->ended = true;
			e->conn = NULL;
		}
	}
	read_some(s, i);
	write_some(s, i);
}

static void turn(struct sim *s)
{
	struct tcp_departure d[32];
	for (unsigned i = 0; i < 2; i++) {
		unsigned n;
		tcp_tick(s->ends[i].stack, s->now_us);
		handle_events(s, i);
		tcp_output(s->ends[i].stack, s->now_us);
		while ((n = tcp_take(s->ends[i].stack, d, 32)) > 0)
			for (unsigned k = 0; k < n; k++)
				transmit(s, i, &d[k]);
	}
}

static void deliver(struct sim *s)
{
	for (unsigned k = 0; k < s->flight_count;) {
		struct flight f = s->flights[k];
		if (f.due_us > s->now_us) {
			k++;
			continue;
		}
		s->flights[k] = s->flights[--s->flight_count];
		if (f.to == 2) {
			rte_pktmbuf_free(f.m);
			continue;
		}
		const struct tcp_arrival a = {f.destination, f.source, false, 0};
		tcp_input(s->ends[f.to].stack, f.m, &a, s->now_us);
	}
}

static uint64_t next_time(const struct sim *s)
{
	uint64_t next = UINT64_MAX;
	for (unsigned k = 0; k < s->flight_count; k++)
		if (s->flights[k].due_us < next)
			next = s->flights[k].due_us;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t due = tcp_next_due_us(s->ends[i].stack);
		next = due < next ? due : next;
		if (s->ends[i].conn != NULL && s->ends[i].reads_again_us > s->now_us &&
			s->ends[i].reads_again_us < next)
			next = s->ends[i].reads_again_us;
	}
	return next > s->now_us ? next : s->now_us + 1;
}

#define HELD_MAX 2048

/* Now and then all the control or data buffers of one end are gone for a while. */
static void starve(struct sim *s, struct rte_mbuf *held[HELD_MAX], unsigned *count)
{
	if (*count != 0) {
		for (unsigned k = 0; k < *count; k++)
			rte_pktmbuf_free(held[k]);
		*count = 0;
	} else if (s->starve && chance(s, 20)) {
		const struct end *e = &s->ends[draw(s, 2)];
		struct rte_mempool *pool = chance(s, 500) ? e->control : e->pool;
		while (*count < HELD_MAX && (held[*count] = rte_pktmbuf_alloc(pool)) != NULL)
			++*count;
	}
}

static void sim_finish(struct sim *s)
{
	/* Time passes until all waits are over; then nothing is held. */
	for (unsigned n = 0; n < 3; n++) {
		for (unsigned i = 0; i < 2; i++)
			tcp_tick(s->ends[i].stack, s->now_us += HOUR_US);
		turn(s);
		deliver(s);
	}
	s->now_us += HOUR_US;
	deliver(s);
	for (unsigned i = 0; i < 2; i++) {
		struct tcp_stats stats;
		tcp_get_stats(s->ends[i].stack, &stats);
		assert_int_equal(stats.connections, 0);
		assert_int_equal(stats.half_open, 0);
		assert_int_equal(stats.time_wait, 0);
		assert_int_equal(stats.buffered_bytes, 0);
		assert_true(tcp_next_due_us(s->ends[i].stack) == UINT64_MAX);
		tcp_stack_destroy(s->ends[i].stack);
	}
	for (unsigned p = 0; p < 5; p++)
		assert_true(rte_mempool_full(pools[p]));
	free(s);
}

static void explain(const struct sim *s, unsigned i, uint64_t seed)
{
	const struct end *e = &s->ends[i];
	struct tcp_stats stats;
	print_error("seed %lu, end %u: ended %d (%s), read %lu of %lu, wrote %lu of %lu\n", (unsigned long)seed, i,
		e->ended, tcp_end_name(e->reason), (unsigned long)e->has_read, (unsigned long)e->to_read,
		(unsigned long)e->written, (unsigned long)e->to_write);
	tcp_get_stats(e->stack, &stats);
	for (unsigned d = 0; d < tcp_drop_count(); d++)
		if (stats.drops[d] != 0)
			print_error("  dropped %s: %lu\n", tcp_drop_name(d), (unsigned long)stats.drops[d]);
	if (e->conn == NULL)
		return;
	struct tcp_info info;
	tcp_get_info(e->conn, &info);
	print_error("  %s rto %u cwnd %u ssthresh %u snd_wnd %u rcv_wnd %u mss %u queues %lu %lu\n", info.state,
		info.rto_us, info.cwnd, info.ssthresh, info.snd_wnd, info.rcv_wnd, info.mss,
		(unsigned long)info.send_queue, (unsigned long)info.receive_queue);
}

static void run(uint64_t seed)
{
	struct sim *s = sim_create(seed);
	struct rte_mbuf *held[HELD_MAX];
	unsigned held_count = 0;
	int error;
	assert_int_equal(tcp_listen(s->ends[1].stack, &s->ends[1].addr, 25, 7), 0);
	s->ends[0].conn = tcp_connect(s->ends[0].stack, &s->ends[0].addr, &s->ends[1].addr, 25, s, &error,
		s->now_us);
	assert_non_null(s->ends[0].conn);
	const uint64_t end_us = s->now_us + 10 * HOUR_US;
	unsigned steps = 0;
	while (!(s->ends[0].ended && s->ends[1].ended) && s->now_us < end_us) {
		starve(s, held, &held_count);
		turn(s);
		s->now_us = next_time(s);
		deliver(s);
		assert_true(++steps < 2000000);
	}
	for (unsigned k = 0; k < held_count; k++)
		rte_pktmbuf_free(held[k]);
	for (unsigned i = 0; i < 2; i++) {
		struct end *e = &s->ends[i];
		if (!e->ended || e->reason != TCP_END_CLOSED || e->has_read != e->to_read)
			explain(s, i, seed), explain(s, !i, seed);
		assert_true(e->ended);
		assert_int_equal(e->reason, TCP_END_CLOSED);
		assert_int_equal(e->has_read, e->to_read);
		assert_int_equal(e->written, e->to_write);
	}
	sim_finish(s);
}

static uint64_t only_seed = UINT64_MAX;

static void streams_arrive_whole_over_a_bad_link(void **state)
{
	if (only_seed != UINT64_MAX) {
		run(only_seed);
		return;
	}
	for (uint64_t seed = 0; seed < SEEDS; seed++)
		run(seed);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_arrive_whole_over_a_bad_link),
	};
	if (count > 1)
		only_seed = strtoull(arguments[1], NULL, 10);
	kit_start();
	for (unsigned p = 0; p < 5; p++) {
		static const char *const names[] = {"data0", "control0", "data1", "control1", "wire"};
		pools[p] = kit_pool(names[p], p == 4 ? 8191 : p % 2 ? 511 : 2047);
	}
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	kit_stop();
	return failed;
}
