// SPDX-License-Identifier: Apache-2.0
/* control/nearest.h: "did you mean …?" for names that a person has typed wrongly. */
#pragma once

#include <stddef.h>
#include <string.h>

#define NEAREST_TEXT_MAX 64

/* How many letters must be put in, left out, changed or swapped with their neighbour to make `b` of `a`
 * (optimal string alignment); more than any limit where one is longer than NEAREST_TEXT_MAX. */
static inline unsigned nearest_distance(const char *a, const char *b)
{
	unsigned rows[3][NEAREST_TEXT_MAX + 1];
	size_t n = strlen(a), m = strlen(b);
	if (n > NEAREST_TEXT_MAX || m > NEAREST_TEXT_MAX)
		return 2 * NEAREST_TEXT_MAX;
	for (size_t j = 0; j <= m; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *now = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
		now[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				two_above[j - 2] + 1 < best)
				best = two_above[j - 2] + 1;
			now[j] = best;
		}
	}
	return rows[n % 3][m];
}

/* Near enough to be meant: a third of the letters may be wrong, and always one. */
static inline unsigned nearest_limit(const char *typed)
{
	size_t n = strlen(typed) / 3;
	return n < 1 ? 1 : (unsigned)n;
}
