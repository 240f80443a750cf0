// SPDX-License-Identifier: Apache-2.0
/* A SYN flood at ten times the rate at which the SYN cache turns over, against a server of known capacity, in virtual time:
 * established connections and new ones go on as if there were none.
 *
 * The capacity is a model: a millisecond is worth so many segments, in or out, whatever they are; what comes when all are
 * used waits in a ring as a port has it, and is lost when that is full. So an answer too many costs others theirs. */
#include "dataplane/tcp/tcp_rig.h"

#define CAPACITY   10	/* segments a millisecond, in and out together */
#define RING	   512	/* received and not looked at yet */
#define DELAY_MS   10	/* one way */
#define HALF_OPEN  512
#define FLOOD_PER_S (10 * HALF_OPEN / 3) /* an entry that is not answered may be pushed out after 3 s */
#define ESTABLISHED 10
#define OPENS_MS   50	/* a new connection each */
#define RUN_MS	   15000

struct flying {
	uint64_t due_ms;
	struct rte_mbuf *m;
	struct addr from, to;
};
struct line { /* first in, first out */
	struct flying all[8192];
	unsigned head, tail;
};
struct siege {
	struct tcp_stack *server, *clients;
	struct addr here, there;
	struct line to_server, to_clients;
	struct tcp_conn *established[ESTABLISHED];
	uint64_t ms, offered, got, opens, opened_in_time, lost;
	int budget;
	uint64_t opened_ms[RUN_MS / OPENS_MS + 1]; /* by connection: when it was begun */
	bool is_accepting_all;
};

static bool all_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}
static uint16_t mtu_1500(void *user, const struct addr *l, const struct addr *r)
{
	return 1500;
}

static struct tcp_stack *create(const struct siege *g, uint8_t secret)
{
	struct tcp_config config = rig_config();
	config.connections_max = 2000;
	config.half_open_max = HALF_OPEN;
	config.time_wait_max = 100;
	config.receive_bytes_max = config.send_bytes_max = 60000;
	config.buffer_bytes_max = 600 * 2304;
	config.is_ours = all_ours;
	config.mtu = mtu_1500;
	config.secret[5] = secret;
	struct tcp_stack *s = tcp_stack_create(&config, g->ms * 1000);
	assert_non_null(s);
	return s;
}

static void put(struct siege *g, struct line *l, struct rte_mbuf *m, const struct addr *from, const struct addr *to)
{
	if (m == NULL || l->tail - l->head >= RING + 1024) {
		g->lost++;
		rte_pktmbuf_free(m);
		return;
	}
	l->all[l->tail++ % 8192] = (struct flying){g->ms + DELAY_MS, m, *from, *to};
}

/* The wire's own copy: the sender keeps its mbuf until it is acknowledged. */
static void put_copy(struct siege *g, struct line *l, const struct tcp_departure *d)
{
	put(g, l, kit_mbuf(rig_pool(false), bytes_of(rte_pktmbuf_mtod(d->m, void *), d->m->data_len), 0), &d->local,
		&d->remote);
	rte_pktmbuf_free(d->m);
}

static struct rte_mbuf *get(struct siege *g, struct line *l, struct tcp_arrival *a)
{
	if (l->head == l->tail || l->all[l->head % 8192].due_ms > g->ms)
		return NULL;
	const struct flying f = l->all[l->head++ % 8192];
	*a = (struct tcp_arrival){f.to, f.from, false, 0};
	return f.m;
}

/* What has come and cannot wait any longer in the ring. */
static void overflow(struct siege *g)
{
	struct line *l = &g->to_server;
	unsigned waiting = 0;
	for (unsigned i = l->head; i != l->tail && l->all[i % 8192].due_ms <= g->ms; i++)
		waiting++;
	for (; waiting > RING; waiting--, g->lost++) /* the newest would be; the oldest are as good for counting */
		rte_pktmbuf_free(l->all[l->head++ % 8192].m);
}

static void flood(struct siege *g)
{
	static const char *const nets[2] = {"203.0.113.1", "2001:db8:f::1"};
	uint8_t b[64];
	struct addr from;
	const uint64_t due = (g->ms + 1) * FLOOD_PER_S / 1000 - g->ms * FLOOD_PER_S / 1000;
	assert_true(addr_parse(nets[rig_is_ipv6], &from));
	for (uint64_t i = 0; i < due; i++) {
		const uint32_t n = (uint32_t)(g->ms * 7 + i);
		from.b[15] = (uint8_t)(1 + n % 250);
		const struct kit_segment syn = {.from = (uint16_t)(1024 + n % 60000), .to = RIG_PORT, .seq = n * 2654435761u,
			.flags = KIT_SYN, .window = 60000, .mss = 1460, .wscale = -1};
		const size_t size = kit_encode(&syn, &from, &g->here, b);
		put(g, &g->to_server, kit_mbuf(rig_pool(false), bytes_of(b, size), 0), &from, &g->here);
	}
}

static void server_events(struct siege *g)
{
	struct tcp_conn *c;
	uint32_t events;
	while ((c = tcp_next_event(g->server, &events)) != NULL) {
		while (tcp_peek(c).n > 0) {
			g->got += tcp_peek(c).n;
			tcp_consume(c, tcp_peek(c).n);
		}
		if (events & TCP_EVENT_FIN)
			tcp_close(c);
	}
}

static void server_turn(struct siege *g)
{
	struct tcp_arrival a;
	struct tcp_departure d;
	struct rte_mbuf *m;
	if ((g->budget += CAPACITY) > 2 * CAPACITY)
		g->budget = 2 * CAPACITY; /* what is not used is gone */
	overflow(g);
	while (g->budget > 0 && (m = get(g, &g->to_server, &a)) != NULL) {
		tcp_input(g->server, m, &a, g->ms * 1000);
		g->budget--;
	}
	tcp_tick(g->server, g->ms * 1000);
	server_events(g);
	tcp_output(g->server, g->ms * 1000);
	for (; tcp_take(g->server, &d, 1) == 1; g->budget--)
		if (addr_equal(&d.remote, &g->there))
			put_copy(g, &g->to_clients, &d);
		else
			rte_pktmbuf_free(d.m); /* to somebody who never asked */
}

static void clients_turn(struct siege *g)
{
	struct tcp_arrival a;
	struct tcp_departure d;
	struct rte_mbuf *m;
	struct tcp_conn *c;
	uint32_t events;
	while ((m = get(g, &g->to_clients, &a)) != NULL)
		tcp_input(g->clients, m, &a, g->ms * 1000);
	tcp_tick(g->clients, g->ms * 1000);
	while ((c = tcp_next_event(g->clients, &events)) != NULL) {
		const uint64_t *begun = tcp_user(c);
		if (events & TCP_EVENT_CONNECTED && begun != NULL) {
			g->opened_in_time += g->ms - *begun <= 3000;
			tcp_close(c);
		}
	}
	tcp_output(g->clients, g->ms * 1000);
	while (tcp_take(g->clients, &d, 1) == 1)
		put_copy(g, &g->to_server, &d);
}

/* A line of 100 bytes each 5 ms on each: with the ACKs about 3 segments a millisecond, 30 % of the capacity. */
static void clients_write(struct siege *g)
{
	uint8_t line[100];
	memset(line, 'x', sizeof line);
	for (unsigned i = 0; i < ESTABLISHED; i++)
		if (g->ms % 5 == i % 5)
			g->offered += tcp_write(g->established[i], bytes_of(line, sizeof line));
}

static struct tcp_conn *open_one(struct siege *g, void *user)
{
	int error;
	struct tcp_conn *c = tcp_connect(g->clients, &g->there, &g->here, RIG_PORT, user, &error, g->ms * 1000);
	assert_non_null(c);
	return c;
}

static void run(struct siege *g, uint64_t ms, bool has_flood, bool has_work)
{
	for (const uint64_t end = g->ms + ms; g->ms < end; g->ms++) {
		if (has_flood)
			flood(g);
		if (has_work) {
			clients_write(g);
			if (g->ms % OPENS_MS == 0) {
				uint64_t *begun = &g->opened_ms[g->opens++];
				*begun = g->ms;
				open_one(g, begun);
			}
		}
		clients_turn(g);
		server_turn(g);
	}
}

static void empty(struct line *l)
{
	while (l->head != l->tail)
		rte_pktmbuf_free(l->all[l->head++ % 8192].m);
}

static void a_flood_of_syns_costs_others_next_to_nothing(void **state)
{
	static struct siege g;
	struct tcp_stats s;
	g = (struct siege){.ms = 1000000};
	assert_true(addr_parse(rig_is_ipv6 ? "2001:db8::1" : "192.0.2.1", &g.here));
	assert_true(addr_parse(rig_is_ipv6 ? "2001:db8:1::9" : "198.51.100.9", &g.there));
	g.server = create(&g, 1);
	g.clients = create(&g, 2);
	assert_int_equal(tcp_listen(g.server, &g.here, RIG_PORT, RIG_TAG), 0);
	for (unsigned i = 0; i < ESTABLISHED; i++)
		g.established[i] = open_one(&g, NULL);
	run(&g, 1000, false, false);
	run(&g, 5000, true, false); /* until the SYN cache is full and turns over */
	run(&g, RUN_MS - 5000, true, true);
	run(&g, 3000, true, false); /* those who wait still may */
	tcp_get_stats(g.server, &s);
	assert_true(s.cookies_sent > 10000); /* it was one */
	assert_true(g.opens >= 200);
	assert_true(g.offered > 1500000);
	assert_true(g.got * 100 >= g.offered * 90);
	assert_true(g.opened_in_time * 100 >= g.opens * 99);
	assert_true(s.opened_passive * 100 >= g.opens * 99); /* the server thinks so too */
	tcp_stack_destroy(g.server);
	tcp_stack_destroy(g.clients);
	empty(&g.to_server);
	empty(&g.to_clients);
	assert_true(rte_mempool_full(rig_pool(false)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flood_of_syns_costs_others_next_to_nothing),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
