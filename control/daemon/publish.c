// SPDX-License-Identifier: Apache-2.0
/* control/daemon/publish.c: from the store to a generation in force. */
#include "control/daemon/control.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tls/pem.h"

/* The active certificates as the compiler wants them, one changed or left out. */
static size_t choose(const struct store_cert *stored, size_t count, const struct store_cert *changed,
	const char *without, struct policy_cert *to)
{
	size_t n = 0;
	for (size_t i = 0; i <= count; i++) {
		const struct store_cert *cert = i < count ? &stored[i] : changed;
		if (cert == NULL || !cert->is_active)
			continue;
		if (i < count && changed != NULL && strcmp(cert->id, changed->id) == 0)
			continue;
		if (i < count && without != NULL && strcmp(cert->id, without) == 0)
			continue;
		to[n++] = (struct policy_cert){
			.id = cert->id,
			.chain_pem = bytes_of_string(cert->chain_pem),
			.key_pem = bytes_of_string(cert->key_pem),
			.is_default = i < count && changed != NULL && changed->is_default ? false : cert->is_default,
		};
	}
	return n;
}

/* The documents and certificates as one generation of the given number. */
static int compile(struct control *c, const char *documents, const struct store_cert *cert, const char *without,
	uint64_t generation, struct candidate *candidate, char error[512])
{
	struct store_cert *stored = NULL;
	size_t count = 0;
	int rc = store_certs(c->store, &stored, &count, error);
	if (rc < 0)
		return rc;
	struct policy_cert *chosen = calloc(count + 1, sizeof *chosen);
	*candidate = (struct candidate){.generation = generation, .policy_fd = -1, .keys_fd = -1};
	rc = chosen == NULL ? -ENOMEM
			    : policy_compile(bytes_of_string(documents), chosen,
				      choose(stored, count, cert, without, chosen), generation, &candidate->policy_fd,
				      &candidate->keys_fd, error);
	if (chosen == NULL)
		snprintf(error, 512, "out of memory");
	if (rc != 0)
		candidate->policy_fd = candidate->keys_fd = -1; /* nothing to close */
	free(chosen);
	store_free_certs(stored, count);
	return rc;
}

int candidate_compile(struct control *c, const char *documents, const struct store_cert *cert, const char *without,
	struct candidate *candidate, char error[512])
{
	return compile(c, documents, cert, without, store_generation(c->store) + 1, candidate, error);
}

void candidate_drop(struct candidate *candidate)
{
	if (candidate->policy_fd >= 0)
		close(candidate->policy_fd);
	if (candidate->keys_fd >= 0)
		close(candidate->keys_fd);
	candidate->policy_fd = candidate->keys_fd = -1;
}

void candidate_publish(struct control *c, struct candidate *candidate)
{
	struct policy *policy;
	if (policy_map(candidate->policy_fd, -1, &policy) == 0) {
		if (c->policy != NULL)
			policy_unmap(c->policy);
		c->policy = policy;
	}
	if (c->policy_fd >= 0)
		close(c->policy_fd);
	if (c->keys_fd >= 0)
		close(c->keys_fd);
	c->policy_fd = candidate->policy_fd;
	c->keys_fd = candidate->keys_fd;
	c->generation = candidate->generation;
	candidate->policy_fd = candidate->keys_fd = -1;
	relays_publish_all(c);
}

/* ---- changes ---- */

int publish_documents(struct control *c, const char *documents, bool is_trial, uint64_t *generation, char error[512])
{
	struct candidate candidate;
	int rc = candidate_compile(c, documents, NULL, NULL, &candidate, error);
	*generation = c->generation;
	if (rc == 0 && !is_trial)
		rc = store_save_documents(c->store, documents, candidate.generation, error);
	if (rc == 0 && !is_trial) {
		candidate_publish(c, &candidate);
		*generation = c->generation;
	}
	candidate_drop(&candidate);
	return rc;
}

/* ---- at start ---- */

/* The first start: a certificate of our own, so that STARTTLS can be offered before anybody has imported one. */
static int make_first_cert(struct control *c, char error[512])
{
	struct tls_error tls_error = {.text = ""};
	struct pem_pair pair;
	const char *name = c->config->node.hostname;
	int rc = pem_make_self_signed(&name, 1, 825, PEM_KEY_ECDSA_P256, (int64_t)(time_wall_us() / USEC_PER_SEC),
		&pair, &tls_error);
	if (rc < 0) {
		snprintf(error, 512, "cannot make the first certificate for %s: %s", name, tls_error.text);
		return rc;
	}
	const struct store_cert cert = {.id = "self-signed", .chain_pem = pair.chain, .key_pem = pair.key,
		.is_active = true, .is_default = true};
	rc = store_put_cert(c->store, &cert, store_generation(c->store) + 1, error);
	pem_pair_fini(&pair);
	log_info("control", "made a self-signed certificate", "id=self-signed name=%s", name);
	return rc;
}

int publish_start(struct control *c, char error[512])
{
	struct store_cert *certs = NULL;
	struct candidate candidate;
	size_t count = 0;
	int rc = store_certs(c->store, &certs, &count, error);
	store_free_certs(certs, count);
	if (rc == 0 && count == 0)
		rc = make_first_cert(c, error);
	if (rc < 0)
		return rc;
	char *documents = store_documents(c->store, error);
	if (documents == NULL)
		return -EIO;
	/* The number is that of what is stored: relays that have it already need no new one. */
	rc = compile(c, documents, NULL, NULL, store_generation(c->store), &candidate, error);
	if (rc == 0)
		candidate_publish(c, &candidate);
	free(documents);
	return rc;
}
