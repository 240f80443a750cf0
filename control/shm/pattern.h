// SPDX-License-Identifier: Apache-2.0
/* control/shm/pattern.h: what an operator writes for a domain, a host or an address, in the form in which
 * the resolver compares it (struct layout_match). Control only: it allocates. */
#pragma once

#include "control/shm/layout.h"

struct pattern {
	enum layout_match_kind kind;
	char local[LAYOUT_DOMAIN_MAX + 1];
	char ascii[LAYOUT_DOMAIN_MAX + 1]; /* A-labels, lower case; suffixes begin with a dot */
	char utf8[LAYOUT_DOMAIN_MAX + 1];  /* U-labels; "" where they are the same */
};

enum pattern_form {
	PATTERN_SENDER,	   /* address, "@domain", ".suffix", "@.suffix", "<>" */
	PATTERN_RECIPIENT, /* the same without "<>" */
	PATTERN_DOMAIN,	   /* domain or address literal, ".suffix", "*" */
	PATTERN_HOST,	   /* host name or address, ".suffix", "*" */
	PATTERN_NAME,	   /* host name, ".suffix" */
};

/* Empty text (and "*") is LAYOUT_ANY. NULL, or what was expected instead of `text`. */
const char *pattern_parse(const char *text, enum pattern_form form, struct pattern *pattern);
