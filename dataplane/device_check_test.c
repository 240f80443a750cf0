// SPDX-License-Identifier: Apache-2.0
/* Against a sysfs of our own making. */
#include "dataplane/device_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char sys[64];

static void shell(const char *format, const char *argument)
{
	char command[512], rest[300];
	snprintf(rest, sizeof rest, format, argument);
	snprintf(command, sizeof command, "cd %s && %s", sys, rest);
	assert_int_equal(system(command), 0);
}

static void card(const char *pci, const char *class, const char *driver)
{
	shell("mkdir -p bus/pci/devices/%s", pci);
	char words[128];
	snprintf(words, sizeof words, "%s > bus/pci/devices/%s/class", class, pci);
	shell("echo %s", words);
	if (driver[0] == '\0')
		return;
	shell("mkdir -p bus/pci/drivers/%s", driver);
	snprintf(words, sizeof words, "../../drivers/%s bus/pci/devices/%s/driver", driver, pci);
	shell("ln -s %s", words);
}

static int make(void **state)
{
	snprintf(sys, sizeof sys, "/tmp/device_check.XXXXXX");
	if (mkdtemp(sys) == NULL)
		return 1;
	card("0000:03:00.0", "0x020000", "vfio-pci");
	card("0000:03:00.1", "0x020000", "ixgbe");
	card("0000:04:00.0", "0x020000", "");
	card("0000:05:00.0", "0x020000", "mlx5_core");
	card("0000:06:00.0", "0x010802", "nvme");
	card("0001:07:1f.7", "0x020000", "uio_pci_generic");
	shell("mkdir -p kernel/%s", "iommu_groups");
	return 0;
}

static int unmake(void **state)
{
	char command[128];
	snprintf(command, sizeof command, "rm -r %s", sys);
	return system(command);
}

static void assert_said(const char *device, const char *word)
{
	char error[256] = "";
	assert_false(device_check(sys, "wan0", device, error));
	if (strstr(error, word) == NULL || strstr(error, "wan0") == NULL ||
		strstr(error, device) == NULL)
		fail_msg("\"%s\" does not say \"%s\" of %s", error, word, device);
}

static void assert_fine(const char *device)
{
	char error[256] = "";
	if (!device_check(sys, "wan0", device, error))
		fail_msg("%s", error);
}

static void cards_that_can_work_are_let_through(void **state)
{
	shell("mkdir kernel/iommu_groups/%s", "17");
	assert_fine("0000:03:00.0");
	assert_fine("03:00.0");
	assert_fine("0000:03:00.0,queues=1");
	assert_fine("0000:05:00.0"); /* shared with the kernel */
	assert_fine("0001:07:1f.7"); /* needs no IOMMU */
}

static void what_is_wrong_with_a_card_is_said(void **state)
{
	assert_said("0000:09:00.0", "no PCI device 0000:09:00.0");
	assert_said("0000:03:00.1", "ixgbe");
	assert_said("0000:04:00.0", "no driver");
	assert_said("0000:06:00.0", "no network card");
	assert_said("0000:03:00.0", "IOMMU");
}

static void without_an_iommu_vfio_must_be_told_so(void **state)
{
	shell("mkdir -p module/vfio/%s", "parameters");
	shell("echo N > module/vfio/parameters/%s", "enable_unsafe_noiommu_mode");
	assert_said("0000:03:00.0", "IOMMU");
	shell("echo Y > module/vfio/parameters/%s", "enable_unsafe_noiommu_mode");
	assert_fine("0000:03:00.0");
}

static void what_is_no_device_is_said(void **state)
{
	static const char *const devices[] = {
		"eth0", "03:00", "03:00.8", "0000:03:20.0", "0000:03:00.0x", "nettap0", "%s%n"};
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		assert_said(devices[i], "PCI address");
}

static void interfaces_must_be_there(void **state)
{
	assert_fine("net_af_packet0,iface=lo");
	assert_fine("net_af_xdp0,iface=lo,start_queue=0");
	assert_said("net_af_packet0,iface=hk-none", "hk-none");
	assert_said("net_af_xdp0,start_queue=0", "iface=");
	assert_fine("net_tap0,iface=whatever");
	assert_fine("net_memif0");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)
	const struct CMUnitTest tests[] = {
		CASE(cards_that_can_work_are_let_through),
		CASE(what_is_wrong_with_a_card_is_said),
		CASE(without_an_iommu_vfio_must_be_told_so),
		CASE(what_is_no_device_is_said),
		CASE(interfaces_must_be_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
