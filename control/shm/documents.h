// SPDX-License-Identifier: Apache-2.0
/* control/shm/documents.h: the store's documents (JSON), read and checked, each field by one table.
 *
 *   {"profiles": [...], "in_rules": [...], "out_rules": [...], "routes": [...], "ca_pem": "..."}
 *
 * All parts may be left out. The fields, their defaults and what they mean stand in documents.def, which
 * the reader, the reference and the CLI's help are made from. */
#pragma once

#include "base/bytes.h"

#include <stdio.h>

enum documents_kind { DOC_PROFILE, DOC_IN_RULE, DOC_OUT_RULE, DOC_ROUTE, DOC_HOST, DOC_KINDS };

enum documents_type {
	DOC_TEXT,
	DOC_ID,
	DOC_BOOL,
	DOC_NUMBER,
	DOC_CHOICE, /* one of the words in `choices` */
	DOC_NAMES,  /* a list of texts */
	DOC_HOSTS,  /* a list of objects of DOC_HOST */
};

/* One row of documents.def. */
struct documents_field {
	enum documents_kind kind;
	const char *name; /* "protocol.lowest" is {"protocol": {"lowest": …}} */
	enum documents_type type;
	size_t offset;
	uint64_t least, most; /* of a number; `most` of a text's bytes */
	const char *choices;  /* separated by spaces; "-" is the empty text */
	const char *otherwise; /* its value where it is left out; NULL: it must be there */
	const char *sentence;
};
/* The rows of a kind, in order. */
const struct documents_field *documents_fields(enum documents_kind kind, size_t *count);
/* "profile", "in_rule", "out_rule", "route", "host" */
const char *documents_kind_name(enum documents_kind kind);
/* Writes the reference of the documents (Markdown). */
void documents_print_reference(FILE *to);

struct doc_names {
	const char **items;
	uint32_t count;
};
struct doc_profile {
	const char *id;
	unsigned level, grade, lowest, highest, bits, client_cert, fallback, remember, on_failure;
	const char *groups, *ca_pem;
	struct doc_names names;
};
struct doc_in_rule {
	const char *id, *listener, *client, *client_name, *sender, *recipient, *profile;
	unsigned action;
	bool enabled, normalise_bare_lf;
};
struct doc_out_rule {
	const char *id, *sender, *domain, *mx, *destination, *profile;
	bool enabled;
};
struct doc_host {
	const char *host;
	unsigned port, tls;
};
struct doc_hosts {
	struct doc_host *items;
	uint32_t count;
};
enum { DOC_VIA_MX, DOC_VIA_HOSTS };
struct doc_route {
	const char *id, *domain;
	bool enabled, inbound;
	unsigned via, mx_port;
	struct doc_hosts hosts;
};

struct documents {
	struct doc_profile *profiles;
	struct doc_in_rule *in_rules;
	struct doc_out_rule *out_rules;
	struct doc_route *routes;
	uint32_t profile_count, in_rule_count, out_rule_count, route_count;
	const char *ca_pem;
	void *json; /* owns the texts */
};

#define DOCUMENTS_ERROR_MAX 512

/* Reads and checks each document by itself. 0, -EINVAL with `error` filled, or -ENOMEM. */
int documents_read(struct bytes json, struct documents **documents, char error[DOCUMENTS_ERROR_MAX]);
void documents_free(struct documents *documents);

/* Fills in "KIND 'ID': FIELD: found FOUND, expected EXPECTED" and returns -EINVAL. `field` may be NULL. */
int documents_refuse(char error[DOCUMENTS_ERROR_MAX], enum documents_kind kind, const char *id,
	const char *field, const char *found, const char *expected);
