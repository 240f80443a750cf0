// SPDX-License-Identifier: Apache-2.0
/* control/ctl/pcapng.h: writes packets of one Ethernet port as a pcapng file
 * (draft-ietf-opsawg-pcapng), which tcpdump and Wireshark read. */
#pragma once

#include "base/bytes.h"

#include <stdio.h>

/* The section and the interface; `snaplen` 0: whole packets. All return false where the file cannot
 * be written. */
bool pcapng_begin(FILE *to, const char *interface, uint32_t snaplen);
/* `packet`: what was kept of `length` bytes; microseconds since 1970. */
bool pcapng_packet(FILE *to, uint64_t time_us, bool is_out, struct bytes packet, uint32_t length);
/* How many were written, and how many were lost for want of room. */
bool pcapng_end(FILE *to, uint64_t time_us, uint64_t received, uint64_t lost);
