// SPDX-License-Identifier: Apache-2.0
/* bench/histogram.h: counts of times, exact to 1 part in 64, whatever their size.
 *
 * Log-linear: each power of two is cut into 64 equal steps (the idea of HdrHistogram), so that a
 * percentile costs a walk over a table and no sample is kept. Values are microseconds here, but the
 * unit is the user's. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 6
#define HISTOGRAM_STEPS	    (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_BUCKETS   ((64 - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS)

/* All zero is an empty one. */
struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t count, sum, max;
};

void histogram_add(struct histogram *h, uint64_t value);
/* The smallest value that `percent` of all are not above; too high by 1 part in 64 at most, never
 * above the largest seen. 0 if there are none. */
uint64_t histogram_percentile(const struct histogram *h, double percent);
double histogram_mean(const struct histogram *h);
