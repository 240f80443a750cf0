// SPDX-License-Identifier: Apache-2.0
#include "bench/histogram.h"

/* Values below 2 * STEPS have a bucket each; above, the top STEP_BITS bits below the highest say
 * which. */
static unsigned bucket_of(uint64_t value)
{
	if (value < HISTOGRAM_STEPS)
		return (unsigned)value;
	unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
	return (shift + 1) * HISTOGRAM_STEPS + (unsigned)(value >> shift) - HISTOGRAM_STEPS;
}

/* The largest value that falls into `bucket`. */
static uint64_t top_of(unsigned bucket)
{
	if (bucket < HISTOGRAM_STEPS)
		return bucket;
	unsigned shift = bucket / HISTOGRAM_STEPS - 1;
	uint64_t first = (uint64_t)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << shift;
	return first + ((1ull << shift) - 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
	h->counts[bucket_of(value)]++;
	h->count++;
	h->sum += value;
	if (value > h->max)
		h->max = value;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
	double wanted = (double)h->count * percent / 100.0;
	uint64_t below = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && h->count != 0; i++) {
		below += h->counts[i];
		if (h->counts[i] != 0 && (double)below >= wanted)
			return top_of(i) < h->max ? top_of(i) : h->max;
	}
	return h->max;
}

double histogram_mean(const struct histogram *h)
{
	return h->count == 0 ? 0.0 : (double)h->sum / (double)h->count;
}
