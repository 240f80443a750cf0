// SPDX-License-Identifier: Apache-2.0
/* hikyaku-bench: measures SMTP servers with whole sessions, over memif or over kernel sockets. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "bench/generator.h"
#include "bench/sink.h"

static void on_signal(int number)
{
	generator_stop();
	sink_stop();
}

static int fail(const char *error)
{
	fprintf(stderr, "hikyaku-bench: %s\n", error);
	return EX_UNAVAILABLE;
}

static int generate(const struct options *o)
{
	static struct results results;
	char error[256];
	bool is_memif = o->memif[0] != '\0';
	struct transport *t = is_memif ? transport_memif(o, error) : transport_kernel(o, error);
	if (t == NULL)
		return fail(error);
	int rc = generator_run(t, o, &results, error);
	if (rc == 0)
		results_print(&results, o, t->name);
	t->ops->destroy(t);
	if (rc != 0)
		return fail(error);
	return results_failed(&results) == 0 ? EX_OK : EX_TEMPFAIL;
}

int main(int argc, char **argv)
{
	static struct options o;
	int rc = options_parse(&o, argc, argv);
	if (rc != 0)
		return rc < 0 ? EX_OK : rc;
	const struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return o.command == BENCH_SINK ? sink_run(&o) : generate(&o);
}
