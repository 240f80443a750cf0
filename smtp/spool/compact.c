// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/compact.c: moves the mails that begin in the oldest segment to the end of the log.
 *
 * A moved mail is appended anew, under its id, data first, then commit and state. Until that commit
 * is durable the old copy counts, in memory as in recovery, which takes the copy of the last commit
 * that is whole. The mail stays readable all the time, and may become done meanwhile: then the move
 * is dropped.
 *
 * When: the log is more than twice as large as what lives in it, and four segments besides. Then a
 * whole turn of the log moves at most as many bytes as it frees. */
#include "smtp/spool/spool_private.h"

#include <stdlib.h>

#define STEP_BYTES     (256u * 1024) /* moved at most with one batch */
#define STEP_ENTRIES   256	     /* looked at */
#define SLACK_SEGMENTS 4

static bool is_worth_it(const struct spool *s)
{
	if (s->oldest == NULL || s->oldest == s->newest || s->oldest->pins == 0 ||
		s->is_removal_doubtful)
		return false;
	uint64_t live_segments = s->live_bytes / s->segment_bytes + 1;
	if (s->stats.bytes > 2 * s->live_bytes + SLACK_SEGMENTS * s->segment_bytes ||
		s->stats.segments > 2 * live_segments + 2 * SLACK_SEGMENTS)
		return true;
	/* Near the limit a sixteenth is worth having. */
	uint64_t most = s->disk_bytes_max;
	return most != 0 && s->stats.bytes > most - most / 8 &&
		s->stats.bytes > s->live_bytes + most / 16;
}

void spool_move_destroy(struct move *move)
{
	if (move == NULL)
		return;
	spool_copy_fini(&move->copy);
	free(move);
}

void spool_compact_cancel(struct spool *s)
{
	spool_move_destroy(s->move);
	s->move = NULL;
	s->moving = NULL;
}

static void choose(struct spool *s)
{
	struct entry *e = s->oldest_entry;
	for (int i = 0; e != NULL && i < STEP_ENTRIES; i++, e = e->newer) {
		if (e->first == s->oldest && e->phase == ENTRY_COMMITTED && !e->is_stuck &&
			!e->is_moved) {
			s->move = calloc(1, sizeof *s->move);
			s->moving = s->move == NULL ? NULL : e;
			return;
		}
	}
}

/* The disk does not give the mail back: it stays where it is, and so does its segment. */
static void give_up(struct spool *s)
{
	s->moving->is_stuck = true;
	spool_compact_cancel(s);
}

/* Copies the next piece; the bytes copied, 0: not now. */
static size_t copy_piece(struct spool *s)
{
	uint64_t offset = s->move->copy.size;
	int64_t n = spool_copy_read(s, &s->moving->copy, offset, s->piece, SPOOL_DATA_BYTES_MAX);
	if (n <= 0) {
		give_up(s);
		return 0;
	}
	struct record_header h = {.kind = RECORD_DATA, .mail_id = s->moving->id, .offset = offset};
	struct bytes data = bytes_of(s->piece, (size_t)n);
	struct place place;
	if (spool_batch_put(s, &h, data, &place) != 0)
		return 0;
	if (s->move->first == NULL)
		s->move->first = place.segment;
	if (!spool_copy_add(&s->move->copy, place, data)) {
		spool_compact_cancel(s);
		return 0;
	}
	return (size_t)n;
}

/* Puts the state behind the commit, so that it does not go with the old segment. */
static int copy_state(struct spool *s, struct op *op)
{
	const struct place *state = &op->entry->state;
	struct record_header h = {.kind = RECORD_STATE, .mail_id = op->entry->id};
	if (state->segment == NULL)
		return 0;
	int err = spool_segment_read_payload(s, state, s->piece);
	return err != 0 ? err
			: spool_batch_put(s, &h, bytes_of(s->piece, state->length), &op->place);
}

/* All data is there: commit and state follow, in one batch. If only the commit gets in, nothing is
 * lost: the old copy and its state go on to count, and are not removed. */
static bool commit_move(struct spool *s)
{
	struct op op = {.kind = OP_MOVED, .entry = s->moving, .move = s->move};
	if (s->move->copy.crc != s->moving->copy.crc) {
		give_up(s);
		return false;
	}
	if (!spool_batch_reserve_op(s) ||
		spool_batch_put_commit(
			s, s->moving->id, &s->move->copy, s->moving->envelope_size) != 0)
		return false;
	if (s->move->first == NULL)
		s->move->first = s->current; /* an empty mail */
	int err = copy_state(s, &op);
	if (err != 0) {
		if (s->moving != NULL) /* a batch that failed has cancelled it already */
			give_up(s);
		return false;
	}
	spool_batch_add_op(s, &op);
	s->moving->is_moved = true;
	s->moving = NULL;
	s->move = NULL;
	return true;
}

void spool_compact_finish(struct spool *s, const struct op *op)
{
	struct entry *e = op->entry;
	s->live_bytes -= spool_entry_log_bytes(e);
	spool_copy_take(&e->copy, &op->move->copy);
	e->state = op->place;
	e->is_moved = false;
	spool_entry_pin(e, op->move->first);
	spool_index_make_newest(s, e);
	s->live_bytes += spool_entry_log_bytes(e);
	s->stats.mails_moved++;
}

void spool_compact_step(struct spool *s)
{
	uint64_t batch = spool_batch_unsynced_bytes(s),
		 budget = batch > STEP_BYTES ? batch : STEP_BYTES;
	for (uint64_t moved = 0; moved < budget;) {
		if (s->moving == NULL && is_worth_it(s))
			choose(s);
		/* A state that is newer than the one we would copy must not be overtaken by it. */
		if (s->moving == NULL || s->moving->states_pending != 0)
			return;
		if (s->move->copy.size < s->moving->copy.size) {
			size_t n = copy_piece(s);
			if (n == 0)
				return;
			moved += n;
		} else if (commit_move(s)) {
			moved += spool_record_bytes(0);
		} else {
			return;
		}
	}
}
