// SPDX-License-Identifier: Apache-2.0
#include "dataplane/private.h"

static const struct {
	const char *name, *help;
} counters[] = {
#define DP_COUNTER(name, help) {#name, help},
#include "dataplane/counters.def"
#undef DP_COUNTER
};

unsigned dp_counter_count(void)
{
	return COUNT_END;
}

const char *dp_counter_name(unsigned counter)
{
	return counter < COUNT_END ? counters[counter].name : "";
}

const char *dp_counter_help(unsigned counter)
{
	return counter < COUNT_END ? counters[counter].help : "";
}

uint64_t dp_counter(const struct dp_core *core, unsigned counter)
{
	if (counter >= COUNT_END)
		return 0;
	return atomic_load_explicit(&core->counters[counter], memory_order_relaxed);
}

void dp_core_times(
	const struct dp_core *core, uint64_t *busy_us, uint64_t *slept_us, uint64_t *turns)
{
	*busy_us = atomic_load_explicit(&core->busy_us, memory_order_relaxed);
	*slept_us = atomic_load_explicit(&core->slept_us, memory_order_relaxed);
	*turns = atomic_load_explicit(&core->turns, memory_order_relaxed);
}
