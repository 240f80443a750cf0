// SPDX-License-Identifier: Apache-2.0
#include "smtp/mail.h"

#include "base/ring.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static uint8_t content[5 * MAIL_CHUNK_DATA];

static struct bytes some_content(size_t n)
{
	for (size_t i = 0; i < n; i++)
		content[i] = (uint8_t)(i * 31 + i / 251);
	return bytes_of(content, n);
}

/* Reads the whole mail by a cursor, `step` bytes at a time, and compares it with `want`. */
static void assert_mail_reads(const struct mail *mail, struct bytes want, size_t step)
{
	const struct mail_chunk *cursor = NULL;
	uint64_t offset = 0;
	for (;;) {
		struct bytes b = bytes_first(mail_read(mail, offset, &cursor), step);
		if (b.n == 0)
			break;
		assert_true(offset + b.n <= want.n);
		assert_memory_equal(b.at, want.at + offset, b.n);
		offset += b.n;
	}
	assert_int_equal(offset, want.n);
}

static void mail_reads_back_what_was_appended(void **state)
{
	static const size_t steps[] = {1, 7, 100, 4096, MAIL_CHUNK_DATA, 3 * MAIL_CHUNK_DATA};
	struct mail_pool *pool = mail_pool_create(5, 1, 3);
	struct bytes all = some_content(4 * MAIL_CHUNK_DATA + 11);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		struct mail *mail = mail_get(pool, 42);
		for (struct bytes b = all; b.n != 0; b = bytes_skip(b, steps[i]))
			assert_true(mail_append(mail, bytes_first(b, steps[i])));
		assert_int_equal(mail->size, all.n);
		assert_int_equal(mail->crc, crc32c(0, all));
		assert_mail_reads(mail, all, 1000);
		assert_mail_reads(mail, all, SIZE_MAX);
		mail_put(mail);
		assert_int_equal(mail_pool_free_chunks(pool), 5);
	}
	assert_int_equal(mail_pool_core(pool), 3);
	mail_pool_destroy(pool);
}

static void cursor_may_go_back_and_past_the_end(void **state)
{
	struct mail_pool *pool = mail_pool_create(4, 1, 0);
	struct mail *mail = mail_get(pool, 1);
	struct bytes all = some_content(3 * MAIL_CHUNK_DATA);
	const struct mail_chunk *cursor = NULL;
	assert_int_equal(mail_read(mail, 0, &cursor).n, 0);
	assert_true(mail_append(mail, all));
	assert_int_equal(mail_read(mail, all.n - 1, &cursor).n, 1);
	assert_int_equal(mail_read(mail, all.n, &cursor).n, 0);
	struct bytes b = mail_read(mail, 5, &cursor);
	assert_int_equal(b.n, MAIL_CHUNK_DATA - 5);
	assert_int_equal(b.at[0], content[5]);
	mail_put(mail);
	mail_pool_destroy(pool);
}

static void append_is_whole_or_not_at_all(void **state)
{
	struct mail_pool *pool = mail_pool_create(2, 2, 0);
	struct mail *mail = mail_get(pool, 1);
	struct bytes all = some_content(2 * MAIL_CHUNK_DATA + 1);
	assert_false(mail_append(mail, all));
	assert_int_equal(mail->size, 0);
	assert_int_equal(mail->crc, 0);
	assert_true(mail_append(mail, bytes_first(all, 2 * MAIL_CHUNK_DATA - 1)));
	assert_false(mail_append(mail, bytes_first(all, 2)));
	assert_true(mail_append(mail, bytes_first(all, 1)));
	assert_int_equal(mail_pool_free_chunks(pool), 0);
	struct mail *other = mail_get(pool, 2);
	assert_false(mail_append(other, bytes_first(all, 1)));
	assert_null(mail_get(pool, 3));
	mail_put(other);
	mail_put(mail);
	mail_pool_destroy(pool);
}

static void returned_mail_comes_home_with_its_chunks(void **state)
{
	struct mail_pool *pool = mail_pool_create(4, 2, 0);
	struct mail *a = mail_get(pool, 1), *b = mail_get(pool, 2);
	assert_true(mail_append(a, some_content(MAIL_CHUNK_DATA + 1)));
	mail_return(a, MAIL_RETURN_SPOOL);
	mail_return(b, MAIL_RETURN_QUEUE); /* empty */
	assert_null(mail_get(pool, 3));
	mail_pool_collect(pool);
	assert_int_equal(mail_pool_free_chunks(pool), 4);
	assert_non_null(mail_get(pool, 3));
	assert_non_null(mail_get(pool, 4));
	mail_pool_destroy(pool);
}

static void evicted_mail_is_not_resident_but_keeps_its_facts(void **state)
{
	struct mail_pool *pool = mail_pool_create(4, 1, 0);
	struct mail *mail = mail_get(pool, 9);
	struct bytes all = some_content(3 * MAIL_CHUNK_DATA);
	const struct mail_chunk *cursor = NULL;
	assert_true(mail_append(mail, all));
	mail_evict(mail, MAIL_RETURN_QUEUE);
	mail_evict(mail, MAIL_RETURN_QUEUE); /* nothing left to send */
	assert_int_equal(mail_read(mail, 0, &cursor).n, 0);
	assert_int_equal(mail->size, all.n);
	assert_int_equal(mail->crc, crc32c(0, all));
	mail_pool_collect(pool);
	assert_int_equal(mail_pool_free_chunks(pool), 4);
	assert_null(mail_get(pool, 10));
	mail_return(mail, MAIL_RETURN_QUEUE);
	mail_pool_collect(pool);
	assert_int_equal(mail_pool_free_chunks(pool), 4);
	assert_non_null(mail_get(pool, 10));
	mail_pool_destroy(pool);
}

/* Every chunk a mail of its own, all evicted and returned before the owner looks once. */
static void return_rings_have_room_for_all(void **state)
{
	enum { ALL = 64 };
	struct mail_pool *pool = mail_pool_create(ALL, ALL, 0);
	for (int round = 0; round < 5; round++) {
		struct mail *mails[ALL];
		for (int i = 0; i < ALL; i++) {
			mails[i] = mail_get(pool, (uint64_t)i + 1);
			assert_true(mail_append(mails[i], some_content(1)));
		}
		for (int i = 0; i < ALL; i++) {
			mail_evict(mails[i], MAIL_RETURN_QUEUE);
			mail_return(mails[i], MAIL_RETURN_QUEUE);
		}
		mail_pool_collect(pool);
		assert_int_equal(mail_pool_free_chunks(pool), ALL);
	}
	mail_pool_destroy(pool);
}

/* Owner -> spool thread -> queue thread -> home, and some back straight from the spool thread. */
struct journey {
	struct ring to_spool, to_queue;
	uint64_t broken;
};
static struct mail the_end;

static struct mail *take(struct ring *from)
{
	struct mail *mail;
	while ((mail = ring_pop_spsc(from)) == NULL)
		sched_yield();
	return mail;
}

static void give(struct ring *to, struct mail *mail)
{
	while (!ring_push_spsc(to, mail))
		sched_yield();
}

static void *spool_thread(void *arg)
{
	struct journey *j = arg;
	struct mail *mail;
	while ((mail = take(&j->to_spool)) != &the_end) {
		if (mail->id % 3 == 0)
			mail_return(mail, MAIL_RETURN_SPOOL);
		else
			give(&j->to_queue, mail);
	}
	give(&j->to_queue, mail);
	return NULL;
}

static void *queue_thread(void *arg)
{
	struct journey *j = arg;
	struct mail *mail;
	while ((mail = take(&j->to_queue)) != &the_end) {
		const struct mail_chunk *cursor = NULL;
		uint32_t crc = 0;
		struct bytes b;
		for (uint64_t at = 0; (b = mail_read(mail, at, &cursor)).n != 0; at += b.n)
			crc = crc32c(crc, b);
		j->broken += crc != mail->crc;
		if (mail->id % 2 == 0)
			mail_evict(mail, MAIL_RETURN_QUEUE);
		mail_return(mail, MAIL_RETURN_QUEUE);
	}
	return NULL;
}

static void mails_come_home_from_two_threads_at_once(void **state)
{
	struct mail_pool *pool = mail_pool_create(20, 8, 0);
	struct journey j = {0};
	pthread_t spool, queue;
	assert_true(ring_init(&j.to_spool, 8) && ring_init(&j.to_queue, 8));
	assert_int_equal(pthread_create(&spool, NULL, spool_thread, &j), 0);
	assert_int_equal(pthread_create(&queue, NULL, queue_thread, &j), 0);
	struct bytes all = some_content(sizeof content);
	for (uint64_t id = 1; id <= 5000; id++) {
		struct mail *mail;
		while ((mail = mail_get(pool, id)) == NULL ||
			!mail_append(mail, bytes_first(all, id * 2711 % all.n))) {
			if (mail != NULL)
				mail_put(mail);
			mail_pool_collect(pool);
		}
		give(&j.to_spool, mail);
	}
	give(&j.to_spool, &the_end);
	pthread_join(spool, NULL);
	pthread_join(queue, NULL);
	mail_pool_collect(pool);
	assert_int_equal(j.broken, 0);
	assert_int_equal(mail_pool_free_chunks(pool), mail_pool_chunks(pool));
	ring_fini(&j.to_spool);
	ring_fini(&j.to_queue);
	mail_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_reads_back_what_was_appended),
		cmocka_unit_test(cursor_may_go_back_and_past_the_end),
		cmocka_unit_test(append_is_whole_or_not_at_all),
		cmocka_unit_test(returned_mail_comes_home_with_its_chunks),
		cmocka_unit_test(evicted_mail_is_not_resident_but_keeps_its_facts),
		cmocka_unit_test(return_rings_have_room_for_all),
		cmocka_unit_test(mails_come_home_from_two_threads_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
