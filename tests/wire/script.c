// SPDX-License-Identifier: Apache-2.0
#include "tests/wire/script.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

[[noreturn]] static void die(const struct line *at, const char *what)
{
	fprintf(stderr, "%s:%d: %s: %s\n", at->file, at->number, what, at->text);
	exit(2);
}

static void *grown(void *p, size_t count, size_t size)
{
	if ((count & (count - 1)) != 0) /* grows at powers of two */
		return p;
	p = realloc(p, (count == 0 ? 1 : 2 * count) * size);
	if (p == NULL)
		abort();
	return p;
}

static void add_line(struct lines *lines, const struct line *line)
{
	lines->at = grown(lines->at, lines->count, sizeof *lines->at);
	lines->at[lines->count++] = *line;
}

static char *copy(const char *from, size_t n)
{
	char *to = strndup(from, n);
	if (to == NULL)
		abort();
	return to;
}

/* Cuts blanks at both ends. */
static char *trimmed(char *s, size_t n)
{
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		n--;
	while (n > 0 && isspace((unsigned char)*s))
		s++, n--;
	return copy(s, n);
}

/* ---- tables ---- */

static unsigned read_cells(char *text, char *cells[COLUMNS_MAX], const struct line *line)
{
	unsigned n = 0;
	for (char *p = text + 1, *bar; (bar = strchr(p, '|')) != NULL; p = bar + 1) {
		if (n == COLUMNS_MAX)
			die(line, "too many columns");
		cells[n++] = trimmed(p, (size_t)(bar - p));
	}
	if (n == 0)
		die(line, "a row ends with |");
	return n;
}

static void add_row(struct script *s, const struct line *line, bool is_new)
{
	char *cells[COLUMNS_MAX];
	const unsigned n = read_cells(line->text, cells, line);
	if (is_new) {
		if (s->table_count == TABLES_MAX)
			die(line, "too many tables");
		struct table *t = &s->tables[s->table_count++];
		memcpy(t->columns, cells, sizeof cells);
		t->column_count = n;
		return;
	}
	struct table *t = &s->tables[s->table_count - 1];
	if (n != t->column_count)
		die(line, "not as many cells as columns");
	t->rows = grown(t->rows, t->row_count, sizeof *t->rows);
	memcpy(t->rows[t->row_count++], cells, sizeof cells);
}

unsigned script_case_count(const struct script *s)
{
	unsigned n = 1;
	for (unsigned i = 0; i < s->table_count; i++)
		n *= s->tables[i].row_count;
	return n;
}

static const char *find_cell(const struct script *s, unsigned index, const char *name, size_t n)
{
	for (unsigned i = s->table_count; i-- > 0;) {
		const struct table *t = &s->tables[i];
		const unsigned row = index % t->row_count;
		index /= t->row_count;
		for (unsigned k = 0; k < t->column_count; k++)
			if (strlen(t->columns[k]) == n && memcmp(t->columns[k], name, n) == 0)
				return t->rows[row][k];
	}
	return NULL;
}

bool script_fill(const struct script *s, unsigned index, const struct line *line, char to[LINE_MAX_BYTES])
{
	char *p = to, *end = to + LINE_MAX_BYTES - 1;
	for (const char *q = line->text; *q != '\0' && p < end;) {
		const char *close = *q == '{' ? strchr(q, '}') : NULL;
		if (close == NULL) {
			*p++ = *q++;
			continue;
		}
		const char *cell = find_cell(s, index, q + 1, (size_t)(close - q - 1));
		if (cell == NULL)
			die(line, "no such column");
		if (strcmp(cell, "-") == 0)
			return false;
		p += snprintf(p, (size_t)(end - p) + 1, "%s", cell);
		q = close + 1;
	}
	if (p >= end)
		die(line, "the line is too long");
	*p = '\0';
	return true;
}

/* ---- files ---- */

const struct block *scripts_block(const struct scripts *all, const char *name, size_t n)
{
	for (size_t i = 0; i < all->block_count; i++)
		if (strlen(all->blocks[i].name) == n && memcmp(all->blocks[i].name, name, n) == 0)
			return &all->blocks[i];
	return NULL;
}

static struct script *add_script(struct scripts *all, const struct line *line)
{
	all->at = grown(all->at, all->count, sizeof *all->at);
	struct script *s = &all->at[all->count++];
	*s = (struct script){.title = *line, .defaults = all->head_count - 1};
	s->title.text = trimmed(line->text + 2, strlen(line->text + 2));
	free(line->text);
	return s;
}

static struct block *add_block(struct scripts *all, const struct line *line)
{
	char *name = trimmed(line->text + 2, strlen(line->text + 2));
	if (scripts_block(all, name, strlen(name)) != NULL)
		die(line, "there is such a block already");
	all->blocks = grown(all->blocks, all->block_count, sizeof *all->blocks);
	struct block *b = &all->blocks[all->block_count++];
	*b = (struct block){.name = name};
	free(line->text);
	return b;
}

static void cut_remark(char *text)
{
	for (char *p = text; (p = strchr(p, '#')) != NULL; p++)
		if (p == text || isspace((unsigned char)p[-1])) {
			*p = '\0';
			return;
		}
}

static void read_line(struct scripts *all, struct line line, struct script **script, struct block **block,
	bool *in_table)
{
	const bool is_row = *line.text == '|';
	if (strncmp(line.text, "==", 2) == 0) {
		*script = add_script(all, &line);
		*block = NULL;
	} else if (strncmp(line.text, "::", 2) == 0) {
		*block = add_block(all, &line);
		*script = NULL;
	} else if (is_row) {
		if (*script == NULL || (*script)->body.count != 0)
			die(&line, "a table stands right under a title");
		add_row(*script, &line, !*in_table);
		free(line.text);
	} else if (*line.text != '\0') {
		add_line(*block != NULL ? &(*block)->body
			: *script != NULL ? &(*script)->body : &all->heads[all->head_count - 1], &line);
	} else {
		free(line.text);
	}
	*in_table = is_row;
}

void scripts_read(struct scripts *all, const char *path)
{
	char buffer[LINE_MAX_BYTES];
	FILE *f = fopen(path, "r");
	const char *slash = strrchr(path, '/');
	struct script *script = NULL;
	struct block *block = NULL;
	bool in_table = false;
	if (f == NULL) {
		perror(path);
		exit(2);
	}
	all->heads = grown(all->heads, all->head_count, sizeof *all->heads);
	all->heads[all->head_count++] = (struct lines){0};
	for (int number = 1; fgets(buffer, sizeof buffer, f) != NULL; number++) {
		cut_remark(buffer);
		read_line(all, (struct line){slash == NULL ? path : slash + 1, number, trimmed(buffer, strlen(buffer))},
			&script, &block, &in_table);
	}
	fclose(f);
}

static void lines_free(struct lines *lines)
{
	for (size_t i = 0; i < lines->count; i++)
		free(lines->at[i].text);
	free(lines->at);
}

static void script_free(struct script *s)
{
	for (unsigned i = 0; i < s->table_count; i++) {
		struct table *t = &s->tables[i];
		for (unsigned k = 0; k < t->column_count; k++) {
			for (unsigned row = 0; row < t->row_count; row++)
				free(t->rows[row][k]);
			free(t->columns[k]);
		}
		free(t->rows);
	}
	free(s->title.text);
	lines_free(&s->body);
}

void scripts_free(struct scripts *all)
{
	for (size_t i = 0; i < all->count; i++)
		script_free(&all->at[i]);
	for (size_t i = 0; i < all->block_count; i++) {
		free(all->blocks[i].name);
		lines_free(&all->blocks[i].body);
	}
	for (size_t i = 0; i < all->head_count; i++)
		lines_free(&all->heads[i]);
	free(all->at);
	free(all->blocks);
	free(all->heads);
}
