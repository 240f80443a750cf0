// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/lane.h"

#include <stdlib.h>
#include <string.h>

#define HELD_MAX 64 /* frames held back at a time; one more goes its way unheld */
#define ETHERNET_HEADER 14

struct slot {
	uint64_t arrival; /* the how-manieth frame it is */
	bool is_copy;
	uint16_t n;
	uint8_t data[LANE_FRAME_MAX];
};
struct due { /* a node of the heap */
	uint64_t due_us, order;
	uint32_t slot;
};
struct held {
	uint32_t slot;
	unsigned passes; /* later frames that still go first */
	uint64_t due_us; /* at the latest */
};

struct lane {
	struct lane_config config;
	struct lane_counts counts;
	uint64_t random, marks; /* two streams of chance: marks change nothing of the rest */
	uint64_t arrivals, orders;
	uint64_t link_free_ns; /* when the rate limit lets the next frame begin */
	uint64_t latest_out;   /* the greatest arrival number that has gone out, plus one */
	struct slot *slots;
	uint32_t free[LANE_FRAMES_MAX], free_count;
	uint32_t lent; /* the slot whose bytes the last pop gave out */
	struct due heap[LANE_FRAMES_MAX];
	uint32_t heap_count;
	struct held held[HELD_MAX];
	uint32_t held_count;
};

/* ---- chance: splitmix64 (Steele, Lea, Flood 2014) ---- */

static uint64_t draw_from(uint64_t *stream)
{
	uint64_t z = *stream += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint64_t draw(struct lane *l)
{
	return draw_from(&l->random);
}

static bool chance_from(uint64_t *stream, double share)
{
	return (double)(draw_from(stream) >> 11) * 0x1p-53 < share;
}

static bool chance(struct lane *l, double share)
{
	return chance_from(&l->random, share);
}

/* All is drawn for every frame, so that one option does not change what another one hits. */
struct fate {
	bool is_lost, is_duplicated, is_corrupted, is_held;
	uint64_t bit, passes;
};

static struct fate decide(struct lane *l)
{
	const struct lane_config *c = &l->config;
	struct fate f;
	f.is_lost = chance(l, c->loss);
	f.is_duplicated = chance(l, c->duplicate);
	f.is_corrupted = chance(l, c->corrupt);
	f.is_held = chance(l, c->reorder);
	f.bit = draw(l);
	f.passes = draw(l);
	return f;
}

/* ---- the heap: the earliest first, and among equals the first that was put in ---- */

static bool is_before(const struct due *a, const struct due *b)
{
	return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void heap_put(struct lane *l, uint32_t slot, uint64_t due_us)
{
	const struct due new = {.due_us = due_us, .order = l->orders++, .slot = slot};
	uint32_t at = l->heap_count++;
	for (; at > 0 && is_before(&new, &l->heap[(at - 1) / 2]); at = (at - 1) / 2)
		l->heap[at] = l->heap[(at - 1) / 2];
	l->heap[at] = new;
}

static uint32_t heap_take(struct lane *l)
{
	const uint32_t slot = l->heap[0].slot;
	const struct due last = l->heap[--l->heap_count];
	uint32_t at = 0;
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child + 1 < l->heap_count && is_before(&l->heap[child + 1], &l->heap[child]))
			child++;
		if (child >= l->heap_count || !is_before(&l->heap[child], &last))
			break;
		l->heap[at] = l->heap[child];
		at = child;
	}
	l->heap[at] = last;
	return slot;
}

/* ---- in ---- */

static uint32_t slot_get(struct lane *l, struct bytes frame, uint64_t arrival)
{
	if (l->free_count == 0) {
		l->counts.no_room++;
		return UINT32_MAX;
	}
	uint32_t index = l->free[--l->free_count];
	struct slot *s = &l->slots[index];
	s->arrival = arrival;
	s->is_copy = false;
	s->n = (uint16_t)frame.n;
	memcpy(s->data, frame.at, frame.n);
	return index;
}

/* When the frame is through the rate limit; UINT64_MAX: the queue before it is full. */
static uint64_t transmitted_us(struct lane *l, size_t n, uint64_t now_us)
{
	const struct lane_config *c = &l->config;
	if (c->rate_bits == 0)
		return now_us;
	uint64_t start_ns = l->link_free_ns > now_us * 1000 ? l->link_free_ns : now_us * 1000;
	if ((double)(start_ns - now_us * 1000) * (double)c->rate_bits / 8e9 > (double)c->queue_bytes)
		return UINT64_MAX;
	l->link_free_ns = start_ns + n * 8000000000u / c->rate_bits;
	return l->link_free_ns / 1000;
}

/* One more frame has passed those that are held back; who has let enough pass follows it. */
static void passed(struct lane *l, uint64_t due_us)
{
	for (uint32_t i = 0; i < l->held_count;) {
		struct held *h = &l->held[i];
		if (--h->passes > 0) {
			i++;
			continue;
		}
		heap_put(l, h->slot, due_us < h->due_us ? due_us : h->due_us);
		*h = l->held[--l->held_count];
	}
}

static void corrupt(struct slot *s, uint64_t bit)
{
	if (s->n <= ETHERNET_HEADER)
		return;
	bit %= (uint64_t)(s->n - ETHERNET_HEADER) * 8;
	s->data[ETHERNET_HEADER + bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* ---- marks (RFC 3168 5) ---- */

static void mark_ip4(uint8_t *ip)
{
	uint32_t sum = 0;
	ip[1] |= 3;
	ip[10] = ip[11] = 0;
	for (unsigned i = 0; i < (ip[0] & 15u) * 4; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	ip[10] = (uint8_t)(~sum >> 8);
	ip[11] = (uint8_t)~sum;
}

static void mark(struct lane *l, struct slot *s)
{
	uint8_t *ip = s->data + ETHERNET_HEADER;
	const unsigned type = s->n >= ETHERNET_HEADER + 40 ? (unsigned)s->data[12] << 8 | s->data[13] : 0;
	const unsigned bits = type == 0x0800 ? ip[1] & 3u : type == 0x86dd ? ip[1] >> 4 & 3u : 0;
	if (bits != 1 && bits != 2)
		return;
	l->counts.markable++;
	if (!chance_from(&l->marks, l->config.mark))
		return;
	l->counts.marked++;
	if (type == 0x0800)
		mark_ip4(ip);
	else
		ip[1] |= 3 << 4;
}

static void send_on(struct lane *l, uint32_t slot, const struct fate *f, uint64_t due_us)
{
	if (f->is_held && l->config.reorder_gap > 0 && l->held_count < HELD_MAX) {
		l->counts.held_back++;
		l->held[l->held_count++] = (struct held){.slot = slot,
			.passes = 1 + (unsigned)(f->passes % l->config.reorder_gap),
			.due_us = due_us + l->config.reorder_us};
		return;
	}
	heap_put(l, slot, due_us);
	passed(l, due_us);
}

static void send_copy(struct lane *l, const struct slot *of, uint64_t due_us)
{
	uint32_t copy = slot_get(l, bytes_of(of->data, of->n), of->arrival);
	l->counts.duplicated++;
	if (copy == UINT32_MAX)
		return;
	l->slots[copy].is_copy = true;
	heap_put(l, copy, due_us);
}

void lane_push(struct lane *l, struct bytes frame, uint64_t now_us)
{
	const struct fate f = decide(l);
	const uint64_t arrival = l->arrivals++;
	l->counts.in++;
	l->counts.in_bytes += frame.n;
	if (frame.n > LANE_FRAME_MAX) {
		l->counts.too_long++;
		return;
	}
	if (f.is_lost) {
		l->counts.lost++;
		return;
	}
	uint64_t due_us = transmitted_us(l, frame.n, now_us);
	if (due_us == UINT64_MAX) {
		l->counts.queue_full++;
		return;
	}
	due_us += l->config.delay_us;
	uint32_t slot = slot_get(l, frame, arrival);
	if (slot == UINT32_MAX)
		return;
	mark(l, &l->slots[slot]);
	if (f.is_corrupted) {
		l->counts.corrupted++;
		corrupt(&l->slots[slot], f.bit);
	}
	send_on(l, slot, &f, due_us);
	if (f.is_duplicated)
		send_copy(l, &l->slots[slot], due_us);
}

/* ---- out ---- */

static void release_held(struct lane *l, uint64_t now_us)
{
	for (uint32_t i = 0; i < l->held_count;) {
		if (l->held[i].due_us > now_us) {
			i++;
			continue;
		}
		heap_put(l, l->held[i].slot, l->held[i].due_us);
		l->held[i] = l->held[--l->held_count];
	}
}

static void count_out(struct lane *l, const struct slot *s)
{
	l->counts.out++;
	l->counts.out_bytes += s->n;
	if (!s->is_copy && s->arrival < l->latest_out)
		l->counts.overtaken++;
	if (s->arrival + 1 > l->latest_out)
		l->latest_out = s->arrival + 1;
}

bool lane_pop(struct lane *l, uint64_t now_us, struct bytes *frame)
{
	if (l->lent != UINT32_MAX)
		l->free[l->free_count++] = l->lent;
	l->lent = UINT32_MAX;
	release_held(l, now_us);
	if (l->heap_count == 0 || l->heap[0].due_us > now_us)
		return false;
	l->lent = heap_take(l);
	const struct slot *s = &l->slots[l->lent];
	count_out(l, s);
	*frame = bytes_of(s->data, s->n);
	return true;
}

uint64_t lane_due_us(const struct lane *l)
{
	uint64_t due = l->heap_count == 0 ? UINT64_MAX : l->heap[0].due_us;
	for (uint32_t i = 0; i < l->held_count; i++)
		if (l->held[i].due_us < due)
			due = l->held[i].due_us;
	return due;
}

unsigned lane_under_way(const struct lane *l)
{
	return l->heap_count + l->held_count;
}

const struct lane_counts *lane_counts(const struct lane *l)
{
	return &l->counts;
}

/* ---- life ---- */

struct lane *lane_create(const struct lane_config *config)
{
	struct lane *l = calloc(1, sizeof *l);
	if (l == NULL)
		return NULL;
	l->slots = malloc(LANE_FRAMES_MAX * sizeof *l->slots);
	if (l->slots == NULL) {
		free(l);
		return NULL;
	}
	l->config = *config;
	l->random = config->seed;
	l->marks = ~config->seed;
	l->lent = UINT32_MAX;
	for (uint32_t i = 0; i < LANE_FRAMES_MAX; i++)
		l->free[l->free_count++] = LANE_FRAMES_MAX - 1 - i;
	return l;
}

void lane_destroy(struct lane *l)
{
	if (l != NULL)
		free(l->slots);
	free(l);
}
