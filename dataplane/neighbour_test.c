// SPDX-License-Identifier: Apache-2.0
#include "dataplane/lab.h"
#include "dataplane/neighbour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define SECOND 1000000ull
#define OURS4  "192.0.2.1"
#define PEER4  "192.0.2.99"
#define OURS6  "2001:db8::1"
#define PEER6  "2001:db8::99"
#define OTHER6 "2001:db8::98"

static struct dp *dp;
static struct dp_core *core;
static uint8_t frame[4096];
static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 0x98};

static int open_one(void **state)
{
	dp = lab_open(1);
	core = dp->cores[0];
	return 0;
}

static int open_two(void **state)
{
	dp = lab_open(2);
	core = dp->cores[0];
	return 0;
}

static int close_lab(void **state)
{
	lab_close(dp);
	return 0;
}

static void send_at(struct dp_core *at, const char *from, const char *to)
{
	static const uint8_t segment[20];
	struct tcp_departure d;
	lab_depart(at, from, to, bytes_of(segment, sizeof segment));
	assert_int_equal(tcp_take(at->tcp, &d, 1), 1);
	ip_output(at, d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
}

static void wait_us(uint64_t us)
{
	lab_now_us += us;
	resolver_tick(core, lab_now_us);
	for (unsigned i = 0; i < dp->core_count; i++)
		neighbour_tick(dp->cores[i], lab_now_us);
}

static void take_turns(void)
{
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < dp->core_count; i++)
			steer_take(dp->cores[i], lab_now_us);
}

static void assert_arp_question(struct bytes f, const uint8_t to[6], const char *target)
{
	struct addr who = lab_addr(target), sender = lab_addr(OURS4);
	assert_int_equal(f.n, 42);
	assert_memory_equal(f.at, to, 6);
	assert_int_equal(get_be16(f.at + 12), 0x0806);
	assert_int_equal(get_be16(f.at + 20), 1);
	assert_memory_equal(f.at + 22, lab_mac, 6);
	assert_memory_equal(f.at + 28, addr_ipv4(&sender), 4);
	assert_memory_equal(f.at + 38, addr_ipv4(&who), 4);
}

static void put_arp(const uint8_t to[6], uint16_t operation, const uint8_t mac[6],
	const char *sender, const char *target)
{
	lab_put(core, frame, lab_arp(frame, to, operation, mac, sender, target));
}

/* A solicitation or advertisement; `option` 0: without a link-layer address. */
static void put_ndp(uint8_t type, const char *from, const char *to, const char *target,
	uint8_t flags, uint8_t option, const uint8_t mac[6])
{
	uint8_t m[32] = {type, [4] = flags, [24] = option, 1};
	struct addr a = lab_addr(target);
	size_t n = option == 0 ? 24 : 32;
	memcpy(m + 8, a.b, 16);
	if (option != 0)
		memcpy(m + 26, mac, 6);
	lab_icmp6_sum(m, n, from, to);
	lab_put(core, frame, lab_ip6(frame, from, to, 58, bytes_of(m, n)));
}

/* ---- ARP ---- */

static void who_asks_for_us_is_answered(void **state)
{
	put_arp(lab_broadcast, 1, lab_peer_mac, PEER4, "192.0.2.2");
	struct bytes f = lab_sent(core);
	struct addr us = lab_addr("192.0.2.2"), peer = lab_addr(PEER4);
	assert_int_equal(f.n, 42);
	assert_memory_equal(f.at, lab_peer_mac, 6);
	assert_int_equal(get_be16(f.at + 20), 2);
	assert_memory_equal(f.at + 22, lab_mac, 6);
	assert_memory_equal(f.at + 28, addr_ipv4(&us), 4);
	assert_memory_equal(f.at + 32, lab_peer_mac, 6);
	assert_memory_equal(f.at + 38, addr_ipv4(&peer), 4);
	put_arp(lab_broadcast, 1, lab_peer_mac, PEER4, "192.0.2.3");
	assert_int_equal(lab_sent(core).n, 0);
}

static void a_probe_for_our_address_is_answered_and_not_learned(void **state)
{
	put_arp(lab_broadcast, 1, lab_peer_mac, "0.0.0.0", OURS4);
	assert_int_equal(lab_sent(core).n, 42);
	send_at(core, OURS4, PEER4);
	assert_arp_question(lab_sent(core), lab_broadcast, PEER4);
}

static void packets_wait_for_an_answer_in_order_and_bounded(void **state)
{
	for (unsigned i = 0; i < WAITING_MAX + 2; i++)
		send_at(core, OURS4, PEER4);
	assert_arp_question(lab_sent(core), lab_broadcast, PEER4);
	assert_int_equal(lab_sent(core).n, 0);
	assert_int_equal(lab_counter(core, COUNT_drop_neighbour_queue), 2);
	put_arp(lab_mac, 2, lab_peer_mac, PEER4, OURS4);
	for (unsigned i = 0; i < WAITING_MAX; i++) {
		struct bytes f = lab_sent(core);
		assert_int_equal(f.n, 54);
		assert_memory_equal(f.at, lab_peer_mac, 6);
	}
	assert_int_equal(lab_sent(core).n, 0);
	send_at(core, OURS4, PEER4);
	assert_int_equal(lab_sent(core).n, 54);
}

/* Some hosts have all their packets; where many have, each has one, and all together no more than a pool can bear. */
static void what_waits_for_silent_neighbours_is_bounded(void **state)
{
	char to[32];
	for (unsigned host = 3; host < 51; host++) {
		snprintf(to, sizeof to, "192.0.2.%u", host);
		for (unsigned i = 0; i < 40; i++)
			send_at(core, OURS4, to);
		while (lab_sent(core).n != 0)
			;
	}
	const unsigned waiting = 48 * 40 - (unsigned)lab_counter(core, COUNT_drop_neighbour_queue);
	assert_in_range(waiting, WAITING_MANY, WAITING_MANY + 48 * WAITING_LEAST);
	assert_true(rte_mempool_in_use_count(core->tx_pool) + rte_mempool_in_use_count(core->control_pool) >= waiting);
	for (unsigned i = 0; i < ASK_TRIES; i++) {
		wait_us(RETRANS_US);
		while (lab_sent(core).n != 0)
			;
	}
	assert_int_equal(rte_mempool_in_use_count(core->tx_pool), 0);
}

static void three_questions_without_answer_free_what_waits(void **state)
{
	send_at(core, OURS4, PEER4);
	for (unsigned i = 0; i < ASK_TRIES; i++) {
		assert_arp_question(lab_sent(core), lab_broadcast, PEER4);
		assert_int_equal(lab_sent(core).n, 0);
		wait_us(RETRANS_US);
	}
	assert_int_equal(lab_sent(core).n, 0);
	assert_int_equal(lab_counter(core, COUNT_neighbour_failed), 1);
	assert_int_equal(lab_counter(core, COUNT_drop_neighbour_failed), 1);
	send_at(core, OURS4, PEER4); /* the next packet asks anew */
	assert_arp_question(lab_sent(core), lab_broadcast, PEER4);
}

/* Of what is in flight; an ACK or a reset alone is not. */
static void tcp_is_told_that_nobody_answers(void **state)
{
	static const struct {
		const char *from, *to;
		uint8_t flags;
		size_t n;
		unsigned told;
	} cases[] = {
		{OURS4, PEER4, 0x02, 20, 1}, {OURS6, PEER6, 0x02, 20, 1}, {OURS4, PEER4, 0x12, 20, 1},
		{OURS4, PEER4, 0x11, 20, 1}, {OURS6, PEER6, 0x10, 21, 1}, {OURS6, PEER6, 0x10, 20, 0},
		{OURS4, PEER4, 0x10, 20, 0}, {OURS4, PEER4, 0x14, 20, 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t segment[21] = {0x00, 0x19, 0x04, 0x00, 1, 2, 3, 4, [12] = 0x50, cases[i].flags};
		struct addr local = lab_addr(cases[i].from), remote = lab_addr(cases[i].to);
		struct tcp_departure d;
		lab_tcp = (struct lab_tcp){0};
		lab_depart(core, cases[i].from, cases[i].to, bytes_of(segment, cases[i].n));
		assert_int_equal(tcp_take(core->tcp, &d, 1), 1);
		ip_output(core, d.m, &d.local, &d.remote, IP_PROTOCOL_TCP, lab_now_us);
		for (unsigned j = 0; j < ASK_TRIES; j++) {
			assert_int_equal(lab_tcp.errors, 0);
			wait_us(RETRANS_US);
			while (lab_sent(core).n > 0)
				;
		}
		assert_int_equal(lab_tcp.errors, cases[i].told);
		if (cases[i].told == 0)
			continue;
		assert_int_equal(lab_tcp.kind, TCP_ICMP_SOFT);
		assert_int_equal(lab_tcp.n, cases[i].n);
		assert_memory_equal(lab_tcp.data, segment, 8);
		assert_true(addr_equal(&lab_tcp.local, &local) && addr_equal(&lab_tcp.remote, &remote));
	}
	assert_int_equal(lab_counter(core, COUNT_drop_neighbour_failed), 8);
}

static void answers_nobody_asked_for_are_not_learned(void **state)
{
	put_arp(lab_mac, 2, other_mac, PEER4, OURS4);
	put_arp(lab_broadcast, 1, other_mac, PEER4, PEER4);
	send_at(core, OURS4, PEER4);
	assert_arp_question(lab_sent(core), lab_broadcast, PEER4);
}

static void a_neighbour_in_use_is_probed_and_lost_when_silent(void **state)
{
	send_at(core, OURS4, PEER4);
	lab_sent(core);
	put_arp(lab_mac, 2, lab_peer_mac, PEER4, OURS4);
	assert_int_equal(lab_sent(core).n, 54);
	wait_us(REACHABLE_US);
	send_at(core, OURS4, PEER4); /* stale: used, so it is probed five seconds later */
	assert_int_equal(lab_sent(core).n, 54);
	wait_us(DELAY_FIRST_PROBE_US);
	assert_arp_question(lab_sent(core), lab_peer_mac, PEER4);
	put_arp(lab_mac, 2, lab_peer_mac, PEER4, OURS4); /* it lives */
	wait_us(10 * SECOND);
	assert_int_equal(lab_sent(core).n, 0);
	wait_us(REACHABLE_US);
	send_at(core, OURS4, PEER4);
	assert_int_equal(lab_sent(core).n, 54);
	wait_us(DELAY_FIRST_PROBE_US);
	for (unsigned i = 0; i < ASK_TRIES; i++) {
		assert_arp_question(lab_sent(core), lab_peer_mac, PEER4);
		wait_us(RETRANS_US);
	}
	send_at(core, OURS4, PEER4); /* it does not: everybody is asked */
	assert_arp_question(lab_sent(core), lab_broadcast, PEER4);
}

static void a_new_address_of_a_known_neighbour_is_used_at_once(void **state)
{
	send_at(core, OURS4, PEER4);
	lab_sent(core);
	put_arp(lab_mac, 2, lab_peer_mac, PEER4, OURS4);
	lab_sent(core);
	put_arp(lab_broadcast, 1, other_mac, PEER4, PEER4); /* gratuitous */
	send_at(core, OURS4, PEER4);
	assert_memory_equal(lab_sent(core).at, other_mac, 6);
}

static void malformed_arp_is_dropped(void **state)
{
	/* clang-format off */
	static const struct {
		size_t at;
		uint8_t value;
	} cases[] = {{15, 6}, {16, 9}, {18, 5}, {19, 16}, {21, 3}, {22, 1}};
	/* clang-format on */
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t n = lab_arp(frame, lab_broadcast, 1, lab_peer_mac, PEER4, OURS4);
		frame[cases[i].at] = cases[i].value;
		lab_put(core, frame, n);
		assert_int_equal(lab_counter(core, COUNT_drop_arp_bad), i + 1);
	}
	for (size_t n = 14; n < 42; n++) {
		lab_arp(frame, lab_broadcast, 1, lab_peer_mac, PEER4, OURS4);
		lab_put(core, frame, n);
	}
	assert_int_equal(lab_counter(core, COUNT_drop_arp_bad), 6 + 28);
	put_arp(lab_broadcast, 1, other_mac, OURS4, OURS4);
	assert_int_equal(lab_counter(core, COUNT_arp_conflicts), 1);
	assert_int_equal(lab_sent(core).n, 0);
}

static void a_flood_of_unanswered_questions_is_bounded(void **state)
{
	for (unsigned i = 0; i < 2 * INCOMPLETE_MAX; i++) {
		char to[ADDR_TEXT_MAX];
		snprintf(to, sizeof to, "2001:db8::%x", 0x1000 + i);
		send_at(core, OURS6, to);
		while (lab_sent(core).n > 0)
			;
	}
	assert_int_equal(lab_counter(core, COUNT_ndp_out), INCOMPLETE_MAX);
	assert_int_equal(lab_counter(core, COUNT_drop_neighbour_failed), INCOMPLETE_MAX);
	for (unsigned i = 0; i < ASK_TRIES; i++) {
		wait_us(RETRANS_US);
		while (lab_sent(core).n > 0)
			;
	}
	assert_int_equal(lab_counter(core, COUNT_drop_neighbour_failed), 2 * INCOMPLETE_MAX);
	send_at(core, OURS6, PEER6); /* and there is room again */
	assert_int_equal(lab_sent(core).n, 86);
}

/* ---- NDP ---- */

static void assert_solicitation(struct bytes f, const char *target, bool is_unicast)
{
	struct addr who = lab_addr(target);
	assert_int_equal(f.n, 14 + 40 + 32);
	assert_int_equal(f.at[21], 255);
	assert_int_equal(f.at[54], 135);
	assert_memory_equal(f.at + 62, who.b, 16);
	assert_int_equal(f.at[78], 1);
	assert_memory_equal(f.at + 80, lab_mac, 6);
	if (is_unicast)
		assert_memory_equal(f.at + 38, who.b, 16);
	else
		assert_memory_equal(f.at, ((uint8_t[]){0x33, 0x33, 0xff, 0, 0}), 5);
}

static void solicitations_for_us_are_answered_and_teach(void **state)
{
	put_ndp(135, PEER6, "ff02::1:ff00:1", OURS6, 0, 1, lab_peer_mac);
	struct bytes f = lab_sent(core);
	struct addr us = lab_addr(OURS6), peer = lab_addr(PEER6);
	assert_int_equal(f.n, 86);
	assert_memory_equal(f.at, lab_peer_mac, 6);
	assert_memory_equal(f.at + 38, peer.b, 16);
	assert_int_equal(f.at[54], 136);
	assert_int_equal(f.at[58], 0x60); /* solicited, override, not a router */
	assert_memory_equal(f.at + 62, us.b, 16);
	assert_int_equal(f.at[78], 2);
	assert_memory_equal(f.at + 80, lab_mac, 6);
	send_at(core, OURS6, PEER6);
	assert_int_equal(lab_sent(core).n, 74); /* at once */
}

static void duplicate_detection_of_others_is_answered_to_all(void **state)
{
	put_ndp(135, "::", "ff02::1:ff00:1", OURS6, 0, 0, NULL);
	struct bytes f = lab_sent(core);
	struct addr all = lab_addr("ff02::1");
	assert_int_equal(f.n, 86);
	assert_memory_equal(f.at + 38, all.b, 16);
	assert_int_equal(f.at[58], 0x20);
}

static void an_advertisement_lets_waiting_packets_go(void **state)
{
	send_at(core, OURS6, PEER6);
	assert_solicitation(lab_sent(core), PEER6, false);
	put_ndp(136, PEER6, OURS6, PEER6, 0x60, 0, NULL); /* says nothing */
	assert_int_equal(lab_sent(core).n, 0);
	put_ndp(136, PEER6, OURS6, PEER6, 0x60, 2, lab_peer_mac);
	struct bytes f = lab_sent(core);
	assert_int_equal(f.n, 74);
	assert_memory_equal(f.at, lab_peer_mac, 6);
	/* Without override another address only makes it stale; with it, it is taken. */
	put_ndp(136, PEER6, OURS6, PEER6, 0, 2, other_mac);
	send_at(core, OURS6, PEER6);
	assert_memory_equal(lab_sent(core).at, lab_peer_mac, 6);
	put_ndp(136, PEER6, OURS6, PEER6, 0x20, 2, other_mac);
	send_at(core, OURS6, PEER6);
	assert_memory_equal(lab_sent(core).at, other_mac, 6);
}

static void probes_of_ipv6_neighbours_go_to_them_alone(void **state)
{
	put_ndp(135, PEER6, OURS6, OURS6, 0, 1, lab_peer_mac);
	lab_sent(core);
	send_at(core, OURS6, PEER6);
	assert_int_equal(lab_sent(core).n, 74);
	wait_us(DELAY_FIRST_PROBE_US);
	assert_solicitation(lab_sent(core), PEER6, true);
}

static void invalid_ndp_is_dropped(void **state)
{
	uint8_t m[32] = {135, [24] = 1, 1};
	struct addr us = lab_addr(OURS6);
	memcpy(m + 8, us.b, 16);
	lab_icmp6_sum(m, sizeof m, PEER6, OURS6);
	size_t n = lab_ip6(frame, PEER6, OURS6, 58, bytes_of(m, sizeof m));
	frame[21] = 254; /* it has crossed a router */
	lab_put(core, frame, n);
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_bad), 1);
	m[25] = 0; /* an option of no length */
	lab_icmp6_sum(m, sizeof m, PEER6, OURS6);
	lab_put(core, frame, lab_ip6(frame, PEER6, OURS6, 58, bytes_of(m, sizeof m)));
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_bad), 2);
	m[25] = 2; /* one longer than the message */
	lab_icmp6_sum(m, sizeof m, PEER6, OURS6);
	lab_put(core, frame, lab_ip6(frame, PEER6, OURS6, 58, bytes_of(m, sizeof m)));
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_bad), 3);
	put_ndp(135, "::", OURS6, OURS6, 0, 0, NULL); /* duplicate detection goes to the group */
	put_ndp(135, "::", "ff02::1:ff00:1", OURS6, 0, 1, other_mac); /* and names no source */
	put_ndp(135, PEER6, OURS6, "ff02::1", 0, 1, other_mac);
	put_ndp(136, PEER6, "ff02::1", PEER6, 0x60, 2, other_mac); /* solicited, by multicast */
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_bad), 7);
	for (size_t cut = 8; cut < 24; cut++) {
		lab_icmp6_sum(m, cut, PEER6, OURS6);
		lab_put(core, frame, lab_ip6(frame, PEER6, OURS6, 58, bytes_of(m, cut)));
	}
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_bad), 7 + 16);
	put_ndp(134, "fe80::1", "ff02::1", PEER6, 0, 0, NULL);
	assert_int_equal(lab_counter(core, COUNT_drop_ndp_ignored), 1);
	assert_int_equal(lab_sent(core).n, 0);
}

/* ---- our own addresses ---- */

static void our_ipv6_addresses_are_asked_about_before_use(void **state)
{
	struct local_addr *ours = &dp->ports[0].addrs[2];
	unsigned questions = 0, arps = 0;
	ours->state = dp->ports[0].addrs[3].state = ADDR_TENTATIVE;
	announce_tick(core, lab_now_us);
	for (struct bytes f; (f = lab_sent(core)).n > 0;) {
		arps += f.at[12] == 0x08;
		questions += f.at[12] == 0x86 && f.n == 78 && f.at[54] == 135;
	}
	assert_int_equal(arps, 2);
	assert_int_equal(questions, 2);
	assert_int_equal(local_addr_state(ours), ADDR_TENTATIVE);
	lab_now_us += SECOND;
	announce_tick(core, lab_now_us);
	assert_int_equal(local_addr_state(ours), ADDR_PREFERRED);
	unsigned total = 0;
	while (lab_sent(core).n > 0)
		total++;
	assert_int_equal(total, 4);
	for (unsigned i = 0; i < 10; i++) { /* and after some more of that, quiet */
		lab_now_us += SECOND;
		announce_tick(core, lab_now_us);
		while (lab_sent(core).n > 0)
			total++;
	}
	assert_int_equal(total, 4 + 8);
}

static void an_address_that_somebody_has_stays_unused(void **state)
{
	for (unsigned way = 0; way < 2; way++) {
		struct local_addr *ours = &dp->ports[0].addrs[2];
		ours->state = ADDR_TENTATIVE;
		ours->claims = 0;
		announce_tick(core, lab_now_us);
		if (way == 0) /* he has it: he says so, from that very address */
			put_ndp(136, OURS6, "ff02::1", OURS6, 0x20, 2, other_mac);
		else /* he wants it too */
			put_ndp(135, "::", "ff02::1:ff00:1", OURS6, 0, 0, NULL);
		assert_int_equal(local_addr_state(ours), ADDR_DUPLICATE);
		lab_now_us += 5 * SECOND;
		announce_tick(core, lab_now_us);
		assert_int_equal(local_addr_state(ours), ADDR_DUPLICATE);
		assert_int_equal(lab_counter(core, COUNT_ndp_duplicates), way + 1);
		while (lab_sent(core).n > 0)
			;
	}
	struct addr local, remote = lab_addr(PEER6);
	assert_false(dp_source_for(core, &remote, &local));
}

/* A hub or a loop brings it back: that is nobody else. */
static void our_own_question_come_back_is_no_duplicate(void **state)
{
	struct local_addr *ours = &dp->ports[0].addrs[2];
	struct bytes f;
	unsigned questions = 0;
	ours->state = ADDR_TENTATIVE;
	ours->claims = 0;
	announce_tick(core, lab_now_us);
	while ((f = lab_sent(core)).n > 0) {
		if (f.at[12] != 0x86 || f.at[54] != 135)
			continue;
		questions++;
		memcpy(frame, f.at, f.n);
		lab_put(core, frame, f.n);
	}
	assert_int_equal(questions, 1);
	assert_int_equal(local_addr_state(ours), ADDR_TENTATIVE);
	lab_now_us += 5 * SECOND;
	announce_tick(core, lab_now_us);
	assert_int_equal(local_addr_state(ours), ADDR_PREFERRED);
}

/* ---- two cores ---- */

static void the_second_core_learns_by_news(void **state)
{
	struct dp_core *second = dp->cores[1];
	send_at(second, OURS4, PEER4);
	assert_int_equal(lab_sent(second).n, 0); /* it does not ask by itself */
	take_turns();
	assert_arp_question(lab_sent(core), lab_broadcast, PEER4);
	/* The answer arrives at the second core, and is the first one's to read. */
	lab_put(second, frame, lab_arp(frame, lab_mac, 2, lab_peer_mac, PEER4, OURS4));
	take_turns();
	struct bytes f = lab_sent(second);
	assert_int_equal(f.n, 54);
	assert_memory_equal(f.at, lab_peer_mac, 6);
	assert_int_equal(lab_counter(second, COUNT_handed_over), 1);
	assert_int_equal(lab_counter(core, COUNT_taken_over), 1);
	/* The first core asks nobody any more. */
	send_at(core, OURS4, PEER4);
	assert_int_equal(lab_sent(core).n, 54);
	assert_int_equal(lab_sent(core).n, 0);
}

static void lost_news_are_given_up_or_asked_for_again(void **state)
{
	struct dp_core *second = dp->cores[1];
	for (unsigned i = 0; i < NEWS_RING + 10; i++) {
		char to[ADDR_TEXT_MAX];
		snprintf(to, sizeof to, "2001:db8::%x", 0x1000 + i);
		send_at(second, OURS6, to);
	}
	assert_in_range(lab_counter(second, COUNT_news_lost), 10, 12);
	uint64_t lost = lab_counter(second, COUNT_news_lost);
	lab_now_us += WAIT_LIMIT_US + 1;
	neighbour_tick(second, lab_now_us);
	assert_int_equal(lab_counter(second, COUNT_drop_neighbour_failed), NEWS_RING + 10);
	take_turns();
	send_at(second, OURS6, "2001:db8::1109");
	assert_int_equal(lab_counter(second, COUNT_news_lost), lost);
}

int main(void)
{
#define CASE(name)     cmocka_unit_test_setup_teardown(name, open_one, close_lab)
#define CASE_TWO(name) cmocka_unit_test_setup_teardown(name, open_two, close_lab)
	const struct CMUnitTest tests[] = {
		CASE(who_asks_for_us_is_answered),
		CASE(a_probe_for_our_address_is_answered_and_not_learned),
		CASE(packets_wait_for_an_answer_in_order_and_bounded),
		CASE(what_waits_for_silent_neighbours_is_bounded),
		CASE(three_questions_without_answer_free_what_waits),
		CASE(tcp_is_told_that_nobody_answers),
		CASE(answers_nobody_asked_for_are_not_learned),
		CASE(a_neighbour_in_use_is_probed_and_lost_when_silent),
		CASE(a_new_address_of_a_known_neighbour_is_used_at_once),
		CASE(malformed_arp_is_dropped),
		CASE(a_flood_of_unanswered_questions_is_bounded),
		CASE(solicitations_for_us_are_answered_and_teach),
		CASE(duplicate_detection_of_others_is_answered_to_all),
		CASE(an_advertisement_lets_waiting_packets_go),
		CASE(probes_of_ipv6_neighbours_go_to_them_alone),
		CASE(invalid_ndp_is_dropped),
		CASE(our_ipv6_addresses_are_asked_about_before_use),
		CASE(an_address_that_somebody_has_stays_unused),
		CASE(our_own_question_come_back_is_no_duplicate),
		CASE_TWO(the_second_core_learns_by_news),
		CASE_TWO(lost_news_are_given_up_or_asked_for_again),
	};
	return cmocka_run_group_tests(tests, lab_start, NULL);
}
