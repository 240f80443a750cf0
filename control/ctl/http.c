// SPDX-License-Identifier: Apache-2.0
/* control/ctl/http.c: HTTP over the daemon's unix socket. */
#include "control/ctl/ctl.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX	(256u << 20) /* the export of a million rules */
#define SOCKET_PATH_MAX sizeof((struct sockaddr_un *)NULL)->sun_path
#define LINE_MAX_BYTES	(1u << 20)

/* ---- URLs ---- */

static void add_bytes(struct url *url, const char *text, size_t n)
{
	if (url->n + n >= sizeof url->text) {
		url->is_too_long = true;
		return;
	}
	memcpy(url->text + url->n, text, n);
	url->n += n;
	url->text[url->n] = '\0';
}

/* What is not unreserved is percent-encoded (RFC 3986 2.1, 2.3). */
static void add_encoded(struct url *url, const char *text)
{
	char escape[4];
	for (; *text != '\0'; text++) {
		bool is_unreserved = (*text >= 'a' && *text <= 'z') ||
			(*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9') ||
			strchr("-._~", *text) != NULL;
		snprintf(escape, sizeof escape, "%%%02X", (uint8_t)*text);
		add_bytes(url, is_unreserved ? text : escape, is_unreserved ? 1 : 3);
	}
}

void url_init(struct url *url, const char *path)
{
	url->n = 0;
	url->has_query = url->is_too_long = false;
	add_bytes(url, "http://hikyaku", strlen("http://hikyaku"));
	add_bytes(url, path, strlen(path));
}

void url_segment(struct url *url, const char *segment)
{
	add_bytes(url, "/", 1);
	add_encoded(url, segment);
}

void url_query(struct url *url, const char *name, const char *value)
{
	if (value == NULL)
		return;
	add_bytes(url, url->has_query ? "&" : "?", 1);
	url->has_query = true;
	add_bytes(url, name, strlen(name));
	add_bytes(url, "=", 1);
	add_encoded(url, value);
}

/* ---- what comes back ---- */

struct incoming {
	char *text;
	size_t n, room;
	void (*line)(void *user, struct bytes line); /* NULL: all of it is kept */
	void *user;
	CURL *curl;
	bool is_too_long;
};

static bool keep(struct incoming *in, const char *data, size_t n)
{
	if (in->n + n > (in->line == NULL ? ANSWER_MAX : LINE_MAX_BYTES))
		return false;
	if (in->n + n + 1 > in->room) {
		size_t room = (in->n + n + 1) * 2;
		char *text = realloc(in->text, room);
		if (text == NULL)
			return false;
		in->text = text;
		in->room = room;
	}
	memcpy(in->text + in->n, data, n);
	in->n += n;
	in->text[in->n] = '\0';
	return true;
}

static void hand_on_lines(struct incoming *in)
{
	size_t at = 0;
	for (const char *end; (end = memchr(in->text + at, '\n', in->n - at)) != NULL;) {
		in->line(in->user, bytes_of(in->text + at, (size_t)(end - in->text) - at));
		at = (size_t)(end - in->text) + 1;
	}
	memmove(in->text, in->text + at, in->n - at);
	in->n -= at;
	in->text[in->n] = '\0';
}

static size_t on_data(char *data, size_t one, size_t n, void *user)
{
	struct incoming *in = user;
	long status = 0;
	if (!keep(in, data, n)) {
		in->is_too_long = true;
		return 0;
	}
	curl_easy_getinfo(in->curl, CURLINFO_RESPONSE_CODE, &status);
	if (in->line != NULL && status == 200)
		hand_on_lines(in);
	return n;
}

/* ---- errors ---- */

/* curl only says that it could not connect. */
static int why_not_connected(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= SOCKET_PATH_MAX)
		return ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error =
		fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	return error;
}

static int fail_unconnected(const struct ctl *ctl)
{
	int error = why_not_connected(ctl->socket);
	if (error == EACCES || error == EPERM)
		return ctl_fail(EX_NOPERM,
			"%s may not be opened: be root, or in the group of its folder",
			ctl->socket);
	if (error == ENAMETOOLONG)
		return ctl_fail(EX_USAGE, "%s is too long for the path of a socket", ctl->socket);
	return ctl_fail(EX_UNAVAILABLE,
		"hikyaku-control does not answer at %s (%s); start it (systemctl start "
		"hikyaku-control), or name "
		"its socket with --socket or in HIKYAKU_API",
		ctl->socket, error == 0 ? "no connection" : strerror(error));
}

static int fail_transport(const struct ctl *ctl, const struct incoming *in, CURLcode rc)
{
	if (rc == CURLE_COULDNT_CONNECT || strlen(ctl->socket) >= SOCKET_PATH_MAX)
		return fail_unconnected(ctl);
	if (in->is_too_long)
		return ctl_fail(EX_PROTOCOL, "the answer of hikyaku-control is too long");
	if (rc == CURLE_OPERATION_TIMEDOUT)
		return ctl_fail(EX_TEMPFAIL, "hikyaku-control did not answer within %u s",
			ctl->timeout_seconds);
	return ctl_fail(
		EX_UNAVAILABLE, "hikyaku-control at %s: %s", ctl->socket, curl_easy_strerror(rc));
}

static int exit_code_of(long status)
{
	switch (status) {
	case 401:
	case 403: return EX_NOPERM;
	case 503: return EX_UNAVAILABLE;
	case 504: return EX_TEMPFAIL;
	}
	return status >= 500 ? EX_SOFTWARE : status >= 400 ? EX_DATAERR : EX_PROTOCOL;
}

static int fail_status(long status, const struct reply *reply)
{
	const char *error = ctl_string(reply->root, "error");
	if (error[0] == '\0')
		return ctl_fail(
			exit_code_of(status), "hikyaku-control answered with status %ld", status);
	return ctl_fail(exit_code_of(status), "%s", error);
}

/* ---- one request ---- */

struct call {
	const char *method, *type;
	const struct url *url;
	struct bytes body;
	unsigned timeout_seconds; /* 0: none */
};

static void set_up(CURL *curl, const struct ctl *ctl, const struct call *call, struct incoming *in,
	struct curl_slist *headers)
{
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, ctl->socket);
	curl_easy_setopt(curl, CURLOPT_URL, call->url->text);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 5L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)call->timeout_seconds);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, in);
	if (strcmp(call->method, "GET") == 0 || strcmp(call->method, "DELETE") == 0)
		return;
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
	curl_easy_setopt(
		curl, CURLOPT_POSTFIELDS, call->body.n == 0 ? "" : (const char *)call->body.at);
}

/* The status of the answer, or the negative exit code, the error told. */
static long perform(const struct ctl *ctl, const struct call *call, struct incoming *in)
{
	long status = 0;
	if (call->url->is_too_long)
		return -ctl_fail(EX_USAGE, "the arguments are too long");
	CURL *curl = curl_easy_init();
	char *type = NULL;
	struct curl_slist *headers = NULL;
	if (curl != NULL && asprintf(&type, "Content-Type: %s", call->type) > 0)
		headers = curl_slist_append(headers, type);
	free(type);
	if (headers == NULL) {
		curl_easy_cleanup(curl);
		return -ctl_fail(EX_OSERR, "out of memory");
	}
	in->curl = curl;
	set_up(curl, ctl, call, in, headers);
	CURLcode rc = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	return rc == CURLE_OK ? status : -fail_transport(ctl, in, rc);
}

static void take_answer(struct incoming *in, struct reply *reply)
{
	reply->body = in->text;
	reply->n = in->n;
	reply->doc = in->text == NULL ? NULL : yyjson_read(in->text, in->n, 0);
	reply->root = yyjson_doc_get_root(reply->doc);
}

static int call_api(
	const struct ctl *ctl, const struct call *call, bool is_text, struct reply *reply)
{
	struct incoming in = {};
	long status = perform(ctl, call, &in);
	*reply = (struct reply){};
	take_answer(&in, reply);
	if (status < 0)
		return (int)-status;
	if (status < 200 || status > 299)
		return fail_status(status, reply);
	if (!is_text && !yyjson_is_obj(reply->root))
		return ctl_fail(EX_PROTOCOL, "the answer of hikyaku-control is no JSON object");
	return EX_OK;
}

int api_call(const struct ctl *ctl, const char *method, const struct url *url, struct bytes body,
	struct reply *reply)
{
	struct call call = {method, "application/json", url, body, ctl->timeout_seconds};
	if (bytes_equal(bytes_first(body, 5), BYTES_LITERAL("-----")))
		call.type = "application/x-pem-file";
	return call_api(ctl, &call, false, reply);
}

int api_get_text(const struct ctl *ctl, const struct url *url, struct reply *reply)
{
	struct call call = {"GET", "application/json", url, BYTES_NONE, ctl->timeout_seconds};
	return call_api(ctl, &call, true, reply);
}

int api_send(const struct ctl *ctl, const char *method, const struct url *url, yyjson_mut_doc *doc,
	struct reply *reply)
{
	size_t n;
	char *json = yyjson_mut_write(doc, 0, &n);
	yyjson_mut_doc_free(doc);
	*reply = (struct reply){};
	if (json == NULL)
		return ctl_fail(EX_DATAERR, "a value is not UTF-8");
	int rc = api_call(ctl, method, url, bytes_of(json, n), reply);
	free(json);
	return rc;
}

int api_follow(const struct ctl *ctl, const struct url *url,
	void (*line)(void *user, struct bytes line), void *user)
{
	struct call call = {"GET", "application/json", url, BYTES_NONE, 0};
	struct incoming in = {.line = line, .user = user};
	struct reply reply = {};
	int rc = EX_OK;
	long status = perform(ctl, &call, &in);
	take_answer(&in, &reply);
	if (status < 0)
		rc = (int)-status;
	else if (status != 200)
		rc = fail_status(status, &reply);
	else if (reply.n != 0) /* a last line without its end */
		line(user, bytes_of(reply.body, reply.n));
	reply_fini(&reply);
	return rc;
}

void reply_fini(struct reply *reply)
{
	yyjson_doc_free(reply->doc);
	free(reply->body);
	*reply = (struct reply){};
}
