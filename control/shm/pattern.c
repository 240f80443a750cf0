// SPDX-License-Identifier: Apache-2.0
#include "control/shm/pattern.h"
#include "control/shm/policy_private.h"

#include <idn2.h>
#include <stdio.h>

#define NAME_MAX_BYTES 253 /* a domain without its root dot (RFC 1035 2.3.4) */
#define LABEL_MAX      63

static bool is_ascii(const char *text)
{
	for (; *text != '\0'; text++)
		if ((uint8_t)*text >= 0x80)
			return false;
	return true;
}

static void to_lower(char *text)
{
	for (; *text != '\0'; text++)
		*text = (char)byte_lower((uint8_t)*text);
}

/* Letters, digits, hyphens and (in use, if not in RFC 1123) underscores, in labels of 1 to 63 bytes. */
static bool is_ldh_name(const char *name)
{
	size_t n = strlen(name), label = 0;
	if (n == 0 || n > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i <= n; i++) {
		char c = name[i];
		if (c == '.' || c == '\0') {
			if (label == 0 || label > LABEL_MAX || name[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		bool is_letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
		if (!is_letter && (c != '-' || label == 0))
			return false;
		label++;
	}
	return true;
}

/* Both forms of a domain (RFC 5890): with A-labels, and with U-labels if it has any. */
static bool take_domain(const char *text, char *ascii, char *utf8)
{
	char *made = NULL;
	size_t n = strlen(text);
	if (n > 1 && text[n - 1] == '.')
		n--;
	if (n > NAME_MAX_BYTES)
		return false;
	memcpy(ascii, text, n);
	ascii[n] = utf8[0] = '\0';
	if (!is_ascii(ascii)) {
		if (idn2_to_ascii_8z(ascii, &made, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
			return false;
		bool fits = strlen(made) <= NAME_MAX_BYTES;
		if (fits)
			strcpy(ascii, made);
		idn2_free(made);
		if (!fits)
			return false;
	}
	to_lower(ascii);
	if (!is_ldh_name(ascii))
		return false;
	if (strstr(ascii, "xn--") != NULL && idn2_to_unicode_8z8z(ascii, &made, 0) == IDN2_OK) {
		if (strcmp(made, ascii) != 0 && strlen(made) < LAYOUT_DOMAIN_MAX)
			strcpy(utf8, made);
		idn2_free(made);
	}
	return true;
}

/* "example.test" or ".example.test". */
static bool take_domain_or_suffix(const char *text, struct pattern *p)
{
	p->kind = LAYOUT_DOMAIN;
	if (text[0] != '.')
		return take_domain(text, p->ascii, p->utf8);
	p->kind = LAYOUT_SUFFIX;
	p->ascii[0] = p->utf8[0] = '.';
	if (!take_domain(text + 1, p->ascii + 1, p->utf8 + 1))
		return false;
	if (p->utf8[1] == '\0')
		p->utf8[0] = '\0';
	return true;
}

static bool take_literal(const char *text, struct pattern *p)
{
	char room[POLICY_LITERAL_MAX];
	struct bytes given = bytes_of_string(text);
	struct bytes literal = policy_canonical_domain(given, room);
	p->kind = LAYOUT_DOMAIN;
	/* The canonical form is in `room`; what is no address literal comes back as it was. */
	return literal.at == (const uint8_t *)room &&
		bytes_to_string(literal, p->ascii, sizeof p->ascii);
}

static bool take_host(const char *text, struct pattern *p)
{
	struct addr addr;
	if (!addr_parse(text, &addr))
		return take_domain_or_suffix(text, p);
	p->kind = LAYOUT_DOMAIN;
	addr_format(&addr, p->ascii);
	return true;
}

static bool take_local(const char *text, size_t n, struct pattern *p)
{
	if (n == 0 || n >= sizeof p->local)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)text[i] < ' ' || text[i] == 0x7f)
			return false;
	memcpy(p->local, text, n);
	p->local[n] = '\0';
	to_lower(p->local);
	return true;
}

static bool take_mailbox(const char *text, bool is_sender, struct pattern *p)
{
	const char *at = strrchr(text, '@');
	if (strcmp(text, "<>") == 0) {
		p->kind = LAYOUT_NULL_SENDER;
		return is_sender;
	}
	if (at == NULL && text[0] == '.')
		return take_domain_or_suffix(text, p);
	if (at == NULL) { /* the one local part that needs no domain (RFC 5321 4.5.1) */
		p->kind = LAYOUT_ADDRESS;
		return take_local(text, strlen(text), p) && strcmp(p->local, "postmaster") == 0;
	}
	if (!(at[1] == '[' ? take_literal(at + 1, p) : take_domain_or_suffix(at + 1, p)))
		return false;
	if (at == text)
		return true;
	if (p->kind != LAYOUT_DOMAIN)
		return false; /* a local part in all domains below: nobody means that */
	p->kind = LAYOUT_ADDRESS;
	return take_local(text, (size_t)(at - text), p);
}

const char *pattern_parse(const char *text, enum pattern_form form, struct pattern *p)
{
	memset(p, 0, sizeof *p);
	if (text[0] == '\0' || strcmp(text, "*") == 0)
		return NULL;
	switch (form) {
	case PATTERN_SENDER:
		return take_mailbox(text, true, p)
			? NULL
			: "an address, '@example.test', '.example.test' or '<>'";
	case PATTERN_RECIPIENT:
		return take_mailbox(text, false, p) ? NULL
						    : "an address, '@example.test' or '.example.test'";
	case PATTERN_DOMAIN:
		return (text[0] == '[' ? take_literal(text, p) : take_domain_or_suffix(text, p))
			? NULL
			: "a domain, '.example.test' for those below, '*' or an address literal";
	case PATTERN_HOST:
		return take_host(text, p)
			? NULL
			: "a host name, '.example.test' for those below, or an address";
	case PATTERN_NAME:
		return take_domain_or_suffix(text, p)
			? NULL
			: "a host name or '.example.test' for those below";
	}
	return "something else";
}

static bool ends_in(struct bytes domain, const char *suffix)
{
	size_t n = strlen(suffix);
	return n != 0 && domain.n > n &&
		bytes_equal_nocase(bytes_skip(domain, domain.n - n), bytes_of_string(suffix));
}

bool policy_route_fits(const char *route_domain, struct bytes domain)
{
	struct pattern p;
	char room[POLICY_LITERAL_MAX];
	if (route_domain[0] == '\0' || pattern_parse(route_domain, PATTERN_DOMAIN, &p) != NULL)
		return false;
	domain = policy_canonical_domain(domain, room);
	if (p.kind == LAYOUT_SUFFIX)
		return ends_in(domain, p.ascii) || ends_in(domain, p.utf8);
	return p.kind == LAYOUT_ANY || bytes_equal_nocase(domain, bytes_of_string(p.ascii)) ||
		(p.utf8[0] != '\0' && bytes_equal_nocase(domain, bytes_of_string(p.utf8)));
}
