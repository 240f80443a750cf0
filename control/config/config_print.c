// SPDX-License-Identifier: Apache-2.0
#include "control/config/config_private.h"

#include <stdlib.h>

#define COLUMNS 96

enum print_mode {
	PRINT_CHANGED, /* what differs from the defaults */
	PRINT_FULL,    /* everything, with comments */
	PRINT_EXAMPLE, /* as full, and what is the default is commented out */
};

struct printer {
	FILE *to;
	enum print_mode mode;
	char section[32]; /* whose head has been written */
};

/* ---- values ---- */
/* Words that YAML takes for something else than a text. */
static bool is_plain(const char *text)
{
	static const char *const reserved[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
	bool is_letter = (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z');
	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
		if (strcasecmp(text, reserved[i]) == 0)
			return false;
	return (is_letter || text[0] == '/') &&
		text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "0123456789._/-")] == '\0';
}

static void print_text(const char *text, FILE *to)
{
	if (is_plain(text)) {
		fputs(text, to);
		return;
	}
	fputc('"', to);
	for (; *text != '\0'; text++)
		if (*text == '"' || *text == '\\')
			fprintf(to, "\\%c", *text);
		else if ((uint8_t)*text < ' ' || *text == 0x7f)
			fprintf(to, "\\x%02x", (uint8_t)*text);
		else
			fputc(*text, to);
	fputc('"', to);
}

static const void *value_of(const struct setting *s, const void *base)
{
	return (const char *)base + s->offset;
}

static void print_value(const struct setting *s, const void *base, FILE *to)
{
	const void *at = value_of(s, base);
	char number[24];
	switch (s->type) {
	case TYPE_TEXT: print_text(*(char *const *)at, to); break;
	case TYPE_CHOICE: fputs(*(char *const *)at, to); break;
	case TYPE_BOOL: fputs(*(const bool *)at ? "true" : "false", to); break;
	case TYPE_NUMBER:
	case TYPE_TIME:
	case TYPE_SIZE:
		fputs(config_format_number(s->type, *(const unsigned *)at, number), to);
		break;
	case TYPE_TEXTS: {
		char *const *texts = *(char **const *)at;
		unsigned count = *(const unsigned *)((char **const *)at + 1);
		fputc('[', to);
		for (unsigned i = 0; i < count; i++) {
			fputs(i == 0 ? "" : ", ", to);
			print_text(texts[i], to);
		}
		fputc(']', to);
		break;
	}
	case TYPE_LIST: break; /* item by item */
	}
}

/* The value as text, to be compared with the default's; freed by the caller. */
static char *value_text(const struct setting *s, const void *base)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);
	if (to == NULL)
		return NULL;
	if (s->type == TYPE_TEXT)
		fputs(*(char *const *)value_of(s, base), to);
	else
		print_value(s, base, to);
	fclose(to);
	return text;
}

static bool is_default(const struct setting *s, const void *base)
{
	char *text = s->otherwise == NULL ? NULL : value_text(s, base);
	bool is_same = text != NULL && strcmp(text, s->otherwise) == 0;
	free(text);
	return is_same;
}

/* ---- comments ---- */
static void print_wrapped(const char *text, int indent, FILE *to)
{
	while (*text != '\0') {
		size_t room = (size_t)(COLUMNS - indent - 2), n = strlen(text);
		if (n > room)
			for (n = room; n > 0 && text[n] != ' ';)
				n--;
		fprintf(to, "%*s# %.*s\n", indent, "", (int)n, text);
		text += n + (text[n] == ' ');
	}
}

static void print_comment(const struct setting *s, int indent, FILE *to)
{
	char expected[160], text[640];
	config_expected(s, expected);
	if (s->otherwise == NULL)
		snprintf(text, sizeof text, "%s Required.", s->sentence);
	else if (s->type == TYPE_LIST || s->type == TYPE_TEXT)
		snprintf(text, sizeof text, "%s Default: %s.", s->sentence,
			s->otherwise[0] == '\0' ? "empty" : s->otherwise);
	else
		snprintf(text, sizeof text, "%s Default: %s; %s.", s->sentence, s->otherwise, expected);
	print_wrapped(text, indent, to);
}

/* ---- settings ---- */
static const char *key_of(const struct setting *s)
{
	const char *dot = strrchr(s->path, '.');
	return dot == NULL ? s->path : dot + 1;
}

static void print_item(struct printer *p, const char *group, const void *item, int indent, bool has_comments)
{
	bool is_first = true;
	for (size_t i = 0; i < config_setting_count; i++) {
		const struct setting *s = &config_settings[i];
		if (!config_is_in(s, group) || (p->mode != PRINT_FULL && is_default(s, item)))
			continue;
		if (has_comments)
			print_comment(s, indent + 2, p->to);
		fprintf(p->to, "%*s%s %s: ", indent, "", is_first ? "-" : " ", key_of(s));
		print_value(s, item, p->to);
		fputc('\n', p->to);
		is_first = false;
	}
}

static void print_list(struct printer *p, const struct setting *s, const void *base, int indent)
{
	unsigned count = *(const unsigned *)((const char *)base + s->count_offset);
	const char *items = *(char *const *)value_of(s, base);
	char group[64];
	snprintf(group, sizeof group, "%s[]", s->path);
	if (count == 0) {
		fprintf(p->to, "%*s%s: []\n", indent, "", key_of(s));
		return;
	}
	fprintf(p->to, "%*s%s:\n", indent, "", key_of(s));
	/* What the keys mean is told once, at the first item. */
	for (unsigned i = 0; i < count; i++)
		print_item(p, group, items + s->item_size * i, indent + 2,
			i == 0 && p->mode != PRINT_CHANGED);
}

static void print_section_head(struct printer *p, const struct setting *s, bool has_comments)
{
	size_t n = strcspn(s->path, ".");
	if (s->path[n] == '\0' || strncmp(p->section, s->path, n + 1) == 0) {
		if (s->path[n] == '\0' && has_comments)
			fputc('\n', p->to);
		return;
	}
	snprintf(p->section, sizeof p->section, "%.*s.", (int)n, s->path);
	fprintf(p->to, "%s%.*s:\n", has_comments ? "\n" : "", (int)n, s->path);
}

/* Of lists only an empty one that is empty by default is left out: no listeners is not the default ones. */
static bool is_default_list(const struct setting *s, const struct config *config)
{
	return *(const unsigned *)((const char *)config + s->count_offset) == 0 && s->otherwise != NULL &&
		strcmp(s->otherwise, "[]") == 0;
}

static void print_setting(struct printer *p, const struct setting *s, const struct config *config)
{
	bool has_comments = p->mode != PRINT_CHANGED;
	bool is_unchanged = s->type == TYPE_LIST ? is_default_list(s, config) : is_default(s, config);
	int indent = strchr(s->path, '.') == NULL ? 0 : 2;
	if (is_unchanged && p->mode == PRINT_CHANGED)
		return;
	print_section_head(p, s, has_comments);
	if (has_comments)
		print_comment(s, indent, p->to);
	if (s->type == TYPE_LIST) {
		print_list(p, s, config, indent);
		return;
	}
	fprintf(p->to, "%*s%s%s: ", indent, "", is_unchanged && p->mode == PRINT_EXAMPLE ? "#" : "",
		key_of(s));
	print_value(s, config, p->to);
	fputc('\n', p->to);
}

static void print_config(const struct config *config, enum print_mode mode, FILE *to)
{
	struct printer p = {.to = to, .mode = mode};
	for (size_t i = 0; i < config_setting_count; i++)
		if (strstr(config_settings[i].path, "[]") == NULL)
			print_setting(&p, &config_settings[i], config);
}

void config_print(const struct config *config, bool full, FILE *to)
{
	print_config(config, full ? PRINT_FULL : PRINT_CHANGED, to);
}

int config_print_example(FILE *to)
{
	static const char text[] =
		"node: {hostname: relay.example.test}\n"
		"dataplane:\n"
		"  ports:\n"
		"  - {name: lan0, device: 'net_tap0,iface=hikyaku0', addresses: [192.0.2.25/24]}\n"
		"  routes:\n"
		"  - {to: default, via: 192.0.2.1}\n";
	char error[CONFIG_ERROR_MAX];
	struct config *config;
	int failed = config_load_text("example", text, sizeof text - 1, &config, error);
	if (failed != 0) {
		fprintf(stderr, "%s\n", error);
		return failed;
	}
	fputs("# Hikyaku's configuration: the facts a node starts with. Rules, profiles, routes of mail and\n"
	      "# certificates are not here: hikyakuctl keeps them.\n"
	      "#\n"
	      "# What is commented out is the default. `hikyakuctl config check` reads this file as the\n"
	      "# programs do, `hikyakuctl config show --full` writes what is in force. Made by\n"
	      "# hikyaku-config-print from the same table as docs/settings.md.\n",
		to);
	print_config(config, PRINT_EXAMPLE, to);
	config_free(config);
	return 0;
}

/* ---- the reference ---- */
static void print_cell(const char *text, FILE *to)
{
	for (; *text != '\0'; text++)
		fprintf(to, *text == '|' ? "\\%c" : "%c", *text);
}

static void print_row(const struct setting *s, const char *name, FILE *to)
{
	char expected[160];
	config_expected(s, expected);
	if (s->type == TYPE_LIST)
		snprintf(expected, sizeof expected, "a list of %llu to %llu",
			(unsigned long long)s->least, (unsigned long long)s->most);
	fprintf(to, "| `%s` | %s | ", name, expected);
	if (s->otherwise == NULL)
		fputs("required", to);
	else if (s->otherwise[0] == '\0')
		fputs("empty", to);
	else
		fprintf(to, "`%s`", s->otherwise);
	fputs(" | ", to);
	print_cell(s->sentence, to);
	fputs(" |\n", to);
}

void config_print_reference(FILE *to)
{
	char section[32] = "";
	fprintf(to,
		"# Settings\n\n"
		"The start-time facts of a node, in `%s` (YAML). Both programs read the same file; a change\n"
		"takes effect when they are started again. An unknown key, a value out of range and settings\n"
		"that do not fit each other are refused with file, line, what was found and what was\n"
		"expected. Times may be written as `90s`, `5m`, `1h` or `5d`, sizes as `64K`, `50M` or `1G`\n"
		"(of 1024). `deploy/hikyaku.yaml` is a commented file to begin with.\n\n"
		"This page is written by `hikyaku-config-print reference` from the table in\n"
		"`control/config/settings.def`.\n",
		CONFIG_PATH_DEFAULT);
	for (size_t i = 0; i < config_setting_count; i++) {
		const struct setting *s = &config_settings[i];
		size_t n = strcspn(s->path, ".[");
		if (strlen(section) != n || strncmp(section, s->path, n) != 0) {
			snprintf(section, sizeof section, "%.*s", (int)n, s->path);
			fprintf(to, "\n## %s\n\n| setting | value | default | |\n|---|---|---|---|\n", section);
		}
		print_row(s, s->path, to);
	}
}
