// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/ctl.h"

const struct command commands[] = {
#define C(grammar, run, sentence, more) {grammar, run, sentence, more},
#include "control/ctl/commands.def"
#undef C
};
const size_t command_count = sizeof commands / sizeof *commands;
