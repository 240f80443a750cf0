// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_queue.c: the mails between our 250 and the next hop's. */
#include "control/ctl/ctl.h"

#include <stdlib.h>
#include <unistd.h>

#include "control/ctl/text.h"

/* ---- a selection, and its pages ---- */

static const char *const selectors[] = {"domain", "reason", "sender", "state", "instance"};
#define SELECTORS (sizeof selectors / sizeof *selectors)

/* An instance alone selects nothing: it says whom to ask. */
static bool has_selector(const struct args *args)
{
	for (size_t i = 0; i + 1 < SELECTORS; i++)
		if (args_named(args, selectors[i]) != NULL)
			return true;
	return false;
}

static void url_of(struct url *url, const char *path, const struct args *args, const char *id)
{
	url_init(url, path);
	for (size_t i = 0; i < SELECTORS; i++)
		url_query(url, selectors[i], args_named(args, selectors[i]));
	url_query(url, "queue_id", id);
}

/* Some relays answered, these did not. */
static int tell_errors(yyjson_val *answer)
{
	size_t index, count;
	yyjson_val *one;
	yyjson_arr_foreach(yyjson_obj_get(answer, "errors"), index, count, one) ctl_fail(
		EX_TEMPFAIL, "relay %s: %s", ctl_string(one, "instance"), ctl_string(one, "error"));
	return count == 0 ? EX_OK : EX_TEMPFAIL;
}

/* Takes the items: one for each domain that a mail has still to go to, mail by mail. */
typedef void page_taker(void *user, yyjson_val *items);

/* All pages of a selection, the next one from where the last one says; ends also where a page says
 * the same again. */
static int each_page(const struct ctl *ctl, const struct args *args, const char *id,
	page_taker *take, void *user)
{
	char after[128] = "";
	int code = EX_OK; /* the pages of the others are still worth having */
	for (bool is_more = true; is_more;) {
		struct url url;
		struct reply reply;
		url_of(&url, "/v1/queue", args, id);
		url_query(&url, "after", after[0] == '\0' ? NULL : after);
		int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
		yyjson_val *items = yyjson_obj_get(reply.root, "items");
		is_more = yyjson_get_bool(yyjson_obj_get(reply.root, "more"));
		if (rc == EX_OK && yyjson_arr_size(items) != 0)
			take(user, items);
		const char *next = ctl_string(reply.root, "next");
		is_more = is_more && next[0] != '\0' && strcmp(next, after) != 0;
		snprintf(after, sizeof after, "%s", next);
		if (rc == EX_OK && code == EX_OK)
			code = tell_errors(reply.root);
		reply_fini(&reply);
		if (rc != EX_OK)
			return rc;
	}
	return code;
}

/* Each id that is named, or the selection. */
static int each_selected(
	const struct ctl *ctl, const struct args *args, page_taker *take, void *user)
{
	int rc = EX_OK;
	if (args->value_count == 0)
		return each_page(ctl, args, NULL, take, user);
	for (unsigned i = 0; i < args->value_count && rc == EX_OK; i++)
		rc = each_page(ctl, args, args->values[i], take, user);
	return rc;
}

/* ---- list ---- */

struct listing {
	const struct ctl *ctl;
	unsigned long long items, mails;
	char last[128]; /* mail of a page: the next one may go on with it */
};

static void count_mails(struct listing *l, yyjson_val *items)
{
	size_t index, count;
	yyjson_val *item;
	yyjson_arr_foreach(items, index, count, item)
	{
		const char *id = ctl_string(item, "queue_id");
		l->mails += strcmp(l->last, id) != 0;
		snprintf(l->last, sizeof l->last, "%s", id);
	}
}

/* "bob@dest.example.test", "bob@dest.example.test and 3 more" */
static char *recipients_of(yyjson_val *item)
{
	yyjson_val *list = yyjson_obj_get(item, "recipients"), *first = yyjson_arr_get_first(list);
	uint64_t count = yyjson_get_uint(yyjson_obj_get(item, "recipient_count"));
	if (count < yyjson_arr_size(list))
		count = yyjson_arr_size(list);
	const char *name =
		yyjson_is_str(first) ? yyjson_get_str(first) : ctl_string(item, "domain");
	return count < 2 ? text_format("%s", name)
			 : text_format("%s and %llu more", name, (unsigned long long)count - 1);
}

static char *sender_of(yyjson_val *item)
{
	const char *sender = ctl_string(item, "sender");
	return text_format("%s", sender[0] == '\0' ? "<>" : sender);
}

static char *distance_of(const struct ctl *ctl, yyjson_val *item, const char *name)
{
	double when;
	return ctl_get_time(item, name, &when) ? text_distance(when, ctl->now) : text_format("-");
}

static char *age_of(const struct ctl *ctl, yyjson_val *item)
{
	double when;
	return ctl_get_time(item, "received", &when) ? text_duration(ctl->now - when)
						     : text_format("-");
}

static void print_page(void *user, yyjson_val *items)
{
	static const char *const header[] = {
		"ID", "STATE", "SIZE", "AGE", "NEXT TRY", "FROM", "TO"};
	struct listing *l = user;
	struct table t;
	size_t index, count;
	yyjson_val *item;
	table_init(&t, 7, l->items == 0 ? header : NULL);
	t.is_right[2] = true;
	yyjson_arr_foreach(items, index, count, item)
	{
		char *cells[] = {ctl_member(item, "queue_id"), ctl_member(item, "state"),
			text_size(yyjson_get_num(yyjson_obj_get(item, "size"))),
			age_of(l->ctl, item), distance_of(l->ctl, item, "next_try"),
			sender_of(item), recipients_of(item)};
		table_row(&t, cells);
		const char *reason = ctl_string(item, "reason");
		table_note(&t, reason[0] == '\0' ? NULL : text_format("%s", reason));
	}
	table_print(&t, stdout, l->ctl->width);
	table_fini(&t);
	l->items += yyjson_arr_size(items);
	count_mails(l, items);
}

static void print_page_json(void *user, yyjson_val *items)
{
	struct listing *l = user;
	size_t index, count;
	yyjson_val *item;
	yyjson_arr_foreach(items, index, count, item)
	{
		fputs(l->items++ == 0 ? "" : ",", stdout);
		ctl_print_json(item, true, stdout);
	}
}

int queue_list_mails(struct ctl *ctl, const struct args *args)
{
	struct listing l = {.ctl = ctl};
	if (ctl->is_json)
		fputs("{\"items\":[\n", stdout);
	int rc = each_selected(ctl, args, ctl->is_json ? print_page_json : print_page, &l);
	if ((rc == EX_OK || rc == EX_TEMPFAIL) && ctl->is_json)
		puts("]}");
	else if (rc == EX_OK && l.items == 0)
		ctl_say(ctl,
			has_selector(args) || args->value_count != 0 ? "no mail fits"
								     : "the queue is empty");
	else if (rc == EX_OK)
		ctl_say(ctl, "%llu mail%s", l.mails, l.mails == 1 ? "" : "s");
	return rc;
}

/* ---- show ---- */

struct finding {
	const struct ctl *ctl;
	bool is_found;
};

static char *all_recipients(yyjson_val *item)
{
	size_t index, count;
	yyjson_val *one;
	yyjson_val *list = yyjson_obj_get(item, "recipients");
	uint64_t total = yyjson_get_uint(yyjson_obj_get(item, "recipient_count"));
	char *all = text_format("%s", "");
	yyjson_arr_foreach(list, index, count, one)
	{
		char *longer = text_format("%s%s%s", all, index == 0 ? "" : ", ",
			yyjson_is_str(one) ? yyjson_get_str(one) : "?");
		free(all);
		all = longer;
	}
	if (total <= count)
		return all;
	char *longer = text_format("%s and %llu more", all, (unsigned long long)(total - count));
	free(all);
	return longer;
}

static void show_item(const struct ctl *ctl, yyjson_val *item)
{
	ctl_fact("queue id", ctl_member(item, "queue_id"));
	ctl_fact("state", ctl_member(item, "state"));
	ctl_fact("reason", ctl_member(item, "reason"));
	ctl_fact("next try", ctl_format_time(ctl, item, "next_try"));
	ctl_fact("last try", ctl_format_time(ctl, item, "last_try"));
	ctl_fact("tries", ctl_member(item, "tries"));
	ctl_fact("received", ctl_format_time(ctl, item, "received"));
	ctl_fact("given up", ctl_format_time(ctl, item, "expires"));
	ctl_fact("sender", sender_of(item));
	ctl_fact("recipients", all_recipients(item));
	ctl_fact("domain", ctl_member(item, "domain"));
	ctl_fact("handed to", ctl_member(item, "site"));
	ctl_fact("TLS profile", ctl_member(item, "profile"));
	ctl_fact("size", text_size(yyjson_get_num(yyjson_obj_get(item, "size"))));
	ctl_fact("in memory", ctl_member(item, "resident"));
	ctl_fact("relay", ctl_member(item, "instance"));
}

/* One for each domain that the mail has still to go to. */
static void show_items(void *user, yyjson_val *items)
{
	struct finding *f = user;
	size_t index, count;
	yyjson_val *item;
	yyjson_arr_foreach(items, index, count, item)
	{
		if (f->is_found)
			fputc('\n', stdout);
		show_item(f->ctl, item);
		f->is_found = true;
	}
}

/* As the list has it. */
static int show_json(const struct ctl *ctl, const char *id)
{
	struct url url;
	struct reply reply;
	url_init(&url, "/v1/queue");
	url_query(&url, "queue_id", id);
	int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
	if (rc == EX_OK)
		rc = ctl_print_json(reply.root, false, stdout);
	if (rc == EX_OK && yyjson_arr_size(yyjson_obj_get(reply.root, "items")) == 0)
		rc = ctl_fail(EX_DATAERR, "there is no mail %s in the queue", id);
	reply_fini(&reply);
	return rc;
}

/* A terminal gets no control bytes of a mail; a file or a pipe gets every byte as it is. */
static void put_content(const uint8_t *bytes, size_t n)
{
	if (isatty(STDOUT_FILENO))
		text_put(stdout, bytes_of(bytes, n), TEXT_KEEP_LINES);
	else
		fwrite(bytes, 1, n, stdout);
}

/* The content comes in parts, until one is empty. */
static int show_raw(const struct ctl *ctl, const char *id)
{
	unsigned long long offset = 0;
	for (size_t n = 1; n != 0; offset += n) {
		struct url url;
		struct reply reply;
		char *from = text_format("%llu", offset);
		url_init(&url, "/v1/queue");
		url_segment(&url, id);
		url_segment(&url, "content");
		url_query(&url, "offset", from);
		free(from);
		int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
		uint8_t *bytes = rc == EX_OK ? text_decode_base64(ctl_string(reply.root, "data"), &n) : NULL;
		if (rc == EX_OK && bytes == NULL)
			rc = ctl_fail(
				EX_PROTOCOL, "the content from byte %llu on is no base64", offset);
		if (rc == EX_OK)
			put_content(bytes, n);
		free(bytes);
		reply_fini(&reply);
		if (rc != EX_OK)
			return rc;
	}
	return EX_OK;
}

int queue_show_mail(struct ctl *ctl, const struct args *args)
{
	struct finding f = {.ctl = ctl};
	if (args_named(args, "--raw") != NULL)
		return show_raw(ctl, args_value(args, 0));
	if (ctl->is_json)
		return show_json(ctl, args_value(args, 0));
	int rc = each_page(ctl, args, args_value(args, 0), show_items, &f);
	if (rc == EX_OK && !f.is_found)
		return ctl_fail(
			EX_DATAERR, "there is no mail %s in the queue", args_value(args, 0));
	return rc;
}

/* ---- changes ---- */

static void count_page(void *user, yyjson_val *items)
{
	count_mails(user, items);
}

/* Asks on a terminal; true: go on. */
static int confirm(const struct ctl *ctl, const struct args *args, bool *is_wanted)
{
	struct listing found = {.ctl = ctl};
	char answer[16] = "";
	*is_wanted = true;
	if (args_named(args, "--yes") != NULL || !isatty(STDIN_FILENO))
		return EX_OK;
	int rc = each_selected(ctl, args, count_page, &found);
	if (rc != EX_OK)
		return rc;
	fprintf(stderr, "Remove %llu mail%s from the queue for good, without a bounce? [y/N] ",
		found.mails, found.mails == 1 ? "" : "s");
	*is_wanted = fgets(answer, sizeof answer, stdin) != NULL &&
		(answer[0] == 'y' || answer[0] == 'Y');
	if (!*is_wanted)
		ctl_fail(EX_OK, "nothing is removed");
	return EX_OK;
}

static int change(const struct ctl *ctl, const struct args *args, const char *action,
	const char *id, uint64_t *changed)
{
	struct url url;
	struct reply reply;
	char *path = text_format("/v1/queue/%s", action);
	url_of(&url, path, args, id);
	free(path);
	if (args_named(args, "--all") != NULL)
		url_query(&url, "all", "1");
	int rc = api_call(ctl, "POST", &url, BYTES_NONE, &reply);
	uint64_t n = yyjson_get_uint(yyjson_obj_get(reply.root, "changed"));
	*changed += n;
	if (rc == EX_OK)
		rc = tell_errors(reply.root);
	reply_fini(&reply);
	if (rc == EX_OK && id != NULL && n == 0)
		return ctl_fail(EX_DATAERR, "there is no mail %s in the queue that could be %s", id,
			strcmp(action, "retry") == 0		 ? "tried again"
				: strcmp(action, "hold") == 0	 ? "held"
				: strcmp(action, "release") == 0 ? "released"
								 : "removed");
	return rc;
}

static int check_selection(const struct args *args)
{
	bool is_all = args_named(args, "--all") != NULL,
	     is_empty = !has_selector(args) && args->value_count == 0;
	if (is_empty && !is_all)
		return ctl_fail(EX_USAGE,
			"which mails? Name ids, domain=, reason=, sender= or state=; --all is "
			"every mail");
	if (!is_empty && is_all)
		return ctl_fail(EX_USAGE, "--all is every mail and goes with no selection");
	return EX_OK;
}

/* Every id that is named is tried, and the first failure is the exit code. */
static int change_all(
	struct ctl *ctl, const struct args *args, const char *action, const char *done)
{
	uint64_t changed = 0;
	int rc = args->value_count == 0 ? change(ctl, args, action, NULL, &changed) : EX_OK;
	for (unsigned i = 0; i < args->value_count; i++) {
		int one = change(ctl, args, action, args->values[i], &changed);
		rc = rc == EX_OK ? one : rc;
	}
	if (ctl->is_json && rc == EX_OK)
		printf("{\"changed\": %llu}\n", (unsigned long long)changed);
	else if (changed != 0 || rc == EX_OK)
		ctl_say(ctl, "%llu mail%s %s", (unsigned long long)changed, changed == 1 ? "" : "s",
			done);
	return rc;
}

int queue_retry_mails(struct ctl *ctl, const struct args *args)
{
	int rc = check_selection(args);
	return rc != EX_OK ? rc : change_all(ctl, args, "retry", "to be tried now");
}

int queue_hold_mails(struct ctl *ctl, const struct args *args)
{
	int rc = check_selection(args);
	return rc != EX_OK ? rc : change_all(ctl, args, "hold", "held");
}

int queue_release_mails(struct ctl *ctl, const struct args *args)
{
	int rc = check_selection(args);
	return rc != EX_OK ? rc : change_all(ctl, args, "release", "released");
}

int queue_remove_mails(struct ctl *ctl, const struct args *args)
{
	bool is_wanted;
	int rc = check_selection(args);
	if (rc == EX_OK)
		rc = confirm(ctl, args, &is_wanted);
	return rc != EX_OK || !is_wanted ? rc : change_all(ctl, args, "remove", "removed");
}
