// SPDX-License-Identifier: Apache-2.0
/* control/daemon/http.h: a request of the API and its answer, as the files that serve it see them.
 * Private to control/daemon/. Each request has a thread of its own, which may wait. */
#pragma once

#include "control/daemon/control.h"

#define HTTP_BODY_MAX  (4u << 20) /* an `apply` of some ten thousand rules */
#define HTTP_DEPTH_MAX 16	  /* of JSON; documents have 4 */
#define HTTP_ARGS_MAX  2

#define CERT_WARNING_DAYS 30

struct MHD_Connection;
struct MHD_Response;

struct request {
	struct control *control;
	struct MHD_Connection *connection;
	const char *args[HTTP_ARGS_MAX]; /* what stands where the route has a "*" */
	const char *body;		 /* `body_n` bytes and a NUL; "" for none */
	size_t body_n;
};

/* What is sent when the handler returns. `body` is from the heap and freed behind it. */
struct answer {
	unsigned status;
	const char *type; /* "application/json" at first */
	char *body;
	size_t n;
	struct MHD_Response *stream; /* instead of a body: one that goes on */
};

typedef void http_handler(const struct request *request, struct answer *answer);

/* A parameter of the query; NULL: not given. */
const char *request_query(const struct request *request, const char *name);
/* Whether a parameter is given and neither empty, "0" nor "false". */
bool request_flag(const struct request *request, const char *name);
/* A number from the query, `otherwise` where it is not given; false: answered with 400. */
bool request_number(const struct request *request, struct answer *answer, const char *name,
	uint64_t most, uint64_t otherwise, uint64_t *value);
/* The body as a JSON object, freed by yyjson_doc_free(); NULL: answered with 400. */
yyjson_doc *request_json(const struct request *request, struct answer *answer);

/* The document becomes the answer and is freed; NULL is a lack of memory. */
void answer_json(struct answer *answer, unsigned status, yyjson_mut_doc *doc);
void answer_error(struct answer *answer, unsigned status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* An error of the compiler or the store: 400 or 500 by `rc`; of "profile 'x': field: …" the parts
 * are named. */
void answer_failure(struct answer *answer, int rc, const char *error);
/* Text from the heap. */
void answer_text(struct answer *answer, const char *type, char *text, size_t n);
/* Waits for the relays, and answers a change that is kept; `doc` (an object, or NULL) is added to
 * and freed. */
void answer_change(const struct request *request, struct answer *answer, uint64_t generation,
	yyjson_mut_doc *doc);

/* A new document whose root is an object. */
yyjson_mut_doc *json_object(void);

/* ---- asking one relay: connections.c ---- */
/* The one instance that is meant: named, or the only one attached; false: answered already. */
bool relay_only(const struct request *request, struct answer *answer, char instance[64]);
/* Asks it (`doc` is freed); false: answered already. Else `reply->doc` is there, to be freed. */
bool relay_ask_one(const struct request *request, struct answer *answer, const char *instance,
	yyjson_mut_doc *doc, struct relay_reply *reply);
/* Its answer becomes ours, with "instance"; frees it. */
void relay_answer(struct answer *answer, struct relay_reply *reply);

/* ---- the handlers, by file ---- */
http_handler status_get, config_get;
http_handler documents_list, documents_get, documents_add, documents_patch, documents_move,
	documents_delete;
http_handler documents_export, documents_apply;
http_handler explain_post;
http_handler certs_list, certs_get, certs_create, certs_import, certs_activate, certs_deactivate,
	certs_delete;
http_handler queue_get, queue_content, queue_change;
http_handler connections_get, connections_delete;
http_handler trace_start, trace_read, trace_stop, capture_start, capture_read, capture_stop,
	offload_post;
http_handler log_get, metrics_get, counters_get;

/* Adds a warning for each active certificate that ends soon. Under the lock. */
void certs_warn(struct control *c, yyjson_mut_doc *doc, yyjson_mut_val *warnings);
/* Each active certificate and its end, in seconds since 1970. Under the lock. */
void certs_each(
	struct control *c, void (*each)(void *user, const char *id, int64_t not_after), void *user);
