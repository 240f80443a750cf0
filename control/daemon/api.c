// SPDX-License-Identifier: Apache-2.0
/* control/daemon/api.c: the API's socket, its routes, and requests from the first byte to the
 * answer. What the endpoints are stands in api.h; what they do in the file that is named after
 * them. */
#include "control/daemon/http.h"

#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/log.h"

#define BACKLOG		128 /* who comes when it is full is turned away at once */
#define CONNECTIONS_MAX 64  /* each has a thread */
#define IDLE_SECONDS	60
#define SEGMENTS_MAX	8
#define PATH_BYTES_MAX	512

struct api {
	struct control *control;
	struct MHD_Daemon *daemon;
};

/* ---- routes ---- */

/* The parameters of a selection of queued mail. */
#define SELECTION " domain reason sender state queue_id instance "

/* clang-format off */
static const struct route {
	const char *method, *path; /* "*" stands for one segment */
	const char *query; /* the parameters it knows, each with a space before and behind */
	http_handler *handler;
} routes[] = {
	{"GET",    "/v1/status",             "",                           status_get},
	{"GET",    "/v1/config",             " full ",                     config_get},
	{"POST",   "/v1/offload/*",          " instance ",                 offload_post},
	{"GET",    "/v1/documents/*",        " full ",                     documents_list},
	{"POST",   "/v1/documents/*",        " before ",                   documents_add},
	{"GET",    "/v1/documents/*/*",      " full ",                     documents_get},
	{"PATCH",  "/v1/documents/*/*",      "",                           documents_patch},
	{"DELETE", "/v1/documents/*/*",      "",                           documents_delete},
	{"POST",   "/v1/documents/*/*/move", " before ",                   documents_move},
	{"GET",    "/v1/export",             "",                           documents_export},
	{"POST",   "/v1/apply",              " dry_run ",                  documents_apply},
	{"POST",   "/v1/explain",            "",                           explain_post},
	{"GET",    "/v1/certs",              "",                           certs_list},
	{"POST",   "/v1/certs",              "",                           certs_create},
	{"POST",   "/v1/certs/import",       " id default replace ",       certs_import},
	{"GET",    "/v1/certs/*",            "",                           certs_get},
	{"DELETE", "/v1/certs/*",            "",                           certs_delete},
	{"POST",   "/v1/certs/*/activate",   " default ",                  certs_activate},
	{"POST",   "/v1/certs/*/deactivate", "",                           certs_deactivate},
	{"GET",    "/v1/queue",              SELECTION "after limit ",     queue_get},
	{"GET",    "/v1/queue/*/content",    " offset instance ",          queue_content},
	{"POST",   "/v1/queue/*",            SELECTION "all ",             queue_change},
	{"GET",    "/v1/log",                " lines follow ",             log_get},
	{"GET",    "/v1/connections",        " state peer port direction after limit all instance ", connections_get},
	{"DELETE", "/v1/connections/*",      " instance ",                 connections_delete},
	{"POST",   "/v1/trace",              " instance ",                 trace_start},
	{"GET",    "/v1/trace/*",            " instance ",                 trace_read},
	{"DELETE", "/v1/trace/*",            " instance ",                 trace_stop},
	{"POST",   "/v1/capture",            " instance ",                 capture_start},
	{"GET",    "/v1/capture/*",          " instance ",                 capture_read},
	{"DELETE", "/v1/capture/*",          " instance ",                 capture_stop},
	{"GET",    "/v1/counters",           " instance ",                 counters_get},
	{"GET",    "/metrics",               "",                           metrics_get},
};
/* clang-format on */
#define ROUTES (sizeof routes / sizeof *routes)

/* Whether `path` fits the pattern; the segments that stand for "*" into `args`. `path` is cut at
 * its slashes by then; each segment that counts ends in a NUL. */
static bool fits(
	const char *pattern, char *const *segments, unsigned count, const char *args[HTTP_ARGS_MAX])
{
	unsigned n = 0, taken = 0;
	for (const char *at = pattern; *at == '/'; n++) {
		size_t length = strcspn(++at, "/");
		if (n == count)
			return false;
		if (length == 1 && *at == '*' && segments[n][0] != '\0')
			args[taken++] = segments[n];
		else if (strlen(segments[n]) != length || memcmp(segments[n], at, length) != 0)
			return false;
		at += length;
	}
	return n == count;
}

static unsigned cut(char *path, char *segments[SEGMENTS_MAX])
{
	unsigned n = 0;
	for (char *at = path; *at == '/' && n < SEGMENTS_MAX; n++) {
		*at++ = '\0';
		segments[n] = at;
		at += strcspn(at, "/");
	}
	return n;
}

/* ---- requests ---- */

const char *request_query(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool request_flag(const struct request *request, const char *name)
{
	const char *value = request_query(request, name);
	return value != NULL && value[0] != '\0' && strcmp(value, "0") != 0 &&
		strcmp(value, "false") != 0;
}

bool request_number(const struct request *request, struct answer *answer, const char *name,
	uint64_t most, uint64_t otherwise, uint64_t *value)
{
	const char *text = request_query(request, name);
	*value = otherwise;
	if (text == NULL)
		return true;
	char *end;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *value <= most)
		return true;
	answer_error(
		answer, 400, "%s: expected a number of 0 to %llu", name, (unsigned long long)most);
	return false;
}

/* Some of what is done with JSON calls itself for each level. */
static bool is_too_deep(const char *json, size_t n)
{
	unsigned depth = 0;
	bool in_string = false;
	for (size_t i = 0; i < n; i++) {
		if (in_string && json[i] == '\\')
			i++;
		else if (json[i] == '"')
			in_string = !in_string;
		else if (!in_string && (json[i] == '{' || json[i] == '[') &&
			++depth > HTTP_DEPTH_MAX)
			return true;
		else if (!in_string && (json[i] == '}' || json[i] == ']') && depth > 0)
			depth--;
	}
	return false;
}

yyjson_doc *request_json(const struct request *request, struct answer *answer)
{
	yyjson_read_err error = {};
	if (is_too_deep(request->body, request->body_n)) {
		answer_error(
			answer, 400, "the body is nested deeper than %d levels", HTTP_DEPTH_MAX);
		return NULL;
	}
	yyjson_doc *doc = yyjson_read_opts(
		(char *)(uintptr_t)request->body, request->body_n, 0, NULL, &error);
	if (doc == NULL)
		answer_error(answer, 400, "the body is not JSON: %s at byte %zu",
			request->body_n == 0 ? "there is none" : error.msg, error.pos);
	else if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
		answer_error(answer, 400, "the body is not a JSON object");
		yyjson_doc_free(doc);
		doc = NULL;
	}
	return doc;
}

/* ---- answers ---- */

yyjson_mut_doc *json_object(void)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	if (doc != NULL)
		yyjson_mut_doc_set_root(doc, yyjson_mut_obj(doc));
	return doc;
}

void answer_json(struct answer *answer, unsigned status, yyjson_mut_doc *doc)
{
	free(answer->body);
	answer->status = status;
	answer->body =
		doc == NULL ? NULL : yyjson_mut_write(doc, YYJSON_WRITE_NEWLINE_AT_END, &answer->n);
	yyjson_mut_doc_free(doc);
	if (answer->body != NULL)
		return;
	answer->status = 500;
	answer->body = strdup("{\"error\":\"out of memory\"}\n");
	answer->n = answer->body == NULL ? 0 : strlen(answer->body);
}

static void answer_error_in(struct answer *answer, unsigned status, const char *text,
	struct bytes document, struct bytes field)
{
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	yyjson_mut_obj_add_strcpy(doc, root, "error", text);
	if (document.n != 0)
		yyjson_mut_obj_add_strncpy(
			doc, root, "document", (const char *)document.at, document.n);
	if (field.n != 0)
		yyjson_mut_obj_add_strncpy(doc, root, "field", (const char *)field.at, field.n);
	answer_json(answer, status, doc);
}

void answer_error(struct answer *answer, unsigned status, const char *format, ...)
{
	char text[1024];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	answer_error_in(answer, status, text, BYTES_NONE, BYTES_NONE);
}

/* "profile 'x': level: found 'b', expected …" (documents.h): the document's id and the field. */
void answer_failure(struct answer *answer, int rc, const char *error)
{
	struct bytes document = BYTES_NONE, field = BYTES_NONE;
	const char *open = strstr(error, " '"), *close = open == NULL ? NULL : strstr(open, "': ");
	const char *colon = close == NULL ? NULL : strstr(close + 3, ": found ");
	if (close != NULL && memchr(error, ':', (size_t)(open - error)) == NULL) {
		document = bytes_of(open + 2, (size_t)(close - open) - 2);
		if (colon != NULL)
			field = bytes_of(close + 3, (size_t)(colon - close) - 3);
	}
	answer_error_in(answer, rc == -EINVAL ? 400 : 500, error, document, field);
}

void answer_text(struct answer *answer, const char *type, char *text, size_t n)
{
	free(answer->body);
	answer->status = 200;
	answer->type = type;
	answer->body = text;
	answer->n = n;
}

static void add_outcome(struct control *c, uint64_t generation, yyjson_mut_doc *doc)
{
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
	yyjson_mut_obj_add_uint(doc, root, "generation", generation);
	yyjson_mut_val *applied = yyjson_mut_obj_add_arr(doc, root, "applied");
	yyjson_mut_val *pending = yyjson_mut_obj_add_arr(doc, root, "pending");
	yyjson_mut_val *refused = yyjson_mut_obj_add_arr(doc, root, "refused");
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *p = &c->relays[i];
		if (p->fd < 0 || p->instance[0] == '\0')
			continue;
		if (p->applied >= generation || p->refused < generation) {
			yyjson_mut_arr_add_strcpy(
				doc, p->applied >= generation ? applied : pending, p->instance);
			continue;
		}
		yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, refused);
		yyjson_mut_obj_add_strcpy(doc, one, "instance", p->instance);
		yyjson_mut_obj_add_strcpy(doc, one, "error", p->refused_error);
	}
}

void answer_change(const struct request *request, struct answer *answer, uint64_t generation,
	yyjson_mut_doc *doc)
{
	struct control *c = request->control;
	relays_await(c, generation);
	if (doc == NULL)
		doc = json_object();
	pthread_mutex_lock(&c->lock);
	add_outcome(c, generation, doc);
	pthread_mutex_unlock(&c->lock);
	answer_json(answer, 200, doc);
}

/* ---- from a request to its handler ---- */

struct exchange { /* of one request, while it arrives */
	char *body;
	size_t n, room;
	bool is_too_long;
};

/* What is no UTF-8 could not be told of in JSON, neither to a relay nor in an error. */
static bool is_utf8(const char *text)
{
	yyjson_mut_val value;
	yyjson_mut_set_str(&value, text);
	char *json = yyjson_mut_val_write(&value, 0, NULL);
	free(json);
	return json != NULL;
}

struct query_check {
	const struct route *route;
	bool is_utf8;
	char unknown[64];
};

static enum MHD_Result check_parameter(
	void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct query_check *check = user;
	char wanted[64];
	check->is_utf8 &= is_utf8(name) && (value == NULL || is_utf8(value));
	snprintf(wanted, sizeof wanted, " %s ", name);
	if (strstr(check->route->query, wanted) == NULL && check->unknown[0] == '\0')
		snprintf(check->unknown, sizeof check->unknown, "%s", name);
	return MHD_YES;
}

static void run(const struct route *route, struct request *request, struct answer *answer)
{
	struct query_check check = {.route = route, .is_utf8 = true, .unknown = ""};
	MHD_get_connection_values(
		request->connection, MHD_GET_ARGUMENT_KIND, check_parameter, &check);
	if (!check.is_utf8)
		answer_error(answer, 400, "the query is not UTF-8");
	else if (check.unknown[0] != '\0')
		answer_error(answer, 400, "'%s' is no parameter of %s %s; known:%s", check.unknown,
			route->method, route->path,
			route->query[0] == '\0' ? " none" : route->query);
	else
		route->handler(request, answer);
}

/* HEAD is GET whose body stays here (RFC 9110 9.3.2). `allowed` gets the methods that the path has. */
static void dispatch(struct request *request, const char *method, const char *url,
	struct answer *answer, char allowed[64])
{
	char path[PATH_BYTES_MAX], *segments[SEGMENTS_MAX + 1];
	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	if (!bytes_to_string(bytes_of_string(url), path, sizeof path)) {
		answer_error(answer, 414, "the path is longer than %d bytes", PATH_BYTES_MAX - 1);
		return;
	}
	if (!is_utf8(url) || !is_utf8(method)) {
		answer_error(answer, 400, "the path is not UTF-8");
		return;
	}
	unsigned count = cut(path, segments);
	for (size_t i = 0; i < ROUTES; i++) {
		if (!fits(routes[i].path, segments, count, request->args))
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			run(&routes[i], request, answer);
			return;
		}
		if (strlen(allowed) + strlen(routes[i].method) + 3 < 64 &&
			strstr(allowed, routes[i].method) == NULL)
			strcat(strcat(allowed, allowed[0] == '\0' ? "" : ", "), routes[i].method);
	}
	if (allowed[0] == '\0')
		answer_error(answer, 404, "there is no %s here", url);
	else
		answer_error(
			answer, 405, "%s does not go with %s, which has %s", method, url, allowed);
}

static enum MHD_Result send_answer(
	struct MHD_Connection *connection, struct answer *answer, const char *allowed)
{
	struct MHD_Response *response = answer->stream != NULL
		? answer->stream
		: MHD_create_response_from_buffer(answer->n, answer->body, MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		free(answer->body);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
	if (answer->status == 405)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allowed);
	enum MHD_Result rc = MHD_queue_response(connection, answer->status, response);
	MHD_destroy_response(response);
	return rc;
}

static enum MHD_Result refuse_body(struct MHD_Connection *connection)
{
	struct answer answer = {.type = "application/json"};
	answer_error(&answer, 413, "the body is longer than %u bytes", HTTP_BODY_MAX);
	return send_answer(connection, &answer, "");
}

static enum MHD_Result begin(struct MHD_Connection *connection, void **user)
{
	const char *length = MHD_lookup_connection_value(
		connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (length != NULL && strtoull(length, NULL, 10) > HTTP_BODY_MAX)
		return refuse_body(connection);
	*user = calloc(1, sizeof(struct exchange));
	return *user == NULL ? MHD_NO : MHD_YES;
}

/* Keeps what has arrived; past the limit it is only counted off, and refused at the end. */
static void take_body(struct exchange *x, const char *data, size_t n)
{
	if (x->n + n > HTTP_BODY_MAX)
		x->is_too_long = true;
	if (x->is_too_long)
		return;
	if (x->n + n + 1 > x->room) {
		size_t room = (x->n + n + 1) * 2;
		char *body = malloc(room); /* not realloc: a key may be in it, and is wiped */
		if (body == NULL) {
			x->is_too_long = true;
			return;
		}
		if (x->body != NULL) {
			memcpy(body, x->body, x->n);
			explicit_bzero(x->body, x->n);
			free(x->body);
		}
		x->body = body;
		x->room = room;
	}
	memcpy(x->body + x->n, data, n);
	x->n += n;
	x->body[x->n] = '\0';
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *data_n, void **exchange)
{
	struct api *api = user;
	if (*exchange == NULL)
		return begin(connection, exchange);
	struct exchange *x = *exchange;
	if (*data_n != 0) {
		take_body(x, data, *data_n);
		*data_n = 0;
		return MHD_YES;
	}
	if (x->is_too_long)
		return refuse_body(connection);
	struct request request = {.control = api->control,
		.connection = connection,
		.body = x->body == NULL ? "" : x->body,
		.body_n = x->n};
	struct answer answer = {.type = "application/json"};
	char allowed[64] = "";
	dispatch(&request, method, url, &answer, allowed);
	return send_answer(connection, &answer, allowed);
}

static void on_end(void *user, struct MHD_Connection *connection, void **exchange,
	enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *exchange;
	if (x == NULL)
		return;
	if (x->body != NULL)
		explicit_bzero(x->body, x->n);
	free(x->body);
	free(x);
	*exchange = NULL;
}

/* A NUL would end the text early: "%00" stays as it stands, and so is the name of nothing. */
static size_t unescape(void *user, struct MHD_Connection *connection, char *text)
{
	return strstr(text, "%00") != NULL ? strlen(text) : MHD_http_unescape(text);
}

/* ---- the socket ---- */

/* A socket that nobody listens at any more was left by a control that is gone. */
static int remove_old(const char *path, const struct sockaddr_un *address)
{
	struct stat status;
	if (lstat(path, &status) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(status.st_mode))
		return -EEXIST;
	int rc = 0, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0)
		rc = -errno;
	close(fd);
	if (rc == -ECONNREFUSED)
		return unlink(path) == 0 ? 0 : -errno;
	return rc == 0 || rc == -EAGAIN ? -EADDRINUSE : rc;
}

/* Of the folder's group, for whom it is open; the folder says who may change the policy. */
static int give_to_group(const char *path)
{
	char folder[sizeof((struct sockaddr_un *)NULL)->sun_path];
	struct stat status;
	snprintf(folder, sizeof folder, "%s", path);
	if (stat(dirname(folder), &status) != 0 || lchown(path, (uid_t)-1, status.st_gid) != 0 ||
		chmod(path, 0660) != 0)
		return -errno;
	return 0;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int rc = remove_old(path, &address);
	/* Nobody may connect before the owner and the mode are as they should be. */
	if (rc == 0 &&
		(fchmod(fd, 0600) != 0 ||
			bind(fd, (struct sockaddr *)&address, sizeof address) != 0))
		rc = -errno;
	if (rc == 0)
		rc = give_to_group(path);
	if (rc == 0 && listen(fd, BACKLOG) != 0)
		rc = -errno;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int api_start(struct control *c, struct api **started, char error[512])
{
	const char *path = c->config->paths.api_socket;
	int fd = listen_at(path);
	if (fd < 0) {
		snprintf(error, 512, "%s: %s", path,
			fd == -EADDRINUSE ? "another hikyaku-control is running there"
					  : strerror(-fd));
		return fd;
	}
	struct api *api = calloc(1, sizeof *api);
	if (api != NULL) {
		api->control = c;
		api->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD |
				MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL,
			0, NULL, NULL, on_request, api, MHD_OPTION_LISTEN_SOCKET, fd,
			MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_UNESCAPE_CALLBACK,
			unescape, NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
			MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_END);
	}
	if (api != NULL && api->daemon != NULL) {
		*started = api;
		return 0;
	}
	free(api);
	close(fd);
	snprintf(error, 512, "the HTTP server did not start");
	return -ENOMEM;
}

void api_stop(struct api *api)
{
	MHD_stop_daemon(api->daemon); /* waits for the requests under way, and closes the socket */
	free(api);
}
