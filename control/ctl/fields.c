// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/fields.h"

#include <errno.h>
#include <stdlib.h>

#include "control/ctl/grammar.h"
#include "control/ctl/text.h"
#include "control/quote.h"

#define FIELDS_MAX 64

struct reader {
	yyjson_mut_doc *doc;
	const struct documents_field *field;
	char *error;
};

static bool refuse(struct reader *r, const char *found, const char *expected)
{
	char quoted[QUOTE_BYTES_MAX];
	snprintf(r->error, FIELDS_ERROR_MAX, "%s: found %s, expected %s", r->field->name,
		quote_text(found, quoted), expected);
	return false;
}

const struct documents_field *fields_find(enum documents_kind kind, const char *name)
{
	size_t count;
	const struct documents_field *fields = documents_fields(kind, &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

bool fields_is_long(const struct documents_field *field)
{
	return field->type == DOC_TEXT && field->most > 4096;
}

/* ---- values ---- */

static bool read_number(
	struct reader *r, const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
	char *end, expected[80];
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *value >= least &&
		*value <= most)
		return true;
	snprintf(expected, sizeof expected, "a whole number from %llu to %llu",
		(unsigned long long)least, (unsigned long long)most);
	return refuse(r, text, expected);
}

static bool is_choice(const char *choices, const char *text)
{
	for (const char *at = choices; *at != '\0'; at += *at == ' ') {
		size_t n = strcspn(at, " ");
		if (strlen(text) == n && memcmp(at, text, n) == 0)
			return true;
		at += n;
	}
	return false;
}

/* The words, with the one that was probably meant. */
static bool refuse_choice(struct reader *r, const char *text)
{
	char words[256], expected[400], *rest = words;
	const char *names[16];
	size_t count = 0;
	snprintf(words, sizeof words, "%s", r->field->choices);
	for (char *word; count < 16 && (word = strsep(&rest, " ")) != NULL;)
		if (strcmp(word, "-") != 0)
			names[count++] = word;
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		n += (size_t)snprintf(expected + n, sizeof expected - n, "%s%s",
			i == 0			 ? ""
				: i + 1 == count ? " or "
						 : ", ",
			names[i]);
	const char *near = grammar_nearest(text, names, count);
	if (near != NULL)
		snprintf(expected + n, sizeof expected - n, "; did you mean '%s'?", near);
	return refuse(r, text, expected);
}

static bool has_prefix(const char **text, const char *prefix)
{
	size_t n = strlen(prefix);
	if (strncmp(*text, prefix, n) != 0)
		return false;
	*text += n;
	return true;
}

#define HOST_EXPECTED                                                                              \
	"a host as mx.example.test, 192.0.2.1:25, [2001:db8::1]:25 or smtps://mx.example.test"

/* [smtp://|smtps://] NAME | ADDRESS | [ADDRESS] [:PORT]. An IPv6 address without brackets has no
 * port. */
static yyjson_mut_val *read_host(struct reader *r, const char *text)
{
	const char *at = text;
	bool is_smtps = has_prefix(&at, "smtps://");
	if (!is_smtps)
		has_prefix(&at, "smtp://");
	bool is_bracketed = at[0] == '[';
	const char *host = at + is_bracketed;
	const char *colon = strchr(host, ':');
	bool is_bare_ipv6 = !is_bracketed && colon != NULL && strchr(colon + 1, ':') != NULL;
	const char *end = is_bracketed		? strchr(host, ']')
		: is_bare_ipv6 || colon == NULL ? strchr(host, '\0')
						: colon;
	const char *rest = end == NULL ? NULL : end + is_bracketed;
	uint64_t port = 0;
	if (rest == NULL || end == host || (*rest != '\0' && *rest != ':') ||
		strchr(host, '/') != NULL) {
		refuse(r, text, HOST_EXPECTED);
		return NULL;
	}
	if (*rest == ':' && !read_number(r, rest + 1, 1, 65535, &port))
		return NULL;
	yyjson_mut_val *object = yyjson_mut_obj(r->doc);
	yyjson_mut_obj_add_strncpy(r->doc, object, "host", host, (size_t)(end - host));
	if (port != 0)
		yyjson_mut_obj_add_uint(r->doc, object, "port", port);
	if (is_smtps)
		yyjson_mut_obj_add_str(r->doc, object, "tls", "smtps");
	return object;
}

static yyjson_mut_val *read_list(struct reader *r, const char *text)
{
	yyjson_mut_val *list = yyjson_mut_arr(r->doc);
	char *copy = text_format("%s", text), *rest = copy;
	for (char *item; list != NULL && (item = strsep(&rest, ",")) != NULL;) {
		yyjson_mut_val *value = NULL;
		if (item[0] == '\0')
			refuse(r, text, "a list separated by commas, without empty parts");
		else
			value = r->field->type == DOC_HOSTS ? read_host(r, item)
							    : yyjson_mut_strcpy(r->doc, item);
		if (value == NULL)
			list = NULL;
		else
			yyjson_mut_arr_append(list, value);
	}
	free(copy);
	return list;
}

static yyjson_mut_val *read_value(struct reader *r, const char *text)
{
	uint64_t number;
	switch (r->field->type) {
	case DOC_TEXT:
	case DOC_ID: return yyjson_mut_strcpy(r->doc, text);
	case DOC_BOOL:
		if (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0)
			return yyjson_mut_bool(r->doc, true);
		if (strcmp(text, "false") == 0 || strcmp(text, "no") == 0)
			return yyjson_mut_bool(r->doc, false);
		refuse(r, text, "true or false");
		return NULL;
	case DOC_NUMBER:
		return read_number(r, text, r->field->least, r->field->most, &number)
			? yyjson_mut_uint(r->doc, number)
			: NULL;
	case DOC_CHOICE:
		if (strcmp(text, "-") != 0 && is_choice(r->field->choices, text))
			return yyjson_mut_strcpy(r->doc, text);
		refuse_choice(r, text);
		return NULL;
	case DOC_NAMES:
	case DOC_HOSTS: return read_list(r, text);
	}
	return NULL;
}

/* ---- places: "protocol.lowest" is {"protocol": {"lowest": …}} ---- */

static bool put(struct reader *r, yyjson_mut_val *object, yyjson_mut_val *value)
{
	const char *name = r->field->name, *dot = strchr(name, '.');
	if (dot != NULL) {
		yyjson_mut_val *inner = yyjson_mut_obj_getn(object, name, (size_t)(dot - name));
		if (inner == NULL) {
			inner = yyjson_mut_obj(r->doc);
			yyjson_mut_obj_add(object,
				yyjson_mut_strncpy(r->doc, name, (size_t)(dot - name)), inner);
		}
		object = inner;
		name = dot + 1;
	}
	if (yyjson_mut_obj_get(object, name) == NULL)
		return yyjson_mut_obj_add(object, yyjson_mut_strcpy(r->doc, name), value);
	snprintf(r->error, FIELDS_ERROR_MAX, "%s: given a second time", r->field->name);
	return false;
}

static bool refuse_name(enum documents_kind kind, const char *name, char error[FIELDS_ERROR_MAX])
{
	char quoted[QUOTE_BYTES_MAX];
	const char *names[FIELDS_MAX];
	size_t count, n;
	const struct documents_field *fields = documents_fields(kind, &count);
	for (size_t i = 0; i < count && i < FIELDS_MAX; i++)
		names[i] = fields[i].name;
	const char *near = grammar_nearest(name, names, count);
	n = (size_t)snprintf(
		error, FIELDS_ERROR_MAX, "%s is no field of it; ", quote_text(name, quoted));
	if (near != NULL) {
		snprintf(error + n, FIELDS_ERROR_MAX - n, "did you mean '%s'?", near);
		return false;
	}
	n += (size_t)snprintf(error + n, FIELDS_ERROR_MAX - n, "expected");
	for (size_t i = 1; i < count && n < FIELDS_ERROR_MAX; i++) /* not the id */
		n += (size_t)snprintf(
			error + n, FIELDS_ERROR_MAX - n, "%s %s", i == 1 ? "" : ",", names[i]);
	return false;
}

static bool read_field(struct reader *r, enum documents_kind kind, const char *word, bool is_patch,
	yyjson_mut_val *object)
{
	size_t n = strcspn(word, "=");
	char *name = text_format("%.*s", (int)n, word);
	r->field = fields_find(kind, name);
	bool is_known = r->field != NULL && r->field->type != DOC_ID;
	if (!is_known && r->field == NULL)
		refuse_name(kind, name, r->error);
	else if (!is_known)
		snprintf(r->error, FIELDS_ERROR_MAX,
			"id: it stands behind the command and does not change");
	free(name);
	if (!is_known)
		return false;
	const char *text = word[n] == '=' ? word + n + 1 : "";
	if (text[0] == '\0') {
		if (r->field->otherwise == NULL)
			return refuse(r, text, "a value");
		return !is_patch || put(r, object, yyjson_mut_null(r->doc));
	}
	yyjson_mut_val *value = read_value(r, text);
	return value != NULL && put(r, object, value);
}

bool fields_read(enum documents_kind kind, const char *const *words, unsigned count, bool is_patch,
	yyjson_mut_doc *doc, yyjson_mut_val *object, char error[FIELDS_ERROR_MAX])
{
	struct reader r = {.doc = doc, .error = error};
	error[0] = '\0';
	for (unsigned i = 0; i < count; i++)
		if (!read_field(&r, kind, words[i], is_patch, object))
			return false;
	return true;
}

/* ---- and back ---- */

static yyjson_val *find(const struct documents_field *field, yyjson_val *document)
{
	const char *dot = strchr(field->name, '.');
	if (dot == NULL)
		return yyjson_obj_get(document, field->name);
	return yyjson_obj_get(
		yyjson_obj_getn(document, field->name, (size_t)(dot - field->name)), dot + 1);
}

static void write_host(FILE *to, yyjson_val *host)
{
	const char *name = yyjson_get_str(yyjson_obj_get(host, "host"));
	const char *tls = yyjson_get_str(yyjson_obj_get(host, "tls"));
	uint64_t port = yyjson_get_uint(yyjson_obj_get(host, "port"));
	bool is_ipv6 = name != NULL && strchr(name, ':') != NULL;
	fprintf(to, "%s%s%s%s", tls != NULL && strcmp(tls, "smtps") == 0 ? "smtps://" : "",
		is_ipv6 && port != 0 ? "[" : "", name == NULL ? "?" : name,
		is_ipv6 && port != 0 ? "]" : "");
	if (port != 0)
		fprintf(to, ":%llu", (unsigned long long)port);
}

static void write_value(FILE *to, yyjson_val *value)
{
	size_t index, count;
	yyjson_val *item;
	if (yyjson_is_str(value))
		fputs(yyjson_get_str(value), to);
	else if (yyjson_is_bool(value))
		fputs(yyjson_get_bool(value) ? "true" : "false", to);
	else if (yyjson_is_uint(value))
		fprintf(to, "%llu", (unsigned long long)yyjson_get_uint(value));
	else if (yyjson_is_obj(value))
		write_host(to, value);
	yyjson_arr_foreach(value, index, count, item)
	{
		if (index != 0)
			fputc(',', to);
		write_value(to, item);
	}
}

char *fields_write(const struct documents_field *field, yyjson_val *document)
{
	yyjson_val *value = find(field, document);
	char *text = NULL;
	size_t n;
	if (value == NULL || yyjson_is_null(value))
		return NULL;
	FILE *to = open_memstream(&text, &n);
	if (to == NULL)
		return NULL;
	write_value(to, value);
	fclose(to);
	return text;
}

static const char *default_of(const struct documents_field *field)
{
	return field->otherwise == NULL || strcmp(field->otherwise, "[]") == 0 ? ""
									       : field->otherwise;
}

char *fields_write_or_default(const struct documents_field *field, yyjson_val *document)
{
	char *text = fields_write(field, document);
	return text != NULL ? text : text_format("%s", default_of(field));
}

bool fields_is_set(const struct documents_field *field, yyjson_val *document)
{
	char *text = fields_write(field, document);
	bool is_set = text != NULL && strcmp(text, default_of(field)) != 0;
	free(text);
	return is_set;
}
