// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/spool_private.h: the spool in memory; shared by the files of this folder.
 *
 * The log is a queue of segments: records go to the newest, and only the oldest is ever removed,
 * when no mail *begins* in it any more. Nothing is kept about tombstones, therefore: a done record
 * is always younger than all records of its mail, so the segments that hold these go first. So that
 * one old mail does not hold up the queue, mails in the oldest segment are moved (appended anew)
 * once the log is more than twice the size of what lives in it (compact.c); like this every byte is
 * moved about once on average.
 *
 * A segment is begun only when all of the one before is synced, or given up at its last good end.
 */
#pragma once

#include "smtp/spool/record.h"
#include "smtp/spool/spool.h"

#define SPOOL_BLOCK_BYTES    4096u	    /* what is written begins and ends at multiples of it */
#define SPOOL_BUFFER_BYTES   (1024u * 1024) /* of a batch kept back: one write for most batches */
#define SPOOL_DATA_BYTES_MAX (64u * 1024)   /* of one DATA record */
#define SPOOL_HANDLES_MAX    64		    /* segments open at a time */
static_assert(SPOOL_STATE_BYTES_MAX <= RECORD_PAYLOAD_BYTES_MAX, "a state is one record");
static_assert(SPOOL_BLOCK_BYTES + RECORD_HEADER_BYTES + RECORD_PAYLOAD_BYTES_MAX <= SPOOL_BUFFER_BYTES,
	"fits one window, and the buffer behind a block that has begun");
static_assert(SPOOL_BUFFER_BYTES % SPOOL_BLOCK_BYTES == 0);

struct segment {
	struct segment *newer;
	uint64_t sequence;
	struct record_seed seed;
	int handle;	     /* -1: not open now */
	uint64_t clean_end;  /* all before it was synced */
	uint64_t end;	     /* records are looked for up to here */
	uint64_t file_bytes; /* on the disk, as far as known */
	uint64_t pins;	     /* mails that begin here */
	bool has_header;     /* recovery only: a good one */
	bool is_small;	     /* of SMALL_SEGMENT_BYTES, for all but the data of mails */
};

#define SMALL_SEGMENT_BYTES SPOOL_BLOCK_BYTES

/* A record in the log. */
struct place {
	struct segment *segment; /* NULL: nowhere */
	uint64_t at;		 /* of its header */
	uint32_t length;	 /* of its payload */
};

struct extent {
	struct place place;
	uint64_t offset; /* in the mail */
};

/* One copy of a mail in the log: its DATA records, in order, without gaps. */
struct copy {
	struct extent *extents; /* &only while there is one */
	struct extent only;
	uint32_t count, capacity;
	uint64_t size;
	uint32_t crc; /* of the mail's bytes so far */
};

enum entry_phase {
	ENTRY_STREAMING,  /* no commit yet */
	ENTRY_COMMITTING, /* its commit is in the batch */
	ENTRY_COMMITTED,
	ENTRY_DONE, /* its done record is in the batch */
	ENTRY_LOST, /* recovery only: committed, but not whole (in the log so far) */
};

struct entry {
	uint64_t id;
	struct entry *older, *newer; /* in the order in which they begin in the log, roughly */
	enum entry_phase phase;
	uint32_t envelope_size;
	struct segment *first; /* where it begins; it pins it */
	struct copy copy;
	struct place state;	 /* the latest that is durable */
	uint32_t states_pending; /* not durable yet */
	uint64_t batch;		 /* which had its latest DATA */
	bool is_moved;		 /* its new copy's commit is in the batch */
	bool is_stuck;		 /* it cannot be moved: the disk does not give it back */
	bool is_damaged;	 /* recovery only: LOST where all was synced */
	struct move *incoming;	 /* recovery only: data whose commit has not come yet */
};

/* What becomes true when the batch is durable. */
struct op {
	enum op_kind { OP_COMMIT, OP_STATE, OP_DONE, OP_MOVED } kind;
	struct entry *entry;
	struct place place; /* STATE: the record; MOVED: the new copy's state */
	uint8_t *note;	    /* STATE: a copy of the payload, in case the batch fails */
	uint32_t note_length;
	struct move *move; /* MOVED: the new copy */
};

/* A new copy of a mail, and the segment it begins in. */
struct move {
	struct copy copy;
	struct segment *first;
};

struct op_list {
	struct op *ops;
	size_t count, capacity;
};

struct spool {
	struct disk *disk;
	uint64_t segment_bytes, disk_bytes_max;
	uint64_t spool_id, highest_id, next_sequence;

	struct segment *oldest, *newest; /* a list, never empty once something was written */
	struct segment *current;	 /* takes records; NULL: a new one is needed */
	unsigned open_count;
	bool is_removal_doubtful; /* what was removed may come back: no header says so yet */

	/* The batch. Records are in the current segment from `current->end` on: up to `flushed` on
	 * the disk, the rest in the buffer. The disk is given whole blocks, which it can take from the
	 * buffer as they are: so this begins with what there is already of the block that has begun,
	 * and the last one is filled up with zeros, over which the next batch is written. */
	uint64_t batch;
	uint64_t written; /* where the buffer begins in the segment, a multiple of a block */
	uint64_t flushed;
	uint8_t *buffer; /* at a multiple of a block, too */
	size_t buffered;
	struct op_list ops;
	struct op_list again; /* states and dones of a batch that failed, to be written again */
	int batch_error;      /* the batch has failed; spool_sync() will say so */

	struct entry **slots; /* open addressing; slot_count a power of two */
	size_t slot_count, entry_count;
	struct entry *oldest_entry, *newest_entry;

	struct entry *moving; /* the mail that is being moved, and how far; NULL: none */
	struct move *move;
	int wait_error; /* why `again` is not empty */

	uint8_t *scratch; /* one record with its header */
	uint8_t *piece;	  /* one payload, while it is moved */
	uint64_t live_bytes;
	struct spool_stats stats;
};

/* ---- index.c: mails by id, and in order ---- */
struct entry *spool_index_find(const struct spool *s, uint64_t id);
/* A new entry, the newest; NULL: no memory. */
struct entry *spool_index_add(struct spool *s, uint64_t id);
/* Frees the entry, unpins its segment, and cancels its move. */
void spool_index_remove(struct spool *s, struct entry *e);
void spool_index_make_newest(struct spool *s, struct entry *e);
void spool_index_fini(struct spool *s);
void spool_entry_pin(struct entry *e, struct segment *first);
/* Bytes of the log that the entry's records take. */
uint64_t spool_entry_log_bytes(const struct entry *e);

/* false: no memory. */
bool spool_copy_add(struct copy *c, struct place place, struct bytes data);
void spool_copy_fini(struct copy *c);
/* Makes `to` what `from` was, and `from` empty. */
void spool_copy_take(struct copy *to, struct copy *from);

/* ---- segment.c ---- */
int spool_segment_handle(struct spool *s, struct segment *segment);
struct segment *spool_segment_add(struct spool *s, uint64_t sequence);
/* Begins a new segment, durably, and makes it the current one. 0, or -errno: then there is no
 * current one, or still the one before if that can take more. */
int spool_segment_begin(struct spool *s);
/* The same where the disk has no room for a whole one: so that what was delivered can be done with, which is what
 * makes room again. No data of mails goes into it, and no more than SMALL_SEGMENT_BYTES of anything. */
int spool_segment_begin_small(struct spool *s);
/* Removes oldest segments that nothing needs, a few at most. */
void spool_segments_reclaim(struct spool *s);
/* Closes and frees it; the caller has taken it out of the list. */
void spool_segment_free(struct spool *s, struct segment *segment);
void spool_segments_fini(struct spool *s);
/* Reads the record into s->scratch and checks it; 0 or -errno. */
int spool_segment_load(struct spool *s, const struct place *place);
/* The same, and copies its payload. */
int spool_segment_read_payload(struct spool *s, const struct place *place, uint8_t *to);

/* ---- batch.c ---- */
/* Appends a record to the batch; `*place` says where. 0 or -errno. */
int spool_batch_put(
	struct spool *s, const struct record_header *h, struct bytes payload, struct place *place);
/* Makes room for one more op; false: no memory. Before a record whose op must not fail. */
bool spool_batch_reserve_op(struct spool *s);
/* Appends a COMMIT record. */
int spool_batch_put_commit(
	struct spool *s, uint64_t id, const struct copy *copy, uint32_t envelope_size);
void spool_batch_add_op(struct spool *s, const struct op *op);
int spool_batch_put_state(struct spool *s, struct entry *e, struct bytes state);
int spool_batch_put_done(struct spool *s, struct entry *e);
uint64_t spool_batch_unsynced_bytes(const struct spool *s);
/* Of them, those that the disk has not been given. */
uint64_t spool_batch_unwritten_bytes(const struct spool *s);
void spool_batch_fini(struct spool *s);

/* ---- compact.c ---- */
/* Moves mails out of the oldest segment, if there is cause to; a bounded number of bytes. */
void spool_compact_step(struct spool *s);
void spool_compact_cancel(struct spool *s);
/* The move's commit is durable: the new copy takes the old one's place. */
void spool_compact_finish(struct spool *s, const struct op *op);
void spool_move_destroy(struct move *move);

/* ---- recover.c ---- */
int spool_recover(struct spool *s, char error[256]);

int64_t spool_copy_read(
	struct spool *s, const struct copy *c, uint64_t offset, uint8_t *to, size_t n);
