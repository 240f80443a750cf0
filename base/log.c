// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static _Atomic int level_max = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

/* Copies `text` with control bytes as \xNN; returns the bytes written, at most `size`. */
static size_t copy_clean(const char *text, char *to, size_t size)
{
	size_t n = 0;
	for (; *text != '\0' && n + 5 < size; text++) {
		unsigned char c = (unsigned char)*text;
		if (c < 0x20 || c == 0x7f)
			n += (size_t)snprintf(to + n, size - n, "\\x%02x", c);
		else
			to[n++] = (char)c;
	}
	return n;
}

void log_write(enum log_level level, const char *part, const char *event, const char *format, ...)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	char pairs[1024], line[2048];
	if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed))
		return;

	va_list args;
	va_start(args, format);
	vsnprintf(pairs, sizeof pairs, format, args);
	va_end(args);

	struct timespec t;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	size_t n = strftime(line, sizeof line, "time=%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ level=%s part=%s event=\"%s\"",
		t.tv_nsec / 1000000, names[level], part, event);
	if (pairs[0] != '\0') {
		line[n++] = ' ';
		n += copy_clean(pairs, line + n, sizeof line - n - 1);
	}
	line[n++] = '\n';
	ssize_t written = write(STDERR_FILENO, line, n);
	(void)written;
}
