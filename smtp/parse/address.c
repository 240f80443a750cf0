// SPDX-License-Identifier: Apache-2.0
#include "smtp/parse/address.h"

#include "base/addr.h"

/* What is left to parse; each function below takes its rule's text off the front, or says it is not
 * there. */
struct reader {
	struct bytes rest;
	bool is_utf8;
};

static bool take(struct reader *r, uint8_t c)
{
	if (r->rest.n == 0 || r->rest.at[0] != c)
		return false;
	r->rest = bytes_skip(r->rest, 1);
	return true;
}

static bool is_let_dig(uint8_t c)
{
	return (c >= '0' && c <= '9') || (byte_lower(c) >= 'a' && byte_lower(c) <= 'z');
}

static bool is_atext(uint8_t c)
{
	return is_let_dig(c) || (c != '\0' && c < 128 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* The length of the well-formed UTF-8 sequence of two bytes or more at the front; 0: there is none.
 * No overlong forms, no surrogates, nothing above U+10FFFF (RFC 3629 4), and no C1 control. */
static size_t utf8_sequence(struct bytes b)
{
	uint8_t c = b.n > 0 ? b.at[0] : 0;
	size_t n = c >= 0xf0 && c <= 0xf4 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
	if (n == 0 || c > 0xf4 || b.n < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((b.at[i] & 0xc0) != 0x80)
			return 0;
	uint8_t second = b.at[1];
	if ((c == 0xc2 && second < 0xa0) || (c == 0xe0 && second < 0xa0) ||
		(c == 0xed && second > 0x9f) || (c == 0xf0 && second < 0x90) ||
		(c == 0xf4 && second > 0x8f))
		return 0;
	return n;
}

static bool take_utf8(struct reader *r)
{
	size_t n = utf8_sequence(r->rest);
	r->rest = bytes_skip(r->rest, n);
	r->is_utf8 |= n > 0;
	return n > 0;
}

static bool take_atext(struct reader *r)
{
	if (r->rest.n > 0 && is_atext(r->rest.at[0]))
		return take(r, r->rest.at[0]);
	return take_utf8(r);
}

/* Dot-string = Atom *("." Atom) */
static bool take_dot_string(struct reader *r)
{
	do {
		if (!take_atext(r))
			return false;
		while (take_atext(r))
			;
	} while (take(r, '.'));
	return true;
}

/* Quoted-string = DQUOTE *QcontentSMTP DQUOTE; the opening quote is taken. */
static bool take_quoted_string(struct reader *r)
{
	while (!take(r, '"')) {
		bool is_pair = take(r, '\\');
		uint8_t c = r->rest.n > 0 ? r->rest.at[0] : 0;
		if (c >= ' ' && c <= '~')
			take(r, c);
		else if (is_pair || !take_utf8(r))
			return false;
	}
	return true;
}

/* sub-domain, or a U-label. A hyphen neither first nor last. */
static bool take_label(struct reader *r)
{
	struct bytes start = r->rest;
	uint8_t last = '-';
	while (r->rest.n > 0) {
		uint8_t c = r->rest.at[0];
		if (is_let_dig(c) || c == '_' || (c == '-' && r->rest.at != start.at))
			take(r, c);
		else if (!take_utf8(r))
			break;
		last = c;
	}
	size_t n = start.n - r->rest.n;
	return n > 0 && n <= ADDRESS_LABEL_MAX && last != '-';
}

static bool is_address_text(struct bytes text, bool is_ipv6)
{
	char string[ADDR_TEXT_MAX];
	struct addr addr;
	if (!bytes_to_string(text, string, sizeof string) || strlen(string) != text.n)
		return false;
	return addr_parse(string, &addr) && (memchr(text.at, ':', text.n) != NULL) == is_ipv6;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]"; no other tag is registered. */
static bool take_literal(struct reader *r)
{
	struct bytes tag = BYTES_LITERAL("IPv6:");
	size_t end = bytes_find(r->rest, ']');
	if (end == r->rest.n || end == 0)
		return false;
	struct bytes text = bytes_first(r->rest, end);
	bool is_ipv6 = bytes_equal_nocase(bytes_first(text, tag.n), tag);
	if (!is_address_text(is_ipv6 ? bytes_skip(text, tag.n) : text, is_ipv6))
		return false;
	r->rest = bytes_skip(r->rest, end + 1);
	return true;
}

static bool take_domain(struct reader *r)
{
	if (take(r, '['))
		return take_literal(r);
	do {
		if (!take_label(r))
			return false;
	} while (take(r, '.'));
	return true;
}

/* A-d-l ":" where there is one. */
static bool take_source_route(struct reader *r)
{
	if (r->rest.n == 0 || r->rest.at[0] != '@')
		return true;
	do {
		if (!take(r, '@') || !take_domain(r))
			return false;
	} while (take(r, ','));
	return take(r, ':');
}

static struct bytes taken_since(struct bytes start, const struct reader *r)
{
	return bytes_first(start, start.n - r->rest.n);
}

static enum address_error take_mailbox(struct reader *r, struct address *a)
{
	struct bytes start = r->rest;
	if (!(take(r, '"') ? take_quoted_string(r) : take_dot_string(r)))
		return ADDRESS_BAD;
	a->local = taken_since(start, r);
	a->mailbox = a->local;
	if (r->rest.n > 0 && r->rest.at[0] == '>')
		return bytes_equal_nocase(a->local, BYTES_LITERAL("postmaster"))
			? ADDRESS_OK
			: ADDRESS_UNQUALIFIED;
	if (!take(r, '@'))
		return ADDRESS_BAD;
	struct bytes domain = r->rest;
	if (!take_domain(r))
		return ADDRESS_BAD;
	a->domain = taken_since(domain, r);
	a->mailbox = taken_since(start, r);
	return ADDRESS_OK;
}

enum address_error address_parse(
	struct bytes in, size_t local_max, struct address *address, size_t *used)
{
	struct reader r = {in, false};
	*address = (struct address){BYTES_NONE, BYTES_NONE, BYTES_NONE, false};
	*used = 0;
	if (!take(&r, '<'))
		return ADDRESS_NO_PATH;
	enum address_error error = ADDRESS_OK;
	if (r.rest.n == 0 || r.rest.at[0] != '>') {
		if (!take_source_route(&r))
			return ADDRESS_BAD;
		r.is_utf8 = false; /* the route is forgotten, its letters too */
		error = take_mailbox(&r, address);
	}
	if (error == ADDRESS_BAD || !take(&r, '>'))
		return ADDRESS_BAD;
	address->is_utf8 = r.is_utf8;
	*used = in.n - r.rest.n;
	if (address->local.n > local_max || address->domain.n > ADDRESS_DOMAIN_MAX ||
		address->mailbox.n + 2 > ADDRESS_PATH_MAX)
		return ADDRESS_TOO_LONG;
	return error;
}

bool address_is_domain(struct bytes text)
{
	struct reader r = {text, false};
	return text.n <= ADDRESS_DOMAIN_MAX && take_domain(&r) && r.rest.n == 0;
}
