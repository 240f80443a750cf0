// SPDX-License-Identifier: Apache-2.0
/* control/daemon/main.c: hikyaku-control: the store, the relays' link, the resolver, the API. It
 * may block. */
#include "control/daemon/control.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"

#define TURN_MS 200

static volatile sig_atomic_t stop_signals, hup_signals;

static void on_signal(int number)
{
	if (number == SIGHUP)
		hup_signals++;
	else
		stop_signals++;
}

/* Keys are in this memory: it leaves no core file and lets nobody attach. */
static void guard_memory(void)
{
	const struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
}

static void tell_reopen(struct control *c)
{
	static const char request[] =
		"{\"type\":\"request\",\"token\":0,\"op\":\"records.reopen\"}";
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		if (c->relays[i].fd >= 0)
			link_send(c->relays[i].fd, bytes_of(request, sizeof request - 1), NULL, 0);
}

static void turn(struct control *c)
{
	struct pollfd polls[CONTROL_RELAYS_MAX + 2];
	polls[0] = (struct pollfd){.fd = c->listen_fd, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = resolver_fd(c->resolver), .events = POLLIN};
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		polls[2 + i] = (struct pollfd){.fd = c->relays[i].fd, .events = POLLIN};
	pthread_mutex_unlock(&c->lock);
	int n = poll(polls, CONTROL_RELAYS_MAX + 2, TURN_MS);
	pthread_mutex_lock(&c->lock);
	for (int i = 0; n > 0 && i < CONTROL_RELAYS_MAX; i++)
		if (polls[2 + i].revents != 0 && polls[2 + i].fd == c->relays[i].fd)
			relays_receive(c, i);
	resolver_process(c->resolver);
	tickets_rotate(c);
	if (n > 0 && polls[0].revents != 0)
		relays_accept(c);
	static sig_atomic_t hups;
	if (hups != hup_signals) {
		hups = hup_signals;
		tell_reopen(c);
	}
	pthread_mutex_unlock(&c->lock);
}

/* Nothing waits for it any more; a leak would be one of ours. */
static void fini(struct control *c)
{
	close(c->listen_fd);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		if (c->relays[i].fd >= 0)
			close(c->relays[i].fd);
		if (c->relays[i].stats != NULL)
			stats_unmap(c->relays[i].stats);
	}
	policy_unmap(c->policy);
	close(c->policy_fd);
	close(c->keys_fd);
	if (c->tickets_fd >= 0)
		close(c->tickets_fd);
}

/* Before anything is made that has to be removed: whoever sees a socket of ours may end us. */
static void catch_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int fail(const char *what, const char *error)
{
	log_error("control", what, "error=\"%s\"", error);
	return EX_CONFIG;
}

static void set_log_level(const char *word)
{
	static const char *const words[] = {"error", "warn", "info", "debug"}; /* enum log_level */
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i], word) == 0)
			log_set_level((enum log_level)i);
}

static int control_main(const struct config *config, const char *path)
{
	static struct control c = {.policy_fd = -1, .keys_fd = -1, .tickets_fd = -1};
	char error[512] = "";
	struct api *api;
	c.config = config;
	c.config_path = path;
	c.started_us = time_monotonic_us();
	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.changed, NULL);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		c.relays[i].fd = -1;
	guard_memory();
	set_log_level(config->log.level);
	catch_signals();
	if (store_open(config->paths.store, &c.store, error) < 0 || publish_start(&c, error) < 0)
		return fail("cannot start with what is stored", error);
	c.resolver = resolver_create(&c, error);
	if (c.resolver == NULL)
		return fail("cannot resolve names", error);
	c.listen_fd = link_listen(config->paths.control_socket);
	if (c.listen_fd < 0)
		return fail("cannot listen for relays (paths.control_socket)",
			c.listen_fd == -EADDRINUSE ? "another hikyaku-control is running there"
						   : strerror(-c.listen_fd));
	if (api_start(&c, &api, error) < 0)
		return fail("cannot serve the API (paths.api_socket)", error);
	log_info("control", "running", "generation=%llu api=%s", (unsigned long long)c.generation,
		config->paths.api_socket);
	sd_notify(0, "READY=1");
	while (stop_signals == 0)
		turn(&c);
	pthread_mutex_lock(&c.lock);
	atomic_store(&c.is_stopping, true);
	pthread_cond_broadcast(&c.changed); /* nobody waits for relays any more */
	pthread_mutex_unlock(&c.lock);
	api_stop(api);
	resolver_destroy(c.resolver);
	store_close(c.store);
	fini(&c);
	unlink(config->paths.control_socket);
	unlink(config->paths.api_socket);
	log_info("control", "stopped", "");
	return EX_OK;
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: hikyaku-control [--config FILE]\n"
		"The control plane of a Hikyaku node: policies, certificates, names, and the API "
		"of hikyakuctl.\n"
		"  --config FILE  start-time configuration (default %s)\n"
		"  --check        only checks the configuration\n"
		"  --version      says which version this is\n",
		CONFIG_PATH_DEFAULT);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config",	   required_argument, NULL, 'c'},
		  {"check",	    no_argument, NULL, 'k'},
		{"help",		 no_argument, NULL, 'h'},
		  {"version",no_argument, NULL, 'V'},
		       {0	 }
	  };
	const char *path = CONFIG_PATH_DEFAULT;
	bool only_check = false;
	struct config *config;
	char error[512];
	for (int o; (o = getopt_long(argc, argv, "c:khV", options, NULL)) != -1;) {
		switch (o) {
		case 'c': path = optarg; break;
		case 'k': only_check = true; break;
		case 'h': usage(stdout); return EX_OK;
		case 'V': puts("hikyaku-control " HIKYAKU_VERSION); return EX_OK;
		default: usage(stderr); return EX_USAGE;
		}
	}
	if (config_load(path, &config, error) < 0) {
		fprintf(stderr, "hikyaku-control: %s\n", error);
		return EX_CONFIG;
	}
	int rc = EX_OK;
	if (only_check)
		printf("%s: ok\n", path);
	else
		rc = control_main(config, path);
	config_free(config);
	return rc;
}
