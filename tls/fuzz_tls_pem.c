// SPDX-License-Identifier: Apache-2.0
/* A file of an operator. What is imported must be importable again, to the same. */
#include "tls/pem.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void import_again(const struct pem_pair *pair)
{
	struct pem_pair again;
	struct tls_error error;
	char *file;
	int n = asprintf(&file, "%s%s", pair->key, pair->chain);
	if (n < 0)
		return;
	if (pem_import(bytes_of(file, (size_t)n), &again, &error) != 0 ||
		strcmp(again.chain, pair->chain) != 0 || strcmp(again.key, pair->key) != 0)
		abort();
	pem_pair_fini(&again);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pem_pair pair;
	struct pem_certificate certificate;
	struct tls_error error;
	for (size_t i = 0; i < 3; i++)
		if (pem_describe(bytes_of(data, size), i, &certificate, &error) != 0)
			break;
	if (pem_import(bytes_of(data, size), &pair, &error) == 0) {
		import_again(&pair);
		pem_pair_fini(&pair);
	} else if (error.text[0] == '\0') {
		abort();
	}
	return 0;
}
