// SPDX-License-Identifier: Apache-2.0
/* control/daemon/documents.c: the store's documents through the API. Every change is one candidate: the whole of
 * the documents as they would be, which is compiled, kept and published, or changes nothing. */
#include "control/daemon/http.h"

#include <errno.h>
#include <stdlib.h>

/* ---- all of them ---- */

void documents_export(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	char error[512] = "";
	pthread_mutex_lock(&c->lock);
	char *json = store_documents(c->store, error);
	pthread_mutex_unlock(&c->lock);
	if (json == NULL)
		answer_failure(answer, -EIO, error);
	else
		answer_text(answer, "application/json", json, strlen(json));
}

void documents_apply(const struct request *request, struct answer *answer)
{
	struct control *c = request->control;
	char error[512] = "";
	uint64_t generation = 0;
	yyjson_doc *doc = request_json(request, answer);
	if (doc == NULL)
		return;
	yyjson_doc_free(doc);
	pthread_mutex_lock(&c->lock);
	int rc = publish_documents(c, request->body, request_flag(request, "dry_run"), &generation, error);
	pthread_mutex_unlock(&c->lock);
	if (rc < 0)
		answer_failure(answer, rc, error);
	else
		answer_change(request, answer, generation, NULL);
}
