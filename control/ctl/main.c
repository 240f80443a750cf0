// SPDX-License-Identifier: Apache-2.0
/* hikyakuctl: the operator's tool. The commands stand in commands.def. */
#include "control/ctl/ctl.h"

#include <curl/curl.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

static unsigned terminal_width(void)
{
	struct winsize size;
	const char *columns = getenv("COLUMNS");
	if (!isatty(STDOUT_FILENO))
		return 0;
	if (columns != NULL && atoi(columns) > 0)
		return (unsigned)atoi(columns);
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 80;
}

static void init(struct ctl *ctl)
{
	const char *socket = getenv("HIKYAKU_API");
	*ctl = (struct ctl){
		.socket = socket == NULL || socket[0] == '\0' ? ctl_default_socket() : socket,
		.width = terminal_width(),
		.now = (double)time_wall_us() / (double)USEC_PER_SEC,
		.timeout_seconds = CTL_TIMEOUT_SECONDS};
}

/* The options for all commands, taken out wherever they stand; -1: go on, else the exit code. */
struct own {
	const char **words; /* the rest */
	unsigned count;
	bool is_help, is_version;
};

static int take_socket(struct ctl *ctl, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return ctl_fail(EX_USAGE, "--socket needs the path of the API's socket");
	ctl->socket = value;
	return -1;
}

static int take_own(struct ctl *ctl, struct own *own, int argc, char **argv)
{
	int rc = -1;
	for (int i = 1; i < argc && rc == -1; i++) {
		if (strcmp(argv[i], "--") == 0) {
			while (i < argc)
				own->words[own->count++] = argv[i++];
		} else if (strcmp(argv[i], "--json") == 0) {
			ctl->is_json = true;
		} else if (strcmp(argv[i], "--quiet") == 0 || strcmp(argv[i], "-q") == 0) {
			ctl->is_quiet = true;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			own->is_help = true;
		} else if (strcmp(argv[i], "--version") == 0) {
			own->is_version = true;
		} else if (strncmp(argv[i], "--socket=", 9) == 0) {
			rc = take_socket(ctl, argv[i] + 9);
		} else if (strcmp(argv[i], "--socket") == 0) {
			rc = take_socket(ctl, argv[++i]); /* argv ends in NULL */
		} else {
			own->words[own->count++] = argv[i];
		}
	}
	return rc;
}

static int run_words(struct ctl *ctl, const struct own *own)
{
	struct args args;
	int rc = EX_USAGE;
	if (args_read(&args, own->count, own->words, stderr))
		rc = args.command->run(ctl, &args);
	args_fini(&args);
	return rc;
}

static int run(struct ctl *ctl, struct own *own)
{
	if (own->is_version) {
		puts("hikyakuctl " HIKYAKU_VERSION);
		return EX_OK;
	}
	if (own->is_help)
		return help_show(
			ctl, &(struct args){.values = own->words, .value_count = own->count});
	if (own->count == 0) {
		fputs("usage: hikyakuctl COMMAND…; `hikyakuctl help` lists the commands\n", stderr);
		return EX_USAGE;
	}
	return run_words(ctl, own);
}

int main(int argc, char **argv)
{
	struct ctl ctl;
	struct own own = {.words = calloc((size_t)argc + 1, sizeof *own.words)};
	if (own.words == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return ctl_fail(EX_OSERR, "out of memory");
	setlocale(LC_TIME, "");
	init(&ctl);
	int rc = take_own(&ctl, &own, argc, argv);
	if (rc == -1)
		rc = run(&ctl, &own);
	free(own.words);
	curl_global_cleanup();
	if (fflush(stdout) != 0 || ferror(stdout) != 0)
		rc = rc == EX_OK ? ctl_fail(EX_IOERR, "standard output: %s", strerror(errno)) : rc;
	return rc;
}
