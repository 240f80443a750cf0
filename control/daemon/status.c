// SPDX-License-Identifier: Apache-2.0
/* control/daemon/status.c: how control and its relays are, and the settings it started with. */
#include "control/daemon/http.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

#define PENDING_WARNING_US                                                                         \
	(10 * USEC_PER_SEC) /* a relay that has not applied after so long is worth a word */

static void add_control(const struct control *c, yyjson_mut_doc *doc, yyjson_mut_val *root)
{
	yyjson_mut_val *own = yyjson_mut_obj_add_obj(doc, root, "control");
	yyjson_mut_obj_add_str(doc, own, "version", HIKYAKU_VERSION);
	yyjson_mut_obj_add_int(doc, own, "pid", getpid());
	yyjson_mut_obj_add_uint(
		doc, own, "uptime", (time_monotonic_us() - c->started_us) / USEC_PER_SEC);
	yyjson_mut_obj_add_uint(doc, own, "generation", c->generation);
	yyjson_mut_obj_add_str(doc, own, "hostname", c->config->node.hostname);
}

/* What the relay said of itself; without an answer, why. */
static void add_relay(const struct control *c, yyjson_mut_doc *doc, yyjson_mut_val *relays,
	const struct relay_reply *reply)
{
	static const char *const parts[] = {
		"uptime", "cores", "connections", "draining", "queue", "spool", "offload"};
	yyjson_val *root = yyjson_doc_get_root(reply->doc);
	yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, relays);
	yyjson_mut_obj_add_strcpy(doc, one, "instance", reply->instance);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *p = &c->relays[i];
		if (p->fd < 0 || strcmp(p->instance, reply->instance) != 0)
			continue;
		yyjson_mut_obj_add_int(doc, one, "pid", p->pid);
		yyjson_mut_obj_add_uint(doc, one, "generation", p->applied);
	}
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		yyjson_val *part = yyjson_obj_get(root, parts[i]);
		if (part != NULL)
			yyjson_mut_obj_add_val(doc, one, parts[i], yyjson_val_mut_copy(doc, part));
	}
	if (root == NULL)
		yyjson_mut_obj_add_strcpy(doc, one, "error", reply->error);
}

static void warn_of_relay(const struct control *c, const struct relay_peer *p, yyjson_mut_doc *doc,
	yyjson_mut_val *warnings)
{
	char text[768];
	if (p->applied >= c->generation)
		return;
	if (p->refused >= c->generation)
		snprintf(text, sizeof text, "relay %s refused generation %llu: %s", p->instance,
			(unsigned long long)p->refused, p->refused_error);
	else if (time_monotonic_us() - c->published_us > PENDING_WARNING_US &&
		time_monotonic_us() - p->attached_us > PENDING_WARNING_US)
		snprintf(text, sizeof text, "relay %s has generation %llu in force, not %llu",
			p->instance, (unsigned long long)p->applied,
			(unsigned long long)c->generation);
	else
		return;
	yyjson_mut_arr_add_strcpy(doc, warnings, text);
}

static void warn_of_relays(const struct control *c, yyjson_mut_doc *doc, yyjson_mut_val *warnings)
{
	unsigned count = 0;
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *p = &c->relays[i];
		if (p->fd < 0 || p->instance[0] == '\0')
			continue;
		count++;
		warn_of_relay(c, p, doc, warnings);
	}
	if (count == 0)
		yyjson_mut_arr_add_str(doc, warnings, "no relay is attached");
}

void status_get(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	struct relay_reply replies[CONTROL_RELAYS_MAX];
	char text[384];
	unsigned count = relays_ask(c, NULL, "{\"op\":\"status\"}", replies);
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	yyjson_mut_val *relays = yyjson_mut_arr(doc), *warnings = yyjson_mut_arr(doc);
	pthread_mutex_lock(&c->lock);
	add_control(c, doc, root);
	for (unsigned i = 0; i < count; i++)
		add_relay(c, doc, relays, &replies[i]);
	warn_of_relays(c, doc, warnings);
	certs_warn(c, doc, warnings);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < count; i++) {
		if (replies[i].doc != NULL)
			continue;
		snprintf(text, sizeof text, "relay %.63s: %.255s", replies[i].instance,
			replies[i].error);
		yyjson_mut_arr_add_strcpy(doc, warnings, text);
	}
	yyjson_mut_obj_add_val(doc, root, "relays", relays);
	yyjson_mut_obj_add_val(doc, root, "warnings", warnings);
	relays_free_replies(replies, count);
	answer_json(answer, 200, doc);
}

void config_get(const struct request *request, struct answer *answer)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);
	if (to == NULL) {
		answer_error(answer, 500, "out of memory");
		return;
	}
	config_print(request->control->config, request_flag(request, "full"), to);
	fclose(to);
	answer_text(answer, "text/yaml", text, n);
}
