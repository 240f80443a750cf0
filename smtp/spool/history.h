// SPDX-License-Identifier: Apache-2.0
/* smtp/spool/history.h: random histories of a spool on a simulated disk, with crashes, checked
 * against a model of what was promised. For tests. A seed decides everything: the same seed is the
 * same run. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Ways to be wrong that the check has to find. */
enum history_mutant {
	MUTANT_NONE,
	MUTANT_NO_SYNC,	    /* the disk's sync does nothing */
	MUTANT_NO_SYNC_DIR, /* the folder's sync does nothing */
	MUTANT_EARLY_ACK,   /* a mail is acknowledged when its commit is appended, not when it is
			       synced */
};

struct history {
	uint64_t seed;
	enum history_mutant mutant;
	bool has_faults; /* calls of the disk fail, and it gets full, now and then */
	/* Results: */
	uint64_t images, lives, acknowledged, mails_moved, failed_syncs;
	char failure[256]; /* empty: all promises were kept */
};

void history_run(struct history *h);
