// SPDX-License-Identifier: Apache-2.0
/* relay/record_file.c: where records go: a file or the journal, and syslog if that is wanted too. Main
 * thread; a journal or syslog that does not take a record holds it up, and the lanes count what is lost. */
#include "relay/relay.h"
#include "relay/worker.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/log.h"

/* What every receiver of syslog should take (RFC 5424 6.1). */
#define SYSLOG_LINE_MAX 2048

struct record_file {
	char *path;
	bool is_journal, is_syslog;
	bool has_failed; /* the journal: told once, not a record */
	int fd;
	size_t n;
	char buffer[4 * RECORD_LINE_MAX];
};

static int open_path(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

/* sd_journal_sendv() says nothing where there is no journal at all. */
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static int open_target(struct record_file *f, char error[256])
{
	int rc = 0;
	f->fd = f->is_journal ? -1 : open_path(f->path);
	if (!f->is_journal && f->fd < 0) {
		rc = -errno;
		snprintf(error, 256, "cannot open the record file %s: %s (paths.records)", f->path, strerror(-rc));
	} else if (f->is_journal && access(JOURNAL_SOCKET, W_OK) != 0) {
		rc = -errno;
		snprintf(error, 256, "no journal answers at %s: %s (log.journal)", JOURNAL_SOCKET, strerror(-rc));
	}
	return rc;
}

int record_file_open(struct record_file **file, const struct config *config, char error[256])
{
	struct record_file *f = calloc(1, sizeof *f);
	snprintf(error, 256, "the record file: out of memory");
	if (f == NULL)
		return -ENOMEM;
	f->is_journal = config->log.journal;
	f->is_syslog = config->log.syslog;
	f->path = strdup(config->paths.records);
	int rc = f->path == NULL ? -ENOMEM : open_target(f, error);
	if (rc != 0) {
		free(f->path);
		free(f);
		return rc;
	}
	if (f->is_syslog)
		openlog("hikyaku-relay", LOG_PID, LOG_MAIL);
	*file = f;
	return 0;
}

static void flush(struct record_file *f)
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
	if (f->is_journal)
		return;
	flush(f);
	int fd = open_path(f->path);
	if (fd < 0) {
		log_error("records", "cannot reopen; going on with the old file", "path=%s error=\"%s\"", f->path,
			strerror(errno));
		return;
	}
	close(f->fd);
	f->fd = fd;
}

/* The journal keeps JSON and, to select by, fields of its own; what is not known is not there. */
static void write_journal(struct record_file *f, const struct record *r, const char *line, size_t n)
{
	char message[RECORD_LINE_MAX + 8], queue[64], session[64], disposition[64], id[MAIL_ID_TEXT_MAX];
	struct iovec fields[6] = {{message, (size_t)snprintf(message, sizeof message, "MESSAGE=%.*s", (int)n - 1, line)},
		{disposition, (size_t)snprintf(disposition, sizeof disposition, "HIKYAKU_DISPOSITION=%s",
				      record_disposition_name(r->disposition))},
		{(char *)(uintptr_t) "PRIORITY=6", 10}, {(char *)(uintptr_t) "SYSLOG_FACILITY=2", 17}};
	int count = 4;
	if (r->queue_id != 0)
		fields[count++] = (struct iovec){queue, (size_t)snprintf(queue, sizeof queue, "HIKYAKU_QUEUE_ID=%s",
								mail_id_format(r->queue_id, id))};
	if (r->session_id != 0)
		fields[count++] = (struct iovec){session, (size_t)snprintf(session, sizeof session,
								  "HIKYAKU_SESSION_ID=%s", mail_id_format(r->session_id, id))};
	int rc = sd_journal_sendv(fields, count);
	if (rc < 0 && !f->has_failed)
		log_error("records", "the journal does not take records; they are lost", "error=\"%s\"", strerror(-rc));
	f->has_failed = rc < 0;
}

static void write_record(struct record_file *f, const struct record *record)
{
	if (f->n + RECORD_LINE_MAX > sizeof f->buffer)
		flush(f);
	size_t n = record_format(record, f->buffer + f->n, RECORD_LINE_MAX);
	if (f->is_journal)
		write_journal(f, record, f->buffer + f->n, n);
	else
		f->n += n;
	if (f->is_syslog) {
		char text[SYSLOG_LINE_MAX];
		record_format_text(record, text, sizeof text);
		syslog(LOG_INFO, "%s", text);
	}
}

static bool drain_lane(struct relay *relay, struct record_lane *lane)
{
	bool any = false;
	for (struct record *r; (r = ring_pop_spsc(&lane->full)) != NULL; any = true) {
		write_record(relay->records, r);
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
		flush(relay->records);
	return any;
}
