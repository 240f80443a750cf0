// SPDX-License-Identifier: Apache-2.0
/* The small things the queue stands on: what is due, tables, the state's bytes; and a queue of many mails. */
#include "smtp/queue/queue_private.h"
#include "smtp/queue/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void what_is_due_comes_in_order_however_it_was_moved(void **state)
{
	enum { COUNT = 1000 };
	struct due_heap heap = {0};
	struct due dues[COUNT] = {0};
	uint32_t x = 1;

	for (unsigned n = 0; n < 5 * COUNT; n++) {
		x = x * 1664525 + 1013904223;
		if (x >> 30 == 0)
			due_clear(&heap, &dues[(x >> 8) % COUNT]);
		else
			due_set(&heap, &dues[(x >> 8) % COUNT], x >> 20);
	}
	uint64_t last_us = 0;
	uint32_t left = heap.count;
	for (; due_first(&heap) != NULL; left--) {
		struct due *due = due_first(&heap);
		assert_true(due->at_us >= last_us);
		last_us = due->at_us;
		due_clear(&heap, due);
	}
	assert_int_equal(left, 0);
	for (unsigned n = 0; n < COUNT; n++)
		assert_int_equal(dues[n].place, 0);
	due_fini(&heap);
}

static void a_table_finds_all_of_one_hash_and_no_other(void **state)
{
	struct table table = {0};
	struct table_link links[500];

	assert_null(table_find(&table, 1));
	for (unsigned n = 0; n < 500; n++)
		table_put(&table, &links[n], n / 5);
	for (unsigned n = 0; n < 500; n += 5)
		table_remove(&table, &links[n]);
	for (unsigned n = 0; n < 100; n++) {
		unsigned found = 0;
		for (struct table_link *l = table_find(&table, n); l != NULL; l = table_find_next(l)) {
			assert_true((l - links) / 5 == (long)n && (l - links) % 5 != 0);
			found++;
		}
		assert_int_equal(found, 4);
	}
	table_fini(&table);
}

static void a_hash_depends_on_the_key_the_case_and_every_byte(void **state)
{
	struct hash_key key = {1, 2}, other = {1, 3};
	struct bytes a = BYTES_LITERAL("mail.Example.test"), b = BYTES_LITERAL("MAIL.example.TEST");

	assert_true(hash_bytes(&key, 0, a, true) == hash_bytes(&key, 0, b, true));
	assert_true(hash_bytes(&key, 0, a, false) != hash_bytes(&key, 0, b, false));
	assert_true(hash_bytes(&key, 0, a, true) != hash_bytes(&other, 0, a, true));
	assert_true(hash_bytes(&key, 0, a, true) != hash_bytes(&key, 1, a, true));
	for (size_t n = 0; n < a.n; n++)
		assert_true(hash_bytes(&key, 0, bytes_first(a, n), true) != hash_bytes(&key, 0, a, true));
}

/* ---- the state ---- */
static void prepare(struct world *w)
{
	static const char *const recipients[] = {"a@a.example.test", "x@a.example.test", "b@b.example.test"};

	world_init(w, 1);
	world_open(w);
	world_domain(w, "a.example.test")->code = 451;
	world_domain(w, "a.example.test")->code_of_x = 421;
	world_mail(w, "s@s.example.test", recipients, 3);
	world_run(w, 5);
}

static void a_state_cut_anywhere_is_refused_or_read_in_part(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	prepare(w);
	struct world_mail *m = &w->mails[0];
	struct state_cursor cursor;
	struct state_item item;

	for (size_t n = 0; n <= m->state_size; n++) {
		uint8_t *cut = malloc(n + 1);
		memcpy(cut, m->state, n);
		bool is_open = state_open(bytes_of(cut, n), 3, &cursor);
		assert_true(is_open == (n >= 10));
		if (is_open)
			assert_true(state_next_item(&cursor, &item) == (n == m->state_size));
		free(cut);
	}
	assert_true(state_open(bytes_of(m->state, m->state_size), 3, &cursor));
	assert_true(state_next_item(&cursor, &item));
	assert_int_equal(item.tries, 1);
	assert_int_equal(item.count, 2);
	struct reason *reason;
	uint32_t run;
	unsigned codes[2] = {0}, runs = 0;
	while (state_next_reason(&item, &run, &reason)) {
		assert_int_equal(run, 1);
		codes[runs++] = reason->code;
		assert_true(bytes_equal(reason_remote(reason), BYTES_LITERAL("mx.a.example.test")));
		reason_release(reason);
	}
	assert_int_equal(runs, 2);
	assert_true(codes[0] + codes[1] == 451 + 421 && codes[0] != codes[1]);
	m->state[0]++; /* a later version */
	assert_false(state_open(bytes_of(m->state, m->state_size), 3, &cursor));
	m->state[0]--;
	assert_false(state_open(bytes_of(m->state, m->state_size), 4, &cursor));
	world_close(w);
	free(w);
}

static void a_state_with_any_bit_wrong_loses_no_recipient_that_is_not_marked_done(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	prepare(w);
	world_crash(w);

	for (size_t bit = 8 * 6; bit < 8 * w->mails[0].state_size; bit++) { /* behind the done bits */
		struct world_mail *m = &w->mails[0];
		m->state[bit / 8] ^= (uint8_t)(1 << bit % 8);
		world_crash(w);
		queue_release(w->q, &(struct queue_selection){.state = -1}, w->now_us);
		world_check(w);
		struct queue_stats stats;
		uint32_t count = 0;
		queue_get_stats(w->q, &stats);
		for (struct link *l = w->q->mails->items.next; l != &w->q->mails->items; l = l->next)
			count += LINK_OF(l, struct item, of_mail)->count;
		assert_int_equal(count, 2);
		m->state[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	world_close(w);
	free(w);
}

/* ---- listing ---- */
struct page {
	uint64_t ids[4];
	uint32_t items[4];
	unsigned count, most;
};

static bool take_one(void *user, const struct queue_item_info *info)
{
	struct page *page = user;

	page->items[page->count] = info->item;
	page->ids[page->count++] = info->mail_id;
	return page->count < page->most;
}

static void lists_come_in_the_order_of_ids_page_by_page(void **state)
{
	static const char *const to[] = {"a@a.example.test"};
	struct world *w = calloc(1, sizeof *w);
	struct queue_selection all = {.state = -1};
	unsigned seen = 0;

	world_init(w, 1);
	world_open(w);
	for (unsigned n = 0; n < 10; n++)
		world_mail(w, "s@s.example.test", to, 1);
	for (struct queue_place after = {0};;) {
		struct page page = {.most = 4};
		queue_list(w->q, &all, after, take_one, &page);
		for (unsigned n = 0; n < page.count; n++)
			assert_true(page.ids[n] == w->mails[seen++].id);
		if (page.count == 0)
			break;
		after = (struct queue_place){page.ids[page.count - 1], seen % 8 == 0 ? QUEUE_PLACE_WHOLE : page.items[page.count - 1]};
	}
	assert_int_equal(seen, 10);
	world_close(w);
	free(w);
}

static void a_mail_that_takes_several_pages_is_listed_to_its_last_item(void **state)
{
	char text[60][32];
	const char *to[60];
	struct world *w = calloc(1, sizeof *w);
	struct queue_selection all = {.state = -1}, that = {.state = -1};
	bool is_seen[60] = {0};

	world_init(w, 1);
	world_open(w);
	for (unsigned n = 0; n < 60; n++) { /* two in each of 30 domains, one far from the other */
		snprintf(text[n], sizeof text[n], "u%u@d%u.example.test", n, n % 30);
		to[n] = text[n];
	}
	world_mail(w, "s@s.example.test", to, 60);
	world_mail(w, "s@s.example.test", to, 1);
	unsigned pages = 0, items = 0;
	for (struct queue_place after = {0};; pages++) {
		struct page page = {.most = 4};
		queue_list(w->q, &all, after, take_one, &page);
		for (unsigned n = 0; n < page.count; n++) {
			assert_true(page.items[n] < 30);
			assert_true(n == 0 || page.ids[n] > page.ids[n - 1] || page.items[n] > page.items[n - 1]);
			is_seen[page.ids[n] == w->mails[0].id ? page.items[n] : 30] = true;
			items++;
		}
		if (page.count == 0)
			break;
		after = (struct queue_place){page.ids[page.count - 1], page.items[page.count - 1]};
	}
	for (unsigned n = 0; n < 31; n++)
		assert_true(is_seen[n]);
	assert_int_equal(items, 31);
	assert_int_equal(pages, 8);
	struct page page = {.most = 4};
	that.mail_id = w->mails[0].id;
	queue_list(w->q, &that, (struct queue_place){that.mail_id, 27}, take_one, &page);
	assert_int_equal(page.count, 2);
	page.count = 0;
	queue_list(w->q, &that, (struct queue_place){that.mail_id, QUEUE_PLACE_WHOLE}, take_one, &page);
	assert_int_equal(page.count, 0);
	queue_list(w->q, &that, (struct queue_place){that.mail_id - 1, 5}, take_one, &page);
	assert_int_equal(page.count, 4);
	world_close(w);
	free(w);
}

static void selections_match_domain_reason_sender_state_and_id(void **state)
{
	static const char *const to[] = {"a@a.example.test", "b@b.example.test"};
	struct world *w = calloc(1, sizeof *w);

	world_init(w, 1);
	world_open(w);
	world_domain(w, "a.example.test")->is_down = true;
	world_domain(w, "b.example.test")->code = 451;
	world_mail(w, "s@s.example.test", to, 2);
	world_mail(w, "t@s.example.test", to, 1);
	world_run(w, 5);
	const struct {
		struct queue_selection selection;
		unsigned count;
	} cases[] = {
		{{.state = -1}, 3},
		{{.state = -1, .domain = BYTES_LITERAL("A.Example.test")}, 2},
		{{.state = -1, .domain = BYTES_LITERAL("c.example.test")}, 0},
		{{.state = -1, .reason = BYTES_LITERAL("NOBODY")}, 2},
		{{.state = -1, .reason = BYTES_LITERAL("451 4.1.1 no")}, 1},
		{{.state = -1, .sender = BYTES_LITERAL("t@s.example.test")}, 1},
		{{.state = -1, .sender = BYTES_LITERAL("T@s.example.test")}, 0},
		{{.state = QUEUE_ITEM_WAITING}, 3},
		{{.state = QUEUE_ITEM_HELD}, 0},
		{{.state = -1, .mail_id = w->mails[0].id}, 2},
		{{.state = -1, .mail_id = 1}, 0},
	};
	for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
		struct page page = {.most = 4};
		queue_list(w->q, &cases[n].selection, (struct queue_place){0}, take_one, &page);
		assert_int_equal(page.count, cases[n].count);
	}
	world_close(w);
	free(w);
}

static void an_envelope_that_cannot_be_read_is_held_for_the_operator(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct queue_selection all = {.state = -1};
	struct queue_effect effect;
	struct page page = {.most = 4};

	world_init(w, 1);
	world_open(w);
	queue_recover(w->q, &(struct spool_found){.id = 5, .size = 9, .envelope_size = 4,
		.envelope = BYTES_LITERAL("what"), .state = BYTES_LITERAL("?")}, w->now_us);
	assert_false(queue_next_effect(w->q, &effect)); /* what is known of it stays as it is */
	assert_int_equal(queue_release(w->q, &all, w->now_us), 0);
	queue_list(w->q, &(struct queue_selection){.state = QUEUE_ITEM_HELD}, (struct queue_place){0}, take_one, &page);
	assert_int_equal(page.count, 1);
	assert_int_equal(queue_remove(w->q, &all, w->now_us), 1);
	assert_true(queue_next_effect(w->q, &effect) && effect.kind == QUEUE_EFFECT_DONE);
	world_close(w);
	free(w);
}

static void a_late_or_unknown_answer_is_ignored(void **state)
{
	static const char *const to[] = {"a@a.example.test"};
	struct world *w = calloc(1, sizeof *w);
	static struct queue_route route;
	struct queue_effect effect;

	world_init(w, 1);
	world_open(w);
	queue_route_answer(w->q, 12345, &route, w->now_us);
	world_mail(w, "s@s.example.test", to, 1);
	world_run(w, 0);
	queue_loaded(w->q, w->mails[0].id, NULL, w->now_us);
	queue_loaded(w->q, 99, NULL, w->now_us);
	queue_submit_failed(w->q, 99, w->now_us);
	/* A body for a mail that is resident, and one for a mail that is gone, go home. */
	for (unsigned n = 0; n < 2; n++) {
		struct mail *mail = mail_get(w->pool, n == 0 ? w->mails[0].id : 99);
		queue_loaded(w->q, mail->id, mail, w->now_us);
		assert_true(queue_next_effect(w->q, &effect));
		assert_true(effect.kind == QUEUE_EFFECT_RETURN && effect.mail == mail);
		mail_return(mail, MAIL_RETURN_QUEUE);
	}
	world_run(w, 5);
	assert_true(w->mails[0].is_done);
	world_close(w);
	free(w);
}

/* ---- many ---- */
/* The envelope of a mail to one of 1,000 domains that are all down. */
static size_t make_envelope(struct mail_pool *pool, unsigned n, uint8_t *to)
{
	struct mail *mail = mail_get(pool, n);
	char address[64];

	snprintf(address, sizeof address, "user%u@d%u.example.test", n, n % 1000);
	assert_true(envelope_begin(mail) && envelope_put(mail, ENVELOPE_SENDER, BYTES_LITERAL("s@s.example.test")) &&
		envelope_put(mail, ENVELOPE_RECIPIENT, bytes_of_string(address)));
	envelope_end(mail);
	size_t size = mail->envelope_size;
	assert_true(envelope_copy(mail, to));
	mail_put(mail);
	return size;
}

/* No timing is asserted: were any step O(n), this would not end within the test's time. */
static void a_hundred_thousand_mails_wait_are_changed_and_removed(void **state)
{
	enum { MANY = 100000 };
	struct mail_pool *pool = mail_pool_create(4, 4, 1);
	struct queue_config config = {.hostname = "relay.example.test", .mails_max = MANY,
		.retry_first_seconds = 60, .retry_factor_percent = 150, .retry_most_seconds = 3600,
		.lifetime_seconds = 86400, .connections_per_site_max = 2, .cores = 2};
	struct queue *q = queue_create(&config);
	struct queue_selection all = {.state = -1}, some = {.state = -1, .domain = BYTES_LITERAL("d7.example.test")};
	struct queue_effect effect;
	static struct queue_route defer = {.outcome = QUEUE_ROUTE_DEFER};
	uint8_t envelope[512];
	uint64_t now_us = 1000 * SECONDS;
	unsigned asks = 0, records = 0, states = 0, done = 0;

	for (unsigned n = 1; n <= MANY; n++) {
		assert_true(queue_has_room(q));
		size_t size = make_envelope(pool, n, envelope);
		queue_recover(q, &(struct spool_found){.id = (uint64_t)n * 7919 % 1000003, .size = 1000,
			.envelope_size = (uint32_t)size, .envelope = bytes_of(envelope, size)}, now_us);
	}
	assert_false(queue_has_room(q));
	for (unsigned round = 0; round < 3; round++, now_us += 3600 * SECONDS) {
		queue_tick(q, now_us);
		while (queue_next_effect(q, &effect)) {
			records += effect.kind == QUEUE_EFFECT_RECORD;
			states += effect.kind == QUEUE_EFFECT_STATE;
			if (effect.kind == QUEUE_EFFECT_ROUTE) {
				asks++;
				queue_route_answer(q, effect.token, &defer, now_us);
			}
		}
	}
	assert_int_equal(records, 3 * MANY);
	assert_int_equal(states, 3 * MANY);
	assert_true(asks >= 3 * 1000 && asks <= 3 * MANY);
	assert_int_equal(queue_hold(q, &some), MANY / 1000);
	assert_int_equal(queue_retry(q, &all, now_us), MANY - MANY / 1000);
	assert_int_equal(queue_remove(q, &all, now_us), MANY);
	while (queue_next_effect(q, &effect))
		done += effect.kind == QUEUE_EFFECT_DONE;
	assert_int_equal(done, MANY);
	queue_destroy(q);
	mail_pool_destroy(pool);
}

/* What a waiting mail to one recipient costs, without the heap's own share. */
static void a_waiting_mail_is_small(void **state)
{
	size_t address = 40;

	assert_true(sizeof(struct queued_mail) + 2 * address + 1 + sizeof(struct item) +
			    sizeof(struct bytes) + sizeof(struct reason *) + sizeof(uint32_t) +
			    sizeof(struct reason) + 100 + sizeof(struct due *) <= 700);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_due_comes_in_order_however_it_was_moved),
		cmocka_unit_test(a_table_finds_all_of_one_hash_and_no_other),
		cmocka_unit_test(a_hash_depends_on_the_key_the_case_and_every_byte),
		cmocka_unit_test(a_state_cut_anywhere_is_refused_or_read_in_part),
		cmocka_unit_test(a_state_with_any_bit_wrong_loses_no_recipient_that_is_not_marked_done),
		cmocka_unit_test(lists_come_in_the_order_of_ids_page_by_page),
		cmocka_unit_test(a_mail_that_takes_several_pages_is_listed_to_its_last_item),
		cmocka_unit_test(selections_match_domain_reason_sender_state_and_id),
		cmocka_unit_test(an_envelope_that_cannot_be_read_is_held_for_the_operator),
		cmocka_unit_test(a_late_or_unknown_answer_is_ignored),
		cmocka_unit_test(a_hundred_thousand_mails_wait_are_changed_and_removed),
		cmocka_unit_test(a_waiting_mail_is_small),
	};

	return cmocka_run_group_tests_name("queue_parts", tests, NULL, NULL);
}
