// SPDX-License-Identifier: Apache-2.0
#include "dataplane/device_check.h"

#include <dirent.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct device {
	const char *sys, *port, *name;
	char *error;
};

[[gnu::format(printf, 2, 3)]] static bool wrong(const struct device *d, const char *format, ...)
{
	va_list arguments;
	int n = snprintf(d->error, 256, "port %.31s (%.60s): ", d->port, d->name);
	va_start(arguments, format);
	vsnprintf(d->error + n, 256 - (size_t)n, format, arguments);
	va_end(arguments);
	return false;
}

/* ---- cards ---- */

/* The whole of it, as the kernel names it: domain:bus:device.function. */
static bool parse_pci(const char *text, char name[16])
{
	unsigned domain = 0, bus, slot, function;
	int end = 0, end_short = 0;
	bool is_whole =
		sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) == 4;
	if (!is_whole) {
		domain = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &function, &end_short) != 3)
			return false;
		end = end_short;
	}
	if ((text[end] != '\0' && text[end] != ',') || slot > 0x1f || function > 7)
		return false;
	snprintf(name, 16, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, slot & 0x1f,
		function & 7);
	return true;
}

static bool read_line(const char *path, char line[32])
{
	FILE *f = fopen(path, "r");
	bool is_read = f != NULL && fgets(line, 32, f) != NULL;
	if (f != NULL)
		fclose(f);
	return is_read;
}

/* The driver that has the card; "": none. */
static void read_driver(const struct device *d, const char *pci, char driver[64])
{
	char path[512], target[256];
	snprintf(path, sizeof path, "%s/bus/pci/devices/%s/driver", d->sys, pci);
	ssize_t n = readlink(path, target, sizeof target - 1);
	driver[0] = '\0';
	if (n <= 0)
		return;
	target[n] = '\0';
	const char *last = strrchr(target, '/');
	snprintf(driver, 64, "%.63s", last == NULL ? target : last + 1);
}

static bool has_iommu(const struct device *d)
{
	char path[512], line[32] = "";
	unsigned groups = 0;
	snprintf(path, sizeof path, "%s/kernel/iommu_groups", d->sys);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
		groups += e->d_name[0] != '.';
	if (dir != NULL)
		closedir(dir);
	snprintf(path, sizeof path, "%s/module/vfio/parameters/enable_unsafe_noiommu_mode", d->sys);
	return groups > 0 || (read_line(path, line) && line[0] == 'Y');
}

static bool is_any(const char *name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

static bool check_driver(const struct device *d, const char *driver)
{
	/* These share the card with DPDK. */
	static const char *const shared[] = {"mlx4_core", "mlx5_core", "mana", NULL};
	static const char *const without_iommu[] = {"uio_pci_generic", "igb_uio", NULL};
	if (is_any(driver, shared) || is_any(driver, without_iommu))
		return true;
	if (driver[0] == '\0')
		return wrong(d, "no driver has the card: bind it to vfio-pci (docs/ports.md)");
	if (strcmp(driver, "vfio-pci") != 0)
		return wrong(d,
			"the kernel's driver %.32s has the card: bind it to vfio-pci, which takes "
			"it from "
			"the kernel (docs/ports.md)",
			driver);
	if (!has_iommu(d))
		return wrong(d,
			"vfio-pci has the card, but no IOMMU is in use: enable it (firmware; "
			"kernel: "
			"intel_iommu=on) or see \"no IOMMU\" in docs/ports.md");
	return true;
}

static bool check_card(const struct device *d)
{
	char pci[16], path[512], class[32] = "", driver[64];
	if (!parse_pci(d->name, pci))
		return wrong(
			d, "neither a virtual device (net_...) nor a PCI address as 0000:03:00.0");
	snprintf(path, sizeof path, "%s/bus/pci/devices/%s/class", d->sys, pci);
	if (!read_line(path, class))
		return wrong(d, "this machine has no PCI device %s: lspci -D lists them", pci);
	if (strncmp(class, "0x02", 4) != 0)
		return wrong(d, "PCI device %s is no network card (class %.8s)", pci, class);
	read_driver(d, pci, driver);
	return check_driver(d, driver);
}

/* ---- virtual devices ---- */

static bool check_interface(const struct device *d)
{
	char name[IF_NAMESIZE + 1];
	const char *at = strstr(d->name, ",iface=");
	if (at == NULL)
		return wrong(d, "which interface? add \",iface=NAME\"");
	at += strlen(",iface=");
	snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
	if (if_nametoindex(name) == 0)
		return wrong(d, "there is no interface \"%s\" in this network namespace", name);
	return true;
}

bool device_check(const char *sys, const char *port, const char *device, char error[256])
{
	struct device d = {.sys = sys, .port = port, .name = device, .error = error};
	if (strncmp(device, "net_af_packet", 13) == 0 || strncmp(device, "net_af_xdp", 10) == 0)
		return check_interface(&d);
	return strncmp(device, "net_", 4) == 0 || check_card(&d);
}
