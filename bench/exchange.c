// SPDX-License-Identifier: Apache-2.0
#include "bench/exchange.h"

#define PERIOD	251 /* of the pattern: prime, so that a shift by a segment or a block shows */
#define MAGIC	0x68796b75
#define IS_LAST 1u

static uint8_t pattern[EXCHANGE_CHUNK + PERIOD];

void exchange_init(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (uint8_t)(i % PERIOD);
}

static void put_u32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Sends the pattern from `*sent` up to `end`, as far as it goes. */
static void send_pattern(
	const struct exchange_io *io, void *link, uint64_t *sent, uint64_t end)
{
	while (*sent < end) {
		struct bytes b = bytes_first(
			bytes_of(pattern + *sent % PERIOD, EXCHANGE_CHUNK), end - *sent);
		size_t n = io->write(link, b);
		*sent += n;
		if (n < b.n)
			return;
	}
}

/* Takes the pattern from `*received` up to `end`; false: something else came. */
static bool take_pattern(
	const struct exchange_io *io, void *link, uint64_t *received, uint64_t end)
{
	static uint8_t buffer[EXCHANGE_CHUNK];
	while (*received < end) {
		uint64_t left = end - *received;
		size_t room = left < sizeof buffer ? left : sizeof buffer;
		size_t n = io->read(link, buffer, room);
		if (memcmp(buffer, pattern + *received % PERIOD, n) != 0)
			return false;
		*received += n;
		if (n == 0)
			return true;
	}
	return true;
}

/* ---- client ---- */

/* The head and as much of the bytes up as fit go in one write: a small request is one segment. */
static bool send_head(struct exchange_client *c, const struct exchange_plan *plan,
	const struct exchange_io *io, void *link)
{
	uint8_t b[EXCHANGE_HEAD + 1024];
	size_t text = plan->up < 1024 ? plan->up : 1024;
	put_u32(b, MAGIC);
	put_u32(b + 4, plan->is_last ? IS_LAST : 0);
	put_u32(b + 8, plan->up);
	put_u32(b + 12, plan->down);
	memcpy(b + EXCHANGE_HEAD, pattern, text);
	c->sent += io->write(link, bytes_of(b + c->sent, EXCHANGE_HEAD + text - c->sent));
	return c->sent >= EXCHANGE_HEAD;
}

bool exchange_ask(struct exchange_client *c, const struct exchange_plan *plan,
	const struct exchange_io *io, void *link)
{
	if (c->sent < EXCHANGE_HEAD && !send_head(c, plan, io, link))
		return false;
	uint64_t up = c->sent - EXCHANGE_HEAD;
	send_pattern(io, link, &up, plan->up);
	c->sent = up + EXCHANGE_HEAD;
	if (up == plan->up && !take_pattern(io, link, &c->received, plan->down))
		c->is_wrong = true;
	return up == plan->up && c->received == plan->down;
}

/* ---- server ---- */

static bool take_head(struct exchange_server *s, const struct exchange_io *io, void *link)
{
	s->received += io->read(link, s->head + s->received, EXCHANGE_HEAD - s->received);
	if (s->received < EXCHANGE_HEAD)
		return false;
	s->is_wrong = get_u32(s->head) != MAGIC;
	s->plan = (struct exchange_plan){.up = get_u32(s->head + 8),
		.down = get_u32(s->head + 12),
		.is_last = get_u32(s->head + 4) & IS_LAST};
	return !s->is_wrong;
}

/* false: more of it is to come. */
static bool take_request(struct exchange_server *s, const struct exchange_io *io, void *link)
{
	if (s->received < EXCHANGE_HEAD && !take_head(s, io, link))
		return false;
	uint64_t up = s->received - EXCHANGE_HEAD;
	s->is_wrong = !take_pattern(io, link, &up, s->plan.up);
	s->received = up + EXCHANGE_HEAD;
	return !s->is_wrong && up == s->plan.up;
}

bool exchange_serve(struct exchange_server *s, const struct exchange_io *io, void *link)
{
	while (take_request(s, io, link)) {
		send_pattern(io, link, &s->sent, s->plan.down);
		if (s->sent < s->plan.down)
			return false;
		s->requests++;
		s->received = s->sent = 0;
		if (s->plan.is_last)
			return true;
	}
	return s->is_wrong;
}
