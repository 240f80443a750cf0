// SPDX-License-Identifier: Apache-2.0
#include "control/config/config_private.h"
#include "control/nearest.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>
#include <yaml.h>

/* libyaml makes a tree of nodes that know their lines; the table (config_table.c) says what may stand where. */

#define FILE_BYTES_MAX (1u << 20) /* a configuration is a few KB */
#define PATH_MAX_BYTES 128	  /* of "dataplane.ports[0].addresses[0]" with a wrong key at the end */

/* ---- messages ---- */
static int refuse_at(struct config_reader *r, unsigned line, const char *path, const char *found,
	const char *expected)
{
	char number[16] = "";
	if (line != 0)
		snprintf(number, sizeof number, ":%u", line);
	snprintf(r->error, CONFIG_ERROR_MAX, "%.160s%s: %s%sfound %s, expected %s", r->file, number, path,
		path[0] == '\0' ? "" : ": ", found, expected);
	return -EINVAL;
}

static unsigned line_of(const struct config_reader *r, const char *path)
{
	char shorter[PATH_MAX_BYTES];
	snprintf(shorter, sizeof shorter, "%s", path);
	for (;;) {
		for (size_t i = r->place_count; i-- > 0;)
			if (strcmp(r->places[i].path, shorter) == 0)
				return r->places[i].line;
		char *end = shorter + strlen(shorter);
		while (end > shorter && *end != '.' && *end != '[')
			end--;
		if (end == shorter)
			return 0;
		*end = '\0';
	}
}

int config_refuse(struct config_reader *r, const char *path, const char *found, const char *expected)
{
	return refuse_at(r, line_of(r, path), path, found, expected);
}

static int note_place(struct config_reader *r, const char *path, unsigned line)
{
	if (r->place_count == r->place_room) {
		size_t room = r->place_room * 2 + 64;
		struct config_place *places = realloc(r->places, room * sizeof *places);
		if (places == NULL)
			return -ENOMEM;
		r->places = places;
		r->place_room = room;
	}
	char *copy = strdup(path);
	if (copy == NULL)
		return -ENOMEM;
	r->places[r->place_count++] = (struct config_place){copy, line};
	return 0;
}

static unsigned place_line(const struct config_reader *r, const char *path)
{
	for (size_t i = 0; i < r->place_count; i++)
		if (strcmp(r->places[i].path, path) == 0)
			return r->places[i].line;
	return 0;
}

static int refuse_value(struct config_reader *r, const struct setting *s, unsigned line,
	const char *path, const char *found, const char *expected)
{
	char full[CONFIG_ERROR_MAX];
	int n = (int)strlen(s->sentence);
	if (n > 0 && s->sentence[n - 1] == '.')
		n--;
	snprintf(full, sizeof full, "%s (%.*s)", expected, n, s->sentence);
	return refuse_at(r, line, path, found, full);
}

/* ---- nodes ---- */
static unsigned node_line(const yaml_node_t *node)
{
	return (unsigned)node->start_mark.line + 1;
}

/* An absent value: "key:" with nothing behind it. */
static bool is_nothing(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0 &&
		node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static const char *describe(const yaml_node_t *node, char to[QUOTE_BYTES_MAX])
{
	if (node->type == YAML_MAPPING_NODE)
		return "keys with values";
	if (node->type == YAML_SEQUENCE_NODE)
		return "a list";
	if (is_nothing(node))
		return "nothing";
	return quote_text((const char *)node->data.scalar.value, to);
}

static int read_scalar(struct config_reader *r, const struct setting *s, const yaml_node_t *node,
	const char *path, void *base)
{
	char found[QUOTE_BYTES_MAX], room[160];
	const char *text = node->type == YAML_SCALAR_NODE ? (char *)node->data.scalar.value : NULL;
	const char *expected = room;
	if (text == NULL || strlen(text) != node->data.scalar.length)
		config_expected(s, room);
	else
		expected = config_take(s, text, base, room);
	if (expected == NULL)
		return 0;
	return refuse_value(r, s, node_line(node), path, describe(node, found), expected);
}

/* A sequence of a permitted length; `*count` items. */
static int open_list(struct config_reader *r, const struct setting *s, const yaml_node_t *node,
	const char *path, size_t *count)
{
	char found[QUOTE_BYTES_MAX], expected[160];
	*count = 0;
	if (node->type == YAML_SEQUENCE_NODE)
		*count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
	bool is_list = node->type == YAML_SEQUENCE_NODE || is_nothing(node);
	if (is_list && *count >= s->least && *count <= s->most)
		return 0;
	config_expected(s, expected);
	if (is_list)
		snprintf(found, sizeof found, "%zu", *count);
	return refuse_value(r, s, node_line(node), path, is_list ? found : describe(node, found), expected);
}

/* Paths of the schema are short; the bound is for the compiler. */
static void item_path_of(const char *list, size_t i, char to[PATH_MAX_BYTES])
{
	snprintf(to, PATH_MAX_BYTES, "%.90s[%u]", list, (unsigned)i);
}

static int read_texts(struct config_reader *r, yaml_document_t *doc, const struct setting *s,
	const yaml_node_t *node, const char *path, void *base)
{
	char ***texts = (char ***)((char *)base + s->offset);
	unsigned *filled = (unsigned *)(texts + 1);
	struct setting item = *s;
	size_t count;
	int error = open_list(r, s, node, path, &count);
	if (error != 0 || count == 0)
		return error;
	*texts = calloc(count, sizeof **texts);
	if (*texts == NULL)
		return -ENOMEM;
	item.type = TYPE_TEXT;
	item.offset = 0;
	item.least = 1;
	item.most = 255;
	for (size_t i = 0; error == 0 && i < count; i++) {
		char item_path[PATH_MAX_BYTES];
		const yaml_node_t *child = yaml_document_get_node(doc, node->data.sequence.items.start[i]);
		item_path_of(path, i, item_path);
		error = note_place(r, item_path, node_line(child));
		if (error == 0)
			error = read_scalar(r, &item, child, item_path, &(*texts)[i]);
		*filled += error == 0;
	}
	return error;
}

static int read_mapping(struct config_reader *r, yaml_document_t *doc, const yaml_node_t *node,
	const char *group, const char *section, const char *path, void *base);

/* Settings that were not given: their defaults, or a refusal. */
static int fill_in(struct config_reader *r, const char *group, const char *path, void *base);

static int read_list(struct config_reader *r, yaml_document_t *doc, const struct setting *s,
	const yaml_node_t *node, const char *path, void *base)
{
	char **items = (char **)((char *)base + s->offset), group[PATH_MAX_BYTES];
	unsigned *filled = (unsigned *)((char *)base + s->count_offset);
	size_t count;
	int error = open_list(r, s, node, path, &count);
	if (error != 0 || count == 0)
		return error;
	*items = calloc(count, s->item_size);
	if (*items == NULL)
		return -ENOMEM;
	snprintf(group, sizeof group, "%s[]", s->path);
	for (size_t i = 0; error == 0 && i < count; i++) {
		char item_path[PATH_MAX_BYTES], *item = *items + s->item_size * i;
		const yaml_node_t *child = yaml_document_get_node(doc, node->data.sequence.items.start[i]);
		item_path_of(path, i, item_path);
		++*filled; /* first, so that what it owns is freed also if it is refused */
		error = note_place(r, item_path, node_line(child));
		if (error == 0)
			error = read_mapping(r, doc, child, group, group, item_path, item);
		if (error == 0)
			error = fill_in(r, group, item_path, item);
	}
	return error;
}

static int read_setting(struct config_reader *r, yaml_document_t *doc, const struct setting *s,
	const yaml_node_t *node, const char *path, void *base)
{
	switch (s->type) {
	case TYPE_TEXTS: return read_texts(r, doc, s, node, path, base);
	case TYPE_LIST: return read_list(r, doc, s, node, path, base);
	default: return read_scalar(r, s, node, path, base);
	}
}

/* ---- keys ---- */
/* Is there a row below `section`, as there is for "limits"? */
static bool is_section(const char *section)
{
	size_t n = strlen(section);
	for (size_t i = 0; i < config_setting_count; i++)
		if (strncmp(config_settings[i].path, section, n) == 0 && config_settings[i].path[n] == '.')
			return true;
	return false;
}

static const struct setting *find_setting(const char *path)
{
	for (size_t i = 0; i < config_setting_count; i++)
		if (strcmp(config_settings[i].path, path) == 0)
			return &config_settings[i];
	return NULL;
}

/* The key that follows `section` in a row's path; "" if the row is elsewhere. */
static const char *key_after(const struct setting *s, const char *section, char to[64])
{
	size_t n = strlen(section);
	to[0] = '\0';
	if (strncmp(s->path, section, n) != 0 || (n != 0 && s->path[n] != '.'))
		return to;
	const char *key = s->path + n + (n != 0);
	snprintf(to, 64, "%.*s", (int)strcspn(key, ".["), key);
	return to;
}

/* The nearest key of this section, or the same key of another one. */
static bool suggest(const char *section, const char *key, char to[128])
{
	unsigned best = nearest_limit(key) + 1;
	char other[64];
	to[0] = '\0';
	for (size_t i = 0; i < config_setting_count; i++) {
		key_after(&config_settings[i], section, other);
		unsigned distance = other[0] == '\0' ? UINT_MAX : nearest_distance(key, other);
		if (distance < best) {
			best = distance;
			snprintf(to, 128, "%s%s%s", section, section[0] == '\0' ? "" : ".", other);
		}
	}
	for (size_t i = 0; to[0] == '\0' && i < config_setting_count; i++) {
		const char *dot = strrchr(config_settings[i].path, '.');
		if (dot != NULL && strcmp(dot + 1, key) == 0)
			snprintf(to, 128, "%s", config_settings[i].path);
	}
	return to[0] != '\0';
}

static int refuse_key(struct config_reader *r, const yaml_node_t *node, const char *section,
	const char *path, const char *key)
{
	char found[QUOTE_BYTES_MAX + 16], expected[384], quoted[QUOTE_BYTES_MAX], near[128];
	char last[64] = "", other[64];
	snprintf(found, sizeof found, "unknown key %s", quote_text(key, quoted));
	if (suggest(section, key, near)) {
		snprintf(expected, sizeof expected, "a known one (did you mean '%s'?)", near);
		return refuse_at(r, node_line(node), path, found, expected);
	}
	size_t at = (size_t)snprintf(expected, sizeof expected, "one of");
	for (size_t i = 0; i < config_setting_count && at < sizeof expected; i++) {
		key_after(&config_settings[i], section, other);
		if (other[0] == '\0' || strcmp(other, last) == 0)
			continue;
		at += (size_t)snprintf(expected + at, sizeof expected - at, "%s %s",
			last[0] == '\0' ? "" : ",", other);
		strcpy(last, other);
	}
	return refuse_at(r, node_line(node), path, found, expected);
}

static int refuse_twice(
	struct config_reader *r, const yaml_node_t *node, const char *path, unsigned first)
{
	char found[64];
	snprintf(found, sizeof found, "it again (first on line %u)", first);
	return refuse_at(r, node_line(node), path, found, "it once");
}

static int read_pair(struct config_reader *r, yaml_document_t *doc, const yaml_node_t *key_node,
	const yaml_node_t *value, const char *group, const char *section, const char *path, void *base)
{
	char key[64], name[PATH_MAX_BYTES], key_path[PATH_MAX_BYTES], found[QUOTE_BYTES_MAX];
	if (key_node->type != YAML_SCALAR_NODE)
		return refuse_at(r, node_line(key_node), path, describe(key_node, found), "a key");
	snprintf(key, sizeof key, "%s", (const char *)key_node->data.scalar.value);
	snprintf(name, sizeof name, "%s%s%s", section, section[0] == '\0' ? "" : ".", key);
	snprintf(key_path, sizeof key_path, "%s%s%s", path, path[0] == '\0' ? "" : ".", key);
	const struct setting *s = find_setting(name);
	bool is_known = strlen(key) == key_node->data.scalar.length && strpbrk(key, ".[") == NULL &&
		(s != NULL || is_section(name));
	if (!is_known)
		return refuse_key(r, key_node, section, path, key);
	unsigned first = place_line(r, key_path);
	if (first != 0)
		return refuse_twice(r, key_node, key_path, first);
	int error = note_place(r, key_path, node_line(key_node));
	if (error != 0)
		return error;
	return s != NULL ? read_setting(r, doc, s, value, key_path, base)
			 : read_mapping(r, doc, value, group, name, key_path, base);
}

static int read_mapping(struct config_reader *r, yaml_document_t *doc, const yaml_node_t *node,
	const char *group, const char *section, const char *path, void *base)
{
	char found[QUOTE_BYTES_MAX];
	if (is_nothing(node)) /* a section of which all is commented out */
		return 0;
	if (node->type != YAML_MAPPING_NODE)
		return refuse_at(
			r, node_line(node), path, describe(node, found), "keys with values");
	const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	for (; pair < node->data.mapping.pairs.top; pair++) {
		int error = read_pair(r, doc, yaml_document_get_node(doc, pair->key),
			yaml_document_get_node(doc, pair->value), group, section, path, base);
		if (error != 0)
			return error;
	}
	return 0;
}

/* ---- defaults ---- */
static int read_default_list(struct config_reader *r, const struct setting *s, void *base);

static int fill_in(struct config_reader *r, const char *group, const char *path, void *base)
{
	size_t n = strlen(group);
	for (size_t i = 0; i < config_setting_count; i++) {
		const struct setting *s = &config_settings[i];
		char key_path[PATH_MAX_BYTES], room[160];
		if (!config_is_in(s, group))
			continue;
		snprintf(key_path, sizeof key_path, "%s%s", path, s->path + n);
		if (place_line(r, key_path) != 0)
			continue;
		if (s->otherwise == NULL) {
			config_expected(s, room);
			return refuse_value(r, s, line_of(r, key_path), key_path, "nothing",
				s->check != NULL && s->type == TYPE_TEXT ? s->check("") : room);
		}
		if (s->type == TYPE_LIST) {
			int error = read_default_list(r, s, base);
			if (error != 0)
				return error;
			continue;
		}
		const char *wrong = config_take(s, s->otherwise, base, room);
		if (wrong != NULL)
			return -ENOMEM; /* the table's own defaults are right: a test reads them all */
	}
	return 0;
}

/* ---- documents ---- */
static bool is_indented_by_tab(struct bytes text, unsigned line)
{
	while (--line > 0)
		text = bytes_skip(text, bytes_find(text, '\n') + 1);
	while (text.n != 0 && *text.at == ' ')
		text = bytes_skip(text, 1);
	return text.n != 0 && *text.at == '\t';
}

static int refuse_yaml(
	struct config_reader *r, const yaml_parser_t *parser, const char *text, size_t n)
{
	char found[160];
	unsigned line = (unsigned)parser->problem_mark.line + 1;
	if (parser->error == YAML_READER_ERROR) {
		line = 1; /* the reader knows only the offset */
		for (size_t i = 0; i < parser->problem_offset && i < n; i++)
			line += text[i] == '\n';
	}
	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	snprintf(found, sizeof found, "what is not YAML (%.100s)",
		parser->problem == NULL ? "unreadable" : parser->problem);
	bool is_tab = parser->error == YAML_SCANNER_ERROR && is_indented_by_tab(bytes_of(text, n), line);
	return refuse_at(r, line, "", found, is_tab ? "blanks instead of the tab" : "keys with values");
}

/* Reads `text` with `use` and takes the tree down again. */
static int with_document(struct config_reader *r, const char *text, size_t n,
	int (*use)(struct config_reader *r, yaml_document_t *doc, yaml_node_t *root, void *user),
	void *user)
{
	yaml_parser_t parser;
	yaml_document_t doc, rest;
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
	int error = 0;
	if (!yaml_parser_load(&parser, &doc)) {
		error = refuse_yaml(r, &parser, text, n);
		goto undo_parser;
	}
	yaml_node_t *root = yaml_document_get_root_node(&doc);
	if (root == NULL)
		goto undo_document; /* an empty file */
	error = use(r, &doc, root, user);
	if (error == 0 && !yaml_parser_load(&parser, &rest))
		error = refuse_yaml(r, &parser, text, n);
	else if (error == 0) {
		yaml_node_t *more = yaml_document_get_root_node(&rest);
		if (more != NULL)
			error = refuse_at(r, node_line(more), "", "a second document", "one");
		yaml_document_delete(&rest);
	}
undo_document:
	yaml_document_delete(&doc);
undo_parser:
	yaml_parser_delete(&parser);
	return error;
}

static int use_root(struct config_reader *r, yaml_document_t *doc, yaml_node_t *root, void *user)
{
	return read_mapping(r, doc, root, "", "", "", r->config);
}

struct default_list {
	const struct setting *setting;
	void *base;
};

static int use_default(struct config_reader *r, yaml_document_t *doc, yaml_node_t *root, void *user)
{
	const struct default_list *list = user;
	return read_list(r, doc, list->setting, root, list->setting->path, list->base);
}

/* Its places are not those of the file: a message about a default list has no line. */
static int read_default_list(struct config_reader *r, const struct setting *s, void *base)
{
	struct default_list list = {s, base};
	size_t before = r->place_count;
	int error = with_document(r, s->otherwise, strlen(s->otherwise), use_default, &list);
	while (r->place_count > before)
		free(r->places[--r->place_count].path);
	return error;
}

static int fill_hostname(struct config *config)
{
	char name[HOST_NAME_MAX + 1];
	if (config->node.hostname[0] != '\0')
		return 0;
	if (gethostname(name, sizeof name) != 0 || config_check_host(name) != NULL || name[0] == '\0')
		strcpy(name, "localhost");
	free(config->node.hostname);
	config->node.hostname = strdup(name);
	return config->node.hostname == NULL ? -ENOMEM : 0;
}

int config_load_text(const char *file, const char *text, size_t n, struct config **config,
	char error[CONFIG_ERROR_MAX])
{
	struct config_reader r = {.file = file, .error = error};
	error[0] = '\0';
	r.config = calloc(1, sizeof *r.config);
	int failed = r.config == NULL ? -ENOMEM : with_document(&r, text, n, use_root, NULL);
	if (failed == 0)
		failed = fill_in(&r, "", "", r.config);
	if (failed == 0)
		failed = fill_hostname(r.config);
	if (failed == 0)
		failed = config_check(&r);
	while (r.place_count > 0)
		free(r.places[--r.place_count].path);
	free(r.places);
	if (failed == 0)
		*config = r.config;
	else
		config_free(r.config);
	if (failed != 0 && error[0] == '\0')
		snprintf(error, CONFIG_ERROR_MAX, "%.160s: %s", file, strerror(-failed));
	return failed;
}

int config_load(const char *path, struct config **config, char error[512])
{
	FILE *f = fopen(path, "re");
	char *text = f == NULL ? NULL : malloc(FILE_BYTES_MAX + 1);
	int failed = f == NULL ? -errno : text == NULL ? -ENOMEM : 0;
	size_t n = 0;
	if (failed == 0) {
		n = fread(text, 1, FILE_BYTES_MAX + 1, f);
		failed = ferror(f) ? -EIO : n > FILE_BYTES_MAX ? -EFBIG : 0;
		if (failed == -EIO && errno == EISDIR)
			failed = -EISDIR;
	}
	if (f != NULL)
		fclose(f);
	if (failed == 0)
		failed = config_load_text(path, text, n, config, error);
	else
		snprintf(error, 512, "%.160s: found no readable file (%s), expected a configuration in YAML, as "
				     "deploy/hikyaku.yaml is one",
			path, strerror(-failed));
	free(text);
	return failed;
}

/* ---- the end ---- */
static void free_settings(const char *group, void *base)
{
	for (size_t i = 0; i < config_setting_count; i++) {
		const struct setting *s = &config_settings[i];
		char inner[PATH_MAX_BYTES];
		if (!config_is_in(s, group))
			continue;
		void **at = (void **)((char *)base + s->offset);
		if (s->type == TYPE_LIST) {
			unsigned count = *(unsigned *)((char *)base + s->count_offset);
			snprintf(inner, sizeof inner, "%s[]", s->path);
			for (unsigned k = 0; k < count; k++)
				free_settings(inner, (char *)*at + s->item_size * k);
		} else if (s->type == TYPE_TEXTS) {
			unsigned count = *(unsigned *)(at + 1);
			for (unsigned k = 0; k < count; k++)
				free(((char **)*at)[k]);
		} else if (s->type != TYPE_TEXT && s->type != TYPE_CHOICE) {
			continue;
		}
		free(*at);
	}
}

void config_free(struct config *config)
{
	if (config == NULL)
		return;
	free_settings("", config);
	free(config);
}
