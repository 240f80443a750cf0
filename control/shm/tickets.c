// SPDX-License-Identifier: Apache-2.0
#include "control/shm/tickets.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/shm/sealed.h"

#define TICKETS_MAGIC	0x31746b74'61796b68ull /* "hkyatkt1" */
#define TICKETS_VERSION 1

struct tickets_object {
	uint64_t magic;
	uint32_t version, reserved;
	struct tls_ticket_keys keys;
};
static_assert(sizeof(struct tls_ticket_key) == 104 && sizeof(struct tls_ticket_keys) == 840,
	"another layout is another TICKETS_VERSION");

/* ---- the table ---- */

static void drop(struct tls_ticket_keys *keys, uint32_t index)
{
	keys->at[index] = keys->at[--keys->count];
	explicit_bzero(&keys->at[keys->count], sizeof keys->at[0]);
}

static bool drop_ended(struct tls_ticket_keys *keys, uint64_t now)
{
	uint32_t before = keys->count;
	for (uint32_t i = keys->count; i-- > 0;)
		if (keys->at[i].end <= now)
			drop(keys, i);
	return keys->count != before;
}

static uint32_t first_to_end(const struct tls_ticket_keys *keys)
{
	uint32_t first = 0;
	for (uint32_t i = 1; i < keys->count; i++)
		if (keys->at[i].end < keys->at[first].end)
			first = i;
	return first;
}

static bool add(struct tls_ticket_keys *keys, const struct tls_ticket_key *key)
{
	if (keys->count == TLS_TICKET_KEYS_MAX) {
		uint32_t first = first_to_end(keys);
		if (keys->at[first].end >= key->end)
			return false;
		drop(keys, first);
	}
	keys->at[keys->count++] = *key;
	return true;
}

/* The kernel's generator, which is there before anything of OpenSSL. */
static bool fill(void *to, size_t n)
{
	return getrandom(to, n, 0) == (ssize_t)n;
}

static bool make(struct tls_ticket_keys *keys, const struct tickets_plan *plan, uint64_t from)
{
	struct tls_ticket_key key = {.from = from,
		.until = from + plan->rotation_seconds,
		.end = from + plan->rotation_seconds + plan->lifetime_seconds};
	bool is_made = fill(key.name, sizeof key.name) && fill(key.cipher, sizeof key.cipher) &&
		fill(key.mac, sizeof key.mac) && add(keys, &key);
	explicit_bzero(&key, sizeof key);
	return is_made;
}

/* When the last key stops to encrypt, of an unbroken row that begins now; `now` if there is none. */
static uint64_t covered_until(const struct tls_ticket_keys *keys, uint64_t now)
{
	uint64_t until = now;
	for (uint32_t i = 0; i < keys->count;) {
		const struct tls_ticket_key *key = &keys->at[i++];
		if (key->from > until || key->until <= until)
			continue;
		until = key->until;
		i = 0; /* another may go on from there */
	}
	return until;
}

bool tickets_turn(struct tls_ticket_keys *keys, const struct tickets_plan *plan, uint64_t now)
{
	bool has_changed = keys->lifetime_seconds != plan->lifetime_seconds;
	keys->lifetime_seconds = plan->lifetime_seconds;
	if (plan->lifetime_seconds == 0) {
		has_changed |= keys->count != 0;
		explicit_bzero(keys, sizeof *keys);
		return has_changed;
	}
	has_changed |= drop_ended(keys, now);
	/* The next one is always there: a relay whose control is away goes on with it. */
	for (int i = 0; i < 2; i++) {
		uint64_t until = covered_until(keys, now);
		if (until > now + plan->rotation_seconds || !make(keys, plan, until))
			break;
		has_changed = true;
	}
	return has_changed;
}

static bool has(const struct tls_ticket_keys *keys, const struct tls_ticket_key *key)
{
	for (uint32_t i = 0; i < keys->count; i++)
		if (memcmp(keys->at[i].name, key->name, sizeof key->name) == 0)
			return true;
	return false;
}

bool tickets_merge(struct tls_ticket_keys *keys, const struct tls_ticket_keys *other)
{
	bool has_changed = false;
	for (uint32_t i = 0; i < other->count; i++)
		if (!has(keys, &other->at[i]))
			has_changed |= add(keys, &other->at[i]);
	return has_changed;
}

/* ---- the object ---- */

int tickets_seal(const struct tls_ticket_keys *keys)
{
	struct tickets_object object = {.magic = TICKETS_MAGIC, .version = TICKETS_VERSION, .keys = *keys};
	int fd = sealed_create("hikyaku-tickets", bytes_of(&object, sizeof object));
	explicit_bzero(&object, sizeof object);
	return fd;
}

/* Made by control or a relay, but perhaps by one that has gone wrong. */
static int check(const struct tickets_object *object)
{
	const struct tls_ticket_keys *keys = &object->keys;
	if (object->magic != TICKETS_MAGIC)
		return -EINVAL;
	if (object->version != TICKETS_VERSION)
		return -EPROTO;
	if (keys->count > TLS_TICKET_KEYS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < keys->count; i++)
		if (keys->at[i].from > keys->at[i].until || keys->at[i].until > keys->at[i].end)
			return -EINVAL;
	return 0;
}

int tickets_read(int fd, struct tls_ticket_keys *keys)
{
	struct tickets_object object;
	struct stat status;
	if (!sealed_is(fd) || fstat(fd, &status) != 0)
		return -EINVAL;
	/* By pread(): the copy is checked, and then used. */
	ssize_t n = pread(fd, &object, sizeof object, 0);
	if (n < (ssize_t)(sizeof object.magic + sizeof object.version))
		return n < 0 ? -errno : -EINVAL;
	if (object.magic == TICKETS_MAGIC && object.version != TICKETS_VERSION)
		return -EPROTO;
	int error = n == (ssize_t)sizeof object && status.st_size == (off_t)sizeof object ? check(&object)
											  : -EINVAL;
	if (error == 0)
		*keys = object.keys;
	explicit_bzero(&object, sizeof object);
	return error;
}
