// SPDX-License-Identifier: Apache-2.0
/* The event trace: what a watcher is told, of whom, and that watching changes nothing. */
#include "dataplane/tcp/tcp_rig.h"

#include <stdio.h>

#include "dataplane/tcp/trace.h"

static struct tcp_trace *trace;
static char told[4096]; /* what was read, as text */

static const struct prefix anybody;

static void start(struct rig *r, const struct prefix *peer, uint16_t port, size_t bytes)
{
	struct tcp_config config = rig_config();
	rig_start(r, &config);
	trace = tcp_trace_create(peer, port, bytes);
	assert_non_null(trace);
	tcp_set_trace(r->s, trace);
}

static void stop(struct rig *r)
{
	tcp_set_trace(r->s, NULL);
	tcp_trace_destroy(trace);
	rig_end(r);
}

static void write_segment(FILE *to, const struct tcp_trace_event *e)
{
	fprintf(to, "%s%s%s%s%s", e->flags & KIT_SYN ? "S" : "", e->flags & KIT_FIN ? "F" : "", e->flags & KIT_RST ? "R" : "",
		e->flags & KIT_ACK ? "." : "", e->len != 0 ? "+" : "");
	for (unsigned i = 0; i < e->sack_count; i++)
		fprintf(to, "[%u]", e->sack[i][1] - e->sack[i][0]);
	if (e->why != NULL)
		fprintf(to, "(%s)", e->why);
}

/* All that has been written since the last time: "in S; out S.; STATE>STATE; …" without congestion control's. */
static const char *events(void)
{
	FILE *to = fmemopen(told, sizeof told, "w");
	told[0] = '\0';
	for (struct bytes b; (b = tape_peek(tcp_trace_tape(trace))).at != NULL; tape_pop(tcp_trace_tape(trace))) {
		const struct tcp_trace_event *e = (const void *)b.at;
		switch ((enum tcp_trace_kind)e->kind) {
		case TCP_TRACE_IN: fputs("in ", to), write_segment(to, e); break;
		case TCP_TRACE_OUT: fputs("out ", to), write_segment(to, e); break;
		case TCP_TRACE_DROP: fprintf(to, "drop %s", e->why); break;
		case TCP_TRACE_STATE: fprintf(to, "%s>%s", e->from, e->to); break;
		case TCP_TRACE_TIMER: fprintf(to, "timer %s", e->why); break;
		case TCP_TRACE_CC: continue;
		}
		fputs("; ", to);
	}
	fclose(to);
	return told;
}

static void expect(const char *what)
{
	assert_string_equal(events(), what);
}

static void a_connection_is_told_from_syn_to_its_end(void **state)
{
	struct rig r;
	start(&r, &anybody, 0, 1 << 16);
	rig_accept(&r);
	expect("in S; out S.; in .; CLOSED>SYN-RECEIVED; SYN-RECEIVED>ESTABLISHED; ");
	rig_text(&r, "hello");
	rig_write(&r, "world");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "world");
	rig_in(&r, KIT_ACK, r.seq, r.ack += 5, "");
	expect("in .+; out .+; in .; ");
	rig_in(&r, KIT_FIN | KIT_ACK, r.seq++, r.ack, "");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "");
	tcp_close(r.c);
	rig_expect(&r, KIT_FIN | KIT_ACK, r.ack, r.seq, "");
	rig_in(&r, KIT_ACK, r.seq, ++r.ack, "");
	expect("in F.; ESTABLISHED>CLOSE-WAIT; out .; CLOSE-WAIT>LAST-ACK; out F.; in .; LAST-ACK>CLOSED; ");
	stop(&r);
}

static void what_is_sent_again_says_why(void **state)
{
	struct rig r;
	start(&r, &anybody, RIG_PORT, 1 << 16);
	rig_accept(&r);
	rig_write(&r, "lost");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "lost");
	events();
	for (int i = 0; i < 4000 && strstr(events(), "(timeout)") == NULL; i++) {
		rig_wait(&r, 1000);
		while (rig_out(&r))
			;
	}
	expect(""); /* all was read above */
	tcp_abort(r.c);
	while (rig_out(&r))
		;
	expect("out R.; ESTABLISHED>CLOSED; ");
	stop(&r);
}

static void a_lost_syn_is_sent_again_by_its_timer(void **state)
{
	struct rig r;
	start(&r, &anybody, 0, 1 << 16);
	int error;
	r.c = tcp_connect(r.s, &r.local, &r.remote, 25, NULL, &error, r.now_us);
	while (rig_out(&r))
		;
	expect("CLOSED>SYN-SENT; out S; ");
	rig_wait(&r, 1100000);
	while (rig_out(&r))
		;
	expect("timer retransmit; out S(handshake); ");
	stop(&r);
}

static void a_dropped_segment_has_its_reason(void **state)
{
	struct rig r;
	start(&r, &anybody, 0, 1 << 16);
	rig_accept(&r);
	events();
	rig_in(&r, KIT_ACK, r.seq + 10000000, r.ack, "x");
	while (rig_out(&r))
		;
	expect("in .+; drop out_of_window; out .; ");
	stop(&r);
}

/* A checksum that is wrong, and half a header: there is nothing to show but where it came from. */
static void a_malformed_segment_has_its_reason(void **state)
{
	struct rig r;
	uint8_t b[64];
	start(&r, &anybody, RIG_PORT, 1 << 16);
	rig_accept(&r);
	events();
	const struct kit_segment seg = {.from = r.remote_port, .to = r.local_port, .seq = r.seq, .ack = r.ack, .flags = KIT_ACK,
		.wscale = -1, .text = BYTES_LITERAL("x")};
	const size_t n = kit_encode(&seg, &r.remote, &r.local, b);
	const struct tcp_arrival a = {r.local, r.remote, false, 0};
	b[n - 1] ^= 1;
	tcp_input(r.s, kit_mbuf(rig_pool(false), bytes_of(b, n), 0), &a, r.now_us);
	b[12] = 0;
	tcp_input(r.s, kit_mbuf(rig_pool(false), bytes_of(b, n), 0), &a, r.now_us);
	expect("drop bad_checksum; drop bad_offset; ");
	stop(&r);
	start(&r, &anybody, 0, 1 << 16); /* without a port to look for: a short one has none */
	rig_accept(&r);
	events();
	tcp_input(r.s, kit_mbuf(rig_pool(false), bytes_of(b, 10), 0), &a, r.now_us);
	expect("drop short_header; ");
	stop(&r);
}

/* The tail of what was sent is lost, then what was sent again for it, and the timers say what they are for. */
static void probes_and_reordering_say_so(void **state)
{
	struct rig r;
	start(&r, &anybody, 0, 1 << 16);
	r.has_sack = true;
	rig_accept(&r);
	rig_write(&r, "lost");
	rig_expect(&r, KIT_ACK, r.ack, r.seq, "lost");
	events();
	rig_wait(&r, 900000);
	while (rig_out(&r))
		;
	assert_non_null(strstr(events(), "timer tail-probe; out .+(tail-probe); "));
	stop(&r);
}

static void windows_are_told_when_they_change(void **state)
{
	struct rig r;
	unsigned n = 0;
	uint32_t last = 0;
	start(&r, &anybody, 0, 1 << 16);
	rig_accept(&r);
	for (int i = 0; i < 3; i++) {
		rig_write(&r, "some text");
		rig_wait(&r, 20000);
		while (rig_out(&r))
			;
		rig_in(&r, KIT_ACK, r.seq, r.ack += 9, "");
	}
	for (struct bytes b; (b = tape_peek(tcp_trace_tape(trace))).at != NULL; tape_pop(tcp_trace_tape(trace))) {
		const struct tcp_trace_event *e = (const void *)b.at;
		if (e->kind != TCP_TRACE_CC)
			continue;
		assert_true(e->cwnd > 0 && e->rto_us > 0);
		assert_true(n == 0 || e->cwnd != last || e->srtt_us != 0);
		last = e->cwnd;
		n++;
	}
	assert_true(n >= 2);
	stop(&r);
}

static void others_are_not_told_of(void **state)
{
	struct rig r;
	struct prefix other;
	assert_true(prefix_parse("203.0.113.0/24", &other));
	start(&r, &other, 0, 1 << 16);
	rig_accept(&r);
	expect("");
	stop(&r);
	start(&r, &anybody, RIG_PORT + 1, 1 << 16);
	rig_accept(&r);
	expect("");
	stop(&r);
}

/* A watcher that does not read holds nothing up. */
static void a_full_tape_only_counts(void **state)
{
	struct rig r;
	start(&r, &anybody, 0, 1024);
	rig_accept(&r);
	for (int i = 0; i < 100; i++) {
		rig_text(&r, "text");
		while (rig_out(&r))
			;
		rig_expect_read(&r, "text");
	}
	assert_true(tape_lost(tcp_trace_tape(trace)) > 100);
	stop(&r);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_is_told_from_syn_to_its_end),
		cmocka_unit_test(what_is_sent_again_says_why),
		cmocka_unit_test(a_lost_syn_is_sent_again_by_its_timer),
		cmocka_unit_test(a_dropped_segment_has_its_reason),
		cmocka_unit_test(a_malformed_segment_has_its_reason),
		cmocka_unit_test(probes_and_reordering_say_so),
		cmocka_unit_test(windows_are_told_when_they_change),
		cmocka_unit_test(others_are_not_told_of),
		cmocka_unit_test(a_full_tape_only_counts),
	};
	return rig_main(tests, sizeof tests / sizeof *tests);
}
