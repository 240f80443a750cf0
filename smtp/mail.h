// SPDX-License-Identifier: Apache-2.0
/* smtp/mail.h: a mail in memory: one byte sequence, envelope then content, in a list of chunks.
 *
 * Written once by the thread that accepts it, immutable from then on. Ownership moves in a line and is
 * never shared: accepting core -> spool thread (with the commit or abort) -> queue thread (once durable)
 * -> home. A delivery on some core only borrows it from the queue thread for the time of its job.
 * Chunks come home to the pool of the core that took them over one SPSC ring for each thread that may
 * return them. */
#pragma once

#include "base/bytes.h"

#define MAIL_CHUNK_BYTES 8192 /* a 4 KiB mail with its envelope and Received field fits one */
#define MAIL_CHUNK_DATA  (MAIL_CHUNK_BYTES - 32)

struct mail_pool;

struct mail_chunk {
	struct mail_chunk *next;
	struct mail_pool *home;
	uint32_t used;	     /* bytes of data */
	uint32_t is_spooled; /* the spool has been given it */
	uint64_t offset;     /* of data[0] in the mail's byte sequence */
	uint8_t data[MAIL_CHUNK_DATA];
};
static_assert(sizeof(struct mail_chunk) == MAIL_CHUNK_BYTES, "a chunk is a power of two");

struct mail {
	uint64_t id; /* unique on this node for ever: see mail_id_next() */
	struct mail_chunk *first, *last;
	struct mail_pool *home;
	uint64_t size;		/* bytes of envelope and content */
	uint32_t envelope_size; /* of them, the envelope (smtp/envelope.h) */
	uint32_t crc;		/* CRC32C of all `size` bytes, kept up to date while writing */
	/* For the accepting core, which gets it back with the spool's verdict: */
	uint32_t waiter_slot, waiter_generation;
};

/* Threads that may return mails to a pool; each has a ring of its own. */
enum mail_returner { MAIL_RETURN_SPOOL, MAIL_RETURN_QUEUE, MAIL_RETURNERS };

/* Takes memory for `chunks` chunks and `mails` mails at once. Start-up only; NULL: no memory. */
struct mail_pool *mail_pool_create(size_t chunks, size_t mails, unsigned core);
void mail_pool_destroy(struct mail_pool *pool);
/* Chunks not in use, counting those waiting in return rings after mail_pool_collect(). Owner only. */
size_t mail_pool_free_chunks(const struct mail_pool *pool);
size_t mail_pool_chunks(const struct mail_pool *pool);
unsigned mail_pool_core(const struct mail_pool *pool);
/* Owner: takes back what other threads have returned. Once a turn of the loop. */
void mail_pool_collect(struct mail_pool *pool);

/* Bytes of a pool that a mail of `size` holds: whole chunks. */
static inline uint64_t mail_held_bytes(uint64_t size)
{
	return (size + MAIL_CHUNK_DATA - 1) / MAIL_CHUNK_DATA * MAIL_CHUNK_BYTES;
}

/* Owner: an empty mail; NULL: the pool is empty. `id` from mail_id_next(). */
struct mail *mail_get(struct mail_pool *pool, uint64_t id);
/* Owner: appends; false and nothing written if the pool cannot hold all of it. */
bool mail_append(struct mail *mail, struct bytes b);
/* Owner: the same without the checksum: for an envelope, whose end computes it from the start (smtp/envelope.h). */
bool mail_append_unsummed(struct mail *mail, struct bytes b);
/* Owner: gives the mail and its chunks back at once (never submitted to the spool). */
void mail_put(struct mail *mail);
/* Another thread: sends the mail and its chunks home. Never fails: the ring has room for every mail of the
 * pool. */
void mail_return(struct mail *mail, enum mail_returner who);
/* Sends only the chunks home and leaves `first` and `last` NULL: the mail is then not resident. */
void mail_evict(struct mail *mail, enum mail_returner who);

/* What there is at `offset` of the byte sequence, in one range: up to where a chunk ends, none where the
 * mail ends or is not resident. `*cursor` NULL at first, then kept between calls for speed. */
struct bytes mail_read(const struct mail *mail, uint64_t offset, const struct mail_chunk **cursor);

/* Ids grow with time: wall-clock microseconds (52 bits), a core number (6), and 6 bits to tell apart what
 * comes within one microsecond; never the same twice, also over restarts, unless the clock goes back while
 * the relay is down (recovery then starts from the highest id it has seen). */
uint64_t mail_id_next(uint64_t *last, uint64_t wall_us, unsigned core);
/* The queue id that people see: 13 characters of Crockford's base 32; returns `text`. */
#define MAIL_ID_TEXT_MAX 14
const char *mail_id_format(uint64_t id, char text[MAIL_ID_TEXT_MAX]);
bool mail_id_parse(struct bytes text, uint64_t *id);

/* CRC32C (Castagnoli, RFC 3720 appendix B.4) of `b`, going on from `crc` (0 at first). */
uint32_t crc32c(uint32_t crc, struct bytes b);
