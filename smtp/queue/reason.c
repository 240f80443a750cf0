// SPDX-License-Identifier: Apache-2.0
#include "smtp/queue/reason.h"

#include <stdio.h>
#include <stdlib.h>

static struct bytes text_of(const struct smtp_reply *reply)
{
	return bytes_of(reply->text, strnlen(reply->text, sizeof reply->text - 1));
}

struct reason *reason_make(const struct smtp_reply *reply, struct bytes remote)
{
	struct bytes text = text_of(reply);

	remote = bytes_first(remote, 255);
	struct reason *r = malloc(sizeof *r + text.n + remote.n);
	if (r == NULL)
		abort(); /* all is in the spool: a restart finds it again */
	*r = (struct reason){.refs = 1,
		.code = reply->code,
		.detail = reply->detail,
		.enhanced = {reply->enhanced[0], reply->enhanced[1], reply->enhanced[2]},
		.is_ours = reply->is_ours,
		.text_n = (uint16_t)text.n,
		.remote_n = (uint16_t)remote.n};
	if (text.n != 0)
		memcpy(r->text, text.at, text.n);
	if (remote.n != 0)
		memcpy(r->text + text.n, remote.at, remote.n);
	return r;
}

struct reason *reason_ours(uint16_t code, uint8_t subject, uint16_t detail, const char *text)
{
	struct smtp_reply reply = {.code = code,
		.enhanced = {(uint8_t)(code / 100), subject},
		.detail = detail,
		.is_ours = true};

	bytes_to_string(bytes_of_string(text), reply.text, sizeof reply.text);
	return reason_make(&reply, BYTES_NONE);
}

struct reason *reason_hold(struct reason *reason)
{
	if (reason != NULL)
		reason->refs++;
	return reason;
}

void reason_release(struct reason *reason)
{
	if (reason != NULL && --reason->refs == 0)
		free(reason);
}

bool reason_is(const struct reason *r, const struct smtp_reply *reply, struct bytes remote)
{
	return r != NULL && r->code == reply->code && r->detail == reply->detail &&
	       memcmp(r->enhanced, reply->enhanced, sizeof r->enhanced) == 0 &&
	       r->is_ours == reply->is_ours && bytes_equal(reason_text(r), text_of(reply)) &&
	       bytes_equal(reason_remote(r), bytes_first(remote, 255));
}

void reason_to_reply(const struct reason *r, struct smtp_reply *reply)
{
	reply->code = r->code;
	reply->detail = r->detail;
	memcpy(reply->enhanced, r->enhanced, sizeof r->enhanced);
	reply->is_ours = r->is_ours;
	bytes_to_string(reason_text(r), reply->text, sizeof reply->text);
}

size_t reason_format(const struct reason *r, char *to, size_t size)
{
	char code[8] = "", enhanced[24] = "";

	if (r->enhanced[0] != 0)
		snprintf(enhanced, sizeof enhanced, "%u.%u.%u ", (unsigned)r->enhanced[0],
			(unsigned)r->enhanced[1], (unsigned)r->detail);
	if (!r->is_ours || enhanced[0] == '\0')
		snprintf(code, sizeof code, "%03u ", (unsigned)r->code);
	int n = snprintf(to, size, "%s%s%.*s", code, enhanced, (int)r->text_n, (const char *)r->text);
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}
