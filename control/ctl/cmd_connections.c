// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_connections.c: the TCP connections of the relays. */
#include "control/ctl/ctl.h"

#include <stdlib.h>

#include "control/ctl/text.h"

#define LIMIT_OTHERWISE 1000
#define LIMIT_MOST	1000000
#define PAGE_MOST	65535

/* ---- cells ---- */

static double number(yyjson_val *item, const char *name)
{
	return yyjson_get_num(yyjson_obj_get(item, name));
}

static char *endpoint(yyjson_val *item, const char *address, const char *port)
{
	const char *text = ctl_string(item, address);
	return text_format(strchr(text, ':') == NULL ? "%s:%u" : "[%s]:%u", text,
		(unsigned)number(item, port));
}

static char *above(yyjson_val *item)
{
	const char *listener = ctl_string(item, "listener"), *tls = ctl_string(item, "tls");
	const char *domain = ctl_string(item, "domain"), *name = ctl_string(item, "name");
	const char *phase = ctl_string(item, "phase");
	const bool has_domain = domain[0] != '\0' && strcmp(domain, name) != 0;
	return text_format("%s%s%s%s%s%s%s%s%s", listener, listener[0] == '\0' ? "" : " ",
		phase[0] == '\0' ? "-" : phase, name[0] == '\0' ? "" : " ", name,
		has_domain ? " for " : "", has_domain ? domain : "", tls[0] == '\0' ? "" : " ",
		tls);
}

static char *milliseconds(yyjson_val *item, const char *name)
{
	double us = number(item, name);
	return us == 0 ? text_format("-") : text_format(us < 100000 ? "%.1f" : "%.0f", us / 1000);
}

/* Half-open, or in TIME-WAIT: TCP knows no more of it. */
static void add_remnant(struct table *t, yyjson_val *item)
{
	char *until = text_duration(number(item, "until"));
	char *cells[] = {text_format("-"), text_format("-"), endpoint(item, "local", "local_port"),
		endpoint(item, "remote", "remote_port"), ctl_member(item, "state"),
		text_format("%s", ""), text_format("%s", ""), text_format("%s", ""),
		text_format("%s", ""), text_format("%s", ""), text_format("for %s yet", until)};
	table_row(t, cells);
	free(until);
}

static void add_row(struct table *t, yyjson_val *item, bool is_long)
{
	if (yyjson_obj_get(item, "until") != NULL) {
		add_remnant(t, item);
		return;
	}
	char *cells[] = {ctl_member(item, "id"), ctl_member(item, "direction"),
		endpoint(item, "local", "local_port"), endpoint(item, "remote", "remote_port"),
		ctl_member(item, "state"), milliseconds(item, "rtt_us"), ctl_member(item, "cwnd"),
		ctl_member(item, "retransmits"),
		text_format("%.0f/%.0f", number(item, "send_queue"), number(item, "receive_queue")),
		text_duration(number(item, "idle")), above(item)};
	table_row(t, cells);
	if (!is_long)
		return;
	const char *cipher = ctl_string(item, "cipher");
	char *age = text_duration(number(item, "age")), *in = text_size(number(item, "bytes_in"));
	char *out = text_size(number(item, "bytes_out"));
	double ssthresh = number(item, "ssthresh");
	char *threshold = ssthresh >= (1u << 30) ? text_format("-") : text_format("%.0f", ssthresh);
	table_note(t,
		text_format("%s  open for %s, %s in, %s out; RTO %.0f ms, RTT variance %.1f ms, "
			    "ssthresh %s, "
			    "MSS %.0f, windows %.0f out, %.0f in%s%s",
			ctl_string(item, "instance"), age, in, out, number(item, "rto_us") / 1000,
			number(item, "rttvar_us") / 1000, threshold, number(item, "mss"),
			number(item, "send_window"), number(item, "receive_window"),
			cipher[0] == '\0' ? "" : "; ", cipher));
	free(threshold);
	free(age);
	free(in);
	free(out);
}

/* ---- the best by a key ---- */

struct kept {
	yyjson_mut_doc *doc;
	double key;
};

struct listing {
	const struct ctl *ctl;
	bool is_long;
	uint64_t limit, shown, seen;
	double connections, half_open, time_wait; /* of all, whatever the filter */
	const struct sort_key *sort;
	struct kept *kept; /* room for twice the limit, so that sorting is rare */
	size_t kept_count;
};

static double key_rtt(yyjson_val *item)
{
	return number(item, "rtt_us");
}
static double key_cwnd(yyjson_val *item)
{
	return number(item, "cwnd");
}
static double key_retransmits(yyjson_val *item)
{
	return number(item, "retransmits");
}
static double key_queue(yyjson_val *item)
{
	return number(item, "send_queue") + number(item, "receive_queue");
}
static double key_bytes(yyjson_val *item)
{
	return number(item, "bytes_in") + number(item, "bytes_out");
}
static double key_age(yyjson_val *item)
{
	return number(item, "age");
}
static double key_idle(yyjson_val *item)
{
	return number(item, "idle");
}

static const struct sort_key {
	const char *name;
	double (*key)(yyjson_val *item);
} sort_keys[] = {
	{"rtt",		key_rtt	       },
	{"cwnd",	 key_cwnd	 },
	{"retransmits", key_retransmits},
	{"queue",	  key_queue	   },
	{"bytes",	  key_bytes	   },
	{"age",		key_age	       },
	{"idle",	 key_idle	 },
};

static int largest_first(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;
	return x->key > y->key ? -1 : x->key < y->key;
}

static void keep_best(struct listing *l)
{
	qsort(l->kept, l->kept_count, sizeof *l->kept, largest_first);
	while (l->kept_count > l->limit)
		yyjson_mut_doc_free(l->kept[--l->kept_count].doc);
}

static void keep(struct listing *l, yyjson_val *item)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(doc, yyjson_val_mut_copy(doc, item));
	l->kept[l->kept_count++] = (struct kept){doc, l->sort->key(item)};
	if (l->kept_count == 2 * l->limit)
		keep_best(l);
}

/* ---- printing ---- */

static void begin_table(struct table *t, bool has_header)
{
	static const char *const header[] = {"ID", "DIR", "LOCAL", "REMOTE", "STATE", "RTT", "CWND",
		"RETRANS", "QUEUES", "IDLE", "WHAT"};
	table_init(t, 11, has_header ? header : NULL);
	for (unsigned i = 5; i < 9; i++)
		t->is_right[i] = true;
}

static void print_json(struct listing *l, yyjson_val *item)
{
	fputs(l->shown++ == 0 ? "" : ",", stdout);
	ctl_print_json(item, true, stdout);
}

static void print_page(struct listing *l, yyjson_val *items)
{
	struct table t;
	size_t index, count;
	yyjson_val *item;
	begin_table(&t, l->shown == 0);
	yyjson_arr_foreach(items, index, count, item)
	{
		if (l->shown == l->limit)
			break;
		if (l->ctl->is_json)
			print_json(l, item);
		else
			add_row(&t, item, l->is_long), l->shown++;
	}
	if (!l->ctl->is_json && l->shown != 0)
		table_print(&t, stdout, l->ctl->width);
	table_fini(&t);
}

static void print_kept(struct listing *l)
{
	struct table t;
	keep_best(l);
	begin_table(&t, true);
	for (size_t i = 0; i < l->kept_count; i++) {
		yyjson_doc *doc = yyjson_mut_doc_imut_copy(l->kept[i].doc, NULL);
		if (l->ctl->is_json)
			print_json(l, yyjson_doc_get_root(doc));
		else
			add_row(&t, yyjson_doc_get_root(doc), l->is_long), l->shown++;
		yyjson_doc_free(doc);
		yyjson_mut_doc_free(l->kept[i].doc);
	}
	if (!l->ctl->is_json && l->shown != 0)
		table_print(&t, stdout, l->ctl->width);
	table_fini(&t);
}

/* ---- pages ---- */

static void take_page(struct listing *l, yyjson_val *root)
{
	size_t index, count;
	yyjson_val *one, *items = yyjson_obj_get(root, "items");
	yyjson_arr_foreach(yyjson_obj_get(root, "counts"), index, count, one)
	{
		l->connections += number(one, "connections");
		l->half_open += number(one, "half_open");
		l->time_wait += number(one, "time_wait");
	}
	l->seen += yyjson_arr_size(items);
	if (l->sort == NULL)
		print_page(l, items);
	else
		yyjson_arr_foreach(items, index, count, one) keep(l, one);
}

static void url_of(
	struct url *url, const struct args *args, const struct listing *l, const char *after)
{
	static const char *const filters[] = {"--state", "--peer", "--port", "--direction"};
	char limit[24];
	uint64_t rest = l->sort != NULL ? PAGE_MOST : l->limit - l->shown;
	url_init(url, "/v1/connections");
	for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
		url_query(url, filters[i] + 2, args_named(args, filters[i]));
	url_query(url, "all", args_named(args, "--all") == NULL ? NULL : "1");
	url_query(url, "instance", args_named(args, "instance"));
	snprintf(limit, sizeof limit, "%llu",
		(unsigned long long)(rest < PAGE_MOST ? rest : PAGE_MOST));
	url_query(url, "limit", limit);
	url_query(url, "after", after);
}

/* Ends also where a page leads to itself. */
static int each_page(struct listing *l, const struct args *args, bool *is_more)
{
	char after[128] = "";
	*is_more = true;
	while (*is_more && (l->sort != NULL || l->shown < l->limit)) {
		struct url url;
		struct reply reply;
		url_of(&url, args, l, after[0] == '\0' ? NULL : after);
		int rc = api_call(l->ctl, "GET", &url, BYTES_NONE, &reply);
		if (rc == EX_OK)
			take_page(l, reply.root);
		const char *next = ctl_string(reply.root, "next");
		*is_more = rc == EX_OK && next[0] != '\0' && strcmp(next, after) != 0;
		snprintf(after, sizeof after, "%s", next);
		reply_fini(&reply);
		if (rc != EX_OK)
			return rc;
	}
	return EX_OK;
}

static void tell_rest(const struct listing *l, bool is_more)
{
	if (l->shown == 0)
		ctl_say(l->ctl, "no connection fits");
	ctl_say(l->ctl, "%llu shown%s; of all: %.0f open, %.0f half-open, %.0f in TIME-WAIT",
		(unsigned long long)l->shown,
		is_more || l->shown < l->seen ? ", there are more (--limit)" : "", l->connections,
		l->half_open, l->time_wait);
}

static bool read_options(struct listing *l, const struct args *args)
{
	const char *sort = args_named(args, "--sort");
	uint64_t port;
	if (!ctl_number(args, "--limit", 1, LIMIT_MOST, LIMIT_OTHERWISE, &l->limit) ||
		!ctl_number(args, "--port", 1, 65535, 0, &port))
		return false;
	for (size_t i = 0; sort != NULL && i < sizeof sort_keys / sizeof *sort_keys; i++)
		if (strcmp(sort_keys[i].name, sort) == 0)
			l->sort = &sort_keys[i];
	if (sort != NULL && l->sort == NULL) {
		ctl_fail(EX_USAGE,
			"--sort: found '%s', expected rtt, cwnd, retransmits, queue, bytes, age or "
			"idle",
			sort);
		return false;
	}
	l->kept = l->sort == NULL ? NULL : calloc(2 * l->limit, sizeof *l->kept);
	return l->sort == NULL || l->kept != NULL;
}

int connections_list(struct ctl *ctl, const struct args *args)
{
	struct listing l = {.ctl = ctl, .is_long = args_named(args, "--long") != NULL};
	bool is_more;
	if (!read_options(&l, args))
		return EX_USAGE;
	if (ctl->is_json)
		fputs("{\"items\":[\n", stdout);
	int rc = each_page(&l, args, &is_more);
	if (l.sort != NULL)
		print_kept(&l);
	free(l.kept);
	if (ctl->is_json && rc == EX_OK)
		printf("],\"connections\":%.0f,\"half_open\":%.0f,\"time_wait\":%.0f}\n",
			l.connections, l.half_open, l.time_wait);
	else if (rc == EX_OK)
		tell_rest(&l, is_more);
	return rc;
}

int connections_end(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	url_init(&url, "/v1/connections");
	url_segment(&url, args_value(args, 0));
	url_query(&url, "instance", args_named(args, "instance"));
	int rc = api_call(ctl, "DELETE", &url, BYTES_NONE, &reply);
	if (rc == EX_OK && ctl->is_json)
		rc = ctl_print_json(reply.root, false, stdout);
	else if (rc == EX_OK)
		ctl_say(ctl, "ended");
	reply_fini(&reply);
	return rc;
}
