// SPDX-License-Identifier: Apache-2.0
/* control/shm/policy_private.h: a mapped generation, for the files of this folder. */
#pragma once

#include "control/shm/layout.h"
#include "control/shm/policy.h"

/* Views into the two objects. Everything the resolve functions rely on was checked by policy_view(). */
struct policy {
	struct bytes object, keys; /* keys empty: not mapped */
	const struct layout_header *header;
#define _(id, type) const type *id; uint32_t id##_count;
	struct {
		LAYOUT_SECTIONS(_)
	} rows;
#undef _
	const struct layout_text *key_pems;
};

/* Checks the objects (8-byte aligned memory that stays as it is and outlives the view) and fills in `policy`.
 * 0; -EPROTO: another layout version; -EBADMSG: not sound. */
int policy_view(struct policy *policy, struct bytes object, struct bytes keys);

/* The form in which domains are compared, but for their case: no final dot, an address literal in the one
 * form we write. Points into `domain` or `room`. Compiler and resolver both use it, so they agree. */
#define POLICY_LITERAL_MAX 64
struct bytes policy_canonical_domain(struct bytes domain, char room[POLICY_LITERAL_MAX]);

static inline struct bytes layout_bytes(struct bytes object, struct layout_text text)
{
	return text.n == 0 ? BYTES_NONE : bytes_of(object.at + text.at, text.n);
}
