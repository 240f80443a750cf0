// SPDX-License-Identifier: Apache-2.0
/* control/ctl/text.h: what a person reads: text made safe for a terminal, times, sizes and tables.
 *
 * Senders, replies and certificates come from peers: nothing of them reaches a terminal but through
 * text_safe() or text_put(). */
#pragma once

#include "base/bytes.h"

#include <stdio.h>

enum text_keep { TEXT_ONE_LINE, TEXT_KEEP_LINES /* newlines and tabs stay */ };

/* Writes `text`; control characters, what is no UTF-8, and what turns the direction of writing are
 * written as \xNN or \u{NNNN}. */
void text_put(FILE *to, struct bytes text, enum text_keep keep);
/* The same as a string from the heap; never NULL (the program ends for want of memory). */
char *text_safe(const char *text);
/* snprintf's into a string from the heap; never NULL. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The first character of `text` (UTF-8) into `*c`; its bytes, or 0 if there is none there. */
size_t text_decode(struct bytes text, uint32_t *c);
/* Of base64 (RFC 4648 4) the bytes, from the heap; NULL: it is none. */
uint8_t *text_decode_base64(const char *text, size_t *n);
/* Whether a terminal must not get this character as it is. */
bool text_is_hostile(uint32_t c);

/* Times and durations from here on (in 31,000 years) are taken for mistakes. */
#define TEXT_SECONDS_MAX 1e12
/* "2026-11-21 18:59:25 (in 5 min)": local time, and how far from `now`; both seconds since 1970. */
char *text_time(double when, double now);
/* "in 5 min", "3 h ago", "now" */
char *text_distance(double when, double now);
/* "5 min", "3 h", "2 days" */
char *text_duration(double seconds);
/* "814 B", "12.3 KB", "2.0 GB" (of 1024) */
char *text_size(double bytes);
/* Seconds since 1970 of "2026-11-21T18:59:25Z" (a fraction may stand before the Z); false: not
 * that. */
bool text_parse_time(const char *text, double *seconds);

/* ---- tables: columns as wide as their cells, the widest cut where the terminal is narrower ---- */
#define TABLE_COLUMNS_MAX 12

struct table {
	unsigned columns;
	size_t rows, room;
	char **cells; /* rows × (columns + 1): the last is the note, or NULL */
	bool is_right[TABLE_COLUMNS_MAX];
};
/* `header` has `columns` names, NULL for a table without a header line. */
void table_init(struct table *t, unsigned columns, const char *const *header);
void table_fini(struct table *t);
/* The next row's cells, from the heap; they become the table's. They are made safe here. */
void table_row(struct table *t, char *const *cells);
/* A line below the last row, indented; from the heap, the table's. NULL: none. */
void table_note(struct table *t, char *note);
/* `width` 0: as wide as it gets. */
void table_print(const struct table *t, FILE *to, unsigned width);
