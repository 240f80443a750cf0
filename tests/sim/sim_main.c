// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim_main.c: tcp_sim runs many histories, or one again, or shows that it finds what is broken.
 *
 * Histories run in a child process, so that a failed assertion or an endless loop is a finding like others. The child says
 * in shared memory which seed it is at. What fails is made smaller: each option that differs from its quiet value is tried quiet,
 * sizes also halved, for as long as something still fails. */
#include "tests/sim/sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILD_SECONDS 60 /* of one history that is tried again; an endless loop ends here */

struct progress {
	uint64_t seed, done, segments;
	double virtual_s;
};
static struct progress *progress;

struct arguments {
	uint64_t from, to; /* seeds */
	unsigned seconds;  /* 0: until `to` */
	bool is_one, is_verbose, is_blind, shrinks, tests_mutants;
	const struct sim_mutant *mutant;
	struct sim_options one;
};

/* ---- in the child ---- */

static void run_one(const struct sim_options *o, const struct arguments *a, FILE *trace)
{
	struct sim_result result;
	progress->seed = o->seed;
	sim_run(o, a->mutant, a->is_blind, trace, &result);
	progress->done++;
	progress->segments += result.segments;
	progress->virtual_s += (double)result.virtual_us / 1e6;
}

static void run_many(const struct arguments *a)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	const time_t end = t.tv_sec + (time_t)a->seconds;
	for (uint64_t seed = a->from; a->seconds != 0 || seed < a->to; seed++) {
		struct sim_options o;
		sim_options_draw(&o, seed);
		run_one(&o, a, NULL);
		clock_gettime(CLOCK_MONOTONIC, &t);
		if (a->seconds != 0 && t.tv_sec >= end)
			return;
	}
}

/* ---- in the parent ---- */

/* true: all was well. `o` NULL: many. */
static bool in_child(const struct arguments *a, const struct sim_options *o, bool is_silent)
{
	fflush(NULL);
	const pid_t child = fork();
	int status = 0;
	if (child < 0) {
		perror("fork");
		exit(1);
	}
	if (child == 0) {
		if (is_silent && freopen("/dev/null", "w", stderr) == NULL)
			_exit(1);
		if (o != NULL)
			alarm(CHILD_SECONDS);
		sim_start();
		if (o != NULL)
			run_one(o, a, a->is_verbose ? stdout : NULL);
		else
			run_many(a);
		fflush(NULL);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0)
		;
	if (WIFSIGNALED(status) && !is_silent)
		fprintf(stderr, "seed %llu: signal %d (%s)\n", (unsigned long long)progress->seed, WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_smaller_still_bad(const struct arguments *a, struct sim_options *o, unsigned i, uint32_t value)
{
	struct arguments quiet = *a;
	struct sim_options smaller = *o;
	quiet.is_verbose = false;
	if (*sim_option_at(&smaller, i) == value)
		return false;
	*sim_option_at(&smaller, i) = value;
	if (in_child(&quiet, &smaller, true))
		return false;
	*o = smaller;
	return true;
}

static void shrink(const struct arguments *a, struct sim_options *o)
{
	for (bool has_shrunk = true; has_shrunk;) {
		has_shrunk = false;
		for (unsigned i = 0; i < sim_option_count; i++) {
			const uint32_t quiet = sim_option_quiet(i), now = *sim_option_at(o, i);
			if (now == quiet)
				continue;
			if (is_smaller_still_bad(a, o, i, quiet) ||
				(now > quiet + 1 && is_smaller_still_bad(a, o, i, quiet + (now - quiet) / 2)))
				has_shrunk = true;
		}
	}
}

static int report(const struct arguments *a, struct sim_options o)
{
	printf("FAILED: tcp_sim ");
	sim_options_print(&o, stdout);
	putchar('\n');
	if (a->shrinks) {
		struct arguments quiet = *a;
		quiet.is_verbose = false;
		shrink(a, &o);
		printf("smallest: tcp_sim ");
		sim_options_print(&o, stdout);
		putchar('\n');
		in_child(&quiet, &o, false);
	}
	return 1;
}

/* Each mutant has to be found, by a history that is well without it. */
static bool is_found(struct arguments a, const struct sim_mutant *mutant, bool is_blind)
{
	a.mutant = mutant;
	a.is_blind = is_blind;
	a.seconds = 0;
	if (in_child(&a, NULL, true)) {
		printf("NOT FOUND: %s%s\n", mutant->name, is_blind ? ", without the invariants" : "");
		return false;
	}
	printf("found by seed %llu: %s%s\n", (unsigned long long)progress->seed, mutant->name,
		is_blind ? ", without the invariants" : "");
	return true;
}

static int find_mutants(const struct arguments *a)
{
	int failed = 0;
	for (unsigned i = 0; i < sim_mutant_count; i++) {
		failed += !is_found(*a, &sim_mutants[i], false);
		if (sim_mutants[i].is_found_blind)
			failed += !is_found(*a, &sim_mutants[i], true);
	}
	return failed != 0;
}

/* ---- arguments ---- */

static void usage(FILE *to)
{
	fprintf(to, "tcp_sim [--seeds A..B] [--seconds S]          many histories (0..10000)\n"
		    "tcp_sim --seed N [--verbose] [NAME=VALUE...]  one, changed\n"
		    "tcp_sim --mutants [--seeds A..B]              are injected faults found?\n"
		    "        --mutant NAME  with one fault   --blind  without the invariants   --no-shrink\n");
	sim_options_help(to);
	for (unsigned i = 0; i < sim_mutant_count; i++)
		fprintf(to, "  mutant %s: %s\n", sim_mutants[i].name, sim_mutants[i].help);
}

static const struct sim_mutant *mutant_named(const char *name)
{
	for (unsigned i = 0; i < sim_mutant_count; i++)
		if (name != NULL && strcmp(sim_mutants[i].name, name) == 0)
			return &sim_mutants[i];
	return NULL;
}

static bool parse_seeds(struct arguments *a, const char *text)
{
	unsigned long long from, to;
	if (text == NULL || sscanf(text, "%llu..%llu", &from, &to) != 2 || from >= to)
		return false;
	a->from = from;
	a->to = to;
	return true;
}

static bool parse_value(struct arguments *a, const char *option, const char *value)
{
	char *end = NULL;
	if (strcmp(option, "--seeds") == 0)
		return parse_seeds(a, value);
	if (strcmp(option, "--mutant") == 0)
		return (a->mutant = mutant_named(value)) != NULL;
	const unsigned long long n = value == NULL ? 0 : strtoull(value, &end, 10);
	if (value == NULL || end == value || *end != '\0')
		return false;
	if (strcmp(option, "--seconds") == 0)
		a->seconds = (unsigned)n;
	else if (strcmp(option, "--seed") == 0)
		a->is_one = true, sim_options_draw(&a->one, n);
	else
		return false;
	return true;
}

static bool parse(struct arguments *a, char **argv)
{
	for (; *argv != NULL; argv++) {
		if (strcmp(*argv, "--verbose") == 0)
			a->is_verbose = true;
		else if (strcmp(*argv, "--blind") == 0)
			a->is_blind = true;
		else if (strcmp(*argv, "--no-shrink") == 0)
			a->shrinks = false;
		else if (strcmp(*argv, "--mutants") == 0)
			a->tests_mutants = true;
		else if (**argv != '-' && a->is_one) {
			if (!sim_options_set(&a->one, *argv))
				return false;
		} else if (!parse_value(a, argv[0], argv[1]))
			return false;
		else
			argv++;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct arguments a = {.to = 10000, .shrinks = true};
	if (!parse(&a, argv + 1)) {
		usage(stderr);
		return 64;
	}
	progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	if (a.tests_mutants)
		return find_mutants(&a);
	if (a.is_one && !in_child(&a, &a.one, false))
		return report(&a, a.one);
	if (!a.is_one && !in_child(&a, NULL, false)) {
		struct sim_options o;
		sim_options_draw(&o, progress->seed);
		return report(&a, o);
	}
	printf("%llu histories, %llu segments, %.0f s of virtual time: all well\n", (unsigned long long)progress->done,
		(unsigned long long)progress->segments, progress->virtual_s);
	return 0;
}
