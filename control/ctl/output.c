// SPDX-License-Identifier: Apache-2.0
/* control/ctl/output.c: how answers, errors and changes are told. */
#include "control/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "control/ctl/text.h"

static void say(FILE *to, const char *prefix, const char *format, va_list list)
{
	char *text = NULL;
	if (vasprintf(&text, format, list) < 0)
		return;
	fputs(prefix, to);
	text_put(to, bytes_of_string(text), TEXT_ONE_LINE);
	fputc('\n', to);
	free(text);
}

int ctl_fail(int code, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fflush(stdout);
	say(stderr, "hikyakuctl: ", format, list);
	va_end(list);
	return code;
}

void ctl_say(const struct ctl *ctl, const char *format, ...)
{
	va_list list;
	if (ctl->is_quiet)
		return;
	va_start(list, format);
	say(stdout, "", format, list);
	va_end(list);
}

/* yyjson escapes C0; the other hostile characters stand only in strings, where they may be escaped
 * too. */
int ctl_print_json(yyjson_val *value, bool is_line, FILE *to)
{
	size_t n;
	char *json = yyjson_val_write(value, is_line ? 0 : YYJSON_WRITE_PRETTY_TWO_SPACES, &n);
	if (json == NULL)
		return ctl_fail(EX_PROTOCOL, "the answer cannot be written as JSON");
	struct bytes rest = bytes_of(json, n);
	while (rest.n != 0) {
		uint32_t c = 0;
		size_t length = text_decode(rest, &c);
		if (length == 0 || !text_is_hostile(c) || c == '\n')
			fwrite(rest.at, 1, length == 0 ? 1 : length, to);
		else if (c < 0x10000)
			fprintf(to, "\\u%04x", c);
		else
			fprintf(to, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
				0xdc00 + (c & 0x3ff));
		rest = bytes_skip(rest, length == 0 ? 1 : length);
	}
	fputc('\n', to);
	free(json);
	return EX_OK;
}

const char *ctl_string(yyjson_val *object, const char *name)
{
	const char *text = yyjson_get_str(yyjson_obj_get(object, name));
	return text == NULL ? "" : text;
}

char *ctl_member(yyjson_val *object, const char *name)
{
	yyjson_val *value = yyjson_obj_get(object, name);
	if (yyjson_is_str(value))
		return text_format("%s", yyjson_get_str(value));
	if (yyjson_is_bool(value))
		return text_format("%s", yyjson_get_bool(value) ? "yes" : "no");
	if (yyjson_is_num(value))
		return text_format("%.0f", yyjson_get_num(value));
	return text_format("%s", "");
}

#define FACT_WIDTH 18

void ctl_fact(const char *name, char *value)
{
	if (value != NULL && value[0] != '\0') {
		printf("%-*s ", FACT_WIDTH, name);
		text_put(stdout, bytes_of_string(value), TEXT_ONE_LINE);
		fputc('\n', stdout);
	}
	free(value);
}

bool ctl_get_time(yyjson_val *object, const char *name, double *when)
{
	yyjson_val *value = yyjson_obj_get(object, name);
	if (yyjson_is_str(value) && !text_parse_time(yyjson_get_str(value), when))
		return false;
	if (!yyjson_is_str(value))
		*when = yyjson_get_num(value);
	return *when > 0 && *when < TEXT_SECONDS_MAX;
}

char *ctl_format_time(const struct ctl *ctl, yyjson_val *object, const char *name)
{
	double when;
	return ctl_get_time(object, name, &when) ? text_time(when, ctl->now) : NULL;
}

/* ---- files ---- */

bool ctl_number(const struct args *args, const char *name, uint64_t least, uint64_t most,
	uint64_t otherwise, uint64_t *value)
{
	const char *text = args_named(args, name);
	char *end;
	*value = otherwise;
	if (text == NULL)
		return true;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *value >= least && *value <= most)
		return true;
	ctl_fail(EX_USAGE, "%s: found '%s', expected a whole number from %llu to %llu", name, text,
		(unsigned long long)least, (unsigned long long)most);
	return false;
}

int ctl_read_file(const char *path, size_t most, char **text, size_t *n)
{
	bool is_input = strcmp(path, "-") == 0;
	int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : 0;
	*n = 0;
	*text = malloc(most + 2);
	if (*text == NULL)
		got = -1;
	while (got >= 0 && *n <= most && (got = read(fd, *text + *n, most + 1 - *n)) > 0)
		*n += (size_t)got;
	int error = errno;
	if (fd >= 0 && !is_input)
		close(fd);
	if (got < 0)
		return ctl_fail(
			EX_NOINPUT, "%s: %s", is_input ? "standard input" : path, strerror(error));
	(*text)[*n] = '\0';
	if (*n > most)
		return ctl_fail(EX_DATAERR, "%s is longer than %zu bytes",
			is_input ? "standard input" : path, most);
	return EX_OK;
}

/* ---- changes ---- */

static char *join(yyjson_val *list)
{
	size_t index, count;
	yyjson_val *item;
	char *all = text_format("%s", "");
	yyjson_arr_foreach(list, index, count, item)
	{
		const char *name = yyjson_get_str(item);
		char *longer = text_format("%s%s%s", all,
			index == 0		     ? ""
				: index + 1 == count ? " and "
						     : ", ",
			name == NULL ? "?" : name);
		free(all);
		all = longer;
	}
	return all;
}

static void tell_refused(yyjson_val *list, unsigned long long generation)
{
	size_t index, count;
	yyjson_val *one;
	yyjson_arr_foreach(list, index, count, one)
		ctl_fail(EX_DATAERR, "%s refused generation %llu: %s", ctl_string(one, "instance"),
			generation, ctl_string(one, "error"));
}

int ctl_report_change(const struct ctl *ctl, yyjson_val *answer)
{
	if (ctl->is_json)
		ctl_print_json(answer, false, stdout);
	yyjson_val *pending_list = yyjson_obj_get(answer, "pending"),
		   *refused = yyjson_obj_get(answer, "refused");
	unsigned long long generation = yyjson_get_uint(yyjson_obj_get(answer, "generation"));
	char *applied = join(yyjson_obj_get(answer, "applied")), *pending = join(pending_list);
	int code = yyjson_arr_size(refused) != 0 ? EX_DATAERR
		: pending[0] != '\0'		 ? EX_TEMPFAIL
						 : EX_OK;
	if (applied[0] != '\0' && !ctl->is_json)
		ctl_say(ctl, "generation %llu in force on %s", generation, applied);
	tell_refused(refused, generation);
	if (pending[0] != '\0')
		ctl_fail(code,
			"%s %s not yet got generation %llu; it is kept, and theirs as soon as they "
			"answer",
			pending, yyjson_arr_size(pending_list) == 1 ? "has" : "have", generation);
	if (code == EX_OK && applied[0] == '\0' && !ctl->is_json && generation != 0)
		ctl_say(ctl, "generation %llu is kept; no relay is attached to put it in force",
			generation);
	free(applied);
	free(pending);
	return code;
}
