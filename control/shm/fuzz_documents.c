// SPDX-License-Identifier: Apache-2.0
/* Any bytes as documents: refused with an error, or compiled into a generation that maps and answers. */
#include "control/shm/fuzz_read.h"

#include <errno.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char error[512];
	int policy_fd, keys_fd;
	struct policy *policy;
	int failed = policy_compile(bytes_of(data, n), NULL, 0, 1, &policy_fd, &keys_fd, error);
	if (failed != 0) {
		/* A generation of ours that our own check refuses is a mistake of ours. */
		if (error[0] == '\0' || failed == -EPROTO)
			abort();
		return 0;
	}
	if (policy_map(policy_fd, keys_fd, &policy) != 0)
		abort();
	fuzz_read_all(policy, bytes_of(data, n < 300 ? n : 300));
	policy_unmap(policy);
	close(policy_fd);
	close(keys_fd);
	return 0;
}
