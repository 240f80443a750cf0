// SPDX-License-Identifier: Apache-2.0
/* relay/record.c: records on their way from the threads to the main thread, and as lines: JSON or text. */
#include "relay/relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

bool record_lane_init(struct record_lane *lane)
{
	lane->slots = calloc(RECORD_RING - 1, sizeof *lane->slots);
	if (lane->slots == NULL || !ring_init(&lane->full, RECORD_RING) || !ring_init(&lane->empty, RECORD_RING))
		return false;
	for (int i = 0; i < RECORD_RING - 1; i++)
		ring_push_spsc(&lane->empty, &lane->slots[i]);
	return true;
}

struct record *record_get(struct record_lane *lane)
{
	struct record *r = ring_pop_spsc(&lane->empty);
	if (r == NULL)
		atomic_fetch_add_explicit(&lane->lost, 1, memory_order_relaxed);
	else
		record_clear(r);
	return r;
}

void record_push(struct record_lane *lane, struct record *record)
{
	ring_push_spsc(&lane->full, record); /* as many places as slots: never full */
}

/* ---- one line ---- */

struct line {
	char *to;
	size_t size, n;
	bool is_text; /* key=value, else JSON */
	bool is_cut;  /* something did not fit */
};

static void put_raw(struct line *l, const char *text, size_t n)
{
	if (n > l->size - l->n) {
		l->is_cut = true;
		return;
	}
	memcpy(l->to + l->n, text, n);
	l->n += n;
}

/* A field goes in whole or not at all: a line that is full stays one that can be read. */
static void end_field(struct line *l, size_t begin)
{
	if (l->is_cut)
		l->n = begin;
	l->is_cut = false;
}

/* The bytes of one UTF-8 character at `p` (RFC 3629), or 0 if there is none. */
static size_t utf8_length(const unsigned char *p)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
		: p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
		(p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* Where what a JSON string has as it is ends: nearly always at the end. */
static const unsigned char *skip_plain(const unsigned char *p)
{
	while (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\')
		p++;
	return p;
}

/* A JSON string (RFC 8259 7) of whatever bytes a peer has sent: what is no UTF-8 becomes U+FFFD. */
static void put_string(struct line *l, const char *text)
{
	char escape[8];
	put_raw(l, "\"", 1);
	for (const unsigned char *p = (const unsigned char *)text;;) {
		const unsigned char *plain = p;
		p = skip_plain(p);
		put_raw(l, (const char *)plain, (size_t)(p - plain));
		if (*p == '\0')
			break;
		size_t n = utf8_length(p);
		if (*p == '"' || *p == '\\') {
			put_raw(l, "\\", 1);
			put_raw(l, (const char *)p++, 1);
		} else if (*p < 0x20 || *p == 0x7f || n == 0) {
			put_raw(l, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", n == 0 ? 0xfffd : *p));
			p++;
		} else {
			put_raw(l, (const char *)p, n);
			p += n;
		}
	}
	put_raw(l, "\"", 1);
}

static void put_key(struct line *l, const char *key)
{
	if (l->is_text) {
		put_raw(l, " ", l->n != 0);
		put_raw(l, key, strlen(key));
		put_raw(l, "=", 1);
		return;
	}
	put_raw(l, l->n == 1 ? "\"" : ",\"", l->n == 1 ? 1 : 2);
	put_raw(l, key, strlen(key));
	put_raw(l, "\":", 2);
}

/* What a reader of the text form cannot take for anything else stands without quotes. */
static bool is_bare(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~' || *p == '"' || *p == '\\' || *p == '=')
			return false;
	return text[0] != '\0';
}

static void put_value(struct line *l, const char *text)
{
	if (l->is_text && is_bare(text))
		put_raw(l, text, strlen(text));
	else
		put_string(l, text);
}

static void put_text(struct line *l, const char *key, const char *text)
{
	size_t begin = l->n;
	if (text[0] == '\0')
		return;
	put_key(l, key);
	put_value(l, text);
	end_field(l, begin);
}

static void put_bool(struct line *l, const char *key, bool value)
{
	size_t begin = l->n;
	put_key(l, key);
	put_raw(l, value ? "true" : "false", value ? 4 : 5);
	end_field(l, begin);
}

/* `value` in decimal, in `n` places at least, so that it ends before `end`; where it begins. */
static char *write_decimal(char *end, uint64_t value, int n)
{
	for (; value != 0 || n > 0; value /= 10, n--)
		*--end = (char)('0' + value % 10);
	return end;
}

static void put_number(struct line *l, const char *key, uint64_t value)
{
	char text[24], *end = text + sizeof text, *at = write_decimal(end, value, 1);
	size_t begin = l->n;
	if (value == 0)
		return;
	put_key(l, key);
	put_raw(l, at, (size_t)(end - at));
	end_field(l, begin);
}

static void put_time(struct line *l, const char *key, uint64_t us)
{
	/* Many records are of one second. */
	static thread_local time_t second = -1;
	static thread_local char text[40];
	static thread_local size_t n;
	struct tm tm;
	if (us == 0)
		return;
	if (second != (time_t)(us / 1000000)) {
		second = (time_t)(us / 1000000);
		gmtime_r(&second, &tm);
		n = strftime(text, sizeof text - 8, "%Y-%m-%dT%H:%M:%S", &tm);
		memcpy(text + n, ".000000Z", 9);
	}
	write_decimal(text + n + 7, us % 1000000, 6);
	put_text(l, key, text);
}

static void put_id(struct line *l, const char *key, uint64_t id)
{
	char text[MAIL_ID_TEXT_MAX];
	if (id != 0)
		put_text(l, key, mail_id_format(id, text));
}

static void put_address(struct line *l, const char *key, const struct addr *a)
{
	char text[ADDR_TEXT_MAX];
	static const struct addr none;
	if (memcmp(a, &none, sizeof none) != 0)
		put_text(l, key, addr_format(a, text));
}

static void put_tls(struct line *l, const struct record *r)
{
	char bits[32];
	put_bool(l, "via_tls", r->tls_version[0] != '\0');
	put_text(l, "tls_level", r->tls_level);
	put_text(l, "tls_version", r->tls_version);
	put_text(l, "cipher", r->cipher);
	if (r->bits != 0) {
		snprintf(bits, sizeof bits, "%u/%u", r->bits, r->bits_total);
		put_text(l, "bits", bits);
	}
	put_text(l, "group", r->group);
	if (r->is_resumed)
		put_bool(l, "resumed", true);
	if (r->is_small_hello)
		put_bool(l, "small_hello", true);
	put_text(l, "verify", r->verify);
	put_text(l, "verify_message", r->verify_message);
	put_text(l, "cert_subject", r->cert_subject);
	put_text(l, "cert_issuer", r->cert_issuer);
}

/* Also if it is empty: the null sender. The text form has it as people write it, in angle brackets. */
static void put_mailbox(struct line *l, const char *key, const char *mailbox)
{
	char bracketed[sizeof((struct record *)NULL)->from + 2];
	size_t begin = l->n;
	snprintf(bracketed, sizeof bracketed, "<%s>", mailbox);
	put_key(l, key);
	put_value(l, l->is_text ? bracketed : mailbox);
	end_field(l, begin);
}

static void put_fields(struct line *l, const struct record *r)
{
	put_id(l, "session_id", r->session_id);
	put_id(l, "queue_id", r->queue_id);
	put_text(l, "direction", r->is_outbound ? "out" : "in");
	put_text(l, "disposition", record_disposition_name(r->disposition));
	put_text(l, "stage", r->stage);
	put_text(l, "listener", r->listener);
	put_address(l, "client_ip", &r->client_addr);
	put_text(l, "client_name", r->client_name);
	put_text(l, "helo", r->helo);
	put_text(l, "proto", r->proto);
	put_mailbox(l, "from", r->from);
	if (r->to[0] != '\0')
		put_mailbox(l, "to", r->to);
	put_text(l, "relay", r->relay);
	put_address(l, "dest_ip", &r->dest_addr);
	put_number(l, "dest_port", r->dest_port);
	put_text(l, "rule_id", r->rule_id);
	put_text(l, "profile", r->profile);
	put_number(l, "generation", r->generation);
	put_tls(l, r);
	put_time(l, "first_tried", r->first_tried_us);
	put_time(l, "last_tried", r->last_tried_us);
	put_number(l, "tries", r->tries);
	put_number(l, "delay_us", r->delay_us);
	put_number(l, "size", r->size);
	put_text(l, "reply", r->reply);
	put_text(l, "reason", r->reason);
}

size_t record_format(const struct record *r, char *to, size_t size)
{
	struct line l = {.to = to, .size = size - 2};
	put_raw(&l, "{", 1);
	put_time(&l, "time", r->time_us);
	put_fields(&l, r);
	to[l.n++] = '}';
	to[l.n++] = '\n';
	return l.n;
}

size_t record_format_text(const struct record *r, char *to, size_t size)
{
	struct line l = {.to = to, .size = size - 1, .is_text = true};
	put_fields(&l, r);
	to[l.n] = '\0';
	return l.n;
}
