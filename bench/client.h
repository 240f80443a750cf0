// SPDX-License-Identifier: Apache-2.0
/* bench/client.h: a lean SMTP client for load: replies in, ready-made bytes out.
 *
 * Everything it ever sends is prepared once in a script that all sessions share, so that a mail
 * costs the generator no more than handing over two ranges. It believes the server more than a real
 * client may (that is smtp/client/). No I/O, no clock, no allocation after client_script_create(). */
#pragma once

#include "base/bytes.h"

#define CLIENT_RECIPIENTS_MAX 1000
#define CLIENT_TEXT_MAX	      96 /* of a refusal's line, for the report */

struct client_script_config {
	const char *helo, *from, *to; /* `to` of several recipients: name+1@…, name+2@… */
	unsigned recipients;	      /* 1 to CLIENT_RECIPIENTS_MAX */
	size_t size;		      /* bytes of a message, header and line ends counted */
	bool wants_starttls;	      /* secure a session before it is READY */
};
struct client_script;
/* NULL: no memory. */
struct client_script *client_script_create(const struct client_script_config *config);
void client_script_destroy(struct client_script *script);
/* The message with its final dot, as sent. */
struct bytes client_script_content(const struct client_script *script);

enum client_event {
	CLIENT_NONE,	 /* wants more input */
	CLIENT_STARTTLS, /* shake hands, then client_secured() */
	CLIENT_READY, /* greeted, and secured if that was wanted: client_mail() or client_quit() */
	CLIENT_ACCEPTED, /* the final 250; is READY again. `refused` is the code of a refused
			    recipient */
	CLIENT_REFUSED,	 /* the mail was not taken: `refused`, `text`; is READY again */
	CLIENT_CLOSED,	 /* 221 */
	CLIENT_FAILED,	 /* the session cannot go on: `refused` is the reply's code, 0: not SMTP */
};

enum client_state {
	CLIENT_AT_GREETING,
	CLIENT_AT_EHLO,
	CLIENT_AT_STARTTLS,
	CLIENT_AT_HANDSHAKE,
	CLIENT_AT_READY,
	CLIENT_AT_ENVELOPE, /* MAIL, RCPT and DATA are being answered */
	CLIENT_AT_END,	    /* the message is sent or on its way */
	CLIENT_AT_RESET,
	CLIENT_AT_QUIT,
	CLIENT_AT_OVER,
};

struct client {
	const struct client_script *script;
	struct bytes out; /* to be sent now; whoever sends takes from its front */
	uint8_t state;	  /* enum client_state */
	bool is_pipelining, is_starttls_offered, is_secured;
	uint16_t answered;	    /* of the envelope's commands */
	uint16_t taken;		    /* recipients */
	uint16_t refused;	    /* code of the first refusal of this mail */
	char text[CLIENT_TEXT_MAX]; /* the line of it */
	char line[CLIENT_TEXT_MAX]; /* being read; what is longer is cut */
	uint8_t length;
};

/* `is_secured`: the handshake comes before the greeting. */
void client_open(struct client *c, const struct client_script *script, bool is_secured);
/* Uses bytes up to the first event and returns how many; call again with the rest. */
size_t client_feed(struct client *c, struct bytes in, enum client_event *event);
void client_secured(struct client *c);
/* READY only. */
void client_mail(struct client *c);
void client_quit(struct client *c);
