// SPDX-License-Identifier: Apache-2.0
/* One mail through the session: MAIL, RCPT, DATA, content, end. What a reply means for whom:
 *
 *   MAIL  4xx 5xx   all recipients; what was pipelined behind it is drained
 *   RCPT  4xx 5xx   this recipient, at once
 *   DATA  4xx 5xx   the recipients accepted so far
 *   END   any       the recipients accepted
 *
 * Conversions are not made. Content with bytes from 128 up that was not declared BODY=8BITMIME goes to any
 * server as it is, which is what receivers have come to expect; what was declared, and has such bytes, does
 * not go to a server that does not offer 8BITMIME (5.6.3), as RFC 6152 3 demands. */
#include "smtp/client/session_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "smtp/envelope.h"

/* ---- before it begins ---- */

static bool has_8bit(struct bytes b)
{
	uint8_t all = 0;
	for (size_t i = 0; i < b.n; i++)
		all |= b.at[i];
	return (all & 0x80) != 0;
}

/* Can it stand between angle brackets in a command line? Whoever accepted the address has checked its
 * grammar; that it cannot begin another command is checked here, too. */
static bool is_sendable(struct bytes path)
{
	if (path.n > SMTP_CLIENT_PATH_MAX)
		return false;
	for (size_t i = 0; i < path.n; i++)
		if (path.at[i] < 0x20 || path.at[i] == 0x7f)
			return false;
	return true;
}

static uint64_t content_size(const struct mail *mail)
{
	return mail->size - mail->envelope_size;
}

/* Looks at all of the content, at memory speed; only for the few servers without 8BITMIME. */
static bool content_has_8bit(const struct mail *mail)
{
	const struct mail_chunk *cursor = NULL;
	for (uint64_t offset = mail->envelope_size; offset < mail->size;) {
		struct bytes b = mail_read(mail, offset, &cursor);
		if (b.n == 0)
			break; /* not resident: writing it will find out */
		if (has_8bit(b))
			return true;
		offset += b.n;
	}
	return false;
}

static bool needs_utf8(const struct smtp_client_job *job)
{
	bool needs = (job->body_flags & ENVELOPE_SMTPUTF8) != 0 || has_8bit(job->sender);
	for (uint32_t i = 0; i < job->recipient_count && !needs; i++)
		needs = has_8bit(job->recipients[i]);
	return needs;
}

/* Can this server take the mail at all? */
static bool can_be_sent(const struct smtp_client *c, const struct smtp_client_job *job, bool is_utf8,
	struct smtp_reply *why)
{
	unsigned offered = c->capabilities.offered;
	uint64_t size_max = c->capabilities.size_max;
	const char *peer = c->config.peer;
	if (!is_sendable(job->sender))
		reply_set(why, 553, 1, 7, "the sender's address cannot be sent by SMTP");
	else if (is_utf8 && !(offered & CAPABILITY_SMTPUTF8))
		reply_set(why, 550, 6, 7, "SMTPUTF8 is required, but was not offered by host %s", peer);
	else if (size_max != 0 && content_size(job->mail) > size_max)
		reply_set(why, 552, 3, 4,
			"message size %" PRIu64 " exceeds the size limit %" PRIu64 " of host %s",
			content_size(job->mail), size_max, peer);
	else if ((job->body_flags & ENVELOPE_8BITMIME) && !(offered & CAPABILITY_8BITMIME) &&
		content_has_8bit(job->mail))
		reply_set(why, 554, 6, 3, "8BITMIME is required, but was not offered by host %s", peer);
	else
		return true;
	return false;
}

bool smtp_client_begin(
	struct smtp_client *c, const struct smtp_client_job *job, struct smtp_reply *reply)
{
	assert(job->recipient_count != 0);
	if (c->recv != CLIENT_READY || c->due != 0) {
		reply_set(reply, 451, 3, 0, "the session with %s is not ready", c->config.peer);
		return false;
	}
	bool is_utf8 = needs_utf8(job);
	if (!can_be_sent(c, job, is_utf8, reply))
		return false;
	c->job = *job;
	c->has_job = true;
	c->is_utf8 = is_utf8;
	c->is_refused = c->is_end_ignored = c->has_sent_all = c->was_mail_answered = false;
	c->send_rcpt = c->recv_rcpt = c->accepted = 0;
	c->rcpt_end = job->recipient_count;
	memset(c->told, 0, sizeof c->told);
	c->told_past_max = 0;
	stuffing_open(&c->content, job->mail);
	client_enter(c, CLIENT_MAIL);
	if (c->rcpt_end > SMTP_CLIENT_RECIPIENTS_MAX) {
		c->rcpt_end = SMTP_CLIENT_RECIPIENTS_MAX;
		c->tell_next = c->rcpt_end;
		c->tell_end = job->recipient_count;
		reply_set(&c->reply, 452, 5, 3, "too many recipients for one delivery");
	}
	return true;
}

/* ---- on enter ---- */

static bool is_pipelined(const struct smtp_client *c)
{
	return (c->capabilities.offered & CAPABILITY_PIPELINING) != 0;
}

static bool send_mail(struct smtp_client *c, struct stream *out)
{
	char size[32] = "";
	unsigned offered = c->capabilities.offered;
	if (offered & CAPABILITY_SIZE)
		snprintf(size, sizeof size, " SIZE=%" PRIu64, content_size(c->job.mail));
	bool is_8bit = (c->job.body_flags & ENVELOPE_8BITMIME) && (offered & CAPABILITY_8BITMIME);
	if (!stream_printf(out, "MAIL FROM:<%.*s>%s%s%s\r\n", (int)c->job.sender.n,
		    (const char *)c->job.sender.at, size, is_8bit ? " BODY=8BITMIME" : "",
		    c->is_utf8 ? " SMTPUTF8" : ""))
		return false;
	c->outstanding++;
	c->send = CLIENT_RCPT;
	return true;
}

static void refuse_recipient_ourselves(struct smtp_client *c, uint32_t index)
{
	reply_set(&c->reply, 553, 1, 3, "the recipient's address cannot be sent by SMTP");
	c->tell_next = index;
	c->tell_end = index + 1;
}

static bool send_rcpt(struct smtp_client *c, struct stream *out)
{
	if (c->send_rcpt == c->rcpt_end) {
		c->send = CLIENT_DATA;
		return true;
	}
	struct bytes path = c->job.recipients[c->send_rcpt];
	if (path.n == 0 || !is_sendable(path)) {
		refuse_recipient_ourselves(c, c->send_rcpt++);
		return true;
	}
	if (!stream_printf(out, "RCPT TO:<%.*s>\r\n", (int)path.n, (const char *)path.at))
		return false;
	c->outstanding++;
	c->send_rcpt++;
	return true;
}

/* Over to the next command whose reply is still to come. */
static void catch_up(struct smtp_client *c)
{
	if (c->recv != CLIENT_RCPT)
		return;
	while (c->recv_rcpt < c->send_rcpt && is_told(c, c->recv_rcpt))
		c->recv_rcpt++; /* refused by us, never sent */
	if (c->recv_rcpt == c->rcpt_end)
		c->recv = CLIENT_DATA;
}

/* Ends the transaction without DATA, or after its refusal. RSET makes sure that server and client agree. */
static void end_undelivered(struct smtp_client *c)
{
	transaction_settle(c);
	client_enter(c, CLIENT_RSET);
}

static bool send_data(struct smtp_client *c, struct stream *out)
{
	catch_up(c);
	if (c->recv == CLIENT_DATA && c->accepted == 0) {
		end_undelivered(c);
		return true;
	}
	if (!stream_write(out, BYTES_LITERAL("DATA\r\n")))
		return false;
	c->outstanding++;
	c->send = CLIENT_PAUSE;
	return true;
}

static void written_to_the_end(struct smtp_client *c)
{
	c->outstanding++;
	c->send = CLIENT_PAUSE;
}

/* After 354 there is no way back but to close: the server drops what has no end. */
static void fail_content(struct smtp_client *c, unsigned code, unsigned subject, const char *text)
{
	struct smtp_reply why;
	reply_set(&why, code, subject, 0, "%s", text);
	client_fail(c, &why);
}

static bool send_content(struct smtp_client *c, struct stream *out)
{
	switch (stuffing_write(&c->content, out)) {
	case STUFFING_ROOM: return false;
	case STUFFING_ENDED:
		c->has_sent_all = true;
		written_to_the_end(c);
		break;
	case STUFFING_BARE:
		fail_content(c, 554, 6, "the content has a CR or LF that does not end a line");
		break;
	case STUFFING_GONE: fail_content(c, 451, 3, "the content is not in memory"); break;
	}
	return true;
}

/* All recipients were refused, yet DATA was taken: RFC 2920 3.1 has the client send just the dot. */
static bool send_lone_dot(struct smtp_client *c, struct stream *out)
{
	if (!stream_write(out, BYTES_LITERAL(".\r\n")))
		return false;
	written_to_the_end(c);
	return true;
}

bool transaction_send(struct smtp_client *c, struct stream *out)
{
	bool may_run_ahead = is_pipelined(c) && (c->send == CLIENT_RCPT || c->send == CLIENT_DATA);
	if (c->outstanding != 0 && !may_run_ahead)
		return false;
	switch (c->send) {
	case CLIENT_MAIL: return send_mail(c, out);
	case CLIENT_RCPT: return send_rcpt(c, out);
	case CLIENT_DATA: return send_data(c, out);
	case CLIENT_CONTENT: return send_content(c, out);
	case CLIENT_END: return send_lone_dot(c, out);
	default: return false;
	}
}

/* ---- on reply ---- */

void transaction_settle(struct smtp_client *c)
{
	c->tell_next = 0;
	c->tell_end = c->job.recipient_count;
	c->due |= DUE_DONE;
}

static bool is_refusal(const struct smtp_reply *reply)
{
	return reply->code / 100 == 4 || reply->code / 100 == 5;
}

/* Nothing more is sent; what was is drained, reply by reply. */
static void stop_sending(struct smtp_client *c)
{
	if (c->send == CLIENT_RCPT)
		c->rcpt_end = c->send_rcpt;
	c->send = CLIENT_PAUSE;
}

static void on_mail(struct smtp_client *c, const struct smtp_reply *reply)
{
	c->recv = CLIENT_RCPT;
	c->was_mail_answered = true;
	if (reply->code / 100 == 2)
		return;
	if (!is_refusal(reply)) {
		client_fail_unexpected(c);
		return;
	}
	c->is_refused = true;
	c->reply = *reply;
	stop_sending(c);
	if (c->outstanding == 0)
		end_undelivered(c);
}

/* RFC 5321 4.5.3.1.10: 452, and 552 from older servers, says that no more recipients are taken; then the
 * others were, and this one is for another time. 552 may as well mean a full mailbox, for good: that is
 * believed where the enhanced code says so, or no recipient was taken before. */
static bool is_too_many(const struct smtp_client *c, const struct smtp_reply *r)
{
	if (r->code != 452 && r->code != 552)
		return false;
	return reply_has_enhanced(r, r->code / 100, 5, 3) || (r->enhanced[0] == 0 && c->accepted != 0);
}

static void refuse_recipient(struct smtp_client *c, const struct smtp_reply *reply)
{
	c->reply = *reply;
	c->tell_next = c->recv_rcpt;
	c->tell_end = c->recv_rcpt + 1;
	if (!is_too_many(c, reply))
		return;
	c->reply.code = 452;
	if (c->reply.enhanced[0] != 0)
		c->reply.enhanced[0] = 4;
	/* Asked one by one, the rest need not be asked. */
	if (c->outstanding == 0 && c->send == CLIENT_RCPT) {
		c->tell_end = c->rcpt_end;
		c->rcpt_end = c->send_rcpt;
	}
}

static void on_rcpt(struct smtp_client *c, const struct smtp_reply *reply)
{
	if (reply->code / 100 == 2)
		c->accepted++;
	else if (!is_refusal(reply)) {
		client_fail_unexpected(c);
		return;
	} else if (!c->is_refused)
		refuse_recipient(c, reply);
	c->recv_rcpt++;
	if (c->is_refused && c->outstanding == 0)
		end_undelivered(c);
}

static void on_data(struct smtp_client *c, const struct smtp_reply *reply)
{
	bool is_wanted = !c->is_refused && c->accepted != 0;
	if (is_refusal(reply)) {
		if (is_wanted)
			c->reply = *reply;
		end_undelivered(c);
	} else if (reply->code / 100 == 2 || (c->is_refused && c->accepted != 0)) {
		client_fail_unexpected(c); /* a dot might deliver an empty mail */
	} else {
		c->is_end_ignored = !is_wanted;
		c->send = is_wanted ? CLIENT_CONTENT : CLIENT_END;
		c->recv = CLIENT_END;
	}
}

static void on_end(struct smtp_client *c, const struct smtp_reply *reply)
{
	if (c->is_end_ignored) {
		end_undelivered(c);
		return;
	}
	if (reply->code / 100 == 3) {
		client_fail_unexpected(c);
		return;
	}
	c->reply = *reply;
	transaction_settle(c);
	if (reply->code / 100 == 2)
		client_become_ready(c);
	else
		client_enter(c, CLIENT_RSET);
}

void transaction_reply(struct smtp_client *c)
{
	const struct smtp_reply *reply = &c->parser.reply;
	switch (c->recv) {
	case CLIENT_MAIL: on_mail(c, reply); break;
	case CLIENT_RCPT: on_rcpt(c, reply); break;
	case CLIENT_DATA: on_data(c, reply); break;
	case CLIENT_END: on_end(c, reply); break;
	default: break;
	}
	catch_up(c);
}

/* A refusal in the middle is one; a success before the end is a lie. */
void transaction_early_reply(struct smtp_client *c)
{
	if (is_refusal(&c->parser.reply))
		client_fail(c, &c->parser.reply);
	else
		client_fail_unexpected(c);
}
