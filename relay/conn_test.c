// SPDX-License-Identifier: Apache-2.0
/* What a worker keeps of its connections: slots, deadlines, counts by client, and the spool's words. */
#include "relay/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define SLOTS 32

static uint32_t random_state;
static uint32_t random_next(void)
{
	return random_state = random_state * 1664525u + 1013904223u;
}

/* A worker with slots and nothing else. */
static struct worker *worker_new(void)
{
	struct worker *w = calloc(1, sizeof *w);
	w->conn_max = SLOTS;
	w->stride = (sizeof(struct conn) + smtp_server_size() + smtp_client_size() + 63) / 64 * 64;
	w->slab = calloc(SLOTS, w->stride);
	w->streams = stream_pool_create(SCRATCH_BYTES, 4);
	w->run_first = w->run_last = w->free_first = CONN_NONE;
	for (uint32_t slot = SLOTS; slot-- > 0;) {
		conn_at(w, slot)->generation = 1;
		conn_at(w, slot)->next = w->free_first;
		w->free_first = slot;
	}
	for (int i = 0; i < DEADLINE_CLASSES; i++)
		w->deadlines[i] =
			(struct deadline_list){.first = CONN_NONE, .last = CONN_NONE, .length_us = 100u + (unsigned)i};
	return w;
}

static void worker_free(struct worker *w)
{
	stream_pool_destroy(w->streams);
	free(w->slab);
	free(w);
}

static void a_slot_used_again_has_another_generation(void **state)
{
	struct worker *w = worker_new();
	struct conn *c = conn_get(w, CONN_INBOUND, NULL);
	uint32_t slot = conn_slot(w, c), generation = c->generation;
	conn_free(w, c);
	assert_ptr_equal(conn_get(w, CONN_OUTBOUND, NULL), c);
	assert_int_equal(conn_slot(w, c), slot);
	assert_int_not_equal(c->generation, generation);
	c->generation = UINT32_MAX;
	conn_free(w, c);
	assert_int_equal(c->generation, 1); /* 0 means none */
	worker_free(w);
}

static void no_slot_is_lost_or_had_twice(void **state)
{
	struct worker *w = worker_new();
	for (int round = 0; round < 3; round++) {
		bool is_seen[SLOTS] = {false};
		for (uint32_t i = 0; i < SLOTS; i++) {
			struct conn *c = conn_get(w, CONN_INBOUND, NULL);
			assert_non_null(c);
			assert_false(is_seen[conn_slot(w, c)]);
			is_seen[conn_slot(w, c)] = true;
		}
		assert_null(conn_get(w, CONN_INBOUND, NULL));
		assert_int_equal(w->conn_count, SLOTS);
		for (uint32_t i = 0; i < SLOTS; i++)
			conn_free(w, conn_at(w, (i * 7) % SLOTS));
		assert_int_equal(w->conn_count, 0);
	}
	worker_free(w);
}

static void a_slot_on_the_run_list_is_not_given_away(void **state)
{
	struct worker *w = worker_new();
	struct conn *c = conn_get(w, CONN_INBOUND, NULL);
	conn_wake(w, c);
	conn_wake(w, c);
	assert_int_equal(w->run_first, conn_slot(w, c));
	assert_int_equal(w->run_last, conn_slot(w, c));
	conn_free(w, c);
	conn_wake(w, c); /* has gone: no effect */
	for (uint32_t i = 1; i < SLOTS; i++)
		assert_ptr_not_equal(conn_get(w, CONN_INBOUND, NULL), c);
	assert_null(conn_get(w, CONN_INBOUND, NULL));
	worker_free(w);
}

/* The lists against what the connections say of themselves. */
static void check_deadlines(struct worker *w)
{
	for (int class = 0; class < DEADLINE_CLASSES; class++) {
		uint32_t before = CONN_NONE, count = 0, expected = 0;
		uint64_t due = 0;
		for (uint32_t slot = w->deadlines[class].first; slot != CONN_NONE;
			slot = conn_at(w, slot)->deadline_next, count++) {
			const struct conn *c = conn_at(w, slot);
			assert_int_equal(c->deadline, class);
			assert_int_equal(c->deadline_prev, before);
			assert_true(c->deadline_us >= due); /* the first is the next due */
			due = c->deadline_us;
			before = slot;
			assert_in_range(count, 0, SLOTS - 1);
		}
		assert_int_equal(w->deadlines[class].last, before);
		for (uint32_t slot = 0; slot < SLOTS; slot++)
			expected += conn_at(w, slot)->kind != CONN_FREE && conn_at(w, slot)->deadline == class;
		assert_int_equal(count, expected);
	}
}

static void deadlines_stay_in_order_whatever_is_set(void **state)
{
	struct worker *w = worker_new();
	random_state = 1;
	for (uint32_t i = 0; i < SLOTS; i++)
		conn_get(w, CONN_OUTBOUND, NULL);
	for (int i = 0; i < 20000; i++) {
		struct conn *c = conn_at(w, random_next() >> 8 & (SLOTS - 1));
		w->now_us += random_next() >> 8 & 3;
		if (c->kind == CONN_FREE)
			conn_get(w, CONN_OUTBOUND, NULL);
		else if ((random_next() >> 8 & 7) == 0)
			conn_free(w, c);
		else
			conn_set_deadline(w, c, random_next() >> 8 & 3 ? random_next() >> 8 & 3 : DEADLINE_NONE);
		check_deadlines(w);
	}
	worker_free(w);
}

static void verdict_words_keep_slot_generation_and_verdict(void **state)
{
	static const uint32_t slots[] = {0, 1, 999999, (1u << 30) - 1};
	static const uint32_t generations[] = {1, 2, 0x80000000u, UINT32_MAX};
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++)
			for (int is_durable = 0; is_durable < 2; is_durable++) {
				void *word = verdict_pack(slots[i], generations[j], is_durable);
				assert_non_null(word);
				struct verdict_word v = verdict_unpack(word);
				assert_int_equal(v.slot, slots[i]);
				assert_int_equal(v.generation, generations[j]);
				assert_int_equal(v.is_durable, is_durable);
			}
}

/* ---- counts by client ---- */

#define CLIENTS 64

static struct addr client(uint32_t i)
{
	struct addr a;
	char text[ADDR_TEXT_MAX];
	snprintf(text, sizeof text, i % 2 ? "192.0.2.%u" : "2001:db8:0:%x::1", i);
	assert_true(addr_parse(text, &a));
	return a;
}

static void counts_by_client_hold_through_any_order(void **state)
{
	for (uint32_t seed = 1; seed <= 20; seed++) {
		uint32_t model[CLIENTS] = {0}, open = 0;
		struct client_table t;
		assert_true(clients_init(&t, CLIENTS));
		t.key[0] = t.key[1] = random_state = seed; /* the same run each time */
		for (int i = 0; i < 3000; i++) {
			uint32_t who = random_next() >> 8 & (CLIENTS - 1);
			struct addr a = client(who);
			if (open < CLIENTS && (random_next() >> 8 & 1)) {
				assert_int_equal(clients_add(&t, &a), ++model[who]);
				open++;
			} else if (model[who] != 0) {
				clients_remove(&t, &a);
				model[who]--;
				open--;
			}
			for (uint32_t k = 0; k < CLIENTS; k++) {
				struct addr b = client(k);
				assert_int_equal(clients_count(&t, &b), model[k]);
			}
		}
		free(t.places);
	}
}

static void a_full_table_still_ends_its_searches(void **state)
{
	struct client_table t;
	assert_true(clients_init(&t, CLIENTS));
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct addr a = client(i);
		clients_add(&t, &a);
	}
	struct addr other;
	addr_parse("203.0.113.9", &other);
	assert_int_equal(clients_count(&t, &other), 0);
	clients_remove(&t, &other); /* nothing to remove, nothing removed */
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct addr a = client(i);
		assert_int_equal(clients_count(&t, &a), 1);
	}
	free(t.places);
}

static void an_ipv6_network_of_64_bits_is_one_client(void **state)
{
	struct client_table t;
	struct addr a, b, c;
	assert_true(clients_init(&t, CLIENTS));
	addr_parse("2001:db8:0:1::1", &a);
	addr_parse("2001:db8:0:1:ffff::2", &b);
	addr_parse("2001:db8:0:2::1", &c);
	assert_int_equal(clients_add(&t, &a), 1);
	assert_int_equal(clients_add(&t, &b), 2);
	assert_int_equal(clients_add(&t, &c), 1);
	clients_remove(&t, &a);
	assert_int_equal(clients_count(&t, &b), 1);
	free(t.places);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slot_used_again_has_another_generation),
		cmocka_unit_test(no_slot_is_lost_or_had_twice),
		cmocka_unit_test(a_slot_on_the_run_list_is_not_given_away),
		cmocka_unit_test(deadlines_stay_in_order_whatever_is_set),
		cmocka_unit_test(verdict_words_keep_slot_generation_and_verdict),
		cmocka_unit_test(counts_by_client_hold_through_any_order),
		cmocka_unit_test(a_full_table_still_ends_its_searches),
		cmocka_unit_test(an_ipv6_network_of_64_bits_is_one_client),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
