// SPDX-License-Identifier: Apache-2.0
/* control/daemon/metrics.c: every relay's counters, labelled with its instance: as /metrics in
 * OpenMetrics 1.0, with control's own, and as JSON. The families of all relays are brought
 * together, since each may stand there only once. */
#include "control/daemon/http.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/clock.h"

struct series {
	struct stats_sample sample;
	char instance[64];
	unsigned order; /* as they were read */
};

struct collection {
	struct series *series;
	size_t count, room;
};

/* ---- what the relays count ---- */

static bool is_name(const char *name)
{
	if (!isalpha((unsigned char)name[0]) && name[0] != '_')
		return false;
	for (; *name != '\0'; name++)
		if (!isalnum((unsigned char)*name) && *name != '_' && *name != ':')
			return false;
	return true;
}

/* `name="value",…` with values that need no escape: that is all that relays write. */
static bool is_label_list(const char *text)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "=");
		if (n == 0 || text[n] == '\0' || text[n + 1] != '"' ||
			memchr(text, ' ', n) != NULL || strncmp(text, "instance=", 9) == 0)
			return false;
		text += n + 2;
		n = strcspn(text, "\"\\\n");
		if (text[n] != '"')
			return false;
		text += n + 1;
		if (*text == ',' && text[1] != '\0')
			text++;
		else if (*text != '\0')
			return false;
	}
	return true;
}

/* A counter is told as NAME_total, of the family NAME (OpenMetrics 5.1). */
static void cut_total(char *name)
{
	size_t n = strlen(name);
	if (n > 6 && strcmp(name + n - 6, "_total") == 0)
		name[n - 6] = '\0';
}

static void collect(struct collection *to, const struct relay_peer *relay)
{
	struct stats_sample sample;
	for (unsigned i = 0; relay->stats != NULL && stats_read(relay->stats, i, &sample); i++) {
		if (to->count == to->room) {
			size_t room = to->room * 2 + 256;
			struct series *grown = realloc(to->series, room * sizeof *grown);
			if (grown == NULL)
				return;
			to->series = grown;
			to->room = room;
		}
		if (!is_name(sample.name) || !is_label_list(sample.label))
			continue;
		cut_total(sample.name);
		struct series *s = &to->series[to->count];
		*s = (struct series){.sample = sample, .order = (unsigned)to->count};
		memcpy(s->instance, relay->instance, sizeof s->instance);
		to->count++;
	}
}

static int by_family(const void *a, const void *b)
{
	const struct series *x = a, *y = b;
	int order = strcmp(x->sample.name, y->sample.name);
	return order != 0 ? order : x->order < y->order ? -1 : 1;
}

/* ---- the text ---- */

static void write_escaped(FILE *to, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\n')
			fputs("\\n", to);
		else if (*text == '\\' || *text == '"')
			fprintf(to, "\\%c", *text);
		else
			fputc(*text, to);
	}
}

static void write_family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# TYPE %s %s\n", name, type);
	if (help[0] == '\0')
		return;
	fprintf(to, "# HELP %s ", name);
	write_escaped(to, help);
	fputc('\n', to);
}

static void write_relays(FILE *to, const struct collection *c)
{
	const struct stats_sample *family = NULL;
	for (size_t i = 0; i < c->count; i++) {
		const struct series *s = &c->series[i];
		const struct stats_sample *sample = &s->sample;
		if (family == NULL || strcmp(family->name, sample->name) != 0) {
			family = sample;
			write_family(to, sample->name, sample->is_gauge ? "gauge" : "counter",
				sample->help);
		}
		if (sample->is_gauge != family->is_gauge)
			continue; /* a relay of another version: one family has one type */
		fprintf(to, "%s%s{instance=\"", sample->name, sample->is_gauge ? "" : "_total");
		write_escaped(to, s->instance);
		fprintf(to, "\"%s%s} %llu\n", sample->label[0] == '\0' ? "" : ",", sample->label,
			(unsigned long long)sample->value);
	}
}

/* One value of each attached relay. */
static void write_each(FILE *to, const struct control *c, const char *name, const char *help,
	double (*value)(const struct relay_peer *relay))
{
	write_family(to, name, "gauge", help);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *relay = &c->relays[i];
		if (relay->fd < 0 || relay->instance[0] == '\0')
			continue;
		fprintf(to, "%s{instance=\"", name);
		write_escaped(to, relay->instance);
		fprintf(to, "\"} %.15g\n", value(relay));
	}
}

static double value_attached(const struct relay_peer *relay)
{
	return 1;
}

static double value_generation(const struct relay_peer *relay)
{
	return (double)relay->applied;
}

static double value_updated(const struct relay_peer *relay)
{
	return relay->stats == NULL ? 0
				    : (double)atomic_load(&relay->stats->updated_us) / USEC_PER_SEC;
}

static void write_cert(void *user, const char *id, int64_t not_after)
{
	fprintf(user, "hikyaku_control_certificate_end_seconds{id=\"%s\"} %lld\n", id,
		(long long)not_after);
}

static void write_number(
	FILE *to, const char *name, bool is_gauge, const char *help, uint64_t value)
{
	write_family(to, name, is_gauge ? "gauge" : "counter", help);
	fprintf(to, "%s%s %llu\n", name, is_gauge ? "" : "_total", (unsigned long long)value);
}

static void write_control(FILE *to, struct control *c)
{
	write_family(to, "hikyaku_control_build", "info", "The version of hikyaku-control.");
	fprintf(to, "hikyaku_control_build_info{version=\"%s\"} 1\n", HIKYAKU_VERSION);
	write_number(
		to, "hikyaku_control_generation", true, "The policy's generation.", c->generation);
	write_number(to, "hikyaku_control_uptime_seconds", true,
		"How long hikyaku-control has been running.",
		(time_monotonic_us() - c->started_us) / USEC_PER_SEC);
	write_each(to, c, "hikyaku_control_relay_attached", "Whether the relay is attached.",
		value_attached);
	write_each(to, c, "hikyaku_control_relay_generation",
		"The generation the relay has in force.", value_generation);
	write_each(to, c, "hikyaku_control_relay_counted_seconds",
		"When the relay last updated its counters.", value_updated);
	write_family(to, "hikyaku_control_certificate_end_seconds", "gauge",
		"When the active certificate ends.");
	certs_each(c, write_cert, to);
	write_number(to, "hikyaku_control_names_asked", false,
		"Questions of relays where mail goes.", c->names.questions);
	write_number(to, "hikyaku_control_names_found", false, "Of these, answered with hosts.",
		c->names.ok);
	write_number(to, "hikyaku_control_names_deferred", false,
		"Of these, without an answer for now.", c->names.deferred);
	write_number(to, "hikyaku_control_names_failed", false,
		"Of these, for good without a host.", c->names.failed);
}

static bool is_asked_for(const struct relay_peer *relay, const char *instance)
{
	return relay->fd >= 0 && (instance == NULL || strcmp(relay->instance, instance) == 0);
}

/* Sorted by family; freed by the caller. */
static struct collection collect_all(struct control *c, const char *instance)
{
	struct collection all = {};
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		if (is_asked_for(&c->relays[i], instance))
			collect(&all, &c->relays[i]);
	if (all.count != 0)
		qsort(all.series, all.count, sizeof *all.series, by_family);
	return all;
}

void metrics_get(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);
	if (to == NULL) {
		answer_error(answer, 500, "out of memory");
		return;
	}
	pthread_mutex_lock(&c->lock);
	struct collection all = collect_all(c, NULL);
	write_control(to, c);
	pthread_mutex_unlock(&c->lock);
	write_relays(to, &all);
	fputs("# EOF\n", to);
	fclose(to);
	free(all.series);
	answer_text(answer, "application/openmetrics-text; version=1.0.0; charset=utf-8", text, n);
}

/* ---- as JSON ---- */

/* `name="value",…`, which is_label_list() has found well formed. */
static void add_labels(yyjson_mut_doc *doc, yyjson_mut_val *value, const char *text)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "="), value_n = strcspn(text + n + 2, "\"");
		yyjson_mut_obj_add(value, yyjson_mut_strncpy(doc, text, n),
			yyjson_mut_strncpy(doc, text + n + 2, value_n));
		text += n + 2 + value_n + 1;
		text += *text == ',';
	}
}

static yyjson_mut_val *add_family(
	yyjson_mut_doc *doc, yyjson_mut_val *list, const struct stats_sample *sample)
{
	yyjson_mut_val *family = yyjson_mut_arr_add_obj(doc, list);
	yyjson_mut_obj_add_strcpy(doc, family, "name", sample->name);
	yyjson_mut_obj_add_strcpy(doc, family, "help", sample->help);
	yyjson_mut_obj_add_str(doc, family, "type", sample->is_gauge ? "gauge" : "counter");
	return yyjson_mut_obj_add_arr(doc, family, "values");
}

void counters_get(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_val *list =
		yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "counters");
	yyjson_mut_val *values = NULL;
	pthread_mutex_lock(&c->lock);
	struct collection all = collect_all(c, request_query(request, "instance"));
	pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < all.count; i++) {
		const struct series *s = &all.series[i];
		if (i == 0 || strcmp(s->sample.name, s[-1].sample.name) != 0)
			values = add_family(doc, list, &s->sample);
		yyjson_mut_val *value = yyjson_mut_arr_add_obj(doc, values);
		yyjson_mut_obj_add_strcpy(doc, value, "instance", s->instance);
		add_labels(doc, value, s->sample.label);
		yyjson_mut_obj_add_uint(doc, value, "value", s->sample.value);
	}
	if (all.count == 0) {
		yyjson_mut_doc_free(doc);
		answer_error(answer, 503, "no relay is attached that counts anything");
	} else {
		answer_json(answer, 200, doc);
	}
	free(all.series);
}
