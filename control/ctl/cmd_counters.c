// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_counters.c: what the relays have counted, and what changes while one looks. */
#include "control/ctl/ctl.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <unistd.h>

#include "control/ctl/text.h"

#define PREFIX	   "hikyaku_"
#define WATCH_MOST 3600

struct wanted {
	const char *pattern, *core; /* NULL: all */
	bool is_nonzero;
};

/* ---- one counter ---- */

static const char *short_name(yyjson_val *family)
{
	const char *name = ctl_string(family, "name");
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0 ? name + strlen(PREFIX) : name;
}

static bool fits(const struct wanted *w, yyjson_val *family)
{
	const char *name = short_name(family);
	if (w->pattern == NULL)
		return true;
	if (strpbrk(w->pattern, "*?[") != NULL)
		return fnmatch(w->pattern, name, 0) == 0 ||
			fnmatch(w->pattern, ctl_string(family, "name"), 0) == 0;
	return strstr(ctl_string(family, "name"), w->pattern) != NULL;
}

static bool is_of_core(const struct wanted *w, yyjson_val *value)
{
	return w->core == NULL || strcmp(ctl_string(value, "core"), w->core) == 0;
}

/* Labels other than those that are columns of their own tell series of a family apart. */
static char *other_labels(yyjson_val *value)
{
	char *all = text_format("%s", "");
	size_t index, count;
	yyjson_val *key, *label;
	yyjson_obj_foreach(value, index, count, key, label)
	{
		const char *name = yyjson_get_str(key);
		if (!yyjson_is_str(label) || strcmp(name, "instance") == 0 ||
			strcmp(name, "core") == 0)
			continue;
		char *longer = text_format(
			"%s%s%s=%s", all, all[0] == '\0' ? "" : ",", name, yyjson_get_str(label));
		free(all);
		all = longer;
	}
	return all;
}

static bool is_same_but_core(yyjson_val *a, yyjson_val *b)
{
	char *x = other_labels(a), *y = other_labels(b);
	bool is_same = strcmp(x, y) == 0;
	free(x);
	free(y);
	return is_same;
}

/* ---- the table ---- */

/* A row: the values of a family that differ only in instance and core, the first of them at `from`. */
static void add_row(struct table *t, const struct wanted *w, yyjson_val *family, size_t from)
{
	size_t index, count, parts = 0;
	uint64_t sum = 0;
	yyjson_val *values = yyjson_obj_get(family, "values"),
		   *first = yyjson_arr_get(values, from), *value;
	char *places = text_format("%s", "");
	yyjson_arr_foreach(values, index, count, value)
	{
		if (index < from || !is_of_core(w, value) || !is_same_but_core(first, value))
			continue;
		const char *core = ctl_string(value, "core");
		uint64_t n = yyjson_get_uint(yyjson_obj_get(value, "value"));
		char *longer = text_format("%s%s%s%s%s: %llu", places, parts++ == 0 ? "" : ", ",
			ctl_string(value, "instance"), core[0] == '\0' ? "" : "/", core,
			(unsigned long long)n);
		free(places);
		places = longer;
		sum += n;
	}
	char *labels = other_labels(first);
	char *cells[] = {
		text_format(labels[0] == '\0' ? "%s%s" : "%s{%s}", short_name(family), labels),
		text_format("%llu", (unsigned long long)sum), places,
		text_format("%s", ctl_string(family, "help"))};
	free(labels);
	if (sum != 0 || !w->is_nonzero)
		table_row(t, cells);
	else
		for (size_t i = 0; i < 4; i++)
			free(cells[i]);
}

static void add_family(struct table *t, const struct wanted *w, yyjson_val *family)
{
	yyjson_val *values = yyjson_obj_get(family, "values");
	for (size_t i = 0; i < yyjson_arr_size(values); i++) {
		yyjson_val *value = yyjson_arr_get(values, i);
		bool is_new = is_of_core(w, value);
		for (size_t k = 0; k < i && is_new; k++)
			is_new = !is_of_core(w, yyjson_arr_get(values, k)) ||
				!is_same_but_core(yyjson_arr_get(values, k), value);
		if (is_new)
			add_row(t, w, family, i);
	}
}

static void print_table(const struct ctl *ctl, const struct wanted *w, yyjson_val *counters)
{
	static const char *const header[] = {"NAME", "VALUE", "RELAY/CORE", "WHAT IT COUNTS"};
	struct table t;
	size_t index, count;
	yyjson_val *family;
	table_init(&t, 4, header);
	t.is_right[1] = true;
	yyjson_arr_foreach(counters, index, count, family) if (fits(w, family))
		add_family(&t, w, family);
	if (t.rows > 1)
		table_print(&t, stdout, ctl->width);
	else
		ctl_say(ctl, "no counter fits");
	table_fini(&t);
}

/* ---- JSON ---- */

static void copy_family(
	yyjson_mut_doc *doc, yyjson_mut_val *list, const struct wanted *w, yyjson_val *family)
{
	size_t index, count;
	yyjson_val *value;
	yyjson_mut_val *copy = yyjson_val_mut_copy(doc, family), *values = yyjson_mut_arr(doc);
	yyjson_arr_foreach(yyjson_obj_get(family, "values"), index, count, value)
	{
		uint64_t n = yyjson_get_uint(yyjson_obj_get(value, "value"));
		if (is_of_core(w, value) && (n != 0 || !w->is_nonzero))
			yyjson_mut_arr_append(values, yyjson_val_mut_copy(doc, value));
	}
	if (yyjson_mut_arr_size(values) == 0)
		return;
	yyjson_mut_obj_put(copy, yyjson_mut_str(doc, "values"), values);
	yyjson_mut_arr_append(list, copy);
}

static int print_json(const struct wanted *w, yyjson_val *counters)
{
	size_t index, count;
	yyjson_val *family;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "counters");
	yyjson_arr_foreach(counters, index, count, family) if (fits(w, family))
		copy_family(doc, list, w, family);
	yyjson_doc *printed = yyjson_mut_doc_imut_copy(doc, NULL);
	int rc = ctl_print_json(yyjson_doc_get_root(printed), false, stdout);
	yyjson_doc_free(printed);
	yyjson_mut_doc_free(doc);
	return rc;
}

/* ---- watching ---- */

static yyjson_val *find(yyjson_val *list, const char *name, const char *value)
{
	size_t index, count;
	yyjson_val *one;
	yyjson_arr_foreach(
		list, index, count, one) if (strcmp(ctl_string(one, name), value) == 0) return one;
	return NULL;
}

static void print_change_json(
	yyjson_val *family, yyjson_val *value, unsigned second, int64_t change)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *line = yyjson_val_mut_copy(doc, value);
	yyjson_mut_doc_set_root(doc, line);
	yyjson_mut_obj_add_str(doc, line, "name", ctl_string(family, "name"));
	yyjson_mut_obj_add_int(doc, line, "change", change);
	yyjson_mut_obj_add_uint(doc, line, "second", second);
	yyjson_doc *printed = yyjson_mut_doc_imut_copy(doc, NULL);
	ctl_print_json(yyjson_doc_get_root(printed), true, stdout);
	yyjson_doc_free(printed);
	yyjson_mut_doc_free(doc);
}

static void print_change(yyjson_val *family, yyjson_val *value, unsigned second, int64_t change)
{
	char *labels = other_labels(value);
	const char *core = ctl_string(value, "core");
	char *line = text_format("%4u s  %s%s%s  %s%s%s  %+lld  (%llu)", second,
		ctl_string(value, "instance"), core[0] == '\0' ? "" : "/", core, short_name(family),
		labels[0] == '\0' ? "" : " ", labels, (long long)change,
		(unsigned long long)yyjson_get_uint(yyjson_obj_get(value, "value")));
	text_put(stdout, bytes_of_string(line), TEXT_ONE_LINE);
	fputc('\n', stdout);
	free(line);
	free(labels);
}

/* Series stand in the same order each time, but for new ones behind. */
static void print_changes_of(const struct ctl *ctl, const struct wanted *w, yyjson_val *family,
	yyjson_val *before, unsigned second)
{
	yyjson_val *old_values = yyjson_obj_get(before, "values"), *value;
	size_t index, count;
	yyjson_arr_foreach(yyjson_obj_get(family, "values"), index, count, value)
	{
		uint64_t now = yyjson_get_uint(yyjson_obj_get(value, "value"));
		uint64_t then =
			yyjson_get_uint(yyjson_obj_get(yyjson_arr_get(old_values, index), "value"));
		if (now != then && is_of_core(w, value))
			(ctl->is_json ? print_change_json : print_change)(
				family, value, second, (int64_t)(now - then));
	}
}

static int fetch(const struct ctl *ctl, const struct args *args, struct reply *reply)
{
	struct url url;
	url_init(&url, "/v1/counters");
	url_query(&url, "instance", args_named(args, "instance"));
	return api_call(ctl, "GET", &url, BYTES_NONE, reply);
}

static int watch(
	const struct ctl *ctl, const struct args *args, const struct wanted *w, unsigned seconds)
{
	struct reply before, now;
	int rc = fetch(ctl, args, &before);
	for (unsigned second = 1; rc == EX_OK && second <= seconds; second++) {
		size_t index, count;
		yyjson_val *family;
		sleep(1);
		rc = fetch(ctl, args, &now);
		yyjson_val *counters = yyjson_obj_get(now.root, "counters");
		yyjson_arr_foreach(counters, index, count, family) if (fits(w, family))
			print_changes_of(ctl, w, family,
				find(yyjson_obj_get(before.root, "counters"), "name",
					ctl_string(family, "name")),
				second);
		fflush(stdout);
		reply_fini(&before);
		before = now;
	}
	reply_fini(&before);
	return rc;
}

int counters_show(struct ctl *ctl, const struct args *args)
{
	const struct wanted wanted = {.pattern = args_value(args, 0),
		.core = args_named(args, "--core"),
		.is_nonzero = args_named(args, "--nonzero") != NULL};
	uint64_t seconds = 0;
	struct reply reply;
	if (!ctl_number(args, "--watch", 1, WATCH_MOST, 0, &seconds))
		return EX_USAGE;
	if (seconds != 0)
		return watch(ctl, args, &wanted, (unsigned)seconds);
	int rc = fetch(ctl, args, &reply);
	yyjson_val *counters = yyjson_obj_get(reply.root, "counters");
	if (rc == EX_OK && ctl->is_json)
		rc = print_json(&wanted, counters);
	else if (rc == EX_OK)
		print_table(ctl, &wanted, counters);
	reply_fini(&reply);
	return rc;
}
