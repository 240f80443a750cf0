// SPDX-License-Identifier: Apache-2.0
/* Starting DPDK's environment abstraction layer for one process that shares nothing with others. */
#include "dataplane/private.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define ARGUMENTS_MAX (16 + 2 * DP_PORTS_MAX)

struct arguments {
	char text[ARGUMENTS_MAX][1024];
	char *argv[ARGUMENTS_MAX + 1];
	int argc;
};

static void add(struct arguments *a, const char *text)
{
	snprintf(a->text[a->argc], sizeof a->text[0], "%s", text);
	a->argv[a->argc] = a->text[a->argc];
	a->argv[++a->argc] = NULL;
}

/* "0@(0-3,8)": one EAL core, the calling thread, on all processors that this process may use. The
 * workers are threads of their own, registered as they start. */
static void add_lcores(struct arguments *a)
{
	char list[sizeof a->text[0]];
	int n = snprintf(list, sizeof list, "0@(");
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof set, &set) != 0)
		CPU_SET(0, &set);
	for (int cpu = 0; cpu < CPU_SETSIZE && n < (int)sizeof list - 16; cpu++) {
		int last = cpu;
		while (CPU_ISSET(cpu, &set) && last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set))
			last++;
		if (CPU_ISSET(cpu, &set))
			n += snprintf(list + n, sizeof list - (size_t)n, "%s%d-%d",
				list[n - 1] == '(' ? "" : ",", cpu, last);
		cpu = last;
	}
	snprintf(list + n, sizeof list - (size_t)n, ")");
	add(a, "--lcores");
	add(a, list);
}

/* Only the configured NICs are touched; without any, the PCI bus is not even read. */
static void add_devices(struct arguments *a, const struct dp_config *config)
{
	unsigned nics = 0;
	for (unsigned i = 0; i < config->port_count; i++)
		if (strncmp(config->ports[i].device, "net_", 4) != 0) {
			add(a, "--allow");
			add(a, config->ports[i].device);
			nics++;
		}
	if (nics == 0)
		add(a, "--no-pci");
}

static void add_memory(struct arguments *a, const struct dp_config *config)
{
	char text[32];
	/* Files in hugetlbfs outlive a killed process and keep its pages; nameless memory does not.
	 */
	add(a, config->no_huge ? "--no-huge" : "--in-memory");
	if (config->no_huge)
		add(a, "--no-shconf");
	add(a, "-m");
	snprintf(text, sizeof text, "%u", config->memory_mb);
	add(a, text);
}

/* net_tap has the kernel send a real-time signal for each packet, and SIGIO, which would end the
 * process, when too many are pending. The workers take the signals (core.c); threads made from here
 * on do not, so that their system calls are not interrupted. */
static void tame_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	for (int s = SIGRTMIN; s <= SIGRTMAX; s++)
		sigaddset(&set, s);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGIO, SIG_IGN);
	signal(SIGPIPE, SIG_IGN); /* net_virtio_user writes to a switch that may have gone */
}

int eal_start(const struct dp_config *config, char error[256])
{
	static struct arguments a; /* the EAL keeps pointers into it */
	char prefix[32];
	tame_signals();
	add(&a, "hikyaku");
	add_memory(&a, config);
	snprintf(prefix, sizeof prefix, "hikyaku%d", (int)getpid());
	add(&a, "--file-prefix");
	add(&a, prefix);
	add(&a, "--no-telemetry");
	add(&a, "--log-level=error");
	/* It complains of lacking what we do not use (rte_flow). */
	add(&a, "--log-level=pmd.net.tap:critical");
	add_lcores(&a);
	add_devices(&a, config);
	if (rte_eal_init(a.argc, a.argv) >= 0)
		return 0;
	int err = rte_errno == 0 ? EIO : rte_errno;
	snprintf(error, 256, "DPDK does not start with %u MB of %s (%s)%s", config->memory_mb,
		config->no_huge ? "ordinary memory" : "hugepages", strerror(err),
		config->no_huge
			? ""
			: ": reserve hugepages (sysctl vm.nr_hugepages) or run without them");
	return -err;
}
