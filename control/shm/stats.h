// SPDX-License-Identifier: Apache-2.0
/* control/shm/stats.h: the counters of a relay instance, in memory the relay makes and control maps read-only.
 *
 * It describes itself (names and help texts stand in it), so that control of one version can show a relay of
 * another. One writer (the relay's main thread, some times a second, from the cores' own counters), any
 * number of readers; every value is one atomic word. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATS_MAGIC	 0x31737461746b7968ull /* "hyktats1" */
#define STATS_VERSION	 3
#define STATS_SERIES_MAX 8192 /* some 400 of each of 16 cores, and the rest */
#define STATS_NAME_MAX	 80
#define STATS_LABEL_MAX	 128
#define STATS_HELP_MAX	 160

/* In the shared object; written once, before `count` grows past it. */
struct stats_series {
	char name[STATS_NAME_MAX];   /* OpenMetrics family: "hikyaku_tcp_segments_in" */
	char label[STATS_LABEL_MAX]; /* "core=\"0\"", "" for none */
	char help[STATS_HELP_MAX];
	uint32_t is_gauge; /* else a counter */
	uint32_t reserved;
	_Atomic uint64_t value;
};
struct stats_region {
	uint64_t magic;
	uint32_t version;
	_Atomic uint32_t count;
	_Atomic uint64_t updated_us; /* wall clock of the last update */
	uint64_t started_us;
	uint64_t reserved[4];
	struct stats_series series[STATS_SERIES_MAX];
};

/* Relay: makes the object. The descriptor, or -errno; `*region` is mapped for writing. */
int stats_create(struct stats_region **region);
/* Relay: adds a series (or finds it by name and label); NULL: full. Main thread only. */
_Atomic uint64_t *stats_add(struct stats_region *region, const char *name, const char *label,
	const char *help, bool is_gauge);
/* Relay: the wall clock into updated_us, after a round of updates. */
void stats_touch(struct stats_region *region);
/* Relay, at its end: unmaps what stats_create() mapped. */
void stats_destroy(struct stats_region *region);
/* Control: maps for reading after checking size, magic and version. 0 or -errno. */
int stats_map(int fd, const struct stats_region **region);
void stats_unmap(const struct stats_region *region);

/* One series as read: a copy that is whole, whatever the writer does meanwhile. */
struct stats_sample {
	char name[STATS_NAME_MAX], label[STATS_LABEL_MAX], help[STATS_HELP_MAX];
	bool is_gauge;
	uint64_t value;
};
/* Copies series `index`, in the order in which they were added; false: there are no more. Any thread. */
bool stats_read(const struct stats_region *region, unsigned index, struct stats_sample *sample);
