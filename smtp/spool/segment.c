// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/spool_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define RECLAIM_MOST 4 /* segments removed in one go: each costs a folder sync */

static void handle_close(struct spool *s, struct segment *segment)
{
	if (segment->handle < 0)
		return;
	s->disk->close(s->disk, segment->handle);
	segment->handle = -1;
	s->open_count--;
}

/* Another handle is about to be opened: closes the oldest one that is not written to. */
static void handles_make_room(struct spool *s)
{
	if (s->open_count < SPOOL_HANDLES_MAX)
		return;
	for (struct segment *x = s->oldest; x != NULL; x = x->newer) {
		if (x->handle >= 0 && x != s->current) {
			handle_close(s, x);
			return;
		}
	}
}

int spool_segment_handle(struct spool *s, struct segment *segment)
{
	char name[SEGMENT_NAME_MAX];
	if (segment->handle >= 0)
		return segment->handle;
	handles_make_room(s);
	segment->handle = s->disk->open(s->disk, spool_segment_name(segment->sequence, name));
	if (segment->handle >= 0)
		s->open_count++;
	return segment->handle;
}

struct segment *spool_segment_add(struct spool *s, uint64_t sequence)
{
	struct segment *segment = calloc(1, sizeof *segment);
	if (segment == NULL)
		return NULL;
	segment->sequence = sequence;
	segment->handle = -1;
	*(s->newest == NULL ? &s->oldest : &s->newest->newer) = segment;
	s->newest = segment;
	s->stats.segments++;
	return segment;
}

/* Writes the header and makes file and name durable. */
static int segment_found(struct spool *s, int handle, const struct segment_header *header, uint64_t room)
{
	struct disk *d = s->disk;
	struct bytes part = bytes_of(s->buffer, SPOOL_BLOCK_BYTES);
	int err = d->allocate == NULL ? 0 : d->allocate(d, handle, room);
	if (err < 0 && err != -EOPNOTSUPP)
		return err;
	/* From here on a header may be on the disk that tells where the segment before ends, even
	 * if this fails: so nothing may be added to that one any more. */
	s->current = NULL;
	memset(s->buffer, 0, SPOOL_BLOCK_BYTES);
	spool_segment_header_write(header, s->buffer);
	int64_t n = d->write(d, handle, 0, &part, 1);
	if (n < 0)
		return (int)n;
	err = d->sync(d, handle);
	return err < 0 ? err : d->sync_dir(d);
}

static struct segment_header segment_next_header(struct spool *s)
{
	struct segment_header header = {
		.spool_id = s->spool_id,
		.sequence = s->next_sequence++,
		.highest_id = s->highest_id,
	};
	header.oldest_sequence = s->oldest == NULL ? header.sequence : s->oldest->sequence;
	if (s->newest != NULL) {
		header.previous_sequence = s->newest->sequence;
		header.previous_clean_end = s->newest->clean_end;
		header.previous_end = s->newest->end;
	}
	return header;
}

static int segment_begin(struct spool *s, uint64_t room)
{
	char name[SEGMENT_NAME_MAX];
	struct segment_header header = segment_next_header(s);
	handles_make_room(s);
	int handle = s->disk->create(s->disk, spool_segment_name(header.sequence, name));
	if (handle < 0)
		return handle;
	int err = segment_found(s, handle, &header, room);
	struct segment *segment = err < 0 ? NULL : spool_segment_add(s, header.sequence);
	if (segment == NULL) {
		/* It holds no record and never will, so nothing depends on its going. */
		s->disk->close(s->disk, handle);
		s->disk->remove(s->disk, name);
		return err < 0 ? err : -ENOMEM;
	}
	segment->handle = handle;
	s->open_count++;
	segment->seed = spool_record_seed_of(header.spool_id, header.sequence);
	segment->clean_end = segment->end = segment->file_bytes = SEGMENT_HEADER_BYTES;
	s->stats.bytes += SEGMENT_HEADER_BYTES;
	s->current = segment;
	s->written = 0;
	s->flushed = s->buffered = SEGMENT_HEADER_BYTES;
	s->is_removal_doubtful = false; /* the header says what is gone */
	return 0;
}

int spool_segment_begin(struct spool *s)
{
	/* An eighth more than a segment is meant to hold: for the batch that goes past its end, and
	 * for states and dones when the disk is full. */
	uint64_t room = s->segment_bytes + s->segment_bytes / 8 + SPOOL_BLOCK_BYTES - 1;
	return segment_begin(s, room - room % SPOOL_BLOCK_BYTES);
}

int spool_segment_begin_small(struct spool *s)
{
	int err = segment_begin(s, SMALL_SEGMENT_BYTES);
	if (err == 0)
		s->current->is_small = true;
	return err;
}

void spool_segment_free(struct spool *s, struct segment *segment)
{
	assert(segment->pins == 0 && segment != s->current);
	handle_close(s, segment);
	s->stats.segments--;
	s->stats.bytes -= segment->file_bytes;
	free(segment);
}

static void segment_forget_oldest(struct spool *s)
{
	struct segment *segment = s->oldest;
	s->oldest = segment->newer;
	if (s->oldest == NULL)
		s->newest = NULL;
	spool_segment_free(s, segment);
}

/* One after the other, each made durable before the next: done records in the second may be for
 * mails in the first. If a removal or folder sync fails, nobody can tell whether the removal will
 * last, not even a later sync that succeeds; nothing more is removed until the next segment's
 * header has said which is the oldest. */
void spool_segments_reclaim(struct spool *s)
{
	for (int i = 0; i < RECLAIM_MOST && !s->is_removal_doubtful; i++) {
		struct segment *segment = s->oldest;
		char name[SEGMENT_NAME_MAX];
		if (segment == NULL || segment == s->newest || segment->pins != 0)
			return;
		handle_close(s, segment);
		int err = s->disk->remove(s->disk, spool_segment_name(segment->sequence, name));
		/* -ENOENT: it went when we were told that it had not. */
		s->is_removal_doubtful = err < 0;
		if (err < 0 && err != -ENOENT)
			return;
		segment_forget_oldest(s);
		s->stats.segments_freed++;
		if (err == 0)
			s->is_removal_doubtful = s->disk->sync_dir(s->disk) < 0;
	}
}

void spool_segments_fini(struct spool *s)
{
	s->current = NULL;
	while (s->oldest != NULL)
		segment_forget_oldest(s);
}

int spool_segment_load(struct spool *s, const struct place *place)
{
	struct segment *segment = place->segment;
	struct record_header header;
	size_t n = RECORD_HEADER_BYTES + place->length;
	int handle = spool_segment_handle(s, segment);
	if (handle < 0)
		return handle;
	int64_t got = s->disk->read(s->disk, handle, place->at, s->scratch, n);
	if (got < 0)
		return (int)got;
	struct bytes payload = bytes_of(s->scratch + RECORD_HEADER_BYTES, place->length);
	if ((size_t)got != n ||
		!spool_record_header_read(s->scratch, segment->seed, place->at, &header) ||
		!spool_record_payload_is_good(&header, payload, segment->seed))
		return -EBADMSG;
	return 0;
}

int spool_segment_read_payload(struct spool *s, const struct place *place, uint8_t *to)
{
	int err = spool_segment_load(s, place);
	if (err == 0 && place->length != 0)
		memcpy(to, s->scratch + RECORD_HEADER_BYTES, place->length);
	return err;
}
