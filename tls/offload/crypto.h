// SPDX-License-Identifier: Apache-2.0
/* tls/offload/crypto.h: the crypto thread: an OpenSSL engine (Debian's qatengine) behind the offload.
 *
 *   a core: tls_offload ── ops ──▶ ring ──▶ the crypto thread ──▶ ASYNC job ──▶ the engine: QAT hardware, or QAT_SW,
 *                       ◀─ results ─ ring ◀──┘         └──────▶ OpenSSL             which does eight together
 *
 * One thread serves all cores, and there is one a process: the engine serves no more (with external polling it keeps
 * its queues in a variable of the process, and polls those of the thread that used it last). Each operation has an
 * ASYNC job of its own, since the engine suspends nothing else.
 *
 * QAT_SW does fewer than eight of a kind only when they have waited for 10 ms, and no setting changes that. So the
 * thread never lets it wait: where no more is coming, what there is is filled up to eight with operations that nobody
 * asked for, or done by OpenSSL at once where that is cheaper. Hardware does each as it comes.
 *
 * With nothing to do the thread sleeps, and the core that finds it asleep wakes it, by a system call: the only one of
 * a core here. Results are tried with the public key, and an op that an engine keeps for too long is given back undone,
 * to be done by OpenSSL; after that the engine gets no more. */
#pragma once

#include "tls/offload/offload.h"

enum {
	TLS_CRYPTO_PORTS_MAX = 64, /* library contexts of a process: one a core, and those of a generation that ends */
	TLS_CRYPTO_SLOTS = 64,	   /* ops with the engine at a time; qatengine itself takes 128 of a kind */
	TLS_CRYPTO_KEYS = 64,	   /* RSA keys the thread holds ready, those used last */
	/* QAT_SW answers within a millisecond, hardware within one or two: who is silent for this long is broken. */
	TLS_CRYPTO_PATIENCE_MS = 500,
};

/* A core's way to the thread. */
struct tls_crypto_port;
/* NULL: no memory, or no place left, and ENGINE is not usable there. Any thread. The offload may use it at once and as long as it lives, also while
 * there is no crypto thread: then OpenSSL does the work. */
struct tls_crypto_port *tls_crypto_port_open(struct tls_offload *offload);
/* With no op out. `port` may be NULL. */
void tls_crypto_port_close(struct tls_crypto_port *port);
