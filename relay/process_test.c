// SPDX-License-Identifier: Apache-2.0
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <openssl/rand.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* From now on the system call ends the process. */
static void forbid_getpid(void)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof program / sizeof *program, program};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
		_exit(3);
}

/* How a child ends that runs `what`. */
static int in_child(int (*what)(void))
{
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(what());
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static int is_own_id(void)
{
	return getpid() == (pid_t)syscall(SYS_getpid) ? 0 : 1;
}

static int random_under_filter(void)
{
	uint8_t bytes[32];
	if (RAND_bytes(bytes, sizeof bytes) != 1) /* seeds */
		return 1;
	forbid_getpid();
	for (int i = 0; i < 100; i++)
		if (RAND_bytes(bytes, sizeof bytes) != 1)
			return 2;
	return 0;
}

static int asks_under_filter(void)
{
	forbid_getpid();
	return (int)syscall(SYS_getpid) & 0;
}

static void a_process_and_its_child_know_their_ids(void **)
{
	assert_int_equal(getpid(), syscall(SYS_getpid));
	assert_int_equal(in_child(is_own_id), 0);
}

static void random_bytes_make_no_getpid_system_call(void **)
{
	int asked = in_child(asks_under_filter);
	assert_true(WIFSIGNALED(asked)); /* the filter sees it */
	assert_int_equal(in_child(random_under_filter), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_and_its_child_know_their_ids),
		cmocka_unit_test(random_bytes_make_no_getpid_system_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
