// SPDX-License-Identifier: Apache-2.0
/* base/log.h: structured log lines of the processes (not the mail records). Never on a worker core.
 *
 * One line an event, to standard error: time, level, part, what happened, then key=value pairs. Where
 * standard error is the journal it is stamped and kept there. A library does not log: it returns reasons.
 * Thread-safe: one write a line. */
#pragma once

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Lines above `level` are not written; LOG_LEVEL_INFO at first. */
void log_set_level(enum log_level level);

/* `part` and `event` are ours; `format` gives the key=value pairs ("" for none). Control bytes in what
 * comes out are written as \xNN, so that nobody's bytes can make a line of their own. A line longer than
 * 2 KiB is cut. */
void log_write(enum log_level level, const char *part, const char *event, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#define log_error(part, event, ...) log_write(LOG_LEVEL_ERROR, part, event, __VA_ARGS__)
#define log_warn(part, event, ...)  log_write(LOG_LEVEL_WARN, part, event, __VA_ARGS__)
#define log_info(part, event, ...)  log_write(LOG_LEVEL_INFO, part, event, __VA_ARGS__)
#define log_debug(part, event, ...) log_write(LOG_LEVEL_DEBUG, part, event, __VA_ARGS__)
