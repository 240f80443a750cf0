// SPDX-License-Identifier: Apache-2.0
/* control/ctl/packet_line.h: an Ethernet frame as a person reads it, on one line. */
#pragma once

#include "base/bytes.h"

#include <stdio.h>

/* "192.0.2.25.25 > 198.51.100.10.40000: tcp [P.] seq 1 ack 2 win 501 length 20"; of any bytes, also
 * of few. */
void packet_line(FILE *to, struct bytes frame, uint32_t length);
