// SPDX-License-Identifier: Apache-2.0
#include "tests/wire/run.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

void scan_blank(const char **p)
{
	while (isspace((unsigned char)**p))
		++*p;
}

bool scan_is_end(const char **p)
{
	scan_blank(p);
	return **p == '\0';
}

size_t scan_any(const char **p, const char **word)
{
	scan_blank(p);
	*word = *p;
	while (**p != '\0' && !isspace((unsigned char)**p))
		++*p;
	return (size_t)(*p - *word);
}

bool scan_word(const char **p, const char *word)
{
	const char *q = *p, *found;
	const size_t n = scan_any(&q, &found);
	if (n != strlen(word) || memcmp(found, word, n) != 0)
		return false;
	*p = q;
	return true;
}

bool scan_char(const char **p, char c)
{
	if (**p != c)
		return false;
	++*p;
	return true;
}

/* ---- expressions ---- */

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

void set_variable(struct run *r, const char *name, size_t n, int64_t value)
{
	struct variable *v = r->variables;
	while (v < r->variables + r->variable_count && (strlen(v->name) != n || memcmp(v->name, name, n) != 0))
		v++;
	if (n == 0 || n >= sizeof v->name || v == r->variables + VARIABLES_MAX)
		fail(r, "a variable cannot be called that, or there are too many");
	if (v == r->variables + r->variable_count)
		r->variable_count++;
	memset(v->name, 0, sizeof v->name);
	memcpy(v->name, name, n);
	v->value = value;
}

static int64_t scan_variable(struct run *r, const char **p)
{
	const char *name = *p;
	while (is_name(**p))
		++*p;
	const size_t n = (size_t)(*p - name);
	for (unsigned i = 0; i < r->variable_count; i++)
		if (strlen(r->variables[i].name) == n && memcmp(r->variables[i].name, name, n) == 0)
			return r->variables[i].value;
	fail(r, "a number or a variable should stand at '%s'", name);
}

static int64_t scan_factor(struct run *r, const char **p)
{
	if (scan_char(p, '-'))
		return -scan_factor(r, p);
	if (scan_char(p, '(')) {
		const int64_t value = scan_expression(r, p);
		if (!scan_char(p, ')'))
			fail(r, "a ) should stand at '%s'", *p);
		return value;
	}
	if (!isdigit((unsigned char)**p))
		return scan_variable(r, p);
	char *end;
	const int64_t value = strtoll(*p, &end, 0);
	*p = end;
	return value;
}

static int64_t scan_term(struct run *r, const char **p)
{
	int64_t value = scan_factor(r, p);
	for (;;) {
		if (scan_char(p, '*')) {
			value *= scan_factor(r, p);
		} else if (scan_char(p, '/')) {
			const int64_t by = scan_factor(r, p);
			value = by == 0 ? 0 : value / by;
		} else {
			return value;
		}
	}
}

int64_t scan_expression(struct run *r, const char **p)
{
	scan_blank(p);
	int64_t value = scan_term(r, p);
	for (;;) {
		if (scan_char(p, '+'))
			value += scan_term(r, p);
		else if (scan_char(p, '-'))
			value -= scan_term(r, p);
		else
			return value;
	}
}

int64_t scan_number_after(struct run *r, const char **p, const char *word, int64_t otherwise)
{
	return scan_word(p, word) ? scan_expression(r, p) : otherwise;
}

uint64_t scan_seconds(struct run *r, const char **p)
{
	if (!isdigit((unsigned char)**p) && **p != '.')
		return (uint64_t)scan_expression(r, p) * 1000000; /* a variable: whole seconds */
	uint64_t us = 0, scale = 1000000;
	while (isdigit((unsigned char)**p))
		us = us * 10 + (uint64_t)(*(*p)++ - '0');
	us *= 1000000;
	if (scan_char(p, '.'))
		for (; isdigit((unsigned char)**p); ++*p)
			us += (uint64_t)(**p - '0') * (scale /= 10);
	return us;
}

bool scan_address(struct run *r, const char **p, const char *word, struct addr *addr)
{
	const char *text;
	char copy[ADDR_TEXT_MAX];
	if (!scan_word(p, word))
		return false;
	const size_t n = scan_any(p, &text);
	snprintf(copy, sizeof copy, "%.*s", (int)n, text);
	if (!addr_parse(copy, addr))
		fail(r, "no address: %s", copy);
	return true;
}
