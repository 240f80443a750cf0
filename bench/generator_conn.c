// SPDX-License-Identifier: Apache-2.0
/* bench/generator_conn.c: one session of the load, from connect to the server's end after 221. */
#include "bench/generator_private.h"

#include "base/clock.h"

#define REST_AFTER_FAILURE_US (200 * USEC_PER_MSEC) /* so that a server that refuses is not hammered */
#define CLOSING_US	      (1 * USEC_PER_SEC)    /* after 221 the server's end is awaited: it keeps TIME_WAIT */

void conn_enter(struct conn *c, enum place place)
{
	load.in[c->place]--;
	load.in[place]++;
	c->place = (uint8_t)place;
	c->deadline_us =
		load.now_us + (place == CLOSING ? CLOSING_US : (uint64_t)(load.options->timeout_s * 1e6));
	if (place == READY)
		c->deadline_us = UINT64_MAX;
}

/* At an offered rate a session counts by when it was due, however long it takes. */
static bool is_counting(const struct conn *c)
{
	return load.options->rate != 0 ? c->is_counted : load_is_measuring();
}

/* ---- the end of a session ---- */

void conn_let_go(struct conn *c)
{
	load_left_burst(c);
	channel_close(&c->channel);
	if (c->link != NULL)
		load.transport->ops->close(c->link);
	c->link = NULL;
	conn_enter(c, FREE);
	c->deadline_us = 0;
}

/* `is_unit`: of what options->count counts (a session that fails at its QUIT has no mail left to
 * fail). */
static void count_failure(struct conn *c, enum failure kind, const char *text, bool is_unit)
{
	if (is_counting(c)) {
		results_fail(load.results, kind, text);
		load.done += is_unit;
	}
}

void conn_fail(struct conn *c, enum failure kind, const char *text)
{
	if (c->place != CLOSING)
		count_failure(c, kind, text,
			c->place != QUITTING || load.options->command == BENCH_HANDSHAKES);
	conn_let_go(c);
	c->deadline_us = load.now_us + REST_AFTER_FAILURE_US;
}

static void fail_tls(struct conn *c)
{
	conn_fail(c, FAILURE_TLS, channel_failure(&c->channel));
}

static void session_done(struct conn *c)
{
	if (is_counting(c)) {
		load.results->sessions++;
		histogram_add(&load.results->session, load.now_us - c->opened_us);
		if (load.options->command == BENCH_HANDSHAKES)
			load.done++;
	}
	if (c->has_eof)
		conn_let_go(c);
	else
		conn_enter(c, CLOSING);
}

/* ---- moving bytes ---- */

static size_t io_read(void *user, uint8_t *to, size_t room)
{
	return load.transport->ops->read(((struct conn *)user)->link, to, room);
}

static size_t io_write(void *user, const uint8_t *from, size_t n)
{
	return load.transport->ops->write(((struct conn *)user)->link, bytes_of(from, n));
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

void conn_go_on(struct conn *c)
{
	conn_enter(c, READY);
	if (load.options->command == BENCH_IDLE && load.stage != DRAINING)
		return;
	bool is_full =
		load.options->mails_per_connection != 0 && c->mails >= load.options->mails_per_connection;
	if (load.options->command == BENCH_MESSAGES && !is_full && load_has_more()) {
		c->began_us = load.now_us;
		c->is_end_sent = false;
		client_mail(&c->client);
		conn_enter(c, BUSY);
	} else if (is_full || load.options->command == BENCH_HANDSHAKES || load.stage == DRAINING) {
		client_quit(&c->client);
		conn_enter(c, QUITTING);
	}
}

void conn_start_handshake(struct conn *c)
{
	const struct tls_io io = {.read = io_read, .write = io_write, .user = c};
	c->shaken_us = time_monotonic_us();
	if (!channel_open(&c->channel, load.channels, io))
		conn_fail(c, FAILURE_TLS, "no memory for a TLS session");
}

static void handshake_is_next(struct conn *c)
{
	if (load.options->burst == 0)
		conn_start_handshake(c);
	else
		conn_enter(c, WAITING);
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
	load_left_burst(c);
	if (is_counting(c)) {
		uint64_t now = time_monotonic_us();
		load.results->handshakes++;
		load.results->resumed += channel_is_resumed(&c->channel);
		histogram_add(&load.results->handshake, now - c->shaken_us);
		histogram_add(&load.results->secured, now - c->opened_us);
	}
	if (!load.has_verdict) {
		load.has_verdict = true;
		channel_get_verdict(&c->channel, &load.results->verdict);
	}
	if (c->client.state == CLIENT_AT_HANDSHAKE)
		client_secured(&c->client);
	return true;
}

static void mail_accepted(struct conn *c)
{
	uint64_t now = time_monotonic_us();
	c->mails++;
	if (load_is_measuring()) {
		struct results *r = load.results;
		r->mails++;
		r->content_bytes += client_script_content(load.script).n;
		load.done++;
		histogram_add(&r->end, now - c->end_us);
		histogram_add(&r->transaction, now - c->began_us);
		if (c->client.refused != 0)
			results_fail(r, FAILURE_RECIPIENT, c->client.text);
	}
	conn_go_on(c);
}

static void on_event(struct conn *c, enum client_event event)
{
	switch (event) {
	case CLIENT_NONE: break;
	case CLIENT_STARTTLS: handshake_is_next(c); break;
	case CLIENT_READY: conn_go_on(c); break;
	case CLIENT_ACCEPTED: mail_accepted(c); break;
	case CLIENT_REFUSED:
		c->mails++;
		count_failure(c,
			c->client.refused / 100 == 4 ? FAILURE_TEMPORARY : FAILURE_PERMANENT,
			c->client.text, true);
		conn_go_on(c);
		break;
	case CLIENT_CLOSED: session_done(c); break;
	case CLIENT_FAILED: conn_fail(c, FAILURE_GREETING, c->client.text); break;
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
		switch (channel_read(&c->channel, load.scratch, sizeof load.scratch, &n)) {
		case TLS_OK:
		case TLS_WAIT:
		case TLS_AGAIN: break;
		case TLS_EOF: c->has_eof = true; break;
		case TLS_FAIL: fail_tls(c); return false;
		}
	} else {
		n = io_read(c, load.scratch, sizeof load.scratch);
	}
	for (struct bytes in = bytes_of(load.scratch, n); in.n != 0;) {
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
		result = channel_read(&c->channel, load.scratch, sizeof load.scratch, &n);
	while (result == TLS_OK && n != 0);
	c->has_eof |= result == TLS_EOF || result == TLS_FAIL;
}

void conn_run(struct conn *c)
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
		conn_let_go(c);
	else
		conn_fail(c, FAILURE_LOST, "the server closed the connection");
}

void conn_on_link(void *owner, unsigned events, const char *why)
{
	struct conn *c = owner;
	load.now_us = time_monotonic_us();
	if (events & LINK_GONE) {
		c->link = NULL; /* the transport's to forget */
		conn_fail(c, c->place == CONNECTING ? FAILURE_CONNECT : FAILURE_LOST, why);
		return;
	}
	if (events & LINK_UP) {
		load.has_been_up = true;
		conn_enter(c, OPENING);
		client_open(&c->client, load.script, load.options->security == BENCH_IMPLICIT_TLS);
		if (load.options->security == BENCH_IMPLICIT_TLS)
			handshake_is_next(c);
	}
	if (events & LINK_EOF)
		c->has_eof = true;
	conn_run(c);
}

void conn_open(struct conn *c, uint64_t due_us)
{
	const char *why;
	*c = (struct conn){.place = c->place,
		.channel = c->channel,
		.opened_us = due_us,
		.is_counted = load.options->rate != 0 && load_is_measuring() && due_us >= load.stage_us};
	c->link = load.transport->ops->open(load.transport, c, &why);
	if (c->link != NULL)
		conn_enter(c, CONNECTING);
	else
		conn_fail(c, FAILURE_CONNECT, why);
}
