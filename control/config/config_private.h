// SPDX-License-Identifier: Apache-2.0
/* control/config/config_private.h: the schema table and what the files of this folder share. */
#pragma once

#include "control/config/config.h"
#include "control/quote.h"

#define CONFIG_ERROR_MAX 512

enum setting_type {
	TYPE_TEXT,
	TYPE_CHOICE, /* a text, one of `words` */
	TYPE_BOOL,
	TYPE_NUMBER,
	TYPE_TIME,  /* a number of seconds, "5m", "1h", "5d" */
	TYPE_SIZE,  /* a number of bytes, "64K", "50M", "1G" */
	TYPE_TEXTS, /* a list of texts; the count stands behind the pointer */
	TYPE_LIST,  /* a list of mappings */
};

struct setting {
	const char *path; /* "section.key", "key" of a list, "….list[].key" */
	enum setting_type type;
	size_t offset; /* in struct config, or in the item */
	uint64_t least, most;
	const char *words;
	const char *(*check)(const char *text); /* NULL, or what was expected */
	size_t item_size, count_offset;		/* of a list */
	const char *otherwise;			/* NULL: must be given */
	const char *sentence;
};
extern const struct setting config_settings[];
extern const size_t config_setting_count;

/* Is row `s` a setting of the mapping at `group` ("" or "dataplane.ports[]") itself? */
bool config_is_in(const struct setting *s, const char *group);

/* What was read, and where: for messages after the reading. */
struct config_place {
	char *path; /* "dataplane.ports[0].name" */
	unsigned line;
};
struct config_reader {
	const char *file;
	char *error;
	struct config *config;
	struct config_place *places;
	size_t place_count, place_room;
};

/* "FILE:LINE: PATH: found FOUND, expected EXPECTED"; returns -EINVAL. The line is where the path, or what it is
 * in, was read. */
int config_refuse(struct config_reader *r, const char *path, const char *found, const char *expected);
/* "5m", "64K" or plain digits: the shortest exact form. */
const char *config_format_number(enum setting_type type, uint64_t value, char to[24]);

/* NULL, or what was expected: a host name, or nothing. */
const char *config_check_host(const char *text);
/* Checks `text` and puts it into the setting's place in `base`; NULL, or what was expected (in `room`, or a
 * literal). */
const char *config_take(const struct setting *s, const char *text, void *base, char room[160]);
/* "a whole number from 1 to 16" */
void config_expected(const struct setting *s, char to[160]);

/* The checks across settings. 0 or -EINVAL with the error filled in. */
int config_check(struct config_reader *r);

/* Reads from memory instead; the file name is for messages. */
int config_load_text(const char *file, const char *text, size_t n, struct config **config,
	char error[CONFIG_ERROR_MAX]);
/* What deploy/hikyaku.yaml holds: what must be set by example, and all else commented out. */
int config_print_example(FILE *to);
