// SPDX-License-Identifier: Apache-2.0
/* Generations handed from one thread to others, which take and give back while it goes on. */
#include "relay/worker.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sched.h>
#include <unistd.h>
#include <cmocka.h>

#define USERS	    3 /* two workers and the queue */
#define GENERATIONS 30

static const char documents[] = "{\"profiles\":[{\"id\":\"p\",\"level\":\"may\"}],\"routes\":[{\"id\":\"all\",\"domain\":\"*\"}]}";

struct user {
	pthread_t thread;
	struct view_box *box;
	_Atomic uint64_t seen;
	_Atomic bool is_stopping;
	bool has_gone_back;
	unsigned taken;
};

static void *use(void *arg)
{
	struct user *u = arg;
	struct policy_route route;
	while (!atomic_load(&u->is_stopping)) {
		if (view_refresh(u->box)) {
			u->has_gone_back |= u->box->current->number <= atomic_load(&u->seen);
			atomic_store(&u->seen, u->box->current->number);
			u->taken++;
		}
		/* What it points to is whole and stays so while it is current. */
		if (u->box->current != NULL &&
			(!policy_find_route(u->box->current->policy, BYTES_LITERAL("a.example.test"), &route) ||
				policy_generation(u->box->current->policy) != u->box->current->number))
			abort();
		view_collect(u->box);
		sched_yield();
	}
	return NULL;
}

static int offer(struct relay *relay, uint64_t number)
{
	char error[512];
	int policy_fd, keys_fd;
	if (policy_compile(bytes_of_string(documents), NULL, 0, number, &policy_fd, &keys_fd, error) != 0)
		fail_msg("%s", error);
	return generation_offer(relay, policy_fd, keys_fd, error);
}

static struct relay *relay_new(struct user users[USERS])
{
	struct relay *relay = calloc(1, sizeof *relay);
	relay->cores = USERS - 1;
	for (unsigned i = 0; i < USERS; i++) {
		users[i] = (struct user){.box = &relay->queue.views};
		if (i < relay->cores) {
			relay->workers[i] = calloc(1, sizeof *relay->workers[i]);
			relay->workers[i]->tls_lib = tls_lib_create();
			assert_non_null(relay->workers[i]->tls_lib);
			users[i].box = &relay->workers[i]->views;
		}
		assert_true(ring_init(&users[i].box->returned, VIEW_RETURNED_RING));
	}
	return relay;
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Hands back what is current, too, as if a newer one had come. */
static void let_go(struct view_box *box)
{
	struct view *last = box->current;
	if (last != NULL) {
		last->next = box->retired;
		box->retired = last;
		box->current = NULL;
	}
	view_collect(box);
	assert_null(box->retired);
}

static void relay_free(struct relay *relay, struct user users[USERS])
{
	for (unsigned i = 0; i < USERS; i++)
		let_go(users[i].box);
	generation_collect(relay);
	for (unsigned i = 0; i < USERS; i++)
		ring_fini(&users[i].box->returned);
	for (unsigned i = 0; i < relay->cores; i++) {
		tls_lib_destroy(relay->workers[i]->tls_lib);
		free(relay->workers[i]);
	}
	free(relay);
}

static void each_user_gets_the_newest_and_never_an_older_one(void **state)
{
	struct user users[USERS];
	unsigned descriptors = open_descriptors();
	struct relay *relay = relay_new(users);
	for (unsigned i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
	for (uint64_t number = 1; number <= GENERATIONS; number++) {
		assert_int_equal(offer(relay, number), 0);
		assert_int_equal(atomic_load(&relay->generation), number);
		generation_collect(relay);
	}
	for (unsigned i = 0; i < USERS; i++) {
		for (int wait = 0; wait < 20000 && atomic_load(&users[i].seen) != GENERATIONS; wait++)
			usleep(1000);
		atomic_store(&users[i].is_stopping, true);
		pthread_join(users[i].thread, NULL);
		assert_int_equal(atomic_load(&users[i].seen), GENERATIONS);
		assert_false(users[i].has_gone_back);
		assert_in_range(users[i].taken, 1, GENERATIONS);
	}
	relay_free(relay, users); /* leaks are the sanitizer's to find */
	assert_int_equal(open_descriptors(), descriptors);
}

static void what_nobody_took_coalesces(void **state)
{
	struct user users[USERS];
	struct relay *relay = relay_new(users);
	for (uint64_t number = 1; number <= 5; number++)
		assert_int_equal(offer(relay, number), 0);
	for (unsigned i = 0; i < USERS; i++) {
		assert_true(view_refresh(users[i].box));
		assert_int_equal(users[i].box->current->number, 5);
		assert_null(users[i].box->retired);
		assert_false(view_refresh(users[i].box));
	}
	relay_free(relay, users);
}

static size_t io_nothing_read(void *user, uint8_t *to, size_t room)
{
	return 0;
}
static size_t io_nothing_written(void *user, const uint8_t *from, size_t n)
{
	return n;
}

static void a_view_with_sessions_stays_until_the_last_has_closed(void **state)
{
	struct user users[USERS];
	struct relay *relay = relay_new(users);
	struct view_box *box = users[0].box;
	const struct tls_io io = {.read = io_nothing_read, .write = io_nothing_written};
	assert_int_equal(offer(relay, 1), 0);
	assert_true(view_refresh(box));
	struct tls *tls = tls_open_client(box->current->client, 0, io, "mx.example.test", "");
	assert_non_null(tls);
	assert_int_equal(offer(relay, 2), 0);
	assert_true(view_refresh(box));
	view_collect(box);
	assert_non_null(box->retired);
	assert_int_equal(box->retired->number, 1);
	assert_int_equal(ring_count(&box->returned), 0);
	tls_close(tls);
	view_collect(box);
	assert_null(box->retired);
	assert_int_equal(ring_count(&box->returned), 1);
	for (unsigned i = 1; i < USERS; i++)
		view_refresh(users[i].box);
	relay_free(relay, users);
}

static void what_is_no_policy_is_refused_and_the_last_stays(void **state)
{
	struct user users[USERS];
	struct relay *relay = relay_new(users);
	char error[512] = "";
	int pipes[2];
	assert_int_equal(offer(relay, 1), 0);
	unsigned descriptors = open_descriptors();
	assert_int_equal(pipe(pipes), 0);
	assert_true(generation_offer(relay, pipes[0], pipes[1], error) < 0);
	assert_string_not_equal(error, "");
	assert_int_equal(open_descriptors(), descriptors); /* taken in every case */
	assert_int_equal(atomic_load(&relay->generation), 1);
	for (unsigned i = 0; i < USERS; i++) {
		assert_true(view_refresh(users[i].box));
		assert_int_equal(users[i].box->current->number, 1);
	}
	relay_free(relay, users);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_user_gets_the_newest_and_never_an_older_one),
		cmocka_unit_test(what_nobody_took_coalesces),
		cmocka_unit_test(a_view_with_sessions_stays_until_the_last_has_closed),
		cmocka_unit_test(what_is_no_policy_is_refused_and_the_last_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
