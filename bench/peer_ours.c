// SPDX-License-Identifier: Apache-2.0
/* Our TCP, on one core of the dataplane. */
#include "bench/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "base/clock.h"
#include "dataplane/dataplane.h"

#define LOCAL_RETRY_US (20 * USEC_PER_MSEC) /* an IPv6 address is not ours in the first second */

/* A connection of the server's. */
struct served {
	struct exchange_server exchange;
	struct served *free_next;
};

static const struct peer_options *options;
static struct dp *dp;
static struct dp_core *core;
static struct tcp_stack *stack;
static struct served *free_served;
static uint64_t has_local_us; /* when to look for our address (again); UINT64_MAX: we have it */
static struct addr local;

static size_t read_link(void *link, uint8_t *to, size_t room)
{
	return tcp_read(link, to, room);
}

static size_t write_link(void *link, struct bytes b)
{
	return tcp_write(link, b);
}

static void close_link(void *link)
{
	tcp_set_user(link, NULL);
	tcp_close(link);
}

static const struct exchange_io io = {read_link, write_link};

/* ---- server ---- */

static bool make_served(uint32_t count)
{
	struct served *s = calloc(count, sizeof *s);
	for (uint32_t i = 0; s != NULL && i < count; i++) {
		s[i].free_next = free_served;
		free_served = &s[i];
	}
	return s != NULL;
}

static void forget(struct tcp_conn *conn, struct served *s)
{
	tcp_set_user(conn, NULL);
	s->free_next = free_served;
	free_served = s;
}

static struct served *accepted(struct tcp_conn *conn)
{
	struct served *s = free_served;
	free_served = s->free_next;
	*s = (struct served){0};
	tcp_set_user(conn, s);
	peer_results.opened++;
	return s;
}

static void serve(struct tcp_conn *conn, uint32_t events)
{
	struct served *s = events & TCP_EVENT_ACCEPTED ? accepted(conn) : tcp_user(conn);
	if (s == NULL)
		return;
	uint64_t before = s->exchange.requests;
	bool is_done = exchange_serve(&s->exchange, &io, conn);
	peer_results.answered += s->exchange.requests - before;
	peer_results.wrong += s->exchange.is_wrong;
	bool is_eof = events & (TCP_EVENT_FIN | TCP_EVENT_ENDED);
	if (is_eof && !is_done && !exchange_is_between(&s->exchange) && s->exchange.sent == 0)
		peer_results.failed++;
	if (!is_done && !is_eof)
		return;
	forget(conn, s);
	if (!(events & TCP_EVENT_ENDED))
		tcp_close(conn);
}

/* ---- client ---- */

static void *open_link(struct peer_client *client, uint64_t now_us)
{
	int error;
	return tcp_connect(
		stack, &local, &options->server, options->port, client, &error, now_us);
}

static void on_client_event(struct tcp_conn *conn, uint32_t events, uint64_t now_us)
{
	struct peer_client *c = tcp_user(conn);
	if (c == NULL)
		return;
	if (!(events & TCP_EVENT_ENDED) || c->is_up)
		peer_client_happened(c, now_us);
	if (!(events & (TCP_EVENT_FIN | TCP_EVENT_ENDED)))
		return;
	bool is_lost = events & TCP_EVENT_ENDED && tcp_end_reason(conn) != TCP_END_CLOSED;
	if (!(events & TCP_EVENT_ENDED))
		close_link(conn);
	peer_client_gone(c, is_lost ? tcp_end_name(tcp_end_reason(conn)) : NULL, now_us);
}

static bool find_local(uint64_t now_us)
{
	if (has_local_us == UINT64_MAX)
		return true;
	if (now_us >= has_local_us)
		has_local_us = dp_source_for(core, &options->server, &local)
			? UINT64_MAX
			: now_us + LOCAL_RETRY_US;
	return has_local_us == UINT64_MAX;
}

/* ---- both ---- */

static bool turn(void *user, struct tcp_stack *tcp, uint64_t now_us)
{
	struct tcp_conn *conn;
	uint32_t events;
	bool did = false;
	for (; (conn = tcp_next_event(tcp, &events)) != NULL; did = true)
		if (options->is_server)
			serve(conn, events);
		else
			on_client_event(conn, events, now_us);
	bool is_over = !options->is_server && find_local(now_us) && !peer_client_turn(now_us);
	if (is_over || peer_is_stopped())
		dp_core_stop(core);
	return did;
}

static uint64_t next_due_us(void *user)
{
	if (options->is_server)
		return UINT64_MAX;
	return has_local_us != UINT64_MAX ? has_local_us : peer_client_due_us();
}

static void print(void)
{
	uint64_t busy, slept, turns;
	struct tcp_stats stats;
	dp_core_times(core, &busy, &slept, &turns);
	tcp_get_stats(stack, &stats);
	printf("\"busy_us\":%llu,\"slept_us\":%llu,\"turns\":%llu,\"segments_in\":%llu,"
	       "\"segments_out\":%llu,\"retransmits\":%llu,\"rto_fired\":%llu,"
	       "\"fast_retransmits\":%llu,\"ecn_reduced\":%llu,",
		(unsigned long long)busy, (unsigned long long)slept, (unsigned long long)turns,
		(unsigned long long)stats.segments_in, (unsigned long long)stats.segments_out,
		(unsigned long long)stats.retransmits, (unsigned long long)stats.rto_fired,
		(unsigned long long)stats.fast_retransmits, (unsigned long long)stats.ecn_reduced);
	for (unsigned i = 0; i < dp_counter_count(); i++)
		if (dp_counter(core, i) != 0)
			printf("\"%s\":%llu,", dp_counter_name(i),
				(unsigned long long)dp_counter(core, i));
	for (unsigned i = 0; i < tcp_drop_count(); i++)
		if (stats.drops[i] != 0)
			printf("\"tcp_drop_%s\":%llu,", tcp_drop_name(i),
				(unsigned long long)stats.drops[i]);
}

static bool prepare(void)
{
	static const struct peer_carrier carrier = {{read_link, write_link}, open_link, close_link};
	struct addr any4 = addr_from_ipv4((const uint8_t[4]){0}), any6 = {0};
	if (!options->is_server) {
		peer_client_start(options, &carrier);
		return true;
	}
	return make_served(options->dp->tcp.connections_max) &&
		tcp_listen(stack, &any4, options->port, 0) == 0 &&
		tcp_listen(stack, &any6, options->port, 0) == 0;
}

int peer_run_ours(const struct peer_options *o)
{
	char error[256] = "";
	options = o;
	if (dp_create(&dp, o->dp, error) != 0) {
		fprintf(stderr, "tcp_peer: %s\n", error);
		return EX_UNAVAILABLE;
	}
	core = dp_get_core(dp, 0);
	stack = dp_core_tcp(core);
	if (!prepare())
		return EX_OSERR;
	peer_ready();
	dp_core_run(core,
		&(struct dp_core_user){.turn = turn, .next_due_us = next_due_us});
	printf("{");
	print();
	return 0;
}

void peer_end_ours(void)
{
	if (dp != NULL)
		dp_destroy(dp);
}
