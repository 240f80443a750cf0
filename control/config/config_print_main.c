// SPDX-License-Identifier: Apache-2.0
/* hikyaku-config-print: writes what is made from the tables: the reference of settings and the default file.
 *
 *   hikyaku-config-print reference > docs/settings.md
 *   hikyaku-config-print example > deploy/hikyaku.yaml */
#include "control/config/config_private.h"

#include <sysexits.h>

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "reference") == 0) {
		config_print_reference(stdout);
		return EX_OK;
	}
	if (argc == 2 && strcmp(argv[1], "example") == 0)
		return config_print_example(stdout) == 0 ? EX_OK : EX_SOFTWARE;
	fputs("usage: hikyaku-config-print reference|example\n", stderr);
	return EX_USAGE;
}
