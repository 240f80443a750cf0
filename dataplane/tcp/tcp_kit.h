// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_kit.h: what the tests and the fuzzer of this folder share: an EAL without hugepages, pools,
 * and segments made and read by code that is not the stack's. Not linked into anything else. */
#pragma once

#include "dataplane/tcp/tcp.h"

#define KIT_FIN 0x01
#define KIT_SYN 0x02
#define KIT_RST 0x04
#define KIT_PSH 0x08
#define KIT_ACK 0x10
#define KIT_URG 0x20
#define KIT_ECE 0x40
#define KIT_CWR 0x80

/* Starts the EAL in the process: no hugepages, devices or shared files. Ends the process if it cannot. */
void kit_start(void);
void kit_stop(void);
struct rte_mempool *kit_pool(const char *name, unsigned count);

/* A segment as a test writes it down or reads it. */
struct kit_segment {
	uint16_t from, to; /* ports */
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;
	uint16_t mss;	/* 0: no option */
	int wscale;	/* -1: no option */
	bool has_ts;
	uint32_t tsval, tsecr;
	bool has_sack_ok;
	unsigned sack_count; /* blocks: start and end of each */
	uint32_t sack[4][2];
	struct bytes text; /* of a segment taken: in `storage` */
	uint8_t storage[2048];
};

/* The segment as bytes, with its checksum for the pair of addresses; returns their count. */
size_t kit_encode(const struct kit_segment *seg, const struct addr *source, const struct addr *destination,
	uint8_t *to);
/* The bytes as a segment; false: something about them is wrong, the checksum too. */
bool kit_decode(struct kit_segment *seg, const struct addr *source, const struct addr *destination,
	struct bytes from);
/* An mbuf with these bytes in it; chained in pieces of `piece` bytes, if that is not 0. */
struct rte_mbuf *kit_mbuf(struct rte_mempool *pool, struct bytes b, size_t piece);
