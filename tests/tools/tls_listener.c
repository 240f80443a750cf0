// SPDX-License-Identifier: Apache-2.0
/* tests/tools/tls_listener.c: our tls/ over the kernel's sockets, so that what tests TLS by HTTP can be pointed at it.
 *
 * Any request is answered with `HTTP/1.0 200 OK` and a short text, then the connection is closed as TLS wants it. Many
 * connections are served at once by one thread, so that handshakes meet in batches where the back end makes some. The
 * certificates are made at the start. Bounded in connections and in time: it ends by itself. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "tls/lab.h"

#define BURST		    64 /* events of one epoll_wait */
#define REQUEST_BYTES_MAX   (1 << 20)
#define LINGER_US	    (2 * USEC_PER_SEC) /* for the peer's end after ours */
#define LOOK_MS		    100 /* between looks for connections whose time is over */

enum phase {
	SHAKING, /* the handshake is not done */
	ASKED,	 /* waiting for the end of a request */
	ANSWERING, /* what is not sent yet of the answer and of our close_notify */
	LINGERING, /* our end is closed: what comes is thrown away until the peer's is, too */
};

struct listener;

struct connection {
	struct connection *next, **at; /* its place in the list of all */
	struct listener *listener;
	struct tls *tls;
	int fd;
	enum phase phase;
	bool is_over;	 /* the peer's end is closed, or the connection broken */
	bool is_called;	 /* its operation is done */
	struct connection *next_called;
	uint32_t blank;	 /* line ends in a row, as the request has come so far */
	uint32_t asked;	 /* bytes of request */
	uint64_t due_us; /* when it is cut */
};

/* What happened, as it is printed at the end. */
#define COUNTS(_)                                                                                  \
	_(connections)                                                                             \
	_(handshakes)                                                                              \
	_(resumed)                                                                                 \
	_(requests)                                                                                \
	_(failures) /* of the handshake or of TLS after it */                                      \
	_(timeouts)                                                                                \
	_(refused) /* above the most at once */                                                    \
	_(most_at_once)

struct settings {
	const char *address, *certificate, *ca_out, *engine;
	uint64_t algorithms; /* of the engine */
	enum tls_backend backend;
	uint64_t port, connections, at_once, seconds, timeout_seconds;
	bool is_verbose;
	struct tls_profile profile;
};

struct listener {
	struct settings settings;
	struct tls_lib *lib;
	struct tls_server_set *set;
	struct connection *first, *first_called;
	uint64_t open;
	int epoll, socket; /* socket: -1 when no more come */
#define _(name) uint64_t name;
	COUNTS(_)
#undef _
};

static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
	is_stopped = 1;
}

/* ---- bytes ---- */

static size_t socket_read(void *user, uint8_t *to, size_t room)
{
	struct connection *c = user;
	ssize_t n = recv(c->fd, to, room, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		c->is_over = true;
	return n < 0 ? 0 : (size_t)n;
}

static size_t socket_write(void *user, const uint8_t *from, size_t n)
{
	struct connection *c = user;
	ssize_t sent = send(c->fd, from, n, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		c->is_over = true;
	return sent < 0 ? 0 : (size_t)sent;
}

/* From within tls_lib_poll(). */
static void call(void *user)
{
	struct connection *c = user;
	c->is_called = true;
	c->next_called = c->listener->first_called;
	c->listener->first_called = c;
}

/* ---- one connection ---- */

static void forget_call(struct connection *c)
{
	struct connection **at = &c->listener->first_called;
	while (*at != c)
		at = &(*at)->next_called;
	*at = c->next_called;
}

static void connection_close(struct connection *c)
{
	if (c->is_called)
		forget_call(c);
	*c->at = c->next;
	if (c->next != NULL)
		c->next->at = c->at;
	c->listener->open--;
	tls_close(c->tls);
	close(c->fd); /* epoll forgets it */
	free(c);
}

static void note_failure(struct connection *c)
{
	const char *why;
	tls_failure(c->tls, &why);
	c->listener->failures++;
	if (c->listener->settings.is_verbose)
		fprintf(stderr, "tls_listener: %s\n", why);
	c->phase = ANSWERING; /* the alert */
}

static void note_handshake(struct connection *c)
{
	struct tls_verdict v;
	tls_get_verdict(c->tls, &v);
	c->listener->handshakes++;
	c->listener->resumed += v.is_resumed;
	if (c->listener->settings.is_verbose)
		fprintf(stderr, "tls_listener: %s %s %s%s\n", tls_protocol_name(v.protocol),
			v.cipher, v.group, v.is_resumed ? " resumed" : "");
	c->phase = ASKED;
}

static void shake(struct connection *c)
{
	switch (tls_handshake(c->tls)) {
	case TLS_OK: note_handshake(c); break;
	case TLS_FAIL: note_failure(c); break;
	default: break;
	}
}

/* A request ends with an empty line (RFC 9112 2.1); true: it has. */
static bool is_asked(struct connection *c, struct bytes in)
{
	for (size_t i = 0; i < in.n && c->blank < 2; i++)
		if (in.at[i] == '\n')
			c->blank++;
		else if (in.at[i] != '\r')
			c->blank = 0;
	c->asked += (uint32_t)in.n;
	return c->blank == 2 || c->asked > REQUEST_BYTES_MAX;
}

static void answer(struct connection *c)
{
	static const char text[] = "HTTP/1.0 200 OK\r\n"
				   "Content-Type: text/plain\r\n"
				   "Content-Length: 9\r\n"
				   "Connection: close\r\n"
				   "\r\n"
				   "It works\n";
	size_t n;
	c->listener->requests++;
	/* A session takes a whole record, whatever room the socket has. */
	if (tls_write(c->tls, bytes_of_string(text), &n) == TLS_FAIL)
		note_failure(c);
	tls_shutdown(c->tls);
	c->phase = ANSWERING;
}

static void hear(struct connection *c)
{
	uint8_t in[4096];
	size_t n;
	while (c->phase == ASKED)
		switch (tls_read(c->tls, in, sizeof in, &n)) {
		case TLS_OK:
			if (is_asked(c, bytes_of(in, n)))
				answer(c);
			break;
		case TLS_EOF:
			tls_shutdown(c->tls);
			c->phase = ANSWERING;
			break;
		case TLS_FAIL: note_failure(c); break;
		default: return;
		}
}

static void linger(struct connection *c)
{
	uint8_t in[4096];
	while (!c->is_over && socket_read(c, in, sizeof in) != 0)
		;
}

static void connection_turn(struct connection *c)
{
	if (c->phase == SHAKING)
		shake(c);
	if (c->phase == ASKED)
		hear(c);
	tls_flush(c->tls);
	if (c->phase == ANSWERING && !tls_has_output(c->tls)) {
		shutdown(c->fd, SHUT_WR);
		c->phase = LINGERING;
		c->due_us = time_monotonic_us() + LINGER_US;
	}
	if (c->phase == LINGERING)
		linger(c);
	if (c->is_over)
		connection_close(c);
}

/* ---- all of them ---- */

static bool adopt(struct listener *l, int fd)
{
	struct connection *c = calloc(1, sizeof *c);
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
	if (c == NULL)
		return false;
	*c = (struct connection){.next = l->first, .at = &l->first, .listener = l, .fd = fd};
	c->due_us = time_monotonic_us() + l->settings.timeout_seconds * USEC_PER_SEC;
	c->tls = tls_open_server(l->set, 0, (struct tls_io){socket_read, socket_write, c, call});
	if (c->tls == NULL || epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		tls_close(c->tls);
		free(c);
		return false;
	}
	l->first = c;
	if (c->next != NULL)
		c->next->at = &c->next;
	l->open++;
	l->most_at_once = l->open > l->most_at_once ? l->open : l->most_at_once;
	return true;
}

static void stop_listening(struct listener *l)
{
	if (l->socket >= 0)
		close(l->socket);
	l->socket = -1;
}

static void take(struct listener *l)
{
	int fd;
	while (l->socket >= 0 && (fd = accept4(l->socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		l->connections++;
		if (l->open >= l->settings.at_once || !adopt(l, fd)) {
			l->refused++;
			close(fd);
		}
		if (l->connections >= l->settings.connections)
			stop_listening(l);
	}
}

static void cut_late(struct listener *l, uint64_t now_us)
{
	for (struct connection *c = l->first, *next; c != NULL; c = next) {
		next = c->next;
		if (c->due_us > now_us)
			continue;
		l->timeouts += c->phase != LINGERING;
		connection_close(c);
	}
}

static bool turn_called(struct listener *l)
{
	bool any = false;
	for (struct connection *c; (c = l->first_called) != NULL; any = true) {
		l->first_called = c->next_called;
		c->is_called = false;
		connection_turn(c);
	}
	return any;
}

/* What waits for company is done when none is in sight: no event, and nobody called. */
static void serve(struct listener *l)
{
	struct epoll_event events[BURST];
	int n = epoll_wait(l->epoll, events, BURST, tls_lib_waiting(l->lib) != 0 ? 0 : LOOK_MS);
	for (int i = 0; i < n; i++)
		if (events[i].data.ptr == NULL)
			take(l);
		else
			connection_turn(events[i].data.ptr);
	bool any = n > 0;
	any |= turn_called(l);
	tls_lib_poll(l->lib, time_monotonic_us() * NSEC_PER_USEC, !any);
	turn_called(l);
}

static void run(struct listener *l)
{
	uint64_t end_us = time_monotonic_us() + l->settings.seconds * USEC_PER_SEC, look_us = 0;
	while (!is_stopped && (l->socket >= 0 || l->open != 0)) {
		serve(l);
		uint64_t now_us = time_monotonic_us();
		if (now_us >= look_us) {
			cut_late(l, now_us);
			look_us = now_us + LOOK_MS * USEC_PER_MSEC;
		}
		if (now_us >= end_us)
			break;
	}
	while (l->first != NULL)
		connection_close(l->first);
}

/* ---- start and end ---- */

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "tls_listener: %s: %s\n", what, why);
	return EX_UNAVAILABLE;
}

/* The certificate's own authority, for clients that look. */
static bool write_ca(const struct lab_cert *ca, const char *path)
{
	if (path == NULL)
		return true;
	struct bytes pem = lab_certs_pem(&ca, 1);
	FILE *file = fopen(path, "w");
	bool ok = file != NULL && fwrite(pem.at, 1, pem.n, file) == pem.n;
	ok = file != NULL && fclose(file) == 0 && ok;
	free((void *)pem.at);
	return ok;
}

static bool has_backend(struct listener *l, struct tls_error *error)
{
	const struct tls_crypto_config engine = {l->settings.engine, (uint32_t)l->settings.algorithms,
		(uint32_t)l->settings.algorithms};
	if (l->settings.backend == TLS_BACKEND_ENGINE && !tls_crypto_start(&engine, error))
		return false;
	const char *why = tls_backend_unusable(l->lib, l->settings.backend);
	if (why != NULL)
		snprintf(error->text, sizeof error->text, "%s", why);
	return why == NULL;
}

static bool make_set(struct listener *l, struct tls_error *error)
{
	static const struct {
		const char *word;
		enum lab_key key;
	} kinds[] = {
		{"ecdsa", LAB_ECDSA},
		  {"rsa",	  LAB_RSA  }
	};
	l->lib = tls_lib_create();
	struct lab_cert ca = lab_cert_make((struct lab_spec){"tls_listener CA", .is_ca = true});
	struct tls_key_pair pairs[2];
	size_t count = 0;
	for (size_t i = 0; i < 2; i++) {
		const char *which = l->settings.certificate;
		if (strcmp(which, "both") != 0 && strcmp(which, kinds[i].word) != 0)
			continue;
		struct lab_cert leaf = lab_cert_make((struct lab_spec){"localhost",
			"DNS:localhost,DNS:listener.example.test,IP:127.0.0.1,IP:::1", &ca, kinds[i].key});
		pairs[count++] = lab_pair((const struct lab_cert *const[]){&leaf}, 1);
		lab_cert_free(&leaf);
	}
	struct tls_server_set_config config = {
		pairs, count, &l->settings.profile, 1, .backend = l->settings.backend};
	if (l->lib != NULL && has_backend(l, error))
		l->set = tls_server_set_create(l->lib, &config, error);
	while (count != 0)
		lab_pair_free(&pairs[--count]);
	bool is_written = write_ca(&ca, l->settings.ca_out);
	if (!is_written)
		snprintf(error->text, sizeof error->text, "cannot write %s", l->settings.ca_out);
	lab_cert_free(&ca);
	return l->set != NULL && is_written;
}

static int open_socket(const struct settings *s)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)s->port)};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
	bool is_v4 = inet_pton(AF_INET, s->address, &v4.sin_addr) == 1;
	if (!is_v4 && inet_pton(AF_INET6, s->address, &v6.sin6_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	const struct sockaddr *at = is_v4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
	int fd = socket(at->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (bind(fd, at, is_v4 ? sizeof v4 : sizeof v6) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	close(fd);
	return -1;
}

/* One line that scripts read to learn the port. */
static void print_port(const struct listener *l)
{
	struct sockaddr_in6 at; /* the port is at the same place in both families */
	socklen_t n = sizeof at;
	getsockname(l->socket, (struct sockaddr *)&at, &n);
	printf("listening on port %u\n", ntohs(at.sin6_port));
	fflush(stdout);
}

static void print_counts(const struct listener *l)
{
	const char *between = "{";
#define _(name)                                                                                    \
	printf("%s\"" #name "\":%llu", between, (unsigned long long)l->name);                      \
	between = ",";
	COUNTS(_)
#undef _
	printf("}\n");
}

static void usage(FILE *to)
{
	fputs("usage: tls_listener [OPTION]...\n"
	      "Answers any HTTP request over our TLS with 200 OK; ends by itself, with its counts as JSON.\n"
	      "  --address ADDRESS   where to listen (127.0.0.1)\n"
	      "  --port N            0: a free one, which is printed (0)\n"
	      "  --certificate KIND  ecdsa, rsa or both (both); made at the start\n"
	      "  --ca-out FILE       writes their authority's certificate, PEM\n"
	      "  --backend NAME      inline, mb or engine (inline)\n"
	      "  --engine NAME       of OpenSSL's folder, or a file (qatengine)\n"
	      "  --algorithms N      that it does, qatengine's bits (33: RSA and X25519)\n"
	      "  --grade GRADE       medium, high or modern (high)\n"
	      "  --lowest VERSION    TLSv1.0 to TLSv1.3 (TLSv1.2)\n"
	      "  --highest VERSION   (TLSv1.3)\n"
	      "  --groups LIST       as OpenSSL names them (X25519MLKEM768:X25519:P-256:P-384)\n"
	      "  --connections N     after so many no more are taken (100000)\n"
	      "  --at-once N         above it they are closed at once (4096)\n"
	      "  --seconds N         ends after this time (600)\n"
	      "  --timeout N         seconds for a connection (10)\n"
	      "  --verbose           a line for each handshake and failure, on stderr\n",
		to);
}

/* ---- the command line ---- */

enum {
	PORT,
	CONNECTIONS,
	AT_ONCE,
	SECONDS,
	ALGORITHMS,
	TIMEOUT, /* the last of the numbers */
	ADDRESS,
	CERTIFICATE,
	CA_OUT,
	BACKEND,
	ENGINE_NAME,
	GRADE,
	LOWEST,
	HIGHEST,
	GROUPS,
	VERBOSE,
	HELP,
};
static const struct option long_options[] = {{"port", 1, NULL, PORT},
	{"connections", 1, NULL, CONNECTIONS}, {"at-once", 1, NULL, AT_ONCE},
	{"seconds", 1, NULL, SECONDS}, {"timeout", 1, NULL, TIMEOUT},
	{"address", 1, NULL, ADDRESS}, {"certificate", 1, NULL, CERTIFICATE},
	{"ca-out", 1, NULL, CA_OUT},
	{"backend", 1, NULL, BACKEND}, {"engine", 1, NULL, ENGINE_NAME}, {"algorithms", 1, NULL, ALGORITHMS}, {"grade", 1, NULL, GRADE}, {"lowest", 1, NULL, LOWEST},
	{"highest", 1, NULL, HIGHEST}, {"groups", 1, NULL, GROUPS},
	{"verbose", 0, NULL, VERBOSE}, {"help", 0, NULL, HELP}, {0}};

static bool is_number(const char *text, uint64_t most, uint64_t *number)
{
	char *end;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && *number <= most;
}

static bool is_protocol(const char *text, uint16_t *protocol)
{
	for (*protocol = TLS_1_0; *protocol <= TLS_1_3; ++*protocol)
		if (strcmp(text, tls_protocol_name(*protocol)) == 0)
			return true;
	return false;
}

static bool is_grade(const char *text, uint8_t *grade)
{
	for (*grade = 0; *grade <= TLS_GRADE_MODERN; ++*grade)
		if (strcmp(text, tls_grade_name(*grade)) == 0)
			return true;
	return false;
}

static bool is_backend(const char *text, enum tls_backend *backend)
{
	for (*backend = TLS_BACKEND_INLINE; *backend <= TLS_BACKEND_ENGINE; ++*backend)
		if (strcmp(text, tls_backend_name(*backend)) == 0)
			return true;
	return false;
}

static bool is_certificate(const char *text)
{
	return strcmp(text, "ecdsa") == 0 || strcmp(text, "rsa") == 0 || strcmp(text, "both") == 0;
}

static bool set_number(struct settings *s, int option, const char *text)
{
	uint64_t *const at[] = {[PORT] = &s->port,
		[CONNECTIONS] = &s->connections,
		[AT_ONCE] = &s->at_once,
		[SECONDS] = &s->seconds,
		[ALGORITHMS] = &s->algorithms,
		[TIMEOUT] = &s->timeout_seconds};
	return is_number(text, option == PORT ? UINT16_MAX : 1000000000, at[option]);
}

static bool set_text(struct settings *s, int option, const char *text)
{
	switch (option) {
	case ADDRESS: s->address = text; return true;
	case CERTIFICATE: s->certificate = text; return is_certificate(text);
	case CA_OUT: s->ca_out = text; return true;
	case BACKEND: return is_backend(text, &s->backend);
	case ENGINE_NAME: s->engine = text; return true;
	case GRADE: return is_grade(text, &s->profile.grade);
	case LOWEST: return is_protocol(text, &s->profile.protocol_lowest);
	case HIGHEST: return is_protocol(text, &s->profile.protocol_highest);
	case GROUPS: return bytes_to_string(bytes_of_string(text), s->profile.groups, TLS_GROUPS_MAX);
	default: s->is_verbose = true; return true;
	}
}

static bool read_command_line(struct settings *s, int argc, char **argv)
{
	for (int o; (o = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		if (o == HELP) {
			usage(stdout);
			exit(EX_OK);
		}
		if (o == '?')
			return false;
		if (!(o <= TIMEOUT ? set_number(s, o, optarg) : set_text(s, o, optarg))) {
			fprintf(stderr, "tls_listener: '%s' is no such value\n", optarg);
			return false;
		}
	}
	return optind == argc;
}

static int start(struct listener *l)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct tls_error error = {""};
	if (!make_set(l, &error))
		return fail("TLS", error.text);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->socket = open_socket(&l->settings);
	if (l->socket < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->socket, &event) < 0)
		return fail(l->settings.address, strerror(errno));
	print_port(l);
	run(l);
	stop_listening(l);
	print_counts(l);
	return EX_OK;
}

int main(int argc, char **argv)
{
	struct listener l = {.epoll = -1, .socket = -1};
	l.settings = (struct settings){.address = "127.0.0.1",
		.certificate = "both",
		.engine = "qatengine",
		.algorithms = TLS_CRYPTO_ALGORITHMS_DEFAULT,
		.connections = 100000,
		.at_once = 4096,
		.seconds = 600,
		.timeout_seconds = 10,
		.profile = {.id = "listener", .level = TLS_LEVEL_MAY, .grade = TLS_GRADE_HIGH}};
	if (!read_command_line(&l.settings, argc, argv)) {
		usage(stderr);
		return EX_USAGE;
	}
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	int code = start(&l);
	stop_listening(&l);
	if (l.epoll >= 0)
		close(l.epoll);
	if (l.set != NULL)
		tls_server_set_put(l.set);
	tls_crypto_stop();
	tls_lib_destroy(l.lib);
	return code;
}
