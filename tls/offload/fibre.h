// SPDX-License-Identifier: Apache-2.0
/* tls/offload/fibre.h: stacks of their own for handshakes that wait. A fibre runs on the thread that made
 * its pool and nowhere else; running one and coming back are two switches of some nanoseconds, without
 * a system call (OpenSSL's ASYNC makes one each). x86-64 only: elsewhere there are none, and handshakes
 * do not wait. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
/* A handshake takes 10 KiB of stack, a client's certificate chain included (handshake_test measures it); OpenSSL and
 * libcrypto-mb promise nothing, so that there is six times as much. Only what was touched is memory. */
#if defined(__SANITIZE_ADDRESS__)
#define TLS_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TLS_HAS_ASAN 1
#endif
#endif
#ifdef TLS_HAS_ASAN
	TLS_FIBRE_STACK_BYTES = 512 * 1024, /* red zones around every local */
#else
	TLS_FIBRE_STACK_BYTES = 64 * 1024,
#endif
};

struct tls_fibre;
struct tls_fibres;

/* A pool of `count`, all taken now. NULL: no memory, or none on this processor. */
struct tls_fibres *tls_fibres_create(uint32_t count);
/* None may be in use. `fibres` may be NULL. */
void tls_fibres_destroy(struct tls_fibres *fibres);
/* The one used last, whose stack is still in the cache; NULL: all are in use. */
struct tls_fibre *tls_fibre_get(struct tls_fibres *fibres);
void tls_fibre_put(struct tls_fibre *fibre);
/* Runs `run(user)` on the fibre's stack. true: it returned; false: it yielded. Not from within a fibre. */
bool tls_fibre_start(struct tls_fibre *fibre, void (*run)(void *user), void *user);
/* Goes on after the yield; as tls_fibre_start(). */
bool tls_fibre_resume(struct tls_fibre *fibre);
/* From within: back to whoever started or resumed. */
void tls_fibre_yield(struct tls_fibre *fibre);
/* The most any of the pool's stacks has ever held. Looks at them all: for tests and measurements. */
size_t tls_fibres_stack_most(const struct tls_fibres *fibres);
