// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/spool.h: the durable log of mails: append-only segments, one fdatasync a batch.
 *
 * The library is single-threaded (the spool thread's) and knows storage and time only through `struct
 * disk`; relay/ gives it a thread and rings. States of a mail: STREAMING (chunks appended, no
 * commit) -> COMMITTED (durable; its owner is the queue) -> DONE. Guarantee: what spool_sync() has reported
 * committed is found again by recovery, whole, until it has been reported done; a mail not committed is
 * never found. After a failed write or fdatasync the segment is never trusted again: nothing of that batch
 * is reported committed, and the log goes on in a new segment. */
#pragma once

#include "base/bytes.h"
#include "smtp/mail.h"

/* ---- storage, so that a simulated disk can stand in (smtp/spool/disk_sim.h) ---- */
struct disk {
	/* All return >= 0, or -errno. Names are file names within the one spool folder. */
	int (*create)(struct disk *d, const char *name); /* a new empty file, opened; a handle */
	int (*open)(struct disk *d, const char *name);
	int (*close)(struct disk *d, int handle);
	int64_t (*size)(struct disk *d, int handle);
	int64_t (*write)(struct disk *d, int handle, uint64_t offset, const struct bytes *parts,
		unsigned part_count); /* all of it, or an error */
	int64_t (*read)(struct disk *d, int handle, uint64_t offset, uint8_t *to, size_t n);
	int (*sync)(struct disk *d, int handle); /* fdatasync */
	int (*sync_dir)(struct disk *d);
	/* Sets room aside, so that the file can grow to `bytes` without -ENOSPC; its size stays. May be NULL, or
	 * answer -EOPNOTSUPP: then a full disk is met while writing. */
	int (*allocate)(struct disk *d, int handle, uint64_t bytes);
	int (*remove)(struct disk *d, const char *name);
	/* Calls `each` with every file name. */
	int (*list)(struct disk *d, void (*each)(void *user, const char *name), void *user);
};

struct spool;
struct spool_config {
	struct disk *disk;
	uint64_t segment_bytes; /* a segment is closed when it has grown past this */
	uint64_t disk_bytes_max; /* refuse mails when the segments hold more; 0: until the disk is full */
};

/* What recovery finds: one call for each committed mail that is not done. `state` is what was last given to
 * spool_put_state() for it, or empty. */
struct spool_found {
	uint64_t id;
	uint64_t size;
	uint32_t envelope_size;
	struct bytes envelope;
	struct bytes state;
};
typedef void spool_found_fn(void *user, const struct spool_found *found);

/* Opens the spool and recovers it by scanning; torn ends are cut off. 0, or -errno with `error` filled.
 * With 0, `error` is empty, or tells what was found damaged (also in the stats): whatever that damage did not
 * cover has been recovered. Mails are reported oldest first. */
int spool_open(struct spool **spool, const struct spool_config *config, spool_found_fn *found,
	void *user, char error[256]);
void spool_close(struct spool *spool);
/* The highest mail id seen in the log (0: none), so that ids never repeat. */
uint64_t spool_highest_id(const struct spool *spool);

/* Appending goes to a batch (it is copied: `data` and `state` are free again on return); nothing is durable
 * before spool_sync(). All return 0 or -errno (-ENOSPC: full; -EIO: failing). An error of append or commit
 * leaves the mail without its commit, as if it had been aborted; no abort is needed. */
/* Of one mail, in order and without gaps: `offset` 0 starts it. */
int spool_append(struct spool *spool, uint64_t id, uint64_t offset, struct bytes data);
/* All chunks have been appended. -EIO: some of them were lost with a batch that failed; -EBADMSG: what was
 * appended is not what mail->size and mail->crc say. */
int spool_commit(struct spool *spool, const struct mail *mail);
/* Of a mail not committed; an unknown one is ignored. Needs no sync. */
int spool_abort(struct spool *spool, uint64_t id);
/* Of a committed mail: `state` replaces what was kept (recipients done, tries, reason, next time, hold).
 * SPOOL_STATE_BYTES_MAX at most, else -EMSGSIZE; -ENOENT: the mail is not committed (durably), or done. */
#define SPOOL_STATE_BYTES_MAX (256u * 1024)
int spool_put_state(struct spool *spool, uint64_t id, struct bytes state);
/* The mail is over: its room is used again once the record is durable. -ENOENT as above. */
int spool_done(struct spool *spool, uint64_t id);
/* Writes the batch and syncs it: one fdatasync. 0: all of the batch is durable. -errno: none of its
 * commits may be reported; those mails are forgotten. States and dones of a failed batch are not lost: the
 * spool keeps them and writes them with the next sync (so spool_has_batch() stays true while it could not:
 * wait a little before trying again). Also gives room back, in small steps: removes segments that
 * hold nothing that matters, and moves mails out of an old one that holds little. */
int spool_sync(struct spool *spool);
/* Is there anything that wants a sync: a commit, state or done, or much data? Chunks alone can wait for the
 * commit. */
bool spool_has_batch(const struct spool *spool);

/* Reads `n` bytes at most at `offset` of a committed mail; the bytes read (fewer only at its end), or -errno
 * (-ENOENT: unknown, -EBADMSG: checksum). */
int64_t spool_read(struct spool *spool, uint64_t id, uint64_t offset, uint8_t *to, size_t n);

struct spool_stats {
	uint64_t segments, bytes;      /* on the disk now */
	uint64_t mails_live;	       /* committed and not done */
	uint64_t live_bytes;	       /* of `bytes`, what these mails' records take */
	uint64_t syncs, sync_errors;   /* batches made durable; batches that failed */
	uint64_t appended_bytes;       /* records of all kinds */
	uint64_t segments_freed;
	uint64_t mails_moved;	       /* out of old segments, so that those can go */
	uint64_t torn_bytes;	       /* found by recovery behind the last sync: normal after a crash */
	uint64_t damaged_bytes;	       /* found by recovery where all should have been well */
	uint64_t mails_damaged;	       /* committed mails that recovery could not find whole */
};
void spool_get_stats(const struct spool *spool, struct spool_stats *stats);

/* The real disk: a folder, made if missing, locked against a second instance. 0 or -errno. */
int disk_open_folder(struct disk **disk, const char *path, char error[256]);
void disk_close_folder(struct disk *disk);
