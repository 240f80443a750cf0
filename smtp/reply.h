// SPDX-License-Identifier: Apache-2.0
/* smtp/reply.h: every reply our server can send, in one block. Scripts and people match on these
 * strings: they are Postfix's where it has one, else the RFC's (RFC 5321 4.2, RFC 3463 for the
 * enhanced codes).
 *
 * `$` stands for an argument: our host name where no other is named, or an address. Arguments may
 * be a peer's bytes: what is not printable ASCII becomes `?`, and a reply is cut to the length a
 * line may have. */
#pragma once

#include "base/bytes.h"

#define REPLY_BYTES_MAX 512 /* of a reply line with CRLF: RFC 5321 4.5.3.1.5 */

#define REPLIES(_)                                                                                 \
	/* the session's life */                                                                   \
	_(GREETING, "220 $ ESMTP")                                                                 \
	_(BYE, "221 2.0.0 Bye")                                                                    \
	_(OK, "250 2.0.0 Ok")                                                                      \
	_(SENDER_OK, "250 2.1.0 Ok")                                                               \
	_(RECIPIENT_OK, "250 2.1.5 Ok")                                                            \
	_(HELO, "250 $")                                                                           \
	_(CHUNK_OK, "250 2.0.0 Ok: $ bytes")                                                       \
	_(QUEUED, "250 2.0.0 Ok: queued as $")                                                     \
	_(VRFY, "252 2.5.2 Cannot VRFY user; try RCPT to attempt delivery")                        \
	_(HELP, "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS QUIT")       \
	_(SEND_DATA, "354 End data with <CR><LF>.<CR><LF>")                                        \
	/* the session ends */                                                                     \
	_(SHUTTING_DOWN, "421 4.3.2 $ Service shutting down")                                      \
	_(STARTING_UP, "421 4.3.2 $ Service not available, starting up")                           \
	_(TIMEOUT, "421 4.4.2 $ Error: timeout exceeded")                                          \
	_(TOO_MANY_ERRORS, "421 4.7.0 $ Error: too many errors")                                   \
	_(TOO_MANY_COMMANDS, "421 4.7.0 $ Error: too many commands without a mail")                \
	_(TOO_MANY_MAILS, "421 4.7.0 $ Error: too many mails in this session")                     \
	_(TOO_MANY_CONNECTIONS, "421 4.7.0 $ Error: too many connections from $")     /* client */ \
	_(TOO_MANY_HANDSHAKES, "421 4.7.0 $ Error: too many new TLS sessions from $") /* client */ \
	_(ENDLESS_LINE, "421 4.7.0 $ Error: endless line")                                         \
	_(BARE_LF_COMMAND, "521 5.5.2 $ Error: bare <LF> received")                                \
	_(NOT_SMTP, "521 5.5.2 $ Error: this is a mail server")                                    \
	_(SYNCHRONISATION, "554 5.5.0 Error: SMTP protocol synchronization")                       \
	/* commands */                                                                             \
	_(UNKNOWN_COMMAND, "500 5.5.2 Error: command not recognized")                              \
	_(BAD_CHARACTER, "500 5.5.2 Error: bad character in command")                              \
	_(LINE_TOO_LONG, "500 5.5.6 Error: line too long")                                         \
	_(SYNTAX_EHLO, "501 5.5.4 Syntax: EHLO hostname")                                          \
	_(SYNTAX_HELO, "501 5.5.4 Syntax: HELO hostname")                                          \
	_(SYNTAX_MAIL, "501 5.5.4 Syntax: MAIL FROM:<address>")                                    \
	_(SYNTAX_RCPT, "501 5.5.4 Syntax: RCPT TO:<address>")                                      \
	_(SYNTAX_DATA, "501 5.5.4 Syntax: DATA")                                                   \
	_(SYNTAX_BDAT, "501 5.5.4 Syntax: BDAT count [LAST]")                                      \
	_(SYNTAX_RSET, "501 5.5.4 Syntax: RSET")                                                   \
	_(SYNTAX_QUIT, "501 5.5.4 Syntax: QUIT")                                                   \
	_(SYNTAX_STARTTLS, "501 5.5.4 Syntax: STARTTLS")                                           \
	_(SYNTAX_VRFY, "501 5.5.4 Syntax: VRFY address")                                           \
	_(BAD_PARAMETER, "501 5.5.4 Error: bad parameter value")                                   \
	_(UNKNOWN_PARAMETER, "555 5.5.4 Unsupported option")                                       \
	_(NOT_IMPLEMENTED, "502 5.5.1 Error: command not implemented")                             \
	_(HELO_FIRST, "503 5.5.1 Error: send HELO/EHLO first")                                     \
	_(NESTED_MAIL, "503 5.5.1 Error: nested MAIL command")                                     \
	_(NEED_MAIL, "503 5.5.1 Error: need MAIL command")                                         \
	_(NEED_RCPT, "503 5.5.1 Error: need RCPT command")                                         \
	_(IN_CHUNKS, "503 5.5.1 Error: BDAT in progress")                                          \
	_(AFTER_FAILED_CHUNK, "503 5.5.1 Error: a BDAT has failed, send RSET")                     \
	_(IN_MAIL, "503 5.5.1 Error: MAIL transaction in progress")                                \
	_(NO_AUTH, "503 5.5.1 Error: authentication not enabled")                                  \
	_(NO_RECIPIENTS, "554 5.5.1 Error: no valid recipients")                                   \
	/* TLS: RFC 3207 */                                                                        \
	_(READY_FOR_TLS, "220 2.0.0 Ready to start TLS")                                           \
	_(TLS_UNAVAILABLE, "454 4.7.0 TLS not available due to temporary reason")                  \
	_(TLS_REQUIRED, "530 5.7.0 Must issue a STARTTLS command first")                           \
	_(TLS_ACTIVE, "554 5.5.1 Error: TLS already active")                                       \
	_(NEEDS_TLS, "530 5.7.0 <$>: $ address rejected: Must use TLS") /* whose: Sender, Recipient */ \
	_(UNVERIFIED_CERT, "421 4.7.1 <$>: $ address rejected: Unverified client certificate")     \
	_(UNVERIFIED_CERT_PERMANENT,                                                               \
		"554 5.7.1 <$>: $ address rejected: Unverified client certificate")                \
	_(TLS_TOO_WEAK, "421 4.7.1 <$>: $ address rejected: TLS protocol or cipher too weak")      \
	_(TLS_TOO_WEAK_PERMANENT,                                                                  \
		"554 5.7.1 <$>: $ address rejected: TLS protocol or cipher too weak")              \
	_(MUST_NOT_USE_TLS, "421 4.7.0 <$>: $ address rejected: Must not use TLS")                 \
	_(NO_TLS_HERE, "421 4.7.0 $ Error: Must not use TLS")                                      \
	/* addresses */                                                                            \
	_(BAD_SENDER, "501 5.1.7 Bad sender address syntax")                                       \
	_(BAD_RECIPIENT, "501 5.1.3 Bad recipient address syntax")                                 \
	_(UNQUALIFIED, "504 5.5.2 Error: need fully-qualified address")                            \
	_(NEED_SMTPUTF8, "553 5.6.7 Error: non-ASCII address without SMTPUTF8") /* RFC 6531 3.5 */ \
	_(RELAY_DENIED, "554 5.7.1 <$>: Relay access denied")			/* recipient */    \
	_(CLIENT_REJECTED, "554 5.7.1 <$>: Client host rejected: Access denied")    /* client */   \
	_(ADDRESS_REJECTED, "550 5.7.1 <$>: $ address rejected: Access denied") /* whose */        \
	_(NO_ROUTE, "550 5.1.2 <$>: Recipient address rejected: no route to its domain")           \
	_(NULL_MX, "556 5.1.10 <$>: Recipient address rejected: domain does not accept mail")      \
	/* what a mail may be */                                                                   \
	_(TOO_MANY_RECIPIENTS, "452 4.5.3 Error: too many recipients")                             \
	_(NO_STORAGE, "452 4.3.1 Insufficient system storage")                                     \
	_(TOO_BIG, "552 5.3.4 Message size exceeds fixed limit")                                   \
	_(HEADER_TOO_BIG, "552 5.3.4 Header section exceeds fixed limit")                          \
	_(BARE_CR_LF, "550 5.5.2 Error: bare <CR> or <LF> in message")                             \
	_(NUL_BYTE, "550 5.6.0 Error: NUL byte in message")                                        \
	_(TOO_MANY_HOPS, "554 5.4.6 Error: too many hops")

enum reply {
	REPLY_NONE,
#define _(id, text) REPLY_##id,
	REPLIES(_)
#undef _
		REPLY_COUNT,
};

/* The text without CRLF, `$` as it stands. */
const char *reply_text(enum reply id);
/* Writes the reply with its arguments and CRLF, NUL-terminated; returns its length without the NUL.
 * `a` stands for the first `$`, `b` for the second. */
size_t reply_format(char to[REPLY_BYTES_MAX + 1], enum reply id, struct bytes a, struct bytes b);
