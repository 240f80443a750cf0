// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/address.h: the path of MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3).
 *
 * The local part is opaque: `%` and `!` mean nothing here, a quoted string stays quoted as it came.
 * A source route is dropped (RFC 5321 3.6.1, appendix C) before anybody can decide by it. Of an
 * unquoted path with two
 * `@` no part is believed. */
#pragma once

#include "base/bytes.h"

#define ADDRESS_LOCAL_MAX  64  /* octets, RFC 5321 4.5.3.1.1 */
#define ADDRESS_DOMAIN_MAX 255 /* octets, RFC 5321 4.5.3.1.2 */
#define ADDRESS_LABEL_MAX  63  /* octets, RFC 1035 2.3.4 */
#define ADDRESS_PATH_MAX   256 /* octets with the angle brackets, RFC 5321 4.5.3.1.3 */

enum address_error {
	ADDRESS_OK,
	ADDRESS_NO_PATH,     /* it does not begin with "<" */
	ADDRESS_BAD,	     /* no path of RFC 5321 */
	ADDRESS_TOO_LONG,    /* a part is over its limit */
	ADDRESS_UNQUALIFIED, /* a local part alone, and not postmaster */
};

/* All ranges point into what was parsed. */
struct address {
	struct bytes mailbox; /* local part and domain, as they came; empty: the null path */
	struct bytes local;
	struct bytes
		domain; /* or address literal with brackets; empty: null path, or <postmaster> */
	bool is_utf8;	/* holds bytes above 127, well formed: wants SMTPUTF8 */
};

/* Parses the path at the beginning of `in`; `*used` is its length. A local part may have
 * `local_max` octets: RFC 5321 4.5.3.1 names the least that must be taken and asks for no limit
 * where possible, and bounce addresses that carry the recipient (VERP) are longer than 64. */
enum address_error address_parse(
	struct bytes in, size_t local_max, struct address *address, size_t *used);
/* A domain (RFC 5321 4.1.2, with U-labels and, since hosts are named so, underscores) or an address
 * literal, with nothing behind it. */
bool address_is_domain(struct bytes text);
