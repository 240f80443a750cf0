// SPDX-License-Identifier: Apache-2.0
/* The spool thread itself, on a simulated disk: the test is the worker and the queue thread. */
#include "relay/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "smtp/envelope.h"
#include "smtp/spool/disk_sim.h"

#define CHUNKS	64
#define DSN_CORE 63
#define WAITS	20000 /* of a millisecond: never reached, unless something is lost */

struct rig {
	struct relay relay;
	struct worker *w;
	struct mail_pool *dsns;
	struct disk *disk;
	struct spool_thread *t;
	uint64_t next_id;
};

static void found_none(void *user, const struct spool_found *found)
{
	++*(unsigned *)user;
}

/* Everything but the thread. */
static struct rig *rig_new(struct disk *disk)
{
	char error[256];
	unsigned found = 0;
	struct rig *r = calloc(1, sizeof *r);
	r->disk = disk;
	r->w = r->relay.workers[0] = calloc(1, sizeof *r->w);
	r->relay.cores = 1;
	r->t = &r->relay.spool;
	r->t->relay = &r->relay;
	r->t->disk = disk;
	r->w->mails = mail_pool_create(CHUNKS, CHUNKS, 0);
	r->dsns = mail_pool_create(CHUNKS, CHUNKS, DSN_CORE);
	r->t->reload_pool = mail_pool_create(CHUNKS, CHUNKS, 62);
	assert_true(ring_init(&r->w->to_spool, 1024) && ring_init(&r->w->from_spool, 1024));
	assert_true(ring_init(&r->t->from_queue, 1024) && ring_init(&r->t->to_queue, 1024));
	const struct spool_config config = {.disk = disk, .segment_bytes = 1 << 20};
	assert_int_equal(spool_open(&r->t->spool, &config, found_none, &found, error), 0);
	r->next_id = 1000;
	return r;
}

static void rig_start(struct rig *r)
{
	assert_int_equal(spool_thread_start(&r->relay), 0);
}

static void rig_stop(struct rig *r)
{
	atomic_store(&r->relay.is_spool_stopping, true);
	assert_int_equal(pthread_join(r->t->thread, NULL), 0);
}

static void rig_free(struct rig *r)
{
	spool_close(r->t->spool);
	mail_pool_destroy(r->w->mails);
	mail_pool_destroy(r->dsns);
	mail_pool_destroy(r->t->reload_pool);
	ring_fini(&r->w->to_spool), ring_fini(&r->w->from_spool);
	ring_fini(&r->t->from_queue), ring_fini(&r->t->to_queue);
	disk_sim_destroy(r->disk);
	free(r->w);
	free(r);
}

/* What comes next on a ring; fails the test if nothing does. */
static void *wait_word(struct ring *ring)
{
	void *word;
	for (int i = 0; i < WAITS; i++) {
		if ((word = ring_pop_spsc(ring)) != NULL)
			return word;
		usleep(1000);
	}
	fail_msg("nothing came");
	return NULL;
}

static struct mail *make_mail(struct rig *r, struct mail_pool *pool, size_t content)
{
	char line[64];
	struct mail *mail = mail_get(pool, ++r->next_id);
	assert_non_null(mail);
	assert_true(envelope_begin(mail) && envelope_put(mail, ENVELOPE_SENDER, BYTES_LITERAL("a@example.test")) &&
		envelope_put(mail, ENVELOPE_RECIPIENT, BYTES_LITERAL("b@example.test")));
	envelope_end(mail);
	for (unsigned i = 0; mail->size < content; i++) {
		snprintf(line, sizeof line, "line %u of mail %llu\r\n", i, (unsigned long long)mail->id);
		assert_true(mail_append(mail, bytes_of_string(line)));
	}
	return mail;
}

static void push_op(struct rig *r, struct mail *mail, enum spool_op op, void *second)
{
	assert_true(ring_push_spsc(&r->w->to_spool, (void *)((uintptr_t)mail | op)));
	assert_true(ring_push_spsc(&r->w->to_spool, second));
}

static void push_appends(struct rig *r, struct mail *mail)
{
	for (struct mail_chunk *c = mail->first; c != NULL; c = c->next)
		push_op(r, mail, SPOOL_OP_APPEND, c);
}

static void submit_mail(struct rig *r, struct mail *mail, uint32_t slot, uint32_t generation)
{
	push_appends(r, mail);
	mail->waiter_slot = slot;
	mail->waiter_generation = generation;
	push_op(r, mail, SPOOL_OP_COMMIT, mail);
}

static struct verdict_word wait_verdict(struct rig *r)
{
	return verdict_unpack(wait_word(&r->w->from_spool));
}

static struct mail *wait_admitted(struct rig *r)
{
	uintptr_t word = (uintptr_t)wait_word(&r->t->to_queue);
	assert_true(word & 1);
	return (struct mail *)(word & ~1ul);
}

static struct spool_report *wait_report(struct rig *r, enum spool_report_kind kind)
{
	struct spool_report *report = wait_word(&r->t->to_queue);
	assert_false((uintptr_t)report & 1);
	assert_int_equal(report->kind, kind);
	return report;
}

static void ask(struct rig *r, enum spool_request_kind kind, uint64_t id, struct mail *mail, const char *state)
{
	struct spool_request *q = calloc(1, sizeof *q + strlen(state));
	q->kind = kind;
	q->id = id;
	q->mail = mail;
	q->n = strlen(state);
	memcpy(q->bytes, state, q->n);
	assert_true(ring_push_spsc(&r->t->from_queue, q));
}

static void all_come_home(struct mail_pool *pool)
{
	for (int i = 0; i < WAITS && mail_pool_free_chunks(pool) != mail_pool_chunks(pool); i++) {
		mail_pool_collect(pool);
		usleep(1000);
	}
	assert_int_equal(mail_pool_free_chunks(pool), mail_pool_chunks(pool));
}

/* What a restart after a crash would find: ids and states. */
struct found {
	unsigned count;
	uint64_t ids[8];
	char states[8][32];
};
static void note_found(void *user, const struct spool_found *f)
{
	struct found *all = user;
	if (all->count < 8) {
		all->ids[all->count] = f->id;
		bytes_to_string(f->state, all->states[all->count], sizeof all->states[0]);
	}
	all->count++;
}

static struct found after_crash(const struct disk *disk, uint64_t seed)
{
	char error[256];
	struct spool *spool;
	struct found found = {0};
	struct disk *image = disk_sim_crash(disk, seed);
	const struct spool_config config = {.disk = image, .segment_bytes = 1 << 20};
	assert_int_equal(spool_open(&spool, &config, note_found, &found, error), 0);
	spool_close(spool);
	disk_sim_destroy(image);
	return found;
}

/* ---- the tests ---- */

static void what_is_reported_durable_survives_any_crash(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	rig_start(r);
	struct mail *mail = make_mail(r, r->w->mails, 3 * MAIL_CHUNK_DATA);
	uint64_t id = mail->id;
	submit_mail(r, mail, 7, 9);
	struct verdict_word v = wait_verdict(r);
	assert_true(v.is_durable);
	assert_int_equal(v.slot, 7);
	assert_int_equal(v.generation, 9);
	struct mail *admitted = ring_pop_spsc(&r->t->to_queue); /* the queue had it before the worker heard */
	assert_ptr_equal(admitted, (void *)((uintptr_t)mail | 1));
	rig_stop(r);
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct found found = after_crash(r->disk, seed);
		assert_int_equal(found.count, 1);
		assert_int_equal(found.ids[0], id);
	}
	mail_return(mail, MAIL_RETURN_QUEUE);
	all_come_home(r->w->mails);
	rig_free(r);
}

static struct rig *watched;
static bool is_too_early;
static void watch_call(void *user)
{
	/* No call of the disk is made in a round after its verdicts are out, but those of the next sync. */
	unsigned verdicts = ring_count(&watched->w->from_spool);
	if (verdicts != 0 && after_crash(watched->disk, 1).count < verdicts)
		is_too_early = true;
}

static void no_verdict_is_out_before_its_sync(void **state)
{
	struct rig *r = watched = rig_new(disk_sim_create());
	is_too_early = false;
	/* All of it is there when the thread starts: several batches, and verdicts nobody takes meanwhile. */
	for (uint32_t i = 0; i < 5; i++)
		submit_mail(r, make_mail(r, r->w->mails, 100), i, 1);
	disk_sim_on_call(r->disk, watch_call, NULL);
	rig_start(r);
	for (int i = 0; i < 5; i++)
		wait_admitted(r);
	submit_mail(r, make_mail(r, r->w->mails, 100), 5, 1);
	wait_admitted(r);
	rig_stop(r);
	assert_false(is_too_early);
	assert_int_equal(ring_count(&r->w->from_spool), 6);
	disk_sim_on_call(r->disk, NULL, NULL);
	rig_free(r);
}

static void a_failed_sync_is_a_bad_verdict_and_the_mail_goes_home(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	disk_sim_fail(r->disk, 2, 1, -EIO); /* the sync, behind the write */
	for (uint32_t i = 0; i < 3; i++)
		submit_mail(r, make_mail(r, r->w->mails, 2 * MAIL_CHUNK_DATA), i, 1);
	rig_start(r);
	for (uint32_t i = 0; i < 3; i++) {
		struct verdict_word v = wait_verdict(r);
		assert_int_equal(v.slot, i);
		assert_false(v.is_durable);
	}
	assert_true(atomic_load(&r->t->is_full)); /* new mails are refused meanwhile */
	all_come_home(r->w->mails);
	assert_int_equal(ring_count(&r->t->to_queue), 0);
	rig_stop(r);
	for (uint64_t seed = 1; seed <= 20; seed++)
		assert_int_equal(after_crash(r->disk, seed).count, 0);
	rig_free(r);
}

static void mails_are_taken_again_when_the_disk_has_recovered(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	disk_sim_fail(r->disk, 1, 1, -EIO);
	submit_mail(r, make_mail(r, r->w->mails, 100), 1, 1);
	rig_start(r);
	assert_false(wait_verdict(r).is_durable);
	for (int i = 0; i < WAITS && atomic_load(&r->t->is_full); i++)
		usleep(1000);
	assert_false(atomic_load(&r->t->is_full));
	struct mail *mail = make_mail(r, r->w->mails, 100);
	submit_mail(r, mail, 2, 1);
	assert_true(wait_verdict(r).is_durable);
	assert_ptr_equal(wait_admitted(r), mail);
	rig_stop(r);
	rig_free(r);
}

static void a_mail_whose_beginning_is_lost_is_refused_and_keeps_nobody_out(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	struct mail *mail = make_mail(r, r->w->mails, 4 * MAIL_CHUNK_DATA);
	/* As if its first chunk had been in a batch that failed. */
	for (struct mail_chunk *c = mail->first->next; c != NULL; c = c->next)
		push_op(r, mail, SPOOL_OP_APPEND, c);
	mail->waiter_slot = 3, mail->waiter_generation = 1;
	push_op(r, mail, SPOOL_OP_COMMIT, mail);
	rig_start(r);
	assert_false(wait_verdict(r).is_durable);
	assert_false(atomic_load(&r->t->is_full));
	all_come_home(r->w->mails);
	rig_stop(r);
	rig_free(r);
}

static void an_aborted_mail_goes_home_without_a_word(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	struct mail *mail = make_mail(r, r->w->mails, 4 * MAIL_CHUNK_DATA);
	push_appends(r, mail);
	push_op(r, mail, SPOOL_OP_ABORT, mail);
	rig_start(r);
	all_come_home(r->w->mails);
	rig_stop(r);
	assert_int_equal(ring_count(&r->w->from_spool), 0);
	assert_int_equal(after_crash(r->disk, 1).count, 0);
	rig_free(r);
}

static void a_dsn_comes_to_the_queue_when_it_is_durable(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	struct mail *dsn = make_mail(r, r->dsns, 3 * MAIL_CHUNK_DATA);
	ask(r, SPOOL_REQUEST_SUBMIT, dsn->id, dsn, "");
	rig_start(r);
	assert_ptr_equal(wait_admitted(r), dsn);
	assert_int_equal(after_crash(r->disk, 3).ids[0], dsn->id);
	rig_stop(r);
	assert_int_equal(ring_count(&r->w->from_spool), 0); /* no worker's business */
	rig_free(r);
}

static void a_dsn_that_could_not_be_made_durable_is_told_and_goes_home(void **state)
{
	/* The write, then the sync. */
	for (uint64_t call = 1; call <= 2; call++) {
		struct rig *r = rig_new(disk_sim_create());
		struct mail *dsn = make_mail(r, r->dsns, 3 * MAIL_CHUNK_DATA);
		uint64_t id = dsn->id;
		disk_sim_fail(r->disk, call, 1, -EIO);
		ask(r, SPOOL_REQUEST_SUBMIT, id, dsn, "");
		rig_start(r);
		struct spool_report *report = wait_report(r, SPOOL_REPORT_SUBMIT_FAILED);
		assert_int_equal(report->id, id);
		free(report);
		all_come_home(r->dsns);
		/* Made anew, as the queue does it. */
		dsn = make_mail(r, r->dsns, 100);
		ask(r, SPOOL_REQUEST_SUBMIT, dsn->id, dsn, "");
		assert_ptr_equal(wait_admitted(r), dsn);
		rig_stop(r);
		rig_free(r);
	}
}

static uint64_t commit_one(struct rig *r)
{
	struct mail *mail = make_mail(r, r->w->mails, 100);
	uint64_t id = mail->id;
	submit_mail(r, mail, 1, 1);
	assert_true(wait_verdict(r).is_durable);
	wait_admitted(r);
	return id;
}

static void states_and_dones_survive_a_sync_that_fails(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	rig_start(r);
	uint64_t kept = commit_one(r), over = commit_one(r);
	disk_sim_fail(r->disk, 1, 2, -EIO);
	ask(r, SPOOL_REQUEST_STATE, kept, NULL, "first");
	ask(r, SPOOL_REQUEST_DONE, over, NULL, "");
	/* While it fails a round of mails alone fails, too, and must not take them along. */
	submit_mail(r, make_mail(r, r->w->mails, 100), 2, 1);
	wait_verdict(r);
	ask(r, SPOOL_REQUEST_STATE, kept, NULL, "second");
	rig_stop(r); /* the thread ends only when they are written */
	struct found found = after_crash(r->disk, 5);
	assert_int_equal(found.ids[0], kept);
	assert_string_equal(found.states[0], "second");
	for (unsigned i = 0; i < found.count; i++)
		assert_int_not_equal(found.ids[i], over);
	rig_free(r);
}

static void a_request_about_a_mail_that_is_over_holds_up_nothing(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	char *large = calloc(1, SPOOL_STATE_BYTES_MAX + 2);
	memset(large, 'x', SPOOL_STATE_BYTES_MAX + 1);
	rig_start(r);
	uint64_t id = commit_one(r);
	ask(r, SPOOL_REQUEST_STATE, id, NULL, large);
	ask(r, SPOOL_REQUEST_STATE, 42, NULL, "of nobody");
	ask(r, SPOOL_REQUEST_DONE, 43, NULL, "");
	ask(r, SPOOL_REQUEST_STATE, id, NULL, "good");
	rig_stop(r);
	assert_false(atomic_load(&r->t->is_full));
	struct found found = after_crash(r->disk, 1);
	assert_int_equal(found.count, 1);
	assert_string_equal(found.states[0], "good");
	free(large);
	rig_free(r);
}

static void a_mail_is_read_back_byte_for_byte(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	rig_start(r);
	struct mail *mail = make_mail(r, r->w->mails, 5 * MAIL_CHUNK_DATA);
	submit_mail(r, mail, 1, 1);
	assert_true(wait_verdict(r).is_durable);
	wait_admitted(r);
	ask(r, SPOOL_REQUEST_LOAD, mail->id, NULL, "");
	struct spool_report *report = wait_report(r, SPOOL_REPORT_LOADED);
	assert_int_equal(report->id, mail->id);
	assert_non_null(report->mail);
	assert_int_equal(report->mail->size, mail->size);
	assert_int_equal(report->mail->envelope_size, mail->envelope_size);
	assert_int_equal(report->mail->crc, mail->crc);
	mail_return(report->mail, MAIL_RETURN_QUEUE);
	free(report);
	ask(r, SPOOL_REQUEST_LOAD, 12345, NULL, "");
	report = wait_report(r, SPOOL_REPORT_LOADED);
	assert_int_equal(report->id, 12345);
	assert_null(report->mail); /* and no room in the pool is lost by it: */
	free(report);
	rig_stop(r);
	mail_pool_collect(r->t->reload_pool);
	assert_int_equal(mail_pool_free_chunks(r->t->reload_pool), CHUNKS);
	rig_free(r);
}

static void the_thread_ends_also_if_the_disk_never_works_again_and_nobody_reads(void **state)
{
	struct rig *r = rig_new(disk_sim_create());
	rig_start(r);
	uint64_t id = commit_one(r);
	disk_sim_fail(r->disk, 1, 1000000, -EIO);
	ask(r, SPOOL_REQUEST_STATE, id, NULL, "lost");
	while (ring_push_spsc(&r->w->from_spool, (void *)1)) /* nobody takes verdicts any more */
		;
	submit_mail(r, make_mail(r, r->w->mails, 100), 1, 1);
	usleep(20000);
	atomic_store(&r->relay.is_stopping, true);
	rig_stop(r);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_reported_durable_survives_any_crash),
		cmocka_unit_test(no_verdict_is_out_before_its_sync),
		cmocka_unit_test(a_failed_sync_is_a_bad_verdict_and_the_mail_goes_home),
		cmocka_unit_test(mails_are_taken_again_when_the_disk_has_recovered),
		cmocka_unit_test(a_mail_whose_beginning_is_lost_is_refused_and_keeps_nobody_out),
		cmocka_unit_test(an_aborted_mail_goes_home_without_a_word),
		cmocka_unit_test(a_dsn_comes_to_the_queue_when_it_is_durable),
		cmocka_unit_test(a_dsn_that_could_not_be_made_durable_is_told_and_goes_home),
		cmocka_unit_test(states_and_dones_survive_a_sync_that_fails),
		cmocka_unit_test(a_request_about_a_mail_that_is_over_holds_up_nothing),
		cmocka_unit_test(a_mail_is_read_back_byte_for_byte),
		cmocka_unit_test(the_thread_ends_also_if_the_disk_never_works_again_and_nobody_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
