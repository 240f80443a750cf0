// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/record.h: what a segment of the spool looks like. Bytes in, fields out; no I/O.
 *
 *   segment  = header (72 bytes), records
 *   header   = "HKYSPOOL" | u32 version | u32 crc | u64 spool id | u64 sequence | u64 highest mail
 * id | u64 previous sequence | u64 previous clean end | u64 previous end | u64 oldest sequence
 *   record   = u32 magic | u32 header crc | u64 mail id | u64 offset | u32 length | u32 payload crc
 *              | u8 kind | u8[3] 0 | u32 extra, then the payload, filled up with zeros to 8 bytes
 *
 * All little-endian; records start at multiples of 8. Every checksum is a CRC32C that starts from a
 * seed made of the spool's random id and the segment's sequence, and a record's header also covers
 * its place in the file: so neither stale bytes of another file, nor bytes a peer wrote into a
 * mail, can pass for a record when a reader has to find its feet again behind a damaged one.
 *
 * What is written is filled up with zeros to a multiple of 4096 bytes, and the next records are written over them; a
 * file's size tells nothing, therefore.
 *
 * A header tells where its predecessor ends, so that bytes behind that end (of a write or sync that
 * failed) are never taken for records. Up to the clean end all of it was synced, and anything
 * unreadable is damage; between the two it may have holes, torn by the crash that ended it. It also
 * tells which was the oldest segment then: one that is older has been removed, also if the folder
 * has forgotten that. */
#pragma once

#include "base/bytes.h"

#define SEGMENT_HEADER_BYTES	 72
#define RECORD_HEADER_BYTES	 40
#define RECORD_PAYLOAD_BYTES_MAX (256u * 1024)

struct segment_header {
	uint64_t spool_id;
	uint64_t sequence;
	uint64_t highest_id;			   /* of any mail up to then */
	uint64_t previous_sequence;		   /* 0: there is none */
	uint64_t previous_clean_end, previous_end; /* file offsets */
	uint64_t oldest_sequence;
};

#define RECORD_KINDS(_)                                                                            \
	_(DATA)	  /* payload: the mail's bytes at `offset` */                                      \
	_(COMMIT) /* offset: the mail's size; extra: of its envelope; payload: u32 CRC32C of it    \
		     all */                                                                        \
	_(ABORT)  /* the mail will have no commit */                                               \
	_(STATE)  /* payload: the state that replaces the one before */                            \
	_(DONE)	  /* the mail is over */

enum record_kind {
	RECORD_NONE,
#define _(id) RECORD_##id,
	RECORD_KINDS(_)
#undef _
};

struct record_header {
	uint8_t kind; /* enum record_kind, or one that a later version knows */
	uint64_t mail_id;
	uint64_t offset;
	uint32_t extra;
	uint32_t length; /* of the payload */
	uint32_t payload_crc;
};

/* Where the checksums of one segment start from. */
struct record_seed {
	uint32_t header, payload;
};
struct record_seed spool_record_seed_of(uint64_t spool_id, uint64_t sequence);

/* Bytes that a record takes in the file. */
static inline uint64_t spool_record_bytes(uint32_t payload_length)
{
	return RECORD_HEADER_BYTES + (((uint64_t)payload_length + 7) & ~7ull);
}

void spool_segment_header_write(const struct segment_header *h, uint8_t to[SEGMENT_HEADER_BYTES]);
bool spool_segment_header_read(struct bytes b, struct segment_header *h);

/* Writes the whole record, spool_record_bytes() of it, to `to`; length and checksum come from
 * `payload`. */
void spool_record_write(const struct record_header *h, struct bytes payload,
	struct record_seed seed, uint64_t place, uint8_t *to);
/* false: these RECORD_HEADER_BYTES at `place` in the file are no record's header. */
bool spool_record_header_read(
	const uint8_t *b, struct record_seed seed, uint64_t place, struct record_header *h);
bool spool_record_payload_is_good(
	const struct record_header *h, struct bytes payload, struct record_seed seed);

/* File names: the sequence in 16 hexadecimal digits, so that they sort, and ".seg". */
#define SEGMENT_NAME_MAX 21
const char *spool_segment_name(uint64_t sequence, char name[SEGMENT_NAME_MAX]);
bool spool_segment_name_parse(const char *name, uint64_t *sequence);
