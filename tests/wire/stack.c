// SPDX-License-Identifier: Apache-2.0
#include "tests/wire/stack.h"

#include <stdio.h>
#include <stdlib.h>

#include "dataplane/tcp/tcp_kit.h"

static struct rte_mempool *data_pool, *control_pool;

void stack_start(void)
{
	kit_start();
	data_pool = kit_pool("data", 2047);
	control_pool = kit_pool("control", 1023);
}

void stack_stop(void)
{
	kit_stop();
}

static bool is_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu_of(void *user, const struct addr *l, const struct addr *r)
{
	return (uint16_t)((struct stack *)user)->mtu;
}

struct tcp_config stack_config(void)
{
	return (struct tcp_config){
		.connections_max = 8,
		.half_open_max = 4,
		.time_wait_max = 4,
		.receive_bytes_max = 65535,
		.send_bytes_max = 262144,
		.buffer_bytes_max = 4 << 20,
		.pool = data_pool,
		.control_pool = control_pool,
		.secret = {1, 2, 3, 4},
		.is_ours = is_ours,
		.mtu = mtu_of,
	};
}

void stack_open(struct stack *s, const struct tcp_config *config, uint32_t mtu, uint64_t now_us)
{
	struct tcp_config c = *config;
	struct sent *sent = s->sent != NULL ? s->sent : malloc(SENT_MAX * sizeof *sent);
	c.user = s;
	*s = (struct stack){.now_us = now_us, .mtu = mtu, .sent = sent,
		.in_use = {rte_mempool_in_use_count(data_pool), rte_mempool_in_use_count(control_pool)}};
	s->tcp = sent == NULL ? NULL : tcp_stack_create(&c, now_us);
	if (s->tcp == NULL) {
		fprintf(stderr, "no stack with these settings\n");
		exit(2);
	}
}

const char *stack_close(struct stack *s)
{
	tcp_stack_destroy(s->tcp);
	s->tcp = NULL;
	if (rte_mempool_in_use_count(data_pool) != s->in_use[0] ||
		rte_mempool_in_use_count(control_pool) != s->in_use[1])
		return "buffers have not come home";
	return s->failure;
}

static void keep(struct stack *s, const struct tcp_departure *d)
{
	if (s->sent_count == SENT_MAX) {
		s->failure = "the stack sent more segments than can be looked at";
		rte_pktmbuf_free(d->m);
		return;
	}
	struct sent *to = &s->sent[(s->sent_first + s->sent_count++) % SENT_MAX];
	*to = (struct sent){.time_us = s->now_us, .local = d->local, .remote = d->remote, .ecn = d->ecn};
	if (d->m->pkt_len > sizeof to->bytes) {
		s->failure = "the stack sent a segment larger than any packet";
	} else {
		const void *p = rte_pktmbuf_read(d->m, 0, d->m->pkt_len, to->bytes);
		if (p != to->bytes)
			memcpy(to->bytes, p, d->m->pkt_len);
		to->n = d->m->pkt_len;
	}
	rte_pktmbuf_free(d->m);
}

void stack_output(struct stack *s)
{
	struct tcp_departure d[32];
	unsigned n;
	if (s->is_held)
		return;
	do {
		tcp_output(s->tcp, s->now_us);
		n = tcp_take(s->tcp, d, 32);
		for (unsigned i = 0; i < n; i++)
			keep(s, &d[i]);
	} while (n > 0);
	const char *broken = tcp_validate(s->tcp, &s->watch);
	if (broken != NULL && s->failure == NULL)
		snprintf(s->broken, sizeof s->broken, "an invariant is broken: %s", broken), s->failure = s->broken;
}

void stack_in(struct stack *s, const struct addr *local, const struct addr *remote, struct bytes segment, uint8_t ecn)
{
	const struct tcp_arrival a = {.local = *local, .remote = *remote, .ecn = ecn};
	struct rte_mbuf *m = kit_mbuf(data_pool, segment, 1800);
	if (m == NULL) {
		s->failure = "no buffer for a segment";
		return;
	}
	tcp_input(s->tcp, m, &a, s->now_us);
	stack_output(s);
}

void stack_run(struct stack *s, uint64_t until_us, bool is_impatient)
{
	stack_output(s);
	while (!(is_impatient && s->sent_count > 0)) {
		uint64_t due = tcp_next_due_us(s->tcp);
		if (due <= s->now_us) /* something waits that cannot go out now */
			due = s->now_us + 1000;
		if (due > until_us)
			break;
		s->now_us = due;
		tcp_tick(s->tcp, s->now_us);
		stack_output(s);
	}
	if (is_impatient && s->sent_count > 0)
		return;
	s->now_us = until_us;
	tcp_tick(s->tcp, s->now_us);
	stack_output(s);
}

const struct sent *stack_sent(struct stack *s)
{
	return s->sent_count == 0 ? NULL : &s->sent[s->sent_first];
}

void stack_sent_pop(struct stack *s)
{
	s->sent_first = (s->sent_first + 1) % SENT_MAX;
	s->sent_count--;
}
