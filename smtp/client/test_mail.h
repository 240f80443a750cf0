// SPDX-License-Identifier: Apache-2.0
/* smtp/client/test_mail.h: mails for the tests of the client. */
#pragma once

#include "smtp/mail.h"

#include <assert.h>

/* A mail of `content` behind an envelope of 100 bytes that must never be sent. */
static inline struct mail *test_mail_make(struct mail_pool *pool, struct bytes content)
{
	static const uint8_t envelope[100] = "envelope: not for the wire\r\n.\r\n";
	struct mail *mail = mail_get(pool, 1);
	assert(mail != NULL);
	bool is_done = mail_append(mail, bytes_of(envelope, sizeof envelope)) &&
		       mail_append(mail, content);
	assert(is_done);
	mail->envelope_size = sizeof envelope;
	return mail;
}
