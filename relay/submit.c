// SPDX-License-Identifier: Apache-2.0
/* relay/submit.c: the way of a mail from a worker into the spool.
 *
 * The envelope and the content are written into the mail's chunks as they come; a chunk that is full goes to
 * the spool thread at once, the last one with the commit. With the commit, or the abort of a mail of which the
 * spool has seen something, ownership of the mail goes to the spool thread. */
#include "relay/worker.h"
#include "smtp/envelope.h"

#include <time.h>

/* A mail is begun only while this share of the core's memory is free: what has begun should be able to end. */
#define FREE_PERCENT_TO_BEGIN 10

static bool put_text(struct mail *mail, enum envelope_field field, const char *text)
{
	return envelope_put(mail, field, bytes_of_string(text));
}

static bool put_tls(const struct conn *c, struct mail *mail)
{
	uint16_t protocol = 0;
	const char *cipher = c->tls_state == CONN_TLS ? tls_agreed(c->tls, &protocol) : NULL;
	return put_text(mail, ENVELOPE_TLS_VERSION, tls_protocol_name(protocol)) &&
		put_text(mail, ENVELOPE_TLS_CIPHER, cipher == NULL ? "" : cipher);
}

bool submit_begin(struct worker *w, struct conn *c, struct bytes sender, uint8_t body_flags)
{
	struct inbound *in = &c->inbound;
	if (mail_pool_free_chunks(w->mails) * 100 < mail_pool_chunks(w->mails) * FREE_PERCENT_TO_BEGIN)
		return false;
	struct mail *mail = mail_get(w->mails, mail_id_next(&w->last_mail_id, w->wall_us, w->index));
	if (mail == NULL)
		return false;
	bool ok = envelope_begin(mail) && envelope_put_u64(mail, ENVELOPE_RECEIVED_AT, w->wall_us) &&
		envelope_put_u64(mail, ENVELOPE_SESSION_ID, in->session_id) &&
		envelope_put(mail, ENVELOPE_CLIENT_ADDR, bytes_of(in->client.b, sizeof in->client.b)) &&
		put_text(mail, ENVELOPE_CLIENT_NAME, in->name) && put_text(mail, ENVELOPE_HELO, in->helo) &&
		put_text(mail, ENVELOPE_PROTO, smtp_server_proto(in->session)) &&
		put_text(mail, ENVELOPE_LISTENER, w->config->listeners[in->listener].name) &&
		put_text(mail, ENVELOPE_PROFILE, in->profile_id) && put_text(mail, ENVELOPE_RULE, in->rule_id) &&
		envelope_put(mail, ENVELOPE_TLS_LEVEL, bytes_of(&in->level, 1)) && put_tls(c, mail) &&
		envelope_put(mail, ENVELOPE_BODY_FLAGS, bytes_of(&body_flags, 1)) &&
		envelope_put(mail, ENVELOPE_SENDER, sender);
	if (!ok) {
		mail_put(mail);
		return false;
	}
	in->mail = mail;
	in->unspooled = NULL;
	in->content_bytes = in->rate_mark = 0;
	in->recipients = 0;
	in->to[0] = '\0';
	bytes_to_string(sender, in->from, sizeof in->from);
	return true;
}

bool submit_recipient(struct conn *c, struct bytes recipient)
{
	struct inbound *in = &c->inbound;
	if (!envelope_put(in->mail, ENVELOPE_RECIPIENT, recipient))
		return false;
	if (in->recipients++ == 0)
		bytes_to_string(recipient, in->to, sizeof in->to);
	return true;
}

/* A field that is put together of words; what does not fit is cut. */
struct field {
	char text[1024];
	size_t n;
};

static void add(struct field *f, const char *word)
{
	size_t n = strnlen(word, sizeof f->text - f->n);
	memcpy(f->text + f->n, word, n);
	f->n += n;
}

/* HELO is the client's word and has passed the address grammar; anything but printable ASCII in it is replaced. */
static void add_helo(struct field *f, const char *helo)
{
	for (const char *p = helo; *p != '\0' && f->n < sizeof f->text; p++)
		f->text[f->n++] = *p > 0x20 && *p < 0x7f && *p != '(' && *p != ')' && *p != ';' ? *p : '?';
}

static void add_client(struct field *f, const struct inbound *in)
{
	char address[ADDR_TEXT_MAX];
	add(f, " (");
	add(f, in->name);
	add(f, in->name[0] == '\0' ? "[" : " [");
	add(f, addr_is_ipv4(&in->client) ? "" : "IPv6:");
	add(f, addr_format(&in->client, address));
	add(f, "])");
}

static void add_tls(struct field *f, const struct conn *c)
{
	uint16_t protocol;
	const char *cipher = c->tls_state == CONN_TLS ? tls_agreed(c->tls, &protocol) : NULL;
	if (cipher == NULL)
		return;
	const char *group = tls_agreed_group(c->tls);
	add(f, "\r\n\ttls ");
	add(f, cipher);
	add(f, group[0] == '\0' ? "" : " group ");
	add(f, group);
}

/* Many mails are of one second. */
static void add_date(struct field *f, struct worker *w)
{
	time_t now = (time_t)(w->wall_us / 1000000);
	if (w->date_of != now) {
		struct tm tm;
		gmtime_r(&now, &tm);
		strftime(w->date, sizeof w->date, "%a, %d %b %Y %H:%M:%S +0000", &tm);
		w->date_of = now;
	}
	add(f, w->date);
}

/* RFC 5321 4.4 with the clauses of RFC 8314 7.4: which TLS this leg went over. */
static void make_received(struct worker *w, struct conn *c, struct field *f)
{
	struct inbound *in = &c->inbound;
	char id[MAIL_ID_TEXT_MAX];
	f->n = 0;
	add(f, "Received: from ");
	add_helo(f, in->helo);
	add_client(f, in);
	add(f, "\r\n\tby ");
	add(f, w->config->node.hostname);
	add(f, " (Hikyaku) with ");
	add(f, smtp_server_proto(in->session));
	add(f, " id ");
	add(f, mail_id_format(in->mail->id, id));
	add_tls(f, c);
	add(f, ";\r\n\t");
	add_date(f, w);
	add(f, "\r\n");
}

/* Hands every full chunk to the spool; true: all of them went. */
static bool push_chunks(struct worker *w, struct inbound *in, bool with_last)
{
	struct mail_chunk *c = in->unspooled == NULL ? in->mail->first : in->unspooled;
	for (; c != NULL && (c->next != NULL || with_last); c = c->next) {
		if (c->is_spooled)
			continue;
		if (ring_space(&w->to_spool) < 4)
			break;
		c->is_spooled = true;
		ring_push_spsc(&w->to_spool, (void *)((uintptr_t)in->mail | SPOOL_OP_APPEND));
		ring_push_spsc(&w->to_spool, c);
	}
	in->unspooled = c != NULL ? c : in->mail->last;
	return c == NULL;
}

bool submit_content_begins(struct worker *w, struct conn *c)
{
	struct field received;
	envelope_end(c->inbound.mail);
	make_received(w, c, &received);
	return mail_append(c->inbound.mail, bytes_of(received.text, received.n));
}

bool submit_content(struct worker *w, struct conn *c, struct bytes content)
{
	struct inbound *in = &c->inbound;
	if (!mail_append(in->mail, content))
		return false;
	push_chunks(w, in, false);
	return true;
}

bool submit_commit(struct worker *w, struct conn *c)
{
	struct inbound *in = &c->inbound;
	if (!push_chunks(w, in, true) || ring_space(&w->to_spool) < 4)
		return false;
	in->mail->waiter_slot = conn_slot(w, c);
	in->mail->waiter_generation = c->generation;
	in->mail_id = in->mail->id;
	in->mail_size = in->mail->size - in->mail->envelope_size;
	ring_push_spsc(&w->to_spool, (void *)((uintptr_t)in->mail | SPOOL_OP_COMMIT));
	ring_push_spsc(&w->to_spool, in->mail);
	in->mail = NULL;
	in->unspooled = NULL;
	return true;
}

static bool push_abort(struct worker *w, struct mail *mail)
{
	if (ring_space(&w->to_spool) < 4)
		return false;
	ring_push_spsc(&w->to_spool, (void *)((uintptr_t)mail | SPOOL_OP_ABORT));
	ring_push_spsc(&w->to_spool, mail);
	return true;
}

void submit_abort(struct worker *w, struct conn *c)
{
	struct mail *mail = c->inbound.mail;
	c->inbound.mail = NULL;
	c->inbound.unspooled = NULL;
	if (mail == NULL)
		return;
	if (mail->first == NULL || !mail->first->is_spooled)
		mail_put(mail);
	else if (w->abort_count != 0 || !push_abort(w, mail))
		w->aborts[w->abort_count++] = mail;
}

void submit_flush_aborts(struct worker *w)
{
	while (w->abort_count != 0 && push_abort(w, w->aborts[w->abort_count - 1]))
		w->abort_count--;
}
