// SPDX-License-Identifier: Apache-2.0
/* control/daemon/relays.c: the relays attached to this control: hello, generations, requests and
 * responses. */
#include "control/daemon/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

void relays_accept(struct control *c)
{
	int fd = link_accept(c->listen_fd);
	if (fd < 0)
		return;
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		if (c->relays[i].fd >= 0)
			continue;
		c->relays[i] = (struct relay_peer){.fd = fd, .attached_us = time_monotonic_us()};
		return;
	}
	log_error("relays", "one more relay than can be attached", "most=%d", CONTROL_RELAYS_MAX);
	close(fd);
}

static void detach(struct control *c, int peer, const char *why)
{
	struct relay_peer *p = &c->relays[peer];
	log_warn("relays", "relay is gone", "instance=%s pid=%d why=\"%s\"", p->instance, p->pid,
		why);
	close(p->fd);
	if (p->stats != NULL)
		stats_unmap(p->stats);
	*p = (struct relay_peer){.fd = -1};
	for (struct pending_request *r = c->pending; r != NULL; r = r->next)
		if (r->peer == peer)
			r->is_lost = true;
	pthread_cond_broadcast(&c->changed);
}

static void send_generation(struct control *c, int peer)
{
	char json[128];
	const int fds[] = {c->policy_fd, c->keys_fd};
	if (c->policy_fd < 0)
		return;
	int n = snprintf(json, sizeof json, "{\"type\":\"generation\",\"number\":%llu}",
		(unsigned long long)c->generation);
	int rc = link_send(c->relays[peer].fd, bytes_of(json, (size_t)n), fds, 2);
	if (rc < 0)
		detach(c, peer, strerror(-rc)); /* it comes back and is told the newest */
}

void relays_publish_all(struct control *c)
{
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		if (c->relays[i].fd >= 0 && c->relays[i].instance[0] != '\0')
			send_generation(c, i);
}

static void on_hello(struct control *c, int peer, yyjson_val *root, int fds[], unsigned fd_count)
{
	struct relay_peer *p = &c->relays[peer];
	const char *instance = yyjson_get_str(yyjson_obj_get(root, "instance"));
	if (yyjson_get_uint(yyjson_obj_get(root, "version")) != LINK_VERSION || instance == NULL ||
		instance[0] == '\0' || strlen(instance) >= sizeof p->instance) {
		detach(c, peer, "it speaks another version of the link");
		return;
	}
	/* A relay that starts anew may be here before the end of the last one is. */
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++)
		if (i != peer && c->relays[i].fd >= 0 &&
			strcmp(c->relays[i].instance, instance) == 0)
			detach(c, i, "another relay of this name has come");
	snprintf(p->instance, sizeof p->instance, "%s", instance);
	p->pid = (int)yyjson_get_int(yyjson_obj_get(root, "pid"));
	if (fd_count > 0 && p->stats == NULL && stats_map(fds[0], &p->stats) < 0)
		log_warn("relays", "its counters cannot be read", "instance=%s", p->instance);
	log_info("relays", "relay attached", "instance=%s pid=%d", p->instance, p->pid);
	/* Before the generation, so that it makes no ticket under keys of its own. */
	tickets_greet(c, peer, fd_count > 1 ? fds[1] : -1);
	send_generation(c, peer);
	pthread_cond_broadcast(&c->changed);
}

static void on_response(struct control *c, int peer, yyjson_val *root, const char *json, size_t n)
{
	uint64_t token = yyjson_get_uint(yyjson_obj_get(root, "token"));
	for (struct pending_request *r = c->pending; r != NULL; r = r->next)
		if (r->token == token && r->peer == peer && r->response == NULL)
			r->response = strndup(json, n);
	pthread_cond_broadcast(&c->changed);
}

static void on_message(
	struct control *c, int peer, char *json, size_t n, int fds[], unsigned fd_count)
{
	struct relay_peer *p = &c->relays[peer];
	yyjson_doc *doc = yyjson_read(json, n, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	const char *type = yyjson_get_str(yyjson_obj_get(root, "type"));
	const char *error = yyjson_get_str(yyjson_obj_get(root, "error"));
	if (type == NULL) {
		detach(c, peer, "a message that is none");
	} else if ((strcmp(type, "hello") == 0) != (p->instance[0] == '\0')) {
		detach(c, peer, "it did not begin with one hello");
	} else if (strcmp(type, "hello") == 0) {
		on_hello(c, peer, root, fds, fd_count);
	} else if (strcmp(type, "applied") == 0) {
		p->applied = yyjson_get_uint(yyjson_obj_get(root, "number"));
		pthread_cond_broadcast(&c->changed);
	} else if (strcmp(type, "refused") == 0) {
		p->refused = yyjson_get_uint(yyjson_obj_get(root, "number"));
		snprintf(p->refused_error, sizeof p->refused_error, "%s",
			error == NULL ? "" : error);
		log_error("relays", "a relay refused the generation",
			"instance=%s number=%llu error=\"%s\"", p->instance,
			(unsigned long long)p->refused, p->refused_error);
		pthread_cond_broadcast(&c->changed);
	} else if (strcmp(type, "resolve") == 0) {
		resolver_ask(c->resolver, peer, root);
	} else if (strcmp(type, "response") == 0) {
		on_response(c, peer, root, json, n);
	}
	yyjson_doc_free(doc);
}

void relays_receive(struct control *c, int peer)
{
	static char json[LINK_MESSAGE_MAX + 1]; /* the main loop's alone */
	int fds[LINK_FDS_MAX];
	unsigned fd_count = 0;
	/* So many at once, so that one relay's questions do not keep the others waiting. */
	for (int i = 0; i < 256 && c->relays[peer].fd >= 0; i++) {
		long n = link_receive(c->relays[peer].fd, json, fds, &fd_count);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			detach(c, peer, n == 0 ? "it has closed" : strerror((int)-n));
			return;
		}
		on_message(c, peer, json, (size_t)n, fds, fd_count);
		for (unsigned k = 0; k < fd_count; k++)
			close(fds[k]);
		fd_count = 0;
	}
}

/* ---- requests of the API ---- */

static struct timespec answer_deadline(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += ANSWER_SECONDS;
	return t;
}

static void forget(struct control *c, struct pending_request *request)
{
	struct pending_request **link = &c->pending;
	while (*link != request)
		link = &(*link)->next;
	*link = request->next;
}

/* Sends; what is awaited is in the list then. */
static void begin(struct control *c, int peer, const char *request, struct pending_request *pending,
	struct relay_reply *reply)
{
	char *json = NULL;
	*pending = (struct pending_request){
		.token = ++c->next_token, .peer = peer, .next = c->pending};
	*reply = (struct relay_reply){.error = ""};
	memcpy(reply->instance, c->relays[peer].instance, sizeof reply->instance);
	int n = asprintf(&json, "{\"type\":\"request\",\"token\":%llu,%s",
		(unsigned long long)pending->token, request + 1 /* behind its brace */);
	int rc =
		n < 0 ? -ENOMEM : link_send(c->relays[peer].fd, bytes_of(json, (size_t)n), NULL, 0);
	if (n >= 0)
		free(json);
	if (rc < 0)
		snprintf(reply->error, sizeof reply->error,
			"the relay did not take the request: %s", strerror(-rc));
	pending->is_lost = rc < 0;
	c->pending = pending;
}

static void finish(struct control *c, struct pending_request *pending, struct relay_reply *reply)
{
	forget(c, pending);
	if (pending->response != NULL)
		reply->doc = yyjson_read(pending->response, strlen(pending->response), 0);
	free(pending->response);
	yyjson_val *root = yyjson_doc_get_root(reply->doc);
	const char *error = yyjson_get_str(yyjson_obj_get(root, "error"));
	reply->is_refused = root != NULL && !yyjson_get_bool(yyjson_obj_get(root, "ok"));
	if (reply->is_refused)
		snprintf(reply->error, sizeof reply->error, "%s",
			error == NULL ? "the relay refused" : error);
	else if (root == NULL && reply->error[0] == '\0')
		snprintf(reply->error, sizeof reply->error,
			pending->is_lost ? "the relay went away"
					 : "the relay did not answer within %d s",
			ANSWER_SECONDS);
	if (reply->error[0] != '\0') {
		yyjson_doc_free(reply->doc);
		reply->doc = NULL;
	}
}

static bool is_waiting(const struct pending_request *pending, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pending[i].response == NULL && !pending[i].is_lost)
			return true;
	return false;
}

unsigned relays_ask(struct control *c, const char *instance, const char *request,
	struct relay_reply replies[CONTROL_RELAYS_MAX])
{
	struct pending_request pending[CONTROL_RELAYS_MAX];
	struct timespec deadline = answer_deadline();
	unsigned count = 0;
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *p = &c->relays[i];
		if (p->fd < 0 || p->instance[0] == '\0' ||
			(instance != NULL && strcmp(p->instance, instance) != 0))
			continue;
		begin(c, i, request, &pending[count], &replies[count]);
		count++;
	}
	while (is_waiting(pending, count) && !c->is_stopping &&
		pthread_cond_timedwait(&c->changed, &c->lock, &deadline) == 0)
		;
	for (unsigned i = 0; i < count; i++)
		finish(c, &pending[i], &replies[i]);
	pthread_mutex_unlock(&c->lock);
	return count;
}

void relays_free_replies(struct relay_reply *replies, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		yyjson_doc_free(replies[i].doc);
}

static bool all_have(const struct control *c, uint64_t generation)
{
	for (int i = 0; i < CONTROL_RELAYS_MAX; i++) {
		const struct relay_peer *p = &c->relays[i];
		if (p->fd >= 0 && p->instance[0] != '\0' && p->applied < generation &&
			p->refused < generation)
			return false;
	}
	return true;
}

void relays_await(struct control *c, uint64_t generation)
{
	struct timespec deadline = answer_deadline();
	pthread_mutex_lock(&c->lock);
	while (!all_have(c, generation) && !c->is_stopping &&
		pthread_cond_timedwait(&c->changed, &c->lock, &deadline) == 0)
		;
	pthread_mutex_unlock(&c->lock);
}
