// SPDX-License-Identifier: Apache-2.0
/* control/daemon/certs.c: certificates through the API. What is told of one comes from its chain:
 * the keys are read from the store only to be compiled into a generation, and are wiped when they
 * are freed. */
#include "control/daemon/http.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tls/pem.h"

#define SECONDS_PER_DAY 86400
#define DAYS_OTHERWISE	825

static int64_t now(void)
{
	return (int64_t)(time_wall_us() / USEC_PER_SEC);
}

/* Rounded down: 0 on the last day, negative once it has ended. */
static int64_t days_left(const struct pem_certificate *certificate)
{
	int64_t seconds = certificate->not_after - now();
	return seconds >= 0 ? seconds / SECONDS_PER_DAY
			    : -((-seconds + SECONDS_PER_DAY - 1) / SECONDS_PER_DAY);
}

/* ---- telling ---- */

static void add_names(
	yyjson_mut_doc *doc, yyjson_mut_val *to, const struct pem_certificate *certificate)
{
	yyjson_mut_val *names = yyjson_mut_obj_add_arr(doc, to, "names");
	for (const char *name = certificate->names; *name != '\0'; name += strlen(name) + 1)
		yyjson_mut_arr_add_strcpy(doc, names, name);
}

static void add_certificate(
	yyjson_mut_doc *doc, yyjson_mut_val *to, const struct pem_certificate *certificate)
{
	char key[48];
	if (certificate->key_group[0] != '\0')
		snprintf(key, sizeof key, "%s %s", certificate->key_type, certificate->key_group);
	else
		snprintf(key, sizeof key, "%s %u", certificate->key_type, certificate->key_bits);
	add_names(doc, to, certificate);
	yyjson_mut_obj_add_strcpy(doc, to, "subject", certificate->subject);
	yyjson_mut_obj_add_strcpy(doc, to, "issuer", certificate->issuer);
	yyjson_mut_obj_add_strcpy(doc, to, "not_before", certificate->not_before_text);
	yyjson_mut_obj_add_strcpy(doc, to, "not_after", certificate->not_after_text);
	yyjson_mut_obj_add_strcpy(doc, to, "key_type", key);
	yyjson_mut_obj_add_strcpy(doc, to, "fingerprint", certificate->sha256);
	yyjson_mut_obj_add_strcpy(doc, to, "serial", certificate->serial);
	yyjson_mut_obj_add_bool(doc, to, "self_signed", certificate->is_self_signed);
	yyjson_mut_obj_add_int(doc, to, "days_left", days_left(certificate));
}

static void add_chain(yyjson_mut_doc *doc, yyjson_mut_val *to, const char *chain_pem)
{
	struct tls_error error;
	struct pem_certificate one;
	yyjson_mut_val *chain = yyjson_mut_obj_add_arr(doc, to, "chain");
	for (size_t i = 0; pem_describe(bytes_of_string(chain_pem), i, &one, &error) == 0; i++) {
		yyjson_mut_val *link = yyjson_mut_arr_add_obj(doc, chain);
		yyjson_mut_obj_add_strcpy(doc, link, "subject", one.subject);
		yyjson_mut_obj_add_strcpy(doc, link, "issuer", one.issuer);
		yyjson_mut_obj_add_strcpy(doc, link, "not_after", one.not_after_text);
	}
}

static void add_cert(
	yyjson_mut_doc *doc, yyjson_mut_val *to, const struct store_cert *cert, bool is_default)
{
	struct tls_error error;
	struct pem_certificate leaf;
	yyjson_mut_obj_add_strcpy(doc, to, "id", cert->id);
	yyjson_mut_obj_add_bool(doc, to, "active", cert->is_active);
	yyjson_mut_obj_add_bool(doc, to, "default", is_default);
	if (pem_describe(bytes_of_string(cert->chain_pem), 0, &leaf, &error) == 0)
		add_certificate(doc, to, &leaf);
}

/* ---- the store's ---- */

struct certs {
	struct store_cert *list;
	size_t count;
};

/* The lock is held from here to close_certs(). */
static bool open_certs(const struct request *request, struct answer *answer, struct certs *certs)
{
	char error[512] = "";
	*certs = (struct certs){};
	pthread_mutex_lock(&request->control->lock);
	if (store_certs(request->control->store, &certs->list, &certs->count, error) == 0)
		return true;
	pthread_mutex_unlock(&request->control->lock);
	answer_failure(answer, -EIO, error);
	return false;
}

static void close_certs(const struct request *request, struct certs *certs)
{
	store_free_certs(certs->list, certs->count);
	pthread_mutex_unlock(&request->control->lock);
}

static struct store_cert *find(const struct certs *certs, const char *id)
{
	for (size_t i = 0; i < certs->count; i++)
		if (strcmp(certs->list[i].id, id) == 0)
			return &certs->list[i];
	return NULL;
}

/* The first active one, as the compiler takes it: store_certs() has the marked one first. */
static bool is_default(const struct certs *certs, const struct store_cert *cert)
{
	for (size_t i = 0; i < certs->count; i++)
		if (certs->list[i].is_active)
			return &certs->list[i] == cert;
	return false;
}

static size_t count_active(const struct certs *certs)
{
	size_t n = 0;
	for (size_t i = 0; i < certs->count; i++)
		n += certs->list[i].is_active;
	return n;
}

void certs_list(const struct request *request, struct answer *answer)
{
	struct certs certs;
	if (!open_certs(request, answer, &certs))
		return;
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "certs");
	for (size_t i = 0; i < certs.count; i++)
		add_cert(doc, yyjson_mut_arr_add_obj(doc, list), &certs.list[i],
			is_default(&certs, &certs.list[i]));
	close_certs(request, &certs);
	answer_json(answer, 200, doc);
}

void certs_get(const struct request *request, struct answer *answer)
{
	struct certs certs;
	if (!open_certs(request, answer, &certs))
		return;
	const struct store_cert *cert = find(&certs, request->args[0]);
	if (cert == NULL) {
		answer_error(answer, 404, "there is no certificate '%s'", request->args[0]);
	} else {
		yyjson_mut_doc *doc = json_object();
		add_cert(doc, yyjson_mut_doc_get_root(doc), cert, is_default(&certs, cert));
		add_chain(doc, yyjson_mut_doc_get_root(doc), cert->chain_pem);
		answer_json(answer, 200, doc);
	}
	close_certs(request, &certs);
}

void certs_warn(struct control *c, yyjson_mut_doc *doc, yyjson_mut_val *warnings)
{
	struct certs certs = {};
	char error[512], text[256];
	if (store_certs(c->store, &certs.list, &certs.count, error) != 0)
		return;
	for (size_t i = 0; i < certs.count; i++) {
		struct tls_error tls_error;
		struct pem_certificate leaf;
		const struct store_cert *cert = &certs.list[i];
		if (!cert->is_active ||
			pem_describe(bytes_of_string(cert->chain_pem), 0, &leaf, &tls_error) != 0)
			continue;
		int64_t days = days_left(&leaf);
		if (days < 0)
			snprintf(text, sizeof text, "certificate %s ended on %s", cert->id,
				leaf.not_after_text);
		else if (days < CERT_WARNING_DAYS)
			snprintf(text, sizeof text, "certificate %s ends in %lld days", cert->id,
				(long long)days);
		else if (leaf.not_before > now())
			snprintf(text, sizeof text, "certificate %s is not valid before %s",
				cert->id, leaf.not_before_text);
		else
			continue;
		yyjson_mut_arr_add_strcpy(doc, warnings, text);
	}
	if (count_active(&certs) == 0)
		yyjson_mut_arr_add_str(
			doc, warnings, "no certificate is active: no TLS is offered");
	store_free_certs(certs.list, certs.count);
}

void certs_each(
	struct control *c, void (*each)(void *user, const char *id, int64_t not_after), void *user)
{
	struct certs certs = {};
	char error[512];
	if (store_certs(c->store, &certs.list, &certs.count, error) != 0)
		return;
	for (size_t i = 0; i < certs.count; i++) {
		struct tls_error tls_error;
		struct pem_certificate leaf;
		if (certs.list[i].is_active &&
			pem_describe(bytes_of_string(certs.list[i].chain_pem), 0, &leaf,
				&tls_error) == 0)
			each(user, certs.list[i].id, leaf.not_after);
	}
	store_free_certs(certs.list, certs.count);
}

/* ---- changing ---- */

/* As ids of documents are. */
static bool is_id(const char *id)
{
	static const char inside[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strspn(id, inside);
	return n != 0 && n < sizeof((struct store_cert *)NULL)->id && id[n] == '\0' &&
		strchr("._-", id[0]) == NULL;
}

static bool check_id(struct answer *answer, const char *id)
{
	if (id != NULL && is_id(id))
		return true;
	answer_error(answer, 400,
		"id: expected 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first");
	return false;
}

/* A change of one certificate, kept and answered, with what there is to say of it now. */
static void commit(const struct request *request, struct answer *answer, struct certs *certs,
	const struct store_cert *cert, unsigned unused)
{
	char error[512] = "";
	uint64_t generation;
	int rc = publish_cert(request->control, cert, &generation, error);
	yyjson_mut_doc *doc = json_object();
	yyjson_mut_val *one = yyjson_mut_obj_add_obj(doc, yyjson_mut_doc_get_root(doc), "cert");
	add_cert(doc, one, cert, cert->is_active && (cert->is_default || count_active(certs) == 0));
	if (unused != 0)
		yyjson_mut_obj_add_uint(doc, one, "unused", unused);
	close_certs(request, certs);
	if (rc == 0) {
		answer_change(request, answer, generation, doc);
		return;
	}
	yyjson_mut_doc_free(doc);
	answer_failure(answer, rc, error);
}

static void put_new(const struct request *request, struct answer *answer, const char *id,
	struct pem_pair *pair, bool as_default, bool may_replace)
{
	struct certs certs;
	struct store_cert cert = {
		.chain_pem = pair->chain, .key_pem = pair->key, .is_active = true};
	if (!open_certs(request, answer, &certs))
		return;
	const struct store_cert *old = find(&certs, id);
	snprintf(cert.id, sizeof cert.id, "%s", id);
	cert.is_default = as_default || (old != NULL && old->is_default);
	if (old != NULL && may_replace)
		cert.is_active = old->is_active || as_default;
	if (old != NULL && !may_replace) {
		close_certs(request, &certs);
		answer_error(answer, 409, "there is a certificate '%s' already", id);
	} else {
		commit(request, answer, &certs, &cert, pair->unused_count);
	}
}

/* The names of the body, or the node's own; 0: answered with 400. */
static size_t take_names(const struct request *request, struct answer *answer, yyjson_val *list,
	const char *names[PEM_NAMES_MAX])
{
	size_t i, n, count = 0;
	yyjson_val *item;
	names[0] = request->control->config->node.hostname;
	if (list == NULL)
		return 1;
	yyjson_arr_foreach(list, i, n, item)
	{
		if (!yyjson_is_str(item) || count == PEM_NAMES_MAX)
			break;
		names[count++] = yyjson_get_str(item);
	}
	if (count != 0 && count == yyjson_arr_size(list))
		return count;
	answer_error(answer, 400, "names: expected a list of 1 to %d names", PEM_NAMES_MAX);
	return 0;
}

/* What the body of POST /v1/certs may hold; false: answered with 400. */
static bool check_creation(struct answer *answer, yyjson_val *root)
{
	size_t i, n;
	yyjson_val *key, *value;
	const char *kind = yyjson_get_str(yyjson_obj_get(root, "key"));
	yyjson_val *days = yyjson_obj_get(root, "days");
	yyjson_obj_foreach(root, i, n, key,
		value) if (strstr(" id names days key default ", yyjson_get_str(key)) == NULL)
	{
		answer_error(answer, 400,
			"unknown field '%.64s': expected id, names, days, key or default",
			yyjson_get_str(key));
		return false;
	}
	if (days != NULL &&
		(!yyjson_is_uint(days) || yyjson_get_uint(days) < 1 ||
			yyjson_get_uint(days) > PEM_DAYS_MAX))
		answer_error(answer, 400, "days: expected a number of 1 to %d", PEM_DAYS_MAX);
	else if (yyjson_obj_get(root, "key") != NULL &&
		(kind == NULL || (strcmp(kind, "ecdsa") != 0 && strcmp(kind, "rsa") != 0)))
		answer_error(answer, 400, "key: expected ecdsa or rsa");
	else
		return check_id(answer, yyjson_get_str(yyjson_obj_get(root, "id")));
	return false;
}

static void create(const struct request *request, struct answer *answer, yyjson_val *root)
{
	const char *names[PEM_NAMES_MAX], *kind = yyjson_get_str(yyjson_obj_get(root, "key"));
	yyjson_val *days = yyjson_obj_get(root, "days");
	struct tls_error error = {.text = "out of memory"};
	struct pem_pair pair;
	if (!check_creation(answer, root))
		return;
	size_t count = take_names(request, answer, yyjson_obj_get(root, "names"), names);
	if (count == 0)
		return;
	int rc = pem_make_self_signed(names, count,
		days == NULL ? DAYS_OTHERWISE : (unsigned)yyjson_get_uint(days),
		kind != NULL && strcmp(kind, "rsa") == 0 ? PEM_KEY_RSA_2048 : PEM_KEY_ECDSA_P256,
		now(), &pair, &error);
	if (rc < 0) {
		answer_failure(answer, rc, error.text);
		return;
	}
	put_new(request, answer, yyjson_get_str(yyjson_obj_get(root, "id")), &pair,
		yyjson_get_bool(yyjson_obj_get(root, "default")), false);
	pem_pair_fini(&pair);
}

void certs_create(const struct request *request, struct answer *answer)
{
	yyjson_doc *body = request_json(request, answer);
	if (body != NULL)
		create(request, answer, yyjson_doc_get_root(body));
	yyjson_doc_free(body);
}

void certs_import(const struct request *request, struct answer *answer)
{
	const char *id = request_query(request, "id");
	struct tls_error error = {.text = "out of memory"};
	struct pem_pair pair;
	if (!check_id(answer, id))
		return;
	if (request->body_n > PEM_FILE_BYTES_MAX) {
		answer_error(answer, 413, "a PEM file of more than %d bytes", PEM_FILE_BYTES_MAX);
		return;
	}
	int rc = pem_import(bytes_of(request->body, request->body_n), &pair, &error);
	if (rc < 0) {
		answer_failure(answer, rc, error.text);
		return;
	}
	put_new(request, answer, id, &pair, request_flag(request, "default"),
		request_flag(request, "replace"));
	pem_pair_fini(&pair);
}

static void set_active(const struct request *request, struct answer *answer, bool is_active)
{
	struct certs certs;
	if (!open_certs(request, answer, &certs))
		return;
	struct store_cert *cert = find(&certs, request->args[0]);
	if (cert == NULL) {
		answer_error(answer, 404, "there is no certificate '%s'", request->args[0]);
		close_certs(request, &certs);
		return;
	}
	bool as_default = is_active && request_flag(request, "default");
	if (!is_active && cert->is_active && count_active(&certs) == 1) {
		answer_error(answer, 409,
			"'%s' is the only active certificate: activate another one first",
			cert->id);
		close_certs(request, &certs);
		return;
	}
	if (cert->is_active == is_active &&
		(!as_default || is_default(&certs, cert))) { /* as it is already */
		uint64_t generation = request->control->generation;
		close_certs(request, &certs);
		answer_change(request, answer, generation, NULL);
		return;
	}
	cert->is_active = is_active;
	cert->is_default = as_default || (is_active && cert->is_default);
	commit(request, answer, &certs, cert, 0);
}

void certs_activate(const struct request *request, struct answer *answer)
{
	set_active(request, answer, true);
}

void certs_deactivate(const struct request *request, struct answer *answer)
{
	set_active(request, answer, false);
}

void certs_delete(const struct request *request, struct answer *answer)
{
	struct certs certs;
	char error[512] = "";
	uint64_t generation = 0;
	int rc = 0;
	if (!open_certs(request, answer, &certs))
		return;
	const struct store_cert *cert = find(&certs, request->args[0]);
	if (cert == NULL)
		answer_error(answer, 404, "there is no certificate '%s'", request->args[0]);
	else if (cert->is_active)
		answer_error(
			answer, 409, "certificate '%s' is active: deactivate it first", cert->id);
	else if ((rc = publish_cert_removal(request->control, cert->id, &generation, error)) < 0)
		answer_failure(answer, rc, error);
	close_certs(request, &certs);
	if (generation != 0 && rc == 0)
		answer_change(request, answer, generation, NULL);
}
