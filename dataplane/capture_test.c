// SPDX-License-Identifier: Apache-2.0
/* What a capture keeps of packets, and what it leaves out. */
#include "dataplane/capture.h"

#include "dataplane/lab.h"

#include <pcap/pcap.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct dp *dp;
static struct dp_capture *capture;

static int try_create(uint32_t bytes_most, const char *filter, size_t tape_bytes)
{
	struct bpf_program program;
	struct dp_filter copy[DP_CAPTURE_FILTER_MAX];
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, 65535);
	assert_int_equal(pcap_compile(pcap, &program, filter, 1, PCAP_NETMASK_UNKNOWN), 0);
	memcpy(copy, program.bf_insns, program.bf_len * sizeof *copy);
	int rc = dp_capture_create(&capture, 0, bytes_most, copy, program.bf_len, tape_bytes);
	pcap_freecode(&program);
	pcap_close(pcap);
	return rc;
}

static void start(uint32_t bytes_most, const char *filter, size_t tape_bytes)
{
	dp = lab_open(1);
	assert_int_equal(try_create(bytes_most, filter, tape_bytes), 0);
	dp_core_set_capture(dp_get_core(dp, 0), capture);
}

static void stop(void)
{
	dp_core_set_capture(dp_get_core(dp, 0), NULL);
	dp_capture_destroy(capture);
	lab_close(dp);
}

static struct rte_mbuf *packet(const void *bytes, size_t n)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(dp_get_core(dp, 0)->tx_pool);
	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, (uint16_t)n), bytes, n);
	return m;
}

static void pass(unsigned port, struct rte_mbuf *m, bool is_out)
{
	capture_packets(dp_get_core(dp, 0), port, &m, 1, is_out);
	rte_pktmbuf_free(m);
}

static void assert_next(const uint8_t *bytes, size_t kept, size_t length, bool is_out)
{
	struct bytes b = tape_peek(dp_capture_tape(capture));
	const struct dp_captured *head = (const void *)b.at;
	assert_non_null(b.at);
	assert_int_equal(b.n, sizeof *head + kept);
	assert_int_equal(head->kept, kept);
	assert_int_equal(head->length, length);
	assert_int_equal(head->is_out, is_out);
	assert_memory_equal(head + 1, bytes, kept);
	tape_pop(dp_capture_tape(capture));
}

static void assert_no_more(void)
{
	assert_null(tape_peek(dp_capture_tape(capture)).at);
}

static size_t tcp_frame(uint8_t *frame, uint16_t port)
{
	uint8_t tcp[120] = {0x9c, 0x40, (uint8_t)(port >> 8), (uint8_t)port, [12] = 0x50};
	for (unsigned i = 20; i < sizeof tcp; i++)
		tcp[i] = (uint8_t)i;
	return lab_ip4(frame, "192.0.2.9", "192.0.2.1", IP_PROTOCOL_TCP, bytes_of(tcp, sizeof tcp));
}

static void packets_are_kept_byte_for_byte_both_ways(void **state)
{
	uint8_t frame[2048];
	start(65535, "", 1 << 20);
	size_t n = tcp_frame(frame, 25);
	pass(0, packet(frame, n), false);
	pass(0, packet(frame, n), true);
	pass(1, packet(frame, n), false); /* another port's */
	assert_next(frame, n, n, false);
	assert_next(frame, n, n, true);
	assert_no_more();
	stop();
}

static void only_the_first_bytes_are_kept_if_that_is_asked(void **state)
{
	uint8_t frame[2048];
	start(60, "", 1 << 20);
	size_t n = tcp_frame(frame, 25);
	pass(0, packet(frame, n), false);
	assert_next(frame, 60, n, false);
	stop();
}

static void a_packet_in_parts_is_put_together(void **state)
{
	uint8_t frame[2048];
	for (unsigned most = 10; most <= 200; most += 19) {
		start(most, "tcp", 1 << 20);
		size_t n = tcp_frame(frame, 25);
		struct rte_mbuf *m = packet(frame, 54), *rest = packet(frame + 54, 30), *last = packet(frame + 84, n - 84);
		assert_int_equal(rte_pktmbuf_chain(rest, last), 0);
		assert_int_equal(rte_pktmbuf_chain(m, rest), 0);
		pass(0, m, true);
		assert_next(frame, most < n ? most : n, n, true);
		stop();
	}
}

static void the_filter_is_tcpdumps(void **state)
{
	uint8_t mail[2048], other[2048];
	start(65535, "tcp dst port 25 and src host 192.0.2.9", 1 << 20);
	size_t n = tcp_frame(mail, 25), other_n = tcp_frame(other, 26);
	pass(0, packet(other, other_n), false);
	pass(0, packet(mail, n), false);
	pass(0, packet(mail, 20), false); /* shorter than what the filter looks at */
	assert_next(mail, n, n, false);
	assert_no_more();
	stop();
}

static void a_slow_reader_loses_packets_and_is_told_how_many(void **state)
{
	uint8_t frame[2048];
	start(65535, "", 4096);
	size_t n = tcp_frame(frame, 25);
	for (unsigned i = 0; i < 100; i++)
		pass(0, packet(frame, n), false);
	unsigned kept = 0;
	for (; tape_peek(dp_capture_tape(capture)).at != NULL; kept++)
		assert_next(frame, n, n, false);
	assert_true(kept > 10 && kept < 30);
	assert_int_equal(kept + tape_lost(dp_capture_tape(capture)), 100);
	stop();
}

static void what_is_no_filter_is_refused(void **state)
{
	static const struct dp_filter bad[][2] = {
		{{0x06, 0, 0, 1}, {0x05, 0, 0, 100}},  /* ends in a jump out of it */
		{{0x05, 0, 0, 0xffffffff}, {0x06, 0, 0, 1}}, /* backwards */
		{{0x02, 0, 0, 16}, {0x06, 0, 0, 1}},   /* writes beyond its memory */
		{{0xffff, 0, 0, 0}, {0x06, 0, 0, 1}}, /* unknown */
		{{0x17, 0, 0, 0}, {0x06, 0, 0, 1}},
		{{0x120, 0, 0, 0}, {0x06, 0, 0, 1}},
		{{0x64, 0, 0, 32}, {0x06, 0, 0, 1}}, /* shifts too far */
		{{0x34, 0, 0, 0}, {0x06, 0, 0, 1}}, /* divides by zero */
		{{0x15, 5, 0, 0}, {0x06, 0, 0, 1}}, /* jumps out of it */
	};
	struct dp_filter many[DP_CAPTURE_FILTER_MAX + 1] = {};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(dp_capture_create(&capture, 0, 100, bad[i], 2, 4096), -EINVAL);
	assert_int_equal(dp_capture_create(&capture, 0, 100, many, DP_CAPTURE_FILTER_MAX + 1, 4096), -EINVAL);
	assert_null(capture);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_are_kept_byte_for_byte_both_ways),
		cmocka_unit_test(only_the_first_bytes_are_kept_if_that_is_asked),
		cmocka_unit_test(a_packet_in_parts_is_put_together),
		cmocka_unit_test(the_filter_is_tcpdumps),
		cmocka_unit_test(a_slow_reader_loses_packets_and_is_told_how_many),
		cmocka_unit_test(what_is_no_filter_is_refused),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
