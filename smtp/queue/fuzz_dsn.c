// SPDX-License-Identifier: Apache-2.0
/* Fuzzes the DSN: sender, recipient, reply, remote host and original, parted by bytes of 0xfe, are all hostile.
 * Whatever they hold, the lines are short, clean and ours, and the parts are as many as they should be. */
#include "smtp/queue/dsn.h"

#include "smtp/envelope.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes take(struct bytes *rest)
{
	struct bytes part = bytes_first(*rest, bytes_find(*rest, 0xfe));

	*rest = bytes_skip(*rest, part.n + 1);
	return part;
}

static struct mail *make_original(struct mail_pool *pool, struct bytes content)
{
	struct mail *mail = mail_get(pool, 1);

	if (!envelope_begin(mail))
		abort();
	envelope_end(mail);
	if (!mail_append(mail, content)) {
		mail_put(mail);
		return NULL;
	}
	return mail;
}

static void check_line(struct bytes line, unsigned *boundaries)
{
	if (line.n > 998)
		abort();
	for (size_t n = 0; n < line.n; n++)
		if ((line.at[n] < ' ' && line.at[n] != '\t') || line.at[n] == 0x7f)
			abort();
	*boundaries += line.n >= 4 && memcmp(line.at, "--=_", 4) == 0;
}

static void check(const struct mail *mail, bool has_header)
{
	static uint8_t text[1 << 20];
	const struct mail_chunk *cursor = NULL;
	size_t size = 0;
	unsigned boundaries = 0;

	for (struct bytes b; (b = mail_read(mail, mail->envelope_size + size, &cursor)).n != 0; size += b.n)
		memcpy(text + size, b.at, b.n);
	struct bytes rest = bytes_of(text, size);
	while (rest.n != 0) {
		size_t end = bytes_find(rest, '\n');
		if (end == rest.n || end == 0 || rest.at[end - 1] != '\r')
			abort();
		check_line(bytes_first(rest, end - 1), &boundaries);
		rest = bytes_skip(rest, end + 1);
	}
	if (boundaries != (has_header ? 4 : 3))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mail_pool *pool;
	struct bytes rest = bytes_of(data, size);
	struct smtp_reply reply = {0};

	if (pool == NULL)
		pool = mail_pool_create(64, 4, 1);
	if (size < 4)
		return 0;
	reply.code = (uint16_t)(data[0] << 8 | data[1]);
	reply.enhanced[0] = data[2] & 7;
	reply.is_ours = data[2] & 8;
	rest = bytes_skip(rest, 3);
	struct dsn dsn = {.action = data[2] & 16 ? DSN_FAILED : DSN_DELAYED, .hostname = "relay.example.test",
		.original_id = 1, .now_us = 5000000000, .arrival_us = 1, .expires_us = 6000000000};
	dsn.sender = bytes_first(take(&rest), 60000);
	struct dsn_recipient recipient = {.address = take(&rest)};
	bytes_to_string(take(&rest), reply.text, sizeof reply.text);
	struct reason *reason = reason_make(&reply, take(&rest));
	recipient.reason = reason;
	dsn.recipients = &recipient;
	dsn.recipient_count = 1;
	struct mail *original = make_original(pool, rest);
	dsn.original = original;
	struct mail *mail = dsn_build(pool, 2, &dsn);
	if (mail != NULL) {
		check(mail, original != NULL && original->first != NULL);
		mail_put(mail);
	}
	if (original != NULL)
		mail_put(original);
	if (mail_pool_free_chunks(pool) != mail_pool_chunks(pool))
		abort();
	reason_release(reason);
	return 0;
}
