// SPDX-License-Identifier: Apache-2.0
/* bench/sink.h: hikyaku-bench sink: an SMTP server on kernel sockets that takes every mail and
 * keeps none. */
#pragma once

#include "bench/options.h"

/* Listens until sink_stop() or the end of o->duration_s, then prints what came. An exit code. */
int sink_run(const struct options *o);
/* From a signal handler. */
void sink_stop(void);
