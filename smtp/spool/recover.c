// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/recover.c: reads all segments, oldest first, and finds the mails that are committed
 * and not done.
 *
 * One pass with one window of memory: every record's checksum is verified as it comes, and every
 * mail's as its data comes, since the data of one copy is in order. What follows a record that
 * cannot be read is found again by looking for the next header. */
#include "smtp/spool/le.h"
#include "smtp/spool/spool_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

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
	if (!spool_segment_name_parse(name, &sequence))
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
		if (spool_segment_add(s, list.sequences[i]) == NULL)
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
		x->clean_end = h->previous_clean_end < x->end ? h->previous_clean_end : x->end;
	}
}

/* Looks at one segment: how long it is, and its header. */
static int look_at(struct spool *s, struct segment *segment, uint64_t *oldest)
{
	uint8_t b[SEGMENT_HEADER_BYTES];
	struct segment_header header;
	int handle = spool_segment_handle(s, segment);
	if (handle < 0)
		return handle;
	int64_t size = s->disk->size(s->disk, handle);
	if (size < 0)
		return (int)size;
	segment->file_bytes = segment->end = (uint64_t)size;
	segment->clean_end = 0; /* until a later header tells better */
	s->stats.bytes += segment->file_bytes;
	int64_t n = s->disk->read(s->disk, handle, 0, b, sizeof b);
	if (n < 0)
		return (int)n;
	if (!spool_segment_header_read(bytes_of(b, (size_t)n), &header) ||
		header.sequence != segment->sequence)
		return 0; /* if it has records they can be read all the same, see below */
	segment->has_header = true;
	s->spool_id = header.spool_id;
	segment->seed = spool_record_seed_of(header.spool_id, header.sequence);
	if (header.highest_id > s->highest_id)
		s->highest_id = header.highest_id;
	if (header.oldest_sequence > *oldest)
		*oldest = header.oldest_sequence;
	seal(s, &header);
	return 0;
}

/* Takes out of the list, and off the disk if it can, what `is_over` says. */
static void drop_segments(
	struct spool *s, bool (*is_over)(const struct segment *, uint64_t), uint64_t arg)
{
	struct segment **link = &s->oldest, *last = NULL;
	while (*link != NULL) {
		struct segment *x = *link;
		char name[SEGMENT_NAME_MAX];
		if (!is_over(x, arg)) {
			last = x;
			link = &x->newer;
			continue;
		}
		*link = x->newer;
		s->disk->remove(s->disk, spool_segment_name(x->sequence, name));
		spool_segment_free(s, x);
	}
	s->newest = last;
}

/* Removed once already. */
static bool is_older(const struct segment *x, uint64_t oldest)
{
	return x->sequence < oldest;
}

/* A file that was being made into a segment when the crash came: nothing was ever in it. What
 * counts as the newest, whose end the next header tells, is the one before. */
static bool is_unborn(const struct segment *x, uint64_t unused)
{
	return !x->has_header && x->end <= SEGMENT_HEADER_BYTES;
}

static int look_at_all(struct spool *s)
{
	uint64_t oldest = 0;
	for (struct segment *x = s->oldest; x != NULL; x = x->newer) {
		int err = look_at(s, x, &oldest);
		if (err != 0)
			return err;
	}
	drop_segments(s, is_older, oldest);
	if (s->spool_id == 0 && getrandom(&s->spool_id, sizeof s->spool_id, 0) < 0)
		return -errno;
	for (struct segment *x = s->oldest; x != NULL; x = x->newer)
		if (x->seed.header == 0 && x->seed.payload == 0)
			x->seed = spool_record_seed_of(s->spool_id, x->sequence);
	return 0;
}

/* ---- reading one through a window ---- */

struct window {
	struct spool *spool;
	struct segment *segment;
	uint8_t *b;
	uint64_t at; /* in the file, of b[0] */
	size_t n;
	int error; /* of a read: then `b` is zeros, and the scan is in vain */
};

static void window_fill(struct window *w, uint64_t at)
{
	struct spool *s = w->spool;
	uint64_t left = w->segment->end - at;
	w->at = at;
	w->n = left < SPOOL_BUFFER_BYTES ? (size_t)left : SPOOL_BUFFER_BYTES;
	int64_t n = s->disk->read(s->disk, w->segment->handle, at, w->b, w->n);
	if (n < 0)
		w->error = (int)n;
	size_t got = n < 0 ? 0 : (size_t)n;
	memset(w->b + got, 0, w->n - got);
}

/* `n` bytes at `at`, which end before the segment's end; valid until the next call. */
static const uint8_t *window_get(struct window *w, uint64_t at, size_t n)
{
	if (at < w->at || at + n > w->at + w->n)
		window_fill(w, at);
	return w->b + (at - w->at);
}

/* ---- what the records say ---- */

static int take_data(
	struct spool *s, const struct record_header *h, struct place place, struct bytes data)
{
	struct entry *e = spool_index_find(s, h->mail_id);
	if (e == NULL && h->offset == 0)
		e = spool_index_add(s, h->mail_id);
	if (e == NULL)
		return h->offset == 0 ? -ENOMEM : 0;
	if (h->offset == 0) {
		spool_move_destroy(e->incoming);
		e->incoming = calloc(1, sizeof *e->incoming);
		if (e->incoming == NULL)
			return -ENOMEM;
		e->incoming->first = place.segment;
	}
	if (e->incoming == NULL)
		return 0;
	if (e->incoming->copy.size != h->offset) { /* something is missing */
		spool_move_destroy(e->incoming);
		e->incoming = NULL;
		return 0;
	}
	return data.n == 0 || spool_copy_add(&e->incoming->copy, place, data) ? 0 : -ENOMEM;
}

/* Is what came before this commit all that it commits? An empty mail has nothing before it. */
static bool is_whole(const struct entry *e, const struct record_header *h, uint32_t crc)
{
	static const struct copy nothing;
	const struct copy *c = e->incoming == NULL ? &nothing : &e->incoming->copy;
	return c->size == h->offset && c->crc == crc && h->extra <= h->offset;
}

static int take_commit(
	struct spool *s, const struct record_header *h, struct place place, struct bytes payload)
{
	struct entry *e = spool_index_find(s, h->mail_id);
	if (e == NULL)
		e = spool_index_add(s, h->mail_id);
	if (e == NULL)
		return -ENOMEM;
	if (payload.n == 4 && is_whole(e, h, load_le32(payload.at))) {
		if (e->phase == ENTRY_COMMITTED) /* moved, by compact.c */
			spool_index_make_newest(s, e);
		e->phase = ENTRY_COMMITTED;
		e->envelope_size = h->extra;
		spool_entry_pin(e, e->incoming == NULL ? place.segment : e->incoming->first);
		spool_copy_fini(&e->copy);
		if (e->incoming != NULL)
			spool_copy_take(&e->copy, &e->incoming->copy);
	} else if (e->phase != ENTRY_COMMITTED) {
		e->phase = ENTRY_LOST;
		e->is_damaged = place.at < place.segment->clean_end;
	}
	spool_move_destroy(e->incoming);
	e->incoming = NULL;
	return 0;
}

/* The last one counts, also if its mail comes only later: moved, with the segment it was in before
 * gone. */
static int take_state(struct spool *s, const struct record_header *h, struct place place)
{
	struct entry *e = spool_index_find(s, h->mail_id);
	if (e == NULL)
		e = spool_index_add(s, h->mail_id);
	if (e == NULL)
		return -ENOMEM;
	e->state = place;
	return 0;
}

static int take_record(
	struct spool *s, const struct record_header *h, struct place place, struct bytes payload)
{
	struct entry *e;
	if (h->mail_id > s->highest_id)
		s->highest_id = h->mail_id;
	switch (h->kind) {
	case RECORD_DATA: return take_data(s, h, place, payload);
	case RECORD_COMMIT: return take_commit(s, h, place, payload);
	case RECORD_ABORT:
		e = spool_index_find(s, h->mail_id);
		if (e != NULL && e->phase == ENTRY_STREAMING)
			spool_index_remove(s, e);
		return 0;
	case RECORD_STATE: return take_state(s, h, place);
	case RECORD_DONE:
		e = spool_index_find(s, h->mail_id);
		if (e != NULL)
			spool_index_remove(s, e);
		return 0;
	default: return 0; /* of a later version */
	}
}

/* ---- the scan ---- */

/* What could not be read from `from` to `to` is damage where all was synced, else the crash's tear.
 */
static void count_hole(struct spool *s, const struct segment *segment, uint64_t from, uint64_t to)
{
	uint64_t clean = to < segment->clean_end ? to : segment->clean_end;
	uint64_t damaged = from < clean ? clean - from : 0;
	s->stats.damaged_bytes += damaged;
	s->stats.torn_bytes += to - from - damaged;
}

/* One step of the scan at `at`: returns the bytes to go on by; `*is_good`: that was a whole record.
 */
static int64_t scan_record(struct window *w, uint64_t at, bool *is_good)
{
	struct record_seed seed = w->segment->seed;
	struct record_header h;
	*is_good = false;
	if (!spool_record_header_read(window_get(w, at, RECORD_HEADER_BYTES), seed, at, &h) ||
		spool_record_bytes(h.length) > w->segment->end - at)
		return 8;
	uint64_t n = spool_record_bytes(h.length);
	const uint8_t *b = window_get(w, at, n);
	struct bytes payload = bytes_of(b + RECORD_HEADER_BYTES, h.length);
	if (spool_record_payload_is_good(&h, payload, seed)) {
		struct place place = {w->segment, at, h.length};
		int err = take_record(w->spool, &h, place, payload);
		if (err != 0)
			return err;
		*is_good = true;
	}
	return (int64_t)n;
}

/* Makes durable what was read from a segment that nothing vouches for: it may have been written by
 * a process that was killed before its sync, or whose sync failed; then the kernel still shows it
 * and believes it clean. So all of it is written again, as it is, to be sure that the sync takes it
 * along. */
static int make_durable(struct spool *s, struct segment *segment)
{
	struct disk *d = s->disk;
	uint64_t end = segment->end < segment->file_bytes ? segment->end : segment->file_bytes;
	int64_t n;
	for (uint64_t at = 0; at < end; at += (uint64_t)n) {
		size_t most =
			end - at < SPOOL_BUFFER_BYTES ? (size_t)(end - at) : SPOOL_BUFFER_BYTES;
		n = d->read(d, segment->handle, at, s->buffer, most);
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		struct bytes part = bytes_of(s->buffer, (size_t)n);
		int64_t err = d->write(d, segment->handle, at, &part, 1);
		if (err < 0 && err != -ENOSPC) /* which some file systems say even here */
			return (int)err;
	}
	int err = d->sync(d, segment->handle);
	return err < 0 ? err : 0;
}

/* Behind the last batch of a segment its last block is filled up with zeros: these are no hole. Where it is known where
 * the records end, there are none before. */
static uint64_t skip_padding(struct window *w, uint64_t at)
{
	if (w->segment->clean_end != 0)
		return at;
	while (at % SPOOL_BLOCK_BYTES != 0 && at < w->segment->end && *window_get(w, at, 1) == 0)
		at++;
	return at;
}

static int scan_segment(struct spool *s, struct segment *segment)
{
	struct window w = {.spool = s, .segment = segment, .b = s->buffer};
	uint64_t at = SEGMENT_HEADER_BYTES, good_end = at, first_hole = UINT64_MAX;
	int handle = spool_segment_handle(s, segment);
	if (handle < 0)
		return handle;
	while (at + RECORD_HEADER_BYTES <= segment->end) {
		bool is_good;
		int64_t n = scan_record(&w, at, &is_good);
		/* What the disk cannot read now it may read later, or from a copy: nothing is
		 * decided here, above all not that mails are lost and their segments free. */
		if (w.error != 0 || n < 0)
			return w.error != 0 ? w.error : (int)n;
		if (is_good && good_end != at) {
			count_hole(s, segment, good_end, at);
			first_hole = first_hole < good_end ? first_hole : good_end;
		}
		at += (uint64_t)n;
		if (is_good)
			good_end = at;
	}
	uint64_t rest = skip_padding(&w, good_end);
	if (w.error != 0)
		return w.error;
	if (segment->end > rest)
		count_hole(s, segment, rest, segment->end);
	if (segment->clean_end == 0) {
		segment->clean_end = first_hole < good_end ? first_hole : good_end;
		segment->end = good_end;
		return make_durable(s, segment);
	}
	return 0;
}

/* A mail begins where the first record is that it needs. That is its state, where a crash tore the
 * batch that moved it between the new commit and the new state. */
static void pin_state(struct entry *e)
{
	const struct segment *state = e->state.segment;
	if (state != NULL && state->sequence < e->first->sequence)
		spool_entry_pin(e, e->state.segment);
}

/* What is not a committed mail goes; what was one and is not whole is counted. */
static void keep_committed(struct spool *s)
{
	for (struct entry *e = s->oldest_entry, *newer; e != NULL; e = newer) {
		newer = e->newer;
		spool_move_destroy(e->incoming);
		e->incoming = NULL;
		if (e->phase == ENTRY_COMMITTED) {
			pin_state(e);
			s->live_bytes += spool_entry_log_bytes(e);
			s->stats.mails_live++;
			continue;
		}
		if (e->phase == ENTRY_LOST && e->is_damaged)
			s->stats.mails_damaged++;
		spool_index_remove(s, e);
	}
}

int spool_recover(struct spool *s, char error[256])
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
	drop_segments(s, is_unborn, 0);
	if (s->stats.damaged_bytes != 0 || s->stats.mails_damaged != 0)
		snprintf(error, 256, "%llu bytes of the spool are damaged; mails lost by it: %llu",
			(unsigned long long)s->stats.damaged_bytes,
			(unsigned long long)s->stats.mails_damaged);
	return 0;
}
