// SPDX-License-Identifier: Apache-2.0
#include "smtp/parse/command.h"

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static struct bytes skip_spaces(struct bytes b)
{
	while (b.n > 0 && b.at[0] == ' ')
		b = bytes_skip(b, 1);
	return b;
}

static bool has_control(struct bytes b)
{
	for (size_t i = 0; i < b.n; i++)
		if (b.at[i] < ' ' || b.at[i] == 127)
			return true;
	return false;
}

struct bytes command_word(struct bytes *rest)
{
	struct bytes word = bytes_first(*rest, bytes_find(*rest, ' '));
	*rest = skip_spaces(bytes_skip(*rest, word.n));
	return word;
}

bool command_parse(struct bytes line, struct command_line *command)
{
	while (line.n > 0 && is_blank(line.at[line.n - 1]))
		line.n--;
	command->args = line;
	command->verb = command_word(&command->args);
	return !has_control(line);
}

bool command_keyword(struct bytes *rest, struct bytes keyword)
{
	if (!bytes_equal_nocase(bytes_first(*rest, keyword.n), keyword))
		return false;
	*rest = skip_spaces(bytes_skip(*rest, keyword.n));
	return true;
}

static bool is_keyword_byte(uint8_t c, bool is_first)
{
	return (c >= '0' && c <= '9') || (byte_lower(c) >= 'a' && byte_lower(c) <= 'z') ||
		(c == '-' && !is_first);
}

int command_parameter(struct bytes *rest, struct command_parameter *parameter)
{
	struct bytes word = command_word(rest);
	if (word.n == 0)
		return rest->n == 0 ? 0 : -1;
	size_t equals = bytes_find(word, '=');
	parameter->keyword = bytes_first(word, equals);
	parameter->has_value = equals < word.n;
	parameter->value = bytes_skip(word, equals + 1);
	for (size_t i = 0; i < parameter->keyword.n; i++)
		if (!is_keyword_byte(word.at[i], i == 0))
			return -1;
	/* esmtp-value = 1*(%d33-60 / %d62-126); RFC 6531 3.3 adds UTF-8. */
	bool is_value_good = !parameter->has_value ||
		(parameter->value.n > 0 && bytes_find(parameter->value, '=') == parameter->value.n);
	return parameter->keyword.n > 0 && is_value_good ? 1 : -1;
}

bool command_number(struct bytes text, uint64_t *number)
{
	uint64_t n = 0;
	if (text.n == 0 || text.n > 20)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		uint8_t digit = (uint8_t)(text.at[i] - '0');
		if (digit > 9)
			return false;
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, digit, &n))
			n = UINT64_MAX; /* stays there: the next product overflows again */
	}
	*number = n;
	return true;
}
