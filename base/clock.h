// SPDX-License-Identifier: Apache-2.0
/* base/clock.h: the two clocks. Libraries take the time as an argument; only main loops read it here. */
#pragma once

#include <stdint.h>
#include <time.h>

#define USEC_PER_SEC  1000000ull
#define USEC_PER_MSEC 1000ull
#define NSEC_PER_USEC 1000ull

static inline uint64_t time_read_us(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / NSEC_PER_USEC;
}

/* Microseconds that never go back; their zero means nothing. For timers. Answered by the vDSO. */
static inline uint64_t time_monotonic_us(void)
{
	return time_read_us(CLOCK_MONOTONIC);
}

/* Microseconds since 1970-01-01 UTC; may jump. For records, Received fields and retry times. */
static inline uint64_t time_wall_us(void)
{
	return time_read_us(CLOCK_REALTIME);
}
