// SPDX-License-Identifier: Apache-2.0
/* control/shm/sealed.h: memory objects (memfd_create(2)) that nobody can change any more, so that what a reader has
 * checked is what it reads later: how generations and ticket keys go from one process to another. */
#pragma once

#include "base/bytes.h"

/* An object with these bytes, close-on-exec and the owner's alone; the descriptor, or -errno. Any thread. */
int sealed_create(const char *name, struct bytes content);
/* Is it one that can neither be written to nor change its size? */
bool sealed_is(int fd);
