// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim_run.c: one history from its start to its end. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LISTEN_PORT  25
#define FAR_PORT     20000 /* of simultaneous opens: the link translates it */
#define STEPS_MAX    1500000
/* The longest that a history may take: slow readers of 200 kB at 4 s a pause, and time-outs of a minute. */
#define PATIENCE_US  (6 * SIM_HOUR_US)

static struct rte_mempool *pools[5]; /* data and control of both sides, the wire */
static struct flight flights[SIM_FLIGHTS_MAX];

void sim_start(void)
{
	static const char *const names[] = {"data0", "control0", "data1", "control1", "wire"};
	kit_start();
	for (unsigned p = 0; p < 5; p++)
		pools[p] = kit_pool(names[p], p == 4 ? 8191 : p % 2 ? 511 : 2047);
	sim_stream_init();
}

/* ---- saying what happens ---- */

void sim_trace(const struct sim *s, const char *format, ...)
{
	va_list arguments;
	if (s->trace == NULL)
		return;
	fprintf(s->trace, "%12.6f ", (double)(s->now_us - s->start_us) / 1e6);
	va_start(arguments, format);
	vfprintf(s->trace, format, arguments);
	va_end(arguments);
	fputc('\n', s->trace);
}

/* What the connection itself thinks. */
static void explain_conn(const struct tcp_conn *c)
{
	static const char *const phases[] = {"", " recovery", " loss", " cwr"};
	fprintf(stderr, "    una %u pipe %u nxt %u end %u%s%s%s%s timers", c->snd_una - c->iss, tcp_pipe(c),
		c->snd_max - c->iss, c->send_end - c->iss, c->is_dirty ? " dirty" : "",
		c->is_persisting ? " persisting" : "", c->write_waits ? " write-waits" : "",
		phases[c->phase]);
	for (unsigned i = 0; i < TCP_TIMERS; i++)
		if (c->due_us[i] != UINT64_MAX)
			fprintf(stderr, " %u: %+.3f", i, ((double)c->due_us[i] - (double)c->stack->now_us) / 1e6);
	fprintf(stderr, ", held %lu of %lu\n", (unsigned long)c->stack->stats.buffered_bytes,
		(unsigned long)c->stack->config.buffer_bytes_max);
}

static void explain(const struct sim *s, const struct half *h)
{
	fprintf(stderr, "  side %u port %u: %s, wrote %u of %u, read %u of %u\n", h->side, h->port,
		h->ended ? tcp_end_name(h->reason) : h->opened ? "open" : "not open", h->written, h->to_write,
		h->has_read, h->talk->half[!h->side].to_write);
	if (h->conn == NULL)
		return;
	struct tcp_info i;
	tcp_get_info(h->conn, &i);
	fprintf(stderr, "    %s rto %u cwnd %u ssthresh %u snd_wnd %u rcv_wnd %u mss %u retransmits %lu queues %zu %zu\n",
		i.state, i.rto_us, i.cwnd, i.ssthresh, i.snd_wnd, i.rcv_wnd, i.mss, (unsigned long)i.retransmits,
		i.send_queue, i.receive_queue);
	explain_conn(h->conn);
}

static void explain_drops(const struct sim *s, unsigned side)
{
	struct tcp_stats stats;
	if (s->sides[side].stack == NULL)
		return;
	tcp_get_stats(s->sides[side].stack, &stats);
	const uint64_t due = tcp_next_due_us(s->sides[side].stack);
	fprintf(stderr, "  side %u: due %+.6f in %lu out %lu", side,
		due == UINT64_MAX ? 1e9 : ((double)due - (double)sim_now(s, side)) / 1e6,
		(unsigned long)stats.segments_in, (unsigned long)stats.segments_out);
	for (unsigned d = 0; d < tcp_drop_count(); d++)
		if (stats.drops[d] != 0)
			fprintf(stderr, " %s %lu", tcp_drop_name(d), (unsigned long)stats.drops[d]);
	fputc('\n', stderr);
}

void sim_fail(const struct sim *s, const char *format, ...)
{
	va_list arguments;
	fprintf(stderr, "seed %llu at %.6f s: ", (unsigned long long)s->o.seed,
		(double)(s->now_us - s->start_us) / 1e6);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	for (unsigned i = 0; i < s->o.talks; i++)
		for (unsigned side = 0; side < 2; side++)
			explain(s, &s->talks[i].half[side]);
	for (unsigned side = 0; side < 2; side++)
		explain_drops(s, side);
	fflush(stderr);
	if (s->trace != NULL)
		fflush(s->trace);
	_exit(2);
}

void sim_check(struct sim *s, unsigned side, const char *after)
{
	if (s->is_blind)
		return;
	const char *why = tcp_validate(s->sides[side].stack, &s->sides[side].watch);
	if (why != NULL)
		sim_fail(s, "side %u after %s: %s", side, after, why);
}

/* ---- the start ---- */

struct half *sim_half(struct sim *s, unsigned side, uint16_t local_port, uint16_t remote_port)
{
	for (unsigned i = 0; i < s->o.talks; i++) {
		struct talk *t = &s->talks[i];
		const uint16_t port = s->o.simultaneous || side == 0 ? local_port : remote_port;
		if (port != 0 && t->half[s->o.simultaneous ? side : 0].port == port)
			return &t->half[side];
	}
	return NULL;
}

static bool all_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu(void *user, const struct addr *l, const struct addr *r)
{
	return *(const uint16_t *)user;
}

static struct tcp_stack *create_stack(struct sim *s, unsigned i, uint64_t now_us)
{
	static uint16_t mtus[2];
	struct side *side = &s->sides[i];
	mtus[i] = (uint16_t)(i == 0 ? s->o.mtu0 : s->o.mtu1);
	struct tcp_config config = {
		.connections_max = SIM_TALKS_MAX + 2,
		.half_open_max = i == 0 ? SIM_TALKS_MAX + 2 : s->o.half_open,
		.time_wait_max = SIM_TALKS_MAX,
		.receive_bytes_max = i == 0 ? s->o.receive0 : s->o.receive1,
		.send_bytes_max = i == 0 ? s->o.send0 : s->o.send1,
		.buffer_bytes_max = (i == 0 ? s->o.buffers0 : s->o.buffers1) * 2304ull,
		.congestion_control = s->o.reno >> i & 1 ? TCP_NEWRENO : TCP_CUBIC,
		.ecn = s->o.ecn >> i & 1,
		.is_keepalive_on = s->o.keepalive_ms != 0,
		.keepalive_idle_us = s->o.keepalive_ms * 1000ull,
		.keepalive_interval_us = SIM_SECOND_US,
		/* As many as are surely enough, or few where the other side will have gone. */
		.keepalive_probes = s->o.vanish_ms != 0 ? 5 : UINT8_MAX,
		.pool = side->pool,
		.control_pool = side->control,
		.is_ours = all_ours,
		.mtu = mtu,
		.user = &mtus[i],
	};
	uint64_t r = sim_random_init(s->o.seed, 10 + i);
	for (unsigned b = 0; b < 16; b++)
		config.secret[b] = (uint8_t)sim_draw(&r, 256);
	struct tcp_stack *stack = tcp_stack_create(&config, now_us);
	if (stack == NULL)
		sim_fail(s, "no stack: %s", "the options are out of range");
	return stack;
}

/* Which tuple side 0 will use first, and side 1 with it. */
static struct tcp_tuple first_tuple(struct sim *s, unsigned side, uint64_t now_us)
{
	int error;
	struct tcp_stack *scratch = create_stack(s, 0, now_us);
	struct tcp_conn *c = tcp_connect(scratch, &s->sides[0].addr, &s->sides[1].addr, LISTEN_PORT, NULL, &error,
		now_us);
	const struct tcp_tuple t = c->tuple;
	tcp_stack_destroy(scratch);
	if (side == 0)
		return t;
	return (struct tcp_tuple){t.remote, t.local, t.remote_port, t.local_port};
}

/* Sets a side's clock so that its numbers wrap soon: sequence numbers step every 4 us, timestamps every ms. */
static void wrap_soon(struct sim *s, unsigned i, uint32_t what)
{
	struct side *side = &s->sides[i];
	const uint64_t now_us = s->now_us + side->skew_us;
	const struct tcp_tuple t = first_tuple(s, i, now_us);
	struct tcp_stack *scratch = create_stack(s, i, now_us);
	if (what == 1)
		side->skew_us += 4ull * (0u - tcp_isn(scratch, &t) - sim_draw(&s->random, 40000));
	else if (what == 2)
		side->skew_us += 1000ull * (0u - tcp_ts_now(scratch, tcp_ts_offset(scratch, &t)) -
			sim_draw(&s->random, 3000));
	tcp_stack_destroy(scratch);
}

static void side_start(struct sim *s, unsigned i)
{
	static const char *const addrs[2][2] = {{"192.0.2.1", "198.51.100.2"}, {"2001:db8::1", "2001:db8:1::2"}};
	struct side *side = &s->sides[i];
	side->pool = pools[2 * i];
	side->control = pools[2 * i + 1];
	if (!addr_parse(addrs[s->o.ipv6 != 0][i], &side->addr))
		abort();
	side->skew_us = sim_draw(&s->random, 2000000000) * 4000ull;
}

static void talks_start(struct sim *s)
{
	if (s->o.talks == 0 || s->o.talks > SIM_TALKS_MAX)
		s->o.talks = 1;
	for (unsigned i = 0; i < s->o.talks; i++)
		for (unsigned side = 0; side < 2; side++)
			s->talks[i].half[side] = (struct half){
				.sim = s,
				.talk = &s->talks[i],
				.side = side,
				.base = sim_draw(&s->random, SIM_STREAM),
				.to_write = side == 0 ? s->o.write0 : s->o.write1,
			};
}

static void connect_half(struct sim *s, struct half *h, uint16_t remote_port)
{
	int error;
	const struct addr *local = &s->sides[h->side].addr, *remote = &s->sides[!h->side].addr;
	h->conn = tcp_connect(s->sides[h->side].stack, local, remote, remote_port, h, &error, sim_now(s, h->side));
	if (h->conn == NULL)
		sim_fail(s, "side %u cannot connect: %d", h->side, error);
	struct addr l, r;
	tcp_endpoints(h->conn, &l, &h->port, &r, &h->remote_port);
	sim_check(s, h->side, "tcp_connect");
}

static void open_all(struct sim *s)
{
	if (!s->o.simultaneous && tcp_listen(s->sides[1].stack, &s->sides[1].addr, LISTEN_PORT, 7) != 0)
		sim_fail(s, "side 1 cannot listen on %u", LISTEN_PORT);
	for (unsigned i = 0; i < s->o.talks; i++) {
		connect_half(s, &s->talks[i].half[0],
			s->o.simultaneous ? (uint16_t)(FAR_PORT + i) : LISTEN_PORT);
		if (s->o.simultaneous)
			connect_half(s, &s->talks[i].half[1], (uint16_t)(FAR_PORT + 100 + i));
	}
}

static void start(struct sim *s)
{
	s->random = sim_random_init(s->o.seed, 2);
	s->now_us = s->start_us = 1000000;
	s->wire = pools[4];
	s->flights = flights;
	s->blackout_us = s->now_us + sim_draw(&s->random, 5000000);
	s->mutant_at = s->now_us + sim_draw(&s->random, 1000000);
	for (unsigned i = 0; i < 2; i++)
		side_start(s, i);
	wrap_soon(s, 0, s->o.wrap0);
	wrap_soon(s, 1, s->o.wrap1);
	for (unsigned i = 0; i < 2; i++)
		s->sides[i].stack = create_stack(s, i, sim_now(s, i));
	talks_start(s);
	open_all(s);
}

/* ---- the loop ---- */

static void side_turn(struct sim *s, unsigned i)
{
	struct tcp_departure d[32];
	struct side *side = &s->sides[i];
	unsigned n;
	side->has_news = s->now_us < side->polls_at_us; /* whatever happened now, it sees at its next look */
	if (side->has_news)
		return;
	side->polls_at_us = s->now_us + s->o.poll_us;
	tcp_tick(side->stack, sim_now(s, i));
	sim_check(s, i, "tcp_tick");
	sim_user_turn(s, i);
	sim_check(s, i, "the user's turn");
	tcp_output(side->stack, sim_now(s, i));
	sim_check(s, i, "tcp_output");
	while ((n = tcp_take(side->stack, d, 32)) > 0)
		for (unsigned k = 0; k < n; k++)
			sim_transmit(s, i, &d[k]);
}

static uint64_t side_due_us(const struct sim *s, unsigned i)
{
	const struct side *side = &s->sides[i];
	const uint64_t due = tcp_next_due_us(side->stack);
	if (due == UINT64_MAX)
		return UINT64_MAX;
	const uint64_t at = due > side->skew_us ? due - side->skew_us : 0;
	return at > side->polls_at_us ? at : side->polls_at_us;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t next_time(const struct sim *s)
{
	uint64_t next = sim_user_due_us(s);
	if (s->flight_count > 0)
		next = sooner(next, s->flights[0].due_us);
	for (unsigned i = 0; i < 2; i++) {
		next = sooner(next, side_due_us(s, i));
		if (s->sides[i].has_news)
			next = sooner(next, s->sides[i].polls_at_us);
	}
	return next > s->now_us ? next : s->now_us + 1;
}

/* Now and then all the control or data buffers of one side are gone for a while. */
static void starve(struct sim *s)
{
	if (s->starved_count != 0) {
		while (s->starved_count > 0)
			rte_pktmbuf_free(s->starved[--s->starved_count]);
	} else if (sim_chance(&s->random, s->o.starve)) {
		const struct side *side = &s->sides[sim_draw(&s->random, 2)];
		struct rte_mempool *pool = sim_chance(&s->random, 500) ? side->control : side->pool;
		struct rte_mbuf *m;
		while (s->starved_count < SIM_HELD_MAX && (m = rte_pktmbuf_alloc(pool)) != NULL)
			s->starved[s->starved_count++] = m;
	}
}

/* The link is cut: whatever is open has to find out by itself. */
static void vanish_if_due(struct sim *s)
{
	if (s->o.vanish_ms == 0 || s->has_vanished || s->now_us < s->start_us + s->o.vanish_ms * 1000ull)
		return;
	s->has_vanished = true;
	sim_trace(s, "the link is cut");
	for (unsigned i = 0; i < s->o.talks; i++) {
		s->talks[i].is_aborted = true; /* what was not read need not be */
		s->talks[i].abandoned_us = UINT64_MAX / 2; /* but nobody helps */
	}
}

static bool is_over(const struct sim *s)
{
	for (unsigned i = 0; i < s->o.talks; i++)
		if (!sim_talk_is_over(&s->talks[i]))
			return false;
	return true;
}

static void loop(struct sim *s)
{
	for (unsigned steps = 0; !is_over(s); steps++) {
		if (s->now_us > s->start_us + PATIENCE_US)
			sim_fail(s, "not done after %llu hours", PATIENCE_US / SIM_HOUR_US);
		if (steps > STEPS_MAX)
			sim_fail(s, "not done after %u steps", steps);
		starve(s);
		vanish_if_due(s);
		for (unsigned i = 0; i < 2; i++)
			side_turn(s, i);
		sim_mutate(s);
		if (is_over(s))
			return;
		const uint64_t next = next_time(s);
		if (next == UINT64_MAX)
			sim_fail(s, "%s", "nothing is due, and not all is done");
		s->now_us = next;
		sim_deliver(s);
	}
}

/* ---- the end ---- */

/* Where memory is scarce a side may give up a talk that has not moved for seconds, as a long pause of the reader's
 * beside a lost window update can make it. */
static bool is_given_up(const struct sim *s, const struct talk *t)
{
	const bool is_scarce = s->o.buffers0 < 1500 || s->o.buffers1 < 1500;
	return is_scarce && (t->half[0].reason == TCP_END_NO_MEMORY || t->half[1].reason == TCP_END_NO_MEMORY);
}

static void judge(struct sim *s, const struct talk *t)
{
	if (is_given_up(s, t))
		return;
	for (unsigned i = 0; i < 2; i++) {
		const struct half *h = &t->half[i];
		if (t->is_aborted)
			continue; /* what was read was right; more was not promised */
		if (h->reason != TCP_END_CLOSED)
			sim_fail(s, "side %u ended: %s", i, tcp_end_name(h->reason));
		if (h->has_read != t->half[!i].to_write || h->written != h->to_write)
			sim_fail(s, "side %u has read %u of %u", i, h->has_read, t->half[!i].to_write);
	}
}

/* Time passes until all waits are over; then nothing is held and nothing is due. */
static void settle(struct sim *s)
{
	while (s->starved_count > 0)
		rte_pktmbuf_free(s->starved[--s->starved_count]);
	for (unsigned n = 0; n < 4; n++) {
		s->now_us += SIM_HOUR_US;
		sim_deliver(s);
		for (unsigned i = 0; i < 2; i++)
			side_turn(s, i);
	}
	s->now_us += SIM_HOUR_US;
	sim_link_free(s);
	for (unsigned i = 0; i < 2; i++) {
		tcp_tick(s->sides[i].stack, sim_now(s, i));
		sim_user_turn(s, i);
		sim_check(s, i, "the end");
	}
}

/* Where nothing else lowers a window, marks must have, and each once at most: a lost CWR leads to more. */
static void marks_were_heard(const struct sim *s, unsigned sender, const struct tcp_stats *stats)
{
	const struct sim_options *o = &s->o;
	const uint32_t other = o->loss + o->burst + o->blackout_ms + o->reorder + o->rate + o->corruption + o->icmp + o->forge +
		o->path_mtu + o->starve + o->abort_after + o->vanish_ms;
	if (other != 0)
		return;
	if (s->marks[!sender] >= 5 && stats->ecn_reduced == 0)
		sim_fail(s, "side %u has not heard of %lu marks", sender, (unsigned long)s->marks[!sender]);
	if (stats->ecn_reduced > s->marks[!sender])
		sim_fail(s, "side %u has lowered windows %lu times for %lu marks", sender, (unsigned long)stats->ecn_reduced,
			(unsigned long)s->marks[!sender]);
}

static void nothing_is_left(struct sim *s, unsigned i)
{
	struct tcp_stats stats;
	tcp_get_stats(s->sides[i].stack, &stats);
	marks_were_heard(s, i, &stats);
	if (stats.connections != 0 || stats.half_open != 0 || stats.time_wait != 0 || stats.buffered_bytes != 0)
		sim_fail(s, "side %u keeps %lu connections, %lu half-open, %lu waiting, %lu bytes", i,
			(unsigned long)stats.connections, (unsigned long)stats.half_open,
			(unsigned long)stats.time_wait, (unsigned long)stats.buffered_bytes);
	if (tcp_next_due_us(s->sides[i].stack) != UINT64_MAX)
		sim_fail(s, "side %u has timers left", i);
	tcp_stack_destroy(s->sides[i].stack);
	s->sides[i].stack = NULL;
}

static void finish(struct sim *s)
{
	for (unsigned i = 0; i < s->o.talks; i++)
		judge(s, &s->talks[i]);
	settle(s);
	for (unsigned i = 0; i < 2; i++)
		nothing_is_left(s, i);
	for (unsigned p = 0; p < 5; p++)
		if (!rte_mempool_full(pools[p]))
			sim_fail(s, "%u mbufs of pool %s are missing", rte_mempool_in_use_count(pools[p]),
				pools[p]->name);
}

void sim_run(const struct sim_options *o, const struct sim_mutant *mutant, bool is_blind, FILE *trace,
	struct sim_result *result)
{
	static struct sim s;
	s = (struct sim){.o = *o, .mutant = mutant, .is_blind = is_blind, .trace = trace};
	start(&s);
	loop(&s);
	*result = (struct sim_result){s.segments, s.now_us - s.start_us};
	finish(&s);
}
