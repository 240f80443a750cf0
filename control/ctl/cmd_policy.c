// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_policy.c: the policy as a whole: export, apply, explain. */
#include "control/ctl/ctl.h"

#include <errno.h>
#include <stdlib.h>

#include "control/ctl/fields.h"
#include "control/ctl/text.h"

#define POLICY_BYTES_MAX (64u << 20)

/* ---- export ---- */

static int write_file(const char *path, yyjson_val *value)
{
	FILE *to = fopen(path, "we");
	if (to == NULL)
		return ctl_fail(EX_CANTCREAT, "%s: %s", path, strerror(errno));
	int rc = ctl_print_json(value, false, to);
	bool is_bad = ferror(to) != 0;
	if (fclose(to) != 0 || is_bad)
		return ctl_fail(EX_IOERR, "%s: %s", path, strerror(errno));
	return rc;
}

int policy_export(struct ctl *ctl, const struct args *args)
{
	const char *path = args_value(args, 0);
	struct url url;
	struct reply reply;
	url_init(&url, "/v1/export");
	int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
	if (rc == EX_OK && path != NULL && strcmp(path, "-") != 0) {
		rc = write_file(path, reply.root);
		if (rc == EX_OK && !ctl->is_json)
			ctl_say(ctl, "the policy is written to %s", path);
	} else if (rc == EX_OK) {
		rc = ctl_print_json(reply.root, false, stdout);
	}
	reply_fini(&reply);
	return rc;
}

/* ---- apply ---- */

static int check_json(const char *path, const char *text, size_t n)
{
	yyjson_read_err error;
	size_t line = 1, column = 1;
	yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)text, n, 0, NULL, &error);
	if (doc != NULL) {
		yyjson_doc_free(doc);
		return EX_OK;
	}
	for (size_t i = 0; i < error.pos && i < n; i++) {
		column = text[i] == '\n' ? 1 : column + 1;
		line += text[i] == '\n';
	}
	return ctl_fail(EX_DATAERR, "%s:%zu:%zu: no JSON: %s",
		strcmp(path, "-") == 0 ? "standard input" : path, line, column, error.msg);
}

static void tell_changes(const struct ctl *ctl, yyjson_val *changes)
{
	static const struct {
		const char *change, *sign;
	} signs[] = {{"added", "+"}, {"removed", "-"}, {"changed", "~"}, {"moved", ">"}};
	size_t index, count;
	yyjson_val *one;
	yyjson_arr_foreach(changes, index, count, one)
	{
		const char *change = ctl_string(one, "change"), *sign = " ";
		for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
			if (strcmp(signs[i].change, change) == 0)
				sign = signs[i].sign;
		ctl_say(ctl, "%s %s %s %s", sign, ctl_string(one, "kind"), ctl_string(one, "id"),
			change);
	}
	if (count == 0)
		ctl_say(ctl, "it changes nothing");
}

static int tell_applied(const struct ctl *ctl, yyjson_val *answer, bool is_dry_run)
{
	if (!ctl->is_json)
		tell_changes(ctl, yyjson_obj_get(answer, "changes"));
	if (!is_dry_run)
		return ctl_report_change(ctl, answer);
	if (ctl->is_json)
		return ctl_print_json(answer, false, stdout);
	ctl_say(ctl, "dry run: it would be accepted; nothing is changed");
	return EX_OK;
}

int policy_apply(struct ctl *ctl, const struct args *args)
{
	const char *path = args_value(args, 0);
	bool is_dry_run = args_named(args, "--dry-run") != NULL;
	struct url url;
	struct reply reply = {};
	char *text;
	size_t n;
	int rc = ctl_read_file(path, POLICY_BYTES_MAX, &text, &n);
	if (rc == EX_OK)
		rc = check_json(path, text, n);
	url_init(&url, "/v1/apply");
	url_query(&url, "dry_run", is_dry_run ? "1" : NULL);
	if (rc == EX_OK)
		rc = api_call(ctl, "POST", &url, bytes_of(text, n), &reply);
	if (rc == EX_OK)
		rc = tell_applied(ctl, reply.root, is_dry_run);
	reply_fini(&reply);
	free(text);
	return rc;
}

/* ---- explain ---- */

static bool is_of_stage(yyjson_val *look, const char *stage)
{
	return yyjson_is_obj(look) && strcmp(ctl_string(look, "stage"), stage) == 0;
}

/* The rules of one stage, in the order in which they were tried, up to the one that counts. */
static void tell_looked_at(yyjson_val *list, const char *stage, const char *title)
{
	size_t index, count;
	yyjson_val *one;
	struct table t;
	table_init(&t, 3, NULL);
	yyjson_arr_foreach(list, index, count, one)
	{
		if (!is_of_stage(one, stage))
			continue;
		char *cells[] = {
			text_format("  %s",
				yyjson_get_bool(yyjson_obj_get(one, "matched")) ? "yes" : "no"),
			text_format("%s", ctl_string(one, "rule")),
			text_format("%s", ctl_string(one, "why"))};
		table_row(&t, cells);
	}
	if (t.rows != 0)
		puts(title);
	table_print(&t, stdout, 0);
	table_fini(&t);
}

/* "strict: level=encrypt grade=high" */
static char *describe(enum documents_kind kind, yyjson_val *document)
{
	size_t count;
	const struct documents_field *fields = documents_fields(kind, &count);
	char *all = text_format("%s", ctl_string(document, "id"));
	for (size_t i = 0; i < count; i++) {
		bool is_always = kind == DOC_PROFILE &&
			(strcmp(fields[i].name, "level") == 0 ||
				strcmp(fields[i].name, "grade") == 0);
		if (fields[i].type == DOC_ID ||
			(!is_always && !fields_is_set(&fields[i], document)))
			continue;
		char *value = fields_write_or_default(&fields[i], document);
		char *longer = text_format("%s %s=%s", all, fields[i].name, value);
		free(value);
		free(all);
		all = longer;
	}
	return all;
}

static char *action_of(const char *action)
{
	static const struct {
		const char *action, *means;
	} actions[] = {{"inbound", "it may send to the domains of inbound routes"},
		{"relay", "it may send to any domain"}, {"reject", "it is turned away"}};
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (strcmp(actions[i].action, action) == 0)
			return text_format("%s: %s", action, actions[i].means);
	return text_format("%s", action);
}

static void tell_stage(const char *title, yyjson_val *stage)
{
	if (!yyjson_is_obj(stage))
		return;
	printf("%s\n", title);
	ctl_fact("  rule", ctl_member(stage, "rule"));
	ctl_fact("  action", action_of(ctl_string(stage, "action")));
	ctl_fact("  TLS profile", describe(DOC_PROFILE, yyjson_obj_get(stage, "profile")));
}

static void tell_inbound(yyjson_val *inbound)
{
	yyjson_val *looked_at = yyjson_obj_get(inbound, "looked_at");
	tell_stage("when the client connects:", yyjson_obj_get(inbound, "connect"));
	tell_looked_at(looked_at, "connect", "  rules looked at:");
	if (yyjson_is_obj(yyjson_obj_get(inbound, "mail")))
		tell_stage("for this mail:", yyjson_obj_get(inbound, "mail"));
	else
		puts("for this mail: no rule of its own");
	tell_looked_at(looked_at, "mail", "  rules looked at:");
}

static void tell_disabled_routes(yyjson_val *list)
{
	size_t index, count;
	yyjson_val *one;
	yyjson_arr_foreach(list, index, count, one) ctl_fact("disabled route",
		text_format("%s domain=%s", ctl_string(one, "id"), ctl_string(one, "domain")));
}

static void tell_outbound(yyjson_val *outbound)
{
	yyjson_val *route = yyjson_obj_get(outbound, "route"),
		   *looked_at = yyjson_obj_get(outbound, "looked_at");
	ctl_fact("route",
		yyjson_is_obj(route) ? describe(DOC_ROUTE, route)
				     : text_format("none: mail to this domain bounces"));
	tell_disabled_routes(yyjson_obj_get(outbound, "disabled_routes"));
	ctl_fact("rule", ctl_member(outbound, "rule"));
	ctl_fact("TLS profile", describe(DOC_PROFILE, yyjson_obj_get(outbound, "profile")));
	tell_looked_at(looked_at, "route", "looked at when the mail is routed:");
	tell_looked_at(looked_at, "host", "looked at for this host:");
}

static int explain(
	struct ctl *ctl, const struct args *args, const char *part, void (*tell)(yyjson_val *part))
{
	struct url url;
	struct reply reply;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	for (unsigned i = 0; i < args->named_count; i++)
		yyjson_mut_obj_add(root,
			yyjson_mut_strn(doc, args->named[i].name, args->named[i].name_n),
			yyjson_mut_str(doc, args->named[i].value));
	url_init(&url, "/v1/explain");
	int rc = api_send(ctl, "POST", &url, doc, &reply);
	yyjson_val *answer = yyjson_obj_get(reply.root, part);
	if (rc == EX_OK && ctl->is_json)
		rc = ctl_print_json(reply.root, false, stdout);
	else if (rc == EX_OK && !yyjson_is_obj(answer))
		rc = ctl_fail(EX_PROTOCOL, "the answer of hikyaku-control has no '%s'", part);
	else if (rc == EX_OK)
		tell(answer);
	reply_fini(&reply);
	return rc;
}

int policy_explain_in(struct ctl *ctl, const struct args *args)
{
	return explain(ctl, args, "inbound", tell_inbound);
}

int policy_explain_out(struct ctl *ctl, const struct args *args)
{
	return explain(ctl, args, "outbound", tell_outbound);
}
