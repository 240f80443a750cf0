// SPDX-License-Identifier: Apache-2.0
/* smtp/queue/queue.c: making and ending a queue; the schedule; what concerns all of it. */
#include "smtp/queue/queue_private.h"

#include <stdlib.h>

void *queue_calloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL)
		abort();
	return p;
}

uint8_t *queue_scratch(struct queue *q, size_t n)
{
	if (n > q->scratch_room || q->scratch == NULL) {
		free(q->scratch);
		q->scratch_room = n < 4096 ? 4096 : n;
		q->scratch = queue_calloc(1, q->scratch_room);
	}
	return q->scratch;
}

uint64_t queue_wait_us(const struct queue *q, uint32_t tries)
{
	uint64_t wait_us = q->config.retry_first_seconds * SECONDS;
	uint64_t most_us = q->config.retry_most_seconds * SECONDS;

	if (q->config.retry_factor_percent > 100)
		for (uint32_t n = 1; n < tries && wait_us < most_us; n++)
			wait_us = wait_us / 100 * q->config.retry_factor_percent;
	return wait_us < most_us ? wait_us : most_us;
}

static void set_config(struct queue *q, const struct queue_config *config)
{
	struct queue_config *c = &q->config;

	*c = *config;
	bytes_to_string(bytes_of_string(config->hostname), q->hostname, sizeof q->hostname);
	c->hostname = q->hostname;
	/* No value may make the queue stand still, or spin. */
	c->retry_first_seconds += c->retry_first_seconds == 0;
	if (c->retry_most_seconds < c->retry_first_seconds)
		c->retry_most_seconds = c->retry_first_seconds;
	c->connections_per_site_max += c->connections_per_site_max == 0;
	c->mails_per_connection_max += c->mails_per_connection_max == 0;
	c->cores += c->cores == 0;
	if (c->jobs_max == 0)
		c->jobs_max = JOBS_MAX;
}

struct queue *queue_create(const struct queue_config *config)
{
	struct queue *q = calloc(1, sizeof *q);

	if (q == NULL)
		return NULL;
	set_config(q, config);
	q->core_jobs = calloc(q->config.cores, sizeof *q->core_jobs);
	if (q->core_jobs == NULL) {
		free(q);
		return NULL;
	}
	/* Where the heap begins is what strangers cannot know; asking for better would be a system call. */
	q->key.k0 = (uint64_t)(uintptr_t)q * 0x9e3779b97f4a7c15;
	q->key.k1 = (uint64_t)(uintptr_t)q->core_jobs ^ (uint64_t)(uintptr_t)&q << 20;
	struct link *heads[] = {&q->known, &q->answered, &q->busy, &q->blocked, &q->dirty,
		&q->tls_waiting, &q->woken, &q->removing, &q->load_wait};
	for (size_t n = 0; n < sizeof heads / sizeof heads[0]; n++)
		link_init(heads[n]);
	return q;
}

void queue_destroy(struct queue *q)
{
	if (q == NULL)
		return;
	mail_free_all(q);
	bounce_free_all(q);
	route_free_all(q);
	site_free_all(q);
	effect_free_all(q);
	due_fini(&q->due);
	free(q->core_jobs);
	free(q->scratch);
	free(q);
}

bool queue_has_room(const struct queue *q)
{
	return q->mail_count < q->config.mails_max;
}

/* Routes and kept connections of the epoch before are dropped where they are met. What is woken here keeps
 * its place among what is due, so that this is one step however many they are. */
void queue_policy_changed(struct queue *q, uint64_t now_us)
{
	q->now_us = now_us;
	q->epoch++;
	list_splice(&q->woken, &q->tls_waiting);
}

void queue_tick(struct queue *q, uint64_t now_us)
{
	q->now_us = now_us;
}

uint64_t queue_next_due_us(const struct queue *q)
{
	const struct due *due = due_first(&q->due);

	return due == NULL ? UINT64_MAX : due->at_us;
}

void queue_get_stats(const struct queue *q, struct queue_stats *stats)
{
	*stats = q->stats;
	stats->mails = q->mail_count;
	stats->routing = q->by_state[QUEUE_ITEM_ROUTING];
	stats->ready = q->by_state[QUEUE_ITEM_READY];
	stats->loading = q->by_state[QUEUE_ITEM_LOADING];
	stats->active = q->by_state[QUEUE_ITEM_ACTIVE];
	stats->waiting = q->by_state[QUEUE_ITEM_WAITING];
	stats->held = q->by_state[QUEUE_ITEM_HELD];
	stats->items = stats->routing + stats->ready + stats->loading + stats->active +
		       stats->waiting + stats->held;
}
