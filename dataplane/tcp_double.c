// SPDX-License-Identifier: Apache-2.0
/* A stand-in for TCP in this folder's unit tests: writes down what comes, sends what it is told. */
#include "dataplane/lab.h"

#include <stdlib.h>

struct tcp_stack {
	struct tcp_config config;
	struct tcp_departure waiting;
	bool has_waiting;
};

struct lab_tcp lab_tcp;

struct tcp_stack *tcp_stack_create(const struct tcp_config *config, uint64_t now_us)
{
	struct tcp_stack *stack = calloc(1, sizeof *stack);
	if (stack != NULL)
		stack->config = *config;
	return stack;
}

void tcp_stack_destroy(struct tcp_stack *stack)
{
	if (stack->has_waiting)
		rte_pktmbuf_free(stack->waiting.m);
	free(stack);
}

void tcp_input(struct tcp_stack *stack, struct rte_mbuf *m, const struct tcp_arrival *arrival,
	uint64_t now_us)
{
	lab_tcp.arrivals++;
	lab_tcp.arrival = *arrival;
	lab_tcp.n = m->data_len;
	memcpy(lab_tcp.data, rte_pktmbuf_mtod(m, void *), m->data_len);
	lab_tcp.stack = stack;
	rte_pktmbuf_free(m);
}

void tcp_icmp_error(struct tcp_stack *stack, const struct addr *local, const struct addr *remote,
	struct bytes quoted, enum tcp_icmp kind, uint32_t mtu, uint64_t now_us)
{
	lab_tcp.errors++;
	lab_tcp.local = *local;
	lab_tcp.remote = *remote;
	lab_tcp.kind = kind;
	lab_tcp.mtu = mtu;
	lab_tcp.stack = stack;
	lab_tcp.n = quoted.n;
	memcpy(lab_tcp.data, quoted.at, quoted.n);
}

void tcp_tick(struct tcp_stack *stack, uint64_t now_us)
{
}

uint64_t tcp_next_due_us(const struct tcp_stack *stack)
{
	return UINT64_MAX;
}

void tcp_output(struct tcp_stack *stack, uint64_t now_us)
{
}

unsigned tcp_take(struct tcp_stack *stack, struct tcp_departure *departures, unsigned n)
{
	if (!stack->has_waiting || n == 0)
		return 0;
	departures[0] = stack->waiting;
	stack->has_waiting = false;
	return 1;
}

void lab_depart(struct dp_core *core, const char *from, const char *to, struct bytes segment)
{
	struct tcp_stack *stack = core->tcp;
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->tx_pool);
	memcpy(rte_pktmbuf_append(m, (uint16_t)segment.n), segment.at, segment.n);
	stack->waiting =
		(struct tcp_departure){.m = m, .local = lab_addr(from), .remote = lab_addr(to)};
	stack->has_waiting = true;
}
