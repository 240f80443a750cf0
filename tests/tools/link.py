# SPDX-License-Identifier: Apache-2.0
"""tests/tools/link.py: a link whose one end is the kernel's IP and whose other end is whatever has an interface there,
with tap_bridge between them; for tests and comparisons of our TCP with the kernel's."""

import contextlib
import json
import signal
import subprocess
import threading
import time


def run(*command, check=True):
    done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return done.stdout


def within(ns, *command):
    return ["ip", "netns", "exec", ns, *[str(c) for c in command]]


def sysctl(ns, **settings):
    """net.KEY = VALUE in the namespace, dots of the key written as two underscores."""
    run(*within(ns, "sysctl", "-q", "-w", *[f"net.{k.replace('__', '.')}={v}" for k, v in settings.items()]))


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("waited in vain for " + what)
        time.sleep(0.01)


@contextlib.contextmanager
def namespaces(*names):
    try:
        for ns in names:
            run("ip", "netns", "add", ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        yield
    finally:
        for ns in names:
            run("ip", "netns", "del", ns, check=False)


class Process:
    """A tool that says "ready" (or nothing) and prints JSON at its end."""

    def __init__(self, command, says_ready=True):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if says_ready and self.process.stdout.readline() != "ready\n":
            self.kill()
            raise RuntimeError("did not start: " + " ".join(map(str, command)))

    def wait(self, seconds):
        try:
            out, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        lines = [line for line in out.splitlines() if line.startswith("{")]
        if not lines:
            raise RuntimeError(f"no result, exit {self.process.returncode}")
        return json.loads(lines[-1])

    def result(self, seconds):
        """Of a tool that stays after it has printed it."""
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            timer.cancel()
        raise RuntimeError(f"no result, exit {self.process.wait()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait(120)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def patient(ns, interface):
    """What is tried is TCP, not the kernel's patience with ARP and NDP."""
    for ip in ("ipv4", "ipv6"):
        sysctl(ns, **{f"{ip}__neigh__{interface}__mcast_solicit": 20, f"{ip}__neigh__{interface}__retrans_time_ms": 300})


@contextlib.contextmanager
def bridge(tool, ns, before, behind, addresses, **options):
    """Carries frames between interface `before`, which may come and go, and `behind`, which it makes and which gets
    the kernel's addresses ("192.0.2.99/24"). Yields a dict that holds the bridge's counts after the end."""
    # The kernel sees both interfaces: it is to answer ARP on `behind` only, or what is for it goes past the bridge.
    sysctl(ns, ipv4__conf__all__arp_ignore=1)
    command = within(ns, tool, "--relay", before, "--router", behind,
                     *[a for k, v in options.items() for a in ("--" + k.replace("_", "-"), v)])
    with Process(command, says_ready=False) as process:
        wait_for(lambda: "UP" in run("ip", "-n", ns, "link", "show", behind, check=False), "the bridge's interface")
        for address in addresses:
            run("ip", "-n", ns, "addr", "add", address, "dev", behind, *(["nodad"] if ":" in address else []))
        patient(ns, behind)
        counts = {}
        yield counts
        counts.update(process.stop())


def kernel_counts(ns):
    """RetransSegs and the like, of a namespace."""
    text = run(*within(ns, "cat", "/proc/net/snmp", "/proc/net/netstat")).splitlines()
    found = {}
    for names, values in zip(text[::2], text[1::2]):
        found.update(zip(names.split()[1:], map(int, values.split()[1:])))
    return found
