// SPDX-License-Identifier: Apache-2.0
#include "relay/relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include <yyjson.h>

/* Every text field full of one byte. */
static void fill(struct record *r, char byte)
{
#define FILL(field) memset(r->field, byte, sizeof r->field - 1)
	FILL(listener), FILL(client_name), FILL(helo), FILL(proto), FILL(from), FILL(to), FILL(relay), FILL(stage);
	FILL(rule_id), FILL(profile), FILL(tls_level), FILL(tls_version), FILL(cipher), FILL(group), FILL(verify);
	FILL(verify_message), FILL(cert_subject), FILL(cert_issuer), FILL(reply), FILL(reason);
#undef FILL
	r->time_us = r->first_tried_us = r->last_tried_us = 1700000000123456ull;
	r->session_id = r->queue_id = r->generation = r->delay_us = r->size = UINT64_MAX;
	r->dest_port = 65535;
	r->bits = r->bits_total = 256;
	r->tries = UINT32_MAX;
	r->is_resumed = r->is_outbound = r->is_small_hello = true;
	addr_parse("2001:db8::1", &r->client_addr);
	addr_parse("192.0.2.1", &r->dest_addr);
}

/* The line, read by somebody else's parser; it has to be JSON, one line of it. */
static yyjson_doc *read_line(const struct record *r, size_t size)
{
	char *line = malloc(size);
	size_t n = record_format(r, line, size);
	assert_in_range(n, 3, size);
	assert_int_equal(line[n - 1], '\n');
	assert_null(memchr(line, '\n', n - 1));
	yyjson_doc *doc = yyjson_read(line, n - 1, 0);
	if (doc == NULL)
		fail_msg("no JSON: %.*s", (int)n, line);
	free(line);
	return doc;
}

static void expect_text(yyjson_doc *doc, const char *key, const char *text)
{
	const char *is = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), key));
	if (is == NULL || strcmp(is, text) != 0)
		fail_msg("%s: expected \"%s\", is \"%s\"", key, text, is == NULL ? "(none)" : is);
}

static void every_field_is_there_by_its_name(void **state)
{
	struct record r = {.is_outbound = true, .disposition = RECORD_DELIVERED, .is_resumed = true,
		.is_small_hello = true};
	struct {
		const char *key;
		char *field;
	} texts[] = {
		{"stage", r.stage}, {"listener", r.listener}, {"client_name", r.client_name}, {"helo", r.helo},
		{"proto", r.proto}, {"from", r.from}, {"to", r.to}, {"relay", r.relay}, {"rule_id", r.rule_id},
		{"profile", r.profile}, {"tls_level", r.tls_level}, {"tls_version", r.tls_version},
		{"cipher", r.cipher}, {"group", r.group}, {"verify", r.verify},
		{"verify_message", r.verify_message}, {"cert_subject", r.cert_subject},
		{"cert_issuer", r.cert_issuer}, {"reply", r.reply}, {"reason", r.reason},
	};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		sprintf(texts[i].field, "text %zu", i);
	r.time_us = 1700000000000042ull;
	r.size = 77, r.tries = 3, r.dest_port = 25, r.generation = 9, r.delay_us = 5, r.bits = 128, r.bits_total = 256;
	r.queue_id = r.session_id = 1234567890123456789ull;
	addr_parse("192.0.2.7", &r.client_addr);
	addr_parse("2001:db8::7", &r.dest_addr);
	yyjson_doc *doc = read_line(&r, RECORD_LINE_MAX);
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		expect_text(doc, texts[i].key, texts[i].field);
	char id[MAIL_ID_TEXT_MAX];
	expect_text(doc, "queue_id", mail_id_format(r.queue_id, id));
	expect_text(doc, "session_id", id);
	expect_text(doc, "time", "2023-11-14T22:13:20.000042Z");
	expect_text(doc, "direction", "out");
	expect_text(doc, "disposition", "delivered");
	expect_text(doc, "client_ip", "192.0.2.7");
	expect_text(doc, "dest_ip", "2001:db8::7");
	expect_text(doc, "bits", "128/256");
	yyjson_val *root = yyjson_doc_get_root(doc);
	assert_int_equal(yyjson_get_uint(yyjson_obj_get(root, "size")), 77);
	assert_int_equal(yyjson_get_uint(yyjson_obj_get(root, "tries")), 3);
	assert_int_equal(yyjson_get_uint(yyjson_obj_get(root, "dest_port")), 25);
	assert_int_equal(yyjson_get_uint(yyjson_obj_get(root, "generation")), 9);
	assert_int_equal(yyjson_get_uint(yyjson_obj_get(root, "delay_us")), 5);
	assert_true(yyjson_get_bool(yyjson_obj_get(root, "resumed")));
	assert_true(yyjson_get_bool(yyjson_obj_get(root, "small_hello")));
	assert_true(yyjson_get_bool(yyjson_obj_get(root, "via_tls")));
	yyjson_doc_free(doc);
}

static void the_null_sender_is_there_and_what_is_not_known_is_not(void **state)
{
	const struct record r = {.disposition = RECORD_REJECTED};
	yyjson_doc *doc = read_line(&r, RECORD_LINE_MAX);
	expect_text(doc, "from", "");
	expect_text(doc, "direction", "in");
	assert_null(yyjson_obj_get(yyjson_doc_get_root(doc), "to"));
	assert_null(yyjson_obj_get(yyjson_doc_get_root(doc), "queue_id"));
	assert_null(yyjson_obj_get(yyjson_doc_get_root(doc), "client_ip"));
	yyjson_doc_free(doc);
}

static void any_byte_of_a_peer_stays_one_line_of_json_and_loses_no_field(void **state)
{
	for (int byte = 1; byte < 256; byte++) {
		struct record r = {0};
		fill(&r, (char)byte);
		yyjson_doc *doc = read_line(&r, RECORD_LINE_MAX);
		assert_int_equal(yyjson_obj_size(yyjson_doc_get_root(doc)), 38);
		yyjson_doc_free(doc);
	}
}

static void what_is_utf8_stays_and_what_is_none_is_replaced(void **state)
{
	static const struct {
		const char *is, *becomes;
	} cases[] = {
		{"j\xc3\xb6rg@example.test", "j\xc3\xb6rg@example.test"},
		{"\xf0\x9f\x93\xac", "\xf0\x9f\x93\xac"},
		{"a\xc3", "a\xef\xbf\xbd"},				       /* cut */
		{"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},		       /* overlong */
		{"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},      /* surrogate */
		{"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* past U+10FFFF */
		{"\"\\\t\r\n", "\"\\\t\r\n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct record r = {0};
		strcpy(r.reply, cases[i].is);
		yyjson_doc *doc = read_line(&r, RECORD_LINE_MAX);
		expect_text(doc, "reply", cases[i].becomes);
		yyjson_doc_free(doc);
	}
}

static void a_line_without_room_is_json_at_every_size(void **state)
{
	for (int byte = 0; byte < 3; byte++)
		for (size_t size = 3; size < 4000; size += size < 600 ? 1 : 17) {
			struct record r = {0};
			fill(&r, "x\"\x80"[byte]);
			yyjson_doc_free(read_line(&r, size));
		}
}

static const char *text_of(const struct record *r, size_t size)
{
	static char text[RECORD_LINE_MAX];
	size_t n = record_format_text(r, text, size);
	assert_in_range(n, 0, size - 1);
	assert_int_equal(strlen(text), n);
	return text;
}

static void the_text_form_has_the_same_fields_as_words(void **state)
{
	struct record r = {.disposition = RECORD_DEFERRED, .is_outbound = true, .dest_port = 25, .tries = 2,
		.bits = 256, .bits_total = 256};
	strcpy(r.from, "");
	strcpy(r.to, "bob@dest.example.test");
	strcpy(r.relay, "mx.example.test");
	strcpy(r.tls_version, "TLSv1.3");
	strcpy(r.reply, "450 4.2.1 \"full\"\r\n%s%n j\xc3\xb6rg \xff");
	strcpy(r.reason, "a=b");
	addr_parse("203.0.113.25", &r.dest_addr);
	assert_string_equal(text_of(&r, RECORD_LINE_MAX),
		"direction=out disposition=deferred from=<> to=<bob@dest.example.test> relay=mx.example.test "
		"dest_ip=203.0.113.25 dest_port=25 via_tls=true tls_version=TLSv1.3 bits=256/256 tries=2 "
		"reply=\"450 4.2.1 \\\"full\\\"\\u000d\\u000a%s%n j\xc3\xb6rg \\ufffd\" reason=\"a=b\"");
}

static void any_byte_of_a_peer_stays_one_line_of_text_of_the_size_asked_for(void **state)
{
	for (int byte = 1; byte < 256; byte++)
		for (size_t size = 1; size < 4000; size += size < 40 ? 1 : 997) {
			struct record r = {0};
			fill(&r, (char)byte);
			for (const char *p = text_of(&r, size); *p != '\0'; p++)
				assert_true((unsigned char)*p >= ' ' && *p != 0x7f);
		}
}

static void a_slot_that_was_full_is_empty_when_it_is_got_again(void **state)
{
	struct record_lane lane = {0};
	const struct record none = {0};
	struct record *r;
	char wanted[RECORD_LINE_MAX], got[RECORD_LINE_MAX];
	size_t n = record_format(&none, wanted, sizeof wanted);
	assert_true(record_lane_init(&lane));
	for (int i = 0; i < 2 * RECORD_RING; i++) {
		assert_non_null(r = record_get(&lane));
		assert_int_equal(record_format(r, got, sizeof got), n);
		assert_memory_equal(got, wanted, n);
		memset(r, 'x', sizeof *r);
		record_push(&lane, r);
		assert_true(ring_push_spsc(&lane.empty, ring_pop_spsc(&lane.full)));
	}
	ring_fini(&lane.full);
	ring_fini(&lane.empty);
	free(lane.slots);
}

static void a_lane_gives_each_slot_back_and_counts_what_is_lost(void **state)
{
	struct record_lane lane = {0};
	struct record *r;
	assert_true(record_lane_init(&lane));
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < RECORD_RING - 1; i++) {
			assert_non_null(r = record_get(&lane));
			assert_int_equal(r->size, 0);
			r->size = (uint64_t)i + 1;
			record_push(&lane, r);
		}
		assert_null(record_get(&lane));
		assert_int_equal(atomic_load(&lane.lost), round + 1);
		for (int i = 0; i < RECORD_RING - 1; i++) {
			assert_non_null(r = ring_pop_spsc(&lane.full));
			assert_int_equal(r->size, i + 1);
			assert_true(ring_push_spsc(&lane.empty, r));
		}
	}
	ring_fini(&lane.full);
	ring_fini(&lane.empty);
	free(lane.slots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_is_there_by_its_name),
		cmocka_unit_test(the_null_sender_is_there_and_what_is_not_known_is_not),
		cmocka_unit_test(any_byte_of_a_peer_stays_one_line_of_json_and_loses_no_field),
		cmocka_unit_test(what_is_utf8_stays_and_what_is_none_is_replaced),
		cmocka_unit_test(a_line_without_room_is_json_at_every_size),
		cmocka_unit_test(the_text_form_has_the_same_fields_as_words),
		cmocka_unit_test(any_byte_of_a_peer_stays_one_line_of_text_of_the_size_asked_for),
		cmocka_unit_test(a_slot_that_was_full_is_empty_when_it_is_got_again),
		cmocka_unit_test(a_lane_gives_each_slot_back_and_counts_what_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
