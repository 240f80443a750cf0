// SPDX-License-Identifier: Apache-2.0
#include "relay/watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "control/link.h"
#include "dataplane/capture.h"
#include "dataplane/tcp/trace.h"
#include "relay/answer.h"

#define TRACE_TAPE	  (2u << 20) /* of a core: some 9,000 events */
#define CAPTURE_TAPE	  (8u << 20) /* of a core: some 5,000 full packets */
#define SECONDS_OTHERWISE 60
#define SECONDS_MOST	  3600
#define COUNT_OTHERWISE	  10000
#define COUNT_MOST	  100000000
#define FORGOTTEN_US	  (10 * USEC_PER_SEC)
#define ANSWER_BYTES	  (LINK_MESSAGE_MAX - 8192)
#define EVENT_BYTES	  640 /* of one in JSON, at most */
#define PACKET_BYTES	  160 /* of one in JSON, without its data */

struct watch {
	bool is_capture;
	unsigned cores;
	struct dp_capture *captures[DP_CORES_MAX];
	struct tcp_trace *traces[DP_CORES_MAX];
	struct tape *tapes[DP_CORES_MAX];
	uint64_t id, ends_us, read_us; /* read: when it was last */
	uint64_t wall_us; /* to be added to a time of the workers */
	uint64_t left;	  /* entries that may still be told */
};

/* ---- its life ---- */

static uint64_t number_of(yyjson_val *root, const char *name, uint64_t most, uint64_t otherwise)
{
	uint64_t n = yyjson_get_uint(yyjson_obj_get(root, name));
	return n == 0 ? otherwise : n > most ? most : n;
}

static bool make_traces(struct watch *w, yyjson_val *root, char error[160])
{
	struct prefix peer = {};
	const char *text = yyjson_get_str(yyjson_obj_get(root, "peer"));
	uint16_t port = (uint16_t)yyjson_get_uint(yyjson_obj_get(root, "port"));
	if (text != NULL && !prefix_parse(text, &peer)) {
		snprintf(error, 160, "peer: expected an address or a prefix, as 192.0.2.0/24");
		return false;
	}
	for (unsigned i = 0; i < w->cores; i++) {
		w->traces[i] = tcp_trace_create(&peer, port, TRACE_TAPE);
		if (w->traces[i] == NULL)
			return false;
		w->tapes[i] = tcp_trace_tape(w->traces[i]);
	}
	return true;
}

/* [[code,jt,jf,k],…]; its length, or -1. */
static int read_filter(yyjson_val *list, struct dp_filter filter[DP_CAPTURE_FILTER_MAX])
{
	size_t index, count;
	yyjson_val *one;
	if (yyjson_arr_size(list) > DP_CAPTURE_FILTER_MAX)
		return -1;
	yyjson_arr_foreach(list, index, count, one)
	{
		uint64_t v[4];
		for (unsigned k = 0; k < 4; k++)
			v[k] = yyjson_get_uint(yyjson_arr_get(one, k));
		if (yyjson_arr_size(one) != 4 || v[0] > UINT16_MAX || v[1] > UINT8_MAX || v[2] > UINT8_MAX ||
			v[3] > UINT32_MAX)
			return -1;
		filter[index] = (struct dp_filter){(uint16_t)v[0], (uint8_t)v[1], (uint8_t)v[2], (uint32_t)v[3]};
	}
	return (int)yyjson_arr_size(list);
}

static int find_port(const struct config *config, const char *name)
{
	for (unsigned i = 0; name != NULL && i < config->dataplane.ports_count; i++)
		if (strcmp(config->dataplane.ports[i].name, name) == 0)
			return (int)i;
	return -1;
}

static bool make_captures(struct watch *w, const struct config *config, yyjson_val *root, char error[160])
{
	struct dp_filter filter[DP_CAPTURE_FILTER_MAX];
	const char *name = yyjson_get_str(yyjson_obj_get(root, "port"));
	int port = find_port(config, name), count = read_filter(yyjson_obj_get(root, "filter"), filter), rc = 0;
	uint32_t bytes = (uint32_t)number_of(root, "bytes", DP_CAPTURE_BYTES_MAX, DP_CAPTURE_BYTES_MAX);
	if (port < 0) {
		snprintf(error, 160, "port: expected the name of a port (dataplane.ports)");
		return false;
	}
	for (unsigned i = 0; i < w->cores && rc == 0 && count >= 0; i++) {
		rc = dp_capture_create(&w->captures[i], (unsigned)port, bytes, filter, (unsigned)count, CAPTURE_TAPE);
		if (rc == 0)
			w->tapes[i] = dp_capture_tape(w->captures[i]);
	}
	if (rc == -EINVAL || count < 0)
		snprintf(error, 160, "filter: not a valid program of %u instructions at most", DP_CAPTURE_FILTER_MAX);
	return rc == 0 && count >= 0;
}

struct watch *watch_create(struct relay *relay, bool is_capture, yyjson_val *root, uint64_t now_us, char error[160])
{
	static uint64_t last_id;
	struct watch *w = calloc(1, sizeof *w);
	snprintf(error, 160, "out of memory");
	if (w == NULL)
		return NULL;
	*w = (struct watch){.is_capture = is_capture,
		.cores = relay->cores,
		.id = ++last_id,
		.ends_us = now_us + number_of(root, "seconds", SECONDS_MOST, SECONDS_OTHERWISE) * USEC_PER_SEC,
		.read_us = now_us,
		.wall_us = time_wall_us() - now_us,
		.left = number_of(root, "count", COUNT_MOST, COUNT_OTHERWISE)};
	if (is_capture ? make_captures(w, relay->config, root, error) : make_traces(w, root, error))
		return w;
	watch_destroy(w);
	return NULL;
}

void watch_destroy(struct watch *w)
{
	for (unsigned i = 0; i < w->cores; i++) {
		dp_capture_destroy(w->captures[i]);
		tcp_trace_destroy(w->traces[i]);
	}
	free(w);
}

uint64_t watch_id(const struct watch *w)
{
	return w->id;
}

void watch_fill_errand(const struct watch *w, unsigned core, bool is_on, struct look_watch *errand)
{
	*errand = (struct look_watch){.errand = {look_watch_step},
		.is_capture = w->is_capture,
		.capture = is_on ? w->captures[core] : NULL,
		.trace = is_on ? w->traces[core] : NULL};
}

bool watch_is_over(const struct watch *w, uint64_t now_us)
{
	return now_us >= w->ends_us || w->left == 0 || watch_is_forgotten(w, now_us);
}

bool watch_is_forgotten(const struct watch *w, uint64_t now_us)
{
	return now_us >= w->read_us + FORGOTTEN_US;
}

void watch_end(struct watch *w)
{
	w->ends_us = 0;
}

/* ---- entries ---- */

static void add_endpoints(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct tcp_trace_event *e)
{
	char address[ADDR_TEXT_MAX];
	yyjson_mut_obj_add_strcpy(doc, item, "local", addr_format(&e->local, address));
	yyjson_mut_obj_add_uint(doc, item, "local_port", e->local_port);
	yyjson_mut_obj_add_strcpy(doc, item, "remote", addr_format(&e->remote, address));
	yyjson_mut_obj_add_uint(doc, item, "remote_port", e->remote_port);
}

/* As tcpdump writes them: "S", "F.", "P." */
static void add_flags(yyjson_mut_doc *doc, yyjson_mut_val *item, uint8_t flags)
{
	static const char letters[] = "FSRP.UEW";
	char text[9];
	unsigned n = 0;
	for (unsigned i = 0; i < 8; i++)
		if (flags & 1u << i)
			text[n++] = letters[i];
	text[n] = '\0';
	yyjson_mut_obj_add_strcpy(doc, item, "flags", text);
}

static void add_segment(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct tcp_trace_event *e)
{
	add_flags(doc, item, e->flags);
	yyjson_mut_obj_add_uint(doc, item, "seq", e->seq);
	yyjson_mut_obj_add_uint(doc, item, "ack", e->ack);
	yyjson_mut_obj_add_uint(doc, item, "length", e->len);
	yyjson_mut_obj_add_uint(doc, item, "window", e->window);
	if (e->has_ts) {
		yyjson_mut_obj_add_uint(doc, item, "tsval", e->tsval);
		yyjson_mut_obj_add_uint(doc, item, "tsecr", e->tsecr);
	}
	if (e->why != NULL)
		yyjson_mut_obj_add_str(doc, item, "again", e->why);
	yyjson_mut_val *sacks = e->sack_count == 0 ? NULL : yyjson_mut_obj_add_arr(doc, item, "sack");
	for (unsigned i = 0; i < e->sack_count; i++) {
		yyjson_mut_val *block = yyjson_mut_arr_add_arr(doc, sacks);
		yyjson_mut_arr_add_uint(doc, block, e->sack[i][0]);
		yyjson_mut_arr_add_uint(doc, block, e->sack[i][1]);
	}
}

static void add_cc(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct tcp_trace_event *e)
{
	yyjson_mut_obj_add_uint(doc, item, "cwnd", e->cwnd);
	yyjson_mut_obj_add_uint(doc, item, "ssthresh", e->ssthresh);
	yyjson_mut_obj_add_uint(doc, item, "rtt_us", e->srtt_us);
	yyjson_mut_obj_add_uint(doc, item, "rto_us", e->rto_us);
	yyjson_mut_obj_add_uint(doc, item, "flight", e->flight);
}

static void add_event(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct tcp_trace_event *e)
{
	static const char *const names[] = {"in", "out", "drop", "state", "timer", "cc"};
	add_endpoints(doc, item, e);
	yyjson_mut_obj_add_str(doc, item, "event", names[e->kind]);
	switch ((enum tcp_trace_kind)e->kind) {
	case TCP_TRACE_IN:
	case TCP_TRACE_OUT: add_segment(doc, item, e); break;
	case TCP_TRACE_DROP: yyjson_mut_obj_add_str(doc, item, "reason", e->why); break;
	case TCP_TRACE_STATE:
		yyjson_mut_obj_add_str(doc, item, "from", e->from);
		yyjson_mut_obj_add_str(doc, item, "to", e->to);
		break;
	case TCP_TRACE_TIMER: yyjson_mut_obj_add_str(doc, item, "timer", e->why); break;
	case TCP_TRACE_CC: add_cc(doc, item, e); break;
	}
}

static void add_packet(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct dp_captured *p)
{
	yyjson_mut_obj_add_bool(doc, item, "out", p->is_out);
	yyjson_mut_obj_add_uint(doc, item, "length", p->length);
	answer_add_base64(doc, item, "data", bytes_of((const uint8_t *)(p + 1), p->kept));
}

/* ---- reading ---- */

/* Both kinds of entry begin with their time. */
static uint64_t time_of(struct bytes entry)
{
	static_assert(offsetof(struct tcp_trace_event, at_us) == 0 && offsetof(struct dp_captured, at_us) == 0);
	return *(const uint64_t *)(const void *)entry.at;
}

/* The core whose next entry is the oldest; -1: there are none. */
static int oldest(struct watch *w)
{
	int found = -1;
	uint64_t at_us = 0;
	for (unsigned i = 0; i < w->cores; i++) {
		struct bytes entry = tape_peek(w->tapes[i]);
		if (entry.at == NULL || (found >= 0 && time_of(entry) >= at_us))
			continue;
		found = (int)i;
		at_us = time_of(entry);
	}
	return found;
}

static size_t size_in_json(const struct watch *w, struct bytes entry)
{
	return w->is_capture ? PACKET_BYTES + entry.n / 3 * 4 + 8 : EVENT_BYTES;
}

bool watch_read(struct watch *w, bool is_off, yyjson_mut_doc *doc, uint64_t now_us)
{
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, w->is_capture ? "packets" : "events");
	uint64_t lost = 0;
	size_t bytes = 0;
	int core;
	w->read_us = now_us;
	while (w->left > 0 && (core = oldest(w)) >= 0) {
		struct bytes entry = tape_peek(w->tapes[core]);
		bytes += size_in_json(w, entry);
		if (bytes > ANSWER_BYTES)
			break;
		yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);
		yyjson_mut_obj_add_uint(doc, item, "time_us", time_of(entry) + w->wall_us);
		yyjson_mut_obj_add_uint(doc, item, "core", (uint64_t)core);
		if (w->is_capture)
			add_packet(doc, item, (const struct dp_captured *)(const void *)entry.at);
		else
			add_event(doc, item, (const struct tcp_trace_event *)(const void *)entry.at);
		tape_pop(w->tapes[core]);
		w->left--;
	}
	for (unsigned i = 0; i < w->cores; i++)
		lost += tape_lost(w->tapes[i]);
	bool is_last = w->left == 0 || (is_off && oldest(w) < 0);
	yyjson_mut_obj_add_uint(doc, root, "lost", lost);
	yyjson_mut_obj_add_bool(doc, root, "over", is_last);
	return is_last;
}
