// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_stack.c: the stack: everything it will ever need, taken at start; and the user's calls. */
#include "dataplane/tcp/tcp_private.h"

#include <rte_mbuf_dyn.h>

/* ---- create and destroy ---- */

static bool register_mark(struct tcp_stack *s)
{
	static const struct rte_mbuf_dynfield field = {
		.name = "hikyaku_tcp_mark",
		.size = sizeof(struct tcp_mark),
		.align = alignof(struct tcp_mark),
	};
	s->mark_offset = rte_mbuf_dynfield_register(&field);
	return s->mark_offset >= 0;
}

static bool slab_init(struct tcp_slab *slab, size_t count, size_t size)
{
	*slab = (struct tcp_slab){.memory = tcp_memory_take(count, size), .count = count, .size = size};
	return slab->memory != NULL;
}

static void slab_fini(struct tcp_slab *slab)
{
	tcp_memory_give(slab->memory, slab->count, slab->size);
}

static void set_defaults(struct tcp_stack *s)
{
	const struct tcp_config *c = &s->config;
	s->config.user_timeout_us = c->user_timeout_us != 0 ? c->user_timeout_us : TCP_USER_TIMEOUT_US;
	s->config.keepalive_idle_us = c->keepalive_idle_us != 0 ? c->keepalive_idle_us : TCP_KEEPALIVE_IDLE_US;
	s->config.keepalive_interval_us =
		c->keepalive_interval_us != 0 ? c->keepalive_interval_us : TCP_KEEPALIVE_INTERVAL_US;
	s->config.keepalive_probes =
		c->keepalive_probes != 0 ? min_u32(c->keepalive_probes, UINT8_MAX) : TCP_KEEPALIVE_PROBES;
	if (c->inbound_max == 0 || c->inbound_max > c->connections_max)
		s->config.inbound_max = c->connections_max;
}

/* Limits that follow from the configured ones. */
static void derive(struct tcp_stack *s)
{
	const struct tcp_config *c = &s->config;
	const uint32_t room = rte_pktmbuf_data_room_size(c->pool);
	s->cc = c->congestion_control == TCP_NEWRENO ? &tcp_cc_newreno : &tcp_cc_cubic;
	s->payload_max = (uint16_t)(room > TCP_PAYLOAD_OFFSET ? room - TCP_PAYLOAD_OFFSET : 0);
	while (s->rcv_wscale < TCP_WSCALE_MAX && c->receive_bytes_max >> s->rcv_wscale > UINT16_MAX)
		s->rcv_wscale++;
	/* Twice what full segments of 512 bytes would need: small ones cannot pin a mbuf each. */
	s->receive_mbufs_max = c->receive_bytes_max / 256 + 16;
	s->send_mbufs_max = (uint16_t)min_u32(c->send_bytes_max / 256 + 16, UINT16_MAX / 2);
}

static bool is_config_possible(const struct tcp_config *c)
{
	const uint32_t most = (1u << 30) - 1;
	return c->connections_max > 0 && c->connections_max < most && c->half_open_max < most &&
		c->time_wait_max < most && c->receive_bytes_max > 0 && c->receive_bytes_max <= most &&
		c->send_bytes_max > 0 && c->send_bytes_max <= most && c->pool != NULL &&
		c->control_pool != NULL && c->is_ours != NULL && c->mtu != NULL &&
		rte_pktmbuf_data_room_size(c->pool) >= TCP_PAYLOAD_OFFSET + TCP_MSS_DEFAULT_V4 &&
		rte_pktmbuf_data_room_size(c->control_pool) >= TCP_PAYLOAD_OFFSET;
}

/* How many connections can hold something at a time: each holds an mbuf at least. */
static size_t holders_max(const struct tcp_config *c)
{
	const uint64_t mbufs = c->buffer_bytes_max / rte_pktmbuf_data_room_size(c->pool);
	return mbufs < c->connections_max ? mbufs : c->connections_max;
}

static bool take_all(struct tcp_stack *s)
{
	const struct tcp_config *c = &s->config;
	s->departures = tcp_memory_take(TCP_DEPARTURES, sizeof *s->departures);
	s->conns = tcp_memory_take(c->connections_max, sizeof *s->conns);
	s->half_opens = tcp_memory_take(c->half_open_max, sizeof *s->half_opens);
	s->time_waits = tcp_memory_take(c->time_wait_max, sizeof *s->time_waits);
	return s->departures != NULL && s->conns != NULL && s->half_opens != NULL && s->time_waits != NULL &&
		slab_init(&s->reassemblies, holders_max(c), sizeof(struct tcp_reassembly)) &&
		slab_init(&s->flights, holders_max(c), sizeof(struct tcp_flight)) &&
		tcp_table_init(&s->table, c->connections_max + c->half_open_max + c->time_wait_max);
}

struct tcp_stack *tcp_stack_create(const struct tcp_config *config, uint64_t now_us)
{
	if (!is_config_possible(config))
		return NULL;
	struct tcp_stack *s = tcp_memory_take(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->config = *config;
	s->now_us = now_us;
	TAILQ_INIT(&s->dirty);
	TAILQ_INIT(&s->eventful);
	TAILQ_INIT(&s->time_waiting);
	TAILQ_INIT(&s->time_waits_free);
	TAILQ_INIT(&s->half_opens_free);
	for (unsigned i = 0; i < TCP_SYN_ACK_SENDS; i++)
		TAILQ_INIT(&s->half_open_sent[i]);
	timer_wheel_init(&s->wheel, now_us);
	set_defaults(s);
	derive(s);
	if (!register_mark(s) || !take_all(s)) {
		tcp_stack_destroy(s);
		return NULL;
	}
	return s;
}

void tcp_stack_destroy(struct tcp_stack *s)
{
	for (; s->departures_head != s->departures_tail; s->departures_head++)
		rte_pktmbuf_free(s->departures[s->departures_head % TCP_DEPARTURES].m);
	for (uint32_t i = 0; i < s->conns_fresh; i++) {
		tcp_queue_free(s, &s->conns[i].send);
		tcp_queue_free(s, &s->conns[i].receive);
		tcp_reassembly_free(&s->conns[i]);
	}
	tcp_table_fini(&s->table);
	slab_fini(&s->flights);
	slab_fini(&s->reassemblies);
	tcp_memory_give(s->departures, TCP_DEPARTURES, sizeof *s->departures);
	tcp_memory_give(s->conns, s->config.connections_max, sizeof *s->conns);
	tcp_memory_give(s->half_opens, s->config.half_open_max, sizeof *s->half_opens);
	tcp_memory_give(s->time_waits, s->config.time_wait_max, sizeof *s->time_waits);
	tcp_memory_give(s, 1, sizeof *s);
}

/* ---- time ---- */

void tcp_tick(struct tcp_stack *s, uint64_t now_us)
{
	s->now_us = now_us;
	timer_wheel_advance(&s->wheel, now_us, s);
	tcp_half_open_expire(s);
	tcp_time_wait_expire(s);
	tcp_memory_tick(s);
}

uint64_t tcp_next_due_us(const struct tcp_stack *s)
{
	if (!TAILQ_EMPTY(&s->dirty) || s->departures_head != s->departures_tail)
		return 0;
	uint64_t due = timer_wheel_next_us(&s->wheel);
	const uint64_t half_open = tcp_half_open_due_us(s);
	const uint64_t time_wait = tcp_time_wait_due_us(s);
	if (time_wait < due)
		due = time_wait;
	return half_open < due ? half_open : due;
}

/* ---- events ---- */

static void forget_told(struct tcp_stack *s)
{
	if (s->told != NULL)
		tcp_conn_put(s->told);
	s->told = NULL;
}

struct tcp_conn *tcp_next_event(struct tcp_stack *s, uint32_t *events)
{
	forget_told(s);
	struct tcp_conn *c = TAILQ_FIRST(&s->eventful);
	if (c == NULL)
		return NULL;
	TAILQ_REMOVE(&s->eventful, c, event_link);
	*events = c->events;
	c->events = 0;
	c->is_announced = true;
	if (*events & TCP_EVENT_ENDED)
		s->told = c;
	return c;
}

enum tcp_end tcp_end_reason(const struct tcp_conn *c)
{
	return c->end;
}

const char *tcp_end_name(enum tcp_end end)
{
	switch (end) {
	case TCP_END_CLOSED: return "closed";
	case TCP_END_RESET: return "reset";
	case TCP_END_REFUSED: return "refused";
	case TCP_END_TIMEOUT: return "timeout";
	case TCP_END_UNREACHABLE: return "unreachable";
	case TCP_END_ABORTED: return "aborted";
	case TCP_END_NO_MEMORY: return "short of memory";
	}
	return "unknown";
}

/* ---- a connection ---- */

void *tcp_user(const struct tcp_conn *c)
{
	return c->user;
}

void tcp_set_user(struct tcp_conn *c, void *user)
{
	c->user = user;
}

uint32_t tcp_tag(const struct tcp_conn *c)
{
	return c->tag;
}

void tcp_endpoints(const struct tcp_conn *c, struct addr *local, uint16_t *local_port, struct addr *remote,
	uint16_t *remote_port)
{
	*local = c->tuple.local;
	*local_port = c->tuple.local_port;
	*remote = c->tuple.remote;
	*remote_port = c->tuple.remote_port;
}

void tcp_close(struct tcp_conn *c)
{
	if (c->fin_queued)
		return;
	switch (c->state) {
	case TCP_SYN_SENT: tcp_conn_end(c, TCP_END_ABORTED); return;
	case TCP_SYN_RECEIVED: break;
	case TCP_ESTABLISHED: tcp_enter(c, TCP_FIN_WAIT_1); break;
	case TCP_CLOSE_WAIT: tcp_enter(c, TCP_LAST_ACK); break;
	default: return;
	}
	c->fin_queued = true;
	tcp_dirty(c);
}

void tcp_set_user_timeout(struct tcp_conn *c, uint32_t seconds)
{
	c->user_timeout_s = (uint16_t)min_u32(seconds, UINT16_MAX);
}

void tcp_abort(struct tcp_conn *c)
{
	if (c->state == TCP_CLOSED)
		return;
	if (c->state != TCP_SYN_SENT)
		tcp_send_ack(c, c->snd_max, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG);
	tcp_conn_end(c, TCP_END_ABORTED);
}
