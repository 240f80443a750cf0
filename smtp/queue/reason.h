// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/reason.h: why a recipient waits or failed: a reply kept small, shared by all that have it. */
#pragma once

#include "smtp/client/session.h"

struct reason {
	uint32_t refs;
	uint16_t code, detail;
	uint8_t enhanced[3];
	bool is_ours;
	uint16_t text_n, remote_n;
	uint8_t text[]; /* then the remote host's name */
};

/* A new one, held once. `remote`: the host that said so, or empty. */
struct reason *reason_make(const struct smtp_reply *reply, struct bytes remote);
/* One of our own. */
struct reason *reason_ours(uint16_t code, uint8_t subject, uint16_t detail, const char *text);
struct reason *reason_hold(struct reason *reason);   /* NULL stays NULL */
void reason_release(struct reason *reason);	     /* NULL: nothing */
bool reason_is(const struct reason *reason, const struct smtp_reply *reply, struct bytes remote);
static inline struct bytes reason_text(const struct reason *reason)
{
	return bytes_of(reason->text, reason->text_n);
}
static inline struct bytes reason_remote(const struct reason *reason)
{
	return bytes_of(reason->text + reason->text_n, reason->remote_n);
}
void reason_to_reply(const struct reason *reason, struct smtp_reply *reply);
/* "451 4.7.1 text", ours without the reply code, "4.7.4 text"; cut to `size`; returns its length. */
size_t reason_format(const struct reason *reason, char *to, size_t size);
