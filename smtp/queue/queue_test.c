// SPDX-License-Identifier: Apache-2.0
/* Scenarios: a script of what happens, and all that follows from it, second by second. */
#include "smtp/queue/queue.h"

#include "smtp/queue/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <ctype.h>

#include <cmocka.h>

/* Script lines:
 *   mail SENDER RECIPIENT...            admit (SENDER "-": null)
 *   site DOMAIN SITE [PROFILE]          code DOMAIN CODE      codex DOMAIN CODE (recipients x…)
 *   down|up|badtls|goodtls|keep DOMAIN  route DOMAIN ok|defer|fail|mute
 *   run SECONDS                         policy | crash
 *   set NAME NUMBER                     retry|hold|release|remove [DOMAIN]     list */
struct scenario {
	const char *name, *script, *log;
};

static const struct scenario scenarios[] = {
#include "smtp/queue/scenarios.inc"
};

struct setting {
	const char *name;
	size_t offset;
};

#define SETTING(field) {#field, offsetof(struct queue_config, field)}
static const struct setting settings[] = {
	SETTING(retry_first_seconds), SETTING(retry_factor_percent), SETTING(retry_most_seconds),
	SETTING(lifetime_seconds), SETTING(delay_warning_seconds), SETTING(connections_per_site_max),
	SETTING(mails_per_connection_max), SETTING(jobs_max), SETTING(cores),
};

static void set(struct world *w, const char *name, const char *value)
{
	for (size_t n = 0; n < sizeof settings / sizeof settings[0]; n++)
		if (strcmp(settings[n].name, name) == 0) {
			uint32_t number = (uint32_t)strtoul(value, NULL, 10);
			memcpy((char *)&w->config + settings[n].offset, &number, sizeof number);
			queue_destroy(w->q);
			world_open(w);
			return;
		}
	fail_msg("no such setting: %s", name);
}

static bool list_one(void *user, const struct queue_item_info *info)
{
	struct world *w = user;
	int n = snprintf(w->log + w->log_size, WORLD_LOG - w->log_size,
		"  %u %s %.*s tries %u next %lld reason %u%s%s\n",
		world_mail_of_id(w, info->mail_id)->number, queue_item_state_name(info->state),
		(int)info->domain.n, (const char *)info->domain.at, info->tries,
		info->next_try_us == 0 ? -1ll
				       : (long long)((info->next_try_us - w->start_us) / 1000000),
		info->reason->code, info->reason->code != 0 ? " " : "", info->reason->text);
	w->log_size += (size_t)n;
	return true;
}

static void operate(struct world *w, const char *what, const char *domain)
{
	struct queue_selection s = {.state = -1, .domain = bytes_of_string(domain)};

	if (strcmp(what, "retry") == 0)
		queue_retry(w->q, &s, w->now_us);
	else if (strcmp(what, "hold") == 0)
		queue_hold(w->q, &s);
	else if (strcmp(what, "release") == 0)
		queue_release(w->q, &s, w->now_us);
	else if (strcmp(what, "remove") == 0)
		queue_remove(w->q, &s, w->now_us);
	else
		fail_msg("no such word: %s", what);
}

static void change_domain(struct world_domain *d, const char *what, char **words)
{
	if (strcmp(what, "site") == 0) {
		snprintf(d->site, sizeof d->site, "%s", words[2]);
		if (words[3] != NULL)
			snprintf(d->profile, sizeof d->profile, "%s", words[3]);
	} else if (strcmp(what, "code") == 0)
		d->code = (uint16_t)atoi(words[2]);
	else if (strcmp(what, "codex") == 0)
		d->code_of_x = (uint16_t)atoi(words[2]);
	else if (strcmp(what, "down") == 0 || strcmp(what, "up") == 0)
		d->is_down = what[0] == 'd';
	else if (strcmp(what, "badtls") == 0 || strcmp(what, "goodtls") == 0)
		d->has_bad_tls = what[0] == 'b';
	else if (strcmp(what, "keep") == 0)
		d->keeps = true;
	else
		d->route = words[2][0] == 'o' ? WORLD_ROUTE_OK : words[2][0] == 'd' ? WORLD_ROUTE_DEFER
			: words[2][0] == 'f' ? WORLD_ROUTE_FAIL : WORLD_ROUTE_MUTE;
}

static bool is_domain_word(const char *word)
{
	static const char *const words[] = {
		"site", "code", "codex", "down", "up", "badtls", "goodtls", "keep", "route"};

	for (size_t n = 0; n < sizeof words / sizeof words[0]; n++)
		if (strcmp(word, words[n]) == 0)
			return true;
	return false;
}

static void play_line(struct world *w, char *line)
{
	char *words[300] = {0};
	unsigned count = 0;

	for (char *word = strtok(line, " \t"); word != NULL && count < 299; word = strtok(NULL, " \t"))
		words[count++] = word;
	if (count == 0)
		return;
	if (strcmp(words[0], "mail") == 0)
		world_mail(w, strcmp(words[1], "-") == 0 ? "" : words[1],
			(const char *const *)words + 2, count - 2);
	else if (strcmp(words[0], "run") == 0)
		world_run(w, strtoul(words[1], NULL, 10));
	else if (strcmp(words[0], "set") == 0)
		set(w, words[1], words[2]);
	else if (strcmp(words[0], "crash") == 0)
		world_crash(w);
	else if (strcmp(words[0], "states") == 0)
		w->logs_states = true;
	else if (strcmp(words[0], "policy") == 0) {
		w->generation++;
		queue_policy_changed(w->q, w->now_us);
	} else if (strcmp(words[0], "list") == 0)
		queue_list(w->q, &(struct queue_selection){.state = -1}, (struct queue_place){0}, list_one, w);
	else if (is_domain_word(words[0]))
		change_domain(world_domain(w, words[1]), words[0], words);
	else
		operate(w, words[0], count > 1 ? words[1] : "");
	world_pump(w);
	world_check(w);
}

static void play(void **state)
{
	const struct scenario *s = *state;
	struct world *w = calloc(1, sizeof *w);
	char *script = strdup(s->script), *rest = script;

	world_init(w, 1);
	world_open(w);
	for (char *line; (line = strsep(&rest, "\n;")) != NULL;)
		play_line(w, line);
	if (getenv("SHOW") != NULL)
		printf("== %s\n%s", s->name, w->log);
	assert_string_equal(w->log, s->log);
	world_close(w);
	free(script);
	free(w);
}

int main(void)
{
	enum { COUNT = sizeof scenarios / sizeof scenarios[0] };
	struct CMUnitTest tests[COUNT];

	for (size_t n = 0; n < COUNT; n++)
		tests[n] = (struct CMUnitTest){
			.name = scenarios[n].name, .test_func = play, .initial_state = (void *)&scenarios[n]};
	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
