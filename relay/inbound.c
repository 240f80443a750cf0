// SPDX-License-Identifier: Apache-2.0
/* relay/inbound.c: a client's connection: its rule, its TLS, its session, its mails' way into the spool. */
#include "relay/worker.h"
#include "base/clock.h"
#include "smtp/envelope.h"

#include <stdio.h>

static struct policy_client policy_client_of(const struct worker *w, const struct inbound *in)
{
	return (struct policy_client){
		.listener = bytes_of_string(w->config->listeners[in->listener].name),
		.addr = in->client,
		.name = bytes_of_string(in->name)};
}

static void resolve(struct worker *w, struct inbound *in)
{
	struct policy_in rule;
	struct policy_client client = policy_client_of(w, in);
	const struct view *view = w->views.current;
	policy_resolve_connect(view->policy, &client, &rule);
	in->policy_number = view->number;
	memcpy(in->rule_id, rule.rule_id, sizeof in->rule_id);
	memcpy(in->profile_id, rule.profile.id, sizeof in->profile_id);
	in->profile_index = rule.profile.index;
	in->action = (uint8_t)rule.action;
	in->level = rule.profile.level;
	in->on_failure = rule.profile.on_failure;
	in->normalises = rule.normalises_bare_lf;
}

#define COPY_TEXT(to, from) bytes_to_string(bytes_of_string(from), to, sizeof(to))

/* What all records of an inbound session have in common. */
static struct record *record_begin(struct worker *w, struct conn *c, enum record_disposition disposition,
	const char *stage)
{
	struct inbound *in = &c->inbound;
	struct record *r = record_get(&w->records);
	if (r == NULL)
		return NULL;
	struct tls_verdict v = {0};
	if (c->tls_state == CONN_TLS)
		tls_get_verdict(c->tls, &v);
	r->time_us = w->wall_us;
	r->session_id = in->session_id;
	r->disposition = (uint8_t)disposition;
	r->client_addr = in->client;
	r->generation = in->policy_number;
	COPY_TEXT(r->listener, w->config->listeners[in->listener].name);
	COPY_TEXT(r->client_name, in->name);
	COPY_TEXT(r->helo, in->helo);
	COPY_TEXT(r->stage, stage);
	COPY_TEXT(r->rule_id, in->rule_id);
	COPY_TEXT(r->profile, in->profile_id);
	COPY_TEXT(r->tls_level, tls_level_name(in->level));
	if (v.is_tls) {
		COPY_TEXT(r->tls_version, tls_protocol_name(v.protocol));
		COPY_TEXT(r->cipher, v.cipher);
		COPY_TEXT(r->group, v.group);
		COPY_TEXT(r->verify, tls_verify_name(v.verify));
		COPY_TEXT(r->verify_message, v.verify_message);
		COPY_TEXT(r->cert_subject, v.cert_subject);
		COPY_TEXT(r->cert_issuer, v.cert_issuer);
		r->bits = v.bits;
		r->bits_total = v.bits_total;
		r->is_resumed = v.is_resumed;
	}
	return r;
}

static void record_refusal(struct worker *w, struct conn *c, const char *stage, const char *reply, const char *reason)
{
	struct record *r = record_begin(w, c, RECORD_REJECTED, stage);
	if (r == NULL)
		return;
	COPY_TEXT(r->from, c->inbound.from);
	bytes_to_string(bytes_of(reply, strcspn(reply, "\r\n")), r->reply, sizeof r->reply);
	COPY_TEXT(r->reason, reason);
	record_push(&w->records, r);
}

static void record_accepted(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	struct record *r = record_begin(w, c, RECORD_ACCEPTED, "content");
	if (r == NULL)
		return;
	r->queue_id = in->mail_id;
	r->size = in->mail_size;
	COPY_TEXT(r->proto, smtp_server_proto(in->session));
	COPY_TEXT(r->from, in->from);
	COPY_TEXT(r->to, in->to);
	if (in->is_left)
		COPY_TEXT(r->reason, "the client had gone before the reply");
	else
		snprintf(r->reply, sizeof r->reply, "250 2.0.0 Ok, %u recipients", in->recipients);
	record_push(&w->records, r);
}

/* ---- opening ---- */

static void open_session(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	const struct smtp_server_policy policy = {
		.is_tls = c->tls_state == CONN_TLS,
		.offers_starttls = in->level != TLS_LEVEL_NONE && w->views.current->server != NULL,
		.requires_tls = in->level >= TLS_LEVEL_ENCRYPT,
		.normalises_bare_lf = in->normalises,
	};
	smtp_server_open(in->session, &w->server_config, &policy, &c->out);
	in->session_until_us = w->now_us + w->config->timeouts.server_session * USEC_PER_SEC;
	conn_set_deadline(w, c, DEADLINE_SERVER_COMMAND);
	if (w->is_draining)
		inbound_drain(w, c);
}

/* ---- the handshake ---- */

/* What a handshake costs beside one with ECDSA: 1.5 to 1.7 times as much with RSA-2048, 3.5 to 4.3 with RSA-3072
 * (bench/README.md), the signature growing with the cube of its size. Batches make all of them cheaper, and
 * the ratio no less: so the price goes by the size, whatever the back end. */
static unsigned tokens_of(struct tls_agreement a)
{
	if (a.key != TLS_KEY_RSA)
		return 1;
	return a.key_bits <= 2048 ? 2 : a.key_bits <= 3072 ? 4 : a.key_bits <= 4096 ? 7 : 40;
}

/* RFC 8446 6. */
enum alert { ALERT_NONE = 0, ALERT_UNEXPECTED_MESSAGE = 10, ALERT_DECODE_ERROR = 50, ALERT_INTERNAL_ERROR = 80 };

/* HANDSHAKE_FAILURE_COUNT: nothing is in its way. */
static enum handshake_failure handshake_obstacle(const struct worker *w, const struct inbound *in)
{
	if (!budget_has(&w->budget, &in->client, w->now_us))
		return HANDSHAKE_CLIENT_BUDGET;
	return w->handshakes >= w->config->limits.handshakes ? HANDSHAKE_IN_FLIGHT : HANDSHAKE_FAILURE_COUNT;
}

static const char *obstacle_words(enum handshake_failure obstacle)
{
	return obstacle == HANDSHAKE_CLIENT_BUDGET ? "handshakes per client" : "handshakes in flight";
}

/* What it has cost is known once the certificate is. */
static void charge_certificate(struct worker *w, struct conn *c)
{
	if (c->tls != NULL)
		budget_take(&w->budget, &c->inbound.client, tokens_of(tls_get_agreement(c->tls)) - 1, w->now_us);
}

static void tell_handshake_failed(
	struct worker *w, struct conn *c, enum handshake_failure failure, const char *why)
{
	COUNT(w, server_handshake_failures);
	handshake_count_failure(&w->handshake_counters.server, failure);
	charge_certificate(w, c);
	record_refusal(w, c, "tls", "", why);
}

void inbound_handshake_failed(struct worker *w, struct conn *c, enum handshake_failure failure, const char *why)
{
	tell_handshake_failed(w, c, failure, why);
	conn_drop_tls(w, c);
	conn_close(w, c);
}

static void start_handshake(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	/* What was offered under one generation may be gone with the next: certificates, say. */
	if (w->views.current->server == NULL) {
		tell_handshake_failed(w, c, HANDSHAKE_NO_MEMORY, "no certificate any more");
		conn_abort(w, c);
		return;
	}
	budget_take(&w->budget, &in->client, 1, w->now_us);
	in->hello = (struct tls_hello){0};
	c->tls_state = CONN_HELLO;
	conn_set_deadline(w, c, DEADLINE_HANDSHAKE);
}

/* Without a TLS session an alert is all that the client understands. */
static void refuse_hello(
	struct worker *w, struct conn *c, enum handshake_failure failure, enum alert alert, const char *why)
{
	const uint8_t record[] = {21, 3, 1, 0, 2, 2, (uint8_t)alert}; /* RFC 8446 5.1, 6: fatal */
	inbound_handshake_failed(w, c, failure, why);
	if (alert != ALERT_NONE)
		stream_write(&c->out, bytes_of(record, sizeof record));
}

static void open_tls(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	if (in->policy_number != w->views.current->number)
		resolve(w, in); /* a profile's place holds only within its generation */
	if (w->handshakes >= w->config->limits.handshakes) {
		refuse_hello(w, c, HANDSHAKE_IN_FLIGHT, ALERT_INTERNAL_ERROR, "handshakes in flight");
		return;
	}
	uint64_t since = rte_rdtsc();
	if (w->views.current->server != NULL)
		c->tls = tls_open_server(w->views.current->server, in->profile_index, conn_tls_io(c));
	COUNT_PART(w, PART_OPEN, since);
	if (c->tls == NULL) {
		refuse_hello(w, c, HANDSHAKE_NO_MEMORY, ALERT_INTERNAL_ERROR, "no memory or certificate for TLS");
		return;
	}
	tls_set_listener(c->tls, w->config->listeners[in->listener].name);
	conn_begin_handshake(w, c);
}

static bool peek_at(void *user, size_t offset, uint8_t *to, size_t n)
{
	return tcp_peek_at(user, offset, to, n);
}

bool inbound_hello(struct worker *w, struct conn *c)
{
	struct tls_hello *hello = &c->inbound.hello;
	enum tls_hello_state state = TLS_HELLO_MORE;
	size_t there = c->tcp == NULL ? 0 : tcp_readable(c->tcp);
	if (there >= hello->wanted)
		state = tls_hello_look(hello, there, peek_at, c->tcp);
	switch (state) {
	case TLS_HELLO_MORE:
		if (!c->has_fin)
			return false;
		refuse_hello(w, c, HANDSHAKE_CLOSED, ALERT_NONE, "the peer closed the connection");
		break;
	case TLS_HELLO_WHOLE: open_tls(w, c); break;
	case TLS_HELLO_NOT_TLS:
		refuse_hello(w, c, HANDSHAKE_NOT_TLS, ALERT_UNEXPECTED_MESSAGE, "what came is not a ClientHello");
		break;
	case TLS_HELLO_TOO_LARGE:
		refuse_hello(w, c, HANDSHAKE_HELLO_TOO_LARGE, ALERT_DECODE_ERROR,
			"the ClientHello is larger than 16 KiB or cut up");
		break;
	}
	return true;
}

void inbound_handshake_done(struct worker *w, struct conn *c)
{
	struct tls_agreement agreed = tls_get_agreement(c->tls);
	COUNT(w, server_handshakes);
	if (agreed.is_resumed)
		COUNT(w, resumed_handshakes);
	handshake_count(&w->handshake_counters.server, agreed);
	charge_certificate(w, c);
	if (w->config->listeners[c->inbound.listener].implicit_tls) {
		open_session(w, c);
		return;
	}
	smtp_server_tls_started(c->inbound.session);
	c->inbound.helo[0] = '\0';
	conn_set_deadline(w, c, DEADLINE_SERVER_COMMAND);
	if (w->is_draining)
		inbound_drain(w, c);
}

void inbound_tls_broke(struct worker *w, struct conn *c)
{
	const char *why;
	tls_failure(c->tls, &why);
	record_refusal(w, c, "tls", "", why);
	conn_abort(w, c);
}

/* ---- admission ---- */

/* Says why and closes, before any session. In clear also where TLS would be implicit: there the peer sees a
 * failed handshake, which is all that can be said to it. */
static void refuse(struct worker *w, struct conn *c, enum reply reply, const char *argument, const char *reason)
{
	char line[REPLY_BYTES_MAX + 1], client[ADDR_TEXT_MAX];
	addr_format(&c->inbound.client, client);
	reply_format(line, reply, bytes_of_string(argument == NULL ? client : argument), bytes_of_string(client));
	COUNT(w, refused_connections);
	record_refusal(w, c, "connect", line, reason);
	if (!w->config->listeners[c->inbound.listener].implicit_tls)
		stream_write(&c->out, bytes_of_string(line));
	conn_close(w, c);
}

static void refuse_handshake(struct worker *w, struct conn *c, enum handshake_failure obstacle)
{
	handshake_count_failure(&w->handshake_counters.server, obstacle);
	refuse(w, c, REPLY_TOO_MANY_HANDSHAKES, w->config->node.hostname, obstacle_words(obstacle));
}

/* Under the rule for it, once its name is known as far as a rule wants it. */
static void greet(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	const char *hostname = w->config->node.hostname;
	enum handshake_failure obstacle = handshake_obstacle(w, in);
	in->is_naming = false;
	resolve(w, in);
	if (in->action == POLICY_REJECT)
		refuse(w, c, REPLY_CLIENT_REJECTED, NULL, "rule");
	else if (!w->config->listeners[in->listener].implicit_tls)
		open_session(w, c);
	else if (in->level == TLS_LEVEL_NONE || w->views.current->server == NULL)
		refuse(w, c, REPLY_NO_TLS_HERE, hostname, "TLS level none on an implicit TLS listener");
	else if (obstacle != HANDSHAKE_FAILURE_COUNT)
		refuse_handshake(w, c, obstacle);
	else
		start_handshake(w, c);
}

static void admit(struct worker *w, struct conn *c, uint32_t connections)
{
	struct inbound *in = &c->inbound;
	const char *hostname = w->config->node.hostname;
	struct policy_client client = policy_client_of(w, in);
	if (connections > w->config->limits.connections_per_client) {
		refuse(w, c, REPLY_TOO_MANY_CONNECTIONS, hostname, "connections per client");
	} else if (w->views.current == NULL) {
		refuse(w, c, REPLY_STARTING_UP, hostname, "no policy yet");
	} else if (!policy_wants_client_name(w->views.current->policy, &client)) {
		greet(w, c);
	} else if (names_ask(w, c, &in->client)) {
		in->is_naming = true;
		conn_set_deadline(w, c, DEADLINE_CLIENT_NAME);
	} else {
		COUNT(w, names_missed);
		greet(w, c);
	}
}

void inbound_named(struct worker *w, uint32_t slot, uint32_t generation, const char *name)
{
	struct conn *c = conn_at(w, slot);
	if (c->kind != CONN_INBOUND || c->generation != generation || !c->inbound.is_naming) {
		COUNT(w, stale_answers);
		return;
	}
	snprintf(c->inbound.name, sizeof c->inbound.name, "%s", name);
	conn_set_deadline(w, c, DEADLINE_NONE);
	greet(w, c);
	conn_wake(w, c);
}

void inbound_accept(struct worker *w, struct tcp_conn *tcp)
{
	struct conn *c = conn_get(w, CONN_INBOUND, tcp);
	if (c == NULL) {
		COUNT(w, refused_connections);
		tcp_abort(tcp);
		return;
	}
	uint16_t local_port, remote_port;
	struct addr local;
	struct inbound *in = &c->inbound;
	COUNT(w, accepted_connections);
	tcp_set_user(tcp, c);
	tcp_endpoints(tcp, &local, &local_port, &in->client, &remote_port);
	in->listener = tcp_tag(tcp);
	in->session_id = mail_id_next(&w->last_session_id, w->wall_us, w->index);
	admit(w, c, clients_add(&w->clients, &in->client));
	conn_run(w, c);
}

/* Its mail is durable or not, and nobody is there to be told. */
static void settle_left(struct worker *w, struct conn *c)
{
	if (c->inbound.verdict == VERDICT_DURABLE)
		record_accepted(w, c);
	conn_free(w, c);
}

/* Without TCP there is nothing to run: it waits for the spool alone, which answers every commit. */
static void leave(struct worker *w, struct conn *c)
{
	c->inbound.is_left = true;
	if (c->inbound.verdict != VERDICT_NONE) {
		settle_left(w, c);
		return;
	}
	conn_set_deadline(w, c, DEADLINE_NONE);
	tcp_set_user(c->tcp, NULL);
	c->tcp = NULL;
	c->is_closing = true;
	stream_reset(&c->in);
	stream_reset(&c->out);
}

void inbound_ended(struct worker *w, struct conn *c)
{
	if (conn_is_shaking(c))
		tell_handshake_failed(w, c, HANDSHAKE_CLOSED, "the peer closed the connection");
	clients_remove(&w->clients, &c->inbound.client);
	submit_abort(w, c);
	if (c->inbound.is_waiting)
		leave(w, c);
	else
		conn_free(w, c);
}

/* ---- the mail stage ---- */

/* Does the handshake that was done satisfy what a mail-stage rule asks? REPLY_NONE, or how to say what lacks. */
static enum reply profile_lacks(const struct conn *c, const struct tls_profile *profile)
{
	char why[TLS_WHY_BYTES];
	bool is_tls = c->tls_state == CONN_TLS, is_permanent = profile->on_failure == TLS_FAIL_PERMANENT;
	if (profile->level == TLS_LEVEL_NONE)
		return is_tls ? REPLY_MUST_NOT_USE_TLS : REPLY_NONE;
	if (profile->level < TLS_LEVEL_ENCRYPT)
		return REPLY_NONE;
	if (!is_tls)
		return REPLY_NEEDS_TLS;
	switch (tls_check(c->tls, profile, why)) {
	case TLS_FAILURE_NONE: return REPLY_NONE;
	case TLS_FAILURE_UNTRUSTED:
	case TLS_FAILURE_NAME:
	case TLS_FAILURE_NO_CERT: return is_permanent ? REPLY_UNVERIFIED_CERT_PERMANENT : REPLY_UNVERIFIED_CERT;
	default: return is_permanent ? REPLY_TLS_TOO_WEAK_PERMANENT : REPLY_TLS_TOO_WEAK;
	}
}

/* What the mail stage's rules say to this sender (and recipient, once there is one). That they let it relay
 * holds for this sender and recipient alone, not for what comes after on the same connection. */
static enum reply mail_stage_refusal(struct worker *w, struct conn *c, struct bytes sender,
	struct bytes recipient, bool *may_relay)
{
	struct policy_client client = policy_client_of(w, &c->inbound);
	struct policy_in rule;
	*may_relay = c->inbound.action == POLICY_RELAY;
	if (!policy_resolve_mail(w->views.current->policy, &client, sender, recipient, &rule))
		return REPLY_NONE;
	if (rule.action == POLICY_REJECT)
		return REPLY_ADDRESS_REJECTED;
	*may_relay |= rule.action == POLICY_RELAY;
	return profile_lacks(c, &rule.profile);
}

/* Answers a MAIL, RCPT or DATA: the line of `refusal` about `address`, or go on. */
static void answer(struct worker *w, struct conn *c, enum reply refusal, const char *stage, struct bytes address)
{
	char line[REPLY_BYTES_MAX + 1];
	bool is_recipient = strcmp(stage, "rcpt") == 0;
	if (refusal == REPLY_NONE) {
		smtp_server_answer(c->inbound.session, NULL, NULL, &c->out);
		return;
	}
	reply_format(line, refusal, address, bytes_of_string(is_recipient ? "Recipient" : "Sender"));
	smtp_server_answer(c->inbound.session, line, NULL, &c->out);
	record_refusal(w, c, stage, line, "");
}

static void on_mail(struct worker *w, struct conn *c, const struct smtp_event *event)
{
	bool may_relay;
	bytes_to_string(event->text, c->inbound.from, sizeof c->inbound.from);
	enum reply refusal = mail_stage_refusal(w, c, event->text, BYTES_NONE, &may_relay);
	if (refusal == REPLY_NONE && (!atomic_load(&w->relay->queue.has_room) || atomic_load(&w->relay->spool.is_full)))
		refusal = REPLY_NO_STORAGE;
	if (refusal == REPLY_NONE && !submit_begin(w, c, event->text, event->body_flags)) {
		COUNT(w, memory_refusals);
		refusal = REPLY_NO_STORAGE;
	}
	answer(w, c, refusal, "mail", event->text);
}

/* The route decides whether we can take it at all, the action and the route whether from this client. */
static enum reply recipient_refusal(struct worker *w, struct conn *c, const struct smtp_event *event)
{
	struct policy_route route;
	struct bytes domain = event->domain;
	if (domain.n == 0) /* <postmaster>, RFC 5321 4.5.1: ours */
		domain = bytes_of_string(w->config->node.hostname);
	bool may_relay, has_route = policy_find_route(w->views.current->policy, domain, &route);
	enum reply refusal =
		mail_stage_refusal(w, c, bytes_of_string(c->inbound.from), event->text, &may_relay);
	if (!may_relay && !(has_route && route.is_inbound))
		return REPLY_RELAY_DENIED;
	return has_route ? refusal : REPLY_NO_ROUTE;
}

static void on_recipient(struct worker *w, struct conn *c, const struct smtp_event *event)
{
	char text[300];
	struct bytes recipient = event->text;
	enum reply refusal = recipient_refusal(w, c, event);
	if (event->domain.n == 0) {
		snprintf(text, sizeof text, "postmaster@%s", w->config->node.hostname);
		recipient = bytes_of_string(text);
	}
	if (refusal == REPLY_NONE && (c->inbound.mail == NULL || !submit_recipient(c, recipient)))
		refusal = REPLY_NO_STORAGE;
	answer(w, c, refusal, "rcpt", event->text);
}

static void on_content_begins(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	enum reply refusal = REPLY_NONE;
	if (in->mail == NULL || !submit_content_begins(w, c)) {
		COUNT(w, memory_refusals);
		refusal = REPLY_NO_STORAGE;
		submit_abort(w, c);
	}
	answer(w, c, refusal, "content", BYTES_NONE);
	conn_set_deadline(w, c, DEADLINE_SERVER_CONTENT);
}

/* Content with no room for it is swallowed, so that the answer comes where the client expects it. */
static void on_content(struct worker *w, struct conn *c, struct bytes content)
{
	struct inbound *in = &c->inbound;
	if (in->mail != NULL && !submit_content(w, c, content)) {
		COUNT(w, memory_refusals);
		submit_abort(w, c);
	}
	in->content_bytes += content.n;
	/* A client slower than the least rate, averaged over a deadline, does not move it (slow senders). */
	uint64_t wanted = (uint64_t)w->config->limits.min_bytes_per_second * w->config->timeouts.server_content;
	if (in->content_bytes - in->rate_mark >= wanted) {
		in->rate_mark = in->content_bytes;
		conn_set_deadline(w, c, DEADLINE_SERVER_CONTENT);
	}
}

static void on_end(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	if (in->mail == NULL) {
		COUNT(w, mails_refused);
		answer(w, c, REPLY_NO_STORAGE, "content", BYTES_NONE);
		return;
	}
	in->is_submitting = true;
	conn_set_deadline(w, c, DEADLINE_END); /* a disk that hangs: the client has given up by then, too */
}

/* ---- the loop ---- */

/* A command that brings no event (NOOP) still was one: RFC 5321 4.5.3.2.7 counts from it. Not within a mail,
 * whose content must not be had byte by byte; how many there may be is the session's limit. */
static void on_quiet_command(struct worker *w, struct conn *c)
{
	if (smtp_server_phase(c->inbound.session) == SMTP_PHASE_COMMAND &&
		!smtp_server_has_mail(c->inbound.session) && c->deadline == DEADLINE_SERVER_COMMAND)
		conn_set_deadline(w, c, DEADLINE_SERVER_COMMAND);
}

/* The peer has said its last, and the session can make nothing of what is left: half a line, say. */
static bool is_over(const struct conn *c)
{
	return conn_is_read_out(c) && stream_length(&c->out) == 0 && stream_space(&c->out) >= SMTP_SERVER_ROOM;
}

static void on_refused(
	struct worker *w, struct conn *c, const struct smtp_event *event, enum handshake_failure obstacle)
{
	char command[128], reply[512];
	bytes_to_string(event->text, command, sizeof command);
	bytes_to_string(event->reply, reply, sizeof reply);
	COUNT(w, commands_refused);
	if (strncmp(reply, "454 ", 4) != 0) { /* STARTTLS's alone */
		record_refusal(w, c, "command", reply, command);
		return;
	}
	handshake_count_failure(&w->handshake_counters.server, obstacle);
	record_refusal(w, c, "tls", reply, obstacle_words(obstacle));
}

static bool on_event(
	struct worker *w, struct conn *c, const struct smtp_event *event, enum handshake_failure obstacle)
{
	struct inbound *in = &c->inbound;
	char reply[512];
	if (event->kind != SMTP_EVENT_NONE && event->kind != SMTP_EVENT_BODY)
		conn_set_deadline(w, c, DEADLINE_SERVER_COMMAND);
	switch (event->kind) {
	case SMTP_EVENT_NONE: return false;
	case SMTP_EVENT_HELO: bytes_to_string(event->text, in->helo, sizeof in->helo); break;
	case SMTP_EVENT_STARTTLS: break; /* seen to by the caller, which knows what input is left */
	case SMTP_EVENT_MAIL: on_mail(w, c, event); break;
	case SMTP_EVENT_RCPT: on_recipient(w, c, event); break;
	case SMTP_EVENT_DATA: on_content_begins(w, c); break;
	case SMTP_EVENT_BODY: on_content(w, c, event->text); break;
	case SMTP_EVENT_END: on_end(w, c); break;
	case SMTP_EVENT_ABORT: submit_abort(w, c); break;
	case SMTP_EVENT_REFUSED: on_refused(w, c, event, obstacle); break;
	case SMTP_EVENT_CLOSE:
		bytes_to_string(event->reply, reply, sizeof reply);
		if (reply[0] != '\0')
			record_refusal(w, c, "session", reply, "");
		conn_close(w, c);
		break;
	}
	return true;
}

/* 220 is written. Whatever came in clear behind the command would be taken for part of the secured session
 * (CVE-2011-0411): such a client gets nothing more from us. */
static void on_starttls(struct worker *w, struct conn *c)
{
	if (conn_has_unread(w, c)) {
		record_refusal(w, c, "tls", "", "bytes in clear after STARTTLS");
		conn_abort(w, c);
		return;
	}
	while (conn_flush(w, c))
		;
	if (stream_length(&c->out) != 0)
		conn_abort(w, c); /* a client that does not take 200 bytes is not going to shake hands */
	else
		start_handshake(w, c);
}

/* Says what became of the mail; false: there is no room for the reply yet. */
static bool answer_verdict(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	char line[REPLY_BYTES_MAX + 1], id[MAIL_ID_TEXT_MAX];
	bool is_durable = in->verdict == VERDICT_DURABLE;
	reply_format(line, REPLY_NO_STORAGE, BYTES_NONE, BYTES_NONE);
	mail_id_format(in->mail_id, id);
	if (!smtp_server_answer(in->session, is_durable ? NULL : line, id, &c->out))
		return false;
	in->is_waiting = false;
	in->verdict = VERDICT_NONE;
	if (is_durable) {
		COUNT(w, mails_accepted);
		COUNT_BY(w, bytes_accepted, in->mail_size);
		record_accepted(w, c);
	} else {
		COUNT(w, mails_refused);
		record_refusal(w, c, "content", line, "spool");
	}
	conn_set_deadline(w, c, DEADLINE_SERVER_COMMAND);
	return true;
}

bool inbound_step(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	struct smtp_event event = {0};
	if (in->is_naming)
		return false;
	if (in->is_submitting) {
		if (!submit_commit(w, c)) {
			conn_wake(w, c);
			return false;
		}
		in->is_submitting = false;
		in->is_waiting = true;
	}
	if (in->is_waiting && (in->verdict == VERDICT_NONE || !answer_verdict(w, c)))
		return false;
	enum handshake_failure obstacle = HANDSHAKE_FAILURE_COUNT;
	if (c->tls_state == CONN_CLEAR)
		obstacle = handshake_obstacle(w, in);
	smtp_server_set_tls_available(in->session, obstacle == HANDSHAKE_FAILURE_COUNT);
	struct bytes input = conn_input(w, c);
	if (c->is_closing)
		return false;
	if (w->now_us >= in->session_until_us)
		smtp_server_drain(in->session, w->timeout_reply, &c->out);
	size_t queued = stream_length(&c->out);
	size_t used = smtp_server_feed(in->session, input, &event, &c->out);
	bool moved = on_event(w, c, &event, obstacle);
	if (!moved && stream_length(&c->out) > queued)
		on_quiet_command(w, c);
	moved |= conn_used(w, c, input, used, event.kind == SMTP_EVENT_NONE);
	if (event.kind == SMTP_EVENT_STARTTLS)
		on_starttls(w, c);
	if (!moved && is_over(c))
		conn_close(w, c);
	return moved;
}

void inbound_verdict(struct worker *w, struct verdict_word verdict)
{
	struct conn *c = verdict.slot < w->conn_max ? conn_at(w, verdict.slot) : NULL;
	if (c == NULL || c->kind != CONN_INBOUND || c->generation != verdict.generation ||
		!c->inbound.is_waiting) {
		COUNT(w, stale_answers);
		return;
	}
	c->inbound.verdict = verdict.is_durable ? VERDICT_DURABLE : VERDICT_FAILED;
	if (c->inbound.is_left)
		settle_left(w, c);
	else
		conn_wake(w, c);
}

void inbound_deadline(struct worker *w, struct conn *c)
{
	bool was_lingering = c->deadline == DEADLINE_LINGER;
	if (c->inbound.is_naming) {
		COUNT(w, names_missed);
		greet(w, c);
		conn_wake(w, c);
		return;
	}
	COUNT(w, timeouts);
	if (conn_is_shaking(c))
		inbound_handshake_failed(w, c, HANDSHAKE_TIMED_OUT,
			c->tls_state == CONN_HELLO ? "no ClientHello came in time" : "handshake timed out");
	if (c->is_closing) {
		conn_abort(w, c);
		return;
	}
	if (c->inbound.is_submitting || c->inbound.is_waiting) {
		/* Nothing may be said: the mail can still become durable, or not. */
		record_refusal(w, c, "content", "", "the spool did not answer in time");
		conn_abort(w, c);
		return;
	}
	record_refusal(w, c, "session", w->timeout_reply, "timeout");
	smtp_server_end(c->inbound.session, w->timeout_reply, &c->out);
	conn_set_deadline(w, c, DEADLINE_LINGER);
	conn_wake(w, c);
	if (was_lingering)
		conn_abort(w, c);
}

void inbound_drain(struct worker *w, struct conn *c)
{
	if (c->is_closing || conn_is_shaking(c) || c->inbound.is_naming)
		return;
	smtp_server_drain(c->inbound.session, w->drain_reply, &c->out);
	conn_wake(w, c);
}
