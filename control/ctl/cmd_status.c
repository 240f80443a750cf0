// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_status.c: how the node is: status, metrics. */
#include "control/ctl/ctl.h"

#include <stdlib.h>

#include "control/ctl/text.h"

static char *duration_member(yyjson_val *object, const char *name)
{
	yyjson_val *value = yyjson_obj_get(object, name);
	return yyjson_is_num(value) ? text_duration(yyjson_get_num(value)) : NULL;
}

static char *size_member(yyjson_val *object, const char *name)
{
	yyjson_val *value = yyjson_obj_get(object, name);
	return yyjson_is_num(value) ? text_size(yyjson_get_num(value)) : NULL;
}

static void tell_control(yyjson_val *control)
{
	char *generation = ctl_member(control, "generation"), *pid = ctl_member(control, "pid");
	char *uptime = duration_member(control, "uptime");
	char *line = text_format("hikyaku-control %s on %s, pid %s, up %s, generation %s",
		ctl_string(control, "version"), ctl_string(control, "hostname"), pid,
		uptime == NULL ? "?" : uptime, generation);
	text_put(stdout, bytes_of_string(line), TEXT_ONE_LINE);
	fputc('\n', stdout);
	free(line);
	free(uptime);
	free(generation);
	free(pid);
}

/* "2 waiting, 1 active" of what is not 0. */
static char *states_of(yyjson_val *queue)
{
	static const char *const states[] = {
		"routing", "ready", "loading", "active", "waiting", "held"};
	char *all = text_format("%s", "");
	for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
		uint64_t n = yyjson_get_uint(yyjson_obj_get(queue, states[i]));
		if (n == 0)
			continue;
		char *longer = text_format("%s%s%llu %s", all, all[0] == '\0' ? "" : ", ",
			(unsigned long long)n, states[i]);
		free(all);
		all = longer;
	}
	return all;
}

/* "TLS offload mb (as configured)" */
static char *offload_of(yyjson_val *relay)
{
	yyjson_val *offload = yyjson_obj_get(relay, "offload");
	if (offload == NULL)
		return text_format("%s", "");
	return text_format(
		"TLS offload %s (%s)", ctl_string(offload, "backend"), ctl_string(offload, "why"));
}

static void add_relay(struct table *t, yyjson_val *relay, const char *newest)
{
	yyjson_val *queue = yyjson_obj_get(relay, "queue"), *spool = yyjson_obj_get(relay, "spool");
	char *generation = ctl_member(relay, "generation");
	bool is_behind = strcmp(generation, newest) != 0;
	char *cells[] = {ctl_member(relay, "instance"), ctl_member(relay, "pid"),
		text_format("%s%s", generation, is_behind ? " (behind)" : ""),
		duration_member(relay, "uptime"), ctl_member(relay, "cores"),
		ctl_member(relay, "connections"), ctl_member(queue, "mails"),
		size_member(spool, "bytes")};
	table_row(t, cells);
	free(generation);
	char *states = states_of(queue);
	const char *failing = yyjson_get_bool(yyjson_obj_get(spool, "failing"))
		? "the spool's disk is full or failing: new mail gets 452"
		: "";
	const char *draining = yyjson_get_bool(yyjson_obj_get(relay, "draining")) ? "draining" : "";
	char *offload = offload_of(relay);
	const char *const said[] = {states, failing, draining, offload};
	char *note = text_format("%s", "");
	for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
		if (said[i][0] == '\0')
			continue;
		char *longer = text_format("%s%s%s", note, note[0] == '\0' ? "" : "; ", said[i]);
		free(note);
		note = longer;
	}
	free(offload);
	free(states);
	if (note[0] != '\0')
		table_note(t, note);
	else
		free(note);
}

static void tell_relays(const struct ctl *ctl, yyjson_val *relays, yyjson_val *control)
{
	static const char *const header[] = {
		"RELAY", "PID", "GENERATION", "UP", "CORES", "CONNECTIONS", "MAILS", "SPOOL"};
	struct table t;
	size_t index, count;
	yyjson_val *relay;
	char *newest = ctl_member(control, "generation");
	table_init(&t, 8, header);
	yyjson_arr_foreach(relays, index, count, relay) add_relay(&t, relay, newest);
	if (count != 0) /* else a warning says so */
		table_print(&t, stdout, ctl->width);
	table_fini(&t);
	free(newest);
}

int ctl_status(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	size_t index, count;
	yyjson_val *warning;
	url_init(&url, "/v1/status");
	int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
	if (rc == EX_OK && ctl->is_json) {
		rc = ctl_print_json(reply.root, false, stdout);
	} else if (rc == EX_OK) {
		yyjson_val *control = yyjson_obj_get(reply.root, "control");
		tell_control(control);
		tell_relays(ctl, yyjson_obj_get(reply.root, "relays"), control);
		yyjson_arr_foreach(yyjson_obj_get(reply.root, "warnings"), index, count,
			warning) ctl_fact("warning:",
			text_format("%s", yyjson_is_str(warning) ? yyjson_get_str(warning) : "?"));
	}
	reply_fini(&reply);
	return rc;
}

int offload_set(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	url_init(&url, "/v1/offload");
	url_segment(&url, args_value(args, 0));
	url_query(&url, "instance", args_named(args, "instance"));
	int rc = api_call(ctl, "POST", &url, BYTES_NONE, &reply);
	if (rc == EX_OK && ctl->is_json)
		rc = ctl_print_json(reply.root, false, stdout);
	else if (rc == EX_OK)
		ctl_say(ctl, "new TLS handshakes: %s", ctl_string(reply.root, "offload"));
	reply_fini(&reply);
	return rc;
}

int ctl_metrics(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	url_init(&url, "/metrics");
	int rc = api_get_text(ctl, &url, &reply);
	if (rc == EX_OK)
		text_put(stdout, bytes_of(reply.body, reply.n), TEXT_KEEP_LINES);
	reply_fini(&reply);
	return rc;
}
