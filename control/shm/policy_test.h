// SPDX-License-Identifier: Apache-2.0
/* control/shm/policy_test.h: what the tests of this folder share. */
#pragma once

#include "control/shm/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* The tests' JSON has ' for ", so that it can be read. */
static inline struct bytes test_json(const char *text, char to[16384])
{
	size_t n = strlen(text);
	assert_true(n < 16384);
	for (size_t i = 0; i <= n; i++)
		to[i] = (char)(text[i] == '\'' ? '"' : text[i]);
	return bytes_of(to, n);
}

static inline struct policy *test_policy(const char *text)
{
	char json[16384], error[512];
	int policy_fd, keys_fd;
	struct policy *policy = NULL;
	int failed = policy_compile(test_json(text, json), NULL, 0, 1, &policy_fd, &keys_fd, error);
	if (failed != 0)
		fail_msg("%s", error);
	assert_int_equal(policy_map(policy_fd, keys_fd, &policy), 0);
	close(policy_fd);
	close(keys_fd);
	return policy;
}

static inline struct bytes text(const char *s)
{
	return bytes_of_string(s);
}
