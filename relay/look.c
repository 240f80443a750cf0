// SPDX-License-Identifier: Apache-2.0
#include "relay/look.h"

#include "dataplane/capture.h"
#include "dataplane/tcp/trace.h"

const uint32_t look_rtt_us[LOOK_RTTS] = {1000, 5000, 20000, 50000, 100000, 200000, 500000, UINT32_MAX};

/* ---- what is above a connection ---- */

static const char *inbound_phase(const struct conn *c)
{
	switch (smtp_server_phase(c->inbound.session)) {
	case SMTP_PHASE_COMMAND: return "command";
	case SMTP_PHASE_CONTENT: return "content";
	case SMTP_PHASE_ANSWER: return "answer";
	case SMTP_PHASE_CLOSED: return "closing";
	}
	return "closing";
}

static const char *outbound_phase(const struct conn *c)
{
	if (c->deadline == DEADLINE_CONNECT)
		return "connect";
	switch (smtp_client_phase(c->outbound.session)) {
	case SMTP_CLIENT_PHASE_GREETING: return "greeting";
	case SMTP_CLIENT_PHASE_COMMAND: return "command";
	case SMTP_CLIENT_PHASE_MAIL: return "mail";
	case SMTP_CLIENT_PHASE_RCPT: return "rcpt";
	case SMTP_CLIENT_PHASE_DATA: return "data";
	case SMTP_CLIENT_PHASE_BLOCK: return "content";
	case SMTP_CLIENT_PHASE_END: return "end";
	case SMTP_CLIENT_PHASE_READY: return c->outbound.job == NULL ? "idle" : "ready";
	}
	return "closing";
}

static const char *phase_of(const struct conn *c)
{
	if (c->is_closing)
		return "closing";
	if (conn_is_shaking(c))
		return "handshake";
	return c->kind == CONN_INBOUND ? inbound_phase(c) : outbound_phase(c);
}

/* "host[address]" up to the bracket */
static void copy_host(struct look_row *row, const char *peer)
{
	struct bytes host = bytes_of(peer, strcspn(peer, "["));
	bytes_to_string(bytes_first(host, sizeof row->name - 1), row->name, sizeof row->name);
}

static void copy_above(struct worker *w, struct look_row *row, const struct conn *c)
{
	uint16_t protocol;
	row->phase = phase_of(c);
	row->age_us = w->now_us - c->opened_us;
	row->idle_us = w->now_us - c->active_us;
	if (c->tls != NULL && (row->cipher = tls_agreed(c->tls, &protocol)) != NULL)
		row->tls = tls_protocol_name(protocol);
	if (c->kind == CONN_INBOUND) {
		row->listener = w->config->listeners[c->inbound.listener].name;
		memcpy(row->name, c->inbound.helo, sizeof row->name);
	} else {
		copy_host(row, c->outbound.peer);
		bytes_to_string(bytes_first(bytes_of_string(c->outbound.domain), sizeof row->domain - 1),
			row->domain, sizeof row->domain);
	}
}

/* ---- the list ---- */

static bool fits(const struct look_filter *f, const struct look_row *row)
{
	return (f->state == UINT32_MAX || f->state == row->tcp.state_number) &&
		(f->peer.bits == 0 || prefix_has(&f->peer, &row->remote)) &&
		(f->port == 0 || f->port == row->local_port || f->port == row->remote_port) &&
		(f->direction == LOOK_BOTH || (!row->is_remnant && (f->direction == LOOK_OUT) == row->tcp.is_active));
}

/* The row is one to be told of; false: enough for now. */
static bool keep_row(struct look_list *l)
{
	l->cursors[l->count++] = l->remnant_cursor == NULL ? l->cursor : *l->remnant_cursor + LOOK_REMNANTS;
	return ++l->copied < LOOK_COPIES && l->count < l->limit;
}

static bool copy_row(void *user, struct tcp_conn *tcp)
{
	struct look_list *l = user;
	struct look_row *row = &l->rows[l->count];
	*row = (struct look_row){.id = tcp_conn_id(tcp)};
	tcp_endpoints(tcp, &row->local, &row->local_port, &row->remote, &row->remote_port);
	tcp_get_info(tcp, &row->tcp);
	if (!fits(&l->filter, row))
		return true;
	const struct conn *c = tcp_user(tcp);
	if (c != NULL && c->tcp == tcp)
		copy_above(l->worker, row, c);
	else
		row->idle_us = row->tcp.sent_us == 0 ? 0 : l->worker->now_us - row->tcp.sent_us;
	return keep_row(l);
}

static bool copy_remnant(void *user, const struct tcp_remnant *r)
{
	struct look_list *l = user;
	struct look_row *row = &l->rows[l->count];
	*row = (struct look_row){.is_remnant = true, .local = r->local, .remote = r->remote,
		.local_port = r->local_port, .remote_port = r->remote_port};
	row->tcp.state_number = r->state_number;
	row->tcp.state = tcp_state_name(r->state_number);
	row->until_us = r->until_us > l->worker->now_us ? r->until_us - l->worker->now_us : 0;
	return !fits(&l->filter, row) || keep_row(l);
}

/* Behind the last connection the remnants begin. */
static bool walk(struct look_list *l, struct tcp_stack *tcp)
{
	if (l->cursor >= LOOK_REMNANTS) {
		uint32_t cursor = l->cursor - LOOK_REMNANTS;
		l->remnant_cursor = &cursor;
		bool has_more = tcp_walk_remnants(tcp, &cursor, LOOK_PLACES, copy_remnant, l);
		l->cursor = cursor + LOOK_REMNANTS;
		return has_more;
	}
	l->remnant_cursor = NULL;
	if (tcp_walk(tcp, &l->cursor, LOOK_PLACES, copy_row, l))
		return true;
	if (l->has_remnants)
		l->cursor = LOOK_REMNANTS;
	return l->has_remnants;
}

bool look_list_step(struct worker *w, struct errand *errand)
{
	struct look_list *l = (struct look_list *)errand;
	l->worker = w;
	l->copied = 0;
	l->has_more = walk(l, w->tcp);
	if (l->has_more && l->count < l->limit)
		return false;
	tcp_get_stats(w->tcp, &l->stats);
	return true;
}

/* ---- the end of one ---- */

bool look_end_step(struct worker *w, struct errand *errand)
{
	struct look_end *e = (struct look_end *)errand;
	struct tcp_conn *tcp = tcp_conn_by_id(w->tcp, e->id);
	e->is_found = tcp != NULL;
	if (tcp != NULL)
		tcp_abort(tcp); /* whoever is above it hears of it as of any end */
	return true;
}

/* ---- watching ---- */

bool look_watch_step(struct worker *w, struct errand *errand)
{
	const struct look_watch *watch = (const struct look_watch *)errand;
	if (watch->is_capture)
		dp_core_set_capture(w->core, watch->capture);
	else
		tcp_set_trace(w->tcp, watch->trace);
	return true;
}

/* ---- the census ---- */

static bool count_one(void *user, struct tcp_conn *tcp)
{
	struct look_census *census = user;
	struct tcp_info info;
	unsigned i = 0;
	tcp_get_info(tcp, &info);
	if (info.state_number < LOOK_STATES)
		census->states[info.state_number]++;
	while (info.srtt_us > look_rtt_us[i])
		i++;
	if (info.srtt_us != 0)
		census->rtts[i]++;
	return true;
}

bool look_census_step(struct worker *w, struct errand *errand)
{
	struct look_census *census = (struct look_census *)errand;
	return !tcp_walk(w->tcp, &census->cursor, LOOK_PLACES, count_one, census);
}
