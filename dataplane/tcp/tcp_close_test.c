// SPDX-License-Identifier: Apache-2.0
/* Closing: FINs in each state, halves, resets, TIME-WAIT. */
#include "dataplane/tcp/tcp_rig.h"

static void start(struct rig *r)
{
	struct tcp_config config = rig_config();
	rig_start(r, &config);
	rig_accept(r);
}

static struct tcp_stats stats(const struct rig *r)
{
	struct tcp_stats s;
	tcp_get_stats(r->s, &s);
	return s;
}

static void expect_ended(struct rig *r, enum tcp_end end)
{
	assert_true(rig_events(r) & TCP_EVENT_ENDED);
	assert_string_equal(tcp_end_name(r->end), tcp_end_name(end));
	assert_int_equal(stats(r).connections, 0);
}

/* Walks a fresh connection into a state by the shortest way; all ACKs are taken. */
static void walk(struct rig *r, const char *state)
{
	start(r);
	if (strcmp(state, "ESTABLISHED") == 0)
		return;
	if (strcmp(state, "CLOSE-WAIT") == 0 || strcmp(state, "LAST-ACK") == 0) {
		rig_in(r, KIT_FIN | KIT_ACK, r->seq++, r->ack, "");
		rig_expect(r, KIT_ACK, r->ack, r->seq, "");
	}
	if (strcmp(state, "CLOSE-WAIT") != 0) {
		tcp_close(r->c);
		rig_expect(r, KIT_FIN | KIT_ACK, r->ack, r->seq, "");
	}
	if (strcmp(state, "FIN-WAIT-2") == 0)
		rig_in(r, KIT_ACK, r->seq, ++r->ack, "");
	if (strcmp(state, "CLOSING") == 0) {
		rig_in(r, KIT_FIN | KIT_ACK, r->seq++, r->ack, "");
		rig_expect(r, KIT_ACK, r->ack + 1, r->seq, "");
	}
	assert_string_equal(rig_state(r), state);
	rig_expect_nothing(r);
	rig_events(r);
	r->events = 0;
}

static const char *const states[] = {"ESTABLISHED", "CLOSE-WAIT", "LAST-ACK", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSING"};
#define STATES (sizeof states / sizeof *states)

static void we_close_then_they(void **state)
{
	struct rig r;
	walk(&r, "FIN-WAIT-2");
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq, r.ack, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 1, "");
	expect_ended(&r, TCP_END_CLOSED);
	assert_int_equal(stats(&r).time_wait, 1);
	rig_wait(&r, 59000000);
	assert_int_equal(stats(&r).time_wait, 1);
	rig_wait(&r, 1000000);
	assert_int_equal(stats(&r).time_wait, 0);
	rig_end(&r);
}

static void their_fin_may_acknowledge_ours(void **state)
{
	struct rig r;
	walk(&r, "FIN-WAIT-1");
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq, r.ack + 1, "bye");
	rig_expect(&r, KIT_ACK, r.ack + 1, r.seq + 4, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_READABLE | TCP_EVENT_FIN | TCP_EVENT_ENDED);
	assert_int_equal(stats(&r).time_wait, 1);
	rig_end(&r);
}

static void they_close_then_we(void **state)
{
	struct rig r;
	start(&r);
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq++, r.ack, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_FIN);
	rig_write(&r, "last words");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "last words");
	tcp_close(r.c);
	assert_int_equal(rig_write(&r, "more"), 0);
	rig_expect(&r, KIT_FIN | KIT_ACK, r.ack + 10, r.seq, "");
	rig_in(&r, KIT_ACK, r.seq, r.ack + 11, "");
	expect_ended(&r, TCP_END_CLOSED);
	assert_int_equal(stats(&r).time_wait, 0);
	rig_end(&r);
}

static void both_close_at_once(void **state)
{
	struct rig r;
	walk(&r, "CLOSING");
	rig_in(&r, KIT_ACK, r.seq, r.ack + 1, "");
	expect_ended(&r, TCP_END_CLOSED);
	assert_int_equal(stats(&r).time_wait, 1);
	rig_expect_nothing(&r);
	rig_end(&r);
}

static void fin_rides_on_the_last_text(void **state)
{
	struct rig r;
	start(&r);
	rig_write(&r, "221 bye");
	tcp_close(r.c);
	rig_expect(&r, KIT_FIN | KIT_ACK, r.ack, r.seq, "221 bye");
	rig_wait(&r, 250000);
	rig_expect(&r, KIT_FIN | KIT_ACK, r.ack, r.seq, "221 bye"); /* and again, if lost */
	rig_in(&r, KIT_ACK, r.seq, r.ack + 7, "");
	rig_wait(&r, 250000);
	rig_expect(&r, KIT_FIN | KIT_ACK, r.ack + 7, r.seq, ""); /* only the FIN was */
	rig_in(&r, KIT_ACK, r.seq, r.ack + 8, "");
	assert_string_equal(rig_state(&r), "FIN-WAIT-2");
	rig_end(&r);
}

static void a_lost_fin_is_sent_again(void **state)
{
	struct rig r;
	walk(&r, "LAST-ACK");
	for (unsigned i = 0; i < 3; i++) {
		rig_wait(&r, 250000u << i);
		rig_expect(&r, KIT_FIN | KIT_ACK, r.ack, r.seq, "");
	}
	rig_in(&r, KIT_ACK, r.seq, r.ack + 1, "");
	expect_ended(&r, TCP_END_CLOSED);
	rig_end(&r);
}

static void their_fin_waits_for_the_text_before_it(void **state)
{
	struct rig r;
	start(&r);
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq + 4, r.ack, "two");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	assert_int_equal(rig_events(&r), 0);
	rig_in(&r, KIT_ACK, r.seq, r.ack, "one ");
	assert_int_equal(rig_events(&r), TCP_EVENT_READABLE | TCP_EVENT_FIN);
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 8, "");
	rig_expect_read(&r, "one two");
	assert_string_equal(rig_state(&r), "CLOSE-WAIT");
	rig_end(&r);
}

static void nothing_is_read_beyond_a_fin(void **state)
{
	struct rig r;
	start(&r);
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq + 4, r.ack, "");
	rig_out(&r);
	rig_in(&r, KIT_ACK, r.seq + 2, r.ack, "d!too much");
	assert_int_equal(rig_drops(&r, "text_after_fin"), 1);
	rig_out(&r);
	rig_in(&r, KIT_ACK, r.seq, r.ack, "en");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 5, "");
	rig_expect_read(&r, "end!");
	rig_in(&r, KIT_ACK, r.seq + 5, r.ack, "ghost");
	rig_expect(&r, KIT_ACK, r.ack, r.seq + 5, "");
	rig_expect_read(&r, "");
	rig_end(&r);
}

static void their_fin_again_is_acknowledged_again(void **state)
{
	static const char *const after[] = {"CLOSE-WAIT", "CLOSING", "LAST-ACK"};
	for (unsigned i = 0; i < 3; i++) {
		struct rig r;
		walk(&r, after[i]);
		const uint32_t seq = r.ack + (i == 0 ? 0 : 1);
		rig_in(&r, KIT_FIN | KIT_ACK, r.seq - 1, r.ack, "");
		rig_expect(&r, KIT_ACK, seq, r.seq, "");
		assert_string_equal(rig_state(&r), after[i]);
		rig_end(&r);
	}
}

static void reading_goes_on_after_we_closed(void **state)
{
	struct rig r;
	walk(&r, "FIN-WAIT-2");
	for (unsigned i = 0; i < 5; i++) { /* and resets the wait for the peer's FIN */
		rig_wait(&r, 50000000);
		rig_text(&r, "late");
		assert_int_equal(rig_events(&r), TCP_EVENT_READABLE);
		rig_expect_read(&r, "late");
		rig_wait(&r, 50000);
		rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	}
	rig_wait(&r, 60000000);
	expect_ended(&r, TCP_END_TIMEOUT);
	rig_end(&r);
}

static void text_is_still_there_when_the_end_is_told(void **state)
{
	struct rig r;
	struct tcp_conn *c;
	uint32_t events;
	walk(&r, "FIN-WAIT-2");
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq, r.ack, "unread");
	c = tcp_next_event(r.s, &events);
	assert_ptr_equal(c, r.c);
	assert_int_equal(events, TCP_EVENT_READABLE | TCP_EVENT_FIN | TCP_EVENT_ENDED);
	rig_expect_read(&r, "unread");
	assert_int_equal(rig_write(&r, "x"), 0); /* calls on it are harmless until the next event */
	tcp_close(c);
	tcp_abort(c);
	assert_null(tcp_next_event(r.s, &events));
	rig_end(&r);
}

static void a_reset_ends_every_state(void **state)
{
	for (size_t i = 0; i < STATES; i++) {
		struct rig r;
		walk(&r, states[i]);
		rig_in(&r, KIT_RST, r.seq, 0, "");
		const bool is_over = strcmp(states[i], "CLOSING") == 0 || strcmp(states[i], "LAST-ACK") == 0;
		expect_ended(&r, is_over ? TCP_END_CLOSED : TCP_END_RESET);
		rig_expect_nothing(&r);
		rig_end(&r);
	}
}

static void no_state_is_moved_by_segments_outside_the_window(void **state)
{
	static const uint8_t flags[] = {KIT_RST, KIT_RST | KIT_ACK, KIT_SYN, KIT_SYN | KIT_ACK, KIT_FIN | KIT_ACK, KIT_ACK};
	for (size_t i = 0; i < STATES; i++)
		for (size_t f = 0; f < sizeof flags; f++)
			for (unsigned side = 0; side < 2; side++) {
				struct rig r;
				walk(&r, states[i]);
				rig_in(&r, flags[f], side ? r.seq + 20000 : r.seq - 20000, r.ack + 1, "");
				assert_int_equal(rig_events(&r), 0);
				assert_string_equal(rig_state(&r), states[i]);
				assert_int_equal(rig_out(&r), !(flags[f] & KIT_RST));
				rig_end(&r);
			}
}

static void abort_sends_a_reset_from_every_state(void **state)
{
	for (size_t i = 0; i < STATES; i++) {
		struct rig r;
		walk(&r, states[i]);
		tcp_abort(r.c);
		assert_true(rig_out(&r));
		assert_int_equal(r.got.flags, KIT_RST | KIT_ACK);
		expect_ended(&r, TCP_END_ABORTED);
		rig_in(&r, KIT_ACK, r.seq, r.ack, "x"); /* nobody is there any more */
		rig_expect(&r, KIT_RST, r.ack, 0, "");
		rig_end(&r);
	}
}

static void what_ends_before_it_was_announced_is_never_announced(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	rig_listen(&r);
	rig_in(&r, KIT_SYN, r.seq++, 0, "");
	assert_true(rig_out(&r));
	rig_in(&r, KIT_ACK, r.seq, r.got.seq + 1, "text");
	rig_in(&r, KIT_RST, r.seq + 4, 0, "");
	assert_int_equal(rig_events(&r), 0);
	assert_int_equal(stats(&r).connections, 0);
	assert_int_equal(stats(&r).buffered_bytes, 0);
	rig_end(&r);
}

/* ---- TIME-WAIT ---- */

static void enter_time_wait(struct rig *r)
{
	walk(r, "FIN-WAIT-2");
	rig_in(r, KIT_FIN | KIT_ACK, r->seq++, r->ack, "");
	rig_expect(r, KIT_ACK, r->ack, r->seq, "");
	expect_ended(r, TCP_END_CLOSED);
	r->events = 0;
}

static void time_wait_acknowledges_their_fin_again_and_waits_anew(void **state)
{
	struct rig r;
	enter_time_wait(&r);
	rig_wait(&r, 50000000);
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq - 1, r.ack, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_wait(&r, 50000000);
	assert_int_equal(stats(&r).time_wait, 1);
	rig_wait(&r, 10000000);
	assert_int_equal(stats(&r).time_wait, 0);
	rig_end(&r);
}

static void time_wait_ignores_resets(void **state)
{
	struct rig r;
	enter_time_wait(&r);
	rig_in(&r, KIT_RST, r.seq, 0, "");
	rig_expect_nothing(&r);
	assert_int_equal(stats(&r).time_wait, 1);
	assert_int_equal(rig_drops(&r, "time_wait_reset"), 1);
	rig_end(&r);
}

static void time_wait_does_not_talk_without_end(void **state)
{
	struct rig r;
	unsigned answers = 0;
	enter_time_wait(&r);
	rig_in(&r, KIT_ACK, r.seq, r.ack, "");
	rig_expect_nothing(&r);
	for (unsigned i = 0; i < 100; i++) {
		rig_in(&r, KIT_ACK, r.seq - 7, r.ack, "");
		answers += rig_out(&r);
	}
	assert_int_equal(answers, 10);
	rig_end(&r);
}

static void a_newer_syn_takes_over_from_time_wait(void **state)
{
	struct rig r;
	enter_time_wait(&r);
	rig_in(&r, KIT_SYN, r.seq - 1000, 0, ""); /* older: the old connection's ACK */
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_SYN, r.seq + 1000, 0, "");
	assert_true(rig_out(&r));
	assert_int_equal(r.got.flags, KIT_SYN | KIT_ACK);
	assert_int_equal(r.got.ack, r.seq + 1001);
	assert_true((int32_t)(r.got.seq - r.ack) > 0); /* beyond all the old one sent */
	assert_int_equal(stats(&r).time_wait, 0);
	rig_in(&r, KIT_ACK, r.seq + 1001, r.got.seq + 1, "");
	assert_int_equal(rig_events(&r), TCP_EVENT_ACCEPTED);
	rig_end(&r);
}

static void a_newer_timestamp_takes_over_from_time_wait(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	r.has_ts = true;
	r.tsval = 1000;
	rig_accept(&r);
	tcp_close(r.c);
	assert_true(rig_out(&r));
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq++, r.ack + 1, "");
	assert_true(rig_out(&r));
	r.tsval = 999;
	rig_in(&r, KIT_SYN, r.seq + 5000, 0, "");
	assert_true(rig_out(&r));
	assert_int_equal(r.got.flags, KIT_ACK);
	r.tsval = 1001;
	rig_in(&r, KIT_SYN, r.seq - 5000, 0, ""); /* RFC 6191: the timestamp decides */
	assert_true(rig_out(&r));
	assert_int_equal(r.got.flags, KIT_SYN | KIT_ACK);
	rig_end(&r);
}

static void the_oldest_time_wait_makes_room(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config(); /* 4 of them */
	rig_start(&r, &config);
	rig_listen(&r);
	for (unsigned i = 0; i < 6; i++) {
		r.remote_port = (uint16_t)(40000 + i);
		rig_in(&r, KIT_SYN, 100, 0, "");
		assert_true(rig_out(&r));
		r.ack = r.got.seq + 1;
		rig_in(&r, KIT_ACK, 101, r.ack, "");
		rig_events(&r);
		tcp_close(r.c);
		assert_true(rig_out(&r));
		rig_in(&r, KIT_FIN | KIT_ACK, 101, r.ack + 1, "");
		assert_true(rig_out(&r));
		expect_ended(&r, TCP_END_CLOSED);
		assert_int_equal(stats(&r).time_wait, i < 4 ? i + 1 : 4);
	}
	assert_int_equal(stats(&r).time_wait_recycled, 2);
	r.remote_port = 40000;
	rig_in(&r, KIT_FIN | KIT_ACK, 101, 5, "");
	rig_expect(&r, KIT_RST, 5, 0, ""); /* forgotten */
	rig_end(&r);
}

static void no_time_wait_where_none_is_wanted(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.time_wait_max = 0;
	rig_start(&r, &config);
	rig_accept(&r);
	tcp_close(r.c);
	assert_true(rig_out(&r));
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq, r.ack + 1, "");
	expect_ended(&r, TCP_END_CLOSED);
	assert_int_equal(stats(&r).time_wait, 0);
	rig_end(&r);
}

static void an_active_open_leaves_time_wait_ports_alone(void **state)
{
	struct rig r;
	struct tcp_config config = rig_config();
	rig_start(&r, &config);
	r.owned_modulo = 2048; /* two of them within one walk */
	rig_connect(&r);
	rig_in(&r, KIT_SYN | KIT_ACK, r.seq++, r.ack, "");
	assert_true(rig_out(&r));
	tcp_close(r.c);
	assert_true(rig_out(&r));
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq++, r.ack + 1, "");
	expect_ended(&r, TCP_END_CLOSED);
	assert_true(rig_out(&r));
	const uint16_t used = r.local_port;
	for (unsigned i = 0; i < 2; i++) {
		int error = 0;
		struct tcp_conn *c = tcp_connect(r.s, &r.local, &r.remote, RIG_PORT, NULL, &error, r.now_us);
		assert_int_equal(c == NULL ? error : 0, i == 0 ? 0 : -EADDRNOTAVAIL);
		assert_int_equal(rig_out(&r), i == 0);
		assert_int_not_equal(r.got.from, used);
	}
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(we_close_then_they),
		cmocka_unit_test(their_fin_may_acknowledge_ours),
		cmocka_unit_test(they_close_then_we),
		cmocka_unit_test(both_close_at_once),
		cmocka_unit_test(fin_rides_on_the_last_text),
		cmocka_unit_test(a_lost_fin_is_sent_again),
		cmocka_unit_test(their_fin_waits_for_the_text_before_it),
		cmocka_unit_test(nothing_is_read_beyond_a_fin),
		cmocka_unit_test(their_fin_again_is_acknowledged_again),
		cmocka_unit_test(reading_goes_on_after_we_closed),
		cmocka_unit_test(text_is_still_there_when_the_end_is_told),
		cmocka_unit_test(a_reset_ends_every_state),
		cmocka_unit_test(no_state_is_moved_by_segments_outside_the_window),
		cmocka_unit_test(abort_sends_a_reset_from_every_state),
		cmocka_unit_test(what_ends_before_it_was_announced_is_never_announced),
		cmocka_unit_test(time_wait_acknowledges_their_fin_again_and_waits_anew),
		cmocka_unit_test(time_wait_ignores_resets),
		cmocka_unit_test(time_wait_does_not_talk_without_end),
		cmocka_unit_test(a_newer_syn_takes_over_from_time_wait),
		cmocka_unit_test(a_newer_timestamp_takes_over_from_time_wait),
		cmocka_unit_test(the_oldest_time_wait_makes_room),
		cmocka_unit_test(no_time_wait_where_none_is_wanted),
		cmocka_unit_test(an_active_open_leaves_time_wait_ports_alone),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
