// SPDX-License-Identifier: Apache-2.0
/* relay/answer.h: JSON of the answers to operators' requests (control/link.h). */
#pragma once

#include <yyjson.h>

#include "relay/relay.h"

/* A document whose root says what every answer does. */
yyjson_mut_doc *answer_new(uint64_t token, bool ok);
/* As a note for the link, freed by whoever sends it; NULL: no memory. Frees the document. */
struct note *answer_finish(yyjson_mut_doc *doc);
/* {"ok":false} with the error as a sentence for the operator. */
struct note *answer_refuse(uint64_t token, const char *error);
/* Strings are copied with what is no UTF-8 replaced by '?', since JSON has no other bytes; 1 KB at most. */
yyjson_mut_val *answer_text(yyjson_mut_doc *doc, struct bytes b);
void answer_add(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, struct bytes b);
/* RFC 4648 4 */
void answer_add_base64(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, struct bytes b);
/* A string of a request; BYTES_NONE: not there. */
struct bytes request_member(yyjson_val *root, const char *key);
