// SPDX-License-Identifier: Apache-2.0
/* relay/record.c: records on their way from the threads to the record file, as JSON lines. */
#include "relay/relay.h"
#include "relay/worker.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "base/log.h"

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
		memset(r, 0, sizeof *r);
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
	bool is_cut; /* something did not fit */
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

/* A field goes in whole or not at all: a line that is full stays JSON. */
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

/* A JSON string (RFC 8259 7) of whatever bytes a peer has sent: what is no UTF-8 becomes U+FFFD. */
static void put_string(struct line *l, const char *text)
{
	char escape[8];
	put_raw(l, "\"", 1);
	for (const unsigned char *p = (const unsigned char *)text; *p != '\0';) {
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
	put_raw(l, l->n == 1 ? "\"" : ",\"", l->n == 1 ? 1 : 2);
	put_raw(l, key, strlen(key));
	put_raw(l, "\":", 2);
}

static void put_text(struct line *l, const char *key, const char *text)
{
	size_t begin = l->n;
	if (text[0] == '\0')
		return;
	put_key(l, key);
	put_string(l, text);
	end_field(l, begin);
}

static void put_bool(struct line *l, const char *key, bool value)
{
	size_t begin = l->n;
	put_key(l, key);
	put_raw(l, value ? "true" : "false", value ? 4 : 5);
	end_field(l, begin);
}

static void put_number(struct line *l, const char *key, uint64_t value)
{
	char text[24];
	size_t begin = l->n;
	if (value == 0)
		return;
	put_key(l, key);
	put_raw(l, text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)value));
	end_field(l, begin);
}

static void put_time(struct line *l, const char *key, uint64_t us)
{
	char text[40];
	struct tm tm;
	time_t seconds = (time_t)(us / 1000000);
	if (us == 0)
		return;
	gmtime_r(&seconds, &tm);
	size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof text - n, ".%06uZ", (unsigned)(us % 1000000));
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
	put_text(l, "verify", r->verify);
	put_text(l, "verify_message", r->verify_message);
	put_text(l, "cert_subject", r->cert_subject);
	put_text(l, "cert_issuer", r->cert_issuer);
}

/* Also if it is empty: the null sender. */
static void put_from(struct line *l, const char *from)
{
	size_t begin = l->n;
	put_key(l, "from");
	put_string(l, from);
	end_field(l, begin);
}

size_t record_format(const struct record *r, char *to, size_t size)
{
	struct line l = {.to = to, .size = size - 2};
	put_raw(&l, "{", 1);
	put_time(&l, "time", r->time_us);
	put_id(&l, "session_id", r->session_id);
	put_id(&l, "queue_id", r->queue_id);
	put_text(&l, "direction", r->is_outbound ? "out" : "in");
	put_text(&l, "disposition", record_disposition_name(r->disposition));
	put_text(&l, "stage", r->stage);
	put_text(&l, "listener", r->listener);
	put_address(&l, "client_ip", &r->client_addr);
	put_text(&l, "client_name", r->client_name);
	put_text(&l, "helo", r->helo);
	put_text(&l, "proto", r->proto);
	put_from(&l, r->from);
	put_text(&l, "to", r->to);
	put_text(&l, "relay", r->relay);
	put_address(&l, "dest_ip", &r->dest_addr);
	put_number(&l, "dest_port", r->dest_port);
	put_text(&l, "rule_id", r->rule_id);
	put_text(&l, "profile", r->profile);
	put_number(&l, "generation", r->generation);
	put_tls(&l, r);
	put_time(&l, "first_tried", r->first_tried_us);
	put_time(&l, "last_tried", r->last_tried_us);
	put_number(&l, "tries", r->tries);
	put_number(&l, "delay_us", r->delay_us);
	put_number(&l, "size", r->size);
	put_text(&l, "reply", r->reply);
	put_text(&l, "reason", r->reason);
	to[l.n++] = '}';
	to[l.n++] = '\n';
	return l.n;
}

/* ---- the file ---- */

struct record_file {
	char *path;
	bool journal;
	int fd;
	size_t n;
	char buffer[4 * RECORD_LINE_MAX];
};

static int open_path(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

int record_file_open(struct record_file **file, const char *path, bool journal, char error[256])
{
	struct record_file *f = calloc(1, sizeof *f);
	if (f == NULL)
		return -ENOMEM;
	f->journal = journal;
	f->path = strdup(path);
	f->fd = journal ? -1 : open_path(path);
	if (!journal && f->fd < 0) {
		int rc = -errno;
		snprintf(error, 256, "cannot open the record file %s: %s (paths.records)", path, strerror(-rc));
		free(f->path);
		free(f);
		return rc;
	}
	*file = f;
	return 0;
}

void record_file_flush(struct record_file *f)
{
	for (size_t at = 0; at < f->n;) {
		ssize_t n = write(f->fd, f->buffer + at, f->n - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_error("records", "cannot write", "path=%s error=\"%s\" lost_bytes=%zu", f->path,
				strerror(errno), f->n - at);
			break;
		}
		at += (size_t)n;
	}
	f->n = 0;
}

void record_file_reopen(struct record_file *f)
{
	if (f->journal)
		return;
	record_file_flush(f);
	int fd = open_path(f->path);
	if (fd < 0) {
		log_error("records", "cannot reopen; going on with the old file", "path=%s error=\"%s\"", f->path,
			strerror(errno));
		return;
	}
	close(f->fd);
	f->fd = fd;
}

void record_file_write(struct record_file *f, const struct record *record)
{
	char id[MAIL_ID_TEXT_MAX];
	if (f->n + RECORD_LINE_MAX > sizeof f->buffer)
		record_file_flush(f);
	size_t n = record_format(record, f->buffer + f->n, RECORD_LINE_MAX);
	if (!f->journal) {
		f->n += n;
		return;
	}
	sd_journal_send("MESSAGE=%.*s", (int)n - 1, f->buffer + f->n, "HIKYAKU_QUEUE_ID=%s",
		mail_id_format(record->queue_id, id), "HIKYAKU_DISPOSITION=%s",
		record_disposition_name(record->disposition), NULL);
}

static bool drain_lane(struct relay *relay, struct record_lane *lane)
{
	bool any = false;
	for (struct record *r; (r = ring_pop_spsc(&lane->full)) != NULL; any = true) {
		record_file_write(relay->records, r);
		ring_push_spsc(&lane->empty, r);
	}
	return any;
}

bool records_drain(struct relay *relay)
{
	bool any = drain_lane(relay, &relay->queue.records);
	for (unsigned i = 0; i < relay->cores; i++)
		any |= drain_lane(relay, &relay->workers[i]->records);
	if (any)
		record_file_flush(relay->records);
	return any;
}
