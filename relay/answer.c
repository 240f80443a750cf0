// SPDX-License-Identifier: Apache-2.0
#include "relay/answer.h"

#include <stdlib.h>

/* Strings are copied with what is no UTF-8 replaced by '?', since JSON has no other bytes. */
yyjson_mut_val *answer_text(yyjson_mut_doc *doc, struct bytes b)
{
	char clean[1024];
	size_t n = b.n < sizeof clean ? b.n : sizeof clean;
	memcpy(clean, b.at == NULL ? (const uint8_t *)"" : b.at, n);
	yyjson_mut_val *text = yyjson_mut_strncpy(doc, clean, n);
	yyjson_mut_doc *probe = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(probe, yyjson_mut_strn(probe, clean, n));
	char *written = yyjson_mut_write(probe, 0, NULL);
	if (written == NULL) {
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)clean[i] >= 0x80)
				clean[i] = '?';
		text = yyjson_mut_strncpy(doc, clean, n);
	}
	free(written);
	yyjson_mut_doc_free(probe);
	return text;
}

void answer_add(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, struct bytes b)
{
	yyjson_mut_obj_add(object, yyjson_mut_strcpy(doc, key), answer_text(doc, b));
}

struct note *answer_finish(yyjson_mut_doc *doc)
{
	size_t n;
	char *json = yyjson_mut_write(doc, 0, &n);
	struct note *note = json == NULL ? NULL : note_new(NOTE_RESPONSE, json, n);
	free(json);
	yyjson_mut_doc_free(doc);
	return note;
}

yyjson_mut_doc *answer_new(uint64_t token, bool ok)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "type", "response");
	yyjson_mut_obj_add_uint(doc, root, "token", token);
	yyjson_mut_obj_add_bool(doc, root, "ok", ok);
	return doc;
}

struct note *answer_refuse(uint64_t token, const char *error)
{
	yyjson_mut_doc *doc = answer_new(token, false);
	yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), "error", error);
	return answer_finish(doc);
}

struct bytes request_member(yyjson_val *root, const char *key)
{
	yyjson_val *v = yyjson_obj_get(root, key);
	const char *text = yyjson_get_str(v);
	return text == NULL ? BYTES_NONE : bytes_of(text, yyjson_get_len(v));
}

static size_t base64(const uint8_t *from, size_t n, char *to)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t out = 0;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)from[i] << 16 | (i + 1 < n ? (uint32_t)from[i + 1] << 8 : 0) |
			(i + 2 < n ? from[i + 2] : 0);
		to[out++] = digits[v >> 18];
		to[out++] = digits[v >> 12 & 63];
		to[out++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
		to[out++] = i + 2 < n ? digits[v & 63] : '=';
	}
	return out;
}

void answer_add_base64(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, struct bytes b)
{
	char *text = malloc(b.n / 3 * 4 + 8);
	if (text != NULL)
		yyjson_mut_obj_add(object, yyjson_mut_strcpy(doc, key),
			yyjson_mut_strncpy(doc, text, base64(b.at, b.n, text)));
	free(text);
}
