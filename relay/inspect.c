// SPDX-License-Identifier: Apache-2.0
#include "relay/inspect.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "control/link.h"
#include "relay/answer.h"
#include "relay/watch.h"

#define REQUESTS_MAX 32 /* waiting; control has 64 threads that may ask */
#define CENSUS_US    10000000
#define ANSWER_BYTES (LINK_MESSAGE_MAX - 8192)
#define ROW_BYTES    900 /* of a row's JSON without its names */

struct request {
	struct request *next;
	yyjson_doc *doc;
	yyjson_val *root;
	uint64_t token;
	const struct op *op;
	unsigned watch; /* of an internal request: which to switch off */
};

struct inspect {
	struct relay *relay;
	struct request *first, **last; /* the first is the one under way */
	unsigned count;
	bool is_begun;
	unsigned core; /* to which something is lent */
	struct note *answers, **answers_last;
	/* What a request needs while it is under way. */
	union {
		struct look_list list;
		struct look_end end;
		struct look_watch watch;
	};
	yyjson_mut_doc *doc;
	yyjson_mut_val *items;
	size_t bytes;
	unsigned limit, rows;
	/* A trace and a capture at most; `is_on`: the workers have it. */
	struct {
		struct watch *watch;
		bool is_on;
	} watches[2];
	/* The census goes on beside requests, when the box of its core is empty. */
	struct look_census censuses[DP_CORES_MAX], census;
	unsigned census_core;
	bool is_census_lent;
	uint64_t census_us;
};

struct op {
	const char *name;
	void (*begin)(struct inspect *i, struct request *r);
	void (*back)(struct inspect *i, struct request *r); /* what was lent has come back */
};

static void add_request(struct inspect *i, struct request *r)
{
	*i->last = r;
	i->last = &r->next;
	i->count++;
}

/* ---- answers ---- */

static void push_answer(struct inspect *i, struct note *note)
{
	if (note == NULL)
		return; /* no memory: whoever asked runs into its own time limit */
	note->next = NULL;
	*i->answers_last = note;
	i->answers_last = &note->next;
}

struct note *inspect_answer(struct inspect *i)
{
	struct note *note = i->answers;
	if (note == NULL)
		return NULL;
	i->answers = note->next;
	if (i->answers == NULL)
		i->answers_last = &i->answers;
	return note;
}

static void end_request(struct inspect *i, struct note *answer)
{
	struct request *r = i->first;
	push_answer(i, answer);
	i->first = r->next;
	if (i->first == NULL)
		i->last = &i->first;
	i->count--;
	i->is_begun = false;
	yyjson_doc_free(r->doc);
	free(r);
}

static void refuse(struct inspect *i, const char *why)
{
	end_request(i, answer_refuse(i->first->token, why));
}

static struct worker *worker_of(const struct inspect *i)
{
	return i->relay->workers[i->core];
}

/* ---- names of connections: "CORE.PLACE.CHECK" ---- */

static void format_id(char text[40], unsigned core, uint64_t id)
{
	snprintf(text, 40, "%u.%u.%08x", core, (unsigned)(id >> 32), (unsigned)id);
}

static bool parse_id(const char *text, unsigned cores, unsigned *core, uint64_t *id)
{
	unsigned place, check;
	int n = 0;
	if (text == NULL || sscanf(text, "%4u.%10u.%8x%n", core, &place, &check, &n) != 3 || text[n] != '\0')
		return false;
	*id = (uint64_t)place << 32 | check;
	return *core < cores;
}

/* ---- connections.list ---- */

static unsigned state_of(const char *name)
{
	for (unsigned i = 0; tcp_state_name(i) != NULL; i++)
		if (strcasecmp(tcp_state_name(i), name) == 0)
			return i;
	return UINT32_MAX;
}

/* NULL, or what is wrong. */
static const char *read_filter(yyjson_val *root, struct look_filter *f)
{
	const char *state = yyjson_get_str(yyjson_obj_get(root, "state"));
	const char *peer = yyjson_get_str(yyjson_obj_get(root, "peer"));
	const char *direction = yyjson_get_str(yyjson_obj_get(root, "direction"));
	*f = (struct look_filter){.state = UINT32_MAX, .port = (uint16_t)yyjson_get_uint(yyjson_obj_get(root, "port"))};
	if (state != NULL && (f->state = state_of(state)) == UINT32_MAX)
		return "state: expected a state of RFC 9293, as ESTABLISHED or FIN-WAIT-1";
	if (peer != NULL && !prefix_parse(peer, &f->peer))
		return "peer: expected an address or a prefix, as 192.0.2.0/24";
	if (direction != NULL && strcmp(direction, "in") != 0 && strcmp(direction, "out") != 0)
		return "direction: expected in or out";
	f->direction = direction == NULL ? LOOK_BOTH : direction[0] == 'i' ? LOOK_IN : LOOK_OUT;
	return NULL;
}

static void lend_list(struct inspect *i)
{
	i->list.errand.step = look_list_step;
	i->list.limit = i->limit - i->rows < LOOK_ROWS ? i->limit - i->rows : LOOK_ROWS;
	i->list.count = 0;
	worker_lend(worker_of(i), &i->list.errand);
}

static void list_begin(struct inspect *i, struct request *r)
{
	yyjson_val *limit = yyjson_obj_get(r->root, "limit");
	const char *after = yyjson_get_str(yyjson_obj_get(r->root, "after"));
	int n = 0;
	unsigned core = 0, cursor = 0;
	const char *wrong = read_filter(r->root, &i->list.filter);
	if (after != NULL && (sscanf(after, "%4u.%10u%n", &core, &cursor, &n) != 2 || after[n] != '\0' ||
				     core >= i->relay->cores))
		wrong = "after: expected what an answer had as its \"next\"";
	if (wrong != NULL) {
		refuse(i, wrong);
		return;
	}
	i->core = core;
	i->list.cursor = cursor;
	i->list.has_remnants = yyjson_get_bool(yyjson_obj_get(r->root, "all"));
	i->rows = 0;
	i->limit = yyjson_is_uint(limit) && yyjson_get_uint(limit) < UINT16_MAX && yyjson_get_uint(limit) > 0
		? (unsigned)yyjson_get_uint(limit)
		: UINT16_MAX;
	i->bytes = 0;
	i->doc = answer_new(r->token, true);
	i->items = yyjson_mut_obj_add_arr(i->doc, yyjson_mut_doc_get_root(i->doc), "items");
	lend_list(i);
}

static void add_above(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct look_row *row)
{
	if (row->phase != NULL) {
		yyjson_mut_obj_add_str(doc, item, "phase", row->phase);
		yyjson_mut_obj_add_real(doc, item, "age", (double)row->age_us / 1e6);
	}
	if (row->listener != NULL)
		yyjson_mut_obj_add_str(doc, item, "listener", row->listener);
	if (row->name[0] != '\0')
		answer_add(doc, item, "name", bytes_of_string(row->name));
	if (row->domain[0] != '\0')
		answer_add(doc, item, "domain", bytes_of_string(row->domain));
	if (row->tls != NULL) {
		yyjson_mut_obj_add_str(doc, item, "tls", row->tls);
		yyjson_mut_obj_add_str(doc, item, "cipher", row->cipher);
	}
}

static void add_numbers(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct tcp_info *t)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {{"rtt_us", t->srtt_us}, {"rttvar_us", t->rttvar_us}, {"rto_us", t->rto_us}, {"cwnd", t->cwnd},
		{"ssthresh", t->ssthresh}, {"mss", t->mss}, {"send_window", t->snd_wnd}, {"receive_window", t->rcv_wnd},
		{"retransmits", t->retransmits}, {"bytes_in", t->bytes_in}, {"bytes_out", t->bytes_out},
		{"send_queue", t->send_queue}, {"receive_queue", t->receive_queue}};
	for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
		yyjson_mut_obj_add_uint(doc, item, numbers[k].name, numbers[k].value);
}

static void add_row(struct inspect *i, const struct look_row *row)
{
	char id[40], address[ADDR_TEXT_MAX];
	yyjson_mut_doc *doc = i->doc;
	yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, i->items);
	format_id(id, i->core, row->id);
	if (!row->is_remnant)
		yyjson_mut_obj_add_strcpy(doc, item, "id", id);
	yyjson_mut_obj_add_uint(doc, item, "core", i->core);
	if (!row->is_remnant)
		yyjson_mut_obj_add_str(doc, item, "direction", row->tcp.is_active ? "out" : "in");
	yyjson_mut_obj_add_str(doc, item, "state", row->tcp.state);
	yyjson_mut_obj_add_strcpy(doc, item, "local", addr_format(&row->local, address));
	yyjson_mut_obj_add_uint(doc, item, "local_port", row->local_port);
	yyjson_mut_obj_add_strcpy(doc, item, "remote", addr_format(&row->remote, address));
	yyjson_mut_obj_add_uint(doc, item, "remote_port", row->remote_port);
	if (row->is_remnant) {
		yyjson_mut_obj_add_real(doc, item, "until", (double)row->until_us / 1e6);
	} else {
		add_numbers(doc, item, &row->tcp);
		yyjson_mut_obj_add_real(doc, item, "idle", (double)row->idle_us / 1e6);
		add_above(doc, item, row);
	}
	/* A peer's byte takes six in JSON at most. */
	i->bytes += ROW_BYTES + 6 * (strlen(row->name) + strlen(row->domain));
	i->rows++;
}

/* How many there are of each core, told with the first page. */
static void add_counts(struct inspect *i)
{
	yyjson_mut_val *list = yyjson_mut_obj_add_arr(i->doc, yyjson_mut_doc_get_root(i->doc), "counts");
	for (unsigned core = 0; core < i->relay->cores; core++) {
		struct tcp_stats s;
		yyjson_mut_val *one = yyjson_mut_arr_add_obj(i->doc, list);
		tcp_get_stats(i->relay->workers[core]->tcp, &s);
		yyjson_mut_obj_add_uint(i->doc, one, "core", core);
		yyjson_mut_obj_add_uint(i->doc, one, "connections", s.connections);
		yyjson_mut_obj_add_uint(i->doc, one, "half_open", s.half_open);
		yyjson_mut_obj_add_uint(i->doc, one, "time_wait", s.time_wait);
	}
}

static void finish_list(struct inspect *i, struct request *r, bool has_more)
{
	char next[40];
	yyjson_mut_val *root = yyjson_mut_doc_get_root(i->doc);
	snprintf(next, sizeof next, "%u.%u", i->core, i->list.cursor);
	if (has_more)
		yyjson_mut_obj_add_strcpy(i->doc, root, "next", next);
	if (yyjson_obj_get(r->root, "after") == NULL)
		add_counts(i);
	end_request(i, answer_finish(i->doc));
}

static void list_back(struct inspect *i, struct request *r)
{
	unsigned k = 0;
	for (; k < i->list.count && i->bytes < ANSWER_BYTES - ROW_BYTES - 6 * 256; k++)
		add_row(i, &i->list.rows[k]);
	if (k < i->list.count) { /* the message is full: the rest is copied anew */
		i->list.cursor = k == 0 ? i->list.cursor : i->list.cursors[k - 1];
		finish_list(i, r, true);
		return;
	}
	if (!i->list.has_more) {
		i->core++;
		i->list.cursor = 0;
	}
	if (i->core == i->relay->cores || i->rows == i->limit)
		finish_list(i, r, i->core != i->relay->cores);
	else
		lend_list(i);
}

/* ---- connections.end ---- */

static void end_begin(struct inspect *i, struct request *r)
{
	i->end = (struct look_end){.errand = {look_end_step}};
	if (!parse_id(yyjson_get_str(yyjson_obj_get(r->root, "id")), i->relay->cores, &i->core, &i->end.id))
		refuse(i, "id: not one of a connection");
	else
		worker_lend(worker_of(i), &i->end.errand);
}

static void end_back(struct inspect *i, struct request *r)
{
	if (i->end.is_found)
		end_request(i, answer_finish(answer_new(r->token, true)));
	else
		refuse(i, "there is no such connection (any more)");
}

/* ---- watching: 0 is the trace, 1 the capture ---- */

static unsigned which(const struct request *r)
{
	return r->op->name[0] == 'c';
}

static void lend_watch(struct inspect *i, unsigned k, bool is_on)
{
	watch_fill_errand(i->watches[k].watch, i->core, is_on, &i->watch);
	worker_lend(worker_of(i), &i->watch.errand);
}

static void start_begin(struct inspect *i, struct request *r)
{
	char error[160];
	unsigned k = which(r);
	if (i->watches[k].watch != NULL) {
		refuse(i, "another one is under way; it ends some seconds after its reader has gone");
		return;
	}
	i->watches[k].watch = watch_create(i->relay, k == 1, r->root, time_monotonic_us(), error);
	if (i->watches[k].watch == NULL) {
		refuse(i, error);
		return;
	}
	i->core = 0;
	lend_watch(i, k, true);
}

static void start_back(struct inspect *i, struct request *r)
{
	unsigned k = which(r);
	if (i->core + 1 < i->relay->cores) {
		i->core++;
		lend_watch(i, k, true);
		return;
	}
	i->watches[k].is_on = true;
	yyjson_mut_doc *doc = answer_new(r->token, true);
	yyjson_mut_obj_add_uint(doc, yyjson_mut_doc_get_root(doc), "id", watch_id(i->watches[k].watch));
	end_request(i, answer_finish(doc));
}

static bool is_meant(const struct inspect *i, const struct request *r, unsigned k)
{
	return i->watches[k].watch != NULL &&
		watch_id(i->watches[k].watch) == yyjson_get_uint(yyjson_obj_get(r->root, "id"));
}

static void read_begin(struct inspect *i, struct request *r)
{
	unsigned k = which(r);
	if (!is_meant(i, r, k)) {
		refuse(i, "it has ended");
		return;
	}
	yyjson_mut_doc *doc = answer_new(r->token, true);
	if (watch_read(i->watches[k].watch, !i->watches[k].is_on, doc, time_monotonic_us()))
		watch_end(i->watches[k].watch);
	end_request(i, answer_finish(doc));
}

/* By its reader, or (without a token) because it is over: the workers let go of it. */
static void stop_begin(struct inspect *i, struct request *r)
{
	unsigned k = r->root == NULL ? r->watch : which(r);
	if (r->root != NULL && !is_meant(i, r, k)) {
		refuse(i, "it has ended");
		return;
	}
	i->core = 0;
	lend_watch(i, k, false);
}

static void stop_back(struct inspect *i, struct request *r)
{
	unsigned k = r->root == NULL ? r->watch : which(r);
	if (i->core + 1 < i->relay->cores) {
		i->core++;
		lend_watch(i, k, false);
		return;
	}
	i->watches[k].is_on = false;
	if (r->root == NULL) {
		end_request(i, NULL);
		return;
	}
	watch_destroy(i->watches[k].watch);
	i->watches[k].watch = NULL;
	end_request(i, answer_finish(answer_new(r->token, true)));
}

static const struct op op_off = {"", stop_begin, stop_back};

/* Switches off what is over, and drops what nobody will read. */
static void watches_turn(struct inspect *i, uint64_t now_us)
{
	for (unsigned k = 0; k < 2 && i->first == NULL; k++) {
		struct watch *w = i->watches[k].watch;
		if (w == NULL)
			continue;
		if (i->watches[k].is_on && watch_is_over(w, now_us)) {
			struct request *r = calloc(1, sizeof *r);
			if (r == NULL)
				return;
			*r = (struct request){.op = &op_off, .watch = k};
			add_request(i, r);
		} else if (!i->watches[k].is_on && watch_is_forgotten(w, now_us)) {
			watch_destroy(w);
			i->watches[k].watch = NULL;
		}
	}
}

/* ---- requests ---- */

static const struct op ops[] = {
	{"connections.list", list_begin, list_back},
	{"connections.end", end_begin, end_back},
	{"trace.start", start_begin, start_back},
	{"trace.read", read_begin, NULL},
	{"trace.stop", stop_begin, stop_back},
	{"capture.start", start_begin, start_back},
	{"capture.read", read_begin, NULL},
	{"capture.stop", stop_begin, stop_back},
};

static const struct op *find_op(const char *name)
{
	for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
		if (strcmp(ops[k].name, name) == 0)
			return &ops[k];
	return NULL;
}

bool inspect_knows(const char *op)
{
	return find_op(op) != NULL;
}

void inspect_request(struct inspect *i, const char *json, size_t n)
{
	struct request *r = calloc(1, sizeof *r);
	yyjson_doc *doc = yyjson_read(json, n, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	const char *op = yyjson_get_str(yyjson_obj_get(root, "op"));
	uint64_t token = yyjson_get_uint(yyjson_obj_get(root, "token"));
	if (r == NULL || op == NULL || find_op(op) == NULL || i->count == REQUESTS_MAX) {
		push_answer(i, answer_refuse(token, "too many requests wait"));
		yyjson_doc_free(doc);
		free(r);
		return;
	}
	*r = (struct request){.doc = doc, .root = root, .token = token, .op = find_op(op)};
	add_request(i, r);
}

bool inspect_is_busy(const struct inspect *i)
{
	return i->first != NULL;
}

/* ---- the census ---- */

static void census_turn(struct inspect *i, uint64_t now_us)
{
	if (i->is_census_lent) {
		if (!worker_is_back(i->relay->workers[i->census_core]))
			return;
		i->censuses[i->census_core++] = i->census;
		i->is_census_lent = false;
	}
	if (i->census_core == i->relay->cores) {
		i->census_core = 0;
		i->census_us = now_us + CENSUS_US;
	}
	if (now_us < i->census_us || i->first != NULL)
		return;
	i->census = (struct look_census){.errand = {look_census_step}};
	i->is_census_lent = worker_lend(i->relay->workers[i->census_core], &i->census.errand);
}

const struct look_census *inspect_census(const struct inspect *i, unsigned core)
{
	return &i->censuses[core];
}

/* ---- the whole ---- */

void inspect_turn(struct inspect *i, uint64_t now_us)
{
	watches_turn(i, now_us);
	census_turn(i, now_us);
	if (i->first == NULL || i->is_census_lent)
		return;
	if (!i->is_begun) {
		i->is_begun = true;
		i->first->op->begin(i, i->first);
	} else if (worker_is_back(worker_of(i))) {
		i->first->op->back(i, i->first);
	}
}

struct inspect *inspect_create(struct relay *relay)
{
	struct inspect *i = calloc(1, sizeof *i);
	if (i == NULL)
		return NULL;
	i->relay = relay;
	i->last = &i->first;
	i->answers_last = &i->answers;
	return i;
}

void inspect_destroy(struct inspect *i)
{
	if (i->is_begun && i->doc != NULL && i->first->op->back == list_back)
		yyjson_mut_doc_free(i->doc);
	while (i->first != NULL)
		end_request(i, NULL);
	for (unsigned k = 0; k < 2; k++)
		if (i->watches[k].watch != NULL)
			watch_destroy(i->watches[k].watch);
	for (struct note *note; (note = inspect_answer(i)) != NULL;)
		free(note);
	free(i);
}
