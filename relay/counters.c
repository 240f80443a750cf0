// SPDX-License-Identifier: Apache-2.0
/* relay/counters.c: every counter of the relay, from its owner's memory into the shared region. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "relay/attach.h"
#include "relay/inspect.h"
#include "relay/look.h"

/* Of all cores; more than there are series, since some are told only once they are not 0. */
#define CELLS_MAX (4 * STATS_SERIES_MAX)

/* Every round sets the same series in the same order, so each is looked for by its name only in the first. */
struct counters {
	struct relay *relay;
	struct stats_region *region;
	const struct inspect *inspect;
	_Atomic uint64_t *cells[CELLS_MAX];
	unsigned at; /* of this round: the next cell */
};

static void set(struct counters *c, const char *name, const char *label, const char *help, bool is_gauge, uint64_t value)
{
	if (c->at == CELLS_MAX)
		return;
	if (c->cells[c->at] == NULL)
		c->cells[c->at] = stats_add(c->region, name, label, help, is_gauge);
	_Atomic uint64_t *cell = c->cells[c->at++];
	if (cell != NULL)
		atomic_store_explicit(cell, value, memory_order_relaxed);
}

static void update_worker(struct counters *c, const struct worker *w, const char *label)
{
#define _(name, help)                                                                                \
	set(c, "hikyaku_" #name, label, help, false,                                                 \
		atomic_load_explicit(&w->counters.name, memory_order_relaxed));
	WORKER_COUNTERS(_)
#undef _
	set(c, "hikyaku_connections", label, "Connections open, both ways", true, atomic_load(&w->connections));
	set(c, "hikyaku_records_lost", label, "Records lost because the main thread could not keep up", false,
		atomic_load(&w->records.lost));
}

struct handshake_visit {
	struct counters *c;
	const char *core;
};

static void set_handshake(void *user, const char *name, const char *labels, const char *help, bool is_rare, uint64_t value)
{
	struct handshake_visit *v = user;
	char all[STATS_LABEL_MAX];
	if (is_rare && value == 0) {
		v->c->at++;
		return;
	}
	snprintf(all, sizeof all, "%s,%s", v->core, labels);
	set(v->c, name, all, help, false, value);
}

static void update_handshakes(struct counters *c, const struct worker *w, const char *label)
{
	struct handshake_visit v = {.c = c, .core = label};
	handshake_visit(&w->handshake_counters, set_handshake, &v);
	set(c, "hikyaku_handshakes_in_flight", label, "TLS handshakes in flight", true,
		atomic_load_explicit(&w->handshakes_in_flight, memory_order_relaxed));
	set(c, "hikyaku_handshake_budgets_forgotten", label,
		"Clients whose handshakes were counted anew for want of room in the table", false,
		atomic_load_explicit(&w->budget.forgotten, memory_order_relaxed));
}

static uint64_t word(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void update_parts(struct counters *c, const struct worker *w, const char *core)
{
	static const char *const names[] = {
#define _(id, name) name,
		PARTS(_)
#undef _
	};
	char label[STATS_LABEL_MAX];
	for (unsigned part = 0; part < PART_COUNT; part++) {
		snprintf(label, sizeof label, "%.60s,part=\"%s\"", core, names[part]);
		set(c, "hikyaku_tls_microseconds", label, "Time the core spent in TLS, by part", false,
			(uint64_t)((double)atomic_load_explicit(&w->part_cycles[part], memory_order_relaxed) * 1e6 /
				(double)rte_get_tsc_hz()));
	}
}

static void update_ops(struct counters *c, const struct tls_offload_counters *o, enum tls_op_kind kind, const char *core)
{
	static const char batches[] = "Batches of asymmetric operations, by how many were done together";
	static const char spent[] = "Time spent on asymmetric operations that may be offloaded, in batches and one at a time";
	char label[STATS_LABEL_MAX], more[STATS_LABEL_MAX];
	snprintf(label, sizeof label, "%.60s,op=\"%s\"", core, tls_op_name(kind));
	set(c, "hikyaku_tls_offload_ops", label, "Asymmetric operations that waited for a back end", false,
		word(&o->kind[kind].ops));
	set(c, "hikyaku_tls_offload_scalar", label, "Asymmetric operations done by OpenSSL one at a time", false,
		word(&o->kind[kind].scalar));
	set(c, "hikyaku_tls_offload_faults", label, "Results of a back end that were wrong, and done again", false,
		word(&o->kind[kind].faults));
	for (unsigned n = 0; n < 8; n++) {
		snprintf(more, sizeof more, "%.90s,size=\"%u\"", label, n + 1);
		set(c, "hikyaku_tls_offload_batches", more, batches, false, word(&o->kind[kind].batches[n]));
	}
	snprintf(more, sizeof more, "%.90s,how=\"batch\"", label);
	set(c, "hikyaku_tls_offload_microseconds", more, spent, false, word(&o->kind[kind].batch_ns) / 1000);
	snprintf(more, sizeof more, "%.90s,how=\"scalar\"", label);
	set(c, "hikyaku_tls_offload_microseconds", more, spent, false, word(&o->kind[kind].scalar_ns) / 1000);
}

static void update_offload(struct counters *c, const struct worker *w, const char *label)
{
	const struct tls_offload_counters *o = tls_lib_counters(w->tls_lib);
	for (unsigned kind = 0; kind < TLS_OP_KIND_COUNT; kind++)
		update_ops(c, o, (enum tls_op_kind)kind, label);
	set(c, "hikyaku_tls_offload_cancelled", label, "Operations whose handshake was closed meanwhile", false,
		word(&o->cancelled));
	set(c, "hikyaku_tls_offload_lost", label, "Operations that the engine's thread did not give back in time", false,
		word(&o->lost));
	set(c, "hikyaku_tls_offload_no_fibre", label, "Handshakes that did not wait, for want of a fibre", false,
		word(&o->no_fibre));
	set(c, "hikyaku_tls_offload_no_op", label, "Operations done at once, for want of room", false, word(&o->no_op));
	set(c, "hikyaku_tls_keys_ahead", label, "Ephemeral X25519 keys made ahead of their use", false, word(&o->keys));
	set(c, "hikyaku_tls_keys_ahead_microseconds", label, "Time spent on those keys", false, word(&o->keys_ns) / 1000);
	update_parts(c, w, label);
}

static void update_dataplane(struct counters *c, const struct worker *w, const char *label)
{
	char name[STATS_NAME_MAX];
	uint64_t busy_us, slept_us, turns;
	for (unsigned i = 0; i < dp_counter_count(); i++) {
		snprintf(name, sizeof name, "hikyaku_net_%s", dp_counter_name(i));
		set(c, name, label, dp_counter_help(i), false, dp_counter(w->core, i));
	}
	dp_core_times(w->core, &busy_us, &slept_us, &turns);
	set(c, "hikyaku_core_busy_microseconds", label, "Time the core did something", false, busy_us);
	set(c, "hikyaku_core_slept_microseconds", label, "Time the core slept", false, slept_us);
	set(c, "hikyaku_core_turns", label, "Turns of the core's loop", false, turns);
}

static void update_tcp(struct counters *c, const struct worker *w, const char *label)
{
	char name[STATS_NAME_MAX];
	struct tcp_stats s;
	tcp_get_stats(w->tcp, &s);
	for (unsigned i = 0; i < tcp_counter_count(); i++) {
		snprintf(name, sizeof name, "hikyaku_tcp_%s", tcp_counter_name(i));
		set(c, name, label, tcp_counter_help(i), tcp_counter_is_gauge(i), tcp_counter(&s, i));
	}
	for (unsigned i = 0; i < tcp_drop_count(); i++) {
		snprintf(name, sizeof name, "hikyaku_tcp_drop_%s", tcp_drop_name(i));
		set(c, name, label, tcp_drop_help(i), false, s.drops[i]);
	}
}

/* Counted by walking all connections, so only some times a minute. */
static void update_census(struct counters *c, unsigned core)
{
	static const char states[] = "TCP connections by state, as last counted (every 10 s)";
	static const char rtts[] = "TCP connections whose smoothed round trip is at most le seconds, as last counted";
	const struct look_census *census = inspect_census(c->inspect, core);
	char label[STATS_LABEL_MAX];
	uint64_t sum = 0;
	for (unsigned i = 0; i < LOOK_STATES && tcp_state_name(i) != NULL; i++) {
		snprintf(label, sizeof label, "core=\"%u\",state=\"%s\"", core, tcp_state_name(i));
		set(c, "hikyaku_tcp_state", label, states, true, census->states[i]);
	}
	for (unsigned i = 0; i < LOOK_RTTS; i++) {
		char le[16] = "+Inf";
		if (look_rtt_us[i] != UINT32_MAX)
			snprintf(le, sizeof le, "%g", look_rtt_us[i] / 1e6);
		snprintf(label, sizeof label, "core=\"%u\",le=\"%s\"", core, le);
		sum += census->rtts[i];
		set(c, "hikyaku_tcp_rtt", label, rtts, true, sum);
	}
}

static void update_queue(struct counters *c)
{
	struct queue_stats copy;
	const struct queue_stats *s = &copy;
	words_copy(&copy, &c->relay->queue.stats, sizeof copy);
	static const char help[] = "Deliveries waiting in the queue, by state";
	set(c, "hikyaku_queue_mails", "", "Mails in the queue", true, s->mails);
	set(c, "hikyaku_queue_items", "state=\"routing\"", help, true, s->routing);
	set(c, "hikyaku_queue_items", "state=\"ready\"", help, true, s->ready);
	set(c, "hikyaku_queue_items", "state=\"loading\"", help, true, s->loading);
	set(c, "hikyaku_queue_items", "state=\"active\"", help, true, s->active);
	set(c, "hikyaku_queue_items", "state=\"waiting\"", help, true, s->waiting);
	set(c, "hikyaku_queue_items", "state=\"held\"", help, true, s->held);
	set(c, "hikyaku_recipients_delivered", "", "Recipients delivered", false, s->delivered);
	set(c, "hikyaku_recipients_deferred", "", "Recipients deferred, each time", false, s->deferred);
	set(c, "hikyaku_recipients_bounced", "", "Recipients given up", false, s->bounced);
	set(c, "hikyaku_recipients_removed", "", "Recipients removed by an operator", false, s->removed);
	set(c, "hikyaku_dsns", "", "Delivery status notifications made", false, s->dsns);
}

static void update_crypto(struct counters *c)
{
	struct tls_crypto_counters n;
	tls_crypto_get_counters(&n);
	set(c, "hikyaku_tls_crypto_ops", "", "Operations that the crypto thread took from the cores", false, n.ops);
	set(c, "hikyaku_tls_crypto_scalar", "", "Of these, done by OpenSSL", false, n.scalar);
	set(c, "hikyaku_tls_crypto_batches", "", "Batches given to the engine's software, eight at a time", false, n.batches);
	set(c, "hikyaku_tls_crypto_padding", "", "Places in them that nobody had asked for", false, n.padding);
	set(c, "hikyaku_tls_crypto_faults", "", "Results of the engine that were wrong, and done again", false, n.faults);
	set(c, "hikyaku_tls_crypto_timeouts", "", "Operations that the engine kept for too long", false, n.timeouts);
}

static void update_spool(struct counters *c)
{
	const struct spool_thread *t = &c->relay->spool;
	struct spool_stats s;
	words_copy(&s, &t->stats, sizeof s);
	set(c, "hikyaku_spool_segments", "", "Segments of the spool", true, s.segments);
	set(c, "hikyaku_spool_bytes", "", "Bytes of the spool's segments", true, s.bytes);
	set(c, "hikyaku_spool_mails", "", "Mails in the spool", true, s.mails_live);
	set(c, "hikyaku_spool_syncs", "", "fdatasync calls", false, s.syncs);
	set(c, "hikyaku_spool_sync_errors", "", "Failed writes and syncs", false, s.sync_errors);
	set(c, "hikyaku_spool_appended_bytes", "", "Bytes appended to the spool", false, s.appended_bytes);
	set(c, "hikyaku_spool_segments_freed", "", "Segments whose room was given back", false, s.segments_freed);
	set(c, "hikyaku_spool_commits", "", "Mails made durable", false, atomic_load(&t->commits));
	set(c, "hikyaku_spool_batches", "", "Batches of mails made durable", false, atomic_load(&t->batches));
}

struct counters *counters_create(struct relay *relay, struct stats_region *region, const struct inspect *inspect)
{
	struct counters *c = calloc(1, sizeof *c);
	if (c != NULL)
		*c = (struct counters){.relay = relay, .region = region, .inspect = inspect};
	return c;
}

void counters_update(struct counters *c)
{
	struct rusage usage;
	c->at = 0;
	for (unsigned i = 0; i < c->relay->cores; i++) {
		char label[STATS_LABEL_MAX];
		snprintf(label, sizeof label, "core=\"%u\"", i);
		update_worker(c, c->relay->workers[i], label);
		update_handshakes(c, c->relay->workers[i], label);
		update_offload(c, c->relay->workers[i], label);
		update_dataplane(c, c->relay->workers[i], label);
		update_tcp(c, c->relay->workers[i], label);
		update_census(c, i);
	}
	update_queue(c);
	update_spool(c);
	update_crypto(c);
	getrusage(RUSAGE_SELF, &usage);
	set(c, "hikyaku_process_cpu_microseconds", "", "Processor time of all the relay's threads", false,
		(uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * USEC_PER_SEC +
			(uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec));
	set(c, "hikyaku_generation", "", "Policy generation in force", true, atomic_load(&c->relay->generation));
	stats_touch(c->region);
}

void counters_destroy(struct counters *c)
{
	free(c);
}
