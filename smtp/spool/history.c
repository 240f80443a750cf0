// SPDX-License-Identifier: Apache-2.0
#include "smtp/spool/history.h"

#include "smtp/spool/disk_sim.h"
#include "smtp/spool/le.h"
#include "smtp/spool/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MAILS_MAX	400 /* of one history */
#define LIVES		4   /* between crashes */
#define STEPS		120 /* of one life */
#define STREAMING_MAX	6   /* at a time */
#define MAIL_BYTES_MAX	40000
#define STATE_BYTES_MAX 400

enum phase {
	STREAMING,
	COMMITTING, /* commit given, no answer yet: may be there or not */
	DOUBTFUL,   /* the sync failed: may be there until another one succeeds */
	ACKED,	    /* must be there */
	ENDING,	    /* done given, not synced: may be there or not */
	GONE,	    /* must not be there */
};

struct model {
	uint64_t id;
	uint32_t size, written;
	enum phase phase;
	uint32_t state_durable, state_given; /* versions; 0: none */
	uint32_t found_state;
	bool is_found;
};

struct run {
	struct history *h;
	uint64_t random;
	struct disk *disk;
	struct spool *spool;
	struct spool_config config;
	struct model mails[MAILS_MAX];
	size_t count;
	bool is_checking; /* an image is being looked at */
};

/* For what is written and what is read back; of each one more for the images that are looked at
 * meanwhile. */
static uint8_t written[2][MAIL_BYTES_MAX], got[2][MAIL_BYTES_MAX];

static uint64_t pick(struct run *r, uint64_t n)
{
	return random_below(&r->random, n);
}

static struct bytes content_of(const struct run *r, const struct model *m)
{
	uint8_t *to = written[r->is_checking];
	uint64_t state = random_start(m->id);
	for (uint32_t i = 0; i < m->size; i += 8) {
		uint64_t v = random_next(&state);
		memcpy(to + i, &v, m->size - i < 8 ? m->size - i : 8);
	}
	return bytes_of(to, m->size);
}

static uint32_t envelope_size_of(const struct model *m)
{
	return (uint32_t)(m->id % (m->size / 3 + 1));
}

static struct bytes state_of(const struct model *m, uint32_t version, uint8_t b[STATE_BYTES_MAX])
{
	size_t n = 4 + (m->id * 31 + version * 77) % (STATE_BYTES_MAX - 4);
	if (version == 0)
		return BYTES_NONE;
	memset(b, (int)(m->id + version), n);
	store_le32(b, version);
	return bytes_of(b, n);
}

/* ---- checking what a recovery finds ---- */

static void fail(struct run *r, const struct model *m, const char *what)
{
	if (r->h->failure[0] != '\0')
		return;
	snprintf(r->h->failure, sizeof r->h->failure,
		"seed %llu, image %llu, mail %llu (%u bytes): %.160s",
		(unsigned long long)r->h->seed, (unsigned long long)r->h->images,
		m == NULL ? 0 : (unsigned long long)m->id, m == NULL ? 0 : m->size, what);
}

static struct model *model_find(struct run *r, uint64_t id)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->mails[i].id == id)
			return &r->mails[i];
	return NULL;
}

static void check_state(struct run *r, struct model *m, struct bytes state)
{
	uint8_t b[STATE_BYTES_MAX];
	uint32_t version = state.n < 4 ? 0 : load_le32(state.at);
	m->found_state = version;
	if (!bytes_equal(state, state_of(m, version, b)))
		fail(r, m, "the state is not one that was given");
	else if (version < m->state_durable || version > m->state_given)
		fail(r, m, "the state is older than the durable one");
}

static void check_found(void *user, const struct spool_found *f)
{
	struct run *r = user;
	struct model *m = model_find(r, f->id);
	if (m == NULL) {
		fail(r, NULL, "a mail that never was is found");
		return;
	}
	if (m->is_found)
		fail(r, m, "found twice");
	m->is_found = true;
	if (m->phase == STREAMING)
		fail(r, m, "not committed, and found");
	if (m->phase == GONE)
		fail(r, m, "over (done, aborted or refused), and found");
	if (f->size != m->size || f->envelope_size != envelope_size_of(m) ||
		!bytes_equal(f->envelope, bytes_first(content_of(r, m), f->envelope_size)))
		fail(r, m, "found with another size or envelope");
	check_state(r, m, f->state);
}

static void check_content(struct run *r, struct spool *spool, struct model *m)
{
	struct bytes want = content_of(r, m);
	int64_t n = spool_read(spool, m->id, 0, got[r->is_checking], MAIL_BYTES_MAX);
	if (n != m->size || (n != 0 && memcmp(got[r->is_checking], want.at, (size_t)n) != 0))
		fail(r, m, "read back otherwise than it was written");
}

/* Opens the spool on `disk` and checks it; NULL: it did not open. */
static struct spool *open_and_check(struct run *r, struct disk *disk)
{
	char error[256];
	struct spool *spool;
	struct spool_config config = r->config;
	config.disk = disk;
	for (size_t i = 0; i < r->count; i++)
		r->mails[i].is_found = false;
	int err = spool_open(&spool, &config, check_found, r, error);
	disk_sim_fail(disk, 0, 0, 0); /* what is to fail is the opening */
	if (err != 0)
		return NULL;
	if (error[0] != '\0')
		fail(r, NULL, error);
	for (size_t i = 0; i < r->count; i++) {
		struct model *m = &r->mails[i];
		if (m->phase == ACKED && !m->is_found)
			fail(r, m, "acknowledged, and lost");
		if (m->is_found)
			check_content(r, spool, m);
	}
	return spool;
}

/* What one recovery has reported, the next one, after one more crash, must report too, and no more.
 */
static void check_again(struct run *r, struct disk *image)
{
	bool was_found[MAILS_MAX];
	struct disk *second = disk_sim_crash(image, random_next(&r->random));
	for (size_t i = 0; i < r->count; i++)
		was_found[i] = r->mails[i].is_found;
	struct spool *spool = open_and_check(r, second);
	for (size_t i = 0; spool != NULL && i < r->count; i++)
		if (r->mails[i].is_found != was_found[i])
			fail(r, &r->mails[i], "two recoveries do not agree");
	spool_close(spool);
	disk_sim_destroy(second);
}

static void check_image(struct run *r)
{
	r->is_checking = true;
	r->h->images++;
	struct disk *image = disk_sim_crash(r->disk, random_next(&r->random));
	struct spool *spool = open_and_check(r, image);
	if (spool == NULL)
		fail(r, NULL, "recovery refused a crash's image");
	spool_close(spool);
	if (spool != NULL && pick(r, 4) == 0)
		check_again(r, image);
	disk_sim_destroy(image);
	r->is_checking = false;
}

/* In the midst of the disk's work. */
static void on_call(void *user)
{
	struct run *r = user;
	if (!r->is_checking && pick(r, 4) == 0)
		check_image(r);
}

/* ---- what happens ---- */

static struct model *pick_mail(struct run *r, enum phase phase)
{
	size_t from = r->count == 0 ? 0 : pick(r, r->count);
	for (size_t i = 0; i < r->count; i++) {
		struct model *m = &r->mails[(from + i) % r->count];
		if (m->phase == phase)
			return m;
	}
	return NULL;
}

static size_t count_phase(const struct run *r, enum phase phase)
{
	size_t n = 0;
	for (size_t i = 0; i < r->count; i++)
		n += r->mails[i].phase == phase;
	return n;
}

static void step_begin(struct run *r)
{
	if (r->count == MAILS_MAX || count_phase(r, STREAMING) >= STREAMING_MAX)
		return;
	static const uint32_t sizes[] = {1, 40, 600, 3000, 3000, 3000, 9000, 40000};
	struct model *m = &r->mails[r->count++];
	*m = (struct model){.id = r->count, .size = (uint32_t)pick(r, sizes[pick(r, 8)] + 1)};
}

static void step_append(struct run *r)
{
	struct model *m = pick_mail(r, STREAMING);
	if (m == NULL || m->written == m->size)
		return;
	struct bytes rest = bytes_skip(content_of(r, m), m->written);
	struct bytes part = bytes_first(rest, 1 + pick(r, pick(r, 3) == 0 ? 300 : 8160));
	uint32_t offset = m->written;
	m->written += (uint32_t)part.n;
	if (spool_append(r->spool, m->id, offset, part) != 0)
		m->phase = GONE;
}

static void step_commit(struct run *r)
{
	struct model *m = pick_mail(r, STREAMING);
	if (m == NULL)
		return;
	while (m->phase == STREAMING && m->written < m->size) {
		struct bytes part = bytes_first(bytes_skip(content_of(r, m), m->written), 8160);
		uint32_t offset = m->written;
		m->written += (uint32_t)part.n;
		if (spool_append(r->spool, m->id, offset, part) != 0)
			m->phase = GONE;
	}
	if (m->phase == GONE)
		return;
	struct mail mail = {.id = m->id, .size = m->size, .envelope_size = envelope_size_of(m)};
	mail.crc = crc32c(0, content_of(r, m));
	m->phase = COMMITTING;
	if (spool_commit(r->spool, &mail) != 0)
		m->phase = GONE;
	else if (r->h->mutant == MUTANT_EARLY_ACK)
		m->phase = ACKED;
}

static void step_abort(struct run *r)
{
	struct model *m = pick_mail(r, STREAMING);
	if (m == NULL)
		return;
	m->phase = GONE;
	spool_abort(r->spool, m->id);
}

static void step_state(struct run *r)
{
	struct model *m = pick_mail(r, ACKED);
	uint8_t b[STATE_BYTES_MAX];
	if (m == NULL)
		return;
	m->state_given++;
	if (spool_put_state(r->spool, m->id, state_of(m, m->state_given, b)) == 0)
		return;
	m->state_given--;
	if (r->h->mutant == MUTANT_NONE)
		fail(r, m, "the state of an acknowledged mail was refused");
}

static void step_done(struct run *r)
{
	struct model *m = pick_mail(r, ACKED);
	if (m == NULL || m->id % 16 == 0) /* these stay */
		return;
	m->phase = ENDING;
	if (spool_done(r->spool, m->id) == 0)
		return;
	m->phase = ACKED;
	if (r->h->mutant == MUTANT_NONE)
		fail(r, m, "the end of an acknowledged mail was refused");
}

/* What the spool has said about the batch becomes what must hold from now on. */
static void settle(struct run *r, int err, bool has_synced)
{
	bool has_all = err == 0 && !spool_has_batch(r->spool);
	for (size_t i = 0; i < r->count; i++) {
		struct model *m = &r->mails[i];
		if (m->phase == DOUBTFUL && has_synced)
			m->phase = GONE;
		if (m->phase == COMMITTING) {
			m->phase = err == 0 ? ACKED : DOUBTFUL;
			r->h->acknowledged += err == 0;
		}
		if (has_all && m->phase == ENDING)
			m->phase = GONE;
		if (has_all)
			m->state_durable = m->state_given;
	}
}

static void step_sync(struct run *r)
{
	struct spool_stats before, after;
	spool_get_stats(r->spool, &before);
	int err = spool_sync(r->spool);
	spool_get_stats(r->spool, &after);
	r->h->failed_syncs += err != 0;
	settle(r, err, err == 0 && after.syncs != before.syncs);
	if (err != 0 && !r->h->has_faults)
		fail(r, NULL, "a sync failed on a good disk");
}

static void step_read(struct run *r)
{
	struct model *m = pick_mail(r, ACKED);
	if (m != NULL && !r->h->has_faults && r->h->mutant == MUTANT_NONE)
		check_content(r, r->spool, m);
}

static void step_fault(struct run *r)
{
	if (!r->h->has_faults)
		return;
	uint64_t kind = pick(r, 6), n = 1 + pick(r, 20), times = 1 + pick(r, kind == 2 ? 40 : 2);
	if (kind == 0)
		disk_sim_limit(r->disk, 20000 + pick(r, 400000));
	else if (kind == 1)
		disk_sim_limit(r->disk, 0);
	else
		disk_sim_fail(r->disk, n, times, kind == 3 ? -ENOSPC : -EIO);
}

static const struct {
	void (*step)(struct run *r);
	unsigned weight; /* of 100 */
} steps[] = {
	{step_begin,  18},
	{step_append, 22},
	{step_commit, 17},
	{step_abort,  2 },
	{step_state,  8 },
	{step_done,   12},
	{step_sync,   15},
	{step_read,   2 },
	{step_fault,  4 },
};

static void step(struct run *r)
{
	uint64_t n = pick(r, 100);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		if (n < steps[i].weight) {
			steps[i].step(r);
			return;
		}
		n -= steps[i].weight;
	}
}

/* ---- lives ---- */

static int no_sync(struct disk *d, int handle)
{
	return 0;
}

static int no_sync_dir(struct disk *d)
{
	return 0;
}

static void adopt_disk(struct run *r, struct disk *disk)
{
	disk_sim_destroy(r->disk);
	r->disk = disk;
	if (r->h->mutant == MUTANT_NO_SYNC)
		disk->sync = no_sync;
	if (r->h->mutant == MUTANT_NO_SYNC_DIR)
		disk->sync_dir = no_sync_dir;
}

/* Recovery has said what is there: that is what holds from now on. */
static void adopt_found(struct run *r)
{
	for (size_t i = 0; i < r->count; i++) {
		struct model *m = &r->mails[i];
		m->phase = m->is_found ? ACKED : GONE;
		if (m->is_found)
			m->state_durable = m->state_given = m->found_state;
	}
}

static bool live(struct run *r)
{
	r->h->lives++;
	uint64_t n = 1 + pick(r, 30), times = pick(r, 4);
	if (r->h->has_faults)
		disk_sim_fail(r->disk, n, times, -EIO);
	r->spool = open_and_check(r, r->disk);
	if (r->spool == NULL)
		r->spool = open_and_check(r, r->disk);
	if (r->spool == NULL) {
		fail(r, NULL, "the spool does not open");
		return false;
	}
	adopt_found(r);
	disk_sim_on_call(r->disk, on_call, r);
	for (int i = 0; i < STEPS && r->h->failure[0] == '\0'; i++)
		step(r);
	disk_sim_on_call(r->disk, NULL, NULL);
	struct spool_stats stats;
	spool_get_stats(r->spool, &stats);
	r->h->mails_moved += stats.mails_moved;
	return r->h->failure[0] == '\0';
}

void history_run(struct history *h)
{
	struct run *r = calloc(1, sizeof *r);
	static const uint64_t segment_bytes[] = {4096, 8192, 16384, 65536};
	r->h = h;
	r->random = random_start(h->seed);
	r->config.segment_bytes = segment_bytes[pick(r, 4)];
	r->config.disk_bytes_max = h->has_faults && pick(r, 3) == 0 ? 100000 + pick(r, 200000) : 0;
	adopt_disk(r, disk_sim_create());
	for (int i = 0; i < LIVES && live(r); i++) {
		bool is_kill = pick(r, 4) == 0;
		spool_close(r->spool);
		r->spool = NULL;
		adopt_disk(r,
			is_kill ? disk_sim_restart(r->disk)
				: disk_sim_crash(r->disk, random_next(&r->random)));
	}
	spool_close(r->spool);
	disk_sim_destroy(r->disk);
	free(r);
}
