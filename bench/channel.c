// SPDX-License-Identifier: Apache-2.0
#include "bench/channel.h"

#include <stdio.h>
#include <stdlib.h>

struct channels {
	struct lean *lean; /* NULL: plain sessions */
	struct tls_lib *lib;
	struct tls_client_set *set;
	const char *sni;
};

static bool make_plain(struct channels *shared, const struct options *o, char error[256])
{
	struct tls_profile profile = {.id = "bench",
		.level = TLS_LEVEL_ENCRYPT,
		.protocol_lowest = TLS_1_2,
		.protocol_highest = o->tls_highest};
	const struct tls_client_set_config set = {.profiles = &profile, .profile_count = 1};
	struct tls_error tls_error = {0};
	snprintf(profile.groups, sizeof profile.groups, "%s", o->groups);
	shared->lib = tls_lib_create();
	if (shared->lib != NULL)
		shared->set = tls_client_set_create(shared->lib, &set, &tls_error);
	if (shared->set == NULL)
		snprintf(error, 256, "TLS: %.240s", tls_error.text);
	return shared->set != NULL;
}

static bool make_lean(struct channels *shared, const struct options *o, char error[256])
{
	const struct lean_config config = {
		.protocol = o->tls_highest == TLS_1_2 ? TLS_1_2 : TLS_1_3,
		.groups = o->groups,
		.sni = o->sni,
		.is_resuming = o->is_resuming,
		.aes_bits = o->aes_bits};
	shared->lean = lean_create(&config, error);
	return shared->lean != NULL;
}

struct channels *channels_create(const struct options *o, char error[256])
{
	struct channels *shared = calloc(1, sizeof *shared);
	snprintf(error, 256, "no memory");
	if (shared == NULL)
		return NULL;
	shared->sni = o->sni;
	if (o->is_plain ? make_plain(shared, o, error) : make_lean(shared, o, error))
		return shared;
	channels_destroy(shared);
	return NULL;
}

void channels_destroy(struct channels *shared)
{
	if (shared->set != NULL)
		tls_client_set_put(shared->set);
	if (shared->lib != NULL)
		tls_lib_destroy(shared->lib);
	lean_destroy(shared->lean);
	free(shared);
}

bool channel_open(struct channel *c, struct channels *shared, struct tls_io io)
{
	if (shared->lean == NULL) {
		c->tls = tls_open_client(shared->set, 0, io, shared->sni, "");
		c->is_open = c->tls != NULL;
		return c->is_open;
	}
	if (c->slot == NULL && (c->slot = lean_slot_create(shared->lean)) == NULL)
		return false;
	lean_open(c->slot, io);
	c->is_open = true;
	return true;
}

enum tls_result channel_handshake(struct channel *c)
{
	return c->tls == NULL ? lean_handshake(c->slot) : tls_handshake(c->tls);
}

enum tls_result channel_read(struct channel *c, uint8_t *to, size_t room, size_t *n)
{
	return c->tls == NULL ? lean_read(c->slot, to, room, n) : tls_read(c->tls, to, room, n);
}

enum tls_result channel_write(struct channel *c, struct bytes from, size_t *n)
{
	return c->tls == NULL ? lean_write(c->slot, from, n) : tls_write(c->tls, from, n);
}

void channel_flush(struct channel *c)
{
	if (c->tls == NULL)
		lean_flush(c->slot);
	else if (tls_has_output(c->tls))
		tls_flush(c->tls);
}

const char *channel_failure(struct channel *c)
{
	const char *why;
	if (c->tls == NULL)
		return lean_failure(c->slot);
	tls_failure(c->tls, &why);
	return why;
}

void channel_get_verdict(struct channel *c, struct tls_verdict *verdict)
{
	if (c->tls == NULL)
		lean_get_verdict(c->slot, verdict);
	else
		tls_get_verdict(c->tls, verdict);
}

bool channel_is_resumed(struct channel *c)
{
	return c->tls == NULL && lean_is_resumed(c->slot);
}

void channel_close(struct channel *c)
{
	if (c->tls != NULL)
		tls_close(c->tls);
	else if (c->is_open)
		lean_close(c->slot);
	c->tls = NULL;
	c->is_open = false;
}

void channel_fini(struct channel *c)
{
	channel_close(c);
	lean_slot_destroy(c->slot);
	c->slot = NULL;
}
