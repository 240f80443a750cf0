// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a configuration: refused with an error, or loaded; and what was loaded prints as a file that
 * loads and prints the same. */
#include "control/config/config_private.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char *print(const struct config *config, bool full, size_t *n)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, n);
	if (to == NULL)
		abort();
	config_print(config, full, to);
	fclose(to);
	return text;
}

/* The text of `config` after it was printed and read again. */
static char *print_again(const struct config *config, bool full, size_t *n)
{
	char error[CONFIG_ERROR_MAX], *text = print(config, full, n);
	struct config *again;
	if (config_load_text("printed", text, *n, &again, error) != 0)
		abort();
	free(text);
	text = print(again, true, n);
	config_free(again);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct config *config;
	char error[CONFIG_ERROR_MAX];
	if (config_load_text("fuzz", (const char *)data, n, &config, error) != 0) {
		if (error[0] == '\0' || memchr(error, '\0', sizeof error) == NULL)
			abort();
		return 0;
	}
	size_t lengths[3];
	char *whole = print(config, true, &lengths[0]);
	for (int full = 0; full <= 1; full++) {
		char *again = print_again(config, full, &lengths[1 + full]);
		if (lengths[1 + full] != lengths[0] || memcmp(whole, again, lengths[0]) != 0)
			abort();
		free(again);
	}
	free(whole);
	config_free(config);
	return 0;
}
