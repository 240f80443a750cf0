// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim_user.c: what the two users do: write their stream, read and compare the other's, pause, close, reset. */
#include "tests/sim/sim.h"

/* ---- streams: pieces of a ring of random bytes, another ring for each side ---- */

static uint8_t ring[2][SIM_STREAM];

void sim_stream_init(void)
{
	uint64_t r = sim_random_init(1, 99);
	for (unsigned side = 0; side < 2; side++)
		for (unsigned i = 0; i < SIM_STREAM; i++)
			ring[side][i] = (uint8_t)sim_draw(&r, 256);
}

struct bytes sim_stream(const struct half *h, uint32_t at)
{
	const uint32_t from = (h->base + at) % SIM_STREAM;
	return bytes_of(ring[h->side] + from, SIM_STREAM - from);
}

/* ---- reading ---- */

static void compare(struct half *h, struct bytes b)
{
	struct half *peer = &h->talk->half[!h->side];
	if (h->has_read + b.n > peer->written)
		sim_fail(h->sim, "side %u reads %u bytes, and only %u were written", h->side,
			h->has_read + (uint32_t)b.n, peer->written);
	while (b.n > 0) {
		const struct bytes want = bytes_first(sim_stream(peer, h->has_read), b.n);
		if (memcmp(want.at, b.at, want.n) != 0)
			sim_fail(h->sim, "side %u reads wrong bytes after %u", h->side, h->has_read);
		h->has_read += (uint32_t)want.n;
		b = bytes_skip(b, want.n);
	}
}

static uint64_t pause_from(struct sim *s)
{
	return s->now_us + 1000ull * sim_draw(&s->random, s->o.pause_ms);
}

static void read_some(struct sim *s, struct half *h, bool to_the_end)
{
	struct bytes b;
	if (h->conn == NULL || (s->now_us < h->reads_again_us && !to_the_end))
		return;
	while ((b = tcp_peek(h->conn)).n > 0) {
		const size_t n = 1 + sim_draw(&s->random, (uint32_t)b.n);
		compare(h, bytes_first(b, n));
		tcp_consume(h->conn, n);
		if (!to_the_end && sim_chance(&s->random, s->o.slow_reader)) {
			h->reads_again_us = pause_from(s);
			return;
		}
	}
}

/* ---- writing and closing ---- */

static void abort_talk(struct sim *s, struct half *h)
{
	sim_trace(s, "side %u port %u resets after %u bytes", h->side, h->port, h->has_read);
	h->talk->is_aborted = true;
	h->talk->abandoned_us = s->now_us;
	tcp_abort(h->conn);
}

static void close_if_due(struct sim *s, struct half *h)
{
	const bool waits = s->o.wait_fin == h->side + 1 && !h->fin_seen;
	if (!h->opened || h->closed || waits) /* in SYN-SENT it would be the end of it */
		return;
	h->closed = true;
	tcp_close(h->conn);
}

static void write_some(struct sim *s, struct half *h)
{
	if (s->now_us < h->writes_again_us)
		return;
	while (h->written < h->to_write) {
		const uint32_t n = min_u32(1 + sim_draw(&s->random, 4096), h->to_write - h->written);
		const struct bytes b = bytes_first(sim_stream(h, h->written), n);
		const size_t taken = tcp_write(h->conn, b);
		if (taken > b.n)
			sim_fail(s, "side %u: more was taken than written", h->side);
		h->written += (uint32_t)taken;
		if (taken < b.n)
			return;
		if (sim_chance(&s->random, s->o.slow_writer)) {
			h->writes_again_us = pause_from(s);
			return;
		}
	}
	close_if_due(s, h);
}

/* The other side's user has gone; its reset may have been lost, so this one does not wait for ever. */
static void give_up_if_abandoned(struct sim *s, struct half *h)
{
	if (h->talk->is_aborted && s->now_us >= h->talk->abandoned_us + 300 * SIM_SECOND_US)
		tcp_abort(h->conn);
}

static void half_turn(struct sim *s, struct half *h)
{
	read_some(s, h, false);
	if (h->conn == NULL || h->ended)
		return;
	if (s->o.abort_after != 0 && s->o.abort_side == h->side && !h->talk->is_aborted &&
		h->has_read + 1 >= s->o.abort_after)
		abort_talk(s, h);
	else
		write_some(s, h);
	give_up_if_abandoned(s, h);
}

/* ---- events ---- */

static struct half *accepted(struct sim *s, unsigned side, struct tcp_conn *c)
{
	struct addr local, remote;
	uint16_t local_port, remote_port;
	tcp_endpoints(c, &local, &local_port, &remote, &remote_port);
	struct half *h = sim_half(s, side, local_port, remote_port);
	if (h == NULL || s->o.simultaneous)
		sim_fail(s, "side %u accepts from port %u, which nobody has", side, remote_port);
	if (h->conn != NULL || h->opened || tcp_tag(c) != 7)
		sim_fail(s, "side %u accepts port %u twice", side, remote_port);
	h->conn = c;
	h->port = local_port;
	h->remote_port = remote_port;
	return h;
}

static void half_ended(struct sim *s, struct half *h, struct tcp_conn *c)
{
	read_some(s, h, true);
	h->reason = tcp_end_reason(c);
	h->ended = true;
	h->conn = NULL;
	if (h->reason == TCP_END_NO_MEMORY && s->o.buffers0 + s->o.buffers1 < 3000 && !h->talk->is_aborted) {
		h->talk->is_aborted = true; /* what a limit on memory is for */
		h->talk->abandoned_us = s->now_us;
	}
	sim_trace(s, "side %u port %u ended: %s, %u of %u read", h->side, h->port, tcp_end_name(h->reason),
		h->has_read, h->talk->half[!h->side].to_write);
}

static void event(struct sim *s, unsigned side, struct tcp_conn *c, uint32_t events)
{
	struct half *h = events & TCP_EVENT_ACCEPTED ? accepted(s, side, c) : tcp_user(c);
	if (h == NULL || h->conn != c)
		sim_fail(s, "side %u: an event for a connection nobody has", side);
	tcp_set_user(c, h);
	if (events & (TCP_EVENT_ACCEPTED | TCP_EVENT_CONNECTED)) {
		if (h->opened)
			sim_fail(s, "side %u: opened twice", side);
		h->opened = true;
	}
	if (events & TCP_EVENT_FIN)
		h->fin_seen = true;
	if (events & TCP_EVENT_ENDED)
		half_ended(s, h, c);
}

void sim_user_turn(struct sim *s, unsigned side)
{
	struct tcp_conn *c;
	uint32_t events;
	while ((c = tcp_next_event(s->sides[side].stack, &events)) != NULL)
		event(s, side, c, events);
	for (unsigned i = 0; i < s->o.talks; i++)
		half_turn(s, &s->talks[i].half[side]);
}

/* ---- for the loop ---- */

static void sooner(const struct sim *s, uint64_t *due, uint64_t at)
{
	if (at > s->now_us && at < *due)
		*due = at;
}

uint64_t sim_user_due_us(const struct sim *s)
{
	uint64_t due = UINT64_MAX;
	for (unsigned i = 0; i < s->o.talks; i++)
		for (unsigned side = 0; side < 2; side++) {
			const struct talk *t = &s->talks[i];
			if (t->half[side].conn == NULL)
				continue;
			sooner(s, &due, t->half[side].reads_again_us);
			sooner(s, &due, t->half[side].writes_again_us);
			if (t->is_aborted)
				sooner(s, &due, t->abandoned_us + 300 * SIM_SECOND_US);
		}
	return due;
}

bool sim_talk_is_over(const struct talk *t)
{
	if (t->is_aborted) /* the other may never have been told of it */
		return t->half[0].conn == NULL && t->half[1].conn == NULL;
	return t->half[0].ended && t->half[1].ended;
}
