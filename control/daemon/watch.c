// SPDX-License-Identifier: Apache-2.0
/* control/daemon/watch.c: traces of connections and captures of ports: begun, read in pieces and
 * ended on one relay, whose answers are passed on as they are; and so its TLS back end. */
#include "control/daemon/http.h"

#include <stdlib.h>

/* The request of the API with these members, as the relay's `op`. */
static void pass_on(
	const struct request *request, struct answer *answer, const char *op, yyjson_mut_doc *doc)
{
	char instance[64];
	struct relay_reply reply;
	yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), "op", op);
	if (!relay_only(request, answer, instance))
		yyjson_mut_doc_free(doc);
	else if (relay_ask_one(request, answer, instance, doc, &reply))
		relay_answer(answer, &reply);
}

static void start(const struct request *request, struct answer *answer, const char *op)
{
	yyjson_doc *body = request_json(request, answer);
	if (body == NULL)
		return;
	yyjson_mut_doc *doc = yyjson_doc_mut_copy(body, NULL);
	yyjson_doc_free(body);
	static const char *const ours[] = {"op", "type", "token"}; /* of the link */
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		yyjson_mut_obj_remove_key(yyjson_mut_doc_get_root(doc), ours[i]);
	pass_on(request, answer, op, doc);
}

static void by_id(const struct request *request, struct answer *answer, const char *op)
{
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_obj_add_uint(
		doc, yyjson_mut_doc_get_root(doc), "id", strtoull(request->args[0], NULL, 10));
	pass_on(request, answer, op, doc);
}

void offload_post(const struct request *request, struct answer *answer)
{
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), "backend", request->args[0]);
	pass_on(request, answer, "offload", doc);
}

void trace_start(const struct request *request, struct answer *answer)
{
	start(request, answer, "trace.start");
}

void trace_read(const struct request *request, struct answer *answer)
{
	by_id(request, answer, "trace.read");
}

void trace_stop(const struct request *request, struct answer *answer)
{
	by_id(request, answer, "trace.stop");
}

void capture_start(const struct request *request, struct answer *answer)
{
	start(request, answer, "capture.start");
}

void capture_read(const struct request *request, struct answer *answer)
{
	by_id(request, answer, "capture.read");
}

void capture_stop(const struct request *request, struct answer *answer)
{
	by_id(request, answer, "capture.stop");
}
