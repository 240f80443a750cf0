// SPDX-License-Identifier: Apache-2.0
#include "bench/results.h"

#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "base/clock.h"

static const struct failure_row {
	const char *name, *help;
} failure_rows[] = {
#define _(id, name, help) {name, help},
	FAILURES(_)
#undef _
};
static const double percents[] = {50, 90, 99, 99.9, 100};
static const char *const percent_names[] = {"p50", "p90", "p99", "p99.9", "max"};
enum { PERCENTS = sizeof percents / sizeof percents[0] };

/* A server's bytes are shown, never obeyed. */
void results_fail(struct results *r, enum failure kind, const char *text)
{
	if (r->failures[kind]++ != 0)
		return;
	snprintf(r->examples[kind], sizeof r->examples[kind], "%s", text);
	for (char *c = r->examples[kind]; *c != '\0'; c++)
		if (*c < ' ' || *c == 0x7f)
			*c = '?';
}

uint64_t results_failed(const struct results *r)
{
	uint64_t n = 0;
	for (int i = 0; i < FAILURE_KINDS; i++)
		n += r->failures[i];
	return n;
}

static double per_second(const struct results *r, uint64_t n)
{
	return r->wall_us == 0 ? 0 : (double)n * (double)USEC_PER_SEC / (double)r->wall_us;
}

static double busy_share(const struct results *r)
{
	double share = r->wall_us == 0 ? 0 : (double)r->busy_us / (double)r->wall_us;
	return share > 1 ? 1 : share;
}

static double pushed_share(const struct results *r)
{
	return r->wall_us == 0 ? 0 : (double)r->pushed_us / (double)r->wall_us;
}

static bool is_limited(const struct results *r)
{
	return busy_share(r) > BUSY_SHARE_MAX;
}

/* What limited the rate, as far as the generator can tell: "processor" is that the generator waited for one, so that the
 * server may have, too. */
static const char *limit_of(const struct results *r, const struct options *o)
{
	if (is_limited(r))
		return "generator";
	if (o->rate != 0 && r->missed == 0 && per_second(r, r->sessions) > 0.98 * o->rate)
		return "offered rate";
	return pushed_share(r) > PUSHED_SHARE_MAX ? "processor" : "server";
}

/* ---- text ---- */

static void print_times(const char *what, const struct histogram *h)
{
	if (h->count == 0)
		return;
	printf("  %-22s", what);
	for (unsigned i = 0; i < PERCENTS; i++)
		printf("  %s %.3f", percent_names[i],
			(double)histogram_percentile(h, percents[i]) / 1000);
	printf(" ms\n");
}

static void print_tls(const struct tls_verdict *v)
{
	if (v->is_tls)
		printf("  TLS                     %s %s %s%s\n", tls_protocol_name(v->protocol),
			v->cipher, v->group, v->is_resumed ? " (resumed)" : "");
}

static void print_failures(const struct results *r)
{
	for (int i = 0; i < FAILURE_KINDS; i++)
		if (r->failures[i] != 0)
			printf("  FAILED %-15s  %llu: %s; the first: %s\n", failure_rows[i].name,
				(unsigned long long)r->failures[i], failure_rows[i].help,
				r->examples[i]);
}

static void print_rate(const struct results *r, const char *what, uint64_t n)
{
	printf("  %-22s  %.0f per second%s (%llu in %.2f s)\n", what, per_second(r, n),
		is_limited(r) ? ", LIMITED BY THE GENERATOR" : "", (unsigned long long)n,
		(double)r->wall_us / (double)USEC_PER_SEC);
}

static void print_offered(const struct results *r, const struct options *o)
{
	printf("  offered                 %.1f sessions per second; begun late %llu, never begun "
	       "%llu\n",
		o->rate, (unsigned long long)r->begun_late, (unsigned long long)r->missed);
	print_times("due to begun", &r->late);
}

static void print_text(const struct results *r, const struct options *o, const char *transport)
{
	printf("%s over %s, %u connections%s%s%s\n",
		o->command == BENCH_MESSAGES	   ? "messages"
			: o->command == BENCH_IDLE ? "idle"
						   : "handshakes",
		transport, o->connections,
		o->rate != 0		? ", open loop"
			: o->burst != 0 ? ", bursts"
					: "",
		o->security == BENCH_CLEAR ? ""
			: o->is_plain	   ? ", OpenSSL's client"
					   : ", lean client",
		r->is_interrupted ? " (interrupted)" : "");
	if (o->rate != 0)
		print_offered(r, o);
	if (r->bursts != 0)
		printf("  bursts                  %llu of %u handshakes\n",
			(unsigned long long)r->bursts, o->burst);
	print_tls(&r->verdict);
	if (o->command == BENCH_MESSAGES) {
		print_rate(r, "messages", r->mails);
		printf("  content                 %.1f MB per second, %zu bytes and %u recipient%s "
		       "a message\n",
			per_second(r, r->content_bytes) / 1e6, o->size, o->recipients,
			o->recipients == 1 ? "" : "s");
	}
	if (r->sessions != 0)
		print_rate(r, "whole sessions", r->sessions);
	if (r->handshakes != 0)
		print_rate(r, "TLS handshakes", r->handshakes);
	if (r->resumed != 0)
		printf("  of them resumed         %llu\n", (unsigned long long)r->resumed);
	if (o->command == BENCH_IDLE)
		printf("  sessions open           %u\n", r->open);
	print_times("end of data to 250", &r->end);
	print_times("whole transaction", &r->transaction);
	print_times("handshake", &r->handshake);
	print_times(o->rate != 0 ? "due to secured" : "connect to secured", &r->secured);
	print_times(o->rate != 0 ? "due to 221" : "connect to 221", &r->session);
	print_times("whole burst", &r->burst);
	printf("  generator               %.1f %% busy, waited %.1f %% for a processor%s\n",
		100 * busy_share(r), 100 * pushed_share(r),
		is_limited(r) ? ": limited by the generator, the figure is not the server's" : "");
	printf("  limited by              %s\n", limit_of(r, o));
	print_failures(r);
}

/* ---- JSON ---- */

static void add_times(
	yyjson_mut_doc *doc, yyjson_mut_val *to, const char *name, const struct histogram *h)
{
	yyjson_mut_val *v = yyjson_mut_obj_add_obj(doc, to, name);
	yyjson_mut_obj_add_uint(doc, v, "count", h->count);
	yyjson_mut_obj_add_real(doc, v, "mean", histogram_mean(h));
	for (unsigned i = 0; i < PERCENTS; i++)
		yyjson_mut_obj_add_uint(
			doc, v, percent_names[i], histogram_percentile(h, percents[i]));
}

static void add_failures(yyjson_mut_doc *doc, yyjson_mut_val *to, const struct results *r)
{
	yyjson_mut_val *all = yyjson_mut_obj_add_obj(doc, to, "failures");
	for (int i = 0; i < FAILURE_KINDS; i++) {
		if (r->failures[i] == 0)
			continue;
		yyjson_mut_val *v = yyjson_mut_obj_add_obj(doc, all, failure_rows[i].name);
		yyjson_mut_obj_add_uint(doc, v, "count", r->failures[i]);
		yyjson_mut_obj_add_str(doc, v, "first", r->examples[i]);
	}
}

static void print_json(const struct results *r, const struct options *o, const char *transport)
{
	static const char *const commands[] = {"messages", "handshakes", "idle", "sink"};
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *top = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, top);
	yyjson_mut_obj_add_str(doc, top, "command", commands[o->command]);
	yyjson_mut_obj_add_str(doc, top, "transport", transport);
	yyjson_mut_obj_add_uint(doc, top, "connections", o->connections);
	yyjson_mut_obj_add_str(doc, top, "loop",
		o->rate != 0		? "open"
			: o->burst != 0 ? "burst"
					: "closed");
	yyjson_mut_obj_add_real(doc, top, "offered_per_second", o->rate);
	yyjson_mut_obj_add_uint(doc, top, "begun_late", r->begun_late);
	yyjson_mut_obj_add_uint(doc, top, "never_begun", r->missed);
	yyjson_mut_obj_add_uint(doc, top, "burst", o->burst);
	yyjson_mut_obj_add_uint(doc, top, "bursts", r->bursts);
	yyjson_mut_obj_add_uint(doc, top, "message_bytes", o->size);
	yyjson_mut_obj_add_uint(doc, top, "recipients", o->recipients);
	yyjson_mut_obj_add_uint(doc, top, "mails_per_connection", o->mails_per_connection);
	yyjson_mut_obj_add_bool(doc, top, "interrupted", r->is_interrupted);
	yyjson_mut_obj_add_real(doc, top, "seconds", (double)r->wall_us / (double)USEC_PER_SEC);
	yyjson_mut_obj_add_real(doc, top, "generator_busy_share", busy_share(r));
	yyjson_mut_obj_add_real(doc, top, "generator_waited_for_processor_share", pushed_share(r));
	yyjson_mut_obj_add_bool(doc, top, "limited_by_generator", is_limited(r));
	yyjson_mut_obj_add_str(doc, top, "limited_by", limit_of(r, o));
	yyjson_mut_obj_add_uint(doc, top, "messages", r->mails);
	yyjson_mut_obj_add_real(doc, top, "messages_per_second", per_second(r, r->mails));
	yyjson_mut_obj_add_uint(doc, top, "content_bytes", r->content_bytes);
	yyjson_mut_obj_add_uint(doc, top, "sessions", r->sessions);
	yyjson_mut_obj_add_real(doc, top, "sessions_per_second", per_second(r, r->sessions));
	yyjson_mut_obj_add_uint(doc, top, "handshakes", r->handshakes);
	yyjson_mut_obj_add_uint(doc, top, "handshakes_resumed", r->resumed);
	yyjson_mut_obj_add_str(doc, top, "client",
		o->security == BENCH_CLEAR ? "none"
			: o->is_plain	   ? "openssl"
					   : "lean");
	yyjson_mut_obj_add_real(doc, top, "handshakes_per_second", per_second(r, r->handshakes));
	yyjson_mut_obj_add_uint(doc, top, "open", r->open);
	if (r->verdict.is_tls) {
		yyjson_mut_obj_add_str(doc, top, "tls", tls_protocol_name(r->verdict.protocol));
		yyjson_mut_obj_add_str(doc, top, "cipher", r->verdict.cipher);
		yyjson_mut_obj_add_str(doc, top, "group", r->verdict.group);
		yyjson_mut_obj_add_bool(doc, top, "resumed", 2 * r->resumed > r->handshakes);
	}
	yyjson_mut_val *times = yyjson_mut_obj_add_obj(doc, top, "microseconds");
	add_times(doc, times, "end_to_250", &r->end);
	add_times(doc, times, "transaction", &r->transaction);
	add_times(doc, times, "handshake", &r->handshake);
	add_times(doc, times, "session", &r->session);
	add_times(doc, times, "secured", &r->secured);
	add_times(doc, times, "burst", &r->burst);
	add_times(doc, times, "late", &r->late);
	add_failures(doc, top, r);
	char *text = yyjson_mut_write(
		doc, YYJSON_WRITE_PRETTY | YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL);
	puts(text != NULL ? text : "{}");
	free(text);
	yyjson_mut_doc_free(doc);
}

void results_print(const struct results *r, const struct options *o, const char *transport)
{
	if (o->is_json)
		print_json(r, o, transport);
	else
		print_text(r, o, transport);
	fflush(stdout);
}
