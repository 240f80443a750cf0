// SPDX-License-Identifier: Apache-2.0
/* tests/wire/commands.c: the user's calls, looks at the connection and the counters, ICMP, and settings. */
#include "tests/wire/run.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <rte_common.h>

/* ---- events ---- */

static struct flow *flow_of(struct run *r, const struct tcp_conn *c)
{
	struct addr local, remote;
	uint16_t local_port, remote_port;
	tcp_endpoints(c, &local, &local_port, &remote, &remote_port);
	for (unsigned i = 0; i < r->flow_count; i++)
		if (r->flows[i].remote_port == remote_port &&
			(r->flows[i].local_port == local_port || r->flows[i].local_port == 0))
			return &r->flows[i];
	return NULL;
}

void pump_events(struct run *r)
{
	struct tcp_conn *c;
	uint32_t events;
	if (r->stack.is_held)
		return;
	while ((c = tcp_next_event(r->stack.tcp, &events)) != NULL) {
		struct flow *f = flow_of(r, c);
		if (f == NULL)
			fail(r, "an event of a connection that no flow has");
		f->events |= events;
		f->conn = c;
		if (events & TCP_EVENT_ENDED) {
			f->end = tcp_end_reason(c);
			f->conn = NULL;
		}
	}
}

static const struct {
	const char *name;
	uint32_t bit;
} event_names[] = {
	{"accepted",  TCP_EVENT_ACCEPTED },
	{"connected", TCP_EVENT_CONNECTED},
	{"readable",  TCP_EVENT_READABLE },
	{"writable",  TCP_EVENT_WRITABLE },
	{"fin",       TCP_EVENT_FIN      },
	{"ended",     TCP_EVENT_ENDED    },
};

static void format_events(const struct flow *f, char *to, size_t size)
{
	size_t n = 0;
	snprintf(to, size, "none");
	for (size_t i = 0; i < RTE_DIM(event_names); i++)
		if (f->events & event_names[i].bit)
			n += (size_t)snprintf(to + n, size - n, "%s%s%s%s", n > 0 ? " " : "", event_names[i].name,
				event_names[i].bit == TCP_EVENT_ENDED ? " " : "",
				event_names[i].bit == TCP_EVENT_ENDED ? tcp_end_name(f->end) : "");
}

static uint32_t scan_event(struct run *r, const char **p)
{
	for (size_t i = 0; i < RTE_DIM(event_names); i++)
		if (scan_word(p, event_names[i].name))
			return event_names[i].bit;
	fail(r, "no such event: '%s'", *p);
}

/* Exactly these since events were last looked at; "ended" with its reason. */
static void command_event(struct run *r, const char *p)
{
	uint32_t wanted = 0;
	char got[100];
	format_events(r->flow, got, sizeof got);
	if (!scan_word(&p, "none"))
		while (!scan_is_end(&p)) {
			const uint32_t event = scan_event(r, &p);
			wanted |= event;
			if (event == TCP_EVENT_ENDED && (r->flow->events & TCP_EVENT_ENDED) &&
				!scan_word(&p, tcp_end_name(r->flow->end)))
				fail(r, "events\n  expected: %s\n  got:      event %s", r->text, got);
			else if (event == TCP_EVENT_ENDED && !(r->flow->events & TCP_EVENT_ENDED))
				break;
		}
	if (wanted != r->flow->events)
		fail(r, "events\n  expected: %s\n  got:      event %s", r->text, got);
	r->flow->events = 0;
}

/* ---- the user's calls ---- */

static struct tcp_conn *conn_of(struct run *r)
{
	if (r->flow->conn == NULL)
		fail(r, "there is no connection to do that with");
	return r->flow->conn;
}

static void command_listen(struct run *r, const char *p)
{
	const uint16_t port = (uint16_t)(scan_is_end(&p) ? r->flow->local_port : scan_expression(r, &p));
	if (tcp_listen(r->stack.tcp, &r->local, port, 7) != 0)
		fail(r, "tcp_listen() failed");
	r->is_listening = true;
}

static void command_unlisten(struct run *r, const char *p)
{
	const uint16_t port = (uint16_t)(scan_is_end(&p) ? r->flow->local_port : scan_expression(r, &p));
	tcp_unlisten(r->stack.tcp, &r->local, port);
	r->is_listening = false;
}

/* connect [to ADDRESS] [fails] */
static void command_connect(struct run *r, const char *p)
{
	int error;
	struct flow *f = r->flow;
	struct addr remote = r->remote;
	scan_address(r, &p, "to", &remote);
	const bool is_to_fail = scan_word(&p, "fails");
	f->remote_port = 25;
	f->local_port = 0;
	f->conn = tcp_connect(r->stack.tcp, &r->local, &remote, f->remote_port, r, &error, r->stack.now_us);
	if ((f->conn == NULL) != is_to_fail)
		fail(r, "tcp_connect() %s", is_to_fail ? "did not fail" : strerror(-error));
}

static void command_accept(struct run *r, const char *p)
{
	if (!(r->flow->events & TCP_EVENT_ACCEPTED))
		fail(r, "no connection to accept");
	r->flow->events &= ~(uint32_t)TCP_EVENT_ACCEPTED;
}

static void command_write(struct run *r, const char *p)
{
	static uint8_t bytes[STREAM_MAX];
	const int64_t n = scan_expression(r, &p), wanted = scan_number_after(r, &p, "=", n);
	struct tcp_conn *c = conn_of(r);
	if (n < 0 || n > STREAM_MAX)
		fail(r, "nobody writes so much at once");
	for (int64_t i = 0; i < n; i++)
		bytes[i] = stream_byte(r->flow->written_bytes + (uint64_t)i);
	const size_t taken = tcp_write(c, bytes_of(bytes, (size_t)n));
	r->flow->written_bytes += taken;
	if ((int64_t)taken != wanted)
		fail(r, "tcp_write() took %zu", taken);
}

/* Exactly so many bytes are there, the peer's; they are consumed. "most": more may stay. */
static void command_read(struct run *r, const char *p)
{
	int64_t wanted = scan_word(&p, "none") ? 0 : scan_expression(r, &p);
	const bool is_part = scan_word(&p, "part");
	struct tcp_conn *c = conn_of(r);
	const int64_t all = wanted;
	while (wanted > 0) {
		const struct bytes b = bytes_first(tcp_peek(c), (size_t)wanted);
		if (b.n == 0)
			fail(r, "only %lld bytes to read", (long long)(all - wanted));
		for (size_t i = 0; i < b.n; i++)
			if (b.at[i] != stream_byte(r->flow->read_bytes + i))
				fail(r, "byte %llu is not what the peer sent",
					(unsigned long long)(r->flow->read_bytes + i));
		r->flow->read_bytes += b.n;
		wanted -= (int64_t)b.n;
		tcp_consume(c, b.n);
	}
	if (!is_part && tcp_peek(c).n != 0)
		fail(r, "there is more to read");
}

static void command_close(struct run *r, const char *p)
{
	tcp_close(conn_of(r));
}

static void command_keepalive(struct run *r, const char *p)
{
	tcp_set_keepalive(conn_of(r), scan_word(&p, "on"));
}

static void command_user_timeout(struct run *r, const char *p)
{
	tcp_set_user_timeout(conn_of(r), (uint32_t)scan_expression(r, &p));
}

static void command_abort(struct run *r, const char *p)
{
	tcp_abort(conn_of(r));
}

/* ---- what can be seen ---- */

static struct tcp_stats stats_of(const struct run *r)
{
	struct tcp_stats stats;
	tcp_get_stats(r->stack.tcp, &stats);
	return stats;
}

/* RFC 9293's name for where the flow is; the small records are known by their counts only. */
static const char *state_of(const struct run *r)
{
	const struct tcp_stats stats = stats_of(r);
	struct tcp_info info;
	if (r->flow->conn != NULL) {
		tcp_get_info(r->flow->conn, &info);
		return info.state;
	}
	return stats.half_open != 0 ? "SYN-RECEIVED"
		: stats.time_wait != 0 ? "TIME-WAIT" : r->is_listening ? "LISTEN" : "CLOSED";
}

/* What follows the name in small letters is a block's: "ESTABLISHED-data". */
static bool is_state(const char *word, size_t n, const char *state)
{
	const size_t length = strlen(state);
	return n >= length && memcmp(word, state, length) == 0 &&
		(n == length || (n > length + 1 && word[length] == '-' && islower((unsigned char)word[length + 1])));
}

static void command_state(struct run *r, const char *p)
{
	const char *state = state_of(r), *word;
	const size_t n = scan_any(&p, &word);
	if (!is_state(word, n, state))
		fail(r, "state\n  expected: %s\n  got:      %s", r->text, state);
}

static int64_t look_at_info(struct run *r, const char **p)
{
	struct tcp_info info;
	tcp_get_info(conn_of(r), &info);
	const struct {
		const char *name;
		int64_t value;
	} fields[] = {
		{"srtt",	  info.srtt_us	   },
		{"rttvar",        info.rttvar_us	 },
		{"rto",	   info.rto_us	    },
		{"cwnd",	  info.cwnd	      },
		{"ssthresh",      info.ssthresh	  },
		{"snd_wnd",       info.snd_wnd	   },
		{"rcv_wnd",       info.rcv_wnd	   },
		{"mss",	   info.mss	       },
		{"retransmits",   (int64_t)info.retransmits	  },
		{"bytes_in",      (int64_t)info.bytes_in     },
		{"bytes_out",     (int64_t)info.bytes_out    },
		{"send_queue",    (int64_t)info.send_queue   },
		{"receive_queue", (int64_t)info.receive_queue},
	};
	for (size_t i = 0; i < RTE_DIM(fields); i++)
		if (scan_word(p, fields[i].name))
			return fields[i].value;
	fail(r, "tcp_info has no '%s'", *p);
}

static int64_t look_at_count(struct run *r, const char **p)
{
	const struct tcp_stats stats = stats_of(r);
	for (unsigned i = 0; i < tcp_counter_count(); i++)
		if (scan_word(p, tcp_counter_name(i)))
			return (int64_t)tcp_counter(&stats, i);
	fail(r, "tcp_stats has no '%s'", *p);
}

static bool holds(struct run *r, const char **p, int64_t value)
{
	if (scan_word(p, "="))
		return value == scan_expression(r, p);
	if (scan_word(p, "<"))
		return value < scan_expression(r, p);
	if (scan_word(p, ">"))
		return value > scan_expression(r, p);
	if (scan_word(p, "<="))
		return value <= scan_expression(r, p);
	if (scan_word(p, ">="))
		return value >= scan_expression(r, p);
	fail(r, "= < > <= or >= should stand at '%s'", *p);
}

static void judge(struct run *r, const char *p, int64_t value)
{
	if (!holds(r, &p, value))
		fail(r, "a number\n  expected: %s\n  got:      %lld", r->text, (long long)value);
}

static void command_info(struct run *r, const char *p)
{
	const int64_t value = look_at_info(r, &p);
	judge(r, p, value);
}

static void command_count(struct run *r, const char *p)
{
	const int64_t value = look_at_count(r, &p);
	judge(r, p, value);
}

static void command_check(struct run *r, const char *p)
{
	const int64_t value = scan_expression(r, &p);
	judge(r, p, value);
}

static void command_let(struct run *r, const char *p)
{
	const char *name;
	const size_t n = scan_any(&p, &name);
	set_variable(r, name, n, scan_word(&p, "info") ? look_at_info(r, &p)
		: scan_word(&p, "count") ? look_at_count(r, &p) : scan_expression(r, &p));
}

/* So many segments more than the script has claimed so far were dropped for that reason. */
static void command_drop(struct run *r, const char *p)
{
	const struct tcp_stats stats = stats_of(r);
	char got[400] = "";
	for (unsigned i = 0; i < tcp_drop_count(); i++) {
		if (!scan_word(&p, tcp_drop_name(i)))
			continue;
		const uint64_t wanted = scan_is_end(&p) ? 1 : (uint64_t)scan_expression(r, &p);
		const uint64_t count = stats.drops[i] - r->drops[i];
		for (unsigned k = 0; k < tcp_drop_count() && count != wanted; k++)
			if (stats.drops[k] != r->drops[k])
				snprintf(got + strlen(got), sizeof got - strlen(got), " %s %llu", tcp_drop_name(k),
					(unsigned long long)(stats.drops[k] - r->drops[k]));
		if (count != wanted)
			fail(r, "drops\n  expected: %s\n  got:      drop%s", r->text, *got ? got : " none");
		r->drops[i] = stats.drops[i];
		return;
	}
	fail(r, "no such reason: '%s'", p);
}

/* ---- the network ---- */

/* icmp hard|soft|too_big [mtu N] SEQ [bytes N] [port N]: an error that quotes our segment with that number. */
static void command_icmp(struct run *r, const char *p)
{
	uint8_t quoted[20] = {[12] = 0x50, [13] = FLAG_ACK};
	const enum tcp_icmp kind = scan_word(&p, "hard") ? TCP_ICMP_HARD
		: scan_word(&p, "soft") ? TCP_ICMP_SOFT
		: scan_word(&p, "too_big") ? TCP_ICMP_TOO_BIG : (enum tcp_icmp) - 1;
	if ((int)kind == -1)
		fail(r, "hard, soft or too_big");
	const uint32_t mtu = (uint32_t)scan_number_after(r, &p, "mtu", 0);
	const uint32_t seq = (uint32_t)scan_expression(r, &p) + r->flow->iss;
	const size_t n = (size_t)scan_number_after(r, &p, "bytes", 8);
	packet_put(quoted, r->flow->local_port, 2);
	packet_put(quoted + 2, (uint32_t)scan_number_after(r, &p, "port", r->flow->remote_port), 2);
	packet_put(quoted + 4, seq, 4);
	tcp_icmp_error(r->stack.tcp, &r->local, &r->remote, bytes_of(quoted, n < sizeof quoted ? n : sizeof quoted), kind, mtu,
		r->stack.now_us);
}

/* flow NAME [port N] [irs N]: the lines that follow are of another conversation, new or known. With irs a known one
 * begins anew. */
static void command_flow(struct run *r, const char *p)
{
	const char *name;
	const size_t n = scan_any(&p, &name);
	struct flow *f = r->flows;
	while (f < r->flows + r->flow_count && (strlen(f->name) != n || memcmp(f->name, name, n) != 0))
		f++;
	if (f == r->flows + FLOWS_MAX || n == 0 || n >= sizeof f->name)
		fail(r, "no room for another flow, or no name");
	if (f == r->flows + r->flow_count) {
		*f = (struct flow){.local_port = 25, .remote_port = (uint16_t)(40000 + r->flow_count), .irs = 0x70000000};
		memcpy(f->name, name, n);
		r->flow_count++;
	}
	f->remote_port = (uint16_t)scan_number_after(r, &p, "port", f->remote_port);
	if (scan_word(&p, "irs")) {
		f->irs = (uint32_t)scan_expression(r, &p);
		f->is_iss_known = f->is_ts_known = false;
		f->read_bytes = f->written_bytes = 0;
	}
	r->flow = f;
}

static void command_ts(struct run *r, const char *p)
{
	r->has_ts = scan_word(&p, "on");
}

static void command_hold(struct run *r, const char *p)
{
	r->stack.is_held = true;
}

static void command_go(struct run *r, const char *p)
{
	r->stack.is_held = false;
}

static void command_none(struct run *r, const char *p)
{
	/* that nothing was sent is checked before any line but > */
}

static void command_mtu(struct run *r, const char *p)
{
	r->stack.mtu = (uint32_t)scan_expression(r, &p);
}

static const struct {
	const char *name;
	void (*run)(struct run *r, const char *p);
} commands[] = {
	{"listen",   command_listen  },
	{"unlisten", command_unlisten},
	{"connect",  command_connect },
	{"accept",   command_accept  },
	{"write",    command_write   },
	{"read",     command_read    },
	{"close",    command_close   },
	{"abort",    command_abort   },
	{"keepalive", command_keepalive},
	{"user_timeout", command_user_timeout},
	{"event",    command_event   },
	{"state",    command_state   },
	{"info",     command_info    },
	{"count",    command_count   },
	{"check",    command_check   },
	{"let",      command_let     },
	{"drop",     command_drop    },
	{"icmp",     command_icmp    },
	{"flow",     command_flow    },
	{"ts",	     command_ts      },
	{"hold",     command_hold    },
	{"go",	     command_go      },
	{"none",     command_none    },
	{"mtu",	     command_mtu     },
};

void command_run(struct run *r, const char *p)
{
	for (size_t i = 0; i < RTE_DIM(commands); i++)
		if (scan_word(&p, commands[i].name)) {
			commands[i].run(r, p);
			stack_output(&r->stack);
			return;
		}
	fail(r, "no such command: %s", p);
}

/* ---- settings: "! name value" ---- */

void setting_run(struct run *r, const char *p)
{
	const struct {
		const char *name;
		uint32_t *value;
	} settings[] = {
		{"connections", &r->config.connections_max  },
		{"half_open",   &r->config.half_open_max    },
		{"time_wait",   &r->config.time_wait_max    },
		{"receive",     &r->config.receive_bytes_max},
		{"send",	&r->config.send_bytes_max   },
		{"keepalive_probes", &r->config.keepalive_probes},
		{"mtu",	 &r->mtu		     },
		{"win",	 &r->window		  },
		{"irs",	 &r->flow->irs	       },
		{"peer_ts",     &r->ts_base		 },
	};
	for (size_t i = 0; i < RTE_DIM(settings); i++)
		if (scan_word(&p, settings[i].name)) {
			*settings[i].value = (uint32_t)scan_expression(r, &p);
			return;
		}
	if (scan_word(&p, "keepalive")) {
		r->config.is_keepalive_on = scan_word(&p, "on");
	} else if (scan_word(&p, "ecn")) {
		r->config.ecn = scan_word(&p, "on");
	} else if (scan_word(&p, "keepalive_idle")) {
		r->config.keepalive_idle_us = (uint64_t)scan_expression(r, &p) * 1000000;
	} else if (scan_word(&p, "keepalive_interval")) {
		r->config.keepalive_interval_us = (uint64_t)scan_expression(r, &p) * 1000000;
	} else if (scan_word(&p, "buffers")) {
		r->config.buffer_bytes_max = (uint64_t)scan_expression(r, &p);
	} else if (scan_word(&p, "iss") || scan_word(&p, "tsval")) {
		r->wants_iss = p[-1] == 's';
		r->wants_tsval = !r->wants_iss;
		r->wish = (uint32_t)scan_expression(r, &p);
	} else {
		fail(r, "no such setting: %s", p);
	}
}
