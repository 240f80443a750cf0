// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/disk_sim.h: a disk in memory that knows what would survive a crash. For tests.
 *
 * What sync() has covered survives. Of what was written since, every 512-byte sector may be there
 * or not, each by itself, in an older or a newer version; the file may be as long as it was, or
 * longer, with zeros or rubbish where nothing came. What create() and remove() did to the folder
 * survives sync_dir(); before it, each of them may have happened or not. After a sync that failed,
 * what it should have covered stays in doubt for ever, also if a later one succeeds. */
#pragma once

#include "smtp/spool/spool.h"

#define SIM_SECTOR_BYTES 512

/* NULL: no memory. */
struct disk *disk_sim_create(void);
void disk_sim_destroy(struct disk *disk);

/* What is found after a crash: a new disk, one of the possible ones, chosen by `seed`. */
struct disk *disk_sim_crash(const struct disk *disk, uint64_t seed);
/* After a kill: all that was written, synced or not, as the page cache would give it. */
struct disk *disk_sim_restart(const struct disk *disk);

/* The `n`-th call from now on (1: the next) fails with `error` (-EIO, -ENOSPC), and `times - 1`
 * more behind it. A write that fails may have written some of it; a sync may have had some effect.
 * 0 times: none. */
void disk_sim_fail(struct disk *disk, uint64_t n, uint64_t times, int error);
/* Calls so far. */
uint64_t disk_sim_calls(const struct disk *disk);
/* Called before each call takes effect, to look at the disk (crash, restart) as it is in the midst
 * of things. */
typedef void disk_sim_call_fn(void *user);
void disk_sim_on_call(struct disk *disk, disk_sim_call_fn *on_call, void *user);
/* No more than so many bytes in all files: -ENOSPC. 0: no limit. */
void disk_sim_limit(struct disk *disk, uint64_t bytes);

/* Reaches into a file: its bytes as they are now, to be changed at will. NULL: no such file. */
uint8_t *disk_sim_bytes(struct disk *disk, const char *name, size_t *n);
/* Makes a file with that content, durable. 0 or -errno. */
int disk_sim_put(struct disk *disk, const char *name, struct bytes content);
