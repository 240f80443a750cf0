// SPDX-License-Identifier: Apache-2.0
/* tests/wire/packet.h: TCP segments as a script's author sees them, made and read by code that is not the stack's.
 *
 * A `struct packet` can say everything a header can, also what is wrong: lengths that do not fit, options cut short,
 * a bad checksum. */
#pragma once

#include "base/addr.h"

#define PACKET_MAX	   9216 /* bytes of a TCP segment */
#define PACKET_OPTIONS_MAX 40	/* bytes */

#define FLAG_FIN 0x01
#define FLAG_SYN 0x02
#define FLAG_RST 0x04
#define FLAG_PSH 0x08
#define FLAG_ACK 0x10
#define FLAG_URG 0x20
#define FLAG_ECE 0x40
#define FLAG_CWR 0x80

struct packet {
	struct addr source, destination;
	uint16_t from, to; /* ports */
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window, urgent;
	uint8_t options[PACKET_OPTIONS_MAX];
	unsigned options_size;
	struct bytes text;
	/* only when made */
	int offset;	   /* the data offset in words; -1: what fits */
	uint8_t reserved;  /* the four bits beside it */
	bool is_sum_wrong; /* the checksum is off by one */
	unsigned cut;	   /* so many bytes are missing at the end */
};

/* The segment as bytes, in a buffer of PACKET_MAX; returns how many. */
size_t packet_encode(const struct packet *p, uint8_t *to);
/* Reads a segment between `source` and `destination`; `p->text` points into `from`. NULL, or what is wrong with it. */
const char *packet_decode(
	struct packet *p, const struct addr *source, const struct addr *destination, struct bytes from);

/* One option. */
struct option {
	uint8_t kind;
	struct bytes value;
};
/* The next option at `*at` (0 at first), NOPs left out; false: no more, or the rest is malformed. */
bool packet_option(const struct packet *p, unsigned *at, struct option *option);

/* Letters of the flags, in the order "SFRPUEW." with the dot for ACK; "-" for none. */
const char *packet_flags(uint8_t flags, char text[10]);
/* false: there is an unknown letter. */
bool packet_parse_flags(const char *text, size_t n, uint8_t *flags);

uint32_t packet_get(const uint8_t *p, unsigned bytes);
uint8_t *packet_put(uint8_t *p, uint32_t v, unsigned bytes);
