// SPDX-License-Identifier: Apache-2.0
/* relay/conn.c: the life of a connection on a worker: slots, deadlines, and bytes between TCP, TLS and SMTP. */
#include "relay/worker.h"

#include <assert.h>

struct conn *conn_at(const struct worker *w, uint32_t slot)
{
	return (struct conn *)(w->slab + (size_t)slot * w->stride);
}

uint32_t conn_slot(const struct worker *w, const struct conn *c)
{
	return (uint32_t)((size_t)((const uint8_t *)c - w->slab) / w->stride);
}

struct conn *conn_get(struct worker *w, enum conn_kind kind, struct tcp_conn *tcp)
{
	if (w->free_first == CONN_NONE)
		return NULL;
	struct conn *c = conn_at(w, w->free_first);
	w->free_first = c->next;
	w->conn_count++;
	uint32_t generation = c->generation;
	memset(c, 0, sizeof *c);
	c->generation = generation;
	c->kind = (uint8_t)kind;
	c->worker = w;
	c->tcp = tcp;
	c->opened_us = c->active_us = w->now_us;
	c->next = c->deadline_prev = c->deadline_next = CONN_NONE;
	c->deadline = DEADLINE_NONE;
	stream_init(&c->in, w->streams);
	stream_init(&c->out, w->streams);
	void *session = (uint8_t *)c + sizeof *c;
	if (kind == CONN_INBOUND)
		c->inbound.session = session;
	else
		c->outbound.session = session;
	return c;
}

/* A connection on the run list is freed when its turn comes, so that the list stays whole. */
void conn_free(struct worker *w, struct conn *c)
{
	conn_set_deadline(w, c, DEADLINE_NONE);
	conn_drop_tls(w, c);
	stream_reset(&c->in);
	stream_reset(&c->out);
	if (c->tcp != NULL)
		tcp_set_user(c->tcp, NULL);
	c->tcp = NULL;
	if (c->kind != CONN_FREE && ++c->generation == 0)
		c->generation = 1;
	c->kind = CONN_FREE;
	if (c->is_awake)
		return;
	c->next = w->free_first;
	w->free_first = conn_slot(w, c);
	w->conn_count--;
}

void conn_wake(struct worker *w, struct conn *c)
{
	if (c->is_awake || c->kind == CONN_FREE)
		return;
	c->is_awake = true;
	c->next = CONN_NONE;
	uint32_t slot = conn_slot(w, c);
	if (w->run_first == CONN_NONE)
		w->run_first = slot;
	else
		conn_at(w, w->run_last)->next = slot;
	w->run_last = slot;
}

static void deadline_unlink(struct worker *w, struct conn *c)
{
	struct deadline_list *list = &w->deadlines[c->deadline];
	if (c->deadline_prev == CONN_NONE)
		list->first = c->deadline_next;
	else
		conn_at(w, c->deadline_prev)->deadline_next = c->deadline_next;
	if (c->deadline_next == CONN_NONE)
		list->last = c->deadline_prev;
	else
		conn_at(w, c->deadline_next)->deadline_prev = c->deadline_prev;
	c->deadline_prev = c->deadline_next = CONN_NONE;
}

void conn_set_deadline(struct worker *w, struct conn *c, enum deadline class)
{
	if (c->deadline != DEADLINE_NONE)
		deadline_unlink(w, c);
	c->deadline = (uint8_t)class;
	if (class == DEADLINE_NONE)
		return;
	struct deadline_list *list = &w->deadlines[class];
	uint32_t slot = conn_slot(w, c);
	c->deadline_us = w->now_us + list->length_us;
	c->deadline_prev = list->last;
	c->deadline_next = CONN_NONE;
	if (list->last == CONN_NONE)
		list->first = slot;
	else
		conn_at(w, list->last)->deadline_next = slot;
	list->last = slot;
}

/* It cannot go on for want of a block: it is woken when there are some. */
static void starve(struct worker *w, struct conn *c)
{
	c->is_starved = true;
	w->has_starved = true;
}

/* May input be kept in a block? Some blocks are left for output, so that whoever holds input gets on. */
static bool can_buffer(struct worker *w, struct conn *c)
{
	if (stream_length(&c->in) != 0 || stream_pool_free_count(w->streams) > w->streams_reserved)
		return true;
	starve(w, c);
	return false;
}

/* TLS cannot go on. A server session has nothing more to say; a client session has to hear of it, so that its
 * job comes home: it will, by the end of the connection. */
static void tls_broke(struct worker *w, struct conn *c)
{
	if (tls_failure(c->tls, NULL) == TLS_FAILURE_FLOOD)
		COUNT(w, tls_floods);
	else
		COUNT(w, tls_broken);
	if (c->kind == CONN_INBOUND) {
		inbound_tls_broke(w, c);
		return;
	}
	stream_reset(&c->out);
	if (c->tcp != NULL && !c->is_ended)
		tcp_abort(c->tcp);
}

static size_t io_read(void *user, uint8_t *to, size_t room)
{
	struct conn *c = user;
	size_t n = 0;
	while (n < room && c->tcp != NULL) {
		struct bytes b = bytes_first(tcp_peek(c->tcp), room - n);
		if (b.n == 0)
			break;
		memcpy(to + n, b.at, b.n);
		tcp_consume(c->tcp, b.n);
		n += b.n;
	}
	return n;
}

static void drop_received(struct conn *c)
{
	if (c->tcp == NULL)
		return;
	for (struct bytes b = tcp_peek(c->tcp); b.n != 0; b = tcp_peek(c->tcp))
		tcp_consume(c->tcp, b.n);
}

static size_t io_write(void *user, const uint8_t *from, size_t n)
{
	struct conn *c = user;
	return c->tcp == NULL || c->has_closed ? 0 : tcp_write(c->tcp, bytes_of(from, n));
}

static void io_wake(void *user)
{
	struct conn *c = user;
	conn_wake(c->worker, c);
}

struct tls_io conn_tls_io(struct conn *c)
{
	return (struct tls_io){.read = io_read, .write = io_write, .user = c, .wake = io_wake};
}

bool conn_is_shaking(const struct conn *c)
{
	return c->tls_state == CONN_HELLO || c->tls_state == CONN_HANDSHAKE;
}

bool conn_flush(struct worker *w, struct conn *c)
{
	bool moved = false;
	if (c->tcp == NULL || conn_is_shaking(c))
		return false;
	if (c->tls_state == CONN_TLS && tls_has_output(c->tls))
		tls_flush(c->tls);
	while (stream_length(&c->out) != 0) {
		struct bytes b = stream_peek(&c->out);
		size_t n = 0;
		if (c->tls_state == CONN_TLS) {
			uint64_t since = rte_rdtsc();
			enum tls_result result = tls_write(c->tls, b, &n);
			COUNT_PART(w, PART_RECORDS, since);
			if (result == TLS_FAIL) {
				tls_broke(w, c);
				return false;
			}
		} else {
			n = tcp_write(c->tcp, b);
		}
		if (n == 0)
			break;
		stream_consume(&c->out, n);
		moved = true;
	}
	return moved;
}

static size_t read_plaintext(struct worker *w, struct conn *c, uint8_t *to, size_t room)
{
	size_t n = 0;
	if (c->is_dry && (c->tcp == NULL || tcp_readable(c->tcp) == 0))
		return 0;
	uint64_t since = rte_rdtsc();
	enum tls_result result = tls_read(c->tls, to, room, &n);
	COUNT_PART(w, PART_RECORDS, since);
	c->is_dry = result == TLS_AGAIN && !tls_has_output(c->tls);
	switch (result) {
	case TLS_OK:
	case TLS_WAIT:
	case TLS_AGAIN: break;
	case TLS_EOF: /* what follows a close_notify is nobody's */
		c->has_fin = true;
		drop_received(c);
		break;
	case TLS_FAIL: tls_broke(w, c); break;
	}
	return n;
}

/* Reads plaintext into the stream, behind what is there; false: nothing came or there is no room. */
static bool gather(struct worker *w, struct conn *c)
{
	size_t room, n;
	uint8_t *to = can_buffer(w, c) ? stream_reserve(&c->in, 1, &room) : NULL;
	if (to == NULL)
		return false;
	if (c->tls_state == CONN_TLS)
		n = read_plaintext(w, c, to, room);
	else
		n = io_read(c, to, room);
	stream_commit(&c->in, n);
	return n != 0;
}

/* Input is looked at where it lies: clear text in TCP's own buffers, decrypted text in the core's scratch.
 * Only what could not be used at once is copied into the connection's stream. */
struct bytes conn_input(struct worker *w, struct conn *c)
{
	if (stream_length(&c->in) != 0)
		return stream_peek(&c->in);
	if (c->tcp == NULL || conn_is_shaking(c))
		return BYTES_NONE;
	if (c->tls_state == CONN_CLEAR)
		return bytes_first(tcp_peek(c->tcp), SCRATCH_BYTES);
	/* What might be left over needs a block, also if the session takes one for its reply meanwhile. */
	if (!can_buffer(w, c))
		return BYTES_NONE;
	return bytes_of(w->scratch, read_plaintext(w, c, w->scratch, sizeof w->scratch));
}

bool conn_used(struct worker *w, struct conn *c, struct bytes in, size_t n, bool wants_more)
{
	if (stream_length(&c->in) != 0)
		stream_consume(&c->in, n);
	else if (c->tls_state == CONN_TLS)
		stream_write(&c->in, bytes_skip(in, n));
	else if (c->tcp != NULL)
		tcp_consume(c->tcp, n);
	return n != 0 || (wants_more && in.n != 0 && gather(w, c));
}

bool conn_has_unread(struct worker *w, struct conn *c)
{
	return stream_length(&c->in) != 0 || (c->tcp != NULL && tcp_peek(c->tcp).n != 0);
}

bool conn_is_read_out(const struct conn *c)
{
	return c->has_fin && (c->tcp == NULL || tcp_peek(c->tcp).n == 0);
}

/* Nobody will read it. */
static void drop_input(struct conn *c)
{
	stream_reset(&c->in);
	drop_received(c);
}

void conn_close(struct worker *w, struct conn *c)
{
	if (c->is_closing)
		return;
	c->is_closing = true;
	conn_set_deadline(w, c, DEADLINE_LINGER);
	conn_wake(w, c);
}

void conn_abort(struct worker *w, struct conn *c)
{
	c->is_closing = true;
	stream_reset(&c->out);
	if (c->tcp != NULL && !c->is_ended)
		tcp_abort(c->tcp);
}

static void end_handshake(struct worker *w, struct conn *c, enum conn_tls next)
{
	if (c->tls_state == CONN_HANDSHAKE)
		w->handshakes--;
	c->tls_state = (uint8_t)next;
}

void conn_begin_handshake(struct worker *w, struct conn *c)
{
	w->handshakes++;
	c->tls_state = CONN_HANDSHAKE;
}

void conn_drop_tls(struct worker *w, struct conn *c)
{
	end_handshake(w, c, CONN_CLEAR);
	if (c->tls == NULL)
		return;
	uint64_t since = rte_rdtsc();
	tls_close(c->tls);
	COUNT_PART(w, PART_CLOSE, since);
	c->tls = NULL;
	c->is_dry = false;
}

/* Goes on with the handshake; true if it is over, one way or the other. */
static bool handshake(struct worker *w, struct conn *c)
{
	const char *why;
	uint64_t since = rte_rdtsc();
	tls_flush(c->tls); /* what had no room the last time */
	enum tls_result result = tls_handshake(c->tls);
	COUNT_PART(w, PART_HANDSHAKE, since);
	switch (result) {
	case TLS_OK:
		end_handshake(w, c, CONN_TLS);
		if (c->kind == CONN_INBOUND)
			inbound_handshake_done(w, c);
		else
			outbound_handshake_done(w, c);
		return true;
	case TLS_WAIT: return false; /* also where the peer has gone: the operation that is out comes first */
	case TLS_AGAIN:
		if (!conn_is_read_out(c))
			return false;
		break; /* nothing more will come */
	case TLS_EOF:
	case TLS_FAIL: break;
	}
	enum tls_failure_kind kind = tls_failure(c->tls, &why);
	if (kind == TLS_FAILURE_NONE)
		why = "the peer closed the connection";
	tls_flush(c->tls); /* the alert that tells the peer why */
	if (c->kind == CONN_INBOUND)
		inbound_handshake_failed(w, c, handshake_failure_of(kind), why);
	else
		outbound_handshake_failed(w, c, false);
	return true;
}

/* Has TCP taken all that is to be said, TLS's last word too? */
static bool has_said_all(struct worker *w, struct conn *c)
{
	conn_flush(w, c);
	if (stream_length(&c->out) != 0)
		return false;
	if (c->tls_state != CONN_TLS)
		return true;
	tls_shutdown(c->tls);
	return tls_flush(c->tls) == TLS_OK;
}

/* What is left to do for a connection that only wants to go. */
static void run_closing(struct worker *w, struct conn *c)
{
	drop_input(c);
	if (c->tcp == NULL || c->has_closed || !has_said_all(w, c))
		return;
	tcp_close(c->tcp);
	c->has_closed = true;
}

/* So that one busy peer does not keep the core: after so many steps the others have their turn. */
#define STEPS_MAX 64

void conn_run(struct worker *w, struct conn *c)
{
	for (int step = 0; step < STEPS_MAX; step++) {
		if (c->kind == CONN_FREE)
			return;
		if (c->is_closing) {
			run_closing(w, c);
			return;
		}
		if (conn_is_shaking(c)) {
			if (c->tls_state == CONN_HELLO ? !inbound_hello(w, c) : !handshake(w, c))
				return;
			continue;
		}
		/* What is said to a group of commands goes out as one (RFC 2920 3.2), in one TLS record. */
		bool moved = c->kind == CONN_INBOUND ? inbound_step(w, c) : outbound_step(w, c);
		if (!moved && !conn_flush(w, c)) {
			if (stream_space(&c->out) == 0 && stream_length(&c->out) == 0)
				starve(w, c); /* no block is left to write to */
			return;
		}
	}
	conn_wake(w, c);
}
