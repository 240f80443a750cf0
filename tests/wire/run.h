// SPDX-License-Identifier: Apache-2.0
/* tests/wire/run.h: one case being run: what the files that read its lines share. */
#pragma once

#include <setjmp.h>

#include "tests/wire/script.h"
#include "tests/wire/stack.h"

#define FLOWS_MAX     16
#define VARIABLES_MAX 32
#define STREAM_MAX    (1 << 20) /* bytes of a segment's text, and of what is written at once */

/* One conversation with a peer: the base of its relative numbers, and the connection once there is one. */
struct flow {
	char name[16];
	uint16_t local_port, remote_port; /* 0: chosen by the stack, not known yet */
	uint32_t iss, irs;
	bool is_iss_known;
	uint32_t ts_base; /* our timestamp value at the start of the case */
	bool is_ts_known;
	uint32_t tsval, acked; /* the last from the stack, as they were */
	struct tcp_conn *conn; /* NULL: none, or it has ended */
	uint32_t events;       /* since they were last looked at */
	enum tcp_end end;
	uint64_t read_bytes, written_bytes;
};

/* AGAIN: from the start, at a time that grants a wish. */
enum outcome { OUTCOME_PASSED, OUTCOME_FAILED, OUTCOME_AGAIN };

struct variable {
	char name[24];
	int64_t value;
};

struct run {
	struct stack stack;
	bool is_ipv6;
	struct addr local, remote;
	struct tcp_config config;
	uint32_t mtu;
	uint64_t start_us; /* when the case began */
	uint64_t event_us; /* when the last line happened: times are relative to it */
	/* wishes about what the stack chooses by the clock; the case begins anew at the time that grants them */
	bool wants_iss, wants_tsval;
	uint32_t wish;
	uint64_t shift_us;
	struct flow flows[FLOWS_MAX], *flow;
	unsigned flow_count;
	struct variable variables[VARIABLES_MAX];
	unsigned variable_count;
	bool is_listening;
	bool has_ts;	  /* the peer sends timestamps where a line does not say options */
	uint32_t ts_base; /* the peer's timestamp value at the start of the case */
	uint32_t window;  /* of the peer, where a line does not say */
	bool is_empty;	    /* no line was for this family: it is no case */
	uint64_t drops[64]; /* as claimed by the script so far */
	/* the line being run, and how it ends */
	const struct scripts *scripts;
	const struct line *line;
	const struct line *used_from; /* of the block, if it is in one */
	const char *text;
	char error[1200];
	unsigned depth; /* of blocks */
	jmp_buf ended;	/* with an enum outcome */
};

/* Ends the case as failed; says where. */
[[noreturn, gnu::format(printf, 2, 3)]] void fail(struct run *r, const char *format, ...);

/* ---- scan.c: the words of a line; `*p` moves on ---- */
void scan_blank(const char **p);
bool scan_is_end(const char **p);
/* The word (up to a blank) is this one. */
bool scan_word(const char **p, const char *word);
/* Any word; its length, 0 at the end. */
size_t scan_any(const char **p, const char **word);
bool scan_char(const char **p, char c);
/* Numbers, variables, + - * / and parentheses, without blanks. */
int64_t scan_expression(struct run *r, const char **p);
int64_t scan_number_after(struct run *r, const char **p, const char *word, int64_t otherwise);
void set_variable(struct run *r, const char *name, size_t n, int64_t value);
/* Seconds, with a fraction, in microseconds. */
uint64_t scan_seconds(struct run *r, const char **p);

/* `word ADDRESS`; false: it is not this word. */
bool scan_address(struct run *r, const char **p, const char *word, struct addr *addr);

/* ---- segment.c: lines that begin with < and > ---- */
/* The byte of a stream at `offset` from its first: what both sides send, so that whatever arrives can be checked. */
uint8_t stream_byte(uint64_t offset);
void segment_in(struct run *r, const char *p);
/* What the stack has sent is what the line says. */
void segment_expect(struct run *r, const char *p, const struct sent *sent);
/* Readable, numbers relative as scripts have them. */
const char *segment_format(struct run *r, const struct sent *sent, char *to, size_t size);

/* ---- commands.c ---- */
/* Gathers what the stack has to tell. */
void pump_events(struct run *r);
void command_run(struct run *r, const char *p);
void setting_run(struct run *r, const char *p);

/* ---- run.c ---- */
void run_lines(struct run *r, const struct lines *lines, const struct script *script, unsigned index);
/* True: passed; false: r->error says where and why. */
bool run_case(struct run *r, const struct scripts *all, const struct script *script, unsigned index, bool is_ipv6);
