// SPDX-License-Identifier: Apache-2.0
/* control/daemon/status.c: how control and its relays are. */
#include "control/daemon/http.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

static void add_control(struct control *c, yyjson_mut_doc *doc, yyjson_mut_val *root)
{
	yyjson_mut_val *own = yyjson_mut_obj_add_obj(doc, root, "control");
	yyjson_mut_obj_add_str(doc, own, "version", HIKYAKU_VERSION);
	yyjson_mut_obj_add_int(doc, own, "pid", getpid());
	yyjson_mut_obj_add_uint(doc, own, "uptime", (time_monotonic_us() - c->started_us) / USEC_PER_SEC);
	yyjson_mut_obj_add_uint(doc, own, "generation", c->generation);
	yyjson_mut_obj_add_str(doc, own, "hostname", c->config->node.hostname);
}

void status_get(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	pthread_mutex_lock(&c->lock);
	add_control(c, doc, root);
	yyjson_mut_val *relays = yyjson_mut_obj_add_arr(doc, root, "relays");
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *p = &c->relays[i];
		if (p->fd < 0 || p->instance[0] == '\0')
			continue;
		yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, relays);
		yyjson_mut_obj_add_strcpy(doc, one, "instance", p->instance);
		yyjson_mut_obj_add_int(doc, one, "pid", p->pid);
		yyjson_mut_obj_add_uint(doc, one, "generation", p->applied);
	}
	pthread_mutex_unlock(&c->lock);
	yyjson_mut_obj_add_arr(doc, root, "warnings");
	answer_json(answer, 200, doc);
}
