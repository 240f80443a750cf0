# SPDX-License-Identifier: Apache-2.0
"""The machine that is measured on: what its processors and the processes of a server have spent, and the wire between two
network namespaces. Times are seconds since some point in the past."""

import contextlib
import ctypes
import os
import pathlib
import platform
import signal
import subprocess
import time

from lab import LabError, run

SERVER_CPU, CLIENT_CPU = 0, 1
PR_SET_CHILD_SUBREAPER = 36
CGROUP = pathlib.Path("/sys/fs/cgroup")
SERVER, CLIENT = "192.0.2.10", "192.0.2.100"


class Group:
    """The processor time of all that runs in it, children that have ended included: a control group of its own."""

    def __init__(self, name):
        self.is_v2 = (CGROUP / "cgroup.controllers").exists()
        above = CGROUP if self.is_v2 else CGROUP / "cpuacct"
        self.path = above / f"hikyaku-{os.getpid()}-{name}"
        try:
            self.path.mkdir()
        except OSError as e:
            raise LabError(f"{self.path}: {e.strerror}: no control group to count processor time in") from e

    def enter(self, *command):
        """The command, which joins the group before it begins."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs"), *[str(c) for c in command]]

    def seconds(self):
        if self.is_v2:
            return int((self.path / "cpu.stat").read_text().split()[1]) / 1e6
        return int((self.path / "cpuacct.usage").read_text()) / 1e9

    def processes(self):
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    def close(self):
        """Ends what still runs in it, and waits for those whose parents have ended."""
        seen = set()
        for how in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(40):
                pids = self.processes()
                seen.update(pids)
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, how)
                if not pids:
                    for pid in seen:
                        with contextlib.suppress(ChildProcessError):
                            os.waitpid(pid, os.WNOHANG)
                    self.path.rmdir()
                    return
                time.sleep(0.05)


def adopt_orphans():
    """A daemon's processes become ours when it ends, not those of an init that may not wait for them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processor_times(cpu=SERVER_CPU):
    """Of a processor: how long it was busy with anything, and how long the hypervisor took it away."""
    ticks = os.sysconf("SC_CLK_TCK")
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{cpu}":
            user, nice, system, idle, iowait, irq, softirq, steal = (int(n) / ticks for n in words[1:9])
            return {"busy": user + nice + system + irq + softirq, "idle": idle + iowait, "softirq": irq + softirq, "stolen": steal}
    raise LabError(f"there is no processor {cpu}")


def softirq_thread(cpu=SERVER_CPU):
    """The kernel thread that finishes a processor's network work when there is much of it; 0: not seen."""
    for path in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().strip() == f"ksoftirqd/{cpu}":
                return int(path.parent.name)
    return 0


def thread_seconds(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0


@contextlib.contextmanager
def wire(server, client):
    """Two namespaces and a veth between them; each end's packets are received on the processor of that end's processes, as
    a card's would be that interrupts there. Without that the sender's processor does the receiver's work."""
    with contextlib.ExitStack() as stack:
        for ns in (server, client):
            run("ip", "netns", "add", ns)
            stack.callback(run, "ip", "netns", "del", ns, check=False)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        run("ip", "-n", server, "link", "add", "hkwire", "type", "veth", "peer", "name", "hkwire", "netns", client)
        for ns, address, cpu in ((server, SERVER, SERVER_CPU), (client, CLIENT, CLIENT_CPU)):
            run("ip", "-n", ns, "addr", "add", f"{address}/24", "dev", "hkwire")
            run("ip", "-n", ns, "link", "set", "hkwire", "up")
            run("ip", "netns", "exec", ns, "sh", "-c",
                f"echo {1 << cpu:x} > /sys/class/net/hkwire/queues/rx-0/rps_cpus && "
                "sysctl -q -w net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096 net.ipv4.ip_local_port_range='10000 65000' net.ipv4.tcp_tw_reuse=1")
        yield


def commit(checkout):
    """Asked before Debian 13 is entered, which has no git."""
    with contextlib.suppress(OSError):
        done = subprocess.run(["git", "-C", str(checkout), "describe", "--always", "--dirty"], capture_output=True, text=True)
        return done.stdout.strip() or "unknown"
    return "unknown"


def version_of(*packages):
    done = run("dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages, check=False)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def describe():
    """What a figure depends on and a reader elsewhere does not know."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    flags = [line for line in info.splitlines() if line.startswith("flags")][0].split()
    memory = pathlib.Path("/proc/meminfo").read_text().split("\n")[0].split()[1]
    return {"processors": len(model), "model": model[0], "avx512ifma": "avx512ifma" in flags, "memory_mb": int(memory) // 1024,
            "kernel": platform.release(), "load": os.getloadavg(), "commit": os.environ.get("HIKYAKU_COMMIT", "unknown"),
            "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "openssl": run("openssl", "version").stdout.split()[1],
            "versions": version_of("postfix", "libssl3t64", "libgnutls30t64", "libcrypto-mb11.15", "libdpdk-dev", "libjemalloc2")}
