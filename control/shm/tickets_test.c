// SPDX-License-Identifier: Apache-2.0
/* Ticket keys: how they rotate, what a control makes of those of others, and the object they travel in. */
#include "control/shm/tickets.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { ROTATION = 8 * 3600, LIFETIME = 2 * 3600, START = 1000 };
static const struct tickets_plan plan = {ROTATION, LIFETIME};

/* The key that encrypts at `now`, as relays choose it. */
static const struct tls_ticket_key *youngest(const struct tls_ticket_keys *keys, uint64_t now)
{
	const struct tls_ticket_key *best = NULL;
	for (uint32_t i = 0; i < keys->count; i++)
		if (keys->at[i].from <= now && now < keys->at[i].until &&
			(best == NULL || keys->at[i].from > best->from))
			best = &keys->at[i];
	return best;
}

/* ---- rotation ---- */

static void the_first_turn_makes_a_current_key_and_the_next(void **state)
{
	struct tls_ticket_keys keys = {0};
	assert_true(tickets_turn(&keys, &plan, START));
	assert_int_equal(keys.count, 2);
	assert_int_equal(keys.lifetime_seconds, LIFETIME);
	assert_int_equal(keys.at[0].from, START);
	assert_int_equal(keys.at[0].until, START + ROTATION);
	assert_int_equal(keys.at[0].end, START + ROTATION + LIFETIME);
	assert_int_equal(keys.at[1].from, START + ROTATION);
	assert_memory_not_equal(keys.at[0].name, keys.at[1].name, sizeof keys.at[0].name);
	assert_memory_not_equal(keys.at[0].cipher, keys.at[1].cipher, sizeof keys.at[0].cipher);
	assert_memory_not_equal(keys.at[0].mac, keys.at[1].mac, sizeof keys.at[0].mac);
	assert_memory_not_equal(keys.at[0].mac, keys.at[0].cipher, sizeof keys.at[0].mac);
	assert_false(tickets_turn(&keys, &plan, START + 1));
}

static void at_any_time_one_key_encrypts_the_next_is_there_and_three_are_the_most(void **state)
{
	struct tls_ticket_keys keys = {0};
	for (uint64_t now = START; now < START + 10 * ROTATION; now += 60) {
		tickets_turn(&keys, &plan, now);
		assert_non_null(youngest(&keys, now));
		assert_non_null(youngest(&keys, now + ROTATION));
		assert_in_range(keys.count, 2, 3);
		/* A ticket made as late as can be is accepted for its whole life. */
		if (now >= START + LIFETIME) {
			const struct tls_ticket_keys before = keys;
			struct tls_ticket_keys after = keys;
			const struct tls_ticket_key *key = youngest(&before, now);
			tickets_turn(&after, &plan, now + LIFETIME - 1);
			bool is_there = false;
			for (uint32_t i = 0; i < after.count; i++)
				is_there |= memcmp(after.at[i].name, key->name, sizeof key->name) == 0;
			assert_true(is_there);
		}
	}
}

static void a_control_that_slept_makes_new_keys_and_drops_the_ended(void **state)
{
	struct tls_ticket_keys keys = {0};
	tickets_turn(&keys, &plan, START);
	struct tls_ticket_key old = keys.at[0];
	uint64_t later = START + 10 * ROTATION;
	assert_true(tickets_turn(&keys, &plan, later));
	assert_int_equal(keys.count, 2);
	assert_memory_not_equal(old.name, keys.at[0].name, sizeof old.name);
	assert_int_equal(youngest(&keys, later)->from, later);
}

static void a_lifetime_of_zero_is_no_keys(void **state)
{
	const struct tickets_plan none = {ROTATION, 0};
	struct tls_ticket_keys keys = {0};
	assert_false(tickets_turn(&keys, &none, START));
	tickets_turn(&keys, &plan, START);
	assert_true(tickets_turn(&keys, &none, START));
	assert_int_equal(keys.count, 0);
	assert_false(tickets_turn(&keys, &none, START));
}

/* ---- the keys of others ---- */

static void a_control_started_anew_goes_on_with_the_relays_keys(void **state)
{
	struct tls_ticket_keys of_relay = {0}, keys = {0};
	tickets_turn(&of_relay, &plan, START);
	assert_true(tickets_merge(&keys, &of_relay));
	tickets_turn(&keys, &plan, START + 60);
	assert_int_equal(keys.count, 2);
	assert_memory_equal(youngest(&keys, START + 60)->name, of_relay.at[0].name, 16);
	assert_false(tickets_merge(&keys, &of_relay));
}

static void two_tables_become_one_in_which_all_agree(void **state)
{
	struct tls_ticket_keys one = {0}, other = {0};
	tickets_turn(&one, &plan, START);
	tickets_turn(&other, &plan, START + 100);
	struct tls_ticket_keys a = one, b = other;
	assert_true(tickets_merge(&a, &other));
	assert_true(tickets_merge(&b, &one));
	assert_int_equal(a.count, 4);
	assert_int_equal(b.count, 4);
	assert_memory_equal(youngest(&a, START + 200)->name, youngest(&b, START + 200)->name, 16);
	assert_memory_equal(youngest(&a, START + 200)->name, other.at[0].name, 16);
}

static void a_full_table_keeps_those_that_last(void **state)
{
	struct tls_ticket_keys keys = {0};
	for (unsigned i = 0; i < 20; i++) {
		struct tls_ticket_keys other = {0};
		tickets_turn(&other, &plan, START + i);
		tickets_merge(&keys, &other);
		assert_true(keys.count <= TLS_TICKET_KEYS_MAX);
	}
	for (uint32_t i = 0; i < keys.count; i++)
		assert_true(keys.at[i].end > START + ROTATION + LIFETIME + 19);
}

/* ---- the object ---- */

static void what_was_sealed_is_read_and_cannot_be_changed(void **state)
{
	struct tls_ticket_keys keys = {0}, read = {0};
	tickets_turn(&keys, &plan, START);
	int fd = tickets_seal(&keys);
	assert_true(fd >= 0);
	assert_int_equal(tickets_read(fd, &read), 0);
	assert_memory_equal(&keys, &read, sizeof keys);
	assert_int_equal(pwrite(fd, "x", 1, 40), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	close(fd);
}

/* An object with `n` bytes of a good one, byte `at` changed; -1: none. */
static int damaged(size_t n, long at, uint8_t by, int seals)
{
	struct tls_ticket_keys keys = {0};
	uint8_t bytes[2048] = {0};
	tickets_turn(&keys, &plan, START);
	int good = tickets_seal(&keys), fd = memfd_create("damaged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t size = read(good, bytes, 1) < 0 ? -1 : pread(good, bytes, sizeof bytes, 0);
	assert_true(size > 0);
	if (at >= 0)
		bytes[at] ^= by;
	size_t most = n == 0 ? (size_t)size : n;
	assert_int_equal(write(fd, bytes, most), most);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	close(good);
	return fd;
}

static void what_is_no_table_is_refused(void **state)
{
	const int sealed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	static const struct {
		size_t n;
		long at;
		uint8_t by;
		int expected;
	} cases[] = {
		{0, -1, 0, 0},
		{0, 0, 1, -EINVAL},   /* magic */
		{0, 8, 3, -EPROTO},   /* version */
		{12, 8, 3, -EPROTO},  /* whatever its size */
		{0, 16, 0x40, -EINVAL}, /* count */
		{0, 16 + 8 + 80 + 7, 0x7f, -EINVAL}, /* from, after until */
		{855, -1, 0, -EINVAL}, /* short */
		{857, -1, 0, -EINVAL}, /* long */
		{4, -1, 0, -EINVAL},
	};
	struct tls_ticket_keys keys;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int fd = damaged(cases[i].n, cases[i].at, cases[i].by, sealed);
		assert_int_equal(tickets_read(fd, &keys), cases[i].expected);
		close(fd);
	}
	int fd = damaged(0, -1, 0, F_SEAL_SHRINK);
	assert_int_equal(tickets_read(fd, &keys), -EINVAL);
	close(fd);
	assert_int_equal(tickets_read(-1, &keys), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_turn_makes_a_current_key_and_the_next),
		cmocka_unit_test(at_any_time_one_key_encrypts_the_next_is_there_and_three_are_the_most),
		cmocka_unit_test(a_control_that_slept_makes_new_keys_and_drops_the_ended),
		cmocka_unit_test(a_lifetime_of_zero_is_no_keys),
		cmocka_unit_test(a_control_started_anew_goes_on_with_the_relays_keys),
		cmocka_unit_test(two_tables_become_one_in_which_all_agree),
		cmocka_unit_test(a_full_table_keeps_those_that_last),
		cmocka_unit_test(what_was_sealed_is_read_and_cannot_be_changed),
		cmocka_unit_test(what_is_no_table_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
