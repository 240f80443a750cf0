// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_log.c: the records, one line each, as a person reads them. */
#include "control/ctl/ctl.h"

#include <stdlib.h>
#include <time.h>

#include "control/ctl/text.h"

/* " WORDS" or " WORDS VALUE", safe for a terminal; nothing for an empty value. */
static void put(FILE *to, const char *words, const char *value)
{
	if (value[0] == '\0')
		return;
	fprintf(to, " %s%s", words, words[0] == '\0' ? "" : " ");
	text_put(to, bytes_of_string(value), TEXT_ONE_LINE);
}

static void put_time(FILE *to, yyjson_val *record)
{
	char clock[64] = "?";
	double when;
	struct tm tm;
	if (ctl_get_time(record, "time", &when)) {
		time_t seconds = (time_t)when;
		if (localtime_r(&seconds, &tm) != NULL)
			strftime(clock, sizeof clock, "%Y-%m-%d %H:%M:%S", &tm);
	}
	fputs(clock, to);
}

/* "NAME[ADDRESS]", as both are known. */
static void put_peer(FILE *to, const char *words, const char *name, const char *address)
{
	char *text = name[0] == '\0' ? text_format("%s", address)
		: address[0] == '\0' ? text_format("%s", name)
				     : text_format("%s[%s]", name, address);
	put(to, words, text);
	free(text);
}

/* Each leg says how it went: nobody has to infer clear text from what is missing. */
static void put_tls(FILE *to, yyjson_val *record)
{
	yyjson_val *via_tls = yyjson_obj_get(record, "via_tls");
	if (via_tls == NULL)
		return;
	if (!yyjson_get_bool(via_tls)) {
		fputs(" in clear", to);
		return;
	}
	put(to, "via", ctl_string(record, "tls_version"));
	put(to, "", ctl_string(record, "cipher"));
	put(to, "", ctl_string(record, "group"));
	if (yyjson_get_bool(yyjson_obj_get(record, "resumed")))
		fputs(" resumed", to);
	if (yyjson_get_bool(yyjson_obj_get(record, "small_hello")))
		fputs(" (small ClientHello)", to);
	put(to, "certificate", ctl_string(record, "verify"));
}

static void put_address(FILE *to, const char *words, yyjson_val *address)
{
	const char *text = yyjson_get_str(address);
	if (text == NULL)
		return;
	char *bracketed = text_format("<%s>", text);
	put(to, words, bracketed);
	free(bracketed);
}

static void print_record(FILE *to, yyjson_val *record)
{
	bool is_out = strcmp(ctl_string(record, "direction"), "out") == 0;
	const char *id = ctl_string(record, "queue_id"), *reason = ctl_string(record, "reason");
	put_time(to, record);
	put(to, "", id[0] == '\0' ? ctl_string(record, "session_id") : id);
	put(to, "", ctl_string(record, "disposition"));
	put_address(to, "from", yyjson_obj_get(record, "from"));
	put_address(to, "to", yyjson_obj_get(record, "to"));
	if (is_out)
		put_peer(to, "by", ctl_string(record, "relay"), ctl_string(record, "dest_ip"));
	else
		put_peer(to, "client", ctl_string(record, "client_name"),
			ctl_string(record, "client_ip"));
	put_tls(to, record);
	put(to, "rule", ctl_string(record, "rule_id"));
	put(to, "profile", ctl_string(record, "profile"));
	put(to, "stage", ctl_string(record, "stage"));
	put(to, "reply:", ctl_string(record, "reply"));
	if (strcmp(reason, ctl_string(record, "reply")) != 0)
		put(to, "reason:", reason);
	fputc('\n', to);
}

static void print_line(void *user, struct bytes line)
{
	const struct ctl *ctl = user;
	if (line.n == 0)
		return;
	yyjson_doc *doc = yyjson_read((const char *)line.at, line.n, 0);
	yyjson_val *record = yyjson_doc_get_root(doc);
	if (ctl->is_json && record != NULL) {
		ctl_print_json(record, true, stdout);
	} else if (yyjson_is_obj(record)) {
		print_record(stdout, record);
	} else {
		text_put(stdout, line, TEXT_ONE_LINE);
		fputc('\n', stdout);
	}
	yyjson_doc_free(doc);
	fflush(stdout);
}

#define LINES_DEFAULT "50"

int log_show(struct ctl *ctl, const struct args *args)
{
	struct url url;
	const char *lines = args_named(args, "--lines");
	if (lines != NULL &&
		(lines[0] == '\0' || strspn(lines, "0123456789") != strlen(lines) ||
			strlen(lines) > 9))
		return ctl_fail(EX_USAGE, "--lines: found '%s', expected a number", lines);
	url_init(&url, "/v1/log");
	url_query(&url, "lines", lines == NULL ? LINES_DEFAULT : lines);
	url_query(&url, "follow", args_named(args, "--follow") != NULL ? "1" : NULL);
	return api_follow(ctl, &url, print_line, ctl);
}
