// SPDX-License-Identifier: Apache-2.0
/* dataplane/device_check.h: can a configured device work at all? Asked of the kernel before DPDK
 * starts, whose own errors name neither the device nor the remedy. */
#pragma once

#include <stdbool.h>

/* Says in `error` what is wrong with the device of port `port` and what to do; false. `sys`: where
 * sysfs is. How ports are set up: docs/ports.md. */
bool device_check(const char *sys, const char *port, const char *device, char error[256]);
