// SPDX-License-Identifier: Apache-2.0
#include "bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/client.h"
#include "tls/profile.h"

/* One table: the option, what its value looks like, what it does. Help and getopt_long grow from
 * it. */
#define OPTIONS(_)                                                                                 \
	_(MEMIF, "memif", "SOCKET",                                                                \
		"the relay's memif socket; we are its client, in a process of our own")            \
	_(SERVER, "server", "ADDR[:PORT]",                                                         \
		"over memif: where to (default 192.0.2.25, port 25 or 465)")                       \
	_(ADDRESS, "address", "ADDR/BITS",                                                         \
		"over memif: our first address (default: some of 192.0.2.100 to .243)")            \
	_(ADDRESSES, "addresses", "N",                                                             \
		"over memif: how many from there on (default 8, at most 64)")                      \
	_(KERNEL, "kernel", "HOST:PORT", "over kernel sockets instead; sink: where to listen")     \
	_(NO_HUGE, "no-huge", NULL, "over memif: without hugepages")                               \
	_(MEMORY, "memory", "MB", "over memif: packet memory (default 256)")                       \
	_(SLEEP, "sleep", "US",                                                                    \
		"over memif: longest sleep of an idle turn (default 50; 0: never sleep)")          \
	_(IMPLICIT, "implicit-tls", NULL, "TLS from the first byte")                               \
	_(CLEAR, "clear", NULL, "no TLS (else: STARTTLS)")                                         \
	_(TLS, "tls", "1.2|1.3", "the highest protocol offered")                                   \
	_(CLIENT, "client", "lean|openssl", "whose TLS, see below (default lean)")                 \
	_(GROUPS, "groups", "LIST", "key exchange groups (default X25519; openssl: the relay's)")  \
	_(AES, "aes", "128|256", "lean: offer only AES with such a key (default: all suites)")     \
	_(RESUMED, "resumed", NULL, "lean: resume sessions by the tickets of earlier ones")        \
	_(SNI, "sni", "NAME", "server name to ask for")                                            \
	_(CERTIFICATE, "certificate", "FILE", "sink: PEM of key and chain, offers STARTTLS")       \
	_(CONNECTIONS, "connections", "N",                                                         \
		"sessions at a time (default 32; --rate: at most, 1000)")                          \
	_(RATE, "rate", "R", "handshakes: begin R sessions a second, whatever becomes of them")    \
	_(BURST, "burst", "N", "handshakes: begin N at one moment, again and again")               \
	_(COUNT, "count", "N", "end after so many mails or sessions")                              \
	_(DURATION, "duration", "S", "end after so many seconds (default 10; with --count: 600)")  \
	_(WARMUP, "warmup", "S", "run so long before measuring (default 1)")                       \
	_(SIZE, "size", "BYTES", "of a message (default 4096)")                                    \
	_(MAILS, "mails-per-connection", "N", "then QUIT and connect anew (default 0: keep it)")   \
	_(RECIPIENTS, "recipients", "N", "of a message (default 1)")                               \
	_(FROM, "from", "ADDRESS", "envelope sender (default bench@client.example.test)")          \
	_(TO, "to", "ADDRESS", "recipient (default bob@dest.example.test; of several: bob+1@…)")   \
	_(HELO, "helo", "NAME", "name to greet with (default client.example.test)")                \
	_(TIMEOUT, "timeout", "S", "give up a session that waits so long (default 30)")            \
	_(JSON, "json", NULL, "one JSON object instead of text")                                   \
	_(QUIET, "quiet", NULL, "no progress on standard error")                                   \
	_(HELP, "help", NULL, "this text")

enum option_id {
#define _(id, name, value, help) OPTION_##id,
	OPTIONS(_)
#undef _
};
static const struct option_row {
	const char *name, *value, *help;
} rows[] = {
#define _(id, name, value, help) {name, value, help},
	OPTIONS(_)
#undef _
};
#define ROWS (sizeof rows / sizeof rows[0])

static void usage(FILE *to)
{
	fprintf(to,
		"usage: hikyaku-bench COMMAND [OPTION]...\n"
		"Measures SMTP servers with whole sessions.\n\n"
		"  messages    mails a second taken with a final 250, and how long that took\n"
		"  handshakes  sessions a second: connect, 220, EHLO, STARTTLS, handshake, EHLO, "
		"QUIT\n"
		"  idle        opens sessions up to READY and holds them\n"
		"  sink        a server that takes every mail and keeps none\n\n");
	for (unsigned i = 0; i < ROWS; i++) {
		char left[48];
		snprintf(left, sizeof left, "--%s%s%s", rows[i].name,
			rows[i].value == NULL ? "" : " ",
			rows[i].value == NULL ? "" : rows[i].value);
		fprintf(to, "  %-28s %s\n", left, rows[i].help);
	}
	fprintf(to,
		"\nThe lean client makes the server do all that a client can make it do and spends "
		"a "
		"tenth of it itself: its\n"
		"key shares are degenerate (secret to nobody), it verifies neither certificate nor "
		"signature, only the\n"
		"server's Finished; it offers one version and the first group's share, and a "
		"HelloRetryRequest or\n"
		"KeyUpdate is a failure. Never use it for anything but load. In TLS 1.2 an ECDSA "
		"certificate needs its\n"
		"curve in the list of groups: X25519:P-256.\n");
	fprintf(to, "\nCtrl-C ends a run early and prints what has been measured.\n");
}

__attribute__((format(printf, 1, 2))) static int wrong(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "hikyaku-bench: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, " (see --help)\n");
	va_end(args);
	return EX_USAGE;
}

static bool parse_number(const char *text, double least, double most, double *number)
{
	char *end;
	errno = 0;
	*number = strtod(text, &end);
	return errno == 0 && end != text && *end == '\0' && isfinite(*number) && *number >= least &&
		*number <= most;
}

static int number(const char *name, const char *text, double least, double most, double *to)
{
	if (parse_number(text, least, most, to))
		return 0;
	return wrong("--%s: '%s' is not a number from %.15g to %.15g", name, text, least, most);
}

static int set_unsigned(const char *name, const char *text, double least, double most, unsigned *to)
{
	double d;
	int rc = number(name, text, least, most, &d);
	if (rc == 0)
		*to = (unsigned)d;
	return rc;
}

static int set_u64(const char *name, const char *text, double least, double most, uint64_t *to)
{
	double d;
	int rc = number(name, text, least, most, &d);
	if (rc == 0)
		*to = (uint64_t)d;
	return rc;
}

/* What stands in a command line must not end it. */
static int set_text(const char *name, const char *text, char *to, size_t size)
{
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return wrong("--%s: a space or control byte in it", name);
	if (strlen(text) >= size)
		return wrong("--%s: longer than %zu bytes", name, size - 1);
	memcpy(to, text, strlen(text) + 1);
	return 0;
}

/* "host:port", "[v6]:port"; the port may be left out if `is_port_optional`. */
static int split_host(
	const char *name, const char *text, bool is_port_optional, char host[256], char port[16])
{
	const char *colon = strrchr(text, ':'), *first = text;
	size_t n = strlen(text);
	if (text[0] == '[') {
		const char *close = strchr(text, ']');
		if (close == NULL)
			return wrong("--%s: no ] in '%s'", name, text);
		colon = close[1] == ':' ? close + 1 : NULL;
		first = text + 1;
		n = (size_t)(close - first);
	} else if (colon != NULL && strchr(text, ':') != colon) {
		colon = NULL; /* a bare IPv6 address */
	} else if (colon != NULL) {
		n = (size_t)(colon - text);
	}
	double d;
	if (n == 0 || n >= 256 || (colon == NULL && !is_port_optional) ||
		(colon != NULL && !parse_number(colon + 1, 1, 65535, &d)))
		return wrong("--%s: '%s' is not HOST:PORT", name, text);
	memcpy(host, first, n);
	host[n] = '\0';
	if (colon != NULL)
		snprintf(port, 16, "%u", (unsigned)d);
	return 0;
}

static int set_server(struct options *o, const char *text)
{
	char host[256];
	int rc = split_host("server", text, true, host, o->port);
	if (rc == 0 && !addr_parse(host, &o->server))
		rc = wrong("--server: '%s' is not an address", host);
	return rc;
}

static int set_address(struct options *o, const char *text)
{
	struct prefix p;
	char host[ADDR_TEXT_MAX];
	size_t n = strcspn(text, "/");
	double bits;
	if (n >= sizeof host)
		return wrong("--address: '%s' is not ADDRESS/BITS", text);
	memcpy(host, text, n);
	host[n] = '\0';
	if (!addr_parse(host, &p.addr))
		return wrong("--address: '%s' is not an address", host);
	unsigned most = addr_is_ipv4(&p.addr) ? 32 : 128;
	if (text[n] != '/' || !parse_number(text + n + 1, 1, most, &bits))
		return wrong("--address: '%s' is not ADDRESS/BITS", text);
	o->address = p.addr;
	o->prefix_bits = (uint8_t)(128 - most + (unsigned)bits);
	return 0;
}

static int set_tls(struct options *o, const char *text)
{
	if (strcmp(text, "1.3") == 0)
		o->tls_highest = TLS_1_3;
	else if (strcmp(text, "1.2") == 0)
		o->tls_highest = TLS_1_2;
	else
		return wrong("--tls: '%s' is neither 1.2 nor 1.3", text);
	return 0;
}

static int set_aes(struct options *o, const char *text)
{
	o->aes_bits = (unsigned)atoi(text);
	if (strcmp(text, "128") != 0 && strcmp(text, "256") != 0)
		return wrong("--aes: '%s' is neither 128 nor 256", text);
	return 0;
}

static int set_client(struct options *o, const char *text)
{
	o->is_plain = strcmp(text, "openssl") == 0;
	if (!o->is_plain && strcmp(text, "lean") != 0)
		return wrong("--client: '%s' is neither lean nor openssl", text);
	return 0;
}

static int set(struct options *o, enum option_id id, const char *text)
{
	const char *name = rows[id].name;
	switch (id) {
	case OPTION_MEMIF: return set_text(name, text, o->memif, sizeof o->memif);
	case OPTION_SERVER: return set_server(o, text);
	case OPTION_ADDRESS: return set_address(o, text);
	case OPTION_ADDRESSES:
		return set_unsigned(name, text, 1, BENCH_ADDRESSES_MAX, &o->addresses);
	case OPTION_KERNEL: return split_host(name, text, false, o->host, o->port);
	case OPTION_NO_HUGE: o->no_huge = true; return 0;
	case OPTION_MEMORY: return set_unsigned(name, text, 64, 65536, &o->memory_mb);
	case OPTION_SLEEP: return set_unsigned(name, text, 0, 10000, &o->sleep_us);
	case OPTION_IMPLICIT: o->security = BENCH_IMPLICIT_TLS; return 0;
	case OPTION_CLEAR: o->security = BENCH_CLEAR; return 0;
	case OPTION_TLS: return set_tls(o, text);
	case OPTION_CLIENT: return set_client(o, text);
	case OPTION_AES: return set_aes(o, text);
	case OPTION_RESUMED: o->is_resuming = true; return 0;
	case OPTION_GROUPS: return set_text(name, text, o->groups, sizeof o->groups);
	case OPTION_SNI: return set_text(name, text, o->sni, sizeof o->sni);
	case OPTION_CERTIFICATE: return set_text(name, text, o->certificate, sizeof o->certificate);
	case OPTION_CONNECTIONS:
		return set_unsigned(name, text, 1, BENCH_CONNECTIONS_MAX, &o->connections);
	case OPTION_RATE: return number(name, text, 0.01, 1e6, &o->rate);
	case OPTION_BURST: return set_unsigned(name, text, 2, BENCH_BURST_MAX, &o->burst);
	case OPTION_COUNT: return set_u64(name, text, 1, 1e12, &o->count);
	case OPTION_DURATION: return number(name, text, 0.1, BENCH_SECONDS_MAX, &o->duration_s);
	case OPTION_WARMUP: return number(name, text, 0, BENCH_SECONDS_MAX, &o->warmup_s);
	case OPTION_SIZE: {
		uint64_t size = 0;
		int rc = set_u64(name, text, 1, 256 << 20, &size);
		o->size = size;
		return rc;
	}
	case OPTION_MAILS: return set_u64(name, text, 0, 1e12, &o->mails_per_connection);
	case OPTION_RECIPIENTS:
		return set_unsigned(name, text, 1, CLIENT_RECIPIENTS_MAX, &o->recipients);
	case OPTION_FROM: return set_text(name, text, o->from, sizeof o->from);
	case OPTION_TO: return set_text(name, text, o->to, sizeof o->to);
	case OPTION_HELO: return set_text(name, text, o->helo, sizeof o->helo);
	case OPTION_TIMEOUT: return number(name, text, 0.1, 3600, &o->timeout_s);
	case OPTION_JSON: o->is_json = true; return 0;
	case OPTION_QUIET: o->is_quiet = true; return 0;
	case OPTION_HELP: usage(stdout); return -1;
	}
	return EX_SOFTWARE;
}

static int parse_command(struct options *o, const char *name)
{
	static const char *const names[] = {"messages", "handshakes", "idle", "sink"};
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		if (name != NULL && strcmp(name, names[i]) == 0) {
			o->command = (enum bench_command)i;
			return 0;
		}
	return name == NULL ? wrong("no command is given")
			    : wrong("there is no command '%s'", name);
}

static void set_defaults(struct options *o)
{
	*o = (struct options){.addresses = 8,
		.memory_mb = 256,
		.sleep_us = 50,
		.recipients = 1,
		.warmup_s = 1,
		.timeout_s = 30,
		.size = 4096,
		.helo = "client.example.test",
		.from = "bench@client.example.test",
		.to = "bob@dest.example.test"};
	addr_parse("192.0.2.25", &o->server);
}

/* Others every second: the server remembers connections of an earlier run in TIME-WAIT, and a
 * SYN of ours that meets one by its address and port may be in vain for a minute. */
static void choose_address(struct options *o)
{
	enum { FIRST = 100, LAST = 243 };
	unsigned blocks = (LAST + 1 - FIRST) / o->addresses;
	uint64_t block = time_monotonic_us() / USEC_PER_SEC % blocks;
	addr_parse("192.0.2.0", &o->address);
	o->address.b[15] = (uint8_t)(FIRST + block * o->addresses);
	o->prefix_bits = 96 + 24;
}

static int finish(struct options *o)
{
	if (o->command == BENCH_SINK) {
		if (o->host[0] == '\0')
			return wrong("sink needs --kernel HOST:PORT, where to listen");
	} else if ((o->host[0] == '\0') == (o->memif[0] == '\0')) {
		return wrong("give either --memif SOCKET or --kernel HOST:PORT");
	}
	if (o->command == BENCH_HANDSHAKES && o->security == BENCH_CLEAR)
		return wrong("handshakes without TLS are none");
	if (o->is_resuming && (o->is_plain || o->security == BENCH_CLEAR))
		return wrong("--resumed: only the lean client keeps tickets");
	if (o->aes_bits != 0 && (o->is_plain || o->security == BENCH_CLEAR))
		return wrong("--aes: only the lean client leaves suites out");
	if ((o->rate != 0 || o->burst != 0) && o->command != BENCH_HANDSHAKES)
		return wrong("--rate and --burst are for handshakes");
	if (o->rate != 0 && o->burst != 0)
		return wrong("give either --rate or --burst");
	if (o->rate != 0 && o->connections == 0)
		o->connections = BENCH_CONNECTIONS_OPEN;
	if (o->burst != 0)
		o->connections = o->burst;
	if (o->connections == 0)
		o->connections = BENCH_CONNECTIONS_DEFAULT;
	if (o->prefix_bits == 0)
		choose_address(o);
	if (addr_is_ipv4(&o->address) != addr_is_ipv4(&o->server))
		return wrong("--address and --server must be of one family");
	if (o->duration_s == 0)
		o->duration_s = o->count != 0	   ? 600
			: o->command == BENCH_SINK ? BENCH_SECONDS_MAX
						   : BENCH_SECONDS_DEFAULT;
	if (o->port[0] == '\0')
		snprintf(o->port, sizeof o->port, "%s",
			o->security == BENCH_IMPLICIT_TLS ? "465" : "25");
	return 0;
}

int options_parse(struct options *o, int argc, char **argv)
{
	struct option longs[ROWS + 1] = {0};
	for (unsigned i = 0; i < ROWS; i++)
		longs[i] = (struct option){rows[i].name, rows[i].value != NULL, NULL, 256 + (int)i};
	set_defaults(o);
	for (int id; (id = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		int rc = id < 256 ? EX_USAGE : set(o, (enum option_id)(id - 256), optarg);
		if (rc != 0)
			return rc;
	}
	int rc = parse_command(o, argv[optind]);
	if (rc == 0 && argv[optind + 1] != NULL)
		rc = wrong("what is '%s'?", argv[optind + 1]);
	return rc == 0 ? finish(o) : rc;
}

uint16_t options_port(const struct options *o)
{
	return (uint16_t)atoi(o->port);
}
