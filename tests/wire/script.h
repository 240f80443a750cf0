// SPDX-License-Identifier: Apache-2.0
/* tests/wire/script.h: a script file read into cases; tests/wire/README.md describes what is in it.
 *
 * Knows lines, titles, blocks and tables, not what the lines say. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define LINE_MAX_BYTES 400
#define TABLES_MAX     3
#define COLUMNS_MAX    12

struct line {
	const char *file;
	int number;
	char *text; /* without indent, remark or line end */
};
struct lines {
	struct line *at;
	size_t count;
};
struct table {
	char *columns[COLUMNS_MAX];
	unsigned column_count;
	char *(*rows)[COLUMNS_MAX];
	unsigned row_count;
};
/* What stands under one title: as many cases as its tables have combinations of rows. */
struct script {
	struct line title;
	struct table tables[TABLES_MAX];
	unsigned table_count;
	struct lines body;
	size_t defaults; /* the lines of the file's head that come first, as an index */
};
struct block {
	char *name;
	struct lines body;
};
struct scripts {
	struct script *at;
	size_t count;
	struct block *blocks;
	size_t block_count;
	struct lines *heads; /* of each file: lines before the first title */
	size_t head_count;
};

/* Reads a file, adding to `all`; ends the process with a message if it cannot be read. */
void scripts_read(struct scripts *all, const char *path);
void scripts_free(struct scripts *all);
const struct block *scripts_block(const struct scripts *all, const char *name, size_t n);

unsigned script_case_count(const struct script *s);
/* The line as it stands in case `index`: {column} replaced; false: a cell of it is "-", the line is left out. Ends the
 * process on an unknown column. */
bool script_fill(const struct script *s, unsigned index, const struct line *line, char to[LINE_MAX_BYTES]);
