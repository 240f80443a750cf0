// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/recover.c: reads all segments, oldest first, and finds the mails that are committed and not done.
 *
 * One pass with one window of memory: every record's checksum is verified as it comes, and every mail's as its
 * data comes, since the data of one copy is in order. What follows a record that cannot be read is found
 * again by looking for the next header. */
#include "smtp/spool/le.h"
#include "smtp/spool/spool_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define BLOCK_BYTES 4096 /* what is given up where the disk cannot read */

/* ---- which segments there are ---- */

struct name_list {
	uint64_t *sequences;
	size_t count, capacity;
	bool is_failed;
};

static void add_name(void *user, const char *name)
{
	struct name_list *list = user;
	uint64_t sequence;
	if (!segment_name_parse(name, &sequence))
		return;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
		uint64_t *more = realloc(list->sequences, capacity * sizeof *more);
		if (more == NULL) {
			list->is_failed = true;
			return;
		}
		list->sequences = more;
		list->capacity = capacity;
	}
	list->sequences[list->count++] = sequence;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static int add_segments(struct spool *s)
{
	struct name_list list = {0};
	int err = s->disk->list(s->disk, add_name, &list);
	if (err >= 0 && list.is_failed)
		err = -ENOMEM;
	if (err >= 0 && list.count != 0)
		qsort(list.sequences, list.count, sizeof *list.sequences, compare_u64);
	for (size_t i = 0; err >= 0 && i < list.count; i++)
		if (segment_add(s, list.sequences[i]) == NULL)
			err = -ENOMEM;
	if (list.count != 0)
		s->next_sequence = list.sequences[list.count - 1] + 1;
	free(list.sequences);
	return err < 0 ? err : 0;
}

/* ---- their headers ---- */

/* What a header says about the segment before it: where that one ends. */
static void seal(struct spool *s, const struct segment_header *h)
{
	for (struct segment *x = s->oldest; x != NULL; x = x->newer) {
		if (x->sequence != h->previous_sequence)
			continue;
		if (h->previous_end < x->end)
			x->end = h->previous_end;
		if (h->previous_clean_end < x->clean_end)
			x->clean_end = h->previous_clean_end;
	}
}

/* Looks at one segment: how long it is, and its header. What was read but not synced by the process before
 * could still go: so it is synced here, before anything of it is relied upon. */
static int look_at(struct spool *s, struct segment *segment)
{
	uint8_t b[SEGMENT_HEADER_BYTES];
	struct segment_header header;
	int handle = segment_handle(s, segment);
	if (handle < 0)
		return handle;
	int err = s->disk->sync(s->disk, handle);
	int64_t size = err < 0 ? err : s->disk->size(s->disk, handle);
	if (size < 0)
		return (int)size;
	segment->file_bytes = segment->end = (uint64_t)size;
	segment->clean_end = segment->newer == NULL ? 0 : segment->end;
	s->stats.bytes += segment->file_bytes;
	int64_t n = s->disk->read(s->disk, handle, 0, b, sizeof b);
	if (n < 0 || !segment_header_read(bytes_of(b, (size_t)n), &header) ||
		header.sequence != segment->sequence)
		return 0; /* its records can be read all the same, see below */
	s->spool_id = header.spool_id;
	segment->seed = record_seed_of(header.spool_id, header.sequence);
	if (header.highest_id > s->highest_id)
		s->highest_id = header.highest_id;
	seal(s, &header);
	return 0;
}

static int look_at_all(struct spool *s)
{
	for (struct segment *x = s->oldest; x != NULL; x = x->newer) {
		int err = look_at(s, x);
		if (err != 0)
			return err;
	}
	if (s->spool_id == 0 && getrandom(&s->spool_id, sizeof s->spool_id, 0) < 0)
		return -errno;
	for (struct segment *x = s->oldest; x != NULL; x = x->newer)
		if (x->seed.header == 0 && x->seed.payload == 0)
			x->seed = record_seed_of(s->spool_id, x->sequence);
	return 0;
}

/* ---- reading one through a window ---- */

struct window {
	struct spool *spool;
	struct segment *segment;
	uint8_t *b;
	uint64_t at; /* in the file, of b[0] */
	size_t n;
	bool is_unreadable; /* somewhere */
};

/* Reads block by block what could not be read at once; what cannot be read stays zero. */
static void fill_by_blocks(struct window *w, int handle)
{
	struct disk *d = w->spool->disk;
	memset(w->b, 0, w->n);
	for (size_t at = 0; at < w->n; at += BLOCK_BYTES) {
		size_t n = w->n - at < BLOCK_BYTES ? w->n - at : BLOCK_BYTES;
		if (d->read(d, handle, w->at + at, w->b + at, n) < 0) {
			w->is_unreadable = true;
			w->spool->stats.damaged_bytes += n;
		}
	}
}

static void window_fill(struct window *w, uint64_t at)
{
	struct spool *s = w->spool;
	uint64_t left = w->segment->end - at;
	w->at = at;
	w->n = left < SPOOL_BUFFER_BYTES ? (size_t)left : SPOOL_BUFFER_BYTES;
	int64_t n = s->disk->read(s->disk, w->segment->handle, at, w->b, w->n);
	if (n < 0)
		fill_by_blocks(w, w->segment->handle);
	else if ((size_t)n < w->n)
		memset(w->b + n, 0, w->n - (size_t)n);
}

/* `n` bytes at `at`, which end before the segment's end; valid until the next call. */
static const uint8_t *window_get(struct window *w, uint64_t at, size_t n)
{
	if (at < w->at || at + n > w->at + w->n)
		window_fill(w, at);
	return w->b + (at - w->at);
}

/* ---- what the records say ---- */

static int take_data(struct spool *s, const struct record_header *h, struct place place,
	struct bytes data)
{
	struct entry *e = index_find(s, h->mail_id);
	if (e == NULL && h->offset == 0)
		e = index_add(s, h->mail_id);
	if (e == NULL)
		return h->offset == 0 ? -ENOMEM : 0;
	if (h->offset == 0) {
		move_destroy(e->incoming);
		e->incoming = calloc(1, sizeof *e->incoming);
		if (e->incoming == NULL)
			return -ENOMEM;
		e->incoming->first = place.segment;
	}
	if (e->incoming == NULL)
		return 0;
	if (e->incoming->copy.size != h->offset) { /* something is missing */
		move_destroy(e->incoming);
		e->incoming = NULL;
		return 0;
	}
	return data.n == 0 || copy_add(&e->incoming->copy, place, data) ? 0 : -ENOMEM;
}

/* Is what came before this commit all that it commits? An empty mail has nothing before it. */
static bool is_whole(const struct entry *e, const struct record_header *h, uint32_t crc)
{
	static const struct copy nothing;
	const struct copy *c = e->incoming == NULL ? &nothing : &e->incoming->copy;
	return c->size == h->offset && c->crc == crc && h->extra <= h->offset;
}

static int take_commit(struct spool *s, const struct record_header *h, struct place place,
	struct bytes payload)
{
	struct entry *e = index_find(s, h->mail_id);
	if (e == NULL)
		e = index_add(s, h->mail_id);
	if (e == NULL)
		return -ENOMEM;
	if (payload.n == 4 && is_whole(e, h, load_le32(payload.at))) {
		if (e->phase == ENTRY_COMMITTED) /* moved, by compact.c */
			index_make_newest(s, e);
		e->phase = ENTRY_COMMITTED;
		e->envelope_size = h->extra;
		entry_pin(e, e->incoming == NULL ? place.segment : e->incoming->first);
		copy_fini(&e->copy);
		if (e->incoming != NULL)
			copy_take(&e->copy, &e->incoming->copy);
	} else if (e->phase != ENTRY_COMMITTED) {
		e->phase = ENTRY_LOST;
		e->is_damaged = place.at < place.segment->clean_end;
	}
	move_destroy(e->incoming);
	e->incoming = NULL;
	return 0;
}

static int take_record(struct spool *s, const struct record_header *h, struct place place,
	struct bytes payload)
{
	struct entry *e;
	if (h->mail_id > s->highest_id)
		s->highest_id = h->mail_id;
	switch (h->kind) {
	case RECORD_DATA:
		return take_data(s, h, place, payload);
	case RECORD_COMMIT:
		return take_commit(s, h, place, payload);
	case RECORD_ABORT:
		e = index_find(s, h->mail_id);
		if (e != NULL && e->phase == ENTRY_STREAMING)
			index_remove(s, e);
		return 0;
	case RECORD_STATE:
		e = index_find(s, h->mail_id);
		if (e != NULL && e->phase == ENTRY_COMMITTED)
			e->state = place;
		return 0;
	case RECORD_DONE:
		e = index_find(s, h->mail_id);
		if (e != NULL)
			index_remove(s, e);
		return 0;
	default:
		return 0; /* of a later version */
	}
}

/* ---- the scan ---- */

/* What could not be read from `from` to `to` is damage where all was synced, else the crash's tear. */
static void count_hole(struct spool *s, const struct segment *segment, uint64_t from, uint64_t to)
{
	uint64_t clean = to < segment->clean_end ? to : segment->clean_end;
	uint64_t damaged = from < clean ? clean - from : 0;
	s->stats.damaged_bytes += damaged;
	s->stats.torn_bytes += to - from - damaged;
}

/* One step of the scan at `at`: returns the bytes to go on by; `*is_good`: that was a whole record. */
static int64_t scan_record(struct window *w, uint64_t at, bool *is_good)
{
	struct record_seed seed = w->segment->seed;
	struct record_header h;
	*is_good = false;
	if (!record_header_read(window_get(w, at, RECORD_HEADER_BYTES), seed, at, &h) ||
		record_bytes(h.length) > w->segment->end - at)
		return 8;
	uint64_t n = record_bytes(h.length);
	const uint8_t *b = window_get(w, at, n);
	struct bytes payload = bytes_of(b + RECORD_HEADER_BYTES, h.length);
	if (record_payload_is_good(&h, payload, seed)) {
		struct place place = {w->segment, at, h.length};
		int err = take_record(w->spool, &h, place, payload);
		if (err != 0)
			return err;
		*is_good = true;
	}
	return (int64_t)n;
}

static int scan_segment(struct spool *s, struct segment *segment)
{
	struct window w = {.spool = s, .segment = segment, .b = s->buffer};
	uint64_t at = SEGMENT_HEADER_BYTES, good_end = at, first_hole = UINT64_MAX;
	int handle = segment_handle(s, segment);
	if (handle < 0)
		return handle;
	while (at + RECORD_HEADER_BYTES <= segment->end) {
		bool is_good;
		int64_t n = scan_record(&w, at, &is_good);
		if (n < 0)
			return (int)n;
		if (is_good && good_end != at) {
			count_hole(s, segment, good_end, at);
			first_hole = first_hole < good_end ? first_hole : good_end;
		}
		at += (uint64_t)n;
		if (is_good)
			good_end = at;
	}
	if (segment->end > good_end)
		count_hole(s, segment, good_end, segment->end);
	if (segment->newer == NULL) {
		segment->clean_end = first_hole < good_end ? first_hole : good_end;
		/* Where the disk could not read there may be more. */
		segment->end = w.is_unreadable ? segment->end : good_end;
	}
	return 0;
}

/* What is not a committed mail goes; what was one and is not whole is counted. */
static void keep_committed(struct spool *s)
{
	for (struct entry *e = s->oldest_entry, *newer; e != NULL; e = newer) {
		newer = e->newer;
		move_destroy(e->incoming);
		e->incoming = NULL;
		if (e->phase == ENTRY_COMMITTED) {
			s->live_bytes += entry_log_bytes(e);
			s->stats.mails_live++;
			continue;
		}
		if (e->phase == ENTRY_LOST && e->is_damaged)
			s->stats.mails_damaged++;
		index_remove(s, e);
	}
}

int recover(struct spool *s, char error[256])
{
	s->next_sequence = 1;
	/* The names we see must not go either. */
	int err = s->disk->sync_dir(s->disk);
	if (err >= 0)
		err = add_segments(s);
	if (err >= 0)
		err = look_at_all(s);
	for (struct segment *x = s->oldest; x != NULL && err >= 0; x = x->newer)
		err = scan_segment(s, x);
	if (err < 0) {
		snprintf(error, 256, "the spool cannot be read: %s", strerror(-err));
		return err;
	}
	keep_committed(s);
	if (s->stats.damaged_bytes != 0 || s->stats.mails_damaged != 0)
		snprintf(error, 256, "%llu bytes of the spool are damaged; mails lost by it: %llu",
			(unsigned long long)s->stats.damaged_bytes,
			(unsigned long long)s->stats.mails_damaged);
	return 0;
}
