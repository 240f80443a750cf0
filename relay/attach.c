// SPDX-License-Identifier: Apache-2.0
#include "relay/attach.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <yyjson.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/link.h"
#include "control/shm/tickets.h"
#include "relay/answer.h"
#include "relay/inspect.h"
#include "relay/names.h"
#include "relay/worker.h"

#define CONNECT_US 1000000 /* between tries to reach control */
#define STATS_US   250000
#define BUSY_MS	   1 /* the longest wait while a worker does something for an operator */

struct attach {
	struct relay *relay;
	struct inspect *inspect;
	struct counters *counters;
	struct stats_region *region;
	int stats_fd, fd;
	int tickets_fd; /* the keys in force, for a control started anew; -1: none yet */
	struct note *unsent; /* control was slow: the next turn goes on with it */
	uint64_t connect_at_us, stats_at_us;
	char message[LINK_MESSAGE_MAX + 1];
};

struct attach *attach_create(struct relay *relay, char error[256])
{
	struct attach *a = calloc(1, sizeof *a);
	if (a == NULL)
		return NULL;
	a->relay = relay;
	a->fd = a->tickets_fd = -1;
	a->stats_fd = stats_create(&a->region);
	a->inspect = inspect_create(relay);
	if (a->stats_fd >= 0 && a->inspect != NULL)
		a->counters = counters_create(relay, a->region, a->inspect);
	if (a->counters == NULL) {
		snprintf(error, 256, "the counters' memory object could not be made: %s",
			strerror(a->stats_fd < 0 ? -a->stats_fd : ENOMEM));
		free(a->inspect);
		free(a);
		return NULL;
	}
	return a;
}

static void detach(struct attach *a, const char *why)
{
	log_warn("link", "control is away; going on with the policy there is", "why=\"%s\"", why);
	close(a->fd);
	a->fd = -1;
	names_unlinked(a->relay);
	struct note *note = note_new(NOTE_UNLINKED, "", 0);
	if (note != NULL && !ring_push_spsc(&a->relay->queue.from_main, note))
		free(note);
}

static void try_connect(struct attach *a)
{
	char hello[1024];
	uint64_t now = time_monotonic_us();
	if (now < a->connect_at_us)
		return;
	a->connect_at_us = now + CONNECT_US;
	a->fd = link_connect(a->relay->config->paths.control_socket);
	if (a->fd < 0) {
		a->fd = -1;
		return;
	}
	int n = snprintf(hello, sizeof hello, "{\"type\":\"hello\",\"version\":%d,\"instance\":\"%s\",\"pid\":%d}",
		LINK_VERSION, a->relay->config->node.instance, (int)getpid());
	const int fds[] = {a->stats_fd, a->tickets_fd};
	if (n >= (int)sizeof hello || link_send(a->fd, bytes_of(hello, (size_t)n), fds, a->tickets_fd < 0 ? 1 : 2) < 0)
		detach(a, "hello was not taken");
	else
		log_info("link", "attached to control", "socket=%s", a->relay->config->paths.control_socket);
}

/* ---- what control says ---- */

static void on_generation(struct attach *a, uint64_t number, int fds[], unsigned *fd_count)
{
	char error[512] = "two descriptors were expected", answer[1024];
	int rc = -EINVAL, n;
	if (*fd_count == 2)
		rc = generation_offer(a->relay, fds[0], fds[1], error);
	if (*fd_count == 2)
		*fd_count = 0; /* taken */
	if (rc == 0) {
		n = snprintf(answer, sizeof answer, "{\"type\":\"applied\",\"number\":%llu}", (unsigned long long)number);
		log_info("link", "policy generation in force", "number=%llu", (unsigned long long)number);
	} else {
		for (char *p = error; *p != '\0'; p++)
			if (*p == '"' || *p == '\\' || (unsigned char)*p < 0x20)
				*p = '\'';
		n = snprintf(answer, sizeof answer, "{\"type\":\"refused\",\"number\":%llu,\"error\":\"%s\"}",
			(unsigned long long)number, error);
		log_error("link", "policy generation refused", "number=%llu error=\"%s\"", (unsigned long long)number, error);
	}
	link_send(a->fd, bytes_of(answer, (size_t)n), NULL, 0);
}

/* Keys of session tickets: to every core, without a new context. */
static void on_tickets(struct attach *a, int fds[], unsigned *fd_count)
{
	struct tls_ticket_keys keys;
	int rc = *fd_count == 1 ? tickets_read(fds[0], &keys) : -EINVAL;
	if (rc != 0) {
		log_error("link", "ticket keys that cannot be used; going on with those there are", "error=\"%s\"",
			strerror(-rc));
		return;
	}
	for (unsigned i = 0; i < a->relay->cores; i++)
		if (!tls_lib_set_ticket_keys(a->relay->workers[i]->tls_lib, &keys))
			log_error("link", "no memory for ticket keys", "core=%u", i);
	log_info("link", "keys of session tickets are in force", "keys=%u", keys.count);
	explicit_bzero(&keys, sizeof keys);
	if (a->tickets_fd >= 0)
		close(a->tickets_fd);
	a->tickets_fd = fds[0];
	*fd_count = 0; /* taken */
}

/* "as configured", "by an operator; qatengine, hardware, broken" */
static void why_backend(const struct relay *r, char *to, size_t size)
{
	char engine[96] = "";
	if (r->backend == TLS_BACKEND_ENGINE)
		tls_crypto_describe(engine, sizeof engine);
	snprintf(to, size, "%s%s%s", r->backend_why, engine[0] == '\0' ? "" : "; ", engine);
}

static void on_status(struct attach *a, uint64_t token)
{
	char json[2048], why[sizeof a->relay->backend_why + 96];
	uint32_t connections = 0;
	struct relay *r = a->relay;
	struct queue_stats queue;
	struct spool_stats spool;
	const struct queue_stats *q = &queue;
	const struct spool_stats *s = &spool;
	words_copy(&queue, &r->queue.stats, sizeof queue);
	words_copy(&spool, &r->spool.stats, sizeof spool);
	for (unsigned i = 0; i < r->cores; i++)
		connections += atomic_load(&r->workers[i]->connections);
	why_backend(r, why, sizeof why);
	int n = snprintf(json, sizeof json,
		"{\"type\":\"response\",\"token\":%llu,\"ok\":true,\"generation\":%llu,\"uptime\":%llu,\"cores\":%u,"
		"\"connections\":%u,\"draining\":%s,\"queue\":{\"mails\":%llu,\"routing\":%llu,\"ready\":%llu,"
		"\"loading\":%llu,\"active\":%llu,\"waiting\":%llu,\"held\":%llu,\"delivered\":%llu,\"deferred\":%llu,"
		"\"bounced\":%llu},\"offload\":{\"backend\":\"%s\",\"why\":\"%s\"},\"spool\":{\"segments\":%llu,\"bytes\":%llu,\"mails\":%llu,\"failing\":%s}}",
		(unsigned long long)token, (unsigned long long)atomic_load(&r->generation),
		(unsigned long long)((time_monotonic_us() - r->started_us) / USEC_PER_SEC), r->cores, connections,
		atomic_load(&r->is_draining) ? "true" : "false", (unsigned long long)q->mails,
		(unsigned long long)q->routing, (unsigned long long)q->ready, (unsigned long long)q->loading,
		(unsigned long long)q->active, (unsigned long long)q->waiting, (unsigned long long)q->held,
		(unsigned long long)q->delivered, (unsigned long long)q->deferred, (unsigned long long)q->bounced,
		tls_backend_name(r->backend), why,
		(unsigned long long)s->segments, (unsigned long long)s->bytes, (unsigned long long)s->mails_live,
		atomic_load(&r->spool.is_full) ? "true" : "false");
	link_send(a->fd, bytes_of(json, (size_t)n), NULL, 0);
}

static void on_offload(struct attach *a, uint64_t token, const char *backend)
{
	char error[512] = "";
	struct note *note;
	if (backend == NULL || backend_change(a->relay, backend, error) != 0) {
		note = answer_refuse(token, backend == NULL ? "no back end is named" : error);
	} else {
		yyjson_mut_doc *doc = answer_new(token, true);
		yyjson_mut_obj_add_str(
			doc, yyjson_mut_doc_get_root(doc), "offload", tls_backend_name(a->relay->backend));
		note = answer_finish(doc);
	}
	if (note != NULL)
		link_send(a->fd, bytes_of(note->json, note->n), NULL, 0);
	free(note);
}

static void pass_to_queue(struct attach *a, enum note_kind kind, size_t n)
{
	struct note *note = note_new(kind, a->message, n);
	if (note != NULL && !ring_push_spsc(&a->relay->queue.from_main, note))
		free(note); /* 4,095 requests are waiting: whoever asked runs into its own time limit */
}

static void on_message(struct attach *a, size_t n, int fds[], unsigned *fd_count)
{
	yyjson_doc *doc = yyjson_read(a->message, n, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	const char *type = yyjson_get_str(yyjson_obj_get(root, "type"));
	const char *op = yyjson_get_str(yyjson_obj_get(root, "op"));
	if (type == NULL) {
		log_warn("link", "a message that is none", "bytes=%zu", n);
	} else if (strcmp(type, "generation") == 0) {
		on_generation(a, yyjson_get_uint(yyjson_obj_get(root, "number")), fds, fd_count);
	} else if (strcmp(type, "tickets") == 0) {
		on_tickets(a, fds, fd_count);
	} else if (strcmp(type, "resolved") == 0) {
		pass_to_queue(a, NOTE_RESOLVED, n);
	} else if (strcmp(type, "named") == 0) {
		names_answer(a->relay, root);
	} else if (strcmp(type, "request") == 0 && op != NULL && strcmp(op, "status") == 0) {
		on_status(a, yyjson_get_uint(yyjson_obj_get(root, "token")));
	} else if (strcmp(type, "request") == 0 && op != NULL && strcmp(op, "records.reopen") == 0) {
		record_file_reopen(a->relay->records);
	} else if (strcmp(type, "request") == 0 && op != NULL && strcmp(op, "offload") == 0) {
		on_offload(a, yyjson_get_uint(yyjson_obj_get(root, "token")),
			yyjson_get_str(yyjson_obj_get(root, "backend")));
	} else if (strcmp(type, "request") == 0 && op != NULL && inspect_knows(op)) {
		inspect_request(a->inspect, a->message, n);
	} else if (strcmp(type, "request") == 0) {
		pass_to_queue(a, NOTE_REQUEST, n);
	}
	yyjson_doc_free(doc);
}

static void receive_all(struct attach *a)
{
	int fds[LINK_FDS_MAX];
	unsigned fd_count = 0;
	long n;
	while (a->fd >= 0 && (n = link_receive(a->fd, a->message, fds, &fd_count)) != -EAGAIN) {
		if (n <= 0) {
			detach(a, n == 0 ? "it has closed" : strerror((int)-n));
			break;
		}
		on_message(a, (size_t)n, fds, &fd_count);
		for (unsigned i = 0; i < fd_count; i++)
			close(fds[i]);
		fd_count = 0;
	}
}

static struct note *next_note(struct attach *a)
{
	struct note *note = a->unsent;
	a->unsent = NULL;
	if (note == NULL)
		note = inspect_answer(a->inspect);
	return note != NULL ? note : ring_pop_spsc(&a->relay->queue.to_main);
}

static void send_notes(struct attach *a)
{
	struct note *note;
	bool unlinked = false;
	while ((note = next_note(a)) != NULL) {
		int rc = a->fd < 0 ? -EPIPE : link_send(a->fd, bytes_of(note->json, note->n), NULL, 0);
		if (rc == -EAGAIN) {
			a->unsent = note;
			break;
		}
		if (rc < 0 && note->kind == NOTE_RESOLVE)
			unlinked = true;
		else if (rc < 0)
			log_warn("link", "a response could not be sent", "bytes=%zu error=\"%s\"", note->n, strerror(-rc));
		free(note);
	}
	note = unlinked ? note_new(NOTE_UNLINKED, "", 0) : NULL;
	if (note != NULL && !ring_push_spsc(&a->relay->queue.from_main, note))
		free(note);
}

void attach_turn(struct attach *a, int wait_ms)
{
	if (a->fd < 0)
		try_connect(a);
	struct pollfd p = {.fd = a->fd, .events = POLLIN};
	if (inspect_is_busy(a->inspect))
		wait_ms = BUSY_MS;
	if (a->fd >= 0)
		poll(&p, 1, wait_ms);
	else
		usleep((useconds_t)wait_ms * 1000);
	if (a->fd >= 0)
		receive_all(a);
	inspect_turn(a->inspect, time_monotonic_us());
	names_turn(a->relay, a->fd, time_monotonic_us());
	send_notes(a);
}

void attach_update_stats(struct attach *a)
{
	uint64_t now = time_monotonic_us();
	if (now < a->stats_at_us)
		return;
	a->stats_at_us = now + STATS_US;
	counters_update(a->counters);
}

void attach_destroy(struct attach *a)
{
	if (a->fd >= 0)
		close(a->fd);
	close(a->stats_fd);
	if (a->tickets_fd >= 0)
		close(a->tickets_fd);
	counters_destroy(a->counters);
	inspect_destroy(a->inspect);
	free(a->unsent);
	free(a);
}
