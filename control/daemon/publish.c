// SPDX-License-Identifier: Apache-2.0
/* control/daemon/publish.c: from the store to a generation in force. */
#include "control/daemon/control.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tls/pem.h"
#include "tls/tls.h"

/* The active certificates as the compiler wants them, one changed or left out. */
static size_t choose(const struct store_cert *stored, size_t count,
	const struct store_cert *changed, const char *without, struct policy_cert *to)
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
			.is_default = i < count && changed != NULL && changed->is_default
				? false
				: cert->is_default,
		};
	}
	return n;
}

/* As store_certs() has them, so that a generation is the same when it is compiled again at the next
 * start. */
static int as_stored(const void *a, const void *b)
{
	const struct policy_cert *x = a, *y = b;
	return x->is_default != y->is_default ? (int)y->is_default - (int)x->is_default
					      : strcmp(x->id, y->id);
}

/* What a relay will do with it: groups, names, CA set, keys and certificates that OpenSSL does not
 * take are refused here and not first there. */
static int try_contexts(struct tls_lib *lib, const struct policy *policy,
	const struct policy_cert *certs, size_t count, struct tls_error *error)
{
	size_t profile_count;
	const struct tls_profile *profiles = policy_profiles(policy, &profile_count);
	struct tls_key_pair *pairs = calloc(count + 1, sizeof *pairs);
	struct bytes *cas = calloc(profile_count + 1, sizeof *cas);
	for (size_t i = 0; pairs != NULL && i < count; i++)
		pairs[i] = (struct tls_key_pair){certs[i].chain_pem, certs[i].key_pem};
	for (size_t i = 0; cas != NULL && i < profile_count; i++)
		cas[i] = policy_profile_ca_pem(policy, i);
	const struct tls_server_set_config server_config = {.pairs = pairs,
		.pair_count = count,
		.profiles = profiles,
		.profile_count = profile_count,
		.client_ca_pem = policy_ca_pem(policy),
		.profile_ca_pem = cas};
	const struct tls_client_set_config client_config = {.profiles = profiles,
		.profile_count = profile_count,
		.ca_pem = policy_ca_pem(policy),
		.profile_ca_pem = cas};
	struct tls_client_set *client =
		pairs == NULL || cas == NULL ? NULL : tls_client_set_create(lib, &client_config, error);
	struct tls_server_set *server = client == NULL || count == 0
		? NULL
		: tls_server_set_create(lib, &server_config, error);
	int rc = client == NULL || (count != 0 && server == NULL) ? -EINVAL : 0;
	if (server != NULL)
		tls_server_set_put(server);
	if (client != NULL)
		tls_client_set_put(client);
	free(pairs);
	free(cas);
	return rc;
}

static int try_candidate(const struct candidate *candidate, const struct policy_cert *certs,
	size_t count, char error[512])
{
	struct tls_error tls_error = {.text = "out of memory"};
	struct policy *policy = NULL;
	int rc = policy_map(candidate->policy_fd, -1, &policy);
	struct tls_lib *lib = rc == 0 ? tls_lib_create() : NULL;
	if (rc != 0)
		snprintf(error, 512, "what was compiled cannot be read: %s", strerror(-rc));
	else
		rc = lib == NULL ? -ENOMEM : try_contexts(lib, policy, certs, count, &tls_error);
	if (policy != NULL && rc != 0)
		snprintf(error, 512, "%s", tls_error.text);
	if (lib != NULL)
		tls_lib_destroy(lib);
	policy_unmap(policy);
	return rc;
}

/* The documents and certificates as one generation of the given number. */
static int compile(struct control *c, const char *documents, const struct store_cert *cert,
	const char *without, uint64_t generation, struct candidate *candidate, char error[512])
{
	struct store_cert *stored = NULL;
	size_t count = 0;
	*candidate = (struct candidate){.generation = generation, .policy_fd = -1, .keys_fd = -1};
	int rc = store_certs(c->store, &stored, &count, error);
	if (rc < 0)
		return rc;
	struct policy_cert *chosen = calloc(count + 1, sizeof *chosen);
	if (chosen == NULL) {
		store_free_certs(stored, count);
		snprintf(error, 512, "out of memory");
		return -ENOMEM;
	}
	size_t n = choose(stored, count, cert, without, chosen);
	qsort(chosen, n, sizeof *chosen, as_stored);
	rc = policy_compile(bytes_of_string(documents), chosen, n, generation,
		&candidate->policy_fd, &candidate->keys_fd, error);
	if (rc != 0)
		candidate->policy_fd = candidate->keys_fd = -1; /* nothing to close */
	else if ((rc = try_candidate(candidate, chosen, n, error)) != 0)
		candidate_drop(candidate);
	free(chosen);
	store_free_certs(stored, count);
	return rc;
}

int candidate_compile(struct control *c, const char *documents, const struct store_cert *cert,
	const char *without, struct candidate *candidate, char error[512])
{
	return compile(
		c, documents, cert, without, store_generation(c->store) + 1, candidate, error);
}

void candidate_drop(struct candidate *candidate)
{
	if (candidate->policy_fd >= 0)
		close(candidate->policy_fd);
	if (candidate->keys_fd >= 0)
		close(candidate->keys_fd);
	candidate->policy_fd = candidate->keys_fd = -1;
}

/* Puts it in force and sends it to all relays. */
static void put_in_force(struct control *c, struct candidate *candidate)
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
	c->published_us = time_monotonic_us();
	candidate->policy_fd = candidate->keys_fd = -1;
	relays_publish_all(c);
}

/* ---- changes ---- */

/* Keeps nothing: a candidate that was not saved is dropped. */
static int conclude(struct control *c, int rc, struct candidate *candidate, uint64_t *generation)
{
	if (rc == 0)
		put_in_force(c, candidate);
	candidate_drop(candidate);
	*generation = c->generation;
	return rc;
}

int publish_compiled(struct control *c, const char *documents, struct candidate *candidate,
	uint64_t *generation, char error[512])
{
	return conclude(c, store_save_documents(c->store, documents, candidate->generation, error),
		candidate, generation);
}

int publish_documents(
	struct control *c, const char *documents, uint64_t *generation, char error[512])
{
	struct candidate candidate;
	int rc = candidate_compile(c, documents, NULL, NULL, &candidate, error);
	return rc != 0 ? rc : publish_compiled(c, documents, &candidate, generation, error);
}

int publish_cert(
	struct control *c, const struct store_cert *cert, uint64_t *generation, char error[512])
{
	struct candidate candidate = {.policy_fd = -1, .keys_fd = -1};
	char *documents = store_documents(c->store, error);
	int rc = documents == NULL ? -EIO
				   : candidate_compile(c, documents, cert, NULL, &candidate, error);
	if (rc == 0)
		rc = store_put_cert(c->store, cert, candidate.generation, error);
	free(documents);
	return conclude(c, rc, &candidate, generation);
}

int publish_cert_removal(struct control *c, const char *id, uint64_t *generation, char error[512])
{
	struct candidate candidate = {.policy_fd = -1, .keys_fd = -1};
	char *documents = store_documents(c->store, error);
	int rc = documents == NULL ? -EIO
				   : candidate_compile(c, documents, NULL, id, &candidate, error);
	if (rc == 0)
		rc = store_remove_cert(c->store, id, candidate.generation, error);
	free(documents);
	return conclude(c, rc, &candidate, generation);
}

/* ---- at start ---- */

/* The first start: a certificate of our own, so that STARTTLS can be offered before anybody has
 * imported one. */
static int make_first_cert(struct control *c, char error[512])
{
	struct tls_error tls_error = {.text = ""};
	struct pem_pair pair;
	const char *name = c->config->node.hostname;
	int rc = pem_make_self_signed(&name, 1, 825, PEM_KEY_ECDSA_P256,
		(int64_t)(time_wall_us() / USEC_PER_SEC), &pair, &tls_error);
	if (rc < 0) {
		snprintf(error, 512, "cannot make the first certificate for %s: %s", name,
			tls_error.text);
		return rc;
	}
	const struct store_cert cert = {.id = "self-signed",
		.chain_pem = pair.chain,
		.key_pem = pair.key,
		.is_active = true,
		.is_default = true};
	/* Not under the number that relays may have already: with this certificate it is another
	 * generation. */
	rc = store_put_cert(c->store, &cert, store_generation(c->store) + 1, error);
	pem_pair_fini(&pair);
	log_info("control", "made a self-signed certificate", "id=self-signed name=%s", name);
	return rc;
}

/* The first start: mail to everywhere goes where DNS says, once a rule lets somebody send it. */
static int make_first_documents(struct control *c, char error[512])
{
	static const char first[] = "{\"profiles\": [], \"in_rules\": [], \"out_rules\": [], "
				    "\"routes\": [{\"id\": \"mx\", \"domain\": \"*\", \"via\": "
				    "\"mx\"}], \"ca_pem\": \"\"}";
	return store_save_documents(c->store, first, 1, error);
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
	if (rc == 0 && store_generation(c->store) == 0)
		rc = make_first_documents(c, error);
	if (rc < 0)
		return rc;
	char *documents = store_documents(c->store, error);
	if (documents == NULL)
		return -EIO;
	/* The number is that of what is stored: relays that have it already need no new one. */
	rc = compile(c, documents, NULL, NULL, store_generation(c->store), &candidate, error);
	if (rc == 0)
		put_in_force(c, &candidate);
	free(documents);
	return rc;
}
