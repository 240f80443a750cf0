// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* The JSON of "key=value" words, from the heap; or NULL, `error` filled in. */
static char *convert(
	enum documents_kind kind, const char *line, bool is_patch, char error[FIELDS_ERROR_MAX])
{
	char text[512], *rest = text, *json = NULL;
	const char *words[32];
	unsigned count = 0;
	snprintf(text, sizeof text, "%s", line);
	for (char *word; (word = strsep(&rest, " ")) != NULL;)
		words[count++] = word;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	if (fields_read(kind, words, count, is_patch, doc, root, error))
		json = yyjson_mut_write(doc, 0, NULL);
	yyjson_mut_doc_free(doc);
	return json;
}

static const struct {
	enum documents_kind kind;
	const char *line, *json, *patch; /* `patch` NULL: the same */
} good[] = {
	{DOC_PROFILE, "level=verify names=mx.example.test,.example.test",
		"{\"level\":\"verify\",\"names\":[\"mx.example.test\",\".example.test\"]}", NULL},
	{DOC_PROFILE, "protocol.lowest=TLSv1.2 bits=128 protocol.highest=TLSv1.3",
		"{\"protocol\":{\"lowest\":\"TLSv1.2\",\"highest\":\"TLSv1.3\"},\"bits\":128}",
		NULL},
	{DOC_PROFILE, "groups=X25519:P-256 remember=0 fallback=next-host",
		"{\"groups\":\"X25519:P-256\",\"remember\":0,\"fallback\":\"next-host\"}", NULL},
	{DOC_PROFILE, "protocol.highest= names=", "{}",
		"{\"protocol\":{\"highest\":null},\"names\":null}"},
	{DOC_IN_RULE, "client=192.0.2.0/24 action=relay profile=strict enabled=false",
		"{\"client\":\"192.0.2.0/"
		"24\",\"action\":\"relay\",\"profile\":\"strict\",\"enabled\":false}",
		NULL},
	{DOC_IN_RULE, "sender=<> normalise_bare_lf=yes",
		"{\"sender\":\"<>\",\"normalise_bare_lf\":true}", NULL},
	{DOC_IN_RULE, "sender=a=b@example.test", "{\"sender\":\"a=b@example.test\"}", NULL},
	{DOC_OUT_RULE, "domain=* destination=2001:db8::/32",
		"{\"domain\":\"*\",\"destination\":\"2001:db8::/32\"}", NULL},
	{DOC_ROUTE,
		"domain=dest.example.test via=hosts hosts=203.0.113.25:25,smtps://mx.example.test "
		"inbound=true",
		"{\"domain\":\"dest.example.test\",\"via\":\"hosts\",\"hosts\":[{\"host\":\"203.0."
		"113.25\",\"port\":25},"
		"{\"host\":\"mx.example.test\",\"tls\":\"smtps\"}],\"inbound\":true}",
		NULL},
	{DOC_ROUTE, "hosts=[2001:db8::1]:2525,2001:db8::2,[2001:db8::3],smtp://mx.example.test:26",
		"{\"hosts\":[{\"host\":\"2001:db8::1\",\"port\":2525},{\"host\":\"2001:db8::2\"},{"
		"\"host\":\"2001:db8::3\"},"
		"{\"host\":\"mx.example.test\",\"port\":26}]}",
		NULL},
};

static void words_become_json_by_the_table(void **state)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		for (int is_patch = 0; is_patch < 2; is_patch++) {
			char error[FIELDS_ERROR_MAX];
			char *json = convert(good[i].kind, good[i].line, is_patch, error);
			if (json == NULL)
				fail_msg("%s: %s", good[i].line, error);
			assert_string_equal(json,
				is_patch && good[i].patch != NULL ? good[i].patch : good[i].json);
			free(json);
		}
}

static void mistakes_are_named(void **state)
{
	static const struct {
		enum documents_kind kind;
		const char *line, *error;
	} bad[] = {
		{DOC_PROFILE, "levle=may", "'levle' is no field of it; did you mean 'level'?"},
		{DOC_PROFILE, "colour=red", "expected level, grade, protocol.lowest"},
		{DOC_PROFILE, "level=verfy",
			"level: found 'verfy', expected none, may, encrypt, verify or secure; did "
			"you mean 'verify'?"},
		{DOC_PROFILE, "protocol.highest=-",
			"protocol.highest: found '-', expected TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"},
		{DOC_PROFILE, "bits=257",
			"bits: found '257', expected a whole number from 0 to 256"},
		{DOC_PROFILE, "bits=-1", "expected a whole number"},
		{DOC_PROFILE, "bits=1e2", "expected a whole number"},
		{DOC_PROFILE, "bits=99999999999999999999999", "expected a whole number"},
		{DOC_PROFILE, "level=may level=none", "level: given a second time"},
		{DOC_PROFILE, "names=a,,b", "without empty parts"},
		{DOC_PROFILE, "id=other", "id: it stands behind the command"},
		{DOC_IN_RULE, "enabled=maybe", "enabled: found 'maybe', expected true or false"},
		{DOC_ROUTE, "domain=", "domain: found '', expected a value"},
		{DOC_ROUTE, "hosts=mx.example.test:0",
			"hosts: found '0', expected a whole number from 1 to 65535"},
		{DOC_ROUTE, "hosts=[2001:db8::1", "expected a host as"},
		{DOC_ROUTE, "hosts=[2001:db8::1]25", "expected a host as"},
		{DOC_ROUTE, "hosts=:25", "expected a host as"},
		{DOC_ROUTE, "hosts=https://mx.example.test", "expected a host as"},
		{DOC_PROFILE, "level=\x1b[2J", "level: found '"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char error[FIELDS_ERROR_MAX];
		assert_null(convert(bad[i].kind, bad[i].line, true, error));
		if (strstr(error, bad[i].error) == NULL || strchr(error, '\x1b') != NULL)
			fail_msg("%s: expected \"%s\", said: %s", bad[i].line, bad[i].error, error);
	}
}

/* What a list shows can be typed again. */
static void json_becomes_the_words_again(void **state)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		char error[FIELDS_ERROR_MAX], line[512] = "", *again;
		size_t count, n = 0;
		const struct documents_field *fields = documents_fields(good[i].kind, &count);
		yyjson_doc *doc = yyjson_read(good[i].json, strlen(good[i].json), 0);
		for (size_t f = 0; f < count; f++) {
			char *value = fields_write(&fields[f], yyjson_doc_get_root(doc));
			if (value != NULL)
				n += (size_t)snprintf(line + n, sizeof line - n, "%s%s=%s",
					n == 0 ? "" : " ", fields[f].name, value);
			free(value);
		}
		again = n == 0 ? strdup("{}") : convert(good[i].kind, line, false, error);
		if (again == NULL)
			fail_msg("%s: %s", line, error);
		yyjson_doc *read = yyjson_read(again, strlen(again), 0);
		assert_true(yyjson_equals(yyjson_doc_get_root(read), yyjson_doc_get_root(doc)));
		yyjson_doc_free(read);
		yyjson_doc_free(doc);
		free(again);
	}
}

static void every_field_of_every_kind_can_be_typed(void **state)
{
	for (int kind = DOC_PROFILE; kind <= DOC_ROUTE; kind++) {
		size_t count;
		const struct documents_field *fields = documents_fields(kind, &count);
		for (size_t i = 0; i < count; i++) {
			char line[256], error[FIELDS_ERROR_MAX], *json;
			size_t first =
				fields[i].type == DOC_CHOICE ? strcspn(fields[i].choices, " ") : 0;
			const char *choice = first == 1 ? fields[i].choices + 2 : fields[i].choices;
			if (fields[i].type == DOC_ID)
				continue;
			snprintf(line, sizeof line, "%s=%.*s", fields[i].name,
				first != 0 ? (int)strcspn(choice, " ") : 16,
				fields[i].type == DOC_CHOICE	     ? choice
					: fields[i].type == DOC_BOOL ? "true"
								     : "25");
			json = convert(kind, line, false, error);
			if (json == NULL)
				fail_msg("%s: %s", line, error);
			free(json);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_become_json_by_the_table),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(json_becomes_the_words_again),
		cmocka_unit_test(every_field_of_every_kind_can_be_typed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
