// SPDX-License-Identifier: Apache-2.0
/* dataplane/lab.h: for the tests of this folder: cores without devices, packets by hand, and a
 * stand-in for TCP (tcp_double.c) that writes down what it is given. */
#pragma once

#include "dataplane/packet.h"

/* One port, "lan0": 192.0.2.1/24, 192.0.2.2/24, 2001:db8::1/64, its link-local; the routers are
 * 192.0.2.254 and 2001:db8::fe. lab_mac is ours, lab_peer_mac the other side's. */
extern const uint8_t lab_mac[6], lab_peer_mac[6], lab_broadcast[6];
extern uint64_t lab_now_us;

/* Starts the EAL without devices, once; cmocka's group set-up. */
int lab_start(void **state);
/* A dataplane of `cores`, its IPv6 addresses in use already. */
struct dp *lab_open(unsigned cores);
/* Fails the test if a buffer has not come home. */
void lab_close(struct dp *dp);

struct addr lab_addr(const char *text);

/* Frames: each returns its length in `frame`, checksums filled. */
size_t lab_ether(uint8_t *frame, const uint8_t to[6], uint16_t type, struct bytes payload);
size_t lab_ip4(
	uint8_t *frame, const char *from, const char *to, uint8_t protocol, struct bytes payload);
size_t lab_ip6(
	uint8_t *frame, const char *from, const char *to, uint8_t next, struct bytes payload);
/* An ICMPv6 message's checksum put in, before it goes into lab_ip6(). */
void lab_icmp6_sum(uint8_t *icmp, size_t n, const char *from, const char *to);
size_t lab_arp(uint8_t *frame, const uint8_t to[6], uint16_t operation, const uint8_t sender_mac[6],
	const char *sender, const char *target);
/* Corrects the checksum of the IPv4 header of a frame. */
void lab_fix_ip4(uint8_t *frame);

/* Puts a frame in at `core`, as if it had come from the port. */
void lab_put(struct dp_core *core, const void *frame, size_t n);
/* The next frame that `core` sends; n == 0: none. Valid until the next call. */
struct bytes lab_sent(struct dp_core *core);
uint64_t lab_counter(const struct dp_core *core, enum dp_counter counter);

/* What the stand-in for TCP was given last; and how often. */
struct lab_tcp {
	unsigned arrivals, errors;
	struct tcp_arrival arrival;
	uint8_t data[9216];
	size_t n;
	struct addr local, remote;
	enum tcp_icmp kind;
	uint32_t mtu;
	struct tcp_stack *stack; /* whose it was */
};
extern struct lab_tcp lab_tcp;
/* Has the stand-in send a segment. */
void lab_depart(struct dp_core *core, const char *from, const char *to, struct bytes segment);
