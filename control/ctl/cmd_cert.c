// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_cert.c: certificates. Keys go to the daemon, and never come back. */
#include "control/ctl/ctl.h"

#include <errno.h>
#include <stdlib.h>

#include "control/ctl/text.h"

#define PEM_BYTES_MAX (1u << 20)

static char *join_names(yyjson_val *names)
{
	size_t index, count;
	yyjson_val *name;
	char *all = text_format("%s", "");
	yyjson_arr_foreach(names, index, count, name)
	{
		char *longer = text_format("%s%s%s", all, index == 0 ? "" : ",",
			yyjson_is_str(name) ? yyjson_get_str(name) : "?");
		free(all);
		all = longer;
	}
	return all;
}

static char *state_of(yyjson_val *cert)
{
	bool is_active = yyjson_get_bool(yyjson_obj_get(cert, "active"));
	bool is_default = yyjson_get_bool(yyjson_obj_get(cert, "default"));
	return text_format(
		"%s%s", is_active ? "active" : "inactive", is_default ? ", default" : "");
}

static char *expiry_of(const struct ctl *ctl, yyjson_val *cert)
{
	double when;
	return ctl_get_time(cert, "not_after", &when) ? text_distance(when, ctl->now)
						      : ctl_member(cert, "days_left");
}

static bool is_self_signed(yyjson_val *cert)
{
	return strcmp(ctl_string(cert, "subject"), ctl_string(cert, "issuer")) == 0;
}

static char *issuer_of(yyjson_val *cert)
{
	return is_self_signed(cert) ? text_format("itself") : ctl_member(cert, "issuer");
}

static void print_certs(const struct ctl *ctl, yyjson_val *certs)
{
	static const char *const header[] = {"ID", "STATE", "EXPIRES", "KEY", "NAMES", "ISSUER"};
	struct table t;
	size_t index, count;
	yyjson_val *cert;
	table_init(&t, 6, header);
	yyjson_arr_foreach(certs, index, count, cert)
	{
		char *cells[] = {ctl_member(cert, "id"), state_of(cert), expiry_of(ctl, cert),
			ctl_member(cert, "key_type"), join_names(yyjson_obj_get(cert, "names")),
			issuer_of(cert)};
		table_row(&t, cells);
	}
	if (count == 0)
		puts("there is no certificate");
	else
		table_print(&t, stdout, ctl->width);
	table_fini(&t);
}

int cert_list(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	url_init(&url, "/v1/certs");
	int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
	if (rc == EX_OK && ctl->is_json)
		rc = ctl_print_json(reply.root, false, stdout);
	else if (rc == EX_OK)
		print_certs(ctl, yyjson_obj_get(reply.root, "certs"));
	reply_fini(&reply);
	return rc;
}

static void print_cert(const struct ctl *ctl, yyjson_val *cert)
{
	size_t index, count;
	yyjson_val *link;
	ctl_fact("id", ctl_member(cert, "id"));
	ctl_fact("state", state_of(cert));
	ctl_fact("names", join_names(yyjson_obj_get(cert, "names")));
	ctl_fact("subject", ctl_member(cert, "subject"));
	ctl_fact("issuer", issuer_of(cert));
	ctl_fact("valid from", ctl_format_time(ctl, cert, "not_before"));
	ctl_fact("valid until", ctl_format_time(ctl, cert, "not_after"));
	ctl_fact("key", ctl_member(cert, "key_type"));
	ctl_fact("fingerprint", ctl_member(cert, "fingerprint"));
	yyjson_arr_foreach(yyjson_obj_get(cert, "chain"), index, count, link)
	{
		char *until = ctl_format_time(ctl, link, "not_after"), *issuer = issuer_of(link);
		ctl_fact(index == 0 ? "chain" : "",
			text_format("%s, by %s, until %s", ctl_string(link, "subject"), issuer,
				until == NULL ? "?" : until));
		free(until);
		free(issuer);
	}
}

static void url_of(struct url *url, const char *id, const char *action)
{
	url_init(url, "/v1/certs");
	url_segment(url, id);
	if (action != NULL)
		url_segment(url, action);
}

int cert_show(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	url_of(&url, args_value(args, 0), NULL);
	int rc = api_call(ctl, "GET", &url, BYTES_NONE, &reply);
	if (rc == EX_OK && ctl->is_json)
		rc = ctl_print_json(reply.root, false, stdout);
	else if (rc == EX_OK)
		print_cert(ctl, reply.root);
	reply_fini(&reply);
	return rc;
}

/* ---- changes ---- */

/* "certificate web (ECDSA P-256) for relay.example.test: active, expires in 30 days" */
static void tell_cert(const struct ctl *ctl, yyjson_val *cert)
{
	if (!yyjson_is_obj(cert) || ctl->is_json)
		return;
	char *names = join_names(yyjson_obj_get(cert, "names")), *state = state_of(cert),
	     *expiry = expiry_of(ctl, cert);
	unsigned long long unused = yyjson_get_uint(yyjson_obj_get(cert, "unused"));
	ctl_say(ctl, "certificate %s (%s) for %s: %s, expires %s", ctl_string(cert, "id"),
		ctl_string(cert, "key_type"), names, state, expiry);
	if (unused != 0)
		ctl_say(ctl, "%llu other certificate%s of the file %s not used: not of its chain",
			unused, unused == 1 ? "" : "s", unused == 1 ? "is" : "are");
	free(names);
	free(state);
	free(expiry);
}

static int end_change(const struct ctl *ctl, int rc, struct reply *reply)
{
	if (rc == EX_OK) {
		tell_cert(ctl, yyjson_obj_get(reply->root, "cert"));
		rc = ctl_report_change(ctl, reply->root);
	}
	reply_fini(reply);
	return rc;
}

static int change(struct ctl *ctl, const char *method, const struct url *url, struct bytes body)
{
	struct reply reply;
	int rc = api_call(ctl, method, url, body, &reply);
	return end_change(ctl, rc, &reply);
}

int cert_create(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	const char *days = args_named(args, "--days"), *key = args_named(args, "--key");
	char *end = NULL;
	unsigned long n = days == NULL ? 0 : strtoul(days, &end, 10);
	if (days != NULL && (n < 1 || n > 36500 || *end != '\0'))
		return ctl_fail(EX_USAGE,
			"--days: found '%s', expected a whole number from 1 to 36500", days);
	if (key != NULL && strcmp(key, "ecdsa") != 0 && strcmp(key, "rsa") != 0)
		return ctl_fail(EX_USAGE, "--key: found '%s', expected ecdsa or rsa", key);
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "id", args_value(args, 0));
	yyjson_mut_val *names =
		args->value_count < 2 ? NULL : yyjson_mut_obj_add_arr(doc, root, "names");
	for (unsigned i = 1; i < args->value_count; i++)
		yyjson_mut_arr_add_str(doc, names, args->values[i]);
	if (days != NULL)
		yyjson_mut_obj_add_uint(doc, root, "days", n);
	if (key != NULL)
		yyjson_mut_obj_add_str(doc, root, "key", key);
	if (args_named(args, "--default") != NULL)
		yyjson_mut_obj_add_bool(doc, root, "default", true);
	url_init(&url, "/v1/certs");
	int rc = api_send(ctl, "POST", &url, doc, &reply);
	return end_change(ctl, rc, &reply);
}

/* "relay" of "/etc/ssl/relay.pem" */
static char *id_of_file(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
	const char *dot = strrchr(name, '.');
	bool is_suffix = dot != NULL && dot != name &&
		(strcmp(dot, ".pem") == 0 || strcmp(dot, ".crt") == 0 || strcmp(dot, ".cer") == 0);
	return text_format("%.*s", (int)(is_suffix ? (size_t)(dot - name) : strlen(name)), name);
}

int cert_import(struct ctl *ctl, const struct args *args)
{
	const char *path = args_value(args, 0), *id = args_named(args, "--id");
	struct url url;
	char *pem, *own_id = NULL;
	size_t n;
	if (id == NULL && strcmp(path, "-") == 0)
		return ctl_fail(
			EX_USAGE, "from standard input a certificate needs a name: --id ID");
	if (id == NULL)
		id = own_id = id_of_file(path);
	int rc = ctl_read_file(path, PEM_BYTES_MAX, &pem, &n);
	url_init(&url, "/v1/certs/import");
	url_query(&url, "id", id);
	url_query(&url, "default", args_named(args, "--default") != NULL ? "1" : NULL);
	url_query(&url, "replace", args_named(args, "--replace") != NULL ? "1" : NULL);
	if (rc == EX_OK && memmem(pem, n, "-----BEGIN ", 11) == NULL)
		rc = ctl_fail(EX_DATAERR,
			"%s is no PEM: expected the key and the certificates between -----BEGIN … "
			"and "
			"-----END … lines",
			path);
	if (rc == EX_OK)
		rc = change(ctl, "POST", &url, bytes_of(pem, n));
	if (pem != NULL)
		explicit_bzero(pem, n);
	free(pem);
	free(own_id);
	return rc;
}

static int act(struct ctl *ctl, const struct args *args, const char *method, const char *action)
{
	struct url url;
	url_of(&url, args_value(args, 0), action);
	url_query(&url, "default", args_named(args, "--default") != NULL ? "1" : NULL);
	return change(ctl, method, &url, BYTES_NONE);
}

int cert_activate(struct ctl *ctl, const struct args *args)
{
	return act(ctl, args, "POST", "activate");
}

int cert_deactivate(struct ctl *ctl, const struct args *args)
{
	return act(ctl, args, "POST", "deactivate");
}

int cert_remove(struct ctl *ctl, const struct args *args)
{
	return act(ctl, args, "DELETE", NULL);
}
