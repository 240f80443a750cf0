// SPDX-License-Identifier: Apache-2.0
#include "smtp/queue/dsn.h"

#include "smtp/envelope.h"

#include <stdarg.h>
#include <stdio.h>

#define DAY_SECONDS 86400ull

struct writer {
	struct mail *mail;
	bool is_full;	/* the pool: what is written is then thrown away */
	bool is_global; /* RFC 6533: UTF-8 may stand as it is */
	char boundary[64];
};

/* ---- writing ---- */
static void put(struct writer *w, struct bytes b)
{
	if (!w->is_full && b.n != 0 && !mail_append(w->mail, b))
		w->is_full = true;
}

/* Our own words; strangers' bytes go through put_clean() and its like. */
__attribute__((format(printf, 2, 3))) static void print(struct writer *w, const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (n > 0)
		put(w, bytes_of(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1));
}

static bool is_ascii(struct bytes b)
{
	for (size_t n = 0; n < b.n; n++)
		if (b.at[n] >= 128)
			return false;
	return true;
}

/* The length of the UTF-8 sequence that begins here (RFC 3629 4), 0: none does. */
static unsigned utf8_length(struct bytes b)
{
	uint8_t c = b.at[0];
	unsigned n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3
			: c >= 0xf0 && c < 0xf5 ? 4 : 0;

	if (n > b.n)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((b.at[i] & 0xc0) != 0x80)
			return 0;
	if ((c == 0xe0 && b.at[1] < 0xa0) || (c == 0xed && b.at[1] >= 0xa0) ||
		(c == 0xf0 && b.at[1] < 0x90) || (c == 0xf4 && b.at[1] >= 0x90))
		return 0;
	return n;
}

static uint32_t utf8_value(struct bytes b, unsigned n)
{
	static const uint8_t first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32_t value = b.at[0] & first[n];

	for (unsigned i = 1; i < n; i++)
		value = value << 6 | (b.at[i] & 0x3f);
	return value;
}

/* Printable bytes as they are; UTF-8 where it may stand; all else becomes a question mark. */
static void put_clean(struct writer *w, struct bytes b)
{
	while (b.n != 0) {
		unsigned n = utf8_length(b);
		bool is_fit = n > 1 ? w->is_global : n == 1 && b.at[0] >= ' ' && b.at[0] != 0x7f;
		put(w, is_fit ? bytes_first(b, n) : BYTES_LITERAL("?"));
		b = bytes_skip(b, n == 0 ? 1 : n);
	}
}

/* An address in a message that is ASCII only: utf-8-addr-xtext (RFC 6533 3). */
static void put_xtext(struct writer *w, struct bytes b)
{
	while (b.n != 0) {
		unsigned n = utf8_length(b);
		uint8_t c = b.at[0];
		if (n > 1)
			print(w, "\\x{%X}", (unsigned)utf8_value(b, n));
		else if (n == 0 || c < ' ' || c == 0x7f)
			put(w, BYTES_LITERAL("?"));
		else if (c == '\\' || c == '+' || c == '=' || c == ' ')
			print(w, "\\x{%X}", c);
		else
			put(w, bytes_first(b, 1));
		b = bytes_skip(b, n == 0 ? 1 : n);
	}
}

/* Text in lines of some 72 bytes, broken at spaces; what follows is indented by `indent`. */
static void put_folded(struct writer *w, struct bytes b, size_t column, const char *indent)
{
	bool is_first = true;

	while (b.n != 0) {
		struct bytes word = bytes_first(b, bytes_find(b, ' '));
		if (!is_first && column + 1 + word.n > 72) {
			print(w, "\r\n%s", indent);
			column = strlen(indent);
		} else if (!is_first) {
			put(w, BYTES_LITERAL(" "));
			column++;
		}
		put_clean(w, word);
		column += word.n;
		is_first = false;
		b = bytes_skip(b, word.n + 1);
	}
	put(w, BYTES_LITERAL("\r\n"));
}

/* RFC 5322 3.3, in UTC. The civil date from days since 1970 by eras of 400 years, counted from March. */
static void put_date(struct writer *w, uint64_t us)
{
	static const char *const months[] = {"Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
		"Dec", "Jan", "Feb"};
	static const char *const weekdays[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
	uint64_t seconds = us / 1000000, days = seconds / DAY_SECONDS, second = seconds % DAY_SECONDS;
	uint64_t day_of_era = (days + 719468) % 146097, era = (days + 719468) / 146097;
	uint64_t year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	uint64_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
	uint64_t month = (5 * day_of_year + 2) / 153;

	print(w, "%s, %u %s %llu %02u:%02u:%02u +0000", weekdays[days % 7],
		(unsigned)(day_of_year - (153 * month + 2) / 5 + 1), months[month],
		(unsigned long long)(era * 400 + year + (month >= 10)), (unsigned)(second / 3600),
		(unsigned)(second / 60 % 60), (unsigned)(second % 60));
}

static void put_date_field(struct writer *w, const char *name, uint64_t us)
{
	print(w, "%s: ", name);
	put_date(w, us);
	print(w, "\r\n");
}

static struct bytes bounded_address(struct bytes address)
{
	return bytes_first(address, DSN_ADDRESS_MAX);
}

/* ---- envelope and header ---- */
/* "@a,@b:user@c": the route is not followed back (RFC 5321 6.1, appendix C). */
static struct bytes strip_route(struct bytes path)
{
	if (path.n != 0 && path.at[0] == '@' && bytes_find(path, ':') < path.n)
		return bytes_skip(path, bytes_find(path, ':') + 1);
	return path;
}

static void put_envelope(struct writer *w, const struct dsn *dsn, struct bytes to)
{
	uint8_t flags = ENVELOPE_IS_DSN;

	if (w->is_global)
		flags |= ENVELOPE_8BITMIME | ENVELOPE_SMTPUTF8;
	bool is_put = envelope_begin(w->mail) &&
		      envelope_put_u64(w->mail, ENVELOPE_RECEIVED_AT, dsn->now_us) &&
		      envelope_put_u64(w->mail, ENVELOPE_SESSION_ID, dsn->session_id) &&
		      envelope_put(w->mail, ENVELOPE_BODY_FLAGS, bytes_of(&flags, 1)) &&
		      envelope_put(w->mail, ENVELOPE_SENDER, BYTES_NONE) &&
		      envelope_put(w->mail, ENVELOPE_RECIPIENT, to);
	if (is_put)
		envelope_end(w->mail);
	else
		w->is_full = true;
}

static unsigned long long hours_waited(const struct dsn *dsn)
{
	unsigned long long hours = (dsn->now_us - dsn->arrival_us) / 3600000000ull;

	return hours == 0 ? 1 : hours;
}

static void put_header(struct writer *w, const struct dsn *dsn, struct bytes to)
{
	char id[MAIL_ID_TEXT_MAX];

	put_date_field(w, "Date", dsn->now_us);
	print(w, "From: Mail Delivery System <postmaster@%s>\r\n", dsn->hostname);
	print(w, "To: <");
	put_clean(w, bounded_address(to));
	print(w, ">\r\n");
	if (dsn->action == DSN_DELAYED)
		print(w, "Subject: Warning: could not send message for past %llu hour%s\r\n",
			hours_waited(dsn), hours_waited(dsn) == 1 ? "" : "s");
	else
		print(w, "Subject: Undelivered Mail Returned to Sender\r\n");
	print(w, "Message-ID: <%s@%s>\r\n", mail_id_format(w->mail->id, id), dsn->hostname);
	print(w, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"); /* RFC 3834 5.1 */
	print(w, "Content-Type: multipart/report; report-type=%s;\r\n\tboundary=\"%s\"\r\n",
		w->is_global ? "global-delivery-status" : "delivery-status", w->boundary);
	if (w->is_global)
		print(w, "Content-Transfer-Encoding: 8bit\r\n");
	print(w, "\r\n");
}

static void begin_part(struct writer *w, const char *type, const char *encoding)
{
	print(w, "--%s\r\nContent-Type: %s\r\n", w->boundary, type);
	if (encoding != NULL)
		print(w, "Content-Transfer-Encoding: %s\r\n", encoding);
}

/* ---- for people ---- */
static void put_introduction(struct writer *w, const struct dsn *dsn)
{
	unsigned long long days = (dsn->expires_us - dsn->arrival_us) / 1000000 / DAY_SECONDS;

	if (dsn->action == DSN_FAILED) {
		print(w, "Your message could not be delivered to the recipients below, and will not be\r\n"
			 "tried again. Each one is followed by the reason.\r\n\r\n");
		return;
	}
	print(w, "    **********************************************\r\n"
		 "    **      THIS IS A WARNING MESSAGE ONLY      **\r\n"
		 "    **  YOU DO NOT NEED TO RESEND YOUR MESSAGE  **\r\n"
		 "    **********************************************\r\n\r\n");
	print(w, "Your message could not be delivered for the past %llu hour%s to the recipients\r\n"
		 "below. Each one is followed by the reason.\r\n",
		hours_waited(dsn), hours_waited(dsn) == 1 ? "" : "s");
	if (days != 0)
		print(w, "Will keep trying until message is %llu day%s old\r\n\r\n", days,
			days == 1 ? "" : "s");
	else
		print(w, "Will keep trying until message is %llu minutes old\r\n\r\n",
			(unsigned long long)(dsn->expires_us - dsn->arrival_us) / 60000000ull);
}

static void put_reason_lines(struct writer *w, const struct reason *reason)
{
	char text[SMTP_REPLY_TEXT_MAX + 320];
	size_t n = 0;

	if (reason != NULL && !reason->is_ours && reason->remote_n != 0)
		n = (size_t)snprintf(text, sizeof text, "%.*s said: ", (int)reason->remote_n,
			(const char *)reason_remote(reason).at);
	if (reason != NULL)
		n += reason_format(reason, text + n, sizeof text - n);
	print(w, "    ");
	put_folded(w, n != 0 ? bytes_of(text, n) : BYTES_LITERAL("reason not known"), 4, "    ");
}

static void put_human_part(struct writer *w, const struct dsn *dsn)
{
	begin_part(w, w->is_global ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii",
		w->is_global ? "8bit" : NULL);
	print(w, "\r\nThis is the mail system at %s.\r\n\r\n", dsn->hostname);
	put_introduction(w, dsn);
	for (uint32_t n = 0; n < dsn->recipient_count; n++) {
		print(w, "<");
		put_clean(w, bounded_address(dsn->recipients[n].address));
		print(w, ">\r\n");
		put_reason_lines(w, dsn->recipients[n].reason);
	}
	print(w, "\r\n");
}

/* ---- for machines: RFC 3464 2 ---- */
static void put_final_recipient(struct writer *w, struct bytes address)
{
	bool is_plain = is_ascii(address);

	print(w, "Final-Recipient: %s; ", is_plain ? "rfc822" : "utf-8");
	if (is_plain || w->is_global)
		put_clean(w, bounded_address(address));
	else
		put_xtext(w, bytes_first(address, DSN_ADDRESS_MAX / 4)); /* it may grow by four */
	print(w, "\r\n");
}

static void put_status(struct writer *w, const struct dsn *dsn, const struct reason *r)
{
	unsigned class = dsn->action == DSN_DELAYED ? 4 : 5;

	if (r != NULL && r->code / 100 == 4)
		class = 4; /* given up on, but it was never said to be final */
	if (r != NULL && r->enhanced[0] != 0)
		print(w, "Status: %u.%u.%u\r\n", class, r->enhanced[1], r->detail);
	else
		print(w, "Status: %u.0.0\r\n", class);
}

static void put_diagnostic(struct writer *w, const struct reason *r)
{
	char text[SMTP_REPLY_TEXT_MAX + 32];

	if (!r->is_ours && r->remote_n != 0) {
		print(w, "Remote-MTA: dns; ");
		put_clean(w, reason_remote(r));
		print(w, "\r\n");
	}
	const char *type = r->is_ours ? "x-hikyaku" : "smtp";
	print(w, "Diagnostic-Code: %s; ", type);
	put_folded(w, bytes_of(text, reason_format(r, text, sizeof text)), 19 + strlen(type), "    ");
}

static void put_recipient_fields(struct writer *w, const struct dsn *dsn, const struct dsn_recipient *r)
{
	print(w, "\r\n");
	put_final_recipient(w, r->address);
	print(w, "Action: %s\r\n", dsn->action == DSN_DELAYED ? "delayed" : "failed");
	put_status(w, dsn, r->reason);
	if (r->reason != NULL)
		put_diagnostic(w, r->reason);
	if (r->last_attempt_us != 0)
		put_date_field(w, "Last-Attempt-Date", r->last_attempt_us);
	if (dsn->action == DSN_DELAYED)
		put_date_field(w, "Will-Retry-Until", dsn->expires_us);
}

static void put_status_part(struct writer *w, const struct dsn *dsn)
{
	char id[MAIL_ID_TEXT_MAX];

	begin_part(w, w->is_global ? "message/global-delivery-status" : "message/delivery-status",
		w->is_global ? "8bit" : NULL);
	print(w, "\r\nReporting-MTA: dns; %s\r\n", dsn->hostname);
	print(w, "X-Hikyaku-Queue-ID: %s\r\n", mail_id_format(dsn->original_id, id));
	put_date_field(w, "Arrival-Date", dsn->arrival_us);
	for (uint32_t n = 0; n < dsn->recipient_count; n++)
		put_recipient_fields(w, dsn, &dsn->recipients[n]);
	print(w, "\r\n");
}

/* ---- the original's header: quoted-printable (RFC 2045 6.7) unless it is plain ---- */
static size_t read_header(const struct mail *mail, uint8_t *to)
{
	const struct mail_chunk *cursor = NULL;
	size_t n = 0;

	while (n < DSN_HEADER_MAX) {
		struct bytes b = mail_read(mail, mail->envelope_size + n, &cursor);
		b = bytes_first(b, DSN_HEADER_MAX - n);
		if (b.n == 0)
			break;
		memcpy(to + n, b.at, b.n);
		n += b.n;
	}
	return n;
}

/* The next line, without its CRLF; false: the header is over. A line that was cut off is left out. */
static bool next_line(struct bytes *rest, struct bytes *line)
{
	size_t end = bytes_find(*rest, '\n');

	if (end >= rest->n)
		return false;
	*line = bytes_first(*rest, end != 0 && rest->at[end - 1] == '\r' ? end - 1 : end);
	*rest = bytes_skip(*rest, end + 1);
	return line->n != 0;
}

static bool is_plain_line(struct bytes line, bool is_global)
{
	for (size_t n = 0; n < line.n;) {
		unsigned length = utf8_length(bytes_skip(line, n));
		if (length == 0 || (length > 1 && !is_global))
			return false;
		if (length == 1 && line.at[n] != '\t' && (line.at[n] < ' ' || line.at[n] == 0x7f))
			return false;
		n += length;
	}
	return line.n <= 998;
}

/* `line` has the room it may need. */
static void put_quoted_line(struct writer *w, struct bytes line)
{
	static const char hex[] = "0123456789ABCDEF";
	unsigned column = 0;

	for (size_t n = 0; n < line.n; n++) {
		uint8_t c = line.at[n];
		bool is_end = n + 1 == line.n;
		bool is_safe = (c > ' ' && c < 0x7f && c != '=' && !(c == '-' && column == 0)) ||
			       ((c == ' ' || c == '\t') && !is_end);
		if (column + (is_safe ? 1 : 3) > 75) {
			put(w, BYTES_LITERAL("=\r\n"));
			column = 0;
		}
		if (is_safe)
			put(w, bytes_of(&c, 1));
		else
			put(w, bytes_of((char[]){'=', hex[c >> 4], hex[c & 15]}, 3));
		column += is_safe ? 1 : 3;
	}
	put(w, BYTES_LITERAL("\r\n"));
}

static bool is_plain_header(struct bytes header, bool is_global)
{
	struct bytes line;

	while (next_line(&header, &line))
		if (!is_plain_line(line, is_global) || line.at[0] == '-') /* might end the part */
			return false;
	return true;
}

static void put_header_part(struct writer *w, const struct dsn *dsn)
{
	uint8_t copy[DSN_HEADER_MAX];

	if (dsn->original == NULL || dsn->original->first == NULL)
		return;
	struct bytes rest = bytes_of(copy, read_header(dsn->original, copy)), line;
	bool is_plain = is_plain_header(rest, w->is_global);
	begin_part(w, w->is_global ? "message/global-headers" : "text/rfc822-headers",
		!is_plain ? "quoted-printable" : w->is_global ? "8bit" : NULL);
	print(w, "\r\n");
	while (next_line(&rest, &line)) {
		if (!is_plain) {
			put_quoted_line(w, line);
			continue;
		}
		put(w, line);
		put(w, BYTES_LITERAL("\r\n"));
	}
	print(w, "\r\n");
}

struct mail *dsn_build(struct mail_pool *pool, uint64_t id, const struct dsn *dsn)
{
	char text[MAIL_ID_TEXT_MAX];
	struct bytes to = strip_route(dsn->sender);
	struct writer w = {.mail = mail_get(pool, id), .is_global = !is_ascii(to)};

	if (w.mail == NULL)
		return NULL;
	snprintf(w.boundary, sizeof w.boundary, "=_%s", mail_id_format(id, text));
	put_envelope(&w, dsn, to);
	if (!w.is_full) {
		put_header(&w, dsn, to);
		put_human_part(&w, dsn);
		put_status_part(&w, dsn);
		put_header_part(&w, dsn);
		print(&w, "--%s--\r\n", w.boundary);
	}
	if (w.is_full) {
		mail_put(w.mail);
		return NULL;
	}
	return w.mail;
}
