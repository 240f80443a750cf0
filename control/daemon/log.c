// SPDX-License-Identifier: Apache-2.0
/* control/daemon/log.c: the records' last lines, and those that come. */
#include "control/daemon/http.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <microhttpd.h>

#define LINES_OTHERWISE 10
#define LINES_MOST	10000
#define FOLLOW_MS	200 /* how often the file is looked at */
#define STREAM_BLOCK	4096
#define JSON_LINES	"application/jsonl"
#define BYTES_MOST	(8u << 20) /* a record is some hundred bytes */

/* The end of the file from its last `lines` lines on, whole lines only; the place behind it into
 * `*end`. */
static char *read_last(int fd, uint64_t lines, size_t *n, off_t *end)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		return NULL;
	size_t size = status.st_size > (off_t)BYTES_MOST ? BYTES_MOST : (size_t)status.st_size,
	       got = 0;
	off_t from = status.st_size - (off_t)size;
	char *text = malloc(size + 1);
	for (ssize_t r = 1; text != NULL && got < size && r > 0; got += r > 0 ? (size_t)r : 0)
		r = pread(fd, text + got, size - got, from + (off_t)got);
	if (text == NULL)
		return NULL;
	while (got > 0 && text[got - 1] != '\n') /* a line that is being written */
		got--;
	size_t at = got;
	for (uint64_t found = 0; at > 0; at--)
		if (text[at - 1] == '\n' && found++ == lines)
			break;
	const char *newline = at == 0 && from > 0 ? memchr(text, '\n', got) : NULL;
	if (newline != NULL) /* began within a line */
		at = (size_t)(newline - text) + 1;
	*end = from + (off_t)got;
	*n = got - at;
	memmove(text, text + at, *n);
	return text;
}

/* ---- what comes ---- */

struct follow {
	const struct control *control;
	const char *path;
	int fd; /* -1: not there yet */
	int peer_fd;
	off_t at;
	char *head; /* the last lines, sent first */
	size_t head_n, head_at;
};

/* Rotated away: another file has the name now. */
static bool is_another(const struct follow *f)
{
	struct stat named, open_one;
	return stat(f->path, &named) == 0 && fstat(f->fd, &open_one) == 0 &&
		(named.st_ino != open_one.st_ino || named.st_dev != open_one.st_dev);
}

/* What the file has by now; 0: nothing new. */
static ssize_t read_on(struct follow *f, char *to, size_t room)
{
	struct stat status;
	if (f->fd < 0) {
		f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		f->at = 0;
	}
	ssize_t n = f->fd < 0 ? 0 : pread(f->fd, to, room, f->at);
	if (n > 0) {
		f->at += n;
	} else if (f->fd >= 0 && is_another(f)) {
		close(f->fd);
		f->fd = -1;
	} else if (f->fd >= 0 && fstat(f->fd, &status) == 0 && status.st_size < f->at) {
		f->at = 0; /* cut */
	}
	return n;
}

/* On the connection's own thread: it may wait, for a record, for the peer to go, or for our end. */
static ssize_t on_room(void *user, uint64_t position, char *to, size_t room)
{
	struct follow *f = user;
	if (f->head_at < f->head_n) {
		size_t n = f->head_n - f->head_at < room ? f->head_n - f->head_at : room;
		memcpy(to, f->head + f->head_at, n);
		f->head_at += n;
		return (ssize_t)n;
	}
	struct pollfd peer = {.fd = f->peer_fd, .events = POLLRDHUP};
	while (!f->control->is_stopping) {
		ssize_t n = read_on(f, to, room);
		if (n != 0)
			return n < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : n;
		if (poll(&peer, 1, FOLLOW_MS) > 0)
			break;
	}
	return MHD_CONTENT_READER_END_OF_STREAM;
}

static void on_end(void *user)
{
	struct follow *f = user;
	if (f->fd >= 0)
		close(f->fd);
	free(f->head);
	free(f);
}

/* `head` is used up. */
static void answer_follow(const struct request *request, struct answer *answer, int fd, off_t at,
	char *head, size_t n)
{
	struct follow *f = malloc(sizeof *f);
	if (f == NULL) {
		free(head);
		answer_error(answer, 500, "out of memory");
		return;
	}
	*f = (struct follow){.control = request->control,
		.path = request->control->config->paths.records,
		.fd = fd,
		.peer_fd = MHD_get_connection_info(
			request->connection, MHD_CONNECTION_INFO_CONNECTION_FD)
				   ->connect_fd,
		.at = at,
		.head = head,
		.head_n = n};
	MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	answer->status = 200;
	answer->type = JSON_LINES;
	answer->stream = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_room, f, on_end);
	if (answer->stream != NULL)
		return;
	on_end(f);
	answer_error(answer, 500, "out of memory");
}

void log_get(const struct request *request, struct answer *answer)
{
	const struct config *config = request->control->config;
	const char *path = config->paths.records;
	uint64_t lines;
	if (!request_number(request, answer, "lines", LINES_MOST, LINES_OTHERWISE, &lines))
		return;
	if (config->log.journal) {
		answer_error(answer, 404,
			"records go to the journal (log.journal): see them with `journalctl -t hikyaku-relay`");
		return;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno != ENOENT) { /* there may be no record yet */
		answer_error(answer, 500, "%s: %s", path, strerror(errno));
		return;
	}
	size_t n = 0;
	off_t end = 0;
	char *text = fd < 0 ? calloc(1, 1) : read_last(fd, lines, &n, &end);
	if (text != NULL && request_flag(request, "follow")) {
		answer_follow(request, answer, fd, end, text, n);
		return;
	}
	if (fd >= 0)
		close(fd);
	if (text == NULL)
		answer_error(answer, 500, "%s: cannot be read", path);
	else
		answer_text(answer, JSON_LINES, text, n);
}
