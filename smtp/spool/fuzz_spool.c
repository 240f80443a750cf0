// SPDX-License-Identifier: Apache-2.0
/* Fuzzes recovery. The input is either segment files as they are, or instructions for records with
 * true checksums, in any order and with anything in them: what no crash would leave, but a disk
 * could. Recovery must come to an end, the spool must be good for work afterwards, and a second
 * recovery must find what the first found. */
#include "smtp/spool/disk_sim.h"
#include "smtp/spool/record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES_MAX 65536
#define FILES_MAX      4
#define IDS	       16
#define SPOOL_ID       0x5eed

static void require(bool is_true)
{
	if (!is_true)
		abort();
}

static uint8_t take_byte(struct bytes *in)
{
	uint8_t v = in->n == 0 ? 0 : in->at[0];
	*in = bytes_skip(*in, 1);
	return v;
}

static void put_file(struct disk *disk, uint64_t sequence, struct bytes content)
{
	char name[SEGMENT_NAME_MAX];
	require(disk_sim_put(disk, spool_segment_name(sequence, name), content) == 0);
}

/* ---- files as they are, parted by the byte 0xf5 ---- */

static void put_raw(struct disk *disk, struct bytes in)
{
	for (uint64_t sequence = 1; sequence <= FILES_MAX; sequence++) {
		struct bytes content = bytes_first(in, bytes_find(in, 0xf5));
		put_file(disk, sequence, content);
		in = bytes_skip(in, content.n + 1);
	}
}

/* ---- records with true checksums ---- */

struct segment_maker {
	uint8_t b[FILE_BYTES_MAX];
	size_t n;
	uint64_t sequence;
	uint64_t sizes[IDS]; /* of the data put for each mail, where that makes sense */
	uint32_t crcs[IDS];
};

static void begin_segment(struct segment_maker *m, struct bytes *in)
{
	struct segment_header header = {
		.spool_id = SPOOL_ID,
		.sequence = m->sequence,
		.previous_sequence = m->sequence - 1,
		.previous_clean_end = 8ull * take_byte(in) * 16,
		.previous_end = 8ull * take_byte(in) * 64,
		.oldest_sequence = take_byte(in) % 3,
	};
	spool_segment_header_write(&header, m->b);
	m->n = SEGMENT_HEADER_BYTES;
}

static void put_record(struct segment_maker *m, struct record_header h, struct bytes payload)
{
	if (m->n + spool_record_bytes((uint32_t)payload.n) > sizeof m->b)
		return;
	spool_record_write(
		&h, payload, spool_record_seed_of(SPOOL_ID, m->sequence), m->n, m->b + m->n);
	m->n += spool_record_bytes((uint32_t)payload.n);
}

/* DATA that goes on where the mail is, or somewhere else. */
static void put_data(struct segment_maker *m, unsigned id, struct bytes *in)
{
	uint8_t where = take_byte(in);
	struct bytes payload = bytes_first(*in, take_byte(in));
	struct record_header h = {.kind = RECORD_DATA, .mail_id = id, .offset = m->sizes[id]};
	if (where == 1)
		h.offset = m->sizes[id] = m->crcs[id] = 0;
	else if (where > 250)
		h.offset = where - 250ull;
	put_record(m, h, payload);
	m->sizes[id] += payload.n;
	m->crcs[id] = crc32c(m->crcs[id], payload);
	*in = bytes_skip(*in, payload.n / 2);
}

static void put_commit(struct segment_maker *m, unsigned id, struct bytes *in)
{
	uint8_t crc[4];
	struct record_header h = {
		.kind = RECORD_COMMIT,
		.mail_id = id,
		.offset = m->sizes[id],
		.extra = take_byte(in),
	};
	memcpy(crc, &m->crcs[id], sizeof crc);
	put_record(m, h, bytes_of(crc, sizeof crc - (h.extra == 255)));
}

static void put_step(struct segment_maker *m, struct bytes *in)
{
	uint8_t what = take_byte(in);
	unsigned id = take_byte(in) % IDS;
	struct record_header h = {.kind = what, .mail_id = id};
	switch (what % 8) {
	case 0:
	case RECORD_DATA: put_data(m, id, in); break;
	case RECORD_COMMIT: put_commit(m, id, in); break;
	case 6:
		if (m->n > SEGMENT_HEADER_BYTES) /* damage */
			m->b[m->n - 1 - take_byte(in) % (m->n - SEGMENT_HEADER_BYTES)] ^= 1;
		break;
	default: /* ABORT, STATE, DONE, and kinds of a later version */
		h.kind = what % 8;
		put_record(m, h, bytes_first(*in, what / 8));
	}
}

static void put_records(struct disk *disk, struct bytes in)
{
	struct segment_maker *m = calloc(1, sizeof *m);
	for (m->sequence = 1; m->sequence <= FILES_MAX && in.n != 0; m->sequence++) {
		begin_segment(m, &in);
		for (unsigned steps = take_byte(&in) % 64; steps > 0 && in.n != 0; steps--)
			put_step(m, &in);
		put_file(disk, m->sequence, bytes_of(m->b, m->n));
	}
	free(m);
}

/* ---- the spool on top of it ---- */

#define FOUND_MAX 4096
struct finds {
	uint64_t ids[FOUND_MAX], sizes[FOUND_MAX];
	size_t count;
};

static void found(void *user, const struct spool_found *f)
{
	struct finds *finds = user;
	require(finds->count < FOUND_MAX && f->envelope_size <= f->size);
	for (size_t i = 0; i < finds->count; i++)
		require(finds->ids[i] != f->id);
	finds->ids[finds->count] = f->id;
	finds->sizes[finds->count++] = f->size;
}

static struct spool *open_spool(struct disk *disk, struct finds *finds)
{
	struct spool_config config = {.disk = disk, .segment_bytes = 4096};
	struct spool *spool;
	char error[256];
	finds->count = 0;
	require(spool_open(&spool, &config, found, finds, error) == 0);
	return spool;
}

/* Every mail found reads whole; its state can be set; every other one is then done. */
static void use(struct spool *spool, const struct finds *finds)
{
	static uint8_t got[FILES_MAX * FILE_BYTES_MAX];
	for (size_t i = 0; i < finds->count; i++) {
		uint64_t id = finds->ids[i];
		require(finds->sizes[i] <= sizeof got);
		require(spool_read(spool, id, 0, got, sizeof got) == (int64_t)finds->sizes[i]);
		require(spool_put_state(spool, id, BYTES_LITERAL("state")) == 0);
		if (i % 2 == 0)
			require(spool_done(spool, id) == 0);
	}
	for (int i = 0; i < 20; i++) {
		struct mail mail = {.id = 1000 + (uint64_t)i, .size = 3};
		mail.crc = crc32c(0, BYTES_LITERAL("abc"));
		require(spool_append(spool, mail.id, 0, BYTES_LITERAL("abc")) == 0);
		require(spool_commit(spool, &mail) == 0);
		require(spool_sync(spool) == 0);
		require(spool_done(spool, mail.id) == 0);
	}
	require(spool_sync(spool) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct finds first, second;
	struct bytes in = bytes_of(data, size);
	struct disk *disk = disk_sim_create();
	if (take_byte(&in) % 4 == 0)
		put_raw(disk, in);
	else
		put_records(disk, in);
	struct spool *spool = open_spool(disk, &first);
	use(spool, &first);
	spool_close(spool);
	struct disk *after = disk_sim_crash(disk, size);
	spool = open_spool(after, &second);
	require(second.count == first.count / 2);
	spool_close(spool);
	disk_sim_destroy(after);
	disk_sim_destroy(disk);
	return 0;
}
