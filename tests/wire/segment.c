// SPDX-License-Identifier: Apache-2.0
/* tests/wire/segment.c: what a line says of a segment, made into one, or compared with one the stack sent. */
#include "tests/wire/run.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define OPTIONS_MAX 16
#define NUMBERS_MAX 8

enum { KIND_END, KIND_NOP, KIND_MSS, KIND_WSCALE, KIND_SACK_OK, KIND_SACK, KIND_TIMESTAMPS = 8, KIND_RAW = 256 };

struct number {
	bool is_any;	  /* "*" */
	bool is_absolute; /* "=N": not relative to anything */
	int64_t value;
};
struct wish_option {
	int kind;
	struct number numbers[NUMBERS_MAX];
	unsigned count;
	uint8_t raw[PACKET_OPTIONS_MAX];
	unsigned raw_size;
};
/* What a line says of a segment. */
struct wish {
	uint8_t flags;
	struct number seq, length, ack, window, urgent;
	bool has_ack, has_window, has_urgent, has_options;
	bool has_ecn;
	uint8_t ecn;
	bool is_open; /* "...": other options do not matter */
	struct wish_option options[OPTIONS_MAX];
	unsigned option_count;
};

uint8_t stream_byte(uint64_t offset)
{
	return (uint8_t)(offset * 131 + (offset >> 8) * 17 + (offset >> 16));
}

/* ---- reading the line ---- */

static struct number scan_number(struct run *r, const char **p)
{
	scan_blank(p);
	if (scan_char(p, '*'))
		return (struct number){.is_any = true};
	const bool is_absolute = scan_char(p, '=');
	return (struct number){.is_absolute = is_absolute, .value = scan_expression(r, p)};
}

/* SEQ, SEQ(LEN) or SEQ:END(LEN) */
static void scan_sequence(struct run *r, const char **p, struct wish *w)
{
	w->seq = scan_number(r, p);
	const bool has_end = scan_char(p, ':');
	const struct number end = has_end ? scan_number(r, p) : w->seq;
	if (!scan_char(p, '(')) {
		if (has_end && end.value != w->seq.value)
			fail(r, "a length should follow as (%lld)", (long long)(end.value - w->seq.value));
		return;
	}
	w->length = scan_number(r, p);
	if (!scan_char(p, ')'))
		fail(r, "a ) should stand at '%s'", *p);
	if (has_end && !end.is_any && !w->length.is_any && end.value - w->seq.value != w->length.value)
		fail(r, "the length is not that of the sequence numbers");
}

static void scan_raw(struct run *r, const char **p, struct wish_option *o)
{
	scan_blank(p);
	while (isxdigit((unsigned char)(*p)[0]) && isxdigit((unsigned char)(*p)[1])) {
		const char digits[3] = {(*p)[0], (*p)[1], '\0'};
		if (o->raw_size == sizeof o->raw)
			fail(r, "more bytes than options can have");
		o->raw[o->raw_size++] = (uint8_t)strtoul(digits, NULL, 16);
		*p += 2;
	}
}

static bool scan_text(const char **p, const char *text)
{
	scan_blank(p);
	const size_t n = strlen(text);
	if (strncmp(*p, text, n) != 0)
		return false;
	*p += n;
	return true;
}

static void scan_sack(struct run *r, const char **p, struct wish_option *o)
{
	for (scan_blank(p); **p != ',' && **p != '>'; scan_blank(p)) {
		if (o->count + 2 > NUMBERS_MAX)
			fail(r, "more SACK blocks than fit");
		o->numbers[o->count++] = scan_number(r, p);
		if (!scan_char(p, ':'))
			fail(r, "a SACK block is LEFT:RIGHT");
		o->numbers[o->count++] = scan_number(r, p);
	}
}

static void scan_option(struct run *r, const char **p, struct wish *w)
{
	if (w->option_count == OPTIONS_MAX)
		fail(r, "too many options");
	struct wish_option *o = &w->options[w->option_count];
	if (scan_text(p, "...")) {
		w->is_open = true;
		return;
	}
	if (scan_text(p, "mss")) {
		o->kind = KIND_MSS;
		o->numbers[o->count++] = scan_number(r, p);
	} else if (scan_text(p, "wscale")) {
		o->kind = KIND_WSCALE;
		o->numbers[o->count++] = scan_number(r, p);
	} else if (scan_text(p, "sackOK")) {
		o->kind = KIND_SACK_OK;
	} else if (scan_text(p, "sack")) {
		o->kind = KIND_SACK;
		scan_sack(r, p, o);
	} else if (scan_text(p, "TS val")) {
		o->kind = KIND_TIMESTAMPS;
		o->numbers[o->count++] = scan_number(r, p);
		if (!scan_text(p, "ecr"))
			fail(r, "a timestamp option is TS val N ecr N");
		o->numbers[o->count++] = scan_number(r, p);
	} else if (scan_text(p, "nop")) {
		o->kind = KIND_NOP;
	} else if (scan_text(p, "eol")) {
		o->kind = KIND_END;
	} else if (scan_text(p, "raw")) {
		o->kind = KIND_RAW;
		scan_raw(r, p, o);
	} else {
		fail(r, "no such option at '%s'", *p);
	}
	w->option_count++;
}

static void scan_options(struct run *r, const char **p, struct wish *w)
{
	w->has_options = true;
	if (scan_text(p, ">"))
		return;
	do
		scan_option(r, p, w);
	while (scan_text(p, ","));
	if (!scan_text(p, ">"))
		fail(r, "a > should stand at '%s'", *p);
}

static void scan_segment(struct run *r, const char **p, struct wish *w)
{
	const char *flags;
	const size_t n = scan_any(p, &flags);
	memset(w, 0, sizeof *w);
	if (!packet_parse_flags(flags, n, &w->flags))
		fail(r, "flags should stand at '%s'", flags);
	scan_sequence(r, p, w);
	if ((w->has_ack = scan_word(p, "ack")))
		w->ack = scan_number(r, p);
	if ((w->has_window = scan_word(p, "win")))
		w->window = scan_number(r, p);
	if ((w->has_urgent = scan_word(p, "urg")))
		w->urgent = scan_number(r, p);
	if (scan_text(p, "<"))
		scan_options(r, p, w);
}

/* ---- a segment from the peer ---- */

static uint32_t case_ms(const struct run *r, uint64_t now_us)
{
	return (uint32_t)(now_us / 1000 - r->start_us / 1000);
}

static uint32_t absolute(const struct number *n, uint32_t base)
{
	return (uint32_t)n->value + (n->is_absolute ? 0 : base);
}

static uint8_t *put_timestamps(const struct run *r, uint8_t *p, const struct number *val, const struct number *ecr)
{
	p = packet_put(p, KIND_TIMESTAMPS << 8 | 10, 2);
	p = packet_put(p, val->is_any ? r->ts_base + case_ms(r, r->stack.now_us) : absolute(val, r->ts_base), 4);
	return packet_put(p, ecr->is_any ? r->flow->tsval : absolute(ecr, r->flow->ts_base), 4);
}

static uint8_t *put_option(struct run *r, uint8_t *p, const struct wish_option *o)
{
	const uint32_t first = (uint32_t)o->numbers[0].value;
	switch (o->kind) {
	case KIND_END:
	case KIND_NOP: return packet_put(p, (uint32_t)o->kind, 1);
	case KIND_MSS: return packet_put(packet_put(p, KIND_MSS << 8 | 4, 2), first, 2);
	case KIND_WSCALE: return packet_put(packet_put(p, KIND_WSCALE << 8 | 3, 2), first, 1);
	case KIND_SACK_OK: return packet_put(p, KIND_SACK_OK << 8 | 2, 2);
	case KIND_TIMESTAMPS: return put_timestamps(r, p, &o->numbers[0], &o->numbers[1]);
	case KIND_SACK:
		p = packet_put(p, KIND_SACK << 8 | (2 + 4 * o->count), 2);
		for (unsigned i = 0; i < o->count; i++)
			p = packet_put(p, absolute(&o->numbers[i], r->flow->iss), 4);
		return p;
	default: memcpy(p, o->raw, o->raw_size); return p + o->raw_size;
	}
}

static void put_options(struct run *r, const struct wish *w, struct packet *packet)
{
	uint8_t bytes[OPTIONS_MAX * 60], *p = bytes;
	const struct number any = {.is_any = true};
	for (unsigned i = 0; i < w->option_count; i++)
		p = put_option(r, p, &w->options[i]);
	if (!w->has_options && r->has_ts)
		p = put_timestamps(r, packet_put(p, 0x0101, 2), &any, &any);
	packet->options_size = (unsigned)(p - bytes);
	if (packet->options_size > PACKET_OPTIONS_MAX)
		fail(r, "options of %u bytes do not fit", packet->options_size);
	memcpy(packet->options, bytes, packet->options_size);
}

/* What may be odd about it; any order. */
static void scan_oddities(struct run *r, const char **p, struct packet *packet, uint8_t *ecn, bool *is_other)
{
	while (!scan_is_end(p)) {
		if (scan_word(p, "badsum"))
			packet->is_sum_wrong = true;
		else if (scan_word(p, "otherdata"))
			*is_other = true;
		else if (scan_word(p, "offset"))
			packet->offset = (int)scan_expression(r, p);
		else if (scan_word(p, "reserved"))
			packet->reserved = (uint8_t)scan_expression(r, p);
		else if (scan_word(p, "cut"))
			packet->cut = (unsigned)scan_expression(r, p);
		else if (scan_word(p, "from"))
			packet->from = (uint16_t)scan_expression(r, p);
		else if (scan_word(p, "to"))
			packet->to = (uint16_t)scan_expression(r, p);
		else if (scan_word(p, "ecn"))
			*ecn = (uint8_t)scan_expression(r, p);
		else if (!scan_address(r, p, "src", &packet->source) &&
			!scan_address(r, p, "dst", &packet->destination))
			fail(r, "nothing known at '%s'", *p);
	}
}

void segment_in(struct run *r, const char *p)
{
	static uint8_t text[PACKET_MAX], bytes[PACKET_MAX + 64];
	struct wish w;
	uint8_t ecn = 0;
	bool is_other = false;
	scan_segment(r, &p, &w);
	if (w.length.value < 0 || w.length.value > PACKET_MAX - 64)
		fail(r, "no segment has that length");
	struct packet packet = {
		.source = r->remote,
		.destination = r->local,
		.from = r->flow->remote_port,
		.to = r->flow->local_port,
		.seq = absolute(&w.seq, r->flow->irs),
		.ack = w.has_ack ? absolute(&w.ack, r->flow->iss) : 0,
		.flags = w.flags,
		.window = (uint16_t)(w.has_window ? w.window.value : r->window),
		.urgent = (uint16_t)w.urgent.value,
		.text = bytes_of(text, (size_t)w.length.value),
		.offset = -1,
	};
	put_options(r, &w, &packet);
	scan_oddities(r, &p, &packet, &ecn, &is_other);
	const uint32_t first = packet.seq - r->flow->irs - 1;
	for (size_t i = 0; i < packet.text.n; i++)
		text[i] = stream_byte(first + (uint32_t)i) ^ (is_other ? 0xff : 0);
	const size_t n = packet_encode(&packet, bytes);
	stack_in(&r->stack, &packet.destination, &packet.source, bytes_of(bytes, n), ecn);
}

/* ---- segments from the stack ---- */

static struct number relative(uint32_t value, uint32_t base)
{
	return (struct number){.value = (int32_t)(value - base)};
}

/* A received option in the form of a wish. */
static struct wish_option read_option(const struct run *r, const struct option *o)
{
	struct wish_option to = {.kind = o->kind};
	const uint8_t *v = o->value.at;
	if (o->kind == KIND_MSS && o->value.n == 2) {
		to.numbers[to.count++].value = packet_get(v, 2);
	} else if (o->kind == KIND_WSCALE && o->value.n == 1) {
		to.numbers[to.count++].value = *v;
	} else if (o->kind == KIND_TIMESTAMPS && o->value.n == 8) {
		to.numbers[to.count++] = relative(packet_get(v, 4), r->flow->ts_base);
		const uint32_t ecr = packet_get(v + 4, 4);
		to.numbers[to.count++] = ecr == 0 ? (struct number){.is_absolute = true} : relative(ecr, r->ts_base);
	} else if (o->kind == KIND_SACK && o->value.n % 8 == 0 && o->value.n <= 32) {
		for (unsigned i = 0; i < o->value.n / 4; i++)
			to.numbers[to.count++] = relative(packet_get(v + 4 * i, 4), r->flow->irs);
	} else if (!(o->kind == KIND_SACK_OK && o->value.n == 0)) {
		to.kind = KIND_RAW;
	}
	return to;
}

static size_t format_option(const struct wish_option *o, char *to, size_t size)
{
	const long long a = o->numbers[0].value, b = o->numbers[1].value;
	size_t n = 0;
	switch (o->kind) {
	case KIND_MSS: return (size_t)snprintf(to, size, "mss %lld", a);
	case KIND_WSCALE: return (size_t)snprintf(to, size, "wscale %lld", a);
	case KIND_SACK_OK: return (size_t)snprintf(to, size, "sackOK");
	case KIND_TIMESTAMPS: return (size_t)snprintf(to, size, "TS val %lld ecr %lld", a, b);
	case KIND_SACK:
		n = (size_t)snprintf(to, size, "sack");
		for (unsigned i = 0; i + 1 < o->count; i += 2)
			n += (size_t)snprintf(to + n, size - n, " %lld:%lld", (long long)o->numbers[i].value,
				(long long)o->numbers[i + 1].value);
		return n;
	default: return (size_t)snprintf(to, size, "(malformed or unknown)");
	}
}

const char *segment_format(struct run *r, const struct sent *sent, char *to, size_t size)
{
	struct packet p;
	char flags[10];
	const char *wrong = packet_decode(&p, &sent->local, &sent->remote, bytes_of(sent->bytes, sent->n));
	if (wrong != NULL) {
		snprintf(to, size, "a segment of %zu bytes with %s", sent->n, wrong);
		return to;
	}
	const long long seq = relative(p.seq, r->flow->iss).value;
	size_t n = (size_t)snprintf(to, size, "%s %lld:%lld(%zu) ack %lld win %u", packet_flags(p.flags, flags), seq,
		seq + (long long)p.text.n, p.text.n,
		p.flags & FLAG_ACK ? (long long)relative(p.ack, r->flow->irs).value : (long long)p.ack, p.window);
	struct option option;
	const char *separator = " <";
	for (unsigned at = 0; packet_option(&p, &at, &option) && n + 160 < size; separator = ",") {
		const struct wish_option o = read_option(r, &option);
		n += (size_t)snprintf(to + n, size - n, "%s", separator);
		n += format_option(&o, to + n, size - n);
	}
	n += (size_t)snprintf(to + n, size - n, "%s", *separator == ',' ? ">" : "");
	if (sent->ecn != 0)
		n += (size_t)snprintf(to + n, size - n, " ecn %u", sent->ecn);
	snprintf(to + n, size - n, " at %.6f s",
		(double)(sent->time_us - r->start_us) / 1e6);
	return to;
}

[[noreturn]] static void differs(struct run *r, const char *what, const struct sent *sent)
{
	char text[500];
	fail(r, "%s\n  expected: %s\n  got:      > %s", what, r->text,
		segment_format(r, sent, text, sizeof text));
}

static bool is_same(const struct number *wanted, uint32_t got, uint32_t base)
{
	return wanted->is_any || absolute(wanted, base) == got;
}

static bool is_same_option(const struct wish_option *wanted, const struct wish_option *got)
{
	if (wanted->kind != got->kind || wanted->count != got->count)
		return false;
	for (unsigned i = 0; i < wanted->count; i++) {
		const struct number *w = &wanted->numbers[i], *g = &got->numbers[i];
		if (!w->is_any && (w->value != g->value || w->is_absolute != g->is_absolute))
			return false;
	}
	return true;
}

static void compare_options(struct run *r, const struct wish *w, const struct packet *p, const struct sent *sent)
{
	struct wish_option got[PACKET_OPTIONS_MAX];
	struct option option;
	unsigned count = 0, wanted = 0;
	for (unsigned at = 0; packet_option(p, &at, &option);)
		got[count++] = read_option(r, &option);
	for (unsigned i = 0; i < w->option_count; i++) {
		unsigned k = 0;
		if (w->options[i].kind == KIND_NOP || w->options[i].kind == KIND_END)
			continue;
		wanted++;
		while (k < count && !is_same_option(&w->options[i], &got[k]))
			k++;
		if (k == count)
			differs(r, "other options", sent);
	}
	if (!w->is_open && wanted != count)
		differs(r, "more options than expected", sent);
}

/* What the first segments of a conversation tell: our ISS, port and timestamp clock. */
static void learn(struct run *r, const struct wish *w, const struct packet *p, const struct sent *sent)
{
	struct flow *f = r->flow;
	struct option o;
	if (f->local_port == 0)
		f->local_port = p->from;
	if ((p->flags & FLAG_SYN) && !f->is_iss_known) {
		f->is_iss_known = true;
		f->iss = p->seq - (uint32_t)w->seq.value;
		if (r->wants_iss && f->iss != r->wish) {
			r->shift_us += (uint64_t)(r->wish - f->iss) * 4; /* RFC 6528: the clock ticks each 4 us */
			longjmp(r->ended, OUTCOME_AGAIN);
		}
	}
	for (unsigned at = 0; packet_option(p, &at, &o);) {
		if (o.kind != KIND_TIMESTAMPS || o.value.n != 8)
			continue;
		f->tsval = packet_get(o.value.at, 4);
		if (!f->is_ts_known)
			f->ts_base = f->tsval - case_ms(r, sent->time_us);
		if (r->wants_tsval && !f->is_ts_known && f->tsval != r->wish) {
			r->shift_us += (uint64_t)(r->wish - f->tsval) * 1000;
			longjmp(r->ended, OUTCOME_AGAIN);
		}
		f->is_ts_known = true;
	}
}

static void compare_text(struct run *r, const struct packet *p, const struct sent *sent)
{
	const uint32_t first = p->seq - r->flow->iss - 1;
	for (size_t i = 0; i < p->text.n; i++)
		if (p->text.at[i] != stream_byte(first + (uint32_t)i))
			differs(r, "these are not the bytes that were written", sent);
}

void segment_expect(struct run *r, const char *line, const struct sent *sent)
{
	struct wish w;
	struct packet p;
	scan_segment(r, &line, &w);
	if ((w.has_ecn = scan_word(&line, "ecn")))
		w.ecn = (uint8_t)scan_expression(r, &line);
	if (!scan_is_end(&line))
		fail(r, "nothing known at '%s'", line);
	const char *wrong = packet_decode(&p, &sent->local, &sent->remote, bytes_of(sent->bytes, sent->n));
	if (wrong != NULL)
		differs(r, wrong, sent);
	if (!addr_equal(&sent->local, &r->local) || !addr_equal(&sent->remote, &r->remote) ||
		p.to != r->flow->remote_port || (r->flow->local_port != 0 && p.from != r->flow->local_port))
		differs(r, "to or from somebody else", sent);
	learn(r, &w, &p, sent);
	if ((p.flags & ~FLAG_PSH) != (w.flags & ~FLAG_PSH) || (w.flags & ~p.flags & FLAG_PSH))
		differs(r, "other flags", sent);
	if (!is_same(&w.seq, p.seq, r->flow->iss))
		differs(r, "another sequence number", sent);
	if (!w.length.is_any && (int64_t)p.text.n != w.length.value)
		differs(r, "another length", sent);
	if (w.has_ack && !is_same(&w.ack, p.ack, r->flow->irs))
		differs(r, "another acknowledgement", sent);
	if (w.has_window && !is_same(&w.window, p.window, 0))
		differs(r, "another window", sent);
	if (w.has_urgent && !is_same(&w.urgent, p.urgent, 0))
		differs(r, "another urgent pointer", sent);
	if (w.has_options)
		compare_options(r, &w, &p, sent);
	if (sent->ecn != w.ecn && (w.has_ecn || !r->config.ecn))
		differs(r, "other ECN bits", sent);
	compare_text(r, &p, sent);
}
