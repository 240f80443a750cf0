// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/scan.h: finds the bytes of message content that need a look: CR, LF and NUL. All other
 * bytes pass as they are, so content is looked at sixteen bytes at a time. */
#pragma once

#include "base/bytes.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The place of the first CR, LF or NUL at or after `from`, or `b.n`. */
static inline size_t scan_special(struct bytes b, size_t from)
{
	size_t i = from;
#ifdef __SSE2__
	const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n'), nul = _mm_setzero_si128();
	for (; b.n - i >= 16; i += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(b.at + i));
		__m128i hit = _mm_or_si128(_mm_cmpeq_epi8(v, cr),
			_mm_or_si128(_mm_cmpeq_epi8(v, lf), _mm_cmpeq_epi8(v, nul)));
		unsigned mask = (unsigned)_mm_movemask_epi8(hit);
		if (mask != 0)
			return i + (unsigned)__builtin_ctz(mask);
	}
#endif
	while (i < b.n && b.at[i] != '\r' && b.at[i] != '\n' && b.at[i] != '\0')
		i++;
	return i;
}
