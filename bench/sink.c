// SPDX-License-Identifier: Apache-2.0
#include "bench/sink.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/sink_session.h"
#include "tls/tls.h"

#define EVENTS_MAX    256
#define WAIT_MS	      200
#define SCRATCH_BYTES (64u << 10)
#define PEM_BYTES_MAX (256 << 10)

struct sink_conn {
	int fd;
	struct tls *tls;
	bool is_secure, is_closing, is_over;
	struct sink_session session;
};

static struct sink {
	const struct options *options;
	struct tls_lib *lib;
	struct tls_server_set *set;
	int epoll, listener;
	uint64_t mails, bytes, connections, handshakes, failures;
	uint64_t first_us, last_us; /* of mails */
	uint8_t scratch[SCRATCH_BYTES];
} sink;

static volatile sig_atomic_t stop_asked;

void sink_stop(void)
{
	stop_asked = 1;
}

/* ---- a connection ---- */

static size_t io_read(void *user, uint8_t *to, size_t room)
{
	ssize_t n = recv(((struct sink_conn *)user)->fd, to, room, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		((struct sink_conn *)user)->is_over = true;
	return n > 0 ? (size_t)n : 0;
}

static size_t io_write(void *user, const uint8_t *from, size_t n)
{
	ssize_t sent = send(((struct sink_conn *)user)->fd, from, n, MSG_NOSIGNAL);
	return sent > 0 ? (size_t)sent : 0;
}

static void flush(struct sink_conn *c)
{
	struct sink_session *s = &c->session;
	if (c->is_secure && tls_has_output(c->tls))
		tls_flush(c->tls);
	while (s->out_length != 0) {
		size_t n = 0;
		if (c->is_secure)
			tls_write(c->tls, bytes_of(s->out, s->out_length), &n);
		else
			n = io_write(c, (const uint8_t *)s->out, s->out_length);
		if (n == 0)
			return;
		memmove(s->out, s->out + n, s->out_length - n);
		s->out_length = (uint16_t)(s->out_length - n);
	}
}

static void count(struct sink_conn *c)
{
	if (c->session.mails != 0) {
		sink.last_us = time_monotonic_us();
		if (sink.first_us == 0)
			sink.first_us = sink.last_us;
	}
	sink.mails += c->session.mails;
	sink.bytes += c->session.bytes;
	c->session.mails = c->session.bytes = 0;
}

static void on_event(struct sink_conn *c, enum sink_event event)
{
	if (event == SINK_QUIT)
		c->is_closing = true;
	if (event != SINK_STARTTLS)
		return;
	flush(c);
	c->tls = tls_open_server(sink.set, 0, (struct tls_io){io_read, io_write, c});
	c->is_over |= c->tls == NULL;
}

static size_t read_plain(struct sink_conn *c, uint8_t *to, size_t room)
{
	size_t n = 0;
	if (!c->is_secure)
		return io_read(c, to, room);
	enum tls_result result = tls_read(c->tls, to, room, &n);
	if (result == TLS_EOF || result == TLS_FAIL)
		c->is_over = true;
	return n;
}

/* A client that sends so many commands without reading replies that `out` stays full is let go. */
static void use(struct sink_conn *c, struct bytes in)
{
	enum sink_event event = SINK_NONE;
	while (in.n != 0 && event == SINK_NONE && !c->is_over) {
		size_t n = sink_feed(&c->session, in, &event);
		in = bytes_skip(in, n);
		on_event(c, event);
		flush(c);
		c->is_over |= n == 0;
	}
}

static bool shake_hands(struct sink_conn *c)
{
	enum tls_result result = tls_handshake(c->tls);
	if (result == TLS_OK) {
		c->is_secure = true;
		sink.handshakes++;
		sink_secured(&c->session);
	} else if (result != TLS_AGAIN && result != TLS_WAIT) {
		sink.failures++;
		c->is_over = true;
	}
	return result == TLS_OK;
}

static void run(struct sink_conn *c)
{
	for (;;) {
		if (c->is_over || c->is_closing)
			break;
		if (c->tls != NULL && !c->is_secure) {
			if (!shake_hands(c))
				break;
			continue;
		}
		flush(c);
		size_t n = read_plain(c, sink.scratch, sizeof sink.scratch);
		if (n == 0)
			break;
		use(c, bytes_of(sink.scratch, n));
		count(c);
	}
	flush(c);
}

static void close_conn(struct sink_conn *c)
{
	if (c->tls != NULL) {
		if (c->is_closing)
			tls_shutdown(c->tls);
		tls_close(c->tls);
	}
	close(c->fd);
	free(c);
}

static void accept_all(void)
{
	int fd, one = 1;
	while ((fd = accept4(sink.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct sink_conn *c = calloc(1, sizeof *c);
		struct epoll_event e = {
			.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
		if (c == NULL || epoll_ctl(sink.epoll, EPOLL_CTL_ADD, fd, &e) != 0) {
			close(fd);
			free(c);
			continue;
		}
		c->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		sink.connections++;
		sink_open(&c->session, sink.set != NULL);
		run(c);
	}
}

/* ---- the loop ---- */

static void print(uint64_t wall_us, uint64_t cpu_us)
{
	double span = (double)(sink.last_us - sink.first_us) / 1e6,
	       share = (double)cpu_us / (double)wall_us;
	double rate = span > 0 ? (double)sink.mails / span : 0;
	printf(sink.options->is_json
			? "{\"command\": \"sink\", \"mails\": %llu, \"bytes\": %llu, "
			  "\"connections\": %llu, "
			  "\"handshakes\": %llu, \"failed_handshakes\": %llu, \"seconds\": %.3f, "
			  "\"mails_per_second\": %.1f, \"busy_share\": %.4f}\n"
			: "sink: %llu mails, %llu bytes, %llu connections, %llu handshakes (%llu "
			  "failed), %.2f s from the "
			  "first mail to the last, %.0f mails per second, %.4f of a processor\n",
		(unsigned long long)sink.mails, (unsigned long long)sink.bytes,
		(unsigned long long)sink.connections, (unsigned long long)sink.handshakes,
		(unsigned long long)sink.failures, span, rate, share);
	fflush(stdout);
}

static void loop(void)
{
	struct epoll_event events[EVENTS_MAX];
	uint64_t began = time_monotonic_us(), cpu = time_read_us(CLOCK_THREAD_CPUTIME_ID);
	uint64_t end = began + (uint64_t)(sink.options->duration_s * 1e6);
	while (!stop_asked && time_monotonic_us() < end) {
		int n = epoll_wait(sink.epoll, events, EVENTS_MAX, WAIT_MS);
		for (int i = 0; i < n; i++) {
			struct sink_conn *c = events[i].data.ptr;
			if (c == NULL) {
				accept_all();
				continue;
			}
			run(c);
			if (c->is_over || (c->is_closing && c->session.out_length == 0))
				close_conn(c);
		}
	}
	print(time_monotonic_us() - began + 1, time_read_us(CLOCK_THREAD_CPUTIME_ID) - cpu);
}

/* ---- the making of it ---- */

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "hikyaku-bench: %s: %s\n", what, why);
	return EX_UNAVAILABLE;
}

static int make_tls(void)
{
	static uint8_t pem[PEM_BYTES_MAX];
	const struct tls_profile profile = {
		.id = "sink", .level = TLS_LEVEL_MAY, .protocol_lowest = TLS_1_2};
	struct tls_error error;
	FILE *f = fopen(sink.options->certificate, "r");
	if (f == NULL)
		return fail(sink.options->certificate, strerror(errno));
	size_t n = fread(pem, 1, sizeof pem, f);
	fclose(f);
	const struct tls_key_pair pair = {bytes_of(pem, n), bytes_of(pem, n)};
	const struct tls_server_set_config config = {
		.pairs = &pair, .pair_count = 1, .profiles = &profile, .profile_count = 1};
	sink.lib = tls_lib_create();
	sink.set = sink.lib == NULL ? NULL : tls_server_set_create(sink.lib, &config, &error);
	return sink.set != NULL
		? 0
		: fail(sink.options->certificate, sink.lib == NULL ? "no memory" : error.text);
}

static int listen_on(const struct options *o)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *found;
	struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
	int one = 1, rc = getaddrinfo(o->host, o->port, &hints, &found);
	if (rc != 0)
		return fail(o->host, gai_strerror(rc));
	sink.listener = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(sink.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	rc = bind(sink.listener, found->ai_addr, found->ai_addrlen) != 0 ||
		listen(sink.listener, 1024) != 0;
	freeaddrinfo(found);
	sink.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (rc != 0 || sink.epoll < 0 ||
		epoll_ctl(sink.epoll, EPOLL_CTL_ADD, sink.listener, &e) != 0)
		return fail("cannot listen", strerror(errno));
	return 0;
}

int sink_run(const struct options *o)
{
	sink.options = o;
	int rc = o->certificate[0] != '\0' ? make_tls() : 0;
	if (rc == 0)
		rc = listen_on(o);
	if (rc != 0)
		return rc;
	loop();
	close(sink.listener);
	close(sink.epoll);
	return EX_OK;
}
