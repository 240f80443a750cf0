// SPDX-License-Identifier: Apache-2.0
/* Losses and what is done about them: SACK received, RACK-TLP (RFC 8985), PRR (RFC 9937), undoing, reneging. */
#include "dataplane/tcp/tcp_rig.h"

#include "dataplane/tcp/tcp_validate.h"

#define RTT 20000

/* A handshake over a path of RTT. */
static void begin_with(struct rig *r, bool has_ts, uint16_t mss)
{
	struct tcp_config config = rig_config();
	config.send_bytes_max = 65536;
	rig_start(r, &config);
	r->has_sack = true;
	r->has_ts = has_ts;
	r->mss = mss;
	rig_listen(r);
	rig_in(r, KIT_SYN, r->seq++, 0, "");
	assert_true(rig_out(r));
	r->ack = r->got.seq + 1;
	r->tsecr = r->got.tsval;
	rig_wait(r, RTT);
	rig_ack(r, r->ack);
	rig_events(r);
	assert_non_null(r->c);
	r->events = 0;
}

/* Ten segments are out, a round trip ago. */
static uint32_t begin(struct rig *r)
{
	begin_with(r, false, 1460);
	const uint32_t mss = rig_info(r).mss;
	rig_write_big(r, 10 * mss);
	assert_int_equal(rig_take_all(r, r->ack), 10);
	rig_wait(r, RTT);
	return mss;
}

static struct tcp_stats stats(const struct rig *r)
{
	struct tcp_stats s;
	tcp_get_stats(r->s, &s);
	return s;
}

static void add_block(struct rig *r, uint32_t start, uint32_t end)
{
	r->sack[r->sack_count][0] = start;
	r->sack[r->sack_count++][1] = end;
}

/* The peer acknowledges `ack` segments in order, and selectively those from `from` to before `to`. */
static void sack(struct rig *r, uint32_t ack, uint32_t from, uint32_t to)
{
	const uint32_t mss = rig_info(r).mss;
	if (from != to)
		add_block(r, r->ack + from * mss, r->ack + to * mss);
	rig_ack(r, r->ack + ack * mss);
	assert_null(tcp_validate(r->s, NULL));
}

static void expect_segment(struct rig *r, uint32_t i)
{
	assert_true(rig_out(r));
	assert_int_equal(r->got.seq, r->ack + i * rig_info(r).mss);
	assert_true(r->got.text.n > 0);
}

/* RFC 8985 6.2 step 4: as long as nothing has come out of order, three sacked segments are enough. */
static void the_third_sacked_segment_shows_the_loss(void **state)
{
	struct rig r;
	begin(&r);
	sack(&r, 0, 1, 2);
	rig_expect_nothing(&r);
	sack(&r, 0, 1, 3);
	rig_expect_nothing(&r);
	sack(&r, 0, 1, 4);
	expect_segment(&r, 0);
	rig_expect_nothing(&r);
	assert_int_equal(stats(&r).fast_retransmits, 1);
	sack(&r, 4, 0, 0);
	sack(&r, 10, 0, 0);
	assert_int_equal(stats(&r).retransmits, 1);
	assert_int_equal(tcp_unacked(r.c), 0);
	rig_end(&r);
}

/* Step 5: what was sent before is lost when the reordering window has passed, without another ACK. */
static void fewer_show_it_a_reordering_window_later(void **state)
{
	struct rig r;
	begin(&r);
	sack(&r, 0, 2, 3);
	rig_expect_nothing(&r);
	rig_wait(&r, RTT / 2);
	expect_segment(&r, 0);
	rig_expect_nothing(&r); /* the next when something more has arrived: RFC 9937 */
	for (uint32_t i = 3; i <= 6; i++)
		sack(&r, 1, 2, i);
	expect_segment(&r, 1);
	assert_int_equal(stats(&r).rto_fired, 0);
	rig_end(&r);
}

/* Step 3: after that three sacked ones are no proof, time is. */
static void reordering_is_learned(void **state)
{
	struct rig r;
	begin(&r);
	sack(&r, 0, 1, 3);
	sack(&r, 3, 0, 0); /* it was only late */
	sack(&r, 3, 4, 9);
	rig_expect_nothing(&r);
	rig_wait(&r, RTT / 2);
	expect_segment(&r, 3);
	rig_end(&r);
}

/* Holes are sent again, in their order, and nothing that has arrived. */
static void only_the_holes_are_sent_again(void **state)
{
	struct rig r;
	const uint32_t mss = begin(&r);
	add_block(&r, r.ack + 8 * mss, r.ack + 10 * mss);
	add_block(&r, r.ack + 1 * mss, r.ack + 3 * mss);
	add_block(&r, r.ack + 5 * mss, r.ack + 6 * mss);
	rig_ack(&r, r.ack);
	static const uint32_t holes[] = {0, 3, 4, 6, 7}, then[] = {3, 4, 6, 7, 10};
	for (unsigned i = 0; i < 5; i++) {
		expect_segment(&r, holes[i]);
		while (rig_out(&r))
			assert_int_equal(r.got.seq, r.ack + holes[++i] * mss);
		sack(&r, then[i], 8, then[i] < 8 ? 10 : 8);
	}
	assert_int_equal(stats(&r).retransmits, 5);
	rig_end(&r);
}

/* A retransmission that is lost too is found by what was sent after it (section 3.2, RACK's point). */
static void a_lost_retransmission_is_found_without_a_timeout(void **state)
{
	struct rig r;
	const uint32_t mss = begin(&r);
	rig_write_big(&r, 10 * mss);
	sack(&r, 0, 1, 8);
	expect_segment(&r, 0);
	while (rig_out(&r))
		;
	rig_wait(&r, RTT);
	sack(&r, 0, 1, 13); /* what was sent after the retransmission has arrived */
	rig_wait(&r, RTT / 2);
	expect_segment(&r, 0);
	assert_int_equal(stats(&r).rto_fired, 0);
	rig_end(&r);
}

/* RFC 9937 6: in recovery as much is sent as brings the flight down to ssthresh in proportion to what arrives. */
static void recovery_sends_in_proportion(void **state)
{
	struct rig r;
	const uint32_t mss = begin(&r);
	unsigned sent = 0;
	rig_write_big(&r, 20 * mss);
	for (uint32_t i = 4; i <= 10; i++) { /* the first is lost */
		sack(&r, 0, 1, i);
		while (rig_out(&r))
			sent++;
		assert_true(sent <= 1 + i * 7 / 10 + 1);
	}
	assert_true(sent >= 5);
	assert_int_equal(rig_info(&r).ssthresh, 10 * mss * 7 / 10);
	sack(&r, 10, 0, 0);
	assert_int_equal(rig_info(&r).cwnd, rig_info(&r).ssthresh);
	rig_end(&r);
}

/* Section 7.2, 7.3: no ACK for two round trips: the last segment is sent again, before the timeout; it shows the rest. */
static void the_tail_is_probed(void **state)
{
	struct rig r;
	begin(&r);
	sack(&r, 7, 0, 0);
	rig_wait(&r, 100000);
	expect_segment(&r, 9);
	rig_expect_nothing(&r);
	assert_int_equal(stats(&r).tail_probes, 1);
	rig_wait(&r, RTT);
	sack(&r, 7, 9, 10);
	rig_wait(&r, RTT);
	expect_segment(&r, 7);
	sack(&r, 8, 9, 10);
	expect_segment(&r, 8);
	assert_int_equal(stats(&r).rto_fired, 0);
	rig_end(&r);
}

static void new_text_is_the_better_probe(void **state) /* section 7.3 */
{
	struct rig r;
	begin(&r);
	const uint32_t mss = rig_info(&r).mss;
	rig_write_big(&r, mss); /* the window is full */
	rig_expect_nothing(&r);
	rig_wait(&r, 100000);
	expect_segment(&r, 10);
	rig_expect_nothing(&r);
	rig_end(&r);
}

/* Section 7.4: a probe that has mended a loss is answered as a loss; told as a duplicate, it has mended none. */
static void a_mended_loss_counts(void **state)
{
	for (unsigned is_duplicate = 0; is_duplicate < 2; is_duplicate++) {
		struct rig r;
		const uint32_t mss = begin(&r);
		sack(&r, 9, 0, 0);
		rig_wait(&r, 350000); /* one alone may be waiting for a delayed ACK */
		expect_segment(&r, 9);
		assert_int_equal(stats(&r).tail_probes, 1);
		const uint32_t before = rig_info(&r).cwnd;
		sack(&r, 10, 0, 0);
		if (is_duplicate)
			sack(&r, 10, 9, 10); /* D-SACK */
		rig_write_big(&r, mss);
		assert_true(rig_out(&r));
		sack(&r, 11, 0, 0);
		assert_int_equal(rig_info(&r).cwnd < before, !is_duplicate);
		rig_end(&r);
	}
}

/* RFC 3522: the ACK echoes a timestamp from before the retransmission. */
static void a_timeout_that_was_too_early_is_undone(void **state)
{
	for (unsigned is_early = 0; is_early < 2; is_early++) {
		struct rig r;
		begin_with(&r, true, 1460);
		rig_write_big(&r, 10 * rig_info(&r).mss);
		const struct tcp_info was = rig_info(&r);
		assert_int_equal(rig_take_all(&r, r.ack), 10);
		const uint32_t original = r.got.tsval;
		rig_wait(&r, 400000);
		while (rig_out(&r))
			;
		assert_true(stats(&r).rto_fired > 0);
		assert_int_equal(rig_info(&r).cwnd, was.mss);
		r.tsecr = is_early ? original : r.got.tsval;
		sack(&r, 2, 0, 0);
		assert_int_equal(stats(&r).undone, is_early);
		assert_int_equal(rig_info(&r).cwnd >= was.cwnd, is_early);
		assert_int_equal(rig_info(&r).ssthresh == was.ssthresh, is_early);
		rig_end(&r);
	}
}

/* RFC 3708: all that was sent again is told as duplicates. */
static void a_recovery_from_nothing_is_undone(void **state)
{
	struct rig r;
	const uint32_t mss = begin(&r);
	sack(&r, 0, 1, 4);
	expect_segment(&r, 0);
	const uint32_t ssthresh = rig_info(&r).ssthresh;
	sack(&r, 4, 0, 0); /* the original was only late */
	add_block(&r, r.ack, r.ack + mss);
	rig_ack(&r, r.ack + 4 * mss);
	assert_int_equal(stats(&r).undone, 1);
	assert_true(rig_info(&r).ssthresh > ssthresh);
	rig_end(&r);
}

static void after_a_timeout_what_was_sacked_is_not_sent_again(void **state)
{
	struct rig r;
	const uint32_t mss = begin(&r);
	sack(&r, 0, 8, 10);
	while (rig_out(&r))
		;
	for (uint32_t done = 0; done < 8; done++) {
		for (unsigned n = 0; n < 40 && stats(&r).rto_fired == 0; n++)
			rig_wait(&r, 100000);
		while (rig_out(&r))
			assert_true(r.got.seq - r.ack < 8 * mss);
		sack(&r, done + 1, 8, 10);
	}
	assert_true(stats(&r).rto_fired >= 1);
	sack(&r, 10, 0, 0);
	assert_int_equal(tcp_unacked(r.c), 0);
	rig_end(&r);
}

/* RFC 2018 8: what was sacked may be dropped again; then it is sent again after a timeout. */
static void a_peer_that_takes_its_word_back_is_survived(void **state)
{
	struct rig r;
	begin(&r);
	sack(&r, 0, 1, 10);
	expect_segment(&r, 0);
	sack(&r, 1, 0, 0); /* not ten */
	rig_expect_nothing(&r);
	for (uint32_t done = 1; done < 10; done++) {
		for (unsigned n = 0; n < 100; n++) {
			rig_wait(&r, 20000);
			if (rig_out(&r) && r.got.seq == r.ack + done * rig_info(&r).mss)
				break;
		}
		assert_int_equal(r.got.seq, r.ack + done * rig_info(&r).mss);
		sack(&r, done + 1, 0, 0);
	}
	assert_int_equal(tcp_unacked(r.c), 0);
	rig_end(&r);
}

/* Blocks of any kind, from nowhere, upside down, overlapping: the scoreboard stays whole, and the text gets through. */
static void no_blocks_can_confuse_it(void **state)
{
	for (unsigned seed = 0; seed < 150; seed++) {
		struct rig r;
		srand(seed);
		begin_with(&r, seed % 2, seed % 3 == 0 ? 64 : 1460);
		size_t left = 60000;
		uint32_t acked = 0;
		for (unsigned n = 0; n < 200 && acked < 60000; n++) {
			left -= tcp_write(r.c, bytes_of(rig_big, left));
			while (rig_out(&r))
				if (r.has_ts)
					r.tsecr = r.got.tsval;
			const uint32_t sent = (uint32_t)(60000 - left);
			for (unsigned b = (unsigned)rand() % 4; b > 0; b--) {
				const uint32_t from = (uint32_t)rand() % (sent + 3000), len = (uint32_t)rand() % 9000;
				add_block(&r, r.ack + from - 1000, r.ack + from - 1000 + len - (rand() % 8 == 0) * 10000);
			}
			if (rand() % 4 == 0) {
				acked += (uint32_t)rand() % 3000;
				const uint32_t most = (uint32_t)(60000 - tcp_unacked(r.c) - left);
				acked = acked > most + 4000 ? most + 4000 : acked;
			}
			rig_ack(&r, r.ack + acked);
			assert_null(tcp_validate(r.s, NULL));
			rig_wait(&r, (uint64_t)rand() % 30000);
			assert_null(tcp_validate(r.s, NULL));
			if (rig_events(&r) & TCP_EVENT_ENDED)
				break;
		}
		rig_end(&r);
	}
}

/* A queue of thousands of small records, every second one sacked, a few a time: no ACK looks at all of them, and
 * nothing is lost by that. */
static void a_long_queue_full_of_holes_is_gone_through_in_steps(void **state)
{
	struct rig r;
	begin_with(&r, false, 100);
	const uint32_t mss = rig_info(&r).mss;
	uint32_t acked = 0;
	for (unsigned n = 0; n < 60; n++) { /* the window opens */
		tcp_write(r.c, bytes_of(rig_big, 60 * mss));
		while (rig_out(&r))
			;
		rig_wait(&r, RTT);
		const uint32_t all = r.got.seq + (uint32_t)r.got.text.n - r.ack;
		if (n > 4)
			for (uint32_t i = acked / mss + 1; i < all / mss && n < 50; i += 8) {
				for (unsigned b = 0; b < 4; b++)
					add_block(&r, r.ack + (i + 2 * b) * mss, r.ack + (i + 2 * b + 1) * mss);
				rig_ack(&r, r.ack + acked);
				assert_null(tcp_validate(r.s, NULL));
			}
		else
			acked = all;
		if (n >= 50)
			acked = all;
		rig_ack(&r, r.ack + acked);
	}
	assert_true(stats(&r).retransmits > 0);
	rig_end(&r);
}

/* ---- ECN (RFC 3168) ---- */

static void begin_ecn(struct rig *r, bool is_configured, uint8_t syn_flags)
{
	struct tcp_config config = rig_config();
	config.ecn = is_configured;
	rig_start(r, &config);
	rig_listen(r);
	rig_in(r, KIT_SYN | syn_flags, r->seq++, 0, "");
	assert_true(rig_out(r));
	assert_int_equal(r->got_ecn, 0);
	r->ack = r->got.seq + 1;
	rig_ack(r, r->ack);
	rig_events(r);
}

static void ecn_is_agreed_on_or_not_used(void **state) /* 6.1.1 */
{
	static const struct {
		bool is_configured;
		uint8_t syn, answer;
	} table[] = {{true, KIT_ECE | KIT_CWR, KIT_ECE}, {true, 0, 0}, {true, KIT_ECE, 0}, {true, KIT_CWR, 0},
		{false, KIT_ECE | KIT_CWR, 0}};
	for (unsigned i = 0; i < 5; i++) {
		struct rig r;
		begin_ecn(&r, table[i].is_configured, table[i].syn);
		assert_int_equal(r.got.flags, KIT_SYN | KIT_ACK | table[i].answer);
		rig_write(&r, "220 ");
		assert_true(rig_out(&r));
		assert_int_equal(r.got_ecn, table[i].answer != 0 ? 2 : 0);
		rig_wait(&r, 2000000);
		assert_true(rig_out(&r));
		assert_int_equal(r.got_ecn, 0); /* not what is sent again (6.1.5) */
		rig_end(&r);
	}
}

static void a_syn_is_sent_again_without_ecn(void **state) /* 6.1.1.1 */
{
	struct rig r;
	struct tcp_config config = rig_config();
	config.ecn = true;
	rig_start(&r, &config);
	int error;
	r.remote_port = RIG_PORT;
	r.c = tcp_connect(r.s, &r.local, &r.remote, RIG_PORT, &r, &error, r.now_us);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.flags, KIT_SYN | KIT_ECE | KIT_CWR);
	rig_wait(&r, 1100000);
	assert_true(rig_out(&r));
	assert_int_equal(r.got.flags, KIT_SYN);
	rig_end(&r);
}

static void a_mark_is_told_until_it_was_heard(void **state) /* 6.1.3 */
{
	struct rig r;
	begin_ecn(&r, true, KIT_ECE | KIT_CWR);
	r.ecn = 3;
	rig_text(&r, "a");
	rig_expect(&r, KIT_ACK | KIT_ECE, r.ack, r.seq, ""); /* at once */
	r.ecn = 2;
	rig_text(&r, "b");
	rig_text(&r, "c");
	rig_expect(&r, KIT_ACK | KIT_ECE, r.ack, r.seq, "");
	rig_in(&r, KIT_ACK | KIT_CWR, r.seq, r.ack, "d");
	r.seq++;
	rig_text(&r, "e");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	rig_end(&r);
}

static void a_mark_lowers_the_window_once(void **state) /* 6.1.2 */
{
	struct rig r;
	begin_ecn(&r, true, KIT_ECE | KIT_CWR);
	const uint32_t mss = rig_info(&r).mss, before = rig_info(&r).cwnd;
	rig_write_big(&r, 10 * mss);
	assert_int_equal(rig_take_all(&r, r.ack), 10);
	rig_in(&r, KIT_ACK | KIT_ECE, r.seq, r.ack + mss, "");
	rig_in(&r, KIT_ACK | KIT_ECE, r.seq, r.ack + 2 * mss, "");
	assert_in_range(rig_info(&r).cwnd, before / 2, before * 7 / 10);
	assert_int_equal(stats(&r).ecn_reduced, 1);
	rig_in(&r, KIT_ACK, r.seq, r.ack + 9 * mss, "");
	rig_write_big(&r, 2 * mss);
	assert_true(rig_out(&r));
	assert_true(r.got.flags & KIT_CWR);
	assert_int_equal(r.got_ecn, 2);
	assert_true(rig_out(&r));
	assert_false(r.got.flags & KIT_CWR);
	assert_int_equal(stats(&r).retransmits, 0);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_third_sacked_segment_shows_the_loss),
		cmocka_unit_test(fewer_show_it_a_reordering_window_later),
		cmocka_unit_test(reordering_is_learned),
		cmocka_unit_test(only_the_holes_are_sent_again),
		cmocka_unit_test(a_lost_retransmission_is_found_without_a_timeout),
		cmocka_unit_test(recovery_sends_in_proportion),
		cmocka_unit_test(the_tail_is_probed),
		cmocka_unit_test(new_text_is_the_better_probe),
		cmocka_unit_test(a_mended_loss_counts),
		cmocka_unit_test(a_timeout_that_was_too_early_is_undone),
		cmocka_unit_test(a_recovery_from_nothing_is_undone),
		cmocka_unit_test(after_a_timeout_what_was_sacked_is_not_sent_again),
		cmocka_unit_test(a_peer_that_takes_its_word_back_is_survived),
		cmocka_unit_test(no_blocks_can_confuse_it),
		cmocka_unit_test(ecn_is_agreed_on_or_not_used),
		cmocka_unit_test(a_syn_is_sent_again_without_ecn),
		cmocka_unit_test(a_mark_is_told_until_it_was_heard),
		cmocka_unit_test(a_mark_lowers_the_window_once),
		cmocka_unit_test(a_long_queue_full_of_holes_is_gone_through_in_steps),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
