// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_seen.c: what is seen of a stack from outside: its counters, and its connections one by one. */
#include "dataplane/tcp/tcp_private.h"

/* ---- counters ---- */

static const struct {
	const char *name, *help;
	size_t offset;
	bool is_gauge;
} counters[] = {
#define TCP_COUNTER(name, help) {#name, help, offsetof(struct tcp_stats, name), false},
#define TCP_GAUGE(name, help)	{#name, help, offsetof(struct tcp_stats, name), true},
#include "dataplane/tcp/counters.def"
#undef TCP_COUNTER
#undef TCP_GAUGE
};

unsigned tcp_counter_count(void)
{
	return RTE_DIM(counters);
}

const char *tcp_counter_name(unsigned counter)
{
	return counter < RTE_DIM(counters) ? counters[counter].name : "unknown";
}

const char *tcp_counter_help(unsigned counter)
{
	return counter < RTE_DIM(counters) ? counters[counter].help : "";
}

bool tcp_counter_is_gauge(unsigned counter)
{
	return counter < RTE_DIM(counters) && counters[counter].is_gauge;
}

uint64_t tcp_counter(const struct tcp_stats *stats, unsigned counter)
{
	if (counter >= RTE_DIM(counters))
		return 0;
	return *(const uint64_t *)((const char *)stats + counters[counter].offset);
}

static const struct {
	const char *name, *help;
} drops[] = {
#define TCP_DROP(name, help) {#name, help},
#include "dataplane/tcp/drops.def"
#undef TCP_DROP
};
static_assert(RTE_DIM(drops) == TCP_DROP_NONE);
static_assert(TCP_DROP_NONE <= RTE_DIM(((struct tcp_stats *)0)->drops));

unsigned tcp_drop_count(void)
{
	return RTE_DIM(drops);
}

const char *tcp_drop_name(unsigned drop)
{
	return drop < RTE_DIM(drops) ? drops[drop].name : "unknown";
}

const char *tcp_drop_help(unsigned drop)
{
	return drop < RTE_DIM(drops) ? drops[drop].help : "";
}

void tcp_get_stats(const struct tcp_stack *s, struct tcp_stats *stats)
{
	static_assert(sizeof *stats % sizeof(uint64_t) == 0);
	const uint64_t *from = (const uint64_t *)&s->stats;
	uint64_t *to = (uint64_t *)stats;
	for (size_t i = 0; i < sizeof *stats / sizeof *to; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void tcp_get_info(const struct tcp_conn *c, struct tcp_info *info)
{
	*info = (struct tcp_info){
		.state = tcp_state_name(c->state),
		.state_number = c->state,
		.is_active = c->is_active,
		.sent_us = c->last_send_us,
		.srtt_us = c->srtt_us,
		.rttvar_us = c->rttvar_us,
		.rto_us = c->rto_us,
		.cwnd = c->cwnd,
		.ssthresh = c->ssthresh,
		.snd_wnd = c->snd_wnd,
		.rcv_wnd = c->rcv_adv - c->rcv_nxt,
		.mss = c->mss,
		.retransmits = c->retransmits,
		.bytes_in = c->bytes_in,
		.bytes_out = c->bytes_out,
		.send_queue = c->send_bytes,
		.receive_queue = c->receive_bytes,
	};
}

/* ---- all connections ---- */

bool tcp_walk(struct tcp_stack *s, uint32_t *cursor, uint32_t places,
	bool (*each)(void *user, struct tcp_conn *conn), void *user)
{
	const uint32_t all = s->conns_fresh; /* slots that were ever used */
	for (; places > 0 && *cursor < all; places--) {
		struct tcp_conn *c = &s->conns[(*cursor)++];
		if (c->state != TCP_CLOSED && !each(user, c))
			break;
	}
	return *cursor < all;
}

/* Is this the place that the table has the tuple at? One that is not used any more, it has not. */
static bool is_in_use(const struct tcp_stack *s, const struct tcp_tuple *tuple, enum tcp_kind kind, uint32_t slot)
{
	return tcp_table_find(s, tuple, tcp_tuple_hash(s, tuple)) == tcp_ref_make(kind, slot);
}

static struct tcp_remnant remnant_of(const struct tcp_tuple *tuple, enum tcp_state state, uint64_t until_us)
{
	return (struct tcp_remnant){tuple->local, tuple->remote, tuple->local_port, tuple->remote_port, state, until_us};
}

#define TIME_WAITS (1u << 29) /* from here on the cursor is at these */

/* The next place; false: there is nothing in it. */
static bool look_at_remnant(const struct tcp_stack *s, uint32_t cursor, struct tcp_remnant *remnant)
{
	if (cursor >= TIME_WAITS) {
		const struct tcp_time_wait *w = &s->time_waits[cursor - TIME_WAITS];
		const uint64_t left_ms = seq_gt(w->due_ms, tcp_now_ms(s)) ? w->due_ms - tcp_now_ms(s) : 0;
		*remnant = remnant_of(&w->tuple, TCP_TIME_WAIT, s->now_us + left_ms * 1000);
		return is_in_use(s, &w->tuple, TCP_TIME_WAITING, cursor - TIME_WAITS);
	}
	const struct tcp_half_open *h = &s->half_opens[cursor];
	*remnant = remnant_of(&h->tuple, TCP_SYN_RECEIVED, h->due_us);
	return is_in_use(s, &h->tuple, TCP_HALF_OPEN, cursor);
}

bool tcp_walk_remnants(struct tcp_stack *s, uint32_t *cursor, uint32_t places,
	bool (*each)(void *user, const struct tcp_remnant *remnant), void *user)
{
	struct tcp_remnant remnant;
	for (; places > 0; places--) {
		if (*cursor < TIME_WAITS && *cursor >= s->half_opens_fresh)
			*cursor = TIME_WAITS;
		if (*cursor >= TIME_WAITS + s->time_waits_fresh)
			break;
		if (look_at_remnant(s, (*cursor)++, &remnant) && !each(user, &remnant))
			break;
	}
	return *cursor < TIME_WAITS + s->time_waits_fresh;
}

/* The place, and what no two connections that have it one after the other share: the ISN moves on. */
uint64_t tcp_conn_id(const struct tcp_conn *c)
{
	return (uint64_t)(c - c->stack->conns) << 32 | (c->hash ^ c->iss);
}

struct tcp_conn *tcp_conn_by_id(struct tcp_stack *s, uint64_t id)
{
	if (id >> 32 >= s->conns_fresh)
		return NULL;
	struct tcp_conn *c = &s->conns[id >> 32];
	return c->state != TCP_CLOSED && tcp_conn_id(c) == id ? c : NULL;
}
