// SPDX-License-Identifier: Apache-2.0
#include "bench/generator.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/channel.h"
#include "bench/client.h"

#define SCRATCH_BYTES (32u << 10)
#define OPENING_MAX                                                                                \
	256 /* sessions on their way to READY: a server takes no more at a time than this asks of  \
	       it */
#define OPENED_PER_TURN 64
#define REST_AFTER_FAILURE_US                                                                      \
	(200 * USEC_PER_MSEC) /* so that a server that refuses is not hammered */
#define DRAIN_US (5 * USEC_PER_SEC)
#define CLOSING_US                                                                                 \
	(1 * USEC_PER_SEC) /* after 221 the server's end is awaited: it keeps TIME_WAIT */
#define SCAN_US (100 * USEC_PER_MSEC)

/* WAITING: for the others of its burst, with the handshake next. */
enum place { FREE, CONNECTING, OPENING, WAITING, READY, BUSY, QUITTING, CLOSING };

struct conn {
	struct link *link;
	struct channel channel;
	struct client client;
	uint8_t place; /* enum place; written by enter() */
	bool is_secure, has_eof, is_end_sent;
	bool is_counted;  /* open loop: it was due in the time that is measured */
	bool is_in_burst; /* its handshake is one of those under way */
	uint64_t mails;
	uint64_t opened_us; /* open loop: when it was due */
	uint64_t began_us, end_us, shaken_us;
	uint64_t deadline_us; /* FREE: not before */
};

enum stage { WARMING, MEASURING, DRAINING, OVER };

static struct generator {
	const struct options *options;
	struct transport *transport;
	struct results *results;
	struct client_script *script;
	struct channels *channels; /* NULL: all in clear */
	struct conn *conns;
	unsigned in[CLOSING + 1]; /* how many are in each place */
	enum stage stage;
	uint64_t now_us, stage_us, stage_end_us, scan_us, told_us;
	uint64_t began_busy_us, began_cpu_us, began_pushed_us;
	uint64_t done; /* of options->count */
	uint64_t told_done;
	unsigned next_free; /* where the search for a FREE one goes on */
	uint64_t due_us,
		scheduled; /* open loop: the next session's time; sessions since due_first_us */
	uint64_t due_first_us;
	unsigned in_burst; /* handshakes of the burst that are under way */
	uint64_t burst_us;
	bool has_been_up;
	bool has_verdict; /* of a handshake of this stage */
	uint8_t scratch[SCRATCH_BYTES];
} g;

static volatile sig_atomic_t stop_asked;

void generator_stop(void)
{
	stop_asked = 1;
}

/* The only place that writes c->place. */
static void enter(struct conn *c, enum place place)
{
	g.in[c->place]--;
	g.in[place]++;
	c->place = (uint8_t)place;
	c->deadline_us =
		g.now_us + (place == CLOSING ? CLOSING_US : (uint64_t)(g.options->timeout_s * 1e6));
	if (place == READY)
		c->deadline_us = UINT64_MAX;
}

static bool is_measuring(void)
{
	return g.stage == MEASURING;
}

/* At an offered rate a session counts by when it was due, however long it takes. */
static bool is_counting(const struct conn *c)
{
	return g.options->rate != 0 ? c->is_counted : is_measuring();
}

/* Is there still a mail (or a session) to be begun? Of those in flight none may become one too
 * many. */
static bool has_more(void)
{
	uint64_t under_way = g.options->command == BENCH_MESSAGES
		? g.in[BUSY]
		: g.in[CONNECTING] + g.in[OPENING] + g.in[WAITING] + g.in[QUITTING];
	return g.stage == WARMING ||
		(g.stage == MEASURING &&
			(g.options->count == 0 || g.done + under_way < g.options->count));
}

/* ---- the end of a session ---- */

static void left_burst(struct conn *c)
{
	if (!c->is_in_burst)
		return;
	c->is_in_burst = false;
	if (--g.in_burst == 0 && is_measuring() && g.burst_us >= g.stage_us) {
		g.results->bursts++;
		histogram_add(&g.results->burst, time_monotonic_us() - g.burst_us);
	}
}

static void let_go(struct conn *c)
{
	left_burst(c);
	channel_close(&c->channel);
	if (c->link != NULL)
		g.transport->ops->close(c->link);
	c->link = NULL;
	enter(c, FREE);
	c->deadline_us = 0;
}

/* `is_unit`: of what options->count counts (a session that fails at its QUIT has no mail left to
 * fail). */
static void count_failure(struct conn *c, enum failure kind, const char *text, bool is_unit)
{
	if (is_counting(c)) {
		results_fail(g.results, kind, text);
		g.done += is_unit;
	}
}

static void fail(struct conn *c, enum failure kind, const char *text)
{
	if (c->place != CLOSING)
		count_failure(c, kind, text,
			c->place != QUITTING || g.options->command == BENCH_HANDSHAKES);
	let_go(c);
	c->deadline_us = g.now_us + REST_AFTER_FAILURE_US;
}

static void fail_tls(struct conn *c)
{
	fail(c, FAILURE_TLS, channel_failure(&c->channel));
}

static void session_done(struct conn *c)
{
	if (is_counting(c)) {
		g.results->sessions++;
		histogram_add(&g.results->session, g.now_us - c->opened_us);
		if (g.options->command == BENCH_HANDSHAKES)
			g.done++;
	}
	if (c->has_eof)
		let_go(c);
	else
		enter(c, CLOSING);
}

/* ---- moving bytes ---- */

static size_t io_read(void *user, uint8_t *to, size_t room)
{
	return g.transport->ops->read(((struct conn *)user)->link, to, room);
}

static size_t io_write(void *user, const uint8_t *from, size_t n)
{
	return g.transport->ops->write(((struct conn *)user)->link, bytes_of(from, n));
}

static bool flush(struct conn *c)
{
	bool moved = false;
	while (c->client.out.n != 0) {
		size_t n = 0;
		if (!c->is_secure)
			n = io_write(c, c->client.out.at, c->client.out.n);
		else if (channel_write(&c->channel, c->client.out, &n) == TLS_FAIL)
			return false; /* reading tells why */
		if (n == 0)
			return moved;
		c->client.out = bytes_skip(c->client.out, n);
		moved = true;
	}
	if (c->client.state == CLIENT_AT_END && !c->is_end_sent) {
		c->is_end_sent = true;
		c->end_us = time_monotonic_us();
	}
	return moved;
}

/* ---- what a session does next ---- */

static void begin(struct conn *c)
{
	enter(c, READY);
	if (g.options->command == BENCH_IDLE && g.stage != DRAINING)
		return;
	bool is_full =
		g.options->mails_per_connection != 0 && c->mails >= g.options->mails_per_connection;
	if (g.options->command == BENCH_MESSAGES && !is_full && has_more()) {
		c->began_us = g.now_us;
		c->is_end_sent = false;
		client_mail(&c->client);
		enter(c, BUSY);
	} else if (is_full || g.options->command == BENCH_HANDSHAKES || g.stage == DRAINING) {
		client_quit(&c->client);
		enter(c, QUITTING);
	}
}

static void start_handshake(struct conn *c)
{
	const struct tls_io io = {.read = io_read, .write = io_write, .user = c};
	c->shaken_us = time_monotonic_us();
	if (!channel_open(&c->channel, g.channels, io))
		fail(c, FAILURE_TLS, "no memory for a TLS session");
}

static void handshake_is_next(struct conn *c)
{
	if (g.options->burst == 0)
		start_handshake(c);
	else
		enter(c, WAITING);
}

/* true: goes on. */
static bool shake_hands(struct conn *c)
{
	switch (channel_handshake(&c->channel)) {
	case TLS_WAIT:
	case TLS_AGAIN: return false;
	case TLS_EOF:
	case TLS_FAIL: fail_tls(c); return false;
	case TLS_OK: break;
	}
	c->is_secure = true;
	left_burst(c);
	if (is_counting(c)) {
		uint64_t now = time_monotonic_us();
		g.results->handshakes++;
		g.results->resumed += channel_is_resumed(&c->channel);
		histogram_add(&g.results->handshake, now - c->shaken_us);
		histogram_add(&g.results->secured, now - c->opened_us);
	}
	if (!g.has_verdict) {
		g.has_verdict = true;
		channel_get_verdict(&c->channel, &g.results->verdict);
	}
	if (c->client.state == CLIENT_AT_HANDSHAKE)
		client_secured(&c->client);
	return true;
}

static void mail_accepted(struct conn *c)
{
	uint64_t now = time_monotonic_us();
	c->mails++;
	if (is_measuring()) {
		struct results *r = g.results;
		r->mails++;
		r->content_bytes += client_script_content(g.script).n;
		g.done++;
		histogram_add(&r->end, now - c->end_us);
		histogram_add(&r->transaction, now - c->began_us);
		if (c->client.refused != 0)
			results_fail(r, FAILURE_RECIPIENT, c->client.text);
	}
	begin(c);
}

static void on_event(struct conn *c, enum client_event event)
{
	switch (event) {
	case CLIENT_NONE: break;
	case CLIENT_STARTTLS: handshake_is_next(c); break;
	case CLIENT_READY: begin(c); break;
	case CLIENT_ACCEPTED: mail_accepted(c); break;
	case CLIENT_REFUSED:
		c->mails++;
		count_failure(c,
			c->client.refused / 100 == 4 ? FAILURE_TEMPORARY : FAILURE_PERMANENT,
			c->client.text, true);
		begin(c);
		break;
	case CLIENT_CLOSED: session_done(c); break;
	case CLIENT_FAILED: fail(c, FAILURE_GREETING, c->client.text); break;
	}
}

static bool is_shaking(const struct conn *c)
{
	return c->channel.is_open && !c->is_secure;
}

/* Feeds what there is; false: nothing came. */
static bool receive(struct conn *c)
{
	size_t n = 0;
	if (c->is_secure) {
		switch (channel_read(&c->channel, g.scratch, sizeof g.scratch, &n)) {
		case TLS_OK:
		case TLS_WAIT:
		case TLS_AGAIN: break;
		case TLS_EOF: c->has_eof = true; break;
		case TLS_FAIL: fail_tls(c); return false;
		}
	} else {
		n = io_read(c, g.scratch, sizeof g.scratch);
	}
	for (struct bytes in = bytes_of(g.scratch, n); in.n != 0;) {
		enum client_event event;
		in = bytes_skip(in, client_feed(&c->client, in, &event));
		on_event(c, event);
		if (c->link == NULL || is_shaking(c) || c->place == WAITING)
			break;
	}
	return n != 0;
}

/* After 221: some servers close only once the client has, and say so by close_notify (RFC 8446 6.1). */
static void await_end(struct conn *c)
{
	enum tls_result result;
	size_t n;
	do
		result = channel_read(&c->channel, g.scratch, sizeof g.scratch, &n);
	while (result == TLS_OK && n != 0);
	c->has_eof |= result == TLS_EOF || result == TLS_FAIL;
}

static void run(struct conn *c)
{
	bool goes_on = true;
	while (goes_on && c->link != NULL && c->place != CLOSING && c->place != WAITING) {
		if (c->channel.is_open)
			channel_flush(&c->channel);
		if (is_shaking(c)) {
			if (!shake_hands(c))
				break;
			continue;
		}
		goes_on = flush(c);
		if (c->link != NULL && c->client.out.n == 0)
			goes_on |= receive(c);
		else if (c->link != NULL && !goes_on)
			goes_on = receive(c); /* a server may refuse in the middle */
	}
	if (c->link != NULL && c->place == CLOSING && c->is_secure)
		await_end(c);
	if (c->link == NULL || !c->has_eof)
		return;
	if (c->place == CLOSING)
		let_go(c);
	else
		fail(c, FAILURE_LOST, "the server closed the connection");
}

static void on_link(void *owner, unsigned events, const char *why)
{
	struct conn *c = owner;
	g.now_us = time_monotonic_us();
	if (events & LINK_GONE) {
		c->link = NULL; /* the transport's to forget */
		fail(c, c->place == CONNECTING ? FAILURE_CONNECT : FAILURE_LOST, why);
		return;
	}
	if (events & LINK_UP) {
		g.has_been_up = true;
		enter(c, OPENING);
		client_open(&c->client, g.script, g.options->security == BENCH_IMPLICIT_TLS);
		if (g.options->security == BENCH_IMPLICIT_TLS)
			handshake_is_next(c);
	}
	if (events & LINK_EOF)
		c->has_eof = true;
	run(c);
}

static void open_session(struct conn *c, uint64_t due_us)
{
	const char *why;
	*c = (struct conn){.place = c->place,
		.channel = c->channel,
		.opened_us = due_us,
		.is_counted = g.options->rate != 0 && is_measuring() && due_us >= g.stage_us};
	c->link = g.transport->ops->open(g.transport, c, &why);
	if (c->link != NULL)
		enter(c, CONNECTING);
	else
		fail(c, FAILURE_CONNECT, why);
}

/* ---- an offered rate ---- */

/* From the first one's time on, so that nothing adds up. */
static void schedule_next(void)
{
	g.scheduled++;
	g.due_us = g.due_first_us + (uint64_t)((double)g.scheduled * 1e6 / g.options->rate);
}

static struct conn *find_free(void)
{
	for (unsigned i = 0; i < g.options->connections; i++) {
		struct conn *c = &g.conns[g.next_free];
		g.next_free = (g.next_free + 1) % g.options->connections;
		if (c->place == FREE && c->deadline_us <= g.now_us)
			return c;
	}
	return NULL;
}

static void note_lateness(const struct conn *c)
{
	uint64_t late = g.now_us - c->opened_us;
	if (!c->is_counted)
		return;
	histogram_add(&g.results->late, late);
	g.results->begun_late += late > LATE_US;
}

/* Those that are due; what finds no connection stays due. */
static bool open_due(void)
{
	unsigned opened = 0;
	if (!g.has_been_up)
		g.due_first_us = g.due_us = g.now_us;
	while (g.stage < DRAINING && g.due_us <= g.now_us && opened < OPENED_PER_TURN &&
		has_more()) {
		struct conn *c =
			g.has_been_up || g.in[FREE] == g.options->connections ? find_free() : NULL;
		if (c == NULL)
			break;
		open_session(c, g.due_us);
		if (c->link != NULL)
			note_lateness(c);
		opened++;
		if (!g.has_been_up)
			break;
		schedule_next();
	}
	bool is_waiting = g.stage < DRAINING && g.has_been_up; /* else an event tells us */
	g.transport->wait_us = !is_waiting  ? 0
		: g.due_us > g.now_us	    ? g.due_us - g.now_us
		: opened == OPENED_PER_TURN ? 1
					    : 0;
	return opened != 0;
}

/* ---- bursts ---- */

/* All of a burst wait (or all that there will be): their ClientHellos go together. */
static bool begin_burst(void)
{
	if (g.in[WAITING] == 0 || g.in_burst != 0 || g.in[CONNECTING] + g.in[OPENING] != 0 ||
		(g.in[WAITING] < g.options->connections && has_more()))
		return false;
	g.burst_us = time_monotonic_us();
	for (unsigned i = 0; i < g.options->connections; i++) {
		struct conn *c = &g.conns[i];
		if (c->place != WAITING)
			continue;
		enter(c, OPENING);
		c->is_in_burst = true;
		g.in_burst++;
		start_handshake(c);
	}
	for (unsigned i = 0; i < g.options->connections; i++)
		if (g.conns[i].is_in_burst)
			run(&g.conns[i]);
	return true;
}

/* ---- the stages ---- */

static uint64_t busy_us(void)
{
	uint64_t cpu = time_read_us(CLOCK_THREAD_CPUTIME_ID) - g.began_cpu_us;
	uint64_t busy = g.transport->ops->busy_us(g.transport);
	/* A polling thread has processor time also when it finds nothing to do, and while it is
	 * pushed off its processor a turn looks long: what it worked is the smaller of the two. */
	if (busy != UINT64_MAX && busy - g.began_busy_us < cpu)
		cpu = busy - g.began_busy_us;
	return cpu;
}

/* Linux: how long this thread was ready to run without a processor; 0 where that is not told. */
static uint64_t pushed_us(void)
{
	unsigned long long ran, waited = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "r");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%llu %llu", &ran, &waited) != 2)
		waited = 0;
	fclose(f);
	return waited / NSEC_PER_USEC;
}

static void start_measuring(void)
{
	struct tls_verdict verdict = g.results->verdict;
	memset(g.results, 0, sizeof *g.results);
	g.results->verdict = verdict;
	g.has_verdict = false;
	g.began_cpu_us = time_read_us(CLOCK_THREAD_CPUTIME_ID);
	g.began_pushed_us = pushed_us();
	g.began_busy_us = g.transport->ops->busy_us(g.transport);
	g.stage_us = g.now_us;
	g.stage_end_us = g.now_us + (uint64_t)(g.options->duration_s * 1e6);
	g.stage = MEASURING;
}

/* Sessions that were due by now and that no connection was free for. */
static uint64_t count_missed(void)
{
	uint64_t missed = 0;
	for (; g.due_us < g.now_us && g.due_us < g.stage_end_us; schedule_next())
		missed += g.due_us >= g.stage_us;
	return missed;
}

static void start_draining(void)
{
	struct results *r = g.results;
	if (g.stage == WARMING)
		start_measuring(); /* interrupted: nothing was measured */
	r->wall_us = g.now_us - g.stage_us;
	r->busy_us = busy_us();
	r->pushed_us = pushed_us() - g.began_pushed_us;
	r->open = g.in[READY] + g.in[BUSY];
	r->is_interrupted = stop_asked;
	if (g.options->rate != 0)
		r->missed = count_missed();
	g.stage = DRAINING;
	g.stage_end_us = g.now_us + DRAIN_US;
}

static bool is_warm(void)
{
	if (g.now_us < g.stage_end_us)
		return false;
	return g.options->command != BENCH_IDLE || g.in[READY] == g.options->connections ||
		g.now_us > g.stage_end_us + (uint64_t)(g.options->timeout_s * 1e6);
}

/* For people, and for scripts that look at the server meanwhile. */
static void tell_stage(void)
{
	if (g.options->is_quiet)
		return;
	if (g.stage == DRAINING)
		fprintf(stderr, "hikyaku-bench: measured\n");
	else if (g.options->command == BENCH_IDLE)
		fprintf(stderr, "hikyaku-bench: %u sessions are held\n", g.in[READY]);
	else
		fprintf(stderr, "hikyaku-bench: measuring\n");
}

static void next_stage(void)
{
	bool is_counted_out = g.options->count != 0 && g.done >= g.options->count;
	if (g.stage == WARMING && is_warm()) {
		start_measuring();
		tell_stage();
	}
	if ((g.stage == MEASURING && (g.now_us >= g.stage_end_us || is_counted_out)) ||
		(g.stage < DRAINING && stop_asked)) {
		start_draining();
		tell_stage();
	}
	if (g.stage == DRAINING &&
		(g.in[FREE] == g.options->connections || g.now_us >= g.stage_end_us))
		g.stage = OVER;
}

/* ---- a turn ---- */

/* Until a first session is up (ARP, the memif's own greeting), only one tries. */
static bool open_sessions(void)
{
	unsigned opening = g.in[CONNECTING] + g.in[OPENING], opened = 0;
	unsigned most = g.has_been_up ? OPENING_MAX : 1;
	bool is_wanted = has_more() || (g.options->command == BENCH_IDLE && g.stage < DRAINING);
	if (g.in[FREE] == 0 || opening >= most || !is_wanted || g.stage >= DRAINING)
		return false;
	while (opened < OPENED_PER_TURN && opening + opened < most) {
		struct conn *c = find_free();
		if (c == NULL)
			break;
		open_session(c, g.now_us);
		opened++;
		if (!has_more() && g.options->command != BENCH_IDLE)
			break;
	}
	return opened != 0;
}

/* Rare things, for which all sessions are looked at: who waits too long, and who is to be sent on.
 */
static void scan(void)
{
	for (unsigned i = 0; i < g.options->connections; i++) {
		struct conn *c = &g.conns[i];
		if (c->place == CLOSING && c->deadline_us <= g.now_us)
			let_go(c);
		else if (c->place == WAITING && g.stage == DRAINING)
			let_go(c);
		else if (c->place != FREE && c->deadline_us <= g.now_us)
			fail(c, FAILURE_TIMEOUT, "waited too long");
		else if (c->place == READY &&
			(g.stage == DRAINING ||
				(has_more() && g.options->command == BENCH_MESSAGES))) {
			begin(c);
			run(c);
		}
	}
}

static void tell_progress(void)
{
	if (g.now_us < g.told_us || g.options->is_quiet || g.stage >= DRAINING ||
		!isatty(STDERR_FILENO))
		return;
	uint64_t done =
		g.options->command == BENCH_MESSAGES ? g.results->mails : g.results->sessions;
	uint64_t more = done >= g.told_done ? done - g.told_done : done;
	if (g.told_us != 0)
		fprintf(stderr, "%s %3.0f s: %llu/s, %llu failed, %u connections\n",
			g.stage == WARMING ? "warming up" : "measuring ",
			(double)(g.now_us - g.stage_us) / 1e6, (unsigned long long)more,
			(unsigned long long)results_failed(g.results),
			g.options->connections - g.in[FREE]);
	g.told_done = done;
	g.told_us = g.now_us + USEC_PER_SEC;
}

static bool turn(uint64_t now_us, bool *is_busy)
{
	g.now_us = now_us;
	next_stage();
	if (g.stage == OVER)
		return false;
	*is_busy |= g.options->rate != 0 ? open_due() : open_sessions();
	if (g.options->burst != 0)
		*is_busy |= begin_burst();
	if (now_us >= g.scan_us) {
		g.scan_us = now_us + SCAN_US;
		scan();
		tell_progress();
	}
	return true;
}

/* ---- the making of it ---- */

static int make(const struct options *o, char error[256])
{
	const struct client_script_config script = {.helo = o->helo,
		.from = o->from,
		.to = o->to,
		.recipients = o->recipients,
		.size = o->size,
		.wants_starttls = o->security == BENCH_STARTTLS};
	g.script = client_script_create(&script);
	g.conns = calloc(o->connections, sizeof *g.conns);
	snprintf(error, 256, "no memory");
	if (g.script == NULL || g.conns == NULL)
		return -1;
	if (o->security != BENCH_CLEAR)
		g.channels = channels_create(o, error);
	return o->security == BENCH_CLEAR || g.channels != NULL ? 0 : -1;
}

int generator_run(
	struct transport *transport, const struct options *o, struct results *r, char error[256])
{
	static const struct transport_user user = {.on_link = on_link, .turn = turn};
	g.options = o;
	g.transport = transport;
	g.results = r;
	if (make(o, error) != 0)
		return -1;
	g.in[FREE] = o->connections;
	g.now_us = g.stage_us = time_monotonic_us();
	g.stage_end_us = g.now_us + (uint64_t)(o->warmup_s * 1e6);
	transport->ops->run(transport, &user);
	for (unsigned i = 0; i < o->connections; i++) {
		if (g.conns[i].is_counted && g.conns[i].place != FREE &&
			g.conns[i].place != CLOSING)
			results_fail(r, FAILURE_TIMEOUT, "not done when the run was over");
		if (g.conns[i].place != FREE)
			let_go(&g.conns[i]);
		channel_fini(&g.conns[i].channel);
	}
	if (g.channels != NULL)
		channels_destroy(g.channels);
	client_script_destroy(g.script);
	free(g.conns);
	return 0;
}
