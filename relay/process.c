// SPDX-License-Identifier: Apache-2.0
/* relay/process.c: what hikyaku-relay gives the libraries under it, so that a worker makes no system call in steady state.
 *
 * getpid(): OpenSSL's random generators ask for the process id each time they are asked for bytes, to notice a fork
 * (openssl_get_fork_id()): six system calls in every handshake. The C library remembers the id no more, since it cannot
 * see every clone(); this program forks nowhere, and if something it links ever did by fork(), the child would
 * ask again. The executable's getpid() is the one that all its libraries are bound to.
 *
 * malloc_conf: base/heap.h. */
#include "base/heap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

extern const char *malloc_conf; /* jemalloc's, which reads it at its start */
const char *malloc_conf = HEAP_CONF;

static _Atomic pid_t known;

static void forget(void)
{
	atomic_store_explicit(&known, 0, memory_order_relaxed);
}

[[gnu::constructor]] static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, forget);
}

pid_t getpid(void)
{
	pid_t pid = atomic_load_explicit(&known, memory_order_relaxed);
	if (pid != 0)
		return pid;
	pid = (pid_t)syscall(SYS_getpid);
	atomic_store_explicit(&known, pid, memory_order_relaxed);
	return pid;
}
