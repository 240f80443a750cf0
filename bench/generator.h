// SPDX-License-Identifier: Apache-2.0
/* bench/generator.h: the load: so many sessions at a time, each the next when it is done (a closed
 * loop). */
#pragma once

#include "bench/results.h"
#include "bench/transport.h"

/* Runs to the end of `o` or to generator_stop(); fills `r`. 0, or -1 with `error`. Once in a
 * process. */
int generator_run(
	struct transport *transport, const struct options *o, struct results *r, char error[256]);
/* From a signal handler: ends the measuring, then the sessions. */
void generator_stop(void);
