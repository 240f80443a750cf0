// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/batch.c: from the first record to the fdatasync that makes all of them count, or to
 * the failure after which none does. */
#include "smtp/spool/spool_private.h"
#include "smtp/spool/le.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* So much data wants a sync even if nobody waits for it yet: what a commit then has to wait for
 * stays small. */
#define UNSYNCED_BYTES_MOST (1024u * 1024)

static void ops_clear(struct op_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->ops[i].note);
		spool_move_destroy(list->ops[i].move);
	}
	list->count = 0;
}

static bool ops_reserve(struct op_list *list, size_t count)
{
	if (count <= list->capacity)
		return true;
	size_t capacity = count + count / 2 + 64;
	struct op *ops = realloc(list->ops, capacity * sizeof *ops);
	if (ops == NULL)
		return false;
	list->ops = ops;
	list->capacity = capacity;
	return true;
}

/* There is room: it was made before the op's record was put. */
static void ops_add(struct op_list *list, const struct op *op)
{
	assert(list->count < list->capacity);
	list->ops[list->count++] = *op;
}

/* In both lists, so that a batch that fails can be undone whatever happens. */
bool spool_batch_reserve_op(struct spool *s)
{
	size_t count = s->ops.count + s->again.count + 1;
	return ops_reserve(&s->ops, count) && ops_reserve(&s->again, count);
}

void spool_batch_add_op(struct spool *s, const struct op *op)
{
	ops_add(&s->ops, op);
}

void spool_batch_fini(struct spool *s)
{
	ops_clear(&s->ops);
	ops_clear(&s->again);
	free(s->ops.ops);
	free(s->again.ops);
	free(s->buffer);
}

uint64_t spool_batch_unsynced_bytes(const struct spool *s)
{
	return s->current == NULL ? 0 : s->written + s->buffered - s->current->end;
}

uint64_t spool_batch_unwritten_bytes(const struct spool *s)
{
	return s->written + s->buffered - s->flushed;
}

bool spool_has_batch(const struct spool *s)
{
	return s->ops.count != 0 || s->again.count != 0 || s->batch_error != 0 ||
		spool_batch_unsynced_bytes(s) >= UNSYNCED_BYTES_MOST;
}

/* ---- failing ---- */

/* Streaming mails that have data in the batch will never be whole. */
static void drop_streaming(struct spool *s)
{
	for (struct entry *e = s->oldest_entry, *newer; e != NULL; e = newer) {
		newer = e->newer;
		if (e->phase == ENTRY_STREAMING && e->batch == s->batch)
			spool_index_remove(s, e);
	}
}

/* Commits are dropped, states and dones kept to be written again: their mails are durable
 * elsewhere. */
static void undo_ops(struct spool *s)
{
	for (size_t i = 0; i < s->ops.count; i++) {
		struct op *op = &s->ops.ops[i];
		if (op->kind == OP_COMMIT) {
			spool_index_remove(s, op->entry);
		} else if (op->kind == OP_MOVED) {
			op->entry->is_moved = false;
		} else if (op->kind == OP_STATE || op->kind == OP_DONE) {
			ops_add(&s->again, op);
			op->note = NULL;
		}
	}
	ops_clear(&s->ops);
}

/* A write or sync of the current segment has failed: it ends where the last batch ended, for good.
 */
static void batch_fail(struct spool *s, int error)
{
	if (s->batch_error == 0)
		s->batch_error = error;
	s->stats.sync_errors++;
	s->current = NULL;
	s->written = s->flushed = s->buffered = 0;
	spool_compact_cancel(s);
	drop_streaming(s);
	undo_ops(s);
	s->batch++;
}

/* ---- appending ---- */

static void count_written(struct spool *s, uint64_t end)
{
	if (end <= s->current->file_bytes)
		return;
	s->stats.bytes += end - s->current->file_bytes;
	s->current->file_bytes = end;
}

static int batch_write(struct spool *s)
{
	if (spool_batch_unwritten_bytes(s) == 0)
		return 0;
	size_t begun = s->buffered % SPOOL_BLOCK_BYTES, whole = s->buffered - begun;
	size_t padding = begun == 0 ? 0 : SPOOL_BLOCK_BYTES - begun;
	memset(s->buffer + s->buffered, 0, padding);
	struct bytes part = bytes_of(s->buffer, s->buffered + padding);
	/* Some of it may be there also if this fails. */
	count_written(s, s->written + s->buffered);
	int64_t n = s->disk->write(s->disk, s->current->handle, s->written, &part, 1);
	if (n < 0) {
		batch_fail(s, (int)n);
		return (int)n;
	}
	memmove(s->buffer, s->buffer + whole, begun);
	s->written += whole;
	s->buffered = begun;
	s->flushed = s->written + begun;
	return 0;
}

/* Can the current segment take the record? A batch is never spread over two, so one that has begun may go past a
 * segment's end. */
static bool has_room(const struct spool *s, enum record_kind kind, size_t n)
{
	if (s->current == NULL)
		return false;
	if (s->current->is_small)
		return kind != RECORD_DATA && s->written + s->buffered + n <= SMALL_SEGMENT_BYTES;
	return s->current->end < s->segment_bytes || spool_batch_unsynced_bytes(s) != 0;
}

/* Sees to it that there is a segment for a record of this kind and length. A full segment is followed by the
 * next only between two batches. Where the disk is full, what ends mails goes into the room that is left in the
 * full one, or into a small one: else nothing could ever be removed. */
static int batch_find_room(struct spool *s, enum record_kind kind, size_t n)
{
	if (s->batch_error != 0)
		return s->batch_error;
	if (has_room(s, kind, n))
		return 0;
	if (s->current != NULL && spool_batch_unsynced_bytes(s) != 0)
		return -ENOSPC; /* of a small one: the next batch finds another */
	int err = spool_segment_begin(s);
	if (err != -ENOSPC || kind == RECORD_DATA)
		return err;
	if (s->current != NULL && !s->current->is_small)
		return 0;
	return spool_segment_begin_small(s);
}

int spool_batch_put(
	struct spool *s, const struct record_header *h, struct bytes payload, struct place *place)
{
	size_t n = spool_record_bytes((uint32_t)payload.n);
	int err = batch_find_room(s, h->kind, n);
	if (err == 0 && n > SPOOL_BUFFER_BYTES - s->buffered)
		err = batch_write(s);
	if (err != 0)
		return err;
	*place = (struct place){s->current, s->written + s->buffered, (uint32_t)payload.n};
	spool_record_write(h, payload, s->current->seed, place->at, s->buffer + s->buffered);
	s->buffered += n;
	s->stats.appended_bytes += n;
	if (h->mail_id > s->highest_id)
		s->highest_id = h->mail_id;
	return 0;
}

int spool_batch_put_commit(
	struct spool *s, uint64_t id, const struct copy *copy, uint32_t envelope_size)
{
	struct record_header h = {
		.kind = RECORD_COMMIT,
		.mail_id = id,
		.offset = copy->size,
		.extra = envelope_size,
	};
	uint8_t crc[4];
	struct place place;
	store_le32(crc, copy->crc);
	return spool_batch_put(s, &h, bytes_of(crc, sizeof crc), &place);
}

/* Puts the record that `op` stands for, a state or done, and the op with it; what cannot be put now
 * is kept for later. */
static void batch_put_op(struct spool *s, struct op *op)
{
	struct record_header h = {
		.kind = op->kind == OP_STATE ? RECORD_STATE : RECORD_DONE,
		.mail_id = op->entry->id,
	};
	int err = spool_batch_put(s, &h, bytes_of(op->note, op->note_length), &op->place);
	if (err != 0)
		s->wait_error = err;
	ops_add(err == 0 ? &s->ops : &s->again, op);
}

static int batch_remember(struct spool *s, struct op *op, struct bytes note)
{
	if (!spool_batch_reserve_op(s))
		return -ENOMEM;
	if (note.n != 0) {
		op->note = malloc(note.n);
		if (op->note == NULL)
			return -ENOMEM;
		memcpy(op->note, note.at, note.n);
		op->note_length = (uint32_t)note.n;
	}
	/* Behind those that wait already: their order is the point. */
	if (s->again.count != 0)
		ops_add(&s->again, op);
	else
		batch_put_op(s, op);
	return 0;
}

int spool_batch_put_state(struct spool *s, struct entry *e, struct bytes state)
{
	struct op op = {.kind = OP_STATE, .entry = e};
	int err = batch_remember(s, &op, state);
	if (err == 0)
		e->states_pending++;
	return err;
}

int spool_batch_put_done(struct spool *s, struct entry *e)
{
	struct op op = {.kind = OP_DONE, .entry = e};
	int err = batch_remember(s, &op, BYTES_NONE);
	if (err != 0)
		return err;
	e->phase = ENTRY_DONE;
	if (s->moving == e) /* or its new commit would come after its end, and count */
		spool_compact_cancel(s);
	return 0;
}

/* ---- the sync ---- */

/* Puts what a failed batch, or a full disk, left waiting, in its order. */
static void put_again(struct spool *s)
{
	struct op_list waiting = s->again;
	if (waiting.count == 0)
		return;
	s->again = (struct op_list){0};
	if (!ops_reserve(&s->again, waiting.count + s->ops.count) ||
		!ops_reserve(&s->ops, waiting.count + s->ops.count)) {
		free(s->again.ops);
		s->again = waiting;
		return;
	}
	for (size_t i = 0; i < waiting.count; i++) {
		if (s->again.count != 0)
			ops_add(&s->again, &waiting.ops[i]);
		else
			batch_put_op(s, &waiting.ops[i]);
	}
	free(waiting.ops);
}

static void apply_state(struct spool *s, const struct op *op)
{
	struct entry *e = op->entry;
	s->live_bytes -= spool_entry_log_bytes(e);
	e->state = op->place;
	e->states_pending--;
	s->live_bytes += spool_entry_log_bytes(e);
}

static void apply_op(struct spool *s, const struct op *op)
{
	switch (op->kind) {
	case OP_COMMIT:
		op->entry->phase = ENTRY_COMMITTED;
		s->live_bytes += spool_entry_log_bytes(op->entry);
		s->stats.mails_live++;
		break;
	case OP_STATE: apply_state(s, op); break;
	case OP_MOVED: spool_compact_finish(s, op); break;
	case OP_DONE:
		s->live_bytes -= spool_entry_log_bytes(op->entry);
		s->stats.mails_live--;
		spool_index_remove(s, op->entry);
		break;
	}
}

static int batch_sync(struct spool *s)
{
	int err = batch_write(s);
	if (err != 0 || spool_batch_unsynced_bytes(s) == 0)
		return err;
	err = s->disk->sync(s->disk, s->current->handle);
	if (err < 0) {
		batch_fail(s, err);
		return err;
	}
	s->current->clean_end = s->current->end = s->flushed;
	s->stats.syncs++;
	s->batch++;
	for (size_t i = 0; i < s->ops.count; i++)
		apply_op(s, &s->ops.ops[i]);
	ops_clear(&s->ops);
	return 0;
}

/* The batch has failed. A new segment is begun at once, since its header says where the failed one
 * ends: from then on the dropped commits cannot come back, even after a crash. */
static int batch_settle(struct spool *s)
{
	int error = s->batch_error;
	s->batch_error = 0;
	if (spool_segment_begin(s) == 0 || spool_segment_begin_small(s) == 0) {
		put_again(s);
		if (batch_sync(s) != 0)
			s->batch_error = 0; /* one report is enough; there was no commit in it */
	}
	return error;
}

int spool_sync(struct spool *s)
{
	if (s->batch_error != 0)
		return batch_settle(s);
	put_again(s);
	if (s->batch_error == 0)
		spool_compact_step(s);
	bool is_empty = s->ops.count == 0;
	if (s->batch_error != 0 || batch_sync(s) != 0)
		return batch_settle(s);
	spool_segments_reclaim(s);
	/* What still waits has found no room. But what was written is durable, and its commits
	 * count. */
	return is_empty && s->again.count != 0 ? s->wait_error : 0;
}
