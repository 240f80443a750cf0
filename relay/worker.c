// SPDX-License-Identifier: Apache-2.0
/* relay/worker.c: a worker's turn: TCP's events, the spool's verdicts, the queue's jobs, deadlines. */
#include "relay/worker.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

/* Each ring has room for what can be under way at once; see also the check in take_jobs(). */
#define SPOOL_RING    65536
#define VERDICT_RING  65536
#define JOBS_RING     16384
#define FINISHED_RING 65536
#define HOUSEKEEPING_US 200000
#define STARVED_US	20000

/* ---- errands ---- */

/* The release orders what the main thread has written before the worker's look at it, and the other way round. */
bool worker_lend(struct worker *w, struct errand *errand)
{
	if (!worker_is_back(w))
		return false;
	atomic_store_explicit(&w->errand, errand, memory_order_release);
	return true;
}

static bool run_errand(struct worker *w)
{
	struct errand *errand = atomic_load_explicit(&w->errand, memory_order_acquire);
	if (errand == NULL)
		return false;
	if (errand->step(w, errand))
		atomic_store_explicit(&w->errand, NULL, memory_order_release);
	return true;
}

/* ---- a turn ---- */

static void on_tcp_event(struct worker *w, struct tcp_conn *tcp, uint32_t events)
{
	if (events & TCP_EVENT_ACCEPTED) {
		if (events & TCP_EVENT_ENDED)
			return;
		inbound_accept(w, tcp);
	}
	struct conn *c = tcp_user(tcp);
	if (c == NULL)
		return;
	c->active_us = w->now_us;
	if (events & TCP_EVENT_FIN)
		c->has_fin = true;
	if (events & TCP_EVENT_CONNECTED)
		outbound_connected(w, c);
	if (c->tcp != tcp)
		return; /* it has moved on to another target */
	if (events & TCP_EVENT_ENDED) {
		if (c->kind == CONN_INBOUND) {
			c->is_ended = true;
			inbound_ended(w, c);
		} else if (c->kind == CONN_OUTBOUND) {
			outbound_ended(w, c, tcp_end_reason(tcp));
		}
		return;
	}
	conn_run(w, c);
}

/* Those that were woken before this turn; who wakes now has its turn next. */
static bool run_awake(struct worker *w)
{
	uint32_t slot = w->run_first;
	bool was_busy = slot != CONN_NONE;
	w->run_first = w->run_last = CONN_NONE;
	while (slot != CONN_NONE) {
		struct conn *c = conn_at(w, slot);
		slot = c->next;
		c->is_awake = false;
		c->next = CONN_NONE;
		if (c->kind == CONN_FREE) { /* was freed while on the list */
			c->next = w->free_first;
			w->free_first = conn_slot(w, c);
			w->conn_count--;
		} else {
			conn_run(w, c);
		}
	}
	return was_busy;
}

static void run_deadlines(struct worker *w)
{
	for (int class = 0; class < DEADLINE_CLASSES; class++) {
		struct deadline_list *list = &w->deadlines[class];
		while (list->first != CONN_NONE && conn_at(w, list->first)->deadline_us <= w->now_us) {
			struct conn *c = conn_at(w, list->first);
			uint64_t was = c->deadline_us;
			uint32_t generation = c->generation;
			if (c->kind == CONN_INBOUND)
				inbound_deadline(w, c);
			else
				outbound_deadline(w, c);
			/* Whoever did not choose its next wait has none. */
			if (c->generation == generation && c->deadline == class && c->deadline_us == was)
				conn_set_deadline(w, c, DEADLINE_NONE);
		}
	}
}

static bool take_verdicts(struct worker *w)
{
	bool any = false;
	for (void *word; (word = ring_pop_spsc(&w->from_spool)) != NULL; any = true)
		inbound_verdict(w, verdict_unpack(word));
	return any;
}

/* Only while all open jobs could come back at once: so that a finished job never waits for its ring. */
static bool take_jobs(struct worker *w)
{
	bool any = false;
	while (ring_space(&w->finished_jobs) > w->conn_count + 1) {
		struct queue_job *job = ring_pop_spsc(&w->jobs);
		if (job == NULL)
			break;
		outbound_job(w, job);
		any = true;
	}
	return any;
}

static void drain(struct worker *w)
{
	w->is_draining = true;
	for (unsigned i = 0; i < w->config->listeners_count; i++) {
		const struct config_listener *l = &w->config->listeners[i];
		struct addr any;
		if (!l->enabled)
			continue;
		if (l->address[0] != '\0' && strcmp(l->address, "*") != 0) {
			if (addr_parse(l->address, &any))
				tcp_unlisten(w->tcp, &any, (uint16_t)l->tcp_port);
			continue;
		}
		addr_parse("0.0.0.0", &any);
		tcp_unlisten(w->tcp, &any, (uint16_t)l->tcp_port);
		addr_parse("::", &any);
		tcp_unlisten(w->tcp, &any, (uint16_t)l->tcp_port);
	}
	for (uint32_t slot = 0; slot < w->conn_max; slot++) {
		struct conn *c = conn_at(w, slot);
		if (c->kind == CONN_INBOUND)
			inbound_drain(w, c);
		else if (c->kind == CONN_OUTBOUND)
			outbound_drain(w, c);
	}
}

/* Who found no block tries again, some times a second, while there are any. */
static void relieve_starved(struct worker *w)
{
	if (!w->has_starved || w->now_us < w->starved_us)
		return;
	w->starved_us = w->now_us + STARVED_US;
	if (stream_pool_free_count(w->streams) == 0)
		return;
	w->has_starved = false;
	for (uint32_t slot = 0; slot < w->conn_max; slot++) {
		struct conn *c = conn_at(w, slot);
		if (!c->is_starved)
			continue;
		c->is_starved = false;
		conn_wake(w, c);
	}
}

static void housekeeping(struct worker *w)
{
	if (w->now_us < w->housekeeping_us)
		return;
	w->housekeeping_us = w->now_us + HOUSEKEEPING_US;
	view_collect(&w->views);
	atomic_store_explicit(&w->connections, w->conn_count, memory_order_relaxed);
	atomic_store_explicit(&w->handshakes_in_flight, w->handshakes, memory_order_relaxed);
	if (!w->is_draining && atomic_load_explicit(&w->relay->is_draining, memory_order_relaxed))
		drain(w);
}

/* Last of all: what this turn's packets have brought goes into one batch; where it brought none, no company is in
 * sight for what waits. Whom it wakes has its turn next. */
static bool run_offload(struct worker *w, bool is_idle)
{
	uint64_t since = rte_rdtsc();
	bool did = tls_lib_poll(w->tls_lib, w->now_us * 1000, is_idle);
	if (did)
		COUNT_PART(w, PART_OFFLOAD, since);
	return did;
}

static bool turn(void *user, struct tcp_stack *tcp, uint64_t now_us)
{
	struct worker *w = user;
	bool busy = false;
	uint32_t events;
	w->now_us = now_us;
	w->wall_us = time_wall_us();
	view_refresh(&w->views);
	mail_pool_collect(w->mails);
	for (struct tcp_conn *c; (c = tcp_next_event(tcp, &events)) != NULL; busy = true)
		on_tcp_event(w, c, events);
	busy |= take_verdicts(w);
	busy |= names_take(w);
	busy |= take_jobs(w);
	run_deadlines(w);
	relieve_starved(w);
	busy |= run_awake(w);
	busy |= run_errand(w);
	busy |= run_offload(w, !busy);
	if (w->abort_count != 0)
		submit_flush_aborts(w);
	housekeeping(w);
	return busy;
}

static uint64_t next_due_us(void *user)
{
	struct worker *w = user;
	if (w->run_first != CONN_NONE || w->abort_count != 0 || tls_lib_waiting(w->tls_lib) != 0)
		return 0;
	uint64_t due = w->housekeeping_us;
	if (w->has_starved && w->starved_us < due)
		due = w->starved_us;
	for (int class = 0; class < DEADLINE_CLASSES; class++) {
		uint32_t first = w->deadlines[class].first;
		if (first != CONN_NONE && conn_at(w, first)->deadline_us < due)
			due = conn_at(w, first)->deadline_us;
	}
	return due;
}

/* ---- the making of it ---- */

static int listen_on(struct worker *w, const char *address, const struct config_listener *l, unsigned tag, char error[256])
{
	struct addr addr;
	if (!addr_parse(address, &addr)) {
		snprintf(error, 256, "listener %s: '%s' is not an address", l->name, address);
		return -EINVAL;
	}
	int rc = tcp_listen(w->tcp, &addr, (uint16_t)l->tcp_port, tag);
	if (rc != 0)
		snprintf(error, 256, "listener %s: cannot listen on %s port %u: %s", l->name, address,
			l->tcp_port, strerror(-rc));
	return rc;
}

static int listen_all(struct worker *w, char error[256])
{
	for (unsigned i = 0; i < w->config->listeners_count; i++) {
		const struct config_listener *l = &w->config->listeners[i];
		int rc = 0;
		if (!l->enabled)
			continue;
		if (l->address[0] != '\0' && strcmp(l->address, "*") != 0)
			rc = listen_on(w, l->address, l, i, error);
		else if ((rc = listen_on(w, "0.0.0.0", l, i, error)) == 0)
			rc = listen_on(w, "::", l, i, error);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static void set_limits(struct worker *w)
{
	const struct config *config = w->config;
	w->server_config = (struct smtp_server_config){
		.hostname = config->node.hostname,
		.message_bytes_max = config->limits.message_bytes,
		.recipients_max = config->limits.recipients,
		/* A line that is not whole yet waits in one block. */
		.line_bytes_max = config->limits.line_bytes < SCRATCH_BYTES ? config->limits.line_bytes : SCRATCH_BYTES,
		.header_bytes_max = config->limits.header_bytes,
		.received_max = config->limits.received,
		.errors_max = config->limits.errors_per_session,
		.commands_max = config->limits.commands_per_session,
		.mails_max = config->limits.mails_per_session,
		/* Bulk senders put the recipient into the sender's local part (VERP): the path's limit holds. */
		.local_part_bytes_max = 255,
	};
	struct bytes hostname = bytes_of_string(config->node.hostname);
	reply_format(w->drain_reply, REPLY_SHUTTING_DOWN, hostname, BYTES_NONE);
	reply_format(w->timeout_reply, REPLY_TIMEOUT, hostname, BYTES_NONE);
	for (int i = 0; i < DEADLINE_CLASSES; i++)
		w->deadlines[i] = (struct deadline_list){.first = CONN_NONE, .last = CONN_NONE};
#define _(id, setting) w->deadlines[DEADLINE_##id].length_us = config->timeouts.setting * USEC_PER_SEC;
	DEADLINES(_)
#undef _
}

static bool take_memory(struct worker *w)
{
	const struct config *config = w->config;
	size_t session = smtp_server_size() > smtp_client_size() ? smtp_server_size() : smtp_client_size();
	size_t chunks = (size_t)config->limits.mail_memory_mb * 1024 * 1024 / MAIL_CHUNK_BYTES;
	w->conn_max = config->limits.connections;
	w->stride = (sizeof(struct conn) + session + 63) / 64 * 64;
	w->slab = calloc(w->conn_max, w->stride);
	w->mails = mail_pool_create(chunks, chunks, w->index);
	/* A stream holds a block only while something waits in it, so far fewer than two a connection do. */
	size_t blocks = w->conn_max < 512 ? 2 * w->conn_max + 2 : 1024 + w->conn_max / 8;
	w->streams = stream_pool_create(SCRATCH_BYTES, blocks);
	w->streams_reserved = blocks / 8 + 1;
	w->aborts = calloc(chunks, sizeof *w->aborts);
	w->tls_lib = tls_lib_create();
	if (w->tls_lib != NULL)
		tls_lib_set_deadline(w->tls_lib, config->tls.offload_deadline_us);
	if (!budget_init(&w->budget, config->limits.client_handshakes, config->limits.client_handshakes_burst))
		return false;
	return w->slab != NULL && w->tls_lib != NULL &&
		tls_lib_keep_sessions(w->tls_lib, config->tls.client_sessions, config->tls.client_session_lifetime) &&
		clients_init(&w->clients, w->conn_max) && w->mails != NULL && w->streams != NULL &&
		w->aborts != NULL && ring_init(&w->to_spool, SPOOL_RING) &&
		ring_init(&w->from_spool, VERDICT_RING) && ring_init(&w->jobs, JOBS_RING) &&
		ring_init(&w->finished_jobs, FINISHED_RING) && ring_init(&w->views.returned, VIEW_RETURNED_RING) &&
		record_lane_init(&w->records) && name_lane_init(&w->names);
}

struct worker *worker_create(struct relay *relay, unsigned index, char error[256])
{
	struct worker *w = calloc(1, sizeof *w);
	if (w == NULL) {
		snprintf(error, 256, "worker %u: out of memory", index);
		return NULL;
	}
	w->relay = relay;
	w->config = relay->config;
	w->index = index;
	w->core = dp_get_core(relay->dp, index);
	w->tcp = dp_core_tcp(w->core);
	set_limits(w);
	if (!take_memory(w)) {
		snprintf(error, 256, "worker %u: out of memory; lower limits.connections or limits.mail_memory_mb", index);
		return NULL;
	}
	w->run_first = w->run_last = w->free_first = CONN_NONE;
	for (uint32_t slot = w->conn_max; slot-- > 0;) {
		conn_at(w, slot)->generation = 1;
		conn_at(w, slot)->next = w->free_first;
		w->free_first = slot;
	}
	return listen_all(w, error) == 0 ? w : NULL;
}

static void *run(void *arg)
{
	struct worker *w = arg;
	char name[16];
	snprintf(name, sizeof name, "worker-%u", w->index);
	pthread_setname_np(pthread_self(), name);
	const struct dp_core_user user = {.turn = turn, .next_due_us = next_due_us, .user = w};
	dp_core_run(w->core, &user);
	return NULL;
}

int worker_start(struct worker *w)
{
	return -pthread_create(&w->thread, NULL, run, w);
}
