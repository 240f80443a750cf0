// SPDX-License-Identifier: Apache-2.0
#include "bench/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* Two ends joined by a pipe each way that carries `most` bytes a call, and may turn one. */
struct pipe {
	uint8_t b[1 << 20];
	size_t from, to, most;
};
static struct pipe up, down;
struct end {
	struct pipe *in, *out;
};
static struct end client_end = {&down, &up}, server_end = {&up, &down};

static size_t read_end(void *link, uint8_t *to, size_t room)
{
	struct pipe *p = ((struct end *)link)->in;
	size_t n = p->to - p->from < room ? p->to - p->from : room;
	n = n < p->most ? n : p->most;
	memcpy(to, p->b + p->from, n);
	p->from += n;
	return n;
}

static size_t write_end(void *link, struct bytes b)
{
	struct pipe *p = ((struct end *)link)->out;
	size_t n = b.n < p->most ? b.n : p->most;
	n = n < sizeof p->b - p->to ? n : sizeof p->b - p->to;
	memcpy(p->b + p->to, b.at, n);
	p->to += n;
	return n;
}

static const struct exchange_io io = {read_end, write_end};

static void connect_ends(size_t most)
{
	up = (struct pipe){.most = most};
	down = (struct pipe){.most = most};
}

/* Until the answer is whole or nothing moves any more. */
static bool exchange(struct exchange_client *c, struct exchange_server *s, const struct exchange_plan *plan)
{
	for (unsigned turn = 0; turn < 100000; turn++) {
		bool is_whole = exchange_ask(c, plan, &io, &client_end);
		exchange_serve(s, &io, &server_end);
		if (is_whole)
			return true;
	}
	return false;
}

static void requests_of_all_sizes_are_answered_in_pieces_of_all_sizes(void **state)
{
	static const uint32_t sizes[] = {0, 1, 15, 250, 251, 252, 1024, 1025, 65536, 200000};
	static const size_t pieces[] = {7, 251, 4096, 1 << 20};
	exchange_init();
	for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++)
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			struct exchange_plan plan = {sizes[i], sizes[9 - i], false};
			struct exchange_server s = {0};
			connect_ends(pieces[p]);
			for (unsigned again = 0; again < 2; again++) {
				struct exchange_client c = {0};
				assert_true(exchange(&c, &s, &plan));
				assert_false(c.is_wrong || s.is_wrong);
				assert_int_equal(c.received, plan.down);
			}
			exchange_serve(&s, &io, &server_end);
			assert_int_equal(s.requests, 2);
			assert_true(exchange_is_between(&s));
		}
}

static void the_last_request_ends_the_connection(void **state)
{
	struct exchange_plan plan = {10, 10, true};
	struct exchange_client c = {0};
	struct exchange_server s = {0};
	exchange_init();
	connect_ends(1 << 20);
	assert_false(exchange_ask(&c, &plan, &io, &client_end));
	assert_true(exchange_serve(&s, &io, &server_end));
	assert_true(exchange_ask(&c, &plan, &io, &client_end));
}

static void a_byte_that_was_not_sent_is_noticed_by_both(void **state)
{
	struct exchange_plan plan = {1000, 1000, false};
	exchange_init();
	for (size_t at = 0; at < EXCHANGE_HEAD + 1000; at++) {
		struct exchange_client c = {0};
		struct exchange_server s = {0};
		connect_ends(1 << 20);
		exchange_ask(&c, &plan, &io, &client_end);
		if (at >= 4 && at < EXCHANGE_HEAD)
			continue; /* flags and lengths: another request */
		up.b[at] ^= 1;
		assert_true(exchange_serve(&s, &io, &server_end));
		assert_true(s.is_wrong);
	}
	for (size_t at = 0; at < 1000; at++) {
		struct exchange_client c = {0};
		struct exchange_server s = {0};
		connect_ends(1 << 20);
		exchange_ask(&c, &plan, &io, &client_end);
		exchange_serve(&s, &io, &server_end);
		down.b[at] ^= 1;
		exchange_ask(&c, &plan, &io, &client_end);
		assert_true(c.is_wrong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_of_all_sizes_are_answered_in_pieces_of_all_sizes),
		cmocka_unit_test(the_last_request_ends_the_connection),
		cmocka_unit_test(a_byte_that_was_not_sent_is_noticed_by_both),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
