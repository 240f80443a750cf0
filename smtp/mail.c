// SPDX-License-Identifier: Apache-2.0
#include "smtp/mail.h"

#include "base/ring.h"

#include <assert.h>

/* What one other thread sends home. Lists of chunks travel as their last chunk, whose `next` then
 * leads round to the first, so that taking one back costs the owner the same whatever its length.
 */
struct home_ring {
	struct ring mails;
	struct ring chunks;
};

struct mail_pool {
	struct mail_chunk *chunks; /* all of them, in one block */
	size_t chunk_count;
	struct mail_chunk *free_chunk; /* a list of free_chunk_count */
	size_t free_chunk_count;
	struct mail *mails;
	size_t mail_count;
	struct mail **free_mails; /* a stack of free_mail_count */
	size_t free_mail_count;
	unsigned core;
	struct home_ring home[MAIL_RETURNERS];
};

/* The ring size that has room for `n` entries. */
static unsigned ring_size_for(size_t n)
{
	unsigned size = 4;
	while (size - 1 < n)
		size *= 2;
	return size;
}

static bool pool_take_memory(struct mail_pool *p)
{
	p->chunks = aligned_alloc(64, p->chunk_count * sizeof *p->chunks);
	p->mails = calloc(p->mail_count, sizeof *p->mails);
	p->free_mails = calloc(p->mail_count, sizeof *p->free_mails);
	bool is_good = p->chunks != NULL && p->mails != NULL && p->free_mails != NULL;
	for (int i = 0; i < MAIL_RETURNERS; i++) {
		is_good &= ring_init(&p->home[i].mails, ring_size_for(p->mail_count));
		/* A list has a chunk at least, so there are never more lists than chunks. */
		is_good &= ring_init(&p->home[i].chunks, ring_size_for(p->chunk_count));
	}
	return is_good;
}

struct mail_pool *mail_pool_create(size_t chunks, size_t mails, unsigned core)
{
	if (chunks == 0 || mails == 0 || chunks > 1u << 30 || mails > 1u << 30)
		return NULL;
	struct mail_pool *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->chunk_count = chunks;
	p->mail_count = mails;
	p->core = core;
	if (!pool_take_memory(p)) {
		mail_pool_destroy(p);
		return NULL;
	}
	for (size_t i = chunks; i-- > 0;) {
		p->chunks[i].home = p;
		p->chunks[i].next = p->free_chunk;
		p->free_chunk = &p->chunks[i];
	}
	p->free_chunk_count = chunks;
	for (size_t i = mails; i-- > 0;)
		p->free_mails[p->free_mail_count++] = &p->mails[i];
	return p;
}

void mail_pool_destroy(struct mail_pool *pool)
{
	if (pool == NULL)
		return;
	for (int i = 0; i < MAIL_RETURNERS; i++) {
		ring_fini(&pool->home[i].mails);
		ring_fini(&pool->home[i].chunks);
	}
	free(pool->free_mails);
	free(pool->mails);
	free(pool->chunks);
	free(pool);
}

size_t mail_pool_free_chunks(const struct mail_pool *pool)
{
	return pool->free_chunk_count;
}

size_t mail_pool_chunks(const struct mail_pool *pool)
{
	return pool->chunk_count;
}

unsigned mail_pool_core(const struct mail_pool *pool)
{
	return pool->core;
}

/* Puts the list back that ends in `last`, still linked to nothing. All chunks but the last are
 * full, so its offset tells how many they are. */
static void pool_put_chunks(struct mail_pool *p, struct mail_chunk *first, struct mail_chunk *last)
{
	last->next = p->free_chunk;
	p->free_chunk = first;
	p->free_chunk_count += last->offset / MAIL_CHUNK_DATA + 1;
	assert(p->free_chunk_count <= p->chunk_count);
}

void mail_pool_collect(struct mail_pool *pool)
{
	for (int i = 0; i < MAIL_RETURNERS; i++) {
		struct mail *mail;
		struct mail_chunk *last;
		while ((mail = ring_pop_spsc(&pool->home[i].mails)) != NULL)
			mail_put(mail);
		while ((last = ring_pop_spsc(&pool->home[i].chunks)) != NULL)
			pool_put_chunks(pool, last->next, last);
	}
}

struct mail *mail_get(struct mail_pool *pool, uint64_t id)
{
	if (pool->free_mail_count == 0)
		return NULL;
	struct mail *mail = pool->free_mails[--pool->free_mail_count];
	*mail = (struct mail){.id = id, .home = pool};
	return mail;
}

void mail_put(struct mail *mail)
{
	struct mail_pool *pool = mail->home;
	assert(pool->free_mail_count < pool->mail_count);
	if (mail->first != NULL)
		pool_put_chunks(pool, mail->first, mail->last);
	mail->first = mail->last = NULL;
	pool->free_mails[pool->free_mail_count++] = mail;
}

static size_t mail_room(const struct mail *mail)
{
	return mail->last == NULL ? 0 : MAIL_CHUNK_DATA - mail->last->used;
}

static void mail_add_chunk(struct mail *mail)
{
	struct mail_pool *pool = mail->home;
	struct mail_chunk *chunk = pool->free_chunk;
	pool->free_chunk = chunk->next;
	pool->free_chunk_count--;
	chunk->next = NULL;
	chunk->used = 0;
	chunk->is_spooled = 0;
	chunk->offset = mail->size;
	if (mail->last == NULL)
		mail->first = chunk;
	else
		mail->last->next = chunk;
	mail->last = chunk;
}

bool mail_append_unsummed(struct mail *mail, struct bytes b)
{
	size_t room = mail_room(mail);
	if (b.n > room) {
		size_t more = b.n - room;
		if (more > mail->home->free_chunk_count * MAIL_CHUNK_DATA)
			return false;
	}
	while (b.n != 0) {
		if (mail_room(mail) == 0)
			mail_add_chunk(mail);
		struct mail_chunk *to = mail->last;
		struct bytes part = bytes_first(b, mail_room(mail));
		memcpy(to->data + to->used, part.at, part.n);
		to->used += (uint32_t)part.n;
		mail->size += part.n;
		b = bytes_skip(b, part.n);
	}
	return true;
}

bool mail_append(struct mail *mail, struct bytes b)
{
	if (!mail_append_unsummed(mail, b))
		return false;
	mail->crc = crc32c(mail->crc, b);
	return true;
}

static void push_home(struct ring *ring, const void *entry)
{
	bool has_room = ring_push_spsc(ring, entry);
	assert(has_room); /* sized for all there are */
	(void)has_room;
}

void mail_return(struct mail *mail, enum mail_returner who)
{
	push_home(&mail->home->home[who].mails, mail);
}

void mail_evict(struct mail *mail, enum mail_returner who)
{
	struct mail_chunk *last = mail->last;
	if (last == NULL)
		return;
	last->next = mail->first;
	mail->first = mail->last = NULL;
	push_home(&mail->home->home[who].chunks, last);
}

struct bytes mail_read(const struct mail *mail, uint64_t offset, const struct mail_chunk **cursor)
{
	const struct mail_chunk *c = *cursor;
	if (c == NULL || offset < c->offset)
		c = mail->first;
	while (c != NULL && offset >= c->offset + c->used)
		c = c->next;
	if (c == NULL)
		return BYTES_NONE;
	*cursor = c;
	return bytes_skip(bytes_of(c->data, c->used), (size_t)(offset - c->offset));
}
