// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_work.h: counts the work of a call, for tests that bound it. The unit is a basic block, a few instructions
 * that run through: the program's copy of the stack is built with -fsanitize-coverage=trace-pc, so that each block it
 * runs calls us. The same on every machine, but not with every compiler. What libraries do (memcpy, rings) is not in it. */
#pragma once

#include <stdint.h>

void work_begin(void);
/* The blocks since. */
uint64_t work_end(void);
