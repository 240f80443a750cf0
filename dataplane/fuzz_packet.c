// SPDX-License-Identifier: Apache-2.0
/* Fuzzing the way of a packet from Ethernet to TCP. The input is frames, each after two bytes of
 * length, whose highest bits say: it arrives at the second core; a second passes first; its
 * checksums are put right. So ARP, NDP and the neighbours' states are reached. After each input no
 * buffer may be missing. */
#include "dataplane/lab.h"
#include "dataplane/neighbour.h"
#include "dataplane/reassembly.h"

#include <rte_cksum.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return lab_start(NULL);
}

static void fix_icmp4(uint8_t *icmp, size_t n)
{
	memset(icmp + 2, 0, 2);
	uint16_t sum = (uint16_t)~rte_raw_cksum(icmp, n);
	memcpy(icmp + 2, &sum, 2);
}

/* Where the frame is long enough for what it says it is. */
static void fix_sums(uint8_t *frame, size_t n)
{
	size_t header = n > 34 ? (frame[14] & 15) * 4u : 0,
	       total = n > 34 ? get_be16(frame + 16) : 0;
	if (n > 34 && frame[12] == 8 && frame[13] == 0 && header >= 20 && 14 + header <= n) {
		lab_fix_ip4(frame);
		if (frame[23] == 1 && total >= header + 4 && 14 + total <= n)
			fix_icmp4(frame + 14 + header, total - header);
	}
	if (n > 58 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == 58 &&
		get_be16(frame + 18) >= 4 && 54u + get_be16(frame + 18) <= n) {
		struct addr from, to;
		memcpy(from.b, frame + 22, 16);
		memcpy(to.b, frame + 38, 16);
		memset(frame + 56, 0, 2);
		uint16_t sum =
			icmp6_checksum(&from, &to, bytes_of(frame + 54, get_be16(frame + 18)));
		memcpy(frame + 56, &sum, 2);
	}
}

static void put(struct dp_core *core, struct bytes frame, bool is_fixed)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->rx_pool);
	if (m == NULL)
		abort();
	m->port = 0;
	memcpy(rte_pktmbuf_append(m, (uint16_t)frame.n), frame.at, frame.n);
	if (is_fixed)
		fix_sums(rte_pktmbuf_mtod(m, uint8_t *), frame.n);
	/* What lies behind a short packet is not to be read: make it noticeable by its effects. */
	memset(rte_pktmbuf_mtod_offset(m, uint8_t *, frame.n), 0xa5, 64);
	ethernet_input(core, m, false, lab_now_us);
}

static void send_something(struct dp_core *core, const char *from, const char *to)
{
	static const uint8_t segment[20];
	struct tcp_departure d;
	lab_depart(core, from, to, bytes_of(segment, sizeof segment));
	if (tcp_take(core->tcp, &d, 1) == 1)
		ip_output(core, d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
}

static void turn(struct dp *dp)
{
	for (unsigned i = 0; i < dp->core_count; i++) {
		steer_take(dp->cores[i], lab_now_us);
		neighbour_tick(dp->cores[i], lab_now_us);
		reassembly_tick(dp->cores[i], lab_now_us);
		while (lab_sent(dp->cores[i]).n > 0)
			;
	}
	resolver_tick(dp->cores[0], lab_now_us);
	mld_tick(dp->cores[0], lab_now_us);
}

static unsigned buffers_out(const struct dp *dp)
{
	unsigned out = 0;
	for (unsigned i = 0; i < dp->core_count; i++)
		out += rte_mempool_in_use_count(dp->cores[i]->rx_pool) +
			rte_mempool_in_use_count(dp->cores[i]->tx_pool) +
			rte_mempool_in_use_count(dp->cores[i]->control_pool) +
			rte_mempool_in_use_count(dp->cores[i]->fragment_pool);
	return out;
}

/* Two minutes on, nobody waits any more: fragments for the rest, then for a neighbour to be told so. */
static void settle(struct dp *dp)
{
	for (unsigned i = 0; i < 24; i++) {
		lab_now_us += 5000000;
		turn(dp);
	}
	if (buffers_out(dp) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct dp *dp;
	struct bytes in = bytes_of(data, n);
	if (dp == NULL)
		dp = lab_open(2);
	send_something(dp->cores[0], "192.0.2.1", "192.0.2.99");
	send_something(dp->cores[1], "2001:db8::1", "2001:db8::99");
	while (in.n >= 2) {
		unsigned head = get_be16(in.at), length = head & 0x1fff;
		struct bytes frame = bytes_first(bytes_skip(in, 2), length > 1600 ? 1600 : length);
		in = bytes_skip(in, 2 + frame.n);
		if (head & 0x4000)
			lab_now_us += 1000000;
		put(dp->cores[head >> 15], frame, head & 0x2000);
		turn(dp);
	}
	settle(dp);
	return 0;
}
