// SPDX-License-Identifier: Apache-2.0
/* control/ctl/fields.h: a document's fields as words ("level=verify") and as JSON, by the table of
 * control/shm/documents.def. */
#pragma once

#include "control/shm/documents.h"

#include <yyjson.h>

#define FIELDS_ERROR_MAX 512

/* Puts "key=value" words into `object`, each checked as far as it can be without the store: names
 * with suggestions, choices, numbers, true and false, hosts. "key=" takes the field back to its
 * default: null with `is_patch`, else nothing. false: `error` says what is wrong. */
bool fields_read(enum documents_kind kind, const char *const *words, unsigned count, bool is_patch,
	yyjson_mut_doc *doc, yyjson_mut_val *object, char error[FIELDS_ERROR_MAX]);
/* The field's value in a document as it would be typed, or NULL where it is left out; from the
 * heap. */
char *fields_write(const struct documents_field *field, yyjson_val *document);
/* The value, or the field's default. */
char *fields_write_or_default(const struct documents_field *field, yyjson_val *document);
/* Whether the document says something else than the default. */
bool fields_is_set(const struct documents_field *field, yyjson_val *document);
/* By name; NULL: there is none. */
const struct documents_field *fields_find(enum documents_kind kind, const char *name);
/* A text nobody types, a certificate say: "field=@FILE" reads it from a file. */
bool fields_is_long(const struct documents_field *field);
