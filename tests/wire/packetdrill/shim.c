// SPDX-License-Identifier: Apache-2.0
/* tests/wire/packetdrill/shim.c: virtual time and the network side of the table, and its making. */
#include "tests/wire/packetdrill/shim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dataplane/tcp/tcp_kit.h"

#define START_US     1000000000ull
#define STEP_US	     1000u		/* of waiting for a packet, where no timer says when */
#define SILENCE_US   (3600ull * 1000000) /* a packet awaited for so long never comes; packetdrill would wait for ever */
#define DEAD_SECONDS 10			/* real ones: a blocking call that nobody will wake */

/* ---- lock and time ---- */

void shim_lock(struct shim *s)
{
	pthread_mutex_lock(&s->lock);
}

void shim_unlock(struct shim *s)
{
	pthread_mutex_unlock(&s->lock);
}

void shim_changed(struct shim *s)
{
	tcp_output(s->tcp, s->now_us);
	sockets_take_events(s);
	tcp_output(s->tcp, s->now_us); /* taking them may have made segments */
	s->changes++;
	pthread_cond_broadcast(&s->changed);
}

bool shim_wait(struct shim *s)
{
	struct timespec until;
	const uint64_t seen = s->changes;
	int err = 0;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DEAD_SECONDS;
	s->waiting++;
	while (s->changes == seen && err == 0)
		err = pthread_cond_timedwait(&s->changed, &s->lock, &until);
	s->waiting--;
	return err == 0;
}

/* The other thread's turn, if it waits: it should see what is there now before time moves on. */
static void let_others_look(struct shim *s)
{
	const struct timespec little = {.tv_nsec = 50000};
	if (s->waiting == 0)
		return;
	shim_unlock(s);
	nanosleep(&little, NULL);
	shim_lock(s);
}

/* Moves to the next thing that is due, `end` at the latest. */
static void step(struct shim *s, uint64_t end)
{
	uint64_t due = tcp_next_due_us(s->tcp);
	if (due <= s->now_us) /* segments wait to be taken */
		due = s->now_us + STEP_US;
	s->now_us = due < end ? due : end;
	tcp_tick(s->tcp, s->now_us);
	shim_changed(s);
}

/* Lets virtual time pass, timers and all. */
static void advance(struct shim *s, uint64_t us)
{
	const uint64_t end = s->now_us + us;
	do
		step(s, end);
	while (s->now_us < end);
}

/* ---- the table's calls ---- */

static int shim_usleep(void *userdata, useconds_t us)
{
	struct shim *s = userdata;
	shim_lock(s);
	let_others_look(s);
	advance(s, us);
	shim_unlock(s);
	return 0;
}

/* packetdrill spins on this for the last microseconds before an event: each look takes one. */
static int shim_gettimeofday(void *userdata, struct timeval *tv, struct timezone *tz)
{
	struct shim *s = userdata;
	shim_lock(s);
	advance(s, 1);
	*tv = (struct timeval){.tv_sec = (time_t)(s->now_us / 1000000), .tv_usec = (suseconds_t)(s->now_us % 1000000)};
	shim_unlock(s);
	return 0;
}

static int shim_netdev_send(void *userdata, const void *packet, size_t n)
{
	struct shim *s = userdata;
	shim_lock(s);
	const int result = ip_in(s, packet, n);
	s->silent_us = 0;
	shim_changed(s);
	let_others_look(s);
	shim_unlock(s);
	return result;
}

static size_t take_packet(struct shim *s, void *packet, size_t room)
{
	struct tcp_departure d;
	size_t n = 0;
	if (tcp_take(s->tcp, &d, 1) == 0)
		return 0;
	n = ip_out(&d, packet, room);
	rte_pktmbuf_free(d.m);
	return n;
}

static int shim_netdev_receive(void *userdata, void *packet, size_t *count, long long *time_usecs)
{
	struct shim *s = userdata;
	const size_t room = *count;
	shim_lock(s);
	*count = take_packet(s, packet, room);
	if (*count == 0) {
		let_others_look(s);
		step(s, s->now_us + STEP_US);
		*count = take_packet(s, packet, room);
	}
	*time_usecs = (long long)s->now_us;
	s->silent_us = *count != 0 ? 0 : s->silent_us + STEP_US;
	if (s->silent_us > SILENCE_US) {
		fprintf(stderr, "hikyaku: a packet is awaited that never comes\n");
		_exit(1);
	}
	shim_unlock(s);
	return 0;
}

static void shim_free(void *userdata)
{
	struct shim *s = userdata;
	shim_lock(s);
	sockets_end(s);
	tcp_stack_destroy(s->tcp);
	rte_mempool_free(s->pool);
	rte_mempool_free(s->control_pool);
	shim_unlock(s);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static int shim_pipe(void *userdata, int fds[2])
{
	errno = ENOSYS;
	return -1;
}

static int shim_splice(void *userdata, int in, off_t *in_at, int out, off_t *out_at, size_t n, unsigned flags)
{
	errno = ENOSYS;
	return -1;
}

/* ---- making it ---- */

static bool is_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu_of(void *user, const struct addr *l, const struct addr *r)
{
	return ((struct shim *)user)->mtu;
}

[[noreturn]] static void refuse(const char *what)
{
	fprintf(stderr, "hikyaku: --so_flags: %s\n", what);
	exit(1);
}

static void read_flag(struct shim *s, struct tcp_config *config, const char *name, const char *value)
{
	const unsigned long number = strtoul(value, NULL, 0);
	if (strcmp(name, "local") == 0) {
		struct addr a;
		if (!addr_parse(value, &a))
			refuse("local= takes an address");
		*(addr_is_ipv4(&a) ? &s->local4 : &s->local6) = a;
	} else if (strcmp(name, "mtu") == 0) {
		s->mtu = (uint16_t)number;
	} else if (strcmp(name, "receive") == 0) {
		config->receive_bytes_max = (uint32_t)number;
	} else if (strcmp(name, "send") == 0) {
		config->send_bytes_max = (uint32_t)number;
	} else {
		refuse("known are local=ADDRESS mtu=N receive=BYTES send=BYTES");
	}
}

static void read_flags(struct shim *s, struct tcp_config *config, const char *flags)
{
	char *copy = strdup(flags == NULL ? "" : flags), *rest;
	for (char *word = strtok_r(copy, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
		char *value = strchr(word, '=');
		if (value == NULL)
			refuse("a flag is name=value");
		*value = '\0';
		read_flag(s, config, word, value + 1);
	}
	free(copy);
}

static struct shim *make(const char *flags)
{
	static unsigned made;
	struct shim *s = calloc(1, sizeof *s);
	char names[2][32];
	if (s == NULL)
		refuse("no memory");
	if (made++ == 0)
		kit_start();
	snprintf(names[0], sizeof names[0], "data%u", made);
	snprintf(names[1], sizeof names[1], "control%u", made);
	s->pool = kit_pool(names[0], 4095);
	s->control_pool = kit_pool(names[1], 1023);
	s->now_us = START_US;
	s->mtu = 1500;
	addr_parse("192.0.2.1", &s->local4);
	addr_parse("2001:db8::1", &s->local6);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	struct tcp_config config = {
		.connections_max = FDS_MAX,
		.half_open_max = FDS_MAX,
		.time_wait_max = FDS_MAX,
		.receive_bytes_max = 1 << 20,
		.send_bytes_max = 1 << 20,
		.buffer_bytes_max = 16 << 20,
		.pool = s->pool,
		.control_pool = s->control_pool,
		.secret = {5, 6, 7},
		.is_ours = is_ours,
		.mtu = mtu_of,
		.user = s,
	};
	read_flags(s, &config, flags);
	s->tcp = tcp_stack_create(&config, s->now_us);
	if (s->tcp == NULL)
		refuse("no stack with these");
	return s;
}

void packetdrill_interface_init(const char *flags, struct packetdrill_table *table)
{
	*table = (struct packetdrill_table){
		.userdata = make(flags),
		.free = shim_free,
		.netdev_send = shim_netdev_send,
		.netdev_receive = shim_netdev_receive,
		.usleep = shim_usleep,
		.gettimeofday = shim_gettimeofday,
		.pipe = shim_pipe,
		.splice = shim_splice,
	};
	sockets_fill(table);
	readiness_fill(table);
	options_fill(table);
}
