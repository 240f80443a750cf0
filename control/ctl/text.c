// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

static void *must(void *memory)
{
	if (memory != NULL)
		return memory;
	fputs("hikyakuctl: out of memory\n", stderr);
	exit(EX_OSERR);
}

char *text_format(const char *format, ...)
{
	char *text = NULL;
	va_list list;
	va_start(list, format);
	if (vasprintf(&text, format, list) < 0)
		text = NULL;
	va_end(list);
	return must(text);
}

/* ---- safe for a terminal ---- */

/* The least character that has a sequence of this length (RFC 3629 3): a longer sequence is no
 * UTF-8. */
size_t text_decode(struct bytes text, uint32_t *c)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	if (text.n == 0)
		return 0;
	uint8_t b = text.at[0];
	size_t n = b < 0x80		? 1
		: b >= 0xc2 && b < 0xe0 ? 2
		: b >= 0xe0 && b < 0xf0 ? 3
		: b >= 0xf0 && b < 0xf5 ? 4
					: 0;
	if (n == 0 || n > text.n)
		return 0;
	*c = n == 1 ? b : b & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((text.at[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (text.at[i] & 0x3f);
	}
	return *c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c < 0xe000) ? 0 : n;
}

bool text_is_hostile(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || /* C0, DEL, C1 */
		c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
		(c >= 0x2066 && c <= 0x2069) || /* lines, paragraphs and directions */
		c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c < 0xe0080);
}

void text_put(FILE *to, struct bytes text, enum text_keep keep)
{
	while (text.n != 0) {
		uint32_t c = 0;
		size_t n = text_decode(text, &c);
		bool is_kept = keep == TEXT_KEEP_LINES && (c == '\n' || c == '\t');
		if (n == 0)
			fprintf(to, "\\x%02x", text.at[0]);
		else if (!text_is_hostile(c) || is_kept)
			fwrite(text.at, 1, n, to);
		else
			fprintf(to, c < 0x80 ? "\\x%02x" : "\\u{%x}", c);
		text = bytes_skip(text, n == 0 ? 1 : n);
	}
}

char *text_safe(const char *text)
{
	char *safe = NULL;
	size_t n;
	FILE *to = must(open_memstream(&safe, &n));
	text_put(to, bytes_of_string(text), TEXT_ONE_LINE);
	fclose(to);
	return must(safe);
}

/* ---- times and sizes ---- */

char *text_duration(double seconds)
{
	static const struct {
		double seconds;
		const char *one, *many;
	} units[] = {
		{86400, "day", "days"},
		{3600, "h", "h"},
		{60, "min", "min"},
		{0, "s", "s"},
	};
	seconds = fabs(seconds);
	if (!(seconds < 2 * TEXT_SECONDS_MAX))
		return text_format("?");
	for (size_t i = 0;; i++) {
		if (seconds < units[i].seconds * (i == 0 ? 2 : 1)) /* 36 h rather than 1 day */
			continue;
		unsigned long long n = (unsigned long long)(seconds /
			(units[i].seconds == 0 ? 1 : units[i].seconds));
		return text_format("%llu %s", n, n == 1 ? units[i].one : units[i].many);
	}
}

char *text_distance(double when, double now)
{
	if (fabs(when - now) < 1)
		return text_format("now");
	char *duration = text_duration(when - now);
	char *text = when > now ? text_format("in %s", duration) : text_format("%s ago", duration);
	free(duration);
	return text;
}

char *text_time(double when, double now)
{
	char clock[64];
	struct tm tm;
	if (!(fabs(when) < TEXT_SECONDS_MAX))
		return text_format("?");
	time_t seconds = (time_t)when;
	if (localtime_r(&seconds, &tm) == NULL)
		return text_format("?");
	strftime(clock, sizeof clock, "%Y-%m-%d %H:%M:%S", &tm);
	char *distance = text_distance(when, now);
	char *text = text_format("%s (%s)", clock, distance);
	free(distance);
	return text;
}

char *text_size(double bytes)
{
	static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
	size_t unit = 0;
	while (bytes >= 1024 && unit + 1 < sizeof units / sizeof *units) {
		bytes /= 1024;
		unit++;
	}
	return text_format(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

bool text_parse_time(const char *text, double *seconds)
{
	struct tm tm = {};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (rest == NULL)
		return false;
	*seconds = (double)timegm(&tm);
	if (*rest == '.') {
		char *end;
		*seconds += strtod(rest, &end);
		rest = end;
	}
	return strcmp(rest, "Z") == 0;
}

/* ---- tables ---- */

static size_t width_of(const char *text)
{
	size_t width = 0;
	for (; *text != '\0'; text++)
		width += ((uint8_t)*text & 0xc0) != 0x80;
	return width;
}

void table_init(struct table *t, unsigned columns, const char *const *header)
{
	*t = (struct table){.columns = columns};
	if (header == NULL)
		return;
	char *cells[TABLE_COLUMNS_MAX];
	for (unsigned i = 0; i < columns; i++)
		cells[i] = text_format("%s", header[i]);
	table_row(t, cells);
}

void table_fini(struct table *t)
{
	for (size_t i = 0; i < t->rows * (t->columns + 1); i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){};
}

static char *made_safe(char *text)
{
	if (text == NULL)
		return text_format("-");
	char *safe = text_safe(text);
	free(text);
	return safe;
}

void table_row(struct table *t, char *const *cells)
{
	size_t stride = t->columns + 1;
	if (t->rows == t->room) {
		t->room = t->room == 0 ? 32 : t->room * 2;
		t->cells = must(reallocarray(t->cells, t->room * stride, sizeof *t->cells));
	}
	char **row = t->cells + t->rows++ * stride;
	for (unsigned i = 0; i < t->columns; i++)
		row[i] = made_safe(cells[i]);
	row[t->columns] = NULL;
}

void table_note(struct table *t, char *note)
{
	char **place = &t->cells[t->rows * (t->columns + 1) - 1];
	free(*place);
	*place = note == NULL ? NULL : made_safe(note);
}

#define GAP	   2
#define CELL_LEAST 8

/* Takes from the widest column until the rows fit, or all are narrow. */
static void fit(size_t *widths, unsigned columns, size_t width)
{
	for (;;) {
		size_t total = 0;
		unsigned widest = 0;
		for (unsigned i = 0; i < columns; i++) {
			total += widths[i] + (i == 0 ? 0 : GAP);
			if (widths[i] > widths[widest])
				widest = i;
		}
		if (total <= width || widths[widest] <= CELL_LEAST)
			return;
		widths[widest]--;
	}
}

static void print_cell(FILE *to, const char *cell, size_t width, bool is_right, bool is_last)
{
	size_t own = width_of(cell), pad = own < width ? width - own : 0;
	if (is_right)
		fprintf(to, "%*s", (int)pad, "");
	if (own <= width) {
		fputs(cell, to);
	} else {
		const char *end = cell;
		for (size_t i = 0; i + 1 < width; i++) /* a character each */
			do
				end++;
			while (((uint8_t)*end & 0xc0) == 0x80);
		fprintf(to, "%.*s…", (int)(end - cell), cell);
	}
	if (!is_last)
		fprintf(to, "%*s", (int)((is_right ? 0 : pad) + GAP), "");
}

void table_print(const struct table *t, FILE *to, unsigned width)
{
	size_t widths[TABLE_COLUMNS_MAX] = {}, stride = t->columns + 1;
	for (size_t r = 0; r < t->rows; r++)
		for (unsigned i = 0; i < t->columns; i++) {
			size_t own = width_of(t->cells[r * stride + i]);
			widths[i] = own > widths[i] ? own : widths[i];
		}
	if (width != 0)
		fit(widths, t->columns, width);
	for (size_t r = 0; r < t->rows; r++) {
		for (unsigned i = 0; i < t->columns; i++)
			print_cell(to, t->cells[r * stride + i], widths[i], t->is_right[i],
				i + 1 == t->columns);
		fputc('\n', to);
		if (t->cells[r * stride + t->columns] != NULL)
			fprintf(to, "    %s\n", t->cells[r * stride + t->columns]);
	}
}

/* ---- base64 ---- */

static int digit_of(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c == '\0' ? NULL : strchr(digits, c);
	return at == NULL ? -1 : (int)(at - digits);
}

uint8_t *text_decode_base64(const char *text, size_t *n)
{
	size_t length = strlen(text);
	uint8_t *bytes = malloc(length / 4 * 3 + 1);
	*n = 0;
	for (size_t i = 0; bytes != NULL && i < length; i += 4) {
		int d[4] = {};
		unsigned digits = 0;
		while (digits < 4 && (d[digits] = digit_of(text[i + digits])) >= 0)
			digits++;
		bool is_padded = i + 4 == length && digits >= 2 &&
			strspn(text + i + digits, "=") == 4 - digits;
		if (length % 4 != 0 || (digits != 4 && !is_padded)) {
			free(bytes);
			return NULL;
		}
		uint32_t v = (uint32_t)d[0] << 18 | (uint32_t)d[1] << 12 |
			(digits > 2 ? (uint32_t)d[2] << 6 : 0) | (digits > 3 ? (uint32_t)d[3] : 0);
		for (unsigned k = 0; k + 1 < digits; k++)
			bytes[(*n)++] = (uint8_t)(v >> (16 - 8 * k));
	}
	return bytes;
}
