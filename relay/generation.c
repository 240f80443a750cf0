// SPDX-License-Identifier: Apache-2.0
/* relay/generation.c: a new policy, from control's memory object to every core.
 *
 * The main thread maps the object and makes one view a user: for a worker with TLS contexts of its own. A user
 * takes the offered view with one atomic exchange at the start of a turn; the one before is retired, and handed
 * back when none of its sessions lives. Whoever offers a second view before the first was taken gets the first
 * back from the same exchange: generations coalesce. When the last view is home the object is unmapped. */
#include "relay/relay.h"
#include "relay/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

struct generation {
	struct policy *policy;
	unsigned views;
};

bool view_refresh(struct view_box *box)
{
	/* A plain look first: the exchange would take the cache line each turn. */
	if (atomic_load_explicit(&box->offered, memory_order_relaxed) == NULL)
		return false;
	struct view *view = atomic_exchange_explicit(&box->offered, NULL, memory_order_acquire);
	if (view == NULL)
		return false;
	if (box->current != NULL) {
		box->current->next = box->retired;
		box->retired = box->current;
	}
	box->current = view;
	return true;
}

void view_collect(struct view_box *box)
{
	struct view **link = &box->retired;
	while (*link != NULL) {
		struct view *view = *link;
		bool in_use = (view->server != NULL && tls_server_set_sessions(view->server) != 0) ||
			(view->client != NULL && tls_client_set_sessions(view->client) != 0);
		if (in_use || ring_space(&box->returned) == 0) {
			link = &view->next;
			continue;
		}
		*link = view->next;
		ring_push_spsc(&box->returned, view);
	}
}

static void view_destroy(struct view *view)
{
	if (view == NULL)
		return;
	if (view->server != NULL)
		tls_server_set_put(view->server);
	if (view->client != NULL)
		tls_client_set_put(view->client);
	struct generation *g = view->generation;
	if (--g->views == 0) {
		policy_unmap(g->policy);
		free(g);
	}
	free(view);
}

static struct view *view_create(struct generation *g)
{
	struct view *view = calloc(1, sizeof *view);
	if (view == NULL)
		return NULL;
	view->generation = g;
	view->policy = g->policy;
	view->number = policy_generation(g->policy);
	g->views++;
	return view;
}

static bool make_contexts(const struct relay *relay, struct worker *w, struct view *view, char error[512])
{
	struct tls_error tls_error = {.text = ""};
	size_t profile_count, cert_count = policy_cert_count(view->policy);
	const struct tls_profile *profiles = policy_profiles(view->policy, &profile_count);
	struct tls_key_pair *pairs = calloc(cert_count + 1, sizeof *pairs);
	struct bytes *cas = calloc(profile_count + 1, sizeof *cas);
	if (pairs == NULL || cas == NULL) {
		free(pairs);
		free(cas);
		return false;
	}
	for (size_t i = 0; i < profile_count; i++)
		cas[i] = policy_profile_ca_pem(view->policy, i);
	for (size_t i = 0; i < cert_count; i++) {
		struct bytes id;
		policy_cert(view->policy, i, &id, &pairs[i].chain_pem, &pairs[i].key_pem);
	}
	const struct tls_server_set_config server = {.pairs = pairs, .pair_count = cert_count,
		.profiles = profiles, .profile_count = profile_count, .client_ca_pem = policy_ca_pem(view->policy),
		.profile_ca_pem = cas, .backend = relay->backend};
	const struct tls_client_set_config client = {
		.profiles = profiles, .profile_count = profile_count, .ca_pem = policy_ca_pem(view->policy),
		.profile_ca_pem = cas, .backend = relay->backend};
	if (cert_count != 0)
		view->server = tls_server_set_create(w->tls_lib, &server, &tls_error);
	if (cert_count == 0 || view->server != NULL)
		view->client = tls_client_set_create(w->tls_lib, &client, &tls_error);
	free(pairs);
	free(cas);
	if (view->client == NULL)
		snprintf(error, 512, "TLS contexts for generation %llu: %s", (unsigned long long)view->number,
			tls_error.text);
	return view->client != NULL;
}

/* One a worker; false: none. The generation must have another view, or it would go with the last of these. */
static bool make_views(struct relay *relay, struct generation *g, struct view *views[], char error[512])
{
	bool ok = true;
	for (unsigned i = 0; ok && i < relay->cores; i++) {
		views[i] = view_create(g);
		ok = views[i] != NULL && make_contexts(relay, relay->workers[i], views[i], error);
	}
	for (unsigned i = 0; !ok && i < relay->cores; i++)
		view_destroy(views[i]);
	return ok;
}

static void offer(struct view_box *box, struct view *view)
{
	view_destroy(atomic_exchange_explicit(&box->offered, view, memory_order_acq_rel));
}

static void offer_all(struct relay *relay, struct view *views[])
{
	for (unsigned i = 0; i < relay->cores; i++)
		offer(&relay->workers[i]->views, views[i]);
}

int generation_offer(struct relay *relay, int policy_fd, int keys_fd, char error[512])
{
	struct view *views[DP_CORES_MAX] = {NULL};
	struct policy *policy = NULL;
	int rc = policy_map(policy_fd, keys_fd, &policy);
	close(policy_fd);
	if (keys_fd >= 0)
		close(keys_fd);
	if (rc < 0) {
		snprintf(error, 512, "the generation cannot be used: %s",
			rc == -EPROTO ? "it has another layout version than this relay reads" : strerror(-rc));
		return rc;
	}
	struct generation *g = calloc(1, sizeof *g);
	if (g == NULL) {
		policy_unmap(policy);
		return -ENOMEM;
	}
	g->policy = policy;
	struct view *for_queue = view_create(g);
	if (for_queue == NULL || !make_views(relay, g, views, error)) {
		view_destroy(for_queue);
		return -EINVAL;
	}
	atomic_store(&relay->generation, for_queue->number);
	relay->newest = g;
	/* Workers first: what the queue then tries again meets the new policy there. */
	offer_all(relay, views);
	offer(&relay->queue.views, for_queue);
	return 0;
}

int generation_renew(struct relay *relay, char error[512])
{
	struct view *views[DP_CORES_MAX] = {NULL};
	if (relay->newest == NULL)
		return 0;
	if (!make_views(relay, relay->newest, views, error))
		return -EINVAL;
	offer_all(relay, views);
	return 0;
}

static void collect(struct view_box *box)
{
	for (struct view *view; (view = ring_pop_spsc(&box->returned)) != NULL;)
		view_destroy(view);
}

void generation_collect(struct relay *relay)
{
	collect(&relay->queue.views);
	for (unsigned i = 0; i < relay->cores; i++)
		collect(&relay->workers[i]->views);
}
