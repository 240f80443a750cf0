// SPDX-License-Identifier: Apache-2.0
/* Peers that say nothing: keepalive, the user timeout. */
#include "dataplane/tcp/tcp_rig.h"

#define SECOND 1000000ull

static struct tcp_stats stats(const struct rig *r)
{
	struct tcp_stats s;
	tcp_get_stats(r->s, &s);
	return s;
}

static void start(struct rig *r)
{
	struct tcp_config config = rig_config();
	config.keepalive_idle_us = 100 * SECOND;
	config.keepalive_interval_us = 10 * SECOND;
	config.keepalive_probes = 3;
	rig_start(r, &config);
	rig_accept(r);
}

static void expect_probe(struct rig *r)
{
	rig_expect(r, KIT_ACK, r->ack - 1, r->seq, "");
	rig_expect_nothing(r);
}

static void nobody_is_probed_unasked(void **state)
{
	struct rig r;
	start(&r);
	rig_wait(&r, 20000 * SECOND);
	rig_expect_nothing(&r);
	assert_true(tcp_next_due_us(r.s) == UINT64_MAX);
	rig_end(&r);
}

static void a_silent_peer_is_probed_and_given_up(void **state)
{
	struct rig r;
	start(&r);
	tcp_set_keepalive(r.c, true);
	rig_wait(&r, 99 * SECOND);
	rig_expect_nothing(&r);
	rig_wait(&r, 2 * SECOND);
	expect_probe(&r);
	for (unsigned i = 0; i < 2; i++) {
		rig_wait(&r, 10 * SECOND);
		expect_probe(&r);
		assert_int_equal(rig_events(&r), 0);
	}
	rig_wait(&r, 10 * SECOND);
	rig_expect(&r, KIT_RST | KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
	assert_int_equal(r.end, TCP_END_TIMEOUT);
	assert_int_equal(stats(&r).keepalive_probes, 3);
	assert_int_equal(stats(&r).keepalive_ended, 1);
	rig_end(&r);
}

static void an_answer_keeps_the_connection(void **state)
{
	struct rig r;
	start(&r);
	tcp_set_keepalive(r.c, true);
	for (unsigned i = 0; i < 5; i++) {
		rig_wait(&r, 101 * SECOND);
		expect_probe(&r);
		rig_wait(&r, 10 * SECOND); /* only the second is answered */
		expect_probe(&r);
		rig_in(&r, KIT_ACK, r.seq, r.ack, "");
		rig_expect_nothing(&r);
	}
	assert_int_equal(rig_events(&r), 0);
	assert_int_equal(stats(&r).keepalive_probes, 10);
	rig_end(&r);
}

static void text_of_either_side_puts_the_probes_off(void **state)
{
	struct rig r;
	start(&r);
	tcp_set_keepalive(r.c, true);
	for (unsigned i = 0; i < 5; i++) {
		rig_wait(&r, 90 * SECOND);
		rig_text(&r, "NOOP\r\n");
		rig_wait(&r, SECOND);
		while (rig_out(&r))
			assert_int_equal(r.got.seq, r.ack);
	}
	assert_int_equal(stats(&r).keepalive_probes, 0);
	/* what is in flight is asked about by its own timer */
	rig_write(&r, "250");
	for (unsigned i = 0; i < 20; i++) {
		rig_wait(&r, 10 * SECOND);
		while (rig_out(&r))
			assert_int_equal(r.got.seq, r.ack);
	}
	assert_int_equal(stats(&r).keepalive_probes, 0);
	rig_end(&r);
}

static void a_peer_that_has_forgotten_says_so(void **state)
{
	struct rig r;
	start(&r);
	tcp_set_keepalive(r.c, true);
	rig_wait(&r, 101 * SECOND);
	expect_probe(&r);
	rig_in(&r, KIT_RST, r.seq, 0, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
	assert_int_equal(r.end, TCP_END_RESET);
	rig_end(&r);
}

static void it_can_be_switched_off_and_is_not_there_in_fin_wait_2(void **state)
{
	struct rig r;
	start(&r);
	tcp_set_keepalive(r.c, true);
	rig_wait(&r, 101 * SECOND);
	expect_probe(&r);
	tcp_set_keepalive(r.c, false);
	rig_wait(&r, 1000 * SECOND);
	rig_expect_nothing(&r);
	tcp_set_keepalive(r.c, true);
	tcp_close(r.c);
	rig_expect(&r, KIT_FIN | KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_ACK, r.seq, r.ack + 1, "");
	tcp_set_keepalive(r.c, false); /* which does not stop the other wait */
	rig_wait(&r, 61 * SECOND);
	rig_expect_nothing(&r);
	assert_int_equal(rig_events(&r), TCP_EVENT_ENDED);
	rig_end(&r);
}

static void the_stack_may_want_it_for_all(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.is_keepalive_on = true; /* with the times of the RFC */
	rig_start(&r, &config);
	rig_connect(&r);
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq++, r.ack, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_wait(&r, 7199 * SECOND);
	rig_expect_nothing(&r);
	rig_wait(&r, 2 * SECOND);
	expect_probe(&r);
	rig_wait(&r, 8 * 75 * SECOND);
	assert_true(rig_events(&r) == TCP_EVENT_CONNECTED);
	rig_wait(&r, 75 * SECOND);
	assert_true(rig_events(&r) & TCP_EVENT_ENDED);
	assert_int_equal(stats(&r).keepalive_probes, 9);
	rig_end(&r);
}

/* Until something is acknowledged, and the peer hears why. */
static uint64_t seconds_until_given_up(struct rig *r)
{
	const uint64_t began = r->now_us;
	while (!(rig_events(r) & TCP_EVENT_ENDED)) {
		rig_wait(r, SECOND);
		assert_true(r->now_us - began < 1000 * SECOND);
		while (rig_out(r))
			;
	}
	assert_int_equal(r->end, TCP_END_TIMEOUT);
	return (r->now_us - began) / SECOND;
}

static void text_nobody_acknowledges_ends_the_connection_in_its_time(void **state)
{
	static const struct {
		uint64_t stack_s;
		uint32_t conn_s, least, most;
	} cases[] = {{0, 0, 300, 365}, {100, 0, 100, 165}, {100, 400, 400, 465}, {0, 10, 10, 20}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct rig r;
		struct tcp_config config = rig_config();
		config.user_timeout_us = cases[i].stack_s * SECOND;
		rig_start(&r, &config);
		rig_accept(&r);
		tcp_set_user_timeout(r.c, cases[i].conn_s);
		rig_wait(&r, 1000 * SECOND); /* silence is no lack of progress */
		rig_write(&r, "221 bye");
		const uint64_t took = seconds_until_given_up(&r);
		assert_in_range(took, cases[i].least, cases[i].most);
		assert_int_equal(r.got.flags, KIT_RST | KIT_ACK);
		rig_end(&r);
	}
}

static void a_syn_is_given_up_sooner_only_if_its_user_says_so(void **state)
{
	static const uint32_t cases[][3] = {{0, 180, 245}, {20, 20, 35}};
	for (size_t i = 0; i < 2; i++) {
		struct rig r;
		struct tcp_config config = rig_config();
		config.user_timeout_us = 100 * SECOND;
		rig_start(&r, &config);
		rig_connect(&r);
		tcp_set_user_timeout(r.c, cases[i][0]);
		assert_in_range(seconds_until_given_up(&r), cases[i][1], cases[i][2]);
		rig_end(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_probed_unasked),
		cmocka_unit_test(a_silent_peer_is_probed_and_given_up),
		cmocka_unit_test(an_answer_keeps_the_connection),
		cmocka_unit_test(text_of_either_side_puts_the_probes_off),
		cmocka_unit_test(a_peer_that_has_forgotten_says_so),
		cmocka_unit_test(it_can_be_switched_off_and_is_not_there_in_fin_wait_2),
		cmocka_unit_test(the_stack_may_want_it_for_all),
		cmocka_unit_test(text_nobody_acknowledges_ends_the_connection_in_its_time),
		cmocka_unit_test(a_syn_is_given_up_sooner_only_if_its_user_says_so),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
