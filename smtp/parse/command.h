// SPDX-License-Identifier: Apache-2.0
/* smtp/parse/command.h: a command line taken apart: verb, arguments, parameters, numbers (RFC
 * 5321 4.1.1). */
#pragma once

#include "base/bytes.h"

struct command_line {
	struct bytes verb;
	struct bytes args; /* without the blanks before and behind */
};

/* Splits a line without its CRLF. White space at the end is borne (RFC 5321 4.1.1). false: the line
 * holds a control character, which no command may. */
bool command_parse(struct bytes line, struct command_line *command);
/* The next word of `*rest`, up to a space, and the spaces behind it; empty at the end. */
struct bytes command_word(struct bytes *rest);
/* Takes "FROM:" or "TO:" off `*rest`, and blanks behind it, which some clients put there. */
bool command_keyword(struct bytes *rest, struct bytes keyword);

/* esmtp-param = esmtp-keyword ["=" esmtp-value], RFC 5321 4.1.2 */
struct command_parameter {
	struct bytes keyword;
	struct bytes value;
	bool has_value;
};
/* The next parameter of `*rest`: 1; 0 at the end; -1: not the form of one. */
int command_parameter(struct bytes *rest, struct command_parameter *parameter);

/* 1 to 20 digits (RFC 1870 5, RFC 3030 2); what is past 64 bits becomes UINT64_MAX, which is too
 * much everywhere. false: not a number. */
bool command_number(struct bytes text, uint64_t *number);
