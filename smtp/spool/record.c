// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/record.h"
#include "smtp/spool/le.h"

#include "smtp/mail.h"

#include <stdio.h>

#define RECORD_MAGIC	0x6b79c5a3u
#define SEGMENT_VERSION 1
static const uint8_t segment_magic[8] = "HKYSPOOL";

static uint32_t seed_part(uint64_t spool_id, uint64_t sequence, uint8_t purpose)
{
	uint8_t b[17];
	store_le64(b, spool_id);
	store_le64(b + 8, sequence);
	b[16] = purpose;
	return crc32c(0, bytes_of(b, sizeof b));
}

struct record_seed spool_record_seed_of(uint64_t spool_id, uint64_t sequence)
{
	return (struct record_seed){
		.header = seed_part(spool_id, sequence, 'h'),
		/* Not the same bits again: what satisfies one checksum by luck should not help the
		   other. */
		.payload = seed_part(spool_id >> 32 | spool_id << 32, ~sequence, 'p'),
	};
}

static uint32_t segment_header_crc(const uint8_t *b)
{
	uint32_t crc = crc32c(0, bytes_of(b, 12));
	return crc32c(crc, bytes_of(b + 16, SEGMENT_HEADER_BYTES - 16));
}

void spool_segment_header_write(const struct segment_header *h, uint8_t to[SEGMENT_HEADER_BYTES])
{
	memcpy(to, segment_magic, sizeof segment_magic);
	store_le32(to + 8, SEGMENT_VERSION);
	store_le64(to + 16, h->spool_id);
	store_le64(to + 24, h->sequence);
	store_le64(to + 32, h->highest_id);
	store_le64(to + 40, h->previous_sequence);
	store_le64(to + 48, h->previous_clean_end);
	store_le64(to + 56, h->previous_end);
	store_le64(to + 64, h->oldest_sequence);
	store_le32(to + 12, segment_header_crc(to));
}

bool spool_segment_header_read(struct bytes b, struct segment_header *h)
{
	if (b.n < SEGMENT_HEADER_BYTES || memcmp(b.at, segment_magic, sizeof segment_magic) != 0 ||
		load_le32(b.at + 8) != SEGMENT_VERSION ||
		load_le32(b.at + 12) != segment_header_crc(b.at))
		return false;
	*h = (struct segment_header){
		.spool_id = load_le64(b.at + 16),
		.sequence = load_le64(b.at + 24),
		.highest_id = load_le64(b.at + 32),
		.previous_sequence = load_le64(b.at + 40),
		.previous_clean_end = load_le64(b.at + 48),
		.previous_end = load_le64(b.at + 56),
		.oldest_sequence = load_le64(b.at + 64),
	};
	return true;
}

static uint32_t record_header_crc(const uint8_t *b, struct record_seed seed, uint64_t place)
{
	uint8_t p[8];
	store_le64(p, place);
	uint32_t crc = crc32c(seed.header, bytes_of(p, sizeof p));
	return crc32c(crc, bytes_of(b + 8, RECORD_HEADER_BYTES - 8));
}

void spool_record_write(const struct record_header *h, struct bytes payload,
	struct record_seed seed, uint64_t place, uint8_t *to)
{
	memset(to, 0, RECORD_HEADER_BYTES);
	store_le32(to, RECORD_MAGIC);
	store_le64(to + 8, h->mail_id);
	store_le64(to + 16, h->offset);
	store_le32(to + 24, (uint32_t)payload.n);
	store_le32(to + 28, crc32c(seed.payload, payload));
	to[32] = h->kind;
	store_le32(to + 36, h->extra);
	store_le32(to + 4, record_header_crc(to, seed, place));
	if (payload.n != 0)
		memcpy(to + RECORD_HEADER_BYTES, payload.at, payload.n);
	size_t end = RECORD_HEADER_BYTES + payload.n;
	memset(to + end, 0, spool_record_bytes((uint32_t)payload.n) - end);
}

bool spool_record_header_read(
	const uint8_t *b, struct record_seed seed, uint64_t place, struct record_header *h)
{
	if (load_le32(b) != RECORD_MAGIC || load_le32(b + 4) != record_header_crc(b, seed, place))
		return false;
	*h = (struct record_header){
		.kind = b[32],
		.mail_id = load_le64(b + 8),
		.offset = load_le64(b + 16),
		.extra = load_le32(b + 36),
		.length = load_le32(b + 24),
		.payload_crc = load_le32(b + 28),
	};
	return h->length <= RECORD_PAYLOAD_BYTES_MAX;
}

bool spool_record_payload_is_good(
	const struct record_header *h, struct bytes payload, struct record_seed seed)
{
	return payload.n == h->length && crc32c(seed.payload, payload) == h->payload_crc;
}

const char *spool_segment_name(uint64_t sequence, char name[SEGMENT_NAME_MAX])
{
	snprintf(name, SEGMENT_NAME_MAX, "%016llx.seg", (unsigned long long)sequence);
	return name;
}

bool spool_segment_name_parse(const char *name, uint64_t *sequence)
{
	uint64_t value = 0;
	if (strlen(name) != SEGMENT_NAME_MAX - 1 || strcmp(name + 16, ".seg") != 0)
		return false;
	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef", *at = strchr(digits, name[i]);
		if (at == NULL)
			return false;
		value = value << 4 | (uint64_t)(at - digits);
	}
	*sequence = value;
	return value != 0 && value != UINT64_MAX;
}
