// SPDX-License-Identifier: Apache-2.0
/* tests/wire/run.c: runs the lines of a case: their times, loops, blocks and families. */
#include "tests/wire/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define START_US     1000000000ull
#define LATE_US      2000u /* a tick of the timer wheel, and what times lose by being rounded to it */
#define FOR_EVER_US  (400ull * 24 * 3600 * 1000000)
#define BLOCKS_DEEP  8

void fail(struct run *r, const char *format, ...)
{
	va_list arguments;
	size_t n = (size_t)snprintf(r->error, sizeof r->error, "%s:%d: ", r->line->file, r->line->number);
	if (r->used_from != NULL)
		n += (size_t)snprintf(r->error + n, sizeof r->error - n, "(used from %s:%d) ", r->used_from->file,
			r->used_from->number);
	va_start(arguments, format);
	vsnprintf(r->error + n, sizeof r->error - n, format, arguments);
	va_end(arguments);
	if (strstr(r->error, "expected:") == NULL)
		snprintf(r->error + strlen(r->error), sizeof r->error - strlen(r->error), "\n  in: %s", r->text);
	longjmp(r->ended, OUTCOME_FAILED);
}

/* ---- time ---- */

struct when {
	enum { NOW, AFTER, BETWEEN, WHENEVER, AT } kind;
	uint64_t from_us, to_us;
};

/* +SECONDS, +FROM~TO, +?, @SECONDS, or nothing */
static struct when scan_when(struct run *r, const char **p)
{
	struct when w = {NOW, r->event_us, r->event_us};
	if (scan_char(p, '@')) {
		w.kind = AT;
		w.from_us = w.to_us = r->start_us + scan_seconds(r, p);
	} else if (scan_char(p, '+')) {
		if (scan_char(p, '?')) {
			w.kind = WHENEVER;
			w.to_us += FOR_EVER_US;
			return w;
		}
		w.kind = AFTER;
		const uint64_t from = scan_seconds(r, p);
		w.to_us += from;
		w.from_us += from;
		if (scan_char(p, '~')) {
			w.kind = BETWEEN;
			w.to_us = r->event_us + scan_seconds(r, p);
		}
	}
	return w;
}

static void expect_silence(struct run *r)
{
	char text[500];
	const struct sent *sent = stack_sent(&r->stack);
	if (sent != NULL)
		fail(r, "a segment that was not expected\n  expected: (nothing) %s\n  got:      > %s", r->text,
			segment_format(r, sent, text, sizeof text));
}

static void wait_until(struct run *r, uint64_t us)
{
	if (us < r->stack.now_us)
		fail(r, "that time has passed");
	stack_run(&r->stack, us, true);
	pump_events(r);
	expect_silence(r);
	r->event_us = r->stack.now_us;
}

/* ---- lines ---- */

static void expect_sent(struct run *r, const struct when *w, const char *p)
{
	const struct sent *sent = stack_sent(&r->stack);
	if (sent == NULL && w->kind != NOW) {
		stack_run(&r->stack, w->to_us + LATE_US, true);
		sent = stack_sent(&r->stack);
	}
	if (sent == NULL)
		fail(r, "nothing was sent\n  expected: %s", r->text);
	segment_expect(r, p, sent);
	const uint64_t least = w->kind == NOW || w->kind == WHENEVER ? 0 : w->from_us;
	if (sent->time_us < least || sent->time_us > w->to_us + (w->kind == NOW ? 0 : LATE_US))
		fail(r, "another time\n  expected: %s\n  got:      after %.6f s", r->text,
			((double)sent->time_us - (double)r->event_us) / 1e6);
	r->event_us = sent->time_us;
	stack_sent_pop(&r->stack);
	pump_events(r);
}

static bool is_for_us(const struct run *r, const char **p)
{
	if (strncmp(*p, "v4: ", 4) != 0 && strncmp(*p, "v6: ", 4) != 0)
		return true;
	const bool is_ours = ((*p)[1] == '6') == r->is_ipv6;
	*p += 4;
	scan_blank(p);
	return is_ours;
}

static void run_block(struct run *r, const char *p, const struct script *script, unsigned index)
{
	const char *name;
	const size_t n = scan_any(&p, &name);
	const struct block *b = scripts_block(r->scripts, name, n);
	const struct line *before = r->used_from;
	if (b == NULL)
		fail(r, "no such block");
	if (r->depth >= BLOCKS_DEEP)
		fail(r, "blocks use each other too deeply");
	r->used_from = r->line;
	r->depth++;
	run_lines(r, &b->body, script, index);
	r->depth--;
	r->used_from = before;
}

static void run_line(struct run *r, const char *p, const struct script *script, unsigned index)
{
	if (!is_for_us(r, &p) || *p == '\0')
		return;
	r->text = p;
	r->is_empty = false;
	if (scan_char(&p, '!')) {
		setting_run(r, p);
		return;
	}
	const struct when w = scan_when(r, &p);
	scan_blank(&p);
	if (scan_word(&p, ">")) {
		if (scan_word(&p, "...")) { /* whatever it sends until then */
			stack_run(&r->stack, w.to_us > r->stack.now_us ? w.to_us : r->stack.now_us, false);
			r->event_us = r->stack.now_us;
			pump_events(r);
			while (stack_sent(&r->stack) != NULL)
				stack_sent_pop(&r->stack);
			return;
		}
		if (!scan_word(&p, "none")) {
			expect_sent(r, &w, p);
			return;
		}
		p = "none";
	}
	if (w.kind == WHENEVER || w.kind == BETWEEN)
		fail(r, "only what the stack sends can come at a time not known");
	wait_until(r, w.kind == NOW ? r->stack.now_us : w.to_us);
	if (scan_word(&p, "use"))
		run_block(r, p, script, index);
	else if (scan_word(&p, "<"))
		segment_in(r, p);
	else if (!scan_is_end(&p))
		command_run(r, p);
	pump_events(r);
}

/* The line that ends the loop which begins behind `at`. */
static size_t find_end(struct run *r, const struct lines *lines, size_t at)
{
	for (unsigned depth = 1; at < lines->count; at++) {
		const char *p = lines->at[at].text;
		if (scan_word(&p, "repeat"))
			depth++;
		else if (scan_word(&p, "end") && --depth == 0)
			return at;
	}
	fail(r, "no end of the loop");
}

static void run_some(struct run *r, const struct lines *lines, size_t from, size_t to, const struct script *script,
	unsigned index);

static void run_loop(struct run *r, const char *p, const struct lines *lines, size_t from, size_t to,
	const struct script *script, unsigned index)
{
	const int64_t times = scan_expression(r, &p);
	for (int64_t i = 0; i < times; i++) {
		set_variable(r, "i", 1, i);
		run_some(r, lines, from, to, script, index);
	}
}

static void run_some(struct run *r, const struct lines *lines, size_t from, size_t to, const struct script *script,
	unsigned index)
{
	for (size_t i = from; i < to; i++) {
		char filled[LINE_MAX_BYTES];
		r->line = &lines->at[i];
		r->text = r->line->text;
		if (!script_fill(script, index, r->line, filled))
			continue;
		const char *p = filled;
		if (scan_word(&p, "repeat")) {
			const size_t end = find_end(r, lines, i + 1);
			run_loop(r, p, lines, i + 1, end, script, index);
			i = end;
			continue;
		}
		for (char *one = filled, *next; one != NULL; one = next) { /* " ; " parts lines, for tables' sake */
			next = strstr(one, " ; ");
			if (next != NULL)
				*next = '\0', next += 3;
			r->line = &lines->at[i];
			p = one;
			scan_blank(&p);
			run_line(r, p, script, index);
		}
	}
}

void run_lines(struct run *r, const struct lines *lines, const struct script *script, unsigned index)
{
	run_some(r, lines, 0, lines->count, script, index);
}

/* ---- a case ---- */

static bool is_setting(const struct line *line)
{
	const char *p = line->text;
	if (strncmp(p, "v4: ", 4) == 0 || strncmp(p, "v6: ", 4) == 0)
		p += 4;
	return *p == '!';
}

/* Settings come before the stack is made: they stand at the head of the file or of the case. */
static size_t run_settings(struct run *r, const struct lines *lines, const struct script *script, unsigned index)
{
	size_t n = 0;
	while (n < lines->count && is_setting(&lines->at[n]))
		n++;
	run_some(r, lines, 0, n, script, index);
	return n;
}

static void prepare(struct run *r)
{
	const uint32_t headers = r->is_ipv6 ? 60 : 40;
	addr_parse(r->is_ipv6 ? "2001:db8::1" : "192.0.2.1", &r->local);
	addr_parse(r->is_ipv6 ? "2001:db8:1::9" : "198.51.100.9", &r->remote);
	r->config = stack_config();
	r->mtu = 1500;
	r->window = 60000;
	r->ts_base = 700000;
	r->flow_count = 1;
	r->flow = &r->flows[0];
	*r->flow = (struct flow){.name = "a", .local_port = 25, .remote_port = 40000,
		.irs = 0xfffffff0}; /* wraps soon */
	set_variable(r, "V6", 2, r->is_ipv6);
	set_variable(r, "HEADERS", 7, headers);
	set_variable(r, "MSS", 3, 1500 - headers);
	set_variable(r, "PORT", 4, 40000);
}

static void run_body(struct run *r, const struct script *script, unsigned index)
{
	const struct lines *heads = &r->scripts->heads[script->defaults];
	run_settings(r, heads, script, index);
	const size_t settings = run_settings(r, &script->body, script, index);
	set_variable(r, "MSS", 3, r->mtu - (r->is_ipv6 ? 60 : 40));
	set_variable(r, "RCVBUF", 6, r->config.receive_bytes_max);
	r->start_us = r->event_us = START_US + r->shift_us;
	stack_open(&r->stack, &r->config, r->mtu, r->start_us);
	r->is_empty = true;
	run_some(r, &script->body, settings, script->body.count, script, index);
	expect_silence(r);
}

static enum outcome attempt(struct run *r, const struct script *script, unsigned index)
{
	const int ended = setjmp(r->ended);
	if (ended != 0)
		return (enum outcome)ended;
	prepare(r);
	run_body(r, script, index);
	return OUTCOME_PASSED;
}

bool run_case(struct run *r, const struct scripts *all, const struct script *script, unsigned index, bool is_ipv6)
{
	enum outcome outcome = OUTCOME_AGAIN;
	uint64_t shift_us = 0;
	for (unsigned tries = 0; outcome == OUTCOME_AGAIN && tries < 3; tries++) {
		struct sent *sent = r->stack.sent;
		memset(r, 0, sizeof *r);
		r->stack.sent = sent;
		r->shift_us = shift_us;
		r->is_ipv6 = is_ipv6;
		r->scripts = all;
		r->line = &script->title;
		r->text = script->title.text;
		outcome = attempt(r, script, index);
		shift_us = r->shift_us;
		const char *wrong = r->stack.tcp == NULL ? NULL : stack_close(&r->stack);
		if (outcome == OUTCOME_PASSED && wrong != NULL) {
			snprintf(r->error, sizeof r->error, "%s:%d: %s", script->title.file, script->title.number, wrong);
			outcome = OUTCOME_FAILED;
		}
	}
	return outcome == OUTCOME_PASSED;
}
