// SPDX-License-Identifier: Apache-2.0
#include "smtp/envelope.h"

/* u32 total length (these four bytes included), u8 version. */
#define HEAD_BYTES  5
#define FIELD_BYTES 3 /* u8 kind, u16 length */

static void put_u32(uint8_t *to, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(n >> (8 * i));
}

static uint32_t get_u32(const uint8_t *from)
{
	uint32_t n = 0;
	for (int i = 3; i >= 0; i--)
		n = n << 8 | from[i];
	return n;
}

/* A field goes in whole or not at all, so that a recipient there was no memory for can be refused
 * alone (452) and the mail go on. */
static bool has_room(const struct mail *mail, size_t n)
{
	size_t spare = mail->last == NULL ? 0 : MAIL_CHUNK_DATA - mail->last->used;
	return n <= spare ||
		(n - spare + MAIL_CHUNK_DATA - 1) / MAIL_CHUNK_DATA <=
		mail_pool_free_chunks(mail->home);
}

bool envelope_begin(struct mail *mail)
{
	uint8_t head[HEAD_BYTES] = {0, 0, 0, 0, ENVELOPE_VERSION};
	return mail_append_unsummed(mail, bytes_of(head, sizeof head));
}

bool envelope_put(struct mail *mail, enum envelope_field field, struct bytes value)
{
	if (value.n > UINT16_MAX || !has_room(mail, FIELD_BYTES + value.n))
		return false;
	uint8_t head[FIELD_BYTES] = {(uint8_t)field, (uint8_t)value.n, (uint8_t)(value.n >> 8)};
	return mail_append_unsummed(mail, bytes_of(head, sizeof head)) &&
		(value.n == 0 || mail_append_unsummed(mail, value));
}

bool envelope_put_u64(struct mail *mail, enum envelope_field field, uint64_t value)
{
	uint8_t b[8];
	put_u32(b, (uint32_t)value);
	put_u32(b + 4, (uint32_t)(value >> 32));
	return envelope_put(mail, field, bytes_of(b, sizeof b));
}

/* The length is at the front and only now known, so the checksum, kept up to date from here on, starts
 * only now. */
void envelope_end(struct mail *mail)
{
	mail->envelope_size = (uint32_t)mail->size;
	put_u32(mail->first->data, mail->envelope_size);
	mail->crc = 0;
	for (const struct mail_chunk *chunk = mail->first; chunk != NULL; chunk = chunk->next)
		mail->crc = crc32c(mail->crc, bytes_of(chunk->data, chunk->used));
}

bool envelope_copy(const struct mail *mail, uint8_t *to)
{
	const struct mail_chunk *cursor = NULL;
	size_t done = 0;
	while (done < mail->envelope_size) {
		struct bytes part =
			bytes_first(mail_read(mail, done, &cursor), mail->envelope_size - done);
		if (part.n == 0)
			return false;
		memcpy(to + done, part.at, part.n);
		done += part.n;
	}
	return true;
}

bool envelope_open(struct bytes envelope, struct envelope_cursor *cursor)
{
	cursor->rest = BYTES_NONE;
	if (envelope.n < HEAD_BYTES || envelope.at[4] != ENVELOPE_VERSION)
		return false;
	uint32_t total = get_u32(envelope.at);
	if (total < HEAD_BYTES || total > envelope.n)
		return false;
	cursor->rest = bytes_of(envelope.at + HEAD_BYTES, total - HEAD_BYTES);
	return true;
}

static bool is_known(uint8_t kind)
{
	switch (kind) {
#define _(id) case ENVELOPE_##id:
		ENVELOPE_FIELDS(_)
#undef _
		return true;
	default: return false;
	}
}

int envelope_next(struct envelope_cursor *cursor, enum envelope_field *field, struct bytes *value)
{
	while (cursor->rest.n > 0) {
		const uint8_t *head = cursor->rest.at;
		if (cursor->rest.n < FIELD_BYTES || head[0] == ENVELOPE_END)
			return -1;
		size_t n = head[1] | (size_t)head[2] << 8;
		if (cursor->rest.n - FIELD_BYTES < n)
			return -1;
		cursor->rest = bytes_skip(cursor->rest, FIELD_BYTES + n);
		if (!is_known(head[0]))
			continue;
		*field = head[0];
		*value = bytes_of(head + FIELD_BYTES, n);
		return 1;
	}
	return 0;
}

struct bytes envelope_find(struct bytes envelope, enum envelope_field field)
{
	struct envelope_cursor cursor;
	enum envelope_field found;
	struct bytes value;
	if (!envelope_open(envelope, &cursor))
		return BYTES_NONE;
	while (envelope_next(&cursor, &found, &value) == 1)
		if (found == field)
			return value;
	return BYTES_NONE;
}

uint64_t envelope_u64(struct bytes value)
{
	if (value.n != 8)
		return 0;
	return get_u32(value.at) | (uint64_t)get_u32(value.at + 4) << 32;
}
