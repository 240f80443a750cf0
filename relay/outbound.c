// SPDX-License-Identifier: Apache-2.0
/* relay/outbound.c: a delivery: its targets one after the other, their TLS, the session, the verdict.
 *
 * A job's targets are tried in order on one slot: connect -> (handshake) -> greeting -> (STARTTLS, handshake)
 * -> ready. Whatever fails before READY moves on to the next target; after READY the session's own outcomes
 * are the job's. The profile is resolved again for each target, and the stricter of it and the route's holds. */
#include "relay/worker.h"

#include <stdarg.h>
#include <stdio.h>

static const struct queue_target *target_of(const struct outbound *o)
{
	return &o->job->route->targets[o->target];
}

/* The recipients of a job are of one domain; a quoted local part may have an @ of its own. */
static struct bytes domain_of(const struct queue_job *job)
{
	struct bytes rest = job->recipients[0];
	for (size_t at = bytes_find(rest, '@'); at < rest.n; at = bytes_find(rest, '@'))
		rest = bytes_skip(rest, at + 1);
	return rest;
}

/* ---- hosts whose TLS is broken ---- */

static struct broken_tls *broken_slot(struct worker *w, const struct addr *addr)
{
	uint32_t hash = 2166136261u;
	for (int i = 0; i < 16; i++)
		hash = (hash ^ addr->b[i]) * 16777619u;
	return &w->broken[hash % BROKEN_TLS_SLOTS];
}

static bool is_broken(struct worker *w, const struct addr *addr)
{
	const struct broken_tls *slot = broken_slot(w, addr);
	return addr_equal(&slot->addr, addr) && slot->until_us > w->now_us;
}

/* The host's place in the table; whoever was there before is forgotten. */
static struct broken_tls *broken_take(struct worker *w, const struct addr *addr)
{
	struct broken_tls *slot = broken_slot(w, addr);
	if (!addr_equal(&slot->addr, addr))
		*slot = (struct broken_tls){.addr = *addr};
	return slot;
}

static bool wants_small_hello(struct worker *w, const struct addr *addr)
{
	const struct broken_tls *slot = broken_slot(w, addr);
	return addr_equal(&slot->addr, addr) && slot->small_until_us > w->now_us;
}

/* ---- the end of a job ---- */

__attribute__((format(printf, 5, 6))) static void set_reply(
	struct smtp_reply *reply, uint16_t code, uint8_t subject, uint16_t detail, const char *format, ...)
{
	va_list args;
	*reply = (struct smtp_reply){.code = code, .is_ours = true};
	reply->enhanced[0] = (uint8_t)(code / 100);
	reply->enhanced[1] = subject;
	reply->detail = detail;
	va_start(args, format);
	vsnprintf(reply->text, sizeof reply->text, format, args);
	va_end(args);
}

static void push_finished(struct worker *w, struct queue_job *job)
{
	/* There is room: jobs are taken only while there is room for all that are open (worker.c). */
	ring_push_spsc(&w->finished_jobs, job);
}

static void fail_job(struct worker *w, struct queue_job *job, const struct smtp_reply *reply)
{
	for (uint32_t i = 0; i < job->recipient_count; i++)
		job->outcomes[i] = *reply;
	job->kept_generation = 0;
	push_finished(w, job);
}

/* May the connection wait for another mail? */
static bool can_be_kept(const struct worker *w, const struct conn *c)
{
	const struct outbound *o = &c->outbound;
	return o->mails_left > 0 && !o->is_lost && !o->is_quitting && !c->has_fin && !c->is_ended &&
		!c->is_closing && !w->is_draining;
}

/* The session has given every recipient its outcome. */
static void finish_job(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	struct queue_job *job = o->job;
	bool is_kept = can_be_kept(w, c);
	if (!is_kept)
		o->mails_left = 0; /* READY will be answered with QUIT */
	job->is_connect_failure = job->is_tls_failure = false;
	job->evidence = o->evidence;
	job->kept_slot = conn_slot(w, c);
	job->kept_generation = is_kept ? c->generation : 0;
	o->job = NULL;
	o->has_begun = false;
	push_finished(w, job);
}

/* Every way out of a slot: a job comes home whatever went wrong before. */
static void release(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	struct queue_job *job = o->job;
	struct smtp_reply lost;
	o->job = NULL;
	if (job != NULL) {
		set_reply(&lost, 451, 4, 2, "lost connection with %s", o->peer);
		fail_job(w, job, &lost);
	}
	conn_free(w, c);
}

/* ---- targets ---- */

static enum smtp_client_tls tls_mode(struct worker *w, struct outbound *o)
{
	const struct tls_profile *profile = &o->policy.profile;
	const struct queue_target *target = target_of(o);
	if (target->implicit_tls)
		return SMTP_CLIENT_TLS_IMPLICIT;
	if (profile->level == TLS_LEVEL_NONE)
		return SMTP_CLIENT_TLS_NEVER;
	if (profile->level > TLS_LEVEL_MAY)
		return SMTP_CLIENT_TLS_MUST;
	if (o->is_retry_in_clear || (profile->fallback == TLS_FALLBACK_CLEAR && is_broken(w, &target->addr)))
		return SMTP_CLIENT_TLS_NEVER;
	return SMTP_CLIENT_TLS_MAY;
}

/* The route's policy was resolved by the queue thread from sender and domain; this one knows the host too. */
static void resolve(struct worker *w, const struct queue_job *job, const char *host, const struct addr *addr,
	struct policy_out *out)
{
	struct policy_out at_route, at_target;
	policy_resolve_out(w->views.current->policy, job->sender, domain_of(job), bytes_of_string(host), addr,
		&at_target);
	snprintf(at_route.rule_id, sizeof at_route.rule_id, "%s", job->route->rule_id);
	at_route.profile = job->route->profile;
	/* A profile's index is of its generation: where the route is older, the newer resolution stands in. */
	if (job->route->generation != w->views.current->number)
		*out = at_target;
	else
		*out = *policy_stricter(&at_route, &at_target);
}

static void resolve_target(struct worker *w, struct outbound *o)
{
	const struct queue_target *target = target_of(o);
	resolve(w, o->job, target->host, &target->addr, &o->policy);
}

static bool connect_target(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	const struct queue_target *target = target_of(o);
	char address[ADDR_TEXT_MAX];
	struct addr local;
	int error = 0;
	addr_format(&target->addr, address);
	snprintf(o->peer, sizeof o->peer, "%s[%s]", target->host, address);
	resolve_target(w, o);
	o->evidence = (struct queue_evidence){.addr = target->addr, .port = target->port,
		.generation = w->views.current->number};
	memcpy(o->evidence.host, target->host, sizeof o->evidence.host);
	memcpy(o->evidence.profile, o->policy.profile.id, sizeof o->evidence.profile);
	memcpy(o->evidence.rule_id, o->policy.rule_id, sizeof o->evidence.rule_id);
	snprintf(o->evidence.tls_level, sizeof o->evidence.tls_level, "%s",
		tls_level_name(o->policy.profile.level));
	if (!dp_source_for(w->core, &target->addr, &local)) {
		set_reply(&o->failure, 451, 4, 4, "connect to %s:%u: no route to host", o->peer, target->port);
		return false;
	}
	c->tcp = tcp_connect(w->tcp, &local, &target->addr, target->port, c, &error, w->now_us);
	if (c->tcp == NULL) {
		set_reply(&o->failure, 451, 4, 1, "connect to %s:%u: %s", o->peer, target->port,
			error == -EADDRNOTAVAIL ? "no local port is free" : "too many connections");
		return false;
	}
	COUNT(w, outbound_connections);
	o->client_config = (struct smtp_client_config){
		.helo = w->config->node.hostname, .tls = tls_mode(w, o), .peer = o->peer};
	/* Also where an earlier mail has found out that the host's TLS is broken. */
	o->evidence.is_downgraded =
		o->client_config.tls == SMTP_CLIENT_TLS_NEVER && o->policy.profile.level != TLS_LEVEL_NONE;
	bytes_to_string(domain_of(o->job), o->domain, sizeof o->domain);
	o->is_greeted = o->has_begun = o->is_reused = o->is_quitting = o->is_lost = false;
	smtp_client_open(o->session, &o->client_config);
	conn_set_deadline(w, c, DEADLINE_CONNECT);
	return true;
}

/* Forgets the connection to the last target, keeping the slot. */
static void leave_target(struct worker *w, struct conn *c)
{
	conn_drop_tls(w, c);
	stream_reset(&c->in);
	stream_reset(&c->out);
	if (c->tcp != NULL) {
		tcp_set_user(c->tcp, NULL);
		if (!c->is_ended)
			tcp_abort(c->tcp);
	}
	c->tcp = NULL;
	c->is_ended = c->is_closing = c->has_closed = c->has_fin = false;
	conn_set_deadline(w, c, DEADLINE_NONE);
}

/* No target is left: the last one's failure is the job's. */
static void give_up(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	struct queue_job *job = o->job;
	if (o->is_tls_reason && o->policy.profile.on_failure == TLS_FAIL_PERMANENT && o->failure.code < 500) {
		o->failure.code = (uint16_t)(o->failure.code + 100);
		o->failure.enhanced[0] = 5;
	}
	job->evidence = o->evidence;
	job->is_tls_failure = o->is_tls_reason;
	job->is_connect_failure = !o->is_tls_reason;
	o->job = NULL;
	fail_job(w, job, &o->failure);
	release(w, c);
}

static void try_targets(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	for (; o->target < o->job->route->target_count; o->target++) {
		o->is_retry_in_clear = o->is_small_retry = o->is_session_retry = false;
		if (connect_target(w, c))
			return;
	}
	give_up(w, c);
}

/* The present target will not do (o->failure says why). */
static void next_target(struct worker *w, struct conn *c)
{
	leave_target(w, c);
	if (c->outbound.job == NULL) {
		release(w, c);
		return;
	}
	c->outbound.target++;
	try_targets(w, c);
}

/* A kept connection was gone before it took the mail. That says nothing about the mail: a connection of its
 * own, from the first target on. */
static void start_anew(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	leave_target(w, c);
	o->target = 0;
	o->is_tls_reason = false;
	set_reply(&o->failure, 451, 4, 4, "the route has no address");
	try_targets(w, c);
}

/* ---- TLS ---- */

/* Sessions are kept by where they lead to: behind one name there may be hosts with other ticket keys. */
static void set_destination(struct conn *c, const struct queue_target *target)
{
	uint8_t text[sizeof target->addr.b + sizeof target->port];
	memcpy(text, target->addr.b, sizeof target->addr.b);
	memcpy(text + sizeof target->addr.b, &target->port, sizeof target->port);
	tls_set_destination(c->tls, bytes_of(text, sizeof text));
}

static void start_handshake(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	const struct queue_target *target = target_of(o);
	if (w->views.current->number != o->evidence.generation) {
		resolve_target(w, o);
		o->evidence.generation = w->views.current->number;
	}
	c->tls = tls_open_client(
		w->views.current->client, o->policy.profile.index, conn_tls_io(c), target->host, o->domain);
	if (c->tls == NULL) {
		o->is_tls_reason = true;
		handshake_count_failure(&w->handshake_counters.client, HANDSHAKE_NO_MEMORY);
		set_reply(&o->failure, 451, 3, 0, "TLS could not be started towards %s: out of memory", o->peer);
		next_target(w, c);
		return;
	}
	if (o->is_small_retry || wants_small_hello(w, &target->addr))
		o->evidence.is_small_hello = tls_use_small_hello(c->tls);
	set_destination(c, target);
	conn_begin_handshake(w, c);
	conn_set_deadline(w, c, DEADLINE_HANDSHAKE);
}

void outbound_handshake_done(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	struct tls_verdict v;
	tls_get_verdict(c->tls, &v);
	COUNT(w, client_handshakes);
	handshake_count(&w->handshake_counters.client, tls_get_agreement(c->tls));
	if (v.is_resumed)
		COUNT(w, resumed_handshakes);
	struct queue_evidence *e = &o->evidence;
	snprintf(e->tls_version, sizeof e->tls_version, "%s", tls_protocol_name(v.protocol));
	snprintf(e->cipher, sizeof e->cipher, "%s", v.cipher);
	snprintf(e->group, sizeof e->group, "%s", v.group);
	snprintf(e->verify, sizeof e->verify, "%s", tls_verify_name(v.verify));
	snprintf(e->verify_message, sizeof e->verify_message, "%s", v.verify_message);
	snprintf(e->cert_subject, sizeof e->cert_subject, "%s", v.cert_subject);
	snprintf(e->cert_issuer, sizeof e->cert_issuer, "%s", v.cert_issuer);
	e->bits = v.bits;
	e->bits_total = v.bits_total;
	e->is_resumed = v.is_resumed;
	if (o->client_config.tls != SMTP_CLIENT_TLS_IMPLICIT)
		smtp_client_tls_started(o->session);
	conn_set_deadline(w, c, DEADLINE_GREETING);
}

/* What failed may be of our doing: then the target is tried once more without it, before anybody falls back. A large
 * ClientHello (with a hybrid key share it is two segments) is more than some boxes on the way can stand. */
static bool is_tried_again(struct worker *w, struct conn *c, bool is_timeout)
{
	struct outbound *o = &c->outbound;
	const struct addr *addr = &target_of(o)->addr;
	if (o->evidence.is_small_hello) /* it was not that */
		broken_take(w, addr)->small_until_us = 0;
	if (!o->is_small_retry && tls_wants_small_hello(c->tls)) {
		o->is_small_retry = true;
		broken_take(w, addr)->small_until_us = w->now_us + o->policy.profile.remember_seconds * 1000000ull;
		COUNT(w, small_hello_retries);
	} else if (!o->is_session_retry && !is_timeout && tls_is_session_suspect(c->tls)) {
		o->is_session_retry = true;
		COUNT(w, session_retries);
	} else {
		return false;
	}
	leave_target(w, c);
	return connect_target(w, c);
}

void outbound_handshake_failed(struct worker *w, struct conn *c, bool is_timeout)
{
	struct outbound *o = &c->outbound;
	const char *why;
	enum tls_failure_kind kind = tls_failure(c->tls, &why);
	const struct tls_profile *profile = &o->policy.profile;
	COUNT(w, client_handshake_failures);
	handshake_count_failure(&w->handshake_counters.client,
		is_timeout ? HANDSHAKE_TIMED_OUT : handshake_failure_of(kind));
	if (is_timeout)
		why = "timed out";
	else if (why[0] == '\0')
		why = "the peer closed the connection";
	struct tls_verdict v;
	tls_get_verdict(c->tls, &v);
	snprintf(o->evidence.verify, sizeof o->evidence.verify, "%s", tls_verify_name(v.verify));
	snprintf(o->evidence.verify_message, sizeof o->evidence.verify_message, "%s", v.verify_message);
	snprintf(o->evidence.cert_subject, sizeof o->evidence.cert_subject, "%s", v.cert_subject);
	snprintf(o->evidence.cert_issuer, sizeof o->evidence.cert_issuer, "%s", v.cert_issuer);
	const char *what = kind == TLS_FAILURE_UNTRUSTED ? "Server certificate not trusted"
		: kind == TLS_FAILURE_NAME		 ? "Server certificate name mismatch"
							 : "Cannot start TLS: handshake failure";
	set_reply(&o->failure, 454, 7, 5, "%s: host %s: %s", what, o->peer, why);
	o->is_tls_reason = true;
	if (is_tried_again(w, c, is_timeout))
		return;
	bool is_opportunistic = profile->level <= TLS_LEVEL_MAY && !target_of(o)->implicit_tls;
	if (is_opportunistic && profile->fallback == TLS_FALLBACK_CLEAR && !o->is_retry_in_clear) {
		broken_take(w, &target_of(o)->addr)->until_us = w->now_us + profile->remember_seconds * 1000000ull;
		COUNT(w, clear_fallbacks);
		leave_target(w, c);
		o->is_retry_in_clear = true;
		if (connect_target(w, c))
			return;
	} else if (is_opportunistic && profile->fallback == TLS_FALLBACK_DEFER) {
		leave_target(w, c);
		give_up(w, c);
		return;
	}
	next_target(w, c);
}

/* ---- jobs ---- */

/* A connection serves the next mail only under the policy it was opened under, and only if all that is asked
 * for this mail comes to the same profile. */
static bool may_reuse(struct worker *w, const struct conn *c, const struct queue_job *job)
{
	const struct outbound *o = &c->outbound;
	struct policy_out wanted;
	if (c->kind != CONN_OUTBOUND || c->generation != job->connection_generation || o->job != NULL ||
		c->is_closing || c->has_fin || c->is_ended || o->is_quitting || o->is_lost ||
		o->evidence.generation != w->views.current->number)
		return false;
	resolve(w, job, o->evidence.host, &o->evidence.addr, &wanted);
	if (strcmp(wanted.profile.id, o->policy.profile.id) != 0)
		return false;
	/* There the certificate may have been good for the domain alone. */
	return wanted.profile.level < TLS_LEVEL_SECURE ||
		bytes_equal_nocase(domain_of(job), bytes_of_string(o->domain));
}

void outbound_job(struct worker *w, struct queue_job *job)
{
	struct conn *c = job->connection_generation != 0 && job->connection_slot < w->conn_max
		? conn_at(w, job->connection_slot)
		: NULL;
	COUNT(w, jobs);
	if (c != NULL && may_reuse(w, c, job)) {
		COUNT(w, reused_connections);
		c->outbound.job = job;
		c->outbound.is_reused = true;
		c->outbound.mails_left = job->mails_left;
		conn_set_deadline(w, c, DEADLINE_COMMAND); /* it is not idle any more */
		conn_wake(w, c);
		return;
	}
	struct smtp_reply busy;
	if (w->views.current == NULL || w->views.current->client == NULL ||
		(c = conn_get(w, CONN_OUTBOUND, NULL)) == NULL) {
		set_reply(&busy, 451, 3, 2, "no connection slot is free on this core");
		fail_job(w, job, &busy);
		return;
	}
	struct outbound *o = &c->outbound;
	o->job = job;
	o->mails_left = job->mails_left;
	set_reply(&o->failure, 451, 4, 4, "the route has no address");
	try_targets(w, c);
}

static void begin_job(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	struct smtp_reply reply;
	const struct queue_job *job = o->job;
	o->client_job = (struct smtp_client_job){.mail = job->mail, .sender = job->sender,
		.recipients = job->recipients, .recipient_count = job->recipient_count,
		.body_flags = job->body_flags};
	o->has_begun = true;
	if (smtp_client_begin(o->session, &o->client_job, &reply))
		return;
	for (uint32_t i = 0; i < job->recipient_count; i++)
		o->job->outcomes[i] = reply;
	finish_job(w, c);
}

static void quit(struct worker *w, struct conn *c)
{
	smtp_client_quit(c->outbound.session);
	c->outbound.is_quitting = true;
	conn_set_deadline(w, c, DEADLINE_LINGER);
	conn_wake(w, c);
}

static enum deadline deadline_of_phase(enum smtp_client_phase phase)
{
	switch (phase) {
	case SMTP_CLIENT_PHASE_GREETING: return DEADLINE_GREETING;
	case SMTP_CLIENT_PHASE_COMMAND: return DEADLINE_COMMAND;
	case SMTP_CLIENT_PHASE_MAIL: return DEADLINE_MAIL;
	case SMTP_CLIENT_PHASE_RCPT: return DEADLINE_RCPT;
	case SMTP_CLIENT_PHASE_DATA: return DEADLINE_DATA;
	case SMTP_CLIENT_PHASE_BLOCK: return DEADLINE_BLOCK;
	case SMTP_CLIENT_PHASE_END: return DEADLINE_END;
	case SMTP_CLIENT_PHASE_READY: return DEADLINE_IDLE;
	}
	return DEADLINE_COMMAND;
}

/* Events of the session; false: the connection has moved on (to another target) or is gone. */
static bool on_event(struct worker *w, struct conn *c, const struct smtp_client_event *event)
{
	struct outbound *o = &c->outbound;
	switch (event->kind) {
	case SMTP_CLIENT_NONE: break;
	case SMTP_CLIENT_STARTTLS: break; /* seen to by the caller */
	case SMTP_CLIENT_READY: o->is_greeted = true; break;
	case SMTP_CLIENT_RECIPIENT:
		if (o->job != NULL && event->index < o->job->recipient_count)
			o->job->outcomes[event->index] = event->reply;
		break;
	case SMTP_CLIENT_DONE:
		if (o->job == NULL)
			break;
		if (o->is_reused && !smtp_client_was_mail_answered(o->session)) {
			start_anew(w, c);
			return false;
		}
		finish_job(w, c);
		break;
	case SMTP_CLIENT_FAILED:
		if (o->job == NULL) {
			conn_close(w, c);
			return false;
		}
		if (o->is_reused) { /* given to it, but not begun */
			start_anew(w, c);
			return false;
		}
		o->failure = event->reply;
		o->is_tls_reason = event->reply.is_ours && event->reply.enhanced[1] == 7;
		next_target(w, c);
		return false;
	case SMTP_CLIENT_CLOSED: conn_close(w, c); return false;
	}
	return true;
}

/* Deadlines begin anew with a new phase, an event, a whole line of a reply (of which there is a limit), and while
 * content is taken fast enough; not with every byte, or a host could hold us for ever. */
static void arm(struct worker *w, struct conn *c, bool has_event, bool has_line, size_t written)
{
	struct outbound *o = &c->outbound;
	enum deadline wanted = deadline_of_phase(smtp_client_phase(o->session));
	uint64_t least = (uint64_t)w->config->limits.min_bytes_per_second * w->config->timeouts.block;
	if (o->is_quitting)
		return;
	o->block_bytes += written;
	bool is_fast = wanted == DEADLINE_BLOCK && written != 0 && o->block_bytes >= least;
	if (!has_event && !has_line && !is_fast && c->deadline == wanted)
		return;
	o->block_bytes = 0;
	conn_set_deadline(w, c, wanted);
}

/* 220 to STARTTLS has come. What came in clear behind it would be taken for the secured session's. */
static void on_starttls(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	if (conn_has_unread(w, c)) {
		set_reply(&o->failure, 454, 7, 5, "Cannot start TLS: host %s sent bytes in clear after its 220", o->peer);
		o->is_tls_reason = true;
		next_target(w, c);
		return;
	}
	start_handshake(w, c);
}

bool outbound_step(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	struct smtp_client_event event = {0};
	if (c->deadline == DEADLINE_CONNECT)
		return false;
	if (o->is_greeted && o->job != NULL && !o->has_begun &&
		smtp_client_phase(o->session) == SMTP_CLIENT_PHASE_READY)
		begin_job(w, c);
	else if (o->is_greeted && o->job == NULL && o->mails_left == 0 &&
		smtp_client_phase(o->session) == SMTP_CLIENT_PHASE_READY)
		quit(w, c);
	struct bytes input = conn_input(w, c);
	size_t queued = stream_length(&c->out);
	size_t used = smtp_client_feed(o->session, input, &event, &c->out);
	size_t written = stream_length(&c->out) - queued;
	bool has_line = bytes_find(bytes_first(input, used), '\n') < used;
	bool moved = conn_used(w, c, input, used, event.kind == SMTP_CLIENT_NONE) ||
		event.kind != SMTP_CLIENT_NONE || written != 0;
	if (!on_event(w, c, &event))
		return true;
	if (event.kind == SMTP_CLIENT_STARTTLS) {
		on_starttls(w, c);
		return true;
	}
	arm(w, c, event.kind != SMTP_CLIENT_NONE, has_line, written);
	if (!moved && conn_is_read_out(c) && !o->is_lost) {
		o->is_lost = true;
		smtp_client_lost(o->session, "the server closed the connection");
		return true;
	}
	return moved;
}

void outbound_connected(struct worker *w, struct conn *c)
{
	if (c->outbound.client_config.tls == SMTP_CLIENT_TLS_IMPLICIT)
		start_handshake(w, c);
	else
		conn_set_deadline(w, c, DEADLINE_GREETING);
	conn_wake(w, c);
}

/* The session hears that its connection is gone, and its last events are performed. */
static void lose_session(struct worker *w, struct conn *c, const char *why)
{
	struct outbound *o = &c->outbound;
	struct smtp_client_event event = {.kind = SMTP_CLIENT_DONE};
	uint32_t generation = c->generation;
	o->is_lost = true;
	smtp_client_lost(o->session, why);
	while (event.kind != SMTP_CLIENT_NONE) {
		event.kind = SMTP_CLIENT_NONE;
		smtp_client_feed(o->session, BYTES_NONE, &event, &c->out);
		if (!on_event(w, c, &event))
			return;
		if (c->generation != generation)
			return;
	}
	conn_close(w, c);
}

static const char *why_lost(const struct conn *c)
{
	const char *why = "";
	if (c->tls != NULL)
		tls_failure(c->tls, &why);
	return why[0] != '\0' ? why : "lost connection";
}

void outbound_ended(struct worker *w, struct conn *c, enum tcp_end why)
{
	struct outbound *o = &c->outbound;
	c->is_ended = true;
	uint32_t generation = c->generation;
	if (c->deadline == DEADLINE_CONNECT) {
		o->is_tls_reason = false;
		set_reply(&o->failure, 451, 4, 1, "connect to %s:%u: %s", o->peer, o->evidence.port,
			why == TCP_END_REFUSED		 ? "Connection refused"
				: why == TCP_END_TIMEOUT ? "Connection timed out"
							 : tcp_end_name(why));
		next_target(w, c);
		return;
	}
	if (c->tls_state == CONN_HANDSHAKE) {
		outbound_handshake_failed(w, c, false);
		return;
	}
	if (!c->is_closing) {
		while (c->kind == CONN_OUTBOUND && outbound_step(w, c) && c->is_ended && !c->is_closing)
			; /* what came before the end still counts */
		if (c->generation == generation && c->is_ended && !c->is_closing)
			lose_session(w, c, why_lost(c));
	}
	/* Still the connection that ended, not one to the next target? */
	if (c->generation == generation && c->kind == CONN_OUTBOUND && c->is_ended)
		release(w, c);
}

void outbound_drain(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	if (o->job == NULL && !c->is_closing && !o->is_quitting)
		quit(w, c);
}

void outbound_deadline(struct worker *w, struct conn *c)
{
	struct outbound *o = &c->outbound;
	if (c->is_closing || o->is_quitting) {
		conn_abort(w, c);
		return;
	}
	if (c->deadline == DEADLINE_IDLE && o->job == NULL) {
		quit(w, c);
		return;
	}
	COUNT(w, timeouts);
	if (c->deadline == DEADLINE_CONNECT) {
		o->is_tls_reason = false;
		set_reply(&o->failure, 451, 4, 1, "connect to %s:%u: Connection timed out", o->peer,
			o->evidence.port);
		next_target(w, c);
	} else if (c->tls_state == CONN_HANDSHAKE) {
		outbound_handshake_failed(w, c, true);
	} else {
		lose_session(w, c, "timed out");
	}
}
