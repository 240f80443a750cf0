// SPDX-License-Identifier: Apache-2.0
/* smtp/crc32c.h: the two ways to compute what smtp/mail.h calls crc32c(); for it and for its tests.
 */
#pragma once

#include "base/bytes.h"

/* Eight bytes a step by tables; on any processor. */
uint32_t crc32c_by_table(uint32_t crc, struct bytes b);
/* The processor's own instructions (x86 SSE4.2 and PCLMUL); only where crc32c_has_instruction(). */
bool crc32c_has_instruction(void);
uint32_t crc32c_by_instruction(uint32_t crc, struct bytes b);
