// SPDX-License-Identifier: Apache-2.0
/* tests/wire/wire_test.c: runs packet scripts: each case over IPv4 and over IPv6.
 *
 *   wire_test [-v] [-c TITLE] FILE...
 *
 * -v names every case; -c runs only those whose title has TITLE in it. Blocks may be used by the files behind. */
#include "tests/wire/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct count {
	unsigned passed, failed;
};

/* A case that never ends would be a bug of ours. */
#define SECONDS_MAX 300

static void run_one(const struct scripts *all, const struct script *s, unsigned index, bool is_verbose,
	const char *only, struct count *count)
{
	static struct run run;
	char title[LINE_MAX_BYTES];
	if (!script_fill(s, index, &s->title, title))
		snprintf(title, sizeof title, "%s", s->title.text);
	if (only != NULL && strstr(title, only) == NULL)
		return;
	for (int v6 = 0, failed = 0; v6 < 2; v6++) {
		const bool passed = run_case(&run, all, s, index, v6);
		if (passed && run.is_empty)
			continue;
		passed ? count->passed++ : count->failed++;
		if (is_verbose || !passed)
			printf("%s %s:%d %s (row %u, %s)\n", passed ? "ok    " : "FAILED", s->title.file,
				s->title.number, title, index + 1, v6 ? "IPv6" : "IPv4");
		if (!passed && failed++ == 0) /* over the other it would say the same */
			printf("%s\n", run.error);
	}
}

int main(int argc, char **argv)
{
	static struct scripts all;
	struct count count = {0};
	const char *only = NULL;
	bool is_verbose = false;
	for (int option; (option = getopt(argc, argv, "vc:")) != -1;) {
		if (option == 'v')
			is_verbose = true;
		else if (option == 'c')
			only = optarg;
		else
			return 2;
	}
	alarm(SECONDS_MAX);
	stack_start();
	for (int i = optind; i < argc; i++)
		scripts_read(&all, argv[i]);
	for (size_t i = 0; i < all.count; i++)
		for (unsigned k = 0; k < script_case_count(&all.at[i]); k++)
			run_one(&all, &all.at[i], k, is_verbose, only, &count);
	scripts_free(&all);
	stack_stop();
	printf("[  PASSED  ] %u test(s).\n", count.passed);
	if (count.failed > 0)
		printf("[  FAILED  ] wire: %u test(s)\n", count.failed);
	return count.failed > 0 || count.passed == 0;
}
