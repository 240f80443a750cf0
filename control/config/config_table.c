// SPDX-License-Identifier: Apache-2.0
#include "control/config/config_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* The schema as a table, and one value: its text checked, put into its place, and written again. */

/* ---- checks of texts: NULL, or what was expected ---- */
static const char *check_name(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
	return text[0] != '\0' && text[n] == '\0' ? NULL : "a name of letters, digits, '.', '_' and '-'";
}

static const char *check_name_or_empty(const char *text)
{
	return text[0] == '\0' ? NULL : check_name(text);
}

static const char *check_word(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		if ((uint8_t)*c <= ' ' || (uint8_t)*c >= 0x7f)
			return "a device without blanks";
	return text[0] != '\0' ? NULL : "a device without blanks";
}

static const char *check_offloads(const char *text)
{
	static const char expected[] = "auto, none, or some of rx-checksum, tx-checksum, tso and rss";
	static const char *const words[] = {"rx-checksum", "tx-checksum", "tso", "rss"};
	if (strcmp(text, "auto") == 0 || strcmp(text, "none") == 0)
		return NULL;
	for (size_t n; *text != '\0'; text += n + (text[n] == ' ')) {
		bool is_known = false;
		n = strcspn(text, " ");
		for (size_t i = 0; i < sizeof words / sizeof *words; i++)
			is_known |= strlen(words[i]) == n && strncmp(words[i], text, n) == 0;
		if (!is_known)
			return expected;
	}
	return NULL;
}

static const char *check_path(const char *text)
{
	return text[0] == '/' && text[1] != '\0' && strchr(text, '\n') == NULL ? NULL : "an absolute path";
}

const char *config_check_host(const char *text)
{
	static const char expected[] = "a host name, as relay.example.test";
	size_t label = 0;
	for (size_t i = 0; text[0] != '\0'; i++) {
		char c = text[i];
		if (c == '.' || c == '\0') {
			if (label == 0 || label > 63 || text[i - 1] == '-')
				return expected;
			label = 0;
			if (c == '\0')
				return NULL;
			continue;
		}
		bool is_alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9');
		if (!is_alphanumeric && (c != '-' || label == 0))
			return expected;
		label++;
	}
	return NULL;
}

static const char *check_interface(const char *text)
{
	struct addr addr;
	struct prefix network;
	return config_parse_interface(text, &addr, &network)
		? NULL
		: "an address with the length of its network, as 192.0.2.25/24";
}

static const char *check_route(const char *text)
{
	struct prefix prefix;
	return strcmp(text, "default") == 0 || prefix_parse(text, &prefix)
		? NULL
		: "\"default\" or a prefix without host bits, as 198.51.100.0/24";
}

static const char *check_address_or_empty(const char *text)
{
	struct addr addr;
	return text[0] == '\0' || addr_parse(text, &addr) ? NULL : "an address, as 192.0.2.1";
}

static const char *check_address_or_all(const char *text)
{
	return strcmp(text, "*") == 0 ? NULL : check_address_or_empty(text);
}

static const char *check_server(const char *text)
{
	static const char expected[] = "an address, as 192.0.2.53 or 192.0.2.53@5353";
	char host[ADDR_TEXT_MAX], *end;
	const char *at = strchr(text, '@');
	size_t n = at == NULL ? strlen(text) : (size_t)(at - text);
	if (n >= sizeof host)
		return expected;
	memcpy(host, text, n);
	host[n] = '\0';
	if (check_address_or_empty(host) != NULL || (n == 0 && at != NULL))
		return expected;
	if (at == NULL)
		return NULL;
	unsigned long port = at[1] >= '0' && at[1] <= '9' ? strtoul(at + 1, &end, 10) : 0;
	return port >= 1 && port <= 65535 && *end == '\0' ? NULL : expected;
}

#define check_host_or_empty config_check_host

/* ---- the table ---- */
const struct setting config_settings[] = {
#define NONE	    NULL, NULL, 0, 0
#define WORDS(text) text, NULL, 0, 0
#define CHECK(name) NULL, check_##name, 0, 0
#define ITEM(item, count) NULL, NULL, sizeof(struct item), offsetof(struct config, count)
#define S(path, type, strct, member, least, most, detail, otherwise, sentence)                      \
	{path, TYPE_##type, offsetof(struct strct, member), least, most, detail, otherwise, sentence},
#include "control/config/settings.def"
#undef S
};
const size_t config_setting_count = sizeof config_settings / sizeof *config_settings;

/* The count of TYPE_TEXTS stands behind its pointer. */
static_assert(offsetof(struct config_port, addresses_count) ==
	offsetof(struct config_port, addresses) + sizeof(char **));

bool config_is_in(const struct setting *s, const char *group)
{
	size_t n = strlen(group);
	if (strncmp(s->path, group, n) != 0 || (n != 0 && s->path[n] != '.'))
		return false;
	return strstr(s->path + n, "[]") == NULL;
}

/* ---- numbers, times, sizes ---- */
struct unit {
	char letter;
	uint64_t factor;
};
static const struct unit time_units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
static const struct unit size_units[] = {{'G', 1 << 30}, {'M', 1 << 20}, {'K', 1 << 10}};

static const struct unit *units_of(enum setting_type type, size_t *count)
{
	*count = type == TYPE_TIME ? 4 : type == TYPE_SIZE ? 3 : 0;
	return type == TYPE_TIME ? time_units : size_units;
}

static bool parse_number(enum setting_type type, const char *text, uint64_t *value)
{
	size_t count;
	const struct unit *units = units_of(type, &count);
	char *end;
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (errno != 0 || *value > UINT32_MAX)
		return false;
	for (size_t i = 0; i < count && end[0] != '\0' && end[1] == '\0'; i++)
		if (end[0] == units[i].letter) {
			*value *= units[i].factor;
			return true;
		}
	return *end == '\0';
}

const char *config_format_number(enum setting_type type, uint64_t value, char to[24])
{
	size_t count;
	const struct unit *units = units_of(type, &count);
	for (size_t i = 0; i < count; i++)
		if ((value != 0 && value % units[i].factor == 0) || units[i].factor == 1) {
			snprintf(to, 24, "%llu%c", (unsigned long long)(value / units[i].factor),
				units[i].letter);
			return to;
		}
	snprintf(to, 24, "%llu", (unsigned long long)value);
	return to;
}

/* ---- what a setting expects, in words ---- */
static void expected_words(const char *words, char *to, size_t size)
{
	size_t at = 0;
	while (*words != '\0') {
		size_t n = strcspn(words, " ");
		bool is_last = words[n] == '\0';
		at += (size_t)snprintf(to + at, size - at, "%s%.*s",
			at == 0 ? "" : is_last ? " or " : ", ", (int)n, words);
		words += n + !is_last;
	}
}

void config_expected(const struct setting *s, char to[160])
{
	char least[24], most[24];
	config_format_number(s->type, s->least, least);
	config_format_number(s->type, s->most, most);
	switch (s->type) {
	case TYPE_TEXT: snprintf(to, 160, "a text of %s to %s bytes", least, most); break;
	case TYPE_CHOICE: expected_words(s->words, to, 160); break;
	case TYPE_BOOL: snprintf(to, 160, "true or false"); break;
	case TYPE_NUMBER: snprintf(to, 160, "a whole number from %s to %s", least, most); break;
	case TYPE_TIME: snprintf(to, 160, "a time from %s to %s, as 90s, 5m, 1h or 5d", least, most); break;
	case TYPE_SIZE: snprintf(to, 160, "a size from %s to %s, as 512, 64K, 50M or 1G", least, most); break;
	case TYPE_TEXTS:
	case TYPE_LIST: snprintf(to, 160, "a list of %s to %s", least, most); break;
	}
}

/* ---- one value ---- */
static bool is_word_of(const char *words, const char *text)
{
	size_t n = strlen(text);
	if (strchr(text, ' ') != NULL)
		return false;
	for (const char *at = words; n != 0 && (at = strstr(at, text)) != NULL; at++)
		if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
			return true;
	return false;
}

static bool parse_bool(const char *text, bool *value)
{
	*value = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
	return *value || strcmp(text, "false") == 0 || strcmp(text, "no") == 0;
}

const char *config_take(const struct setting *s, const char *text, void *base, char room[160])
{
	void *at = (char *)base + s->offset;
	uint64_t number;
	const char *expected;
	config_expected(s, room);
	switch (s->type) {
	case TYPE_BOOL: return parse_bool(text, at) ? NULL : room;
	case TYPE_NUMBER:
	case TYPE_TIME:
	case TYPE_SIZE:
		if (!parse_number(s->type, text, &number) || number < s->least || number > s->most)
			return room;
		*(unsigned *)at = (unsigned)number;
		return NULL;
	case TYPE_CHOICE:
		if (!is_word_of(s->words, text))
			return room;
		break;
	default:
		expected = s->check == NULL ? NULL : s->check(text);
		if (expected != NULL)
			return expected;
		if (strlen(text) < s->least || strlen(text) > s->most)
			return room;
	}
	free(*(char **)at);
	*(char **)at = strdup(text);
	return *(char **)at == NULL ? "more memory" : NULL;
}
