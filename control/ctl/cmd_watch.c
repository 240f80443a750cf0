// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_watch.c: what goes on on a relay, while one watches: the events of connections,
 * the packets of a port. Both are begun, read in pieces until they are over, and ended. */
#include "control/ctl/ctl.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/ctl/packet_line.h"
#include "control/ctl/pcapng.h"
#include "control/ctl/text.h"

#define COUNT_OTHERWISE	  10000
#define COUNT_MOST	  100000000
#define SECONDS_OTHERWISE 60
#define SECONDS_MOST	  3600
#define SNAPLEN_MOST	  65535
#define PAUSE_US	  50000 /* before the next look, where there was nothing */
#define FILTER_BYTES	  4096
#define LAST_LOOKS	  64 /* after Ctrl-C, at most */

/* ---- the course of it ---- */

struct watching {
	const struct ctl *ctl;
	const char *path, *list, *instance; /* "/v1/trace" and "events" */
	char id[24];
	bool (*each)(struct watching *w, yyjson_val *one); /* false: it cannot go on */
	FILE *to;
	bool is_pcapng;
	uint64_t told, lost;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

/* Ctrl-C ends the watching, not the program: what was seen is finished in order, also a write that waits for a slow
 * reader. A second one ends the program. */
static void take_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void url_of(struct url *url, const struct watching *w)
{
	url_init(url, w->path);
	if (w->id[0] != '\0')
		url_segment(url, w->id);
	url_query(url, "instance", w->instance);
}

static int begin(struct watching *w, yyjson_mut_doc *doc)
{
	struct url url;
	struct reply reply;
	url_of(&url, w);
	int rc = api_send(w->ctl, "POST", &url, doc, &reply);
	snprintf(w->id, sizeof w->id, "%llu",
		(unsigned long long)yyjson_get_uint(yyjson_obj_get(reply.root, "id")));
	reply_fini(&reply);
	return rc;
}

static void end(struct watching *w)
{
	struct url url;
	struct reply reply;
	url_of(&url, w);
	api_call(w->ctl, "DELETE", &url, BYTES_NONE, &reply);
	reply_fini(&reply);
}

/* One piece. */
static int look(struct watching *w, bool *is_over, bool *is_empty)
{
	struct url url;
	struct reply reply;
	size_t index, count;
	yyjson_val *one;
	url_of(&url, w);
	int rc = api_call(w->ctl, "GET", &url, BYTES_NONE, &reply);
	yyjson_arr_foreach(yyjson_obj_get(reply.root, w->list), index, count, one)
	{
		if (!w->each(w, one)) {
			rc = ctl_fail(EX_IOERR, "cannot write: %s", strerror(errno));
			break;
		}
		w->told++;
	}
	*is_empty = count == 0;
	*is_over = rc != EX_OK || yyjson_get_bool(yyjson_obj_get(reply.root, "over"));
	w->lost = yyjson_get_uint(yyjson_obj_get(reply.root, "lost"));
	reply_fini(&reply);
	return rc;
}

static int watch(struct watching *w, yyjson_mut_doc *doc)
{
	bool is_over = false, is_empty = true;
	take_signals();
	int rc = begin(w, doc);
	if (rc != EX_OK)
		return rc;
	if (!w->ctl->is_quiet)
		fputs("listening\n", stderr);
	/* What had come when one wanted it to end is still told. */
	for (unsigned rest = LAST_LOOKS; rc == EX_OK && !is_over && rest > 0;) {
		const bool is_ending = interrupted;
		rc = look(w, &is_over, &is_empty);
		fflush(w->to);
		if (is_ending)
			rest = is_empty ? 0 : rest - 1;
		else if (is_empty && !is_over)
			usleep(PAUSE_US);
	}
	end(w);
	return rc;
}

/* {"count","seconds"}; NULL: told what is wrong. */
static yyjson_mut_doc *bounds(const struct args *args)
{
	uint64_t count, seconds;
	if (!ctl_number(args, "--count", 1, COUNT_MOST, COUNT_OTHERWISE, &count) ||
		!ctl_number(args, "--seconds", 1, SECONDS_MOST, SECONDS_OTHERWISE, &seconds))
		return NULL;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_uint(doc, root, "count", count);
	yyjson_mut_obj_add_uint(doc, root, "seconds", seconds);
	return doc;
}

static void put_clock(FILE *to, yyjson_val *one)
{
	uint64_t us = yyjson_get_uint(yyjson_obj_get(one, "time_us"));
	time_t seconds = (time_t)(us / USEC_PER_SEC);
	struct tm tm;
	char clock[16] = "?";
	if (localtime_r(&seconds, &tm) != NULL)
		strftime(clock, sizeof clock, "%H:%M:%S", &tm);
	fprintf(to, "%s.%06u ", clock, (unsigned)(us % USEC_PER_SEC));
}

/* ---- trace ---- */

static unsigned number(yyjson_val *object, const char *name)
{
	return (unsigned)yyjson_get_uint(yyjson_obj_get(object, name));
}

static char *segment_text(yyjson_val *e)
{
	size_t index, count;
	yyjson_val *block;
	const char *again = ctl_string(e, "again");
	char *text = text_format("[%s] seq %u ack %u length %u window %u", ctl_string(e, "flags"),
		number(e, "seq"), number(e, "ack"), number(e, "length"), number(e, "window"));
	yyjson_arr_foreach(yyjson_obj_get(e, "sack"), index, count, block)
	{
		char *longer = text_format("%s%s%u-%u", text, index == 0 ? " sack " : ",",
			(unsigned)yyjson_get_uint(yyjson_arr_get(block, 0)),
			(unsigned)yyjson_get_uint(yyjson_arr_get(block, 1)));
		free(text);
		text = longer;
	}
	if (again[0] == '\0')
		return text;
	char *longer = text_format("%s  sent again: %s", text, again);
	free(text);
	return longer;
}

static char *event_text(yyjson_val *e)
{
	const char *event = ctl_string(e, "event");
	if (strcmp(event, "in") == 0 || strcmp(event, "out") == 0)
		return segment_text(e);
	if (strcmp(event, "drop") == 0)
		return text_format("%s", ctl_string(e, "reason"));
	if (strcmp(event, "state") == 0)
		return text_format("%s -> %s", ctl_string(e, "from"), ctl_string(e, "to"));
	if (strcmp(event, "timer") == 0)
		return text_format("%s", ctl_string(e, "timer"));
	unsigned ssthresh = number(e, "ssthresh");
	char *threshold = ssthresh >= 1u << 30 ? text_format("-") : text_format("%u", ssthresh);
	char *text = text_format("cwnd %u ssthresh %s RTT %.1f ms RTO %.0f ms in flight %u",
		number(e, "cwnd"), threshold, number(e, "rtt_us") / 1e3, number(e, "rto_us") / 1e3,
		number(e, "flight"));
	free(threshold);
	return text;
}

static bool print_event(struct watching *w, yyjson_val *e)
{
	if (w->ctl->is_json)
		return ctl_print_json(e, true, w->to) == EX_OK;
	char *what = event_text(e);
	const char *local = ctl_string(e, "local"), *remote = ctl_string(e, "remote");
	char *line = text_format("%s.%u %s.%u  %-5s  %s", local, number(e, "local_port"), remote,
		number(e, "remote_port"), ctl_string(e, "event"), what);
	put_clock(w->to, e);
	text_put(w->to, bytes_of_string(line), TEXT_ONE_LINE);
	fputc('\n', w->to);
	free(line);
	free(what);
	return ferror(w->to) == 0;
}

/* To standard error, since the rest may be read by a program. */
static void tell_count(const struct watching *w, const char *things)
{
	if (!w->ctl->is_quiet)
		fprintf(stderr, "%llu %s, %llu lost\n", (unsigned long long)w->told, things,
			(unsigned long long)w->lost);
}

int trace_show(struct ctl *ctl, const struct args *args)
{
	uint64_t port;
	const char *peer = args_named(args, "--peer");
	yyjson_mut_doc *doc = bounds(args);
	if (doc == NULL || !ctl_number(args, "--port", 1, 65535, 0, &port)) {
		yyjson_mut_doc_free(doc);
		return EX_USAGE;
	}
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	if (peer != NULL)
		yyjson_mut_obj_add_str(doc, root, "peer", peer);
	yyjson_mut_obj_add_uint(doc, root, "port", port);
	struct watching w = {.ctl = ctl,
		.path = "/v1/trace",
		.list = "events",
		.instance = args_named(args, "instance"),
		.each = print_event,
		.to = stdout};
	int rc = watch(&w, doc);
	if (rc == EX_OK)
		tell_count(&w, "events");
	return rc;
}

/* ---- capture ---- */

/* The words as one expression; false: too long. */
static bool join_filter(const struct args *args, char text[FILTER_BYTES])
{
	size_t n = 0;
	text[0] = '\0';
	for (unsigned i = 0; i < args->value_count; i++) {
		int more = snprintf(
			text + n, FILTER_BYTES - n, "%s%s", i == 0 ? "" : " ", args->values[i]);
		if (more < 0 || (size_t)more >= FILTER_BYTES - n)
			return false;
		n += (size_t)more;
	}
	return true;
}

/* Compiled here, where a name may be looked up, by tcpdump's own compiler. */
static int add_filter(yyjson_mut_doc *doc, const struct args *args)
{
	char text[FILTER_BYTES];
	struct bpf_program program;
	if (args->value_count == 0)
		return EX_OK;
	if (!join_filter(args, text))
		return ctl_fail(EX_USAGE, "the filter is longer than %d bytes", FILTER_BYTES - 1);
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, SNAPLEN_MOST);
	if (pcap == NULL)
		return ctl_fail(EX_OSERR, "out of memory");
	int rc = EX_OK;
	if (pcap_compile(pcap, &program, text, 1, PCAP_NETMASK_UNKNOWN) != 0) {
		rc = ctl_fail(EX_USAGE, "the filter '%s': %s", text, pcap_geterr(pcap));
	} else {
		yyjson_mut_val *list =
			yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "filter");
		for (unsigned i = 0; i < program.bf_len; i++) {
			const struct bpf_insn *f = &program.bf_insns[i];
			yyjson_mut_val *one = yyjson_mut_arr_add_arr(doc, list);
			yyjson_mut_arr_add_uint(doc, one, f->code);
			yyjson_mut_arr_add_uint(doc, one, f->jt);
			yyjson_mut_arr_add_uint(doc, one, f->jf);
			yyjson_mut_arr_add_uint(doc, one, f->k);
		}
		pcap_freecode(&program);
	}
	pcap_close(pcap);
	return rc;
}

static bool take_packet(struct watching *w, yyjson_val *one)
{
	size_t n = 0;
	uint8_t *bytes = text_decode_base64(ctl_string(one, "data"), &n);
	bool is_out = yyjson_get_bool(yyjson_obj_get(one, "out")), is_good = true;
	uint32_t length = number(one, "length");
	if (bytes == NULL)
		return true; /* of a relay gone wrong; the next may be better */
	if (w->is_pcapng) {
		is_good = pcapng_packet(w->to, yyjson_get_uint(yyjson_obj_get(one, "time_us")),
			is_out, bytes_of(bytes, n), length);
	} else if (w->ctl->is_json) {
		is_good = ctl_print_json(one, true, w->to) == EX_OK;
	} else {
		put_clock(w->to, one);
		fputs(is_out ? "out " : "in  ", w->to);
		packet_line(w->to, bytes_of(bytes, n), length);
		is_good = fputc('\n', w->to) != EOF;
	}
	free(bytes);
	return is_good;
}

static int run_capture(struct watching *w, yyjson_mut_doc *doc, const char *port, uint32_t snaplen)
{
	int rc = EX_OK;
	if (w->is_pcapng && !pcapng_begin(w->to, port, snaplen == SNAPLEN_MOST ? 0 : snaplen))
		rc = ctl_fail(EX_IOERR, "cannot write: %s", strerror(errno));
	if (rc != EX_OK) {
		yyjson_mut_doc_free(doc);
		return rc;
	}
	rc = watch(w, doc);
	if (w->is_pcapng && !pcapng_end(w->to, time_wall_us(), w->told, w->lost) && rc == EX_OK)
		rc = ctl_fail(EX_IOERR, "cannot write: %s", strerror(errno));
	if (rc == EX_OK)
		tell_count(w, "packets");
	return rc;
}

static int open_file(struct watching *w, const char *path)
{
	w->is_pcapng = path != NULL;
	w->to = path == NULL || strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	if (w->to == NULL)
		return ctl_fail(EX_CANTCREAT, "%s: %s", path, strerror(errno));
	if (w->is_pcapng && w->to == stdout && isatty(STDOUT_FILENO))
		return ctl_fail(
			EX_USAGE, "-w -: standard output is a terminal; pipe it to `tcpdump -r -`");
	return EX_OK;
}

int capture_run(struct ctl *ctl, const struct args *args)
{
	uint64_t snaplen;
	const char *port = args_named(args, "--port");
	struct watching w = {.ctl = ctl,
		.path = "/v1/capture",
		.list = "packets",
		.instance = args_named(args, "--instance"),
		.each = take_packet};
	if (port == NULL)
		return ctl_fail(EX_USAGE,
			"--port: say which (the ports are those of `hikyakuctl config show`)");
	yyjson_mut_doc *doc = bounds(args);
	if (doc == NULL ||
		!ctl_number(args, "--snaplen", 14, SNAPLEN_MOST, SNAPLEN_MOST, &snaplen)) {
		yyjson_mut_doc_free(doc);
		return EX_USAGE;
	}
	yyjson_mut_obj_add_str(doc, yyjson_mut_doc_get_root(doc), "port", port);
	yyjson_mut_obj_add_uint(doc, yyjson_mut_doc_get_root(doc), "bytes", snaplen);
	int rc = add_filter(doc, args);
	if (rc == EX_OK)
		rc = open_file(&w, args_named(args, "-w"));
	if (rc != EX_OK) {
		yyjson_mut_doc_free(doc);
		return rc;
	}
	rc = run_capture(&w, doc, port, (uint32_t)snaplen);
	if (w.to != stdout && fclose(w.to) != 0 && rc == EX_OK)
		rc = ctl_fail(EX_IOERR, "cannot write: %s", strerror(errno));
	return rc;
}
