// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim_link.c: what happens to a segment on its way: middleboxes, a narrow path, a bottleneck with a queue, loss,
 * delay, a second copy, flipped bits; and what attackers and routers send beside it. */
#include "tests/sim/sim.h"

/* ---- a heap of flights, by time and then in order ---- */

static bool is_before(const struct flight *a, const struct flight *b)
{
	return a->due_us != b->due_us ? a->due_us < b->due_us : a->serial < b->serial;
}

static void fly(struct sim *s, struct flight f)
{
	if (s->flight_count == SIM_FLIGHTS_MAX) {
		rte_pktmbuf_free(f.m);
		return;
	}
	f.serial = s->serial++;
	unsigned at = s->flight_count++;
	for (; at > 0 && is_before(&f, &s->flights[(at - 1) / 2]); at = (at - 1) / 2)
		s->flights[at] = s->flights[(at - 1) / 2];
	s->flights[at] = f;
}

static struct flight land_first(struct sim *s)
{
	const struct flight first = s->flights[0], last = s->flights[--s->flight_count];
	unsigned at = 0;
	for (;;) {
		unsigned child = 2 * at + 1;
		if (child + 1 < s->flight_count && is_before(&s->flights[child + 1], &s->flights[child]))
			child++;
		if (child >= s->flight_count || !is_before(&s->flights[child], &last))
			break;
		s->flights[at] = s->flights[child];
		at = child;
	}
	s->flights[at] = last;
	return first;
}

void sim_link_free(struct sim *s)
{
	while (s->flight_count > 0)
		rte_pktmbuf_free(s->flights[--s->flight_count].m);
}

/* ---- the bytes of a segment ---- */

struct packet {
	uint8_t b[2048];
	size_t n;
};

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Changes two bytes and the checksum with them (RFC 1624), so that what was wrong stays wrong. `at` is even. */
static void rewrite16(struct packet *p, size_t at, uint16_t to)
{
	const uint32_t was = (uint32_t)p->b[at] << 8 | p->b[at + 1], sum = (uint32_t)p->b[16] << 8 | p->b[17];
	uint32_t x = (~sum & 0xffff) + (~was & 0xffff) + to;
	x = (x & 0xffff) + (x >> 16);
	x = (x & 0xffff) + (x >> 16);
	put16(p->b + at, to);
	put16(p->b + 16, ~x & 0xffff);
}

static void rewrite8(struct packet *p, size_t at, uint8_t to)
{
	const size_t even = at & ~(size_t)1;
	uint8_t pair[2] = {p->b[even], p->b[even + 1]};
	pair[at & 1] = to;
	rewrite16(p, even, (uint16_t)(pair[0] << 8 | pair[1]));
}

static struct half *half_of(struct sim *s, unsigned side, const uint8_t *local, const uint8_t *remote)
{
	return sim_half(s, side, (uint16_t)(local[0] << 8 | local[1]), (uint16_t)(remote[0] << 8 | remote[1]));
}

static bool is_stripped(const struct sim *s, uint8_t kind)
{
	return (kind == 8 && s->o.strip & 1) || (kind == 3 && s->o.strip & 2) || (kind == 4 && s->o.strip & 4);
}

/* A middlebox: lowers the MSS of SYNs, and replaces options it does not like by no-operations. */
static void meddle(struct sim *s, struct packet *p, struct half *receiver)
{
	const size_t header = (p->b[12] >> 4) * 4u;
	if (s->o.bleach)
		rewrite8(p, 13, p->b[13] & ~(KIT_ECE | KIT_CWR));
	for (size_t i = 20; i + 1 < header && p->b[i] != 0;) {
		const size_t n = p->b[i] == 1 ? 1 : p->b[i + 1];
		if (p->b[i] == 2) {
			uint16_t mss = (uint16_t)(p->b[i + 2] << 8 | p->b[i + 3]);
			if (s->o.clamp != 0 && mss > s->o.clamp) {
				mss = (uint16_t)s->o.clamp;
				rewrite8(p, i + 2, (uint8_t)(mss >> 8));
				rewrite8(p, i + 3, (uint8_t)mss);
			}
			if (receiver != NULL && (receiver->mss == 0 || mss > receiver->mss))
				receiver->mss = mss;
		} else if (p->b[i] != 1 && is_stripped(s, p->b[i])) {
			for (size_t k = 0; k < n; k++)
				rewrite8(p, i + k, 1);
		}
		i += n == 0 ? 1 : n;
	}
}

/* With simultaneous opens each side has chosen a port that the other cannot know: translated in between. */
static bool translate(struct packet *p, const struct half *from, const struct half *to)
{
	if (to->port == 0)
		return false;
	rewrite16(p, 0, to->remote_port);
	rewrite16(p, 2, to->port);
	return true;
}

/* ---- ICMP ---- */

/* The router's answer goes back with the first bytes of what it dropped. */
static void send_too_big(struct sim *s, unsigned to, const struct packet *p, const struct tcp_departure *d)
{
	struct rte_mbuf *m = kit_mbuf(s->wire, bytes_of(p->b, 8), 0);
	if (m != NULL)
		fly(s, (struct flight){.due_us = s->now_us + s->o.delay_us, .m = m, .to = to, .kind = FLIGHT_TOO_BIG,
			.destination = d->local, .source = d->remote, .mtu = s->o.path_mtu});
}

static bool is_too_big(struct sim *s, size_t n)
{
	if (s->o.path_mtu == 0 || s->now_us < s->start_us + s->o.path_mtu_ms * 1000ull)
		return false;
	return n + (s->o.ipv6 ? 40 : 20) > s->o.path_mtu;
}

/* An error that somebody made up, or that a router sent for a reason of its own. Hard errors may end what is not
 * open yet, so they come only for what is. */
static void icmp_noise(struct sim *s, unsigned side, const struct packet *p, const struct tcp_departure *d)
{
	const struct half *h = half_of(s, side, p->b, p->b + 2);
	uint8_t quoted[8];
	enum tcp_icmp kind = (enum tcp_icmp)sim_draw(&s->random, 3);
	uint32_t mtu = kind == TCP_ICMP_TOO_BIG ? sim_draw(&s->random, 2000) : 0;
	if (kind == TCP_ICMP_HARD && (h == NULL || !h->opened))
		kind = TCP_ICMP_SOFT;
	memcpy(quoted, p->b, 8);
	if (sim_chance(&s->random, 500)) /* blind: any sequence number */
		for (unsigned i = 4; i < 8; i++)
			quoted[i] = (uint8_t)sim_draw(&s->random, 256);
	sim_trace(s, "%u < icmp %u mtu %u", side, kind, mtu);
	tcp_icmp_error(s->sides[side].stack, &d->local, &d->remote, bytes_of(quoted, 8), kind, mtu,
		sim_now(s, side));
	sim_check(s, side, "tcp_icmp_error");
}

/* ---- an attacker who knows the 4-tuple, but no sequence number ---- */

static void forge_numbers(struct sim *s, const struct tcp_conn *c, struct kit_segment *seg)
{
	const uint32_t window = c->rcv_adv - c->rcv_nxt;
	switch (sim_draw(&s->random, 4)) {
	case 0: /* RST, everywhere but at RCV.NXT (RFC 5961 3.2) */
		seg->flags = KIT_RST;
		seg->seq = c->rcv_nxt + 1 + sim_draw(&s->random, window == 0 ? 1 : window);
		break;
	case 1: /* SYN (4.2) */
		seg->flags = KIT_SYN;
		seg->seq = c->rcv_nxt + sim_draw(&s->random, UINT32_MAX / 2);
		seg->mss = 1000;
		break;
	case 2: /* text in the window that acknowledges what cannot be (5.2) */
		seg->flags = KIT_ACK;
		seg->seq = c->rcv_nxt + sim_draw(&s->random, window + 1);
		seg->ack = c->snd_max + 1 + sim_draw(&s->random, 1u << 30);
		seg->text = BYTES_LITERAL("injected");
		break;
	default: /* an old ACK, from a window ago and more, with text outside the window */
		seg->flags = KIT_ACK;
		seg->seq = c->rcv_nxt + (1u << 30) + sim_draw(&s->random, 1u << 30);
		seg->ack = c->snd_una;
		seg->text = BYTES_LITERAL("injected");
		break;
	}
}

static void forge(struct sim *s, unsigned side, const struct half *h)
{
	uint8_t b[256];
	if (h->conn == NULL || !h->opened || h->ended || h->conn->state == TCP_CLOSED)
		return;
	const struct tcp_conn *c = h->conn;
	struct kit_segment seg = {
		.from = c->tuple.remote_port, .to = c->tuple.local_port, .window = 1000, .wscale = -1};
	forge_numbers(s, c, &seg);
	const size_t n = kit_encode(&seg, &c->tuple.remote, &c->tuple.local, b);
	struct rte_mbuf *m = kit_mbuf(s->wire, bytes_of(b, n), 0);
	const struct tcp_arrival a = {c->tuple.local, c->tuple.remote, false, 0};
	sim_trace(s, "%u < forged flags %x seq %u ack %u", side, seg.flags, seg.seq, seg.ack);
	if (m != NULL)
		tcp_input(s->sides[side].stack, m, &a, sim_now(s, side));
	sim_check(s, side, "a forged segment");
}

/* ---- the way ---- */

static bool is_in_blackout(const struct sim *s)
{
	return s->blackout_us <= s->now_us && s->now_us < s->blackout_us + s->o.blackout_ms * 1000ull;
}

static bool is_lost(struct sim *s, unsigned from)
{
	if (s->now_us < s->burst_until_us[from])
		return true;
	if (sim_chance(&s->random, s->o.burst)) {
		s->burst_until_us[from] = s->now_us + 1000ull * sim_draw(&s->random, s->o.burst_ms);
		return true;
	}
	return sim_chance(&s->random, s->o.loss);
}

/* A segment after a silence is most likely sent again, or an answer to that. Few of them are lost before both sides have
 * been heard again: waits double, and would grow past the time-outs that end connections. */
static bool may_suffer(struct sim *s, struct half *h, bool will_suffer)
{
	const bool is_lonely = s->now_us - h->last_sent_us > SIM_LONELY_US;
	h->last_sent_us = s->now_us;
	if (!is_lonely)
		return true;
	if (will_suffer && h->talk->lonely_lost < SIM_LONELY_LOST_MAX) {
		h->talk->lonely_lost++;
		h->talk->lonely_passed = 0;
		return true;
	}
	if (++h->talk->lonely_passed >= 2)
		h->talk->lonely_lost = 0;
	return false;
}

/* Whether it is lost or arrives broken. */
enum fate { FATE_PASSES, FATE_LOST, FATE_CORRUPT };
static enum fate fate_of(struct sim *s, unsigned from, struct half *h)
{
	const enum fate fate = is_lost(s, from) ? FATE_LOST
		: sim_chance(&s->random, s->o.corruption) ? FATE_CORRUPT : FATE_PASSES;
	return h == NULL || may_suffer(s, h, fate != FATE_PASSES) ? fate : FATE_PASSES;
}

/* When it is through the bottleneck; UINT64_MAX: the queue before it is full. */
static uint64_t pass_bottleneck(struct sim *s, unsigned from, size_t n)
{
	if (s->o.rate == 0)
		return s->now_us;
	uint64_t *busy = &s->busy_until_us[from];
	if (*busy < s->now_us)
		*busy = s->now_us;
	if ((*busy - s->now_us) * s->o.rate / 1000 + n > s->o.queue)
		return UINT64_MAX;
	return *busy += (n + 40) * 1000 / s->o.rate;
}

static uint64_t arrival_us(struct sim *s, unsigned from, uint64_t sent_us)
{
	uint64_t due = sent_us + s->o.delay_us + sim_draw(&s->random, s->o.jitter_us);
	if (sim_chance(&s->random, s->o.reorder))
		return due + sim_draw(&s->random, s->o.delay_us * 2);
	if (due < s->last_due_us[from])
		due = s->last_due_us[from];
	return s->last_due_us[from] = due;
}

/* Flips one bit of the segment or of the addresses its checksum covers. */
static void corrupt(struct sim *s, struct packet *p, struct flight *f)
{
	const uint8_t bit = (uint8_t)(1 << sim_draw(&s->random, 8));
	f->is_intact = false;
	if (sim_chance(&s->random, 100))
		(sim_chance(&s->random, 500) ? &f->source : &f->destination)->b[12 + sim_draw(&s->random, 4)] ^= bit;
	else
		p->b[sim_draw(&s->random, (uint32_t)p->n)] ^= bit;
}

static void send_copy(struct sim *s, const struct packet *original, struct flight f, uint64_t sent_us, bool is_corrupt)
{
	struct packet p = {.n = original->n};
	memcpy(p.b, original->b, p.n);
	if (f.ecn == TCP_ECN_ECT0 && sim_chance(&s->random, s->o.mark))
		f.ecn = TCP_ECN_CE;
	if (is_corrupt)
		corrupt(s, &p, &f);
	f.due_us = arrival_us(s, !f.to, sent_us);
	f.m = kit_mbuf(s->wire, bytes_of(p.b, p.n),
		sim_chance(&s->random, s->o.chaining) ? 60 + sim_draw(&s->random, 900) : 0);
	if (f.m != NULL)
		fly(s, f);
}

/* IP and Ethernet go in front, as a port would have them; the driver lets go when it likes. */
static void hold(struct sim *s, unsigned from, struct rte_mbuf *m)
{
	char *front = rte_pktmbuf_prepend(m, 14 + 40);
	if (front == NULL)
		sim_fail(s, "side %u leaves no room for headers", from);
	memset(front, 0xee, 14 + 40);
	if (s->o.hold_us == 0)
		rte_pktmbuf_free(m);
	else
		fly(s, (struct flight){.due_us = s->now_us + sim_draw(&s->random, s->o.hold_us), .m = m,
			.to = from, .kind = FLIGHT_HELD});
}

static void pass(struct sim *s, unsigned from, struct half *h, const struct packet *p, const struct flight *f)
{
	const uint64_t sent_us = pass_bottleneck(s, from, p->n);
	const enum fate fate = fate_of(s, from, h);
	if (fate == FATE_LOST || sent_us == UINT64_MAX || is_in_blackout(s) || s->has_vanished) {
		sim_trace(s, "  lost");
		return;
	}
	for (unsigned copies = sim_chance(&s->random, s->o.duplication) ? 2 : 1; copies > 0; copies--)
		send_copy(s, p, *f, sent_us, fate == FATE_CORRUPT);
	if (sim_chance(&s->random, s->o.forge) && h != NULL)
		forge(s, !from, &h->talk->half[!from]);
}

void sim_transmit(struct sim *s, unsigned from, const struct tcp_departure *d)
{
	struct flight f = {.to = !from, .kind = FLIGHT_SEGMENT, .source = d->local, .destination = d->remote,
		.is_intact = true, .ecn = d->ecn};
	struct packet p = {.n = d->m->data_len}, sent;
	memcpy(p.b, rte_pktmbuf_mtod(d->m, void *), p.n);
	struct half *h = half_of(s, from, p.b, p.b + 2);
	sim_watch_departure(s, h, d, &f);
	hold(s, from, d->m);
	s->segments++;
	sent = p;
	if (sim_chance(&s->random, s->o.icmp))
		icmp_noise(s, from, &sent, d);
	if (is_too_big(s, p.n)) {
		if (!s->o.silent)
			send_too_big(s, from, &sent, d);
		sim_trace(s, "  too big");
		return;
	}
	if (p.b[13] & KIT_SYN)
		meddle(s, &p, h == NULL ? NULL : &h->talk->half[!from]);
	if (s->o.simultaneous && (h == NULL || !translate(&p, h, &h->talk->half[!from])))
		return;
	pass(s, from, h, &p, &f);
}

/* ---- arriving ---- */

static void arrive(struct sim *s, const struct flight *f)
{
	const struct tcp_arrival a = {f->destination, f->source, false, f->ecn};
	const uint8_t *b = rte_pktmbuf_mtod(f->m, const uint8_t *);
	sim_watch_arrival(s, half_of(s, f->to, b + 2, b), f);
	tcp_input(s->sides[f->to].stack, f->m, &a, sim_now(s, f->to));
	sim_check(s, f->to, "tcp_input");
}

static void arrive_too_big(struct sim *s, const struct flight *f)
{
	tcp_icmp_error(s->sides[f->to].stack, &f->destination, &f->source,
		bytes_of(rte_pktmbuf_mtod(f->m, void *), 8), TCP_ICMP_TOO_BIG, f->mtu, sim_now(s, f->to));
	rte_pktmbuf_free(f->m);
	sim_check(s, f->to, "too big");
}

void sim_deliver(struct sim *s)
{
	while (s->flight_count > 0 && s->flights[0].due_us <= s->now_us) {
		const struct flight f = land_first(s);
		switch (f.kind) {
		case FLIGHT_SEGMENT: arrive(s, &f); break;
		case FLIGHT_TOO_BIG: arrive_too_big(s, &f); break;
		case FLIGHT_HELD: rte_pktmbuf_free(f.m); break;
		}
	}
}
