// SPDX-License-Identifier: Apache-2.0
/* base/heap.h: how jemalloc is set up under a relay, and under what is measured beside it. A program that links jemalloc
 * says it once: `const char *malloc_conf = HEAP_CONF;`, which jemalloc reads at its start.
 *
 * background_thread: memory that was free for long goes back to the kernel; a thread of its own does that, or
 * a worker would by madvise(), once in some hundred handshakes.
 *
 * tcache_…: a TLS handshake takes and gives some 150 KB in 550 blocks, of which many are the same again in the next. As
 * it comes, jemalloc looks each 64 KB whether a thread's cache of free blocks can be made smaller, and keeps of the
 * larger ones few, so that handshakes in flight took their blocks from the shared arenas and gave them back. Here a
 * thread looks each 16 MB and keeps up to 256 of each larger size (16 to 32 KB), which is the most that it holds
 * in vain: 30 MB, if it had ever had so many in use at one time. */
#pragma once

#define HEAP_CONF                                                                                  \
	"background_thread:true,tcache_gc_incr_bytes:16777216,tcache_nslots_large:256"
