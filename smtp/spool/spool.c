// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/spool_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SEGMENT_BYTES_MIN 4096

static bool spool_take_memory(struct spool *s)
{
	s->buffer = aligned_alloc(SPOOL_BLOCK_BYTES, SPOOL_BUFFER_BYTES);
	s->scratch = malloc(RECORD_HEADER_BYTES + RECORD_PAYLOAD_BYTES_MAX);
	s->piece = malloc(RECORD_PAYLOAD_BYTES_MAX);
	return s->buffer != NULL && s->scratch != NULL && s->piece != NULL;
}

/* Reports one recovered mail; 0 or -errno. */
static int report(struct spool *s, const struct entry *e, spool_found_fn *found, void *user)
{
	uint8_t *b = malloc((size_t)e->envelope_size + e->state.length + 1);
	if (b == NULL)
		return -ENOMEM;
	int64_t n = spool_copy_read(s, &e->copy, 0, b, e->envelope_size);
	int err = n < 0 ? (int)n : 0;
	if (err == 0 && e->state.segment != NULL)
		err = spool_segment_read_payload(s, &e->state, b + e->envelope_size);
	if (err == 0) {
		struct spool_found f = {
			.id = e->id,
			.size = e->copy.size,
			.envelope_size = e->envelope_size,
			.envelope = bytes_of(b, e->envelope_size),
			.state = bytes_of(b + e->envelope_size, e->state.length),
		};
		found(user, &f);
	}
	free(b);
	return err;
}

static int report_all(struct spool *s, spool_found_fn *found, void *user, char error[256])
{
	for (const struct entry *e = s->oldest_entry; e != NULL; e = e->newer) {
		int err = report(s, e, found, user);
		if (err != 0) {
			char text[MAIL_ID_TEXT_MAX];
			snprintf(error, 256, "mail %s was there and cannot be read any more: %s",
				mail_id_format(e->id, text), strerror(-err));
			return err;
		}
	}
	return 0;
}

int spool_open(struct spool **spool, const struct spool_config *config, spool_found_fn *found,
	void *user, char error[256])
{
	struct spool *s = calloc(1, sizeof *s);
	error[0] = '\0';
	*spool = NULL;
	if (s == NULL)
		return -ENOMEM;
	s->disk = config->disk;
	s->segment_bytes = config->segment_bytes < SEGMENT_BYTES_MIN ? SEGMENT_BYTES_MIN
								     : config->segment_bytes;
	s->batch = 1;
	s->disk_bytes_max = config->disk_bytes_max;
	int err = spool_take_memory(s) ? spool_recover(s, error) : -ENOMEM;
	if (err == 0)
		err = report_all(s, found, user, error);
	if (err != 0) {
		if (error[0] == '\0')
			snprintf(error, 256, "%s", strerror(-err));
		spool_close(s);
		return err;
	}
	/* A full disk must not keep what was recovered from being delivered: then this is tried
	 * again with the first record. Until then nothing is removed. */
	s->is_removal_doubtful = true;
	if (spool_segment_begin(s) == -ENOSPC)
		spool_segment_begin_small(s);
	spool_segments_reclaim(s);
	*spool = s;
	return 0;
}

void spool_close(struct spool *s)
{
	if (s == NULL)
		return;
	spool_compact_cancel(s);
	spool_batch_fini(s);
	spool_index_fini(s);
	spool_segments_fini(s);
	free(s->scratch);
	free(s->piece);
	free(s);
}

uint64_t spool_highest_id(const struct spool *s)
{
	return s->highest_id;
}

static int append_record(struct spool *s, struct entry *e, struct bytes data)
{
	struct record_header h = {.kind = RECORD_DATA, .mail_id = e->id, .offset = e->copy.size};
	struct place place;
	int err = spool_batch_put(s, &h, data, &place);
	if (err != 0)
		return err;
	e->batch = s->batch;
	if (e->first == NULL)
		spool_entry_pin(e, place.segment);
	return spool_copy_add(&e->copy, place, data) ? 0 : -ENOMEM;
}

/* A mail that failed is forgotten. It may be so already, if the whole batch has failed. */
static int append_failed(struct spool *s, uint64_t id, int err)
{
	struct entry *e = spool_index_find(s, id);
	if (e != NULL)
		spool_index_remove(s, e);
	return err;
}

int spool_append(struct spool *s, uint64_t id, uint64_t offset, struct bytes data)
{
	struct entry *e = spool_index_find(s, id);
	if (e == NULL && offset != 0)
		return -EIO; /* its beginning was lost */
	if (e != NULL && e->phase != ENTRY_STREAMING)
		return -EINVAL;
	if (e == NULL)
		e = spool_index_add(s, id);
	if (e == NULL)
		return -ENOMEM;
	if (offset != e->copy.size)
		return append_failed(s, id, -EINVAL);
	if (s->disk_bytes_max != 0 && s->stats.bytes + spool_batch_unwritten_bytes(s) + data.n > s->disk_bytes_max)
		return append_failed(s, id, -ENOSPC);
	while (data.n != 0) {
		struct bytes part = bytes_first(data, SPOOL_DATA_BYTES_MAX);
		int err = append_record(s, e, part);
		if (err != 0)
			return append_failed(s, id, err);
		data = bytes_skip(data, part.n);
	}
	return 0;
}

static int commit_entry(struct spool *s, struct entry *e, uint32_t envelope_size)
{
	struct op op = {.kind = OP_COMMIT, .entry = e};
	if (!spool_batch_reserve_op(s))
		return -ENOMEM;
	int err = spool_batch_put_commit(s, e->id, &e->copy, envelope_size);
	if (err != 0)
		return err;
	spool_batch_add_op(s, &op);
	e->phase = ENTRY_COMMITTING;
	e->envelope_size = envelope_size;
	if (e->first == NULL)
		spool_entry_pin(e, s->current); /* an empty mail */
	return 0;
}

int spool_commit(struct spool *s, const struct mail *mail)
{
	struct entry *e = spool_index_find(s, mail->id);
	if (e == NULL && mail->size != 0)
		return -EIO; /* lost with a batch that failed */
	if (e != NULL && e->phase != ENTRY_STREAMING)
		return -EINVAL;
	if (e == NULL)
		e = spool_index_add(s, mail->id);
	if (e == NULL)
		return -ENOMEM;
	if (e->copy.size != mail->size || e->copy.crc != mail->crc ||
		mail->envelope_size > mail->size)
		return append_failed(s, mail->id, -EBADMSG);
	int err = commit_entry(s, e, mail->envelope_size);
	return err == 0 ? 0 : append_failed(s, mail->id, err);
}

int spool_abort(struct spool *s, uint64_t id)
{
	struct entry *e = spool_index_find(s, id);
	struct record_header h = {.kind = RECORD_ABORT, .mail_id = id};
	struct place place;
	if (e == NULL)
		return 0;
	if (e->phase != ENTRY_STREAMING)
		return -EINVAL;
	spool_index_remove(s, e);
	/* Only a hint, to let recovery forget sooner: without a commit the mail is not there
	 * anyway. */
	spool_batch_put(s, &h, BYTES_NONE, &place);
	return 0;
}

int spool_put_state(struct spool *s, uint64_t id, struct bytes state)
{
	struct entry *e = spool_index_find(s, id);
	if (e == NULL || e->phase != ENTRY_COMMITTED)
		return -ENOENT;
	if (state.n > SPOOL_STATE_BYTES_MAX)
		return -EMSGSIZE;
	return spool_batch_put_state(s, e, state);
}

int spool_done(struct spool *s, uint64_t id)
{
	struct entry *e = spool_index_find(s, id);
	if (e == NULL || e->phase != ENTRY_COMMITTED)
		return -ENOENT;
	return spool_batch_put_done(s, e);
}

int64_t spool_read(struct spool *s, uint64_t id, uint64_t offset, uint8_t *to, size_t n)
{
	const struct entry *e = spool_index_find(s, id);
	if (e == NULL || (e->phase != ENTRY_COMMITTED && e->phase != ENTRY_DONE))
		return -ENOENT;
	return spool_copy_read(s, &e->copy, offset, to, n);
}

/* The extent that holds `offset`, which is inside the mail. */
static const struct extent *extent_at(const struct copy *c, uint64_t offset)
{
	uint32_t low = 0, high = c->count - 1;
	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;
		if (c->extents[middle].offset <= offset)
			low = middle;
		else
			high = middle - 1;
	}
	return &c->extents[low];
}

int64_t spool_copy_read(
	struct spool *s, const struct copy *c, uint64_t offset, uint8_t *to, size_t n)
{
	size_t done = 0;
	while (done < n && offset + done < c->size) {
		const struct extent *x = extent_at(c, offset + done);
		size_t skip = (size_t)(offset + done - x->offset);
		size_t part = x->place.length - skip;
		int err = spool_segment_load(s, &x->place);
		if (err != 0)
			return err;
		if (part > n - done)
			part = n - done;
		memcpy(to + done, s->scratch + RECORD_HEADER_BYTES + skip, part);
		done += part;
	}
	return (int64_t)done;
}

void spool_get_stats(const struct spool *s, struct spool_stats *stats)
{
	*stats = s->stats;
	stats->live_bytes = s->live_bytes;
}
